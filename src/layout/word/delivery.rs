//! Words of a queue: who consumes a message, the last of a group, who looks at one in place.

use super::{LAP_BITS, LAP_MASK, OWNER_BITS, OWNER_MASK};

/// A slot's `dlv`: who consumes the message (queues only).
///
/// ```text
/// READY    0 | 0:10     | lap 52                                      never received
/// INFLIGHT 1 | owner 10 | receives 10 | deadline 32 | lap mod 2^10    leased, or delayed (owner 0)
/// DONE     2 | viewed 1 | 0:9         | lap 52                        consumed: the slot is free
/// MOVING   3 | 0:10     | receives 10 | position mod 2^42             parked
/// MOVING   3 | owner 10 | receives+1  | route 4 | target mod 2^38     on its way to another queue
/// MOVING   3 | owner 10 | 0:10        | position mod 2^42             arriving from another queue
/// ```
/// The lap is that of the position in the slot's header; it stays when the slot's `ctl` is renewed.
/// Nothing goes back to READY, and DONE is the end. A message of a FIFO queue that was consumed before
/// an earlier one of its group is MOVING to nowhere, with no owner and no receives: settled, until
/// that one is DONE too. `receives` counts modulo 1,023 and skips 0.
/// The deadline is in ms of CLOCK_BOOTTIME since the queue's epoch, modulo 2^32.
///
/// A leased word comes twice only with the same owner, count, millisecond and lap modulo 1,024:
/// 1,024 laps of at least 1,024 slots (`ring::MIN_SLOTS`) within one millisecond, or 49 days later,
/// when every message of then is past its retention. A parked or arriving word names its own
/// position, so that of a message of a later lap is another word; one on its way names a position of
/// its target, of which no two messages are given the same; until it knows one, [`NO_TARGET`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dlv(pub u64);

/// DONE: somebody was looking at the message in place.
const VIEWED: u64 = 1 << 61;

const RECEIVES_BITS: u32 = 10;

const DEADLINE_BITS: u32 = 32;

const LAP_LO_BITS: u32 = 10;

const TARGET_BITS: u32 = 42;

const ROUTE_BITS: u32 = 4;

/// Routes of a queue: queues that its messages may be on their way to.
pub const ROUTES: usize = 1 << ROUTE_BITS;

/// Bits of a position in the target queue.
const MOVE_BITS: u32 = TARGET_BITS - ROUTE_BITS;

const MOVE_MASK: u64 = (1 << MOVE_BITS) - 1;

/// Of a message on its way: it has no position in the target yet, or nobody knows it any more. No
/// position with these low bits is moved to.
pub const NO_TARGET: u64 = MOVE_MASK;

/// Owner of a move that nobody makes: of a life of the machine that is over, or of a participant that is
/// dead. (Whoever joins with this number sweeps and moves nothing.)
pub const NOBODY: u16 = (1 << OWNER_BITS) as u16 - 1;

const LAP_LO_MASK: u64 = (1 << LAP_LO_BITS) - 1;

const TARGET_MASK: u64 = (1 << TARGET_BITS) - 1;

const RECEIVES_SHIFT: u32 = DEADLINE_BITS + LAP_LO_BITS;

const _: () = {
    assert!(2 + OWNER_BITS + RECEIVES_BITS + DEADLINE_BITS + LAP_LO_BITS == 64);
    assert!(2 + OWNER_BITS + RECEIVES_BITS + TARGET_BITS == 64);
    assert!(2 + OWNER_BITS + LAP_BITS == 64);
    // Another lap of the same low bits is this many positions away.
    assert!(crate::layout::ring::MIN_SLOTS << LAP_LO_BITS >= 1 << 20);
    // An unexpired deadline and one that has passed are told apart by the sign of half the range.
    assert!((LONGEST_LEASE_MS as u64) < 1 << 31);
};

/// A deadline further away than this has passed: 12 hours, the longest visibility time-out there
/// is (SQS), and a second for clocks that are read at different times.
pub const LONGEST_LEASE_MS: u32 = 43_200_000 + 1_000;

/// Receive counts are 1..=1,023.
pub const RECEIVES_MAX: u16 = (1 << RECEIVES_BITS) - 1;

impl Dlv {
    /// Never received.
    pub const READY: u64 = 0;
    /// Leased until the deadline, or delayed until then.
    pub const INFLIGHT: u64 = 1;
    /// Consumed; the slot may be claimed again.
    pub const DONE: u64 = 2;
    /// Being moved to another queue, or parked.
    pub const MOVING: u64 = 3;

    /// A fresh message of `lap`.
    #[inline(always)]
    pub const fn ready(lap: u64) -> Self {
        Self(Self::READY << 62 | lap & LAP_MASK)
    }

    /// The message of `lap` is consumed.
    #[inline(always)]
    pub const fn done(lap: u64) -> Self {
        Self(Self::DONE << 62 | lap & LAP_MASK)
    }

    /// The same, of a message that somebody was looking at in place when it was consumed.
    #[inline(always)]
    pub const fn done_viewed(lap: u64) -> Self {
        Self(Self::done(lap).0 | VIEWED)
    }

    /// Consumed, and nobody was looking at it: the slot may be claimed without asking further.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 & (3 << 62 | VIEWED) == Self::DONE << 62
    }

    /// Leased by `owner`, or delayed by nobody, until `deadline`.
    #[inline(always)]
    pub const fn inflight(owner: u16, receives: u16, deadline: u32, lap: u64) -> Self {
        Self(
            Self::INFLIGHT << 62
                | (owner as u64 & OWNER_MASK) << LAP_BITS
                | (receives as u64 & RECEIVES_MAX as u64) << RECEIVES_SHIFT
                | (deadline as u64) << LAP_LO_BITS
                | lap & LAP_LO_MASK,
        )
    }

    /// Set aside after `receives`; the message at `position`.
    #[inline(always)]
    pub const fn parked(receives: u16, position: u64) -> Self {
        Self(
            Self::MOVING << 62
                | (receives as u64 & RECEIVES_MAX as u64) << RECEIVES_SHIFT
                | position & TARGET_MASK,
        )
    }

    /// On its way by `owner` to position `target` of the queue at `route`, after `receives`.
    pub const fn moving(owner: u16, receives: u16, route: u8, target: u64) -> Self {
        let count = if receives < RECEIVES_MAX { receives + 1 } else { RECEIVES_MAX };
        Self(
            Self::MOVING << 62
                | (owner as u64 & OWNER_MASK) << LAP_BITS
                | (count as u64) << RECEIVES_SHIFT
                | (route as u64 & (ROUTES as u64 - 1)) << MOVE_BITS
                | target & MOVE_MASK,
        )
    }

    /// At `position`, brought by `owner`, and still on its way where it came from.
    pub const fn arriving(owner: u16, position: u64) -> Self {
        Self(
            Self::MOVING << 62
                | (owner as u64 & OWNER_MASK) << LAP_BITS
                | position & TARGET_MASK,
        )
    }

    /// Whether it is on its way to another queue.
    pub const fn is_moving(self) -> bool {
        self.state() == Self::MOVING && self.owner() != 0 && self.receives() != 0
    }

    /// On its way: whether it names a position there.
    pub const fn has_target(self) -> bool {
        self.0 & MOVE_MASK != NO_TARGET
    }

    /// The same move or arrival, by nobody.
    pub const fn orphaned(self) -> Self {
        Self(self.0 | OWNER_MASK << LAP_BITS)
    }

    /// Whether it is arriving from another queue.
    pub const fn is_arriving(self) -> bool {
        self.state() == Self::MOVING && self.owner() != 0 && self.receives() == 0
    }

    /// Whether it is parked.
    pub const fn is_parked(self) -> bool {
        self.state() == Self::MOVING && self.owner() == 0 && self.receives() != 0
    }

    /// On its way: how often it was received.
    pub const fn moved_receives(self) -> u16 {
        self.receives().saturating_sub(1)
    }

    /// On its way: the number of the queue it goes to.
    pub const fn route(self) -> u8 {
        (self.0 >> MOVE_BITS) as u8 & (ROUTES as u8 - 1)
    }

    /// On its way: its position there, the last such that is not above `tail`.
    pub const fn target_below(self, tail: u64) -> u64 {
        tail.wrapping_sub(tail.wrapping_sub(self.0) & MOVE_MASK)
    }

    /// Consumed out of turn; the message at `position`.
    #[inline(always)]
    pub const fn settled(position: u64) -> Self {
        Self::parked(0, position)
    }

    /// Whether it says so.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        self.0 >> TARGET_BITS == Self::MOVING << (62 - TARGET_BITS)
    }

    /// The two state bits.
    #[inline(always)]
    pub const fn state(self) -> u64 {
        self.0 >> 62
    }

    /// INFLIGHT, MOVING: who holds it, 0 for nobody.
    #[inline(always)]
    pub const fn owner(self) -> u16 {
        (self.0 >> LAP_BITS & OWNER_MASK) as u16
    }

    /// INFLIGHT, parked: how often it was received, 1..=1,023; 0 for never.
    #[inline(always)]
    pub const fn receives(self) -> u16 {
        (self.0 >> RECEIVES_SHIFT) as u16 & RECEIVES_MAX
    }

    /// INFLIGHT: the deadline.
    #[inline(always)]
    pub const fn deadline(self) -> u32 {
        (self.0 >> LAP_LO_BITS) as u32
    }

    /// Parked, arriving: the message's own position modulo 2^42.
    #[inline(always)]
    const fn own(self) -> u64 {
        self.0 & TARGET_MASK
    }

    /// INFLIGHT: ms until the deadline; `None` when it has passed.
    #[inline(always)]
    pub const fn remaining_ms(self, now: u32) -> Option<u32> {
        let remaining = self.deadline().wrapping_sub(now);
        if remaining == 0 || remaining > LONGEST_LEASE_MS {
            return None;
        }
        Some(remaining)
    }

    /// INFLIGHT with this count and lap: by one comparison, whoever holds it and until when.
    #[inline(always)]
    pub const fn is_leased_as(self, receives: u16, lap: u64) -> bool {
        const WHAT: u64 = 3 << 62 | (RECEIVES_MAX as u64) << RECEIVES_SHIFT | LAP_LO_MASK;
        self.0 & WHAT == Self::inflight(0, receives, 0, lap).0
    }

    /// Whether the word can be that of a message at `position` of this lap.
    #[inline(always)]
    pub const fn agrees(self, position: u64, lap: u64) -> bool {
        match self.state() {
            Self::READY | Self::DONE => self.0 & LAP_MASK == lap,
            Self::INFLIGHT => self.0 & LAP_LO_MASK == lap & LAP_LO_MASK,
            // A message on its way names where it goes.
            _ => self.is_moving() || self.own() == position & TARGET_MASK,
        }
    }

    /// The count behind `receives`: modulo 1,023, and never 0.
    #[inline(always)]
    pub const fn next_receive(receives: u16) -> u16 {
        if receives >= RECEIVES_MAX { 1 } else { receives + 1 }
    }
}

/// A word of the group table: 1 | tag 11 | position mod 2^52; 0 was never used.
///
/// Derived: it names a message whose slot says what it is. Of two positions 2^52 apart the slot holds
/// one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastOfGroup(pub u64);

const TAG_MASK: u64 = (1 << 11) - 1;

impl LastOfGroup {
    /// The last message of a group with this hash stands at `position`.
    #[inline(always)]
    pub const fn new(hash: u64, position: u64) -> Self {
        Self(1 << 63 | (hash & TAG_MASK) << LAP_BITS | position & LAP_MASK)
    }

    /// What it has of the hash, with the bit of a word in use.
    #[inline(always)]
    pub const fn tag(self) -> u64 {
        self.0 >> LAP_BITS
    }

    /// The position it names, which is at or below `position`.
    #[inline(always)]
    pub const fn before(self, position: u64) -> u64 {
        position.wrapping_sub(position.wrapping_sub(self.0) & LAP_MASK)
    }
}

/// A pin of a queue: owner 10 | position mod 2^54; 0 pins nothing.
///
/// Who has it looks at the message of that position in place. Of two positions 2^54 apart the slot
/// holds one, and a pin of the other would but cost that slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewPin(pub u64);

const PINNED_BITS: u32 = 64 - OWNER_BITS;

impl ViewPin {
    /// `owner` looks at the message at `position`.
    #[inline(always)]
    pub const fn new(owner: u16, position: u64) -> Self {
        Self((owner as u64) << PINNED_BITS | position & ((1 << PINNED_BITS) - 1))
    }

    /// Who does; 0: nobody.
    #[inline(always)]
    pub const fn owner(self) -> u16 {
        (self.0 >> PINNED_BITS) as u16
    }

    /// Whether it pins the slot of `position` in a ring of `slots`.
    #[inline(always)]
    pub const fn is_of_slot(self, position: u64, slots: u64) -> bool {
        self.owner() != 0 && (self.0 ^ position) & (slots - 1) == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_group_table_names_the_nearest_position_below() {
        for position in [0, 1, (1 << 52) - 1, 1 << 52, (1 << 60) + 12345] {
            let word = LastOfGroup::new(u64::MAX, position);
            assert_eq!(word.tag(), LastOfGroup::new(TAG_MASK, 7).tag());
            for later in [position, position + 1, position + (1 << 51)] {
                assert_eq!(word.before(later), position);
            }
        }
        assert_ne!(LastOfGroup::new(0, 0).0, 0, "0 is a word that was never used");
    }

    #[test]
    fn a_pin_names_its_owner_and_its_slot() {
        for position in [0, 77, (1 << 54) - 1, (1 << 60) + 1029] {
            let pin = ViewPin::new(1023, position);
            assert_eq!(pin.owner(), 1023);
            assert!(pin.is_of_slot(position + 4096, 1024));
            assert!(!pin.is_of_slot(position + 1, 1024));
        }
        assert!(!ViewPin(0).is_of_slot(0, 1024), "nobody's");
        assert!(Dlv::done(5).is_free() && !Dlv::done_viewed(5).is_free());
        assert!(Dlv::done_viewed(5).agrees(0, 5));
        assert_eq!(Dlv::done_viewed(5).state(), Dlv::DONE);
        assert!(!Dlv::inflight(1, 1, 1, 5).is_free() && !Dlv::ready(5).is_free());
    }

    #[test]
    fn fields_of_a_delivery_word_do_not_touch_each_other() {
        let leased = Dlv::inflight(1023, 1022, u32::MAX - 5, (7 << 10) + 1023);
        assert_eq!(leased.state(), Dlv::INFLIGHT);
        assert_eq!((leased.owner(), leased.receives()), (1023, 1022));
        assert_eq!(leased.deadline(), u32::MAX - 5);
        assert!(leased.agrees(9, 1023) && leased.agrees(9, (3 << 10) + 1023));
        assert!(!leased.agrees(9, 1022));
        let parked = Dlv::parked(1000, (1 << 50) + 77);
        assert_eq!((parked.state(), parked.owner(), parked.receives()), (Dlv::MOVING, 0, 1000));
        assert!(parked.agrees((1 << 50) + 77, 1) && !parked.agrees((1 << 50) + 78, 1));
        let settled = Dlv::settled((1 << 50) + 77);
        assert!(settled.is_settled() && settled.agrees((1 << 50) + 77, 1));
        assert!(!parked.is_settled());
        for (word, state) in [(Dlv::ready(5), Dlv::READY), (Dlv::done(5), Dlv::DONE)] {
            assert_eq!(word.state(), state);
            assert!(word.agrees(0, 5) && !word.agrees(0, 5 + (1 << 10)));
        }
    }

    #[test]
    fn a_word_on_its_way_says_where_to_and_one_that_arrives_where_it_is() {
        let tail = (5 << 60) + (3 << MOVE_BITS) + 10;
        for (receives, route, target) in [(0, 0, tail), (1000, 15, tail - 11), (7, 9, tail - 1)] {
            let word = Dlv::moving(1023, receives, route, target);
            assert!(word.is_moving() && !word.is_arriving() && !word.is_parked());
            assert_eq!((word.owner(), word.moved_receives()), (1023, receives));
            assert_eq!((word.route(), word.target_below(tail)), (route, target));
            assert!(word.agrees(77, 1), "it says nothing about where it stands");
        }
        let arriving = Dlv::arriving(3, (1 << 50) + 77);
        assert!(arriving.is_arriving() && !arriving.is_moving() && !arriving.is_parked());
        assert!(arriving.agrees((1 << 50) + 77, 1) && !arriving.agrees((1 << 50) + 78, 1));
        assert!(Dlv::parked(3, 7).is_parked());
    }

    #[test]
    fn a_deadline_passes_once_and_stays_passed_for_seven_weeks() {
        let now = u32::MAX - 10; // the epoch wraps under the lease
        let lease = |ms: u32| Dlv::inflight(1, 1, now.wrapping_add(ms), 1);
        assert_eq!(lease(0).remaining_ms(now), None);
        assert_eq!(lease(1).remaining_ms(now), Some(1));
        assert_eq!(lease(43_200_000).remaining_ms(now), Some(43_200_000));
        assert_eq!(lease(30_000).remaining_ms(now.wrapping_add(29_999)), Some(1));
        assert_eq!(lease(30_000).remaining_ms(now.wrapping_add(30_000)), None);
        let weeks = 7 * 7 * 86_400_000;
        assert_eq!(lease(30_000).remaining_ms(now.wrapping_add(weeks)), None);
    }

    #[test]
    fn receives_count_to_1023_and_skip_zero() {
        assert_eq!(Dlv::next_receive(0), 1);
        assert_eq!(Dlv::next_receive(1022), 1023);
        assert_eq!(Dlv::next_receive(1023), 1);
    }
}
