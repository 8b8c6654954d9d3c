//! Emulated limits: what a shard takes and gives in a second, counted in words of its entry that all
//! producers and readers share. Off by default, and then they cost one compare.
//!
//! ```text
//! second 32 | count 32
//! ```
//! The word of a second begins with its first put. A count is derived from nothing and guards nothing:
//! a scribbled one lets a second of puts fail, or pass.

use super::Inner;
use super::words::Counted;
use crate::sync::Ordering;

/// Whether a count that is nobody else's has room in the second of `unix_ms`.
pub(super) fn has_room(given: &mut (u64, u32), limit: u32, unix_ms: u64) -> bool {
    let second = unix_ms / 1000;
    if given.0 != second {
        *given = (second, 0);
    }
    given.1 < limit
}

impl Inner {
    /// Counts `amount` against `limit`; whether it fits into the second of `unix_ms`. One amount always
    /// does.
    pub(super) fn counts(
        &self,
        shard: u32,
        what: Counted,
        amount: u32,
        limit: u32,
        unix_ms: u64,
    ) -> bool {
        let second = unix_ms / 1000 % (1 << 32);
        let word = self.words.counted(shard, what);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let counted = if seen >> 32 == second { seen as u32 } else { 0 };
            if counted > 0 && counted.saturating_add(amount) > limit {
                return false;
            }
            let next = second << 32 | u64::from(counted.saturating_add(amount));
            // Relaxed: it speaks of no other memory.
            match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }
}
