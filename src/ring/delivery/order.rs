//! The order within a message group of a FIFO queue.
//!
//! There is no word for a group. Its messages are a chain: each knows the one before it (`prev`) and
//! the one behind it (`next`), set once by whoever links it ([`super::link`]). A group is taken by
//! the `dlv` word of its first message, and three sentences say all:
//!
//! - **First**: a message is first when it is linked and the one before it is DONE, was none, or has
//!   left its slot. Once true that stays true, so who acts upon it late only fails.
//! - **Takeable**: only the first one is received, if it is READY, or its lease or delay has ended and
//!   no later one of its group is in flight. A batch goes on from there ([`super::heads`]).
//! - **In turn**: a message becomes DONE only when it is first. So DONE says it for all before it,
//!   and a slot that is used again does too. What is consumed out of turn (a delete inside a batch,
//!   retention, purge) becomes *settled*: it stays where it is, nobody receives it, and who makes the
//!   one before it DONE makes it DONE too, and so on along the chain.
//!
//! ```text
//! who consumes a         CAS a → DONE;     fence; look at a.next: b settled? make it DONE
//! who consumes b         CAS b → settled;  fence; look at a: DONE? make b DONE
//! who links b behind a   CAS a.next := b;  fence; look at a: DONE? b may be taken
//! ```
//! Each pair of lines has two words and two fences (SettleFence, LinkFence): one of the two sees the
//! other. What is found to be takeable is given as a hint to whoever receives ([`super::hints`]).
//!
//! # What each crash point leaves
//! Behind DONE, before the hint or before the next one is finished: a first message that nobody knows
//! of, READY or settled; behind settled, one whose lease has ended. Who reaps the dead looks at every
//! slot for such, and so does the rolling sweep.

use super::{Delivery, Standing};
use crate::layout::queue::{NO_MESSAGE, PARK_AFTER_RECEIVES};
use crate::layout::ring::Meta;
use crate::layout::word::Dlv;
use crate::ring::Tenant;
use crate::sync::{Label, Ordering, fence_behind_rmw, order};

/// How far the first of a group is looked for from one behind it: longer than any batch of SQS. From
/// further away it is the rolling sweep that finds it.
const BACK: usize = 64;

impl Delivery {
    /// Whether the message that stood at `position` is consumed.
    #[inline(always)]
    fn is_gone(&self, position: u64) -> bool {
        let slot = self.ring.memory.slot(position);
        // Acquire: what its consumer did before comes before what is done about the next one.
        let dlv = Dlv(slot.dlv().load(order(Label::TurnLoad, Ordering::Acquire)));
        dlv.state() == Dlv::DONE
            || slot.position().load(Ordering::Relaxed) != position
            || !dlv.agrees(position, self.lap_of(position))
    }

    /// Whether it is linked and every earlier message of its group is consumed.
    #[inline(always)]
    pub(super) fn is_first(&self, standing: &Standing<'_>) -> bool {
        let prev = standing.prev();
        prev != standing.position && (prev == NO_MESSAGE || self.is_gone(prev))
    }

    /// Whether the message may be received now; the FIFO form of `is_offered`. A settled one whose
    /// turn it is is made DONE here, on the way to it or in its place.
    pub fn is_takeable(&self, standing: &Standing<'_>, now: u64, tenant: &mut dyn Tenant) -> bool {
        match standing.dlv.state() {
            Dlv::READY => {
                (self.is_first(standing) || self.becomes_first(standing, tenant))
                    && (!self.may_be_past_retention(standing.age(now))
                        || !self.expire(standing, now, tenant))
            }
            Dlv::INFLIGHT if self.is_over(standing, now) => {
                let is_takeable = (self.is_first(standing)
                    || self.becomes_first(standing, tenant))
                    && !self.is_later_in_flight(standing, now)
                    && !self.expire(standing, now, tenant)
                    && !self.park(standing);
                if is_takeable {
                    // Its receive count goes into the journal some time.
                    self.note_changed(self.index_of(standing.position));
                }
                is_takeable
            }
            _ => {
                self.finish_settled(standing, tenant);
                false
            }
        }
    }

    /// Makes the message before it DONE if that one is settled and nobody has come to it yet.
    #[cold]
    fn becomes_first(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) -> bool {
        let prev = standing.prev();
        if prev != standing.position
            && let Some(before) = self.examine_exactly(prev)
        {
            self.finish_settled(&before, tenant);
        }
        self.is_first(standing)
    }

    /// Makes a settled message DONE if it is its turn.
    pub(super) fn finish_settled(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) {
        if standing.dlv.is_settled() && self.is_first(standing) {
            self.finish_first(standing, tenant);
        }
    }

    /// Whether nothing but its place in its group keeps the message from being received.
    pub(super) fn is_fit(&self, standing: &Standing<'_>, now: u64) -> bool {
        let is_visible = match standing.dlv.state() {
            Dlv::READY => true,
            Dlv::INFLIGHT => {
                self.is_over(standing, now) && standing.dlv.receives() < PARK_AFTER_RECEIVES
            }
            _ => false,
        };
        is_visible && standing.age(now) <= self.retention_ms()
    }

    /// Whether a message behind this one, which was received before, is in flight: its holder may
    /// still be at work on the group. Who never was received has nothing received behind it.
    pub(super) fn is_later_in_flight(&self, standing: &Standing<'_>, now: u64) -> bool {
        let mut at = *standing;
        for _ in 0..self.ring.memory.geometry().slots() {
            let next = at.next();
            let Some(later) = self.examine_exactly(next) else {
                return false;
            };
            if next <= at.position || later.prev() != at.position {
                return false;
            }
            match later.dlv.state() {
                Dlv::READY => return false,
                Dlv::INFLIGHT if later.dlv.receives() == 0 => return false,
                Dlv::INFLIGHT if !self.is_over(&later, now) => return true,
                _ => at = later,
            }
        }
        false
    }

    /// The first message of the group of a linked one, if it is not far.
    pub(super) fn first_before<'a>(&'a self, standing: &Standing<'a>) -> Option<Standing<'a>> {
        let mut at = *standing;
        for _ in 0..BACK {
            if self.is_first(&at) {
                return Some(at);
            }
            let prev = at.prev();
            if prev >= at.position {
                return None; // not linked
            }
            at = self.examine_exactly(prev)?;
        }
        None
    }

    /// Consumes a message of a FIFO queue: DONE if it is first, settled otherwise. Whether this call
    /// did it.
    #[inline(never)]
    pub(super) fn consume_in_turn(
        &self,
        standing: &Standing<'_>,
        tenant: &mut dyn Tenant,
    ) -> bool {
        if standing.dlv.is_settled() {
            self.finish_settled(standing, tenant);
            return false;
        }
        if self.is_first(standing) {
            return self.finish_first(standing, tenant);
        }
        let settled = Standing {
            dlv: Dlv::settled(standing.position),
            ..*standing
        };
        let release = order(Label::DoneStore, Ordering::Release);
        if !self.swap(standing, settled.dlv, release) {
            return false;
        }
        self.note_changed(self.index_of(standing.position));
        fence_behind_rmw(Label::SettleFence);
        if self.is_first(&settled) {
            self.finish_first(&settled, tenant);
        } else if let Some(first) = self.first_before(&settled) {
            // It may have waited for this one, which was in flight behind it.
            if first.dlv.state() == Dlv::INFLIGHT {
                self.give_hint(first.position);
            }
        }
        true
    }

    /// Makes a first message DONE, then every settled one behind it; hints at the one behind those.
    fn finish_first(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) -> bool {
        let Some(mut next) = self.finish_one(standing, tenant) else {
            return false;
        };
        for _ in 0..self.ring.memory.geometry().slots() {
            let Some(later) = next.and_then(|next| self.examine_exactly(next)) else {
                break;
            };
            if !later.dlv.is_settled() {
                self.give_hint(later.position);
                break;
            }
            if !self.is_first(&later) {
                break;
            }
            match self.finish_one(&later, tenant) {
                Some(behind) => next = behind,
                None => break, // who was faster goes on
            }
        }
        true
    }

    /// One first message → DONE. `None` when its word had changed; else the position behind it, if
    /// one is linked.
    fn finish_one(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) -> Option<Option<u64>> {
        // Before DONE: behind it a producer may take the slot at any time. Set once, so what is seen
        // here is true.
        let before = standing.next();
        let has_payload = standing.meta().kind() == Meta::CHUNK;
        let reference = has_payload.then(|| self.read_reference(standing));
        let done = self.finish(standing)?;
        if let Some(reference) = reference {
            self.vacate(standing.position, done, reference, tenant);
        }
        fence_behind_rmw(Label::SettleFence);
        let next = if before == standing.position {
            standing.next()
        } else {
            before
        };
        Some((next != standing.position).then_some(next))
    }

    /// Hints at the message in the slot of `at` if it is first and waits for somebody: for whoever
    /// finds that the one who knew of it is dead. One whose lease has ended may have waited for a later
    /// one, which the dead had deleted.
    pub(super) fn surface(&self, at: u64) {
        if let Some(standing) = self.examine(at)
            && (standing.dlv.state() == Dlv::READY
                || standing.dlv.is_settled()
                || standing.has_ended(self.clock.now_ms()))
            && self.is_first(&standing)
        {
            self.give_hint(standing.position);
        }
    }
}

impl Standing<'_> {
    /// The message before it in its group, [`NO_MESSAGE`], or its own position while it is not linked.
    #[inline(always)]
    pub(super) fn prev(&self) -> u64 {
        let load = order(Label::LinkLoad, Ordering::Acquire);
        self.slot.prev().load(load)
    }

    /// The message behind it in its group, or its own position while none is linked.
    #[inline(always)]
    pub(super) fn next(&self) -> u64 {
        let load = order(Label::LinkLoad, Ordering::Acquire);
        self.slot.next().load(load)
    }
}
