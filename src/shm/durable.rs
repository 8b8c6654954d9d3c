//! The words of what is on disk, a queue, a shard of a stream, or a stream's table: how far the journal
//! reaches, who writes it, what changed.
//!
//! They lie in the control area of its file, of a queue in that of its first ring; what changed, in the
//! file of each ring. Made once, from a mapping
//! and an offset that was checked to lie inside; from then on an index is checked, an offset is a
//! constant.

use super::words::{word32, word64};
use crate::layout::durable::{BLOCKS_PER_WORD, changed_words, control};
use crate::layout::geometry::Geometry;
use crate::layout::queue::BLOCK_SLOTS;
use crate::layout::queue::control::TOUCHED;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::mapping::Mapping;
use std::sync::Arc;

/// See the module. A clone is a handle's own.
#[derive(Clone, Debug)]
pub struct DurableWords {
    mapping: Arc<Mapping>,
    /// Of the ring that these are looked at through: the same, or that of a further ring.
    ring_mapping: Arc<Mapping>,
    is_further: bool,
    changed: usize,
    changed_words: u64,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident at $offset:expr;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(&self) -> &AtomicU64 {
            word64(&self.mapping, $offset)
        }
    )*};
}

impl DurableWords {
    /// `None` when the changed bits do not lie between `from` and `until` of the mapping.
    pub fn new(
        mapping: Arc<Mapping>,
        geometry: &Geometry,
        offset: u64,
        from: u64,
        until: u64,
    ) -> Option<Self> {
        let words = changed_words(geometry.slots());
        let end = offset.checked_add(8 * words)?;
        let fits = offset.is_multiple_of(8) && offset >= from && end <= until;
        (fits && end <= mapping.len() as u64).then(|| Self {
            changed: offset as usize,
            changed_words: words,
            is_further: false,
            ring_mapping: Arc::clone(&mapping),
            mapping,
        })
    }

    /// The same words as those of a further ring of the queue that `first` belongs to, which has changed
    /// bits of its own.
    pub fn chained_to(self, first: &Self) -> Self {
        Self {
            mapping: Arc::clone(&first.mapping),
            is_further: true,
            ..self
        }
    }

    /// Those of a ring that has no changed bits, or of a table: the words lie at the same places of any
    /// file with a control area. `None` when the file is shorter than that.
    pub fn without_bits(mapping: Arc<Mapping>) -> Option<Self> {
        (mapping.len() >= crate::layout::ring::control::END).then(|| Self {
            changed: 0,
            changed_words: 0,
            is_further: false,
            ring_mapping: Arc::clone(&mapping),
            mapping,
        })
    }

    words! {
        /// Which positions are on disk.
        durable at control::DURABLE;
        /// Who writes the journal.
        persister at control::PERSISTER;
        /// Where the next block goes.
        cursor at control::CURSOR;
        /// Steps of the persister.
        steps at control::STEPS;
        /// Flushes that have begun.
        begun at control::BEGUN;
        /// The highest flush that is on disk.
        finished at control::FINISHED;
        /// The highest epoch that failed, plus one.
        failed at control::FAILED;
        /// 1 while sends are refused.
        frozen at control::FROZEN;
        /// The flush up to which a later block tells what was on disk.
        marked at control::MARKED;
        /// Counter of flushes.
        flushes at control::FLUSHES;
        /// Counter of take-overs.
        take_overs at control::TAKE_OVERS;
        /// Bytes of the journal.
        journal_bytes at control::JOURNAL_BYTES;
        /// 1 where the next flush is to look for segments that can be given back.
        look_again at control::LOOK_AGAIN;
    }

    /// Futex word: changes with every flush.
    #[inline]
    pub fn flushed(&self) -> &AtomicU32 {
        word32(&self.mapping, control::FLUSHED)
    }

    /// 1 while somebody may sleep on it.
    #[inline]
    pub fn waiting(&self) -> &AtomicU32 {
        word32(&self.mapping, control::WAITING)
    }

    /// Futex word: changes when somebody asks whoever keeps the role for a flush.
    #[inline]
    pub fn asked(&self) -> &AtomicU32 {
        word32(&self.mapping, control::ASKED)
    }

    /// 1 while that one may sleep on it.
    #[inline]
    pub fn asleep(&self) -> &AtomicU32 {
        word32(&self.mapping, control::ASLEEP)
    }

    /// How many words of changed bits there are.
    pub fn changed_words(&self) -> u64 {
        self.changed_words
    }

    /// Word `number` of the changed bits.
    ///
    /// # Panics
    /// When there is no such word.
    #[inline]
    pub fn changed(&self, number: u64) -> &AtomicU64 {
        assert!(number < self.changed_words);
        word64(&self.ring_mapping, self.changed + 8 * number as usize)
    }

    /// Before the first changed bit of a further ring: whoever writes looks there from then on.
    #[inline]
    pub fn note_touched(&self) {
        if self.is_further {
            let touched = word64(&self.ring_mapping, TOUCHED);
            // Relaxed, both: set once, and seen by whoever sees the bit behind it.
            if touched.load(Ordering::Relaxed) == 0 {
                touched.store(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether anything in the ring was ever consumed, as far as that has to be known: always of a first
    /// ring.
    pub fn is_touched(&self) -> bool {
        // Relaxed: set before the bit, and looked at behind the fence of a flush.
        !self.is_further || word64(&self.ring_mapping, TOUCHED).load(Ordering::Relaxed) != 0
    }

    /// The word and the bit of the block of the slot `index`.
    ///
    /// # Panics
    /// When there is no such slot.
    #[inline]
    pub fn changed_of(&self, index: usize) -> (&AtomicU64, u64) {
        let block = index as u64 / BLOCK_SLOTS;
        (self.changed(block / BLOCKS_PER_WORD), 1 << (block % BLOCKS_PER_WORD))
    }
}
