//! Death: what the dead left is resolved once, by whoever meets it; a number that passes on is
//! never mistaken for its old owner.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{
    A, B, ByEntry, C, Entry, Found, Nothing, PROBING, Sent, World, copy, fill, send, send_once,
};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::bus::participant;
use ringway::ring::claim::Appender;
use ringway::ring::read::Look;
use ringway::ring::seat::Start;
use ringway::ring::{Liveness, Overflow, Producers, SlotRing};
use std::sync::Arc;

/// Claims the next position, writes, and goes no further.
fn claim_and_stop(ring: &SlotRing) {
    let mut appender = Appender::new(ring);
    let claim = appender.claim(ring, &mut Nothing).unwrap();
    fill(ring, &claim, 10);
}

/// Waits for the claim at 0 as long as it takes to probe its owner.
fn resolve(ring: &SlotRing) -> bool {
    match ring.look(0) {
        (_, Look::Pending(word)) => ring.resolve(0, word, PROBING),
        _ => false,
    }
}

#[test]
fn a_dead_claim_is_met_by_a_reaper_and_a_producer() {
    explore(
        "reap::a_dead_claim_is_met_by_a_reaper_and_a_producer",
        Depth::Exhaustive,
        [
            allowed(
                "B sent, swept 0",
                "B met the claim first, or nobody knew of the death",
            ),
            allowed("B sent, swept 1", "swept; B came later or had stepped over"),
            allowed(
                "B full, swept 0",
                "B took A for living and stepped over until it gave up",
            ),
            allowed("B full, swept 1", "the same, and swept in the end"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::DropOldest);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let claim = Appender::new(&a).claim(&a, &mut Nothing).unwrap();
            let mut appender = Appender::new(&b);
            let b = thread::spawn(move || send(&b, &mut appender, 20));
            let c = thread::spawn(move || match c.is_dead(A) {
                true => c.sweep(A).claims,
                false => 0,
            });
            fill(&a, &claim, 10);
            world.pulse.stop(A);
            let b_sent = b.join().unwrap();
            let mut swept = c.join().unwrap();
            let reader = world.ring(C);
            swept += reader.sweep(A).claims;
            assert_eq!(reader.sweep(A).claims, 0, "a sweep left something");
            if let Sent::At(position) = b_sent {
                assert_eq!(copy(&reader, position), Found::Body(20), "at {position}");
            }
            assert_eq!(
                copy(&reader, 0),
                Found::Gone { lagged: false },
                "never committed"
            );
            format!("B {}, swept {swept}", b_sent.outcome())
        },
    );
}

#[test]
fn a_dead_claim_is_met_by_a_reaper_and_a_reader() {
    explore(
        "reap::a_dead_claim_is_met_by_a_reaper_and_a_reader",
        Depth::Exhaustive,
        [
            allowed("voided by the reader", "and the sweep found nothing"),
            allowed(
                "voided by the reaper",
                "and the reader looks again, or waits on",
            ),
            forbidden("voided by both", "one claim was voided twice"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let pulse = Arc::clone(&world.pulse);
            let a = thread::spawn(move || {
                claim_and_stop(&a);
                pulse.stop(A);
            });
            let c = thread::spawn(move || {
                resolve(&c);
                assert!(!matches!(copy(&c, 0), Found::Body(_)), "never committed");
            });
            let mut swept = 0;
            if world.pulse.is_dead(A) {
                swept += b.sweep(A).claims;
            }
            a.join().unwrap();
            c.join().unwrap();
            swept += b.sweep(A).claims;
            assert_eq!(send_once(&b, 20), Sent::At(1), "the slot is free again");
            assert_eq!(copy(&b, 1), Found::Body(20));
            match swept {
                0 => "voided by the reader",
                1 => "voided by the reaper",
                _ => "voided by both",
            }
            .into()
        },
    );
}

/// The registry of A, and the lock of its reaper.
struct Registry {
    a: Entry,
    b: Entry,
}

impl Registry {
    /// A has died with its entry ALIVE; B lives.
    fn with_a_dead() -> Arc<Self> {
        let registry = Self {
            a: Entry::new(),
            b: Entry::new(),
        };
        registry.a.join().unwrap();
        registry.b.join().unwrap();
        registry.a.die();
        Arc::new(registry)
    }

    fn begin_reap(&self, me: u16) -> Option<u64> {
        participant::begin_reap(&self.a.word, A, me, |slot| match slot {
            A => self.a.holds_lock(),
            B => self.b.holds_lock(),
            _ => true,
        })
    }
}

/// B reaps A and dies behind step `last`; C goes on; A's number is joined again and claims.
fn reaper_dies_behind(last: u32) -> String {
    let world = World::shared(1, 1, Overflow::DropOldest);
    let registry = Registry::with_a_dead();
    claim_and_stop(&world.ring(A));
    let (b, c) = (world.ring(B), world.ring(C));
    let at_b = Arc::clone(&registry);
    let b = thread::spawn(move || {
        if at_b.begin_reap(B).is_some() && last > 0 {
            b.sweep(A);
        }
        at_b.b.die();
    });
    let at_c = Arc::clone(&registry);
    let c = thread::spawn(move || {
        let Some(generation) = at_c.begin_reap(C) else {
            return false;
        };
        c.sweep(A);
        participant::end_reap(&at_c.a.word, C, generation)
    });
    let joined = registry.a.join().map(|_| send_once(&world.ring(A), 30));
    b.join().unwrap();
    let reaped = c.join().unwrap();
    if let Some(sent) = joined {
        assert_eq!(sent, Sent::At(1), "the claim of the living was swept");
        assert_eq!(copy(&world.ring(B), 1), Found::Body(30));
    }
    match (reaped, joined) {
        (true, Some(_)) => "reaped and joined",
        (true, None) => "reaped",
        (false, None) => "left to the next sweep",
        (false, Some(_)) => "joined unswept",
    }
    .into()
}

#[test]
fn a_reaper_that_dies_before_its_sweep_is_followed() {
    explore(
        "reap::a_reaper_that_dies_before_its_sweep_is_followed",
        Depth::Exhaustive,
        [
            allowed("reaped", "C did it alone, or found B dead and went on"),
            allowed("reaped and joined", "and the number was free at once"),
            allowed("left to the next sweep", "B was at it when C looked"),
            forbidden(
                "joined unswept",
                "the number was free before the sweep was done",
            ),
        ],
        || reaper_dies_behind(0),
    );
}

#[test]
fn a_reaper_that_dies_behind_its_sweep_is_followed() {
    explore(
        "reap::a_reaper_that_dies_behind_its_sweep_is_followed",
        Depth::Exhaustive,
        [
            allowed("reaped", "C did it alone, or found B dead and went on"),
            allowed("reaped and joined", "and the number was free at once"),
            allowed("left to the next sweep", "B was at it when C looked"),
            forbidden(
                "joined unswept",
                "the number was free before the sweep was done",
            ),
        ],
        || reaper_dies_behind(1),
    );
}

/// Beside the word stands what only its owner and its reaper touch: name, pid, what it joined.
#[test]
fn an_entry_is_described_anew_only_behind_the_sweep() {
    explore(
        "reap::an_entry_is_described_anew_only_behind_the_sweep",
        Depth::Exhaustive,
        [
            allowed("joined", "behind the sweep"),
            allowed("busy", "the sweep was not done"),
        ],
        || {
            let registry = Registry::with_a_dead();
            let description = Arc::new(UnsafeCell::new(()));
            let (at_b, read) = (Arc::clone(&registry), Arc::clone(&description));
            let b = thread::spawn(move || {
                let generation = at_b.begin_reap(B).unwrap();
                read.with(|_| ());
                participant::end_reap(&at_b.a.word, B, generation);
            });
            let joined = registry.a.join().is_some();
            if joined {
                description.with_mut(|_| ());
            }
            b.join().unwrap();
            if joined { "joined" } else { "busy" }.into()
        },
    );
}

/// A leaves in order, B joins with its number.
#[test]
fn an_entry_that_was_given_back_shows_nothing_of_its_old_owner() {
    explore(
        "reap::an_entry_that_was_given_back_shows_nothing_of_its_old_owner",
        Depth::Exhaustive,
        [
            allowed("joined", "A had left"),
            allowed("busy", "A had not left, or still held its lock byte"),
        ],
        || {
            let entry = Arc::new(Entry::new());
            let description = Arc::new(UnsafeCell::new(()));
            let generation = entry.join().unwrap();
            let (at_a, written) = (Arc::clone(&entry), Arc::clone(&description));
            let a = thread::spawn(move || {
                written.with_mut(|_| ());
                participant::leave(&at_a.word, generation);
                at_a.die();
            });
            let joined = entry.join().is_some();
            if joined {
                description.with_mut(|_| ());
            }
            a.join().unwrap();
            if joined { "joined" } else { "busy" }.into()
        },
    );
}

/// A joins and sends; C, who finds its claim, asks whether A lives.
fn probe_a_newcomer(producers: Producers) -> String {
    let world = World::new(1, 1, producers, Overflow::Refuse);
    let entry = Arc::new(Entry::new());
    let a = world.ring(A);
    let c = world.ring_with(C, Arc::new(ByEntry(A, Arc::clone(&entry))));
    let at_a = Arc::clone(&entry);
    let a = thread::spawn(move || {
        at_a.join().unwrap();
        if producers == Producers::Exclusive {
            a.take_producer().unwrap();
        }
        send_once(&a, 10)
    });
    let voided = resolve(&c);
    let sent = a.join().unwrap();
    let kept = producers == Producers::Shared || c.producer_holder() == A;
    let voided = if voided { ", looked again" } else { "" };
    let kept = if kept { "" } else { ", word lost" };
    let found = match copy(&c, 0) {
        Found::Body(10) => "",
        _ => ", record lost",
    };
    format!("A {}{voided}{kept}{found}", sent.outcome())
}

#[test]
fn a_newcomer_is_never_taken_for_dead() {
    explore(
        "reap::a_newcomer_is_never_taken_for_dead",
        Depth::Exhaustive,
        [
            allowed("A sent", "C found nothing, or found A alive"),
            allowed("A sent, looked again", "A had committed meanwhile"),
            forbidden(
                "A CORRUPT, looked again, record lost",
                "the claim of the living was voided",
            ),
            forbidden(
                "A CORRUPT, record lost",
                "the claim of the living was voided",
            ),
        ],
        || probe_a_newcomer(Producers::Shared),
    );
}

#[test]
fn an_exclusive_newcomer_is_never_taken_for_dead() {
    explore(
        "reap::an_exclusive_newcomer_is_never_taken_for_dead",
        Depth::Exhaustive,
        [
            allowed("A sent", "C found nothing, or found A alive"),
            allowed("A sent, looked again", "A had committed meanwhile"),
            forbidden(
                "A sent, looked again, record lost",
                "the claim of the living was voided",
            ),
            forbidden(
                "A sent, looked again, word lost",
                "the living lost its producer word",
            ),
        ],
        || probe_a_newcomer(Producers::Exclusive),
    );
}

/// The old A died as a reliable reader. While B, whom it holds back, finds that out, C reaps it,
/// and a new A takes its number and a seat.
#[test]
fn the_new_owner_of_a_number_keeps_its_seat() {
    explore(
        "reap::the_new_owner_of_a_number_keeps_its_seat",
        Depth::Exhaustive,
        [
            allowed("seated, B evicted nobody", "the sweep was first"),
            allowed("seated, B evicted the old A", "B was first"),
            forbidden(
                "unseated, B evicted the old A",
                "the living was evicted for the dead",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let registry = Registry::with_a_dead();
            world.ring(A).join(true, Start::Earliest).unwrap();
            let b = world.ring_with(B, Arc::new(Probe(Arc::clone(&registry))));
            let (c, a) = (world.ring(C), world.ring(A));
            let b = thread::spawn(move || b.evict_if_dead(A));
            let generation = registry.begin_reap(C).unwrap();
            c.sweep(A);
            participant::end_reap(&registry.a.word, C, generation);
            registry.a.join().unwrap();
            let (seat, _) = a.join(true, Start::Earliest).unwrap();
            let evicted = if b.join().unwrap() {
                "the old A"
            } else {
                "nobody"
            };
            let seated = if a.is_seated(&seat) {
                "seated"
            } else {
                "unseated"
            };
            format!("{seated}, B evicted {evicted}")
        },
    );
}

/// Participant A by its registry entry.
struct Probe(Arc<Registry>);

impl Liveness for Probe {
    fn is_dead(&self, owner: u16) -> bool {
        owner == A && participant::is_dead(&self.0.a.word, || self.0.a.holds_lock())
    }
}

/// The same for the producer word of an exclusive ring, with a claim left by the old A.
#[test]
fn the_new_owner_of_a_number_keeps_its_producer_word() {
    explore(
        "reap::the_new_owner_of_a_number_keeps_its_producer_word",
        Depth::Exhaustive,
        [
            allowed(
                "A holds, sent at 1",
                "the old claim is void, the new A goes on behind it",
            ),
            forbidden(
                "A lost it, sent at 1",
                "the word of the living was taken for the dead one's",
            ),
        ],
        || {
            let world = World::exclusive(2, 1, Overflow::Refuse);
            let registry = Registry::with_a_dead();
            let old = world.ring(A);
            old.take_producer().unwrap();
            let mut appender = Appender::new_exclusive(&old);
            let claim = appender.claim_exclusive(&old, &mut Nothing).unwrap();
            fill(&old, &claim, 10);
            let b = world.ring_with(B, Arc::new(Probe(Arc::clone(&registry))));
            let (c, a) = (world.ring(C), world.ring(A));
            let b = thread::spawn(move || {
                resolve(&b);
            });
            let generation = registry.begin_reap(C).unwrap();
            c.sweep(A);
            participant::end_reap(&registry.a.word, C, generation);
            registry.a.join().unwrap();
            a.take_producer().unwrap();
            let sent = send(&a, &mut Appender::new_exclusive(&a), 30);
            b.join().unwrap();
            assert_eq!(copy(&c, 1), Found::Body(30));
            let holds = if a.producer_holder() == A {
                "A holds"
            } else {
                "A lost it"
            };
            format!("{holds}, sent {sent}")
        },
    );
}
