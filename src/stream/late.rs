//! What those leave who stopped in the middle of a change and came back late, made by hand: each test is one
//! interleaving, or one word that somebody wrote over.
#![cfg(all(test, not(loom)))]

use super::file::create_shard;
use super::lease::{checkpoint, place};
use super::{Aggregation, Backpressure, GroupStart, PutRecord, Stream};
use crate::Bus;
use crate::error::{OpenError, PutError, ReadError, ReshardError, SendError, ShardId};
use crate::layout::ring::NO_PIN;
use crate::layout::stream::{MERGE, NO_SHARD, RETIRE, SPLIT, WishEntry};
use crate::layout::word::{Lease, Role, Shard};
use crate::ring::Producers;
use crate::sync::Ordering::SeqCst;
use ringway_harness::TempBus;

const SLOTS: u64 = 1024;

fn stream(backpressure: Backpressure) -> (TempBus, Stream) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("late").root(root.path()).pre_touch(false);
    let bus = bus.create().unwrap();
    let stream = bus.stream("s").slots(SLOTS).backpressure(backpressure);
    (root, stream.create().unwrap())
}

/// Puts until there is no room, at most two laps; how many.
fn fill(stream: &Stream) -> u64 {
    let mut producer = stream.producer().unwrap();
    let mut put = 0;
    while put < 2 * SLOTS {
        match producer.put("k", b"data") {
            Ok(_) => put += 1,
            Err(PutError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    put
}

#[test]
fn a_group_that_is_just_being_made_is_not_taken_for_one_that_was_removed() {
    let (_root, stream) = stream(Backpressure::Fail);
    let inner = &stream.inner;
    stream
        .group_or_create("first", GroupStart::TrimHorizon)
        .unwrap();
    stream
        .group_or_create("second", GroupStart::TrimHorizon)
        .unwrap();
    // As its maker left it: it holds the shard, and is not there yet.
    let made = inner.words.group(1).swap(0, SeqCst);
    assert_eq!(
        fill(&stream),
        SLOTS,
        "a full shard is looked at by its producer"
    );
    inner.words.group(1).store(made, SeqCst);
    stream.remove_group("first").unwrap();
    assert_eq!(fill(&stream), 0, "the second group has not read a record");
}

#[test]
fn a_group_whose_hold_was_lost_has_it_again_with_its_next_checkpoint() {
    let (_root, stream) = stream(Backpressure::Fail);
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    fill(&stream);
    let channel = stream.inner.ring(0).unwrap();
    place(&channel.inner.ring, 0).cursor.store(NO_PIN, SeqCst);
    let mut worker = group.join().unwrap();
    assert_eq!(worker.try_read_batch(10, |_| {}).unwrap(), 10);
    worker.checkpoint().unwrap();
    assert_eq!(place(&channel.inner.ring, 0).cursor.load(SeqCst), 10);
}

#[test]
fn a_group_begins_with_the_oldest_record_although_that_goes_while_it_is_made() {
    let (_root, stream) = stream(Backpressure::Fail);
    assert_eq!(fill(&stream), 2 * SLOTS);
    let ring = stream.inner.ring(0).unwrap();
    let ring = &ring.inner.ring;
    let trim = ring.memory().trim().load(SeqCst);
    assert!(trim > 0);
    // Its maker had looked before all that was put.
    stream.inner.protect(0, 0, 0).unwrap();
    assert_eq!(checkpoint(ring, 0), Some(trim), "nothing was kept from it");
    assert_eq!(place(ring, 0).cursor.load(SeqCst), trim);
}

#[test]
fn a_shard_that_a_group_has_not_read_is_not_given_back_whoever_looked_before_the_group_was_made() {
    let (_root, stream) = stream(Backpressure::Fail);
    fill(&stream);
    stream.split(ShardId(0), None).unwrap();
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    // The retirement that was decided on without the group.
    assert!(!stream.inner.retire(ShardId(0)).unwrap());
    assert_eq!(stream.retire_closed().unwrap(), 0);
}

#[test]
fn a_lease_of_a_worker_that_is_not_there_is_nobodys() {
    let (_root, stream) = stream(Backpressure::Fail);
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    fill(&stream);
    let channel = stream.inner.ring(0).unwrap();
    for owner in [1, 7, 64, 1023] {
        let lease = place(&channel.inner.ring, 0).lease;
        let token = Lease(lease.load(SeqCst)).token();
        lease.store(Lease::new(Lease::HELD, owner, token + 1).0, SeqCst);
        let mut worker = group.join().unwrap();
        // A worker has the first entry, so the first lease is its own that it does not know of.
        assert_eq!(worker.try_read_batch(1, |_| {}).unwrap(), 1, "{owner}");
    }
}

#[test]
fn a_worker_that_says_it_was_seen_in_the_future_keeps_nothing_by_that() {
    let (_root, stream) = stream(Backpressure::Fail);
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    fill(&stream);
    let mut stopped = group.join().unwrap();
    assert_eq!(stopped.try_read_batch(1, |_| {}).unwrap(), 1);
    let seen = stream.inner.words.seen_ms(0, 0);
    let mut other = group.join().unwrap();
    assert_eq!(other.try_read_batch(1, |_| {}).unwrap(), 0);
    seen.store(u64::MAX, SeqCst);
    // Or it would look again in ten milliseconds.
    stream.inner.words.changes(0).fetch_add(1, SeqCst);
    assert_eq!(other.try_read_batch(1, |_| {}).unwrap(), 1);
}

/// What everybody goes on with: a change whose wish was written over.
fn wish(stream: &Stream, wish: WishEntry) {
    let inner = &stream.inner;
    let operation = inner.words.operation();
    let begun = Role(operation.load(SeqCst)).taken(1, 900);
    inner.words.set_wish(900, &wish);
    operation.store(begun.0, SeqCst);
}

#[test]
fn a_wish_that_cant_be_granted_ends_and_leaves_the_stream_as_it_was() {
    let (_root, stream) = stream(Backpressure::Fail);
    stream.split(ShardId(0), None).unwrap();
    let before = stream.shards().unwrap();
    let nothing: WishEntry = bytemuck::Zeroable::zeroed();
    let split = WishEntry {
        kind: SPLIT,
        first: 1,
        second: NO_SHARD,
        at: [0, 1 << 62],
        ..nothing
    };
    let merge = WishEntry {
        kind: MERGE,
        first: 1,
        second: 2,
        ..nothing
    };
    for child in [2, 3, 500, 2046, 2047, 2048, u32::MAX - 1, u32::MAX] {
        for impossible in [WishEntry { child, ..split }, WishEntry { child, ..merge }] {
            wish(&stream, impossible);
            assert_eq!(stream.shards().unwrap(), before, "{impossible:?}");
        }
    }
    let open = WishEntry {
        kind: RETIRE,
        first: 1,
        ..nothing
    };
    wish(&stream, open);
    assert_eq!(
        stream.shards().unwrap(),
        before,
        "an open shard keeps its memory"
    );
    let mut producer = stream.producer().unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        producer.put(key, b"still").unwrap();
    }
    assert_eq!(
        stream.split(ShardId(1), None).unwrap(),
        [ShardId(3), ShardId(4)]
    );
}

#[test]
fn the_checkpoint_of_a_worker_whose_group_was_removed_is_refused() {
    let (_root, stream) = stream(Backpressure::Fail);
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    fill(&stream);
    let mut worker = group.join().unwrap();
    assert_eq!(worker.try_read_batch(3, |_| {}).unwrap(), 3);
    stream.remove_group("g").unwrap();
    let refused = worker.checkpoint().unwrap_err();
    assert!(
        matches!(refused, crate::CheckpointError::Fenced { .. }),
        "{refused}"
    );
}

#[test]
fn a_worker_whose_lease_passed_on_while_it_stood_still_is_not_told_of_what_the_next_one_read() {
    let (_root, stream) = stream(Backpressure::Fail);
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    fill(&stream);
    let mut worker = group.join().unwrap();
    assert_eq!(worker.try_read_batch(3, |_| {}).unwrap(), 3);
    let lagged = || ReadError::Lagged { from: 3, to: 9 };
    assert!(worker.told(0, lagged()).is_some());
    let channel = stream.inner.ring(0).unwrap();
    let lease = place(&channel.inner.ring, 0).lease;
    lease.store(Lease(lease.load(SeqCst)).taken(9).0, SeqCst);
    assert!(worker.told(0, lagged()).is_none());
}

#[test]
fn a_change_that_scribbled_words_do_not_allow_is_refused_and_not_wished_for_ever() {
    let (_root, stream) = stream(Backpressure::Fail);
    stream.split(ShardId(0), None).unwrap();
    // The place of the next shard says that there was one.
    let word = stream.inner.words.shard(3);
    word.store(Shard::at(Shard::CLOSED).0, SeqCst);
    let refused = stream.update_shard_count(5).unwrap_err();
    assert!(
        matches!(refused, ReshardError::Open(OpenError::Scribbled { .. })),
        "{refused}"
    );
    assert!(stream.split(ShardId(1), None).is_err());
    assert_eq!(stream.shards().unwrap().len(), 3);
}

#[test]
fn a_seal_that_nobody_wished_is_met_a_thousand_times_and_no_more() {
    let (_root, stream) = stream(Backpressure::Fail);
    let channel = stream.inner.ring(0).unwrap();
    channel.inner.ring.seal(0).unwrap();
    let mut producer = stream.producer().unwrap();
    let busy = |error: PutError| matches!(error, PutError::Busy { .. });
    assert!(busy(producer.put("k", b"data").unwrap_err()));
    let batch = producer.put_batch(&[PutRecord::new("k", b"data")]);
    assert!(batch.into_iter().all(|outcome| busy(outcome.unwrap_err())));
    let mut producer = producer.aggregating(Aggregation::default());
    producer.put("k", b"data").unwrap();
    assert!(busy(producer.flush().unwrap_err()));
}

#[test]
fn an_operation_word_of_all_ones_is_no_version_of_a_table() {
    let (_root, stream) = stream(Backpressure::Fail);
    stream.inner.words.operation().store(u64::MAX, SeqCst);
    stream.producer().unwrap().put("k", b"data").unwrap();
    assert_eq!(stream.shards().unwrap().len(), 1);
}

/// A stream of one shard with exclusive producers.
fn exclusive() -> (TempBus, Stream) {
    let (root, stream) = stream(Backpressure::Fail);
    let bus = Bus::builder("late").root(root.path()).open().unwrap();
    drop(stream);
    let stream = bus.stream("e").slots(SLOTS).producers(Producers::Exclusive);
    let stream = stream.create().unwrap();
    (root, stream)
}

/// The producer word of the first shard passes on, as it does from one whose lock is gone.
fn displace(stream: &Stream) -> u64 {
    let channel = stream.inner.ring(0).unwrap();
    let word = channel.inner.ring.memory().producer();
    let next = Role(word.load(SeqCst)).taken(1, 900).0;
    word.store(next, SeqCst);
    next
}

#[test]
fn an_exclusive_producer_that_was_taken_for_dead_puts_no_more_and_leaves_the_word_to_the_next() {
    let (_root, stream) = exclusive();
    let mut producer = stream.producer().unwrap();
    producer.put("k", b"before").unwrap();
    let word = displace(&stream);
    let is_stale = |error: &PutError| {
        matches!(
            error,
            PutError::Send {
                source: SendError::Stale,
                ..
            }
        )
    };
    let refused = producer.put("k", b"data").unwrap_err();
    assert!(is_stale(&refused), "{refused}");
    let batch = producer.put_batch(&[PutRecord::new("k", b"data"), PutRecord::new("l", b"data")]);
    assert!(is_stale(batch[0].as_ref().unwrap_err()), "{batch:?}");
    assert!(batch[1].is_err(), "it would be read before the first");
    drop(producer);
    let channel = stream.inner.ring(0).unwrap();
    let ring = &channel.inner.ring;
    assert_eq!(ring.memory().producer().load(SeqCst), word);
    assert_eq!(ring.tail_now(), 1, "nothing was put behind it");
}

#[test]
fn what_an_exclusive_producer_fills_while_it_is_taken_for_dead_is_never_seen() {
    let (_root, stream) = exclusive();
    let channel = stream.inner.ring(0).unwrap();
    let ring = &channel.inner.ring;
    let mut producer = channel.producer().unwrap();
    producer.try_send(b"a record").unwrap();
    let sent = producer.try_send_with(8, |out| {
        out.fill(1);
        displace(&stream);
    });
    assert!(matches!(sent, Err(SendError::Stale)), "{sent:?}");
    assert!(matches!(
        producer.try_send(b"another!"),
        Err(SendError::Stale)
    ));
    assert!(matches!(
        producer.try_send_batch(&[b"another!"]),
        Err(SendError::Stale)
    ));
    assert!(matches!(
        ring.look(1).1,
        crate::ring::read::Look::Pending(_)
    ));
    assert!(matches!(ring.look(2).1, crate::ring::read::Look::End));
}

#[test]
fn a_change_of_shards_that_somebody_scribbled_into_an_exclusive_stream_seals_none_of_them() {
    let (_root, stream) = exclusive();
    let inner = &stream.inner;
    for child in [1, 2] {
        create_shard(&inner.site, &inner.definition, inner.family, child).unwrap();
    }
    let mut producer = stream.producer().unwrap();
    producer.put("k", b"before").unwrap();
    let before = stream.shards().unwrap();
    let scribbled = WishEntry {
        kind: SPLIT,
        first: 0,
        second: NO_SHARD,
        child: 1,
        at: [0, 1 << 62],
        ..bytemuck::Zeroable::zeroed()
    };
    wish(&stream, scribbled);
    assert_eq!(stream.shards().unwrap(), before);
    assert_eq!(producer.put("k", b"behind").unwrap().shard, ShardId(0));
    let refused = stream.split(ShardId(0), None).unwrap_err();
    assert!(matches!(refused, ReshardError::Exclusive), "{refused}");
}
