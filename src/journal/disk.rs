//! A directory on a real disk.
//!
//! The lane is io_uring; `pwritev2` where the system refuses it (containers often do), or where
//! `RINGWAY_JOURNAL_BACKEND=pwrite` asks for it: the same guarantees, one write at a time. How a write
//! becomes durable was found out by a probe when the directory was made, and is kept in it.

use super::error::JournalError;
use super::storage::{Done, Lane, SegmentFile, Storage, Write};
use crate::sys::disk::{self, Pages, Sync};
use crate::sys::file::{self, CreateFailure};
use crate::sys::uring::{self, Uring};
use crate::sys::{clock, host};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names the backend: `uring` or `pwrite`; anything else, and nothing, lets the system decide.
pub const BACKEND_VARIABLE: &str = "RINGWAY_JOURNAL_BACKEND";

/// How writes reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Several at a time.
    Uring,
    /// One at a time.
    Pwrite,
}

/// What the probe found.
const PROBE_FILE: &str = "probe";
/// Writes of each kind: some milliseconds in all.
const PROBE_WRITES: u32 = 12;

/// A directory; see the module. Cheap to make again.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    sync: Sync,
    backend: Option<Backend>,
    one_thread: bool,
}

impl Disk {
    /// The directory, which must exist.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let directory = directory.into();
        if !file::is_directory(&directory) {
            return Err(JournalError::NotFound { path: directory });
        }
        let sync = match disk::read_small(&directory.join(PROBE_FILE)) {
            Ok(known) if known.starts_with(b"fdatasync") => Sync::Fdatasync,
            _ => Sync::Dsync,
        };
        let asked = std::env::var(BACKEND_VARIABLE).unwrap_or_default();
        let backend = match asked.as_str() {
            "uring" => Some(Backend::Uring),
            "pwrite" => Some(Backend::Pwrite),
            _ => None,
        };
        Ok(Self {
            directory,
            sync,
            backend,
            one_thread: false,
        })
    }

    /// The directory, made if there is none, and probed if it has not been. Blocks for the probe, some
    /// milliseconds, once in the life of a directory.
    pub fn open_or_create(directory: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let directory = directory.into();
        disk::create_directories(&directory)
            .map_err(|source| io_error(&directory, "making the directory", source))?;
        let mut opened = Self::open(&directory)?;
        let result = directory.join(PROBE_FILE);
        if disk::read_small(&result).is_err() {
            opened.sync = probe(&directory)?;
            let found: &[u8] = match opened.sync {
                Sync::Dsync => b"dsync\n",
                Sync::Fdatasync => b"fdatasync\n",
            };
            disk::write_small(&result, found)
                .map_err(|source| io_error(&result, "writing", source))?;
        }
        Ok(opened)
    }

    /// Says that lanes are used by the thread that makes them, and by no other: that saves io_uring a
    /// lock and an interrupt.
    pub fn one_thread(mut self) -> Self {
        self.one_thread = true;
        self
    }

    /// Chooses the backend, whatever the environment says.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> JournalError {
    JournalError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

/// Which way a page is durable sooner on this disk: the median of a few writes each.
fn probe(directory: &Path) -> Result<Sync, JournalError> {
    let path = directory.join(format!(".tmp-probe-{}", std::process::id()));
    let made =
        disk::create_filled(&path, 64 << 10).map_err(|failure| create_error(&path, failure))?;
    let found = (|| {
        let pages = Pages::new(4096)?;
        let median = |sync| -> io::Result<Duration> {
            let mut times = Vec::new();
            for turn in 0..PROBE_WRITES {
                let begun = Instant::now();
                disk::write_durably(&made, u64::from(turn % 16) * 4096, &pages, sync)?;
                times.push(begun.elapsed());
            }
            times.sort();
            Ok(times[times.len() / 2])
        };
        match median(Sync::Dsync) {
            Ok(by_itself) => {
                let behind = median(Sync::Fdatasync)?;
                // By itself unless it is clearly slower: it is one system call, and one completion.
                let is_slower = by_itself > behind + behind / 8;
                Ok(if is_slower {
                    Sync::Fdatasync
                } else {
                    Sync::Dsync
                })
            }
            // The file system has no such flag.
            Err(error) if error.raw_os_error() == Some(95) => Ok(Sync::Fdatasync),
            Err(error) => Err(error),
        }
    })();
    let _ = file::remove(&path);
    found.map_err(|source: io::Error| io_error(&path, "probing the disk", source))
}

fn create_error(path: &Path, failure: CreateFailure) -> JournalError {
    match failure {
        CreateFailure::NoSpace(space) => JournalError::NoSpace {
            path: path.to_owned(),
            needed: space.needed,
            available: space.available,
        },
        CreateFailure::Io(source) => io_error(path, "making a segment", source),
    }
}

impl Storage for Disk {
    type File = DiskFile;
    type Lane = DiskLane;

    fn names(&self) -> io::Result<Vec<String>> {
        file::names(&self.directory)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<DiskFile, JournalError> {
        let path = self.directory.join(name);
        let made = disk::create_filled(&path, bytes);
        made.map(|file| DiskFile::new(file, self.sync))
            .map_err(|failure| create_error(&path, failure))
    }

    fn open(&self, name: &str, for_writing: bool) -> io::Result<DiskFile> {
        let file = disk::open(&self.directory.join(name), for_writing)?;
        Ok(DiskFile::new(file, self.sync))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        file::publish(&self.directory.join(from), &self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        file::remove(&self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        disk::sync_directory(&self.directory)
    }

    fn lane(&self, buffers: &[usize]) -> io::Result<DiskLane> {
        if self.backend != Some(Backend::Pwrite) {
            match Uring::new(buffers, self.sync, self.one_thread) {
                Ok(ring) => return Ok(DiskLane(Way::Uring(Box::new(ring)))),
                Err(error) if self.backend == Some(Backend::Uring) => return Err(error),
                Err(_) => {}
            }
        }
        let buffers = buffers.iter().map(|len| Pages::new(*len));
        Ok(DiskLane(Way::Pwrite(Plain {
            buffers: buffers.collect::<io::Result<_>>()?,
            files: [const { None }; uring::SLOTS],
            done: VecDeque::new(),
            sync: self.sync,
        })))
    }

    fn available_bytes(&self) -> u64 {
        disk::available(&self.directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn stamp(&self) -> (u64, [u8; 16]) {
        (clock::unix_ms(), host::boot_id().unwrap_or([0; 16]))
    }
}

/// An open segment on a disk.
#[derive(Debug)]
pub struct DiskFile {
    file: Arc<File>,
    sync: Sync,
}

impl DiskFile {
    fn new(file: File, sync: Sync) -> Self {
        let file = Arc::new(file);
        Self { file, sync }
    }
}

impl SegmentFile for DiskFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        disk::read(&self.file, offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        disk::write_durably(&self.file, offset, bytes, self.sync)
    }

    fn sync(&self) -> io::Result<()> {
        disk::sync(&self.file)
    }
}

/// Writes to a disk.
pub struct DiskLane(Way);

enum Way {
    Uring(Box<Uring>),
    Pwrite(Plain),
}

/// Each write is made when it is submitted.
struct Plain {
    buffers: Vec<Pages>,
    files: [Option<Arc<File>>; uring::SLOTS],
    done: VecDeque<Done>,
    sync: Sync,
}

impl DiskLane {
    /// What the system allowed.
    pub fn backend(&self) -> Backend {
        match self.0 {
            Way::Uring(_) => Backend::Uring,
            Way::Pwrite(_) => Backend::Pwrite,
        }
    }
}

impl Lane for DiskLane {
    type File = DiskFile;

    fn buffer(&mut self, index: usize) -> &mut [u8] {
        match &mut self.0 {
            Way::Uring(ring) => ring.buffer(index),
            Way::Pwrite(plain) => &mut plain.buffers[index],
        }
    }

    fn attach(&mut self, slot: usize, file: &DiskFile) -> io::Result<()> {
        match &mut self.0 {
            Way::Uring(ring) => ring.attach(slot, &file.file),
            Way::Pwrite(plain) => {
                plain.files[slot] = Some(Arc::clone(&file.file));
                Ok(())
            }
        }
    }

    fn submit(&mut self, write: Write) -> io::Result<()> {
        match &mut self.0 {
            Way::Uring(ring) => ring.submit(uring::Write {
                slot: write.slot,
                buffer: write.buffer,
                len: write.len,
                offset: write.offset,
            }),
            Way::Pwrite(plain) => {
                let file = plain.files[write.slot]
                    .as_ref()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
                let bytes = &plain.buffers[write.buffer][..write.len];
                let result = disk::write_durably(file, write.offset, bytes, plain.sync);
                plain.done.push_back(Done {
                    buffer: write.buffer,
                    result,
                });
                Ok(())
            }
        }
    }

    fn reap(&mut self, wait: bool) -> io::Result<Option<Done>> {
        match &mut self.0 {
            Way::Uring(ring) => Ok(ring
                .reap(wait)?
                .map(|(buffer, result)| Done { buffer, result })),
            Way::Pwrite(plain) => Ok(plain.done.pop_front()),
        }
    }
}
