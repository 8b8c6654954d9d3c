//! `ringway send`: one message, or one per line of a file, or one per row of a CSV file.
//!
//! Messages go in batches, in their order. A full queue is waited for. What can't be sent ends the
//! command with the number of its line; every line before it was sent, none behind it. Interrupted,
//! it says how far it came.

mod batch;
pub mod lines;
pub mod rows;
mod said;

pub use said::GivenAttribute;

use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration, progress};
use crate::queue::dedup;
use anyhow::Context;
use batch::Batch;
use ringway::{Attributes, QueueKind};
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Send messages to a queue: one, one per line, or one per row of a CSV file
///
/// Waits while the queue is full. Exit status 0: everything was sent. Else the number of the line
/// that was not sent is told: all lines before it were sent, and none behind it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// The body [default: all of standard input]
    #[arg(conflicts_with_all = ["lines", "csv"])]
    body: Option<String>,
    /// One message per line of FILE; - is standard input
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// One message per row of FILE behind its header row; the body is the row as it stands there
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    csv: Option<PathBuf>,
    #[command(flatten)]
    columns: rows::Columns,
    #[command(flatten)]
    said: said::Said,
    /// How long to wait for room in a full queue
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    timeout: Duration,
}

const EXAMPLES: &str = "Examples:
  ringway send demo orders 'one of these'
  ringway send demo films < film.json
  seq 1 100000 | ringway send demo orders --lines -
  ringway send demo flights --csv flights.csv --group-column tailnum --dedup-column id \\
    --attribute-column carrier --attribute-column distance:Number
  ringway send demo mail --delay 10m --attribute from=me --attribute urgency:Number=5 'think of it'";

/// A message to be, and the line it stands on.
pub struct Item {
    /// 1 for the first; `None` for a message that is no line of anything.
    pub line: Option<u64>,
    pub body: Vec<u8>,
    /// What it says itself, instead of what is said about every message.
    pub group: Option<String>,
    pub dedup_id: Option<String>,
    pub delay: Option<Duration>,
    pub attributes: Option<Attributes>,
}

impl Item {
    fn plain(line: Option<u64>, body: Vec<u8>) -> Self {
        Self {
            line,
            body,
            group: None,
            dedup_id: None,
            delay: None,
            attributes: None,
        }
    }
}

/// Where the messages come from.
pub trait Source {
    /// The next one.
    fn next(&mut self) -> anyhow::Result<Option<Item>>;
    /// Whether the next one may have to be waited for: what is there is sent first.
    fn may_block(&self) -> bool;
    /// Bytes read so far.
    fn bytes(&self) -> u64;
}

/// How far it came, and whether it shall stop.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    duplicates: AtomicU64,
    signal: Signal,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    args.columns.check(args.csv.is_some())?;
    let (_bus, queue) = place.queue(&args.bus, &args.name)?;
    let is_fifo = queue.definition().kind == QueueKind::Fifo;
    if is_fifo && !args.said.has_group() && !args.columns.has_group() {
        return Err(Usage(format!(
            "{} is a FIFO queue, and every message needs a message group: give --group GROUP, or with \
             --csv --group-column COLUMN; one group for all keeps all in order",
            args.name
        ))
        .into());
    }
    let says_ids = args.said.has_dedup_id() || args.columns.has_dedup_id();
    dedup::check_send(&args.name, queue.definition().dedup, says_ids)?;
    let most = usize::try_from(queue.settings().max_message_bytes).unwrap_or(usize::MAX);
    let shared = Arc::new(Progress::default());
    let attributes = args.said.attributes()?;
    let (told, json) = (Arc::clone(&shared), place.json);
    // When that is called, this command waits for input or for room, and has sent nothing since.
    let last_resort = move || told.report(json);
    let watch = shared.signal.watch(last_resort)?;
    let (source, total): (Box<dyn Source>, u64) = if let Some(path) = &args.csv {
        let (input, total) = open(path)?;
        (
            Box::new(rows::Rows::new(input, &args.columns, &attributes)?),
            total,
        )
    } else if let Some(path) = &args.lines {
        let (input, total) = open(path)?;
        (Box::new(lines::Lines::new(input, most)), total)
    } else {
        let body = match &args.body {
            Some(text) => text.clone().into_bytes(),
            None => {
                let mut body = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut body)
                    .context("can't read standard input")?;
                body
            }
        };
        (Box::new(lines::Single::new(body)), 0)
    };
    let said = (&args.said, &attributes);
    let batch = Batch::new(queue.sender()?, said, args.timeout, &shared);
    let done = send_all(source, batch, total, &shared);
    drop(watch);
    if !done.as_ref().is_err_and(|error| error.is::<Usage>()) {
        shared.report(place.json);
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

fn send_all(
    mut source: Box<dyn Source>,
    mut batch: Batch<'_>,
    total: u64,
    shared: &Progress,
) -> anyhow::Result<()> {
    let bar = progress(total);
    loop {
        let item = match source.next() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            // What was read before it goes first.
            Err(error) => {
                batch.flush()?;
                return Err(error);
            }
        };
        batch.add(item);
        if batch.is_full() || source.may_block() {
            batch.flush()?;
            bar.set_position(source.bytes());
            shared.signal.check()?;
        }
    }
    batch.flush()?;
    bar.finish_and_clear();
    Ok(())
}

impl Progress {
    /// The last line: how many.
    fn report(&self, json: bool) {
        let sent = self.sent.load(Ordering::Relaxed);
        let duplicates = self.duplicates.load(Ordering::Relaxed);
        let place = Place {
            root: None,
            journal_root: None,
            json,
        };
        place.say(json!({"sent": sent, "duplicates": duplicates}), || {
            if duplicates == 0 {
                format!("sent {sent}")
            } else {
                format!("sent {sent}; {duplicates} more repeat earlier ones")
            }
        });
    }
}

pub fn open(path: &Path) -> anyhow::Result<(Box<dyn Read>, u64)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(std::io::stdin().lock()), 0));
    }
    let file = std::fs::File::open(path).with_context(|| format!("can't open {path:?}"))?;
    let total = file.metadata()?.len();
    Ok((Box::new(file), total))
}
