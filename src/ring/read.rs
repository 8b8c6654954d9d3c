//! Reading a position: look, copy, look again; or pin and read in place.
//!
//! A reader writes nothing into the ring. A copy counts only when the second look still finds the
//! record of this very position; a pin counts only when `trim` has not passed it.

use super::SlotRing;
use super::seat::Seat;
use crate::layout::ring::{MAX_POSITION, Meta, NO_PIN};
use crate::layout::word::Ctl;
use crate::shm::ring::Slot;
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

impl SlotRing {
    /// The first look at position `p`.
    #[inline(always)]
    pub fn look(&self, p: u64) -> (Slot<'_>, Look) {
        let slot = self.memory.slot(p);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
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
    pub fn oldest(&self) -> Option<u64> {
        let trim = self.memory.trim().load(Ordering::Relaxed);
        (trim <= MAX_POSITION).then_some(trim)
    }

    /// Publishes a reader's cursor: everything below is read.
    #[inline(always)]
    pub fn publish_cursor(&self, seat: &Seat, position: u64) {
        self.memory
            .reader(seat.index)
            .cursor
            .store(position, order(Label::CursorStore, Ordering::Release));
    }

    /// Pins `p` in pin `pin` of the entry. `false` when `trim` has passed it; the pin is undone.
    pub fn pin(&self, seat: &Seat, pin: usize, p: u64) -> bool {
        let word = &self.memory.reader(seat.index).pins[pin];
        word.store(p, Ordering::Relaxed);
        fence_at(Label::PinFence, Ordering::SeqCst);
        if self.memory.trim().load(Ordering::Relaxed) <= p {
            return true;
        }
        word.store(NO_PIN, Ordering::Relaxed);
        false
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
        if slot.ctl().load(Ordering::Relaxed) != word.0 {
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

/// Death of the one we wait for is probed after this long: a commit takes well under 1 µs, a probe
/// 0.3 µs.
pub const PROBE_AFTER_NS: u64 = 50_000;
