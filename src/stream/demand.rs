//! On-demand mode: shards are split and merged by the load that is seen.
//!
//! ```text
//! producers   bytes into their shard's `load_bytes`, every 64 puts; records are counted by its positions
//! window      SCALED_WINDOW: n → m > n by CAS; who swapped it looks, once for everybody
//! look        of each open shard: what came since the last look, as percent of what it is meant for
//! decide      80 % at two looks in a row → split in the middle, as long as there may be more
//!             no look with 20 % for the time of calm, and neither with its neighbour → merge, down to the fewest
//! ```
//! A shard that has just been made counts as busy, so that nothing is merged that was split a moment before:
//! between splitting and merging lies a factor of two in load, and the calm.
//!
//! Loads are derived and guard nothing. Who decides may die or stop anywhere: the next window has another, and
//! a split or merge is a [change](super::change) that begins from the table it was decided by, so that one that
//! comes late does nothing.

use super::definition::{OnDemand, StreamDefinition};
use super::put::StreamProducer;
use super::table::{ShardInfo, Table};
use super::words::{LoadWord, ScaledWord};
use super::{Inner, Stream};
use crate::error::{ReshardError, ShardId};
use crate::layout::stream::{MERGE, SPLIT};
use crate::sync::Ordering;
use crate::sys::clock;
use std::time::Duration;

/// Percent of what a shard is meant for, from which on it is split,
const SPLIT_FROM: u64 = 80;
/// when it was so at so many looks in a row.
const SPLIT_AFTER: u64 = 2;
/// Percent from which on it is not merged: two of them are half of what splits.
const BUSY_FROM: u64 = 20;
/// Puts of one producer between two tellings.
const TELL_EVERY: u32 = 64;

/// A split or merge by load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// This shard took too much for one.
    Split(ShardId),
    /// This shard and its neighbour took little enough for one.
    Merge(ShardId),
}

/// What a stream in on-demand mode has done, see [`Stream::scaling`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// By what.
    pub mode: OnDemand,
    /// Splits by load.
    pub splits: u64,
    /// Merges by load.
    pub merges: u64,
    /// The last one, and when: Unix time in ms.
    pub last: Option<(Scaled, u64)>,
}

/// What one producer has put and not told yet.
#[derive(Default)]
pub(super) struct Weights {
    is_on: bool,
    by_shard: Vec<u64>,
    puts: u32,
}

impl Weights {
    pub fn of(definition: &StreamDefinition) -> Self {
        Self {
            is_on: definition.on_demand.is_some(),
            ..Self::default()
        }
    }
}

impl StreamProducer {
    /// Counts what was put.
    #[inline(always)]
    pub(super) fn weigh(&mut self, shard: u32, bytes: usize) {
        if self.weights.is_on {
            self.weigh_on(shard, bytes as u64);
        }
    }

    #[inline(never)]
    fn weigh_on(&mut self, shard: u32, bytes: u64) {
        let weights = &mut self.weights;
        let shard = shard as usize;
        if weights.by_shard.len() <= shard {
            weights.by_shard.resize(shard + 1, 0);
        }
        weights.by_shard[shard] += bytes;
        weights.puts += 1;
        if weights.puts < TELL_EVERY {
            return;
        }
        weights.puts = 0;
        for (shard, bytes) in (0..).zip(&mut weights.by_shard) {
            if *bytes > 0 {
                let told = core::mem::take(bytes);
                let word = self.inner.words.load(shard, LoadWord::Bytes);
                word.fetch_add(told, Ordering::Relaxed); // speaks of no other memory
            }
        }
        self.inner.balance();
    }
}

/// A shard's load at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    shard: ShardId,
    /// Looks in a row at which it was too much.
    over: u64,
    /// Whether it was too much to merge it at any look within the calm.
    busy: bool,
}

/// What is to be done: all splits that are due, or one merge of two neighbours. `loads` in the order of the
/// hash keys.
fn decide(loads: &[Load], mode: &OnDemand) -> Vec<Scaled> {
    let room = (mode.max_shards as usize).saturating_sub(loads.len());
    let over = loads.iter().filter(|load| load.over >= SPLIT_AFTER);
    let splits: Vec<Scaled> = over
        .take(room)
        .map(|load| Scaled::Split(load.shard))
        .collect();
    if !splits.is_empty() || loads.len() <= mode.min_shards as usize {
        return splits;
    }
    let calm = loads.windows(2).find(|pair| !pair[0].busy && !pair[1].busy);
    calm.map(|pair| Scaled::Merge(pair[0].shard))
        .into_iter()
        .collect()
}

impl Stream {
    /// What the stream has done by its load; `None` in provisioned mode.
    pub fn scaling(&self) -> Option<Scaling> {
        let mode = self.inner.definition.on_demand?;
        if self.inner.words.is_forked() {
            return None;
        }
        let read = |word| self.inner.words.scaled(word).load(Ordering::Relaxed);
        let what = read(ScaledWord::What);
        let shard = ShardId(what as u32);
        let scaled = match what >> 32 {
            SPLIT => Some(Scaled::Split(shard)),
            MERGE => Some(Scaled::Merge(shard)),
            _ => None,
        };
        Some(Scaling {
            mode,
            splits: read(ScaledWord::Splits),
            merges: read(ScaledWord::Merges),
            last: scaled.map(|scaled| (scaled, read(ScaledWord::AtMs))),
        })
    }

    /// Looks at the load if nobody has in this window, and splits or merges; whether anything was. Producers
    /// and workers do so by themselves; without any, somebody has to ask for merges.
    pub fn balance(&self) -> bool {
        !self.inner.words.is_forked() && self.inner.balance()
    }
}

impl Inner {
    /// See [`Stream::balance`]. What fails now is decided again in the next window.
    pub(super) fn balance(&self) -> bool {
        let Some(mode) = self.definition.on_demand else {
            return false;
        };
        let now = clock::boot_ms();
        let window = now / (mode.window.as_millis() as u64).max(1);
        let word = self.words.scaled(ScaledWord::Window);
        let seen = word.load(Ordering::Relaxed);
        // Relaxed: whoever swaps it looks alone, at words that speak for themselves.
        // One that lies ahead is none that this clock has shown.
        let is_next = seen < window || seen > window + 1;
        is_next
            && word
                .compare_exchange(seen, window, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            && self.look_and_scale(&mode, now).unwrap_or(false)
    }

    #[cold]
    fn look_and_scale(&self, mode: &OnDemand, now: u64) -> Result<bool, ReshardError> {
        let table = self.table()?;
        let mut loads = Vec::new();
        for shard in table.open() {
            loads.push(self.look_at_load(shard, mode, now)?);
        }
        let mut done = false;
        for scaled in decide(&loads, mode) {
            done |= self.scale(&table, scaled)?;
        }
        Ok(done)
    }

    /// What came to a shard since the last look, and what that makes of it.
    fn look_at_load(
        &self,
        shard: &ShardInfo,
        mode: &OnDemand,
        now: u64,
    ) -> Result<Load, ReshardError> {
        let id = shard.id.0;
        let word = |word| self.words.load(id, word);
        let bytes = word(LoadWord::Bytes).load(Ordering::Relaxed);
        let ring = self.ring(id)?;
        let position = ring.inner.ring.tail_now();
        let sampled = word(LoadWord::Sampled).load(Ordering::Relaxed);
        let sampled_bytes = word(LoadWord::SampledBytes).load(Ordering::Relaxed);
        let before = word(LoadWord::Load).load(Ordering::Relaxed);
        let (then, from) = ((sampled >> 32) as u32, sampled as u32);
        let now = now as u32;
        let elapsed = u64::from(now.wrapping_sub(then));
        let is_first = sampled == 0;
        let percent = if is_first || elapsed == 0 {
            0
        } else {
            let records = u64::from((position as u32).wrapping_sub(from));
            let came = bytes.saturating_sub(sampled_bytes);
            let share =
                |came: u64, meant: u32| came.saturating_mul(100_000) / (elapsed * u64::from(meant));
            share(records, mode.records).max(share(came, mode.bytes))
        };
        let over = if percent >= SPLIT_FROM {
            (before >> 48) + 1
        } else {
            0
        };
        let busy_at = match is_first || percent >= BUSY_FROM {
            true => now,
            false => before as u32,
        };
        let calm = Duration::from_millis(now.wrapping_sub(busy_at).into());
        // Relaxed: of these only who looks next goes by, and believes none of them.
        word(LoadWord::Sampled).store(
            u64::from(now) << 32 | u64::from(position as u32),
            Ordering::Relaxed,
        );
        word(LoadWord::SampledBytes).store(bytes, Ordering::Relaxed);
        word(LoadWord::Load).store(
            over.min(0xffff) << 48 | percent.min(0xffff) << 32 | u64::from(busy_at),
            Ordering::Relaxed,
        );
        Ok(Load {
            shard: shard.id,
            over,
            busy: calm < mode.calm || is_first,
        })
    }

    /// One of the changes that were decided by `table`; whether it still was possible.
    fn scale(&self, table: &Table, scaled: Scaled) -> Result<bool, ReshardError> {
        let (done, shard, count) = match scaled {
            Scaled::Split(shard) => (self.split_by_load(shard)?, shard, ScaledWord::Splits),
            Scaled::Merge(first) => {
                let open: Vec<ShardId> = table.open().map(|shard| shard.id).collect();
                let index = open.iter().position(|shard| *shard == first);
                let Some(second) = index.and_then(|index| open.get(index + 1)) else {
                    return Ok(false);
                };
                let done = self.merge_by_load(first, *second)?;
                (done, first, ScaledWord::Merges)
            }
        };
        if done {
            let kind = match scaled {
                Scaled::Split(_) => SPLIT,
                Scaled::Merge(_) => MERGE,
            };
            let store = |word, value| self.words.scaled(word).store(value, Ordering::Relaxed);
            store(ScaledWord::AtMs, clock::unix_ms());
            store(ScaledWord::What, kind << 32 | u64::from(shard.0));
            self.words.scaled(count).fetch_add(1, Ordering::Relaxed);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(shard: u32, over: u64, busy: bool) -> Load {
        let shard = ShardId(shard);
        Load { shard, over, busy }
    }

    #[test]
    fn what_is_too_much_twice_is_split_up_to_the_most() {
        let mode = OnDemand {
            min_shards: 1,
            max_shards: 4,
            ..OnDemand::default()
        };
        let once = [load(0, 1, true), load(1, 0, true)];
        assert_eq!(decide(&once, &mode), []);
        let hot = [load(0, 2, true), load(1, 9, true), load(2, 2, true)];
        assert_eq!(decide(&hot, &mode), [Scaled::Split(ShardId(0))]);
        assert_eq!(decide(&hot[..2], &mode).len(), 2);
        let most = [hot[0], hot[1], hot[2], load(3, 5, true)];
        assert_eq!(decide(&most, &mode), []);
    }

    #[test]
    fn neighbours_that_were_calm_are_merged_one_pair_at_a_look_down_to_the_fewest() {
        let mode = OnDemand {
            min_shards: 2,
            ..OnDemand::default()
        };
        let loads = [
            load(7, 0, false),
            load(3, 0, true),
            load(5, 0, false),
            load(4, 0, false),
        ];
        assert_eq!(decide(&loads, &mode), [Scaled::Merge(ShardId(5))]);
        assert_eq!(decide(&loads[..3], &mode), []);
        assert_eq!(decide(&loads[2..], &mode), []);
        // What is to be split comes first.
        let both = [load(7, 2, true), load(5, 0, false), load(4, 0, false)];
        assert_eq!(decide(&both, &mode), [Scaled::Split(ShardId(7))]);
    }
}
