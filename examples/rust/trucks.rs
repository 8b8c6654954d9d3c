//! A hundred trucks, five shards, five workers: who is in which shard, and that each is read in order.
//!
//! ```text
//! cargo run --release --example trucks [-- REPORTS_A_TRUCK]
//! ```
//! Each truck reports its positions under its own id. A shard holds twenty trucks on average; the reports
//! of a truck stay in their order, and no more than one worker reads a shard, so five can work at a time.
//! The table at the end says what was put where, who read it, how fast, and whether anything was missing or
//! out of order; the exit status says so too.

use ringway::{Bus, GroupStart, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TRUCKS: usize = 100;
const SHARDS: u32 = 5;

/// What one worker read of a shard.
#[derive(Default)]
struct Work {
    workers: BTreeSet<usize>,
    trucks: BTreeMap<String, u64>,
    bytes: u64,
    out_of_order: u64,
}

type Works = BTreeMap<u32, Work>;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let reports: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |text| text.parse())?;
    let root = std::env::temp_dir().join(format!("ringway-trucks-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let done = drive(&root, reports);
    std::fs::remove_dir_all(&root)?;
    Ok(if done? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn drive(root: &std::path::Path, reports: u64) -> Result<bool, Box<dyn std::error::Error>> {
    let bus = Bus::builder("fleet").root(root).create()?;
    let trucks = bus.stream("trucks").shards(SHARDS).create()?;
    let group = trucks.group_or_create("dispatch", GroupStart::TrimHorizon)?;
    let total = TRUCKS as u64 * reports;
    let read = AtomicU64::new(0);
    let begin = Instant::now();
    let works = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SHARDS as usize)
            .map(|number| {
                let (group, read) = (&group, &read);
                scope.spawn(move || work(group, number, read, total))
            })
            .collect();
        report(&trucks, reports).map_err(|error| error.to_string())?;
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| "a worker panicked".to_owned())?)
            .collect::<Result<Vec<Works>, String>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(show(&trucks, works, reports, seconds)?)
}

/// Every truck says where it is, one after the other, again and again.
fn report(trucks: &Stream, reports: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut producer = trucks.producer()?;
    for number in 0..reports {
        for truck in 0..TRUCKS {
            let data = format!("{number} 52.{:05} 13.{:05}", number % 99_999, truck * 37);
            producer.put(&format!("truck-{truck:03}"), data.as_bytes())?;
        }
    }
    Ok(())
}

fn work(
    group: &ringway::Group,
    number: usize,
    read: &AtomicU64,
    total: u64,
) -> Result<Works, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut worker = group.join().map_err(|error| text(&error))?;
    let mut works = Works::new();
    while read.load(Ordering::Relaxed) < total {
        let count = worker
            .read_batch(500, Duration::from_millis(20), |record| {
                let work = works.entry(record.shard().0).or_default();
                let report = String::from_utf8_lossy(record.data);
                let report = report
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok());
                let next = work
                    .trucks
                    .entry(record.key().into_owned())
                    .or_insert_with(|| report.unwrap_or(0));
                work.out_of_order += u64::from(report != Some(*next));
                *next = report.unwrap_or(0) + 1;
                work.bytes += record.data.len() as u64;
                work.workers.insert(number);
            })
            .map_err(|error| text(&error))?;
        worker.checkpoint().map_err(|error| text(&error))?;
        read.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(works)
}

fn show(
    trucks: &Stream,
    works: Vec<Works>,
    reports: u64,
    seconds: f64,
) -> Result<bool, ringway::OpenError> {
    println!("shard                 trucks  reports  workers      MB/s  in order");
    let mut is_right = true;
    let mut seen = BTreeSet::new();
    for shard in trucks.shards()? {
        // A shard that passed on was read on by the next worker where the one before had stopped.
        let parts: Vec<&Work> = works
            .iter()
            .filter_map(|works| works.get(&shard.id.0))
            .collect();
        let here: BTreeSet<&String> = parts.iter().flat_map(|part| part.trucks.keys()).collect();
        let last = |truck: &&&String| {
            parts
                .iter()
                .filter_map(|part| part.trucks.get(**truck))
                .max()
                == Some(&reports)
        };
        let workers: BTreeSet<usize> = parts
            .iter()
            .flat_map(|part| part.workers.iter().copied())
            .collect();
        let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
        let in_order = parts.iter().all(|part| part.out_of_order == 0)
            && here.iter().filter(last).count() == here.len();
        is_right &= in_order
            && here
                .iter()
                .all(|truck| shard.holds(ringway::hash_key_of(truck)));
        seen.extend(here.iter().map(|truck| (*truck).clone()));
        let put = trucks.positions(shard.id)?.end;
        println!(
            "{}  {:>6}  {put:>7}  {:>7}  {:>8.1}  {}",
            shard.id,
            here.len(),
            workers.len(),
            bytes as f64 / seconds / 1e6,
            if in_order { "yes" } else { "NO" },
        );
    }
    let average = seen.len() as f64 / f64::from(SHARDS);
    println!(
        "{} trucks, {average} to a shard on average, {} reports in {seconds:.3} s, at most {SHARDS} workers",
        seen.len(),
        TRUCKS as u64 * reports,
    );
    Ok(is_right && seen.len() == TRUCKS)
}
