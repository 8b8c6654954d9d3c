//! Aggregation seen from outside: what one record holds of many is read as it was given, in its order, by
//! readers that know nothing of it, across splits, and by workers that checkpoint.

use ringway::{
    Aggregation, Backpressure, Bus, Flushed, GroupStart, OwnedRecord, PutError, PutRecord,
    SequenceNumber, ShardId, Stream, StreamIterator,
};
use ringway_harness::TempBus;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    (root, bus)
}

/// Nothing but what is asked for flushes.
fn patient(max_bytes: usize, max_records: u32) -> Aggregation {
    Aggregation {
        max_bytes,
        max_records,
        linger: Duration::from_secs(3600),
    }
}

fn drain(stream: &Stream, batch: usize) -> Vec<OwnedRecord> {
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    let mut records = Vec::new();
    loop {
        let before = records.len();
        let given = reader
            .try_read_batch(batch, |record| records.push(record.to_owned()))
            .unwrap();
        assert_eq!(records.len() - before, given);
        assert!(given <= batch, "{given} of {batch}");
        if given == 0 {
            return records;
        }
    }
}

fn numbers(records: &[OwnedRecord]) -> Vec<u64> {
    let number = |record: &OwnedRecord| std::str::from_utf8(&record.data).unwrap().parse().unwrap();
    records.iter().map(number).collect()
}

#[test]
fn what_was_aggregated_is_read_as_it_was_given_however_much_is_asked_for() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let mut flushed: Vec<Flushed> = Vec::new();
    // In a slot, and in a chunk of the pool.
    for (max, count) in [(150, 100u64), (4096, 900)] {
        let mut producer = stream.producer().unwrap().aggregating(patient(max, 1000));
        for n in 0..count {
            flushed.extend(
                producer
                    .put(&format!("k{}", n % 3), n.to_string().as_bytes())
                    .unwrap(),
            );
        }
        flushed.extend(producer.flush().unwrap());
        assert_eq!(producer.waiting(), 0);
    }
    assert!(flushed.len() < 60, "{} records of 1000", flushed.len());
    let told: Vec<(SequenceNumber, u32)> = flushed
        .iter()
        .flat_map(|flushed| (0..flushed.records).map(|sub| (flushed.sequence_number, sub)))
        .collect();
    for batch in [1, 2, 7, 1000, usize::MAX] {
        let records = drain(&stream, batch);
        let expected: Vec<u64> = (0..100).chain(0..900).collect();
        assert_eq!(numbers(&records), expected, "{batch}");
        for (record, n) in records.iter().zip(expected) {
            assert_eq!(record.key(), format!("k{}", n % 3));
        }
        let read = records
            .iter()
            .map(|record| (record.sequence_number, record.sub_sequence_number));
        assert_eq!(read.collect::<Vec<_>>(), told, "{batch}");
    }
    // Without a seat too.
    let mut tail = stream.tail(true).unwrap();
    let mut records = Vec::new();
    while let Some(record) = tail.try_next().unwrap() {
        records.push(record);
    }
    assert_eq!(records, drain(&stream, 10));
    // One by one, waiting.
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    for expected in &records {
        assert_eq!(reader.next(WAIT).unwrap().as_ref(), Some(expected));
    }
}

#[test]
fn an_open_record_is_put_when_it_is_full_or_has_lingered_and_never_before() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let mut producer = stream.producer().unwrap().aggregating(patient(1000, 10));
    for n in 0..10u64 {
        assert_eq!(producer.put("k", n.to_string().as_bytes()).unwrap(), []);
    }
    assert_eq!((drain(&stream, 10).len(), producer.waiting()), (0, 10));
    let [one] = producer.put("k", b"10").unwrap()[..] else {
        panic!("the eleventh makes the first ten go");
    };
    assert_eq!((one.records, drain(&stream, 100).len()), (10, 10));
    // Longer than an open record may be: alone, and behind what came before.
    let [before, long] = producer.put("k", &[b'1'; 2000]).unwrap()[..] else {
        panic!("the open one, and the long one");
    };
    assert_eq!((before.records, long.records), (1, 1));
    assert!(before.sequence_number < long.sequence_number);
    // A linger that is over at once.
    let options = Aggregation {
        linger: Duration::ZERO,
        ..patient(1000, 10)
    };
    let mut eager = producer.into_inner().unwrap().aggregating(options);
    assert_eq!(eager.put("k", b"11").unwrap(), []);
    assert_eq!(eager.flush_due().unwrap().len(), 1);
    eager.put("k", b"12").unwrap();
    drop(eager);
    assert_eq!(drain(&stream, 100).last().unwrap().data, b"12");
}

#[test]
fn a_full_shard_refuses_and_nothing_that_was_taken_is_lost() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .slots(1024)
        .backpressure(Backpressure::Fail)
        .create()
        .unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap().aggregating(patient(1000, 2));
    let mut taken = 0u64;
    let refused = loop {
        match producer.put("k", taken.to_string().as_bytes()) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, PutError::Full { .. }), "{refused}");
    assert_eq!((taken, producer.waiting()), (2050, 2));
    assert!(producer.flush().is_err());
    let mut records = Vec::new();
    while records.len() < taken as usize {
        let read = reader
            .try_read_batch(100, |record| records.push(record.to_owned()))
            .unwrap();
        if read == 0 {
            producer.flush().unwrap();
        }
    }
    assert_eq!(numbers(&records), (0..taken).collect::<Vec<_>>());
}

#[test]
fn what_was_open_when_shards_changed_goes_where_it_belongs_and_before_what_is_newer() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).create().unwrap();
    let mut producer = stream.producer().unwrap().aggregating(patient(2000, 50));
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    for n in 0..3000u64 {
        if n % 500 == 250 {
            let shards = [5, 1, 8, 3, 2, 4][(n / 500) as usize];
            stream.update_shard_count(shards).unwrap();
        }
        producer
            .put(&format!("{}", n % 20), n.to_string().as_bytes())
            .unwrap();
    }
    producer.flush().unwrap();
    let mut records = Vec::new();
    while reader
        .try_read_batch(33, |record| records.push(record.to_owned()))
        .unwrap()
        > 0
    {}
    let shards = stream.shards().unwrap();
    for record in &records {
        let shard = &shards[record.shard().0 as usize];
        assert!(
            shard.holds(ringway::hash_key_of(record.key())),
            "{record:?}"
        );
    }
    let all = numbers(&records);
    for key in 0..20 {
        let of_key: Vec<u64> = all.iter().copied().filter(|n| n % 20 == key).collect();
        assert_eq!(
            of_key,
            (0..3000).filter(|n| n % 20 == key).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_worker_checkpoints_no_record_of_which_a_part_is_still_to_come() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    let mut producer = stream.producer().unwrap().aggregating(patient(1000, 5));
    for n in 0..20u64 {
        producer.put("k", n.to_string().as_bytes()).unwrap();
    }
    producer.flush().unwrap();
    stream.update_shard_count(2).unwrap(); // so that the shard has an end
    let mut first = group.join().unwrap();
    for n in 0..17u64 {
        assert_eq!(
            first.next(WAIT).unwrap().unwrap().data,
            n.to_string().as_bytes()
        );
    }
    first.checkpoint().unwrap();
    drop(first);
    // From the record on that was handed out in part.
    let mut second = group.join().unwrap();
    for n in 15..20u64 {
        assert_eq!(
            second.next(WAIT).unwrap().unwrap().data,
            n.to_string().as_bytes()
        );
    }
    second.checkpoint().unwrap();
    drop(second);
    assert_eq!(
        group
            .info()
            .unwrap()
            .shards
            .iter()
            .map(|shard| shard.behind)
            .sum::<u64>(),
        0
    );
}

#[test]
fn what_was_put_before_another_shard_refused_is_told_when_that_has_room() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).slots(1024);
    let stream = stream.backpressure(Backpressure::Fail).create().unwrap();
    let (first, second) = (0, u128::MAX); // hash keys
    let mut reader = stream.reader().shard(ShardId(1)).open().unwrap();
    let mut filler = stream.producer().unwrap();
    let to = |hash_key| PutRecord {
        explicit_hash_key: Some(hash_key),
        ..PutRecord::new("k", b"x")
    };
    while filler.put_record(&to(second)).is_ok() {}
    let mut producer = stream.producer().unwrap().aggregating(patient(1000, 10));
    for hash_key in [first, second, first] {
        assert_eq!(producer.put_record(&to(hash_key)).unwrap(), []);
    }
    assert!(matches!(producer.flush(), Err(PutError::Full { .. })));
    assert_eq!(producer.waiting(), 1);
    reader.try_read_batch(1, |_| ()).unwrap();
    let told = producer.flush().unwrap();
    let told: Vec<_> = told.iter().map(|it| (it.shard, it.records)).collect();
    assert_eq!(told, [(ShardId(0), 2), (ShardId(1), 1)]);
    assert_eq!(producer.flush().unwrap(), []);
}
