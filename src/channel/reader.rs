//! Reading: copies that are validated, runs in place, and what to do about claims that hang.

use super::join::SeatGuard;
use super::view::{PinnedView, View};
use super::wait::SeatWatch;
use crate::ParticipantId;
use crate::error::{ReadError, WaitError};
use crate::layout::ring::{ChunkRef, MAX_POSITION, Meta, NO_PIN, PINS};
use crate::layout::word::{Chunk, Ctl};
use crate::object::poll::{PollDescriptor, Shared};
use crate::object::wait::wait_any;
use crate::ring::pace::Distance;
use crate::ring::read::{Look, publish};
use crate::ring::wait::Idle;
use crate::ring::{Counter, Producers, SlotRing};
use crate::shm::ring::{CursorWord, Slot};
use crate::sync::{Label, Ordering, fence_at};
use crate::sys::clock::{self, Deadline};
use crate::sys::fork;
use std::sync::Arc;
use std::time::Duration;

/// Looks at a hanging claim between two glances at the clock.
const PENDING_LOOKS: u32 = 64;
/// The coarse clock moves every 1 to 10 ms, by the kernel's configuration.
const COARSE_TICK_NS: u64 = 1_000_000;
/// Bytes of body in the slot's first cache line.
const FIRST_LINE_BODY: usize = 32;

mod at_once;

use at_once::inline_up_to;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position; positions grow, with gaps where sends were abandoned.
    pub position: u64,
    /// Bytes of body.
    pub len: usize,
}

/// Where a body lies.
#[derive(Clone, Copy)]
pub(super) enum Body {
    Inline(usize),
    Chunk(ChunkRef),
}

impl Body {
    fn len(self) -> usize {
        match self {
            Self::Inline(len) => len,
            Self::Chunk(reference) => reference.len as usize,
        }
    }
}

/// A reader of one channel.
///
/// May move to another thread, is not shared between threads. Dropping it gives its entry back.
/// In a forked child every call returns [`ReadError::Forked`]. When its process dies, its entry is
/// freed by whoever it holds back, within milliseconds.
pub struct Reader {
    /// By value, as in a producer.
    ring: SlotRing,
    cursor: CursorWord,
    pub(super) seat: Arc<SeatGuard>,
    next: u64,
    reliable: bool,
    pub(super) idle: Idle,
    body_bytes: usize,
    /// Whether a look at the end asks for the second line too. Not on a shared ring: its producer
    /// writes that line between two locked instructions, and taking it back costs more than it
    /// brings.
    prefetches: bool,
    /// Of the process that made it.
    generation: u64,
    /// A claim we wait for: its word, when we met it, looks since.
    pending: Option<(Ctl, u64, u32)>,
    poll: Option<Arc<Shared>>,
    distance: Distance,
}

impl Reader {
    pub(super) fn new(seat: Arc<SeatGuard>, next: u64, reliable: bool, idle: Idle) -> Self {
        let ring = &seat.inner.ring;
        let exclusive = ring.producers() == Producers::Exclusive;
        let body_bytes = ring.memory().geometry().body_bytes();
        Self {
            ring: ring.clone(),
            cursor: ring.cursor_word(&seat.seat),
            seat,
            next,
            reliable,
            idle,
            body_bytes,
            prefetches: body_bytes > FIRST_LINE_BODY && exclusive,
            generation: fork::generation(),
            pending: None,
            poll: None,
            distance: Distance::default(),
        }
    }

    /// The position that is read next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether producers wait for this reader.
    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    /// The participant this reader belongs to.
    pub fn participant(&self) -> ParticipantId {
        ParticipantId(self.seat.inner.ring.me())
    }

    /// Notes beside its entry what this reader is, 1 to 255: who meets it sees it.
    pub(crate) fn note(&self, note: u8) {
        self.seat.inner.ring.note(&self.seat.seat, note);
    }

    /// Goes on reading at `position` (forwards, or back to the oldest that is there).
    ///
    /// A reliable reader can go back only as far as it has not read: what it passed may be gone.
    pub fn seek(&mut self, position: u64) {
        let position = position.min(MAX_POSITION);
        self.next = if self.reliable {
            position.max(self.next)
        } else {
            position
        };
        self.pending = None;
        self.publish();
    }

    #[cold]
    #[inline(never)]
    fn try_read_slowly(&mut self, buffer: &mut [u8]) -> Result<Option<Record>, ReadError> {
        loop {
            let Some((position, body)) = self.find()? else {
                return Ok(None);
            };
            let len = body.len();
            let given = buffer.len();
            if let Some(out) = buffer.get_mut(..len)
                && self.copy(position, body, out)
            {
                self.advance(position);
                return Ok(Some(Record { position, len }));
            }
            if !self.stands(position) {
                continue; // overwritten under the copy: look again, which tells how
            }
            if len > given {
                return Err(ReadError::BufferTooSmall { needed: len, given });
            }
            // The record stands, its payload is gone.
            self.pass_payload(position)?;
        }
    }

    /// Waits up to `timeout` for a record and copies it. `None` after the time-out.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<Option<Record>, ReadError> {
        if let Some(record) = self.try_read(buffer)? {
            return Ok(Some(record));
        }
        let deadline = Deadline::after(timeout);
        // A wait also ends when a hanging claim was settled: then there may be nothing to read yet.
        // Laps that a peer scribbled far ahead look like something to step over, for ever.
        while self.wait(deadline.remaining())? {
            if let Some(record) = self.try_read(buffer)? {
                return Ok(Some(record));
            }
            if deadline.passed() {
                break;
            }
        }
        Ok(None)
    }

    /// Hands up to `max` records to `each`, in place; how many. The cursor moves once, behind the
    /// last: for throughput.
    ///
    /// Only reliable readers read in place without a pin; a lossy reader gets one record at a time
    /// as a copy-free pinned view.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read), when not even the first could be read.
    pub fn read_batch(
        &mut self,
        max: usize,
        mut each: impl FnMut(Record, &[u8]),
    ) -> Result<usize, ReadError> {
        let mut count = 0;
        while count < max {
            if self.reliable && self.generation == fork::generation() {
                let before = self.next;
                let mut ends = false;
                if count == 0 {
                    let glance = self.ring.glance_past_claim(before);
                    if glance.is_end() && self.is_at_mere_end() {
                        self.distance.at_end(before);
                        return Ok(0);
                    }
                }
                for glance in self.ring.glances(before, (max - count) as u64) {
                    let Some(len) = glance
                        .record()
                        .and_then(|meta| inline_up_to(meta, glance.slot.room()))
                    else {
                        ends = glance.is_end();
                        break;
                    };
                    let record = Record {
                        position: self.next,
                        len,
                    };
                    let body = glance.slot.body().cast_const();
                    // SAFETY: the length lies inside the slot; this reader's published cursor is
                    // at or below the record, so no well-behaved producer overwrites it before
                    // `publish`.
                    each(record, unsafe { core::slice::from_raw_parts(body, len) });
                    self.next = record.position + 1;
                    if self.generation != fork::generation() {
                        return Err(ReadError::Forked); // `each` forked, and this is the child
                    }
                }
                count += (self.next - before) as usize;
                if count >= max || count > 0 && ends {
                    break;
                }
            }
            // What is to be told, and not handed over, is met again by the next call.
            let before = self.next;
            if self.is_of_parent() {
                return Err(ReadError::Forked);
            }
            let ends = match self.ring.look(before).1 {
                Look::Record(_) => false,
                Look::Gone => !self.reliable,
                Look::End | Look::Pending(_) => true,
            };
            if count > 0 && ends {
                break;
            }
            if !self.reliable {
                let failed = match self.try_view() {
                    Ok(Some(view)) => {
                        each(view.record(), &view);
                        None
                    }
                    Ok(None) => break,
                    Err(error) => Some(error),
                };
                match failed {
                    None => count += 1,
                    Some(error) if count == 0 => return Err(error),
                    Some(_) => {
                        self.next = before;
                        break;
                    }
                }
                continue;
            }
            match self.find() {
                Ok(Some((position, body))) => {
                    let Some(bytes) = self.bytes(position, body) else {
                        self.publish();
                        return Err(self.damaged(position));
                    };
                    // SAFETY: `bytes` checked that the range lies inside the mapping; this reader's
                    // published cursor is at or below `position`, so no well-behaved producer
                    // overwrites it before `publish`.
                    let bytes = unsafe { core::slice::from_raw_parts(bytes.0, bytes.1) };
                    each(
                        Record {
                            position,
                            len: bytes.len(),
                        },
                        bytes,
                    );
                    self.next = position + 1;
                    count += 1;
                }
                Ok(None) => break,
                Err(error) if count == 0 => return Err(error),
                Err(_) => {
                    self.next = before;
                    break;
                }
            }
        }
        self.publish();
        if count < max {
            self.distance.at_end(self.next);
        }
        Ok(count)
    }

    /// [`try_view`](Self::try_view) of whatever there is, past everything that is gone.
    #[cold]
    #[inline(never)]
    fn try_view_slowly(&mut self) -> Result<Option<View<'_>>, ReadError> {
        loop {
            let Some((position, body)) = self.find()? else {
                return Ok(None);
            };
            let pin = if self.reliable {
                None
            } else if let Some(pin) = self.pin(position)? {
                Some(pin)
            } else {
                self.pass_gone(position)?; // trim has passed it
                continue;
            };
            let held = self.reliable || self.stands(position);
            let bytes = if held {
                self.bytes(position, body)
            } else {
                None
            };
            let Some((data, len)) = bytes else {
                if let Some(pin) = pin {
                    self.seat.release_pin(pin);
                }
                if held {
                    self.pass_payload(position)?;
                }
                continue;
            };
            self.next = position + 1;
            return Ok(Some(View::new(self, Record { position, len }, data, pin)));
        }
    }

    /// The next record in place, as a view that outlives this borrow: it is pinned, up to
    /// 14 of them at a time, and costs producers one slot while it is open.
    ///
    /// # Errors
    /// [`ReadError::TooManyViews`]; as [`try_read`](Self::try_read).
    pub fn try_view_pinned(&mut self) -> Result<Option<PinnedView>, ReadError> {
        loop {
            let Some((position, body)) = self.find()? else {
                return Ok(None);
            };
            let Some(pin) = self.pin(position)? else {
                self.pass_gone(position)?; // trim has passed it
                continue;
            };
            let held = self.stands(position);
            let bytes = if held {
                self.bytes(position, body)
            } else {
                None
            };
            let Some((data, len)) = bytes else {
                self.seat.release_pin(pin);
                if held {
                    self.pass_payload(position)?;
                }
                continue;
            };
            self.advance(position);
            let record = Record { position, len };
            return Ok(Some(PinnedView::new(
                Arc::clone(&self.seat),
                record,
                data,
                pin,
            )));
        }
    }

    /// Waits up to `timeout` until there is something to read (or to be told). Blocks by the
    /// [`Idle`] this reader joined with; wakes within microseconds of a send.
    ///
    /// # Errors
    /// When the channel is gone or the handle stale.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, ReadError> {
        Ok(wait_any(&mut [self], timeout)?.is_some())
    }

    /// A descriptor for epoll, poll or an async runtime: readable while there is something to
    /// read. When it is, read until `None`; that arms it again. Starts one small thread.
    ///
    /// # Errors
    /// When the system gives no descriptor or thread.
    pub fn poll_descriptor(&mut self) -> std::io::Result<PollDescriptor> {
        if self.is_of_parent() {
            return Err(std::io::Error::other(ReadError::Forked));
        }
        let watch = SeatWatch::new(Arc::clone(&self.seat));
        let descriptor = PollDescriptor::start(watch, self.next)?;
        self.poll = Some(descriptor.shared());
        Ok(descriptor)
    }

    /// Whether a look at the ring would find something other than the end.
    pub(super) fn has_record(&mut self) -> bool {
        match self.seat.inner.ring.look(self.next).1 {
            Look::End => false,
            Look::Pending(word) => self.settle(self.next, word),
            Look::Record(_) | Look::Gone => true,
        }
    }

    pub(super) fn is_of_parent(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Whether the reader hangs on a claim: it must look again soon.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The next record and where its body lies, past everything that is gone.
    #[inline(always)]
    fn find(&mut self) -> Result<Option<(u64, Body)>, ReadError> {
        if self.generation != fork::generation() {
            return Err(ReadError::Forked);
        }
        let p = self.next;
        let (mut slot, mut look) = self.ring.look(p);
        if let Look::Pending(_) = look {
            slot = self.ring.glance_behind_claim(p).slot;
            look = self.ring.look(p).1;
        }
        if let Look::Record(meta) = look {
            if meta.kind() == Meta::INLINE && meta.len() as usize <= self.body_bytes {
                return Ok(Some((p, Body::Inline(meta.len() as usize))));
            }
            if let Some(reference) = self.chunk_reference(slot, p, meta)? {
                return Ok(Some((p, Body::Chunk(reference))));
            }
        } else if look == Look::End {
            if self.prefetches {
                slot.prefetch_second_line::<false>();
            }
            return self.at_end();
        }
        self.find_on()
    }

    /// Whether there is nothing to do at the end but to say so.
    #[inline(always)]
    fn is_at_mere_end(&self) -> bool {
        self.pending.is_none() && self.poll.is_none() && !self.seat.inner.is_removed()
    }

    #[inline(always)]
    fn at_end(&mut self) -> Result<Option<(u64, Body)>, ReadError> {
        if self.pending.is_some() {
            self.pending = None;
        }
        if self.seat.inner.is_removed() {
            return Err(ReadError::Removed);
        }
        self.nothing_yet()
    }

    /// Every `None` goes through here: who watches a descriptor is told when there is something.
    #[inline(always)]
    fn nothing_yet(&mut self) -> Result<Option<(u64, Body)>, ReadError> {
        self.distance.at_end(self.next);
        if let Some(poll) = &self.poll {
            poll.rearm(self.next);
        }
        Ok(None)
    }

    /// Everything but the next record in its place.
    #[cold]
    fn find_on(&mut self) -> Result<Option<(u64, Body)>, ReadError> {
        // Bounded: a scribbled lap must not keep us here for ever.
        for _ in 0..=self.seat.inner.ring.memory().geometry().slots() {
            let inner = Arc::clone(&self.seat.inner);
            let p = self.next;
            let (slot, look) = inner.ring.look(p);
            match look {
                Look::End => return self.at_end(),
                Look::Pending(word) => {
                    if !self.settle(p, word) {
                        return self.nothing_yet();
                    }
                }
                Look::Record(meta) => {
                    self.pending = None;
                    if meta.kind() == Meta::INLINE && meta.len() as usize <= self.body_bytes {
                        return Ok(Some((p, Body::Inline(meta.len() as usize))));
                    }
                    if let Some(reference) = self.chunk_reference(slot, p, meta)? {
                        return Ok(Some((p, Body::Chunk(reference))));
                    }
                    if inner.ring.still(slot, p) {
                        return Err(self.damaged(p));
                    }
                }
                Look::Gone => {
                    self.pending = None;
                    self.pass_gone(p)?;
                }
            }
        }
        self.nothing_yet()
    }

    /// Position `p` holds nothing any more: dropped before we came, or never filled.
    ///
    /// A reliable reader steps on by one: its cursor kept everything from `p` on, wherever `trim`
    /// stands. A lossy one goes to `trim` and says so.
    fn pass_gone(&mut self, p: u64) -> Result<(), ReadError> {
        let ring = &self.seat.inner.ring;
        if self.reliable {
            self.advance(p);
            return Ok(());
        }
        match ring.oldest() {
            Some(trim) if p < trim => {
                self.next = trim;
                let lost = ring.memory().reader(self.seat.seat.index).lost;
                lost.fetch_add(trim - p, Ordering::Relaxed); // a statistic of ours
                self.publish();
                Err(ReadError::Lagged { from: p, to: trim })
            }
            Some(_) => {
                self.next = p + 1;
                self.publish();
                Ok(())
            }
            None => {
                self.next = ring.tail_now().max(p + 1);
                self.publish();
                Err(ReadError::Corrupt { position: p })
            }
        }
    }

    /// The record at `p` stands and its payload does not: dropped before we came, or damage.
    fn pass_payload(&mut self, p: u64) -> Result<(), ReadError> {
        let oldest = self.seat.inner.ring.oldest();
        if !self.reliable && oldest.is_some_and(|trim| p < trim) {
            return self.pass_gone(p);
        }
        Err(self.damaged(p))
    }

    fn stands(&self, position: u64) -> bool {
        let ring = &self.ring;
        ring.still(ring.memory().slot(position), position)
    }

    /// A claim stands at `p`. `true` when it is out of the way.
    #[cold]
    fn settle(&mut self, p: u64, word: Ctl) -> bool {
        match &mut self.pending {
            Some((seen, since, looks)) if *seen == word => {
                *looks = looks.wrapping_add(1);
                // Whoever looks seldom has the coarse clock tell that time has passed.
                let ticked = clock::coarse() > *since + COARSE_TICK_NS;
                if *looks % PENDING_LOOKS != 0 && *looks > 1 && !ticked {
                    return false;
                }
                let waited = clock::now().saturating_sub(*since);
                if self.seat.inner.ring.resolve(p, word, waited) {
                    self.pending = None;
                    return true;
                }
                false
            }
            _ => {
                self.pending = Some((word, clock::now(), 0));
                false
            }
        }
    }

    /// Called by a waiter before each bounded sleep: the clock is looked at every time.
    pub(super) fn settle_now(&mut self) -> bool {
        let Some((word, since, _)) = self.pending else {
            return false;
        };
        let waited = clock::now().saturating_sub(since);
        let resolved = self.seat.inner.ring.resolve(self.next, word, waited);
        if resolved {
            self.pending = None;
        }
        resolved
    }

    /// The chunk a record names; `None` when it names none there is.
    ///
    /// # Errors
    /// When its segment can't be opened *now*: the record stays next.
    #[inline]
    fn chunk_reference(
        &self,
        slot: Slot<'_>,
        p: u64,
        meta: Meta,
    ) -> Result<Option<ChunkRef>, ReadError> {
        if meta.kind() != Meta::CHUNK || meta.len() as usize != size_of::<ChunkRef>() {
            return Ok(None);
        }
        let ring = &self.ring;
        let mut bytes = [0u8; size_of::<ChunkRef>()];
        slot.read_body(&mut bytes);
        let reference: ChunkRef = bytemuck::cast(bytes);
        let segment = match self.seat.inner.segments.open(reference.segment) {
            Ok(Some(segment)) => segment,
            Ok(None) => return Ok(None),
            Err(failure) => return Err(ReadError::Pool(format!("{failure:?}"))),
        };
        let valid = reference.chunk < segment.chunks()
            && reference.len <= segment.chunk_bytes() as u64
            && ring.still(slot, p);
        Ok(valid.then_some(reference))
    }

    /// Copies a body and says whether it was the record of `position` all the time.
    #[inline(always)]
    fn copy(&self, position: u64, body: Body, out: &mut [u8]) -> bool {
        let ring = &self.ring;
        let slot = ring.memory().slot(position);
        match body {
            Body::Inline(_) => {
                slot.read_body(out);
                ring.still(slot, position)
            }
            Body::Chunk(reference) => self.copy_chunk(slot, position, reference, out),
        }
    }

    fn copy_chunk(&self, slot: Slot<'_>, position: u64, from: ChunkRef, out: &mut [u8]) -> bool {
        let Some(segment) = self.seat.inner.segments.get(from.segment) else {
            return false;
        };
        // SAFETY: chunk_reference checked len <= chunk bytes and chunk < chunks; the segment stays
        // mapped; the copy is opaque, so the bytes may change meanwhile.
        unsafe { crate::shm::copy::copy_out(out, segment.data(from.chunk)) };
        fence_at(Label::ReadFence, Ordering::Acquire);
        (self.reliable
            || Chunk(segment.word(from.chunk).load(Ordering::Relaxed)).version() == from.version)
            && self.ring.still(slot, position)
    }

    /// Where the bytes of a held record lie; `None` when its reference is not what it says.
    #[inline(always)]
    fn bytes(&self, position: u64, body: Body) -> Option<(*const u8, usize)> {
        match body {
            Body::Inline(len) => Some((self.ring.memory().slot(position).body().cast_const(), len)),
            Body::Chunk(reference) => {
                let segment = self.seat.inner.segments.get(reference.segment)?;
                let holds = || {
                    let word = Chunk(segment.word(reference.chunk).load(Ordering::Acquire));
                    word.version() == reference.version && word.state() != Chunk::FREE
                };
                // A reliable cursor keeps the chunk from being freed, so its word has nothing to
                // add; and the producer, who changes it with each record, keeps its line.
                (self.reliable || holds()).then(|| {
                    (
                        segment.data(reference.chunk).cast_const(),
                        reference.len as usize,
                    )
                })
            }
        }
    }

    fn pin(&self, position: u64) -> Result<Option<usize>, ReadError> {
        let pin = self
            .seat
            .reserve_pin()
            .ok_or(ReadError::TooManyViews { limit: PINS })?;
        if self.seat.inner.ring.pin(&self.seat.seat, pin, position) || self.reliable {
            return Ok(Some(pin));
        }
        self.seat.release_pin(pin);
        Ok(None)
    }

    fn damaged(&mut self, position: u64) -> ReadError {
        self.seat.inner.ring.count(Counter::Damaged, 1);
        self.advance(position);
        ReadError::Corrupt { position }
    }

    #[inline(always)]
    fn advance(&mut self, position: u64) {
        self.next = position + 1;
        self.publish();
    }

    /// Everything below `next` is read.
    #[inline(always)]
    pub(super) fn publish(&self) {
        if !self.is_of_parent() {
            publish(&self.cursor, self.next);
        }
    }

    /// Slow checks of a waiter: whether there still is anything to wait for.
    pub(super) fn check_seat(&self) -> Result<(), WaitError> {
        let inner = &self.seat.inner;
        if inner.ring.memory().is_forked() {
            return Err(WaitError::Forked);
        }
        if inner.is_removed() {
            return Err(WaitError::Removed);
        }
        if inner.is_unlinked() {
            return Err(WaitError::Unlinked);
        }
        if !inner.host.is_current() || !inner.ring.is_seated(&self.seat.seat) {
            return Err(WaitError::Stale);
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Views that are still pinned keep the seat; the cursor holds nobody back any more.
        if !self.is_of_parent() {
            publish(&self.cursor, NO_PIN);
        }
    }
}
