//! L5½: topics: what is published once is delivered to every subscription that wants it (the SNS model).
//!
//! A message's life goes down these files: [`publish`] writes it into the topic's own queue, its
//! *transit*; whoever is next, mostly the publisher itself, [hands it on](dispatch) to the queues of the
//! [subscriptions](subscription) whose [`filter`] wants it, raw or as a [notification]. [`listen`] reads
//! it in place from a ring beside that. Subscriptions lie in a [log]; [`file`] is the topic itself.
//! docs/decisions/0027 has the states and what each crash leaves.

mod dispatch;
mod file;
pub mod filter;
mod listen;
mod log;
mod message;
mod notification;
mod publish;
mod subscription;

pub use dispatch::Dispatcher;
pub(crate) use file::{create as create_topic, open as open_topic, remove as remove_topic_files};
pub use listen::{Listener, Notification};
pub use message::{MessageId, Publication};
pub use publish::{Published, Publisher};
pub use subscription::Subscription;

use crate::channel::Channel;
use crate::error::{OpenError, PublishError, SubscribeError};
use crate::layout::topic::{RECORD_SUBSCRIBE, RECORD_UNSUBSCRIBE, words as offsets};
use crate::layout::{READY_OFFSET, REMOVED};
use crate::object::{Host, Site};
use crate::queue::{Queue, QueueKind};
use crate::shm::words;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::host;
use crate::sys::mapping::Mapping;
use filter::{Policy, PolicyLimits, Scope};
use std::sync::Arc;
use subscription::Subscriptions;

/// What a topic promises about order.
pub type TopicKind = QueueKind;

/// What a topic is: fixed at creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefinition {
    /// Its name.
    pub name: String,
    /// Standard or FIFO.
    pub kind: TopicKind,
    /// Slots of the ring of its listeners, a power of two from 1,024 to 16,777,216: so many messages a
    /// listener may be behind.
    pub listen_slots: u64,
}

/// What a topic needs of its bus beside what every object needs.
pub(crate) trait Surroundings: Host {
    /// Where topics lie.
    fn site(&self) -> &Site;
    fn me(&self) -> u16;
    /// The topic's transit, made if there is none.
    fn transit(self: Arc<Self>, topic: &TopicInner) -> Result<Queue, OpenError>;
    /// The ring of its listeners, made if there is none.
    fn listeners(self: Arc<Self>, topic: &TopicInner) -> Result<Channel, OpenError>;
    /// The queue of that name.
    fn queue(self: Arc<Self>, name: &str) -> Result<Queue, OpenError>;
}

/// A topic of a bus, open in this process.
///
/// Cheap to clone; thread-safe. After a fork every call in the child returns `Forked`: open the bus again
/// there.
///
/// ```
/// # #[cfg(feature = "topics")] {
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-topic-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// use ringway::{Attributes, Publication, SubscribeOptions};
/// let news = bus.topic("news").open_or_create()?;
/// let sport = bus.queue("sport").open_or_create()?;
/// let options = SubscribeOptions::new("sport").raw(true).filter(r#"{"kind": ["sport"]}"#);
/// news.subscribe(&options)?;
///
/// let mut publisher = news.publisher()?;
/// let mut attributes = Attributes::new();
/// attributes.string("kind", "sport")?;
/// publisher.publish(&Publication::new(b"1:0").attributes(&attributes))?;
/// publisher.publish(&Publication::new(b"nobody wants this"))?;
///
/// let mut body = [0; 64];
/// let message = sport.receiver()?.receive_and_delete(&mut body)?.expect("one message");
/// assert_eq!(&body[..message.len], b"1:0");
/// # drop((sport, publisher, news, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
#[derive(Clone)]
pub struct Topic {
    pub(crate) inner: Arc<TopicInner>,
}

pub(crate) struct TopicInner {
    pub name: String,
    pub definition: TopicDefinition,
    pub id: u64,
    pub mapping: Mapping,
    // Last: the attachment outlives everything that was made through it.
    pub host: Arc<dyn Surroundings>,
}

/// What anyone may know about a topic. Counters grow while it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicStats {
    /// Subscriptions.
    pub subscriptions: u64,
    /// Listeners.
    pub listeners: u64,
    /// Messages published. A publisher adds its own every 64, and when it closes.
    pub published: u64,
    /// Deliveries to queues (`NumberOfNotificationsDelivered`).
    pub delivered: u64,
    /// Deliveries put off because a queue had no room.
    pub retried: u64,
    /// Deliveries that went to a dead-letter queue (`NumberOfNotificationsRedrivenToDlq`).
    pub dead_lettered: u64,
    /// Deliveries that were given up (`NumberOfNotificationsFailed`).
    pub failed: u64,
    /// Messages and records that were none: somebody wrote over them.
    pub damaged: u64,
    /// Messages that wait to be handed on.
    pub waiting: u64,
}

/// What a subscription is to be.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    subscription: Subscription,
    limits: PolicyLimits,
}

impl SubscribeOptions {
    /// The queue of that name gets every message, as a JSON notification.
    pub fn new(queue: &str) -> Self {
        Self {
            subscription: Subscription {
                id: 0,
                queue: queue.to_owned(),
                raw: false,
                dead_letter: None,
                filter: None,
                scope: Scope::Attributes,
            },
            limits: PolicyLimits::SNS,
        }
    }

    /// Whether it gets bodies and attributes as they were published (`RawMessageDelivery`). Default: no.
    #[must_use]
    pub fn raw(mut self, raw: bool) -> Self {
        self.subscription.raw = raw;
        self
    }

    /// Only messages that this policy wants (`FilterPolicy`).
    #[must_use]
    pub fn filter(mut self, policy: &str) -> Self {
        self.subscription.filter = Some(policy.to_owned());
        self
    }

    /// Where the policy looks (`FilterPolicyScope`). Default: at the attributes.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.subscription.scope = scope;
        self
    }

    /// What the policy may be at most. Default: as in SNS.
    #[must_use]
    pub fn limits(mut self, limits: PolicyLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The queue for what can't be delivered (`RedrivePolicy`). Default: none, it is counted as failed.
    #[must_use]
    pub fn dead_letter(mut self, queue: &str) -> Self {
        self.subscription.dead_letter = Some(queue.to_owned());
        self
    }
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How it was created.
    pub fn definition(&self) -> &TopicDefinition {
        &self.inner.definition
    }

    /// Subscribes a queue: every message whose publish begins when this has returned, and that the policy
    /// wants, is delivered to it. Never blocks. The subscription's number.
    ///
    /// # Errors
    /// [`SubscribeError::Policy`] says what is wrong with the filter policy; `Open` when there is no such
    /// queue.
    pub fn subscribe(&self, options: &SubscribeOptions) -> Result<u64, SubscribeError> {
        self.check()?;
        let mut subscription = options.subscription.clone();
        if let Some(text) = &subscription.filter {
            let scope = subscription.scope;
            Policy::parse(text, scope, &options.limits)
                .map_err(|error| SubscribeError::Policy(Box::new(error)))?;
        }
        let queues = core::iter::once(&subscription.queue);
        for queue in queues.chain(&subscription.dead_letter) {
            Arc::clone(&self.inner.host).queue(queue)?;
        }
        subscription.id = host::random_u64() | 1;
        let json = subscription.to_json();
        self.append(subscription.id, RECORD_SUBSCRIBE, &json)?;
        Ok(subscription.id)
    }

    /// Ends a subscription. What was published before may still be delivered. Never blocks.
    ///
    /// # Errors
    /// [`SubscribeError::NotFound`].
    pub fn unsubscribe(&self, id: u64) -> Result<(), SubscribeError> {
        self.check()?;
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(&self.inner)?;
        if subscriptions.get(id).is_none() {
            return Err(SubscribeError::NotFound { id });
        }
        self.append(id, RECORD_UNSUBSCRIBE, b"")
    }

    fn append(&self, id: u64, kind: u32, json: &[u8]) -> Result<(), SubscribeError> {
        let mut subscriptions = Subscriptions::new();
        let me = self.inner.host.me();
        subscriptions.log(&self.inner)?.append(me, id, kind, json)
    }

    /// Every subscription, by number. Reads the log.
    ///
    /// # Errors
    /// When that can't be opened.
    pub fn subscriptions(&self) -> Result<Vec<Subscription>, SubscribeError> {
        self.check()?;
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(&self.inner)?;
        let mut all: Vec<Subscription> = subscriptions.all().map(|one| (**one).clone()).collect();
        all.sort_by_key(|subscription| subscription.id);
        Ok(all)
    }

    /// Becomes a publisher. Reads the subscriptions there are, which takes about 2 µs each.
    ///
    /// # Errors
    /// When the topic is gone, or a file can't be opened.
    pub fn publisher(&self) -> Result<Publisher, PublishError> {
        Publisher::new(Arc::clone(&self.inner))
    }

    /// Becomes a dispatcher.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    pub fn dispatcher(&self) -> Result<Dispatcher, PublishError> {
        self.inner.check()?;
        Ok(Dispatcher::new(Arc::clone(&self.inner))?)
    }

    /// Becomes a listener: hears every message whose publish begins when this has returned, and is told
    /// what it missed if it falls behind.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher), or there are too many listeners.
    pub fn listen(&self) -> Result<Listener, PublishError> {
        Listener::new(Arc::clone(&self.inner))
    }

    /// Counters, and what waits. Reads the log of subscriptions.
    ///
    /// # Errors
    /// When a file can't be opened.
    pub fn stats(&self) -> Result<TopicStats, PublishError> {
        self.inner.check()?;
        let topic = &self.inner;
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(topic)?;
        let is_listened = topic.word(offsets::LISTENED).load(Ordering::Acquire) != 0;
        // Who only looks makes neither, and there is none before the first use.
        let listeners = match is_listened {
            true => if_there(Arc::clone(&topic.host).listeners(topic))?,
            false => None,
        };
        let listeners = listeners.map_or(0, |ring| ring.stats().readers.len());
        let count = |offset| topic.word(offset).load(Ordering::Relaxed);
        let waiting = match subscriptions.is_empty() && count(offsets::DELIVERED) == 0 {
            true => 0,
            false => {
                let transit = if_there(Arc::clone(&topic.host).transit(topic))?;
                transit.map_or(0, |transit| {
                    let stats = transit.stats();
                    stats.visible + stats.in_flight + stats.delayed
                })
            }
        };
        Ok(TopicStats {
            subscriptions: subscriptions.all().count() as u64,
            listeners: listeners as u64,
            published: count(offsets::PUBLISHED),
            delivered: count(offsets::DELIVERED),
            retried: count(offsets::RETRIED),
            dead_lettered: count(offsets::DEAD_LETTERED),
            failed: count(offsets::FAILED),
            damaged: count(offsets::DAMAGED),
            waiting,
        })
    }

    fn check(&self) -> Result<(), SubscribeError> {
        match self.inner.check() {
            Err(PublishError::Forked) => Err(OpenError::Forked.into()),
            Err(_) => Err(SubscribeError::Removed),
            Ok(()) => Ok(()),
        }
    }
}

fn if_there<T>(opened: Result<T, OpenError>) -> Result<Option<T>, OpenError> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(OpenError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl TopicInner {
    /// One of the topic's words.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        words::word64(&self.mapping, offset)
    }

    /// Whether it is still there, and ours to use.
    pub fn check(&self) -> Result<(), PublishError> {
        if self.mapping.is_forked() {
            return Err(PublishError::Forked);
        }
        let ready = words::word32(&self.mapping, READY_OFFSET).load(Ordering::Relaxed);
        if ready == REMOVED {
            return Err(PublishError::Removed);
        }
        Ok(())
    }
}
