//! Commit, abort, and the acknowledgement of an abandoned claim.

use super::SlotRing;
use super::claim::{Appender, Claim};
use crate::layout::ring::{Meta, SLOT_HEADER};
use crate::layout::word::Ctl;
use crate::sync::{Label, Ordering, order};

/// How often the tail hint follows: every 64 positions, with the claim behind them. A hint that is
/// older costs a newcomer at most that many steps; one per append would cost the hint's line each
/// time.
pub(crate) const HINT_EVERY: u64 = 64;

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
    pub fn fill(&self, _ring: &SlotRing, meta: Meta, body: &[u8]) {
        self.write_header(meta);
        self.slot.write_body(body);
    }

    /// Bytes of body that fit.
    #[inline(always)]
    pub fn room(&self) -> usize {
        self.slot.room()
    }

    /// Asks for the lines that the claim will write: the first ahead of a look at it, the second
    /// ahead of a body that reaches into it.
    #[inline(always)]
    pub fn prefetch(&self, first: bool, second: bool) {
        if first {
            self.slot.prefetch_first_line_to_write();
        }
        if second {
            self.slot.prefetch_second_line::<true>();
        }
    }

    /// [`fill`](Self::fill) for a body of 8 to 64 bytes.
    #[inline(always)]
    pub fn fill_short(&self, meta: Meta, body: &[u8]) {
        self.write_header(meta);
        self.slot.write_short_body(body);
    }

    /// [`fill`](Self::fill) for a body of three parts, one behind the other. No model has parts.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn fill_parts<const WORDS: usize>(
        &self,
        meta: Meta,
        head: [u64; WORDS],
        middle: &[u8],
        end: &[u8],
    ) {
        self.write_header(meta);
        self.slot.write_parts(head, middle, end);
    }

    /// Whether a body of three parts of these lengths fits.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn has_room_for(&self, head: usize, middle: usize, end: usize) -> bool {
        self.slot.has_room_for(head, middle, end)
    }

    /// Asks for the lines of a body of `len` bytes behind the first.
    #[inline(always)]
    pub fn prefetch_body(&self, len: usize) {
        self.slot.prefetch_up_to::<true>(SLOT_HEADER + len);
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
                claim.claimed.0,
                claim.committed().0,
                order(Label::CommitStore, Ordering::Release),
                Ordering::Relaxed, // acknowledge() looks again
            )
            .is_err()
        {
            return Err(ring.acknowledge(&claim));
        }
        Ok(position)
    }

    /// Gives a claim up before its commit: the position stays empty.
    pub fn abort(ring: &SlotRing, claim: Claim<'_>) {
        if claim
            .slot
            .ctl()
            .compare_exchange(
                claim.claimed.0,
                Ctl::new(Ctl::VOID, 0, claim.claimed.lap()).0,
                order(Label::VoidStore, Ordering::Release),
                Ordering::Relaxed,
            )
            .is_err()
        {
            ring.acknowledge(&claim);
        }
    }

    /// Lets the tail hint follow to where the next claim is tried.
    pub(super) fn advance_hint(&mut self, ring: &SlotRing) {
        let hint = ring.memory().tail();
        let seen = hint.load(Ordering::Relaxed); // derived: checked before use
        if seen < self.next {
            let _ = hint.compare_exchange(seen, self.next, Ordering::Relaxed, Ordering::Relaxed);
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
