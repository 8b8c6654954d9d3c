//! Making a ring of a queue that is on disk again, in a file that nobody else knows yet: first what its
//! journal says is written down in the slots themselves ([`Sketch`]), then it becomes a ring.
//!
//! The ring becomes what it would be if every position below `start` had been claimed: messages that
//! are left stand in the slots of their positions, renewed in place up to the last lap of their slot below
//! `start`; all other slots are VOID of that lap. So a position is never given out twice, an old receipt fits or
//! does not as ever, and no code that runs later knows the difference. Leases are void: who was
//! received comes again, with its count. What was on its way between two queues is so again, by nobody.
//! One that is sealed at `start` gets its seal there, and its messages of the last round are as they were sent.
//!
//! # What a slot of a sketch says
//! Its header position p, and in `dlv`, in this file alone: NOTHING; NOTED: how often p was received; MESSAGE:
//! p stands here, whole or without its body yet; SPENT: nothing up to p is left. A later position of a slot
//! replaces an earlier one, for it was only claimed when the earlier one was gone. So what is left takes
//! the memory of the ring it will be, and nothing beside it.

use super::Delivery;
use crate::layout::durable::{Durable, MARK_ARRIVING, MessageHead};
use crate::layout::queue::{Envelope, MAX_DELAY_MS};
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::{Ctl, Dlv, LAP_SEALED, NO_TARGET, NOBODY};
use crate::shm::ring::{RingMemory, Slot};
use crate::sync::Ordering;

/// A ring of which its journal is being read.
pub struct Sketch {
    memory: RingMemory,
    envelope: Envelope,
    /// Messages that are left.
    left: u64,
    /// Of those, the ones whose bodies are to be put into the pool.
    bodiless: u64,
}

/// What is known of a slot: state 2 | arriving 1 | bodiless 1 | 0:12 | receives 16 | delay in ms 32.
#[derive(Clone, Copy)]
struct Known(u64);

impl Known {
    const NOTHING: u64 = 0;
    const NOTED: u64 = 1;
    const MESSAGE: u64 = 2;
    const SPENT: u64 = 3;
    const ARRIVING: u64 = 1 << 2;
    const BODILESS: u64 = 1 << 3;

    fn state(self) -> u64 {
        self.0 & 3
    }
    fn is_message(self) -> bool {
        self.state() == Self::MESSAGE
    }
    fn is_bodiless(self) -> bool {
        self.is_message() && self.0 & Self::BODILESS != 0
    }
    fn receives(self) -> u16 {
        (self.0 >> 16) as u16
    }
    fn delay_ms(self) -> u32 {
        (self.0 >> 32) as u32
    }
    fn with_receives(self, receives: u16) -> Self {
        Self(self.0 & !(0xFFFF << 16) | u64::from(receives) << 16)
    }
}

impl Sketch {
    /// Of a ring of zeroes.
    pub fn new(memory: RingMemory, is_fifo: bool) -> Self {
        let envelope = match is_fifo {
            true => Envelope::Fifo,
            false => Envelope::Standard,
        };
        Self {
            memory,
            envelope,
            left: 0,
            bodiless: 0,
        }
    }

    /// Messages that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Messages that are left and whose bodies are to be put into the pool ([`Self::put_body`]).
    pub fn bodiless(&self) -> u64 {
        self.bodiless
    }

    /// Lets the kernel take its pages.
    #[cfg(not(loom))]
    pub fn release_pages(&self) {
        self.memory.release_pages();
    }

    // Relaxed, here and below: the name of the file publishes it.
    fn known(&self, position: u64) -> (Slot<'_>, u64, Known) {
        let slot = self.memory.slot(position);
        let at = slot.position().load(Ordering::Relaxed);
        (slot, at, Known(slot.dlv().load(Ordering::Relaxed)))
    }

    fn set(&mut self, position: u64, before: Known, now: Known) {
        let slot = self.memory.slot(position);
        slot.position().store(position, Ordering::Relaxed);
        slot.dlv().store(now.0, Ordering::Relaxed);
        self.left = self.left + u64::from(now.is_message()) - u64::from(before.is_message());
        self.bodiless =
            self.bodiless + u64::from(now.is_bodiless()) - u64::from(before.is_bodiless());
    }

    /// A message at `position`, with what the journal has of its bytes. `false` when it is none that fits.
    pub fn put(&mut self, position: u64, head: &MessageHead, bytes: &[u8]) -> bool {
        let meta = Meta(head.meta);
        let room = self.memory.slot(position).message_room(self.envelope);
        let fits = match meta.kind() {
            Meta::INLINE => meta.len() as usize == bytes.len() && bytes.len() <= room,
            Meta::CHUNK => meta.len() as usize == size_of::<ChunkRef>(),
            _ => false,
        };
        if !fits || room < size_of::<ChunkRef>() && meta.kind() == Meta::CHUNK {
            return false;
        }
        let (slot, at, known) = self.known(position);
        let is_same = at == position && known.state() != Known::NOTHING;
        let is_older = known.state() != Known::NOTHING && at > position;
        if is_older || is_same && known.state() == Known::SPENT {
            return true;
        }
        slot.meta().store(meta.0, Ordering::Relaxed);
        slot.sent().store(head.sent_ms, Ordering::Relaxed);
        if self.envelope == Envelope::Fifo {
            slot.group().store(head.group[0], Ordering::Relaxed);
            slot.group_2().store(head.group[1], Ordering::Relaxed);
        }
        let is_chunk = meta.kind() == Meta::CHUNK;
        if !is_chunk {
            slot.write_message(self.envelope, bytes);
        }
        let delay = head.visible_ms.saturating_sub(head.sent_ms);
        let delay = delay.min(u64::from(u32::MAX));
        let mut now = Known(Known::MESSAGE | delay << 32);
        if head.marks & MARK_ARRIVING != 0 {
            now.0 |= Known::ARRIVING;
        }
        if is_chunk {
            now.0 |= Known::BODILESS;
        }
        let receives = if is_same { known.receives() } else { 0 };
        self.set(position, known, now.with_receives(receives));
        true
    }

    /// `position`, and every earlier one of its slot, is consumed.
    pub fn spend(&mut self, position: u64) {
        let (_, at, known) = self.known(position);
        if known.state() == Known::NOTHING || at <= position {
            self.set(position, known, Known(Known::SPENT));
        }
    }

    /// The message at `position` was received `receives` times, if not more often.
    pub fn note_received(&mut self, position: u64, receives: u16) {
        let (_, at, known) = self.known(position);
        match known.state() {
            Known::MESSAGE | Known::NOTED if at == position => {
                let receives = receives.max(known.receives());
                self.set(position, known, known.with_receives(receives));
            }
            Known::NOTHING => {
                self.set(position, known, Known(Known::NOTED).with_receives(receives));
            }
            _ if at < position => {
                self.set(position, known, Known(Known::NOTED).with_receives(receives));
            }
            _ => {}
        }
    }

    /// Whether the message at `position` is left, and its body is to be put into the pool.
    pub fn wants_body(&self, position: u64) -> bool {
        let (_, at, known) = self.known(position);
        at == position && known.is_bodiless()
    }

    /// Its body lies there.
    pub fn put_body(&mut self, position: u64, reference: &ChunkRef) {
        let (slot, _, known) = self.known(position);
        slot.write_message(self.envelope, bytemuck::bytes_of(reference));
        self.set(position, known, Known(known.0 & !Known::BODILESS));
    }
}

/// How a ring begins again.
pub struct Restart<'a> {
    /// The first position that nobody has claimed.
    pub start: u64,
    /// Whether the ring is sealed there.
    pub is_sealed: bool,
    /// How far the journal reaches; of the first ring, whose word says it for all.
    pub durable: Option<Durable>,
    /// What the clock of the queue says at a Unix time in ms.
    pub clock_at: &'a dyn Fn(u64) -> u64,
    /// The route of the message at a position that may have gone to another queue.
    pub route: &'a dyn Fn(u64) -> Option<u8>,
}

impl Delivery {
    /// Makes a sketch of this very ring the ring that it was. Behind the changes of its due words from zero.
    pub fn restore(&self, restart: &Restart<'_>) {
        let start = restart.start;
        if let (Some(words), Some(durable)) = (&self.durable, restart.durable) {
            words.durable().store(durable.0, Ordering::Relaxed);
        }
        let geometry = *self.ring.memory.geometry();
        // As they were sent: of the last round of a ring that is read to its seal.
        let ready_from = match restart.is_sealed {
            true => start.saturating_sub(geometry.slots()),
            false => u64::MAX,
        };
        let mut receive = start;
        let (mut left, mut count) = (Vec::new(), 0);
        for at in 0..geometry.slots() {
            let slot = self.ring.memory.slot(at);
            let lap = self.last_lap(at, start);
            let dlv = self.restored(at, restart, ready_from);
            let ctl = match dlv {
                Some(_) => Ctl::new(Ctl::COMMITTED, 0, lap),
                None => Ctl::new(Ctl::VOID, 0, lap),
            };
            slot.dlv().store(dlv.map_or(0, |dlv| dlv.0), Ordering::Relaxed);
            slot.ctl().store(ctl.0, Ordering::Relaxed);
            let position = slot.position().load(Ordering::Relaxed);
            count += u64::from(dlv.is_some());
            if self.is_fifo && dlv.is_some() {
                left.push(position);
            } else if dlv.is_some_and(|dlv| dlv.state() == Dlv::READY) {
                receive = receive.min(position);
            }
        }
        if let Some(words) = &self.durable
            && count < start.saturating_sub(geometry.first_position())
        {
            words.note_touched(); // so that what was consumed before can be said again
        }
        if restart.is_sealed {
            let slot = self.ring.memory.slot(start);
            let word = Ctl(slot.ctl().load(Ordering::Relaxed));
            let sealed = Ctl::new(word.state(), word.owner(), LAP_SEALED);
            slot.ctl().store(sealed.0, Ordering::Relaxed);
        }
        self.ring.memory.tail().store(start, Ordering::Relaxed);
        self.words.receive().store(receive, Ordering::Relaxed);
        if self.is_fifo {
            self.words.link().store(start, Ordering::Relaxed);
            left.sort_unstable();
            self.restore_links(left.into_iter());
        }
    }

    /// The word of the message that is left in the slot of `at`, whose sketch becomes its header; `None`, where there
    /// is none that can be.
    fn restored(&self, at: u64, restart: &Restart<'_>, ready_from: u64) -> Option<Dlv> {
        let slot = self.ring.memory.slot(at);
        let known = Known(slot.dlv().load(Ordering::Relaxed));
        let position = slot.position().load(Ordering::Relaxed);
        let geometry = self.ring.memory.geometry();
        let is_left = known.is_message()
            && !known.is_bodiless()
            && (geometry.first_position()..restart.start).contains(&position);
        if !is_left {
            return None;
        }
        let sent_ms = slot.sent().load(Ordering::Relaxed);
        let now = self.now_ms();
        slot.sent()
            .store((restart.clock_at)(sent_ms).min(now), Ordering::Relaxed);
        if self.is_fifo {
            slot.prev().store(position, Ordering::Relaxed);
            slot.next().store(position, Ordering::Relaxed);
            slot.dedup().store(0, Ordering::Relaxed);
        }
        // A FIFO queue finds what was never received by its links; a standard one what stands behind
        // the cursors by the due words.
        let is_plain = known.receives() == 0 && known.delay_ms() == 0;
        let is_ready = is_plain && (self.is_fifo || position >= ready_from);
        let is_arriving = known.receives() == 0 && known.0 & Known::ARRIVING != 0;
        let lap = self.lap_of(position);
        Some(if let Some(route) = (restart.route)(position) {
            Dlv::moving(NOBODY, known.receives(), route, NO_TARGET)
        } else if is_arriving {
            Dlv::arriving(NOBODY, position)
        } else if is_ready {
            Dlv::ready(lap)
        } else {
            let visible = match known.delay_ms() {
                0 => now,
                delay => (restart.clock_at)(sent_ms.saturating_add(delay.into())),
            };
            let until = visible.clamp(now, now + u64::from(MAX_DELAY_MS));
            self.note_due(self.index_of(position), until);
            Dlv::inflight(0, known.receives(), until as u32, lap)
        })
    }

    /// The lap of the last position below `start` in the slot of `at`.
    fn last_lap(&self, at: u64, start: u64) -> u64 {
        let is_taken = self.index_of(at) < self.index_of(start);
        self.lap_of(start) - u64::from(!is_taken)
    }

    /// Links the messages of a FIFO queue that are left, whose positions are `left` in order. What finds
    /// no room in the group table, and everything behind it, is linked later, as ever.
    fn restore_links(&self, left: impl Iterator<Item = u64>) {
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
