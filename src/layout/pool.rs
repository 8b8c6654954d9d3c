//! The bytes of a payload-pool segment.
//!
//! ```text
//! 0      SegmentHeader   one page
//! 4096   ChunkEntry[chunks], padded to a page
//! data   chunk_bytes × chunks
//! ```

use super::{PAGE, Preamble};
use core::mem::offset_of;

/// File magic of a pool segment.
pub const MAGIC: [u8; 8] = *b"RNGWPOOL";
/// Smallest class.
pub const MIN_CHUNK: u64 = 512;
/// Largest class; a larger payload gets a segment of its own with one chunk.
pub const MAX_CLASS: u64 = 16 << 20;
/// Most segments of one pool.
pub const MAX_SEGMENTS: usize = 4096;
/// Most chunks of one segment.
pub const MAX_CHUNKS: u32 = 1 << 16;

/// Immutable after creation.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SegmentHeader {
    pub preamble: Preamble,
    pub chunk_bytes: u64,
    pub data_offset: u64,
    pub file_bytes: u64,
    pub chunks: u32,
    pub segment: u32,
    pub reserved: [u8; PAGE - 64 - 32],
}

const _: () = {
    assert!(size_of::<SegmentHeader>() == PAGE);
    assert!(offset_of!(SegmentHeader, chunks) == 88);
};

/// One chunk's word and the record that refers to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ChunkEntry {
    pub word: u64,
    pub ring: u64,
    pub position: u64,
    pub reserved: u64,
}

const _: () = assert!(size_of::<ChunkEntry>() == 32);

/// Offset of the chunk table.
pub const TABLE_OFFSET: usize = PAGE;
