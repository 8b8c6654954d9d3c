//! Sending: inline bodies into the slot, larger ones through the pool, one by one or in batches, at
//! once or with a delay.

use super::Inner;
use super::append::Marks;
use super::definition::whole_ms;
use super::persist::Goal;
use super::quota::Share;
use super::room::appender;
use crate::error::QueueSendError;
use crate::layout::queue::MAX_DELAY_MS;
use crate::object::loan::{Loan, Loans};
use crate::pool::lend::Lender;
use crate::ring::claim::Appender;
use crate::ring::commit::Lost;
use crate::ring::delivery::{Delivery, Total};
use crate::ring::pace::Distance;
use crate::sys::clock::{self, BootClock, Deadline};
use crate::sys::fork;
use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
/// Sends between two additions to the shared total.
pub(super) const FLUSH_EVERY: u64 = 64;
/// Pauses of a send that waits for room: receivers make no system call for senders.
const PAUSE: Duration = Duration::from_millis(1);

/// A sender of one queue.
///
/// May move to another thread, is not shared between threads (make one per thread). In a forked
/// child every call returns [`QueueSendError::Forked`]. When its process dies, what it committed
/// stays, what it did not commit never was.
pub struct QueueSender {
    /// By value: addresses and geometry lie beside the cursor.
    pub(super) delivery: Delivery,
    pub(super) appender: Appender,
    /// Of the ring that both are of: the last of the queue, as far as is known here.
    pub(super) number: u32,
    pub(super) lender: Lender,
    pub(super) loans: Loans,
    pub(super) clock: BootClock,
    pub(super) inline_bytes: usize,
    /// For the attribute blocks of messages: as long as the longest so far.
    pub(super) block: Vec<u8>,
    /// To receivers who are about to make room.
    pub(super) distance: Distance,
    /// Where there is a limit of messages.
    pub(super) share: Share,
    /// Sent and not yet in the shared total.
    pub(super) sent: u64,
    /// What became of a claim on the short way, and its position: the long way begins with it.
    pub(super) lost: Option<(Lost, u64)>,
    pub(super) refusals: u32,
    /// Of the process that made it.
    pub(super) generation: u64,
    pub(super) inner: Arc<Inner>,
    not_sync: PhantomData<Cell<()>>,
}

impl QueueSender {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let link = inner.last_ring();
        let ring = link.delivery.ring();
        let room = link.delivery.message_room();
        Self {
            appender: appender(&inner, &link),
            number: link.number,
            lender: Lender::new(Arc::clone(&inner.segments), ring.me()),
            loans: Loans::new(Arc::clone(&inner.segments), Arc::clone(&inner.host) as _),
            clock: BootClock::since(inner.epoch_ms),
            inline_bytes: room,
            block: Vec::new(),
            distance: Distance::default(),
            share: Share::default(),
            sent: 0,
            lost: None,
            refusals: 0,
            generation: fork::generation(),
            delivery: link.delivery.clone(),
            inner,
            not_sync: PhantomData,
        }
    }

    /// Largest body that lies in the slot itself; a longer one takes a chunk of the pool.
    pub fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    /// Sends `body` with the queue's delay; its position. Never blocks, but for the
    /// making of a file when the queue grows. For inline bodies: no system call unless somebody sleeps,
    /// no allocation. When it returns, the message survives the death
    /// of this and every other process.
    ///
    /// In a durable queue it blocks until the disk has the message, together with what others send at
    /// that time; when it returns, the message survives a crash of the kernel and the loss of power.
    ///
    /// # Errors
    /// [`QueueSendError::Full`] when there is no room; the others of [`QueueSendError`]. Nothing was
    /// sent then, but for [`QueueSendError::DurabilityUnknown`].
    #[inline(always)]
    pub fn send(&mut self, body: &[u8]) -> Result<u64, QueueSendError> {
        match self.send_at_once(body) {
            Some(position) => Ok(position),
            None => self.send_with_care(body),
        }
    }

    /// [`send`](Self::send) behind a [`send_at_once`](Self::send_at_once) that said nothing: what became of a claim
    /// there is told here, before the body is sent once more.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    pub fn send_with_care(&mut self, body: &[u8]) -> Result<u64, QueueSendError> {
        self.start_over()?;
        let sent = self.append(None, body, self.delay_ms())?;
        self.acknowledge(sent.position)?;
        Ok(sent.position)
    }

    /// Sends `body` so that it becomes visible after `delay`, 0 to 900 s in whole milliseconds
    /// (`DelaySeconds`); never earlier, and up to a millisecond later. A receiver that sleeps sees
    /// it within 20 ms of that.
    ///
    /// # Errors
    /// As [`send`](Self::send), [`QueueSendError::InvalidDelay`], and
    /// [`QueueSendError::DelayInFifo`].
    pub fn send_delayed(&mut self, body: &[u8], delay: Duration) -> Result<u64, QueueSendError> {
        let delay_ms =
            whole_ms(delay, MAX_DELAY_MS).ok_or(QueueSendError::InvalidDelay { given: delay })?;
        if self.delivery.is_fifo() {
            return Err(QueueSendError::DelayInFifo);
        }
        let sent = self.append(None, body, delay_ms)?;
        self.acknowledge(sent.position)?;
        Ok(sent.position)
    }

    /// Sends as many of `bodies` as there is room for, in order, with the queue's delay; how many.
    /// One wake for all, and in a durable queue one wait for the disk.
    ///
    /// # Errors
    /// As [`send`](Self::send), when not even the first could be sent, or when it is unknown whether
    /// they are on disk. An error behind the first is
    /// met again by the next call.
    pub fn send_batch<B: AsRef<[u8]>>(&mut self, bodies: &[B]) -> Result<usize, QueueSendError> {
        let (mut sent, mut last) = (0, 0);
        let mut failed = None;
        for body in bodies {
            match self.append_one_of_many(body.as_ref()) {
                Ok(position) => (sent, last) = (sent + 1, position),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if sent > 0 {
            self.acknowledge(last)?;
        }
        match failed {
            Some(error) if sent == 0 => Err(error),
            _ => Ok(sent),
        }
    }

    /// Sends `body`, waiting for room up to `timeout`. Blocks by pauses of at most 1 ms.
    ///
    /// # Errors
    /// [`QueueSendError::Full`] after `timeout`. Others at once.
    pub fn send_timeout(&mut self, body: &[u8], timeout: Duration) -> Result<u64, QueueSendError> {
        let deadline = Deadline::after(timeout);
        loop {
            match self.send(body) {
                Err(QueueSendError::Full { .. }) if !deadline.passed() => {
                    clock::pause(PAUSE.min(deadline.remaining()));
                    self.inner.host.tick();
                }
                other => return other,
            }
        }
    }

    /// Lends `len` bytes of the payload pool to fill and send with [`send_loan`](Self::send_loan).
    /// No system call and no read-modify-write while the private cache holds a chunk of the class.
    ///
    /// # Errors
    /// [`QueueSendError::MessageTooLarge`]; [`QueueSendError::PoolExhausted`] at the quota of the
    /// bus; [`QueueSendError::NoSpace`] when the file system is full.
    pub fn loan(&mut self, len: usize) -> Result<Loan, QueueSendError> {
        self.check(len)?;
        self.lend_unchecked(len)
    }

    /// Sends a loan without copying it, with the queue's delay; its position.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the loan back; in place of one that was sent, with
    /// [`QueueSendError::DurabilityUnknown`], an empty one.
    pub fn send_loan(&mut self, loan: Loan) -> Result<u64, (QueueSendError, Loan)> {
        if !self.loans.know(&loan) {
            let error = QueueSendError::Pool("the loan is from another bus".into());
            return Err((error, loan));
        }
        let sent = self.check(loan.len).and_then(|()| {
            self.append_chunk(None, loan.lent, loan.len, Marks::default(), self.delay_ms())
        });
        match sent {
            Ok(sent) => {
                self.loans.sent(loan);
                match self.acknowledge(sent.position) {
                    Ok(()) => Ok(sent.position),
                    // It is sent, whatever the disk says: there is no loan to give back.
                    Err(error) => Err((error, Loans::none())),
                }
            }
            Err(error) => Err((error, loan)),
        }
    }

    /// What the queue says; in a forked child, where the queue is not mapped, whatever: nothing is
    /// sent there.
    #[inline(always)]
    pub(super) fn delay_ms(&self) -> u32 {
        if self.generation != fork::generation() {
            return 0;
        }
        self.delivery.delay_ms()
    }

    /// Behind the commit of the message at `position` and all before it: who sleeps is woken, and in a
    /// durable queue the disk is waited for.
    #[inline(always)]
    pub(super) fn acknowledge(&mut self, position: u64) -> Result<(), QueueSendError> {
        self.inner.delivery.ring().wake_behind_commit();
        if self.inner.journal.is_some() {
            return self.reach_disk(position);
        }
        Ok(())
    }

    #[cold]
    fn reach_disk(&mut self, position: u64) -> Result<(), QueueSendError> {
        if self.inner.is_write_behind() {
            self.inner.write_later(position);
            return Ok(());
        }
        self.appender.note_wait();
        let reached = self.inner.reach(Goal::Position(position));
        reached.map_err(|why| QueueSendError::DurabilityUnknown {
            position,
            why: why.to_string(),
        })
    }

    /// Before anything is touched: the process, the length.
    #[inline(always)]
    pub(super) fn check(&self, len: usize) -> Result<(), QueueSendError> {
        if self.generation != fork::generation() {
            return Err(QueueSendError::Forked);
        }
        if self.delivery.may_be_too_long(len as u64) {
            return self.check_length(len);
        }
        Ok(())
    }

    #[cold]
    fn check_length(&self, len: usize) -> Result<(), QueueSendError> {
        let max = self.delivery.max_message_bytes();
        if len as u64 > max {
            return Err(QueueSendError::MessageTooLarge { len, max });
        }
        Ok(())
    }

    #[cold]
    pub(super) fn flush(&mut self) {
        self.delivery
            .count(Total::Sent, core::mem::take(&mut self.sent));
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        if self.generation == fork::generation() && self.sent > 0 {
            self.flush();
        }
    }
}
