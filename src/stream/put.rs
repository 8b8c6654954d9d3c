//! Putting: one record, or many with an outcome each.
//!
//! A producer keeps the routes of one version of the table and a producer of each shard that it has put
//! to. It looks at the operation word before each put, and takes the new table when that has changed; one
//! that was quicker than the look meets the seal, and takes it then. Either way nothing is put to a shard
//! behind its seal, and to its children nothing before it.

use super::batch::Parts;
use super::consumer::Holder;
use super::demand::Weights;
use super::hash::{Hashes, is_partition_key};
use super::log::ShardLog;
use super::number::SequenceNumber;
use super::record::{self, HEAD, Label};
use super::table::Table;
use super::words::{ConsumerWord, Counted};
use super::{Backpressure, Inner, MAX_RECORD_BYTES};
use crate::ParticipantId;
use crate::channel::Producer;
use crate::error::{JoinError, OpenError, PutError, SendError, ShardId};
use crate::persist::Goal;
use crate::ring::commit::Lost;
use crate::sync::Ordering;
use crate::sys::clock::{self, BootClock, Deadline};
use crate::sys::fork;
use crate::trace::event;
use core::cell::Cell;
use core::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Seals that one put meets. Each is a change of the stream, and takes somebody making a file.
pub(super) const ATTEMPTS: usize = 1000;
/// How long a waiting producer sleeps between two looks.
const PAUSE: Duration = Duration::from_micros(200);
/// Looks before the first sleep.
const LOOKS: u32 = 64;
/// Refusals at one position between two questions of who holds it back.
const ASK_HOLDER_EVERY: u32 = 64;
/// Every so often the arrival time is taken from the wall clock again.
const WALL_CLOCK_MS: u64 = 1000;

/// A record that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub shard: ShardId,
    /// Its number.
    pub sequence_number: SequenceNumber,
}

/// A record to put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutRecord<'a> {
    /// What says where it belongs, and is kept with it: 1 to 256 characters.
    pub partition_key: &'a str,
    /// Where it belongs, whatever its key says (`ExplicitHashKey`).
    pub explicit_hash_key: Option<u128>,
    /// Up to 10 MiB.
    pub data: &'a [u8],
}

impl<'a> PutRecord<'a> {
    /// A record that goes where its key says.
    pub fn new(partition_key: &'a str, data: &'a [u8]) -> Self {
        Self {
            partition_key,
            explicit_hash_key: None,
            data,
        }
    }
}

/// Why nothing was appended.
pub(super) enum Refused {
    /// The table was taken anew: look again where the record belongs.
    Moved,
    Put(PutError),
}

impl From<PutError> for Refused {
    fn from(error: PutError) -> Self {
        Self::Put(error)
    }
}

/// A producer of one stream.
///
/// May move to another thread, is not shared between threads. Puts of one producer with one key are read
/// in their order. When its process dies, what was put stays. In a forked child every call returns
/// [`PutError::Forked`].
pub struct StreamProducer {
    pub(super) inner: Arc<Inner>,
    pub(super) table: Arc<Table>,
    /// By shard.
    pub(super) producers: Vec<Option<Producer>>,
    /// On disk, by shard: what is waited for.
    logs: Vec<Option<Arc<ShardLog>>>,
    hashes: Hashes,
    /// In memory, and without limits: a put is an append and nothing else.
    pub(super) is_plain: bool,
    pub(super) weights: Weights,
    pub(super) parts: Parts,
    clock: BootClock,
    /// What the arrival time is ahead of the clock, and when that was found.
    ahead_ms: u64,
    read_at: u64,
    /// The registered consumer that was found to hold the last refused put back.
    holder: Option<Holder>,
    /// Where that was: shard, position, whose cursor; and how often since.
    refused_at: Option<(u32, u64, Option<ParticipantId>)>,
    refusals: u32,
    /// Of the process that made it.
    generation: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl StreamProducer {
    pub(super) fn new(inner: Arc<Inner>) -> Result<Self, OpenError> {
        let table = inner.table()?;
        let clock = BootClock::since(0);
        Ok(Self {
            ahead_ms: clock::unix_ms().wrapping_sub(clock.kept_ms()),
            read_at: clock.kept_ms(),
            clock,
            weights: Weights::of(&inner.definition),
            is_plain: inner.definition.limits.is_none() && !inner.is_on_disk(),
            inner,
            table,
            producers: Vec::new(),
            logs: Vec::new(),
            hashes: Hashes::default(),
            parts: Parts::default(),
            holder: None,
            refused_at: None,
            refusals: 0,
            generation: fork::generation(),
            not_sync: PhantomData,
        })
    }

    /// Puts `data` under `partition_key`; where. At a full shard it does what the stream's
    /// [`Backpressure`] says, and blocks only if that does. A record that fits into a slot takes no
    /// system call unless somebody sleeps, and allocates nothing. In a stream on disk it returns when the
    /// record is there: it waits for one write, shared with all who put to the shard at that moment.
    ///
    /// # Errors
    /// [`PutError`]; nothing was put then, but for what [`PutError::DurabilityUnknown`] says.
    #[inline]
    pub fn put(&mut self, partition_key: &str, data: &[u8]) -> Result<Put, PutError> {
        self.put_record(&PutRecord::new(partition_key, data))
    }

    /// The same with an explicit hash key, or not.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline]
    pub fn put_record(&mut self, record: &PutRecord<'_>) -> Result<Put, PutError> {
        match self.append_clear(record, Self::arrival_ms) {
            Ok(put) => Ok(put),
            Err(lost) => self.put_with_care(*record, lost, None),
        }
    }

    /// The same, waiting for room up to `wait` whatever the stream says.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline]
    pub fn put_within(&mut self, record: &PutRecord<'_>, wait: Duration) -> Result<Put, PutError> {
        match self.append_clear(record, Self::arrival_ms) {
            Ok(put) => Ok(put),
            Err(lost) => self.put_with_care(*record, lost, Some(wait)),
        }
    }

    /// Any put that is not [clear](Self::append_clear): with a wait for room, as long as usual or so long, and
    /// for the disk. The record comes by value: by a reference it would be put together in memory for each put.
    #[cold]
    #[inline(never)]
    fn put_with_care(
        &mut self,
        record: PutRecord<'_>,
        lost: Option<(ShardId, Lost)>,
        wait: Option<Duration>,
    ) -> Result<Put, PutError> {
        let put = match self.append_with_care(&record, lost) {
            Err(full @ PutError::Full { .. }) => {
                let wait = wait.unwrap_or_else(|| self.usual_wait());
                self.wait(full, Deadline::after(wait), |producer| {
                    producer.append(&record)
                })
            }
            outcome => outcome,
        }?;
        self.acknowledge(&put)?;
        Ok(put)
    }

    /// Waits until a record is on disk, if the stream is; at the level `async` only where the disk is too far
    /// behind.
    #[inline(always)]
    pub(super) fn acknowledge(&self, put: &Put) -> Result<(), PutError> {
        match self.log_of(put.shard.0) {
            Some(log) if self.inner.is_write_behind() => {
                self.inner.write_later(log, put.sequence_number.position());
                Ok(())
            }
            Some(log) => reach_disk(log, put),
            None => Ok(()),
        }
    }

    /// The same for many: each shard is waited for once.
    pub(super) fn acknowledge_all(&self, outcomes: &mut [Result<Put, PutError>]) {
        if self.logs.is_empty() {
            return;
        }
        let mut last: Vec<Put> = Vec::new();
        for put in outcomes.iter().flatten() {
            match last.iter_mut().find(|last| last.shard == put.shard) {
                Some(last) if last.sequence_number < put.sequence_number => *last = *put,
                Some(_) => {}
                None => last.push(*put),
            }
        }
        for last in last {
            let Err(error) = self.acknowledge(&last) else {
                continue;
            };
            for outcome in outcomes.iter_mut() {
                if let Ok(put) = outcome
                    && put.shard == last.shard
                {
                    *outcome = Err(unknown(put, &error));
                }
            }
        }
    }

    #[inline(always)]
    fn log_of(&self, shard: u32) -> Option<&Arc<ShardLog>> {
        self.logs.get(shard as usize)?.as_ref()
    }

    /// Whether there is no segment that a record of this shard could be written to.
    #[inline(always)]
    pub(super) fn is_frozen(&self, shard: u32) -> bool {
        self.log_of(shard).is_some_and(|log| log.words.is_frozen())
    }

    /// Writes what was put before, so that there may be room. Whether that brought any.
    #[cold]
    fn make_room(&self, shard: u32) -> Result<bool, PutError> {
        let made = self.log_of(shard).map_or(Ok(false), |log| log.make_room());
        made.map_err(|why| PutError::NotOnDisk {
            shard: ShardId(shard),
            why: why.to_string(),
        })
    }

    /// How long a put waits where the caller does not say.
    pub(super) fn usual_wait(&self) -> Duration {
        match self.inner.definition.backpressure {
            Backpressure::Block(wait) => wait,
            Backpressure::Fail | Backpressure::DropOldest => Duration::ZERO,
        }
    }

    /// Goes on trying while it may; counts at the consumer that holds it back whether it waited, and failed.
    #[cold]
    pub(super) fn wait<T>(
        &mut self,
        mut full: PutError,
        until: Deadline,
        mut attempt: impl FnMut(&mut Self) -> Result<T, PutError>,
    ) -> Result<T, PutError> {
        let mut looks = 0;
        while self.holder.as_ref().is_none_or(Holder::may_wait) && !until.passed() {
            if looks == 0
                && let Some(holder) = &self.holder
            {
                holder.count(&self.inner.words, ConsumerWord::Waits);
            }
            looks += 1;
            if looks > LOOKS {
                clock::pause(PAUSE);
                self.inner.home.tick();
            } else {
                core::hint::spin_loop();
            }
            match attempt(self) {
                Err(again @ PutError::Full { .. }) => full = again,
                outcome => return outcome,
            }
        }
        if let Some(holder) = &self.holder {
            holder.count(&self.inner.words, ConsumerWord::Refusals);
        }
        Err(full)
    }

    /// Puts a record if there is room for it now.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[inline]
    pub fn try_put(&mut self, record: &PutRecord<'_>) -> Result<Put, PutError> {
        match self.append_clear(record, Self::arrival_ms) {
            Ok(put) => Ok(put), // in memory: there is no disk to wait for
            Err(lost) => self.try_put_with_care(*record, lost),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_put_with_care(
        &mut self,
        record: PutRecord<'_>,
        lost: Option<(ShardId, Lost)>,
    ) -> Result<Put, PutError> {
        let put = self.append_with_care(&record, lost)?;
        self.acknowledge(&put)?;
        Ok(put)
    }

    /// The same, without a wait for the disk.
    #[inline]
    pub(super) fn append(&mut self, record: &PutRecord<'_>) -> Result<Put, PutError> {
        match self.append_clear(record, Self::arrival_ms) {
            Ok(put) => Ok(put),
            Err(lost) => self.append_with_care(record, lost),
        }
    }

    /// The common append: to a shard in memory that is open here, by a key that was put before, where
    /// nobody else has changed anything, and into a slot that is clear. What a put checks beside that was
    /// checked when the key was put before. Else nothing was put; it says where a claim was lost.
    #[inline(always)]
    pub(super) fn append_clear(
        &mut self,
        record: &PutRecord<'_>,
        arrival_ms: impl FnOnce(&mut Self) -> u64,
    ) -> Result<Put, Option<(ShardId, Lost)>> {
        let (key, data) = (record.partition_key, record.data);
        let is_clear = self.is_plain
            && self.generation == fork::generation()
            && record.explicit_hash_key.is_none()
            && self.inner.words.operation().load(Ordering::Relaxed) == self.table.version;
        if !is_clear {
            return Err(None);
        }
        let shard = self.hashes.shard_of(key).ok_or(None)?;
        let arrival = arrival_ms(self);
        let Some(Some(producer)) = self.producers.get_mut(shard as usize) else {
            return Err(None);
        };
        let head: [u64; HEAD / 8] =
            bytemuck::cast(record::head(arrival, Label::Key(key.as_bytes())));
        let sent = producer.try_send_parts_clear(head, key.as_bytes(), data);
        let position = sent.map_err(|lost| Some((ShardId(shard), lost?)))?;
        self.weigh(shard, key.len() + data.len());
        self.tell(shard, position, data.len());
        Ok(Put {
            shard: ShardId(shard),
            sequence_number: SequenceNumber::new(shard, position),
        })
    }

    #[inline(always)]
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables))]
    fn tell(&self, shard: u32, position: u64, bytes: usize) {
        event!(
            TRACE,
            "put",
            stream = self.inner.definition.name.as_str(),
            shard = shard,
            position = position,
            bytes = bytes
        );
    }

    #[cold]
    #[inline(never)]
    pub(super) fn append_with_care(
        &mut self,
        record: &PutRecord<'_>,
        lost: Option<(ShardId, Lost)>,
    ) -> Result<Put, PutError> {
        if let Some((shard, Lost::Corrupt)) = lost {
            let producer = self.producers[shard.0 as usize].as_ref();
            let position = producer.map_or(0, |producer| producer.next_position() - 1);
            let source = SendError::Corrupt { position };
            return Err(PutError::Send { shard, source });
        }
        self.check(record)?;
        let hash_key = self.hash_key(record);
        let arrival = self.arrival_ms();
        for _ in 0..ATTEMPTS {
            self.look()?;
            let shard = self.table.route(hash_key);
            if record.explicit_hash_key.is_none() {
                self.hashes.route(record.partition_key, shard);
            }
            let label = Label::Key(record.partition_key.as_bytes());
            match self.try_append(shard, arrival, label, record.data) {
                Ok(put) => return Ok(put),
                Err(Refused::Moved) => {}
                Err(Refused::Put(error)) => return Err(error),
            }
        }
        Err(PutError::Busy { attempts: ATTEMPTS })
    }

    /// Whether this is a forked child of the process that opened it.
    #[inline(always)]
    pub(super) fn is_of_parent(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Whether a record can be put at all.
    #[inline(always)]
    pub(super) fn check(&self, record: &PutRecord<'_>) -> Result<(), PutError> {
        if self.is_of_parent() {
            return Err(PutError::Forked);
        }
        if !is_partition_key(record.partition_key) {
            let chars = record.partition_key.chars().count();
            return Err(PutError::InvalidPartitionKey { chars });
        }
        if record.data.len() > MAX_RECORD_BYTES {
            return Err(PutError::TooLarge {
                len: record.data.len(),
                max: MAX_RECORD_BYTES,
            });
        }
        Ok(())
    }

    /// Where a record belongs. Keys that this producer has put are not hashed again.
    #[inline(always)]
    pub(super) fn hash_key(&mut self, record: &PutRecord<'_>) -> u128 {
        match record.explicit_hash_key {
            Some(key) => key,
            None => self.hashes.hash_key_of(record.partition_key),
        }
    }

    /// Takes the new table if the stream has changed.
    #[inline(always)]
    pub(super) fn look(&mut self) -> Result<(), PutError> {
        // Relaxed: the table is read with care, and who is too quick meets the seal.
        if self.inner.words.operation().load(Ordering::Relaxed) != self.table.version {
            self.renew()?;
        }
        Ok(())
    }

    /// Puts bytes into this shard if there is room. Does not wait for the disk: the caller
    /// [acknowledges](Self::acknowledge).
    #[inline(always)]
    pub(super) fn try_append(
        &mut self,
        shard: u32,
        arrival: u64,
        label: Label<'_>,
        data: &[u8],
    ) -> Result<Put, Refused> {
        self.check_limits(shard, label.key().len() + data.len(), arrival)?;
        for _ in 0..ATTEMPTS {
            if let Err(error) = self.open_once(shard) {
                if !self.inner.is_retired(shard) {
                    return Err(error.into());
                }
                self.renew()?; // closed and retired since the table was read
                return Err(Refused::Moved);
            }
            if self.is_frozen(shard) {
                self.make_room(shard)?;
            }
            let producer = self.producers.get_mut(shard as usize);
            let Some(producer) = producer.and_then(Option::as_mut) else {
                continue; // opened just now
            };
            match append(producer, arrival, label, data) {
                Ok(position) => {
                    self.weigh(shard, label.key().len() + data.len());
                    self.tell(shard, position, data.len());
                    return Ok(Put {
                        shard: ShardId(shard),
                        sequence_number: SequenceNumber::new(shard, position),
                    });
                }
                Err(error) => self.refused(shard, error)?,
            }
        }
        Err(PutError::Busy { attempts: ATTEMPTS }.into())
    }

    /// Who holds a full shard back. Asked again of the same position only now and then: who polls for room
    /// would else read every cursor again and again, which their readers write.
    fn find_holder(&mut self, shard: u32, by: Option<ParticipantId>) {
        let producer = self.producers.get(shard as usize).and_then(Option::as_ref);
        let at = (shard, producer.map_or(0, Producer::next_position), by);
        self.refusals = match self.refused_at == Some(at) {
            true => self.refusals.wrapping_add(1),
            false => 0,
        };
        if self.refusals.is_multiple_of(ASK_HOLDER_EVERY) {
            self.refused_at = Some(at);
            self.holder = by.and_then(|_| self.inner.holder(shard));
        }
    }

    /// What became of a put that failed; `Ok` to try again.
    #[cold]
    fn refused(&mut self, shard: u32, error: SendError) -> Result<(), Refused> {
        let met_seal =
            |producer: &Option<Producer>| producer.as_ref().is_some_and(Producer::met_seal);
        match error {
            SendError::Corrupt { .. }
                if self.producers.get(shard as usize).is_some_and(met_seal) =>
            {
                self.renew()?;
                Err(Refused::Moved)
            }
            // The stream; or a shard that was closed and retired meanwhile.
            SendError::Removed => {
                self.renew()?;
                Err(Refused::Moved)
            }
            // What was put before may not be on disk yet.
            SendError::Full { by: None } if self.log_of(shard).is_some() => {
                if self.make_room(shard)? {
                    return Ok(());
                }
                Err(Refused::Put(PutError::Full {
                    shard: ShardId(shard),
                    by: None,
                    group: None,
                    consumer: None,
                }))
            }
            SendError::Full { by } => {
                let (mended, group) = match by {
                    None => self.inner.unblock(shard).map_err(PutError::from)?,
                    Some(_) => (false, None),
                };
                if mended {
                    return Ok(());
                }
                self.find_holder(shard, by);
                Err(Refused::Put(PutError::Full {
                    shard: ShardId(shard),
                    by,
                    group,
                    consumer: self.holder.as_ref().map(|holder| holder.name.clone()),
                }))
            }
            SendError::Forked => Err(PutError::Forked.into()),
            source => {
                let shard = ShardId(shard);
                Err(PutError::Send { shard, source }.into())
            }
        }
    }

    /// Takes the table as it is now. Goes on with a change that stands between.
    #[cold]
    pub(super) fn renew(&mut self) -> Result<(), PutError> {
        if self.inner.is_removed() {
            return Err(PutError::Removed);
        }
        self.inner.finish_change()?;
        self.table = self.inner.table()?;
        for (shard, producer) in self.producers.iter_mut().enumerate() {
            let is_open = self.table.open().any(|open| open.id.0 as usize == shard);
            if !is_open {
                *producer = None;
            }
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn open_once(&mut self, shard: u32) -> Result<(), PutError> {
        match self.producers.get(shard as usize) {
            Some(Some(_)) => Ok(()),
            _ => self.open(shard),
        }
    }

    #[cold]
    fn open(&mut self, shard: u32) -> Result<(), PutError> {
        let producer = self
            .inner
            .ring(shard)?
            .producer()
            .map_err(|error| match error {
                JoinError::Forked => PutError::Forked,
                JoinError::Busy { by } => PutError::Held {
                    shard: ShardId(shard),
                    by,
                },
                _ => PutError::Removed,
            })?;
        let shard = shard as usize;
        if self.producers.len() <= shard {
            self.producers.resize_with(shard + 1, || None);
        }
        if let Some(log) = self.inner.log(shard as u32)? {
            if self.logs.len() <= shard {
                self.logs.resize_with(shard + 1, || None);
            }
            self.logs[shard] = Some(log);
        }
        self.producers[shard] = Some(producer.retaining());
        Ok(())
    }

    /// Unix time, by a clock that is no system call: at most a second behind a wall clock that was set.
    #[inline(always)]
    pub(super) fn arrival_ms(&mut self) -> u64 {
        let now = self.clock.now_ms();
        if now.wrapping_sub(self.read_at) >= WALL_CLOCK_MS {
            self.ahead_ms = clock::unix_ms().wrapping_sub(now);
            self.read_at = now;
        }
        now.wrapping_add(self.ahead_ms)
    }

    #[inline(always)]
    pub(super) fn check_limits(&self, shard: u32, bytes: usize, now: u64) -> Result<(), PutError> {
        let Some(limits) = self.inner.definition.limits else {
            return Ok(());
        };
        let throttled = |limit, unit| PutError::Throttled {
            shard: ShardId(shard),
            limit,
            unit,
        };
        if !self
            .inner
            .counts(shard, Counted::Bytes, bytes as u32, limits.bytes, now)
        {
            return Err(throttled(limits.bytes, "bytes"));
        }
        if !self
            .inner
            .counts(shard, Counted::Records, 1, limits.records, now)
        {
            return Err(throttled(limits.records, "records"));
        }
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn reach_disk(log: &ShardLog, put: &Put) -> Result<(), PutError> {
    let reached = log.reach(Goal::Position(put.sequence_number.position()));
    reached.map_err(|why| unknown(put, &why))
}

fn unknown(put: &Put, why: &dyn core::fmt::Display) -> PutError {
    PutError::DurabilityUnknown {
        shard: put.shard,
        position: put.sequence_number.position(),
        why: why.to_string(),
    }
}

/// Into the slot itself, or into a chunk of the pool.
#[inline(always)]
fn append(
    producer: &mut Producer,
    arrival_ms: u64,
    label: Label<'_>,
    data: &[u8],
) -> Result<u64, SendError> {
    let len = HEAD + label.key().len() + data.len();
    if len <= producer.inline_bytes() {
        return producer.try_send_with(len, |out| record::write(out, arrival_ms, label, data));
    }
    let mut loan = producer.loan(len)?;
    record::write(&mut loan, arrival_ms, label, data);
    producer.try_send_loan(loan).map_err(|(error, _)| error)
}
