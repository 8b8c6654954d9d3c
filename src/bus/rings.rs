//! The rings of a bus, opened by a reaper or the doctor: whatever they belong to, by object id.
//!
//! Of a queue all that it grew by, also what appears meanwhile. An object that can't be opened *now* is an error, and
//! from then on everything counts as named: nothing is freed that somebody may look at. One of another build is
//! left to whoever can read it.

use super::attachment::Attachment;
use super::{REMOVED_PREFIX, TEMPORARY};
use crate::channel::{self, RingFile};
use crate::error::OpenError;
use crate::layout::ring::{ChunkRef, Meta, READER_STANDING};
use crate::layout::word::{Ctl, Role};
use crate::object::Site;
use crate::queue::{
    self, GROWN_PREFIX, Link, Outcome, Side, further_links, further_site, ring_at, settle_move,
};
use crate::ring::delivery::Delivery;
use crate::ring::read::Look;
use crate::ring::sweep::Swept;
use crate::ring::{Liveness, SlotRing};
use crate::sync::Ordering;
use crate::sys::file;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Looks at a move that others go on with at the same time.
const LOOKS: usize = 8;

/// An object opened for a sweep: its ring; with its deliveries, and those of the rings that it grew
/// by, if it is a queue.
pub(super) struct AnyRing {
    pub ring: SlotRing,
    pub queue: Option<OpenQueue>,
    /// Whether it was removed and only put aside.
    is_removed: bool,
}

/// See [`AnyRing`].
pub(super) struct OpenQueue {
    /// The oldest first.
    links: Vec<Arc<Link>>,
    /// Of its further rings.
    pub(super) site: Site,
    /// What these are named by.
    pub(super) chain_id: u64,
}

impl OpenQueue {
    fn rings(&self) -> impl Iterator<Item = &Delivery> {
        self.links.iter().map(|link| &link.delivery)
    }

    /// Whether anybody looks at a message of the queue in place.
    pub(super) fn is_viewed(&self) -> bool {
        self.links[0].delivery.is_viewed()
    }

    /// Opens the rings that appeared since.
    fn follow(&mut self) -> Result<(), OpenError> {
        let first = Arc::clone(&self.links[0]);
        let last = self.links.last().map_or(0, |link| link.number);
        if first.delivery.words().newest().load(Ordering::Acquire) > last.into() {
            let further =
                further_links(&self.site, self.chain_id, &first.delivery, &self.links[1..])?;
            self.links.truncate(1);
            self.links.extend(further);
        }
        Ok(())
    }
}

impl AnyRing {
    /// Removes everything of the dead `owner`; leases too.
    pub(super) fn sweep(&self, owner: u16) -> Swept {
        let Some(queue) = &self.queue else {
            return self.ring.sweep(owner);
        };
        let mut swept = Swept::default();
        for ring in queue.rings() {
            swept.claims += ring.ring().sweep(owner).claims;
            ring.release_dead(owner);
        }
        swept
    }

    /// Whether `owner` was moving a message from here or to here.
    pub(super) fn has_moves_of(&self, owner: u16) -> bool {
        let mut has_moves = false;
        for delivery in self.queue.iter().flat_map(OpenQueue::rings) {
            delivery.each(|standing| {
                has_moves |= standing.is_between() && standing.holder() == Some(owner);
            });
        }
        has_moves
    }

    /// All its rings.
    fn rings(&self) -> impl Iterator<Item = &SlotRing> {
        let queue = self.queue.iter().flat_map(OpenQueue::rings);
        let plain = self.queue.is_none().then_some(&self.ring);
        plain.into_iter().chain(queue.map(Delivery::ring))
    }

    /// Whether a message of this queue may have left a chunk that nobody names any more.
    pub(super) fn may_have_lost_chunks(&self) -> bool {
        self.queue.is_some() && self.ring.memory().payloads().load(Ordering::Relaxed) != 0
    }
}

/// Rings opened for a sweep, by object id.
pub(super) struct Rings<'a> {
    attachment: &'a Attachment,
    by_id: HashMap<u64, AnyRing>,
    gone: HashSet<u64>,
    /// Whether there are objects that another build made, in a format that this one can't read.
    /// Whatever is not known here may be theirs.
    has_others: bool,
    /// The first ring that could not be opened now. Everything counts as named from then on.
    failed: Option<OpenError>,
}

impl<'a> Rings<'a> {
    /// Opens every ring there is.
    pub fn open(attachment: &'a Attachment) -> Result<Self, OpenError> {
        let mut rings = Self {
            attachment,
            by_id: HashMap::new(),
            gone: HashSet::new(),
            has_others: false,
            failed: None,
        };
        rings.refresh()?;
        Ok(rings)
    }

    fn refresh(&mut self) -> Result<(), OpenError> {
        for name in self.attachment.ring_files()? {
            match self.attachment.open_for_sweep(&name) {
                Ok(Some((id, ring))) => drop(self.by_id.entry(id).or_insert(ring)),
                Ok(None) => {}
                Err(error) if error.is_of_another_build() => self.has_others = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The ring `id`. One that appeared after the others were listed is looked for once: the
    /// chunk that names it was addressed later than the ring was published.
    fn ring(&mut self, id: u64) -> Option<&AnyRing> {
        if !self.by_id.contains_key(&id)
            && self.gone.insert(id)
            && let Err(error) = self.refresh()
        {
            self.failed.get_or_insert(error);
        }
        let any = self.by_id.get_mut(&id)?;
        // So it is with a ring that the queue grew by meanwhile.
        if let Some(queue) = &mut any.queue
            && let Err(error) = queue.follow()
        {
            self.failed.get_or_insert(error);
        }
        Some(any)
    }

    /// Whether a committed record at `position` of ring `ring` names this chunk and version. `true`
    /// when that can't be told now.
    pub fn name_chunk(&mut self, ring: u64, position: u64, chunk: ChunkRef) -> bool {
        let found = match self.ring(ring) {
            Some(any) => names(any, position, chunk),
            None => self.has_others,
        };
        found || self.failed.is_some()
    }

    /// Goes on with every move of a message that the dead `owner` had begun: the message has arrived
    /// where it was going to, or stays where it was.
    pub(super) fn settle_moves(&mut self, owner: u16) {
        let segments = &self.attachment.segments;
        let side = |id: u64, any: &AnyRing| {
            let queue = any.queue.as_ref()?;
            (!any.is_removed).then(|| Side {
                rings: queue.links.iter().cloned().collect(),
                id,
                segments: Arc::clone(segments),
                open: None,
            })
        };
        let sides: Vec<Side> = self
            .by_id
            .iter()
            .filter_map(|(id, any)| side(*id, any))
            .collect();
        let each = sides
            .iter()
            .flat_map(|here| here.rings.iter().map(move |link| (here, link)));
        for (here, link) in each {
            let ring = &link.delivery;
            for at in 0..ring.ring().memory().geometry().slots() {
                // Settled from one side, it may be met again from the other, and be gone.
                for _ in 0..LOOKS {
                    let Some(between) = ring.examine(at) else {
                        break;
                    };
                    if !between.is_between() || between.holder() != Some(owner) {
                        break;
                    }
                    let find = |id| Ok(sides.iter().find(|side| side.id == id).cloned());
                    if !matches!(settle_move(here, &between, find), Ok(Outcome::Pending)) {
                        break;
                    }
                }
            }
        }
    }

    /// What went wrong on the way.
    pub fn finish(self) -> Result<(), OpenError> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Every ring with the words of its slots, for a look at all of them.
    pub fn each(&self, mut look: impl FnMut(&SlotRing, Ctl)) {
        for ring in self.by_id.values().flat_map(AnyRing::rings) {
            for position in 0..ring.memory().geometry().slots() {
                let word = ring.memory().slot(position).ctl().load(Ordering::Acquire);
                look(ring, Ctl(word));
            }
        }
    }

    /// The rings themselves: of a queue the first, which counts for all.
    pub fn all(&self) -> impl Iterator<Item = &SlotRing> {
        self.by_id.values().map(|any| &any.ring)
    }

    /// Every lease of every queue, by its holder.
    pub fn each_lease(&self, mut look: impl FnMut(&SlotRing, u16)) {
        for AnyRing { ring, queue, .. } in self.by_id.values() {
            for delivery in queue.iter().flat_map(OpenQueue::rings) {
                delivery.each(|standing| {
                    if let Some(holder) = standing.holder() {
                        look(ring, holder);
                    }
                });
            }
        }
    }
}

fn names(any: &AnyRing, position: u64, chunk: ChunkRef) -> bool {
    let delivery = any
        .queue
        .as_ref()
        .map(|queue| &ring_at(&queue.links, position).delivery);
    let ring = delivery.map_or(&any.ring, Delivery::ring);
    if position < ring.memory().geometry().first_position() {
        return false;
    }
    let (slot, Look::Record(meta)) = ring.look(position) else {
        return false;
    };
    // Below `reclaim` the record is gone for the pool even if its bytes still stand there.
    if meta.kind() != Meta::CHUNK || position < ring.memory().reclaim().load(Ordering::Acquire) {
        return false;
    }
    let mut bytes = [0u8; size_of::<ChunkRef>()];
    match delivery {
        Some(delivery) => slot.read_message(delivery.envelope(), &mut bytes),
        None => slot.read_body(&mut bytes),
    }
    let named: ChunkRef = bytemuck::cast(bytes);
    (named.segment, named.chunk, named.version) == (chunk.segment, chunk.chunk, chunk.version)
        && ring.still(slot, position)
        && delivery.is_none_or(|delivery| {
            let standing = delivery.examine(position);
            standing.is_some_and(|standing| standing.position == position)
                || delivery.viewer(position).is_some()
        })
}

impl Attachment {
    /// Files that hold rings: the objects, and removed ones that somebody still may look at.
    pub(super) fn ring_files(&self) -> Result<Vec<String>, OpenError> {
        let directory = &self.site.directory;
        let mut files = file::names(directory).map_err(|e| OpenError::io(directory, e))?;
        files.retain(|name| !name.starts_with(TEMPORARY) && !name.starts_with(GROWN_PREFIX));
        Ok(files)
    }

    /// `None` for a file that is no ring any more, or is damaged for good. One of another build is an
    /// error: whoever can read it sweeps it.
    pub(super) fn open_for_sweep(&self, name: &str) -> Result<Option<(u64, AnyRing)>, OpenError> {
        let site = Site {
            pre_touch: false,
            ..self.site.clone()
        };
        if !file::is_regular(&site.directory.join(name)) {
            return Ok(None); // a stranger, or gone by now; the doctor names it
        }
        let is_removed = name.starts_with(REMOVED_PREFIX);
        let opened = if is_removed {
            channel::open_removed_ring(&site, name)
        } else {
            channel::open_ring(&site, name)
        };
        let opened = match opened {
            Err(OpenError::Foreign { found, .. }) if found == crate::layout::queue::MAGIC => {
                let opened = if is_removed {
                    queue::open_removed_queue(&site, name)
                } else {
                    queue::open_queue(&site, name)
                };
                opened.and_then(|file| {
                    let id = file.object_id;
                    let first = self.delivery(&file);
                    let ring = first.ring().clone();
                    let site = further_site(&site, file.spill.as_deref());
                    let chain_id = file.chain_id;
                    let further = further_links(&site, chain_id, &first, &[])?;
                    let mut links = vec![Link::first(first, file.bytes)];
                    links.extend(further);
                    let queue = Some(OpenQueue {
                        links,
                        site,
                        chain_id,
                    });
                    let any = AnyRing {
                        ring,
                        queue,
                        is_removed,
                    };
                    Ok((id, any))
                })
            }
            opened => opened.map(|file| (file.object_id, self.any_ring(file, is_removed))),
        };
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(error @ (OpenError::Io { .. } | OpenError::Permission { .. })) => Err(error),
            Err(error) if error.is_of_another_build() => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn any_ring(&self, file: RingFile, is_removed: bool) -> AnyRing {
        let ring = SlotRing::new(
            file.memory,
            Arc::clone(&self.liveness) as Arc<dyn Liveness>,
            self.membership.slot,
            file.definition.producers,
            file.definition.overflow,
            file.definition.stall_timeout.as_nanos() as u64,
        );
        AnyRing {
            ring,
            queue: None,
            is_removed,
        }
    }
}

/// Whether a living participant has a seat in the ring.
pub(super) fn is_looked_at(ring: &SlotRing) -> bool {
    (0..ring.memory().geometry().readers()).any(|index| {
        let word = Role(ring.memory().reader(index).word.load(Ordering::Acquire));
        word.owner() != 0
            && word.state() != READER_STANDING
            && (word.owner() == ring.me() || !ring.is_dead(word.owner()))
    })
}
