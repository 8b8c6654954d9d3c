//! The order within a group: linking, taking the first, consuming out of turn, batches, hints.
//!
//! All messages of a model are of one group. What was found stands for what was handed out.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::queue::Fixed;
use crate::world::{A, B, C, Nothing, World};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::layout::ring::Meta;
use ringway::ring::Overflow;
use ringway::ring::claim::Appender;
use ringway::ring::delivery::Delivery;
use ringway::ring::delivery::consume::Finder;
use ringway::ring::delivery::heads::Heads;
use ringway::ring::delivery::link::{GroupHash, Step};
use ringway::ring::delivery::settle::Settled;
use ringway::shm::queue::QueueWords;
use ringway::sync::Ordering;
use std::sync::Arc;

const NOW: u64 = 100;
const LEASE: u32 = 10;
/// The lease of `NOW` has ended.
const LATER: u64 = 200;

struct Stage {
    world: World,
    words: QueueWords,
}

impl Stage {
    /// A FIFO queue with `messages`.
    fn new(slots: u64, messages: u64) -> Self {
        let stage = Self {
            world: World::shared(slots, 1, Overflow::Refuse),
            words: QueueWords::model_fifo(),
        };
        for _ in 0..messages {
            send(&stage.queue(A));
        }
        stage.set_due(NOW + 1);
        stage
    }

    /// Due words that need no change and say that nothing is due before `at`: what they say is another
    /// model.
    fn set_due(&self, at: u64) {
        let words = &self.words;
        for word in [words.block_of(0), words.group_of(0), words.due()] {
            word.store(at, Ordering::Relaxed);
        }
    }

    fn queue(&self, me: u16) -> Delivery {
        let liveness = Arc::clone(&self.world.pulse) as Arc<_>;
        let ring = self.world.ring_with(me, liveness);
        let clock = Arc::new(Fixed(LATER.into()));
        Delivery::new(ring, self.words.clone(), clock)
    }

    /// The same with the first `linked` messages linked.
    fn linked(slots: u64, messages: u64, linked: u64) -> Self {
        let stage = Self::new(slots, messages);
        for _ in 0..linked {
            assert!(matches!(stage.queue(A).link_next(), Step::Message(_)));
        }
        stage
    }
}

fn send(queue: &Delivery) -> u64 {
    let mut appender = Appender::new(queue.ring());
    let claim = appender.claim_message(queue, &mut Nothing);
    let claim = claim.unwrap_or_else(|blocked| panic!("{blocked:?}"));
    let word = queue.first_word(claim.position, NOW, 0);
    let meta = Meta::new(8, Meta::INLINE, 0);
    claim.fill_message_of(GroupHash(7, 7), 0, meta, word, NOW, &[7; 8]);
    let sent = appender.commit(queue.ring(), claim);
    sent.expect("nobody abandons")
}

/// Leases the message at `position` if it may be taken, without a look at anything else.
fn take_at(queue: &Delivery, position: u64, now: u64) -> Option<u16> {
    let standing = queue.examine(position)?;
    (standing.position == position && queue.is_takeable(&standing, now, &mut Nothing))
        .then(|| queue.lease(standing, now, LEASE))
        .flatten()
        .map(|lease| lease.receives())
}

/// Finds and leases a message as a receiver does.
fn take(queue: &Delivery, heads: &mut Heads, now: u64, for_ms: u32) -> Option<u64> {
    let standing = heads.find(queue, now, &mut Nothing)?;
    let lease = queue.lease(standing, now, for_ms)?;
    heads
        .confirm(queue, &lease, now)
        .then_some(lease.standing.position)
}

fn is_done(stage: &Stage, position: u64) -> bool {
    let queue = stage.queue(A);
    match queue.examine(position) {
        None => true,
        Some(standing) => standing.position != position,
    }
}

fn shown(taken: Option<u64>) -> String {
    taken.map_or("none".into(), |position| position.to_string())
}

/// Two receivers come to two messages of a group that nobody has linked yet.
#[test]
fn the_first_of_a_group_is_taken_by_one_and_the_next_by_nobody() {
    explore(
        "fifo::the_first_of_a_group_is_taken_by_one_and_the_next_by_nobody",
        Depth::Large,
        [
            allowed("B 0, C none", "B was first"),
            allowed("B none, C 0", "C was first"),
            forbidden("B 0, C 1", "the second passed the first"),
            forbidden("B 1, C 0", "the second passed the first"),
            forbidden("B none, C none", "the first was lost between the two"),
        ],
        || {
            let stage = Stage::new(2, 2);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let find = |queue: Delivery| take(&queue, &mut Heads::default(), NOW, LEASE);
            let b = thread::spawn(move || find(b));
            let c = find(c);
            let b = b.join().unwrap();
            format!("B {}, C {}", shown(b), shown(c))
        },
    );
}

/// B deletes the first message while C links the second one behind it.
#[test]
fn the_next_of_a_group_is_known_to_who_deletes_or_to_who_links() {
    explore(
        "fifo::the_next_of_a_group_is_known_to_who_deletes_or_to_who_links",
        Depth::Exhaustive,
        [
            allowed("linked and taken", "C linked behind the delete"),
            allowed("hinted", "B deleted behind the link"),
            forbidden("lost", "neither saw the other"),
        ],
        || {
            let stage = Stage::linked(2, 2, 1);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let receives = take_at(&b, 0, NOW).unwrap();
            let b = thread::spawn(move || b.delete(0, receives, &mut Nothing));
            let mut heads = Heads::default();
            let early = take(&c, &mut heads, NOW, LEASE);
            assert_eq!(b.join().unwrap(), Settled::Done);
            match (early, take(&c, &mut heads, NOW, LEASE)) {
                (Some(1), None) => "linked and taken",
                (None, Some(1)) => "hinted",
                (None, None) => "lost",
                other => panic!("{other:?}"),
            }
            .into()
        },
    );
}

/// B holds two messages of a group. It deletes the second while C, who got the receipt, deletes the
/// first.
#[test]
fn what_is_deleted_out_of_turn_is_done_when_the_first_is() {
    explore(
        "fifo::what_is_deleted_out_of_turn_is_done_when_the_first_is",
        Depth::Exhaustive,
        [
            allowed("both done", "whoever came second finished"),
            forbidden("the second waits", "neither saw the other"),
        ],
        || {
            let stage = Stage::linked(2, 2, 2);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let mut heads = Heads::default();
            heads.begin_batch();
            stage.queue(A).give_hint(0);
            assert_eq!(take(&b, &mut heads, NOW, LEASE), Some(0));
            assert_eq!(take(&b, &mut heads, NOW, LEASE), Some(1));
            let b = thread::spawn(move || b.delete(1, 1, &mut Nothing));
            assert_eq!(c.delete(0, 1, &mut Nothing), Settled::Done);
            assert_eq!(b.join().unwrap(), Settled::Done);
            assert!(is_done(&stage, 0));
            if is_done(&stage, 1) {
                "both done"
            } else {
                "the second waits"
            }
            .into()
        },
    );
}

/// What the consumer of the first message did comes before what the consumer of the second does.
#[test]
fn the_work_on_a_group_is_ordered() {
    explore(
        "fifo::the_work_on_a_group_is_ordered",
        Depth::Exhaustive,
        [
            allowed("one after the other", "C took it behind the delete"),
            allowed("not yet", "C came before"),
        ],
        || {
            let stage = Stage::linked(2, 2, 2);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let receives = take_at(&b, 0, NOW).unwrap();
            let work = Arc::new(UnsafeCell::new(0));
            let of_b = Arc::clone(&work);
            let b = thread::spawn(move || {
                of_b.with_mut(|_| ());
                assert_eq!(b.delete(0, receives, &mut Nothing), Settled::Done);
            });
            let standing = c.examine(1).expect("nobody else takes it");
            let taken = c.is_takeable(&standing, NOW, &mut Nothing);
            if taken {
                // Two unordered accesses, one of them a write, end the model.
                work.with_mut(|_| ());
                assert!(c.consume(&standing, &mut Nothing));
            }
            b.join().unwrap();
            if taken {
                "one after the other"
            } else {
                "not yet"
            }
            .into()
        },
    );
}

/// B goes on with a batch whose first message C, for whom its lease is over, receives again.
#[test]
fn a_batch_goes_on_only_while_nobody_else_has_the_group() {
    explore(
        "fifo::a_batch_goes_on_only_while_nobody_else_has_the_group",
        Depth::Large,
        [
            allowed("B 1, C none", "B was first"),
            allowed("B none, C 0", "C was first"),
            allowed("B none, C none", "each saw the other, and both gave way"),
            forbidden("B 1, C 0", "both hold messages of one group"),
        ],
        || {
            let stage = Stage::linked(2, 2, 2);
            let (b, c) = (stage.queue(B), stage.queue(C));
            stage.queue(A).give_hint(0);
            let mut batch = Heads::default();
            batch.begin_batch();
            assert_eq!(take(&b, &mut batch, NOW, LEASE), Some(0));
            stage.queue(A).give_hint(0);
            stage.set_due(LATER + 1);
            // B has read its clock long ago, and the lease of the next one is a long one.
            let b = thread::spawn(move || take(&b, &mut batch, NOW, 10_000));
            let c = take(&c, &mut Heads::default(), LATER, 10_000);
            let b = b.join().unwrap();
            format!("B {}, C {}", shown(b), shown(c))
        },
    );
}

/// B deletes the first message and hints at the second; C takes the hint.
#[test]
fn who_takes_a_hint_sees_what_it_is_about() {
    explore(
        "fifo::who_takes_a_hint_sees_what_it_is_about",
        Depth::Exhaustive,
        [
            allowed("taken", "C came behind the hint"),
            allowed("taken later", "C came before it"),
            forbidden("dropped", "C took the hint and did not see why"),
        ],
        || {
            let stage = Stage::linked(2, 2, 2);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let receives = take_at(&b, 0, NOW).unwrap();
            let b = thread::spawn(move || b.delete(0, receives, &mut Nothing));
            let mut heads = Heads::default();
            let early = take(&c, &mut heads, NOW, LEASE);
            b.join().unwrap();
            match (early, take(&c, &mut heads, NOW, LEASE)) {
                (Some(1), None) => "taken",
                (None, Some(1)) => "taken later",
                (None, None) => "dropped",
                other => panic!("{other:?}"),
            }
            .into()
        },
    );
}

/// A receiver that has slept links late, when another has gone on.
#[test]
fn a_late_link_changes_nothing() {
    explore(
        "fifo::a_late_link_changes_nothing",
        Depth::Large,
        [allowed("in order", "each message knows the one before it")],
        || {
            let stage = Stage::new(2, 2);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let link = |queue: Delivery| {
                while queue.linked_below() < 2 {
                    queue.link_next();
                }
            };
            let b = thread::spawn(move || link(b));
            link(c);
            b.join().unwrap();
            let memory = stage.world.memory.clone();
            let word = |at: u64| {
                let slot = memory.slot(at);
                (
                    slot.prev().load(Ordering::Relaxed),
                    slot.next().load(Ordering::Relaxed),
                )
            };
            assert_eq!((word(0), word(1)), ((u64::MAX, 1), (0, 1)));
            "in order".into()
        },
    );
}
