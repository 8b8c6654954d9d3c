//! The words of an append-only log: where a record begins, whose it is, and whether it counts.
//!
//! States: 0 (none yet) → CLAIMED(owner, length) → COMMITTED; CLAIMED of a dead owner → VOID. The CAS that
//! claims names owner and length, so whoever comes next finds the place behind it, whatever becomes of the
//! owner; the bytes of a log are used once, so no word repeats and a late CAS fails. `word` gives the word at
//! an offset, or `None` behind the end of what is there.

use crate::layout::topic::{MAX_RECORD, RECORD_HEAD, RecordWord};
use crate::sync::{AtomicU64, Label, Ordering, order};

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It stands at this offset.
    At(usize),
    /// The log ends too early for it; it would begin here.
    NoRoom(usize),
    /// The word here has no length that a record has.
    Corrupt(usize),
}

/// What a look at a record found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It counts, and its bytes are there.
    Committed,
    /// Its owner lives: look again another time.
    Pending,
    /// It never will count.
    Void,
    /// That is no record's word.
    Damaged,
}

/// The word of a record.
#[inline]
pub fn look(word: &AtomicU64) -> RecordWord {
    RecordWord(word.load(order(Label::RecordLoad, Ordering::Acquire)))
}

/// Whether a record may have that length.
pub fn has_length(word: RecordWord) -> bool {
    (RECORD_HEAD..=MAX_RECORD).contains(&word.bytes())
}

/// Claims the first free place from `from` on, which is where a record begins. Never waits.
pub fn claim<'a>(
    word: impl Fn(usize) -> Option<&'a AtomicU64>,
    from: usize,
    claimed: RecordWord,
) -> Claimed {
    let mut at = from;
    loop {
        // With the word of the record behind it.
        let (Some(slot), Some(_)) = (word(at), word(at + claimed.bytes())) else {
            return Claimed::NoRoom(at);
        };
        // Relaxed: of others' records only their length matters here, which is in the word.
        let seen = RecordWord(slot.load(Ordering::Relaxed));
        if seen.0 != 0 {
            if !has_length(seen) {
                return Claimed::Corrupt(at);
            }
            at += seen.bytes();
            continue;
        }
        // Relaxed: nothing was written yet that somebody could look for.
        let taken = slot.compare_exchange(0, claimed.0, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_ok() {
            return Claimed::At(at);
        }
    }
}

/// Makes the claimed record count. Whether it does: not where somebody took its owner for dead.
pub fn commit(word: &AtomicU64, claimed: RecordWord) -> bool {
    let committed = claimed.with_state(RecordWord::COMMITTED);
    let release = order(Label::RecordCommit, Ordering::Release);
    let swapped = word.compare_exchange(claimed.0, committed.0, release, Ordering::Relaxed);
    swapped.is_ok()
}

/// What a record is whose word was `seen`; a claim of a dead owner becomes VOID.
pub fn settle(word: &AtomicU64, seen: RecordWord, is_dead: impl Fn(u16) -> bool) -> Settled {
    match seen.state() {
        RecordWord::COMMITTED => Settled::Committed,
        RecordWord::CLAIMED if !is_dead(seen.owner()) => Settled::Pending,
        RecordWord::CLAIMED => {
            let void = seen.with_state(RecordWord::VOID);
            let swapped =
                word.compare_exchange(seen.0, void.0, Ordering::Relaxed, Ordering::Relaxed);
            // Lost: it was committed before its owner died, or is VOID by now. Another look tells.
            match swapped {
                Ok(_) => Settled::Void,
                Err(_) => Settled::Pending,
            }
        }
        RecordWord::VOID => Settled::Void,
        _ => Settled::Damaged,
    }
}
