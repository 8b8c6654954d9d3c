//! The words that a queue has beside those of its ring: hints, due words, holder bits, counters.
//!
//! Made once, from a mapping and a geometry whose due words were checked to lie inside; from then
//! on every access is in bounds by arithmetic: an index is checked, an offset is a constant.

use super::words::word64;
use crate::layout::geometry::Geometry;
use crate::layout::queue::{BLOCK_SLOTS, GROUP_BLOCKS, control, due_words};
use crate::layout::ring::{READERS_OFFSET, ReaderEntry};
use crate::layout::word::ROUTES;
use crate::sync::AtomicU64;
use crate::sys::mapping::Mapping;
use std::sync::Arc;

/// See the module. A clone lets a handle keep the addresses in its own memory.
#[derive(Clone, Debug)]
pub struct QueueWords {
    mapping: Arc<Mapping>,
    /// First byte of the mapping.
    base: *mut u8,
    /// First due word.
    due: *mut u8,
    groups: u64,
    blocks: u64,
}

// SAFETY: `base` and `due` point into `mapping`, which lives as long and is not bound to a thread;
// every access through them is atomic.
unsafe impl Send for QueueWords {}
// SAFETY: as above.
unsafe impl Sync for QueueWords {}

impl QueueWords {
    /// `None` when the due words do not lie between the reader table and the slots.
    pub fn new(
        mapping: Arc<Mapping>,
        geometry: &Geometry,
        due_offset: u64,
        slots_offset: u64,
    ) -> Option<Self> {
        let (groups, blocks) = due_words(geometry.slots());
        let table = geometry.readers() as usize * size_of::<ReaderEntry>();
        let end = due_offset.checked_add(8 * (groups + blocks))?;
        if !due_offset.is_multiple_of(8)
            || due_offset < (READERS_OFFSET + table) as u64
            || end > slots_offset
            || end > mapping.len() as u64
        {
            return None;
        }
        let base = mapping.base();
        // SAFETY: due_offset <= end <= mapping.len(), just checked.
        let due = unsafe { base.add(due_offset as usize) };
        Some(Self {
            mapping,
            base,
            due,
            groups,
            blocks,
        })
    }

    #[inline(always)]
    fn control<const OFFSET: usize>(&self) -> &AtomicU64 {
        const {
            assert!(OFFSET.is_multiple_of(8) && OFFSET + 8 <= crate::layout::ring::control::END);
        };
        // SAFETY: a multiple of 8 below the end of the control area, which `new` proved to lie
        // inside the mapping; shared words are only accessed atomically.
        unsafe { &*self.base.add(OFFSET).cast::<AtomicU64>() }
    }

    /// Receive hint.
    #[inline(always)]
    pub fn receive(&self) -> &AtomicU64 {
        self.control::<{ control::RECEIVE }>()
    }
    /// The slot at which the next sweep begins.
    pub fn sweep(&self) -> &AtomicU64 {
        self.control::<{ control::SWEEP }>()
    }
    /// When the last sweep began.
    #[inline(always)]
    pub fn swept(&self) -> &AtomicU64 {
        self.control::<{ control::SWEPT }>()
    }
    /// No lease or delay ends before this.
    #[inline(always)]
    pub fn due(&self) -> &AtomicU64 {
        self.control::<{ control::DUE }>()
    }
    /// Setting: retention in ms.
    #[inline(always)]
    pub fn retention(&self) -> &AtomicU64 {
        self.control::<{ control::RETENTION }>()
    }
    /// Setting: visibility time-out in ms.
    #[inline(always)]
    pub fn visibility(&self) -> &AtomicU64 {
        self.control::<{ control::VISIBILITY }>()
    }
    /// Setting: delay in ms.
    #[inline(always)]
    pub fn delay(&self) -> &AtomicU64 {
        self.control::<{ control::DELAY }>()
    }
    /// Setting: longest body.
    #[inline(always)]
    pub fn max_message(&self) -> &AtomicU64 {
        self.control::<{ control::MAX_MESSAGE }>()
    }
    /// Setting: whether the message of a dead holder is received again at once.
    pub fn redeliver(&self) -> &AtomicU64 {
        self.control::<{ control::REDELIVER }>()
    }
    /// Setting: wait of a receive in ms.
    pub fn receive_wait(&self) -> &AtomicU64 {
        self.control::<{ control::RECEIVE_WAIT }>()
    }
    /// Setting: receives behind which a message goes to the dead-letter queue.
    pub fn max_receives(&self) -> &AtomicU64 {
        self.control::<{ control::MAX_RECEIVES }>()
    }
    /// Setting: object id of the dead-letter queue, 0 for none.
    pub fn redrive_target(&self) -> &AtomicU64 {
        self.control::<{ control::REDRIVE_TARGET }>()
    }
    /// Object id of the queue at `route`, 0 for none.
    ///
    /// # Panics
    /// When there is no such route.
    pub fn route(&self, route: usize) -> &AtomicU64 {
        assert!(route < ROUTES);
        word64(&self.mapping, control::ROUTES + 8 * route)
    }
    /// When somebody last looked for dead holders.
    pub fn probed(&self) -> &AtomicU64 {
        self.control::<{ control::PROBED }>()
    }
    /// The holder at which the next look begins.
    pub fn probe_from(&self) -> &AtomicU64 {
        self.control::<{ control::PROBE_FROM }>()
    }
    /// Bits of participants 64 × `word` on that may hold a lease.
    ///
    /// # Panics
    /// When there is no such word.
    pub fn holders(&self, word: usize) -> &AtomicU64 {
        assert!(word < control::HOLDER_WORDS);
        word64(&self.mapping, control::HOLDERS + 8 * word)
    }
    /// A counter of [`control`].
    pub fn counter(&self, offset: usize) -> &AtomicU64 {
        word64(&self.mapping, offset)
    }

    /// The due word of the group of the slot `index`.
    ///
    /// # Panics
    /// When there is no such slot.
    #[inline(always)]
    pub fn group_of(&self, index: usize) -> &AtomicU64 {
        self.due_word(self.groups, 0, index as u64 / (BLOCK_SLOTS * GROUP_BLOCKS))
    }

    /// The due word of the block of the slot `index`.
    ///
    /// # Panics
    /// When there is no such slot.
    #[inline(always)]
    pub fn block_of(&self, index: usize) -> &AtomicU64 {
        self.due_word(self.blocks, self.groups, index as u64 / BLOCK_SLOTS)
    }

    #[inline(always)]
    fn due_word(&self, count: u64, first: u64, number: u64) -> &AtomicU64 {
        assert!(number < count);
        // SAFETY: `groups + blocks` words lie behind `due`, aligned to 8, as `new` proved; shared
        // words are only accessed atomically.
        unsafe { &*self.due.cast::<AtomicU64>().add((first + number) as usize) }
    }
}
