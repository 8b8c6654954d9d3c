//! A loan: a chunk of the payload pool in the caller's hands, to be filled and sent.
//!
//! It holds no place in any order and blocks nobody, however long it is kept. Dropped unsent, the
//! chunk goes back; left by a dead process, the reaper takes it back.

use super::Host;
use crate::pool::chunk;
use crate::pool::lend::Lent;
use crate::pool::segment::Segments;
use core::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes to fill and send with [`Producer::try_send_loan`](super::Producer::try_send_loan) or
/// [`QueueSender::send_loan`](crate::QueueSender::send_loan).
///
/// May be sent to another thread. It must not be a target of asynchronous kernel I/O that can
/// outlive the process. The bytes are what an earlier payload left, not zero.
pub struct Loan {
    pub(crate) segments: Arc<Segments>,
    pub(crate) lent: Lent,
    pub(crate) len: usize,
    pub(crate) data: *mut u8,
    /// Taken by a send: nothing to give back.
    pub(crate) sent: bool,
    // Last: the attachment outlives everything that was made through it.
    pub(crate) _host: Arc<dyn Host>,
}

// SAFETY: the chunk is OWNED by this participant and handed out once; the pointer leads into a
// mapping that `segments` keeps, and is not bound to a thread.
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
        assert!(!self.segments.is_forked(), "a loan made before the fork");
        // SAFETY: len <= chunk capacity, inside the mapping; this participant owns the chunk, so
        // no well-behaved process touches it.
        unsafe { core::slice::from_raw_parts(self.data, self.len) }
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        assert!(!self.segments.is_forked(), "a loan made before the fork");
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.sent || self.segments.is_forked() {
            return;
        }
        if let Some(segment) = self.segments.get(self.lent.segment) {
            chunk::free(segment.word(self.lent.chunk), self.lent.version);
        }
    }
}
