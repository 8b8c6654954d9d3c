//! The memory of one payload-pool segment: its chunk table and its chunks.

use crate::layout::pool::{ChunkEntry, MAX_CHUNKS, TABLE_OFFSET};
use crate::sync::AtomicU64;
use crate::sys::mapping::Mapping;
use core::mem::offset_of;

/// See the module.
#[derive(Debug)]
pub struct SegmentMemory {
    mapping: Mapping,
    chunks: u32,
    chunk_bytes: usize,
    data_offset: usize,
}

impl SegmentMemory {
    /// `None` when the table or the chunks do not fit into the mapping.
    pub fn new(mapping: Mapping, chunks: u32, chunk_bytes: u64, data_offset: u64) -> Option<Self> {
        let data = u64::from(chunks).checked_mul(chunk_bytes)?;
        let end = data_offset.checked_add(data)?;
        let table = TABLE_OFFSET as u64 + u64::from(chunks) * size_of::<ChunkEntry>() as u64;
        if chunks == 0
            || chunks > MAX_CHUNKS
            || chunk_bytes == 0
            || !chunk_bytes.is_multiple_of(64)
            || !data_offset.is_multiple_of(64)
            || data_offset < table
            || end > mapping.len() as u64
        {
            return None;
        }
        Some(Self {
            mapping,
            chunks,
            chunk_bytes: chunk_bytes as usize,
            data_offset: data_offset as usize,
        })
    }

    /// Chunks in this segment.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes of each.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    #[inline(always)]
    fn entry<const FIELD: usize>(&self, chunk: u32) -> &AtomicU64 {
        const { assert!(FIELD.is_multiple_of(8) && FIELD + 8 <= size_of::<ChunkEntry>()) };
        assert!(chunk < self.chunks);
        // SAFETY: `new` proved that the entries of all chunks lie inside the mapping; entries and
        // fields are aligned to 8, and shared words are only accessed atomically.
        unsafe {
            let table = self.mapping.base().add(TABLE_OFFSET).cast::<ChunkEntry>();
            &*table.add(chunk as usize).byte_add(FIELD).cast::<AtomicU64>()
        }
    }

    /// The chunk's word.
    #[inline(always)]
    pub fn word(&self, chunk: u32) -> &AtomicU64 {
        self.entry::<{ offset_of!(ChunkEntry, word) }>(chunk)
    }
    /// The ring of the record that refers to it.
    #[inline(always)]
    pub fn ring(&self, chunk: u32) -> &AtomicU64 {
        self.entry::<{ offset_of!(ChunkEntry, ring) }>(chunk)
    }
    /// The position of that record.
    #[inline(always)]
    pub fn position(&self, chunk: u32) -> &AtomicU64 {
        self.entry::<{ offset_of!(ChunkEntry, position) }>(chunk)
    }

    /// First byte of a chunk, aligned to 64.
    ///
    /// # Panics
    /// When there is no such chunk.
    #[inline(always)]
    pub fn data(&self, chunk: u32) -> *mut u8 {
        assert!(chunk < self.chunks);
        // SAFETY: data_offset + chunks × chunk_bytes <= mapping length, checked in `new`.
        unsafe { self.mapping.base().add(self.data_offset + chunk as usize * self.chunk_bytes) }
    }

    /// Where `len` bytes of a chunk lie from `offset` on, to be looked at in place.
    ///
    /// # Panics
    /// When there is no such chunk or it is smaller.
    pub fn data_from(&self, chunk: u32, offset: usize, len: usize) -> *const u8 {
        assert!(offset <= self.chunk_bytes && len <= self.chunk_bytes - offset);
        // SAFETY: `data` leads to chunk_bytes bytes inside the mapping, and offset is not more.
        unsafe { self.data(chunk).add(offset) }
    }

    /// Asks for the first line of a chunk that is going to be written.
    ///
    /// # Panics
    /// When there is no such chunk.
    #[inline(always)]
    pub fn prefetch_to_write(&self, chunk: u32) {
        super::prefetch::to_write(self.data(chunk));
    }

    /// Copies bytes to the beginning of a chunk, which is the caller's.
    ///
    /// # Panics
    /// When there is no such chunk or it is smaller.
    pub fn write(&self, chunk: u32, bytes: &[u8]) {
        assert!(bytes.len() <= self.chunk_bytes);
        // SAFETY: `data` is aligned to 64 and leads to chunk_bytes bytes (a multiple of 64) inside
        // the mapping, and bytes.len() is not more; the copy is opaque.
        unsafe { super::copy::copy_in(self.data(chunk), bytes) };
    }

    /// Copies the first `out.len()` bytes of a chunk, which may change meanwhile.
    ///
    /// # Panics
    /// When there is no such chunk or it is smaller.
    pub fn read(&self, chunk: u32, out: &mut [u8]) {
        self.read_from(chunk, 0, out);
    }

    /// Copies `out.len()` bytes of a chunk from `offset` on, which may change meanwhile.
    ///
    /// # Panics
    /// When there is no such chunk, it is smaller, or `offset` is no multiple of 8.
    pub fn read_from(&self, chunk: u32, offset: usize, out: &mut [u8]) {
        assert!(offset.is_multiple_of(8) && offset <= self.chunk_bytes);
        assert!(out.len() <= self.chunk_bytes - offset);
        // SAFETY: `data` is aligned to 64 and leads to chunk_bytes bytes (a multiple of 64) inside
        // the mapping, offset + out.len() is not more, and offset keeps the alignment to 8; the copy
        // is opaque.
        unsafe { super::copy::copy_out(out, self.data(chunk).add(offset)) };
    }
}
