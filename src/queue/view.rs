//! Receiving without a copy: a message looked at where it lies.
//!
//! The lease decides who may delete the message, and ends as every lease does. The pin keeps the bytes
//! where they are for as long as the view is open, whatever becomes of the message
//! ([`crate::ring::delivery::view`]): its slot, and the chunk of a large body, are not used again
//! under it. What its sender said beside the body is copied: it is checked before it is shown.
//!
//! The bytes of a view are stable among well-behaved processes. A hostile process with write
//! permission can change them while you look; receive a copy if that matters.

use super::envelope::Envelope;
use super::incoming::{Incoming, MessageOrigin, envelope_accessors};
use super::payload::Payloads;
use super::pod::wrong_length;
use super::take::{MOST_LATE, has_block};
use super::{AttributesRef, Inner, PodError, QueueReceiver, Receipt, Received};
use crate::error::{ReceiveError, SettleError};
use crate::ring::delivery::Delivery;
use crate::ring::delivery::consume::{Consumer, Finder};
use crate::ring::delivery::view::Pin;
use crate::sys::clock::{BootClock, Deadline};
use crate::trace::event;
use bytemuck::Pod;
use core::ops::Deref;
use std::time::Duration;

/// A received message in place, as long as its receiver is borrowed; its body by `Deref`.
///
/// It is leased like any other: when the visibility time-out has passed, others may receive and
/// delete it. The bytes stay all the same until the view is dropped; that costs the queue one slot.
/// One view at a time for each receiver; make further receivers for more. In a forked child it must
/// not be looked at (panics).
pub struct MessageView<'a> {
    receiver: &'a mut QueueReceiver,
    opened: Opened,
}

/// What a view is made of.
struct Opened {
    received: Received,
    data: *const u8,
    /// There until drop.
    pin: Option<Pin>,
    /// Of its payload, if that lies in the pool.
    reference: Option<[u8; 24]>,
}

impl QueueReceiver {
    /// Receives a message and shows it where it lies. `None` when there is none to be received now.
    /// Never blocks, copies no body, allocates only for attributes that are longer than any before,
    /// and makes no system call but that of [`try_receive`](Self::try_receive).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = std::env::temp_dir().join(format!("ringway-doc-view-{}", std::process::id()));
    /// # std::fs::create_dir_all(&root)?;
    /// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
    /// let frames = bus.queue("frames").open_or_create()?;
    /// frames.sender()?.send(&[7; 10_000])?;
    /// let mut receiver = frames.receiver()?;
    /// let view = receiver.try_receive_view()?.expect("a frame");
    /// assert_eq!(view.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 70_000);
    /// view.delete()?;
    /// # drop((receiver, frames, bus));
    /// # std::fs::remove_dir_all(&root)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReceiveError::TooManyViews`] leaves the message visible; as
    /// [`try_receive`](Self::try_receive), but for `BufferTooSmall`.
    #[inline]
    pub fn try_receive_view(&mut self) -> Result<Option<MessageView<'_>>, ReceiveError> {
        let opened = self.open_view()?;
        Ok(opened.map(|opened| MessageView {
            receiver: self,
            opened,
        }))
    }

    /// Waits up to `wait` for a message and shows it where it lies (long polling). `None` after that.
    /// Blocks by the [`Idle`](crate::Idle) that was set.
    ///
    /// # Errors
    /// As [`try_receive_view`](Self::try_receive_view).
    pub fn receive_view_within(
        &mut self,
        wait: Duration,
    ) -> Result<Option<MessageView<'_>>, ReceiveError> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(opened) = self.open_view()? {
                return Ok(Some(MessageView {
                    receiver: self,
                    opened,
                }));
            }
            if !self.wait(deadline.remaining())? {
                return Ok(None);
            }
        }
    }

    fn open_view(&mut self) -> Result<Option<Opened>, ReceiveError> {
        let now = self.begin()?;
        let is_counted = self.count_in_flight()?;
        let mut aside = core::mem::take(&mut self.scratch);
        let opened = self.open_in_turn(&mut aside, now);
        self.scratch = aside;
        if is_counted && !matches!(opened, Ok(Some(_))) {
            self.share.give_back();
        }
        let opened = opened?;
        if opened.is_none() {
            return self.nothing_yet(now);
        }
        self.note_received(1);
        Ok(opened)
    }

    fn open_in_turn(
        &mut self,
        aside: &mut Incoming,
        now: u64,
    ) -> Result<Option<Opened>, ReceiveError> {
        let for_ms = self.visibility_ms();
        if self.delivery.is_fifo() {
            let (inner, ring, clock) = (&self.inner, &self.delivery, &mut self.clock);
            let opened = open_from(inner, ring, &mut self.heads, clock, aside, for_ms);
            self.heads.hand_over_moves(&mut self.consumer);
            return opened;
        }
        let mut open =
            |inner: &Inner, ring: &Delivery, from: &mut Consumer, clock: &mut BootClock| {
                open_from(inner, ring, from, clock, aside, for_ms)
            };
        if self.rings.is_time(now)
            && let Some(opened) = self.take_beside(now, &mut open)?
        {
            return Ok(Some(opened));
        }
        let opened = open(
            &self.inner,
            &self.delivery,
            &mut self.consumer,
            &mut self.clock,
        )?;
        if opened.is_some() {
            return Ok(opened);
        }
        self.take_elsewhere(now, &mut open)
    }
}

/// Pins and leases a message of one ring of the queue, as its consumer finds it. Its attribute block
/// goes to `aside`.
fn open_from<F: Finder>(
    inner: &Inner,
    delivery: &Delivery,
    finder: &mut F,
    clock: &mut BootClock,
    aside: &mut Incoming,
    for_ms: u32,
) -> Result<Option<Opened>, ReceiveError> {
    let (mut now, mut late) = (clock.kept_ms(), 0);
    let mut payloads = Payloads::new(&inner.segments, inner.object_id);
    loop {
        let Some(standing) = finder.find(delivery, now, &mut payloads) else {
            return Ok(None);
        };
        let body = match inner.body(&standing) {
            Ok(Some(body)) => body,
            Ok(None) => {
                delivery.give_up(&standing, &mut payloads);
                continue;
            }
            Err(failure) => {
                finder.put_back(delivery, standing.position);
                return Err(ReceiveError::Pool(format!("{failure:?}")));
            }
        };
        let Some(pin) = delivery.pin(standing.position) else {
            finder.put_back(delivery, standing.position);
            return Err(ReceiveError::TooManyViews);
        };
        let (sent, sender) = (standing.sent(), standing.sender());
        let reference = body.reference();
        let leased = delivery.lease_pinned(pin, standing, now, for_ms, reference, &mut payloads);
        let Some((pin, lease)) = leased else {
            continue; // somebody was faster
        };
        let behind = clock.now_ms();
        if for_ms != 0 && lease.has_ended(behind) {
            // As in a receive that copies.
            delivery.end_view(pin, reference, &mut payloads);
            late += 1;
            if late == MOST_LATE {
                return Ok(None);
            }
            now = behind;
            continue;
        }
        if !finder.confirm(delivery, &lease, now) {
            delivery.end_view(pin, reference, &mut payloads);
            continue; // another one has the group
        }
        let data = inner.in_place(&lease.standing, body);
        let block = aside.block_mut(body.block(), sender);
        let is_whole = block.is_empty() || inner.copy(&lease.standing, body, 0, block);
        let (Some(data), true) = (data, is_whole && has_block(block)) else {
            delivery.end_view(pin, reference, &mut payloads);
            delivery.give_up(&lease.standing, &mut payloads);
            continue;
        };
        let received = Received {
            receipt: Receipt::new(inner.object_id, standing.position, lease.receives()),
            len: body.len(),
            sent_ms: inner.unix_ms(sent),
        };
        event!(
            TRACE,
            "received",
            queue = inner.name(),
            position = received.position(),
            receives = received.receives()
        );
        return Ok(Some(Opened {
            received,
            data,
            pin: Some(pin),
            reference,
        }));
    }
}

impl MessageView<'_> {
    /// Receipt, length and time.
    pub fn received(&self) -> Received {
        self.opened.received
    }

    /// To delete the message, or to change how long it stays invisible, from wherever.
    pub fn receipt(&self) -> Receipt {
        self.opened.received.receipt
    }

    envelope_accessors!();

    fn envelope(&self) -> Envelope<'_> {
        self.receiver.scratch.envelope()
    }

    fn claimer(&self) -> u16 {
        self.receiver.scratch.claimer()
    }

    /// The body as a value of plain old data, where it lies.
    ///
    /// # Errors
    /// [`PodError::WrongLength`], [`PodError::Misaligned`].
    pub fn pod<T: Pod>(&self) -> Result<&T, PodError> {
        if self.len() != size_of::<T>() {
            return Err(wrong_length::<T>(&self.opened.received));
        }
        bytemuck::try_from_bytes(self).map_err(|_| PodError::Misaligned {
            receipt: self.receipt(),
            align: align_of::<T>(),
        })
    }

    /// Closes the view and deletes its message. `true` when this call deleted it, `false` when it was
    /// gone already. In memory it waits for nobody; of a queue that is on disk it blocks for the disk, as
    /// [`QueueReceiver::delete`].
    ///
    /// # Errors
    /// [`SettleError::StaleReceipt`] when it was received again meanwhile: the message stays.
    pub fn delete(mut self) -> Result<bool, SettleError> {
        self.close();
        let receipt = self.receipt();
        self.receiver.delete(&receipt)
    }

    fn close(&mut self) {
        if self.receiver.is_of_parent() {
            return;
        }
        let Some(pin) = self.opened.pin.take() else {
            return;
        };
        let QueueReceiver {
            inner,
            delivery,
            rings,
            ..
        } = &*self.receiver;
        // The ring is still known: nobody has used the receiver since.
        let position = self.opened.received.position();
        let ring = match rings.beside(position) {
            Some(ring) if !rings.is_here(position) => ring,
            _ => delivery,
        };
        let mut payloads = Payloads::new(&inner.segments, inner.object_id);
        ring.end_view(pin, self.opened.reference, &mut payloads);
    }
}

impl Deref for MessageView<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        assert!(!self.receiver.is_of_parent(), "a view made before the fork");
        // SAFETY: `open_from` checked that the range lies inside a slot or a chunk, whose mapping the
        // receiver keeps; until drop the pin keeps everybody from writing there.
        unsafe { core::slice::from_raw_parts(self.opened.data, self.opened.received.len) }
    }
}

impl Drop for MessageView<'_> {
    fn drop(&mut self) {
        self.close();
    }
}
