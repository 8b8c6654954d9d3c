//! The rings of a queue: the one it was created with, and those it grew by.
//!
//! Positions are the queue's: each ring has a range of its own, and a later ring has the higher one,
//! so a position names its ring. What belongs to the queue as a whole (totals, holders, settings,
//! wake words) lies in the file of the first ring, which outlives its messages, and is reached
//! through the [`Delivery`] of any ring.
//!
//! Which rings there are is told by the directory alone: files `.grown-CHAIN-NUMBER` beside the
//! queue's. A ring is published only behind the seal of the one before, and unlinked only when it
//! is drained and a higher one is known to be there (`NEWEST`, in the first file, raised by everybody
//! before they use a ring, and never lowered). So the highest number is where messages are sent to,
//! every other ring is sealed, and one that is not was published by somebody who had slept since
//! before its number was given away: it is empty, and a leftover.
//!
//! A directory is read in pieces, and what is published between two of them may be missed beside a higher
//! one that is found. A ring is published behind the one before, so a second reading finds whatever is below what the
//! first one found ([`whole_listing`]); where it does not find one, that was drained, and taken away.
//!
//! Thread-safe. The list is one process's and follows the directory when somebody comes to the end
//! of a sealed ring, meets a receipt of a ring it does not know, or looks at all of them.

use super::Inner;
use super::grown::{GrownFile, grown_of, open_grown};
use crate::error::OpenError;
use crate::layout::queue::NEVER;
use crate::object::Site;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::drain::Drain;
use crate::ring::persister::Writing;
use crate::shm::durable::DurableWords;
use crate::sync::Ordering;
use crate::sys::file as files;
use core::ops::Deref;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Looks at a directory that changes meanwhile.
const ATTEMPTS: usize = 4;

/// One ring.
pub(crate) struct Link {
    /// 0 for the first.
    pub number: u32,
    pub delivery: Delivery,
    pub bytes: u64,
    /// Of a ring that the queue grew by.
    file: Option<(File, PathBuf)>,
    drain: Mutex<Drain>,
    /// Where it is sealed, once that was found out; all ones until then.
    seal: AtomicU64,
    /// The epoch behind the last one in which a writer of this process looked at all its changed bits.
    looked: AtomicU64,
}

impl Link {
    /// The ring that a queue was created with.
    pub fn first(delivery: Delivery, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            number: 0,
            delivery,
            bytes,
            file: None,
            drain: Mutex::default(),
            seal: AtomicU64::new(u64::MAX),
            looked: AtomicU64::new(0),
        })
    }

    /// `None` when it lacks what a ring of a queue that is on disk has.
    fn further(first: &Delivery, grown: GrownFile) -> Option<Arc<Self>> {
        if first.durable().is_some() && grown.durable.is_none() {
            return None;
        }
        Some(Arc::new(Self {
            number: grown.number,
            delivery: first.beside(grown.memory, grown.words, grown.durable),
            bytes: grown.bytes,
            file: Some((grown.file, grown.path)),
            drain: Mutex::default(),
            seal: AtomicU64::new(u64::MAX),
            looked: AtomicU64::new(0),
        }))
    }

    pub fn first_position(&self) -> u64 {
        self.delivery.ring().memory().geometry().first_position()
    }

    /// Where it is sealed, if it is.
    pub fn sealed(&self) -> Option<u64> {
        let known = self.seal.load(Ordering::Relaxed);
        if known != u64::MAX {
            return Some(known); // a seal stays where it is
        }
        let sealed = self.delivery.ring().sealed()?;
        self.seal.store(sealed, Ordering::Relaxed);
        Some(sealed)
    }

    /// Takes the changed blocks for a writer; as [`Delivery::take_changed`]. Where nothing was ever
    /// consumed it looks once an epoch, so that nobody of an earlier one takes any.
    pub fn take_changed(&self, writing: &Writing, show: impl FnMut(u64)) -> bool {
        let touched = self.is_touched();
        // Relaxed: this process's own, and whoever did not see it looks once more.
        if !touched && self.looked.load(Ordering::Relaxed) == writing.epoch + 1 {
            return true;
        }
        let is_taken = self.delivery.take_changed(writing, show);
        if is_taken {
            self.looked.store(writing.epoch + 1, Ordering::Relaxed);
        }
        is_taken
    }

    /// Looks at up to `most` slots that may hold something; whether none in the whole ring does, for
    /// ever. Of a sealed ring.
    pub fn is_drained(&self, most: u64, now: u64) -> bool {
        // Who finds it locked finds out next time.
        let Ok(mut drain) = self.drain.try_lock() else {
            return false;
        };
        self.delivery.is_drained(&mut drain, most, now)
    }

    /// Whether anything in it was ever consumed.
    pub fn is_touched(&self) -> bool {
        let words = self.delivery.durable();
        words.is_none_or(DurableWords::is_touched)
    }

    /// As [`Self::is_drained`], of a `budget` of slots that goes down by those that were looked at.
    pub fn is_drained_within(&self, budget: &mut u64, now: u64) -> bool {
        let Ok(mut drain) = self.drain.try_lock() else {
            return false;
        };
        let before = drain.below();
        let is_drained = self.delivery.is_drained(&mut drain, *budget, now);
        *budget = budget.saturating_sub(drain.below() - before);
        is_drained
    }

    /// Takes a drained ring away, once a later one is known to all. Whether it is gone.
    pub fn retire(&self) -> bool {
        let Some((file, path)) = &self.file else {
            return false;
        };
        if self.delivery.words().newest().load(Ordering::Acquire) <= u64::from(self.number) {
            return false;
        }
        self.delivery.words().drained().store(1, Ordering::Release);
        if files::is_at(file, path) {
            let _ = files::remove(path);
        }
        true
    }

    /// Whether somebody has taken it away.
    pub fn is_retired(&self) -> bool {
        self.delivery.words().drained().load(Ordering::Relaxed) != 0
            && self
                .file
                .as_ref()
                .is_some_and(|(file, path)| !files::is_at(file, path))
    }

    /// A ring that nobody ever used, below one that is in use.
    fn is_leftover(&self) -> bool {
        let ring = self.delivery.ring();
        self.file.is_some() && ring.sealed().is_none() && ring.tail_now() == self.first_position()
    }

    fn unlink(&self) {
        if let Some((file, path)) = &self.file
            && files::is_at(file, path)
        {
            let _ = files::remove(path);
        }
    }
}

/// A ring that somebody looked up.
pub(crate) enum At<'a> {
    First(&'a Delivery),
    Further(Arc<Link>),
}

impl Deref for At<'_> {
    type Target = Delivery;

    #[inline(always)]
    fn deref(&self) -> &Delivery {
        match self {
            Self::First(delivery) => delivery,
            Self::Further(link) => &link.delivery,
        }
    }
}

/// The rings that this open of a queue knows, the oldest first.
pub(crate) struct Chain {
    /// What the files of further rings are named by.
    id: u64,
    links: RwLock<Arc<[Arc<Link>]>>,
    /// First position of the second of them; all ones when there is none.
    second: AtomicU64,
    /// Number of the last of them.
    last: AtomicU32,
}

impl Chain {
    /// Of the first ring alone.
    pub fn new(id: u64, first: Arc<Link>) -> Self {
        Self {
            id,
            links: RwLock::new(Arc::new([first])),
            second: AtomicU64::new(u64::MAX),
            last: AtomicU32::new(0),
        }
    }

    /// What the files of further rings are named by.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What is known.
    pub fn links(&self) -> Arc<[Arc<Link>]> {
        Arc::clone(&self.links.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Number of the last one.
    pub fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    /// Whether somebody is known to have made a ring that is not known here.
    pub fn is_behind(&self, first: &Delivery) -> bool {
        // Relaxed: a hint. Who was told of a ring by a message or a receipt sees it.
        first.words().newest().load(Ordering::Relaxed) > self.last().into()
    }

    /// Reads the directory.
    pub fn refresh(&self, site: &Site) -> Result<Arc<[Arc<Link>]>, OpenError> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let first = Arc::clone(&links[0]);
        let further = further_links(site, self.id, &first.delivery, &links[1..])?;
        let second = further
            .first()
            .map_or(u64::MAX, |link| link.first_position());
        let last = further.last().map_or(0, |link| link.number);
        *links = core::iter::once(first).chain(further).collect();
        self.second.store(second, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        Ok(Arc::clone(&links))
    }

    #[cold]
    fn find(&self, position: u64) -> Arc<Link> {
        Arc::clone(ring_at(&self.links(), position))
    }
}

/// The one of `links`, the oldest first and never none, that `position` belongs to.
pub(crate) fn ring_at(links: &[Arc<Link>], position: u64) -> &Arc<Link> {
    let behind = links.partition_point(|link| link.first_position() <= position);
    &links[behind.saturating_sub(1)]
}

/// Whether nobody has received from a ring, as far as its hints say: no cursor has come far, and no lease or
/// delay runs.
pub(super) fn is_untouched(ring: &Delivery) -> bool {
    let first = ring.ring().memory().geometry().first_position();
    ring.receive_hint() == first && ring.next_due() == NEVER
}

/// The rings that the queue whose rings are named by `id` grew by, the oldest first, as the directory has them; `known` are
/// open already.
pub(crate) fn further_links(
    site: &Site,
    id: u64,
    first: &Delivery,
    known: &[Arc<Link>],
) -> Result<Vec<Arc<Link>>, OpenError> {
    if first.is_fifo() {
        return Ok(Vec::new()); // it has one ring, whatever the directory says
    }
    let mut attempts = 0..ATTEMPTS;
    loop {
        let newest = first.words().newest().load(Ordering::Acquire);
        let mut links = open_each(site, id, first, known)?;
        let last = links.last().map_or(0, |link| link.number);
        // One that appears under the reading of a directory may be missed. The word may have been
        // scribbled over, so it is not waited for.
        if u64::from(last) < newest && attempts.next().is_some() {
            continue;
        }
        // From here on nobody takes a ring that was published too late for the last one.
        first
            .words()
            .newest()
            .fetch_max(last.into(), Ordering::AcqRel);
        links.retain(|link| {
            let is_leftover = link.number < last && link.is_leftover();
            if is_leftover && !site.observed {
                link.unlink();
            }
            !is_leftover
        });
        return Ok(links);
    }
}

/// The numbers of rings, in their order, by readings of a directory that changes meanwhile; up to the last one
/// there was when the first reading ended, none is missing that is there. Of those up to `known` none was missed before.
fn whole_listing(
    known: u32,
    mut list: impl FnMut() -> Result<Vec<u32>, OpenError>,
) -> Result<Vec<u32>, OpenError> {
    let mut numbers = list()?;
    numbers.sort_unstable();
    let last = numbers.last().copied().unwrap_or(0);
    let new = numbers.iter().filter(|number| **number > known).count();
    if new as u64 == u64::from(last.saturating_sub(known)) {
        return Ok(numbers);
    }
    numbers = list()?;
    numbers.retain(|number| *number <= last);
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_each(
    site: &Site,
    id: u64,
    first: &Delivery,
    known: &[Arc<Link>],
) -> Result<Vec<Arc<Link>>, OpenError> {
    let directory = &site.directory;
    let numbers = whole_listing(known.last().map_or(0, |link| link.number), || {
        let names = files::names(directory).map_err(|e| OpenError::io(directory, e))?;
        let grown = names.iter().filter_map(|name| grown_of(name));
        Ok(grown
            .filter_map(|(queue, number)| (queue == id).then_some(number))
            .collect())
    })?;
    let mut links: Vec<Arc<Link>> = Vec::with_capacity(numbers.len());
    let mut before = 0;
    let stride = first.ring().memory().geometry().stride();
    for number in numbers {
        let link = match known.iter().find(|link| link.number == number) {
            Some(link) if !link.is_retired() => Arc::clone(link),
            _ => match open_grown(site, id, number) {
                Ok(grown) => match Link::further(first, grown) {
                    Some(link) => link,
                    None => continue,
                },
                Err(error @ (OpenError::Io { .. } | OpenError::Permission { .. })) => {
                    return Err(error);
                }
                Err(error) if error.is_of_another_build() => return Err(error),
                // Gone, or damaged for good: the others are as good as ever.
                Err(_) => continue,
            },
        };
        // A scribbled header must not send two rings' positions to one, or bodies beside slots.
        let geometry = link.delivery.ring().memory().geometry();
        if link.first_position() > before && geometry.stride() == stride {
            before = link.first_position();
            links.push(link);
        }
    }
    Ok(links)
}

impl Inner {
    /// The ring that `position` belongs to, as far as this open knows. One compare while the queue
    /// has not grown.
    #[inline(always)]
    pub fn at(&self, position: u64) -> At<'_> {
        // Relaxed: this process's own; who got a position from a further ring has seen it listed.
        if position < self.chain.second.load(Ordering::Relaxed) {
            return At::First(&self.delivery);
        }
        At::Further(self.chain.find(position))
    }

    /// Whether a ring has appeared that `at` did not know. Then it knows it now.
    #[cold]
    pub fn has_grown(&self) -> bool {
        self.chain.is_behind(&self.delivery) && self.chain.refresh(&self.site).is_ok()
    }

    /// The ring to send to, as far as is known: its seal leads on.
    pub fn last_ring(&self) -> Arc<Link> {
        self.has_grown();
        let links = self.chain.links();
        Arc::clone(&links[links.len() - 1])
    }

    /// Slots of all rings that are known.
    pub fn capacity(&self) -> u64 {
        let links = self.chain.links();
        let slots = |link: &Arc<Link>| link.delivery.ring().memory().geometry().slots();
        links.iter().map(slots).sum()
    }

    /// Every ring there is now, the oldest first.
    pub fn each_ring(&self, mut look: impl FnMut(&Delivery)) {
        let refreshed = self.chain.refresh(&self.site);
        // What can't be opened now is looked at the next time.
        let links = refreshed.unwrap_or_else(|_| self.chain.links());
        let last = links.last().map_or(0, |link| link.number);
        for link in links.iter() {
            look(&link.delivery);
            if self.definition.spill && link.number > 0 && link.number < last {
                link.delivery.ring().memory().release_pages();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::whole_listing;

    fn listed(known: u32, readings: &[&[u32]]) -> Vec<u32> {
        let mut readings = readings.iter();
        let list = || Ok(readings.next().expect("no more").to_vec());
        let numbers = whole_listing(known, list).unwrap();
        assert_eq!(readings.count(), 0, "fewer readings than were needed");
        numbers
    }

    #[test]
    fn a_ring_that_one_reading_misses_beside_a_higher_one_is_found_by_the_next() {
        assert_eq!(listed(0, &[&[3, 1], &[1, 2, 3]]), [1, 2, 3]);
        assert_eq!(listed(3, &[&[2, 3, 5], &[2, 3, 4, 5]]), [2, 3, 4, 5]);
        // Of those above what the first reading saw it may miss some itself.
        assert_eq!(listed(0, &[&[2], &[2, 1, 4]]), [1, 2]);
    }

    #[test]
    fn rings_that_were_taken_away_before_cost_no_second_reading() {
        assert_eq!(listed(0, &[&[]]), [0; 0]);
        assert_eq!(listed(7, &[&[9, 7, 3, 8]]), [3, 7, 8, 9]);
        assert_eq!(listed(9, &[&[9, 2]]), [2, 9]);
        assert_eq!(listed(0, &[&[4], &[4]]), [4]);
    }
}
