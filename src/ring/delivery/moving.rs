//! Moving a message to another queue: exactly one copy arrives, whoever dies or stops half-way.
//!
//! ```text
//!   source                                     target
//!   parked(r, p), or not held by anybody       free
//!      │                                    1  CLAIMED(me, t)
//!   2  ▼ CAS                                      │
//!   MOVING(me, r, route, t)                       │ header, body, dlv = arriving(me, t)
//!      │                                    3  COMMITTED(t), arriving: nobody receives it yet
//!   4  ▼ CAS                                      │
//!   DONE                                    5     ▼ CAS
//!                                              INFLIGHT(0, 0, now): offered
//! ```
//! The one fact that decides is the claim of `t`, which is given out once. While the source says
//! MOVING(…, t), the message has arrived if `t` holds a committed record, and never will if the
//! claim was voided or abandoned. So whoever comes along later, because the mover is proven dead or
//! has not moved for the stall time-out, first settles the claim (void, or abandon) and then swaps
//! exactly the word it saw: arrived → DONE, never → parked, to be moved again.
//!
//! # Why not two copies
//! Step 5 comes behind a source that was seen not to be MOVING(…, t) any more. So an arriving message
//! is not consumed, and its slot not used again, while anybody could still ask at `t`; and a source
//! is parked again only behind a claim that can't be committed any more.
//!
//! # Why not none
//! The source becomes DONE only when `t` was seen committed.
//!
//! # What each crash point leaves
//! - behind 1: CLAIMED(dead), as of any sender. Behind 2: MOVING(dead) and that claim, which the
//!   reaper, or a receiver of the source that meets the word, settles: parked, and moved again.
//! - behind 3: MOVING(dead), and a record that is arriving: from either side DONE, then offered.
//! - behind 4: a record that is arriving from a source that is gone: offered by the reaper, or a
//!   receiver of the target that meets it.
//!
//! # Where a queue is on disk
//! Two journals are not written at once, so the move waits for one, then for the other ([`Disks`]), and
//! the source says before all of it that it begins:
//! ```text
//!   0  source MOVING(me, r, route, nowhere yet), and the disk knows; then 1 to 3, and the disk knows of t
//!   4  source DONE, and the disk knows; then 5
//! ```
//! What was on its way when the machine failed is so again, by nobody, in both queues: the copy is
//! arriving, and waits for its source to be DONE; the message looks for a copy that names it, and is
//! taken back only where the target has none. So the copy is there once, or the message is.

use super::{Delivery, Standing, Total};
#[cfg(not(loom))]
use crate::layout::word::Role;
use crate::layout::word::{Ctl, Dlv, NO_TARGET};
use crate::ring::Tenant;
use crate::sync::{Label, Ordering, fence_at, order};

/// Looks at a claim that somebody is just about to commit or give up.
const LOOKS: usize = 4;

/// What going on with a move came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Settled,
    /// The message is parked where it was: it may be moved again.
    Parked,
    /// Somebody else was at it: look again.
    Pending,
}

/// What became of a position that a message on its way names.
enum Arrival<'a> {
    /// It stands there.
    Arrived(Standing<'a>),
    /// Claimed, and neither committed nor given up: the word.
    Open(Ctl),
    /// No message ever stands there.
    Never,
}

/// The disks behind the two queues of a move; of a queue in memory there is nothing to wait for.
pub trait Disks {
    /// Waits until what stands at `position` of the target is on disk. Whether it is.
    fn arrived(&self, position: u64) -> bool;
    /// Waits until what is DONE in the source is. Whether it is.
    fn left(&self) -> bool;
}

impl Standing<'_> {
    /// How often it was received.
    pub fn times_received(&self) -> u16 {
        match self.dlv.state() {
            Dlv::READY => 0,
            _ if self.dlv.is_moving() => self.dlv.moved_receives(),
            _ => self.dlv.receives(),
        }
    }

    /// Whether somebody was moving it: here away, or here to.
    pub fn is_between(&self) -> bool {
        self.dlv.state() == Dlv::MOVING && self.dlv.owner() != 0
    }
}

impl Delivery {
    /// Whether a message may be moved on: nobody holds it, no delay of it runs, it is not past its
    /// retention, and in a FIFO queue it is the first of its group.
    pub fn is_movable(&self, standing: &Standing<'_>) -> bool {
        let now = self.clock.now_ms();
        if standing.age(now) > self.retention_ms() {
            return false;
        }
        match standing.dlv.state() {
            Dlv::READY => !self.is_fifo || self.is_first(standing),
            Dlv::INFLIGHT => {
                self.is_over(standing, now)
                    && (!self.is_fifo
                        || (self.is_first(standing) && !self.is_later_in_flight(standing, now)))
            }
            _ => standing.dlv.is_parked(),
        }
    }

    /// parked, or any that is movable → MOVING(me): on its way to `target`, which this participant has claimed in the queue
    /// at `route`. The word, if nobody was faster.
    pub fn begin_move<'a>(
        &self,
        parked: &Standing<'a>,
        route: u8,
        target: u64,
    ) -> Option<Standing<'a>> {
        let word = Dlv::moving(self.ring.me, parked.times_received(), route, target);
        let moving = Standing {
            dlv: word,
            ..*parked
        };
        // Relaxed: the claim comes before it by ClaimFence.
        self.swap(parked, word, Ordering::Relaxed).then_some(moving)
    }

    /// Of a source on disk, before anything is claimed: MOVING(me), to nowhere yet. The word, if nobody
    /// was faster; it counts when the next flush is on disk.
    pub fn announce_move<'a>(&self, parked: &Standing<'a>, route: u8) -> Option<Standing<'a>> {
        let moving = self.begin_move(parked, route, NO_TARGET)?;
        self.note_changed(self.index_of(parked.position));
        Some(moving)
    }

    /// A move or an arrival becomes nobody's, so that whoever meets it goes on with it at once: its maker is
    /// dead, and who finds that out can't write what is on disk; or its maker was refused by a disk.
    pub fn orphan(&self, between: &Standing<'_>) {
        self.swap(between, between.dlv.orphaned(), Ordering::Relaxed);
    }

    /// Steps 4 and 5, behind the commit at `position` of `target`; by the mover itself. Whether no disk
    /// refused: where one did, the move is nobody's from here on, and who meets it goes on.
    pub fn end_move(
        &self,
        moving: &Standing<'_>,
        target: &Self,
        position: u64,
        tenant: &mut dyn Tenant,
        disks: &dyn Disks,
    ) -> bool {
        if !disks.arrived(position) {
            self.orphan(moving);
            return false;
        }
        self.complete(moving, tenant);
        let has_left = disks.left();
        // Whoever was faster let it in, or is about to.
        if let Some(here) = target.examine(position)
            && here.position == position
            && here.dlv == Dlv::arriving(self.ring.me, position)
        {
            match has_left {
                true => target.let_in(&here),
                false => target.orphan(&here),
            }
        }
        has_left
    }

    /// MOVING → DONE: it has arrived.
    fn complete(&self, moving: &Standing<'_>, tenant: &mut dyn Tenant) -> bool {
        let completed = self.consume(moving, tenant);
        if completed {
            self.count(Total::Moved, 1);
        }
        completed
    }

    /// Goes on with a move from its source, for a mover that is proven dead or has stood still for
    /// the stall time-out. `target` is the ring of `position`, which the word names, or where a copy was
    /// found; `is_copy` says whether what stands there is of this message; `None` when that can't be read
    /// now.
    pub fn settle_leaving(
        &self,
        moving: &Standing<'_>,
        target: &Self,
        position: u64,
        tenant: &mut dyn Tenant,
        disks: &dyn Disks,
        is_copy: impl Fn(&Standing<'_>) -> Option<bool>,
    ) -> Outcome {
        for _ in 0..LOOKS {
            match target.arrival(position) {
                Arrival::Arrived(there) => match is_copy(&there) {
                    Some(true) => {
                        if !disks.arrived(position) {
                            return Outcome::Pending;
                        }
                        self.complete(moving, tenant);
                        if !self.has_left(moving.position, disks) {
                            return Outcome::Pending;
                        }
                        if there.dlv.is_arriving() {
                            target.let_in(&there);
                        }
                        return Outcome::Settled;
                    }
                    Some(false) => return self.take_back(moving),
                    // Taken back now, it would be there and here.
                    None => return Outcome::Pending,
                },
                Arrival::Open(claim) => target.stop_arrival(position, claim),
                Arrival::Never => return self.take_back(moving),
            }
        }
        Outcome::Pending
    }

    /// The same from the target: the source, whose message at `position` it was, does not keep it.
    /// `comes_here` says whether a route of the source leads to this queue.
    pub fn settle_arriving(
        &self,
        arriving: &Standing<'_>,
        source: &Self,
        position: u64,
        tenant: &mut dyn Tenant,
        disks: &dyn Disks,
        comes_here: impl Fn(u8) -> bool,
    ) -> Outcome {
        if !disks.arrived(arriving.position) {
            return Outcome::Pending;
        }
        // What it was moved from is not seen older than the word that names this place: that was
        // stored before the commit that was seen here.
        if let Some(there) = source.examine(position)
            && there.position == position
            && there.dlv.is_moving()
            && comes_here(there.dlv.route())
            && (!there.dlv.has_target()
                || there.dlv.target_below(self.ring.tail_now()) == arriving.position)
            && !source.complete(&there, tenant)
        {
            return Outcome::Pending;
        }
        if !source.has_left(position, disks) {
            return Outcome::Pending;
        }
        self.let_in(arriving);
        Outcome::Settled
    }

    /// Whether the disk knows that the message at `position` is DONE. Who made it so may have died before
    /// he noted it.
    fn has_left(&self, position: u64, disks: &dyn Disks) -> bool {
        self.note_changed(self.index_of(position));
        disks.left()
    }

    /// MOVING → parked: it never will arrive there. One that was never received is offered instead:
    /// parked without a receive means settled.
    pub fn take_back(&self, moving: &Standing<'_>) -> Outcome {
        let receives = moving.dlv.moved_receives();
        let taken = match receives {
            0 => self.offer_now(moving, 0),
            _ => self.swap(moving, Dlv::parked(receives, moving.position), Ordering::Relaxed),
        };
        match taken {
            true => Outcome::Parked,
            false => Outcome::Settled,
        }
    }

    /// parked → INFLIGHT(0, r, now): offered again, since nothing says any more that it is received
    /// too often.
    pub fn offer_again(&self, parked: &Standing<'_>) -> bool {
        self.offer_now(parked, parked.dlv.receives())
    }

    /// arriving → INFLIGHT(0, 0, now): where it came from is DONE.
    pub fn let_in(&self, arriving: &Standing<'_>) {
        if self.offer_now(arriving, 0) {
            self.count(Total::Arrived, 1);
            self.ring.wake_behind_commit();
        }
    }

    fn offer_now(&self, standing: &Standing<'_>, receives: u16) -> bool {
        let now = self.clock.now_ms();
        let index = self.index_of(standing.position);
        let lap = self.lap_of(standing.position);
        self.note_due(index, now);
        let word = Dlv::inflight(0, receives, now as u32, lap);
        let swapped = self.swap(standing, word, Ordering::Relaxed);
        if swapped {
            self.confirm_due(index, now);
        }
        swapped
    }

    /// Behind a look at a message on its way, in its source: what is looked at in the target from
    /// here on is not older than the claim there.
    pub fn look_behind_move(&self) {
        fence_at(Label::MoveFence, Ordering::Acquire);
    }

    /// What became of `position`, in the target of a message that was seen on its way there.
    fn arrival(&self, position: u64) -> Arrival<'_> {
        let slot = self.ring.memory.slot(position);
        let ctl = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let lap = self.lap_of(position);
        if ctl.state() == Ctl::CLAIMED && ctl.lap() == lap {
            return Arrival::Open(ctl);
        }
        if ctl.state() == Ctl::COMMITTED
            && ctl.lap() >= lap
            && slot.position().load(Ordering::Relaxed) == position
        {
            let dlv = Dlv(slot.dlv().load(Ordering::Relaxed));
            return Arrival::Arrived(Standing {
                position,
                dlv,
                slot,
            });
        }
        Arrival::Never
    }

    /// An open claim is never committed from here on, unless it was by now. Its owner is proven dead,
    /// or has stood still.
    fn stop_arrival(&self, position: u64, claim: Ctl) {
        let slot = self.ring.memory.slot(position);
        if self.ring.is_dead(claim.owner()) {
            self.ring.void_dead(slot, claim);
        } else {
            self.ring.abandon(slot, claim);
        }
    }

    /// The dead `owner` runs no move task any more: its number in the word of the role would be that of
    /// whoever joins next.
    #[cfg(not(loom))]
    pub(super) fn release_move_role(&self, owner: u16) {
        let role = self.words.counter(crate::layout::queue::control::MOVE_ROLE);
        let seen = Role(role.load(order(Label::RoleTake, Ordering::Acquire)));
        if seen.owner() == owner {
            let release = order(Label::RoleRelease, Ordering::Release);
            let _ = role.compare_exchange(seen.0, seen.released().0, release, Ordering::Relaxed);
        }
    }

    /// The object id at a route, if one was set.
    pub fn route(&self, route: u8) -> Option<u64> {
        let id = self.words.route(route.into()).load(Ordering::Relaxed);
        (id != 0).then_some(id)
    }

    /// The route to a queue, given out now if it had none. `None` when all are taken by others.
    #[cfg(not(loom))]
    pub fn route_to(&self, id: u64) -> Option<u8> {
        (0..crate::layout::word::ROUTES).find_map(|route| {
            let word = self.words.route(route);
            let seen = word.load(Ordering::Relaxed);
            let taken = seen == id
                || (seen == 0
                    && match word.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => true,
                        Err(other) => other == id,
                    });
            taken.then_some(route as u8)
        })
    }
}
