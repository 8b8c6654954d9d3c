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

/// A directory that goes away with its value.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one under /dev/shm, and removes those of processes that are gone.
    pub fn in_shared_memory() -> Result<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep(Path::new(SHM));
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(SHM).join(format!("{PREFIX}{}-{count}", std::process::id()));
        fs::create_dir(&path)
            .map_err(|error| format!("can't create {}: {error}", path.display()))?;
        Ok(Scratch { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failure here has nobody to go to; the next round's sweep tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what rounds left whose process is gone. A reused id only delays it.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner_of) else {
            continue;
        };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
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
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn the_owner_is_read_from_the_name() {
        assert_eq!(owner_of("ringway-bench-12-0"), Some(12));
        assert_eq!(owner_of("ringway-12"), None);
    }
}
