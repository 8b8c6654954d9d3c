//! The journals of a stream, written by somebody else: every block is whole, and what stands in it is any bytes. The
//! table (shards, groups, checkpoints, retention), the first page of the control file that the stream is made from, and
//! what the journal of a shard says of records, arrivals and groups.
//!
//! The stream is opened or refused, and what is asked of it is answered or refused, never a panic, nor an endless loop:
//! who takes longer than the deadline of the harness over one execution ends the run. The seed is printed and repeats
//! the run; `RINGWAY_FULL=1` makes 20,000 executions.

#[path = "effort.rs"]
mod effort;
#[path = "files.rs"]
#[allow(dead_code)]
mod files;

use files::plausible;
use ringway::journal::{DEFINITION_BYTES, Disk, Options, Pushed, Reading, Recovery, Writer};
use ringway::{
    Bus, ConsumerPolicy, Durability, GroupStart, JournalError, PutRecord, Retention, ShardId,
    Stream, StreamIterator,
};
use ringway_harness::seed::{self, Random};
use ringway_harness::{TempBus, deadline};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const QUICK: u64 = 10;
const FULL: u64 = 20_000;
/// Kinds from here on are state, and have no position.
const SIDE: u8 = 0x80;

/// What a journal says: its object, what it is made from, and kind, position and bytes of its entries.
#[derive(Clone)]
struct Said {
    directory: PathBuf,
    object: u64,
    definition: Box<[u8; DEFINITION_BYTES]>,
    entries: Vec<(u8, u64, Vec<u8>)>,
}

impl Said {
    fn read(directory: PathBuf) -> Self {
        let disk = Arc::new(Disk::open(&directory).unwrap());
        let recovery = Recovery::open(disk, None, false).unwrap();
        let (object, definition) = (recovery.object(), Box::new(*recovery.definition()));
        let mut entries = Vec::new();
        let read = recovery.read(&Reading::default(), |entry| {
            entries.push((entry.kind, entry.position, entry.bytes.to_vec()));
            Ok::<_, JournalError>(())
        });
        read.unwrap();
        Self {
            directory,
            object,
            definition,
            entries,
        }
    }

    /// Writes it anew, each block as it should be.
    fn write(&self) {
        // How the disk writes is known.
        std::fs::create_dir_all(&self.directory).unwrap();
        std::fs::write(self.directory.join("probe"), "dsync\n").unwrap();
        let disk = Arc::new(Disk::open_or_create(&self.directory).unwrap());
        let options = Options {
            segment_bytes: 64 << 10,
            buffer_bytes: 16 << 10,
            background: false,
            spares: 0,
            ..Options::default()
        };
        let writer = Writer::take_over(disk, options, self.object, 1, 0, &self.definition);
        let mut writer = writer.unwrap();
        let mut next = 0;
        for (kind, position, bytes) in &self.entries {
            match kind {
                // What was skipped.
                0 => {
                    let to = bytes[..].try_into().map_or(next, u64::from_le_bytes);
                    if to > next {
                        assert_ne!(writer.gap(next, to).unwrap(), Pushed::Full);
                        next = to;
                    }
                }
                kind => {
                    let is_state = *kind >= SIDE;
                    let at = if is_state { *position } else { next };
                    let pushed = writer.push(*kind, 0, at, &[bytes]).unwrap();
                    assert_ne!(pushed, Pushed::Full);
                    next += u64::from(!is_state);
                }
            }
            writer.submit().unwrap();
            writer.complete(true).unwrap();
        }
        writer.close().unwrap();
    }
}

/// A place for a bus, and one for its journals, and what these say of a stream.
struct Scene {
    memory: TempBus,
    disk: TempBus,
    said: Vec<Said>,
}

fn bus(memory: &Path, disk: &Path) -> Bus {
    let builder = Bus::builder("h").root(memory).pool_bytes(8 << 20);
    let builder = builder.pre_touch(false).journal_root(disk);
    builder.open_or_create().unwrap()
}

/// A stream of two open shards and a closed one, with two groups and a registered consumer.
fn scene() -> Scene {
    let memory = TempBus::new().unwrap();
    let disk = TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bus = bus(memory.path(), disk.path());
    let stream = bus.stream("s").durability(Durability::Durable).slots(1024);
    let stream = stream.segment_bytes(64 << 10).create().unwrap();
    put(&stream, 10);
    stream.split(ShardId(0), None).unwrap();
    let group = stream.group_or_create("g", GroupStart::TrimHorizon);
    stream.group_or_create("h", GroupStart::Latest).unwrap();
    let policy = ConsumerPolicy::DropOldest;
    stream.register_consumer("c", policy).unwrap();
    put(&stream, 20);
    let mut worker = group.unwrap().join().unwrap();
    let _ = worker.read_batch(10, Duration::from_secs(1), |_| {});
    worker.checkpoint().unwrap();
    drop((worker, stream, bus));
    let table = disk.path().join("ringway-h/s");
    let mut directories = vec![table.clone()];
    for entry in std::fs::read_dir(&table).unwrap() {
        let path = entry.unwrap().path();
        directories.extend(path.is_dir().then_some(path));
    }
    assert_eq!(directories.len(), 4);
    let said = directories.into_iter().map(Said::read).collect();
    Scene { memory, disk, said }
}

fn put(stream: &Stream, count: u64) {
    let Ok(mut producer) = stream.producer() else {
        return;
    };
    for number in 0..count {
        let key = ["a", "b", "c", "d"][number as usize % 4];
        let data = number.to_le_bytes();
        drop(producer.try_put(&PutRecord::new(key, &data)));
    }
}

/// Changes bytes somewhere.
fn scribble(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        // Mostly where something stands: in front.
        let front = if random.percent(70) { 512 } else { usize::MAX };
        let words = bytes.len().min(front) as u64 / 8;
        if words == 0 {
            return;
        }
        let at = random.below(words) as usize * 8;
        let value = match random.below(4) {
            0 => {
                let was = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                was ^ 1 << random.below(64)
            }
            1 => random.below(8) << 32 | random.below(8),
            _ => plausible(random),
        };
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    if random.percent(5) {
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
    }
}

impl Scene {
    /// Writes the journals, one of them as nobody would.
    fn write(&self, random: &mut Random) {
        for place in [self.memory.path(), self.disk.path()] {
            for entry in std::fs::read_dir(place).unwrap() {
                std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
            }
        }
        let which = match random.below(3) {
            0 => 1 + random.below(3) as usize,
            _ => 0,
        };
        for (number, said) in self.said.iter().enumerate() {
            let mut said = said.clone();
            if number == which {
                let last = said.entries.len() - 1;
                match random.below(4) {
                    // Behind what says that it is one of this stream.
                    0 => {
                        let mut page = said.definition[64..].to_vec();
                        scribble(&mut page, random);
                        page.resize(DEFINITION_BYTES - 64, 0);
                        said.definition[64..].copy_from_slice(&page);
                    }
                    1 => {
                        let any = random.below(last as u64 + 1) as usize;
                        scribble(&mut said.entries[any].2, random);
                    }
                    // The table that counts; or what a shard says last.
                    _ => scribble(&mut said.entries[last].2, random),
                }
            }
            said.write();
        }
    }

    /// Everything once, without believing that any of it succeeds. Whether the stream was opened.
    fn exercise(&self, random: &mut Random) -> bool {
        let bus = bus(self.memory.path(), self.disk.path());
        let Ok(stream) = bus.stream("s").open() else {
            drop(bus.remove("s"));
            return false;
        };
        drop(stream.shards());
        drop(stream.stats());
        drop(stream.groups());
        drop(stream.consumers());
        let _ = (stream.retention(), stream.disk_bytes());
        let begin = [
            StreamIterator::TrimHorizon,
            StreamIterator::Latest,
            StreamIterator::AtTimestamp(1),
        ][random.below(3) as usize];
        if let Ok(mut reader) = stream.reader().iterator(begin).open() {
            for _ in 0..12 {
                drop(reader.try_read_batch(9, |record| drop(record.to_owned())));
            }
            drop(reader.next(Duration::from_micros(60)));
        }
        put(&stream, 8);
        let group = stream.group(["g", "h"][random.below(2) as usize]);
        if let Ok(mut worker) = group.and_then(|group| group.join()) {
            for _ in 0..4 {
                drop(worker.try_read_batch(9, |record| drop(record.to_owned())));
                drop(worker.checkpoint());
            }
        }
        if let Ok(mut tail) = stream.tail(true) {
            for _ in 0..20 {
                drop(tail.try_next());
            }
        }
        match random.below(4) {
            0 => drop(stream.split(ShardId(1), None)),
            1 => drop(stream.merge(ShardId(1), ShardId(2))),
            2 => drop(stream.retire_closed()),
            _ => drop(stream.set_retention(Retention::default())),
        }
        true
    }
}

/// Ends the process when one execution takes too long.
fn watch(seed: u64) -> Arc<AtomicU64> {
    let done = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&done);
    std::thread::spawn(move || {
        let mut before = u64::MAX;
        loop {
            let now = watched.load(Relaxed);
            if now == before {
                eprintln!("execution {now} of RINGWAY_SEED={seed} does not end");
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

#[test]
fn journals_that_anybody_may_have_written_are_opened_or_refused() {
    let seed = seed::announce("journals of streams");
    let executions = effort::executions(QUICK, FULL);
    let mut random = Random::new(seed);
    let scene = scene();
    // As it is, it is opened.
    scene.said.iter().for_each(|said| {
        let _ = std::fs::remove_dir_all(&said.directory);
    });
    scene.said.iter().for_each(Said::write);
    std::fs::remove_dir_all(scene.memory.path().join("ringway-h")).unwrap();
    assert!(scene.exercise(&mut random));
    let done = watch(seed);
    let (mut accepted, mut crashes) = (0, 0);
    for number in 0..executions {
        scene.write(&mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| scene.exercise(&mut random)));
        match outcome {
            Ok(opened) => accepted += u64::from(opened),
            Err(_) => {
                crashes += 1;
                eprintln!("execution {number} of RINGWAY_SEED={seed} panicked");
            }
        }
        done.store(number + 1, Relaxed);
    }
    drop(done);
    let more = [("accepted", accepted), ("seed", seed)];
    effort::report("journals of streams", executions, crashes, &more);
    assert_eq!(crashes, 0, "RINGWAY_SEED={seed}");
}
