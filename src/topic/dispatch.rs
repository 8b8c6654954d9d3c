//! Handing on what was published: from the topic's transit queue to every subscription that wants it.
//!
//! Anybody may, at the same time as others; the lease on a message says whose it is
//! (docs/decisions/0027 has the states). A message is deleted from the transit when every subscription
//! has it, or a retry of its own, or a place in its dead-letter queue, or a tick that brings it from the
//! [archive](super::archive). Dying anywhere leaves it to the next.

use super::TopicInner;
use super::archive::Archive;
use super::filter::FilterMessage;
use super::message::{self, MessageId, Parsed, readdress};
use super::subscription::{Known, Protocol, Subscriptions};
use super::target::{Delivery, Endpoint, Outcome, Targets, is_for_now};
use crate::error::{OpenError, PublishError, QueueSendError, ReceiveError, SettleError};
use crate::layout::topic::{counters, words};
use crate::queue::{Incoming, QueueKind, QueueReceiver, QueueSender, Received};
use crate::sync::Ordering;
use crate::sys::clock::{self, Deadline};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a message is leased from the transit.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// A lease that is older is renewed before the next delivery.
const RENEW_AFTER_NS: u64 = LEASE.as_nanos() as u64 / 2;
/// Messages between two looks at the clock of who hands on for a time.
const AT_ONCE: usize = 64;
/// The first pause of a retry; each next is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Attempts of one delivery in a standard topic: twelve days of pauses.
const MAX_ATTEMPTS: u32 = 50_000;
/// Receives of one message in a FIFO topic, well below those after which a queue parks it.
pub(super) const MAX_RECEIVES: u16 = 500;
/// Deliveries of one message to a standard topic between two looks whether the lease on it lasts.
const LOOK_EVERY: usize = 8;
/// Deliveries ahead of which the slot is asked for: as many lines as a core can wait for at a time.
const AHEAD: usize = 6;
/// Messages of which it is kept who has got them while somebody else holds them up.
const MOST_HELD: usize = 1024;

/// Hands on what is published to a topic.
///
/// Every [`Publisher`](super::Publisher) does so by itself; a dispatcher is for whoever wants to do it beside
/// them, or for what a killed one left. May move to another thread, is not shared.
pub struct Dispatcher {
    pub(super) topic: Arc<TopicInner>,
    pub(super) subscriptions: Subscriptions,
    transit: Option<Transit>,
    pub(super) targets: Targets,
    pub(super) archive: Option<Archive>,
    /// Ticks that it has sent behind what it hands on.
    pub(super) ticks: u32,
    /// Whether it has looked for subscriptions that nobody feeds.
    is_swept: bool,
    /// Messages that are held up by somebody, and who has got them: nobody shall get them again. Kept by
    /// this process alone; another may deliver once more.
    held: FxHashMap<MessageId, Vec<u64>>,
    /// When the lease on the message in hand was taken or renewed, at the latest, by the coarse clock.
    leased_ns: u64,
    incoming: Incoming,
    wanting: Vec<u64>,
    pub(super) bytes: Vec<u8>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    /// Everybody has it.
    On,
    /// It has to wait for somebody.
    HeldUp,
    /// Its lease is over: it is somebody else's.
    Over,
}

/// The topic's own queue, open.
struct Transit {
    is_fifo: bool,
    sender: QueueSender,
    receiver: QueueReceiver,
}

impl Dispatcher {
    pub(super) fn new(topic: Arc<TopicInner>) -> Result<Self, OpenError> {
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(&topic)?;
        Ok(Self {
            topic,
            subscriptions,
            transit: None,
            targets: Targets::default(),
            archive: None,
            ticks: 0,
            is_swept: false,
            held: FxHashMap::default(),
            leased_ns: 0,
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
        if !core::mem::replace(&mut self.is_swept, true) {
            self.tick_all()?;
        }
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
        // What was archived meanwhile is behind it.
        for _ in 0..core::mem::take(&mut self.ticks) {
            self.dispatch_one()?;
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
            // What is published faster than it is handed on must not keep it here.
            let handed_on = self.dispatch(AT_ONCE)?;
            done += handed_on;
            if handed_on == AT_ONCE && !deadline.passed() {
                continue;
            }
            if handed_on == AT_ONCE {
                return Ok(done);
            }
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
        self.leased_ns = clock::coarse();
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
        if parsed.is_tick {
            self.replay(received, &parsed)?;
            return Ok(parsed.id);
        }
        let texts = match parsed.said.per_protocol {
            true => message::texts(parsed.said.body),
            false => None,
        };
        let default = texts.as_ref().and_then(|texts| texts["default"].as_str());
        let mut wanting = core::mem::take(&mut self.wanting);
        wanting.clear();
        match parsed.target {
            Some(id) => wanting.push(id),
            None => wanting.extend_from_slice(self.subscriptions.wanting(&FilterMessage {
                attributes: parsed.said.attributes,
                body: default.map_or(parsed.said.body, str::as_bytes),
            })),
        }
        let topic = Arc::clone(&self.topic);
        let delivery = Delivery {
            number: self.targets.next_number(),
            topic: &topic,
            parsed: &parsed,
            texts: texts.as_ref(),
            is_replayed: false,
        };
        let outcome = self.deliver_all(received, &delivery, bytes, &wanting);
        self.wanting = wanting;
        match outcome? {
            Handed::HeldUp => self.put_off(received)?,
            Handed::On => self.settle(received)?,
            Handed::Over => {}
        }
        Ok(parsed.id)
    }

    /// Delivers to all of `wanting`, as long as the lease on the message lasts: who stood still may find that
    /// another has gone on, and must not deliver behind him.
    fn deliver_all(
        &mut self,
        received: &Received,
        delivery: &Delivery<'_>,
        bytes: &[u8],
        wanting: &[u64],
    ) -> Result<Handed, PublishError> {
        let id = delivery.parsed.id;
        let mut served = self.held.remove(&id);
        if served.is_none() && delivery.parsed.target.is_none() {
            self.keep(bytes)?;
        }
        let (mut delivered, mut held_up) = (0, false);
        let (mut failed, mut is_over) = (None, false);
        let bytes_ahead = match wanting.len() {
            0 | 1 => None,
            _ => Some(delivery.parsed.said.encoded_bytes()),
        };
        if let Some(bytes) = bytes_ahead {
            wanting
                .iter()
                .take(AHEAD)
                .for_each(|id| self.ask_ahead(*id, bytes));
        }
        // In a standard topic who stood still delivers twice, which may be at any time; in a FIFO topic behind
        // what came later.
        let look_every = if self.transit()?.is_fifo {
            1
        } else {
            LOOK_EVERY
        };
        let mut look_in = 0;
        for (number, to) in wanting.iter().enumerate() {
            if let (Some(bytes), Some(id)) = (bytes_ahead, wanting.get(number + AHEAD)) {
                self.ask_ahead(*id, bytes);
            }
            if served.as_ref().is_some_and(|served| served.contains(to)) {
                continue;
            }
            if look_in == 0 {
                look_in = look_every;
                is_over = !self.has_lease(received)?;
                if is_over {
                    break;
                }
            }
            look_in -= 1;
            match self.deliver(received, delivery, bytes, *to) {
                Ok(Outcome::NotNow) if !held_up => {
                    held_up = true;
                    let before = wanting[..number].iter().copied();
                    served.get_or_insert_default().extend(before);
                }
                Ok(Outcome::NotNow) => {}
                Ok(outcome) => {
                    delivered += u64::from(outcome == Outcome::Delivered);
                    if held_up {
                        served.get_or_insert_default().push(*to);
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if delivered > 0 {
            self.count(words::DELIVERED, delivered);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if is_over {
            return Ok(Handed::Over);
        }
        if let (true, Some(served)) = (held_up, served) {
            if self.held.len() >= MOST_HELD {
                self.held.clear();
            }
            self.held.insert(id, served);
        }
        Ok(match held_up {
            true => Handed::HeldUp,
            false => Handed::On,
        })
    }

    /// Asks for the slot that the message will go into, of a queue that is open here: while the deliveries before it
    /// are made its lines travel.
    #[inline]
    fn ask_ahead(&self, id: u64, bytes: usize) {
        if let Some(known) = self.subscriptions.get(id) {
            self.targets.ask_ahead(&endpoint(known), bytes);
        }
    }

    /// One delivery, with what follows where it can't be made now or ever. `NotNow` only where the
    /// message itself has to wait.
    fn deliver(
        &mut self,
        received: &Received,
        delivery: &Delivery<'_>,
        bytes: &[u8],
        id: u64,
    ) -> Result<Outcome, PublishError> {
        let Some(known) = self.subscriptions.get(id) else {
            return Ok(Outcome::Elsewhere); // unsubscribed meanwhile
        };
        let is_fed = known.subscription.replay.is_some();
        let sent = match is_fed {
            true => Outcome::Elsewhere,
            false => self.targets.send(delivery, &endpoint(known))?,
        };
        let sent = self.resolve(sent, known, counters::DELIVERED);
        if sent == Outcome::Delivered {
            self.subscriptions.count(known, counters::DELIVERED);
            return Ok(sent);
        }
        let known = Arc::clone(known);
        if is_fed {
            // It is in the archive, and comes from there.
            return match self.send_tick(id) {
                Ok(()) => Ok(Outcome::Elsewhere),
                Err(PublishError::Transit(error)) if is_for_now(&error) => Ok(Outcome::NotNow),
                Err(error) => Err(error),
            };
        }
        match sent {
            Outcome::NotNow => self.not_now(received, delivery, bytes, &known),
            _ => self.give_up(delivery, &known),
        }
    }

    /// What follows where an endpoint is not there: it is waited for, or never comes. `counter` counts what it
    /// has got.
    pub(super) fn resolve(&self, sent: Outcome, known: &Known, counter: usize) -> Outcome {
        match sent {
            Outcome::Missing if self.subscriptions.is_awaited(known, counter) => Outcome::NotNow,
            Outcome::Missing => Outcome::Never,
            other => other,
        }
    }

    /// An endpoint has no room: a retry, or the end of them.
    fn not_now(
        &mut self,
        received: &Received,
        delivery: &Delivery<'_>,
        bytes: &[u8],
        known: &Known,
    ) -> Result<Outcome, PublishError> {
        if self.transit()?.is_fifo {
            let failed = u32::from(received.receives()).saturating_sub(1);
            let is_over = match &known.delivery_policy {
                Some(policy) => policy.delay(failed).is_none(),
                None => received.receives() >= MAX_RECEIVES,
            };
            return match is_over {
                true => self.give_up(delivery, known),
                false => {
                    self.subscriptions.count(known, counters::RETRIED);
                    Ok(Outcome::NotNow)
                }
            };
        }
        let attempts = delivery.parsed.attempts;
        let delay = match &known.delivery_policy {
            Some(policy) => policy.delay(attempts),
            None => (attempts < MAX_ATTEMPTS).then(|| pause(attempts)),
        };
        match delay {
            Some(delay) => self.retry(known, attempts, bytes, delay),
            None => self.give_up(delivery, known),
        }
    }

    /// Sends the message to this one subscription once more, later.
    fn retry(
        &mut self,
        known: &Known,
        attempts: u32,
        bytes: &[u8],
        delay: Duration,
    ) -> Result<Outcome, PublishError> {
        let mut again = core::mem::take(&mut self.bytes);
        readdress(bytes, known.subscription.id, attempts + 1, &mut again);
        let sent = self
            .sender()
            .map(|sender| sender.send_delayed(&again, delay));
        self.bytes = again;
        match sent? {
            Ok(_) => {
                self.count(words::RETRIED, 1);
                self.subscriptions.count(known, counters::RETRIED);
                Ok(Outcome::Elsewhere)
            }
            // No room for a retry: then it is this message that waits, for all that want it.
            Err(error) if is_for_now(&error) => Ok(Outcome::NotNow),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn give_up(
        &mut self,
        delivery: &Delivery<'_>,
        known: &Known,
    ) -> Result<Outcome, PublishError> {
        let subscription = &known.subscription;
        let sent = match &subscription.dead_letter {
            Some(queue) => {
                let to = Endpoint {
                    protocol: Protocol::Queue,
                    name: queue,
                    raw: subscription.raw,
                    place: None,
                };
                let sent = self.targets.send(delivery, &to)?;
                self.resolve(sent, known, counters::DEAD_LETTERED)
            }
            None => Outcome::Never,
        };
        let (word, counter) = match sent {
            Outcome::Delivered => (words::DEAD_LETTERED, counters::DEAD_LETTERED),
            Outcome::NotNow => return Ok(Outcome::NotNow),
            Outcome::Never | Outcome::Missing | Outcome::Elsewhere => {
                (words::FAILED, counters::FAILED)
            }
        };
        self.count(word, 1);
        self.subscriptions.count(known, counter);
        Ok(Outcome::Elsewhere)
    }

    pub(super) fn count(&self, counter: usize, by: u64) {
        self.topic.word(counter).fetch_add(by, Ordering::Relaxed);
    }

    /// Whether the lease is still this dispatcher's; it is renewed when that is due.
    pub(super) fn has_lease(&mut self, received: &Received) -> Result<bool, PublishError> {
        let now = clock::coarse();
        if now.saturating_sub(self.leased_ns) <= RENEW_AFTER_NS {
            return Ok(true);
        }
        let receiver = &mut self.transit()?.receiver;
        match receiver.change_visibility(&received.receipt, LEASE) {
            Ok(()) => {
                self.leased_ns = now;
                Ok(true)
            }
            Err(SettleError::Forked) => Err(PublishError::Forked),
            Err(_) => Ok(false),
        }
    }

    pub(super) fn put_off(&mut self, received: &Received) -> Result<(), PublishError> {
        let receiver = &mut self.transit()?.receiver;
        let delay = pause(received.receives().into());
        settled(receiver.nack(&received.receipt, delay))
    }

    pub(super) fn settle(&mut self, received: &Received) -> Result<(), PublishError> {
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

pub(super) fn endpoint(known: &Known) -> Endpoint<'_> {
    Endpoint {
        protocol: known.subscription.protocol,
        name: &known.subscription.endpoint,
        raw: known.subscription.raw,
        place: Some(&known.place),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::Publication;
    use super::*;
    use crate::{Bus, SubscribeOptions};
    use ringway_harness::TempBus;

    fn publish(dispatcher: &mut Dispatcher, number: u64) {
        let mut bytes = Vec::new();
        Publication::new(b"m").encode(MessageId([7, number]), 1, &mut bytes);
        dispatcher.sender().unwrap().send(&bytes).unwrap();
    }

    #[test]
    fn who_stood_still_while_another_handed_a_message_on_does_not_hand_it_on_again() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        let queue = bus.queue("q").slots(1024).create().unwrap();
        let topic = bus.topic("t").create().unwrap();
        topic.subscribe(&SubscribeOptions::new("q")).unwrap();
        let mut stopped = topic.dispatcher().unwrap();
        publish(&mut stopped, 1);
        let mut incoming = Incoming::new();
        let receiver = &mut stopped.transit().unwrap().receiver;
        let received = receiver.receive_message(&mut incoming).unwrap().unwrap();
        // Its lease ends, and another goes on.
        receiver.nack(&received.receipt, Duration::ZERO).unwrap();
        assert_eq!(topic.dispatcher().unwrap().dispatch(1).unwrap(), 1);
        assert_eq!(queue.stats().visible, 1);
        stopped.leased_ns = 0;
        stopped.hand_on(&received, incoming.body()).unwrap();
        assert_eq!(queue.stats().visible, 1, "it was handed on already");
    }

    #[test]
    fn who_hands_on_for_a_time_comes_back_although_there_is_more() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        bus.queue("q").slots(1024).create().unwrap();
        let topic = bus.topic("t").create().unwrap();
        topic.subscribe(&SubscribeOptions::new("q")).unwrap();
        let mut dispatcher = topic.dispatcher().unwrap();
        for number in 0..3 * AT_ONCE as u64 {
            publish(&mut dispatcher, number);
        }
        assert_eq!(dispatcher.dispatch_within(Duration::ZERO).unwrap(), AT_ONCE);
    }
}
