//! Touching pages ahead of a cursor.
//!
//! A ring that a queue grew by is mapped without its pages: it may be long, and most of its slots be
//! left behind or never reached. A first touch costs about two microseconds a page, so a cursor has
//! the pages of the next stretch faulted in by one call, until it has gone round once. Private to one
//! cursor; a hint to the kernel, and nothing if it refuses.

use crate::shm::ring::RingMemory;

/// Bytes of one stretch: 128 pages, faulted in within a tenth of a millisecond.
const STRETCH: u64 = 512 << 10;

/// How far a cursor has touched.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// Positions below this are touched.
    below: u64,
    /// Where the first round ends.
    until: u64,
}

impl Touch {
    /// Nothing is to be touched.
    pub const NOTHING: Self = Self {
        below: u64::MAX,
        until: u64::MAX,
    };

    /// Of a ring of which this process has touched nothing, by a cursor at `position`.
    pub fn all(memory: &RingMemory, position: u64) -> Self {
        Self {
            below: position,
            until: position.saturating_add(memory.geometry().slots()),
        }
    }

    /// The cursor is at `next` and looks here again within `step` positions.
    #[inline]
    pub fn reach(&mut self, memory: &RingMemory, next: u64, step: u64) {
        if next.saturating_add(step) > self.below {
            self.touch(memory, next);
        }
    }

    #[cold]
    fn touch(&mut self, memory: &RingMemory, next: u64) {
        let from = self.below.max(next);
        if from >= self.until {
            *self = Self::NOTHING;
            return;
        }
        let stride = memory.geometry().stride() as u64;
        self.below = from + memory.touch(from, STRETCH / stride);
    }
}
