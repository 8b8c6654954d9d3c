//! Commit × read, and a copy under an overwrite.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Found, Nothing, Sent, World, copy, copy_short, send, send_once};
use loom::thread;
use ringway::ring::claim::Appender;
use ringway::ring::{Overflow, Producers, SlotRing};

fn see_one_commit(producers: Producers) -> String {
    let world = World::new(2, 1, producers, Overflow::Refuse);
    let (a, c) = (world.ring(A), world.ring(C));
    let a = thread::spawn(move || assert_eq!(send_once(&a, 10), Sent::At(0)));
    let found = copy(&c, 0);
    a.join().unwrap();
    format!("{found:?}")
}

#[test]
fn a_record_is_seen_whole_or_not_at_all() {
    explore(
        "read::a_record_is_seen_whole_or_not_at_all",
        Depth::Exhaustive,
        [
            allowed("End", "not claimed yet"),
            allowed("Pending", "claimed and not committed"),
            allowed("Body(10)", "the record"),
            forbidden("Body(0)", "a committed record without its body"),
            forbidden(
                "Gone { lagged: false }",
                "a committed record without its header",
            ),
        ],
        || see_one_commit(Producers::Shared),
    );
}

#[test]
fn a_record_of_an_exclusive_producer_is_seen_whole_or_not_at_all() {
    explore(
        "read::a_record_of_an_exclusive_producer_is_seen_whole_or_not_at_all",
        Depth::Exhaustive,
        [
            allowed("End", "not claimed yet"),
            allowed("Pending", "claimed and not committed"),
            allowed("Body(10)", "the record"),
            forbidden("Body(0)", "a committed record without its body"),
            forbidden(
                "Gone { lagged: false }",
                "a committed record without its header",
            ),
        ],
        || see_one_commit(Producers::Exclusive),
    );
}

/// The slot of position 0 is overwritten by position 1 while a lossy reader copies it.
fn copy_under_an_overwrite(producers: Producers, by: fn(&SlotRing, u64) -> Found) -> String {
    let world = World::new(1, 1, producers, Overflow::DropOldest);
    let (a, c) = (world.ring(A), world.ring(C));
    let mut appender = Appender::new(&a);
    assert_eq!(send(&a, &mut appender, 10), Sent::At(0));
    let a = thread::spawn(move || assert_eq!(send(&a, &mut appender, 20), Sent::At(1)));
    let mut found = by(&c, 0);
    if found == Found::Torn {
        found = copy(&c, 0);
        assert!(
            !matches!(found, Found::Body(_)),
            "a record that was torn is whole again"
        );
    }
    a.join().unwrap();
    format!("{found:?}")
}

#[test]
fn a_copy_under_an_overwrite_is_found_out_and_told() {
    explore(
        "read::a_copy_under_an_overwrite_is_found_out_and_told",
        Depth::Exhaustive,
        [
            allowed("Body(10)", "the copy was finished in time"),
            allowed(
                "Gone { lagged: true }",
                "overwritten, and the reader is told",
            ),
            forbidden("Body(20)", "the body of another record"),
            forbidden(
                "Gone { lagged: false }",
                "a record was missed and nobody said so",
            ),
        ],
        || copy_under_an_overwrite(Producers::Shared, copy),
    );
}

#[test]
fn a_copy_under_an_exclusive_overwrite_is_found_out_and_told() {
    explore(
        "read::a_copy_under_an_exclusive_overwrite_is_found_out_and_told",
        Depth::Exhaustive,
        [
            allowed("Body(10)", "the copy was finished in time"),
            allowed(
                "Gone { lagged: true }",
                "overwritten, and the reader is told",
            ),
            forbidden("Body(20)", "the body of another record"),
            forbidden(
                "Gone { lagged: false }",
                "a record was missed and nobody said so",
            ),
        ],
        || copy_under_an_overwrite(Producers::Exclusive, copy),
    );
}

#[test]
fn a_copy_by_the_short_way_is_found_out_and_told() {
    explore(
        "read::a_copy_by_the_short_way_is_found_out_and_told",
        Depth::Exhaustive,
        [
            allowed("Body(10)", "the copy was finished in time"),
            allowed(
                "Gone { lagged: true }",
                "overwritten, and the reader is told",
            ),
            forbidden("Body(20)", "the body of another record"),
            forbidden(
                "Gone { lagged: false }",
                "a record was missed and nobody said so",
            ),
        ],
        || copy_under_an_overwrite(Producers::Exclusive, copy_short),
    );
}

/// A drops the oldest record, B takes its slot by what A reclaimed, C meets the claim of B.
#[test]
fn what_another_producer_dropped_is_told() {
    explore(
        "read::what_another_producer_dropped_is_told",
        Depth::Exhaustive,
        [
            allowed("Body(10)", "the copy was finished in time"),
            allowed(
                "Gone { lagged: true }",
                "overwritten, and the reader is told",
            ),
            allowed("Torn", "overwritten under the copy; the next look tells"),
            forbidden("Body(20)", "the body of another record"),
            forbidden(
                "Gone { lagged: false }",
                "a record was missed and nobody said so",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::DropOldest);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            assert_eq!(send_once(&c, 10), Sent::At(0));
            let (mut next_a, mut next_b) = (Appender::new(&a), Appender::new(&b));
            let c = thread::spawn(move || copy(&c, 0));
            next_a.reclaim_all(&a, &mut Nothing);
            // B starts here, so it surely sees what A reclaimed, and makes no fence of its own.
            let b = thread::spawn(move || send(&b, &mut next_b, 20));
            assert_eq!(b.join().unwrap(), Sent::At(1));
            format!("{:?}", c.join().unwrap())
        },
    );
}
