//! Redrive: what was received too often goes to the dead-letter queue.
//!
//! A receiver that meets such a message parks it and moves it, at once if it can: between two of its
//! own receives, never instead of one. What can't be moved (no room there, no pool, no such queue any
//! more) stays parked, is counted, and is tried again by whoever's sweep meets it. Steps and crash
//! points are those of [`crate::ring::delivery::moving`].

use super::arrive::Age;
use super::moves::{Outcome, Side, settle_move};
use super::{Inner, Queue, QueueReceiver, QueueSender};
use crate::error::{OpenError, QueueSendError};
use crate::layout::word::{Dlv, NOBODY};
use crate::ring::delivery::Standing;
use crate::ring::delivery::link::Met;
use std::sync::Arc;

/// When a dead-letter queue had no room, the next try of this receiver comes so much later.
const RETRY_MS: u64 = 20;
/// For so long a receive moves messages of a queue on disk that it was not asked about.
const MOVING_MS: u64 = 10;
/// Other queues that a receiver keeps open.
const LINKS: usize = 4;
/// Moves of others that a receiver watches at a time.
const WATCHED: usize = 16;
/// Where a disk is waited for, a live mover has not moved for so long before others go on for it.
const STALLED_ON_DISK_MS: u64 = 10_000;
/// When a disk has refused to go on with a move that is nobody's, the next try of this receiver comes so much
/// later, then twice as much, up to [`STALLED_ON_DISK_MS`].
const REFUSED_MS: u64 = 50;

/// When messages go to a dead-letter queue, and to which (`RedrivePolicy`).
///
/// In the dead-letter queue of a standard queue a message ages on from its first send, in that of a
/// FIFO queue from its arrival. Source: "Setting-up dead-letter queue retention in Amazon SQS" (SQS
/// developer guide).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// Object id of the dead-letter queue ([`Queue::id`], `deadLetterTargetArn`).
    pub target: u64,
    /// Received so often and not deleted, a message goes there instead of being received once more
    /// (`maxReceiveCount`). 1 to 1,000.
    pub max_receives: u16,
}

impl Redrive {
    /// To the queue `target`, after `max_receives`.
    pub fn to(target: &Queue, max_receives: u16) -> Self {
        Self {
            target: target.id(),
            max_receives,
        }
    }
}

/// Which queues may name a queue as their dead-letter queue (`RedriveAllowPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RedriveAllow {
    /// Every queue of the bus (`allowAll`).
    #[default]
    All,
    /// None (`denyAll`).
    None,
    /// These, by their object ids, up to 10 (`byQueue`).
    Queues(Vec<u64>),
}

impl RedriveAllow {
    /// Whether `source` may.
    pub fn allows(&self, source: u64) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Queues(queues) => queues.contains(&source),
        }
    }
}

impl Queue {
    /// The names of the queues that have this one as their dead-letter queue
    /// (`ListDeadLetterSourceQueues`). Opens every queue of the bus once. Blocks for the file system;
    /// allocates.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn redrive_sources(&self) -> Result<Vec<String>, OpenError> {
        let mut sources = self.inner.host.redrives()?;
        sources.retain(|(_, target)| *target == self.inner.object_id);
        Ok(sources.into_iter().map(|(name, _)| name).collect())
    }
}

impl Inner {
    pub(super) fn side(self: &Arc<Self>) -> Side {
        // A message on its way names a ring that was noted before.
        self.has_grown();
        Side {
            rings: self.chain.links(),
            id: self.object_id,
            segments: Arc::clone(&self.segments),
            open: Some(Arc::clone(self)),
        }
    }
}

/// A message on its way as it was first seen.
#[derive(Clone, Copy)]
struct Watched {
    position: u64,
    word: Dlv,
    since: u64,
}

/// A receiver's side of moves: the other queues it has open, and the moves of others that it watches.
#[derive(Default)]
pub(super) struct Mover {
    links: Vec<QueueSender>,
    watched: Vec<Watched>,
    /// The open claim at the link cursor of a FIFO queue.
    met: Met,
    retry_at: u64,
    /// The same for moves that are nobody's, and after which pause.
    go_on_at: u64,
    pause_ms: u64,
}

/// What one step came to.
pub(super) enum Step {
    /// The message was moved by it.
    Moved,
    /// Nothing more to do about it now.
    Done,
    /// It can't be moved: it does not say where to, or that queue is gone or has no route.
    Left,
    /// The one queue that everything is to go to is gone.
    Gone,
    /// Messages of this queue have gone to as many others as have routes.
    NoRoute,
    /// Look again soon.
    Watch,
    /// The other queue has no room, or can't be used now.
    NoRoom,
}

impl QueueReceiver {
    /// Moves what this receiver has met, or goes on with what others began and left. Where each waits for a
    /// disk it is one, or what [`MOVING_MS`] are enough for: who receives has not come to move what others
    /// could not handle, and the rest is as well moved by the next receive.
    #[cold]
    #[inline(never)]
    pub(super) fn move_some(&mut self, now: u64) {
        let mut mover = core::mem::take(&mut self.mover);
        let mut again = Vec::new();
        while let Some(position) = self.consumer.next_move() {
            match mover.step(&self.inner, position, now) {
                Step::Moved | Step::Done | Step::Left | Step::Gone | Step::NoRoute => {}
                Step::Watch => again.push(position),
                Step::NoRoom => mover.retry_at = now + RETRY_MS,
            }
            let is_late = self.clock.exact_ms().saturating_sub(now) >= MOVING_MS;
            if is_late && mover.may_wait_for_a_disk(&self.inner) {
                break;
            }
        }
        for position in again {
            self.consumer.note_move(position);
        }
        self.mover = mover;
    }
}

impl Mover {
    fn step(&mut self, inner: &Arc<Inner>, position: u64, now: u64) -> Step {
        let ring = inner.at(position);
        let Some(standing) = ring.examine(position) else {
            return Step::Done;
        };
        if standing.position != position {
            return Step::Done;
        }
        if standing.is_between() {
            return self.go_on(inner, &standing, now);
        }
        if standing.parked_after().is_some() {
            return self.begin(inner, &standing, now);
        }
        Step::Done
    }

    /// A parked message: to the dead-letter queue, or back among the others.
    fn begin(&mut self, inner: &Arc<Inner>, parked: &Standing<'_>, now: u64) -> Step {
        let delivery = inner.at(parked.position);
        let target = match delivery.redrive() {
            Some((target, most)) if parked.dlv.receives() >= most => target,
            // Nobody says so any more.
            _ if !delivery.is_parked_for_good(parked) => {
                delivery.offer_again(parked);
                return Step::Done;
            }
            _ => return Step::Done,
        };
        if now < self.retry_at {
            return Step::Done; // a later sweep meets it again
        }
        let age = match delivery.is_fifo() {
            true => Age::Anew,
            false => Age::Kept,
        };
        match self.send_to(inner, parked, target, age) {
            Step::Gone | Step::NoRoute => Step::NoRoom,
            step => step,
        }
    }

    /// To that queue.
    fn send_to(
        &mut self,
        inner: &Arc<Inner>,
        standing: &Standing<'_>,
        target: u64,
        age: Age,
    ) -> Step {
        let link = match self.link(inner, target) {
            Ok(Some(link)) => link,
            Ok(None) => return Step::Gone,
            Err(_) => return Step::NoRoom,
        };
        let Some(route) = inner.delivery.route_to(target) else {
            return Step::NoRoute;
        };
        match link.take_in(inner, standing, (route, age)) {
            Ok(true) => Step::Moved,
            Ok(false) => Step::Done,
            Err(QueueSendError::Removed) => Step::Gone,
            Err(_) => Step::NoRoom,
        }
    }

    /// The message in the slot of `at`, if nobody holds it and it was sent below `until`: to
    /// `destination`, or where it came from if that is 0.
    pub fn send_on(&mut self, inner: &Arc<Inner>, at: u64, until: u64, destination: u64) -> Step {
        let delivery = inner.at(at);
        let Some(mut standing) = delivery.examine(at) else {
            return Step::Done;
        };
        if standing.is_between() {
            match self.go_on(inner, &standing, delivery.now_ms()) {
                Step::Done => {}
                step => return step,
            }
            // It may have arrived here by that, and is to go on.
            match delivery.examine(at) {
                Some(here) if here.is_between() => return Step::Watch,
                Some(here) => standing = here,
                None => return Step::Done,
            }
        }
        if standing.position >= until {
            return Step::Done;
        }
        // Which is the first of its group is known of what is linked; perhaps nobody receives here.
        if delivery.is_fifo() && !delivery.is_linked_to(standing.position, &mut self.met) {
            return Step::Watch;
        }
        if !delivery.is_movable(&standing) {
            return Step::Done;
        }
        if destination != 0 {
            return self.send_to(inner, &standing, destination, Age::Anew);
        }
        let origin = match inner.side().origin(&standing) {
            Ok(Some(origin)) => origin,
            Ok(None) => return Step::Left,
            Err(_) => return Step::NoRoom, // later
        };
        match self.send_to(inner, &standing, origin.queue, Age::Anew) {
            Step::Gone | Step::NoRoute => Step::Left,
            step => step,
        }
    }

    /// A message that somebody is moving: if he is dead or stands still, goes on for him.
    fn go_on(&mut self, inner: &Arc<Inner>, between: &Standing<'_>, now: u64) -> Step {
        let ring = inner.delivery.ring();
        let timeout_ms = match self.may_wait_for_a_disk(inner) {
            true => STALLED_ON_DISK_MS,
            false => ring.stall_timeout_ns() / 1_000_000,
        };
        let owner = between.dlv.owner();
        let stalled = self.has_stalled(between, now, timeout_ms);
        let is_put_off = owner == NOBODY && now < self.go_on_at;
        if is_put_off || !stalled && owner != NOBODY && !ring.is_dead(owner) {
            return Step::Watch;
        }
        let here = inner.side();
        let settled = settle_move(&here, between, |id| {
            let link = self.link(inner, id)?;
            Ok(link.map(|link| link.inner.side()))
        });
        match settled {
            Ok(Outcome::Pending) if self.may_wait_for_a_disk(inner) => {
                self.pause_ms = (2 * self.pause_ms).clamp(REFUSED_MS, STALLED_ON_DISK_MS);
                self.go_on_at = now + self.pause_ms;
            }
            _ => self.pause_ms = 0,
        }
        match settled {
            Ok(Outcome::Settled) => Step::Done,
            Ok(Outcome::Parked | Outcome::Pending) => Step::Watch,
            Err(_) => Step::NoRoom,
        }
    }

    /// Whether a mover may be waiting for a disk: for this queue's, or for that of one it is linked to.
    fn may_wait_for_a_disk(&self, inner: &Inner) -> bool {
        inner.journal.is_some() || self.links.iter().any(|link| link.inner.journal.is_some())
    }

    /// Whether this very word has stood for the stall time-out, as far as this receiver has seen.
    fn has_stalled(&mut self, between: &Standing<'_>, now: u64, timeout_ms: u64) -> bool {
        let found = self
            .watched
            .iter()
            .position(|watched| watched.position == between.position);
        match found {
            Some(at) if self.watched[at].word == between.dlv => {
                let is_over = now.saturating_sub(self.watched[at].since) > timeout_ms;
                if is_over {
                    self.watched.swap_remove(at);
                }
                return is_over;
            }
            Some(at) => {
                self.watched.swap_remove(at);
            }
            None if self.watched.len() == WATCHED => {
                self.watched.remove(0);
            }
            None => {}
        }
        self.watched.push(Watched {
            position: between.position,
            word: between.dlv,
            since: now,
        });
        false
    }

    /// The other queue, opened once per receiver; `None` when it is gone.
    fn link(&mut self, inner: &Arc<Inner>, id: u64) -> Result<Option<&mut QueueSender>, OpenError> {
        self.links.retain(|link| !link.inner.is_removed());
        if let Some(at) = self
            .links
            .iter()
            .position(|link| link.inner.object_id == id)
        {
            return Ok(self.links.get_mut(at));
        }
        let Some(other) = Arc::clone(&inner.host).queue_by_id(id)? else {
            return Ok(None);
        };
        if self.links.len() == LINKS {
            self.links.remove(0);
        }
        self.links.push(QueueSender::new(other));
        Ok(self.links.last_mut())
    }
}
