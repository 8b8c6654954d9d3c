//! Sending what is decided late: a record whose place is certain before somebody decides whether it is to be.
//!
//! For who has to make something happen with a record or not at all, and may be refused a place. A claim is
//! open while that is decided: dying there leaves an empty place, and standing still there costs the claim.

use super::{OpenClaim, Producer, Vacate, commit, start_over};
use crate::error::SendError;
use crate::layout::ring::{ChunkRef, Meta};
use crate::pool::lend::Lent;
use crate::sync::Ordering;
use crate::sys::fork;
use std::time::Duration;

impl Producer {
    /// Claims the place of `body`, asks `decide`, and commits the record if that says so: what else has to
    /// happen with a record happens between its place being certain and its being seen. Its position.
    ///
    /// Where `decide` takes longer than the stall time-out the claim may be abandoned: then the record is
    /// sent anew, waiting up to `patience` for room.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send) before `decide` was asked, as [`send`](Self::send) behind it.
    pub(crate) fn send_if<E>(
        &mut self,
        body: &[u8],
        patience: Duration,
        decide: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Result<Option<u64>, E>, SendError> {
        let large = match body.len() > self.inline_bytes {
            true => Some(self.lend_copy(body)?),
            false => None,
        };
        if large.is_some() && self.generation == fork::generation() {
            self.ring.memory().payloads().store(1, Ordering::Relaxed); // ordered by the commit
        }
        let outcome = self.commit_if(body, large, decide);
        match (&outcome, large) {
            (Ok((_, true)), Some(lent)) => self.lender.attach(lent),
            (_, Some(lent)) => self.lender.put_back(lent),
            (_, None) => {}
        }
        match outcome? {
            (Ok(Some(position)), true) => {
                self.wake();
                Ok(Ok(Some(position)))
            }
            (Ok(Some(_)), false) => self.send(body, patience).map(|position| Ok(Some(position))),
            (other, _) => Ok(other),
        }
    }

    /// The claim of [`send_if`](Self::send_if): what was decided, and whether the record stands.
    #[allow(clippy::type_complexity)] // two facts, told apart by one caller
    fn commit_if<E>(
        &mut self,
        body: &[u8],
        large: Option<Lent>,
        decide: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(Result<Option<u64>, E>, bool), SendError> {
        let (ring, claim) = claim!(self);
        let position = claim.position;
        match large {
            Some(lent) => {
                self.lender.address(lent, self.inner.object_id, position);
                let reference = ChunkRef {
                    segment: lent.segment,
                    chunk: lent.chunk,
                    version: lent.version,
                    len: body.len() as u64,
                };
                let words: [u64; 3] = bytemuck::cast(reference);
                let bytes = bytemuck::bytes_of(&words);
                claim.fill(ring, Meta::new(bytes.len() as u32, Meta::CHUNK, 0), bytes);
            }
            None => claim.fill(ring, Meta::new(body.len() as u32, Meta::INLINE, 0), body),
        }
        // A panic in `decide` leaves the position empty.
        let mut open = OpenClaim {
            ring,
            exclusive: self.exclusive,
            claim: Some(claim),
        };
        let decided = decide();
        if self.generation != fork::generation() {
            return Err(SendError::Forked); // the claim is the parent's
        }
        match decided {
            Ok(true) => {}
            Ok(false) => return Ok((Ok(None), false)),
            Err(error) => return Ok((Err(error), false)),
        }
        let claim = open.claim.take().expect("set above");
        drop(open);
        match commit(&mut self.appender, ring, self.exclusive, claim) {
            Ok(()) => Ok((Ok(Some(position)), true)),
            Err(lost) => start_over(lost, position).map(|()| (Ok(Some(position)), false)),
        }
    }
}
