//! Pins, cursors, trim and reclaim: what is protected is never overwritten.
//!
//! Rings of one slot: every append meets the record before it. Readers read in place, so an
//! overwrite that is not ordered behind the last load ends the model, whatever the bytes say.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Found, Nothing, Sent, World, copy, send, send_once};
use loom::thread;
use ringway::ring::claim::Appender;
use ringway::ring::read::Look;
use ringway::ring::seat::{Seat, Start};
use ringway::ring::{Overflow, SlotRing};

/// Reads position `p` in place; `None` when its record is not there.
fn view(ring: &SlotRing, p: u64) -> Option<u64> {
    let (slot, look) = ring.look(p);
    matches!(look, Look::Record(_)).then(|| slot.body_in_place())
}

/// Pins `p`, reads it in place, lets it go.
fn pinned_view(ring: &SlotRing, seat: &Seat, p: u64) -> Option<u64> {
    let body = if ring.pin(seat, 0, p) {
        view(ring, p)
    } else {
        None
    };
    ring.unpin(seat, 0);
    body
}

#[test]
fn a_pinned_record_is_never_overwritten() {
    explore(
        "reclaim::a_pinned_record_is_never_overwritten",
        Depth::Exhaustive,
        [
            allowed(
                "viewed, A sent",
                "A came behind the view, or stepped over it",
            ),
            allowed(
                "viewed, A full",
                "A renewed the pinned record until it gave up",
            ),
            allowed("refused, A sent", "trim had passed the record"),
            allowed("refused, A full", "A met the pin before it was withdrawn"),
            forbidden("wrong bytes, A sent", "the view shows another record"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::DropOldest);
            let (a, c) = (world.ring(A), world.ring(C));
            assert_eq!(send_once(&c, 10), Sent::At(0));
            let (seat, _) = c.join(false, Start::Earliest).unwrap();
            let mut appender = Appender::new(&a);
            let a = thread::spawn(move || send(&a, &mut appender, 20));
            let viewed = match pinned_view(&c, &seat, 0) {
                Some(10) => "viewed",
                Some(_) => "wrong bytes",
                None => "refused",
            };
            format!("{viewed}, A {}", a.join().unwrap().outcome())
        },
    );
}

#[test]
fn a_reliable_reader_is_overwritten_only_behind_its_cursor() {
    explore(
        "reclaim::a_reliable_reader_is_overwritten_only_behind_its_cursor",
        Depth::Exhaustive,
        [
            allowed("A sent", "the cursor had passed"),
            allowed("A full", "the cursor had not passed"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, c) = (world.ring(A), world.ring(C));
            let (seat, _) = c.join(true, Start::Earliest).unwrap();
            assert_eq!(send_once(&c, 10), Sent::At(0));
            let mut appender = Appender::new(&a);
            let a = thread::spawn(move || send(&a, &mut appender, 20));
            assert_eq!(view(&c, 0), Some(10));
            c.publish_cursor(&seat, 1);
            format!("A {}", a.join().unwrap().outcome())
        },
    );
}

/// C reads and moves its cursor; A reclaims what C has passed; B claims by what A reclaimed.
#[test]
fn what_one_producer_reclaims_another_may_overwrite() {
    explore(
        "reclaim::what_one_producer_reclaims_another_may_overwrite",
        Depth::Exhaustive,
        [
            allowed(
                "B sent",
                "the cursor had passed, by its own scan or by that of A",
            ),
            allowed("B full", "the cursor had not passed"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let (seat, _) = c.join(true, Start::Earliest).unwrap();
            assert_eq!(send_once(&c, 10), Sent::At(0));
            let (mut next_a, mut next_b) = (Appender::new(&a), Appender::new(&b));
            let a = thread::spawn(move || {
                next_a.reclaim_all(&a, &mut Nothing);
            });
            let b = thread::spawn(move || send(&b, &mut next_b, 20));
            assert_eq!(view(&c, 0), Some(10));
            c.publish_cursor(&seat, 1);
            a.join().unwrap();
            format!("B {}", b.join().unwrap().outcome())
        },
    );
}

/// The same behind a pin: A learns from its scan, which is behind its fence, that the view is gone.
#[test]
fn what_was_viewed_is_overwritten_by_another_only_behind_the_scan() {
    explore(
        "reclaim::what_was_viewed_is_overwritten_by_another_only_behind_the_scan",
        Depth::Large,
        [
            allowed(
                "B sent",
                "the view was gone, by its own scan or by that of A",
            ),
            allowed("B full", "B renewed the pinned record until it gave up"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let (seat, _) = c.join(true, Start::Earliest).unwrap();
            assert_eq!(send_once(&c, 10), Sent::At(0));
            c.pin(&seat, 0, 0);
            c.publish_cursor(&seat, 1);
            let (mut next_a, mut next_b) = (Appender::new(&a), Appender::new(&b));
            let a = thread::spawn(move || {
                next_a.reclaim_all(&a, &mut Nothing);
            });
            let b = thread::spawn(move || send(&b, &mut next_b, 20));
            assert_eq!(c.memory().slot(0).body_in_place(), 10);
            c.unpin(&seat, 0);
            a.join().unwrap();
            format!("B {}", b.join().unwrap().outcome())
        },
    );
}

#[test]
fn a_joiner_is_protected_or_sent_on() {
    explore(
        "reclaim::a_joiner_is_protected_or_sent_on",
        Depth::Exhaustive,
        [
            allowed("at 0: viewed, A full", "the joiner was first"),
            allowed("at 1: Body(20), A sent", "A was first"),
            allowed("at 1: End, A sent", "trim had moved, A had not claimed yet"),
            allowed("at 1: Pending, A sent", "A had not committed yet"),
            allowed(
                "at 1: End, A full",
                "A met the entry while its cursor stood at 0",
            ),
            forbidden(
                "at 0: gone, A sent",
                "the joiner was overwritten where it was let in",
            ),
            forbidden(
                "at 0: viewed, A sent",
                "the joiner was overwritten where it was let in",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, c) = (world.ring(A), world.ring(C));
            assert_eq!(send_once(&c, 10), Sent::At(0));
            let mut appender = Appender::new(&a);
            let a = thread::spawn(move || send(&a, &mut appender, 20));
            let (_seat, at) = c.join(true, Start::Earliest).unwrap();
            let found = match at {
                0 if view(&c, 0) == Some(10) => "viewed".to_string(),
                0 => "gone".to_string(),
                _ => format!("{:?}", copy(&c, at)),
            };
            format!("at {at}: {found}, A {}", a.join().unwrap().outcome())
        },
    );
}

#[test]
fn a_reliable_reader_may_pin_what_its_cursor_still_holds() {
    explore(
        "reclaim::a_reliable_reader_may_pin_what_its_cursor_still_holds",
        Depth::Large,
        [
            allowed(
                "viewed, A sent",
                "A came behind the view, or stepped over it",
            ),
            allowed(
                "viewed, A full",
                "A renewed the pinned record until it gave up",
            ),
            allowed(
                "later, A sent",
                "trim had passed the record before the reader joined",
            ),
            allowed(
                "later, A full",
                "A met the entry while its cursor stood at 0",
            ),
            forbidden(
                "gone, A sent",
                "the record was overwritten between cursor and pin",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let (a, c) = (world.ring(A), world.ring(C));
            assert_eq!(send_once(&c, 10), Sent::At(0));
            let mut appender = Appender::new(&a);
            let a = thread::spawn(move || send(&a, &mut appender, 20));
            let (seat, at) = c.join(true, Start::Earliest).unwrap();
            let viewed = match at {
                // What trim says does not matter: the cursor holds the record until the pin does.
                0 => {
                    c.pin(&seat, 0, 0);
                    c.publish_cursor(&seat, 1);
                    let body = view(&c, 0);
                    c.unpin(&seat, 0);
                    if body == Some(10) { "viewed" } else { "gone" }
                }
                _ => "later",
            };
            format!("{viewed}, A {}", a.join().unwrap().outcome())
        },
    );
}

/// The producer of an exclusive ring renews a pinned record by a plain store, which ends the
/// release sequence of the commit.
#[test]
fn a_renewed_record_is_still_seen_whole() {
    explore(
        "reclaim::a_renewed_record_is_still_seen_whole",
        Depth::Exhaustive,
        [
            allowed("End", "not claimed yet"),
            allowed("Pending", "claimed and not committed"),
            allowed("Body(10)", "the record, perhaps under a renewed word"),
            forbidden("Body(0)", "a committed record without its body"),
            forbidden("Gone { lagged: false }", "a pinned record was overwritten"),
            forbidden("Gone { lagged: true }", "a pinned record was overwritten"),
        ],
        || {
            let world = World::exclusive(1, 1, Overflow::DropOldest);
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let (seat, _) = b.join(false, Start::Earliest).unwrap();
            assert!(b.pin(&seat, 0, 0));
            let a = thread::spawn(move || {
                let mut appender = Appender::new(&a);
                assert_eq!(send(&a, &mut appender, 10), Sent::At(0));
                assert_eq!(send(&a, &mut appender, 20).outcome(), "full");
            });
            let found: Found = copy(&c, 0);
            a.join().unwrap();
            format!("{found:?}")
        },
    );
}
