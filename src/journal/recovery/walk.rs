//! The walk along the blocks of an epoch, and the judgement where it ends.

use super::window::Window;
use super::{Damage, Entry, Reading, Recovered, SegmentInfo};
use crate::journal::block::{self, Found, Place, STEP};
use crate::journal::error::JournalError;
use crate::journal::segment::SegmentId;
use crate::journal::storage::Storage;
use crate::layout::PAGE;
use crate::layout::journal::{
    BLOCKS_OFFSET, BlockHeader, EntryHead, FIRST, LAST, MAX_BLOCK, WHOLE,
};

/// A footer to be written.
pub(super) struct Seal {
    pub id: SegmentId,
    pub file_bytes: u64,
    pub start: u64,
    pub end: u64,
    pub next: u64,
}

/// An entry in pieces, so far.
pub(super) struct Joined {
    kind: u8,
    flags: u8,
    position: u64,
    bytes: Vec<u8>,
}

pub(super) struct Walk<'a, S: Storage, F> {
    pub storage: &'a S,
    pub reading: &'a Reading<'a>,
    pub window: Window<S>,
    pub joined: Option<Joined>,
    pub found: Recovered,
    pub each: &'a mut F,
    pub read: u64,
    pub to_read: u64,
    pub seals: Vec<Seal>,
}

/// Where an epoch stands.
struct State {
    /// The next position, if it is known.
    next: Option<u64>,
    /// The segment before ended here, and its end was not sealed.
    end: Option<(u64, u64)>,
}

impl<S: Storage, E: From<JournalError>, F: FnMut(Entry<'_>) -> Result<(), E>> Walk<'_, S, F> {
    pub fn epoch(&mut self, segments: &[SegmentInfo], limit: Option<u64>) -> Result<(), E> {
        let Some(first) = segments.first() else {
            return Ok(());
        };
        self.joined = None;
        self.found.epoch = first.id.epoch;
        let mut state = State {
            next: (first.id.index == 0).then_some(first.cut),
            end: None,
        };
        let mut is_over = false;
        for (at, info) in segments.iter().enumerate() {
            if !is_over
                && let Some(end) = state.end
                && !self.goes_on(info, end)?
            {
                is_over = true;
            }
            if is_over {
                self.seals.push(Seal::of(info, BLOCKS_OFFSET, state.next));
                continue;
            }
            let next = segments.get(at + 1..).unwrap_or_default();
            is_over = self.segment(info, next, limit, &mut state)?;
        }
        if let Some((index, offset)) = state.end {
            let epoch = first.id.epoch;
            self.found.ends.push((SegmentId { epoch, index }, offset));
        }
        self.found.next = state.next.unwrap_or(first.start).max(first.cut);
        Ok(())
    }

    /// Whether the segment begins where the one before ended.
    fn goes_on(&mut self, info: &SegmentInfo, end: (u64, u64)) -> Result<bool, E> {
        if info.id.index != end.0 + 1 {
            // What lay in between was released, so it was durable.
            return Ok(true);
        }
        match self.block(info, BLOCKS_OFFSET)? {
            Found::Whole(header) => Ok(header.previous_end == end.1),
            // Judged when it is read.
            Found::Damaged(_) => Ok(true),
            Found::None => Ok(false),
        }
    }

    /// Reads a segment; whether the epoch ended in it.
    fn segment(
        &mut self,
        info: &SegmentInfo,
        later: &[SegmentInfo],
        limit: Option<u64>,
        state: &mut State,
    ) -> Result<bool, E> {
        if let Some((end, next)) = info.sealed
            && !(self.reading.needed)(info)
        {
            *state = State {
                next: Some(next),
                end: None,
            };
            self.read += end;
            self.found.next = next;
            return Ok(false);
        }
        let blocks_end = info.file_bytes - PAGE as u64;
        let until = info.sealed.map_or(blocks_end, |(end, _)| end);
        let mut offset = BLOCKS_OFFSET;
        while offset < until {
            let found = self.block(info, offset)?;
            let is_void = |header: &BlockHeader| limit.is_some_and(|limit| header.next > limit);
            match found {
                Found::Whole(header)
                    if !is_void(&header) && state.next.is_none_or(|next| next == header.first) =>
                {
                    self.take(info, offset, &header)?;
                    state.next = Some(header.next);
                    offset += u64::from(header.bytes);
                    (self.reading.progress)(self.read + offset, self.to_read);
                    continue;
                }
                Found::None
                    if let Some(next) = later.first()
                        && self.goes_on(next, (info.id.index, offset))? =>
                {
                    break;
                }
                found => {
                    let missing = self.missing(info, later, offset, &found, limit, state)?;
                    let Some((to, what)) = missing else {
                        break;
                    };
                    let damage = Damage {
                        path: self.storage.path(&info.id.name()),
                        from: offset,
                        to,
                        what,
                    };
                    if !self.reading.salvage {
                        return Err(damage.error().into());
                    }
                    self.found.damage.push(damage);
                    self.joined = None;
                    state.next = None;
                    offset = to;
                }
            }
        }
        self.read += if info.sealed.is_some() {
            until
        } else {
            info.file_bytes
        };
        (self.reading.progress)(self.read, self.to_read);
        if info.sealed.is_some() {
            state.end = None;
            return Ok(false);
        }
        self.seals
            .push(Seal::of(info, offset.min(blocks_end), state.next));
        state.end = Some((info.id.index, offset));
        // Whether it goes on is for the next segment to say, unless this is where the next epoch began.
        Ok(limit.is_some() && limit == state.next && later.is_empty())
    }

    /// Judges what stands at a place.
    fn block(&mut self, info: &SegmentInfo, offset: u64) -> Result<Found, JournalError> {
        let place = place_of(info, offset);
        let salvage = self.reading.salvage;
        let head = self.window.at(self.storage, info, offset, PAGE, salvage)?;
        let wanted = match head.get(..size_of::<BlockHeader>()) {
            Some(head) if block::may_begin(head, place) => {
                let header: BlockHeader = bytemuck::pod_read_unaligned(head);
                (header.bytes as usize).clamp(PAGE, MAX_BLOCK)
            }
            _ => MAX_BLOCK,
        };
        let bytes = self
            .window
            .at(self.storage, info, offset, wanted, salvage)?;
        match block::check(bytes, place) {
            // The length may be what is wrong.
            Found::None if wanted < MAX_BLOCK => {
                let bytes = self
                    .window
                    .at(self.storage, info, offset, MAX_BLOCK, salvage)?;
                Ok(block::check(bytes, place))
            }
            found => Ok(found),
        }
    }

    /// Gives the entries of a whole block away.
    fn take(&mut self, info: &SegmentInfo, offset: u64, header: &BlockHeader) -> Result<(), E> {
        self.found.blocks += 1;
        self.found.block_bytes += u64::from(header.bytes);
        let id = info.id;
        let bytes = self.window.at(
            self.storage,
            info,
            offset,
            header.bytes as usize,
            self.reading.salvage,
        )?;
        for entry in block::entries(bytes, header) {
            let Ok((head, bytes)) = entry else {
                let path = self.storage.path(&id.name());
                return Err(JournalError::Damaged {
                    path,
                    from: offset,
                    to: offset + u64::from(header.bytes),
                    what: "a block whose checksums are right has entries that do not fit it",
                }
                .into());
            };
            if join(&mut self.joined, &head, bytes) {
                let joined = self.joined.take();
                self.found.entries += 1;
                (self.each)(Entry {
                    segment: id,
                    kind: head.kind,
                    flags: head.flags,
                    position: head.position,
                    bytes: joined.as_ref().map_or(bytes, |joined| &joined.bytes),
                })?;
            }
        }
        Ok(())
    }

    /// Whether something that was durable is missing at `offset`: up to where, and how that is known.
    fn missing(
        &mut self,
        info: &SegmentInfo,
        later: &[SegmentInfo],
        offset: u64,
        found: &Found,
        limit: Option<u64>,
        state: &State,
    ) -> Result<Option<(u64, &'static str)>, E> {
        // Without what came before, a whole block tells where it ended.
        let begins = match found {
            Found::Whole(header) => Some(header.first),
            _ => None,
        };
        let next = state.next.or(begins);
        let is_complete = limit.is_some_and(|limit| next.is_some_and(|next| next >= limit));
        let is_beyond =
            matches!(found, Found::Whole(header) if limit.is_some_and(|l| header.next > l));
        if is_complete && is_beyond {
            return Ok(None);
        }
        let (resumes, watermark) = self.evidence(info, later, offset)?;
        let known_end = info.sealed.map(|(end, _)| end);
        let resumes = match (resumes.or(known_end), later.first()) {
            (None, Some(next)) if next.id.index == info.id.index + 1 => {
                match self.block(next, BLOCKS_OFFSET)? {
                    // The next segment says where this one ends.
                    Found::Whole(header) if header.previous_end > offset => {
                        Some(header.previous_end)
                    }
                    _ => None,
                }
            }
            (known, _) => known,
        };
        let to = resumes.unwrap_or(offset + STEP);
        let what = if known_end.is_some() {
            "the segment was sealed behind it"
        } else if watermark > (info.id.index, offset) {
            "a later block says that it was durable"
        } else if matches!(found, Found::Damaged(_)) {
            "a bit is flipped in a block that was whole"
        } else if limit.is_some() && !is_complete && state.next.is_some() && later.is_empty() {
            "a later epoch began with more than there is"
        } else {
            return Ok(None);
        };
        if let Found::Damaged(range) = found {
            // The block is lost as a whole; where in it the damage is, is the better range to tell.
            let (from, end) = (offset + range.start as u64, offset + range.end as u64);
            if !self.reading.salvage {
                let path = self.storage.path(&info.id.name());
                return Err(JournalError::Damaged {
                    path,
                    from,
                    to: end,
                    what,
                }
                .into());
            }
        }
        Ok(Some((to, what)))
    }

    /// Searches behind `offset`, in this segment and the later ones of its epoch: where the next whole block
    /// of this segment begins, and the highest watermark of any.
    fn evidence(
        &mut self,
        info: &SegmentInfo,
        later: &[SegmentInfo],
        offset: u64,
    ) -> Result<(Option<u64>, (u64, u64)), E> {
        let mut resumes = None;
        let mut watermark = (0, 0);
        let searched = std::iter::once((info, offset + STEP))
            .chain(later.iter().map(|later| (later, BLOCKS_OFFSET)));
        for (place, from) in searched {
            let blocks_end = place.file_bytes - PAGE as u64;
            let mut at = from;
            while at < blocks_end {
                let salvage = self.reading.salvage;
                let head = self.window.at(self.storage, place, at, PAGE, salvage)?;
                let begins = block::may_begin(head, place_of(place, at));
                let mut step = STEP;
                if begins && let Found::Whole(header) = self.block(place, at)? {
                    watermark = watermark.max((header.durable_index, header.durable_offset));
                    if place.id == info.id {
                        resumes = resumes.or(Some(at));
                    }
                    step = u64::from(header.bytes);
                }
                at += step;
            }
        }
        Ok((resumes, watermark))
    }
}

impl Seal {
    fn of(info: &SegmentInfo, end: u64, next: Option<u64>) -> Self {
        Self {
            id: info.id,
            file_bytes: info.file_bytes,
            start: info.start,
            end,
            next: next.unwrap_or(info.start),
        }
    }
}

fn place_of(info: &SegmentInfo, offset: u64) -> Place {
    Place {
        object: info.object,
        epoch: info.id.epoch,
        index: info.id.index,
        offset,
        previous_end: 0,
    }
}

/// Takes in an entry or a piece of one; whether one is complete with it. What is in `joined` then is
/// its bytes; if nothing is, it came in one piece. A piece without those before it is dropped: its
/// entry began in an epoch that was cut off.
fn join(joined: &mut Option<Joined>, head: &EntryHead, bytes: &[u8]) -> bool {
    match head.piece {
        WHOLE => {
            *joined = None;
            true
        }
        FIRST => {
            *joined = Some(Joined {
                kind: head.kind,
                flags: head.flags,
                position: head.position,
                bytes: bytes.to_vec(),
            });
            false
        }
        _ => {
            let is_next = joined.as_ref().is_some_and(|so_far| {
                (so_far.kind, so_far.flags, so_far.position)
                    == (head.kind, head.flags, head.position)
            });
            if !is_next {
                *joined = None;
                return false;
            }
            if let Some(so_far) = joined {
                so_far.bytes.extend_from_slice(bytes);
            }
            head.piece == LAST
        }
    }
}
