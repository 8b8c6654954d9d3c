//! Segment files: creation, opening, and the table of those this attachment has mapped.
//!
//! Segments are numbered from 0 without a gap. A new one is built under a temporary name and
//! published as the next number with `RENAME_NOREPLACE`: of two creators one wins, the other opens
//! the winner's. A segment is never removed while the bus exists, so a mapped one stays valid.

use crate::layout::pool::{
    ChunkEntry, MAGIC, MAX_CLASS, MAX_SEGMENTS, MIN_CHUNK, SegmentHeader, TABLE_OFFSET,
};
use crate::layout::{FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, is_readable};
use crate::shm::segment::SegmentMemory;
use crate::shm::words;
use crate::sys::file::{self, Access, CreateFailure, NoSpace};
use crate::sys::fork;
use crate::sys::mapping::{MapOptions, Mapping};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why no segment could be added.
#[derive(Debug)]
pub enum GrowFailure {
    /// The quota of the bus would be passed.
    Quota { used: u64, quota: u64 },
    /// The file system has no room.
    NoSpace(NoSpace),
    /// A segment file is not one of ours, truncated or scribbled.
    Damaged(PathBuf),
    Io(io::Error),
}

impl From<io::Error> for GrowFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What new segments look like.
#[derive(Clone, Debug)]
pub struct SegmentPolicy {
    pub directory: PathBuf,
    pub access: Access,
    pub quota_bytes: u64,
    pub bus_id: u64,
    pub boot_id: [u8; 16],
    /// Tells the temporary names of participants apart.
    pub temporary_prefix: String,
    pub map: MapOptions,
}

/// Size class of a payload: the index and the chunk size. Powers of two from 512 B to 16 MiB;
/// anything larger is its own size, rounded up to 2 MiB.
pub fn class_of(len: u64) -> (usize, u64) {
    if len > MAX_CLASS {
        return (CLASSES - 1, len.next_multiple_of(2 << 20));
    }
    let bytes = len.next_power_of_two().max(MIN_CHUNK);
    ((bytes / MIN_CHUNK).trailing_zeros() as usize, bytes)
}

/// Bytes of a chunk of `class`; of the oversized, the least.
pub fn class_bytes(class: usize) -> u64 {
    MIN_CHUNK << class
}

/// 512 B … 16 MiB, and the oversized.
pub const CLASSES: usize = (MAX_CLASS / MIN_CHUNK).trailing_zeros() as usize + 2;

/// Chunks of a new segment. About 4 MiB together: what circulates between a producer and a
/// consumer that keeps up then stays between L2 and L3 in size, where copies run fastest.
fn chunks_of(chunk_bytes: u64) -> u32 {
    ((4u64 << 20) / chunk_bytes).clamp(1, 2048) as u32
}

/// The segments this attachment knows.
#[derive(Debug)]
pub struct Segments {
    policy: SegmentPolicy,
    table: Box<[OnceLock<SegmentMemory>]>,
    known: AtomicUsize,
    fork_generation: u64,
}

impl Segments {
    /// Knows none yet.
    pub fn new(policy: SegmentPolicy) -> Self {
        let table = (0..MAX_SEGMENTS).map(|_| OnceLock::new()).collect();
        Self { policy, table, known: AtomicUsize::new(0), fork_generation: fork::generation() }
    }

    /// The same segments, mapped read-only. Nothing may be lent from them.
    pub fn read_only(&self) -> Self {
        let mut policy = self.policy.clone();
        policy.map.read_only = true;
        Self::new(policy)
    }

    /// Whether this process forked away from the one that attached.
    pub fn is_forked(&self) -> bool {
        self.fork_generation != fork::generation()
    }

    /// Segments mapped so far.
    pub fn known(&self) -> usize {
        self.known.load(Ordering::Acquire)
    }

    /// Segment `number`, opened now if it was not known. `None` when there is none such.
    #[inline(always)]
    pub fn get(&self, number: u32) -> Option<&SegmentMemory> {
        let place = self.table.get(number as usize)?;
        place.get().or_else(|| self.get_new(number))
    }

    #[cold]
    #[inline(never)]
    fn get_new(&self, number: u32) -> Option<&SegmentMemory> {
        self.discover().ok()?;
        self.table[number as usize].get()
    }

    /// Segment `number`, opened now if it was not known. `Ok(None)` when there is none such.
    ///
    /// # Errors
    /// When it can't be told now.
    pub fn open(&self, number: u32) -> Result<Option<&SegmentMemory>, GrowFailure> {
        let Some(place) = self.table.get(number as usize) else {
            return Ok(None);
        };
        if place.get().is_none() {
            match self.discover() {
                Ok(_) | Err(GrowFailure::Damaged(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(place.get())
    }

    /// Opens the segments others have added. Whether there were any.
    #[cold]
    pub fn discover(&self) -> Result<bool, GrowFailure> {
        let mut any = false;
        loop {
            let number = self.known();
            let Some(place) = self.table.get(number) else { return Ok(any) };
            let path = self.path(number);
            let opened = match self.policy.map.private {
                true => file::open_to_read(&path),
                false => file::open(&path),
            };
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(any),
                Err(error) => return Err(error.into()),
            };
            let memory = self.check(&path, &file, number)?;
            let _ = place.set(memory); // a sibling thread may have been first, with the same file
            self.known.fetch_max(number + 1, Ordering::AcqRel);
            any = true;
        }
    }

    /// Adds a segment for chunks of `chunk_bytes`, or finds that somebody just added one.
    #[cold]
    pub fn grow(&self, chunk_bytes: u64) -> Result<(), GrowFailure> {
        if self.discover()? {
            return Ok(());
        }
        let number = self.known();
        let chunks = chunks_of(chunk_bytes);
        let table = TABLE_OFFSET + chunks as usize * size_of::<ChunkEntry>();
        let data_offset = table.next_multiple_of(PAGE) as u64;
        let file_bytes = data_offset + u64::from(chunks) * chunk_bytes;
        let used = self.used_bytes();
        if number >= MAX_SEGMENTS || used + file_bytes > self.policy.quota_bytes {
            return Err(GrowFailure::Quota { used, quota: self.policy.quota_bytes });
        }
        let temporary = self.policy.directory.join(format!(
            "{}{:016x}",
            self.policy.temporary_prefix,
            crate::sys::host::random_u64()
        ));
        let made = file::create_temporary(&temporary, file_bytes, self.policy.access);
        let file = made.map_err(|failure| match failure {
            CreateFailure::NoSpace(no_space) => GrowFailure::NoSpace(no_space),
            CreateFailure::Io(error) => GrowFailure::Io(error),
        })?;
        let published = (|| {
            let mapping = Mapping::new(&file, MapOptions::default())?;
            words::write_header(
                &mapping,
                &SegmentHeader {
                    preamble: Preamble {
                        magic: MAGIC,
                        major: FORMAT_MAJOR,
                        minor: FORMAT_MINOR,
                        ready: READY,
                        features: FEATURES_REQUIRED,
                        bus_id: self.policy.bus_id,
                        boot_id: self.policy.boot_id,
                        object_id: number as u64,
                        created_ms: crate::sys::clock::unix_ms(),
                    },
                    chunk_bytes,
                    data_offset,
                    file_bytes,
                    chunks,
                    segment: number as u32,
                    reserved: [0; PAGE - 64 - 32],
                },
            );
            match file::publish(&temporary, &self.path(number)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    file::remove(&temporary)
                }
                other => other,
            }
        })();
        if let Err(error) = published {
            let _ = file::remove(&temporary);
            return Err(error.into());
        }
        self.discover()?;
        Ok(())
    }

    /// Most bytes that all segments may have.
    pub fn quota_bytes(&self) -> u64 {
        self.policy.quota_bytes
    }

    /// Bytes of all known segments.
    pub fn used_bytes(&self) -> u64 {
        self.all().map(|(_, s)| u64::from(s.chunks()) * s.chunk_bytes() as u64).sum()
    }

    /// Known segments with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (u32, &SegmentMemory)> {
        self.table[..self.known()]
            .iter()
            .enumerate()
            .filter_map(|(number, place)| Some((number as u32, place.get()?)))
    }

    fn path(&self, number: usize) -> PathBuf {
        self.policy.directory.join(format!("{number:05}"))
    }

    /// Maps a segment file, once its header is believed: a length that only the header claims must
    /// not be faulted in.
    fn check(&self, path: &Path, file: &File, number: usize) -> Result<SegmentMemory, GrowFailure> {
        let damaged = || GrowFailure::Damaged(path.to_path_buf());
        let len = file.metadata()?.len();
        if len < PAGE as u64 {
            return Err(damaged());
        }
        let mut header: SegmentHeader = bytemuck::Zeroable::zeroed();
        file::read_head(file, bytemuck::bytes_of_mut(&mut header))?;
        let preamble = header.preamble;
        let ours = preamble.magic == MAGIC
            && is_readable(preamble.major, preamble.minor)
            && preamble.ready == READY
            && preamble.bus_id == self.policy.bus_id
            && header.segment as usize == number
            && header.file_bytes == len;
        // Lenders find the class of a chunk by its size: any other size would be lent as too much.
        let data = u64::from(header.chunks).checked_mul(header.chunk_bytes);
        let whole = data.and_then(|data| data.checked_add(header.data_offset)) == Some(len)
            && header.chunk_bytes <= len
            && class_of(header.chunk_bytes).1 == header.chunk_bytes;
        if !ours || !whole {
            return Err(damaged());
        }
        let mapping = Mapping::new(file, self.policy.map)?;
        SegmentMemory::new(mapping, header.chunks, header.chunk_bytes, header.data_offset)
            .ok_or_else(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_finds_a_class_that_holds_it() {
        for len in [0, 1, 512, 513, 1024, 65_536, 65_537, 16 << 20, (16 << 20) + 1, 100 << 20] {
            let (class, bytes) = class_of(len);
            assert!(class < CLASSES && bytes >= len && bytes % 64 == 0, "{len}: {class} {bytes}");
        }
        assert_eq!(class_of(512).0, 0);
        assert_eq!(class_of(16 << 20).0, CLASSES - 2);
        assert_eq!(class_of((16 << 20) + 1).0, CLASSES - 1);
    }
}
