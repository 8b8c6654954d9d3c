//! A hundred trucks, five shards, seven workers: who is in which shard, and that each is read in order.
//!
//! ```text
//! cargo run --release --example trucks [-- REPORTS_A_TRUCK]
//! ```
//! Each truck reports its positions under its own id. A shard holds twenty trucks on average; the reports
//! of a truck stay in their order, and no more than one worker reads a shard, so five work at a time and
//! two stand by. A provisioned stream of as many shards takes 5 MB a second, and says so when more is put.
//! The table at the end says what was put where, who read it, how fast, and whether anything was missing or
//! out of order; the exit status says so too.

use ringway::{Bus, GroupStart, PutError, PutRecord, ShardId, ShardLimits, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TRUCKS: usize = 100;
const SHARDS: u32 = 5;
const WORKERS: usize = 7;

/// What one worker read of a shard.
#[derive(Default)]
struct Work {
    trucks: BTreeMap<String, u64>,
    bytes: u64,
    out_of_order: u64,
}

type Works = BTreeMap<ShardId, Work>;

/// What the others see of a worker, and it of them.
struct Board {
    read: AtomicU64,
    /// Bits of the workers that have a shard.
    has_shard: AtomicU64,
    /// Of those that are reading one.
    at_work: AtomicU64,
    /// The most that did so at a time.
    most: AtomicU64,
}

/// What became of a shard.
pub struct Row {
    pub shard: ShardId,
    pub trucks: usize,
    pub reports: u64,
    pub workers: usize,
    pub megabytes_a_second: f64,
    pub in_order: bool,
}

/// What is shown.
pub struct Table {
    pub rows: Vec<Row>,
    pub trucks: usize,
    pub reports: u64,
    pub seconds: f64,
    /// The most workers that read at a time.
    pub at_a_time: u64,
    /// What each shard took in a second of a provisioned stream before it said that this is enough.
    pub taken_a_second: Vec<u64>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let reports: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |text| text.parse())?;
    let root = std::env::temp_dir().join(format!("ringway-trucks-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let done = drive(&root, reports);
    std::fs::remove_dir_all(&root)?;
    let table = done?;
    println!("{table}");
    Ok(match table.is_right() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// All of it, on a bus under `root`.
pub fn drive(root: &Path, reports: u64) -> Result<Table, Box<dyn Error>> {
    let bus = Bus::builder("fleet").root(root).create()?;
    let trucks = bus.stream("trucks").shards(SHARDS).create()?;
    let group = trucks.group_or_create("dispatch", GroupStart::TrimHorizon)?;
    let total = TRUCKS as u64 * reports;
    let board = Board {
        read: AtomicU64::new(0),
        has_shard: AtomicU64::new(0),
        at_work: AtomicU64::new(0),
        most: AtomicU64::new(0),
    };
    let begin = Instant::now();
    let works = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (group, board) = (&group, &board);
                scope.spawn(move || work(group, number, board, total))
            })
            .collect();
        // Each shard has a worker of its own before anything is put.
        while board.has_shard.load(Ordering::Relaxed).count_ones() < SHARDS {
            std::thread::sleep(Duration::from_millis(1));
        }
        report(&trucks, reports).map_err(|error| error.to_string())?;
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| "a worker panicked".to_owned())?)
            .collect::<Result<Vec<Works>, String>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let rows = trucks
        .shards()?
        .into_iter()
        .map(|shard| row(&trucks, &shard, &works, reports, seconds))
        .collect::<Result<Vec<Row>, _>>()?;
    let seen = works
        .iter()
        .flatten()
        .flat_map(|(_, work)| work.trucks.keys());
    Ok(Table {
        trucks: seen.collect::<BTreeSet<_>>().len(),
        rows,
        reports: total,
        seconds,
        at_a_time: board.most.into_inner(),
        taken_a_second: provisioned(&bus)?,
    })
}

/// Every truck says where it is, one after the other, again and again.
fn report(trucks: &Stream, reports: u64) -> Result<(), Box<dyn Error>> {
    let mut producer = trucks.producer()?;
    for number in 0..reports {
        for truck in 0..TRUCKS {
            let data = format!("{number} 52.{:05} 13.{:05}", number % 99_999, truck * 37);
            producer.put(&format!("truck-{truck:03}"), data.as_bytes())?;
        }
    }
    Ok(())
}

fn work(group: &ringway::Group, number: usize, board: &Board, total: u64) -> Result<Works, String> {
    let text = |error: &dyn fmt::Display| error.to_string();
    let mut worker = group.join().map_err(|error| text(&error))?;
    let mut works = Works::new();
    let mine = 1 << number;
    while board.read.load(Ordering::Relaxed) < total {
        let count = worker
            .read_batch(500, Duration::from_millis(20), |record| {
                // What it reads is its own from here to the checkpoint.
                let at_work = board.at_work.fetch_or(mine, Ordering::SeqCst) | mine;
                let others = u64::from(at_work.count_ones());
                board.most.fetch_max(others, Ordering::Relaxed);
                let work = works.entry(record.shard()).or_default();
                let report = String::from_utf8_lossy(record.data);
                let report = report.split(' ').next().map(str::parse::<u64>);
                let report = report.and_then(Result::ok).unwrap_or(u64::MAX - 1);
                let truck = record.key().into_owned();
                let next = work.trucks.entry(truck).or_insert(report);
                work.out_of_order += u64::from(report != *next);
                *next = report + 1;
                work.bytes += record.data.len() as u64;
            })
            .map_err(|error| text(&error))?;
        board.at_work.fetch_and(!mine, Ordering::SeqCst);
        match worker.leases().next() {
            Some(_) => board.has_shard.fetch_or(mine, Ordering::Relaxed),
            None => board.has_shard.fetch_and(!mine, Ordering::Relaxed),
        };
        worker.checkpoint().map_err(|error| text(&error))?;
        board.read.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(works)
}

fn row(
    trucks: &Stream,
    shard: &ringway::ShardInfo,
    works: &[Works],
    reports: u64,
    seconds: f64,
) -> Result<Row, ringway::OpenError> {
    // A shard that passed on was read on by the next worker where the one before had stopped.
    let parts: Vec<&Work> = works.iter().filter_map(|it| it.get(&shard.id)).collect();
    let here: BTreeSet<&String> = parts.iter().flat_map(|part| part.trucks.keys()).collect();
    let is_whole = |truck: &&String| {
        let ends = parts.iter().filter_map(|part| part.trucks.get(*truck));
        ends.max() == Some(&reports) && shard.holds(ringway::hash_key_of(truck))
    };
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    Ok(Row {
        shard: shard.id,
        trucks: here.len(),
        reports: trucks.positions(shard.id)?.end,
        workers: parts.len(),
        megabytes_a_second: bytes as f64 / seconds / 1e6,
        in_order: parts.iter().all(|part| part.out_of_order == 0) && here.iter().all(is_whole),
    })
}

/// Puts reports of 20 kB to a provisioned stream until each shard has said that this is enough for a second.
fn provisioned(bus: &Bus) -> Result<Vec<u64>, Box<dyn Error>> {
    let stream = bus.stream("provisioned").shards(SHARDS);
    let stream = stream.limits(ShardLimits::KINESIS).create()?;
    let mut producer = stream.producer()?;
    let report = vec![0; 20_000];
    let mut taken = Vec::new();
    for shard in stream.shards()? {
        let record = PutRecord {
            explicit_hash_key: Some(shard.start),
            ..PutRecord::new("truck", &report)
        };
        // A second of the clock may end in between; in the next one a shard takes as much again.
        let mut bytes = 0;
        let begin = Instant::now();
        loop {
            match producer.put_within(&record, Duration::ZERO) {
                Ok(_) => bytes += report.len() as u64,
                Err(PutError::Throttled { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        taken.push(bytes / (1 + begin.elapsed().as_secs()));
    }
    Ok(taken)
}

impl Table {
    /// Whether everything is as it should be.
    pub fn is_right(&self) -> bool {
        let reports: u64 = self.rows.iter().map(|row| row.reports).sum();
        self.rows.len() == SHARDS as usize
            && self.rows.iter().all(|row| row.in_order)
            && self.trucks == TRUCKS
            && reports == self.reports
            && self.at_a_time <= SHARDS.into()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "shard                 trucks  reports  workers      MB/s  in order"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{}  {:>6}  {:>7}  {:>7}  {:>8.1}  {}",
                row.shard,
                row.trucks,
                row.reports,
                row.workers,
                row.megabytes_a_second,
                if row.in_order { "yes" } else { "NO" },
            )?;
        }
        let average = self.trucks as f64 / f64::from(SHARDS);
        writeln!(
            f,
            "{} trucks, {average} to a shard on average, {} reports in {:.3} s",
            self.trucks, self.reports, self.seconds
        )?;
        writeln!(
            f,
            "of {WORKERS} workers at most {} read at a time",
            self.at_a_time
        )?;
        let taken = self.taken_a_second.iter().map(|bytes| *bytes as f64 / 1e6);
        let taken: Vec<_> = taken.map(|megabytes| format!("{megabytes:.2}")).collect();
        write!(
            f,
            "provisioned, the shards took {} MB in a second, then no more",
            taken.join(" + ")
        )
    }
}
