//! Positions, slots, laps: the arithmetic of a ring.
//!
//! `slot(p) = p mod N`, `lap(p) = (p - first) / N + 1`. N is a power of two, and `first`, the first
//! position of the ring, a multiple of it: 0 but for the rings that a queue grew by. So a file of
//! zeroes is a new ring whatever its first position is: every slot VOID of lap 0. A geometry is
//! private and immutable; it is made from a header only through [`Geometry::new`], which checks
//! every bound.

use super::ring::{
    MAX_POSITION, MAX_READERS, MAX_SLOTS, MAX_STRIDE, MIN_SLOTS, MIN_STRIDE, SLOT_HEADER,
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    mask: u64,
    /// What `p / N` is short of the lap of `p`: 1 less the laps before the first position.
    lap_offset: u64,
    shift: u32,
    stride: u32,
    readers: u32,
}

impl Geometry {
    /// `None` when a value is outside its documented bounds.
    pub fn new(slots: u64, stride: u64, readers: u32) -> Option<Self> {
        let valid = slots.is_power_of_two()
            && (MIN_SLOTS..=MAX_SLOTS).contains(&slots)
            && (MIN_STRIDE..=MAX_STRIDE).contains(&stride)
            && stride.is_multiple_of(32)
            && (1..=MAX_READERS).contains(&readers);
        valid.then(|| Self {
            mask: slots - 1,
            lap_offset: 1,
            shift: slots.trailing_zeros(),
            stride: stride as u32,
            readers,
        })
    }

    /// A tiny ring for model checks.
    #[cfg(loom)]
    pub fn model(slots: u64, readers: u32) -> Self {
        assert!(slots.is_power_of_two());
        Self {
            mask: slots - 1,
            lap_offset: 1,
            shift: slots.trailing_zeros(),
            stride: 64,
            readers,
        }
    }

    /// The same ring with `first` as its first position; `None` when no ring can begin there.
    pub fn starting_at(self, first: u64) -> Option<Self> {
        let valid = first < MAX_POSITION && first & self.mask == 0;
        valid.then(|| Self { lap_offset: 1u64.wrapping_sub(first >> self.shift), ..self })
    }

    /// The first position.
    #[inline(always)]
    pub fn first_position(&self) -> u64 {
        1u64.wrapping_sub(self.lap_offset) << self.shift
    }

    /// N.
    #[inline(always)]
    pub fn slots(&self) -> u64 {
        self.mask + 1
    }

    /// Bytes from slot to slot.
    #[inline(always)]
    pub fn stride(&self) -> usize {
        self.stride as usize
    }

    /// Reader entries.
    #[inline(always)]
    pub fn readers(&self) -> u32 {
        self.readers
    }

    /// Largest body that lies in the slot itself.
    #[inline(always)]
    pub fn body_bytes(&self) -> usize {
        self.stride as usize - SLOT_HEADER
    }

    /// The slot index of a position, below N.
    #[inline(always)]
    pub fn slot_of(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// The lap of a position, from 1. Of one before the first: 0, or more than any word says.
    #[inline(always)]
    pub fn lap_of(&self, position: u64) -> u64 {
        (position >> self.shift).wrapping_add(self.lap_offset)
    }

    /// The position of `slot` in `lap`; `None` for lap 0 and for laps no sender can have reached.
    #[inline]
    pub fn position_of(&self, slot: usize, lap: u64) -> Option<u64> {
        let before = lap.checked_sub(1)? + (self.first_position() >> self.shift);
        (before < MAX_POSITION >> self.shift).then(|| before << self.shift | slot as u64)
    }

    /// Whether a header that says `position` may stand in the slot of `at` under a word of `lap`.
    #[inline(always)]
    pub fn is_plausible(&self, position: u64, at: u64, lap: u64) -> bool {
        (position ^ at) & self.mask == 0 && self.lap_of(position).wrapping_sub(1) < lap
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn position_and_slot_and_lap_are_inverse() {
        let geometry = Geometry::new(1024, 128, 4).unwrap();
        for position in [0, 1, 1023, 1024, 5_000_000_123] {
            let (slot, lap) = (geometry.slot_of(position), geometry.lap_of(position));
            assert_eq!(geometry.position_of(slot, lap), Some(position));
        }
        assert_eq!(geometry.position_of(3, 0), None);
        assert_eq!(geometry.position_of(3, (1 << 52) - 1), None);
    }

    #[test]
    fn a_ring_that_starts_later_begins_with_the_same_laps() {
        let plain = Geometry::new(1024, 128, 1).unwrap();
        for first in [0, 1024, 77 << 10, MAX_POSITION - 1024] {
            let geometry = plain.starting_at(first).unwrap();
            assert_eq!(geometry.first_position(), first);
            for position in [first, first + 1, first + 1023] {
                assert_eq!(geometry.lap_of(position), 1);
                let slot = geometry.slot_of(position);
                assert_eq!(geometry.position_of(slot, 1), Some(position));
                assert!(geometry.is_plausible(position, position, 1));
                // A lap before the first there was none.
                for before in [position.wrapping_sub(1024), position.wrapping_sub(1 << 20)] {
                    assert!(!geometry.is_plausible(before, position, 1), "{before}");
                }
            }
            assert_eq!(geometry.lap_of(first + 5 * 1024), 6);
        }
        for first in [1, 512, 1025, MAX_POSITION, !1023] {
            assert_eq!(plain.starting_at(first), None, "{first}");
        }
    }

    #[test]
    fn geometry_outside_its_bounds_is_refused() {
        for (slots, stride, readers) in [
            (0, 64, 1),
            (1000, 64, 1),
            (512, 64, 1),
            (1 << 25, 64, 1),
            (1024, 32, 1),
            (1024, 72, 1),
            (1024, 8192, 1),
            (1024, 64, 0),
            (1024, 64, 5000),
        ] {
            assert_eq!(Geometry::new(slots, stride, readers), None, "{slots} {stride} {readers}");
        }
    }
}
