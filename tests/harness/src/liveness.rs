//! Aids for the question "is it dead?": the cases in which pids, signals and time lie.
//!
//! A pid used again, the same pid in two namespaces, a zombie, a process that is dumping
//! core, another uid. Each aid is a guard over real processes; whatever the machine
//! refuses is [`Aid::Skipped`] with the reason, announced when unwrapped and a failure
//! under `RINGWAY_REQUIRE_ALL=1`. Nothing on the machine is changed beyond the processes.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::{Exit, Fault, Launch, Victim, os, watch};

/// What the machine granted, or why it didn't.
#[derive(Debug)]
#[must_use]
pub enum Aid<T> {
    /// Granted.
    Ready(T),
    /// Refused, for this reason.
    Skipped(String),
}

impl<T> Aid<T> {
    /// The thing, or None with the reason on standard error. Panics on a refusal if
    /// `RINGWAY_REQUIRE_ALL=1`: a machine that is meant to grant everything.
    pub fn or_announce(self, test: &str) -> Option<T> {
        match self {
            Aid::Ready(thing) => Some(thing),
            Aid::Skipped(reason) => {
                let all = std::env::var("RINGWAY_REQUIRE_ALL").is_ok_and(|v| v == "1");
                assert!(!all, "{test} must not be skipped: {reason}");
                eprintln!("SKIPPED {test}: {reason}");
                None
            }
        }
    }

    /// A refusal for want of rights or of the feature is a skip; anything else stays a fault.
    fn from_kernel(answer: Result<T, Fault>) -> Result<Aid<T>, Fault> {
        match answer {
            Ok(thing) => Ok(Aid::Ready(thing)),
            Err(fault) => match fault.errno() {
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL | libc::E2BIG) => {
                    Ok(Aid::Skipped(fault.to_string()))
                }
                _ => Err(fault),
            },
        }
    }
}

/// Starts `launch` under the very pid of `dead`, which must have been reaped.
pub fn reuse_pid(dead: &Victim, launch: &Launch) -> Result<Aid<Victim>, Fault> {
    assert!(dead.exit().is_some(), "{} still has its pid", dead.name());
    let answer = launch.clone().with_pid(dead.pid()).spawn();
    if let Err(fault) = &answer
        && fault.errno() == Some(libc::EEXIST)
    {
        return Ok(Aid::Skipped(format!(
            "pid {} was taken by another process",
            dead.pid()
        )));
    }
    Aid::from_kernel(answer)
}

/// Starts both, each as process 1 of a pid namespace of its own: equal pids, both alive.
pub fn twins(one: &Launch, other: &Launch) -> Result<Aid<(Victim, Victim)>, Fault> {
    let born = |launch: &Launch| launch.clone().in_fresh_namespace().spawn();
    Aid::from_kernel(born(one).and_then(|one| Ok((one, born(other)?))))
}

/// Starts `launch` in a pid namespace of its own, in which it has the pid that `model` has here.
pub fn namesake(model: &Victim, launch: &Launch) -> Result<Aid<Victim>, Fault> {
    let born = PidNamespace::new().and_then(|namespace| {
        launch
            .clone()
            .in_namespace(&Arc::new(namespace))
            .with_pid(model.pid())
            .spawn()
    });
    Aid::from_kernel(born)
}

/// Starts `launch` as user and group 65534.
pub fn as_nobody(launch: &Launch) -> Result<Aid<Victim>, Fault> {
    if !os::is_root() {
        return Ok(Aid::Skipped("another uid needs root".into()));
    }
    Aid::from_kernel(launch.clone().uid(65534).spawn())
}

/// A killed child that nobody has reaped: dead, yet its pid answers to signal 0.
#[derive(Debug)]
pub struct Zombie(Victim);

impl Zombie {
    /// Kills `victim` and leaves it a zombie until the guard is dropped or reaped.
    pub fn make(mut victim: Victim) -> Result<Zombie, Fault> {
        victim.kill_unreaped()?;
        match victim.state() {
            Some('Z') => Ok(Zombie(victim)),
            other => {
                let name = victim.name();
                Err(Fault::victim(format!(
                    "{name} was killed and is in state {other:?}"
                )))
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Reaps it.
    pub fn reap(mut self) -> Result<Exit, Fault> {
        self.0.wait()
    }
}

/// A pid namespace with a process 1 that does nothing but keep it. Ends with its guard;
/// children launched into it keep it for as long as they live.
#[derive(Debug)]
pub struct PidNamespace {
    handle: File,
    ours: File,
    // Last: reaped after everything that lives in the namespace has been.
    _keeper: Victim,
}

/// While it lives, children of this thread are born in the namespace.
pub(crate) struct Entered<'a>(&'a PidNamespace);

impl PidNamespace {
    /// A new namespace. Needs root.
    pub fn new() -> Result<PidNamespace, Fault> {
        // SAFETY: clone_args is plain data for which all zeroes is a value.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        let mut pidfd: i32 = -1;
        args.flags = (libc::CLONE_PIDFD | libc::CLONE_NEWPID) as u64;
        args.pidfd = &raw mut pidfd as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        // SAFETY: no CLONE_VM: the child works on a copy of this memory and calls only the kernel.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of_val(&args)) };
        if pid == 0 {
            // SAFETY: raw calls with integers. No copy of a descriptor is kept, so no lock is.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                loop {
                    libc::pause();
                }
            }
        }
        let pid = os::check(pid).map_err(|e| Fault::os("clone3 of a pid namespace", e))? as i32;
        // SAFETY: CLONE_PIDFD made this descriptor for us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let keeper = Victim::adopt(format!("keeper of pid namespace {pid}"), pid, pidfd, None);
        let open = |path: String| File::open(&path).map_err(|e| Fault::os(path, e));
        Ok(PidNamespace {
            handle: open(format!("/proc/{pid}/ns/pid"))?,
            ours: open("/proc/self/ns/pid".to_owned())?,
            _keeper: keeper,
        })
    }

    pub(crate) fn enter(&self) -> Result<Entered<'_>, Fault> {
        // SAFETY: a namespace descriptor of ours; only this thread's children are concerned.
        os::check(unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWPID) }.into())
            .map_err(|e| Fault::os("setns into a pid namespace", e))?;
        Ok(Entered(self))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: the namespace this process lives in, opened when the other one was made.
        let left = unsafe { libc::setns(self.0.ours.as_raw_fd(), libc::CLONE_NEWPID) };
        assert_eq!(left, 0, "a thread must find back to its own pid namespace");
    }
}

/// A child in the middle of its core dump: dying, its descriptors and locks still there.
#[derive(Debug)]
pub struct Dumping {
    victim: Victim,
}

/// The environment variable by which a role is made so big that its dump takes a while.
const BULK: &str = "RINGWAY_BULK_MIB";

/// `launch`, able to dump core into `directory` and, once it calls [`grow_for_core_dump`],
/// `mib` MiB big. 256 take about 0.1 s to dump to a tmpfs.
pub fn prepare_core_dump(
    launch: &Launch,
    directory: impl AsRef<std::path::Path>,
    mib: u64,
) -> Launch {
    launch
        .clone()
        .core_limit(u64::MAX)
        .directory(directory)
        .env(BULK, mib.to_string())
}

/// In the child: takes and fills the memory that [`prepare_core_dump`] asks for, for good.
pub fn grow_for_core_dump() {
    let mib: usize = std::env::var(BULK)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    Vec::leak(vec![0x5Au8; mib << 20]);
}

impl Dumping {
    /// Ends `victim` by SIGABRT and blocks until its core dump is under way. Skipped if the
    /// victim may dump none, or did so fast that it was over before it was seen. Whether a
    /// dump was really written is known at the end: [`Exit::Signal`] says `dumped`.
    pub fn start(mut victim: Victim) -> Result<Aid<Dumping>, Fault> {
        // The kernel enters its dumping state for a moment even if nothing may be written.
        let allowed = may_dump(victim.pid());
        victim.signal(libc::SIGABRT)?;
        if !allowed {
            let exit = victim.wait()?;
            let reason = format!("{} may dump no core: {exit}", victim.name());
            return Ok(Aid::Skipped(reason));
        }
        let start = Instant::now();
        while !under_way(victim.pid()) {
            if victim.exited_by(Instant::now())? {
                let exit = victim.wait()?;
                return Ok(Aid::Skipped(format!(
                    "no core dump was seen under way: {exit}"
                )));
            }
            if start.elapsed() > watch::deadline() {
                let what = format!("core dump of {}", victim.name());
                let seen = os::describe(victim.pid());
                return Err(Fault::Hung {
                    what,
                    waited: start.elapsed(),
                    seen,
                });
            }
            std::thread::yield_now();
        }
        Ok(Aid::Ready(Dumping { victim }))
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.victim.pid()
    }

    /// Still at it. False is final. What was observed between two calls that both said true
    /// was observed during the dump.
    pub fn under_way(&self) -> bool {
        under_way(self.victim.pid())
    }

    /// Blocks until it is dead, and reaps it.
    pub fn finish(mut self) -> Result<Exit, Fault> {
        self.victim.wait()
    }
}

/// A core limit above 0, or a program that takes dumps whatever the limit.
fn may_dump(pid: i32) -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = read(&format!("/proc/{pid}/limits"));
    let mut lines = limits.lines();
    let soft = lines.find_map(|line| line.strip_prefix("Max core file size"));
    let soft = soft.and_then(|rest| rest.split_ascii_whitespace().next());
    soft.is_some_and(|soft| soft != "0") || read("/proc/sys/kernel/core_pattern").starts_with('|')
}

fn under_way(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.split_ascii_whitespace().eq(["CoreDumping:", "1"]))
}
