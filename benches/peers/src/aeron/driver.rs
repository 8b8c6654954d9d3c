//! A media driver for one round: `aeronmd` on a directory of its own.
//!
//! Started before the sides, ended and reaped when dropped, and told by the
//! kernel to die with its starter. The directory is the caller's to remove.

use super::api;
use ringway_measure::{Plan, Result};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running media driver.
pub(super) struct Driver {
    child: Child,
}

/// The largest frame Aeron allows (a multiple of 32 below 64 KiB): no message
/// that could be one frame is split.
pub(super) const MTU: usize = 65_504;

impl Driver {
    /// Starts one in `dir`, which it creates. Its log is `dir` with `.log`.
    pub(super) fn start(dir: &Path, plan: &Plan) -> Result<Driver> {
        let program = program()?;
        let log = File::create(dir.with_extension("log"))?;
        let mut command = Command::new(&program);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .env("AERON_DIR", dir)
            .env("AERON_DIR_DELETE_ON_SHUTDOWN", "true")
            // One thread, since an IPC stream needs no sender and no receiver.
            .env("AERON_THREADING_MODE", "SHARED")
            .env("AERON_IPC_MTU_LENGTH", MTU.to_string())
            .env("AERON_IPC_TERM_BUFFER_LENGTH", term_bytes(plan).to_string())
            // The whole log is there before the round, as every ring here is.
            .env("AERON_TERM_BUFFER_SPARSE_FILE", "false");
        // SAFETY: prctl is async-signal-safe, and all that runs between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .map_err(|error| format!("can't run {}: {error}", program.display()))?;
        Ok(Driver { child })
    }

    /// Fails once the driver has ended, which it must not before the round has.
    pub(super) fn check(&mut self, dir: &Path) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let said = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
        Err(format!(
            "the media driver ended ({status}): {}",
            said.lines().last().unwrap_or("no word")
        )
        .into())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It has nothing to save: its files are removed with the round's.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Aeron's own default, for payloads that fill a smaller term too quickly.
const LARGE_TERM_BYTES: usize = 64 << 20;

/// Three terms make a log; a publication may run half a term ahead of its
/// reader, by a limit that the driver moves, at worst once a millisecond. A term
/// of four rings of the plan gives it time for that and stays in the caches.
fn term_bytes(plan: &Plan) -> usize {
    if plan.size > 4096 {
        return LARGE_TERM_BYTES;
    }
    (4 * plan.ring_bytes)
        .next_power_of_two()
        .clamp(64 * 1024, 1 << 30)
}

/// `aeronmd` beside the library or in the folders of a build of it, else on PATH.
fn program() -> Result<PathBuf> {
    let beside = api::home()
        .into_iter()
        .flat_map(|home| ["", "../bin", "../binaries"].map(|folder| home.join(folder)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join("aeronmd"))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        format!(
            "not installed: there is no aeronmd on PATH or near ${}",
            api::HOME
        )
        .into()
    })
}

/// Whether a driver could be started.
pub(super) fn available() -> Result<()> {
    program().map(drop)
}
