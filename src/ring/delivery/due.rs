//! Due words: when the next lease or delay ends, for the queue, for each group of 4,096 slots and
//! for each block of 64. They make "is anything over?" one load, whatever is in flight.
//!
//! ```text
//! who gives out a lease                    who finds a due word passed
//!   lower block, group, queue                raise the word to NEVER
//!   CAS dlv                                  fence SeqCst            (SweepFence)
//!   fence SeqCst            (DueFence)       look at everything below
//!   lower block again if it was raised,      lower the word to the earliest that is there,
//!   fence, group, fence, queue               fence, and those above it (DueFence)
//! ```
//! A word that is lowered has to be seen by whoever raised the one above it, or the one above it is
//! seen raised: hence a fence behind each lowering, too.
//!
//! A due word is a lower bound, and a hint: too early costs a look. Lowering comes before the CAS
//! that makes it necessary, so a death in between leaves a bound that is too early. Of a sweeper
//! that raised the word meanwhile and the one who gives out the lease, one sees the other. A sweeper
//! that dies between raising and lowering leaves a bound that is too late: the rolling sweep looks
//! at every slot in turn and lowers it again.

use super::claim::lease_end;
use super::{Delivery, Standing};
use crate::layout::queue::{BLOCK_SLOTS, GROUP_BLOCKS, NEVER};
use crate::layout::word::Dlv;
use crate::sync::{AtomicU64, Label, Ordering, fence_at, fence_behind_rmw};

#[inline(always)]
fn lower(word: &AtomicU64, at: u64) {
    // Relaxed: a hint; the fences order it against what it speaks of.
    if word.load(Ordering::Relaxed) > at {
        word.fetch_min(at, Ordering::Relaxed);
        fence_behind_rmw(Label::DueFence);
    }
}

/// Leases that are given out one behind the other and end at the same time: a block's due words are
/// lowered before the first of them and confirmed behind the last, as if each had taken as long. Who
/// dies in between leaves what a death behind any CAS leaves.
pub struct Run<'a> {
    until: u64,
    /// The queue and a slot of the block that was noted last and is to be confirmed.
    noted: Option<(&'a Delivery, usize)>,
}

impl<'a> Run<'a> {
    /// Leases from `now` on, for `for_ms`.
    pub fn new(now: u64, for_ms: u32) -> Self {
        Self {
            until: lease_end(now, for_ms),
            noted: None,
        }
    }

    /// When they end.
    #[inline(always)]
    pub fn until(&self) -> u64 {
        self.until
    }

    #[inline(always)]
    pub(super) fn note(&mut self, queue: &'a Delivery, index: usize) {
        if let Some((_, noted)) = self.noted
            && noted as u64 / BLOCK_SLOTS == index as u64 / BLOCK_SLOTS
        {
            return;
        }
        self.confirm();
        queue.note_due(index, self.until);
        self.noted = Some((queue, index));
    }

    /// Behind the last of them.
    pub fn confirm(&mut self) {
        if let Some((queue, index)) = self.noted.take() {
            queue.confirm_due(index, self.until);
        }
    }
}

impl Delivery {
    /// Something in the slot `index` ends at `at`. Before the CAS that makes it so.
    #[inline(always)]
    pub(super) fn note_due(&self, index: usize, at: u64) {
        lower(self.words.block_of(index), at);
        lower(self.words.group_of(index), at);
        lower(self.words.due(), at);
    }

    /// The same behind the CAS.
    #[inline(always)]
    pub(super) fn confirm_due(&self, index: usize, at: u64) {
        fence_behind_rmw(Label::DueFence);
        self.note_due(index, at);
    }

    /// Whether a lease or delay may have ended.
    #[inline(always)]
    pub fn is_due(&self, now: u64) -> bool {
        self.words.due().load(Ordering::Relaxed) <= now
    }

    /// When the next lease or delay ends at the earliest; `NEVER` for none.
    pub fn next_due(&self) -> u64 {
        self.words.due().load(Ordering::Relaxed)
    }

    /// Hands messages whose lease or delay has ended to `found`, from the first block that has any
    /// of which `found` says that somebody may take it, and brings the due words of blocks that
    /// have none up to date. Whether there were any.
    #[cold]
    pub(super) fn collect_due(&self, now: u64, mut found: impl FnMut(Standing<'_>) -> bool) -> bool {
        let slots = self.ring.memory.geometry().slots();
        let per_block = BLOCK_SLOTS.min(slots);
        let per_group = (BLOCK_SLOTS * GROUP_BLOCKS).min(slots);
        // The oldest stand behind the newest, whose block comes last, and its group first and last.
        let begin = self.newest_slot().next_multiple_of(per_block) % slots;
        let groups = slots / per_group;
        for turn in 0..=groups {
            let first = (begin / per_group + turn) % groups * per_group;
            let group = self.words.group_of(first as usize);
            if group.load(Ordering::Relaxed) > now {
                continue;
            }
            let (from, until) = match turn {
                0 => (begin, first + per_group),
                _ if turn == groups => (first, begin),
                _ => (first, first + per_group),
            };
            for block in (from..until).step_by(per_block as usize) {
                let word = self.words.block_of(block as usize);
                if word.load(Ordering::Relaxed) <= now
                    && self.refresh_block(block, per_block, now, &mut found)
                {
                    return true;
                }
            }
            let earliest = refresh(
                group,
                (first..first + per_group)
                    .step_by(per_block as usize)
                    .map(|block| self.words.block_of(block as usize)),
            );
            lower(self.words.due(), earliest);
        }
        refresh(
            self.words.due(),
            (0..slots)
                .step_by(per_group as usize)
                .map(|first| self.words.group_of(first as usize)),
        );
        false
    }

    /// A slot near which the newest message stands.
    fn newest_slot(&self) -> u64 {
        let tail = self.ring.memory.tail().load(Ordering::Relaxed); // a hint
        let slots = self.ring.memory.geometry().slots();
        let newest = match self.on_disk_below() {
            below if below <= tail.saturating_add(slots) => below,
            _ => tail, // in memory; or it is on disk further than this ring goes
        };
        self.index_of(newest) as u64
    }

    /// Looks at every slot of a block whose due word has passed.
    fn refresh_block(
        &self,
        first: u64,
        slots: u64,
        now: u64,
        found: &mut impl FnMut(Standing<'_>) -> bool,
    ) -> bool {
        let word = self.words.block_of(first as usize);
        word.swap(NEVER, Ordering::Relaxed);
        fence_at(Label::SweepFence, Ordering::SeqCst);
        let (mut earliest, mut any) = (NEVER, false);
        for at in first..first + slots {
            let Some(standing) = self.examine(at) else {
                continue;
            };
            if standing.dlv.state() != Dlv::INFLIGHT {
                continue;
            }
            // One that is over keeps the word low until somebody has taken it.
            match standing.dlv.remaining_ms(now as u32) {
                Some(remaining) => earliest = earliest.min(now + u64::from(remaining)),
                None if found(standing) => {
                    earliest = earliest.min(now);
                    any = true;
                }
                None => {}
            }
        }
        // Those above too: somebody may have raised them while this word was raised.
        self.note_due(first as usize, earliest);
        any
    }
}

/// Brings a due word up to the earliest of those below it, which is returned.
fn refresh<'a>(word: &AtomicU64, below: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    word.swap(NEVER, Ordering::Relaxed);
    fence_at(Label::SweepFence, Ordering::SeqCst);
    let earliest = below.map(|below| below.load(Ordering::Relaxed)).min();
    let earliest = earliest.unwrap_or(NEVER);
    lower(word, earliest);
    earliest
}
