//! L3: the slot ring. Claim, commit, read, reclaim, wait; no policy beyond overflow, no disk, no
//! payload pool (a [`Tenant`] is told when a record leaves).
//!
//! # States of a slot and who moves it
//! ```text
//!            claim (CAS, any producer)          commit (CAS, owner)
//!   VOID(l) ───────────────▶ CLAIMED(me,L) ───────────────▶ COMMITTED(me,L)
//!     ▲  ▲                    │        │                        │  │
//!     │  └────────────────────┘        │ abandon (CAS, a         │  │ renew (CAS lap := L, a producer
//!     │     owner proven dead          │ producer one lap later, │  │ that finds it pinned)
//!     │                                ▼ or a reader after       │  └─▶ COMMITTED(me,L')
//!     │                          HELD(owner,L) stall_timeout)    │
//!     └──────────────────────────────┘  └─▶ HELD(owner,L')       └─▶ CLAIMED(other,L') when free
//!       acknowledge (owner after its last store) or owner proven dead
//! ```
//! Laps only grow. `lap(w) >= lap(p)` forbids position p for ever, so a late CAS fails.
//!
//! # What each crash point leaves
//! - before the claim: nothing. Behind the claim, before commit: CLAIMED(dead), voided by the next
//!   one who meets it (reader after 50 µs, producer one lap later, reaper). No reader saw it.
//! - behind commit: a record; perhaps a missing tail hint (checked before use) or a missing wake
//!   (every sleep is bounded).
//! - while advancing `trim`/`reclaim`: `trim` ahead of `reclaim`, which the next producer mends.
//! - a reader: its entry with cursor and pins, freed by one CAS of its word.

pub mod claim;
pub mod commit;
pub mod delivery;
pub mod exclusive;
pub mod pace;
pub mod persister;
pub mod read;
pub mod reclaim;
pub mod restore;
pub mod seat;
pub mod standing;
pub mod sweep;
pub mod tail;
pub mod touch;
pub mod wait;

use crate::shm::durable::DurableWords;
use crate::shm::ring::RingMemory;
use std::sync::Arc;

/// Tells the living from the dead. Dead is a kernel fact; it is asked for each time and never
/// cached.
pub trait Liveness: Send + Sync {
    /// Whether participant `owner` is proven dead.
    fn is_dead(&self, owner: u16) -> bool;
}

/// Is told when a record with a payload elsewhere leaves the ring, before its slot is reused.
pub trait Tenant {
    /// The record at `position` whose body began with `body` is gone for ever. May be told twice.
    fn vacated(&mut self, position: u64, body: [u8; 24]);
}

/// What a full ring does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Refuses the new record until every reliable reader has passed the oldest.
    Refuse,
    /// Drops the oldest records; readers are told what they missed.
    DropOldest,
}

/// Who may append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producers {
    /// Any number of producers, each append claims its slot by CAS.
    Shared,
    /// One producer at a time, by plain stores.
    Exclusive,
}

/// A counter of the ring that anyone may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Claims of live owners that were abandoned.
    Abandoned,
    /// Claims of dead owners that were voided.
    Voided,
    /// Records renewed in place.
    Renewed,
    /// Slots with an impossible header.
    Damaged,
    /// Records dropped by a ring that drops its oldest.
    Dropped,
}

/// One attachment's side of a ring. Handles keep a clone each, so that what the hot path needs
/// lies in their own memory.
#[derive(Clone)]
pub struct SlotRing {
    memory: RingMemory,
    liveness: Arc<dyn Liveness>,
    me: u16,
    producers: Producers,
    overflow: Overflow,
    stall_timeout_ns: u64,
    /// Of a ring behind which a journal is written, and whose claims go by it.
    durable: Option<DurableWords>,
}

impl SlotRing {
    /// Joins memory, liveness and the participant slot this attachment owns.
    pub fn new(
        memory: RingMemory,
        liveness: Arc<dyn Liveness>,
        me: u16,
        producers: Producers,
        overflow: Overflow,
        stall_timeout_ns: u64,
    ) -> Self {
        Self { memory, liveness, me, producers, overflow, stall_timeout_ns, durable: None }
    }

    /// The same ring with a journal behind it: no slot is used again, and no payload given back, before
    /// the journal has passed it. (Queues have a claim table of their own, and ask themselves.)
    pub fn with_journal(self, durable: DurableWords) -> Self {
        Self { durable: Some(durable), ..self }
    }

    /// Everything below is in the journal, if there is one.
    fn copied_below(&self) -> u64 {
        self.durable.as_ref().map_or(u64::MAX, DurableWords::copied_below)
    }

    /// The same attachment's side of another ring of its chain.
    pub fn beside(&self, memory: RingMemory) -> Self {
        Self {
            memory,
            liveness: Arc::clone(&self.liveness),
            durable: self.durable.clone(),
            ..*self
        }
    }

    /// The shared words.
    #[inline(always)]
    pub fn memory(&self) -> &RingMemory {
        &self.memory
    }

    /// This attachment's participant slot.
    pub fn me(&self) -> u16 {
        self.me
    }

    /// Who may append.
    #[inline(always)]
    pub fn producers(&self) -> Producers {
        self.producers
    }

    /// What a full ring does.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// After this many nanoseconds a live owner's claim is abandoned.
    pub fn stall_timeout_ns(&self) -> u64 {
        self.stall_timeout_ns
    }

    /// Whether participant `owner` is proven dead. Owner 0, nobody, never lived and counts as dead.
    pub fn is_dead(&self, owner: u16) -> bool {
        owner == 0 || (owner != self.me && self.liveness.is_dead(owner))
    }

    /// Adds to a counter. Off the hot path.
    #[cold]
    pub fn count(&self, counter: Counter, n: u64) {
        #[cfg(not(loom))]
        self.memory
            .counter(counter.offset())
            .fetch_add(n, crate::sync::Ordering::Relaxed /* a statistic; anyone adds */);
        #[cfg(loom)]
        let _ = (counter, n);
    }
}

#[cfg(not(loom))]
impl Counter {
    /// Where it lies.
    pub fn offset(self) -> usize {
        use crate::layout::ring::control;
        match self {
            Self::Abandoned => control::ABANDONED,
            Self::Voided => control::VOIDED,
            Self::Renewed => control::RENEWED,
            Self::Damaged => control::DAMAGED,
            Self::Dropped => control::DROPPED,
        }
    }
}
