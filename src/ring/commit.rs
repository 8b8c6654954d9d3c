//! Commit, abort, and the acknowledgement of an abandoned claim.

use super::SlotRing;
use super::claim::{Appender, Claim};
use crate::layout::ring::Meta;
use crate::layout::word::Ctl;
use crate::sync::{Label, Ordering, order};

/// How often the tail hint follows: every 32 positions. A hint that is older costs a newcomer at
/// most that many steps; one per append would cost the hint's line each time.
pub(super) const HINT_EVERY: u64 = 32;

/// The claim was abandoned before the commit: nothing was visible, the slot is given back, and
/// the same body may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Abandoned,
    /// The slot's word is none that the protocol allows here: a peer scribbled.
    Corrupt,
}

impl Appender {
    /// Stores the header of a claimed record.
    #[inline(always)]
    pub fn write_header(&self, ring: &SlotRing, claim: &Claim, meta: Meta) {
        let slot = ring.memory().slot(claim.position);
        // Relaxed: only the owner of the claim writes; ClaimFence and CommitStore order them.
        slot.position().store(claim.position, Ordering::Relaxed);
        slot.meta().store(meta.0, Ordering::Relaxed);
    }

    /// Makes the record visible.
    ///
    /// # Errors
    /// [`Lost`] when somebody abandoned the claim meanwhile.
    #[inline(always)]
    pub fn commit(&mut self, ring: &SlotRing, claim: Claim) -> Result<u64, Lost> {
        let position = claim.position;
        let lap = ring.memory().geometry().lap_of(position);
        let slot = ring.memory().slot(position);
        let claimed = Ctl::new(Ctl::CLAIMED, ring.me(), lap);
        let committed = Ctl::new(Ctl::COMMITTED, ring.me(), lap);
        if slot
            .ctl()
            .compare_exchange(
                claimed.0,
                committed.0,
                order(Label::CommitStore, Ordering::Release),
                Ordering::Relaxed, // acknowledge() looks again
            )
            .is_err()
        {
            return Err(ring.acknowledge(&claim));
        }
        if position % HINT_EVERY == HINT_EVERY - 1 {
            self.advance_hint(ring, position + 1);
        }
        Ok(position)
    }

    /// Gives a claim up before its commit: the position stays empty.
    pub fn abort(&mut self, ring: &SlotRing, claim: Claim) {
        let lap = ring.memory().geometry().lap_of(claim.position);
        let slot = ring.memory().slot(claim.position);
        let claimed = Ctl::new(Ctl::CLAIMED, ring.me(), lap);
        let void = Ctl::new(Ctl::VOID, 0, lap);
        if slot
            .ctl()
            .compare_exchange(
                claimed.0,
                void.0,
                order(Label::VoidStore, Ordering::Release),
                Ordering::Relaxed,
            )
            .is_err()
        {
            ring.acknowledge(&claim);
        }
    }

    #[cold]
    fn advance_hint(&mut self, ring: &SlotRing, tail: u64) {
        let hint = ring.memory().tail();
        let seen = hint.load(Ordering::Relaxed); // derived: checked before use
        if seen < tail {
            let _ = hint.compare_exchange(seen, tail, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.age_window(HINT_EVERY as u32);
    }
}

impl SlotRing {
    /// HELD(me, any lap) → VOID(same lap): our last store into the slot is done.
    #[cold]
    fn acknowledge(&self, claim: &Claim) -> Lost {
        let slot = self.memory.slot(claim.position);
        loop {
            let word = Ctl(slot.ctl().load(Ordering::Relaxed));
            if word.state() != Ctl::HELD || word.owner() != self.me {
                return Lost::Corrupt;
            }
            // A producer one lap later may renew HELD meanwhile: repeat with the new lap. Each
            // repetition needs N claims of others in between.
            if slot
                .ctl()
                .compare_exchange(
                    word.0,
                    Ctl::new(Ctl::VOID, 0, word.lap()).0,
                    order(Label::VoidStore, Ordering::Release),
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                return Lost::Abandoned;
            }
        }
    }
}
