//! Receiving one message: lease it, or consume it at once; and what makes a message unfit for either.
//!
//! A lease is one CAS of exactly the word that was looked at, so of two receivers one gets it, and
//! whoever slept in between gets nothing. The body is copied behind the CAS and counts only if the
//! very same lease still stands afterwards: until then nobody can have deleted the message, and no
//! producer can have come.

use super::claim::lease_end;
use super::due::Run;
use super::{Delivery, Standing, Total};
use crate::layout::ring::Meta;
use crate::layout::word::{Ctl, Dlv};
use crate::ring::{Counter, Tenant};
use crate::sync::{Label, Ordering, fence_at, order};

/// A message in this participant's hands.
#[derive(Clone, Copy)]
pub struct Lease<'a> {
    pub standing: Standing<'a>,
    until: u64,
}

impl Lease<'_> {
    /// How often the message was received, this time included.
    #[inline(always)]
    pub fn receives(&self) -> u16 {
        self.standing.dlv.receives()
    }

    /// Whether it is over at `now`. Asked with a time that was read behind the CAS: who was stopped
    /// between reading the clock and the CAS may have been given a lease of the past, which others
    /// may take at once, and must not go on as its holder.
    #[inline(always)]
    pub fn has_ended(&self, now: u64) -> bool {
        self.until <= now
    }

    /// Whether the lease stood during everything that was loaded since it was given out.
    #[inline(always)]
    pub fn stands(&self) -> bool {
        self.standing.stands()
    }
}

impl<'a> Standing<'a> {
    /// Length, kind and the user's bits. True for this message if the CAS of its word succeeds.
    #[inline(always)]
    pub fn meta(&self) -> Meta {
        Meta(self.slot.meta().load(Ordering::Relaxed))
    }

    /// Whether nobody has done anything about the message since it was looked at.
    #[inline(always)]
    pub fn stands(&self) -> bool {
        fence_at(Label::LeaseFence, Ordering::Acquire);
        self.slot.dlv().load(Ordering::Relaxed) == self.dlv.0
    }

    /// The receive count that a receive of this message gets.
    #[inline(always)]
    pub fn next_receives(&self) -> u16 {
        match self.dlv.state() {
            Dlv::READY => 1,
            _ => Dlv::next_receive(self.dlv.receives()),
        }
    }

    /// Who holds its lease, whether it has ended or not, or is moving it; nobody is `None`.
    pub fn holder(&self) -> Option<u16> {
        let has_owner = matches!(self.dlv.state(), Dlv::INFLIGHT | Dlv::MOVING);
        let is_held = has_owner && self.dlv.owner() != 0;
        is_held.then_some(self.dlv.owner())
    }

    /// The receive count of a parked message.
    pub fn parked_after(&self) -> Option<u16> {
        self.dlv.is_parked().then_some(self.dlv.receives())
    }

    /// The participant that sent it: whoever claimed its slot. True for the message while it stands.
    #[inline(always)]
    pub fn sender(&self) -> u16 {
        Ctl(self.slot.ctl().load(Ordering::Relaxed)).owner()
    }

    /// When it was sent.
    #[inline(always)]
    pub fn sent(&self) -> u64 {
        self.slot.sent().load(Ordering::Relaxed)
    }

    /// How long ago that was.
    #[inline(always)]
    pub(super) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.sent())
    }
}

impl Delivery {
    /// Whether the message may be received now. One that is past its retention is consumed here,
    /// one that was received too often is parked.
    #[inline(always)]
    pub fn is_offered(
        &self,
        standing: &Standing<'_>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> bool {
        match standing.dlv.state() {
            Dlv::READY => {
                !self.may_be_past_retention(standing.age(now))
                    || !self.expire(standing, now, tenant)
            }
            Dlv::INFLIGHT => self.is_offered_again(standing, now, tenant),
            _ => false,
        }
    }

    /// Whether the message is clearly not past its retention.
    #[inline(always)]
    pub(super) fn is_young(&self, standing: &Standing<'_>, now: u64) -> bool {
        !self.may_be_past_retention(standing.age(now))
    }

    #[cold]
    fn is_offered_again(
        &self,
        standing: &Standing<'_>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> bool {
        if standing.position >= self.delivered_below() {
            // Its delay is over, and it is not on disk yet: looked at again in a millisecond.
            self.confirm_due(self.index_of(standing.position), now + 1);
            return false;
        }
        let is_offered = self.is_over(standing, now)
            && !self.expire(standing, now, tenant)
            && !self.park(standing);
        if is_offered {
            // Its receive count goes into the journal some time.
            self.note_changed(self.index_of(standing.position));
        }
        is_offered
    }

    /// Consumes a message that is past its retention, unless somebody is moving it. Whether it was.
    #[cold]
    pub(super) fn expire(
        &self,
        standing: &Standing<'_>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> bool {
        if standing.is_between() || standing.dlv.is_settled() || standing.age(now) <= self.retention_ms() {
            return false;
        }
        if self.is_fifo && standing.prev() == standing.position {
            // Not linked: without receivers it would be settled, and in the way for ever.
            self.link_up_to(standing.position + 1);
        }
        if self.consume(standing, tenant) {
            self.count(Total::Expired, 1);
        }
        true
    }

    /// Gives up a message whose body names nothing there is, or is not what it says: a peer
    /// scribbled. A chunk that is its own is freed.
    pub fn give_up(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) {
        if self.consume(standing, tenant) {
            self.ring.count(Counter::Damaged, 1);
        }
    }

    /// Sets a message aside that was received too often. Whether it was.
    pub(super) fn park(&self, standing: &Standing<'_>) -> bool {
        let receives = standing.dlv.receives();
        if receives < self.most_receives() {
            return false;
        }
        let parked = Dlv::parked(receives, standing.position);
        // On the way to a dead-letter queue this is but a step.
        if self.swap(standing, parked, Ordering::Relaxed) && self.redrive().is_none() {
            self.count(Total::Parked, 1);
        }
        true
    }

    /// Leases an offered message for `for_ms`; `None` when somebody was faster.
    #[inline(always)]
    pub fn lease<'a>(
        &self,
        standing: Standing<'a>,
        now: u64,
        for_ms: u32,
    ) -> Option<Lease<'a>> {
        let until = lease_end(now, for_ms);
        let index = self.index_of(standing.position);
        self.note_due(index, until);
        let lease = self.swap_to_lease(standing, until)?;
        self.confirm_due(index, until);
        Some(lease)
    }

    /// A lease that was given by an old time, as of `now`: the same message, the same count, and its end behind
    /// `now`. `None` where the message was received by another meanwhile, or is past its retention by now.
    #[cold]
    pub fn lease_anew<'a>(
        &self,
        lease: &Lease<'a>,
        now: u64,
        for_ms: u32,
        tenant: &mut dyn Tenant,
    ) -> Option<Lease<'a>> {
        let standing = lease.standing;
        if self.may_be_past_retention(standing.age(now)) && self.expire(&standing, now, tenant) {
            return None;
        }
        let until = lease_end(now, for_ms);
        let (index, lap) = (self.index_of(standing.position), self.lap_of(standing.position));
        self.note_due(index, until);
        let word = Dlv::inflight(self.ring.me, lease.receives(), until as u32, lap);
        if !self.swap(&standing, word, Ordering::Relaxed) {
            return None;
        }
        self.confirm_due(index, until);
        Some(Lease {
            standing: Standing {
                dlv: word,
                ..standing
            },
            until,
        })
    }

    /// [`lease`](Self::lease) of several in a row: the due words hear of them once.
    #[inline(always)]
    pub fn lease_in_run<'a>(&'a self, run: &mut Run<'a>, standing: Standing<'a>) -> Option<Lease<'a>> {
        run.note(self, self.index_of(standing.position));
        self.swap_to_lease(standing, run.until())
    }

    /// Asks for what the delete of the message at `position` will look at, long before it: a message
    /// that was received.
    #[inline(always)]
    pub fn prepare_delete(&self, position: u64) {
        if let Some(dedup) = &self.dedup {
            // Relaxed: a hint; whatever stands there.
            let slot = self.ring.memory.slot(position);
            dedup.prefetch_message(slot.dedup().load(Ordering::Relaxed));
        }
    }

    #[inline(always)]
    fn swap_to_lease<'a>(&self, standing: Standing<'a>, until: u64) -> Option<Lease<'a>> {
        let receives = standing.next_receives();
        let lap = self.lap_of(standing.position);
        let word = Dlv::inflight(self.ring.me, receives, until as u32, lap);
        // Relaxed: it publishes nothing, and what it takes was acquired by the looks before.
        if !self.swap(&standing, word, Ordering::Relaxed) {
            return None;
        }
        Some(Lease {
            standing: Standing {
                dlv: word,
                ..standing
            },
            until,
        })
    }

    /// Consumes a message: its word as it was seen → DONE (FIFO: or settled, see
    /// [`order`](super::order)). Whatever was copied before counts if this
    /// succeeds: the message stood all the time. Its payload is handed to the tenant.
    #[inline(always)]
    pub fn consume(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) -> bool {
        if self.is_fifo {
            return self.consume_in_turn(standing, tenant);
        }
        if standing.meta().kind() == Meta::CHUNK {
            return self.consume_payload(standing, tenant);
        }
        self.finish(standing).is_some()
    }

    #[cold]
    fn consume_payload(&self, standing: &Standing<'_>, tenant: &mut dyn Tenant) -> bool {
        let reference = self.read_reference(standing);
        let done = self.finish(standing);
        if let Some(done) = done {
            self.vacate(standing.position, done, reference, tenant);
        }
        done.is_some()
    }

    /// What names the payload of a message.
    pub(super) fn read_reference(&self, standing: &Standing<'_>) -> [u8; 24] {
        let mut reference = [0u8; 24];
        #[cfg(not(loom))]
        standing.slot.read_message(self.envelope, &mut reference);
        #[cfg(loom)]
        standing.slot.read_message(self.envelope, &mut reference[..8]);
        reference
    }

    /// The word by which the message is DONE; `None` when its word had changed.
    #[inline(always)]
    pub(super) fn finish(&self, standing: &Standing<'_>) -> Option<Dlv> {
        if let Some(dedup) = &self.dedup {
            // Relaxed: as the body. If it is another message's by now, the entry says so.
            let number = standing.slot.dedup().load(Ordering::Relaxed);
            dedup.seal_message(number, standing.position);
        }
        let done = self.done_word(standing.position, standing.dlv);
        let release = order(Label::DoneStore, Ordering::Release);
        if !self.swap(standing, done, release) {
            return None;
        }
        self.note_changed(self.index_of(standing.position));
        Some(done)
    }

    #[inline(always)]
    pub(super) fn swap(&self, standing: &Standing<'_>, to: Dlv, ordering: Ordering) -> bool {
        let dlv = standing.slot.dlv();
        dlv.compare_exchange(standing.dlv.0, to.0, ordering, Ordering::Relaxed)
            .is_ok()
    }
}
