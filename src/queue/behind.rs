//! Writing behind: at the level between memory and disk nobody waits, so somebody has to write later.
//!
//! The first send or delete that leaves something unwritten wakes the thread of this open
//! ([`crate::persist::Behind`]), which writes all there is 10 ms later.
//! So what is lost with the machine is what was acknowledged within that time and the time that the
//! disk takes for it; and never more than a sender may be ahead ([`MOST_UNWRITTEN`]), for who finds more
//! waits for a flush himself. Where the disk is slower than those who send, they go at its speed.
//!
//! # What each crash point leaves
//! The death of the process: messages in the ring, unwritten; the next who sends, deletes or flushes, in any
//! process, and whoever receives and finds nothing for 20 ms, writes them. The thread belongs to one
//! open of the queue and ends with it, behind a last flush. A forked child has none, and no handle that works.

use super::persist::{Goal, NotOnDisk};
use super::{Durability, Inner, Queue};
use crate::error::FlushError;
use std::sync::Arc;

/// Bytes of slots that may be unwritten before a sender waits for a flush.
const MOST_UNWRITTEN: u64 = 4 << 20;

impl Queue {
    /// Waits until everything that was sent to the queue and deleted from it before the call, by anybody, is
    /// on disk. A queue in memory has no disk, and nothing to wait for. Blocks for the disk.
    ///
    /// # Errors
    /// [`FlushError`]; what it was called for may be on disk or not then.
    pub fn flush(&self) -> Result<(), FlushError> {
        if self.inner.is_forked() {
            return Err(FlushError::Forked);
        }
        self.inner.flush().map_err(|why| match why {
            NotOnDisk::Removed => FlushError::Removed,
            why => FlushError::NotOnDisk {
                why: why.to_string(),
            },
        })
    }

    /// The first position that is not on disk: everything below is, or holds no message. In memory, and in
    /// a forked child, 0.
    pub fn durable_position(&self) -> u64 {
        if self.inner.is_forked() || self.inner.journal.is_none() {
            return 0;
        }
        self.inner.delivery.on_disk_below()
    }
}

impl Inner {
    /// Whether a send and a delete return before the disk has them.
    #[inline]
    pub(super) fn is_write_behind(&self) -> bool {
        self.definition.durability == Durability::Async
    }

    /// What this thread has consumed: the disk is waited for, or will have it soon.
    pub(super) fn acknowledge_consumed(self: &Arc<Self>) -> Result<(), NotOnDisk> {
        if self.is_write_behind() {
            self.wake_behind();
            return Ok(());
        }
        self.reach_consumed()
    }

    /// Behind a send to `position` that does not wait.
    pub(super) fn write_later(self: &Arc<Self>, position: u64) {
        self.wake_behind();
        let unwritten = position.saturating_sub(self.delivery.on_disk_below());
        if unwritten.saturating_mul(self.definition.stride) > MOST_UNWRITTEN {
            // If that fails the next send is told: nothing more is claimed then.
            let _ = self.reach(Goal::Position(position));
        }
    }

    fn flush(&self) -> Result<(), NotOnDisk> {
        if self.journal.is_none() {
            return Ok(());
        }
        let tail = self.tail();
        if tail > self.delivery.on_disk_below() {
            self.reach(Goal::Position(tail - 1))?;
        }
        self.reach_consumed()
    }

    fn wake_behind(self: &Arc<Self>) {
        let Some(journal) = &self.journal else {
            return;
        };
        journal.behind.wake(|| {
            let (host, id) = (Arc::clone(&self.host), self.object_id);
            // An open of its own: this one ends when its last handle is dropped, and waits for the thread
            // then.
            move || {
                let queue = host.queue_by_id(id).ok().flatten()?;
                Some(move || queue.flush())
            }
        });
    }

    /// At the end of this open: the thread ends, and what is unwritten is written.
    pub(super) fn end_behind(&self) {
        if let Some(journal) = &self.journal
            && journal.behind.end()
        {
            let _ = self.flush(); // nobody is left to be told
        }
    }
}
