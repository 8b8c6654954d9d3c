//! Delivery: the ring as a queue. Every message is consumed once, by whoever leases it.
//!
//! Who produced a message stands in the slot's `ctl`, who consumes it in its `dlv`. Consumers write
//! nothing else into the ring. Every transition is one CAS of exactly the word that was loaded:
//! load `dlv`, check `ctl` and the header's position, decide, swap.
//!
//! # States of `dlv` and who moves it
//! ```text
//!         commit, by its producer              receive, by anyone who finds the lease over:
//!            │             │ delayed           past its deadline, or its owner proven dead
//!            ▼             ▼                      ┌───────────────┐
//!         READY(l) ──▶ INFLIGHT(owner,r,deadline) ┤               │ receives r+1, new owner
//!            │  receive    │      ▲    ▲          └───────────────┘
//!            │             │      └────┴─ extend, nack: owner and deadline change, r stays
//!            │             ├──▶ MOVING(0,r): parked, after as many receives as the queue says, or
//!            │             │            │        1,000; from there to a dead-letter queue ([`moving`])
//!            ▼             ▼            ▼
//!         DONE(l): deleted by receipt, consumed at once, purged, or past its retention
//! ```
//! In a FIFO queue what is consumed out of turn is settled first, MOVING to nowhere ([`order`]).
//! Nothing goes back to READY, DONE is the end: only then may a producer of a later lap claim the
//! slot. A receipt is (position, receives): each receive changes the count, so a receipt fits
//! exactly one lease and fails for ever after the next one.
//!
//! # The claim table of a queue ([`claim`])
//! | `ctl` of an older lap | `dlv` | the producer |
//! |---|---|---|
//! | VOID | any | claims |
//! | COMMITTED | DONE | claims |
//! | COMMITTED | DONE, viewed | looks at the pins ([`view`]): renews in place if pinned, else claims |
//! | COMMITTED | INFLIGHT, MOVING | renews in place, steps over: message, lease and receipt stay |
//! | COMMITTED | READY behind the receive hint | the same: a sweep will find it |
//! | COMMITTED | READY at or ahead of the receive hint | full: the ring has come round |
//! | CLAIMED, HELD | any | as in every ring |
//!
//! # What each crash point leaves
//! - a producer: as in every ring. Behind the commit of a delayed message: perhaps due words that
//!   say too much (`due` was lowered before).
//! - a consumer between two CAS: nothing. Behind a receive: INFLIGHT(dead), which the reaper, a
//!   waiter that probes, or the deadline ends. Behind DONE of a message with its payload in the
//!   pool: a chunk nobody names, which the reaper frees.
//! - a sweeper between raising a due word and lowering it again: leases that no due word knows. The
//!   rolling sweep ([`sweep`]) finds them and lowers the word.
//! - a reaper: leases of the dead that the next reaper ends.

pub mod claim;
pub mod consume;
pub mod dedup;
pub mod drain;
pub mod due;
pub mod durable;
pub mod fair;
pub mod heads;
pub mod hints;
pub mod lease;
pub mod link;
mod look;
pub mod moving;
mod open;
pub mod order;
pub mod restore;
pub mod settings;
pub mod settle;
pub mod sweep;
pub mod view;

use self::dedup::Dedup;
use super::{Counter, SlotRing};
use crate::layout::queue::Envelope;
use crate::layout::word::{Ctl, Dlv};
use crate::shm::durable::DurableWords;
use crate::shm::queue::QueueWords;
#[cfg(not(loom))]
use crate::shm::ring::RingMemory;
use crate::shm::ring::Slot;
use crate::sync::{Label, Ordering, fence_at, order};
use std::sync::Arc;

/// The time of a queue: ms since its epoch on CLOCK_BOOTTIME, by the clock itself.
pub trait Clock: Send + Sync {
    /// Never less than what anybody read before.
    fn now_ms(&self) -> u64;
}

/// One attachment's side of a queue: its ring and the words beside it. Handles keep a clone each.
///
/// Times that come from the caller may be old: whoever read them may have been stopped since, for
/// hours. An old time finds less than there is, and a lease that was given out later looks over by
/// it when it is far enough ahead. So where a time says "over", the clock is read again behind the
/// load of the word, and the word that was loaded is the one that is swapped: what is over then was
/// over when it was taken.
#[derive(Clone)]
pub struct Delivery {
    ring: SlotRing,
    words: QueueWords,
    clock: Arc<dyn Clock>,
    is_fifo: bool,
    /// Neither a FIFO queue nor on disk: a delete is done when its swap is.
    is_plain: bool,
    envelope: Envelope,
    dedup: Option<Dedup>,
    durable: Option<DurableWords>,
    /// On disk, and delivered before it is there.
    reads_ahead: bool,
}

/// A message as it stood when it was looked at. What is done about it is a CAS of exactly `dlv`.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    pub position: u64,
    pub dlv: Dlv,
    slot: Slot<'a>,
}

impl<'a> Standing<'a> {
    /// Its slot.
    #[inline(always)]
    pub fn slot(&self) -> Slot<'a> {
        self.slot
    }

    /// Whether its word is the one that was looked at, and so the message stands as it did. What was
    /// loaded in between is kept there by a fence of the caller's.
    #[inline(always)]
    fn is_unchanged(&self) -> bool {
        // Relaxed: no word comes twice.
        self.slot.dlv().load(Ordering::Relaxed) == self.dlv.0
    }

    /// Whether a lease or a delay of it has ended at `now`.
    fn has_ended(&self, now: u64) -> bool {
        self.dlv.state() == Dlv::INFLIGHT && self.dlv.remaining_ms(now as u32).is_none()
    }
}

impl Delivery {
    /// Joins a ring with the words that make it a queue, and its clock.
    pub fn new(ring: SlotRing, words: QueueWords, clock: Arc<dyn Clock>) -> Self {
        let is_fifo = words.is_fifo();
        let envelope = if is_fifo {
            Envelope::Fifo
        } else {
            Envelope::Standard
        };
        Self {
            ring,
            words,
            clock,
            is_fifo,
            is_plain: !is_fifo,
            envelope,
            dedup: None,
            durable: None,
            reads_ahead: false,
        }
    }

    /// The time by the clock itself.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Whether its lease or delay is over. `now` may be old: it decides only that nothing is.
    fn is_over(&self, standing: &Standing<'_>, now: u64) -> bool {
        standing.has_ended(now) && standing.has_ended(self.clock.now_ms())
    }

    /// The same, deduplicating by this table. A FIFO queue's.
    pub fn with_dedup(self, dedup: Dedup) -> Self {
        Self {
            dedup: Some(dedup),
            ..self
        }
    }

    /// The table it deduplicates by.
    #[inline(always)]
    pub fn dedup(&self) -> Option<&Dedup> {
        self.dedup.as_ref()
    }

    /// Whether it is neither a FIFO queue nor on disk: a send is done with its commit, a delete with its swap.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether messages keep their order within each group.
    #[inline(always)]
    pub fn is_fifo(&self) -> bool {
        self.is_fifo
    }

    /// What lies between a slot's header and the body.
    #[inline(always)]
    pub fn envelope(&self) -> Envelope {
        self.envelope
    }

    /// Bytes of body that fit into a slot.
    #[inline(always)]
    pub fn message_room(&self) -> usize {
        self.ring.memory.slot(0).message_room(self.envelope)
    }

    /// The same attachment's side of a further ring of the queue: `self` is that of its first.
    #[cfg(not(loom))]
    pub fn beside(
        &self,
        memory: RingMemory,
        words: QueueWords,
        durable: Option<DurableWords>,
    ) -> Self {
        let memory = memory.chained_to(self.ring.memory());
        Self {
            ring: self.ring.beside(memory),
            words: words.chained_to(&self.words),
            clock: Arc::clone(&self.clock),
            is_fifo: self.is_fifo,
            is_plain: self.is_plain,
            envelope: self.envelope,
            dedup: None, // a FIFO queue has one ring
            durable: self.durable.as_ref().and_then(|first| Some(durable?.chained_to(first))),
            reads_ahead: self.reads_ahead,
        }
    }

    /// The ring below.
    #[inline(always)]
    pub fn ring(&self) -> &SlotRing {
        &self.ring
    }

    /// The words beside it.
    #[inline(always)]
    pub fn words(&self) -> &QueueWords {
        &self.words
    }

    #[inline(always)]
    fn lap_of(&self, position: u64) -> u64 {
        self.ring.memory.geometry().lap_of(position)
    }

    #[inline(always)]
    fn index_of(&self, position: u64) -> usize {
        self.ring.memory.geometry().slot_of(position)
    }

    /// The message in the slot of `at` (any position of it), whatever its own position is; `None`
    /// where there is none, or none any more.
    ///
    /// A header that is impossible, or that disagrees with `dlv`, was scribbled over: the slot is
    /// counted as damaged and becomes DONE, so that producers get it back.
    pub fn examine(&self, at: u64) -> Option<Standing<'_>> {
        let slot = self.ring.memory.slot(at);
        // Relaxed: what is done about the message is a CAS of exactly this word, and `ctl` proves
        // that it is the word of the header's position: a claim of that position would be of its
        // lap, so COMMITTED of that lap or a later one with that very header is its commit.
        let dlv = Dlv(slot.dlv().load(Ordering::Relaxed));
        let ctl = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        if ctl.state() != Ctl::COMMITTED || dlv.state() == Dlv::DONE {
            return None;
        }
        let position = slot.position().load(Ordering::Relaxed);
        let geometry = self.ring.memory.geometry();
        if geometry.is_plausible(position, at, ctl.lap())
            && dlv.agrees(position, geometry.lap_of(position))
            && (self.is_fifo || !dlv.is_settled())
        {
            return Some(Standing {
                position,
                dlv,
                slot,
            });
        }
        self.give_up_damaged(at, ctl, dlv);
        None
    }

    /// The message at exactly this position.
    #[inline(always)]
    fn examine_exactly(&self, position: u64) -> Option<Standing<'_>> {
        let slot = self.ring.memory.slot(position);
        let lap = self.lap_of(position);
        // As in `examine`: never renewed, and not consumed, is the common case.
        let dlv = Dlv(slot.dlv().load(Ordering::Relaxed));
        let ctl = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        if ctl.is_committed_at(lap) && slot.position().load(Ordering::Relaxed) == position {
            if dlv.state() == Dlv::DONE {
                return None;
            }
            let is_common = matches!(dlv.state(), Dlv::READY | Dlv::INFLIGHT);
            if is_common && dlv.agrees(position, lap) {
                return Some(Standing {
                    position,
                    dlv,
                    slot,
                });
            }
        }
        self.examine(position)
            .filter(|standing| standing.position == position)
    }

    #[cold]
    fn give_up_damaged(&self, at: u64, ctl: Ctl, dlv: Dlv) {
        let slot = self.ring.memory.slot(at);
        // Somebody may have claimed or committed between the loads: then a word has changed.
        fence_at(Label::ReadFence, Ordering::Acquire);
        if slot.ctl().load(Ordering::Relaxed) == ctl.0
            && slot
                .dlv()
                .compare_exchange(
                    dlv.0,
                    self.done_at(at, ctl.lap(), dlv).0,
                    order(Label::DoneStore, Ordering::Release),
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            self.ring.count(Counter::Damaged, 1);
        }
    }

    /// Adds to a counter of the queue. Off the hot path.
    #[cold]
    pub fn count(&self, counter: Total, n: u64) {
        #[cfg(not(loom))]
        self.words
            .counter(counter.offset())
            .fetch_add(n, Ordering::Relaxed /* a statistic; anyone adds */);
        #[cfg(loom)]
        let _ = (counter, n);
    }

    /// A counter of the queue.
    #[cfg(not(loom))]
    pub fn total(&self, counter: Total) -> u64 {
        self.words.counter(counter.offset()).load(Ordering::Relaxed)
    }
}

/// A total that anyone may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Messages sent.
    Sent,
    /// Leases given out, and messages consumed at once.
    Received,
    /// Messages deleted by receipt, or consumed at once.
    Deleted,
    /// Messages past their retention.
    Expired,
    /// Messages parked.
    Parked,
    /// Leases of the dead that were ended.
    Released,
    /// Messages purged.
    Purged,
    /// Messages moved to another queue.
    Moved,
    /// Messages that arrived from another queue.
    Arrived,
    /// Sends of an id that was sent already.
    Duplicates,
}

#[cfg(not(loom))]
impl Total {
    fn offset(self) -> usize {
        use crate::layout::queue::control;
        match self {
            Self::Sent => control::SENT,
            Self::Received => control::RECEIVED,
            Self::Deleted => control::DELETED,
            Self::Expired => control::EXPIRED,
            Self::Parked => control::PARKED,
            Self::Released => control::RELEASED,
            Self::Purged => control::PURGED,
            Self::Moved => control::MOVED,
            Self::Arrived => control::ARRIVED,
            Self::Duplicates => control::DUPLICATES,
        }
    }
}
