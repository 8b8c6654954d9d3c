//! How large the parts of a journal are, and who makes its segments.

use super::error::JournalError;
use crate::layout::PAGE;
use crate::layout::journal::{BLOCKS_OFFSET, MAX_BLOCK, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

/// Sizes of a journal. They may differ from writer to writer.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of a segment, whole pages.
    pub segment_bytes: u64,
    /// Length of a staging buffer, which is the longest block: whole pages, at most 1 MiB.
    pub buffer_bytes: usize,
    /// Staging buffers, which are the writes at a time: 2 to 8.
    pub buffers: usize,
    /// Segments that are kept ready.
    pub spares: usize,
    /// Length of each of the three files that are kept for a full disk ([`Writer`](super::Writer)), whole pages; 0: none are.
    pub reserve_bytes: u64,
    /// Whether a thread makes segments ahead.
    pub background: bool,
}

impl Default for Options {
    /// Segments of 64 MiB, four buffers of 1 MiB, one spare, made by a thread.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            buffer_bytes: MAX_BLOCK,
            buffers: 4,
            spares: 1,
            reserve_bytes: 0,
            background: true,
        }
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<(), JournalError> {
        let wrong = |option, given, rule| {
            Err(JournalError::InvalidOption {
                option,
                given,
                rule,
            })
        };
        let page = PAGE as u64;
        let (segment, buffer) = (self.segment_bytes, self.buffer_bytes as u64);
        if !(PAGE..=MAX_BLOCK).contains(&self.buffer_bytes) || !buffer.is_multiple_of(page) {
            return wrong("buffer_bytes", buffer, "4 KiB to 1 MiB in whole pages");
        }
        if !(2..=8).contains(&self.buffers) {
            return wrong("buffers", self.buffers as u64, "2 to 8");
        }
        let (reserve, least) = (self.reserve_bytes, MIN_SEGMENT_BYTES);
        let is_reserve = (least..=segment).contains(&reserve) && reserve.is_multiple_of(page);
        if reserve != 0 && !is_reserve {
            let rule = "64 KiB to a segment, in whole pages, or 0";
            return wrong("reserve_bytes", reserve, rule);
        }
        let fits = segment >= BLOCKS_OFFSET + buffer + page;
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&segment)
            || !segment.is_multiple_of(page)
            || !fits
        {
            let rule = "64 KiB to 1 GiB in whole pages, and three pages more than a buffer";
            return wrong("segment_bytes", segment, rule);
        }
        Ok(())
    }
}
