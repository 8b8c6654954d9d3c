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

/// Milliseconds since boot, suspended time included: what leases and retention are measured by.
pub fn boot_ms() -> u64 {
    nanos(clock_gettime(ClockId::Boottime)) / 1_000_000
}

/// Ticks of the processor's counter for which [`BootClock`] answers from memory: 130 µs at 2 GHz,
/// 90 µs at 3 GHz; never more than 270 µs at the 1 GHz that any x86-64 counter exceeds.
#[cfg(target_arch = "x86_64")]
const FRESH_TICKS: u64 = 1 << 18;
/// The generic timer of aarch64 counts 1 to 1,000 million ticks a second.
#[cfg(target_arch = "aarch64")]
const FRESH_TICKS: u64 = 250;

/// [`boot_ms`] for a hot path: at most a fraction of a millisecond old.
///
/// A read of CLOCK_BOOTTIME costs 26 ns; the coarse clock costs 5 but is one to ten milliseconds
/// old, more where a virtual machine's time-keeping processor is not running, and has no variant
/// that counts suspended time. The processor's counter costs about 8 ns and says only one thing
/// here: whether the last read is fresh enough. So nothing is calibrated, counters of different
/// processors need not agree (a counter that went back looks old), and a suspended machine reads
/// the clock again, since its counter starts anew.
#[derive(Clone, Debug)]
pub struct BootClock {
    read_at: u64,
    ms: u64,
    epoch_ms: u64,
}

impl BootClock {
    /// Counts from `epoch_ms` of [`boot_ms`].
    pub fn since(epoch_ms: u64) -> Self {
        let mut clock = Self {
            read_at: 0,
            ms: 0,
            epoch_ms,
        };
        clock.read(ticks());
        clock
    }

    /// Milliseconds since the epoch.
    #[inline(always)]
    pub fn now_ms(&mut self) -> u64 {
        let ticks = ticks();
        if ticks.wrapping_sub(self.read_at) >= FRESH_TICKS {
            self.read(ticks);
        }
        self.ms
    }

    /// What the last look said.
    #[inline(always)]
    pub fn kept_ms(&self) -> u64 {
        self.ms
    }

    /// Milliseconds since the epoch, by the clock itself.
    pub fn exact_ms(&mut self) -> u64 {
        self.read(ticks());
        self.ms
    }

    #[cold]
    fn read(&mut self, ticks: u64) {
        self.ms = boot_ms().saturating_sub(self.epoch_ms);
        self.read_at = ticks;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter that Linux lets every process read; it touches no memory.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks,
            options(nostack, preserves_flags, nomem));
    }
    ticks
}

/// Elsewhere every look is a read of the clock.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FRESH_TICKS: u64 = 1;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn ticks() -> u64 {
    now()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_clock_follows_the_kernel_within_a_millisecond() {
        let mut clock = BootClock::since(boot_ms() - 5);
        let until = now() + 20_000_000;
        let mut last = 0;
        while now() < until {
            let before = boot_ms();
            let shown = clock.now_ms() + clock.epoch_ms;
            // One behind by its age; a pause in between makes it later than `before`, never less.
            assert!(shown + 1 >= before, "{shown} at {before}");
            assert!(shown <= boot_ms() && shown >= last);
            last = shown;
        }
    }
}
