//! Registered consumers of a stream: each has cursors of its own, is handed everything, and decides by its
//! policy what happens when it falls behind; nobody else notices but by that.

use ringway::{
    Backpressure, Bus, ConsumerError, ConsumerEvent, ConsumerPolicy, ConsumerSubscription,
    PutError, PutRecord, ShardId, ShardLimits, Stream, StreamIterator,
};
use ringway_harness::TempBus;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);
const SLOTS: u64 = 1024;

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    (root, bus)
}

fn stream(bus: &Bus) -> Stream {
    bus.stream("s")
        .slots(SLOTS)
        .backpressure(Backpressure::Block(Duration::ZERO))
        .create()
        .unwrap()
}

fn subscribe(stream: &Stream, name: &str, policy: ConsumerPolicy) -> ConsumerSubscription {
    let consumer = stream.register_consumer(name, policy).unwrap();
    consumer.subscribe(StreamIterator::TrimHorizon).unwrap()
}

/// Numbers of the records that are there now, and gaps as (from, to).
fn drain(subscription: &mut ConsumerSubscription) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut numbers, mut gaps) = (Vec::new(), Vec::new());
    loop {
        let given = subscription.try_read_batch(100, |event| match event {
            ConsumerEvent::Record(record) => {
                numbers.push(std::str::from_utf8(record.data).unwrap().parse().unwrap());
            }
            ConsumerEvent::Gap { from, to, lost, .. } => {
                assert_eq!(lost, to.position() - from.position());
                gaps.push((from.position(), to.position()));
            }
        });
        if given.unwrap() == 0 {
            return (numbers, gaps);
        }
    }
}

fn put(stream: &Stream, numbers: std::ops::Range<u64>) -> Result<(), PutError> {
    let mut producer = stream.producer().unwrap();
    for number in numbers {
        producer.put("k", number.to_string().as_bytes())?;
    }
    Ok(())
}

#[test]
fn every_consumer_is_handed_every_record() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    let mut consumers: Vec<_> = (0..20)
        .map(|n| subscribe(&stream, &format!("c{n}"), ConsumerPolicy::Block))
        .collect();
    put(&stream, 0..500).unwrap();
    for consumer in &mut consumers {
        assert_eq!(drain(consumer), ((0..500).collect(), vec![]));
        let info = consumer.consumer().info().unwrap();
        assert_eq!((info.records, info.behind, info.subscriptions), (500, 0, 1));
        assert_eq!(info.subscriber, Some(bus.me()));
    }
    let refused = stream.register_consumer("one-more", ConsumerPolicy::Block);
    assert!(matches!(
        refused.err(),
        Some(ConsumerError::TooManyConsumers { limit: 20 })
    ));
}

#[test]
fn a_name_is_registered_once_and_its_place_is_given_to_it_again() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    // More often than there are places.
    for round in 0..40 {
        let policy = match round % 2 {
            0 => ConsumerPolicy::Block,
            _ => ConsumerPolicy::Evict,
        };
        let first = stream.register_consumer("billing", policy).unwrap();
        assert_eq!(first.policy(), policy);
        let again = stream.register_consumer("billing", policy).err();
        assert!(matches!(
            again,
            Some(ConsumerError::AlreadyRegistered { .. })
        ));
        assert_eq!(stream.consumers().unwrap().len(), 1);
        assert!(stream.deregister_consumer("billing").unwrap());
        assert!(!stream.deregister_consumer("billing").unwrap());
        let ended = first.subscribe(StreamIterator::Latest).err();
        assert!(matches!(ended, Some(ConsumerError::Displaced)));
    }
    assert!(matches!(
        stream.consumer("billing").err(),
        Some(ConsumerError::NoConsumer { .. })
    ));
    for wrong in ["", "a b", &"x".repeat(129)] {
        let refused = stream.register_consumer(wrong, ConsumerPolicy::Block).err();
        assert!(
            matches!(refused, Some(ConsumerError::InvalidName { .. })),
            "{wrong:?}"
        );
    }
    // Groups and consumers know nothing of each other.
    stream
        .group_or_create("billing", Default::default())
        .unwrap();
    stream
        .register_consumer("billing", ConsumerPolicy::Block)
        .unwrap();
    assert_eq!(
        (
            stream.groups().unwrap().len(),
            stream.consumers().unwrap().len()
        ),
        (1, 1)
    );
}

#[test]
fn puts_wait_for_a_consumer_that_blocks_and_go_on_when_it_has_read() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    let mut slow = subscribe(&stream, "slow", ConsumerPolicy::Block);
    put(&stream, 0..SLOTS).unwrap();
    let mut producer = stream.producer().unwrap();
    let record = PutRecord::new("k", b"1024");
    let full = producer
        .put_within(&record, Duration::from_millis(1))
        .unwrap_err();
    assert!(
        matches!(&full, PutError::Full { consumer: Some(name), .. } if name == "slow"),
        "{full}"
    );
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || producer.put_within(&PutRecord::new("k", b"1024"), WAIT));
        while slow.consumer().info().unwrap().waits < 2 {
            std::thread::yield_now();
        }
        assert_eq!(drain(&mut slow).0.len() as u64, SLOTS);
        waits.join().unwrap().unwrap();
    });
    assert_eq!(drain(&mut slow), (vec![1024], vec![]));
    let info = slow.consumer().info().unwrap();
    assert_eq!((info.waits, info.refusals, info.lost), (2, 1, 0));
}

#[test]
fn puts_fail_at_once_at_a_consumer_that_lets_them() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    let mut strict = subscribe(&stream, "strict", ConsumerPolicy::Fail);
    put(&stream, 0..SLOTS).unwrap();
    let mut producer = stream.producer().unwrap();
    // However long the put might wait.
    let forever = Duration::from_secs(3600);
    let full = producer
        .put_within(&PutRecord::new("k", b"1024"), forever)
        .unwrap_err();
    assert!(matches!(&full, PutError::Full { consumer: Some(name), .. } if name == "strict"));
    let info = strict.consumer().info().unwrap();
    assert_eq!((info.waits, info.refusals, info.behind), (0, 1, SLOTS));
    assert_eq!(drain(&mut strict).0.len() as u64, SLOTS);
    producer
        .put_within(&PutRecord::new("k", b"1024"), forever)
        .unwrap();
}

#[test]
fn a_consumer_that_is_not_waited_for_is_told_of_the_gap_and_the_others_miss_nothing() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    let mut late = subscribe(&stream, "late", ConsumerPolicy::DropOldest);
    let mut quick = subscribe(&stream, "quick", ConsumerPolicy::Block);
    for part in 0..3 {
        put(&stream, part * 900..(part + 1) * 900).unwrap();
        assert_eq!(
            drain(&mut quick).0,
            (part * 900..(part + 1) * 900).collect::<Vec<_>>()
        );
    }
    let (numbers, gaps) = drain(&mut late);
    let [(0, to)] = gaps[..] else {
        panic!("one gap at the beginning: {gaps:?}");
    };
    assert!(to >= 2700 - SLOTS, "{to}");
    assert_eq!(numbers, (to..2700).collect::<Vec<_>>());
    let info = late.consumer().info().unwrap();
    assert_eq!((info.gaps, info.lost, info.records), (1, to, 2700 - to));
    assert_eq!((info.waits, info.refusals, info.evictions), (0, 0, 0));
}

#[test]
fn a_consumer_that_falls_behind_is_evicted_and_may_come_again() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    let mut late = subscribe(&stream, "late", ConsumerPolicy::Evict);
    put(&stream, 0..3000).unwrap();
    let evicted = late
        .try_read_batch(100, |_| panic!("nothing is handed over"))
        .unwrap_err();
    assert!(
        matches!(
            evicted,
            ConsumerError::Evicted {
                shard: ShardId(0),
                from: 0,
                ..
            }
        ),
        "{evicted}"
    );
    let ended = late.try_read_batch(100, |_| ()).unwrap_err();
    assert!(matches!(ended, ConsumerError::Displaced), "{ended}");
    let consumer = late.consumer().clone();
    let info = consumer.info().unwrap();
    assert_eq!((info.evictions, info.subscriber), (1, None));
    let mut again = consumer.subscribe(StreamIterator::TrimHorizon).unwrap();
    assert_eq!(drain(&mut again).0.last(), Some(&2999));
    assert_eq!(consumer.info().unwrap().subscriptions, 2);
}

#[test]
fn a_consumer_has_one_subscriber_which_another_may_displace() {
    let (_root, bus) = bus();
    let stream = stream(&bus);
    let mut first = subscribe(&stream, "billing", ConsumerPolicy::Block);
    let consumer = first.consumer().clone();
    let busy = consumer.subscribe(StreamIterator::Latest).err();
    assert!(matches!(busy, Some(ConsumerError::Busy { by }) if by == bus.me()));
    put(&stream, 0..10).unwrap();
    let mut second = consumer.take_over(StreamIterator::TrimHorizon).unwrap();
    let told = first.try_read_batch(10, |_| panic!("it is not its own any more"));
    assert!(matches!(told, Err(ConsumerError::Displaced)));
    drop(first); // takes nothing away from the second
    assert_eq!(drain(&mut second).0, (0..10).collect::<Vec<_>>());
    assert!(stream.deregister_consumer("billing").unwrap());
    let told = second.read_batch(10, WAIT, |_| ());
    assert!(matches!(told, Err(ConsumerError::Displaced)));
    put(&stream, 0..2 * SLOTS).unwrap(); // it holds nobody back
}

#[test]
fn a_consumer_follows_splits_and_merges_in_the_order_of_each_key() {
    let (_root, bus) = bus();
    for (name, policy) in [
        ("block", ConsumerPolicy::Block),
        ("drop", ConsumerPolicy::DropOldest),
    ] {
        let stream = bus.stream(name).shards(2).create().unwrap();
        let mut subscription = subscribe(&stream, name, policy);
        let mut producer = stream.producer().unwrap();
        for n in 0..600u64 {
            if n % 200 == 100 {
                stream
                    .update_shard_count(if n % 400 == 100 { 5 } else { 2 })
                    .unwrap();
            }
            producer
                .put(&format!("{}", n % 7), n.to_string().as_bytes())
                .unwrap();
        }
        let (numbers, gaps) = drain(&mut subscription);
        assert_eq!(gaps, vec![]);
        for key in 0..7 {
            let of_key: Vec<u64> = numbers.iter().copied().filter(|n| n % 7 == key).collect();
            assert_eq!(
                of_key,
                (0..600).filter(|n| n % 7 == key).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn each_consumer_has_the_reading_limit_for_itself() {
    let (_root, bus) = bus();
    let limits = ShardLimits {
        records: 1_000_000,
        bytes: u32::MAX,
        read_bytes: 100_000,
    };
    let stream = bus.stream("s").limits(limits).create().unwrap();
    let mut producer = stream.producer().unwrap();
    for _ in 0..15 {
        producer.put("k", &[0; 10_000]).unwrap();
    }
    for name in ["a", "b", "c"] {
        let mut subscription = subscribe(&stream, name, ConsumerPolicy::Block);
        // Fifteen records of 10 kB: as many as the limit lets through take two seconds.
        let (mut records, mut throttled) = (0, 0);
        while records < 15 {
            match subscription.try_read_batch(1, |_| records += 1) {
                Ok(_) => {}
                Err(ConsumerError::Read(_)) => throttled += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(throttled > 0, "{name} was never throttled");
    }
}

#[test]
fn a_stream_that_drops_its_oldest_waits_for_no_consumer() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .backpressure(Backpressure::DropOldest)
        .create()
        .unwrap();
    for policy in [ConsumerPolicy::Block, ConsumerPolicy::Fail] {
        let refused = stream.register_consumer("c", policy).err();
        assert!(matches!(refused, Some(ConsumerError::DropsOldest)));
    }
    stream
        .register_consumer("c", ConsumerPolicy::DropOldest)
        .unwrap();
}
