//! The memory of a deduplication table for model checks: the same names, words of `loom`, two
//! buckets of one entry.

use crate::sync::AtomicU64;
use std::sync::Arc;

/// Entries of a bucket.
pub const ENTRIES: usize = 1;
const BUCKETS: usize = 2;

struct EntryWords {
    word: AtomicU64,
    expiry: AtomicU64,
    low: AtomicU64,
    high: AtomicU64,
}

/// See the module. A clone is another attachment's view of the same memory.
#[derive(Clone)]
pub struct DedupTable(Arc<[EntryWords; BUCKETS]>);

/// One bucket.
#[derive(Clone, Copy)]
pub struct BucketWords<'a>(&'a EntryWords);

impl DedupTable {
    /// A fresh table.
    pub fn model() -> Self {
        Self(Arc::new(core::array::from_fn(|_| EntryWords {
            word: AtomicU64::new(0),
            expiry: AtomicU64::new(0),
            low: AtomicU64::new(0),
            high: AtomicU64::new(0),
        })))
    }
    pub fn buckets(&self) -> u64 {
        BUCKETS as u64
    }
    pub fn bucket(&self, index: usize) -> BucketWords<'_> {
        BucketWords(&self.0[index])
    }
}

impl<'a> BucketWords<'a> {
    pub fn word(self, _place: usize) -> &'a AtomicU64 {
        &self.0.word
    }
    pub fn expiry(self, _place: usize) -> &'a AtomicU64 {
        &self.0.expiry
    }
    pub fn low(self, _place: usize) -> &'a AtomicU64 {
        &self.0.low
    }
    pub fn high(self, _place: usize) -> &'a AtomicU64 {
        &self.0.high
    }
    pub fn prefetch(self) {}
    pub fn prefetch_words(self) {}
    pub fn prefetch_hash(self, _place: usize) {}
}
