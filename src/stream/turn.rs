//! One thread of a process changes streams at a time: a participant has one place for its wish, however often
//! it has opened the stream.
//!
//! A lock that a fork opens: the child's copy may be held by a thread that the child has not got, so the word
//! names the fork generation of its holder, and one of another generation is nobody's.

use crate::sys::clock;
use crate::sys::fork;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 0: nobody's; else one more than the generation of who has it.
static TURN: AtomicU64 = AtomicU64::new(0);
/// Between two looks of who waits. A change takes as long as making two files.
const PAUSE: Duration = Duration::from_micros(50);

/// Gives the turn back when it is dropped.
pub(super) struct Turn(u64);

/// Waits for its turn. Blocks as long as another thread of this process makes a change.
pub(super) fn take() -> Turn {
    let mine = fork::generation() + 1;
    loop {
        let seen = TURN.load(Ordering::Relaxed);
        // Acquire: pairs with `drop`.
        if seen != mine
            && TURN
                .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        {
            return Turn(mine);
        }
        clock::pause(PAUSE);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Release: pairs with `take`. In a child it is not this one's to give back.
        let _ = TURN.compare_exchange(self.0, 0, Ordering::Release, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_turn_of_a_thread_that_a_fork_left_behind_is_taken() {
        let left = take();
        let mine = left.0;
        // What the child finds: the word of its parent's generation, and its own is another.
        TURN.store(mine + 1, Ordering::Relaxed);
        let taken = take();
        assert_eq!(TURN.load(Ordering::Relaxed), mine);
        drop(taken);
        assert_eq!(TURN.load(Ordering::Relaxed), 0);
        drop(left);
    }
}
