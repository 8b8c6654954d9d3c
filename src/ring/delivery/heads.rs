//! Finding messages of a FIFO queue: one receiver's private side.
//!
//! Sources, oldest first: messages whose lease or delay has ended; hints, which come in turn; then the
//! link cursor, which meets the first message of each group that has none waiting. Nothing of worth is
//! kept here: what is due is due for everybody, and a hint that is taken is received or given back.
//!
//! # A batch
//! takes as many messages of one group as it can, then goes on to another. Behind the first, leased
//! as ever, it leases the one that `next` names, and then looks whether the first one's very word
//! still stands (behind DueFence): if so, nobody else had the group when the second was leased. If not, the
//! second is given back at once, and nobody has seen it. Who takes a first message whose lease had ended
//! looks behind its own CAS whether a later one is in flight, and gives it back likewise: of a batch
//! that goes on and one that begins, one sees the other.

use super::consume::{Consumer, Finder};
use super::lease::Lease;
use super::link::Step;
use super::open::Open;
use super::{Delivery, Standing};
use crate::layout::word::Dlv;
use crate::ring::Tenant;
use crate::ring::pace::{AHEAD as AHEAD_OF_RUN, Distance};
use crate::sync::Ordering;

/// Messages that one look at a due block hands over.
const FOUND: usize = 64;
/// Messages to be moved that are remembered at a time; the sweep finds what is forgotten.
const MOVES: usize = 8;
/// Looks at the due words of one find.
const ROUNDS: usize = 4;
/// How far behind the first of a batch the next one of its group is looked for, in positions: linking
/// far ahead of what is received would let senders take a backlog for messages that are hidden.
const AHEAD: u64 = 256;

/// The group that a batch goes on with.
#[derive(Clone, Copy)]
struct Group {
    /// Its first message, and the word of its lease.
    first: u64,
    word: Dlv,
    /// The one that was leased last.
    last: u64,
}

/// See the module.
pub struct Heads {
    found: [u64; FOUND],
    found_count: usize,
    /// Messages that are not received any more but moved.
    moves: [u64; MOVES],
    move_count: usize,
    /// The open claim at the link cursor.
    open: Option<Open>,
    distance: Distance,
    in_batch: bool,
    /// What the batch has handed out.
    given: Vec<u64>,
    /// The batch has met a message of its own that is visible again: what is due comes round.
    has_come_round: bool,
    group: Option<Group>,
    /// Whether what was found last is of that group.
    goes_on: bool,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            found: [0; FOUND],
            found_count: 0,
            moves: [0; MOVES],
            move_count: 0,
            open: None,
            distance: Distance::default(),
            in_batch: false,
            given: Vec::new(),
            has_come_round: false,
            group: None,
            goes_on: false,
        }
    }
}

impl Heads {
    /// Passes on what was met that is to be moved.
    #[inline(always)]
    pub fn hand_over_moves(&mut self, consumer: &mut Consumer) {
        while self.move_count > 0 {
            self.move_count -= 1;
            consumer.note_move(self.moves[self.move_count]);
        }
    }

    /// Remembers a message that is to be moved, unless there are too many: the sweep meets it again.
    pub(super) fn note_move(&mut self, position: u64) {
        if self.move_count < MOVES && !self.moves[..self.move_count].contains(&position) {
            self.moves[self.move_count] = position;
            self.move_count += 1;
        }
    }

    /// Whether a message may be taken now and is not in this batch already. One that is received too
    /// often is on its way to be moved.
    fn is_takeable(
        &mut self,
        queue: &Delivery,
        standing: &Standing<'_>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> bool {
        if queue.is_takeable(standing, now, tenant) {
            return !self.was_given(standing);
        }
        if standing.dlv.state() == Dlv::INFLIGHT
            && let Some(parked) = queue.examine_exactly(standing.position)
            && queue.is_to_move(&parked)
        {
            self.note_move(parked.position);
        }
        false
    }

    /// From here on one group after the other.
    pub fn begin_batch(&mut self) {
        self.in_batch = true;
        self.has_come_round = false;
        self.group = None;
    }

    /// Whether a batch is under way.
    #[inline(always)]
    pub fn is_in_batch(&self) -> bool {
        self.in_batch
    }

    /// Its end.
    pub fn end_batch(&mut self) {
        self.in_batch = false;
        self.given.clear();
        self.group = None;
    }

    #[inline]
    fn find_one<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        self.goes_on = false;
        if self.in_batch
            && let Some(standing) = self.next_of_group(queue, now, tenant)
        {
            self.goes_on = true;
            return Some(standing);
        }
        if (self.found_count > 0 || queue.is_due(now))
            && let Some(standing) = self.find_due(queue, now, tenant)
        {
            return Some(standing);
        }
        for _ in 0..queue.words.hint_count() {
            let Some(position) = queue.take_hint() else {
                break;
            };
            if let Some(standing) = queue.examine_exactly(position)
                && self.is_takeable(queue, &standing, now, tenant)
            {
                return Some(standing);
            }
        }
        self.link(queue, now, tenant)
    }

    fn begin_group(&mut self, lease: &Lease<'_>) {
        self.group = self.in_batch.then_some(Group {
            first: lease.standing.position,
            word: lease.standing.dlv,
            last: lease.standing.position,
        });
    }

    /// Until the end of the batch the message at `position` is not found again, however short its lease
    /// is.
    pub fn give(&mut self, position: u64) {
        self.given.push(position);
    }

    /// Whether an open claim keeps this receiver from something: it must look again soon.
    pub fn is_pending(&self) -> bool {
        self.open.is_some()
    }

    /// This receiver goes away, perhaps with an open claim before it.
    pub fn leave(&self, queue: &Delivery) {
        if let Some(open) = &self.open {
            queue.leave_open(open);
        }
    }

    #[cold]
    fn find_due<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        for _ in 0..ROUNDS {
            if let Some(standing) = self.take_found(queue, now, tenant) {
                return Some(standing);
            }
            if !queue.is_due(now)
                || self.has_come_round
                || !queue.collect_due(now, |standing| self.note_ended(queue, &standing, now))
            {
                break;
            }
        }
        self.take_found(queue, now, tenant)
    }

    /// A lease or a delay has ended. Whether that is a reason for others to look at it, too: one that
    /// is hidden behind an earlier one comes up when that one is consumed.
    fn note_ended(&mut self, queue: &Delivery, standing: &Standing<'_>, now: u64) -> bool {
        let Some(first) = queue.first_before(standing) else {
            return false;
        };
        let ended = first.dlv.state() == Dlv::INFLIGHT && first.has_ended(now);
        if !ended || queue.is_later_in_flight(&first, now) {
            return false;
        }
        if self.found_count < FOUND && !self.found[..self.found_count].contains(&first.position) {
            self.found[self.found_count] = first.position;
            self.found_count += 1;
        }
        first.position == standing.position
    }

    fn take_found<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        while self.found_count > 0 {
            self.found_count -= 1;
            let position = self.found[self.found_count];
            if let Some(standing) = queue.examine_exactly(position)
                && self.is_takeable(queue, &standing, now, tenant)
            {
                return Some(standing);
            }
        }
        None
    }

    /// Whether it is in this batch already: then it was received, and so it is in flight or was.
    fn was_given(&mut self, standing: &Standing<'_>) -> bool {
        let was = standing.dlv.state() == Dlv::INFLIGHT && self.given.contains(&standing.position);
        self.has_come_round |= was;
        was
    }

    /// Links on until a message may be taken.
    fn link<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        for _ in 0..=2 * queue.ring.memory.geometry().slots() {
            match queue.link_next() {
                Step::Message(standing) => {
                    let next = standing.position + 1;
                    if self.distance.is_in_a_run(next) {
                        queue.ask_for(next + AHEAD_OF_RUN, &standing);
                    }
                    if self.is_takeable(queue, &standing, now, tenant) {
                        self.open = None;
                        return Some(standing);
                    }
                }
                Step::Passed => {}
                Step::Open(position, word) => {
                    if !self.resolve(queue, Open::new(position, word, now), now) {
                        return None;
                    }
                }
                Step::End | Step::NoRoom => {
                    // Not with a batch in hand that could be handed over.
                    if self.given.is_empty() {
                        self.distance.at_end_of_run(queue.linked_below());
                    }
                    break;
                }
            }
        }
        self.open = None;
        None
    }

    /// Whether an open claim is out of the way.
    fn resolve(&mut self, queue: &Delivery, met: Open, now: u64) -> bool {
        let open = match self.open {
            Some(open) if open.is_same(&met) => open,
            _ => queue.met_before(met),
        };
        let resolved = queue.is_resolved(&open, now);
        self.open = (!resolved).then_some(open);
        resolved
    }

    /// The next message of the group of the batch, if it can be leased.
    fn next_of_group<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        let mut group = self.group?;
        let found = loop {
            let Some(standing) = next_linked(queue, &group, now, tenant) else {
                break None;
            };
            if !standing.dlv.is_settled() {
                break Some(standing);
            }
            group.last = standing.position;
        };
        let found = found.filter(|standing| queue.is_fit(standing, now));
        self.group = found.map(|_| group);
        found
    }
}

impl Finder for Heads {
    #[inline]
    fn find<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        self.find_one(queue, now, tenant)
    }

    fn put_back(&mut self, queue: &Delivery, position: u64) {
        queue.give_hint(position);
    }

    /// `false` when somebody else has a message of its group: the first, if this is the next of a batch; a
    /// later one, if it is the first.
    #[inline]
    fn confirm(&mut self, queue: &Delivery, lease: &Lease<'_>, now: u64) -> bool {
        let group = self.group.filter(|_| self.goes_on);
        if group.is_none() && lease.receives() == 1 {
            self.begin_group(lease);
            return true;
        }
        // Behind DueFence: the lease of either has looked at the due words since its CAS.
        let is_ours = match group {
            Some(group) => {
                let slot = queue.ring.memory.slot(group.first);
                slot.dlv().load(Ordering::Relaxed) == group.word.0
            }
            None => !queue.is_later_in_flight(&lease.standing, now),
        };
        match (is_ours, &mut self.group) {
            (true, Some(group)) if self.goes_on => group.last = lease.standing.position,
            (true, _) => self.begin_group(lease),
            (false, _) => {
                self.group = None;
                // Who was faster settled it by its receipt.
                let _ = queue.release(&lease.standing, true);
            }
        }
        is_ours
    }

    /// One that was received before is leased first: whoever had it may be at work on the group.
    fn hold<'a>(
        &mut self,
        queue: &'a Delivery,
        standing: Standing<'a>,
        now: u64,
    ) -> Option<Standing<'a>> {
        if standing.next_receives() == 1 {
            return Some(standing);
        }
        let lease = queue.lease(standing, now, queue.visibility_ms())?;
        self.confirm(queue, &lease, now).then_some(lease.standing)
    }
}

/// The message behind the last one of a batch; links on for it.
fn next_linked<'a>(
    queue: &'a Delivery,
    group: &Group,
    now: u64,
    tenant: &mut dyn Tenant,
) -> Option<Standing<'a>> {
    let last = queue.examine_exactly(group.last)?;
    for _ in 0..2 * AHEAD {
        let is_near = queue.linked_below() < group.first.saturating_add(AHEAD);
        if last.next() != group.last || !is_near {
            break;
        }
        match queue.link_next() {
            Step::Message(standing) => {
                if queue.is_takeable(&standing, now, tenant) {
                    queue.give_hint(standing.position);
                }
            }
            Step::Passed => {}
            Step::Open(..) | Step::End | Step::NoRoom => break,
        }
    }
    let next = queue.examine_exactly(last.next())?;
    (next.position > group.last && next.prev() == group.last).then_some(next)
}
