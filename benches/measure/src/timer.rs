//! The clock of the hot loops: the cycle counter where it can be trusted.
//!
//! On x86-64 with `constant_tsc` and `nonstop_tsc` a reading is one `rdtsc`
//! between fences (about 10 ns), calibrated once against CLOCK_MONOTONIC by the
//! supervisor and copied to the sides. Elsewhere it is CLOCK_MONOTONIC itself.
//! [`now_ns`] is always CLOCK_MONOTONIC: the same in every process, and so the
//! clock for times taken on one side and compared on the other.

/// Turns two readings into nanoseconds. Copied into each side.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    ns_per_tick: f64,
    cycles: bool,
}

/// How long the calibration watches both clocks: 20 ms bound its error to
/// about 50 ns of clock-reading jitter in 20 ms, 2.5 ppm.
const CALIBRATION_NS: u64 = 20_000_000;

impl Timer {
    /// Chooses and calibrates. Takes 20 ms of spinning where it uses cycles.
    pub fn calibrated() -> Timer {
        if !cycles_are_steady() {
            return Timer {
                ns_per_tick: 1.0,
                cycles: false,
            };
        }
        let (start_ns, start) = (now_ns(), cycles());
        let mut end_ns = now_ns();
        while end_ns - start_ns < CALIBRATION_NS {
            end_ns = now_ns();
        }
        let ticks = cycles().wrapping_sub(start);
        Timer {
            ns_per_tick: (end_ns - start_ns) as f64 / ticks as f64,
            cycles: true,
        }
    }

    /// A reading; only differences mean something.
    #[inline(always)]
    pub fn read(&self) -> u64 {
        if self.cycles { cycles() } else { now_ns() }
    }

    /// Nanoseconds between two readings.
    #[inline(always)]
    pub fn between_ns(&self, earlier: u64, later: u64) -> f64 {
        later.wrapping_sub(earlier) as f64 * self.ns_per_tick
    }
}

/// CLOCK_MONOTONIC in nanoseconds: comparable between processes.
#[inline]
pub fn now_ns() -> u64 {
    let mut at = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `at` is a valid timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut at) };
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn cycles() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: rdtsc and lfence exist on every x86-64 and touch no memory. The
    // fences keep the measured loads from sliding past the reading.
    unsafe {
        _mm_lfence();
        let at = _rdtsc();
        _mm_lfence();
        at
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn cycles() -> u64 {
    now_ns()
}

/// Whether the counter ticks at one rate through frequency changes and idling.
fn cycles_are_steady() -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let has = |flag| flags.split_whitespace().any(|word| word == flag);
    has("constant_tsc") && has("nonstop_tsc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibrated_timer_agrees_with_the_system_clock() {
        let timer = Timer::calibrated();
        let (start_ns, start) = (now_ns(), timer.read());
        while now_ns() - start_ns < 5_000_000 {}
        let measured = timer.between_ns(start, timer.read());
        let real = (now_ns() - start_ns) as f64;
        // Being descheduled between two readings makes them differ, so the bound is wide.
        assert!(
            measured > 4_000_000.0 && measured <= real * 1.05,
            "{measured} of {real}"
        );
    }
}
