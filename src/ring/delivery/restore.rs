//! Making the ring of a queue that is on disk again, in a file that nobody else knows yet.
//!
//! The ring becomes what it would be if every position below `start` had been claimed: messages that
//! are left stand in the slots of their positions, renewed in place up to the last lap of their slot below
//! `start`; all other slots are VOID of that lap. So a position is never given out twice, an old receipt fits or
//! does not as ever, and no code that runs later knows the difference. Leases are void: who was
//! received comes again, with its count. What was on its way between two queues is so again, by nobody.

use super::Delivery;
use super::link::GroupHash;
use crate::layout::durable::{Durable, MARK_ARRIVING, MessageHead};
use crate::layout::ring::Meta;
use crate::layout::word::{Ctl, Dlv, NO_TARGET, NOBODY};
use crate::sync::Ordering;

/// A message that is left. Times are in ms of the queue's clock.
pub struct Left<'a> {
    /// Where it stands.
    pub position: u64,
    /// How often it was received.
    pub receives: u16,
    /// When it was sent.
    pub sent: u64,
    /// Not visible before.
    pub visible: u64,
    /// The route to a queue that it may have gone to.
    pub route: Option<u8>,
    /// What its head says beside the times.
    pub head: &'a MessageHead,
    /// What lies behind its envelope: the body, or what names its chunk in the pool.
    pub bytes: &'a [u8],
}

impl Delivery {
    /// Empties the ring and lets it begin at `start`, beyond its first lap, behind a journal that says
    /// `durable`. `None` when it is not on disk.
    pub fn restore_empty(&self, start: u64, durable: Durable) -> Option<()> {
        let words = self.durable.as_ref()?;
        // Relaxed, here and below: the name of the file publishes it.
        for at in 0..self.ring.memory.geometry().slots() {
            let slot = self.ring.memory.slot(at);
            let void = Ctl::new(Ctl::VOID, 0, self.last_lap(at, start));
            slot.ctl().store(void.0, Ordering::Relaxed);
            slot.dlv().store(0, Ordering::Relaxed);
        }
        self.ring.memory.tail().store(start, Ordering::Relaxed);
        self.words.receive().store(start, Ordering::Relaxed);
        if self.is_fifo {
            self.words.link().store(start, Ordering::Relaxed);
        }
        words.durable().store(durable.0, Ordering::Relaxed);
        Some(())
    }

    /// Puts a message that is left into its slot. Below `start`, in the order of positions, each slot at
    /// most once. `false`, and nothing is stored, when it fits into no slot.
    pub fn restore_message(&self, start: u64, message: &Left<'_>) -> bool {
        let meta = Meta(message.head.meta);
        let fits = matches!(meta.kind(), Meta::INLINE | Meta::CHUNK)
            && meta.len() as usize == message.bytes.len()
            && message.bytes.len() <= self.message_room()
            && message.position < start;
        if !fits {
            return false;
        }
        let slot = self.ring.memory.slot(message.position);
        let lap = self.lap_of(message.position);
        slot.position().store(message.position, Ordering::Relaxed);
        slot.meta().store(meta.0, Ordering::Relaxed);
        slot.sent().store(message.sent, Ordering::Relaxed);
        slot.write_message(self.envelope, message.bytes);
        if self.is_fifo {
            let GroupHash(low, high) = GroupHash(message.head.group[0], message.head.group[1]);
            slot.prev().store(message.position, Ordering::Relaxed);
            slot.next().store(message.position, Ordering::Relaxed);
            slot.group().store(low, Ordering::Relaxed);
            slot.group_2().store(high, Ordering::Relaxed);
            slot.dedup().store(0, Ordering::Relaxed);
        }
        // A FIFO queue finds what was never received by its links; a standard one what stands behind
        // the cursors by the due words.
        let is_ready = self.is_fifo && message.receives == 0 && message.head.visible_ms == 0;
        let is_arriving = message.receives == 0 && message.head.marks & MARK_ARRIVING != 0;
        let dlv = if let Some(route) = message.route {
            Dlv::moving(NOBODY, message.receives, route, NO_TARGET)
        } else if is_arriving {
            Dlv::arriving(NOBODY, message.position)
        } else if is_ready {
            Dlv::ready(lap)
        } else {
            let until = message.visible;
            self.note_due(self.index_of(message.position), until);
            Dlv::inflight(0, message.receives, until as u32, lap)
        };
        slot.dlv().store(dlv.0, Ordering::Relaxed);
        let lap = self.last_lap(message.position, start);
        let ctl = Ctl::new(Ctl::COMMITTED, 0, lap);
        slot.ctl().store(ctl.0, Ordering::Relaxed);
        true
    }

    /// The lap of the last position below `start` in the slot of `at`.
    fn last_lap(&self, at: u64, start: u64) -> u64 {
        let is_taken = self.index_of(at) < self.index_of(start);
        self.lap_of(start) - u64::from(!is_taken)
    }

    /// Links the messages of a FIFO queue that are left, whose positions are `left` in order. What finds
    /// no room in the group table, and everything behind it, is linked later, as ever.
    pub fn restore_links(&self, left: impl Iterator<Item = u64>) {
        let cursor = self.words.link();
        let start = cursor.load(Ordering::Relaxed);
        for position in left {
            cursor.store(position, Ordering::Relaxed);
            let step = self.link_next();
            if cursor.load(Ordering::Relaxed) != position + 1 {
                return;
            }
            if let super::link::Step::Message(standing) = step
                && self.is_first(&standing)
            {
                self.give_hint(standing.position);
            }
        }
        cursor.store(start, Ordering::Relaxed);
    }
}
