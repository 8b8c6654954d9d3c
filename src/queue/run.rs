//! Receiving what is plain: the common case of a receive, and of a batch, several plain messages one
//! behind the other.
//!
//! Plain is a message whose body lies in its slot, without attributes, never received, and with
//! nothing to come back to in front of it: then a receive is a swap and a copy. Whatever is not goes
//! the whole way.
//!
//! A run is leased and copied first, then handed over, so the clock is read once behind their swaps
//! and the due words are told once: between the two nothing of the caller's runs.
//! Standard queues only: a FIFO queue goes by groups.

use super::incoming::Incoming;
use super::payload::plain_up_to;
use super::receive::Received;
use super::{Inner, QueueReceiver, Receipt};
use crate::layout::queue::Envelope;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::consume::Consumer;
use crate::ring::delivery::due::Run;
use crate::sys::clock::BootClock;
use crate::trace::event;

/// Messages of one run; more follow in the next.
const LONGEST: usize = 16;

/// A message of a run: what was received, where its body begins, who sent it.
#[derive(Clone, Copy)]
struct Item {
    received: Received,
    from: usize,
    sender: u16,
}

impl QueueReceiver {
    /// Takes the next message, if it is plain and fits.
    #[inline(always)]
    pub(super) fn take_plain(&mut self, buffer: &mut [u8], for_ms: u32) -> Option<Received> {
        let now = self.clock.kept_ms();
        let standing = self.consumer.peek(&self.delivery, now)?;
        self.consumer.note_length(&standing);
        let slot = standing.slot();
        let len = plain_up_to(standing.meta(), slot.message_room(Envelope::Standard))?;
        let out = buffer.get_mut(..len)?;
        let sent = standing.sent();
        self.consumer.pass(&self.delivery, &standing);
        let lease = self.delivery.lease(standing, now, for_ms)?;
        if for_ms != 0 && lease.has_ended(self.clock.now_ms()) {
            return None; // this process was stopped under way
        }
        slot.read_message(Envelope::Standard, out);
        if !lease.stands() {
            return None; // this process slept for longer than the lease
        }
        let received = Received {
            receipt: Receipt::new(self.inner.object_id, standing.position, lease.receives()),
            len,
            sent_ms: self.inner.unix_ms(sent),
        };
        event!(
            TRACE,
            "received",
            queue = self.inner.name(),
            position = received.position(),
            receives = received.receives()
        );
        self.note_received(1);
        Some(received)
    }

    /// Takes up to `max` messages, while they are plain, and hands them to `each`; how many.
    pub(super) fn take_run(
        &mut self,
        max: usize,
        for_ms: u32,
        scratch: &mut Incoming,
        each: &mut impl FnMut(Received, &Incoming),
    ) -> usize {
        let mut items = [const { None }; LONGEST];
        let count = take_run_from(
            &self.inner,
            &self.delivery,
            &mut self.consumer,
            &mut self.clock,
            scratch.bytes_mut(),
            &mut items[..max.min(LONGEST)],
            for_ms,
        );
        for item in items[..count].iter().flatten() {
            event!(
                TRACE,
                "received",
                queue = self.inner.name(),
                position = item.received.position(),
                receives = item.received.receives()
            );
            self.consumer.give(item.received.position());
        }
        self.note_received(count as u64);
        for item in items[..count].iter().flatten() {
            scratch.show(item.from, item.received.len, item.sender);
            each(item.received, scratch);
        }
        count
    }
}

/// Leases and copies a run of one ring of the queue; how many. None where their leases were over
/// before they were known to be given out: this process was stopped under way, and they are visible.
#[inline(always)]
fn take_run_from(
    inner: &Inner,
    delivery: &Delivery,
    consumer: &mut Consumer,
    clock: &mut BootClock,
    bytes: &mut Vec<u8>,
    items: &mut [Option<Item>],
    for_ms: u32,
) -> usize {
    let now = clock.kept_ms();
    let mut run = Run::new(now, for_ms);
    let (mut count, mut from) = (0, 0);
    while count < items.len() {
        let Some(standing) = consumer.peek(delivery, now) else {
            break;
        };
        let slot = standing.slot();
        let Some(len) = plain_up_to(standing.meta(), slot.message_room(Envelope::Standard)) else {
            break;
        };
        if bytes.len() < from + len {
            bytes.resize((from + len).next_power_of_two(), 0);
        }
        consumer.pass(delivery, &standing);
        let (sent, sender) = (standing.sent(), standing.sender());
        let Some(lease) = delivery.lease_in_run(&mut run, standing) else {
            continue; // somebody was faster
        };
        slot.read_message(Envelope::Standard, &mut bytes[from..from + len]);
        if !lease.stands() {
            continue; // this process slept for longer than the lease
        }
        let received = Received {
            receipt: Receipt::new(inner.object_id, standing.position, lease.receives()),
            len,
            sent_ms: inner.unix_ms(sent),
        };
        items[count] = Some(Item {
            received,
            from,
            sender,
        });
        (count, from) = (count + 1, from + len);
    }
    run.confirm();
    if count > 0 && for_ms != 0 && run.until() <= clock.now_ms() {
        return 0;
    }
    count
}
