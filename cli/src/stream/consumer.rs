//! Registered consumers of a stream, for people and as JSON.

use super::Named;
use crate::find;
use crate::output::{Place, Usage};
use ringway::{ConsumerError, ConsumerInfo, ConsumerPolicy, Stream};
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(clap::Args)]
pub struct Register {
    #[command(flatten)]
    named: Named,
    /// 1 to 128 bytes of A-Z a-z 0-9 _ . -
    consumer: String,
    /// What happens when it falls behind: puts wait for it (block) or fail; or nobody waits, and it is told
    /// what it missed (drop-oldest) or loses its subscription (evict)
    #[arg(long, value_name = "WHAT", default_value = "block", value_parser = ["block", "fail", "drop-oldest", "evict"])]
    when_behind: String,
}

pub const EXAMPLES: &str = "Examples:
  ringway stream register demo trucks billing
  ringway stream register demo trucks dashboard --when-behind drop-oldest
  ringway read demo trucks --consumer dashboard --follow
  ringway stream consumers demo trucks
  ringway stream deregister demo trucks billing
At most 20 at a time. Each is handed everything, whoever else reads.";

pub fn register(args: &Register, place: &Place) -> anyhow::Result<()> {
    let (_bus, stream) = args.named.open(place)?;
    let policy = match args.when_behind.as_str() {
        "fail" => ConsumerPolicy::Fail,
        "drop-oldest" => ConsumerPolicy::DropOldest,
        "evict" => ConsumerPolicy::Evict,
        _ => ConsumerPolicy::Block,
    };
    let consumer = stream.register_consumer(&args.consumer, policy);
    let consumer = consumer.map_err(|error| match error {
        ConsumerError::InvalidName { .. } | ConsumerError::DropsOldest => {
            anyhow::Error::from(Usage(error.to_string()))
        }
        other => other.into(),
    })?;
    let json = json!({"registered": consumer.name(), "when_behind": word(policy)});
    place.say(json, || {
        format!("registered {}: behind, {}", args.consumer, meaning(policy))
    });
    Ok(())
}

pub fn deregister(stream: &Stream, name: &str, place: &Place) -> anyhow::Result<()> {
    if !stream.deregister_consumer(name)? {
        let known = stream.consumers()?.into_iter().map(|known| known.name);
        let near = find::near(name, &known.collect::<Vec<_>>());
        anyhow::bail!(
            "there is no consumer {name:?} of stream {:?}{near}; `ringway stream consumers` lists them",
            stream.name()
        );
    }
    place.say(json!({"deregistered": name}), || {
        format!("deregistered {name}")
    });
    Ok(())
}

pub fn list(stream: &Stream, place: &Place) -> anyhow::Result<()> {
    let consumers = stream.consumers()?;
    place.say(consumers.iter().map(json).collect(), || {
        if consumers.is_empty() {
            return format!("no consumer is registered with {}", stream.name());
        }
        table(&consumers)
    });
    Ok(())
}

pub fn json(consumer: &ConsumerInfo) -> Value {
    json!({
        "consumer": consumer.name, "when_behind": word(consumer.policy),
        "registered_ms": consumer.registered_ms,
        "subscriber": consumer.subscriber.map(|by| by.0), "behind": consumer.behind,
        "records": consumer.records, "bytes": consumer.bytes, "gaps": consumer.gaps,
        "lost": consumer.lost, "waits": consumer.waits, "refusals": consumer.refusals,
        "evictions": consumer.evictions, "subscriptions": consumer.subscriptions,
    })
}

pub fn table(consumers: &[ConsumerInfo]) -> String {
    let mut text = format!(
        "{:<24} {:<11} {:>12} {:>10} {:>8} {:>10} {:>7} {:>8} {:>8}  subscriber",
        "consumer",
        "when behind",
        "records",
        "behind",
        "gaps",
        "lost",
        "waits",
        "refusals",
        "evicted"
    );
    for consumer in consumers {
        let subscriber = consumer
            .subscriber
            .map_or("nobody".to_owned(), |by| by.to_string());
        let _ = write!(
            text,
            "\n{:<24} {:<11} {:>12} {:>10} {:>8} {:>10} {:>7} {:>8} {:>8}  {subscriber}",
            consumer.name,
            word(consumer.policy),
            consumer.records,
            consumer.behind,
            consumer.gaps,
            consumer.lost,
            consumer.waits,
            consumer.refusals,
            consumer.evictions,
        );
    }
    text
}

fn word(policy: ConsumerPolicy) -> &'static str {
    match policy {
        ConsumerPolicy::Block => "block",
        ConsumerPolicy::Fail => "fail",
        ConsumerPolicy::DropOldest => "drop-oldest",
        ConsumerPolicy::Evict => "evict",
    }
}

fn meaning(policy: ConsumerPolicy) -> &'static str {
    match policy {
        ConsumerPolicy::Block => "puts wait for it",
        ConsumerPolicy::Fail => "puts fail",
        ConsumerPolicy::DropOldest => "it is told what it missed",
        ConsumerPolicy::Evict => "it loses its subscription",
    }
}
