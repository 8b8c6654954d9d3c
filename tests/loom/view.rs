//! Views: no slot and no payload is used again while somebody looks at it, and none is lost.
//!
//! Who looks touches the body in place, and two accesses of it, one of them a write, that nothing
//! orders end a model. A lease of [`NOW`] is over for whoever acts at [`LATER`].

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::queue::{LATER, LEASE, NOW, Sent, Stage, lease, send};
use crate::world::{A, B, C, Nothing};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::layout::ring::Meta;
use ringway::layout::word::Chunk;
use ringway::pool::chunk;
use ringway::ring::Tenant;
use ringway::ring::claim::Appender;
use ringway::ring::delivery::Delivery;
use ringway::ring::delivery::settle::Settled;
use ringway::ring::delivery::view::Pin;
use ringway::sync::{AtomicU64, Ordering};
use std::sync::Arc;

/// Of the payload that the message of [`Stage`] names.
const VERSION: u64 = 1;
const REFERENCE: [u8; 24] = [VERSION as u8; 24];

/// Pins and leases the message of slot 0, as a receiver does.
fn view(queue: &Delivery, now: u64) -> Option<(Pin, u16)> {
    view_payload(queue, now, None, &mut Nothing)
}

/// The same of a message with a payload.
fn view_payload(
    queue: &Delivery,
    now: u64,
    reference: Option<[u8; 24]>,
    tenant: &mut dyn Tenant,
) -> Option<(Pin, u16)> {
    // A later one is another model's.
    let standing = queue.examine(0).filter(|standing| standing.position == 0)?;
    if !queue.is_offered(&standing, now, tenant) {
        return None;
    }
    let pin = queue.pin(standing.position).expect("there is room");
    let (pin, lease) = queue.lease_pinned(pin, standing, now, LEASE, reference, tenant)?;
    Some((pin, lease.receives()))
}

fn look(queue: &Delivery) {
    assert_eq!(queue.ring().memory().slot(0).body_in_place(), 7);
}

fn close(queue: &Delivery, pin: Pin) {
    queue.end_view(pin, None, &mut Nothing);
}

fn delete(queue: &Delivery, receives: u16) {
    let deleted = queue.delete(0, receives, &mut Nothing);
    assert_eq!(deleted, Settled::Done);
}

/// B looks at the message; C finds its lease over, receives and deletes the message, and sends.
#[test]
fn a_slot_is_not_written_while_it_is_looked_at() {
    explore(
        "view::a_slot_is_not_written_while_it_is_looked_at",
        Depth::Large,
        [
            allowed("viewed, sent", "the view was closed in time"),
            allowed("viewed, stepped over", "the view was open"),
            allowed("viewed, in flight", "C was too early, or B in its way"),
            allowed("none, sent", "C was first"),
            allowed(
                "none, stepped over",
                "the same, and B had its pin there already",
            ),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let b = thread::spawn(move || {
                let Some((pin, _)) = view(&b, NOW) else {
                    return false;
                };
                look(&b);
                look(&b);
                close(&b, pin);
                true
            });
            let taken = lease(&c, LATER).map(|lease| lease.receives());
            let sent = taken.map(|receives| {
                delete(&c, receives);
                send(&c, 8)
            });
            let viewed = if b.join().unwrap() { "viewed" } else { "none" };
            let sent = match sent {
                Some(Sent::At(_)) => "sent",
                Some(Sent::Full) => "stepped over",
                None => "in flight",
            };
            format!("{viewed}, {sent}")
        },
    );
}

/// B begins to look while C purges the queue, whatever is in flight, and sends.
#[test]
fn a_message_is_purged_before_it_is_looked_at_or_under_the_view() {
    explore(
        "view::a_message_is_purged_before_it_is_looked_at_or_under_the_view",
        Depth::Large,
        [
            allowed("viewed, sent", "the view was closed in time"),
            allowed("viewed, stepped over", "the view was open"),
            allowed("none, sent", "C was first"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (b, c) = (stage.queue(B), stage.queue(C));
            let c = thread::spawn(move || {
                assert_eq!(c.purge(&mut Nothing), 1);
                send(&c, 8)
            });
            let viewed = view(&b, NOW).map(|(pin, _)| {
                look(&b);
                close(&b, pin);
            });
            let viewed = viewed.map_or("none", |()| "viewed");
            match c.join().unwrap() {
                Sent::At(_) => format!("{viewed}, sent"),
                Sent::Full => format!("{viewed}, stepped over"),
            }
        },
    );
}

/// A message was deleted under the view of B. A comes to its slot while B closes the view.
#[test]
fn a_producer_comes_to_a_message_that_was_deleted_under_a_view() {
    explore(
        "view::a_producer_comes_to_a_message_that_was_deleted_under_a_view",
        Depth::Exhaustive,
        [
            allowed("sent", "the view was closed in time"),
            allowed("stepped over", "the view was open"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (a, b, c) = (stage.queue(A), stage.queue(B), stage.queue(C));
            let (pin, _) = view(&b, NOW).expect("nobody else receives");
            delete(&c, lease(&c, LATER).expect("it is over").receives());
            let a = thread::spawn(move || send(&a, 8));
            look(&b);
            close(&b, pin);
            match a.join().unwrap() {
                Sent::At(_) => "sent",
                Sent::Full => "stepped over",
            }
            .into()
        },
    );
}

/// A message was deleted under the view of B, who is dead by now, and nobody has reaped it. A comes to its
/// slot.
#[test]
fn a_view_of_the_dead_costs_no_slot() {
    explore(
        "view::a_view_of_the_dead_costs_no_slot",
        Depth::Exhaustive,
        [
            allowed("sent", "a pin of the dead is none"),
            forbidden("stepped over", "it would be until somebody reaps"),
        ],
        || {
            let stage = Stage::quiet(1, 7);
            let (a, b, c) = (stage.queue(A), stage.queue(B), stage.queue(C));
            view(&b, NOW).expect("nobody else receives");
            delete(&c, lease(&c, LATER).expect("it is over").receives());
            stage.bury(B);
            match send(&a, 8) {
                Sent::At(_) => "sent",
                Sent::Full => "stepped over",
            }
            .into()
        },
    );
}

/// A payload: its chunk's word, and its bytes, which whoever frees it writes at once.
struct Payload {
    word: AtomicU64,
    bytes: UnsafeCell<()>,
    freed: AtomicU64,
}

impl Payload {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            word: AtomicU64::new(Chunk::new(Chunk::ATTACHED, 0, VERSION).0),
            bytes: UnsafeCell::new(()),
            freed: AtomicU64::new(0),
        })
    }

    fn look(&self) {
        self.bytes.with(|_| ());
    }

    fn ending(&self) -> String {
        match self.freed.load(Ordering::Relaxed) {
            0 => "lost".into(),
            1 => "freed once".into(),
            times => format!("freed {times} times"),
        }
    }
}

struct Owner(Arc<Payload>);

impl Tenant for Owner {
    fn vacated(&mut self, _: u64, _: [u8; 24]) {
        if chunk::free(&self.0.word, VERSION) {
            self.0.bytes.with_mut(|_| ());
            self.0.freed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const ONCE: [crate::explore::Expect; 3] = [
    allowed("freed once", "by one of those who could"),
    forbidden("lost", "nobody would free it"),
    forbidden("freed 2 times", "somebody may have it already"),
];

/// A queue with one message whose payload lies in the pool.
fn with_payload() -> Stage {
    let stage = Stage::new(1);
    let queue = stage.queue(A);
    let mut appender = Appender::new(queue.ring());
    let claim = appender.claim_message(&queue, &mut Nothing);
    let claim = claim.expect("an empty ring");
    let word = queue.first_word(claim.position, NOW, 0);
    claim.fill_message(Meta::new(8, Meta::CHUNK, 0), word, NOW, &[1; 8]);
    appender
        .commit(queue.ring(), claim)
        .expect("nobody abandons");
    for word in stage.due_words() {
        word.store(0, Ordering::Relaxed);
    }
    stage
}

/// B looks at a payload whose message C deletes.
#[test]
fn a_payload_is_freed_by_who_deletes_it_or_who_looked_last() {
    explore(
        "view::a_payload_is_freed_by_who_deletes_it_or_who_looked_last",
        Depth::Exhaustive,
        ONCE,
        || {
            let stage = with_payload();
            let payload = Payload::new();
            let (b, c) = (stage.queue(B), stage.queue(C));
            let (pin, _) = view(&b, NOW).expect("nobody else receives");
            let receives = lease(&c, LATER).expect("it is over").receives();
            let owner = Owner(Arc::clone(&payload));
            let c = thread::spawn(move || {
                let mut owner = owner;
                assert_eq!(c.delete(0, receives, &mut owner), Settled::Done);
            });
            payload.look();
            b.end_view(pin, Some(REFERENCE), &mut Owner(Arc::clone(&payload)));
            c.join().unwrap();
            payload.ending()
        },
    );
}

/// B closes its view of a payload whose message C receives again, and keeps.
#[test]
fn a_payload_of_a_message_that_stays_is_kept_when_a_view_is_closed() {
    explore(
        "view::a_payload_of_a_message_that_stays_is_kept_when_a_view_is_closed",
        Depth::Exhaustive,
        [
            allowed("kept", "its message still names it"),
            forbidden("freed once", "under its message"),
            forbidden("freed 2 times", "the same"),
        ],
        || {
            let stage = with_payload();
            let payload = Payload::new();
            let (b, c) = (stage.queue(B), stage.queue(C));
            let (pin, _) = view(&b, NOW).expect("nobody else receives");
            let c = thread::spawn(move || lease(&c, LATER).map(|lease| lease.receives()));
            payload.look();
            b.end_view(pin, Some(REFERENCE), &mut Owner(Arc::clone(&payload)));
            assert_eq!(c.join().unwrap(), Some(2), "nobody else wants it");
            match &*payload.ending() {
                "lost" => "kept".into(),
                freed => freed.into(),
            }
        },
    );
}

/// B is about to look at a payload whose message C receives and deletes.
#[test]
fn a_payload_whose_viewer_came_too_late_is_freed_all_the_same() {
    explore(
        "view::a_payload_whose_viewer_came_too_late_is_freed_all_the_same",
        Depth::Exhaustive,
        ONCE,
        || {
            let stage = with_payload();
            let payload = Payload::new();
            let (b, c) = (stage.queue(B), stage.queue(C));
            let owner = Owner(Arc::clone(&payload));
            let c = thread::spawn(move || {
                let mut owner = owner;
                if let Some(receives) = lease(&c, LATER).map(|lease| lease.receives()) {
                    assert_eq!(c.delete(0, receives, &mut owner), Settled::Done);
                    return true;
                }
                false
            });
            let mut owner = Owner(Arc::clone(&payload));
            let viewed = view_payload(&b, NOW, Some(REFERENCE), &mut owner);
            let viewed = viewed.map(|(pin, receives)| {
                payload.look();
                b.end_view(pin, Some(REFERENCE), &mut owner);
                receives
            });
            if !c.join().unwrap() {
                // B was first, and C met a lease that it took for a running one, or a lost swap.
                let receives = viewed.expect("one of the two had it");
                assert_eq!(b.delete(0, receives, &mut owner), Settled::Done);
            }
            payload.ending()
        },
    );
}

/// B and C look at a payload whose message is gone.
#[test]
fn a_payload_that_two_look_at_is_freed_by_the_last() {
    explore(
        "view::a_payload_that_two_look_at_is_freed_by_the_last",
        Depth::Exhaustive,
        ONCE,
        || {
            let stage = with_payload();
            let payload = Payload::new();
            let (b, c) = (stage.queue(B), stage.queue(C));
            let (first, _) = view(&b, NOW).expect("nobody else receives");
            let (second, receives) = view(&c, LATER).expect("it is over");
            let mut owner = Owner(Arc::clone(&payload));
            assert_eq!(c.delete(0, receives, &mut owner), Settled::Done);
            let c = thread::spawn(move || {
                owner.0.look();
                c.end_view(second, Some(REFERENCE), &mut owner);
            });
            payload.look();
            b.end_view(first, Some(REFERENCE), &mut Owner(Arc::clone(&payload)));
            c.join().unwrap();
            payload.ending()
        },
    );
}
