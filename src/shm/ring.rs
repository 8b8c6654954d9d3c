//! The memory of a slot ring: its shared words and its slots.
//!
//! Constructed from a mapping and a geometry that fits it; from then on every access is in
//! bounds by arithmetic: a slot index is masked, a reader index is checked.

use super::copy::{self, SHORT};
use super::words::{word32, word64};
use crate::layout::ring::{Meta, READERS_OFFSET, ReaderEntry, SLOT_HEADER, control};
use crate::layout::geometry::Geometry;
use crate::layout::queue::{ENVELOPE, Envelope, MIN_FIFO_STRIDE};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::mapping::Mapping;
use core::marker::PhantomData;
use core::mem::offset_of;
use std::sync::Arc;

pub use crate::layout::ring::PINS;

/// See the module. A clone lets a handle keep addresses and geometry in its own memory, where no
/// store into the ring can make the compiler load them again.
#[derive(Clone, Debug)]
pub struct RingMemory {
    mapping: Arc<Mapping>,
    /// First byte of the mapping.
    base: *mut u8,
    slots: *mut u8,
    geometry: Geometry,
    /// First byte of the mapping whose wake words and counters count for this ring: its own, or
    /// that of the first ring of its chain.
    home: *mut u8,
    home_mapping: Arc<Mapping>,
}

// SAFETY: `base` and `slots` point into `mapping`, `home` into `home_mapping`, which live as long and
// are not bound to a thread; all access through them is atomic or by opaque copies.
unsafe impl Send for RingMemory {}
// SAFETY: as above.
unsafe impl Sync for RingMemory {}

/// One slot. The lifetime keeps the mapping.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    at: *mut u8,
    /// Bytes behind the header.
    room: usize,
    memory: PhantomData<&'a RingMemory>,
}

/// Slots of following positions in the same lap.
#[derive(Clone)]
pub struct SlotRun<'a> {
    at: *mut u8,
    left: u64,
    stride: usize,
    memory: PhantomData<&'a RingMemory>,
}

impl<'a> Iterator for SlotRun<'a> {
    type Item = Slot<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Slot<'a>> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at = at.wrapping_add(self.stride);
        Some(Slot { at, room: self.stride - SLOT_HEADER, memory: PhantomData })
    }
}

/// The words of one reader entry.
#[derive(Clone, Copy)]
pub struct ReaderWords<'a> {
    pub word: &'a AtomicU64,
    pub cursor: &'a AtomicU64,
    pub lost: &'a AtomicU64,
    /// Standing entries: who reads for the group.
    pub lease: &'a AtomicU64,
    /// Standing entries: how far the group has come.
    pub checkpoint: &'a AtomicU64,
    /// Standing entries: where the subscriber of a registered consumer is.
    pub subscribed: &'a AtomicU64,
    pub pins: &'a [AtomicU64; PINS],
}

impl RingMemory {
    /// Lets the kernel take its pages: what is on a disk is read again when it is used. In memory nothing
    /// changes but who counts them.
    pub fn release_pages(&self) {
        self.mapping.release_pages();
    }

    /// `None` when the geometry does not fit into the mapping.
    pub fn new(mapping: Arc<Mapping>, geometry: Geometry, slots_offset: u64) -> Option<Self> {
        let slots_bytes = geometry.slots().checked_mul(geometry.stride() as u64)?;
        let end = slots_offset.checked_add(slots_bytes)?;
        let table = geometry.readers() as usize * size_of::<ReaderEntry>();
        if !slots_offset.is_multiple_of(64)
            || slots_offset < (READERS_OFFSET + table) as u64
            || end > mapping.len() as u64
        {
            return None;
        }
        // SAFETY: slots_offset <= end <= mapping.len(), just checked.
        let slots = unsafe { mapping.base().add(slots_offset as usize) };
        let base = mapping.base();
        let home_mapping = Arc::clone(&mapping);
        Some(Self { mapping, base, slots, geometry, home: base, home_mapping })
    }

    /// The same memory as a further ring of a chain that begins with `first`: who sleeps and who
    /// counts does so there.
    pub fn chained_to(self, first: &Self) -> Self {
        Self { home: first.home, home_mapping: Arc::clone(&first.home_mapping), ..self }
    }

    /// Slot count, stride, reader count.
    #[inline(always)]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Whether this process forked away from the one that attached.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.mapping.is_forked()
    }

    /// The slot of a position.
    #[inline(always)]
    pub fn slot(&self, position: u64) -> Slot<'_> {
        let index = self.geometry.slot_of(position);
        // SAFETY: slot_of masks to less than the slot count, and slots × stride bytes lie behind
        // `slots` (checked in `new`, immutable since).
        let at = unsafe { self.slots.add(index * self.geometry.stride()) };
        Slot { at, room: self.geometry.body_bytes(), memory: PhantomData }
    }

    /// The slots from `position` on: `most` of them, or to the end of the lap.
    #[inline]
    pub fn run(&self, position: u64, most: u64) -> SlotRun<'_> {
        // `left` slots lie between this one and the end of the ring: every address that the run
        // gives out is that of a slot.
        let left = most.min(self.geometry.slots() - self.geometry.slot_of(position) as u64);
        let at = self.slot(position).at;
        SlotRun { at, left, stride: self.geometry.stride(), memory: PhantomData }
    }

    /// Faults in the pages of up to `most` slots from `position` on, to the end of the lap; how many
    /// slots that is.
    pub fn touch(&self, position: u64, most: u64) -> u64 {
        let index = self.geometry.slot_of(position);
        let count = most.min(self.geometry.slots() - index as u64);
        let offset = self.slots.addr() - self.base.addr() + index * self.geometry.stride();
        self.mapping.touch(offset, count as usize * self.geometry.stride());
        count
    }

    /// Tail hint.
    #[inline(always)]
    pub fn tail(&self) -> &AtomicU64 {
        self.control64::<{ control::TAIL }>()
    }
    /// No new pin below.
    #[inline(always)]
    pub fn trim(&self) -> &AtomicU64 {
        self.control64::<{ control::TRIM }>()
    }
    /// Everything below is free.
    #[inline(always)]
    pub fn reclaim(&self) -> &AtomicU64 {
        self.control64::<{ control::RECLAIM }>()
    }
    /// Producer role of an exclusive ring.
    pub fn producer(&self) -> &AtomicU64 {
        self.control64::<{ control::PRODUCER }>()
    }
    /// Sleepers flag.
    #[inline(always)]
    pub fn sleepers(&self) -> &AtomicU32 {
        // SAFETY: the offset is a constant below control::END, which `new` proved to lie inside
        // the mapping that `home` is of, and a multiple of 4; shared words are only accessed
        // atomically.
        unsafe { &*self.home.add(control::SLEEPERS).cast::<AtomicU32>() }
    }
    /// Futex word.
    pub fn wake(&self) -> &AtomicU32 {
        word32(&self.home_mapping, control::WAKE)
    }
    /// A counter of [`control`].
    pub fn counter(&self, offset: usize) -> &AtomicU64 {
        word64(&self.home_mapping, offset)
    }
    /// Highest used reader entry plus one.
    pub fn readers_used(&self) -> &AtomicU64 {
        self.control64::<{ control::READERS_USED }>()
    }

    /// 1 once a record had its payload in the pool.
    pub fn payloads(&self) -> &AtomicU64 {
        word64(&self.home_mapping, control::PAYLOADS)
    }

    #[inline(always)]
    fn control64<const OFFSET: usize>(&self) -> &AtomicU64 {
        const { assert!(OFFSET.is_multiple_of(8) && OFFSET + 8 <= control::END) };
        // SAFETY: a multiple of 8 below control::END, which `new` proved to lie inside the
        // mapping; shared words are only accessed atomically.
        unsafe { &*self.base.add(OFFSET).cast::<AtomicU64>() }
    }

    /// Reader entry `index`.
    ///
    /// # Panics
    /// When there is no such entry.
    #[inline]
    pub fn reader(&self, index: u32) -> ReaderWords<'_> {
        assert!(index < self.geometry.readers());
        let offset = READERS_OFFSET + index as usize * size_of::<ReaderEntry>();
        // SAFETY: `new` proved that all reader entries lie between READERS_OFFSET and the slots;
        // an entry is 256-aligned, its words are aligned, and they are only accessed atomically.
        unsafe {
            let at = self.base.add(offset);
            ReaderWords {
                word: &*at.add(offset_of!(ReaderEntry, word)).cast(),
                cursor: &*at.add(offset_of!(ReaderEntry, cursor)).cast(),
                lost: &*at.add(offset_of!(ReaderEntry, lost)).cast(),
                lease: &*at.add(offset_of!(ReaderEntry, lease)).cast(),
                checkpoint: &*at.add(offset_of!(ReaderEntry, checkpoint)).cast(),
                subscribed: &*at.add(offset_of!(ReaderEntry, subscribed)).cast(),
                pins: &*at.add(offset_of!(ReaderEntry, pins)).cast(),
            }
        }
    }
}

/// The cursor of one reader entry, found once: a reader stores it with every record.
#[derive(Debug)]
pub struct CursorWord {
    at: *const AtomicU64,
    _mapping: Arc<Mapping>,
}

// SAFETY: `at` points into the mapping that is kept beside it and is not bound to a thread; the
// word is only accessed atomically.
unsafe impl Send for CursorWord {}
// SAFETY: as above.
unsafe impl Sync for CursorWord {}

impl CursorWord {
    /// Of entry `index`.
    ///
    /// # Panics
    /// When there is no such entry.
    pub fn new(memory: &RingMemory, index: u32) -> Self {
        Self { at: memory.reader(index).cursor, _mapping: Arc::clone(&memory.mapping) }
    }

    /// The word.
    #[inline(always)]
    pub fn word(&self) -> &AtomicU64 {
        // SAFETY: `at` was a reference into the mapping that `_mapping` keeps.
        unsafe { &*self.at }
    }
}

macro_rules! slot_words {
    ($($(#[$doc:meta])* $name:ident at $offset:literal;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(self) -> &'a AtomicU64 {
            // SAFETY: the slot header is 32 bytes of the slot, aligned to 8, inside the mapping,
            // and only accessed atomically.
            unsafe { &*self.at.add($offset).cast::<AtomicU64>() }
        }
    )*};
}

impl<'a> Slot<'a> {
    slot_words! {
        /// Who produced what.
        ctl at 0;
        /// Who consumes the message (queues).
        dlv at 8;
        /// The record's own position.
        position at 16;
        /// Length, kind, the user's bits.
        meta at 24;
        /// When the message was sent (queues): the first word behind the header, which every stride
        /// has room for.
        sent at 32;
    }

    /// First byte of the body. It may change at any time unless a pin, a cursor or a claim holds
    /// the slot.
    #[inline(always)]
    pub fn body(self) -> *mut u8 {
        // SAFETY: the stride is larger than the header.
        unsafe { self.at.add(SLOT_HEADER) }
    }

    /// Asks for the slot's first cache line to write, before `ctl` is loaded: one transfer instead
    /// of a load and an upgrade. Only worth it for an append that has to look first.
    #[inline(always)]
    pub fn prefetch_first_line_to_write(self) {
        self.prefetch::<0, true>();
    }

    /// Asks for the slot's second cache line, to write (`true`) or to read. Asked for together
    /// with the first, the two transfers overlap instead of following each other.
    #[inline(always)]
    pub fn prefetch_second_line<const WRITE: bool>(self) {
        self.prefetch::<64, WRITE>();
    }

    /// Asks for the slot's lines behind the first, up to byte `end` of it or the fourth.
    #[inline(always)]
    pub fn prefetch_up_to<const WRITE: bool>(self, end: usize) {
        if end > 64 {
            self.prefetch::<64, WRITE>();
        }
        if end > 128 {
            self.prefetch::<128, WRITE>();
        }
        if end > 192 {
            self.prefetch::<192, WRITE>();
        }
    }

    #[inline(always)]
    fn prefetch<const OFFSET: usize, const WRITE: bool>(self) {
        let line = self.at.wrapping_add(OFFSET);
        if WRITE {
            super::prefetch::to_write(line);
        } else {
            super::prefetch::to_read(line);
        }
    }

    /// Bytes of body that fit.
    #[inline(always)]
    pub fn room(self) -> usize {
        self.room
    }

    /// Stores the body. The caller holds the claim.
    ///
    /// # Panics
    /// When the bytes do not fit.
    #[inline(always)]
    pub fn write_body(self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room);
        // SAFETY: `room` bytes (a multiple of 8) lie behind the header inside the slot.
        unsafe { copy::copy_in(self.body(), bytes) };
    }

    /// Whether a body of three parts of these lengths fits.
    #[inline(always)]
    pub fn has_room_for(self, head: usize, middle: usize, end: usize) -> bool {
        let rest = self.room.checked_sub(head).and_then(|rest| rest.checked_sub(middle));
        rest.is_some_and(|rest| end <= rest)
    }

    /// Stores a body of three parts, one behind the other: a head of whole words, which come from registers,
    /// and two runs of bytes. The caller holds the claim.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline(always)]
    pub fn write_parts<const WORDS: usize>(self, head: [u64; WORDS], middle: &[u8], end: &[u8]) {
        assert!(self.has_room_for(8 * WORDS, middle.len(), end.len()));
        // SAFETY: the parts lie one behind the other in the `room` bytes behind the header, as just
        // asserted, the words aligned to 8 as the body is; the claim makes this the only writer among
        // well-behaved processes, and readers validate what they copied.
        unsafe {
            for (index, word) in head.into_iter().enumerate() {
                let word_at = &*self.body().cast::<AtomicU64>().add(index);
                word_at.store(word, Ordering::Relaxed); // ordered by the commit
            }
            let at = self.body().add(8 * WORDS);
            copy::copy_part(core::slice::from_raw_parts_mut(at, middle.len()), middle);
            let at = at.add(middle.len());
            copy::copy_part(core::slice::from_raw_parts_mut(at, end.len()), end);
        }
    }

    /// Stores a body that is neither tiny nor long. The caller holds the claim.
    ///
    /// # Panics
    /// When the bytes do not fit or are not [`SHORT`].
    #[inline(always)]
    pub fn write_short_body(self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room && SHORT.contains(&bytes.len()));
        // SAFETY: as in `write_body`; the length is short.
        unsafe { copy::copy_short_in(self.body(), bytes) };
    }

    /// Copies the first `out.len()` bytes of the body.
    ///
    /// # Panics
    /// When there are not as many.
    #[inline(always)]
    pub fn read_body(self, out: &mut [u8]) {
        assert!(out.len() <= self.room);
        // SAFETY: as in `write_body`.
        unsafe { copy::copy_out(out, self.body()) };
    }

    /// Copies an inline body to the front of `out`; its length. `None`, and nothing is copied,
    /// when `meta` says something else, or a length that is not [`SHORT`], not inside the slot or
    /// more than `out` holds: a header from shared memory needs no other check.
    #[inline(always)]
    pub fn read_short_body(self, meta: Meta, out: &mut [u8]) -> Option<usize> {
        let (shortest, longest) = (*SHORT.start(), *SHORT.end());
        let len = meta.len() as usize;
        // Kind and both bounds by one comparison.
        const LEN_AND_KIND: u64 = (1 << 40) - 1;
        let first = Meta::new(shortest as u32, Meta::INLINE, 0).0;
        let above = (meta.0 & LEN_AND_KIND).wrapping_sub(first);
        if above > (longest - shortest) as u64 || len > self.room || len > out.len() {
            return None;
        }
        // SAFETY: `len` is short, not more than `room` bytes behind the header, and not more than
        // `out` holds.
        unsafe { copy::copy_short_out(out.get_unchecked_mut(..len), self.body()) };
        Some(len)
    }
}

macro_rules! fifo_words {
    ($($(#[$doc:meta])* $name:ident at $offset:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// When the slot is too short to be one of a FIFO queue.
        #[inline(always)]
        pub fn $name(self) -> &'a AtomicU64 {
            assert!(self.room >= MIN_FIFO_STRIDE as usize - SLOT_HEADER);
            // SAFETY: the word lies below the smallest stride of a FIFO queue, which the slot has as
            // just asserted, aligned to 8, and is only accessed atomically.
            unsafe { &*self.at.add($offset).cast::<AtomicU64>() }
        }
    )*};
}

/// The envelope of a FIFO queue's message, behind `sent`.
impl<'a> Slot<'a> {
    fifo_words! {
        /// The message before it in its group; its own position: not linked yet.
        prev at 40;
        /// The message behind it in its group; its own position: none linked yet.
        next at 48;
        /// Hash of the group, first half.
        group at 56;
        /// Hash of the group, second half.
        group_2 at 64;
        /// Its entry in the deduplication table and one, 0 for none.
        dedup at 72;
    }
}

/// The body of a queue's message, which lies behind its envelope.
impl Slot<'_> {
    /// Bytes of body that fit behind the envelope.
    #[inline(always)]
    pub fn message_room(self, envelope: Envelope) -> usize {
        self.room.saturating_sub(envelope.bytes())
    }

    /// Where the body begins, of at least `len` bytes.
    ///
    /// # Panics
    /// When they do not fit.
    #[inline(always)]
    fn message(self, envelope: Envelope, len: usize) -> *mut u8 {
        assert!(envelope.bytes() + len <= self.room);
        // SAFETY: the envelope lies inside the slot, as just asserted.
        unsafe { self.body().add(envelope.bytes()) }
    }

    /// Stores the body of a message. The caller holds the claim.
    ///
    /// # Panics
    /// When the bytes do not fit.
    #[inline(always)]
    pub fn write_message(self, envelope: Envelope, bytes: &[u8]) {
        let body = self.message(envelope, bytes.len());
        // SAFETY: as many bytes lie behind the envelope inside the slot, and as its room is a
        // multiple of 8, as many rounded up to 8.
        unsafe { copy::copy_in(body, bytes) };
    }

    /// Copies the first `out.len()` bytes of a message.
    ///
    /// # Panics
    /// When there are not as many.
    #[inline(always)]
    pub fn read_message(self, envelope: Envelope, out: &mut [u8]) {
        let body = self.message(envelope, out.len());
        // SAFETY: as in `write_message`.
        unsafe { copy::copy_out(out, body) };
    }

    /// Copies `out.len()` bytes of a message from `offset` on.
    ///
    /// # Panics
    /// When there are not as many, or `offset` is no multiple of 8.
    pub fn read_message_from(self, envelope: Envelope, offset: usize, out: &mut [u8]) {
        let room = self.message_room(envelope);
        assert!(offset.is_multiple_of(8) && offset <= room && out.len() <= room - offset);
        // SAFETY: offset + out.len() <= room, a multiple of 8, just checked; offset keeps the
        // alignment.
        unsafe { copy::copy_out(out, self.message(envelope, 0).add(offset)) };
    }

    /// Where `len` bytes of a message lie from `offset` on, to be looked at in place.
    ///
    /// # Panics
    /// When there are not as many.
    #[inline]
    pub fn message_in_place(self, envelope: Envelope, offset: usize, len: usize) -> *const u8 {
        let room = self.message_room(envelope);
        assert!(offset <= room && len <= room - offset);
        // SAFETY: offset + len <= room, just checked.
        unsafe { self.message(envelope, 0).add(offset) }
    }
}

const _: () = assert!(SLOT_HEADER + ENVELOPE < crate::layout::ring::MIN_STRIDE as usize);
