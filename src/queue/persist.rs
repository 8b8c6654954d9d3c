//! What of a queue is written to its journal.
//!
//! A send commits its message in the ring, as ever, and then waits for the disk, or writes for all who
//! wait ([`crate::persist`]). The role of the writer, and what a death in it leaves, is the floor's below
//! ([`crate::ring::delivery::durable`]); here is what a flush has:
//! ```text
//! in a new segment which rings there are; the blocks in which something was consumed: what is left in
//! none of their slots, and the receive counts of what is; rings in which nothing is left; the
//! settings if they changed; then the messages from the
//! durable position on, ring by ring, up to the first claim that is open
//! ```
//! On a full disk old segments are [given back](super::release), and where that is not possible yet, sends are refused
//! while deletes go on, in what is left and then in three short files that are kept for that and come round
//! (`journal::writer`): behind each of them all that is known of what was consumed is said again ([`Inner::say_all`]), and the
//! one before is free. So deletes go on whatever waits.

use super::Inner;
use super::chain::Link;
use super::further::Beyond;
use crate::error::{JournalError, OpenError};
use crate::journal::{DEFINITION_BYTES, SegmentInfo};
use crate::layout::PAGE;
use crate::layout::durable::{
    ENTRY_CONSUMED, ENTRY_MESSAGE, ENTRY_MOVING, ENTRY_RECEIVED, ENTRY_SETTINGS, MARK_ARRIVING,
    MARK_ID, MessageHead, SETTINGS, is_setting,
};
use crate::layout::queue::{
    BLOCK_SLOTS, MAX_BODY_ON_DISK, MAX_WHOLE_ON_DISK, QueueHeader, control,
};
use crate::layout::word::{Ctl, Dlv};
use crate::object::Site;
use crate::persist::{self, Behind, Source, directory, push, push_gap};
use crate::pool::segment::GrowFailure;
use crate::ring::delivery::Standing;
use crate::ring::delivery::durable::ToWrite;
use crate::ring::persister::Writing;
use crate::shm::durable::DurableWords;
use crate::shm::words::word64;
use crate::sync::Ordering;
use crate::sys::clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) use crate::persist::{Goal, NotOnDisk};

/// Pause of a writer that waits for an open claim.
const PAUSE: Duration = Duration::from_micros(50);
/// Messages of one flush: more are left to the next, so that who waits for the first does not wait for
/// the last.
const MOST_MESSAGES: u64 = 16_384;
/// The same in bytes, that of the last one aside.
const MOST_BYTES: usize = 16 << 20;
/// The most of one flush, that of the last one included.
pub(super) const MOST_FLUSH_BYTES: u64 = MOST_BYTES as u64 + MAX_WHOLE_ON_DISK;
/// Entries of what was consumed between two steps that are told to those who wait.
const STEP_ENTRIES: usize = 16_384;
/// Longer than what lies in a slot: whoever waits is shown that the writer goes on.
const LARGE: usize = 64 << 10;
/// Segments take about four rings of messages, or a number of the longest bodies, within these bounds.
pub(super) const SEGMENT_BYTES: core::ops::RangeInclusive<u64> = 4 << 20..=64 << 20;
/// See [`SEGMENT_BYTES`].
const BODIES_A_SEGMENT: u64 = 16;
/// Beside what all blocks take, what is kept for a full disk has so many bytes in a file: some dozens of flushes.
const RESERVE_BYTES: u64 = 256 << 10;
/// What an entry of one word takes.
const STATE_BYTES: u64 = 24;
/// Words of one entry of consumed messages.
const MOST_WORDS: usize = 4096;

/// Bytes of a segment of a queue whose first ring and longest body have so many.
pub(super) fn segment_bytes(ring_bytes: u64, max_message_bytes: u64) -> u64 {
    let bodies = BODIES_A_SEGMENT * max_message_bytes.min(MAX_BODY_ON_DISK);
    let wanted = bodies.max(4 * ring_bytes).next_power_of_two();
    wanted.clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end())
}

/// Bytes of each file that is kept for a full disk: what is known of so many slots has to go into one of them, twice over,
/// 8 bytes a block; a quarter of a segment at most.
fn reserve_bytes(slots: u64, segment_bytes: u64) -> u64 {
    let blocks = RESERVE_BYTES + 2 * 8 * (slots / BLOCK_SLOTS);
    let most = segment_bytes / 4;
    blocks.min(most).next_multiple_of(PAGE as u64)
}

/// One open's side of the journal of a queue.
pub(crate) struct Journal {
    pub(super) log: persist::Journal<Memo>,
    /// Who writes behind those who do not wait.
    pub(super) behind: Behind,
    /// Bytes that it may take before sends are refused; 0: any number.
    pub(super) most_bytes: u64,
}

/// What a writer remembers.
#[derive(Default)]
pub(crate) struct Memo {
    settings: Option<[u64; SETTINGS]>,
    pub(super) body: Vec<u8>,
    side: Vec<(u8, u64, u64)>,
    /// Rings in which nothing is left, by the flush that is under way.
    drained: Vec<Arc<Link>>,
    /// Epoch and segment that `settings` were written to.
    pub(super) settings_at: (u64, u64),
    /// Epoch and segment in which all was said again that one of state alone in front of it says, and which
    /// may not be free yet.
    said_again_at: Option<(u64, u64)>,
    /// The same at the last look for segments that can be given back.
    pub(super) released_at: (u64, u64),
    /// The segments there were then: one that is sealed is not read again, however many there are.
    pub(super) segments: Vec<SegmentInfo>,
    /// No segment can be, as long as a message below this is left.
    pub(super) kept_until: u64,
    /// Looks on a full disk whether what is left fits into what is kept for one.
    pub(super) looks: u32,
}

pub(super) type Kept = persist::Kept<Memo>;

/// A queue as something that is written.
pub(super) struct OnDisk<'a> {
    queue: &'a Inner,
    words: &'a DurableWords,
}

impl Journal {
    /// Of the queue whose first page is `header` and whose rings take `ring_bytes`.
    pub fn new(directory: PathBuf, site: &Site, header: &QueueHeader, ring_bytes: u64) -> Self {
        let mut definition = Box::new([0; DEFINITION_BYTES]);
        definition.copy_from_slice(bytemuck::bytes_of(header));
        let segment_bytes = segment_bytes(ring_bytes, header.max_message_bytes);
        let id = header.preamble.object_id;
        let log = persist::Journal::new(directory, id, definition, segment_bytes);
        let most_slots = header.max_bytes.max(ring_bytes) / header.stride.max(1);
        let log = log.with_reserve(reserve_bytes(most_slots, segment_bytes));
        Self {
            log: log.labelled(directory::label(&site.directory)),
            behind: Behind::default(),
            most_bytes: header.journal_max_bytes,
        }
    }
}

impl Source for OnDisk<'_> {
    type Memo = Memo;

    fn name(&self) -> &str {
        &self.queue.definition.name
    }

    fn words(&self) -> &DurableWords {
        self.words
    }

    fn me(&self) -> u16 {
        self.queue.delivery.ring().me()
    }

    fn is_dead(&self, owner: u16) -> bool {
        self.queue.delivery.ring().is_dead(owner)
    }

    fn tick(&self) {
        self.queue.host.tick();
    }

    fn is_removed(&self) -> bool {
        self.queue.is_removed()
    }

    fn is_unlinked(&self) -> bool {
        self.queue.is_unlinked()
    }

    fn collect(
        &self,
        kept: &mut Kept,
        writing: &Writing,
        from: u64,
        goal: Goal,
    ) -> Result<Option<u64>, JournalError> {
        self.queue.collect(kept, writing, from, goal)
    }

    fn told(&self) {
        self.queue.delivery.ring().wake_behind_commit();
    }

    fn look_after(
        &self,
        journal: &persist::Journal<Memo>,
        kept: &mut Kept,
        durable: u64,
        is_full: bool,
    ) -> Result<(), JournalError> {
        let drained = core::mem::take(&mut kept.memo.drained);
        self.queue.take_away(&drained);
        if kept.memo.said_again_at == Some(kept.segment()) && kept.writer.drop_reserve()? {
            kept.memo.said_again_at = None;
        }
        self.queue.release_segments(journal, kept, durable, is_full)
    }
}

impl Inner {
    /// What is written, and where; `None` in memory.
    pub(super) fn on_disk(&self) -> Option<(OnDisk<'_>, &Journal)> {
        let (journal, words) = self.journal.as_ref().zip(self.delivery.durable())?;
        Some((OnDisk { queue: self, words }, journal))
    }

    /// Waits until `goal` is reached, or writes itself. A queue in memory has reached everything.
    pub(super) fn reach(&self, goal: Goal) -> Result<(), NotOnDisk> {
        match self.on_disk() {
            Some((queue, journal)) => persist::reach(&queue, &journal.log, goal),
            None => Ok(()),
        }
    }

    /// Writes down how far it is on disk, unless that is told. For whoever sees that nobody writes.
    pub(super) fn mark(&self) {
        if let Some((queue, journal)) = self.on_disk()
            && !self.site.observed
        {
            persist::mark(&queue, &journal.log);
        }
    }

    /// Of a queue that was just made, or made again: its journal has a segment of this life when this
    /// returns, so that it is found again. Later it has nothing to do.
    pub fn begin_journal(&self) -> Result<(), OpenError> {
        if self.delivery.is_flushed(1) {
            return Ok(());
        }
        self.reach(Goal::Flush(1)).map_err(|why| match why {
            NotOnDisk::Journal(error) => OpenError::Journal(error),
            NotOnDisk::Removed => OpenError::Removed {
                path: self.path.clone(),
            },
            other => OpenError::io(&self.path, std::io::Error::other(other.to_string())),
        })
    }

    /// A step of whoever writes; a long one is that in which a segment may have to be made.
    pub(super) fn note_step(&self, is_long: bool) {
        if let Some(words) = self.delivery.durable() {
            words.note_step(is_long);
        }
    }

    /// Whether there is another queue by that name, or none.
    pub(super) fn is_gone(&self) -> bool {
        self.is_removed() || self.is_unlinked()
    }

    /// Waits until everything that this thread has consumed is on disk.
    pub(super) fn reach_consumed(&self) -> Result<(), NotOnDisk> {
        self.reach(Goal::Flush(self.delivery.next_flush()))
    }

    /// Pushes what is to be written; up to which position that is. `None` when somebody else writes.
    fn collect(
        &self,
        kept: &mut Kept,
        writing: &Writing,
        from: u64,
        goal: Goal,
    ) -> Result<Option<u64>, JournalError> {
        let links = self.rings_to_write()?;
        let is_new = kept.memo.settings_at != kept.segment();
        if is_new {
            self.write_rings(kept, &links, from)?;
        }
        if !self.collect_changes(kept, writing, &links, from) {
            return Ok(None);
        }
        if is_new && kept.writer.is_behind_reserve()? {
            self.say_all(kept, &links, from)?;
            kept.memo.said_again_at = Some(kept.segment());
        }
        kept.memo.drained = self.write_drained(kept, &links, from)?;
        self.collect_settings(kept);
        let side = core::mem::take(&mut kept.memo.side);
        for some in side.chunks(STEP_ENTRIES) {
            for (kind, position, value) in some {
                push(&mut kept.writer, *kind, *position, &[&value.to_le_bytes()])?;
            }
            self.note_step(false);
        }
        kept.memo.side = side;
        kept.memo.side.clear();
        if kept.writer.is_in_reserve() {
            return Ok(Some(from));
        }

        // Never further behind, unless somebody wrote over the word: then what is there is written.
        let mut link = Self::ring_to_write(&links, from);
        let ring = link.delivery.ring();
        let slots = ring.memory().geometry().slots();
        let oldest = ring.find_tail().saturating_sub(4 * slots);
        let (mut at, mut gap, mut count) = (from.max(oldest), from, 0);
        let mut bytes = 0;
        let mut waiting_since = None;
        while count < MOST_MESSAGES && bytes < MOST_BYTES {
            match link.delivery.look_to_write(at) {
                ToWrite::End => break,
                ToWrite::Sealed => {
                    match self.adopt_next(kept, writing, &link)? {
                        Beyond::Ring(next) => link = next,
                        Beyond::Nothing => break,
                        Beyond::Displaced => return Ok(None),
                    }
                    at = link.first_position();
                    continue;
                }
                ToWrite::Open(word) => {
                    let is_waited_for = matches!(goal, Goal::Position(position) if position >= at);
                    if at > from || !is_waited_for {
                        break;
                    }
                    self.wait_for_claim(&link, at, word, &mut waiting_since);
                    continue;
                }
                ToWrite::Nothing => {}
                ToWrite::Message(standing) => {
                    if let Some((head, len)) = self.copy_message(kept, &standing)? {
                        if gap < at {
                            push_gap(&mut kept.writer, gap, at)?;
                        }
                        let parts = [bytemuck::bytes_of(&head), &kept.memo.body[..len]];
                        push(&mut kept.writer, ENTRY_MESSAGE, at, &parts)?;
                        (gap, count, bytes) = (at + 1, count + 1, bytes + len);
                        if len > LARGE {
                            self.note_step(true);
                        }
                    }
                }
            }
            at += 1;
            waiting_since = None;
        }
        if gap < at {
            push_gap(&mut kept.writer, gap, at)?;
        }
        Ok(Some(at))
    }

    fn wait_for_claim(
        &self,
        link: &Link,
        position: u64,
        word: Ctl,
        since: &mut Option<(Ctl, u64)>,
    ) {
        let now = clock::now();
        let begun = match *since {
            Some((seen, begun)) if seen == word => begun,
            _ => now,
        };
        *since = Some((word, begun));
        let ring = link.delivery.ring();
        if !ring.resolve(position, word, now - begun) {
            clock::pause(PAUSE);
        }
        self.note_step(false);
    }

    /// What was consumed since the last flush. `false` when somebody else writes.
    fn collect_changes(
        &self,
        kept: &mut Kept,
        writing: &Writing,
        links: &[Arc<Link>],
        from: u64,
    ) -> bool {
        let mut left = Vec::new();
        let side = &mut kept.memo.side;
        self.take_changed(links, writing, from, |link, block| {
            link.delivery.consumed_in(
                block,
                |position, bits| side.push((ENTRY_CONSUMED, position, bits)),
                |standing| left.extend(self.state_of(standing)),
            );
        }) && {
            side.append(&mut left);
            true
        }
    }

    /// Says all that is known of what was consumed, and of what is left and was received, in the fewest bytes: behind
    /// this nothing is needed of what was said before of it. Of a slot whose message the journal does not have yet, that nothing
    /// older is left. Receive counts that do not fit are left out: the one before counts then.
    fn say_all(&self, kept: &mut Kept, links: &[Arc<Link>], from: u64) -> Result<(), JournalError> {
        let (mut consumed, mut left) = (Vec::new(), Vec::new());
        let touched = Self::adopted(links, from).filter(|link| link.is_touched());
        for link in touched {
            self.note_step(true);
            let slots = link.delivery.ring().memory().geometry().slots();
            for block in 0..slots.div_ceil(BLOCK_SLOTS) {
                link.delivery.all_consumed_in(
                    block,
                    from,
                    |position, bits| consumed.push((position, bits)),
                    |standing| left.extend(self.state_of(standing)),
                );
            }
        }
        consumed.sort_unstable();
        let follows = |one: &(u64, u64), next: &(u64, u64)| next.0 == one.0 + BLOCK_SLOTS;
        for run in consumed.chunk_by(follows) {
            for some in run.chunks(MOST_WORDS) {
                let words: Vec<u8> = some.iter().flat_map(|it| it.1.to_le_bytes()).collect();
                push(&mut kept.writer, ENTRY_CONSUMED, some[0].0, &[&words])?;
            }
        }
        let room = kept.writer.left_bytes() / 2 / STATE_BYTES;
        if left.len() as u64 > room {
            left.retain(|(kind, ..)| *kind != ENTRY_RECEIVED);
        }
        kept.memo.side.append(&mut left);
        Ok(())
    }

    /// What is to be written of a message that is left, beside itself: how often it was received, and
    /// where it may have gone.
    pub(super) fn state_of(&self, standing: &Standing<'_>) -> impl Iterator<Item = (u8, u64, u64)> {
        let (position, receives) = (standing.position, standing.times_received());
        let route = standing.dlv.is_moving().then(|| standing.dlv.route());
        let target = route.and_then(|route| self.delivery.route(route));
        let received = (receives > 0).then_some((ENTRY_RECEIVED, position, receives.into()));
        let moving = target.map(|target| (ENTRY_MOVING, position, target));
        received.into_iter().chain(moving)
    }

    fn collect_settings(&self, kept: &mut Kept) {
        let settings: [u64; SETTINGS] = core::array::from_fn(|place| {
            if !is_setting(place) {
                return 0;
            }
            let word = word64(&self.mapping, control::RETENTION + 8 * place);
            word.load(Ordering::Relaxed) // whole settings, whoever stores them
        });
        let at = kept.segment();
        if kept.memo.settings != Some(settings) || kept.memo.settings_at != at {
            for place in (0..SETTINGS).filter(|place| is_setting(*place)) {
                let value = settings[place];
                kept.memo.side.push((ENTRY_SETTINGS, place as u64, value));
            }
            (kept.memo.settings, kept.memo.settings_at) = (Some(settings), at);
        }
    }

    /// Copies a message, out of its slot or out of the payload pool; its head, and how many bytes. `None`
    /// when it is none any more, or damaged.
    ///
    /// # Errors
    /// When the pool can't be looked at now.
    pub(super) fn copy_message(
        &self,
        kept: &mut Kept,
        standing: &Standing<'_>,
    ) -> Result<Option<(MessageHead, usize)>, JournalError> {
        let (meta, position) = (standing.meta(), standing.position);
        let queue = self.at(position);
        let body = match self.body(standing) {
            Ok(body) => body.filter(|body| body.whole() as u64 <= MAX_WHOLE_ON_DISK),
            Err(GrowFailure::Io(source)) => {
                let (path, what) = (self.path.clone(), "opening the payload pool of a message");
                return Err(JournalError::Io { path, what, source });
            }
            Err(_) => None,
        };
        let Some(body) = body else {
            queue.give_up(standing, &mut self.payloads());
            return Ok(None);
        };
        let (slot, len) = (standing.slot(), body.whole());
        if kept.memo.body.len() < len {
            kept.memo.body.resize(len.next_power_of_two(), 0);
        }
        if !self.copy(standing, body, 0, &mut kept.memo.body[..len]) {
            // Consumed meanwhile, or its payload is another's.
            if standing.stands() {
                queue.give_up(standing, &mut self.payloads());
            }
            return Ok(None);
        }
        let mut head = MessageHead {
            sent_ms: self.unix_ms(standing.sent()),
            visible_ms: 0,
            meta: meta.0,
            group: [0; 2],
            id: [0; 2],
            marks: if standing.dlv.is_arriving() {
                MARK_ARRIVING
            } else {
                0
            },
            sender: standing.sender().into(),
        };
        if standing.dlv.state() == Dlv::INFLIGHT && standing.dlv.receives() == 0 {
            let now = self.now_ms();
            let remaining = standing.dlv.remaining_ms(now as u32).unwrap_or(0);
            head.visible_ms = self.unix_ms(now + u64::from(remaining));
        }
        if queue.is_fifo() {
            let group = standing.group();
            head.group = [group.0, group.1];
            let number = slot.dedup().load(Ordering::Relaxed); // as the body
            if let Some(id) = queue
                .dedup()
                .and_then(|dedup| dedup.id_of(number, position))
            {
                head.id = id;
                head.marks |= MARK_ID;
            }
        }
        Ok(queue.ring().still(slot, position).then_some((head, len)))
    }
}
