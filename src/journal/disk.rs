//! A directory on a real disk.
//!
//! The lane is io_uring; `pwritev2` where the system refuses it (containers often do), or where
//! `RINGWAY_JOURNAL_BACKEND=pwrite` asks for it: the same guarantees, one write at a time. How a write
//! becomes durable was found out by a probe when the directory was made, and is kept in it.
//!
//! The directory is held by a descriptor: where its path leads to another one by now, that one is left
//! alone.

use super::error::JournalError;
use super::storage::{Done, Lane, ReadAt, SegmentFile, Storage, Write};
use super::watch::{Call, Watcher};
use crate::sys::directory::Directory;
use crate::sys::disk::{self, Pages, Sync};
use crate::sys::file::{CreateFailure, NoSpace};
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
const PROBE_FILE: &str = super::segment::PROBE;
/// Whose it is.
const LABEL_FILE: &str = super::segment::LABEL;
/// Writes of each kind: some milliseconds in all.
const PROBE_WRITES: u32 = 12;

/// A directory; see the module. Cheap to make again.
#[derive(Debug)]
pub struct Disk {
    directory: Directory,
    path: PathBuf,
    sync: Sync,
    backend: Option<Backend>,
    one_thread: bool,
    watcher: Watcher,
}

impl Disk {
    /// The directory, which must exist.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let path = path.into();
        let directory = match Directory::open(&path) {
            Ok(directory) => directory,
            Err(error) if is_missing(&error) => return Err(JournalError::NotFound { path }),
            Err(source) => return Err(io_error(&path, "opening the directory", source)),
        };
        let sync = match directory.read_small(PROBE_FILE) {
            Ok(known) if known.starts_with(b"fdatasync") => Sync::Fdatasync,
            _ => Sync::Dsync,
        };
        let asked = std::env::var(BACKEND_VARIABLE).unwrap_or_default();
        let backend = match asked.as_str() {
            "uring" => Some(Backend::Uring),
            "pwrite" => Some(Backend::Pwrite),
            _ => None,
        };
        let watcher = Watcher::of(&path);
        Ok(Self {
            directory,
            path,
            sync,
            backend,
            one_thread: false,
            watcher,
        })
    }

    /// The directory, made if there is none, and probed if it has not been. Blocks for the probe, some
    /// milliseconds, once in the life of a directory.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let path = path.into();
        disk::create_directories(&path)
            .map_err(|source| io_error(&path, "making the directory", source))?;
        let mut opened = Self::open(&path)?;
        if opened.directory.read_small(PROBE_FILE).is_err() {
            opened.sync = opened.probe()?;
            let found: &[u8] = match opened.sync {
                Sync::Dsync => b"dsync\n",
                Sync::Fdatasync => b"fdatasync\n",
            };
            let written = opened.directory.write_small(PROBE_FILE, found);
            written.map_err(|source| io_error(&path.join(PROBE_FILE), "writing", source))?;
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

    /// Where it was when it was opened.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// Whose journal it is, in the user's words: nothing is done by it.
    pub fn label(&self) -> Option<Vec<u8>> {
        self.directory.read_small(LABEL_FILE).ok()
    }

    /// Says whose journal it is, unless it says so.
    pub fn set_label(&self, label: &[u8]) -> Result<(), JournalError> {
        if self.label().as_deref() == Some(label) {
            return Ok(());
        }
        let written = self.directory.write_small(LABEL_FILE, label);
        written.map_err(|source| io_error(&self.path.join(LABEL_FILE), "writing", source))
    }

    /// Whether its path still leads to it.
    ///
    /// # Errors
    /// When nobody can say.
    pub fn is_in_place(&self) -> io::Result<bool> {
        self.directory.is_at(&self.path)
    }

    /// Which way a page is durable sooner on this disk: the median of a few writes each.
    fn probe(&self) -> Result<Sync, JournalError> {
        let name = super::segment::temporary(PROBE_FILE);
        let made = self.create(&name, 64 << 10)?.file;
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
        let _ = self.remove(&name);
        found.map_err(|source: io::Error| io_error(&self.path, "probing the disk", source))
    }
}

/// No directory, or something else in its place.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> JournalError {
    JournalError::Io {
        path: path.to_owned(),
        what,
        source,
    }
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
        self.watcher.around(Call::Names, || self.directory.names())
    }

    fn create(&self, name: &str, bytes: u64) -> Result<DiskFile, JournalError> {
        let call = |file| Call::Create { name, bytes, file };
        let made = match self.watcher.before(call(0)) {
            Ok(()) => self.directory.create_filled(name, bytes),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                Err(CreateFailure::NoSpace(NoSpace {
                    needed: bytes,
                    available: 0,
                }))
            }
            Err(error) => Err(error.into()),
        };
        let made = made.map_err(|failure| create_error(&self.path.join(name), failure))?;
        let file = DiskFile::new(made, self);
        self.watcher.behind(call(file.inode));
        Ok(file)
    }

    fn open(&self, name: &str, for_writing: bool) -> io::Result<DiskFile> {
        let open = || self.directory.open_file(name, for_writing);
        let file = self.watcher.around(Call::Open { name }, open)?;
        Ok(DiskFile::new(file, self))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = || self.directory.rename(from, to);
        self.watcher.around(Call::Rename { from, to }, rename)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let remove = || self.directory.remove(name);
        self.watcher.around(Call::Remove { name }, remove)
    }

    fn sync_directory(&self) -> io::Result<()> {
        let sync = || self.directory.sync();
        self.watcher.around(Call::SyncDirectory, sync)
    }

    fn lane(&self, buffers: &[usize]) -> io::Result<DiskLane> {
        let lane = |way| DiskLane {
            way,
            watcher: self.watcher.clone(),
            inodes: [0; uring::SLOTS],
        };
        self.watcher.before(Call::Lane)?;
        if self.backend != Some(Backend::Pwrite) {
            match Uring::new(buffers, self.sync, self.one_thread) {
                Ok(ring) => return Ok(lane(Way::Uring(Box::new(ring)))),
                Err(error) if self.backend == Some(Backend::Uring) => return Err(error),
                Err(_) => {}
            }
        }
        let buffers = buffers.iter().map(|len| Pages::new(*len));
        Ok(lane(Way::Pwrite(Plain {
            buffers: buffers.collect::<io::Result<_>>()?,
            files: [const { None }; uring::SLOTS],
            done: VecDeque::new(),
            sync: self.sync,
        })))
    }

    fn available_bytes(&self) -> u64 {
        self.directory.available()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
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
    watcher: Watcher,
    /// 0 where nobody watches.
    inode: u64,
}

impl DiskFile {
    fn new(file: File, disk: &Disk) -> Self {
        let watcher = disk.watcher.clone();
        let inode = if watcher.is_there() {
            disk::inode(&file)
        } else {
            0
        };
        Self {
            file: Arc::new(file),
            sync: disk.sync,
            watcher,
            inode,
        }
    }
}

impl SegmentFile for DiskFile {
    fn bytes(&self) -> io::Result<u64> {
        let length = || Ok(self.file.metadata()?.len());
        self.watcher.around(Call::Length, length)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let read = || disk::read(&self.file, offset, out);
        self.watcher.around(Call::Read, read)
    }

    fn reader(&self) -> Option<ReadAt> {
        let file = Arc::clone(&self.file);
        // Who watches counts calls in their order.
        (!self.watcher.is_there())
            .then(|| Box::new(move |offset, out: &mut [u8]| disk::read(&file, offset, out)) as _)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let call = Call::Write {
            file: self.inode,
            offset,
            bytes,
        };
        let write = || disk::write_durably(&self.file, offset, bytes, self.sync);
        self.watcher.around(call, write)
    }

    fn sync(&self) -> io::Result<()> {
        self.watcher.around(Call::Sync, || disk::sync(&self.file))
    }
}

/// Writes to a disk.
pub struct DiskLane {
    way: Way,
    watcher: Watcher,
    /// Of the files that are attached.
    inodes: [u64; uring::SLOTS],
}

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
    #[cold]
    fn note(&mut self, write: Write) -> io::Result<()> {
        let file = self.inodes[write.slot];
        let bytes = &self.buffer(write.buffer)[..write.len].to_vec();
        let call = Call::Submit {
            file,
            buffer: write.buffer,
            offset: write.offset,
            bytes,
        };
        self.watcher.around(call, || Ok(()))
    }

    /// What the system allowed.
    pub fn backend(&self) -> Backend {
        match self.way {
            Way::Uring(_) => Backend::Uring,
            Way::Pwrite(_) => Backend::Pwrite,
        }
    }
}

impl Lane for DiskLane {
    type File = DiskFile;

    fn buffer(&mut self, index: usize) -> &mut [u8] {
        match &mut self.way {
            Way::Uring(ring) => ring.buffer(index),
            Way::Pwrite(plain) => &mut plain.buffers[index],
        }
    }

    fn attach(&mut self, slot: usize, file: &DiskFile) -> io::Result<()> {
        self.inodes[slot] = file.inode;
        match &mut self.way {
            Way::Uring(ring) => ring.attach(slot, &file.file),
            Way::Pwrite(plain) => {
                plain.files[slot] = Some(Arc::clone(&file.file));
                Ok(())
            }
        }
    }

    fn submit(&mut self, write: Write) -> io::Result<()> {
        if self.watcher.is_there() {
            self.note(write)?;
        }
        match &mut self.way {
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
        let done = match &mut self.way {
            Way::Uring(ring) => ring
                .reap(wait)?
                .map(|(buffer, result)| Done { buffer, result }),
            Way::Pwrite(plain) => plain.done.pop_front(),
        };
        let watcher = &self.watcher;
        Ok(done.map(|Done { buffer, result }| Done {
            buffer,
            result: result
                .and_then(|written| watcher.around(Call::Complete { buffer }, || Ok(written))),
        }))
    }
}
