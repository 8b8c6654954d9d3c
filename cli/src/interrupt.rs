//! Signals that end a command: SIGINT, SIGTERM, SIGHUP.
//!
//! A thread of its own takes them, so that a command can be told whatever it is blocked in. A command
//! that has ended of a signal says so by [`Interrupted`], and `main` lets the process die of it, so
//! that a shell's loop ends too.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The command ended of this signal.
#[derive(Debug)]
pub struct Interrupted(pub i32);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// How long a command has to end by itself after the first signal, before its last resort.
const GRACE: Duration = Duration::from_millis(500);

/// And for how long that is waited for: it may be blocked in the same.
const LAST: Duration = Duration::from_secs(2);

/// While it lives, signals are taken; dropped, they do what they do by default.
pub struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    /// Dropped first: the command has ended by itself.
    running: Option<Sender<()>>,
}

/// Takes signals from now on: `on_signal(signal, nth, running)`. `running` is disconnected when the
/// command has ended.
pub fn watch(
    mut on_signal: impl FnMut(i32, u32, &Receiver<()>) + Send + 'static,
) -> anyhow::Result<Watch> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    let (running, ended) = channel();
    let thread = std::thread::spawn(move || {
        for (nth, signal) in (1..).zip(signals.forever()) {
            on_signal(signal, nth, &ended);
        }
    });
    Ok(Watch {
        handle,
        thread: Some(thread),
        running: Some(running),
    })
}

/// The signal that was taken, for a command that looks at it now and then.
#[derive(Clone, Default)]
pub struct Signal(Arc<AtomicI32>);

impl Signal {
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Interrupted(signal)),
        }
    }

    /// Notes that a signal was taken.
    pub fn tell(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }

    /// Takes signals from now on. A command that does not end of the first within half a second is
    /// blocked in something: `last_resort` is called in its stead, and the process dies, two seconds later
    /// at most.
    pub fn watch(&self, last_resort: impl FnOnce() + Send + 'static) -> anyhow::Result<Watch> {
        let told = self.clone();
        let mut last_resort = Some(last_resort);
        watch(move |signal, nth, running| {
            told.tell(signal);
            if nth == 1 && running.recv_timeout(GRACE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            if let Some(last_resort) = last_resort.take() {
                let (doing, done) = channel::<()>();
                std::thread::spawn(move || {
                    last_resort();
                    drop(doing);
                });
                let _ = done.recv_timeout(LAST);
            }
            die(signal);
        })
    }
}

/// Ends this process as `signal` would have.
pub fn die(signal: i32) -> ! {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    std::process::exit(128 + signal)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.running = None;
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
