//! Finding a message to receive: one receiver's private cursor, and what it has to come back to.
//!
//! Three sources, oldest first: positions that were skipped because their claim was open; messages
//! whose lease or delay has ended, or that a sweep found behind the cursor; then the cursor itself,
//! which walks positions in order. It may be sent to another thread but not shared, blocks nobody
//! and is blocked by nobody: what is taken is stepped over, and what is not committed yet is
//! skipped as soon as something behind it is.
//!
//! Everything here is private and may be lost with its process: what it knew of lies behind the
//! shared receive hint, where the rolling sweep of the others finds it.

use super::open::Open;
use crate::layout::queue::FIRST_LINE_BODY;
use crate::layout::ring::MAX_POSITION;
use crate::layout::word::{Ctl, Dlv, LAP_SEALED};
use crate::ring::Tenant;
use crate::ring::pace::{AHEAD, Distance};
use crate::ring::touch::Touch;
use crate::sync::{Label, Ordering, order};
use super::{Delivery, Standing};
use super::fair::Fairness;
use super::lease::Lease;

/// Messages that one look at a block or one sweep hands over: a block.
const FOUND: usize = 64;
/// Open claims that are skipped at a time; behind a further one the receiver waits.
const SKIPPED: usize = 8;
/// Messages to be moved that are remembered at a time; the sweep finds what is forgotten.
const MOVES: usize = 16;
/// The shared receive hint follows every so many positions, with the receive behind them.
const PUBLISH_EVERY: u64 = 64;
/// Positions that others had taken, in a row, after which the shared hint is worth a look.
const CHASE: u32 = 8;
/// Looks at the due words of one find: each of them makes progress, for this receiver or another.
const ROUNDS: usize = 4;
/// Glances at an open claim before it is looked at with care: a microsecond's worth.
const MOST_GLANCES: u32 = 64;
/// What a receiver finds messages with: a [`Consumer`], or in a FIFO queue
/// [`Heads`](super::heads::Heads).
pub trait Finder {
    /// A message that is offered now, to be leased or consumed. `None` when there is none.
    fn find<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>>;

    /// A message that was found and not taken is offered by the next find.
    fn put_back(&mut self, queue: &Delivery, position: u64);

    /// Behind the lease of what was found: whether it stays. If not, it is undone.
    fn confirm(&mut self, queue: &Delivery, lease: &Lease<'_>, now: u64) -> bool;

    /// What has to be done before a message that was found is consumed at once.
    fn hold<'a>(
        &mut self,
        queue: &'a Delivery,
        standing: Standing<'a>,
        now: u64,
    ) -> Option<Standing<'a>>;
}

impl Finder for Consumer {
    #[inline(always)]
    fn find<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        self.find(queue, now, tenant)
    }

    fn put_back(&mut self, _queue: &Delivery, position: u64) {
        self.put_back(position);
    }

    #[inline(always)]
    fn confirm(&mut self, _queue: &Delivery, _lease: &Lease<'_>, _now: u64) -> bool {
        true
    }

    #[inline(always)]
    fn hold<'a>(
        &mut self,
        _queue: &'a Delivery,
        standing: Standing<'a>,
        _now: u64,
    ) -> Option<Standing<'a>> {
        Some(standing)
    }
}

/// See the module.
pub struct Consumer {
    next: u64,
    publish_at: u64,
    distance: Distance,
    /// Whether the last message reached into the second line of its slot.
    is_long: bool,
    /// At the claim at the cursor.
    glances: u32,
    fairness: Fairness,
    chase: u32,
    found: [u64; FOUND],
    found_count: usize,
    skipped: [Option<Open>; SKIPPED],
    skipped_count: usize,
    /// Messages that are not received any more but moved: found on the way, for
    /// [`next_move`](Self::next_move).
    moves: [u64; MOVES],
    move_count: usize,
    /// The claim at the cursor, behind which nothing is committed.
    last: Option<Open>,
    /// What the batch under way has handed out.
    given: Vec<u64>,
    /// The batch under way has met a message of its own that is visible again: what is due comes
    /// round, only the cursor leads to others.
    has_come_round: bool,
    /// The ring is sealed, and the cursor stands there.
    at_seal: bool,
    /// Only looks for what it has to come back to.
    is_still: bool,
    /// Pages ahead.
    touch: Touch,
}

impl Consumer {
    /// Starts at the receive hint.
    pub fn new(queue: &Delivery) -> Self {
        let next = queue.receive_hint();
        Self {
            next,
            publish_at: queue.next_stop(next),
            distance: Distance::default(),
            is_long: false,
            glances: 0,
            fairness: Fairness::default(),
            chase: 0,
            found: [0; FOUND],
            found_count: 0,
            skipped: [None; SKIPPED],
            skipped_count: 0,
            moves: [0; MOVES],
            move_count: 0,
            last: None,
            given: Vec::new(),
            has_come_round: false,
            at_seal: false,
            is_still: false,
            touch: Touch::NOTHING,
        }
    }

    /// Until [`end_batch`](Self::end_batch) the message at `position` is not found again, however
    /// short its lease is.
    #[inline]
    pub fn give(&mut self, position: u64) {
        self.given.push(position);
    }

    /// Everything may be found again.
    #[inline]
    pub fn end_batch(&mut self) {
        self.given.clear();
        self.has_come_round = false;
    }

    /// Whether the message is offered, and not in this batch already: that one was received, so it
    /// is in flight.
    fn is_offered(
        &mut self,
        queue: &Delivery,
        standing: &Standing<'_>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> bool {
        if standing.dlv.state() == Dlv::INFLIGHT && self.given.contains(&standing.position) {
            self.has_come_round = true;
            return false;
        }
        queue.is_offered(standing, now, tenant)
    }

    /// A message that is offered now, to be leased or consumed. `None` when there is none: behind
    /// the cursor nothing is written, and nothing is due.
    #[inline(always)]
    pub fn find<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        if let Some(standing) = self.peek(queue, now, 0) {
            self.pass(queue, &standing);
            return Some(standing);
        }
        self.find_with_care(queue, now, tenant)
    }

    /// The message at the cursor, if it is like most: nothing is to be come back to, nothing is due,
    /// and it was never received. The cursor stays. Nothing is due within `ahead_ms` of `now` either.
    #[inline(always)]
    pub fn peek<'a>(
        &self,
        queue: &'a Delivery,
        now: u64,
        ahead_ms: u64,
    ) -> Option<Standing<'a>> {
        if self.found_count == 0
            && self.skipped_count == 0
            && self.next < self.publish_at
            && !queue.is_due(now + ahead_ms)
        {
            let standing = queue.ready_at(self.next)?;
            if queue.is_young(&standing, now) && standing.meta().tenant() == 0 {
                return Some(standing);
            }
        }
        None
    }

    /// Moves the cursor past what [`peek`](Self::peek) found.
    #[inline(always)]
    pub fn pass(&mut self, queue: &Delivery, standing: &Standing<'_>) {
        self.next += 1;
        if self.distance.is_in_a_run(self.next) {
            queue.ask_for(self.next + AHEAD, standing);
        }
    }

    /// Learns from a message that came by itself how long they are.
    #[inline(always)]
    pub fn note_length(&mut self, standing: &Standing<'_>) {
        self.is_long = is_long(standing);
    }

    /// Whether there still is nothing where the last look found nothing, by a glance: for who polls.
    /// Everything that needs more than a glance is `false`, and so is a claim that has stood for a few
    /// of them. A claim that was just made will be committed by the next glance, most likely: one look
    /// too many takes its line from who commits, and a long message's second line is asked for now, when
    /// its bytes are there or about to be.
    #[inline(always)]
    pub fn sees_nothing_new(&mut self, queue: &Delivery, now: u64) -> bool {
        let is_idle = self.found_count == 0
            && self.skipped_count == 0
            && self.last.is_none()
            && !self.is_still
            && self.distance.is_still_at(self.next)
            && !queue.is_due(now);
        if !is_idle {
            return false;
        }
        let slot = queue.ring.memory.slot(self.next);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let lap = queue.lap_of(self.next);
        if word.lap() < lap {
            self.glances = 0;
            return true;
        }
        if word.state() != Ctl::CLAIMED || word.lap() != lap || self.glances >= MOST_GLANCES {
            return false;
        }
        self.glances += 1;
        if self.is_long {
            slot.prefetch_second_line::<false>();
        }
        true
    }

    /// A message that was found and not taken is offered by the next find.
    pub fn put_back(&mut self, position: u64) {
        self.remember(position);
    }

    /// Whether an open claim keeps this receiver from something: it must look again soon.
    pub fn is_pending(&self) -> bool {
        self.skipped_count > 0 || self.last.is_some()
    }

    /// Where the cursor stands.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether the cursor has come to the end of a sealed ring: what is sent now is sent to the
    /// next one. Claims that were skipped, and what a sweep finds, may still be here.
    pub fn is_at_seal(&self) -> bool {
        self.at_seal
    }

    /// Touches the pages of the ring ahead of the cursor: this process has touched none of them.
    pub fn touch_ahead(&mut self, queue: &Delivery) {
        self.touch = Touch::all(&queue.ring.memory, self.next);
    }

    /// Lets the cursor stand where it is: what is found is what was skipped, what is due, and what a
    /// sweep finds. For a ring that was walked to its end, or not come to yet.
    pub fn stand_still(&mut self, is_still: bool) {
        self.is_still = is_still;
        self.publish_at = if is_still {
            0 // no short way
        } else {
            next_boundary(self.next) // of a queue of several rings, none of which is on disk
        };
    }

    /// Whether there is something to come back to.
    pub fn has_more(&self) -> bool {
        self.found_count > 0 || self.skipped_count > 0
    }

    pub(super) fn remember(&mut self, position: u64) {
        if self.found_count < FOUND && !self.found[..self.found_count].contains(&position) {
            self.found[self.found_count] = position;
            self.found_count += 1;
        }
    }

    /// Whether it has met messages that are to be moved.
    #[inline(always)]
    pub fn has_moves(&self) -> bool {
        self.move_count > 0
    }

    /// One of them; it is forgotten here.
    pub fn next_move(&mut self) -> Option<u64> {
        self.move_count = self.move_count.checked_sub(1)?;
        Some(self.moves[self.move_count])
    }

    /// Remembers one of them, unless there are too many: the sweep meets it again.
    pub fn note_move(&mut self, position: u64) {
        if self.move_count < MOVES && !self.moves[..self.move_count].contains(&position) {
            self.moves[self.move_count] = position;
            self.move_count += 1;
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.found_count < FOUND
    }

    #[cold]
    #[inline(never)]
    fn find_with_care<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        if let Some(standing) = self.look_back(queue, now, tenant) {
            return Some(standing);
        }
        for _ in 0..ROUNDS {
            if let Some(standing) = self.take_found(queue, now, tenant) {
                return Some(standing);
            }
            if self.has_come_round
                || !queue.is_due(now)
                || !queue.collect_due(now, |standing| {
                    self.remember(standing.position);
                    true
                })
            {
                break;
            }
            // The last is taken first.
            self.found[..self.found_count].sort_unstable_by(|one, other| other.cmp(one));
        }
        let found = self.take_found(queue, now, tenant);
        if found.is_some() || self.is_still {
            return found;
        }
        self.walk(queue, now, tenant)
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
            let Some(standing) = queue.examine(position) else {
                continue;
            };
            if standing.position != position {
                continue;
            }
            if self.is_offered(queue, &standing, now, tenant) {
                return Some(standing);
            }
            // Parked just now?
            if let Some(standing) = queue.examine(position)
                && queue.is_to_move(&standing)
            {
                self.note_move(position);
            }
        }
        None
    }

    /// Looks again at the claims that were skipped.
    fn look_back<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        for at in 0..SKIPPED {
            let Some(open) = self.skipped[at] else {
                continue;
            };
            if !queue.is_resolved(&open, now) {
                continue;
            }
            self.skipped[at] = None;
            self.skipped_count -= 1;
            if let Some(standing) = queue.examine(open.position)
                && standing.position == open.position
                && self.is_offered(queue, &standing, now, tenant)
            {
                return Some(standing);
            }
        }
        None
    }

    /// Walks on from the cursor, over positions that others took or that were stepped over. What lies
    /// more than a round behind the tail is skipped at once: a fresh message would have held the
    /// senders there.
    fn walk<'a>(
        &mut self,
        queue: &'a Delivery,
        now: u64,
        tenant: &mut dyn Tenant,
    ) -> Option<Standing<'a>> {
        self.next = self.next.max(queue.receive_hint());
        let slots = queue.ring.memory.geometry().slots();
        for _ in 0..=2 * slots {
            let position = self.next;
            if position >= self.publish_at {
                self.publish(queue);
                if position >= self.publish_at {
                    return None; // not on disk yet
                }
            }
            let slot = queue.ring.memory.slot(position);
            let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
            let lap = queue.lap_of(position);
            if word.lap() < lap {
                self.publish(queue);
                self.last = None;
                // Not with a batch in hand that could be handed over.
                if self.given.is_empty() {
                    self.distance.at_end_of_run(self.next);
                }
                return None;
            }
            if word.state() == Ctl::CLAIMED && word.lap() == lap {
                if !self.pass_open(queue, word, now) {
                    return None;
                }
                continue;
            }
            self.last = None;
            if word.lap() == LAP_SEALED && position >= queue.ring.sealed_at(position) {
                self.publish(queue);
                self.at_seal = true;
                return None;
            }
            self.next += 1;
            if word.lap() > lap {
                let round = queue.ring.find_tail().saturating_sub(slots);
                self.next = self.next.max(round.min(MAX_POSITION));
            }
            if let Some(standing) = queue.examine(position)
                && standing.position == position
                && self.is_offered(queue, &standing, now, tenant)
            {
                self.chase = 0;
                if standing.meta().tenant() == 0 {
                    return Some(standing);
                }
                let chosen = self.fairness.choose(queue, standing, now, tenant);
                if chosen.position != position {
                    self.next = position; // the other one waits here
                }
                return Some(chosen);
            }
            self.chase += 1;
            if self.chase >= CHASE {
                self.chase = 0;
                self.next = self.next.max(queue.receive_hint());
            }
        }
        None
    }

    /// An open claim stands at the cursor. `true` when the cursor may go on.
    fn pass_open(&mut self, queue: &Delivery, word: Ctl, now: u64) -> bool {
        let position = self.next;
        let met = Open::new(position, word, now);
        let open = match self.last {
            Some(open) if open.is_same(&met) => open,
            _ => met,
        };
        if queue.is_resolved(&open, now) {
            return true; // the walk looks at it again
        }
        if queue.is_written(position + 1)
            && let Some(free) = self.skipped.iter_mut().find(|place| place.is_none())
        {
            // Its sender may have committed it just now, and written what is behind it: that is seen by now,
            // and comes first.
            if queue.is_resolved(&open, now) {
                return true;
            }
            *free = Some(open);
            self.skipped_count += 1;
            self.last = None;
            self.next += 1;
            return true;
        }
        self.last = Some(open);
        false
    }

    /// Lets the shared hint follow.
    fn publish(&mut self, queue: &Delivery) {
        self.publish_at = queue.next_stop(self.next);
        self.touch.reach(&queue.ring.memory, self.next, PUBLISH_EVERY);
        let hint = queue.words.receive();
        let seen = hint.load(Ordering::Relaxed); // derived: checked before use
        let first = queue.ring.memory.geometry().first_position();
        let is_wrong = seen > first && queue.receive_hint() == first;
        if seen < self.next || is_wrong {
            let _ =
                hint.compare_exchange(seen, self.next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Whether the message reaches into the second line of its slot.
#[inline(always)]
fn is_long(standing: &Standing<'_>) -> bool {
    standing.meta().len() as usize > FIRST_LINE_BODY
}

fn next_boundary(position: u64) -> u64 {
    (position | (PUBLISH_EVERY - 1)) + 1
}

impl Delivery {
    /// Up to where a cursor at `position` goes without letting the shared hint follow.
    fn next_stop(&self, position: u64) -> u64 {
        next_boundary(position).min(self.delivered_below())
    }

    /// The receive hint h, if the word of h−1 has lap ≥ lap(h−1): then every position below h was
    /// taken. The first position otherwise.
    pub fn receive_hint(&self) -> u64 {
        let hint = self.words.receive().load(Ordering::Relaxed); // derived; checked right here
        if self.ring.is_taken_below(hint) {
            return hint;
        }
        self.ring.memory.geometry().first_position()
    }
}
