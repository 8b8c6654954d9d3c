//! The words that own a fact: slot control, chunk, participant, reader entry, role; those of queues
//! ([`delivery`]) and of streams ([`stream`]) beside.
//!
//! Each is one `u64` that changes by CAS and never repeats: a lap, version or generation of at
//! least 52 bits is part of it. At 10^9 changes a second of one slot 2^52 laps last 52 days of
//! nothing else; a slot of a 1,024-slot ring sees 1/1,024 of the sends. A delivery word has less
//! room for its lap while a message is leased; [`Dlv`] says what keeps that one from coming twice.

/// Bits of an owner: participant slots 1..=1023, 0 is nobody.
pub const OWNER_BITS: u32 = 10;
const OWNER_MASK: u64 = (1 << OWNER_BITS) - 1;
/// Bits of a lap, version or generation.
pub const LAP_BITS: u32 = 52;
/// The lap that seals a ring: no position has it.
pub const LAP_SEALED: u64 = (1 << LAP_BITS) - 1;
const LAP_MASK: u64 = LAP_SEALED;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub u64);

        impl $name {
            /// Joins the three fields: state 2 bits | owner 10 bits | count 52 bits.
            #[inline(always)]
            pub const fn new(state: u64, owner: u16, count: u64) -> Self {
                Self(state << 62 | (owner as u64 & OWNER_MASK) << LAP_BITS | count & LAP_MASK)
            }
            /// The two state bits.
            #[inline(always)]
            pub const fn state(self) -> u64 {
                self.0 >> 62
            }
            /// The participant slot that owns, 0 for nobody.
            #[inline(always)]
            pub const fn owner(self) -> u16 {
                (self.0 >> LAP_BITS & OWNER_MASK) as u16
            }
        }
    };
}

mod delivery;
mod stream;

pub use delivery::{
    Dlv, LONGEST_LEASE_MS, LastOfGroup, NO_TARGET, NOBODY, RECEIVES_MAX, ROUTES, ViewPin,
};
pub use stream::{Checkpoint, Lease, Shard};

word! {
    /// A slot's `ctl`: state {VOID, CLAIMED, COMMITTED, HELD} | owner | lap.
    Ctl
}

impl Ctl {
    /// No record; free for the next lap.
    pub const VOID: u64 = 0;
    /// The owner writes header and body.
    pub const CLAIMED: u64 = 1;
    /// A record of the header's position.
    pub const COMMITTED: u64 = 2;
    /// Abandoned while the owner may still write: stepped over, never reused.
    pub const HELD: u64 = 3;

    /// The lap of the last position that was claimed or stepped over here.
    #[inline(always)]
    pub const fn lap(self) -> u64 {
        self.0 & LAP_MASK
    }

    /// COMMITTED at exactly this lap: by one comparison, whoever did.
    #[inline(always)]
    pub const fn is_committed_at(self, lap: u64) -> bool {
        const STATE_AND_LAP: u64 = 3 << 62 | LAP_MASK;
        self.0 & STATE_AND_LAP == Self::COMMITTED << 62 | lap
    }

    /// The same word at another lap.
    #[inline(always)]
    pub const fn at_lap(self, lap: u64) -> Self {
        Self(self.0 & !LAP_MASK | lap & LAP_MASK)
    }
}
word! {
    /// A chunk's word: state {FREE, OWNED, ATTACHED} | owner | version.
    Chunk
}

impl Chunk {
    /// In nobody's hands. A new segment is all zero: FREE, version 0.
    pub const FREE: u64 = 0;
    /// In the hands of the owner: its private cache, a loan, or a send under way.
    pub const OWNED: u64 = 1;
    /// Belongs to the record of the (ring, position) beside the word.
    pub const ATTACHED: u64 = 2;

    /// Rises by one each time the chunk is freed or recycled.
    pub const fn version(self) -> u64 {
        self.0 & LAP_MASK
    }
}

word! {
    /// A participant's word: state {FREE, ALIVE, REAPING} | reaper | generation.
    Participant
}

impl Participant {
    /// Swept; may be joined.
    pub const FREE: u64 = 0;
    /// Joined; alive exactly as long as its lock byte is held.
    pub const ALIVE: u64 = 1;
    /// Dead, and the participant in the owner field sweeps what it left.
    pub const REAPING: u64 = 2;

    /// How often the slot was joined before.
    pub const fn generation(self) -> u64 {
        self.0 & LAP_MASK
    }
}

word! {
    /// A role or a reader entry: kind (2 bits, free for the user) | holder | version.
    Role
}

impl Role {
    /// Rises with every change of hands.
    pub const fn version(self) -> u64 {
        self.0 & LAP_MASK
    }

    /// Nobody holds it; the version goes on.
    pub const fn released(self) -> Self {
        Self::new(0, 0, self.version().wrapping_add(1))
    }

    /// Held by `owner` with `kind`; the version goes on.
    pub const fn taken(self, kind: u64, owner: u16) -> Self {
        Self::new(kind, owner, self.version().wrapping_add(1))
    }
}
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_word_do_not_touch_each_other() {
        let word = Ctl::new(Ctl::HELD, 1023, LAP_SEALED - 1);
        assert_eq!((word.state(), word.owner(), word.lap()), (Ctl::HELD, 1023, LAP_SEALED - 1));
        let renewed = Ctl::new(Ctl::COMMITTED, 513, 7).at_lap(8);
        assert_eq!((renewed.state(), renewed.owner(), renewed.lap()), (Ctl::COMMITTED, 513, 8));
    }

    #[test]
    fn a_role_never_shows_the_same_word_twice() {
        let free = Role(0);
        let taken = free.taken(1, 5);
        assert_ne!(taken.released(), free);
        assert_ne!(taken.released().taken(1, 5), taken);
    }
}
