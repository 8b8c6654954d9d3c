//! A board of 64-bit counters in shared memory that outlives every process that wrote it.
//!
//! The test makes it, hands it to children by an inherited descriptor
//! ([`Launch::board`](crate::Launch::board)), and reads it whatever became of them: a
//! store made before SIGKILL is there after it. Backed by a sealed memfd: no name in
//! any file system, no size that could shrink under a mapping. Counters start at 0.
//! Thread-safe; after fork both sides see the same counters.

use std::ops::Index;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use crate::{Fault, Victim, os, watch};

/// Shared counters; see the module.
///
/// ```
/// let board = ringway_harness::AckBoard::new(4).unwrap();
/// board.add(2, 5);
/// assert_eq!(board.get(2), 5);
/// assert_eq!(board.sum(), 5);
/// ```
#[derive(Debug)]
pub struct AckBoard {
    fd: Arc<OwnedFd>,
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping is only reached as &[AtomicU64], which any thread may use.
unsafe impl Send for AckBoard {}
// SAFETY: as above; len and words never change after construction.
unsafe impl Sync for AckBoard {}

impl AckBoard {
    /// A new board of `len` counters, all 0.
    pub fn new(len: usize) -> Result<AckBoard, Fault> {
        assert!(len > 0, "a board has at least one counter");
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a literal C string.
        let fd = os::check(unsafe { libc::memfd_create(c"ack-board".as_ptr(), flags) }.into())
            .map_err(|e| Fault::os("memfd_create", e))?;
        // SAFETY: memfd_create just made this descriptor for us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let bytes = (len * 8) as libc::off_t;
        // SAFETY: a descriptor of ours and a length.
        os::check(unsafe { libc::fallocate(fd.as_raw_fd(), 0, 0, bytes) }.into())
            .map_err(|e| Fault::os("fallocate of a board", e))?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: F_ADD_SEALS takes an integer.
        os::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }.into())
            .map_err(|e| Fault::os("sealing a board", e))?;
        Self::map(fd, len)
    }

    /// The child's side: maps the board behind an inherited descriptor.
    pub(crate) fn inherit(raw_fd: i32) -> Result<AckBoard, Fault> {
        // SAFETY: F_DUPFD_CLOEXEC takes an integer; a bad raw_fd is refused by the kernel.
        let copy = os::check(unsafe { libc::fcntl(raw_fd, libc::F_DUPFD_CLOEXEC, 3) }.into())
            .map_err(|e| Fault::os(format!("board descriptor {raw_fd}"), e))?;
        // SAFETY: the kernel just made this descriptor for us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(copy as i32) };
        // SAFETY: stat is plain data for which all zeroes is a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: stat is valid for the kernel to fill.
        os::check(unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) }.into())
            .map_err(|e| Fault::os("fstat of a board", e))?;
        Self::map(fd, stat.st_size as usize / 8)
    }

    fn map(fd: OwnedFd, len: usize) -> Result<AckBoard, Fault> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice, over a file of len * 8 bytes.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * 8,
                prot,
                flags,
                fd.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Fault::last_os("mmap of a board"));
        }
        let words = NonNull::new(at.cast()).expect("a mapping is never at 0");
        Ok(AckBoard {
            fd: Arc::new(fd),
            words,
            len,
        })
    }

    pub(crate) fn fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// All counters.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds len aligned words, sealed against shrinking, until drop.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }

    /// The value of counter `index`.
    pub fn get(&self, index: usize) -> u64 {
        self[index].load(SeqCst)
    }

    /// Sets counter `index`.
    pub fn set(&self, index: usize, value: u64) {
        self[index].store(value, SeqCst);
    }

    /// Adds to counter `index` and returns its value before.
    pub fn add(&self, index: usize, by: u64) -> u64 {
        self[index].fetch_add(by, SeqCst)
    }

    /// The sum of all counters.
    pub fn sum(&self) -> u64 {
        self.words()
            .iter()
            .map(|word| word.load(SeqCst))
            .fold(0, u64::wrapping_add)
    }

    /// Blocks until counter `index` is at least `value`; a fault if `victim` dies first or
    /// the deadline passes. `what` names the event for the message.
    pub fn await_at_least(
        &self,
        index: usize,
        value: u64,
        victim: &Victim,
        what: &str,
    ) -> Result<u64, Fault> {
        let start = Instant::now();
        loop {
            let seen = self.get(index);
            if seen >= value {
                return Ok(seen);
            }
            let waited = start.elapsed();
            // Waits a moment on the victim's death: a poll of the counter, paced, not a sleep.
            let pace = Instant::now() + std::time::Duration::from_millis(1);
            if victim.exited_by(pace)? && self.get(index) < value {
                let what = format!(
                    "{} ended before {what} (counter {index} at {seen})",
                    victim.name()
                );
                return Err(Fault::victim(what));
            }
            if waited > watch::deadline() {
                let what = format!("{what}: counter {index} at {seen}, awaited {value}");
                return Err(Fault::Hung {
                    what,
                    waited,
                    seen: os::describe(victim.pid()),
                });
            }
        }
    }
}

/// `struct Boards` of boards with so many counters each: made by the test (`new`), given to children (`dress`),
/// found by them (`of`).
///
/// ```
/// ringway_harness::boards! {
///     /// Of each sender, what was acknowledged.
///     acks: 4,
///     stop: 1,
/// }
/// let boards = Boards::new().unwrap();
/// let launch = boards.dress(ringway_harness::Launch::role("send"));
/// # let _ = launch;
/// # fn send(stage: &ringway_harness::Stage) { let boards = Boards::of(stage); boards.acks.add(0, 1); }
/// assert_eq!((boards.acks.sum(), boards.stop.get(0)), (0, 0));
/// ```
#[macro_export]
macro_rules! boards {
    ($($(#[$doc:meta])* $board:ident: $counters:expr,)+) => {
        struct Boards {
            $($(#[$doc])* $board: $crate::AckBoard,)+
        }

        impl Boards {
            fn new() -> Result<Self, $crate::Fault> {
                Ok(Self { $($board: $crate::AckBoard::new($counters)?,)+ })
            }

            fn of(stage: &$crate::Stage) -> Self {
                Self { $($board: stage.board(stringify!($board)),)+ }
            }

            fn dress(&self, launch: $crate::Launch) -> $crate::Launch {
                launch$(.board(stringify!($board), &self.$board))+
            }
        }
    };
}

impl Index<usize> for AckBoard {
    type Output = AtomicU64;

    fn index(&self, index: usize) -> &AtomicU64 {
        &self.words()[index]
    }
}

impl Drop for AckBoard {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in map(); no reference outlives self.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.len * 8) };
    }
}
