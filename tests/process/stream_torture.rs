//! Kill torture of a stream: three producers, four workers of a group and somebody who splits, merges and
//! retires all the time, under random SIGKILL, SIGSTOP and SIGCONT, each brought back whenever it dies.
//!
//! Nothing is skipped and the order of each key is kept: a record is only ever read when the one before it
//! of its key has been read. Nothing that was acknowledged is lost: in the end every record was read. What was
//! checkpointed is not read again, except by a worker whose lease had passed on, and whose own checkpoint is
//! refused then. The same of a stream on disk; what was in memory is gone in the end, and the stream made again from
//! its journals has every record once, and the group where it was.
//!
//! ```text
//! cargo test --release --test stream_torture                         300 kills, and 15 of who work on a disk
//! RINGWAY_KILLS=20000 cargo test --release --test stream_torture     the soak, as many of both
//! RINGWAY_SEED=n                                                     the same draws again
//! ```
//! One JSON line on standard output.

mod stage;
mod torment;

use ringway::{
    Backpressure, Bus, CheckpointError, Durability, Group, GroupStart, GroupWorker, PutError,
    PutRecord, ReshardError, SendError, ShardState, Stream, StreamIterator,
};
use ringway_harness::seed::Random;
use ringway_harness::{Stage, TempBus, deadline};
use stage::{body, id_of, text};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use torment::{MESSAGES, id, is_marked, kills, mark, nobody_is_left, none_is_lost, parts};

ringway_harness::roles! {
    put => put,
    work => work,
    reshard => reshard,
}

const PRODUCERS: usize = 3;
const WORKERS: usize = 4;
/// Keys of each producer; record `n` has key `n % KEYS`.
const KEYS: u64 = 7;
const KILLS: u64 = 300;
/// The same on a disk, where each waits for it all the time.
const DURABLE_KILLS: u64 = 15;
/// Lives of a producer.
const LIVES: usize = 1 << 15;
/// Most bytes of data; two thirds of all lie in the slot.
const LONGEST: u64 = 1500;
/// A stopped worker's shards pass on after this.
const LEASE: Duration = Duration::from_millis(100);
/// On disk: several of them are filled and given up.
const SEGMENT: u64 = 64 << 10;
/// Shards are never given twice: from here on nobody splits any more.
const MOST_SHARDS: usize = 1900;
/// Those that are closed keep their memory and their journals for as long as their records are kept.
const MOST_SHARDS_ON_DISK: usize = 200;

/// Words of the board of totals.
const STOP: usize = 0;
const FENCED: usize = 1;
const AGAIN: usize = 2;
const CHECKPOINTS: usize = 3;
const CHANGES: usize = 4;
const RETIRED: usize = 5;

ringway_harness::boards! {
    /// Records of each producer that were acknowledged, or may have been put.
    acks: PRODUCERS,
    /// One bit for each record of each producer: somebody has read it.
    marks: torment::bits(PRODUCERS),
    /// Of each producer and key, one more than the last record that was checkpointed.
    done: PRODUCERS * KEYS as usize,
    totals: 6,
    /// Of each life of a producer, one more than the record that may have been put or not.
    unasked: PRODUCERS * LIVES,
}

impl Boards {
    fn unasked(&self, producer: usize) -> BTreeSet<u64> {
        let lives = producer * LIVES..(producer + 1) * LIVES;
        let words = lives.map(|at| self.unasked.get(at));
        words.filter_map(|word| word.checked_sub(1)).collect()
    }

    fn is_over(&self) -> bool {
        self.totals.get(STOP) != 0
    }

    fn line(&self, producer: usize, number: u64) -> &std::sync::atomic::AtomicU64 {
        &self.done.words()[producer * KEYS as usize + (number % KEYS) as usize]
    }

    /// A record was handed out. Whether one behind it of its key was checkpointed already.
    fn read(&self, id: u64) -> Result<bool, String> {
        let (producer, number) = parts(id);
        if number >= KEYS && !is_marked(&self.marks, producer, number - KEYS) {
            return Err(format!(
                "record {number} of producer {producer} passed the one before it of its key"
            ));
        }
        let is_late = self.line(producer, number).load(SeqCst) > number;
        if mark(&self.marks, producer, number) {
            self.totals.add(AGAIN, 1);
        }
        Ok(is_late)
    }

    /// It was checkpointed. Whoever was stopped says so late, when others are further.
    fn checkpointed(&self, id: u64) {
        let (producer, number) = parts(id);
        self.line(producer, number).fetch_max(number + 1, SeqCst);
    }
}

/// The bus, and the stream that has its journals in `disk`, if that is one.
fn open(root: &Path, disk: &Path) -> Result<(Bus, Stream), String> {
    let builder = stage::bus(root).journal_root(disk.join("journals"));
    let bus = builder.open_or_create().map_err(text)?;
    let builder = bus.stream("s").shards(3).slots(1024).stride(128).readers(8);
    let builder = builder
        .backpressure(Backpressure::Fail)
        .lease_timeout(LEASE);
    let builder = match is_on_disk(disk) {
        true => builder
            .durability(Durability::Durable)
            .segment_bytes(SEGMENT),
        false => builder,
    };
    let stream = builder.open_or_create().map_err(text)?;
    Ok((bus, stream))
}

fn is_on_disk(disk: &Path) -> bool {
    disk != Path::new("")
}

fn group(stream: &Stream) -> Result<Group, String> {
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .map_err(text)
}

fn main() -> ExitCode {
    stage::run(&[
        ("torture of a stream", || play(None, kills(KILLS))),
        ("torture of a stream on disk", || {
            let disk = TempBus::under(env!("CARGO_TARGET_TMPDIR"))?;
            play(Some(disk.path()), kills(DURABLE_KILLS))
        }),
    ])
}

fn play(disk: Option<&Path>, kills: u64) -> Result<(), String> {
    let started = Instant::now();
    let root = TempBus::new()?;
    let disk = disk.unwrap_or(Path::new(""));
    let (bus, stream) = open(root.path(), disk)?;
    let group = group(&stream)?;
    let boards = Boards::new()?;
    let roles = [("put", PRODUCERS), ("work", WORKERS), ("reshard", 1)];
    let report = torment::torment(
        (&bus, root.path()),
        kills,
        &roles,
        |launch| boards.dress(launch.set("disk", disk.display())),
        || boards.totals.set(STOP, 1),
    )?;
    finish(&bus, &stream, &group, &boards)?;
    let acked = none_is_lost(&boards.acks, &boards.marks, PRODUCERS)?;
    let totals = |which| boards.totals.get(which);
    if acked == 0 || totals(CHECKPOINTS) == 0 || totals(CHANGES) == 0 {
        return Err("nothing happened".to_owned());
    }
    println!(
        "{{\"figure\":\"stream torture\",\"on_disk\":{},\"seed\":{},\"kills\":{},\"stops\":{},\"acked\":{acked},\
         \"read_again\":{},\"checkpoints\":{},\"fenced\":{},\"changes\":{},\"retired\":{},\
         \"shards\":{},\"lost\":0,\"inversions\":0,\"seconds\":{:.1}}}",
        is_on_disk(disk),
        report.seed,
        report.kills,
        report.stops,
        totals(AGAIN),
        totals(CHECKPOINTS),
        totals(FENCED),
        totals(CHANGES),
        totals(RETIRED),
        stream.shards().map_err(text)?.len(),
        started.elapsed().as_secs_f64()
    );
    drop((group, stream, bus));
    match is_on_disk(disk) {
        true => restart(root.path(), disk, &boards),
        false => Ok(()),
    }
}

/// What was in memory is gone: the stream that is made again has every record of each key once, in order, and
/// the group has nothing left to read.
fn restart(root: &Path, disk: &Path, boards: &Boards) -> Result<(), String> {
    for entry in std::fs::read_dir(root).map_err(text)? {
        std::fs::remove_dir_all(entry.map_err(text)?.path()).map_err(text)?;
    }
    let (_bus, stream) = open(root, disk)?;
    let info = group(&stream)?.info().map_err(text)?;
    if info.shards.iter().any(|shard| shard.behind > 0) {
        return Err(format!("the group was through, and is not: {info:?}"));
    }
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().map_err(text)?;
    let mut next = [0; PRODUCERS * KEYS as usize];
    let mut there = [const { BTreeSet::new() }; PRODUCERS];
    let mut wrong = None;
    let mut each = |record: ringway::StreamRecord<'_>| match id_of(record.data) {
        Ok(id) => {
            let (producer, number) = parts(id);
            let place = &mut next[producer * KEYS as usize + (number % KEYS) as usize];
            if *place > number {
                wrong = Some(format!("{number} of producer {producer} is out of order"));
            }
            *place = number + 1;
            there[producer].insert(number);
            if !is_marked(&boards.marks, producer, number) {
                wrong = Some(format!(
                    "{number} of producer {producer} was read by nobody"
                ));
            }
        }
        Err(why) => wrong = Some(why),
    };
    while reader.try_read_batch(1000, &mut each).map_err(text)? > 0 {}
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    for (producer, there) in there.iter().enumerate() {
        let unasked = boards.unasked(producer);
        let mut acked = 0..boards.acks.get(producer);
        if let Some(lost) = acked.find(|it| !there.contains(it) && !unasked.contains(it)) {
            return Err(format!(
                "record {lost} of producer {producer} is gone behind a restart"
            ));
        }
    }
    Ok(())
}

/// Everybody has ended: what is left is read, and nothing else is left.
fn finish(bus: &Bus, stream: &Stream, group: &Group, boards: &Boards) -> Result<(), String> {
    bus.reap().map_err(text)?;
    let mut worker = group.join().map_err(text)?;
    let start = Instant::now();
    loop {
        turn(boards, &mut worker, 64, true)?;
        let info = group.info().map_err(text)?;
        let open = |shard: &&ringway::GroupShard| shard.behind > 0 || shard.waits_for_parents;
        if !info.shards.iter().any(|shard| open(&shard)) {
            break;
        }
        if start.elapsed() > deadline() {
            return Err(format!("records stay behind: {info:?}"));
        }
    }
    drop(worker);
    stream.retire_closed().map_err(text)?;
    nobody_is_left(bus)?;
    let closed = stream.stats().map_err(text)?.closed_shards;
    let is_kept = stream.definition().durability == Durability::Durable;
    if closed != 0 && !is_kept {
        return Err(format!("{closed} closed shards stay"));
    }
    Ok(())
}

/// Reads up to `max` records and, if asked to, checkpoints them.
fn turn(
    boards: &Boards,
    worker: &mut GroupWorker,
    max: usize,
    checkpoints: bool,
) -> Result<(), String> {
    let mut ids = Vec::new();
    let mut wrong = None;
    let mut is_late = None;
    let read = worker.read_batch(max, Duration::from_millis(5), |record| {
        match id_of(record.data).and_then(|id| Ok((id, boards.read(id)?))) {
            Ok((id, late)) => {
                if late {
                    is_late = Some(id);
                }
                ids.push(id);
            }
            Err(why) => {
                wrong.get_or_insert(format!("{why}, in {}", record.sequence_number));
            }
        }
    });
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    read.map_err(text)?;
    if !checkpoints && is_late.is_none() {
        return Ok(());
    }
    match worker.checkpoint() {
        Ok(_) => {
            if let Some(late) = is_late {
                let (producer, number) = parts(late);
                return Err(format!(
                    "record {number} of producer {producer} was read again behind its checkpoint"
                ));
            }
            boards.totals.add(CHECKPOINTS, 1);
            for id in ids {
                boards.checkpointed(id);
            }
            Ok(())
        }
        Err(CheckpointError::Fenced { .. }) => {
            boards.totals.add(FENCED, 1);
            Ok(())
        }
        Err(error) => Err(text(error)),
    }
}

// What the children do.

fn put(stage: &Stage) -> Result<(), String> {
    let (index, life): (usize, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((index as u64) << 32 | life);
    let (_bus, stream) = open(&stage.path("root"), &stage.path("disk"))?;
    let mut producer = stream.producer().map_err(text)?;
    let mut number = torment::resume(&boards.acks, &boards.marks, index, life);
    if life > 0 {
        // One less is what nobody asks for.
        let place = index * LIVES + life as usize % LIVES;
        boards.unasked.set(place, number);
    }
    while !boards.is_over() && number < MESSAGES - 2 {
        let len = match random.below(3) {
            0 => 16 + random.below(LONGEST),
            _ => 16 + random.below(48),
        };
        let data = body(id(index, number), len as usize);
        let key = format!("{index}/{}", number % KEYS);
        match producer.try_put(&PutRecord::new(&key, &data)) {
            Ok(_) => {
                number += 1;
                boards.acks.set(index, number);
            }
            Err(
                PutError::Full { .. }
                | PutError::Send {
                    source: SendError::PoolExhausted { .. },
                    ..
                },
            ) => {
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

fn work(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((100 + index) << 32 | life);
    let (_bus, stream) = open(&stage.path("root"), &stage.path("disk"))?;
    let group = group(&stream)?;
    let mut worker = group.join().map_err(text)?;
    while !boards.is_over() {
        if random.percent(1) {
            drop(worker);
            worker = group.join().map_err(text)?;
        }
        let max = 1 + random.below(40) as usize;
        turn(&boards, &mut worker, max, random.percent(80))?;
    }
    Ok(())
}

fn reshard(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((200 + index) << 32 | life);
    let (_bus, stream) = open(&stage.path("root"), &stage.path("disk"))?;
    let most = match stream.definition().durability {
        Durability::Durable => MOST_SHARDS_ON_DISK,
        _ => MOST_SHARDS,
    };
    while !boards.is_over() {
        let shards = stream.shards().map_err(text)?;
        let open: Vec<_> = shards
            .iter()
            .filter(|s| s.state == ShardState::Open)
            .collect();
        let any = open[random.below(open.len() as u64) as usize];
        let next = open
            .iter()
            .find(|shard| any.end.checked_add(1) == Some(shard.start));
        let changed = match next {
            _ if shards.len() >= most => Ok(()),
            Some(next) if open.len() > 5 || random.percent(50) => {
                stream.merge(any.id, next.id).map(drop)
            }
            _ => stream.split(any.id, None).map(drop),
        };
        match changed {
            Ok(()) => drop(boards.totals.add(CHANGES, 1)),
            // A sweep or a split by somebody else was faster.
            Err(ReshardError::NotOpen { .. } | ReshardError::NotAdjacent { .. }) => {}
            Err(error) => return Err(text(error)),
        }
        let retired = stream.retire_closed().map_err(text)? as u64;
        boards.totals.add(RETIRED, retired);
        // It paces the changes; nothing is assumed to have happened behind it.
        std::thread::sleep(Duration::from_millis(random.below(20)));
    }
    Ok(())
}
