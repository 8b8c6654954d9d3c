//! L5½: topics: what is published once is delivered to every subscription that wants it (the SNS model).
//!
//! A message's life goes down these files: [`publish`] writes it into the topic's own queue, its
//! *transit*; whoever is next, mostly the publisher itself, [hands it on](dispatch) to the queues of the
//! [subscriptions](subscription) whose [`filter`] wants it, raw or as a [notification]. [`listen`] reads
//! it in place from a ring beside that. Subscriptions lie in a [log]; [`file`] is the topic itself.
//! docs/decisions/0027 has the states and what each crash leaves.

mod access;
mod archive;
mod delivery;
mod dispatch;
mod feed;
mod file;
pub mod filter;
mod kept;
mod listen;
mod log;
mod message;
mod notification;
mod options;
mod publish;
mod replay;
mod subscription;
mod target;
mod wait;

pub use access::QueuePolicy;
pub(crate) use access::{MAX_POLICY_BYTES, Source};
pub use delivery::{BackoffFunction, DeliveryPolicy};
pub use dispatch::Dispatcher;
pub(crate) use file::{
    create as create_topic, open as open_topic, open_kept as open_kept_topic, part as topic_part,
    part_of, remove as remove_topic_files, remove_marked as remove_marked_topic,
};
pub(crate) use kept::{
    create as keep_topic, names as kept_topics, read as kept_topic, recover as recover_topic,
    remove_all as remove_kept_topics, remove_damaged as remove_damaged_topic,
    take_back as take_topic_back,
};
pub use listen::{
    Heard, ListenOptions, ListenPolicy, ListenStats, Listener, ListenerInfo, Notification,
};
pub(crate) use log::PREFIX as LOG_PREFIX;
pub use message::{MessageId, Publication};
pub use options::SubscribeOptions;
pub use publish::{Published, Publisher};
pub use replay::{Replay, ReplayStatus};
pub use subscription::{Protocol, Subscription, SubscriptionState, SubscriptionStats};

use crate::channel::Channel;
use crate::error::{OpenError, PublishError, SubscribeError};
use crate::layout::topic::{RECORD_SUBSCRIBE, RECORD_UNSUBSCRIBE, words as offsets};
use crate::layout::{READY_OFFSET, REMOVED};
use crate::object::{Host, Site};
use crate::queue::{Durability, Queue, QueueKind};
use crate::shm::words;
use crate::stream::Stream;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::host;
use crate::sys::mapping::Mapping;
use std::sync::Arc;
use subscription::Subscriptions;

/// What a topic promises about order.
pub type TopicKind = QueueKind;

/// Messages of the transit that who subscribes with a replay hands on, its tick among them.
const REPLAYED_AT_ONCE: usize = 64;

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
    /// Days for which a FIFO topic keeps its messages to be replayed (`ArchivePolicy`,
    /// `MessageRetentionPeriod`), 1 to 365; 0: it does not.
    pub archive_days: u32,
    /// Slots of the archive's ring: at most so many messages are kept.
    pub archive_slots: u64,
    /// What is left of it, and of what was published and not delivered yet, behind a restart of the machine.
    pub durability: Durability,
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
    /// The ring of its archive, made if there is none.
    fn archive(self: Arc<Self>, topic: &TopicInner) -> Result<Channel, OpenError>;
    /// The name of the bus.
    fn bus(&self) -> &str;
    /// The queue of that name, `BUS/NAME` of another bus, and who says which topics it takes messages from.
    fn queue(self: Arc<Self>, name: &str) -> Result<(Queue, Arc<dyn Gate>), OpenError>;
    /// The stream of that name, `BUS/NAME` of another bus.
    fn stream(self: Arc<Self>, name: &str) -> Result<Stream, OpenError>;
}

/// Who says which topics may deliver to the queues of a bus.
pub(crate) trait Gate: Send + Sync {
    /// A word that changes when a policy does.
    fn policies(&self) -> u64;
    /// Whether the queue of that name and id takes messages from a topic of a bus; `None` when its policy can't
    /// be read now.
    fn admits(&self, queue: &str, id: u64, bus: &str, topic: &str) -> Option<bool>;
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
    /// What its parts are called, behind what says which part it is.
    pub part: String,
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

impl Topic {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How it was created.
    pub fn definition(&self) -> &TopicDefinition {
        &self.inner.definition
    }

    /// Subscribes a queue or a stream: every message whose publish begins when this has returned, and that
    /// the policy wants, is delivered to it. Never blocks, but for a replay, of which it delivers what it can at
    /// once. The subscription's number.
    ///
    /// # Errors
    /// [`SubscribeError::Policy`] says what is wrong with the filter policy, `DeliveryPolicy` and `Replay` what
    /// is with those; `Open` when there is no such queue or stream.
    pub fn subscribe(&self, options: &SubscribeOptions) -> Result<u64, SubscribeError> {
        self.check()?;
        let mut subscription = options.check(&self.inner.definition)?;
        let host = || Arc::clone(&self.inner.host);
        match subscription.protocol {
            Protocol::Stream => drop(host().stream(&subscription.endpoint)?),
            Protocol::Queue | Protocol::Exec | Protocol::Firehose => {
                drop(host().queue(&subscription.endpoint)?);
            }
        }
        if let Some(queue) = &subscription.dead_letter {
            host().queue(queue)?;
        }
        subscription.id = host::random_u64() | 1;
        if subscription.replay.is_some() {
            // What is published from now on comes behind it.
            subscription.replay_until = host().archive(&self.inner)?.stats().tail;
        }
        let json = subscription.to_json();
        self.append(subscription.id, RECORD_SUBSCRIBE, &json)?;
        if subscription.replay.is_some() {
            self.begin_replay();
        }
        Ok(subscription.id)
    }

    /// It is subscribed: what can't be done now is done by whoever publishes or dispatches next.
    fn begin_replay(&self) {
        let dispatcher = Dispatcher::new(Arc::clone(&self.inner));
        let _ = dispatcher.map(|mut dispatcher| dispatcher.dispatch(REPLAYED_AT_ONCE));
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
        // What does not fit is not written down either.
        log::record_bytes(kind, json)?;
        kept::append(&self.inner, id, kind, json)?;
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
        let all = subscriptions.all().map(|one| one.subscription.clone());
        let mut all: Vec<Subscription> = all.collect();
        all.sort_by_key(|subscription| subscription.id);
        Ok(all)
    }

    /// Every subscription, by number, with what has become of its messages, and how far its replay is. Reads
    /// the log once.
    ///
    /// # Errors
    /// As [`replay_status`](Self::replay_status).
    pub fn subscription_states(&self) -> Result<Vec<SubscriptionState>, PublishError> {
        let dispatcher = self.dispatcher()?;
        let all = dispatcher.subscriptions.all();
        let states = all.map(|known| SubscriptionState {
            subscription: known.subscription.clone(),
            stats: dispatcher.subscriptions.stats(known),
            replay: dispatcher.replay_status(known),
        });
        let mut states: Vec<SubscriptionState> = states.collect();
        states.sort_by_key(|state| state.subscription.id);
        Ok(states)
    }

    /// What has become of a subscription's messages. Reads the log.
    ///
    /// # Errors
    /// [`SubscribeError::NotFound`].
    pub fn subscription_stats(&self, id: u64) -> Result<SubscriptionStats, SubscribeError> {
        self.check()?;
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(&self.inner)?;
        let known = subscriptions
            .get(id)
            .ok_or(SubscribeError::NotFound { id })?;
        Ok(subscriptions.stats(known))
    }

    /// How far the replay of a subscription is; `None` when it began without one.
    ///
    /// # Errors
    /// When the topic is gone, or the log or the archive can't be opened; a subscription that is none has no
    /// replay.
    pub fn replay_status(&self, id: u64) -> Result<Option<ReplayStatus>, PublishError> {
        let dispatcher = self.dispatcher()?;
        let known = dispatcher.subscriptions.get(id);
        Ok(known.and_then(|known| dispatcher.replay_status(known)))
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
        self.listen_with(&ListenOptions::new())
    }

    /// Becomes a listener with a filter policy, or that is not to miss anything.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); [`PublishError::Policy`] says what is wrong with the filter policy.
    pub fn listen_with(&self, options: &ListenOptions) -> Result<Listener, PublishError> {
        Listener::new(Arc::clone(&self.inner), options)
    }

    /// The listeners there are.
    ///
    /// # Errors
    /// When their ring can't be opened.
    pub fn listeners(&self) -> Result<Vec<ListenerInfo>, PublishError> {
        self.inner.check()?;
        let topic = &self.inner;
        if topic.word(offsets::LISTENED).load(Ordering::Acquire) == 0 {
            return Ok(Vec::new());
        }
        // Who only looks makes none.
        let ring = if_there(Arc::clone(&topic.host).listeners(topic))?;
        Ok(ring.map_or_else(Vec::new, |ring| listen::infos(&ring)))
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
        let listeners = self.listeners()?.len();
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
        if self.is_removed() {
            return Err(PublishError::Removed);
        }
        Ok(())
    }

    /// Whether it was marked removed.
    pub fn is_removed(&self) -> bool {
        words::word32(&self.mapping, READY_OFFSET).load(Ordering::Relaxed) == REMOVED
    }

    /// The error of one that was.
    pub fn removed(&self) -> OpenError {
        let path = self.host.site().directory.join(&self.name);
        OpenError::Removed { path }
    }
}
