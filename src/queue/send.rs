//! Sending: inline bodies into the slot, larger ones through the pool, one by one or in batches, at
//! once or with a delay.

use super::chain::Link;
use super::definition::whole_ms;
use super::grow::{Full, NoGrowth};
use super::once::Once;
use super::payload::Payloads;
use super::persist::{Goal, Journal, NotOnDisk};
use super::quota::Share;
use super::{Inner, Sent};
use crate::ParticipantId;
use crate::error::QueueSendError;
use crate::layout::durable::POSITIONS;
use crate::layout::queue::MAX_DELAY_MS;
use crate::layout::ring::{ChunkRef, Meta};
use crate::object::loan::{Loan, Loans};
use crate::pool::lend::{Lender, Lent};
use crate::pool::segment::GrowFailure;
use crate::ring::claim::{Appender, Blocked};
use crate::ring::commit::Lost;
use crate::ring::delivery::dedup::Key;
use crate::ring::delivery::link::GroupHash;
use crate::ring::delivery::sweep::Census;
use crate::ring::delivery::{Delivery, Total};
use crate::ring::pace::{AHEAD, Distance};
use crate::sync::Ordering;
use crate::sys::clock::{self, BootClock, Deadline};
use crate::sys::fork;
use crate::trace::event;
use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Refusals between two looks at the file system: a full queue is polled, and each look is two
/// system calls.
const CHECK_LINK_EVERY: u32 = 1024;
/// Sends between two additions to the shared total.
const FLUSH_EVERY: u64 = 64;
/// Pauses of a send that waits for room: receivers make no system call for senders.
const PAUSE: Duration = Duration::from_millis(1);

/// What a message of a FIFO queue has beside its bytes.
#[derive(Clone, Copy)]
pub(super) struct Grouped {
    pub group: GroupHash,
    /// Of its deduplication id, where the queue compares them.
    pub key: Option<Key>,
}

/// What a message's header says beside its length and kind.
#[derive(Clone, Copy, Default)]
struct Marks {
    flags: u8,
    tenant: u16,
}

impl Marks {
    fn on(self, meta: Meta) -> Meta {
        meta.with_flags(self.flags).with_tenant(self.tenant)
    }
}

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
    number: u32,
    pub(super) lender: Lender,
    pub(super) loans: Loans,
    pub(super) clock: BootClock,
    pub(super) inline_bytes: usize,
    /// For the attribute blocks of messages: as long as the longest so far.
    pub(super) block: Vec<u8>,
    /// To receivers who are about to make room.
    distance: Distance,
    /// Where there is a limit of messages.
    pub(super) share: Share,
    /// Sent and not yet in the shared total.
    sent: u64,
    /// What became of a claim on the short way, and its position: the long way begins with it.
    pub(super) lost: Option<(Lost, u64)>,
    refusals: u32,
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

    #[cold]
    #[inline(never)]
    fn send_with_care(&mut self, body: &[u8]) -> Result<u64, QueueSendError> {
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

    pub(super) fn lend_unchecked(&mut self, len: usize) -> Result<Loan, QueueSendError> {
        let lent = self.lend(len)?;
        let data = self
            .lender
            .data(lent)
            .ok_or_else(|| QueueSendError::Pool("segment lost".into()))?;
        Ok(self.loans.make(lent, len, data))
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
    pub(super) fn acknowledge(&self, position: u64) -> Result<(), QueueSendError> {
        self.inner.delivery.ring().wake_behind_commit();
        if self.inner.journal.is_some() {
            return self.reach_disk(position);
        }
        Ok(())
    }

    #[cold]
    fn reach_disk(&self, position: u64) -> Result<(), QueueSendError> {
        if self.inner.is_write_behind() {
            self.inner.write_later(position);
            return Ok(());
        }
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

    /// Any append, without a wake.
    #[inline]
    pub(super) fn append(
        &mut self,
        grouped: Option<Grouped>,
        body: &[u8],
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        self.check(body.len())?;
        if body.len() > self.inline_bytes {
            return self.append_large(grouped, body, delay_ms);
        }
        let meta = Meta::new(body.len() as u32, Meta::INLINE, 0);
        self.append_bytes(grouped, meta, body, delay_ms, None)
    }

    #[cold]
    fn append_large(
        &mut self,
        grouped: Option<Grouped>,
        body: &[u8],
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let mut loan = self.loan(body.len())?;
        loan.copy_from_slice(body);
        self.append_loan(grouped, loan, Marks::default(), delay_ms)
    }

    /// A message of which an encoded attribute block is `block`, without a wake. The caller has
    /// checked it, and has no other use for what is in `block`: a body that lies in the slot goes
    /// behind it.
    pub(super) fn append_with_block(
        &mut self,
        grouped: Option<Grouped>,
        tenant: u16,
        block: &mut Vec<u8>,
        body: &[u8],
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let marks = Marks {
            flags: Meta::ATTRIBUTES,
            tenant,
        };
        let whole = block.len() + body.len();
        if whole > self.inline_bytes {
            let mut loan = self.lend_unchecked(whole)?;
            loan[..block.len()].copy_from_slice(block);
            loan[block.len()..].copy_from_slice(body);
            return self.append_loan(grouped, loan, marks, delay_ms);
        }
        block.extend_from_slice(body);
        let meta = marks.on(Meta::new(whole as u32, Meta::INLINE, 0));
        self.append_bytes(grouped, meta, block, delay_ms, None)
    }

    fn append_loan(
        &mut self,
        grouped: Option<Grouped>,
        loan: Loan,
        marks: Marks,
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let sent = self.append_chunk(grouped, loan.lent, loan.len, marks, delay_ms)?;
        if !sent.duplicate {
            self.loans.sent(loan);
        }
        Ok(sent)
    }

    fn append_chunk(
        &mut self,
        grouped: Option<Grouped>,
        lent: Lent,
        len: usize,
        marks: Marks,
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let reference = ChunkRef {
            segment: lent.segment,
            chunk: lent.chunk,
            version: lent.version,
            len: len as u64,
        };
        let payloads = self.delivery.ring().memory().payloads();
        if payloads.load(Ordering::Relaxed) == 0 {
            payloads.store(1, Ordering::Relaxed); // ordered before the message by its commit
        }
        let body = bytemuck::bytes_of(&reference);
        let meta = marks.on(Meta::new(body.len() as u32, Meta::CHUNK, 0));
        let sent = self.append_bytes(grouped, meta, body, delay_ms, Some(lent))?;
        if !sent.duplicate {
            self.lender.attach(lent);
        }
        Ok(sent)
    }

    /// Claim, fill, commit; once more where somebody took this sender for stalled.
    #[inline(always)]
    fn append_bytes(
        &mut self,
        grouped: Option<Grouped>,
        meta: Meta,
        body: &[u8],
        delay_ms: u32,
        lent: Option<Lent>,
    ) -> Result<Sent, QueueSendError> {
        if super::is_removed(&self.delivery) {
            return Err(QueueSendError::Removed); // nobody will ever receive it
        }
        if grouped.is_none() && self.delivery.is_fifo() {
            return Err(QueueSendError::MissingGroup);
        }
        if let Some(grouped) = grouped
            && let Some(key) = grouped.key
        {
            return self.append_once(&Once {
                group: grouped.group,
                key,
                meta,
                body,
                delay_ms,
                lent,
            });
        }
        self.check_limit()?;
        loop {
            let mut payloads = Payloads::new(&self.inner.segments, self.inner.object_id);
            let claimed = self.appender.claim_message(&self.delivery, &mut payloads);
            let claim = match claimed {
                Ok(claim) => claim,
                Err(blocked) => {
                    self.go_on(blocked)?;
                    continue;
                }
            };
            let position = claim.position;
            // Behind the claim, however long that took: from here on the message ages.
            let now = self.clock.now_ms();
            if let Some(lent) = lent {
                self.lender.address(lent, self.inner.object_id, position);
            }
            let word = self.delivery.first_word(position, now, delay_ms);
            match grouped {
                None => claim.fill_message(meta, word, now, body),
                Some(Grouped { group, .. }) => {
                    claim.fill_message_of(group, 0, meta, word, now, body);
                }
            }
            match self.appender.commit(self.delivery.ring(), claim) {
                Ok(position) => {
                    return Ok(self.committed(position, now, delay_ms, body.len()));
                }
                Err(Lost::Abandoned) => {}
                Err(Lost::Corrupt) => return Err(QueueSendError::Corrupt { position }),
            }
        }
    }

    /// Before a claim: whether the queue may hold one more message.
    #[inline(always)]
    pub(super) fn check_limit(&mut self) -> Result<(), QueueSendError> {
        if let Some(journal) = &self.inner.journal
            && journal.most_bytes != 0
        {
            self.check_disk_quota(journal)?;
        }
        let limit = self.delivery.max_messages();
        if limit != 0 {
            let now = self.clock.now_ms();
            if !self.share.take(&self.inner, limit, now, Census::messages) {
                return Err(QueueSendError::OverQuota { limit });
            }
        }
        Ok(())
    }

    /// Whether the journal may take more. Where it may not, segments in which nothing is left are given
    /// back first.
    #[cold]
    fn check_disk_quota(&self, journal: &Journal) -> Result<(), QueueSendError> {
        let (Some(words), quota) = (self.delivery.durable(), journal.most_bytes) else {
            return Ok(());
        };
        let bytes = || words.journal_bytes().load(Ordering::Relaxed);
        if bytes() < quota {
            return Ok(());
        }
        words.look_again().store(1, Ordering::Relaxed);
        let _ = self.inner.reach_consumed(); // a disk that refuses says so below
        match bytes() {
            bytes if bytes >= quota => Err(QueueSendError::OverDiskQuota { bytes, quota }),
            _ => Ok(()),
        }
    }

    /// Behind a commit.
    #[inline(always)]
    pub(super) fn committed(&mut self, position: u64, now: u64, delay_ms: u32, len: usize) -> Sent {
        if delay_ms != 0 {
            self.delivery.confirm_delay(position, now, delay_ms);
        }
        if self.delivery.is_fifo() && self.distance.is_in_a_run(position) {
            self.delivery.ask_for_room(position + AHEAD, len);
        }
        event!(
            TRACE,
            "sent",
            queue = self.inner.name(),
            position = position,
            bytes = len
        );
        self.sent += 1;
        if self.sent >= FLUSH_EVERY {
            self.flush();
            self.prepare_next_ring();
        }
        Sent {
            position,
            duplicate: false,
        }
    }

    #[cold]
    fn flush(&mut self) {
        self.delivery
            .count(Total::Sent, core::mem::take(&mut self.sent));
    }

    #[cold]
    fn prepare_next_ring(&self) {
        if self.inner.may_grow() {
            self.inner.prepare(&self.full(false));
        }
    }

    /// The ring it sends to.
    fn full(&self, is_sealed: bool) -> Full<'_> {
        Full {
            number: self.number,
            delivery: &self.delivery,
            appender: &self.appender,
            is_sealed,
        }
    }

    /// The ring takes nothing now: on to the next one, which somebody has made or this sender makes,
    /// or why there is none. Blocks for as long as it takes to make a file.
    #[cold]
    pub(super) fn go_on(&mut self, blocked: Blocked) -> Result<(), QueueSendError> {
        if !self.inner.host.is_current() {
            return Err(QueueSendError::Stale);
        }
        if self.delivery.durable().is_some() && self.make_room_on_disk()? {
            return Ok(());
        }
        let by = match blocked {
            Blocked::Full { by } => by,
            Blocked::Sealed if self.inner.may_grow() => 0,
            // A queue that can't grow is never sealed.
            Blocked::Sealed | Blocked::Corrupt => {
                return Err(QueueSendError::Corrupt {
                    position: self.appender.next(),
                });
            }
        };
        let full = self.full(blocked == Blocked::Sealed);
        let refused = match self.inner.next_ring(&full) {
            Ok(link) => {
                if self.inner.definition.spill && self.number > 0 {
                    self.delivery.ring().memory().release_pages();
                }
                self.appender = appender(&self.inner, &link);
                self.delivery = link.delivery.clone();
                self.number = link.number;
                return Ok(());
            }
            Err(refused) => refused,
        };
        self.refusals = self.refusals.wrapping_add(1);
        if self.refusals.is_multiple_of(CHECK_LINK_EVERY) && self.inner.is_unlinked() {
            return Err(QueueSendError::Unlinked);
        }
        if self.inner.is_removed() {
            return Err(QueueSendError::Removed);
        }
        // What is in flight may fill more than half of the ring, if need be.
        if self.appender.is_impatient() {
            self.appender.set_patience(u64::MAX);
            return Ok(());
        }
        self.distance.at_end(self.appender.next());
        Err(match refused {
            NoGrowth::Quota => QueueSendError::Full {
                capacity: self.inner.capacity(),
                by: (by != 0).then_some(ParticipantId(by)),
            },
            NoGrowth::NoSpace { needed, available } => {
                QueueSendError::NoSpace { needed, available }
            }
            NoGrowth::Failed(why) => QueueSendError::Growth(why),
        })
    }

    /// A claim waits for the disk where what stood in its slot a lap ago is not there yet, or where there
    /// is no segment. Whether it did, and may be tried again.
    fn make_room_on_disk(&self) -> Result<bool, QueueSendError> {
        if self.delivery.is_frozen() {
            let thawed = self.inner.reach(Goal::Thawed);
            thawed.map_err(|why| QueueSendError::NotOnDisk {
                why: match why {
                    NotOnDisk::Journal(error) => error.to_string(),
                    other => other.to_string(),
                },
            })?;
            return Ok(true);
        }
        let next = self.appender.next();
        if next < self.delivery.claimable_below() || next + 1 >= POSITIONS {
            return Ok(false);
        }
        // Everything that was committed, so that the wait is one for many; in a ring that the journal does not
        // know, nothing was.
        let first = self.delivery.ring().memory().geometry().first_position();
        let is_known = self.delivery.on_disk_below() >= first;
        let last = if is_known { next } else { first }.saturating_sub(1);
        let reached = self.inner.reach(Goal::Position(last));
        reached.map_err(|why| QueueSendError::NotOnDisk {
            why: why.to_string(),
        })?;
        Ok(true)
    }

    /// A chunk: from the cache, from the shared words, from a new segment.
    fn lend(&mut self, len: usize) -> Result<Lent, QueueSendError> {
        let mut has_reaped = false;
        loop {
            if let Some(lent) = self.lender.cached(len) {
                return Ok(lent);
            }
            if self.lender.refill(len) {
                continue;
            }
            match self.lender.grow(len) {
                Ok(()) => {}
                // The dead may sit on chunks.
                Err(GrowFailure::Quota { .. } | GrowFailure::NoSpace(_)) if !has_reaped => {
                    has_reaped = true;
                    self.inner.host.reap_now();
                }
                Err(GrowFailure::Quota { used, quota }) => {
                    return Err(QueueSendError::PoolExhausted {
                        needed: len as u64,
                        used,
                        quota,
                    });
                }
                Err(GrowFailure::NoSpace(room)) => {
                    return Err(QueueSendError::NoSpace {
                        needed: room.needed,
                        available: room.available,
                    });
                }
                Err(GrowFailure::Damaged(path)) => {
                    return Err(QueueSendError::Pool(format!(
                        "{} is damaged",
                        path.display()
                    )));
                }
                Err(GrowFailure::Io(error)) => {
                    return Err(QueueSendError::Pool(error.to_string()));
                }
            }
        }
    }
}

/// Of the ring `link`. Where there can be another ring, half of this one in flight is enough.
fn appender(inner: &Inner, link: &Link) -> Appender {
    let ring = link.delivery.ring();
    let mut appender = Appender::new(ring);
    if inner.may_grow() {
        appender.set_patience(ring.memory().geometry().slots() / 2);
    }
    if link.delivery.durable().is_some() {
        appender.ask_each_time();
    }
    if link.number > 0 && inner.site.pre_touch {
        appender.touch_ahead(ring);
    }
    appender
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        if self.generation == fork::generation() && self.sent > 0 {
            self.flush();
        }
    }
}
