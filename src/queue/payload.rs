//! Bodies: where they lie, how they are copied, and what becomes of a chunk when its message is
//! consumed.

use super::Inner;
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::Chunk;
use crate::pool::chunk;
use crate::pool::segment::{GrowFailure, Segments};
use crate::ring::Tenant;
use crate::ring::delivery::Standing;
use crate::sync::{Label, Ordering, fence_at};

/// Where a body lies.
#[derive(Clone, Copy)]
pub(super) enum Body {
    Inline(usize),
    Chunk(ChunkRef),
}

impl Body {
    pub fn len(self) -> usize {
        match self {
            Self::Inline(len) => len,
            Self::Chunk(reference) => reference.len as usize,
        }
    }
}

/// The length of an inline body of at most `room` bytes, by one comparison.
#[inline(always)]
pub(super) fn inline_up_to(meta: Meta, room: usize) -> Option<usize> {
    const LEN_AND_KIND: u64 = (1 << 40) - 1;
    let len = (meta.0 & LEN_AND_KIND).wrapping_sub(Meta::new(0, Meta::INLINE, 0).0);
    (len <= room as u64).then_some(len as usize)
}

/// Frees the chunks of messages that are consumed.
pub(super) struct Payloads<'a> {
    segments: &'a Segments,
    queue: u64,
}

impl<'a> Payloads<'a> {
    pub fn new(segments: &'a Segments, queue: u64) -> Self {
        Self { segments, queue }
    }
}

impl Tenant for Payloads<'_> {
    /// Exactly this version, queue and position, or nothing.
    fn vacated(&mut self, position: u64, body: [u8; 24]) {
        let reference: ChunkRef = bytemuck::cast(body);
        let Some(segment) = self.segments.get(reference.segment) else {
            return;
        };
        if reference.chunk < segment.chunks()
            && segment.ring(reference.chunk).load(Ordering::Relaxed) == self.queue
            && segment.position(reference.chunk).load(Ordering::Relaxed) == position
        {
            chunk::free(segment.word(reference.chunk), reference.version);
        }
    }
}

impl Inner {
    pub(super) fn payloads(&self) -> Payloads<'_> {
        Payloads::new(&self.segments, self.object_id)
    }

    /// Where the body of a message lies; `None` when it names none there is. True for the message if
    /// its word still stands.
    ///
    /// # Errors
    /// When its segment can't be opened now.
    pub(super) fn body(&self, standing: &Standing<'_>) -> Result<Option<Body>, GrowFailure> {
        let slot = standing.slot();
        let meta = standing.meta();
        if let Some(len) = inline_up_to(meta, slot.message_room()) {
            return Ok(Some(Body::Inline(len)));
        }
        if meta.kind() != Meta::CHUNK || meta.len() as usize != size_of::<ChunkRef>() {
            return Ok(None);
        }
        // The smallest stride has exactly as much room as a reference takes.
        let mut bytes = [0u8; size_of::<ChunkRef>()];
        slot.read_message(&mut bytes);
        let reference: ChunkRef = bytemuck::cast(bytes);
        let Some(segment) = self.segments.open(reference.segment)? else {
            return Ok(None);
        };
        let fits =
            reference.chunk < segment.chunks() && reference.len <= segment.chunk_bytes() as u64;
        Ok(fits.then_some(Body::Chunk(reference)))
    }

    /// Copies a body; `false` when its payload was not the message's all the time. The caller looks
    /// at the message's word behind it.
    pub(super) fn copy(&self, standing: &Standing<'_>, body: Body, out: &mut [u8]) -> bool {
        match body {
            Body::Inline(_) => {
                standing.slot().read_message(out);
                true
            }
            Body::Chunk(reference) => {
                let Some(segment) = self.segments.get(reference.segment) else {
                    return false;
                };
                segment.read(reference.chunk, out);
                fence_at(Label::ReadFence, Ordering::Acquire);
                let word = Chunk(segment.word(reference.chunk).load(Ordering::Relaxed));
                word.version() == reference.version && word.state() != Chunk::FREE
            }
        }
    }
}

const _: () = assert!(
    size_of::<ChunkRef>() + crate::layout::ring::SLOT_HEADER + crate::layout::queue::ENVELOPE
        <= crate::layout::ring::MIN_STRIDE as usize
);
