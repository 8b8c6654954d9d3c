//! Splits and merges: the order of each key is kept, parents are read before children, and what can't be
//! split or merged says why.

use proptest::prelude::*;
use ringway::{
    Bus, ReshardError, ShardId, ShardInfo, ShardState, Stream, StreamIterator, StreamReadError,
    StreamReader,
};
use ringway_harness::TempBus;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .pre_touch(false)
        .create()
        .unwrap();
    (root, bus)
}

fn open_shards(stream: &Stream) -> Vec<ShardInfo> {
    let mut open = stream.shards().unwrap();
    open.retain(|shard| shard.state == ShardState::Open);
    open.sort_by_key(|shard| shard.start);
    open
}

#[test]
fn a_split_replaces_a_shard_by_two_and_says_so() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).create().unwrap();
    let [low, high] = stream.split(ShardId(1), None).unwrap();
    assert_eq!((low, high), (ShardId(2), ShardId(3)));
    let shards = stream.shards().unwrap();
    assert_eq!(shards[1].state, ShardState::Closed);
    assert!(shards[1].closed_ms.is_some());
    // In the middle, as the console of Kinesis does.
    assert_eq!((shards[2].start, shards[2].end + 1), (1 << 127, 3 << 126));
    assert_eq!((shards[3].start, shards[3].end), (3 << 126, u128::MAX));
    for child in [2, 3] {
        assert_eq!(shards[child].parents, [Some(ShardId(1)), None]);
    }
    assert_eq!(open_shards(&stream).len(), 3);
}

#[test]
fn a_merge_replaces_two_adjacent_shards_by_one_in_either_order() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(4).create().unwrap();
    let merged = stream.merge(ShardId(2), ShardId(1)).unwrap();
    let shards = stream.shards().unwrap();
    let child = &shards[merged.0 as usize];
    assert_eq!((child.start, child.end), (1 << 126, (3 << 126) - 1));
    assert_eq!(child.parents, [Some(ShardId(2)), Some(ShardId(1))]);
    assert_eq!(open_shards(&stream).len(), 3);
}

#[test]
fn what_cant_be_split_or_merged_says_why() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(3).create().unwrap();
    let refused = stream.split(ShardId(9), None).unwrap_err();
    assert!(matches!(
        refused,
        ReshardError::NoShard { shard: ShardId(9) }
    ));
    let start = stream.shards().unwrap()[1].start;
    for at in [0, start, u128::MAX] {
        let refused = stream.split(ShardId(1), at).unwrap_err();
        assert!(
            matches!(refused, ReshardError::InvalidSplit { .. }),
            "{refused}"
        );
    }
    let refused = stream.merge(ShardId(0), ShardId(2)).unwrap_err();
    assert!(
        matches!(refused, ReshardError::NotAdjacent { .. }),
        "{refused}"
    );
    let refused = stream.merge(ShardId(0), ShardId(0)).unwrap_err();
    assert!(
        matches!(refused, ReshardError::NotAdjacent { .. }),
        "{refused}"
    );
    stream.split(ShardId(1), None).unwrap();
    let refused = stream.split(ShardId(1), None).unwrap_err();
    assert!(matches!(
        refused,
        ReshardError::NotOpen { shard: ShardId(1) }
    ));
    let refused = stream.update_shard_count(0).unwrap_err();
    assert!(matches!(refused, ReshardError::InvalidCount { .. }));
    assert_eq!(stream.shards().unwrap().len(), 5, "refusals change nothing");
}

#[test]
fn any_count_is_reached_with_uniform_ranges() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(5).slots(1024).create().unwrap();
    for count in [5, 8, 3, 1, 7, 2] {
        stream.update_shard_count(count).unwrap();
        let fresh = bus.stream("u").shards(count).slots(1024).create().unwrap();
        let ranges = |stream| -> Vec<_> {
            open_shards(stream)
                .iter()
                .map(|s| (s.start, s.end))
                .collect()
        };
        assert_eq!(ranges(&stream), ranges(&fresh), "{count}");
        drop(fresh);
        bus.remove("u").unwrap();
    }
    assert_eq!(
        stream.update_shard_count(2).unwrap(),
        0,
        "nothing left to change"
    );
    for shard in stream.shards().unwrap() {
        assert!(
            shard.lineage().all(|parent| parent < shard.id),
            "parents are older"
        );
        assert!(shard.lineage().count() <= 2);
    }
}

/// Reads `key:number` records and checks that each key counts up.
struct Order(HashMap<String, u64>);

impl Order {
    fn read(&mut self, reader: &mut StreamReader, max: usize) -> u64 {
        let mut count = 0;
        reader
            .read_batch(max, Duration::from_millis(1), |record| {
                let number = u64::from_le_bytes(record.data.try_into().unwrap());
                let next = self.0.entry(record.key().into_owned()).or_default();
                assert_eq!(number, *next, "key {} in {}", record.key(), record.shard());
                *next += 1;
                count += 1;
            })
            .unwrap();
        count
    }
}

#[test]
fn the_order_of_each_key_is_kept_while_shards_are_split_and_merged_under_load() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).slots(1024).create().unwrap();
    let mut reader = stream.reader().open().unwrap();
    let stop = AtomicBool::new(false);
    let put = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..2)
            .map(|own| {
                let (stream, stop) = (&stream, &stop);
                scope.spawn(move || {
                    let mut producer = stream.producer().unwrap();
                    let mut numbers = [0u64; 20];
                    while !stop.load(Ordering::Relaxed) {
                        for (key, number) in numbers.iter_mut().enumerate() {
                            producer
                                .put(&format!("{own}/{key}"), &number.to_le_bytes())
                                .unwrap();
                            *number += 1;
                        }
                    }
                    numbers.iter().sum::<u64>()
                })
            })
            .collect();
        let resharding = scope.spawn(|| {
            for count in [5, 3, 8, 1, 6, 2] {
                stream.update_shard_count(count).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut order = Order(HashMap::new());
        let mut read = 0;
        while !producers.iter().all(|producer| producer.is_finished()) {
            read += order.read(&mut reader, 64);
        }
        resharding.join().unwrap();
        loop {
            match order.read(&mut reader, 64) {
                0 if stream.shards().unwrap().len() == reader_seen(&reader, &stream) => break,
                count => read += count,
            }
        }
        let put: u64 = producers
            .into_iter()
            .map(|producer| producer.join().unwrap())
            .sum();
        assert_eq!(read, put);
        put
    });
    assert!(put > 1000, "only {put} records while it was resharded");
}

/// All shards that were made, when those that are being read are the open ones.
fn reader_seen(reader: &StreamReader, stream: &Stream) -> usize {
    let reading: Vec<ShardId> = reader.shards().collect();
    let open = open_shards(stream);
    if open.len() == reading.len() {
        return stream.shards().unwrap().len();
    }
    0
}

#[test]
fn a_closed_shard_is_read_to_its_end_and_then_is_at_its_end() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").create().unwrap();
    let mut producer = stream.producer().unwrap();
    for n in 0..10u64 {
        producer.put("k", &n.to_le_bytes()).unwrap();
    }
    stream.split(ShardId(0), None).unwrap();
    let after = producer.put("k", &10u64.to_le_bytes()).unwrap();
    assert_ne!(after.shard, ShardId(0));
    let builder = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .shard(ShardId(0));
    let mut reader = builder.open().unwrap();
    let mut count = 0;
    while !reader.is_at_end() {
        count += reader
            .read_batch(100, Duration::from_millis(1), |_| {})
            .unwrap();
    }
    assert_eq!(count, 10);
    // And all of it, from before: the parent first.
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    let mut order = Order(HashMap::new());
    while order.read(&mut reader, 4) > 0 {}
    assert_eq!(order.0["k"], 11);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Read(u8),
    Split(u8),
    Merge(u8),
    Scale(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<u8>().prop_map(Step::Put),
        4 => any::<u8>().prop_map(Step::Read),
        2 => any::<u8>().prop_map(Step::Split),
        2 => any::<u8>().prop_map(Step::Merge),
        1 => (1..6u8).prop_map(Step::Scale),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is split and merged in between: every reader, whenever it began, reads what was put from
    /// then on, each key in its order, and every open shard holds its part of the keys.
    #[test]
    fn resharding_keeps_the_order_of_every_key(steps in prop::collection::vec(step(), 1..120)) {
        let (_root, bus) = bus();
        let stream = bus.stream("s").shards(2).slots(1024).create().unwrap();
        let mut producer = stream.producer().unwrap();
        let mut reader = stream.reader().open().unwrap();
        let mut order = Order(HashMap::new());
        let mut put: HashMap<String, u64> = HashMap::new();
        let (mut total, mut read) = (0, 0);
        for step in steps {
            let open = open_shards(&stream);
            match step {
                Step::Put(key) => {
                    let key = format!("key {}", key % 16);
                    let number = put.entry(key.clone()).or_default();
                    let placed = producer.put(&key, &number.to_le_bytes()).unwrap();
                    let holds = open.iter().find(|shard| shard.holds(ringway::hash_key_of(&key)));
                    prop_assert_eq!(holds.map(|shard| shard.id), Some(placed.shard));
                    *number += 1;
                    total += 1;
                }
                Step::Read(max) => read += order.read(&mut reader, usize::from(max % 32)),
                Step::Split(at) => {
                    let shard = &open[usize::from(at) % open.len()];
                    stream.split(shard.id, None).unwrap();
                }
                Step::Merge(at) if open.len() > 1 => {
                    let at = usize::from(at) % (open.len() - 1);
                    stream.merge(open[at].id, open[at + 1].id).unwrap();
                }
                Step::Merge(_) => {}
                Step::Scale(count) => {
                    stream.update_shard_count(count.into()).unwrap();
                    prop_assert_eq!(open_shards(&stream).len(), usize::from(count));
                }
            }
        }
        while read < total {
            let more = order.read(&mut reader, 32);
            prop_assert!(more > 0, "{read} of {total} were read");
            read += more;
        }
        prop_assert_eq!(&order.0, &put);
        let mut replay = stream.reader().iterator(StreamIterator::TrimHorizon).open().unwrap();
        let mut again = Order(HashMap::new());
        let mut replayed = 0;
        while replayed < total {
            let more = again.read(&mut replay, 32);
            prop_assert!(more > 0, "{replayed} of {total} were read again");
            replayed += more;
        }
        prop_assert_eq!(&again.0, &put);
    }
}

fn put_all(stream: &Stream, count: u64) {
    let mut producer = stream.producer().unwrap();
    for number in 0..count {
        producer.put("k", number.to_string().as_bytes()).unwrap();
    }
}

/// What a reader is handed until there is nothing, and what it is told it missed.
fn read_all(reader: &mut StreamReader) -> (Vec<String>, Vec<ShardId>) {
    let (mut read, mut missed) = (Vec::new(), Vec::new());
    loop {
        let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
        match reader.try_read_batch(100, |record| read.push(text(record.data))) {
            Ok(0) => return (read, missed),
            Ok(_) => {}
            Err(StreamReadError::Lagged { shard, .. }) => missed.push(shard),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_shard_is_not_given_back_before_who_reads_its_parent_has_come_to_it() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let builder = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = builder.open().unwrap();
    put_all(&stream, 3);
    let children = stream.split(ShardId(0), None).unwrap();
    put_all(&stream, 3);
    stream.merge(children[0], children[1]).unwrap();
    put_all(&stream, 3);
    assert_eq!(
        stream.retire_closed().unwrap(),
        0,
        "it has to read them all"
    );
    let (read, missed) = read_all(&mut reader);
    assert_eq!(
        read,
        ["0", "1", "2"].repeat(3),
        "every record of every shard, in order"
    );
    assert_eq!(missed, []);
    assert_eq!(stream.retire_closed().unwrap(), 3);
}

#[test]
fn who_holds_nobody_back_is_told_of_a_shard_that_was_given_back_unread_and_reads_in_order() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let builder = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = builder.lossy().open().unwrap();
    let mut tail = stream.tail(true).unwrap();
    put_all(&stream, 3);
    let children = stream.split(ShardId(0), None).unwrap();
    put_all(&stream, 3);
    let merged = stream.merge(children[0], children[1]).unwrap();
    put_all(&stream, 2);
    assert_eq!(stream.retire_closed().unwrap(), 3);
    let (read, missed) = read_all(&mut reader);
    assert_eq!(
        missed.len(),
        1,
        "three records were in one of {children:?}: {missed:?}"
    );
    assert_eq!(
        read,
        ["0", "1", "2", "0", "1"],
        "{merged} behind all that was left"
    );
    let (mut again, mut told) = (Vec::new(), Vec::new());
    loop {
        match tail.try_next() {
            Ok(Some(record)) => again.push(String::from_utf8(record.data).unwrap()),
            Ok(None) => break,
            Err(StreamReadError::Lagged { shard, .. }) => told.push(shard),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((again, told), (read, missed));
}
