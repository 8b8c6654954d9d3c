//! Reaping: what a dead participant left, swept by anyone, in [rings](super::rings) that are opened for that.
//!
//! Order: claims, seats and producer words in every ring it noted, then the moves between queues that
//! it had begun, then its chunks (a claim that became VOID names no chunk any more; a committed record
//! keeps it), then its roles and temporary files, then whom it was reaping itself; last its entry
//! becomes FREE. Every step is idempotent, so a reaper that dies is simply followed by the next. An
//! object that can't be opened *now* (no descriptors left, say) is not "nothing there": the entry stays
//! REAPING and no chunk is freed. One thread of an attachment sweeps at a time.

use super::attachment::Attachment;
use super::rings::{OpenQueue, Rings, is_looked_at};
use super::{REMOVED_PREFIX, TEMPORARY, name};
use crate::error::OpenError;
use crate::layout::bus::ROLES;
use crate::layout::{Preamble, REMOVED};
use crate::pool::lend::SweptChunks;
use crate::queue::{grown_of, spill_directory};
use crate::ring::sweep::Swept;
use crate::stream;
use crate::sys::file;
use crate::trace::{event, span};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

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

impl Attachment {
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
