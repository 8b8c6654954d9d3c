//! When a record may be overwritten: `trim`, `reclaim`, pins and reliable cursors.
//!
//! ```text
//!  free             judged one by one      readable
//! ───────────┬─────────────────────────┬──────────────▶ positions
//!         reclaim                     trim
//! ```
//! No reader pins or joins below `trim`; every slot below `reclaim` is free. To free more, a
//! producer advances `trim`, fences (SeqCst), scans pins and cursors, and advances `reclaim` to
//! the lowest that it met. A joiner stores its pin, fences (SeqCst), and checks trim ≤ p: one of
//! the two sees the other. Between the two marks a pinned record is renewed in place, any other
//! is free; so a stopped view costs one slot. After one scan behind the fence nothing below that
//! `trim` can become protected again, so the scan is kept until it says "protected".
//!
//! Payloads of records in [old reclaim, new reclaim) are released before `reclaim` moves, so a
//! death in between is mended by the next producer.

use super::claim::Appender;
use super::{Counter, Overflow, SlotRing, Tenant};
use crate::layout::ring::{
    MAX_POSITION, Meta, NO_PIN, READER_LOSSY, READER_RELIABLE, READER_STANDING,
};
use crate::layout::word::{Ctl, Role};
use crate::shm::ring::Slot;
use crate::sync::{Label, Ordering, fence_at, order};

/// What to do with a committed record in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Free,
    Renew,
    Full { by: u16 },
}

/// What one scan found below one `trim`.
#[derive(Debug, Default)]
pub struct Protection {
    /// The scan speaks of positions below this.
    below: u64,
    /// Pinned positions below `below`.
    pins: Vec<(u64, u16)>,
    /// The lowest reliable cursor and its reader.
    cursor: u64,
    holder: u16,
}

impl Protection {
    /// The participant that held the ring back last.
    pub fn holder(&self) -> u16 {
        self.pins.first().map_or(self.holder, |pin| pin.1)
    }

    fn lowest(&self) -> u64 {
        self.pins.iter().map(|pin| pin.0).min().unwrap_or(NO_PIN).min(self.cursor)
    }

    fn verdict(&self, record: u64) -> Option<Verdict> {
        if record >= self.below {
            return None;
        }
        if record >= self.cursor {
            return Some(Verdict::Full { by: self.holder });
        }
        if self.pins.iter().any(|pin| pin.0 == record) {
            return Some(Verdict::Renew);
        }
        Some(Verdict::Free)
    }
}

impl Appender {
    /// Decides over the committed record in the slot of `p`, whose word is `word`.
    #[cold]
    pub(super) fn judge(
        &mut self,
        ring: &SlotRing,
        slot: Slot<'_>,
        word: Ctl,
        p: u64,
        tenant: &mut dyn Tenant,
    ) -> Verdict {
        let geometry = ring.memory.geometry();
        self.free_below = self.reclaim(ring).saturating_add(geometry.slots());
        if p < self.free_below {
            return Verdict::Free;
        }
        let record = slot.position().load(Ordering::Relaxed); // CAS of exactly `word` proves it
        if !geometry.is_plausible(record, p, word.lap()) {
            // Another producer may have claimed the slot meanwhile: then the header is its.
            fence_at(Label::ReadFence, Ordering::Acquire);
            if slot.ctl().load(Ordering::Relaxed) == word.0 {
                ring.count(Counter::Damaged, 1);
            }
            return Verdict::Free;
        }
        // A second look only after the holder was found dead and its entry freed.
        loop {
            let verdict = self.judge_record(ring, record, p, tenant);
            match verdict {
                Verdict::Full { by } if by != 0 && ring.evict_if_dead(by) => {}
                Verdict::Renew if ring.evict_if_dead(self.protection.holder()) => {}
                Verdict::Free => {
                    ring.release_payload(record, tenant);
                    return verdict;
                }
                _ => return verdict,
            }
        }
    }

    fn judge_record(
        &mut self,
        ring: &SlotRing,
        record: u64,
        p: u64,
        tenant: &mut dyn Tenant,
    ) -> Verdict {
        let trim = ring.memory.trim().load(Ordering::Relaxed);
        if record >= trim
            && let Err(by) = self.advance(ring, record, p, tenant) {
                return Verdict::Full { by };
            }
        match self.protection.verdict(record) {
            Some(Verdict::Free) => Verdict::Free,
            _ => {
                let trim = ring.memory.trim().load(Ordering::Relaxed).min(MAX_POSITION);
                self.scan(ring, trim);
                self.protection.verdict(record).unwrap_or(Verdict::Full { by: 0 })
            }
        }
    }

    pub(super) fn reclaim(&self, ring: &SlotRing) -> u64 {
        let seen = ring.memory.reclaim().load(order(Label::ReclaimLoad, Ordering::Acquire));
        // A scribbled mark must not free what nobody has written yet.
        if seen > self.next { 0 } else { seen }
    }

    /// Moves `trim` past `record`, which stands in the way of `p`, in steps of N/8; then `reclaim`.
    fn advance(
        &mut self,
        ring: &SlotRing,
        record: u64,
        p: u64,
        tenant: &mut dyn Tenant,
    ) -> Result<(), u16> {
        let step = (ring.memory.geometry().slots() / 8).max(1);
        let wish = (record + 1).next_multiple_of(step).min(p);
        let (bound, by) = match ring.overflow {
            Overflow::DropOldest => (NO_PIN, 0),
            Overflow::Refuse => ring.lowest_cursor(),
        };
        let target = wish.min(bound).min(ring.copied_below());
        if target <= record {
            return Err(by);
        }
        self.trim_to(ring, target, tenant);
        Ok(())
    }

    /// Frees everything that every reliable reader has passed, up to the tail: for the payloads,
    /// not for the slots. Returns the new `reclaim`.
    pub fn reclaim_all(&mut self, ring: &SlotRing, tenant: &mut dyn Tenant) -> u64 {
        let slots = ring.memory.geometry().slots();
        let bound = match ring.overflow {
            Overflow::Refuse => ring.lowest_cursor().0,
            // Drop-oldest under pressure: give an eighth of what is there.
            Overflow::DropOldest => {
                let trim = ring.memory.trim().load(Ordering::Relaxed).min(self.next);
                let oldest = trim.max(self.next.saturating_sub(slots));
                oldest + (self.next - oldest).div_ceil(8)
            }
        };
        self.trim_to(ring, bound.min(self.next), tenant);
        self.reclaim(ring)
    }

    /// As [`reclaim_all`](Self::reclaim_all), but the oldest of `parts` of what is there at most.
    pub fn reclaim_part(&mut self, ring: &SlotRing, parts: usize, tenant: &mut dyn Tenant) {
        let bound = match ring.overflow {
            Overflow::Refuse => ring.lowest_cursor().0,
            Overflow::DropOldest => NO_PIN,
        };
        let slots = ring.memory.geometry().slots();
        let trim = ring.memory.trim().load(Ordering::Relaxed).min(self.next);
        let oldest = trim.max(self.next.saturating_sub(slots));
        let part = (self.next - oldest).div_ceil(parts as u64);
        self.trim_to(ring, (oldest + part).min(bound).min(self.next), tenant);
    }

    /// A step of [`reclaim_all`](Self::reclaim_all) that takes nothing from anybody: at most `most`
    /// positions, and none that a reader still has before it, a lossy one neither. None at all of a
    /// ring that drops its oldest records: they stay until they are in the way.
    pub fn reclaim_some(&mut self, ring: &SlotRing, most: u64, tenant: &mut dyn Tenant) {
        if ring.overflow != Overflow::Refuse {
            return;
        }
        let from = self.reclaim(ring);
        let read = ring.lowest_cursor_of(&[READER_RELIABLE, READER_STANDING, READER_LOSSY]).0;
        if read == NO_PIN {
            return; // nobody reads: what comes first may still want all of it
        }
        let target = read.min(self.next).min(from.saturating_add(most));
        if from < target {
            self.trim_to(ring, target, tenant);
        }
    }

    fn trim_to(&mut self, ring: &SlotRing, target: u64, tenant: &mut dyn Tenant) {
        let target = target.min(ring.copied_below());
        let before = ring.memory.trim().fetch_max(target, Ordering::Relaxed); // ordered by TrimFence
        if ring.overflow == Overflow::DropOldest && before < target {
            ring.count(Counter::Dropped, target - before);
        }
        self.scan(ring, target);
        let until = self.protection.lowest().min(target);
        let from = ring.memory.reclaim().load(order(Label::ReclaimLoad, Ordering::Acquire));
        let slots = ring.memory.geometry().slots();
        if from < until {
            let until = ring.release_payloads(from, until, tenant);
            ring.memory.reclaim().fetch_max(until, order(Label::ReclaimStore, Ordering::AcqRel));
        }
        self.free_below = self.reclaim(ring).saturating_add(slots);
    }

    /// Looks at every pin and reliable cursor behind the fence; the result speaks of `below`.
    fn scan(&mut self, ring: &SlotRing, below: u64) {
        fence_at(Label::TrimFence, Ordering::SeqCst);
        self.protection.below = below;
        self.protection.pins.clear();
        self.protection.cursor = NO_PIN;
        self.protection.holder = 0;
        for index in 0..ring.readers_in_use() {
            let entry = ring.memory.reader(index);
            let word = Role(entry.word.load(order(Label::ScanLoad, Ordering::Acquire)));
            if word.owner() == 0 {
                continue;
            }
            let standing = word.state() == READER_STANDING;
            // What drops its oldest records waits for nobody.
            if word.state() == READER_RELIABLE || standing && ring.overflow == Overflow::Refuse {
                let cursor = entry.cursor.load(order(Label::ScanLoad, Ordering::Acquire));
                if cursor < self.protection.cursor {
                    self.protection.cursor = cursor;
                    self.protection.holder = if standing { 0 } else { word.owner() };
                }
            }
            if standing {
                continue; // nobody looks at anything through it
            }
            for pin in entry.pins {
                let pinned = pin.load(order(Label::ScanLoad, Ordering::Acquire));
                if pinned < below {
                    self.protection.pins.push((pinned, word.owner()));
                }
            }
        }
    }
}

impl SlotRing {
    /// Reader entries that were ever used: the scan's bound.
    pub fn readers_in_use(&self) -> u32 {
        let used = self.memory.readers_used().load(Ordering::Relaxed);
        u32::try_from(used).unwrap_or(u32::MAX).min(self.memory.geometry().readers())
    }

    /// The lowest reliable cursor and its reader; `NO_PIN` when there is none.
    pub fn lowest_cursor(&self) -> (u64, u16) {
        self.lowest_cursor_of(&[READER_RELIABLE, READER_STANDING])
    }

    fn lowest_cursor_of(&self, kinds: &[u64]) -> (u64, u16) {
        let mut lowest = (NO_PIN, 0);
        for index in 0..self.readers_in_use() {
            let entry = self.memory.reader(index);
            let word = Role(entry.word.load(order(Label::ScanLoad, Ordering::Acquire)));
            if word.owner() != 0 && kinds.contains(&word.state()) {
                let cursor = entry.cursor.load(order(Label::ScanLoad, Ordering::Acquire));
                if cursor < lowest.0 {
                    let standing = word.state() == READER_STANDING;
                    lowest = (cursor, if standing { 0 } else { word.owner() });
                }
            }
        }
        lowest
    }

    /// Whether any record of this ring ever had its payload in the pool.
    fn has_payloads(&self) -> bool {
        self.memory.payloads().load(Ordering::Relaxed) != 0 // set before the first such commit
    }

    /// Tells the tenant of every record in `from..until` that has its payload in the pool. Returns
    /// how far `reclaim` may go: not past a claim that is still open, since its record could commit
    /// below `reclaim`, where nobody would look for its payload any more.
    fn release_payloads(&self, from: u64, until: u64, tenant: &mut dyn Tenant) -> u64 {
        if !self.has_payloads() {
            return until;
        }
        let geometry = self.memory.geometry();
        let oldest = until.saturating_sub(geometry.slots()).max(from);
        if oldest > from {
            // Records that a pin kept longer than a lap: found by their headers, slot by slot.
            for slot in 0..geometry.slots() {
                let record = self.memory.slot(slot).position().load(Ordering::Relaxed);
                if (from..oldest).contains(&record) && geometry.is_plausible(record, slot, u64::MAX)
                {
                    self.release_payload(record, tenant);
                }
            }
        }
        for record in oldest..until {
            let word = Ctl(self.memory.slot(record).ctl().load(Ordering::Relaxed));
            if word.state() == Ctl::CLAIMED && word.lap() == geometry.lap_of(record) {
                return record;
            }
            self.release_payload(record, tenant);
        }
        until
    }

    /// Tells the tenant that a record with a payload elsewhere goes, if that is what stands there.
    fn release_payload(&self, record: u64, tenant: &mut dyn Tenant) {
        if !self.has_payloads() {
            return;
        }
        let slot = self.memory.slot(record);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let meta = Meta(slot.meta().load(Ordering::Relaxed));
        if word.state() != Ctl::COMMITTED
            || meta.kind() != Meta::CHUNK
            || slot.position().load(Ordering::Relaxed) != record
        {
            return;
        }
        let mut body = [0u8; 24];
        #[cfg(not(loom))]
        slot.read_body(&mut body);
        #[cfg(loom)]
        slot.read_body(&mut body[..8]);
        fence_at(Label::ReadFence, Ordering::Acquire);
        if slot.ctl().load(Ordering::Relaxed) == word.0 {
            tenant.vacated(record, body);
        }
    }
}
