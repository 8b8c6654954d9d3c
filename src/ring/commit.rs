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

impl Claim<'_> {
    /// Stores header and body of the record.
    #[inline(always)]
    pub fn fill(&self, ring: &SlotRing, meta: Meta, body: &[u8]) {
        self.write_header(meta);
        self.slot.write_body(ring.memory().geometry(), body);
    }

    /// Stores the header alone; the body was written in place.
    #[inline(always)]
    pub fn write_header(&self, meta: Meta) {
        // Relaxed: only the owner of the claim writes; ClaimFence and CommitStore order them.
        self.slot.position().store(self.position, Ordering::Relaxed);
        self.slot.meta().store(meta.0, Ordering::Relaxed);
    }
}

impl Appender {
    /// Makes the record visible.
    ///
    /// # Errors
    /// [`Lost`] when somebody abandoned the claim meanwhile.
    #[inline(always)]
    pub fn commit(&mut self, ring: &SlotRing, claim: Claim<'_>) -> Result<u64, Lost> {
        let position = claim.position;
        if claim
            .slot
            .ctl()
            .compare_exchange(
                Ctl::new(Ctl::CLAIMED, ring.me(), claim.lap).0,
                Ctl::new(Ctl::COMMITTED, ring.me(), claim.lap).0,
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
    pub fn abort(ring: &SlotRing, claim: Claim<'_>) {
        if claim
            .slot
            .ctl()
            .compare_exchange(
                Ctl::new(Ctl::CLAIMED, ring.me(), claim.lap).0,
                Ctl::new(Ctl::VOID, 0, claim.lap).0,
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
    fn acknowledge(&self, claim: &Claim<'_>) -> Lost {
        let slot = claim.slot;
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
