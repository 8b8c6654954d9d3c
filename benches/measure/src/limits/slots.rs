//! The throughput limit: a ring of slots, each with a word that says it is full.
//!
//! ```text
//! slot: full u64 = position + 1 | payload, size − 8 bytes | up to the stride
//! ```
//! The sender copies a payload from private memory and stores `full` with
//! Release, once for each slot; the receiver polls `full`, and reads every byte
//! where it lies. It says how far it is once every quarter of the ring, which
//! is the only line that moves backwards.

use crate::drive::{self, Consume, Produce};
use crate::pages::{LINE_PAIR, Pages};
use crate::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const NAME: &str = "limit-slots";

pub(super) struct Slots;

impl Contender for Slots {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "a ring of slots, one release store each, one sender and one receiver (--ring-bytes, --stride)"
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        let scenarios = [
            Scenario::Throughput,
            Scenario::Batch,
            Scenario::Queue,
            Scenario::QueueBatch,
            Scenario::Fifo,
        ];
        scenarios
            .map(|scenario| Offer::new(scenario, Mode::Spin, 50_000_000).up_to(64 * 1024))
            .to_vec()
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let ring = Ring::of(plan)?;
        drive::throughput(plan, |_| Ok(Sender::of(&ring)), |_| Ok(Receiver::of(&ring)))
    }
}

/// Slots from 4096 on; the receiver's progress in the page before.
struct Ring {
    pages: Pages,
    slots: u64,
    stride: usize,
    words: usize,
}

const SLOTS_AT: usize = 4096;

impl Ring {
    fn of(plan: &Plan) -> Result<Ring> {
        let least = plan.words() * 8;
        let stride = if plan.stride == 0 {
            least.next_multiple_of(64)
        } else {
            plan.stride
        };
        if stride < least {
            return Err(
                format!("a slot of {stride} bytes holds no payload of {}", plan.size).into(),
            );
        }
        // A power of two, so that a slot is found by a mask, as any real ring would.
        let slots = (plan.ring_bytes / stride).max(1);
        let slots = if slots.is_power_of_two() {
            slots
        } else {
            slots.next_power_of_two() / 2
        };
        if slots < 8 {
            return Err(format!(
                "a ring of {} bytes has too few slots of {stride}",
                plan.ring_bytes
            )
            .into());
        }
        let pages = Pages::new(SLOTS_AT + slots * stride + LINE_PAIR)?;
        Ok(Ring {
            pages,
            slots: slots as u64,
            stride,
            words: plan.words(),
        })
    }

    #[inline(always)]
    fn slot(&self, position: u64) -> *mut u64 {
        let at = SLOTS_AT + (position & (self.slots - 1)) as usize * self.stride;
        // SAFETY: the mask keeps the slot below `slots`, for which the pages were sized.
        unsafe { self.pages.base().add(at).cast() }
    }

    fn progress(&self) -> &AtomicU64 {
        self.pages.word(0)
    }
}

struct Sender<'a> {
    ring: &'a Ring,
    payload: Vec<u64>,
    next: u64,
    taken: u64,
}

impl<'a> Sender<'a> {
    fn of(ring: &'a Ring) -> Self {
        ring.pages.fault_in();
        Sender {
            ring,
            payload: vec![1; ring.words - 1],
            next: 0,
            taken: 0,
        }
    }
}

impl Produce for Sender<'_> {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        assert_eq!(first, self.next, "numbers are positions here");
        for position in first..first + count {
            while position - self.taken >= self.ring.slots {
                self.taken = self.ring.progress().load(Ordering::Acquire);
            }
            let slot = self.ring.slot(position);
            // SAFETY: the slot has room for `words` words; the receiver is done
            // with it (progress, read with Acquire) and doesn't look at more
            // than `full` before the store below.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.payload.as_ptr(),
                    slot.add(1),
                    self.payload.len(),
                );
                AtomicU64::from_ptr(slot).store(position + 1, Ordering::Release);
            }
        }
        self.next = first + count;
        Ok(())
    }
}

struct Receiver<'a> {
    ring: &'a Ring,
    next: u64,
}

impl<'a> Receiver<'a> {
    fn of(ring: &'a Ring) -> Self {
        ring.pages.fault_in();
        Receiver { ring, next: 0 }
    }
}

impl Consume for Receiver<'_> {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let (mut sum, mut read) = (0u64, 0u64);
        let report_mask = self.ring.slots / 4 - 1;
        for position in self.next..self.next + count {
            let slot = self.ring.slot(position);
            // SAFETY: an aligned word of the mapping, only ever accessed atomically.
            let full = unsafe { AtomicU64::from_ptr(slot) };
            let mut seen = full.load(Ordering::Acquire);
            while seen != position + 1 {
                seen = full.load(Ordering::Acquire);
            }
            // SAFETY: `full` was read with Acquire after the sender's stores, and
            // the sender leaves the slot alone until progress passes it.
            let payload = unsafe { std::slice::from_raw_parts(slot.add(1), self.ring.words - 1) };
            read = payload
                .iter()
                .fold(read, |read, &word| read.wrapping_add(word));
            sum = sum.wrapping_add(seen - 1);
            if position & report_mask == report_mask {
                self.ring.progress().store(position + 1, Ordering::Release);
            }
        }
        self.next += count;
        self.ring.progress().store(self.next, Ordering::Release);
        if read != count.wrapping_mul(self.ring.words as u64 - 1) {
            return Err("a slot held other bytes than were sent".into());
        }
        Ok(sum)
    }
}
