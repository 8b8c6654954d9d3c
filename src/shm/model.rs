//! The memory of a slot ring for model checks: the same names, words of `loom`.
//!
//! A few slots with a body of one word. The protocol code above does not know the difference.
//!
//! A body exists twice: as an atomic word, which a lossy reader may load while it changes, and as
//! a cell that `loom` watches. Writers touch both; who reads in place touches the cell. Any two
//! accesses of the cell, one of them a write, that nothing orders end the model with an error. So
//! an ordering whose only purpose is that a reader's loads come before an overwrite is found
//! missing, although `loom` never lets a load see the future.

use crate::layout::geometry::Geometry;
use crate::layout::queue::Envelope;
use crate::layout::ring::{Meta, NO_PIN};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use std::sync::Arc;

/// One pin is enough to meet every window.
pub const PINS: usize = 1;

struct SlotWords {
    ctl: AtomicU64,
    dlv: AtomicU64,
    position: AtomicU64,
    meta: AtomicU64,
    sent: AtomicU64,
    prev: AtomicU64,
    next: AtomicU64,
    /// Everybody in a model knows the group; no word of `loom`.
    group: core::sync::atomic::AtomicU64,
    /// Like the body: its readers are ordered behind the commit.
    dedup: core::sync::atomic::AtomicU64,
    body: AtomicU64,
    in_place: UnsafeCell<()>,
}

struct Reader {
    word: AtomicU64,
    cursor: AtomicU64,
    lost: AtomicU64,
    lease: AtomicU64,
    checkpoint: AtomicU64,
    pins: [AtomicU64; PINS],
}

/// See the module. A clone is another attachment's view of the same memory.
#[derive(Clone)]
pub struct RingMemory {
    geometry: Geometry,
    words: Arc<RingWords>,
}

struct RingWords {
    slots: Vec<SlotWords>,
    readers: Vec<Reader>,
    tail: AtomicU64,
    trim: AtomicU64,
    reclaim: AtomicU64,
    producer: AtomicU64,
    sleepers: AtomicU32,
    wake: AtomicU32,
    readers_used: AtomicU64,
    payloads: AtomicU64,
}

/// One slot.
#[derive(Clone, Copy)]
pub struct Slot<'a>(&'a SlotWords);

/// The words of one reader entry.
#[derive(Clone, Copy)]
pub struct ReaderWords<'a> {
    pub word: &'a AtomicU64,
    pub cursor: &'a AtomicU64,
    pub lost: &'a AtomicU64,
    pub lease: &'a AtomicU64,
    pub checkpoint: &'a AtomicU64,
    pub pins: &'a [AtomicU64; PINS],
}

impl RingMemory {
    /// A fresh ring: every slot VOID(0), every hint 0.
    pub fn model(slots: u64, readers: u32) -> Self {
        let word = || AtomicU64::new(0);
        let words = RingWords {
            slots: (0..slots)
                .map(|_| SlotWords {
                    ctl: word(),
                    dlv: word(),
                    position: word(),
                    meta: word(),
                    sent: word(),
                    prev: word(),
                    next: word(),
                    group: core::sync::atomic::AtomicU64::new(0),
                    dedup: core::sync::atomic::AtomicU64::new(0),
                    body: word(),
                    in_place: UnsafeCell::new(()),
                })
                .collect(),
            readers: (0..readers)
                .map(|_| Reader {
                    word: word(),
                    cursor: word(),
                    lost: word(),
                    lease: word(),
                    checkpoint: word(),
                    pins: core::array::from_fn(|_| AtomicU64::new(NO_PIN)),
                })
                .collect(),
            tail: word(),
            trim: word(),
            reclaim: word(),
            producer: word(),
            sleepers: AtomicU32::new(0),
            wake: AtomicU32::new(0),
            readers_used: word(),
            payloads: word(),
        };
        Self {
            geometry: Geometry::model(slots, readers),
            words: Arc::new(words),
        }
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }
    pub fn is_forked(&self) -> bool {
        false
    }
    pub fn slot(&self, position: u64) -> Slot<'_> {
        Slot(&self.words.slots[self.geometry.slot_of(position)])
    }
    pub fn run(&self, position: u64, most: u64) -> impl Iterator<Item = Slot<'_>> {
        let first = self.geometry.slot_of(position);
        self.words.slots[first..].iter().take(most as usize).map(Slot)
    }
    pub fn touch(&self, _position: u64, most: u64) -> u64 {
        most
    }
    pub fn tail(&self) -> &AtomicU64 {
        &self.words.tail
    }
    pub fn trim(&self) -> &AtomicU64 {
        &self.words.trim
    }
    pub fn reclaim(&self) -> &AtomicU64 {
        &self.words.reclaim
    }
    pub fn producer(&self) -> &AtomicU64 {
        &self.words.producer
    }
    pub fn sleepers(&self) -> &AtomicU32 {
        &self.words.sleepers
    }
    pub fn wake(&self) -> &AtomicU32 {
        &self.words.wake
    }
    pub fn readers_used(&self) -> &AtomicU64 {
        &self.words.readers_used
    }
    pub fn payloads(&self) -> &AtomicU64 {
        &self.words.payloads
    }
    pub fn reader(&self, index: u32) -> ReaderWords<'_> {
        let reader = &self.words.readers[index as usize];
        ReaderWords {
            word: &reader.word,
            cursor: &reader.cursor,
            lost: &reader.lost,
            lease: &reader.lease,
            checkpoint: &reader.checkpoint,
            pins: &reader.pins,
        }
    }
}

/// The cursor of one reader entry.
pub struct CursorWord(Arc<RingWords>, usize);

impl CursorWord {
    pub fn new(memory: &RingMemory, index: u32) -> Self {
        Self(Arc::clone(&memory.words), index as usize)
    }
    #[allow(clippy::misnamed_getters)] // the word that is a cursor
    pub fn word(&self) -> &AtomicU64 {
        &self.0.readers[self.1].cursor
    }
}

impl<'a> Slot<'a> {
    pub fn ctl(self) -> &'a AtomicU64 {
        &self.0.ctl
    }
    pub fn dlv(self) -> &'a AtomicU64 {
        &self.0.dlv
    }
    pub fn position(self) -> &'a AtomicU64 {
        &self.0.position
    }
    pub fn meta(self) -> &'a AtomicU64 {
        &self.0.meta
    }
    pub fn sent(self) -> &'a AtomicU64 {
        &self.0.sent
    }
    pub fn prefetch_first_line_to_write(self) {}
    pub fn prefetch_second_line<const WRITE: bool>(self) {}
    pub fn prefetch_up_to<const WRITE: bool>(self, _end: usize) {}
    pub fn write_body(self, bytes: &[u8]) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        self.0.in_place.with_mut(|_| ());
        self.0
            .body
            .store(u64::from_le_bytes(word), Ordering::Relaxed);
    }
    pub fn prev(self) -> &'a AtomicU64 {
        &self.0.prev
    }
    pub fn next(self) -> &'a AtomicU64 {
        &self.0.next
    }
    pub fn group(self) -> &'a core::sync::atomic::AtomicU64 {
        &self.0.group
    }
    pub fn group_2(self) -> &'a core::sync::atomic::AtomicU64 {
        &self.0.group
    }
    pub fn dedup(self) -> &'a core::sync::atomic::AtomicU64 {
        &self.0.dedup
    }
    pub fn message_room(self, _envelope: Envelope) -> usize {
        8
    }
    pub fn write_message(self, _envelope: Envelope, bytes: &[u8]) {
        self.write_body(bytes);
    }
    pub fn read_message(self, _envelope: Envelope, out: &mut [u8]) {
        self.read_body(out);
    }
    pub fn write_short_body(self, bytes: &[u8]) {
        self.write_body(bytes);
    }
    pub fn room(self) -> usize {
        8
    }
    /// Reads the body where it lies, as a view does: nobody may write it meanwhile.
    pub fn body_in_place(self) -> u64 {
        self.0.in_place.with(|_| ());
        self.0.body.load(Ordering::Relaxed)
    }
    pub fn read_body(self, out: &mut [u8]) {
        let word = self.0.body.load(Ordering::Relaxed).to_le_bytes();
        let len = out.len();
        out.copy_from_slice(&word[..len]);
    }
    pub fn read_short_body(self, meta: Meta, out: &mut [u8]) -> Option<usize> {
        let len = meta.len() as usize;
        self.read_body(&mut out[..len]);
        Some(len)
    }
}
