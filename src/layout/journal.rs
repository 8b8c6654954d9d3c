//! The bytes of a journal segment: what an object's history looks like on a disk.
//!
//! ```text
//! 0        SegmentHeader     one page: whose, which, since when
//! 4096     definition        one page, opaque here: what the object is made from again
//! 8192     blocks            one flush each, a multiple of 4,096 bytes, one behind the other
//! ...      zeros, or what an earlier life of the file left
//! end-4096 Footer            one page, written when no block follows any more; only a hint
//! ```
//! A block is written once, with one write, and never again:
//!
//! ```text
//! 0      BlockHeader         with a checksum of itself and of the table
//! 104    entries             EntryHead, bytes, zeros up to a multiple of 8; then zeros
//! end-4n page checksums      CRC32C of each of the n pages of the block: what is between header and table
//! ```
//! A checksum per page, not one of the block, tells damage page by page, and a flipped bit from a
//! write that was torn: see `journal::block`.
//!
//! Every block names object, epoch, segment and its own offset, so nothing that an earlier life of
//! the file left, or that a disk put in a wrong place, is taken for one.

use super::PAGE;
use core::mem::offset_of;

/// File magic of a segment.
pub const MAGIC: [u8; 8] = *b"RNGWJRNL";
/// Version of these bytes; it has its own number because segments outlive buses.
pub const MAJOR: u16 = 1;
/// See [`MAJOR`].
pub const MINOR: u16 = 1;

/// First page of a segment. Written once, before the file gets its name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SegmentHeader {
    pub magic: [u8; 8],
    pub major: u16,
    pub minor: u16,
    /// CRC32C of this page and the definition, this field being 0.
    pub crc: u32,
    /// Bits a reader has to know; none is defined.
    pub features: u64,
    /// The object that this is the history of.
    pub object: u64,
    /// Which writer's; with `index` the name of the file.
    pub epoch: u64,
    /// Segments of an epoch count from 0.
    pub index: u64,
    /// No entry here has a position below.
    pub start: u64,
    /// Where this epoch began: what earlier epochs have at or above this position does not count.
    pub cut: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Unix time.
    pub created_ms: u64,
    /// Of the kernel that wrote it.
    pub boot_id: [u8; 16],
    pub encryption: Encryption,
    /// 1 in a segment that holds state alone ([`STATE_ALONE`]), else 0.
    pub holds: u64,
    /// Zero. Version 1.0 listed earlier epochs here, with the positions from which on their blocks do not
    /// count; the cut of the epoch that follows says the same, and is there as long as they are, since
    /// segments are given back from the oldest on.
    pub reserved: [u64; 481],
}

/// [`SegmentHeader::holds`]: no position, and no state that is not said again by the segment behind it. Such a
/// one is given back before those in front of it.
pub const STATE_ALONE: u64 = 1;

/// Encryption at rest. All zero: the blocks are plain, the only kind there is so far.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Encryption {
    /// 0 none, 1 AES-256-GCM.
    pub algorithm: u32,
    pub reserved: u32,
    /// Which key encryption key wrapped the segment's.
    pub key_id: [u8; 16],
    /// The segment's own key, wrapped.
    pub wrapped_key: [u8; 64],
    /// A block's nonce is this plus its `nonce`, so none repeats under a key.
    pub nonce_base: u64,
    pub more: [u8; 48],
}

const _: () = {
    assert!(size_of::<SegmentHeader>() == PAGE);
    assert!(offset_of!(SegmentHeader, crc) == 12);
    assert!(offset_of!(SegmentHeader, object) == 24);
    assert!(offset_of!(SegmentHeader, epoch) == 32);
    assert!(offset_of!(SegmentHeader, cut) == 56);
    assert!(offset_of!(SegmentHeader, boot_id) == 80);
    assert!(offset_of!(SegmentHeader, encryption) == 96);
    assert!(size_of::<Encryption>() == 144);
    assert!(offset_of!(SegmentHeader, holds) == 240);
    assert!(offset_of!(SegmentHeader, reserved) == 248);
};

/// Bytes of a definition, always.
pub const DEFINITION_BYTES: usize = PAGE;
/// Offset of the first block.
pub const BLOCKS_OFFSET: u64 = (PAGE + DEFINITION_BYTES) as u64;

/// Smallest segment; tests have such. Larger ones are whole pages.
pub const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// Largest segment.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// "RWBK".
pub const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"RWBK");

/// See the module.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct BlockHeader {
    pub magic: u32,
    /// CRC32C of this header, this field being 0, and of the table of page checksums.
    pub crc: u32,
    pub object: u64,
    pub epoch: u64,
    pub index: u64,
    /// Where in the file this block belongs.
    pub offset: u64,
    /// Of the block, a multiple of the page.
    pub bytes: u32,
    /// Where the entries end.
    pub used: u32,
    /// No entry with a position (kinds below 0x80) has one below.
    pub first: u64,
    /// Every position below is complete with this block and those before it in this epoch.
    pub next: u64,
    /// The watermark: what was durable when this block was written. A position,
    pub durable: u64,
    /// and in bytes: segment of this epoch,
    pub durable_index: u64,
    /// and offset in it.
    pub durable_offset: u64,
    /// In the first block of a segment: where the blocks of the one before end. Else 0.
    pub previous_end: u64,
    /// Of the nonce, if the segment is encrypted.
    pub nonce: u64,
}

const _: () = {
    assert!(size_of::<BlockHeader>() == 104);
    assert!(offset_of!(BlockHeader, offset) == 32);
    assert!(offset_of!(BlockHeader, first) == 48);
    assert!(offset_of!(BlockHeader, durable) == 64);
    assert!(offset_of!(BlockHeader, previous_end) == 88);
    assert!(offset_of!(BlockHeader, nonce) == 96);
};

/// Offset of the first entry in a block.
pub const ENTRIES_OFFSET: usize = size_of::<BlockHeader>();
/// Longest block.
pub const MAX_BLOCK: usize = 1 << 20;

/// Bytes of the block that `used` bytes of header and entries need, the table of checksums included.
pub const fn block_bytes(used: usize) -> usize {
    // Each page carries its own checksum, so a page holds 4,092 bytes of the rest.
    used.div_ceil(PAGE - 4) * PAGE
}

/// Bytes that header and entries of a block of that length may take.
pub const fn block_capacity(bytes: usize) -> usize {
    bytes / PAGE * (PAGE - 4)
}

/// In front of each entry. Entries begin at multiples of 8.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct EntryHead {
    /// Bytes behind this head.
    pub len: u32,
    /// [`GAP`], or the user's: below [`SIDE`] it has a position, from there on it is state.
    pub kind: u8,
    /// The user's.
    pub flags: u8,
    /// [`WHOLE`], or which piece of an entry that is longer than a block.
    pub piece: u8,
    pub reserved: u8,
    pub position: u64,
}

const _: () = assert!(size_of::<EntryHead>() == 16);

/// Kind: `position` up to the u64 behind the head are skipped.
pub const GAP: u8 = 0;
/// Kinds from here on have no place in the order of positions.
pub const SIDE: u8 = 0x80;
/// [`EntryHead::piece`]: the entry is in one piece.
pub const WHOLE: u8 = 0;
/// The first of several pieces; they follow each other without another entry in between.
pub const FIRST: u8 = 1;
/// A piece in the middle.
pub const MIDDLE: u8 = 2;
/// The last piece: the entry is complete.
pub const LAST: u8 = 3;

/// Bytes of an entry in a block.
pub const fn entry_bytes(len: usize) -> usize {
    size_of::<EntryHead>() + len.next_multiple_of(8)
}

/// "RWFT".
pub const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"RWFT");

/// Last page of a segment behind which its epoch went on, once all its blocks were durable. It saves
/// reading them; without it, or with a wrong checksum, they are read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Footer {
    pub magic: u32,
    /// CRC32C of this structure, this field being 0.
    pub crc: u32,
    pub object: u64,
    pub epoch: u64,
    pub index: u64,
    /// Where the blocks end.
    pub end: u64,
    /// No entry of the segment has a position below.
    pub first: u64,
    /// As [`BlockHeader::next`], of the last block.
    pub next: u64,
    pub reserved: [u64; 9],
}

const _: () = assert!(size_of::<Footer>() == 128);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_room_for_its_entries_and_a_checksum_per_page() {
        for used in [ENTRIES_OFFSET, 4092, 4093, 8184, 8185, block_capacity(MAX_BLOCK)] {
            let bytes = block_bytes(used);
            assert!(used + bytes / PAGE * 4 <= bytes, "{used}");
            assert!(used > block_capacity(bytes - PAGE), "{used}");
        }
        assert_eq!(block_bytes(block_capacity(MAX_BLOCK)), MAX_BLOCK);
    }
}
