//! Becoming a reader: how to read, where to start, and the entry that goes with it.

use super::Inner;
use super::reader::Reader;
use crate::error::JoinError;
use crate::layout::ring::PINS;
use crate::ring::Overflow;
use crate::ring::seat::{Seat, Start};
use crate::ring::wait::Idle;
use crate::sync::Ordering;
use core::sync::atomic::AtomicU32;
use std::sync::Arc;

/// Chooses how to read a channel.
#[must_use = "call join"]
pub struct ReaderBuilder {
    inner: Arc<Inner>,
    start: Start,
    reliable: Option<bool>,
    idle: Idle,
}

impl ReaderBuilder {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            start: Start::Latest,
            reliable: None,
            idle: Idle::default(),
        }
    }

    /// Where to start; the default is [`Start::Latest`]. A position that is gone becomes the
    /// oldest one that is there.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// A reliable reader misses nothing: producers wait for it (`Full`). The default on a channel
    /// that refuses when full.
    pub fn reliable(mut self) -> Self {
        self.reliable = Some(true);
        self
    }

    /// A lossy reader holds nobody back and is told what it missed
    /// ([`ReadError::Lagged`](crate::ReadError::Lagged)). The default, and the only kind, on a channel that drops its oldest.
    pub fn lossy(mut self) -> Self {
        self.reliable = Some(false);
        self
    }

    /// How to wait. The default is [`Idle::SpinThenPark`].
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Takes a reader entry. Looks at the entries that there are, and waits for nobody.
    ///
    /// # Errors
    /// [`JoinError::TooManyReaders`], [`JoinError::NotReliable`], or the channel is gone.
    pub fn join(self) -> Result<Reader, JoinError> {
        self.inner.check_join()?;
        let keeps = self.inner.ring.overflow() == Overflow::Refuse;
        let reliable = self.reliable.unwrap_or(keeps);
        if reliable && !keeps {
            return Err(JoinError::NotReliable);
        }
        let limit = self.inner.definition.readers;
        let (seat, next) = self
            .inner
            .ring
            .join(reliable, self.start)
            .ok_or(JoinError::TooManyReaders { limit })?;
        let idle = self.idle;
        let seat = Arc::new(SeatGuard {
            inner: self.inner,
            seat,
            pins: AtomicU32::new(0),
        });
        Ok(Reader::new(seat, next, reliable, idle))
    }
}

/// A reader entry, given back when the reader and every pinned view are gone.
pub(super) struct SeatGuard {
    pub inner: Arc<Inner>,
    pub seat: Seat,
    /// Which pins of the entry are in use: private to this process.
    pub pins: AtomicU32,
}

impl SeatGuard {
    /// A free pin of the entry.
    pub fn reserve_pin(&self) -> Option<usize> {
        let mut used = self.pins.load(Ordering::Relaxed);
        loop {
            let pin = used.trailing_ones() as usize;
            if pin >= PINS {
                return None;
            }
            let wanted = used | 1 << pin;
            match self
                .pins
                .compare_exchange(used, wanted, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Some(pin),
                Err(seen) => used = seen,
            }
        }
    }

    /// Gives a pin back.
    pub fn release_pin(&self, pin: usize) {
        if !self.inner.ring.memory().is_forked() {
            self.inner.ring.unpin(&self.seat, pin);
        }
        self.pins.fetch_and(!(1 << pin), Ordering::Release);
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        if !self.inner.ring.memory().is_forked() {
            self.inner.ring.leave(&self.seat);
        }
    }
}
