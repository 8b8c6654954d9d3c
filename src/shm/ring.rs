//! The memory of a slot ring: its shared words and its slots.
//!
//! Constructed from a mapping and a geometry that fits it; from then on every access is in
//! bounds by arithmetic: a slot index is masked, a reader index is checked.

use super::copy;
use super::words::{word32, word64};
use crate::layout::ring::{READERS_OFFSET, ReaderEntry, SLOT_HEADER, control};
use crate::layout::geometry::Geometry;
use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::mapping::Mapping;
use core::marker::PhantomData;
use core::mem::offset_of;
use std::sync::Arc;

pub use crate::layout::ring::PINS;

/// See the module.
#[derive(Debug)]
pub struct RingMemory {
    mapping: Arc<Mapping>,
    slots: *mut u8,
    geometry: Geometry,
}

// SAFETY: `slots` points into `mapping`, which lives as long and is not bound to a thread; all
// access through it is atomic or by opaque copies.
unsafe impl Send for RingMemory {}
// SAFETY: as above.
unsafe impl Sync for RingMemory {}

/// One slot. The lifetime keeps the mapping.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    at: *mut u8,
    memory: PhantomData<&'a RingMemory>,
}

/// The words of one reader entry.
#[derive(Clone, Copy)]
pub struct ReaderWords<'a> {
    pub word: &'a AtomicU64,
    pub cursor: &'a AtomicU64,
    pub lost: &'a AtomicU64,
    pub pins: &'a [AtomicU64; PINS],
}

impl RingMemory {
    /// `None` when the geometry does not fit into the mapping.
    pub fn new(mapping: Arc<Mapping>, geometry: Geometry, slots_offset: u64) -> Option<Self> {
        let slots_bytes = geometry.slots().checked_mul(geometry.stride() as u64)?;
        let end = slots_offset.checked_add(slots_bytes)?;
        let table = geometry.readers() as usize * size_of::<ReaderEntry>();
        if slots_offset % 64 != 0
            || slots_offset < (READERS_OFFSET + table) as u64
            || end > mapping.len() as u64
        {
            return None;
        }
        // SAFETY: slots_offset <= end <= mapping.len(), just checked.
        let slots = unsafe { mapping.base().add(slots_offset as usize) };
        Some(Self { mapping, slots, geometry })
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
        Slot { at, memory: PhantomData }
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
        // the mapping, and a multiple of 4; shared words are only accessed atomically.
        unsafe { &*self.mapping.base().add(control::SLEEPERS).cast::<AtomicU32>() }
    }
    /// Futex word.
    pub fn wake(&self) -> &AtomicU32 {
        word32(&self.mapping, control::WAKE)
    }
    /// A counter of [`control`].
    pub fn counter(&self, offset: usize) -> &AtomicU64 {
        word64(&self.mapping, offset)
    }
    /// Highest used reader entry plus one.
    pub fn readers_used(&self) -> &AtomicU64 {
        self.control64::<{ control::READERS_USED }>()
    }

    /// 1 once a record had its payload in the pool.
    pub fn payloads(&self) -> &AtomicU64 {
        self.control64::<{ control::PAYLOADS }>()
    }

    #[inline(always)]
    fn control64<const OFFSET: usize>(&self) -> &AtomicU64 {
        const { assert!(OFFSET % 8 == 0 && OFFSET + 8 <= control::END) };
        // SAFETY: a multiple of 8 below control::END, which `new` proved to lie inside the
        // mapping; shared words are only accessed atomically.
        unsafe { &*self.mapping.base().add(OFFSET).cast::<AtomicU64>() }
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
            let at = self.mapping.base().add(offset);
            ReaderWords {
                word: &*at.add(offset_of!(ReaderEntry, word)).cast(),
                cursor: &*at.add(offset_of!(ReaderEntry, cursor)).cast(),
                lost: &*at.add(offset_of!(ReaderEntry, lost)).cast(),
                pins: &*at.add(offset_of!(ReaderEntry, pins)).cast(),
            }
        }
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
        /// The record's own position.
        position at 16;
        /// Length, kind, the user's bits.
        meta at 24;
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

    #[inline(always)]
    fn prefetch<const OFFSET: usize, const WRITE: bool>(self) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
            let line = self.at.wrapping_add(OFFSET).cast::<i8>();
            // SAFETY: a prefetch is a hint: it never faults, whatever the address.
            unsafe {
                if WRITE {
                    _mm_prefetch::<{ _MM_HINT_ET0 }>(line);
                } else {
                    _mm_prefetch::<{ _MM_HINT_T0 }>(line);
                }
            }
        }
    }

    /// Stores the body. The caller holds the claim.
    ///
    /// # Panics
    /// When the bytes do not fit.
    #[inline(always)]
    pub fn write_body(self, geometry: &Geometry, bytes: &[u8]) {
        assert!(bytes.len() <= geometry.body_bytes());
        // SAFETY: body_bytes bytes (a multiple of 8) lie behind the header inside the slot.
        unsafe { copy::copy_in(self.body(), bytes) };
    }

    /// Copies the first `out.len()` bytes of the body.
    ///
    /// # Panics
    /// When there are not as many.
    #[inline(always)]
    pub fn read_body(self, geometry: &Geometry, out: &mut [u8]) {
        assert!(out.len() <= geometry.body_bytes());
        // SAFETY: as in `write_body`.
        unsafe { copy::copy_out(out, self.body()) };
    }
}
