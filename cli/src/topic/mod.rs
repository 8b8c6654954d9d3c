//! `ringway topic`: create, list, inspect, remove topics, hand on what waits in them, and try filter
//! policies. Publishing, subscribing and listening are verbs of their own beside it.

mod exec;
mod firehose;
pub mod listen;
mod matching;
pub mod publish;
pub mod subscribe;

use crate::find::near;
use crate::output::{Place, parse_duration};
use crate::queue::parse_durability;
use anyhow::anyhow;
use ringway::{Bus, Durability, OpenError, Topic, TopicKind};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a topic
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
        /// what was published and not delivered; a publish then waits for the disk
        #[arg(long, value_name = "LEVEL", value_parser = parse_durability, conflicts_with = "archive")]
        durability: Option<Durability>,
        /// Open it when it exists already
        #[arg(long)]
        if_missing: bool,
    },
    /// List the topics of a bus
    Ls {
        /// The bus
        bus: String,
    },
    /// Show subscriptions and counters of a topic
    Stat {
        /// The bus
        bus: String,
        /// The topic
        #[arg(value_name = "TOPIC")]
        name: String,
    },
    /// Remove a topic with its subscriptions; who has it open is told
    Rm {
        /// The bus
        bus: String,
        /// The topic
        #[arg(value_name = "TOPIC")]
        name: String,
    },
    /// Hand on what waits in a topic, as every publisher does by itself
    Dispatch {
        /// The bus
        bus: String,
        /// The topic
        #[arg(value_name = "TOPIC")]
        name: String,
        /// Go on for so long
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        r#for: Option<Duration>,
    },
    Exec(exec::Args),
    Firehose(firehose::Args),
    Match(matching::Args),
}

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
            match if_missing {
                true => builder.open_or_create()?,
                false => builder.create()?,
            };
            place.say(json!({"created": name, "fifo": fifo}), || {
                format!("created {name}")
            });
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
            removed.map_err(|error| explain(&bus, &name, error))?;
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
        Err(error) => Err(explain(&open, name, error)),
    }
}

fn explain(bus: &Bus, name: &str, error: OpenError) -> anyhow::Error {
    match error {
        OpenError::NotFound { .. } => {
            let mut text = format!("there is no topic {name:?} on bus {:?}", bus.name());
            text += &near(name, &bus.topics().unwrap_or_default());
            anyhow!(
                "{text}; `ringway topic create {} {name}` makes it",
                bus.name()
            )
        }
        other => other.into(),
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
    let kind = match topic.definition().kind {
        TopicKind::Standard => "standard",
        TopicKind::Fifo => "fifo",
    };
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
