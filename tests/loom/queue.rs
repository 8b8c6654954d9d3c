//! Deliveries: leases, receipts, reuse, due words, wakes.
//!
//! Times are numbers: a lease of 10 ms that is given out at 100 ends at 111, whatever a thread does
//! meanwhile; whoever looks at 200 finds it over.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, ByEntry, C, Entry, Nothing, World};
use loom::thread;
use ringway::layout::queue::Envelope;
use ringway::layout::ring::Meta;
use ringway::ring::claim::{Appender, Blocked};
use ringway::ring::delivery::consume::Consumer;
use ringway::ring::delivery::lease::Lease;
use ringway::ring::delivery::settle::Settled;
use ringway::ring::delivery::{Clock, Delivery};
use ringway::ring::{Liveness, Overflow};
use ringway::shm::queue::QueueWords;
use ringway::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// When leases are given out, how long they last, and when they are over.
pub const NOW: u64 = 100;
pub const LEASE: u32 = 10;
pub const LATER: u64 = 200;

/// The clock itself: it stands still in a model, and is plain memory to it. Whoever acts at [`NOW`]
/// has read it before.
pub struct Fixed(pub std::sync::atomic::AtomicU64);

impl Clock for Fixed {
    fn now_ms(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A queue seen by several attachments.
pub struct Stage {
    world: World,
    words: QueueWords,
    clock: Arc<Fixed>,
}

impl Stage {
    pub fn new(slots: u64) -> Self {
        Self {
            world: World::shared(slots, 1, Overflow::Refuse),
            words: QueueWords::model(),
            clock: Arc::new(Fixed(LATER.into())),
        }
    }

    pub fn queue(&self, me: u16) -> Delivery {
        self.queue_with(me, Arc::clone(&self.world.pulse) as Arc<dyn Liveness>)
    }

    /// The same with another way to tell the living from the dead.
    fn queue_with(&self, me: u16, liveness: Arc<dyn Liveness>) -> Delivery {
        let ring = self.world.ring_with(me, liveness);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Delivery::new(ring, self.words.clone(), clock)
    }

    /// Sends one message before anything else happens.
    fn sent(slots: u64, body: u64) -> Self {
        let stage = Self::new(slots);
        assert_eq!(send(&stage.queue(A), body), Sent::At(0));
        stage
    }

    /// The same where due words need no change: what they say is another model.
    pub fn quiet(slots: u64, body: u64) -> Self {
        let stage = Self::sent(slots, body);
        for word in stage.due_words() {
            word.store(0, Ordering::Relaxed);
        }
        stage
    }

    /// Participant `me` is dead from here on.
    pub fn bury(&self, me: u16) {
        self.world.pulse.stop(me);
    }

    pub fn due_words(&self) -> [&AtomicU64; 3] {
        let words = &self.words;
        [words.block_of(0), words.group_of(0), words.due()]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    At(u64),
    Full,
}

/// One attempt to send; nobody abandons a claim here.
pub fn send(queue: &Delivery, body: u64) -> Sent {
    let mut appender = Appender::new(queue.ring());
    let claim = match appender.claim_message(queue, &mut Nothing) {
        Ok(claim) => claim,
        Err(Blocked::Full { .. }) => return Sent::Full,
        Err(other) => panic!("{other:?}"),
    };
    let word = queue.first_word(claim.position, NOW, 0);
    let meta = Meta::new(8, Meta::INLINE, 0);
    claim.fill_message(meta, word, NOW, &body.to_le_bytes());
    Sent::At(
        appender
            .commit(queue.ring(), claim)
            .expect("nobody abandons"),
    )
}

/// Leases the message of slot 0 if it is offered, once.
pub fn lease(queue: &Delivery, now: u64) -> Option<Lease<'_>> {
    let standing = queue.examine(0)?;
    if !queue.is_offered(&standing, now, &mut Nothing) {
        return None;
    }
    queue.lease(standing, now, LEASE)
}

/// The same by a receiver's cursor.
fn find(queue: &Delivery, now: u64) -> Option<Lease<'_>> {
    let standing = Consumer::new(queue).find(queue, now, &mut Nothing)?;
    queue.lease(standing, now, LEASE)
}

fn copy(lease: &Lease<'_>) -> u64 {
    let mut body = [0; 8];
    let slot = lease.standing.slot();
    slot.read_message(Envelope::Standard, &mut body);
    u64::from_le_bytes(body)
}

fn name(settled: Settled) -> &'static str {
    match settled {
        Settled::Done => "deleted",
        Settled::Gone => "gone",
        Settled::Stale { .. } => "stale",
        Settled::Over => "over",
    }
}

#[test]
fn a_message_is_leased_to_one() {
    explore(
        "queue::a_message_is_leased_to_one",
        Depth::Large,
        [
            allowed("to B", "B was first"),
            allowed("to C", "C was first"),
            forbidden("to both", "two hold one message"),
            forbidden("to nobody", "it was lost between the two"),
        ],
        || {
            let stage = Stage::sent(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let take = |queue: Delivery| {
                find(&queue, NOW).map(|lease| {
                    assert_eq!((copy(&lease), lease.receives()), (7, 1));
                    assert!(lease.stands());
                })
            };
            let b = thread::spawn(move || take(b));
            let c = take(c);
            match (b.join().unwrap(), c) {
                (Some(()), None) => "to B",
                (None, Some(())) => "to C",
                (Some(()), Some(())) => "to both",
                (None, None) => "to nobody",
            }
            .into()
        },
    );
}

/// A message is sent while a receiver looks for it.
#[test]
fn a_message_is_received_whole_or_not_yet() {
    explore(
        "queue::a_message_is_received_whole_or_not_yet",
        Depth::Exhaustive,
        [
            allowed("none, then whole", "B looked before the commit"),
            allowed("whole", "B looked behind it"),
        ],
        || {
            // The slot has held a message before: its words and its body are old ones.
            let stage = Stage::quiet(1, 7);
            let (a, b) = (stage.queue(A), stage.queue(B));
            let receives = lease(&b, NOW).unwrap().receives();
            assert_eq!(b.delete(0, receives, &mut Nothing), Settled::Done);
            let a = thread::spawn(move || assert_eq!(send(&a, 8), Sent::At(1)));
            let look = |queue: &Delivery| {
                lease(queue, NOW).map(|lease| {
                    assert_eq!((copy(&lease), lease.standing.position), (8, 1));
                    assert!(lease.stands());
                })
            };
            let early = look(&b);
            a.join().unwrap();
            if early.is_some() {
                return "whole".into();
            }
            look(&b).expect("it was committed, and nobody else takes it");
            "none, then whole".into()
        },
    );
}

/// The lease of B is over. C receives the message again while B deletes it.
#[test]
fn an_old_receipt_deletes_before_the_next_receive_or_never() {
    explore(
        "queue::an_old_receipt_deletes_before_the_next_receive_or_never",
        Depth::Exhaustive,
        [
            allowed("B deleted, C none", "B was first: late, and in time"),
            allowed("B stale, C received", "C was first"),
            forbidden("B deleted, C received", "C holds a message that is gone"),
            forbidden("B stale, C none", "the message is with nobody"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let receives = lease(&b, NOW).unwrap().receives();
            let b = thread::spawn(move || b.delete(0, receives, &mut Nothing));
            let c = lease(&c, LATER).map(|lease| assert_eq!(lease.receives(), 2));
            let c = if c.is_some() { "received" } else { "none" };
            format!("B {}, C {c}", name(b.join().unwrap()))
        },
    );
}

/// B extends its lease while C, for whom it is over, receives the message.
#[test]
fn a_lease_is_extended_or_passes_on() {
    explore(
        "queue::a_lease_is_extended_or_passes_on",
        Depth::Exhaustive,
        [
            allowed(
                "B deleted, C none",
                "extended in time, and deleted by the same receipt",
            ),
            allowed("B stale, C received", "C was first"),
            forbidden("B deleted, C received", "C holds a message that is gone"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let receives = lease(&b, NOW).unwrap().receives();
            let b = thread::spawn(move || {
                let extended = b.extend(0, receives, NOW, 500);
                let deleted = b.delete(0, receives, &mut Nothing);
                if extended == Settled::Done {
                    assert_eq!(deleted, Settled::Done, "nobody finds it over");
                }
                deleted
            });
            let c = lease(&c, LATER).map(|lease| assert_eq!(lease.receives(), 2));
            let c = if c.is_some() { "received" } else { "none" };
            format!("B {}, C {c}", name(b.join().unwrap()))
        },
    );
}

/// B looks at the body where it lies and deletes the message; A comes round to its slot.
#[test]
fn a_slot_is_reused_only_behind_the_last_look_of_who_deleted() {
    explore(
        "queue::a_slot_is_reused_only_behind_the_last_look_of_who_deleted",
        Depth::Exhaustive,
        [
            allowed("A sent", "the message was deleted in time"),
            allowed("A full", "the message was in flight, and A stepped over it"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (a, b) = (stage.queue(A), stage.queue(B));
            let receives = lease(&b, NOW).unwrap().receives();
            let a = thread::spawn(move || send(&a, 8));
            // Two unordered accesses in place, one of them a write, end the model.
            assert_eq!(b.ring().memory().slot(0).body_in_place(), 7);
            assert_eq!(b.delete(0, receives, &mut Nothing), Settled::Done);
            match a.join().unwrap() {
                Sent::At(_) => "A sent",
                Sent::Full => "A full",
            }
            .into()
        },
    );
}

/// A comes round to a message in flight and renews its slot; its holder deletes it meanwhile.
#[test]
fn a_renewed_message_keeps_its_receipt() {
    explore(
        "queue::a_renewed_message_keeps_its_receipt",
        Depth::Exhaustive,
        [
            allowed("A at 1, B deleted", "deleted before A came round"),
            allowed(
                "A at 2, B deleted",
                "A stepped over position 1, then found it deleted",
            ),
            allowed(
                "A full, B deleted",
                "A stepped over as many positions as there are slots",
            ),
            forbidden("A at 1, B gone", "A overwrote a message in flight"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (a, b, c) = (stage.queue(A), stage.queue(B), stage.queue(C));
            let receives = lease(&b, NOW).unwrap().receives();
            let a = thread::spawn(move || send(&a, 8));
            let deleted = b.delete(0, receives, &mut Nothing);
            let sent = match a.join().unwrap() {
                Sent::At(position) => {
                    let lease = lease(&c, NOW).expect("the new message");
                    assert_eq!((copy(&lease), lease.standing.position), (8, position));
                    format!("A at {position}")
                }
                Sent::Full => "A full".into(),
            };
            format!("{sent}, B {}", name(deleted))
        },
    );
}

/// B copies under a lease that is over; meanwhile the message is received again, deleted, and its
/// slot written anew.
#[test]
fn a_copy_under_a_lost_lease_is_found_out() {
    explore(
        "queue::a_copy_under_a_lost_lease_is_found_out",
        Depth::Exhaustive,
        [
            allowed("the old body", "copied in time"),
            allowed("found out", "the lease was lost under the copy"),
            forbidden("another body", "the copy is of a later message"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let kept = lease(&b, NOW).unwrap();
            let c = thread::spawn(move || {
                let receives = lease(&c, LATER).unwrap().receives();
                assert_eq!(c.delete(0, receives, &mut Nothing), Settled::Done);
                assert_eq!(send(&c, 8), Sent::At(1));
            });
            let body = copy(&kept);
            let stands = kept.stands();
            c.join().unwrap();
            match (stands, body) {
                (true, 7) => "the old body",
                (true, _) => "another body",
                (false, _) => "found out",
            }
            .into()
        },
    );
}

/// B has died with a lease. A reaper ends it, C receives, and somebody who got the receipt from B
/// deletes the message by it.
#[test]
fn a_message_of_the_dead_comes_again_once() {
    explore(
        "queue::a_message_of_the_dead_comes_again_once",
        Depth::Large,
        [
            allowed("deleted, C none", "the receipt was in time"),
            allowed("stale, C received", "C was first"),
            allowed("deleted, C none yet", "C looked before the reaper"),
            forbidden("deleted, C received", "C holds a message that is gone"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            stage
                .clock
                .0
                .store(NOW + 1, std::sync::atomic::Ordering::Relaxed);
            let (a, b, c) = (stage.queue(A), stage.queue(B), stage.queue(C));
            let receives = lease(&b, NOW).unwrap().receives();
            stage.world.pulse.stop(B);
            let reaper = thread::spawn(move || a.release_dead(B));
            let settler = stage.queue(A);
            let settler = thread::spawn(move || settler.delete(0, receives, &mut Nothing));
            let found = lease(&c, NOW + 1).map(|lease| assert_eq!(lease.receives(), 2));
            let released = reaper.join().unwrap();
            let settled = settler.join().unwrap();
            let c = match (found, released) {
                (Some(()), 1) => "received",
                (None, 1) => "none yet",
                (None, 0) => "none",
                other => panic!("{other:?}"),
            };
            format!("{}, C {c}", name(settled))
        },
    );
}

/// B's number is free, and A, who saw it in a holder's bit, walks over what the old B may have left.
/// Meanwhile a new B joins and receives.
#[test]
fn a_new_owner_of_a_number_keeps_its_lease_and_its_bit() {
    explore(
        "queue::a_new_owner_of_a_number_keeps_its_lease_and_its_bit",
        Depth::Large,
        [
            allowed(
                "kept",
                "the new B holds its message, and is known as a holder",
            ),
            forbidden("released", "the lease of a living holder was ended"),
            forbidden("unknown", "nobody would look for the death of the new B"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let entry = Arc::new(Entry::new());
            let a = stage.queue_with(A, Arc::new(ByEntry(B, Arc::clone(&entry))));
            let b = stage.queue(B);
            b.hold();
            let new = thread::spawn(move || {
                entry.join().expect("nobody else joins");
                b.hold();
                lease(&b, NOW).expect("nobody else receives").receives()
            });
            a.release_left(B);
            assert_eq!(new.join().unwrap(), 1);
            let holder = a.examine(0).and_then(|standing| standing.holder());
            let known = stage.words.holders(0).load(Ordering::Relaxed) & 1 << B != 0;
            match (holder, known) {
                (Some(B), true) => "kept",
                (Some(B), false) => "unknown",
                _ => "released",
            }
            .into()
        },
    );
}

/// B gives out a lease while C finds the due words passed and brings them up to date.
#[test]
fn no_lease_is_forgotten_by_the_due_words() {
    explore(
        "queue::no_lease_is_forgotten_by_the_due_words",
        Depth::Large,
        [
            allowed("known", "the due words say when the lease ends, or earlier"),
            forbidden("forgotten", "nobody will look when the lease ends"),
        ],
        || {
            let stage = Stage::sent(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            // What an earlier lease left, whose message is gone.
            for word in stage.due_words() {
                word.store(NOW, Ordering::Relaxed);
            }
            let b = thread::spawn(move || {
                let standing = b.examine(0).unwrap();
                assert!(
                    b.lease(standing, NOW, LEASE).is_some(),
                    "nobody else leases"
                );
            });
            let _ = Consumer::new(&c).find(&c, NOW, &mut Nothing);
            b.join().unwrap();
            let end = NOW + u64::from(LEASE) + 1;
            let known = |word: &AtomicU64| word.load(Ordering::Relaxed) <= end;
            if stage.due_words().into_iter().all(known) {
                "known"
            } else {
                "forgotten"
            }
            .into()
        },
    );
}

/// C finds nothing and sleeps; B gives its message back.
#[test]
fn a_message_that_is_given_back_wakes_who_waits() {
    explore(
        "queue::a_message_that_is_given_back_wakes_who_waits",
        Depth::Large,
        [
            allowed("awake", "the message was seen in time, or the wake"),
            allowed("woken", "who gave it back saw the flag"),
            forbidden("asleep for ever", "neither saw the other"),
        ],
        || {
            let stage = Stage::sent(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let receives = lease(&b, NOW).unwrap().receives();
            let b = thread::spawn(move || {
                assert_eq!(b.nack(0, receives, NOW + 1, 0), Settled::Done);
                b.ring().wake_behind_commit();
            });
            let seq = c.ring().prepare_sleep();
            let ready = Consumer::new(&c).find(&c, NOW + 1, &mut Nothing).is_some();
            let slept = !ready && c.ring().memory().wake().load(Ordering::Relaxed) == seq;
            b.join().unwrap();
            let is_lost = stage.world.memory.wake().load(Ordering::Relaxed) == seq;
            match (slept, is_lost) {
                (false, _) => "awake",
                (true, true) => "asleep for ever",
                (true, false) => "woken",
            }
            .into()
        },
    );
}

/// C steps over the open claim of A, behind which a message is committed, and looks back at it while
/// A commits.
#[test]
fn a_claim_that_was_stepped_over_is_found_behind_its_commit() {
    explore(
        "queue::a_claim_that_was_stepped_over_is_found_behind_its_commit",
        Depth::Exhaustive,
        [
            allowed("found", "C saw the commit, and the message with it"),
            allowed("open", "C did not see it, and will look again"),
            forbidden("forgotten", "C saw the commit and not the message"),
        ],
        || {
            let stage = Stage::new(2);
            let (a, b, c) = (stage.queue(A), stage.queue(B), stage.queue(C));
            let mut appender = Appender::new(a.ring());
            let claim = appender.claim_message(&a, &mut Nothing);
            let claim = claim.expect("an empty ring");
            assert_eq!((claim.position, send(&b, 8)), (0, Sent::At(1)));
            let mut consumer = Consumer::new(&c);
            let found = consumer.find(&c, NOW, &mut Nothing);
            assert_eq!(found.map(|standing| standing.position), Some(1));
            let c = thread::spawn(move || {
                let found = consumer.find(&c, NOW, &mut Nothing);
                let found = found.map(|standing| assert_eq!(standing.position, 0));
                (found, consumer.is_pending())
            });
            let word = a.first_word(0, NOW, 0);
            claim.fill_message(Meta::new(8, Meta::INLINE, 0), word, NOW, &[7; 8]);
            appender.commit(a.ring(), claim).expect("nobody abandons");
            let (found, is_pending) = c.join().unwrap();
            match (found, is_pending) {
                (Some(()), _) => "found",
                (None, true) => "open",
                (None, false) => "forgotten",
            }
            .into()
        },
    );
}

/// A sends two messages, one behind the other, while C looks for the first.
#[test]
fn what_one_sender_sends_is_met_in_its_order() {
    explore(
        "queue::what_one_sender_sends_is_met_in_its_order",
        Depth::Exhaustive,
        [
            allowed("first", "C met the first message"),
            allowed("nothing", "C came before it was committed"),
            forbidden("second", "C passed over a claim that was committed by then"),
        ],
        || {
            let stage = Stage::new(2);
            let (a, c) = (stage.queue(A), stage.queue(C));
            let a = thread::spawn(move || {
                assert_eq!((send(&a, 7), send(&a, 8)), (Sent::At(0), Sent::At(1)));
            });
            let mut consumer = Consumer::new(&c);
            let found = consumer.find(&c, NOW, &mut Nothing);
            let found = found.map(|standing| standing.position);
            a.join().unwrap();
            match found {
                None => "nothing",
                Some(0) => "first",
                Some(_) => "second",
            }
            .into()
        },
    );
}
