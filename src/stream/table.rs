//! The shard table of a stream, copied out and checked: which shards there are, where a hash key
//! belongs, what came from what.
//!
//! A table is one process's copy of one version. The version is the operation word: while it says that
//! nothing is being changed, and says so again behind the copy, the copy is whole. Bytes from shared
//! memory are input: a table whose open shards do not cover every hash key exactly once is refused.

use super::Inner;
use crate::error::{OpenError, ShardId};
use crate::layout::ring::MAX_POSITION;
use crate::layout::stream::{NO_SHARD, SHARDS};
use crate::layout::word::{Role, Shard};
use crate::sync::{Label, Ordering, fence_at, order};
use crate::sys::clock;
use std::sync::Arc;
use std::time::Duration;

/// No version: something is always being changed in it.
const UNKNOWN: u64 = u64::MAX;
/// Between two looks at a table that others are changing.
const PAUSE: Duration = Duration::from_micros(100);
/// Copies of a table that changes all the time.
const ATTEMPTS: usize = 10_000;

/// What a shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardState {
    /// It takes records.
    Open,
    /// It was split or merged: it takes none any more, and has those it took.
    Closed,
    /// Closed, and its memory was given back.
    Retired,
}

/// One shard of a stream (`Shard` in Kinesis).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// What it is doing.
    pub state: ShardState,
    /// First hash key (`StartingHashKey`).
    pub start: u128,
    /// Last hash key (`EndingHashKey`).
    pub end: u128,
    /// The shard it replaced, or the two (`ParentShardId`, `AdjacentParentShardId`).
    pub parents: [Option<ShardId>; 2],
    /// Unix time in ms.
    pub created_ms: u64,
    /// Closed: when, Unix time in ms.
    pub closed_ms: Option<u64>,
    /// Closed: the position behind its last record.
    pub(crate) closed_at: Option<u64>,
}

impl ShardInfo {
    /// Whether `hash_key` belongs to it.
    pub fn holds(&self, hash_key: u128) -> bool {
        (self.start..=self.end).contains(&hash_key)
    }

    /// The shards it replaced.
    pub fn lineage(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.parents.iter().flatten().copied()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The operation word.
    pub version: u64,
    /// By number.
    pub shards: Vec<ShardInfo>,
    /// Open ones by where they end.
    routes: Vec<(u128, u32)>,
}

impl Table {
    /// Of no version: not read yet.
    pub fn unknown() -> Self {
        Self {
            version: UNKNOWN,
            shards: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// The open shard that `hash_key` belongs to.
    #[inline]
    pub fn route(&self, hash_key: u128) -> u32 {
        let index = self.routes.partition_point(|(end, _)| *end < hash_key);
        self.routes[index].1 // the last one ends with the last key there is
    }

    /// Open shards in the order of their hash keys.
    pub fn open(&self) -> impl Iterator<Item = &ShardInfo> {
        self.routes
            .iter()
            .map(|(_, shard)| &self.shards[*shard as usize])
    }

    pub fn get(&self, shard: ShardId) -> Option<&ShardInfo> {
        self.shards.get(shard.0 as usize)
    }

    /// What a reader has to be through with before it reads `shard`: what that replaced, and what those
    /// replaced that were given back, which it may not have met.
    pub fn sources(&self, shard: &ShardInfo) -> Vec<ShardId> {
        let mut sources: Vec<ShardId> = shard.lineage().collect();
        let mut next = 0;
        while let Some(source) = sources.get(next) {
            next += 1;
            let gone = self.get(*source);
            let gone = gone.filter(|shard| shard.state == ShardState::Retired);
            for older in gone.iter().flat_map(|shard| shard.lineage()) {
                if !sources.contains(&older) {
                    sources.push(older);
                }
            }
        }
        sources
    }
}

impl Inner {
    /// The table as it is, behind any change that somebody began.
    pub fn table(&self) -> Result<Arc<Table>, OpenError> {
        let mut known = self.known_table();
        // One of no version has no routes, whatever the word says that somebody may have written over.
        let is_known = !known.routes.is_empty();
        if !is_known || self.words.operation().load(Ordering::Acquire) != known.version {
            known = Arc::new(self.read_table()?);
            *self.lock_table() = Arc::clone(&known);
            self.forget_retired(&known);
        }
        Ok(known)
    }

    fn read_table(&self) -> Result<Table, OpenError> {
        for _ in 0..ATTEMPTS {
            let operation = self.words.operation();
            let seen = Role(operation.load(order(Label::RoleTake, Ordering::Acquire)));
            if seen.state() != 0 && self.site.observed && self.store.is_some() {
                clock::pause(PAUSE); // on disk it is not for who only looks
                continue;
            }
            if seen.state() != 0 {
                self.finish_change()?;
                continue;
            }
            let copied = self.copy_table(seen.0);
            fence_at(Label::ReadFence, Ordering::Acquire);
            if operation.load(Ordering::Relaxed) == seen.0 {
                return copied.map_err(|what| self.scribbled(what));
            }
        }
        Err(self.scribbled("its operation word never rests"))
    }

    fn copy_table(&self, version: u64) -> Result<Table, &'static str> {
        let count = self.words.count().load(Ordering::Acquire);
        if count > SHARDS || count == 0 {
            return Err("its number of shards is impossible");
        }
        let mut table = Table {
            version,
            shards: Vec::with_capacity(count as usize),
            routes: Vec::new(),
        };
        for id in 0..count as u32 {
            let shard = self
                .copy_shard(id)
                .ok_or("an entry of its shard table is impossible")?;
            if shard.state == ShardState::Open {
                table.routes.push((shard.end, id));
            }
            table.shards.push(shard);
        }
        table.routes.sort_unstable();
        let mut next = Some(0);
        for shard in table.open() {
            if next != Some(shard.start) || shard.end < shard.start {
                return Err("its open shards do not cover every hash key once");
            }
            next = shard.end.checked_add(1);
        }
        if next.is_some() {
            return Err("its open shards do not cover every hash key once");
        }
        Ok(table)
    }

    fn copy_shard(&self, id: u32) -> Option<ShardInfo> {
        let word = Shard(self.words.shard(id).load(Ordering::Acquire));
        let entry = self.words.entry(id);
        let state = match word.state() {
            Shard::OPEN => ShardState::Open,
            Shard::CLOSED => ShardState::Closed,
            Shard::RETIRED => ShardState::Retired,
            _ => return None,
        };
        let (start, end) = entry.keys();
        let parent = |parent: u32| (parent != NO_SHARD).then_some(ShardId(parent));
        let parents = entry.parents.map(parent);
        let is_older = parents.iter().flatten().all(|parent| parent.0 < id);
        let closed = state != ShardState::Open;
        (is_older && entry.closed_at <= MAX_POSITION).then(|| ShardInfo {
            id: ShardId(id),
            state,
            start,
            end,
            parents,
            created_ms: entry.created_ms,
            closed_ms: closed.then_some(entry.closed_ms),
            closed_at: closed.then_some(entry.closed_at),
        })
    }
}
