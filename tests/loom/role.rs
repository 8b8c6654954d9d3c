//! Roles and the producer word: one holder at a time, and everything the last one did is seen.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Found, Nothing, PROBING, Pulse, Sent, World, copy, fill, send};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::bus::participant::{release_role, take_role};
use ringway::ring::claim::Appender;
use ringway::ring::read::Look;
use ringway::ring::{Liveness, Overflow, SlotRing};
use ringway::sync::AtomicU64;
use std::sync::Arc;

/// A role, and what only its holder touches.
struct Duty {
    word: AtomicU64,
    work: UnsafeCell<()>,
}

impl Duty {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: AtomicU64::new(0),
            work: UnsafeCell::new(()),
        })
    }

    fn take(&self, me: u16, pulse: &Pulse) -> bool {
        let taken = take_role(&self.word, me, |holder| !pulse.is_dead(holder)).is_ok();
        if taken {
            self.work.with_mut(|_| ());
        }
        taken
    }
}

#[test]
fn the_role_of_the_dead_passes_to_one_of_two() {
    explore(
        "role::the_role_of_the_dead_passes_to_one_of_two",
        Depth::Exhaustive,
        [
            allowed("A holds", "its death was not known yet"),
            allowed("B holds", "B was first"),
            allowed("C holds", "C was first"),
            forbidden("two hold", "a role has two holders"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let duty = Duty::new();
            assert!(duty.take(A, &world.pulse));
            let spawn = |me| {
                let (duty, pulse) = (Arc::clone(&duty), Arc::clone(&world.pulse));
                thread::spawn(move || duty.take(me, &pulse))
            };
            let (b, c) = (spawn(B), spawn(C));
            duty.work.with_mut(|_| ());
            world.pulse.stop(A);
            match (b.join().unwrap(), c.join().unwrap()) {
                (false, false) => "A holds",
                (true, false) => "B holds",
                (false, true) => "C holds",
                (true, true) => "two hold",
            }
            .into()
        },
    );
}

#[test]
fn a_role_that_is_given_back_passes_on_with_the_work() {
    explore(
        "role::a_role_that_is_given_back_passes_on_with_the_work",
        Depth::Exhaustive,
        [
            allowed("B takes it", "A had given it back"),
            allowed("B is refused", "A had not"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let duty = Duty::new();
            assert!(duty.take(A, &world.pulse));
            let (at_b, pulse) = (Arc::clone(&duty), Arc::clone(&world.pulse));
            let b = thread::spawn(move || at_b.take(B, &pulse));
            duty.work.with_mut(|_| ());
            assert!(release_role(&duty.word, A));
            if b.join().unwrap() {
                "B takes it"
            } else {
                "B is refused"
            }
            .into()
        },
    );
}

/// Takes the producer word, sends one record, gives the word back.
fn produce(ring: &SlotRing, body: u64) -> Option<Sent> {
    ring.take_producer().ok()?;
    let sent = send(ring, &mut Appender::new_exclusive(ring), body);
    ring.release_producer(ring.me());
    Some(sent)
}

#[test]
fn an_exclusive_ring_passes_on_with_every_record() {
    explore(
        "role::an_exclusive_ring_passes_on_with_every_record",
        Depth::Exhaustive,
        [
            allowed("A at 0, B at 1", "A was first"),
            allowed("A at 1, B at 0", "B was first"),
            allowed("A at 0, B busy", "A held the word"),
            allowed("A busy, B at 0", "B held the word"),
            forbidden("A at 0, B at 0", "one position was given out twice"),
            forbidden("A busy, B busy", "nobody held the word"),
        ],
        || {
            let world = World::exclusive(2, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let a = thread::spawn(move || produce(&a, 10));
            let b = produce(&b, 20);
            let a = a.join().unwrap();
            let show = |sent: Option<Sent>, body| match sent {
                Some(Sent::At(position)) => {
                    assert_eq!(copy(&c, position), Found::Body(body));
                    format!("at {position}")
                }
                Some(other) => format!("{other}"),
                None => "busy".into(),
            };
            format!("A {}, B {}", show(a, 10), show(b, 20))
        },
    );
}

/// A holds the word, sends one record, claims the next position and dies. B succeeds it, while C
/// reads and resolves what hangs.
#[test]
fn a_dead_exclusive_producer_is_succeeded() {
    explore(
        "role::a_dead_exclusive_producer_is_succeeded",
        Depth::Exhaustive,
        [
            allowed("B busy", "the death of A was not known yet"),
            allowed("B at 2", "the claim of A is void, its record stands"),
            forbidden(
                "B at 1",
                "a position that A had claimed was given out again",
            ),
            forbidden("B at 0", "the record of A was overwritten"),
        ],
        || {
            let world = World::exclusive(4, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            a.take_producer().unwrap();
            let mut appender = Appender::new_exclusive(&a);
            assert_eq!(send(&a, &mut appender, 10), Sent::At(0));
            let pulse = Arc::clone(&world.pulse);
            let a = thread::spawn(move || {
                let claim = appender.claim_exclusive(&a, &mut Nothing).unwrap();
                fill(&a, &claim, 11);
                pulse.stop(A);
            });
            let c = thread::spawn(move || {
                if let (_, Look::Pending(word)) = c.look(1) {
                    c.resolve(1, word, PROBING);
                }
                assert!(!matches!(copy(&c, 1), Found::Body(_)), "never committed");
            });
            let sent = match b.take_producer() {
                Ok(_) => format!("{}", send(&b, &mut Appender::new_exclusive(&b), 20)),
                Err(_) => "busy".into(),
            };
            a.join().unwrap();
            c.join().unwrap();
            let reader = world.ring(C);
            assert_eq!(copy(&reader, 0), Found::Body(10));
            if sent == "at 2" {
                assert_eq!(copy(&reader, 1), Found::Gone { lagged: false });
                assert_eq!(copy(&reader, 2), Found::Body(20));
            }
            format!("B {sent}")
        },
    );
}
