//! `ringway put`: one record, or one per line of a file, or one per row of a CSV file, into a stream.
//!
//! Records are put one by one, in their order. A full or throttled shard is waited for. What can't be put
//! ends the command with the number of its line; every line before it was put, none behind it.

use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration, progress};
use crate::send::lines::{Lines, Single};
use crate::send::rows::{Columns, Rows};
use crate::send::{Item, Source, open};
use crate::stream::show;
use anyhow::Context;
use ringway::{
    AggregatingProducer, Aggregation, Attributes, Flushed, MAX_RECORD_BYTES, PutError, PutRecord,
    Scaling, SequenceNumber, Stream, StreamProducer,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two attempts at a shard that is throttled.
const RETRY: Duration = Duration::from_millis(20);
/// Records between two moves of the bar.
const SHOW_EVERY: u64 = 256;

/// Put records into a stream: one, one per line, or one per row of a CSV file
///
/// A record goes to the shard that its partition key says, as in Kinesis, and records of a key are read
/// in the order they were put. Waits while a shard is full. Exit status 0: everything was put. Else the
/// number of the line that was not put is told: all lines before it were, and none behind it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The stream
    #[arg(value_name = "STREAM")]
    name: String,
    /// The data [default: all of standard input]
    #[arg(conflicts_with_all = ["lines", "csv"])]
    data: Option<String>,
    /// The partition key [default: of each record a number of its own, so that they spread]
    #[arg(long, conflicts_with = "csv")]
    key: Option<String>,
    /// Where the record belongs, whatever its key says: a number of 128 bits
    #[arg(long, value_name = "NUMBER")]
    hash_key: Option<u128>,
    /// One record per line of FILE; - is standard input
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// One record per row of FILE behind its header row; the data is the row as it stands there
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "lines",
        requires = "key_column"
    )]
    csv: Option<PathBuf>,
    /// With --csv: this column's value is the row's partition key
    #[arg(long, value_name = "COLUMN", requires = "csv", conflicts_with_all = ["data", "lines"])]
    key_column: Option<String>,
    /// With --csv: the data is this column's value
    #[arg(long, value_name = "COLUMN", requires = "csv", conflicts_with_all = ["data", "lines"])]
    data_column: Option<String>,
    /// With --csv: what stands between two columns [default: ,]
    #[arg(long, value_name = "CHARACTER", requires = "csv", conflicts_with_all = ["data", "lines"])]
    delimiter: Option<char>,
    /// Put many records as one: readers are handed each, and it costs a fraction
    #[arg(long, conflicts_with = "data")]
    aggregate: bool,
    /// How long to wait for room in a full shard, for each record
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    timeout: Duration,
}

const EXAMPLES: &str = "Examples:
  ringway put demo trucks --key truck-7 '52.5,13.4'
  seq 1 100000 | ringway put demo numbers --lines -
  ringway put demo flights --csv flights.csv --key-column tailnum --aggregate
  ringway put demo trucks --hash-key 0 'to the first shard'";

#[derive(Default)]
struct Count {
    put: u64,
    by_shard: BTreeMap<u32, u64>,
    last: Option<SequenceNumber>,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, stream) = place.stream(&args.bus, &args.name)?;
    let producer = stream.producer()?;
    let mut putter = match args.aggregate {
        true => Putter::Many(Box::new(producer.aggregating(Aggregation::default()))),
        false => Putter::Each(Box::new(producer)),
    };
    let (mut source, total) = source(args)?;
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let mut count = Count::default();
    let bar = progress(total);
    let mut watcher = Scaler::of(&stream);
    let mut done = put_all(
        args,
        &mut putter,
        &mut *source,
        &signal,
        &mut count,
        |source| {
            bar.set_position(source.bytes());
            bar.suspend(|| watcher.tell());
        },
    );
    if done.is_ok() {
        done = putter.flush(args.timeout, &signal, &mut count);
    }
    watcher.tell();
    drop(watch);
    bar.finish_and_clear();
    if !done.as_ref().is_err_and(|error| error.is::<Usage>()) {
        count.report(place);
    }
    done?;
    Ok(ExitCode::SUCCESS)
}

fn source(args: &Args) -> anyhow::Result<(Box<dyn Source>, u64)> {
    if let (Some(path), Some(key)) = (&args.csv, &args.key_column) {
        let (input, total) = open(path)?;
        let columns = Columns::keyed_by(key, args.data_column.as_deref(), args.delimiter);
        return Ok((
            Box::new(Rows::new(input, &columns, &Attributes::default())?),
            total,
        ));
    }
    if let Some(path) = &args.lines {
        let (input, total) = open(path)?;
        return Ok((Box::new(Lines::new(input, MAX_RECORD_BYTES)), total));
    }
    let data = match &args.data {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let mut data = Vec::new();
            std::io::stdin()
                .read_to_end(&mut data)
                .context("can't read standard input")?;
            data
        }
    };
    Ok((Box::new(Single::new(data)), 0))
}

/// Who puts: each record by itself, or many as one.
enum Putter {
    Each(Box<StreamProducer>),
    Many(Box<AggregatingProducer>),
}

impl Putter {
    /// What an attempt put.
    fn attempt(&mut self, record: &PutRecord<'_>, count: &mut Count) -> Result<(), PutError> {
        match self {
            Self::Each(producer) => {
                let put = producer.put_within(record, RETRY)?;
                count.add(put.shard.0, 1, put.sequence_number);
            }
            Self::Many(producer) => {
                let flushed = producer.put_record(record)?;
                count.add_all(&flushed);
            }
        }
        Ok(())
    }

    fn flush(
        &mut self,
        timeout: Duration,
        signal: &Signal,
        count: &mut Count,
    ) -> anyhow::Result<()> {
        let Self::Many(producer) = self else {
            return Ok(());
        };
        let flushed = patiently(timeout, signal, || {
            let flushed = producer.flush()?;
            count.add_all(&flushed);
            Ok(())
        })?;
        flushed.context("the last records were not put")
    }
}

fn put_all(
    args: &Args,
    putter: &mut Putter,
    source: &mut dyn Source,
    signal: &Signal,
    count: &mut Count,
    mut show: impl FnMut(&dyn Source),
) -> anyhow::Result<()> {
    let mut taken = 0u64;
    while let Some(item) = source.next()? {
        signal.check()?;
        let spread;
        let key = match (item.group.as_deref(), args.key.as_deref()) {
            (Some(key), _) | (None, Some(key)) => key,
            (None, None) => {
                spread = format!("{taken}");
                &spread
            }
        };
        let record = PutRecord {
            partition_key: key,
            explicit_hash_key: args.hash_key,
            data: &item.body,
        };
        let put = patiently(args.timeout, signal, || putter.attempt(&record, count))?;
        put.map_err(|error| refused(&item, error))?;
        taken += 1;
        if taken.is_multiple_of(SHOW_EVERY) {
            show(source);
        }
    }
    Ok(())
}

/// Waits for a full shard as long as it may, and for a throttled one too.
fn patiently(
    timeout: Duration,
    signal: &Signal,
    mut attempt: impl FnMut() -> Result<(), PutError>,
) -> anyhow::Result<Result<(), PutError>> {
    let end = Instant::now() + timeout;
    loop {
        signal.check()?;
        match attempt() {
            Err(PutError::Full { .. }) if Instant::now() < end => {}
            Err(PutError::Throttled { .. }) if Instant::now() < end => std::thread::sleep(RETRY),
            outcome => return Ok(outcome),
        }
    }
}

/// Says when the stream split or merged by its load.
struct Scaler<'a> {
    stream: &'a Stream,
    seen: Option<Scaling>,
}

impl<'a> Scaler<'a> {
    fn of(stream: &'a Stream) -> Self {
        let seen = stream.scaling();
        Self { stream, seen }
    }

    fn tell(&mut self) {
        let now = self.stream.scaling();
        let last = now.and_then(|now| now.last);
        if now != self.seen
            && let Some((scaled, _)) = last
        {
            let open = self.stream.stats().map_or(0, |stats| stats.open_shards);
            let (name, did) = (self.stream.name(), show::did(scaled));
            eprintln!("ringway: {name} has {open} shards now, by load: {did}");
        }
        self.seen = now;
    }
}

fn refused(item: &Item, error: PutError) -> anyhow::Error {
    let is_usage = matches!(
        error,
        PutError::InvalidPartitionKey { .. } | PutError::TooLarge { .. }
    );
    let text = match item.line {
        Some(line) => format!("line {line} was not put, nor any behind it: {error}"),
        None => error.to_string(),
    };
    match is_usage && item.line.is_none() {
        true => Usage(text).into(),
        false => anyhow::anyhow!(text),
    }
}

impl Count {
    fn add(&mut self, shard: u32, records: u64, number: SequenceNumber) {
        self.put += records;
        *self.by_shard.entry(shard).or_default() += records;
        self.last = Some(number);
    }

    fn add_all(&mut self, flushed: &[Flushed]) {
        for flushed in flushed {
            let records = flushed.records.into();
            self.add(flushed.shard.0, records, flushed.sequence_number);
        }
    }

    fn report(&self, place: &Place) {
        let by_shard: BTreeMap<String, u64> = self
            .by_shard
            .iter()
            .map(|(shard, count)| (ringway::ShardId(*shard).to_string(), *count))
            .collect();
        let last = self.last.map(|last| last.to_string());
        let json = json!({"put": self.put, "last_sequence_number": last, "by_shard": by_shard});
        place.say(json, || match (self.last, self.put) {
            (None, _) => "nothing to put".to_owned(),
            (Some(last), 1) => format!("put 1, {last} of {}", last.shard()),
            (Some(_), count) => format!("put {count}, into {} shards", self.by_shard.len()),
        });
    }
}
