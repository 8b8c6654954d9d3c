//! A stream on disk: the journals of its shards, and that of its table.
//!
//! The journal of the table has the whole table, again and again: its shards with their lineage, its groups,
//! where they stood, how long records are kept. It is written inside each [change](super::change), behind
//! the steps and before the change is over; since nobody reads a table that is being changed, nobody puts
//! into a new shard, or reads by a new group, before that is on disk. A change that can't be written stays
//! open, and whoever comes tries again.
//!
//! ```text
//! TABLE   position: rises by one    TableHead, ShardEntry[shards], KeptGroup[groups], KeptCheckpoint[…]
//! ```

use super::lease::place;
use super::log::{Place, ShardLog};
use super::words::{ConsumerWord, StreamWords};
use super::{Inner, ShardInfo, ShardState};
use crate::channel::Channel;
use crate::error::{JournalError, OpenError, ShardId};
use crate::journal::{DEFINITION_BYTES, Disk, Follower};
use crate::layout::stream::{
    ENTRY_TABLE, GROUPS, KeptCheckpoint, KeptGroup, SHARDS, ShardEntry, StreamHeader, TableHead,
};
use crate::layout::word::Shard;
use crate::object::Host;
use crate::persist::{self, Behind, Goal, Journal, Kept, NotOnDisk, Source, directory, push};
use crate::ring::persister::Writing;
use crate::ring::{Liveness, SlotRing};
use crate::shm::durable::DurableWords;
use crate::sync::{Label, Ordering, fence_behind_rmw};
use crate::sys::clock;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use core::cell::RefCell;
use core::mem::offset_of;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Segments of the table's journal: a table has 1 MiB at most.
const TABLE_SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes of the staging buffers of all shards of a stream together, and of one shard.
const BUFFERS_BYTES: usize = 8 << 20;
const BUFFER_BYTES: core::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

/// See the module.
pub(crate) struct Store {
    words: DurableWords,
    journal: Journal<TableMemo>,
    place: Place,
    logs: Arc<Logs>,
    /// Who writes behind those who do not wait.
    pub(super) behind: Behind,
}

/// The journals that are open here, by shard.
pub(super) type Logs = Mutex<HashMap<u32, Arc<ShardLog>>>;

/// What the writer of a table remembers.
#[derive(Default)]
struct TableMemo {
    looked_at: (u64, u64),
    follower: Option<Follower<Disk>>,
}

impl Store {
    /// Of the stream whose first page is `header`, whose journals lie in `directory`, and its files in `objects`.
    /// `None` when the mapping is too short for its words.
    pub fn new(
        mapping: &Arc<Mapping>,
        header: &StreamHeader,
        (directory, objects): (PathBuf, &Path),
        shards: u64,
    ) -> Option<Self> {
        let mut definition = Box::new([0; DEFINITION_BYTES]);
        definition.copy_from_slice(bytemuck::bytes_of(header));
        let share = BUFFERS_BYTES / shards.clamp(1, SHARDS) as usize;
        let most = (header.segment_bytes / 4) as usize;
        let buffer_bytes = share
            .clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end())
            .min(most.max(1))
            .next_multiple_of(crate::layout::PAGE);
        Some(Self {
            words: DurableWords::without_bits(Arc::clone(mapping))?,
            journal: Journal::new(
                directory.clone(),
                header.family,
                definition.clone(),
                TABLE_SEGMENT_BYTES,
            )
            .labelled(directory::label(objects)),
            place: Place {
                directory,
                definition,
                segment_bytes: header.segment_bytes,
                buffer_bytes,
            },
            logs: Arc::default(),
            behind: Behind::default(),
        })
    }

    /// Where the journals of the stream lie.
    pub fn directory(&self) -> &Path {
        &self.place.directory
    }

    /// Where that of a shard lies.
    pub fn directory_of(&self, family: u64, shard: u32) -> PathBuf {
        self.directory().join(directory::part_name(family, shard))
    }

    fn lock_logs(&self) -> MutexGuard<'_, HashMap<u32, Arc<ShardLog>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journals that are open here.
    pub(super) fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// In a forked child: the writers' threads and writes are the parent's.
    pub fn forget(&self) {
        self.journal.forget();
        for log in self.lock_logs().values() {
            log.forget();
        }
    }

    /// Of shards that were retired.
    pub fn forget_shards(&self, is_gone: impl Fn(u32) -> bool) {
        self.lock_logs().retain(|shard, _| !is_gone(*shard));
    }
}

/// The table of a stream as something that is written.
struct Table<'a> {
    inner: &'a Inner,
    store: &'a Store,
    /// Why it could not be read.
    unread: RefCell<Option<OpenError>>,
}

impl<'a> Table<'a> {
    fn of(inner: &'a Inner, store: &'a Store) -> Self {
        let unread = RefCell::new(None);
        Self {
            inner,
            store,
            unread,
        }
    }
}

impl Inner {
    /// Whether it is on disk.
    pub(super) fn is_on_disk(&self) -> bool {
        self.store.is_some()
    }

    /// The journal of a shard; `None` in memory.
    pub(super) fn log(&self, shard: u32) -> Result<Option<Arc<ShardLog>>, OpenError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        if let Some(log) = store.lock_logs().get(&shard) {
            return Ok(Some(Arc::clone(log)));
        }
        let channel = self.ring(shard)?;
        let words = DurableWords::without_bits(Arc::clone(&channel.inner.mapping))
            .ok_or_else(|| self.scribbled("a shard is too short for the words of its journal"))?;
        let log = Arc::new(ShardLog::new(
            channel,
            words,
            self.words.clone(),
            (self.family, shard),
            &store.place,
        ));
        let mut logs = store.lock_logs();
        Ok(Some(Arc::clone(logs.entry(shard).or_insert(log))))
    }

    /// The same; `None` also for one that was retired since the table was read.
    pub(super) fn log_if_there(&self, shard: u32) -> Result<Option<Arc<ShardLog>>, OpenError> {
        match self.log(shard) {
            Err(_) if self.is_retired(shard) => Ok(None),
            log => log,
        }
    }

    /// Waits until the table is on disk as this thread has changed it.
    pub(super) fn write_table(&self) -> Result<(), OpenError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        fence_behind_rmw(Label::NoteFence);
        let goal = Goal::Flush(store.words.next_flush());
        let table = Table::of(self, store);
        persist::reach(&table, &store.journal, goal).map_err(|why| {
            let unread = table.unread.take();
            unread.unwrap_or_else(|| self.not_on_disk(why))
        })
    }

    /// Of a stream that was just made, or made again: its journal has a segment of this life when this
    /// returns, so that it is found again. Later it has nothing to do. Where the disk has no room for one, the
    /// journal it was made from says the same.
    pub(crate) fn begin_journal(&self) -> Result<(), OpenError> {
        let Some(store) = self.store.as_ref().filter(|it| !it.words.is_flushed(1)) else {
            return Ok(());
        };
        match self.write_table() {
            Err(OpenError::Journal(JournalError::NoSpace { .. }))
                if directory::is_journal(store.directory())? =>
            {
                Ok(())
            }
            written => written,
        }
    }

    /// Says in each journal that is open here how far it is on disk.
    pub(super) fn mark(&self) {
        let Some(store) = &self.store else {
            return;
        };
        if self.site.observed {
            return;
        }
        let logs: Vec<_> = store.lock_logs().values().cloned().collect();
        for log in logs {
            log.mark();
        }
        persist::mark(&Table::of(self, store), &store.journal);
    }

    pub(super) fn not_on_disk(&self, why: NotOnDisk) -> OpenError {
        match why {
            NotOnDisk::Journal(error) => OpenError::Journal(error),
            NotOnDisk::Removed => OpenError::Removed {
                path: self.path.clone(),
            },
            other => OpenError::io(&self.path, std::io::Error::other(other.to_string())),
        }
    }

    /// The table as bytes. What is being changed is in it as far as its steps are done.
    fn table_bytes(&self) -> Result<Vec<u8>, OpenError> {
        let words = &self.words;
        let shards = words.count().load(Ordering::Acquire).min(SHARDS) as u32;
        let groups: Vec<KeptGroup> = (0..GROUPS).map(|group| kept_group(words, group)).collect();
        let used = groups.iter().rposition(|group| group.word != 0);
        let groups = &groups[..used.map_or(0, |last| last + 1)];
        let mut checkpoints = Vec::new();
        let mut entries = Vec::new();
        for shard in 0..shards {
            let mut entry = words.entry(shard);
            // What it took in this second, and its load, are of this life.
            let counted = offset_of!(ShardEntry, taken_records);
            bytemuck::bytes_of_mut(&mut entry)[counted..].fill(0);
            entries.push(entry);
            if groups.is_empty() || Shard(entry.word).state() == Shard::RETIRED {
                continue;
            }
            let Some(channel) = self.ring_if_there(shard)? else {
                continue;
            };
            checkpoints.extend(kept_checkpoints(&channel, shard, groups.len() as u32));
        }
        let (retention_ms, retention_bytes) = words.retention();
        let head = TableHead {
            shards: shards.into(),
            groups: groups.len() as u64,
            checkpoints: checkpoints.len() as u64,
            retention_ms,
            retention_bytes,
            reserved: [0; 3],
        };
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        bytes.extend_from_slice(bytemuck::cast_slice(&entries));
        bytes.extend_from_slice(bytemuck::cast_slice(groups));
        bytes.extend_from_slice(bytemuck::cast_slice(&checkpoints));
        Ok(bytes)
    }

    /// Records that arrived before are not kept any more; 0 in memory, where time has no say.
    pub(super) fn horizon_ms(&self) -> u64 {
        match &self.store {
            Some(_) => clock::unix_ms().saturating_sub(self.words.retention().0),
            None => 0,
        }
    }

    /// Bytes of all files of its journals.
    pub(super) fn disk_bytes(&self) -> Result<u64, OpenError> {
        let Some(store) = &self.store else {
            return Ok(0);
        };
        directory::bytes(store.directory())
    }

    /// The end of what can be read of a shard: of what is on disk, if that is where it lies.
    pub(super) fn readable_end(&self, shard: u32, ring: &SlotRing) -> Result<u64, OpenError> {
        Ok(match self.log(shard)? {
            Some(log) if self.is_write_behind() => log.end(),
            Some(log) => log.words.on_disk_below(),
            None => super::lease::end(ring),
        })
    }

    /// The oldest position of a shard that is kept.
    pub(super) fn oldest_on_disk(&self, shard: u32) -> Result<u64, OpenError> {
        let Some(log) = self.log(shard)? else {
            return Ok(0);
        };
        let oldest = match log.follower().map_err(OpenError::Journal)? {
            Some(mut follower) => follower.oldest().map_err(OpenError::Journal)?,
            None => None,
        };
        let on_disk_below = log.words.on_disk_below();
        Ok(oldest.unwrap_or(on_disk_below).min(on_disk_below))
    }

    /// Removes the journal of a shard that was retired. What can't be removed now goes with the stream.
    pub(super) fn forget_journal(&self, shard: u32) {
        if let Some(store) = &self.store {
            store.lock_logs().remove(&shard);
            let _ = directory::remove_part(&store.directory_of(self.family, shard));
        }
    }

    /// Waits until a checkpoint that was stored in a shard is on disk, or lets it be written soon.
    pub(super) fn write_checkpoint(&self, shard: ShardId) -> Result<(), OpenError> {
        match self.log(shard.0)? {
            Some(_) if self.is_write_behind() => {
                self.wake_behind();
                Ok(())
            }
            Some(log) => log.reach_changes().map_err(|why| self.not_on_disk(why)),
            None => Ok(()),
        }
    }

    /// Lets each shard that has a journal look which of its segments are over. One that can't be written now is
    /// tried again behind the others, which may have made room.
    pub(super) fn give_segments_back(&self) -> Result<(), OpenError> {
        let shards = self.table()?.shards.clone();
        let is_there = |shard: &&ShardInfo| shard.state != ShardState::Retired;
        let refused: Vec<_> = shards
            .iter()
            .filter(is_there)
            .filter(|shard| self.give_back_of(shard.id.0).is_err())
            .collect();
        refused
            .into_iter()
            .try_for_each(|shard| self.give_back_of(shard.id.0))
    }

    fn give_back_of(&self, shard: u32) -> Result<(), OpenError> {
        let log = match self.log(shard) {
            Ok(Some(log)) => log,
            Ok(None) => return Ok(()),
            Err(_) if self.is_retired(shard) => return Ok(()),
            Err(error) => return Err(error),
        };
        let has_journal = log.follower().map_err(OpenError::Journal)?.is_some();
        match has_journal {
            true => log.give_back().map_err(|why| self.not_on_disk(why)),
            false => Ok(()),
        }
    }
}

fn kept_group(words: &StreamWords, group: u32) -> KeptGroup {
    let word = words.group(group).load(Ordering::Acquire);
    let name = words.group_name(group);
    let count = |what| words.consumer(group, what).load(Ordering::Relaxed); // as the word says
    let mut kept = KeptGroup {
        word,
        policy: count(ConsumerWord::Policy),
        registered_ms: count(ConsumerWord::RegisteredMs),
        name_bytes: name.len() as u64,
        name: [0; 128],
    };
    kept.name[..name.len()].copy_from_slice(&name);
    kept
}

fn kept_checkpoints(channel: &Channel, shard: u32, groups: u32) -> Vec<KeptCheckpoint> {
    let ring = &channel.inner.ring;
    let word_of = |group| place(ring, group).checkpoint.load(Ordering::Acquire);
    (0..groups)
        .map(|group| KeptCheckpoint {
            group,
            shard,
            word: word_of(group),
        })
        .filter(|kept| kept.word != 0)
        .collect()
}

impl Source for Table<'_> {
    type Memo = TableMemo;

    fn name(&self) -> &str {
        &self.inner.definition.name
    }

    fn words(&self) -> &DurableWords {
        &self.store.words
    }

    fn me(&self) -> u16 {
        self.inner.me
    }

    fn is_dead(&self, owner: u16) -> bool {
        owner == 0 || owner != self.inner.me && Liveness::is_dead(&*self.inner.liveness, owner)
    }

    fn tick(&self) {
        Host::tick(&*self.inner.home);
    }

    fn is_removed(&self) -> bool {
        self.inner.is_removed()
    }

    fn is_unlinked(&self) -> bool {
        !files::is_at(&self.inner.file, &self.inner.path)
    }

    fn collect(
        &self,
        kept: &mut Kept<TableMemo>,
        _: &Writing,
        from: u64,
        _: Goal,
    ) -> Result<Option<u64>, JournalError> {
        // A shard that can't be opened now can't be told either: nothing is written then.
        let bytes = match self.inner.table_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                *self.unread.borrow_mut() = Some(error);
                return Ok(None);
            }
        };
        push(&mut kept.writer, ENTRY_TABLE, from, &[&bytes])?;
        Ok(Some(from + 1))
    }

    fn told(&self) {}

    fn look_after(
        &self,
        journal: &Journal<TableMemo>,
        kept: &mut Kept<TableMemo>,
        _: u64,
        _: bool,
    ) -> Result<(), JournalError> {
        let at = kept.segment();
        if kept.memo.looked_at == at {
            return Ok(());
        }
        kept.memo.looked_at = at;
        let follower = &mut kept.memo.follower;
        if follower.is_none() {
            *follower = super::log::follower_at(journal.directory(), self.inner.family)?;
        }
        let Some(follower) = follower else {
            return Ok(());
        };
        let older = follower.segments()?.into_iter().map(|segment| segment.0);
        let mut older: Vec<_> = older.filter(|id| (id.epoch, id.index) < at).collect();
        // The last table may begin in the segment before, and lies no further back.
        older.pop();
        if !older.is_empty() {
            kept.writer.release(&older)?;
        }
        Ok(())
    }
}
