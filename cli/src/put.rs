//! `ringway put`: one record, or one per line of a file, or one per row of a CSV file, into a stream.
//!
//! Records are put one by one, in their order. A full or throttled shard is waited for. What can't be put
//! ends the command with the number of its line; every line before it was put, none behind it.

use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration, progress};
use crate::send::lines::{Lines, Single};
use crate::send::rows::{Columns, Rows};
use crate::send::{Item, Source, open};
use anyhow::Context;
use ringway::{Attributes, MAX_RECORD_BYTES, Put, PutError, PutRecord, StreamProducer};
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
    #[arg(long, value_name = "COLUMN", requires = "csv")]
    key_column: Option<String>,
    /// With --csv: the data is this column's value
    #[arg(long, value_name = "COLUMN", requires = "csv")]
    data_column: Option<String>,
    /// With --csv: what stands between two columns [default: ,]
    #[arg(long, value_name = "CHARACTER", requires = "csv")]
    delimiter: Option<char>,
    /// How long to wait for room in a full shard, for each record
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    timeout: Duration,
}

const EXAMPLES: &str = "Examples:
  ringway put demo trucks --key truck-7 '52.5,13.4'
  seq 1 100000 | ringway put demo numbers --lines -
  ringway put demo flights --csv flights.csv --key-column tailnum
  ringway put demo trucks --hash-key 0 'to the first shard'";

#[derive(Default)]
struct Count {
    put: u64,
    by_shard: BTreeMap<u32, u64>,
    last: Option<Put>,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, stream) = place.stream(&args.bus, &args.name)?;
    let mut producer = stream.producer()?;
    let (mut source, total) = source(args)?;
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let mut count = Count::default();
    let bar = progress(total);
    let done = put_all(args, &mut producer, &mut *source, &signal, &mut count, &bar);
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

fn put_all(
    args: &Args,
    producer: &mut StreamProducer,
    source: &mut dyn Source,
    signal: &Signal,
    count: &mut Count,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<()> {
    while let Some(item) = source.next()? {
        signal.check()?;
        let spread;
        let key = match (item.group.as_deref(), args.key.as_deref()) {
            (Some(key), _) | (None, Some(key)) => key,
            (None, None) => {
                spread = format!("{}", count.put);
                &spread
            }
        };
        let record = PutRecord {
            partition_key: key,
            explicit_hash_key: args.hash_key,
            data: &item.body,
        };
        let put = put(producer, &record, args.timeout, signal)?;
        let put = put.map_err(|error| refused(&item, error))?;
        count.put += 1;
        *count.by_shard.entry(put.shard.0).or_default() += 1;
        count.last = Some(put);
        if count.put.is_multiple_of(SHOW_EVERY) {
            bar.set_position(source.bytes());
        }
    }
    Ok(())
}

/// Waits for a full shard as long as it may, and for a throttled one too.
fn put(
    producer: &mut StreamProducer,
    record: &PutRecord<'_>,
    timeout: Duration,
    signal: &Signal,
) -> anyhow::Result<Result<Put, PutError>> {
    let end = Instant::now() + timeout;
    loop {
        signal.check()?;
        let outcome = producer.put_within(record, RETRY);
        match outcome {
            Err(PutError::Full { .. }) if Instant::now() < end => {}
            Err(PutError::Throttled { .. }) if Instant::now() < end => std::thread::sleep(RETRY),
            outcome => return Ok(outcome),
        }
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
    fn report(&self, place: &Place) {
        let by_shard: BTreeMap<String, u64> = self
            .by_shard
            .iter()
            .map(|(shard, count)| (ringway::ShardId(*shard).to_string(), *count))
            .collect();
        let last = self.last.map(|put| put.sequence_number.to_string());
        let json = json!({"put": self.put, "last_sequence_number": last, "by_shard": by_shard});
        place.say(json, || match (self.last, self.put) {
            (None, _) => "nothing to put".to_owned(),
            (Some(put), 1) => format!("put 1, {} of {}", put.sequence_number, put.shard),
            (Some(_), count) => format!("put {count}, into {} shards", self.by_shard.len()),
        });
    }
}
