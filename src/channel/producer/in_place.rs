//! Sending bodies that are written where they are read: inside the slot, while its claim is open.
//!
//! What fills a slot must be quick, since a claim that stays open for the stall time-out is abandoned; a panic
//! there leaves the position empty, and a fork leaves the claim to the parent.

use super::{FIRST_LINE_BODY, OpenClaim, Producer, Vacate, commit, start_over};
use crate::error::SendError;
use crate::layout::ring::{Meta, SLOT_HEADER};
use crate::ring::SlotRing;
use crate::ring::claim::Claim;
use crate::ring::commit::Lost;
use crate::ring::pace::AHEAD;
use crate::sys::fork;

impl Producer {
    /// Sends a body of `len` bytes that `fill` writes in place, inside the claimed slot.
    ///
    /// `fill` must be quick: a claim that stays open for the stall time-out is abandoned and the
    /// call starts over. Only for bodies up to [`inline_bytes`](Self::inline_bytes); use
    /// [`loan`](Self::loan) for larger ones. A panic in `fill` leaves the position empty.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); `TooLarge` for a longer body.
    #[inline]
    pub fn try_send_with(
        &mut self,
        len: usize,
        mut fill: impl FnMut(&mut [u8]),
    ) -> Result<u64, SendError> {
        match self.fill_clear(len, &mut fill) {
            Ok(position) => {
                self.wake();
                Ok(position)
            }
            Err(lost) => self.try_send_with_slowly(len, lost, &mut fill),
        }
    }

    /// Sends a body of three parts, one behind the other, where the next position is clear and they fit into its
    /// slot. Else nothing is sent, and it says what became of a claim if there was one. Nothing of the caller's
    /// runs while the claim is open, so that neither a panic nor a fork has to be expected there.
    #[inline(always)]
    pub(crate) fn try_send_parts_clear<const WORDS: usize>(
        &mut self,
        head: [u64; WORDS],
        middle: &[u8],
        end: &[u8],
    ) -> Result<u64, Option<Lost>> {
        let ring = &self.ring;
        let claim = self.appender.at_next(ring);
        if !self.appender.is_clear()
            || self.generation != fork::generation()
            || !claim.has_room_for(8 * WORDS, middle.len(), end.len())
        {
            return Err(None);
        }
        let len = 8 * WORDS + middle.len() + end.len();
        claim.prefetch(!self.exclusive, false);
        claim.prefetch_body(len);
        let claim = if self.exclusive {
            if !ring.is_producer(self.seat) {
                return Err(None);
            }
            self.appender.make_clear_exclusive(&claim);
            claim
        } else {
            self.appender.make_clear(claim).ok_or(None)?
        };
        claim.fill_parts(Meta::new(len as u32, Meta::INLINE, 0), head, middle, end);
        let position = claim.position;
        commit(&mut self.appender, ring, self.exclusive, claim).map_err(Some)?;
        self.ask_ahead(position, len);
        self.wake();
        Ok(position)
    }

    /// Who reads is far from there, or has long been: its lines travel while nobody waits for them.
    #[inline(always)]
    fn ask_ahead(&self, position: u64, len: usize) {
        let ahead = position + AHEAD;
        if self.appender.is_free(ahead) {
            let slot = self.ring.memory().slot(ahead);
            slot.prefetch_first_line_to_write();
            slot.prefetch_up_to::<true>(SLOT_HEADER + len);
        }
    }

    /// [`try_send_with`](Self::try_send_with) where the next position is clear, without a wake. Else the long
    /// way has to go on, as behind [`append_clear`](Self::append_clear).
    #[inline(always)]
    fn fill_clear(
        &mut self,
        len: usize,
        fill: &mut impl FnMut(&mut [u8]),
    ) -> Result<u64, Option<Lost>> {
        let ring = &self.ring;
        let slot = ring.memory().slot(self.appender.next());
        if !self.appender.is_clear()
            || len > slot.room()
            || self.generation != fork::generation()
            || self.is_displaced()
        {
            return Err(None);
        }
        if !self.exclusive {
            slot.prefetch_first_line_to_write();
        }
        slot.prefetch_up_to::<true>(SLOT_HEADER + len);
        let claim = match self.exclusive {
            true => self.appender.claim_clear_exclusive(ring),
            false => self.appender.claim_clear(ring).ok_or(None)?,
        };
        let claim = fill_claim(ring, self.exclusive, claim, len, fill);
        if self.generation != fork::generation() {
            return Err(None); // `fill` returned in a child: the claim is the parent's
        }
        if self.is_displaced() {
            return Err(None); // the slot is the next producer's
        }
        claim.write_header(Meta::new(len as u32, Meta::INLINE, 0));
        let position = claim.position;
        commit(&mut self.appender, ring, self.exclusive, claim).map_err(Some)?;
        self.ask_ahead(position, len);
        Ok(position)
    }

    #[cold]
    #[inline(never)]
    fn try_send_with_slowly(
        &mut self,
        len: usize,
        lost: Option<Lost>,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<u64, SendError> {
        if let Some(lost) = lost {
            start_over(lost, self.appender.next() - 1)?;
        }
        if len > self.inline_bytes {
            return Err(SendError::TooLarge {
                len,
                max: self.inline_bytes,
            });
        }
        loop {
            let next = self.ring.memory().slot(self.appender.next());
            if !self.exclusive {
                next.prefetch_first_line_to_write();
            }
            next.prefetch_up_to::<true>(SLOT_HEADER + len);
            let (ring, claim) = claim!(self);
            let claim = fill_claim(ring, self.exclusive, claim, len, fill);
            if self.generation != fork::generation() {
                // `fill` returned in a child: the claim is the parent's.
                return Err(SendError::Forked);
            }
            if self.is_displaced() {
                return Err(SendError::Stale); // the slot is the next producer's
            }
            claim.write_header(Meta::new(len as u32, Meta::INLINE, 0));
            let position = claim.position;
            match commit(&mut self.appender, ring, self.exclusive, claim) {
                Ok(()) => {
                    self.wake();
                    return Ok(position);
                }
                Err(lost) => start_over(lost, position)?,
            }
        }
    }

    /// Sends bodies of the lengths that `len` says, each written in place by `fill`, as many as are clear:
    /// those from the next position on that need neither a look at `trim` nor a chunk of the pool. Tells
    /// `sent` the position of each. One look at the clock, the fork and the wake for all.
    pub(crate) fn send_clear_run<B>(
        &mut self,
        bodies: &[B],
        len: impl Fn(&B) -> usize,
        mut fill: impl FnMut(&B, &mut [u8]),
        mut sent: impl FnMut(&B, u64),
    ) -> usize {
        if self.generation != fork::generation() || self.exclusive {
            return 0;
        }
        let mut count = 0;
        let ring = &self.ring;
        for (claim, body) in self.appender.run(ring, bodies.len() as u64).zip(bodies) {
            let len = len(body);
            if len > claim.room() {
                break;
            }
            claim.prefetch(true, len > FIRST_LINE_BODY);
            let Some(claim) = self.appender.make_clear(claim) else {
                break;
            };
            let position = claim.position;
            let claim = fill_claim(ring, false, claim, len, &mut |out| fill(body, out));
            claim.write_header(Meta::new(len as u32, Meta::INLINE, 0));
            if self.appender.commit(ring, claim).is_err() {
                break; // abandoned, given back, and nothing was visible; the next call meets what is wrong
            }
            sent(body, position);
            count += 1;
        }
        if count > 0 {
            self.wake();
        }
        count
    }
}

/// The body of a claim, by `fill` in place.
#[inline(always)]
fn fill_claim<'a>(
    ring: &'a SlotRing,
    exclusive: bool,
    claim: Claim<'a>,
    len: usize,
    fill: &mut (impl FnMut(&mut [u8]) + ?Sized),
) -> Claim<'a> {
    let slot = ring.memory().slot(claim.position);
    assert!(len <= slot.room());
    let mut open = OpenClaim {
        ring,
        exclusive,
        claim: Some(claim),
    };
    // SAFETY: len <= room of the slot, just asserted; the claim makes this the only writer among
    // well-behaved processes, and readers validate what they copied.
    fill(unsafe { core::slice::from_raw_parts_mut(slot.body(), len) });
    let claim = open.claim.take().expect("set above");
    core::mem::forget(open); // it was for a panic in `fill`
    claim
}
