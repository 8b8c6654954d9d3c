//! Making a durable queue again from its journal: behind a restart of the machine, or when the
//! directory of its bus is gone.
//!
//! Whoever opens first does it, under a lock of the kernel that dies with its holder; the others wait
//! for it, or do it when he dies, or stands still for some seconds. The journal is read, nothing in it is changed but the footers that
//! say where an epoch ended; the ring is built in a file under a temporary name and gets its name when
//! it is whole. So a death in between leaves a temporary file, and doing it twice gives the same twice.
//!
//! What is left of the queue: its definition and its settings, its id, its keys; every message that was
//! acknowledged and not deleted, at its position, with its receive count; the deduplication ids of
//! the window. Leases are void. A message that was sent or deleted and not acknowledged may be there or
//! not.

use super::Since;
use super::definition::QueueDefinition;
use super::file::{Identity, Parts, create_as, definition_of, journal_directory};
use super::journals::{Told, has_journal, lock_journal};
use super::settings::restored_words;
use crate::error::{JournalError, OpenError};
use crate::journal::{Disk, Entry, Reading, Recovery};
use crate::layout::durable::{
    Durable, ENTRY_AGAIN, ENTRY_CONSUMED, ENTRY_ID, ENTRY_MESSAGE, ENTRY_MOVING, ENTRY_RECEIVED,
    ENTRY_SETTINGS, MARK_ID, MessageHead, POSITIONS, SETTINGS, SentId,
};
use crate::layout::geometry::Geometry;
use crate::layout::queue::{BLOCK_SLOTS, CLOCK_BASE_MS, MAGIC, QueueHeader, control};
use crate::layout::ring::{ChunkRef, Meta};
use crate::object::Site;
use crate::pool::lend::{Lender, Lent};
use crate::pool::segment::GrowFailure;
use crate::ring::delivery::Delivery;
use crate::ring::delivery::restore::Left;
use crate::ring::{Liveness, Overflow, Producers, SlotRing};
use crate::shm::words::word64;
use crate::sync::Ordering;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use crate::trace::{event, span};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Makes the queue `name` again; a queue that is there stays as it is. Blocks for the disk, and for
/// whoever is at it already.
///
/// # Errors
/// [`OpenError::NotFound`] when there is no journal, [`OpenError::Journal`] when it can't be read;
/// when the pool has no room for the bodies that lie there.
pub(crate) fn recover(site: &Site, name: &str, mut lender: Lender) -> Result<(), OpenError> {
    let path = site.directory.join(name);
    let directory = match journal_directory(site, name) {
        Some(directory) if has_journal(site, name)? => directory,
        _ => return Err(OpenError::NotFound { path }),
    };
    let told = Told::of(site, name);
    let Some(locked) = lock_journal(&directory, &path, &told)? else {
        return match files::is_regular(&path) {
            true => Ok(()),
            false => Err(OpenError::NotFound { path }),
        };
    };
    span!(DEBUG, "recover", queue = name);
    let mut read = match Read::journal(&directory, &path, name, |read, total| {
        told.note(&locked, read, total);
    }) {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(()),
        // By somebody who did not wait any longer; the journal moves on under what is read here.
        Err(_) if files::is_regular(&path) => return Ok(()),
        Err(error) => return Err(error),
    };
    let identity = Identity {
        object_id: read.header.preamble.object_id,
        group_key: read.header.group_key,
        dedup_key: read.header.dedup_key,
    };
    // In this participant's hands until the queue has its name: nobody knows yet who refers to them.
    let lent = read.lend_bodies(&mut lender, &path)?;
    let definition = &read.definition;
    let created = create_as(site, definition, Some(identity), |mapping, header| {
        read.build(mapping, header);
    });
    for lent in lent {
        match created {
            Ok(()) => lender.attach(lent),
            Err(_) => lender.put_back(lent),
        }
    }
    match created {
        // By somebody with another journal root.
        Err(OpenError::AlreadyExists { .. }) => Ok(()),
        created => {
            event!(
                DEBUG,
                "made again",
                queue = name,
                is_there = created.is_ok()
            );
            created
        }
    }
}

/// A chunk for `len` bytes of a body of the queue at `path`.
fn lend(lender: &mut Lender, len: usize, path: &Path) -> Result<Lent, OpenError> {
    loop {
        if let Some(lent) = lender.cached(len) {
            return Ok(lent);
        }
        if lender.refill(len) {
            continue;
        }
        lender.grow(len).map_err(|failure| match failure {
            GrowFailure::Quota { quota, .. } => OpenError::InvalidOption {
                option: "pool_bytes",
                given: quota.to_string(),
                rule: "more than that: the large bodies of a queue on disk lie in the pool of the bus, \
                       and there is no room for all of them; create the bus with a larger one"
                    .to_owned(),
            },
            GrowFailure::NoSpace(room) => OpenError::NoSpace {
                path: path.to_owned(),
                needed: room.needed,
                available: room.available,
            },
            GrowFailure::Damaged(path) => OpenError::Scribbled {
                path,
                what: "a segment of the payload pool is damaged",
            },
            GrowFailure::Io(error) => OpenError::io(path, error),
        })?;
    }
}

/// What a journal says.
struct Read {
    header: QueueHeader,
    definition: QueueDefinition,
    geometry: Geometry,
    settings: [Option<u64>; SETTINGS],
    /// By slot: one position beyond the last that is consumed.
    spent: Vec<u64>,
    /// By slot: the last message.
    messages: HashMap<usize, (u64, MessageHead, Vec<u8>)>,
    received: HashMap<u64, u16>,
    /// Object ids of the queues that messages may have gone to.
    moving: HashMap<u64, u64>,
    /// By position: the deduplication id of the message, and when it was sent.
    ids: HashMap<u64, ([u64; 2], u64)>,
    next: u64,
    epoch: u64,
    /// Whether bodies lie in the pool.
    has_bodies: bool,
}

/// Why an entry ends the reading.
struct Unreadable(OpenError);

impl From<JournalError> for Unreadable {
    fn from(error: JournalError) -> Self {
        Self(error.into())
    }
}

impl Read {
    /// What the journal in `directory` says; `None` when the queue is there by then.
    fn journal(
        directory: &Path,
        queue: &Path,
        name: &str,
        progress: impl Fn(u64, u64),
    ) -> Result<Option<Self>, OpenError> {
        let disk = Arc::new(Disk::open(directory)?);
        let recovery = Recovery::open(disk, None, false)?;
        // Whoever writes in a later epoch made the queue first: so none of the segments that were found
        // is written to, and to say where they end takes nothing away.
        if files::is_regular(queue) {
            return Ok(None);
        }
        let header: QueueHeader = bytemuck::pod_read_unaligned(recovery.definition());
        let scribbled = |what| OpenError::Scribbled {
            path: directory.to_owned(),
            what,
        };
        if header.preamble.magic != MAGIC {
            return Err(scribbled("the journal is none of a queue"));
        }
        if header.name.get(..header.name_bytes as usize) != Some(name.as_bytes()) {
            return Err(scribbled("the journal is of a queue of another name"));
        }
        let definition = definition_of(&header, name).map_err(scribbled)?;
        definition.check()?;
        let geometry = Geometry::new(definition.slots, definition.stride, 1)
            .ok_or_else(|| scribbled("the journal's definition has no geometry"))?;
        let mut read = Self {
            header,
            geometry,
            settings: [None; SETTINGS],
            spent: vec![0; geometry.slots() as usize],
            messages: HashMap::new(),
            received: HashMap::new(),
            moving: HashMap::new(),
            ids: HashMap::new(),
            next: 0,
            epoch: 0,
            has_bodies: false,
            definition,
        };
        let total = core::cell::Cell::new(0);
        let note = |read, of| {
            total.set(of);
            progress(read, of);
        };
        let reading = Reading {
            seal: true,
            progress: &note,
            ..Reading::default()
        };
        let found = recovery.read(&reading, |entry| {
            read.take(&entry)
                .ok_or_else(|| Unreadable(scribbled("an entry of the journal is not what it says")))
        });
        let found = found.map_err(|Unreadable(error)| error)?;
        progress(total.get(), total.get()); // what had not to be read, too
        (read.next, read.epoch) = (found.next, found.epoch);
        if Durable::new(read.epoch, read.next).is_none() || read.start() >= POSITIONS {
            return Err(scribbled("its positions or epochs have run out"));
        }
        Ok(Some(read))
    }

    /// Copies the bodies that do not lie in their slots into the pool; what stands in the slot then is what
    /// names the chunk.
    fn lend_bodies(&mut self, lender: &mut Lender, path: &Path) -> Result<Vec<Lent>, OpenError> {
        let id = self.header.preamble.object_id;
        let mut lent = Vec::new();
        for (position, head, bytes) in self.messages.values_mut() {
            if Meta(head.meta).kind() != Meta::CHUNK {
                continue;
            }
            let made = match lend(lender, bytes.len(), path) {
                Ok(made) => made,
                Err(error) => {
                    lent.into_iter().for_each(|lent| lender.put_back(lent));
                    return Err(error);
                }
            };
            lender.write(made, bytes);
            lender.address(made, id, *position);
            let reference = ChunkRef {
                segment: made.segment,
                chunk: made.chunk,
                version: made.version,
                len: bytes.len() as u64,
            };
            *bytes = bytemuck::bytes_of(&reference).to_vec();
            lent.push(made);
        }
        self.has_bodies = !lent.is_empty();
        Ok(lent)
    }

    /// The first position that nobody can have claimed.
    fn start(&self) -> u64 {
        // A block of slots: the oldest, from which on those that are due are offered, stand behind it.
        (self.next + self.geometry.slots()).next_multiple_of(BLOCK_SLOTS)
    }

    /// Takes an entry in. `None` when it is none.
    fn take(&mut self, entry: &Entry<'_>) -> Option<()> {
        let value = || Some(u64::from_le_bytes(entry.bytes.try_into().ok()?));
        match entry.kind {
            ENTRY_MESSAGE | ENTRY_AGAIN => self.take_message(entry.position, entry.bytes)?,
            ENTRY_CONSUMED => {
                let bits = value()?;
                for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
                    let position = entry.position.checked_add(bit)?;
                    let slot = self.geometry.slot_of(position);
                    self.spent[slot] = self.spent[slot].max(position.saturating_add(1));
                    if self
                        .messages
                        .get(&slot)
                        .is_some_and(|found| found.0 <= position)
                    {
                        self.messages.remove(&slot);
                    }
                }
            }
            ENTRY_RECEIVED => {
                let count = u16::try_from(value()?).ok()?;
                let known = self.received.entry(entry.position).or_default();
                *known = count.max(*known);
            }
            ENTRY_MOVING => {
                self.moving.insert(entry.position, value()?);
            }
            ENTRY_ID => {
                let sent: SentId = bytemuck::try_pod_read_unaligned(entry.bytes).ok()?;
                self.ids.insert(entry.position, (sent.id, sent.sent_ms));
            }
            ENTRY_SETTINGS => {
                let value = value()?;
                let place = usize::try_from(entry.position).ok()?;
                *self.settings.get_mut(place)? = Some(value);
            }
            // A gap; or of a later version, and not needed.
            _ => {}
        }
        Some(())
    }

    fn take_message(&mut self, position: u64, bytes: &[u8]) -> Option<()> {
        let (head, body) = bytes.split_at_checked(size_of::<MessageHead>())?;
        let head: MessageHead = bytemuck::pod_read_unaligned(head);
        if head.marks & MARK_ID != 0 {
            self.ids.insert(position, (head.id, head.sent_ms));
        }
        let slot = self.geometry.slot_of(position);
        let is_later = self
            .messages
            .get(&slot)
            .is_none_or(|found| found.0 <= position);
        if is_later && self.spent[slot] <= position {
            self.messages.insert(slot, (position, head, body.to_vec()));
        }
        Some(())
    }

    /// Stores what is left into a file that was just laid out with `header`.
    fn build(&self, mapping: &Arc<Mapping>, header: &QueueHeader) {
        let parts = Parts::of(mapping, header, &self.definition).expect("laid out just now");
        let ring = SlotRing::new(
            parts.memory.clone(),
            Arc::new(Nobody),
            0,
            Producers::Shared,
            Overflow::Refuse,
            0,
        );
        let epoch_ms = header.epoch_ms.wrapping_sub(header.clock_base_ms);
        let durable = parts.durable.expect("it is on disk");
        let queue = Delivery::new(ring, parts.words, Arc::new(Since(epoch_ms)));
        let queue = match &parts.dedup {
            Some(dedup) => queue.with_dedup(dedup.clone()),
            None => queue,
        };
        let queue = queue.with_durable(durable);

        for (place, value) in restored_words(&self.settings) {
            let word = word64(mapping, control::RETENTION + 8 * place);
            word.store(value, Ordering::Relaxed); // the name of the file publishes it
        }
        if self.has_bodies {
            let payloads = queue.ring().memory().payloads();
            payloads.store(1, Ordering::Relaxed);
        }
        let now = queue.now_ms();
        let unix_base = header.preamble.created_ms.wrapping_sub(CLOCK_BASE_MS);
        // What was sent before the clock began is older than any retention.
        let at = |unix_ms: u64| unix_ms.saturating_sub(unix_base).min(now);
        let start = self.start();
        queue
            .restore_empty(start, Durable::new(self.epoch, self.next).expect("checked"))
            .expect("it is on disk");
        let mut left: Vec<_> = self.messages.values().collect();
        left.sort_by_key(|(position, ..)| *position);
        let mut positions = Vec::with_capacity(left.len());
        for (position, head, bytes) in left {
            let visible = head.visible_ms.saturating_sub(unix_base).max(now);
            let message = Left {
                position: *position,
                receives: self.received.get(position).copied().unwrap_or(0),
                sent: at(head.sent_ms),
                visible: visible.min(now + u64::from(crate::layout::queue::MAX_DELAY_MS)),
                route: (self.moving.get(position)).and_then(|id| queue.route_to(*id)),
                head,
                bytes,
            };
            if queue.restore_message(start, &message) {
                positions.push(*position);
            }
        }
        if queue.is_fifo() {
            queue.restore_links(positions.into_iter());
        }
        if let Some(dedup) = queue.dedup() {
            self.restore_ids(dedup, now, at);
        }
    }

    fn restore_ids(
        &self,
        dedup: &crate::ring::delivery::dedup::Dedup,
        now: u64,
        at: impl Fn(u64) -> u64,
    ) {
        for (position, (id, sent_ms)) in &self.ids {
            let expiry = at(*sent_ms) + dedup.window_ms();
            if expiry > now {
                // The table had room for all of them.
                dedup.restore(*id, *position, expiry);
            }
        }
    }
}

/// Nobody else is in a file that has no name yet.
struct Nobody;

impl Liveness for Nobody {
    fn is_dead(&self, _owner: u16) -> bool {
        true
    }
}
