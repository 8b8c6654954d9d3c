//! Standing entries: who reads for a group (`lease`), and how far it has come (`checkpoint`).
//!
//! ```text
//! lease       FREE(t) → HELD(worker, t+1) → FREE(t+2) …        by CAS; t is the fencing token
//! checkpoint  (t, position)                                     by CAS, by whoever has token t
//! ```
//! Who takes the lease with token t then stamps the checkpoint with t: from there on a CAS by the worker
//! before fails, whenever it wakes up. A checkpoint between the two still counts, and the new worker begins
//! behind it. The cursor is derived: it follows the checkpoint and is never above it.

use crate::layout::word::{Checkpoint, Lease};
use crate::shm::ring::ReaderWords;
use crate::sync::{Label, Ordering, order};

/// Takes the lease that was seen to be free, or to be held by who is dead or stopped; `None` when another
/// was faster.
pub fn take(words: &ReaderWords<'_>, seen: Lease, member: u16) -> Option<Lease> {
    let mine = seen.taken(member);
    let swapped = words.lease.compare_exchange(
        seen.0,
        mine.0,
        order(Label::RoleTake, Ordering::AcqRel),
        Ordering::Relaxed, // another worker was faster
    );
    swapped.is_ok().then_some(mine)
}

/// Stamps the checkpoint with the token of `lease`; where it stands. `None` when the lease passed on.
pub fn fence(words: &ReaderWords<'_>, lease: Lease) -> Option<Checkpoint> {
    loop {
        let seen = Checkpoint(
            words
                .checkpoint
                .load(order(Label::RoleTake, Ordering::Acquire)),
        );
        if words.lease.load(order(Label::RoleTake, Ordering::Acquire)) != lease.0 {
            return None;
        }
        let stamped = seen.fenced(lease.token());
        let swapped = words.checkpoint.compare_exchange(
            seen.0,
            stamped.0,
            order(Label::RoleTake, Ordering::AcqRel),
            Ordering::Relaxed, // looks again
        );
        if swapped.is_ok() {
            return Some(stamped);
        }
    }
}

/// Moves the checkpoint to `position`, by the token of `lease`. Whether it still is its.
pub fn advance(words: &ReaderWords<'_>, lease: Lease, position: u64) -> bool {
    loop {
        let seen = Checkpoint(
            words
                .checkpoint
                .load(order(Label::RoleTake, Ordering::Acquire)),
        );
        if !seen.is_of(lease.token()) {
            return false;
        }
        let moved = Checkpoint::new(lease.token(), position);
        let swapped = words.checkpoint.compare_exchange(
            seen.0,
            moved.0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed, // looks again
        );
        if swapped.is_ok() {
            // Everything that was read through it comes before. Not above the checkpoint, and nothing
            // of a group that was removed.
            words
                .cursor
                .fetch_max(position, order(Label::CursorStore, Ordering::Release));
            return true;
        }
    }
}
