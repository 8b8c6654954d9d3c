//! Reading a journal while somebody writes it: the entries from a position on, as far as the caller knows
//! that they are durable.
//!
//! Recovery ([`super::Recovery`]) reads what is left of everything; a follower reads a part, again and again,
//! from any place. It never writes, and nobody knows that it is there. Segments may be given back under it:
//! then it says where the oldest ones that are left begin.
//!
//! # Where a position is
//! In the last epoch that began at or below it: what an epoch has at or above the cut of the next one does
//! not count. In that epoch, in the last segment whose first block is below it, or begins with it whole. The
//! index of segments is in memory, made from their first pages and first blocks, and added to by what was
//! passed on the way. It only says where to begin: every block is checked at its place, and follows the one
//! before by its first position.
//!
//! A block that is not whole below what is durable, in a segment that is still there, is damage, and told.

mod index;
mod window;

use super::block::{self, Found, Place};
use super::error::JournalError;
use super::segment::SegmentId;
use super::storage::Storage;
use crate::layout::journal::{
    BLOCKS_OFFSET, BlockHeader, ENTRIES_OFFSET, EntryHead, FIRST, GAP, LAST, SIDE, WHOLE,
    entry_bytes,
};
use core::ops::ControlFlow;
use index::Index;
use std::sync::Arc;
use window::Window;

/// Between two marks of the index in one segment.
const MARK_EVERY: u64 = 1 << 20;

/// How far a follower came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Everything below this was handed over, or holds nothing.
    To(u64),
    /// The journal begins here now: what was asked for was given back.
    Gone(u64),
}

/// See the module.
pub struct Follower<S: Storage> {
    storage: Arc<S>,
    index: Index<S>,
    window: Option<Window<S::File>>,
    at: Option<At>,
    /// An entry in pieces, so far.
    joined: Option<(u64, Vec<u8>)>,
}

/// Where in the journal.
#[derive(Clone, Copy)]
struct At {
    id: SegmentId,
    /// Of the block that is read, or comes next.
    offset: u64,
    /// Checked, and its entries are read from here on.
    block: Option<(BlockHeader, usize)>,
    /// The next position that was not handed over.
    next: u64,
    marked: u64,
}

impl<S: Storage> Follower<S> {
    /// Of the journal of that object.
    pub fn new(storage: Arc<S>, object: u64) -> Self {
        Self {
            index: Index::new(Arc::clone(&storage), object),
            storage,
            window: None,
            at: None,
            joined: None,
        }
    }

    /// Hands the entries at `from` and above that have a position, and are below `until`, to `each`, until
    /// it breaks; an entry it breaks at was handed over. `epoch` and `until` are the durable word's. Blocks
    /// for the disk.
    ///
    /// # Errors
    /// Damage; the disk.
    pub fn read(
        &mut self,
        from: u64,
        (epoch, until): (u64, u64),
        mut each: impl FnMut(u8, u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<Followed, JournalError> {
        if self.index.newest_epoch() < Some(epoch) {
            self.index.refresh()?;
        }
        if self.at.is_none_or(|at| at.next != from) && !self.go_to(from)? {
            return Ok(Followed::Gone(self.index.oldest()?.unwrap_or(until)));
        }
        let mut missed = None;
        while let Some(mut at) = self.at
            && at.next < until
        {
            if at.next >= self.index.limit(at.id.epoch) || !self.open_block(&mut at)? {
                if missed == Some(at.next) {
                    return Err(self.damaged(&at, "a block that was durable is not there"));
                }
                missed = Some(at.next);
                // Behind the last block of its segment, or of its epoch; or it was given back.
                self.index.refresh()?;
                if !self.go_on(at)? && !self.go_to(at.next)? {
                    return Ok(Followed::Gone(self.index.oldest()?.unwrap_or(until)));
                }
                continue;
            }
            let broken = self.entries(&mut at, until, &mut each)?;
            self.at = Some(at);
            if broken {
                return Ok(Followed::To(at.next));
            }
        }
        Ok(Followed::To(self.at.map_or(from, |at| at.next)))
    }

    /// A position at which the search for the first entry that `is_late` may begin: `is_late` is asked of
    /// entries of `kind` that stand at the beginnings of segments, and says whether what comes before is
    /// below. The oldest there is where nothing can be said.
    pub fn search(
        &mut self,
        kind: u8,
        is_late: impl Fn(&[u8]) -> bool,
    ) -> Result<u64, JournalError> {
        self.index.refresh()?;
        let oldest = self.index.oldest()?.unwrap_or(0);
        let mut found = oldest;
        let segments: Vec<SegmentId> = self.index.ids().collect();
        let (mut low, mut high) = (0, segments.len());
        // Of what is said of segments, later is more.
        while low < high {
            let middle = (low + high) / 2;
            let said = self.index.said(segments[middle], kind)?;
            match said {
                Some((first, bytes)) if !is_late(&bytes) => {
                    found = found.max(first);
                    low = middle + 1;
                }
                // One that says nothing is taken for a late one: then the search begins earlier.
                _ => high = middle,
            }
        }
        Ok(found)
    }

    /// The segments there are, oldest first: which, when made (Unix time in ms), bytes.
    pub fn segments(&mut self) -> Result<Vec<(SegmentId, u64, u64)>, JournalError> {
        self.index.refresh()?;
        Ok(self.index.listed())
    }

    /// The oldest position that the journal has, if it has any.
    pub fn oldest(&mut self) -> Result<Option<u64>, JournalError> {
        self.index.refresh()?;
        self.index.oldest()
    }

    /// The first position of a segment, once something was written to it.
    pub fn first_of(&mut self, id: SegmentId) -> Result<Option<u64>, JournalError> {
        Ok(self.index.first(id)?.map(|(first, _)| first))
    }

    /// How many positions from `from` up to `until` were left out where epochs begin, as those are that nobody
    /// can have claimed when an object is made again.
    pub fn left_out(&mut self, from: u64, until: u64) -> Result<u64, JournalError> {
        self.index.refresh()?;
        let begins = |id: &SegmentId| id.index == 0;
        let epochs: Vec<SegmentId> = self.index.ids().filter(begins).collect();
        let mut left_out = 0;
        for id in epochs {
            if let Some((first, end)) = self.index.gap(id)? {
                let end = end.min(self.index.limit(id.epoch)).min(until);
                left_out += end.saturating_sub(first.max(from));
            }
        }
        Ok(left_out)
    }

    /// The next position, for whoever was stopped by an error.
    pub fn position(&self) -> Option<u64> {
        self.at.map(|at| at.next)
    }

    /// Goes on in the next segment of the epoch, if that is where the next position is: an entry in pieces
    /// goes on there too.
    fn go_on(&mut self, at: At) -> Result<bool, JournalError> {
        let id = SegmentId {
            index: at.id.index + 1,
            ..at.id
        };
        let is_limited = at.next >= self.index.limit(id.epoch);
        let goes_on = !is_limited
            && self.index.get(id).is_some()
            && self
                .index
                .first(id)?
                .is_some_and(|(first, _)| first <= at.next);
        if goes_on {
            self.at = Some(At {
                id,
                offset: BLOCKS_OFFSET,
                block: None,
                next: at.next,
                marked: BLOCKS_OFFSET,
            });
        }
        Ok(goes_on)
    }

    fn go_to(&mut self, position: u64) -> Result<bool, JournalError> {
        self.joined = None;
        let found = match self.index.find(position)? {
            Some(found) => Some(found),
            None => {
                self.index.refresh()?;
                self.index.find(position)?
            }
        };
        let Some((id, offset)) = found else {
            self.at = None;
            return Ok(false);
        };
        self.at = Some(At {
            id,
            offset,
            block: None,
            next: position,
            marked: offset,
        });
        Ok(true)
    }

    /// Sees to it that a block is open that may have the next entry; whether there is one.
    fn open_block(&mut self, at: &mut At) -> Result<bool, JournalError> {
        if at.block.is_some() {
            return Ok(true);
        }
        let Some(segment) = self.index.get(at.id) else {
            return Ok(false);
        };
        let blocks_end = segment.blocks_end();
        let limit = self.index.limit(at.id.epoch);
        let is_here = self
            .window
            .as_ref()
            .is_some_and(|window| window.id() == at.id);
        if !is_here {
            let opened = self.index.open(at.id)?;
            let Some(file) = opened else {
                return Ok(false);
            };
            let pages = self.window.take().map(Window::into_pages);
            let pages = pages.unwrap_or_default();
            self.window = Some(
                Window::new(at.id, file, blocks_end, pages).map_err(|error| {
                    super::failed(&*self.storage, &at.id.name(), "reserving memory", error)
                })?,
            );
        }
        while at.offset < blocks_end {
            let place = Place {
                object: self.index.object(),
                epoch: at.id.epoch,
                index: at.id.index,
                offset: at.offset,
                previous_end: 0,
            };
            let Some(window) = &mut self.window else {
                return Ok(false);
            };
            let failed = |error| super::failed(&*self.storage, &at.id.name(), "reading", error);
            let mut found = block::check(window.at(at.offset).map_err(failed)?, place);
            if !matches!(found, Found::Whole(_)) {
                // It may have been written since it was read.
                window.forget();
                found = block::check(window.at(at.offset).map_err(failed)?, place);
            }
            let header = match found {
                Found::Whole(header) if header.next <= limit => header,
                // The end of the segment, or of the epoch; or it was given back and written over.
                _ => return Ok(false),
            };
            if header.next > at.next || header.first == at.next && self.joined.is_some() {
                if header.first > at.next {
                    return Err(self.damaged(at, "a block before it is missing"));
                }
                at.block = Some((header, ENTRIES_OFFSET));
                if at.offset >= at.marked + MARK_EVERY {
                    self.index.mark(at.id, header.first, at.offset);
                    at.marked = at.offset;
                }
                return Ok(true);
            }
            // The pieces of a long entry lie in blocks that end below it.
            if header.next == at.next && self.begins_in(&header, at) {
                at.block = Some((header, ENTRIES_OFFSET));
                return Ok(true);
            }
            at.offset += u64::from(header.bytes);
        }
        Ok(false)
    }

    /// Whether the last entry of a block is a piece of one that goes on at `at.next`.
    fn begins_in(&mut self, header: &BlockHeader, at: &At) -> bool {
        let Some(window) = &mut self.window else {
            return false;
        };
        let Ok(bytes) = window.at(at.offset) else {
            return false;
        };
        let mut place = ENTRIES_OFFSET;
        let mut last = None;
        while let Some((head, _, end)) = entry_at(bytes, header, place) {
            if head.kind < SIDE {
                last = Some(head);
            }
            place = end;
        }
        last.is_some_and(|head| head.piece != WHOLE && head.position == at.next)
    }

    /// Hands the entries of the open block over; whether `each` broke.
    fn entries(
        &mut self,
        at: &mut At,
        until: u64,
        each: &mut impl FnMut(u8, u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<bool, JournalError> {
        let Some((header, mut place)) = at.block else {
            return Ok(false);
        };
        let Self {
            window,
            joined,
            storage,
            ..
        } = self;
        let bytes = match window {
            Some(window) => window
                .at(at.offset)
                .map_err(|error| super::failed(&**storage, &at.id.name(), "reading", error))?,
            None => return Ok(false),
        };
        while let Some((head, body, end)) = entry_at(bytes, &header, place) {
            if head.kind >= SIDE || head.position < at.next && head.kind != GAP {
                place = end;
                continue;
            }
            if head.position >= until {
                break;
            }
            place = end;
            if head.kind == GAP {
                let to = body.try_into().map_or(0, u64::from_le_bytes);
                at.next = at.next.max(to);
                continue;
            }
            let whole = match head.piece {
                WHOLE => Some(body),
                FIRST => {
                    *joined = Some((head.position, body.to_vec()));
                    None
                }
                piece => match joined {
                    Some((position, so_far)) if *position == head.position => {
                        so_far.extend_from_slice(body);
                        (piece == LAST).then_some(&so_far[..])
                    }
                    _ => None,
                },
            };
            let Some(whole) = whole else {
                continue;
            };
            at.next = head.position + 1;
            let flow = each(head.kind, head.position, whole);
            if head.piece != WHOLE {
                *joined = None;
            }
            if flow.is_break() {
                at.block = Some((header, place));
                return Ok(true);
            }
        }
        if place >= header.used as usize {
            if joined.is_none() {
                at.next = at.next.max(header.next);
            }
            at.offset += u64::from(header.bytes);
            at.block = None;
        } else if entry_at(bytes, &header, place).is_none() {
            let what = "a block whose checksums are right has entries that do not fit it";
            return Err(self.damaged(at, what));
        } else {
            // What follows is not durable yet as far as the caller knows.
            at.block = Some((header, place));
            at.next = at.next.max(until);
        }
        Ok(false)
    }

    fn damaged(&self, at: &At, what: &'static str) -> JournalError {
        JournalError::Damaged {
            path: self.storage.path(&at.id.name()),
            from: at.offset,
            to: at.offset + block::STEP,
            what,
        }
    }
}

/// The entry that begins at `place` of a whole block, and where the next one does.
fn entry_at<'a>(
    block: &'a [u8],
    header: &BlockHeader,
    place: usize,
) -> Option<(EntryHead, &'a [u8], usize)> {
    let used = header.used as usize;
    let body = place.checked_add(size_of::<EntryHead>())?;
    if body > used {
        return None;
    }
    let head: EntryHead = bytemuck::pod_read_unaligned(block.get(place..body)?);
    let end = place.checked_add(entry_bytes(head.len as usize))?;
    let bytes = block.get(body..body.checked_add(head.len as usize)?)?;
    (end <= used).then_some((head, bytes, end))
}
