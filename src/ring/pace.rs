//! Keeping out of each other's cache lines: pauses that let the others run at full speed.
//!
//! Nothing here is needed for correctness, and nothing is waited for: each pause is bounded by a
//! count of spin-loop hints. The bounds are about 2 µs where a hint takes 65 cycles (AMD Zen 2 and
//! later), 4 µs at 140 (Intel Skylake and later).

/// A reader's longest distance.
const MOST_DISTANCE: u32 = 64;
/// Records are dense when there came one for so many pauses: at 10 million a second.
const PAUSES_A_RECORD: u64 = 4;
/// Single messages between two trials: a microsecond each makes no one in a hundred late.
const SINGLES_A_TRIAL: u32 = 256;
/// A producer's longest back-off.
const MOST_BACK_OFF: u32 = 128;
/// Positions for each pause of a back-off within which the next encounter counts as contention.
const POSITIONS_A_PAUSE: u64 = 4;

pub(super) fn pause(times: u32) {
    #[cfg(not(loom))] // where time does not pass
    for _ in 0..times {
        core::hint::spin_loop();
    }
    #[cfg(loom)]
    let _ = times;
}

/// The distance a reader keeps from producers in full flow.
///
/// A reader that looks at the end again and again pulls the line of each slot back while its
/// producer still writes it: both run at the pace of single cache misses. One that leaves the end
/// alone for a moment finds many records there, whose lines then travel side by side. So behind a
/// run of records the reader pauses before it says that there is no more: once for a single
/// record, twice as long with each run while records come densely; and not at all when it has
/// looked before and nothing has come.
#[derive(Debug, Default)]
pub struct Distance {
    pauses: u32,
    /// Where the end was when the reader came there last.
    end: u64,
    /// Records that came singly since the last trial.
    singles: u32,
}

/// How far ahead the lines of a run are asked for: what one takes to travel, in messages.
pub const AHEAD: u64 = 8;

impl Distance {
    /// The reader found the end at `next`.
    #[inline(always)]
    pub fn at_end(&mut self, next: u64) {
        if next == self.end {
            self.pauses = 0;
        } else {
            self.behind_a_run(next);
        }
    }

    /// The same for a receiver of a queue, who answers a single message at once. Messages that come
    /// singly and densely are told from a conversation by trying: once in so many the receiver
    /// pauses for long, and finds a run or nothing.
    #[inline(always)]
    pub fn at_end_of_run(&mut self, next: u64) {
        if next.wrapping_sub(self.end) > 1 {
            self.behind_a_run(next);
        } else {
            self.singles += u32::from(next != self.end);
            (self.end, self.pauses) = (next, 0);
            if self.singles >= SINGLES_A_TRIAL {
                self.singles = 0;
                self.pauses = MOST_DISTANCE / 2;
                pause(self.pauses);
            }
        }
    }

    /// Whether the end was at `next` already when the reader came there last.
    #[inline(always)]
    pub fn is_still_at(&self, next: u64) -> bool {
        self.end == next
    }

    /// Whether a reader at `next` is well behind the last end: what follows is likely written, and
    /// asking for it takes no line away from who writes it.
    #[inline(always)]
    pub fn is_in_a_run(&self, next: u64) -> bool {
        next.wrapping_sub(self.end) >= AHEAD
    }

    #[cold]
    #[inline(never)]
    fn behind_a_run(&mut self, next: u64) {
        let records = next.wrapping_sub(self.end); // of a reader that went back: many
        self.end = next;
        self.pauses = if records.saturating_mul(PAUSES_A_RECORD) > u64::from(self.pauses) {
            (self.pauses * 2).clamp(1, MOST_DISTANCE)
        } else {
            self.pauses / 2
        };
        pause(self.pauses);
    }
}

/// How a producer makes way for the others of a shared ring.
///
/// Two producers that claim position by position meet at each: whoever comes second pulls the line
/// of a slot away from the first, who still writes it. A producer that leaves the tail alone for a
/// moment lets the other append a run at its full speed, and then has one of its own. It pauses
/// once where it meets another, and longer the sooner they meet again.
#[derive(Debug, Default)]
pub struct Contention {
    pauses: u32,
    /// Where another was met last.
    last: u64,
}

impl Contention {
    /// Another producer was quicker, just below `next`.
    #[cold]
    pub fn met(&mut self, next: u64) {
        let since = next.wrapping_sub(self.last);
        self.last = next;
        self.pauses = if since <= POSITIONS_A_PAUSE * u64::from(self.pauses + 1) {
            (self.pauses * 2).clamp(1, MOST_BACK_OFF)
        } else {
            self.pauses / 2
        };
        pause(self.pauses);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_distance_grows_with_dense_runs_and_ends_with_an_empty_look() {
        let mut distance = Distance::default();
        let mut next = 0;
        for expected in [1, 2, 4, 8, 16, 32, 64, 64] {
            next += 200;
            distance.at_end(next);
            assert_eq!(distance.pauses, expected);
        }
        distance.at_end(next);
        assert_eq!(distance.pauses, 0);
    }

    #[test]
    fn a_receiver_answers_single_messages_at_once_and_keeps_a_distance_behind_runs() {
        let mut distance = Distance::default();
        let mut next = 1000;
        distance.at_end_of_run(next);
        let mut trials = 0;
        for _ in 0..3 * SINGLES_A_TRIAL {
            next += 1;
            distance.at_end_of_run(next);
            trials += u32::from(distance.pauses > 0);
            distance.at_end_of_run(next);
            assert_eq!(distance.pauses, 0);
        }
        assert_eq!(trials, 3);
        for expected in [1, 2, 4, 8] {
            next += 100;
            distance.at_end_of_run(next);
            assert_eq!(distance.pauses, expected);
        }
        distance.at_end_of_run(next);
        assert_eq!(distance.pauses, 0);
    }

    #[test]
    fn single_records_keep_it_short() {
        let mut distance = Distance::default();
        for next in 1..1000 {
            distance.at_end(next);
            assert!(distance.pauses <= 4, "{} pauses", distance.pauses);
        }
    }

    #[test]
    fn the_distance_does_not_outgrow_its_bound_behind_a_seek_back() {
        let mut distance = Distance::default();
        for next in (0..100).rev() {
            distance.at_end(next * 1000);
            assert!(distance.pauses <= MOST_DISTANCE);
        }
    }

    #[test]
    fn a_producer_backs_off_from_another_that_it_meets_again_and_again() {
        let mut contention = Contention::default();
        let mut next = 1000;
        contention.met(next);
        assert_eq!(contention.pauses, 0, "the first encounter says nothing");
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 128] {
            next += 3;
            contention.met(next);
            assert_eq!(contention.pauses, expected);
        }
        for expected in [64, 32, 16, 8, 4, 2, 1, 0, 0] {
            next += 1000;
            contention.met(next);
            assert_eq!(contention.pauses, expected);
        }
    }
}
