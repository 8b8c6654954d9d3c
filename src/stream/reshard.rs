//! Split, merge, scale: which changes lead from the shards there are to those that are wanted.
//!
//! Order per key: a producer puts to a child only when the parent is sealed, and a reader that is given
//! both reads the parent to its end first. So records of a key are read in the order they were put,
//! however often their shard was replaced. Any thread of any process may call these at any time.

use super::definition::MAX_OPEN_SHARDS;
use super::hash::uniform_start;
use super::table::{ShardState, Table};
use super::{Inner, ShardInfo, Stream};
use crate::error::{ReshardError, ShardId};
use crate::layout::stream::{MERGE, NO_SHARD, SPLIT, WishEntry, halves_of};
use crate::ring::Producers;
use crate::sys::clock;

impl Stream {
    /// Replaces a shard by two: keys below `at` go to the first, `at` and above to the second
    /// (`SplitShard`); `None` splits in the middle. The two. Blocks for the time it takes to make two
    /// files; producers and readers go on.
    ///
    /// # Errors
    /// [`ReshardError`]; nothing changed then.
    pub fn split(
        &self,
        shard: ShardId,
        at: impl Into<Option<u128>>,
    ) -> Result<[ShardId; 2], ReshardError> {
        self.inner.check_shards_may_change()?;
        let at = at.into();
        let wish = self.inner.change(|table| {
            let known = open_shard(table, shard)?;
            let at = at.unwrap_or(known.start + (known.end - known.start) / 2 + 1);
            split_wish(table, known, at).map(Some)
        })?;
        let child = wish.map_or(NO_SHARD, |wish| wish.child);
        Ok([ShardId(child), ShardId(child + 1)])
    }

    /// Replaces two adjacent shards by one (`MergeShards`). The one.
    ///
    /// # Errors
    /// As [`split`](Self::split).
    pub fn merge(&self, first: ShardId, second: ShardId) -> Result<ShardId, ReshardError> {
        self.inner.check_shards_may_change()?;
        let wish = self.inner.change(|table| {
            let (a, b) = (open_shard(table, first)?, open_shard(table, second)?);
            let follows = |a: &ShardInfo, b: &ShardInfo| a.end.checked_add(1) == Some(b.start);
            if !follows(a, b) && !follows(b, a) {
                return Err(ReshardError::NotAdjacent { first, second });
            }
            Ok(Some(merge_wish(table, a, b)))
        })?;
        Ok(ShardId(wish.map_or(NO_SHARD, |wish| wish.child)))
    }

    /// Splits and merges until there are `count` open shards with ranges of the same length
    /// (`UpdateShardCount`, `UNIFORM_SCALING`); how many changes that took. Each of them is whole:
    /// a call that is interrupted leaves a stream that works, and the next one goes on.
    ///
    /// # Errors
    /// As [`split`](Self::split).
    pub fn update_shard_count(&self, count: u32) -> Result<usize, ReshardError> {
        if !(1..=MAX_OPEN_SHARDS).contains(&count) {
            let limit = MAX_OPEN_SHARDS;
            return Err(ReshardError::InvalidCount {
                given: count,
                limit,
            });
        }
        self.inner.check()?;
        self.inner.check_shards_may_change()?;
        // Each bound is cut at once at most, and each shard that is too many merged: more only where somebody
        // else wants another count, and then the numbers of shards would be used up.
        let open = self.inner.table()?.open().count();
        let most = 2 * (open + count as usize);
        for changes in 0..=most {
            let next = self.inner.change(|table| next_change(table, count))?;
            if next.is_none() {
                return Ok(changes);
            }
        }
        Err(ReshardError::Busy { attempts: most })
    }
}

/// The next step towards uniform ranges: first cut at their bounds, then merge what lies between.
fn next_change(table: &Table, count: u32) -> Result<Option<WishEntry>, ReshardError> {
    for shard in table.open() {
        // The first bound inside the shard, looked for from where its start would be.
        let bound = (1..count)
            .map(|index| uniform_start(index, count))
            .find(|bound| shard.start < *bound && *bound <= shard.end);
        if let Some(bound) = bound {
            return split_wish(table, shard, bound).map(Some);
        }
    }
    let open: Vec<&ShardInfo> = table.open().collect();
    let is_bound = |key: u128| (0..count).any(|index| uniform_start(index, count) == key);
    let between = open.windows(2).find(|pair| !is_bound(pair[1].start));
    Ok(between.map(|pair| merge_wish(table, pair[0], pair[1])))
}

fn open_shard(table: &Table, shard: ShardId) -> Result<&ShardInfo, ReshardError> {
    let known = table.get(shard).ok_or(ReshardError::NoShard { shard })?;
    if known.state != ShardState::Open {
        return Err(ReshardError::NotOpen { shard });
    }
    Ok(known)
}

fn split_wish(table: &Table, shard: &ShardInfo, at: u128) -> Result<WishEntry, ReshardError> {
    if at <= shard.start || at > shard.end {
        return Err(ReshardError::InvalidSplit {
            shard: shard.id,
            at,
            start: shard.start,
            end: shard.end,
        });
    }
    Ok(WishEntry {
        kind: SPLIT,
        first: shard.id.0,
        second: NO_SHARD,
        at: halves_of(at),
        ..replacing(table)
    })
}

fn merge_wish(table: &Table, first: &ShardInfo, second: &ShardInfo) -> WishEntry {
    WishEntry {
        kind: MERGE,
        first: first.id.0,
        second: second.id.0,
        ..replacing(table)
    }
}

fn replacing(table: &Table) -> WishEntry {
    WishEntry {
        child: table.shards.len() as u32,
        created_ms: clock::unix_ms(),
        ..bytemuck::Zeroable::zeroed()
    }
}

impl Inner {
    /// An exclusive producer stores what others would swap: nobody but it may seal its shard.
    fn check_shards_may_change(&self) -> Result<(), ReshardError> {
        match self.definition.producers {
            Producers::Shared => Ok(()),
            Producers::Exclusive => Err(ReshardError::Exclusive),
        }
    }

    /// Splits in the middle what is open and has two keys; whether it did.
    pub(super) fn split_by_load(&self, shard: ShardId) -> Result<bool, ReshardError> {
        let wish = self.change(|table| {
            let Ok(known) = open_shard(table, shard) else {
                return Ok(None); // somebody else was faster
            };
            if known.start == known.end {
                return Ok(None);
            }
            let middle = known.start + (known.end - known.start) / 2 + 1;
            split_wish(table, known, middle).map(Some)
        })?;
        Ok(wish.is_some())
    }

    /// Merges what is open and adjacent; whether it did.
    pub(super) fn merge_by_load(&self, a: ShardId, b: ShardId) -> Result<bool, ReshardError> {
        let wish = self.change(|table| {
            let (Ok(a), Ok(b)) = (open_shard(table, a), open_shard(table, b)) else {
                return Ok(None); // somebody else was faster
            };
            let is_adjacent = a.end.checked_add(1) == Some(b.start);
            Ok(is_adjacent.then(|| merge_wish(table, a, b)))
        })?;
        Ok(wish.is_some())
    }

    /// Whether a shard that is not open any more was read to its end by somebody who stands at
    /// `position`.
    pub(super) fn is_read_to_its_end(shard: &ShardInfo, position: u64) -> bool {
        shard.closed_at.is_some_and(|end| position >= end)
    }
}
