//! Publishing to topics, and listening to them.

use crate::argument::{self, nothing, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared, with};
use crate::layout::{OutgoingStruct, Published};
use crate::message::MessageHandle;
use crate::said::{Said, each, structs};
use crate::topic::TopicHandle;
use core::ffi::c_void;
use ringway::{Attributes, Listener, Publisher, ReadError};

/// A publisher, and memory for the attributes of a message published alone.
pub struct PublisherHandle(Publisher, Attributes);
pub struct ListenerHandle(Listener);

impl PublisherHandle {
    fn publish(&mut self, said: &OutgoingStruct) -> Result<ringway::Published, Failure> {
        let said = Said::of(said, core::mem::take(&mut self.1))?;
        let published = self.0.publish(&said.publication()?)?;
        self.1 = said.into_attributes();
        Ok(published)
    }
}

fn published_out(outcome: Result<ringway::Published, Failure>) -> Published {
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
        published: *mut Published,
    ) {
        let places = argument::room(published, count, "published")?;
        let mut said = structs(messages, count, "messages")?;
        with::<PublisherHandle>(publisher, |handle| {
            if let [place] = places {
                let only = said.next().and_then(Result::ok);
                let only = only.ok_or_else(|| Failure::new(Code::Argument, "no message"))?;
                place.write(published_out(handle.publish(&only)));
                return Ok(Code::Ok);
            }
            let said: Vec<_> = said
                .map(|one| Said::of(&one?, Attributes::new()))
                .collect();
            let taken: Vec<_> = said
                .iter()
                .map(|one| one.as_ref().map_err(|failure| *failure)?.publication())
                .collect();
            let publish = |messages: Vec<&ringway::Publication<'_>>| {
                let messages: Vec<_> = messages.into_iter().copied().collect();
                let outcomes = handle.0.publish_batch(&messages).into_iter();
                outcomes.map(|outcome| outcome.map_err(Failure::from))
            };
            each(&taken, publish, |at, outcome| {
                places[at].write(published_out(outcome));
            });
            Ok(Code::Ok)
        })
    }

    /// Becomes a listener.
    fn ringway_listener_open(topic: *const c_void, listener: *mut *mut c_void) {
        let listener = argument::out(listener, "listener")?;
        let opened = shared::<TopicHandle>(topic)?.0.listen()?;
        listener.write(keep(ListenerHandle(opened))?);
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
            with::<ListenerHandle>(listener, |ListenerHandle(listener)| {
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
