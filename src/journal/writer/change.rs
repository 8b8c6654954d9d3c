//! From one segment to the next: taking up the one that was made ahead, ending the full one with a footer,
//! and giving back those that nobody needs.
//!
//! A footer is written when all blocks of its segment are durable; lost with a crash, or left out when
//! segments change faster than the disk follows, it costs the next recovery a look at the blocks. A released
//! segment is a spare under another name, durably, before anybody may write over it.

use super::{Current, Ending, Watermark, Writer};
use crate::journal::ahead::{self, Ahead, Made};
use crate::journal::error::JournalError;
use crate::journal::failed;
use crate::journal::segment::{self, SPARE, SegmentId};
use crate::journal::storage::{Lane, SLOTS, Storage, Write};
use crate::layout::PAGE;
use crate::layout::journal::BLOCKS_OFFSET;

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
                _ => self.make(index, first)?,
            },
        };
        self.is_short = false;
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
            previous_end: full.offset,
        };
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

    /// Has the next segment ready, if the current one is more than half full, or says why there is none.
    /// Without `wait` one that is being made is left alone. For a writer that is idle. Blocks for the file
    /// system.
    pub fn ready_next(&mut self, wait: bool) -> Result<(), JournalError> {
        self.check()?;
        let index = self.current.index + 1;
        let is_ready = self
            .ready
            .as_ref()
            .is_some_and(|(ready, _)| *ready == index);
        if is_ready || self.current.offset <= self.current.bytes / 2 {
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
        let mut spares = names.iter().filter(|name| name.starts_with(SPARE)).count();
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
            let name = id.name();
            let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            let done = if id.epoch == self.plan.epoch && spares < self.options.spares {
                spares += 1;
                self.storage.rename(&name, &format!("{SPARE}{id}"))
            } else {
                self.storage.remove(&name)
            };
            match done {
                Ok(()) => {
                    taken += 1;
                    // One by one: a later one says what of this one is over. And before a spare is
                    // written over, its old name must be gone.
                    let synced = self.storage.sync_directory();
                    synced.map_err(|error| {
                        failed(&*self.storage, "", "making a removal durable", error)
                    })?;
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(failed(&*self.storage, &name, "releasing", error)),
            }
        }
        Ok(taken)
    }

    fn is_in_use(&self, id: SegmentId) -> bool {
        let is_own = id.epoch == self.plan.epoch;
        let is_written_to = id.index >= self.durable.index.min(self.current.index)
            || self.footer_under_way == Some(id.index);
        is_own && is_written_to || id.epoch > self.plan.epoch
    }
}
