//! Streams on disk: what was acknowledged is there again when the memory of the bus is gone, and what is not
//! in the ring any more is read from the journal.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus; the
//! journals lie elsewhere and stay.

use ringway::{
    Bus, Durability, GroupStart, OpenError, OwnedRecord, PutRecord, Retention, ShardId, ShardState,
    Stream, StreamBuilder, StreamIterator, StreamReadError,
};
use ringway_harness::Machine;
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::from_millis(50);

fn new_machine() -> Machine {
    Machine::under(env!("CARGO_TARGET_TMPDIR"))
}

fn attach(machine: &Machine) -> Bus {
    let builder = Bus::builder("bus").root(machine.memory());
    let builder = builder.journal_root(machine.disk());
    builder.open_or_create().unwrap()
}

fn small(bus: &Bus, name: &str) -> StreamBuilder {
    bus.stream(name)
        .durability(Durability::Durable)
        .slots(1024)
        .segment_bytes(256 << 10)
}

fn body(i: u32) -> Vec<u8> {
    format!("record {i} {}", "x".repeat((i % 100) as usize)).into_bytes()
}

fn put_all(stream: &Stream, range: core::ops::Range<u32>, keys: u32) {
    let mut producer = stream.producer().unwrap();
    let numbers: Vec<u32> = range.collect();
    for chunk in numbers.chunks(500) {
        let records: Vec<(String, Vec<u8>)> = chunk
            .iter()
            .map(|i| (format!("key-{}", i % keys), body(*i)))
            .collect();
        let records: Vec<PutRecord<'_>> = records
            .iter()
            .map(|(key, data)| PutRecord::new(key, data))
            .collect();
        for outcome in producer.put_batch(&records) {
            outcome.unwrap();
        }
    }
}

fn read_all(stream: &Stream, iterator: StreamIterator) -> Vec<OwnedRecord> {
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let mut found = Vec::new();
    while reader
        .read_batch(1000, NOW, |record| found.push(record.to_owned()))
        .unwrap()
        > 0
    {}
    found
}

#[test]
fn what_was_put_is_there_behind_a_restart_byte_for_byte() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "trucks").shards(3).create().unwrap();
    let mut producer = stream.producer().unwrap();
    let large = vec![7; 300_000];
    let mut puts = Vec::new();
    for i in 0..200 {
        let put = producer.put(&format!("truck-{}", i % 7), &body(i)).unwrap();
        puts.push(put.sequence_number);
    }
    puts.push(producer.put("large", &large).unwrap().sequence_number);
    let before = read_all(&stream, StreamIterator::TrimHorizon);
    assert_eq!(before.len(), 201);
    drop((producer, stream, bus));
    machine.restart();

    let bus = attach(&machine);
    let stream = bus.stream("trucks").open().unwrap();
    assert_eq!(stream.definition().durability, Durability::Durable);
    assert_eq!(stream.shards().unwrap().len(), 3);
    let mut after = read_all(&stream, StreamIterator::TrimHorizon);
    let mut before = before;
    before.sort_by_key(|record| record.sequence_number);
    after.sort_by_key(|record| record.sequence_number);
    assert_eq!(after, before);
    puts.sort();
    let numbers: Vec<_> = after.iter().map(|record| record.sequence_number).collect();
    assert_eq!(numbers, puts);
    // No number is given out twice, and it goes on.
    let put = stream.producer().unwrap().put("truck-1", b"new").unwrap();
    assert!(!puts.contains(&put.sequence_number));
    let all = read_all(&stream, StreamIterator::TrimHorizon);
    assert_eq!(all.len(), 202);
    assert!(
        all.iter()
            .any(|record| record.sequence_number == put.sequence_number)
    );
}

#[test]
fn what_the_ring_has_no_more_is_read_from_the_journal_without_a_seam() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "long").create().unwrap();
    put_all(&stream, 0..3000, 5);
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    let mut found = Vec::new();
    // It reads on while producers lap it, from the disk into the ring and back.
    let mut put = 3000;
    loop {
        let mut take = |record: ringway::StreamRecord<'_>| found.push(record.to_owned());
        let count = reader.read_batch(700, NOW, &mut take).unwrap();
        if count == 0 {
            break;
        }
        if put < 9000 {
            put_all(&stream, put..put + 900, 5);
            put += 900;
        }
    }
    assert_eq!(found.len() as u32, put);
    for (record, i) in found.iter().zip(0..) {
        assert_eq!(record.data, body(i));
        assert_eq!(record.key(), format!("key-{}", i % 5));
    }
    assert_eq!(read_all(&stream, StreamIterator::TrimHorizon), found);
    // From a number, from behind it, and from a time, whether it is in memory or not.
    let shard = ShardId(0);
    for i in [0, 1, 1023, 1024, 5000, found.len() - 600, found.len() - 1] {
        let number = found[i].sequence_number;
        for (iterator, from) in [
            (StreamIterator::AtSequenceNumber(number), i),
            (StreamIterator::AfterSequenceNumber(number), i + 1),
        ] {
            let mut reader = stream
                .reader()
                .shard(shard)
                .iterator(iterator)
                .open()
                .unwrap();
            let first = reader.next(NOW).unwrap();
            assert_eq!(first.as_ref(), found.get(from), "{i}");
        }
        let time = found[i].arrival_ms;
        let first = found.iter().find(|record| record.arrival_ms >= time);
        let mut reader = stream
            .reader()
            .iterator(StreamIterator::AtTimestamp(time))
            .open()
            .unwrap();
        assert_eq!(reader.next(NOW).unwrap().as_ref(), first, "{i}");
    }
    let mut tail = stream.tail(true).unwrap();
    for record in &found {
        assert_eq!(tail.next(NOW).unwrap().as_ref(), Some(record));
    }
}

#[test]
fn groups_go_on_behind_a_restart_where_they_had_checkpointed_and_by_a_higher_token() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "grouped").shards(2).create().unwrap();
    put_all(&stream, 0..100, 9);
    let group = stream
        .group_or_create("readers", GroupStart::TrimHorizon)
        .unwrap();
    stream.group_or_create("late", GroupStart::Latest).unwrap();
    stream.group_or_create("gone", GroupStart::Latest).unwrap();
    assert!(stream.remove_group("gone").unwrap());
    let mut worker = group.join().unwrap();
    let mut seen = Vec::new();
    while seen.len() < 60 {
        worker
            .read_batch(10, SOON, |record| seen.push(record.to_owned()))
            .unwrap();
    }
    worker.checkpoint().unwrap();
    let mut unseen = Vec::new();
    worker
        .read_batch(10, SOON, |record| unseen.push(record.to_owned()))
        .unwrap();
    let tokens: Vec<_> = worker
        .leases()
        .map(|lease| (lease.shard, lease.token))
        .collect();
    put_all(&stream, 100..120, 9);
    core::mem::forget(worker);
    drop((group, stream, bus));
    machine.restart();

    let bus = attach(&machine);
    let stream = bus.stream("grouped").open().unwrap();
    let names: Vec<_> = stream
        .groups()
        .unwrap()
        .into_iter()
        .map(|group| group.name)
        .collect();
    assert_eq!(names, ["readers", "late"]);
    let mut worker = stream.group("readers").unwrap().join().unwrap();
    let mut rest = Vec::new();
    while rest.len() < 120 - seen.len() {
        assert!(
            worker
                .read_batch(10, SOON, |record| rest.push(record.to_owned()))
                .unwrap()
                > 0
        );
    }
    assert_eq!(worker.read_batch(10, NOW, |_| ()).unwrap(), 0);
    for lease in worker.leases() {
        let before = tokens.iter().find(|before| before.0 == lease.shard);
        assert!(before.is_none_or(|before| lease.token > before.1));
    }
    let all = read_all(&stream, StreamIterator::TrimHorizon);
    let mut together = [seen, rest].concat();
    together.sort_by_key(|record| record.sequence_number);
    let mut all_sorted = all;
    all_sorted.sort_by_key(|record| record.sequence_number);
    assert_eq!(together, all_sorted);
    let mut late = stream.group("late").unwrap().join().unwrap();
    let mut found = Vec::new();
    while late
        .read_batch(100, Duration::from_millis(200), |record| {
            found.push(record.to_owned())
        })
        .unwrap()
        > 0
    {}
    assert_eq!(found.len(), 20, "what was put behind its making");
}

#[test]
fn lineage_and_ranges_are_there_behind_a_restart_and_parents_are_read_before_children() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "split").create().unwrap();
    put_all(&stream, 0..300, 7);
    let [left, right] = stream.split(ShardId(0), None).unwrap();
    put_all(&stream, 300..600, 7);
    let merged = stream.merge(left, right).unwrap();
    put_all(&stream, 600..900, 7);
    let shards = stream.shards().unwrap();
    let before = read_all(&stream, StreamIterator::TrimHorizon);
    drop((stream, bus));
    machine.restart();

    let bus = attach(&machine);
    let stream = bus.stream("split").open().unwrap();
    assert_eq!(stream.shards().unwrap(), shards);
    assert_eq!(
        stream.shards().unwrap()[merged.0 as usize].state,
        ShardState::Open
    );
    put_all(&stream, 900..1000, 7);
    stream.split(merged, None).unwrap();
    put_all(&stream, 1000..1100, 7);
    let after = read_all(&stream, StreamIterator::TrimHorizon);
    assert_eq!(after.len(), 1100);
    assert_eq!(before.len(), 900);
    for key in 0..7 {
        let of_key = |records: &[OwnedRecord]| -> Vec<Vec<u8>> {
            let key = format!("key-{key}");
            let records = records.iter().filter(|record| record.key() == key);
            records.map(|record| record.data.clone()).collect()
        };
        let expected: Vec<_> = (0..1100).filter(|i| i % 7 == key).map(body).collect();
        assert_eq!(of_key(&after), expected, "key {key}");
        assert!(expected.starts_with(&of_key(&before)));
    }
}

#[test]
fn making_it_again_twice_gives_the_same_as_once() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "twice").shards(2).create().unwrap();
    put_all(&stream, 0..2500, 7);
    let expected = read_all(&stream, StreamIterator::TrimHorizon);
    drop((stream, bus));
    for _ in 0..3 {
        machine.restart();
        let bus = attach(&machine);
        let stream = bus.stream("twice").open().unwrap();
        assert_eq!(read_all(&stream, StreamIterator::TrimHorizon), expected);
    }
    machine.restart();
    let bus = attach(&machine);
    let stream = bus.stream("twice").open().unwrap();
    put_all(&stream, 2500..2600, 7);
    assert_eq!(read_all(&stream, StreamIterator::TrimHorizon).len(), 2600);
}

#[test]
fn a_stream_that_was_removed_does_not_come_back() {
    let machine = new_machine();
    let bus = attach(&machine);
    let stream = small(&bus, "gone").create().unwrap();
    put_all(&stream, 0..10, 3);
    assert!(matches!(
        small(&bus, "gone").create(),
        Err(OpenError::AlreadyExists { .. })
    ));
    bus.remove("gone").unwrap();
    assert!(!machine.journal("gone").exists());
    drop(stream);
    assert!(matches!(
        bus.stream("gone").open(),
        Err(OpenError::NotFound { .. })
    ));
    // The same of one that nobody has opened since the restart.
    let stream = small(&bus, "gone").create().unwrap();
    put_all(&stream, 0..10, 3);
    drop((stream, bus));
    machine.restart();
    let bus = attach(&machine);
    assert!(matches!(
        small(&bus, "gone").create(),
        Err(OpenError::AlreadyExists { .. })
    ));
    bus.remove("gone").unwrap();
    assert!(!machine.journal("gone").exists());
    let stream = small(&bus, "gone").open_or_create().unwrap();
    assert_eq!(read_all(&stream, StreamIterator::TrimHorizon).len(), 0);
}

#[test]
fn a_retention_by_time_is_honoured_exactly_and_segments_that_are_over_go() {
    let machine = new_machine();
    let bus = attach(&machine);
    let long = Retention::default();
    let stream = small(&bus, "aged").retention(long).create().unwrap();
    assert!(
        small(&bus, "short")
            .retention(Retention {
                age: Duration::from_secs(60),
                bytes: None
            })
            .create()
            .is_err()
    );
    put_all(&stream, 0..14_000, 7);
    let all = read_all(&stream, StreamIterator::TrimHorizon);
    assert_eq!(all.len(), 14_000);
    let segments = || {
        let names = std::fs::read_dir(machine.journal("aged")).unwrap();
        let shard = names
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir());
        let names = std::fs::read_dir(shard.unwrap()).unwrap();
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "segment");
        names
            .map(|entry| entry.unwrap().path())
            .filter(is_segment)
            .count()
    };
    let before = segments();
    assert!(before > 5, "{before}");
    // The horizon is moved between two records: what arrived before is not read.
    let middle = all[7000].arrival_ms;
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    assert_eq!(reader.next(NOW).unwrap().as_ref(), all.first());
    let age = unix_ms() - middle;
    stream
        .set_retention_unchecked(Retention {
            age: Duration::from_millis(age),
            bytes: None,
        })
        .unwrap();
    let mut second = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    for _ in 0..1000 {
        let horizon = unix_ms() - age;
        assert!(horizon >= middle);
        match second.next(NOW) {
            Ok(Some(record)) => assert!(record.arrival_ms >= horizon, "{horizon}"),
            Ok(None) => break,
            // The horizon has moved on under it.
            Err(StreamReadError::Lagged { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let lagged = (0..1000).find_map(|_| reader.next(NOW).err());
    assert!(
        matches!(lagged, Some(StreamReadError::Lagged { .. })),
        "{lagged:?}"
    );
    // By size: the oldest go until few enough bytes are left. What was there may all be over by now.
    let age = Duration::from_secs(3600);
    let keep = |bytes| Retention { age, bytes };
    stream.set_retention_unchecked(keep(None)).unwrap();
    put_all(&stream, 14_000..21_000, 7);
    let all = read_all(&stream, StreamIterator::TrimHorizon);
    stream.set_retention_unchecked(keep(Some(1 << 20))).unwrap();
    assert!(segments() <= 4, "{}", segments());
    let kept = read_all(&stream, StreamIterator::TrimHorizon);
    assert!(!kept.is_empty() && all.ends_with(&kept), "{}", kept.len());
    assert_eq!(stream.retention().unwrap().bytes, Some(1 << 20));
    drop((reader, stream, bus));
    machine.restart();
    let bus = attach(&machine);
    let stream = bus.stream("aged").open().unwrap();
    assert_eq!(stream.retention().unwrap().bytes, Some(1 << 20));
    assert_eq!(read_all(&stream, StreamIterator::TrimHorizon), kept);
}

fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}
