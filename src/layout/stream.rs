//! The bytes of a stream's control file. The records lie in the rings of its shards, files of their
//! own ([`super::ring`]); here stands which shards there are, which groups read them, and what is being
//! changed.
//!
//! ```text
//! 0        StreamHeader           one page: what never changes after creation
//! 4096     operation | count      words of the stream, one line pair each
//! 8192     GroupEntry[32]         1,280 B each
//! …        WishEntry[1024]        192 B each: one for each participant
//! table    ShardEntry[2048]       128 B each, from a page boundary
//! ```
//! Words ([`super::word`]): `operation` and `GroupEntry::word` as a `Role`, a shard's as a `Shard`.

use super::{LINE_PAIR, PAGE, Preamble};
use core::mem::offset_of;

/// File magic of a stream.
pub const MAGIC: [u8; 8] = *b"RNGWSTRM";

/// Most shards of a stream over its whole life: numbers are never given twice.
pub const SHARDS: u64 = 2048;
/// Most consumer groups of a stream over its whole life: their places in the shards are never given
/// twice.
pub const GROUPS: u32 = 32;
/// The standing entries of a shard: one for each group, and behind them the guard.
pub const STANDING: u32 = GROUPS + 1;
/// The guard: holds a new shard's producers back until the readers of what it replaced have joined it.
pub const GUARD: u32 = GROUPS;
/// Most workers of a group at a time.
pub const MEMBERS: usize = 64;
/// Participants have the numbers below this.
pub const WISHES: usize = 1024;
/// No shard.
pub const NO_SHARD: u32 = u32::MAX;

/// A full shard refuses.
pub const FULL_REFUSES: u32 = 0;
/// A full shard lets its producers wait.
pub const FULL_BLOCKS: u32 = 1;
/// A full shard drops its oldest records.
pub const FULL_DROPS: u32 = 2;

/// Immutable after creation.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StreamHeader {
    pub preamble: Preamble,
    /// Entries of the shard table.
    pub slots: u64,
    /// Bytes from entry to entry.
    pub stride: u64,
    /// Offset of the table.
    pub slots_offset: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Slots of each shard's ring.
    pub ring_slots: u64,
    /// Bytes from slot to slot there.
    pub ring_stride: u64,
    /// Records a second that a shard takes, 0 for any number.
    pub limit_records: u64,
    /// Bytes a second that a shard takes, 0 for any number.
    pub limit_bytes: u64,
    /// Bytes a second that a shard gives to those who share it, 0 for any number.
    pub limit_read_bytes: u64,
    /// What the files of its shards are called by.
    pub family: u64,
    /// Reader entries of each shard's ring, those of groups not counted.
    pub readers: u32,
    /// What a full shard does.
    pub full: u32,
    /// How long a producer waits at a full shard that lets it wait.
    pub put_timeout_ms: u32,
    /// After this long without a sign a live worker's leases pass on.
    pub lease_timeout_ms: u32,
    pub stall_timeout_us: u32,
    /// Bytes of `name` in use.
    pub name_bytes: u32,
    pub huge_pages: u32,
    /// Since 1.2: one of [`super::durable::MEMORY`] and those behind it.
    pub durability: u32,
    pub name: [u8; 128],
    /// Since 1.2, as all behind it. Bytes of a segment of a journal.
    pub segment_bytes: u64,
    /// Bytes of `journal` in use.
    pub journal_bytes: u32,
    /// Who puts: [`super::ring::PRODUCERS_SHARED`] and the one behind it.
    pub producers: u32,
    /// The directory of its journals; that of a shard is called by its number there.
    pub journal: [u8; JOURNAL_PATH_BYTES],
    pub reserved_2:
        [u8; PAGE - 64 - 10 * 8 - 8 * 4 - 128 - 16 - JOURNAL_PATH_BYTES - size_of::<OnDemandHeader>()],
    pub on_demand: OnDemandHeader,
}

/// Since 1.2: by what load a stream splits and merges its shards. All zero in a provisioned one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct OnDemandHeader {
    pub min_shards: u32,
    pub max_shards: u32,
    /// Records and bytes a second that a shard is meant for.
    pub records: u32,
    pub bytes: u32,
    pub window_ms: u32,
    pub calm_ms: u32,
    pub reserved: u64,
}

/// Longest path of the directory of a stream's journals.
pub const JOURNAL_PATH_BYTES: usize = 1024;

const _: () = {
    assert!(size_of::<StreamHeader>() == PAGE);
    assert!(offset_of!(StreamHeader, readers) == 144);
    assert!(offset_of!(StreamHeader, name) == 176);
    assert!(offset_of!(StreamHeader, on_demand) == PAGE - 32);
    assert!(offset_of!(StreamHeader, segment_bytes) == 304);
    assert!(offset_of!(StreamHeader, journal) == 320);
};

/// Offsets of the words of a stream.
pub mod control {
    use super::super::{LINE_PAIR, PAGE};

    /// What is being changed, and how often something was (`Role`: kind 1 while it is, the participant
    /// whose wish it is, version).
    pub const OPERATION: usize = PAGE;
    /// Shards that were ever made.
    pub const COUNT: usize = PAGE + LINE_PAIR;
    /// On demand: the window that somebody looked at the load in last, counted from the epoch of the clock
    /// since boot; splits and merges by load; when the last was (Unix ms); which (kind 32 | shard 32).
    pub const SCALED_WINDOW: usize = PAGE + 8 * LINE_PAIR;
    pub const SCALED_SPLITS: usize = SCALED_WINDOW + 8;
    pub const SCALED_MERGES: usize = SCALED_WINDOW + 16;
    pub const SCALED_AT_MS: usize = SCALED_WINDOW + 24;
    pub const SCALED_WHAT: usize = SCALED_WINDOW + 32;
    /// On disk: how long a record is kept, in ms.
    pub const RETENTION_MS: usize = PAGE + 16 * LINE_PAIR;
    /// On disk: how many bytes of segments a shard keeps at most, 0 for any number.
    pub const RETENTION_BYTES: usize = RETENTION_MS + 8;
    // Line pairs 24 to 28 of a stream on disk: the words of its table's journal
    // ([`super::super::durable::control`]).
    /// End of the control area.
    pub const END: usize = 2 * PAGE;
}

const _: () = assert!(control::RETENTION_MS + LINE_PAIR <= super::durable::control::DURABLE);

/// Offsets of words in the ring file of a shard on disk, beside those of its journal
/// ([`super::durable::control`]).
pub mod shard_control {
    use super::super::{LINE_PAIR, PAGE};

    /// The latest arrival of any record that was written to the journal, Unix time in ms.
    pub const NEWEST_MS: usize = PAGE + 20 * LINE_PAIR;
    /// Below this position everything was older than the retention, and given back, up to the last segment.
    /// Derived: while it is lower than what is on disk, whoever waits looks whether there is something to give
    /// back.
    pub const GIVEN_BACK: usize = NEWEST_MS + 8;
}

/// One worker of a group.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct MemberEntry {
    /// Whose it is (`Role`).
    pub word: u64,
    /// When it was last seen, ms since boot.
    pub seen_ms: u64,
}

/// A group that was made.
pub const GROUP_LIVE: u64 = 1;
/// A group or a consumer that was removed; a group's place stays empty, a consumer's is only given to one of
/// its name.
pub const GROUP_REMOVED: u64 = 2;
/// A registered consumer.
pub const CONSUMER_LIVE: u64 = 3;

/// A registered consumer that falls behind holds puts back, as the stream says;
pub const CONSUMER_BLOCKS: u64 = 1;
/// lets them fail at once;
pub const CONSUMER_FAILS: u64 = 2;
/// is told what it missed;
pub const CONSUMER_DROPS: u64 = 3;
/// loses its subscription.
pub const CONSUMER_EVICTS: u64 = 4;

/// What a registered consumer has beside what groups have.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ConsumerCounts {
    /// Version of the entry's word << 8 | what happens when it falls behind; 0 for a group.
    pub policy: u64,
    pub registered_ms: u64,
    /// Records and bytes that were handed to its subscribers.
    pub records: u64,
    pub bytes: u64,
    /// Times that it was told of a gap, and positions in them.
    pub gaps: u64,
    pub lost: u64,
    /// Puts that waited for it, and that failed because of it.
    pub waits: u64,
    pub refusals: u64,
    pub evictions: u64,
    pub subscriptions: u64,
}

const _: () = assert!(size_of::<ConsumerCounts>() == 80);

/// One consumer group, or one registered consumer.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GroupEntry {
    /// Kind: 0 never used, else as above; version.
    pub word: u64,
    /// Raised by a change of leases or members: the others look at once.
    pub changes: u64,
    pub name_bytes: u64,
    pub name: [u8; 128],
    pub consumer: ConsumerCounts,
    pub reserved: [u64; 3],
    /// Workers of a group; of a consumer the first is its subscriber.
    pub members: [MemberEntry; MEMBERS],
}

const _: () = {
    assert!(size_of::<MemberEntry>() == 16);
    assert!(size_of::<GroupEntry>() == 256 + 16 * MEMBERS);
    assert!(offset_of!(GroupEntry, name) == 24);
    assert!(offset_of!(GroupEntry, consumer) == 152);
    assert!(offset_of!(GroupEntry, members) == 256);
};

/// Replace a shard by two.
pub const SPLIT: u64 = 1;
/// Replace two adjacent shards by one.
pub const MERGE: u64 = 2;
/// Make a consumer group.
pub const ADD_GROUP: u64 = 3;
/// Remove a consumer group.
pub const REMOVE_GROUP: u64 = 4;
/// Give the memory of a closed shard back.
pub const RETIRE: u64 = 5;
/// Register a consumer.
pub const ADD_CONSUMER: u64 = 6;
/// Deregister a consumer.
pub const REMOVE_CONSUMER: u64 = 7;

/// What a participant wants changed. Written by it alone, and only while the operation word does not
/// name it; read by everybody who goes on with the change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct WishEntry {
    pub kind: u64,
    /// Split, merge, retire: the shard. Groups and consumers: the number of the entry.
    pub first: u32,
    /// Merge: the other shard.
    pub second: u32,
    /// Split, merge: the number of the first new shard.
    pub child: u32,
    /// Groups: 1 to begin with what comes, 0 with the oldest record. Consumers: what happens when it falls
    /// behind.
    pub latest: u32,
    /// Split: where the second new shard begins, lower and upper half. Consumers: the word of the entry
    /// before.
    pub at: [u64; 2],
    pub created_ms: u64,
    pub name_bytes: u64,
    pub name: [u8; 128],
}

const _: () = assert!(size_of::<WishEntry>() == 184);

/// Bytes from wish to wish.
pub const WISH_STRIDE: usize = 192;

/// One shard. All but the word, `closed_at`, `closed_ms` and what limits count is written before the
/// word says that there is one, by everybody the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ShardEntry {
    /// `Shard`.
    pub word: u64,
    /// CLOSED: the position behind its last record.
    pub closed_at: u64,
    /// First hash key, lower and upper half.
    pub start: [u64; 2],
    /// Last hash key, lower and upper half.
    pub end: [u64; 2],
    /// What it was made of; [`NO_SHARD`] for nothing.
    pub parents: [u32; 2],
    pub created_ms: u64,
    pub closed_ms: u64,
    /// On demand: bytes that were put, as far as their producers have told.
    pub load_bytes: u64,
    /// Records taken in this second: second 32 | count 32.
    pub taken_records: u64,
    /// Bytes taken in this second: second 32 | count 32.
    pub taken_bytes: u64,
    /// Bytes given in this second: second 32 | count 32.
    pub given_bytes: u64,
    /// On demand, at the last look: when (ms since boot, mod 2³²) 32 | position mod 2³² 32; `load_bytes`.
    pub sampled: u64,
    pub sampled_bytes: u64,
    /// On demand: looks in a row at which it was too much for the shard 16 | percent 16 | when it was last
    /// too much to merge it (ms since boot, mod 2³²) 32.
    pub load: u64,
}

impl ShardEntry {
    /// Its first and its last hash key.
    pub const fn keys(&self) -> (u128, u128) {
        (key_of(self.start), key_of(self.end))
    }
}

/// A hash key, of which the lower half comes first.
pub const fn key_of(halves: [u64; 2]) -> u128 {
    (halves[1] as u128) << 64 | halves[0] as u128
}

/// Its halves.
pub const fn halves_of(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

const _: () = {
    assert!(size_of::<ShardEntry>() == 128);
    assert!(offset_of!(ShardEntry, start) == 16);
    assert!(offset_of!(ShardEntry, parents) == 48);
    assert!(offset_of!(ShardEntry, taken_records) == 80);
};

/// Offset of the groups.
pub const GROUPS_OFFSET: usize = control::END;
/// Offset of the wishes.
pub const WISHES_OFFSET: usize = GROUPS_OFFSET + GROUPS as usize * size_of::<GroupEntry>();
/// First byte that may belong to the table.
pub const TABLE_FROM: usize = WISHES_OFFSET + WISHES * WISH_STRIDE;

/// Flag of a record: the data is records of users, one behind the other, each with a [`SubHead`]; it has no
/// key of its own.
pub const AGGREGATED: u16 = 1;

/// First bytes of a user's record in an aggregated one; behind them its partition key, then its data.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SubHead {
    pub data_bytes: u32,
    /// Bytes of the partition key.
    pub key_bytes: u16,
    pub reserved: u16,
}

const _: () = assert!(size_of::<SubHead>() == 8);

/// First bytes of a record of a stream; behind them the partition key, then the data.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecordHead {
    /// When it was put, Unix time in ms.
    pub arrival_ms: u64,
    /// Bytes of the partition key.
    pub key_bytes: u16,
    /// [`AGGREGATED`], or none; others mean nothing yet.
    pub flags: u16,
    /// Aggregated: how many records of users it has.
    pub records: u32,
}

const _: () = assert!(size_of::<RecordHead>() == 16);

/// Entry of a shard's journal: a record, as it lies in the ring.
pub const ENTRY_RECORD: u8 = 1;
/// Entry of a shard's journal: the latest arrival (u64, Unix time in ms) of all records before it. One in
/// each segment, and more if need be.
pub const ENTRY_NEWEST: u8 = 0x81;
/// Entry of a shard's journal: the checkpoint word (u64) of the group whose number is its position. All of
/// them in each segment, and those that changed in each flush.
pub const ENTRY_CHECKPOINT: u8 = 0x82;
/// Entry of the journal of a stream's table: the whole table, see [`TableHead`]. The last one counts.
pub const ENTRY_TABLE: u8 = 1;

/// In front of a table in the journal. Behind it follow its shards, its groups, and where they stood.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TableHead {
    /// Shards that were ever made: so many [`ShardEntry`] follow.
    pub shards: u64,
    /// Groups that were ever made: so many [`KeptGroup`] follow.
    pub groups: u64,
    /// So many [`KeptCheckpoint`] follow.
    pub checkpoints: u64,
    /// See [`control::RETENTION_MS`].
    pub retention_ms: u64,
    /// See [`control::RETENTION_BYTES`].
    pub retention_bytes: u64,
    pub reserved: [u64; 3],
}

/// A group in the journal of the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct KeptGroup {
    /// As in [`GroupEntry`], and all that follows.
    pub word: u64,
    pub policy: u64,
    pub registered_ms: u64,
    pub name_bytes: u64,
    pub name: [u8; 128],
}

/// Where a group stood when the table was written. What the journal of the shard says later counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct KeptCheckpoint {
    pub group: u32,
    pub shard: u32,
    /// The checkpoint word.
    pub word: u64,
}

const _: () = {
    assert!(size_of::<TableHead>() == 64);
    assert!(size_of::<KeptGroup>() == 160);
    assert!(size_of::<KeptCheckpoint>() == 16);
};
