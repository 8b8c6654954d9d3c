//! Publishing to topics, and listening to them.

use crate::argument::{self, Sized0 as _, choice, nothing, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared, with};
use crate::layout::{ListenerConfig, OutgoingStruct, Published};
use crate::message::MessageHandle;
use crate::receive::idle;
use crate::said::{Carrier, Said, carry};
use crate::topic::{TopicHandle, scope};
use crate::wait::no_descriptor;
use core::ffi::c_void;
use ringway::{
    Attributes, ListenOptions, ListenPolicy, Listener, PollDescriptor, Publication, Publisher,
    ReadError,
};
use std::os::fd::AsRawFd;

/// A publisher, and memory for the attributes of a message published alone.
pub struct PublisherHandle(Publisher, Attributes);

pub struct ListenerHandle {
    // Before the listener that it looks for.
    poll: Option<PollDescriptor>,
    pub listener: Listener,
}

impl ListenerHandle {
    /// The descriptor, made when it is first asked for.
    pub fn descriptor(&mut self) -> Result<i32, Failure> {
        if self.poll.is_none() {
            self.poll = Some(self.listener.poll_descriptor().map_err(no_descriptor)?);
        }
        Ok(self.poll.as_ref().map_or(-1, AsRawFd::as_raw_fd))
    }
}

impl Carrier for PublisherHandle {
    type Message<'a> = Publication<'a>;
    type Outcome = ringway::Published;
    type Out = Published;

    fn memory(&mut self) -> &mut Attributes {
        &mut self.1
    }

    fn message(said: &Said) -> Result<Publication<'_>, Failure> {
        said.publication()
    }

    fn one(&mut self, message: &Publication<'_>) -> Result<ringway::Published, Failure> {
        Ok(self.0.publish(message)?)
    }

    fn batch(&mut self, messages: &[Publication<'_>]) -> Vec<Result<ringway::Published, Failure>> {
        let outcomes = self.0.publish_batch(messages).into_iter();
        outcomes.map(|outcome| Ok(outcome?)).collect()
    }

    fn out(outcome: Result<ringway::Published, Failure>) -> Published {
        match outcome {
            Ok(published) => Published {
                message_id: published.id.halves(),
                status: 0,
                duplicate: published.duplicate.into(),
            },
            Err(failure) => Published {
                message_id: [0; 2],
                status: failure.code as i32,
                duplicate: 0,
            },
        }
    }
}

/// How to listen.
fn options(config: &ListenerConfig) -> Result<ListenOptions, Failure> {
    let mut options = ListenOptions::new();
    if let Some(policy) = argument::optional_text(config.filter, "filter")? {
        options = options.filter(policy);
    }
    if let Some(scope) = scope(config.scope)? {
        options = options.scope(scope);
    }
    let policies = [
        (1, ListenPolicy::Block),
        (3, ListenPolicy::DropOldest),
        (4, ListenPolicy::Evict),
    ];
    if let Some(policy) = choice(config.behind, &policies, "behind")? {
        options = options.policy(policy);
    }
    if let Some(idle) = idle(config.idle)? {
        options = options.idle(idle);
    }
    Ok(options)
}

abi! {
    /// Becomes a publisher.
    fn ringway_publisher_open(topic: *const c_void, publisher: *mut *mut c_void) {
        let publisher = argument::out(publisher, "publisher")?;
        let opened = shared::<TopicHandle>(topic)?.0.publisher()?;
        publisher.write(keep(PublisherHandle(opened, Attributes::new()))?);
        Ok(Code::Ok)
    }

    /// Publishes messages.
    fn ringway_publisher_publish_batch(
        publisher: *mut c_void,
        messages: *const OutgoingStruct,
        count: usize,
        timeout_ns: i64,
        published: *mut Published,
    ) {
        let patience = timeout(timeout_ns)?;
        carry::<PublisherHandle>(publisher, messages, count, published, |handle| {
            handle.0.set_patience(patience);
        })
    }

    /// Becomes a listener.
    fn ringway_listener_open(
        topic: *const c_void,
        config: *const ListenerConfig,
        listener: *mut *mut c_void,
    ) {
        let listener = argument::out(listener, "listener")?;
        let config = argument::sized(config, "config")?.unwrap_or_else(ListenerConfig::initial);
        let opened = shared::<TopicHandle>(topic)?.0.listen_with(&options(&config)?)?;
        listener.write(keep(ListenerHandle { poll: None, listener: opened })?);
        Ok(Code::Ok)
    }

    /// Hears the next message.
    fn ringway_listener_hear(
        listener: *mut c_void,
        message: *mut c_void,
        timeout_ns: i64,
        missed: *mut u64,
    ) {
        let missed = argument::optional(missed, "missed")?;
        let wait = timeout(timeout_ns)?;
        with::<MessageHandle>(message, |message| {
            with::<ListenerHandle>(listener, |ListenerHandle { listener, .. }| {
                let notification = message.notification();
                let heard = if wait.is_zero() {
                    listener.try_hear(notification)
                } else {
                    listener.hear(notification, wait)
                };
                match heard {
                    Ok(true) => Ok(Code::Ok),
                    Ok(false) => Ok(nothing(timeout_ns)),
                    Err(ReadError::Lagged { from, to }) => {
                        if let Some(missed) = missed {
                            missed.write(to.saturating_sub(from));
                        }
                        Err(Failure::not_now(Code::Lagged))
                    }
                    Err(error) => Err(error.into()),
                }
            })
        })
    }
}
