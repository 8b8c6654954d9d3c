//! Claim, commit, abandon, acknowledge.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{
    A, B, C, Found, Nothing, STALLED, Sent, World, commit, copy, fill, send, send_once,
};
use loom::thread;
use ringway::ring::Overflow;
use ringway::ring::claim::Appender;
use ringway::ring::commit::Lost;
use ringway::ring::read::Look;
use ringway::ring::seat::Start;

#[test]
fn two_producers_never_own_the_same_slot() {
    explore(
        "append::two_producers_never_own_the_same_slot",
        Depth::Exhaustive,
        [
            allowed("A at 0, B at 1", "A was first"),
            allowed("A at 1, B at 0", "B was first"),
            forbidden("A at 0, B at 0", "one position was given out twice"),
            forbidden("A at 1, B at 1", "one position was given out twice"),
        ],
        || {
            let world = World::shared(2, 1, Overflow::Refuse);
            let (a, b) = (world.ring(A), world.ring(B));
            let a = thread::spawn(move || send_once(&a, 10));
            let b_sent = send_once(&b, 20);
            let a_sent = a.join().unwrap();
            let reader = world.ring(C);
            for (sent, body) in [(a_sent, 10), (b_sent, 20)] {
                let Sent::At(position) = sent else {
                    panic!("{sent:?} in an empty ring")
                };
                assert_eq!(copy(&reader, position), Found::Body(body), "at {position}");
            }
            format!("A {a_sent}, B {b_sent}")
        },
    );
}

#[test]
fn a_slot_whose_record_was_read_is_claimed_by_one_of_two() {
    explore(
        "append::a_slot_whose_record_was_read_is_claimed_by_one_of_two",
        Depth::Large,
        [
            allowed("A sent, B full", "A was first; its record is unread"),
            allowed("A full, B sent", "B was first; its record is unread"),
            allowed(
                "A sent, B Abandoned",
                "A came round to the claim of B and left it held",
            ),
            allowed(
                "A Abandoned, B sent",
                "B came round to the claim of A and left it held",
            ),
            allowed(
                "A full, B Abandoned",
                "A stepped over the claim of B until it gave up",
            ),
            allowed(
                "A Abandoned, B full",
                "B stepped over the claim of A until it gave up",
            ),
            forbidden(
                "A sent, B sent",
                "one of them overwrote what the reader has not read",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let reader = world.ring(C);
            let (seat, _) = reader.join(true, Start::Earliest).unwrap();
            assert_eq!(send_once(&reader, 5), Sent::At(0));
            reader.publish_cursor(&seat, 1);
            let (a, b) = (world.ring(A), world.ring(B));
            let a = thread::spawn(move || send_once(&a, 10));
            let b_sent = send_once(&b, 20);
            let a_sent = a.join().unwrap();
            for (sent, body) in [(a_sent, 10), (b_sent, 20)] {
                if let Sent::At(position) = sent {
                    assert_eq!(copy(&reader, position), Found::Body(body), "at {position}");
                }
            }
            format!("A {}, B {}", a_sent.outcome(), b_sent.outcome())
        },
    );
}

/// A has claimed the only slot and is slow; B comes round to it; C waits for it and abandons it.
#[test]
fn a_stalled_claim_is_stepped_over_and_given_back() {
    explore(
        "append::a_stalled_claim_is_stepped_over_and_given_back",
        Depth::Large,
        [
            allowed(
                "A sent and dropped, B sent",
                "A committed in time; B dropped the oldest",
            ),
            allowed(
                "A Abandoned, B sent",
                "A gave its slot back and B took it a lap later",
            ),
            allowed(
                "A Abandoned, B full",
                "B renewed the held slot until it gave up",
            ),
            forbidden("A sent, B sent", "two records stand in one slot"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::DropOldest);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let mut appender = Appender::new(&a);
            let claim = appender.claim(&a, &mut Nothing).unwrap();
            let mut next = Appender::new(&b);
            let b = thread::spawn(move || send(&b, &mut next, 20));
            let c = thread::spawn(move || {
                if let (_, Look::Pending(word)) = c.look(0) {
                    c.resolve(0, word, STALLED);
                }
            });
            fill(&a, &claim, 10);
            let a_sent = commit(&a, &mut appender, claim);
            let b_sent = b.join().unwrap();
            c.join().unwrap();
            let reader = world.ring(C);
            let left = copy(&reader, 0);
            let dropped = match left {
                Found::Gone { lagged: true } => " and dropped",
                Found::Body(10) | Found::Gone { lagged: false } => "",
                _ => panic!("{left:?} at 0"),
            };
            if let Sent::At(position) = b_sent {
                assert_eq!(copy(&reader, position), Found::Body(20), "at {position}");
            }
            format!("A {}{dropped}, B {}", a_sent.outcome(), b_sent.outcome())
        },
    );
}

/// A has claimed position 1 and commits it; B is at position 2 of the same slot.
#[test]
fn a_record_is_judged_by_its_own_header() {
    explore(
        "append::a_record_is_judged_by_its_own_header",
        Depth::Exhaustive,
        [
            allowed(
                "A sent, B full",
                "the record of A is unread, or its claim was stepped over",
            ),
            allowed(
                "A Abandoned, B full",
                "B stepped over the claim of A until it gave up",
            ),
            allowed(
                "A Abandoned, B sent",
                "A gave its slot back and B took it a lap later",
            ),
            forbidden(
                "A sent, B sent",
                "B took the unread record for the one before, long read",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let (seat, _) = c.join(true, Start::Earliest).unwrap();
            assert_eq!(send_once(&c, 5), Sent::At(0));
            c.publish_cursor(&seat, 1);
            let mut appender = Appender::new(&a);
            let claim = appender.claim(&a, &mut Nothing).unwrap();
            let mut next = Appender::new(&b);
            let b = thread::spawn(move || send(&b, &mut next, 20));
            fill(&a, &claim, 10);
            let a_sent = commit(&a, &mut appender, claim);
            format!("A {}, B {}", a_sent.outcome(), b.join().unwrap().outcome())
        },
    );
}

/// The claim of A was abandoned; A learns it and gives the slot back; B is one lap behind it.
#[test]
fn a_slot_given_back_is_written_by_the_next_owner_alone() {
    explore(
        "append::a_slot_given_back_is_written_by_the_next_owner_alone",
        Depth::Exhaustive,
        [
            allowed("B sent", "A had given the slot back"),
            allowed("B full", "B renewed the held slot until it gave up"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let mut appender = Appender::new(&a);
            let claim = appender.claim(&a, &mut Nothing).unwrap();
            let mut next = Appender::new(&b);
            let (_, Look::Pending(word)) = c.look(0) else {
                panic!("A has claimed 0")
            };
            assert!(c.resolve(0, word, STALLED));
            let b = thread::spawn(move || send(&b, &mut next, 20));
            fill(&a, &claim, 10);
            let a_sent = commit(&a, &mut appender, claim);
            assert_eq!(a_sent, Sent::Lost(Lost::Abandoned));
            let b_sent = b.join().unwrap();
            if let Sent::At(position) = b_sent {
                assert_eq!(copy(&c, position), Found::Body(20));
            }
            assert_eq!(copy(&c, 0), Found::Gone { lagged: false });
            format!("B {}", b_sent.outcome())
        },
    );
}
