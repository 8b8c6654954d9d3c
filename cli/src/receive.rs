//! `ringway receive`: messages to standard output or a file.
//!
//! A message is written and flushed before it is deleted. What was received and could not be written
//! (a closed pipe, a full disk) is given back, and when the command is interrupted so is everything
//! that it received and did not delete, whatever it is blocked in then.

use crate::interrupt::{Interrupted, Signal};
use crate::output::{Place, parse_duration};
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::{Idle, Message, Queue, Receipt, ReceiveError, SettleError};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(50);
/// Pauses while as many messages are in flight as may be: a look counts them all.
const OVER_LIMIT: Duration = Duration::from_millis(10);

/// Receive messages from a queue and print their bodies, one a line
///
/// Without --count, --all or --follow it receives once: up to --max messages. A message that is
/// received becomes invisible to others until it is deleted, given back, or its visibility time-out
/// has passed. With --delete it is deleted once it was written out; without, its receipt (see
/// --json) settles it: `ringway queue delete`, `nack` or `extend`. Interrupted, the command gives
/// back what it has not deleted.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Most messages per receive
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max: u32,
    /// How long to wait for a message [default: what the queue says]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// How long they stay invisible, 0 to 12h [default: what the queue says]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    visibility: Option<Duration>,
    /// Delete each message once it was written out
    #[arg(long)]
    delete: bool,
    /// Go on until so many were received, or none comes within --wait
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Go on until none comes within --wait
    #[arg(long, conflicts_with = "follow")]
    all: bool,
    /// Go on until interrupted (with --count: until so many were received)
    #[arg(long)]
    follow: bool,
    /// Append to FILE instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  ringway receive demo orders --delete
  ringway receive demo orders --wait 20s --json
  ringway receive demo orders --all --delete --max 100 --out orders.txt
  ringway receive demo orders --follow --delete | while read -r order; do echo \"got $order\"; done
With receipts:
  receipt=$(ringway receive demo orders --max 1 --json | jq -r .receipt)
  ringway queue delete demo orders \"$receipt\"";

/// What was received and is neither deleted nor over, by when it is over.
#[derive(Clone)]
struct Held {
    queue: Queue,
    receipts: Arc<Mutex<VecDeque<(Instant, Receipt)>>>,
}

impl Held {
    fn of(queue: &Queue) -> Self {
        Self {
            queue: queue.clone(),
            receipts: Arc::default(),
        }
    }

    fn receipts(&self) -> MutexGuard<'_, VecDeque<(Instant, Receipt)>> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was received, for `visibility` from now; how many were noted before.
    fn add(&self, messages: &[Message], visibility: Duration) -> usize {
        let now = Instant::now();
        let mut receipts = self.receipts();
        while receipts.front().is_some_and(|(until, _)| *until <= now) {
            receipts.pop_front();
        }
        let before = receipts.len();
        let added = messages.iter().map(|message| message.received.receipt);
        receipts.extend(added.map(|receipt| (now + visibility, receipt)));
        before
    }

    /// Gives back everything but the first `but`.
    fn give_back(&self, but: usize) {
        for (_, receipt) in self.receipts().drain(but..) {
            // One that is over, gone, or received again needs nothing.
            let _ = self.queue.nack(&receipt, Duration::ZERO);
        }
    }
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, queue) = place.queue(&args.bus, &args.name)?;
    let mut out: Box<dyn Write> = match &args.out {
        None => Box::new(std::io::stdout()),
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            Box::new(file.with_context(|| format!("can't open {path:?}"))?)
        }
    };
    let mut out = BufWriter::with_capacity(1 << 16, &mut out);
    let held = Held::of(&queue);
    let signal = Signal::default();
    let to_give_back = held.clone();
    // It may be blocked in a write.
    let watch = signal.watch(move || to_give_back.give_back(0))?;
    let mut received = 0;
    let done = receive(
        args,
        place.json,
        &queue,
        &mut out,
        &held,
        &signal,
        &mut received,
    );
    // What is left in the buffer is of a closed pipe or a full disk, and was given back.
    let _ = out.into_parts();
    if done.as_ref().is_err_and(|error| error.is::<Interrupted>()) {
        held.give_back(0);
    }
    drop(watch);
    if args.out.is_some() {
        place.say(json!({"received": received}), || {
            format!("received {received}")
        });
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

fn receive(
    args: &Args,
    json: bool,
    queue: &Queue,
    out: &mut impl Write,
    held: &Held,
    signal: &Signal,
    received: &mut u64,
) -> anyhow::Result<()> {
    let mut receiver = queue.receiver()?;
    receiver.set_idle(Idle::Park);
    let visibility = args.visibility.unwrap_or(queue.settings().visibility);
    let is_endless = args.follow || args.all || args.count.is_some();
    let wait = args.wait.unwrap_or_else(|| receiver.receive_wait());
    let mut deadline = Instant::now() + wait;
    while args.count.is_none_or(|count| *received < count) {
        signal.check()?;
        let left = args.count.map_or(u64::MAX, |count| count - *received);
        let max = u64::from(args.max).min(left) as usize;
        let patience = deadline.saturating_duration_since(Instant::now());
        let patience = if args.follow { SLICE } else { patience };
        let is_over = !args.follow && Instant::now() >= deadline;
        let messages = match receiver.receive(max, patience.min(SLICE), args.visibility) {
            Ok(messages) if messages.is_empty() && is_over => break,
            Ok(messages) if messages.is_empty() => continue,
            // Until others have deleted some.
            Err(ReceiveError::OverLimit { .. }) if !is_over => {
                std::thread::sleep(OVER_LIMIT);
                continue;
            }
            other => other?,
        };
        // Noted before anything is written: whatever happens there, they are given back.
        let before = held.add(&messages, visibility);
        let written = messages
            .iter()
            .try_for_each(|message| write(out, message, json))
            .and_then(|()| out.flush());
        if let Err(error) = written {
            held.give_back(before);
            if error.kind() == ErrorKind::BrokenPipe {
                return Ok(()); // nobody reads it any more
            }
            return Err(error).context("can't write; the messages were given back");
        }
        *received += messages.len() as u64;
        if args.delete {
            let mut receipts = held.receipts();
            for message in &messages {
                match receiver.delete(&message.received.receipt) {
                    Ok(_) => {}
                    Err(stale @ SettleError::StaleReceipt { .. }) => {
                        eprintln!("ringway: written, but not deleted: {stale}");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            receipts.truncate(before);
        }
        if !is_endless {
            break;
        }
        deadline = Instant::now() + wait;
    }
    Ok(())
}

pub fn write(out: &mut impl Write, message: &Message, json: bool) -> std::io::Result<()> {
    if !json {
        out.write_all(&message.body)?;
        return out.write_all(b"\n");
    }
    let received = &message.received;
    let sent = UNIX_EPOCH
        .checked_add(Duration::from_millis(received.sent_ms))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let mut object = json!({
        "receipt": received.receipt.to_string(),
        "position": received.position(),
        "receives": received.receives(),
        "sent_ms": received.sent_ms,
        "sent": humantime::format_rfc3339_millis(sent).to_string(),
    });
    // Bytes that are no text stay exact.
    match std::str::from_utf8(&message.body) {
        Ok(text) => object["body"] = json!(text),
        Err(_) => object["body_base64"] = json!(BASE64_STANDARD.encode(&message.body)),
    }
    for (name, value) in [
        ("group", message.group()),
        ("dedup_id", message.dedup_id()),
        ("trace_header", message.trace_header()),
    ] {
        if let Some(value) = value {
            object[name] = json!(value);
        }
    }
    if let Some(origin) = message.origin() {
        object["origin"] = json!({
            "queue_id": format!("{:016x}", origin.queue),
            "position": origin.position,
            "receives": origin.receives,
        });
    }
    let attributes = message.attributes();
    let attributes = attributes.iter().map(|attribute| {
        let value = match attribute.text() {
            Some(text) => json!({"type": attribute.data_type(), "value": text}),
            None => json!({
                "type": attribute.data_type(),
                "value_base64": BASE64_STANDARD.encode(attribute.bytes()),
            }),
        };
        (attribute.name.to_owned(), value)
    });
    object["attributes"] = Value::Object(attributes.collect());
    serde_json::to_writer(&mut *out, &object)?;
    out.write_all(b"\n")
}
