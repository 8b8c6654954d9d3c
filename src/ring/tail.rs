//! Where the ring ends: a hint that is checked, or a binary search over the laps.

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
        if hint == 0 || hint > MAX_POSITION {
            return None;
        }
        let geometry = self.memory.geometry();
        (self.lap_at(hint - 1) >= geometry.lap_of(hint - 1)).then_some(hint)
    }

    /// A position at or below the tail, close to it: every position below it is taken.
    pub fn find_tail(&self) -> u64 {
        self.checked_tail_hint().unwrap_or_else(|| self.search_tail())
    }

    fn search_tail(&self) -> u64 {
        let geometry = self.memory.geometry();
        let slots = geometry.slots();
        let lap = self.lap_at(0);
        if lap == 0 || lap == LAP_SEALED {
            return 0;
        }
        // Laps do not grow from slot to slot, and differ by one at most: find the last slot of
        // `lap`. A scribbled lap leads to a wrong tail, which the claim table corrects.
        let (mut low, mut high) = (0, slots - 1);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.lap_at(middle) >= lap {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        geometry.position_of(low as usize, lap).map_or(0, |position| position + 1)
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
                if self.lap_at(tail) < geometry.lap_of(tail) {
                    return tail;
                }
                tail += 1;
            }
        }
        tail
    }
}
