//! A child process and the guard over it: whoever holds it can stop, kill and reap it.
//!
//! Signals go through a pid descriptor, so a recycled pid is never hit. Dropped, the
//! guard kills and reaps. Every wait has the [`deadline`](crate::deadline) and turns a
//! hang into a [`Fault::Hung`] that names the child and what the kernel says of it.
//! Thread-safe to move; but the child dies with the *thread* that launched it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::liveness::PidNamespace;
use crate::{Fault, os, watch};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal {
        /// Which.
        signal: i32,
        /// It left a core dump.
        dumped: bool,
    },
}

impl Exit {
    /// Ended by itself with code 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// Ended by SIGKILL.
    pub fn is_kill(self) -> bool {
        matches!(
            self,
            Exit::Signal {
                signal: libc::SIGKILL,
                ..
            }
        )
    }

    pub(crate) fn from_waitid(code: i32, status: i32) -> Exit {
        match code {
            libc::CLD_EXITED => Exit::Code(status),
            code => Exit::Signal {
                signal: status,
                dumped: code == libc::CLD_DUMPED,
            },
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal {
                signal,
                dumped: false,
            } => write!(f, "signal {signal}"),
            Exit::Signal {
                signal,
                dumped: true,
            } => write!(f, "signal {signal}, core dumped"),
        }
    }
}

/// A running (or stopped, or dead but unreaped) child; see the module.
#[derive(Debug)]
pub struct Victim {
    name: String,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    exit: Option<Exit>,
    _keeps: Option<Arc<PidNamespace>>,
}

impl Victim {
    pub(crate) fn adopt(
        name: String,
        pid: i32,
        pidfd: OwnedFd,
        keeps: Option<Arc<PidNamespace>>,
    ) -> Victim {
        Victim {
            name,
            pid,
            pidfd: Arc::new(pidfd),
            exit: None,
            _keeps: keeps,
        }
    }

    /// The name given at launch.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, if it was waited for.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Sends a signal. Dead already is no error.
    pub fn signal(&self, signal: i32) -> Result<(), Fault> {
        let sent = os::signal(self.pidfd.as_fd(), signal);
        sent.map_err(|e| Fault::os(format!("signal {signal} to {}", self.name), e))
    }

    /// SIGKILL, then blocks until it is dead and reaped. Returns how it ended, which may be
    /// by itself a moment before.
    pub fn kill(&mut self) -> Result<Exit, Fault> {
        self.signal(libc::SIGKILL)?;
        self.wait()
    }

    /// SIGKILL, then blocks until it is dead; it stays a zombie until it is waited for.
    pub fn kill_unreaped(&mut self) -> Result<(), Fault> {
        self.signal(libc::SIGKILL)?;
        self.await_exit()
    }

    /// SIGSTOP, then blocks until it is stopped; false if it ended instead.
    pub fn stop(&self) -> Result<bool, Fault> {
        if self.exit.is_some() {
            return Ok(false);
        }
        self.signal(libc::SIGSTOP)?;
        let armed = watch::arm(self.pid, &self.pidfd, watch::deadline());
        let seen = os::waitid(self.pid, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT)
            .map_err(|e| Fault::os(format!("waitid for {}", self.name), e))?;
        if let Some(seen) = armed.fired() {
            return Err(self.hung("to stop", seen.to_owned()));
        }
        Ok(seen.is_some_and(|(code, _)| code == libc::CLD_STOPPED))
    }

    /// SIGCONT. Returns at once.
    pub fn cont(&self) -> Result<(), Fault> {
        self.signal(libc::SIGCONT)
    }

    /// Blocks until it has ended, and reaps it. At the deadline it is killed, and that is a fault.
    pub fn wait(&mut self) -> Result<Exit, Fault> {
        self.await_exit()?;
        self.try_wait()?
            .ok_or_else(|| Fault::victim(format!("{} exited, yet isn't there", self.name)))
    }

    /// [`wait`](Self::wait), and anything but exit code 0 is a fault.
    pub fn wait_success(&mut self) -> Result<(), Fault> {
        match self.wait()? {
            exit if exit.is_success() => Ok(()),
            exit => Err(Fault::victim(format!("{} ended with {exit}", self.name))),
        }
    }

    /// Reaps it if it has ended. Never blocks.
    pub fn try_wait(&mut self) -> Result<Option<Exit>, Fault> {
        if self.exit.is_none() {
            let seen = os::waitid(self.pid, libc::WEXITED | libc::WNOHANG)
                .map_err(|e| Fault::os(format!("waitid for {}", self.name), e))?;
            self.exit = seen.map(|(code, status)| Exit::from_waitid(code, status));
        }
        Ok(self.exit)
    }

    /// Blocks until it has ended or `until`; true if it has ended. Reaps nothing.
    pub fn exited_by(&self, until: Instant) -> Result<bool, Fault> {
        if self.exit.is_some() {
            return Ok(true);
        }
        os::exited_by(self.pidfd.as_fd(), until)
            .map_err(|e| Fault::os(format!("poll for {}", self.name), e))
    }

    /// The state letter of `/proc/<pid>/stat`: R, S, D, T stopped, t traced, Z zombie; None: reaped.
    pub fn state(&self) -> Option<char> {
        if self.exit.is_some() {
            None
        } else {
            os::stat(self.pid).map(|(state, _)| state)
        }
    }

    fn await_exit(&mut self) -> Result<(), Fault> {
        if self.exited_by(Instant::now() + watch::deadline())? {
            return Ok(());
        }
        let fault = self.hung("to end", os::describe(self.pid));
        self.signal(libc::SIGKILL)?;
        Err(fault)
    }

    fn hung(&self, what: &str, seen: String) -> Fault {
        let what = format!("{} {what}", self.name);
        Fault::Hung {
            what,
            waited: watch::deadline(),
            seen,
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = self.kill();
        }
    }
}
