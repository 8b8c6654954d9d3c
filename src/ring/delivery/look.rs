//! Looks at a position, and what a receiver asks for ahead of them. Nothing is written.

use crate::layout::word::{Ctl, Dlv};
use crate::sync::{Label, Ordering, order};
use super::{Delivery, Standing};

impl Delivery {
    /// Whether the position is taken or stepped over; where a seal stands, whether there is something
    /// behind an open claim.
    pub fn is_written(&self, position: u64) -> bool {
        let slot = self.ring.memory.slot(position);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        word.lap() >= self.lap_of(position)
    }

    /// Whether it is written at `position`, and no claim open.
    pub(super) fn is_settled_at(&self, position: u64) -> bool {
        let slot = self.ring.memory.slot(position);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let lap = self.lap_of(position);
        word.lap() >= lap && (word.state() != Ctl::CLAIMED || word.lap() > lap)
    }

    /// The message at `position`, if it stands there never renewed and never received: the common
    /// case, by two comparisons.
    #[inline(always)]
    pub(super) fn ready_at(&self, position: u64) -> Option<Standing<'_>> {
        let slot = self.ring.memory.slot(position);
        let lap = self.lap_of(position);
        let dlv = Dlv(slot.dlv().load(Ordering::Relaxed)); // as in `examine`
        let ctl = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        (dlv == Dlv::ready(lap)
            && ctl.is_committed_at(lap)
            && slot.position().load(Ordering::Relaxed) == position)
            .then_some(Standing {
                position,
                dlv,
                slot,
            })
    }

    /// Asks for the lines of the message at `position`, if it is like `this` one: the first to
    /// write, as its lease will be a CAS.
    #[inline(always)]
    pub(super) fn ask_for(&self, position: u64, this: &Standing<'_>) {
        let slot = self.ring.memory.slot(position);
        slot.prefetch_first_line_to_write();
        slot.prefetch_up_to::<false>(self.end_of(this.meta().len() as usize));
    }
}
