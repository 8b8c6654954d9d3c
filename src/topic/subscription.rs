//! Subscriptions: what each asks for, and this process's copy of all of a topic's.
//!
//! The log owns the facts ([`super::log`]); the copy follows it, before each message, by one load where
//! nothing is new. What a record says is input: one that is no subscription is counted and skipped.

use super::delivery::DeliveryPolicy;
use super::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use super::log::{Entry, Log};
use super::replay::{Replay, ReplayStatus};
use super::{TopicInner, log};
use crate::error::OpenError;
use crate::layout::topic::{RECORD_SUBSCRIBE, RECORD_UNSUBSCRIBE, counters, words};
use crate::ring::Liveness;
use crate::sync::{self, AtomicU64, Ordering};
use crate::sys::{clock, file};
use core::sync::atomic::AtomicUsize;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a queue or stream that is not there is waited for behind a restart of the machine, from the topic's
/// first use on: as long as SNS lets all retries of a delivery policy take
/// (docs/decisions/0074).
const AWAITED_MS: u64 = 3_600_000;

/// What a subscription delivers to (`Protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// A queue (`sqs`).
    #[default]
    Queue,
    /// A stream (`kinesis`): the partition key is the message group, or where there is none the message's id.
    Stream,
    /// A queue whose messages are given to a command (`lambda`), by `ringway topic exec`.
    Exec,
    /// A queue whose messages end in files (`firehose`), by `ringway topic firehose`.
    Firehose,
}

impl Protocol {
    /// Its name in `MessageStructure` json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "sqs",
            Self::Stream => "kinesis",
            Self::Exec => "lambda",
            Self::Firehose => "firehose",
        }
    }

    /// The field of a record that names the endpoint.
    fn field(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Stream => "stream",
            Self::Exec => "exec",
            Self::Firehose => "firehose",
        }
    }
}

/// What a subscription to a topic asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its number.
    pub id: u64,
    /// What it delivers to.
    pub protocol: Protocol,
    /// The queue or stream that gets the messages (`Endpoint`); `BUS/NAME` is one of another bus.
    pub endpoint: String,
    /// Whether it gets bodies and attributes as they were published (`RawMessageDelivery`), instead of a
    /// JSON notification.
    pub raw: bool,
    /// The queue for what can't be delivered (`RedrivePolicy`).
    pub dead_letter: Option<String>,
    /// Which messages it wants (`FilterPolicy`), as JSON.
    pub filter: Option<String>,
    /// Where the policy looks (`FilterPolicyScope`).
    pub scope: Scope,
    /// When deliveries that failed are tried again (`DeliveryPolicy`), as JSON.
    pub delivery_policy: Option<String>,
    /// What of the archive it gets first (`ReplayPolicy`).
    pub replay: Option<Replay>,
    /// With a replay: the place in the archive from which on everything is newer than it.
    pub(super) replay_until: u64,
}

/// What has become of a subscription's messages. Counters grow while it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Delivered.
    pub delivered: u64,
    /// Put off.
    pub retried: u64,
    /// Sent to its dead-letter queue.
    pub dead_lettered: u64,
    /// Given up.
    pub failed: u64,
}

/// A subscription, what has become of its messages, and how far its replay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// What it asks for.
    pub subscription: Subscription,
    /// What has become of its messages.
    pub stats: SubscriptionStats,
    /// How far its replay is; `None` when it began without one.
    pub replay: Option<ReplayStatus>,
}

impl Subscription {
    pub(super) fn to_json(&self) -> Vec<u8> {
        let scope = match self.scope {
            Scope::Attributes => "MessageAttributes",
            Scope::Body => "MessageBody",
        };
        let mut object = json!({"raw": self.raw});
        object[self.protocol.field()] = self.endpoint.as_str().into();
        if let Some(dead_letter) = &self.dead_letter {
            object["dead_letter"] = dead_letter.as_str().into();
        }
        if let Some(filter) = &self.filter {
            object["filter"] = filter.as_str().into();
            object["scope"] = scope.into();
        }
        if let Some(policy) = &self.delivery_policy {
            object["delivery_policy"] = policy.as_str().into();
        }
        if let Some(replay) = &self.replay {
            object["replay_until"] = self.replay_until.into();
            object["replay_from_ms"] = replay.from_ms.into();
            if let Some(to_ms) = replay.to_ms {
                object["replay_to_ms"] = to_ms.into();
            }
        }
        object.to_string().into_bytes()
    }

    fn of_json(id: u64, json: &[u8]) -> Option<Self> {
        let object: Value = serde_json::from_slice(json).ok()?;
        let text = |field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
        let number = |field: &str| object.get(field).and_then(Value::as_u64);
        let protocols = [
            Protocol::Queue,
            Protocol::Stream,
            Protocol::Exec,
            Protocol::Firehose,
        ];
        let (protocol, endpoint) = protocols
            .into_iter()
            .find_map(|protocol| Some((protocol, text(protocol.field())?)))?;
        Some(Self {
            id,
            protocol,
            endpoint,
            raw: object.get("raw").and_then(Value::as_bool)?,
            dead_letter: text("dead_letter"),
            filter: text("filter"),
            scope: match text("scope").as_deref() {
                Some("MessageBody") => Scope::Body,
                _ => Scope::Attributes,
            },
            delivery_policy: text("delivery_policy"),
            replay: number("replay_from_ms").map(|from_ms| Replay {
                from_ms,
                to_ms: number("replay_to_ms"),
            }),
            replay_until: number("replay_until").unwrap_or(0),
        })
    }

    /// Its policy, if it has one that is one.
    fn policy(&self) -> Option<Option<Policy>> {
        let Some(text) = &self.filter else {
            return Some(None);
        };
        // Its limits were checked when it was made.
        let policy = Policy::parse(text, self.scope, &PolicyLimits::NONE);
        policy.ok().map(Some)
    }
}

/// A subscription as this process knows it.
pub(super) struct Known {
    pub subscription: Subscription,
    pub delivery_policy: Option<DeliveryPolicy>,
    /// Where its counters lie in the log.
    counters: Option<usize>,
    /// When it was made again from a disk, in ms since boot, if it was.
    made_again_ms: Option<u64>,
    /// Where its queue was open last, among the targets of this process.
    pub place: AtomicUsize,
}

/// All subscriptions of a topic, as far as the log was read.
pub(super) struct Subscriptions {
    log: Option<Log>,
    by_id: FxHashMap<u64, Arc<Known>>,
    /// Those that are fed from the archive.
    fed: Vec<u64>,
    /// Those that ended while records before theirs are still to be committed: theirs may be among these.
    ended: Vec<u64>,
    index: FilterIndex,
    matches: Matches,
}

impl Subscriptions {
    pub fn new() -> Self {
        Self {
            log: None,
            by_id: FxHashMap::default(),
            fed: Vec::new(),
            ended: Vec::new(),
            index: FilterIndex::new(),
            matches: Matches::new(),
        }
    }

    /// The log, made if there is none.
    pub fn log(&mut self, topic: &TopicInner) -> Result<&mut Log, OpenError> {
        let path = log::path(topic.host.site(), &topic.part);
        if topic.word(words::SUBSCRIBED).load(Ordering::Acquire) == 0 {
            log::create(topic.host.site(), &path, topic.id)?;
            sync::fence(Ordering::SeqCst); // the file before the mark: its remover has the opposite order
            if topic.is_removed() {
                let _ = file::remove(&path);
                return Err(topic.removed());
            }
            topic.word(words::SUBSCRIBED).store(1, Ordering::Release);
        }
        match &mut self.log {
            Some(log) => Ok(log),
            none => Ok(none.insert(Log::open(topic.host.site(), path, topic.id)?)),
        }
    }

    /// Reads what was changed since. Where nothing was: one or two loads.
    #[inline]
    pub fn follow(&mut self, topic: &TopicInner) -> Result<(), OpenError> {
        match &self.log {
            Some(log) if !log.has_news() => Ok(()),
            None if topic.word(words::SUBSCRIBED).load(Ordering::Acquire) == 0 => Ok(()),
            _ => self.read(topic),
        }
    }

    /// Whether there is none, and nothing was changed since that was read: two loads.
    #[inline]
    pub fn are_none(&self, topic: &TopicInner) -> bool {
        let has_news = match &self.log {
            Some(log) => log.has_news(),
            None => topic.word(words::SUBSCRIBED).load(Ordering::Acquire) != 0,
        };
        self.by_id.is_empty() && !has_news
    }

    #[cold]
    fn read(&mut self, topic: &TopicInner) -> Result<(), OpenError> {
        self.log(topic)?;
        let Some(mut log) = self.log.take() else {
            return Ok(());
        };
        let mut damaged = 0;
        let liveness: &dyn Liveness = &*topic.host;
        let read = log.read(liveness, |entry| damaged += u64::from(!self.apply(&entry)));
        if !log.is_pending() {
            self.ended.clear();
        }
        self.log = Some(log);
        damaged += read?.damaged;
        if damaged > 0 {
            topic
                .word(words::DAMAGED)
                .fetch_add(damaged, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the record was one.
    fn apply(&mut self, entry: &Entry<'_>) -> bool {
        match entry.kind {
            // It was committed late, and its end was read before it.
            RECORD_SUBSCRIBE if self.ended.contains(&entry.id) => true,
            RECORD_SUBSCRIBE => {
                let Some(subscription) = Subscription::of_json(entry.id, entry.json) else {
                    return false;
                };
                let Some(policy) = subscription.policy() else {
                    return false;
                };
                let delivery_policy = subscription.delivery_policy.as_deref();
                let Ok(delivery_policy) = delivery_policy.map(DeliveryPolicy::parse).transpose()
                else {
                    return false;
                };
                self.index.insert(entry.id, policy.as_ref());
                self.fed.retain(|id| *id != entry.id);
                if subscription.replay.is_some() {
                    self.fed.push(entry.id);
                }
                let known = Known {
                    subscription,
                    delivery_policy,
                    counters: entry.counters,
                    made_again_ms: entry.made_again_ms,
                    place: AtomicUsize::new(0),
                };
                self.by_id.insert(entry.id, Arc::new(known));
                true
            }
            RECORD_UNSUBSCRIBE => {
                self.index.remove(entry.id);
                self.fed.retain(|id| *id != entry.id);
                if self.by_id.remove(&entry.id).is_none() {
                    self.ended.push(entry.id);
                }
                true
            }
            _ => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn get(&self, id: u64) -> Option<&Arc<Known>> {
        self.by_id.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.by_id.values()
    }

    /// Those that want a message.
    pub fn wanting(&mut self, message: &FilterMessage<'_>) -> &[u64] {
        self.index.matches(message, &mut self.matches)
    }

    /// Those that are fed from the archive.
    pub fn fed(&self) -> &[u64] {
        &self.fed
    }

    /// One of a subscription's words, [`counters`].
    pub fn counter(&self, known: &Known, which: usize) -> Option<&AtomicU64> {
        self.log.as_ref()?.counter(known.counters?, which)
    }

    /// Adds one to a subscription's counter.
    #[inline]
    pub fn count(&self, known: &Known, which: usize) {
        if let Some(counter) = self.counter(known, which) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a queue or stream that is not there may be one that nobody has made again behind a restart:
    /// then it has not got anything since, which `which` counts.
    pub fn is_awaited(&self, known: &Known, which: usize) -> bool {
        let since = |at| clock::boot_ms().wrapping_sub(at); // a time to come is none
        let is_early = known.made_again_ms.is_some_and(|at| since(at) < AWAITED_MS);
        let had = self.counter(known, which);
        is_early && had.is_some_and(|had| had.load(Ordering::Relaxed) == 0)
    }

    pub fn stats(&self, known: &Known) -> SubscriptionStats {
        let count = |which| {
            let counter = self.counter(known, which);
            counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        SubscriptionStats {
            delivered: count(counters::DELIVERED),
            retried: count(counters::RETRIED),
            dead_lettered: count(counters::DEAD_LETTERED),
            failed: count(counters::FAILED),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::PAGE;
    use crate::layout::topic::RecordWord;
    use crate::sys::mapping::{MapOptions, Mapping};
    use crate::{Bus, SubscribeOptions};
    use ringway_harness::TempBus;

    #[test]
    fn a_subscription_that_ended_before_its_record_was_seen_stays_ended() {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("late").root(root.path()).create().unwrap();
        bus.queue("q").slots(1024).create().unwrap();
        let topic = bus.topic("t").create().unwrap();
        let id = topic.subscribe(&SubscribeOptions::new("q")).unwrap();
        topic.unsubscribe(id).unwrap();
        let log = log::path(topic.inner.host.site(), &topic.inner.part);
        let log = file::open(&log).unwrap();
        let log = Mapping::new(&log, MapOptions::default()).unwrap();
        let word = crate::shm::words::word64(&log, PAGE);
        let committed = RecordWord(word.load(Ordering::Acquire));
        // As a reader finds it that looks at the record before its commit, stands still, and goes on to the end
        // of the log.
        word.store(
            committed.with_state(RecordWord::CLAIMED).0,
            Ordering::Release,
        );
        let mut subscriptions = Subscriptions::new();
        subscriptions.follow(&topic.inner).unwrap();
        word.store(committed.0, Ordering::Release);
        subscriptions.follow(&topic.inner).unwrap();
        assert_eq!(
            subscriptions.all().count(),
            0,
            "nobody can end it once more"
        );
    }
}
