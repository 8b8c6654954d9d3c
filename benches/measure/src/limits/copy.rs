//! The limit of large payloads: memcpy into a shared ring and out again.
//!
//! Both sides copy, from and to private buffers that stay in their caches; the
//! ring's two counters move once a payload. How large the ring is decides how
//! far the sides can be apart, and so which cache the receiver reads from.

use crate::drive::{self, Consume, Produce};
use crate::pages::{LINE_PAIR, Pages};
use crate::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const NAME: &str = "limit-copy";

pub(super) struct Copy;

impl Contender for Copy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "payloads copied into a shared ring by one process and out by the other (--ring-bytes)"
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        vec![Offer::new(Scenario::Copy, Mode::Spin, 200_000)]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let stride = plan.size.next_multiple_of(64);
        // At least two, or the sides would take turns.
        let slots = (plan.ring_bytes / stride).max(2) as u64;
        let pages = Pages::new(SLOTS_AT + slots as usize * stride)?;
        let ring = Ring {
            pages,
            slots,
            stride,
        };
        let end = || {
            ring.pages.fault_in();
            End {
                ring: &ring,
                buffer: vec![1u8; plan.size],
                position: 0,
                other: 0,
            }
        };
        drive::throughput(plan, |_| Ok(Sender(end())), |_| Ok(Receiver(end())))
    }
}

const SLOTS_AT: usize = 4096;

struct Ring {
    pages: Pages,
    slots: u64,
    stride: usize,
}

impl Ring {
    fn sent(&self) -> &AtomicU64 {
        self.pages.word(0)
    }

    fn taken(&self) -> &AtomicU64 {
        self.pages.word(LINE_PAIR)
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> *mut u8 {
        let at = SLOTS_AT + (position % self.slots) as usize * self.stride;
        // SAFETY: the remainder keeps the slot inside the pages, sized for `slots` of them.
        unsafe { self.pages.base().add(at) }
    }
}

struct End<'a> {
    ring: &'a Ring,
    buffer: Vec<u8>,
    position: u64,
    other: u64,
}

struct Sender<'a>(End<'a>);

impl Produce for Sender<'_> {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        let end = &mut self.0;
        for number in first..first + count {
            while end.position - end.other >= end.ring.slots {
                end.other = end.ring.taken().load(Ordering::Acquire);
            }
            end.buffer[..8].copy_from_slice(&number.to_le_bytes());
            // SAFETY: a slot holds a whole buffer, and is the sender's alone
            // until `sent` passes it.
            unsafe {
                let slot = end.ring.slot(end.position);
                std::ptr::copy_nonoverlapping(end.buffer.as_ptr(), slot, end.buffer.len());
            }
            end.position += 1;
            end.ring.sent().store(end.position, Ordering::Release);
        }
        Ok(())
    }
}

struct Receiver<'a>(End<'a>);

impl Consume for Receiver<'_> {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let end = &mut self.0;
        let mut sum = 0u64;
        for _ in 0..count {
            while end.other <= end.position {
                end.other = end.ring.sent().load(Ordering::Acquire);
            }
            // SAFETY: a slot holds a whole buffer; `sent` has passed it, and the
            // sender comes back to it only when `taken` has.
            unsafe {
                let slot = end.ring.slot(end.position);
                std::ptr::copy_nonoverlapping(slot, end.buffer.as_mut_ptr(), end.buffer.len());
            }
            end.position += 1;
            end.ring.taken().store(end.position, Ordering::Release);
            let head = std::hint::black_box(&end.buffer)[..8].try_into()?;
            sum = sum.wrapping_add(u64::from_le_bytes(head));
        }
        Ok(sum)
    }
}
