//! Files on a disk that are written around the page cache, and durable when a write returns.
//!
//! O_DIRECT where the file system allows it, with memory and offsets in whole pages; the same calls
//! work without it. Whether a write carries its own sync (RWF_DSYNC) or is followed by
//! `fdatasync` is the caller's choice ([`Sync`]): which is faster differs from disk to disk.

use memmap2::{Advice, MmapMut};
use rustix::fs as rfs;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut, Range};
use std::os::unix::fs::FileExt;
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
pub struct Pages {
    map: MmapMut,
    at: Range<usize>,
}

/// What a huge page has, and from where on they are asked for: each page of a write is looked up, and is a piece of
/// the request by itself, so writes of 1 MiB out of small ones took 1.4 to 1.6 times as long (virtio, 4 at a time).
const HUGE: usize = 2 << 20;

impl Pages {
    /// `len` bytes, at least 1.
    pub fn new(len: usize) -> io::Result<Self> {
        let is_huge = len >= HUGE;
        let map = MmapMut::map_anon(if is_huge { len + HUGE } else { len })?;
        let mut from = 0;
        if is_huge {
            from = (map.as_ptr() as usize).wrapping_neg() % HUGE;
            // Where there are none, small ones do.
            let _ = map.advise_range(Advice::HugePage, from, len);
        }
        // Before Linux 5.14 there is no such advice: pages fault on first use.
        let _ = map.advise_range(Advice::PopulateWrite, from, len);
        let at = from..from + len;
        Ok(Self { map, at })
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map[self.at.clone()]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.at.clone()]
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

/// Which file it is, of those on its disk.
pub fn inode(file: &File) -> u64 {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map_or(0, |meta| meta.ino())
}

/// What anybody has written to the file is on the disk when this returns.
pub fn sync(file: &File) -> io::Result<()> {
    Ok(rfs::fdatasync(file)?)
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
            rfs::fsync(File::open(parent)?)?;
        }
    }
    Ok(())
}
