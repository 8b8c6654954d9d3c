//! The part of a segment that is in memory: twice the longest block, so that a run of small ones takes one
//! read.

use super::SegmentInfo;
use crate::journal::error::JournalError;
use crate::journal::failed;
use crate::journal::segment::SegmentId;
use crate::journal::storage::{SegmentFile, Storage};
use crate::layout::PAGE;
use crate::layout::journal::MAX_BLOCK;
use crate::sys::disk::Pages;
use std::io;

/// Part of a file in memory.
pub(super) struct Window<S: Storage> {
    pages: Pages,
    /// The segment that was read last: one is open at a time, however many there are.
    file: Option<(SegmentId, S::File)>,
    of: Option<SegmentId>,
    start: u64,
    len: usize,
}

impl<S: Storage> Window<S> {
    /// An empty one for files of that length.
    pub fn new(file_bytes: u64) -> io::Result<Self> {
        let len = file_bytes.clamp(PAGE as u64, 2 * MAX_BLOCK as u64);
        Ok(Self {
            pages: Pages::new(len as usize)?,
            file: None,
            of: None,
            start: 0,
            len: 0,
        })
    }

    /// The bytes from `offset` on: `wanted` of them, or up to the end of the blocks.
    pub fn at(
        &mut self,
        storage: &S,
        info: &SegmentInfo,
        offset: u64,
        wanted: usize,
        salvage: bool,
    ) -> Result<&[u8], JournalError> {
        let end = info.file_bytes - PAGE as u64;
        let wanted = wanted.min((end - offset) as usize);
        let is_here = self.of == Some(info.id)
            && offset >= self.start
            && offset + wanted as u64 <= self.start + self.len as u64;
        if !is_here {
            let len = self.pages.len().min((end - offset) as usize);
            self.of = None;
            let file = match self.file.take_if(|(of, _)| *of == info.id) {
                Some((_, file)) => file,
                None => {
                    let name = info.id.name();
                    let opened = storage.open(&name, false);
                    opened.map_err(|error| failed(storage, &name, "opening", error))?
                }
            };
            match file.read_at(offset, &mut self.pages[..len]) {
                Ok(read) => self.pages[read.min(len)..len].fill(0),
                Err(error) if !salvage => {
                    return Err(failed(storage, &info.id.name(), "reading", error));
                }
                Err(_) => {
                    for at in (0..len).step_by(PAGE) {
                        let page = &mut self.pages[at..at + PAGE];
                        if file.read_at(offset + at as u64, page).is_err() {
                            page.fill(0);
                        }
                    }
                }
            }
            (self.of, self.start, self.len) = (Some(info.id), offset, len);
            self.file = Some((info.id, file));
        }
        let from = (offset - self.start) as usize;
        Ok(&self.pages[from..from + wanted])
    }
}
