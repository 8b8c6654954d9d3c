//! The further rings of a queue that is on disk: how its journal learns of them, and how they go.
//!
//! A durable queue grows as one in memory does ([`super::grow`]): its rings are derived, and what counts is
//! the journal, from which they are made again ([`super::recover`]). Positions are the queue's, so one word says
//! how far it is on disk, whichever ring that is in. Everything here is done by whoever writes.
//!
//! # States of a further ring
//! ```text
//! published   in the directory, and nobody claims in it: durable D is below its first position F
//! adopted     RING is on disk, D is at or above F: positions below D + slots are claimed
//! drained     sealed, D is beyond it, and nothing is left in it
//! gone        DRAINED is on disk, and then its file is unlinked
//! ```
//! - *published → adopted*: the writer comes to the seal of the ring before. In one flush it takes the changed bits
//!   of the new ring into its epoch (there are none), and writes RING and a gap up to F; D goes from the seal to F
//!   by the CAS behind that flush. So the journal tells of a ring before it has any of its messages, and whoever makes the
//!   queue again knows that nobody has claimed at or above max(D, F of the last RING) + the slots of that ring.
//! - *adopted → drained → gone*: the writer sees that nothing is left, which stays so, and says so for all positions of
//!   the ring at once; the file goes behind that flush. A consumer that is stopped between its DONE and its
//!   bit sets the bit in a file that has no name any more, and waits for a flush that is behind DRAINED.
//!   Receivers leave a drained ring, and take none away: the bits of its last deletes may not be on disk.
//!
//! # What each crash point leaves
//! - behind the publication: a ring in which nothing is; the next writer adopts it.
//! - behind the write of RING, before the CAS: the same; the next writer says it again. If everything is made again then,
//!   the ring is there, and empty.
//! - behind DRAINED, before the unlink: a ring that is found drained again.
//! - a segment is given back with the RING it has: all that are left are said again by the first flush that
//!   begins in a segment, and no segment is given back before. With the DRAINED it has, too, on a full disk before
//!   those that have the messages: a ring in front of one that is said to be left, and that is not, is drained.
//! - all of it: the files of rings go with the bus, or are swept when the queue is made again
//!   ([`super::spill`]).
//!
//! *A writer that was displaced* takes no changed bits of a later writer's epoch, in any ring: all of them are looked at
//! once an epoch, and a ring is adopted in an epoch before anything can be consumed in it.

use super::Inner;
use super::chain::{Link, ring_at};
use super::persist::Kept;
use crate::error::JournalError;
use crate::layout::durable::{ENTRY_DRAINED, ENTRY_RING, RingEntry};
use crate::persist::push;
use crate::ring::persister::Writing;
use std::sync::Arc;

/// Blocks of slots between two steps that are told to those who wait: a take-over looks at all there are, and a ring
/// of 2^24 slots has 262,144.
const STEP_BLOCKS: u32 = 1024;
/// Slots that one flush looks at for rings that are drained: about a millisecond of them.
const DRAIN_SLOTS: u64 = 1 << 18;

/// Where a writer comes to at a seal.
pub(super) enum Beyond {
    /// The next ring, which is adopted with this flush.
    Ring(Arc<Link>),
    /// There is none yet.
    Nothing,
    /// Somebody else writes.
    Displaced,
}

impl Inner {
    /// The rings there are, for whoever writes: all in which anything can have been consumed. Behind the
    /// fence of a flush.
    pub(super) fn rings_to_write(&self) -> Result<Arc<[Arc<Link>]>, JournalError> {
        if !self.chain.is_behind(&self.delivery) {
            return Ok(self.chain.links());
        }
        self.list_rings()
    }

    fn list_rings(&self) -> Result<Arc<[Arc<Link>]>, JournalError> {
        self.chain
            .refresh(&self.site)
            .map_err(|error| JournalError::Io {
                path: self.site.directory.clone(),
                what: "listing the rings of a queue",
                source: std::io::Error::other(error.to_string()),
            })
    }

    /// Of the rings that are adopted, those that a writer looks at for what changed. `false` when somebody else
    /// writes.
    pub(super) fn take_changed(
        &self,
        links: &[Arc<Link>],
        writing: &Writing,
        from: u64,
        mut show: impl FnMut(&Link, u64),
    ) -> bool {
        let mut blocks = 0_u32;
        Self::adopted(links, from).all(|link| {
            self.note_step(false);
            link.take_changed(writing, |block| {
                blocks += 1;
                if blocks.is_multiple_of(STEP_BLOCKS) {
                    self.note_step(false);
                }
                show(link, block);
            })
        })
    }

    /// Of these rings, those of which the journal knows, when it reaches up to `durable`.
    pub(super) fn adopted(links: &[Arc<Link>], durable: u64) -> impl Iterator<Item = &Arc<Link>> {
        links.iter().filter(move |link| is_adopted(link, durable))
    }

    /// Says which rings are left, in the first flush that begins in a segment. Of a queue that may have several.
    pub(super) fn write_rings(
        &self,
        kept: &mut Kept,
        links: &[Arc<Link>],
        from: u64,
    ) -> Result<(), JournalError> {
        if !self.may_grow() && links.len() == 1 {
            return Ok(());
        }
        let is_left = |link: &&Arc<Link>| is_adopted(link, from) && !link.is_retired();
        let adopted: Vec<_> = links.iter().filter(is_left).collect();
        let mut before = 0;
        for (place, link) in adopted.iter().enumerate() {
            let following = adopted.len() - place - 1;
            push_ring(kept, link, before, following)?;
            before = link.sealed().unwrap_or(0);
        }
        Ok(())
    }

    /// At the seal of `link`: on to the next ring, of which the journal is told with this flush.
    pub(super) fn adopt_next(
        &self,
        kept: &mut Kept,
        writing: &Writing,
        link: &Link,
    ) -> Result<Beyond, JournalError> {
        let behind = |links: &[Arc<Link>]| {
            let next = links.iter().find(|next| next.number > link.number);
            next.map(Arc::clone)
        };
        let mut next = behind(&self.chain.links());
        // One that appears under the reading of a directory may be missed, and then be followed by
        // another: none is passed over but one that is damaged.
        let is_next = |next: &Arc<Link>| next.number == link.number + 1;
        let is_behind = self.chain.is_behind(&self.delivery);
        if next.as_ref().map_or(is_behind, |next| !is_next(next)) {
            next = behind(&self.list_rings()?);
        }
        let Some(next) = next else {
            return Ok(Beyond::Nothing);
        };
        if !next.take_changed(writing, |_| ()) {
            return Ok(Beyond::Displaced);
        }
        let before = link.sealed().unwrap_or_else(|| next.first_position());
        push_ring(kept, &next, before, 0)?;
        if self.definition.spill && link.number > 0 {
            link.delivery.ring().memory().release_pages();
        }
        Ok(Beyond::Ring(next))
    }

    /// Says of rings that nothing is left in them; which, for [`Self::take_away`] behind the flush.
    pub(super) fn write_drained(
        &self,
        kept: &mut Kept,
        links: &[Arc<Link>],
        from: u64,
    ) -> Result<Vec<Arc<Link>>, JournalError> {
        let mut drained = Vec::new();
        let (mut budget, now) = (DRAIN_SLOTS, self.now_ms());
        for pair in links.windows(2) {
            let (link, next) = (&pair[0], &pair[1]);
            let may_be = link.number > 0 && is_adopted(next, from) && link.is_touched();
            if !may_be || budget == 0 {
                continue;
            }
            if link.is_drained_within(&mut budget, now) {
                let number = u64::from(link.number).to_le_bytes();
                push(
                    &mut kept.writer,
                    ENTRY_DRAINED,
                    link.first_position(),
                    &[&number],
                )?;
                drained.push(Arc::clone(link));
            }
        }
        Ok(drained)
    }

    /// Takes away rings of which the disk knows that nothing is left in them.
    pub(super) fn take_away(&self, drained: &[Arc<Link>]) {
        if drained.iter().filter(|link| link.retire()).count() > 0 {
            // Where it can't be read now, those that are gone are met as such.
            let _ = self.chain.refresh(&self.site);
        }
    }

    /// The ring that a writer at `position` is in.
    pub(super) fn ring_to_write(links: &[Arc<Link>], position: u64) -> Arc<Link> {
        Arc::clone(ring_at(links, position))
    }

    /// The first position that was not taken, as seen now, in the last ring that is known.
    pub(super) fn tail(&self) -> u64 {
        self.last_ring().delivery.ring().tail_now()
    }

    /// Whether there is something to be written at `position`, up to which everything is on disk: a message, or a
    /// ring behind a seal.
    pub(super) fn is_to_be_written(&self, position: u64) -> bool {
        let links = self.chain.links();
        let link = ring_at(&links, position);
        if !link.delivery.is_written(position) {
            return false;
        }
        match link.sealed() {
            Some(seal) if position >= seal => {
                self.has_grown();
                self.chain.last() > link.number
            }
            _ => true,
        }
    }
}

/// Whether messages may have been claimed in it, by somebody to whom everything below `durable` is on disk.
fn is_adopted(link: &Link, durable: u64) -> bool {
    link.number == 0 || link.first_position() <= durable
}

fn push_ring(
    kept: &mut Kept,
    link: &Link,
    before: u64,
    following: usize,
) -> Result<(), JournalError> {
    let slots = link.delivery.ring().memory().geometry().slots();
    let entry = RingEntry {
        before,
        number: link.number,
        slots_log2: slots.trailing_zeros() as u16,
        following: following as u16, // MAX_RINGS at most
    };
    let bytes = [bytemuck::bytes_of(&entry)];
    push(&mut kept.writer, ENTRY_RING, link.first_position(), &bytes)
}
