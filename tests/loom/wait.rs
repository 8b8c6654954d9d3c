//! Park and wake: whoever sleeps is woken, or was told to look again.
//!
//! `FUTEX_WAIT` compares the word and falls asleep in one step against `FUTEX_WAKE`. So a sleeper
//! is lost exactly if it found the word unchanged, and the word still is unchanged when everybody
//! has done all they do.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Nothing, Sent, World, commit, fill, send_once};
use loom::thread;
use ringway::ring::claim::Appender;
use ringway::ring::read::Look;
use ringway::ring::{Overflow, Producers, SlotRing};
use ringway::sync::Ordering;

/// The value a sleeper sleeps on; `None` when it need not sleep.
fn park(ring: &SlotRing, position: u64) -> Option<u32> {
    let seq = ring.prepare_sleep();
    let ready = matches!(ring.look(position).1, Look::Record(_) | Look::Gone);
    (!ready && ring.memory().wake().load(Ordering::Relaxed) == seq).then_some(seq)
}

fn is_lost(world: &World, seq: u32) -> bool {
    world.memory.wake().load(Ordering::Relaxed) == seq
}

fn sleep_against_one_send(producers: Producers) -> String {
    let world = World::new(2, 1, producers, Overflow::Refuse);
    let (a, c) = (world.ring(A), world.ring(C));
    let a = thread::spawn(move || {
        assert_eq!(send_once(&a, 10), Sent::At(0));
        match producers {
            Producers::Shared => a.wake_behind_commit(),
            Producers::Exclusive => a.wake_sleepers(),
        }
    });
    let slept = park(&c, 0);
    a.join().unwrap();
    match slept {
        None => "awake",
        Some(seq) if is_lost(&world, seq) => "asleep for ever",
        Some(_) => "woken",
    }
    .into()
}

#[test]
fn no_wake_is_lost() {
    explore(
        "wait::no_wake_is_lost",
        Depth::Exhaustive,
        [
            allowed("awake", "the record was seen in time, or the wake"),
            allowed("woken", "the producer saw the flag"),
            forbidden("asleep for ever", "neither saw the other"),
        ],
        || sleep_against_one_send(Producers::Shared),
    );
}

#[test]
fn an_exclusive_producer_loses_at_most_the_first_sleep() {
    explore(
        "wait::an_exclusive_producer_loses_at_most_the_first_sleep",
        Depth::Exhaustive,
        [
            allowed("awake", "the record was seen in time, or the wake"),
            allowed("woken", "the producer saw the flag"),
            allowed(
                "asleep for ever",
                "no fence: the first sleep is bounded by 1 ms for this",
            ),
        ],
        || sleep_against_one_send(Producers::Exclusive),
    );
}

/// C has read position 0 or slept for it, and sleeps again for position 1.
#[test]
fn no_wake_is_lost_behind_another_wake() {
    explore(
        "wait::no_wake_is_lost_behind_another_wake",
        Depth::Exhaustive,
        [
            allowed("awake", "everything was seen without a sleep"),
            allowed("woken", "somebody saw the flag"),
            forbidden("asleep for ever", "neither saw the other"),
        ],
        || {
            let world = World::shared(2, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            assert_eq!(send_once(&a, 10), Sent::At(0));
            // A is behind its commit; C slept for it before.
            c.prepare_sleep();
            let mut appender = Appender::new(&b);
            let claim = appender.claim(&b, &mut Nothing).unwrap();
            let a = thread::spawn(move || a.wake_behind_commit());
            let c = thread::spawn(move || park(&c, 1));
            fill(&b, &claim, 20);
            assert_eq!(commit(&b, &mut appender, claim), Sent::At(1));
            b.wake_behind_commit();
            a.join().unwrap();
            let slept = c.join().unwrap();
            match slept {
                None => "awake",
                Some(seq) if is_lost(&world, seq) => "asleep for ever",
                Some(_) => "woken",
            }
            .into()
        },
    );
}
