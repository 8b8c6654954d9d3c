//! `ringway queue`: create, list, inspect, empty and remove queues, and settle receipts.

mod access;
pub mod dedup;
mod moves;
mod persist;
mod policy;
mod settings;
mod settle;
mod stat;

pub(crate) use settings::parse_durability;

use crate::find::{self, Noun};
use crate::output::{Place, Usage};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a queue
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// The bus
        bus: String,
        /// 1 to 80 characters of A-Z a-z 0-9 _ -
        name: String,
        #[command(flatten)]
        settings: settings::Settings,
        #[command(flatten)]
        policy: policy::Policy,
        #[command(flatten)]
        geometry: settings::Geometry,
        #[command(flatten)]
        dedup: dedup::Dedup,
        /// Open it when it exists already; settings that are given have to agree
        #[arg(long)]
        if_missing: bool,
    },
    /// List the queues of a bus with their messages
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// The bus
        bus: String,
    },
    /// Show settings, messages and totals of a queue
    #[command(after_help = STAT_EXAMPLES)]
    Stat {
        /// The bus
        bus: String,
        /// The queue
        #[arg(value_name = "QUEUE")]
        name: String,
    },
    /// Change settings of a queue while it is in use, for every process at once
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// The bus
        bus: String,
        /// The queue
        #[arg(value_name = "QUEUE")]
        name: String,
        #[command(flatten)]
        settings: settings::Settings,
        #[command(flatten)]
        policy: policy::Policy,
        /// Have no dead-letter queue any more: what is received too often is parked
        #[arg(long, conflicts_with_all = ["dead_letter", "max_receives"])]
        no_dead_letter: bool,
    },
    Access(access::Args),
    /// Remove every message that was sent so far, in flight and parked ones too
    #[command(after_help = PURGE_EXAMPLES)]
    Purge {
        /// The bus
        bus: String,
        /// The queue
        #[arg(value_name = "QUEUE")]
        name: String,
    },
    /// Remove a queue with its messages and its journal; who has it open is told
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// The bus
        bus: String,
        /// The queue
        #[arg(value_name = "QUEUE")]
        name: String,
    },
    /// Move the messages of a dead-letter queue back to where they came from
    Redrive(moves::RedriveArgs),
    /// Move the messages of a queue to another one
    Move(moves::MoveArgs),
    /// Show, cancel or go on with the last redrive or move of a queue
    Task(moves::TaskArgs),
    /// Write the journal of a queue for everybody, from a thread of its own, until it is interrupted
    Persist(persist::Args),
    /// Delete received messages by their receipts
    #[command(after_help = settle::DELETE_EXAMPLES)]
    Delete(settle::Receipts),
    /// Give received messages back, at once or after a delay
    Nack(settle::Nack),
    /// Let received messages stay invisible for longer
    Extend(settle::Extend),
}

const CREATE_EXAMPLES: &str = "Examples:
  ringway queue create demo orders
  ringway queue create demo trips --fifo --dedup 100000 --dedup-scope group
  ringway queue create demo films --visibility 10m --retention 14days --max-message 1M
  ringway queue create demo burst --max-bytes 8G --if-missing
  ringway queue create demo dead --allow-sources orders,mail
  ringway queue create demo orders --dead-letter dead --max-receives 5";

const SET_EXAMPLES: &str = "Examples:
  ringway queue set demo orders --visibility 5m
  ringway queue set demo orders --receive-wait 20s --redeliver-on-death false
  ringway queue set demo orders --dead-letter dead --max-receives 5
  ringway queue set demo orders --no-dead-letter";

const LS_EXAMPLES: &str = "Examples:
  ringway queue ls demo
  ringway queue ls demo --json | jq -r '.[] | select(.messages.visible > 0) | .name'";

const STAT_EXAMPLES: &str = "Examples:
  ringway queue stat demo orders
  ringway queue stat demo orders --json | jq .messages.visible";

const PURGE_EXAMPLES: &str = "Examples:
  ringway queue purge demo orders
Receivers that hold a message keep it; their receipts are stale.";

const RM_EXAMPLES: &str = "Examples:
  ringway queue rm demo orders";

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create {
            bus,
            name,
            settings,
            policy,
            geometry,
            dedup,
            if_missing,
        } => {
            let bus = place.open(&bus)?;
            let there = if if_missing {
                bus.queue(&name).open().ok()
            } else {
                None
            };
            let was_there = there.is_some();
            // Refused, if it is, before anything is made.
            let change = match &there {
                Some(queue) => {
                    policy.agree(&bus, &name, &queue.settings())?;
                    settings.agree(&bus, &name, &queue.settings())?;
                    ringway::Settings::new()
                }
                None => {
                    let limits = settings.limit(ringway::Settings::new());
                    policy.add(limits, &bus, &name, None)?
                }
            };
            let builder = dedup.apply(geometry.apply(settings.apply(bus.queue(&name))))?;
            let queue = if if_missing {
                builder.open_or_create()
            } else {
                builder.create()
            };
            let queue = queue.map_err(|error| find::explain(&bus, Noun::Queue, &name, error))?;
            if change != ringway::Settings::new()
                && let Err(error) = queue.set(&change)
            {
                bus.remove(&name)?;
                return Err(error.into());
            }
            let verb = if was_there { "found" } else { "created" };
            let definition = queue.definition();
            let (slots, stride) = (definition.slots, definition.stride);
            let kind = stat::kind(&queue);
            let json = json!({
                "queue": name, "created": !was_there, "kind": kind, "slots": slots, "stride": stride,
            });
            place.say(json, || {
                format!("{verb} {name}: {kind}, {slots} slots of {stride} bytes")
            });
        }
        Command::Ls { bus } => stat::list(&bus, place)?,
        Command::Stat { bus, name } => stat::one(&bus, &name, place)?,
        Command::Set {
            bus,
            name,
            settings,
            policy,
            no_dead_letter,
        } => {
            let mut change = settings.change();
            if change == ringway::Settings::new() && policy.is_empty() && !no_dead_letter {
                return Err(Usage("there is nothing to set; see --help".to_owned()).into());
            }
            let (bus, queue) = place.queue(&bus, &name)?;
            if no_dead_letter {
                change = change.redrive(None);
            }
            queue.set(&policy.add(change, &bus, &name, Some(&queue.settings()))?)?;
            stat::settings(&bus, &queue, place)?;
        }
        Command::Purge { bus, name } => {
            let purged = place.queue(&bus, &name)?.1.purge()?;
            place.say(json!({"queue": name, "purged": purged}), || {
                format!("purged {purged} messages of {name}")
            });
        }
        Command::Rm { bus, name } => {
            let bus = place.open(&bus)?;
            find::remove(&bus, Noun::Queue, &name)?;
            place.say(json!({"removed": name}), || format!("removed {name}"));
        }
        Command::Access(args) => return access::run(&args, place),
        Command::Redrive(args) => return moves::redrive(&args, place),
        Command::Move(args) => return moves::send_on(&args, place),
        Command::Task(args) => return moves::task(&args, place),
        Command::Persist(args) => persist::run(&args, place)?,
        Command::Delete(args) => return settle::delete(&args, place),
        Command::Nack(args) => return settle::nack(&args, place),
        Command::Extend(args) => return settle::extend(&args, place),
    }
    Ok(ExitCode::SUCCESS)
}
