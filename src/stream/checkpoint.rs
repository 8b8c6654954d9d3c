//! Checkpoints of a worker: what was handed out is done, and is not handed out again.
//!
//! Each is one CAS of the group's word in the shard, fenced by the token of the lease: a worker whose lease
//! passed on, since it was stopped or its group removed, is refused, and what the next worker has
//! checkpointed stands.

use super::lease::advance;
use super::number::SequenceNumber;
use super::worker::GroupWorker;
use crate::error::{CheckpointError, ShardId};
use std::sync::Arc;

impl GroupWorker {
    /// Says that everything that was handed out is done; how many shards that moved. No system call in
    /// memory; on disk it waits for it, as a put does.
    ///
    /// # Errors
    /// [`CheckpointError::Fenced`] names the shards whose leases passed on; the others are checkpointed.
    /// [`CheckpointError::DurabilityUnknown`]: it counts, and behind a restart may be an earlier one.
    pub fn checkpoint(&mut self) -> Result<usize, CheckpointError> {
        if self.is_of_parent() {
            return Err(CheckpointError::Forked);
        }
        let group = self.group.number;
        let inner = Arc::clone(&self.group.inner);
        let is_live = inner.is_live(group);
        let mut moved = Vec::new();
        let mut fenced = core::mem::take(&mut self.lost);
        self.held.retain_mut(|held| {
            let to = held.next();
            if held.checkpointed >= to {
                return true;
            }
            let ring = &held.ring.inner.ring;
            let is_mine = is_live && advance(ring, group, held.lease, to);
            if is_mine {
                inner.hold_again(ring, group);
                held.checkpointed = to;
                moved.push(held.tap.shard);
            } else {
                fenced.push(held.tap.shard);
            }
            is_mine
        });
        self.write_checkpoints(&moved)?;
        if fenced.is_empty() {
            Ok(moved.len())
        } else {
            Err(CheckpointError::Fenced { shards: fenced })
        }
    }

    /// Says that the record of this number and all before it in its shard are done.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn checkpoint_at(&mut self, number: SequenceNumber) -> Result<(), CheckpointError> {
        if self.is_of_parent() {
            return Err(CheckpointError::Forked);
        }
        let shard = number.shard();
        if let Some(index) = self.lost.iter().position(|lost| *lost == shard) {
            self.lost.remove(index);
            return Err(CheckpointError::Fenced {
                shards: vec![shard],
            });
        }
        let group = self.group.number;
        let Some(index) = self.held.iter().position(|held| held.tap.shard == shard) else {
            return Err(CheckpointError::NoLease { shard });
        };
        let held = &mut self.held[index];
        let (position, to) = (number.position(), number.position() + 1);
        if to <= held.checkpointed || to > held.next() {
            return Err(CheckpointError::OutOfRange {
                shard,
                position,
                from: held.checkpointed,
                to: held.next(),
            });
        }
        let ring = &held.ring.inner.ring;
        if self.group.inner.is_live(group) && advance(ring, group, held.lease, to) {
            self.group.inner.hold_again(ring, group);
            held.checkpointed = to;
            return self.write_checkpoints(&[shard]);
        }
        self.held.remove(index);
        Err(CheckpointError::Fenced {
            shards: vec![shard],
        })
    }

    fn write_checkpoints(&self, shards: &[ShardId]) -> Result<(), CheckpointError> {
        let inner = &self.group.inner;
        if !inner.is_on_disk() {
            return Ok(());
        }
        for shard in shards {
            let written = inner.write_checkpoint(*shard);
            written.map_err(|why| CheckpointError::DurabilityUnknown {
                shard: *shard,
                why: why.to_string(),
            })?;
        }
        Ok(())
    }
}
