//! Handing on what was published: from the topic's transit queue to every subscription that wants it.
//!
//! Anybody may, at the same time as others; the lease on a message says whose it is
//! (docs/decisions/0027 has the states). A message is deleted from the transit when every subscription
//! has it, or a retry of its own, or a place in its dead-letter queue. Dying anywhere leaves it to the next.

use super::TopicInner;
use super::filter::FilterMessage;
use super::message::{MessageId, Parsed, Publication, readdress};
use super::notification;
use super::subscription::{Subscription, Subscriptions};
use crate::error::{OpenError, PublishError, QueueSendError, ReceiveError, SettleError};
use crate::layout::topic::words;
use crate::queue::{Incoming, Outgoing, QueueKind, QueueReceiver, QueueSender, Received};
use crate::sync::Ordering;
use crate::sys::clock::Deadline;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

/// How long a message is leased from the transit.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// Deliveries between two looks at whether the lease is about to end.
const LOOK_EVERY: usize = 256;
/// The first pause of a retry; each next is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Attempts of one delivery in a standard topic: twelve days of pauses.
const MAX_ATTEMPTS: u32 = 50_000;
/// Receives of one message in a FIFO topic, well below those after which a queue parks it.
const MAX_RECEIVES: u16 = 500;
/// Open queues that are kept.
const MOST_OPEN: usize = 1024;

/// Hands on what is published to a topic.
///
/// Every [`Publisher`](super::Publisher) does so by itself; a dispatcher is for whoever wants to do it beside
/// them, or for what a killed one left. May move to another thread, is not shared.
pub struct Dispatcher {
    pub(super) topic: Arc<TopicInner>,
    pub(super) subscriptions: Subscriptions,
    transit: Option<Transit>,
    targets: Targets,
    incoming: Incoming,
    wanting: Vec<u64>,
    bytes: Vec<u8>,
}

/// The topic's own queue, open.
struct Transit {
    is_fifo: bool,
    sender: QueueSender,
    receiver: QueueReceiver,
}

/// The queues of subscriptions, open.
struct Targets {
    open: HashMap<String, Target>,
    wrapped: Vec<u8>,
    id: String,
}

struct Target {
    sender: QueueSender,
    is_fifo: bool,
    deduplicates: bool,
}

/// What became of one delivery.
enum Outcome {
    Delivered,
    /// There is no room now.
    NotNow,
    /// It will never be possible.
    Never,
    /// It went another way: a retry, a dead-letter queue, or nowhere, and was counted.
    Elsewhere,
}

/// Everything that a delivery needs to know of a message.
struct Delivery<'a> {
    topic: &'a TopicInner,
    parsed: &'a Parsed<'a>,
}

impl Dispatcher {
    pub(super) fn new(topic: Arc<TopicInner>) -> Result<Self, OpenError> {
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(&topic)?;
        Ok(Self {
            topic,
            subscriptions,
            transit: None,
            targets: Targets {
                open: HashMap::new(),
                wrapped: Vec::new(),
                id: String::new(),
            },
            incoming: Incoming::new(),
            wanting: Vec::new(),
            bytes: Vec::new(),
        })
    }

    fn transit(&mut self) -> Result<&mut Transit, PublishError> {
        if self.transit.is_none() {
            let queue = Arc::clone(&self.topic.host).transit(&self.topic)?;
            let mut receiver = queue.receiver()?;
            receiver.set_visibility(LEASE).map_err(receive_error)?;
            self.transit = Some(Transit {
                is_fifo: queue.definition().kind == QueueKind::Fifo,
                sender: queue.sender()?,
                receiver,
            });
        }
        Ok(self.transit.as_mut().expect("set above"))
    }

    /// The sender into the transit.
    pub(super) fn sender(&mut self) -> Result<&mut QueueSender, PublishError> {
        Ok(&mut self.transit()?.sender)
    }

    /// Hands on up to `most` messages that wait; how many. Never blocks.
    ///
    /// # Errors
    /// When the topic's own queue can't be opened, or the topic or the handle is gone. What is wrong with a
    /// subscription's queue is no error: it is retried, or goes to its dead-letter queue.
    pub fn dispatch(&mut self, most: usize) -> Result<usize, PublishError> {
        self.topic.check()?;
        let mut done = 0;
        while done < most && self.dispatch_one()?.is_some() {
            done += 1;
        }
        Ok(done)
    }

    /// Hands on up to `most` messages, and none behind `last`: a receive that finds nothing looks at
    /// hundreds of slots, and who has just published knows when it is done.
    pub(super) fn dispatch_to(&mut self, last: MessageId, most: usize) -> Result<(), PublishError> {
        for _ in 0..most {
            match self.dispatch_one()? {
                Some(id) if id != last => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// Hands on what is published, for so long. Blocks; wakes for each message.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch).
    pub fn dispatch_within(&mut self, time: Duration) -> Result<usize, PublishError> {
        let deadline = Deadline::after(time);
        let mut done = 0;
        loop {
            done += self.dispatch(usize::MAX)?;
            let transit = self.transit()?;
            let woken = transit.receiver.wait(deadline.remaining());
            if !woken.map_err(receive_error)? && deadline.passed() {
                return Ok(done);
            }
        }
    }

    /// The id of the message that was handed on; all zero of what was none.
    fn dispatch_one(&mut self) -> Result<Option<MessageId>, PublishError> {
        let mut incoming = core::mem::take(&mut self.incoming);
        let received = self.transit()?.receiver.receive_message(&mut incoming);
        let handed_on = match received {
            Ok(Some(received)) => self.hand_on(&received, incoming.body()).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(receive_error(error)),
        };
        self.incoming = incoming;
        handed_on
    }

    /// Delivers one leased message.
    fn hand_on(&mut self, received: &Received, bytes: &[u8]) -> Result<MessageId, PublishError> {
        let Some(parsed) = Parsed::of(bytes) else {
            self.count(words::DAMAGED, 1);
            return self.settle(received).map(|()| MessageId([0; 2]));
        };
        // Behind the receive: a subscription that was made before the message was published is in the
        // log by now, and its record's word is seen.
        self.subscriptions.follow(&self.topic)?;
        let mut wanting = core::mem::take(&mut self.wanting);
        wanting.clear();
        match parsed.target {
            Some(id) => wanting.push(id),
            None => wanting.extend_from_slice(self.subscriptions.wanting(&FilterMessage {
                attributes: parsed.said.attributes,
                body: parsed.said.body,
            })),
        }
        let mut renew_at = Deadline::after(LEASE / 2);
        let (mut delivered, mut held_up) = (0, false);
        let mut outcome = Ok(());
        for (number, id) in wanting.iter().enumerate() {
            if number % LOOK_EVERY == LOOK_EVERY - 1 && renew_at.passed() {
                self.renew(received)?;
                renew_at = Deadline::after(LEASE / 2);
            }
            match self.deliver(received, &parsed, bytes, *id) {
                Ok(Outcome::Delivered) => delivered += 1,
                Ok(Outcome::NotNow) => held_up = true,
                Ok(Outcome::Never | Outcome::Elsewhere) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.wanting = wanting;
        if delivered > 0 {
            self.count(words::DELIVERED, delivered);
        }
        outcome?;
        match held_up {
            true => self.put_off(received)?,
            false => self.settle(received)?,
        }
        Ok(parsed.id)
    }

    /// One delivery, with what follows where it can't be made now or ever. `NotNow` only where the
    /// message itself has to wait.
    fn deliver(
        &mut self,
        received: &Received,
        parsed: &Parsed<'_>,
        bytes: &[u8],
        id: u64,
    ) -> Result<Outcome, PublishError> {
        let Some(subscription) = self.subscriptions.get(id).cloned() else {
            return Ok(Outcome::Elsewhere); // unsubscribed meanwhile
        };
        let topic = Arc::clone(&self.topic);
        let delivery = Delivery {
            topic: &topic,
            parsed,
        };
        let outcome = self
            .targets
            .send(&delivery, &subscription.queue, subscription.raw)?;
        let is_fifo = self.transit()?.is_fifo;
        match outcome {
            Outcome::Delivered => Ok(Outcome::Delivered),
            Outcome::NotNow if is_fifo && received.receives() < MAX_RECEIVES => Ok(Outcome::NotNow),
            Outcome::NotNow if !is_fifo && parsed.attempts < MAX_ATTEMPTS => {
                self.retry(parsed, bytes, id)
            }
            _ => self.give_up(&delivery, &subscription),
        }
    }

    /// Sends the message to this one subscription once more, later.
    fn retry(
        &mut self,
        parsed: &Parsed<'_>,
        bytes: &[u8],
        id: u64,
    ) -> Result<Outcome, PublishError> {
        let mut again = core::mem::take(&mut self.bytes);
        readdress(bytes, id, parsed.attempts + 1, &mut again);
        let delay = pause(parsed.attempts);
        let sent = self.sender()?.send_delayed(&again, delay);
        self.bytes = again;
        match sent {
            Ok(_) => {
                self.count(words::RETRIED, 1);
                Ok(Outcome::Elsewhere)
            }
            // No room for a retry: then it is this message that waits, for all that want it.
            Err(error) if is_for_now(&error) => Ok(Outcome::NotNow),
            Err(error) => Err(error.into()),
        }
    }

    fn give_up(
        &mut self,
        delivery: &Delivery<'_>,
        subscription: &Subscription,
    ) -> Result<Outcome, PublishError> {
        let dead_letter = subscription.dead_letter.as_deref();
        let sent = match dead_letter {
            Some(queue) => self.targets.send(delivery, queue, subscription.raw)?,
            None => Outcome::Never,
        };
        match sent {
            Outcome::Delivered => self.count(words::DEAD_LETTERED, 1),
            Outcome::NotNow => return Ok(Outcome::NotNow),
            Outcome::Never | Outcome::Elsewhere => self.count(words::FAILED, 1),
        }
        Ok(Outcome::Elsewhere)
    }

    fn count(&self, counter: usize, by: u64) {
        self.topic.word(counter).fetch_add(by, Ordering::Relaxed);
    }

    fn renew(&mut self, received: &Received) -> Result<(), PublishError> {
        let receiver = &mut self.transit()?.receiver;
        settled(receiver.change_visibility(&received.receipt, LEASE))
    }

    fn put_off(&mut self, received: &Received) -> Result<(), PublishError> {
        let receiver = &mut self.transit()?.receiver;
        let delay = pause(received.receives().into());
        settled(receiver.nack(&received.receipt, delay))
    }

    fn settle(&mut self, received: &Received) -> Result<(), PublishError> {
        let receiver = &mut self.transit()?.receiver;
        settled(receiver.delete(&received.receipt).map(drop))
    }
}

/// A lease that is over is somebody else's by now: he goes on with the message.
fn settled(outcome: Result<(), SettleError>) -> Result<(), PublishError> {
    match outcome {
        Err(SettleError::Forked) => Err(PublishError::Forked),
        _ => Ok(()),
    }
}

fn receive_error(error: ReceiveError) -> PublishError {
    match error {
        ReceiveError::Forked => PublishError::Forked,
        ReceiveError::Removed => PublishError::Removed,
        ReceiveError::Unlinked => PublishError::Transit(QueueSendError::Unlinked),
        ReceiveError::Stale => PublishError::Transit(QueueSendError::Stale),
        other => PublishError::Transit(QueueSendError::Pool(other.to_string())),
    }
}

fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << attempts.min(16))
        .min(LONGEST_PAUSE)
}

/// Whether the same send may work later.
fn is_for_now(error: &QueueSendError) -> bool {
    matches!(
        error,
        QueueSendError::Full { .. }
            | QueueSendError::OverQuota { .. }
            | QueueSendError::DedupFull { .. }
            | QueueSendError::PoolExhausted { .. }
            | QueueSendError::NoSpace { .. }
            | QueueSendError::Growth(_)
            | QueueSendError::Pool(_)
    )
}

impl Targets {
    /// Sends a message to the queue of that name.
    fn send(
        &mut self,
        delivery: &Delivery<'_>,
        queue: &str,
        raw: bool,
    ) -> Result<Outcome, PublishError> {
        // A queue that was removed may be there again.
        for _ in 0..2 {
            let target = match self.open.entry(queue.to_owned()) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(vacant) => match Target::open(delivery.topic, queue)? {
                    Ok(target) => vacant.insert(target),
                    Err(outcome) => return Ok(outcome),
                },
            };
            let said = &delivery.parsed.said;
            let sent = target.send(delivery, said, raw, &mut self.wrapped, &mut self.id);
            match sent {
                Ok(()) => {
                    if self.open.len() > MOST_OPEN {
                        self.open.clear();
                    }
                    return Ok(Outcome::Delivered);
                }
                Err(QueueSendError::Removed | QueueSendError::Unlinked) => {
                    self.open.remove(queue);
                }
                Err(QueueSendError::Forked) => return Err(PublishError::Forked),
                Err(error @ QueueSendError::Stale) => return Err(error.into()),
                Err(error) if is_for_now(&error) => return Ok(Outcome::NotNow),
                Err(_) => return Ok(Outcome::Never),
            }
        }
        Ok(Outcome::Never)
    }
}

impl Target {
    fn open(topic: &TopicInner, name: &str) -> Result<Result<Self, Outcome>, PublishError> {
        let opened = Arc::clone(&topic.host).queue(name);
        let queue = match opened {
            Ok(queue) => queue,
            Err(OpenError::Forked) => return Err(PublishError::Forked),
            // No descriptor, no memory: another time.
            Err(OpenError::Io { .. }) => return Ok(Err(Outcome::NotNow)),
            Err(_) => return Ok(Err(Outcome::Never)),
        };
        let Ok(sender) = queue.sender() else {
            return Ok(Err(Outcome::NotNow)); // removed just now: the next attempt sees it
        };
        let definition = queue.definition();
        Ok(Ok(Self {
            sender,
            is_fifo: definition.kind == QueueKind::Fifo,
            deduplicates: definition.dedup.is_some(),
        }))
    }

    fn send(
        &mut self,
        delivery: &Delivery<'_>,
        said: &Publication<'_>,
        raw: bool,
        wrapped: &mut Vec<u8>,
        id: &mut String,
    ) -> Result<(), QueueSendError> {
        use core::fmt::Write;
        let parsed = delivery.parsed;
        let mut message = match raw {
            true => Outgoing::new(said.body).attributes_ref(said.attributes),
            false => {
                let (id, published_ms) = (parsed.id, parsed.published_ms);
                notification::wrap(&delivery.topic.name, id, published_ms, said, wrapped);
                Outgoing::new(wrapped)
            }
        };
        if let Some(header) = said.trace_header {
            message = message.trace_header(header);
        }
        match said.group {
            Some(group) => message = message.group(group),
            None if self.is_fifo => message = message.group(&delivery.topic.name),
            None => {}
        }
        if self.is_fifo && self.deduplicates {
            id.clear();
            let _ = write!(id, "{}", parsed.id);
            message = message.dedup_id(said.dedup_id.unwrap_or(id));
        }
        self.sender.send_message(&message).map(drop)
    }
}
