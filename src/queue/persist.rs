//! Writing the journal: group commit by whoever waits.
//!
//! There is no daemon and no timer. A send commits its message in the ring, as ever, and then waits
//! for the disk: the first who waits takes the role and writes what all have committed by then, in
//! the order of positions, with one wait for the disk; the others sleep on a futex word, and when it
//! changes the first of them writes what has come together meanwhile. The role, and what a death in it
//! leaves, is the floor's below ([`crate::ring::delivery::durable`]); here is what is written.
//!
//! # A flush
//! ```text
//! number   begun += 1
//! collect  the blocks in which something was consumed: what is left in none of their slots, and the
//!          receive counts of what is; the settings if they changed; then the messages from the
//!          durable position on, up to the first claim that is open
//! write    the blocks of the journal, and wait for all of them
//! tell     durable {e, D} → {e, D'};   finished := number;   wake
//! ```
//! # When the disk refuses
//! The segment is given up, for nothing is known of it any more; everything from D on is still in the
//! ring and is written again, into a new segment of a new epoch. If that can't be made either, the queue
//! is frozen: who waits is told that his message may be on disk or not, sends are refused before they
//! claim anything, and each of them tries again to make a segment. Nothing that was acknowledged is
//! touched by it.
//!
//! A full disk is seen half a segment before it stops anything: no next segment can be made. Then old ones are
//! [given back](super::release), and where that is not possible yet, sends are refused while deletes go on.

use super::Inner;
use super::behind::Behind;
use crate::error::{JournalError, OpenError};
use crate::journal::{Cursor, DEFINITION_BYTES, Disk, Options, Pushed, Writer};
use crate::layout::durable::{
    ENTRY_CONSUMED, ENTRY_MESSAGE, ENTRY_MOVING, ENTRY_RECEIVED, ENTRY_SETTINGS, MARK_ARRIVING,
    MARK_ID, MessageHead, SETTINGS, is_setting,
};
use crate::layout::queue::{MAX_BODY_ON_DISK, MAX_WHOLE_ON_DISK, QueueHeader, control};
use crate::layout::word::{Ctl, Dlv};
use crate::object::Site;
use crate::pool::segment::GrowFailure;
use crate::ring::delivery::Standing;
use crate::ring::delivery::durable::{End, NoEpoch, ToWrite, Turn, Writing};
use crate::ring::wait::LONG_SLEEP;
use crate::shm::words::word64;
use crate::sync::Ordering;
use crate::sys::clock;
use crate::sys::futex;
use crate::trace::event;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A live writer that has not made a step for so long stands still: longer than a disk takes for a
/// write when it is busy, for what a take-over costs is a segment.
const STANDS_STILL: Duration = Duration::from_millis(500);
/// The same while it may be making a segment, which is up to 64 MiB of zeros: who displaces it then has to
/// make one himself.
const MAKES_A_SEGMENT: Duration = Duration::from_secs(10);
/// Pause of a writer that waits for an open claim.
const PAUSE: Duration = Duration::from_micros(50);
/// Looks of one who begins a flush whether others commit yet.
const MOST_YIELDS: u32 = 16;
/// Messages of one flush: more are left to the next, so that who waits for the first does not wait for
/// the last.
const MOST_MESSAGES: u64 = 16_384;
/// The same in bytes, that of the last one aside.
const MOST_BYTES: usize = 16 << 20;
/// Longer than what lies in a slot: whoever waits is shown that the writer goes on.
const LARGE: usize = 64 << 10;
/// Segments take about four rings of messages, or a number of the longest bodies, within these bounds.
const SEGMENT_BYTES: core::ops::RangeInclusive<u64> = 4 << 20..=64 << 20;
/// See [`SEGMENT_BYTES`].
const BODIES_A_SEGMENT: u64 = 16;

/// Bytes of a segment of a queue whose first ring and longest body have so many.
pub(super) fn segment_bytes(ring_bytes: u64, max_message_bytes: u64) -> u64 {
    let bodies = BODIES_A_SEGMENT * max_message_bytes.min(MAX_BODY_ON_DISK);
    let wanted = bodies.max(4 * ring_bytes).next_power_of_two();
    wanted.clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end())
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Everything up to this position.
    Position(u64),
    /// A flush.
    Flush(u64),
    /// That there is a segment that can be written to.
    Thawed,
}

/// Why something is not on disk.
#[derive(Debug)]
pub(super) enum NotOnDisk {
    /// The journal can't be written now: this is what the disk, or the system, said.
    Journal(JournalError),
    /// Somebody else was told so, while this was waited for.
    Elsewhere,
    /// There is no further epoch.
    NoEpoch,
    /// The queue was removed, and its journal with it.
    Removed,
    /// Its file has gone: another one may be made from the same journal, and this one's writes do not
    /// count any more.
    Unlinked,
    /// Words say what they can't.
    Scribbled,
}

impl core::fmt::Display for NotOnDisk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Elsewhere => f.write_str("the process that wrote for all could not write it"),
            Self::NoEpoch => f.write_str("the writer has changed a million times"),
            Self::Removed => f.write_str("the queue has been removed"),
            Self::Scribbled => f.write_str("another process wrote over the words of the queue"),
            Self::Unlinked => f.write_str(
                "the queue's file was deleted or replaced outside ringway; open the queue again",
            ),
        }
    }
}

impl From<JournalError> for NotOnDisk {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<NoEpoch> for NotOnDisk {
    fn from(_: NoEpoch) -> Self {
        Self::NoEpoch
    }
}

/// One open's side of the journal of a queue.
pub(crate) struct Journal {
    directory: PathBuf,
    /// The bus that it is of: its directory.
    label: Vec<u8>,
    object_id: u64,
    definition: Box<[u8; DEFINITION_BYTES]>,
    pub(super) options: Options,
    disk: Mutex<Option<Arc<Disk>>>,
    /// Others waited for the last flush from here.
    has_company: AtomicBool,
    /// The writer of the last flush from here, and what it knows.
    kept: Mutex<Option<Kept>>,
    /// Who writes behind those who do not wait.
    pub(super) behind: Behind,
    /// Bytes that it may take before sends are refused; 0: any number.
    pub(super) most_bytes: u64,
}

pub(super) struct Kept {
    pub writer: Writer<Disk>,
    settings: Option<[u64; SETTINGS]>,
    pub body: Vec<u8>,
    side: Vec<(u8, u64, u64)>,
    /// Epoch and segment that `settings` were written to.
    pub settings_at: (u64, u64),
    /// The same at the last look for segments that can be given back.
    pub released_at: (u64, u64),
}

impl Kept {
    /// Epoch and segment that it writes to.
    pub fn segment(&self) -> (u64, u64) {
        let cursor = self.writer.watermark().cursor;
        (self.writer.epoch(), cursor.segment)
    }
}

/// How an attempt to write ended.
enum Written {
    /// What was waited for is on disk.
    Reached(Box<Kept>),
    /// What was waited for is room, and there is none.
    Short(Box<Kept>, JournalError),
    /// Somebody else writes now.
    Displaced,
    /// The file of the queue has gone.
    Unlinked,
}

/// What the journals of a bus are labelled with, whose objects lie in `directory`.
pub(super) fn label(directory: &Path) -> Vec<u8> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    directory.into_os_string().into_encoded_bytes()
}

impl Journal {
    /// Of the queue whose first page is `header` and whose rings take `ring_bytes`.
    pub fn new(directory: PathBuf, site: &Site, header: &QueueHeader, ring_bytes: u64) -> Self {
        let mut definition = Box::new([0; DEFINITION_BYTES]);
        definition.copy_from_slice(bytemuck::bytes_of(header));
        Self {
            directory,
            label: label(&site.directory),
            object_id: header.preamble.object_id,
            definition,
            options: Options {
                segment_bytes: segment_bytes(ring_bytes, header.max_message_bytes),
                ..Options::default()
            },
            disk: Mutex::new(None),
            has_company: AtomicBool::new(false),
            kept: Mutex::new(None),
            behind: Behind::default(),
            most_bytes: header.journal_max_bytes,
        }
    }

    /// The directory of the journal, whatever its path leads to later. `is_gone` says whether the queue is.
    pub(super) fn disk(&self, is_gone: impl Fn() -> bool) -> Result<Arc<Disk>, JournalError> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = &*disk {
            return Ok(Arc::clone(disk));
        }
        let opened = Arc::new(Disk::open_or_create(&self.directory)?);
        // Asked behind the opening: a queue that is there has its own directory there.
        if is_gone() {
            let path = self.directory.clone();
            return Err(JournalError::NotFound { path });
        }
        // Nothing hangs on it but the removal of a bus; a full disk is told by what does.
        let _ = opened.set_label(&self.label);
        *disk = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The writer of an epoch, where the one before stopped.
    pub(super) fn writer(
        &self,
        writing: &Writing,
        next: u64,
        is_gone: impl Fn() -> bool,
    ) -> Result<Kept, JournalError> {
        // Not held while anything waits for the disk: a thread that is displaced keeps nobody out.
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (object, epoch) = (self.object_id, writing.epoch);
        let writer = match writing.cursor {
            None => {
                drop(kept);
                let (disk, definition) = (self.disk(is_gone)?, &self.definition);
                Writer::take_over(disk, self.options, object, epoch, next, definition)?
            }
            Some((segment, offset)) => {
                let cursor = Cursor { segment, offset };
                match kept.filter(|kept| kept.writer.epoch() == epoch) {
                    Some(mut kept) => {
                        kept.writer.seek(cursor, next)?;
                        return Ok(kept);
                    }
                    None => {
                        let disk = self.disk(is_gone)?;
                        Writer::resume(disk, self.options, object, epoch, cursor, next)?
                    }
                }
            }
        };
        Ok(Kept {
            writer,
            settings: None,
            body: Vec::new(),
            side: Vec::new(),
            settings_at: (0, 0),
            released_at: (0, 0),
        })
    }

    /// Whether the next flush may need the next segment.
    fn is_near_the_end(&self, kept: &Kept) -> bool {
        let bytes = self.options.segment_bytes;
        kept.writer.watermark().cursor.offset > bytes - bytes / 8
    }

    /// In a forked child: the writer's threads and writes are the parent's.
    pub fn forget(&self) {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        core::mem::forget(kept);
    }

    pub(super) fn keep(&self, kept: Kept) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}

impl Inner {
    /// Waits until `goal` is reached, or writes itself. A queue in memory has reached everything.
    pub(super) fn reach(&self, goal: Goal) -> Result<(), NotOnDisk> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let queue = &self.delivery;
        let (failures, flush) = (queue.failures(), self.last_flush());
        let (mut steps, mut since) = (queue.steps(), clock::now());
        let mut has_slept = false;
        loop {
            if self.is_reached(goal) {
                return Ok(());
            }
            if self.is_removed() {
                return Err(NotOnDisk::Removed);
            }
            let has_failed = match goal {
                // Whoever writes has looked for room, and found none.
                Goal::Thawed => self.last_flush() > flush + 1,
                _ => queue.failures() != failures,
            };
            if has_failed {
                return Err(NotOnDisk::Elsewhere);
            }
            let Some(turn) = queue.turn() else {
                return Ok(());
            };
            let may_write = match turn {
                Turn::Free(_) => true,
                Turn::Held(role) => {
                    let now = queue.steps();
                    if now != steps {
                        (steps, since) = (now, clock::now());
                    }
                    let patience = if steps.is_long() {
                        MAKES_A_SEGMENT
                    } else {
                        STANDS_STILL
                    };
                    let stands_still =
                        clock::now().saturating_sub(since) >= patience.as_nanos() as u64;
                    stands_still || has_slept && queue.ring().is_dead(role.owner())
                }
            };
            if may_write {
                if has_slept {
                    journal.has_company.store(true, Ordering::Relaxed); // as in write_up_to
                }
                self.write_up_to(journal, turn, goal, None)?;
                continue;
            }
            has_slept = true;
            let seen = queue.prepare_wait();
            queue.ask_for_flush();
            if !self.is_reached(goal) && queue.turn() == Some(turn) {
                let flushed = queue.durable().map(|words| words.flushed());
                if let Some(flushed) = flushed {
                    futex::wait(flushed, seen, LONG_SLEEP);
                }
            }
            self.host.tick();
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

    /// Whether there is another queue by that name, or none.
    pub(super) fn is_gone(&self) -> bool {
        self.is_removed() || self.is_unlinked()
    }

    fn is_reached(&self, goal: Goal) -> bool {
        let queue = &self.delivery;
        match goal {
            Goal::Position(position) => position < queue.on_disk_below(),
            Goal::Flush(flush) => queue.is_flushed(flush),
            Goal::Thawed => !queue.is_frozen(),
        }
    }

    /// Waits until everything that this thread has consumed is on disk.
    pub(super) fn reach_consumed(&self) -> Result<(), NotOnDisk> {
        self.reach(Goal::Flush(self.delivery.next_flush()))
    }

    /// Those who were woken with this one are about to commit: as long as more do, they are waited for, so
    /// that one flush takes them all. For one that has company: where it is alone nobody comes.
    fn gather(&self) {
        let ring = self.delivery.ring();
        let mut seen = ring.find_tail();
        for _ in 0..MOST_YIELDS {
            clock::make_way();
            let now = ring.find_tail();
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// Takes the role, if it is still as it was seen, and writes until `goal` is reached; or keeps it until
    /// `keeper` is true.
    pub(super) fn write_up_to(
        &self,
        journal: &Journal,
        turn: Turn,
        goal: Goal,
        keeper: Option<&AtomicBool>,
    ) -> Result<(), NotOnDisk> {
        let queue = &self.delivery;
        let Some(mut writing) = queue.begin_writing(turn)? else {
            return Ok(());
        };
        // Relaxed: a hint for this handle itself.
        if keeper.is_none() && journal.has_company.load(Ordering::Relaxed) {
            self.gather();
        }
        if matches!(turn, Turn::Held(_)) {
            event!(
                DEBUG,
                "took the journal over",
                queue = self.name(),
                epoch = writing.epoch
            );
        }
        let mut is_second = false;
        loop {
            let error = match self.write(journal, &writing, goal, keeper) {
                Ok(Written::Reached(kept)) => {
                    self.lay_down(journal, writing, kept);
                    return Ok(());
                }
                Ok(Written::Short(kept, error)) => {
                    self.lay_down(journal, writing, kept);
                    return Err(error.into());
                }
                Ok(Written::Displaced) if queue.is_writing(&writing) => {
                    // Whoever displaces takes the role first.
                    queue.end_writing(writing, End::Anew);
                    return Err(NotOnDisk::Scribbled);
                }
                Ok(Written::Displaced) => return Ok(()),
                Ok(Written::Unlinked) => {
                    queue.end_writing(writing, End::Anew);
                    return Err(NotOnDisk::Unlinked);
                }
                Err(error) => error,
            };
            // Where no segment can be made, another attempt makes none, and needs no other epoch.
            let is_full = writing.cursor.is_none() && matches!(error, JournalError::NoSpace { .. });
            if is_second || is_full {
                queue.freeze(&writing);
                let end = if is_full { End::Unbegun } else { End::Anew };
                queue.end_writing(writing, end);
                queue.wake_behind_flush();
                return Err(error.into());
            }
            let Some(anew) = queue.begin_anew(writing)? else {
                return Ok(());
            };
            (writing, is_second) = (anew, true);
        }
    }

    /// Leaves the role to whoever is next, who goes on where this one stops.
    fn lay_down(&self, journal: &Journal, writing: Writing, kept: Box<Kept>) {
        let cursor = kept.writer.cursor();
        // First kept, then laid down: who takes the role next finds it here.
        journal.keep(*kept);
        let end = cursor.map_or(End::Anew, |at| End::At((at.segment, at.offset)));
        self.delivery.end_writing(writing, end);
        let is_awaited = self.delivery.wake_behind_flush();
        journal.has_company.store(is_awaited, Ordering::Relaxed); // as in write_up_to
    }

    /// Writes flush after flush until `goal` is reached, or as long as it is kept at it.
    fn write(
        &self,
        journal: &Journal,
        writing: &Writing,
        goal: Goal,
        keeper: Option<&AtomicBool>,
    ) -> Result<Written, JournalError> {
        let queue = &self.delivery;
        let mut from = queue.on_disk_below();
        queue.note_step(writing.cursor.is_none());
        let mut kept = journal.writer(writing, from, || self.is_gone())?;
        loop {
            let asked = queue.flushes_asked();
            queue.note_step(journal.is_near_the_end(&kept));
            let number = queue.begin_flush();
            let Some(to) = self.collect(&mut kept, writing, from, goal)? else {
                return Ok(Written::Displaced);
            };
            queue.note_step(journal.is_near_the_end(&kept));
            if keeper.is_some() && kept.writer.cursor().is_some() {
                kept.writer.mark()?; // nothing is written: it is told how far that is on disk
            }
            kept.writer.submit()?;
            kept.writer.complete(true)?;
            // Asked behind the write and before anybody is told: whoever makes the queue again reads the
            // journal behind the end of this file, and so what was written before.
            if self.is_unlinked() {
                return Ok(Written::Unlinked);
            }
            if !queue.finish_flush(writing, number, from, to) {
                return Ok(Written::Displaced);
            }
            let shortage = self.see_to_room(journal, &mut kept, to)?;
            match shortage {
                Some(_) => queue.refuse_claims(),
                None => queue.thaw(),
            }
            from = to;
            queue.ring().wake_behind_commit();
            let is_over = match keeper {
                Some(ended) => ended.load(Ordering::Relaxed), // looked at every 20 ms
                None => self.is_reached(goal),
            };
            if is_over || keeper.is_some() {
                let released = self.release_segments(journal, &mut kept, to, false);
                // What is waited for is on disk; an old segment that can't be read now stays.
                if kept.writer.is_frozen() {
                    released?;
                }
            }
            if is_over {
                return Ok(Written::Reached(Box::new(kept)));
            }
            if let (Some(error), Goal::Thawed, None) = (shortage, goal, keeper) {
                return Ok(Written::Short(Box::new(kept), error));
            }
            queue.wake_behind_flush();
            if let Some(ended) = keeper {
                self.await_work(ended, asked, from);
            }
        }
    }

    /// Pushes what is to be written; up to which position that is. `None` when somebody else writes.
    fn collect(
        &self,
        kept: &mut Kept,
        writing: &Writing,
        from: u64,
        goal: Goal,
    ) -> Result<Option<u64>, JournalError> {
        if !self.collect_changes(kept, writing) {
            return Ok(None);
        }
        self.collect_settings(kept);
        let side = core::mem::take(&mut kept.side);
        for (kind, position, value) in &side {
            push(&mut kept.writer, *kind, *position, &[&value.to_le_bytes()])?;
        }
        kept.side = side;
        kept.side.clear();

        // Never further behind, unless somebody wrote over the word: then what is there is written.
        let ring = self.delivery.ring();
        let slots = ring.memory().geometry().slots();
        let oldest = ring.find_tail().saturating_sub(4 * slots);
        let (mut at, mut gap, mut count) = (from.max(oldest), from, 0);
        let mut bytes = 0;
        let mut waiting_since = None;
        while count < MOST_MESSAGES && bytes < MOST_BYTES {
            match self.delivery.look_to_write(at) {
                ToWrite::End => break,
                ToWrite::Open(word) => {
                    let is_waited_for = matches!(goal, Goal::Position(position) if position > at);
                    if at > from || !is_waited_for {
                        break;
                    }
                    self.wait_for_claim(at, word, &mut waiting_since);
                    continue;
                }
                ToWrite::Nothing => {}
                ToWrite::Message(standing) => {
                    if let Some((head, len)) = self.copy_message(kept, &standing)? {
                        if gap < at {
                            push_gap(&mut kept.writer, gap, at)?;
                        }
                        let parts = [bytemuck::bytes_of(&head), &kept.body[..len]];
                        push(&mut kept.writer, ENTRY_MESSAGE, at, &parts)?;
                        (gap, count, bytes) = (at + 1, count + 1, bytes + len);
                        if len > LARGE {
                            self.delivery.note_step(true);
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

    fn wait_for_claim(&self, position: u64, word: Ctl, since: &mut Option<(Ctl, u64)>) {
        let now = clock::now();
        let begun = match *since {
            Some((seen, begun)) if seen == word => begun,
            _ => now,
        };
        *since = Some((word, begun));
        if !self.delivery.ring().resolve(position, word, now - begun) {
            clock::pause(PAUSE);
        }
        self.delivery.note_step(false);
    }

    /// What was consumed since the last flush. `false` when somebody else writes.
    fn collect_changes(&self, kept: &mut Kept, writing: &Writing) -> bool {
        let queue = &self.delivery;
        let mut left = Vec::new();
        let side = &mut kept.side;
        queue.take_changed(writing, |block| {
            queue.consumed_in(
                block,
                |position, bits| side.push((ENTRY_CONSUMED, position, bits)),
                |standing| left.extend(self.state_of(standing)),
            );
        }) && {
            side.append(&mut left);
            true
        }
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
        if kept.settings != Some(settings) || kept.settings_at != at {
            for place in (0..SETTINGS).filter(|place| is_setting(*place)) {
                let value = settings[place];
                kept.side.push((ENTRY_SETTINGS, place as u64, value));
            }
            (kept.settings, kept.settings_at) = (Some(settings), at);
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
        let queue = &self.delivery;
        let (meta, position) = (standing.meta(), standing.position);
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
        if kept.body.len() < len {
            kept.body.resize(len.next_power_of_two(), 0);
        }
        if !self.copy(standing, body, 0, &mut kept.body[..len]) {
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

pub(super) fn push(
    writer: &mut Writer<Disk>,
    kind: u8,
    position: u64,
    parts: &[&[u8]],
) -> Result<(), JournalError> {
    while writer.push(kind, 0, position, parts)? == Pushed::Full {
        writer.complete_one()?;
    }
    Ok(())
}

fn push_gap(writer: &mut Writer<Disk>, from: u64, to: u64) -> Result<(), JournalError> {
    while writer.gap(from, to)? == Pushed::Full {
        writer.complete_one()?;
    }
    Ok(())
}
