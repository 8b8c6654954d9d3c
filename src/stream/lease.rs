//! Groups in the shards: each group has a standing reader entry in each shard, and in it who reads
//! (`lease`), how far the group has come (`checkpoint`), and what holds producers back (`cursor`).
//! What the words are, and who may change them, says [`crate::ring::standing`].

use super::Inner;
use super::table::{ShardInfo, ShardState};
use crate::error::OpenError;
use crate::layout::ring::NO_PIN;
use crate::layout::stream::{GROUP_LIVE, GROUP_REMOVED, GROUPS, STANDING};
use crate::layout::word::{Checkpoint, Lease, Role};
use crate::ring::{Overflow, SlotRing, standing};
use crate::shm::ring::{ReaderWords, RingMemory};
use crate::sync::{Label, Ordering, fence_at, order};

/// The entry of a group in a shard; of the guard, whose number is behind theirs.
pub(super) fn place(ring: &SlotRing, group: u32) -> ReaderWords<'_> {
    place_in(ring.memory(), group)
}

/// The same of a ring that nobody has joined here.
pub(super) fn place_in(memory: &RingMemory, group: u32) -> ReaderWords<'_> {
    memory.reader(memory.geometry().readers() - STANDING + group)
}

/// Where a group stands; `None` if it does not know the shard.
pub(super) fn checkpoint(ring: &SlotRing, group: u32) -> Option<u64> {
    let word = place(ring, group)
        .checkpoint
        .load(order(Label::RoleTake, Ordering::Acquire));
    (word != 0).then(|| Checkpoint(word).position(end(ring)))
}

/// The end of a shard: its seal, or its tail.
pub(super) fn end(ring: &SlotRing) -> u64 {
    ring.sealed().unwrap_or_else(|| ring.tail_now())
}

/// The same of a shard on disk: where a life of the stream begins positions are left out, and as long as nothing
/// was put behind them it ends where its journal does.
pub(super) fn end_of_journaled(ring: &SlotRing, on_disk_below: u64) -> u64 {
    let end = end(ring);
    match ring.oldest() {
        Some(oldest) if oldest < end => end,
        _ => end.min(on_disk_below),
    }
}

/// Stamps the checkpoint with the token of `lease`; where it stands. `None` when the lease passed on.
pub(super) fn fence(ring: &SlotRing, group: u32, lease: Lease) -> Option<u64> {
    let stamped = standing::fence(&place(ring, group), lease)?;
    Some(stamped.position(end(ring)))
}

/// Moves the checkpoint to `position`, by the token of `lease`. Whether it still is its.
pub(super) fn advance(ring: &SlotRing, group: u32, lease: Lease, position: u64) -> bool {
    standing::advance(&place(ring, group), lease, position)
}

impl Inner {
    /// Groups that are there.
    pub(super) fn live_groups(&self) -> impl Iterator<Item = u32> + '_ {
        (0..GROUPS).filter(|group| self.is_live(*group))
    }

    pub(super) fn is_live(&self, group: u32) -> bool {
        Role(self.words.group(group).load(Ordering::Acquire)).state() == GROUP_LIVE
    }

    /// Lets a group hold the producers of a shard back from `from` on, if it does not know it yet.
    pub(super) fn protect(&self, shard: u32, group: u32, from: u64) -> Result<(), OpenError> {
        let channel = self.ring(shard)?;
        let ring = &channel.inner.ring;
        let words = place(ring, group);
        let first = Checkpoint::new(1, from);
        let _ = words.checkpoint.compare_exchange(
            0,
            first.0,
            Ordering::AcqRel,
            Ordering::Relaxed, // somebody else was faster
        );
        if self.is_on_disk() {
            return Ok(());
        }
        self.hold(ring, group);
        // What went before the cursor was seen was never kept from it. Where the oldest records are dropped
        // whoever reads, that is told as any other gap.
        fence_at(Label::PinFence, Ordering::SeqCst);
        let oldest = ring.oldest().unwrap_or(0);
        if ring.overflow() == Overflow::Refuse && oldest > from {
            let swapped = words.checkpoint.compare_exchange(
                first.0,
                Checkpoint::new(1, oldest).0,
                Ordering::AcqRel,
                Ordering::Relaxed, // somebody reads already, or was faster
            );
            if swapped.is_ok() {
                words
                    .cursor
                    .fetch_max(oldest, order(Label::CursorStore, Ordering::Release));
            }
        }
        Ok(())
    }

    /// Lets the cursor of a group that holds nothing hold what the group has not checkpointed.
    /// On disk nobody holds producers back: what is not in the ring any more is in the journal.
    fn hold(&self, ring: &SlotRing, group: u32) {
        if let Some(position) = checkpoint(ring, group)
            && !self.is_on_disk()
        {
            let _ = place(ring, group).cursor.compare_exchange(
                NO_PIN,
                position,
                order(Label::CursorStore, Ordering::AcqRel),
                Ordering::Relaxed, // it does
            );
        }
    }

    /// Behind a checkpoint: a live group holds what it has not read. Its cursor is derived, and may have
    /// been lost.
    pub(super) fn hold_again(&self, ring: &SlotRing, group: u32) {
        if place(ring, group).cursor.load(Ordering::Relaxed) == NO_PIN && self.is_live(group) {
            self.hold(ring, group);
        }
    }

    /// The group holds nobody back any more.
    pub(super) fn unprotect(&self, shard: u32, group: u32) -> Result<(), OpenError> {
        let channel = self.ring(shard)?;
        place(&channel.inner.ring, group)
            .cursor
            .store(NO_PIN, Ordering::Release);
        Ok(())
    }

    /// A shard is full, and no participant holds it back: mends the cursors of its groups, which are
    /// derived, and its guard. Whether there may be room now, and else the name of the group that is
    /// behind.
    pub(super) fn unblock(&self, shard: u32) -> Result<(bool, Option<String>), OpenError> {
        let Some(channel) = self.ring_if_there(shard)? else {
            return Ok((true, None)); // closed and retired: there is room elsewhere
        };
        let ring = &channel.inner.ring;
        let mut behind: Option<(u64, u32)> = None;
        let before = ring.lowest_cursor().0;
        self.drop_guard(shard)?;
        for group in 0..GROUPS {
            let cursor = place(ring, group).cursor;
            let seen = cursor.load(Ordering::Acquire);
            if seen == NO_PIN {
                continue;
            }
            // One that is not there yet may be on its way: only what was removed, which is for ever, or
            // never was anything here, holds nobody back.
            let state = Role(self.words.group(group).load(Ordering::Acquire)).state();
            let should = match checkpoint(ring, group) {
                Some(position) if state != GROUP_REMOVED => position,
                _ => NO_PIN,
            };
            if seen < should {
                let _ = cursor.compare_exchange(
                    seen,
                    should,
                    order(Label::CursorStore, Ordering::AcqRel),
                    Ordering::Relaxed, // it has moved: fine
                );
            }
            if should != NO_PIN && behind.is_none_or(|(lowest, _)| should < lowest) {
                behind = Some((should, group));
            }
        }
        let name = behind.map(|(_, group)| {
            let name = self.words.group_name(group);
            String::from_utf8_lossy(&name).into_owned()
        });
        Ok((ring.lowest_cursor().0 > before, name))
    }

    /// Whether a group has read a shard to its end. One that was retired was read by all.
    pub(super) fn has_finished(&self, group: u32, shard: &ShardInfo) -> Result<bool, OpenError> {
        match shard.state {
            ShardState::Open => Ok(false),
            ShardState::Retired => Ok(true),
            ShardState::Closed => {
                let Some(channel) = self.ring_if_there(shard.id.0)? else {
                    return Ok(true);
                };
                let position = checkpoint(&channel.inner.ring, group);
                Ok(position.is_some_and(|position| Self::is_read_to_its_end(shard, position)))
            }
        }
    }
}
