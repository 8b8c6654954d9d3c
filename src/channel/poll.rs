//! A descriptor that epoll can watch.
//!
//! ```text
//! thread                                   reader
//!   sleep until ARMED                        read … None
//!   wait for a record at `position`          clear the eventfd, position := next, ARMED, wake
//!   IDLE, raise the eventfd
//! ```
//! The thread uses the same bounded waits as any reader, so a wake lost by a producer's death is
//! mended here too, which a descriptor written to by producers could not promise
//! (docs/decisions/0005-poll-descriptor.md).

use super::reader::SeatGuard;
use crate::ring::read::Look;
use crate::ring::wait::{FIRST_SLEEP, LONG_SLEEP};
use crate::sys::{futex, notify};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const STOP: u32 = 2;

/// What reader and thread share.
pub struct Shared {
    event: OwnedFd,
    state: AtomicU32,
    position: AtomicU64,
}

impl Shared {
    /// The reader has read everything: watch again from `position`.
    pub fn rearm(&self, position: u64) {
        if self.state.load(Ordering::Acquire) != IDLE {
            return;
        }
        notify::clear(&self.event);
        self.position.store(position, Ordering::Relaxed);
        if self
            .state
            .compare_exchange(IDLE, ARMED, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            futex::wake_all(&self.state);
        }
    }
}

/// See [`Reader::poll_descriptor`](super::Reader::poll_descriptor). Dropping it ends the thread.
pub struct PollDescriptor {
    shared: Arc<Shared>,
    seat: Arc<SeatGuard>,
    thread: Option<JoinHandle<()>>,
}

impl PollDescriptor {
    pub(super) fn start(seat: Arc<SeatGuard>, position: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            event: notify::event_descriptor()?,
            state: AtomicU32::new(ARMED),
            position: AtomicU64::new(position),
        });
        let (watched, of) = (Arc::clone(&shared), Arc::clone(&seat));
        let thread = std::thread::Builder::new()
            .name("ringway-poll".to_owned())
            .spawn(move || watch(&watched, &of))?;
        Ok(Self {
            shared,
            seat,
            thread: Some(thread),
        })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

fn watch(shared: &Shared, seat: &SeatGuard) {
    let ring = &seat.inner.ring;
    let mut bound = FIRST_SLEEP;
    loop {
        match shared.state.load(Ordering::Acquire) {
            STOP => return,
            IDLE => {
                futex::wait(&shared.state, IDLE, LONG_SLEEP * 50);
                bound = FIRST_SLEEP;
                continue;
            }
            _ => {}
        }
        let position = shared.position.load(Ordering::Relaxed);
        let seq = ring.prepare_sleep();
        // A hanging claim is raised too: the reader's next look settles it.
        let waiting = matches!(ring.look(position).1, Look::End | Look::Pending(_));
        if !waiting || seat.inner.is_removed() {
            let armed =
                shared
                    .state
                    .compare_exchange(ARMED, IDLE, Ordering::AcqRel, Ordering::Relaxed);
            if armed.is_ok() {
                notify::raise(&shared.event);
            }
            continue;
        }
        ring.sleep(seq, bound);
        bound = LONG_SLEEP;
        if let (slot_position, Look::Pending(word)) = (position, ring.look(position).1) {
            // Two sleeps on one claim: long past the stall time-out or the death of its owner.
            ring.sleep(ring.prepare_sleep(), LONG_SLEEP);
            ring.resolve(slot_position, word, ring.stall_timeout_ns());
        }
        seat.inner.host.tick();
    }
}

impl AsFd for PollDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

impl AsRawFd for PollDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }
}

impl Drop for PollDescriptor {
    fn drop(&mut self) {
        self.shared.state.store(STOP, Ordering::Release);
        futex::wake_all(&self.shared.state);
        if self.seat.inner.ring.memory().is_forked() {
            // The thread lives in the parent only.
            core::mem::forget(self.thread.take());
            return;
        }
        self.seat.inner.ring.wake_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
