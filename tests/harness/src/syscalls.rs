//! What a stretch of a child's code cost the kernel: system calls and page faults.
//!
//! Counted from outside, by ptrace stops at each system call and by the fault counters of
//! `/proc/<pid>/stat`, between [`step::begin`](crate::step::begin) and
//! [`end`](crate::step::end). The counted code runs at full speed between the stops and
//! is not changed. Calls are those of the marking thread, faults those of the process.
//! Calls through the vDSO (the clock) are no system calls, unless the vDSO falls back.

use std::collections::BTreeMap;
use std::fmt;

use crate::step::Stepper;
use crate::{Fault, Launch, os};

/// The cost of a stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// How often each system call was entered, by its number (`libc::SYS_*`).
    pub calls: BTreeMap<i64, u64>,
    /// Page faults served without input or output.
    pub minor_faults: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
}

impl Stretch {
    /// All system calls.
    pub fn total_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// How often system call `number` was entered.
    pub fn calls_of(&self, number: libc::c_long) -> u64 {
        self.calls.get(&number).copied().unwrap_or(0)
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} system calls", self.total_calls())?;
        for (number, count) in &self.calls {
            match name(*number) {
                Some(name) => write!(f, ", {count} {name}")?,
                None => write!(f, ", {count} of number {number}")?,
            }
        }
        write!(
            f,
            "; {} minor and {} major faults",
            self.minor_faults, self.major_faults
        )
    }
}

/// Runs a role once and counts its stretch. Blocks until it has ended, and anything but
/// exit code 0 is a fault.
///
/// ```no_run
/// # use ringway_harness::{Launch, syscalls};
/// let cost = syscalls::measure(&Launch::role("send_10000_warm")).unwrap();
/// assert_eq!(cost.total_calls(), 0, "{cost}");
/// assert_eq!(cost.minor_faults, 0, "{cost}");
/// ```
pub fn measure(launch: &Launch) -> Result<Stretch, Fault> {
    let mut child = Stepper::spawn(launch)?;
    let cost = child.count_to_end()?;
    child.resume_success()?;
    Ok(cost)
}

impl Stepper {
    /// Runs on to `end` at full speed and counts what that cost.
    pub fn count_to_end(&mut self) -> Result<Stretch, Fault> {
        let before = faults(self.pid());
        let mut calls = BTreeMap::new();
        self.run_by_syscalls(|number| *calls.entry(number).or_default() += 1)?;
        let after = faults(self.pid());
        Ok(Stretch {
            calls,
            minor_faults: after.0 - before.0,
            major_faults: after.1 - before.1,
        })
    }
}

/// (minor, major) page faults of a process so far.
pub fn faults(pid: i32) -> (u64, u64) {
    let fields = os::stat(pid).map(|(_, fields)| fields).unwrap_or_default();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    // Fields 10 and 12 of proc_pid_stat(5); ours start behind field 3.
    (field(6), field(8))
}

/// (minor, major) page faults of the calling thread so far, from within.
pub fn faults_of_this_thread() -> (u64, u64) {
    // SAFETY: rusage is plain data for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: usage is valid for the kernel to fill.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    (usage.ru_minflt as u64, usage.ru_majflt as u64)
}

/// The calls that a bus in shared memory could make on its hot path.
fn name(number: i64) -> Option<&'static str> {
    const NAMES: [(libc::c_long, &str); 16] = [
        (libc::SYS_brk, "brk"),
        (libc::SYS_clock_gettime, "clock_gettime"),
        (libc::SYS_clock_nanosleep, "clock_nanosleep"),
        (libc::SYS_close, "close"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_futex, "futex"),
        (libc::SYS_getpid, "getpid"),
        (libc::SYS_gettid, "gettid"),
        (libc::SYS_io_uring_enter, "io_uring_enter"),
        (libc::SYS_madvise, "madvise"),
        (libc::SYS_mmap, "mmap"),
        (libc::SYS_munmap, "munmap"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_read, "read"),
        (libc::SYS_sched_yield, "sched_yield"),
        (libc::SYS_write, "write"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == number)
        .map(|(_, name)| *name)
}
