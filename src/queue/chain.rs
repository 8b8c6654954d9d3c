//! The rings of a queue: the one it was created with, and those it grew by.
//!
//! Positions are the queue's: each ring has a range of its own, and a later ring has the higher one,
//! so a position names its ring. What belongs to the queue as a whole (totals, holders, wake words)
//! lies in the file of the first ring and is reached through the [`Delivery`] of any.

use super::Inner;
use crate::ring::delivery::Delivery;

impl Inner {
    /// The ring that `position` belongs to.
    #[inline(always)]
    pub fn at(&self, _position: u64) -> &Delivery {
        &self.delivery
    }

    /// Every ring, the oldest first.
    pub fn each_ring(&self, mut look: impl FnMut(&Delivery)) {
        look(&self.delivery);
    }
}
