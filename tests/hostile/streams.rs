//! The files of a stream, scribbled over while it is used: the control file (shard table, operation, wishes,
//! groups and their members), the rings of its shards (marks, leases, checkpoints, slots), and records where they
//! lie.
//!
//! What is asked of it is answered or refused, never a panic, nor an endless loop: who takes longer than the
//! deadline of the harness over one execution ends the run. The seed is printed and repeats the run;
//! `RINGWAY_FULL=1` makes 10 million executions of each.

#[path = "effort.rs"]
mod effort;
#[path = "files.rs"]
#[allow(dead_code)]
mod files;

use files::plausible;
use ringway::{
    Aggregation, Backpressure, Bus, ConsumerPolicy, GroupStart, GroupWorker, PutRecord,
    SequenceNumber, ShardId, Stream, StreamIterator,
};
use ringway_harness::seed::{self, Random};
use ringway_harness::{TempBus, deadline};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const SLOTS: usize = 1024;
const STRIDE: usize = 128;
const READERS: usize = 6;
/// Where the operation, the groups, the wishes and the table of shards are in the control file.
const OPERATION: usize = 4096;
const GROUPS: usize = 8192;
const GROUP: usize = 1280;
const WISHES: usize = GROUPS + 32 * GROUP;
const TABLE: usize = WISHES + 1024 * 192;
/// Where reader entries are in a ring, and where its slots begin: the standing entries come behind the others.
const ENTRIES: usize = 8192;
const ENTRY: usize = 256;
const STANDING: usize = ENTRIES + READERS * ENTRY;
const RING_SLOTS: usize = (ENTRIES + (READERS + 33) * ENTRY).next_multiple_of(4096);
const RECORDS: usize = 40;

/// A mapped file, and what was in it when all was well.
struct Prey {
    path: PathBuf,
    map: memmap2::MmapRaw,
    whole: Vec<u8>,
}

impl Prey {
    fn new(path: PathBuf) -> Self {
        let file = std::fs::File::options().read(true).write(true).open(&path);
        let map = memmap2::MmapOptions::new().map_raw(&file.unwrap()).unwrap();
        let whole = (0..map.len() / 8).flat_map(|at| words(&map)[at].load(Relaxed).to_ne_bytes());
        let whole = whole.collect();
        Self { path, map, whole }
    }

    fn restore(&self, until: usize) {
        for (word, bytes) in words(&self.map)
            .iter()
            .zip(self.whole[..until].chunks_exact(8))
        {
            let was = u64::from_ne_bytes(bytes.try_into().expect("eight"));
            // Most of them: their cache lines stay clean.
            if word.load(Relaxed) != was {
                word.store(was, Relaxed);
            }
        }
    }
}

fn words(map: &memmap2::MmapRaw) -> &[AtomicU64] {
    // SAFETY: a page-aligned mapping of `len` bytes that lives as long as the borrow; the file is never
    // truncated in this test, and every access to it is atomic.
    unsafe { std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / 8) }
}

struct Scene {
    bus: Bus,
    stream: Stream,
    control: Prey,
    rings: Vec<Prey>,
    /// Whether something was changed for good.
    is_spent: Cell<bool>,
    /// It has leases, and never comes back for them.
    _worker: GroupWorker,
    _root: TempBus,
}

/// A stream of two open shards and a closed one, with two groups, of which one has a worker, a registered
/// consumer, and records of all kinds.
fn scene(backpressure: Backpressure) -> Scene {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("h").root(root.path()).pool_bytes(8 << 20);
    let bus = bus.pre_touch(false).create().unwrap();
    let stream = bus.stream("s").slots(SLOTS as u64).stride(STRIDE as u64);
    let stream = stream.readers(READERS as u32).backpressure(backpressure);
    let stream = stream
        .lease_timeout(Duration::from_millis(100))
        .create()
        .unwrap();
    put(&stream, &mut Random::new(1), RECORDS / 2);
    stream.split(ShardId(0), None).unwrap();
    put(&stream, &mut Random::new(2), RECORDS);
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    stream.group_or_create("h", GroupStart::Latest).unwrap();
    stream
        .register_consumer("c", ConsumerPolicy::DropOldest)
        .unwrap();
    let mut worker = group.join().unwrap();
    let _ = worker.try_read_batch(10, |_| {});
    worker.checkpoint().unwrap();
    let objects = bus.directory().join("objects");
    let control = Prey::new(objects.join("s"));
    let mut shards: Vec<PathBuf> = std::fs::read_dir(&objects)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    shards.retain(|path| path.to_string_lossy().contains("/.shard-"));
    shards.sort();
    assert_eq!(shards.len(), 3);
    let rings = shards.into_iter().map(Prey::new).collect();
    Scene {
        bus,
        stream,
        control,
        rings,
        is_spent: Cell::new(false),
        _worker: worker,
        _root: root,
    }
}

impl Scene {
    /// Takes away what was made meanwhile, and puts everything back.
    fn restore(&self) {
        self.control.restore(self.control.whole.len());
        for ring in &self.rings {
            ring.restore(RING_SLOTS + 4 * RECORDS * STRIDE);
        }
    }
}

fn put(stream: &Stream, random: &mut Random, count: usize) {
    let Ok(mut producer) = stream.producer() else {
        return;
    };
    for number in 0..count {
        let data = vec![number as u8; [3, 40, 600][random.below(3) as usize]];
        let key = ["a", "b", "c", "d"][random.below(4) as usize];
        drop(
            producer
                .try_put(&PutRecord::new(key, &data))
                .map_err(|error| error.to_string()),
        );
    }
    let records = [PutRecord::new("a", b"one"), PutRecord::new("b", b"two")];
    drop(producer.put_batch(&records));
    let mut producer = producer.aggregating(Aggregation::default());
    drop(
        producer
            .put("a", b"three")
            .and_then(|_| producer.put("a", b"four")),
    );
    drop(producer.flush().map_err(|error| error.to_string()));
}

/// Everything once, without believing that any of it succeeds. Whether something was read.
fn exercise(scene: &Scene, random: &mut Random) -> bool {
    let stream = match random.below(4) {
        0 => match scene.bus.stream("s").open() {
            Ok(stream) => stream,
            Err(error) => return error.to_string().is_empty(),
        },
        _ => scene.stream.clone(),
    };
    let mut read = 0;
    match random.below(8) {
        0 => drop(stream.stats().map_err(|error| error.to_string())),
        1 => drop(stream.groups().map_err(|error| error.to_string())),
        2 => drop(stream.consumers().map_err(|error| error.to_string())),
        3 => drop(
            stream
                .positions(ShardId(1))
                .map_err(|error| error.to_string()),
        ),
        _ => drop(stream.shards().map_err(|error| error.to_string())),
    }
    match random.below(6) {
        0 => {
            let number: SequenceNumber = "18446744073709551619".parse().unwrap();
            let begin = [
                StreamIterator::TrimHorizon,
                StreamIterator::Latest,
                StreamIterator::AtTimestamp(1),
                StreamIterator::AtSequenceNumber(number),
            ][random.below(4) as usize];
            let reader = stream.reader().iterator(begin);
            let reader = match begin {
                StreamIterator::AtSequenceNumber(number) => reader.shard(number.shard()),
                _ => reader,
            };
            let reader = if random.percent(50) {
                reader.lossy()
            } else {
                reader
            };
            if let Ok(mut reader) = reader.open() {
                for _ in 0..12 {
                    read += reader
                        .try_read_batch(9, |record| drop(record.to_owned()))
                        .unwrap_or(0);
                }
                drop(reader.millis_behind_latest());
                drop(reader.next(Duration::from_micros(60)));
            }
        }
        1 => {
            if let Ok(mut tail) = stream.tail(true) {
                for _ in 0..30 {
                    read += usize::from(tail.try_next().is_ok_and(|record| record.is_some()));
                }
            }
        }
        2 | 3 => {
            let group = stream.group(["g", "h"][random.below(2) as usize]);
            if let Ok(mut worker) = group.and_then(|group| group.join()) {
                for _ in 0..6 {
                    read += worker
                        .try_read_batch(9, |record| drop(record.to_owned()))
                        .unwrap_or(0);
                    drop(worker.checkpoint().map_err(|error| error.to_string()));
                }
                drop(worker.next(Duration::from_micros(60)));
                let _ = (worker.behind(), worker.leases().count());
            }
        }
        4 => {
            let begun = stream
                .consumer("c")
                .and_then(|consumer| consumer.take_over(StreamIterator::TrimHorizon));
            if let Ok(mut subscription) = begun {
                for _ in 0..6 {
                    read += subscription.try_read_batch(9, |_| {}).unwrap_or(0);
                }
            }
        }
        _ => {
            put(&stream, random, 6);
            read = 1;
        }
    }
    let change = random.below(400);
    if change < 7 {
        scene.is_spent.set(true);
    }
    match change {
        0 => drop(
            stream
                .split(ShardId(1), None)
                .map_err(|error| error.to_string()),
        ),
        1 => drop(
            stream
                .merge(ShardId(1), ShardId(2))
                .map_err(|error| error.to_string()),
        ),
        2 => drop(stream.retire_closed().map_err(|error| error.to_string())),
        3 => drop(stream.remove_group("h").map_err(|error| error.to_string())),
        4 => drop(stream.group_or_create("i", GroupStart::Latest).map(|_| ())),
        5 => drop(scene.bus.doctor(false).map(|report| report.is_clean())),
        6 => drop(stream.update_shard_count(3)),
        _ => {}
    }
    read > 0
}

/// Ends the process when one execution takes too long.
fn watch(target: &'static str, seed: u64) -> Arc<AtomicU64> {
    let done = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&done);
    std::thread::spawn(move || {
        let mut before = u64::MAX;
        loop {
            let now = watched.load(Relaxed);
            if now == before {
                eprintln!("{target}: execution {now} of RINGWAY_SEED={seed} does not end");
                std::process::abort();
            }
            before = now;
            std::thread::sleep(deadline());
            if Arc::strong_count(&watched) == 1 {
                return;
            }
        }
    });
    done
}

fn run(
    target: &'static str,
    quick: u64,
    backpressure: Backpressure,
    mut scribble: impl FnMut(&Scene, &mut Random),
) {
    let seed = seed::announce(target);
    let executions = effort::executions(quick, 10_000_000);
    let mut random = Random::new(seed);
    let mut scene = scene(backpressure);
    let done = watch(target, seed);
    let (mut accepted, mut crashes, mut anew) = (0, 0, 0);
    for number in 0..executions {
        scene.restore();
        // What a change has removed or made is not put back.
        if scene.is_spent.get() || !scene.rings.iter().all(|ring| ring.path.exists()) {
            scene = self::scene(backpressure);
            anew += 1;
        }
        scribble(&scene, &mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| exercise(&scene, &mut random)));
        match outcome {
            Ok(worked) => accepted += u64::from(worked),
            Err(_) => {
                crashes += 1;
                eprintln!("{target}: execution {number} of RINGWAY_SEED={seed} panicked");
            }
        }
        done.store(number + 1, Relaxed);
    }
    scene.restore();
    drop(done);
    let more = [("accepted", accepted), ("made_anew", anew), ("seed", seed)];
    effort::report(target, executions, crashes, &more);
    assert_eq!(crashes, 0, "RINGWAY_SEED={seed}");
    assert!(
        accepted > executions / 100 && accepted < executions,
        "{accepted} of {executions} accepted"
    );
}

fn scribble_words(prey: &Prey, from: usize, bytes: usize, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let word = &words(&prey.map)[(from + random.below(bytes as u64) as usize) / 8];
        match random.below(4) {
            0 => drop(word.fetch_xor(1 << random.below(64), Relaxed)),
            // One half of it: a number of 32 bits.
            1 => word.store(
                word.load(Relaxed) & !0 << 32 | random.below(1 << 12),
                Relaxed,
            ),
            _ => word.store(plausible(random), Relaxed),
        }
    }
}

#[test]
fn a_scribbled_table_of_shards_is_used_or_refused() {
    run(
        "tables of streams",
        4_000,
        Backpressure::Fail,
        |scene, random| {
            let control = &scene.control;
            match random.below(8) {
                0 => scribble_words(control, 0, 4096, random),
                1 | 2 => scribble_words(control, OPERATION, 256, random),
                3 => scribble_words(control, GROUPS, 4 * GROUP, random),
                4 => {
                    // A wish of somebody, and the operation says that it is being granted.
                    let owner = random.below(4);
                    let mut number = || match random.below(8) {
                        0 => [2047, 2048, 2049, u64::from(u32::MAX)][random.below(4) as usize],
                        _ => random.below(6),
                    };
                    let (first, second, child) = (number(), number(), number());
                    let wish = [
                        random.below(9),
                        first | second << 32,
                        child | random.below(2) << 32,
                        plausible(random),
                        plausible(random),
                    ];
                    let at = (WISHES + owner as usize * 192) / 8;
                    for (word, wish) in words(&control.map)[at..].iter().zip(wish) {
                        word.store(wish, Relaxed);
                    }
                    let operation = &words(&control.map)[OPERATION / 8];
                    operation.store(files::word(1, owner, random.below(1 << 20)), Relaxed);
                }
                _ => scribble_words(control, TABLE, 4 * 128, random),
            }
        },
    );
}

#[test]
fn a_scribbled_shard_is_read_and_written_or_refused() {
    for (target, backpressure) in [
        ("shards that refuse", Backpressure::Fail),
        ("shards that drop", Backpressure::DropOldest),
    ] {
        run(target, 2_000, backpressure, |scene, random| {
            let ring = &scene.rings[random.below(3) as usize];
            match random.below(6) {
                0 => scribble_words(ring, 0, 4096, random),
                1 => scribble_words(ring, 4096, 1024, random),
                // Leases, checkpoints and cursors of groups, and the guard.
                2 => scribble_words(ring, STANDING, 3 * ENTRY, random),
                3 => scribble_words(ring, STANDING + 32 * ENTRY, 64, random),
                4 => scribble_words(ring, ENTRIES, READERS * ENTRY, random),
                _ => {
                    let slot = RING_SLOTS + random.below(2 * RECORDS as u64) as usize * STRIDE;
                    scribble_words(ring, slot, 32, random);
                }
            }
        });
    }
}

#[test]
fn a_scribbled_record_is_read_or_told() {
    run(
        "records of streams",
        4_000,
        Backpressure::Fail,
        |scene, random| {
            for _ in 0..1 + random.below(8) {
                let ring = &scene.rings[random.below(3) as usize];
                let slot = RING_SLOTS + random.below(RECORDS as u64) as usize * STRIDE;
                scribble_words(ring, slot + 24, 48, random);
            }
        },
    );
}
