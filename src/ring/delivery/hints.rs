//! Hints: positions of messages of a FIFO queue that may be taken now, first in, first out.
//!
//! Whoever makes a message takeable gives a hint, whoever receives takes one and looks for itself. So
//! groups come in turn: the next message of a group that has just been served queues up behind all
//! others that wait. A hint is no fact: it may be lost with who took it, given twice, or be wrong; the
//! rolling sweep gives those that are missing.
//!
//! ```text
//! give   cell[given]: CAS 0 → position + 1,  then CAS given + 1
//! take   cell[taken]: CAS position + 1 → 0,  then CAS taken + 1
//! ```
//! The second step of either is done by whoever comes next if its owner does not. A full ring of hints
//! takes no more.

use super::Delivery;
use crate::sync::{Label, Ordering, order};

/// Attempts to give one: each that fails was another's success.
const TRIES: usize = 64;

impl Delivery {
    /// Hints at a message and wakes who waits for one.
    pub fn give_hint(&self, position: u64) {
        self.put_hint(position);
        self.ring.wake_behind_commit();
    }

    fn put_hint(&self, position: u64) {
        let words = &self.words;
        for _ in 0..TRIES {
            // Relaxed: whoever is wrong about the two counts fails, or misplaces a hint.
            let given = words.hints_given().load(Ordering::Relaxed);
            let taken = words.hints_taken().load(Ordering::Relaxed);
            if given.wrapping_sub(taken) >= words.hint_count() {
                return;
            }
            let release = order(Label::HintStore, Ordering::Release);
            let acquire = order(Label::HintLoad, Ordering::Acquire);
            let put = words.hint(given).compare_exchange(
                0,
                position.wrapping_add(1),
                release,
                acquire, // the count that moves on below speaks for that one
            );
            let next = given.wrapping_add(1);
            let moved = words
                .hints_given()
                .compare_exchange(given, next, release, Ordering::Relaxed)
                .is_ok();
            // This thread may have slept while others came round: then who takes is past the cell.
            let is_late = !moved
                && words
                    .hints_taken()
                    .load(Ordering::Relaxed)
                    .wrapping_sub(next)
                    < u64::MAX / 2;
            if put.is_ok() && !is_late {
                return;
            }
        }
    }

    /// Takes the oldest hint.
    #[inline]
    pub(super) fn take_hint(&self) -> Option<u64> {
        let words = &self.words;
        let acquire = order(Label::HintLoad, Ordering::Acquire);
        for _ in 0..=words.hint_count() {
            // Acquire: a cell below this is not seen empty for being too early.
            let given = words.hints_given().load(acquire);
            let taken = words.hints_taken().load(Ordering::Relaxed);
            if given == taken {
                return None;
            }
            let next = if given.wrapping_sub(taken) > words.hint_count() {
                given.wrapping_sub(words.hint_count()) // impossible, so scribbled: mended
            } else {
                taken.wrapping_add(1)
            };
            let cell = words.hint(taken);
            let seen = cell.load(Ordering::Relaxed);
            let is_mine = seen != 0
                && cell
                    .compare_exchange(seen, 0, acquire, Ordering::Relaxed)
                    .is_ok();
            let _ = words.hints_taken().compare_exchange(
                taken,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if is_mine {
                return Some(seen.wrapping_sub(1));
            }
        }
        None
    }

    /// Whether there is much room for hints: a sweep, which gives many twice, leaves the rest of it to
    /// those who give each once.
    pub(super) fn wants_hints(&self) -> bool {
        let given = self.words.hints_given().load(Ordering::Relaxed);
        let taken = self.words.hints_taken().load(Ordering::Relaxed);
        given.wrapping_sub(taken) < self.words.hint_count() / 4 * 3
    }
}
