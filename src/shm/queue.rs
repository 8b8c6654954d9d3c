//! The words that a queue has beside those of its ring: hints, due words, holder bits, counters.
//!
//! The receive hint and the due words are those of one ring; everything else is the queue's and lies
//! in the file of its first ring, whichever ring of its chain the words are looked at through.
//!
//! Made once, from a mapping and a geometry whose due words were checked to lie inside; from then
//! on every access is in bounds by arithmetic: an index is checked, an offset is a constant.

use super::words::word64;
use crate::layout::READY_OFFSET;
use crate::layout::geometry::Geometry;
use crate::layout::queue::{
    BLOCK_SLOTS, BUCKET_PINS, DUE_OFFSET, GROUP_BLOCKS, PIN_BUCKETS, PINS_OFFSET, WINDOW_WORDS, control,
    due_words, group_words,
};
use crate::layout::word::ROUTES;
use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::mapping::Mapping;
use std::sync::Arc;

/// See the module. A clone lets a handle keep the addresses in its own memory.
#[derive(Clone, Debug)]
pub struct QueueWords {
    /// Of the first ring.
    mapping: Arc<Mapping>,
    /// First byte of that mapping.
    base: *mut u8,
    /// Of this ring.
    ring_mapping: Arc<Mapping>,
    /// Receive hint.
    receive: *mut u8,
    /// First due word.
    due: *mut u8,
    groups: u64,
    blocks: u64,
    fifo: Option<FifoWords>,
}

/// Where the words of a FIFO queue lie.
#[derive(Clone, Copy, Debug)]
struct FifoWords {
    /// First hint.
    hints: *mut u8,
    hint_mask: u64,
    /// First word of the group table.
    table: *mut u8,
    window_mask: u64,
}

// SAFETY: `base` points into `mapping`, `receive`, `due` and those of `fifo` into `ring_mapping`,
// which live as long and are not bound to a thread; every access through them is atomic.
unsafe impl Send for QueueWords {}
// SAFETY: as above.
unsafe impl Sync for QueueWords {}

impl QueueWords {
    /// `None` when the due words do not lie between the pins and the slots.
    pub fn new(
        mapping: Arc<Mapping>,
        geometry: &Geometry,
        due_offset: u64,
        slots_offset: u64,
    ) -> Option<Self> {
        let (groups, blocks) = due_words(geometry.slots());
        let end = due_offset.checked_add(8 * (groups + blocks))?;
        if !due_offset.is_multiple_of(8)
            || due_offset < DUE_OFFSET
            || end > slots_offset
            || end > mapping.len() as u64
        {
            return None;
        }
        let base = mapping.base();
        // SAFETY: due_offset <= end <= mapping.len(), just checked.
        let due = unsafe { base.add(due_offset as usize) };
        // SAFETY: the due words lie behind the control area, and inside the mapping.
        let receive = unsafe { base.add(control::RECEIVE) };
        Some(Self {
            ring_mapping: Arc::clone(&mapping),
            mapping,
            base,
            receive,
            due,
            groups,
            blocks,
            fifo: None,
        })
    }

    /// The same with the words of a FIFO queue at `groups_offset`; `None` when they do not lie between
    /// the due words and the slots.
    pub fn with_groups(
        mut self,
        geometry: &Geometry,
        groups_offset: u64,
        slots_offset: u64,
    ) -> Option<Self> {
        let (hints, table) = group_words(geometry.slots());
        let due_end = self.due.addr() - self.base.addr() + 8 * (self.groups + self.blocks) as usize;
        let end = groups_offset.checked_add(8 * (hints + table))?;
        if !groups_offset.is_multiple_of(8 * WINDOW_WORDS)
            || groups_offset < due_end as u64
            || end > slots_offset
            || end > self.mapping.len() as u64
        {
            return None;
        }
        // SAFETY: groups_offset + 8 × hints <= end <= mapping.len(), just checked.
        let (first, behind) = unsafe {
            let first = self.base.add(groups_offset as usize);
            (first, first.add(8 * hints as usize))
        };
        self.fifo = Some(FifoWords {
            hints: first,
            hint_mask: hints - 1,
            table: behind,
            window_mask: table / WINDOW_WORDS - 1,
        });
        Some(self)
    }

    /// The same words as those of a further ring of the queue that `first` belongs to.
    pub fn chained_to(self, first: &Self) -> Self {
        Self {
            mapping: Arc::clone(&first.mapping),
            base: first.base,
            ..self
        }
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

    /// Whether the queue is ready, or removed: in its header.
    #[inline(always)]
    pub fn ready(&self) -> &AtomicU32 {
        const { assert!(READY_OFFSET.is_multiple_of(4) && READY_OFFSET + 4 <= control::RECEIVE) };
        // SAFETY: in front of the control area, which `new` proved to lie inside the mapping; shared
        // words are only accessed atomically.
        unsafe { &*self.base.add(READY_OFFSET).cast::<AtomicU32>() }
    }

    /// Receive hint of this ring.
    #[inline(always)]
    pub fn receive(&self) -> &AtomicU64 {
        // SAFETY: made by `new`, aligned to 8 and inside `ring_mapping`; shared words are only
        // accessed atomically.
        unsafe { &*self.receive.cast::<AtomicU64>() }
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
    /// No lease or delay in this ring ends before this.
    #[inline(always)]
    pub fn due(&self) -> &AtomicU64 {
        // SAFETY: both are constant offsets inside the control area, which lies inside
        // `ring_mapping`; aligned to 8; shared words are only accessed atomically.
        unsafe { &*self.receive.add(control::DUE - control::RECEIVE).cast::<AtomicU64>() }
    }
    /// Growth: the highest number of a ring that is known to have been made.
    #[inline(always)]
    pub fn newest(&self) -> &AtomicU64 {
        self.control::<{ control::NEWEST }>()
    }
    /// Growth: 1 once this ring is known to be sealed and drained.
    pub fn drained(&self) -> &AtomicU64 {
        word64(&self.ring_mapping, control::DRAINED)
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
    /// Setting: most messages, 0 for no limit.
    #[inline(always)]
    pub fn max_messages(&self) -> &AtomicU64 {
        self.control::<{ control::MAX_MESSAGES }>()
    }
    /// Setting: most messages in flight, 0 for no limit.
    #[inline(always)]
    pub fn max_in_flight(&self) -> &AtomicU64 {
        self.control::<{ control::MAX_IN_FLIGHT }>()
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
    /// Whether a message was ever looked at in place.
    #[inline(always)]
    pub fn views(&self) -> &AtomicU64 {
        self.control::<{ control::VIEWS }>()
    }
    /// The pins among which those of `position` are.
    #[inline(always)]
    pub fn pins_of(&self, position: u64) -> &[AtomicU64] {
        let bucket = position as usize % PIN_BUCKETS;
        // SAFETY: all buckets lie between the control area and the due words, which `new` proved to
        // lie inside the mapping; aligned to 8; shared words are only accessed atomically.
        unsafe {
            let first = self.base.add(PINS_OFFSET + 8 * BUCKET_PINS * bucket);
            core::slice::from_raw_parts(first.cast::<AtomicU64>(), BUCKET_PINS)
        }
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

    /// Whether it has the words of a FIFO queue.
    pub fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    /// FIFO: link cursor.
    #[inline(always)]
    pub fn link(&self) -> &AtomicU64 {
        self.control::<{ control::LINK }>()
    }
    /// FIFO: the open claim that a receiver left behind.
    pub fn open(&self) -> &AtomicU64 {
        self.control::<{ control::OPEN }>()
    }
    /// FIFO: how many hints were taken.
    #[inline(always)]
    pub fn hints_taken(&self) -> &AtomicU64 {
        self.control::<{ control::HINTS_TAKEN }>()
    }
    /// FIFO: how many hints were given.
    #[inline(always)]
    pub fn hints_given(&self) -> &AtomicU64 {
        self.control::<{ control::HINTS_GIVEN }>()
    }

    /// How many hints there is room for.
    ///
    /// # Panics
    /// When the queue is no FIFO queue.
    #[inline(always)]
    pub fn hint_count(&self) -> u64 {
        self.fifo_words().hint_mask + 1
    }

    /// The hint number `number`, modulo their count.
    ///
    /// # Panics
    /// When the queue is no FIFO queue.
    #[inline(always)]
    pub fn hint(&self, number: u64) -> &AtomicU64 {
        let fifo = self.fifo_words();
        // SAFETY: `hint_mask + 1` words lie behind `hints`, aligned to 8, as `with_groups` proved;
        // shared words are only accessed atomically.
        unsafe {
            &*fifo
                .hints
                .cast::<AtomicU64>()
                .add((number & fifo.hint_mask) as usize)
        }
    }

    /// The window of the group table that `hash` falls into.
    ///
    /// # Panics
    /// When the queue is no FIFO queue.
    #[inline(always)]
    pub fn window(&self, hash: u64) -> &[AtomicU64] {
        let fifo = self.fifo_words();
        let window = (hash & fifo.window_mask) as usize;
        // SAFETY: `window_mask + 1` windows lie behind `table`, aligned to 8, as `with_groups`
        // proved; shared words are only accessed atomically.
        unsafe {
            &*fifo
                .table
                .cast::<[AtomicU64; WINDOW_WORDS as usize]>()
                .add(window)
        }
    }

    #[inline(always)]
    fn fifo_words(&self) -> &FifoWords {
        self.fifo.as_ref().expect("a FIFO queue")
    }
}
