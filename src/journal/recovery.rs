//! What all writers of a journal left, read in order; and what is missing from it, told.
//!
//! Epoch by epoch, segment by segment, block by block, each checked at its place. An epoch ends before the
//! first block that is not whole, or that goes beyond the cut at which a later epoch began. Whether something
//! is missing there is told by evidence of what had been durable:
//!
//! - the watermark in any later block of the epoch, wherever it is found;
//! - the cut of a later epoch: everything below was durable when that one began;
//! - a footer, and the end of a segment that the first block of the next one names;
//! - the block itself, if one flipped bit is all that is wrong with it.
//!
//! With such evidence it is damage: an error that names file and bytes, or with `salvage` a [`Damage`]
//! in the outcome, and reading goes on behind it. Without, it is a torn tail that was never acknowledged.
//! Nothing is ever deleted. Reading twice gives the same twice: with `seal` the ends that were found are
//! written into the segments' footers, for whatever a writer that is presumed dead still does.
//!
//! A segment that is sealed, and that the caller does not need, costs two reads.

mod walk;
mod window;

use super::error::JournalError;
use super::failed;
use super::segment::{self, SegmentId};
use super::storage::{SegmentFile, Storage};
use crate::layout::PAGE;
use crate::layout::journal::DEFINITION_BYTES;
use crate::sys::disk::Pages;
use std::path::PathBuf;
use std::sync::Arc;
use walk::{Seal, Walk};
use window::Window;

/// A segment, by its first page and its footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub id: SegmentId,
    pub object: u64,
    /// No entry has a position below.
    pub start: u64,
    /// Where its epoch began.
    pub cut: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Where its blocks end and the position after its last, if it is sealed.
    pub sealed: Option<(u64, u64)>,
    /// Unix time.
    pub created_ms: u64,
}

/// An entry, as it was pushed.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it was found.
    pub segment: SegmentId,
    /// 0 is a gap: positions up to the u64 in `bytes` are skipped.
    pub kind: u8,
    pub flags: u8,
    pub position: u64,
    pub bytes: &'a [u8],
}

/// Bytes that were durable, and are not what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub from: u64,
    pub to: u64,
    pub what: &'static str,
}

impl Damage {
    fn error(self) -> JournalError {
        JournalError::Damaged {
            path: self.path,
            from: self.from,
            to: self.to,
            what: self.what,
        }
    }
}

/// How to read.
pub struct Reading<'a> {
    /// Go on behind damage, and list it.
    pub salvage: bool,
    /// Write down where each epoch ended. For whoever takes over, while nobody leads.
    pub seal: bool,
    /// Whether the entries of a sealed segment are wanted; those of others always come.
    pub needed: &'a dyn Fn(&SegmentInfo) -> bool,
    /// Told bytes read, and bytes to read in all, from time to time.
    pub progress: &'a dyn Fn(u64, u64),
}

impl Default for Reading<'_> {
    /// Everything, refusing damage, leaving no trace.
    fn default() -> Self {
        Self {
            salvage: false,
            seal: false,
            needed: &|_| true,
            progress: &|_, _| {},
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The position after the last.
    pub next: u64,
    /// The highest epoch; whoever takes over needs a higher one.
    pub epoch: u64,
    /// What is missing. Empty unless salvaging.
    pub damage: Vec<Damage>,
    pub entries: u64,
    pub blocks: u64,
    /// Bytes of blocks that were read.
    pub block_bytes: u64,
    /// Where each epoch that was not sealed ended: segment and offset.
    pub ends: Vec<(SegmentId, u64)>,
}

/// A journal that is open for reading.
pub struct Recovery<S: Storage> {
    storage: Arc<S>,
    segments: Vec<SegmentInfo>,
    definition: Box<[u8; DEFINITION_BYTES]>,
    unreadable: Vec<Damage>,
}

/// A segment, and its definition.
type Looked = (SegmentInfo, Box<[u8; DEFINITION_BYTES]>);

impl<S: Storage> Recovery<S> {
    /// Looks at the segments of a directory, of that object if one is given. Blocks for two reads each.
    /// With `salvage`, segments whose header is damaged are left out, and listed by [`read`](Self::read).
    pub fn open(storage: Arc<S>, object: Option<u64>, salvage: bool) -> Result<Self, JournalError> {
        let mut segments = Vec::new();
        let mut newest = None;
        let mut unreadable = Vec::new();
        let mut expected = object;
        for id in segment::list(&*storage)? {
            match Self::look(&storage, id, expected) {
                Ok((found, definition)) => {
                    expected = Some(found.object);
                    segments.push(found);
                    newest = Some(definition);
                }
                Err(JournalError::Damaged {
                    path,
                    from,
                    to,
                    what,
                }) if salvage => unreadable.push(Damage {
                    path,
                    from,
                    to,
                    what,
                }),
                Err(error) => return Err(error),
            }
        }
        match newest {
            Some(definition) => Ok(Self {
                storage,
                segments,
                definition,
                unreadable,
            }),
            None => Err(match unreadable.into_iter().next() {
                Some(damage) => damage.error(),
                None => JournalError::NotFound {
                    path: storage.path(""),
                },
            }),
        }
    }

    fn look(storage: &Arc<S>, id: SegmentId, object: Option<u64>) -> Result<Looked, JournalError> {
        let name = id.name();
        let opened = storage.open(&name, false);
        let file = opened.map_err(|error| failed(&**storage, &name, "opening", error))?;
        // Bytes that only the page cache has would be taken for durable.
        file.sync()
            .map_err(|error| failed(&**storage, &name, "syncing", error))?;
        let (header, definition) = segment::read_head(&**storage, id, object, &file)?;
        let footer = segment::read_footer(&header, &file)
            .map_err(|error| failed(&**storage, &name, "reading a footer", error))?;
        let info = SegmentInfo {
            id,
            object: header.object,
            start: header.start,
            cut: header.cut,
            file_bytes: header.file_bytes,
            sealed: footer.map(|footer| (footer.end, footer.next)),
            created_ms: header.created_ms,
        };
        Ok((info, definition))
    }

    /// Brings `known` up to what the directory of that object has: those that are gone leave it, and only those that
    /// are new, or were not sealed yet, are looked at. For whoever writes, and asks again and again. Blocks for two
    /// reads of each of these.
    pub fn look_again(
        storage: &Arc<S>,
        object: u64,
        known: &mut Vec<SegmentInfo>,
    ) -> Result<(), JournalError> {
        let mut before = core::mem::take(known).into_iter().peekable();
        for id in segment::list(&**storage)? {
            while before.next_if(|info| info.id < id).is_some() {}
            // Nobody writes to one that is sealed.
            let sealed = before.next_if(|info| info.id == id && info.sealed.is_some());
            known.push(match sealed {
                Some(info) => info,
                None => Self::look(storage, id, Some(object))?.0,
            });
        }
        Ok(())
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.iter()
    }

    /// What the last writer said the object is made from.
    pub fn definition(&self) -> &[u8; DEFINITION_BYTES] {
        &self.definition
    }

    /// The object.
    pub fn object(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.object)
    }

    /// The highest epoch.
    pub fn epoch(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.id.epoch)
    }

    /// Gives every entry that counts to `each`, in order: by epoch, and as they were pushed. Blocks for
    /// the disk. An error of `each` ends it. Entries that came before an error counted by themselves.
    pub fn read<E: From<JournalError>>(
        &self,
        reading: &Reading<'_>,
        mut each: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<Recovered, E> {
        let longest = self.segments().map(|segment| segment.file_bytes).max();
        let window = Window::new(longest.unwrap_or(0))
            .map_err(|error| failed(&*self.storage, "", "reserving memory", error))?;
        let mut walk = Walk {
            storage: &*self.storage,
            reading,
            window,
            joined: None,
            found: Recovered {
                damage: self.unreadable.clone(),
                ..Recovered::default()
            },
            each: &mut each,
            read: 0,
            to_read: self.to_read(reading),
            seals: Vec::new(),
        };
        let mut rest = &self.segments[..];
        while let Some(first) = rest.first() {
            let epoch = first.id.epoch;
            let count = rest.iter().take_while(|s| s.id.epoch == epoch).count();
            let (own, later) = rest.split_at(count);
            // No epoch begins before an earlier one, and none goes before an earlier one.
            walk.epoch(own, later.first().map(|later| later.cut))?;
            rest = later;
        }
        let (found, seals) = (walk.found, walk.seals);
        if reading.seal && found.damage.is_empty() {
            self.seal(&seals)?;
        }
        Ok(found)
    }

    fn to_read(&self, reading: &Reading<'_>) -> u64 {
        let bytes = self.segments.iter().map(|segment| match segment.sealed {
            Some((end, _)) if (reading.needed)(segment) => end,
            Some(_) => 0,
            None => segment.file_bytes,
        });
        bytes.sum()
    }

    fn seal(&self, seals: &[Seal]) -> Result<(), JournalError> {
        let mut page = Pages::new(PAGE)
            .map_err(|error| failed(&*self.storage, "", "reserving memory", error))?;
        // The last first: behind a sealed segment, one that is not would be taken to go on.
        for seal in seals.iter().rev() {
            let name = seal.id.name();
            let at = seal.file_bytes - PAGE as u64;
            segment::fill_footer(
                &mut page,
                self.object(),
                seal.id,
                seal.end,
                seal.start..seal.next.max(seal.start),
            );
            let written = self
                .storage
                .open(&name, true)
                .and_then(|file| file.write_at(at, &page))
                .map_err(|error| failed(&*self.storage, &name, "writing a footer", error))?;
            if written != PAGE {
                return Err(JournalError::ShortWrite {
                    path: self.storage.path(&name),
                    offset: at,
                    wanted: PAGE,
                    written,
                });
            }
        }
        Ok(())
    }
}
