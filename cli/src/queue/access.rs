//! `ringway queue access`: which topics may deliver to a queue.

use crate::find::{self, Noun};
use crate::output::{Place, Usage};
use crate::topic::subscribe::policy_text;
use anyhow::anyhow;
use ringway::{Bus, QueuePolicyError};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show or say which topics may deliver to a queue
///
/// Without a policy all may. What a topic may not deliver goes to the dead-letter queue of its subscription, or
/// is counted as failed. It counts from the next message on, for every process, until the machine is restarted.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Only these topics, with commas between them; BUS/TOPIC of another bus, * for any characters
    #[arg(long, value_name = "TOPIC,...", group = "change")]
    topics: Option<String>,
    /// What a policy in the language of AWS says; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE", group = "change")]
    policy: Option<String>,
    /// All topics: no policy
    #[arg(long, group = "change")]
    all: bool,
}

const EXAMPLES: &str = r#"Examples:
  ringway queue access demo payments
  ringway queue access demo payments --topics orders,refunds,west/orders
  ringway queue access demo payments --policy policy.json
  ringway queue access demo payments --all"#;

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let bus = place.open(&args.bus)?;
    let policy = match (&args.topics, &args.policy) {
        (Some(topics), _) => Some(of_topics(topics, &args.bus)),
        (None, Some(policy)) => Some(policy_text(policy, "--policy")?),
        (None, None) => None,
    };
    if policy.is_some() || args.all {
        let set = bus.set_queue_policy(&args.name, policy.as_deref());
        set.map_err(|error| explain(&bus, &args.name, error))?;
    }
    let now = bus.queue_policy(&args.name);
    let now = now.map_err(|error| explain(&bus, &args.name, error))?;
    let parsed = now
        .as_deref()
        .map(|text| serde_json::from_str::<Value>(text).unwrap_or_else(|_| text.into()));
    place.say(
        json!({"queue": args.name, "policy": parsed}),
        || match &now {
            None => "all topics may deliver".to_owned(),
            Some(text) => text.clone(),
        },
    );
    Ok(ExitCode::SUCCESS)
}

/// A policy that lets these topics deliver to a queue of `bus`.
fn of_topics(topics: &str, bus: &str) -> String {
    let arn = |topic: &str| {
        let (region, topic) = match topic.trim().split_once('/') {
            // In a policy that is the bus of the queue, whatever that is called.
            Some(("local", topic)) if bus != "local" => ("bus.local", topic),
            Some(of_bus) => of_bus,
            None => ("local", topic.trim()),
        };
        format!("arn:aws:sns:{region}:000000000000:{topic}")
    };
    let arns: Vec<_> = topics.split(',').map(arn).collect();
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": "*",
        "Condition": {"ArnLike": {"aws:SourceArn": arns}},
    }]})
    .to_string()
}

fn explain(bus: &Bus, name: &str, error: QueuePolicyError) -> anyhow::Error {
    match error {
        QueuePolicyError::Invalid { reason } => Usage(format!("--policy: {reason}")).into(),
        QueuePolicyError::Open(error) => find::explain(bus, Noun::Queue, name, error),
        other => anyhow!(other),
    }
}
