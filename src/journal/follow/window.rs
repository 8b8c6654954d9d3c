//! The part of a segment that is in memory: what was read last, behind what was left of it before.
//!
//! A block that begins in one read and ends in the next is moved in front of the next, so that nothing is
//! read twice. Who reads on and on has the next read made by a thread meanwhile, so that the disk does not
//! wait for checksums, nor they for the disk: one read ahead, in a thread for each, which ends with it and
//! touches nothing but its pages. A process that ends, or forks, leaves it nothing to do. Memory and offsets are whole pages, as direct reads want them.

use crate::journal::segment::SegmentId;
use crate::journal::storage::SegmentFile;
use crate::layout::journal::{BLOCKS_OFFSET, MAX_BLOCK};
use crate::sys::disk::Pages;
use std::io;
use std::thread::JoinHandle;

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
    /// Pages for what is read ahead, if there are any that nobody reads into.
    spare: Option<Pages>,
    ahead: Option<Ahead>,
}

/// What a thread of its own reads meanwhile.
struct Ahead {
    offset: u64,
    thread: JoinHandle<(Pages, io::Result<usize>)>,
}

impl<F: SegmentFile> Window<F> {
    /// An empty one, in memory that was used before if there is some.
    pub fn new(id: SegmentId, file: F, until: u64, pages: [Option<Pages>; 2]) -> io::Result<Self> {
        let [pages, spare] = pages;
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
            spare,
            ahead: None,
        })
    }

    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Its memory, for the next one.
    pub fn into_pages(self) -> [Option<Pages>; 2] {
        [Some(self.pages), self.spare]
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
            // Who begins with a segment mostly goes on.
            if offset == BLOCKS_OFFSET {
                self.read_ahead();
            }
        } else if offset + wanted as u64 > end && !self.holds_block(offset) {
            let rest = (end - offset) as usize;
            let old = self.from + (offset - self.start) as usize;
            let new = MAX_BLOCK - rest;
            match self.take_ahead(end) {
                Some((mut pages, read)) => {
                    pages[new..MAX_BLOCK].copy_from_slice(&self.pages[old..old + rest]);
                    self.spare = Some(core::mem::replace(&mut self.pages, pages));
                    (self.start, self.from, self.len) = (offset, new, rest + read);
                }
                None => {
                    self.pages.copy_within(old..old + rest, new);
                    (self.start, self.from, self.len) = (offset, new, rest);
                    self.fill(end)?;
                }
            }
            self.read_ahead();
        }
        let skip = (offset - self.start) as usize;
        let from = self.from + skip;
        Ok(&self.pages[from..from + (self.len - skip).min(wanted)])
    }

    /// Begins to read what follows: by the time that what is here was looked at, it is here too. Where that
    /// can't be, it is read when it is needed.
    fn read_ahead(&mut self) {
        let offset = self.start + self.len as u64;
        let len = (READ as u64).min(self.until.saturating_sub(offset)) as usize;
        if len == 0 || self.ahead.is_some() {
            return;
        }
        let Some(read_at) = self.file.reader() else {
            return;
        };
        let pages = match self.spare.take() {
            Some(pages) => Ok(pages),
            None => Pages::new(MAX_BLOCK + READ),
        };
        let Ok(mut pages) = pages else {
            return;
        };
        let read = move || {
            let read = read_at(offset, &mut pages[MAX_BLOCK..MAX_BLOCK + len]);
            (pages, read.map(|read| read.min(len)))
        };
        let thread = std::thread::Builder::new().name("ringway-ahead".into());
        self.ahead = thread
            .spawn(read)
            .ok()
            .map(|thread| Ahead { offset, thread });
    }

    /// What was read ahead at `offset`, with pages in which it begins behind the room for a block. What else
    /// was read is nothing, and an error is met again.
    fn take_ahead(&mut self, offset: u64) -> Option<(Pages, usize)> {
        let ahead = self.ahead.take()?;
        if ahead.offset != offset {
            return None;
        }
        let (pages, read) = ahead.thread.join().ok()?;
        match read {
            Ok(read) if read > 0 => Some((pages, read)),
            _ => {
                self.spare = Some(pages);
                None
            }
        }
    }

    /// What is in memory is not what is looked for any more.
    pub fn forget(&mut self) {
        self.len = 0;
        self.ahead = None;
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
