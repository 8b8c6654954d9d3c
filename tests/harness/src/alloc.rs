//! An allocator that counts, for the promise that a hot path allocates nothing.
//!
//! A test binary installs it with `#[global_allocator]`; a stretch of code is counted
//! by the difference of two [`Allocations`]. Counts are kept per thread and for the
//! process; a reallocation counts as one. It never fails by itself and never calls
//! back into the code it counts. Thread-safe; after fork the counts go on separately.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

// Relaxed: plain tallies written by every thread; nothing is published through them.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static RELEASES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MINE: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counted.
///
/// ```
/// use ringway_harness::{Allocations, CountingAllocator};
/// #[global_allocator]
/// static COUNTED: CountingAllocator = CountingAllocator;
/// let before = Allocations::of_this_thread();
/// drop(std::hint::black_box(Box::new(7)));
/// let cost = Allocations::of_this_thread() - before;
/// assert_eq!((cost.made, cost.released), (1, 1));
/// ```
pub struct CountingAllocator;

/// How many allocations were made and released up to a moment, or between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Allocations and reallocations.
    pub made: u64,
    /// Releases.
    pub released: u64,
}

impl Allocations {
    /// The calling thread's counts so far. Zero for ever where the allocator isn't installed.
    pub fn of_this_thread() -> Allocations {
        let (made, released) = MINE.with(Cell::get);
        Allocations { made, released }
    }

    /// The counts of all threads so far.
    pub fn of_the_process() -> Allocations {
        Allocations {
            made: ALLOCATIONS.load(Relaxed),
            released: RELEASES.load(Relaxed),
        }
    }
}

impl Sub for Allocations {
    type Output = Allocations;

    fn sub(self, before: Allocations) -> Allocations {
        Allocations {
            made: self.made - before.made,
            released: self.released - before.released,
        }
    }
}

fn count(made: u64, released: u64) {
    ALLOCATIONS.fetch_add(made, Relaxed);
    RELEASES.fetch_add(released, Relaxed);
    // A thread that is being torn down has no counter left; the process's still counts.
    let _ = MINE.try_with(|mine| {
        let (m, r) = mine.get();
        mine.set((m + made, r + released));
    });
}

// SAFETY: every call is handed to System unchanged; counting allocates nothing (const TLS
// without a destructor, atomics).
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller's obligations are System's, passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller's obligations are System's, passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller's obligations are System's, passed on unchanged.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, 1);
        // SAFETY: the caller's obligations are System's, passed on unchanged.
        unsafe { System.dealloc(at, layout) }
    }
}
