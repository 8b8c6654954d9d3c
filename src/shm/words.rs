//! Aligned words at offsets of a mapping.

use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::mapping::Mapping;

/// The `u64` at `offset`.
///
/// # Panics
/// When the word does not lie inside the mapping or is not aligned: a bug of the caller, whose
/// offsets come from checked geometry.
#[inline]
pub fn word64(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= mapping.len());
    // SAFETY: aligned (the base is page-aligned) and inside the mapping by the assertion; the
    // mapping lives as long as the borrow, and every access to shared words is atomic.
    unsafe { &*mapping.base().add(offset).cast::<AtomicU64>() }
}

/// The `u32` at `offset`.
///
/// # Panics
/// As [`word64`].
#[inline]
pub fn word32(mapping: &Mapping, offset: usize) -> &AtomicU32 {
    assert!(offset.is_multiple_of(4) && offset + 4 <= mapping.len());
    // SAFETY: as in `word64`.
    unsafe { &*mapping.base().add(offset).cast::<AtomicU32>() }
}

/// Writes a header into a file nobody else can see yet.
///
/// # Panics
/// When the mapping is shorter than the header: a bug of the caller, who has just made the file.
pub fn write_header<T: bytemuck::Pod>(mapping: &Mapping, header: &T) {
    assert!(size_of::<T>() <= mapping.len() && size_of::<T>().is_multiple_of(8));
    // SAFETY: page-aligned base, length inside the mapping and a multiple of 8 by the assertion.
    unsafe { super::copy::copy_in(mapping.base(), bytemuck::bytes_of(header)) };
}

/// Copies `bytes` to `offset` of the mapping.
///
/// # Panics
/// When they do not fit or the offset is not aligned to 8.
pub fn write_bytes(mapping: &Mapping, offset: usize, bytes: &[u8]) {
    assert!(offset.is_multiple_of(8) && offset + bytes.len().next_multiple_of(8) <= mapping.len());
    // SAFETY: aligned and inside by the assertion.
    unsafe { super::copy::copy_in(mapping.base().add(offset), bytes) };
}

/// Copies out `out.len()` bytes at `offset`.
///
/// # Panics
/// As [`write_bytes`].
pub fn read_bytes(mapping: &Mapping, offset: usize, out: &mut [u8]) {
    assert!(offset.is_multiple_of(8) && offset + out.len().next_multiple_of(8) <= mapping.len());
    // SAFETY: aligned and inside by the assertion.
    unsafe { super::copy::copy_out(out, mapping.base().add(offset)) };
}
