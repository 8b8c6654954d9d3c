//! Seats: the producer word of an exclusive ring, and the reader entries.
//!
//! A seat is one owner-named word. It passes on by one CAS: from nobody, from the proven dead, or
//! by being given back. Cursor and pins of an entry are set up by whoever takes it; until then
//! they show what the predecessor left, which can only hold the ring back for a moment.

use super::SlotRing;
use crate::layout::ring::{MAX_POSITION, NO_PIN, READER_LOSSY, READER_RELIABLE, READER_STANDING};
use crate::layout::word::Role;
use crate::sync::{Label, Ordering, fence_at, order};

/// The kind that stands in a held producer word.
const PRODUCER: u64 = 1;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record that is still there.
    Earliest,
    /// The next record that is sent.
    Latest,
    /// A position; the oldest record if that is gone.
    At(u64),
}

/// A taken reader entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    pub index: u32,
    word: Role,
}

/// A note of the holder whose word it is.
fn noted(word: Role, note: u8) -> u64 {
    word.version() << 8 | u64::from(note)
}

impl SlotRing {
    /// Takes the producer word; what was stored.
    ///
    /// # Errors
    /// The participant that holds it and is not proven dead.
    pub fn take_producer(&self) -> Result<Role, u16> {
        let producer = self.memory.producer();
        loop {
            let word = Role(producer.load(order(Label::RoleTake, Ordering::Acquire)));
            if word.owner() != 0 && !self.is_dead(word.owner()) {
                return Err(word.owner());
            }
            let taken = word.taken(PRODUCER, self.me);
            if producer
                .compare_exchange(
                    word.0,
                    taken.0,
                    order(Label::RoleTake, Ordering::Acquire),
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                return Ok(taken);
            }
        }
    }

    /// Whether the producer word still is the one that was taken. It only passes on from the dead: a living
    /// producer that finds it gone was taken for dead.
    #[inline(always)]
    pub fn is_producer(&self, taken: Role) -> bool {
        // Relaxed: nothing is read by it. Who is stopped behind the look writes one record at most.
        self.memory.producer().load(Ordering::Relaxed) == taken.0
    }

    /// Gives the producer word back, if `owner` holds it: this producer itself, or a dead one that
    /// the caller reaps.
    pub fn release_producer(&self, owner: u16) -> bool {
        let producer = self.memory.producer();
        let word = Role(producer.load(Ordering::Relaxed)); // the CAS decides
        word.owner() == owner
            && owner != 0
            && producer
                .compare_exchange(
                    word.0,
                    word.released().0,
                    order(Label::RoleRelease, Ordering::Release),
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// The participant in the producer word, 0 for nobody.
    pub fn producer_holder(&self) -> u16 {
        Role(self.memory.producer().load(Ordering::Relaxed)).owner()
    }

    /// Takes a reader entry and places its cursor. `None` when all entries are taken by the living.
    pub fn join(&self, reliable: bool, start: Start) -> Option<(Seat, u64)> {
        let kind = if reliable { READER_RELIABLE } else { READER_LOSSY };
        for index in 0..self.memory.geometry().readers() {
            let entry = self.memory.reader(index);
            let word = Role(entry.word.load(order(Label::RoleTake, Ordering::Acquire)));
            // Own dead siblings are told by the same probe; an own live seat is simply taken.
            if word.state() == READER_STANDING
                || word.owner() != 0 && !self.is_dead(word.owner())
            {
                continue;
            }
            // Before the CAS: a seat that the scan does not reach could hold nothing back, and one
            // whose taker died here must still be found.
            self.memory
                .readers_used()
                .fetch_max(u64::from(index) + 1, Ordering::Relaxed);
            let taken = word.taken(kind, self.me);
            if entry
                .word
                .compare_exchange(
                    word.0,
                    taken.0,
                    order(Label::RoleTake, Ordering::AcqRel),
                    Ordering::Relaxed,
                )
                .is_err()
            {
                continue;
            }
            for pin in entry.pins {
                pin.store(NO_PIN, Ordering::Relaxed); // only the holder of the entry writes
            }
            entry.lost.store(0, Ordering::Relaxed);
            let position = self.place_cursor(index, start);
            return Some((Seat { index, word: taken }, position));
        }
        None
    }

    /// Stores the cursor so that either a producer's scan sees it or the check here sees `trim`.
    fn place_cursor(&self, index: u32, start: Start) -> u64 {
        let trim = self.memory.trim();
        let mut position = match start {
            Start::Earliest => trim.load(Ordering::Relaxed),
            Start::Latest => self.tail_now(),
            Start::At(position) => position,
        }
        .min(MAX_POSITION);
        loop {
            self.memory.reader(index).cursor.store(position, Ordering::Relaxed);
            fence_at(Label::PinFence, Ordering::SeqCst);
            let trim = trim.load(Ordering::Relaxed);
            if trim <= position {
                return position;
            }
            if trim > MAX_POSITION {
                // A scribbled mark; reading from here reports it.
                return position;
            }
            position = trim;
        }
    }

    /// Gives a reader entry back.
    pub fn leave(&self, seat: &Seat) {
        let _ = self.memory.reader(seat.index).word.compare_exchange(
            seat.word.0,
            seat.word.released().0,
            order(Label::CursorStore, Ordering::Release),
            Ordering::Relaxed,
        );
    }

    /// Whether the entry still is ours: nobody takes it while we live.
    pub fn is_seated(&self, seat: &Seat) -> bool {
        self.memory.reader(seat.index).word.load(Ordering::Relaxed) == seat.word.0
    }

    /// Notes beside a taken entry what its holder is, 1 to 255; it says so for this holding alone.
    pub fn note(&self, seat: &Seat, note: u8) {
        let word = noted(seat.word, note);
        // Relaxed: who misses it takes the holder for any reader.
        self.memory.reader(seat.index).checkpoint.store(word, Ordering::Relaxed);
    }

    /// The cursors of all holders that noted `note`.
    pub fn noted_cursors(&self, note: u8) -> impl Iterator<Item = u64> + '_ {
        (0..self.readers_in_use()).filter_map(move |index| {
            let entry = self.memory.reader(index);
            let word = Role(entry.word.load(order(Label::ScanLoad, Ordering::Acquire)));
            let is_it = word.owner() != 0
                && word.state() != READER_STANDING
                && entry.checkpoint.load(Ordering::Relaxed) == noted(word, note);
            is_it.then(|| entry.cursor.load(order(Label::ScanLoad, Ordering::Acquire)))
        })
    }

    /// What the holder of the lowest reliable cursor noted; 0 for nothing.
    pub fn lowest_note(&self) -> u8 {
        let mut lowest = (NO_PIN, 0);
        for index in 0..self.readers_in_use() {
            let entry = self.memory.reader(index);
            let word = Role(entry.word.load(order(Label::ScanLoad, Ordering::Acquire)));
            let cursor = entry.cursor.load(order(Label::ScanLoad, Ordering::Acquire));
            if word.owner() != 0 && word.state() != READER_LOSSY && cursor < lowest.0 {
                let seen = entry.checkpoint.load(Ordering::Relaxed);
                let note = seen as u8;
                let holds = word.state() == READER_RELIABLE && seen == noted(word, note);
                lowest = (cursor, if holds { note } else { 0 });
            }
        }
        lowest.1
    }

    /// Frees every entry of `owner` if it is proven dead. Whether any was freed.
    ///
    /// Each word is loaded before its owner is probed and freed by a CAS of exactly what was
    /// loaded: a number that passed on in between is somebody else's, and stays.
    pub fn evict_if_dead(&self, owner: u16) -> bool {
        self.evict(owner, |seen| self.is_dead(seen))
    }

    /// Frees every entry of `owner`, of which `is_dead` says so. Whether any was freed. Looks at
    /// every entry, used or not: a joiner may have died before it raised the bound of the scan.
    pub(super) fn evict(&self, owner: u16, is_dead: impl Fn(u16) -> bool) -> bool {
        let mut freed = false;
        for index in 0..self.memory.geometry().readers() {
            let word = self.memory.reader(index).word;
            let seen = Role(word.load(order(Label::RoleTake, Ordering::Acquire)));
            if seen.owner() == owner
                && owner != 0
                && seen.state() != READER_STANDING
                && is_dead(owner)
            {
                freed |= word
                    .compare_exchange(
                        seen.0,
                        seen.released().0,
                        order(Label::RoleRelease, Ordering::Release),
                        Ordering::Relaxed,
                    )
                    .is_ok();
            }
        }
        freed
    }
}
