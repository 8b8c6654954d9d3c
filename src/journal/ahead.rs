//! The next segment, made while the current one fills.
//!
//! A thread of its own makes it, if the writer was told that it may have one; where no spare was left, it also
//! makes spares up to the wanted number. Where segments are released as fast as they fill, they are spares
//! again and no zeros are written. Without a thread the same happens when the segment is needed.

use super::error::JournalError;
use super::segment::{self, Plan};
use super::storage::Storage;
use crate::layout::journal::STATE_ALONE;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A segment on its way.
pub(super) struct Ahead<S: Storage> {
    index: u64,
    thread: JoinHandle<Result<Made<S::File>, JournalError>>,
}

/// A segment that is there, by whoever made it.
pub(super) struct Made<F> {
    pub file: F,
    /// No entry has a position below.
    pub start: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Whether it is for state alone.
    pub is_reserve: bool,
}

impl<S: Storage> Ahead<S> {
    /// Begins; `None` where the system gives no thread.
    pub fn begin(
        storage: &Arc<S>,
        plan: &Plan,
        index: u64,
        start: u64,
        spares: usize,
    ) -> Option<Self> {
        let (storage, plan) = (Arc::clone(storage), plan.clone());
        let thread = std::thread::Builder::new()
            .name("ringway-segment".into())
            .spawn(move || {
                // Where segments come back as spares, none has to be made.
                let had_spare = segment::has_spare(&*storage);
                let made = open_or_make(&*storage, &plan, index, start);
                if !had_spare {
                    // One that can't be made is missed when it is needed, by an error of its own.
                    let _ = segment::stock(&*storage, &plan, spares);
                }
                made
            })
            .ok()?;
        Some(Self { index, thread })
    }

    /// Whether it is made, or could not be.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Its segment, if it is that one. Blocks until it is made.
    pub fn finish(self, index: u64) -> Option<Result<Made<S::File>, JournalError>> {
        let made = self.thread.join().ok()?;
        (self.index == index).then_some(made)
    }
}

/// Segment `index` of the plan's epoch, which another process of the same epoch may have made ahead.
pub(super) fn open_or_make<S: Storage>(
    storage: &S,
    plan: &Plan,
    index: u64,
    start: u64,
) -> Result<Made<S::File>, JournalError> {
    match segment::make(storage, plan, index, start) {
        Err(JournalError::EpochTaken { .. }) => {
            let id = plan.id(index);
            let name = id.name();
            let file = storage
                .open(&name, true)
                .map_err(|error| super::failed(storage, &name, "opening", error))?;
            let (header, _) = segment::read_head(storage, id, Some(plan.object), &file)?;
            Ok(Made {
                file,
                start: header.start,
                bytes: header.file_bytes,
                is_reserve: header.holds == STATE_ALONE,
            })
        }
        other => Ok(Made {
            file: other?,
            start,
            bytes: plan.segment_bytes,
            is_reserve: false,
        }),
    }
}
