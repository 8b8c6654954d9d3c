//! `ringway read`: records of a stream to standard output, alone or as a worker of a group.
//!
//! As a worker it checkpoints what it has written and flushed: what it could not write, or had not when it
//! was killed, another worker is given, or the next run of this command.

use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration};
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::{
    CheckpointError, ConsumerError, ConsumerEvent, ConsumerSubscription, GroupStart, GroupWorker,
    Idle, SequenceNumber, ShardId, StreamIterator, StreamReadError, StreamReader, StreamRecord,
};
use serde_json::json;
use std::io::{BufWriter, ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(50);
/// A worker is given shards within a few passes.
const GROUP_WAIT: Duration = Duration::from_millis(500);

/// Read the records of a stream and print their data, one a line
///
/// Without --group it reads every record from where --iterator says, and others know nothing of it. With
/// --group it is one of the group's workers: they share the shards, each record is read by one of them,
/// and what was written out is checkpointed. A group is made when it is first named.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The stream
    #[arg(value_name = "STREAM")]
    name: String,
    /// Where to begin: trim-horizon (the oldest), latest, at:SEQUENCE_NUMBER, after:SEQUENCE_NUMBER (with
    /// their shard), or at-timestamp:TIME (2026-11-26T15:00:00Z, or ms since 1970). A group begins there
    /// once, when it is made: trim-horizon or latest
    #[arg(long, value_name = "WHERE", default_value = "trim-horizon", value_parser = parse_iterator)]
    iterator: StreamIterator,
    /// This shard alone [default: all, and what replaces them]
    #[arg(long, conflicts_with = "group")]
    shard: Option<ShardId>,
    /// Be a worker of this consumer group
    #[arg(long)]
    group: Option<String>,
    /// Subscribe as this registered consumer (`ringway stream register`); gaps are told
    #[arg(long, value_name = "CONSUMER", conflicts_with_all = ["group", "shard", "lossy"])]
    consumer: Option<String>,
    /// With --consumer: in the place of a subscriber that lives
    #[arg(long, requires = "consumer")]
    take_over: bool,
    /// Go on when everything is read, until interrupted
    #[arg(long)]
    follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Without --follow: how long to wait for the next record [default: 0; 500ms for a group]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Do not hold producers back; say what was missed
    #[arg(long, conflicts_with = "group")]
    lossy: bool,
    /// Print shard, sequence number and key in front of the data
    #[arg(long)]
    verbose: bool,
}

const EXAMPLES: &str = "Examples:
  ringway read demo trucks
  ringway read demo trucks --iterator latest --follow --json
  ringway read demo trucks --shard 3 --iterator after:55340232221128654848
  ringway read demo trucks --iterator at-timestamp:2026-11-26T15:00:00Z
  ringway read demo trucks --group billing --follow
  ringway read demo trucks --consumer dashboard --iterator latest --follow";

fn parse_iterator(text: &str) -> anyhow::Result<StreamIterator> {
    let number = |text: &str| text.parse::<SequenceNumber>().map_err(anyhow::Error::from);
    Ok(match text.split_once(':') {
        None if text == "trim-horizon" => StreamIterator::TrimHorizon,
        None if text == "latest" => StreamIterator::Latest,
        Some(("at", at)) => StreamIterator::AtSequenceNumber(number(at)?),
        Some(("after", after)) => StreamIterator::AfterSequenceNumber(number(after)?),
        Some(("at-timestamp", time)) => StreamIterator::AtTimestamp(match time.parse() {
            Ok(ms) => ms,
            Err(_) => {
                let time = humantime::parse_rfc3339_weak(time)
                    .with_context(|| format!("{time:?} is no time such as 2026-11-26T15:00:00Z"))?;
                let since = time.duration_since(std::time::UNIX_EPOCH);
                since.context("a time before 1970")?.as_millis() as u64
            }
        }),
        _ => anyhow::bail!(
            "{text:?} is none of trim-horizon, latest, at:NUMBER, after:NUMBER, at-timestamp:TIME"
        ),
    })
}

/// Who reads.
enum Source {
    Alone(StreamReader),
    Worker(GroupWorker),
    Subscribed(ConsumerSubscription),
}

impl Source {
    fn read(
        &mut self,
        max: usize,
        mut each: impl FnMut(StreamRecord<'_>),
    ) -> Result<usize, ConsumerError> {
        match self {
            Self::Alone(reader) => Ok(reader.read_batch(max, SLICE, each)?),
            Self::Worker(worker) => Ok(worker.read_batch(max, SLICE, each)?),
            Self::Subscribed(subscription) => {
                let mut gaps = 0;
                let given = subscription.read_batch(max, SLICE, |event| match event {
                    ConsumerEvent::Record(record) => each(record),
                    ConsumerEvent::Gap {
                        shard, from, lost, ..
                    } => {
                        eprintln!("ringway: missed {lost} positions of {shard} from {from} on");
                        gaps += 1;
                    }
                })?;
                Ok(given - gaps)
            }
        }
    }
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, stream) = place.stream(&args.bus, &args.name)?;
    let source = match (&args.group, &args.consumer) {
        (_, Some(name)) => {
            let consumer = stream.consumer(name)?;
            Source::Subscribed(match args.take_over {
                true => consumer.take_over(args.iterator)?,
                false => consumer.subscribe(args.iterator)?,
            })
        }
        (None, None) => {
            let mut builder = stream.reader().iterator(args.iterator).idle(Idle::Park);
            if let Some(shard) = args.shard {
                builder = builder.shard(shard);
            }
            if args.lossy {
                builder = builder.lossy();
            }
            Source::Alone(builder.open().map_err(|error| match error {
                StreamReadError::NeedsShard
                | StreamReadError::OtherShard { .. }
                | StreamReadError::NoShard { .. } => Usage(error.to_string()).into(),
                other => anyhow::Error::from(other),
            })?)
        }
        (Some(name), None) => {
            let start = match args.iterator {
                StreamIterator::TrimHorizon => GroupStart::TrimHorizon,
                StreamIterator::Latest => GroupStart::Latest,
                _ => {
                    let text = "a group begins with trim-horizon or latest, once";
                    return Err(Usage(text.to_owned()).into());
                }
            };
            let group = stream.group_or_create(name, start)?;
            Source::Worker(group.join()?.idle(Idle::Park))
        }
    };
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let done = read(args, place.json, source, &signal);
    drop(watch);
    done?;
    Ok(ExitCode::SUCCESS)
}

fn read(args: &Args, json: bool, mut source: Source, signal: &Signal) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let default = if args.group.is_some() {
        GROUP_WAIT
    } else {
        Duration::ZERO
    };
    let wait = args.wait.unwrap_or(default);
    let mut read = 0;
    let mut deadline = Instant::now() + wait;
    while args.count.is_none_or(|count| read < count) {
        signal.check()?;
        let left = args.count.map_or(u64::MAX, |count| count - read);
        let mut written = Ok(());
        let found = source.read(left.min(256) as usize, |record| {
            if written.is_ok() {
                written = write(&mut out, &record, json, args.verbose);
            }
        });
        let count = match found {
            Ok(count) => count,
            Err(ConsumerError::Read(
                lagged @ (StreamReadError::Lagged { .. } | StreamReadError::Throttled { .. }),
            )) => {
                eprintln!("ringway: {lagged}");
                if matches!(lagged, StreamReadError::Throttled { .. }) {
                    std::thread::sleep(SLICE);
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = written.and_then(|()| out.flush()) {
            if error.kind() == ErrorKind::BrokenPipe {
                std::process::exit(0); // nobody reads it any more; nothing of it is checkpointed
            }
            return Err(error).context("can't write; what was not written is not checkpointed");
        }
        read += count as u64;
        if let Source::Worker(worker) = &mut source {
            match worker.checkpoint() {
                Err(fenced @ CheckpointError::Fenced { .. }) => eprintln!("ringway: {fenced}"),
                other => drop(other?),
            }
        }
        if count > 0 {
            deadline = Instant::now() + wait;
        } else if !args.follow && Instant::now() >= deadline {
            break;
        }
        if matches!(&source, Source::Alone(reader) if reader.is_at_end()) {
            break;
        }
    }
    Ok(())
}

fn write(
    out: &mut impl Write,
    record: &StreamRecord<'_>,
    json: bool,
    verbose: bool,
) -> std::io::Result<()> {
    if !json {
        if verbose {
            write!(
                out,
                "{} {} {}\t",
                record.shard(),
                record.sequence_number,
                record.key()
            )?;
        }
        out.write_all(record.data)?;
        return out.write_all(b"\n");
    }
    let mut object = json!({
        "shard": record.shard().to_string(),
        "sequence_number": record.sequence_number.to_string(),
        "sub_sequence_number": record.sub_sequence_number,
        "partition_key": record.key(),
        "arrival_ms": record.arrival_ms,
    });
    // Bytes that are no text stay exact.
    match std::str::from_utf8(record.data) {
        Ok(text) => object["data"] = json!(text),
        Err(_) => object["data_base64"] = json!(BASE64_STANDARD.encode(record.data)),
    }
    serde_json::to_writer(&mut *out, &object)?;
    out.write_all(b"\n")
}
