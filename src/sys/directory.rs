//! A directory on a disk, held by a descriptor.
//!
//! Everything goes through the descriptor, so a directory that was moved aside, or removed and made anew
//! under the same path, is another one: who comes late writes into what is gone, never into its
//! successor. Names are single; none of them is followed if it is a link.

use super::disk::Pages;
use super::file::{CreateFailure, NoSpace, look_for_room};
use super::{host, lock};
use rustix::fs::{self as rfs, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// An open directory.
#[derive(Debug)]
pub struct Directory(File);

/// What an open directory says of itself. Not by way of the standard library, which panics when a close is
/// answered by an error.
pub(super) fn names_of(directory: rfs::Dir) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in directory {
        match entry?.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

impl Directory {
    /// The one that `path` leads to now; not a link to one.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rfs::open(path, flags, Mode::empty())?.into()))
    }

    /// Whether `path` still leads to it. Where nobody can say that is an error.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        super::file::leads_to(path, &self.0)
    }

    /// Names in it, unsorted; names that are not UTF-8 are none of ours.
    pub fn names(&self) -> io::Result<Vec<String>> {
        names_of(rfs::Dir::read_from(&self.0)?)
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        Ok(rfs::openat(&self.0, name, flags, mode)?.into())
    }

    /// Opens an existing file, around the page cache where the file system allows it.
    pub fn open_file(&self, name: &str, for_writing: bool) -> io::Result<File> {
        let flags = if for_writing {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        match self.open_with(name, flags | OFlags::DIRECT) {
            // tmpfs before Linux 6.6, and some network and overlay file systems, have no O_DIRECT.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.open_with(name, flags),
            other => other,
        }
    }

    /// Makes a file of `len` bytes that are written: zeros, on the disk when this returns. Writing over
    /// written extents is faster than writing to allocated ones, and needs no space any more. Removed
    /// again on failure. The name itself is durable after [`sync`](Self::sync).
    pub fn create_filled(&self, name: &str, len: u64) -> Result<File, CreateFailure> {
        drop(self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?);
        let filled = (|| {
            let file = self.open_file(name, true)?;
            allocate(&file, len)?;
            fill(&file, len)?;
            rfs::fsync(&file)?;
            Ok(file)
        })();
        if filled.is_err() {
            let _ = self.remove(name);
        }
        filled
    }

    /// Gives a file another name; fails if that is taken.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        Ok(rfs::renameat_with(&self.0, from, &self.0, to, flags)?)
    }

    /// Takes a name away. A directory is none of the things this removes.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rfs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Names that were given or taken are so on the disk when this returns.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rfs::fsync(&self.0)?)
    }

    /// Bytes that may still be written on its file system.
    pub fn available(&self) -> u64 {
        rfs::fstatvfs(&self.0).map_or(0, |s| s.f_bavail * s.f_frsize)
    }

    /// A small file, read whole.
    pub fn read_small(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_with(name, OFlags::RDONLY)?
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Adds bytes to the end of a small file, by one write; they are on the disk when this returns. Who adds at the
    /// same time adds before or behind them.
    #[cfg_attr(
        not(feature = "topics"),
        expect(dead_code, reason = "topics alone use it")
    )]
    pub fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.open_with(name, OFlags::WRONLY | OFlags::APPEND)?;
        if file.write(bytes)? < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(rfs::fdatasync(&file)?)
    }

    /// A small file that was not there, whole; on the disk when this returns. Fails if the name is taken.
    #[cfg_attr(
        not(feature = "topics"),
        expect(dead_code, reason = "topics alone use it")
    )]
    pub fn create_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!(".tmp-{name}-{:016x}", host::random_u64());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = self.open_with(&temporary, flags)?;
        let named = file
            .write_all(bytes)
            .and_then(|()| Ok(rfs::fsync(&file)?))
            .and_then(|()| self.rename(&temporary, name));
        if named.is_err() {
            let _ = self.remove(&temporary);
        }
        named.and_then(|()| self.sync())
    }

    /// Takes a small file away, if what is in it says that it is the one that is meant; whether it did. Everyone who
    /// does so holds the lock of that very file while it still has the name, so a fresh one of the same name
    /// is never hit. Never waits: `WouldBlock` when somebody else is at it.
    #[cfg_attr(
        not(feature = "topics"),
        expect(dead_code, reason = "topics alone use it")
    )]
    pub fn remove_small(
        &self,
        name: &str,
        is_meant: impl FnOnce(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let mut file = self.open_with(name, OFlags::RDWR)?;
        if !lock::try_lock(&file, 0)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (ours, named) = (
            file.metadata()?,
            rfs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?,
        );
        if (ours.dev(), ours.ino()) != (named.st_dev, named.st_ino) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if !is_meant(&bytes) {
            return Ok(false);
        }
        self.remove(name)?;
        self.sync()?;
        Ok(true)
    }

    /// A small file, written whole or not at all.
    pub fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!(".tmp-{name}-{:016x}", host::random_u64());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_with(&temporary, flags)?.write_all(bytes)?;
        let renamed = rfs::renameat(&self.0, temporary.as_str(), &self.0, name);
        renamed.map_err(|error| {
            let _ = self.remove(&temporary);
            error.into()
        })
    }
}

fn allocate(file: &File, len: u64) -> Result<(), CreateFailure> {
    let available = look_for_room(file, len)?;
    loop {
        return match rfs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            // The zeros that are written next allocate as well.
            Err(Errno::OPNOTSUPP) => Ok(rfs::ftruncate(file, len)?),
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                let needed = len;
                Err(CreateFailure::NoSpace(NoSpace { needed, available }))
            }
            Err(error) => Err(error.into()),
        };
    }
}

fn fill(file: &File, len: u64) -> Result<(), CreateFailure> {
    const STEP: u64 = 2 << 20; // a huge page
    let zeros = Pages::new(STEP.min(len) as usize)?;
    let available = look_for_room(file, 0)?;
    let mut offset = 0;
    while offset < len {
        let step = STEP.min(len - offset) as usize;
        match file.write_at(&zeros[..step], offset) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(written) => offset += written as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(match error.raw_os_error() {
                    Some(libc::ENOSPC | libc::EDQUOT) => {
                        let needed = len;
                        CreateFailure::NoSpace(NoSpace { needed, available })
                    }
                    _ => error.into(),
                });
            }
        }
    }
    Ok(())
}
