//! Deduplication: of two sends with one id within the window, one becomes visible.
//!
//! A fixed table maps the keyed hash of an id to the position that was claimed for it. Whether that
//! position became a message is asked of the ring, so a sender that dies leaves nothing to undo. Where an id
//! finds an entry: [`room`]; what a journal keeps of the table: [`kept`].
//!
//! # States of an entry and who moves it
//! ```text
//!            a sender that holds a claim (CAS)     hash and expiry are stored
//!   FREE(p) ──────────────────────▶ WRITING(me,p) ───────────────────▶ LIVE(tag,p)
//!    ▲  ▲                                 ▲                             │  │  by its sender behind the
//!    │  └── its sender gives up ──────────┼─────────────────────────────┘  │  commit, or by whoever
//!    │      the claim of p               │                                ▼  makes p DONE, before
//!    │                                   └──────────────────────── SEALED(tag,p)
//!    └ all zero: never used                 expired; and LIVE whose p was never committed or has
//!                                           expired; and WRITING whose owner is proven dead
//! ```
//! A word names a position, a position is claimed once, and a claim takes an entry once: no word
//! comes twice, so who slept before a CAS fails.
//!
//! # A send
//! look up both buckets (sent already: done; claimed and not committed: wait for it) → claim p →
//! WRITING, hash, expiry, LIVE → fence → look at both buckets again → commit → SEALED.
//!
//! Of two senders of one id at least one sees the other behind its fence. A committed one has won. If
//! none is, the lower position has: who holds the higher one gives it up and waits, who holds the
//! lower one abandons the other's claim *before* its own commit, and gives way if that came too late.
//!
//! # What each crash point leaves
//! - WRITING: an entry that is free again as soon as the claim is voided.
//! - LIVE, not committed: nothing; a retry is a first send.
//! - committed, LIVE: a retry finds the message, or the SEALED of whoever consumed it.
//! - a sender that is stopped: one entry, and one stall time-out for who waits behind it.

use crate::layout::dedup::{Entry, POSITIONS, buckets_of, tag_of};
use crate::layout::word::Ctl;
use crate::ring::SlotRing;
use crate::ring::read::Look;
use crate::shm::dedup::{BucketWords, DedupTable, ENTRIES};
use crate::sync::{Label, Ordering, fence_at, fence_behind_rmw, order};

/// Looks at an entry that changes hands meanwhile. Each change is a whole send of an id with the
/// same ten bits; only a scribbler makes as many.
const LOOKS: usize = 64;

/// One attachment's side of a table, to be used with the ring that it belongs to.
///
/// Times are in ms since the queue's epoch on CLOCK_BOOTTIME and come from the caller.
#[derive(Clone)]
pub struct Dedup {
    table: DedupTable,
    window_ms: u64,
}

/// The hash of an id and where it may stand: computed once a send.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    low: u64,
    high: u64,
    tag: u16,
    buckets: (usize, usize),
}

/// An entry that may be taken, as it stood.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    bucket: usize,
    place: usize,
    word: Entry,
}

/// The entry of a claim: to be sealed behind its commit, or given up with it.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    bucket: usize,
    place: usize,
    word: Entry,
}

/// Why an id is not sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was, within the window: the message of this position.
    Message { position: u64 },
    /// Another claim for it is neither committed nor given up: to be waited for
    /// ([`SlotRing::resolve`]), without a claim of one's own.
    Open { position: u64, word: Ctl },
    /// No entry is free. Somebody has to wait for the window to pass, nobody forgets.
    Full,
}

/// What became of a position that an entry names.
enum Fate {
    Committed,
    Open(Ctl),
    /// It was given up, and will never be a message.
    Never,
}

impl Registered {
    /// What the envelope says of the message: the entry's number, counted from 1.
    #[inline(always)]
    pub fn number(&self) -> u64 {
        (self.bucket * ENTRIES + self.place) as u64 + 1
    }
}

impl Dedup {
    /// Joins a table whose ids count for `window_ms`.
    pub fn new(table: DedupTable, window_ms: u64) -> Self {
        Self { table, window_ms }
    }

    /// Of a keyed 128-bit hash.
    #[inline(always)]
    pub fn key(&self, low: u64, high: u64) -> Key {
        Key {
            low,
            high,
            tag: tag_of(low, high),
            buckets: buckets_of(low, high, self.table.buckets()),
        }
    }

    /// Asks for the lines that a send of this id looks at.
    #[inline(always)]
    pub fn prefetch(&self, key: &Key) {
        self.table.bucket(key.buckets.0).prefetch();
        self.table.bucket(key.buckets.1).prefetch();
    }

    /// Whether this id may be sent, and an entry for it. Before the claim.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub fn look_up(&self, ring: &SlotRing, key: &Key, now: u64) -> Result<Room, Refused> {
        self.search(ring, key, now, None)?;
        self.room(ring, key, now).ok_or(Refused::Full)
    }

    /// Enters the claim of `position`. Before its commit: the claims of higher positions for the
    /// same id are given up here.
    ///
    /// # Errors
    /// See [`Refused`]. The entry is given up then; the claim is the caller's to give up.
    #[inline]
    pub fn admit(
        &self,
        ring: &SlotRing,
        key: &Key,
        room: Room,
        position: u64,
        now: u64,
    ) -> Result<Registered, Refused> {
        let mut room = Some(room);
        for _ in 0..LOOKS {
            let Some(own) = self.register(ring, room.ok_or(Refused::Full)?, key, position, now)
            else {
                room = self.look_for_room(ring, key, now);
                continue;
            };
            let searched = self.search(ring, key, now, Some(&own));
            if searched.is_err() {
                self.give_up(&own);
            }
            return searched.map(|()| own);
        }
        Err(Refused::Full)
    }

    #[inline(always)]
    fn search(
        &self,
        ring: &SlotRing,
        key: &Key,
        now: u64,
        own: Option<&Registered>,
    ) -> Result<(), Refused> {
        for index in [key.buckets.0, key.buckets.1] {
            let bucket = self.table.bucket(index);
            for place in 0..ENTRIES {
                let word = load(bucket, place);
                if word.may_be(key.tag) && own.is_none_or(|own| own.word != word) {
                    weigh(ring, key, bucket, place, word, now, own)?;
                }
            }
        }
        Ok(())
    }

    /// Takes an entry for the claim of `position`, and fences: a search behind it sees every sender
    /// of the id that does not see this one. `None` when somebody else took the entry first.
    #[inline(always)]
    fn register(
        &self,
        ring: &SlotRing,
        room: Room,
        key: &Key,
        position: u64,
        now: u64,
    ) -> Option<Registered> {
        let writing = self.take(ring, room, position)?;
        self.publish(room, key, writing, now)
    }

    /// → WRITING.
    #[inline(always)]
    fn take(&self, ring: &SlotRing, room: Room, position: u64) -> Option<Entry> {
        if position >= POSITIONS {
            return None; // no sender can have come so far
        }
        let at = self.table.bucket(room.bucket).word(room.place);
        let writing = Entry::writing(ring.me(), position);
        // Relaxed: what stood there was acquired with the word that this takes.
        at.compare_exchange(
            room.word.0,
            writing.0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        )
        .ok()?;
        fence_at(Label::DedupWrite, Ordering::Release);
        Some(writing)
    }

    /// WRITING → LIVE. `None` when somebody took the entry: only a scribbler does.
    #[inline(always)]
    fn publish(&self, room: Room, key: &Key, writing: Entry, now: u64) -> Option<Registered> {
        let Room { bucket, place, .. } = room;
        let words = self.table.bucket(bucket);
        // Relaxed: only the owner of a WRITING entry writes; DedupWrite and DedupPublish order them.
        words.low(place).store(key.low, Ordering::Relaxed);
        words.high(place).store(key.high, Ordering::Relaxed);
        let expiry = now.saturating_add(self.window_ms);
        words.expiry(place).store(expiry, Ordering::Relaxed);
        let word = Entry::live(key.tag, writing.position());
        words
            .word(place)
            .compare_exchange(
                writing.0,
                word.0,
                order(Label::DedupPublish, Ordering::Release),
                Ordering::Relaxed,
            )
            .ok()?;
        fence_behind_rmw(Label::DedupFence);
        Some(Registered {
            bucket,
            place,
            word,
        })
    }

    /// Behind the commit: nobody has to ask the ring any more.
    #[inline(always)]
    pub fn seal(&self, own: &Registered) {
        let at = self.table.bucket(own.bucket).word(own.place);
        seal(at, own.word);
    }

    /// Gives the entry up with its claim, before or behind it.
    pub fn give_up(&self, own: &Registered) {
        let at = self.table.bucket(own.bucket).word(own.place);
        let free = Entry::free(own.word.position());
        // Whoever found that the claim came to nothing may have taken it. Relaxed: the next owner's
        // acquire meets the release of LIVE through this.
        let _ = at.compare_exchange(own.word.0, free.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Before the message at `position` becomes DONE: its sender may not have sealed the entry that
    /// the envelope names, and nobody could ask the ring any more. `number` is input: it counts if
    /// the entry says the same.
    #[inline(always)]
    pub fn seal_message(&self, number: u64, position: u64) {
        let Some(index) = number.checked_sub(1) else {
            return;
        };
        let (bucket, place) = (index / ENTRIES as u64, index as usize % ENTRIES);
        if bucket >= self.table.buckets() {
            return;
        }
        let at = self.table.bucket(bucket as usize).word(place);
        // Relaxed: a LIVE that is not seen was sealed or given to another claim before, and whoever
        // is behind the DONE that follows sees it no earlier than this load did.
        let word = Entry(at.load(Ordering::Relaxed));
        if word.state() == Entry::LIVE && word.position() == position {
            seal(at, word);
        }
    }

    /// How long an id counts, in ms.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// Asks for the line that [`seal_message`](Self::seal_message) will look at.
    #[inline(always)]
    pub fn prefetch_message(&self, number: u64) {
        let bucket = number.wrapping_sub(1) / ENTRIES as u64;
        if bucket < self.table.buckets() {
            self.table.bucket(bucket as usize).prefetch_words();
        }
    }
}

#[inline(always)]
fn load(bucket: BucketWords<'_>, place: usize) -> Entry {
    let acquire = order(Label::DedupLoad, Ordering::Acquire);
    Entry(bucket.word(place).load(acquire))
}

/// LIVE → SEALED. Relaxed: the release of LIVE goes on through it, and behind a DONE the order of
/// that counts.
#[inline(always)]
fn seal(at: &crate::sync::AtomicU64, live: Entry) {
    let _ = at.compare_exchange(
        live.0,
        live.sealed().0,
        Ordering::Relaxed,
        Ordering::Relaxed, // somebody else sealed it, or it has expired and passed on
    );
}

/// What an entry that may be of this id means to a sender, or to the claim of `own`.
#[cold]
fn weigh(
    ring: &SlotRing,
    key: &Key,
    bucket: BucketWords<'_>,
    place: usize,
    mut word: Entry,
    now: u64,
    own: Option<&Registered>,
) -> Result<(), Refused> {
    for _ in 0..LOOKS {
        let low = bucket.low(place).load(Ordering::Relaxed);
        let high = bucket.high(place).load(Ordering::Relaxed);
        let expiry = bucket.expiry(place).load(Ordering::Relaxed);
        let is_same = (low, high) == (key.low, key.high);
        let position = word.position();
        let fate = match word.state() {
            Entry::LIVE if is_same => fate(ring, position),
            _ => Fate::Committed,
        };
        // The second look: what was copied is of this word, and a message that was consumed under
        // the look at its slot is SEALED by now.
        fence_at(Label::DedupRead, Ordering::Acquire);
        let again = load(bucket, place);
        if again != word {
            if !again.may_be(key.tag) {
                return Ok(());
            }
            word = again;
            continue;
        }
        if !is_same {
            return Ok(());
        }
        match (fate, own) {
            (Fate::Committed, _) if expiry > now => return Err(Refused::Message { position }),
            (Fate::Committed | Fate::Never, _) => return Ok(()),
            (Fate::Open(claim), Some(own)) if own.word.position() < position => {
                if ring.abandon(ring.memory().slot(position), claim) {
                    return Ok(());
                }
                // It was committed, or given up: another look tells.
            }
            (Fate::Open(word), _) => return Err(Refused::Open { position, word }),
        }
    }
    Ok(())
}

fn fate(ring: &SlotRing, position: u64) -> Fate {
    match ring.look(position).1 {
        Look::Record(_) => Fate::Committed,
        Look::Pending(word) => Fate::Open(word),
        // The end: no claim, though an entry names one. A scribbler's.
        Look::Gone | Look::End => Fate::Never,
    }
}

#[cfg(all(test, not(loom)))]
mod checked;
mod kept;
mod room;
