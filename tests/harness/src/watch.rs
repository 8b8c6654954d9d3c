//! Deadlines for waits that the kernel doesn't bound: one watchdog thread that kills.
//!
//! A wait for a ptrace stop can't take a time-out. So the waiter arms the watchdog with
//! the child's pid descriptor; at the deadline the child is killed, the wait returns,
//! and the waiter reports what hung. Arming costs a lock and no wake; the thread is
//! started at first use and holds nothing of the tests.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::{Fault, os};

/// How long the harness waits for anything before it calls it hung: 60 s, or
/// `RINGWAY_DEADLINE_S`. Generous on purpose: it turns hangs into errors, it measures nothing.
pub fn deadline() -> Duration {
    static DEADLINE: OnceLock<Duration> = OnceLock::new();
    *DEADLINE.get_or_init(|| {
        let seconds = std::env::var("RINGWAY_DEADLINE_S")
            .ok()
            .and_then(|s| s.parse().ok());
        Duration::from_secs(seconds.unwrap_or(60))
    })
}

/// Blocks until `done` says so, looking about every millisecond; a fault naming `what` at the
/// deadline. For conditions that no descriptor announces.
pub fn await_condition(what: &str, mut done: impl FnMut() -> bool) -> Result<(), Fault> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > deadline() {
            let (what, waited) = (what.to_owned(), start.elapsed());
            return Err(Fault::Hung {
                what,
                waited,
                seen: "the condition never held".into(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

struct Entry {
    pid: i32,
    pidfd: Arc<OwnedFd>,
    fired: Arc<OnceLock<String>>,
}

#[derive(Default)]
struct Book {
    entries: BTreeMap<(Instant, u64), Entry>,
    last_id: u64,
}

#[derive(Default)]
struct Watch {
    book: Mutex<Book>,
    earlier: Condvar,
}

fn watch() -> &'static Watch {
    static WATCH: OnceLock<&'static Watch> = OnceLock::new();
    WATCH.get_or_init(|| {
        let watch: &'static Watch = Box::leak(Box::default());
        std::thread::Builder::new()
            .name("harness-watch".into())
            .spawn(move || watch.patrol())
            .expect("a thread for the watchdog");
        watch
    })
}

impl Watch {
    fn patrol(&self) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            while let Some(first) = book.entries.first_entry() {
                if first.key().0 > now {
                    break;
                }
                let entry = first.remove();
                let _ = entry.fired.set(os::describe(entry.pid));
                let _ = os::signal(entry.pidfd.as_fd(), libc::SIGKILL);
            }
            let sleep = book.entries.first_key_value().map(|((at, _), _)| *at - now);
            let sleep = sleep.unwrap_or(Duration::from_secs(3600));
            let woken = self.earlier.wait_timeout(book, sleep);
            book = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A deadline in force; dropped, it is lifted.
pub(crate) struct Armed {
    key: (Instant, u64),
    fired: Arc<OnceLock<String>>,
}

/// From now on, the process `pid` behind `pidfd` is killed after `limit` unless the result is dropped.
pub(crate) fn arm(pid: i32, pidfd: &Arc<OwnedFd>, limit: Duration) -> Armed {
    let watch = watch();
    let fired = Arc::new(OnceLock::new());
    let mut book = watch.book.lock().unwrap_or_else(PoisonError::into_inner);
    book.last_id += 1;
    let key = (Instant::now() + limit, book.last_id);
    let entry = Entry {
        pid,
        pidfd: pidfd.clone(),
        fired: fired.clone(),
    };
    let is_first = book
        .entries
        .first_key_value()
        .is_none_or(|(first, _)| key < *first);
    book.entries.insert(key, entry);
    drop(book);
    if is_first {
        watch.earlier.notify_one();
    }
    Armed { key, fired }
}

impl Armed {
    /// If the deadline passed and the process was killed for it: what it was doing then.
    pub(crate) fn fired(&self) -> Option<&str> {
        self.fired.get().map(String::as_str)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut book = watch().book.lock().unwrap_or_else(PoisonError::into_inner);
        book.entries.remove(&self.key);
    }
}
