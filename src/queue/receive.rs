//! Receiving: lease a message and copy it, or consume it at once.

use super::attempt::Attempt;
use super::definition::whole_ms;
use super::duties::PROBE_MS;
use super::incoming::{Incoming, Message};
use super::quota::Share;
use super::redrive::Mover;
use super::rings::Rings;
use super::take::Take;
use super::{Inner, Receipt};
use crate::ParticipantId;
use crate::error::ReceiveError;
use crate::layout::queue::{MAX_VISIBILITY_MS, NEVER};
use crate::object::poll::Shared;
use crate::object::wait::wait_any;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::consume::Consumer;
use crate::ring::delivery::heads::Heads;
use crate::ring::wait::Idle;
use crate::sys::clock::{BootClock, Deadline};
use crate::sys::fork;
use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
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
    pub(super) received: u64,
    pub(super) deleted: u64,
    pub(super) probe_at: u64,
    /// The millisecond in which nothing but the cursor has to be looked at; [`NEVER`] for none.
    pub(super) quiet_at: u64,
    /// Sweeps to be made before the next sleep.
    pub(super) sweeps_owed: u64,
    pub(super) mover: Mover,
    /// Where there is a limit of messages in flight.
    pub(super) share: Share,
    /// For [`receive_each`](Self::receive_each): as long as the longest message so far.
    pub(super) scratch: Incoming,
    /// Receives that can be made again.
    pub(super) attempts: Vec<Attempt>,
    /// Of a queue that is on disk: the first message that is not, and since when it was seen.
    pub(super) leftover: Option<(u64, u64)>,
    /// The last flush that was seen, and since when it is the last.
    pub(super) unmarked: Option<(u64, u64)>,
    /// When it looks again whether the file of the queue is there.
    pub(super) look_at: u64,
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
}
