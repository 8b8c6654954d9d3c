//! Topics: opening, counting, subscriptions.

use crate::argument::{self, How, choice, given, switch};
use crate::bus::BusHandle;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared};
use crate::layout::{
    FIRST_TOPIC_STATS, Subscription, SubscriptionConfig, TopicConfig, TopicStats, name_in,
};
use crate::queue::durability;
use core::ffi::{c_char, c_void};
use ringway::filter::Scope;
use ringway::{Bus, Protocol, ReplayStatus, SubscribeOptions, SubscriptionState, Topic};

pub struct TopicHandle(pub Topic);

fn open(bus: &Bus, name: &str, config: Option<TopicConfig>) -> Result<Topic, Failure> {
    let mut builder = bus.topic(name);
    let mut how = How::OpenOrCreate;
    if let Some(config) = config {
        how = argument::how(config.how)?;
        if let Some(slots) = given(config.listen_slots) {
            builder = builder.listen_slots(slots);
        }
        if let Some(days) = given(config.archive_days) {
            // More than there may be are refused by the core, with the rule.
            builder = builder.archive_days(u32::try_from(days).unwrap_or(u32::MAX));
        }
        if let Some(slots) = given(config.archive_slots) {
            builder = builder.archive_slots(slots);
        }
        if let Some(durability) = durability(config.durability)? {
            builder = builder.durability(durability);
        }
        if choice(config.kind, &[(1, false), (2, true)], "kind")? == Some(true) {
            builder = builder.fifo();
        }
    }
    Ok(match how {
        How::OpenOrCreate => builder.open_or_create()?,
        How::Open => builder.open()?,
        How::Create => builder.create()?,
    })
}

/// Where a filter policy looks.
pub fn scope(field: i32) -> Result<Option<Scope>, Failure> {
    choice(field, &[(1, Scope::Attributes), (2, Scope::Body)], "scope")
}

fn options(config: &SubscriptionConfig) -> Result<SubscribeOptions, Failure> {
    let endpoint = argument::text(config.endpoint, "endpoint")?;
    let protocols = [
        (1, Protocol::Queue),
        (2, Protocol::Stream),
        (3, Protocol::Exec),
        (4, Protocol::Firehose),
    ];
    let mut options = match choice(config.protocol, &protocols, "protocol")? {
        Some(Protocol::Stream) => SubscribeOptions::to_stream(endpoint),
        Some(Protocol::Exec) => SubscribeOptions::to_exec(endpoint),
        Some(Protocol::Firehose) => SubscribeOptions::to_firehose(endpoint),
        _ => SubscribeOptions::new(endpoint),
    };
    if let Some(policy) = argument::optional_text(config.filter, "filter")? {
        options = options.filter(policy);
    }
    if let Some(queue) = argument::optional_text(config.dead_letter, "dead_letter")? {
        options = options.dead_letter(queue);
    }
    if let Some(policy) = argument::optional_text(config.delivery_policy, "delivery_policy")? {
        options = options.delivery_policy(policy);
    }
    if let Some(policy) = argument::optional_text(config.replay, "replay")? {
        options = options.replay(policy);
    }
    if let Some(scope) = scope(config.scope)? {
        options = options.scope(scope);
    }
    if let Some(raw) = switch(config.raw, "raw")? {
        options = options.raw(raw);
    }
    Ok(options)
}

fn subscription_out(state: &SubscriptionState) -> Subscription {
    let SubscriptionState {
        subscription,
        stats,
        replay,
    } = state;
    Subscription {
        id: subscription.id,
        delivered: stats.delivered,
        retried: stats.retried,
        dead_lettered: stats.dead_lettered,
        failed: stats.failed,
        protocol: match subscription.protocol {
            Protocol::Queue => 1,
            Protocol::Stream => 2,
            Protocol::Exec => 3,
            Protocol::Firehose => 4,
            _ => 0,
        },
        scope: match (&subscription.filter, subscription.scope) {
            (None, _) => 0,
            (Some(_), Scope::Body) => 2,
            (Some(_), _) => 1,
        },
        raw: if subscription.raw { 1 } else { 2 },
        replay: match replay {
            None => 0,
            Some(ReplayStatus::Pending) => 1,
            Some(ReplayStatus::InProgress) => 2,
            Some(ReplayStatus::Completed) => 3,
        },
        endpoint: name_in(&subscription.endpoint),
        dead_letter: name_in(subscription.dead_letter.as_deref().unwrap_or_default()),
    }
}

fn stats(topic: &Topic) -> Result<TopicStats, Failure> {
    let stats = topic.stats()?;
    Ok(TopicStats {
        subscriptions: stats.subscriptions,
        listeners: stats.listeners,
        waiting: stats.waiting,
        published: stats.published,
        delivered: stats.delivered,
        retried: stats.retried,
        dead_lettered: stats.dead_lettered,
        failed: stats.failed,
        damaged: stats.damaged,
    })
}

abi! {
    /// Opens or creates a topic.
    fn ringway_topic_open(
        bus: *const c_void,
        name: *const c_char,
        config: *const TopicConfig,
        topic: *mut *mut c_void,
    ) {
        let topic = argument::out(topic, "topic")?;
        let name = argument::text(name, "name")?;
        let config = argument::sized(config, "config")?;
        let opened = open(&shared::<BusHandle>(bus)?.0, name, config)?;
        topic.write(keep(TopicHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Counters of a topic.
    fn ringway_topic_stats(topic: *const c_void, result: *mut TopicStats, size: usize) {
        let stats = stats(&shared::<TopicHandle>(topic)?.0)?;
        argument::write_known(&stats, FIRST_TOPIC_STATS, result, size, "stats")
    }

    /// Subscribes a queue.
    fn ringway_topic_subscribe(
        topic: *const c_void,
        config: *const SubscriptionConfig,
        id: *mut u64,
    ) {
        let id = argument::optional(id, "id")?;
        let config = argument::sized(config, "config")?;
        let config = config.ok_or_else(|| Failure::new(Code::Argument, "config is NULL"))?;
        let number = shared::<TopicHandle>(topic)?.0.subscribe(&options(&config)?)?;
        if let Some(id) = id {
            id.write(number);
        }
        Ok(Code::Ok)
    }

    /// Ends a subscription.
    fn ringway_topic_unsubscribe(topic: *const c_void, id: u64) {
        shared::<TopicHandle>(topic)?.0.unsubscribe(id)?;
        Ok(Code::Ok)
    }

    /// Lists the subscriptions.
    fn ringway_topic_subscriptions(
        topic: *const c_void,
        subscriptions: *mut Subscription,
        capacity: usize,
        count: *mut usize,
    ) {
        let room = argument::room(subscriptions, capacity, "subscriptions")?;
        let count = argument::out(count, "count")?;
        let found = shared::<TopicHandle>(topic)?.0.subscription_states()?;
        for (place, subscription) in room.iter_mut().zip(&found) {
            place.write(subscription_out(subscription));
        }
        count.write(found.len());
        Ok(Code::Ok)
    }
}
