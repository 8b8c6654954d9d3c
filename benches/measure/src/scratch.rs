//! Files a round needs while it runs, and their end.
//!
//! A `Scratch` is a directory with a name of its own under a tmpfs; dropping it
//! removes it with all it holds. The name carries the process id, so that what
//! a killed round left is recognised and removed by the next one. Drop it in the
//! supervisor, after the sides were reaped.

use crate::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where named shared memory lives on Linux.
pub const SHM: &str = "/dev/shm";

const PREFIX: &str = "ringway-bench-";

/// A directory, and all names in /dev/shm that begin with its, until dropped.
pub struct Scratch {
    path: PathBuf,
    name: String,
}

impl Scratch {
    /// Makes one under /dev/shm, and removes those of processes that are gone.
    pub fn in_shared_memory() -> Result<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_named(|name| owner_of(name).is_some_and(is_gone));
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}", std::process::id());
        let path = Path::new(SHM).join(&name);
        fs::create_dir(&path)
            .map_err(|error| format!("can't create {}: {error}", path.display()))?;
        Ok(Scratch { path, name })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What names of further shared memory objects must begin with, so that
    /// they go away too.
    pub fn prefix(&self) -> String {
        format!("{}-", self.name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let prefix = self.prefix();
        remove_named(|name| name == self.name || name.starts_with(&prefix));
    }
}

/// A directory on a disk, until dropped: under $TMPDIR, or /var/tmp, which outlives a boot and so is no tmpfs.
pub struct DiskScratch {
    path: PathBuf,
}

impl DiskScratch {
    /// Makes one, and removes those of processes that are gone.
    pub fn new() -> Result<DiskScratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
        let parent = parent.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        remove_in(&parent, |name| owner_of(name).is_some_and(is_gone));
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{count}", std::process::id()));
        fs::create_dir(&path)
            .map_err(|error| format!("can't create {}: {error}", path.display()))?;
        Ok(DiskScratch { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DiskScratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what is named so in /dev/shm. A failure has nobody to go to; the
/// next round tries again.
fn remove_named(chosen: impl Fn(&str) -> bool) {
    remove_in(Path::new(SHM), chosen);
}

fn remove_in(parent: &Path, chosen: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(&chosen) {
            let path = entry.path();
            let _ = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
        }
    }
}

/// Whether no process has this id. One that was given out again only delays
/// the removal.
fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_its_value() {
        let scratch = Scratch::in_shared_memory().expect("/dev/shm is writable");
        let path = scratch.path().to_owned();
        fs::write(path.join("left"), b"x").expect("a file fits");
        let beside = Path::new(SHM).join(format!("{}object", scratch.prefix()));
        fs::write(&beside, b"x").expect("a file fits");
        drop(scratch);
        assert!(!path.exists() && !beside.exists());
    }

    #[test]
    fn the_owner_is_read_from_the_name() {
        assert_eq!(owner_of("ringway-bench-12-0"), Some(12));
        assert_eq!(owner_of("ringway-12"), None);
    }
}
