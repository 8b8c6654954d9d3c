//! Looking at every slot: the rolling sweep, the leases of the dead, purge, and the census.
//!
//! Nothing becomes invisible. Hints may be lost with whoever knew them: a receiver that skipped an
//! open claim, a sweeper that had raised a due word, a holder that died while nobody could reap. So
//! whoever receives looks at the next 512 slots, at most once a millisecond a queue, whether it found
//! a message or not: a ring of 32,768 slots is seen within 64 ms of receiving, and the rings of a
//! queue that has grown one behind the other. Where everybody sleeps, who wakes makes good for most of
//! what was missed before it sleeps again. Every step is one CAS of what was looked at; dying
//! anywhere leaves the rest to the next sweep.

use super::claim::lease_end;
use super::consume::Consumer;
use super::heads::Heads;
use super::{Delivery, Standing, Total};
use crate::layout::word::Dlv;
use crate::ring::Tenant;
use crate::sync::Ordering;

/// Slots of one sweep: about 10 µs of cold lines a millisecond.
const SWEEP_SLOTS: u64 = 512;
/// Sweeps that a sleeper makes good for before it sleeps on: with the longest sleep of 20 ms a ring of
/// 16,384 slots is seen within two of them, by 50 to 150 µs of looks each, whoever else sleeps.
const SWEEPS_OWED: u64 = 16;
/// A time of the last sweep or look that lies further ahead is none.
const AHEAD_MS: u64 = 1_000;
/// Between two looks for dead holders: a message of the dead is back within milliseconds.
#[cfg(not(loom))]
const PROBE_EVERY_MS: u64 = 5;
/// Holders that one look asks about: 16 calls of 0.4 µs in 5 ms are 0.13 % of one processor.
#[cfg(not(loom))]
const PROBES: u32 = 16;

/// What stands in a queue, counted by a look at every slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// To be received now.
    pub visible: u64,
    /// Leased, or given back with a delay.
    pub in_flight: u64,
    /// Sent with a delay that runs.
    pub delayed: u64,
    /// Set aside after too many receives.
    pub parked: u64,
    /// On their way to another queue.
    pub moving: u64,
    /// When the oldest of them was sent.
    pub oldest: Option<u64>,
}

impl Census {
    /// All of them.
    pub fn messages(&self) -> u64 {
        self.visible + self.in_flight + self.delayed + self.parked + self.moving
    }

    /// Adds what stands in another ring of the queue.
    pub fn add(&mut self, other: Self) {
        self.visible += other.visible;
        self.in_flight += other.in_flight;
        self.delayed += other.delayed;
        self.parked += other.parked;
        self.moving += other.moving;
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
    }
}

impl Delivery {
    /// Notes that this participant may hold leases here. Before its first.
    pub fn hold(&self) {
        self.set_holder(self.ring.me, true);
    }

    fn set_holder(&self, owner: u16, is_holder: bool) {
        let word = self.words.holders(usize::from(owner) / 64);
        let bit = 1 << (owner % 64);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let wanted = if is_holder { seen | bit } else { seen & !bit };
            match word.compare_exchange(seen, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether the caller is to look for dead holders: at most once in [`PROBE_EVERY_MS`] for
    /// everybody who receives here, so that what it costs does not grow with them. Who dies behind
    /// this leaves it to the next.
    #[cfg(not(loom))]
    pub fn may_probe(&self, now: u64) -> bool {
        let probed = self.words.probed();
        let last = probed.load(Ordering::Relaxed); // a hint
        let is_due = now.saturating_sub(last) >= PROBE_EVERY_MS
            || last.saturating_sub(now) > AHEAD_MS;
        is_due
            && probed
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A participant that may hold leases here and is proven dead. Asks about [`PROBES`] of the
    /// others, a system call each, and goes on behind them the next time.
    #[cfg(not(loom))]
    pub fn dead_holder(&self) -> Option<u16> {
        let words = crate::layout::queue::control::HOLDER_WORDS;
        let from = self.words.probe_from().load(Ordering::Relaxed) as usize % (64 * words);
        let mut probes = 0;
        // The word that it begins in is looked at twice: from there on, and up to there.
        for step in 0..=words {
            let word = (from / 64 + step) % words;
            let ahead = u64::MAX << (from % 64);
            let mut bits = self.words.holders(word).load(Ordering::Relaxed);
            bits &= match step {
                0 => ahead,
                _ if step == words => !ahead,
                _ => u64::MAX,
            };
            while bits != 0 {
                let owner = (word * 64) as u16 + bits.trailing_zeros() as u16;
                bits &= bits - 1;
                if owner == 0 || owner == self.ring.me {
                    continue;
                }
                if probes == PROBES {
                    let next = u64::from(owner);
                    self.words.probe_from().store(next, Ordering::Relaxed);
                    return None;
                }
                probes += 1;
                if self.ring.is_dead(owner) {
                    return Some(owner);
                }
            }
        }
        None
    }

    /// Whether `owner` may still hold leases here, and is proven dead.
    #[cfg(not(loom))]
    pub fn is_dead_holder(&self, owner: u16) -> bool {
        let word = self.words.holders(usize::from(owner) / 64);
        word.load(Ordering::Relaxed) & 1 << (owner % 64) != 0 && self.ring.is_dead(owner)
    }

    /// Ends every lease of the dead `owner`, as the rules say: at once, or at its deadline, which
    /// then is nobody's; with it its views, and its hold of the move task. How many leases. For a reaper,
    /// who has the entry in its hands: the number means nobody else meanwhile.
    pub fn release_dead(&self, owner: u16) -> u64 {
        let released = self.release_each(owner, || true);
        self.release_pins(owner);
        #[cfg(not(loom))]
        self.release_move_role(owner);
        self.release_writer(owner);
        self.set_holder(owner, false);
        released
    }

    /// The same for whoever has not: the number may have a new owner at any time, so each lease is
    /// loaded, its owner proven dead behind that, and exactly that lease released.
    pub fn release_left(&self, owner: u16) -> u64 {
        let released = self.release_each(owner, || self.ring.is_dead(owner));
        self.set_holder(owner, false);
        if !self.ring.is_dead(owner) {
            // Who joins from here on notes itself behind this.
            self.set_holder(owner, true);
        }
        released
    }

    fn release_each(&self, owner: u16, is_dead: impl Fn() -> bool) -> u64 {
        let mut released = 0;
        let at_once = self.redelivers_on_death();
        'slots: for at in 0..self.ring.memory.geometry().slots() {
            if self.is_fifo {
                self.surface(at); // the dead one may have been the only one who knew
            }
            while let Some(standing) = self.examine(at) {
                if standing.dlv.state() != Dlv::INFLIGHT || standing.dlv.owner() != owner {
                    break;
                }
                if !is_dead() {
                    break 'slots;
                }
                if self.release(&standing, at_once) {
                    released += 1;
                    break;
                }
            }
        }
        if released > 0 {
            self.count(Total::Released, released);
            self.ring.wake_all();
        }
        released
    }

    /// This participant closes the queue: its leases run on as nobody's, so that receipts that were
    /// handed to others stay good.
    pub fn leave(&self) {
        for at in 0..self.ring.memory.geometry().slots() {
            if let Some(standing) = self.examine(at)
                && standing.dlv.state() == Dlv::INFLIGHT
                && standing.dlv.owner() == self.ring.me
            {
                // Who was faster settled it by its receipt.
                let _ = self.release(&standing, false);
            }
        }
    }

    /// INFLIGHT(owner, r, deadline) → INFLIGHT(0, r, deadline or now).
    pub(super) fn release(&self, standing: &Standing<'_>, at_once: bool) -> bool {
        let dlv = standing.dlv;
        let now = self.clock.now_ms(); // behind the load of `dlv`
        let remaining = match dlv.remaining_ms(now as u32) {
            Some(remaining) if !at_once => u64::from(remaining),
            _ => 0,
        };
        let until = now + remaining;
        let index = self.index_of(standing.position);
        let lap = self.lap_of(standing.position);
        self.note_due(index, until);
        let word = Dlv::inflight(0, dlv.receives(), until as u32, lap);
        let swapped = self.swap(standing, word, Ordering::Relaxed);
        if swapped {
            self.confirm_due(index, until);
        }
        swapped
    }

    /// Whether it is the caller's turn to sweep: nobody else has within this millisecond.
    #[inline(always)]
    pub fn begins_sweep(&self, now: u64) -> bool {
        let swept = self.words.swept();
        let last = swept.load(Ordering::Relaxed);
        // One that lies ahead is a participant's whose clock was read later; far ahead it was
        // scribbled, or now is old: that must not end all sweeps, nor make two of one millisecond.
        (last < now || last - now > AHEAD_MS)
            && swept
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// When the last sweep began, by whoever did it.
    #[inline(always)]
    pub fn last_sweep(&self) -> u64 {
        self.words.swept().load(Ordering::Relaxed) // a hint
    }

    /// Milliseconds since the last sweep, as far as one sleep is long: so many sweeps there would have
    /// been if somebody had received all the time.
    pub fn sweeps_behind(&self, now: u64) -> u64 {
        now.saturating_sub(self.last_sweep()).min(SWEEPS_OWED)
    }

    /// Slots that were looked at by sweeps, modulo 2^64.
    #[cfg(test)]
    pub fn slots_swept(&self) -> u64 {
        self.words.sweep().load(Ordering::Relaxed)
    }

    /// Which slot the next sweep begins at, counted through all rings of the queue, round after
    /// round.
    pub fn next_sweep(&self) -> u64 {
        self.words.sweep().fetch_add(SWEEP_SLOTS, Ordering::Relaxed)
    }

    /// Looks at the slots from `first` on, of this ring.
    #[cold]
    pub fn sweep_from(
        &self,
        first: u64,
        consumer: &mut Consumer,
        now: u64,
        tenant: &mut dyn Tenant,
    ) {
        let slots = self.ring.memory.geometry().slots();
        let behind = self.receive_hint().max(consumer.position());
        for step in 0..SWEEP_SLOTS.min(slots) {
            if let Some(standing) = self.examine(first.wrapping_add(step)) {
                self.sweep_one(&standing, behind, consumer, now, tenant);
            }
        }
    }

    /// The same in a FIFO queue, where what may be received is given as a hint.
    #[cold]
    pub fn sweep_heads_from(
        &self,
        first: u64,
        heads: &mut Heads,
        now: u64,
        tenant: &mut dyn Tenant,
    ) {
        let slots = self.ring.memory.geometry().slots();
        for step in 0..SWEEP_SLOTS.min(slots) {
            if let Some(standing) = self.examine(first.wrapping_add(step)) {
                self.sweep_head(heads, &standing, now, tenant);
            }
        }
    }

    fn sweep_head(
        &self,
        heads: &mut Heads,
        standing: &Standing<'_>,
        now: u64,
        tenant: &mut dyn Tenant,
    ) {
        if standing.dlv.state() == Dlv::INFLIGHT
            && let Some(remaining) = standing.dlv.remaining_ms(now as u32)
        {
            self.sweep_lease(standing, remaining, now);
            return;
        }
        // One that waits in vain, for its turn or for room to be moved to, is gone all the same.
        if !self.is_leased(standing, now) && self.expire(standing, now, tenant) {
            return;
        }
        if self.is_to_move(standing) {
            heads.note_move(standing.position);
        } else if self.is_takeable(standing, now, tenant) && self.wants_hints() {
            self.give_hint(standing.position);
        }
    }

    /// A lease or delay that runs. `true` when its holder was dead, and it was ended.
    fn sweep_lease(&self, standing: &Standing<'_>, remaining: u32, now: u64) -> bool {
        let owner = standing.dlv.owner();
        if owner != 0 && self.redelivers_on_death() && self.ring.is_dead(owner) {
            return self.release(standing, true);
        }
        let index = self.index_of(standing.position);
        self.note_due(index, now + u64::from(remaining));
        false
    }

    fn sweep_one(
        &self,
        standing: &Standing<'_>,
        behind: u64,
        consumer: &mut Consumer,
        now: u64,
        tenant: &mut dyn Tenant,
    ) {
        if !self.is_leased(standing, now) && self.expire(standing, now, tenant) {
            return;
        }
        match standing.dlv.state() {
            Dlv::READY if standing.position < behind => consumer.remember(standing.position),
            Dlv::INFLIGHT => match standing.dlv.remaining_ms(now as u32) {
                // Offered in its turn, with all that are due.
                None => self.note_due(self.index_of(standing.position), now),
                Some(remaining) => {
                    if self.sweep_lease(standing, remaining, now) && consumer.has_room() {
                        consumer.remember(standing.position);
                    }
                }
            },
            Dlv::MOVING if self.is_to_move(standing) => consumer.note_move(standing.position),
            _ => {}
        }
    }

    /// Whether something is to be done about a message that is parked or between two queues.
    pub(super) fn is_to_move(&self, standing: &Standing<'_>) -> bool {
        match standing.parked_after() {
            None => standing.is_between(),
            Some(_) => self.redrive().is_some() || !self.is_parked_for_good(standing),
        }
    }

    /// Whether a parked message would be parked, if it were met now.
    pub fn is_parked_for_good(&self, parked: &Standing<'_>) -> bool {
        parked.dlv.receives() >= self.most_receives()
    }

    /// Consumes every message below the tail as it is now, in flight and parked ones too, but for
    /// those between two queues. How many.
    pub fn purge(&self, tenant: &mut dyn Tenant) -> u64 {
        let tail = self.ring.tail_now();
        if self.is_fifo {
            self.link_up_to(tail);
        }
        let mut purged = 0;
        for at in 0..self.ring.memory.geometry().slots() {
            while let Some(standing) = self.examine(at) {
                if standing.position >= tail || standing.is_between() {
                    break;
                }
                if standing.dlv.is_settled() {
                    self.finish_settled(&standing, tenant);
                    break;
                }
                if self.consume(&standing, tenant) {
                    purged += 1;
                    break;
                }
            }
        }
        self.words.receive().fetch_max(tail, Ordering::Relaxed);
        self.count(Total::Purged, purged);
        purged
    }

    /// The delay of a FIFO queue is another by now, and counts for the messages that are in it: those
    /// that nobody has received yet become visible so long after they were sent. Who dies in between
    /// leaves some of them as they were.
    pub fn delay_anew(&self, delay_ms: u32) {
        for at in 0..self.ring.memory.geometry().slots() {
            while let Some(standing) = self.examine(at) {
                if !self.delay_one(&standing, delay_ms) {
                    break;
                }
            }
        }
        self.ring.wake_all(); // some of them are visible now
    }

    /// Whether somebody else has done something about it: then it is to be looked at again.
    fn delay_one(&self, standing: &Standing<'_>, delay_ms: u32) -> bool {
        let now = self.clock.now_ms();
        let sent = standing.sent().min(now); // a later one was scribbled
        let until = lease_end(sent, delay_ms).max(now);
        let word = Dlv::inflight(0, 0, until as u32, self.lap_of(standing.position));
        let is_delayed = standing.dlv.state() == Dlv::INFLIGHT
            && (standing.dlv.owner(), standing.dlv.receives()) == (0, 0);
        let is_new = standing.dlv.state() == Dlv::READY && delay_ms != 0;
        if !is_delayed && !is_new {
            return false;
        }
        let index = self.index_of(standing.position);
        self.note_due(index, until);
        let swapped = self.swap(standing, word, Ordering::Relaxed);
        if swapped {
            self.confirm_due(index, until);
        }
        !swapped
    }

    /// Counts what stands in the queue. Looks at every slot once; each value by itself is current.
    pub fn census(&self, now: u64) -> Census {
        let mut census = Census::default();
        let retention_ms = self.retention_ms();
        self.each(|standing| {
            let sent = standing.sent();
            if standing.dlv.is_arriving() {
                return; // counted where it comes from
            }
            if !self.is_leased(&standing, now)
                && !standing.is_between()
                && now.saturating_sub(sent) > retention_ms
            {
                return; // gone, though nobody has looked yet
            }
            match standing.dlv.state() {
                _ if standing.dlv.is_settled() => return,
                Dlv::READY => census.visible += 1,
                Dlv::INFLIGHT if standing.has_ended(now) => census.visible += 1,
                Dlv::INFLIGHT if standing.dlv.receives() == 0 => census.delayed += 1,
                Dlv::INFLIGHT => census.in_flight += 1,
                _ if standing.dlv.is_moving() => census.moving += 1,
                _ => census.parked += 1,
            }
            census.oldest = Some(census.oldest.map_or(sent, |oldest| oldest.min(sent)));
        });
        census
    }

    /// Shows the holder of every lease that runs at `now`, and whoever moves a message.
    #[cfg(not(loom))]
    pub fn each_lease(&self, now: u64, mut look: impl FnMut(u16)) {
        self.each(|standing| {
            if let Some(holder) = standing.holder()
                && !standing.has_ended(now)
            {
                look(holder);
            }
        });
    }

    /// Shows every message that is not consumed.
    pub fn each(&self, mut look: impl FnMut(Standing<'_>)) {
        for at in 0..self.ring.memory.geometry().slots() {
            if let Some(standing) = self.examine(at) {
                look(standing);
            }
        }
    }
}
