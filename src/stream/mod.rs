//! L5: streams (the Kinesis model): ordered sets of shards, each a ring of its own.
//!
//! ```text
//! put  key → MD5 → hash key → the open shard whose range holds it → its ring       put batch aggregate
//! read shard by shard, or all of them, parents before children                     read  iterator
//! consumers: registered by name, each with cursors of its own                      consumer subscription
//! group: leases, checkpoints with fencing tokens, workers that come and go         group worker lease
//! change: split, merge, groups: one at a time, anybody goes on with it             change reshard
//! by load: who puts counts, whoever is first in a window looks and decides          demand
//! ```
//! What a shard, its states and a change are, and what each crash point leaves, stands in
//! docs/decisions/0031 and 0032; leases and checkpoints in 0033. In memory a shard keeps as many records as
//! it has slots, and what a group or a reliable reader has not read yet holds its producers back. On disk
//! ([`store`], docs/decisions/0040) it keeps them as long as its retention says, and holds nobody back.

mod aggregate;
mod batch;
mod behind;
mod change;
mod checkpoint;
mod consumer;
mod copy;
mod definition;
mod demand;
mod file;
mod group;
mod guard;
mod hash;
mod journals;
mod lag;
mod late;
mod lease;
mod limit;
mod log;
mod number;
mod passage;
mod put;
mod read;
mod record;
mod recover;
mod reshard;
mod retention;
mod share;
mod store;
mod subscription;
mod sweep;
mod table;
mod tail;
mod tap;
mod turn;
mod words;
mod worker;

pub use aggregate::{AggregatingProducer, Aggregation, Flushed};
pub use consumer::{Consumer, ConsumerInfo, ConsumerPolicy};
pub use definition::{
    Backpressure, MAX_RECORD_BYTES, OnDemand, Retention, ShardLimits, StreamDefinition,
};
pub use demand::{Scaled, Scaling};
pub(crate) use file::{
    StreamFile, create as create_stream, examine, family_of, open as open_stream, shard_of,
};
pub use group::{Group, GroupInfo, GroupShard, GroupStart};
pub use hash::hash_key_of;
pub(crate) use journals::{
    check_journal as check_stream_journal, family_in_journals, has_journal as has_stream_journal,
    journals, owns_journals,
};
pub use number::{NumberError, SequenceNumber};
pub use put::{Put, PutRecord, StreamProducer};
pub use read::{StreamIterator, StreamReader, StreamReaderBuilder};
pub use record::{OwnedRecord, StreamRecord};
pub(crate) use recover::recover as recover_stream;
pub use subscription::{ConsumerEvent, ConsumerSubscription};
pub(crate) use sweep::sweep_dead;
pub use table::{ShardInfo, ShardState};
pub use tail::StreamTail;
pub use worker::{GroupWorker, LeaseInfo};

use crate::channel::{self, Channel};
use crate::error::{OpenError, ReshardError, ShardId};
use crate::layout::stream::STANDING;
use crate::layout::word::Shard;
use crate::layout::{READY_OFFSET, REMOVED};
use crate::object::{Host, Site};
use crate::pool::segment::Segments;
use crate::ring::{Liveness, SlotRing};
use crate::shm::words::word32;
use crate::sync::Ordering;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::Table;
use words::StreamWords;

/// What a stream needs of the attachment it was opened through, besides a [`Host`].
pub(crate) trait Home: Host {
    /// Notes that this participant may leave something in the file of that name.
    fn note_joined(&self, file_name: &str);
    /// Marks the file of a ring removed and takes its name away.
    fn remove_ring(&self, file_name: &str) -> Result<(), OpenError>;
}

/// A stream of a bus, open in this process.
///
/// Cheap to clone; thread-safe. After a fork every call in the child returns `Forked`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-stream-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// use ringway::StreamIterator;
/// use std::time::Duration;
/// let trucks = bus.stream("trucks").shards(5).open_or_create()?;
/// let put = trucks.producer()?.put("truck-7", b"52.5,13.4")?;
/// let mut reader = trucks.reader().iterator(StreamIterator::TrimHorizon).open()?;
/// let record = reader.next(Duration::from_secs(1))?.expect("one record");
/// assert_eq!(record.sequence_number, put.sequence_number);
/// assert_eq!((record.key(), &record.data[..]), ("truck-7", &b"52.5,13.4"[..]));
/// # drop((reader, trucks, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stream {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub words: StreamWords,
    pub mapping: Arc<Mapping>,
    pub definition: StreamDefinition,
    pub family: u64,
    pub created_ms: u64,
    pub site: Site,
    pub path: PathBuf,
    pub file: File,
    pub segments: Arc<Segments>,
    pub me: u16,
    /// Its journals, if it is on disk.
    store: Option<store::Store>,
    /// Rings that are open here.
    rings: Mutex<HashMap<u32, Channel>>,
    known: Mutex<Arc<Table>>,
    pub liveness: Arc<dyn Liveness>,
    // Last: the attachment outlives everything that was made through it.
    pub home: Arc<dyn Home>,
}

/// What anyone may know about a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Shards that take records.
    pub open_shards: u64,
    /// Shards that were closed and still have theirs.
    pub closed_shards: u64,
    /// Shards that were ever made.
    pub shards_made: u64,
    /// Positions that were ever given, in all shards: records, and gaps of puts that were abandoned.
    pub positions: u64,
    /// Positions that can still be read.
    pub retained: u64,
    /// Positions that were dropped unread by a stream that drops its oldest.
    pub dropped: u64,
    /// Slots with an impossible header.
    pub damaged: u64,
    /// Positions that were given and are not on disk yet, in all shards; 0 in memory.
    pub unwritten: u64,
    /// Writes of journals that all waited for who put at that moment, in all shards.
    pub flushes: u64,
    /// How often the role of a journal's writer was taken from one who was dead or stood still.
    pub take_overs: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Stream {
    pub(crate) fn new(
        opened: StreamFile,
        site: &Site,
        segments: &Arc<Segments>,
        me: u16,
        liveness: Arc<dyn Liveness>,
        home: Arc<dyn Home>,
    ) -> Self {
        let shards = opened.words.count().load(Ordering::Relaxed);
        let store = opened.journals.and_then(|directory| {
            let place = (directory, &*site.directory);
            store::Store::new(&opened.mapping, &opened.header, place, shards)
        });
        Self {
            inner: Arc::new(Inner {
                store,
                words: opened.words,
                mapping: opened.mapping,
                definition: opened.definition,
                family: opened.family,
                created_ms: opened.created_ms,
                site: site.clone(),
                path: opened.path,
                file: opened.file,
                segments: Arc::clone(segments),
                me,
                rings: Mutex::default(),
                known: Mutex::new(Arc::new(Table::unknown())),
                liveness,
                home,
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.definition.name
    }

    /// How it was created.
    pub fn definition(&self) -> &StreamDefinition {
        &self.inner.definition
    }

    /// When it was created, Unix time in ms.
    pub fn created_ms(&self) -> u64 {
        self.inner.created_ms
    }

    /// Every shard that was ever made, by number, with its lineage (`ListShards`). Goes on with a change
    /// that somebody began and died or stands still in.
    ///
    /// # Errors
    /// [`OpenError`] when the stream is gone or damaged, or a shard can't be opened now.
    pub fn shards(&self) -> Result<Vec<ShardInfo>, OpenError> {
        self.inner.check()?;
        Ok(self.inner.table()?.shards.clone())
    }

    /// Becomes a producer: any number of them may put at a time. Opens the shards as they are needed.
    ///
    /// # Errors
    /// As [`shards`](Self::shards).
    pub fn producer(&self) -> Result<StreamProducer, OpenError> {
        self.inner.check()?;
        StreamProducer::new(Arc::clone(&self.inner))
    }

    /// Begins to become a reader.
    pub fn reader(&self) -> StreamReaderBuilder {
        StreamReaderBuilder::new(Arc::clone(&self.inner))
    }

    /// Gives the memory of closed shards back that every group has read to its end; how many. Not before
    /// every reader of what such a shard replaced has joined it, and every reader of its own what replaced it.
    /// A reader that is at one reads on; one that comes later does not find it.
    ///
    /// # Errors
    /// As [`shards`](Self::shards).
    pub fn retire_closed(&self) -> Result<usize, ReshardError> {
        self.inner.check()?;
        let table = self.inner.table()?;
        let mut retired = 0;
        for shard in &table.shards {
            // On disk it stays as long as the youngest of its records.
            let is_kept = shard.closed_ms >= Some(self.inner.horizon_ms().max(1));
            let is_kept = is_kept && self.inner.is_on_disk();
            let goes = shard.state == ShardState::Closed && !is_kept;
            if goes && self.inner.retire(shard.id)? {
                retired += 1;
            }
        }
        Ok(retired)
    }

    /// A snapshot of counts; each value by itself is current.
    ///
    /// # Errors
    /// As [`shards`](Self::shards).
    pub fn stats(&self) -> Result<StreamStats, OpenError> {
        self.inner.check()?;
        let table = self.inner.table()?;
        let mut stats = StreamStats {
            shards_made: table.shards.len() as u64,
            bytes: self.inner.mapping.len() as u64,
            ..StreamStats::default()
        };
        for shard in &table.shards {
            match shard.state {
                ShardState::Open => stats.open_shards += 1,
                ShardState::Closed => stats.closed_shards += 1,
                ShardState::Retired => {
                    stats.positions += shard.closed_at.unwrap_or(0);
                    continue;
                }
            }
            let Some(ring) = self.inner.ring_if_there(shard.id.0)? else {
                continue;
            };
            let seen = ring.stats();
            let retained = self.inner.retained(&seen);
            stats.positions += retained.end;
            stats.retained += retained.end - retained.start;
            if let Some(log) = self.inner.log_if_there(shard.id.0)? {
                stats.unwritten += log.unwritten();
                stats.flushes += log.words.flushes().load(Ordering::Relaxed); // statistics
                stats.take_overs += log.words.take_overs().load(Ordering::Relaxed);
            }
            stats.dropped += seen.dropped;
            stats.damaged += seen.damaged;
            stats.bytes += ring.inner.mapping.len() as u64;
        }
        Ok(stats)
    }

    /// Positions of one shard: the oldest that can be read, and the next that is given.
    ///
    /// # Errors
    /// As [`shards`](Self::shards); a shard that was retired is not found.
    pub fn positions(&self, shard: ShardId) -> Result<core::ops::Range<u64>, OpenError> {
        self.inner.check()?;
        let ring = self.inner.ring(shard.0)?;
        Ok(self.inner.retained(&ring.stats()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(store) = &self.store else {
            return;
        };
        if self.words.is_forked() {
            store.forget();
            return;
        }
        self.end_behind();
        self.mark();
    }
}

impl Inner {
    /// Positions that can be read in a shard whose ring says that of itself.
    fn retained(&self, seen: &channel::ChannelStats) -> core::ops::Range<u64> {
        let oldest = seen
            .trim
            .max(seen.tail.saturating_sub(self.definition.slots));
        oldest.min(seen.tail)..seen.tail
    }

    fn lock_table(&self) -> MutexGuard<'_, Arc<Table>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_table(&self) -> Arc<Table> {
        Arc::clone(&self.lock_table())
    }

    fn lock_rings(&self) -> MutexGuard<'_, HashMap<u32, Channel>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_retired(&self, table: &Table) {
        let is_retired = |shard| {
            let shard = table.get(ShardId(shard));
            shard.is_some_and(|shard| shard.state == ShardState::Retired)
        };
        if let Some(store) = &self.store {
            store.forget_shards(is_retired);
        }
        self.lock_rings().retain(|shard, _| {
            let shard = table.get(ShardId(*shard));
            shard.is_none_or(|shard| shard.state != ShardState::Retired)
        });
    }

    fn scribbled(&self, what: &'static str) -> OpenError {
        OpenError::Scribbled {
            path: self.path.clone(),
            what,
        }
    }

    /// Whether the stream was removed through ringway.
    fn is_removed(&self) -> bool {
        word32(&self.mapping, READY_OFFSET).load(Ordering::Relaxed) == REMOVED
    }

    /// Whether there still is a stream.
    fn check(&self) -> Result<(), OpenError> {
        if self.words.is_forked() {
            return Err(OpenError::Forked);
        }
        if self.is_removed() {
            return Err(OpenError::Removed {
                path: self.path.clone(),
            });
        }
        if !files::is_at(&self.file, &self.path) {
            return Err(OpenError::NotFound {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    fn is_retired(&self, shard: u32) -> bool {
        Shard(self.words.shard(shard).load(Ordering::Acquire)).state() == Shard::RETIRED
    }

    /// The ring of a shard; `None` when it was retired since the table was read.
    fn ring_if_there(&self, shard: u32) -> Result<Option<Channel>, OpenError> {
        match self.ring(shard) {
            Ok(ring) => Ok(Some(ring)),
            Err(OpenError::NotFound { .. } | OpenError::Removed { .. })
                if self.is_retired(shard) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The ring of a shard, opened now if it was not.
    fn ring(&self, shard: u32) -> Result<Channel, OpenError> {
        if let Some(ring) = self.lock_rings().get(&shard) {
            return Ok(ring.clone());
        }
        let name = file::shard_file(self.family, shard);
        // Noted before anything can be left there.
        self.home.note_joined(&name);
        let opened = channel::open_ring(&self.site, &name)?;
        let geometry = opened.memory.geometry();
        let wanted = (self.definition.slots, self.definition.readers + STANDING);
        if (geometry.slots(), geometry.readers()) != wanted {
            return Err(self.scribbled("a shard has another size than the stream says"));
        }
        if opened.definition.producers != self.definition.producers {
            return Err(self.scribbled("a shard has other producers than the stream says"));
        }
        let ring = SlotRing::new(
            opened.memory,
            Arc::clone(&self.liveness),
            self.me,
            opened.definition.producers,
            opened.definition.overflow,
            opened.definition.stall_timeout.as_nanos() as u64,
        );
        let words = self.store.as_ref().and_then(|_| {
            crate::shm::durable::DurableWords::without_bits(Arc::clone(&opened.mapping))
        });
        let ring = Channel {
            inner: Arc::new(channel::Inner {
                ring: match words {
                    Some(words) => ring.with_journal(words),
                    None => ring,
                },
                definition: opened.definition,
                object_id: opened.object_id,
                segments: Arc::clone(&self.segments),
                path: opened.path,
                file: opened.file,
                mapping: opened.mapping,
                host: Arc::clone(&self.home) as _,
            }),
        };
        Ok(self.lock_rings().entry(shard).or_insert(ring).clone())
    }
}
