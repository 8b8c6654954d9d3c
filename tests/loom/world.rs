//! What the models share: participants, a ring seen by several attachments, and a death that is
//! a fact others can learn.

use ringway::bus::participant;
use ringway::layout::ring::Meta;
use ringway::layout::word::Participant;
use ringway::ring::claim::{Appender, Blocked, Claim};
use ringway::ring::commit::Lost;
use ringway::ring::read::{Glance, Look, PROBE_AFTER_NS};
use ringway::ring::{Liveness, Overflow, Producers, SlotRing, Tenant};
use ringway::shm::ring::RingMemory;
use ringway::sync::{AtomicU64, Ordering};
use std::sync::Arc;

pub const A: u16 = 1;
pub const B: u16 = 2;
pub const C: u16 = 3;

/// The stall time-out of every ring, and what who has waited for it has waited.
pub const STALLED: u64 = 1 << 40;
/// Waited long enough to ask whether the owner is dead, not to abandon a living one.
pub const PROBING: u64 = PROBE_AFTER_NS;

/// Who is dead. The kernel releases a lock behind the last store of its holder; here a flag is
/// stored with release, and a probe loads it with acquire.
pub struct Pulse([AtomicU64; 4]);

impl Pulse {
    /// The last act of `owner`.
    pub fn stop(&self, owner: u16) {
        self.0[usize::from(owner)].store(1, Ordering::Release);
    }
}

impl Liveness for Pulse {
    fn is_dead(&self, owner: u16) -> bool {
        self.0[usize::from(owner)].load(Ordering::Acquire) != 0
    }
}

/// A registry entry: its word, and its lock byte as the kernel keeps it. Kernel locks are taken,
/// dropped and probed in one order for all, so every access is a read-modify-write.
pub struct Entry {
    pub word: AtomicU64,
    lock: AtomicU64,
}

impl Entry {
    /// FREE and unlocked.
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            lock: AtomicU64::new(0),
        }
    }

    /// Takes the lock byte, then the word, as the registry does.
    pub fn join(&self) -> Option<u64> {
        if participant::load(&self.word).state() != Participant::FREE
            || self
                .lock
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
        {
            return None;
        }
        let joined = participant::join(&self.word);
        if joined.is_none() {
            self.die();
        }
        joined
    }

    /// The kernel drops the lock behind the last store.
    pub fn die(&self) {
        self.lock.swap(0, Ordering::AcqRel);
    }

    pub fn holds_lock(&self) -> bool {
        self.lock.fetch_add(0, Ordering::AcqRel) != 0
    }
}

/// One participant by its registry entry; everybody else lives.
pub struct ByEntry(pub u16, pub Arc<Entry>);

impl Liveness for ByEntry {
    fn is_dead(&self, owner: u16) -> bool {
        owner == self.0 && participant::is_dead(&self.1.word, || self.1.holds_lock())
    }
}

/// A ring and who is dead, from which attachments are made.
#[derive(Clone)]
pub struct World {
    pub memory: RingMemory,
    pub pulse: Arc<Pulse>,
    producers: Producers,
    overflow: Overflow,
}

impl World {
    pub fn new(slots: u64, readers: u32, producers: Producers, overflow: Overflow) -> Self {
        Self {
            memory: RingMemory::model(slots, readers),
            pulse: Arc::new(Pulse(core::array::from_fn(|_| AtomicU64::new(0)))),
            producers,
            overflow,
        }
    }

    pub fn shared(slots: u64, readers: u32, overflow: Overflow) -> Self {
        Self::new(slots, readers, Producers::Shared, overflow)
    }

    pub fn exclusive(slots: u64, readers: u32, overflow: Overflow) -> Self {
        Self::new(slots, readers, Producers::Exclusive, overflow)
    }

    /// The ring as participant `me` sees it.
    pub fn ring(&self, me: u16) -> SlotRing {
        self.ring_with(me, Arc::clone(&self.pulse) as Arc<dyn Liveness>)
    }

    /// The same with another way to tell the living from the dead.
    pub fn ring_with(&self, me: u16, liveness: Arc<dyn Liveness>) -> SlotRing {
        let memory = self.memory.clone();
        SlotRing::new(memory, liveness, me, self.producers, self.overflow, STALLED)
    }
}

/// Keeps no payloads elsewhere.
pub struct Nothing;

impl Tenant for Nothing {
    fn vacated(&mut self, _: u64, _: [u8; 24]) {}
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    At(u64),
    Lost(Lost),
    Blocked(Blocked),
}

/// The stores between claim and commit.
pub fn fill(ring: &SlotRing, claim: &Claim<'_>, body: u64) {
    claim.fill(ring, Meta::new(8, Meta::INLINE, 0), &body.to_le_bytes());
}

/// Commit, or what became of the claim.
pub fn commit(ring: &SlotRing, appender: &mut Appender, claim: Claim<'_>) -> Sent {
    if ring.producers() == Producers::Exclusive {
        return Sent::At(appender.commit_exclusive(ring, claim));
    }
    match appender.commit(ring, claim) {
        Ok(position) => Sent::At(position),
        Err(lost) => Sent::Lost(lost),
    }
}

/// One attempt to send.
pub fn send(ring: &SlotRing, appender: &mut Appender, body: u64) -> Sent {
    let exclusive = ring.producers() == Producers::Exclusive;
    let claimed = if exclusive {
        appender.claim_exclusive(ring, &mut Nothing)
    } else {
        appender.claim(ring, &mut Nothing)
    };
    let claim = match claimed {
        Ok(claim) => claim,
        Err(blocked) => return Sent::Blocked(blocked),
    };
    fill(ring, &claim, body);
    commit(ring, appender, claim)
}

impl core::fmt::Display for Sent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::At(position) => write!(f, "at {position}"),
            _ => f.write_str(self.outcome()),
        }
    }
}

impl Sent {
    /// The ending, without the position.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::At(_) => "sent",
            Self::Lost(Lost::Abandoned) => "Abandoned",
            Self::Lost(Lost::Corrupt) => "CORRUPT",
            Self::Blocked(Blocked::Full { .. }) => "full",
            Self::Blocked(_) => "BLOCKED",
        }
    }
}

/// Sends by a fresh appender.
pub fn send_once(ring: &SlotRing, body: u64) -> Sent {
    send(ring, &mut Appender::new(ring), body)
}

/// A batch as a producer sends it: a run of clear positions, one more with care, and so on. The
/// positions of what was sent; what is abandoned is sent again.
pub fn send_batch(ring: &SlotRing, appender: &mut Appender, bodies: &[u64]) -> Vec<u64> {
    let mut sent = Vec::new();
    loop {
        send_run(ring, appender, bodies, &mut sent);
        let Some(body) = bodies.get(sent.len()) else {
            return sent;
        };
        match send(ring, appender, *body) {
            Sent::At(position) => sent.push(position),
            Sent::Lost(Lost::Abandoned) => {}
            Sent::Blocked(Blocked::Full { .. }) => return sent,
            other => panic!("{other:?} behind {sent:?}"),
        }
    }
}

/// The appends of a batch that go by word and address of the one before.
fn send_run(ring: &SlotRing, appender: &mut Appender, bodies: &[u64], sent: &mut Vec<u64>) {
    let bodies = &bodies[sent.len()..];
    let meta = Meta::new(8, Meta::INLINE, 0);
    for (claim, body) in appender.run(ring, bodies.len() as u64).zip(bodies) {
        if ring.producers() == Producers::Exclusive {
            appender.make_clear_exclusive(&claim);
            claim.fill_short(meta, &body.to_le_bytes());
            sent.push(appender.commit_exclusive(ring, claim));
            continue;
        }
        let Some(claim) = appender.make_clear(claim) else {
            return;
        };
        claim.fill_short(meta, &body.to_le_bytes());
        match appender.commit(ring, claim) {
            Ok(position) => sent.push(position),
            Err(lost) => {
                assert_eq!(lost, Lost::Abandoned);
                return;
            }
        }
    }
}

/// A producer that has sent a record of body 10 to position 0, and for which the rest of the first
/// lap is clear.
pub fn clear_from_the_start(ring: &SlotRing) -> Appender {
    let mut appender = match ring.producers() {
        Producers::Shared => Appender::new(ring),
        Producers::Exclusive => Appender::new_exclusive(ring),
    };
    appender.reclaim_all(ring, &mut Nothing);
    assert_eq!(send(ring, &mut appender, 10), Sent::At(0));
    assert!(appender.is_clear());
    appender
}

/// What a copying reader finds at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    End,
    Pending,
    Body(u64),
    /// Overwritten under the copy.
    Torn,
    /// Nothing here any more; whether `trim` says that something was dropped.
    Gone {
        lagged: bool,
    },
}

/// Looks, copies, looks again, as a reader does.
pub fn copy(ring: &SlotRing, position: u64) -> Found {
    let (slot, look) = ring.look(position);
    match look {
        Look::End => Found::End,
        Look::Pending(_) => Found::Pending,
        Look::Gone => Found::Gone {
            lagged: ring.oldest().is_some_and(|trim| position < trim),
        },
        Look::Record(meta) => {
            let mut body = [0; 8];
            slot.read_body(&mut body);
            if !ring.still(slot, position) {
                return Found::Torn;
            }
            assert_eq!(
                meta,
                Meta::new(8, Meta::INLINE, 0),
                "a header that is not the record's"
            );
            Found::Body(u64::from_le_bytes(body))
        }
    }
}

/// The same by the short way of a reader that finds its record where and as it was committed.
pub fn copy_short(ring: &SlotRing, position: u64) -> Found {
    copy_at(ring, ring.glance(position), position)
}

/// The same for `most` positions, of which each has its address by that of the one before.
pub fn copy_run(ring: &SlotRing, position: u64, most: u64) -> Vec<Found> {
    let glances = ring.glances(position, most).zip(position..);
    glances
        .map(|(glance, position)| copy_at(ring, glance, position))
        .collect()
}

/// Reads at most `most` records in place up to the first position that has none, as a reliable
/// reader reads a batch.
pub fn view_run(ring: &SlotRing, position: u64, most: u64) -> Vec<u64> {
    let glances = ring.glances(position, most);
    glances
        .map_while(|glance| {
            let meta = glance.record()?;
            assert_eq!(meta, Meta::new(8, Meta::INLINE, 0), "another's header");
            Some(glance.slot.body_in_place())
        })
        .collect()
}

fn copy_at(ring: &SlotRing, glance: Glance<'_>, position: u64) -> Found {
    let Some(meta) = glance.record() else {
        return copy(ring, position);
    };
    let mut body = [0; 8];
    glance.slot.read_body(&mut body);
    if !glance.is_unchanged() {
        return Found::Torn;
    }
    assert_eq!(
        meta,
        Meta::new(8, Meta::INLINE, 0),
        "a header that is not the record's"
    );
    Found::Body(u64::from_le_bytes(body))
}
