//! Memory that every side of a round shares: anonymous, zeroed, inherited by fork.
//!
//! It lives as long as the last process that maps it and has no name, so a
//! round that is killed leaves nothing behind. Page tables of shared mappings
//! are not copied by fork: each side calls [`Pages::fault_in`] for itself.

use crate::Result;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Distance that keeps two words from sharing a line, or the pair of lines
/// that the prefetcher of x86-64 fetches together.
pub const LINE_PAIR: usize = 128;

/// A shared anonymous mapping.
pub struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is only reached through atomics or through raw pointers
// whose users state why their accesses don't overlap.
unsafe impl Sync for Pages {}
// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps `len` bytes, rounded up to whole pages, all present.
    pub fn new(len: usize) -> Result<Pages> {
        let len = len.max(1).next_multiple_of(4096);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(format!(
                "can't map {len} shared bytes: {}",
                io::Error::last_os_error()
            )
            .into());
        }
        let base =
            NonNull::new(base.cast()).ok_or("the kernel mapped shared memory at address 0")?;
        Ok(Pages { base, len })
    }

    /// Makes every page present and writable in this process's page table.
    pub fn fault_in(&self) {
        for at in (0..self.len).step_by(4096) {
            // SAFETY: `at` is inside the mapping, which lives as long as self.
            let byte = unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(at)) };
            byte.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Bytes in the mapping.
    pub fn bytes(&self) -> usize {
        self.len
    }

    /// The word at byte `at`.
    #[inline(always)]
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(
            at.is_multiple_of(8) && at + 8 <= self.len,
            "word {at} of {}",
            self.len
        );
        // SAFETY: aligned and inside the mapping, asserted; all access is atomic.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    /// The half word at byte `at`, as futexes need it.
    #[inline(always)]
    pub fn half(&self, at: usize) -> &AtomicU32 {
        assert!(
            at.is_multiple_of(4) && at + 4 <= self.len,
            "half word {at} of {}",
            self.len
        );
        // SAFETY: aligned and inside the mapping, asserted; all access is atomic.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    /// Where the mapping starts, for hot loops that do their own arithmetic.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in new(), unmapped once.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
