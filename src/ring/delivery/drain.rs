//! Whether a sealed ring is done with: nothing in it will ever be received, settled or committed.
//!
//! In a sealed ring every position is taken, so nobody claims a slot again. VOID and HELD never
//! become a message (the owner of a HELD one finds its commit refused, and only its late stores hit
//! the slot), a COMMITTED one whose `dlv` is DONE stays so: what was found to be done with is so for
//! ever, and a look goes on where the last one stopped. A message that is DONE and looked at in place
//! keeps its ring until the view is closed. Only an open claim may still commit; one that
//! hangs is voided when its owner is dead and abandoned when it is stopped, as by any reader.

use super::Delivery;
use crate::layout::word::{Ctl, Dlv};
use crate::sync::{Label, Ordering, order};

const NS_PER_MS: u64 = 1_000_000;

/// How far one observer has looked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drain {
    /// Every slot below is done with.
    below: u64,
    /// The open claim that stands there, and since when, in ms.
    open: Option<(Ctl, u64)>,
}

impl Drain {
    /// Every slot below is done with.
    pub fn below(&self) -> u64 {
        self.below
    }
}

impl Delivery {
    /// Looks at up to `most` slots from where `drain` stands; whether all of the ring are done with.
    /// Only for a ring that was seen sealed.
    pub fn is_drained(&self, drain: &mut Drain, most: u64, now: u64) -> bool {
        let slots = self.ring.memory.geometry().slots();
        let until = slots.min(drain.below.saturating_add(most));
        while drain.below < until {
            let at = drain.below;
            let slot = self.ring.memory.slot(at);
            let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
            match word.state() {
                Ctl::CLAIMED => {
                    let since = match drain.open {
                        Some((open, since)) if open == word => since,
                        _ => now,
                    };
                    drain.open = Some((word, since));
                    let waited = now.saturating_sub(since) * NS_PER_MS;
                    if !self.ring.resolve(at, word, waited) {
                        return false;
                    }
                    continue; // it is something else now
                }
                Ctl::COMMITTED => {
                    let load = order(Label::ReuseLoad, Ordering::Acquire);
                    let dlv = Dlv(slot.dlv().load(load));
                    let holds_something = match dlv.state() {
                        Dlv::DONE => !dlv.is_free() && self.viewer(at).is_some(),
                        // A damaged one is given up by the look at it.
                        _ => self.examine(at).is_some(),
                    };
                    if holds_something {
                        return false;
                    }
                }
                _ => {}
            }
            drain.below += 1;
        }
        drain.below == slots
    }
}
