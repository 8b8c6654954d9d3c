//! Futexes on shared words. Always the shared kind: the waiters are other processes.
//!
//! A wait may return at any time for no reason; callers look at their own condition again.

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Most words of one [`wait_any`] (`FUTEX_WAITV_MAX`, Linux 5.16).
pub const WAIT_ANY_MAX: usize = 128;

fn timespec(nanos: u64) -> Timespec {
    Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}

/// Sleeps while `word` is `expected`, at most `timeout`.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let timeout = timespec(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX / 2));
    // EAGAIN, EINTR and ETIMEDOUT all mean "look again"; nothing else can happen on a mapped word.
    let _ = futex::wait(word, Flags::empty(), expected, Some(&timeout));
}

/// Wakes everybody who sleeps on `word`.
pub fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}

/// Sleeps until one of `words` differs from its expected value, at most `timeout`.
///
/// Up to [`WAIT_ANY_MAX`] words; further ones are not watched, so the caller bounds the timeout.
/// Where the kernel refuses `futex_waitv` (before 5.16, or a filter) it sleeps on the first word.
pub fn wait_any<'a>(words: impl Iterator<Item = (&'a AtomicU32, u32)>, timeout: Duration) {
    let mut waiters = [futex::Wait::new(); WAIT_ANY_MAX];
    let mut count = 0;
    let mut first = None;
    for (waiter, (word, expected)) in waiters.iter_mut().zip(words) {
        waiter.val = u64::from(expected);
        waiter.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
        waiter.flags = futex::WaitFlags::SIZE_U32;
        count += 1;
        first.get_or_insert((word, expected));
    }
    let Some((word, expected)) = first else {
        std::thread::sleep(timeout);
        return;
    };
    if count == 1 {
        return wait(word, expected, timeout);
    }
    let until = super::clock::now().saturating_add(timeout.as_nanos() as u64);
    let until = timespec(until);
    let result = futex::waitv(
        &waiters[..count],
        futex::WaitvFlags::empty(),
        Some(&until),
        futex::ClockId::Monotonic,
    );
    if matches!(result, Err(Errno::NOSYS | Errno::PERM)) {
        wait(word, expected, timeout.min(Duration::from_millis(1)));
    }
}
