//! Giving segments of a journal back.
//!
//! A segment is needed as long as a message in it is not consumed, or the id of one still counts. Segments
//! are given back from the oldest on, none before one that is older: what is consumed in one of them is
//! said in it or in a later one, and an epoch ends where a later one says. So nothing that was consumed
//! comes back because the segment that said so is gone.
//!
//! A message that nobody deletes would hold all segments behind it. So where there are many, what is
//! left in the older half of them is written again, into the newest, and they are given back; unless what
//! is left there takes more than a quarter of them, as large bodies may.

use super::Inner;
use super::persist::{Journal, Kept, push};
use crate::error::JournalError;
use crate::journal::{Recovery, SegmentId, SegmentInfo};
use crate::layout::durable::ENTRY_AGAIN;
use crate::sync::Ordering;
use crate::sys::clock;

/// Segments from which on what is left in the older half of them is written again.
const MANY: usize = 8;

impl Inner {
    /// Gives segments back, if a new one has begun and says what the settings are. By whoever writes,
    /// behind a flush up to `durable`.
    pub(super) fn release_segments(
        &self,
        journal: &Journal,
        kept: &mut Kept,
        durable: u64,
    ) -> Result<(), JournalError> {
        let at = kept.segment();
        let words = self.delivery.durable();
        // A hint of who was refused: he asks again.
        let looks_again =
            words.is_some_and(|words| words.look_again().swap(0, Ordering::Relaxed) != 0);
        if (at == kept.released_at && !looks_again) || at != kept.settings_at {
            return Ok(());
        }
        kept.released_at = at;
        let recovery = Recovery::open(journal.disk()?, Some(self.object_id), false)?;
        let segments: Vec<SegmentInfo> = recovery.segments().cloned().collect();
        drop(recovery);
        let older = segments
            .iter()
            .take_while(|segment| (segment.id.epoch, segment.id.index) < at)
            .count();
        let mut oldest = durable;
        self.delivery
            .each(|standing| oldest = oldest.min(standing.position));
        let half = end_of(&segments, older / 2, durable);
        let room = segments.iter().take(older / 2).map(|it| it.file_bytes);
        if older >= MANY && half > oldest && self.bytes_below(half) <= room.sum::<u64>() / 4 {
            oldest = half;
            self.write_again(kept, oldest)?;
        }
        let window_ms = self.delivery.dedup().map_or(0, |dedup| dedup.window_ms());
        let now_ms = clock::unix_ms();
        let done: Vec<SegmentId> = (0..older)
            .take_while(|place| {
                // The next one may have been made while this one was half full; the one behind it was
                // made when this one was over.
                let closed_ms = segments
                    .get(place + 2)
                    .map_or(now_ms, |later| later.created_ms);
                end_of(&segments, *place, durable) <= oldest
                    && closed_ms.saturating_add(window_ms) <= now_ms
            })
            .map(|place| segments[place].id)
            .collect();
        if !done.is_empty() {
            kept.writer.release(&done)?;
        }
        let left = segments.iter().filter(|it| !done.contains(&it.id));
        let bytes = left.map(|it| it.file_bytes).sum();
        if let Some(words) = words {
            words.journal_bytes().store(bytes, Ordering::Relaxed); // one writes
        }
        Ok(())
    }

    /// Bytes of what is left below `below`.
    fn bytes_below(&self, below: u64) -> u64 {
        let mut bytes = 0;
        self.delivery.each(|standing| {
            if standing.position < below
                && let Ok(Some(body)) = self.body(&standing)
            {
                bytes += body.whole() as u64;
            }
        });
        bytes
    }

    /// Writes what is left below `below` once more.
    fn write_again(&self, kept: &mut Kept, below: u64) -> Result<(), JournalError> {
        let mut left = Vec::new();
        self.delivery.each(|standing| {
            if standing.position < below {
                left.push(standing.position);
            }
        });
        for position in left {
            let standing = self.delivery.examine(position);
            let Some(standing) = standing.filter(|standing| standing.position == position) else {
                continue; // consumed meanwhile
            };
            let Some((head, len)) = self.copy_message(kept, &standing)? else {
                continue;
            };
            let parts = [bytemuck::bytes_of(&head), &kept.body[..len]];
            push(&mut kept.writer, ENTRY_AGAIN, position, &parts)?;
            for (kind, position, value) in self.state_of(&standing) {
                push(&mut kept.writer, kind, position, &[&value.to_le_bytes()])?;
            }
            self.delivery.note_step(true);
        }
        kept.writer.submit()?;
        kept.writer.complete(true)?;
        Ok(())
    }
}

/// No position in the segment at `place` is at or above this.
fn end_of(segments: &[SegmentInfo], place: usize, durable: u64) -> u64 {
    let segment = &segments[place];
    let later = segments[place + 1..].iter();
    // What it has at or above the cut of a later epoch does not count.
    let cut = later
        .filter(|later| later.id.epoch > segment.id.epoch)
        .map(|later| later.cut)
        .min();
    let sealed = segment.sealed.map(|(_, next)| next);
    match (sealed, cut) {
        (Some(next), Some(cut)) => next.min(cut),
        (Some(end), None) | (None, Some(end)) => end,
        (None, None) => durable,
    }
}
