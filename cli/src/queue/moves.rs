//! Moving messages on: `ringway queue redrive`, `move` and `task`.
//!
//! The task runs in this command; how it stands are words of the queue, so another command can show,
//! cancel or resume it. Interrupted, it is cancelled: what was moved stays moved. Killed, it stands as
//! stopped.

use super::policy::{self, Names};
use crate::interrupt::Signal;
use crate::output::{Place, Usage};
use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use ringway::{Bus, MoveError, MoveOptions, MoveState, MoveStatus, MoveTask, Queue};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = REDRIVE_EXAMPLES)]
pub struct RedriveArgs {
    /// The bus
    bus: String,
    /// The dead-letter queue
    #[arg(value_name = "QUEUE")]
    name: String,
    #[command(flatten)]
    rate: Rate,
}

#[derive(clap::Args)]
#[command(after_help = MOVE_EXAMPLES)]
pub struct MoveArgs {
    /// The bus
    bus: String,
    /// The queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// The queue of the same bus that gets its messages
    #[arg(value_name = "DESTINATION")]
    destination: String,
    #[command(flatten)]
    rate: Rate,
}

#[derive(clap::Args)]
struct Rate {
    /// At most so many messages a second [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

#[derive(clap::Args)]
#[command(after_help = TASK_EXAMPLES)]
pub struct TaskArgs {
    /// The bus
    bus: String,
    /// The queue whose messages are moved
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Cancel it, whoever runs it: what was moved stays moved
    #[arg(long, conflicts_with = "resume")]
    cancel: bool,
    /// Go on with it, when who ran it is dead
    #[arg(long)]
    resume: bool,
}

const REDRIVE_EXAMPLES: &str = "Examples:
  ringway queue redrive demo dead
  ringway queue redrive demo dead --rate 100";

const MOVE_EXAMPLES: &str = "Examples:
  ringway queue move demo dead orders
  ringway queue move demo old new --rate 500";

const TASK_EXAMPLES: &str = "Examples:
  ringway queue task demo dead
  ringway queue task demo dead --cancel
  ringway queue task demo dead --resume";

/// Back to where each came from.
pub fn redrive(args: &RedriveArgs, place: &Place) -> anyhow::Result<ExitCode> {
    let (bus, queue) = place.queue(&args.bus, &args.name)?;
    start(&bus, &queue, MoveOptions::new(), &args.rate, place)
}

/// To one destination.
pub fn send_on(args: &MoveArgs, place: &Place) -> anyhow::Result<ExitCode> {
    let (bus, queue) = place.queue(&args.bus, &args.name)?;
    let destination = policy::open(&bus, &args.destination)?;
    let options = MoveOptions::new().destination(&destination);
    start(&bus, &queue, options, &args.rate, place)
}

/// How the last task stands; or its end, or its going on.
pub fn task(args: &TaskArgs, place: &Place) -> anyhow::Result<ExitCode> {
    let (bus, queue) = place.queue(&args.bus, &args.name)?;
    if args.resume {
        return match queue.resume_move()? {
            Some(task) => run(&bus, &queue, task, place),
            None => bail!("there is no stopped move of {} to go on with", args.name),
        };
    }
    if args.cancel && !queue.cancel_move() {
        bail!("no move of {} is under way", args.name);
    }
    let names = Names::of(&bus)?;
    let status = queue.move_status();
    place.say(
        json!(status.map(|status| describe(&queue, &status, &names))),
        || match status {
            Some(status) => sentence(&queue, &status, &names),
            None => format!("no messages of {} were ever moved", args.name),
        },
    );
    Ok(ExitCode::SUCCESS)
}

fn start(
    bus: &Bus,
    queue: &Queue,
    options: MoveOptions,
    rate: &Rate,
    place: &Place,
) -> anyhow::Result<ExitCode> {
    let options = options.max_per_second(rate.rate.unwrap_or(0));
    let task = queue.move_messages(&options).map_err(|error| match error {
        MoveError::OwnDestination => Usage(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    run(bus, queue, task, place)
}

fn run(bus: &Bus, queue: &Queue, mut task: MoveTask, place: &Place) -> anyhow::Result<ExitCode> {
    let names = Names::of(bus)?;
    let signal = Signal::default();
    let to_cancel = queue.clone();
    let watch = signal.watch(move || {
        to_cancel.cancel_move();
    })?;
    let bar = progress();
    let status = task.run(|status| {
        bar.set_length(status.to_move);
        bar.set_position(status.moved);
        if signal.check().is_err() {
            queue.cancel_move();
        }
        true
    })?;
    bar.finish_and_clear();
    let left = task.left();
    drop((task, watch));
    let mut json = describe(queue, &status, &names);
    json["left"] = json!(left);
    place.say(json, || {
        let mut text = sentence(queue, &status, &names);
        if left > 0 {
            text += &format!(
                "; {left} stay: they do not say where they came from, or that queue is gone \
                 (`ringway queue move` takes them elsewhere)"
            );
        }
        text
    });
    match status.state {
        MoveState::Completed if left == 0 => Ok(ExitCode::SUCCESS),
        MoveState::Cancelled => {
            signal.check()?;
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(ExitCode::FAILURE),
    }
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn state(status: &MoveStatus) -> &'static str {
    match status.state {
        MoveState::Running => "running",
        MoveState::Stopped => "stopped",
        MoveState::Cancelling => "cancelling",
        MoveState::Cancelled => "cancelled",
        MoveState::Completed => "completed",
        MoveState::Failed => "failed",
        _ => "in a state that this version does not know",
    }
}

pub fn describe(queue: &Queue, status: &MoveStatus, names: &Names) -> Value {
    json!({
        "queue": queue.definition().name,
        "state": state(status),
        "destination": status.destination.map(|id| names.told(id)),
        "moved": status.moved,
        "to_move": status.to_move,
        "max_per_second": status.max_per_second,
        "runner": status.runner.map(|runner| runner.0),
        "started_ms": status.started_ms,
    })
}

fn sentence(queue: &Queue, status: &MoveStatus, names: &Names) -> String {
    let to = match status.destination {
        Some(id) => format!("to {}", names.told(id)),
        None => "back to where they came from".to_owned(),
    };
    format!(
        "{}: moved {} of {} messages of {} {to}",
        state(status),
        status.moved,
        status.to_move,
        queue.definition().name
    )
}
