//! A year of flights through a stream: the planes are partition keys, the shards are split to twice as many
//! and merged to a quarter while it runs, and workers of a group are killed.
//!
//! A producer puts the rows of the file, in its order, under the plane of each. Of four worker processes one
//! is killed again and again and comes back as a new process. A worker writes what it read to an output of
//! its own, one run for each batch and shard (shard, token, first and last position, rows), flushes it, and
//! checkpoints. So *at least once* every row is in some output. *Exactly once* it is in what the checkpoints
//! let stand: a run counts if no worker with a higher token began at or before its end, for what that one
//! read again was not checkpointed. What stands, put together shard by shard, parents before children, is every
//! row of the input once, those of each plane in their order.
//!
//! Another reader replays all of it from the oldest record and from a time, and both are what was put.
//!
//! ```text
//! cargo test --release --test stream_flights                               2,000 rows, a kill every 100 rows
//! cargo test --release --test stream_flights -- FILE.csv[.gz] [--every MS]  the whole file, a kill every MS
//! ```
//! One JSON line on standard output.

#[path = "../../cli/src/demo/flights.rs"]
#[allow(dead_code, unused_imports, reason = "the demonstration uses all of it")]
mod flights;
mod stage;

use flights::Flights;
use ringway::{Bus, GroupStart, PutRecord, ShardInfo, Stream, StreamIterator};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, deadline};
use stage::text;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    produce => produce,
    work => work,
}

const WORKERS: usize = 4;
/// The column that names the plane.
const PLANE: usize = 11;
/// Shards at first, and those it is scaled to when so many parts of all rows were read.
const SHARDS: u32 = 8;
const SCALES: [(u64, u32); 2] = [(4, 16), (2, 4)];
/// Without a time between kills there is one whenever so many rows more were put.
const ROWS_A_KILL: u64 = 100;
/// With one, so many rows are put in a millisecond, so that there is time for kills.
const ROWS_A_MS: u64 = 20;

/// Words of the common board: about how many rows were read,
const READ: usize = 0;
/// how many were put,
const PUT: usize = 1;
const STOP: usize = 2;
/// and how many may be put until somebody is killed.
const ALLOWED: usize = 3;

struct Wish {
    file: PathBuf,
    every: Option<Duration>,
}

fn wish() -> Result<Wish, String> {
    let mut wish = Wish {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flights.csv"),
        every: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--every" {
            let number = arguments.next().and_then(|number| number.parse().ok());
            let number = number.ok_or("--every takes milliseconds")?;
            wish.every = Some(Duration::from_millis(number));
        } else if !argument.starts_with('-') {
            wish.file = argument.into();
            wish.every.get_or_insert(Duration::from_secs(1));
        }
    }
    Ok(wish)
}

fn rows_of(path: &Path) -> Result<Vec<String>, String> {
    let flights = Flights::read(Some(path)).map_err(|error| format!("{error:#}"))?;
    let lines = flights.rows.iter().map(|row| row.text.trim_end());
    Ok(lines.map(str::to_owned).collect())
}

fn plane_of(row: &str) -> String {
    format!("plane-{}", row.split(',').nth(PLANE).unwrap_or_default())
}

fn main() -> ExitCode {
    stage::run_one(
        "every flight is read, in order, while shards change",
        wish().and_then(|wish| play(&wish)),
    )
}

fn open(bus: &Bus, rows: usize) -> Result<Stream, String> {
    // A shard of a quarter of all retains every row of it, so that all can be replayed.
    let slots = (rows as u64 * 3 / 4).next_power_of_two().max(1024);
    let builder = bus
        .stream("flights")
        .shards(SHARDS)
        .slots(slots)
        .stride(256);
    builder.open_or_create().map_err(text)
}

fn play(wish: &Wish) -> Result<(), String> {
    let rows = rows_of(&wish.file)?;
    let total = rows.len() as u64;
    let root = TempBus::new()?;
    let out = root.path().join("out");
    fs::create_dir(&out).map_err(text)?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let stream = open(&bus, rows.len())?;
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .map_err(text)?;
    let board = AckBoard::new(4)?;
    board.set(
        ALLOWED,
        if wish.every.is_some() {
            total
        } else {
            ROWS_A_KILL
        },
    );
    let launch = |role: &str, index: usize, life: u64| {
        let launch = Launch::role(role).set("root", root.path().display());
        let launch = launch.set("file", wish.file.display()).set("index", index);
        launch
            .set("life", life)
            .set("rows", rows.len())
            .set("is_paced", u64::from(wish.every.is_some()))
            .board("board", &board)
            .spawn()
    };
    let mut workers = Vec::new();
    for index in 0..WORKERS {
        workers.push(launch("work", index, 0)?);
    }
    let mut producer = launch("produce", 0, 0)?;
    let started = Instant::now();
    let (mut kills, mut last_kill) = (0u64, started);
    let mut scales = SCALES.iter().peekable();
    let (mut before, mut moved) = (0, started);
    loop {
        let read = board.get(READ);
        if let Some((part, shards)) = scales.next_if(|(part, _)| read >= total / part) {
            let _ = part;
            stream.update_shard_count(*shards).map_err(text)?;
        }
        let is_due = match wish.every {
            Some(every) => last_kill.elapsed() >= every,
            None => board.get(PUT) >= board.get(ALLOWED),
        };
        if is_due && board.get(PUT) < total {
            last_kill = Instant::now();
            let index = kills as usize % WORKERS;
            if !workers[index].kill()?.is_kill() {
                return Err(format!("worker {index} ended before it was killed"));
            }
            kills += 1;
            workers[index] = launch("work", index, kills)?;
            if wish.every.is_none() {
                board.add(ALLOWED, ROWS_A_KILL);
            }
        }
        if board.get(PUT) == total && scales.peek().is_none() && is_through(&group)? {
            break;
        }
        let now = (read, board.get(PUT));
        if (now.0 + now.1) != before {
            (before, moved) = (now.0 + now.1, Instant::now());
        }
        if moved.elapsed() > deadline() {
            return Err(format!(
                "{read} of {total} rows, and no more: {:?}",
                group.info()
            ));
        }
        check_alive(&mut workers)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = started.elapsed().as_secs_f64();
    board.set(STOP, 1);
    for victim in workers.iter_mut().chain([&mut producer]) {
        victim.wait_success()?;
    }
    let shards = stream.shards().map_err(text)?;
    let runs = runs(&out)?;
    let read_again = runs.iter().map(|run| run.rows.len() as u64).sum::<u64>() - total;
    let standing = standing(&runs);
    check(&rows, &shards, &standing)?;
    replay(&stream, &rows)?;
    let open = shards
        .iter()
        .filter(|shard| shard.state == ringway::ShardState::Open)
        .count();
    if open != 4 || kills == 0 {
        return Err(format!("{open} open shards, {kills} kills"));
    }
    println!(
        "{{\"figure\":\"flights through a stream\",\"rows\":{total},\"rows_per_s\":{:.0},\"kills\":{kills},\
         \"shards\":\"8 to 16 to 4\",\"shards_made\":{},\"runs\":{},\"rows_read_again\":{read_again},\
         \"lost\":0,\"inversions\":0,\"replays_equal\":true,\"seconds\":{seconds:.1}}}",
        total as f64 / seconds,
        shards.len(),
        runs.len(),
    );
    Ok(())
}

fn is_through(group: &ringway::Group) -> Result<bool, String> {
    let info = group.info().map_err(text)?;
    let mut shards = info.shards.iter();
    Ok(shards.all(|shard| shard.behind == 0 && !shard.waits_for_parents))
}

fn check_alive(workers: &mut [Victim]) -> Result<(), String> {
    for worker in workers {
        if let Some(exit) = worker.try_wait()? {
            return Err(format!("{} ended early: {exit:?}", worker.name()));
        }
    }
    Ok(())
}

/// What one worker read of one shard in one batch.
struct Run {
    shard: u32,
    token: u64,
    /// Position and row number.
    rows: Vec<(u64, usize)>,
}

fn runs(out: &Path) -> Result<Vec<Run>, String> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(out).map_err(text)? {
        let whole = fs::read_to_string(entry.map_err(text)?.path()).map_err(text)?;
        // Who is killed in the middle of a write leaves a line without an end: not checkpointed.
        for line in whole
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let mut words = line.split_whitespace().map(|word| word.parse::<u64>());
            let mut next = || words.next().and_then(Result::ok);
            let (Some(shard), Some(token)) = (next(), next()) else {
                return Err(format!("a line that nobody wrote: {line:?}"));
            };
            let mut rows = Vec::new();
            while let (Some(position), Some(row)) = (next(), next()) {
                rows.push((position, row as usize));
            }
            runs.push(Run {
                shard: shard as u32,
                token,
                rows,
            });
        }
    }
    Ok(runs)
}

/// The rows that stand, by shard and position: of each token those in front of where the next began.
fn standing(runs: &[Run]) -> BTreeMap<u32, Vec<(u64, usize)>> {
    let mut begins: HashMap<u32, BTreeMap<u64, u64>> = HashMap::new();
    for run in runs {
        let first = run.rows.first().map_or(u64::MAX, |row| row.0);
        let begin = begins
            .entry(run.shard)
            .or_default()
            .entry(run.token)
            .or_insert(first);
        *begin = first.min(*begin);
    }
    let mut standing: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
    for run in runs {
        let later = begins[&run.shard].range(run.token + 1..);
        let end = later.map(|(_, begin)| *begin).min().unwrap_or(u64::MAX);
        let rows = run.rows.iter().filter(|row| row.0 < end);
        standing.entry(run.shard).or_default().extend(rows);
    }
    for rows in standing.values_mut() {
        rows.sort_unstable();
    }
    standing
}

/// Every row once, and those of each plane in their order, parents before children.
fn check(
    rows: &[String],
    shards: &[ShardInfo],
    standing: &BTreeMap<u32, Vec<(u64, usize)>>,
) -> Result<(), String> {
    let mut count = vec![0u32; rows.len()];
    let mut last: HashMap<String, usize> = HashMap::new();
    // Numbers of shards grow from parents to children.
    for shard in shards {
        for (position, row) in standing.get(&shard.id.0).into_iter().flatten() {
            let plane = plane_of(rows.get(*row).ok_or(format!("row {row} was never put"))?);
            count[*row] += 1;
            if !shard.holds(ringway::hash_key_of(&plane)) {
                return Err(format!("{plane} in {} at {position}", shard.id));
            }
            if last
                .insert(plane.clone(), *row)
                .is_some_and(|before| before >= *row)
            {
                return Err(format!(
                    "row {row} of {plane} at {position} of {} is out of order",
                    shard.id
                ));
            }
        }
    }
    match count.iter().position(|count| *count != 1) {
        Some(row) => Err(format!("row {row} stands {} times", count[row])),
        None => Ok(()),
    }
}

/// All of it again, from the oldest record and from a time before it: the same, and what was put.
fn replay(stream: &Stream, rows: &[String]) -> Result<(), String> {
    let mut replays = Vec::new();
    for iterator in [
        StreamIterator::TrimHorizon,
        StreamIterator::AtTimestamp(stream.created_ms()),
    ] {
        let builder = stream.reader().iterator(iterator);
        let mut reader = builder.open().map_err(text)?;
        let mut records = Vec::new();
        while reader
            .try_read_batch(1000, |record| {
                records.push((
                    record.sequence_number,
                    record.arrival_ms,
                    record.data.to_vec(),
                ));
            })
            .map_err(text)?
            > 0
        {}
        records.sort_by_key(|record| record.0);
        replays.push(records);
    }
    if replays[0] != replays[1] {
        return Err("a replay from a time is another one".to_owned());
    }
    let mut put: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
    let mut came: Vec<&[u8]> = replays[0].iter().map(|record| &record.2[8..]).collect();
    put.sort_unstable();
    came.sort_unstable();
    match put == came {
        true => Ok(()),
        false => Err(format!(
            "{} rows were replayed, of {}",
            came.len(),
            put.len()
        )),
    }
}

// What the children do.

fn produce(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let rows = rows_of(&stage.path("file"))?;
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut producer = open(&bus, rows.len())?.producer().map_err(text)?;
    let is_paced = stage.get::<u64>("is_paced") == 1;
    for (number, row) in rows.iter().enumerate() {
        while number as u64 >= board.get(ALLOWED) {
            std::thread::yield_now();
        }
        if is_paced && (number as u64).is_multiple_of(ROWS_A_MS) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut data = (number as u64).to_le_bytes().to_vec();
        data.extend_from_slice(row.as_bytes());
        producer
            .put_record(&PutRecord::new(&plane_of(row), &data))
            .map_err(text)?;
        board.set(PUT, number as u64 + 1);
    }
    Ok(())
}

fn work(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let board = stage.board("board");
    let root = stage.path("root");
    let mut out = File::create(root.join(format!("out/{index}-{life}"))).map_err(text)?;
    let bus = stage::bus(&root).open().map_err(text)?;
    let group = open(&bus, stage.get("rows"))?.group("g").map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    while board.get(STOP) == 0 {
        let mut read: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        let mut wrong = None;
        let count = worker.read_batch(100, Duration::from_millis(5), |record| {
            match record.data.get(..8).and_then(|bytes| bytes.try_into().ok()) {
                Some(number) => read.entry(record.shard().0).or_default().push((
                    record.sequence_number.position(),
                    u64::from_le_bytes(number),
                )),
                None => wrong = Some(record.sequence_number),
            }
        });
        let count = count.map_err(text)?;
        if let Some(wrong) = wrong {
            return Err(format!("record {wrong} has no number"));
        }
        let tokens: HashMap<u32, u64> = worker
            .leases()
            .map(|lease| (lease.shard.0, lease.token))
            .collect();
        let mut lines = String::new();
        for (shard, rows) in &read {
            let token = tokens.get(shard).ok_or("a record without a lease")?;
            lines += &format!("{shard} {token}");
            for (position, number) in rows {
                lines += &format!(" {position} {number}");
            }
            lines.push('\n');
        }
        out.write_all(lines.as_bytes()).map_err(text)?;
        worker.checkpoint().map_err(text)?;
        board.add(READ, count as u64);
    }
    Ok(())
}
