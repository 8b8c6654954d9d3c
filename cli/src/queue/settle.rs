//! Settling by receipt from a shell: `ringway queue delete`, `nack`, `extend`.
//!
//! Each receipt is settled for itself; one that can't be is named on standard error, and the exit
//! status is 1 then.

use crate::output::{Place, Usage, parse_duration};
use ringway::{Queue, Receipt, SettleError};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

pub const DELETE_EXAMPLES: &str = "Examples:
  receipt=$(ringway receive demo orders --max 1 --json | jq -r .receipt)
  ringway queue delete demo orders \"$receipt\"
Exit status: 0 each is deleted or was gone, 1 one could not be (standard error says which), 2 the call is wrong.";

const NACK_EXAMPLES: &str = "Examples:
  receipt=$(ringway receive demo orders --max 1 --json | jq -r .receipt)
  ringway queue nack demo orders \"$receipt\" --delay 30s";

const EXTEND_EXAMPLES: &str = "Examples:
  receipt=$(ringway receive demo orders --max 1 --json | jq -r .receipt)
  ringway queue extend demo orders \"$receipt\" --visibility 10m";

#[derive(clap::Args)]
pub struct Receipts {
    /// The bus
    bus: String,
    /// The queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// As `ringway receive --json` prints them
    #[arg(required = true)]
    receipts: Vec<Receipt>,
}

#[derive(clap::Args)]
#[command(after_help = NACK_EXAMPLES)]
pub struct Nack {
    #[command(flatten)]
    which: Receipts,
    /// When they become visible, 0 to 15m
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    delay: Duration,
}

#[derive(clap::Args)]
#[command(after_help = EXTEND_EXAMPLES)]
pub struct Extend {
    #[command(flatten)]
    which: Receipts,
    /// How long they stay invisible from now on, 0 to 12h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    visibility: Duration,
}

pub fn delete(args: &Receipts, place: &Place) -> anyhow::Result<ExitCode> {
    each(args, place, |queue, receipt| {
        Ok(if queue.delete(receipt)? {
            "deleted"
        } else {
            "gone"
        })
    })
}

pub fn nack(args: &Nack, place: &Place) -> anyhow::Result<ExitCode> {
    each(&args.which, place, |queue, receipt| {
        queue.nack(receipt, args.delay).map(|()| "given_back")
    })
}

pub fn extend(args: &Extend, place: &Place) -> anyhow::Result<ExitCode> {
    each(&args.which, place, |queue, receipt| {
        let extended = queue.change_visibility(receipt, args.visibility);
        extended.map(|()| "extended")
    })
}

fn each(
    args: &Receipts,
    place: &Place,
    settle: impl Fn(&Queue, &Receipt) -> Result<&'static str, SettleError>,
) -> anyhow::Result<ExitCode> {
    // Closed before anything is printed: what it holds then becomes nobody's, not a dead one's.
    let mut outcomes = Vec::new();
    {
        let (_bus, queue) = place.queue(&args.bus, &args.name)?;
        for receipt in &args.receipts {
            match settle(&queue, receipt) {
                Err(
                    error @ (SettleError::InvalidDelay { .. }
                    | SettleError::InvalidVisibility { .. }
                    | SettleError::OtherQueue { .. }),
                ) => return Err(Usage(error.to_string()).into()),
                outcome => outcomes.push((receipt, outcome)),
            }
        }
    }
    let mut failed = 0;
    let mut json = Vec::new();
    let mut lines = Vec::new();
    for (receipt, outcome) in &outcomes {
        let receipt = receipt.to_string();
        match outcome {
            Ok(outcome) => {
                lines.push(format!("{} {receipt}", outcome.replace('_', " ")));
                json.push(json!({"receipt": receipt, "outcome": outcome}));
            }
            Err(error) => {
                failed += 1;
                eprintln!("ringway: {receipt}: {error}");
                json.push(json!({"receipt": receipt, "error": error.to_string()}));
            }
        }
    }
    if place.json || !lines.is_empty() {
        place.say(json!(json), || lines.join("\n"));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
