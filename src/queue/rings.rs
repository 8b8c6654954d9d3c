//! A receiver's way through the rings of its queue: it takes from the oldest one on, and comes back
//! to what becomes visible again in the others.
//!
//! The cursor walks one ring; at its seal it goes on in the next. The rings beside it are looked at
//! once a millisecond, and whenever there is nothing at the cursor: one load of a due word each. A
//! ring behind the cursor in which nothing is any more is dropped, and given back unless it is the
//! first; a message that stays invisible keeps its ring and no other.
//!
//! Private to one receiver; may be lost with it.

use super::chain::{Link, is_untouched};
use super::payload::Payloads;
use super::{Inner, QueueReceiver};
use crate::error::ReceiveError;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::consume::{Consumer, Finder};
use crate::sys::clock::BootClock;
use std::sync::Arc;

/// No ring beside the cursor's.
const NEVER: u64 = u64::MAX;
/// Slots that a look for drained rings takes in each of them: about 20 µs of cold lines.
const DRAIN_SLOTS: u64 = 2048;
/// The same where they lie on a disk: what is looked at is in memory again until the ring is gone, so it
/// goes as fast as one is emptied, for a quarter of the time.
const SPILLED_DRAIN_SLOTS: u64 = 16 * DRAIN_SLOTS;
/// A sealed ring whose next one is not known is looked behind this often: the hint may be lost.
const LIST_EVERY_MS: u64 = 5;

/// How a message of one ring is taken, as its consumer finds it.
pub(super) trait TakeFrom<T>:
    FnMut(&Inner, &Delivery, &mut Consumer, &mut BootClock) -> Result<Option<T>, ReceiveError>
{
}

impl<T, F> TakeFrom<T> for F where
    F: FnMut(&Inner, &Delivery, &mut Consumer, &mut BootClock) -> Result<Option<T>, ReceiveError>
{
}

/// A ring that the cursor has left, or not come to.
struct Beside {
    link: Arc<Link>,
    consumer: Consumer,
}

/// See the module.
pub(super) struct Rings {
    /// Where the cursor is.
    link: Arc<Link>,
    /// The positions there: the first, and how many there can be.
    from: u64,
    span: u64,
    /// By number.
    beside: Vec<Beside>,
    /// The highest number that was ever known here.
    known: u32,
    /// When to look at them; [`NEVER`] where there are none.
    look_at: u64,
    list_at: u64,
}

impl Rings {
    /// Starts in the first ring.
    pub fn new(inner: &Inner) -> Self {
        inner.has_grown();
        let links = inner.chain.links();
        let mut rings = Self {
            link: Arc::clone(&links[0]),
            from: 0,
            span: u64::MAX,
            beside: Vec::new(),
            known: 0,
            look_at: NEVER,
            list_at: 0,
        };
        rings.adopt(&links);
        rings
    }

    /// Whether it is time to look beside the cursor.
    #[inline(always)]
    pub fn is_time(&self, now: u64) -> bool {
        now >= self.look_at
    }

    /// Whether there is no ring beside the cursor's.
    #[inline(always)]
    pub fn is_alone(&self) -> bool {
        self.beside.is_empty()
    }

    /// Whether `position` is one of the ring where the cursor is.
    #[inline(always)]
    pub fn is_here(&self, position: u64) -> bool {
        position.wrapping_sub(self.from) < self.span
    }

    /// The ring of `position`, if it is known here.
    pub fn beside(&self, position: u64) -> Option<&Delivery> {
        let link = &self.beside.get(self.index_of(position)?)?.link;
        Some(&link.delivery)
    }

    fn index_of(&self, position: u64) -> Option<usize> {
        let is_behind = |beside: &Beside| beside.link.first_position() <= position;
        self.beside.partition_point(is_behind).checked_sub(1)
    }

    /// Rings that appeared behind all that were known.
    fn adopt(&mut self, links: &[Arc<Link>]) {
        for link in links {
            if link.number > self.known {
                self.known = link.number;
                let mut consumer = Consumer::new(&link.delivery);
                consumer.stand_still(true);
                let link = Arc::clone(link);
                self.beside.push(Beside { link, consumer });
            }
        }
        self.arrange();
    }

    /// Call behind any change of the rings.
    fn arrange(&mut self) {
        let number = self.link.number;
        let next = self
            .beside
            .iter()
            .find(|beside| beside.link.number > number);
        self.from = self.link.first_position();
        let until = next.map_or(u64::MAX, |beside| beside.link.first_position());
        self.span = until.saturating_sub(self.from); // as the headers say it, which may be scribbled
        self.look_at = if self.beside.is_empty() { NEVER } else { 0 };
    }

    /// Rings behind the cursor in which nothing is any more.
    fn drop_drained(&mut self, inner: &Inner, now: u64) {
        let (number, before) = (self.link.number, self.beside.len());
        let slots = match inner.definition.spill {
            true => SPILLED_DRAIN_SLOTS,
            false => DRAIN_SLOTS,
        };
        self.beside.retain(|Beside { link, .. }| {
            // A later one than the cursor's may be drained, and is not sealed perhaps.
            let is_drained = link.number < number
                && (link.is_retired() || {
                    let is_drained = link.is_drained(slots, now);
                    // On disk whoever writes takes it away, when the disk knows.
                    if is_drained && inner.journal.is_none() {
                        link.retire();
                    }
                    is_drained
                });
            !is_drained
        });
        if self.beside.len() < before {
            // The other handles of this process drop it too.
            let _ = inner.chain.refresh(&inner.site);
            self.arrange();
        }
    }
}

impl QueueReceiver {
    /// Nothing at the cursor: on to the next ring if this one is sealed, and a look at the others.
    #[cold]
    pub(super) fn take_elsewhere<T>(
        &mut self,
        now: u64,
        mut take: impl TakeFrom<T>,
    ) -> Result<Option<T>, ReceiveError> {
        while self.moves_on(now) {
            let (inner, ring) = (&self.inner, &self.delivery);
            let taken = take(inner, ring, &mut self.consumer, &mut self.clock)?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
        self.take_beside(now, take)
    }

    /// A message of a ring beside the cursor's that is visible again.
    #[cold]
    pub(super) fn take_beside<T>(
        &mut self,
        now: u64,
        mut take: impl TakeFrom<T>,
    ) -> Result<Option<T>, ReceiveError> {
        for Beside { link, consumer } in &mut self.rings.beside {
            let ring = &link.delivery;
            if ring.is_due(now) || consumer.has_more() {
                let taken = take(&self.inner, ring, consumer, &mut self.clock)?;
                if taken.is_some() {
                    return Ok(taken); // and the next look is for more
                }
            }
        }
        if !self.rings.beside.is_empty() {
            self.gather_moves();
            self.rings.look_at = now + 1;
            self.rings.drop_drained(&self.inner, now);
        }
        Ok(None)
    }

    /// Whether there is a message at the cursor or beside it, which then is the next to be found.
    pub(super) fn finds(&mut self, now: u64) -> bool {
        let mut payloads = Payloads::new(&self.inner.segments, self.inner.object_id);
        if self.delivery.is_fifo() {
            let found = is_found(&self.delivery, &mut self.heads, now, &mut payloads);
            self.heads.hand_over_moves(&mut self.consumer);
            return found;
        }
        let mut finds =
            |ring: &Delivery, consumer: &mut Consumer| is_found(ring, consumer, now, &mut payloads);
        if finds(&self.delivery, &mut self.consumer) {
            return true;
        }
        let beside = self.rings.beside.iter_mut();
        for Beside { link, consumer } in beside {
            if (link.delivery.is_due(now) || consumer.has_more()) && finds(&link.delivery, consumer)
            {
                return true;
            }
        }
        self.moves_on(now) && self.finds(now)
    }

    /// Whether the cursor went on from the end of a sealed ring to the next.
    fn moves_on(&mut self, now: u64) -> bool {
        if !self.consumer.is_at_seal() {
            return false;
        }
        let number = self.rings.link.number;
        if self.rings.known == number {
            self.look_for_rings();
        }
        if self.rings.known == number && now >= self.rings.list_at {
            self.rings.list_at = now + LIST_EVERY_MS;
            // Where it can't be read now the next look tries again.
            if let Ok(links) = self.inner.chain.refresh(&self.inner.site) {
                self.rings.adopt(&links);
            }
        }
        let next = |beside: &Beside| beside.link.number > number;
        let Some(index) = self.rings.beside.iter().position(next) else {
            return false;
        };
        let Beside { link, mut consumer } = self.rings.beside.remove(index);
        consumer.stand_still(false);
        if self.inner.site.pre_touch {
            consumer.touch_ahead(&link.delivery);
        }
        self.delivery = link.delivery.clone();
        let mut consumer = core::mem::replace(&mut self.consumer, consumer);
        consumer.stand_still(true);
        let link = core::mem::replace(&mut self.rings.link, link);
        if self.inner.definition.spill && link.number > 0 {
            link.delivery.ring().memory().release_pages();
        }
        self.rings.beside.insert(index, Beside { link, consumer });
        self.rings.arrange();
        true
    }

    /// Looks whether the queue has grown, as far as anybody has noted, in this process or another.
    pub(super) fn look_for_rings(&mut self) {
        self.inner.has_grown();
        if self.inner.chain.last() > self.rings.known {
            let links = self.inner.chain.links();
            self.rings.adopt(&links);
        }
    }

    /// What is to be moved to another queue is so from any ring.
    fn gather_moves(&mut self) {
        for Beside { consumer, .. } in &mut self.rings.beside {
            while let Some(position) = consumer.next_move() {
                self.consumer.note_move(position);
            }
        }
    }

    /// Looks at the next slots of the queue, ring by ring.
    #[cold]
    pub(super) fn sweep(&mut self, now: u64) {
        let mut payloads = Payloads::new(&self.inner.segments, self.inner.object_id);
        if self.delivery.is_fifo() {
            let first = self.delivery.next_sweep();
            let heads = &mut self.heads;
            return self
                .delivery
                .sweep_heads_from(first, heads, now, &mut payloads);
        }
        let number = self.rings.link.number;
        let spills = self.inner.definition.spill;
        // Where nobody has received yet there is nothing to be found, and on a disk it would be read for that.
        let slots =
            |link: &Link| match spills && link.number > number && is_untouched(&link.delivery) {
                true => 0,
                false => link.delivery.ring().memory().geometry().slots(),
            };
        let beside = &mut self.rings.beside;
        let others: u64 = beside.iter().map(|beside| slots(&beside.link)).sum();
        let own = slots(&self.rings.link);
        let mut at = self.delivery.next_sweep() % (own + others);
        for Beside { link, consumer } in beside {
            let slots = slots(link);
            if at < slots {
                let ring = &link.delivery;
                return ring.sweep_from(at, consumer, now, &mut payloads);
            }
            at -= slots;
        }
        let ring = &self.delivery;
        ring.sweep_from(at, &mut self.consumer, now, &mut payloads);
    }

    /// Until the end of the batch the message at `position` is not found again.
    pub(super) fn give(&mut self, position: u64) {
        if self.delivery.is_fifo() {
            return self.heads.give(position);
        }
        if !self.rings.is_here(position)
            && let Some(index) = self.rings.index_of(position)
        {
            return self.rings.beside[index].consumer.give(position);
        }
        self.consumer.give(position);
    }

    /// The batch is at its end.
    pub(super) fn end_batch(&mut self) {
        self.consumer.end_batch();
        for beside in &mut self.rings.beside {
            beside.consumer.end_batch();
        }
    }

    /// Whether an open claim keeps this receiver from something, in any ring.
    pub(super) fn is_held_up(&self) -> bool {
        let mut beside = self.rings.beside.iter();
        self.consumer.is_pending() || beside.any(|beside| beside.consumer.is_pending())
    }

    /// When the next lease or delay ends, in any ring.
    pub(super) fn earliest_due(&self) -> u64 {
        let beside = self.rings.beside.iter();
        let due = beside.map(|beside| beside.link.delivery.next_due());
        due.fold(self.delivery.next_due(), u64::min)
    }
}

/// Whether a message can be found. It stays there for everybody.
fn is_found(
    ring: &Delivery,
    finder: &mut impl Finder,
    now: u64,
    payloads: &mut Payloads<'_>,
) -> bool {
    let found = finder.find(ring, now, payloads);
    let found = found.map(|standing| standing.position);
    if let Some(position) = found {
        finder.put_back(ring, position);
    }
    found.is_some()
}
