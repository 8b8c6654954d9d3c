//! Subscriptions: what each asks for, and this process's copy of all of a topic's.
//!
//! The log owns the facts ([`super::log`]); the copy follows it, before each message, by one load where
//! nothing is new. What a record says is input: one that is no subscription is counted and skipped.

use super::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use super::log::{Entry, Log};
use super::{TopicInner, log};
use crate::error::OpenError;
use crate::layout::topic::{RECORD_SUBSCRIBE, RECORD_UNSUBSCRIBE, words};
use crate::ring::Liveness;
use crate::sync::Ordering;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// What a subscription to a topic asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its number.
    pub id: u64,
    /// The queue that gets the messages, of the same bus.
    pub queue: String,
    /// Whether it gets bodies and attributes as they were published (`RawMessageDelivery`), instead of a
    /// JSON notification.
    pub raw: bool,
    /// The queue for what can't be delivered (`RedrivePolicy`).
    pub dead_letter: Option<String>,
    /// Which messages it wants (`FilterPolicy`), as JSON.
    pub filter: Option<String>,
    /// Where the policy looks (`FilterPolicyScope`).
    pub scope: Scope,
}

impl Subscription {
    pub(super) fn to_json(&self) -> Vec<u8> {
        let scope = match self.scope {
            Scope::Attributes => "MessageAttributes",
            Scope::Body => "MessageBody",
        };
        let mut object = json!({"queue": self.queue, "raw": self.raw});
        if let Some(dead_letter) = &self.dead_letter {
            object["dead_letter"] = dead_letter.as_str().into();
        }
        if let Some(filter) = &self.filter {
            object["filter"] = filter.as_str().into();
            object["scope"] = scope.into();
        }
        object.to_string().into_bytes()
    }

    fn of_json(id: u64, json: &[u8]) -> Option<Self> {
        let object: Value = serde_json::from_slice(json).ok()?;
        let text = |field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            id,
            queue: text("queue")?,
            raw: object.get("raw").and_then(Value::as_bool)?,
            dead_letter: text("dead_letter"),
            filter: text("filter"),
            scope: match text("scope").as_deref() {
                Some("MessageBody") => Scope::Body,
                _ => Scope::Attributes,
            },
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

/// All subscriptions of a topic, as far as the log was read.
pub(super) struct Subscriptions {
    log: Option<Log>,
    by_id: HashMap<u64, Arc<Subscription>>,
    index: FilterIndex,
    matches: Matches,
}

impl Subscriptions {
    pub fn new() -> Self {
        Self {
            log: None,
            by_id: HashMap::new(),
            index: FilterIndex::new(),
            matches: Matches::new(),
        }
    }

    /// The log, made if there is none.
    pub fn log(&mut self, topic: &TopicInner) -> Result<&mut Log, OpenError> {
        let path = log::path(topic.host.site(), &topic.name);
        if topic.word(words::SUBSCRIBED).load(Ordering::Acquire) == 0 {
            log::create(topic.host.site(), &path, topic.id)?;
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

    #[cold]
    fn read(&mut self, topic: &TopicInner) -> Result<(), OpenError> {
        self.log(topic)?;
        let Some(mut log) = self.log.take() else {
            return Ok(());
        };
        let mut damaged = 0;
        let liveness: &dyn Liveness = &*topic.host;
        let read = log.read(liveness, |entry| damaged += u64::from(!self.apply(&entry)));
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
            RECORD_SUBSCRIBE => {
                let Some(subscription) = Subscription::of_json(entry.id, entry.json) else {
                    return false;
                };
                let Some(policy) = subscription.policy() else {
                    return false;
                };
                self.index.insert(entry.id, policy.as_ref());
                self.by_id.insert(entry.id, Arc::new(subscription));
                true
            }
            RECORD_UNSUBSCRIBE => {
                self.index.remove(entry.id);
                self.by_id.remove(&entry.id);
                true
            }
            _ => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn get(&self, id: u64) -> Option<&Arc<Subscription>> {
        self.by_id.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.by_id.values()
    }

    /// Those that want a message.
    pub fn wanting(&mut self, message: &FilterMessage<'_>) -> &[u64] {
        self.index.matches(message, &mut self.matches)
    }
}
