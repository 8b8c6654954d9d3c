//! A queue that is on disk: who writes its journal, what is used again, what a flush knows.
//!
//! The journal itself is a cell that loom watches, or what a writer has seen; the disk is not in these
//! models.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::queue::{Fixed, NOW, lease};
use crate::world::{A, B, C, Nothing, World};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::layout::ring::Meta;
use ringway::ring::claim::{Appender, Blocked};
use ringway::ring::delivery::durable::ToWrite;
use ringway::ring::delivery::{Clock, Delivery};
use ringway::ring::persister::{End, Turn, Writing};
use ringway::ring::{Liveness, Overflow};
use ringway::shm::durable::DurableWords;
use ringway::shm::queue::QueueWords;
use ringway::sync::Ordering;
use std::sync::Arc;

struct Stage {
    world: World,
    words: QueueWords,
    durable: DurableWords,
}

impl Stage {
    fn new(slots: u64) -> Self {
        Self {
            world: World::shared(slots, 1, Overflow::Refuse),
            words: QueueWords::model(),
            durable: DurableWords::model(),
        }
    }

    fn queue(&self, me: u16) -> Delivery {
        let liveness = Arc::clone(&self.world.pulse) as Arc<dyn Liveness>;
        let clock = Arc::new(Fixed(NOW.into())) as Arc<dyn Clock>;
        let ring = self.world.ring_with(me, liveness);
        Delivery::new(ring, self.words.clone(), clock).with_durable(self.durable.clone())
    }

    /// The same, with a message at position 0 that is on disk, written by `A` in epoch 1, who has laid
    /// the role down.
    fn written() -> Self {
        let stage = Self::new(2);
        let queue = stage.queue(A);
        assert_eq!(send(&queue, 10), Some(0));
        let writing = begin(&queue).expect("nobody else is there");
        let number = words(&queue).begin_flush();
        assert!(queue.take_changed(&writing, |_| ()));
        assert!(words(&queue).finish_flush(&writing, number, 0, 1));
        words(&queue).end_writing(writing, End::At((0, 8192)));
        stage
    }
}

/// One attempt to send.
fn send(queue: &Delivery, body: u64) -> Option<u64> {
    let mut appender = Appender::new(queue.ring());
    appender.ask_each_time();
    let claim = match appender.claim_message(queue, &mut Nothing) {
        Ok(claim) => claim,
        Err(Blocked::Full { .. }) => return None,
        Err(other) => panic!("{other:?}"),
    };
    let word = queue.first_word(claim.position, NOW, 0);
    let meta = Meta::new(8, Meta::INLINE, 0);
    claim.fill_message(meta, word, NOW, &body.to_le_bytes());
    appender.commit(queue.ring(), claim).ok()
}

fn words(queue: &Delivery) -> &DurableWords {
    queue.durable().expect("it is on disk")
}

fn begin_as_seen(queue: &Delivery, turn: Turn) -> Option<Writing> {
    let me = queue.ring().me();
    words(queue)
        .begin_writing(me, turn)
        .expect("there are epochs")
}

/// Takes the role, if it is free.
fn begin(queue: &Delivery) -> Option<Writing> {
    match words(queue).turn() {
        turn @ Turn::Free(_) => begin_as_seen(queue, turn),
        Turn::Held(_) => None,
    }
}

/// Takes the role from whoever has it.
fn take_over(queue: &Delivery) -> Option<Writing> {
    begin_as_seen(queue, words(queue).turn())
}

fn consume(queue: &Delivery) -> bool {
    let standing = queue.examine(0).expect("a message");
    queue.consume(&standing, &mut Nothing)
}

/// Whether the block of slot 0 says that position 0 is consumed.
fn says_consumed(queue: &Delivery) -> bool {
    let mut says = false;
    queue.consumed_in(0, |first, bits| says |= first == 0 && bits & 1 != 0, |_| ());
    says
}

/// B copies the message of position 0 into the journal while A, who has consumed it, uses its slot again.
#[test]
fn a_slot_is_used_again_only_behind_the_copy_for_the_journal() {
    explore(
        "durable::a_slot_is_used_again_only_behind_the_copy_for_the_journal",
        Depth::Exhaustive,
        [
            allowed("full", "the journal was not seen to have come there"),
            allowed("used again", "it was"),
        ],
        || {
            let stage = Stage::new(1);
            let (a, b) = (stage.queue(A), stage.queue(B));
            assert_eq!(send(&a, 10), Some(0));
            let b = thread::spawn(move || {
                let writing = begin(&b).expect("nobody else writes");
                let number = words(&b).begin_flush();
                if let ToWrite::Message(standing) = b.look_to_write(0) {
                    assert_eq!(standing.slot().body_in_place(), 10);
                }
                assert!(words(&b).finish_flush(&writing, number, 0, 1));
            });
            // Purged: it was not delivered yet.
            assert!(consume(&a));
            let sent = send(&a, 11);
            b.join().unwrap();
            match sent {
                None => "full",
                Some(_) => "used again",
            }
            .into()
        },
    );
}

#[test]
fn nothing_is_delivered_that_is_not_on_disk() {
    explore(
        "durable::nothing_is_delivered_that_is_not_on_disk",
        Depth::Exhaustive,
        [
            allowed("nothing", "it was not on disk"),
            allowed("delivered", "it was"),
            forbidden("too early", "it was delivered and might be lost"),
        ],
        || {
            let stage = Stage::new(2);
            let (a, b) = (stage.queue(A), stage.queue(B));
            assert_eq!(send(&a, 10), Some(0));
            let writer = thread::spawn(move || {
                let writing = begin(&a).expect("nobody else writes");
                let number = words(&a).begin_flush();
                assert!(words(&a).finish_flush(&writing, number, 0, 1));
            });
            let mut consumer = ringway::ring::delivery::consume::Consumer::new(&b);
            let found = consumer.find(&b, NOW, &mut Nothing).is_some();
            let on_disk = b.delivered_below() > 0;
            writer.join().unwrap();
            match (found, on_disk) {
                (false, _) => "nothing",
                (true, true) => "delivered",
                (true, false) => "too early",
            }
            .into()
        },
    );
}

/// A journal, which only its writer touches.
struct Segment(UnsafeCell<u64>);

// A flush of one who takes the role if it is free.
fn flush(queue: &Delivery, segment: &Segment) -> Option<u64> {
    let writing = begin(queue)?;
    assert_eq!(writing.epoch, 1, "nobody is displaced here");
    let offset = segment.0.with_mut(|offset| {
        // SAFETY: loom ends the model if anybody else is here.
        let offset = unsafe { &mut *offset };
        let stands = *offset;
        *offset += 4096;
        stands
    });
    assert_eq!(
        writing.cursor,
        Some((0, offset)),
        "goes on where the last one stopped"
    );
    let number = words(&queue).begin_flush();
    let from = queue.delivered_below();
    assert!(words(&queue).finish_flush(&writing, number, from, from));
    words(&queue).end_writing(writing, End::At((0, offset + 4096)));
    Some(number)
}

#[test]
fn one_writes_at_a_time_and_goes_on_where_the_last_one_stopped() {
    explore(
        "durable::one_writes_at_a_time_and_goes_on_where_the_last_one_stopped",
        Depth::Exhaustive,
        [
            allowed("one", "the other found the role taken"),
            allowed("both", "one behind the other"),
        ],
        || {
            let stage = Stage::written();
            let (a, b) = (stage.queue(A), stage.queue(B));
            let segment = Arc::new(Segment(UnsafeCell::new(8192)));
            let other = Arc::clone(&segment);
            let b = thread::spawn(move || flush(&b, &other).is_some());
            let a = flush(&a, &segment).is_some();
            let b = b.join().unwrap();
            assert!(a || b);
            if a && b { "both" } else { "one" }.into()
        },
    );
}

/// A writes in epoch 1 and stands still anywhere; B takes over; what A does late is refused, or came
/// before. C goes on behind both.
#[test]
fn a_displaced_writer_acknowledges_nothing_and_leads_nobody_astray() {
    explore(
        "durable::a_displaced_writer_acknowledges_nothing_and_leads_nobody_astray",
        Depth::Exhaustive,
        [
            allowed("both told", "A before the cut of B"),
            allowed("B told", "A was displaced"),
            allowed(
                "A told",
                "B found the role given back, and wrote in the same epoch",
            ),
        ],
        || {
            let stage = Stage::new(4);
            let (a, b) = (stage.queue(A), stage.queue(B));
            assert_eq!((send(&a, 10), send(&a, 11)), (Some(0), Some(1)));
            let writing = begin(&a).expect("nobody else writes");
            assert_eq!((writing.epoch, writing.cursor), (1, None));
            let late = thread::spawn(move || {
                let number = words(&a).begin_flush();
                let told = words(&a).finish_flush(&writing, number, 0, 1);
                if told {
                    words(&a).end_writing(writing, End::At((0, 4096)));
                } else {
                    // One that does not even notice.
                    words(&a).end_writing(writing, End::At((7, 4096 * 7)));
                }
                told
            });
            let by_b = take_over(&b).map(|writing| {
                let from = b.delivered_below();
                let number = words(&b).begin_flush();
                assert!(
                    words(&b).finish_flush(&writing, number, from, 2),
                    "nobody displaces B"
                );
                words(&b).end_writing(writing, End::At((3, 8192)));
                (writing.epoch, from)
            });
            let by_a = late.join().unwrap();
            let c = stage.queue(C);
            let next = begin(&c).expect("everybody is gone");
            assert_eq!(c.delivered_below(), if by_b.is_some() { 2 } else { 1 });
            match (by_a, by_b) {
                (true, Some((2, 1))) | (false, Some((2, 0))) => {
                    // Where B stopped, or anew where A stored something late.
                    let goes_on = (next.epoch, next.cursor) == (2, Some((3, 8192)));
                    assert!(
                        goes_on || (next.epoch, next.cursor) == (3, None),
                        "{next:?}"
                    );
                    if by_a { "both told" } else { "B told" }.into()
                }
                (true, Some((1, 1))) => {
                    assert_eq!((next.epoch, next.cursor), (1, Some((3, 8192))));
                    "A told".into()
                }
                (true, None) => "A told".into(),
                other => format!("{other:?}"),
            }
        },
    );
}

/// A takes a role that was handed over and stands still before it looks where to go on; B takes over,
/// writes, and hands the role over in its turn.
#[test]
fn one_who_was_displaced_before_it_looked_writes_nothing_of_another_epoch() {
    explore(
        "durable::one_who_was_displaced_before_it_looked_writes_nothing_of_another_epoch",
        Depth::Exhaustive,
        [
            allowed(
                "none",
                "A saw that it was displaced, or found the role taken",
            ),
            allowed("its own", "A looked before B began an epoch"),
            allowed("behind", "B found the role free, and A took it behind B"),
            allowed(
                "anew",
                "B left a place of another epoch, and A began one of its own",
            ),
            forbidden("another's", "two write at the same place of a segment"),
        ],
        || {
            let stage = Stage::written();
            let (a, b) = (stage.queue(A), stage.queue(B));
            let late =
                thread::spawn(move || begin(&a).map(|writing| (writing.epoch, writing.cursor)));
            if let Some(writing) = take_over(&b) {
                let from = b.delivered_below();
                let number = words(&b).begin_flush();
                // Refused, if A took the role behind B.
                words(&b).finish_flush(&writing, number, from, from);
                words(&b).end_writing(writing, End::At((3, 8192)));
            }
            match late.join().unwrap() {
                None => "none",
                Some((1, Some((0, 8192)))) => "its own",
                Some((1, Some((3, 8192)))) => "behind",
                Some((_, None)) => "anew",
                Some(_) => "another's",
            }
            .into()
        },
    );
}

/// A deletes while B flushes twice: a bit that is taken without what it stands for is missed by the
/// second one.
#[test]
fn what_was_deleted_before_a_flush_began_is_in_it() {
    explore(
        "durable::what_was_deleted_before_a_flush_began_is_in_it",
        Depth::Exhaustive,
        [
            allowed("not yet", "the next flush is waited for"),
            allowed("written", "it was in the flush that was waited for"),
            forbidden("lost", "a delete was acknowledged that is not on disk"),
        ],
        || {
            let stage = Stage::written();
            let (a, b) = (stage.queue(A), stage.queue(B));
            assert!(lease(&a, NOW).is_some());
            let b = thread::spawn(move || {
                let writing = begin(&b).expect("nobody else writes");
                let at = b.delivered_below();
                [0, 1].map(|_| {
                    let number = words(&b).begin_flush();
                    let mut written = false;
                    assert!(b.take_changed(&writing, |_| written |= says_consumed(&b)));
                    assert!(words(&b).finish_flush(&writing, number, at, at));
                    written.then_some(number)
                })
            });
            assert!(consume(&a));
            let flush = a.next_flush();
            let written = b.join().unwrap().into_iter().flatten().min();
            match (a.is_flushed(flush), written) {
                (false, _) => "not yet",
                (true, Some(written)) if written <= flush => "written",
                (true, _) => "lost",
            }
            .into()
        },
    );
}

/// A's flush stands still anywhere, B takes over and flushes, while C deletes.
#[test]
fn a_displaced_writer_takes_no_delete_with_it() {
    explore(
        "durable::a_displaced_writer_takes_no_delete_with_it",
        Depth::Large,
        [
            allowed("not yet", "the next flush is waited for"),
            allowed("written", "it was in a flush that counts"),
            forbidden("lost", "a delete was acknowledged that is not on disk"),
        ],
        || {
            let stage = Stage::written();
            let (a, b, c) = (stage.queue(A), stage.queue(B), stage.queue(C));
            assert!(lease(&c, NOW).is_some());
            let writing = begin(&a).expect("nobody else writes");
            let seen = words(&b).turn();
            let write = |queue: Delivery, writing: Writing| {
                let at = queue.delivered_below();
                let number = words(&queue).begin_flush();
                let mut says = false;
                let took = queue.take_changed(&writing, |_| says |= says_consumed(&queue));
                took && words(&queue).finish_flush(&writing, number, at, at) && says
            };
            let late = thread::spawn(move || write(a, writing));
            let other = thread::spawn(move || {
                let writing = begin_as_seen(&b, seen);
                write(b, writing.expect("nobody is faster"))
            });
            assert!(consume(&c));
            let flush = c.next_flush();
            let written = late.join().unwrap() | other.join().unwrap();
            match (c.is_flushed(flush), written) {
                (false, _) => "not yet",
                (true, true) => "written",
                (true, false) => "lost",
            }
            .into()
        },
    );
}

/// The flag and the flush: who waits sees the flush, or is woken.
#[test]
fn no_wake_behind_a_flush_is_lost() {
    explore(
        "durable::no_wake_behind_a_flush_is_lost",
        Depth::Exhaustive,
        [
            allowed("seen", "the waiter looked behind the flush"),
            allowed("woken", "the word changed under it"),
            forbidden("asleep", "it sleeps though the flush is done"),
        ],
        || {
            let stage = Stage::new(2);
            let (a, b) = (stage.queue(A), stage.queue(B));
            assert_eq!(send(&a, 10), Some(0));
            let writer = thread::spawn(move || {
                let writing = begin(&a).expect("nobody else writes");
                let number = words(&a).begin_flush();
                assert!(words(&a).finish_flush(&writing, number, 0, 1));
                words(&a).wake_behind_flush();
            });
            let expected = words(&b).prepare_wait();
            let seen = b.delivered_below() > 0;
            writer.join().unwrap();
            let words = b.durable().expect("it is on disk");
            let woken = words.flushed().load(Ordering::Relaxed) != expected;
            match (seen, woken) {
                (true, _) => "seen",
                (false, true) => "woken",
                (false, false) => "asleep",
            }
            .into()
        },
    );
}
