//! Views: looking at a leased message in place, for longer than the lease lasts.
//!
//! A view outlives its lease: another receiver may get the message and delete it while the view is
//! open. So its slot, and the chunk of its payload, must not be used again under it. Who looks stores
//! a *pin* first, one word that names him and the position, and leases then:
//!
//! ```text
//! who looks       pin := (me, p);   fence;   CAS dlv → INFLIGHT(me …)          … pin := 0
//! who consumes    load dlv;         fence;   look at the pins of p;   CAS exactly that dlv → DONE
//! ```
//! Both change the same word, so one of the two CAS is first. If it is the lease, who consumes has
//! loaded that lease or a later word, and sees the pin: the message becomes DONE *viewed*. If it is
//! DONE, there is no lease and no view. Nobody can begin to look at a message that is DONE. So a pin
//! that is not there when the message becomes DONE never will be, and costs nobody anything. A pin whose
//! lease came too late is given back like that of a view: who was faster may have seen it.
//!
//! A producer that meets DONE, viewed, looks at the pins itself: pinned by anybody who is not proven
//! dead, the slot is renewed in place and stepped over; else it is free. A view that is never closed
//! costs one slot. The pins of a position are found in one cache line ([`QueueWords::pins_of`]), and a
//! queue whose messages were never looked at in place is told by one word that is only read.
//!
//! # The payload
//! Who makes the message DONE frees the chunk if it was not viewed. Else whoever is last does:
//!
//! ```text
//! who consumes    CAS dlv → DONE, viewed;   fence;   no pin any more?   free the chunk
//! who looked      pin := 0;                 fence;   DONE, and no other pin?   free the chunk
//! ```
//! One of the two sees the other; both may, and then the version in the chunk's word lets one of them
//! free it.
//!
//! # What each crash point leaves
//! - behind the pin: a pin of the dead. Producers do not count it, the reaper takes it away.
//! - behind taking the pin away, or behind DONE, before the chunk is freed: a chunk that no message
//!   names, which the reaper frees as ever.
//!
//! [`QueueWords::pins_of`]: crate::shm::queue::QueueWords::pins_of

use super::lease::Lease;
use super::{Delivery, Standing};
use crate::layout::word::{Dlv, ViewPin};
use crate::ring::Tenant;
use crate::sync::{AtomicU64, Label, Ordering, fence_at, fence_behind_rmw, order};

/// The pin of one open view: given back by [`Delivery::end_view`].
#[derive(Debug)]
pub struct Pin {
    position: u64,
    /// Among the pins of its position.
    place: usize,
}

impl Delivery {
    /// Pins the message at `position`, before it is leased to be looked at in place. `None` when as
    /// many as have room in its line are pinned.
    pub fn pin(&self, position: u64) -> Option<Pin> {
        let views = self.words.views();
        if views.load(Ordering::Relaxed) == 0 {
            views.store(1, Ordering::Relaxed); // ordered as the pin itself
        }
        let wanted = ViewPin::new(self.ring.me, position);
        let take = order(Label::ViewLook, Ordering::Acquire);
        let is_taken = |pin: &AtomicU64| {
            pin.load(Ordering::Relaxed) == 0
                && pin
                    .compare_exchange(0, wanted.0, take, Ordering::Relaxed)
                    .is_ok()
        };
        let place = self.words.pins_of(position).iter().position(is_taken)?;
        fence_at(Label::ViewPin, Ordering::Release);
        Some(Pin { position, place })
    }

    /// Leases a message under its pin. `None` when somebody was faster: then the pin is given back, and
    /// with it `reference`, of the payload as the message was seen. Who was faster may have deleted the
    /// message by now, and left its payload to whom it saw looking.
    #[inline]
    pub fn lease_pinned<'a>(
        &self,
        pin: Pin,
        standing: Standing<'a>,
        now: u64,
        for_ms: u32,
        reference: Option<[u8; 24]>,
        tenant: &mut dyn Tenant,
    ) -> Option<(Pin, Lease<'a>)> {
        match self.lease(standing, now, for_ms) {
            Some(lease) => Some((pin, lease)),
            None => {
                self.end_view(pin, reference, tenant);
                None
            }
        }
    }

    /// Gives a pin back: nothing is looked at any more. `reference`: of the payload of the message; it
    /// goes to the tenant if the message is gone and nobody else looks at it.
    #[inline]
    pub fn end_view(&self, pin: Pin, reference: Option<[u8; 24]>, tenant: &mut dyn Tenant) {
        let position = pin.position;
        let end = order(Label::ViewEnd, Ordering::Release);
        self.words.pins_of(position)[pin.place].store(0, end);
        if let Some(reference) = reference {
            self.vacate_behind_view(position, reference, tenant);
        }
    }

    #[cold]
    fn vacate_behind_view(&self, position: u64, reference: [u8; 24], tenant: &mut dyn Tenant) {
        fence_at(Label::ViewClose, Ordering::SeqCst);
        let dlv = Dlv(self.ring.memory.slot(position).dlv().load(Ordering::Relaxed));
        // A word of another message: this one was DONE before.
        let is_gone = dlv.state() == Dlv::DONE || !dlv.agrees(position, self.lap_of(position));
        if is_gone && !self.is_pinned(position) {
            tenant.vacated(position, reference);
        }
    }

    /// Behind DONE of a message with a payload: the reference goes to the tenant unless somebody
    /// looks at it still, who then sees to it.
    pub(super) fn vacate(
        &self,
        position: u64,
        done: Dlv,
        reference: [u8; 24],
        tenant: &mut dyn Tenant,
    ) {
        if !done.is_free() {
            fence_behind_rmw(Label::ViewKept);
            if self.is_pinned(position) {
                return;
            }
        }
        tenant.vacated(position, reference);
    }

    /// The word by which the message at `position` becomes DONE, whose word is `seen`.
    #[inline(always)]
    pub(super) fn done_word(&self, position: u64, seen: Dlv) -> Dlv {
        self.done_at(position, self.lap_of(position), seen)
    }

    /// The same for what stands in the slot of `at`, as of `lap`.
    #[inline(always)]
    pub(super) fn done_at(&self, at: u64, lap: u64, seen: Dlv) -> Dlv {
        // What was never received was never looked at.
        if seen.state() == Dlv::READY {
            return Dlv::done(lap);
        }
        fence_at(Label::ViewScan, Ordering::Acquire);
        if self.words.views().load(Ordering::Relaxed) == 0 || !self.is_pinned(at) {
            return Dlv::done(lap);
        }
        Dlv::done_viewed(lap)
    }

    /// Whether the slot of `position` is pinned, by whomever.
    fn is_pinned(&self, position: u64) -> bool {
        self.pins(position).next().is_some()
    }

    /// Who looks at what stands in the slot of `position` and is not proven dead.
    pub fn viewer(&self, position: u64) -> Option<u16> {
        self.pins(position)
            .map(ViewPin::owner)
            .find(|owner| *owner == self.ring.me || !self.ring.is_dead(*owner))
    }

    /// The pins of the slot of `position`. In another ring of the queue the same pins may be those of
    /// a slot as well: that costs a slot there, for a while.
    fn pins(&self, position: u64) -> impl Iterator<Item = ViewPin> {
        let slots = self.ring.memory.geometry().slots();
        self.words
            .pins_of(position)
            .iter()
            .map(|pin| ViewPin(pin.load(order(Label::ViewLook, Ordering::Acquire))))
            .filter(move |pin| pin.is_of_slot(position, slots))
    }

    /// Takes away every pin of the dead `owner`. For its reaper, who has the entry in its hands: its
    /// number means nobody else meanwhile.
    pub(super) fn release_pins(&self, owner: u16) {
        if self.words.views().load(Ordering::Relaxed) == 0 {
            return;
        }
        for pin in self.all_pins() {
            let seen = pin.load(Ordering::Relaxed); // the CAS decides
            if ViewPin(seen).owner() == owner {
                let end = order(Label::ViewEnd, Ordering::AcqRel);
                let _ = pin.compare_exchange(seen, 0, end, Ordering::Relaxed);
            }
        }
    }

    /// Whether anybody who is not proven dead looks at a message of this queue.
    pub fn is_viewed(&self) -> bool {
        self.all_pins().any(|pin| {
            let owner = ViewPin(pin.load(Ordering::Relaxed)).owner();
            owner != 0 && (owner == self.ring.me || !self.ring.is_dead(owner))
        })
    }

    fn all_pins(&self) -> impl Iterator<Item = &AtomicU64> {
        #[cfg(not(loom))]
        let buckets = crate::layout::queue::PIN_BUCKETS as u64;
        #[cfg(loom)]
        let buckets = 1;
        (0..buckets).flat_map(|bucket| self.words.pins_of(bucket))
    }
}
