//! One open's side of a journal: where it lies, and the writer that wrote the last flush from here.

use crate::error::JournalError;
use crate::journal::{Cursor, DEFINITION_BYTES, Disk, Options, Pushed, Writer};
use crate::ring::persister::Writing;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module. `M` is what its object remembers from flush to flush.
pub struct Journal<M> {
    directory: PathBuf,
    object_id: u64,
    definition: Box<[u8; DEFINITION_BYTES]>,
    options: Options,
    /// What its directory says of whose it is; empty: nothing.
    label: Vec<u8>,
    disk: Mutex<Option<Arc<Disk>>>,
    pub(super) company: Company,
    /// The writer of the last flush from here, and what it knows.
    kept: Mutex<Option<Kept<M>>>,
}

/// Who waited for the last flush from here: hints for this handle itself.
#[derive(Default)]
pub(super) struct Company {
    /// How many.
    pub count: AtomicU32,
    /// How often a flush was asked for by then.
    pub asked: AtomicU32,
    /// How long the disk took for it, in ns.
    pub took_ns: AtomicU64,
}

/// A writer, and what its object remembers beside it. Another process may have written since.
pub struct Kept<M> {
    pub writer: Writer<Disk>,
    pub memo: M,
}

impl<M> Kept<M> {
    /// Epoch and segment that it writes to.
    pub fn segment(&self) -> (u64, u64) {
        let cursor = self.writer.watermark().cursor;
        (self.writer.epoch(), cursor.segment)
    }
}

impl<M: Default> Journal<M> {
    /// Of the object of that id, which is made again from `definition`.
    pub fn new(
        directory: PathBuf,
        object_id: u64,
        definition: Box<[u8; DEFINITION_BYTES]>,
        segment_bytes: u64,
    ) -> Self {
        Self {
            directory,
            object_id,
            definition,
            options: Options {
                segment_bytes,
                ..Options::default()
            },
            label: Vec::new(),
            disk: Mutex::new(None),
            company: Company::default(),
            kept: Mutex::new(None),
        }
    }

    /// In a directory that says whose it is.
    pub fn labelled(mut self, label: Vec<u8>) -> Self {
        self.label = label;
        self
    }

    /// With staging buffers of so many bytes instead of 1 MiB.
    pub fn with_buffers(mut self, buffer_bytes: usize) -> Self {
        self.options.buffer_bytes = buffer_bytes;
        self
    }

    /// With files of so many bytes kept for a full disk, so that what has no position can be written on one.
    pub fn with_reserve(mut self, reserve_bytes: u64) -> Self {
        self.options.reserve_bytes = reserve_bytes;
        self
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its directory, made and probed if there is none, whatever its path leads to later. `is_gone` says
    /// whether the object is.
    pub fn disk(&self, is_gone: impl Fn() -> bool) -> Result<Arc<Disk>, JournalError> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = &*disk {
            return Ok(Arc::clone(disk));
        }
        let opened = Arc::new(Disk::open_or_create(&self.directory)?);
        // Asked behind the opening: an object that is there has its own directory there.
        if is_gone() {
            let path = self.directory.clone();
            return Err(JournalError::NotFound { path });
        }
        if !self.label.is_empty() {
            // Nothing hangs on it but the removal of a bus; a full disk is told by what does.
            let _ = opened.set_label(&self.label);
        }
        *disk = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The writer of an epoch, where the one before stopped.
    pub(super) fn writer(
        &self,
        writing: &Writing,
        next: u64,
        is_gone: impl Fn() -> bool,
    ) -> Result<Kept<M>, JournalError> {
        // Not held while anything waits for the disk: a thread that is displaced keeps nobody out.
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (object, epoch) = (self.object_id, writing.epoch);
        let writer = match writing.cursor {
            None => {
                drop(kept);
                let (disk, definition) = (self.disk(is_gone)?, &self.definition);
                Writer::take_over(disk, self.options, object, epoch, next, definition)?
            }
            Some((segment, offset)) => {
                let cursor = Cursor { segment, offset };
                match kept.filter(|kept| kept.writer.epoch() == epoch) {
                    Some(mut kept) => {
                        kept.writer.seek(cursor, next)?;
                        return Ok(kept);
                    }
                    None => {
                        let disk = self.disk(is_gone)?;
                        Writer::resume(disk, self.options, object, epoch, cursor, next)?
                    }
                }
            }
        };
        Ok(Kept {
            writer,
            memo: M::default(),
        })
    }

    /// Whether the next flush may need a segment that there may not be room for.
    pub(super) fn is_nearly_full(&self, kept: &Kept<M>) -> bool {
        kept.writer.left_bytes() < self.options.segment_bytes / 4
    }

    /// Whether the next flush may need the next segment.
    pub(super) fn is_near_the_end(&self, kept: &Kept<M>) -> bool {
        let bytes = self.options.segment_bytes;
        kept.writer.watermark().cursor.offset > bytes - bytes / 8
    }

    /// In a forked child: the writer's threads and writes are the parent's.
    pub fn forget(&self) {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        core::mem::forget(kept);
    }

    pub(super) fn keep(&self, kept: Kept<M>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}

/// Pushes an entry, waiting for the disk where all buffers are under way.
pub fn push(
    writer: &mut Writer<Disk>,
    kind: u8,
    position: u64,
    parts: &[&[u8]],
) -> Result<(), JournalError> {
    while writer.push(kind, 0, position, parts)? == Pushed::Full {
        writer.complete_one()?;
    }
    Ok(())
}

/// The same for positions that hold nothing.
pub fn push_gap(writer: &mut Writer<Disk>, from: u64, to: u64) -> Result<(), JournalError> {
    while writer.gap(from, to)? == Pushed::Full {
        writer.complete_one()?;
    }
    Ok(())
}
