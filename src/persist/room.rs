//! What whoever writes a journal does beside writing: it says how far that is on disk when nobody has anything to
//! write, and sees to it that there is room to go on.
//!
//! A block tells what was on disk before it. So the last one of an idle object would be told by nothing, and
//! could be damaged without being missed: who closes the object, keeps the role, or waits while nobody writes, writes one
//! more that holds nothing (the word `MARKED` says up to which flush that was done). A death in front of it
//! leaves what any flush leaves.

use super::journal::{Journal, Kept};
use super::reach::{Goal, Source};
use crate::error::JournalError;
use crate::ring::persister::{End, Writing};
use crate::sync::Ordering;

/// Writes down how far it is on disk, unless that is told: should the last block be found damaged, it is
/// known to have been whole. For whoever sees that nobody writes. Where the disk refuses, or
/// somebody else is at it, nothing is done. Blocks for a write.
pub fn mark<S: Source>(source: &S, journal: &Journal<S::Memo>) {
    let words = source.words();
    let (flush, turn) = (words.last_flush(), words.turn());
    if !words.is_unmarked() || source.is_gone() || !turn.goes_on() {
        return;
    }
    let Ok(Some(writing)) = words.begin_writing(source.me(), turn) else {
        return;
    };
    let end = match write_mark(source, journal, &writing) {
        Some(cursor) => {
            words.marked().fetch_max(flush, Ordering::Relaxed); // of the disk, not of memory
            End::At(cursor)
        }
        None => End::Anew,
    };
    words.end_writing(writing, end);
    words.wake_behind_flush();
}

/// Where it goes on behind a mark; `None` when the segment can't be written to any more.
fn write_mark<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    writing: &Writing,
) -> Option<(u64, u64)> {
    writing.cursor?;
    let words = source.words();
    words.note_step(false);
    let next = words.on_disk_below();
    let mut kept = journal.writer(writing, next, || source.is_gone()).ok()?;
    kept.writer.mark().ok()?;
    kept.writer.complete(true).ok()?;
    let cursor = kept.writer.cursor()?;
    journal.keep(kept);
    Some((cursor.segment, cursor.offset))
}

/// Chooses the segment that the next flush goes to: on a full disk, where little is left of the current one, a file that is
/// kept for that; and one for everything again when there is room. Of the kept ones nobody makes use as long as work is not
/// refused, and what has a position is asked for there in vain: it is written when there is room.
pub(super) fn choose_segment<S: Source>(
    source: &S,
    kept: &mut Kept<S::Memo>,
    goal: Goal,
) -> Result<(), JournalError> {
    let words = source.words();
    if kept.writer.is_in_reserve() {
        // Who waits for a flush looks for room behind it, as everybody does.
        if !words.is_frozen() || !matches!(goal, Goal::Flush(_)) {
            words.note_step(true);
            kept.writer.leave_reserve()?;
        }
    } else if words.is_frozen() && kept.writer.is_used_up() {
        kept.writer.begin_reserve()?;
    }
    Ok(())
}

/// Sees to it that there is a next segment where the current one is more than half full; why there is
/// none, when the disk is full and nothing that it holds could be given back.
pub(super) fn see_to_room<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    kept: &mut Kept<S::Memo>,
    durable: u64,
) -> Result<Option<JournalError>, JournalError> {
    let must_know = journal.is_nearly_full(kept);
    source.words().note_step(must_know);
    let full = match kept.writer.ready_next(must_know) {
        Err(full @ JournalError::NoSpace { .. }) => full,
        ready => return ready.map(|()| None),
    };
    let looked = source.look_after(journal, kept, durable, true);
    if kept.writer.is_frozen() {
        looked?;
    }
    match kept.writer.ready_next(true) {
        Ok(()) => Ok(None),
        Err(JournalError::NoSpace { .. }) => Ok(Some(full)),
        Err(error) => Err(error),
    }
}
