//! The door to a disk: one directory of segments, and a lane of writes to them.
//!
//! Three implementations: io_uring and `pwritev2` in [`super::disk`], and a simulated disk in the
//! tests. What all of them owe:
//!
//! - a name that was given by [`create`](Storage::create) or [`rename`](Storage::rename) is durable
//!   after [`sync_directory`](Storage::sync_directory), not before; until then either state may be found;
//! - [`write_at`](SegmentFile::write_at) and a completion of a [`Lane`] mean that the bytes are durable;
//!   bytes of a write that has not completed may be there or not, each 512 of them by themselves;
//! - an error means that nothing is known of those bytes, now and after a later success.

use super::error::JournalError;
use std::io;
use std::path::PathBuf;

/// A directory that holds the segments of one object.
pub trait Storage: Send + Sync + 'static {
    /// An open segment.
    type File: SegmentFile;
    /// Writes under way.
    type Lane: Lane<File = Self::File>;

    /// Names in the directory, unsorted.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `bytes` zeros that are durable, with all its space; fails if there is one.
    fn create(&self, name: &str, bytes: u64) -> Result<Self::File, JournalError>;
    /// Opens a file.
    fn open(&self, name: &str, for_writing: bool) -> io::Result<Self::File>;
    /// Gives a file another name; fails if that is taken.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// A lane with buffers of these lengths, all multiples of a page.
    fn lane(&self, buffers: &[usize]) -> io::Result<Self::Lane>;
    /// Bytes that may still be written.
    fn available_bytes(&self) -> u64;
    /// Where a name is, for messages.
    fn path(&self, name: &str) -> PathBuf;
    /// Unix time in ms, and the boot id.
    fn stamp(&self) -> (u64, [u8; 16]);
}

/// Reads a segment once: offset, pages, how many bytes.
pub type ReadAt = Box<dyn FnOnce(u64, &mut [u8]) -> io::Result<usize> + Send>;

/// An open segment. Offsets, lengths and memory are whole pages.
pub trait SegmentFile: Send + 'static {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads; fewer bytes than asked for only at the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// What reads it from another thread, as [`read_at`](Self::read_at) does; `None` where nobody may.
    fn reader(&self) -> Option<ReadAt> {
        None
    }
    /// Writes; durable when it returns.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes durable what was written by anybody.
    fn sync(&self) -> io::Result<()>;
}

/// Files that can be attached to a lane at a time.
pub const SLOTS: u64 = 4;

/// A write that is handed to a lane.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Of the attached file.
    pub slot: usize,
    /// The buffer it is in, from its beginning, and comes back with.
    pub buffer: usize,
    pub len: usize,
    pub offset: u64,
}

/// What became of a write.
#[derive(Debug)]
pub struct Done {
    /// Its buffer, which is free again.
    pub buffer: usize,
    /// Bytes written, or why not.
    pub result: io::Result<usize>,
}

/// Durable writes, several at a time, one from each buffer.
pub trait Lane: Send {
    /// An open segment.
    type File;

    /// A buffer that no write is under way from.
    fn buffer(&mut self, index: usize) -> &mut [u8];
    /// Later writes to `slot` go to this file.
    fn attach(&mut self, slot: usize, file: &Self::File) -> io::Result<()>;
    /// Begins a write. After an error it was not begun, and nothing else will be.
    fn submit(&mut self, write: Write) -> io::Result<()>;
    /// A write that has ended; with `wait` it waits for one, if any is under way.
    fn reap(&mut self, wait: bool) -> io::Result<Option<Done>>;
}
