//! The words of a control file, by name: offsets and nothing else. What they mean, and who may change
//! which, say `change`, `group` and `worker`.

use crate::layout::PAGE;
use crate::layout::durable::Durable;
use crate::layout::stream::{
    ConsumerCounts, GROUPS, GROUPS_OFFSET, GroupEntry, KeptGroup, MEMBERS, MemberEntry, SHARDS,
    ShardEntry, TABLE_FROM, WISH_STRIDE, WISHES, WISHES_OFFSET, WishEntry, control, halves_of,
};
use crate::shm::words::{read_bytes, word64, write_bytes};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::mapping::Mapping;
use core::mem::offset_of;
use std::sync::Arc;

/// Offset of the shard table.
pub const TABLE: usize = TABLE_FROM.next_multiple_of(PAGE);
/// What a control file has at least.
pub const END: usize = TABLE + SHARDS as usize * size_of::<ShardEntry>();

/// Which of the words that count against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Records,
    Bytes,
    ReadBytes,
}

/// Which word of the load of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadWord {
    Bytes,
    Sampled,
    SampledBytes,
    Load,
}

/// Which word of what a stream did by its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaledWord {
    Window,
    Splits,
    Merges,
    AtMs,
    What,
}

/// Which of a registered consumer's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerWord {
    Policy,
    RegisteredMs,
    Records,
    Bytes,
    Gaps,
    Lost,
    Waits,
    Refusals,
    Evictions,
    Subscriptions,
}

impl ConsumerWord {
    fn offset(self) -> usize {
        let within = match self {
            Self::Policy => offset_of!(ConsumerCounts, policy),
            Self::RegisteredMs => offset_of!(ConsumerCounts, registered_ms),
            Self::Records => offset_of!(ConsumerCounts, records),
            Self::Bytes => offset_of!(ConsumerCounts, bytes),
            Self::Gaps => offset_of!(ConsumerCounts, gaps),
            Self::Lost => offset_of!(ConsumerCounts, lost),
            Self::Waits => offset_of!(ConsumerCounts, waits),
            Self::Refusals => offset_of!(ConsumerCounts, refusals),
            Self::Evictions => offset_of!(ConsumerCounts, evictions),
            Self::Subscriptions => offset_of!(ConsumerCounts, subscriptions),
        };
        offset_of!(GroupEntry, consumer) + within
    }
}

fn shard_at(shard: u32) -> usize {
    assert!(u64::from(shard) < SHARDS);
    TABLE + shard as usize * size_of::<ShardEntry>()
}

/// Shards that were ever made.
pub fn count(mapping: &Mapping) -> &AtomicU64 {
    word64(mapping, control::COUNT)
}

/// The state of a shard.
pub fn shard_word(mapping: &Mapping, shard: u32) -> &AtomicU64 {
    word64(mapping, shard_at(shard) + offset_of!(ShardEntry, word))
}

/// Writes what never changes of a shard.
pub fn fill_shard(
    mapping: &Mapping,
    shard: u32,
    (start, end): (u128, u128),
    parents: [u32; 2],
    created_ms: u64,
) {
    let at = shard_at(shard);
    write_bytes(
        mapping,
        at + offset_of!(ShardEntry, start),
        bytemuck::bytes_of(&halves_of(start)),
    );
    write_bytes(
        mapping,
        at + offset_of!(ShardEntry, end),
        bytemuck::bytes_of(&halves_of(end)),
    );
    write_bytes(
        mapping,
        at + offset_of!(ShardEntry, parents),
        bytemuck::bytes_of(&parents),
    );
    let created = offset_of!(ShardEntry, created_ms);
    write_bytes(mapping, at + created, bytemuck::bytes_of(&created_ms));
}

/// A control file that is being filled, and that nobody else knows yet.
pub struct Filling<'a>(pub &'a Mapping);

impl Filling<'_> {
    // Relaxed throughout: the name of the file publishes it.
    pub fn retention(&self, ms: u64, bytes: u64) {
        word64(self.0, control::RETENTION_MS).store(ms, Ordering::Relaxed);
        word64(self.0, control::RETENTION_BYTES).store(bytes, Ordering::Relaxed);
    }

    pub fn shard(&self, shard: u32, entry: &ShardEntry) {
        write_bytes(self.0, shard_at(shard), bytemuck::bytes_of(entry));
    }

    pub fn count(&self, shards: u64) {
        count(self.0).store(shards, Ordering::Relaxed);
    }

    pub fn group(&self, group: u32, kept: &KeptGroup) {
        let at = group_at(group);
        let store = |offset, value| word64(self.0, at + offset).store(value, Ordering::Relaxed);
        store(offset_of!(GroupEntry, word), kept.word);
        store(offset_of!(GroupEntry, name_bytes), kept.name_bytes);
        store(ConsumerWord::Policy.offset(), kept.policy);
        store(ConsumerWord::RegisteredMs.offset(), kept.registered_ms);
        write_bytes(self.0, at + offset_of!(GroupEntry, name), &kept.name);
    }

    pub fn durable(&self, durable: Durable) {
        word64(self.0, crate::layout::durable::control::DURABLE)
            .store(durable.0, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct StreamWords(Arc<Mapping>);

impl StreamWords {
    /// Of a mapping that is long enough, as `file::open` has checked.
    pub fn new(mapping: Arc<Mapping>) -> Self {
        Self(mapping)
    }

    pub fn is_forked(&self) -> bool {
        self.0.is_forked()
    }

    /// What is being changed.
    pub fn operation(&self) -> &AtomicU64 {
        word64(&self.0, control::OPERATION)
    }

    pub fn count(&self) -> &AtomicU64 {
        count(&self.0)
    }

    /// How long records are kept, ms.
    pub fn retention_ms(&self) -> &AtomicU64 {
        word64(&self.0, control::RETENTION_MS)
    }

    /// How many bytes of segments a shard keeps, 0 for any number.
    pub fn retention_bytes(&self) -> &AtomicU64 {
        word64(&self.0, control::RETENTION_BYTES)
    }

    /// Both, as they are now.
    pub fn retention(&self) -> (u64, u64) {
        // Relaxed: settings, each by itself.
        (
            self.retention_ms().load(Ordering::Relaxed),
            self.retention_bytes().load(Ordering::Relaxed),
        )
    }

    pub fn shard(&self, shard: u32) -> &AtomicU64 {
        shard_word(&self.0, shard)
    }

    pub fn closed_at(&self, shard: u32) -> &AtomicU64 {
        word64(&self.0, shard_at(shard) + offset_of!(ShardEntry, closed_at))
    }

    pub fn closed_ms(&self, shard: u32) -> &AtomicU64 {
        word64(&self.0, shard_at(shard) + offset_of!(ShardEntry, closed_ms))
    }

    pub fn counted(&self, shard: u32, what: Counted) -> &AtomicU64 {
        let offset = match what {
            Counted::Records => offset_of!(ShardEntry, taken_records),
            Counted::Bytes => offset_of!(ShardEntry, taken_bytes),
            Counted::ReadBytes => offset_of!(ShardEntry, given_bytes),
        };
        word64(&self.0, shard_at(shard) + offset)
    }

    /// A word of the load of a shard.
    pub fn load(&self, shard: u32, what: LoadWord) -> &AtomicU64 {
        let offset = match what {
            LoadWord::Bytes => offset_of!(ShardEntry, load_bytes),
            LoadWord::Sampled => offset_of!(ShardEntry, sampled),
            LoadWord::SampledBytes => offset_of!(ShardEntry, sampled_bytes),
            LoadWord::Load => offset_of!(ShardEntry, load),
        };
        word64(&self.0, shard_at(shard) + offset)
    }

    /// A word of what the stream did by its load.
    pub fn scaled(&self, what: ScaledWord) -> &AtomicU64 {
        let offset = match what {
            ScaledWord::Window => control::SCALED_WINDOW,
            ScaledWord::Splits => control::SCALED_SPLITS,
            ScaledWord::Merges => control::SCALED_MERGES,
            ScaledWord::AtMs => control::SCALED_AT_MS,
            ScaledWord::What => control::SCALED_WHAT,
        };
        word64(&self.0, offset)
    }

    pub fn fill_shard(&self, shard: u32, range: (u128, u128), parents: [u32; 2], created_ms: u64) {
        fill_shard(&self.0, shard, range, parents, created_ms);
    }

    /// A copy of a shard's entry.
    pub fn entry(&self, shard: u32) -> ShardEntry {
        let mut entry: ShardEntry = bytemuck::Zeroable::zeroed();
        read_bytes(&self.0, shard_at(shard), bytemuck::bytes_of_mut(&mut entry));
        entry
    }

    /// A copy of what participant `owner` wishes.
    pub fn wish(&self, owner: u16) -> WishEntry {
        let mut wish: WishEntry = bytemuck::Zeroable::zeroed();
        read_bytes(&self.0, wish_at(owner), bytemuck::bytes_of_mut(&mut wish));
        wish
    }

    /// Of the participant itself, and while the operation word does not name it.
    pub fn set_wish(&self, owner: u16, wish: &WishEntry) {
        write_bytes(&self.0, wish_at(owner), bytemuck::bytes_of(wish));
    }

    pub fn group(&self, group: u32) -> &AtomicU64 {
        word64(&self.0, group_at(group) + offset_of!(GroupEntry, word))
    }

    /// Raised by a change of leases or members.
    pub fn changes(&self, group: u32) -> &AtomicU64 {
        word64(&self.0, group_at(group) + offset_of!(GroupEntry, changes))
    }

    pub fn group_name(&self, group: u32) -> Vec<u8> {
        let at = group_at(group);
        let mut bytes = [0u8; 8];
        read_bytes(&self.0, at + offset_of!(GroupEntry, name_bytes), &mut bytes);
        let mut name = [0u8; 128];
        read_bytes(&self.0, at + offset_of!(GroupEntry, name), &mut name);
        let len = u64::from_ne_bytes(bytes).min(name.len() as u64);
        name[..len as usize].to_vec()
    }

    pub fn set_group_name(&self, group: u32, len: u64, name: &[u8; 128]) {
        let at = group_at(group);
        write_bytes(&self.0, at + offset_of!(GroupEntry, name), name);
        write_bytes(
            &self.0,
            at + offset_of!(GroupEntry, name_bytes),
            &len.to_ne_bytes(),
        );
    }

    /// A count of a registered consumer, or its policy.
    pub fn consumer(&self, group: u32, field: ConsumerWord) -> &AtomicU64 {
        word64(&self.0, group_at(group) + field.offset())
    }

    /// Whose entry of the group it is.
    pub fn member(&self, group: u32, member: usize) -> &AtomicU64 {
        word64(
            &self.0,
            member_at(group, member) + offset_of!(MemberEntry, word),
        )
    }

    pub fn seen_ms(&self, group: u32, member: usize) -> &AtomicU64 {
        word64(
            &self.0,
            member_at(group, member) + offset_of!(MemberEntry, seen_ms),
        )
    }
}

fn wish_at(owner: u16) -> usize {
    assert!((owner as usize) < WISHES);
    WISHES_OFFSET + owner as usize * WISH_STRIDE
}

fn group_at(group: u32) -> usize {
    assert!(group < GROUPS);
    GROUPS_OFFSET + group as usize * size_of::<GroupEntry>()
}

fn member_at(group: u32, member: usize) -> usize {
    assert!(member < MEMBERS);
    group_at(group) + offset_of!(GroupEntry, members) + member * size_of::<MemberEntry>()
}
