//! Words of a stream: its shards, who reads one for a group, and how far that group has come.

use super::{LAP_BITS, LAP_MASK, OWNER_MASK};

/// A shard of a stream: state {NONE, OPEN, CLOSED, RETIRED} | 0:10 | changes of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard(pub u64);

impl Shard {
    /// Not made yet.
    pub const NONE: u64 = 0;
    /// Takes records.
    pub const OPEN: u64 = 1;
    /// Takes none any more; what it has can be read.
    pub const CLOSED: u64 = 2;
    /// Its memory was given back.
    pub const RETIRED: u64 = 3;

    /// The same shard in its next state. A shard passes each state once, so no word comes twice.
    pub const fn at(state: u64) -> Self {
        Self(state << 62 | state)
    }

    /// The two state bits.
    pub const fn state(self) -> u64 {
        self.0 >> 62
    }
}

word! {
    /// Who reads a shard for a group: state {FREE, HELD} | number of the worker and one | token.
    Lease
}

impl Lease {
    /// Nobody.
    pub const FREE: u64 = 0;
    /// The worker.
    pub const HELD: u64 = 1;

    /// Rises with every change of hands: what a checkpoint is fenced by.
    pub const fn token(self) -> u64 {
        self.0 & LAP_MASK
    }

    /// Held by worker `member`; the token goes on.
    pub const fn taken(self, member: u16) -> Self {
        Self::new(Self::HELD, member + 1, self.token() + 1)
    }

    /// Nobody's; the token goes on.
    pub const fn given_back(self) -> Self {
        Self::new(Self::FREE, 0, self.token() + 1)
    }
}

/// How far a group has come in a shard: token mod 2^26 | position mod 2^38; 0: the group does not know
/// the shard yet.
///
/// One word, so that no checkpoint goes by the token of one worker and overwrites that of the next. It
/// comes twice only if a shard changes hands 2^26 times without a single checkpoint while somebody
/// sleeps in the middle of one: 67 million deaths of 2 to 6 ms each, a day and a half at least. The
/// position is the last such that is not above the tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint(pub u64);

const CHECKPOINT_BITS: u32 = 38;

const CHECKPOINT_MASK: u64 = (1 << CHECKPOINT_BITS) - 1;

impl Checkpoint {
    /// `position`, by the worker that has `token`.
    pub const fn new(token: u64, position: u64) -> Self {
        Self(token << CHECKPOINT_BITS | position & CHECKPOINT_MASK)
    }

    /// Whether the worker that has `token` may move it.
    pub const fn is_of(self, token: u64) -> bool {
        self.0 >> CHECKPOINT_BITS == token & (u64::MAX >> CHECKPOINT_BITS)
    }

    /// The position, of a shard that ends at `tail` now.
    pub const fn position(self, tail: u64) -> u64 {
        tail.saturating_sub(tail.wrapping_sub(self.0) & CHECKPOINT_MASK)
    }

    /// The same position, for the worker that has `token`.
    pub const fn fenced(self, token: u64) -> Self {
        Self::new(token, self.0)
    }
}
