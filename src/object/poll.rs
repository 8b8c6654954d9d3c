//! Telling somebody who sleeps elsewhere: an event loop that watches a descriptor, or a task.
//!
//! ```text
//! thread                                   reader or receiver
//!   sleep until ARMED                        read … None
//!   wait until there is something            note the position, clear the signal, ARMED, wake
//!   RAISING, raise the signal, IDLE         (REARM, if the thread is still RAISING)
//! ```
//! The thread uses the same bounded waits as anybody, so a wake lost by a sender's death is mended
//! here too, which a descriptor written to by senders could not promise
//! (docs/decisions/0005-poll-descriptor.md). A signal may be raised for nothing; one that is needed
//! is raised. What is watched, and how, says [`Watch`].

use super::Host;
use crate::ring::SlotRing;
use crate::ring::wait::{FIRST_SLEEP, LONG_SLEEP};
use crate::sys::{futex, notify};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const IDLE: u32 = 0;
const ARMED: u32 = 1;
const STOP: u32 = 2;
/// The thread is raising the signal; who is done already asks for REARM.
const RAISING: u32 = 3;
const REARM: u32 = 4;

/// What the thread looks at.
pub trait Watch: Send + 'static {
    /// Looks for something at `position` or behind it. `None` when there is, or when whoever is told
    /// will get an error; else how long to sleep at most.
    fn look(&mut self, position: u64) -> Option<Duration>;
    /// The ring whose wake the thread sleeps on.
    fn ring(&self) -> &SlotRing;
    /// Its attachment.
    fn host(&self) -> &dyn Host;
}

/// How somebody is told.
enum Signal {
    /// By an eventfd that becomes readable.
    Event(Arc<OwnedFd>),
    /// By waking the task that asked last.
    #[cfg(feature = "async")]
    Task(std::sync::Mutex<Option<std::task::Waker>>),
}

impl Signal {
    fn raise(&self) {
        match self {
            Self::Event(event) => notify::raise(event),
            #[cfg(feature = "async")]
            Self::Task(waker) => {
                let waker = lock(waker).take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }

    /// A task that was woken for nothing asks again.
    fn clear(&self) {
        match self {
            Self::Event(event) => notify::clear(event),
            #[cfg(feature = "async")]
            Self::Task(_) => {}
        }
    }
}

#[cfg(feature = "async")]
fn lock(
    waker: &std::sync::Mutex<Option<std::task::Waker>>,
) -> std::sync::MutexGuard<'_, Option<std::task::Waker>> {
    waker
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What the one who reads and the thread share.
pub struct Shared {
    signal: Signal,
    state: AtomicU32,
    position: AtomicU64,
}

impl Shared {
    /// Everything was read: watch again from `position`.
    pub fn rearm(&self, position: u64) {
        loop {
            match self.state.load(Ordering::Acquire) {
                IDLE => {
                    self.signal.clear();
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

    /// The task to wake. Before the look that finds nothing and arms.
    #[cfg(feature = "async")]
    pub fn wake_next(&self, task: &std::task::Waker) {
        if let Signal::Task(waker) = &self.signal {
            let mut waker = lock(waker);
            match waker.as_mut() {
                Some(waker) => waker.clone_from(task),
                None => *waker = Some(task.clone()),
            }
        }
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Raises the signal, unless the watcher is being dropped. Who has drained before the raise is
    /// done leaves REARM, and the thread arms again in its place.
    fn raise(&self) {
        if !self.change(ARMED, RAISING) {
            return;
        }
        self.signal.raise();
        if !self.change(RAISING, IDLE) {
            self.signal.clear();
            self.change(REARM, ARMED);
        }
    }
}

/// The thread. Dropping it ends the thread.
pub struct Watcher {
    shared: Arc<Shared>,
    ring: SlotRing,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    fn start(signal: Signal, watch: impl Watch, position: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            signal,
            state: AtomicU32::new(ARMED),
            position: AtomicU64::new(position),
        });
        let watched = Arc::clone(&shared);
        let ring = watch.ring().clone();
        let thread = std::thread::Builder::new()
            .name("ringway-poll".to_owned())
            .spawn(move || run(&watched, watch))?;
        Ok(Self {
            shared,
            ring,
            thread: Some(thread),
        })
    }

    /// Wakes the task that asked last.
    #[cfg(feature = "async")]
    pub fn of_task(watch: impl Watch) -> io::Result<Self> {
        Self::start(Signal::Task(std::sync::Mutex::new(None)), watch, 0)
    }

    /// For whoever reads.
    #[cfg(feature = "async")]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

fn run(shared: &Shared, mut watch: impl Watch) {
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
        let seq = watch.ring().prepare_sleep();
        let Some(longest) = watch.look(position) else {
            shared.raise();
            continue;
        };
        watch.ring().sleep(seq, longest.min(bound));
        bound = LONG_SLEEP;
        watch.host().tick();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.state.store(STOP, Ordering::Release);
        futex::wake_all(&self.shared.state);
        if self.ring.memory().is_forked() {
            // The thread lives in the parent only.
            core::mem::forget(self.thread.take());
            return;
        }
        self.ring.wake_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A descriptor that epoll can watch, see [`Reader::poll_descriptor`](crate::Reader::poll_descriptor)
/// and [`QueueReceiver::poll_descriptor`](crate::QueueReceiver::poll_descriptor). Dropping it ends
/// its thread.
pub struct PollDescriptor {
    event: Arc<OwnedFd>,
    watcher: Watcher,
}

impl PollDescriptor {
    pub(crate) fn start(watch: impl Watch, position: u64) -> io::Result<Self> {
        let event = Arc::new(notify::event_descriptor()?);
        let signal = Signal::Event(Arc::clone(&event));
        let watcher = Watcher::start(signal, watch, position)?;
        Ok(Self { event, watcher })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.watcher.shared)
    }
}

impl AsFd for PollDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl AsRawFd for PollDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
