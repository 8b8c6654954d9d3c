//! A descriptor that epoll can watch.
//!
//! ```text
//! thread                                   reader
//!   sleep until ARMED                        read … None
//!   wait for a record at `position`          position := next, clear the eventfd, ARMED, wake
//!   RAISING, raise the eventfd, IDLE        (REARM, if the thread is still RAISING)
//! ```
//! The thread uses the same bounded waits as any reader, so a wake lost by a producer's death is
//! mended here too, which a descriptor written to by producers could not promise
//! (docs/decisions/0005-poll-descriptor.md).

use super::join::SeatGuard;
use crate::layout::word::Ctl;
use crate::ring::read::Look;
use crate::ring::wait::{FIRST_SLEEP, LONG_SLEEP};
use crate::sys::{clock, futex, notify};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const STOP: u32 = 2;
/// The thread is raising the event; a reader that is done already asks for REARM.
const RAISING: u32 = 3;
const REARM: u32 = 4;

/// What reader and thread share.
pub struct Shared {
    event: OwnedFd,
    state: AtomicU32,
    position: AtomicU64,
}

impl Shared {
    /// The reader has read everything: watch again from `position`.
    pub fn rearm(&self, position: u64) {
        loop {
            match self.state.load(Ordering::Acquire) {
                IDLE => {
                    notify::clear(&self.event);
                    self.position.store(position, Ordering::Relaxed);
                    if self.change(IDLE, ARMED) {
                        futex::wake_all(&self.state);
                    }
                    return;
                }
                RAISING => {
                    self.position.store(position, Ordering::Relaxed);
                    if self.change(RAISING, REARM) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Raises the event, unless the descriptor is being dropped. A reader that has drained before
    /// the raise is done leaves REARM, and the thread arms again in its place.
    fn raise(&self) {
        if !self.change(ARMED, RAISING) {
            return;
        }
        notify::raise(&self.event);
        if !self.change(RAISING, IDLE) {
            notify::clear(&self.event);
            self.change(REARM, ARMED);
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
    // The claim the reader hangs on, and when it was met.
    let mut hanging: Option<(Ctl, u64)> = None;
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
        let pending = match ring.look(position).1 {
            Look::Pending(word) => Some(word),
            Look::End if !seat.inner.is_removed() => None,
            _ => {
                shared.raise();
                continue;
            }
        };
        match (pending, hanging) {
            (Some(word), Some((met, since))) if word == met => {
                if ring.resolve(position, word, clock::now().saturating_sub(since)) {
                    continue;
                }
            }
            (Some(word), _) => hanging = Some((word, clock::now())),
            (None, _) => hanging = None,
        }
        ring.sleep(
            seq,
            if pending.is_some() {
                FIRST_SLEEP
            } else {
                bound
            },
        );
        bound = LONG_SLEEP;
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
