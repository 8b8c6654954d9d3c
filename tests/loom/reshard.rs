//! The order of a key while its shard is replaced: nothing is put to a child that its parent could still take
//! something behind.
//!
//! The table is a flag here, stored behind the seal as the states of the shards are; a producer goes to the child
//! only when it has met the seal, and then waits for nobody: it publishes the child itself, as whoever comes does.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Found, Sent, World, copy, send};
use loom::thread;
use ringway::ring::claim::{Appender, Blocked};
use ringway::ring::{Overflow, SlotRing};
use ringway::sync::{AtomicU64, Ordering};
use std::sync::Arc;

const PARENT: u64 = 1;
const CHILD: u64 = 2;

/// Seals the parent and lets the child be read: the same whoever does it.
fn replace(parent: &SlotRing, is_open: &AtomicU64) {
    if parent.sealed().is_none() {
        let _ = parent.seal(parent.find_tail());
    }
    assert!(
        parent.sealed().is_some(),
        "a seal that nobody is in the way of"
    );
    let _ = is_open.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
}

/// Puts a record where it belongs now; where that was.
fn put(parent: &SlotRing, child: &SlotRing, is_open: &AtomicU64, body: u64) -> u64 {
    match send(parent, &mut Appender::new(parent), body) {
        Sent::At(_) => PARENT,
        Sent::Blocked(Blocked::Sealed) => {
            replace(parent, is_open);
            match send(child, &mut Appender::new(child), body) {
                Sent::At(_) => CHILD,
                other => panic!("the child refused: {other}"),
            }
        }
        other => panic!("the parent refused: {other}"),
    }
}

/// A puts 10, then 20; B replaces the shard; C reads the parent to its seal, then the child.
#[test]
fn records_of_a_key_are_read_in_order_while_their_shard_is_replaced() {
    explore(
        "reshard::records_of_a_key_are_read_in_order_while_their_shard_is_replaced",
        Depth::Large,
        [
            allowed("both in the parent", "the seal came behind them"),
            allowed("one in each", "the seal came between them"),
            allowed("both in the child", "the seal came before them"),
            forbidden(
                "turned round",
                "the second went where the first is read later",
            ),
            forbidden("lost", "a record lies behind the seal, where nobody looks"),
        ],
        || {
            let worlds = [
                World::shared(4, 1, Overflow::Refuse),
                World::shared(4, 1, Overflow::Refuse),
            ];
            let is_open = Arc::new(AtomicU64::new(0));
            let seen_by = |me| [worlds[0].ring(me), worlds[1].ring(me)];
            let ([parent, child], open) = (seen_by(A), Arc::clone(&is_open));
            let a = thread::spawn(move || [10, 20].map(|body| put(&parent, &child, &open, body)));
            let [parent, _] = seen_by(B);
            replace(&parent, &is_open);
            let [first, second] = a.join().unwrap();
            assert_eq!(is_open.load(Ordering::Acquire), 1);
            // To the end of the parent, then of the child.
            let mut read = Vec::new();
            let [parent, child] = seen_by(C);
            let end = parent.sealed().expect("it was replaced");
            for (ring, end) in [(&parent, end), (&child, child.find_tail())] {
                for position in 0..end {
                    match copy(ring, position) {
                        Found::Body(body) => read.push(body),
                        other => panic!("{other:?} at {position}"),
                    }
                }
            }
            match (&read[..], first, second) {
                ([10, 20], PARENT, PARENT) => "both in the parent",
                ([10, 20], PARENT, CHILD) => "one in each",
                ([10, 20], CHILD, CHILD) => "both in the child",
                ([20, 10], ..) => "turned round",
                _ => "lost",
            }
            .into()
        },
    );
}
