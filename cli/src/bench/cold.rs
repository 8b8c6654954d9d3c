//! `ringway bench stream-cold`: reading a stream on disk from its beginning, beside the disk itself.
//!
//! A stream of one shard is filled until its ring holds next to nothing of it; what was put was written around
//! the page cache, so nothing of it is in memory. Then, in turn, the disk reads the files of its segments one
//! behind the other with direct reads of 4 MiB, and a reader reads the stream from TRIM_HORIZON, looking at
//! every record. The disk's rate is that of the bytes of the files, the stream's that of the data in its
//! records alone, so the ratio of a turn is rather too low. Before that the bus is deleted and the stream opened by its
//! journals, as behind a restart of the machine: that takes as long however much is retained.

use anyhow::{bail, ensure};
use ringway::journal::{Disk, SegmentFile, Storage};
use ringway::{Bus, Durability, PutRecord, Stream, StreamIterator};
use ringway_measure::scratch::{DiskScratch, Scratch};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Bytes of one read of the disk.
const READ: usize = 4 << 20;
/// What direct reads want their memory to begin at.
const ALIGNMENT: usize = 4096;
const KEY: &str = "truck-7";

/// Read a stream from disk, beside the disk itself
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  ringway bench stream-cold
  ringway bench stream-cold --bytes 4G --turns 5 --json
It writes as much under $TMPDIR, or /var/tmp, and removes it.")]
pub struct Cold {
    /// Bytes of data to put
    #[arg(long, value_name = "BYTES", default_value = "1500M", value_parser = crate::output::parse_bytes)]
    bytes: u64,
    /// Bytes of data of a record
    #[arg(long, value_name = "N", default_value_t = 1000)]
    record: usize,
    /// Times that both read, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Cold) -> anyhow::Result<ExitCode> {
    let (memory, disk) = (
        Scratch::in_shared_memory().map_err(scratch)?,
        DiskScratch::new().map_err(scratch)?,
    );
    let open_bus = || {
        let bus = Bus::builder("bench").root(memory.path());
        bus.journal_root(disk.path().join("journals"))
            .open_or_create()
    };
    let bus = open_bus()?;
    let stride = (args.record as u64 + 96).next_multiple_of(32).min(4096);
    let stream = bus
        .stream("cold")
        .durability(Durability::Durable)
        .stride(stride)
        .segment_bytes(64 << 20)
        .create()?;
    let records = (args.bytes / args.record.max(8) as u64).max(1);
    let took = fill(&stream, records, args.record.max(8))?;
    say(
        args,
        &serde_json::json!({
            "record": "put", "records": records, "bytes": args.bytes,
            "seconds": took.as_secs_f64(), "records_a_second": records as f64 / took.as_secs_f64(),
        }),
        || {
            let rate = args.bytes as f64 / took.as_secs_f64() / 1e6;
            format!("put      {records} records in batches of 500, {rate:.0} MB/s")
        },
    );
    let directory = bus.directory().to_owned();
    drop((stream, bus));
    std::fs::remove_dir_all(&directory)?;
    let begun = Instant::now();
    let bus = open_bus()?;
    let stream = bus.stream("cold").open()?;
    let seconds = begun.elapsed().as_secs_f64();
    say(
        args,
        &serde_json::json!({"record": "open", "bytes": args.bytes, "seconds": seconds}),
        || format!("open     {:.0} ms behind a restart", seconds * 1e3),
    );
    let directory = shard_directory(&disk.path().join("journals/ringway-bench/cold"))?;
    let mut ratios = Vec::new();
    for _ in 0..args.turns {
        let (bytes, by_disk) = read_files(&directory)?;
        let by_stream = read_stream(&stream, records)?;
        let disk_rate = bytes as f64 / by_disk.as_secs_f64() / 1e6;
        let stream_rate = args.bytes as f64 / by_stream.as_secs_f64() / 1e6;
        let ratio = stream_rate / disk_rate;
        ratios.push(ratio);
        say(
            args,
            &serde_json::json!({
                "record": "turn", "bytes": bytes, "disk_mb_s": disk_rate,
                "stream_mb_s": stream_rate, "ratio": ratio,
            }),
            || {
                format!(
                    "read     disk {disk_rate:.0} MB/s, stream {stream_rate:.0} MB/s, ratio {ratio:.2}"
                )
            },
        );
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    say(
        args,
        &serde_json::json!({"record": "summary", "ratio": median}),
        || format!("ratio    {median:.2}, the median of {} turns", ratios.len()),
    );
    drop((stream, bus));
    Ok(ExitCode::SUCCESS)
}

fn scratch(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("no place to measure: {error}")
}

fn say(args: &Cold, json: &serde_json::Value, text: impl FnOnce() -> String) {
    match args.json {
        true => println!("{json}"),
        false => println!("{}", text()),
    }
}

fn fill(stream: &Stream, records: u64, len: usize) -> anyhow::Result<Duration> {
    let mut producer = stream.producer()?;
    let begun = Instant::now();
    let mut data = vec![vec![0x5A; len]; 500];
    let mut next = 0;
    while next < records {
        let count = (records - next).min(data.len() as u64) as usize;
        for (number, data) in (next..).zip(&mut data[..count]) {
            data[..8].copy_from_slice(&number.to_le_bytes());
        }
        let batch: Vec<_> = data[..count]
            .iter()
            .map(|data| PutRecord::new(KEY, data))
            .collect();
        for outcome in producer.put_batch(&batch) {
            outcome?;
        }
        next += count as u64;
    }
    Ok(begun.elapsed())
}

/// The directory of the one shard.
fn shard_directory(stream: &Path) -> anyhow::Result<PathBuf> {
    for entry in std::fs::read_dir(stream)? {
        let path = entry?.path();
        if path.is_dir() {
            return Ok(path);
        }
    }
    bail!("no shard in {}", stream.display())
}

/// Reads every segment from its beginning to its end; how many bytes, and how long it took.
fn read_files(directory: &Path) -> anyhow::Result<(u64, Duration)> {
    let disk = Disk::open(directory)?;
    let mut names = disk.names()?;
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    ensure!(!names.is_empty(), "no segments in {}", directory.display());
    let mut memory = vec![0; READ + ALIGNMENT];
    let from = memory.as_ptr().align_offset(ALIGNMENT);
    let buffer = &mut memory[from..from + READ];
    let mut bytes = 0;
    let begun = Instant::now();
    for name in names {
        let file = disk.open(&name, false)?;
        let mut offset = 0;
        loop {
            let read = file.read_at(offset, buffer)?;
            offset += read as u64;
            if read < READ {
                break;
            }
        }
        bytes += offset;
    }
    Ok((bytes, begun.elapsed()))
}

/// Reads the stream from its oldest record on and checks that each comes once, in its order.
fn read_stream(stream: &Stream, records: u64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let reader = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = reader.open()?;
    let mut next = 0;
    while next < records {
        let mut wrong = None;
        let count = reader.read_batch(4096, Duration::from_secs(10), |record| {
            let number = record
                .data
                .first_chunk()
                .map(|bytes| u64::from_le_bytes(*bytes));
            if number != Some(next) {
                wrong = wrong.or(Some((number, next)));
            }
            next += 1;
        })?;
        if let Some((found, expected)) = wrong {
            bail!("record {found:?} came where {expected} was due");
        }
        ensure!(count > 0, "the reader stands at record {next}");
    }
    Ok(begun.elapsed())
}
