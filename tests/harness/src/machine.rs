//! A machine that restarts: a place for buses that is memory to them, and one on a disk that stays.
//!
//! A restart is played by removing what is in memory, whoever has it open still. Both places go with the value.

use crate::TempBus;
use std::path::{Path, PathBuf};

/// The machine; see the module.
#[derive(Debug)]
pub struct Machine {
    root: TempBus,
}

impl Machine {
    /// Under `parent`, a directory on a disk.
    ///
    /// # Panics
    /// When the directories can't be made.
    pub fn under(parent: impl AsRef<Path>) -> Self {
        let machine = Self {
            root: TempBus::under(parent).expect("a directory on a disk"),
        };
        for part in [machine.memory(), machine.disk()] {
            std::fs::create_dir(&part).unwrap_or_else(|e| panic!("mkdir {}: {e}", part.display()));
        }
        machine
    }

    /// Where all of it lies.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Where buses lie.
    pub fn memory(&self) -> PathBuf {
        self.root.path().join("memory")
    }

    /// Where journals lie.
    pub fn disk(&self) -> PathBuf {
        self.root.path().join("disk")
    }

    /// Where the objects of the bus called `bus` lie.
    pub fn objects(&self) -> PathBuf {
        self.memory().join("ringway-bus/objects")
    }

    /// Where its journals lie.
    pub fn journals(&self) -> PathBuf {
        self.disk().join("ringway-bus")
    }

    /// Where the journal of one of its objects lies.
    pub fn journal(&self, name: &str) -> PathBuf {
        self.journals().join(name)
    }

    /// What was in memory is gone.
    ///
    /// # Panics
    /// When it can't be removed.
    pub fn restart(&self) {
        std::fs::remove_dir_all(self.memory()).expect("memory is removed");
        std::fs::create_dir(self.memory()).expect("memory is there again");
    }

    /// Another machine with the same disk as it is now.
    ///
    /// # Panics
    /// When it can't be copied.
    pub fn image(&self, parent: impl AsRef<Path>) -> Self {
        let copy = Self::under(parent);
        let status = std::process::Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(self.disk().join("."))
            .arg(copy.disk())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "cp -a");
        copy
    }
}

/// The directories in a directory, in the order of their names.
pub fn directories_in(directory: &Path) -> Vec<PathBuf> {
    listed(directory, |path| path.is_dir())
}

/// The segments of the journal in a directory, from the oldest on.
pub fn segments_in(directory: &Path) -> Vec<PathBuf> {
    listed(directory, |path| {
        path.extension().is_some_and(|it| it == "segment")
    })
}

fn listed(directory: &Path, is_one: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| is_one(path)).collect();
    paths.sort();
    paths
}
