//! `ringway topic`: create, list, inspect, remove topics, hand on what waits in them, and try filter
//! policies. Publishing, subscribing and listening are verbs of their own beside it.

mod exec;
mod firehose;
pub mod listen;
mod matching;
pub mod publish;
pub mod subscribe;

use crate::find::{self, Noun};
use crate::output::{Place, parse_duration};
use anyhow::bail;
use ringway::{Bus, Durability, Topic, TopicKind};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a topic
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// The bus
        bus: String,
        /// 1 to 80 characters of A-Z a-z 0-9 _ -
        name: String,
        /// Keep the order within message groups, and publish repeats of a deduplication id once
        #[arg(long)]
        fifo: bool,
        /// So many messages a listener may be behind, a power of two [default: 16384]
        #[arg(long, value_name = "N")]
        listen_slots: Option<u64>,
        /// Of a FIFO topic: keep messages so many days, 1 to 365, to replay them to new subscriptions
        #[arg(long, value_name = "DAYS", requires = "fifo")]
        archive: Option<u32>,
        /// Keep at most so many of them, a power of two [default: 65536]
        #[arg(long, value_name = "N", requires = "archive")]
        archive_slots: Option<u64>,
        /// What is left of it behind a restart of the machine: memory (nothing), or durable: its subscriptions, and
        /// what was published and not delivered; a publish then waits for the disk [default: memory]
        #[arg(long, value_name = "memory|durable", value_parser = parse_level, conflicts_with = "archive")]
        durability: Option<Durability>,
        /// Open it when it exists already
        #[arg(long)]
        if_missing: bool,
    },
    /// List the topics of a bus
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// The bus
        bus: String,
    },
    /// Show subscriptions and counters of a topic
    #[command(after_help = STAT_EXAMPLES)]
    Stat {
        /// The bus
        bus: String,
        /// The topic
        #[arg(value_name = "TOPIC")]
        name: String,
    },
    /// Remove a topic with its subscriptions; who has it open is told
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// The bus
        bus: String,
        /// The topic
        #[arg(value_name = "TOPIC")]
        name: String,
    },
    /// Hand on what waits in a topic, as every publisher does by itself
    #[command(after_help = DISPATCH_EXAMPLES)]
    Dispatch {
        /// The bus
        bus: String,
        /// The topic
        #[arg(value_name = "TOPIC")]
        name: String,
        /// Go on for so long [default: until nothing waits]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        r#for: Option<Duration>,
    },
    Exec(exec::Args),
    Firehose(firehose::Args),
    Match(matching::Args),
}

const CREATE_EXAMPLES: &str = "Examples:
  ringway topic create demo news
  ringway topic create demo ledger --fifo --archive 30
  ringway topic create demo payments --durability durable --if-missing";

const LS_EXAMPLES: &str = "Examples:
  ringway topic ls demo
  ringway topic ls demo --json | jq -r '.[]'";

const STAT_EXAMPLES: &str = "Examples:
  ringway topic stat demo news
  ringway topic stat demo news --json | jq '.subscriptions[] | {id, endpoint, failed}'";

const RM_EXAMPLES: &str = "Examples:
  ringway topic rm demo news
Queues and streams that it delivered to stay, with what they have.";

const DISPATCH_EXAMPLES: &str = "Examples:
  ringway topic dispatch demo news
  ringway topic dispatch demo news --for 1h";

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create {
            bus,
            name,
            fifo,
            listen_slots,
            archive,
            archive_slots,
            durability,
            if_missing,
        } => {
            let bus = place.open(&bus)?;
            let mut builder = bus.topic(&name);
            if fifo {
                builder = builder.fifo();
            }
            if let Some(slots) = listen_slots {
                builder = builder.listen_slots(slots);
            }
            if let Some(days) = archive {
                builder = builder.archive_days(days);
            }
            if let Some(slots) = archive_slots {
                builder = builder.archive_slots(slots);
            }
            if let Some(durability) = durability {
                builder = builder.durability(durability);
            }
            let was_there = if_missing && bus.topic(&name).open().is_ok();
            let topic = match if_missing {
                true => builder.open_or_create(),
                false => builder.create(),
            };
            let topic = topic.map_err(|error| find::explain(&bus, Noun::Topic, &name, error))?;
            let kind = kind(&topic);
            let verb = if was_there { "found" } else { "created" };
            let json = json!({"topic": name, "created": !was_there, "kind": kind});
            place.say(json, || format!("{verb} {name}: {kind}"));
        }
        Command::Ls { bus } => {
            let names = place.open(&bus)?.topics()?;
            place.say(json!(names), || match names.is_empty() {
                true => format!("no topic on {bus}"),
                false => names.join("\n"),
            });
        }
        Command::Stat { bus, name } => {
            let (_bus, topic) = open(place, &bus, &name)?;
            stat(&topic, place)?;
        }
        Command::Rm { bus, name } => {
            let bus = place.open(&bus)?;
            let removed = bus.remove_topic(&name);
            removed.map_err(|error| find::explain(&bus, Noun::Topic, &name, error))?;
            place.say(json!({"removed": name}), || format!("removed {name}"));
        }
        Command::Dispatch { bus, name, r#for } => {
            let (_bus, topic) = open(place, &bus, &name)?;
            let mut dispatcher = topic.dispatcher()?;
            let handed_on = match r#for {
                Some(time) => dispatcher.dispatch_within(time)?,
                None => dispatcher.dispatch(usize::MAX)?,
            };
            place.say(json!({"handed_on": handed_on}), || {
                format!("handed on {handed_on}")
            });
        }
        Command::Exec(args) => return exec::run(&args, place),
        Command::Firehose(args) => return firehose::run(&args, place),
        Command::Match(args) => return matching::run(&args, place),
    }
    Ok(ExitCode::SUCCESS)
}

/// The open bus and topic, or an error that says which there are.
pub fn open(place: &Place, bus: &str, name: &str) -> anyhow::Result<(Bus, Topic)> {
    let open = place.open(bus)?;
    match open.topic(name).open() {
        Ok(topic) => Ok((open, topic)),
        Err(error) => Err(find::explain(&open, Noun::Topic, name, error)),
    }
}

/// The levels that a topic has: there is none between the two.
fn parse_level(text: &str) -> anyhow::Result<Durability> {
    match text {
        "memory" => Ok(Durability::Memory),
        "durable" => Ok(Durability::Durable),
        _ => bail!("{text:?} is neither memory nor durable"),
    }
}

fn kind(topic: &Topic) -> &'static str {
    match topic.definition().kind {
        TopicKind::Standard => "standard",
        TopicKind::Fifo => "fifo",
    }
}

fn stat(topic: &Topic, place: &Place) -> anyhow::Result<()> {
    let stats = topic.stats()?;
    let mut shown = Vec::new();
    for subscription in topic.subscriptions()? {
        let id = subscription.id;
        shown.push(subscribe::Shown {
            stats: topic.subscription_stats(id)?,
            replay: match subscription.replay {
                Some(_) => topic.replay_status(id)?,
                None => None,
            },
            subscription,
        });
    }
    let listeners = topic.listeners()?;
    let kind = kind(topic);
    let counters = [
        ("subscriptions", stats.subscriptions),
        ("listeners", stats.listeners),
        ("published", stats.published),
        ("delivered", stats.delivered),
        ("waiting", stats.waiting),
        ("retried", stats.retried),
        ("dead_lettered", stats.dead_lettered),
        ("failed", stats.failed),
        ("damaged", stats.damaged),
    ];
    let mut object = json!({"name": topic.name(), "kind": kind});
    for (name, value) in counters {
        object[name] = value.into();
    }
    object["subscriptions"] = shown.iter().map(subscribe::as_json).collect::<Value>();
    object["listeners"] = listeners.iter().map(listen::as_json).collect::<Value>();
    object["archive_days"] = topic.definition().archive_days.into();
    let is_durable = topic.definition().durability == Durability::Durable;
    object["durability"] = if is_durable { "durable" } else { "memory" }.into();
    place.say(object, || {
        let level = if is_durable { ", durable" } else { "" };
        let mut text = format!("{} ({kind}{level})", topic.name());
        for (name, value) in counters {
            let _ = write!(text, "\n  {:<14} {value}", name.replace('_', " "));
        }
        for one in &shown {
            let _ = write!(text, "\n  {}", subscribe::as_text(one));
        }
        for listener in &listeners {
            let _ = write!(text, "\n  {}", listen::as_text(listener));
        }
        text
    });
    Ok(())
}
