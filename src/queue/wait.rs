//! Waiting for a message. Every sleep is bounded, and every wake-up looks again.
//!
//! A sleeper is woken by a send or by a message that is given back. A lease or delay that ends wakes
//! nobody: a sleeper sleeps no longer than until the next one is due, and looks for dead holders
//! every 5 ms while anything is in flight.

use super::QueueReceiver;
use crate::error::ReceiveError;
use crate::ring::wait::{FIRST_SLEEP, Idle, LONG_SLEEP, SPIN_LOOKS, SPIN_NS};
use crate::sys::clock::{self, Deadline};
use std::time::Duration;

/// While a claim hangs, a sleeper looks after this long: a dead owner costs little more than its
/// death, a stopped one little more than the stall time-out.
pub(super) const PENDING_SLEEP: Duration = Duration::from_millis(1);
/// While anything is in flight: bounds how long a dead holder's message stays with it.
const HOLDING_SLEEP: Duration = Duration::from_millis(5);
/// How often a spinning waiter looks whether its queue is still there (four system calls).
const CHECK_NS: u64 = 10_000_000;

pub(super) fn wait(receiver: &mut QueueReceiver, timeout: Duration) -> Result<bool, ReceiveError> {
    if receiver.is_forked() {
        return Err(ReceiveError::Forked);
    }
    if receiver.is_ready() {
        return Ok(true);
    }
    let deadline = Deadline::after(timeout);
    match receiver.idle() {
        Idle::Park => {}
        Idle::Spin => loop {
            if spin(receiver, deadline.nanos().min(clock::now() + CHECK_NS)) {
                return Ok(true);
            }
            check_alive(receiver)?;
            if deadline.passed() {
                return Ok(false);
            }
            receiver.before_sleep();
            receiver.inner.host.tick();
        },
        Idle::SpinThenPark => {
            if spin(receiver, deadline.nanos().min(clock::now() + SPIN_NS)) {
                return Ok(true);
            }
        }
    }
    park(receiver, deadline)
}

fn spin(receiver: &mut QueueReceiver, until: u64) -> bool {
    loop {
        for _ in 0..SPIN_LOOKS {
            if receiver.is_ready() {
                return true;
            }
            core::hint::spin_loop();
        }
        if clock::now() >= until {
            return false;
        }
    }
}

fn park(receiver: &mut QueueReceiver, deadline: Deadline) -> Result<bool, ReceiveError> {
    let mut bound = FIRST_SLEEP;
    loop {
        check_alive(receiver)?;
        let due = receiver.before_sleep();
        let inner = std::sync::Arc::clone(&receiver.inner);
        let ring = inner.delivery.ring();
        let seq = ring.prepare_sleep();
        if receiver.is_ready() {
            return Ok(true);
        }
        let remaining = deadline.remaining();
        if remaining.is_zero() {
            return Ok(false);
        }
        let holding = if receiver.is_anything_due() {
            HOLDING_SLEEP
        } else {
            LONG_SLEEP
        };
        ring.sleep(seq, bound.min(holding).min(due).min(remaining));
        bound = LONG_SLEEP;
        inner.host.tick();
    }
}

/// Slow checks of a waiter: whether there still is anything to wait for.
fn check_alive(receiver: &QueueReceiver) -> Result<(), ReceiveError> {
    let inner = &receiver.inner;
    if inner.is_forked() {
        return Err(ReceiveError::Forked);
    }
    if inner.is_removed() {
        return Err(ReceiveError::Removed);
    }
    if inner.is_unlinked() {
        return Err(ReceiveError::Unlinked);
    }
    if !inner.host.is_current() {
        return Err(ReceiveError::Stale);
    }
    Ok(())
}
