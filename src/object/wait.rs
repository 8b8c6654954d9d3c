//! Waiting until one of several has something: channels and queues alike. Every sleep is bounded, and
//! every wake-up looks again.
//!
//! Who waits says by [`Waits`] how it looks, how long it may sleep, and on which ring; this file spins
//! and sleeps. Nothing is allocated.

use super::Host;
use crate::error::WaitError;
use crate::ring::SlotRing;
use crate::ring::wait::{FIRST_SLEEP, Idle, LONG_SLEEP, SPIN_LOOKS, SPIN_NS};
use crate::sys::clock::{self, Deadline};
use crate::sys::futex::{self, WAIT_ANY_MAX};
use std::time::Duration;

/// How often a spinning waiter looks whether its object is still there (four system calls).
const CHECK_NS: u64 = 10_000_000;

/// What a wait needs of whoever waits.
pub trait Waits {
    /// Whether it was made in a parent of this process.
    fn is_forked(&self) -> bool;
    /// Whether a look finds something.
    fn is_ready(&mut self) -> bool;
    /// Slow checks: whether there still is anything to wait for.
    ///
    /// # Errors
    /// When there is not.
    fn check_alive(&self) -> Result<(), WaitError>;
    /// How it wants to wait.
    fn idle(&self) -> Idle;
    /// Duties before a sleep. Whether they brought something.
    fn before_sleep(&mut self) -> bool;
    /// How long it may sleep without another look.
    fn longest_sleep(&mut self) -> Duration;
    /// The ring whose wake it sleeps on.
    fn ring(&self) -> &SlotRing;
    /// Its attachment.
    fn host(&self) -> &dyn Host;
}

/// What [`wait_any`] waits for: a [`Reader`](crate::Reader), a [`QueueReceiver`](crate::QueueReceiver), or the
/// listener of a topic.
pub trait Waitable: Waits {}

/// Waits up to `timeout` until one of `waiting` has something to read or to receive; its index, the
/// lowest where several have.
///
/// Sleeps on all of them at once (`FUTEX_WAITV`, up to 128; further ones are looked at every 20 ms).
/// The idle strategy is that of the first. Another receiver of the same queue may be faster then.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-any-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// # use std::time::Duration;
/// use ringway::{Waitable, wait_any};
/// let ticks = bus.channel("ticks").open_or_create()?;
/// let orders = bus.queue("orders").open_or_create()?;
/// let (mut reader, mut receiver) = (ticks.reader().join()?, orders.receiver()?);
/// orders.sender()?.send(b"order 1")?;
/// let both: &mut [&mut dyn Waitable] = &mut [&mut reader, &mut receiver];
/// assert_eq!(wait_any(both, Duration::from_secs(1))?, Some(1));
/// # drop((reader, receiver, ticks, orders, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When one of them is gone or its handle stale; reading or receiving from it says so too.
pub fn wait_any<W: Waitable + ?Sized>(
    waiting: &mut [&mut W],
    timeout: Duration,
) -> Result<Option<usize>, WaitError> {
    if waiting.iter().any(|one| one.is_forked()) {
        return Err(WaitError::Forked);
    }
    if let Some(ready) = first_ready(waiting) {
        return Ok(Some(ready));
    }
    let Some(idle) = waiting.first().map(|one| one.idle()) else {
        return Ok(None);
    };
    let deadline = Deadline::after(timeout);
    match idle {
        Idle::Park => {}
        Idle::Spin => loop {
            let until = deadline.nanos().min(clock::now() + CHECK_NS);
            if let Some(ready) = spin(waiting, until) {
                return Ok(Some(ready));
            }
            if let Some(ready) = prepare(waiting)? {
                return Ok(Some(ready));
            }
            if deadline.passed() {
                return Ok(None);
            }
            waiting[0].host().tick();
        },
        Idle::SpinThenPark => {
            let until = deadline.nanos().min(clock::now() + SPIN_NS);
            if let Some(ready) = spin(waiting, until) {
                return Ok(Some(ready));
            }
        }
    }
    park(waiting, deadline)
}

fn first_ready<W: Waitable + ?Sized>(waiting: &mut [&mut W]) -> Option<usize> {
    waiting.iter_mut().position(|one| one.is_ready())
}

fn spin<W: Waitable + ?Sized>(waiting: &mut [&mut W], until: u64) -> Option<usize> {
    loop {
        for _ in 0..SPIN_LOOKS {
            if let Some(ready) = first_ready(waiting) {
                return Some(ready);
            }
            core::hint::spin_loop();
        }
        if clock::now() >= until {
            return None;
        }
    }
}

/// Checks and duties of all of them; the first to which they brought something.
fn prepare<W: Waitable + ?Sized>(waiting: &mut [&mut W]) -> Result<Option<usize>, WaitError> {
    for (index, one) in waiting.iter_mut().enumerate() {
        one.check_alive()?;
        if one.before_sleep() {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn park<W: Waitable + ?Sized>(
    waiting: &mut [&mut W],
    deadline: Deadline,
) -> Result<Option<usize>, WaitError> {
    let mut bound = FIRST_SLEEP;
    let mut seqs = [0; WAIT_ANY_MAX];
    loop {
        if let Some(ready) = prepare(waiting)? {
            return Ok(Some(ready));
        }
        for (seq, one) in seqs.iter_mut().zip(waiting.iter()) {
            *seq = one.ring().prepare_sleep();
        }
        if let Some(ready) = first_ready(waiting) {
            return Ok(Some(ready));
        }
        let remaining = deadline.remaining();
        if remaining.is_zero() {
            return Ok(None);
        }
        let longest = waiting.iter_mut().map(|one| one.longest_sleep()).min();
        let sleep = longest.unwrap_or(LONG_SLEEP).min(bound).min(remaining);
        let words = waiting
            .iter()
            .zip(seqs)
            .map(|(one, seq)| (one.ring().memory().wake(), seq));
        futex::wait_any(words, sleep);
        // Before anything that costs a system call: this is what a wake is waited for.
        if let Some(ready) = first_ready(waiting) {
            return Ok(Some(ready));
        }
        bound = LONG_SLEEP;
        waiting[0].host().tick();
    }
}
