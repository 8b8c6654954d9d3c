//! Streams on disk through a long life: removed and made anew, on a bus that is removed, on a disk that is full,
//! and with a table that was written down at a bad moment.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus; a disk of
//! a certain size by whoever is asked before every file of a journal is made.

use ringway::journal::{Call, Watch, Watching, watch};
use ringway::{
    Bus, Durability, GroupStart, ObjectKind, OpenError, PutError, PutRecord, Retention,
    SequenceNumber, ShardId, Stream, StreamBuilder, StreamIterator, StreamReadError,
};
use ringway_harness::{Machine, await_condition};
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

const NOW: Duration = Duration::from_millis(50);

fn new_machine() -> Machine {
    Machine::under(env!("CARGO_TARGET_TMPDIR"))
}

fn builder(machine: &Machine) -> ringway::Builder {
    let builder = Bus::builder("bus").root(machine.memory());
    builder.journal_root(machine.disk()).pre_touch(false)
}

fn attach(machine: &Machine) -> Bus {
    builder(machine).open_or_create().unwrap()
}

fn small(bus: &Bus, name: &str) -> StreamBuilder {
    let stream = bus.stream(name).durability(Durability::Durable);
    stream.slots(1024).segment_bytes(256 << 10)
}

/// Puts numbers until one is refused; those that were acknowledged.
fn put_until_refused(stream: &Stream, from: u64, to: u64) -> (BTreeSet<u64>, Option<PutError>) {
    let mut producer = stream.producer().unwrap();
    let mut acked = BTreeSet::new();
    let mut next = from;
    while next < to {
        let bodies = (next..to.min(next + 500)).map(|number| (number, number.to_le_bytes()));
        let bodies: Vec<_> = bodies.collect();
        let records = bodies.iter().map(|(_, data)| PutRecord::new("k", data));
        let records: Vec<_> = records.collect();
        let mut refused = None;
        for ((number, _), outcome) in bodies.iter().zip(producer.put_batch(&records)) {
            match outcome {
                Ok(_) => drop(acked.insert(*number)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if refused.is_some() {
            return (acked, refused);
        }
        next += records.len() as u64;
    }
    (acked, None)
}

fn put(stream: &Stream, numbers: core::ops::Range<u64>) {
    let (_, refused) = put_until_refused(stream, numbers.start, numbers.end);
    assert!(refused.is_none(), "{refused:?}");
}

fn number_of(data: &[u8]) -> u64 {
    u64::from_le_bytes(data.try_into().unwrap())
}

fn read(stream: &Stream) -> Vec<u64> {
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let mut found = Vec::new();
    while reader
        .read_batch(1000, NOW, |record| found.push(number_of(record.data)))
        .unwrap()
        > 0
    {}
    found
}

fn streams(bus: &Bus) -> Vec<String> {
    let objects = bus.objects().unwrap().into_iter();
    let streams = objects.filter(|object| object.kind == ObjectKind::Stream && object.bytes > 0);
    streams.map(|stream| stream.name).collect()
}

#[test]
fn a_stream_that_nobody_has_opened_is_listed_and_goes_with_its_bus() {
    let machine = new_machine();
    let bus = attach(&machine);
    for name in ["s", "other"] {
        put(&small(&bus, name).create().unwrap(), 0..10);
    }
    drop(bus);
    machine.restart();
    let bus = attach(&machine);
    assert_eq!(streams(&bus), ["other", "s"]);
    drop(bus.stream("s").open().unwrap());
    assert_eq!(streams(&bus), ["other", "s"]);
    drop(bus);
    // Another bus of that name, whose journals would lie at the same place, takes none of them along.
    let elsewhere = machine.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let other = || builder(&machine).root(&elsewhere);
    drop(other().create().unwrap());
    other().remove(false).unwrap();
    assert!(machine.journals().join("s").exists());
    let refused = builder(&machine).journal_root(&elsewhere).remove(false);
    let is_named = matches!(
        refused,
        Err(OpenError::Mismatch {
            option: "journal_root",
            ..
        })
    );
    assert!(is_named, "{refused:?}");
    builder(&machine).remove(false).unwrap();
    assert!(!machine.journals().exists());
    // Behind a restart nothing but journals is left of it.
    put(&small(&attach(&machine), "s").create().unwrap(), 0..10);
    machine.restart();
    builder(&machine).remove(false).unwrap();
    assert!(!machine.journals().exists());
}

#[test]
fn what_is_removed_under_the_name_of_a_stream_that_nobody_has_opened_takes_no_journals_along() {
    let machine = new_machine();
    put(&small(&attach(&machine), "s").create().unwrap(), 0..10);
    machine.restart();
    let bus = attach(&machine);
    drop(bus.channel("s").create().unwrap());
    bus.remove("s").unwrap();
    let stream = bus.stream("s").open().unwrap();
    assert_eq!(read(&stream), Vec::from_iter(0..10));
    // Nor does one under the name of a queue.
    let queue = bus.queue("q").durability(Durability::Durable).slots(1024);
    queue
        .create()
        .unwrap()
        .sender()
        .unwrap()
        .send(b"x")
        .unwrap();
    drop((stream, bus));
    machine.restart();
    let bus = attach(&machine);
    drop(bus.channel("q").create().unwrap());
    bus.remove("q").unwrap();
    assert_eq!(bus.queue("q").open().unwrap().stats().visible, 1);
}

#[test]
fn a_removal_that_died_leaves_its_journals_aside_for_the_next_one() {
    let machine = new_machine();
    let bus = attach(&machine);
    put(&small(&bus, "s").shards(2).create().unwrap(), 0..10);
    drop(bus);
    // As it died behind the move.
    let aside = machine.journals().join(".removed-0123456789abcdef");
    std::fs::rename(machine.journals().join("s"), &aside).unwrap();
    std::fs::create_dir(aside.join("copies")).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    machine.restart();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    put(&stream, 0..10);
    File::open(&aside).unwrap().set_modified(long_ago).unwrap();
    bus.remove("s").unwrap();
    drop(stream);
    let left = std::fs::read_dir(&aside).unwrap().map(|it| it.unwrap());
    let left: Vec<_> = left.map(|it| it.file_name()).collect();
    assert_eq!(left, ["copies"], "what a stranger put there stays");
    assert!(!machine.journals().join("s").exists());
}

/// Holds whoever seals a segment until the room is free.
struct Held(Mutex<mpsc::Receiver<()>>);

impl Watch for Held {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        if matches!(call, Call::Write { .. }) {
            let _ = self.0.lock().unwrap().recv();
        }
        Ok(())
    }

    fn behind(&self, _: Call<'_>) {}
}

#[test]
fn one_who_stood_still_while_he_made_a_stream_again_does_not_bring_a_removed_one_back() {
    // A removal waits five seconds for him.
    if !std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1") {
        return;
    }
    let machine = new_machine();
    put(&small(&attach(&machine), "s").create().unwrap(), 0..10);
    machine.restart();
    let bus = attach(&machine);
    let (free, held) = mpsc::channel();
    let watching = watch(
        &machine.journals().join("s"),
        Arc::new(Held(Mutex::new(held))),
    );
    std::thread::scope(|scope| {
        let late = scope.spawn(|| attach(&machine).stream("s").open().map(drop));
        await_condition("he has the lock", || {
            machine.journals().join("s/lock").exists()
        })
        .unwrap();
        bus.remove("s").unwrap();
        drop(free);
        let refused = late.join().unwrap();
        assert!(
            matches!(refused, Err(OpenError::NotFound { .. })),
            "{refused:?}"
        );
    });
    drop(watching);
    assert_eq!(streams(&bus), Vec::<String>::new());
    let objects = std::fs::read_dir(bus.directory().join("objects")).unwrap();
    assert_eq!(objects.count(), 0, "no shard of it is left");
    put(&small(&bus, "s").create().unwrap(), 0..10);
}

#[test]
fn what_a_stranger_put_beside_the_journals_of_a_stream_outlives_it() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    put(&stream, 0..10);
    let copies = machine.journals().join("s/copies");
    std::fs::create_dir(&copies).unwrap();
    std::fs::write(copies.join("note"), "of last week").unwrap();
    bus.remove("s").unwrap();
    assert!(copies.join("note").exists());
    let names = std::fs::read_dir(machine.journals().join("s")).unwrap();
    assert_eq!(names.count(), 1);
    drop(stream);
    put(&small(&bus, "s").create().unwrap(), 0..10);
}

#[test]
fn who_asks_without_waiting_is_given_all_there_is_across_the_seam() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    put(&stream, 0..5000);
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let mut found = Vec::new();
    loop {
        let each = |record: ringway::StreamRecord<'_>| found.push(number_of(record.data));
        if reader.try_read_batch(64, each).unwrap() == 0 {
            break;
        }
    }
    assert_eq!(found.len(), 5000);
    let mut tail = stream.tail(true).unwrap();
    let mut told = 0;
    while let Some(record) = tail.try_next().unwrap() {
        assert_eq!(number_of(&record.data), told);
        told += 1;
    }
    assert_eq!(told, 5000);
}

#[test]
fn who_has_read_everything_is_not_behind_when_the_stream_is_made_again() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    put(&stream, 0..10);
    let mut worker = group.join().unwrap();
    let mut given = 0;
    while given < 10 {
        given += worker.read_batch(10, NOW, |_| ()).unwrap();
    }
    worker.checkpoint().unwrap();
    drop((worker, group, stream, bus));
    machine.restart();
    let bus = attach(&machine);
    let stream = bus.stream("s").open().unwrap();
    let group = stream.group("g").unwrap();
    assert_eq!(group.info().unwrap().shards[0].behind, 0);
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    assert_eq!(reader.try_read_batch(100, |_| ()).unwrap(), 10);
    assert_eq!(reader.millis_behind_latest().unwrap(), 0);
    put(&stream, 10..11);
    assert!(group.info().unwrap().shards[0].behind > 0);
}

#[test]
fn a_group_that_comes_back_behind_the_retention_is_told_what_it_missed() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    put(&stream, 0..100);
    let mut worker = group.join().unwrap();
    let mut given = 0;
    while given < 10 {
        given += worker.read_batch(10 - given, NOW, |_| ()).unwrap();
    }
    worker.checkpoint().unwrap();
    drop(worker);
    put(&stream, 100..20_000);
    let week = Duration::from_secs(7 * 86_400);
    stream
        .set_retention(keep(week, Some(2 * SEGMENT as u64)))
        .unwrap();
    let mut worker = group.join().unwrap();
    let told = (0..1000).find_map(|_| worker.read_batch(10, NOW, |_| ()).err());
    let to = match told {
        Some(StreamReadError::Lagged { from: 10, to, .. }) => to,
        other => panic!("{other:?}"),
    };
    let next = worker.next(NOW).unwrap().unwrap();
    assert_eq!(next.sequence_number.position(), to);
    // Who begins with the oldest, or at a number that is gone, has missed nothing.
    assert_eq!(read(&stream)[0], to);
    let number = SequenceNumber::from_parts(ShardId(0), 3).unwrap();
    let iterator = StreamIterator::AtSequenceNumber(number);
    let reader = stream.reader().shard(ShardId(0)).iterator(iterator);
    let first = reader.open().unwrap().next(NOW).unwrap().unwrap();
    assert_eq!(first.sequence_number.position(), to);
}

/// A disk on which files of journals may have so many bytes.
struct Room {
    left: Mutex<i64>,
}

/// What one directory of it holds.
struct Rented {
    room: Arc<Room>,
    files: Mutex<HashMap<String, i64>>,
}

impl Watch for Rented {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        match call {
            Call::Create { bytes, .. } if *self.room.left.lock().unwrap() < bytes as i64 => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }

    fn behind(&self, call: Call<'_>) {
        let mut files = self.files.lock().unwrap();
        let mut left = self.room.left.lock().unwrap();
        match call {
            Call::Create { name, bytes, .. } => {
                *left -= bytes as i64;
                files.insert(name.to_owned(), bytes as i64);
            }
            Call::Rename { from, to } => {
                if let Some(bytes) = files.remove(from) {
                    files.insert(to.to_owned(), bytes);
                }
            }
            Call::Remove { name } => *left += files.remove(name).unwrap_or(0),
            _ => {}
        }
    }
}

impl Room {
    fn of(bytes: i64) -> Arc<Self> {
        let left = Mutex::new(bytes);
        Arc::new(Self { left })
    }

    fn give(&self, bytes: i64) {
        *self.left.lock().unwrap() += bytes;
    }

    /// Counts what is made in a directory from its next opening on.
    fn rent(self: &Arc<Self>, directory: &Path) -> Watching {
        let rented = Rented {
            room: Arc::clone(self),
            files: Mutex::default(),
        };
        watch(directory, Arc::new(rented))
    }
}

/// Where the journals of the shards of a stream lie that was just created.
fn shards_of(machine: &Machine, name: &str) -> Vec<PathBuf> {
    let objects = machine.objects();
    let names = std::fs::read_dir(objects).unwrap();
    let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    let shards = names.filter_map(|file| file.strip_prefix(".shard-").map(str::to_owned));
    let stream = machine.journals().join(name);
    shards.map(|shard| stream.join(shard)).collect()
}

const SEGMENT: i64 = 256 << 10;

fn keep(age: Duration, bytes: Option<u64>) -> Retention {
    Retention { age, bytes }
}

/// A stream of one shard that has filled its disk of six segments, and what was acknowledged.
fn full(
    machine: &Machine,
    room: &Arc<Room>,
    retention: Retention,
) -> (Bus, Stream, Watching, BTreeSet<u64>) {
    let bus = attach(machine);
    let stream = small(&bus, "s").retention_unchecked(retention);
    let stream = stream.create().unwrap();
    let watching = room.rent(&shards_of(machine, "s")[0]);
    let (acked, refused) = put_until_refused(&stream, 0, 100_000);
    let is_full = matches!(
        refused,
        Some(PutError::DurabilityUnknown { .. } | PutError::NotOnDisk { .. })
    );
    assert!(is_full, "{refused:?}, {} put", acked.len());
    (bus, stream, watching, acked)
}

#[test]
fn a_retention_that_is_lowered_on_a_full_disk_makes_room_for_puts() {
    let machine = new_machine();
    let room = Room::of(6 * SEGMENT);
    let week = Duration::from_secs(7 * 86_400);
    let (bus, stream, _watching, acked) = full(&machine, &room, keep(week, None));
    let refused = put_until_refused(&stream, 200_000, 200_001).1;
    assert!(
        matches!(refused, Some(PutError::NotOnDisk { .. })),
        "{refused:?}"
    );
    assert!(
        read(&stream)
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .is_superset(&acked)
    );
    stream
        .set_retention(keep(week, Some(2 * SEGMENT as u64)))
        .unwrap();
    put(&stream, 300_000..300_100);
    let found = read(&stream);
    assert!(found.ends_with(&Vec::from_iter(300_000..300_100)));
    assert!(found[0] > 0 && acked.contains(&found[0]));
    drop((stream, bus));
    machine.restart();
    let stream = attach(&machine).stream("s").open().unwrap();
    assert_eq!(stream.retention().unwrap().bytes, Some(2 * SEGMENT as u64));
    assert_eq!(read(&stream), found);
}

#[test]
fn a_disk_that_is_full_of_what_is_too_old_takes_puts() {
    let machine = new_machine();
    let room = Room::of(6 * SEGMENT);
    let age = Duration::from_secs(1);
    let (_bus, stream, _watching, _) = full(&machine, &room, keep(age, None));
    // It is a matter of time.
    await_condition("what is too old has made room", || {
        put_until_refused(&stream, 200_000, 200_001).1.is_none()
    })
    .unwrap();
    put(&stream, 300_000..300_100);
    // What is read is not to end meanwhile.
    let week = Duration::from_secs(7 * 86_400);
    stream.set_retention(keep(week, None)).unwrap();
    assert!(read(&stream).ends_with(&Vec::from_iter(300_000..300_100)));
}

#[test]
fn a_stream_is_opened_and_read_behind_a_restart_on_a_full_disk() {
    let machine = new_machine();
    let stream = small(&attach(&machine), "s").create().unwrap();
    put(&stream, 0..2000);
    let shards = shards_of(&machine, "s");
    drop(stream);
    machine.restart();
    let room = Room::of(0);
    let _table = room.rent(&machine.journals().join("s"));
    let _shard = room.rent(&shards[0]);
    let bus = attach(&machine);
    let stream = bus.stream("s").open().unwrap();
    assert_eq!(read(&stream), Vec::from_iter(0..2000));
    let refused = put_until_refused(&stream, 2000, 2001).1;
    assert!(refused.is_some());
    assert!(stream.split(ShardId(0), None).is_err());
    // Another one opens it too, and the same again behind another restart.
    drop(attach(&machine).stream("s").open().unwrap());
    drop((stream, bus));
    machine.restart();
    let bus = attach(&machine);
    let stream = bus.stream("s").open().unwrap();
    assert_eq!(read(&stream)[..2000], Vec::from_iter(0..2000));
    room.give(16 << 20);
    put(&stream, 3000..3100);
    stream.split(ShardId(0), None).unwrap();
    put(&stream, 3100..3200);
    assert!(read(&stream).ends_with(&Vec::from_iter(3000..3200)));
    // One that can't be made at all is not there.
    room.give(-(16 << 20));
    let _other = room.rent(&machine.journals().join("other"));
    assert!(small(&bus, "other").create().is_err());
}

#[test]
fn who_asks_without_waiting_comes_to_the_end_of_a_shard_whose_last_producer_did_not_write() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    let room = Room::of(0);
    let _watching = room.rent(&shards_of(&machine, "s")[0]);
    // It stays in the ring, as of one who died in front of the write.
    let refused = put_until_refused(&stream, 0, 1).1;
    assert!(
        matches!(refused, Some(PutError::DurabilityUnknown { .. })),
        "{refused:?}"
    );
    room.give(16 << 20);
    stream.split(ShardId(0), None).unwrap();
    put(&stream, 1..3);
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let mut found = Vec::new();
    for _ in 0..100 {
        let each = |record: ringway::StreamRecord<'_>| found.push(number_of(record.data));
        reader.try_read_batch(10, each).unwrap();
    }
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn a_table_that_was_written_down_in_the_middle_of_a_change_is_that_from_before_it() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "s").create().unwrap();
    put(&stream, 0..10);
    // Whoever writes it down has counted one shard, and finds that one closed: a split is that far.
    let control = bus.directory().join("objects/s");
    let control = OpenOptions::new().read(true).write(true).open(control);
    let control = control.unwrap();
    let mut table = [0; 8];
    control.read_exact_at(&mut table, 80).unwrap();
    let table = u64::from_le_bytes(table);
    const CLOSED: u64 = 2 << 62 | 2;
    control.write_all_at(&CLOSED.to_le_bytes(), table).unwrap();
    stream.set_retention(Retention::default()).unwrap();
    drop((stream, bus));
    machine.restart();
    let stream = attach(&machine).stream("s").open().unwrap();
    put(&stream, 10..20);
    assert_eq!(read(&stream), Vec::from_iter(0..20));
}

#[test]
fn a_shard_that_says_other_producers_than_its_stream_is_refused() {
    const PRODUCERS: u64 = 100;
    let machine = new_machine();
    let bus = attach(&machine);
    bus.stream("s").shards(1).create().unwrap();
    let objects = bus.directory().join("objects");
    let names = std::fs::read_dir(objects).unwrap();
    let paths = names.map(|entry| entry.unwrap().path());
    let is_shard = |path: &PathBuf| path.to_string_lossy().contains("/.shard-");
    let shards: Vec<_> = paths.filter(is_shard).collect();
    let write = |producers: u32| {
        let [shard] = &shards[..] else {
            panic!("{shards:?}");
        };
        let file = OpenOptions::new().write(true).open(shard).unwrap();
        let bytes = producers.to_le_bytes();
        file.write_all_at(&bytes, PRODUCERS).unwrap();
    };
    let put = || -> Result<(), String> {
        let stream = bus.stream("s").open().map_err(|error| error.to_string())?;
        let producer = stream.producer().map_err(|error| error.to_string());
        let put = producer?.put("k", b"x");
        put.map(drop).map_err(|error| error.to_string())
    };
    write(1);
    let refused = put().unwrap_err();
    assert!(refused.contains("other producers"), "{refused}");
    write(0);
    put().unwrap();
}
