//! Files on a disk that are written around the page cache, and durable when a write returns.
//!
//! O_DIRECT where the file system allows it, with memory and offsets in whole pages; the same calls
//! work without it. Whether a write carries its own sync (RWF_DSYNC) or is followed by
//! `fdatasync` is the caller's choice ([`Sync`]): which is faster differs from disk to disk.

use super::file::{CreateFailure, NoSpace};
use memmap2::{Advice, MmapMut};
use rustix::fs::{self as rfs, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// By itself: RWF_DSYNC.
    Dsync,
    /// By an `fdatasync` behind it.
    Fdatasync,
}

/// Zeroed memory in whole pages, as O_DIRECT wants it. Its pages exist: it faults none later.
#[derive(Debug)]
pub struct Pages(MmapMut);

impl Pages {
    /// `len` bytes, at least 1.
    pub fn new(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len)?;
        // Before Linux 5.14 there is no such advice: pages fault on first use.
        let _ = map.advise(Advice::PopulateWrite);
        Ok(Self(map))
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let direct = options
        .custom_flags(libc::O_DIRECT | libc::O_NOFOLLOW)
        .open(path);
    match direct {
        // tmpfs before Linux 6.6, and some network and overlay file systems, have no O_DIRECT.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            options.custom_flags(libc::O_NOFOLLOW).open(path)
        }
        other => other,
    }
}

/// Opens an existing file.
pub fn open(path: &Path, for_writing: bool) -> io::Result<File> {
    open_direct(OpenOptions::new().read(true).write(for_writing), path)
}

/// Makes a file of `len` bytes that are written: zeros, on the disk when this returns. Writing over
/// written extents is faster than writing to allocated ones, and needs no space any more. Removed
/// again on failure. The name itself is durable after [`sync_directory`].
pub fn create_filled(path: &Path, len: u64) -> Result<File, CreateFailure> {
    let file = {
        let created = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        drop(created);
        open_direct(OpenOptions::new().read(true).write(true), path)?
    };
    let filled = (|| {
        allocate(&file, len)?;
        const STEP: u64 = 1 << 20;
        let zeros = Pages::new(STEP.min(len) as usize)?;
        let mut offset = 0;
        while offset < len {
            let step = STEP.min(len - offset) as usize;
            let written = file.write_at(&zeros[..step], offset).map_err(|error| {
                match error.raw_os_error() {
                    Some(libc::ENOSPC | libc::EDQUOT) => no_space(&file, len),
                    _ => error.into(),
                }
            })?;
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            offset += written as u64;
        }
        rfs::fsync(&file)?;
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

fn no_space(file: &File, needed: u64) -> CreateFailure {
    let available = rfs::fstatvfs(file)
        .map(|s| s.f_bavail * s.f_frsize)
        .unwrap_or(0);
    CreateFailure::NoSpace(NoSpace { needed, available })
}

fn allocate(file: &File, len: u64) -> Result<(), CreateFailure> {
    loop {
        return match rfs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::INTR) => continue,
            // The zeros that are written next allocate as well.
            Err(Errno::OPNOTSUPP) => Ok(rfs::ftruncate(file, len)?),
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Err(no_space(file, len)),
            Err(error) => Err(error.into()),
        };
    }
}

/// Writes whole pages; durable when it returns. How many bytes were written.
pub fn write_durably(file: &File, offset: u64, bytes: &[u8], sync: Sync) -> io::Result<usize> {
    let flags = match sync {
        Sync::Dsync => ReadWriteFlags::DSYNC,
        Sync::Fdatasync => ReadWriteFlags::empty(),
    };
    let written = loop {
        match rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, flags) {
            Err(Errno::INTR) => continue,
            other => break other?,
        }
    };
    if sync == Sync::Fdatasync {
        rfs::fdatasync(file)?;
    }
    Ok(written)
}

/// Reads whole pages; fewer than asked for only at the end of the file.
pub fn read(file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// What anybody has written to the file is on the disk when this returns.
pub fn sync(file: &File) -> io::Result<()> {
    Ok(rfs::fdatasync(file)?)
}

/// Names that were given or taken in the directory are so on the disk when this returns.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    Ok(rfs::fsync(File::open(path)?)?)
}

/// Makes a directory and those above it, durably.
pub fn create_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
    std::fs::create_dir_all(path)?;
    for made in missing {
        if let Some(parent) = made.parent() {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            sync_directory(parent)?;
        }
    }
    Ok(())
}

/// Bytes that may still be written on the file system of `path`.
pub fn available(path: &Path) -> u64 {
    rfs::statvfs(path).map_or(0, |s| s.f_bavail * s.f_frsize)
}

/// A small file, read whole.
pub fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// A small file, written whole or not at all.
pub fn write_small(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}
