//! Whoever works on a stream on disk, killed with SIGKILL, or really stopped and continued later, at many places of a
//! put, of a take-over of the journal of a shard, of a split, of a retention that is lowered, of one that ends everything
//! there is, of a first read of what only the disk has, and of making the stream again; in a full run before and behind each of its system calls, and in
//! between.
//!
//! The others go on beside him. Then what was in memory is gone, and the stream made again from its journals: what was
//! acknowledged is there, once and in order, and what was changed is changed.
//!
//! ```text
//! cargo test --release --test stream_step                    two places of a put and of a cold read
//! … stream_step -- split                                     of any operation: the others take hundreds of thousands
//!                                                            of steps
//! RINGWAY_FULL=1 cargo test --release --test stream_step     of all about 200, and around every system call
//! ```

mod stage;

use ringway::{Bus, Durability, PutRecord, Retention, ShardId, ShardState, Stream, StreamIterator};
use ringway_harness::seed;
use ringway_harness::step::{Mode, Point, Stepper, Sweep, begin, end};
use ringway_harness::{AckBoard, Fault, Launch, Stage, TempBus};
use stage::text;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

ringway_harness::roles! {
    victim => victim,
}

/// An operation, and whether a segment, or the stream, is made in it: that is long, and the others have to wait for
/// seconds beside one who is stopped there.
const OPERATIONS: [(&str, bool); 7] = [
    ("put", false),
    ("take-over", true),
    ("split", true),
    ("retention", true),
    ("expiry", true),
    ("cold read", false),
    ("reopen", true),
];

/// Records before everything: more than the ring has slots.
const BEFORE: u64 = 1500;
const BY_VICTIM: u64 = 10_000;
const BESIDE: u64 = 20_000;
const SEGMENT: u64 = 64 << 10;
/// Of the word of who writes, in the file of a shard: 0 says that the next one begins an epoch.
const PERSISTER: u64 = 7296;

fn open(memory: &Path, disk: &Path) -> Result<(Bus, Stream), String> {
    let bus = stage::bus(memory).journal_root(disk.join("journals"));
    let bus = bus.open_or_create().map_err(text)?;
    let stream = bus.stream("s").durability(Durability::Durable);
    let stream = stream.slots(1024).stride(320).segment_bytes(SEGMENT);
    let stream = stream.open_or_create().map_err(text)?;
    Ok((bus, stream))
}

fn put(stream: &Stream, number: u64) -> Result<(), String> {
    let mut producer = stream.producer().map_err(text)?;
    let data = stage::body(number, 200);
    producer.put("k", &data).map_err(text)?;
    Ok(())
}

fn keep(age: Duration) -> Retention {
    Retention { age, bytes: None }
}

/// Word 0 of the board: the operation was acknowledged.
fn victim(stage: &Stage) -> Result<(), String> {
    let (memory, disk) = (stage.path("memory"), stage.path("disk"));
    let board = stage.board("board");
    let operation = stage.text("operation");
    if operation == "reopen" {
        begin();
        let opened = open(&memory, &disk);
        end();
        opened?;
        board.set(0, 1);
        return Ok(());
    }
    let (bus, stream) = open(&memory, &disk)?;
    let mut producer = stream.producer().map_err(text)?;
    // What is put later is like every one: it has a writer already.
    producer
        .put("k", &stage::body(BY_VICTIM - 1, 200))
        .map_err(text)?;
    let done = match operation {
        "put" | "take-over" => {
            let data = stage::body(BY_VICTIM, 200);
            if operation == "take-over" {
                lose_the_role(&bus)?;
            }
            begin();
            let put = producer.put("k", &data);
            end();
            put.is_ok()
        }
        "split" => {
            begin();
            let split = stream.split(ShardId(0), None);
            end();
            split.is_ok()
        }
        "expiry" => {
            begin();
            let set = stream.set_retention_unchecked(keep(Duration::ZERO));
            end();
            set.is_ok()
        }
        "retention" => {
            let retention = Retention {
                age: Duration::from_secs(86_400),
                bytes: Some(3 * SEGMENT),
            };
            begin();
            let set = stream.set_retention(retention);
            end();
            set.is_ok()
        }
        _ => {
            let iterator = StreamIterator::TrimHorizon;
            let mut reader = stream.reader().iterator(iterator).open().map_err(text)?;
            let mut first = None;
            begin();
            let read = reader.try_read_batch(1, |record| first = Some(record.data.to_vec()));
            end();
            read.is_ok() && stage::id_of(&first.ok_or("nothing was read")?)? == 0
        }
    };
    if done {
        board.set(0, 1);
    }
    Ok(())
}

/// The writer of the shard is gone, and its segment can't be written to any more.
fn lose_the_role(bus: &Bus) -> Result<(), String> {
    for entry in std::fs::read_dir(bus.directory().join("objects")).map_err(text)? {
        let entry = entry.map_err(text)?;
        if entry.file_name().to_string_lossy().starts_with(".shard-") {
            let file = OpenOptions::new().write(true).open(entry.path());
            let file = file.map_err(text)?;
            file.write_all_at(&[0; 8], PERSISTER).map_err(text)?;
        }
    }
    Ok(())
}

struct World {
    memory: TempBus,
    disk: TempBus,
    board: AckBoard,
    others: Option<(Bus, Stream)>,
}

impl World {
    fn new(operation: &str) -> Result<(Stepper, Self), Fault> {
        let (memory, disk) = (
            TempBus::new()?,
            TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
        );
        let board = AckBoard::new(1)?;
        let mut world = Self {
            others: Some(open(memory.path(), disk.path()).expect("the scene")),
            memory,
            disk,
            board,
        };
        world.put_before();
        if operation == "reopen" {
            world.forget().expect("the scene");
        }
        let launch = Launch::role("victim")
            .set("memory", world.memory.path().display())
            .set("disk", world.disk.path().display())
            .set("operation", operation)
            .board("board", &world.board);
        Ok((Stepper::spawn(&launch)?, world))
    }

    fn put_before(&self) {
        let (_, stream) = self.others.as_ref().expect("they are there");
        let mut producer = stream.producer().expect("the scene");
        let bodies: Vec<_> = (0..BEFORE).map(|number| stage::body(number, 200)).collect();
        for bodies in bodies.chunks(500) {
            let records = bodies.iter().map(|data| PutRecord::new("k", data));
            for outcome in producer.put_batch(&records.collect::<Vec<_>>()) {
                outcome.expect("the scene");
            }
        }
    }

    /// What was in memory is gone.
    fn forget(&mut self) -> Result<(), String> {
        self.others = None;
        for entry in std::fs::read_dir(self.memory.path()).map_err(text)? {
            std::fs::remove_dir_all(entry.map_err(text)?.path()).map_err(text)?;
        }
        Ok(())
    }

    /// The others put beside whoever is dead, or stopped.
    fn go_on(&mut self, operation: &str) -> Result<(), String> {
        if self.others.is_none() {
            self.others = Some(open(self.memory.path(), self.disk.path())?);
        }
        let (_, stream) = self.others.as_ref().ok_or("they have left")?;
        if operation == "expiry" {
            let week = Duration::from_secs(7 * 86_400);
            stream.set_retention(keep(week)).map_err(text)?;
        }
        put(stream, BESIDE)
    }

    /// Everybody is gone, and the stream is made again.
    fn settle(&mut self, operation: &str) -> Result<(), String> {
        let is_acked = self.board.get(0) == 1;
        self.forget()?;
        let (_bus, stream) = open(self.memory.path(), self.disk.path())?;
        let iterator = StreamIterator::TrimHorizon;
        let mut reader = stream.reader().iterator(iterator).open().map_err(text)?;
        let mut there = Vec::new();
        let each = |record: ringway::StreamRecord<'_>| there.push(stage::id_of(record.data));
        let mut each = each;
        while reader.try_read_batch(1000, &mut each).map_err(text)? > 0 {}
        let there = there.into_iter().collect::<Result<Vec<u64>, _>>()?;
        let count = |number| there.iter().filter(|it| **it == number).count();
        let before: Vec<u64> = there.iter().copied().filter(|it| *it < BEFORE).collect();
        let first = BEFORE - before.len() as u64;
        let may_go = matches!(operation, "retention" | "expiry");
        let may_all_go = matches!(operation, "reopen" | "expiry");
        let shards = stream.shards().map_err(text)?;
        let open = shards.iter().filter(|it| it.state == ShardState::Open);
        let problem = if !before.iter().copied().eq(first..BEFORE) {
            "what was there before is out of order, or has a gap"
        } else if first > 0 && !may_go {
            "what was there before is gone"
        } else if count(BESIDE) != 1 {
            "what was put beside it is not there once"
        } else if count(BY_VICTIM) > 1 || count(BY_VICTIM - 1) > 1 {
            "what the victim put is there twice"
        } else if !may_all_go && count(BY_VICTIM - 1) != 1 {
            "what the victim put first is gone"
        } else if is_acked && matches!(operation, "put" | "take-over") && count(BY_VICTIM) != 1 {
            "what the victim put is gone"
        } else if is_acked && operation == "split" && open.count() != 2 {
            "what was split is one"
        } else if is_acked
            && operation == "retention"
            && (first == 0 || stream.retention().unwrap().bytes.is_none())
        {
            "the retention is as it was"
        } else {
            return Ok(());
        };
        let (at, shards) = (there.len(), shards.len());
        Err(format!(
            "{problem}; acknowledged: {is_acked}; {at} records from {first} on, {shards} shards"
        ))
    }
}

fn main() -> ExitCode {
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    let args = std::env::args().skip(1);
    let wanted: Vec<String> = args.filter(|arg| !arg.starts_with('-')).collect();
    let seed = seed::announce("stepping");
    let (mut failures, mut visited) = (0, 0);
    for (operation, is_long) in OPERATIONS {
        if !wanted.iter().all(|it| operation.contains(it.as_str())) {
            continue;
        }
        if is_long && !is_full && wanted.is_empty() {
            continue;
        }
        for mode in [Mode::Kill, Mode::Stop] {
            let places = match (is_full, mode) {
                (true, Mode::Kill) => 200,
                (true, _) if is_long => 40,
                (true, _) => 200,
                (false, Mode::Kill) => 2,
                (false, _) if is_long => continue,
                (false, _) => 1,
            };
            let mut sweep = Sweep::new(operation, mode).about(places, seed);
            if is_full && (mode == Mode::Kill || !is_long) {
                sweep = sweep.around_system_calls();
            }
            let check = |_: &Point, victim: &mut Stepper, world: &mut World| {
                world.go_on(operation)?;
                if mode == Mode::Stop {
                    victim.resume_success()?;
                }
                world.settle(operation)
            };
            match sweep.run(|_| World::new(operation), check) {
                Ok(summary) => {
                    println!(
                        "stream {operation}, {mode:?}: {} steps, {} visited, {} strayed, {} failures",
                        summary.total,
                        summary.visited,
                        summary.strayed,
                        summary.failures.len()
                    );
                    for failure in &summary.failures {
                        println!(
                            "  at step {} in {}: {}",
                            failure.k, failure.symbol, failure.why
                        );
                    }
                    failures += summary.failures.len();
                    visited += summary.visited;
                }
                Err(fault) => {
                    println!("stream {operation}, {mode:?}: the stage collapsed: {fault}");
                    failures += 1;
                }
            }
        }
    }
    println!("{{\"check\":\"stream steps\",\"steps\":{visited},\"failures\":{failures}}}");
    stage::end(failures as u64)
}
