//! `ringway topic exec`: a command for each batch of what a subscription gets.
//!
//! The subscription feeds a queue; this is its receiver. A batch is leased, and its lease is extended while
//! the command runs. The exit status settles it: 0 deletes, anything else gives back what is to be tried again
//! by the delivery policy. Whoever kills this process gives its batch back: the queue sees the death. Several
//! may run at the same time. The command is no part of the bus: nobody who can write there can have one run.

use super::matching::ScopeArg;
use super::open;
use super::subscribe::{Wanted, feed, policy_text};
use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration};
use crate::{receive, work};
use anyhow::{Context, anyhow};
use ringway::{
    DeliveryPolicy, Idle, Message, Queue, QueueReceiver, Redrive, Settings, SubscribeOptions,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(100);
/// Extensions per visibility time-out: two may be late.
const BEATS: u32 = 3;

/// Run a command for each batch of messages that a topic has for it
///
/// The command gets the batch on standard input, one JSON object a line as `ringway receive --json` prints
/// them, and in its environment RINGWAY_BUS, RINGWAY_TOPIC, RINGWAY_QUEUE and RINGWAY_BATCH (how many). Exit
/// status 0: the batch is done. Anything else: all of it is tried again, by --delivery-policy, and then goes
/// to --dead-letter, or without one is tried again and again after the longest delay.
///
/// The messages come through the queue QUEUE, which is made, and subscribed, if it was not: they wait there
/// while no command runs. Should this process be killed, its batch is received again within milliseconds,
/// while its command goes on: let it bear to be run twice, or let it die too: -- setpriv --pdeathsig KILL COMMAND.
/// SIGTERM or Ctrl-C: the command finishes, and no other is started.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// The queue that messages wait in
    queue: String,
    /// Most messages of a batch, 1 to 10,000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Wait so long for a batch to become full
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    window: Duration,
    /// Only messages that this filter policy wants; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    filter: Option<String>,
    /// What the policy looks at
    #[arg(long, value_enum, default_value = "attributes", requires = "filter")]
    scope: ScopeArg,
    /// Accept a policy beyond the limits of SNS
    #[arg(long)]
    no_limits: bool,
    /// When a batch whose command failed is tried again, in the words of SNS; the policy, or the file it is in
    /// [default: three times, 20 s apart]
    #[arg(long, value_name = "JSON|FILE")]
    delivery_policy: Option<String>,
    /// The queue of the same bus for messages that were tried as often as they may be
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// How long a batch stays invisible without a sign of life of this process [default: what the queue says]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    visibility: Option<Duration>,
    /// End when so many batches were worked on, whatever came of them
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End when nothing comes within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// The command and its arguments, behind --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = r#"Examples:
  ringway topic exec demo uploads thumbnails --batch 20 -- ./thumbnails.py
  ringway topic exec demo news audit --filter '{"kind": ["payment"]}' --dead-letter dead \
    -- sh -c 'cat >> audit.jsonl'
  ringway topic exec demo news mail --delivery-policy '{"healthyRetryPolicy": {"numRetries": 5}}' \
    -- ./mail"#;

/// What came of the batches.
#[derive(Default)]
struct Tally {
    batches: u64,
    messages: u64,
    failed: u64,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    work::find_command(&args.command[0])?;
    let (bus, topic) = open(place, &args.bus, &args.name)?;
    let policy = match &args.delivery_policy {
        Some(policy) => {
            DeliveryPolicy::parse(&policy_text(policy, "--delivery-policy")?).map_err(Usage)?
        }
        None => DeliveryPolicy::default(),
    };
    let queue = bus.queue(&args.queue).open_or_create()?;
    if let Some(name) = &args.dead_letter {
        let target = bus.queue(name).open();
        let target = target.with_context(|| format!("--dead-letter: the queue {name:?}"))?;
        let receives = u16::try_from(policy.retries + 1).unwrap_or(u16::MAX);
        queue.set(&Settings::new().redrive(Redrive::to(&target, receives)))?;
    }
    feed(
        &topic,
        &args.bus,
        SubscribeOptions::to_exec(&args.queue).raw(true),
        &Wanted {
            endpoint: &args.queue,
            filter: args.filter.as_deref(),
            scope: args.scope,
            no_limits: args.no_limits,
        },
    )?;
    let mut receiver = queue.receiver()?;
    receiver.set_idle(Idle::Park);
    let signal = Signal::default();
    // A command that runs is let finish, however long that takes: no last resort.
    let told = signal.clone();
    let _watch = crate::interrupt::watch(move |signal, _, _| told.tell(signal))?;
    let mut tally = Tally::default();
    let ended = work_on(
        args,
        place,
        &policy,
        &queue,
        &mut receiver,
        &signal,
        &mut tally,
    );
    place.say(
        json!({"batches": tally.batches, "messages": tally.messages, "failed": tally.failed}),
        || {
            let Tally {
                batches,
                messages,
                failed,
            } = tally;
            format!("{batches} batches of {messages} messages, {failed} failed")
        },
    );
    ended.map(|()| ExitCode::SUCCESS)
}

fn work_on(
    args: &Args,
    place: &Place,
    policy: &DeliveryPolicy,
    queue: &Queue,
    receiver: &mut QueueReceiver,
    signal: &Signal,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut last = Instant::now();
    while args.count.is_none_or(|most| tally.batches < most) {
        signal.check()?;
        let batch = gather(args, receiver, signal)?;
        if batch.is_empty() {
            if args.wait.is_some_and(|wait| last.elapsed() >= wait) {
                break;
            }
            continue;
        }
        let status = command(args, place, &batch)?.spawn();
        let status = status.with_context(|| format!("can't run {:?}", args.command[0]));
        let status = match status {
            Ok(child) => attend(child, queue, receiver, args.visibility, &batch)?,
            Err(error) => {
                give_back(receiver, &batch, |_| Duration::ZERO);
                return Err(error);
            }
        };
        tally.batches += 1;
        tally.messages += batch.len() as u64;
        if status.success() {
            for message in &batch {
                // One whose lease was lost is somebody else's by now.
                let _ = receiver.delete(&message.received.receipt);
            }
        } else {
            tally.failed += 1;
            eprintln!(
                "ringway: {} messages are tried again: {}",
                batch.len(),
                said(status)
            );
            give_back(receiver, &batch, |message| {
                let failed = u32::from(message.received.receives()).saturating_sub(1);
                let longest = Duration::from_secs(policy.max_delay_s.into());
                match policy.delay(failed) {
                    Some(delay) => delay,
                    // The next look at it takes it to the dead-letter queue.
                    None if args.dead_letter.is_some() => Duration::ZERO,
                    None => longest,
                }
            });
        }
        last = Instant::now();
    }
    Ok(())
}

/// A batch: what is there, and what comes within the window.
fn gather(
    args: &Args,
    receiver: &mut QueueReceiver,
    signal: &Signal,
) -> anyhow::Result<Vec<Message>> {
    let most = usize::from(args.batch);
    let mut batch = receiver.receive(most, SLICE, args.visibility)?;
    let until = Instant::now() + args.window;
    while !batch.is_empty() && batch.len() < most && signal.check().is_ok() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let more = receiver.receive(most - batch.len(), left.min(SLICE), args.visibility);
        batch.extend(more?);
    }
    Ok(batch)
}

fn give_back(
    receiver: &mut QueueReceiver,
    batch: &[Message],
    delay: impl Fn(&Message) -> Duration,
) {
    for message in batch {
        let _ = receiver.nack(&message.received.receipt, delay(message));
    }
}

fn command(args: &Args, place: &Place, batch: &[Message]) -> anyhow::Result<Command> {
    let mut lines = Vec::new();
    for message in batch {
        receive::write(&mut lines, message, true)?;
    }
    // A file of memory: a command that does not read it blocks nobody.
    let file = rustix::fs::memfd_create("batch", MemfdFlags::CLOEXEC);
    let file = File::from(file.context("can't make a memory file for a batch")?);
    let written = file.write_all_at(&lines, 0);
    written.context("can't write a batch to its memory file")?;
    let mut command = Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .stdin(Stdio::from(file))
        // So that a terminal's Ctrl-C does not reach it.
        .process_group(0)
        .env("RINGWAY_BUS", &args.bus)
        .env("RINGWAY_TOPIC", &args.name)
        .env("RINGWAY_QUEUE", &args.queue)
        .env("RINGWAY_BATCH", batch.len().to_string());
    if let Some(root) = &place.root {
        command.env(ringway::ROOT_VARIABLE, root);
    }
    if place.json {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        command.stdout(Stdio::from(stderr.context("can't copy standard error")?));
    }
    Ok(command)
}

/// Waits for the command, and extends the batch's leases meanwhile.
fn attend(
    mut child: Child,
    queue: &Queue,
    receiver: &mut QueueReceiver,
    visibility: Option<Duration>,
    batch: &[Message],
) -> anyhow::Result<ExitStatus> {
    let visibility = visibility.unwrap_or_else(|| queue.settings().visibility);
    let ended = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(ended) => ended,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(anyhow!("can't watch a command: {error}"));
        }
    };
    let beat = visibility / BEATS;
    let timeout = Timespec {
        tv_sec: i64::try_from(beat.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: beat.subsec_nanos().into(),
    };
    loop {
        let mut watched = [PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(0) => {
                for message in batch {
                    // A lease that is lost is told by the settling.
                    let _ = receiver.change_visibility(&message.received.receipt, visibility);
                }
            }
            Ok(_) => return child.wait().context("can't reap a command"),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(anyhow!("can't wait for a command: {error}"));
            }
        }
    }
}

fn said(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
