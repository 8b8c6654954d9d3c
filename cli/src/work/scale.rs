//! How many workers there shall be: the target tracking of an auto-scaling group, on one host.
//!
//! The backlog asks for a number of workers. More are started when the fewest that it asked for
//! during the whole of `up_after` are more than there are, and some are stopped when the most that it
//! asked for during the whole of `down_after` are fewer: a short burst or lull changes nothing. Time
//! comes in as a parameter.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

pub struct Scaler {
    bounds: RangeInclusive<usize>,
    per_worker: u64,
    up_after: Duration,
    down_after: Duration,
    /// What was asked for, from when on; the last lasts until now.
    asked: VecDeque<(Duration, usize)>,
    workers: usize,
}

impl Scaler {
    pub fn new(
        bounds: RangeInclusive<usize>,
        per_worker: u64,
        up_after: Duration,
        down_after: Duration,
    ) -> Self {
        let workers = *bounds.start();
        Self {
            bounds,
            per_worker,
            up_after,
            down_after,
            asked: VecDeque::from([(Duration::ZERO, workers)]),
            workers,
        }
    }

    /// The number of workers from `now` on, when `backlog` messages wait or are worked on.
    pub fn decide(&mut self, now: Duration, backlog: u64) -> usize {
        let (least, most) = (*self.bounds.start(), *self.bounds.end());
        let asked = backlog.div_ceil(self.per_worker).min(most as u64) as usize;
        let asked = asked.max(least);
        if self.asked.back().is_none_or(|(_, last)| *last != asked) {
            self.asked.push_back((now, asked));
        }
        // Behind a second one that stood already when anybody begins to look, the first is never seen.
        if let Some(oldest) = now.checked_sub(self.up_after.max(self.down_after)) {
            while self.asked.get(1).is_some_and(|(from, _)| *from <= oldest) {
                self.asked.pop_front();
            }
        }
        let lowest = self.during(now, self.up_after).min().unwrap_or(asked);
        let highest = self.during(now, self.down_after).max().unwrap_or(asked);
        self.workers = self.workers.clamp(lowest, highest);
        self.workers
    }

    /// What was asked for at any time of the last `window`; in front of the start, the fewest.
    fn during(&self, now: Duration, window: Duration) -> impl Iterator<Item = usize> {
        let since = now.checked_sub(window);
        let ends = self.asked.iter().skip(1).map(|(from, _)| *from);
        let ends = ends.chain([Duration::MAX]);
        let runs = self.asked.iter().zip(ends);
        runs.filter_map(move |((_, asked), end)| {
            since.is_none_or(|since| end > since).then_some(*asked)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn scaler() -> Scaler {
        Scaler::new(1..=8, 10, at(1000), at(30_000))
    }

    #[test]
    fn a_backlog_that_stands_brings_workers_and_its_end_takes_them_away() {
        let mut scaler = scaler();
        assert_eq!(scaler.decide(at(0), 35), 1);
        assert_eq!(scaler.decide(at(999), 35), 1);
        assert_eq!(scaler.decide(at(1000), 35), 4);
        assert_eq!(scaler.decide(at(2000), 0), 4);
        assert_eq!(scaler.decide(at(31_999), 0), 4);
        assert_eq!(scaler.decide(at(32_000), 0), 1);
    }

    #[test]
    fn a_burst_and_a_lull_change_nothing() {
        let mut scaler = scaler();
        scaler.decide(at(0), 80);
        assert_eq!(scaler.decide(at(900), 0), 1);
        assert_eq!(scaler.decide(at(1500), 80), 1);
        assert_eq!(scaler.decide(at(2500), 80), 8);
        scaler.decide(at(3000), 0);
        scaler.decide(at(30_000), 80);
        assert_eq!(scaler.decide(at(40_000), 0), 8);
        assert_eq!(scaler.decide(at(69_999), 0), 8);
        assert_eq!(scaler.decide(at(70_000), 0), 1);
    }

    #[test]
    fn it_goes_as_far_as_was_asked_for_all_the_time_and_never_beyond_its_bounds() {
        let mut scaler = scaler();
        scaler.decide(at(0), 1_000_000);
        scaler.decide(at(500), 21);
        assert_eq!(scaler.decide(at(1000), u64::MAX), 3);
        assert_eq!(scaler.decide(at(2000), u64::MAX), 8);
        scaler.decide(at(3000), 0);
        scaler.decide(at(20_000), 25);
        assert_eq!(scaler.decide(at(33_000), 0), 3);
        assert_eq!(scaler.decide(at(63_000), 0), 1);
    }

    #[test]
    fn without_cool_downs_it_follows_at_once() {
        let mut scaler = Scaler::new(0..=3, 1, at(0), at(0));
        for (ms, backlog, workers) in [(0, 2, 2), (1, 9, 3), (2, 0, 0), (3, 1, 1)] {
            assert_eq!(scaler.decide(at(ms), backlog), workers);
        }
    }
}
