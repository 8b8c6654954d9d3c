//! What whoever writes a journal does beside writing: it says how far that is on disk when nobody has anything to
//! write, and sees to it that there is room to go on.
//!
//! A block tells what was on disk before it. So the last one of a queue that is idle would be told by nothing, and
//! could be damaged without being missed: who closes the queue, keeps the role, or waits while nobody writes, writes one
//! more that holds nothing (the word `MARKED` says up to which flush that was done). A death in front of it
//! leaves what any flush leaves.

use super::Inner;
use super::persist::{Journal, Kept};
use crate::error::JournalError;
use crate::ring::delivery::durable::{End, Writing};
use crate::sync::Ordering;

impl Inner {
    /// Whether nothing on the disk tells that the last flush was there.
    pub(super) fn is_unmarked(&self) -> bool {
        let words = self.delivery.durable();
        words.is_some_and(|words| words.marked().load(Ordering::Relaxed) < self.last_flush())
    }

    /// The last flush that is on disk.
    pub(super) fn last_flush(&self) -> u64 {
        let words = self.delivery.durable();
        words.map_or(0, |words| words.finished().load(Ordering::Relaxed)) // of the disk, not of memory
    }

    /// Writes down how far it is on disk, unless that is told: should the last block be found damaged, it is
    /// known to have been whole. For whoever sees that nobody writes. Where the disk refuses, or
    /// somebody else is at it, nothing is done.
    pub(super) fn mark(&self) {
        let Some((journal, words)) = self.journal.as_ref().zip(self.delivery.durable()) else {
            return;
        };
        let flush = self.last_flush();
        let turn = words.turn();
        if self.site.observed || !self.is_unmarked() || self.is_gone() || !turn.goes_on() {
            return;
        }
        let Ok(Some(writing)) = self.delivery.begin_writing(turn) else {
            return;
        };
        let end = match self.write_mark(journal, &writing) {
            Some(cursor) => {
                words.marked().fetch_max(flush, Ordering::Relaxed); // as last_flush
                End::At(cursor)
            }
            None => End::Anew,
        };
        self.delivery.end_writing(writing, end);
        self.delivery.wake_behind_flush();
    }

    /// Where it goes on behind a mark; `None` when the segment can't be written to any more.
    fn write_mark(&self, journal: &Journal, writing: &Writing) -> Option<(u64, u64)> {
        writing.cursor?;
        self.delivery.note_step(false);
        let next = self.delivery.on_disk_below();
        let mut kept = journal.writer(writing, next, || self.is_gone()).ok()?;
        kept.writer.mark().ok()?;
        kept.writer.complete(true).ok()?;
        let cursor = kept.writer.cursor()?;
        journal.keep(kept);
        Some((cursor.segment, cursor.offset))
    }

    /// Sees to it that there is a next segment where the current one is more than half full; why there is
    /// none, when the disk is full and nothing that it holds could be given back.
    pub(super) fn see_to_room(
        &self,
        journal: &Journal,
        kept: &mut Kept,
        durable: u64,
    ) -> Result<Option<JournalError>, JournalError> {
        let left = kept.writer.left_bytes();
        let must_know = left < journal.options.segment_bytes / 4;
        self.delivery.note_step(must_know);
        let full = match kept.writer.ready_next(must_know) {
            Err(full @ JournalError::NoSpace { .. }) => full,
            ready => return ready.map(|()| None),
        };
        let released = self.release_segments(journal, kept, durable, true);
        if kept.writer.is_frozen() {
            released?;
        }
        match kept.writer.ready_next(true) {
            Ok(()) => Ok(None),
            Err(JournalError::NoSpace { .. }) => Ok(Some(full)),
            Err(error) => Err(error),
        }
    }
}
