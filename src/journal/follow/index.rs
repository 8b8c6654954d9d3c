//! Which segments there are, and where positions are in them. Made from what the segments say of
//! themselves; never evidence.

use crate::journal::block::{self, Found, Place};
use crate::journal::error::JournalError;
use crate::journal::segment::{self, SegmentId};
use crate::journal::storage::{SegmentFile, Storage};
use crate::layout::PAGE;
use crate::layout::journal::{
    BLOCKS_OFFSET, ENTRIES_OFFSET, EntryHead, GAP, LAST, MAX_BLOCK, MIDDLE, SIDE,
};
use crate::sys::disk::Pages;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Blocks that are searched for what a segment says at its beginning: those of its first flush, and of
/// one that went on from the segment before.
const SEARCHED: u64 = 16 << 20;

/// A segment, by its first page.
pub(super) struct Known {
    start: u64,
    cut: u64,
    file_bytes: u64,
    created_ms: u64,
    /// The first position in it, and whether an entry begins with it; once it has a block.
    first: Option<(u64, bool)>,
    /// What it says of what comes before it, by kind.
    said: Option<(u8, Vec<u8>)>,
    /// Positions, each below the next one's, and blocks in which something below begins.
    marks: Vec<(u64, u64)>,
}

impl Known {
    /// Where the footer is.
    pub fn blocks_end(&self) -> u64 {
        self.file_bytes - PAGE as u64
    }
}

/// See the module.
pub(super) struct Index<S: Storage> {
    storage: Arc<S>,
    object: u64,
    segments: BTreeMap<SegmentId, Known>,
}

impl<S: Storage> Index<S> {
    pub fn new(storage: Arc<S>, object: u64) -> Self {
        Self {
            storage,
            object,
            segments: BTreeMap::new(),
        }
    }

    pub fn object(&self) -> u64 {
        self.object
    }

    pub fn ids(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.segments.keys().copied()
    }

    /// Which, when made, bytes.
    pub fn listed(&self) -> Vec<(SegmentId, u64, u64)> {
        let segments = self.segments.iter();
        segments
            .map(|(id, known)| (*id, known.created_ms, known.file_bytes))
            .collect()
    }

    pub fn newest_epoch(&self) -> Option<u64> {
        self.segments.last_key_value().map(|(id, _)| id.epoch)
    }

    pub fn get(&self, id: SegmentId) -> Option<&Known> {
        self.segments.get(&id)
    }

    /// Looks which segments there are.
    pub fn refresh(&mut self) -> Result<(), JournalError> {
        let listed = segment::list(&*self.storage)?;
        self.segments
            .retain(|id, _| listed.binary_search(id).is_ok());
        for id in listed {
            if self.segments.contains_key(&id) {
                continue;
            }
            // One that goes meanwhile is not there.
            let Some(file) = self.open(id)? else {
                continue;
            };
            let (header, _) = segment::read_head(&*self.storage, id, Some(self.object), &file)?;
            let known = Known {
                start: header.start,
                cut: header.cut,
                file_bytes: header.file_bytes,
                created_ms: header.created_ms,
                first: None,
                said: None,
                marks: Vec::new(),
            };
            self.segments.insert(id, known);
        }
        Ok(())
    }

    /// Opens a segment, if it is still there.
    pub fn open(&self, id: SegmentId) -> Result<Option<S::File>, JournalError> {
        let name = id.name();
        match self.storage.open(&name, false) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(crate::journal::failed(
                &*self.storage,
                &name,
                "opening",
                error,
            )),
        }
    }

    /// Positions of an epoch at or above this do not count: the next one began there.
    pub fn limit(&self, epoch: u64) -> u64 {
        let behind = SegmentId {
            epoch: epoch + 1,
            index: 0,
        };
        let next = self.segments.range(behind..).next();
        next.map_or(u64::MAX, |(_, known)| known.cut)
    }

    /// A place at or in front of which `position` is; `None` when that was given back.
    pub fn find(&mut self, position: u64) -> Result<Option<(SegmentId, u64)>, JournalError> {
        let epoch = self
            .segments
            .iter()
            .rev()
            .find(|(_, known)| known.cut <= position)
            .map(|(id, _)| id.epoch);
        let Some(epoch) = epoch else {
            return Ok(None);
        };
        let of_epoch = SegmentId { epoch, index: 0 }..=SegmentId {
            epoch,
            index: u64::MAX,
        };
        let candidates: Vec<SegmentId> = self
            .segments
            .range(of_epoch)
            .filter(|(_, known)| known.start <= position)
            .map(|(id, _)| *id)
            .collect();
        for id in candidates.into_iter().rev() {
            match self.first(id)? {
                Some((first, begins)) if first < position || first == position && begins => {
                    let known = &self.segments[&id];
                    let mark = known.marks.iter().rfind(|mark| mark.0 < position);
                    return Ok(Some((id, mark.map_or(BLOCKS_OFFSET, |mark| mark.1))));
                }
                // Nothing was written to it yet; or the position is in one before.
                _ => {}
            }
        }
        Ok(None)
    }

    /// The oldest position that is there whole.
    pub fn oldest(&mut self) -> Result<Option<u64>, JournalError> {
        let ids: Vec<SegmentId> = self.ids().collect();
        for id in ids {
            if let Some((first, begins)) = self.first(id)?
                && first < self.limit(id.epoch)
            {
                return Ok(Some(if begins { first } else { first + 1 }));
            }
        }
        Ok(None)
    }

    /// Notes that what is at `position` and above begins at that block or behind it.
    pub fn mark(&mut self, id: SegmentId, position: u64, offset: u64) {
        if let Some(known) = self.segments.get_mut(&id)
            && known
                .marks
                .last()
                .is_none_or(|last| last.0 < position && last.1 < offset)
        {
            known.marks.push((position, offset));
        }
    }

    /// The first position of a segment, and whether an entry begins with it; `None` before it has a block.
    pub fn first(&mut self, id: SegmentId) -> Result<Option<(u64, bool)>, JournalError> {
        let known = match self.segments.get(&id) {
            Some(known) if known.first.is_none() => known,
            known => return Ok(known.and_then(|known| known.first)),
        };
        let mut found = None;
        let end = known.blocks_end();
        self.walk(id, end, |first, entries| {
            let Some(head) = entries
                .map(|(head, _)| head)
                .find(|head| head.kind < SIDE && head.kind != GAP)
            else {
                found.get_or_insert((first, true));
                return false;
            };
            let begins = !matches!(head.piece, MIDDLE | LAST);
            found = Some((first, begins));
            false
        })?;
        if let Some(known) = self.segments.get_mut(&id) {
            known.first = found;
        }
        Ok(found)
    }

    /// The first entry of `kind`, which is state, of a segment; with the segment's first position.
    pub fn said(
        &mut self,
        id: SegmentId,
        kind: u8,
    ) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        let Some((first, begins)) = self.first(id)? else {
            return Ok(None);
        };
        let first = if begins { first } else { first + 1 };
        let known = &self.segments[&id];
        if let Some((of, said)) = &known.said
            && *of == kind
        {
            return Ok(Some((first, said.clone())));
        }
        let mut found = None;
        let end = known.blocks_end().min(SEARCHED);
        self.walk(id, end, |_, entries| {
            for (head, bytes) in entries {
                if head.kind == kind {
                    found = Some(bytes.to_vec());
                    break;
                }
            }
            found.is_none()
        })?;
        if let Some(known) = self.segments.get_mut(&id) {
            known.said = found.clone().map(|said| (kind, said));
        }
        Ok(found.map(|said| (first, said)))
    }

    /// The positions that a segment begins with and that hold nothing, if it does begin so: first, and the one
    /// behind the last.
    pub fn gap(&self, id: SegmentId) -> Result<Option<(u64, u64)>, JournalError> {
        let Some(known) = self.segments.get(&id) else {
            return Ok(None);
        };
        let mut found = None;
        self.walk(id, known.blocks_end().min(SEARCHED), |_, entries| {
            let mut of_positions = entries.filter(|(head, _)| head.kind < SIDE);
            let Some((head, bytes)) = of_positions.next() else {
                return true;
            };
            if head.kind == GAP {
                let end = bytes.try_into().map_or(0, u64::from_le_bytes);
                found = Some((head.position, end));
            }
            false
        })?;
        Ok(found)
    }

    /// Shows the blocks of a segment from its beginning on, while `each` wants more.
    fn walk(
        &self,
        id: SegmentId,
        end: u64,
        mut each: impl FnMut(u64, &mut dyn Iterator<Item = (EntryHead, &[u8])>) -> bool,
    ) -> Result<(), JournalError> {
        let failed = |error| crate::journal::failed(&*self.storage, &id.name(), "reading", error);
        let Some(file) = self.open(id)? else {
            return Ok(());
        };
        let mut pages = Pages::new(MAX_BLOCK).map_err(failed)?;
        let mut offset = BLOCKS_OFFSET;
        while offset < end {
            // A page first: most segments begin with a short block.
            let mut read = file.read_at(offset, &mut pages[..PAGE]).map_err(failed)?;
            let place = Place {
                object: self.object,
                epoch: id.epoch,
                index: id.index,
                offset,
                previous_end: 0,
            };
            if read < ENTRIES_OFFSET || !block::may_begin(&pages[..read], place) {
                return Ok(());
            }
            let header: crate::layout::journal::BlockHeader =
                bytemuck::pod_read_unaligned(&pages[..ENTRIES_OFFSET]);
            let len = (header.bytes as usize).clamp(PAGE, MAX_BLOCK) / PAGE * PAGE;
            if len > PAGE {
                read = file.read_at(offset, &mut pages[..len]).map_err(failed)?;
            }
            let Found::Whole(header) = block::check(&pages[..read], place) else {
                return Ok(());
            };
            let mut entries = block::entries(&pages[..read], &header).map_while(Result::ok);
            if !each(header.first, &mut entries) {
                return Ok(());
            }
            offset += u64::from(header.bytes);
        }
        Ok(())
    }
}
