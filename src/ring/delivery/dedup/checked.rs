//! The table against a map that forgets by the clock: senders of a few ids that send, stop and go
//! on, or die, at each point of a send; consumers; and time that passes. In whatever order: an id
//! has at most one message a window, who dies suppresses nothing that it has not sent, what is
//! refused as sent was sent, and nothing is refused for want of room while there is some.

use super::{Dedup, Entry, Key, Refused, Registered, Room};
use crate::layout::dedup::{BUCKET_ENTRIES, Bucket, REGION};
use crate::layout::geometry::Geometry;
use crate::layout::queue::{DUE_OFFSET, due_words};
use crate::layout::ring::Meta;
use crate::ring::claim::{Appender, Claim};
use crate::ring::delivery::{Clock, Delivery};
use crate::ring::{Liveness, Overflow, Producers, SlotRing, Tenant};
use crate::shm::dedup::DedupTable;
use crate::shm::queue::QueueWords;
use crate::shm::ring::RingMemory;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file::{self, Access};
use crate::sys::host;
use crate::sys::mapping::{MapOptions, Mapping};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

const SLOTS: u64 = 1024;
const STRIDE: u64 = 64;
const SLOTS_OFFSET: u64 = 1 << 16;
const WINDOW: u64 = 1_000;
/// Every id here has the same two buckets, and the same tag.
const ENTRIES: usize = 2 * BUCKET_ENTRIES;
const IDS: u64 = ENTRIES as u64 + 4;
/// The sender that always goes through with it; the others are stopped on the way.
const ME: u16 = 1;
/// Others, each of whom is stopped once.
const OTHERS: u16 = 40;

/// Who is dead, by bit.
#[derive(Default)]
struct Graveyard(AtomicU64);

impl Liveness for Graveyard {
    fn is_dead(&self, owner: u16) -> bool {
        self.0.load(Ordering::Relaxed) & 1 << owner != 0
    }
}

/// No message ages here.
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        0
    }
}

struct Nothing;

impl Tenant for Nothing {
    fn vacated(&mut self, _: u64, _: [u8; 24]) {}
}

/// One participant's side.
struct Side {
    queue: Delivery,
    dedup: Dedup,
}

struct Stage {
    mapping: Arc<Mapping>,
    graveyard: Arc<Graveyard>,
}

impl Stage {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("ringway-dedup-{:016x}", host::random_u64()));
        let access = Access {
            mode: 0o600,
            group: None,
        };
        let Ok(file) = file::create_temporary(&path, SLOTS_OFFSET + SLOTS * STRIDE, access) else {
            panic!("no file at {}", path.display())
        };
        let mapping = Mapping::new(&file, MapOptions::default());
        file::remove(&path).unwrap();
        Self {
            mapping: Arc::new(mapping.unwrap()),
            graveyard: Arc::default(),
        }
    }

    fn side(&self, me: u16) -> Side {
        let mapping = || Arc::clone(&self.mapping);
        let geometry = Geometry::new(SLOTS, STRIDE, 1).unwrap();
        let (groups, blocks) = due_words(SLOTS);
        let words = QueueWords::new(mapping(), &geometry, DUE_OFFSET, SLOTS_OFFSET).unwrap();
        let memory = RingMemory::new(mapping(), geometry, SLOTS_OFFSET).unwrap();
        let ring = SlotRing::new(
            memory,
            Arc::clone(&self.graveyard) as Arc<dyn Liveness>,
            me,
            Producers::Shared,
            Overflow::Refuse,
            u64::MAX,
        );
        let from = DUE_OFFSET + 8 * (groups + blocks);
        let at = from.next_multiple_of(size_of::<Bucket>() as u64);
        let table = DedupTable::new(mapping(), at, REGION, from, SLOTS_OFFSET).unwrap();
        Side {
            queue: Delivery::new(ring, words, Arc::new(Still)),
            dedup: Dedup::new(table, WINDOW),
        }
    }
}

/// A sender on its way.
struct Sending<'a> {
    id: u64,
    began: u64,
    position: u64,
    /// Until it is committed or given up.
    claim: Option<Claim<'a>>,
    at: At,
}

/// How far it got.
enum At {
    Writing(Room, Entry),
    Live(Registered),
    Committed(Registered),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopAt {
    Writing,
    Live,
    Committed,
}

impl Side {
    fn key(&self, id: u64) -> Key {
        self.dedup.key(id, id)
    }

    /// The look before the claim. Who is in the way is dead, or stopped: it is not waited for.
    fn look_up(&self, id: u64, now: u64) -> Result<Room, Refused> {
        loop {
            match self.dedup.look_up(self.queue.ring(), &self.key(id), now) {
                Err(Refused::Open { position, word }) => {
                    let ring = self.queue.ring();
                    assert!(ring.resolve(position, word, u64::MAX), "nobody else does");
                }
                other => return other,
            }
        }
    }

    /// The next position, whatever stands in the ring: it was skipped by receivers, and is renewed
    /// in place.
    fn claim(&self) -> Claim<'_> {
        let ring = self.queue.ring();
        for _ in 0..4 {
            let hint = self.queue.words.receive();
            hint.store(ring.find_tail(), Ordering::Relaxed);
            if let Ok(claim) =
                Appender::new(ring).claim_message(&self.queue, &mut Nothing)
            {
                return claim;
            }
        }
        panic!("the ring has room for every message of a case")
    }

    fn begin(&self, id: u64, now: u64, stop: StopAt) -> Result<Sending<'_>, Refused> {
        let room = self.look_up(id, now)?;
        let ring = self.queue.ring();
        let claim = self.claim();
        let at = if stop == StopAt::Writing {
            let writing = self.dedup.take(ring, room, claim.position);
            At::Writing(room, writing.expect("nobody else is about"))
        } else {
            let key = self.key(id);
            let admitted = self.dedup.admit(ring, &key, room, claim.position, now);
            At::Live(admitted.expect("nobody else is about"))
        };
        let mut sending = Sending {
            id,
            began: now,
            position: claim.position,
            claim: Some(claim),
            at,
        };
        if stop == StopAt::Committed {
            assert!(self.commit(&mut sending), "nobody was in the way");
        }
        Ok(sending)
    }

    /// LIVE → committed. Whether the claim was still there.
    fn commit(&self, sending: &mut Sending<'_>) -> bool {
        let (At::Live(own), Some(claim)) = (&sending.at, sending.claim.take()) else {
            panic!("only what is entered is committed, and once")
        };
        let own = *own;
        let word = self.queue.first_word(claim.position, sending.began, 0);
        claim.fill_message(Meta::new(0, Meta::INLINE, 0), word, sending.began, &[]);
        let ring = self.queue.ring();
        let committed = Appender::new(ring).commit(ring, claim).is_ok();
        match committed {
            true => sending.at = At::Committed(own),
            false => self.dedup.give_up(&own),
        }
        committed
    }

    /// The rest of a send: whether the message was sent.
    fn go_on(&self, sending: &mut Sending<'_>) -> Result<bool, Refused> {
        if let At::Writing(room, writing) = sending.at {
            let (ring, key) = (self.queue.ring(), self.key(sending.id));
            let own = self.dedup.publish(room, &key, writing, sending.began);
            let own = own.expect("it is written by a living sender");
            if let Err(refused) = self.dedup.search(ring, &key, sending.began, Some(&own)) {
                self.dedup.give_up(&own);
                let claim = sending.claim.take();
                Appender::abort(ring, claim.expect("not committed"));
                return Err(refused);
            }
            sending.at = At::Live(own);
        }
        if let At::Live(_) = sending.at
            && !self.commit(sending)
        {
            return Ok(false);
        }
        if let At::Committed(own) = &sending.at {
            self.dedup.seal(own);
        }
        Ok(true)
    }
}

/// What is known of an id: the positions of its messages, and until when each counts.
type Sent = HashMap<u64, Vec<(u64, u64)>>;

#[derive(Clone, Debug)]
enum Step {
    Send(u64),
    Stop(u64, StopAt),
    /// The stopped sender of this number (modulo how many there are) goes on, or is killed.
    GoOn(usize),
    Kill(usize),
    /// The message of this number is consumed, and its slot given to the next that comes round.
    Consume(usize),
    /// Every slot is claimed once by somebody else, or stepped over.
    Round,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let stop = prop_oneof![
        Just(StopAt::Writing),
        Just(StopAt::Live),
        Just(StopAt::Committed)
    ];
    // Few ids, that they meet; and now and then one of many, that there is no room.
    let id = prop_oneof![2 => 0..3u64, 3 => 0..IDS].boxed();
    prop_oneof![
        8 => id.clone().prop_map(Step::Send),
        4 => (id, stop).prop_map(|(id, stop)| Step::Stop(id, stop)),
        2 => any::<usize>().prop_map(Step::GoOn),
        2 => any::<usize>().prop_map(Step::Kill),
        3 => any::<usize>().prop_map(Step::Consume),
        1 => Just(Step::Round),
        1 => (1..=WINDOW).prop_map(Step::Pass),
    ]
}

struct Case<'a> {
    me: &'a Side,
    others: &'a [Side],
    graveyard: &'a Graveyard,
    used: usize,
    now: u64,
    sent: Sent,
    /// Positions and entry numbers of messages that nobody has consumed.
    messages: Vec<(u64, u64)>,
    /// With the index of their side.
    stopped: Vec<(usize, Sending<'a>)>,
}

impl<'a> Case<'a> {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Send(id) => match self.me.begin(id, self.now, StopAt::Committed) {
                Ok(mut sending) => {
                    self.note(&sending);
                    assert_eq!(self.me.go_on(&mut sending), Ok(true));
                }
                Err(refused) => self.check_refused(id, self.now, refused),
            },
            Step::Stop(id, stop) => {
                let Some(side) = self.others.get(self.used) else {
                    return;
                };
                match side.begin(id, self.now, stop) {
                    Ok(sending) => {
                        if stop == StopAt::Committed {
                            self.note(&sending);
                        }
                        self.stopped.push((self.used, sending));
                        self.used += 1;
                    }
                    Err(refused) => self.check_refused(id, self.now, refused),
                }
            }
            Step::GoOn(number) => {
                if let Some((side, mut sending)) = self.take_stopped(number) {
                    let was_committed = matches!(sending.at, At::Committed(_));
                    match self.others[side].go_on(&mut sending) {
                        Ok(true) if !was_committed => self.note(&sending),
                        Ok(_) | Err(Refused::Open { .. }) => {}
                        Err(refused) => self.check_refused(sending.id, sending.began, refused),
                    }
                }
            }
            Step::Kill(number) => {
                if let Some((side, _)) = self.take_stopped(number) {
                    let bit = 1 << self.others[side].queue.ring().me();
                    self.graveyard.0.fetch_or(bit, Ordering::Relaxed);
                }
            }
            Step::Consume(number) => {
                if !self.messages.is_empty() {
                    let index = number % self.messages.len();
                    self.consume(index);
                }
            }
            Step::Round => self.round(),
            Step::Pass(ms) => self.now += ms,
        }
    }

    fn take_stopped(&mut self, number: usize) -> Option<(usize, Sending<'a>)> {
        let index = number.checked_rem(self.stopped.len())?;
        Some(self.stopped.swap_remove(index))
    }

    /// A message was committed: the only one of its id within the window.
    fn note(&mut self, sending: &Sending<'_>) {
        let At::Committed(own) = &sending.at else {
            panic!("it is not committed")
        };
        let messages = self.sent.entry(sending.id).or_default();
        // Who was stopped for longer than the window may find that it has passed.
        assert!(
            messages.iter().all(|(_, until)| *until <= self.now),
            "id {} was sent at {messages:?}, and again at {} by {}",
            sending.id,
            sending.position,
            self.now
        );
        messages.push((sending.position, sending.began + WINDOW));
        self.messages.push((sending.position, own.number()));
    }

    fn check_refused(&self, id: u64, now: u64, refused: Refused) {
        match refused {
            Refused::Message { position } => {
                let known = self.sent.get(&id).map_or(&[][..], |known| known);
                assert!(
                    known.iter().any(|(at, until)| *at == position && *until > now),
                    "id {id} refused at {now} for a message at {position}, known is {known:?}"
                );
            }
            Refused::Full => {
                let counted = self.sent.values().flatten();
                let counted = counted.filter(|(_, until)| *until > now);
                let taken = counted.count() + self.stopped.len();
                assert!(taken >= ENTRIES, "full with {taken} of {ENTRIES} in use");
            }
            Refused::Open { .. } => panic!("nobody is waited for"),
        }
    }

    fn consume(&mut self, index: usize) {
        let (position, number) = self.messages.swap_remove(index);
        let standing = self.me.queue.examine(position).expect("a message");
        assert_eq!(standing.position, position);
        self.me.dedup.seal_message(number, position);
        assert!(self.me.queue.consume(&standing, &mut Nothing));
    }

    fn round(&self) {
        let until = self.me.queue.ring().find_tail() + SLOTS;
        loop {
            let claim = self.me.claim();
            let is_last = claim.position >= until;
            Appender::abort(self.me.queue.ring(), claim);
            if is_last {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_id_is_sent_once_a_window_whoever_dies(steps in prop::collection::vec(step(), 1..200)) {
        let stage = Stage::new();
        let me = stage.side(ME);
        let others: Vec<Side> = (ME + 1..=ME + OTHERS).map(|me| stage.side(me)).collect();
        let mut case = Case {
            me: &me,
            others: &others,
            graveyard: &stage.graveyard,
            used: 0,
            now: 5,
            sent: Sent::new(),
            messages: Vec::new(),
            stopped: Vec::new(),
        };
        for step in &steps {
            case.take(step);
        }
    }
}
