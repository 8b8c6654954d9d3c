//! Receiving: lease a message and copy it, or consume it at once.

use super::attempt::Attempt;
use super::definition::whole_ms;
use super::envelope::Envelope;
use super::incoming::{Incoming, Message};
use super::payload::{Body, Payloads, plain_up_to};
use super::persist::Goal;
use super::quota::Share;
use super::redrive::Mover;
use super::rings::Rings;
use super::{Inner, Receipt};
use crate::ParticipantId;
use crate::error::ReceiveError;
use crate::layout::queue::{MAX_VISIBILITY_MS, NEVER};
use crate::object::poll::Shared;
use crate::object::wait::wait_any;
use crate::ring::delivery::consume::{Consumer, Finder};
use crate::ring::delivery::heads::Heads;
use crate::ring::delivery::{Delivery, Total};
use crate::ring::wait::Idle;
use crate::sys::clock::{BootClock, Deadline};
use crate::sys::fork;
use crate::trace::event;
use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A receiver asks this often whether anybody has looked for dead holders.
const PROBE_MS: u64 = 5;
/// Leases in a row that may be over as soon as they are given out before a receive gives up: each is
/// a receive of the message.
pub(super) const MOST_LATE: u32 = 4;
/// A message that is not on disk after so long was left by its sender.
const LEFT_AFTER_MS: u64 = 20;
/// A queue in which nobody has written for so long is idle.
const IDLE_AFTER_MS: u64 = 500;
/// Of a queue that is on disk: a receiver asks this often whether its file is still there.
const LOOK_MS: u64 = 100;
/// Receives between two additions to the shared totals.
const FLUSH_EVERY: u64 = 64;

/// What was received: everything but the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// To delete it, or to change how long it stays invisible.
    pub receipt: Receipt,
    /// Bytes of body.
    pub len: usize,
    /// When it was sent, in ms since the Unix epoch (`SentTimestamp`).
    pub sent_ms: u64,
}

impl Received {
    /// How often it was received, this time included (`ApproximateReceiveCount`).
    pub fn receives(&self) -> u16 {
        self.receipt.receives()
    }

    /// Its position; positions grow in the order of sends.
    pub fn position(&self) -> u64 {
        self.receipt.position()
    }
}

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

/// A receiver of one queue.
///
/// May move to another thread, is not shared between threads (make one per thread). Dropping it
/// leaves its messages in flight. In a forked child every call returns [`ReceiveError::Forked`].
/// When its process dies, what it had received and not deleted becomes visible to the others:
/// within milliseconds while somebody receives or waits, and at the end of the visibility time-out
/// if the queue says so.
pub struct QueueReceiver {
    /// By value: addresses and geometry lie beside the cursor.
    pub(super) delivery: Delivery,
    pub(super) consumer: Consumer,
    /// Instead of it, in a FIFO queue.
    pub(super) heads: Heads,
    /// Which ring they are of, and those beside it.
    pub(super) rings: Rings,
    pub(super) clock: BootClock,
    /// Instead of what the queue says.
    visibility_ms: Option<u32>,
    pub(super) idle: Idle,
    /// Received and deleted, and not yet in the shared totals.
    received: u64,
    deleted: u64,
    probe_at: u64,
    /// The millisecond in which nothing but the cursor has to be looked at; [`NEVER`] for none.
    pub(super) quiet_at: u64,
    /// Sweeps to be made before the next sleep.
    sweeps_owed: u64,
    pub(super) mover: Mover,
    /// Where there is a limit of messages in flight.
    share: Share,
    /// For [`receive_each`](Self::receive_each): as long as the longest message so far.
    pub(super) scratch: Incoming,
    /// Receives that can be made again.
    pub(super) attempts: Vec<Attempt>,
    /// Of a queue that is on disk: the first message that is not, and since when it was seen.
    leftover: Option<(u64, u64)>,
    /// The last flush that was seen, and since when it is the last.
    unmarked: Option<(u64, u64)>,
    /// When it looks again whether the file of the queue is there.
    look_at: u64,
    /// Who is told when there is something again.
    pub(super) poll: Option<Arc<Shared>>,
    /// Of the process that made it.
    pub(super) generation: u64,
    pub(super) inner: Arc<Inner>,
    not_sync: PhantomData<Cell<()>>,
}

impl QueueReceiver {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        inner.holding.note(&inner.delivery);
        let mut clock = BootClock::since(inner.epoch_ms);
        Self {
            consumer: Consumer::new(&inner.delivery),
            heads: Heads::default(),
            rings: Rings::new(&inner),
            probe_at: clock.now_ms() + PROBE_MS,
            quiet_at: NEVER,
            sweeps_owed: 0,
            clock,
            visibility_ms: None,
            idle: Idle::default(),
            received: 0,
            deleted: 0,
            mover: Mover::default(),
            share: Share::default(),
            attempts: Vec::new(),
            scratch: Incoming::new(),
            leftover: None,
            unmarked: None,
            look_at: 0,
            poll: None,
            generation: fork::generation(),
            delivery: inner.delivery.clone(),
            inner,
            not_sync: PhantomData,
        }
    }

    /// How to wait; the default is [`Idle::SpinThenPark`].
    pub fn set_idle(&mut self, idle: Idle) {
        self.idle = idle;
    }

    /// How long what this receiver receives stays invisible, instead of what the queue says. 0 to
    /// 43,200 s in whole milliseconds; never shorter, and up to a millisecond longer.
    ///
    /// # Errors
    /// [`ReceiveError::InvalidVisibility`].
    pub fn set_visibility(&mut self, visibility: Duration) -> Result<(), ReceiveError> {
        let ms = whole_ms(visibility, MAX_VISIBILITY_MS)
            .ok_or(ReceiveError::InvalidVisibility { given: visibility })?;
        self.visibility_ms = Some(ms);
        Ok(())
    }

    /// The participant that holds what is received here.
    pub fn participant(&self) -> ParticipantId {
        ParticipantId(self.delivery.ring().me())
    }

    /// Receives a message and copies its body into `buffer`; its attributes, if it has any, are left
    /// to [`receive_message`](Self::receive_message). `None` when there is none to be received
    /// now. Never blocks, allocates nothing, and makes no system call but for a look for dead
    /// holders: one of all receivers asks about up to 16 others, once in 5 ms.
    ///
    /// # Errors
    /// [`ReceiveError::BufferTooSmall`] leaves the message visible; the others of [`ReceiveError`].
    #[inline(always)]
    pub fn try_receive(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, ReceiveError> {
        match self.receive_at_once(buffer) {
            Some(received) => Ok(Some(received)),
            None => self.try_receive_with_care(buffer),
        }
    }

    /// Receives a message and deletes it in one step: it is copied, then consumed. At most once:
    /// what is lost behind this call is lost. `None` when there is none to be received now. In a durable
    /// queue it blocks until the disk knows of it; where the journal can't be written, the message
    /// is handed over all the same, and comes again if the machine fails.
    ///
    /// # Errors
    /// As [`try_receive`](Self::try_receive).
    #[inline]
    pub fn receive_and_delete(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<Received>, ReceiveError> {
        let taken = self.take::<false>(buffer, Take::Consume)?;
        self.note_deleted(u64::from(taken.is_some()));
        if taken.is_some() && self.inner.journal.is_some() {
            // The message is in the buffer: it must not be lost with an error about the disk.
            let _ = self.inner.acknowledge_consumed();
        }
        Ok(taken.map(|taken| taken.received))
    }

    /// Waits up to `wait` for a message and copies it into `buffer` (long polling). `None` after
    /// that. Blocks by the [`Idle`] that was set; woken within microseconds of a send.
    ///
    /// # Errors
    /// As [`try_receive`](Self::try_receive).
    pub fn receive_into(
        &mut self,
        buffer: &mut [u8],
        wait: Duration,
    ) -> Result<Option<Received>, ReceiveError> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(received) = self.try_receive(buffer)? {
                return Ok(Some(received));
            }
            if !self.wait(deadline.remaining())? {
                return Ok(None);
            }
        }
    }

    /// Receives up to `max` messages as soon as there is one, waiting for it up to `wait`, invisible
    /// for `visibility` (`None`: what the receiver or the queue says). Each message is in the batch
    /// once, though one of visibility 0 is visible again at once. Allocates.
    ///
    /// # Errors
    /// As [`try_receive`](Self::try_receive), but for `BufferTooSmall`; when not even the first
    /// could be received.
    pub fn receive(
        &mut self,
        max: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> Result<Vec<Message>, ReceiveError> {
        let visibility_ms = match visibility {
            None => self.visibility_ms(),
            Some(given) => whole_ms(given, MAX_VISIBILITY_MS)
                .ok_or(ReceiveError::InvalidVisibility { given })?,
        };
        let deadline = Deadline::after(wait);
        let mut messages = Vec::new();
        if max == 0 {
            return Ok(messages);
        }
        loop {
            self.take_each(max, visibility_ms, |received, incoming| {
                messages.push(Message::new(received, incoming));
            })?;
            if !messages.is_empty() || !self.wait(deadline.remaining())? {
                break;
            }
        }
        Ok(messages)
    }

    /// Hands up to `max` messages that can be received now to `each`; how many. Each is leased and
    /// copied before it is handed over, and handed over once, however short its visibility is.
    /// Allocates only to hold a longer body or a larger batch than any before.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_each(
        &mut self,
        max: usize,
        mut each: impl FnMut(Received, &[u8]),
    ) -> Result<usize, ReceiveError> {
        self.take_each(max, self.visibility_ms(), |received, incoming| {
            each(received, incoming.body());
        })
    }

    fn take_each(
        &mut self,
        max: usize,
        visibility_ms: u32,
        mut each: impl FnMut(Received, &Incoming),
    ) -> Result<usize, ReceiveError> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let mut count = 0;
        self.heads.begin_batch();
        let failed = loop {
            if count == max {
                break None;
            }
            // A FIFO queue goes by groups, and looks at the time with each message.
            if !self.delivery.is_fifo() {
                let now = match self.begin() {
                    Ok(now) => now,
                    Err(error) => break Some(error),
                };
                if self.is_in_plain_turn(now) {
                    let taken = self.take_run(max - count, visibility_ms, &mut scratch, &mut each);
                    count += taken;
                    if taken > 0 {
                        continue;
                    }
                }
            }
            match scratch.fill(self, Take::Lease(visibility_ms)) {
                Ok(Some(received)) => {
                    count += 1;
                    self.give(received.position());
                    each(received, &scratch);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.end_batch();
        self.heads.end_batch();
        self.scratch = scratch;
        match failed {
            Some(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    pub(super) fn leased(&self) -> Take {
        Take::Lease(self.visibility_ms())
    }

    /// Waits up to `timeout` until there is a message to receive. Blocks by the [`Idle`] that was
    /// set. Another receiver may be faster then.
    ///
    /// # Errors
    /// When the queue is gone or the handle stale.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, ReceiveError> {
        Ok(wait_any(&mut [self], timeout)?.is_some())
    }

    /// Loaded for every receive: the queue's may change at any time.
    #[inline(always)]
    pub(super) fn visibility_ms(&self) -> u32 {
        match self.visibility_ms {
            Some(ms) => ms,
            None if self.is_of_parent() => 0, // the queue is not mapped there, and nothing is received
            None => self.delivery.visibility_ms(),
        }
    }

    /// Takes a message into `buffer`: whole, or its body alone.
    #[inline(always)]
    pub(super) fn take<const WHOLE: bool>(
        &mut self,
        buffer: &mut [u8],
        take: Take,
    ) -> Result<Option<Taken>, ReceiveError> {
        let now = self.begin()?;
        let limit = self.delivery.max_in_flight();
        let is_limited = limit != 0 && matches!(take, Take::Lease(_));
        if is_limited
            && !self
                .share
                .take(&self.inner, limit, now, |census| census.in_flight)
        {
            return Err(ReceiveError::OverLimit { limit });
        }
        let taken = if self.delivery.is_fifo() {
            self.take_first_of_group::<WHOLE>(buffer, take)
        } else {
            self.take_in_turn::<WHOLE>(buffer, take, now)
        }?;
        if taken.is_none() {
            if is_limited {
                self.share.give_back();
            }
            return self.nothing_yet(now);
        }
        self.note_received(1);
        Ok(taken)
    }

    /// Before anything is taken: the process, the clock, and what is done by the way.
    #[inline(always)]
    pub(super) fn begin(&mut self) -> Result<u64, ReceiveError> {
        if self.generation != fork::generation() {
            return Err(ReceiveError::Forked);
        }
        self.quiet_at = NEVER;
        let now = self.clock.now_ms();
        if now >= self.probe_at {
            self.look_for_the_dead(now);
        }
        if self.consumer.has_moves() {
            self.move_some(now);
        }
        if self.delivery.begins_sweep(now) {
            self.sweep(now);
        }
        if now >= self.look_at && self.inner.journal.is_some() {
            self.look_for_the_file(now)?;
        }
        Ok(now)
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

    pub(super) fn nothing_yet<T>(&mut self, now: u64) -> Result<Option<T>, ReceiveError> {
        if self.inner.is_removed() {
            return Err(ReceiveError::Removed);
        }
        if self.inner.journal.is_some() {
            self.write_leftovers(now);
        }
        if self.consumer.has_moves() {
            self.move_some(now);
        }
        if now >= self.probe_at {
            self.look_for_the_dead(now);
        }
        if let Some(poll) = &self.poll {
            // Who is told for nothing would be told for ever.
            self.inner.check_alive()?;
            poll.rearm(0);
        }
        Ok(None)
    }

    /// Ends the leases of holders that are proven dead, if the queue says so. Then, as ever, the next
    /// find meets them.
    #[cold]
    fn look_for_the_dead(&mut self, now: u64) {
        self.probe_at = now + PROBE_MS;
        self.flush();
        self.look_for_rings();
        if !self.delivery.may_probe(now) || !self.delivery.redelivers_on_death() {
            return;
        }
        if let Some(dead) = self.delivery.dead_holder() {
            self.inner.host.reap_now();
            // Who was reaped before it could be noted here, or can't be reaped now.
            if self.delivery.is_dead_holder(dead) {
                self.inner.each_ring(|ring| {
                    ring.release_left(dead);
                });
            }
        }
    }

    /// Whether a look at the queue finds a message to receive.
    pub(super) fn has_message(&mut self) -> bool {
        let now = self.clock.now_ms();
        let behind = self.delivery.sweeps_behind(now);
        if self.delivery.begins_sweep(now) {
            self.sweep(now);
            self.sweeps_owed = behind.saturating_sub(1);
        }
        self.finds(now)
    }

    /// A message of a queue that is on disk whose sender died before it was written: who finds nothing
    /// else for as long as a sender may stand still writes it, and everything behind it.
    #[cold]
    fn write_leftovers(&mut self, now: u64) {
        let first = self.delivery.on_disk_below();
        if !self.inner.is_to_be_written(first) {
            self.leftover = None;
            return;
        }
        match self.leftover {
            // Its sender does not wait for the disk, and it is not received before.
            _ if self.inner.is_write_behind() && self.delivery.delivered_below() == first => {
                let _ = self.inner.reach(Goal::Position(first));
            }
            Some((seen, since)) if seen == first => {
                if now.saturating_sub(since) >= LEFT_AFTER_MS {
                    self.leftover = None;
                    // Where the disk refuses, the next look tries again.
                    let _ = self.inner.reach(Goal::Position(first));
                }
            }
            _ => self.leftover = Some((first, now)),
        }
    }

    /// Who waits while nobody writes says on the disk how far it is there.
    #[cold]
    fn mark_if_idle(&mut self, now: u64) {
        let words = self.inner.delivery.durable();
        let Some(words) = words.filter(|words| words.is_unmarked()) else {
            self.unmarked = None;
            return;
        };
        let last = words.last_flush();
        match self.unmarked {
            Some((seen, since)) if seen == last => {
                if now.saturating_sub(since) >= IDLE_AFTER_MS {
                    self.unmarked = None;
                    self.inner.mark();
                }
            }
            _ => self.unmarked = Some((last, now)),
        }
    }

    /// Of a queue that is on disk: whether its file is where it was. Behind its removal another one may be
    /// made from the same journal, and what is received here would be received there too.
    #[cold]
    fn look_for_the_file(&mut self, now: u64) -> Result<(), ReceiveError> {
        self.look_at = now + LOOK_MS;
        match self.inner.is_unlinked() && !self.inner.is_removed() {
            true => Err(ReceiveError::Unlinked),
            false => Ok(()),
        }
    }

    /// Duties before a sleep.
    pub(super) fn see_to_duties(&mut self) {
        let now = self.clock.exact_ms();
        if self.inner.journal.is_some() {
            self.write_leftovers(now);
            self.mark_if_idle(now);
        }
        if now >= self.probe_at {
            self.look_for_the_dead(now);
        }
        if self.consumer.has_moves() {
            self.move_some(now);
        }
        // Where everybody sleeps, nobody sweeps: what a stopped process knew is found all the same.
        for _ in 0..core::mem::take(&mut self.sweeps_owed) {
            self.sweep(now);
        }
    }

    /// Whether it hangs on a claim or a move: it must look again soon.
    pub(super) fn is_pending(&self) -> bool {
        self.is_held_up() || self.heads.is_pending() || self.consumer.has_moves()
    }

    /// How long until a lease or delay may end; `None` when nothing is in flight.
    pub(super) fn next_due(&mut self) -> Option<Duration> {
        let due = self.earliest_due();
        let in_ms = due.saturating_sub(self.clock.exact_ms()).max(1);
        (due != NEVER).then(|| Duration::from_millis(in_ms))
    }

    /// Whether it was made in a parent of this process.
    pub(super) fn is_of_parent(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Whoever it finds nothing for is told by `shared` when there is something.
    pub(super) fn watch_by(&mut self, shared: Arc<Shared>) {
        self.poll = Some(shared);
    }

    pub(super) fn now_ms(&mut self) -> u64 {
        self.clock.now_ms()
    }

    #[inline(always)]
    pub(super) fn note_received(&mut self, count: u64) {
        self.received += count;
        if self.received >= FLUSH_EVERY {
            self.flush();
        }
    }

    #[inline(always)]
    pub(super) fn note_deleted(&mut self, count: u64) {
        self.deleted += count;
    }

    #[cold]
    fn flush(&mut self) {
        for (total, count) in [
            (Total::Received, &mut self.received),
            (Total::Deleted, &mut self.deleted),
        ] {
            if *count > 0 {
                self.delivery.count(total, core::mem::take(count));
            }
        }
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

impl Drop for QueueReceiver {
    fn drop(&mut self) {
        if !self.is_of_parent() {
            self.flush();
            self.heads.leave(&self.delivery);
        }
    }
}
