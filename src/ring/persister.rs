//! The role of whoever writes the journal of a ring, and what its words say.
//!
//! One participant at a time writes, whatever the ring is a part of: a queue, a shard of a stream, or a
//! table beside a ring. Here is who may, how the role passes on, and what is told behind a flush; what
//! is written, and what stands in the slots, is the floor's above.
//!
//! ```text
//! durable     {e, D} → {e, D'}     the writer of epoch e, when everything below D' is on disk
//!             {e, D} → {e+1, D}    who begins an epoch: then a segment of its own, then {e+1, D'}
//! persister   FRESH, HANDED_OVER → WRITING(me) → HANDED_OVER: a flush, and the next one goes on in the
//!                                                same segment where the cursor says
//!                                              → FRESH: the segment can't be written to any more
//!                                              → UNBEGUN: none of this epoch could be made yet
//!             WRITING(x) → WRITING(me)         x is dead, or has not moved for longer than any disk
//!                                              takes: a new epoch
//! begun, finished   numbers of flushes: what was noted before a flush began is on disk when it, or a
//!                   later one, is finished
//! ```
//! What each crash point leaves stands in [`super::delivery::durable`].

use crate::layout::durable::{Cursor, Durable, FRESH, HANDED_OVER, UNBEGUN, WRITING};
use crate::layout::word::Role;
use crate::shm::durable::DurableWords;
use crate::sync::{Label, Ordering, fence_at, fence_behind_rmw, order};

/// The role of the journal's writer, in this participant's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    role: Role,
    /// Of everything that is written under it.
    pub epoch: u64,
    /// Where to go on in the segment that another one left; `None`: in a new one.
    pub cursor: Option<(u64, u64)>,
}

/// How the role is laid down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next one goes on there.
    At((u64, u64)),
    /// The next one begins an epoch.
    Anew,
    /// The next one makes the segment that could not be made.
    Unbegun,
}

/// How far whoever writes has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    steps: u64,
    role: u64,
}

impl Steps {
    /// Whether the step under way may be a long one.
    pub fn is_long(self) -> bool {
        self.steps & 1 != 0
    }
}

/// What there is to be done about the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is free.
    Free(Role),
    /// Somebody has it, by this word; whoever can't wait any longer, or finds him dead, takes it over.
    Held(Role),
}

impl Turn {
    /// Whether the role is free, and whoever takes it goes on in the segment that is there.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Free(role) if role.state() == HANDED_OVER)
    }
}

/// Epochs have run out: nobody can write any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEpoch;

impl DurableWords {
    /// Everything below is on disk, as far as memory is concerned too: who goes by it may write over
    /// what was copied for the journal.
    #[inline]
    pub fn copied_below(&self) -> u64 {
        let load = order(Label::DurableLoad, Ordering::Acquire);
        Durable(self.durable().load(load)).position()
    }

    /// Everything below is on disk.
    #[inline(always)]
    pub fn on_disk_below(&self) -> u64 {
        // Relaxed: it says something about the disk, and nothing about memory.
        Durable(self.durable().load(Ordering::Relaxed)).position()
    }

    /// Whether there is no segment that can be written to.
    #[inline]
    pub fn is_frozen(&self) -> bool {
        self.frozen().load(Ordering::Relaxed) != 0
    }

    /// The flush behind which everything is on disk that this thread changed before [`Label::NoteFence`].
    pub fn next_flush(&self) -> u64 {
        self.begun().load(Ordering::Relaxed) + 1 // ordered by NoteFence
    }

    /// Whether that flush is on disk.
    pub fn is_flushed(&self, flush: u64) -> bool {
        self.finished().load(Ordering::Relaxed) >= flush
    }

    /// The last flush that is on disk.
    pub fn last_flush(&self) -> u64 {
        self.finished().load(Ordering::Relaxed) // of the disk, not of memory
    }

    /// Whether it is somebody's turn to write.
    pub fn turn(&self) -> Turn {
        let role = Role(self.persister().load(Ordering::Relaxed)); // the CAS decides
        match role.state() {
            WRITING => Turn::Held(role),
            _ => Turn::Free(role),
        }
    }

    /// Takes the role as it was seen for participant `me`, from nobody, or over from a holder that is dead
    /// or stands still. `None` when somebody was faster.
    ///
    /// # Errors
    /// When there is no further epoch.
    pub fn begin_writing(&self, me: u16, turn: Turn) -> Result<Option<Writing>, NoEpoch> {
        let (Turn::Free(seen) | Turn::Held(seen)) = turn;
        let role = seen.taken(WRITING, me);
        let take = order(Label::RoleTake, Ordering::Acquire);
        if self
            .persister()
            .compare_exchange(seen.0, role.0, take, Ordering::Relaxed)
            .is_err()
        {
            return Ok(None);
        }
        if matches!(seen.state(), HANDED_OVER | UNBEGUN) {
            let load = order(Label::DurableLoad, Ordering::Acquire);
            let epoch = Durable(self.durable().load(load)).epoch();
            let cursor = Cursor(self.cursor().load(Ordering::Relaxed)).of(epoch);
            // Who stood still before that load was displaced by then: epoch and cursor are another's.
            if self.persister().load(Ordering::Relaxed) != role.0 {
                return Ok(None);
            }
            // Of another epoch: whoever was displaced stored it late.
            if seen.state() == UNBEGUN || cursor.is_some() {
                let cursor = cursor.filter(|_| seen.state() == HANDED_OVER);
                return Ok(Some(Writing {
                    role,
                    epoch,
                    cursor,
                }));
            }
        }
        if matches!(turn, Turn::Held(_)) {
            self.take_overs().fetch_add(1, Ordering::Relaxed); // a statistic
        }
        self.begin_epoch(role)
    }

    /// {e, D} → {e+1, D}, while the role is in these hands.
    fn begin_epoch(&self, role: Role) -> Result<Option<Writing>, NoEpoch> {
        let mut seen = Durable(self.durable().load(Ordering::Relaxed));
        while self.persister().load(Ordering::Relaxed) == role.0 {
            let next = Durable::new(seen.epoch() + 1, seen.position()).ok_or(NoEpoch)?;
            // AcqRel: the release sequence of what others told goes on.
            let both = order(Label::DurableStore, Ordering::AcqRel);
            match self.durable().compare_exchange(
                seen.0,
                next.0,
                both,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Ok(Some(Writing {
                        role,
                        epoch: next.epoch(),
                        cursor: None,
                    }));
                }
                Err(now) => seen = Durable(now),
            }
        }
        Ok(None)
    }

    /// Gives up the segment of `writing`, which can't be written to any more: an epoch of its own for
    /// what comes next. `None` when the role is another's.
    ///
    /// # Errors
    /// When there is no further epoch.
    pub fn begin_anew(&self, writing: Writing) -> Result<Option<Writing>, NoEpoch> {
        self.begin_epoch(writing.role)
    }

    /// There is no segment that can be written to: nobody claims, and who waits is told.
    pub fn freeze(&self, writing: &Writing) {
        self.frozen().store(1, Ordering::Relaxed); // hints: who waits looks within 20 ms
        self.failed().fetch_max(writing.epoch + 1, Ordering::Relaxed);
    }

    /// There is no room for what would be claimed; what is under way is written.
    pub fn refuse_claims(&self) {
        self.frozen().store(1, Ordering::Relaxed); // a hint: who claims asks whoever writes
    }

    /// There is one again.
    pub fn thaw(&self) {
        if self.is_frozen() {
            self.frozen().store(0, Ordering::Relaxed); // as above
        }
    }

    /// Changes when the journal was frozen: what was waited for then may be on disk or not.
    pub fn failures(&self) -> u64 {
        self.failed().load(Ordering::Relaxed)
    }

    /// A step of whoever writes; a long one is that in which a segment may have to be made.
    pub fn note_step(&self, is_long: bool) {
        // Hints, and one writes: of two, the step of either is one.
        let steps = self.steps().load(Ordering::Relaxed);
        let next = (steps | 1).wrapping_add(1) | u64::from(is_long);
        self.steps().store(next, Ordering::Relaxed);
    }

    /// Changes with every step of whoever writes, and whenever the role changes hands.
    pub fn progress(&self) -> Steps {
        Steps {
            steps: self.steps().load(Ordering::Relaxed),
            role: self.persister().load(Ordering::Relaxed),
        }
    }

    /// Lays down the role of the dead `owner`: for its reaper.
    pub fn release_writer(&self, owner: u16) {
        let seen = Role(self.persister().load(Ordering::Relaxed));
        if seen.state() == WRITING && seen.owner() == owner {
            let free = seen.laid_down(FRESH);
            let release = order(Label::RoleRelease, Ordering::Release);
            let _ = self.persister().compare_exchange(
                seen.0,
                free.0,
                release,
                Ordering::Relaxed, // somebody took over
            );
        }
    }

    /// Whether the role is still in these hands.
    pub fn is_writing(&self, writing: &Writing) -> bool {
        self.persister().load(Ordering::Relaxed) == writing.role.0 // asked of one's own word
    }

    /// Lays the role down.
    pub fn end_writing(&self, writing: Writing, end: End) {
        // Whoever took over from here has an epoch of its own and asks nobody where to go on.
        if self.persister().load(Ordering::Relaxed) != writing.role.0 {
            return;
        }
        let kind = match end {
            End::At((segment, offset)) => match Cursor::new(writing.epoch, segment, offset) {
                Some(cursor) => {
                    self.cursor().store(cursor.0, Ordering::Relaxed);
                    HANDED_OVER
                }
                None => FRESH,
            },
            End::Anew => FRESH,
            End::Unbegun => UNBEGUN,
        };
        let laid_down = writing.role.laid_down(kind);
        let release = order(Label::RoleRelease, Ordering::Release);
        let _ = self.persister().compare_exchange(
            writing.role.0,
            laid_down.0,
            release,
            Ordering::Relaxed, // taken over meanwhile
        );
    }

    /// Begins a flush; its number.
    pub fn begin_flush(&self) -> u64 {
        let number = self.begun().fetch_add(1, Ordering::Relaxed) + 1; // ordered by the fence
        fence_behind_rmw(Label::FlushFence);
        number
    }

    /// Everything below `to` and everything that flush `number` wrote is on disk. `false` when a later
    /// epoch has begun: then whoever began it will say so.
    pub fn finish_flush(&self, writing: &Writing, number: u64, from: u64, to: u64) -> bool {
        let (Some(seen), Some(next)) = (
            Durable::new(writing.epoch, from),
            Durable::new(writing.epoch, to),
        ) else {
            return false;
        };
        let tell = order(Label::DurableStore, Ordering::AcqRel);
        if self
            .durable()
            .compare_exchange(seen.0, next.0, tell, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.finished().fetch_max(number, Ordering::Relaxed); // of the disk, as above
        self.flushes().fetch_add(1, Ordering::Relaxed); // a statistic
        true
    }

    /// Wakes those who wait for a flush. Behind it.
    pub fn wake_behind_flush(&self) -> bool {
        fence_behind_rmw(Label::WakeFence);
        let is_awaited = self.waiting().load(Ordering::Relaxed) != 0;
        if is_awaited {
            self.waiting().swap(0, Ordering::Relaxed); // hints; the fences order them
            let release = order(Label::WakeStore, Ordering::Release);
            self.flushed().fetch_add(1, release);
            #[cfg(not(loom))]
            crate::sys::futex::wake_all(self.flushed());
        }
        is_awaited
    }

    /// Raises the flag of those who wait for a flush. The caller looks once more before it sleeps on the
    /// returned value.
    pub fn prepare_wait(&self) -> u32 {
        let load = order(Label::SleepLoad, Ordering::Acquire);
        let seen = self.flushed().load(load);
        self.waiting().store(1, Ordering::Relaxed);
        fence_at(Label::SleepFence, Ordering::SeqCst);
        seen
    }
}

/// Between those who wait and one who keeps the role of the writer.
#[cfg(not(loom))]
impl DurableWords {
    /// Whether nothing on the disk tells that the last flush was there.
    pub fn is_unmarked(&self) -> bool {
        self.marked().load(Ordering::Relaxed) < self.last_flush() // as last_flush
    }

    /// Asks whoever keeps the role for a flush. A hint: he looks by himself every few milliseconds.
    pub fn ask_for_flush(&self) {
        self.asked().fetch_add(1, Ordering::Relaxed); // hints; the fences order them
        fence_behind_rmw(Label::WakeFence);
        if self.asleep().load(Ordering::Relaxed) != 0 {
            self.asleep().store(0, Ordering::Relaxed);
            crate::sys::futex::wake_all(self.asked());
        }
    }

    /// How often a flush was asked for.
    pub fn flushes_asked(&self) -> u32 {
        self.asked().load(Ordering::Relaxed)
    }

    /// Sleeps until a flush is asked for that was not by `seen`, or `is_written`; no longer than `longest`.
    pub fn await_asking(
        &self,
        seen: u32,
        longest: core::time::Duration,
        is_written: impl Fn() -> bool,
    ) {
        self.asleep().store(1, Ordering::Relaxed);
        fence_at(Label::SleepFence, Ordering::SeqCst);
        if self.asked().load(Ordering::Relaxed) == seen && !is_written() {
            crate::sys::futex::wait(self.asked(), seen, longest);
        }
        self.asleep().store(0, Ordering::Relaxed);
    }
}
