//! An open claim in a receiver's way: how long it has stood, whoever met it first.
//!
//! Its sender commits it within a microsecond, or is stopped, or dead: then it is voided or abandoned as in every
//! ring, by who waited long enough.

use crate::layout::word::Ctl;
use crate::sync::Ordering;
use super::Delivery;

/// What waits has waited at least since the millisecond before.
const NS_PER_MS: u64 = 1_000_000;

/// An open claim: its position, its word, and when it was met.
#[derive(Clone, Copy)]
pub struct Open {
    pub(super) position: u64,
    word: Ctl,
    since: u64,
}

impl Open {
    /// Met now.
    pub fn new(position: u64, word: Ctl, now: u64) -> Self {
        Self {
            position,
            word,
            since: now,
        }
    }

    /// The same as noted in the queue, for who comes later ([`Delivery::met_before`]).
    fn note(&self) -> u64 {
        (self.position.wrapping_add(1) << 32) | u64::from(self.since as u32)
    }

    /// Whether the other is the same claim, whenever it was met.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.position, self.word) == (other.position, other.word)
    }
}

impl Delivery {
    /// An open claim at the link cursor is left by a receiver that goes away.
    pub(super) fn leave_open(&self, open: &Open) {
        // Relaxed: a hint.
        self.words.open().store(open.note(), Ordering::Relaxed);
    }

    /// A claim that was met now, as of when a receiver met it that has gone away since: whoever comes and
    /// goes waits for a stopped sender no longer than who stays. A wrong note ends a claim early,
    /// and its sender sends again.
    pub(super) fn met_before(&self, met: Open) -> Open {
        let noted = self.words.open().load(Ordering::Relaxed);
        let ago = (met.since as u32).wrapping_sub(noted as u32);
        if noted == 0 || noted >> 32 != met.note() >> 32 || ago > u32::MAX / 2 {
            return met;
        }
        Open {
            since: met.since.saturating_sub(ago.into()),
            ..met
        }
    }

    /// Whether an open claim is out of the way: committed, given up, or resolved here.
    pub(super) fn is_resolved(&self, open: &Open, now: u64) -> bool {
        let waited = now.saturating_sub(open.since) * NS_PER_MS;
        self.ring.resolve(open.position, open.word, waited)
    }
}
