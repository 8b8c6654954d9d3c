//! `ringway subscribe` and `ringway unsubscribe`: queues and streams of topics.

use super::matching::{ScopeArg, given};
use super::open;
use crate::find::{self, Noun};
use crate::output::{Place, Usage};
use anyhow::{Context, anyhow};
use ringway::filter::{PolicyLimits, Scope};
use ringway::{
    Bus, OpenError, Protocol, ReplayStatus, SubscribeError, SubscribeOptions, Subscription,
    SubscriptionStats, Topic,
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Subscribe a queue or a stream to a topic: it gets every message that is published from then on
///
/// A stream's partition key is the message group, or the message's id where there is none. For commands see
/// `ringway topic exec`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// The queue; BUS/QUEUE of another bus
    #[arg(required_unless_present = "stream")]
    queue: Option<String>,
    /// A stream instead of a queue; BUS/STREAM of another bus
    #[arg(long, value_name = "STREAM", conflicts_with = "queue")]
    stream: Option<String>,
    /// Bodies and attributes as they were published, instead of JSON notifications
    #[arg(long)]
    raw: bool,
    /// Only messages that this filter policy wants; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    filter: Option<String>,
    /// What the policy looks at
    #[arg(long, value_enum, default_value = "attributes", requires = "filter")]
    scope: ScopeArg,
    /// The queue for what can't be delivered; BUS/QUEUE of another bus
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// When deliveries that failed are tried again, in the words of SNS; the policy, or the file it is in
    /// [default: after 20 ms, 40 ms, … 20 s, 50,000 times]
    #[arg(long, value_name = "JSON|FILE")]
    delivery_policy: Option<String>,
    /// What of a FIFO topic's archive comes first, in the words of SNS; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    replay: Option<String>,
    /// Accept a policy beyond the limits of SNS
    #[arg(long)]
    no_limits: bool,
}

const EXAMPLES: &str = r#"Examples:
  ringway subscribe demo news archive --raw
  ringway subscribe demo news sport --filter '{"kind": ["sport"]}' --dead-letter dead
  ringway subscribe demo news --stream history --raw
  ringway subscribe demo news west/copy
  ringway subscribe demo news slow --delivery-policy '{"healthyRetryPolicy": {"numRetries": 10}}'
  ringway subscribe demo ledger copy \
    --replay '{"PointType": "Timestamp", "StartingPoint": "2026-11-01T00:00:00Z"}'
  ringway subscribe demo news goals --scope body --filter '{"goals": [{"numeric": [">", 2]}]}'"#;

const UNSUBSCRIBE_EXAMPLES: &str = "Examples:
  id=$(ringway subscribe demo news orders)
  ringway unsubscribe demo news \"$id\"";

/// End a subscription
#[derive(clap::Args)]
#[command(after_help = UNSUBSCRIBE_EXAMPLES)]
pub struct UnsubscribeArgs {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// Its number, as `ringway subscribe` and `ringway topic stat` say it
    #[arg(value_parser = parse_id)]
    id: u64,
}

fn parse_id(text: &str) -> anyhow::Result<u64> {
    u64::from_str_radix(text, 16).with_context(|| {
        format!("{text:?} is no number of a subscription, which has 16 hexadecimal digits")
    })
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (bus, topic) = open(place, &args.bus, &args.name)?;
    let options = match (&args.stream, &args.queue) {
        (Some(stream), _) => SubscribeOptions::to_stream(stream),
        (None, queue) => SubscribeOptions::new(queue.as_deref().unwrap_or_default()),
    };
    let mut options = options.raw(args.raw).scope(args.scope.into());
    if let Some(policy) = &args.filter {
        options = options.filter(&policy_text(policy, "--filter")?);
    }
    if let Some(policy) = &args.delivery_policy {
        options = options.delivery_policy(&policy_text(policy, "--delivery-policy")?);
    }
    if let Some(policy) = &args.replay {
        options = options.replay(&policy_text(policy, "--replay")?);
    }
    if let Some(queue) = &args.dead_letter {
        options = options.dead_letter(queue);
    }
    if args.no_limits {
        options = options.limits(PolicyLimits::NONE);
    }
    let id = match topic.subscribe(&options) {
        Err(SubscribeError::Open(error)) => return Err(missing(args, place, &bus, error)),
        other => subscribed(other)?,
    };
    let id = format!("{id:016x}");
    place.say(json!({"id": id}), || id.clone());
    Ok(ExitCode::SUCCESS)
}

/// Why what is to be delivered to could not be opened, for who typed its name.
fn missing(args: &Args, place: &Place, bus: &Bus, error: OpenError) -> anyhow::Error {
    let OpenError::NotFound { path } = &error else {
        return error.into();
    };
    let missing = path.file_name().unwrap_or_default().to_string_lossy();
    let given = [&args.queue, &args.stream, &args.dead_letter];
    for wanted in given.into_iter().flatten() {
        let (other, name) = match wanted.split_once('/') {
            Some((other, name)) => (Some(other), name),
            None => (None, wanted.as_str()),
        };
        if let Some(other) = other
            && missing == format!("ringway-{other}")
        {
            return place.explain_bus(other, error);
        }
        if missing != name {
            continue;
        }
        let noun = match args.stream.as_ref() == Some(wanted) {
            true => Noun::Stream,
            false => Noun::Queue,
        };
        return match other.map(|other| place.open(other)) {
            Some(Err(error)) => error,
            Some(Ok(other)) => find::explain(&other, noun, name, error),
            None => find::explain(bus, noun, name, error),
        };
    }
    error.into()
}

/// What a command's own subscription asks for.
pub struct Wanted<'a> {
    pub endpoint: &'a str,
    pub filter: Option<&'a str>,
    pub scope: ScopeArg,
    pub no_limits: bool,
}

/// Subscribes the queue that a command receives from by `options`, unless it is.
pub fn feed(
    topic: &Topic,
    bus: &str,
    mut options: SubscribeOptions,
    wanted: &Wanted<'_>,
) -> anyhow::Result<()> {
    let protocol = options.protocol();
    let subscriptions = topic.subscriptions()?;
    let is_there = subscriptions
        .iter()
        .any(|one| one.protocol == protocol && one.endpoint == wanted.endpoint);
    if is_there {
        return match wanted.filter {
            Some(_) => Err(Usage(format!(
                "{} is subscribed already, with the filter it was given then; `ringway topic stat {bus} {}` shows it",
                wanted.endpoint,
                topic.name()
            ))
            .into()),
            None => Ok(()),
        };
    }
    options = options.scope(wanted.scope.into());
    if let Some(policy) = wanted.filter {
        options = options.filter(&policy_text(policy, "--filter")?);
    }
    if wanted.no_limits {
        options = options.limits(PolicyLimits::NONE);
    }
    subscribed(topic.subscribe(&options)).map(drop)
}

/// The number of a subscription, or an error that names the flag it comes from.
pub fn subscribed(outcome: Result<u64, SubscribeError>) -> anyhow::Result<u64> {
    match outcome {
        Err(SubscribeError::Policy(error)) => Err(Usage(format!("--filter: {error}")).into()),
        Err(error @ (SubscribeError::DeliveryPolicy { .. } | SubscribeError::Replay { .. })) => {
            Err(Usage(error.to_string()).into())
        }
        other => Ok(other?),
    }
}

/// A policy that was given as such or as a file.
pub fn policy_text(policy: &str, flag: &str) -> anyhow::Result<String> {
    let text = given(policy, flag).map_err(|error| Usage(format!("{error:#}")))?;
    let text = String::from_utf8(text);
    Ok(text.map_err(|_| Usage(format!("{flag}: it is no UTF-8")))?)
}

pub fn unsubscribe(args: &UnsubscribeArgs, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = open(place, &args.bus, &args.name)?;
    let ended = topic.unsubscribe(args.id);
    ended.map_err(|error| match error {
        SubscribeError::NotFound { .. } => anyhow!(
            "there is no subscription {:016x}; `ringway topic stat {} {}` lists them",
            args.id,
            args.bus,
            args.name
        ),
        other => other.into(),
    })?;
    let id = format!("{:016x}", args.id);
    place.say(json!({"unsubscribed": id}), || format!("unsubscribed {id}"));
    Ok(ExitCode::SUCCESS)
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Attributes => "attributes",
        Scope::Body => "body",
    }
}

/// What `ringway topic stat` shows of a subscription.
pub struct Shown {
    pub subscription: Subscription,
    pub stats: SubscriptionStats,
    pub replay: Option<ReplayStatus>,
}

/// Protocols, as people call them.
fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Queue => "queue",
        Protocol::Stream => "stream",
        Protocol::Exec => "exec",
        Protocol::Firehose => "firehose",
        _ => "unknown",
    }
}

fn replay(status: ReplayStatus) -> &'static str {
    match status {
        ReplayStatus::Pending => "Pending",
        ReplayStatus::InProgress => "In progress",
        ReplayStatus::Completed => "Completed",
    }
}

pub fn as_json(shown: &Shown) -> Value {
    let subscription = &shown.subscription;
    let parsed = |text: &Option<String>| {
        text.as_deref()
            .map(|text| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into()))
    };
    json!({
        "id": format!("{:016x}", subscription.id),
        "protocol": protocol(subscription.protocol),
        "endpoint": subscription.endpoint,
        "raw": subscription.raw,
        "dead_letter": subscription.dead_letter,
        "filter": parsed(&subscription.filter),
        "scope": scope(subscription.scope),
        "delivery_policy": parsed(&subscription.delivery_policy),
        "replay_status": shown.replay.map(replay),
        "delivered": shown.stats.delivered,
        "retried": shown.stats.retried,
        "dead_lettered": shown.stats.dead_lettered,
        "failed": shown.stats.failed,
    })
}

pub fn as_text(shown: &Shown) -> String {
    let subscription = &shown.subscription;
    let mut text = format!("{:016x}  ", subscription.id);
    if subscription.protocol != Protocol::Queue {
        text += &format!("{} ", protocol(subscription.protocol));
    }
    text += &subscription.endpoint;
    if subscription.raw {
        text += "  raw";
    }
    if let Some(filter) = &subscription.filter {
        text += &format!("  {} {filter}", scope(subscription.scope));
    }
    if let Some(queue) = &subscription.dead_letter {
        text += &format!("  dead letters to {queue}");
    }
    if let Some(status) = shown.replay {
        text += &format!("  replay {}", replay(status).to_lowercase());
    }
    let stats = &shown.stats;
    text += &format!("  delivered {}", stats.delivered);
    for (name, count) in [
        ("retried", stats.retried),
        ("dead lettered", stats.dead_lettered),
        ("failed", stats.failed),
    ] {
        if count > 0 {
            text += &format!(", {name} {count}");
        }
    }
    text
}
