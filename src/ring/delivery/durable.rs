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
//! begun, finished   numbers of flushes: what was noted before a flush began is on disk when it, or a
//!                   later one, is finished
//! ```
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
use crate::layout::durable::{
    Changed, Cursor, Durable, FRESH, HANDED_OVER, POSITIONS, UNBEGUN, WRITING,
};
use crate::layout::queue::BLOCK_SLOTS;
use crate::layout::word::{Ctl, Dlv, Role};
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
}

/// The role of the journal's writer, in this participant's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    role: Role,
    /// Of everything that is written under it.
    pub epoch: u64,
    /// Where to go on in the segment that another one left; `None`: in a new one.
    pub cursor: Option<(u64, u64)>,
}

/// How the role is laid down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next one goes on there.
    At((u64, u64)),
    /// The next one begins an epoch.
    Anew,
    /// The next one makes the segment that could not be made.
    Unbegun,
}

/// How far whoever writes has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    steps: u64,
    role: u64,
}

impl Steps {
    /// Whether the step under way may be a long one.
    pub fn is_long(self) -> bool {
        self.steps & 1 != 0
    }
}

/// What there is to be done about the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is free.
    Free(Role),
    /// Somebody has it, by this word; whoever can't wait any longer, or finds him dead, takes it over.
    Held(Role),
}

/// Epochs have run out: nobody can write any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEpoch;

impl Delivery {
    /// The same queue, with the words of one that is on disk.
    pub fn with_durable(self, durable: DurableWords) -> Self {
        Self {
            durable: Some(durable),
            is_plain: false,
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
        match &self.durable {
            // Relaxed: it says something about the disk, and nothing about memory.
            Some(words) => Durable(words.durable().load(Ordering::Relaxed)).position(),
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
        let load = order(Label::DurableLoad, Ordering::Acquire);
        let durable = Durable(words.durable().load(load)).position();
        let slots = self.ring.memory.geometry().slots();
        (durable + slots).min(POSITIONS - 1)
    }

    /// Whether there is no segment that can be written to.
    pub fn is_frozen(&self) -> bool {
        let frozen = |words: &DurableWords| words.frozen().load(Ordering::Relaxed) != 0;
        self.durable.as_ref().is_some_and(frozen)
    }

    /// Behind the CAS that consumed the message in the slot `index`.
    #[inline(always)]
    pub(super) fn note_changed(&self, index: usize) {
        if let Some(words) = &self.durable {
            let (word, bit) = words.changed_of(index);
            word.fetch_or(bit, order(Label::ChangedNote, Ordering::Release));
            fence_behind_rmw(Label::NoteFence);
        }
    }

    /// The flush behind which everything that this thread consumed is on disk.
    pub fn next_flush(&self) -> u64 {
        // Relaxed: NoteFence came before.
        let begun = |words: &DurableWords| words.begun().load(Ordering::Relaxed) + 1;
        self.durable.as_ref().map_or(0, begun)
    }

    /// Whether that flush is on disk.
    pub fn is_flushed(&self, flush: u64) -> bool {
        let finished = |words: &DurableWords| words.finished().load(Ordering::Relaxed) >= flush;
        self.durable.as_ref().is_none_or(finished)
    }

    /// Whether it is this participant's turn to write.
    pub fn turn(&self) -> Option<Turn> {
        let words = self.durable.as_ref()?;
        let role = Role(words.persister().load(Ordering::Relaxed)); // the CAS decides
        Some(match role.state() {
            WRITING => Turn::Held(role),
            _ => Turn::Free(role),
        })
    }

    /// Takes the role as it was seen, from nobody, or over from a holder that is dead or stands still.
    /// `None` when somebody was faster.
    ///
    /// # Errors
    /// When there is no further epoch.
    pub fn begin_writing(&self, turn: Turn) -> Result<Option<Writing>, NoEpoch> {
        let Some(words) = &self.durable else {
            return Ok(None);
        };
        let (Turn::Free(seen) | Turn::Held(seen)) = turn;
        let role = seen.taken(WRITING, self.ring.me);
        let take = order(Label::RoleTake, Ordering::Acquire);
        if words
            .persister()
            .compare_exchange(seen.0, role.0, take, Ordering::Relaxed)
            .is_err()
        {
            return Ok(None);
        }
        if matches!(seen.state(), HANDED_OVER | UNBEGUN) {
            let load = order(Label::DurableLoad, Ordering::Acquire);
            let epoch = Durable(words.durable().load(load)).epoch();
            let cursor = Cursor(words.cursor().load(Ordering::Relaxed)).of(epoch);
            // Who stood still before that load was displaced by then: epoch and cursor are another's.
            if words.persister().load(Ordering::Relaxed) != role.0 {
                return Ok(None);
            }
            // Of another epoch: whoever was displaced stored it late.
            if seen.state() == UNBEGUN || cursor.is_some() {
                let cursor = cursor.filter(|_| seen.state() == HANDED_OVER);
                return Ok(Some(Writing {
                    role,
                    epoch,
                    cursor,
                }));
            }
        }
        if matches!(turn, Turn::Held(_)) {
            words.take_overs().fetch_add(1, Ordering::Relaxed); // a statistic
        }
        self.begin_epoch(role)
    }

    /// {e, D} → {e+1, D}, while the role is in these hands.
    fn begin_epoch(&self, role: Role) -> Result<Option<Writing>, NoEpoch> {
        let Some(words) = &self.durable else {
            return Ok(None);
        };
        let mut seen = Durable(words.durable().load(Ordering::Relaxed));
        while words.persister().load(Ordering::Relaxed) == role.0 {
            let next = Durable::new(seen.epoch() + 1, seen.position()).ok_or(NoEpoch)?;
            // AcqRel: the release sequence of what others told goes on.
            let both = order(Label::DurableStore, Ordering::AcqRel);
            match words.durable().compare_exchange(
                seen.0,
                next.0,
                both,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Ok(Some(Writing {
                        role,
                        epoch: next.epoch(),
                        cursor: None,
                    }));
                }
                Err(now) => seen = Durable(now),
            }
        }
        Ok(None)
    }

    /// Gives up the segment of `writing`, which can't be written to any more: an epoch of its own for
    /// what comes next. `None` when the role is another's.
    ///
    /// # Errors
    /// When there is no further epoch.
    pub fn begin_anew(&self, writing: Writing) -> Result<Option<Writing>, NoEpoch> {
        self.begin_epoch(writing.role)
    }

    /// There is no segment that can be written to: nobody claims, and who waits is told.
    pub fn freeze(&self, writing: &Writing) {
        if let Some(words) = &self.durable {
            words.frozen().store(1, Ordering::Relaxed); // hints: who waits looks within 20 ms
            words.failed().fetch_max(writing.epoch + 1, Ordering::Relaxed);
        }
    }

    /// There is one again.
    pub fn thaw(&self) {
        if let Some(words) = &self.durable
            && words.frozen().load(Ordering::Relaxed) != 0
        {
            words.frozen().store(0, Ordering::Relaxed); // as above
        }
    }

    /// Changes when the queue was frozen: what was waited for then may be on disk or not.
    pub fn failures(&self) -> u64 {
        let failed = |words: &DurableWords| words.failed().load(Ordering::Relaxed);
        self.durable.as_ref().map_or(0, failed)
    }

    /// A step of whoever writes; a long one is that in which a segment may have to be made.
    pub fn note_step(&self, is_long: bool) {
        if let Some(words) = &self.durable {
            // Hints, and one writes: of two, the step of either is one.
            let steps = words.steps().load(Ordering::Relaxed);
            let next = (steps | 1).wrapping_add(1) | u64::from(is_long);
            words.steps().store(next, Ordering::Relaxed);
        }
    }

    /// Changes with every step of whoever writes, and whenever the role changes hands.
    pub fn steps(&self) -> Steps {
        let words = self.durable.as_ref();
        let (steps, role) = words.map_or((0, 0), |words| {
            (
                words.steps().load(Ordering::Relaxed),
                words.persister().load(Ordering::Relaxed),
            )
        });
        Steps { steps, role }
    }

    /// Lays down the role of the dead `owner`: for its reaper.
    pub(super) fn release_writer(&self, owner: u16) {
        let Some(words) = &self.durable else {
            return;
        };
        let seen = Role(words.persister().load(Ordering::Relaxed));
        if seen.state() == WRITING && seen.owner() == owner {
            let free = seen.laid_down(FRESH);
            let release = order(Label::RoleRelease, Ordering::Release);
            let _ = words.persister().compare_exchange(
                seen.0,
                free.0,
                release,
                Ordering::Relaxed, // somebody took over
            );
        }
    }

    /// Whether the role is still in these hands.
    pub fn is_writing(&self, writing: &Writing) -> bool {
        let holds = |words: &DurableWords| {
            words.persister().load(Ordering::Relaxed) == writing.role.0 // asked of one's own word
        };
        self.durable.as_ref().is_some_and(holds)
    }

    /// Lays the role down.
    pub fn end_writing(&self, writing: Writing, end: End) {
        let Some(words) = &self.durable else {
            return;
        };
        // Whoever took over from here has an epoch of its own and asks nobody where to go on.
        if words.persister().load(Ordering::Relaxed) != writing.role.0 {
            return;
        }
        let kind = match end {
            End::At((segment, offset)) => match Cursor::new(writing.epoch, segment, offset) {
                Some(cursor) => {
                    words.cursor().store(cursor.0, Ordering::Relaxed);
                    HANDED_OVER
                }
                None => FRESH,
            },
            End::Anew => FRESH,
            End::Unbegun => UNBEGUN,
        };
        let laid_down = writing.role.laid_down(kind);
        let release = order(Label::RoleRelease, Ordering::Release);
        let _ = words.persister().compare_exchange(
            writing.role.0,
            laid_down.0,
            release,
            Ordering::Relaxed, // taken over meanwhile
        );
    }

    /// Begins a flush; its number.
    pub fn begin_flush(&self) -> u64 {
        let Some(words) = &self.durable else {
            return 0;
        };
        let number = words.begun().fetch_add(1, Ordering::Relaxed) + 1; // ordered by the fence
        fence_behind_rmw(Label::FlushFence);
        number
    }

    /// Takes the blocks that have changed and shows them; all of them at the beginning of an epoch.
    /// `false` when a later epoch has begun.
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
            let is_first = taken.epoch() < writing.epoch;
            for bit in 0..per_word {
                let block = number * per_word + bit;
                if block < blocks && (is_first || taken.blocks() & 1 << bit != 0) {
                    show(block);
                }
            }
        }
        true
    }

    /// Everything below `to` and everything that flush `number` wrote is on disk. `false` when a later
    /// epoch has begun: then whoever began it will say so.
    pub fn finish_flush(&self, writing: &Writing, number: u64, from: u64, to: u64) -> bool {
        let Some(words) = &self.durable else {
            return false;
        };
        let (Some(seen), Some(next)) = (
            Durable::new(writing.epoch, from),
            Durable::new(writing.epoch, to),
        ) else {
            return false;
        };
        let tell = order(Label::DurableStore, Ordering::AcqRel);
        if words
            .durable()
            .compare_exchange(seen.0, next.0, tell, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        words.finished().fetch_max(number, Ordering::Relaxed); // of the disk, as above
        words.flushes().fetch_add(1, Ordering::Relaxed); // a statistic
        true
    }

    /// What stands at `position`, for the journal.
    pub fn look_to_write(&self, position: u64) -> ToWrite<'_> {
        let slot = self.ring.memory.slot(position);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let lap = self.lap_of(position);
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
    /// (first position of the block in that lap, a bit a slot); and the receive counts of what is.
    pub fn consumed_in(
        &self,
        block: u64,
        mut consumed: impl FnMut(u64, u64),
        mut received: impl FnMut(u64, u16),
    ) {
        let geometry = self.ring.memory.geometry();
        let first = block * BLOCK_SLOTS;
        let slots = BLOCK_SLOTS.min(geometry.slots());
        let mut laps: [(u64, u64); 4] = [(0, 0); 4];
        for bit in 0..slots {
            let (lap, left) = self.spent_lap(first + bit);
            if let Some(standing) = left {
                let receives = standing.dlv.receives();
                let counts = matches!(standing.dlv.state(), Dlv::INFLIGHT | Dlv::MOVING);
                if counts && receives > 0 {
                    received(standing.position, receives);
                }
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

    /// Wakes those who wait for a flush. Behind it.
    pub fn wake_behind_flush(&self) {
        let Some(words) = &self.durable else {
            return;
        };
        fence_behind_rmw(Label::WakeFence);
        if words.waiting().load(Ordering::Relaxed) != 0 {
            words.waiting().swap(0, Ordering::Relaxed); // hints; the fences order them
            let release = order(Label::WakeStore, Ordering::Release);
            words.flushed().fetch_add(1, release);
            #[cfg(not(loom))]
            crate::sys::futex::wake_all(words.flushed());
        }
    }

    /// Raises the flag of those who wait for a flush. The caller looks once more before it sleeps on the
    /// returned value.
    pub fn prepare_wait(&self) -> u32 {
        let Some(words) = &self.durable else {
            return 0;
        };
        let load = order(Label::SleepLoad, Ordering::Acquire);
        let seen = words.flushed().load(load);
        words.waiting().store(1, Ordering::Relaxed);
        fence_at(Label::SleepFence, Ordering::SeqCst);
        seen
    }
}
