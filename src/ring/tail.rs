//! Where the ring ends: a hint that is checked, or a binary search over the laps; and its seal,
//! which ends it for ever.
//!
//! The slot of the first position that was never taken gets lap 2^52 - 1 in place: CLAIMED becomes
//! HELD, every other state stays, and with it what was committed there a lap ago. Nobody can claim
//! that position any more, so by contiguity none behind it. Where the seal stands is told by the
//! slot before it, whose lap does not change any more.

use super::SlotRing;
use crate::layout::ring::MAX_POSITION;
use crate::layout::word::{Ctl, LAP_SEALED};
use crate::sync::{Label, Ordering, order};

impl SlotRing {
    fn lap_at(&self, position: u64) -> u64 {
        Ctl(self.memory.slot(position).ctl().load(order(Label::ReadLoad, Ordering::Acquire))).lap()
    }

    /// The hint h, if the word of h−1 has lap ≥ lap(h−1): then every position below h is taken.
    pub fn checked_tail_hint(&self) -> Option<u64> {
        let hint = self.memory.tail().load(Ordering::Relaxed); // derived; checked right here
        self.is_taken_below(hint).then_some(hint)
    }

    /// Whether the position before `hint` is one of this ring and taken or stepped over, as far as
    /// its slot can tell: that of a seal says nothing.
    pub(super) fn is_taken_below(&self, hint: u64) -> bool {
        let geometry = self.memory.geometry();
        if hint <= geometry.first_position() || hint > MAX_POSITION {
            return false;
        }
        let lap = self.lap_at(hint - 1);
        lap >= geometry.lap_of(hint - 1) && lap != LAP_SEALED
    }

    /// Seals the ring at its tail, which is at or behind `from`; where. At most two rounds of steps:
    /// `None` when others claimed faster all the time.
    pub fn seal(&self, from: u64) -> Option<u64> {
        let geometry = self.memory.geometry();
        let mut at = from;
        for _ in 0..2 * geometry.slots() {
            let slot = self.memory.slot(at);
            let word = Ctl(slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
            if word.lap() == LAP_SEALED {
                return Some(self.sealed_at(at));
            }
            if word.lap() >= geometry.lap_of(at) {
                let taken = geometry.position_of(geometry.slot_of(at), word.lap())?;
                at = taken + 1;
                continue;
            }
            // A claim of a lap ago that is open: its owner finds its commit refused.
            let state = match word.state() {
                Ctl::CLAIMED => Ctl::HELD,
                state => state,
            };
            let sealed = Ctl::new(state, word.owner(), LAP_SEALED);
            if slot
                .ctl()
                .compare_exchange(
                    word.0,
                    sealed.0,
                    order(Label::SealStore, Ordering::AcqRel),
                    Ordering::Relaxed, // looks again
                )
                .is_ok()
            {
                return Some(at);
            }
        }
        None
    }

    /// Where the ring is sealed, if it is.
    pub fn sealed(&self) -> Option<u64> {
        let tail = self.tail_now();
        (self.lap_at(tail) == LAP_SEALED).then(|| self.sealed_at(tail))
    }

    /// Where the ring is sealed, told by the slot before the one whose word carries the seal, of
    /// which `at` is any position.
    pub fn sealed_at(&self, at: u64) -> u64 {
        let geometry = self.memory.geometry();
        let before = geometry.slot_of(at.wrapping_sub(1));
        let last = geometry.position_of(before, self.lap_at(before as u64));
        last.map_or(geometry.first_position(), |last| last + 1)
    }

    /// A position at or below the tail, close to it: every position below it is taken.
    pub fn find_tail(&self) -> u64 {
        self.checked_tail_hint().unwrap_or_else(|| self.search_tail())
    }

    fn search_tail(&self) -> u64 {
        let geometry = self.memory.geometry();
        let slots = geometry.slots();
        let lap = self.lap_at(0);
        if lap == 0 {
            return geometry.first_position();
        }
        if lap == LAP_SEALED {
            return self.sealed_at(0);
        }
        // Laps do not grow from slot to slot, and differ by one at most: find the last slot of
        // `lap`. A scribbled lap leads to a wrong tail, which the claim table corrects.
        let (mut low, mut high) = (0, slots - 1);
        while low < high {
            let middle = (low + high).div_ceil(2);
            match self.lap_at(middle) {
                LAP_SEALED => return self.sealed_at(middle),
                seen if seen >= lap => low = middle,
                _ => high = middle - 1,
            }
        }
        let tail = geometry.position_of(low as usize, lap).map(|last| last + 1);
        tail.unwrap_or_else(|| geometry.first_position())
    }

    /// The first position that is not taken yet, as seen now: walks on from the hint.
    pub fn tail_now(&self) -> u64 {
        let geometry = self.memory.geometry();
        let mut tail = self.find_tail();
        // A hint may be true and very old (a scribbled one): then the laps tell.
        for from_laps in [false, true] {
            if from_laps {
                tail = self.search_tail().max(tail);
            }
            for _ in 0..geometry.slots() {
                let lap = self.lap_at(tail);
                if lap < geometry.lap_of(tail) {
                    return tail;
                }
                if lap == LAP_SEALED && tail >= self.sealed_at(tail) {
                    return tail;
                }
                tail += 1;
            }
        }
        tail
    }
}
