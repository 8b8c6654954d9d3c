//! What a subscription is to be, and whether it can be: checked before anything is written.

use super::delivery::DeliveryPolicy;
use super::filter::{Policy, PolicyLimits, Scope};
use super::replay::Replay;
use super::subscription::{Protocol, Subscription};
use super::{TopicDefinition, TopicKind};
use crate::error::SubscribeError;

/// What a subscription is to be.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    subscription: Subscription,
    limits: PolicyLimits,
    replay: Option<String>,
}

impl SubscribeOptions {
    /// The queue of that name gets every message, as a JSON notification. `BUS/QUEUE` is one of another bus under
    /// the same root; so it is with streams and dead-letter queues.
    pub fn new(queue: &str) -> Self {
        Self::to(Protocol::Queue, queue)
    }

    /// The stream of that name gets every message: its partition key is the message group, or the message's
    /// id where there is none. Attributes are in the notification alone; of a message that is delivered twice
    /// a stream has two records.
    pub fn to_stream(stream: &str) -> Self {
        Self::to(Protocol::Stream, stream)
    }

    /// The queue of that name gets every message, for commands that `ringway topic exec` runs.
    pub fn to_exec(queue: &str) -> Self {
        Self::to(Protocol::Exec, queue)
    }

    /// The queue of that name gets every message, for files that `ringway topic firehose` writes.
    pub fn to_firehose(queue: &str) -> Self {
        Self::to(Protocol::Firehose, queue)
    }

    /// What it delivers to.
    pub fn protocol(&self) -> Protocol {
        self.subscription.protocol
    }

    fn to(protocol: Protocol, endpoint: &str) -> Self {
        Self {
            subscription: Subscription {
                id: 0,
                protocol,
                endpoint: endpoint.to_owned(),
                raw: false,
                dead_letter: None,
                filter: None,
                scope: Scope::Attributes,
                delivery_policy: None,
                replay: None,
                replay_until: 0,
            },
            limits: PolicyLimits::SNS,
            replay: None,
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

    /// When deliveries that failed are tried again (`DeliveryPolicy`), a [`DeliveryPolicy`] as JSON. Default: after
    /// 20 ms, 40 ms, … 20 s, 50,000 times; in a FIFO topic 500 times.
    #[must_use]
    pub fn delivery_policy(mut self, policy: &str) -> Self {
        self.subscription.delivery_policy = Some(policy.to_owned());
        self
    }

    /// What of the topic's archive it gets first (`ReplayPolicy`), a [`Replay`] as JSON. Default: nothing.
    #[must_use]
    pub fn replay(mut self, policy: &str) -> Self {
        self.replay = Some(policy.to_owned());
        self
    }

    /// The subscription, if all that is said of it holds.
    pub(super) fn check(&self, topic: &TopicDefinition) -> Result<Subscription, SubscribeError> {
        let mut subscription = self.subscription.clone();
        if let Some(text) = &subscription.filter {
            Policy::parse(text, subscription.scope, &self.limits)
                .map_err(|error| SubscribeError::Policy(Box::new(error)))?;
        }
        if let Some(text) = &subscription.delivery_policy {
            DeliveryPolicy::parse(text)
                .map_err(|reason| SubscribeError::DeliveryPolicy { reason })?;
        }
        if let Some(text) = &self.replay {
            let replay = Replay::parse(text).map_err(|reason| SubscribeError::Replay { reason })?;
            if topic.kind != TopicKind::Fifo || topic.archive_days == 0 {
                let reason = "Invalid parameter: ReplayPolicy: the topic has no archive; create a FIFO topic with one".to_owned();
                return Err(SubscribeError::Replay { reason });
            }
            subscription.replay = Some(replay);
        }
        Ok(subscription)
    }
}
