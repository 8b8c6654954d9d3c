//! Giving segments of a journal back.
//!
//! A segment is needed as long as a message in it is not consumed, or the id of one still counts. Segments
//! are given back from the oldest on, none before one that is older: what is consumed in one of them is
//! said in it or in a later one, and an epoch ends where a later one says. So nothing that was consumed
//! comes back because the segment that said so is gone.
//!
//! A message that nobody deletes would hold all segments behind it, and the window of the ids of a FIFO queue
//! holds what was written in it, which is a segment for each writer that died. So where there are many, what
//! counts of the older half of them is written again, messages and ids, into the newest, and they are given back;
//! unless that takes more than a quarter of them, as large bodies may.
//!
//! So a full disk frees itself: where no next segment can be made, what counts of all segments before the current one
//! is written into what is left of that, and they become the next one, or room for it. While there is not room
//! enough for that, sends are refused, and what is left is for deletes, each of which makes what counts smaller. They end
//! in files that are kept for them (`journal::writer`), in which nothing is written again; what is left then goes into
//! one of these, as soon as it fits.

use super::Inner;
use super::chain::Link;
use super::persist::{Kept, Memo, SEGMENT_BYTES};
use crate::error::JournalError;
use crate::journal::{Recovery, SegmentInfo};
use crate::layout::durable::{ENTRY_AGAIN, ENTRY_ID, SentId};
use crate::persist::{Journal, push};
use crate::sync::Ordering;
use crate::sys::clock;

/// Segments from which on what counts in the older half of them is written again.
const MANY: usize = 8;
/// Of what the older half takes, this part at most is written again.
const WORTH_IT: u64 = 4;
/// The most that is written again at a time.
pub(super) const MOST_AGAIN_BYTES: u64 = (MANY as u64 + 1) * *SEGMENT_BYTES.end() / WORTH_IT;
/// Bytes of an id that is written again, its head included.
const ID_BYTES: u64 = 40;
/// Bytes of a message that is written again, beside those of its slot.
const BESIDE: u64 = 128;
/// Of a segment on a full disk, what is not taken by what is written again.
const SLACK: u64 = 64 << 10;
/// Slots that are all looked at behind each delete on a full disk; of more, behind one in so many.
const MANY_SLOTS: u64 = 1 << 16;
/// See [`MANY_SLOTS`].
const LOOK_EVERY: u32 = 64;
/// Ids between two steps that are told to those who wait.
const STEP_IDS: usize = 1024;

impl Inner {
    /// Gives segments back, if a new one has begun and says what the settings are, or if the disk `is_full`:
    /// then all before the current one, if there is room in that for what counts of them. By whoever
    /// writes, behind a flush up to `durable`.
    pub(super) fn release_segments(
        &self,
        journal: &Journal<Memo>,
        kept: &mut Kept,
        durable: u64,
        is_full: bool,
    ) -> Result<(), JournalError> {
        if is_full && kept.writer.is_in_reserve() {
            if self.fits_into_reserve(kept, durable) && kept.writer.begin_short()? {
                return Ok(()); // what is said again goes in front
            }
            if self.oldest_left() < kept.memo.kept_until {
                return Ok(()); // which is in the oldest segment
            }
        }
        let at = kept.segment();
        let words = self.delivery.durable();
        // A hint of who was refused: he asks again.
        let looks_again =
            words.is_some_and(|words| words.look_again().swap(0, Ordering::Relaxed) != 0);
        let is_asked_to = looks_again || is_full;
        if (at == kept.memo.released_at && !is_asked_to) || at != kept.memo.settings_at {
            return Ok(());
        }
        kept.memo.released_at = at;
        self.note_step(true); // every slot of a ring may be looked at, which is not a matter of milliseconds
        let disk = journal.disk(|| self.is_gone())?;
        let mut segments = core::mem::take(&mut kept.memo.segments);
        Recovery::look_again(&disk, self.object_id, &mut segments)?;
        let older = segments
            .iter()
            .take_while(|segment| (segment.id.epoch, segment.id.index) < at)
            .count();
        let mut oldest = self.oldest_left().min(durable);
        let (now_ms, window_ms) = (clock::unix_ms(), self.window_ms());
        // The next one may have been made while this one was half full; the one behind it was made when
        // this one was over.
        let is_in_window = |place: usize| {
            let later = segments.get(place + 2);
            let closed_ms = later.map_or(now_ms, |later| later.created_ms);
            closed_ms.saturating_add(window_ms) > now_ms
        };
        let mut without_ids = 0;
        let last = match (older, is_full) {
            _ if kept.writer.is_in_reserve() => None,
            (1.., true) => Some(older - 1),
            // Of those that a backlog fills no more than so many, or each new one would look at all.
            (MANY.., false) => Some((older / 2).min(MANY)),
            _ => None,
        };
        if let Some(last) = last {
            let end = end_of(&segments, last, durable);
            let has_ids = is_in_window(last);
            let ids = if has_ids {
                self.ids_below(end)
            } else {
                Vec::new()
            };
            let freed: u64 = segments[..=last].iter().map(|it| it.file_bytes).sum();
            let left = kept.writer.left_bytes().saturating_sub(SLACK);
            let bytes = ID_BYTES * ids.len() as u64;
            let is_worth_it = match is_full {
                true => left
                    .checked_sub(bytes)
                    .is_some_and(|most| self.is_less_below(end, most)),
                false => 2 * bytes <= freed && self.is_less_below(end, freed / WORTH_IT),
            };
            if is_worth_it && (has_ids || end > oldest) {
                self.write_ids_again(kept, &ids)?;
                self.write_again(kept, end)?;
                oldest = oldest.max(end);
                without_ids = last + 1;
            }
        }
        let done = (0..older).take_while(|place| {
            let has_ids = *place >= without_ids && is_in_window(*place);
            end_of(&segments, *place, durable) <= oldest && !has_ids
        });
        let done: Vec<_> = done.map(|place| segments[place].id).collect();
        if !done.is_empty() {
            kept.writer.release(&done)?;
        }
        let left = segments.iter().filter(|it| !done.contains(&it.id));
        kept.memo.kept_until = match segments.get(done.len()) {
            Some(_) => end_of(&segments, done.len(), durable).min(durable),
            None => 0,
        };
        let bytes = left.map(|it| it.file_bytes).sum();
        if let Some(words) = words {
            words.journal_bytes().store(bytes, Ordering::Relaxed); // one writes
        }
        kept.memo.segments = segments;
        Ok(())
    }

    /// Whether all that counts fits into a quarter of a file that is kept for a full disk. Where there are many slots it is not
    /// looked for each time.
    fn fits_into_reserve(&self, kept: &mut Kept, durable: u64) -> bool {
        kept.memo.looks = kept.memo.looks.wrapping_add(1);
        if self.capacity() > MANY_SLOTS && !kept.memo.looks.is_multiple_of(LOOK_EVERY) {
            return false;
        }
        let ids = ID_BYTES * self.ids_below(durable).len() as u64;
        let most = (kept.writer.reserve_bytes() / 4).checked_sub(ids);
        most.is_some_and(|most| self.is_less_below(durable, most))
    }

    /// No message that is left stands below this. Looks at the slots of the oldest ring that has one.
    fn oldest_left(&self) -> u64 {
        let mut oldest = u64::MAX;
        for link in self.chain.links().iter() {
            if self.is_full_backlog(link) {
                return link.first_position();
            }
            self.note_step(true);
            link.delivery
                .each(|standing| oldest = oldest.min(standing.position));
            if oldest != u64::MAX {
                break;
            }
        }
        oldest
    }

    /// Whether nothing of a ring can have been consumed yet. On a disk it is not read to find that out again.
    fn is_full_backlog(&self, link: &Link) -> bool {
        link.number > 0 && !link.is_touched() && self.delivery.durable().is_some()
    }

    /// Whether what is left below `below` takes no more than `most` bytes when it is written again. Looks no further
    /// than it is so.
    fn is_less_below(&self, below: u64, most: u64) -> bool {
        let mut bytes = 0;
        let links = self.chain.links();
        for (place, link) in links.iter().enumerate() {
            let first = link.first_position();
            if first >= below {
                break;
            }
            if self.is_full_backlog(link) {
                let next = links.get(place + 1).map(|next| next.first_position());
                let until = link.sealed().or(next).unwrap_or(below).min(below);
                bytes += BESIDE * until.saturating_sub(first);
            } else {
                self.note_step(true);
                link.delivery.each(|standing| {
                    if standing.position < below
                        && bytes <= most
                        && let Ok(Some(body)) = self.body(&standing)
                    {
                        bytes += body.whole() as u64 + BESIDE;
                    }
                });
            }
            if bytes > most {
                return false;
            }
        }
        bytes <= most
    }

    fn window_ms(&self) -> u64 {
        self.delivery.dedup().map_or(0, |dedup| dedup.window_ms())
    }

    /// The ids of messages below `below`, as far as they count.
    fn ids_below(&self, below: u64) -> Vec<(u64, SentId)> {
        let mut ids = Vec::new();
        if let Some(dedup) = self.delivery.dedup() {
            let window_ms = dedup.window_ms();
            dedup.each(
                self.delivery.ring(),
                self.now_ms(),
                |id, position, expiry| {
                    if position < below {
                        let sent_ms = self.unix_ms(expiry.saturating_sub(window_ms));
                        ids.push((position, SentId { id, sent_ms }));
                    }
                },
            );
        }
        ids
    }

    fn write_ids_again(&self, kept: &mut Kept, ids: &[(u64, SentId)]) -> Result<(), JournalError> {
        for some in ids.chunks(STEP_IDS) {
            for (position, sent) in some {
                let sent = [bytemuck::bytes_of(sent)];
                push(&mut kept.writer, ENTRY_ID, *position, &sent)?;
            }
            self.note_step(true);
        }
        Ok(())
    }

    /// Writes what is left below `below` once more; durable when it returns.
    fn write_again(&self, kept: &mut Kept, below: u64) -> Result<(), JournalError> {
        let mut left = Vec::new();
        for link in self.chain.links().iter() {
            if link.first_position() >= below {
                break;
            }
            self.note_step(true);
            link.delivery.each(|standing| {
                if standing.position < below {
                    left.push(standing.position);
                }
            });
        }
        for position in left {
            let ring = self.at(position);
            let standing = ring.examine(position);
            let Some(standing) = standing.filter(|standing| standing.position == position) else {
                continue; // consumed meanwhile
            };
            let Some((head, len)) = self.copy_message(kept, &standing)? else {
                continue;
            };
            let parts = [bytemuck::bytes_of(&head), &kept.memo.body[..len]];
            push(&mut kept.writer, ENTRY_AGAIN, position, &parts)?;
            for (kind, position, value) in self.state_of(&standing) {
                push(&mut kept.writer, kind, position, &[&value.to_le_bytes()])?;
            }
            self.note_step(true);
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
