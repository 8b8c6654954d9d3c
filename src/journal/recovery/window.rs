//! The part of a segment that is in memory: twice the longest block, so that a run of small ones takes one
//! read.

use super::Segment;
use crate::journal::error::JournalError;
use crate::journal::failed;
use crate::journal::segment::SegmentId;
use crate::journal::storage::{SegmentFile, Storage};
use crate::layout::PAGE;
use crate::layout::journal::MAX_BLOCK;
use crate::sys::disk::Pages;
use std::io;

/// Part of a file in memory.
pub(super) struct Window {
    pages: Pages,
    of: Option<SegmentId>,
    start: u64,
    len: usize,
}

impl Window {
    /// An empty one for files of that length.
    pub fn new(file_bytes: u64) -> io::Result<Self> {
        let len = file_bytes.clamp(PAGE as u64, 2 * MAX_BLOCK as u64);
        Ok(Self {
            pages: Pages::new(len as usize)?,
            of: None,
            start: 0,
            len: 0,
        })
    }

    /// The bytes from `offset` on: `wanted` of them, or up to the end of the blocks.
    pub fn at<S: Storage>(
        &mut self,
        storage: &S,
        segment: &Segment<S>,
        offset: u64,
        wanted: usize,
        salvage: bool,
    ) -> Result<&[u8], JournalError> {
        let info = &segment.info;
        let end = info.file_bytes - PAGE as u64;
        let wanted = wanted.min((end - offset) as usize);
        let is_here = self.of == Some(info.id)
            && offset >= self.start
            && offset + wanted as u64 <= self.start + self.len as u64;
        if !is_here {
            let len = self.pages.len().min((end - offset) as usize);
            self.of = None;
            match segment.file.read_at(offset, &mut self.pages[..len]) {
                Ok(read) => self.pages[read.min(len)..len].fill(0),
                Err(error) if !salvage => {
                    return Err(failed(storage, &info.id.name(), "reading", error));
                }
                Err(_) => {
                    for at in (0..len).step_by(PAGE) {
                        let page = &mut self.pages[at..at + PAGE];
                        if segment.file.read_at(offset + at as u64, page).is_err() {
                            page.fill(0);
                        }
                    }
                }
            }
            (self.of, self.start, self.len) = (Some(info.id), offset, len);
        }
        let from = (offset - self.start) as usize;
        Ok(&self.pages[from..from + wanted])
    }
}
