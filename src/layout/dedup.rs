//! The bytes of a deduplication table: which ids were sent within the window, by their hash.
//!
//! ```text
//! bucket, 256 bytes, 8 entries     0 words[8] u64   64 expiries[8] u64   128 hashes[8] u64 low, u64 high
//! ```
//! Two lines say which entries an id may stand in and which are free, the two behind them hold the
//! hashes. An id may stand in either of two buckets ([`buckets_of`]).

use super::word::{OWNER_BITS, LAP_BITS};
use core::mem::offset_of;

/// Entries of a bucket.
pub const BUCKET_ENTRIES: usize = 8;

/// See the module.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Bucket {
    /// Who may do what with the entry ([`Entry`]).
    pub words: [u64; BUCKET_ENTRIES],
    /// When the id may be sent again, in ms since the queue's epoch.
    pub expiries: [u64; BUCKET_ENTRIES],
    /// The keyed hash of the id: low half, high half.
    pub hashes: [[u64; 2]; BUCKET_ENTRIES],
}

const _: () = {
    assert!(size_of::<Bucket>() == 256);
    assert!(offset_of!(Bucket, expiries) == 64);
    assert!(offset_of!(Bucket, hashes) == 128);
};

/// Fewest ids a table is made for.
pub const MIN_CAPACITY: u64 = 1_024;
/// Most ids a table is made for: 4 GiB of entries.
pub const MAX_CAPACITY: u64 = 1 << 26;

/// Buckets of a region. Both buckets of an id lie in one, 32 KiB: the page table entries of its eight
/// pages share a cache line, so that the second bucket, in a table that no TLB holds, costs little
/// beside the first.
pub const REGION: u64 = if cfg!(loom) { 2 } else { 128 };

/// Buckets of a table for `capacity` ids: twice as many entries, in whole regions. Placed in the
/// emptier of two buckets of eight, ids overflow a table that is half full less than once in 10⁸
/// (simulated over ten generations of 2²³ ids), one that is 65 % full once in 10⁴.
pub const fn buckets_for(capacity: u64) -> u64 {
    (2 * capacity)
        .div_ceil(BUCKET_ENTRIES as u64)
        .next_multiple_of(REGION)
}

/// Most buckets of a table.
pub const MAX_BUCKETS: u64 = buckets_for(MAX_CAPACITY);

/// The two buckets an id of this hash may stand in, of `buckets` (whole regions); never the same.
#[inline(always)]
pub const fn buckets_of(low: u64, high: u64, buckets: u64) -> (usize, usize) {
    let first = ((low as u128 * buckets as u128) >> 64) as u64;
    let second = first & !(REGION - 1) | (high >> (64 - REGION.trailing_zeros()));
    let is_same = (first == second) as u64;
    (first as usize, (second ^ is_same) as usize)
}

/// Bits of the hash that stand in an entry's word.
pub const TAG_BITS: u32 = OWNER_BITS;
/// Bits of a position in an entry's word.
pub const POSITION_BITS: u32 = LAP_BITS;
/// Positions at or above this have no entry: at 10⁷ messages a second that is 14 years away.
pub const POSITIONS: u64 = 1 << POSITION_BITS;
const POSITION_MASK: u64 = POSITIONS - 1;

/// The word of an entry.
///
/// ```text
/// FREE     0 | 0:10     | position 52   never used, or given up by the claim of that position
/// WRITING  1 | owner 10 | position 52   its owner, who holds that claim, stores hash and expiry
/// LIVE     2 | tag 10   | position 52   counts if a message of that position is committed
/// SEALED   3 | tag 10   | position 52   a message of that position was committed
/// ```
/// A position is claimed once, by one participant, and a claim uses an entry once: so no word but
/// the first (all zero) comes twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry(pub u64);

impl Entry {
    /// See the type.
    pub const FREE: u64 = 0;
    /// See the type.
    pub const WRITING: u64 = 1;
    /// See the type.
    pub const LIVE: u64 = 2;
    /// See the type.
    pub const SEALED: u64 = 3;

    const fn new(state: u64, middle: u64, position: u64) -> Self {
        Self(state << 62 | middle << POSITION_BITS | position & POSITION_MASK)
    }

    /// Given up by whoever claimed `position`.
    pub const fn free(position: u64) -> Self {
        Self::new(Self::FREE, 0, position)
    }
    /// Being written by `owner`, who holds the claim of `position`.
    pub const fn writing(owner: u16, position: u64) -> Self {
        Self::new(Self::WRITING, owner as u64 & MIDDLE_MASK, position)
    }
    /// Stands for `position`, if that is committed.
    pub const fn live(tag: u16, position: u64) -> Self {
        Self::new(Self::LIVE, tag as u64 & MIDDLE_MASK, position)
    }
    /// From LIVE to SEALED.
    pub const fn sealed(self) -> Self {
        Self(self.0 | Self::SEALED << 62)
    }

    /// The two state bits.
    #[inline(always)]
    pub const fn state(self) -> u64 {
        self.0 >> 62
    }
    /// Of a WRITING entry.
    pub const fn owner(self) -> u16 {
        (self.0 >> POSITION_BITS & MIDDLE_MASK) as u16
    }
    /// The position it was written for.
    #[inline(always)]
    pub const fn position(self) -> u64 {
        self.0 & POSITION_MASK
    }
    /// Whether it is LIVE or SEALED and has this tag. The two states have the upper state bit, so
    /// one comparison says both.
    #[inline(always)]
    pub const fn may_be(self, tag: u16) -> bool {
        const LOWER_STATE: u64 = 1 << TAG_BITS;
        const SEALED: u64 = Entry::SEALED << TAG_BITS;
        self.0 >> POSITION_BITS | LOWER_STATE == SEALED | tag as u64
    }
}

const MIDDLE_MASK: u64 = (1 << TAG_BITS) - 1;

const _: () = assert!(2 + TAG_BITS + POSITION_BITS == 64);

/// The bits of a hash that stand in the word of its entry.
#[inline(always)]
pub const fn tag_of(low: u64, high: u64) -> u16 {
    ((low ^ high) & MIDDLE_MASK) as u16
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn fields_of_an_entry_do_not_touch_each_other() {
        let live = Entry::live(1023, POSITIONS - 2);
        assert_eq!((live.state(), live.position()), (Entry::LIVE, POSITIONS - 2));
        assert!(live.may_be(1023) && !live.may_be(1022));
        let sealed = live.sealed();
        assert_eq!((sealed.state(), sealed.position()), (Entry::SEALED, POSITIONS - 2));
        assert!(sealed.may_be(1023) && !sealed.may_be(511));
        let writing = Entry::writing(513, 7);
        assert_eq!((writing.state(), writing.owner(), writing.position()), (Entry::WRITING, 513, 7));
        assert!(!writing.may_be(513), "its hash is not written yet");
        let free = Entry::free(9);
        assert_eq!((free.state(), free.position()), (Entry::FREE, 9));
        assert!(!free.may_be(0) && !Entry(0).may_be(0));
    }

    #[test]
    fn an_id_has_two_buckets_of_one_region() {
        for buckets in [REGION, 3 * REGION, buckets_for(MIN_CAPACITY), MAX_BUCKETS] {
            for half in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
                for other in [0, u64::MAX / 2, u64::MAX] {
                    let (first, second) = buckets_of(half, other, buckets);
                    let (first, second) = (first as u64, second as u64);
                    assert!(first != second, "{half} {other} {buckets}");
                    assert!(first.max(second) < buckets);
                    assert_eq!(first / REGION, second / REGION);
                }
            }
        }
    }

    #[test]
    fn a_table_has_twice_the_entries_of_its_capacity() {
        for capacity in [MIN_CAPACITY, MIN_CAPACITY + 1, 1_000_000, MAX_CAPACITY] {
            assert!(buckets_for(capacity) * BUCKET_ENTRIES as u64 >= 2 * capacity);
        }
    }
}
