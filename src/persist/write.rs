//! Group commit by whoever waits.
//!
//! There is no daemon and no timer. The first who waits takes the role and writes what all have committed
//! by then, in the order of positions, with one wait for the disk; the others sleep on a futex word, and
//! when it changes the first of them writes what has come together meanwhile.
//!
//! # A flush
//! ```text
//! number   begun += 1
//! collect  what the object says, up to which position
//! write    the blocks of the journal, and wait for all of them
//! tell     durable {e, D} → {e, D'};   finished := number;   wake
//! ```
//! # When the disk refuses
//! The segment is given up, for nothing is known of it any more; everything from D on is still in memory
//! and is written again, into a new segment of a new epoch. If that can't be made either, the object is
//! frozen: who waits is told that what he did may be on disk or not, new work is refused before it changes
//! anything, and each attempt tries again to make a segment. Nothing that was acknowledged is touched by
//! it.

use super::journal::{Journal, Kept};
use crate::error::JournalError;
use crate::ring::persister::{End, NoEpoch, Turn, Writing};
use crate::ring::wait::LONG_SLEEP;
use crate::shm::durable::DurableWords;
use crate::sys::{clock, futex};
use std::time::Duration;

/// A live writer that has not made a step for so long stands still: longer than a disk takes for a
/// write when it is busy, for what a take-over costs is a segment.
const STANDS_STILL: Duration = Duration::from_millis(500);
/// The same while it may be making a segment, which is up to 64 MiB of zeros: who displaces it then has to
/// make one himself.
const MAKES_A_SEGMENT: Duration = Duration::from_secs(10);

/// What somebody waits for.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Everything up to this position.
    Position(u64),
    /// A flush.
    Flush(u64),
    /// That there is a segment that can be written to.
    Thawed,
}

impl Goal {
    fn is_reached(self, words: &DurableWords) -> bool {
        match self {
            Self::Position(position) => position < words.on_disk_below(),
            Self::Flush(flush) => words.is_flushed(flush),
            Self::Thawed => !words.is_frozen(),
        }
    }
}

/// Why something is not on disk.
#[derive(Debug)]
pub enum NotOnDisk {
    /// The journal can't be written now: this is what the disk, or the system, said.
    Journal(JournalError),
    /// Somebody else was told so, while this was waited for.
    Elsewhere,
    /// There is no further epoch.
    NoEpoch,
    /// The object was removed, and its journal with it.
    Removed,
    /// Its file has gone: another one may be made from the same journal, and this one's writes do not
    /// count any more.
    Unlinked,
    /// Words say what they can't.
    Scribbled,
}

impl core::fmt::Display for NotOnDisk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Elsewhere => f.write_str("the process that wrote for all could not write it"),
            Self::NoEpoch => f.write_str("the writer has changed a million times"),
            Self::Removed => f.write_str("it has been removed"),
            Self::Scribbled => f.write_str("another process wrote over its words"),
            Self::Unlinked => {
                f.write_str("its file was deleted or replaced outside ringway; open it again")
            }
        }
    }
}

impl From<JournalError> for NotOnDisk {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<NoEpoch> for NotOnDisk {
    fn from(_: NoEpoch) -> Self {
        Self::NoEpoch
    }
}

/// What a journal is behind.
pub trait Source {
    /// What it remembers from flush to flush.
    type Memo: Default;

    /// Its words.
    fn words(&self) -> &DurableWords;
    /// The participant it is open for.
    fn me(&self) -> u16;
    /// Whether a participant is proven dead.
    fn is_dead(&self, owner: u16) -> bool;
    /// Time for bounded duties.
    fn tick(&self);
    /// Whether it was removed through ringway.
    fn is_removed(&self) -> bool;
    /// Whether its file has gone.
    fn is_unlinked(&self) -> bool;
    /// Pushes what is to be written; up to which position that is. `None` when somebody else writes.
    ///
    /// # Errors
    /// Those of the journal.
    fn collect(
        &self,
        kept: &mut Kept<Self::Memo>,
        writing: &Writing,
        from: u64,
        goal: Goal,
    ) -> Result<Option<u64>, JournalError>;
    /// Behind a flush: wakes who waits for what it made visible.
    fn told(&self);
    /// Behind the last flush of a turn, up to `durable`: gives segments back.
    ///
    /// # Errors
    /// Those of the journal.
    fn look_after(
        &self,
        journal: &Journal<Self::Memo>,
        kept: &mut Kept<Self::Memo>,
        durable: u64,
    ) -> Result<(), JournalError>;
}

/// How an attempt to write ended.
enum Written<M> {
    /// What was waited for is on disk.
    Reached(Box<Kept<M>>),
    /// Somebody else writes now.
    Displaced,
    /// The file has gone.
    Unlinked,
}

/// Waits until `goal` is reached, or writes itself. Blocks for the disk.
///
/// # Errors
/// [`NotOnDisk`]: what was waited for may be on disk or not.
pub fn reach<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    goal: Goal,
) -> Result<(), NotOnDisk> {
    let words = source.words();
    let failures = words.failures();
    let (mut steps, mut since) = (words.progress(), clock::now());
    let mut has_slept = false;
    loop {
        if goal.is_reached(words) {
            return Ok(());
        }
        if source.is_removed() {
            return Err(NotOnDisk::Removed);
        }
        if words.failures() != failures && !matches!(goal, Goal::Thawed) {
            return Err(NotOnDisk::Elsewhere);
        }
        let turn = words.turn();
        let may_write = match turn {
            Turn::Free(_) => true,
            Turn::Held(role) => {
                let now = words.progress();
                if now != steps {
                    (steps, since) = (now, clock::now());
                }
                let patience = if steps.is_long() {
                    MAKES_A_SEGMENT
                } else {
                    STANDS_STILL
                };
                let stands_still = clock::now().saturating_sub(since) >= patience.as_nanos() as u64;
                stands_still || has_slept && source.is_dead(role.owner())
            }
        };
        if may_write {
            write_up_to(source, journal, turn, goal)?;
            continue;
        }
        has_slept = true;
        let seen = words.prepare_wait();
        if !goal.is_reached(words) && words.turn() == turn {
            futex::wait(words.flushed(), seen, LONG_SLEEP);
        }
        source.tick();
    }
}

fn write_up_to<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    turn: Turn,
    goal: Goal,
) -> Result<(), NotOnDisk> {
    let words = source.words();
    let Some(mut writing) = words.begin_writing(source.me(), turn)? else {
        return Ok(());
    };
    let mut is_second = false;
    loop {
        let error = match write(source, journal, &writing, goal) {
            Ok(Written::Reached(kept)) => {
                let cursor = kept.writer.cursor();
                // First kept, then laid down: who takes the role next finds it here.
                journal.keep(*kept);
                let end = cursor.map_or(End::Anew, |at| End::At((at.segment, at.offset)));
                words.end_writing(writing, end);
                words.wake_behind_flush();
                return Ok(());
            }
            Ok(Written::Displaced) if words.is_writing(&writing) => {
                // Whoever displaces takes the role first.
                words.end_writing(writing, End::Anew);
                return Err(NotOnDisk::Scribbled);
            }
            Ok(Written::Displaced) => return Ok(()),
            Ok(Written::Unlinked) => {
                words.end_writing(writing, End::Anew);
                return Err(NotOnDisk::Unlinked);
            }
            Err(error) => error,
        };
        // Where no segment can be made, another attempt makes none, and needs no other epoch.
        let is_full = writing.cursor.is_none() && matches!(error, JournalError::NoSpace { .. });
        if is_second || is_full {
            words.freeze(&writing);
            let end = if is_full { End::Unbegun } else { End::Anew };
            words.end_writing(writing, end);
            words.wake_behind_flush();
            return Err(error.into());
        }
        let Some(anew) = words.begin_anew(writing)? else {
            return Ok(());
        };
        (writing, is_second) = (anew, true);
    }
}

/// Writes flush after flush until `goal` is reached.
fn write<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    writing: &Writing,
    goal: Goal,
) -> Result<Written<S::Memo>, JournalError> {
    let words = source.words();
    let mut from = words.on_disk_below();
    words.note_step(writing.cursor.is_none());
    let is_gone = || source.is_removed() || source.is_unlinked();
    let mut kept = journal.writer(writing, from, is_gone)?;
    loop {
        words.note_step(journal.is_near_the_end(&kept));
        let number = words.begin_flush();
        let Some(to) = source.collect(&mut kept, writing, from, goal)? else {
            return Ok(Written::Displaced);
        };
        words.note_step(journal.is_near_the_end(&kept));
        kept.writer.submit()?;
        kept.writer.complete(true)?;
        // Asked behind the write and before anybody is told: whoever makes the object again reads the
        // journal behind the end of this file, and so what was written before.
        if source.is_unlinked() {
            return Ok(Written::Unlinked);
        }
        if !words.finish_flush(writing, number, from, to) {
            return Ok(Written::Displaced);
        }
        words.thaw();
        from = to;
        source.told();
        if goal.is_reached(words) {
            let looked = source.look_after(journal, &mut kept, to);
            // What is waited for is on disk; an old segment that can't be read now stays.
            if kept.writer.is_frozen() {
                looked?;
            }
            return Ok(Written::Reached(Box::new(kept)));
        }
        words.wake_behind_flush();
    }
}
