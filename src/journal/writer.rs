//! The one that leads a journal: entries go in, blocks go to the disk, the watermark comes back.
//!
//! Owned by whoever holds the role; not shared. [`push`](Writer::push) fills a staging buffer,
//! [`submit`](Writer::submit) makes it a block and begins its write while the next one fills, and
//! [`complete`](Writer::complete) takes in what the disk has done. What is durable is a prefix of what was
//! submitted: the watermark passes a block only when all before it are there.
//!
//! Failure is final. The first error of a write, a sync or a segment freezes the writer, whose file is
//! never written again; what was not below the watermark may be there or not. The next leader takes
//! over with a higher epoch, in a new segment, and pushes the same entries again.
//!
//! Between processes the lead is handed on with a [`Cursor`], without a new segment, as long as nothing is
//! under way: [`resume`](Writer::resume), or [`seek`](Writer::seek) for one that has led before.
//!
//! On a full disk state is written to files that were kept for that ([`change`]); the caller says when.
//!
//! In steady state nothing is allocated and no page is touched for the first time; a change of segment
//! makes a few system calls.

mod change;

use super::ahead::{Ahead, Made};
use super::block::{Durable, Filling, Place};
use super::error::JournalError;
use super::failed;
use super::options::Options;
use super::segment::{self, Plan, SegmentId};
use super::storage::{Done, Lane, SLOTS, Storage, Write};
use crate::layout::PAGE;
use crate::layout::journal::{
    BLOCKS_OFFSET, DEFINITION_BYTES, EntryHead, FIRST, GAP, LAST, MIDDLE, SIDE, STATE_ALONE, WHOLE,
};
use core::ops::Range;
use std::collections::VecDeque;
use std::sync::Arc;

/// Where the next block goes: what one leader hands to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Index of the segment in its epoch.
    pub segment: u64,
    /// Byte offset.
    pub offset: u64,
}

/// How far it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Entries with a position below this are durable, and so are those without one that were pushed
    /// before them.
    pub position: u64,
    /// Everything in front of this is durable.
    pub cursor: Cursor,
    /// Whether blocks are under way.
    pub is_under_way: bool,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is in a buffer.
    Done,
    /// All buffers are full and under way: complete some, and push again.
    Full,
}

/// See the module.
pub struct Writer<S: Storage> {
    storage: Arc<S>,
    options: Options,
    plan: Plan,
    lane: S::Lane,
    /// What each staging buffer is at.
    buffers: Vec<State>,
    /// Which one is filled.
    open: Option<usize>,
    current: Current,
    /// The position after the last that was pushed.
    next: u64,
    /// Blocks that were submitted, in order.
    under_way: VecDeque<Flight>,
    durable: Durable,
    /// The watermark that the last submitted block carries.
    told: Durable,
    /// Where the last durable block with entries ends: (segment, offset).
    content_end: (u64, u64),
    /// Segments that are full and whose last block is under way.
    ending: VecDeque<Ending>,
    /// The segment whose footer is under way.
    footer_under_way: Option<u64>,
    ahead: Option<Ahead<S>>,
    /// The next segment, and which one that is.
    ready: Option<(u64, Made<S::File>)>,
    /// The last attempt to make one met a full disk.
    is_short: bool,
    /// The files that are kept for that are there, as far as is known.
    has_reserve: bool,
    is_frozen: bool,
}

#[derive(Clone, Copy)]
enum State {
    Free,
    Filling(Filling),
    UnderWay,
}

/// The segment that blocks go to.
#[derive(Clone, Copy)]
struct Current {
    index: u64,
    offset: u64,
    bytes: u64,
    start: u64,
    /// Whether it is for state alone.
    is_reserve: bool,
    /// For the first block, if the writer has been in the segment before.
    previous_end: u64,
}

struct Flight {
    buffer: usize,
    len: usize,
    at: Place,
    /// What is durable once this and all before are.
    end: Durable,
    has_entries: bool,
    is_done: bool,
}

#[derive(Clone)]
struct Ending {
    id: SegmentId,
    end: u64,
    /// Length of the file.
    bytes: u64,
    positions: Range<u64>,
}

impl<S: Storage> Writer<S> {
    /// Begins `epoch`, which is higher than any before, in a segment of its own, whose header is durable
    /// when this returns. Entries that earlier epochs have at `start` or above do not count any more.
    /// Blocks for the disk; allocates the buffers.
    pub fn take_over(
        storage: Arc<S>,
        options: Options,
        object: u64,
        epoch: u64,
        start: u64,
        definition: &[u8; DEFINITION_BYTES],
    ) -> Result<Self, JournalError> {
        options.check()?;
        segment::check_newest(&*storage, object, epoch)?;
        let plan = Plan {
            object,
            epoch,
            cut: start,
            segment_bytes: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            definition: Box::new(*definition),
        };
        segment::clean(&*storage, epoch)?;
        let made = match segment::make(&*storage, &plan, 0, start) {
            Err(full @ JournalError::NoSpace { .. }) if options.reserve_bytes > 0 => {
                let kept = segment::make_of_reserve(&*storage, &plan, 0, start, STATE_ALONE)?;
                let (file, bytes) = kept.ok_or(full)?;
                (file, bytes, true)
            }
            made => (made?, options.segment_bytes, false),
        };
        let (file, bytes, is_reserve) = made;
        let cursor = Cursor {
            segment: 0,
            offset: BLOCKS_OFFSET,
        };
        let mut writer = Self::lead(storage, options, plan, file, cursor, start, start)?;
        (writer.current.bytes, writer.current.is_reserve) = (bytes, is_reserve);
        Ok(writer)
    }

    /// Goes on in `epoch` where its last leader stopped: everything in front of `cursor` is durable, and
    /// `next` is the next position. Blocks for the disk; allocates the buffers.
    pub fn resume(
        storage: Arc<S>,
        options: Options,
        object: u64,
        epoch: u64,
        cursor: Cursor,
        next: u64,
    ) -> Result<Self, JournalError> {
        options.check()?;
        let (file, header, definition) = open_segment(&*storage, object, epoch, cursor.segment)?;
        let plan = Plan {
            object,
            epoch,
            cut: header.cut,
            segment_bytes: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            definition,
        };
        let mut writer = Self::lead(storage, options, plan, file, cursor, header.start, next)?;
        writer.current.bytes = header.file_bytes;
        writer.current.is_reserve = header.holds == STATE_ALONE;
        writer.told = Durable::default(); // what the last block tells is not known
        Ok(writer)
    }

    fn lead(
        storage: Arc<S>,
        options: Options,
        plan: Plan,
        file: S::File,
        cursor: Cursor,
        start: u64,
        next: u64,
    ) -> Result<Self, JournalError> {
        // The last one is for footers.
        let mut lens = vec![options.buffer_bytes; options.buffers];
        lens.push(PAGE);
        let mut lane = storage
            .lane(&lens)
            .map_err(|error| failed(&*storage, "", "setting up writes", error))?;
        lane.attach((cursor.segment % SLOTS) as usize, &file)
            .map_err(|error| failed(&*storage, "", "registering a segment", error))?;
        let durable = Durable {
            position: next,
            index: cursor.segment,
            offset: cursor.offset,
        };
        Ok(Self {
            buffers: vec![State::Free; options.buffers],
            open: None,
            current: Current {
                index: cursor.segment,
                offset: cursor.offset,
                bytes: plan.segment_bytes,
                start,
                is_reserve: false,
                previous_end: 0,
            },
            next,
            under_way: VecDeque::with_capacity(options.buffers),
            durable,
            told: durable,
            content_end: (cursor.segment, cursor.offset),
            ending: VecDeque::new(),
            footer_under_way: None,
            ahead: None,
            ready: None,
            is_short: false,
            has_reserve: false,
            is_frozen: false,
            storage,
            options,
            plan,
            lane,
        })
    }

    /// Whether a write has failed, so that only a new epoch can go on. Without space for the next segment it is
    /// not, and the same call may be repeated.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.plan.epoch
    }

    /// The position that comes next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How far it is durable, as far as the completions taken in tell.
    pub fn watermark(&self) -> Watermark {
        Watermark {
            position: self.durable.position,
            cursor: Cursor {
                segment: self.durable.index,
                offset: self.durable.offset,
            },
            is_under_way: !self.under_way.is_empty(),
        }
    }

    /// Bytes that blocks may still take in the current segment.
    pub fn left_bytes(&self) -> u64 {
        let end = self.current.bytes - PAGE as u64;
        end.saturating_sub(self.current.offset)
    }

    /// Whether so little of the current segment is left that what is kept for a full disk is better begun with.
    pub fn is_used_up(&self) -> bool {
        self.left_bytes() < self.current.bytes / 16
    }

    /// Where the next block goes; `None` while one is filled or under way.
    pub fn cursor(&self) -> Option<Cursor> {
        let is_idle = self.under_way.is_empty() && self.open.is_none() && !self.is_frozen;
        is_idle.then_some(Cursor {
            segment: self.current.index,
            offset: self.current.offset,
        })
    }

    /// Goes on at a cursor of the same epoch that another process has left, with `next` as the next
    /// position. For a writer that is idle. No system call if it is the same segment.
    pub fn seek(&mut self, cursor: Cursor, next: u64) -> Result<(), JournalError> {
        self.check()?;
        assert!(self.under_way.is_empty() && self.open.is_none());
        if cursor.segment != self.current.index {
            let (object, epoch) = (self.plan.object, self.plan.epoch);
            let (file, header, _) = open_segment(&*self.storage, object, epoch, cursor.segment)?;
            self.attach(cursor.segment, &file)?;
            self.current = Current {
                index: cursor.segment,
                offset: cursor.offset,
                bytes: header.file_bytes,
                start: header.start,
                is_reserve: header.holds == STATE_ALONE,
                previous_end: 0,
            };
            self.has_reserve = false; // who led meanwhile may have used it
        }
        if (cursor.segment, cursor.offset) != (self.durable.index, self.durable.offset) {
            self.told = Durable::default(); // what the last block tells is not known
        }
        self.current.offset = cursor.offset;
        self.next = next;
        self.durable = Durable {
            position: next,
            index: cursor.segment,
            offset: cursor.offset,
        };
        self.content_end = (cursor.segment, cursor.offset);
        Ok(())
    }

    /// Appends an entry: `parts`, one behind the other. A kind below 0x80 has the next position; from
    /// there on the position is the caller's to use. Kind 0 is taken.
    ///
    /// A buffer that is full is submitted. An entry that is longer than one goes in pieces, and this
    /// waits for the disk in between.
    pub fn push(
        &mut self,
        kind: u8,
        flags: u8,
        position: u64,
        parts: &[&[u8]],
    ) -> Result<Pushed, JournalError> {
        self.check()?;
        assert!(kind != GAP, "kind 0 is a gap");
        let has_position = kind < SIDE;
        assert!(
            !(self.current.is_reserve && has_position),
            "state alone is written to what is kept for a full disk"
        );
        if has_position && position != self.next {
            return Err(JournalError::OutOfOrder {
                expected: self.next,
                given: position,
            });
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let head = EntryHead {
            len: len as u32,
            kind,
            flags,
            piece: WHOLE,
            reserved: 0,
            position,
        };
        if len > Filling::longest(self.longest_block()) {
            if u32::try_from(len).is_err() {
                let rule = "an entry has less than 4 GiB";
                return Err(JournalError::InvalidOption {
                    option: "entry",
                    given: len as u64,
                    rule,
                });
            }
            self.push_pieces(head, parts)?;
        } else if self.append(head, parts, 0)? == Pushed::Full {
            return Ok(Pushed::Full);
        }
        if has_position {
            self.next = position + 1;
        }
        Ok(Pushed::Done)
    }

    /// Says that there is nothing at positions `from` up to `to`, which comes next.
    pub fn gap(&mut self, from: u64, to: u64) -> Result<Pushed, JournalError> {
        self.check()?;
        if from != self.next || to < from {
            return Err(JournalError::OutOfOrder {
                expected: self.next,
                given: from,
            });
        }
        let head = EntryHead {
            len: 8,
            kind: GAP,
            flags: 0,
            piece: WHOLE,
            reserved: 0,
            position: from,
        };
        let pushed = self.append(head, &[&to.to_le_bytes()], 0)?;
        if pushed == Pushed::Done {
            self.next = to;
        }
        Ok(pushed)
    }

    fn append(
        &mut self,
        head: EntryHead,
        parts: &[&[u8]],
        skip: usize,
    ) -> Result<Pushed, JournalError> {
        let len = head.len as usize;
        if let Some(index) = self.open
            && let State::Filling(filling) = self.buffers[index]
            && !filling.fits(len)
        {
            self.submit()?;
        }
        let Some(index) = self.open_buffer() else {
            return Ok(Pushed::Full);
        };
        if let State::Filling(filling) = &mut self.buffers[index] {
            filling.push(self.lane.buffer(index), head, parts, skip);
        }
        Ok(Pushed::Done)
    }

    fn push_pieces(&mut self, head: EntryHead, parts: &[&[u8]]) -> Result<(), JournalError> {
        let whole = head.len as usize;
        let mut done = 0;
        while done < whole {
            let Some(index) = self.open_buffer() else {
                self.complete_one()?;
                continue;
            };
            let State::Filling(filling) = &self.buffers[index] else {
                continue;
            };
            let room = filling.room().unwrap_or(0).min(whole - done);
            // A sliver at the end of a block is not worth a head.
            if room < (PAGE / 2).min(whole - done) {
                self.submit()?;
                continue;
            }
            let piece = match (done == 0, done + room == whole) {
                (true, _) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let head = EntryHead {
                len: room as u32,
                piece,
                ..head
            };
            if self.append(head, parts, done)? == Pushed::Done {
                done += room;
            }
        }
        Ok(())
    }

    /// The buffer to fill, if there is one that is not under way.
    fn open_buffer(&mut self) -> Option<usize> {
        if self.open.is_none() {
            let is_free = |state: &State| matches!(state, State::Free);
            let index = self.buffers.iter().position(is_free)?;
            let filling = Filling::new(self.longest_block(), self.next);
            self.buffers[index] = State::Filling(filling);
            self.open = Some(index);
        }
        self.open
    }

    /// The longest block that fits into the current segment, and so into what may follow it.
    fn longest_block(&self) -> usize {
        let most = (self.current.bytes - BLOCKS_OFFSET) as usize - PAGE;
        self.options.buffer_bytes.min(most)
    }

    /// Begins the write of what was pushed, if anything was. Does not wait for it.
    pub fn submit(&mut self) -> Result<(), JournalError> {
        self.check()?;
        let Some(index) = self.open else {
            return Ok(());
        };
        let State::Filling(filling) = self.buffers[index] else {
            return Ok(());
        };
        if filling.is_empty() {
            self.buffers[index] = State::Free;
            self.open = None;
            return Ok(());
        }
        self.write_block(index, filling)
    }

    /// Writes the watermark down, if no block on the disk tells it yet: what was acknowledged last is then
    /// known to have been, should it be found damaged later. For whoever has nothing else to do. Does
    /// not wait.
    pub fn mark(&mut self) -> Result<(), JournalError> {
        self.submit()?;
        if (self.told.index, self.told.offset) >= self.content_end {
            return Ok(());
        }
        let Some(index) = self.open_buffer() else {
            return Ok(());
        };
        if let State::Filling(filling) = self.buffers[index] {
            self.write_block(index, filling)?;
        }
        Ok(())
    }

    fn write_block(&mut self, index: usize, filling: Filling) -> Result<(), JournalError> {
        let bytes = filling.bytes();
        if self.current.offset + bytes as u64 > self.current.bytes - PAGE as u64 {
            self.next_segment(filling.first())?;
        }
        let at = Place {
            object: self.plan.object,
            epoch: self.plan.epoch,
            index: self.current.index,
            offset: self.current.offset,
            previous_end: std::mem::take(&mut self.current.previous_end),
        };
        filling.finish(self.lane.buffer(index), at, self.next, self.durable);
        self.told = self.durable;
        let write = Write {
            slot: (at.index % SLOTS) as usize,
            buffer: index,
            len: bytes,
            offset: at.offset,
        };
        if let Err(error) = self.lane.submit(write) {
            return Err(self.freeze(at.index, "beginning a write", error));
        }
        self.buffers[index] = State::UnderWay;
        self.open = None;
        self.current.offset += bytes as u64;
        self.under_way.push_back(Flight {
            buffer: index,
            len: bytes,
            at,
            end: Durable {
                position: self.next,
                index: at.index,
                offset: self.current.offset,
            },
            has_entries: !filling.is_empty(),
            is_done: false,
        });
        self.look_ahead();
        Ok(())
    }

    /// Takes in what the disk has done; with `wait`, waits until nothing is under way. What was pushed but
    /// not submitted stays. An error freezes the writer.
    pub fn complete(&mut self, wait: bool) -> Result<Watermark, JournalError> {
        self.check()?;
        while let Some(done) = self.reap(wait && !self.under_way.is_empty())? {
            self.take_in(done)?;
        }
        self.write_footer()?;
        Ok(self.watermark())
    }

    /// As [`complete`](Self::complete), but waits for one write only, if any is under way.
    pub fn complete_one(&mut self) -> Result<Watermark, JournalError> {
        self.check()?;
        let waits_for = self.under_way.len();
        while waits_for > 0 && self.under_way.len() == waits_for {
            match self.reap(true)? {
                Some(done) => self.take_in(done)?,
                None => break,
            }
        }
        self.complete(false)
    }

    fn reap(&mut self, wait: bool) -> Result<Option<Done>, JournalError> {
        let index = self.current.index;
        let reaped = self.lane.reap(wait);
        reaped.map_err(|error| self.freeze(index, "waiting for a write", error))
    }

    fn take_in(&mut self, done: Done) -> Result<(), JournalError> {
        if done.buffer == self.options.buffers {
            // A footer saves time; one that failed says nothing about blocks.
            self.footer_under_way = None;
            return Ok(());
        }
        self.buffers[done.buffer] = State::Free;
        let flight = self
            .under_way
            .iter_mut()
            .find(|flight| flight.buffer == done.buffer && !flight.is_done);
        let Some(flight) = flight else {
            return Ok(());
        };
        flight.is_done = true;
        let (at, len) = (flight.at, flight.len);
        match done.result {
            Ok(written) if written == len => {}
            Ok(written) => {
                self.is_frozen = true;
                return Err(JournalError::ShortWrite {
                    path: self.path(at.index),
                    offset: at.offset,
                    wanted: len,
                    written,
                });
            }
            Err(error) => return Err(self.freeze(at.index, "writing a block", error)),
        }
        while self.under_way.front().is_some_and(|first| first.is_done) {
            let first = self.under_way.pop_front().expect("it was looked at");
            self.durable = first.end;
            if first.has_entries {
                self.content_end = (first.end.index, first.end.offset);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.is_frozen {
            Err(JournalError::Frozen)
        } else {
            Ok(())
        }
    }

    fn freeze(&mut self, index: u64, what: &'static str, error: std::io::Error) -> JournalError {
        self.is_frozen = true;
        let epoch = self.plan.epoch;
        failed(
            &*self.storage,
            &SegmentId { epoch, index }.name(),
            what,
            error,
        )
    }

    fn path(&self, index: u64) -> std::path::PathBuf {
        let epoch = self.plan.epoch;
        self.storage.path(&SegmentId { epoch, index }.name())
    }
}

impl<S: Storage> Drop for Writer<S> {
    /// Waits for the writes that are under way, and for the segment that is made ahead. What was not
    /// submitted is lost.
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            let _ = ahead.finish(0);
        }
    }
}

type Opened<F> = (
    F,
    crate::layout::journal::SegmentHeader,
    Box<[u8; DEFINITION_BYTES]>,
);

fn open_segment<S: Storage>(
    storage: &S,
    object: u64,
    epoch: u64,
    index: u64,
) -> Result<Opened<S::File>, JournalError> {
    let id = SegmentId { epoch, index };
    let name = id.name();
    let file = storage
        .open(&name, true)
        .map_err(|error| failed(storage, &name, "opening", error))?;
    let (header, definition) = segment::read_head(storage, id, Some(object), &file)?;
    Ok((file, header, definition))
}
