//! The words of the registry: transitions of a participant word and of a role word.
//!
//! Pure functions of the word and of a probe, for the registry and for its model. The probe says
//! whether a participant's lock byte is held; it is asked behind the load of the word it guards and
//! before the CAS of exactly that word, and its answer is never kept.

use crate::layout::word::{Participant, Role};
use crate::sync::{AtomicU64, Label, Ordering, order};

/// The word now. From a FREE that was seen here, everything the predecessor left is swept.
pub fn load(word: &AtomicU64) -> Participant {
    Participant(word.load(order(Label::JoinCas, Ordering::Acquire)))
}

/// FREE(g) → ALIVE(g), by who holds the lock byte. The generation, if the word was FREE.
pub fn join(word: &AtomicU64) -> Option<u64> {
    let seen = load(word);
    if seen.state() != Participant::FREE {
        return None;
    }
    let alive = Participant::new(Participant::ALIVE, 0, seen.generation());
    word.compare_exchange(
        seen.0,
        alive.0,
        order(Label::JoinCas, Ordering::AcqRel),
        Ordering::Relaxed,
    )
    .ok()
    .map(|_| seen.generation())
}

/// Whether the participant of this word is proven dead.
///
/// The word is looked at on both sides of the probe: an entry that was freed and joined again in
/// between is another participant. FREE with the lock byte free counts as dead: everything of the
/// old owner is swept, so a word that still names it is older than that, and a CAS of exactly it
/// fails. FREE with the byte held is a joiner, or a scribbled word: alive.
pub fn is_dead(word: &AtomicU64, holds_lock: impl Fn() -> bool) -> bool {
    let before = load(word);
    !holds_lock() && load(word) == before
}

/// Begins to reap `slot`: ALIVE, or REAPING of a dead reaper or of `me`, → REAPING(me). `None` when
/// it is not dead, or somebody else's. The generation otherwise.
pub fn begin_reap(
    word: &AtomicU64,
    slot: u16,
    me: u16,
    holds_lock: impl Fn(u16) -> bool,
) -> Option<u64> {
    let seen = load(word);
    let abandoned = match seen.state() {
        Participant::ALIVE => true,
        Participant::REAPING => seen.owner() == me || !holds_lock(seen.owner()),
        _ => false,
    };
    if !abandoned || holds_lock(slot) {
        return None;
    }
    word.compare_exchange(
        seen.0,
        Participant::new(Participant::REAPING, me, seen.generation()).0,
        order(Label::JoinCas, Ordering::AcqRel),
        Ordering::Relaxed,
    )
    .ok()
    .map(|_| seen.generation())
}

/// The sweep is done: REAPING(me, g) → FREE(g+1).
pub fn end_reap(word: &AtomicU64, me: u16, generation: u64) -> bool {
    free(word, Participant::new(Participant::REAPING, me, generation))
}

/// The owner has swept up after itself: ALIVE(g) → FREE(g+1).
pub fn leave(word: &AtomicU64, generation: u64) -> bool {
    free(word, Participant::new(Participant::ALIVE, 0, generation))
}

fn free(word: &AtomicU64, from: Participant) -> bool {
    word.compare_exchange(
        from.0,
        Participant::new(Participant::FREE, 0, from.generation().wrapping_add(1)).0,
        order(Label::ReapStore, Ordering::Release),
        Ordering::Relaxed,
    )
    .is_ok()
}

/// Takes a role word from nobody or from the proven dead.
///
/// # Errors
/// The participant that holds it.
pub fn take_role(word: &AtomicU64, me: u16, holds_lock: impl Fn(u16) -> bool) -> Result<(), u16> {
    loop {
        let seen = Role(word.load(order(Label::RoleTake, Ordering::Acquire)));
        if seen.owner() != 0 && (seen.owner() == me || holds_lock(seen.owner())) {
            return Err(seen.owner());
        }
        if word
            .compare_exchange(
                seen.0,
                seen.taken(1, me).0,
                order(Label::RoleTake, Ordering::Acquire),
                Ordering::Relaxed,
            )
            .is_ok()
        {
            return Ok(());
        }
    }
}

/// Gives a role back, if `owner` holds it.
pub fn release_role(word: &AtomicU64, owner: u16) -> bool {
    let seen = Role(word.load(Ordering::Relaxed)); // only its holder, or who reaps it, changes it
    seen.owner() == owner
        && owner != 0
        && word
            .compare_exchange(
                seen.0,
                seen.released().0,
                order(Label::RoleRelease, Ordering::Release),
                Ordering::Relaxed,
            )
            .is_ok()
}
