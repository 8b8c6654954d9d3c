//! How a receiver waits: what it looks at, and how long it may sleep.
//!
//! A sleeper is woken by a send or by a message that is given back. A lease or delay that ends wakes
//! nobody: a sleeper sleeps no longer than until the next one is due, and looks for dead holders
//! every 5 ms while anything is in flight.

use super::{Inner, QueueReceiver};
use crate::error::{ReceiveError, WaitError};
use crate::object::Host;
use crate::object::poll::{PollDescriptor, Watch};
use crate::object::wait::{Waitable, Waits};
use crate::ring::SlotRing;
use crate::ring::wait::{Idle, LONG_SLEEP};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// While a claim hangs, a sleeper looks after this long: a dead owner costs little more than its
/// death, a stopped one little more than the stall time-out.
const PENDING_SLEEP: Duration = Duration::from_millis(1);
/// While anything is in flight: bounds how long a dead holder's message stays with it.
const HOLDING_SLEEP: Duration = Duration::from_millis(5);

impl Waits for QueueReceiver {
    fn is_forked(&self) -> bool {
        self.is_of_parent()
    }

    fn is_ready(&mut self) -> bool {
        self.has_message()
    }

    fn check_alive(&self) -> Result<(), WaitError> {
        self.inner.check_alive()
    }

    fn idle(&self) -> Idle {
        self.idle
    }

    fn before_sleep(&mut self) -> bool {
        self.see_to_duties();
        false
    }

    fn longest_sleep(&mut self) -> Duration {
        if self.is_pending() {
            return PENDING_SLEEP;
        }
        match self.next_due() {
            Some(due) => due.min(HOLDING_SLEEP),
            None => LONG_SLEEP,
        }
    }

    fn ring(&self) -> &SlotRing {
        self.inner.delivery.ring()
    }

    fn host(&self) -> &dyn Host {
        &*self.inner.host
    }
}

impl Waitable for QueueReceiver {}

impl Inner {
    /// Slow checks of a waiter: whether there still is anything to wait for.
    pub(super) fn check_alive(&self) -> Result<(), WaitError> {
        if self.is_forked() {
            return Err(WaitError::Forked);
        }
        if self.is_removed() {
            return Err(WaitError::Removed);
        }
        if self.is_unlinked() {
            return Err(WaitError::Unlinked);
        }
        if !self.host.is_current() {
            return Err(WaitError::Stale);
        }
        Ok(())
    }
}

/// A receiver of its own that receives nothing, and looks for another.
pub(super) struct QueueWatch(QueueReceiver);

impl QueueWatch {
    pub fn new(receiver: &QueueReceiver) -> io::Result<Self> {
        if receiver.is_of_parent() {
            return Err(io::Error::other(ReceiveError::Forked));
        }
        Ok(Self(QueueReceiver::new(Arc::clone(&receiver.inner))))
    }
}

impl Watch for QueueWatch {
    fn look(&mut self, _: u64) -> Option<Duration> {
        if self.0.is_ready() || self.0.check_alive().is_err() {
            return None;
        }
        self.0.before_sleep();
        Some(self.0.longest_sleep())
    }

    fn ring(&self) -> &SlotRing {
        Waits::ring(&self.0)
    }

    fn host(&self) -> &dyn Host {
        Waits::host(&self.0)
    }
}

impl QueueReceiver {
    /// A descriptor for epoll, poll or an async runtime: readable while there is something to
    /// receive. When it is, receive until `None` or an error; `None` arms it again. Starts one small
    /// thread.
    ///
    /// # Errors
    /// When the system gives no descriptor or thread.
    pub fn poll_descriptor(&mut self) -> io::Result<PollDescriptor> {
        let descriptor = PollDescriptor::start(QueueWatch::new(self)?, 0)?;
        self.watch_by(descriptor.shared());
        Ok(descriptor)
    }
}
