//! Files that appear whole or not at all, with an explicit mode and group.
//!
//! A file is built under a temporary name, filled to its full length with `fallocate` (a sparse
//! file would be a SIGBUS later), and published with `renameat2(RENAME_NOREPLACE)`. Mode and
//! group are set by `fchmod`/`fchown` on the descriptor, so no umask has a say.

use rustix::fs::{self as rfs, FallocateFlags, Gid, Mode, RenameFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Not enough room: what was asked for and what there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSpace {
    pub needed: u64,
    pub available: u64,
}

/// Why a file could not be made.
#[derive(Debug)]
pub enum CreateFailure {
    NoSpace(NoSpace),
    Io(io::Error),
}

impl From<io::Error> for CreateFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for CreateFailure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Permission bits and group of everything that belongs to one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub mode: u32,
    pub group: Option<u32>,
}

impl Access {
    /// Directories get the search bit wherever the files get the read bit, and set-group-id.
    fn directory_mode(self) -> u32 {
        self.mode | (self.mode & 0o444) >> 2 | 0o100
    }
}

fn gid(access: Access) -> Option<Gid> {
    access.group.map(Gid::from_raw)
}

/// Makes `path` with full access rights of `access`; fails if it exists.
pub fn create_directory(path: &Path, access: Access) -> io::Result<()> {
    rfs::mkdir(path, Mode::from_raw_mode(0o700))?;
    let directory = File::open(path)?;
    if access.group.is_some() {
        rfs::fchown(&directory, None, gid(access))?;
    }
    rfs::fchmod(&directory, Mode::from_raw_mode(access.directory_mode()))?;
    Ok(())
}

/// Makes a temporary file of `len` zero bytes that really exist. It is removed again on failure.
pub fn create_temporary(path: &Path, len: u64, access: Access) -> Result<File, CreateFailure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let filled = (|| {
        allocate(&file, len)?;
        if access.group.is_some() {
            rfs::fchown(&file, None, gid(access))?;
        }
        rfs::fchmod(&file, Mode::from_raw_mode(access.mode))?;
        Ok(())
    })();
    match filled {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

fn allocate(file: &File, len: u64) -> Result<(), CreateFailure> {
    let no_space = || {
        let available = rfs::fstatvfs(file)
            .map(|s| s.f_bavail * s.f_frsize)
            .unwrap_or(0);
        CreateFailure::NoSpace(NoSpace {
            needed: len,
            available,
        })
    };
    loop {
        return match rfs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::FBIG) => {
                Err(no_space())
            }
            Err(error) => Err(error.into()),
        };
    }
}

/// Gives a finished file its name. `AlreadyExists` if somebody was first.
pub fn publish(temporary: &Path, name: &Path) -> io::Result<()> {
    rfs::renameat_with(rfs::CWD, temporary, rfs::CWD, name, RenameFlags::NOREPLACE)?;
    Ok(())
}

/// Opens read-write, close-on-exec, not following a link in the last step.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Whether `path` still leads to the file behind the descriptor.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() == theirs.ino() && ours.dev() == theirs.dev(),
        _ => false,
    }
}

/// Names in a directory, unsorted; names that are not UTF-8 are none of ours.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
