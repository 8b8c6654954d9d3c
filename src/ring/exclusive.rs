//! Appending to an exclusive ring: plain stores, no read-modify-write.
//!
//! Only the holder of the producer word writes any `ctl`, so nobody abandons, HELD does not occur,
//! and the store CLAIMED – fence(Release) – body – store COMMITTED(Release) is all there is. The
//! word passes on only from a proven dead holder; the successor turns the one claim that may have
//! been left into VOID. A stopped holder keeps the word: others get Busy. One who is proven dead and
//! writes all the same, since its program closed the descriptor of its lock, looks at the word before each
//! record and writes no more ([`SlotRing::is_producer`]); one record that it had begun may meet its
//! successor's.

use super::claim::{Appender, Blocked, Claim};
use super::commit::HINT_EVERY;
use super::reclaim::Verdict;
use super::{Counter, SlotRing, Tenant};
use crate::layout::word::{Ctl, LAP_SEALED};
use crate::sync::{Label, Ordering, fence_at, order};

impl Appender {
    /// Starts at the tail of a ring whose producer word the caller holds, and voids what a dead
    /// predecessor left claimed.
    pub fn new_exclusive(ring: &SlotRing) -> Self {
        let mut appender = Self::new(ring);
        appender.next = ring.tail_now();
        appender.free_below = 0;
        // Claims are taken and committed one by one, so only the last position can be claimed.
        if let Some(last) = appender.next.checked_sub(1) {
            let slot = ring.memory.slot(last);
            let word = Ctl(slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
            if word.state() == Ctl::CLAIMED {
                slot.ctl().store(
                    Ctl::new(Ctl::VOID, 0, word.lap()).0,
                    order(Label::VoidStore, Ordering::Release),
                );
                ring.count(Counter::Voided, 1);
            }
        }
        appender
    }

    /// Claims the next position by a plain store.
    ///
    /// # Errors
    /// See [`Blocked`].
    #[inline(always)]
    pub fn claim_exclusive<'a>(
        &mut self,
        ring: &'a SlotRing,
        tenant: &mut dyn Tenant,
    ) -> Result<Claim<'a>, Blocked> {
        if !self.is_clear() {
            self.prepare_exclusive(ring, tenant)?;
        }
        Ok(self.claim_clear_exclusive(ring))
    }

    /// Claims the next position, which is known to be free: see [`Appender::is_clear`].
    #[inline(always)]
    pub fn claim_clear_exclusive<'a>(&mut self, ring: &'a SlotRing) -> Claim<'a> {
        let claim = self.at_next(ring);
        self.make_clear_exclusive(&claim);
        claim
    }

    /// Makes the claim of a [`run`](Appender::run).
    #[inline(always)]
    pub fn make_clear_exclusive(&mut self, claim: &Claim<'_>) {
        claim.slot.ctl().store(claim.claimed.0, Ordering::Relaxed);
        fence_at(Label::ClaimFence, Ordering::Release);
        self.next = claim.position + 1;
    }

    /// Everything but the common claim: room, and the tail hint.
    #[cold]
    #[inline(never)]
    fn prepare_exclusive(&mut self, ring: &SlotRing, tenant: &mut dyn Tenant) -> Result<(), Blocked> {
        if self.next >= self.hint_at {
            ring.memory.tail().store(self.next, Ordering::Relaxed); // derived: checked before use
            self.age_window(HINT_EVERY as u32);
            self.hint_followed();
        }
        if self.next >= self.free_below {
            self.make_room(ring, tenant)?;
        }
        self.set_clear_below();
        Ok(())
    }

    /// Moves `next` to a slot that may be overwritten.
    fn make_room(&mut self, ring: &SlotRing, tenant: &mut dyn Tenant) -> Result<(), Blocked> {
        for _ in 0..=ring.memory.geometry().slots() {
            let p = self.next;
            let lap = ring.memory.geometry().lap_of(p);
            let slot = ring.memory.slot(p);
            let word = Ctl(slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
            if word.lap() == LAP_SEALED {
                return Err(Blocked::Sealed);
            }
            if word.lap() >= lap {
                return Err(Blocked::Corrupt);
            }
            if word.state() != Ctl::COMMITTED {
                // VOID; or a leftover claim that nobody can own beside us. From here to the next
                // position that `reclaim` says nothing about, no look is needed.
                self.free_below = self.reclaim(ring).saturating_add(ring.memory.geometry().slots());
                return Ok(());
            }
            match self.judge(ring, slot, word, p, tenant) {
                Verdict::Free => return Ok(()),
                Verdict::Full { by } => return Err(Blocked::Full { by }),
                Verdict::Renew => {
                    // Release: a reader that takes the record from the renewed word still has to
                    // see the commit behind it.
                    slot.ctl().store(
                        word.at_lap(lap).0,
                        order(Label::CommitStore, Ordering::Release),
                    );
                    ring.count(Counter::Renewed, 1);
                    self.step_over()?;
                }
            }
        }
        Err(Blocked::Full { by: self.protection.holder() })
    }

    /// Makes the record visible by a plain store.
    #[inline(always)]
    pub fn commit_exclusive(&mut self, _ring: &SlotRing, claim: Claim<'_>) -> u64 {
        claim.slot.ctl().store(claim.committed().0, order(Label::CommitStore, Ordering::Release));
        claim.position
    }

    /// Gives a claim up: the position stays empty.
    pub fn abort_exclusive(claim: Claim<'_>) {
        claim.slot.ctl().store(
            Ctl::new(Ctl::VOID, 0, claim.claimed.lap()).0,
            order(Label::VoidStore, Ordering::Release),
        );
    }
}
