//! Taking a message whole: find it, lease it or consume it, and copy it as long as that stands.
//!
//! The body is copied behind the lease, or between finding it and consuming it, and counts if the very word
//! that was swapped, or looked at, still stands. Most receives need none of this ([`run`](super::run)).
//!
//! # What each crash point leaves
//! A lease of a dead holder, which ends; or a message that is gone, of a receive that consumes.

use super::envelope::Envelope;
use super::payload::{Body, Payloads, plain_up_to};
use super::{Inner, QueueReceiver, Receipt, Received};
use crate::error::ReceiveError;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::consume::{Consumer, Finder};
use crate::ring::delivery::sweep::Census;
use crate::sys::clock::BootClock;
use crate::trace::event;

/// Leases in a row that may be over as soon as they are given out before a receive gives up: each is
/// a receive of the message.
pub(super) const MOST_LATE: u32 = 4;

/// A message that was taken: beside what everybody sees, what lies in front of its body.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub received: Received,
    /// Bytes of its attribute block.
    pub block: usize,
    /// The participant that sent it, where the message was taken whole.
    pub sender: u16,
}

/// What becomes of a message that is found.
#[derive(Clone, Copy)]
pub(super) enum Take {
    /// Leased for so many milliseconds.
    Lease(u32),
    /// Consumed.
    Consume,
}

impl QueueReceiver {
    /// Takes a message into `buffer`: whole, or its body alone.
    #[inline(always)]
    pub(super) fn take<const WHOLE: bool>(
        &mut self,
        buffer: &mut [u8],
        take: Take,
    ) -> Result<Option<Taken>, ReceiveError> {
        let now = self.begin()?;
        let is_counted = match take {
            Take::Lease(_) => self.count_in_flight()?,
            Take::Consume => false,
        };
        let taken = if self.delivery.is_fifo() {
            self.take_first_of_group::<WHOLE>(buffer, take)
        } else {
            self.take_in_turn::<WHOLE>(buffer, take, now)
        };
        if is_counted && !matches!(taken, Ok(Some(_))) {
            self.share.give_back();
        }
        let taken = taken?;
        if taken.is_none() {
            return self.nothing_yet(now);
        }
        self.note_received(1);
        Ok(taken)
    }

    /// Before a lease, where those in flight are limited: whether it was counted as one.
    ///
    /// # Errors
    /// [`ReceiveError::OverLimit`] when there may be no more.
    #[inline(always)]
    pub(super) fn count_in_flight(&mut self) -> Result<bool, ReceiveError> {
        let limit = self.delivery.max_in_flight();
        if limit == 0 {
            return Ok(false);
        }
        let (now, in_flight) = (self.clock.kept_ms(), |census: &Census| census.in_flight);
        match self.share.take(&self.inner, limit, now, in_flight) {
            true => Ok(true),
            false => Err(ReceiveError::OverLimit { limit }),
        }
    }

    /// Of a standard queue: the next message of the oldest ring.
    #[inline(always)]
    fn take_in_turn<const WHOLE: bool>(
        &mut self,
        buffer: &mut [u8],
        take: Take,
        now: u64,
    ) -> Result<Option<Taken>, ReceiveError> {
        let mut take =
            |inner: &Inner, ring: &Delivery, from: &mut Consumer, clock: &mut BootClock| {
                take_from::<WHOLE, _>(inner, ring, from, clock, buffer, take)
            };
        if self.rings.is_time(now)
            && let Some(taken) = self.take_beside(now, &mut take)?
        {
            return Ok(Some(taken));
        }
        let taken = take(
            &self.inner,
            &self.delivery,
            &mut self.consumer,
            &mut self.clock,
        )?;
        if taken.is_some() {
            return Ok(taken);
        }
        self.take_elsewhere(now, &mut take)
    }

    /// Of a FIFO queue, out of the way of standard ones.
    #[inline(never)]
    fn take_first_of_group<const WHOLE: bool>(
        &mut self,
        buffer: &mut [u8],
        take: Take,
    ) -> Result<Option<Taken>, ReceiveError> {
        let (inner, ring, clock) = (&self.inner, &self.delivery, &mut self.clock);
        let taken = take_from::<WHOLE, _>(inner, ring, &mut self.heads, clock, buffer, take)?;
        self.heads.hand_over_moves(&mut self.consumer);
        if let Some(taken) = &taken
            && !self.heads.is_in_batch()
        {
            self.delivery.prepare_delete(taken.received.position());
        }
        Ok(taken)
    }
}

/// Takes a message of one ring of the queue, as its consumer finds it.
#[inline(always)]
pub(super) fn take_from<const WHOLE: bool, F: Finder>(
    inner: &Inner,
    delivery: &Delivery,
    finder: &mut F,
    clock: &mut BootClock,
    buffer: &mut [u8],
    take: Take,
) -> Result<Option<Taken>, ReceiveError> {
    let (mut now, mut late) = (clock.kept_ms(), 0);
    let mut payloads = Payloads::new(&inner.segments, inner.object_id);
    loop {
        let found = finder.find(delivery, now, &mut payloads);
        let Some(standing) = found else {
            return Ok(None);
        };
        let body = match plain_up_to(standing.meta(), delivery.message_room()) {
            Some(len) => Body::inline(len),
            None => match inner.body(&standing) {
                Ok(Some(body)) => body,
                Ok(None) => {
                    delivery.give_up(&standing, &mut payloads);
                    continue;
                }
                Err(failure) => {
                    finder.put_back(delivery, standing.position);
                    return Err(ReceiveError::Pool(format!("{failure:?}")));
                }
            },
        };
        let given = buffer.len();
        let (offset, needed) = if WHOLE {
            (0, body.whole())
        } else {
            (body.block(), body.len())
        };
        let Some(out) = buffer.get_mut(..needed) else {
            if !standing.stands() {
                continue; // the length was another message's
            }
            finder.put_back(delivery, standing.position);
            return Err(ReceiveError::BufferTooSmall { needed, given });
        };
        let sent = standing.sent();
        let sender = if WHOLE { standing.sender() } else { 0 };
        let receives = match take {
            Take::Lease(for_ms) => {
                let Some(lease) = delivery.lease(standing, now, for_ms) else {
                    continue; // somebody was faster
                };
                let behind = clock.now_ms();
                if for_ms != 0 && lease.has_ended(behind) {
                    // This process was stopped under way. Again and again: it is too slow.
                    late += 1;
                    if late == MOST_LATE {
                        return Ok(None);
                    }
                    now = behind;
                    continue;
                }
                if !finder.confirm(delivery, &lease, now) {
                    continue; // another one has the group
                }
                let is_whole = inner.copy(&lease.standing, body, offset, out);
                if !lease.stands() {
                    continue; // this process slept for longer than the lease
                }
                if !is_whole || (WHOLE && !has_block(&out[..body.block()])) {
                    delivery.give_up(&lease.standing, &mut payloads);
                    continue;
                }
                lease.receives()
            }
            Take::Consume => {
                let receives = standing.next_receives();
                let Some(standing) = finder.hold(delivery, standing, now) else {
                    continue;
                };
                let is_whole = inner.copy(&standing, body, offset, out);
                if !is_whole || (WHOLE && !has_block(&out[..body.block()])) {
                    delivery.give_up(&standing, &mut payloads);
                    continue;
                }
                if !delivery.consume(&standing, &mut payloads) {
                    continue;
                }
                receives
            }
        };
        let received = Received {
            receipt: Receipt::new(inner.object_id, standing.position, receives),
            len: body.len(),
            sent_ms: inner.unix_ms(sent),
        };
        event!(
            TRACE,
            "received",
            queue = inner.name(),
            position = standing.position,
            receives = receives
        );
        return Ok(Some(Taken {
            received,
            block: body.block(),
            sender,
        }));
    }
}

/// Whether the copied block, if there is one, is what it says.
pub(super) fn has_block(block: &[u8]) -> bool {
    block.is_empty() || Envelope::parse(block).is_some()
}
