//! The bytes of a ring file.
//!
//! ```text
//! 0       RingHeader            one page: what never changes after creation
//! 4096    tail | trim | reclaim | producer | wake: one line pair (128 B) each
//! 8192    ReaderEntry[readers]  256 B each, padded to a page
//! slots   stride × slots        from a page boundary (2 MiB boundary with huge pages)
//! ```
//! A slot is `stride` bytes, a multiple of 32 that divides nothing else: `SlotHeader`, then the
//! body inline, or a `ChunkRef` where the body lies in the payload pool.

use super::{PAGE, Preamble};
use core::mem::offset_of;

/// File magic of a ring.
pub const MAGIC: [u8; 8] = *b"RNGWRING";

/// Most slots of a ring: positions stay below 2^62 for any lap below 2^38.
pub const MAX_SLOTS: u64 = 1 << 24;
/// Fewest slots: below this an unexpired lease word could repeat (delivery words keep ten bits
/// of the lap).
pub const MIN_SLOTS: u64 = 1024;
/// Smallest stride: one cache line, 32 bytes of body.
pub const MIN_STRIDE: u64 = 64;
/// Largest stride: one page. Anything larger belongs into the payload pool.
pub const MAX_STRIDE: u64 = 4096;
/// Most reader entries of one ring.
pub const MAX_READERS: u32 = 1024;
/// Positions at or above this are refused: a scribbled lap can't make arithmetic overflow.
pub const MAX_POSITION: u64 = 1 << 61;

/// Who may append.
pub const PRODUCERS_SHARED: u32 = 0;
/// One producer at a time, by plain stores.
pub const PRODUCERS_EXCLUSIVE: u32 = 1;
/// A full ring refuses.
pub const OVERFLOW_REFUSE: u32 = 0;
/// A full ring drops its oldest records; readers are told what they missed.
pub const OVERFLOW_DROP_OLDEST: u32 = 1;

/// Immutable after creation. Geometry is copied to private memory at attach and never read again.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RingHeader {
    pub preamble: Preamble,
    /// Slots, a power of two.
    pub slots: u64,
    /// Bytes from slot to slot.
    pub stride: u64,
    /// Offset of slot 0 in the file.
    pub slots_offset: u64,
    /// Length of the file.
    pub file_bytes: u64,
    pub readers: u32,
    pub producers: u32,
    pub overflow: u32,
    /// After this many microseconds a claim of a live owner is abandoned.
    pub stall_timeout_us: u32,
    /// Bytes of `name` in use.
    pub name_bytes: u32,
    /// 1 where the creator asked for huge pages.
    pub huge_pages: u32,
    pub name: [u8; 128],
    pub reserved: [u8; PAGE - 64 - 4 * 8 - 6 * 4 - 128],
}

const _: () = {
    assert!(size_of::<RingHeader>() == PAGE);
    assert!(offset_of!(RingHeader, slots) == 64);
    assert!(offset_of!(RingHeader, readers) == 96);
    assert!(offset_of!(RingHeader, name) == 120);
};

/// Offsets of the shared words of a ring, one line pair each: every one has another writer.
pub mod control {
    use super::super::{LINE_PAIR, PAGE};

    /// Tail hint: a position; advanced by producers, checked before use.
    pub const TAIL: usize = PAGE;
    /// No new pin or join below this position.
    pub const TRIM: usize = PAGE + LINE_PAIR;
    /// Every slot of a position below this is free.
    pub const RECLAIM: usize = PAGE + 2 * LINE_PAIR;
    /// Exclusive rings: who may append ([`super::super::word::Role`]).
    pub const PRODUCER: usize = PAGE + 3 * LINE_PAIR;
    /// Sleepers flag, u32: 1 while somebody may sleep on `WAKE`.
    pub const SLEEPERS: usize = PAGE + 4 * LINE_PAIR;
    /// Futex word, u32: changes with every wake.
    pub const WAKE: usize = SLEEPERS + 4;
    /// Counter: claims of live owners that were abandoned.
    pub const ABANDONED: usize = PAGE + 5 * LINE_PAIR;
    /// Counter: claims of dead owners that were voided.
    pub const VOIDED: usize = ABANDONED + 8;
    /// Counter: records renewed in place.
    pub const RENEWED: usize = ABANDONED + 16;
    /// Counter: slots with an impossible header.
    pub const DAMAGED: usize = ABANDONED + 24;
    /// Counter: records dropped unread by a ring that drops its oldest.
    pub const DROPPED: usize = ABANDONED + 32;
    /// Highest reader entry ever used, plus one: bounds the scan.
    pub const READERS_USED: usize = ABANDONED + 40;
    /// 1 once a record had its payload in the pool.
    pub const PAYLOADS: usize = ABANDONED + 48;
    /// End of the control area.
    pub const END: usize = 2 * PAGE;
}

/// Pins of one reader entry.
pub const PINS: usize = 14;
/// Value of a pin or cursor that protects nothing.
pub const NO_PIN: u64 = u64::MAX;

/// One reader: its word, its cursor, its pins.
///
/// ```text
///   0 word u64 (Role; kind 1 = reliable, 2 = lossy, 3 = standing)   8 cursor u64   16 lost u64
///  24 lease u64   32 checkpoint u64 (standing entries; of others: version of word << 8 | note)
///  40 subscribed u64 (standing entries)   … 128
/// 128 pins[14] u64 …
/// ```
/// A standing entry belongs to no participant: its cursor holds the ring back whoever dies. A stream
/// gives its consumer groups one in each shard ([`super::stream`]); the owner in its word is the number
/// of the group.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ReaderEntry {
    pub word: u64,
    pub cursor: u64,
    pub lost: u64,
    pub lease: u64,
    pub checkpoint: u64,
    /// Since 1.2, on disk: where the subscriber of a registered consumer is
    /// ([`super::word::Checkpoint`], of the version of its word).
    pub subscribed: u64,
    pub reserved: [u64; 10],
    pub pins: [u64; PINS],
    pub reserved_2: [u64; 2],
}

const _: () = {
    assert!(size_of::<ReaderEntry>() == 256);
    assert!(offset_of!(ReaderEntry, cursor) == 8);
    assert!(offset_of!(ReaderEntry, lost) == 16);
    assert!(offset_of!(ReaderEntry, lease) == 24);
    assert!(offset_of!(ReaderEntry, checkpoint) == 32);
    assert!(offset_of!(ReaderEntry, subscribed) == 40);
    assert!(offset_of!(ReaderEntry, pins) == 128);
};

/// A reader that holds the ring back.
pub const READER_RELIABLE: u64 = 1;
/// A reader that is told what it missed.
pub const READER_LOSSY: u64 = 2;
/// An entry that no participant takes or loses.
pub const READER_STANDING: u64 = 3;

/// Offset of the reader table.
pub const READERS_OFFSET: usize = control::END;

/// First 32 bytes of a slot. `ctl` is written by producers and whoever abandons or voids; `dlv`
/// belongs to queue consumers (a ring that is no queue leaves it 0); the rest only by the owner
/// of the claim.
///
/// ```text
/// 0 ctl u64   8 dlv u64   16 position u64   24 len u32  28 kind u8  29 flags u8  30 aux u16   32 body …
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SlotHeader {
    pub ctl: u64,
    pub dlv: u64,
    pub position: u64,
    pub meta: u64,
}

const _: () = {
    assert!(size_of::<SlotHeader>() == 32);
    assert!(offset_of!(SlotHeader, dlv) == 8);
    assert!(offset_of!(SlotHeader, position) == 16);
    assert!(offset_of!(SlotHeader, meta) == 24);
};

/// Bytes of a slot that are not body.
pub const SLOT_HEADER: usize = size_of::<SlotHeader>();

/// `len | kind | flags | aux` as one word, so that it is copied once and then checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta(pub u64);

impl Meta {
    /// The body lies in the slot.
    pub const INLINE: u8 = 1;
    /// The slot holds a [`ChunkRef`].
    pub const CHUNK: u8 = 2;

    /// Flag of a queue's message: the bytes begin with an attribute block
    /// ([`super::attributes::AttributeBlock`]), the body lies behind it.
    pub const ATTRIBUTES: u8 = 1;

    /// A header word. `aux` is the user's.
    #[inline(always)]
    pub const fn new(len: u32, kind: u8, aux: u16) -> Self {
        Self(len as u64 | (kind as u64) << 32 | (aux as u64) << 48)
    }
    /// The same word with a tenant in the user's bits: which group a message of a standard queue is
    /// of, 0 for none.
    #[inline(always)]
    pub const fn with_tenant(self, tenant: u16) -> Self {
        Self(self.0 | (tenant as u64) << 48)
    }
    /// See [`with_tenant`](Self::with_tenant).
    #[inline(always)]
    pub const fn tenant(self) -> u16 {
        (self.0 >> 48) as u16
    }
    /// The same word with these flags.
    #[inline(always)]
    pub const fn with_flags(self, flags: u8) -> Self {
        Self(self.0 | (flags as u64) << 40)
    }
    /// Inline: bytes of body. Chunk: bytes of the reference.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        self.0 as u32
    }
    /// One of the kinds above; anything else is damage.
    #[inline(always)]
    pub const fn kind(self) -> u8 {
        (self.0 >> 32) as u8
    }
    /// The flags above; others mean nothing yet.
    #[inline(always)]
    pub const fn flags(self) -> u8 {
        (self.0 >> 40) as u8
    }
}

/// The body of a record whose payload lies in the pool.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ChunkRef {
    pub segment: u32,
    pub chunk: u32,
    /// Version of the chunk word while this record lives.
    pub version: u64,
    pub len: u64,
}

const _: () = assert!(size_of::<ChunkRef>() == 24);
