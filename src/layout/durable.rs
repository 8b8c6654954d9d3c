//! The bytes of a queue that is on disk: its words in the queue file, and the entries of its journal.
//!
//! In the queue file, line pairs [`control::DURABLE`] to [`control::MARKED`] of the control area, and
//! one bit a block of 64 slots from the header's `changed_offset` on ([`Changed`]): blocks in which a
//! message was consumed since the last flush.
//!
//! In the journal, entries of these kinds. `position` stands in the journal's own entry head; what is
//! written here is what follows it.
//!
//! ```text
//! MESSAGE    position: its own    MessageHead, then the bytes that lie behind the envelope
//! CONSUMED   position: p          u64: bit i says that position p + i, and every earlier one of its
//!                                 slot, is consumed or never held a message (p: of slot 64 × n); of a
//!                                 second one, and more, the same of p + 64 + i, and so on
//! RECEIVED   position: its own    u64: how often the message was received
//! AGAIN      position: its own    a message, as in MESSAGE: written again, so that the segment in which it
//!                                stands can be given back
//! ID         position: its own    [`SentId`]: the message had this deduplication id; written again, as AGAIN
//! SETTINGS   position: a place     u64: the setting word of that place, from that of the retention on
//! MOVING     position: its own    u64: object id of a queue that the message may have gone to
//! RING       position: its first  [`RingEntry`]: a ring of the queue begins there. Written before the
//!                                 first position of the ring is, and all that are left in front of
//!                                 everything else by the first flush that begins in a segment
//! DRAINED    position: its first  u64: its number; nothing is left in that ring, and its file is gone
//! ```
//! A position belongs to the ring with the highest first position at or below, as long as that one was
//! not sealed there; one that belongs to none is of a ring that is drained, and so is one that lies in front of the last
//! of all that were said to be left, and is not among them. A queue that can't grow has
//! no RING: every position is its one ring's.
//!
//! What a CONSUMED says stays true, and of RECEIVED the highest counts, so that those may be read in any
//! order; of SETTINGS and MOVING the last counts. Behind a MOVING the message is asked for in that queue
//! before it is offered again.

use super::word::Role;
use super::{LINE_PAIR, PAGE};
use core::mem::offset_of;

/// It lives in memory, and survives the death of every process.
pub const MEMORY: u32 = 0;
/// Since 1.2: on disk soon after a send or a delete has returned.
pub const ASYNC: u32 = 1;
/// On disk before a send or a delete returns.
pub const DURABLE: u32 = 2;

/// Offsets of the shared words of a queue that is on disk.
pub mod control {
    use super::{LINE_PAIR, PAGE};

    /// Which positions are on disk ([`super::Durable`]).
    pub const DURABLE: usize = PAGE + 24 * LINE_PAIR;
    /// Who writes the journal ([`super::Role`]; its kind is one of [`super::FRESH`] and those behind
    /// it).
    pub const PERSISTER: usize = PAGE + 25 * LINE_PAIR;
    /// Where the next block goes ([`super::Cursor`]). Counts while the role is
    /// [`super::HANDED_OVER`].
    pub const CURSOR: usize = PERSISTER + 8;
    /// Rises with every step of the persister: who waits tells by it whether he stands still.
    pub const STEPS: usize = PERSISTER + 16;
    /// How many flushes have begun.
    pub const BEGUN: usize = PAGE + 26 * LINE_PAIR;
    /// The highest flush that is on disk.
    pub const FINISHED: usize = BEGUN + 8;
    /// Futex word, u32: changes with every flush. Behind it, u32: 1 while somebody may sleep on it.
    pub const FLUSHED: usize = PAGE + 27 * LINE_PAIR;
    /// See [`FLUSHED`].
    pub const WAITING: usize = FLUSHED + 4;
    /// The highest epoch whose segment could not be written to, plus one; 0 for none.
    pub const FAILED: usize = PAGE + 28 * LINE_PAIR;
    /// 1 while there is no segment that can be written to: sends are refused.
    pub const FROZEN: usize = FAILED + 8;
    /// The flush up to which a later block tells what was on disk.
    pub const MARKED: usize = PAGE + 29 * LINE_PAIR;
    /// Counter: flushes.
    pub const FLUSHES: usize = FAILED + 16;
    /// Counter: take-overs of the role from somebody who was dead or stood still.
    pub const TAKE_OVERS: usize = FAILED + 24;
    /// Since 1.2. Futex word, u32: changes when somebody asks whoever keeps the role for a flush. Behind
    /// it, u32: 1 while that one may sleep on it.
    pub const ASKED: usize = PAGE + 30 * LINE_PAIR;
    /// See [`ASKED`].
    pub const ASLEEP: usize = ASKED + 4;
    /// Since 1.2: bytes of the journal's segments, as its writer last saw them.
    pub const JOURNAL_BYTES: usize = ASKED + 8;
    /// Since 1.2: 1 where the next flush is to look for segments that can be given back.
    pub const LOOK_AGAIN: usize = ASKED + 16;
}

const _: () = {
    assert!(control::DURABLE > super::queue::control::VIEWS);
    assert!(control::LOOK_AGAIN + 8 <= super::ring::control::END);
};

/// Nobody writes, and there is no segment to go on in: the next one begins an epoch.
pub const FRESH: u64 = 0;
/// Nobody writes; the cursor says where to go on.
pub const HANDED_OVER: u64 = 1;
/// The owner writes.
pub const WRITING: u64 = 2;
/// Nobody writes, and no segment of this epoch could be made: the next one tries again.
pub const UNBEGUN: u64 = 3;

impl Role {
    /// Nobody's, with a `kind` that is not [`WRITING`]; the version goes on.
    pub const fn laid_down(self, kind: u64) -> Self {
        Self::new(kind, 0, self.version().wrapping_add(1))
    }
}

/// Which positions are on disk: epoch 20 | position 44.
///
/// Every position below is in the journal, or never holds a message. The epoch rises with every
/// take-over, the position with every flush; a take-over takes a segment to be made, so that a word
/// comes twice only behind a million of them without one flush between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durable(pub u64);

/// Bits of a position in it: at 10^6 messages a second all day long 203 days, and no claim goes
/// beyond.
pub const POSITION_BITS: u32 = 44;
/// Positions at or above this are never claimed in a queue that is on disk.
pub const POSITIONS: u64 = 1 << POSITION_BITS;
/// Epochs there are.
pub const EPOCHS: u64 = 1 << (64 - POSITION_BITS);

impl Durable {
    /// Joins the two; `None` when either has run out.
    pub const fn new(epoch: u64, position: u64) -> Option<Self> {
        if epoch >= EPOCHS || position > POSITIONS - 1 {
            return None;
        }
        Some(Self(epoch << POSITION_BITS | position))
    }
    /// The epoch.
    #[inline(always)]
    pub const fn epoch(self) -> u64 {
        self.0 >> POSITION_BITS
    }
    /// The first position that is not on disk.
    #[inline(always)]
    pub const fn position(self) -> u64 {
        self.0 & (POSITIONS - 1)
    }
}

/// Where the next block of the journal goes: epoch 20 | segment 24 | page 20, of 4,096 bytes.
///
/// One word, so that whoever was displaced while he stored it mixes nothing up: what is of another
/// epoch counts for nobody, and who finds it begins one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor(pub u64);

const CURSOR_PAGE_BITS: u32 = 20;
const CURSOR_SEGMENT_BITS: u32 = 24;

impl Cursor {
    /// Joins the three; `None` when one has run out.
    pub const fn new(epoch: u64, segment: u64, offset: u64) -> Option<Self> {
        let page = offset / PAGE as u64;
        if epoch >= EPOCHS
            || segment >> CURSOR_SEGMENT_BITS != 0
            || page >> CURSOR_PAGE_BITS != 0
            || !offset.is_multiple_of(PAGE as u64)
        {
            return None;
        }
        let epoch = epoch << (CURSOR_SEGMENT_BITS + CURSOR_PAGE_BITS);
        Some(Self(epoch | segment << CURSOR_PAGE_BITS | page))
    }
    /// Segment and offset, if it is of `epoch`.
    pub const fn of(self, epoch: u64) -> Option<(u64, u64)> {
        if self.0 >> (CURSOR_SEGMENT_BITS + CURSOR_PAGE_BITS) != epoch {
            return None;
        }
        let segment = self.0 >> CURSOR_PAGE_BITS & ((1 << CURSOR_SEGMENT_BITS) - 1);
        let page = self.0 & ((1 << CURSOR_PAGE_BITS) - 1);
        Some((segment, page * PAGE as u64))
    }
}

const _: () = assert!(EPOCHS.trailing_zeros() + CURSOR_SEGMENT_BITS + CURSOR_PAGE_BITS == 64);

/// Entry: a message.
pub const ENTRY_MESSAGE: u8 = 1;
/// Entry: consumed messages.
pub const ENTRY_CONSUMED: u8 = 0x81;
/// Entry: the receive count of a message.
pub const ENTRY_RECEIVED: u8 = 0x82;
/// Entry: the settings.
pub const ENTRY_SETTINGS: u8 = 0x83;
/// Entry: a message that was written before.
pub const ENTRY_AGAIN: u8 = 0x84;
/// Entry, since 1.2: a message that is on its way to another queue.
pub const ENTRY_MOVING: u8 = 0x85;

/// Entry: a deduplication id that was written before, with a message that may be gone.
pub const ENTRY_ID: u8 = 0x86;

/// Entry, since 1.2: a ring of the queue.
pub const ENTRY_RING: u8 = 0x87;
/// Entry, since 1.2: a ring in which nothing is left.
pub const ENTRY_DRAINED: u8 = 0x88;

/// A ring of a queue that is on disk, which may have several.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RingEntry {
    /// Where the ring before it is sealed: of those that are left the next lower one. 0 of the first.
    pub before: u64,
    /// Its number, 0 for the first.
    pub number: u32,
    /// Its slots are two to the power of this.
    pub slots_log2: u16,
    /// As many of the queue's rings follow in the next entries.
    pub following: u16,
}

const _: () = {
    assert!(size_of::<RingEntry>() == 16);
    assert!(super::queue::MAX_RINGS <= u16::MAX as usize);
};

/// A deduplication id by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SentId {
    /// Its hash.
    pub id: [u64; 2],
    /// When it was sent, in ms of the Unix clock.
    pub sent_ms: u64,
}

const _: () = assert!(size_of::<SentId>() == 24);

/// In front of a message's bytes in the journal. Times are those of the Unix clock: the clock of the
/// queue begins anew with the machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct MessageHead {
    /// When it was sent, in ms.
    pub sent_ms: u64,
    /// Not visible before, in ms; 0: at once.
    pub visible_ms: u64,
    /// The slot's header word ([`super::ring::Meta`]).
    pub meta: u64,
    /// FIFO: hash of its group.
    pub group: [u64; 2],
    /// Hash of its deduplication id, where `marks` has [`MARK_ID`].
    pub id: [u64; 2],
    /// [`MARK_ID`], and since 1.2 [`MARK_ARRIVING`].
    pub marks: u32,
    /// Of the participant that sent it.
    pub sender: u32,
}

const _: () = {
    assert!(size_of::<MessageHead>() == 64);
    assert!(offset_of!(MessageHead, meta) == 16);
    assert!(offset_of!(MessageHead, group) == 24);
    assert!(offset_of!(MessageHead, id) == 40);
    assert!(offset_of!(MessageHead, marks) == 56);
};

/// It has a deduplication id.
pub const MARK_ID: u32 = 1;
/// It comes from another queue, and was not let in yet when it was written.
pub const MARK_ARRIVING: u32 = 2;

/// Places of settings in the journal: the words from [`super::queue::control::RETENTION`] to the last of
/// [`super::queue::control::REDRIVE_SOURCES`], but for those between.
pub const SETTINGS: usize = 16 + 1 + super::queue::MAX_REDRIVE_SOURCES;

/// Whether the word at a place is a setting.
pub const fn is_setting(place: usize) -> bool {
    place < 10 || (16 <= place && place < SETTINGS)
}

const _: () = {
    use super::queue::control::{MAX_IN_FLIGHT, OPEN, REDRIVE_ALLOW, REDRIVE_SOURCES, RETENTION};
    assert!(MAX_IN_FLIGHT == RETENTION + 8 * 9 && OPEN == RETENTION + 8 * 10);
    assert!(REDRIVE_ALLOW == RETENTION + 8 * 16 && REDRIVE_SOURCES == RETENTION + 8 * 17);
};

/// A word of the changed bits: epoch 32 | one bit for each of 32 blocks.
///
/// Who consumes sets a bit, whoever writes the journal takes all of them by a CAS of exactly the word
/// he saw. The epoch is the writer's who took them last: a take-over changes it first, so that one who
/// was displaced takes none any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed(pub u64);

impl Changed {
    /// None has changed since `epoch` took them.
    pub const fn none(epoch: u64) -> Self {
        Self(epoch << BLOCKS_PER_WORD)
    }
    /// Whose bits they are.
    pub const fn epoch(self) -> u64 {
        self.0 >> BLOCKS_PER_WORD
    }
    /// One bit for each block.
    pub const fn blocks(self) -> u32 {
        self.0 as u32
    }
}

/// Blocks of one word of the changed bits.
pub const BLOCKS_PER_WORD: u64 = 32;

const _: () = assert!(EPOCHS <= 1 << 32);

/// Words of changed bits of a queue of `slots`.
pub const fn changed_words(slots: u64) -> u64 {
    (slots / super::queue::BLOCK_SLOTS).div_ceil(BLOCKS_PER_WORD)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn epoch_and_position_do_not_touch_each_other() {
        let word = Durable::new(EPOCHS - 1, 5).unwrap();
        assert_eq!((word.epoch(), word.position()), (EPOCHS - 1, 5));
        let word = Durable::new(3, POSITIONS - 1).unwrap();
        assert_eq!((word.epoch(), word.position()), (3, POSITIONS - 1));
        assert_eq!(Durable::new(EPOCHS, 0), None);
        assert_eq!(Durable::new(0, POSITIONS), None);
        assert!(Durable::new(4, 5).unwrap().0 > Durable::new(3, POSITIONS - 1).unwrap().0);
    }

    #[test]
    fn a_cursor_counts_in_its_epoch_only() {
        let last = (EPOCHS - 1, (1 << 24) - 1, ((1 << 20) - 1) * 4096);
        for (epoch, segment, offset) in [(0, 0, 8192), (7, 3, 4096 * 77), last] {
            let cursor = Cursor::new(epoch, segment, offset).unwrap();
            assert_eq!(cursor.of(epoch), Some((segment, offset)));
            assert_eq!(cursor.of(epoch ^ 1), None);
        }
        for (epoch, segment, offset) in [(EPOCHS, 0, 0), (0, 1 << 24, 0), (0, 0, 1 << 32), (0, 0, 1)] {
            assert_eq!(Cursor::new(epoch, segment, offset), None);
        }
    }

    #[test]
    fn a_role_that_is_laid_down_never_shows_the_same_word_twice() {
        let fresh = Role(0);
        let taken = fresh.taken(WRITING, 5);
        let handed_over = taken.laid_down(HANDED_OVER);
        assert_eq!((handed_over.state(), handed_over.owner()), (HANDED_OVER, 0));
        assert_ne!(handed_over.taken(WRITING, 5), taken);
        assert_ne!(taken.laid_down(FRESH), fresh);
    }
}
