//! A queue that is on disk: what its words say, and who may write its journal.
//!
//! The ring stays what it is; the journal follows it. One participant at a time writes: he copies what
//! was committed, in the order of positions, waits for the disk, and moves one word on. Behind that
//! word everything is on disk; at it and above, nothing is delivered and no slot is used again.
//!
//! # The words and who moves them
//! ```text
//! durable     {e, D} → {e, D'}     the writer of epoch e, when everything below D' is on disk
//!             {e, D} → {e+1, D}    who begins an epoch: then a segment of its own, then {e+1, D'}
//! persister   FRESH, HANDED_OVER → WRITING(me) → HANDED_OVER: a flush, and the next one goes on in the
//!                                                same segment where the cursor says
//!                                              → FRESH: the segment can't be written to any more
//!                                              → UNBEGUN: none of this epoch could be made yet
//!             WRITING(x) → WRITING(me)         x is dead, or has not moved for longer than any disk
//!                                              takes: a new epoch
//! changed     a bit a block: set by who consumed, taken by the writer of the word's epoch
//! touched     0 → 1, of a further ring, before the first such bit: a writer looks into no other
//! begun, finished   numbers of flushes: what was noted before a flush began is on disk when it, or a
//!                   later one, is finished
//! ```
//! All but the changed bits is [`super::super::persister`]'s, which shards of streams have too.
//! A writer that is displaced while it stands still finds every one of its CAS refused: it moves
//! neither `durable` nor takes changed bits, and its role is another's. What it writes late goes into a
//! segment of its own epoch, where it says nothing that was not true.
//!
//! # What each crash point leaves
//! - WRITING(dead): the next who waits takes over. What had been written and not told is written again.
//! - behind `persister`, before `durable` of a take-over: the same, one epoch later or not.
//! - behind the CAS of `durable`, before the wake: those who wait look again within 20 ms.
//! - changed bits taken and not written: a take-over looks at every block.

use super::{Delivery, Standing};
use crate::layout::durable::{Changed, POSITIONS};
use crate::layout::queue::BLOCK_SLOTS;
use crate::layout::word::{Ctl, LAP_SEALED};
use crate::ring::persister::Writing;
use crate::shm::durable::DurableWords;
use crate::sync::{Label, Ordering, fence_at, fence_behind_rmw, order};


/// What stands at a position that is to be written.
pub enum ToWrite<'a> {
    /// This message.
    Message(Standing<'a>),
    /// Nothing that would have to be.
    Nothing,
    /// A claim that is not committed.
    Open(Ctl),
    /// Nothing is written here yet.
    End,
    /// Nothing ever will be: the ring is sealed here or before, and goes on in another one.
    Sealed,
}

impl Delivery {
    /// The same queue, with the words of one that is on disk.
    pub fn with_durable(self, durable: DurableWords) -> Self {
        Self {
            durable: Some(durable),
            is_plain: false,
            ..self
        }
    }

    /// The same, delivering messages before the disk has them.
    pub fn reading_ahead(self, reads_ahead: bool) -> Self {
        Self {
            reads_ahead,
            ..self
        }
    }

    /// Its words, if it is on disk.
    #[inline(always)]
    pub fn durable(&self) -> Option<&DurableWords> {
        self.durable.as_ref()
    }

    /// Messages at and above this are not delivered yet.
    #[inline(always)]
    pub fn delivered_below(&self) -> u64 {
        match self.reads_ahead {
            true => u64::MAX,
            false => self.on_disk_below(),
        }
    }

    /// Everything below is on disk.
    #[inline(always)]
    pub fn on_disk_below(&self) -> u64 {
        match &self.durable {
            Some(words) => words.on_disk_below(),
            None => u64::MAX,
        }
    }

    /// Positions at and above this can't be claimed now: what stood in their slots a lap ago may not be
    /// on disk yet.
    pub fn claimable_below(&self) -> u64 {
        let Some(words) = &self.durable else {
            return u64::MAX;
        };
        if self.is_frozen() {
            return 0;
        }
        let (copied, geometry) = (words.copied_below(), self.ring.memory.geometry());
        let first = geometry.first_position();
        // The journal has to know of a ring before it has a message; then nobody makes the queue again
        // with a first position that was given out.
        let below = match copied < first {
            true => first,
            false => copied + geometry.slots(),
        };
        below.min(POSITIONS - 1)
    }

    /// Whether there is no segment that can be written to.
    pub fn is_frozen(&self) -> bool {
        self.durable.as_ref().is_some_and(DurableWords::is_frozen)
    }

    /// Behind the CAS that consumed the message in the slot `index`.
    #[inline(always)]
    pub(super) fn note_changed(&self, index: usize) {
        if let Some(words) = &self.durable {
            words.note_touched();
            let (word, bit) = words.changed_of(index);
            word.fetch_or(bit, order(Label::ChangedNote, Ordering::Release));
            fence_behind_rmw(Label::NoteFence);
        }
    }

    /// The flush behind which everything that this thread consumed is on disk.
    pub fn next_flush(&self) -> u64 {
        self.durable.as_ref().map_or(0, DurableWords::next_flush)
    }

    /// Whether that flush is on disk.
    pub fn is_flushed(&self, flush: u64) -> bool {
        let is_flushed = |words: &DurableWords| words.is_flushed(flush);
        self.durable.as_ref().is_none_or(is_flushed)
    }

    /// Lays down the role of the dead `owner`: for its reaper.
    pub(super) fn release_writer(&self, owner: u16) {
        if let Some(words) = &self.durable {
            words.release_writer(owner);
        }
    }

    /// Takes the blocks that have changed and shows them; all of them at the beginning of an epoch, if any
    /// ever did. `false` when a later epoch has begun.
    pub fn take_changed(&self, writing: &Writing, mut show: impl FnMut(u64)) -> bool {
        let Some(words) = &self.durable else {
            return false;
        };
        let slots = self.ring.memory.geometry().slots();
        let blocks = slots.div_ceil(BLOCK_SLOTS);
        let per_word = blocks.div_ceil(words.changed_words());
        for number in 0..words.changed_words() {
            let word = words.changed(number);
            let mut seen = Changed(word.load(Ordering::Relaxed));
            if seen == Changed::none(writing.epoch) {
                continue;
            }
            let taken = loop {
                if seen.epoch() > writing.epoch {
                    return false;
                }
                let none = Changed::none(writing.epoch);
                let take = order(Label::ChangedTake, Ordering::Acquire);
                match word.compare_exchange(seen.0, none.0, take, Ordering::Relaxed) {
                    Ok(_) => break seen,
                    Err(now) => seen = Changed(now),
                }
            };
            // An earlier writer may have taken some and not written them.
            let is_first = taken.epoch() < writing.epoch && words.is_touched();
            for bit in 0..per_word {
                let block = number * per_word + bit;
                if block < blocks && (is_first || taken.blocks() & 1 << bit != 0) {
                    show(block);
                }
            }
        }
        true
    }

    /// What stands at `position`, for the journal.
    pub fn look_to_write(&self, position: u64) -> ToWrite<'_> {
        let slot = self.ring.memory.slot(position);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let lap = self.lap_of(position);
        // A lap ago a message may stand in the very slot of the seal.
        if word.lap() == LAP_SEALED && position >= self.ring.sealed_at(position) {
            return ToWrite::Sealed;
        }
        if word.lap() < lap {
            return ToWrite::End;
        }
        if word.state() == Ctl::CLAIMED && word.lap() == lap {
            return ToWrite::Open(word);
        }
        match self.examine_exactly(position) {
            Some(standing) => ToWrite::Message(standing),
            None => ToWrite::Nothing,
        }
    }

    /// What is known of the slots of a block: the laps up to which nothing in them is left, as
    /// (first position of the block in that lap, a bit a slot); and what is, where it was received or
    /// is on its way to another queue.
    pub fn consumed_in(
        &self,
        block: u64,
        consumed: impl FnMut(u64, u64),
        left_over: impl FnMut(&Standing<'_>),
    ) {
        self.all_consumed_in(block, u64::MAX, consumed, left_over);
    }

    /// The same, and of a slot whose message is at `durable` or above, so that no journal has it, the lap before: it was
    /// claimed when nothing of that was left.
    pub fn all_consumed_in(
        &self,
        block: u64,
        durable: u64,
        mut consumed: impl FnMut(u64, u64),
        mut left_over: impl FnMut(&Standing<'_>),
    ) {
        let geometry = self.ring.memory.geometry();
        let first = block * BLOCK_SLOTS;
        let slots = BLOCK_SLOTS.min(geometry.slots());
        let mut laps: [(u64, u64); 4] = [(0, 0); 4];
        for bit in 0..slots {
            let (mut lap, left) = self.spent_lap(first + bit);
            if let Some(standing) = &left
                && standing.position >= durable
            {
                lap = self.lap_of(standing.position) - 1;
            }
            if let Some(standing) = left
                && (standing.times_received() > 0 || standing.dlv.is_moving())
            {
                left_over(&standing);
            }
            if lap == 0 {
                continue;
            }
            let place = laps.iter().position(|(of, bits)| *of == lap || *bits == 0);
            match place {
                Some(place) => laps[place] = (lap, laps[place].1 | 1 << bit),
                // A fifth lap in one block: by itself.
                None => {
                    if let Some(position) = geometry.position_of((first + bit) as usize, lap) {
                        consumed(position - bit, 1 << bit);
                    }
                }
            }
        }
        for (lap, bits) in laps.into_iter().filter(|(_, bits)| *bits != 0) {
            if let Some(position) = geometry.position_of(first as usize, lap) {
                consumed(position, bits);
            }
        }
    }

    /// The lap up to which nothing of the slot of `at` is left, and the message that is.
    fn spent_lap(&self, at: u64) -> (u64, Option<Standing<'_>>) {
        match self.spent_word(at) {
            // Where the ring is sealed is no position of it.
            (LAP_SEALED, left) => (self.lap_of(self.ring.sealed_at(at)) - 1, left),
            spent => spent,
        }
    }

    fn spent_word(&self, at: u64) -> (u64, Option<Standing<'_>>) {
        let slot = self.ring.memory.slot(at);
        loop {
            let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
            if word.state() == Ctl::CLAIMED {
                return (word.lap() - 1, None);
            }
            if word.state() != Ctl::COMMITTED {
                return (word.lap(), None);
            }
            let standing = self.examine(at);
            fence_at(Label::ReadFence, Ordering::Acquire);
            if slot.ctl().load(Ordering::Relaxed) != word.0 {
                continue; // claimed or renewed meanwhile
            }
            return match standing {
                Some(standing) if standing.dlv.is_settled() => (word.lap(), None),
                Some(standing) => (0, Some(standing)),
                None => (word.lap(), None),
            };
        }
    }
}
