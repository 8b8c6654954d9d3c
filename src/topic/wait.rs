//! Waiting for what is published together with other readers and receivers, and by a descriptor.
//!
//! A listener waits as the reader of its ring does: so one with a filter policy wakes for messages too that it does
//! not want, and hears nothing then. One that was evicted is ready for good: it is told so by the next look.

use super::listen::Listener;
use crate::error::WaitError;
use crate::object::Host;
use crate::object::poll::PollDescriptor;
use crate::object::wait::{Waitable, Waits};
use crate::ring::SlotRing;
use crate::ring::wait::Idle;
use std::io;
use std::time::Duration;

impl Waits for Listener {
    fn is_forked(&self) -> bool {
        Waits::is_forked(&self.reader)
    }

    fn is_ready(&mut self) -> bool {
        self.evicted.is_some() || self.reader.is_ready()
    }

    fn check_alive(&self) -> Result<(), WaitError> {
        self.reader.check_alive()
    }

    fn idle(&self) -> Idle {
        Waits::idle(&self.reader)
    }

    fn before_sleep(&mut self) -> bool {
        self.reader.before_sleep()
    }

    fn longest_sleep(&mut self) -> Duration {
        self.reader.longest_sleep()
    }

    fn ring(&self) -> &SlotRing {
        Waits::ring(&self.reader)
    }

    fn host(&self) -> &dyn Host {
        Waits::host(&self.reader)
    }
}

impl Waitable for Listener {}

impl Listener {
    /// A descriptor for epoll, poll or an async runtime: readable while there is something to hear. When it is, hear
    /// until there is nothing; that arms it again. Starts one small thread.
    ///
    /// # Errors
    /// When the system gives no descriptor or thread; in a forked child.
    pub fn poll_descriptor(&mut self) -> io::Result<PollDescriptor> {
        self.reader().map_err(io::Error::other)?.poll_descriptor()
    }
}
