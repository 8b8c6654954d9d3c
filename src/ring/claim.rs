//! Claiming a position of a shared ring: the table of the append protocol.
//!
//! `Appender` is one producer's private cursor. It may be sent to another thread but not shared.
//! It never blocks: every outcome that would need waiting is returned. Facts the proof stands on:
//! *contiguity* (a position is claimed or stepped over only after its predecessor was seen taken)
//! and *finality* (`lap(w) >= lap(p)` forbids p for ever; no transition lowers a lap).

use super::commit::HINT_EVERY;
use super::pace::Contention;
use super::reclaim::{Protection, Verdict};
use super::touch::Touch;
use super::{Counter, SlotRing, Tenant};
use crate::layout::word::{Ctl, LAP_SEALED};
use crate::shm::ring::Slot;
use crate::sync::{Label, Ordering, fence_at, order};

/// Positions over which an appender judges whether the ring is mostly stepped over.
const STEP_WINDOW: u32 = 256;
/// Taken positions in a row, from one look at the tail hint to the next: it saves a chase along
/// slots whose lines another producer is writing.
const CHASE: u32 = 4;

/// Why no position could be claimed. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The ring has come round to a record that must stay. `by` is the participant whose reliable
    /// cursor or view holds it, 0 when none could be named.
    Full {
        by: u16,
    },
    /// A slot shows a lap no sender can have reached: a peer scribbled.
    Corrupt,
    /// The ring was sealed; records go to its successor.
    Sealed,
}

/// A claimed position: the slot belongs to this producer until commit, abort or abandonment.
///
/// Carries the slot and its word, so that header, body and commit compute neither again.
#[must_use = "a claim that is neither committed nor aborted has to be voided"]
pub struct Claim<'a> {
    pub position: u64,
    pub(super) claimed: Ctl,
    pub(super) slot: Slot<'a>,
}

/// From CLAIMED to COMMITTED of the same owner and lap.
const COMMIT: u64 = (Ctl::COMMITTED - Ctl::CLAIMED) << 62;

impl Claim<'_> {
    /// The word that makes the record visible.
    #[inline(always)]
    pub(super) fn committed(&self) -> Ctl {
        Ctl(self.claimed.0 + COMMIT)
    }
}

/// Whether a slot that shows `word` may be taken for `lap`, if nothing protects a record in it:
/// VOID or COMMITTED of an older lap. The two are the states without the low state bit, so one
/// comparison says both.
#[inline(always)]
pub(super) fn is_takable(word: Ctl, lap: u64) -> bool {
    word.0 & (Ctl::CLAIMED << 62 | LAP_SEALED) < lap
}

/// One producer's private side.
///
/// Every method takes the ring it was made for: the handle above keeps both together, so that no
/// reference count moves on the hot path.
pub struct Appender {
    pub(super) next: u64,
    /// Positions below this need no look at `trim` and `reclaim`.
    pub(super) free_below: u64,
    /// The next claim at or above this lets the tail hint follow.
    pub(super) hint_at: u64,
    /// Positions at or above this can't be claimed yet: the journal has not passed what stood in their
    /// slots.
    journal_at: u64,
    /// The lowest of the three: below it a claim needs nothing else, and one comparison says so.
    clear_below: u64,
    /// CLAIMED(me, 1): the word of a position less its lap.
    claimed: u64,
    pub(super) protection: Protection,
    chase: u32,
    contention: Contention,
    examined: u32,
    stepped: u32,
    /// Messages in flight that one claim steps over before it says Full (queues).
    pub(super) patience: u64,
    /// Pages ahead (queues).
    pub(super) touch: Touch,
}

impl Appender {
    /// Starts at the tail.
    pub fn new(ring: &SlotRing) -> Self {
        let next = ring.find_tail();
        Self {
            next,
            free_below: 0,
            hint_at: next_boundary(next),
            journal_at: u64::MAX,
            clear_below: 0,
            claimed: Ctl::new(Ctl::CLAIMED, ring.me, 1).0,
            protection: Protection::default(),
            chase: 0,
            contention: Contention::default(),
            examined: 0,
            stepped: 0,
            patience: u64::MAX,
            touch: Touch::NOTHING,
        }
    }

    /// Touches the pages of the ring ahead of its claims: this process has touched none of them.
    pub fn touch_ahead(&mut self, ring: &SlotRing) {
        self.touch = Touch::all(&ring.memory, self.next);
    }

    /// It has waited for something else since its last claim: others that it meets are not in full flow.
    pub fn note_wait(&mut self) {
        self.contention = Contention::default();
    }

    /// Each claim asks whether the slot may be used again: a queue's whose journal has to have come
    /// there first.
    pub fn ask_each_time(&mut self) {
        self.hint_at = 0;
    }

    /// How many messages in flight a claim steps over before it says Full; at first, as many as
    /// there can be.
    pub fn set_patience(&mut self, most: u64) {
        self.patience = most;
    }

    /// Whether that is fewer than there can be.
    pub fn is_impatient(&self) -> bool {
        self.patience != u64::MAX
    }

    /// Where the next claim is tried.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Whether the next position is free as far as `reclaim` goes and no hint is due. False at
    /// least every 64 positions, and after any other trouble: the time for occasional checks.
    #[inline(always)]
    pub fn is_clear(&self) -> bool {
        self.next < self.clear_below
    }

    /// Whether nothing in the slot of `position` is needed any more, as far as `reclaim` was seen.
    #[inline(always)]
    pub fn is_free(&self, position: u64) -> bool {
        position < self.free_below
    }

    /// Call behind any change of `free_below` or `hint_at`.
    pub(super) fn set_clear_below(&mut self) {
        self.clear_below = self.free_below.min(self.hint_at).min(self.journal_at);
    }

    pub(super) fn hint_followed(&mut self) {
        self.hint_at = next_boundary(self.next);
    }

    /// The claim that `next` will be.
    #[inline(always)]
    pub fn at_next<'a>(&self, ring: &'a SlotRing) -> Claim<'a> {
        let position = self.next;
        let laps = ring.memory.geometry().lap_of(position) - 1;
        Claim { position, claimed: Ctl(self.claimed + laps), slot: ring.memory.slot(position) }
    }

    /// Claims the next free position. At most N steps.
    ///
    /// # Errors
    /// See [`Blocked`].
    #[inline]
    pub fn claim<'a>(
        &mut self,
        ring: &'a SlotRing,
        tenant: &mut dyn Tenant,
    ) -> Result<Claim<'a>, Blocked> {
        if self.is_clear()
            && let Some(claim) = self.claim_clear(ring) {
                return Ok(claim);
            }
        self.claim_with_care(ring, tenant)
    }

    /// The claims from the next position on that are clear ([`is_clear`](Self::is_clear)) and lie
    /// in one lap, not made yet: a batch has word and address of each by an addition.
    #[inline]
    pub fn run<'a>(&self, ring: &'a SlotRing, most: u64) -> impl Iterator<Item = Claim<'a>> + use<'a> {
        let Claim { position, claimed, .. } = self.at_next(ring);
        let most = most.min(self.clear_below.saturating_sub(position));
        let slots = ring.memory.run(position, most);
        slots.zip(position..).map(move |(slot, position)| Claim { position, claimed, slot })
    }

    /// Claims the next position if nobody else has and its slot is free as far as
    /// [`is_clear`](Self::is_clear) can say.
    #[inline(always)]
    pub fn claim_clear<'a>(&mut self, ring: &'a SlotRing) -> Option<Claim<'a>> {
        let claim = self.at_next(ring);
        self.make_clear(claim)
    }

    /// Makes the claim of a [`run`](Self::run), if nobody else has.
    #[inline(always)]
    pub fn make_clear<'a>(&mut self, claim: Claim<'a>) -> Option<Claim<'a>> {
        let word = Ctl(claim.slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
        if is_takable(word, claim.claimed.lap()) && take(&claim, word) {
            self.next = claim.position + 1;
            return Some(claim);
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn claim_with_care<'a>(
        &mut self,
        ring: &'a SlotRing,
        tenant: &mut dyn Tenant,
    ) -> Result<Claim<'a>, Blocked> {
        if self.next >= self.hint_at {
            self.advance_hint(ring);
            self.free_below =
                self.reclaim(ring).saturating_add(ring.memory.geometry().slots()).max(self.free_below);
            self.hint_followed();
        }
        let claimed = self.claim_step_by_step(ring, tenant);
        self.set_clear_below();
        claimed
    }

    fn claim_step_by_step<'a>(
        &mut self,
        ring: &'a SlotRing,
        tenant: &mut dyn Tenant,
    ) -> Result<Claim<'a>, Blocked> {
        let mut steps = 0;
        self.journal_at = self.claimable_below(ring);
        loop {
            let claim = self.at_next(ring);
            if claim.position >= self.journal_at {
                return Err(Blocked::Full { by: 0 });
            }
            let (p, lap, slot) = (claim.position, claim.claimed.lap(), claim.slot);
            let word = Ctl(slot.ctl().load(order(Label::ClaimLoad, Ordering::Acquire)));
            if word.lap() < lap {
                let free = match word.state() {
                    Ctl::VOID => true,
                    Ctl::COMMITTED => p < self.free_below || {
                        match self.judge(ring, slot, word, p, tenant) {
                            Verdict::Free => true,
                            Verdict::Renew => {
                                self.renew(ring, slot, word, lap)?;
                                false
                            }
                            Verdict::Full { by } => return Err(Blocked::Full { by }),
                        }
                    },
                    _ => {
                        self.pass_claim(ring, slot, word, lap)?;
                        false
                    }
                };
                if free && take(&claim, word) {
                    self.took(p);
                    return Ok(claim);
                }
            } else {
                self.follow(ring, word, lap)?;
            }
            steps += 1;
            if steps > 2 * ring.memory.geometry().slots() {
                return Err(Blocked::Full { by: 0 });
            }
        }
    }

    /// A position that nobody has claimed when the machine fails is given out by nobody behind it.
    fn claimable_below(&self, ring: &SlotRing) -> u64 {
        ring.copied_below().saturating_add(ring.memory.geometry().slots())
    }

    /// Behind a claim that others may have been in the way of: the chase is over.
    pub(super) fn took(&mut self, position: u64) {
        self.next = position + 1;
        self.chase = 0;
    }

    /// The position is taken or stepped over, or we slept for laps.
    #[cold]
    pub(super) fn follow(&mut self, ring: &SlotRing, word: Ctl, lap: u64) -> Result<(), Blocked> {
        if word.lap() == lap {
            self.next += 1;
            self.chase += 1;
            if self.chase == 1 {
                self.contention.met(self.next);
            }
            if self.chase % CHASE == 1
                && let Some(hint) = ring.checked_tail_hint() {
                    self.next = self.next.max(hint);
                }
            return Ok(());
        }
        if word.lap() == LAP_SEALED {
            return Err(Blocked::Sealed);
        }
        let geometry = ring.memory.geometry();
        let index = geometry.slot_of(self.next);
        self.next = geometry.position_of(index, word.lap()).ok_or(Blocked::Corrupt)? + 1;
        Ok(())
    }

    /// A pinned record stays where it is; the position is stepped over.
    #[cold]
    fn renew(
        &mut self,
        ring: &SlotRing,
        slot: Slot<'_>,
        word: Ctl,
        lap: u64,
    ) -> Result<(), Blocked> {
        if slot
            .ctl()
            .compare_exchange(
                word.0,
                word.at_lap(lap).0,
                Ordering::Relaxed, // moves no bytes: the release sequence of the commit goes on
                Ordering::Relaxed,
            )
            .is_ok()
        {
            ring.count(Counter::Renewed, 1);
            self.step_over()?;
        }
        Ok(())
    }

    /// CLAIMED or HELD of an older lap: dead → VOID, else → HELD and stepped over.
    #[cold]
    pub(super) fn pass_claim(
        &mut self,
        ring: &SlotRing,
        slot: Slot<'_>,
        word: Ctl,
        lap: u64,
    ) -> Result<(), Blocked> {
        if ring.is_dead(word.owner()) {
            ring.void_dead(slot, word);
            return Ok(());
        }
        let held = Ctl::new(Ctl::HELD, word.owner(), lap);
        if slot
            .ctl()
            .compare_exchange(word.0, held.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            if word.state() == Ctl::CLAIMED {
                ring.count(Counter::Abandoned, 1);
            }
            self.step_over()?;
        }
        Ok(())
    }

    /// Counts a stepped-over position; Full when more than half of the last window was.
    pub(super) fn step_over(&mut self) -> Result<(), Blocked> {
        self.next += 1;
        self.stepped += 1;
        self.examined += 1;
        if self.stepped > STEP_WINDOW / 2 {
            self.stepped = 0;
            self.examined = 0;
            return Err(Blocked::Full { by: self.protection.holder() });
        }
        Ok(())
    }

    /// Called whenever the hint follows: ages the step-over window.
    pub(super) fn age_window(&mut self, positions: u32) {
        self.examined += positions;
        if self.examined >= STEP_WINDOW {
            self.examined = 0;
            self.stepped = 0;
        }
    }
}

/// The first position behind `position` at which the hint follows.
fn next_boundary(position: u64) -> u64 {
    (position | (HINT_EVERY - 1)) + 1
}

/// Takes the slot of `claim` if it still shows `word`.
#[inline(always)]
pub(super) fn take(claim: &Claim<'_>, word: Ctl) -> bool {
    let taken = claim
        .slot
        .ctl()
        .compare_exchange(
            word.0,
            claim.claimed.0,
            order(Label::ClaimCas, Ordering::AcqRel),
            Ordering::Relaxed, // a failed CAS looks again with ClaimLoad
        )
        .is_ok();
    if taken {
        fence_at(Label::ClaimFence, Ordering::Release);
    }
    taken
}

impl SlotRing {
    /// CLAIMED or HELD of a proven dead owner → VOID of the same lap. Exactly `word` or nothing.
    ///
    /// In an exclusive ring too: the dead owner stores nothing more, and its successor stores into
    /// this slot either the same VOID or, a lap later, a word that this CAS does not expect
    /// (docs/decisions/0006-void-without-the-producer-word.md).
    pub fn void_dead(&self, slot: Slot<'_>, word: Ctl) -> bool {
        debug_assert!(matches!(word.state(), Ctl::CLAIMED | Ctl::HELD));
        let voided = slot
            .ctl()
            .compare_exchange(
                word.0,
                Ctl::new(Ctl::VOID, 0, word.lap()).0,
                order(Label::VoidStore, Ordering::AcqRel),
                Ordering::Relaxed,
            )
            .is_ok();
        if voided {
            self.count(Counter::Voided, 1);
        }
        voided
    }

    /// CLAIMED of exactly this word → HELD, owner kept. The owner's late stores hit only this slot.
    pub fn abandon(&self, slot: Slot<'_>, word: Ctl) -> bool {
        debug_assert!(word.state() == Ctl::CLAIMED);
        let held = Ctl::new(Ctl::HELD, word.owner(), word.lap());
        let abandoned = slot
            .ctl()
            .compare_exchange(word.0, held.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if abandoned {
            self.count(Counter::Abandoned, 1);
        }
        abandoned
    }
}
