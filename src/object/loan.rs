//! A loan: a chunk of the payload pool in the caller's hands, to be filled and sent.
//!
//! It holds no place in any order and blocks nobody, however long it is kept. Dropped unsent, the
//! chunk goes back; left by a dead process, the reaper takes it back.

use super::Host;
use crate::pool::chunk;
use crate::pool::lend::Lent;
use crate::pool::segment::Segments;
use crate::sys::fork;
use core::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes to fill and send with [`Producer::try_send_loan`](crate::Producer::try_send_loan) or
/// [`QueueSender::send_loan`](crate::QueueSender::send_loan).
///
/// May be sent to another thread. It must not be a target of asynchronous kernel I/O that can
/// outlive the process. The bytes are what an earlier payload left, not zero.
pub struct Loan {
    pub(crate) lent: Lent,
    pub(crate) len: usize,
    data: *mut u8,
    /// Of the process that made it.
    generation: u64,
    /// `None` once it was sent: nothing to give back.
    keeper: Option<Arc<Keeper>>,
}

/// What a loan keeps alive.
struct Keeper {
    segments: Arc<Segments>,
    // Last: the attachment outlives everything that was made through it.
    _host: Arc<dyn Host>,
}

/// A sender's side of its loans.
pub(crate) struct Loans {
    keeper: Arc<Keeper>,
    /// Of a loan that was sent: the next one takes it, and no reference count moves.
    spare: Option<Arc<Keeper>>,
}

impl Loans {
    pub fn new(segments: Arc<Segments>, host: Arc<dyn Host>) -> Self {
        Self {
            keeper: Arc::new(Keeper {
                segments,
                _host: host,
            }),
            spare: None,
        }
    }

    /// Hands `lent` out, whose first byte is at `data`.
    #[inline]
    pub fn make(&mut self, lent: Lent, len: usize, data: *mut u8) -> Loan {
        let spare = self.spare.take();
        Loan {
            lent,
            len,
            data,
            generation: fork::generation(),
            keeper: Some(spare.unwrap_or_else(|| Arc::clone(&self.keeper))),
        }
    }

    /// In place of one that was sent, where the caller has to give one back: without bytes, of no bus.
    pub fn none() -> Loan {
        Loan {
            lent: Lent {
                segment: 0,
                chunk: 0,
                version: 0,
                capacity: 0,
            },
            len: 0,
            data: core::ptr::NonNull::dangling().as_ptr(),
            generation: fork::generation(),
            keeper: None,
        }
    }

    /// Whether the loan is of the same bus.
    #[inline]
    pub fn know(&self, loan: &Loan) -> bool {
        let segments = loan.keeper.as_ref().map(|keeper| &keeper.segments);
        segments.is_some_and(|segments| Arc::ptr_eq(segments, &self.keeper.segments))
    }

    /// The chunk belongs to a record now.
    #[inline]
    pub fn sent(&mut self, mut loan: Loan) {
        self.spare = loan.keeper.take();
    }
}

// SAFETY: the chunk is OWNED by this participant and handed out once; the pointer leads into a
// mapping that `keeper` keeps, and is not bound to a thread.
unsafe impl Send for Loan {}

impl Loan {
    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sends fewer bytes than were asked for.
    ///
    /// # Panics
    /// When `len` is more than that.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "{len} bytes of a loan of {}", self.len);
        self.len = len;
    }
}

impl Deref for Loan {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        assert!(
            self.generation == fork::generation(),
            "a loan made before the fork"
        );
        // SAFETY: len <= chunk capacity, inside the mapping; this participant owns the chunk, so
        // no well-behaved process touches it.
        unsafe { core::slice::from_raw_parts(self.data, self.len) }
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        assert!(
            self.generation == fork::generation(),
            "a loan made before the fork"
        );
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        if self.generation != fork::generation() {
            return;
        }
        if let Some(segment) = keeper.segments.get(self.lent.segment) {
            chunk::free(segment.word(self.lent.chunk), self.lent.version);
        }
    }
}
