//! Reaping: what a dead participant left, swept by anyone.
//!
//! Order: claims, seats and producer words in every ring it noted, then the moves between queues that
//! it had begun, then its chunks (a claim that
//! became VOID names no chunk any more; a committed record keeps it), then its roles and temporary
//! files, then whom it was reaping itself; last its entry becomes FREE. Every step is idempotent,
//! so a reaper that dies is simply followed by the next. An object that can't be opened *now* (no
//! descriptors left, say) is not "nothing there": the entry stays REAPING and no chunk is freed.
//! One thread of an attachment sweeps at a time.

use super::attachment::Attachment;
use super::{REMOVED_PREFIX, TEMPORARY, name};
use crate::channel::{self, RingFile};
use crate::error::OpenError;
use crate::layout::bus::ROLES;
use crate::layout::ring::{ChunkRef, Meta, READER_STANDING};
use crate::layout::word::{Ctl, Role};
use crate::layout::{Preamble, REMOVED};
use crate::object::Site;
use crate::pool::lend::SweptChunks;
use crate::queue::{
    self, GROWN_PREFIX, Link, Outcome, Side, further_links, further_site, grown_of, ring_at,
    settle_move, spill_directory,
};
use crate::ring::delivery::Delivery;
use crate::ring::read::Look;
use crate::ring::sweep::Swept;
use crate::ring::{Liveness, SlotRing};
use crate::stream;
use crate::sync::Ordering;
use crate::sys::file;
use crate::trace::{event, span};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// Looks at a move that others go on with at the same time.
const LOOKS: usize = 8;

/// What one dead participant had left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    pub slot: u16,
    pub rings: Swept,
    pub chunks: SweptChunks,
    pub roles: u64,
    pub temporary_files: u64,
    /// Parts of topics that it may have left something to be handed on in, or made too late.
    #[cfg(feature = "topics")]
    pub topic_parts: Vec<String>,
}

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
    site: Site,
    /// What these are named by.
    chain_id: u64,
}

impl OpenQueue {
    fn rings(&self) -> impl Iterator<Item = &Delivery> {
        self.links.iter().map(|link| &link.delivery)
    }

    /// Whether anybody looks at a message of the queue in place.
    fn is_viewed(&self) -> bool {
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
    fn sweep(&self, owner: u16) -> Swept {
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
    fn has_moves_of(&self, owner: u16) -> bool {
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
    fn may_have_lost_chunks(&self) -> bool {
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
    fn settle_moves(&mut self, owner: u16) {
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
    fn open_for_sweep(&self, name: &str) -> Result<Option<(u64, AnyRing)>, OpenError> {
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

    /// Reaps everybody who is dead, and deletes removed rings that nobody looks at any more.
    pub(super) fn reap_dead(&self) -> Result<Vec<Reaped>, OpenError> {
        let _one_at_a_time = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.sweep_the_dead()
    }

    /// The same, unless another thread of this attachment is at it.
    pub(super) fn try_reap_dead(&self) -> Result<Vec<Reaped>, OpenError> {
        match self.sweeping.try_lock() {
            Ok(_one_at_a_time) => self.sweep_the_dead(),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn sweep_the_dead(&self) -> Result<Vec<Reaped>, OpenError> {
        let mut reaped = Vec::new();
        for slot in self.registry.dead() {
            self.reap(slot, &mut reaped)?;
        }
        if !reaped.is_empty() {
            self.finish_removals()?;
        }
        self.delete_removed_rings()?;
        Ok(reaped)
    }

    /// Reaps `slot`, and whom it was reaping itself: their entries become free only when the
    /// number in their words means nobody any more. A chain of dead reapers needs no deep stack.
    fn reap(&self, slot: u16, reaped: &mut Vec<Reaped>) -> Result<(), OpenError> {
        let me = self.membership.slot;
        let (mut waiting, mut swept) = (vec![slot], Vec::new());
        while let Some(slot) = waiting.pop() {
            if let Some(generation) = self.registry.begin_reap(slot, me) {
                swept.push((self.sweep_one(slot, generation)?, generation));
                waiting.extend(self.registry.reaped_by(slot));
            }
        }
        for (found, generation) in swept.into_iter().rev() {
            self.registry.end_reap(found.slot, me, generation);
            reaped.push(found);
        }
        Ok(())
    }

    /// Everything the dead `slot` left, but for its entry.
    fn sweep_one(&self, slot: u16, generation: u64) -> Result<Reaped, OpenError> {
        span!(DEBUG, "reap", bus = self.name.as_str(), participant = slot);
        let mut found = Reaped {
            slot,
            ..Default::default()
        };
        let noted = self.registry.joined(slot);
        let (mut lost_chunks, mut left_moves) = (false, false);
        for file in self.ring_files()? {
            let noted_it = match &noted {
                Some(hashes) if !file.starts_with(REMOVED_PREFIX) => {
                    hashes.contains(&name::hash(&file))
                }
                _ => true,
            };
            if !noted_it {
                continue;
            }
            #[cfg(feature = "topics")]
            if Self::is_part(&file) {
                found.topic_parts.push(file.clone());
            }
            let ring = match self.open_for_sweep(&file) {
                Err(error) if error.is_of_another_build() => continue,
                opened => opened?,
            };
            if ring.is_none() {
                stream::sweep_dead(&self.site, &file, slot)?;
            }
            if let Some((_, ring)) = ring {
                lost_chunks |= ring.may_have_lost_chunks();
                left_moves |= ring.has_moves_of(slot);
                let swept = ring.sweep(slot);
                found.rings.claims += swept.claims;
                found.rings.readers += swept.readers;
                found.rings.producers += swept.producers;
            }
        }
        // Behind its claims, so that an open one is settled.
        if left_moves {
            let mut rings = Rings::open(self)?;
            rings.settle_moves(slot);
            rings.finish()?;
        }
        if self.segments.owns_any(slot) {
            let mut rings = Rings::open(self)?;
            found.chunks = self.segments.sweep_owned(slot, |ring, position, chunk| {
                rings.name_chunk(ring, position, chunk)
            });
            rings.finish()?;
        }
        // It may have died between consuming a message and freeing its chunk.
        if lost_chunks {
            found.chunks.freed += self.sweep_attached_chunks()?.freed;
        }
        for role in 0..ROLES {
            found.roles += u64::from(self.registry.release_role(role, slot));
        }
        found.temporary_files = self.remove_temporary_files(slot, generation);
        event!(
            DEBUG,
            "reaped",
            claims = found.rings.claims,
            readers = found.rings.readers,
            chunks = found.chunks.freed,
            roles = found.roles
        );
        Ok(found)
    }

    /// Takes the names of objects whose remover died half-way.
    fn finish_removals(&self) -> Result<(), OpenError> {
        for object in self.objects()? {
            let path = self.site.directory.join(&object.name);
            let ready = file::open(&path)
                .and_then(|file| crate::object::file::read_header::<Preamble>(&file))
                .map(|preamble| preamble.ready);
            if matches!(ready, Ok(REMOVED)) {
                self.finish_removal(&object.name)?;
            }
        }
        Ok(())
    }

    /// Frees the chunks of records that are gone.
    pub(super) fn sweep_attached_chunks(&self) -> Result<SweptChunks, OpenError> {
        let mut rings = Rings::open(self)?;
        let swept = self
            .segments
            .sweep_attached(|ring, position, chunk| rings.name_chunk(ring, position, chunk));
        rings.finish()?;
        Ok(swept)
    }

    /// Deletes removed rings in which no living participant has a seat, and frees their chunks. Until
    /// then views into them keep their bytes.
    pub(super) fn delete_removed_rings(&self) -> Result<u64, OpenError> {
        let mut deleted = 0;
        for file in self.ring_files()? {
            if !file.starts_with(REMOVED_PREFIX) {
                continue;
            }
            let opened = match self.open_for_sweep(&file) {
                Err(error) if error.is_of_another_build() => continue,
                opened => opened?,
            };
            let looked_at = match opened {
                Some((_, any)) => {
                    let looked_at = is_looked_at(&any.ring)
                        || any.queue.as_ref().is_some_and(OpenQueue::is_viewed);
                    if let Some(queue) = &any.queue
                        && !looked_at
                    {
                        remove_grown(&queue.site.directory, |chain| chain == queue.chain_id);
                    }
                    looked_at
                }
                None => false,
            };
            if !looked_at && file::remove(&self.site.directory.join(&file)).is_ok() {
                deleted += 1;
            }
        }
        if deleted > 0 {
            self.sweep_attached_chunks()?;
        }
        Ok(deleted)
    }

    /// The directories that rings of queues may lie in beside their first.
    pub(super) fn grown_directories(&self) -> impl Iterator<Item = PathBuf> {
        let own = self.site.directory.clone();
        core::iter::once(own).chain(spill_directory(&self.site))
    }

    fn remove_temporary_files(&self, slot: u16, generation: u64) -> u64 {
        let prefix = format!("{TEMPORARY}{slot}-{generation}-");
        let mut removed = 0;
        let others = [super::POOL, super::TOPICS].map(|name| self.directory.join(name));
        for directory in self.grown_directories().chain(others) {
            for name in file::names(&directory).unwrap_or_default() {
                if name.starts_with(&prefix) && file::remove(&directory.join(name)).is_ok() {
                    removed += 1;
                }
            }
        }
        removed
    }
}

/// Takes away the files of rings that certain queues grew by, by what these are named by; how many.
pub(super) fn remove_grown(directory: &Path, is_gone: impl Fn(u64) -> bool) -> u64 {
    let mut removed = 0;
    for name in file::names(directory).unwrap_or_default() {
        let is_theirs = grown_of(&name).is_some_and(|(chain, _)| is_gone(chain));
        if is_theirs && file::remove(&directory.join(name)).is_ok() {
            removed += 1;
        }
    }
    removed
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
