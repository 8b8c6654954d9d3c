//! The part of a segment that is in memory: what was read last, behind what was left of it before.
//!
//! A block that begins in one read and ends in the next is moved in front of the next, so that nothing is
//! read twice. Memory and offsets are whole pages, as direct reads want them.

use crate::journal::segment::SegmentId;
use crate::journal::storage::SegmentFile;
use crate::layout::journal::MAX_BLOCK;
use crate::sys::disk::Pages;
use std::io;

/// Bytes of one read.
const READ: usize = 4 << 20;

/// See the module.
pub(super) struct Window<F> {
    id: SegmentId,
    file: F,
    /// Blocks end here.
    until: u64,
    pages: Pages,
    /// What is in memory: file offset, place in the pages, length.
    start: u64,
    from: usize,
    len: usize,
}

impl<F: SegmentFile> Window<F> {
    /// An empty one, in memory that was used before if there is some.
    pub fn new(id: SegmentId, file: F, until: u64, pages: Option<Pages>) -> io::Result<Self> {
        let pages = match pages {
            Some(pages) => pages,
            None => Pages::new(MAX_BLOCK + READ)?,
        };
        Ok(Self {
            id,
            file,
            until,
            pages,
            start: 0,
            from: MAX_BLOCK,
            len: 0,
        })
    }

    pub fn id(&self) -> SegmentId {
        self.id
    }

    pub fn into_pages(self) -> Pages {
        self.pages
    }

    /// The bytes from `offset` on: a whole block, or up to the end of the blocks. What was read while it
    /// was not written yet is read again by [`forget`](Self::forget).
    pub fn at(&mut self, offset: u64) -> io::Result<&[u8]> {
        let wanted = (MAX_BLOCK as u64).min(self.until.saturating_sub(offset)) as usize;
        let end = self.start + self.len as u64;
        let is_here = self.len > 0 && (self.start..=end).contains(&offset);
        if !is_here {
            (self.start, self.from, self.len) = (offset, MAX_BLOCK, 0);
            self.fill(offset)?;
        } else if offset + wanted as u64 > end && !self.holds_block(offset) {
            let rest = (end - offset) as usize;
            let old = self.from + (offset - self.start) as usize;
            let new = MAX_BLOCK - rest;
            self.pages.copy_within(old..old + rest, new);
            (self.start, self.from, self.len) = (offset, new, rest);
            self.fill(end)?;
        }
        let skip = (offset - self.start) as usize;
        let from = self.from + skip;
        Ok(&self.pages[from..from + (self.len - skip).min(wanted)])
    }

    /// What is in memory is not what is looked for any more.
    pub fn forget(&mut self) {
        self.len = 0;
    }

    /// Whether the block that begins at `offset` is in memory as a whole, as its header says.
    fn holds_block(&self, offset: u64) -> bool {
        use crate::layout::journal::{BlockHeader, ENTRIES_OFFSET};
        let from = self.from + (offset - self.start) as usize;
        let end = self.from + self.len;
        let Some(head) = self.pages[from..end].get(..ENTRIES_OFFSET) else {
            return false;
        };
        let header: BlockHeader = bytemuck::pod_read_unaligned(head);
        header.offset == offset && from + header.bytes as usize <= end && header.bytes > 0
    }

    /// Reads behind what is there.
    fn fill(&mut self, offset: u64) -> io::Result<()> {
        let len = (READ as u64).min(self.until.saturating_sub(offset)) as usize;
        let read = self
            .file
            .read_at(offset, &mut self.pages[MAX_BLOCK..MAX_BLOCK + len])?;
        self.len += read.min(len);
        Ok(())
    }
}
