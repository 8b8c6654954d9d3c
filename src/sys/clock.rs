//! Clocks. None of these is read on the hot path: `now` costs 26 ns, `coarse` 5 ns.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

fn nanos(t: Timespec) -> u64 {
    (t.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(t.tv_nsec as u64)
}

/// Monotonic nanoseconds.
pub fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Monotonic nanoseconds of the last tick (1–4 ms old): for background scans.
pub fn coarse() -> u64 {
    nanos(clock_gettime(ClockId::MonotonicCoarse))
}

/// Milliseconds since the Unix epoch, for records that people read.
pub fn unix_ms() -> u64 {
    nanos(clock_gettime(ClockId::Realtime)) / 1_000_000
}

/// Sleeps. Only in waits that are bounded and look again.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A point on the monotonic clock to give up at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// `timeout` from now; a timeout beyond 584 years never comes.
    pub fn after(timeout: Duration) -> Self {
        Self(now().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// What is left, zero when it has passed.
    pub fn remaining(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now()))
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        now() >= self.0
    }

    /// The point itself, in monotonic nanoseconds.
    pub fn nanos(self) -> u64 {
        self.0
    }
}
