//! What a queue says now: its settings, each one word that anyone may change at any time.
//!
//! A setting is loaded where it is used, so a change is seen by the next operation of every process
//! that has the queue open; there is nothing to tell anybody. All of them share a line that is
//! hardly ever written. What is loaded may be scribbled, and counts only within its bounds: a wrong
//! setting makes messages come late, early or not at all, and nothing else. Orderings: none. A
//! setting says nothing about any other memory.

use super::Delivery;
use crate::layout::queue::{
    MAX_DELAY_MS, MAX_MESSAGE_BYTES, MAX_RECEIVE_WAIT_MS, MAX_RETENTION_MS, MAX_VISIBILITY_MS,
    MIN_RETENTION_MS,
    PARK_AFTER_RECEIVES,
};
#[cfg(not(loom))]
use crate::layout::queue::{MAX_REDRIVE_SOURCES, control};
use crate::sync::Ordering;

impl Delivery {
    /// A message older than this is gone.
    pub fn retention_ms(&self) -> u64 {
        let ms = self.words.retention().load(Ordering::Relaxed);
        ms.clamp(MIN_RETENTION_MS.into(), MAX_RETENTION_MS.into())
    }

    /// Whether that age may be past the retention. Just a load, for the hot path: whoever hears
    /// `true` asks [`retention_ms`](Self::retention_ms).
    #[inline(always)]
    pub(super) fn may_be_past_retention(&self, age_ms: u64) -> bool {
        age_ms > self.words.retention().load(Ordering::Relaxed)
    }

    /// Visibility time-out of a receive that names none.
    #[inline(always)]
    pub fn visibility_ms(&self) -> u32 {
        let ms = self.words.visibility().load(Ordering::Relaxed);
        ms.min(MAX_VISIBILITY_MS.into()) as u32
    }

    /// Delay of a send that names none.
    #[inline(always)]
    pub fn delay_ms(&self) -> u32 {
        let ms = self.words.delay().load(Ordering::Relaxed);
        ms.min(MAX_DELAY_MS.into()) as u32
    }

    /// Longest body.
    pub fn max_message_bytes(&self) -> u64 {
        let bytes = self.words.max_message().load(Ordering::Relaxed);
        bytes.clamp(1, MAX_MESSAGE_BYTES)
    }

    /// Whether a body may be too long. Just a load, as
    /// [`may_be_past_retention`](Self::may_be_past_retention).
    #[inline(always)]
    pub fn may_be_too_long(&self, len: u64) -> bool {
        len > self.words.max_message().load(Ordering::Relaxed)
    }

    /// Whether the message of a dead holder is offered at once, not only when its lease ends.
    pub fn redelivers_on_death(&self) -> bool {
        self.words.redeliver().load(Ordering::Relaxed) != 0
    }

    /// Most messages in the queue; 0: as many as there is room for.
    #[inline(always)]
    pub fn max_messages(&self) -> u64 {
        self.words.max_messages().load(Ordering::Relaxed)
    }

    /// Most messages in flight; 0: no limit.
    #[inline(always)]
    pub fn max_in_flight(&self) -> u64 {
        self.words.max_in_flight().load(Ordering::Relaxed)
    }

    /// The dead-letter queue by its object id, and after how many receives a message goes there.
    pub fn redrive(&self) -> Option<(u64, u16)> {
        let target = self.words.redrive_target().load(Ordering::Relaxed);
        let receives = self.words.max_receives().load(Ordering::Relaxed);
        let receives = receives.clamp(1, PARK_AFTER_RECEIVES.into()) as u16;
        (target != 0).then_some((target, receives))
    }

    /// Which queues may have this one as their dead-letter queue: what the words say.
    #[cfg(not(loom))]
    pub fn redrive_allow(&self) -> (u64, [u64; MAX_REDRIVE_SOURCES]) {
        let load = |offset| self.words.counter(offset).load(Ordering::Relaxed);
        let listed = core::array::from_fn(|place| load(control::REDRIVE_SOURCES + 8 * place));
        (load(control::REDRIVE_ALLOW), listed)
    }

    /// After so many receives a message is not offered any more.
    pub(super) fn most_receives(&self) -> u16 {
        self.redrive()
            .map_or(PARK_AFTER_RECEIVES, |(_, receives)| receives)
    }

    /// Wait of a receive that names none.
    pub fn receive_wait_ms(&self) -> u32 {
        let ms = self.words.receive_wait().load(Ordering::Relaxed);
        ms.min(MAX_RECEIVE_WAIT_MS.into()) as u32
    }
}
