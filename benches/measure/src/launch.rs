//! The other end of the protocol: starts a host, waits for it, reads its lines.
//!
//! For front ends. A host is told to end when the front end dies, and when the
//! front end is asked to stop ([`watch_interrupts`]), so that it can end its
//! sides and remove its files; the front end waits for it in either case.

use crate::contender::Listed;
use crate::sides::Interrupted;
use crate::{Plan, Result, Round, Trouble};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// A binary that speaks the protocol.
#[derive(Clone, Debug)]
pub struct Host {
    program: PathBuf,
    before: Vec<String>,
}

impl Host {
    /// `program`, with the arguments that come before the verb.
    pub fn new(program: &Path, before: &[&str]) -> Host {
        Host {
            program: program.to_owned(),
            before: before.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// Who can be measured by this host, where `verb` is its word for `list`.
    pub fn list(&self, verb: &str) -> Result<Vec<Listed>> {
        let text = self.ask(&[verb.to_owned()])?;
        text.lines()
            .map(|line| serde_json::from_str(line).map_err(|error| self.unreadable(line, &error)))
            .collect()
    }

    /// Runs one round. Blocks until it is done, at most a little more than the
    /// plan's deadline.
    pub fn round(&self, plan: &Plan) -> Result<Round> {
        let text = self.ask(&words(plan))?;
        serde_json::from_str(text.trim()).map_err(|error| self.unreadable(&text, &error))
    }

    fn unreadable(&self, text: &str, error: &serde_json::Error) -> Trouble {
        format!(
            "{} printed {text:?}, which is no record: {error}",
            self.program.display()
        )
        .into()
    }

    fn ask(&self, words: &[String]) -> Result<String> {
        if is_interrupted() {
            return Err(Interrupted.into());
        }
        let output = self
            .output(words)
            .map_err(|error| format!("can't run {}: {error}", self.program.display()))?;
        if is_interrupted() || output.status.code() == Some(130) {
            return Err(Interrupted.into());
        }
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim();
            let said = if said.is_empty() {
                "it said nothing"
            } else {
                said
            };
            return Err(format!("{said} ({})", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn output(&self, words: &[String]) -> io::Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(&self.before).args(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let front_end = std::process::id();
        // SAFETY: between fork and exec only prctl and getppid are called, both
        // of which are async-signal-safe; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                if libc::getppid() as u32 != front_end {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        RUNNING.store(child.id() as i32, Ordering::SeqCst);
        if is_interrupted() {
            // It came between the check and the store, and found nobody to tell.
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        }
        let output = child.wait_with_output();
        RUNNING.store(0, Ordering::SeqCst);
        output
    }
}

/// The command line of a plan.
fn words(plan: &Plan) -> Vec<String> {
    let cores: Vec<_> = plan.cores.iter().map(usize::to_string).collect();
    let pairs = [
        ("--scenario", plan.scenario.word().to_owned()),
        ("--contender", plan.contender.clone()),
        ("--size", plan.size.to_string()),
        ("--cores", cores.join(",")),
        ("--messages", plan.messages.to_string()),
        ("--mode", plan.mode.word().to_owned()),
        ("--ring-bytes", plan.ring_bytes.to_string()),
        ("--stride", plan.stride.to_string()),
        ("--batch", plan.batch.to_string()),
        ("--backlog", plan.backlog.to_string()),
        ("--in-flight", plan.in_flight.to_string()),
        ("--deadline-s", plan.deadline_s.to_string()),
    ];
    let mut words = vec!["round".to_owned()];
    words.extend(
        pairs
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]),
    );
    words
}

/// From now on SIGINT and SIGTERM end the running host and make every further
/// call fail with [`Interrupted`], instead of ending this process at once.
pub fn watch_interrupts() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only touches atomics and calls kill, both
        // async-signal-safe; SA_RESTART leaves blocked calls undisturbed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_interrupt as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether the person asked for the end.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

extern "C" fn on_interrupt(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
    let running = RUNNING.load(Ordering::SeqCst);
    if running > 0 {
        // SAFETY: a child that is not yet waited for, or has just been: then no
        // other process can have its id within this handler's few instructions.
        unsafe { libc::kill(running, libc::SIGTERM) };
    }
}
