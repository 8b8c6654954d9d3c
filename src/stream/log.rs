//! The journal of a shard: what of its ring is on disk, and who writes the rest.
//!
//! The ring stays what it is in memory, and the journal follows it in the order of positions
//! ([`crate::persist`]): a put is acknowledged when the durable position has passed it, readers are given
//! what is below that position, and a slot is used again only behind it. So whatever is not in the ring
//! any more is in the journal.
//!
//! ```text
//! RECORD      position: its own     the bytes of the ring
//! NEWEST      position: –           u64: the latest arrival of all before
//! CHECKPOINT  position: a group     u64: its word in this shard
//! ```
//! Each segment says NEWEST and every CHECKPOINT once, so that older segments can go; a flush says those
//! checkpoints that changed. What each crash point leaves is what it leaves of a queue
//! (docs/decisions/0023): a record that is in the ring and not acknowledged, written by the next flush.

use super::copy::{Copied, copy_record};
use super::lease::place;
use super::record::HEAD;
use super::words::StreamWords;
use crate::channel::Channel;
use crate::error::JournalError;
use crate::journal::{DEFINITION_BYTES, Follower, SegmentId};
use crate::layout::stream::{
    ENTRY_CHECKPOINT, ENTRY_NEWEST, ENTRY_RECORD, GROUPS, RecordHead, shard_control,
};
use crate::layout::word::Ctl;
use crate::persist::directory::part_name;
use crate::persist::{self, Goal, Journal, Kept, NotOnDisk, Source, push, push_gap};
use crate::ring::Counter;
use crate::ring::persister::Writing;
use crate::ring::read::Look;
use crate::shm::durable::DurableWords;
use crate::shm::words::word64;
use crate::sync::{AtomicU64, Label, Ordering, fence_behind_rmw};
use crate::sys::clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Pause of a writer that waits for an open claim.
const PAUSE: Duration = Duration::from_micros(50);
/// Records and bytes of one flush: more are left to the next, so that who waits for the first does not wait
/// for the last.
const MOST_RECORDS: u64 = 16_384;
const MOST_BYTES: usize = 8 << 20;
/// Between two looks for segments that are over.
const LOOK_EVERY_MS: u64 = 1000;

/// See the module.
pub(crate) struct ShardLog {
    pub channel: Channel,
    pub words: DurableWords,
    journal: Journal<Memo>,
    object: u64,
    control: StreamWords,
}

/// What a writer remembers.
#[derive(Default)]
pub(crate) struct Memo {
    body: Vec<u8>,
    checkpoints: [u64; GROUPS as usize],
    /// Epoch and segment that the state was written to.
    said_at: (u64, u64),
    /// The same, what was to be kept, and when, at the last look for segments that are over.
    looked_at: ((u64, u64), (u64, u64)),
    looked_ms: u64,
    follower: Option<Follower<crate::journal::Disk>>,
}

/// What a stream says of its journals.
#[derive(Clone)]
pub(crate) struct Place {
    pub directory: PathBuf,
    pub definition: Box<[u8; DEFINITION_BYTES]>,
    pub segment_bytes: u64,
    pub buffer_bytes: usize,
}

/// The object that the journal of a shard is of.
pub(super) fn object_of(family: u64, shard: u32) -> u64 {
    family.rotate_left(17) ^ (u64::from(shard) + 1)
}

impl ShardLog {
    /// Of the shard whose ring is `channel`.
    pub fn new(
        channel: Channel,
        words: DurableWords,
        control: StreamWords,
        (family, shard): (u64, u32),
        place: &Place,
    ) -> Self {
        let object = object_of(family, shard);
        Self {
            journal: Journal::new(
                place.directory.join(part_name(family, shard)),
                object,
                place.definition.clone(),
                place.segment_bytes,
            )
            .with_buffers(place.buffer_bytes),
            channel,
            words,
            object,
            control,
        }
    }

    /// Where it lies.
    pub fn directory(&self) -> &std::path::Path {
        self.journal.directory()
    }

    /// The latest arrival of any record that was written.
    fn newest(&self) -> &AtomicU64 {
        newest_of(&self.channel.inner.mapping)
    }

    fn given_back(&self) -> &AtomicU64 {
        word64(&self.channel.inner.mapping, shard_control::GIVEN_BACK)
    }

    /// Whether nobody is promised any of what was written, and it may still be there.
    pub fn is_over(&self) -> bool {
        // Relaxed: hints. What is given back is decided by who has the role.
        let given_back = self.given_back().load(Ordering::Relaxed);
        given_back < self.words.on_disk_below() && self.nothing_is_kept(clock::unix_ms())
    }

    /// Whether everything that was written is older than the retention.
    fn nothing_is_kept(&self, now_ms: u64) -> bool {
        let newest = self.newest().load(Ordering::Relaxed); // rises only
        let (retention_ms, _) = self.control.retention();
        newest != 0 && newest.saturating_add(retention_ms) <= now_ms
    }

    /// Looks which segments are over, now, and gives those back. Blocks for the disk.
    pub fn give_back(&self) -> Result<(), NotOnDisk> {
        self.words.look_again().store(1, Ordering::Relaxed); // told by the flush below
        self.reach_changes()
    }

    /// Goes on in a new segment that says what each has to say, so that the one before it can go.
    fn leave_segment(&self, kept: &mut Kept<Memo>) -> Result<(), JournalError> {
        kept.writer.leave_segment()?;
        kept.memo.said_at = (u64::MAX, u64::MAX);
        self.collect_state(kept)?;
        kept.writer.submit()?;
        kept.writer.complete(true)?;
        kept.memo.said_at = kept.segment();
        Ok(())
    }

    /// A reader of what is on disk; `None` while nothing is.
    pub fn follower(&self) -> Result<Option<Follower<crate::journal::Disk>>, JournalError> {
        follower_at(self.journal.directory(), self.object)
    }

    /// Waits until `goal` is reached, or writes itself. Where the disk has no room, what nobody is promised any
    /// more makes some.
    pub fn reach(&self, goal: Goal) -> Result<(), NotOnDisk> {
        match persist::reach(self, &self.journal, goal) {
            Err(NotOnDisk::Journal(JournalError::NoSpace { .. })) if self.gives_way() => {
                persist::reach(self, &self.journal, goal)
            }
            reached => reached,
        }
    }

    /// Removes the segments that are over, as whoever writes does behind a flush: on a full disk there is
    /// none. Whether there were any.
    fn gives_way(&self) -> bool {
        let removed = || -> Result<usize, JournalError> {
            let disk = crate::journal::Disk::open(self.directory())?;
            let segments = Follower::new(Arc::new(disk), self.object).segments()?;
            // The last is the one that is written to, or was: whoever writes makes none but the next.
            let last = segments.last();
            let last = last.map_or((0, 0), |(id, ..)| (id.epoch, id.index));
            let over = over(&segments, last, clock::unix_ms(), self.control.retention());
            let disk = crate::journal::Disk::open(self.directory())?;
            crate::journal::remove_oldest(&disk, &over)
        };
        // One that can't be read or removed now makes no room.
        removed().is_ok_and(|count| count > 0)
    }

    /// Waits until everything that this thread has changed is on disk.
    pub fn reach_changes(&self) -> Result<(), NotOnDisk> {
        fence_behind_rmw(Label::NoteFence);
        self.reach(Goal::Flush(self.words.next_flush()))
    }

    /// Writes what is committed, so that slots can be used again. Whether that brought any.
    pub fn make_room(&self) -> Result<bool, NotOnDisk> {
        if self.words.is_frozen() {
            self.reach(Goal::Thawed)?;
        }
        let before = self.words.on_disk_below();
        self.reach_changes()?;
        Ok(self.words.on_disk_below() > before)
    }

    /// Waits until everything that was put before, by anybody, is on disk, and what this thread has changed.
    pub fn flush(&self) -> Result<(), NotOnDisk> {
        let end = self.end();
        if end > self.words.on_disk_below() {
            self.reach(Goal::Position(end - 1))?;
        }
        self.reach_changes()
    }

    /// How many positions were given out that are not on disk.
    pub fn unwritten(&self) -> u64 {
        self.end().saturating_sub(self.words.on_disk_below())
    }

    /// The end of what was put.
    pub fn end(&self) -> u64 {
        let ring = &self.channel.inner.ring;
        super::lease::end_of_journaled(ring, self.words.on_disk_below())
    }

    /// Says on the disk how far it is there. For whoever sees that nobody writes.
    pub fn mark(&self) {
        persist::mark(self, &self.journal);
    }

    /// In a forked child: the writer's threads and writes are the parent's.
    pub fn forget(&self) {
        self.journal.forget();
    }

    fn collect_state(&self, kept: &mut Kept<Memo>) -> Result<(), JournalError> {
        let at = kept.segment();
        let is_new = kept.memo.said_at != at;
        if is_new {
            let newest = self.newest().load(Ordering::Relaxed); // of the flushes before, told by the role
            push(&mut kept.writer, ENTRY_NEWEST, 0, &[&newest.to_le_bytes()])?;
        }
        let ring = &self.channel.inner.ring;
        for group in 0..GROUPS {
            // Behind FlushFence: whoever waits for this flush stored it before.
            let word = place(ring, group).checkpoint.load(Ordering::Relaxed);
            let known = &mut kept.memo.checkpoints[group as usize];
            if word != 0 && (is_new || *known != word) {
                *known = word;
                let bytes = word.to_le_bytes();
                push(
                    &mut kept.writer,
                    ENTRY_CHECKPOINT,
                    group.into(),
                    &[&bytes[..]],
                )?;
            }
        }
        kept.memo.said_at = at;
        Ok(())
    }

    fn wait_for_claim(&self, position: u64, word: Ctl, since: &mut Option<(Ctl, u64)>) {
        let now = clock::now();
        let begun = match *since {
            Some((seen, begun)) if seen == word => begun,
            _ => now,
        };
        *since = Some((word, begun));
        let ring = &self.channel.inner.ring;
        if !ring.resolve(position, word, now - begun) {
            clock::pause(PAUSE);
        }
        self.words.note_step(false);
    }
}

/// See [`ShardLog::newest`].
pub(super) fn newest_of(mapping: &crate::sys::mapping::Mapping) -> &AtomicU64 {
    word64(mapping, shard_control::NEWEST_MS)
}

/// A reader of the journal in a directory; `None` while there is none.
pub(super) fn follower_at(
    directory: &std::path::Path,
    object: u64,
) -> Result<Option<Follower<crate::journal::Disk>>, JournalError> {
    match crate::journal::Disk::open(directory) {
        Ok(disk) => Ok(Some(Follower::new(Arc::new(disk), object))),
        Err(JournalError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Source for ShardLog {
    type Memo = Memo;

    fn name(&self) -> &str {
        self.channel.name()
    }

    fn words(&self) -> &DurableWords {
        &self.words
    }

    fn me(&self) -> u16 {
        self.channel.inner.ring.me()
    }

    fn is_dead(&self, owner: u16) -> bool {
        self.channel.inner.ring.is_dead(owner)
    }

    fn tick(&self) {
        self.channel.inner.host.tick();
    }

    fn is_removed(&self) -> bool {
        self.channel.inner.is_removed()
    }

    fn is_unlinked(&self) -> bool {
        self.channel.inner.is_unlinked()
    }

    fn collect(
        &self,
        kept: &mut Kept<Memo>,
        _: &Writing,
        from: u64,
        goal: Goal,
    ) -> Result<Option<u64>, JournalError> {
        self.collect_state(kept)?;
        let ring = &self.channel.inner.ring;
        let slots = ring.memory().geometry().slots();
        let until = ring.sealed().unwrap_or(u64::MAX);
        // Never further behind, unless somebody wrote over the word: then what is there is written.
        let oldest = ring.find_tail().saturating_sub(4 * slots);
        let (mut at, mut gap) = (from.max(oldest), from);
        let (mut count, mut bytes, mut newest) = (0, 0, 0);
        let mut waiting_since = None;
        let mut body = core::mem::take(&mut kept.memo.body);
        while at < until && count < MOST_RECORDS && bytes < MOST_BYTES {
            match ring.look(at).1 {
                Look::End => break,
                Look::Pending(word) => {
                    let is_waited_for = matches!(goal, Goal::Position(position) if position >= at);
                    if at > from || !is_waited_for {
                        break;
                    }
                    self.wait_for_claim(at, word, &mut waiting_since);
                    continue;
                }
                Look::Gone => {}
                Look::Record(meta) => {
                    let segments = &self.channel.inner.segments;
                    let copied = copy_record(ring, at, meta, segments, &mut body);
                    // Its payload can't be opened now: that says nothing about the record.
                    let copied = copied.map_err(|error| JournalError::Io {
                        path: self.channel.inner.path.clone(),
                        what: "opening a payload",
                        source: std::io::Error::other(error.to_string()),
                    })?;
                    if copied == Copied::Whole {
                        if gap < at {
                            push_gap(&mut kept.writer, gap, at)?;
                        }
                        push(&mut kept.writer, ENTRY_RECORD, at, &[&body[..]])?;
                        newest = newest.max(arrival_of(&body));
                        (gap, count, bytes) = (at + 1, count + 1, bytes + body.len());
                        self.words.note_step(bytes > MOST_BYTES / 4);
                    } else if copied == Copied::Vacated {
                        ring.count(Counter::Damaged, 1);
                    }
                }
            }
            at += 1;
            waiting_since = None;
        }
        kept.memo.body = body;
        self.newest().fetch_max(newest, Ordering::Relaxed); // one writes; the role passes it on
        if gap < at {
            push_gap(&mut kept.writer, gap, at)?;
        }
        Ok(Some(at.max(from)))
    }

    fn told(&self) {
        self.channel.inner.ring.wake_behind_commit();
    }

    fn look_after(
        &self,
        journal: &Journal<Memo>,
        kept: &mut Kept<Memo>,
        _: u64,
        is_full: bool,
    ) -> Result<(), JournalError> {
        let (mut at, now) = (kept.segment(), clock::unix_ms());
        let looked_at = (at, self.control.retention());
        if at != kept.memo.said_at {
            return Ok(());
        }
        let is_asked = self.words.look_again().swap(0, Ordering::Relaxed) != 0;
        let is_time = is_full || is_asked || now.wrapping_sub(kept.memo.looked_ms) >= LOOK_EVERY_MS;
        if kept.memo.looked_at == looked_at && !is_time {
            return Ok(());
        }
        (kept.memo.looked_at, kept.memo.looked_ms) = (looked_at, now);
        if kept.memo.follower.is_none() {
            kept.memo.follower = follower_at(journal.directory(), self.object)?;
        }
        let Some(follower) = &mut kept.memo.follower else {
            return Ok(());
        };
        let segments = follower.segments()?;
        let is_over = self.nothing_is_kept(now);
        let next = kept.writer.next();
        let id = SegmentId {
            epoch: at.0,
            index: at.1,
        };
        let mut is_left = follower.first_of(id)?.is_some_and(|first| first >= next);
        if is_over && !is_full && !is_left {
            // Nothing in the segment that is written to is kept either. Where the disk has no room for another
            // one, it stays.
            match self.leave_segment(kept) {
                Ok(()) => (at, is_left) = (kept.segment(), true),
                Err(JournalError::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !is_over {
            let over = over(&segments, at, now, looked_at.1);
            if !over.is_empty() {
                kept.writer.release(&over)?;
            }
            return Ok(());
        }
        let over = before(&segments, at);
        let released = match over.is_empty() {
            true => 0,
            false => kept.writer.release_for_good(&over)?,
        };
        if is_left && released == over.len() {
            self.given_back().fetch_max(next, Ordering::Relaxed); // a hint
        }
        Ok(())
    }
}

/// The segments before the one that is written to.
fn before(segments: &[(SegmentId, u64, u64)], at: (u64, u64)) -> Vec<SegmentId> {
    let ids = segments.iter().map(|segment| segment.0);
    ids.filter(|id| (id.epoch, id.index) < at).collect()
}

/// When a record arrived, by the bytes of it; 0 for bytes that no put wrote.
pub(super) fn arrival_of(bytes: &[u8]) -> u64 {
    let head = bytes.get(..HEAD);
    head.map_or(0, |head| {
        bytemuck::pod_read_unaligned::<RecordHead>(head).arrival_ms
    })
}

/// The segments, oldest first, that nobody is promised any more. What is in one arrived before the segment
/// behind the next was made, for that is made while the next is half full.
fn over(
    segments: &[(SegmentId, u64, u64)],
    at: (u64, u64),
    now_ms: u64,
    (retention_ms, most_bytes): (u64, u64),
) -> Vec<SegmentId> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.2).sum();
    let mut over = Vec::new();
    for (place, (id, _, file_bytes)) in segments.iter().enumerate() {
        if (id.epoch, id.index) >= at {
            break;
        }
        let closed_ms = segments.get(place + 2).map(|later| later.1);
        let is_old = closed_ms.is_some_and(|closed| closed.saturating_add(retention_ms) <= now_ms);
        let is_much = most_bytes != 0 && bytes > most_bytes;
        if !is_old && !is_much {
            break;
        }
        bytes -= file_bytes;
        over.push(*id);
    }
    over
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn made_at(times: &[u64]) -> Vec<(SegmentId, u64, u64)> {
        let id = |index| SegmentId { epoch: 1, index };
        let segments = times.iter().zip(0..);
        segments
            .map(|(made, index)| (id(index), *made, 10))
            .collect()
    }

    #[test]
    fn a_segment_is_over_when_the_one_behind_the_next_is_older_than_the_retention() {
        let segments = made_at(&[0, 100, 200, 300, 400]);
        let over = |now| over(&segments, (1, 4), now, (1000, 0)).len();
        assert_eq!(
            (over(1199), over(1200), over(1300), over(1400)),
            (0, 1, 2, 3)
        );
        // The one that is written to, and the one before it, whose end nobody has dated, stay.
        assert_eq!(over(1_000_000), 3);
    }

    #[test]
    fn segments_go_from_the_oldest_on_until_their_bytes_are_few_enough() {
        let segments = made_at(&[0, 0, 0, 0]);
        let over = |most| over(&segments, (1, 2), 0, (1000, most)).len();
        assert_eq!(
            (over(0), over(40), over(39), over(25), over(1)),
            (0, 0, 1, 2, 2)
        );
    }
}
