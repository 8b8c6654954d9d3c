//! The sides of a round as processes: forked, pinned, bounded, reaped.
//!
//! [`run`] forks one child per side from a supervisor that has one thread. The
//! supervisor then sleeps in `sigtimedwait` until a child ends, a signal asks
//! it to stop, or the deadline passes; whatever it is, every child is reaped
//! before `run` returns. Children die with the supervisor (PR_SET_PDEATHSIG)
//! and leave with `_exit`, so they never run the supervisor's destructors:
//! what was prepared before the fork is cleaned up exactly once.

use crate::meet::{Measured, Meet, Seat};
use crate::{Plan, Result, pin, timer};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a side does, given its seat, in a process of its own.
pub type Work<'a> = Box<dyn FnOnce(&Seat<'_>) -> Result<Measured> + 'a>;

/// A signal asked for the end; not a fault of the round.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Holds back the signals that the supervisor waits for, from now on. Called
/// before anything is prepared, so that no signal can skip the cleaning up.
pub fn hold_signals() {
    // SAFETY: the set is local and complete; only the mask of this thread changes.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &awaited(), std::ptr::null_mut()) };
}

fn awaited() -> libc::sigset_t {
    // SAFETY: sigset_t is plain bits, set up by sigemptyset before use.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Runs every side to its end, each on its core of `plan`, and returns what
/// they measured, in order. Blocks for at most the plan's deadline.
pub fn run(plan: &Plan, sides: Vec<Work<'_>>) -> Result<Vec<Measured>> {
    if sides.len() > plan.cores.len() {
        return Err(format!(
            "this takes {} cores, {} are named",
            sides.len(),
            plan.cores.len()
        )
        .into());
    }
    hold_signals();
    let count = sides.len();
    let meet = Meet::new(count)?;
    let mut children = Children(Vec::new());
    for (index, work) in sides.into_iter().enumerate() {
        let pid = start(&meet, index, plan.cores[index], work)?;
        children.0.push(Child {
            pid,
            index,
            running: true,
        });
    }
    let outcome = children.wait(plan, &meet);
    drop(children);
    outcome?;
    (0..count)
        .map(|index| meet.report(index).ok_or("a side ended without a report")?)
        .collect()
}

struct Child {
    pid: libc::pid_t,
    index: usize,
    running: bool,
}

/// Children that are ended and reaped, at the latest when dropped.
struct Children(Vec<Child>);

impl Children {
    fn wait(&mut self, plan: &Plan, meet: &Meet) -> Result<()> {
        let until_ns = timer::now_ns() + plan.deadline_s * 1_000_000_000;
        loop {
            for child in self.0.iter_mut().filter(|child| child.running) {
                if let Some(status) = ended(child.pid)? {
                    child.running = false;
                    explain(child.index, status, meet)?;
                }
            }
            if self.0.iter().all(|child| !child.running) {
                return Ok(());
            }
            let left_ns = until_ns.saturating_sub(timer::now_ns());
            if left_ns == 0 {
                return Err(format!(
                    "{} {} was not done after {} s and was ended; a side hangs, or --messages {} is too many",
                    plan.contender,
                    plan.scenario.word(),
                    plan.deadline_s,
                    plan.messages
                )
                .into());
            }
            await_signal(left_ns)?;
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.iter().filter(|child| child.running) {
            // SAFETY: an unreaped child of ours, so the id can't be anybody else's.
            unsafe { libc::kill(child.pid, libc::SIGKILL) };
        }
        for child in self.0.iter().filter(|child| child.running) {
            // SAFETY: waits for our own child, which was just killed; no status wanted.
            while unsafe { libc::waitpid(child.pid, std::ptr::null_mut(), 0) } < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
    }
}

/// Sleeps until a child ends, or `left_ns` passed; a request to stop is an error.
fn await_signal(left_ns: u64) -> Result<()> {
    let wait = libc::timespec {
        tv_sec: (left_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (left_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: both structs are valid for the call; no siginfo is asked for.
    match unsafe { libc::sigtimedwait(&awaited(), std::ptr::null_mut(), &wait) } {
        libc::SIGINT | libc::SIGTERM | libc::SIGHUP => Err(Interrupted.into()),
        _ => Ok(()),
    }
}

/// The status of a child that has ended, reaping it.
fn ended(pid: libc::pid_t) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; `pid` is an unreaped child of ours.
    match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
        0 => Ok(None),
        -1 => Err(format!("can't wait for a side: {}", io::Error::last_os_error()).into()),
        _ => Ok(Some(status)),
    }
}

fn explain(index: usize, status: i32, meet: &Meet) -> Result<()> {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        if matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP) {
            return Err(Interrupted.into());
        }
        return Err(format!("side {index} was ended by signal {signal}").into());
    }
    match meet.report(index) {
        Some(report) => report.map(drop),
        None => Err(format!(
            "side {index} ended with status {} and no report",
            libc::WEXITSTATUS(status)
        )
        .into()),
    }
}

/// Forks one side; returns its id in the supervisor and never in the side.
fn start(meet: &Meet, index: usize, core: usize, work: Work<'_>) -> Result<libc::pid_t> {
    // SAFETY: getpid has no preconditions.
    let supervisor = unsafe { libc::getpid() };
    // SAFETY: the supervisor has one thread, so the child inherits no lock held
    // by a thread that it doesn't have; it leaves through _exit below.
    match unsafe { libc::fork() } {
        -1 => Err(format!("can't start a side: {}", io::Error::last_os_error()).into()),
        0 => {
            let seat = meet.seat(index);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                enter(supervisor, core)?;
                seat.take();
                work(&seat)
            }));
            let outcome = outcome.unwrap_or_else(|_| Err("the side panicked".into()));
            let code = i32::from(outcome.is_err());
            seat.report(outcome);
            // SAFETY: ends this process without running what belongs to the supervisor.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

/// The first steps of a side: tie its life to the supervisor's, take signals
/// as usual again, and go to its core.
fn enter(supervisor: libc::pid_t, core: usize) -> Result<()> {
    // SAFETY: these change this process only: its death signal and its mask.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &awaited(), std::ptr::null_mut());
        if libc::getppid() != supervisor {
            return Err("the supervisor is gone".into());
        }
    }
    pin::bind(core)
}
