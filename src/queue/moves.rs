//! Settling a move that somebody else began: from its source or from its target, by a receiver that
//! meets it or by a reaper.
//!
//! The words and why they suffice are those of [`crate::ring::delivery::moving`]; here is what needs
//! both queues at a time. Whoever calls has proven the mover dead, or has seen its very word for the
//! stall time-out. Blocks nobody, but waits for a disk where a queue is on one; a reaper, who has no
//! journal open, leaves such a move to whoever receives. Every step may be the last.

use super::Inner;
use super::chain::{Link, ring_at};
use super::envelope::Envelope;
use super::payload::{self, Payloads};
use super::persist::Goal;
use crate::error::OpenError;
use crate::layout::attributes::OriginRecord;
use crate::pool::segment::{GrowFailure, Segments};
use crate::ring::delivery::moving::Disks;
pub(crate) use crate::ring::delivery::moving::Outcome;
use crate::ring::delivery::{Delivery, Standing};
use std::sync::Arc;

/// One of the two queues of a move.
#[derive(Clone)]
pub(crate) struct Side {
    /// The oldest first.
    pub rings: Arc<[Arc<Link>]>,
    pub id: u64,
    pub segments: Arc<Segments>,
    /// The open queue; `None` in a reaper's hands.
    pub open: Option<Arc<Inner>>,
}

/// The disks behind the two queues of a move.
#[derive(Clone, Copy)]
pub(super) struct Behind<'a> {
    pub source: Option<&'a Inner>,
    pub target: Option<&'a Inner>,
}

impl Disks for Behind<'_> {
    fn arrived(&self, position: u64) -> bool {
        let goal = Goal::Position(position);
        self.target.is_none_or(|queue| queue.reach(goal).is_ok())
    }

    fn left(&self) -> bool {
        self.source
            .is_none_or(|queue| queue.reach_consumed().is_ok())
    }
}

impl Side {
    /// Whether its journal would have to be written, and can't be from here.
    fn is_out_of_reach(&self) -> bool {
        self.delivery().durable().is_some() && self.open.is_none()
    }

    /// Where in this queue the copy of a message stands that came from `position` of the queue `id`, and
    /// was not let in; `None` when there is none.
    ///
    /// # Errors
    /// When an arrival can't be read now.
    fn find_copy(&self, id: u64, position: u64) -> Result<Option<u64>, GrowFailure> {
        for link in self.rings.iter() {
            let ring = &link.delivery;
            for at in 0..ring.ring().memory().geometry().slots() {
                let Some(standing) = ring.examine(at) else {
                    continue;
                };
                if standing.dlv.is_arriving()
                    && let Some(origin) = self.origin(&standing)?
                    && (origin.queue, origin.position) == (id, position)
                {
                    return Ok(Some(standing.position));
                }
            }
        }
        Ok(None)
    }

    /// Any ring, for what belongs to the whole queue.
    fn delivery(&self) -> &Delivery {
        &self.rings[0].delivery
    }

    /// The ring that `position` belongs to.
    fn at(&self, position: u64) -> &Delivery {
        &ring_at(&self.rings, position).delivery
    }

    /// Above every position that can be claimed now.
    fn tail(&self) -> u64 {
        let last = &self.rings[self.rings.len() - 1].delivery;
        last.ring().tail_now()
    }

    fn payloads(&self) -> Payloads<'_> {
        Payloads::new(&self.segments, self.id)
    }

    /// Where a message of this queue came from; `None` when it says nothing.
    ///
    /// # Errors
    /// When that can't be read now.
    pub(super) fn origin(
        &self,
        standing: &Standing<'_>,
    ) -> Result<Option<OriginRecord>, GrowFailure> {
        let layout = self.delivery().envelope();
        let Some(body) = payload::find(&self.segments, layout, standing)? else {
            return Ok(None);
        };
        let mut block = vec![0; body.block()];
        let is_whole = payload::copy(&self.segments, layout, standing, body, 0, &mut block);
        let envelope = Envelope::parse(&block).filter(|_| is_whole);
        Ok(envelope.and_then(|envelope| envelope.origin))
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
    let leave_to_others = || {
        here.at(between.position).orphan(between);
        Ok(Outcome::Settled)
    };
    if here.is_out_of_reach() {
        return leave_to_others();
    }
    if between.dlv.is_moving() {
        here.delivery().look_behind_move();
        // The word belongs to this position: nobody has put another message into the slot.
        if !between.stands() {
            return Ok(Outcome::Settled);
        }
        let target = match here.delivery().route(between.dlv.route()) {
            Some(id) => find(id)?,
            None => None,
        };
        // A queue that is gone takes its arrivals along.
        let Some(target) = target else {
            return Ok(here.at(between.position).take_back(between));
        };
        if target.is_out_of_reach() {
            return leave_to_others();
        }
        let is_copy = |there: &Standing<'_>| {
            let origin = target.origin(there).ok()?;
            Some(origin.is_some_and(|origin| {
                (origin.queue, origin.position) == (here.id, between.position)
            }))
        };
        let tenant = &mut here.payloads();
        let from = here.at(between.position);
        let position = if between.dlv.has_target() {
            between.dlv.target_below(target.tail())
        } else {
            match target.find_copy(here.id, between.position) {
                Ok(Some(position)) => position,
                Ok(None) => return Ok(from.take_back(between)),
                Err(_) => return Ok(Outcome::Pending),
            }
        };
        let disks = Behind {
            source: here.open.as_deref(),
            target: target.open.as_deref(),
        };
        let to = target.at(position);
        return Ok(from.settle_leaving(between, to, position, tenant, &disks, is_copy));
    }
    let origin = here.origin(between);
    if !between.stands() {
        return Ok(Outcome::Settled);
    }
    let source = match origin {
        // Let in now, it could be received and gone while its source still asks for it here.
        Err(_) => return Ok(Outcome::Pending),
        Ok(Some(origin)) => find(origin.queue)?.map(|source| (source, origin.position)),
        Ok(None) => None,
    };
    let Some((source, position)) = source else {
        // There is no other place that it could be in.
        here.at(between.position).let_in(between);
        return Ok(Outcome::Settled);
    };
    if source.is_out_of_reach() {
        return leave_to_others();
    }
    let from = source.at(position);
    let comes_here = |route| from.route(route) == Some(here.id);
    let tenant = &mut source.payloads();
    let ring = here.at(between.position);
    let disks = Behind {
        source: source.open.as_deref(),
        target: here.open.as_deref(),
    };
    Ok(ring.settle_arriving(between, from, position, tenant, &disks, comes_here))
}
