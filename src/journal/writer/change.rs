//! From one segment to the next: taking up the one that was made ahead, ending the full one with a footer,
//! and giving back those that nobody needs.
//!
//! A footer is written when all blocks of its segment are durable; lost with a crash, or left out when
//! segments change faster than the disk follows, it costs the next recovery a look at the blocks. A released
//! segment is a spare under another name, durably, before anybody may write over it.
//!
//! # A full disk
//! Three short files are kept, from the first flush on, for a disk on which no segment can be made. They become
//! segments of *state alone*: entries without a position, that say of a message that it is gone, of which there is no
//! end while what waits is drained.
//! ```text
//! kept       reserve-*: nothing
//! written    [`begin_reserve`](Writer::begin_reserve), and the next one when it is full
//! said again the segment behind it says, durably, all that is known by then
//! kept       [`drop_reserve`](Writer::drop_reserve): out of its turn, whatever stands in front of it
//! ```
//! So the same files come round for ever. Whoever reads finds a number missing in the epoch, as behind any release, and
//! positions without a gap, for there are none in them. One of an earlier epoch, whose writer may still be about, is
//! unlinked, and made anew.
//!
//! What a crash leaves: before the write that says all again is durable, both, which say the same; behind it, one
//! that is dropped by whoever writes next. A death between two segments takes one file more, until
//! that: with three, two deaths in a row.

use super::{Current, Ending, Watermark, Writer};
use crate::journal::ahead::{self, Ahead, Made};
use crate::journal::error::JournalError;
use crate::journal::failed;
use crate::journal::segment::{self, SPARE, SegmentId};
use crate::journal::storage::{Lane, SLOTS, SegmentFile, Storage, Write};
use crate::layout::PAGE;
use crate::layout::journal::{BLOCKS_OFFSET, STATE_ALONE};

impl<S: Storage> Writer<S> {
    /// Goes on in the next segment. Without space for it the writer stays as it is, and may try again.
    pub(super) fn next_segment(&mut self, first: u64) -> Result<(), JournalError> {
        let full = self.current;
        let index = full.index + 1;
        let made = match self.ready.take().filter(|(ready, _)| *ready == index) {
            Some((_, made)) => made,
            None => match self.ahead.take().and_then(|ahead| ahead.finish(index)) {
                Some(Ok(made)) => made,
                // What the thread could not may have become possible.
                _ => self.make_any(index, first)?,
            },
        };
        self.is_short = false;
        self.go_on_in(index, made, first)
    }

    /// Goes on in the segment `index`.
    fn go_on_in(
        &mut self,
        index: u64,
        made: Made<S::File>,
        first: u64,
    ) -> Result<(), JournalError> {
        let full = self.current;
        self.attach(index, &made.file)?;
        // A file that is older than a slot is replaced in it: its footer is left out.
        self.ending.retain(|ending| ending.id.index + SLOTS > index);
        self.ending.push_back(Ending {
            id: SegmentId {
                epoch: self.plan.epoch,
                index: full.index,
            },
            end: full.offset,
            bytes: full.bytes,
            positions: full.start..first,
        });
        self.current = Current {
            index,
            offset: BLOCKS_OFFSET,
            bytes: made.bytes,
            start: made.start,
            is_reserve: made.is_reserve,
            previous_end: full.offset,
        };
        self.has_reserve &= made.bytes != self.options.reserve_bytes;
        Ok(())
    }

    /// Where state alone is written, a file that is kept for it will do.
    fn make_any(&mut self, index: u64, first: u64) -> Result<Made<S::File>, JournalError> {
        match self.make(index, first) {
            Err(full @ JournalError::NoSpace { .. }) if self.current.is_reserve => {
                self.make_of_reserve(index, first, STATE_ALONE)?.ok_or(full)
            }
            made => made,
        }
    }

    fn make_of_reserve(
        &mut self,
        index: u64,
        first: u64,
        holds: u64,
    ) -> Result<Option<Made<S::File>>, JournalError> {
        let made = segment::make_of_reserve(&*self.storage, &self.plan, index, first, holds);
        self.is_frozen |= made.is_err();
        Ok(made?.map(|(file, bytes)| Made {
            file,
            start: first,
            bytes,
            is_reserve: holds == STATE_ALONE,
        }))
    }

    /// Whether entries go to a segment of state alone: one that has a position is refused by a panic.
    pub fn is_in_reserve(&self) -> bool {
        self.current.is_reserve
    }

    /// Goes on in a file that is kept for a full disk, where there is one: whether it does. An entry has to be
    /// pushed before the lead is handed on. For a writer that is idle. Blocks for the file system.
    pub fn begin_reserve(&mut self) -> Result<bool, JournalError> {
        self.check()?;
        assert!(self.under_way.is_empty() && self.open.is_none());
        let index = self.current.index + 1;
        let is_ready = |it: &Self| it.ready.as_ref().is_some_and(|(ready, _)| *ready == index);
        if let Some(Ok(made)) = self.ahead.take().and_then(|ahead| ahead.finish(index)) {
            self.ready = Some((index, made));
        }
        if self.options.reserve_bytes == 0 || self.current.is_reserve || is_ready(self) {
            return Ok(false);
        }
        match self.make_of_reserve(index, self.next, STATE_ALONE)? {
            Some(made) => self.go_on_in_idly(index, made).map(|()| true),
            None => Ok(false),
        }
    }

    /// Length of each file that is kept for a full disk.
    pub fn reserve_bytes(&self) -> u64 {
        self.options.reserve_bytes
    }

    /// Goes on in one of the files that are kept for a full disk as in a segment for everything, which is a short one then:
    /// for what is written again so that all in front of it can go. Whether it does: not with the last of them. As
    /// [`Self::begin_reserve`].
    pub fn begin_short(&mut self) -> Result<bool, JournalError> {
        self.check()?;
        assert!(self.under_way.is_empty() && self.open.is_none());
        let index = self.current.index + 1;
        if segment::named(&*self.storage, segment::RESERVE)?.len() < 2 {
            return Ok(false);
        }
        match self.make_of_reserve(index, self.next, 0)? {
            Some(made) => self.go_on_in_idly(index, made).map(|()| true),
            None => Ok(false),
        }
    }

    /// Goes on behind the files that are kept, where there is room for a segment: whether it is in one for everything.
    /// As [`Self::begin_reserve`].
    pub fn leave_reserve(&mut self) -> Result<bool, JournalError> {
        if !self.current.is_reserve {
            return Ok(true);
        }
        assert!(self.under_way.is_empty() && self.open.is_none());
        match self.ready_next(true) {
            Ok(()) => {}
            Err(JournalError::NoSpace { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        match self.ready.take() {
            Some((index, made)) => self.go_on_in_idly(index, made).map(|()| true),
            None => Ok(false),
        }
    }

    fn go_on_in_idly(&mut self, index: u64, made: Made<S::File>) -> Result<(), JournalError> {
        self.go_on_in(index, made, self.next)?;
        // Everything in front of the beginning of this one is durable.
        (self.durable.index, self.durable.offset) = (index, self.current.offset);
        Ok(())
    }

    /// Whether the segment in front of the current one is of state alone, so that what it says is to be said
    /// again. Reads a directory, and two pages.
    pub fn is_behind_reserve(&self) -> Result<bool, JournalError> {
        if self.options.reserve_bytes == 0 {
            return Ok(false);
        }
        let before = self.before_current()?.pop();
        let is_reserve = |id| segment::holds_state_alone(&*self.storage, self.plan.object, id);
        Ok(before.is_some_and(is_reserve))
    }

    /// The segments in front of the current one, in order; none where somebody has begun anew behind us.
    fn before_current(&self) -> Result<Vec<SegmentId>, JournalError> {
        let mut ids = segment::list(&*self.storage)?;
        let is_last = ids.last().is_none_or(|id| id.epoch <= self.plan.epoch);
        ids.retain(|id| is_last && *id < self.plan.id(self.durable.index.min(self.current.index)));
        Ok(ids)
    }

    /// Keeps the segments of state alone that are directly in front of the current one for the next time. For a caller who
    /// has said all that they say in the current one, durably. Whether none is left. Blocks for the file system.
    pub fn drop_reserve(&mut self) -> Result<bool, JournalError> {
        self.check()?;
        let names = self.storage.names();
        let names =
            names.map_err(|error| failed(&*self.storage, "", "listing the directory", error))?;
        for id in self.before_current()?.into_iter().rev() {
            if !segment::holds_state_alone(&*self.storage, self.plan.object, id) {
                break;
            }
            if self.is_in_use(id) {
                return Ok(false);
            }
            segment::forestall(&*self.storage, &names, id)?;
            self.ending.retain(|ending| ending.id != id);
            self.give_up(id, true)?;
        }
        self.has_reserve = false;
        Ok(true)
    }

    /// Whether a segment is one of the files that are kept for a full disk.
    fn is_kept_file(&self, id: SegmentId) -> bool {
        let file = self.storage.open(&id.name(), false);
        file.and_then(|file| file.bytes())
            .is_ok_and(|bytes| bytes == self.options.reserve_bytes)
    }

    /// Keeps a segment in which nothing is needed for another use, or removes it; whether it was there. Durable when it returns.
    fn give_up(&mut self, id: SegmentId, is_reserve: bool) -> Result<bool, JournalError> {
        let name = id.name();
        let (prefix, wanted) = match is_reserve {
            true => (segment::RESERVE, segment::RESERVES),
            false => (SPARE, self.options.spares),
        };
        let names = self.storage.names();
        let names =
            names.map_err(|error| failed(&*self.storage, "", "listing the directory", error))?;
        let have = names.iter().filter(|name| name.starts_with(prefix)).count();
        let done = if id.epoch == self.plan.epoch && have < wanted {
            self.storage.rename(&name, &format!("{prefix}{id}"))
        } else {
            self.storage.remove(&name)
        };
        match done {
            Ok(()) => {
                // One by one: a later one says what of this one is over. And before a spare is
                // written over, its old name must be gone.
                let synced = self.storage.sync_directory();
                synced.map_err(|error| {
                    failed(&*self.storage, "", "making a removal durable", error)
                })?;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&*self.storage, &name, "releasing", error)),
        }
    }

    /// Sees to it that the files are there that are kept for a full disk.
    fn see_to_reserve(&mut self) -> Result<(), JournalError> {
        if self.options.reserve_bytes > 0 && !self.has_reserve {
            let wanted = segment::RESERVES - usize::from(self.current.is_reserve);
            segment::stock_reserve(&*self.storage, &self.plan, wanted)?;
            self.has_reserve = true;
        }
        Ok(())
    }

    /// Goes on in the next segment although this one has room, so that all before it can be given back; it gets
    /// no footer. For a writer that is idle, and pushes what each segment has to say next. Without space for
    /// another one the writer stays as it is. Blocks for the file system.
    pub fn leave_segment(&mut self) -> Result<(), JournalError> {
        self.check()?;
        assert!(self.under_way.is_empty() && self.open.is_none());
        self.footer_done()?; // a segment whose footer is under way is not given back
        let left = self.current.index;
        self.next_segment(self.next)?;
        self.ending.retain(|ending| ending.id.index != left);
        Ok(())
    }

    fn make(&mut self, index: u64, first: u64) -> Result<Made<S::File>, JournalError> {
        let made = ahead::open_or_make(&*self.storage, &self.plan, index, first);
        match &made {
            Ok(_) => self.is_short = false,
            Err(JournalError::NoSpace { .. }) => self.is_short = true,
            Err(_) => self.is_frozen = true,
        }
        made
    }

    /// Has the next segment ready, if the current one is more than half full or of state alone, and what is kept for a
    /// full disk; or says why there is none. Without `wait` one that is being made is left alone. For a writer that is idle. Blocks for the file
    /// system.
    pub fn ready_next(&mut self, wait: bool) -> Result<(), JournalError> {
        self.check()?;
        self.see_to_reserve()?;
        let index = self.current.index + 1;
        let is_ready = self
            .ready
            .as_ref()
            .is_some_and(|(ready, _)| *ready == index);
        let is_short = self.current.bytes < self.options.segment_bytes;
        let is_far = is_short || self.current.offset > self.current.bytes / 2;
        if is_ready || !is_far {
            return Ok(());
        }
        if self
            .ahead
            .as_ref()
            .is_some_and(|it| !wait && !it.is_finished())
        {
            return Ok(());
        }
        let made = match self.ahead.take().and_then(|ahead| ahead.finish(index)) {
            Some(Ok(made)) => made,
            _ => self.make(index, self.next)?,
        };
        (self.ready, self.is_short) = (Some((index, made)), false);
        Ok(())
    }

    pub(super) fn attach(&mut self, index: u64, file: &S::File) -> Result<(), JournalError> {
        let attached = self.lane.attach((index % SLOTS) as usize, file);
        attached.map_err(|error| self.freeze(index, "registering a segment", error))
    }

    /// Has the next segment made once the current one is half full.
    pub(super) fn look_ahead(&mut self) {
        if self.options.background
            && self.ahead.is_none()
            && !self.is_short
            && self.current.bytes >= self.options.segment_bytes
            && self
                .ready
                .as_ref()
                .is_none_or(|(ready, _)| *ready <= self.current.index)
            && self.current.offset > self.current.bytes / 2
        {
            // What was pushed is submitted, so nothing below comes any more.
            let (index, start) = (self.current.index + 1, self.next);
            self.ahead = Ahead::begin(&self.storage, &self.plan, index, start, self.options.spares);
        }
    }

    /// Writes the footer of a segment whose blocks are all durable.
    pub(super) fn write_footer(&mut self) -> Result<(), JournalError> {
        let is_over = |ending: &Ending| ending.id.index < self.durable.index;
        if self.footer_under_way.is_some() || !self.ending.front().is_some_and(is_over) {
            return Ok(());
        }
        match self.ending.pop_front() {
            Some(ending) => self.submit_footer(ending),
            None => Ok(()),
        }
    }

    fn submit_footer(&mut self, ending: Ending) -> Result<(), JournalError> {
        let index = ending.id.index;
        let page = self.lane.buffer(self.options.buffers);
        segment::fill_footer(
            page,
            self.plan.object,
            ending.id,
            ending.end,
            ending.positions,
        );
        let write = Write {
            slot: (index % SLOTS) as usize,
            buffer: self.options.buffers,
            len: PAGE,
            offset: ending.bytes - PAGE as u64,
        };
        if let Err(error) = self.lane.submit(write) {
            return Err(self.freeze(index, "beginning a write", error));
        }
        self.footer_under_way = Some(index);
        Ok(())
    }

    /// Ends the epoch: submits, waits for everything, and says in the segment that nothing follows, so
    /// that recovery need not search for more. Nobody resumes the epoch. Blocks for the disk.
    pub fn close(mut self) -> Result<Watermark, JournalError> {
        self.submit()?;
        let mark = self.complete(true)?;
        while self.footer_under_way.is_some() || !self.ending.is_empty() {
            self.footer_done()?;
            self.ending
                .retain(|ending| ending.id.index < self.durable.index);
            self.write_footer()?;
        }
        self.submit_footer(Ending {
            id: SegmentId {
                epoch: self.plan.epoch,
                index: self.current.index,
            },
            end: self.current.offset,
            bytes: self.current.bytes,
            positions: self.current.start..self.next,
        })?;
        self.footer_done()?;
        Ok(mark)
    }

    fn footer_done(&mut self) -> Result<(), JournalError> {
        while self.footer_under_way.is_some() {
            match self.reap(true)? {
                Some(done) => self.take_in(done)?,
                None => break,
            }
        }
        Ok(())
    }

    /// Removes segments in which nothing is needed any more: those of this epoch become spares, up to
    /// the number that is kept; those of others, whose writer may still be about, are unlinked.
    /// From the oldest on, and up to the first that stays: what an epoch is cut off at is said by the one
    /// behind it. The current one, and later ones, stay. How many were taken. Blocks for the file system.
    pub fn release(&mut self, segments: &[SegmentId]) -> Result<usize, JournalError> {
        self.check()?;
        let listed = self.storage.names();
        let names =
            listed.map_err(|error| failed(&*self.storage, "", "listing the directory", error))?;
        let mut present: Vec<_> = names.iter().filter_map(|n| SegmentId::of_name(n)).collect();
        present.sort();
        // Somebody has begun anew behind us: what we said again counts for nobody.
        if present.last().is_some_and(|id| id.epoch > self.plan.epoch) {
            return Ok(0);
        }
        let over = present
            .into_iter()
            .take_while(|id| segments.contains(id) && !self.is_in_use(*id));
        let over: Vec<_> = over.collect();
        if let Some(last) = over.last() {
            segment::forestall(&*self.storage, &names, *last)?;
            self.ending.retain(|ending| ending.id > *last);
        }
        let mut taken = 0;
        for id in over {
            let is_reserve = self.options.reserve_bytes > 0 && self.is_kept_file(id);
            taken += usize::from(self.give_up(id, is_reserve)?);
        }
        Ok(taken)
    }

    /// The same, and makes spares of none: for a journal that nobody is going to write to soon, and bytes that
    /// nobody is to find any more.
    pub fn release_for_good(&mut self, segments: &[SegmentId]) -> Result<usize, JournalError> {
        let spares = core::mem::take(&mut self.options.spares);
        let released = self.release(segments);
        self.options.spares = spares;
        released
    }

    fn is_in_use(&self, id: SegmentId) -> bool {
        let is_own = id.epoch == self.plan.epoch;
        let is_written_to = id.index >= self.durable.index.min(self.current.index)
            || self.footer_under_way == Some(id.index);
        is_own && is_written_to || id.epoch > self.plan.epoch
    }
}
