//! Lending chunks: a private cache per producer, refilled from the shared words.
//!
//! `Lender` belongs to one producer (it may move between threads but is not shared); `Segments` to
//! the attachment. Taking a chunk that the cache holds is no read-modify-write and no system call.
//! The fences of the words order the bytes: whoever freed a chunk has read it before.

use super::chunk;
use super::segment::{CLASSES, GrowFailure, Segments, class_bytes, class_of};
use crate::layout::ring::ChunkRef;
use crate::layout::word::Chunk;
use crate::sync::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most chunks of a class that a producer keeps for itself, and most bytes of them. As many as a
/// segment has, so that the chunks of a producer circulate through 4 MiB: a payload is then written
/// where the last but many was read, whose lines the consumer's core has given back to L3 by now.
/// Circulating through 1 MiB, 64 KiB copies run at half the speed (Zen 4).
const CACHED: usize = 64;
const CACHED_BYTES: u64 = 4 << 20;

/// A chunk in this producer's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    pub segment: u32,
    pub chunk: u32,
    pub version: u64,
    pub capacity: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Lender {
    segments: Arc<Segments>,
    me: u16,
    /// Taken from the front, recycled at the back: the chunks circulate in order, so the working set
    /// is what is in flight and no chunk stays cold.
    cache: [VecDeque<Lent>; CLASSES],
    /// Most chunks of each class that this producer keeps: half the quota at most, so that a second
    /// one finds some.
    room: [usize; CLASSES],
    /// Where the search for free chunks goes on.
    next: [(u32, u32); CLASSES],
}

impl Lender {
    /// An empty cache.
    pub fn new(segments: Arc<Segments>, me: u16) -> Self {
        let most = CACHED_BYTES.min(segments.quota_bytes() / 2);
        let room: [usize; CLASSES] =
            core::array::from_fn(|class| ((most / class_bytes(class)) as usize).min(CACHED));
        Self {
            room,
            segments,
            me,
            // A refill takes one chunk at least.
            cache: room.map(|room| VecDeque::with_capacity(room.max(1))),
            next: [(0, 0); CLASSES],
        }
    }

    /// A chunk for `len` bytes from the cache.
    #[inline]
    pub fn cached(&mut self, len: usize) -> Option<Lent> {
        let (class, _) = class_of(len as u64);
        let cache = &mut self.cache[class];
        if class < CLASSES - 1 {
            return cache.pop_front();
        }
        let fitting = cache.iter().position(|lent| lent.capacity >= len)?;
        cache.swap_remove_front(fitting)
    }

    /// Takes free chunks for `len` bytes into the cache. Whether it found any.
    #[cold]
    pub fn refill(&mut self, len: usize) -> bool {
        let (class, bytes) = class_of(len as u64);
        let wanted = (self.room[class] / 2).max(1);
        let known = self.segments.known() as u32;
        let (first, from) = self.next[class];
        let mut found = 0;
        // One round over all segments, beginning where the last search ended.
        for step in 0..=known {
            let number = if known == 0 {
                break;
            } else {
                (first + step) % known
            };
            let Some(segment) = self.segments.get(number) else {
                continue;
            };
            if !fits(segment.chunk_bytes() as u64, class, bytes) {
                continue;
            }
            let start = if step == 0 {
                from.min(segment.chunks())
            } else {
                0
            };
            for index in start..segment.chunks() {
                if let Some(version) = chunk::take(segment.word(index), self.me) {
                    self.cache[class].push_front(Lent {
                        segment: number,
                        chunk: index,
                        version,
                        capacity: segment.chunk_bytes(),
                    });
                    found += 1;
                    self.next[class] = (number, index + 1);
                    if found == wanted {
                        return true;
                    }
                }
            }
        }
        found > 0
    }

    /// Adds a segment for `len` bytes.
    ///
    /// # Errors
    /// See [`GrowFailure`].
    pub fn grow(&self, len: usize) -> Result<(), GrowFailure> {
        self.segments.grow(class_of(len as u64).1)
    }

    /// Puts a chunk back into the cache, or frees it when the cache is full.
    pub fn put_back(&mut self, lent: Lent) {
        let (class, _) = class_of(lent.capacity as u64);
        let room = self.room[class];
        let cache = &mut self.cache[class];
        if cache.len() < room {
            cache.push_front(lent);
        } else if let Some(segment) = self.segments.get(lent.segment) {
            chunk::free(segment.word(lent.chunk), lent.version);
        }
    }

    /// First byte of a lent chunk.
    #[inline]
    pub fn data(&self, lent: Lent) -> Option<*mut u8> {
        Some(self.segments.get(lent.segment)?.data(lent.chunk))
    }

    /// Copies `bytes` into a lent chunk, which has room for them.
    pub fn write(&self, lent: Lent, bytes: &[u8]) {
        if let Some(segment) = self.segments.get(lent.segment) {
            segment.write(lent.chunk, bytes);
        }
    }

    /// Notes the record that is going to name the chunk. Before its commit.
    #[inline]
    pub fn address(&self, lent: Lent, ring: u64, position: u64) {
        if let Some(segment) = self.segments.get(lent.segment) {
            // Relaxed: ordered by the commit; only the owner writes.
            segment.ring(lent.chunk).store(ring, Ordering::Relaxed);
            segment
                .position(lent.chunk)
                .store(position, Ordering::Relaxed);
        }
    }

    /// Behind the commit: the chunk belongs to the record now.
    #[inline]
    pub fn attach(&self, lent: Lent) {
        if let Some(segment) = self.segments.get(lent.segment) {
            chunk::attach(segment.word(lent.chunk), self.me, lent.version);
        }
    }

    /// Whether few chunks of the size of `lent` are left in the cache.
    #[inline]
    pub fn is_low(&self, lent: Lent) -> bool {
        let (class, _) = class_of(lent.capacity as u64);
        self.cache[class].len() < self.room[class] / 4
    }

    /// Asks for the first line of the chunk that the next loan of the size of `lent` will get. Its last
    /// reader still has that line: fetched when the loan is filled, it would hold back the commit
    /// behind it for a transfer.
    #[inline]
    pub fn prefetch_next(&self, lent: Lent) {
        let (class, _) = class_of(lent.capacity as u64);
        if let Some(next) = self.cache[class].front()
            && let Some(segment) = self.segments.get(next.segment)
        {
            segment.prefetch_to_write(next.chunk);
        }
    }

    /// The record at (ring, position) that named `reference` is gone: the chunk goes into this
    /// cache, or free. Exactly this version, ring and position, or nothing.
    pub fn vacate(&mut self, reference: ChunkRef, ring: u64, position: u64) -> bool {
        let Some(segment) = self.segments.get(reference.segment) else {
            return false;
        };
        if reference.chunk >= segment.chunks()
            || segment.ring(reference.chunk).load(Ordering::Relaxed) != ring
            || segment.position(reference.chunk).load(Ordering::Relaxed) != position
        {
            return false;
        }
        let capacity = segment.chunk_bytes();
        let (class, _) = class_of(capacity as u64);
        let room = self.room[class];
        let cache = &mut self.cache[class];
        let word = segment.word(reference.chunk);
        if cache.len() < room {
            let recycled = chunk::recycle(word, reference.version, self.me);
            if recycled {
                let ChunkRef { segment, chunk, .. } = reference;
                let version = reference.version.wrapping_add(1);
                cache.push_back(Lent {
                    segment,
                    chunk,
                    version,
                    capacity,
                });
            }
            return recycled;
        }
        chunk::free(word, reference.version)
    }
}

fn fits(chunk_bytes: u64, class: usize, bytes: u64) -> bool {
    if class < CLASSES - 1 {
        chunk_bytes == bytes
    } else {
        chunk_bytes >= bytes && chunk_bytes / 2 <= bytes
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        if self.segments.is_forked() {
            return;
        }
        for lent in self.cache.iter_mut().flat_map(core::mem::take) {
            if let Some(segment) = self.segments.get(lent.segment) {
                chunk::free(segment.word(lent.chunk), lent.version);
            }
        }
    }
}

/// What a sweep over the pool found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweptChunks {
    /// Chunks freed.
    pub freed: u64,
    /// Chunks a dead sender had committed but not attached.
    pub adopted: u64,
}

impl Segments {
    /// Whether participant `owner` has any chunk in its hands.
    pub fn owns_any(&self, owner: u16) -> bool {
        let _ = self.discover();
        self.all().any(|(_, segment)| {
            (0..segment.chunks()).any(|index| {
                let word = Chunk(segment.word(index).load(Ordering::Acquire));
                word.state() == Chunk::OWNED && word.owner() == owner
            })
        })
    }

    /// Resolves every chunk OWNED by the dead participant `owner`. `is_named(ring, position,
    /// reference)` says whether a committed record names it.
    pub fn sweep_owned(
        &self,
        owner: u16,
        mut is_named: impl FnMut(u64, u64, ChunkRef) -> bool,
    ) -> SweptChunks {
        self.sweep(
            |word| word.state() == Chunk::OWNED && word.owner() == owner,
            &mut is_named,
        )
    }

    /// Frees every ATTACHED chunk whose record is gone.
    pub fn sweep_attached(
        &self,
        mut is_named: impl FnMut(u64, u64, ChunkRef) -> bool,
    ) -> SweptChunks {
        self.sweep(|word| word.state() == Chunk::ATTACHED, &mut is_named)
    }

    fn sweep(
        &self,
        wanted: impl Fn(Chunk) -> bool,
        is_named: &mut dyn FnMut(u64, u64, ChunkRef) -> bool,
    ) -> SweptChunks {
        let _ = self.discover();
        let mut swept = SweptChunks::default();
        for (number, segment) in self.all() {
            for index in 0..segment.chunks() {
                let settled = chunk::settle(
                    segment.word(index),
                    segment.ring(index),
                    segment.position(index),
                    &wanted,
                    |ring, position, version| {
                        let reference = ChunkRef {
                            segment: number,
                            chunk: index,
                            version,
                            len: 0,
                        };
                        is_named(ring, position, reference)
                    },
                );
                swept.adopted += u64::from(settled == chunk::Settled::Adopted);
                swept.freed += u64::from(settled == chunk::Settled::Freed);
            }
        }
        swept
    }

    /// Chunks that a sweep over the `dead` and over the attached would free.
    pub fn count_lost(
        &self,
        dead: &[u16],
        mut is_named: impl FnMut(u64, u64, ChunkRef) -> bool,
    ) -> u64 {
        let _ = self.discover();
        let mut lost = 0;
        for (number, segment) in self.all() {
            for index in 0..segment.chunks() {
                let word = Chunk(segment.word(index).load(Ordering::Acquire));
                let suspect = word.state() == Chunk::ATTACHED
                    || (word.state() == Chunk::OWNED && dead.contains(&word.owner()));
                let version = word.version();
                let reference = ChunkRef {
                    segment: number,
                    chunk: index,
                    version,
                    len: 0,
                };
                let ring = segment.ring(index).load(Ordering::Relaxed);
                let position = segment.position(index).load(Ordering::Relaxed);
                lost += u64::from(suspect && !is_named(ring, position, reference));
            }
        }
        lost
    }

    /// Chunks by state: free, owned, attached.
    pub fn census(&self) -> [u64; 3] {
        let _ = self.discover();
        let mut census = [0; 3];
        for (_, segment) in self.all() {
            for index in 0..segment.chunks() {
                let state = Chunk(segment.word(index).load(Ordering::Relaxed)).state();
                census[(state as usize).min(2)] += 1;
            }
        }
        census
    }
}
