//! Sleeping until something is committed, and waking who sleeps.
//!
//! ```text
//! sleeper                              producer
//!   seq := wake                          commit
//!   sleepers := 1                        fence SeqCst (shared ring only)
//!   fence SeqCst                         sleepers = 0 ? done : {
//!   look again at the ring                 sleepers := 0; wake += 1; FUTEX_WAKE all }
//!   FUTEX_WAIT(wake, seq, bounded)
//! ```
//! One of the two sees the other. The flag is a flag, not a count: a sleeper that dies costs one
//! needless wake and no more. A producer that dies between commit and wake costs a sleeper at
//! most the bound of its sleep. An exclusive producer does not fence, so a sleeper may miss a
//! commit that is still in the producer's store buffer: its *first* wait is at most 1 ms, by then
//! any store that did not see the flag is visible.

use super::SlotRing;
use crate::sync::{Label, Ordering, fence_at, fence_behind_rmw, order};
use std::time::Duration;

/// How a reader passes the time while there is nothing to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Polls without pause: the lowest latency, a whole core.
    Spin,
    /// Polls for about 20 µs, three times what a wake costs, then sleeps in the kernel.
    #[default]
    SpinThenPark,
    /// Sleeps at once.
    Park,
}

/// The first sleep, see the module.
pub const FIRST_SLEEP: Duration = Duration::from_millis(1);
/// Every later sleep: bounds what a wake lost by a death can cost, at 50 wake-ups (about 0.03 %
/// of a core) a second.
pub const LONG_SLEEP: Duration = Duration::from_millis(20);
/// Looks of [`Idle::SpinThenPark`] between two glances at the clock.
pub const SPIN_LOOKS: u32 = 64;
/// How long [`Idle::SpinThenPark`] polls.
pub const SPIN_NS: u64 = 20_000;

impl SlotRing {
    /// Behind a commit in a shared ring.
    #[inline(always)]
    pub fn wake_behind_commit(&self) {
        fence_behind_rmw(Label::WakeFence);
        self.wake_sleepers();
    }

    /// Behind a commit in an exclusive ring, or behind a batch whose fence is done.
    #[inline(always)]
    pub fn wake_sleepers(&self) {
        if self.memory.sleepers().load(Ordering::Relaxed) != 0 {
            self.wake_all();
        }
    }

    /// Wakes everybody, asleep or not.
    #[cold]
    pub fn wake_all(&self) {
        self.memory.sleepers().swap(0, Ordering::Relaxed); // hints; the fences above order them
        self.memory.wake().fetch_add(1, order(Label::WakeStore, Ordering::Release));
        #[cfg(not(loom))]
        crate::sys::futex::wake_all(self.memory.wake());
    }

    /// Raises the flag. The caller looks at the ring once more before it sleeps on the returned
    /// value of the futex word.
    pub fn prepare_sleep(&self) -> u32 {
        let seq = self.memory.wake().load(order(Label::SleepLoad, Ordering::Acquire));
        self.memory.sleepers().store(1, Ordering::Relaxed);
        fence_at(Label::SleepFence, Ordering::SeqCst);
        seq
    }

    /// Sleeps until a wake or the time-out.
    #[cfg(not(loom))]
    pub fn sleep(&self, seq: u32, timeout: Duration) {
        crate::sys::futex::wait(self.memory.wake(), seq, timeout);
    }
}
