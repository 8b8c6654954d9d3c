//! A thread that keeps the role of the journal's writer, on a core of its own if it is to: who sends and
//! deletes then waits for the disk and never does its work.
//!
//! It writes whenever there is something, and sleeps 20 ms at most when there is not: who waits wakes it.
//! The role is the one that whoever waits takes otherwise, so nothing depends on the thread. If its process
//! dies, the next who waits takes over at once; if it is stopped, when it has made no step for half a second. When it
//! goes on it waits for its turn like anybody else.

use super::persist::NotOnDisk;
use super::{Inner, Queue};
use crate::error::FlushError;
use crate::persist::{self, Source};
use crate::ring::persister::Turn;
use crate::sync::Ordering;
use crate::sys::affinity;
use crate::sys::clock;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks for its turn while somebody else has the role.
const PAUSE: Duration = Duration::from_millis(1);
/// Between two attempts while the disk refuses.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// A thread that writes the journal of a queue: see [`Queue::persister`]. Dropped or stopped, it writes
/// what there is and lays the role down.
#[must_use = "the thread ends when this is dropped"]
pub struct Persister {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    queue: Queue,
}

#[derive(Default)]
struct State {
    ended: AtomicBool,
    /// Why it does not write now, or has given up.
    trouble: Mutex<Option<String>>,
}

impl State {
    fn say(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Queue {
    /// Starts a thread that keeps the role of the journal's writer for as long as the returned handle
    /// lives: others wait for the disk, and do not write. With `core` it is pinned there. Several, in any
    /// processes, take turns when one ends. Blocks until the thread runs, and is pinned; a forked child has none.
    ///
    /// # Errors
    /// [`FlushError::NoDisk`] for a queue in memory; [`FlushError::NotOnDisk`] when the thread can't be
    /// started or pinned.
    pub fn persister(&self, core: Option<usize>) -> Result<Persister, FlushError> {
        if self.inner.is_forked() {
            return Err(FlushError::Forked);
        }
        if self.inner.journal.is_none() {
            return Err(FlushError::NoDisk);
        }
        let refused = |error: std::io::Error| FlushError::NotOnDisk {
            why: error.to_string(),
        };
        let state = Arc::new(State::default());
        let (told, tells) = std::sync::mpsc::channel();
        let (queue, shared) = (Arc::clone(&self.inner), Arc::clone(&state));
        let named = thread::Builder::new().name("ringway-persist".to_owned());
        let thread = named
            .spawn(move || {
                let pinned = core.map_or(Ok(()), affinity::pin_current_thread);
                let is_pinned = pinned.is_ok();
                let _ = told.send(pinned);
                if is_pinned {
                    persist(&queue, &shared);
                }
            })
            .map_err(refused)?;
        let pinned = tells.recv();
        let persister = Persister {
            state,
            thread: Some(thread),
            queue: self.clone(),
        };
        match pinned {
            Ok(Err(error)) => Err(refused(error)),
            _ => Ok(persister),
        }
    }
}

impl Persister {
    /// Why it does not write at the moment, or has given up; `None` while all is well.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.state.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has given up: the queue is gone.
    pub fn is_over(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread behind a last flush. Blocks for that.
    pub fn stop(self) {}
}

impl Drop for Persister {
    fn drop(&mut self) {
        if self.queue.inner.is_forked() {
            return;
        }
        self.state.ended.store(true, Ordering::Release);
        if let Some(words) = self.queue.inner.delivery.durable() {
            words.ask_for_flush();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn persist(queue: &Inner, state: &State) {
    let Some((source, journal)) = queue.on_disk() else {
        return;
    };
    let is_written = |position| queue.is_to_be_written(position);
    while !state.ended.load(Ordering::Acquire) {
        let written = match source.words().turn() {
            turn @ Turn::Free(_) => {
                persist::keep_role(&source, &journal.log, turn, &state.ended, &is_written)
            }
            // One that dies or stands still is displaced by those who wait.
            Turn::Held(_) => {
                clock::pause(PAUSE);
                queue.host.tick();
                Ok(())
            }
        };
        match written {
            Ok(()) => state.say(None),
            Err(why) => {
                let is_over = matches!(why, NotOnDisk::Removed | NotOnDisk::Unlinked);
                state.say(Some(why.to_string()));
                if is_over {
                    return;
                }
                clock::pause(REFUSED_PAUSE);
            }
        }
    }
}
