//! Waiting for records and for room. Every sleep is bounded, and every wake-up looks again.

use super::reader::Reader;
use crate::ParticipantId;
use crate::error::ReadError;
use crate::object::Host;
use crate::ring::wait::{FIRST_SLEEP, Idle, LONG_SLEEP, SPIN_LOOKS, SPIN_NS};
use crate::sys::clock::{self, Deadline};
use crate::sys::futex;
use std::time::Duration;

/// While a claim hangs, a sleeper looks after this long: a dead owner costs little more than its
/// death, a stopped one little more than the stall time-out.
const PENDING_SLEEP: Duration = Duration::from_millis(1);

/// How often a spinning waiter looks whether its channel is still there (four system calls).
const CHECK_NS: u64 = 10_000_000;

pub(super) fn wait_one(reader: &mut Reader, timeout: Duration) -> Result<bool, ReadError> {
    Ok(wait_any(&mut [reader], timeout)?.is_some())
}

/// Waits up to `timeout` until one of `readers` has something to read; its index.
///
/// Sleeps on all of them at once (`FUTEX_WAITV`, up to 128; further ones are looked at every
/// 20 ms). The idle strategy is the first reader's.
///
/// # Errors
/// When a channel is gone or a handle stale.
pub fn wait_any(
    readers: &mut [&mut Reader],
    timeout: Duration,
) -> Result<Option<usize>, ReadError> {
    if readers.iter().any(|reader| reader.is_forked()) {
        return Err(ReadError::Forked);
    }
    if let Some(ready) = first_ready(readers) {
        return Ok(Some(ready));
    }
    let Some(idle) = readers.first().map(|reader| reader.idle()) else {
        return Ok(None);
    };
    let deadline = Deadline::after(timeout);
    match idle {
        Idle::Park => {}
        Idle::Spin => loop {
            let until = deadline.nanos().min(clock::now() + CHECK_NS);
            if let Some(ready) = spin(readers, until) {
                return Ok(Some(ready));
            }
            for reader in readers.iter() {
                reader.check_alive()?;
            }
            if deadline.passed() {
                return Ok(None);
            }
            readers[0].seat.inner.host.tick();
        },
        Idle::SpinThenPark => {
            let until = deadline.nanos().min(clock::now() + SPIN_NS);
            if let Some(ready) = spin(readers, until) {
                return Ok(Some(ready));
            }
        }
    }
    park(readers, deadline)
}

fn first_ready(readers: &mut [&mut Reader]) -> Option<usize> {
    readers.iter_mut().position(|reader| reader.is_ready())
}

fn spin(readers: &mut [&mut Reader], until: u64) -> Option<usize> {
    loop {
        for _ in 0..SPIN_LOOKS {
            if let Some(ready) = first_ready(readers) {
                return Some(ready);
            }
            core::hint::spin_loop();
        }
        if clock::now() >= until {
            return None;
        }
    }
}

fn park(readers: &mut [&mut Reader], deadline: Deadline) -> Result<Option<usize>, ReadError> {
    let mut bound = FIRST_SLEEP;
    loop {
        for (index, reader) in readers.iter_mut().enumerate() {
            reader.check_alive()?;
            if reader.settle_now() {
                return Ok(Some(index));
            }
        }
        let seqs: Vec<u32> = readers
            .iter()
            .map(|reader| reader.seat.inner.ring.prepare_sleep())
            .collect();
        if let Some(ready) = first_ready(readers) {
            return Ok(Some(ready));
        }
        let remaining = deadline.remaining();
        if remaining.is_zero() {
            return Ok(None);
        }
        let pending = readers.iter().any(|reader| reader.is_pending());
        let sleep = if pending { PENDING_SLEEP } else { bound }.min(remaining);
        let words: Vec<_> = readers
            .iter()
            .zip(&seqs)
            .map(|(reader, seq)| (reader.seat.inner.ring.memory().wake(), *seq))
            .collect();
        futex::wait_any(&words, sleep);
        // Before anything that costs a system call: this is what a wake is waited for.
        if let Some(ready) = first_ready(readers) {
            return Ok(Some(ready));
        }
        bound = LONG_SLEEP;
        if let Some(reader) = readers.first() {
            reader.seat.inner.host.tick();
        }
    }
}

/// A producer's wait for room: short polling first, then pauses of up to 1 ms, since readers make
/// no system call for producers.
pub(super) struct Patience {
    deadline: Deadline,
    pauses: u32,
    /// The reader that holds the ring back, its cursor, and since when it stands there.
    held: Option<(ParticipantId, u64, u64)>,
}

impl Patience {
    pub fn new(timeout: Duration) -> Self {
        Self {
            deadline: Deadline::after(timeout),
            pauses: 0,
            held: None,
        }
    }

    /// `false` when the time is over.
    pub fn pause(&mut self, host: &dyn Host, by: Option<ParticipantId>, cursor: u64) -> bool {
        let now = clock::now();
        match (self.held, by) {
            (Some((held_by, at, _)), Some(by)) if held_by == by && at == cursor => {}
            (_, by) => self.held = by.map(|by| (by, cursor, now)),
        }
        let remaining = self.deadline.remaining();
        if remaining.is_zero() {
            return false;
        }
        self.pauses += 1;
        if self.pauses <= 64 {
            for _ in 0..64 {
                core::hint::spin_loop();
            }
        } else {
            let pause = Duration::from_micros(50 << (self.pauses / 64).min(4));
            clock::pause(pause.min(FIRST_SLEEP).min(remaining));
            host.tick();
        }
        true
    }

    /// Who has held the ring back without moving for `stall_ns`.
    pub fn stalled(&self, stall_ns: u64) -> Option<ParticipantId> {
        let (by, _, since) = self.held?;
        (clock::now().saturating_sub(since) >= stall_ns).then_some(by)
    }
}
