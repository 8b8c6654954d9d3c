//! Fork detection and the lock descriptors that a child must not keep.
//!
//! A child shares its parent's open file descriptions, so it would keep the parent's lock bytes
//! held after the parent's death. The `pthread_atfork` child handler closes them (closing a
//! duplicate does not unlock; the parent's descriptor still holds the lock) and raises the fork
//! generation, by which every handle knows that it belongs to the parent. Opening with registering,
//! and unregistering with closing, are one step for a fork: the prepare handler takes the lock that
//! they hold, so no child inherits a descriptor that the table does not name. Mappings carry
//! `MADV_DONTFORK`. A raw `clone` without handlers that execs at once is covered by O_CLOEXEC.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);
const NO_FD: i32 = -1;
/// Lock descriptors of this process. Fixed, because the handler may neither allocate nor lock.
static LOCK_FDS: [AtomicI32; 2048] = [const { AtomicI32::new(NO_FD) }; 2048];
static HANDLER: Once = Once::new();
/// Held while the table and the open descriptors differ, and by a forking thread. A spin lock,
/// since a std mutex may not be unlocked in the child.
static CHANGING: AtomicBool = AtomicBool::new(false);

fn lock() {
    while CHANGING.swap(true, Ordering::Acquire) {
        std::thread::yield_now();
    }
}

fn unlock() {
    CHANGING.store(false, Ordering::Release);
}

extern "C" fn before_fork() {
    lock();
}

extern "C" fn in_parent() {
    unlock();
}

extern "C" fn in_child() {
    unlock();
    GENERATION.fetch_add(1, Ordering::Relaxed);
    for entry in &LOCK_FDS {
        let fd = entry.swap(NO_FD, Ordering::Relaxed);
        if fd != NO_FD {
            // SAFETY: the descriptor was registered by its only owner and is removed from the
            // table before that owner closes it, so it is open here; `close` is
            // async-signal-safe.
            unsafe { libc::close(fd) };
        }
    }
}

/// The number of forks between the first process and this one, as far as handles care.
#[inline(always)]
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// A lock descriptor that a forked child closes.
#[derive(Debug)]
pub struct LockFd {
    fd: Option<OwnedFd>,
    entry: Option<usize>,
    generation: u64,
}

impl LockFd {
    /// Opens a descriptor under the handler's care. With more than 2,048 of them the table is full
    /// and the call fails.
    pub fn open(open: impl FnOnce() -> std::io::Result<OwnedFd>) -> std::io::Result<Self> {
        HANDLER.call_once(|| {
            // SAFETY: the handlers are plain functions that live as long as the program.
            unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
        });
        lock();
        let registered = open().map(|fd| {
            let raw = fd.as_raw_fd();
            let entry = LOCK_FDS.iter().position(|entry| {
                entry
                    .compare_exchange(NO_FD, raw, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            });
            Self {
                fd: Some(fd),
                entry,
                generation: generation(),
            }
        });
        unlock();
        let registered = registered?;
        match registered.entry {
            Some(_) => Ok(registered),
            None => Err(std::io::Error::other(
                "more than 2,048 attachments in one process",
            )),
        }
    }

    /// The descriptor.
    pub fn fd(&self) -> &OwnedFd {
        self.fd.as_ref().expect("present until drop")
    }
}

impl Drop for LockFd {
    fn drop(&mut self) {
        let fd = self.fd.take();
        if self.generation != generation() {
            // The handler has closed it; the number may belong to somebody else by now.
            if let Some(fd) = fd {
                let _ = fd.into_raw_fd();
            }
            return;
        }
        lock();
        if let Some(entry) = self.entry {
            LOCK_FDS[entry].store(NO_FD, Ordering::Relaxed);
        }
        drop(fd);
        unlock();
    }
}
