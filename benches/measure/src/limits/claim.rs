//! The limit of two senders: a position claimed by an atomic operation on one
//! shared word, then 64 bytes written to the slot of that position.
//!
//! Nobody reads, and the ring wraps over what is old. Claiming by `fetch_add`
//! can't lose, but can't look before it claims either; the CAS loop can, and is
//! the reference for rings that must not overrun their readers.

use crate::drive::{self, Produce};
use crate::pages::Pages;
use crate::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const NAME: &str = "limit-claim";
pub(super) static CAS: Claim = Claim {
    name: NAME,
    adds: false,
};
pub(super) static ADD: Claim = Claim {
    name: "limit-claim-add",
    adds: true,
};

pub(super) struct Claim {
    name: &'static str,
    adds: bool,
}

impl Contender for Claim {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        if self.adds {
            "two senders claim slots by fetch_add and write them"
        } else {
            "two senders claim slots by a CAS loop and write them"
        }
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        vec![Offer::new(Scenario::Contended, Mode::Spin, 20_000_000).up_to(4096)]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let stride = if plan.stride == 0 {
            plan.size.next_multiple_of(64)
        } else {
            plan.stride
        };
        let slots = (plan.ring_bytes / stride).max(2);
        let slots = if slots.is_power_of_two() {
            slots
        } else {
            slots.next_power_of_two() / 2
        };
        if stride < plan.words() * 8 {
            return Err(
                format!("a slot of {stride} bytes holds no payload of {}", plan.size).into(),
            );
        }
        let pages = Pages::new(SLOTS_AT + slots * stride)?;
        let ring = Ring {
            pages: &pages,
            mask: slots as u64 - 1,
            stride,
            words: plan.words(),
        };
        if self.adds {
            drive::contended(plan, |_| Ok(Claimer::<true>::of(&ring)))
        } else {
            drive::contended(plan, |_| Ok(Claimer::<false>::of(&ring)))
        }
    }
}

const SLOTS_AT: usize = 4096;

struct Ring<'a> {
    pages: &'a Pages,
    mask: u64,
    stride: usize,
    words: usize,
}

struct Claimer<'a, const ADDS: bool> {
    ring: &'a Ring<'a>,
}

impl<'a, const ADDS: bool> Claimer<'a, ADDS> {
    fn of(ring: &'a Ring<'a>) -> Self {
        ring.pages.fault_in();
        Claimer { ring }
    }

    #[inline(always)]
    fn claim(&self) -> u64 {
        let tail = self.ring.pages.word(0);
        if ADDS {
            return tail.fetch_add(1, Ordering::AcqRel);
        }
        let mut position = tail.load(Ordering::Acquire);
        while let Err(now) =
            tail.compare_exchange_weak(position, position + 1, Ordering::AcqRel, Ordering::Acquire)
        {
            position = now;
        }
        position
    }
}

impl<const ADDS: bool> Produce for Claimer<'_, ADDS> {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        for number in first..first + count {
            let position = self.claim();
            let at = SLOTS_AT + (position & self.ring.mask) as usize * self.ring.stride;
            // SAFETY: the mask keeps the slot inside the pages, which were sized
            // for it; a stride is at least `words` words.
            let slot = unsafe { self.ring.pages.base().add(at).cast::<u64>() };
            for word in 1..self.ring.words {
                // SAFETY: as above. Atomic, since a sender that was suspended
                // for a whole lap writes to a slot that the other one has.
                unsafe { AtomicU64::from_ptr(slot.add(word)) }.store(number, Ordering::Relaxed);
            }
            // SAFETY: as above.
            unsafe { AtomicU64::from_ptr(slot) }.store(position + 1, Ordering::Release);
        }
        Ok(())
    }
}
