//! Linking the messages of a FIFO queue to their groups.
//!
//! A cursor walks the positions in order, and whoever receives or moves messages may move it on by one:
//! find the last linked message of the group, set `next` there and `prev` here, note this one as the last,
//! move the cursor. Every step is a CAS from the one value that it can follow, so it is done once, by
//! this receiver or another, and who comes late changes nothing:
//!
//! ```text
//! at p, the cursor, with q the last of its group that is not DONE (or none):
//!   slot(q).next   q → p          its own position: nothing linked behind it yet
//!   slot(p).prev   p → q or none
//!   table entry    q → p, or a free entry → p
//!   cursor         p → p + 1      Release; the next look at the cursor acquires all of it
//! ```
//! An open claim at the cursor is waited for, then voided or abandoned, as ordered readers do; what
//! holds no message is passed over. So whoever is killed in between leaves a step or two to redo.
//!
//! # The group table
//! Words of a tag (11 bits of the group's hash) and the lower 52 bits of a position; the hash chooses
//! a window of them. What a word says counts only while the slot still holds that position, not DONE,
//! of a group with the whole 128-bit hash; a word that says nothing is free. A look-up scans the whole
//! window and takes the highest position that fits, and it counts only if the cursor has not moved
//! behind it: then every word it saw is of this step or an older one. A late receiver may insert a
//! second, lower word for a group. It does no harm: the higher one is replaced only by the same
//! group's next message while it is not DONE, and when it is DONE the lower one is, too.
//!
//! A window whose words all name living messages takes no new group: linking waits until one of them
//! is consumed. Senders meet a full ring then; order is never wrong.

use super::open::Open;
use super::{Delivery, Standing};
use crate::layout::queue::NO_MESSAGE;
use crate::layout::ring::MAX_POSITION;
use crate::layout::word::{Ctl, LastOfGroup};
use crate::sync::{AtomicU64, Label, Ordering, fence_at, fence_behind_rmw, order};

/// Looks at a window before the caller may do something else: each that fails was another's success.
const TRIES: usize = 16;

/// The open claim that somebody meets again and again, as of when it was met first.
#[derive(Default)]
pub struct Met(Option<Open>);

impl Met {
    fn since(&mut self, met: Open) -> Open {
        let open = match self.0 {
            Some(open) if open.is_same(&met) => open,
            _ => met,
        };
        *self.0.insert(open)
    }
}

/// What a step of the cursor met.
pub enum Step<'a> {
    /// This message, which now is linked.
    Message(Standing<'a>),
    /// Nothing to link, or another was faster: go on.
    Passed,
    /// A claim that is not committed.
    Open(u64, Ctl),
    /// Nothing is written here yet.
    End,
    /// The window of this message's group has no room.
    NoRoom,
}

/// The 128-bit hash of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupHash(pub u64, pub u64);

/// What the table says about a group.
enum Found<'a> {
    /// Its last message is this one already.
    Linked,
    /// Its last message, and the word that says so.
    Behind(Standing<'a>, &'a AtomicU64, LastOfGroup),
    /// It has none that is not DONE; a free word.
    First(&'a AtomicU64, LastOfGroup),
    NoRoom,
}

impl Delivery {
    /// Where the cursor stands: every message below is linked.
    #[inline(always)]
    pub fn linked_below(&self) -> u64 {
        let seen = self
            .words
            .link()
            .load(order(Label::LinkLoad, Ordering::Acquire));
        if seen == 0 || (seen <= MAX_POSITION && self.is_written(seen - 1)) {
            return seen;
        }
        self.mend_cursor(seen)
    }

    /// The cursor can't be there: a peer scribbled. Linking begins anew a round before the tail.
    #[cold]
    fn mend_cursor(&self, seen: u64) -> u64 {
        let slots = self.ring.memory.geometry().slots();
        let first = self.ring.find_tail().saturating_sub(slots);
        let cursor = self.words.link();
        match cursor.compare_exchange(seen, first, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => first,
            Err(_) => 0,
        }
    }

    /// Moves the cursor on by one position.
    #[inline]
    pub fn link_next(&self) -> Step<'_> {
        let position = self.linked_below();
        let slot = self.ring.memory.slot(position);
        let word = Ctl(slot.ctl().load(order(Label::ReadLoad, Ordering::Acquire)));
        let lap = self.lap_of(position);
        if word.lap() < lap {
            return Step::End;
        }
        if word.state() == Ctl::CLAIMED && word.lap() == lap {
            return Step::Open(position, word);
        }
        if position >= self.delivered_below() {
            return Step::End;
        }
        match self.examine_exactly(position) {
            Some(standing) => self.link(standing),
            None => {
                self.move_cursor(position);
                Step::Passed
            }
        }
    }

    /// Links what lies below `tail`, as far as nothing is in the way.
    #[cold]
    pub(super) fn link_up_to(&self, tail: u64) {
        for _ in 0..2 * self.ring.memory.geometry().slots() {
            if self.linked_below() >= tail {
                return;
            }
            match self.link_next() {
                Step::Message(standing) if self.is_first(&standing) => {
                    self.give_hint(standing.position);
                }
                Step::Message(_) | Step::Passed => {}
                Step::Open(..) | Step::End | Step::NoRoom => return,
            }
        }
    }

    /// Links what lies up to `position`, for whoever moves messages of a queue that nobody receives from.
    /// `false` while an open claim is in the way, which is ended as by any receiver: to be asked again
    /// with the same `met`.
    pub fn is_linked_to(&self, position: u64, met: &mut Met) -> bool {
        for _ in 0..2 * self.ring.memory.geometry().slots() {
            if self.linked_below() > position {
                return true;
            }
            match self.link_next() {
                Step::Message(standing) if self.is_first(&standing) => {
                    self.give_hint(standing.position);
                }
                Step::Message(_) | Step::Passed => {}
                Step::Open(at, word) => {
                    let now = self.clock.now_ms();
                    let open = met.since(Open::new(at, word, now));
                    if !self.is_resolved(&open, now) {
                        return false;
                    }
                }
                Step::End | Step::NoRoom => return true, // as far as it goes
            }
        }
        true
    }

    fn link<'a>(&'a self, standing: Standing<'a>) -> Step<'a> {
        let position = standing.position;
        let group = standing.group();
        for _ in 0..TRIES {
            let found = self.look_up(group, position);
            if self
                .words
                .link()
                .load(order(Label::LinkLoad, Ordering::Acquire))
                != position
            {
                return Step::Passed;
            }
            let (prev, entry, word) = match found {
                Found::Linked => return self.linked(standing),
                Found::NoRoom => return Step::NoRoom,
                Found::First(entry, word) => (NO_MESSAGE, entry, word),
                Found::Behind(last, entry, word) => {
                    set_once(last.slot.next(), last.position, position);
                    (last.position, entry, word)
                }
            };
            set_once(standing.slot.prev(), position, prev);
            let last = LastOfGroup::new(group.0, position);
            let release = order(Label::LinkStore, Ordering::Release);
            if entry
                .compare_exchange(word.0, last.0, release, Ordering::Relaxed)
                .is_ok()
            {
                return self.linked(standing);
            }
        }
        Step::Passed
    }

    /// The last step. Behind the fence the message is looked at again: it may have been consumed out
    /// of turn, and the one before it may be DONE.
    #[inline(always)]
    fn linked<'a>(&'a self, standing: Standing<'a>) -> Step<'a> {
        let position = standing.position;
        self.move_cursor(position);
        fence_behind_rmw(Label::LinkFence);
        if standing.is_unchanged() {
            return Step::Message(standing);
        }
        match self.examine_exactly(position) {
            Some(standing) => Step::Message(standing),
            None => Step::Passed,
        }
    }

    #[inline(always)]
    fn move_cursor(&self, position: u64) {
        let _ = self.words.link().compare_exchange(
            position,
            position + 1,
            order(Label::LinkStore, Ordering::Release),
            Ordering::Relaxed, // the next look acquires
        );
    }

    /// The last message of a group before `position`.
    fn look_up(&self, group: GroupHash, position: u64) -> Found<'_> {
        let wanted = LastOfGroup::new(group.0, position);
        let window = self.words.window(group.1);
        let (mut behind, mut spent, mut unused) = (None::<(Standing<'_>, _, _)>, None, None);
        for entry in window {
            let word = LastOfGroup(entry.load(order(Label::LinkLoad, Ordering::Acquire)));
            if word == wanted {
                return Found::Linked;
            }
            if word.0 == 0 {
                unused = unused.or(Some((entry, word)));
            } else if word.tag() == wanted.tag() {
                match self.living(word.before(position)) {
                    None => spent = Some((entry, word)),
                    Some((last, its_group)) => {
                        let is_higher = behind
                            .as_ref()
                            .is_none_or(|(other, ..)| last.position > other.position);
                        if its_group == group && is_higher {
                            behind = Some((last, entry, word));
                        }
                    }
                }
            }
        }
        if let Some((last, entry, word)) = behind {
            return Found::Behind(last, entry, word);
        }
        if let Some((entry, word)) = spent.or(unused) {
            return Found::First(entry, word);
        }
        self.look_for_room(window, position)
    }

    /// A word whose message is consumed.
    #[cold]
    fn look_for_room<'a>(&self, window: &'a [AtomicU64], position: u64) -> Found<'a> {
        for entry in window {
            let word = LastOfGroup(entry.load(order(Label::LinkLoad, Ordering::Acquire)));
            if self.living(word.before(position)).is_none() {
                return Found::First(entry, word);
            }
        }
        Found::NoRoom
    }

    /// The message at `position` with its group, if it is not DONE: it stood from the first look to
    /// the second, and so it was its group that was loaded in between.
    #[inline(always)]
    fn living(&self, position: u64) -> Option<(Standing<'_>, GroupHash)> {
        let standing = self.examine_exactly(position)?;
        let group = standing.group();
        fence_at(Label::ReadFence, Ordering::Acquire);
        if standing.is_unchanged() {
            return Some((standing, group));
        }
        Some((self.examine_exactly(position)?, group))
    }
}

/// From the value that says "not linked", once.
#[inline(always)]
fn set_once(word: &AtomicU64, from: u64, to: u64) {
    let release = order(Label::LinkStore, Ordering::Release);
    let _ = word.compare_exchange(from, to, release, Ordering::Relaxed);
}

impl Standing<'_> {
    /// The hash of its group.
    #[inline(always)]
    pub fn group(&self) -> GroupHash {
        // Relaxed: the producer's alone, ordered by its commit.
        GroupHash(
            self.slot.group().load(Ordering::Relaxed),
            self.slot.group_2().load(Ordering::Relaxed),
        )
    }
}
