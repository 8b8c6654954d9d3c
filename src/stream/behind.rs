//! Writing behind: at the level between memory and disk a put does not wait, so somebody has to write later.
//!
//! The first put or checkpoint that leaves something unwritten wakes the thread of this open
//! ([`crate::persist::Behind`]), which writes 10 ms later what there is in each shard that was put to here, one shard
//! after the other. So what is lost with the machine is what was acknowledged within that time and the time that
//! the disk takes for a write of each shard; and never more than a producer may be ahead ([`MOST_UNWRITTEN`]), for
//! who finds more waits for a flush himself. Each shard is written in the order of positions, and the end of
//! one that is split or merged is on disk before what replaces it takes records: so what is lost is the end of
//! each key, and no hole in it.
//!
//! # What each crash point leaves
//! The death of the process: records in the ring, unwritten; the next who puts to the shard, in any process, and
//! whoever reads there and finds nothing twice, writes them. The thread ends with the
//! open, behind a last flush. A forked child has none, and no handle that works.

use super::log::ShardLog;
use super::store::Logs;
use super::{Inner, Stream};
use crate::error::{FlushError, OpenError, ShardId};
use crate::persist::{Goal, NotOnDisk};
use crate::queue::Durability;
use std::sync::{Arc, PoisonError};

/// Bytes of slots of a shard that may be unwritten before a producer waits for a flush; half of its ring if that
/// is less.
const MOST_UNWRITTEN: u64 = 4 << 20;

impl Stream {
    /// Waits until everything that was put before the call, by anybody, is on disk, and what this process has
    /// checkpointed. A stream in memory has no disk, and nothing to wait for. Blocks for the disk.
    ///
    /// # Errors
    /// [`FlushError`]; what it was called for may be on disk or not then.
    pub fn flush(&self) -> Result<(), FlushError> {
        let inner = &self.inner;
        let told = |error: OpenError| match error {
            OpenError::Forked => FlushError::Forked,
            OpenError::Removed { .. } => FlushError::Removed,
            other => FlushError::NotOnDisk {
                why: other.to_string(),
            },
        };
        inner.check().map_err(told)?;
        if !inner.is_on_disk() {
            return Ok(());
        }
        for shard in &inner.table().map_err(told)?.shards {
            let Some(log) = inner.log_if_there(shard.id.0).map_err(told)? else {
                continue;
            };
            match log.flush() {
                Err(_) if inner.is_retired(shard.id.0) => {}
                flushed => flushed.map_err(|why| told(inner.not_on_disk(why)))?,
            }
        }
        Ok(())
    }

    /// The first position of a shard that is not on disk: everything below is, or holds no record. 0 in
    /// memory.
    ///
    /// # Errors
    /// As [`positions`](Self::positions).
    pub fn durable_position(&self, shard: ShardId) -> Result<u64, OpenError> {
        self.inner.check()?;
        let log = self.inner.log(shard.0)?;
        Ok(log.map_or(0, |log| log.words.on_disk_below()))
    }
}

impl Inner {
    /// Whether puts and checkpoints return before the disk has them.
    #[inline(always)]
    pub(super) fn is_write_behind(&self) -> bool {
        self.definition.durability == Durability::Async
    }

    /// Behind a put to `position` that does not wait.
    #[inline]
    pub(super) fn write_later(&self, log: &ShardLog, position: u64) {
        self.wake_behind();
        let unwritten = position.saturating_sub(log.words.on_disk_below());
        if unwritten > self.most_unwritten() {
            // If that fails the next put is told: nothing more is claimed then.
            let _ = log.reach(Goal::Position(position));
        }
    }

    fn most_unwritten(&self) -> u64 {
        (MOST_UNWRITTEN / self.definition.stride).min(self.definition.slots / 2)
    }

    #[inline]
    pub(super) fn wake_behind(&self) {
        if let Some(store) = &self.store {
            store.behind.wake(|| {
                let logs = Arc::clone(store.logs());
                move || Some(move || flush(&logs))
            });
        }
    }

    /// At the end of this open: the thread ends, and what is unwritten is written.
    pub(super) fn end_behind(&self) {
        if let Some(store) = &self.store
            && store.behind.end()
        {
            let _ = flush(store.logs()); // nobody is left to be told
        }
    }
}

/// Writes what there is in each shard; where one can't be written now, the others are.
fn flush(logs: &Logs) -> Result<(), NotOnDisk> {
    let logs: Vec<_> = {
        let logs = logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.values().cloned().collect()
    };
    let mut failed = Ok(());
    for log in logs {
        match log.flush() {
            // A shard that was retired; or the stream is gone, and nothing is put any more.
            Ok(()) | Err(NotOnDisk::Removed | NotOnDisk::Unlinked) => {}
            Err(why) => failed = Err(why),
        }
    }
    failed
}
