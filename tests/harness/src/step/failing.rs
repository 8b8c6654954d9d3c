//! Letting one system call of a stretch fail: it is not made and answers with an error, or it is made and said to
//! have failed, or the completion of an io_uring that it brings says so.
//!
//! The calls are those of the marking thread; between two of them the child runs at full speed. What fails is chosen
//! by its place in the stretch, so a run that records the calls comes first ([`Stepper::run_to_end`]).
//! x86-64 only: there the kernel takes the number of a call from a register that the tracer may write. Elsewhere
//! [`can_fail_calls`] is false, and a failure changes nothing.

use super::{Marker, Stepper};
use crate::ptrace::{self, Stop};
use crate::{Fault, watch};
use std::collections::BTreeMap;

/// A system call of a stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// `libc::SYS_*`.
    pub number: i64,
    /// What it was asked for.
    pub arguments: [u64; 6],
    /// What the child was told: below 0 it is an errno, negated.
    pub answer: i64,
    /// How many completions of an io_uring came with it.
    pub completions: u32,
    /// For how long it slept in vain, in ns: the time that it was given, where that was over. A machine that pauses
    /// makes it no longer.
    pub slept: u64,
}

/// How a call fails; the number is an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It is not made.
    Refused(i32),
    /// It is made, and said to have failed: as the kernel does with a `close`.
    Hidden(i32),
    /// It is made and answers as ever; the first completion that it brings carries the error.
    Completion(i32),
}

/// Whether this machine lets calls fail.
pub fn can_fail_calls() -> bool {
    cfg!(target_arch = "x86_64")
}

/// Where the completions of an io_uring lie in the child.
#[derive(Clone, Copy, Default)]
struct Ring {
    tail: u64,
    mask: u64,
    entries: u64,
    base: Option<u64>,
}

impl Ring {
    /// From the parameters that the kernel filled in: `cq_off` of `struct io_uring_params`.
    fn of(pid: i32, parameters: u64) -> std::io::Result<Ring> {
        let pair = |at: u64| ptrace::peek(pid, parameters + 80 + at);
        let (low, high) = (|word: u64| word & 0xFFFF_FFFF, |word: u64| word >> 32);
        let (first, second, third) = (pair(0)?, pair(8)?, pair(16)?);
        Ok(Ring {
            tail: high(first),
            mask: low(second),
            entries: high(third),
            base: None,
        })
    }

    fn word(&self, pid: i32, at: u64) -> u64 {
        let Some(base) = self.base else {
            return 0;
        };
        // The words of a ring are 32 bits wide.
        ptrace::peek(pid, base + at).map_or(0, |word| word & 0xFFFF_FFFF)
    }

    fn produced(&self, pid: i32) -> u64 {
        self.word(pid, self.tail)
    }

    /// Overwrites the result of entry `number`.
    fn fail(&self, pid: i32, number: u64, errno: i32) -> std::io::Result<()> {
        let Some(base) = self.base else {
            return Ok(());
        };
        let index = number & self.word(pid, self.mask);
        let result = base + self.entries + 16 * index + 8;
        let flags = ptrace::peek(pid, result)? & !0xFFFF_FFFF;
        ptrace::poke(pid, result, flags | u64::from(-errno as u32))
    }
}

/// For how many ns a call may sleep: what it was given, from now on or up to a time of a clock.
fn patience(pid: i32, call: &Call) -> Option<u64> {
    let [_, second, third, fourth, fifth, _] = call.arguments;
    let (at, clock) = match call.number {
        libc::SYS_nanosleep => (call.arguments[0], None),
        libc::SYS_clock_nanosleep => {
            let is_until = second & libc::TIMER_ABSTIME as u64 != 0;
            (third, is_until.then_some(call.arguments[0]))
        }
        libc::SYS_ppoll => (third, None),
        libc::SYS_futex => match second as i32 & libc::FUTEX_CMD_MASK {
            libc::FUTEX_WAIT => (fourth, None),
            libc::FUTEX_WAIT_BITSET => {
                let is_realtime = second as i32 & libc::FUTEX_CLOCK_REALTIME != 0;
                let clock = if is_realtime {
                    libc::CLOCK_REALTIME
                } else {
                    libc::CLOCK_MONOTONIC
                };
                (fourth, Some(clock as u64))
            }
            _ => return None,
        },
        libc::SYS_futex_waitv => (fourth, Some(fifth)),
        _ => return None,
    };
    if at == 0 {
        return None;
    }
    let (seconds, nanos) = (ptrace::peek(pid, at).ok()?, ptrace::peek(pid, at + 8).ok()?);
    let given = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    let Some(clock) = clock else {
        return Some(given);
    };
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the struct is there to be written to.
    unsafe { libc::clock_gettime(clock as libc::clockid_t, &mut now) };
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    Some(given.saturating_sub(now))
}

/// Whether the time of a call that may sleep was over.
fn is_over(call: &Call) -> bool {
    match call.number {
        libc::SYS_futex | libc::SYS_futex_waitv => call.answer == -i64::from(libc::ETIMEDOUT),
        _ => call.answer == 0,
    }
}

/// What stands in the registers at the entry of a call.
fn entered(pid: i32) -> std::io::Result<Call> {
    let number = ptrace::syscall_number(pid)?;
    let registers = ptrace::registers(pid)?;
    #[cfg(target_arch = "x86_64")]
    let arguments = [
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
        registers.r9,
    ];
    #[cfg(target_arch = "aarch64")]
    let arguments = core::array::from_fn(|index| registers.regs[index]);
    Ok(Call {
        number,
        arguments,
        ..Call::default()
    })
}

/// The rings of a child, by descriptor.
type Rings = BTreeMap<u64, Ring>;

impl Stepper {
    /// Runs to `end` and says which calls were made.
    pub fn run_to_end(&mut self) -> Result<Vec<Call>, Fault> {
        self.run_failing((usize::MAX, 0), Mishap::Refused(0))
    }

    /// Runs to `end`; the first call of that number at or behind that place of the stretch fails. Says which calls
    /// were made. A child that ends on its way is a fault, and [`exit`](Stepper::exit) says how.
    pub fn run_failing(
        &mut self,
        (place, number): (usize, i64),
        mishap: Mishap,
    ) -> Result<Vec<Call>, Fault> {
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        let (mut calls, mut rings) = (Vec::new(), Rings::new());
        let mut inside: Option<Call> = None;
        let mut failed = None;
        loop {
            let signal = std::mem::take(&mut self.pending) as usize;
            self.advance(libc::PTRACE_SYSCALL, signal)?;
            match self.wait(&armed)? {
                Stop::Syscall => match inside.take() {
                    None => {
                        let mut call = self.os("registers", entered(self.pid))?;
                        call.slept = patience(self.pid, &call).unwrap_or(0);
                        if failed.is_none() && calls.len() >= place && call.number == number {
                            failed = Some(calls.len());
                            if let Mishap::Refused(_) = mishap {
                                self.os("registers", ptrace::skip_call(self.pid))?;
                            }
                        }
                        let ring = rings.get(&call.arguments[0]);
                        call.completions = ring.map_or(0, |ring| ring.produced(self.pid)) as u32;
                        inside = Some(call);
                    }
                    Some(mut call) => {
                        let fails = (failed == Some(calls.len())).then_some(mishap);
                        self.left(&mut call, fails, &mut rings)?;
                        calls.push(call);
                    }
                },
                Stop::Signal(signal) => self.pending = signal,
                Stop::Breakpoint => {
                    return match self.marker()? {
                        Marker::End => Ok(calls),
                        Marker::Begin => Err(self.astray("met begin() within the stretch")),
                    };
                }
                _ => {}
            }
        }
    }

    /// At the exit of a call. Until then its completions are those that there were before.
    fn left(&self, call: &mut Call, fails: Option<Mishap>, rings: &mut Rings) -> Result<(), Fault> {
        let before = std::mem::take(&mut call.completions);
        let answer = self.os("registers", ptrace::answer(self.pid))?;
        call.answer = answer;
        // Of one that was not made this is what the kernel says of no call.
        if !is_over(call) {
            call.slept = 0;
        }
        if let Some(Mishap::Refused(errno) | Mishap::Hidden(errno)) = fails {
            call.answer = -i64::from(errno);
            self.os("registers", ptrace::set_answer(self.pid, call.answer))?;
        }
        let [first, second, .., offset] = call.arguments;
        match call.number {
            libc::SYS_io_uring_setup if answer >= 0 => {
                let ring = self.os("parameters of a ring", Ring::of(self.pid, second))?;
                rings.insert(answer as u64, ring);
            }
            libc::SYS_mmap if answer > 0 => {
                // Both halves of a ring lie in one mapping, at offset 0.
                if let Some(ring) = rings.get_mut(&call.arguments[4])
                    && offset == 0
                {
                    ring.base = Some(answer as u64);
                }
            }
            libc::SYS_close => drop(rings.remove(&first)),
            libc::SYS_io_uring_enter => {
                let Some(ring) = rings.get(&first) else {
                    return Ok(());
                };
                let behind = ring.produced(self.pid);
                call.completions = (behind as u32).wrapping_sub(before);
                if let Some(Mishap::Completion(errno)) = fails
                    && call.completions > 0
                {
                    self.os("a completion", ring.fail(self.pid, before.into(), errno))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
