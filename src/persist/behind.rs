//! A thread that writes behind those who do not wait for the disk.
//!
//! The first that leaves something unwritten starts the thread of its open, or wakes it; it
//! lets [`LAG`] pass, so that much comes together, and writes all there is, as whoever waits would. The thread
//! ends with the open, behind a last flush. If its process dies, what is left is in memory, for the next
//! who writes; a forked child has no thread, and no handle that works.

use super::reach::NotOnDisk;
use crate::sync::Ordering;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between the first that is not on disk and the flush that takes it there.
const LAG: Duration = Duration::from_millis(10);
/// Pause behind a flush that the disk refused.
const PAUSE: Duration = Duration::from_millis(200);
/// An unpark may be lost: a sleeping thread looks this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// One open's thread that writes behind.
#[derive(Default)]
pub struct Behind {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Signal {
    /// Something is unwritten.
    armed: AtomicBool,
    ended: AtomicBool,
}

impl Behind {
    /// Something is unwritten. The first time a thread is started, which writes by what `begin` returns.
    /// Wakes it at most; allocates only to start it.
    #[inline]
    pub fn wake<F, B>(&self, begin: impl FnOnce() -> B)
    where
        F: FnMut() -> Result<(), NotOnDisk>,
        B: FnOnce() -> Option<F> + Send + 'static,
    {
        // Exchanged on both sides: either the thread has yet to take this one, and sees with it what is unwritten, or it
        // has taken the last, and is woken. A load here could pass the store of what is unwritten.
        if self.signal.armed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.start(begin);
    }

    #[cold]
    fn start<F, B>(&self, begin: impl FnOnce() -> B)
    where
        F: FnMut() -> Result<(), NotOnDisk>,
        B: FnOnce() -> Option<F> + Send + 'static,
    {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match &*thread {
            Some(thread) => thread.thread().unpark(),
            None => {
                let (signal, begin) = (Arc::clone(&self.signal), begin());
                let named = thread::Builder::new().name("ringway-behind".to_owned());
                // Without a thread those write who are too far ahead.
                let spawned = named.spawn(move || {
                    if let Some(flush) = begin() {
                        write_behind(flush, &signal);
                    }
                });
                *thread = spawned.ok();
            }
        }
    }

    /// At the end of an open: ends the thread; whether something may be unwritten.
    pub fn end(&self) -> bool {
        self.signal.ended.store(true, Ordering::Release);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.signal.armed.load(Ordering::Acquire)
    }
}

fn write_behind(mut flush: impl FnMut() -> Result<(), NotOnDisk>, signal: &Signal) {
    let is_over = || signal.ended.load(Ordering::Acquire);
    loop {
        while !signal.armed.load(Ordering::Acquire) {
            if is_over() {
                return;
            }
            thread::park_timeout(LONGEST_SLEEP);
        }
        sleep(LAG, signal);
        if is_over() {
            return;
        }
        // Before the flush: who leaves something from here on wakes this thread again.
        signal.armed.swap(false, Ordering::AcqRel);
        match flush() {
            Ok(()) => {}
            Err(NotOnDisk::Removed | NotOnDisk::Unlinked | NotOnDisk::NoEpoch) => return,
            Err(_) => {
                signal.armed.store(true, Ordering::Release);
                sleep(PAUSE, signal);
            }
        }
    }
}

fn sleep(time: Duration, signal: &Signal) {
    let begun = Instant::now();
    while !signal.ended.load(Ordering::Acquire) {
        match time.checked_sub(begun.elapsed()) {
            Some(left) if !left.is_zero() => thread::park_timeout(left),
            _ => return,
        }
    }
}
