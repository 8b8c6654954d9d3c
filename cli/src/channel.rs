//! `ringway channel`: create, list, inspect, remove, send, read.

use crate::find::{self, Noun};
use crate::output::{Place, parse_bytes, parse_duration, progress, write_line};
use anyhow::{Context, bail};
use ringway::{Channel, Idle, ObjectKind, Overflow, Producers, ReadError, Start};
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a channel
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// The bus
        bus: String,
        /// 1 to 80 characters of A-Z a-z 0-9 _ -
        name: String,
        /// Slots, a power of two from 1024 to 16777216 [default: 32768]
        #[arg(long, value_name = "N")]
        slots: Option<u64>,
        /// Bytes from slot to slot, a multiple of 32 from 64 to 4096 [default: 128]
        #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
        stride: Option<u64>,
        /// Most readers at a time, 1 to 1024 [default: 64]
        #[arg(long, value_name = "N")]
        readers: Option<u32>,
        /// One producer at a time, by plain stores: the fastest
        #[arg(long)]
        exclusive: bool,
        /// Drop the oldest records when full instead of refusing new ones
        #[arg(long)]
        drop_oldest: bool,
        /// When waiting readers step over a live but stopped producer's claim [default: 20ms]
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        stall_timeout: Option<Duration>,
        /// Ask for transparent huge pages
        #[arg(long)]
        huge_pages: bool,
        /// Open it when it exists already; options that are given have to agree
        #[arg(long)]
        if_missing: bool,
    },
    /// List the channels of a bus
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// The bus
        bus: String,
    },
    /// Show definition, positions, readers and counters of a channel
    #[command(after_help = STAT_EXAMPLES)]
    Stat {
        /// The bus
        bus: String,
        /// The channel
        name: String,
    },
    /// Remove a channel with its records; who has it open is told
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// The bus
        bus: String,
        /// The channel
        name: String,
    },
    /// Send one record, or one per line
    ///
    /// Waits while a reliable reader holds the channel back. Exit status 0: everything was sent.
    #[command(after_help = SEND_EXAMPLES)]
    Send(Send),
    /// Read records and print their bodies, one a line
    ///
    /// It is a reliable reader, which holds producers back once it is a ring behind, unless it is --lossy.
    #[command(after_help = READ_EXAMPLES)]
    Read(ReadArgs),
}

const CREATE_EXAMPLES: &str = "Examples:
  ringway channel create demo ticks
  ringway channel create demo ticks --exclusive --slots 65536 --stride 64
  ringway channel create demo frames --drop-oldest --if-missing
A body that does not fit into a slot beside its 32 bytes of words takes a chunk of the bus's pool.";

const LS_EXAMPLES: &str = "Examples:
  ringway channel ls demo
  ringway channel ls demo --json | jq -r '.[].name'";

const STAT_EXAMPLES: &str = "Examples:
  ringway channel stat demo ticks
  ringway channel stat demo ticks --json | jq '.readers[] | {participant, lag}'";

const RM_EXAMPLES: &str = "Examples:
  ringway channel rm demo ticks";

const SEND_EXAMPLES: &str = "Examples:
  ringway channel send demo ticks hello
  ringway channel send demo frames < frame.bin
  seq 1 100000 | ringway channel send demo ticks --lines - --timeout 1m";

const READ_EXAMPLES: &str = "Examples:
  ringway channel read demo ticks
  ringway channel read demo ticks --from latest --follow
  ringway channel read demo ticks --count 10 --wait 5s --json
  ringway channel read demo ticks --follow --lossy --idle spin --core 1";

#[derive(clap::Args)]
pub struct Send {
    /// The bus
    bus: String,
    /// The channel
    name: String,
    /// The body [default: all of standard input]
    body: Option<String>,
    /// One record per line of FILE; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    lines: Option<PathBuf>,
    /// How long to wait for room, for each record
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Pin to this core
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

#[derive(clap::Args)]
pub struct ReadArgs {
    /// The bus
    bus: String,
    /// The channel
    name: String,
    /// Where to start: earliest, latest, or a position
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = parse_start)]
    from: Start,
    /// Go on when everything is read, until interrupted
    #[arg(long)]
    follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Without --follow: how long to wait for the next record
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_duration)]
    wait: Duration,
    /// Do not hold producers back; say what was missed
    #[arg(long)]
    lossy: bool,
    /// How to wait: spin, spin-then-park or park
    #[arg(long, value_name = "HOW", default_value = "park", value_parser = parse_idle)]
    idle: Idle,
    /// Pin to this core
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

fn parse_start(text: &str) -> anyhow::Result<Start> {
    Ok(match text {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        position => Start::At(position.parse().with_context(|| {
            format!("{position:?} is neither earliest nor latest nor a position")
        })?),
    })
}

fn parse_idle(text: &str) -> anyhow::Result<Idle> {
    Ok(match text {
        "spin" => Idle::Spin,
        "spin-then-park" => Idle::SpinThenPark,
        "park" => Idle::Park,
        other => bail!("{other:?} is none of spin, spin-then-park, park"),
    })
}

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create {
            bus,
            name,
            slots,
            stride,
            readers,
            exclusive,
            drop_oldest,
            stall_timeout,
            huge_pages,
            if_missing,
        } => {
            let bus = place.open(&bus)?;
            let was_there = if_missing && bus.channel(&name).open().is_ok();
            let mut builder = bus.channel(&name).huge_pages(huge_pages);
            if let Some(slots) = slots {
                builder = builder.slots(slots);
            }
            if let Some(stride) = stride {
                builder = builder.stride(stride);
            }
            if let Some(readers) = readers {
                builder = builder.readers(readers);
            }
            if exclusive {
                builder = builder.producers(Producers::Exclusive);
            }
            if drop_oldest {
                builder = builder.overflow(Overflow::DropOldest);
            }
            if let Some(timeout) = stall_timeout {
                builder = builder.stall_timeout(timeout);
            }
            let channel = match if_missing {
                true => builder.open_or_create(),
                false => builder.create(),
            };
            let channel =
                channel.map_err(|error| find::explain(&bus, Noun::Channel, &name, error))?;
            let definition = channel.definition();
            let (slots, stride) = (definition.slots, definition.stride);
            let verb = if was_there { "found" } else { "created" };
            let json =
                json!({"channel": name, "created": !was_there, "slots": slots, "stride": stride});
            place.say(json, || {
                format!("{verb} {name}: {slots} slots of {stride} bytes")
            });
        }
        Command::Ls { bus } => {
            let mut objects = place.open(&bus)?.objects()?;
            objects.retain(|object| object.kind == ObjectKind::Channel);
            let json: Vec<_> = objects
                .iter()
                .map(|o| json!({"name": o.name, "bytes": o.bytes}))
                .collect();
            place.say(json!(json), || {
                let names: Vec<_> = objects.iter().map(|object| object.name.as_str()).collect();
                if names.is_empty() {
                    format!("no channel on {bus}")
                } else {
                    names.join("\n")
                }
            });
        }
        Command::Stat { bus, name } => stat(&place.channel(&bus, &name)?.1, place),
        Command::Rm { bus, name } => {
            find::remove(&place.open(&bus)?, Noun::Channel, &name)?;
            place.say(json!({"removed": name}), || format!("removed {name}"));
        }
        Command::Send(args) => send(&args, place)?,
        Command::Read(args) => read(&args, place)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn stat(channel: &Channel, place: &Place) {
    let definition = channel.definition();
    let stats = channel.stats();
    let readers: Vec<_> = stats
        .readers
        .iter()
        .map(|r| {
            json!({"participant": r.participant.0, "reliable": r.reliable, "cursor": r.cursor,
                   "lag": stats.tail.saturating_sub(r.cursor), "lost": r.lost})
        })
        .collect();
    let json = json!({
        "name": definition.name, "slots": definition.slots, "stride": definition.stride,
        "producers": format!("{:?}", definition.producers).to_lowercase(),
        "overflow": format!("{:?}", definition.overflow), "tail": stats.tail, "trim": stats.trim,
        "reclaim": stats.reclaim, "producer": stats.producer.map(|p| p.0), "readers": readers,
        "abandoned": stats.abandoned, "voided": stats.voided, "renewed": stats.renewed,
        "damaged": stats.damaged, "dropped": stats.dropped,
    });
    place.say(json, || {
        let mut text = format!(
            "{}: {} slots of {} bytes, {:?} producers, {:?} when full\n\
             tail {}  trim {}  reclaim {}\n\
             abandoned {}  voided {}  renewed {}  damaged {}  dropped {}",
            definition.name,
            definition.slots,
            definition.stride,
            definition.producers,
            definition.overflow,
            stats.tail,
            stats.trim,
            stats.reclaim,
            stats.abandoned,
            stats.voided,
            stats.renewed,
            stats.damaged,
            stats.dropped,
        );
        for reader in &stats.readers {
            text += &format!(
                "\nreader {}: {} at {}, {} behind, {} lost",
                reader.participant,
                if reader.reliable { "reliable" } else { "lossy" },
                reader.cursor,
                stats.tail.saturating_sub(reader.cursor),
                reader.lost,
            );
        }
        text
    });
}

fn pin(core: Option<usize>) -> anyhow::Result<()> {
    core.map_or(Ok(()), |core| {
        Ok(ringway::affinity::pin_current_thread(core)?)
    })
}

fn send(args: &Send, place: &Place) -> anyhow::Result<()> {
    pin(args.core)?;
    let (_bus, channel) = place.channel(&args.bus, &args.name)?;
    let mut producer = channel.producer()?;
    let mut last = None;
    let mut sent = 0u64;
    let mut bytes = 0u64;
    if let Some(path) = &args.lines {
        let (input, total): (Box<dyn Read>, u64) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdin()), 0)
        } else {
            let file = std::fs::File::open(path).with_context(|| format!("can't open {path:?}"))?;
            let total = file.metadata()?.len();
            (Box::new(file), total)
        };
        let progress = progress(total);
        for line in BufReader::with_capacity(1 << 20, input).split(b'\n') {
            let line = line.with_context(|| format!("can't read {path:?}"))?;
            last = Some(
                producer
                    .send(&line, args.timeout)
                    .with_context(|| format!("{sent} records were sent, the next one was not"))?,
            );
            sent += 1;
            bytes += line.len() as u64 + 1;
            progress.set_position(bytes);
        }
        progress.finish_and_clear();
    } else {
        let mut body = Vec::new();
        match &args.body {
            Some(text) => body.extend_from_slice(text.as_bytes()),
            None => {
                std::io::stdin()
                    .read_to_end(&mut body)
                    .context("can't read standard input")?;
            }
        }
        last = Some(producer.send(&body, args.timeout)?);
        sent = 1;
    }
    place.say(
        json!({"sent": sent, "last_position": last}),
        || match last {
            Some(position) => format!("sent {sent}, last position {position}"),
            None => "nothing to send".to_owned(),
        },
    );
    Ok(())
}

fn read(args: &ReadArgs, place: &Place) -> anyhow::Result<()> {
    pin(args.core)?;
    let (_bus, channel) = place.channel(&args.bus, &args.name)?;
    let mut builder = channel.reader().start(args.from).idle(args.idle);
    if args.lossy {
        builder = builder.lossy();
    }
    let mut reader = builder.join()?;
    let mut buffer = vec![0u8; 4096];
    let mut read = 0;
    while args.count.is_none_or(|count| read < count) {
        match reader.try_read(&mut buffer) {
            Ok(Some(record)) => {
                print(place, record.position, &buffer[..record.len]);
                read += 1;
            }
            Ok(None) => {
                let patience = if args.follow {
                    Duration::from_secs(1)
                } else {
                    args.wait
                };
                if !reader.wait(patience)? && !args.follow {
                    break;
                }
            }
            Err(ReadError::BufferTooSmall { needed, .. }) => buffer.resize(needed, 0),
            Err(lagged @ ReadError::Lagged { .. }) => eprintln!("ringway: {lagged}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn print(place: &Place, position: u64, body: &[u8]) {
    if !place.json {
        return write_line(body);
    }
    let line = match std::str::from_utf8(body) {
        Ok(text) => json!({"position": position, "body": text}),
        // Bytes that are no text stay exact.
        Err(_) => json!({"position": position, "body_bytes": body}),
    };
    write_line(line.to_string().as_bytes());
}
