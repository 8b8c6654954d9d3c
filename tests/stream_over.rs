//! Streams on disk that nobody writes to, and that are made again: what is past the retention goes, numbers go on,
//! and who reads is told how far it is behind by what there is.

use ringway::{
    Bus, ConsumerEvent, ConsumerPolicy, Durability, GroupStart, PutRecord, Retention, Stream,
    StreamBuilder, StreamIterator,
};
use ringway_harness::{Machine, await_condition, directories_in, segments_in};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

fn machine() -> Machine {
    Machine::under(env!("CARGO_TARGET_TMPDIR"))
}

fn bus(machine: &Machine) -> Bus {
    let builder = Bus::builder("bus").root(machine.memory()).pre_touch(false);
    let builder = builder.journal_root(machine.disk());
    builder.open_or_create().unwrap()
}

fn small(bus: &Bus, durability: Durability) -> StreamBuilder {
    let stream = bus.stream("s").durability(durability).slots(1024);
    stream.segment_bytes(256 << 10)
}

fn put(stream: &Stream, numbers: core::ops::Range<u64>) {
    let mut producer = stream.producer().unwrap();
    let bodies: Vec<_> = numbers.map(|number| format!("record {number};")).collect();
    for chunk in bodies.chunks(500) {
        let records = chunk
            .iter()
            .map(|body| PutRecord::new("k", body.as_bytes()));
        for outcome in producer.put_batch(&Vec::from_iter(records)) {
            outcome.unwrap();
        }
    }
}

/// Positions and data of all that is read.
fn read(stream: &Stream) -> Vec<(u64, String)> {
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let mut found = Vec::new();
    let mut each = |record: ringway::StreamRecord<'_>| {
        let data = String::from_utf8(record.data.to_vec()).unwrap();
        found.push((record.sequence_number.position(), data));
    };
    while reader.read_batch(1000, NOW, &mut each).unwrap() > 0 {}
    found
}

fn keep(age: Duration) -> Retention {
    Retention { age, bytes: None }
}

/// The journal of the only shard.
fn shard(machine: &Machine) -> PathBuf {
    directories_in(&machine.journal("s")).remove(0)
}

/// Whether any file of the journal has these bytes.
fn is_on_disk(machine: &Machine, what: &str) -> bool {
    let entries = std::fs::read_dir(shard(machine)).unwrap();
    entries.flatten().any(|entry| {
        // One that goes meanwhile has nothing.
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        bytes.windows(what.len()).any(|it| it == what.as_bytes())
    })
}

#[test]
fn everything_that_is_too_old_goes_though_nobody_writes_and_numbers_go_on() {
    let machine = machine();
    let bus_ = bus(&machine);
    let stream = small(&bus_, Durability::Durable).create().unwrap();
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    put(&stream, 0..15_000);
    let mut worker = group.join().unwrap();
    let mut given = 0;
    while given < 100 {
        given += worker.read_batch(100 - given, SOON, |_| ()).unwrap();
    }
    worker.checkpoint().unwrap();
    drop(worker);
    let last = read(&stream).last().unwrap().0;
    assert!(segments_in(&shard(&machine)).len() > 2 && is_on_disk(&machine, "record 14999;"));
    stream
        .set_retention_unchecked(keep(Duration::ZERO))
        .unwrap();
    assert_eq!(segments_in(&shard(&machine)).len(), 1);
    assert!(
        !is_on_disk(&machine, "record"),
        "bytes of records are there"
    );
    assert_eq!(group.info().unwrap().shards[0].behind, 0);
    // Nothing more is to be given back, and nothing is made for it.
    let segments = segments_in(&shard(&machine));
    stream.give_segments_back().unwrap();
    assert_eq!(segments_in(&shard(&machine)), segments);
    let week = keep(Duration::from_secs(7 * 86_400));
    stream.set_retention(week).unwrap();
    assert_eq!(read(&stream), []);
    put(&stream, 15_000..15_001);
    assert_eq!(read(&stream)[0].0, last + 1);
    drop((group, stream, bus_));
    machine.restart();

    let bus_ = bus(&machine);
    let stream = bus_.stream("s").open().unwrap();
    assert_eq!(read(&stream), [(last + 1, "record 15000;".to_owned())]);
    put(&stream, 15_001..15_002);
    let found = read(&stream);
    assert!(found[1].0 > last + 1, "{found:?}");
    let group = stream.group("g").unwrap();
    assert_eq!(group.info().unwrap().shards[0].checkpoint.position(), 100);
    assert_eq!(group.info().unwrap().shards[0].behind, 2);
}

#[test]
fn a_shard_that_is_empty_behind_its_retention_goes_on_with_its_numbers_when_it_is_made_again() {
    let machine = machine();
    let bus_ = bus(&machine);
    let stream = small(&bus_, Durability::Durable).create().unwrap();
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    put(&stream, 0..3000);
    let last = read(&stream).last().unwrap().0;
    stream
        .set_retention_unchecked(keep(Duration::ZERO))
        .unwrap();
    drop((group, stream, bus_));
    machine.restart();
    let bus_ = bus(&machine);
    let stream = bus_.stream("s").open().unwrap();
    assert_eq!(
        stream.group("g").unwrap().info().unwrap().shards[0].behind,
        0
    );
    stream
        .set_retention(keep(Duration::from_secs(86_400)))
        .unwrap();
    put(&stream, 3000..3001);
    let found = read(&stream);
    assert_eq!(found.len(), 1);
    assert!(found[0].0 > last, "{found:?}");
}

#[test]
fn who_waits_for_records_gives_back_what_is_too_old() {
    let machine = machine();
    let bus = bus(&machine);
    let stream = small(&bus, Durability::Durable).create().unwrap();
    put(&stream, 0..100);
    let short = keep(Duration::from_millis(1));
    let reader = stream.reader().iterator(StreamIterator::Latest);
    let mut reader = reader.open().unwrap();
    // As time would pass: nothing is told to look.
    let words = machine.memory().join("ringway-bus/objects/s");
    let words = std::fs::OpenOptions::new().write(true).open(words).unwrap();
    let age_ms = short.age.as_millis() as u64;
    std::os::unix::fs::FileExt::write_all_at(&words, &age_ms.to_le_bytes(), 6144).unwrap();
    assert_eq!(stream.retention().unwrap().age, short.age);
    await_condition("what is too old goes", || {
        assert_eq!(
            reader
                .read_batch(1, Duration::from_millis(50), |_| ())
                .unwrap(),
            0
        );
        !is_on_disk(&machine, "record 99;")
    })
    .unwrap();
    assert_eq!(segments_in(&shard(&machine)).len(), 1);
}

/// How far the group and the consumer are behind.
fn behind(stream: &Stream) -> (u64, u64) {
    let group = stream.group("g").unwrap().info().unwrap();
    let consumer = stream.consumer("c").unwrap().info().unwrap();
    (
        group.shards.iter().map(|shard| shard.behind).sum(),
        consumer.behind,
    )
}

#[test]
fn who_reads_from_disk_is_behind_by_what_there_is_across_restarts() {
    for level in [Durability::Durable, Durability::Async] {
        let machine = machine();
        let bus_ = bus(&machine);
        let stream = small(&bus_, level).create().unwrap();
        let group = stream
            .group_or_create("g", GroupStart::TrimHorizon)
            .unwrap();
        let consumer = stream
            .register_consumer("c", ConsumerPolicy::Block)
            .unwrap();
        put(&stream, 0..3000);
        stream.flush().unwrap();
        let mut worker = group.join().unwrap();
        let mut given = 0;
        while given < 1000 {
            given += worker.read_batch(1000 - given, SOON, |_| ()).unwrap();
        }
        worker.checkpoint().unwrap();
        assert_eq!(behind(&stream), (2000, 0), "nobody has subscribed");
        let mut subscription = consumer.subscribe(StreamIterator::TrimHorizon).unwrap();
        assert_eq!(behind(&stream), (2000, 3000));
        let mut read = |count: u64| {
            let mut left = count;
            while left > 0 {
                let each =
                    |event: ConsumerEvent<'_>| assert!(matches!(event, ConsumerEvent::Record(_)));
                left -= subscription.read_batch(left as usize, SOON, each).unwrap() as u64;
            }
        };
        read(2999);
        assert_eq!(behind(&stream), (2000, 1));
        read(1);
        assert_eq!(behind(&stream), (2000, 0));
        drop((worker, group, subscription, consumer, stream, bus_));
        // Twice: each life begins behind positions that are left out.
        for life in 1..3 {
            machine.restart();
            let bus_ = bus(&machine);
            let stream = bus_.stream("s").open().unwrap();
            let there = 2000 + 10 * (life - 1);
            assert_eq!(behind(&stream), (there, 0), "life {life}");
            put(&stream, 0..10);
            assert_eq!(behind(&stream), (there + 10, 0), "life {life}");
            stream.flush().unwrap();
            assert_eq!(behind(&stream), (there + 10, 0), "life {life}, on disk");
            let consumer = stream.consumer("c").unwrap();
            let subscription = consumer.subscribe(StreamIterator::TrimHorizon).unwrap();
            assert_eq!(behind(&stream).1, 3000 + 10 * life, "life {life}");
            drop(subscription);
            let subscription = consumer.subscribe(StreamIterator::Latest).unwrap();
            assert_eq!(behind(&stream).1, 0, "life {life}");
            drop(subscription);
        }
    }
}
