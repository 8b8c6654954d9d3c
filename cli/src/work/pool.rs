//! The workers of a pool, and what they share with the main thread.
//!
//! The main thread says how many there shall be; a worker that is between two messages leaves when
//! there are too many, so busy ones stay. Workers tell what happens as [`Event`]s. `stopping` and
//! `killing` only ever become true.

use super::job::Ended;
use super::worker;
use crate::interrupt;
use crate::output::Usage;
use anyhow::{Context, anyhow};
use ringway::{Queue, Receipt};
use rustix::event::EventfdFlags;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Events on their way: when nobody takes them, workers wait.
const EVENTS: usize = 1024;
/// The longest delay there is.
const MAX_DELAY: Duration = Duration::from_secs(900);

/// What every command is run by.
pub struct Options {
    pub bus: String,
    pub root: Option<PathBuf>,
    pub command: Vec<OsString>,
    pub visibility: Option<Duration>,
    pub nack_delay: Duration,
    pub kill_after: Option<Duration>,
    /// Standard output belongs to the events.
    pub output_to_stderr: bool,
}

impl Options {
    /// Refuses what every message would fail at.
    pub fn check(&self, queue: &Queue) -> Result<(), Usage> {
        let visibility = self.visibility.unwrap_or(queue.settings().visibility);
        if visibility.is_zero() || visibility > Duration::from_secs(43_200) {
            let given = humantime::format_duration(visibility);
            return Err(Usage(format!(
                "a visibility time-out of {given} leaves no message to a worker; give --visibility, \
                 more than 0 and up to 12h"
            )));
        }
        if self.nack_delay > MAX_DELAY {
            return Err(Usage("--nack-delay is at most 15m".to_owned()));
        }
        Ok(())
    }

    /// When a message is tried again that was received so often: doubled each time, for there is no
    /// end to its tries; with a dead-letter queue there is, and each is as late as the first.
    pub fn retry_after(&self, receives: u16, has_dead_letter: bool) -> Duration {
        if has_dead_letter {
            return self.nack_delay;
        }
        let doubled = u32::from(receives).saturating_sub(1).min(20);
        self.nack_delay.saturating_mul(1 << doubled).min(MAX_DELAY)
    }
}

/// What a worker tells the main thread.
pub enum Event {
    Started(Started),
    Ended(Ended),
    /// A worker has left.
    Left,
    /// The pool can't go on.
    Failed(anyhow::Error),
    /// It was told to stop, for the nth time.
    Signal(i32, u32),
}

pub struct Started {
    pub worker: usize,
    pub receipt: Receipt,
    pub pid: u32,
}

pub struct Shared {
    pub queue: Queue,
    pub options: Options,
    pub events: SyncSender<Event>,
    stopping: AtomicBool,
    killing: AtomicBool,
    killed_by: AtomicI32,
    /// Readable for ever once `killing` is set.
    pub kill: OwnedFd,
    /// How many workers there shall be, and are.
    wanted: AtomicUsize,
    alive: AtomicUsize,
    /// Messages that may still be received, for a pool that ends after so many.
    tickets: Option<Mutex<u64>>,
    /// Told when a ticket came back.
    returned: Condvar,
}

impl Shared {
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub fn is_killing(&self) -> bool {
        self.killing.load(Ordering::Relaxed)
    }

    /// Leaves, if there are too many workers.
    pub fn leave_if_too_many(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let fewer = |alive: usize| (alive > wanted).then(|| alive - 1);
        let (all, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        self.alive.fetch_update(all, relaxed, fewer).is_ok()
    }

    /// Leaves whatever the number.
    pub fn leave(&self) {
        self.alive.fetch_sub(1, Ordering::AcqRel);
    }

    /// The right to receive a message, waited for up to `patience`.
    pub fn take_ticket(&self, patience: Duration) -> bool {
        let Some(tickets) = &self.tickets else {
            return true;
        };
        let left = tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .returned
            .wait_timeout_while(left, patience, |left| *left == 0);
        let (mut left, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let has = *left > 0;
        *left -= u64::from(has);
        has
    }

    /// It was not used: there was no message.
    pub fn return_ticket(&self) {
        if let Some(tickets) = &self.tickets {
            *tickets.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.returned.notify_one();
        }
    }

    fn kill(&self, signal: i32) {
        self.killed_by.store(signal, Ordering::Relaxed);
        self.killing.store(true, Ordering::Relaxed);
        // It was empty, so there is room for one more.
        let _ = rustix::io::write(&self.kill, &1u64.to_ne_bytes());
    }
}

/// What the signal thread has of the pool.
pub struct Signals(Arc<Shared>);

impl Signals {
    pub fn tell(&self, signal: i32, nth: u32) {
        let shared = &self.0;
        shared.stopping.store(true, Ordering::Relaxed);
        if nth > 1 && !shared.is_killing() {
            shared.kill(signal);
        }
        if nth > 2 {
            // Its messages are received again, as behind any death.
            interrupt::die(signal);
        }
        // Told for the report; when there is no room the main thread has enough to do.
        let _ = shared.events.try_send(Event::Signal(signal, nth));
    }
}

pub struct Pool {
    shared: Arc<Shared>,
    pub events: Receiver<Event>,
    threads: Vec<JoinHandle<()>>,
    /// Workers ever started.
    started: usize,
}

impl Pool {
    pub fn new(queue: Queue, options: Options, count: Option<u64>) -> anyhow::Result<Self> {
        let (sender, events) = sync_channel(EVENTS);
        let kill = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            queue,
            options,
            events: sender,
            stopping: AtomicBool::new(count == Some(0)),
            killing: AtomicBool::new(false),
            killed_by: AtomicI32::new(0),
            kill: kill.context("can't make an event descriptor")?,
            wanted: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
            tickets: count.map(Mutex::new),
            returned: Condvar::new(),
        });
        Ok(Self {
            shared,
            events,
            threads: Vec::new(),
            started: 0,
        })
    }

    pub fn signals(&self) -> Signals {
        Signals(Arc::clone(&self.shared))
    }

    /// Workers that have not left.
    pub fn workers(&self) -> usize {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Lets there be `wanted` workers; how many were wanted before, if that is another number.
    pub fn scale(&mut self, wanted: usize) -> Option<usize> {
        let was = self.shared.wanted.swap(wanted, Ordering::Relaxed);
        while self.workers() < wanted {
            self.shared.alive.fetch_add(1, Ordering::AcqRel);
            self.started += 1;
            let (shared, worker) = (Arc::clone(&self.shared), self.started);
            let thread = std::thread::spawn(move || worker::run(&shared, worker));
            self.threads.push(thread);
        }
        (was != wanted).then_some(was)
    }

    /// A worker has left: its thread is done, or will be in a moment.
    pub fn left(&mut self) {
        self.threads.retain(|thread| !thread.is_finished());
    }

    /// Lets every worker leave behind its message.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    /// The signal that killed the commands.
    pub fn killed_by(&self) -> Option<i32> {
        let signal = self.shared.killed_by.load(Ordering::Relaxed);
        (signal != 0).then_some(signal)
    }

    /// Waits for the threads, all of which are leaving.
    pub fn join(&mut self) -> anyhow::Result<()> {
        for thread in self.threads.drain(..) {
            thread
                .join()
                .map_err(|_| anyhow!("a worker panicked; its message is received again"))?;
        }
        Ok(())
    }
}
