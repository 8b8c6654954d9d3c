//! Directories beside a bus: one being built, or one being removed, under a name that nobody opens.
//!
//! `ROOT/.ringway-NAME.RANDOM`. Whoever builds or removes one holds a lock on the directory itself
//! (flock), which the kernel gives back at its death; an unlocked one is a leftover, and whoever
//! creates or removes a bus of that name, or calls the doctor, deletes it. Between mkdir and lock
//! the maker holds nothing, so a leftover has to be ten seconds old; a maker that was stopped there
//! for longer finds its directory gone, or being deleted, and makes another.

use crate::error::OpenError;
use crate::sys::file::{self, Access};
use crate::sys::host;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Far more than the microseconds between mkdir and lock.
const LEFTOVER_AGE: Duration = Duration::from_secs(10);

fn prefix(name: &str) -> String {
    format!(".ringway-{name}.")
}

/// How often a maker whose directory was swept starts over; each time it must have been stopped
/// for as long as it takes to look like a leftover.
const ATTEMPTS: usize = 100;

/// A fresh directory beside the bus `name`, locked until the returned file closes. Not locked where
/// the file system knows no such locks.
pub fn make(root: &Path, name: &str, access: Access) -> io::Result<(PathBuf, Option<File>)> {
    for _ in 0..ATTEMPTS {
        let path = fresh(root, name);
        match file::create_directory(&path, access) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && root.is_dir() => continue,
            Err(error) => {
                let _ = file::remove_tree(&path);
                return Err(error);
            }
        }
        match file::lock_directory(&path) {
            // Locked and in its place: from here on nobody sweeps it.
            Ok(Some(held)) if is_at(&held, &path) => return Ok((path, Some(held))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Ok((path, None)),
        }
    }
    Err(io::Error::other("others keep sweeping what was just made"))
}

fn is_at(held: &File, path: &Path) -> bool {
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let held = held.metadata().map(id);
    matches!((held, path.symlink_metadata().map(id)), (Ok(held), Ok(there)) if held == there)
}

/// A fresh name beside the bus `name`.
fn fresh(root: &Path, name: &str) -> PathBuf {
    root.join(format!("{}{:016x}", prefix(name), host::random_u64()))
}

/// Locks a directory beside the bus until the returned file closes.
pub fn hold(path: &Path) -> Option<File> {
    file::lock_directory(path).ok().flatten()
}

/// Moves the directory of a bus aside and deletes it.
pub fn remove(root: &Path, name: &str, directory: &Path) -> Result<(), OpenError> {
    let _held = hold(directory);
    let aside = fresh(root, name);
    file::publish(directory, &aside).map_err(|e| OpenError::io(directory, e))?;
    file::remove_tree(&aside).map_err(|e| OpenError::io(&aside, e))
}

/// Leftovers of dead builders and removers of the bus `name`; deleted with `heal`. How many.
pub fn sweep(root: &Path, name: &str, heal: bool) -> u64 {
    let prefix = prefix(name);
    let mut found = 0;
    for entry in file::names(root).unwrap_or_default() {
        // A bus name has no dot, so no other bus's leftovers begin like this.
        if !entry.starts_with(&prefix) {
            continue;
        }
        let path = root.join(&entry);
        if !file::is_older(&path, LEFTOVER_AGE) {
            continue;
        }
        if let Some(_held) = hold(&path) {
            found += 1;
            if heal {
                let _ = file::remove_tree(&path);
            }
        }
    }
    found
}
