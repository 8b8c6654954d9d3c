//! Limits that are counted: messages in the queue, messages in flight.
//!
//! No word says how many there are; a look at every slot does. So each handle takes a share of what
//! the look left, an eighth of it, and looks again when that is used up or has grown old. Far from the
//! limit a look is rare; near it shares are single messages. What it may be passed by: the shares of
//! the other handles, none of which is older than a tenth of a second (more in rings of more than
//! 100,000 slots, so that looks take no more than a hundredth of the time). It is refused only by a
//! look that found no room, at most a tenth of that time ago.

use super::Inner;
use crate::ring::delivery::sweep::Census;

/// Handles that take a share of the same room without passing the limit.
const SHARES: u64 = 8;
/// A share is good for so long at least.
const GOOD_MS: u64 = 100;
/// Slots that a look passes in about a hundredth of a millisecond.
const SLOTS_A_MS: u64 = 1_000;

/// A handle's share of what a limit leaves.
#[derive(Default)]
pub(super) struct Share {
    left: u64,
    limit: u64,
    counted_ms: u64,
    is_counted: bool,
    /// Whether the last look found room.
    has_room: bool,
}

impl Share {
    /// Whether one more message is within the limit; it is taken from the share then.
    #[cold]
    #[inline(never)]
    pub fn take(
        &mut self,
        inner: &Inner,
        limit: u64,
        now_ms: u64,
        of: impl Fn(&Census) -> u64,
    ) -> bool {
        let good_ms = GOOD_MS.max(inner.definition.slots / SLOTS_A_MS);
        let age = now_ms.saturating_sub(self.counted_ms);
        let is_good = self.is_counted && self.limit == limit && age < good_ms;
        let is_used_up = self.left == 0 && (self.has_room || age >= good_ms / 10);
        if !is_good || is_used_up {
            let mut used = 0;
            inner.each_ring(|ring| used += of(&ring.census(now_ms)));
            let room = limit.saturating_sub(used);
            self.left = room.div_ceil(SHARES);
            (self.limit, self.counted_ms, self.is_counted) = (limit, now_ms, true);
            self.has_room = room > 0;
        }
        let is_within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_within
    }

    /// What was taken was not needed.
    pub fn give_back(&mut self) {
        self.left += 1;
    }
}
