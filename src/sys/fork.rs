//! Fork detection and the lock descriptors that a child must not keep.
//!
//! A child shares its parent's open file descriptions, so it would keep the parent's lock bytes
//! held after the parent's death. The `pthread_atfork` child handler closes them (closing a
//! duplicate does not unlock; the parent's descriptor still holds the lock) and raises the fork
//! generation, by which every handle knows that it belongs to the parent. Mappings carry
//! `MADV_DONTFORK`. A raw `clone` without handlers that execs at once is covered by O_CLOEXEC.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);
const NO_FD: i32 = -1;
/// Lock descriptors of this process. Fixed, because the handler may neither allocate nor lock.
static LOCK_FDS: [AtomicI32; 2048] = [const { AtomicI32::new(NO_FD) }; 2048];
static HANDLER: Once = Once::new();

extern "C" fn in_child() {
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
    /// Takes the descriptor under the handler's care. With more than 2,048 of them the table is
    /// full and the call fails.
    pub fn register(fd: OwnedFd) -> std::io::Result<Self> {
        HANDLER.call_once(|| {
            // SAFETY: the handler is a plain function that lives as long as the program.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        let raw = fd.as_raw_fd();
        let entry = LOCK_FDS.iter().position(|entry| {
            entry
                .compare_exchange(NO_FD, raw, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        });
        match entry {
            Some(_) => Ok(Self {
                fd: Some(fd),
                entry,
                generation: generation(),
            }),
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
        } else if let Some(entry) = self.entry {
            LOCK_FDS[entry].store(NO_FD, Ordering::Relaxed);
        }
    }
}
