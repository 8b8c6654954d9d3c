//! Bodies: where they lie, how they are copied, and what becomes of a chunk when its message is
//! consumed.

use super::Inner;
use super::envelope;
use crate::layout::queue::Envelope;
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::Chunk;
use crate::pool::chunk;
use crate::pool::segment::{GrowFailure, Segments};
use crate::ring::Tenant;
use crate::ring::delivery::Standing;
use crate::sync::{Label, Ordering, fence_at};

/// Where the bytes of a message lie: perhaps an attribute block, then the body.
#[derive(Clone, Copy)]
pub(super) struct Body {
    place: Place,
    /// Bytes of the attribute block, 0 where there is none; never more than `whole`.
    block: usize,
    /// Bytes of both.
    whole: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Slot,
    Chunk(ChunkRef),
}

impl Body {
    /// A body in its slot, as long as the slot has room.
    #[inline(always)]
    pub fn inline(len: usize) -> Self {
        Self {
            place: Place::Slot,
            block: 0,
            whole: len,
        }
    }

    /// Bytes of the body alone.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.whole - self.block
    }

    /// Bytes of the attribute block in front of it, a multiple of 8.
    #[inline(always)]
    pub fn block(self) -> usize {
        self.block
    }

    /// Bytes of both.
    #[inline(always)]
    pub fn whole(self) -> usize {
        self.whole
    }

    /// What names the chunk that it lies in, as it stands in the slot; `None` for a body in its slot.
    pub fn reference(self) -> Option<[u8; size_of::<ChunkRef>()]> {
        match self.place {
            Place::Slot => None,
            Place::Chunk(reference) => Some(bytemuck::cast(reference)),
        }
    }
}

/// The length of an inline body without attributes of at most `room` bytes, by one comparison.
#[inline(always)]
pub(super) fn plain_up_to(meta: Meta, room: usize) -> Option<usize> {
    const LEN_KIND_AND_FLAGS: u64 = (1 << 48) - 1;
    let len = (meta.0 & LEN_KIND_AND_FLAGS).wrapping_sub(Meta::new(0, Meta::INLINE, 0).0);
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

    /// See [`find`].
    ///
    /// # Errors
    /// When its segment can't be opened now.
    pub(super) fn body(&self, standing: &Standing<'_>) -> Result<Option<Body>, GrowFailure> {
        find(&self.segments, self.delivery.envelope(), standing)
    }

    /// See [`copy`].
    #[inline(always)]
    pub(super) fn copy(
        &self,
        standing: &Standing<'_>,
        body: Body,
        offset: usize,
        out: &mut [u8],
    ) -> bool {
        let envelope = self.delivery.envelope();
        copy(&self.segments, envelope, standing, body, offset, out)
    }

    /// See [`in_place`].
    pub(super) fn in_place(&self, standing: &Standing<'_>, body: Body) -> Option<*const u8> {
        in_place(&self.segments, self.delivery.envelope(), standing, body)
    }
}

/// Where the body of a message lies; `None` when it names none there is. True for the message if
/// its word still stands.
///
/// # Errors
/// When its segment can't be opened now.
pub(super) fn find(
    segments: &Segments,
    envelope: Envelope,
    standing: &Standing<'_>,
) -> Result<Option<Body>, GrowFailure> {
    let slot = standing.slot();
    let meta = standing.meta();
    let has_block = meta.flags() & Meta::ATTRIBUTES != 0;
    if meta.kind() == Meta::INLINE && meta.len() as usize <= slot.message_room(envelope) {
        let place = Place::Slot;
        let read = |head: &mut [u8]| slot.read_message(envelope, head);
        return Ok(framed(place, meta.len() as usize, has_block, read));
    }
    if meta.kind() != Meta::CHUNK || meta.len() as usize != size_of::<ChunkRef>() {
        return Ok(None);
    }
    // The smallest stride has exactly as much room as a reference takes.
    let mut bytes = [0u8; size_of::<ChunkRef>()];
    slot.read_message(envelope, &mut bytes);
    let reference: ChunkRef = bytemuck::cast(bytes);
    let Some(segment) = segments.open(reference.segment)? else {
        return Ok(None);
    };
    let fits = reference.chunk < segment.chunks() && reference.len <= segment.chunk_bytes() as u64;
    if !fits {
        return Ok(None);
    }
    let place = Place::Chunk(reference);
    let read = |head: &mut [u8]| segment.read(reference.chunk, head);
    Ok(framed(place, reference.len as usize, has_block, read))
}

/// Copies `out.len()` bytes of a message from `offset` on: 0, or where its body begins. `false`
/// when its payload was not the message's all the time. The caller looks at the message's word
/// behind it.
#[inline(always)]
pub(super) fn copy(
    segments: &Segments,
    envelope: Envelope,
    standing: &Standing<'_>,
    body: Body,
    offset: usize,
    out: &mut [u8],
) -> bool {
    match body.place {
        Place::Slot if offset == 0 => {
            standing.slot().read_message(envelope, out);
            true
        }
        Place::Slot => {
            standing.slot().read_message_from(envelope, offset, out);
            true
        }
        Place::Chunk(reference) => {
            let Some(segment) = segments.get(reference.segment) else {
                return false;
            };
            segment.read_from(reference.chunk, offset, out);
            fence_at(Label::ReadFence, Ordering::Acquire);
            let word = Chunk(segment.word(reference.chunk).load(Ordering::Relaxed));
            word.version() == reference.version && word.state() != Chunk::FREE
        }
    }
}

/// Where a body lies, to be looked at in place: as long as its message is pinned, and behind the
/// lease that was given out under the pin. `None` when its payload is not the message's.
fn in_place(
    segments: &Segments,
    envelope: Envelope,
    standing: &Standing<'_>,
    body: Body,
) -> Option<*const u8> {
    let (block, len) = (body.block(), body.len());
    let Place::Chunk(reference) = body.place else {
        return Some(standing.slot().message_in_place(envelope, block, len));
    };
    let segment = segments.get(reference.segment)?;
    let word = Chunk(segment.word(reference.chunk).load(Ordering::Relaxed));
    let is_its = word.version() == reference.version && word.state() != Chunk::FREE;
    is_its.then(|| segment.data_from(reference.chunk, block, len))
}

/// Where the body begins, by the block's own head: copied once, checked, used. `None` when the
/// block can't be one.
fn framed(
    place: Place,
    whole: usize,
    has_block: bool,
    read: impl FnOnce(&mut [u8]),
) -> Option<Body> {
    let block = if has_block {
        let mut head = [0; envelope::HEAD];
        if whole < head.len() {
            return None;
        }
        read(&mut head);
        envelope::block_bytes(head).filter(|block| *block <= whole)?
    } else {
        0
    };
    Some(Body {
        place,
        block,
        whole,
    })
}

const _: () = assert!(
    size_of::<ChunkRef>() + crate::layout::ring::SLOT_HEADER + crate::layout::queue::ENVELOPE
        <= crate::layout::ring::MIN_STRIDE as usize
);
