//! Sending: inline bodies into the slot, larger ones through the pool, one by one or in batches.

use super::{Inner, wait};
use crate::ParticipantId;
use crate::error::{JoinError, SendError};
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::Role;
use crate::object::loan::{Loan, Loans};
use crate::pool::lend::{Lender, Lent};
use crate::pool::segment::GrowFailure;
use crate::ring::claim::{Appender, Blocked, Claim};
use crate::ring::commit::Lost;
use crate::ring::{Producers, SlotRing, Tenant};
use crate::shm::copy::SHORT;
use crate::sync::Ordering;
use crate::sys::fork;
use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Largest payload: what a chunk reference can say and a segment can hold.
const MAX_PAYLOAD: usize = 1 << 40;
/// Bytes of body in the slot's first cache line.
const FIRST_LINE_BODY: usize = 32;
/// Refusals between two looks at the file system: a full ring is polled, and each look is two
/// system calls.
const CHECK_LINK_EVERY: u32 = 1024;
/// Positions between two sends that take payloads back which every reader has passed.
const RECLAIM_EVERY: u64 = 8;
/// A producer that retains gives the oldest of so many parts up when the pool is used up, and goes on
/// until there is room, or nothing left that nobody needs.
const RECLAIM_PARTS: usize = 8;
/// Positions that one of them looks at, at most.
const MOST_RECLAIMED: u64 = 128;

/// A producer of one channel.
///
/// May move to another thread, is not shared between threads (make one per thread; an exclusive
/// channel has only one). Dropping it gives an exclusive channel free. In a forked child every
/// call returns [`SendError::Forked`]. When its process dies, what it committed stays, what it
/// did not commit never was.
pub struct Producer {
    /// By value: addresses and geometry lie beside the cursor, and no store into the ring makes
    /// the compiler load them again.
    ring: SlotRing,
    appender: Appender,
    lender: Lender,
    loans: Loans,
    exclusive: bool,
    /// Exclusive: the producer word as it was taken.
    seat: Role,
    inline_bytes: usize,
    refusals: u32,
    /// Whether the ring takes nothing any more.
    sealed: bool,
    /// Whether payloads that were read stay for who reads them again.
    retains: bool,
    /// The position at which a send of a payload takes the next few back.
    reclaim_at: u64,
    /// What became of a claim on the short way: the long way begins with it.
    lost: Option<Lost>,
    /// Of the process that made it.
    generation: u64,
    inner: Arc<Inner>,
    not_sync: PhantomData<Cell<()>>,
}

/// Frees the chunks of records that leave the ring.
struct Vacate<'a> {
    lender: &'a mut Lender,
    ring: u64,
}

impl Tenant for Vacate<'_> {
    fn vacated(&mut self, position: u64, body: [u8; 24]) {
        self.lender
            .vacate(bytemuck::cast(body), self.ring, position);
    }
}

/// A claim that a panic must not leave open.
struct OpenClaim<'a> {
    ring: &'a SlotRing,
    exclusive: bool,
    claim: Option<Claim<'a>>,
}

impl Drop for OpenClaim<'_> {
    fn drop(&mut self) {
        if self.ring.memory().is_forked() {
            return;
        }
        match self.claim.take() {
            // The slot of one that was taken for dead is its successor's.
            Some(_) if self.exclusive && self.ring.producer_holder() != self.ring.me() => {}
            Some(claim) if self.exclusive => Appender::abort_exclusive(claim),
            Some(claim) => Appender::abort(self.ring, claim),
            None => {}
        }
    }
}

/// Claims in place, so that the claim borrows only the ring and not the whole producer.
macro_rules! claim {
    ($self:ident) => {{
        let ring = &$self.ring;
        if $self.generation != fork::generation() {
            return Err(SendError::Forked);
        }
        // Every 64 positions at most: the word's line is read-mostly, but not free.
        if !$self.appender.is_clear() && $self.inner.is_removed() {
            return Err(SendError::Removed);
        }
        if $self.is_displaced() {
            return Err(SendError::Stale);
        }
        let mut vacate = Vacate {
            lender: &mut $self.lender,
            ring: $self.inner.object_id,
        };
        let claimed = if $self.exclusive {
            $self.appender.claim_exclusive(ring, &mut vacate)
        } else {
            $self.appender.claim(ring, &mut vacate)
        };
        match claimed {
            Ok(claim) => (ring, claim),
            Err(blocked) => return Err($self.refused(blocked)),
        }
    }};
}

#[cfg(feature = "topics")]
mod decided;
mod in_place;

impl Producer {
    pub(super) fn new(inner: Arc<Inner>) -> Result<Self, JoinError> {
        let exclusive = inner.ring.producers() == Producers::Exclusive;
        let (appender, seat) = if exclusive {
            let seat = inner.ring.take_producer().map_err(|by| JoinError::Busy {
                by: ParticipantId(by),
            })?;
            (Appender::new_exclusive(&inner.ring), seat)
        } else {
            (Appender::new(&inner.ring), Role(0))
        };
        Ok(Self {
            ring: inner.ring.clone(),
            appender,
            lender: Lender::new(Arc::clone(&inner.segments), inner.ring.me()),
            loans: Loans::new(Arc::clone(&inner.segments), Arc::clone(&inner.host)),
            exclusive,
            seat,
            inline_bytes: inner.ring.memory().geometry().body_bytes(),
            refusals: 0,
            sealed: false,
            retains: false,
            reclaim_at: 0,
            lost: None,
            generation: fork::generation(),
            inner,
            not_sync: PhantomData,
        })
    }

    /// Largest body that lies in the slot itself; a longer one takes a chunk of the pool.
    pub fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    /// Where the next send is tried.
    pub(crate) fn next_position(&self) -> u64 {
        self.appender.next()
    }

    /// Whether a send met the end of a ring that was sealed. A channel's never is.
    pub(crate) fn met_seal(&self) -> bool {
        self.sealed
    }

    /// Payloads stay as long as their slots do and the pool has room, whoever has read them: a stream is
    /// read again.
    pub(crate) fn retaining(mut self) -> Self {
        self.retains = true;
        self
    }

    /// Sends `body`; its position. Never blocks. For inline bodies: no system call unless
    /// somebody sleeps, no allocation.
    ///
    /// # Errors
    /// [`SendError::Full`] when a reliable reader still needs the oldest record; the others of
    /// [`SendError`]. Nothing was sent then.
    #[inline]
    pub fn try_send(&mut self, body: &[u8]) -> Result<u64, SendError> {
        match self.try_send_at_once(body) {
            Some(position) => Ok(position),
            None => self.try_send_slowly(body),
        }
    }

    /// [`try_send`](Self::try_send) as most are: all in registers, nothing out of line. `None`: nothing was sent,
    /// and [`try_send_slowly`](Self::try_send_slowly) does it or says why not.
    #[doc(hidden)]
    #[inline(always)]
    pub fn try_send_at_once(&mut self, body: &[u8]) -> Option<u64> {
        match self.append_clear::<true>(body) {
            Ok(position) => Some(position),
            Err(None) => None,
            Err(Some(lost)) => {
                self.note_lost(lost);
                None
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn note_lost(&mut self, lost: Lost) {
        self.lost = Some(lost);
    }

    /// [`try_send`](Self::try_send) behind a [`try_send_at_once`](Self::try_send_at_once) that said nothing: what
    /// became of a claim there is told here, before the body is sent once more.
    #[doc(hidden)]
    #[cold]
    #[inline(never)]
    pub fn try_send_slowly(&mut self, body: &[u8]) -> Result<u64, SendError> {
        let lost = self.lost.take();
        let position = self.append(body, lost)?;
        self.wake();
        Ok(position)
    }

    /// Sends as many of `bodies` as there is room for, in order; how many. One wake for all.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), when not even the first could be sent. An error behind the
    /// first is met again by the next call.
    pub fn try_send_batch<B: AsRef<[u8]>>(&mut self, bodies: &[B]) -> Result<usize, SendError> {
        if self.generation != fork::generation() {
            return Err(SendError::Forked);
        }
        let mut sent = 0;
        let result = loop {
            let mut lost = None;
            if self.generation == fork::generation() {
                let (count, left) = if self.exclusive {
                    self.append_run::<true, B>(&bodies[sent..])
                } else {
                    self.append_run::<false, B>(&bodies[sent..])
                };
                sent += count;
                lost = left;
            }
            let Some(body) = bodies.get(sent) else {
                break Ok(sent);
            };
            match self.append(body.as_ref(), lost) {
                Ok(_) => sent += 1,
                Err(error) if sent == 0 => break Err(error),
                Err(_) => break Ok(sent),
            }
        };
        if sent > 0 && self.generation == fork::generation() {
            self.wake();
        }
        result
    }

    /// The common appends in a row, as [`append_clear`](Self::append_clear): how many, and what
    /// became of a claim that was lost.
    #[inline]
    fn append_run<const EXCLUSIVE: bool, B: AsRef<[u8]>>(
        &mut self,
        bodies: &[B],
    ) -> (usize, Option<Lost>) {
        let ring = &self.ring;
        let mut sent = 0;
        let run = self.appender.run(ring, bodies.len() as u64);
        for (claim, body) in run.zip(bodies) {
            let body = body.as_ref();
            if !SHORT.contains(&body.len())
                || body.len() > claim.room()
                || self.generation != fork::generation()
            {
                break;
            }
            claim.prefetch(!EXCLUSIVE, body.len() > FIRST_LINE_BODY);
            let meta = Meta::new(body.len() as u32, Meta::INLINE, 0);
            if EXCLUSIVE {
                if !ring.is_producer(self.seat) {
                    break;
                }
                self.appender.make_clear_exclusive(&claim);
                claim.fill_short(meta, body);
                self.appender.commit_exclusive(ring, claim);
            } else {
                let Some(claim) = self.appender.make_clear(claim) else {
                    break;
                };
                claim.fill_short(meta, body);
                if let Err(lost) = self.appender.commit(ring, claim) {
                    return (sent, Some(lost));
                }
            }
            sent += 1;
        }
        (sent, None)
    }

    /// Sends `body`, waiting for room up to `timeout`.
    ///
    /// Blocks by polling with pauses of at most 1 ms: readers make no system call for producers.
    ///
    /// # Errors
    /// After `timeout`: [`SendError::Stalled`] when the reader that holds the ring back has not
    /// moved for the stall time-out, else [`SendError::Full`]. Others at once.
    #[inline]
    pub fn send(&mut self, body: &[u8], timeout: Duration) -> Result<u64, SendError> {
        match self.try_send(body) {
            // Only who waits needs a clock.
            Err(SendError::Full { .. }) => self.send_when_there_is_room(body, timeout),
            other => other,
        }
    }

    #[cold]
    #[inline(never)]
    fn send_when_there_is_room(
        &mut self,
        body: &[u8],
        timeout: Duration,
    ) -> Result<u64, SendError> {
        let mut patience = wait::Patience::new(timeout);
        loop {
            match self.try_send(body) {
                Err(SendError::Full { by }) => {
                    let cursor = self.inner.ring.lowest_cursor().0;
                    if !patience.pause(&*self.inner.host, by, cursor) {
                        let stall = self.inner.ring.stall_timeout_ns();
                        return Err(match patience.stalled(stall) {
                            Some(by) => SendError::Stalled { by },
                            None => SendError::Full { by },
                        });
                    }
                }
                other => return other,
            }
        }
    }

    /// Lends `len` bytes of the payload pool to fill. No system call and no read-modify-write
    /// while the private cache holds a chunk of the class.
    ///
    /// # Errors
    /// [`SendError::PoolExhausted`] at the quota of the bus, [`SendError::NoSpace`] when the file
    /// system is full.
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan, SendError> {
        let lent = self.lend(len)?;
        let data = self
            .lender
            .data(lent)
            .ok_or_else(|| SendError::Pool("segment lost".into()))?;
        Ok(self.loans.make(lent, len, data))
    }

    /// Sends a loan without copying it; its position.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), with the loan back.
    #[inline]
    pub fn try_send_loan(&mut self, loan: Loan) -> Result<u64, (SendError, Loan)> {
        if !self.loans.know(&loan) {
            return Err((SendError::Pool("the loan is from another bus".into()), loan));
        }
        match self.send_chunk(loan.lent, loan.len) {
            Ok(position) => {
                self.loans.sent(loan);
                Ok(position)
            }
            Err(error) => Err((error, loan)),
        }
    }

    fn send_large(&mut self, body: &[u8]) -> Result<u64, SendError> {
        let lent = self.lend_copy(body)?;
        self.send_chunk(lent, body.len())
            .inspect_err(|_| self.lender.put_back(lent))
    }

    /// A chunk with a copy of `body`.
    fn lend_copy(&mut self, body: &[u8]) -> Result<Lent, SendError> {
        let lent = self.lend(body.len())?;
        if self.lender.data(lent).is_none() {
            return Err(SendError::Pool("segment lost".into()));
        }
        self.lender.write(lent, body); // its class was chosen by that length
        Ok(lent)
    }

    fn send_chunk(&mut self, lent: Lent, len: usize) -> Result<u64, SendError> {
        let reference = ChunkRef {
            segment: lent.segment,
            chunk: lent.chunk,
            version: lent.version,
            len: len as u64,
        };
        if self.generation != fork::generation() {
            // Before the flag below, which a forked child has not mapped.
            return Err(SendError::Forked);
        }
        let payloads = self.ring.memory().payloads();
        if payloads.load(Ordering::Relaxed) == 0 {
            payloads.store(1, Ordering::Relaxed); // ordered before the record by its commit
        }
        // As whole words: the copy into the slot takes them from the store buffer eight bytes at a
        // time, and would wait for halves to leave it.
        let words: [u64; 3] = bytemuck::cast(reference);
        let body = bytemuck::bytes_of(&words);
        let meta = Meta::new(body.len() as u32, Meta::CHUNK, 0);
        // The reference fits into the first line, which is fetched while the payload's still are.
        let slot = self.ring.memory().slot(self.appender.next());
        slot.prefetch_first_line_to_write();
        loop {
            let (ring, claim) = claim!(self);
            self.lender
                .address(lent, self.inner.object_id, claim.position);
            claim.fill(ring, meta, body);
            let position = claim.position;
            match commit(&mut self.appender, ring, self.exclusive, claim) {
                Ok(()) => {
                    self.wake();
                    self.lender.attach(lent);
                    if self.appender.next() >= self.reclaim_at
                        && !self.retains
                        && self.lender.is_low(lent)
                    {
                        self.reclaim_some();
                    }
                    self.lender.prefetch_next(lent);
                    return Ok(position);
                }
                Err(lost) => start_over(lost, position)?,
            }
        }
    }

    /// A chunk: from the cache; from records that every reader has passed; from the shared words;
    /// from a new segment.
    #[inline]
    fn lend(&mut self, len: usize) -> Result<Lent, SendError> {
        if self.generation != fork::generation() {
            return Err(SendError::Forked);
        }
        if len > MAX_PAYLOAD {
            return Err(SendError::TooLarge {
                len,
                max: MAX_PAYLOAD,
            });
        }
        match self.lender.cached(len) {
            Some(lent) => Ok(lent),
            None => self.lend_uncached(len),
        }
    }

    #[cold]
    #[inline(never)]
    fn lend_uncached(&mut self, len: usize) -> Result<Lent, SendError> {
        if !self.retains {
            self.reclaim_payloads();
        }
        for attempt in 0..if self.retains { 3 * RECLAIM_PARTS } else { 3 } {
            if let Some(lent) = self.lender.cached(len) {
                return Ok(lent);
            }
            if self.lender.refill(len) {
                continue;
            }
            match self.lender.grow(len) {
                Ok(()) => {
                    self.lender.refill(len);
                }
                // The dead may sit on chunks.
                Err(GrowFailure::Quota { .. } | GrowFailure::NoSpace(_)) if attempt == 0 => {
                    self.inner.host.reap_now();
                }
                Err(GrowFailure::Quota { .. }) if self.retains && attempt < RECLAIM_PARTS => {
                    self.reclaim_payloads();
                }
                Err(GrowFailure::Quota { used, quota }) => {
                    return Err(SendError::PoolExhausted {
                        needed: len as u64,
                        used,
                        quota,
                    });
                }
                Err(GrowFailure::NoSpace(room)) => {
                    return Err(SendError::NoSpace {
                        needed: room.needed,
                        available: room.available,
                    });
                }
                Err(GrowFailure::Damaged(path)) => {
                    return Err(SendError::Pool(format!("{} is damaged", path.display())));
                }
                Err(GrowFailure::Io(error)) => return Err(SendError::Pool(error.to_string())),
            }
        }
        self.lender.cached(len).ok_or(SendError::Full { by: None })
    }

    /// Takes a few payloads back that every reader has passed, behind a send, while its record is on its
    /// way: all at once, they would hold up the loan that finds the cache empty.
    #[cold]
    #[inline(never)]
    fn reclaim_some(&mut self) {
        let next = self.appender.next();
        // More than were sent meanwhile, so that it catches up, and still few.
        let passed = next - self.reclaim_at.saturating_sub(RECLAIM_EVERY).min(next);
        let most = 2 * passed.clamp(RECLAIM_EVERY, MOST_RECLAIMED / 2);
        self.reclaim_at = next + RECLAIM_EVERY;
        let mut vacate = Vacate {
            lender: &mut self.lender,
            ring: self.inner.object_id,
        };
        self.appender.reclaim_some(&self.ring, most, &mut vacate);
    }

    fn reclaim_payloads(&mut self) {
        let mut vacate = Vacate {
            lender: &mut self.lender,
            ring: self.inner.object_id,
        };
        if self.retains {
            self.appender
                .reclaim_part(&self.inner.ring, RECLAIM_PARTS, &mut vacate);
        } else {
            self.appender.reclaim_all(&self.inner.ring, &mut vacate);
        }
    }

    /// The common append: the next position is clear, and the body of 8 to 64 bytes fits into
    /// its slot. Else the long way has to go on, with what became of a claim if there was one.
    #[inline(always)]
    fn append_clear<const WAKE: bool>(&mut self, body: &[u8]) -> Result<u64, Option<Lost>> {
        let ring = &self.ring;
        let slot = ring.memory().slot(self.appender.next());
        if !self.appender.is_clear()
            || !SHORT.contains(&body.len())
            || body.len() > slot.room()
            || self.generation != fork::generation()
        {
            return Err(None);
        }
        if !self.exclusive {
            slot.prefetch_first_line_to_write();
        }
        if body.len() > FIRST_LINE_BODY {
            slot.prefetch_second_line::<true>();
        }
        let meta = Meta::new(body.len() as u32, Meta::INLINE, 0);
        if self.exclusive {
            if !ring.is_producer(self.seat) {
                return Err(None);
            }
            let claim = self.appender.claim_clear_exclusive(ring);
            claim.fill_short(meta, body);
            let position = self.appender.commit_exclusive(ring, claim);
            if WAKE {
                ring.wake_sleepers();
            }
            return Ok(position);
        }
        let claim = self.appender.claim_clear(ring).ok_or(None)?;
        claim.fill_short(meta, body);
        let position = self.appender.commit(ring, claim).map_err(Some)?;
        if WAKE {
            ring.wake_behind_commit();
        }
        Ok(position)
    }

    /// Any append, without a wake.
    #[cold]
    #[inline(never)]
    fn append(&mut self, body: &[u8], lost: Option<Lost>) -> Result<u64, SendError> {
        if let Some(lost) = lost {
            start_over(lost, self.appender.next() - 1)?;
        }
        if body.len() > self.inline_bytes {
            return self.send_large(body);
        }
        let meta = Meta::new(body.len() as u32, Meta::INLINE, 0);
        loop {
            let slot = self.ring.memory().slot(self.appender.next());
            if !self.exclusive {
                slot.prefetch_first_line_to_write();
            }
            if body.len() > FIRST_LINE_BODY {
                slot.prefetch_second_line::<true>();
            }
            let (ring, claim) = claim!(self);
            claim.fill(ring, meta, body);
            let position = claim.position;
            match commit(&mut self.appender, ring, self.exclusive, claim) {
                Ok(()) => return Ok(position),
                Err(lost) => start_over(lost, position)?,
            }
        }
    }

    #[inline(always)]
    fn wake(&self) {
        if self.exclusive {
            self.ring.wake_sleepers();
        } else {
            self.ring.wake_behind_commit();
        }
    }

    /// Whether an exclusive producer was taken for dead, and its word by the next one: as by who closes the
    /// descriptor of its lock. It writes no more.
    #[inline(always)]
    fn is_displaced(&self) -> bool {
        self.exclusive && !self.ring.is_producer(self.seat)
    }

    #[cold]
    fn refused(&mut self, blocked: Blocked) -> SendError {
        if self.inner.is_removed() {
            return SendError::Removed;
        }
        if !self.inner.host.is_current() {
            return SendError::Stale;
        }
        self.refusals = self.refusals.wrapping_add(1);
        if self.refusals.is_multiple_of(CHECK_LINK_EVERY) && self.inner.is_unlinked() {
            return SendError::Unlinked;
        }
        match blocked {
            Blocked::Full { by } => SendError::Full {
                by: (by != 0).then_some(ParticipantId(by)),
            },
            Blocked::Corrupt | Blocked::Sealed => {
                self.sealed = blocked == Blocked::Sealed;
                SendError::Corrupt {
                    position: self.appender.next(),
                }
            }
        }
    }
}

#[inline(always)]
fn commit(
    appender: &mut Appender,
    ring: &SlotRing,
    exclusive: bool,
    claim: Claim<'_>,
) -> Result<(), Lost> {
    if exclusive {
        appender.commit_exclusive(ring, claim);
        return Ok(());
    }
    appender.commit(ring, claim).map(|_| ())
}

/// An abandoned claim was given back and nothing was visible: the record is sent again.
#[cold]
fn start_over(lost: Lost, position: u64) -> Result<(), SendError> {
    match lost {
        Lost::Abandoned => Ok(()),
        Lost::Corrupt => Err(SendError::Corrupt { position }),
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.exclusive && !self.inner.ring.memory().is_forked() && !self.is_displaced() {
            self.inner.ring.release_producer(self.inner.ring.me());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Bus;
    use crate::sys::host;

    #[test]
    fn what_became_of_a_claim_on_the_short_way_is_told_before_the_body_is_sent_once_more() {
        let name = format!("short-way-{:016x}", host::random_u64());
        let root = std::env::temp_dir();
        let bus = Bus::builder(&name).root(&root).create().unwrap();
        let channel = bus.channel("c").create().unwrap();
        let mut producer = channel.producer().unwrap();
        // Until the short way is open.
        let first = loop {
            match producer.try_send_at_once(b"a first one") {
                Some(position) => break position,
                None => drop(producer.try_send(b"another one").unwrap()),
            }
        };
        // A peer wrote over the word of the claim: for all that is known the record stands there.
        producer.note_lost(Lost::Corrupt);
        let told = producer.try_send_slowly(b"once more");
        assert!(matches!(told, Err(SendError::Corrupt { .. })), "{told:?}");
        assert_eq!(producer.try_send(b"the next").unwrap(), first + 1);
        drop((producer, channel, bus));
        Bus::builder(&name).root(&root).remove(false).unwrap();
    }
}
