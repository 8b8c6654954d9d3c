//! `ringway subscribe` and `ringway unsubscribe`: queues of topics.

use super::matching::{ScopeArg, given};
use super::open;
use crate::output::{Place, Usage};
use anyhow::Context;
use ringway::filter::{PolicyLimits, Scope};
use ringway::{SubscribeError, SubscribeOptions, Subscription};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Subscribe a queue to a topic: it gets every message that is published from then on
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// The queue, of the same bus
    queue: String,
    /// Bodies and attributes as they were published, instead of JSON notifications
    #[arg(long)]
    raw: bool,
    /// Only messages that this filter policy wants; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    filter: Option<String>,
    /// What the policy looks at
    #[arg(long, value_enum, default_value = "attributes", requires = "filter")]
    scope: ScopeArg,
    /// The queue of the same bus for what can't be delivered
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// Accept a policy beyond the limits of SNS
    #[arg(long)]
    no_limits: bool,
}

const EXAMPLES: &str = r#"Examples:
  ringway subscribe demo news archive --raw
  ringway subscribe demo news sport --filter '{"kind": ["sport"]}' --dead-letter dead
  ringway subscribe demo news goals --scope body --filter '{"goals": [{"numeric": [">", 2]}]}'"#;

/// End a subscription
#[derive(clap::Args)]
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
    u64::from_str_radix(text, 16)
        .with_context(|| format!("{text:?} is no number of a subscription"))
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = open(place, &args.bus, &args.name)?;
    let mut options = SubscribeOptions::new(&args.queue)
        .raw(args.raw)
        .scope(args.scope.into());
    if let Some(policy) = &args.filter {
        let text = given(policy, "--filter").map_err(|error| Usage(format!("{error:#}")))?;
        let text = String::from_utf8(text).map_err(|_| Usage("--filter: it is no UTF-8".into()))?;
        options = options.filter(&text);
    }
    if let Some(queue) = &args.dead_letter {
        options = options.dead_letter(queue);
    }
    if args.no_limits {
        options = options.limits(PolicyLimits::NONE);
    }
    let id = match topic.subscribe(&options) {
        Err(SubscribeError::Policy(error)) => {
            return Err(Usage(format!("--filter: {error}")).into());
        }
        other => other?,
    };
    let id = format!("{id:016x}");
    place.say(json!({"id": id}), || id.clone());
    Ok(ExitCode::SUCCESS)
}

pub fn unsubscribe(args: &UnsubscribeArgs, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = open(place, &args.bus, &args.name)?;
    topic.unsubscribe(args.id)?;
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

pub fn as_json(subscription: &Subscription) -> Value {
    json!({
        "id": format!("{:016x}", subscription.id),
        "queue": subscription.queue,
        "raw": subscription.raw,
        "dead_letter": subscription.dead_letter,
        "filter": subscription.filter.as_deref().map(|text| {
            serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into())
        }),
        "scope": scope(subscription.scope),
    })
}

pub fn as_text(subscription: &Subscription) -> String {
    let mut text = format!("{:016x}  {}", subscription.id, subscription.queue);
    if subscription.raw {
        text += "  raw";
    }
    if let Some(filter) = &subscription.filter {
        text += &format!("  {} {filter}", scope(subscription.scope));
    }
    if let Some(queue) = &subscription.dead_letter {
        text += &format!("  dead letters to {queue}");
    }
    text
}
