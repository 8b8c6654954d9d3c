//! The survivor's book of a topic: what it and the victim publish to two queues, a standard and a FIFO
//! one, and a third that the victim may subscribe.
//!
//! There may be a listener beside them.
//!
//! What it insists on: a message arrives in all subscribed queues or in none, in all if it was
//! acknowledged, whole, and in the FIFO queue once; whoever publishes beside a stopped victim is not held up;
//! a listener hears what is acknowledged, and nothing that the queues don't get; in the end nothing waits in the
//! topic.

use crate::operations::VICTIM;
use crate::stage::{INLINE, QUEUE_STRIDE, SLOTS, body, id_of, text};
use ringway::{
    Bus, Heard, ListenOptions, ListenPolicy, Listener, Publication, PublishError, Publisher, Queue,
    QueueReceiver, SubscribeOptions, Topic,
};
use ringway_harness::{AckBoard, deadline};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The topic, and the queues: standard, FIFO, and the one that is subscribed by the victim.
pub const TOPIC: &str = "news";
pub const QUEUES: [&str; 3] = ["plain", "ordered", "late"];
const FIFO: usize = 1;
/// Acknowledges that the victim has subscribed.
pub const SUBSCRIBED: usize = 5;
/// Acknowledges that it has unsubscribed.
pub const UNSUBSCRIBED: usize = 6;
/// Ids of the survivor's messages.
const OURS: u64 = 3 << 32;

pub struct Published {
    topic: Topic,
    publisher: Publisher,
    queues: Vec<Queue>,
    receivers: Vec<QueueReceiver>,
    sent: u64,
    /// How often each message came out of each queue.
    arrived: [BTreeMap<u64, u64>; 3],
    listener: Option<Listener>,
    heard: BTreeSet<u64>,
}

impl Published {
    pub fn new(bus: &Bus) -> Result<Self, String> {
        let topic = bus.topic(TOPIC).listen_slots(SLOTS);
        let topic = topic.create().map_err(text)?;
        let mut queues = Vec::new();
        for (number, name) in QUEUES.iter().enumerate() {
            let builder = bus.queue(name).slots(SLOTS);
            let queue = match number == FIFO {
                true => builder.fifo(),
                false => builder.stride(QUEUE_STRIDE),
            };
            queues.push(queue.create().map_err(text)?);
            if number < 2 {
                topic.subscribe(&options(name)).map_err(text)?;
            }
        }
        let receivers = queues.iter().map(|queue| queue.receiver().map_err(text));
        Ok(Self {
            publisher: topic.publisher().map_err(text)?,
            receivers: receivers.collect::<Result<_, _>>()?,
            topic,
            queues,
            sent: 0,
            arrived: Default::default(),
            listener: None,
            heard: BTreeSet::new(),
        })
    }

    /// Somebody listens, too, and misses nothing.
    pub fn listen(mut self) -> Result<Self, String> {
        let options = ListenOptions::new().policy(ListenPolicy::Block);
        self.listener = Some(self.topic.listen_with(&options).map_err(text)?);
        self.publisher.set_patience(Duration::ZERO);
        Ok(self)
    }

    /// The third queue is subscribed, too.
    pub fn subscribe_late(self) -> Result<Self, String> {
        self.topic.subscribe(&options(QUEUES[2])).map_err(text)?;
        Ok(self)
    }

    /// Messages that nobody has handed on yet.
    pub fn leave(&mut self, messages: u64) -> Result<(), String> {
        self.publisher.leave_to_others(true);
        for _ in 0..messages {
            self.publish()?;
        }
        self.publisher.leave_to_others(false);
        Ok(())
    }

    fn publish(&mut self) -> Result<u64, String> {
        let id = OURS + self.sent;
        let body = body(id, INLINE);
        let start = Instant::now();
        loop {
            match self.publisher.publish(&Publication::new(&body)) {
                // By a listener that waits for a claim of the victim.
                Err(PublishError::HeldUp { .. }) if start.elapsed() < deadline() => self.drain()?,
                published => break published.map(drop).map_err(text)?,
            }
        }
        self.sent += 1;
        Ok(id)
    }

    fn drain(&mut self) -> Result<(), String> {
        let mut buffer = [0; 1024];
        if let Some(listener) = &mut self.listener {
            let each = |heard: &Heard<'_>| id_of(heard.body());
            while let Some(id) = listener.hear_in_place(each).map_err(text)? {
                self.heard.insert(id?);
            }
        }
        for (receiver, arrived) in self.receivers.iter_mut().zip(&mut self.arrived) {
            while let Some(taken) = receiver.receive_and_delete(&mut buffer).map_err(text)? {
                *arrived.entry(id_of(&buffer[..taken.len])?).or_default() += 1;
            }
        }
        Ok(())
    }

    /// One message to both queues, with the victim wherever it is.
    pub fn deliver(&mut self) -> Result<(), String> {
        let id = self.publish()?;
        let start = Instant::now();
        loop {
            self.drain()?;
            if self.arrived[..2]
                .iter()
                .all(|arrived| arrived.contains_key(&id))
            {
                return Ok(());
            }
            let moment = Duration::from_millis(1);
            let dispatcher = self.publisher.dispatcher();
            dispatcher.dispatch_within(moment).map_err(text)?;
            if start.elapsed() > deadline() {
                return Err(format!("{id:x} stays behind: {:?}", self.topic.stats()));
            }
        }
    }

    /// Twice as many messages as the transit has slots; and somebody subscribes and unsubscribes.
    pub fn go_round(&mut self) -> Result<(), String> {
        for number in 0..2 * SLOTS {
            self.publish()?;
            if number % 100 == 0 {
                self.drain()?;
            }
        }
        self.drain()?;
        let id = self.topic.subscribe(&options(QUEUES[2])).map_err(text)?;
        self.topic.unsubscribe(id).map_err(text)
    }

    /// Everything, once the victim is gone.
    pub fn settle(&mut self, acks: &AckBoard) -> Result<(), String> {
        let subscriptions = self.topic.subscriptions().map_err(text)?.len();
        let has_subscribed = acks.get(SUBSCRIBED) != 0;
        if acks.get(UNSUBSCRIBED) != 0 && subscriptions != 2 {
            return Err(format!("unsubscribed, and there are {subscriptions}"));
        }
        if subscriptions != 2 && subscriptions != 3 || (has_subscribed && subscriptions == 2) {
            return Err(format!(
                "{subscriptions} subscriptions, acknowledged: {has_subscribed}"
            ));
        }
        self.deliver()?;
        if self.listener.is_some() {
            // Payloads stay as long as their places in the ring do.
            self.go_round()?;
        }
        let start = Instant::now();
        while self.topic.stats().map_err(text)?.waiting > 0 {
            let moment = Duration::from_millis(1);
            let dispatcher = self.publisher.dispatcher();
            dispatcher.dispatch_within(moment).map_err(text)?;
            self.drain()?;
            if start.elapsed() > deadline() {
                return Err(format!("something waits: {:?}", self.topic.stats()));
            }
        }
        self.drain()?;
        let last = OURS + self.sent - 1;
        if subscriptions == 3 && !self.arrived[2].contains_key(&last) {
            return Err("the victim's subscription gets nothing".into());
        }
        self.judge(acks)?;
        for queue in &self.queues {
            let stats = queue.stats();
            if stats.visible + stats.in_flight + stats.parked + stats.damaged != 0 {
                return Err(format!("{} holds on to something: {stats:?}", queue.name()));
            }
        }
        // With the chunks that they keep.
        self.publisher = self.topic.publisher().map_err(text)?;
        self.publisher.set_patience(Duration::ZERO);
        for (queue, receiver) in self.queues.iter().zip(&mut self.receivers) {
            *receiver = queue.receiver().map_err(text)?;
        }
        Ok(())
    }

    fn judge(&self, acks: &AckBoard) -> Result<(), String> {
        let [plain, ordered, _] = &self.arrived;
        if let Some((id, times)) = ordered.iter().find(|(_, times)| **times != 1) {
            return Err(format!("{id:x} came {times} times to the FIFO queue"));
        }
        if !plain.keys().eq(ordered.keys()) {
            return Err(format!("one queue got {plain:x?}, the other {ordered:x?}"));
        }
        let is_missing = |id: &u64| !plain.contains_key(id);
        if let Some(id) = (OURS..OURS + self.sent).find(is_missing) {
            return Err(format!("message {id:x} of the survivor is lost"));
        }
        let acked = (0..SUBSCRIBED as u64).filter(|n| acks.get(*n as usize) != 0);
        let acked = acked.map(|n| VICTIM + n);
        if self.listener.is_some() {
            if let Some(id) = self.heard.iter().find(|id| !plain.contains_key(id)) {
                return Err(format!("{id:x} was heard, and no queue got it"));
            }
            let mut wanted = acked.clone().chain(OURS..OURS + self.sent);
            if let Some(id) = wanted.find(|id| !self.heard.contains(id)) {
                return Err(format!("acknowledged message {id:x} was not heard"));
            }
        }
        match acked.into_iter().find(is_missing) {
            Some(id) => Err(format!("acknowledged message {id:x} of the victim is lost")),
            None => Ok(()),
        }
    }
}

pub fn options(queue: &str) -> SubscribeOptions {
    SubscribeOptions::new(queue).raw(true)
}
