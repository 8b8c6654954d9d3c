//! The opens of queues in one attachment. Leases are in the name of the attachment, not of a handle,
//! so they are left to their time-outs only when the last handle of a queue goes.
//!
//! Thread-safe; taken when a queue is opened or closed, never while messages move. Opening waits for
//! a last close that is walking over its ring, so that it can't take a fresh lease for an old one.

use crate::ring::delivery::Delivery;
use crate::sync::Ordering;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Default)]
pub(crate) struct Opens {
    by_id: Mutex<HashMap<u64, Open>>,
}

#[derive(Default)]
struct Open {
    /// Opens that are not closed.
    count: usize,
    holding: Arc<Holding>,
}

/// What the opens of one queue share.
#[derive(Default)]
pub(crate) struct Holding {
    /// Whether there may be leases in this attachment's name.
    is_noted: AtomicBool,
}

impl Holding {
    /// Before the first lease here: whoever probes for the dead must know of this participant.
    pub fn note(&self, delivery: &Delivery) {
        // Relaxed: a thread that finds it noted by another may lease a moment before the other's
        // bit is set; the sweep looks at every lease, whether its holder is known or not.
        if !self.is_noted.swap(true, Ordering::Relaxed) {
            delivery.hold();
        }
    }
}

impl Opens {
    /// One more open of the queue `id`.
    pub fn open(&self, id: u64) -> Arc<Holding> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_id.entry(id).or_default();
        open.count += 1;
        Arc::clone(&open.holding)
    }

    /// One less. Behind the last one `leave` is called, if there may be leases to leave.
    pub fn close(&self, id: u64, leave: impl FnOnce()) {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = by_id.get_mut(&id) else {
            return;
        };
        open.count -= 1;
        if open.count == 0 {
            if open.holding.is_noted.load(Ordering::Relaxed) {
                leave();
            }
            by_id.remove(&id);
        }
    }
}
