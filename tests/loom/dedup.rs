//! Deduplication: senders of one id that meet, die, and come late.
//!
//! All ids have the same two entries to choose from. A sender that would have to wait for another's
//! claim goes home here and tries again when the others are done; what it would find out by waiting,
//! that the other is dead, it finds out at once.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::queue::Fixed;
use crate::world::{A, B, C, Nothing, PROBING, World};
use loom::thread;
use ringway::layout::dedup::Entry;
use ringway::layout::ring::Meta;
use ringway::layout::word::{Ctl, Dlv};
use ringway::ring::claim::{Appender, Claim};
use ringway::ring::commit::Lost;
use ringway::ring::delivery::Delivery;
use ringway::ring::delivery::dedup::{Dedup, Key, Refused, Registered};
use ringway::ring::delivery::link::GroupHash;
use ringway::ring::{Liveness, Overflow};
use ringway::shm::dedup::DedupTable;
use ringway::shm::queue::QueueWords;
use ringway::sync::Ordering;
use std::sync::Arc;

const NOW: u64 = 100;
const WINDOW: u64 = 1_000;

struct Stage {
    world: World,
    words: QueueWords,
    table: DedupTable,
}

/// One attachment's side.
struct Side {
    queue: Delivery,
}

impl Stage {
    fn new(slots: u64) -> Self {
        Self {
            world: World::shared(slots, 1, Overflow::Refuse),
            words: QueueWords::model(),
            table: DedupTable::model(),
        }
    }

    fn side(&self, me: u16) -> Side {
        let ring = self
            .world
            .ring_with(me, Arc::clone(&self.world.pulse) as Arc<dyn Liveness>);
        Side {
            queue: Delivery::new(ring, self.words.clone(), Arc::new(Fixed(NOW.into())))
                .with_dedup(Dedup::new(self.table.clone(), WINDOW)),
        }
    }

    /// How many messages there are.
    fn messages(&self) -> usize {
        let memory = &self.world.memory;
        let slots = 0..memory.geometry().slots();
        let is_message = |slot: &u64| {
            let word = Ctl(memory.slot(*slot).ctl().load(Ordering::Relaxed));
            word.state() == Ctl::COMMITTED
        };
        slots.filter(is_message).count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Sent(u64),
    Duplicate(u64),
    /// Somebody else's claim has to be waited for.
    Wait,
    /// Its own claim was abandoned.
    Lost,
    Full,
}

impl Tried {
    fn position(self) -> Option<u64> {
        match self {
            Self::Sent(position) | Self::Duplicate(position) => Some(position),
            _ => None,
        }
    }
}

/// An id by the low half of its hash, with the tag of all others.
fn key(dedup: &Dedup, id: u64) -> Key {
    dedup.key(id, id)
}

impl Side {
    fn dedup(&self) -> &Dedup {
        self.queue.dedup().expect("every queue here has one")
    }

    fn refused(&self, refused: Refused) -> Tried {
        match refused {
            Refused::Message { position } => Tried::Duplicate(position),
            Refused::Open { position, word } => {
                self.queue.ring().resolve(position, word, PROBING);
                Tried::Wait
            }
            Refused::Full => Tried::Full,
        }
    }

    /// A send up to the commit.
    fn claim(&self, id: u64, now: u64) -> Result<(Appender, Claim<'_>, Registered), Tried> {
        let (queue, ring) = (&self.queue, self.queue.ring());
        let key = key(self.dedup(), id);
        let room = self.dedup().look_up(ring, &key, now);
        let room = room.map_err(|refused| self.refused(refused))?;
        let mut appender = Appender::new(ring);
        let claim = appender.claim_message(queue, &mut Nothing);
        let Ok(claim) = claim else {
            panic!("there is room in the ring")
        };
        match self.dedup().admit(ring, &key, room, claim.position, now) {
            Ok(own) => Ok((appender, claim, own)),
            Err(refused) => {
                Appender::abort(ring, claim);
                Err(self.refused(refused))
            }
        }
    }

    fn send_at(&self, id: u64, now: u64) -> Tried {
        match self.claim(id, now) {
            Ok((mut appender, claim, own)) => {
                let tried = self.commit(&mut appender, claim, &own);
                match tried {
                    Tried::Sent(_) => self.dedup().seal(&own),
                    _ => self.dedup().give_up(&own),
                }
                tried
            }
            Err(tried) => tried,
        }
    }

    fn commit(&self, appender: &mut Appender, claim: Claim<'_>, own: &Registered) -> Tried {
        let word = self.queue.first_word(claim.position, NOW, 0);
        let meta = Meta::new(8, Meta::INLINE, 0);
        claim.fill_message_of(GroupHash(7, 7), own.number(), meta, word, NOW, &[7; 8]);
        match appender.commit(self.queue.ring(), claim) {
            Ok(position) => Tried::Sent(position),
            Err(Lost::Abandoned) => Tried::Lost,
            Err(Lost::Corrupt) => panic!("nobody scribbles"),
        }
    }

    fn send(&self, id: u64) -> Tried {
        self.send_at(id, NOW)
    }

    /// Again, when nobody else is at it.
    fn until_known(&self, tried: Tried) -> Tried {
        let mut tried = tried;
        for _ in 0..3 {
            if tried.position().is_some() {
                return tried;
            }
            tried = self.send(7);
        }
        tried
    }
}

#[test]
fn of_two_senders_of_one_id_one_is_seen() {
    explore(
        "dedup::of_two_senders_of_one_id_one_is_seen",
        Depth::Large,
        [
            allowed("A", "B knows the position of A's message"),
            allowed("B", "A knows the position of B's message"),
            forbidden("two", "both are visible"),
            forbidden("none", "an id is suppressed that nobody has sent"),
            forbidden("another", "the two disagree about where it is"),
        ],
        || {
            let stage = Stage::new(4);
            let (a, b) = (stage.side(A), stage.side(B));
            // Who was abandoned tries again at once: the other may be between its looks still.
            let send = |side: &Side| match side.send(7) {
                Tried::Lost => side.send(7),
                tried => tried,
            };
            let a = thread::spawn(move || {
                let tried = send(&a);
                (a, tried)
            });
            let tried_b = send(&b);
            let (a, tried_a) = a.join().unwrap();
            let ended_a = a.until_known(tried_a);
            let ended_b = b.until_known(tried_b);
            match (stage.messages(), ended_a, ended_b) {
                (0, ..) => "none",
                (1, ended_a, ended_b) if ended_a.position() != ended_b.position() => "another",
                (1, Tried::Sent(_), Tried::Duplicate(_)) => "A",
                (1, Tried::Duplicate(_), Tried::Sent(_)) => "B",
                (1, ..) => "none",
                _ => "two",
            }
            .into()
        },
    );
}

/// A has the only entry that is left, or B.
#[test]
fn an_entry_is_not_taken_from_a_living_claim() {
    explore(
        "dedup::an_entry_is_not_taken_from_a_living_claim",
        Depth::Large,
        [
            allowed("A", "B found no room"),
            allowed("B", "A found no room"),
            forbidden(
                "A forgotten",
                "B took the entry before it could see A's claim",
            ),
            forbidden(
                "B forgotten",
                "A took the entry before it could see B's claim",
            ),
        ],
        || {
            let stage = Stage::new(4);
            let (a, b) = (stage.side(A), stage.side(B));
            assert_eq!(a.send(1), Tried::Sent(0));
            let a = thread::spawn(move || {
                let tried = a.send(7);
                (a, tried)
            });
            let tried_b = b.send(2);
            let (a, tried_a) = a.join().unwrap();
            let again = |side: &Side, id, tried| match (tried, side.send(id)) {
                (Tried::Sent(sent), Tried::Duplicate(of)) => sent == of,
                (Tried::Sent(_), _) => false,
                _ => true,
            };
            let (known_a, known_b) = (again(&a, 7, tried_a), again(&b, 2, tried_b));
            match (tried_a, tried_b) {
                (Tried::Sent(_), _) if !known_a => "A forgotten",
                (_, Tried::Sent(_)) if !known_b => "B forgotten",
                (Tried::Sent(_), Tried::Full) => "A",
                (Tried::Full, Tried::Sent(_)) => "B",
                _ => "both",
            }
            .into()
        },
    );
}

/// A dies with its claim entered, behind its commit, or not at all; B retries meanwhile, and once
/// more when A is known to be dead.
fn a_sender_dies(name: &'static str, commits: bool) {
    explore(
        name,
        Depth::Large,
        [
            allowed("one", "the message of A, or that of its retry"),
            forbidden("two", "the retry did not see the message of A"),
            forbidden("none", "the retry was suppressed by nothing"),
        ],
        move || {
            let stage = Stage::new(4);
            let (a, b) = (stage.side(A), stage.side(B));
            let pulse = Arc::clone(&stage.world.pulse);
            let dying = thread::spawn(move || {
                if let Ok((mut appender, claim, own)) = a.claim(7, NOW)
                    && commits
                {
                    a.commit(&mut appender, claim, &own);
                }
                pulse.stop(A);
            });
            let tried = b.send(7);
            dying.join().unwrap();
            let ended = b.until_known(tried);
            match (stage.messages(), ended.position()) {
                (1, Some(_)) => "one",
                (_, Some(_)) => "two",
                (_, None) => "none",
            }
            .into()
        },
    );
}

#[test]
fn a_sender_that_dies_before_its_commit_suppresses_nothing() {
    a_sender_dies(
        "dedup::a_sender_that_dies_before_its_commit_suppresses_nothing",
        false,
    );
}

#[test]
fn a_sender_that_dies_behind_its_commit_has_sent() {
    a_sender_dies("dedup::a_sender_that_dies_behind_its_commit_has_sent", true);
}

/// A has committed and not sealed. C consumes its message, A seals late and comes round to the slot;
/// B sends the same id again.
#[test]
fn a_late_duplicate_of_a_consumed_message_is_recognised() {
    explore(
        "dedup::a_late_duplicate_of_a_consumed_message_is_recognised",
        Depth::Large,
        [
            allowed("duplicate, reused", "by the word that C or A sealed"),
            allowed("duplicate, not yet", "by the slot, or by the word"),
            forbidden(
                "new, reused",
                "the slot was looked at, and the word not again",
            ),
            forbidden("new, not yet", "nothing but the message told"),
        ],
        || {
            let stage = Stage::new(1);
            let (a, b, c) = (stage.side(A), stage.side(B), stage.side(C));
            let (mut appender, claim, own) = a.claim(7, NOW).ok().expect("the first");
            assert_eq!(a.commit(&mut appender, claim, &own), Tried::Sent(0));
            let consumer = thread::spawn(move || {
                let standing = c.queue.examine(0).expect("it was committed");
                assert!(
                    c.queue.consume(&standing, &mut Nothing),
                    "nobody else consumes"
                );
            });
            let sender = thread::spawn({
                let queue = a.queue.clone();
                move || {
                    // Its next message, whatever its id: only the slot counts here.
                    let slot = queue.ring().memory().slot(0);
                    let dlv = Dlv(slot.dlv().load(Ordering::Relaxed));
                    if dlv.state() != Dlv::DONE {
                        return false;
                    }
                    let mut appender = Appender::new(queue.ring());
                    match appender.claim_message(&queue, &mut Nothing) {
                        Ok(claim) => {
                            let word = queue.first_word(claim.position, NOW, 0);
                            let meta = Meta::new(8, Meta::INLINE, 0);
                            claim.fill_message_of(GroupHash(7, 7), 0, meta, word, NOW, &[0; 8]);
                            true
                        }
                        Err(_) => false,
                    }
                }
            });
            let key = key(b.dedup(), 7);
            let looked = b.dedup().look_up(b.queue.ring(), &key, NOW);
            consumer.join().unwrap();
            let reused = sender.join().unwrap();
            let found = match looked {
                Err(Refused::Message { position: 0 }) => "duplicate",
                _ => "new",
            };
            format!("{found}, {}", if reused { "reused" } else { "not yet" })
        },
    );
}

/// An entry has expired, and A takes it for another id, which B looks for.
#[test]
fn an_entry_that_changes_hands_is_seen_whole() {
    explore(
        "dedup::an_entry_that_changes_hands_is_seen_whole",
        Depth::Exhaustive,
        [
            allowed("nothing", "B looked before A entered its claim"),
            allowed("A's claim", "entered, not committed"),
            forbidden(
                "a message",
                "the position of one id with the hash of another",
            ),
        ],
        || {
            let stage = Stage::new(4);
            let (a, b) = (stage.side(A), stage.side(B));
            assert_eq!(a.send(1), Tried::Sent(0));
            assert_eq!(a.send(2), Tried::Sent(1));
            let later = NOW + WINDOW;
            let a = thread::spawn(move || {
                let claimed = a.claim(7, later);
                assert!(claimed.is_ok(), "both entries have expired");
                // Its claim stays open: A is stopped here.
                core::mem::forget(claimed);
            });
            let key = key(b.dedup(), 7);
            let looked = b.dedup().look_up(b.queue.ring(), &key, later);
            a.join().unwrap();
            match looked {
                Ok(_) => "nothing",
                Err(Refused::Open { position: 2, .. }) => "A's claim",
                Err(_) => "a message",
            }
            .into()
        },
    );
}

/// A dies while it writes an entry. B, for which nothing else is free, takes it over, and C looks for
/// B's id.
#[test]
fn an_entry_of_the_dead_is_taken_over_whole() {
    explore(
        "dedup::an_entry_of_the_dead_is_taken_over_whole",
        Depth::Large,
        [
            allowed("B full", "A was not known to be dead"),
            allowed("B sent, C sees it", "the whole entry is B's"),
            forbidden("B sent, C does not", "A's last store came behind B's"),
        ],
        || {
            let stage = Stage::new(4);
            let (a, b, c) = (stage.side(A), stage.side(B), stage.side(C));
            assert_eq!(a.send(1), Tried::Sent(0));
            let table = stage.table.clone();
            let free =
                (0..2).find(|bucket| table.bucket(*bucket).word(0).load(Ordering::Relaxed) == 0);
            let free = free.expect("one of the two");
            let pulse = Arc::clone(&stage.world.pulse);
            // What a sender stores up to the middle of its entry.
            let mut appender = Appender::new(a.queue.ring());
            let claim = appender
                .claim_message(&a.queue, &mut Nothing)
                .ok()
                .expect("room");
            let writing = Entry::writing(A, claim.position);
            let bucket = table.bucket(free);
            bucket.word(0).store(writing.0, Ordering::Relaxed);
            let dying = thread::spawn({
                let table = table.clone();
                move || {
                    table.bucket(free).low(0).store(3, Ordering::Relaxed);
                    pulse.stop(A);
                }
            });
            let tried = b.send(7);
            dying.join().unwrap();
            let key = key(c.dedup(), 7);
            let looked = c.dedup().look_up(c.queue.ring(), &key, NOW);
            match (tried, looked) {
                (Tried::Full, _) => "B full",
                (Tried::Sent(sent), Err(Refused::Message { position })) if sent == position => {
                    "B sent, C sees it"
                }
                _ => "B sent, C does not",
            }
            .into()
        },
    );
}
