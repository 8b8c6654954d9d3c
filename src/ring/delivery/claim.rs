//! Claiming a position of a queue: the append table with `dlv` in it, and the words of a message.
//!
//! Load `ctl`, then `dlv`, then CAS exactly that `ctl`. DONE is final, so a claim behind it is safe
//! however late it comes; INFLIGHT may have become DONE meanwhile, and then the slot is renewed
//! although it was free: a position is stepped over, nothing else.

use super::link::GroupHash;
use super::{Delivery, Standing};
use crate::layout::queue::{Envelope, FIRST_LINE_BODY};
use crate::layout::ring::{Meta, SLOT_HEADER};
use crate::layout::word::{Ctl, Dlv};
use crate::ring::commit::HINT_EVERY;
use crate::ring::claim::{Appender, Blocked, Claim, is_takable, take};
use crate::ring::pace::AHEAD;
use crate::ring::{Counter, SlotRing, Tenant};
use crate::sync::{Label, Ordering, order};

impl Appender {
    /// Claims the next free position of a queue.
    ///
    /// Messages in flight are stepped over wherever they stand, at most one round of them, or as
    /// many as its [patience](Self::set_patience) allows.
    ///
    /// # Errors
    /// See [`Blocked`]; `Full` names the holder of a lease that was stepped over last, 0 when the
    /// ring is full of messages that nobody has received.
    #[inline]
    pub fn claim_message<'a>(
        &mut self,
        queue: &'a Delivery,
        tenant: &mut dyn Tenant,
    ) -> Result<Claim<'a>, Blocked> {
        match self.claim_free(queue) {
            Some(claim) => Ok(claim),
            None => self.claim_message_with_care(queue, tenant),
        }
    }

    /// Claims the next position if no hint is due, its slot is free, and nobody else was faster: by
    /// one swap.
    #[inline(always)]
    pub fn claim_free<'a>(&mut self, queue: &'a Delivery) -> Option<Claim<'a>> {
        if self.next() >= self.hint_at {
            return None;
        }
        let claim = self.at_next(&queue.ring);
        claim.slot.prefetch_first_line_to_write();
        let word = Ctl(claim
            .slot
            .ctl()
            .load(order(Label::ClaimLoad, Ordering::Acquire)));
        if !is_takable(word, claim.claimed.lap()) {
            return None;
        }
        if word.state() == Ctl::COMMITTED && !load_in_the_way(&claim).is_free() {
            return None;
        }
        take(&claim, word).then(|| {
            self.next = claim.position + 1;
            claim
        })
    }

    #[cold]
    #[inline(never)]
    fn claim_message_with_care<'a>(
        &mut self,
        queue: &'a Delivery,
        tenant: &mut dyn Tenant,
    ) -> Result<Claim<'a>, Blocked> {
        let ring = &queue.ring;
        let now = queue.clock.now_ms();
        if self.next >= self.hint_at {
            self.advance_hint(ring);
            self.hint_followed();
            self.touch.reach(&ring.memory, self.next, HINT_EVERY);
        }
        let below = queue.claimable_below();
        if queue.durable.is_some() {
            self.ask_each_time();
        }
        let slots = ring.memory.geometry().slots();
        let (mut holder, mut kept) = (0, 0);
        for _ in 0..=2 * slots {
            if self.next >= below {
                return Err(Blocked::Full { by: 0 });
            }
            let claim = self.at_next(ring);
            let lap = claim.claimed.lap();
            let word = Ctl(claim
                .slot
                .ctl()
                .load(order(Label::ClaimLoad, Ordering::Acquire)));
            if word.lap() >= lap {
                self.follow(ring, word, lap)?;
                continue;
            }
            let free = match word.state() {
                Ctl::VOID => true,
                Ctl::COMMITTED => match queue.judge(&claim, now, tenant) {
                    InTheWay::Free => true,
                    InTheWay::Gone => false, // look again
                    InTheWay::Kept { .. } if kept >= slots.min(self.patience) => break,
                    InTheWay::Kept { by } => {
                        (holder, kept) = (by, kept + 1);
                        // Others are likely to follow, up to a whole round of them.
                        queue.ask_for_room(claim.position + AHEAD, 0);
                        self.renew_message(ring, &claim, word);
                        false
                    }
                    InTheWay::Backlog => return Err(Blocked::Full { by: 0 }),
                },
                _ => {
                    self.pass_claim(ring, claim.slot, word, lap)?;
                    false
                }
            };
            if free && take(&claim, word) {
                self.took(claim.position);
                return Ok(claim);
            }
        }
        Err(Blocked::Full { by: holder })
    }

    fn renew_message(&mut self, ring: &SlotRing, claim: &Claim<'_>, word: Ctl) {
        let renewed = word.at_lap(claim.claimed.lap());
        if claim
            .slot
            .ctl()
            .compare_exchange(
                word.0,
                renewed.0,
                Ordering::Relaxed, // moves no bytes: the release sequence of the commit goes on
                Ordering::Relaxed,
            )
            .is_ok()
        {
            ring.count(Counter::Renewed, 1);
            self.next = claim.position + 1;
        }
    }
}

/// What a committed message in the way means to a producer.
enum InTheWay {
    /// Consumed: the slot is free.
    Free,
    /// It was past its retention, or its header was damaged: the slot is free now.
    Gone,
    /// It stays where it is; `by` holds its lease.
    Kept { by: u16 },
    /// Nobody has received it yet.
    Backlog,
}

#[inline(always)]
fn load_in_the_way(claim: &Claim<'_>) -> Dlv {
    let load = order(Label::ReuseLoad, Ordering::Acquire);
    Dlv(claim.slot.dlv().load(load))
}

impl Delivery {
    /// Asks for the lines of the slot of `position`, to send a message of `len` bytes.
    #[inline(always)]
    pub fn ask_for_room(&self, position: u64, len: usize) {
        let slot = self.ring.memory.slot(position);
        slot.prefetch_first_line_to_write();
        slot.prefetch_up_to::<true>(self.end_of(len));
    }

    /// Where a body of `len` bytes ends in its slot.
    #[inline(always)]
    pub(super) fn end_of(&self, len: usize) -> usize {
        SLOT_HEADER + self.envelope.bytes() + len
    }

    /// Asks for the second line of the slot of `position`, if a message of `len` bytes reaches there:
    /// before the claim looks at the first, so that the two travel side by side.
    #[inline(always)]
    pub fn ask_for_second_line(&self, position: u64, len: usize) {
        if len > FIRST_LINE_BODY {
            self.ring.memory.slot(position).prefetch_second_line::<true>();
        }
    }

    fn judge(&self, claim: &Claim<'_>, now: u64, tenant: &mut dyn Tenant) -> InTheWay {
        let dlv = load_in_the_way(claim);
        if dlv.is_free() {
            return InTheWay::Free;
        }
        if dlv.state() == Dlv::DONE {
            let viewer = self.viewer(claim.position);
            return viewer.map_or(InTheWay::Free, |by| InTheWay::Kept { by });
        }
        let Some(standing) = self.examine(claim.position) else {
            return InTheWay::Gone;
        };
        if !self.is_leased(&standing, now) && self.expire(&standing, now, tenant) {
            return InTheWay::Gone;
        }
        // Too low a hint is a false Full, and no more.
        if standing.dlv.state() == Dlv::READY && standing.position >= self.backlog_from() {
            return InTheWay::Backlog;
        }
        InTheWay::Kept {
            by: standing.dlv.owner(),
        }
    }

    /// What is READY from here on waits for its first receive and for nothing else; below, it is
    /// hidden in its group, or a sweep will find it.
    fn backlog_from(&self) -> u64 {
        if self.is_fifo {
            self.linked_below()
        } else {
            self.receive_hint()
        }
    }

    /// Whether somebody holds the message, or its delay runs.
    pub(super) fn is_leased(&self, standing: &Standing<'_>, now: u64) -> bool {
        standing.dlv.state() == Dlv::INFLIGHT && !self.is_over(standing, now)
    }

    /// What `dlv` of a new message says, and before its commit the due words if it is delayed.
    #[inline(always)]
    pub fn first_word(&self, position: u64, now: u64, delay_ms: u32) -> Dlv {
        let lap = self.lap_of(position);
        if delay_ms == 0 {
            return Dlv::ready(lap);
        }
        let until = lease_end(now, delay_ms);
        self.note_due(self.index_of(position), until);
        Dlv::inflight(0, 0, until as u32, lap)
    }

    /// Behind the commit of a delayed message.
    pub fn confirm_delay(&self, position: u64, now: u64, delay_ms: u32) {
        self.confirm_due(self.index_of(position), lease_end(now, delay_ms));
    }
}

/// When something that begins now and lasts `ms` is over. `now` may be a fraction of a millisecond
/// old, so it ends up to one later and never earlier; what lasts no time is over at once.
#[inline(always)]
pub(super) fn lease_end(now: u64, ms: u32) -> u64 {
    now + u64::from(ms) + u64::from(ms != 0)
}

impl Claim<'_> {
    /// What `dlv` of a new message says that is visible at once.
    #[inline(always)]
    pub fn ready_word(&self) -> Dlv {
        Dlv::ready(self.claimed.lap())
    }

    /// Stores header, envelope, delivery word and body of a message.
    #[inline(always)]
    pub fn fill_message(&self, meta: Meta, word: Dlv, sent: u64, body: &[u8]) {
        self.write_header(meta);
        // Relaxed: only the owner of the claim writes; ClaimFence and CommitStore order them.
        self.slot.dlv().store(word.0, Ordering::Relaxed);
        self.slot.sent().store(sent, Ordering::Relaxed);
        self.slot.write_message(Envelope::Standard, body);
    }

    /// Stores the number of the message's entry in the deduplication table.
    #[inline(always)]
    pub fn name_entry(&self, number: u64) {
        // Relaxed: only the owner of the claim writes; CommitStore orders it.
        self.slot.dedup().store(number, Ordering::Relaxed);
    }

    /// The same in a FIFO queue, for a message of `group`, which is not linked yet; `dedup` is
    /// the number of its entry in the deduplication table, 0 for none.
    #[inline(always)]
    pub fn fill_message_of(
        &self,
        group: GroupHash,
        dedup: u64,
        meta: Meta,
        word: Dlv,
        sent: u64,
        body: &[u8],
    ) {
        let slot = self.slot;
        self.write_header(meta);
        // Relaxed: as above. A receiver that links late changes `prev` and `next` only from the
        // position that stands there, which is another message's before this and never after.
        slot.dlv().store(word.0, Ordering::Relaxed);
        slot.sent().store(sent, Ordering::Relaxed);
        slot.prev().store(self.position, Ordering::Relaxed);
        slot.next().store(self.position, Ordering::Relaxed);
        slot.group().store(group.0, Ordering::Relaxed);
        slot.group_2().store(group.1, Ordering::Relaxed);
        slot.dedup().store(dedup, Ordering::Relaxed);
        slot.write_message(Envelope::Fifo, body);
    }
}
