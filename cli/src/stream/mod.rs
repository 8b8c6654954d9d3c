//! `ringway stream`: create, list, inspect, reshard and remove streams, and see to their groups and
//! consumers.

mod consumer;
pub(crate) mod show;

use crate::find::{self, Noun};
use crate::output::{Place, Usage, parse_bytes, parse_duration};
use ringway::{
    Backpressure, Durability, OnDemand, Producers, ReshardError, Retention, ShardId, ShardLimits,
    Stream, StreamBuilder,
};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Create a stream
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// List the streams of a bus
    #[command(after_help = LS_EXAMPLES)]
    Ls {
        /// The bus
        bus: String,
    },
    /// Show definition, counts, groups and workers of a stream
    #[command(after_help = STAT_EXAMPLES)]
    Stat(Named),
    /// List the shards of a stream with their hash keys and what they came from
    #[command(after_help = SHARDS_EXAMPLES)]
    Shards {
        #[command(flatten)]
        named: Named,
        /// Only those that take records
        #[arg(long)]
        open: bool,
    },
    /// Replace a shard by two, while the stream is in use; the order of each key is kept
    #[command(after_help = RESHARD_EXAMPLES)]
    Split {
        #[command(flatten)]
        named: Named,
        /// The shard, as `ringway stream shards` lists it; the number alone will do
        shard: ShardId,
        /// The first hash key of the second half [default: the middle]
        #[arg(long, value_name = "HASH_KEY")]
        at: Option<u128>,
    },
    /// Replace two adjacent shards by one, while the stream is in use
    #[command(after_help = RESHARD_EXAMPLES)]
    Merge {
        #[command(flatten)]
        named: Named,
        /// One of the two
        first: ShardId,
        /// The other one
        second: ShardId,
    },
    /// Split and merge until there are so many shards of the same size, while the stream is in use
    #[command(after_help = RESHARD_EXAMPLES)]
    Scale {
        #[command(flatten)]
        named: Named,
        /// How many, 1 to 1000
        shards: u32,
    },
    /// Give the memory of closed shards back that every group has read; on disk, once their records are old
    #[command(after_help = RETIRE_EXAMPLES)]
    Retire(Named),
    /// Change how long a stream on disk keeps its records; without an option, give back what is over
    #[command(after_help = RETAIN_EXAMPLES)]
    Retain {
        #[command(flatten)]
        named: Named,
        /// A record older than this is gone: 24h to 365d
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        age: Option<Duration>,
        /// Bytes of segments that each shard keeps at most; 0 for any number
        #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
        bytes: Option<u64>,
    },
    /// Remove a consumer group; its workers are told
    #[command(after_help = RM_GROUP_EXAMPLES)]
    RmGroup {
        #[command(flatten)]
        named: Named,
        /// The group
        group: String,
    },
    /// Register a consumer with cursors of its own, which `ringway read --consumer` subscribes as
    #[command(after_help = consumer::EXAMPLES)]
    Register(consumer::Register),
    /// Deregister a consumer; its subscriber is told
    #[command(after_help = consumer::EXAMPLES)]
    Deregister {
        #[command(flatten)]
        named: Named,
        /// The consumer
        consumer: String,
    },
    /// List the registered consumers with their counts
    #[command(after_help = consumer::EXAMPLES)]
    Consumers(Named),
    /// Remove a stream with its records and its journals; who has it open is told
    #[command(after_help = RM_EXAMPLES)]
    Rm(Named),
}

#[derive(clap::Args)]
pub struct Named {
    /// The bus
    bus: String,
    /// The stream
    #[arg(value_name = "STREAM")]
    name: String,
}

#[derive(clap::Args)]
pub struct Create {
    /// The bus
    bus: String,
    /// 1 to 80 characters of A-Z a-z 0-9 _ -
    name: String,
    /// Shards: units of order, and of what consumers share, 1 to 1000 [default: 1, or with --on-demand the
    /// fewest]
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// Slots of each shard, the records that it retains: a power of two from 1024 [default: 8192]
    #[arg(long, value_name = "N")]
    slots: Option<u64>,
    /// Bytes from slot to slot, a multiple of 32 from 64 to 4096 [default: 256]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    stride: Option<u64>,
    /// What a put meets at a shard that a group or a reader has not read: it waits, fails, or drops
    /// the oldest records
    #[arg(long, value_name = "WHAT", default_value = "wait", value_parser = ["wait", "fail", "drop-oldest"])]
    when_full: String,
    /// With --when-full wait: how long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    put_timeout: Duration,
    /// After this long without a sign a live worker's shards pass on; a dead one's do at once
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    lease_timeout: Duration,
    /// One producer for each shard at a time, who puts without a locked instruction: it has the shard from its
    /// first put until it ends. In memory, with the shards that it is created with
    #[arg(long)]
    exclusive: bool,
    /// Emulate the limits of Kinesis: 1000 records and 1 MiB a second in, 2 MiB out, for each shard
    #[arg(long)]
    limits: bool,
    /// Split and merge shards by the load that is seen, instead of provisioning them
    #[arg(long)]
    on_demand: bool,
    /// With --on-demand: the fewest shards [default: 4]
    #[arg(long, value_name = "SHARDS", requires = "on_demand")]
    min_shards: Option<u32>,
    /// With --on-demand: the most shards [default: 200]
    #[arg(long, value_name = "SHARDS", requires = "on_demand")]
    max_shards: Option<u32>,
    /// With --on-demand: records a second that a shard is meant for [default: 1000]
    #[arg(long, value_name = "RECORDS", requires = "on_demand")]
    shard_records: Option<u32>,
    /// With --on-demand: bytes a second that a shard is meant for [default: 1M]
    #[arg(long, value_name = "BYTES", requires = "on_demand", value_parser = parse_bytes)]
    shard_bytes: Option<u64>,
    /// With --on-demand: the load is looked at once in this time [default: 1s]
    #[arg(long, value_name = "TIME", requires = "on_demand", value_parser = parse_duration)]
    window: Option<Duration>,
    /// With --on-demand: two neighbours are merged when they had next to nothing to do for so long [default: 1h]
    #[arg(long, value_name = "TIME", requires = "on_demand", value_parser = parse_duration)]
    calm: Option<Duration>,
    /// What the stream survives: memory, the death of every process; durable, a restart of the machine too, for
    /// which a put waits for the disk; async, the same but for the last moment: a put does not wait
    /// [default: memory]
    #[arg(long, value_name = "memory|async|durable", value_parser = crate::queue::parse_durability)]
    durability: Option<Durability>,
    /// On disk: a record older than this is gone, 24h to 365d [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retention: Option<Duration>,
    /// On disk: bytes of segments that each shard keeps at most [default: any number]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    retention_bytes: Option<u64>,
    /// On disk: bytes of a segment, which is what goes at a time [default: four rings, 4M to 64M]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    segment_bytes: Option<u64>,
    /// Open it when it exists already; options that are given have to agree
    #[arg(long)]
    if_missing: bool,
}

const CREATE_EXAMPLES: &str = "Examples:
  ringway stream create demo trucks --shards 5
  ringway stream create demo clicks --shards 16 --slots 65536 --when-full drop-oldest
  ringway stream create demo ticks --shards 4 --exclusive
  ringway stream create demo dry-run --limits
  ringway stream create demo orders --on-demand --max-shards 32 --shard-records 100000
  ringway stream create demo payments --shards 4 --durability durable --retention 7d
In memory a shard retains as many records as it has slots; on disk, as long as the retention says.";

const RETAIN_EXAMPLES: &str = "Examples:
  ringway stream retain demo payments --age 30d
  ringway stream retain demo payments --age 24h --bytes 10G
  ringway stream retain demo payments
Readers go by it at once. What was given back does not come back when the retention is raised again.";

const LS_EXAMPLES: &str = "Examples:
  ringway stream ls demo
  ringway stream ls demo --json | jq -r '.[].name'";

const STAT_EXAMPLES: &str = "Examples:
  ringway stream stat demo trucks
  ringway stream stat demo trucks --json | jq '.groups[] | {name, behind}'";

const SHARDS_EXAMPLES: &str = "Examples:
  ringway stream shards demo trucks
  ringway stream shards demo trucks --open";

const RETIRE_EXAMPLES: &str = "Examples:
  ringway stream scale demo trucks 8
  ringway stream retire demo trucks";

const RM_GROUP_EXAMPLES: &str = "Examples:
  ringway stream rm-group demo trucks billing
A group holds back what it has not checkpointed, also when none of its workers lives, until it is removed.";

const RM_EXAMPLES: &str = "Examples:
  ringway stream rm demo trucks";

const RESHARD_EXAMPLES: &str = "Examples:
  ringway stream shards demo trucks --open
  ringway stream split demo trucks 3
  ringway stream merge demo trucks 5 6
  ringway stream scale demo trucks 16
Producers and readers go on. A new shard is read when what it replaced is read to its end.";

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(args) => create(&args, place)?,
        Command::Ls { bus } => show::list(&bus, place)?,
        Command::Stat(named) => show::stat(&named.open(place)?.1, place)?,
        Command::Shards { named, open } => show::shards(&named.open(place)?.1, open, place)?,
        Command::Split { named, shard, at } => {
            let (_bus, stream) = named.open(place)?;
            let [low, high] = stream.split(shard, at).map_err(explain)?;
            let json =
                json!({"split": shard.to_string(), "into": [low.to_string(), high.to_string()]});
            place.say(json, || format!("split {shard} into {low} and {high}"));
        }
        Command::Merge {
            named,
            first,
            second,
        } => {
            let (_bus, stream) = named.open(place)?;
            let merged = stream.merge(first, second).map_err(explain)?;
            let json = json!({
                "merged": [first.to_string(), second.to_string()], "into": merged.to_string(),
            });
            place.say(json, || {
                format!("merged {first} and {second} into {merged}")
            });
        }
        Command::Scale { named, shards } => {
            let (_bus, stream) = named.open(place)?;
            let changes = stream.update_shard_count(shards).map_err(explain)?;
            let json = json!({"stream": named.name, "shards": shards, "changes": changes});
            place.say(json, || {
                format!(
                    "{} has {shards} shards now, by {changes} splits and merges",
                    named.name
                )
            });
        }
        Command::Retire(named) => {
            let (_bus, stream) = named.open(place)?;
            let retired = stream.retire_closed().map_err(explain)?;
            place.say(json!({"retired": retired}), || {
                format!("retired {retired} closed shards")
            });
        }
        Command::Retain { named, age, bytes } => {
            let (_bus, stream) = named.open(place)?;
            retain(&stream, age, bytes, place)?;
        }
        Command::RmGroup { named, group } => {
            let (_bus, stream) = named.open(place)?;
            if !stream.remove_group(&group)? {
                let groups = stream.groups()?.into_iter().map(|group| group.name);
                let near = find::near(&group, &groups.collect::<Vec<_>>());
                anyhow::bail!(
                    "there is no group {group:?} of stream {:?}{near}; `ringway stream stat {} {}` lists them",
                    named.name,
                    named.bus,
                    named.name
                );
            }
            place.say(json!({"removed": group}), || {
                format!("removed group {group}")
            });
        }
        Command::Register(args) => consumer::register(&args, place)?,
        Command::Deregister { named, consumer } => {
            let (_bus, stream) = named.open(place)?;
            consumer::deregister(&stream, &consumer, place)?;
        }
        Command::Consumers(named) => consumer::list(&named.open(place)?.1, place)?,
        Command::Rm(named) => {
            let name = &named.name;
            find::remove(&place.open(&named.bus)?, Noun::Stream, name)?;
            place.say(json!({"removed": name}), || format!("removed {name}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Named {
    fn open(&self, place: &Place) -> anyhow::Result<(ringway::Bus, Stream)> {
        place.stream(&self.bus, &self.name)
    }
}

/// What can't be is wrong usage.
fn explain(error: ReshardError) -> anyhow::Error {
    match error {
        ReshardError::Open(_) | ReshardError::Busy { .. } | ReshardError::NoNumbers { .. } => {
            error.into()
        }
        other => Usage(other.to_string()).into(),
    }
}

fn retain(
    stream: &Stream,
    age: Option<Duration>,
    bytes: Option<u64>,
    place: &Place,
) -> anyhow::Result<()> {
    let Some(mut kept) = stream.retention() else {
        let why = "the stream lies in memory, and keeps as many records as it has slots; create one with --durability durable";
        return Err(Usage(why.to_owned()).into());
    };
    kept.age = age.unwrap_or(kept.age);
    if let Some(bytes) = bytes {
        kept.bytes = (bytes != 0).then_some(bytes);
    }
    if age.is_some() || bytes.is_some() {
        stream.set_retention(kept)?;
    } else {
        stream.give_segments_back()?;
    }
    let disk_bytes = stream.disk_bytes()?;
    let json = json!({
        "stream": stream.name(), "age_ms": kept.age.as_millis() as u64, "bytes": kept.bytes,
        "disk_bytes": disk_bytes,
    });
    place.say(json, || {
        let most = kept.bytes.map_or(String::new(), |bytes| {
            format!(", at most {bytes} bytes a shard")
        });
        format!(
            "{} keeps records for {}{most}; {disk_bytes} bytes on disk now",
            stream.name(),
            humantime::format_duration(kept.age)
        )
    });
    Ok(())
}

fn create(args: &Create, place: &Place) -> anyhow::Result<()> {
    let bus = place.open(&args.bus)?;
    let was_there = args.if_missing && bus.stream(&args.name).open().is_ok();
    let builder = args.apply(bus.stream(&args.name));
    let stream = match args.if_missing {
        true => builder.open_or_create(),
        false => builder.create(),
    };
    let stream = stream.map_err(|error| find::explain(&bus, Noun::Stream, &args.name, error))?;
    let stats = stream.stats()?;
    let (slots, stride) = (stream.definition().slots, stream.definition().stride);
    let json = json!({
        "stream": args.name, "created": !was_there, "shards": stats.open_shards, "slots": slots,
        "stride": stride, "bytes": stats.bytes,
    });
    let verb = if was_there { "found" } else { "created" };
    place.say(json, || {
        format!(
            "{verb} {}: {} shards of {slots} slots of {stride} bytes",
            args.name, stats.open_shards
        )
    });
    Ok(())
}

impl Create {
    fn apply(&self, mut builder: StreamBuilder) -> StreamBuilder {
        if let Some(shards) = self.shards {
            builder = builder.shards(shards);
        }
        if self.on_demand {
            let usual = OnDemand::default();
            let bytes = self.shard_bytes.unwrap_or(usual.bytes.into());
            builder = builder.on_demand(OnDemand {
                min_shards: self.min_shards.unwrap_or(usual.min_shards),
                max_shards: self.max_shards.unwrap_or(usual.max_shards),
                records: self.shard_records.unwrap_or(usual.records),
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                window: self.window.unwrap_or(usual.window),
                calm: self.calm.unwrap_or(usual.calm),
            });
        }
        if let Some(slots) = self.slots {
            builder = builder.slots(slots);
        }
        if let Some(stride) = self.stride {
            builder = builder.stride(stride);
        }
        if self.exclusive {
            builder = builder.producers(Producers::Exclusive);
        }
        if self.limits {
            builder = builder.limits(ShardLimits::KINESIS);
        }
        if let Some(durability) = self.durability {
            builder = builder.durability(durability);
        }
        if let Some(bytes) = self.segment_bytes {
            builder = builder.segment_bytes(bytes);
        }
        let usual = Retention::default();
        builder = builder.retention(Retention {
            age: self.retention.unwrap_or(usual.age),
            bytes: self.retention_bytes,
        });
        let backpressure = match self.when_full.as_str() {
            "fail" => Backpressure::Fail,
            "drop-oldest" => Backpressure::DropOldest,
            _ => Backpressure::Block(self.put_timeout),
        };
        builder
            .backpressure(backpressure)
            .lease_timeout(self.lease_timeout)
    }
}
