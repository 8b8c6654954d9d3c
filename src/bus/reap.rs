//! Reaping: what a dead participant left, swept by anyone.
//!
//! Order: claims, seats and producer words in every ring it noted, then its chunks (a claim that
//! became VOID names no chunk any more; a committed record keeps it), then its roles and temporary
//! files, then whom it was reaping itself; last its entry becomes FREE. Every step is idempotent,
//! so a reaper that dies is simply followed by the next.

use super::attachment::Attachment;
use super::{TEMPORARY, name};
use crate::channel::{self, RingFile};
use crate::layout::bus::ROLES;
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::Ctl;
use crate::pool::lend::SweptChunks;
use crate::ring::read::Look;
use crate::ring::sweep::Swept;
use crate::ring::{Liveness, SlotRing};
use crate::sync::Ordering;
use crate::sys::file;
use std::collections::HashMap;
use std::sync::Arc;

/// What one dead participant had left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    pub slot: u16,
    pub rings: Swept,
    pub chunks: SweptChunks,
    pub roles: u64,
    pub temporary_files: u64,
}

/// Rings opened for a sweep, by object id.
pub(super) struct Rings<'a> {
    attachment: &'a Attachment,
    by_id: Option<HashMap<u64, SlotRing>>,
}

impl<'a> Rings<'a> {
    pub fn new(attachment: &'a Attachment) -> Self {
        Self {
            attachment,
            by_id: None,
        }
    }

    fn open(&mut self) -> &HashMap<u64, SlotRing> {
        let attachment = self.attachment;
        self.by_id.get_or_insert_with(|| {
            let names = attachment.objects().unwrap_or_default();
            names
                .iter()
                .filter_map(|object| attachment.open_for_sweep(&object.name))
                .collect()
        })
    }

    /// Whether a committed record at `position` of ring `ring` names this chunk and version.
    pub fn name_chunk(&mut self, ring: u64, position: u64, chunk: ChunkRef) -> bool {
        let Some(ring) = self.open().get(&ring) else {
            return false;
        };
        let (slot, Look::Record(meta)) = ring.look(position) else {
            return false;
        };
        if meta.kind() != Meta::CHUNK {
            return false;
        }
        // Below `reclaim` the record is gone for the pool even if its bytes still stand there.
        if position < ring.memory().reclaim().load(Ordering::Acquire) {
            return false;
        }
        let mut bytes = [0u8; size_of::<ChunkRef>()];
        slot.read_body(&mut bytes);
        let named: ChunkRef = bytemuck::cast(bytes);
        (named.segment, named.chunk, named.version) == (chunk.segment, chunk.chunk, chunk.version)
            && ring.still(slot, position)
    }

    /// Every ring with the words of its slots, for a look at all of them.
    pub fn each(&mut self, mut look: impl FnMut(&SlotRing, Ctl)) {
        for ring in self.open().values() {
            for position in 0..ring.memory().geometry().slots() {
                look(
                    ring,
                    Ctl(ring.memory().slot(position).ctl().load(Ordering::Acquire)),
                );
            }
        }
    }

    /// The rings themselves.
    pub fn all(&mut self) -> impl Iterator<Item = &SlotRing> {
        self.open().values()
    }
}

impl Attachment {
    fn open_for_sweep(&self, name: &str) -> Option<(u64, SlotRing)> {
        let site = channel::Site {
            pre_touch: false,
            ..self.site.clone()
        };
        let RingFile {
            memory,
            definition,
            object_id,
            ..
        } = channel::open_ring(&site, name).ok()?;
        let ring = SlotRing::new(
            memory,
            Arc::clone(&self.liveness) as Arc<dyn Liveness>,
            self.membership.slot,
            definition.producers,
            definition.overflow,
            definition.stall_timeout.as_nanos() as u64,
        );
        Some((object_id, ring))
    }

    /// Reaps everybody who is dead.
    pub(super) fn reap_dead(&self) -> Vec<Reaped> {
        let mut reaped = Vec::new();
        for slot in self.registry.dead() {
            self.reap(slot, &mut reaped);
        }
        reaped
    }

    fn reap(&self, slot: u16, reaped: &mut Vec<Reaped>) {
        let me = self.membership.slot;
        let Some(generation) = self.registry.begin_reap(slot, me) else {
            return;
        };
        let mut found = Reaped {
            slot,
            ..Default::default()
        };
        let noted = self.registry.joined(slot);
        for object in self.objects().unwrap_or_default() {
            let noted_it = match &noted {
                Some(hashes) => hashes.contains(&name::hash(&object.name)),
                None => true,
            };
            if !noted_it {
                continue;
            }
            if let Some((_, ring)) = self.open_for_sweep(&object.name) {
                let swept = ring.sweep(slot);
                found.rings.claims += swept.claims;
                found.rings.readers += swept.readers;
                found.rings.producers += swept.producers;
            }
        }
        let mut rings = Rings::new(self);
        found.chunks = self.segments.sweep_owned(slot, |ring, position, chunk| {
            rings.name_chunk(ring, position, chunk)
        });
        for role in 0..ROLES {
            found.roles += u64::from(self.registry.release_role(role, slot));
        }
        found.temporary_files = self.remove_temporary_files(slot, generation);
        // Whom it was reaping: taken over before its own number becomes free.
        for orphan in self.registry.reaped_by(slot) {
            self.reap(orphan, reaped);
        }
        self.registry.end_reap(slot, me, generation);
        reaped.push(found);
    }

    fn remove_temporary_files(&self, slot: u16, generation: u64) -> u64 {
        let prefix = format!("{TEMPORARY}{slot}-{generation}-");
        let mut removed = 0;
        for directory in [
            self.site.directory.clone(),
            self.directory.join(super::POOL),
        ] {
            for name in file::names(&directory).unwrap_or_default() {
                if name.starts_with(&prefix) && std::fs::remove_file(directory.join(name)).is_ok() {
                    removed += 1;
                }
            }
        }
        removed
    }
}
