//! How far somebody is behind in a shard: what there is from where it stands to the end of what can be read.
//!
//! In memory that is a subtraction. On disk two things may lie between that nobody will ever be given: what was
//! given back, and the positions that are left out where a life of the stream begins. Who stands in the ring has
//! neither before it; who stands behind it costs a look at the journal, at the beginning of each epoch.
//!
//! A subscriber of a registered consumer has no seat in a shard on disk. It says where it is beside the
//! checkpoints of groups, in the place of its consumer, with the version of its member word, which no other
//! subscriber has. Only it stores there. The word guards nothing and holds nobody back: what a death leaves there
//! is nobody's, and one that was written over is right again behind the next record.

use super::Inner;
use super::lease::{end, place};
use crate::error::{JournalError, OpenError};
use crate::layout::word::{Checkpoint, Role};
use crate::ring::SlotRing;
use crate::sync::Ordering;

/// Says that the subscriber with this word, of the consumer in this place, reads `position` next.
pub(super) fn say(ring: &SlotRing, consumer: u32, member: Role, position: u64) {
    let at = place(ring, consumer).subscribed;
    let word = Checkpoint::new(member.version(), position).0;
    // Relaxed, both: one stores, and who looks wants no more than where it is about now.
    if at.load(Ordering::Relaxed) != word {
        at.store(word, Ordering::Relaxed);
    }
}

/// Where that one is; `None` when it has not said so of this shard.
pub(super) fn said(ring: &SlotRing, consumer: u32, member: Role) -> Option<u64> {
    let word = Checkpoint(place(ring, consumer).subscribed.load(Ordering::Relaxed));
    let is_its = member.owner() != 0 && word.0 != 0 && word.is_of(member.version());
    is_its.then(|| word.position(end(ring)))
}

impl Inner {
    /// Positions of a shard from `from` to the end of what can be read. What can't be looked at now counts as
    /// if it were there.
    ///
    /// # Errors
    /// When the shard can't be opened now.
    pub(super) fn unread(&self, shard: u32, ring: &SlotRing, from: u64) -> Result<u64, OpenError> {
        let end = self.readable_end(shard, ring)?;
        let all = end.saturating_sub(from);
        let oldest = ring.oldest().unwrap_or(0);
        if all == 0 || from >= oldest || !self.is_on_disk() {
            return Ok(all);
        }
        Ok(self.unread_on_disk(shard, from, end).unwrap_or(all))
    }

    fn unread_on_disk(&self, shard: u32, from: u64, end: u64) -> Result<u64, JournalError> {
        let Ok(Some(log)) = self.log(shard) else {
            return Ok(end - from);
        };
        let on_disk = log.words.on_disk_below().min(end);
        // Of what is not on disk, what the ring does not have was left out.
        let in_memory = log.channel.inner.ring.oldest().unwrap_or(0).max(on_disk);
        let behind_disk = end.saturating_sub(in_memory.max(from));
        let Some(mut follower) = log.follower()? else {
            return Ok(behind_disk);
        };
        let from = from.max(follower.oldest()?.unwrap_or(on_disk));
        let there = on_disk.saturating_sub(from);
        let left_out = follower.left_out(from, on_disk)?;
        Ok(there.saturating_sub(left_out) + behind_disk)
    }
}
