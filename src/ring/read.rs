//! Reading a position: look, copy, look again; or pin and read in place.
//!
//! A reader writes nothing into the ring. A copy counts only when the second look still finds the
//! record of this very position; a pin counts only when `trim` has not passed it.

use super::SlotRing;
use super::seat::Seat;
use crate::layout::ring::{MAX_POSITION, Meta, NO_PIN};
use crate::layout::word::{Ctl, LAP_SEALED};
use crate::shm::ring::{CursorWord, Slot};
use crate::sync::{Label, Ordering, fence_at, order};

/// What stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not written yet: the end.
    End,
    /// Claimed and not committed: wait, then [`SlotRing::resolve`].
    Pending(Ctl),
    /// The record.
    Record(Meta),
    /// The position never will hold a record that is still here.
    Gone,
}

/// Looks at an open claim before anything is done about it: about a microsecond.
const MOST_GLANCES: u32 = if cfg!(loom) { 1 } else { 32 };

/// The lap and state of a word without its owner.
const STATE_AND_LAP: u64 = 3 << 62 | LAP_SEALED;

/// What the first look at a position found.
#[derive(Clone, Copy)]
pub struct Glance<'a> {
    pub slot: Slot<'a>,
    word: Ctl,
    position: u64,
    /// COMMITTED of this position's lap by nobody.
    common: u64,
}

impl Glance<'_> {
    /// The header of the record, if it stands here and was never renewed: the common case, by one
    /// comparison of the word.
    #[inline(always)]
    pub fn record(&self) -> Option<Meta> {
        (self.word.0 & STATE_AND_LAP == self.common
            && self.slot.position().load(Ordering::Relaxed) == self.position)
            .then(|| Meta(self.slot.meta().load(Ordering::Relaxed)))
    }

    /// Whether nothing was written here yet.
    #[inline(always)]
    pub fn is_end(&self) -> bool {
        self.word.lap() < self.common & LAP_SEALED
    }

    /// Whether somebody is writing the record now.
    #[inline(always)]
    pub fn is_claimed(&self) -> bool {
        let claimed = (Ctl::CLAIMED << 62) + (self.common & LAP_SEALED);
        self.word.0 & STATE_AND_LAP == claimed
    }

    /// The second look at its shortest: the very word of the first. No word comes twice, so
    /// nobody claimed the slot in between. A renewed record is told apart by [`SlotRing::still`].
    #[inline(always)]
    pub fn is_unchanged(&self) -> bool {
        fence_at(Label::ReadFence, Ordering::Acquire);
        self.slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)) == self.word.0
    }
}

impl SlotRing {
    /// The first look at position `p`.
    #[inline(always)]
    pub fn glance(&self, p: u64) -> Glance<'_> {
        let slot = self.memory.slot(p);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        // A position that no sender can reach (a reader may ask for any) spills into the owner,
        // which is 0 in every word that this is compared with.
        let common = (Ctl::COMMITTED << 62) + self.memory.geometry().lap_of(p);
        Glance { slot, word, position: p, common }
    }

    /// A glance at `p`, and where it finds a claim, more of them.
    #[inline(always)]
    pub fn glance_past_claim(&self, p: u64) -> Glance<'_> {
        let glance = self.glance(p);
        match glance.is_claimed() {
            true => self.glance_behind_claim(p),
            false => glance,
        }
    }

    /// A glance at `p` that found a claim, once more: its commit is some ten nanoseconds away, and who looks
    /// into the claim instead reads a clock. So it is glanced at again, up to [`MOST_GLANCES`] times, and left
    /// alone for a moment each time: every look takes the line from who is about to commit.
    #[cold]
    #[inline(never)]
    pub fn glance_behind_claim(&self, p: u64) -> Glance<'_> {
        for _ in 1..MOST_GLANCES {
            super::pace::pause(1);
            let glance = self.glance(p);
            if !glance.is_claimed() {
                return glance;
            }
        }
        self.glance(p)
    }

    /// The first looks at `p` and what follows in its lap, at most `most`: a batch has address
    /// and lap of each by an addition.
    #[inline]
    pub fn glances(&self, p: u64, most: u64) -> impl Iterator<Item = Glance<'_>> {
        let common = (Ctl::COMMITTED << 62) + self.memory.geometry().lap_of(p);
        self.memory.run(p, most).zip(p..).map(move |(slot, position)| {
            let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
            Glance { slot, word, position, common }
        })
    }

    /// The first look at position `p`, told apart.
    #[inline(always)]
    pub fn look(&self, p: u64) -> (Slot<'_>, Look) {
        let Glance { slot, word, .. } = self.glance(p);
        let lap = self.memory.geometry().lap_of(p);
        if word.lap() < lap {
            return (slot, Look::End);
        }
        if word.state() == Ctl::COMMITTED && slot.position().load(Ordering::Relaxed) == p {
            return (slot, Look::Record(Meta(slot.meta().load(Ordering::Relaxed))));
        }
        if word.state() == Ctl::CLAIMED && word.lap() == lap {
            return (slot, Look::Pending(word));
        }
        (slot, Look::Gone)
    }

    /// The second look: whether everything loaded since the first was the record of `p`.
    #[inline(always)]
    pub fn still(&self, slot: Slot<'_>, p: u64) -> bool {
        fence_at(Label::ReadFence, Ordering::Acquire);
        // Acquire again: a word of a later commit shows that commit's position in the next load.
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        word.state() == Ctl::COMMITTED && slot.position().load(Ordering::Relaxed) == p
    }

    /// The oldest position a reader may stand at, as far as `trim` can be believed.
    ///
    /// Behind a look that found a record overwritten, `trim` is seen past it: it was moved before
    /// the claim. Without the fence a header that came early would say "never was" for "dropped".
    pub fn oldest(&self) -> Option<u64> {
        fence_at(Label::GoneFence, Ordering::Acquire);
        let trim = self.memory.trim().load(Ordering::Relaxed);
        (trim <= MAX_POSITION).then_some(trim)
    }

    /// Publishes a reader's cursor: everything below is read.
    #[cfg(loom)]
    pub fn publish_cursor(&self, seat: &Seat, position: u64) {
        publish(&self.cursor_word(seat), position);
    }

    /// The cursor word of a seat, for [`publish`].
    pub fn cursor_word(&self, seat: &Seat) -> CursorWord {
        CursorWord::new(&self.memory, seat.index)
    }

    /// Pins `p` in pin `pin` of the entry. `false` when `trim` has passed it: then the pin protects
    /// only who has a reliable cursor at or below `p` too (scans load cursors before pins), and
    /// anybody else drops it.
    pub fn pin(&self, seat: &Seat, pin: usize, p: u64) -> bool {
        let word = &self.memory.reader(seat.index).pins[pin];
        // Release: a scan that meets this pin still sees what the one before it protected read.
        word.store(p, order(Label::CursorStore, Ordering::Release));
        fence_at(Label::PinFence, Ordering::SeqCst);
        self.memory.trim().load(Ordering::Relaxed) <= p
    }

    /// Drops a pin: the loads through it come before.
    pub fn unpin(&self, seat: &Seat, pin: usize) {
        self.memory.reader(seat.index).pins[pin]
            .store(NO_PIN, order(Label::CursorStore, Ordering::Release));
    }

    /// What a waiter does about a claim that does not commit. `true` when the position may be
    /// looked at again: the claim was voided or abandoned, or had changed.
    ///
    /// Death is probed from 50 µs on; a live owner's claim in a shared ring is abandoned after the
    /// stall timeout. A live exclusive producer is simply waited for.
    #[cold]
    pub fn resolve(&self, p: u64, word: Ctl, waited_ns: u64) -> bool {
        let slot = self.memory.slot(p);
        // Whoever is told that it has changed looks at what changed it.
        if slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)) != word.0 {
            return true;
        }
        if waited_ns >= PROBE_AFTER_NS && self.is_dead(word.owner()) {
            return self.void_dead(slot, word);
        }
        waited_ns >= self.stall_timeout_ns
            && self.producers == super::Producers::Shared
            && self.abandon(slot, word)
    }
}

/// Publishes a reader's cursor: everything below is read.
#[inline(always)]
pub fn publish(cursor: &CursorWord, position: u64) {
    cursor.word().store(position, order(Label::CursorStore, Ordering::Release));
}

/// Death of the one we wait for is probed after this long: a commit takes well under 1 µs, a probe
/// 0.3 µs.
pub const PROBE_AFTER_NS: u64 = 50_000;
