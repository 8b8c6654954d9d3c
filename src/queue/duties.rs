//! What a receiver does by the way, and before it sleeps: everything that nobody else may be there for.
//!
//! It looks for dead holders, goes on with moves, sweeps, adds to the totals; in a queue that is on disk it writes
//! what a dead sender left, says how far the disk has it, and looks whether the file is still there. Each is a
//! bounded step that anybody else may take as well, by a clock or a budget: none is owed to anybody, and who dies
//! in one leaves it to the next.

use super::QueueReceiver;
use super::persist::Goal;
use crate::error::ReceiveError;
use crate::layout::queue::NEVER;
use crate::ring::delivery::Total;
use crate::sys::fork;
use std::time::Duration;

/// A receiver asks this often whether anybody has looked for dead holders.
pub(super) const PROBE_MS: u64 = 5;

/// A message that is not on disk after so long was left by its sender.
const LEFT_AFTER_MS: u64 = 20;

/// A queue in which nobody has written for so long is idle.
const IDLE_AFTER_MS: u64 = 500;

/// Of a queue that is on disk: a receiver asks this often whether its file is still there.
const LOOK_MS: u64 = 100;

/// Receives between two additions to the shared totals.
const FLUSH_EVERY: u64 = 64;

impl QueueReceiver {
    /// Before anything is taken: the process, the clock, and what is done by the way.
    #[inline(always)]
    pub(super) fn begin(&mut self) -> Result<u64, ReceiveError> {
        if self.generation != fork::generation() {
            return Err(ReceiveError::Forked);
        }
        self.quiet_at = NEVER;
        let now = self.clock.now_ms();
        if now >= self.probe_at {
            self.look_for_the_dead(now);
        }
        if self.consumer.has_moves() {
            self.move_some(now);
        }
        if self.delivery.begins_sweep(now) {
            self.sweep(now);
        }
        if now >= self.look_at && self.inner.journal.is_some() {
            self.look_for_the_file(now)?;
        }
        Ok(now)
    }

    pub(super) fn nothing_yet<T>(&mut self, now: u64) -> Result<Option<T>, ReceiveError> {
        if self.inner.is_removed() {
            return Err(ReceiveError::Removed);
        }
        if self.inner.journal.is_some() {
            self.write_leftovers(now);
        }
        if self.consumer.has_moves() {
            self.move_some(now);
        }
        if now >= self.probe_at {
            self.look_for_the_dead(now);
        }
        if let Some(poll) = &self.poll {
            // Who is told for nothing would be told for ever.
            self.inner.check_alive()?;
            poll.rearm(0);
        }
        Ok(None)
    }

    /// Ends the leases of holders that are proven dead, if the queue says so. Then, as ever, the next
    /// find meets them.
    #[cold]
    fn look_for_the_dead(&mut self, now: u64) {
        self.probe_at = now + PROBE_MS;
        self.flush();
        self.look_for_rings();
        if !self.delivery.may_probe(now) || !self.delivery.redelivers_on_death() {
            return;
        }
        if let Some(dead) = self.delivery.dead_holder() {
            self.inner.host.reap_now();
            // Who was reaped before it could be noted here, or can't be reaped now.
            if self.delivery.is_dead_holder(dead) {
                self.inner.each_ring(|ring| {
                    ring.release_left(dead);
                });
            }
        }
    }

    /// Whether a look at the queue finds a message to receive.
    pub(super) fn has_message(&mut self) -> bool {
        let now = self.clock.now_ms();
        let behind = self.delivery.sweeps_behind(now);
        if self.delivery.begins_sweep(now) {
            self.sweep(now);
            self.sweeps_owed = behind.saturating_sub(1);
        }
        self.finds(now)
    }

    /// A message of a queue that is on disk whose sender died before it was written: who finds nothing
    /// else for as long as a sender may stand still writes it, and everything behind it.
    #[cold]
    fn write_leftovers(&mut self, now: u64) {
        let first = self.delivery.on_disk_below();
        if !self.inner.is_to_be_written(first) {
            self.leftover = None;
            return;
        }
        match self.leftover {
            // Its sender does not wait for the disk, and it is not received before.
            _ if self.inner.is_write_behind() && self.delivery.delivered_below() == first => {
                let _ = self.inner.reach(Goal::Position(first));
            }
            Some((seen, since)) if seen == first => {
                if now.saturating_sub(since) >= LEFT_AFTER_MS {
                    self.leftover = None;
                    // Where the disk refuses, the next look tries again.
                    let _ = self.inner.reach(Goal::Position(first));
                }
            }
            _ => self.leftover = Some((first, now)),
        }
    }

    /// Who waits while nobody writes says on the disk how far it is there.
    #[cold]
    fn mark_if_idle(&mut self, now: u64) {
        let words = self.inner.delivery.durable();
        let Some(words) = words.filter(|words| words.is_unmarked()) else {
            self.unmarked = None;
            return;
        };
        let last = words.last_flush();
        match self.unmarked {
            Some((seen, since)) if seen == last => {
                if now.saturating_sub(since) >= IDLE_AFTER_MS {
                    self.unmarked = None;
                    self.inner.mark();
                }
            }
            _ => self.unmarked = Some((last, now)),
        }
    }

    /// Of a queue that is on disk: whether its file is where it was. Behind its removal another one may be
    /// made from the same journal, and what is received here would be received there too.
    #[cold]
    fn look_for_the_file(&mut self, now: u64) -> Result<(), ReceiveError> {
        self.look_at = now + LOOK_MS;
        match self.inner.is_unlinked() && !self.inner.is_removed() {
            true => Err(ReceiveError::Unlinked),
            false => Ok(()),
        }
    }

    /// Duties before a sleep.
    pub(super) fn see_to_duties(&mut self) {
        let now = self.clock.exact_ms();
        if self.inner.journal.is_some() {
            self.write_leftovers(now);
            self.mark_if_idle(now);
        }
        if now >= self.probe_at {
            self.look_for_the_dead(now);
        }
        if self.consumer.has_moves() {
            self.move_some(now);
        }
        // Where everybody sleeps, nobody sweeps: what a stopped process knew is found all the same.
        for _ in 0..core::mem::take(&mut self.sweeps_owed) {
            self.sweep(now);
        }
    }

    /// Whether it hangs on a claim or a move: it must look again soon.
    pub(super) fn is_pending(&self) -> bool {
        self.is_held_up() || self.heads.is_pending() || self.consumer.has_moves()
    }

    /// How long until a lease or delay may end; `None` when nothing is in flight.
    pub(super) fn next_due(&mut self) -> Option<Duration> {
        let due = self.earliest_due();
        let in_ms = due.saturating_sub(self.clock.exact_ms()).max(1);
        (due != NEVER).then(|| Duration::from_millis(in_ms))
    }

    #[inline(always)]
    pub(super) fn note_received(&mut self, count: u64) {
        self.received += count;
        if self.received >= FLUSH_EVERY {
            self.flush();
        }
    }

    #[inline(always)]
    pub(super) fn note_deleted(&mut self, count: u64) {
        self.deleted += count;
    }

    #[cold]
    fn flush(&mut self) {
        for (total, count) in [
            (Total::Received, &mut self.received),
            (Total::Deleted, &mut self.deleted),
        ] {
            if *count > 0 {
                self.delivery.count(total, core::mem::take(count));
            }
        }
    }
}

impl Drop for QueueReceiver {
    fn drop(&mut self) {
        if !self.is_of_parent() {
            self.flush();
            self.heads.leave(&self.delivery);
        }
    }
}
