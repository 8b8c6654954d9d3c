//! The transitions of a chunk word. Pure functions of the word and of the address (ring and
//! position) beside it, for the pool and its model.

use crate::layout::word::Chunk;
use crate::sync::{AtomicU64, Label, Ordering, fence_at, order};

/// FREE → OWNED(me). The version, if it was free.
pub fn take(word: &AtomicU64, me: u16) -> Option<u64> {
    let seen = Chunk(word.load(Ordering::Relaxed)); // the CAS decides
    if seen.state() != Chunk::FREE {
        return None;
    }
    word.compare_exchange(
        seen.0,
        Chunk::new(Chunk::OWNED, me, seen.version()).0,
        order(Label::ChunkTake, Ordering::Acquire),
        Ordering::Relaxed,
    )
    .ok()?;
    // A reader that copies without a pin sees the new version with any byte stored from here on.
    fence_at(Label::ChunkFence, Ordering::Release);
    Some(seen.version())
}

/// OWNED(me, version) → ATTACHED(version). `false` when a consumer has freed it already.
pub fn attach(word: &AtomicU64, me: u16, version: u64) -> bool {
    word.compare_exchange(
        Chunk::new(Chunk::OWNED, me, version).0,
        Chunk::new(Chunk::ATTACHED, 0, version).0,
        order(Label::ChunkAttach, Ordering::Release),
        Ordering::Relaxed,
    )
    .is_ok()
}

/// OWNED(anyone) or ATTACHED of exactly `version` → FREE(version+1). Whether this call did it.
pub fn free(word: &AtomicU64, version: u64) -> bool {
    leave(
        word,
        version,
        Chunk::new(Chunk::FREE, 0, version.wrapping_add(1)),
    )
}

/// ATTACHED or OWNED(anyone) of exactly `version` → OWNED(me, version+1).
pub fn recycle(word: &AtomicU64, version: u64, me: u16) -> bool {
    let recycled = leave(
        word,
        version,
        Chunk::new(Chunk::OWNED, me, version.wrapping_add(1)),
    );
    if recycled {
        fence_at(Label::ChunkFence, Ordering::Release); // as in `take`
    }
    recycled
}

fn leave(word: &AtomicU64, version: u64, to: Chunk) -> bool {
    loop {
        let seen = Chunk(word.load(Ordering::Relaxed)); // the CAS decides
        if seen.state() == Chunk::FREE || seen.version() != version {
            return false;
        }
        // At most one retry in practice: OWNED → ATTACHED of the same version.
        if word
            .compare_exchange(
                seen.0,
                to.0,
                order(Label::ChunkFree, Ordering::AcqRel),
                Ordering::Relaxed,
            )
            .is_ok()
        {
            return true;
        }
    }
}

/// OWNED(dead, version) → ATTACHED: a committed record names it.
pub fn adopt(word: &AtomicU64, seen: Chunk) -> bool {
    word.compare_exchange(
        seen.0,
        Chunk::new(Chunk::ATTACHED, 0, seen.version()).0,
        order(Label::ChunkFree, Ordering::AcqRel),
        Ordering::Relaxed,
    )
    .is_ok()
}

/// What a sweep did with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Not wanted, rightly held, or somebody was faster.
    Kept,
    /// A committed record names it: ATTACHED for its dead sender.
    Adopted,
    /// Nothing names it: freed.
    Freed,
}

/// Settles one chunk of a sweep, if its word is `wanted`. `is_named(ring, position, version)` says
/// whether a committed record names it.
pub fn settle(
    word: &AtomicU64,
    ring: &AtomicU64,
    position: &AtomicU64,
    wanted: impl Fn(Chunk) -> bool,
    is_named: impl FnOnce(u64, u64, u64) -> bool,
) -> Settled {
    let seen = Chunk(word.load(order(Label::SweepLoad, Ordering::Acquire)));
    if !wanted(seen) {
        return Settled::Kept;
    }
    let ring = ring.load(Ordering::Relaxed);
    let position = position.load(Ordering::Relaxed);
    if is_named(ring, position, seen.version()) {
        if seen.state() == Chunk::OWNED && adopt(word, seen) {
            return Settled::Adopted;
        }
    } else if free(word, seen.version()) {
        return Settled::Freed;
    }
    Settled::Kept
}
