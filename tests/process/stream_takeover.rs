//! How soon the shards of a killed worker are read by another: two workers share four shards, one of them gets
//! SIGKILL, and the time is taken until the other says that it has all four.
//!
//! The kernel takes some milliseconds to end a process and give its lock back; the others look every 10 ms. Times
//! are printed, and judged by who reads them: what is insisted on is that the shards pass on, each time, to a
//! worker that lives, with a higher token, and come back to be shared.
//!
//! ```text
//! cargo test --release --test stream_takeover                     10 kills
//! RINGWAY_KILLS=100 cargo test --release --test stream_takeover   as many as that
//! ```
//! One JSON line on standard output, times in ms.

mod stage;

use ringway::{Bus, GroupStart, Stream};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use stage::text;
use std::process::ExitCode;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    work => work,
}

const SHARDS: u32 = 4;
const KILLS: usize = 10;
/// How many shards each of the two workers has, plus one, so that one that has none says so too.
const HAS: [usize; 2] = [0, 1];

fn open(bus: &Bus) -> Result<Stream, String> {
    let builder = bus.stream("s").shards(SHARDS).slots(1024);
    builder.open_or_create().map_err(text)
}

fn main() -> ExitCode {
    match play() {
        Ok(()) => {
            println!("test a killed worker's shards pass on ... ok");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("test a killed worker's shards pass on ... FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until the workers have so many shards each.
fn await_shares(board: &AckBoard, shares: [u64; 2], of: &[usize]) -> Result<Duration, String> {
    let start = Instant::now();
    while !of
        .iter()
        .all(|worker| board.get(HAS[*worker]) == shares[*worker] + 1)
    {
        if start.elapsed() > deadline() {
            let has = HAS.map(|worker| board.get(worker));
            return Err(format!("{has:?} shards plus one, never {shares:?}"));
        }
        std::thread::yield_now();
    }
    Ok(start.elapsed())
}

fn play() -> Result<(), String> {
    let kills = std::env::var("RINGWAY_KILLS").ok();
    let kills = kills.and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let root = TempBus::new()?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let stream = open(&bus)?;
    let group = stream
        .group_or_create("g", GroupStart::Latest)
        .map_err(text)?;
    let mut producer = stream.producer().map_err(text)?;
    let board = AckBoard::new(2)?;
    let launch = |index: usize| {
        let launch = Launch::role("work").set("root", root.path().display());
        launch.set("index", index).board("board", &board).spawn()
    };
    let mut workers = [launch(0)?, launch(1)?];
    let mut times = Vec::with_capacity(kills);
    for kill in 0..kills {
        await_shares(&board, [2, 2], &[0, 1])?;
        for n in 0..8 {
            producer.put(&format!("{n}"), b"report").map_err(text)?;
        }
        let tokens = |shard: &ringway::GroupShard| shard.token;
        let before: Vec<u64> = group
            .info()
            .map_err(text)?
            .shards
            .iter()
            .map(tokens)
            .collect();
        let (dies, lives) = (kill % 2, 1 - kill % 2);
        let start = Instant::now();
        if !workers[dies].kill()?.is_kill() {
            return Err(format!("worker {dies} ended before it was killed"));
        }
        let mut shares = [0; 2];
        shares[lives] = SHARDS.into();
        await_shares(&board, shares, &[lives])?;
        times.push(start.elapsed());
        let after: Vec<u64> = group
            .info()
            .map_err(text)?
            .shards
            .iter()
            .map(tokens)
            .collect();
        let raised = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before < after);
        if raised.count() != 2 {
            return Err(format!("tokens {before:?} became {after:?}"));
        }
        board.set(HAS[dies], 0);
        workers[dies] = launch(dies)?;
    }
    times.sort_unstable();
    let ms = |part: f64| {
        let index = ((times.len() - 1) as f64 * part).round() as usize;
        times[index].as_secs_f64() * 1e3
    };
    let late = times
        .iter()
        .filter(|time| **time > Duration::from_millis(50))
        .count();
    println!(
        "{{\"kills\":{kills},\"p50_ms\":{:.1},\"p90_ms\":{:.1},\"p99_ms\":{:.1},\"max_ms\":{:.1},\"over_50_ms\":{late}}}",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(1.0)
    );
    for worker in &mut workers {
        worker.kill()?;
    }
    Ok(())
}

/// Reads, checkpoints, and says how many shards it has, until it is killed.
fn work(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let index: usize = stage.text("index").parse().map_err(text)?;
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut worker = open(&bus)?.group("g").map_err(text)?.join().map_err(text)?;
    loop {
        worker
            .read_batch(100, Duration::from_millis(5), |_| ())
            .map_err(text)?;
        // One whose lease passed on reads again what is not its own any more; here that is nothing.
        let _ = worker.checkpoint();
        board.set(HAS[index], worker.leases().count() as u64 + 1);
    }
}
