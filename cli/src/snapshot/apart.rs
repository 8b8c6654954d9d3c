//! Taking a snapshot in a process of its own.
//!
//! A file that somebody makes shorter in the middle of a look ends the process that looks (SIGBUS), and what
//! was scribbled over may be slow to look at. Who watches for long has each look made by this program again,
//! as `ringway stat --json`: what becomes of that one is an answer too.

use super::Snapshot;
use crate::output::Place;
use anyhow::{Context, bail};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Far more than the largest bus takes: a ring of sixteen million slots takes 0.2 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at a bus now, and is told what is wrong with it, whatever that is.
pub fn take_apart(place: &Place, bus: &str) -> anyhow::Result<Snapshot> {
    // The very program, also where another one has its name by now.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--json", "stat", bus]);
    command.arg("--root").arg(place.root());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    let mut child = command.spawn().context("can't start a look")?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (told, answer) = channel();
    let reader = std::thread::spawn(move || {
        let (mut document, mut complaint) = (Vec::new(), String::new());
        // What can't be read is cut short, and then is no document.
        let _ = out.as_mut().map(|out| out.read_to_end(&mut document));
        let _ = err.as_mut().map(|err| err.read_to_string(&mut complaint));
        let _ = told.send((document, complaint));
    });
    let answered = answer.recv_timeout(PATIENCE);
    if answered.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    // Its pipes are closed.
    let _ = reader.join();
    let (document, complaint) = match answered {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => {
            bail!("no look at it was finished within {PATIENCE:?}")
        }
        Err(RecvTimeoutError::Disconnected) => bail!("a look at it could not be read"),
    };
    match (status.success(), status.signal()) {
        (true, _) => serde_json::from_slice(&document).context("a look at it is no snapshot"),
        (false, Some(signal)) => {
            bail!("the look at it died of signal {signal}: its files change under it")
        }
        (false, None) => {
            let complaint = complaint.trim().trim_start_matches("ringway: ");
            bail!("{complaint}")
        }
    }
}
