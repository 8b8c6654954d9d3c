//! Processes that put to a stream on disk, read it, split and merge it, and are killed and stopped at any
//! moment: what was acknowledged is what the journals say, when the memory of all of them is gone.
//!
//! Every producer writes down what was acknowledged, into a file of its own, behind each put. A record says
//! who put it and which it is; its key is one of a few of that producer, so order shows.

mod stage;

use ringway::{
    Bus, Durability, GroupStart, PutError, PutRecord, ReshardError, ShardState, Stream,
    StreamIterator,
};
use ringway_harness::seed::{Random, announce};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, await_condition};
use stage::text;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

ringway_harness::roles! {
    put => put, work => work, reshard => reshard, reopen => reopen, starve => starve
}

/// Longer than a writer may stand still before others take over.
const STOPPED: Duration = Duration::from_millis(700);
/// Of producers that do not wait for the disk.
const PACE: Duration = Duration::from_micros(100);
const PRODUCERS: u64 = 3;
const KEYS: u64 = 5;
/// In the directory of a scene whose stream is of that level.
const ASYNC: &str = "async";
/// Records of a shard that puts may be ahead of the disk: half of its ring, and a batch of each producer.
const MOST_AHEAD: usize = 512 + 3 * 9;
/// Shards that take records at a time.
const MOST_OPEN: usize = 8;

fn main() -> ExitCode {
    stage::run(&[
        (
            "everybody is killed at once, and what was acknowledged is there in its order",
            everybody_is_killed,
        ),
        (
            "everybody is killed at the level async, and of each shard the end is missing at most",
            everybody_is_killed_ahead_of_the_disk,
        ),
        (
            "one that writes for all is stopped, and goes on late",
            stopped_and_gone_on,
        ),
        (
            "those who open first are killed, and the stream is there once",
            openers_are_killed,
        ),
        (
            "where the disk takes no more, puts are refused, and go on when it does",
            starved,
        ),
    ])
}

/// A bus in memory, its journals on a disk, and what the children wrote down.
struct Scene {
    memory: TempBus,
    disk: TempBus,
    board: AckBoard,
}

fn open(memory: &Path, disk: &Path) -> Result<(Bus, Stream), String> {
    let builder = stage::bus(memory).journal_root(disk.join("journals"));
    let bus = builder.open_or_create().map_err(text)?;
    let level = match disk.join(ASYNC).exists() {
        true => Durability::Async,
        false => Durability::Durable,
    };
    let stream = bus.stream("s").durability(level).shards(2);
    let stream = stream
        .slots(1024)
        .stride(96)
        .segment_bytes(256 << 10)
        .lease_timeout(Duration::from_millis(500));
    let stream = stream.open_or_create().map_err(text)?;
    Ok((bus, stream))
}

fn notes(stage: &Stage, what: &str) -> Result<File, String> {
    let me: u64 = stage.get("me");
    let path = stage.path("disk").join(format!("{what}-{me}"));
    let mut options = OpenOptions::new();
    options.create(true).append(true).open(path).map_err(text)
}

/// Puts numbers of its own, one by one or in batches, and writes down each that was acknowledged.
fn put(stage: &Stage) -> Result<(), String> {
    let (_bus, stream) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let (me, batch): (u64, u64) = (stage.get("me"), stage.get("batch"));
    let mut acked = notes(stage, "put")?;
    let mut producer = stream.producer().map_err(text)?;
    let mut next = me << 32 | stage.get::<u64>("from") << 24;
    loop {
        let records: Vec<(String, Vec<u8>)> = (next..next + batch)
            .map(|number| {
                // Some lie in the payload pool.
                let len = if number % 16 == 0 { 700 } else { 24 };
                (key_of(number), stage::body(number, len))
            })
            .collect();
        let records: Vec<_> = records
            .iter()
            .map(|(key, data)| PutRecord::new(key, data))
            .collect();
        for (number, outcome) in (next..).zip(producer.put_batch(&records)) {
            match outcome {
                Ok(_) => acked.write_all(&number.to_le_bytes()).map_err(text)?,
                Err(error) => return Err(error.to_string()),
            }
        }
        next += batch;
        board.add(me as usize, batch);
        if stream.definition().durability == Durability::Async {
            std::thread::sleep(PACE); // or there would be too many to be compared
        }
    }
}

fn key_of(number: u64) -> String {
    format!("{}/{}", number >> 32, number % KEYS)
}

/// Reads as a worker of a group, and checkpoints; writes down behind it how far it is by key.
fn work(stage: &Stage) -> Result<(), String> {
    let (_bus, stream) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .map_err(text)?;
    let me: u64 = stage.get("me");
    let mut done = notes(stage, "done")?;
    let mut worker = group.join().map_err(text)?;
    loop {
        let mut numbers = Vec::new();
        worker
            .read_batch(50, Duration::from_millis(50), |record| {
                numbers.push(stage::id_of(record.data));
            })
            .map_err(text)?;
        if worker.checkpoint().is_ok() {
            for number in numbers {
                done.write_all(&number?.to_le_bytes()).map_err(text)?;
            }
        }
        board.add(me as usize, 1);
    }
}

/// Splits and merges.
fn reshard(stage: &Stage) -> Result<(), String> {
    let (_bus, stream) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let (me, from): (u64, u64) = (stage.get("me"), stage.get("from"));
    let mut random = Random::new(from);
    loop {
        let shards = stream.shards().map_err(text)?;
        let mut open = shards.iter().filter(|s| s.state == ShardState::Open);
        let wanted = 1 + random.below(4) as u32;
        let changed = match stream.update_shard_count(wanted) {
            Err(ReshardError::NotOpen { .. }) => Ok(0),
            changed => changed,
        };
        changed.map_err(text)?;
        open.next().ok_or("no open shard")?;
        board.add(me as usize, 1);
        std::thread::sleep(Duration::from_millis(5 + random.below(10)));
    }
}

/// Opens the stream, which makes it again, and says so.
fn reopen(stage: &Stage) -> Result<(), String> {
    let (_bus, stream) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    board.set(stage.get("me"), stream.shards().map_err(text)?.len() as u64);
    loop {
        std::thread::park();
    }
}

/// Files may have so many bytes from here on.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid limit; the signal is ignored so that the write fails instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

/// Puts until no further segment can be made, and is refused; then it can.
fn starve(stage: &Stage) -> Result<(), String> {
    let (_bus, stream) = open(&stage.path("memory"), &stage.path("disk"))?;
    let mut acked = notes(stage, "put")?;
    let mut producer = stream.producer().map_err(text)?;
    let me: u64 = stage.get("me");
    let mut next = me << 32;
    let mut put = |next: u64| {
        let data = stage::body(next, 24);
        producer.put(&key_of(next), &data)
    };
    put(next).map_err(text)?;
    acked.write_all(&next.to_le_bytes()).map_err(text)?;
    limit_files(64 << 10);
    let mut refused = 0;
    while refused < 20 {
        next += 1;
        match put(next) {
            // The other shard may have room still.
            Ok(_) => acked.write_all(&next.to_le_bytes()).map_err(text)?,
            Err(PutError::DurabilityUnknown { .. }) => refused += 1,
            Err(PutError::NotOnDisk { .. }) => refused += 1,
            Err(error) => return Err(format!("after {refused} refusals: {error}")),
        }
    }
    // What is there is read all the same, and a split is refused before it begins or done whole.
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().map_err(text)?;
    let record = reader.next(Duration::from_secs(10)).map_err(text)?;
    record.ok_or("nothing is read any more")?;
    limit_files(libc::RLIM_INFINITY);
    for number in (me << 32 | 1 << 30)..(me << 32 | 1 << 30) + 100 {
        put(number).map_err(text)?;
        acked.write_all(&number.to_le_bytes()).map_err(text)?;
    }
    Ok(())
}

impl Scene {
    fn new() -> Result<Self, String> {
        Ok(Self {
            memory: TempBus::new()?,
            disk: TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
            board: AckBoard::new(64)?,
        })
    }

    fn child(&self, role: &str, me: u64, from: u64) -> Result<Victim, String> {
        let launch = Launch::role(role)
            .set("memory", self.memory.path().display())
            .set("disk", self.disk.path().display())
            .set("me", me)
            .set("from", from)
            .set("batch", if me.is_multiple_of(3) { 9 } else { 1 })
            .board("board", &self.board);
        Ok(launch.spawn()?)
    }

    /// Producers, a worker, and one who splits and merges; returns when each has done something.
    fn troupe(&self, round: u64) -> Result<Vec<Victim>, String> {
        let before: Vec<_> = (0..8).map(|me| self.board.get(me)).collect();
        let mut troupe = Vec::new();
        for me in 1..=PRODUCERS {
            troupe.push(self.child("put", me, round)?);
        }
        troupe.push(self.child("work", PRODUCERS + 1, round)?);
        troupe.push(self.child("reshard", PRODUCERS + 2, round)?);
        for (me, victim) in (1..).zip(&troupe) {
            let what = "the first step";
            self.board
                .await_at_least(me, before[me] + 1, victim, what)?;
        }
        Ok(troupe)
    }

    /// What was in memory is gone.
    fn forget(&self) -> Result<(), String> {
        for entry in std::fs::read_dir(self.memory.path()).map_err(text)? {
            std::fs::remove_dir_all(entry.map_err(text)?.path()).map_err(text)?;
        }
        Ok(())
    }

    fn written_down(&self, what: &str) -> BTreeSet<u64> {
        let mut numbers = BTreeSet::new();
        for me in 1..8 {
            let path = self.disk.path().join(format!("{what}-{me}"));
            let bytes = std::fs::read(path).unwrap_or_default();
            let words = bytes.chunks_exact(8);
            numbers.extend(words.map(|word| u64::from_le_bytes(word.try_into().unwrap())));
        }
        numbers
    }

    /// Opens the stream and compares it with what was acknowledged: everything that was put is there, once,
    /// whole, and in the order of its key; and a group goes on behind what it had checkpointed. What is
    /// there.
    fn verify(&self) -> Result<Vec<u64>, String> {
        let there = self.verify_order()?;
        let found: BTreeSet<u64> = there.iter().copied().collect();
        let put = self.written_down("put");
        if let Some(lost) = put.iter().find(|number| !found.contains(number)) {
            return Err(format!(
                "{lost:#x} of {} was acknowledged and is lost",
                put.len()
            ));
        }
        let done = self.written_down("done");
        if let Some(unread) = done.iter().find(|number| !found.contains(number)) {
            return Err(format!("{unread:#x} was read, and is not there"));
        }
        println!("  {} put, {} read", put.len(), done.len());
        Ok(there)
    }

    /// The same where puts do not wait: of what was acknowledged in a round, the last few of a key may be
    /// missing, and nothing before one that is there.
    fn verify_ahead(&self, round: u64) -> Result<Vec<u64>, String> {
        let there = self.verify_order()?;
        let found: BTreeSet<u64> = there.iter().copied().collect();
        let (mut lost, mut lost_of_key) = (0, BTreeMap::new());
        let put = self.written_down("put");
        for number in put.iter().filter(|number| **number >> 24 & 0xff == round) {
            match (found.contains(number), lost_of_key.get(&key_of(*number))) {
                (true, Some(before)) => {
                    return Err(format!(
                        "{before:#x} is lost, and {number:#x} behind it is not"
                    ));
                }
                (true, None) => {}
                (false, _) => {
                    lost += 1;
                    lost_of_key.insert(key_of(*number), *number);
                }
            }
        }
        if lost > MOST_OPEN * MOST_AHEAD {
            return Err(format!("{lost} were acknowledged and are lost"));
        }
        println!("  {lost} of the last moment are missing");
        Ok(there)
    }

    /// Opens the stream; what is there, which is in the order of its keys, and whole.
    fn verify_order(&self) -> Result<Vec<u64>, String> {
        let (_bus, stream) = open(self.memory.path(), self.disk.path())?;
        let iterator = StreamIterator::TrimHorizon;
        let mut reader = stream.reader().iterator(iterator).open().map_err(text)?;
        let mut there = Vec::new();
        loop {
            let read = reader.read_batch(1000, Duration::from_millis(100), |record| {
                there.push(stage::id_of(record.data));
            });
            if read.map_err(text)? == 0 {
                break;
            }
        }
        let there = there.into_iter().collect::<Result<Vec<u64>, _>>()?;
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for number in &there {
            let before = last.insert(key_of(*number), *number);
            if before.is_some_and(|before| before >= *number) {
                return Err(format!("{number:#x} came behind {before:#x?} of its key"));
            }
        }
        let group = stream.groups().map_err(text)?;
        if let Some(group) = group.first() {
            let behind: u64 = group.shards.iter().map(|shard| shard.behind).sum();
            println!(
                "  {} shards, the group is {behind} behind",
                group.shards.len()
            );
        }
        println!("  {} there", there.len());
        Ok(there)
    }
}

fn everybody_is_killed() -> Result<(), String> {
    let mut random = Random::new(announce("when everybody is killed"));
    let scene = Scene::new()?;
    for round in 0..8 {
        let mut troupe = scene.troupe(round)?;
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        for victim in &troupe {
            victim.signal(libc::SIGKILL)?;
        }
        for victim in &mut troupe {
            victim.kill()?;
        }
        scene.forget()?;
        let once = scene.verify()?;
        // Made again from the same journals once more, it is the same.
        scene.forget()?;
        if scene.verify()? != once {
            return Err("made again twice it is not what it was once".into());
        }
        scene.forget()?;
    }
    Ok(())
}

fn everybody_is_killed_ahead_of_the_disk() -> Result<(), String> {
    let mut random = Random::new(announce("when everybody is killed"));
    let scene = Scene::new()?;
    std::fs::write(scene.disk.path().join(ASYNC), []).map_err(text)?;
    for round in 0..6 {
        let mut troupe = scene.troupe(round)?;
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        for victim in &troupe {
            victim.signal(libc::SIGKILL)?;
        }
        for victim in &mut troupe {
            victim.kill()?;
        }
        // Before anybody looks: who reads writes what is left in memory.
        scene.forget()?;
        let once = scene.verify_ahead(round)?;
        scene.forget()?;
        if scene.verify_ahead(round)? != once {
            return Err("made again twice it is not what it was once".into());
        }
        scene.forget()?;
    }
    Ok(())
}

fn stopped_and_gone_on() -> Result<(), String> {
    let mut random = Random::new(announce("who is stopped when"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let stopped = random.below(PRODUCERS + 2) as usize;
        if !troupe[stopped].stop()? {
            return Err("it ended by itself".into());
        }
        let others: Vec<_> = (1..=PRODUCERS as usize)
            .filter(|me| *me != stopped + 1)
            .collect();
        let before: Vec<_> = others.iter().map(|me| scene.board.get(*me)).collect();
        await_condition("the others go on", || {
            let mut all = others.iter().zip(&before);
            all.all(|(me, before)| scene.board.get(*me) > *before)
        })?;
        std::thread::sleep(STOPPED);
        let late = scene.board.get(stopped + 1);
        troupe[stopped].cont()?;
        let what = "the one that was stopped";
        scene
            .board
            .await_at_least(stopped + 1, late + 1, &troupe[stopped], what)?;
    }
    for victim in &mut troupe {
        victim.kill()?;
    }
    scene.forget()?;
    scene.verify().map(drop)
}

fn openers_are_killed() -> Result<(), String> {
    let mut random = Random::new(announce("when openers are killed"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    for victim in &mut troupe {
        victim.kill()?;
    }
    scene.forget()?;
    for round in 0..10 {
        let mut openers = Vec::new();
        for me in 40..44 {
            openers.push(scene.child("reopen", me, round)?);
        }
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        for victim in &openers[..2] {
            victim.signal(libc::SIGKILL)?;
        }
        for (me, victim) in (42..).zip(&openers[2..]) {
            scene.board.await_at_least(me, 1, victim, "it is open")?;
            scene.board.set(me, 0);
        }
        for victim in &mut openers {
            victim.kill()?;
        }
        scene.verify()?;
        scene.forget()?;
    }
    Ok(())
}

fn starved() -> Result<(), String> {
    let scene = Scene::new()?;
    scene.child("starve", 1, 0)?.wait_success()?;
    scene.verify()?;
    scene.forget()?;
    scene.verify().map(drop)
}
