//! Leases of a group in a shard, and its checkpoint: whoever is fenced, and whenever.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, World};
use loom::thread;
use ringway::layout::word::{Checkpoint, Lease};
use ringway::ring::standing::{advance, fence, take};
use ringway::ring::{Overflow, SlotRing};
use ringway::shm::ring::ReaderWords;
use ringway::sync::Ordering;

/// The end of the shard, for all that matters here.
const END: u64 = 100;

fn words(ring: &SlotRing) -> ReaderWords<'_> {
    ring.memory().reader(0)
}

/// A shard whose lease worker 0 has, stamped, with everything below 0 checkpointed.
fn held(world: &World) -> Lease {
    let ring = world.ring(A);
    let words = words(&ring);
    let lease = Lease(0).taken(0);
    words.lease.store(lease.0, Ordering::Relaxed);
    let checkpoint = Checkpoint::new(lease.token(), 0);
    words.checkpoint.store(checkpoint.0, Ordering::Relaxed);
    words.cursor.store(0, Ordering::Relaxed);
    lease
}

fn stands(ring: &SlotRing) -> (u64, u64) {
    let words = words(ring);
    let checkpoint = Checkpoint(words.checkpoint.load(Ordering::Relaxed));
    (
        checkpoint.position(END),
        words.cursor.load(Ordering::Relaxed),
    )
}

/// A, taken for stopped, checkpoints up to 3 while B takes its lease and goes on.
#[test]
fn a_checkpoint_counts_for_the_next_worker_or_is_refused() {
    explore(
        "lease::a_checkpoint_counts_for_the_next_worker_or_is_refused",
        Depth::Exhaustive,
        [
            allowed("counted", "A was before the stamp: B begins at 3"),
            allowed("refused", "B had stamped: A is told, and B begins at 0"),
            forbidden(
                "counted and read again",
                "A was told that it counts, and B begins at 0",
            ),
            forbidden(
                "refused and passed over",
                "A was told to drop it, and B begins at 3",
            ),
        ],
        || {
            let world = World::shared(2, 1, Overflow::Refuse);
            let of_a = held(&world);
            let (a, b) = (world.ring(A), world.ring(B));
            let a = thread::spawn(move || advance(&words(&a), of_a, 3));
            let of_b = take(&words(&b), of_a, 1).expect("nobody else takes it");
            let begins = fence(&words(&b), of_b).expect("nobody else takes it");
            let begins = begins.position(END);
            assert!(advance(&words(&b), of_b, begins + 1), "B was refused");
            let counted = a.join().unwrap();
            let (position, cursor) = stands(&b);
            assert_eq!(position, begins + 1, "what B has checkpointed stands");
            assert!(cursor <= position, "a cursor above the checkpoint");
            match (counted, begins) {
                (true, 3) => "counted",
                (false, 0) => "refused",
                (true, _) => "counted and read again",
                (false, _) => "refused and passed over",
            }
            .into()
        },
    );
}

/// A is dead. B and C both want its shard; C takes B for stopped if it comes behind it.
#[test]
fn of_two_who_take_a_shard_the_later_has_it() {
    explore(
        "lease::of_two_who_take_a_shard_the_later_has_it",
        Depth::Exhaustive,
        [
            allowed(
                "B alone",
                "C was too late to see a lease that it could take",
            ),
            allowed("C behind B", "B had checkpointed, and C begins there"),
            allowed("C, B refused", "C had stamped before B checkpointed"),
            allowed(
                "C, B without a stamp",
                "C was faster, or took it before it was stamped",
            ),
            forbidden(
                "C again",
                "B was told that it counts, and C begins before it",
            ),
        ],
        || {
            let world = World::shared(2, 1, Overflow::Refuse);
            let of_a = held(&world);
            let (b, c) = (world.ring(B), world.ring(C));
            let b = thread::spawn(move || {
                let mine = take(&words(&b), of_a, 1)?;
                fence(&words(&b), mine)?;
                Some(advance(&words(&b), mine, 5))
            });
            let seen = Lease(words(&c).lease.load(Ordering::Acquire));
            let begins = take(&words(&c), seen, 2)
                .map(|mine| fence(&words(&c), mine).expect("nobody takes it from C"))
                .map(|checkpoint| checkpoint.position(END));
            match (b.join().unwrap(), begins) {
                (Some(true), None) => "B alone",
                (Some(true), Some(5)) => "C behind B",
                (Some(false), Some(0)) => "C, B refused",
                (None, Some(0)) => "C, B without a stamp",
                (Some(true), Some(_)) => "C again",
                other => panic!("{other:?}"),
            }
            .into()
        },
    );
}
