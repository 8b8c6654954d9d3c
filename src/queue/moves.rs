//! Settling a move that somebody else began: from its source or from its target, by a receiver that
//! meets it or by a reaper.
//!
//! The words and why they suffice are those of [`crate::ring::delivery::moving`]; here is what needs
//! both queues at a time. Whoever calls has proven the mover dead, or has seen its very word for the
//! stall time-out. Blocks nobody; every step may be the last.

use super::envelope::Envelope;
use super::payload::{self, Payloads};
use crate::error::OpenError;
use crate::layout::queue::OriginRecord;
use crate::pool::segment::Segments;
use crate::ring::delivery::moving::Arrival;
use crate::ring::delivery::{Delivery, Standing, Total};
use std::sync::Arc;

/// Looks at a claim that somebody is just about to commit or give up.
const LOOKS: usize = 4;

/// One of the two queues of a move.
#[derive(Clone)]
pub(crate) struct Side {
    pub delivery: Delivery,
    pub id: u64,
    pub segments: Arc<Segments>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to do.
    Settled,
    /// The message is parked where it was: it may be moved again.
    Parked,
    /// Its mover may go on: look again later.
    Pending,
}

impl Side {
    fn payloads(&self) -> Payloads<'_> {
        Payloads::new(&self.segments, self.id)
    }

    /// Where a message of this queue came from; `None` when it says nothing, or can't be read now.
    fn origin(&self, standing: &Standing<'_>) -> Option<OriginRecord> {
        let layout = self.delivery.envelope();
        let body = payload::find(&self.segments, layout, standing).ok()??;
        let mut block = vec![0; body.block()];
        let is_whole = payload::copy(&self.segments, layout, standing, body, 0, &mut block);
        Envelope::parse(&block).filter(|_| is_whole)?.origin
    }

    fn let_in(&self, arriving: &Standing<'_>) {
        if self.delivery.let_in(arriving) {
            self.delivery.count(Total::Arrived, 1);
            self.delivery.ring().wake_behind_commit();
        }
    }
}

/// Settles the move of a message that stands between two queues; `find` opens the other one.
///
/// # Errors
/// When the other queue can't be opened now.
pub(crate) fn settle_move(
    here: &Side,
    between: &Standing<'_>,
    find: impl FnOnce(u64) -> Result<Option<Side>, OpenError>,
) -> Result<Outcome, OpenError> {
    if between.dlv.is_moving() {
        here.delivery.look_behind_move();
        // The word belongs to this position: nobody has put another message into the slot.
        if !between.stands() {
            return Ok(Outcome::Settled);
        }
        let target = match here.delivery.route(between.dlv.route()) {
            Some(id) => find(id)?,
            None => None,
        };
        return Ok(settle_leaving(here, between, target.as_ref()));
    }
    let origin = here.origin(between);
    if !between.stands() {
        return Ok(Outcome::Settled);
    }
    if let Some(origin) = origin
        && let Some(source) = find(origin.queue)?
        && !leave_behind(&source, origin.position, here, between.position)
    {
        return Ok(Outcome::Pending);
    }
    here.let_in(between);
    Ok(Outcome::Settled)
}

/// From the source: it has arrived, or it never will.
fn settle_leaving(source: &Side, moving: &Standing<'_>, target: Option<&Side>) -> Outcome {
    for _ in 0..LOOKS {
        // A queue that is gone takes its arrivals along.
        let Some(target) = target else { break };
        let position = moving.dlv.target_below(target.delivery.tail());
        match target.delivery.arrival(position) {
            Arrival::Arrived(there) if is_copy(target, &there, source.id, moving.position) => {
                if source.delivery.end_move(moving, &mut source.payloads()) {
                    source.delivery.count(Total::Moved, 1);
                }
                if there.dlv.is_arriving() {
                    target.let_in(&there);
                }
                return Outcome::Settled;
            }
            Arrival::Open(claim) => {
                let is_dead = target.delivery.ring().is_dead(claim.owner());
                target.delivery.stop_arrival(position, claim, is_dead);
            }
            Arrival::Arrived(_) | Arrival::Never => {
                return take_back(source, moving);
            }
        }
    }
    if target.is_none() {
        return take_back(source, moving);
    }
    Outcome::Pending
}

fn take_back(source: &Side, moving: &Standing<'_>) -> Outcome {
    if source.delivery.take_back(moving) {
        Outcome::Parked
    } else {
        Outcome::Settled
    }
}

fn is_copy(target: &Side, there: &Standing<'_>, source: u64, position: u64) -> bool {
    let origin = target.origin(there);
    origin.is_some_and(|origin| (origin.queue, origin.position) == (source, position))
}

/// From the target: makes sure that the source of an arriving message does not keep it. `false` when
/// somebody was faster: look again.
fn leave_behind(source: &Side, position: u64, target: &Side, arrived: u64) -> bool {
    let Some(there) = source.delivery.examine(position) else {
        return true;
    };
    let tail = target.delivery.tail();
    let keeps = there.position == position
        && there.dlv.is_moving()
        && source.delivery.route(there.dlv.route()) == Some(target.id)
        && there.dlv.target_below(tail) == arrived;
    if !keeps {
        return true;
    }
    let left = source.delivery.end_move(&there, &mut source.payloads());
    if left {
        source.delivery.count(Total::Moved, 1);
    }
    left
}
