//! The endpoints of subscriptions, open: queues and streams, by name; `BUS/NAME` is one of another bus.
//!
//! A queue may have a [policy](super::access). It is asked for when the queue is opened, and again when a word
//! of its bus says that a policy was changed: one load a delivery.
//!
//! Nothing is decided here: a send says what became of it, and the dispatcher what follows from that.
//! Where a queue or stream was removed and made anew, the next send finds the new one.

use super::message::{MessageId, Parsed};
use super::notification;
use super::subscription::Protocol;
use super::{Gate, TopicInner};
use crate::error::{OpenError, PublishError, PutError, QueueSendError};
use crate::queue::{Encoded, Outgoing, QueueKind, QueueSender};
use crate::stream::{PutRecord, StreamProducer};
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// Open endpoints that are kept.
const MOST_OPEN: usize = 1024;

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// There is no room now.
    NotNow,
    /// It will never be possible.
    Never,
    /// There is no such queue or stream: it was removed, or nobody has made it again behind a restart.
    Missing,
    /// It went another way: a retry, a dead-letter queue, or nowhere, and was counted.
    Elsewhere,
}

/// Everything that a delivery needs to know of a message.
pub(super) struct Delivery<'a> {
    /// Given by [`Targets::next_number`]: what was encoded for one delivery is not used for another.
    pub number: u64,
    pub topic: &'a TopicInner,
    pub parsed: &'a Parsed<'a>,
    /// The bodies by protocol, of a message that has several.
    pub texts: Option<&'a Map<String, Value>>,
    /// Whether it comes from the archive.
    pub is_replayed: bool,
}

/// Where to, and how.
pub(super) struct Endpoint<'a> {
    pub protocol: Protocol,
    pub name: &'a str,
    pub raw: bool,
    /// Where it was found last; a hint.
    pub place: Option<&'a AtomicUsize>,
}

#[derive(Default)]
pub(super) struct Targets {
    queues: Vec<QueueTarget>,
    /// Their places, by name.
    places: FxHashMap<String, usize>,
    streams: FxHashMap<String, StreamProducer>,
    /// Deliveries so far.
    number: u64,
    /// The notification, and of which delivery it is.
    wrapped: Vec<u8>,
    wrapped_of: u64,
    /// The message as standard queues get it that get it raw, and of which delivery it is.
    encoded: Encoded,
    encoded_of: u64,
    id: String,
}

struct QueueTarget {
    name: String,
    id: u64,
    gate: Arc<dyn Gate>,
    /// What the word of its bus was when its policy was read, and what that says.
    policies: u64,
    /// `None`: it could not be read.
    is_admitted: Option<bool>,
    sender: QueueSender,
    is_fifo: bool,
    deduplicates: bool,
}

impl Delivery<'_> {
    /// What is said to this protocol.
    fn body(&self, protocol: Protocol) -> &[u8] {
        let texts = self.texts.and_then(|texts| {
            let text = texts.get(protocol.name()).and_then(Value::as_str);
            text.or_else(|| texts.get("default").and_then(Value::as_str))
        });
        texts.map_or(self.parsed.said.body, str::as_bytes)
    }
}

impl Targets {
    /// The number of the next delivery.
    pub fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Asks for the slot that the next message goes into, of about so many bytes, of a queue that is open here.
    #[inline]
    pub fn ask_ahead(&self, to: &Endpoint<'_>, bytes: usize) {
        let place = to.place.map_or(0, |place| place.load(Ordering::Relaxed));
        if let Some(target) = self.queues.get(place) {
            target.sender.ask_for_room(bytes);
        }
    }

    /// Whether [`Self::encoded`] is what every standard queue gets of this message that gets it raw.
    fn encode(&mut self, delivery: &Delivery<'_>) -> bool {
        if self.encoded_of == delivery.number {
            return true;
        }
        let said = &delivery.parsed.said;
        if delivery.texts.is_some() || said.group.is_some() {
            return false;
        }
        let mut message = Outgoing::new(said.body).attributes_ref(said.attributes);
        if let Some(header) = said.trace_header {
            message = message.trace_header(header);
        }
        let is_encoded = self.encoded.fill(&message);
        if is_encoded {
            self.encoded_of = delivery.number;
        }
        is_encoded
    }

    /// Sends a message to an endpoint.
    pub fn send(
        &mut self,
        delivery: &Delivery<'_>,
        to: &Endpoint<'_>,
    ) -> Result<Outcome, PublishError> {
        let body = delivery.body(to.protocol);
        // Of a message with a text for each protocol there are several.
        let is_wrapped = self.wrapped_of == delivery.number && delivery.texts.is_none();
        if !to.raw && !is_wrapped {
            notification::wrap(
                &delivery.topic.name,
                delivery.parsed,
                body,
                delivery.is_replayed,
                &mut self.wrapped,
            );
            self.wrapped_of = delivery.number;
        }
        // One that was removed may be there again.
        for _ in 0..2 {
            let sent = match to.protocol {
                Protocol::Stream => self.put_to_stream(delivery, to, body)?,
                Protocol::Queue | Protocol::Exec | Protocol::Firehose => {
                    self.send_to_queue(delivery, to, body)?
                }
            };
            if let Some(outcome) = sent {
                return Ok(outcome);
            }
        }
        Ok(Outcome::NotNow)
    }

    /// `None` when the queue was removed under us.
    fn send_to_queue(
        &mut self,
        delivery: &Delivery<'_>,
        to: &Endpoint<'_>,
        body: &[u8],
    ) -> Result<Option<Outcome>, PublishError> {
        let hint = to.place.map_or(0, |place| place.load(Ordering::Relaxed));
        let is_hit = self
            .queues
            .get(hint)
            .is_some_and(|target| target.name == to.name);
        let place = match is_hit {
            true => hint,
            false => match self.place(delivery.topic, to)? {
                Ok(place) => place,
                Err(outcome) => return Ok(Some(outcome)),
            },
        };
        match self.queues[place].admits(delivery.topic) {
            Some(true) => {}
            Some(false) => return Ok(Some(Outcome::Never)),
            None => return Ok(Some(Outcome::NotNow)),
        }
        let is_encoded = to.raw && self.encode(delivery);
        let target = &mut self.queues[place];
        let sent = if is_encoded && target.sender.takes_encoded(&self.encoded) {
            target.sender.send_encoded(&self.encoded)
        } else {
            let message = match to.raw {
                true => Outgoing::new(body).attributes_ref(delivery.parsed.said.attributes),
                false => Outgoing::new(&self.wrapped),
            };
            target.send(delivery, message, &mut self.id)
        };
        match sent {
            Ok(()) => Ok(Some(Outcome::Delivered)),
            Err(QueueSendError::Removed | QueueSendError::Unlinked) => {
                self.forget(place);
                Ok(None)
            }
            Err(QueueSendError::Forked) => Err(PublishError::Forked),
            Err(error @ QueueSendError::Stale) => Err(error.into()),
            Err(error) if is_for_now(&error) => Ok(Some(Outcome::NotNow)),
            Err(_) => Ok(Some(Outcome::Never)),
        }
    }

    /// Where the queue is open; opens it.
    #[cold]
    fn place(
        &mut self,
        topic: &TopicInner,
        to: &Endpoint<'_>,
    ) -> Result<Result<usize, Outcome>, PublishError> {
        let place = match self.places.get(to.name) {
            Some(place) => *place,
            None => {
                let target = match QueueTarget::open(topic, to.name)? {
                    Ok(target) => target,
                    Err(outcome) => return Ok(Err(outcome)),
                };
                if self.queues.len() >= MOST_OPEN {
                    self.queues.clear();
                    self.places.clear();
                }
                self.places.insert(to.name.to_owned(), self.queues.len());
                self.queues.push(target);
                self.queues.len() - 1
            }
        };
        if let Some(hint) = to.place {
            hint.store(place, Ordering::Relaxed);
        }
        Ok(Ok(place))
    }

    fn forget(&mut self, place: usize) {
        let gone = self.queues.swap_remove(place);
        self.places.remove(&gone.name);
        if let Some(moved) = self.queues.get(place) {
            self.places.insert(moved.name.clone(), place);
        }
    }

    /// `None` when the stream was removed under us.
    fn put_to_stream(
        &mut self,
        delivery: &Delivery<'_>,
        to: &Endpoint<'_>,
        body: &[u8],
    ) -> Result<Option<Outcome>, PublishError> {
        if !self.streams.contains_key(to.name) {
            let opened = Arc::clone(&delivery.topic.host).stream(to.name);
            let producer = match opened.and_then(|stream| stream.producer()) {
                Ok(producer) => producer,
                Err(error) => return not_opened(error).map(Some),
            };
            if self.streams.len() >= MOST_OPEN {
                self.streams.clear();
            }
            self.streams.insert(to.name.to_owned(), producer);
        }
        let producer = self.streams.get_mut(to.name).expect("it is open");
        let parsed = delivery.parsed;
        let key = match parsed.said.group {
            Some(group) => group,
            None => id_text(&mut self.id, parsed.id),
        };
        let data = if to.raw { body } else { &self.wrapped };
        match producer.put_within(&PutRecord::new(key, data), Duration::ZERO) {
            Ok(_) => Ok(Some(Outcome::Delivered)),
            Err(
                PutError::Removed
                | PutError::Open(OpenError::NotFound { .. } | OpenError::Removed { .. }),
            ) => {
                self.streams.remove(to.name);
                Ok(None)
            }
            Err(PutError::Forked) => Err(PublishError::Forked),
            Err(PutError::InvalidPartitionKey { .. } | PutError::TooLarge { .. }) => {
                Ok(Some(Outcome::Never))
            }
            Err(_) => Ok(Some(Outcome::NotNow)),
        }
    }
}

fn id_text(text: &mut String, id: MessageId) -> &str {
    text.clear();
    let _ = write!(text, "{id}");
    text
}

fn not_opened(error: OpenError) -> Result<Outcome, PublishError> {
    match error {
        OpenError::Forked => Err(PublishError::Forked),
        // No descriptor, no memory, no room, no right to, a disk that fails: another time, or somebody else. So it
        // is with a bus that nobody has opened since the machine was started, or that has no entry left, and
        // with what is just being removed: then there is none at the next look.
        OpenError::Io { .. }
        | OpenError::NoSpace { .. }
        | OpenError::Permission { .. }
        | OpenError::Journal(_)
        | OpenError::OtherBoot { .. }
        | OpenError::TooManyParticipants { .. }
        | OpenError::Removed { .. } => Ok(Outcome::NotNow),
        OpenError::NotFound { .. } => Ok(Outcome::Missing),
        _ => Ok(Outcome::Never),
    }
}

/// Whether the same send may work later.
pub(super) fn is_for_now(error: &QueueSendError) -> bool {
    matches!(
        error,
        QueueSendError::Full { .. }
            | QueueSendError::OverQuota { .. }
            | QueueSendError::OverDiskQuota { .. }
            | QueueSendError::DedupFull { .. }
            | QueueSendError::PoolExhausted { .. }
            | QueueSendError::NoSpace { .. }
            | QueueSendError::NotOnDisk { .. }
            | QueueSendError::DurabilityUnknown { .. }
            | QueueSendError::Growth(_)
            | QueueSendError::Pool(_)
    )
}

impl QueueTarget {
    fn open(topic: &TopicInner, name: &str) -> Result<Result<Self, Outcome>, PublishError> {
        let (queue, gate) = match Arc::clone(&topic.host).queue(name) {
            Ok(found) => found,
            Err(error) => return not_opened(error).map(Err),
        };
        let Ok(sender) = queue.sender() else {
            return Ok(Err(Outcome::NotNow)); // removed just now: the next attempt sees it
        };
        let definition = queue.definition();
        let policies = gate.policies();
        let mut target = Self {
            name: name.to_owned(),
            id: queue.id(),
            gate,
            policies,
            is_admitted: None,
            sender,
            is_fifo: definition.kind == QueueKind::Fifo,
            deduplicates: definition.dedup.is_some(),
        };
        target.ask(topic);
        Ok(Ok(target))
    }

    /// Whether the queue takes messages from this topic; `None` when nobody can say now.
    #[inline]
    fn admits(&mut self, topic: &TopicInner) -> Option<bool> {
        let policies = self.gate.policies();
        if policies != self.policies || self.is_admitted.is_none() {
            self.policies = policies;
            self.ask(topic);
        }
        self.is_admitted
    }

    #[cold]
    fn ask(&mut self, topic: &TopicInner) {
        let queue = self.name.rsplit('/').next().unwrap_or_default();
        let bus = topic.host.bus();
        self.is_admitted = self.gate.admits(queue, self.id, bus, &topic.name);
    }

    fn send<'a>(
        &mut self,
        delivery: &'a Delivery<'_>,
        mut message: Outgoing<'a>,
        id: &'a mut String,
    ) -> Result<(), QueueSendError> {
        let parsed = delivery.parsed;
        let said = &parsed.said;
        if let Some(header) = said.trace_header {
            message = message.trace_header(header);
        }
        match said.group {
            Some(group) => message = message.group(group),
            None if self.is_fifo => message = message.group(&delivery.topic.name),
            None => {}
        }
        if self.is_fifo && self.deduplicates {
            let own = id_text(id, parsed.id);
            // A replay is not a repeat of what was published: it counts by the message alone.
            let said = said.dedup_id.filter(|_| !delivery.is_replayed);
            let id = said.unwrap_or(own);
            return self.sender.send_message(&message.dedup_id(id)).map(drop);
        }
        self.sender.send_message(&message).map(drop)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn what_can_be_opened_another_time_is_not_given_up() {
        let path = || std::path::PathBuf::from("west/q");
        let error = || io::Error::from(io::ErrorKind::PermissionDenied);
        for for_now in [
            OpenError::OtherBoot { path: path() },
            OpenError::Removed { path: path() },
            OpenError::TooManyParticipants { limit: 1022 },
            OpenError::io(path(), error()),
        ] {
            let said = for_now.to_string();
            assert_eq!(not_opened(for_now).unwrap(), Outcome::NotNow, "{said}");
        }
        let missing = OpenError::NotFound { path: path() };
        assert_eq!(not_opened(missing).unwrap(), Outcome::Missing);
        let damaged = OpenError::OtherBus { path: path() };
        assert_eq!(not_opened(damaged).unwrap(), Outcome::Never);
        assert!(matches!(
            not_opened(OpenError::Forked),
            Err(PublishError::Forked)
        ));
    }
}
