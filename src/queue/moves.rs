//! Settling a move that somebody else began: from its source or from its target, by a receiver that
//! meets it or by a reaper.
//!
//! The words and why they suffice are those of [`crate::ring::delivery::moving`]; here is what needs
//! both queues at a time. Whoever calls has proven the mover dead, or has seen its very word for the
//! stall time-out. Blocks nobody; every step may be the last.

use super::chain::{Link, ring_at};
use super::envelope::Envelope;
use super::payload::{self, Payloads};
use crate::error::OpenError;
use crate::layout::queue::OriginRecord;
use crate::pool::segment::{GrowFailure, Segments};
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
}

impl Side {
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
        let is_copy = |there: &Standing<'_>| {
            let origin = target.origin(there).ok()?;
            Some(origin.is_some_and(|origin| {
                (origin.queue, origin.position) == (here.id, between.position)
            }))
        };
        let tenant = &mut here.payloads();
        let position = between.dlv.target_below(target.tail());
        let (from, to) = (here.at(between.position), target.at(position));
        return Ok(from.settle_leaving(between, to, position, tenant, is_copy));
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
    let from = source.at(position);
    let comes_here = |route| from.route(route) == Some(here.id);
    let tenant = &mut source.payloads();
    let ring = here.at(between.position);
    Ok(ring.settle_arriving(between, from, position, tenant, comes_here))
}
