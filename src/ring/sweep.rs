//! What a dead participant left in a ring. Idempotent: dying in the middle and starting again
//! does the same as running once.

use super::SlotRing;
use crate::layout::word::Ctl;
use crate::sync::{Label, Ordering, order};

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Claims voided.
    pub claims: u64,
    /// Reader entries freed.
    pub readers: u64,
    /// Producer words given back.
    pub producers: u64,
}

impl SlotRing {
    /// Removes every claim, reader entry and producer word of the dead `owner`.
    pub fn sweep(&self, owner: u16) -> Swept {
        let mut swept = Swept::default();
        for position in 0..self.memory.geometry().slots() {
            let slot = self.memory.slot(position);
            let word = Ctl(slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
            if matches!(word.state(), Ctl::CLAIMED | Ctl::HELD)
                && word.owner() == owner
                && self.void_dead(slot, word)
            {
                swept.claims += 1;
            }
        }
        // The caller is the reaper: the number can't pass on meanwhile, so no probe is needed.
        swept.readers += u64::from(self.evict(owner, |_| true));
        swept.producers += u64::from(self.release_producer(owner));
        self.wake_all();
        swept
    }
}
