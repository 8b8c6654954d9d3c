//! Batches: runs of claims, commits and glances that go from slot to slot by an addition.
//!
//! A run knows before it starts how far it may go ([`Appender::is_clear`]); what it meets on the
//! way it has to notice by each slot's own word.

use crate::explore::{Depth, Expect, allowed, explore, forbidden};
use crate::world::{
    A, B, C, Found, Nothing, STALLED, Sent, World, clear_from_the_start, commit, copy, copy_run,
    fill, send, send_batch, send_once, view_run,
};
use loom::thread;
use ringway::ring::claim::Appender;
use ringway::ring::commit::Lost;
use ringway::ring::read::Look;
use ringway::ring::seat::Start;
use ringway::ring::{Overflow, Producers};

#[test]
fn a_run_shares_its_positions_with_nobody() {
    explore(
        "batch::a_run_shares_its_positions_with_nobody",
        Depth::Exhaustive,
        [
            allowed("A at [1, 2], B at 3", "B came behind the batch"),
            allowed("A at [1, 3], B at 2", "B came into the batch"),
            allowed("A at [2, 3], B at 1", "B came before the batch"),
            forbidden("A at [1, 2], B at 1", "one position was given out twice"),
            forbidden("A at [1, 2], B at 2", "one position was given out twice"),
        ],
        || {
            let world = World::shared(4, 1, Overflow::Refuse);
            let (a, b) = (world.ring(A), world.ring(B));
            let mut run = clear_from_the_start(&a);
            let mut one = Appender::new(&b);
            let b = thread::spawn(move || send(&b, &mut one, 20));
            let a_sent = send_batch(&a, &mut run, &[11, 12]);
            let Sent::At(b_sent) = b.join().unwrap() else {
                panic!("there is room for three")
            };
            let reader = world.ring(C);
            let sent = a_sent.iter().zip([11, 12]).chain([(&b_sent, 20)]);
            for (position, body) in sent {
                assert_eq!(
                    copy(&reader, *position),
                    Found::Body(body),
                    "at {position}; A {a_sent:?}, B {b_sent}"
                );
            }
            format!("A at {a_sent:?}, B at {b_sent}")
        },
    );
}

#[test]
fn two_runs_share_no_position() {
    explore(
        "batch::two_runs_share_no_position",
        Depth::Large,
        [
            allowed("A at [2, 3], B at [4, 5]", "one behind the other"),
            allowed("A at [2, 4], B at [3, 5]", "in turns"),
            allowed("A at [2, 5], B at [3, 4]", "B within A"),
            allowed("A at [3, 4], B at [2, 5]", "A within B"),
            allowed("A at [3, 5], B at [2, 4]", "in turns"),
            allowed("A at [4, 5], B at [2, 3]", "one behind the other"),
        ],
        || {
            let world = World::shared(8, 1, Overflow::Refuse);
            let (a, b) = (world.ring(A), world.ring(B));
            let mut run_a = clear_from_the_start(&a);
            let mut run_b = Appender::new(&b);
            run_b.reclaim_all(&b, &mut Nothing);
            assert_eq!(send(&b, &mut run_b, 20), Sent::At(1));
            assert!(run_b.is_clear());
            let b = thread::spawn(move || send_batch(&b, &mut run_b, &[21, 22]));
            // Stands at 1 and meets the record of B first.
            let a_sent = send_batch(&a, &mut run_a, &[11, 12]);
            let b_sent = b.join().unwrap();
            let reader = world.ring(C);
            let sent = a_sent
                .iter()
                .zip([11, 12])
                .chain(b_sent.iter().zip([21, 22]));
            for (position, body) in sent {
                assert_eq!(copy(&reader, *position), Found::Body(body), "at {position}");
            }
            format!("A at {a_sent:?}, B at {b_sent:?}")
        },
    );
}

/// C waits for the claims of a batch and abandons what it meets.
#[test]
fn a_claim_of_a_run_that_is_abandoned_is_sent_again_behind() {
    explore(
        "batch::a_claim_of_a_run_that_is_abandoned_is_sent_again_behind",
        Depth::Exhaustive,
        [
            allowed("sent [1, 2]", "C met no claim, or the commit was first"),
            allowed("sent [2, 3]", "the first claim was abandoned"),
            allowed("sent [1, 3]", "the second claim was abandoned"),
            allowed("sent [3, 4]", "the first was abandoned, and sent again too"),
            forbidden("sent [1, 1]", "an abandoned position was filled"),
        ],
        || {
            let world = World::shared(4, 1, Overflow::DropOldest);
            let (a, c) = (world.ring(A), world.ring(C));
            let mut run = clear_from_the_start(&a);
            let c = thread::spawn(move || {
                let mut abandoned = Vec::new();
                for position in [1, 2] {
                    if let (_, Look::Pending(word)) = c.look(position)
                        && c.resolve(position, word, STALLED)
                    {
                        abandoned.push(position);
                    }
                }
                abandoned
            });
            let sent = send_batch(&a, &mut run, &[11, 12]);
            c.join().unwrap();
            let reader = world.ring(C);
            for position in 1..=4 {
                let at = sent.iter().position(|sent| *sent == position);
                let found = copy(&reader, position);
                match (at, found) {
                    (Some(0), Found::Body(11)) | (Some(1), Found::Body(12)) => {}
                    (None, Found::End | Found::Gone { lagged: false }) => {}
                    other => panic!("at {position}: {other:?}, sent {sent:?}"),
                }
            }
            format!("sent {sent:?}")
        },
    );
}

/// The claim of A was abandoned; A learns it and gives the slot back; the run of B comes to it one
/// lap later and knows that everything was read.
#[test]
fn a_run_takes_a_slot_only_when_it_was_given_back() {
    explore(
        "batch::a_run_takes_a_slot_only_when_it_was_given_back",
        Depth::Exhaustive,
        [
            allowed("B at [3]", "A had given the slot back"),
            allowed(
                "B at []",
                "B stepped over the held slot and met its own record",
            ),
        ],
        || {
            let world = World::shared(2, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let (seat, _) = c.join(true, Start::Earliest).unwrap();
            assert_eq!(send_once(&b, 10), Sent::At(0));
            let mut slow = Appender::new(&a);
            let claim = slow.claim(&a, &mut Nothing).unwrap();
            let (_, Look::Pending(word)) = c.look(1) else {
                panic!("A has claimed 1")
            };
            assert!(c.resolve(1, word, STALLED));
            c.publish_cursor(&seat, 2);
            // Past its own record and the held slot, into the second lap, of which all is free.
            let mut run = Appender::new(&b);
            run.reclaim_all(&b, &mut Nothing);
            assert_eq!(send(&b, &mut run, 20), Sent::At(2));
            assert!(run.is_clear());
            let b = thread::spawn(move || send_batch(&b, &mut run, &[21]));
            fill(&a, &claim, 11);
            let a_sent = commit(&a, &mut slow, claim);
            assert_eq!(a_sent, Sent::Lost(Lost::Abandoned));
            let b_sent = b.join().unwrap();
            if let [position] = b_sent[..] {
                assert_eq!(copy(&c, position), Found::Body(21));
            }
            format!("B at {b_sent:?}")
        },
    );
}

/// C reads three records in place and moves its cursor once; A goes over their slots in a run.
fn a_batch_behind_a_batch(producers: Producers) -> String {
    let world = World::new(4, 1, producers, Overflow::Refuse);
    let (a, c) = (world.ring(A), world.ring(C));
    let (seat, _) = c.join(true, Start::Earliest).unwrap();
    let mut run = clear_from_the_start(&a);
    assert_eq!(send_batch(&a, &mut run, &[11, 12, 13]), [1, 2, 3]);
    let a = thread::spawn(move || {
        run.reclaim_all(&a, &mut Nothing);
        send_batch(&a, &mut run, &[24, 25, 26, 27])
    });
    assert_eq!(view_run(&c, 0, 3), [10, 11, 12]);
    c.publish_cursor(&seat, 3);
    let sent = a.join().unwrap();
    for position in &sent {
        assert_eq!(copy(&c, *position), Found::Body(20 + position));
    }
    format!("A at {sent:?}")
}

#[test]
fn a_run_overwrites_only_what_was_read_as_a_batch() {
    explore(
        "batch::a_run_overwrites_only_what_was_read_as_a_batch",
        Depth::Exhaustive,
        [
            allowed("A at []", "the cursor had not passed"),
            allowed("A at [4, 5, 6]", "the cursor had passed three records"),
            forbidden("A at [4]", "the cursor moves once"),
            forbidden("A at [4, 5, 6, 7]", "position 3 was not read"),
        ],
        || a_batch_behind_a_batch(Producers::Shared),
    );
}

#[test]
fn an_exclusive_run_overwrites_only_what_was_read_as_a_batch() {
    explore(
        "batch::an_exclusive_run_overwrites_only_what_was_read_as_a_batch",
        Depth::Exhaustive,
        [
            allowed("A at []", "the cursor had not passed"),
            allowed("A at [4, 5, 6]", "the cursor had passed three records"),
            forbidden("A at [4]", "the cursor moves once"),
            forbidden("A at [4, 5, 6, 7]", "position 3 was not read"),
        ],
        || a_batch_behind_a_batch(Producers::Exclusive),
    );
}

/// A sends two records in a run over those of the lap before, while C reads along in place.
fn a_batch_beside_a_batch(producers: Producers) -> String {
    let world = World::new(4, 1, producers, Overflow::Refuse);
    let (a, c) = (world.ring(A), world.ring(C));
    let (seat, _) = c.join(true, Start::Earliest).unwrap();
    let mut run = clear_from_the_start(&a);
    assert_eq!(send_batch(&a, &mut run, &[11, 12, 13]), [1, 2, 3]);
    c.publish_cursor(&seat, 4);
    run.reclaim_all(&a, &mut Nothing);
    assert_eq!(send(&a, &mut run, 14), Sent::At(4));
    assert!(run.is_clear());
    let a = thread::spawn(move || send_batch(&a, &mut run, &[15, 16]));
    let seen = view_run(&c, 4, 4);
    assert_eq!(a.join().unwrap(), [5, 6]);
    format!("{seen:?}")
}

#[test]
fn a_batch_is_read_up_to_what_is_committed() {
    explore(
        "batch::a_batch_is_read_up_to_what_is_committed",
        Depth::Exhaustive,
        [
            allowed("[14]", "the first of the batch was not committed"),
            allowed("[14, 15]", "the second was not"),
            allowed("[14, 15, 16]", "all of it"),
            forbidden("[14, 11]", "the body of the lap before"),
            forbidden("[14, 15, 12]", "the body of the lap before"),
        ],
        || a_batch_beside_a_batch(Producers::Shared),
    );
}

#[test]
fn a_batch_of_an_exclusive_producer_is_read_up_to_what_is_committed() {
    explore(
        "batch::a_batch_of_an_exclusive_producer_is_read_up_to_what_is_committed",
        Depth::Exhaustive,
        [
            allowed("[14]", "the first of the batch was not committed"),
            allowed("[14, 15]", "the second was not"),
            allowed("[14, 15, 16]", "all of it"),
            forbidden("[14, 11]", "the body of the lap before"),
            forbidden("[14, 15, 12]", "the body of the lap before"),
        ],
        || a_batch_beside_a_batch(Producers::Exclusive),
    );
}

/// A lossy reader copies a batch: its first record is gone already, the second one goes when a run
/// that has dropped it comes by.
fn copies_under_a_run(producers: Producers) -> String {
    let world = World::new(4, 1, producers, Overflow::DropOldest);
    let (a, c) = (world.ring(A), world.ring(C));
    let mut run = clear_from_the_start(&a);
    assert_eq!(send_batch(&a, &mut run, &[11, 12, 13]), [1, 2, 3]);
    while run.reclaim_all(&a, &mut Nothing) < 4 {}
    assert_eq!(send(&a, &mut run, 14), Sent::At(4));
    assert!(run.is_clear());
    let a = thread::spawn(move || send_batch(&a, &mut run, &[15, 16]));
    let found = copy_run(&c, 0, 2);
    assert_eq!(a.join().unwrap(), [5, 6]);
    assert_eq!(found[0], Found::Gone { lagged: true });
    format!("{:?}", found[1])
}

const COPIES: [Expect; 5] = [
    allowed("Body(11)", "the copy was finished in time"),
    allowed("Torn", "overwritten under the copy; the next look tells"),
    allowed(
        "Gone { lagged: true }",
        "overwritten, and the reader is told",
    ),
    forbidden("Body(15)", "the body of another record"),
    forbidden(
        "Gone { lagged: false }",
        "a record was missed and nobody said so",
    ),
];

#[test]
fn copies_of_a_batch_under_a_run_are_found_out() {
    explore(
        "batch::copies_of_a_batch_under_a_run_are_found_out",
        Depth::Exhaustive,
        COPIES,
        || copies_under_a_run(Producers::Shared),
    );
}

#[test]
fn copies_of_a_batch_under_an_exclusive_run_are_found_out() {
    explore(
        "batch::copies_of_a_batch_under_an_exclusive_run_are_found_out",
        Depth::Exhaustive,
        COPIES,
        || copies_under_a_run(Producers::Exclusive),
    );
}
