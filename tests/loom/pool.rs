//! Chunks: one owner at a time, freed once, never while somebody needs the bytes.

use crate::explore::{Depth, allowed, explore, forbidden};
use crate::world::{A, B, C, Nothing, Sent, World, commit};
use loom::cell::UnsafeCell;
use loom::thread;
use ringway::layout::ring::Meta;
use ringway::layout::word::Chunk as Word;
use ringway::pool::chunk::{self, Settled};
use ringway::ring::claim::Appender;
use ringway::ring::read::Look;
use ringway::ring::{Liveness, Overflow, SlotRing, Tenant};
use ringway::sync::{AtomicU64, Label, Ordering, fence_at};
use std::sync::Arc;

/// The ring's id in addresses.
const RING: u64 = 7;

/// A chunk of the pool: its word, the address beside it, and its bytes twice, as in a slot.
struct Chunk {
    word: AtomicU64,
    ring: AtomicU64,
    position: AtomicU64,
    bytes: AtomicU64,
    in_place: UnsafeCell<()>,
}

impl Chunk {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self {
            word: word(),
            ring: word(),
            position: word(),
            bytes: word(),
            in_place: UnsafeCell::new(()),
        })
    }

    fn write(&self, bytes: u64) {
        self.in_place.with_mut(|_| ());
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn read_in_place(&self) -> u64 {
        self.in_place.with(|_| ());
        self.bytes.load(Ordering::Relaxed)
    }

    /// The address, as the producer's lender stores it before the commit.
    fn address(&self, position: u64) {
        self.ring.store(RING, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
    }

    fn show(&self) -> String {
        let word = Word(self.word.load(Ordering::Relaxed));
        let state = match word.state() {
            Word::FREE => "free",
            Word::OWNED => "owned",
            _ => "attached",
        };
        format!("{state} {}", word.version())
    }
}

/// The body of a record is the version of the one chunk there is.
const REFERENCE: Meta = Meta::new(8, Meta::CHUNK, 0);

/// Claims, names the chunk, commits.
fn send_chunk(ring: &SlotRing, chunk: &Chunk, version: u64) -> Sent {
    ring.memory().payloads().store(1, Ordering::Relaxed);
    let mut appender = Appender::new(ring);
    let claim = appender.claim(ring, &mut Nothing).unwrap();
    chunk.address(claim.position);
    claim.fill(ring, REFERENCE, &version.to_le_bytes());
    commit(ring, &mut appender, claim)
}

/// The version named by the record at `position`.
fn reference_at(ring: &SlotRing, position: u64) -> Option<u64> {
    let (slot, Look::Record(meta)) = ring.look(position) else {
        return None;
    };
    let mut body = [0; 8];
    slot.read_body(&mut body);
    (meta == REFERENCE && ring.still(slot, position)).then(|| u64::from_le_bytes(body))
}

/// What a sweep asks of the ring.
fn is_named(ring: &SlotRing, id: u64, position: u64, version: u64) -> bool {
    id == RING && reference_at(ring, position) == Some(version)
}

#[test]
fn a_chunk_is_taken_by_one_of_two() {
    explore(
        "pool::a_chunk_is_taken_by_one_of_two",
        Depth::Exhaustive,
        [
            allowed("A", "A was first"),
            allowed("B", "B was first"),
            forbidden("both", "one chunk has two owners"),
            forbidden("nobody", "a free chunk was left lying"),
        ],
        || {
            let chunk = Chunk::new();
            let at_a = Arc::clone(&chunk);
            let a = thread::spawn(move || chunk::take(&at_a.word, A).inspect(|_| at_a.write(1)));
            let b = chunk::take(&chunk.word, B).inspect(|_| chunk.write(2));
            match (a.join().unwrap(), b) {
                (Some(0), None) => "A",
                (None, Some(0)) => "B",
                (None, None) => "nobody",
                _ => "both",
            }
            .into()
        },
    );
}

#[test]
fn a_chunk_is_rewritten_only_behind_its_last_reader() {
    explore(
        "pool::a_chunk_is_rewritten_only_behind_its_last_reader",
        Depth::Exhaustive,
        [
            allowed("B took it", "it was free by then"),
            allowed("B found none", "the reader still had it"),
        ],
        || {
            let chunk = Chunk::new();
            let version = chunk::take(&chunk.word, A).unwrap();
            chunk.write(10);
            assert!(chunk::attach(&chunk.word, A, version));
            let at_b = Arc::clone(&chunk);
            let b = thread::spawn(move || {
                let taken = chunk::take(&at_b.word, B);
                taken.inspect(|_| at_b.write(20)).is_some()
            });
            assert_eq!(chunk.read_in_place(), 10);
            assert!(chunk::free(&chunk.word, version));
            if b.join().unwrap() {
                "B took it"
            } else {
                "B found none"
            }
            .into()
        },
    );
}

#[test]
fn a_chunk_is_freed_once_whether_attached_or_not() {
    explore(
        "pool::a_chunk_is_freed_once_whether_attached_or_not",
        Depth::Exhaustive,
        [
            allowed("attached 0", "sent, and nobody has consumed it"),
            allowed(
                "free 1, consumed",
                "consumed, before or behind the attachment",
            ),
            allowed("owned 1, consumed", "consumed, and taken by B"),
            forbidden(
                "attached 1, consumed",
                "the chunk of B was attached to the record of A",
            ),
            forbidden("owned 0", "sent, and nobody attached or freed it"),
            forbidden("free 1", "freed although nobody consumed it"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let chunk = Chunk::new();
            let (a, c) = (world.ring(A), world.ring(C));
            let version = chunk::take(&chunk.word, A).unwrap();
            let (at_c, at_b) = (Arc::clone(&chunk), Arc::clone(&chunk));
            let c = thread::spawn(move || {
                let Some(version) = reference_at(&c, 0) else {
                    return false;
                };
                assert_eq!(at_c.read_in_place(), 10);
                assert!(
                    chunk::free(&at_c.word, version),
                    "a consumed chunk was freed by others"
                );
                true
            });
            let b = thread::spawn(move || {
                if chunk::take(&at_b.word, B).is_some() {
                    at_b.write(20);
                }
            });
            chunk.write(10);
            assert_eq!(send_chunk(&a, &chunk, version), Sent::At(0));
            chunk::attach(&chunk.word, A, version);
            let consumed = if c.join().unwrap() { ", consumed" } else { "" };
            b.join().unwrap();
            format!("{}{consumed}", chunk.show())
        },
    );
}

/// A sends a chunk and dies before it attaches it.
#[test]
fn the_chunk_of_a_dead_sender_is_adopted_or_freed() {
    explore(
        "pool::the_chunk_of_a_dead_sender_is_adopted_or_freed",
        Depth::Exhaustive,
        [
            allowed(
                "owned 0, Kept",
                "not known to be dead yet; the next sweep finds it",
            ),
            allowed(
                "attached 0, Adopted",
                "the record stands and keeps its chunk",
            ),
            allowed(
                "free 1, Kept, consumed",
                "consumed before the sweep looked, or under it",
            ),
            allowed("free 1, Adopted, consumed", "adopted, then consumed"),
            forbidden(
                "free 1, Freed",
                "the chunk of a record that stands was freed",
            ),
            forbidden("free 1, Freed, consumed", "a chunk was freed twice"),
            forbidden(
                "attached 0, Adopted, consumed",
                "a consumed chunk came back",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let chunk = Chunk::new();
            let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
            let version = chunk::take(&chunk.word, A).unwrap();
            let (at_a, at_c) = (Arc::clone(&chunk), Arc::clone(&chunk));
            let pulse = Arc::clone(&world.pulse);
            let a = thread::spawn(move || {
                at_a.write(10);
                assert_eq!(send_chunk(&a, &at_a, version), Sent::At(0));
                pulse.stop(A);
            });
            let c = thread::spawn(move || {
                let Some(version) = reference_at(&c, 0) else {
                    return false;
                };
                assert_eq!(at_c.read_in_place(), 10);
                assert!(
                    chunk::free(&at_c.word, version),
                    "a consumed chunk was freed by others"
                );
                true
            });
            let settled = if world.pulse.is_dead(A) {
                chunk::settle(
                    &chunk.word,
                    &chunk.ring,
                    &chunk.position,
                    |word| word.state() == Word::OWNED && word.owner() == A,
                    |id, position, version| is_named(&b, id, position, version),
                )
            } else {
                Settled::Kept
            };
            a.join().unwrap();
            let consumed = if c.join().unwrap() { ", consumed" } else { "" };
            format!("{}, {settled:?}{consumed}", chunk.show())
        },
    );
}

#[test]
fn the_loan_of_a_dead_sender_is_freed() {
    explore(
        "pool::the_loan_of_a_dead_sender_is_freed",
        Depth::Exhaustive,
        [
            allowed(
                "owned 0, Kept",
                "not known to be dead yet; the next sweep finds it",
            ),
            allowed("free 1, Freed", "no record names it"),
            allowed("owned 1, Freed", "freed and taken by C"),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let chunk = Chunk::new();
            let (a, b) = (world.ring(A), world.ring(B));
            let version = chunk::take(&chunk.word, A).unwrap();
            let (at_a, at_c) = (Arc::clone(&chunk), Arc::clone(&chunk));
            let pulse = Arc::clone(&world.pulse);
            let a = thread::spawn(move || {
                at_a.write(10);
                let mut appender = Appender::new(&a);
                let claim = appender.claim(&a, &mut Nothing).unwrap();
                at_a.address(claim.position);
                claim.fill(&a, REFERENCE, &version.to_le_bytes());
                pulse.stop(A);
            });
            let c = thread::spawn(move || {
                if chunk::take(&at_c.word, C).is_some() {
                    at_c.write(20);
                }
            });
            let settled = if world.pulse.is_dead(A) {
                chunk::settle(
                    &chunk.word,
                    &chunk.ring,
                    &chunk.position,
                    |word| word.state() == Word::OWNED && word.owner() == A,
                    |id, position, version| is_named(&b, id, position, version),
                )
            } else {
                Settled::Kept
            };
            a.join().unwrap();
            c.join().unwrap();
            format!("{}, {settled:?}", chunk.show())
        },
    );
}

/// What a lossy reader does with a payload in the pool.
fn copy_chunk(ring: &SlotRing, chunk: &Chunk) -> Option<u64> {
    let (slot, Look::Record(_)) = ring.look(0) else {
        return None;
    };
    let mut body = [0; 8];
    slot.read_body(&mut body);
    if !ring.still(slot, 0) {
        return None;
    }
    let bytes = chunk.bytes.load(Ordering::Relaxed);
    fence_at(Label::ReadFence, Ordering::Acquire);
    let word = Word(chunk.word.load(Ordering::Relaxed));
    (word.version() == u64::from_le_bytes(body) && ring.still(slot, 0)).then_some(bytes)
}

/// Recycles the one chunk, or frees it.
struct Recycle<'a> {
    chunk: &'a Chunk,
    to: Option<u16>,
}

impl Tenant for Recycle<'_> {
    fn vacated(&mut self, position: u64, body: [u8; 24]) {
        let version = u64::from_le_bytes(body[..8].try_into().unwrap());
        assert_eq!(self.chunk.position.load(Ordering::Relaxed), position);
        let done = match self.to {
            Some(me) => chunk::recycle(&self.chunk.word, version, me),
            None => chunk::free(&self.chunk.word, version),
        };
        assert!(done);
    }
}

fn copy_under_reuse(recycled: bool) -> String {
    let world = World::shared(1, 1, Overflow::DropOldest);
    let chunk = Chunk::new();
    let (a, b, c) = (world.ring(A), world.ring(B), world.ring(C));
    let version = chunk::take(&chunk.word, B).unwrap();
    chunk.write(10);
    assert_eq!(send_chunk(&b, &chunk, version), Sent::At(0));
    assert!(chunk::attach(&chunk.word, B, version));
    let mut appender = Appender::new(&a);
    let at_a = Arc::clone(&chunk);
    let a = thread::spawn(move || {
        let to = recycled.then_some(A);
        appender.reclaim_all(&a, &mut Recycle { chunk: &at_a, to });
        if recycled || chunk::take(&at_a.word, A).is_some() {
            at_a.write(20);
        }
    });
    let copied = copy_chunk(&c, &chunk);
    a.join().unwrap();
    format!("{copied:?}")
}

#[test]
fn a_copied_payload_is_never_another_ones() {
    explore(
        "pool::a_copied_payload_is_never_another_ones",
        Depth::Exhaustive,
        [
            allowed("Some(10)", "the copy was finished in time"),
            allowed("None", "the chunk had gone, and the reader looks again"),
            forbidden("Some(20)", "the payload of another record"),
        ],
        || copy_under_reuse(true),
    );
}

#[test]
fn a_copied_payload_is_never_that_of_the_next_taker() {
    explore(
        "pool::a_copied_payload_is_never_that_of_the_next_taker",
        Depth::Exhaustive,
        [
            allowed("Some(10)", "the copy was finished in time"),
            allowed("None", "the chunk had gone, and the reader looks again"),
            forbidden("Some(20)", "the payload of another record"),
        ],
        || copy_under_reuse(false),
    );
}

#[test]
fn a_sweep_keeps_a_chunk_that_was_just_attached() {
    explore(
        "pool::a_sweep_keeps_a_chunk_that_was_just_attached",
        Depth::Exhaustive,
        [
            allowed("attached 0, Kept", "a record names it"),
            forbidden(
                "free 1, Freed",
                "the chunk of a record that stands was freed",
            ),
        ],
        || {
            let world = World::shared(1, 1, Overflow::Refuse);
            let chunk = Chunk::new();
            let (a, b) = (world.ring(A), world.ring(B));
            let version = chunk::take(&chunk.word, A).unwrap();
            let at_a = Arc::clone(&chunk);
            let a = thread::spawn(move || {
                at_a.write(10);
                assert_eq!(send_chunk(&a, &at_a, version), Sent::At(0));
                chunk::attach(&at_a.word, A, version);
            });
            let settled = chunk::settle(
                &chunk.word,
                &chunk.ring,
                &chunk.position,
                |word| word.state() == Word::ATTACHED,
                |id, position, version| is_named(&b, id, position, version),
            );
            a.join().unwrap();
            format!("{}, {settled:?}", chunk.show())
        },
    );
}
