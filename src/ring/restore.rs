//! Making the ring of a shard again, empty, behind what its journal has; in a file that nobody else knows
//! yet.
//!
//! It becomes what it would be if every position below its first one had been claimed and left empty, and
//! nothing of it were there any more: so no position is given out twice, and no code that runs later knows
//! the difference.

use super::SlotRing;
use crate::layout::word::{Ctl, LAP_SEALED};
use crate::sync::Ordering;

impl SlotRing {
    /// Empties the ring and lets it begin at `first`; with `sealed`, end there too.
    pub fn restore_empty(&self, first: u64, sealed: bool) {
        let geometry = self.memory.geometry();
        let slots = geometry.slots();
        // Relaxed, here and below: the name of the file publishes it.
        for index in 0..slots {
            // The last position below the first one in this slot, if there is one.
            let below = first.checked_sub(index + 1).map(|over| first - 1 - over % slots);
            let lap = below.map_or(0, |below| geometry.lap_of(below));
            let void = Ctl::new(Ctl::VOID, 0, lap);
            self.memory.slot(index).ctl().store(void.0, Ordering::Relaxed);
        }
        if sealed {
            let void = Ctl::new(Ctl::VOID, 0, LAP_SEALED);
            self.memory.slot(first).ctl().store(void.0, Ordering::Relaxed);
        }
        self.memory.tail().store(first, Ordering::Relaxed);
        self.memory.trim().store(first, Ordering::Relaxed);
        self.memory.reclaim().store(first, Ordering::Relaxed);
    }
}
