//! Consumer groups: shards are shared, move when workers come, go, die or stand still, and a checkpoint
//! counts only under the lease it was made.

use ringway::{
    Backpressure, Bus, CheckpointError, Group, GroupError, GroupStart, GroupWorker, OwnedRecord,
    PutError, ShardId, Stream, StreamReadError,
};
use ringway_harness::{Launch, Stage, TempBus, deadline};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    hold => hold,
}

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

fn group(stream: &Stream) -> Group {
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap()
}

/// Reads with all of them in turn until each has its share.
fn settle(workers: &mut [GroupWorker], shares: &[usize]) {
    let end = Instant::now() + WAIT;
    while workers
        .iter()
        .zip(shares)
        .any(|(worker, share)| worker.leases().count() != *share)
    {
        for worker in workers.iter_mut() {
            worker.keep_alive().unwrap();
        }
        let counts: Vec<_> = workers
            .iter()
            .map(|worker| worker.leases().count())
            .collect();
        assert!(Instant::now() < end, "{counts:?} instead of {shares:?}");
        std::thread::yield_now();
    }
}

fn read(worker: &mut GroupWorker, count: usize) -> Vec<OwnedRecord> {
    let end = Instant::now() + WAIT;
    let mut records = Vec::new();
    while records.len() < count {
        let most = count - records.len();
        worker
            .read_batch(most, Duration::from_millis(5), |record| {
                records.push(record.to_owned())
            })
            .unwrap();
        assert!(Instant::now() < end, "{} of {count} records", records.len());
    }
    records
}

#[test]
fn workers_share_the_shards_and_give_up_what_is_more_than_their_share() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(5).slots(1024).create().unwrap();
    let group = group(&stream);
    let mut workers = vec![group.join().unwrap()];
    settle(&mut workers, &[5]);
    workers.push(group.join().unwrap());
    settle(&mut workers, &[3, 2]);
    let shards: BTreeSet<ShardId> = workers
        .iter()
        .flat_map(|w| w.leases().map(|l| l.shard).collect::<Vec<_>>())
        .collect();
    assert_eq!(shards.len(), 5, "each shard has one worker");
    drop(workers.remove(0));
    settle(&mut workers, &[5]);
    assert_eq!(group.info().unwrap().workers, 1);
}

#[test]
fn a_shard_changes_hands_only_when_what_was_handed_out_is_checkpointed() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).slots(1024).create().unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    for key in ["a", "abc"] {
        producer.put(key, b"first").unwrap();
    }
    let mut workers = vec![group.join().unwrap()];
    settle(&mut workers, &[2]);
    assert_eq!(read(&mut workers[0], 2).len(), 2);
    workers.push(group.join().unwrap());
    for _ in 0..50 {
        for worker in &mut workers {
            worker
                .read_batch(1, Duration::from_millis(1), |_| panic!("nothing is left"))
                .unwrap();
        }
    }
    assert_eq!(
        workers[1].leases().count(),
        0,
        "the first one may still be at its records"
    );
    assert_eq!(workers[0].checkpoint().unwrap(), 2);
    settle(&mut workers, &[1, 1]);
}

#[test]
fn what_was_not_checkpointed_is_read_again_and_nothing_else() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    let puts: Vec<_> = (0..10u8)
        .map(|n| producer.put("k", &[n]).unwrap())
        .collect();
    let mut worker = group.join().unwrap();
    assert_eq!(read(&mut worker, 10).len(), 10);
    worker.checkpoint_at(puts[3].sequence_number).unwrap();
    let refused = worker.checkpoint_at(puts[2].sequence_number).unwrap_err();
    assert!(
        matches!(
            refused,
            CheckpointError::OutOfRange {
                from: 4,
                to: 10,
                ..
            }
        ),
        "{refused}"
    );
    drop(worker);
    let mut worker = group.join().unwrap();
    let again = read(&mut worker, 6);
    assert_eq!(again[0].data, [4]);
    assert_eq!(again[5].data, [9]);
    assert_eq!(worker.checkpoint().unwrap(), 1);
    drop(worker);
    let mut worker = group.join().unwrap();
    producer.put("k", &[10]).unwrap();
    assert_eq!(read(&mut worker, 1)[0].data, [10]);
    assert_eq!(
        worker.leases().next().unwrap().token,
        5,
        "three takings, two givings back"
    );
}

#[test]
fn a_group_holds_producers_back_until_it_has_checkpointed_whoever_lives() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .slots(1024)
        .backpressure(Backpressure::Fail)
        .create()
        .unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    let full = (0..2000).find_map(|_| producer.put("k", b"x").err());
    let Some(PutError::Full {
        group: Some(name), ..
    }) = full
    else {
        panic!("{full:?}");
    };
    assert_eq!(name, "g");
    let mut worker = group.join().unwrap();
    let records = read(&mut worker, 1024);
    assert!(producer.put("k", b"x").is_err(), "read is not checkpointed");
    worker.checkpoint().unwrap();
    let put = producer.put("k", b"x").unwrap();
    assert_eq!(records[0].sequence_number.position(), 0);
    assert_eq!(put.sequence_number.position(), 1024);
    assert!((0..2000).any(|_| producer.put("k", b"x").is_err()));
    assert!(stream.remove_group("g").unwrap());
    for _ in 0..2000 {
        producer
            .put("k", b"a group that is gone holds nobody back")
            .unwrap();
    }
}

#[test]
fn a_removed_group_tells_its_workers() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let group = group(&stream);
    let mut worker = group.join().unwrap();
    settle(core::slice::from_mut(&mut worker), &[1]);
    assert!(stream.remove_group("g").unwrap());
    assert!(!stream.remove_group("g").unwrap());
    let refused = loop {
        if let Err(error) = worker.read_batch(1, Duration::from_millis(1), |_| {}) {
            break error;
        }
    };
    assert!(matches!(refused, StreamReadError::NotMember), "{refused}");
    assert!(matches!(
        stream.group("g").err(),
        Some(GroupError::NoGroup { .. })
    ));
}

#[test]
fn a_latest_group_begins_with_what_is_put_from_then_on() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let mut producer = stream.producer().unwrap();
    producer.put("k", b"before").unwrap();
    let group = stream.group_or_create("late", GroupStart::Latest).unwrap();
    producer.put("k", b"behind").unwrap();
    let mut worker = group.join().unwrap();
    assert_eq!(read(&mut worker, 1)[0].data, b"behind");
}

#[test]
fn a_child_is_read_when_its_parents_are_checkpointed_to_their_end() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(2).slots(1024).create().unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    for n in 0..5u8 {
        producer.put("a", &[n]).unwrap();
        producer.put("abc", &[n]).unwrap();
    }
    stream.merge(ShardId(0), ShardId(1)).unwrap();
    producer.put("a", &[5]).unwrap();
    let mut worker = group.join().unwrap();
    let before = read(&mut worker, 10);
    assert!(before.iter().all(|record| record.shard() < ShardId(2)));
    for _ in 0..20 {
        assert_eq!(
            worker
                .read_batch(1, Duration::from_millis(1), |_| {})
                .unwrap(),
            0,
            "not yet"
        );
    }
    worker.checkpoint().unwrap();
    let after = read(&mut worker, 1);
    assert_eq!(
        (after[0].shard(), &after[0].data[..]),
        (ShardId(2), &[5][..])
    );
    worker.checkpoint().unwrap();
    assert_eq!(stream.retire_closed().unwrap(), 2);
    assert_eq!(stream.stats().unwrap().closed_shards, 0);
    producer.put("abc", &[6]).unwrap();
    assert_eq!(read(&mut worker, 1)[0].data, [6]);
}

#[test]
fn an_empty_shard_in_between_lets_nobody_overtake() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    producer.put("k", &[0]).unwrap();
    // Split and merged again, with nothing put in between: two shards that never held anything.
    let [low, high] = stream.split(ShardId(0), None).unwrap();
    stream.merge(low, high).unwrap();
    producer.put("k", &[1]).unwrap();
    let mut worker = group.join().unwrap();
    assert_eq!(read(&mut worker, 1)[0].data, [0]);
    for _ in 0..20 {
        let read = worker.read_batch(1, Duration::from_millis(1), |_| {});
        assert_eq!(read.unwrap(), 0, "the first record is not checkpointed");
    }
    worker.checkpoint().unwrap();
    assert_eq!(read(&mut worker, 1)[0].data, [1]);
    assert_eq!(stream.retire_closed().unwrap(), 3);
}

#[test]
fn a_worker_that_shows_no_sign_is_fenced_and_its_late_checkpoint_refused() {
    let (_root, bus) = bus();
    let stream = bus
        .stream("s")
        .slots(1024)
        .lease_timeout(Duration::from_millis(100))
        .create()
        .unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    for n in 0..10u8 {
        producer.put("k", &[n]).unwrap();
    }
    let mut late = group.join().unwrap();
    assert_eq!(read(&mut late, 6).len(), 6);
    // It does not come back to its group any more; the other takes over, and reads from the start.
    let mut other = group.join().unwrap();
    let records = read(&mut other, 10);
    assert_eq!(records[0].data, [0]);
    other.checkpoint_at(records[7].sequence_number).unwrap();
    let refused = late.checkpoint().unwrap_err();
    assert!(
        matches!(&refused, CheckpointError::Fenced { shards } if shards == &[ShardId(0)]),
        "{refused}"
    );
    assert_eq!(
        group.info().unwrap().shards[0].checkpoint.position(),
        8,
        "what the other one said stands"
    );
}

/// Reads three records and never checkpoints.
fn hold(stage: &Stage) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let root = std::path::PathBuf::from(stage.text("root"));
    let bus = Bus::builder("test")
        .root(root)
        .open()
        .map_err(|e| text(&e))?;
    let stream = bus.stream("s").open().map_err(|e| text(&e))?;
    let group = stream.group("g").map_err(|e| text(&e))?;
    let mut worker = group.join().map_err(|e| text(&e))?;
    let mut count = 0;
    while count < 3 {
        let read = worker.read_batch(3 - count, Duration::from_millis(5), |_| {});
        count += read.map_err(|e| text(&e))?;
    }
    stage.board("held").set(0, 1);
    loop {
        worker.keep_alive().map_err(|e| text(&e))?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_shards_of_a_dead_worker_move_as_soon_as_the_kernel_says_so() {
    let (root, bus) = bus();
    // Only its death can move them within the test.
    let builder = bus
        .stream("s")
        .slots(1024)
        .lease_timeout(Duration::from_secs(3600));
    let stream = builder.create().unwrap();
    let group = group(&stream);
    let mut producer = stream.producer().unwrap();
    for n in 0..3u8 {
        producer.put("k", &[n]).unwrap();
    }
    let held = ringway_harness::AckBoard::new(1).unwrap();
    let launch = Launch::role("hold")
        .set("root", root.path().display())
        .board("held", &held);
    let mut victim = launch.spawn().unwrap();
    held.await_at_least(0, 1, &victim, "three records").unwrap();
    let mut worker = group.join().unwrap();
    assert_eq!(
        worker
            .read_batch(1, Duration::from_millis(30), |_| {})
            .unwrap(),
        0,
        "it lives"
    );
    victim.kill().unwrap();
    let end = Instant::now() + deadline();
    let mut again = Vec::new();
    while again.len() < 3 {
        worker
            .read_batch(3, Duration::from_millis(5), |record| {
                again.push(record.data[0])
            })
            .unwrap();
        assert!(Instant::now() < end, "its records do not come back");
    }
    assert_eq!(again, [0, 1, 2]);
}

#[test]
fn a_shard_that_a_worker_found_no_seat_in_is_read_when_there_is_one() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").slots(1024).readers(1).create().unwrap();
    stream.producer().unwrap().put("k", b"data").unwrap();
    let group = group(&stream);
    let seated = stream.reader().open().unwrap();
    let mut worker = group.join().unwrap();
    let refused = worker.try_read_batch(1, |_| {}).unwrap_err();
    assert!(matches!(refused, StreamReadError::Join { .. }), "{refused}");
    drop(seated);
    assert_eq!(read(&mut worker, 1).len(), 1);
}

#[test]
fn no_worker_is_left_without_a_shard_while_another_has_two() {
    let (_root, bus) = bus();
    let stream = bus.stream("s").shards(5).slots(1024).create().unwrap();
    let group = group(&stream);
    let mut workers: Vec<_> = (0..3).map(|_| group.join().unwrap()).collect();
    let share = |workers: &mut [GroupWorker], wanted: &[usize]| {
        let end = Instant::now() + WAIT;
        loop {
            for worker in workers.iter_mut() {
                worker.keep_alive().unwrap();
            }
            let shares = workers.iter().map(|worker| worker.leases().count());
            let mut shares: Vec<_> = shares.collect();
            shares.sort();
            if shares == wanted {
                return;
            }
            assert!(Instant::now() < end, "{shares:?} instead of {wanted:?}");
            std::thread::yield_now();
        }
    };
    share(&mut workers, &[1, 2, 2]);
    workers.push(group.join().unwrap());
    share(&mut workers, &[1, 1, 1, 2]);
}
