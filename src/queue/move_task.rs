//! Moving the messages of a queue on, or back to where they came from (`StartMessageMoveTask`).
//!
//! The task runs in its caller, in steps. What it has to do, how far it has come and who runs it are
//! words of the queue, so anybody can read them, cancel it, or go on when its runner is dead. One task
//! a queue: the role word names its runner and passes on only from a proven dead one. Each message is
//! moved as redrive moves one ([`crate::ring::delivery::moving`]), so a task that dies anywhere leaves
//! each where it was or where it was to go, once.

use super::redrive::{Mover, Step};
use super::{Inner, Queue};
use crate::ParticipantId;
use crate::error::MoveError;
use crate::layout::queue::{
    MOVE_CANCELLED, MOVE_CANCELLING, MOVE_COMPLETED, MOVE_FAILED, MOVE_RUNNING, control,
};
use crate::layout::word::{ROUTES, Role};
use crate::shm::words::word64;
use crate::sync::{AtomicU64, Label, Ordering, order};
use crate::sys::clock;
use std::sync::Arc;
use std::time::Duration;

/// Messages that one step moves, at most.
const MOST_A_STEP: u64 = 64;
/// Slots that one step looks at, at most.
const MOST_LOOKS: u64 = 4096;
/// Pause of a run that has nothing to do at the moment: no room, or enough for this second.
const PAUSE: Duration = Duration::from_millis(5);
/// A second of a rate.
const SECOND_NS: u64 = 1_000_000_000;

/// What a task is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "options move nothing until Queue::move_messages is given them"]
pub struct MoveOptions {
    destination: u64,
    max_per_second: u32,
}

impl MoveOptions {
    /// Every message back to the queue that it came from, as fast as it goes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every message to this queue (`DestinationArn`), wherever it came from.
    pub fn destination(mut self, destination: &Queue) -> Self {
        self.destination = destination.id();
        self
    }

    /// At most so many messages a second (`MaxNumberOfMessagesPerSecond`); 0: as fast as it goes.
    pub fn max_per_second(mut self, messages: u32) -> Self {
        self.max_per_second = messages;
        self
    }
}

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoveState {
    /// It runs.
    Running,
    /// Its runner is dead or dropped it: [`Queue::resume_move`] goes on.
    Stopped,
    /// It was cancelled, and its runner has not seen it yet.
    Cancelling,
    /// It was cancelled: what had been moved stays moved.
    Cancelled,
    /// It has looked at everything that was in the queue when it began.
    Completed,
    /// Its destination is gone.
    Failed,
}

/// The last task of a queue, as anybody may see it (`ListMessageMoveTasks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveStatus {
    /// How it stands.
    pub state: MoveState,
    /// Who runs it, or ran it last.
    pub runner: Option<ParticipantId>,
    /// Object id of the destination; `None`: each message's own source.
    pub destination: Option<u64>,
    /// At most so many messages a second; 0: no limit.
    pub max_per_second: u32,
    /// Messages moved (`ApproximateNumberOfMessagesMoved`).
    pub moved: u64,
    /// Messages there were to be moved when it began (`ApproximateNumberOfMessagesToMove`).
    pub to_move: u64,
    /// When it began, in ms since the Unix epoch.
    pub started_ms: u64,
}

/// A task under way, in the hands of who runs it.
///
/// May move to another thread. Dropped before its end it stands as `Stopped`, for anybody to resume.
pub struct MoveTask {
    inner: Arc<Inner>,
    mover: Mover,
    /// The role word as this task has taken it.
    role: Role,
    /// The next slot to look at, by a position of it, and where the round ends.
    next: u64,
    end: u64,
    /// The same for the rings behind that one, the last one first.
    further: Vec<(u64, u64)>,
    /// Positions from here on were sent after the beginning.
    until: u64,
    /// Messages that can't be moved: they say nothing of where they came from, or that is gone, or has
    /// no route.
    left: u64,
    second: u64,
    this_second: u32,
}

impl Queue {
    /// Begins to move the messages that are in the queue now, visible and parked ones; those in
    /// flight or delayed stay, and in a FIFO queue what is behind them in their group. Where it arrives a
    /// message is a new one: its retention and its receive count begin anew (as "Learn how to configure
    /// a dead-letter queue redrive" in the SQS developer guide has it). Moves nothing yet:
    /// [`MoveTask::run`] and [`MoveTask::step`] do.
    ///
    /// # Errors
    /// [`MoveError::Busy`] while another task of this queue runs; [`MoveError::NoSuchDestination`].
    pub fn move_messages(&self, options: &MoveOptions) -> Result<MoveTask, MoveError> {
        self.inner.check_move()?;
        let destination = options.destination;
        if destination == self.inner.object_id {
            return Err(MoveError::OwnDestination);
        }
        if destination != 0 {
            let found = Arc::clone(&self.inner.host).queue_by_id(destination)?;
            let found = found.ok_or(MoveError::NoSuchDestination { destination })?;
            if found.delivery.is_fifo() != self.inner.delivery.is_fifo() {
                return Err(MoveError::OtherKind);
            }
            if found.definition.durability < self.inner.definition.durability {
                return Err(MoveError::OnDisk {
                    destination: found.definition.name.clone(),
                });
            }
            if self.inner.delivery.route_to(destination).is_none() {
                return Err(MoveError::TooManyDestinations { limit: ROUTES });
            }
        }
        let role = self.inner.take_move_role()?;
        let stats = self.stats();
        let words = MoveWords(&self.inner);
        let mut until = 0;
        self.inner
            .each_ring(|ring| until = ring.ring().tail_now().max(until));
        for (word, value) in [
            (words.destination(), destination),
            (words.rate(), options.max_per_second.into()),
            (words.until(), until),
            (words.moved(), 0),
            (words.to_move(), stats.visible + stats.parked),
            (words.started(), clock::unix_ms()),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        words.state().store(MOVE_RUNNING, Ordering::Release);
        Ok(MoveTask::new(&self.inner, role))
    }

    /// Goes on with a task whose runner is dead or has dropped it. `None` when there is none. Waits for nobody.
    ///
    /// # Errors
    /// [`MoveError::Busy`] while its runner lives.
    pub fn resume_move(&self) -> Result<Option<MoveTask>, MoveError> {
        self.inner.check_move()?;
        let words = MoveWords(&self.inner);
        let is_under_way = || words.state().load(Ordering::Acquire) == MOVE_RUNNING;
        if !is_under_way() {
            return Ok(None);
        }
        let role = self.inner.take_move_role()?;
        let task = MoveTask::new(&self.inner, role);
        Ok(is_under_way().then_some(task))
    }

    /// How the last task of this queue stands, whoever runs it. `None` before the first.
    pub fn move_status(&self) -> Option<MoveStatus> {
        if self.inner.is_forked() {
            return None;
        }
        self.inner.move_status()
    }

    /// Cancels the task of this queue, whoever runs it: it ends before its next message. Whether one
    /// was under way.
    pub fn cancel_move(&self) -> bool {
        if self.inner.is_forked() {
            return false;
        }
        let words = MoveWords(&self.inner);
        let to = match self.inner.move_runner() {
            Some(_) => MOVE_CANCELLING,
            None => MOVE_CANCELLED,
        };
        words
            .state()
            .compare_exchange(MOVE_RUNNING, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

impl MoveTask {
    fn new(inner: &Arc<Inner>, role: Role) -> Self {
        let until = MoveWords(inner).until().load(Ordering::Relaxed);
        let mut rounds = Vec::new();
        inner.each_ring(|ring| {
            let geometry = ring.ring().memory().geometry();
            let tail = ring.ring().tail_now();
            let from = tail.saturating_sub(geometry.slots());
            rounds.push((from.max(geometry.first_position()), tail));
        });
        rounds.reverse();
        let (next, end) = rounds.pop().unwrap_or_default();
        let until = until.min(rounds.first().map_or(end, |(_, tail)| *tail));
        Self {
            inner: Arc::clone(inner),
            mover: Mover::default(),
            role,
            next,
            end,
            further: rounds,
            until,
            left: 0,
            second: 0,
            this_second: 0,
        }
    }

    /// Moves up to 64 messages, or what the rate allows of them now; how the task stands then. Blocks
    /// nobody and waits for nothing. Allocates.
    ///
    /// # Errors
    /// [`MoveError`]. Where the destination has no room the task stands and can be gone on with.
    pub fn step(&mut self) -> Result<MoveStatus, MoveError> {
        self.inner.check_move()?;
        let inner = Arc::clone(&self.inner);
        let words = MoveWords(&inner);
        let mut moved = 0;
        for _ in 0..MOST_LOOKS {
            if words.role().load(Ordering::Relaxed) != self.role.0 {
                return Err(MoveError::Lost);
            }
            if words.state().load(Ordering::Relaxed) != MOVE_RUNNING {
                words.end(MOVE_CANCELLING, MOVE_CANCELLED);
                break;
            }
            if self.next >= self.end {
                if let Some(round) = self.further.pop() {
                    (self.next, self.end) = round;
                    continue;
                }
                words.end(MOVE_RUNNING, MOVE_COMPLETED);
                break;
            }
            if moved == MOST_A_STEP || !self.has_budget(&words) {
                break;
            }
            let destination = words.destination().load(Ordering::Relaxed);
            let step = self
                .mover
                .send_on(&inner, self.next, self.until, destination);
            match step {
                Step::Moved => {
                    moved += 1;
                    self.this_second += 1;
                    words.moved().fetch_add(1, Ordering::Relaxed);
                }
                Step::Done => {}
                Step::Left => self.left += 1,
                Step::Gone => {
                    words.end(MOVE_RUNNING, MOVE_FAILED);
                    return Err(MoveError::DestinationGone);
                }
                // The same message again, later. A destination has had its route from the beginning.
                Step::NoRoom | Step::NoRoute | Step::Watch => break,
            }
            self.next += 1;
        }
        inner.move_status().ok_or(MoveError::Lost)
    }

    /// Steps until the end, pausing as the rate wants it or while the destination has no room, and
    /// shows how it stands behind each step; `false` from there leaves it, to be gone on with later.
    /// Blocks.
    ///
    /// # Errors
    /// [`MoveError`].
    pub fn run(
        &mut self,
        mut progress: impl FnMut(&MoveStatus) -> bool,
    ) -> Result<MoveStatus, MoveError> {
        loop {
            let before = self.next;
            let status = self.step()?;
            let goes_on = status.state == MoveState::Running;
            if !progress(&status) || !goes_on {
                return Ok(status);
            }
            if self.next == before {
                clock::pause(PAUSE);
                self.inner.host.tick();
            }
        }
    }

    /// Messages that stay where they are, since they do not say where they came from, or that queue is
    /// gone, or messages of this one have gone to sixteen others already; so far.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn has_budget(&mut self, words: &MoveWords<'_>) -> bool {
        let rate = words.rate().load(Ordering::Relaxed);
        if rate == 0 {
            return true;
        }
        let second = clock::now() / SECOND_NS;
        if self.second != second {
            (self.second, self.this_second) = (second, 0);
        }
        u64::from(self.this_second) < rate
    }
}

impl Drop for MoveTask {
    fn drop(&mut self) {
        if !self.inner.is_forked() {
            let release = order(Label::RoleRelease, Ordering::Release);
            let _ = MoveWords(&self.inner).role().compare_exchange(
                self.role.0,
                self.role.released().0,
                release,
                Ordering::Relaxed,
            );
        }
    }
}

/// The words of the last task.
struct MoveWords<'a>(&'a Inner);

macro_rules! words {
    ($($name:ident $offset:ident;)*) => {$(
        fn $name(&self) -> &AtomicU64 {
            word64(&self.0.mapping, control::$offset)
        }
    )*};
}

impl MoveWords<'_> {
    words! {
        role MOVE_ROLE;
        state MOVE_STATE;
        destination MOVE_DESTINATION;
        rate MOVE_RATE;
        until MOVE_UNTIL;
        moved MOVE_DONE;
        to_move MOVE_TOTAL;
        started MOVE_STARTED;
    }

    fn end(&self, from: u64, to: u64) {
        let _ = self
            .state()
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Inner {
    fn check_move(&self) -> Result<(), MoveError> {
        if self.is_forked() {
            return Err(MoveError::Forked);
        }
        if self.is_removed() {
            return Err(MoveError::Removed);
        }
        Ok(())
    }

    /// From nobody, or from one that is proven dead.
    fn take_move_role(&self) -> Result<Role, MoveError> {
        let words = MoveWords(self);
        let ring = self.delivery.ring();
        let seen = Role(words.role().load(order(Label::RoleTake, Ordering::Acquire)));
        let busy = |owner| MoveError::Busy {
            by: ParticipantId(owner),
        };
        if seen.owner() != 0 && !ring.is_dead(seen.owner()) {
            return Err(busy(seen.owner()));
        }
        let taken = seen.taken(1, ring.me());
        let acquire = order(Label::RoleTake, Ordering::Acquire);
        words
            .role()
            .compare_exchange(seen.0, taken.0, acquire, Ordering::Relaxed)
            .map(|_| taken)
            .map_err(|now| busy(Role(now).owner()))
    }

    /// Who runs a task, and lives.
    fn move_runner(&self) -> Option<u16> {
        let owner = Role(MoveWords(self).role().load(Ordering::Relaxed)).owner();
        (owner != 0 && !self.delivery.ring().is_dead(owner)).then_some(owner)
    }

    fn move_status(&self) -> Option<MoveStatus> {
        let words = MoveWords(self);
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let is_run = self.move_runner().is_some();
        let state = match words.state().load(Ordering::Acquire) {
            MOVE_RUNNING if is_run => MoveState::Running,
            MOVE_RUNNING => MoveState::Stopped,
            MOVE_CANCELLING if is_run => MoveState::Cancelling,
            MOVE_CANCELLING | MOVE_CANCELLED => MoveState::Cancelled,
            MOVE_COMPLETED => MoveState::Completed,
            MOVE_FAILED => MoveState::Failed,
            _ => return None,
        };
        let runner = Role(load(words.role())).owner();
        let destination = load(words.destination());
        Some(MoveStatus {
            state,
            runner: (runner != 0).then_some(ParticipantId(runner)),
            destination: (destination != 0).then_some(destination),
            max_per_second: load(words.rate()).min(u32::MAX.into()) as u32,
            moved: load(words.moved()),
            to_move: load(words.to_move()),
            started_ms: load(words.started()),
        })
    }
}
