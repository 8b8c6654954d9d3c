//! A fork server: stepped children for the price of a fork instead of an exec.
//!
//! The zygote is a role's process that waits before the role starts. Each order forks a
//! child that runs the role from its first line, with parameters of its own: nothing the
//! role attaches or maps ever crosses the fork. The children are traced from birth and
//! reaped by the kernel.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use super::Stepper;
use crate::launch::{Traced, pipe};
use crate::ptrace::{self, Stop};
use crate::{Fault, Launch, os, role, watch};

/// The fork server; see the module. Stays on its thread, like its children's steppers.
#[derive(Debug)]
pub struct Zygote {
    orders: File,
    process: Stepper,
}

impl Zygote {
    /// Starts the server for a role's launch. Only for [`Launch::role`].
    pub fn spawn(launch: &Launch) -> Result<Zygote, Fault> {
        let (read, write) = pipe()?;
        let fd = read.as_raw_fd();
        let launch = launch.clone().env(role::ZYGOTE, fd.to_string());
        let (pid, pidfd) = launch.start(Traced::Yes, &[fd])?;
        let name = format!("{} (zygote)", launch.name);
        let mut process = Stepper::adopt(name, pid, pidfd, true);
        process.first_stop(ptrace::OPTIONS | libc::PTRACE_O_TRACEFORK)?;
        process.advance(libc::PTRACE_CONT, 0)?;
        Ok(Zygote {
            orders: File::from(write),
            process,
        })
    }

    /// A new child, held at `begin`, whose parameters are those of the launch plus `extra`.
    pub fn fork(&mut self, extra: &[(&str, &str)]) -> Result<Stepper, Fault> {
        let fields: Vec<&str> = extra
            .iter()
            .flat_map(|(key, value)| [*key, *value])
            .collect();
        let order = fields.join("\0");
        let mut message = (order.len() as u32).to_ne_bytes().to_vec();
        message.extend(order.as_bytes());
        let sent = self.orders.write_all(&message);
        sent.map_err(|e| Fault::os(format!("order to {}", self.process.name), e))?;

        let armed = watch::arm(self.process.pid, &self.process.pidfd, watch::deadline());
        let child = loop {
            match self.process.wait(&armed)? {
                Stop::Event(libc::PTRACE_EVENT_FORK) => {
                    let pid = ptrace::event_message(self.process.pid);
                    break self.process.os("event", pid)? as i32;
                }
                Stop::Signal(signal) => {
                    self.process.advance(libc::PTRACE_CONT, signal as usize)?;
                }
                _ => self.process.advance(libc::PTRACE_CONT, 0)?,
            }
        };
        drop(armed);
        self.process.advance(libc::PTRACE_CONT, 0)?;
        let pidfd = os::pidfd_open(child)
            .map_err(|e| Fault::os(format!("pidfd of a child of {}", self.process.name), e))?;
        let name = self.process.name.replace(" (zygote)", "");
        let mut stepper = Stepper::adopt(name, child, pidfd, false);
        stepper.first_stop(ptrace::OPTIONS)?;
        stepper.run_to_begin()?;
        Ok(stepper)
    }
}
