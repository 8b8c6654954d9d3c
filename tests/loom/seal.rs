//! Seals: a ring that takes nothing more, whoever claims, commits, receives or sleeps meanwhile.
//!
//! The directory that tells of the next ring is a flag here: the kernel orders a rename before
//! whoever finds the name.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Nothing, World};
use loom::thread;
use ringway::layout::ring::Meta;
use ringway::layout::word::Ctl;
use ringway::ring::Overflow;
use ringway::ring::claim::{Appender, Blocked};
use ringway::ring::commit::Lost;
use ringway::ring::delivery::consume::Consumer;
use ringway::ring::delivery::drain::Drain;
use ringway::ring::delivery::{Clock, Delivery};
use ringway::shm::queue::QueueWords;
use ringway::sync::{AtomicU64, Ordering};
use std::sync::Arc;

const NOW: u64 = 100;
/// Behind every stall time-out.
const LATER: u64 = 10_000_000;
const LEASE: u32 = 10;

/// A clock that stands still.
struct Fixed;

impl Clock for Fixed {
    fn now_ms(&self) -> u64 {
        NOW
    }
}

/// One ring of a queue, seen by several attachments.
struct Ring {
    world: World,
    words: QueueWords,
}

impl Ring {
    fn new(slots: u64) -> Self {
        let words = QueueWords::model();
        for word in [words.block_of(0), words.group_of(0), words.due()] {
            word.store(0, Ordering::Relaxed); // what due words say is another model
        }
        Self {
            world: World::shared(slots, 1, Overflow::Refuse),
            words,
        }
    }

    fn seen_by(&self, me: u16) -> Delivery {
        Delivery::new(self.world.ring(me), self.words.clone(), Arc::new(Fixed))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    At(u64),
    Lost,
    Sealed,
}

fn send(queue: &Delivery, body: u64) -> Sent {
    let mut appender = Appender::new(queue.ring());
    let claim = match appender.claim_message(queue, &mut Nothing) {
        Ok(claim) => claim,
        Err(Blocked::Sealed) => return Sent::Sealed,
        Err(other) => panic!("{other:?}"),
    };
    let word = queue.first_word(claim.position, NOW, 0);
    claim.fill_message(
        Meta::new(8, Meta::INLINE, 0),
        word,
        NOW,
        &body.to_le_bytes(),
    );
    match appender.commit(queue.ring(), claim) {
        Ok(position) => Sent::At(position),
        Err(Lost::Abandoned) => Sent::Lost,
        Err(Lost::Corrupt) => panic!("neither its claim nor its abandoned claim"),
    }
}

/// Receives and deletes the next message: its position.
fn consume(queue: &Delivery, consumer: &mut Consumer) -> Option<u64> {
    let standing = consumer.find(queue, NOW, &mut Nothing)?;
    let lease = queue
        .lease(standing, NOW, LEASE)
        .expect("nobody else receives");
    let (position, receives) = (lease.standing.position, lease.receives());
    queue.delete(position, receives, &mut Nothing);
    Some(position)
}

/// A sends while B seals.
#[test]
fn a_message_is_before_the_seal_or_nowhere() {
    explore(
        "seal::a_message_is_before_the_seal_or_nowhere",
        Depth::Exhaustive,
        [
            allowed(
                "sent",
                "A claimed first: its message is received, and then the ring ends",
            ),
            allowed("sealed", "B was first: A goes to the next ring"),
            forbidden("behind the seal", "no receiver would look there"),
            forbidden("unseen", "the ring ended before its last message"),
        ],
        || {
            let ring = Ring::new(2);
            let (a, b) = (ring.seen_by(A), ring.seen_by(B));
            let a = thread::spawn(move || send(&a, 7));
            let sealed = b.ring().seal(0).expect("nobody keeps claiming");
            let sent = a.join().unwrap();
            let c = ring.seen_by(C);
            let mut consumer = Consumer::new(&c);
            let found = consume(&c, &mut consumer);
            let next = consume(&c, &mut consumer);
            assert!(next.is_none() && consumer.is_at_seal());
            assert_eq!(c.ring().sealed(), Some(sealed));
            match (sent, found) {
                (Sent::At(position), _) if position >= sealed => "behind the seal",
                (Sent::At(position), Some(found)) if position == found => "sent",
                (Sent::At(_), _) => "unseen",
                (Sent::Sealed, None) => "sealed",
                other => panic!("{other:?}"),
            }
            .into()
        },
    );
}

/// A sends, B seals behind it if it was first, and the slot of the seal still holds a message of a
/// lap ago, which C comes to meanwhile.
#[test]
fn what_stands_under_the_seal_is_received() {
    explore(
        "seal::what_stands_under_the_seal_is_received",
        Depth::Exhaustive,
        [
            allowed(
                "received, with another",
                "A was first: C found both, whatever it saw of the seal",
            ),
            allowed("received", "B was first: A goes to the next ring"),
            forbidden("left", "C took the seal for its end a lap too early"),
        ],
        || {
            let ring = Ring::new(2);
            let (a, c) = (ring.seen_by(A), ring.seen_by(C));
            assert_eq!((send(&a, 7), send(&a, 8)), (Sent::At(0), Sent::At(1)));
            let mut consumer = Consumer::new(&c);
            assert_eq!(consume(&c, &mut consumer), Some(0));
            let b = ring.seen_by(B);
            let a = thread::spawn(move || send(&a, 9));
            let b = thread::spawn(move || b.ring().seal(2));
            let found = consume(&c, &mut consumer);
            let (sent, sealed) = (a.join().unwrap(), b.join().unwrap());
            if found != Some(1) {
                return "left".into();
            }
            let (other, sealed_at) = match sent {
                Sent::At(2) => (Some(2), 3),
                _ => (None, 2),
            };
            assert_eq!(sealed, Some(sealed_at));
            assert_eq!(consume(&c, &mut consumer), other);
            assert_eq!(consume(&c, &mut consumer), None);
            assert!(consumer.is_at_seal());
            match other {
                Some(_) => "received, with another",
                None => "received",
            }
            .into()
        },
    );
}

/// C looks whether the sealed ring may go while A, stopped for long, commits into it.
#[test]
fn a_drained_ring_gets_no_message() {
    explore(
        "seal::a_drained_ring_gets_no_message",
        Depth::Exhaustive,
        [
            allowed("kept", "A committed: the ring stays until that is received"),
            allowed("refused", "C gave the claim up: A sends again, elsewhere"),
            forbidden("lost", "the ring goes with a message that was sent"),
        ],
        || {
            let ring = Ring::new(2);
            let (a, c) = (ring.seen_by(A), ring.seen_by(C));
            let mut appender = Appender::new(a.ring());
            let claim = appender.claim_message(&a, &mut Nothing);
            let position = claim.map(|claim| claim.position).expect("an empty ring");
            assert_eq!(ring.seen_by(B).ring().seal(1), Some(1));
            let word = a
                .ring()
                .memory()
                .slot(position)
                .ctl()
                .load(Ordering::Relaxed);
            let a = thread::spawn(move || {
                let slot = a.ring().memory().slot(position);
                slot.position().store(position, Ordering::Relaxed);
                slot.meta()
                    .store(Meta::new(8, Meta::INLINE, 0).0, Ordering::Relaxed);
                let first = a.first_word(position, NOW, 0);
                slot.dlv().store(first.0, Ordering::Relaxed);
                let committed = Ctl::new(Ctl::COMMITTED, A, Ctl(word).lap());
                slot.ctl()
                    .compare_exchange(word, committed.0, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
            });
            let mut drain = Drain::default();
            let early = c.is_drained(&mut drain, 2, NOW);
            let drained = early || c.is_drained(&mut drain, 2, LATER);
            match (a.join().unwrap(), drained) {
                (true, false) => "kept",
                (false, true) => "refused",
                (false, false) => "refused, and not drained",
                (true, true) => "lost",
            }
            .into()
        },
    );
}

/// B finds nothing and sleeps, while A seals, makes the next ring and sends there.
#[test]
fn no_wake_is_lost_across_the_seal() {
    explore(
        "seal::no_wake_is_lost_across_the_seal",
        Depth::Large,
        [
            allowed(
                "awake",
                "B saw the seal and the message behind it, or the wake",
            ),
            allowed("woken", "A saw the flag"),
            forbidden("asleep for ever", "neither saw the other"),
        ],
        || {
            let (old, new) = (Ring::new(2), Ring::new(2));
            let published = Arc::new(AtomicU64::new(0));
            let (old_a, new_a) = (old.seen_by(A), new.seen_by(A));
            let (old_b, new_b) = (old.seen_by(B), new.seen_by(B));
            let name = Arc::clone(&published);
            let a = thread::spawn(move || {
                assert_eq!(old_a.ring().seal(0), Some(0));
                name.store(1, Ordering::Release);
                assert_eq!(send(&new_a, 7), Sent::At(0));
                // Everybody sleeps on the words of the first ring.
                old_a.ring().wake_behind_commit();
            });
            let seq = old_b.ring().prepare_sleep();
            let mut consumer = Consumer::new(&old_b);
            let found = |queue: &Delivery, consumer: &mut Consumer| {
                consumer.find(queue, NOW, &mut Nothing).is_some()
            };
            let mut ready = found(&old_b, &mut consumer);
            if consumer.is_at_seal() && published.load(Ordering::Acquire) == 1 {
                ready = found(&new_b, &mut Consumer::new(&new_b));
            }
            let wake = || old_b.ring().memory().wake().load(Ordering::Relaxed);
            let slept = !ready && wake() == seq;
            a.join().unwrap();
            match (slept, wake() == seq) {
                (false, _) => "awake",
                (true, true) => "asleep for ever",
                (true, false) => "woken",
            }
            .into()
        },
    );
}
