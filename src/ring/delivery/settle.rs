//! Settling a receipt: delete, extend, nack. Exact or nothing.
//!
//! A receipt names position and receive count. It fits as long as the message was not received
//! again and is not gone; then each of these is one CAS of the word that was found to fit. Whoever
//! holds the receipt may settle it, whichever process received the message.

use super::claim::lease_end;
use super::{Delivery, Standing};
use crate::layout::ring::Meta;
use crate::layout::word::{Ctl, Dlv};
use crate::ring::Tenant;
use crate::sync::{Label, Ordering, order};

/// What became of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done by this call.
    Done,
    /// The message is gone: deleted, purged, past its retention, or on its way to another queue.
    Gone,
    /// It was received again, and counts so many receives now; or it was parked.
    Stale {
        receives: u16,
    },
    /// The receipt fits, but the lease is over: the message may be received at any moment.
    Over,
}

impl Delivery {
    /// The message that a receipt speaks of, as long as it fits.
    fn fitting(&self, position: u64, receives: u16) -> Result<Standing<'_>, Settled> {
        let Some(standing) = self.examine(position) else {
            return Err(Settled::Gone);
        };
        if standing.position != position
            || standing.is_between()
            || standing.dlv.is_settled()
        {
            return Err(Settled::Gone);
        }
        if standing.dlv.state() != Dlv::INFLIGHT || standing.dlv.receives() != receives {
            let receives = match standing.dlv.state() {
                Dlv::READY => 0,
                _ => standing.dlv.receives(),
            };
            return Err(Settled::Stale { receives });
        }
        Ok(standing)
    }

    /// Deletes the message, if it is like most: leased as the receipt says, never renewed, its body
    /// in the slot. `false` says nothing.
    #[inline(always)]
    pub fn delete_plain(&self, position: u64, receives: u16) -> bool {
        if !self.is_plain {
            return false;
        }
        let slot = self.ring.memory.slot(position);
        let lap = self.lap_of(position);
        let dlv = Dlv(slot.dlv().load(Ordering::Relaxed)); // as in `examine`
        let ctl = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let standing = Standing {
            position,
            dlv,
            slot,
        };
        dlv.is_leased_as(receives, lap)
            && ctl.is_committed_at(lap)
            && slot.position().load(Ordering::Relaxed) == position
            && standing.meta().kind() != Meta::CHUNK
            && {
                // Nothing else is to be told of it: plain is without a table and without a journal.
                let done = self.done_at(position, lap, dlv);
                self.swap(&standing, done, order(Label::DoneStore, Ordering::Release))
            }
    }

    /// Deletes the message. At most a few turns: the word of a fitting receipt changes only when
    /// somebody else settles the same receipt.
    #[inline]
    pub fn delete(&self, position: u64, receives: u16, tenant: &mut dyn Tenant) -> Settled {
        loop {
            match self.fitting(position, receives) {
                Ok(standing) if self.consume(&standing, tenant) => return Settled::Done,
                Ok(_) => {}
                Err(settled) => return settled,
            }
        }
    }

    /// Moves the end of the lease to `for_ms` from now, 0 for at once; whoever does so becomes its
    /// owner.
    pub fn extend(&self, position: u64, receives: u16, now: u64, for_ms: u32) -> Settled {
        self.change(position, receives, now, for_ms, self.ring.me)
    }

    /// Gives the message back: it is received again in `delay_ms`, and nobody's death matters to it.
    pub fn nack(&self, position: u64, receives: u16, now: u64, delay_ms: u32) -> Settled {
        self.change(position, receives, now, delay_ms, 0)
    }

    fn change(&self, position: u64, receives: u16, now: u64, for_ms: u32, owner: u16) -> Settled {
        let until = lease_end(now, for_ms);
        let index = self.index_of(position);
        let lap = self.lap_of(position);
        loop {
            let standing = match self.fitting(position, receives) {
                Ok(standing) => standing,
                Err(settled) => return settled,
            };
            if self.is_over(&standing, now) {
                return Settled::Over;
            }
            self.note_due(index, until);
            let word = Dlv::inflight(owner, receives, until as u32, lap);
            if self.swap(&standing, word, Ordering::Relaxed) {
                self.confirm_due(index, until);
                // `now` may be old: then the lease that was given is over already.
                if owner != 0 && for_ms != 0 && until <= self.clock.now_ms() {
                    return Settled::Over;
                }
                return Settled::Done;
            }
        }
    }
}
