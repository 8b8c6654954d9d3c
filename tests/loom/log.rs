//! The log of a topic's subscriptions: a record is seen whole or not at all, every place is given out once,
//! and what a dead owner left is stepped over without taking what it had finished.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, Pulse, World};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::layout::topic::{RECORD_HEAD, RecordWord};
use ringway::ring::{Liveness, Overflow};
use ringway::shm::record::{self, Claimed, Settled};
use ringway::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// Records that there is room for.
const RECORDS: usize = 3;

/// A log of records of the least length, and what one record says.
struct Log {
    words: [AtomicU64; RECORDS + 1],
    bodies: [UnsafeCell<u64>; RECORDS],
}

impl Log {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            words: core::array::from_fn(|_| AtomicU64::new(0)),
            bodies: core::array::from_fn(|_| UnsafeCell::new(0)),
        })
    }

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.words.get(at / RECORD_HEAD)
    }

    fn claim(&self, me: u16) -> (usize, RecordWord) {
        let claimed = RecordWord::new(RecordWord::CLAIMED, me, (RECORD_HEAD / 8) as u32);
        match record::claim(|at| self.word(at), 0, claimed) {
            Claimed::At(at) => (at, claimed),
            other => panic!("{other:?}"),
        }
    }

    fn write(&self, at: usize, body: u64) {
        self.bodies[at / RECORD_HEAD].with_mut(|place| {
            // SAFETY: loom fails the model if somebody else is at it.
            unsafe { *place = body }
        });
    }

    /// Claims, writes, commits. Whether it counts.
    fn append(&self, me: u16, body: u64) -> bool {
        let (at, claimed) = self.claim(me);
        self.write(at, body);
        record::commit(self.word(at).unwrap(), claimed)
    }

    /// One record as a reader finds it.
    fn read(&self, at: usize, pulse: &Pulse) -> Option<u64> {
        let word = self.word(at).unwrap();
        let seen = record::look(word);
        if seen.0 == 0
            || record::settle(word, seen, |owner| pulse.is_dead(owner)) != Settled::Committed
        {
            return None;
        }
        // SAFETY: as in `write`.
        Some(self.bodies[at / RECORD_HEAD].with(|place| unsafe { *place }))
    }

    /// Everything that counts, in the order of the log.
    fn all(&self, pulse: &Pulse) -> Vec<u64> {
        (0..RECORDS)
            .filter_map(|record| self.read(record * RECORD_HEAD, pulse))
            .collect()
    }
}

fn pulse() -> Arc<Pulse> {
    Arc::clone(&World::shared(1, 1, Overflow::Refuse).pulse)
}

#[test]
fn a_subscription_is_seen_whole_or_not_at_all_and_is_seen_once_it_returned() {
    explore(
        "log::a_subscription_is_seen_whole_or_not_at_all_and_is_seen_once_it_returned",
        Depth::Exhaustive,
        [
            allowed("not yet", "the publish began before the subscribe returned"),
            allowed("early", "it was committed, and had not returned"),
            allowed("seen", "it had returned"),
            forbidden(
                "lost",
                "it had returned, and a publish behind it does not see it",
            ),
        ],
        || {
            let (log, pulse, returned) = (Log::new(), pulse(), Arc::new(AtomicU64::new(0)));
            let (at_a, told) = (Arc::clone(&log), Arc::clone(&returned));
            let a = thread::spawn(move || {
                assert!(at_a.append(A, 7));
                // What anybody has, who tells somebody else that it has subscribed.
                told.store(1, Ordering::Release);
            });
            let is_behind = returned.load(Ordering::Acquire) == 1;
            let seen = log.read(0, &pulse);
            a.join().unwrap();
            assert!(seen.is_none_or(|body| body == 7));
            match (is_behind, seen) {
                (true, None) => "lost",
                (true, Some(_)) => "seen",
                (false, None) => "not yet",
                (false, Some(_)) => "early",
            }
            .into()
        },
    );
}

#[test]
fn two_who_append_get_a_place_each() {
    explore(
        "log::two_who_append_get_a_place_each",
        Depth::Exhaustive,
        [
            allowed("[7, 8]", "A was first"),
            allowed("[8, 7]", "B was first"),
            forbidden("[7]", "B's place was given out twice"),
            forbidden("[8]", "A's place was given out twice"),
        ],
        || {
            let (log, pulse) = (Log::new(), pulse());
            let at_a = Arc::clone(&log);
            let a = thread::spawn(move || at_a.append(A, 7));
            assert!(log.append(B, 8));
            assert!(a.join().unwrap());
            format!("{:?}", log.all(&pulse))
        },
    );
}

/// A claims and writes; then it dies, having committed or not, while B looks and appends.
#[test]
fn what_a_dead_owner_left_is_void_unless_it_had_committed() {
    explore(
        "log::what_a_dead_owner_left_is_void_unless_it_had_committed",
        Depth::Exhaustive,
        [
            allowed("[7, 8]", "A had committed"),
            allowed("[8, 7]", "B was first, and A had committed"),
            allowed("[8]", "A had not committed when its death was seen"),
        ],
        || {
            let (log, pulse) = (Log::new(), pulse());
            let (at_a, dying) = (Arc::clone(&log), Arc::clone(&pulse));
            let a = thread::spawn(move || {
                let (at, claimed) = at_a.claim(A);
                at_a.write(at, 7);
                // It may be taken for dead in front of its last instruction, as one who is killed is.
                dying.stop(A);
                record::commit(at_a.word(at).unwrap(), claimed)
            });
            let early = log.all(&pulse);
            assert!(log.append(B, 8));
            let counts = a.join().unwrap();
            let all = log.all(&pulse);
            assert_eq!(all.contains(&7), counts, "{all:?}");
            assert!(
                !early.contains(&7) || counts,
                "what was seen to count does not count"
            );
            // And it stays so.
            assert_eq!(log.all(&pulse), all);
            format!("{all:?}")
        },
    );
}
