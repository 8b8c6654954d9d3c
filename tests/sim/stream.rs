//! What the power would have left of real runs of durable streams, as of queues: every call to the journals of the
//! table and of each shard is written down, with what was acknowledged in between, and played back into worlds that
//! are crashed together at each flush, each with any sectors of what was under way. What is left is laid out as real
//! directories, and the stream opened from them as ever.
//!
//! A run has two producers on four shards, a worker that checkpoints, writers that die, and splits, merges and a lower
//! retention meanwhile. Every record that was acknowledged is there once, unless the retention may have ended it, and
//! then what is there is the end of each shard; keys are in their order; each shard that was told is there with its range
//! and its parents; every hash key has one open shard; no checkpoint goes back; opened twice it is the same.

use crate::effort;
use crate::record::{Event, Player, Recorder};
use ringway::journal::{Watching, watch};
use ringway::{
    Bus, Durability, GroupStart, OpenError, PutRecord, Retention, ShardId, ShardState, Stream,
    StreamIterator,
};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const QUICK: u64 = 10;
const FULL: u64 = 3_000;
/// Records of a key; keys of each of two producers.
const RECORDS: u64 = 120;
const KEYS: u64 = 4;
const BODY: u64 = 3_000;
const SEGMENT: u64 = 64 << 10;
/// Shards of a run, closed ones among them, that are watched.
const SHARDS: usize = 4 + 2 * CHANGES;
/// Splits and merges.
const CHANGES: usize = 8;
/// Offset of the word of who writes, in the file of a shard and of the table.
const PERSISTER: usize = 7296;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A shard, as it was told: its range and its parents.
type Told = (u128, u128, [Option<ShardId>; 2]);

/// What a run says of itself.
enum Note {
    /// A record is acknowledged: shard and position.
    Put(u32, u64),
    /// The group is that far in a shard.
    Checkpointed(u32, u64),
    /// Older segments may go from here on.
    Lowered,
    Shards(Vec<Told>),
}

/// What was acknowledged.
#[derive(Clone, Default)]
struct Promise {
    /// By shard, positions.
    put: BTreeMap<u32, BTreeSet<u64>>,
    checkpoints: BTreeMap<u32, u64>,
    is_lowered: bool,
    shards: Vec<Told>,
}

/// What is there.
#[derive(Debug, Default, PartialEq, Eq)]
struct There {
    /// By key, in the order in which they were read.
    records: BTreeMap<u64, Vec<u64>>,
    /// By shard, their positions.
    positions: BTreeMap<u32, BTreeSet<u64>>,
    /// Of shards that the group has not finished.
    checkpoints: BTreeMap<u32, u64>,
    open: Vec<u32>,
    shards: Vec<Told>,
}

impl Promise {
    fn take(&mut self, note: &Note) {
        match note {
            Note::Put(shard, at) => drop(self.put.entry(*shard).or_default().insert(*at)),
            Note::Checkpointed(shard, at) => drop(self.checkpoints.insert(*shard, *at)),
            Note::Lowered => self.is_lowered = true,
            Note::Shards(shards) => self.shards.clone_from(shards),
        }
    }

    fn hold(&self, there: &There) {
        for (key, found) in &there.records {
            let is_whole = found.iter().copied().eq(0..found.len() as u64);
            let is_in_order = found.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(
                is_whole || self.is_lowered && is_in_order,
                "of key {key} there is {found:?}"
            );
        }
        for (shard, acked) in &self.put {
            let none = BTreeSet::new();
            let found = there.positions.get(shard).unwrap_or(&none);
            // What is older than the oldest that is there may have gone; all of it, where whoever was displaced has
            // left segments with nothing in them.
            let oldest = match self.is_lowered {
                true => found.first().copied().unwrap_or(u64::MAX),
                false => 0,
            };
            let lost = acked.range(oldest..).find(|at| !found.contains(at));
            assert_eq!(
                lost, None,
                "acknowledged in shard {shard}, and lost: {found:?}"
            );
        }
        for (shard, at) in &self.checkpoints {
            let found = there.checkpoints.get(shard);
            let is_finished = found.is_none() && !there.open.contains(shard);
            assert!(
                is_finished || found >= Some(at),
                "shard {shard} was checkpointed at {at}: {found:?}"
            );
        }
        assert!(
            there.shards.starts_with(&self.shards),
            "{:x?} were told, and {:x?} are there",
            self.shards,
            there.shards
        );
    }
}

fn told(stream: &Stream) -> Vec<Told> {
    let shards = stream.shards().unwrap().into_iter();
    shards.map(|it| (it.start, it.end, it.parents)).collect()
}

/// A place for a bus and its journals.
struct Machine {
    memory: TempBus,
    disk: TempBus,
}

impl Machine {
    fn new() -> Self {
        Self {
            memory: TempBus::new().unwrap(),
            disk: TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        }
    }

    /// Of the table, and of a shard.
    fn directory(&self, at: usize, family: &str) -> PathBuf {
        let table = self.disk.path().join("ringway-bus/s");
        match at {
            0 => table,
            shard => table.join(format!("{family}-{}", shard - 1)),
        }
    }

    fn watch(&self, family: &str, recorder: &Recorder<Note>, from: usize) -> Vec<Watching> {
        let desks = (from..=SHARDS).map(|at| (at, recorder.desk(at)));
        desks
            .map(|(at, desk)| watch(&self.directory(at, family), desk))
            .collect()
    }

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.memory.path());
        let builder = builder.pre_touch(false).journal_root(self.disk.path());
        builder.open_or_create().unwrap()
    }

    fn create(&self, bus: &Bus) -> Stream {
        let stream = bus.stream("s").durability(Durability::Durable).shards(4);
        let stream = stream.slots(1024).stride(1024).segment_bytes(SEGMENT);
        stream.create().unwrap()
    }

    /// The files of the table and of the shards, in memory.
    fn words(&self) -> Vec<PathBuf> {
        let objects = self.memory.path().join("ringway-bus/objects");
        let entries = std::fs::read_dir(objects).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn family(&self) -> String {
        let paths = self.words().into_iter();
        let names = paths.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
        let mut shards = names.filter_map(|name| name.strip_prefix(".shard-").map(str::to_owned));
        let shard = shards.next().unwrap();
        shard.split_once('-').unwrap().0.to_owned()
    }

    fn lay_out(&self, image: &mut Player, family: &str) {
        let _ = std::fs::remove_dir_all(self.directory(0, family));
        for at in 0..=SHARDS {
            if at == 0 || !image.is_empty(at) {
                image.lay_out(at, &self.directory(at, family));
            }
        }
    }

    /// What the stream has that is opened there; `None` where there is none.
    fn open(&self) -> Option<There> {
        for entry in std::fs::read_dir(self.memory.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        let bus = self.bus();
        let stream = match bus.stream("s").open() {
            Err(OpenError::NotFound { .. }) => return None,
            opened => opened.unwrap(),
        };
        let shards = stream.shards().unwrap().into_iter();
        let open = shards.filter(|it| it.state == ShardState::Open);
        let mut there = There {
            open: open.map(|it| it.id.0).collect(),
            shards: told(&stream),
            ..There::default()
        };
        let iterator = StreamIterator::TrimHorizon;
        let mut reader = stream.reader().iterator(iterator).open().unwrap();
        loop {
            let read = reader.try_read_batch(1000, |record| {
                let word = |at| u64::from_le_bytes(record.data[at..at + 8].try_into().unwrap());
                assert_eq!(record.key(), word(0).to_string());
                there.records.entry(word(0)).or_default().push(word(8));
                let number = record.sequence_number;
                let positions = there.positions.entry(number.shard().0).or_default();
                positions.insert(number.position());
            });
            if read.unwrap() == 0 {
                break;
            }
        }
        for group in stream.groups().unwrap() {
            let shards = group.shards.into_iter();
            let checkpoints = shards.map(|it| (it.shard.0, it.checkpoint.position()));
            there.checkpoints.extend(checkpoints);
        }
        Some(there)
    }
}

/// Puts each of its keys' records, in batches of any length.
fn put(stream: &Stream, recorder: &Recorder<Note>, mut random: Random, keys: [u64; KEYS as usize]) {
    let mut producer = stream.producer().unwrap();
    let mut next = [0; KEYS as usize];
    while next.iter().any(|count| *count < RECORDS) {
        let (mut keyed, mut after) = (Vec::new(), next);
        for _ in 0..=random.below(6) {
            let which = random.below(KEYS) as usize;
            if after[which] < RECORDS {
                let mut data = keys[which].to_le_bytes().to_vec();
                data.extend_from_slice(&u64::to_le_bytes(after[which]));
                data.resize(16 + random.below(BODY) as usize, which as u8);
                keyed.push((keys[which].to_string(), data));
                after[which] += 1;
            }
        }
        let records = keyed.iter().map(|(key, data)| PutRecord::new(key, data));
        for outcome in producer.put_batch(&records.collect::<Vec<_>>()) {
            let number = outcome.unwrap().sequence_number;
            recorder.note(Note::Put(number.shard().0, number.position()));
        }
        next = after;
    }
}

/// Takes the role of who writes away: the next one begins an epoch. Its count stays, so that no word comes twice.
fn displace(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let map = memmap2::MmapOptions::new().map_raw(&file.unwrap()).unwrap();
    // SAFETY: PERSISTER is an aligned offset within the file, which is mapped whole, and every access to the
    // word there is atomic.
    let word = unsafe { &*map.as_ptr().add(PERSISTER).cast::<AtomicU64>() };
    word.fetch_and((1 << 52) - 1, Ordering::AcqRel);
}

/// Reads as a worker of a group, and checkpoints, until everything is put.
fn work(stream: &Stream, recorder: &Recorder<Note>, is_over: &AtomicBool) {
    let group = stream.group_or_create("g", GroupStart::TrimHorizon);
    let mut worker = group.unwrap().join().unwrap();
    while !is_over.load(Ordering::Relaxed) {
        // It may be overtaken by the retention.
        let _ = worker.read_batch(50, Duration::from_millis(5), |_| ());
        let leases = Vec::from_iter(worker.leases());
        if worker.checkpoint().is_ok() {
            for lease in leases {
                let (shard, at) = (lease.next.shard().0, lease.next.position());
                recorder.note(Note::Checkpointed(shard, at));
            }
        }
    }
}

/// A run; the family of its stream, and what was done.
fn record(random: &mut Random) -> (String, Vec<Event<Note>>) {
    let machine = Machine::new();
    let recorder = Recorder::default();
    let _table = watch(&machine.directory(0, ""), recorder.desk(0));
    let bus = machine.bus();
    let stream = machine.create(&bus);
    let family = machine.family();
    let _shards = machine.watch(&family, &recorder, 1);
    recorder.note(Note::Shards(told(&stream)));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let producers = [0, KEYS].map(|from| {
            let random = Random::new(random.next_u64());
            let keys = core::array::from_fn(|key| from + key as u64);
            let (stream, recorder) = (&stream, &recorder);
            scope.spawn(move || put(stream, recorder, random, keys))
        });
        let worker = scope.spawn(|| work(&stream, &recorder, &is_over));
        let mut changes = 0;
        while !producers.iter().all(|it| it.is_finished()) {
            let mut open = stream.shards().unwrap();
            open.retain(|shard| shard.state == ShardState::Open);
            open.sort_by_key(|shard| shard.start);
            let any = random.below(open.len() as u64 - 1) as usize;
            match random.below(4) {
                0 if open.len() < 6 && changes < CHANGES => {
                    stream.split(open[any].id, None).unwrap();
                    changes += 1;
                }
                1 if open.len() > 2 && changes < CHANGES => {
                    stream.merge(open[any].id, open[any + 1].id).unwrap();
                    changes += 1;
                }
                2 if changes > 3 => {
                    recorder.note(Note::Lowered);
                    let (age, bytes) = (WEEK, Some(3 * SEGMENT));
                    stream.set_retention(Retention { age, bytes }).unwrap();
                }
                _ => {
                    let words = machine.words();
                    displace(&words[random.below(words.len() as u64) as usize]);
                }
            }
            recorder.note(Note::Shards(told(&stream)));
            std::thread::sleep(Duration::from_millis(random.below(8)));
        }
        is_over.store(true, Ordering::Relaxed);
        worker.join().unwrap();
    });
    assert!(stream.shards().unwrap().len() <= SHARDS);
    drop((stream, bus));
    (family, recorder.take())
}

fn hold(promise: &Promise, there: Option<&There>) {
    match there {
        Some(there) => promise.hold(there),
        None => assert!(promise.shards.is_empty(), "it was told, and is not there"),
    }
}

/// Opens what a disk holds, once more, and where the power goes in the middle of that.
fn check(
    (machine, family): (&Machine, &str),
    mut image: Player,
    promise: &Promise,
    random: &mut Random,
) -> u64 {
    machine.lay_out(&mut image, family);
    if !random.percent(25) {
        hold(promise, machine.open().as_ref());
        return 1;
    }
    let recorder = Recorder::default();
    let there = {
        let _watching = machine.watch(family, &recorder, 0);
        machine.open()
    };
    hold(promise, there.as_ref());
    assert_eq!(machine.open(), there, "opened twice is not opened once");
    let opening = recorder.take();
    for event in &opening[..random.below(opening.len() as u64 + 1) as usize] {
        image.play(event);
    }
    machine.lay_out(&mut image.crash(random), family);
    assert_eq!(
        machine.open(),
        there,
        "the power went in the middle of an opening"
    );
    3
}

#[test]
fn what_the_power_leaves_of_a_real_stream_is_what_was_acknowledged() {
    let wanted = effort::executions(QUICK, FULL);
    let mut random = Random::new(seed::announce("what_the_power_leaves_of_a_real_stream"));
    let machine = Machine::new();
    let (mut images, mut flushes, mut runs, mut lowered) = (0, 0, 0, 0);
    while images < wanted {
        let (family, events) = record(&mut random);
        runs += 1;
        let count = events.iter().filter(|event| event.is_flush()).count() as u64;
        let (mut player, mut promise) = (Player::of(SHARDS + 1), Promise::default());
        for event in &events {
            // In front of a flush everything is under way that it would complete.
            if event.is_flush() {
                flushes += 1;
                if random.below(count) < wanted {
                    let image = player.crash(&mut random);
                    images += check((&machine, &family), image, &promise, &mut random);
                    lowered += u64::from(promise.is_lowered);
                }
            }
            player
                .play(event)
                .into_iter()
                .for_each(|it| promise.take(it));
        }
        let image = player.crash(&mut random);
        images += check((&machine, &family), image, &promise, &mut random);
    }
    assert!(flushes > 0);
    effort::report(
        "R5 streams",
        images,
        0,
        &[
            ("runs", runs),
            ("flushes", flushes),
            ("images_of_real_runs", images),
            ("behind_a_lower_retention", lowered),
            ("lost", 0),
        ],
    );
}
