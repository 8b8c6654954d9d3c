//! Clocks. None of these is read on the hot path: `now` costs 26 ns, `coarse` 5 ns.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI64, Ordering};
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

/// How far CLOCK_BOOTTIME of this process's time namespace is ahead of the machine's own, in ns.
static AHEAD_NS: AtomicI64 = AtomicI64::new(0);

/// Milliseconds since boot, suspended time included: what leases and retention are measured by. The
/// same for every process of the machine, whatever time namespace it is in, as far as
/// [`learn_time_namespace`] has been called since it entered it.
pub fn boot_ms() -> u64 {
    // Relaxed: it speaks of no other memory.
    let ahead = AHEAD_NS.load(Ordering::Relaxed);
    nanos(clock_gettime(ClockId::Boottime)).wrapping_sub(ahead as u64) / 1_000_000
}

/// Milliseconds of [`boot_ms`] since `epoch_ms`, which may lie before the machine was started: then
/// the number wraps, and is more than half of what there is. One in the future is now.
pub fn since(epoch_ms: u64) -> u64 {
    let ms = boot_ms().wrapping_sub(epoch_ms);
    if ms > u64::MAX / 2 { 0 } else { ms }
}

/// The inode of the machine's own time namespace (`PROC_TIME_INIT_INO`).
const MACHINE: u64 = 0xEFFF_FFFA;

/// Learns how far ahead this process's time namespace is. `false` when that can't be told: its
/// namespace is not the machine's, and what `/proc` describes is another one, that of children yet to
/// be made. Four system calls. Without `/proc`, or without time namespaces, nobody is ahead.
pub fn learn_time_namespace() -> bool {
    let inode = |name| fs::metadata(name).map_or(MACHINE, |meta| meta.ino());
    let own = inode("/proc/self/ns/time");
    let ahead = if own == MACHINE {
        Some(0)
    } else if own == inode("/proc/self/ns/time_for_children") {
        match fs::read_to_string("/proc/self/timens_offsets") {
            Ok(offsets) => boot_offset_ns(&offsets),
            Err(_) => Some(0), // no time namespaces
        }
    } else {
        None
    };
    AHEAD_NS.store(ahead.unwrap_or(0), Ordering::Relaxed);
    ahead.is_some()
}

/// The offset of CLOCK_BOOTTIME, by name or (Linux 5.6) by number: seconds and nanoseconds.
fn boot_offset_ns(offsets: &str) -> Option<i64> {
    offsets.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let is_boot = matches!(fields.next()?, "boottime" | "7");
        let seconds: i64 = fields.next()?.parse().ok()?;
        let nanos: i64 = fields.next()?.parse().ok()?;
        let total = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
        is_boot.then_some(total)
    })
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
        self.ms = since(self.epoch_ms);
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

/// Lets others run who could, if there are any.
pub fn make_way() {
    std::thread::yield_now();
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
    fn the_offset_of_a_time_namespace_is_read_by_name_and_by_number() {
        let shown = "monotonic           0         0\nboottime       46800 500000000\n";
        assert_eq!(boot_offset_ns(shown), Some(46_800_500_000_000));
        assert_eq!(boot_offset_ns("1 0 0\n7 -600 0\n"), Some(-600_000_000_000));
        for wrong in [
            "",
            "monotonic 1 1\n",
            "boottime x 0\n",
            "boottime 9223372036854775807 0\n",
        ] {
            assert_eq!(boot_offset_ns(wrong), None, "{wrong:?}");
        }
    }

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
