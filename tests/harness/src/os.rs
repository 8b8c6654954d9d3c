//! The kernel calls that the harness shares, each wrapped once.
//!
//! Wrappers take and return owned or plain values and translate -1 to `io::Error`.
//! Nothing here keeps state, waits without a bound given by its caller, or knows of
//! roles. Calls that a freshly cloned child makes before exec live in `launch`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// -1 to the errno, anything else to itself.
pub(crate) fn check(answer: libc::c_long) -> io::Result<i64> {
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// A descriptor that names the process `pid` for as long as it is open.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just created this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends `signal` to exactly the process behind `pidfd`. A dead one is no error.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a live descriptor, a null siginfo and no flags: integers for the kernel to check.
    let sent = check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    });
    match sent {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Blocks until the process behind `pidfd` has exited; false at `until`.
pub(crate) fn exited_by(pidfd: BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let ms = left.as_millis().min(i32::MAX as u128) as i32;
        let mut entry = libc::pollfd {
            fd: pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, alive for the whole call.
        match check(unsafe { libc::poll(&mut entry, 1, ms) }.into()) {
            Ok(0) if left < Duration::from_millis(1) => return Ok(false),
            Ok(0) => {}
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// `waitid` for our own child: (si_code, si_status), or None when `WNOHANG` found nothing.
pub(crate) fn waitid(pid: i32, options: i32) -> io::Result<Option<(i32, i32)>> {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: info is a valid siginfo_t for the kernel to fill.
        let done = unsafe { libc::waitid(libc::P_PID, pid as u32, &mut info, options) };
        match check(done.into()) {
            Ok(_) => {
                // SAFETY: waitid filled (or left zeroed) the SIGCHLD fields of info.
                let (who, status) = unsafe { (info.si_pid(), info.si_status()) };
                return Ok((who != 0).then_some((info.si_code, status)));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The state letter of `/proc/<pid>/stat` and its fields after it.
pub(crate) fn stat(pid: i32) -> Option<(char, Vec<u64>)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let tail = &text[text.rfind(')')? + 2..];
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.map(|f| f.parse().unwrap_or(0)).collect()))
}

/// What the kernel says a process is doing now, for the message of a hang.
pub(crate) fn describe(pid: i32) -> String {
    let Some((state, _)) = stat(pid) else {
        return format!("process {pid} is gone");
    };
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    format!(
        "process {pid} is in state {state}, wchan {}, syscall [{}]",
        read("wchan"),
        read("syscall")
    )
}

/// The processors on which thread `tid` (0: the caller) may run.
pub(crate) fn affinity(tid: i32) -> io::Result<libc::cpu_set_t> {
    // SAFETY: cpu_set_t is a bit array for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most size_of_val(set) bytes into set.
    check(unsafe { libc::sched_getaffinity(tid, size_of_val(&set), &mut set) }.into())?;
    Ok(set)
}

/// Sets the processors on which thread `tid` (0: the caller) may run.
pub(crate) fn set_affinity(tid: i32, set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: set is a valid cpu_set_t, only read.
    check(unsafe { libc::sched_setaffinity(tid, size_of_val(set), set) }.into()).map(drop)
}

/// The set that holds the processor on which the caller runs now, and no other.
pub(crate) fn this_processor() -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is a bit array for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: sched_getcpu takes nothing and returns a processor number or -1.
    let cpu = unsafe { libc::sched_getcpu() }.max(0) as usize;
    // SAFETY: CPU_SET checks cpu against the size of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    set
}

/// True for the effective uid 0.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
