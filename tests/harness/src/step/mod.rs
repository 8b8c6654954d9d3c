//! Single-stepping a child through a stretch of its code, to end or stop it at any instruction.
//!
//! The child marks the stretch with [`begin`] and [`end`]; the [`Stepper`] holds it at
//! `begin`, moves it by whole instructions, and kills, freezes, stops or resumes it at
//! exactly that place. Step 0 is before the first instruction behind `begin`; after the
//! last step the next instruction is `end`. A system call is one step, each round of a
//! `rep` string instruction is one, the instructions of a signal handler count.
//!
//! [`for_each_step`] and [`Sweep`] visit all steps, a fresh child each. [`Zygote`] makes
//! that child by fork instead of exec. Steps are those of the marking thread (the main
//! thread, in a role); other threads of the child run on untouched until it is ended.
//! A stepper stays on its thread: the kernel ties a tracee to the thread that traces it.

use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::launch::Traced;
use crate::ptrace::{self, Stop};
use crate::{Exit, Fault, Launch, os, watch};

mod failing;
mod marker;
mod path;
mod sweep;
mod symbol;
mod zygote;

pub use failing::{Call, Mishap, can_fail_calls};
pub(crate) use marker::pass_markers_untraced;
pub use marker::{begin, end};
pub use sweep::{Failure, Mode, Point, REFERENCE, Summary, Sweep, for_each_step};
pub use zygote::Zygote;

use marker::Marker;
use path::Path;

/// Where a stepper stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Before the instruction at `rip`, `k` instructions into the stretch.
    AtInstruction {
        /// The program counter.
        rip: u64,
        /// Instructions executed since `begin`.
        k: u64,
    },
    /// At `end`, which was reached after this many instructions.
    Ended(u64),
}

/// A child held by ptrace somewhere in its marked stretch; see the module. Dropped, it is
/// killed and reaped.
///
/// ```no_run
/// # use ringway_harness::{Launch, step::{Stepper, Outcome}};
/// let mut held = Stepper::spawn(&Launch::role("send_once")).unwrap();
/// if let Outcome::AtInstruction { rip, k } = held.step_to(17).unwrap() {
///     println!("killed at {rip:#x} after {k} instructions");
///     held.kill().unwrap();
/// }
/// ```
#[derive(Debug)]
pub struct Stepper {
    name: String,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    ours: bool,
    hold: Hold,
    k: u64,
    total: Option<u64>,
    /// A signal that stopped the child on its way to it.
    pending: i32,
    processors: Option<libc::cpu_set_t>,
    _one_thread: PhantomData<*const ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Traced,
    Detached,
    Gone(Exit),
}

enum Hop {
    Landed,
    /// The run reached another breakpoint first.
    Strayed,
    /// The page takes no breakpoint.
    Refused,
}

impl Stepper {
    /// Launches a child and holds it at [`begin`]. Blocks until it is there.
    pub fn spawn(launch: &Launch) -> Result<Stepper, Fault> {
        let (pid, pidfd) = launch.start(Traced::Yes, &[])?;
        let mut stepper = Stepper::adopt(launch.name.clone(), pid, pidfd, true);
        stepper.first_stop(ptrace::OPTIONS)?;
        stepper.run_to_begin()?;
        Ok(stepper)
    }

    fn adopt(name: String, pid: i32, pidfd: OwnedFd, ours: bool) -> Stepper {
        Stepper {
            name,
            pid,
            pidfd: Arc::new(pidfd),
            ours,
            hold: Hold::Traced,
            k: 0,
            total: None,
            pending: 0,
            processors: None,
            _one_thread: PhantomData,
        }
    }

    /// The stop with which every tracee starts: at exec, or at birth by fork.
    fn first_stop(&mut self, options: libc::c_int) -> Result<(), Fault> {
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        match self.wait(&armed)? {
            Stop::Signal(_) | Stop::HandlerEntry | Stop::Group => {}
            other => return Err(self.astray(&format!("started with {other:?}"))),
        }
        ptrace::request(libc::PTRACE_SETOPTIONS, self.pid, options as usize)
            .map_err(|e| Fault::os(format!("ptrace options of {}", self.name), e))
    }

    fn run_to_begin(&mut self) -> Result<(), Fault> {
        match self.run_to_marker()? {
            Marker::Begin => self.pass_begin(),
            Marker::End => Err(self.astray("reached end() before begin()")),
        }
    }

    fn pass_begin(&mut self) -> Result<(), Fault> {
        let skip = marker::resume_offset();
        if skip != 0 {
            let at = self.rip()?;
            self.os(
                "registers",
                ptrace::set_program_counter(self.pid, at + skip),
            )?;
        }
        Ok(())
    }

    /// The child's pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Instructions executed since `begin`.
    pub fn k(&self) -> u64 {
        self.k
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        match self.hold {
            Hold::Gone(exit) => Some(exit),
            _ => None,
        }
    }

    /// The program counter. Only while traced.
    pub fn rip(&self) -> Result<u64, Fault> {
        self.os("registers", ptrace::program_counter(self.pid))
    }

    /// Moves on to step `k` (never back), or to `end` if that comes first.
    pub fn step_to(&mut self, k: u64) -> Result<Outcome, Fault> {
        assert!(
            k >= self.k,
            "{} is at step {} already, asked for {k}",
            self.name,
            self.k
        );
        self.walk_to(k, |_, _| Ok(()))
    }

    /// Steps to `end` and returns the address before each step, and that of `end`.
    fn record(&mut self) -> Result<Vec<u64>, Fault> {
        let mut addresses = vec![self.rip()?];
        self.walk_to(u64::MAX, |stepper, _| {
            addresses.push(stepper.rip()?);
            Ok(())
        })?;
        Ok(addresses)
    }

    /// Whether the instruction at `address` enters the kernel.
    fn enters_kernel(&self, address: u64) -> bool {
        ptrace::peek(self.pid, address).is_ok_and(ptrace::is_system_call)
    }

    fn walk_to(
        &mut self,
        k: u64,
        mut each: impl FnMut(&Stepper, u64) -> Result<(), Fault>,
    ) -> Result<Outcome, Fault> {
        // One processor for both: a step is two hand-overs, and none of them an interrupt.
        let _together = (k - self.k > 8).then(|| Together::with(self));
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        while self.total.is_none() && self.k < k {
            if self.step(&armed)? {
                each(self, self.k)?;
            }
        }
        drop(armed);
        match self.total {
            Some(total) if total < k => Ok(Outcome::Ended(total)),
            _ => Ok(Outcome::AtInstruction {
                rip: self.rip()?,
                k: self.k,
            }),
        }
    }

    /// One step; false at `end`, where none was left.
    fn step(&mut self, armed: &watch::Armed) -> Result<bool, Fault> {
        loop {
            let signal = std::mem::take(&mut self.pending) as usize;
            self.advance(libc::PTRACE_SINGLESTEP, signal)?;
            match self.wait(armed)? {
                Stop::Step => {
                    self.k += 1;
                    return Ok(true);
                }
                Stop::Breakpoint => match self.marker()? {
                    Marker::End => {
                        self.total = Some(self.k);
                        return Ok(false);
                    }
                    Marker::Begin => return Err(self.astray("met begin() within the stretch")),
                },
                Stop::Signal(signal) => self.pending = signal,
                Stop::HandlerEntry | Stop::Group | Stop::Event(_) => {}
                Stop::Syscall => return Err(self.astray("stopped at a system call unasked")),
                Stop::Ended(_) => unreachable!("wait() turns an end into a fault"),
            }
        }
    }

    /// Follows a recorded path to step `k` by hops at full speed, and by single steps where
    /// no hop leads on. None: this run took another path.
    fn step_along(&mut self, path: &Path, k: u64) -> Result<Option<Outcome>, Fault> {
        // A second thread might run into the breakpoints.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid));
        if tasks.is_ok_and(|tasks| tasks.count() == 1) {
            let _together = Together::with(self);
            while self.k < k && self.total.is_none() {
                match path.hop(self.k, k) {
                    None => drop(self.walk_to(self.k + 1, |_, _| Ok(()))?),
                    Some((step, address)) => match self.run_to_address(address, step)? {
                        Hop::Landed => {}
                        Hop::Strayed => return Ok(None),
                        Hop::Refused => break,
                    },
                }
            }
        }
        let outcome = self.walk_to(k, |_, _| Ok(()))?;
        Ok(match outcome {
            Outcome::AtInstruction { rip, .. } if path.address(k) == Some(rip) => Some(outcome),
            _ => None,
        })
    }

    /// Runs until `address` is reached for the first time, which is step `k` on the recorded path.
    fn run_to_address(&mut self, address: u64, k: u64) -> Result<Hop, Fault> {
        let planted = ptrace::peek(self.pid, address).and_then(|word| {
            ptrace::poke(self.pid, address, ptrace::with_breakpoint(word)).map(|()| word)
        });
        let Ok(word) = planted else {
            return Ok(Hop::Refused);
        };
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        loop {
            let signal = std::mem::take(&mut self.pending) as usize;
            self.advance(libc::PTRACE_CONT, signal)?;
            match self.wait(&armed)? {
                Stop::Breakpoint => break,
                Stop::Signal(signal) => self.pending = signal,
                _ => {}
            }
        }
        self.os("memory", ptrace::poke(self.pid, address, word))?;
        if self.rip()? != address + ptrace::PAST_BREAKPOINT {
            return Ok(Hop::Strayed);
        }
        self.os("registers", ptrace::set_program_counter(self.pid, address))?;
        self.k = k;
        Ok(Hop::Landed)
    }

    /// Runs at full speed to the next marker and stays there.
    fn run_to_marker(&mut self) -> Result<Marker, Fault> {
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        loop {
            let signal = std::mem::take(&mut self.pending) as usize;
            self.advance(libc::PTRACE_CONT, signal)?;
            match self.wait(&armed)? {
                Stop::Breakpoint => return self.marker(),
                Stop::Signal(signal) => self.pending = signal,
                _ => {}
            }
        }
    }

    /// Runs to `end` with a stop at each entry and exit of a system call; `entered` gets
    /// the number of each.
    pub(crate) fn run_by_syscalls(&mut self, mut entered: impl FnMut(i64)) -> Result<(), Fault> {
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        let mut inside = false;
        loop {
            let signal = std::mem::take(&mut self.pending) as usize;
            self.advance(libc::PTRACE_SYSCALL, signal)?;
            match self.wait(&armed)? {
                Stop::Syscall => {
                    inside = !inside;
                    if inside {
                        entered(self.os("registers", ptrace::syscall_number(self.pid))?);
                    }
                }
                Stop::Signal(signal) => self.pending = signal,
                Stop::Breakpoint => {
                    return match self.marker()? {
                        Marker::End => Ok(()),
                        Marker::Begin => Err(self.astray("met begin() within the stretch")),
                    };
                }
                _ => {}
            }
        }
    }

    /// SIGKILL where it stands: no further instruction is executed. Blocks until it is dead
    /// and reaped.
    pub fn kill(&mut self) -> Result<Exit, Fault> {
        if let Hold::Gone(exit) = self.hold {
            return Ok(exit);
        }
        let sent = os::signal(self.pidfd.as_fd(), libc::SIGKILL);
        self.os("SIGKILL", sent)?;
        let exit = self.await_end()?;
        self.hold = Hold::Gone(exit);
        Ok(exit)
    }

    /// Leaves it where it stands, held by ptrace: to all others it looks like a process under
    /// SIGSTOP (state t instead of T). This is what it is anyhow; the call says so.
    pub fn freeze(&mut self) {
        debug_assert_eq!(self.hold, Hold::Traced);
    }

    /// Stops it where it stands by a real SIGSTOP, without a tracer. Blocks until it is in
    /// state T; no further instruction is executed.
    pub fn stop(&mut self) -> Result<(), Fault> {
        if self.hold != Hold::Traced {
            return Ok(());
        }
        self.scatter();
        let sent = os::signal(self.pidfd.as_fd(), libc::SIGSTOP);
        self.os("SIGSTOP", sent)?;
        let signal = std::mem::take(&mut self.pending) as usize;
        // The SIGSTOP is taken on the way out of the trap, before any instruction.
        self.os(
            "detach",
            ptrace::request(libc::PTRACE_DETACH, self.pid, signal),
        )?;
        self.hold = Hold::Detached;
        let start = Instant::now();
        while os::stat(self.pid).is_some_and(|(state, _)| state != 'T') {
            if start.elapsed() > watch::deadline() {
                let what = format!("{} to stop after detach", self.name);
                let seen = os::describe(self.pid);
                return Err(Fault::Hung {
                    what,
                    waited: start.elapsed(),
                    seen,
                });
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets it run on from where it stands. Blocks until it has ended; how it did is the answer.
    pub fn resume(&mut self) -> Result<Exit, Fault> {
        match self.hold {
            Hold::Gone(exit) => return Ok(exit),
            Hold::Traced => self.scatter(),
            Hold::Detached => {
                let options = ptrace::OPTIONS as usize;
                self.os(
                    "seize",
                    ptrace::request(libc::PTRACE_SEIZE, self.pid, options),
                )?;
                self.hold = Hold::Traced;
                let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
                self.wait(&armed)?;
                let sent = os::signal(self.pidfd.as_fd(), libc::SIGCONT);
                self.os("SIGCONT", sent)?;
            }
        }
        let signal = std::mem::take(&mut self.pending) as usize;
        self.advance(libc::PTRACE_CONT, signal)?;
        let exit = self.await_end()?;
        self.hold = Hold::Gone(exit);
        Ok(exit)
    }

    /// [`resume`](Self::resume), and anything but exit code 0 is a fault.
    pub fn resume_success(&mut self) -> Result<(), Fault> {
        match self.resume()? {
            exit if exit.is_success() => Ok(()),
            exit => Err(Fault::victim(format!(
                "{} resumed and ended with {exit}",
                self.name
            ))),
        }
    }

    /// Takes every stop on the way to the end of the process.
    fn await_end(&mut self) -> Result<Exit, Fault> {
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        if self.hold == Hold::Detached && !self.ours {
            // A zygote's child without a tracer is reaped by the kernel; killed is all it can be.
            let until = Instant::now() + watch::deadline();
            let gone = os::exited_by(self.pidfd.as_fd(), until);
            self.os("poll", gone)?;
            return Ok(Exit::Signal {
                signal: libc::SIGKILL,
                dumped: false,
            });
        }
        loop {
            let stop = self.os("waitpid", ptrace::wait(self.pid))?;
            let signal = match stop {
                Stop::Ended(exit) => {
                    return match armed.fired() {
                        None => Ok(exit),
                        Some(seen) => {
                            self.hold = Hold::Gone(exit);
                            Err(self.hung("to end", seen))
                        }
                    };
                }
                Stop::Breakpoint => {
                    let skip = marker::resume_offset();
                    if skip != 0 {
                        let at = self.rip()?;
                        self.os(
                            "registers",
                            ptrace::set_program_counter(self.pid, at + skip),
                        )?;
                    }
                    0
                }
                Stop::Signal(signal) => signal as usize,
                _ => 0,
            };
            match ptrace::request(libc::PTRACE_CONT, self.pid, signal) {
                // Killed in the meantime: the next wait tells.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                other => self.os("continue", other)?,
            }
        }
    }

    fn advance(&self, request: libc::c_uint, signal: usize) -> Result<(), Fault> {
        match ptrace::request(request, self.pid, signal) {
            // Killed in the meantime: the wait that follows tells.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => self.os("moving on", other),
        }
    }

    fn wait(&mut self, armed: &watch::Armed) -> Result<Stop, Fault> {
        match self.os("waitpid", ptrace::wait(self.pid))? {
            Stop::Ended(exit) => {
                self.hold = Hold::Gone(exit);
                Err(match armed.fired() {
                    Some(seen) => self.hung("to move on", seen),
                    None => self.astray(&format!("ended with {exit}")),
                })
            }
            stop => Ok(stop),
        }
    }

    fn marker(&self) -> Result<Marker, Fault> {
        let found = self.os("memory", marker::at(self.pid))?;
        found.ok_or_else(|| self.astray("executed a breakpoint that is no marker"))
    }

    fn astray(&self, what: &str) -> Fault {
        Fault::victim(format!(
            "{} {what}, {} steps into its stretch",
            self.name, self.k
        ))
    }

    fn hung(&self, what: &str, seen: &str) -> Fault {
        let what = format!("{} {what}, {} steps into its stretch", self.name, self.k);
        Fault::Hung {
            what,
            waited: watch::deadline(),
            seen: seen.to_owned(),
        }
    }

    fn os<T>(&self, what: &str, answer: std::io::Result<T>) -> Result<T, Fault> {
        answer.map_err(|e| Fault::os(format!("{what} of {} ({})", self.name, self.pid), e))
    }

    /// Gives the child back the processors it had before it was stepped.
    fn scatter(&mut self) {
        if let Some(processors) = self.processors.take() {
            let _ = os::set_affinity(self.pid, &processors);
        }
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// While it lives, the tracing thread and its tracee share one processor.
struct Together {
    before: Option<libc::cpu_set_t>,
}

impl Together {
    fn with(stepper: &mut Stepper) -> Together {
        let here = os::this_processor();
        let before = os::affinity(0).ok();
        if os::set_affinity(0, &here).is_ok() {
            let theirs = os::affinity(stepper.pid).ok();
            if os::set_affinity(stepper.pid, &here).is_ok() {
                stepper.processors = stepper.processors.or(theirs);
            }
        }
        Together { before }
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = os::set_affinity(0, before);
        }
    }
}
