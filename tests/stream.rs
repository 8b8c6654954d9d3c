//! A stream seen from outside: what is put is read, in order, by shard and over all of them, from any
//! place, and a record goes to the shard that Kinesis would choose.

use ringway::{
    Backpressure, Bus, GroupStart, ObjectKind, OnDemand, OpenError, OwnedRecord, Producers,
    PutError, PutRecord, ReshardError, SequenceNumber, ShardId, ShardLimits, Stream,
    StreamIterator, StreamReadError, hash_key_of,
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

/// Everything that is there now.
fn all(stream: &Stream, iterator: StreamIterator) -> Vec<OwnedRecord> {
    let mut reader = stream.reader().iterator(iterator).lossy().open().unwrap();
    drain(&mut reader)
}

fn drain(reader: &mut ringway::StreamReader) -> Vec<OwnedRecord> {
    let mut records = Vec::new();
    while reader
        .try_read_batch(100, |record| records.push(record.to_owned()))
        .unwrap()
        > 0
    {}
    records
}

fn data(records: &[OwnedRecord]) -> Vec<String> {
    let text = |record: &OwnedRecord| String::from_utf8(record.data.clone()).unwrap();
    records.iter().map(text).collect()
}

#[test]
fn a_record_is_read_as_it_was_put() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(4).create().unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    for len in [0, 1, 100, 200, 208, 209, 4096, 100_000] {
        let body: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
        let key = format!("key {len}");
        let put = producer.put(&key, &body).unwrap();
        let record = reader.next(WAIT).unwrap().expect("a record");
        assert_eq!(record.sequence_number, put.sequence_number, "{len}");
        assert_eq!((record.shard(), record.key()), (put.shard, key.as_str()));
        assert_eq!(record.data, body);
        assert!(record.arrival_ms >= stream.created_ms());
    }
    assert_eq!(reader.next(Duration::ZERO).unwrap(), None);
}

#[test]
fn a_key_that_was_put_before_is_put_as_the_first_time_whatever_the_lengths() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let (_root, bus) = bus();
        let stream = bus.stream("s").slots(1024).producers(producers);
        let stream = stream.create().unwrap();
        let mut reader = stream.reader().open().unwrap();
        let mut producer = stream.producer().unwrap();
        let letters = "abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz";
        for key_len in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 43, 44, 60] {
            for data_len in (0..20).chain(28..36).chain(60..90).chain([150, 200, 300]) {
                let key = &letters[letters.len() - key_len..];
                for round in 0..2 {
                    let of = |i: usize| (i * 31 + key_len + round) as u8;
                    let data: Vec<u8> = (0..data_len).map(of).collect();
                    let put = producer.put(key, &data).unwrap();
                    let record = reader.next(WAIT).unwrap().expect("a record");
                    assert_eq!(record.sequence_number, put.sequence_number);
                    assert_eq!((record.key(), &record.data), (key, &data), "{key_len}");
                }
            }
        }
    }
}

#[test]
fn a_record_of_ten_mebibytes_is_taken_and_a_larger_one_refused() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    let body = vec![7u8; 10 << 20];
    producer.put("k", &body).unwrap();
    assert!(reader.next(WAIT).unwrap().unwrap().data == body);
    let refused = producer.put("k", &vec![0; (10 << 20) + 1]).unwrap_err();
    assert!(
        matches!(refused, PutError::TooLarge { max, .. } if max == 10 << 20),
        "{refused}"
    );
}

#[test]
fn a_partition_key_has_1_to_256_characters() {
    let (_root, bus) = bus();
    let mut producer = bus.stream("s").create().unwrap().producer().unwrap();
    for good in ["a", &"x".repeat(256), &"ä".repeat(256)] {
        producer.put(good, b"").unwrap();
    }
    for (bad, len) in [
        ("", 0),
        (&"x".repeat(257)[..], 257),
        (&"ä".repeat(257), 257),
    ] {
        let refused = producer.put(bad, b"").unwrap_err();
        assert!(matches!(refused, PutError::InvalidPartitionKey { chars } if chars == len));
    }
}

#[test]
fn a_key_goes_to_the_shard_that_kinesis_chooses() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).create().unwrap();
    let mut producer = stream.producer().unwrap();
    // MD5 of the key, read as a number; two shards meet at 2^127, so the first bit tells.
    for (key, first_byte, shard) in [
        ("a", 0x0c, 0),              // 0cc175b9c0f1b6a831c399e269772661
        ("abc", 0x90, 1),            // 900150983cd24fb0d6963f7d28e17f72
        ("message digest", 0xf9, 1), // f96b697d7cb7938d525a2f31aaf161d0
        ("partitionKey-1", 0x00, 9), // the shard by the range below
    ] {
        let put = producer.put(key, b"").unwrap();
        if shard < 9 {
            assert_eq!(
                (hash_key_of(key) >> 120, put.shard),
                (first_byte, ShardId(shard)),
                "{key}"
            );
        }
        let shards = stream.shards().unwrap();
        assert!(shards[put.shard.0 as usize].holds(hash_key_of(key)));
    }
    let half = 1u128 << 127;
    for (explicit, shard) in [(0, 0), (half - 1, 0), (half, 1), (u128::MAX, 1)] {
        let mut record = PutRecord::new("a", b"");
        record.explicit_hash_key = Some(explicit);
        let put = producer.put_record(&record).unwrap();
        assert_eq!(put.shard, ShardId(shard), "{explicit}");
    }
}

#[test]
fn sequence_numbers_grow_in_a_shard_and_name_it() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(3).create().unwrap();
    let mut producer = stream.producer().unwrap();
    let mut last: [Option<SequenceNumber>; 3] = [None; 3];
    for n in 0..1000 {
        let put = producer.put(&format!("k{n}"), b"x").unwrap();
        assert_eq!(put.sequence_number.shard(), put.shard);
        let last = &mut last[put.shard.0 as usize];
        assert!(last.is_none_or(|last| last < put.sequence_number));
        *last = Some(put.sequence_number);
    }
    assert!(
        last.iter().all(Option::is_some),
        "1,000 keys meet each of 3 shards"
    );
}

#[test]
fn each_iterator_begins_where_it_says() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let mut producer = stream.producer().unwrap();
    let puts: Vec<_> = (0..10)
        .map(|n| producer.put("k", format!("{n}").as_bytes()).unwrap())
        .collect();
    let number = puts[4].sequence_number;
    let from = |iterator, shard: Option<ShardId>| {
        let mut builder = stream.reader().iterator(iterator);
        if let Some(shard) = shard {
            builder = builder.shard(shard);
        }
        data(&drain(&mut builder.open().unwrap()))
    };
    let list = |range: core::ops::Range<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
    let shard = Some(ShardId(0));
    for shard in [None, shard] {
        assert_eq!(from(StreamIterator::TrimHorizon, shard), list(0..10));
        assert_eq!(from(StreamIterator::Latest, shard), list(0..0));
        assert_eq!(from(StreamIterator::AtTimestamp(0), shard), list(0..10));
        assert_eq!(
            from(StreamIterator::AtTimestamp(u64::MAX), shard),
            list(0..0)
        );
    }
    assert_eq!(
        from(StreamIterator::AtSequenceNumber(number), shard),
        list(4..10)
    );
    assert_eq!(
        from(StreamIterator::AfterSequenceNumber(number), shard),
        list(5..10)
    );
    let refused = stream
        .reader()
        .iterator(StreamIterator::AtSequenceNumber(number))
        .open();
    assert!(matches!(refused.err(), Some(StreamReadError::NeedsShard)));
    let refused = stream.reader().shard(ShardId(7)).open();
    assert!(matches!(
        refused.err(),
        Some(StreamReadError::NoShard { shard: ShardId(7) })
    ));
}

#[test]
fn a_timestamp_begins_with_the_first_record_that_arrived_then() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(3).create().unwrap();
    let mut producer = stream.producer().unwrap();
    let mut puts = 0;
    let mut last_arrival = 0;
    // Until three different arrival times were seen.
    let mut times = Vec::new();
    while times.len() < 3 {
        producer.put(&format!("k{puts}"), b"x").unwrap();
        puts += 1;
        let arrived = all(&stream, StreamIterator::TrimHorizon)
            .iter()
            .map(|r| r.arrival_ms)
            .max()
            .unwrap();
        if arrived != last_arrival {
            times.push(arrived);
            last_arrival = arrived;
        }
    }
    let whole = all(&stream, StreamIterator::TrimHorizon);
    assert_eq!(whole.len(), puts);
    for from in times {
        let mut expected: Vec<_> = whole
            .iter()
            .filter(|r| r.arrival_ms >= from)
            .cloned()
            .collect();
        let mut found = all(&stream, StreamIterator::AtTimestamp(from));
        expected.sort_by_key(|record| record.sequence_number);
        found.sort_by_key(|record| record.sequence_number);
        assert_eq!(found, expected, "one producer, so arrival grows");
        assert!(!found.is_empty());
    }
}

#[test]
fn two_reads_of_the_same_records_are_equal() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(5).create().unwrap();
    let mut producer = stream.producer().unwrap();
    for n in 0..500u32 {
        producer
            .put(
                &format!("k{}", n % 37),
                &n.to_le_bytes().repeat(n as usize % 90),
            )
            .unwrap();
    }
    let first = all(&stream, StreamIterator::TrimHorizon);
    assert_eq!(first.len(), 500);
    assert_eq!(first, all(&stream, StreamIterator::TrimHorizon));
}

#[test]
fn a_batch_says_of_each_record_what_became_of_it() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).create().unwrap();
    let mut producer = stream.producer().unwrap();
    let outcomes = producer.put_batch(&[
        PutRecord::new("a", b"1"),
        PutRecord::new("", b"2"),
        PutRecord::new("a", b"3"),
    ]);
    assert!(matches!(
        &outcomes[1],
        Err(PutError::InvalidPartitionKey { chars: 0 })
    ));
    let numbers: Vec<_> = [0, 2]
        .map(|at: usize| outcomes[at].as_ref().unwrap().sequence_number)
        .into();
    assert!(numbers[0] < numbers[1]);
    assert_eq!(data(&all(&stream, StreamIterator::TrimHorizon)), ["1", "3"]);
}

#[test]
fn a_full_shard_refuses_a_batch_in_order_and_leaves_the_others_alone() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .shards(2)
        .slots(1024)
        .backpressure(Backpressure::Fail)
        .create()
        .unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    while producer.put("a", b"x").is_ok() {}
    let refused = producer.put("a", b"x").unwrap_err();
    assert!(
        matches!(&refused, PutError::Full { shard: ShardId(0), by: Some(by), .. } if *by == bus.me())
    );
    assert!(refused.to_string().contains("held by"), "{refused}");
    let outcomes = producer.put_batch(&[
        PutRecord::new("a", b"no"),
        PutRecord::new("abc", b"yes"),
        PutRecord::new("a", b"no either"),
    ]);
    assert!(matches!(&outcomes[0], Err(PutError::Full { .. })));
    assert_eq!(outcomes[1].as_ref().unwrap().shard, ShardId(1));
    assert!(matches!(&outcomes[2], Err(PutError::Full { .. })));
    drain(&mut reader);
    producer.put("a", b"room again").unwrap();
}

#[test]
fn a_blocking_stream_waits_for_room_and_gives_up_in_time() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .slots(1024)
        .backpressure(Backpressure::Block(Duration::from_millis(20)))
        .create()
        .unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    let put = (0..5000).find_map(|_| producer.put("a", b"x").err());
    assert!(matches!(put, Some(PutError::Full { .. })), "{put:?}");
    let waiting = std::thread::spawn(move || {
        producer
            .put_within(&PutRecord::new("a", b"late"), WAIT)
            .map(|_| ())
    });
    let mut last = None;
    while last
        .as_ref()
        .is_none_or(|record: &OwnedRecord| record.data != b"late")
    {
        last = reader.next(WAIT).unwrap();
        assert!(last.is_some(), "the waiting record must come");
    }
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_stream_that_drops_its_oldest_tells_what_was_missed() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .slots(1024)
        .backpressure(Backpressure::DropOldest)
        .create()
        .unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    for n in 0..3000u32 {
        producer.put("k", &n.to_le_bytes()).unwrap();
    }
    let lagged = reader.next(WAIT).unwrap_err();
    let StreamReadError::Lagged {
        shard: ShardId(0),
        from: 0,
        to,
    } = lagged
    else {
        panic!("{lagged}");
    };
    let rest = drain(&mut reader);
    assert_eq!(rest[0].sequence_number.position(), to);
    assert_eq!(rest.last().unwrap().data, 2999u32.to_le_bytes());
    assert_eq!(rest.len() as u64, 3000 - to);
    assert!(stream.stats().unwrap().dropped >= to);
}

#[test]
fn a_reader_knows_how_far_it_is_behind() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let mut reader = stream.reader().open().unwrap();
    let mut producer = stream.producer().unwrap();
    assert_eq!(reader.millis_behind_latest().unwrap(), 0);
    producer.put("k", b"1").unwrap();
    producer.put("k", b"2").unwrap();
    reader.next(WAIT).unwrap().unwrap();
    // The clock goes on, so there is a moment at which it is a millisecond behind.
    while reader.millis_behind_latest().unwrap() == 0 {
        std::thread::yield_now();
    }
    reader.next(WAIT).unwrap().unwrap();
    assert_eq!(reader.millis_behind_latest().unwrap(), 0);
}

#[test]
fn emulated_limits_throttle_the_1001st_record_of_a_second() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .limits(ShardLimits::KINESIS)
        .create()
        .unwrap();
    let mut producer = stream.producer().unwrap();
    // A second may end in between; a whole one comes.
    let mut in_a_row = 0;
    let refused = loop {
        match producer.try_put(&PutRecord::new("k", b"x")) {
            Ok(_) => in_a_row += 1,
            Err(error) => break error,
        }
        assert!(
            in_a_row <= 2000,
            "at most the rest of one second and the whole of another"
        );
    };
    assert!(in_a_row >= 1000);
    assert!(
        matches!(
            refused,
            PutError::Throttled {
                shard: ShardId(0),
                limit: 1000,
                unit: "records"
            }
        ),
        "{refused}"
    );
    let refused = loop {
        match producer.try_put(&PutRecord::new("k", &[0; 600 << 10])) {
            Err(PutError::Throttled {
                unit: "bytes",
                limit,
                ..
            }) => break limit,
            other => drop(other),
        }
    };
    assert_eq!(refused, 1 << 20);
}

/// What this process has mapped of files whose names hold `part`, by permissions.
fn mapped(part: &str) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of_part = maps.lines().filter(|line| line.contains(part));
    of_part
        .map(|line| line.split(' ').nth(1).unwrap().to_owned())
        .collect()
}

#[test]
fn a_tail_reads_without_a_seat_and_maps_the_records_read_only() {
    let (root, bus) = bus();
    let stream = bus
        .stream("s")
        .shards(2)
        .slots(1024)
        .backpressure(Backpressure::Fail)
        .create()
        .unwrap();
    let mut producer = stream.producer().unwrap();
    let large = vec![7u8; 100_000];
    producer.put("a", b"before").unwrap();
    let other = Bus::builder("test").root(root.path()).open().unwrap();
    let same = other.stream("s").open().unwrap();
    let mut tail = same.tail(false).unwrap();
    let mut whole = same.tail(true).unwrap();
    producer.put("a", b"behind").unwrap();
    producer.put("a", &large).unwrap();
    let before = mapped(root.path().to_str().unwrap());
    assert_eq!(whole.next(WAIT).unwrap().unwrap().data, b"before");
    for reader in [&mut tail, &mut whole] {
        assert_eq!(reader.next(WAIT).unwrap().unwrap().data, b"behind");
        let record = reader.next(WAIT).unwrap().unwrap();
        assert!(record.data == large && record.key() == "a");
        assert_eq!(reader.try_next().unwrap(), None);
    }
    // Both shards and the payloads, twice.
    let after = mapped(root.path().to_str().unwrap());
    let count = |maps: &[String], kind: &str| maps.iter().filter(|map| *map == kind).count();
    assert!(count(&after, "r--s") >= 6, "{after:?}");
    assert_eq!(
        count(&after, "rw-s"),
        count(&before, "rw-s"),
        "a store into what it maps faults"
    );
    // Nobody waits for it, and it is told what it missed.
    for _ in 0..3000 {
        producer.put("a", b"x").unwrap();
    }
    let lagged = tail.next(WAIT).unwrap_err();
    assert!(
        matches!(
            lagged,
            StreamReadError::Lagged {
                shard: ShardId(0),
                ..
            }
        ),
        "{lagged}"
    );
    stream.split(ShardId(0), None).unwrap();
    let put = producer.put("a", b"in a child").unwrap();
    let last = loop {
        match tail.next(WAIT) {
            Ok(Some(record)) if record.data == b"in a child" => break record,
            Ok(Some(_)) | Err(StreamReadError::Lagged { .. }) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last.sequence_number, put.sequence_number);
}

#[test]
fn a_stream_is_listed_opened_by_others_and_removed_with_its_shards() {
    let (root, bus) = bus();
    let stream = bus.stream("s").shards(3).slots(2048).create().unwrap();
    let object = &bus.objects().unwrap()[0];
    assert_eq!(
        (object.name.as_str(), object.kind),
        ("s", ObjectKind::Stream)
    );
    assert!(object.bytes > 3 * 2048 * 256, "{}", object.bytes);
    let other = Bus::builder("test").root(root.path()).open().unwrap();
    let same = other.stream("s").open().unwrap();
    stream.producer().unwrap().put("k", b"over there").unwrap();
    assert_eq!(
        data(&all(&same, StreamIterator::TrimHorizon)),
        ["over there"]
    );
    let refused = other.stream("s").slots(1024).open().err();
    assert!(
        matches!(
            refused,
            Some(OpenError::Mismatch {
                option: "slots",
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(matches!(
        other.stream("s").create().err(),
        Some(OpenError::AlreadyExists { .. })
    ));
    assert!(bus.doctor(false).unwrap().is_clean());
    let mut producer = same.producer().unwrap();
    bus.remove("s").unwrap();
    assert!(matches!(
        producer.put("k", b"x"),
        Err(PutError::Removed) | Err(PutError::Send { .. })
    ));
    assert!(matches!(same.shards(), Err(OpenError::Removed { .. })));
    drop((stream, same, producer));
    other.reap().unwrap();
    let objects = root.path().join("ringway-test/objects");
    let left: Vec<_> = std::fs::read_dir(objects)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_batch_is_put_in_its_order_whatever_lengths_and_keys_its_records_have() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(3).create().unwrap();
    let mut producer = stream.producer().unwrap();
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    let mut read = Vec::new();
    let mut put = 0u64;
    for round in 0..40u64 {
        if round == 20 {
            stream.update_shard_count(5).unwrap();
        }
        let bodies: Vec<(String, Vec<u8>)> = (0..97)
            .map(|n| {
                let number = put + n;
                // Inline, and every so often one that needs the pool.
                let len = if number % 41 == 7 {
                    3000
                } else {
                    8 + number as usize % 150
                };
                let mut body = vec![0; len];
                body[..8].copy_from_slice(&number.to_le_bytes());
                (format!("key-{}", number % 10), body)
            })
            .collect();
        put += 97;
        let mut records: Vec<PutRecord> = bodies
            .iter()
            .map(|(key, body)| PutRecord::new(key, body))
            .collect();
        records.insert(50, PutRecord::new("", b"no key"));
        let mut outcomes = producer.put_batch(&records);
        let refused = outcomes.remove(50);
        assert!(matches!(
            refused,
            Err(PutError::InvalidPartitionKey { chars: 0 })
        ));
        records.remove(50);
        let before = read.len();
        while reader
            .try_read_batch(100, |record| read.push(record.to_owned()))
            .unwrap()
            > 0
        {}
        let new = &read[before..];
        assert_eq!(new.len(), 97);
        for (record, outcome) in records.iter().zip(outcomes) {
            let number = outcome.unwrap().sequence_number;
            let found = new.iter().find(|found| found.sequence_number == number);
            let found = found.expect("what was put is read under its number");
            assert_eq!(
                (found.key(), &found.data[..]),
                (record.partition_key, record.data)
            );
        }
    }
    for key in 0..10 {
        let key = format!("key-{key}");
        let of_key = read.iter().filter(|record| record.key() == key);
        let numbers: Vec<u64> = of_key
            .map(|record| u64::from_le_bytes(record.data[..8].try_into().unwrap()))
            .collect();
        assert!(
            numbers.is_sorted() && numbers.len() == 388,
            "{key}: {numbers:?}"
        );
    }
}

#[test]
fn a_batch_keeps_the_order_of_a_key_also_where_the_pool_has_no_room_for_one_of_its_records() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).backpressure(Backpressure::Fail);
    let stream = stream.create().unwrap();
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    let mut producer = stream.producer().unwrap();
    let large = vec![7; 10 << 20];
    while producer.put("k", &large).is_ok() {}
    let records = [
        PutRecord::new("k", b"before"),
        PutRecord::new("k", &large),
        PutRecord::new("k", b"behind"),
    ];
    let outcomes = producer.put_batch(&records);
    assert!(outcomes[0].is_ok());
    assert!(
        matches!(outcomes[1], Err(PutError::Send { .. })),
        "{:?}",
        outcomes[1]
    );
    assert!(
        outcomes[2].is_err(),
        "it would be read before the one that is put again"
    );
}

#[test]
fn an_exclusive_producer_has_its_shards_until_it_is_dropped() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).producers(Producers::Exclusive);
    let stream = stream.create().unwrap();
    let bounds = [0, u128::MAX];
    let record = |shard: usize| PutRecord {
        explicit_hash_key: Some(bounds[shard]),
        ..PutRecord::new("k", b"x")
    };
    let (mut one, mut other) = (stream.producer().unwrap(), stream.producer().unwrap());
    one.try_put(&record(0)).unwrap();
    other.try_put(&record(1)).unwrap();
    let refused = one.try_put(&record(1)).unwrap_err();
    assert!(
        matches!(
            refused,
            PutError::Held {
                shard: ShardId(1),
                ..
            }
        ),
        "{refused}"
    );
    let refused = &one.put_batch(&[record(0), record(1)])[..];
    assert!(
        matches!(refused, [Ok(_), Err(PutError::Held { .. })]),
        "{refused:?}"
    );
    drop(other);
    assert_eq!(one.try_put(&record(1)).unwrap().shard, ShardId(1));
    assert_eq!(all(&stream, StreamIterator::TrimHorizon).len(), 4);
}

#[test]
fn what_an_exclusive_producer_puts_is_read_in_its_order_lap_after_lap() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).stride(128);
    let stream = stream.producers(Producers::Exclusive).create().unwrap();
    let reader = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = reader.open().unwrap();
    let mut producer = stream.producer().unwrap();
    let (mut put, mut expected) = (0, 0);
    for round in 0..20u64 {
        for _ in 0..300 {
            producer.put("k", &u64::to_le_bytes(put)).unwrap();
            put += 1;
        }
        let numbers: Vec<_> = (put..put + 200).map(u64::to_le_bytes).collect();
        let records: Vec<_> = numbers.iter().map(|n| PutRecord::new("k", n)).collect();
        for outcome in producer.put_batch(&records) {
            outcome.unwrap();
        }
        put += 200;
        for record in drain(&mut reader) {
            let number = u64::from_le_bytes(record.data.try_into().unwrap());
            assert_eq!(number, expected, "round {round}");
            expected += 1;
        }
    }
    assert_eq!(expected, put);
}

#[test]
fn a_stream_with_exclusive_producers_lies_in_memory_and_keeps_its_shards() {
    let (_root, bus) = bus();
    let exclusive = |name| bus.stream(name).shards(2).producers(Producers::Exclusive);
    let stream = exclusive("s").create().unwrap();
    let refused = [
        stream.split(ShardId(0), None).map(drop),
        stream.merge(ShardId(0), ShardId(1)).map(drop),
        stream.update_shard_count(4).map(drop),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(ReshardError::Exclusive)),
            "{refused:?}"
        );
    }
    let again = bus.stream("s").producers(Producers::Shared).open();
    assert!(matches!(again, Err(OpenError::Mismatch { .. })));
    assert_eq!(
        bus.stream("s").open().unwrap().definition().producers,
        Producers::Exclusive
    );
    let refused = exclusive("t").on_demand(OnDemand::default()).create();
    assert!(matches!(refused, Err(OpenError::InvalidOption { .. })));
}
