//! Writing a journal for all who wait.
//!
//! # A flush
//! ```text
//! number   begun += 1
//! collect  what the object says, up to which position
//! write    the blocks of the journal, and wait for all of them
//! tell     durable {e, D} → {e, D'};   finished := number;   wake
//! ```
//! # When the disk refuses
//! The segment is given up, for nothing is known of it any more; everything from D on is still in memory
//! and is written again, into a new segment of a new epoch. If that can't be made either, the object is
//! frozen: who waits is told that what he did may be on disk or not, new work is refused before it changes
//! anything, and each attempt tries again to make a segment. Nothing that was acknowledged is touched by
//! it.
//!
//! A full disk is seen half a segment before it stops anything ([`super::room`]): no next segment can be
//! made. Then new work is refused while what is under way is written.
//!
//! # Keeping the role
//! A thread may [keep the role](keep_role) while it has nothing to write: it counts its steps also then, and
//! whoever waits asks it.

use super::journal::{Company, Journal, Kept};
use super::reach::{Goal, NotOnDisk, Source};
use super::room;
use crate::error::JournalError;
use crate::ring::persister::{End, Turn, Writing};
use crate::ring::wait::LONG_SLEEP;
use crate::shm::durable::DurableWords;
use crate::sync::Ordering;
use crate::sys::clock::{self, Deadline};
use crate::trace::event;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// So long one who begins a flush waits for those who waited for the last one, at most, in ns: half of what a write
/// takes on a fast disk. Where the disk took longer it is half of that, up to the second.
const GATHER_NS: core::ops::RangeInclusive<u64> = 25_000..=500_000;
/// For so long one who keeps the role looks for work before it sleeps: what a write takes on a fast disk.
const SPIN: Duration = Duration::from_micros(50);

/// A role that is kept, until when, and what it is kept for.
#[derive(Clone, Copy)]
pub(super) struct Keeper<'a> {
    ended: &'a AtomicBool,
    /// Whether something is written at a position.
    is_written: &'a dyn Fn(u64) -> bool,
}

/// How an attempt to write ended.
enum Written<M> {
    /// What was waited for is on disk.
    Reached(Box<Kept<M>>),
    /// What was waited for is room, and there is none.
    Short(Box<Kept<M>>, JournalError),
    /// Somebody else writes now.
    Displaced,
    /// The file has gone.
    Unlinked,
}

/// Takes the role, if it is still as it was seen, and keeps it until `ended`: writes whatever is written in
/// memory, of which `is_written` says whether there is something at a position. Blocks for that long.
///
/// # Errors
/// As [`reach`](super::reach).
pub fn keep_role<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    turn: Turn,
    ended: &AtomicBool,
    is_written: &dyn Fn(u64) -> bool,
) -> Result<(), NotOnDisk> {
    let everything = Goal::Position(u64::MAX);
    let keeper = Keeper { ended, is_written };
    write_up_to(source, journal, turn, everything, Some(keeper))
}

/// Those who were woken with this one are about to commit: until as many ask for a flush as did for the last
/// one, and as long as more do, they are waited for, so that one flush takes them all. For one that has
/// company: where it is alone nobody comes.
fn gather(words: &DurableWords, company: &Company) {
    // Relaxed: hints for this handle itself.
    let count = company.count.load(Ordering::Relaxed);
    if count == 0 {
        return;
    }
    let before = company.asked.load(Ordering::Relaxed);
    let patience_ns = company.took_ns.load(Ordering::Relaxed) / 2;
    let patience_ns = patience_ns.clamp(*GATHER_NS.start(), *GATHER_NS.end());
    let over = Deadline::after(Duration::from_nanos(patience_ns));
    let mut seen = words.flushes_asked();
    loop {
        clock::make_way();
        let now = words.flushes_asked();
        let are_here = now.wrapping_sub(before) >= count && now == seen;
        if are_here || over.passed() {
            return;
        }
        seen = now;
    }
}

/// Takes the role, if it is still as it was seen, and writes until `goal` is reached; or keeps it as long
/// as `keeper` says.
pub(super) fn write_up_to<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    turn: Turn,
    goal: Goal,
    keeper: Option<Keeper<'_>>,
) -> Result<(), NotOnDisk> {
    let words = source.words();
    let Some(mut writing) = words.begin_writing(source.me(), turn)? else {
        return Ok(());
    };
    let asked = words.flushes_asked();
    if keeper.is_none() {
        gather(words, &journal.company);
    }
    if matches!(turn, Turn::Held(_)) {
        event!(
            DEBUG,
            "took the journal over",
            object = source.name(),
            epoch = writing.epoch
        );
    }
    let mut is_second = false;
    loop {
        let error = match write(source, journal, &writing, goal, keeper) {
            Ok(Written::Reached(kept)) => {
                lay_down(source, journal, writing, *kept, asked);
                return Ok(());
            }
            Ok(Written::Short(kept, error)) => {
                lay_down(source, journal, writing, *kept, asked);
                return Err(error.into());
            }
            Ok(Written::Displaced) if words.is_writing(&writing) => {
                // Whoever displaces takes the role first.
                words.end_writing(writing, End::Anew);
                return Err(NotOnDisk::Scribbled);
            }
            Ok(Written::Displaced) => return Ok(()),
            Ok(Written::Unlinked) => {
                words.end_writing(writing, End::Anew);
                return Err(NotOnDisk::Unlinked);
            }
            Err(error) => error,
        };
        // Where no segment can be made, another attempt makes none, and needs no other epoch.
        let is_full = writing.cursor.is_none() && matches!(error, JournalError::NoSpace { .. });
        if is_second || is_full {
            words.freeze(&writing);
            let end = if is_full { End::Unbegun } else { End::Anew };
            words.end_writing(writing, end);
            words.wake_behind_flush();
            return Err(error.into());
        }
        let Some(anew) = words.begin_anew(writing)? else {
            return Ok(());
        };
        (writing, is_second) = (anew, true);
    }
}

/// Leaves the role to whoever is next, who goes on where this one stops. When it was taken a flush had been
/// asked for so often as `asked` says.
fn lay_down<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    writing: Writing,
    kept: Kept<S::Memo>,
    asked: u32,
) {
    let words = source.words();
    let cursor = kept.writer.cursor();
    // First kept, then laid down: who takes the role next finds it here.
    journal.keep(kept);
    let end = cursor.map_or(End::Anew, |at| End::At((at.segment, at.offset)));
    words.end_writing(writing, end);
    let now = words.flushes_asked();
    // Relaxed: as in gather.
    journal.company.asked.store(now, Ordering::Relaxed);
    let count = now.wrapping_sub(asked);
    journal.company.count.store(count, Ordering::Relaxed);
    words.wake_behind_flush();
}

/// Writes flush after flush until `goal` is reached, or as long as the role is kept.
fn write<S: Source>(
    source: &S,
    journal: &Journal<S::Memo>,
    writing: &Writing,
    goal: Goal,
    keeper: Option<Keeper<'_>>,
) -> Result<Written<S::Memo>, JournalError> {
    let words = source.words();
    let mut from = words.on_disk_below();
    words.note_step(writing.cursor.is_none());
    let mut kept = journal.writer(writing, from, || source.is_gone())?;
    loop {
        let asked = words.flushes_asked();
        words.note_step(journal.is_near_the_end(&kept));
        room::choose_segment(source, &mut kept, goal)?;
        let number = words.begin_flush();
        let Some(to) = source.collect(&mut kept, writing, from, goal)? else {
            return Ok(Written::Displaced);
        };
        words.note_step(journal.is_near_the_end(&kept));
        if keeper.is_some() && kept.writer.cursor().is_some() {
            kept.writer.mark()?; // nothing is written: it is told how far that is on disk
        }
        let begun = clock::now();
        kept.writer.submit()?;
        kept.writer.complete(true)?;
        let took_ns = clock::now().saturating_sub(begun);
        journal.company.took_ns.store(took_ns, Ordering::Relaxed); // as in gather
        // Asked behind the write and before anybody is told: whoever makes the object again reads the
        // journal behind the end of this file, and so what was written before.
        if source.is_unlinked() {
            return Ok(Written::Unlinked);
        }
        if !words.finish_flush(writing, number, from, to) {
            return Ok(Written::Displaced);
        }
        let shortage = room::see_to_room(source, journal, &mut kept, to)?;
        match shortage {
            Some(_) => words.refuse_claims(),
            None => words.thaw(),
        }
        from = to;
        source.told();
        let is_over = match keeper {
            Some(keeper) => keeper.ended.load(Ordering::Relaxed), // looked at every 20 ms
            None => goal.is_reached(words),
        };
        if is_over || keeper.is_some() {
            let looked = source.look_after(journal, &mut kept, to, false);
            // What is waited for is on disk; an old segment that can't be read now stays.
            if kept.writer.is_frozen() {
                looked?;
            }
        }
        if is_over {
            return Ok(Written::Reached(Box::new(kept)));
        }
        let is_state_alone = shortage.is_some() && kept.writer.is_in_reserve();
        match (shortage, goal, keeper) {
            (Some(error), Goal::Thawed, None) => {
                return Ok(Written::Short(Box::new(kept), error));
            }
            (Some(error), Goal::Position(_), None) if is_state_alone => {
                return Ok(Written::Short(Box::new(kept), error));
            }
            _ => {}
        }
        words.wake_behind_flush();
        if let Some(keeper) = keeper {
            await_work(source, keeper, asked, (!is_state_alone).then_some(from));
        }
    }
}

/// Waits until there is something to write from `position` on, if that is given, or a flush was asked for since `asked`
/// was loaded, or it is over.
fn await_work<S: Source>(source: &S, keeper: Keeper<'_>, asked: u32, position: Option<u64>) {
    let words = source.words();
    let is_written = || position.is_some_and(|position| (keeper.is_written)(position));
    let spun = Deadline::after(SPIN);
    loop {
        let is_over = keeper.ended.load(Ordering::Relaxed) || source.is_removed();
        if is_over || words.flushes_asked() != asked || is_written() {
            return;
        }
        if !spun.passed() {
            core::hint::spin_loop();
            continue;
        }
        words.await_asking(asked, LONG_SLEEP, is_written);
        words.note_step(false);
        source.tick();
    }
}
