//! Making a stream on disk again from its journals: behind a restart of the machine, or when the directory
//! of its bus is gone.
//!
//! Whoever opens first does it, under a lock of the kernel that dies with its holder; the others wait for
//! it, or do it when he dies, or stands still for some seconds. The journals are read, and nothing in them
//! is changed but the footers that say where an epoch ended. Rings are built, empty, and then the control
//! file, which gets its name when it is whole. So a death in between leaves rings of a stream that is not
//! there, which the next one takes as they are: it would build the same.
//!
//! What is left: the definition, the shards with lineage and ranges, the groups, checkpoints with their
//! tokens, the retention, and in the journals every record that was acknowledged and is not older than
//! that. Records are not brought back into memory: they are read where they lie. Leases are void. So it
//! takes as long as reading the last segment of each shard takes, whatever the stream has.

use super::definition::StreamDefinition;
use super::file::{Identity, create_control, definition_of, journal_directory, shard_file};
use super::log::{newest_of, object_of};
use super::words;
use crate::channel;
use crate::error::{JournalError, OpenError};
use crate::journal::{Disk, Entry, Reading, Recovery, SegmentId, SegmentInfo};
use crate::layout::durable::{Durable, POSITIONS};
use crate::layout::journal::BLOCKS_OFFSET;
use crate::layout::stream::{
    ENTRY_CHECKPOINT, ENTRY_NEWEST, ENTRY_TABLE, GROUPS, KeptCheckpoint, KeptGroup, MAGIC, SHARDS,
    STANDING, ShardEntry, StreamHeader, TableHead,
};
use crate::layout::word::{Checkpoint, Lease, Shard};
use crate::object::Site;
use crate::persist::directory::{has_parts, is_journal, lock_journal, part_name, remove_locked};
use crate::ring::{Liveness, SlotRing};
use crate::shm::durable::DurableWords;
use crate::shm::ring::RingMemory;
use crate::sync::Ordering;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What a token rises by: more than leases change hands between two flushes.
const TOKENS: u64 = 1 << 12;

/// Makes the stream `name` again; one that is there stays as it is. Blocks for the disk, and for whoever
/// is at it already.
///
/// # Errors
/// [`OpenError::NotFound`] when there is no journal, [`OpenError::Journal`] when one can't be read;
/// [`OpenError::Removed`] when it was removed meanwhile: then the caller removes what was made.
pub(crate) fn recover(site: &Site, name: &str) -> Result<(), OpenError> {
    let path = site.directory.join(name);
    let directory = match journal_directory(site, name) {
        Some(directory) if is_journal(&directory)? => directory,
        _ => return Err(OpenError::NotFound { path }),
    };
    let Some(locked) = lock_journal(&directory, &path, |_, _| ())? else {
        return match files::is_regular(&path) {
            true => Ok(()),
            false => Err(OpenError::NotFound { path }),
        };
    };
    let disk = Arc::new(Disk::open(&directory)?);
    let kept = match Kept::read(&disk, &path, name) {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(()),
        // By somebody who did not wait any longer; the journal moves on under what is read here.
        Err(_) if files::is_regular(&path) => return Ok(()),
        // Of a stream that never was: who makes it begins anew.
        Err(error @ OpenError::NotFound { .. }) => {
            remove_locked(&directory, &locked, |_| files::is_gone(&path))?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    match kept.build(site, &directory) {
        Err(OpenError::AlreadyExists { .. }) => Ok(()),
        Err(_) if files::is_regular(&path) => Ok(()),
        Err(error) => Err(error),
        // Asked behind the name: who removes moves the journals first, and looks for the name behind that.
        Ok(()) => match disk.is_in_place() {
            Ok(true) => Ok(()),
            Ok(false) => Err(OpenError::Removed { path }),
            Err(error) => Err(OpenError::io(&directory, error)),
        },
    }
}

/// What the journal of the table says.
struct Kept {
    header: StreamHeader,
    definition: StreamDefinition,
    head: TableHead,
    shards: Vec<ShardEntry>,
    groups: Vec<KeptGroup>,
    /// By group and shard.
    checkpoints: HashMap<(u32, u32), u64>,
    durable: Durable,
}

/// What the journal of a shard says, besides its records.
#[derive(Default)]
struct KeptShard {
    next: u64,
    epoch: u64,
    newest_ms: u64,
    checkpoints: [u64; GROUPS as usize],
}

/// Why an entry ends the reading.
struct Unreadable(OpenError);

impl From<JournalError> for Unreadable {
    fn from(error: JournalError) -> Self {
        Self(error.into())
    }
}

fn scribbled(path: &Path, what: &'static str) -> OpenError {
    OpenError::Scribbled {
        path: path.to_owned(),
        what,
    }
}

impl Kept {
    /// What the journal of the table says; `None` when the stream is there by then.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when no table was ever written, and no shard was ever written to.
    fn read(disk: &Arc<Disk>, stream: &Path, name: &str) -> Result<Option<Self>, OpenError> {
        let directory = disk.directory();
        let recovery = Recovery::open(Arc::clone(disk), None, false)?;
        // Whoever writes in a later epoch made the stream first: so none of the segments that were found
        // is written to, and to say where they end takes nothing away.
        if files::is_regular(stream) {
            return Ok(None);
        }
        let header: StreamHeader = bytemuck::pod_read_unaligned(recovery.definition());
        if header.preamble.magic != MAGIC {
            return Err(scribbled(directory, "the journal is none of a stream"));
        }
        if header.name.get(..header.name_bytes as usize) != Some(name.as_bytes()) {
            return Err(scribbled(
                directory,
                "the journal is of a stream of another name",
            ));
        }
        let definition = definition_of(&header, name).map_err(|what| scribbled(directory, what))?;
        definition.check()?;
        let mut table = None;
        let reading = Reading {
            seal: true,
            ..Reading::default()
        };
        let found = recovery.read(&reading, |entry: Entry<'_>| {
            if entry.kind == ENTRY_TABLE {
                table = Some(entry.bytes.to_vec());
            }
            Ok::<_, Unreadable>(())
        });
        let found = found.map_err(|Unreadable(error)| error)?;
        let durable = Durable::new(found.epoch, found.next);
        let (Some(table), Some(durable)) = (table, durable) else {
            // Its first table is on disk before a create returns. Where none ever was, the create did not.
            let is_begun = (found.entries, found.next) != (0, 0) && has_parts(directory)?;
            let path = stream.to_owned();
            return Err(match is_begun {
                false => OpenError::NotFound { path },
                true => scribbled(directory, "its journal has no table"),
            });
        };
        let mut kept = Self::parse(&table, header, definition, durable)
            .ok_or_else(|| scribbled(directory, "its table is not what it says"))?;
        kept.settle();
        if !kept.covers_every_key() {
            let what = "the shards in its table do not cover every hash key once";
            return Err(scribbled(directory, what));
        }
        Ok(Some(kept))
    }

    fn parse(
        bytes: &[u8],
        header: StreamHeader,
        definition: StreamDefinition,
        durable: Durable,
    ) -> Option<Self> {
        fn split<T: bytemuck::AnyBitPattern>(bytes: &[u8], count: u64) -> Option<(Vec<T>, &[u8])> {
            let len = usize::try_from(count).ok()?.checked_mul(size_of::<T>())?;
            let (front, rest) = bytes.split_at_checked(len)?;
            let parts = front.chunks_exact(size_of::<T>());
            Some((parts.map(bytemuck::pod_read_unaligned).collect(), rest))
        }
        let (head, rest) = split::<TableHead>(bytes, 1)?;
        let head = *head.first()?;
        if head.shards > SHARDS || head.shards == 0 || head.groups > GROUPS.into() {
            return None;
        }
        let (shards, rest) = split(rest, head.shards)?;
        let (groups, rest) = split(rest, head.groups)?;
        let (checkpoints, _) = split::<KeptCheckpoint>(rest, head.checkpoints)?;
        let checkpoints = checkpoints.into_iter();
        let checkpoints = checkpoints.map(|kept| ((kept.group, kept.shard), kept.word));
        Some(Self {
            header,
            definition,
            head,
            shards,
            groups,
            checkpoints: checkpoints.collect(),
            durable,
        })
    }

    /// A table that was written in the middle of a change shows new shards beside those they replace: nobody
    /// was told of either, and it is taken for done. Or it shows those closed that nothing has replaced, where
    /// whoever wrote it down had counted before: then it is taken for not begun.
    fn settle(&mut self) {
        let replaced: HashSet<u32> = self
            .shards
            .iter()
            .filter(|shard| Shard(shard.word).state() != Shard::NONE)
            .flat_map(|shard| shard.parents)
            .collect();
        for (number, shard) in (0..).zip(&mut self.shards) {
            match Shard(shard.word).state() {
                Shard::OPEN if replaced.contains(&number) => {
                    shard.word = Shard::at(Shard::CLOSED).0;
                    shard.closed_at = u64::MAX;
                }
                Shard::CLOSED if !replaced.contains(&number) => {
                    shard.word = Shard::at(Shard::OPEN).0;
                }
                _ => {}
            }
        }
    }

    /// Whether the shards that take records have every hash key, and each once.
    fn covers_every_key(&self) -> bool {
        let is_open = |shard: &&ShardEntry| Shard(shard.word).state() == Shard::OPEN;
        let open = self.shards.iter().filter(is_open);
        let mut ranges: Vec<_> = open.map(ShardEntry::keys).collect();
        ranges.sort_unstable();
        let mut next = Some(0);
        for (start, end) in ranges {
            if next != Some(start) || end < start {
                return false;
            }
            next = end.checked_add(1);
        }
        next.is_none()
    }

    fn build(mut self, site: &Site, directory: &Path) -> Result<(), OpenError> {
        for number in 0..self.shards.len() as u32 {
            let entry = self.shards[number as usize];
            let state = Shard(entry.word).state();
            if !matches!(state, Shard::OPEN | Shard::CLOSED) {
                continue;
            }
            let at = directory.join(part_name(self.header.family, number));
            let kept = KeptShard::read(&at, object_of(self.header.family, number))?;
            let is_closed = state == Shard::CLOSED;
            if is_closed {
                // What was put behind it was never acknowledged.
                let closed_at = &mut self.shards[number as usize].closed_at;
                *closed_at = kept.next.min(*closed_at);
            }
            self.build_ring(site, number, &kept, is_closed)?;
        }
        let identity = Identity {
            family: self.header.family,
            created_ms: Some(self.header.preamble.created_ms),
        };
        create_control(site, &self.definition, identity, |mapping| {
            self.fill(mapping);
        })
    }

    /// The ring of a shard: empty, beginning where nobody can have claimed; one that is closed ends where
    /// its journal does.
    fn build_ring(
        &self,
        site: &Site,
        number: u32,
        kept: &KeptShard,
        is_closed: bool,
    ) -> Result<(), OpenError> {
        let slots = self.definition.slots;
        let first = match (is_closed, kept.epoch) {
            (true, _) => kept.next.min(self.shards[number as usize].closed_at),
            (false, 0) => 0,
            (false, _) => (kept.next + slots).next_multiple_of(slots),
        };
        let name = shard_file(self.header.family, number);
        let durable = Durable::new(kept.epoch, if is_closed { first } else { kept.next });
        let durable = durable.filter(|_| first < POSITIONS);
        let durable = durable.ok_or_else(|| {
            let what = "positions or epochs of a shard have run out";
            scribbled(&site.directory.join(&name), what)
        })?;
        let ring = self.definition.ring(&name);
        let fill = |mapping: &Arc<Mapping>, memory: &RingMemory| {
            let ring = SlotRing::new(
                memory.clone(),
                Arc::new(Nobody),
                0,
                ring.producers,
                ring.overflow,
                0,
            );
            ring.restore_empty(first, is_closed);
            if let Some(words) = DurableWords::without_bits(Arc::clone(mapping)) {
                words.durable().store(durable.0, Ordering::Relaxed); // the name publishes it
            }
            newest_of(mapping).store(kept.newest_ms, Ordering::Relaxed); // as above
            for group in 0..self.groups.len() as u32 {
                let word = self.checkpoint_of(group, number, kept);
                if let Some(word) = word {
                    let at = super::lease::place_in(memory, group);
                    let token = word.0 >> CHECKPOINT_TOKEN_SHIFT;
                    at.checkpoint.store(word.0, Ordering::Relaxed); // as above
                    let lease = Lease::new(Lease::FREE, 0, token + TOKENS);
                    at.lease.store(lease.0, Ordering::Relaxed); // as above
                }
            }
        };
        match channel::create_filled_ring(site, &self.definition.ring(&name), STANDING, fill) {
            // By somebody who died before the control file, from the same journal.
            Err(OpenError::AlreadyExists { .. }) => Ok(()),
            created => created,
        }
    }

    /// Where a group stands in a shard: as the shard's journal says, or as it stood when the table was
    /// written; with the higher token, and of those the later.
    fn checkpoint_of(&self, group: u32, shard: u32, kept: &KeptShard) -> Option<Checkpoint> {
        let by_table = self.checkpoints.get(&(group, shard)).copied();
        let by_shard = kept.checkpoints[group as usize];
        let word = by_table.unwrap_or(0).max(by_shard);
        let word = (word != 0).then_some(Checkpoint(word))?;
        // What was handed out and not on disk is put again by whoever was not told that it is.
        let position = word.position(kept.next).min(kept.next);
        Some(Checkpoint::new(word.0 >> CHECKPOINT_TOKEN_SHIFT, position))
    }

    fn fill(&self, mapping: &Mapping) {
        let words = words::Filling(mapping);
        words.retention(self.head.retention_ms, self.head.retention_bytes);
        for (number, shard) in (0..).zip(&self.shards) {
            words.shard(number, shard);
        }
        words.count(self.head.shards);
        for (number, group) in (0..).zip(&self.groups) {
            words.group(number, group);
        }
        words.durable(self.durable);
    }
}

/// Where the token of a checkpoint word begins.
const CHECKPOINT_TOKEN_SHIFT: u32 = 38;

impl KeptShard {
    fn read(directory: &Path, object: u64) -> Result<Self, OpenError> {
        let mut kept = Self::default();
        if !is_journal(directory)? {
            return Ok(kept);
        }
        let disk = Arc::new(Disk::open(directory)?);
        let recovery = Recovery::open(disk, Some(object), false)?;
        let segments: Vec<SegmentInfo> = recovery.segments().cloned().collect();
        // Every segment says what is needed once it has a flush; the last ones may have none.
        let mut wanted = 2;
        loop {
            let from = nth_from_the_end(&segments, wanted);
            let mut has_state = false;
            let reading = Reading {
                seal: true,
                needed: &|info| Some(info.id) >= from,
                ..Reading::default()
            };
            let found = recovery.read(&reading, |entry: Entry<'_>| {
                has_state |= kept.take(&entry);
                Ok::<_, Unreadable>(())
            });
            let found = found.map_err(|Unreadable(error)| error)?;
            (kept.next, kept.epoch) = (found.next, found.epoch);
            if has_state || from.is_none() {
                return Ok(kept);
            }
            wanted *= 4;
        }
    }

    /// Takes an entry in; whether it is a state.
    fn take(&mut self, entry: &Entry<'_>) -> bool {
        let value = || entry.bytes.try_into().map_or(0, u64::from_le_bytes);
        match entry.kind {
            ENTRY_NEWEST => {
                self.newest_ms = self.newest_ms.max(value());
                true
            }
            ENTRY_CHECKPOINT => {
                let group = usize::try_from(entry.position).unwrap_or(usize::MAX);
                if let Some(word) = self.checkpoints.get_mut(group) {
                    *word = value();
                }
                false
            }
            _ => {
                self.newest_ms = self.newest_ms.max(super::log::arrival_of(entry.bytes));
                false
            }
        }
    }
}

/// The `wanted`th last segment that has blocks and ended; `None` when there are not as many.
fn nth_from_the_end(segments: &[SegmentInfo], wanted: usize) -> Option<SegmentId> {
    let has_blocks = |info: &&SegmentInfo| info.sealed.is_some_and(|(end, _)| end > BLOCKS_OFFSET);
    let ended = segments.iter().filter(has_blocks);
    ended.rev().nth(wanted - 1).map(|info| info.id)
}

/// Nobody has left anything in what is made just now.
struct Nobody;

impl Liveness for Nobody {
    fn is_dead(&self, _: u16) -> bool {
        true
    }
}
