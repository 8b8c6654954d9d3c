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

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{Bus, ListenOptions, ListenPolicy, Notification, Publication, Waitable, wait_any};
    use std::time::Duration;

    #[test]
    fn a_listener_is_waited_for_with_others_and_by_a_descriptor() {
        let root = std::env::temp_dir().join(format!("ringway-listen-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let bus = Bus::builder("b").root(&root).open_or_create().unwrap();
        let topic = bus.topic("t").listen_slots(1024).open_or_create().unwrap();
        let queue = bus.queue("q").slots(1024).open_or_create().unwrap();
        let (mut receiver, zero) = (queue.receiver().unwrap(), Duration::ZERO);
        let evicts = ListenOptions::new().policy(ListenPolicy::Evict);
        let mut listener = topic.listen_with(&evicts).unwrap();
        let mut publisher = topic.publisher().unwrap();
        let mut heard = Notification::new();
        let ready = |both: [&mut dyn Waitable; 2], time| wait_any(&mut { both }, time).unwrap();
        assert_eq!(ready([&mut receiver, &mut listener], zero), None);
        let descriptor = listener.poll_descriptor().unwrap();
        publisher.publish(&Publication::new(b"x")).unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(ready([&mut receiver, &mut listener], long), Some(1));
        let polled = rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN);
        assert_eq!(rustix::event::poll(&mut [polled], None).unwrap(), 1);
        assert!(listener.try_hear(&mut heard).unwrap() && !listener.try_hear(&mut heard).unwrap());
        for _ in 0..2_000 {
            publisher.publish(&Publication::new(b"x")).unwrap();
        }
        listener.try_hear(&mut heard).unwrap_err();
        assert_eq!(ready([&mut receiver, &mut listener], zero), Some(1));
        drop((listener, publisher, receiver, queue, topic, bus));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
