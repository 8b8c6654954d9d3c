//! Waiting for the disk, and what is waited for.
//!
//! There is no daemon and no timer. The first who waits takes the role and writes what all have committed
//! by then ([`super::write`]); the others sleep on a futex word, and when it changes the first of them writes
//! what has come together meanwhile. A holder of the role that is dead, or has made no step for longer than a disk
//! takes, is displaced by whoever waits.

use super::journal::{Journal, Kept};
use super::write::write_up_to;
use crate::error::JournalError;
use crate::ring::persister::{NoEpoch, Turn, Writing};
use crate::ring::wait::LONG_SLEEP;
use crate::shm::durable::DurableWords;
use crate::sync::Ordering;
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
    pub(super) fn is_reached(self, words: &DurableWords) -> bool {
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

    /// Its name, for whoever watches.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    fn name(&self) -> &str;
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
    /// Whether there is another object by its name, or none.
    fn is_gone(&self) -> bool {
        self.is_removed() || self.is_unlinked()
    }
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
    /// Behind the last flush of a turn, up to `durable`: gives segments back. Where the disk `is_full`, all
    /// that can be.
    ///
    /// # Errors
    /// Those of the journal.
    fn look_after(
        &self,
        journal: &Journal<Self::Memo>,
        kept: &mut Kept<Self::Memo>,
        durable: u64,
        is_full: bool,
    ) -> Result<(), JournalError>;
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
    let (failures, flush) = (words.failures(), words.last_flush());
    let (mut steps, mut since) = (words.progress(), clock::now());
    let mut has_slept = false;
    loop {
        if goal.is_reached(words) {
            return Ok(());
        }
        if source.is_removed() {
            return Err(NotOnDisk::Removed);
        }
        let has_failed = match goal {
            // Whoever writes has looked for room, and found none.
            Goal::Thawed => words.last_flush() > flush + 1,
            _ => words.failures() != failures,
        };
        if has_failed {
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
            if has_slept {
                journal.company.count.fetch_max(1, Ordering::Relaxed); // a hint for this handle
            }
            write_up_to(source, journal, turn, goal, None)?;
            continue;
        }
        has_slept = true;
        let seen = words.prepare_wait();
        words.ask_for_flush();
        if !goal.is_reached(words) && words.turn() == turn {
            futex::wait(words.flushed(), seen, LONG_SLEEP);
        }
        source.tick();
    }
}
