//! Copying a record out of a ring without a seat: look, copy, look again.

use crate::error::ReadError;
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::Chunk;
use crate::pool::segment::Segments;
use crate::ring::SlotRing;
use crate::sync::{Label, Ordering, fence_at};

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    Whole,
    /// The record is not there any more.
    Overwritten,
    /// The record is, and its payload is not.
    Vacated,
}

/// Copies the record whose header is `meta` into `buffer`, whose length becomes the record's, and says
/// whether it was that of `position` all the time.
///
/// # Errors
/// When its payload can't be opened *now*: the record stays next.
pub(super) fn copy_record(
    ring: &SlotRing,
    position: u64,
    meta: Meta,
    segments: &Segments,
    buffer: &mut Vec<u8>,
) -> Result<Copied, ReadError> {
    let slot = ring.memory().slot(position);
    let len = meta.len() as usize;
    if meta.kind() == Meta::INLINE && len <= slot.room() {
        buffer.resize(len, 0);
        slot.read_body(buffer);
        return Ok(match ring.still(slot, position) {
            true => Copied::Whole,
            false => Copied::Overwritten,
        });
    }
    let gone = || match ring.still(slot, position) {
        true => Copied::Vacated,
        false => Copied::Overwritten,
    };
    if meta.kind() != Meta::CHUNK || len != size_of::<ChunkRef>() {
        return Ok(gone());
    }
    let mut bytes = [0u8; size_of::<ChunkRef>()];
    slot.read_body(&mut bytes);
    let reference: ChunkRef = bytemuck::cast(bytes);
    let segment = match segments.open(reference.segment) {
        Ok(Some(segment)) => segment,
        Ok(None) => return Ok(gone()),
        Err(failure) => return Err(ReadError::Pool(format!("{failure:?}"))),
    };
    let is_possible = reference.chunk < segment.chunks()
        && reference.len <= segment.chunk_bytes() as u64
        && ring.still(slot, position);
    if !is_possible {
        return Ok(gone());
    }
    buffer.resize(reference.len as usize, 0);
    segment.read(reference.chunk, buffer);
    fence_at(Label::ReadFence, Ordering::Acquire);
    let word = Chunk(segment.word(reference.chunk).load(Ordering::Relaxed));
    Ok(match word.version() == reference.version {
        true if ring.still(slot, position) => Copied::Whole,
        _ => gone(),
    })
}
