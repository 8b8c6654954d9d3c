//! The memory of a deduplication table: its buckets.
//!
//! Made once, from a mapping and a range that was checked to lie inside; from then on every access
//! is in bounds by arithmetic: a bucket's number is checked, a place in it is masked.

use super::prefetch;
use crate::layout::dedup::{BUCKET_ENTRIES, Bucket, MAX_BUCKETS, REGION};
use crate::sync::AtomicU64;
use crate::sys::mapping::Mapping;
use core::marker::PhantomData;
use core::mem::offset_of;
use std::sync::Arc;

/// Entries of a bucket.
pub const ENTRIES: usize = BUCKET_ENTRIES;

/// See the module. A clone lets a handle keep the addresses in its own memory.
#[derive(Clone, Debug)]
pub struct DedupTable {
    first: *mut u8,
    buckets: u64,
    _mapping: Arc<Mapping>,
}

// SAFETY: `first` points into `_mapping`, which lives as long and is not bound to a thread; every
// access through it is atomic.
unsafe impl Send for DedupTable {}
// SAFETY: as above.
unsafe impl Sync for DedupTable {}

/// One bucket. The lifetime keeps the mapping.
#[derive(Clone, Copy)]
pub struct BucketWords<'a> {
    at: *mut u8,
    memory: PhantomData<&'a DedupTable>,
}

impl DedupTable {
    /// `None` when the buckets do not lie between `from` and `until` of the mapping, or are no whole
    /// regions.
    pub fn new(
        mapping: Arc<Mapping>,
        offset: u64,
        buckets: u64,
        from: u64,
        until: u64,
    ) -> Option<Self> {
        if !(REGION..=MAX_BUCKETS).contains(&buckets) || !buckets.is_multiple_of(REGION) {
            return None;
        }
        let end = offset.checked_add(buckets * size_of::<Bucket>() as u64)?;
        if !offset.is_multiple_of(size_of::<Bucket>() as u64)
            || offset < from
            || end > until
            || end > mapping.len() as u64
        {
            return None;
        }
        // SAFETY: offset <= end <= mapping.len(), just checked.
        let first = unsafe { mapping.base().add(offset as usize) };
        Some(Self {
            first,
            buckets,
            _mapping: mapping,
        })
    }

    /// How many buckets there are: whole regions.
    #[inline(always)]
    pub fn buckets(&self) -> u64 {
        self.buckets
    }

    /// Bucket `index`.
    ///
    /// # Panics
    /// When there is no such bucket.
    #[inline(always)]
    pub fn bucket(&self, index: usize) -> BucketWords<'_> {
        assert!((index as u64) < self.buckets);
        // SAFETY: `buckets` buckets lie behind `first`, as `new` proved.
        let at = unsafe { self.first.add(index * size_of::<Bucket>()) };
        BucketWords {
            at,
            memory: PhantomData,
        }
    }
}

impl<'a> BucketWords<'a> {
    #[inline(always)]
    fn word_at<const OFFSET: usize>(self, index: usize) -> &'a AtomicU64 {
        const { assert!(OFFSET.is_multiple_of(8) && OFFSET < size_of::<Bucket>()) };
        // SAFETY: callers keep OFFSET + 8 × index below the bucket's 256 bytes: `index` is masked to
        // the entries, twice that and one more for the hashes, which are the last field. The bucket
        // is aligned, and shared words are only accessed atomically.
        unsafe { &*self.at.add(OFFSET + 8 * index).cast::<AtomicU64>() }
    }

    /// The word of the entry at `place` (modulo the entries).
    #[inline(always)]
    pub fn word(self, place: usize) -> &'a AtomicU64 {
        self.word_at::<{ offset_of!(Bucket, words) }>(place % ENTRIES)
    }
    /// When its id may be sent again.
    #[inline(always)]
    pub fn expiry(self, place: usize) -> &'a AtomicU64 {
        self.word_at::<{ offset_of!(Bucket, expiries) }>(place % ENTRIES)
    }
    /// Low half of its hash.
    #[inline(always)]
    pub fn low(self, place: usize) -> &'a AtomicU64 {
        self.word_at::<{ offset_of!(Bucket, hashes) }>(2 * (place % ENTRIES))
    }
    /// High half of its hash.
    #[inline(always)]
    pub fn high(self, place: usize) -> &'a AtomicU64 {
        self.word_at::<{ offset_of!(Bucket, hashes) }>(2 * (place % ENTRIES) + 1)
    }

    /// Asks for the lines of words and expiries to write, long before the claim: a bucket is hardly
    /// ever in a cache.
    #[inline(always)]
    pub fn prefetch(self) {
        prefetch::to_read(self.at);
        prefetch::to_read(self.at.wrapping_add(offset_of!(Bucket, expiries)));
    }

    /// Asks for the line of the words to read.
    #[inline(always)]
    pub fn prefetch_words(self) {
        prefetch::to_read(self.at);
    }

    /// Asks for the line of the hash at `place` to write.
    #[inline(always)]
    pub fn prefetch_hash(self, place: usize) {
        let hash = offset_of!(Bucket, hashes) + 16 * (place % ENTRIES);
        prefetch::to_write(self.at.wrapping_add(hash));
    }
}
