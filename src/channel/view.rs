//! Records in place.
//!
//! The bytes of a view are stable among well-behaved processes: a reliable cursor or a pin holds
//! the slot and its chunk. A hostile process with write permission can change them while you look;
//! copy first if that matters.

use super::join::SeatGuard;
use super::reader::{Reader, Record};
use core::ops::Deref;
use std::sync::Arc;

/// A record in place, as long as the reader is borrowed.
pub struct View<'a> {
    reader: &'a mut Reader,
    record: Record,
    data: *const u8,
    pin: Option<usize>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        reader: &'a mut Reader,
        record: Record,
        data: *const u8,
        pin: Option<usize>,
    ) -> Self {
        Self {
            reader,
            record,
            data,
            pin,
        }
    }

    /// Position and length.
    pub fn record(&self) -> Record {
        self.record
    }
}

impl Deref for View<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        assert!(!self.reader.is_of_parent(), "a view made before the fork");
        // SAFETY: the reader checked that the range lies inside a mapping it keeps alive; until
        // drop, the pin or the unpublished reliable cursor keeps producers from overwriting it.
        unsafe { core::slice::from_raw_parts(self.data, self.record.len) }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(pin) = self.pin {
            self.reader.seat.release_pin(pin);
        }
        self.reader.publish();
    }
}

/// A record in place that outlives the borrow of its reader, even the reader. `Send`.
pub struct PinnedView {
    seat: Arc<SeatGuard>,
    record: Record,
    data: *const u8,
    pin: usize,
}

// SAFETY: the pin belongs to the reader entry, not to a thread; the bytes are only read.
unsafe impl Send for PinnedView {}
// SAFETY: as above.
unsafe impl Sync for PinnedView {}

impl PinnedView {
    pub(super) fn new(seat: Arc<SeatGuard>, record: Record, data: *const u8, pin: usize) -> Self {
        Self {
            seat,
            record,
            data,
            pin,
        }
    }

    /// Position and length.
    pub fn record(&self) -> Record {
        self.record
    }
}

impl Deref for PinnedView {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        assert!(
            !self.seat.inner.ring.memory().is_forked(),
            "a view made before the fork"
        );
        // SAFETY: the reader checked that the range lies inside a mapping that `seat` keeps alive;
        // the pin keeps producers from overwriting it.
        unsafe { core::slice::from_raw_parts(self.data, self.record.len) }
    }
}

impl Drop for PinnedView {
    fn drop(&mut self) {
        self.seat.release_pin(self.pin);
    }
}
