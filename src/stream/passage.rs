//! Reading a shard that is on disk: from the ring what is there, from the journal what is not any more, and
//! no seam between them. It has no seat: it copies, looks again, and believes what it looked at twice; so it
//! holds no producer back, however slow it is.
//!
//! ```text
//! position   what is told up to         where
//! < trim     the durable position       the journal (segments), until it is back where the ring is
//! ≥ trim     the durable position       the ring
//! ```
//! A slot is used again only behind the durable position, so what is not in the ring is in the journal, or
//! was given back by the retention: then reading goes on with the oldest record there is, and says so if it
//! had begun before.

use super::copy::{Copied, copy_record};
use super::lease;
use super::log::{ShardLog, follower_at};
use crate::error::{JournalError, ReadError, WaitError};
use crate::journal::{Disk, Followed, Follower};
use crate::layout::durable::Durable;
use crate::layout::ring::MAX_POSITION;
use crate::object::Host;
use crate::object::wait::{Waitable, Waits};
use crate::persist::Goal;
use crate::pool::segment::Segments;
use crate::ring::SlotRing;
use crate::ring::read::Look;
use crate::ring::seat::Start;
use crate::ring::wait::{Idle, LONG_SLEEP};
use crate::shm::durable::DurableWords;
use crate::sync::Ordering;
use crate::sys::{clock, fork};
use core::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Looks that find a record gone before anything else is tried.
const LOOKS: usize = 64;
/// So long after the last flush it is told on the disk.
const IDLE_AFTER: Duration = Duration::from_millis(500);

/// Who waits looks so often for something to give back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a passage leads through.
pub(super) struct Shore {
    pub ring: SlotRing,
    pub words: DurableWords,
    pub segments: Arc<Segments>,
    /// Of the journal, and the object it is of.
    pub directory: PathBuf,
    pub object: u64,
    /// Whether records are read before they are on disk.
    pub reads_ahead: bool,
    /// Whoever may write has it: it sees to it that what a dead producer left is written.
    pub log: Option<Arc<ShardLog>>,
}

/// See the module.
pub(super) struct Passage {
    shore: Shore,
    next: u64,
    idle: Idle,
    buffer: Vec<u8>,
    cold: Option<Follower<Disk>>,
    is_cold: bool,
    /// Something was handed over, or was before: what is gone then is told.
    has_begun: bool,
    /// Of the process that made it.
    generation: u64,
    has_slept: bool,
    /// The last flush that nothing on the disk tells of, and since when it is the last.
    unmarked: Option<(u64, u64)>,
    /// When it last looked for something to give back.
    looked_at: u64,
}

impl Passage {
    pub fn new(shore: Shore, start: Start, idle: Idle) -> Self {
        let next = match start {
            Start::Earliest => 0,
            Start::Latest => lease::end(&shore.ring),
            Start::At(position) => position.min(MAX_POSITION),
        };
        Self {
            shore,
            next,
            idle,
            buffer: Vec::new(),
            cold: None,
            is_cold: false,
            has_begun: matches!(start, Start::At(_)),
            generation: fork::generation(),
            has_slept: false,
            unmarked: None,
            looked_at: 0,
        }
    }

    /// The position that is read next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The end of what can be read: where a life of the stream begins positions are left out that nothing was
    /// ever put at, and nobody is behind by them.
    pub fn end(&self) -> u64 {
        self.told_below(self.on_disk().1)
    }

    /// Where it begins is meant as the oldest record that is there.
    pub fn forget_lag(&mut self) {
        self.has_begun = false;
    }

    /// Goes on behind what can be passed over: entries of which `is_late` is false stand in front of what
    /// is searched. For who has not begun.
    pub fn search(&mut self, kind: u8, is_late: impl Fn(&[u8]) -> bool) -> Result<(), ReadError> {
        let oldest = self.shore.ring.oldest().unwrap_or(0);
        if self.next >= oldest.min(self.on_disk().1) {
            return Ok(());
        }
        if let Some(cold) = self.follower()? {
            let found = cold.search(kind, is_late).map_err(unread)?;
            self.next = self.next.max(found);
        }
        Ok(())
    }

    /// Epoch, and the first position that is not on disk: that and what is above is not told.
    fn on_disk(&self) -> (u64, u64) {
        // Relaxed: it says something about the disk, and nothing about memory.
        let word = Durable(self.shore.words.durable().load(Ordering::Relaxed));
        (word.epoch(), word.position())
    }

    fn follower(&mut self) -> Result<Option<&mut Follower<Disk>>, ReadError> {
        if self.cold.is_none() {
            self.cold = follower_at(&self.shore.directory, self.shore.object).map_err(unread)?;
        }
        Ok(self.cold.as_mut())
    }

    /// Hands up to `max` records to `each`, by position and bytes; how many. Never waits but for the disk.
    pub fn read_batch(
        &mut self,
        max: usize,
        each: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<usize, ReadError> {
        if self.generation != fork::generation() {
            return Err(ReadError::Forked);
        }
        let mut given = 0;
        while given < max {
            let (epoch, until) = self.on_disk();
            let hot_until = self.told_below(until);
            if self.next >= hot_until {
                break;
            }
            let before = (self.next, self.is_cold);
            let read = match self.is_cold {
                true => self.read_cold(max - given, (epoch, until), each),
                false => self.read_hot(max - given, hot_until, each),
            };
            match read {
                Ok(count) => {
                    given += count;
                    self.has_begun |= count > 0;
                    // Neither a record nor a step, and not from one side to the other.
                    if count == 0 && (self.next, self.is_cold) == before {
                        break;
                    }
                }
                Err(error) if given == 0 || matches!(error, ReadError::Forked) => {
                    return Err(error);
                }
                Err(_) => break, // met again
            }
        }
        Ok(given)
    }

    /// From the ring, up to where that does not have it.
    fn read_hot(
        &mut self,
        max: usize,
        until: u64,
        each: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<usize, ReadError> {
        let mut given = 0;
        let mut looks = 0;
        while given < max && self.next < until {
            let (ring, position) = (&self.shore.ring, self.next);
            match ring.look(position).1 {
                Look::Record(meta) => {
                    let segments = &self.shore.segments;
                    let copied = copy_record(ring, position, meta, segments, &mut self.buffer);
                    let copied = match copied {
                        Err(error) if given == 0 => return Err(error),
                        Err(_) => break, // met again
                        Ok(copied) => copied,
                    };
                    if copied == Copied::Whole {
                        self.next = position + 1;
                        given += 1;
                        looks = 0;
                        each(position, &self.buffer);
                        if self.generation != fork::generation() {
                            return Err(ReadError::Forked); // `each` forked, and this is the child
                        }
                        continue;
                    }
                    looks += 1;
                    if looks < LOOKS && ring.oldest().is_some_and(|oldest| position >= oldest) {
                        continue;
                    }
                }
                Look::Gone => {}
                // Below the durable position nothing is open, unless somebody wrote over a word; above it
                // that is the end for now.
                Look::End | Look::Pending(_) => return Ok(given),
            }
            match self.shore.ring.oldest() {
                // Neither there nor on disk: left out where a life of the stream begins.
                Some(oldest) if position < oldest && position >= self.on_disk().1 => {
                    self.next = oldest.min(until);
                }
                Some(oldest) if position < oldest => {
                    self.is_cold = true;
                    break;
                }
                // It never held a record.
                _ => self.next = position + 1,
            }
            looks = 0;
        }
        Ok(given)
    }

    /// From the journal, up to where the ring has it again.
    fn read_cold(
        &mut self,
        max: usize,
        (epoch, until): (u64, u64),
        each: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<usize, ReadError> {
        let slots = self.shore.ring.memory().geometry().slots();
        // Not at its edge: what is there may be gone in a moment.
        let oldest = self.shore.ring.oldest().unwrap_or(0);
        let hot_from = oldest.saturating_add(slots / 4).min(until);
        if self.next >= hot_from {
            self.is_cold = false;
            return Ok(0);
        }
        let (next, generation) = (self.next, self.generation);
        let Some(cold) = self.follower()? else {
            return Err(ReadError::Removed);
        };
        let mut given = 0;
        let mut is_forked = false;
        let read = cold.read(next, (epoch, hot_from), |_, position, bytes| {
            given += 1;
            each(position, bytes);
            is_forked = generation != fork::generation();
            match given < max && !is_forked {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if is_forked {
            return Err(ReadError::Forked); // by `each`, and this is the child: the ring is the parent's
        }
        // What was handed over is, whatever came behind it.
        let next = next.max(cold.position().unwrap_or(0));
        self.next = next;
        match read.map_err(unread) {
            Err(error) if given == 0 => return Err(error),
            Ok(Followed::Gone(oldest)) if given == 0 => {
                let to = oldest.min(until);
                if to <= next {
                    let what = format!("position {next} is not there, and was not given back");
                    return Err(ReadError::Journal(what));
                }
                self.next = to;
                if self.has_begun {
                    return Err(ReadError::Lagged { from: next, to });
                }
            }
            // An error is met again.
            _ => {}
        }
        Ok(given)
    }

    /// What is at this position and above is not told, where everything below `on_disk` is on disk.
    #[inline]
    fn told_below(&self, on_disk: u64) -> u64 {
        match self.shore.reads_ahead {
            true => lease::end_of_journaled(&self.shore.ring, on_disk).max(on_disk),
            false => on_disk,
        }
    }

    fn has_record(&self) -> bool {
        let on_disk = self.on_disk().1;
        if self.next < on_disk {
            return true;
        }
        let ring = &self.shore.ring;
        self.next < self.told_below(on_disk)
            && !matches!(ring.look(self.next).1, Look::End | Look::Pending(_))
    }

    /// Who waits while nobody writes gives back what nobody is promised any more.
    fn give_back_if_over(&mut self) {
        let Some(log) = &self.shore.log else {
            return;
        };
        let now = clock::now();
        let is_time = now.saturating_sub(self.looked_at) >= LOOK_EVERY.as_nanos() as u64;
        if is_time && !log.words.is_frozen() {
            self.looked_at = now;
            if log.is_over() {
                // Where it can't be now, it is tried again.
                let _ = log.give_back();
            }
        }
    }

    /// Who waits while nobody writes says on the disk how far it is there.
    fn mark_if_idle(&mut self) {
        let Some(log) = &self.shore.log else {
            return;
        };
        if !log.words.is_unmarked() {
            self.unmarked = None;
            return;
        }
        let (last, now) = (log.words.last_flush(), clock::now());
        match self.unmarked {
            Some((seen, since)) if seen == last => {
                if now.saturating_sub(since) >= IDLE_AFTER.as_nanos() as u64 {
                    self.unmarked = None;
                    log.mark();
                }
            }
            _ => self.unmarked = Some((last, now)),
        }
    }
}

fn unread(error: JournalError) -> ReadError {
    match error {
        JournalError::NotFound { .. } => ReadError::Removed,
        error => ReadError::Journal(error.to_string()),
    }
}

impl Waits for Passage {
    fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }

    fn is_ready(&mut self) -> bool {
        self.has_record()
    }

    fn check_alive(&self) -> Result<(), WaitError> {
        let Some(log) = &self.shore.log else {
            return Ok(());
        };
        let inner = &log.channel.inner;
        if inner.is_removed() {
            return Err(WaitError::Removed);
        }
        if inner.is_unlinked() {
            return Err(WaitError::Unlinked);
        }
        if !inner.host.is_current() {
            return Err(WaitError::Stale);
        }
        Ok(())
    }

    fn idle(&self) -> Idle {
        self.idle
    }

    /// What is committed and not written, since its producer died or is in no hurry, is written.
    fn before_sleep(&mut self) -> bool {
        let has_slept = core::mem::replace(&mut self.has_slept, true);
        if let Some(log) = &self.shore.log
            && has_slept
            && !log.words.is_frozen()
            && let Some(last) = log.end().checked_sub(1)
            && last >= self.on_disk().1
        {
            // Where it can't be written now, its producers are told.
            let _ = log.reach(Goal::Position(last));
        }
        if has_slept {
            self.mark_if_idle();
            self.give_back_if_over();
        }
        self.has_record()
    }

    fn longest_sleep(&mut self) -> Duration {
        LONG_SLEEP
    }

    fn ring(&self) -> &SlotRing {
        &self.shore.ring
    }

    fn host(&self) -> &dyn Host {
        match &self.shore.log {
            Some(log) => &*log.channel.inner.host,
            None => unreachable!("who has no log polls"),
        }
    }
}

impl Waitable for Passage {}
