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
use crate::error::ReceiveError;
use crate::layout::queue::Envelope;
use crate::layout::queue::NEVER;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::consume::Consumer;
use crate::ring::delivery::due::Run;
use crate::ring::delivery::lease::Lease;
use crate::sys::clock::BootClock;
use crate::sys::fork;
use crate::trace::event;

/// A receiver that goes by a kept time looks at the clock first where something is due so soon: what is due
/// comes before what is new, whatever the time since the last receive, up to this.
const DUE_AHEAD_MS: u64 = 1_000;
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
    /// [`try_receive`](Self::try_receive) as most are: all in registers, nothing out of line. `None`: nothing was
    /// received, and `try_receive` does it or says why not.
    #[doc(hidden)]
    #[inline(always)]
    pub fn receive_at_once(&mut self, buffer: &mut [u8]) -> Option<Received> {
        match self.is_quiet() {
            true => self.take_plain::<true>(buffer),
            false => None,
        }
    }

    /// As [`try_receive`](Self::try_receive), by the clock, and with everything that is done by the way.
    #[inline(never)]
    pub(super) fn try_receive_with_care(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<Received>, ReceiveError> {
        if self.delivery.is_fifo() {
            let taken = self.take::<false>(buffer, self.leased())?;
            return Ok(taken.map(|taken| taken.received));
        }
        let now = self.begin()?;
        if self.is_in_plain_turn(now) {
            if self.rings.is_alone()
                && self.consumer.sees_nothing_new(&self.delivery, now)
                && self.poll.is_none()
                && !super::is_removed(&self.delivery)
            {
                self.note_quiet(now);
                return Ok(None);
            }
            if let Some(received) = self.take_plain::<false>(buffer) {
                self.note_quiet(now);
                return Ok(Some(received));
            }
        }
        let taken = self.take::<false>(buffer, self.leased())?;
        self.note_quiet(now);
        Ok(taken.map(|taken| taken.received))
    }

    /// Whether the next message may be taken as if it was like most. Where those in flight are limited
    /// each is counted.
    #[inline(always)]
    pub(super) fn is_in_plain_turn(&self, now: u64) -> bool {
        !self.delivery.is_fifo() && !self.rings.is_time(now) && self.delivery.max_in_flight() == 0
    }

    /// Whether there is nothing to look for but a message at the cursor, as far as is known: neither the clock here
    /// nor that of a receiver that swept has gone on since the last look that found it so. So where others poll, who
    /// comes back after a while leases nothing by the time of then, which they would find over.
    #[inline(always)]
    fn is_quiet(&self) -> bool {
        self.generation == fork::generation()
            && self.clock.kept_ms() == self.quiet_at
            && self.delivery.last_sweep() <= self.quiet_at
            && self.delivery.max_in_flight() == 0
    }

    /// Behind a look at everything, which began at `now`.
    #[inline(always)]
    pub(super) fn note_quiet(&mut self, now: u64) {
        let is_quiet =
            !self.delivery.is_fifo() && !self.rings.is_time(now) && !self.consumer.has_moves();
        self.quiet_at = if is_quiet { now } else { NEVER };
    }

    /// Takes the next message, if it is plain and fits. By the kept time; with `KEPT` that may be as old as the
    /// last receive, and then nothing may be due in a while. The clock is looked at behind the swap in any case,
    /// and a lease that was given by an older time than that is given anew.
    #[inline(always)]
    pub(super) fn take_plain<const KEPT: bool>(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let now = self.clock.kept_ms();
        let ahead = if KEPT { DUE_AHEAD_MS } else { 0 };
        let standing = self.consumer.peek(&self.delivery, now, ahead)?;
        self.consumer.note_length(&standing);
        let slot = standing.slot();
        let len = plain_up_to(standing.meta(), slot.message_room(Envelope::Standard))?;
        let out = buffer.get_mut(..len)?;
        let sent = standing.sent();
        let for_ms = self.visibility_ms();
        self.consumer.pass(&self.delivery, &standing);
        let mut lease = self.delivery.lease(standing, now, for_ms)?;
        let behind = self.clock.now_ms();
        if behind != now {
            lease = lease_anew(&self.inner, &self.delivery, &mut self.clock, &lease, for_ms)?;
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

/// A lease that was given by a time that the clock has left behind, as of now: this process was stopped under
/// way, or has not received for a while. `None` where others may have taken the message meanwhile, or it was too
/// old: then whoever looks next sees to it.
#[cold]
#[inline(never)]
fn lease_anew<'a>(
    inner: &Inner,
    delivery: &'a Delivery,
    clock: &mut BootClock,
    lease: &Lease<'a>,
    for_ms: u32,
) -> Option<Lease<'a>> {
    let now = clock.kept_ms();
    let lease = delivery.lease_anew(lease, now, for_ms, &mut inner.payloads())?;
    (for_ms == 0 || !lease.has_ended(clock.now_ms())).then_some(lease)
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
        let Some(standing) = consumer.peek(delivery, now, 0) else {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::Bus;
    use crate::sys::host;

    #[test]
    fn who_comes_back_where_others_have_looked_meanwhile_goes_by_the_clock() {
        let name = format!("quiet-{:016x}", host::random_u64());
        let root = std::env::temp_dir();
        let bus = Bus::builder(&name).root(&root).create().unwrap();
        let queue = bus.queue("q").create().unwrap();
        let (mut one, mut other) = (queue.receiver().unwrap(), queue.receiver().unwrap());
        let mut buffer = [0; 8];
        while !one.is_quiet() {
            assert_eq!(one.try_receive(&mut buffer).unwrap(), None);
        }
        // The other one polls on, into a later millisecond.
        while other.delivery.last_sweep() <= one.quiet_at {
            assert_eq!(other.try_receive(&mut buffer).unwrap(), None);
        }
        assert!(!one.is_quiet());
        queue.sender().unwrap().send(b"x").unwrap();
        let received = one.try_receive(&mut buffer).unwrap().unwrap();
        assert_eq!(received.receives(), 1);
        drop((one, other, queue, bus));
        Bus::builder(&name).root(&root).remove(false).unwrap();
    }
}
