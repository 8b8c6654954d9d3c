//! The directory of a bus: made, checked, replaced, put aside.
//!
//! Creation builds the whole directory under a temporary name, with the creator's lock held, and
//! publishes it by one rename; dying in between leaves a directory that `doctor` removes. A bus
//! from before the last boot is put aside under the lock byte `RESET_LOCK` of its own file, so of
//! several processes that find it exactly one moves exactly that directory.

use super::builder::Builder;
use super::{BUS_FILE, OBJECTS, POOL, aside};
use crate::error::OpenError;
use crate::layout::bus::{BUS_FILE_BYTES, BusHeader, MAGIC, RESET_LOCK};
use crate::layout::{FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY};
use crate::object::file::{check_preamble, read_header};
use crate::shm::words;
use crate::sys::file::{self, Access, CreateFailure};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, host, lock};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Builder {
    pub(super) fn check_mode(&self) -> Result<(), OpenError> {
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            return Err(OpenError::InvalidOption {
                option: "mode",
                given: format!("{:#o}", self.mode),
                rule: "permission bits with read and write for the owner, such as 0o660".into(),
            });
        }
        Ok(())
    }

    /// Builds the directory under a temporary name and publishes it.
    pub(super) fn build(&self) -> Result<(), OpenError> {
        self.check_mode()?;
        let directory = self.directory();
        if directory.symlink_metadata().is_ok() {
            return Err(OpenError::AlreadyExists { path: directory });
        }
        let access = Access {
            mode: self.mode,
            group: self.group,
        };
        let root = self.root_directory();
        aside::sweep(&root, &self.name, true);
        let (temporary, _held) = self.make_aside(access)?;
        let built = self.fill(&temporary, access).and_then(|()| {
            file::publish(&temporary, &directory).map_err(|e| OpenError::io(&directory, e))
        });
        if built.is_err() {
            let _ = file::remove_tree(&temporary);
        }
        built
    }

    /// A locked directory under a temporary name. When there is none, the root is what is missing or
    /// closed to us.
    fn make_aside(&self, access: Access) -> Result<(PathBuf, Option<std::fs::File>), OpenError> {
        let root = self.root_directory();
        aside::make(&root, &self.name, access).map_err(|e| OpenError::io(&root, e))
    }

    fn fill(&self, temporary: &Path, access: Access) -> Result<(), OpenError> {
        let at = |path: &Path, error| OpenError::io(path, error);
        for part in [OBJECTS, POOL] {
            let path = temporary.join(part);
            file::create_directory(&path, access).map_err(|e| at(&path, e))?;
        }
        let path = temporary.join(BUS_FILE);
        let file =
            file::create_temporary(&path, BUS_FILE_BYTES as u64, access).map_err(|e| match e {
                CreateFailure::NoSpace(room) => OpenError::NoSpace {
                    path: self.directory(),
                    needed: room.needed,
                    available: room.available,
                },
                CreateFailure::Io(error) => at(&path, error),
            })?;
        let boot_id = host::boot_id().map_err(|e| at(&path, e))?;
        let mapping = Mapping::new(&file, MapOptions::default()).map_err(|e| at(&path, e))?;
        words::write_header(
            &mapping,
            &BusHeader {
                preamble: Preamble {
                    magic: MAGIC,
                    major: FORMAT_MAJOR,
                    minor: FORMAT_MINOR,
                    ready: READY,
                    features: FEATURES_REQUIRED,
                    bus_id: host::random_u64() | 1,
                    boot_id,
                    object_id: 0,
                    created_ms: clock::unix_ms(),
                },
                mode: self.mode,
                // What the creator's files have, so that another member's files have it too.
                group: file::group(&file).map_err(|e| at(&path, e))?,
                pool_bytes: self.pool_bytes,
                file_bytes: BUS_FILE_BYTES as u64,
                policies: 0,
                reserved: [0; PAGE - 64 - 32],
            },
        );
        Ok(())
    }

    /// Puts a bus that is marked removed aside and deletes it.
    pub(super) fn put_aside(&self) -> Result<(), OpenError> {
        match self.lock_stale()? {
            Some((_locked, OpenError::Removed { .. })) => {
                aside::remove(&self.root_directory(), &self.name, &self.directory())
            }
            _ => Ok(()),
        }
    }

    /// Puts an empty bus in the place of one from before the last boot, by one exchange of names:
    /// there is no moment without a bus, so nobody else creates one. Whether this call did it.
    pub(super) fn replace(&self) -> Result<bool, OpenError> {
        self.check_mode()?;
        let Some((_locked, OpenError::OtherBoot { .. })) = self.lock_stale()? else {
            return Ok(false);
        };
        let directory = self.directory();
        let access = Access {
            mode: self.mode,
            group: self.group,
        };
        let (aside, _built) = self.make_aside(access)?;
        let _held = aside::hold(&directory);
        let replaced = self.fill(&aside, access).and_then(|()| {
            file::exchange(&aside, &directory).map_err(|e| OpenError::io(&directory, e))
        });
        // The old one now, or the new one that could not be put in its place.
        let removed = file::remove_tree(&aside).map_err(|e| OpenError::io(&aside, e));
        replaced.and(removed).map(|()| true)
    }

    /// The file of a bus that can't be used any more, locked against others who replace or remove
    /// it, and why it can't. `None` when somebody else has dealt with it.
    fn lock_stale(&self) -> Result<Option<(std::fs::File, OpenError)>, OpenError> {
        let path = self.directory().join(BUS_FILE);
        let at = |error| OpenError::io(&path, error);
        let stale = match file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error)),
        };
        let deadline = clock::Deadline::after(Duration::from_secs(10));
        while !lock::try_lock(&stale, RESET_LOCK).map_err(at)? {
            if deadline.passed() {
                return Err(at(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process has been replacing this bus for 10 s; continue or kill it",
                )));
            }
            clock::pause(Duration::from_millis(1));
        }
        // Whoever held the lock before us may have moved it already.
        if !file::is_at(&stale, &path) {
            return Ok(None);
        }
        Ok(check(&stale, &path).err().map(|why| (stale, why)))
    }
}

/// Checks and maps a bus file.
pub(super) fn map(
    file: &std::fs::File,
    path: &Path,
    private: bool,
) -> Result<(BusHeader, Mapping), OpenError> {
    let header = check(file, path)?;
    let options = MapOptions {
        pre_touch: !private,
        private,
        ..MapOptions::default()
    };
    let mapping = Mapping::new(file, options).map_err(|e| OpenError::io(path, e))?;
    if mapping.len() < BUS_FILE_BYTES {
        return Err(OpenError::WrongLength {
            path: path.into(),
            expected: BUS_FILE_BYTES as u64,
            actual: mapping.len() as u64,
        });
    }
    Ok((header, mapping))
}

/// Checks the header of a bus file.
fn check(file: &std::fs::File, path: &Path) -> Result<BusHeader, OpenError> {
    let actual = file.metadata().map_err(|e| OpenError::io(path, e))?.len();
    if actual < PAGE as u64 {
        let expected = BUS_FILE_BYTES as u64;
        return Err(OpenError::WrongLength {
            path: path.into(),
            expected,
            actual,
        });
    }
    let header: BusHeader = read_header(file).map_err(|e| OpenError::io(path, e))?;
    check_preamble(&header.preamble, MAGIC, "bus", path)?;
    if header.file_bytes != actual || actual != BUS_FILE_BYTES as u64 {
        return Err(OpenError::WrongLength {
            path: path.into(),
            expected: header.file_bytes,
            actual,
        });
    }
    if header.preamble.bus_id == 0 {
        return Err(OpenError::Scribbled {
            path: path.into(),
            what: "its id is zero",
        });
    }
    if header.mode & !0o777 != 0 {
        return Err(OpenError::Scribbled {
            path: path.into(),
            what: "impossible permission bits",
        });
    }
    let boot_id = host::boot_id().map_err(|e| OpenError::io(path, e))?;
    if header.preamble.boot_id != boot_id {
        return Err(OpenError::OtherBoot { path: path.into() });
    }
    Ok(header)
}
