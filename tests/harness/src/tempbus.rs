//! A directory for one test's bus, gone when the guard is.
//!
//! Its name starts with `ringway-test-<pid>-`, so whatever a killed test left behind can
//! be told from what a running one still uses: [`leftovers`]. The guard removes the
//! whole directory on drop, also while panicking, and only in the process that made it:
//! a forked child that drops its copy removes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::{Fault, os};

const PREFIX: &str = "ringway-test-";

/// What this process still holds a guard for.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The guard; see the module.
///
/// ```
/// let bus = ringway_harness::TempBus::new().unwrap();
/// let path = bus.path().to_owned();
/// std::fs::write(path.join("queue"), b"x").unwrap();
/// drop(bus);
/// assert!(!path.exists());
/// ```
#[derive(Debug)]
pub struct TempBus {
    path: PathBuf,
    maker: u32,
}

impl TempBus {
    /// A fresh, empty directory under `/dev/shm`.
    pub fn new() -> Result<TempBus, Fault> {
        Self::under("/dev/shm")
    }

    /// A fresh, empty directory under `parent`, for instance one on a disk.
    pub fn under(parent: impl AsRef<Path>) -> Result<TempBus, Fault> {
        // Relaxed: only uniqueness within this process counts.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        loop {
            let serial = SERIAL.fetch_add(1, Relaxed);
            let name = format!("{PREFIX}{}-{serial}", std::process::id());
            match Self::at(parent.as_ref().join(name)) {
                // A leftover of an earlier process with our pid: not ours to remove.
                Err(fault) if fault.errno() == Some(libc::EEXIST) => {}
                other => return other,
            }
        }
    }

    /// Exactly `path`, which must not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Result<TempBus, Fault> {
        let path = path.into();
        std::fs::create_dir(&path)
            .map_err(|e| Fault::os(format!("mkdir {}", path.display()), e))?;
        HELD.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.clone());
        Ok(TempBus {
            path,
            maker: std::process::id(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempBus {
    fn drop(&mut self) {
        if self.maker != std::process::id() {
            return;
        }
        HELD.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.path);
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("{} stays behind: {e}", self.path.display());
            }
            _ => {}
        }
    }
}

/// Test directories in `/dev/shm` that no guard will remove: those of this process
/// without a guard, and those whose maker is gone.
pub fn leftovers() -> Vec<PathBuf> {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<PathBuf> = std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let maker = name.to_str().and_then(|n| n.strip_prefix(PREFIX));
            let maker = maker.and_then(|n| n.split('-').next()?.parse::<i32>().ok());
            maker.is_some_and(|pid| pid as u32 == std::process::id() || os::stat(pid).is_none())
        })
        .map(|entry| entry.path())
        .filter(|path| !held.contains(path))
        .collect();
    found.sort();
    found
}
