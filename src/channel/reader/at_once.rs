//! Reading what most records are: the next one, there, whole, in its slot.
//!
//! Each call here does all of a read or nothing of it: then the way that is out of line does it, from the start, or
//! says why not. At the end of the ring they say so, which is what a reader that polls asks for most.
//! Why they are apart: docs/decisions/0059-what-a-message-costs-in-instructions.md.

use super::super::view::View;
use super::{Reader, Record};
use crate::error::ReadError;
use crate::layout::ring::Meta;
use crate::ring::read::{Glance, publish};
use crate::sys::fork;

/// Copies a short inline body, if it was the record's all the time; its length.
#[inline(always)]
fn copy_short(glance: &Glance<'_>, meta: Meta, buffer: &mut [u8]) -> Option<usize> {
    let len = glance.slot.read_short_body(meta, buffer)?;
    glance.is_unchanged().then_some(len)
}

/// The same for an inline body of any length that fits.
#[inline(never)]
fn copy_inline(glance: &Glance<'_>, meta: Meta, buffer: &mut [u8]) -> Option<usize> {
    let len = inline_up_to(meta, glance.slot.room())?;
    glance.slot.read_body(buffer.get_mut(..len)?);
    glance.is_unchanged().then_some(len)
}

/// The length of an inline body of at most `room` bytes, by one comparison.
#[inline(always)]
pub(super) fn inline_up_to(meta: Meta, room: usize) -> Option<usize> {
    const LEN_AND_KIND: u64 = (1 << 40) - 1;
    let len = (meta.0 & LEN_AND_KIND).wrapping_sub(Meta::new(0, Meta::INLINE, 0).0);
    (len <= room as u64).then_some(len as usize)
}

impl Reader {
    /// Copies the next record into `buffer`. `None` when there is none yet. Never blocks, makes no
    /// system call, allocates nothing.
    ///
    /// # Errors
    /// [`ReadError::Lagged`] (lossy readers) tells what was missed, and the next call goes on;
    /// [`ReadError::BufferTooSmall`] leaves the record next; the others of [`ReadError`].
    #[inline]
    pub fn try_read(&mut self, buffer: &mut [u8]) -> Result<Option<Record>, ReadError> {
        // The common case first: the next record is there, inline, and fits.
        let position = self.next;
        if self.generation == fork::generation() {
            let glance = self.ring.glance_past_claim(position);
            if let Some(meta) = glance.record() {
                if let Some(len) =
                    copy_short(&glance, meta, buffer).or_else(|| copy_inline(&glance, meta, buffer))
                {
                    self.next = position + 1;
                    publish(&self.cursor, position + 1);
                    return Ok(Some(Record { position, len }));
                }
            } else if glance.is_end() {
                if self.prefetches {
                    glance.slot.prefetch_second_line::<false>();
                }
                if self.is_at_mere_end() {
                    self.distance.at_end(self.next);
                    return Ok(None);
                }
            }
        }
        self.try_read_slowly(buffer)
    }

    /// [`try_read`](Self::try_read) as most are: all in registers, nothing out of line. `None`: nothing was read,
    /// and `try_read` does it or says why not.
    #[doc(hidden)]
    #[inline(always)]
    pub fn try_read_at_once(&mut self, buffer: &mut [u8]) -> Option<Record> {
        let position = self.next;
        if self.generation != fork::generation() {
            return None;
        }
        let glance = self.ring.glance(position);
        let len = copy_short(&glance, glance.record()?, buffer)?;
        self.next = position + 1;
        publish(&self.cursor, position + 1);
        Some(Record { position, len })
    }

    /// The next record in place, without a copy. `None` when there is none yet.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    #[inline(always)]
    pub fn try_view(&mut self) -> Result<Option<View<'_>>, ReadError> {
        let position = self.next;
        // A reliable cursor holds what it has not passed: no pin, and no second look.
        if self.reliable && self.generation == fork::generation() {
            let glance = self.ring.glance_past_claim(position);
            let room = glance.slot.room();
            if let Some(len) = glance.record().and_then(|meta| inline_up_to(meta, room)) {
                let data = glance.slot.body().cast_const();
                self.next = position + 1;
                return Ok(Some(View::new(self, Record { position, len }, data, None)));
            }
            if glance.is_end() {
                if self.prefetches {
                    glance.slot.prefetch_second_line::<false>();
                }
                if self.is_at_mere_end() {
                    self.distance.at_end(position);
                    return Ok(None);
                }
            }
        }
        self.try_view_slowly()
    }
}
