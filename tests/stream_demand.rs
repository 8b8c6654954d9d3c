//! On-demand mode: shards grow and shrink by the load that is seen, once for everybody, with the order of each
//! key kept, and the stream says so.

use ringway::{Bus, OnDemand, OpenError, Scaled, Stream, StreamIterator};
use ringway_harness::{TempBus, deadline};
use std::time::{Duration, Instant};

/// Quick enough for a test. A record every 100 µs is too much for one shard, none is calm.
const MODE: OnDemand = OnDemand {
    min_shards: 1,
    max_shards: 4,
    records: 1000,
    bytes: 1 << 20,
    window: Duration::from_millis(20),
    calm: Duration::from_millis(200),
};

fn bus(root: &TempBus) -> Bus {
    let bus = Bus::builder("test").root(root.path());
    bus.open_or_create().unwrap()
}

fn open_shards(stream: &Stream) -> u64 {
    stream.stats().unwrap().open_shards
}

#[test]
fn shards_grow_under_load_shrink_in_calm_and_each_key_stays_in_order() {
    let root = TempBus::new().expect("a root under /dev/shm");
    let (one, other) = (bus(&root), bus(&root));
    let stream = one.stream("s").on_demand(MODE).create().unwrap();
    assert_eq!(open_shards(&stream), 1);
    assert_eq!(stream.scaling().unwrap().last, None);
    let mut reader = stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    let mut records = Vec::new();
    // Two participants put under keys of their own, as fast as they can.
    let end = Instant::now() + deadline();
    let mut producers = [
        stream.producer().unwrap(),
        other.stream("s").open().unwrap().producer().unwrap(),
    ];
    let mut put = 0u64;
    // A pause of the machine is a calm, too: whether this many puts ever took a good part of one.
    const MANY: u64 = 512;
    let (mut since, mut paused) = (Instant::now(), false);
    while open_shards(&stream) < 4 {
        assert!(Instant::now() < end, "{:?}", stream.scaling());
        if put.is_multiple_of(MANY) {
            paused |= since.elapsed() > MODE.calm / 4;
            since = Instant::now();
        }
        for producer in &mut producers {
            producer
                .put(&format!("{}", put % 16), put.to_string().as_bytes())
                .unwrap();
            put += 1;
        }
        while reader
            .try_read_batch(64, |record| records.push(record.to_owned()))
            .unwrap()
            > 0
        {}
    }
    let grown = stream.scaling().unwrap();
    paused |= since.elapsed() > MODE.calm / 4;
    assert!(grown.merges == 0 || paused, "{grown:?}");
    assert_eq!(grown.splits, grown.merges + 3);
    assert!(matches!(grown.last, Some((Scaled::Split(_), at)) if at >= stream.created_ms()));
    assert_eq!(
        stream.stats().unwrap().shards_made,
        1 + 2 * grown.splits + grown.merges,
        "each split happened once"
    );
    // Nobody puts any more: whoever looks after it merges.
    while open_shards(&stream) > 1 {
        assert!(Instant::now() < end, "{:?}", stream.scaling());
        stream.balance();
        std::thread::yield_now();
    }
    let scaling = stream.scaling().unwrap();
    assert_eq!(
        (scaling.splits, scaling.merges),
        (grown.splits, grown.splits)
    );
    assert!(matches!(scaling.last, Some((Scaled::Merge(_), _))));
    producers[0].put("0", b"16000000").unwrap();
    while reader
        .try_read_batch(64, |record| records.push(record.to_owned()))
        .unwrap()
        > 0
    {}
    assert_eq!(records.len() as u64, put + 1);
    let mut last = std::collections::HashMap::new();
    for record in &records {
        let number: u64 = std::str::from_utf8(&record.data).unwrap().parse().unwrap();
        let before = last.insert(record.partition_key.clone(), number);
        assert!(before < Some(number), "{} behind {before:?}", record.key());
    }
}

#[test]
fn a_provisioned_stream_keeps_the_shards_it_was_given() {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = bus(&root);
    let stream = bus.stream("s").create().unwrap();
    assert_eq!(stream.scaling(), None);
    assert!(!stream.balance());
    // And what a stream is on is part of what it is.
    let other = bus.stream("s").on_demand(MODE).open().err();
    assert!(
        matches!(other, Some(OpenError::Mismatch { .. })),
        "{other:?}"
    );
    let four = bus
        .stream("t")
        .on_demand(OnDemand::default())
        .create()
        .unwrap();
    assert_eq!(open_shards(&four), 4);
    assert_eq!(four.definition().on_demand, Some(OnDemand::default()));
    for wrong in [
        OnDemand {
            min_shards: 5,
            max_shards: 4,
            ..MODE
        },
        OnDemand {
            min_shards: 0,
            ..MODE
        },
        OnDemand { records: 0, ..MODE },
        OnDemand {
            window: Duration::ZERO,
            ..MODE
        },
    ] {
        let refused = bus.stream("u").on_demand(wrong).create().err();
        assert!(matches!(
            refused,
            Some(OpenError::InvalidOption {
                option: "on_demand",
                ..
            })
        ));
    }
}
