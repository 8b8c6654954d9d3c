//! One run of the command for one message.
//!
//! The body is standard input by way of a memory file: a command that does not read it blocks nobody.
//! The command is the leader of a process group of its own, so that a terminal's Ctrl-C does not reach
//! it, and a kill reaches what it started. While it runs, the message's visibility is extended three
//! times per time-out. Its descriptor tells the end: nothing here polls. It is reaped in every case.

use super::pool::{Event, Options, Shared, Started};
use anyhow::{Context, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::{Message, QueueReceiver, Receipt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// From SIGTERM to SIGKILL, for a command that ran too long.
const GRACE: Duration = Duration::from_secs(5);
/// Extensions per visibility time-out: two may be late.
const BEATS: u32 = 3;

/// What came of a message.
pub enum Outcome {
    Succeeded,
    /// Given back for later.
    Failed {
        why: String,
        retry_after: Duration,
    },
    /// With the pool; given back.
    Killed,
}

pub struct Ended {
    pub worker: usize,
    pub receipt: Receipt,
    /// Whether there was a command, and so a [`Started`].
    pub started: bool,
    pub outcome: Outcome,
    pub ran: Duration,
    /// Why the message is no longer this worker's, if so: its outcome settled nothing.
    pub lost: Option<String>,
}

/// Runs the command to its end. An error: no command can be run at all.
pub fn run(
    shared: &Shared,
    worker: usize,
    receiver: &mut QueueReceiver,
    message: &Message,
) -> anyhow::Result<Ended> {
    let receipt = message.received.receipt;
    let start = Instant::now();
    let (started, outcome) = match command(shared, message)?.spawn() {
        Ok(child) => {
            let pid = child.id();
            let started = Started {
                worker,
                receipt,
                pid,
            };
            let _ = shared.events.send(Event::Started(started));
            let running = Running::new(shared, receiver, receipt, child, start);
            (true, running.wait()?)
        }
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                let command = &shared.options.command[0];
                return Err(anyhow!("{command:?} can't be run: {error}"));
            }
            _ => (false, failed(format!("can't start: {error}"))),
        },
    };
    Ok(Ended {
        worker,
        receipt,
        started,
        outcome,
        ran: start.elapsed(),
        lost: None,
    })
}

fn failed(why: String) -> Outcome {
    Outcome::Failed {
        why,
        retry_after: Duration::ZERO,
    }
}

fn command(shared: &Shared, message: &Message) -> anyhow::Result<Command> {
    let options = &shared.options;
    let mut command = Command::new(&options.command[0]);
    command
        .args(&options.command[1..])
        .stdin(body(&message.body)?)
        .process_group(0);
    if options.output_to_stderr {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        command.stdout(Stdio::from(stderr.context("can't copy standard error")?));
    }
    environment(
        &mut command,
        options,
        message,
        &shared.queue.definition().name,
    );
    Ok(command)
}

/// A file of memory that holds `body`, at its beginning.
fn body(body: &[u8]) -> anyhow::Result<Stdio> {
    let file = rustix::fs::memfd_create("body", MemfdFlags::CLOEXEC);
    let file = File::from(file.context("can't make a memory file for a body")?);
    let written = file.write_all_at(body, 0);
    written.context("can't write a body to its memory file")?;
    Ok(file.into())
}

fn environment(command: &mut Command, options: &Options, message: &Message, queue: &str) {
    // What a pool around this one said of its message.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"RINGWAY_ATTR_") {
            command.env_remove(name);
        }
    }
    let received = &message.received;
    command
        .env("RINGWAY_BUS", &options.bus)
        .env("RINGWAY_QUEUE", queue)
        .env("RINGWAY_RECEIPT", received.receipt.to_string())
        .env("RINGWAY_RECEIVES", received.receives().to_string())
        .env("RINGWAY_SENT_MS", received.sent_ms.to_string())
        .env("RINGWAY_BODY_LEN", message.body.len().to_string());
    if let Some(root) = &options.root {
        command.env(ringway::ROOT_VARIABLE, root);
    }
    for (name, value) in [
        ("RINGWAY_GROUP", message.group()),
        ("RINGWAY_DEDUP_ID", message.dedup_id()),
        ("RINGWAY_TRACE_HEADER", message.trace_header()),
    ] {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    for attribute in message.attributes() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = attribute.name.replace(|c| !is_plain(c), "_");
        let value = match attribute.text() {
            Some(text) => text.to_owned(),
            None => BASE64_STANDARD.encode(attribute.bytes()),
        };
        command.env(format!("RINGWAY_ATTR_{name}"), value);
    }
}

/// A command that runs.
struct Running<'a> {
    shared: &'a Shared,
    receiver: &'a mut QueueReceiver,
    receipt: Receipt,
    child: Child,
    group: Pid,
    visibility: Duration,
    /// When the next of these is due.
    beat_at: Option<Instant>,
    term_at: Option<Instant>,
    kill_at: Option<Instant>,
    is_too_long: bool,
    is_killed: bool,
}

impl<'a> Running<'a> {
    fn new(
        shared: &'a Shared,
        receiver: &'a mut QueueReceiver,
        receipt: Receipt,
        child: Child,
        start: Instant,
    ) -> Self {
        let options = &shared.options;
        let visibility = options.visibility;
        let visibility = visibility.unwrap_or_else(|| shared.queue.settings().visibility);
        Self {
            shared,
            receiver,
            receipt,
            group: Pid::from_child(&child),
            child,
            visibility,
            beat_at: Some(start + visibility / BEATS),
            term_at: options.kill_after.map(|after| start + after),
            kill_at: None,
            is_too_long: false,
            is_killed: false,
        }
    }

    fn wait(mut self) -> anyhow::Result<Outcome> {
        let ended = match pidfd_open(self.group, PidfdFlags::empty()) {
            Ok(ended) => ended,
            Err(error) => {
                // Nothing else tells its end in time.
                self.kill(Signal::KILL);
                let _ = self.child.wait();
                return Err(anyhow!("can't watch a command: {error}"));
            }
        };
        loop {
            self.act();
            let timeout = self.timeout();
            let mut watched = vec![PollFd::new(&ended, PollFlags::IN)];
            if !self.is_killed {
                watched.push(PollFd::new(&self.shared.kill, PollFlags::IN));
            }
            match poll(&mut watched, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    self.kill(Signal::KILL);
                    let _ = self.child.wait();
                    return Err(anyhow!("can't wait for a command: {error}"));
                }
            }
            if watched[0].revents().contains(PollFlags::IN) {
                break;
            }
        }
        if self.is_too_long || self.is_killed {
            // What it started and left. The group has its number until its leader is reaped.
            self.kill(Signal::KILL);
        }
        let status = self.child.wait().context("can't reap a command")?;
        Ok(self.outcome(status))
    }

    /// Does what is due.
    fn act(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.beat_at) {
            let extended = self
                .receiver
                .change_visibility(&self.receipt, self.visibility);
            // A lease that is lost is told by the settling.
            self.beat_at = extended.is_ok().then(|| now + self.visibility / BEATS);
        }
        if self.shared.is_killing() && !self.is_killed {
            self.is_killed = true;
            self.kill(Signal::KILL);
        }
        if is_due(self.term_at) {
            self.is_too_long = true;
            self.term_at = None;
            self.kill_at = Some(now + GRACE);
            self.kill(Signal::TERM);
        }
        if is_due(self.kill_at) {
            self.kill_at = None;
            self.kill(Signal::KILL);
        }
    }

    /// Until something is due.
    fn timeout(&self) -> Option<Timespec> {
        let due = [self.beat_at, self.term_at, self.kill_at];
        let next = due.into_iter().flatten().min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    fn kill(&self, signal: Signal) {
        // It is not reaped yet, so the group is its own; all of it may have ended.
        let _ = kill_process_group(self.group, signal);
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        if status.success() {
            return Outcome::Succeeded;
        }
        if self.is_killed {
            return Outcome::Killed;
        }
        if self.is_too_long {
            return failed("it ran too long (--kill-after)".to_owned());
        }
        failed(match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => status.to_string(),
        })
    }
}
