//! Growth: a queue that is full goes on in a larger ring, up to its byte quota.
//!
//! ```text
//! reserve   the file of the next ring at full length, under a temporary name: no room, no seal
//! seal      the full ring at its tail (CAS of one word)
//! publish   the next ring with a first position above the seal (rename, never over another)
//! note      its number in the first file, before it is used
//! ```
//! # What each crash point leaves
//! - before the seal: a temporary file of a dead process, which the reaper removes.
//! - between seal and publication: a sealed ring without a next one. Whoever meets the seal makes
//!   it; the first to publish wins, the others go there and drop theirs.
//! - behind publication: a ring that the others find in the directory.
//!
//! # Ahead of time
//! A page of a new file costs microseconds, a whole ring of them many milliseconds. So while the messages
//! that wait fill the second half of the last ring, its senders make the file of the next one bit by bit,
//! under its temporary name: each 64 sends a piece, in step with the ring, so that it is whole before it
//! is needed. One process at a time does so, by another lock that dies with it. Where that one is not the
//! one that grows the queue, or was too slow, the rest is made at once, as if nobody had begun; and when
//! the messages that wait become few, it is given up.
//!
//! Of several that want to grow at the same time one does it, by a lock of the kernel that dies with
//! its holder; the others wait for it, but no longer than the stall time-out: then they do it
//! themselves, so a stopped one delays nobody for longer. The lock saves work and keeps nobody out.

use super::Inner;
use super::chain::Link;
use super::grown::{grown_name, publish_grown};
use crate::error::OpenError;
use crate::layout::queue::{GROW_LOCK, MAX_RINGS, PREPARE_LOCK};
use crate::layout::ring::{MAX_POSITION, MAX_SLOTS, MIN_SLOTS};
use crate::object::file::{self as object_file, Spare};
use crate::ring::claim::Appender;
use crate::ring::delivery::Delivery;
use crate::sync::Ordering;
use crate::sys::clock::{self, Deadline};
use crate::sys::{file as files, lock};
use crate::trace::event;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// For so long a refusal counts for every sender of this open: asking again costs system calls.
const REFUSED_MS: u64 = 10;
/// Slots' worth of bytes of the next ring that one step makes: twice of what 64 sends need when the next
/// ring has twice the slots and is made while half of this one is filled.
const STEP_SLOTS: u64 = 512;
/// Looks whether somebody else has grown the queue.
const PAUSE: Duration = Duration::from_millis(1);

/// Why a queue does not grow now.
#[derive(Clone, Debug)]
pub(super) enum NoGrowth {
    /// Another ring does not fit into its quota.
    Quota,
    /// The file system is full.
    NoSpace { needed: u64, available: u64 },
    /// The system refuses, or a file is damaged.
    Failed(String),
}

impl From<OpenError> for NoGrowth {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoSpace {
                needed, available, ..
            } => Self::NoSpace { needed, available },
            error => Self::Failed(error.to_string()),
        }
    }
}

/// What the senders of one open know of attempts to grow: one tries at a time.
#[derive(Default)]
pub(crate) struct Growing(Mutex<Attempts>);

#[derive(Default)]
struct Attempts {
    /// Until when a refusal counts, and why.
    refused: Option<(u64, NoGrowth)>,
    next: Next,
}

/// The ring behind the last one, ahead of time.
#[derive(Default)]
enum Next {
    #[default]
    None,
    /// Nothing is made of the ring of this number here: another process does, or there is no room.
    Elsewhere(u32),
    Begun(Begun),
}

struct Begun {
    number: u32,
    slots: u64,
    spare: Spare,
    /// With [`PREPARE_LOCK`].
    _mine: File,
}

/// The ring that a sender is in.
pub(super) struct Full<'a> {
    pub number: u32,
    pub delivery: &'a Delivery,
    pub appender: &'a Appender,
    /// Sealed already: the next one has to be made, and need not be large.
    pub is_sealed: bool,
}

impl Inner {
    /// Whether the queue may ever have more than one ring. The order of a group is kept within one.
    pub fn may_grow(&self) -> bool {
        self.definition.max_bytes > self.bytes && !self.delivery.is_fifo()
    }

    /// The ring to send to behind one that is full or sealed: the last there is by now, or a new one.
    #[cold]
    pub(super) fn next_ring(&self, full: &Full<'_>) -> Result<Arc<Link>, NoGrowth> {
        if let Some(link) = self.later_ring(full)? {
            return Ok(link);
        }
        let now = self.now_ms();
        if !full.is_sealed && !self.may_grow() {
            return Err(NoGrowth::Quota);
        }
        let mut attempts = self
            .growing
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((until, why)) = &attempts.refused
            && now < *until
            && now + REFUSED_MS >= *until
        {
            return Err(why.clone());
        }
        let next = core::mem::take(&mut attempts.next);
        let grown = self.grow(full, now, next);
        attempts.refused = match &grown {
            Err(why) => Some((now + REFUSED_MS, why.clone())),
            Ok(_) => None,
        };
        grown
    }

    /// Has the next sender ask again, who knows that rings were drained.
    pub(super) fn forget_refusal(&self) {
        let attempts = self.growing.0.lock();
        attempts.unwrap_or_else(PoisonError::into_inner).refused = None;
    }

    /// A ring behind this one that somebody has made.
    fn later_ring(&self, full: &Full<'_>) -> Result<Option<Arc<Link>>, NoGrowth> {
        let links = if full.is_sealed || self.chain.is_behind(&self.delivery) {
            self.chain.refresh(&self.site)?
        } else {
            self.chain.links()
        };
        let last = links.last().filter(|link| link.number > full.number);
        Ok(last.cloned())
    }

    fn grow(&self, full: &Full<'_>, now: u64, next: Next) -> Result<Arc<Link>, NoGrowth> {
        let _mine = self.wait_for_my_turn(full);
        if let Some(link) = self.later_ring(full)? {
            return Ok(link);
        }
        let used = self.retire_drained(now);
        let number = full.number + 1;
        let (mut slots, mut spare) = match next {
            Next::Begun(begun) if begun.number == number && self.fits(used, begun.slots) => {
                (begun.slots, Some(begun.spare))
            }
            _ => (self.next_slots(full, used).ok_or(NoGrowth::Quota)?, None),
        };
        let name = grown_name(self.chain.id(), number);
        loop {
            let shape = self.definition.shape(&name, slots);
            let reserved = match object_file::reserve_from(&self.site, &shape, spare.take()) {
                Ok(reserved) => reserved,
                // There is no way back behind a seal.
                Err(OpenError::NoSpace { .. }) if full.is_sealed && slots > MIN_SLOTS => {
                    slots /= 2;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let ring = full.delivery.ring();
            let sealed = ring.seal(full.appender.next());
            let first = sealed.map(|at| (at + 1).next_multiple_of(slots));
            let first = first.filter(|first| *first < MAX_POSITION).ok_or_else(|| {
                NoGrowth::Failed("its positions are used up, or scribbled over".into())
            })?;
            if self.is_removed() {
                return Err(NoGrowth::Quota); // the caller says why
            }
            let named = (self.chain.id(), number);
            match publish_grown(reserved, &self.definition, named, first, |_, _| ()) {
                Ok(()) | Err(OpenError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if self.is_removed() {
                // Nobody else knows of it: who removed the queue has looked before.
                let _ = files::remove(&self.site.directory.join(&name));
                return Err(NoGrowth::Quota);
            }
            event!(
                DEBUG,
                "grown",
                queue = self.name(),
                ring = number,
                slots = slots
            );
            let sealed = Full {
                is_sealed: true,
                ..*full
            };
            return self
                .later_ring(&sealed)?
                .ok_or_else(|| NoGrowth::Failed(format!("{name} is damaged, or gone again")));
        }
    }

    /// Waits while somebody else is at it, for the stall time-out at most.
    fn wait_for_my_turn(&self, full: &Full<'_>) -> Option<File> {
        // A descriptor of its own: the lock belongs to that, and goes with it.
        let own = files::open(&self.path).ok()?;
        let deadline = Deadline::after(self.definition.stall_timeout);
        loop {
            match lock::try_lock(&own, GROW_LOCK) {
                Ok(true) => return Some(own),
                Ok(false) if !deadline.passed() => clock::pause(PAUSE),
                _ => return None,
            }
            if self.delivery.words().newest().load(Ordering::Relaxed) > full.number.into() {
                return None;
            }
        }
    }

    /// Takes away the rings in which nothing is left; the bytes of those that stay. On disk whoever writes
    /// does that, and is asked to.
    fn retire_drained(&self, now: u64) -> u64 {
        if self.journal.is_some() {
            let is_drained = |pair: &[Arc<Link>]| {
                let link = &pair[0];
                link.number > 0 && link.is_touched() && link.is_drained(u64::MAX, now)
            };
            if self.chain.links().windows(2).any(is_drained) {
                let _ = self.reach_consumed(); // what the disk refuses stays
            }
            let links = self.chain.links();
            let left = links.iter().filter(|link| !link.is_retired());
            return left.map(|link| link.bytes).sum();
        }
        let links = self.chain.links();
        let mut used = 0;
        for (index, link) in links.iter().enumerate() {
            let is_gone =
                index + 1 < links.len() && link.is_drained(u64::MAX, now) && link.retire();
            used += if is_gone { 0 } else { link.bytes };
        }
        used
    }

    /// Whether a ring of `slots` fits into the quota beside `used` bytes.
    fn fits(&self, used: u64, slots: u64) -> bool {
        let needed = used.saturating_add(self.definition.ring_bytes(slots));
        needed <= self.definition.max_bytes
    }

    /// Makes a piece of the next ring, if the messages that wait are about to fill the one of `full`;
    /// gives up what is made if they are few. A few system calls at most, and none while there is
    /// nothing to do. Of a queue that may grow.
    #[cold]
    pub(super) fn prepare(&self, full: &Full<'_>) {
        let slots = full.delivery.ring().memory().geometry().slots();
        let waiting = full.appender.next() - full.delivery.receive_hint().min(full.appender.next());
        // Who finds it locked leaves it to the other.
        let Ok(mut attempts) = self.growing.0.try_lock() else {
            return;
        };
        let number = full.number + 1;
        let is_other = match &attempts.next {
            Next::None => false,
            Next::Elsewhere(other) => *other != number,
            Next::Begun(begun) => begun.number != number,
        };
        if is_other || waiting < slots / 4 {
            attempts.next = Next::None;
        }
        if waiting <= slots / 2 {
            return;
        }
        if let Next::None = attempts.next {
            attempts.next = self
                .begin(full)
                .map_or(Next::Elsewhere(number), Next::Begun);
        }
        let Next::Begun(begun) = &mut attempts.next else {
            return;
        };
        // All of it when an eighth of this half is left.
        let whole = self.definition.ring_bytes(begun.slots);
        let part = u128::from(waiting - slots / 2) * u128::from(whole) / u128::from(slots / 16 * 7);
        let wanted = part.min(whole.into()) as u64;
        let step = STEP_SLOTS * self.definition.stride;
        let upto = wanted.min(begun.spare.bytes() + step);
        if begun.spare.extend(upto).is_err() {
            attempts.next = Next::Elsewhere(number);
        }
    }

    /// The next ring without a byte, unless another process is at it or there is no room for it.
    fn begin(&self, full: &Full<'_>) -> Option<Begun> {
        let used = self.chain.links().iter().map(|link| link.bytes).sum();
        let slots = self.next_slots(full, used)?;
        let mine = files::open(&self.path).ok()?;
        if !lock::try_lock(&mine, PREPARE_LOCK).ok()? {
            return None;
        }
        Some(Begun {
            number: full.number + 1,
            slots,
            spare: Spare::new(&self.site).ok()?,
            _mine: mine,
        })
    }

    /// Slots of the next ring: twice as many as the last one has, or the most that fit into the
    /// quota; not fewer than the first ring.
    fn next_slots(&self, full: &Full<'_>, used: u64) -> Option<u64> {
        if self.chain.links().len() >= MAX_RINGS {
            return None;
        }
        let last = full.delivery.ring().memory().geometry().slots();
        let least = self.definition.slots;
        let most = self.definition.most_ring_slots(MAX_SLOTS);
        let mut slots = (2 * last).min(most);
        while slots >= least {
            if self.fits(used, slots) {
                return Some(slots);
            }
            slots /= 2;
        }
        // Who sealed it had the room for another: that was reserved before.
        full.is_sealed.then_some(least)
    }
}
