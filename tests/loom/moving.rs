//! A message on its way from one queue to another: movers, those who go on for them, and the dead.
//!
//! What every ending says is where the message is, over both queues: one copy, or a message that is
//! parked where it was and can be moved again.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Nothing, World};
use loom::thread;
use ringway::layout::queue::Envelope;
use ringway::layout::ring::Meta;
use ringway::layout::word::Dlv;
use ringway::ring::claim::Appender;
use ringway::ring::delivery::moving::{Disks, Outcome};
use ringway::ring::delivery::{Clock, Delivery, Standing};
use ringway::ring::{Liveness, Overflow};
use ringway::shm::queue::QueueWords;
use ringway::sync::Ordering;
use std::sync::Arc;

const NOW: u64 = 100;
/// Body of the message; of another that uses its slot again.
const BODY: u64 = 7;
const OTHER: u64 = 9;

/// It stands still.
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        NOW
    }
}

/// There is no disk behind them.
struct InMemory;

impl Disks for InMemory {
    fn arrived(&self, _position: u64) -> bool {
        true
    }

    fn left(&self) -> bool {
        true
    }
}

/// Two queues of one slot each; the message is parked in the first.
#[derive(Clone)]
struct Pair {
    source: (World, QueueWords),
    target: (World, QueueWords),
}

impl Pair {
    fn new() -> Self {
        let world = || World::shared(1, 1, Overflow::Refuse);
        let pair = Self {
            source: (world(), QueueWords::model()),
            target: (world(), QueueWords::model()),
        };
        let (source, target) = pair.of(A);
        send(&source, BODY).expect("an empty queue");
        let parked = Dlv::parked(1, 0).0;
        source
            .ring()
            .memory()
            .slot(0)
            .dlv()
            .store(parked, Ordering::Relaxed);
        // What due words say is another model.
        for (_, words) in [&pair.source, &pair.target] {
            for word in [words.block_of(0), words.group_of(0), words.due()] {
                word.store(0, Ordering::Relaxed);
            }
        }
        drop(target);
        pair
    }

    /// Both queues as participant `me` sees them. Who is dead is known by the first one's pulse.
    fn of(&self, me: u16) -> (Delivery, Delivery) {
        let pulse = Arc::clone(&self.source.0.pulse) as Arc<dyn Liveness>;
        let side = |(world, words): &(World, QueueWords)| {
            let ring = world.ring_with(me, Arc::clone(&pulse));
            Delivery::new(ring, words.clone(), Arc::new(Still))
        };
        (side(&self.source), side(&self.target))
    }

    /// Where the message is, when nobody does anything any more.
    fn ending(&self) -> &'static str {
        let (source, target) = self.of(A);
        let here = source.examine(0).map(|standing| standing.dlv);
        let there = target
            .examine(0)
            .map(|standing| (body(&standing), standing.dlv));
        match (here, there) {
            (None, Some((BODY, dlv))) if dlv.state() == Dlv::INFLIGHT => "moved",
            (None, Some((BODY, _))) => "moved, not offered",
            (Some(dlv), None) if dlv.is_parked() => "parked",
            (Some(dlv), None) if dlv.is_moving() => "left half-way",
            (Some(_), Some((BODY, _))) => "two copies",
            (None, _) => "lost",
            (Some(_), _) => "something else",
        }
    }
}

/// A plain message.
fn send(queue: &Delivery, body: u64) -> Option<u64> {
    let mut appender = Appender::new(queue.ring());
    let claim = appender.claim_message(queue, &mut Nothing).ok()?;
    let word = queue.first_word(claim.position, NOW, 0);
    let meta = Meta::new(8, Meta::INLINE, 0);
    claim.fill_message(meta, word, NOW, &body.to_le_bytes());
    appender.commit(queue.ring(), claim).ok()
}

fn body(standing: &Standing<'_>) -> u64 {
    let mut body = [0; 8];
    standing.slot().read_message(Envelope::Standard, &mut body);
    u64::from_le_bytes(body)
}

/// How far a mover comes before it dies or stops.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Step {
    Claim,
    Begin,
    Commit,
    Leave,
    LetIn,
}

/// Moves the parked message, up to a step.
fn advance((source, target): &(Delivery, Delivery), last: Step) {
    let Some(parked) = source
        .examine(0)
        .filter(|standing| standing.dlv.is_parked())
    else {
        return;
    };
    let mut appender = Appender::new(target.ring());
    let Ok(claim) = appender.claim_message(target, &mut Nothing) else {
        return;
    };
    let position = claim.position;
    if last == Step::Claim {
        return;
    }
    let Some(moving) = source.begin_move(&parked, 0, position) else {
        Appender::abort(target.ring(), claim);
        return;
    };
    if last == Step::Begin {
        return;
    }
    let meta = Meta::new(8, Meta::INLINE, 0);
    let arriving = Dlv::arriving(source.ring().me(), position);
    claim.fill_message(meta, arriving, NOW, &BODY.to_le_bytes());
    if appender.commit(target.ring(), claim).is_err() {
        source.take_back(&moving);
        return;
    }
    if last == Step::Commit {
        return;
    }
    if last == Step::Leave {
        assert!(source.consume(&moving, &mut Nothing));
        return;
    }
    source.end_move(&moving, target, position, &mut Nothing, &InMemory);
}

/// Goes on with whatever is half-way in the source.
fn go_on_from_source((source, target): &(Delivery, Delivery)) {
    for _ in 0..4 {
        let Some(moving) = source
            .examine(0)
            .filter(|standing| standing.dlv.is_moving())
        else {
            return;
        };
        source.look_behind_move();
        let position = moving.dlv.target_below(target.ring().tail_now());
        let is_copy = |there: &Standing<'_>| Some(body(there) == BODY);
        let settled =
            source.settle_leaving(&moving, target, position, &mut Nothing, &InMemory, is_copy);
        if settled != Outcome::Pending {
            return;
        }
    }
}

/// Goes on with whatever is arriving in the target.
fn go_on_from_target((source, target): &(Delivery, Delivery)) {
    for _ in 0..4 {
        let Some(arriving) = target
            .examine(0)
            .filter(|standing| standing.dlv.is_arriving())
        else {
            return;
        };
        let comes_here = |_| true;
        let settled =
            target.settle_arriving(&arriving, source, 0, &mut Nothing, &InMemory, comes_here);
        if settled == Outcome::Settled {
            return;
        }
    }
}

/// B moves. C takes it for stalled wherever it is, and goes on.
#[test]
fn a_mover_that_is_taken_for_stalled_leaves_one_copy() {
    explore(
        "moving::a_mover_that_is_taken_for_stalled_leaves_one_copy",
        Depth::Exhaustive,
        [
            allowed("moved", "B committed in time, or C came before it began"),
            allowed("parked", "C abandoned B's claim"),
            forbidden("two copies", "parked again although it has arrived"),
            forbidden("lost", "given up although it has not arrived"),
            forbidden("moved, not offered", "nobody would receive it"),
            forbidden("left half-way", "B is done, and has not ended its move"),
        ],
        || {
            let pair = Pair::new();
            let (b, c) = (pair.of(B), pair.of(C));
            let b = thread::spawn(move || advance(&b, Step::LetIn));
            go_on_from_source(&c);
            b.join().unwrap();
            pair.ending().into()
        },
    );
}

/// Two receivers have met the parked message.
#[test]
fn two_movers_make_one_copy() {
    explore(
        "moving::two_movers_make_one_copy",
        Depth::Large,
        [
            allowed("moved", "one of them moved it"),
            allowed("parked", "each found the other's claim in its way"),
            forbidden("two copies", "both moved it"),
            forbidden("lost", "each left it to the other"),
            forbidden("moved, not offered", "nobody would receive it"),
            forbidden("left half-way", "its mover is done"),
        ],
        || {
            let pair = Pair::new();
            let (b, c) = (pair.of(B), pair.of(C));
            let b = thread::spawn(move || advance(&b, Step::LetIn));
            advance(&c, Step::LetIn);
            b.join().unwrap();
            pair.ending().into()
        },
    );
}

/// B has died at each of its steps. A goes on from the source and C from the target, at the same time.
#[test]
fn a_move_of_the_dead_is_ended_once_from_both_sides() {
    for (last, wanted) in [
        (Step::Claim, "parked"),
        (Step::Begin, "parked"),
        (Step::Commit, "moved"),
        (Step::Leave, "moved"),
        (Step::LetIn, "moved"),
    ] {
        explore(
            "moving::a_move_of_the_dead_is_ended_once_from_both_sides",
            Depth::Exhaustive,
            [
                allowed("as it must", "parked before the commit, moved behind it"),
                forbidden(
                    "otherwise",
                    "a second copy, none, or one that nobody receives",
                ),
            ],
            move || {
                let pair = Pair::new();
                advance(&pair.of(B), last);
                pair.source.0.pulse.stop(B);
                let (a, c) = (pair.of(A), pair.of(C));
                let c = thread::spawn(move || go_on_from_target(&c));
                go_on_from_source(&a);
                c.join().unwrap();
                // What C looked at before A had settled it, the next look settles.
                go_on_from_target(&pair.of(C));
                match pair.ending() == wanted {
                    true => "as it must",
                    false => "otherwise",
                }
                .into()
            },
        );
    }
}

/// B has died behind its commit. A can't read the copy now, and C can.
#[test]
fn a_copy_that_can_not_be_read_now_is_not_taken_for_another() {
    explore(
        "moving::a_copy_that_can_not_be_read_now_is_not_taken_for_another",
        Depth::Exhaustive,
        [
            allowed("moved", "by C"),
            forbidden("two copies", "taken back by A although it had arrived"),
            forbidden("lost", "given up although it had arrived"),
            forbidden("something else", "no model of this"),
        ],
        || {
            let pair = Pair::new();
            advance(&pair.of(B), Step::Commit);
            pair.source.0.pulse.stop(B);
            let (a, c) = (pair.of(A), pair.of(C));
            let c = thread::spawn(move || go_on_from_source(&c));
            let (source, target) = &a;
            let moving = source.examine(0);
            if let Some(moving) = moving.filter(|standing| standing.dlv.is_moving()) {
                source.look_behind_move();
                let position = moving.dlv.target_below(target.ring().tail_now());
                let settled = source.settle_leaving(
                    &moving,
                    target,
                    position,
                    &mut Nothing,
                    &InMemory,
                    |_| None,
                );
                assert_eq!(settled, Outcome::Pending);
            }
            c.join().unwrap();
            pair.ending().into()
        },
    );
}

/// B has died behind its commit. C offers the copy, receives and deletes it, and uses its slot again,
/// while A still goes on from the source.
#[test]
fn a_copy_that_was_consumed_is_not_taken_for_one_that_never_came() {
    explore(
        "moving::a_copy_that_was_consumed_is_not_taken_for_one_that_never_came",
        Depth::Large,
        [
            allowed("once", "the message was received once and is nowhere else"),
            forbidden("again", "it is parked, and would be moved once more"),
        ],
        || {
            let pair = Pair::new();
            advance(&pair.of(B), Step::Commit);
            pair.source.0.pulse.stop(B);
            let (a, c) = (pair.of(A), pair.of(C));
            let c = thread::spawn(move || {
                go_on_from_target(&c);
                let (_, target) = &c;
                if let Some(standing) = target.examine(0)
                    && target.is_offered(&standing, NOW, &mut Nothing)
                    && target.consume(&standing, &mut Nothing)
                {
                    let _ = send(target, OTHER);
                }
            });
            go_on_from_source(&a);
            c.join().unwrap();
            let (source, _) = pair.of(A);
            match source.examine(0).is_none() {
                true => "once",
                false => "again",
            }
            .into()
        },
    );
}
