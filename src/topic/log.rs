//! The log of a topic's subscriptions: a file that is only ever appended to, by anybody.
//!
//! States of a record (docs/decisions/0027): 0 (none yet) → CLAIMED(owner, length) → COMMITTED; CLAIMED of
//! a dead owner → VOID. One CAS names owner and length, so whoever comes next finds the place behind
//! it. A reader steps over what is CLAIMED and looks at it again each time. Bytes are used once.
//!
//! A log has at least eight zero bytes behind its last record: the file is made longer before a claim that
//! would leave none. Then who reads needs no system call to see that nothing is new. Bytes of the file are
//! input: what is no record is counted and skipped, and a length of nothing ends the walk.

use crate::error::{OpenError, SubscribeError};
use crate::layout::topic::{
    LOG_BYTES, LOG_MAGIC, LogHeader, MAX_LOG_BYTES, MAX_RECORD, RECORD_HEAD, RECORD_SUBSCRIBE,
    RecordHead, RecordWord, counters,
};
use crate::layout::{
    FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, READY_OFFSET,
};
use crate::object::Site;
use crate::object::file::{check_preamble, read_header};
use crate::ring::Liveness;
use crate::shm::record::{self, Claimed, Settled};
use crate::shm::words;
use crate::sync::AtomicU64;
use crate::sync::Ordering;
use crate::sys::file::{self, CreateFailure};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, host};
use core::mem::offset_of;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One committed record.
pub(super) struct Entry<'a> {
    pub id: u64,
    pub kind: u32,
    pub json: &'a [u8],
    /// Where its counters lie, if it has any.
    pub counters: Option<usize>,
    /// When it was made again from a disk, in ms since boot, if it was.
    pub made_again_ms: Option<u64>,
}

/// An open log, and how far it was read.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    map: MapOptions,
    mapping: Mapping,
    /// Records in front of this were made again from a disk, and when.
    made_again: (u64, u64),
    next: usize,
    /// Records behind which it was read on, that were claimed and not committed.
    pending: Vec<usize>,
    /// Bytes of one record.
    record: Vec<u8>,
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Found {
    /// What was no record.
    pub damaged: u64,
}

/// The word at `at`; `None` behind what is mapped.
fn word(mapping: &Mapping, at: usize) -> Option<&AtomicU64> {
    (at + 8 <= mapping.len()).then(|| words::word64(mapping, at))
}

/// What the names of logs begin with.
pub(crate) const PREFIX: &str = ".subs-";

/// The log of the topic whose parts are called `part`.
pub(super) fn path(site: &Site, part: &str) -> PathBuf {
    site.directory.join(format!("{PREFIX}{part}"))
}

/// Makes the log of a topic, if there is none.
pub(super) fn create(site: &Site, path: &Path, topic: u64) -> Result<(), OpenError> {
    create_with(site, path, topic, |_| Ok(()))
}

/// Bytes of a record, if it may be as long.
pub(super) fn record_bytes(kind: u32, json: &[u8]) -> Result<usize, SubscribeError> {
    let room = match kind {
        RECORD_SUBSCRIBE => 8 * counters::WORDS,
        _ => 0,
    };
    let bytes = RECORD_HEAD + json.len().next_multiple_of(8) + room;
    match bytes > MAX_RECORD {
        true => Err(SubscribeError::TooLarge {
            bytes,
            max: MAX_RECORD,
        }),
        false => Ok(bytes),
    }
}

/// The same with what `fill` appends, before anybody sees it.
pub(super) fn create_with(
    site: &Site,
    path: &Path,
    topic: u64,
    fill: impl FnOnce(&mut Log) -> Result<(), SubscribeError>,
) -> Result<(), OpenError> {
    let temporary = format!("{}{:016x}", site.temporary_prefix, host::random_u64());
    let temporary = site.directory.join(temporary);
    let file = file::create_temporary(&temporary, LOG_BYTES, site.access);
    let file = file.map_err(|failure| open_error(path, failure))?;
    let made = Mapping::new(&file, MapOptions::default()).map(|mapping| {
        let header = LogHeader {
            preamble: Preamble {
                magic: LOG_MAGIC,
                major: FORMAT_MAJOR,
                minor: FORMAT_MINOR,
                ready: 0,
                features: FEATURES_REQUIRED,
                bus_id: site.bus_id,
                boot_id: site.boot_id,
                object_id: host::random_u64() | 1,
                created_ms: clock::unix_ms(),
            },
            topic,
            made_again_bytes: 0,
            made_again_ms: 0,
            reserved: [0; PAGE - 64 - 24],
        };
        words::write_header(&mapping, &header);
        words::word32(&mapping, READY_OFFSET).store(READY, Ordering::Release);
    });
    let made = made.map_err(|error| OpenError::io(path, error));
    let filled = made.and_then(|()| {
        let mut log = Log::open(site, temporary.clone(), topic)?;
        fill(&mut log).map_err(|error| match error {
            SubscribeError::Open(error) => error,
            _ => OpenError::Scribbled {
                path: path.to_owned(),
                what: "a subscription on disk is too long",
            },
        })?;
        file::publish(&temporary, path).map_err(|error| OpenError::io(path, error))
    });
    if filled.is_err() {
        let _ = file::remove(&temporary);
    }
    match filled {
        Err(OpenError::AlreadyExists { .. }) => Ok(()),
        other => other,
    }
}

pub(super) fn open_error(path: &Path, failure: CreateFailure) -> OpenError {
    match failure {
        CreateFailure::NoSpace(room) => OpenError::NoSpace {
            path: path.to_owned(),
            needed: room.needed,
            available: room.available,
        },
        CreateFailure::Io(error) => OpenError::io(path, error),
    }
}

impl Log {
    pub fn open(site: &Site, path: PathBuf, topic: u64) -> Result<Self, OpenError> {
        let at = |error| OpenError::io(&path, error);
        let file = site.open(&path).map_err(at)?;
        let header: LogHeader = read_header(&file).map_err(at)?;
        check_preamble(&header.preamble, LOG_MAGIC, "topic log", &path)?;
        if header.topic != topic {
            let what = "it is of another topic";
            return Err(OpenError::Scribbled { path, what });
        }
        let map = site.map_options();
        let mapping = Mapping::new(&file, map).map_err(at)?;
        Ok(Self {
            file,
            path,
            map,
            mapping,
            made_again: (header.made_again_bytes, header.made_again_ms),
            next: PAGE,
            pending: Vec::new(),
            record: Vec::new(),
        })
    }

    /// The word at which a record begins or would begin; `None` behind what is mapped.
    fn word(&self, at: usize) -> Option<RecordWord> {
        word(&self.mapping, at).map(record::look)
    }

    /// Whether something was appended behind what was read, or is still to be committed.
    #[inline]
    pub fn has_news(&self) -> bool {
        !self.pending.is_empty() || self.word(self.next).is_none_or(|word| word.0 != 0)
    }

    /// Whether records behind which it was read on are still to be committed.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands every record that was committed since to `each`, in the order of the log but for those that
    /// took longer.
    pub fn read(
        &mut self,
        liveness: &dyn Liveness,
        mut each: impl FnMut(Entry<'_>),
    ) -> Result<Found, OpenError> {
        let mut found = Found::default();
        let mut pending = core::mem::take(&mut self.pending);
        pending.retain(|at| {
            let word = self.word(*at).unwrap_or(RecordWord(0));
            self.settle(*at, word, liveness, &mut each, &mut found)
        });
        loop {
            let Some(word) = self.word(self.next) else {
                if !self.follow()? {
                    break;
                }
                continue;
            };
            if word.0 == 0 {
                break;
            }
            let end = self.next + word.bytes();
            if !record::has_length(word) {
                found.damaged += 1;
                break;
            }
            if end > self.mapping.len() {
                if !self.follow()? {
                    found.damaged += 1;
                    break;
                }
                continue;
            }
            let at = self.next;
            if self.settle(at, word, liveness, &mut each, &mut found) {
                pending.push(at);
            }
            self.next = end;
        }
        self.pending = pending;
        Ok(found)
    }

    /// Reads one record. Whether it has to be looked at again.
    fn settle(
        &mut self,
        at: usize,
        word: RecordWord,
        liveness: &dyn Liveness,
        each: &mut impl FnMut(Entry<'_>),
        found: &mut Found,
    ) -> bool {
        let slot = words::word64(&self.mapping, at);
        match record::settle(slot, word, |owner| liveness.is_dead(owner)) {
            Settled::Committed => {
                if !self.read_record(at, word, each) {
                    found.damaged += 1;
                }
                false
            }
            Settled::Pending => true,
            Settled::Void => false,
            Settled::Damaged => {
                found.damaged += 1;
                false
            }
        }
    }

    fn read_record(
        &mut self,
        at: usize,
        word: RecordWord,
        each: &mut impl FnMut(Entry<'_>),
    ) -> bool {
        let bytes = word.bytes();
        if !record::has_length(word) || at + bytes > self.mapping.len() {
            return false;
        }
        self.record.resize(bytes - 8, 0);
        words::read_bytes(&self.mapping, at + 8, &mut self.record);
        let (head, json) = self.record.split_at(size_of::<RecordHead>());
        let head: RecordHead = bytemuck::pod_read_unaligned(head);
        let Some(json) = json.get(..head.bytes as usize) else {
            return false;
        };
        let behind = at + RECORD_HEAD + json.len().next_multiple_of(8);
        let has_counters = behind + 8 * counters::WORDS <= at + bytes;
        each(Entry {
            id: head.id,
            kind: head.kind,
            json,
            counters: has_counters.then_some(behind),
            made_again_ms: ((at as u64) < self.made_again.0).then_some(self.made_again.1),
        });
        true
    }

    /// A counter of the record whose counters lie at `at`.
    pub fn counter(&self, at: usize, which: usize) -> Option<&AtomicU64> {
        let at = at + 8 * which;
        (at + 8 <= self.mapping.len()).then(|| words::word64(&self.mapping, at))
    }

    /// Maps what the file has become longer by. Whether it has.
    fn follow(&mut self) -> Result<bool, OpenError> {
        let at = |error| OpenError::io(&self.path, error);
        let mapping = Mapping::new(&self.file, self.map).map_err(at)?;
        let is_longer = mapping.len() > self.mapping.len();
        if is_longer {
            self.mapping = mapping;
        }
        Ok(is_longer)
    }

    /// Says that all its records were made again from a disk, now. Before anybody sees it.
    pub fn note_made_again(&self) {
        let mut end = PAGE;
        while let Some(word) = self.word(end).filter(|word| record::has_length(*word)) {
            end += word.bytes();
        }
        for (offset, value) in [
            (offset_of!(LogHeader, made_again_bytes), end as u64),
            (offset_of!(LogHeader, made_again_ms), clock::boot_ms()),
        ] {
            words::word64(&self.mapping, offset).store(value, Ordering::Relaxed); // nobody sees it yet
        }
    }

    /// Appends a record as participant `me`. Never waits for anybody.
    pub fn append(
        &mut self,
        me: u16,
        id: u64,
        kind: u32,
        json: &[u8],
    ) -> Result<(), SubscribeError> {
        let bytes = record_bytes(kind, json)?;
        let claimed = RecordWord::new(RecordWord::CLAIMED, me, (bytes / 8) as u32);
        let mut content = vec![0; bytes - 8];
        let head = RecordHead {
            id,
            kind,
            bytes: json.len() as u32,
        };
        content[..size_of::<RecordHead>()].copy_from_slice(bytemuck::bytes_of(&head));
        content[size_of::<RecordHead>()..][..json.len()].copy_from_slice(json);
        loop {
            match record::claim(|at| word(&self.mapping, at), self.next, claimed) {
                Claimed::NoRoom(at) => self.extend(at + bytes + 8)?,
                Claimed::Corrupt(at) => return Err(SubscribeError::Corrupt { at }),
                Claimed::At(at) => {
                    words::write_bytes(&self.mapping, at + 8, &content);
                    let slot = words::word64(&self.mapping, at);
                    // Where somebody took us for dead: append anew.
                    if record::commit(slot, claimed) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn extend(&mut self, least: usize) -> Result<(), OpenError> {
        if self.follow()? {
            return Ok(());
        }
        let wanted = (self.mapping.len() as u64 * 2).max(least.next_multiple_of(PAGE) as u64);
        let wanted = wanted.min(MAX_LOG_BYTES);
        let extended = file::allocate(&self.file, 0, wanted);
        extended.map_err(|failure| open_error(&self.path, failure))?;
        match self.follow()? {
            true => Ok(()),
            false => Err(OpenError::Unsupported {
                path: self.path.clone(),
                what: "the log of subscriptions can't grow",
            }),
        }
    }
}
