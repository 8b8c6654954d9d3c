//! Reading: one shard from a place in it, or all of them, parents before children.
//!
//! A reader joins each shard as soon as it knows of it, so that what it will read stays there, and reads
//! it when all that the shard replaced is read to its end. On a stream that drops its oldest records readers are told what they missed; on any other
//! they hold its producers back, from the moment on that they have joined.

use super::number::SequenceNumber;
use super::record::StreamRecord;
use super::table::{ShardInfo, ShardState, Table};
use super::tap::Tap;
use super::words::Counted;
use super::{Inner, OwnedRecord, consumer, lag, limit};
use crate::error::{JoinError, ReadError, ShardId, StreamReadError, WaitError};
use crate::layout::word::Role;
use crate::object::wait::{Waits, wait_any};
use crate::ring::seat::Start;
use crate::ring::wait::Idle;
use crate::sync::Ordering;
use crate::sys::clock::{self, Deadline};
use crate::sys::fork;
use std::sync::Arc;
use std::time::Duration;

/// A waiting reader looks for new shards this often. A change wakes who waits at a shard that it closes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where to begin (`ShardIteratorType`). It never expires: a place whose records are gone is the oldest
/// record that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamIterator {
    /// The oldest record there is (`TRIM_HORIZON`).
    TrimHorizon,
    /// The next record that is put (`LATEST`).
    Latest,
    /// The record of this number (`AT_SEQUENCE_NUMBER`).
    AtSequenceNumber(SequenceNumber),
    /// The record behind it (`AFTER_SEQUENCE_NUMBER`).
    AfterSequenceNumber(SequenceNumber),
    /// The first record that arrived at this time or later, Unix time in ms (`AT_TIMESTAMP`). In memory it
    /// is found by reading from the oldest on, on disk by reading one segment.
    AtTimestamp(u64),
}

/// Chooses what to read, and from where.
#[must_use = "call open"]
pub struct StreamReaderBuilder {
    inner: Arc<Inner>,
    iterator: StreamIterator,
    shard: Option<ShardId>,
    idle: Idle,
    lossy: bool,
    consumer: Option<(u32, Role)>,
}

impl StreamReaderBuilder {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            iterator: StreamIterator::Latest,
            shard: None,
            idle: Idle::default(),
            lossy: false,
            consumer: None,
        }
    }

    /// Reads for a registered consumer, whose subscriber has the word `member`: says so beside its seats, on
    /// disk where it is, and is limited by itself.
    pub(super) fn of_consumer(mut self, place: u32, member: Role) -> Self {
        self.consumer = Some((place, member));
        self
    }

    /// Where to begin. Default: [`StreamIterator::Latest`].
    pub fn iterator(mut self, iterator: StreamIterator) -> Self {
        self.iterator = iterator;
        self
    }

    /// This shard alone, and not what replaces it. Default: all, and what replaces them.
    pub fn shard(mut self, shard: ShardId) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Holds no producer back, and is told what it missed.
    pub fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// How to wait. The default is [`Idle::SpinThenPark`].
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Joins the shards.
    ///
    /// # Errors
    /// [`StreamReadError`]: a shard that is not there, or whose reader entries are taken; an iterator that
    /// needs a shard, or is of another one.
    pub fn open(self) -> Result<StreamReader, StreamReadError> {
        self.inner.check().map_err(of_open)?;
        let number = match self.iterator {
            StreamIterator::AtSequenceNumber(number)
            | StreamIterator::AfterSequenceNumber(number) => Some(number),
            _ => None,
        };
        match (number, self.shard) {
            (Some(_), None) => return Err(StreamReadError::NeedsShard),
            (Some(number), Some(shard)) if number.shard() != shard => {
                let found = number.shard();
                return Err(StreamReadError::OtherShard { shard, found });
            }
            _ => {}
        }
        let mut reader = StreamReader {
            table: Arc::new(Table::unknown()),
            inner: self.inner,
            iterator: self.iterator,
            shard: self.shard,
            idle: self.idle,
            lossy: self.lossy,
            consumer: self.consumer,
            taps: Vec::new(),
            known: 0,
            turn: 0,
            failed: None,
            missed: Vec::new(),
            generation: fork::generation(),
        };
        reader.renew()?;
        Ok(reader)
    }
}

pub(super) fn of_open(error: crate::error::OpenError) -> StreamReadError {
    match error {
        crate::error::OpenError::Forked => StreamReadError::Forked,
        crate::error::OpenError::Removed { .. } => StreamReadError::Removed,
        error => StreamReadError::Open(error),
    }
}

/// A reader of a stream, or of one shard of it.
///
/// May move to another thread, is not shared between threads. It belongs to nobody else: readers know
/// nothing of each other, and each is given every record. For workers that share the records see
/// [`Group`](super::Group). In a forked child every call returns [`StreamReadError::Forked`].
pub struct StreamReader {
    inner: Arc<Inner>,
    table: Arc<Table>,
    iterator: StreamIterator,
    shard: Option<ShardId>,
    idle: Idle,
    lossy: bool,
    /// The registered consumer that it reads for.
    consumer: Option<(u32, Role)>,
    /// Those that are not read to their end.
    taps: Vec<Tap>,
    /// Shards below this number were met.
    known: u32,
    turn: usize,
    /// What is told next.
    failed: Option<StreamReadError>,
    /// Shards that were given back before this reader came to them, and where they ended.
    missed: Vec<(ShardId, u64)>,
    /// Of the process that made it.
    generation: u64,
}

impl StreamReader {
    /// Takes the table as it is now, and joins what is new.
    fn renew(&mut self) -> Result<(), StreamReadError> {
        if self.inner.is_removed() && self.taps.is_empty() {
            return Err(StreamReadError::Removed);
        }
        let table = self.inner.table().map_err(of_open)?;
        let first_time = self.known == 0;
        for shard in &table.shards[(self.known as usize).min(table.shards.len())..] {
            let sources = table.sources(shard);
            match self.join(shard, &sources, first_time)? {
                Some(tap) => self.taps.push(tap),
                None if !first_time && self.is_child(&sources) => {
                    let end = shard.closed_at.unwrap_or(0);
                    self.missed.extend((end > 0).then_some((shard.id, end)));
                }
                None => {}
            }
            self.known = shard.id.0 + 1;
        }
        if let Some(shard) = self.shard
            && first_time
            && table
                .get(shard)
                .is_none_or(|shard| shard.state == ShardState::Retired)
        {
            return Err(StreamReadError::NoShard { shard });
        }
        self.table = table;
        Ok(())
    }

    fn join(
        &self,
        shard: &ShardInfo,
        sources: &[ShardId],
        first_time: bool,
    ) -> Result<Option<Tap>, StreamReadError> {
        let wanted = self.shard.is_none_or(|wanted| wanted == shard.id);
        let left_out = match self.iterator {
            // What is closed gets nothing any more.
            StreamIterator::Latest => {
                first_time && self.shard.is_none() && shard.state != ShardState::Open
            }
            _ => false,
        };
        if !wanted || left_out || shard.state == ShardState::Retired {
            return Ok(None);
        }
        let start = match self.iterator {
            // What replaced something begins where that ends.
            _ if self.is_child(sources) => Start::At(0),
            _ if !first_time => Start::Earliest,
            StreamIterator::TrimHorizon | StreamIterator::AtTimestamp(_) => Start::Earliest,
            StreamIterator::Latest => Start::Latest,
            StreamIterator::AtSequenceNumber(number) => Start::At(number.position()),
            StreamIterator::AfterSequenceNumber(number) => Start::At(number.position() + 1),
        };
        let Some(ring) = self.inner.ring_if_there(shard.id.0).map_err(of_open)? else {
            return Ok(None);
        };
        let mut tap = match Tap::join(&self.inner, &ring, shard, start, self.lossy, self.idle) {
            Err(StreamReadError::Join {
                source: JoinError::Removed | JoinError::Unlinked,
                ..
            }) if self.inner.is_retired(shard.id.0) => return Ok(None),
            joined => joined?,
        };
        if let Some((place, _)) = self.consumer {
            tap.note(consumer::note_of(place));
        }
        if let StreamIterator::AtTimestamp(from) = self.iterator {
            let searched = tap.begin_at_time(from.max(self.inner.horizon_ms()));
            searched.map_err(|error| StreamReadError::of(shard.id, error))?;
        }
        if let StreamIterator::TrimHorizon = self.iterator
            && self.inner.is_on_disk()
        {
            let searched = tap.begin_at_time(self.inner.horizon_ms());
            searched.map_err(|error| StreamReadError::of(shard.id, error))?;
        }
        // A place that was asked for and is gone is the oldest there is: that is what an iterator says.
        if !self.is_child(sources) {
            tap.forget_lag();
        }
        tap.parents = sources.to_vec();
        self.say_where(&tap);
        Ok(Some(tap))
    }

    /// On disk no seat says where a registered consumer is.
    #[inline]
    fn say_where(&self, tap: &Tap) {
        if let Some((place, member)) = self.consumer
            && self.inner.is_on_disk()
        {
            lag::say(tap.ring(), place, member, tap.handed_to());
        }
    }

    /// Whether something that a shard of these sources replaced is read.
    fn is_child(&self, sources: &[ShardId]) -> bool {
        self.taps.iter().any(|tap| sources.contains(&tap.shard))
    }

    /// Whether everything that `tap` came from is read.
    #[inline]
    fn is_turn_of(&self, tap: &Tap) -> bool {
        !tap.parents
            .iter()
            .any(|parent| self.taps.iter().any(|other| other.shard == *parent))
    }

    /// Hands up to `max` records to `each`, in place, those of a shard in their order; how many. 0 when
    /// there is none now. Never blocks.
    ///
    /// # Errors
    /// [`StreamReadError::Lagged`] tells what was missed, and the next call goes on; others of
    /// [`StreamReadError`]. Records that were handed over before come first; the error is told by the
    /// next call.
    pub fn try_read_batch(
        &mut self,
        max: usize,
        mut each: impl FnMut(StreamRecord<'_>),
    ) -> Result<usize, StreamReadError> {
        if self.generation != fork::generation() {
            return Err(StreamReadError::Forked);
        }
        if self.failed.is_some()
            && let Some(error) = self.failed.take()
        {
            return Err(error);
        }
        if self.inner.words.operation().load(Ordering::Relaxed) != self.table.version {
            self.renew()?;
        }
        if let Some((shard, to)) = self.missed.pop() {
            return Err(StreamReadError::Lagged { shard, from: 0, to });
        }
        let mut given = 0;
        // A shard that is left makes another one readable, so the round begins anew.
        let mut looks = self.taps.len();
        while looks > 0 && given < max && !self.taps.is_empty() {
            looks -= 1;
            let index = match self.turn < self.taps.len() {
                true => self.turn,
                false => 0,
            };
            self.turn = index + 1;
            if !self.is_turn_of(&self.taps[index]) {
                continue;
            }
            match self.take(index, max - given, &mut each) {
                Ok(count) => {
                    given += count;
                    self.say_where(&self.taps[index]);
                }
                Err(error @ StreamReadError::Forked) => return Err(error), // by `each`, in the child
                Err(error) if given == 0 => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
            if self.leave_if_read(index) {
                looks = self.taps.len();
            }
        }
        Ok(given)
    }

    #[inline]
    fn take(
        &mut self,
        index: usize,
        max: usize,
        each: &mut dyn FnMut(StreamRecord<'_>),
    ) -> Result<usize, StreamReadError> {
        let Self { taps, inner, .. } = self;
        let tap = &mut taps[index];
        let shard = tap.shard;
        // The end of one that was retired meanwhile: it is left there.
        let of = |error| match error {
            ReadError::Removed if !inner.is_removed() => Ok(0),
            error => Err(StreamReadError::of(shard, error)),
        };
        let oldest_ms = inner.horizon_ms();
        let Some(limits) = inner.definition.limits else {
            return tap.take(max, oldest_ms, each).or_else(of);
        };
        let now = clock::unix_ms();
        let limit = limits.read_bytes;
        let has_room = match self.consumer {
            Some(_) => limit::has_room(&mut tap.given, limit, now),
            None => {
                let most = limit.saturating_sub(1);
                inner.counts(shard.0, Counted::ReadBytes, 0, most, now)
            }
        };
        if !has_room {
            return Err(StreamReadError::Throttled { shard, limit });
        }
        let mut bytes = 0;
        let taken = tap.take(max, oldest_ms, &mut |record| {
            bytes += record.partition_key.len() + record.data.len();
            each(record);
        });
        if let Err(ReadError::Forked) = taken {
            return Err(StreamReadError::Forked); // the counts are the parent's
        }
        // What was handed over counts, and may be more than what was left: so it is in Kinesis.
        if self.consumer.is_some() {
            tap.given.1 = tap.given.1.saturating_add(bytes as u32);
        } else {
            inner.counts(shard.0, Counted::ReadBytes, bytes as u32, u32::MAX, now);
        }
        taken.or_else(of)
    }

    #[inline]
    fn leave_if_read(&mut self, index: usize) -> bool {
        let tap = &self.taps[index];
        let shard = self.table.get(tap.shard);
        if shard.is_some_and(|shard| shard.state == ShardState::Open) {
            return false;
        }
        let position = tap.position();
        let is_read = !tap.has_rest()
            && shard.is_some_and(|shard| Inner::is_read_to_its_end(shard, position));
        if is_read {
            self.taps.remove(index);
            self.turn = index;
        }
        is_read
    }

    /// The same, waiting up to `timeout` for the first record. Wakes within microseconds of a put.
    ///
    /// # Errors
    /// As [`try_read_batch`](Self::try_read_batch).
    pub fn read_batch(
        &mut self,
        max: usize,
        timeout: Duration,
        mut each: impl FnMut(StreamRecord<'_>),
    ) -> Result<usize, StreamReadError> {
        let deadline = Deadline::after(timeout);
        loop {
            let given = self.try_read_batch(max, &mut each)?;
            if given > 0 || max == 0 || self.is_at_end() || deadline.passed() {
                return Ok(given);
            }
            self.rest(deadline.remaining())?;
        }
    }

    /// Waits until there is something to read, or to look at.
    pub(super) fn rest(&mut self, timeout: Duration) -> Result<(), StreamReadError> {
        self.wait(timeout.min(LOOK_EVERY))
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), StreamReadError> {
        let turns: Vec<bool> = self.taps.iter().map(|tap| self.is_turn_of(tap)).collect();
        let mut readers: Vec<&mut Tap> = Vec::with_capacity(turns.len());
        let mut first = None;
        for (tap, is_turn) in self.taps.iter_mut().zip(turns) {
            if is_turn {
                first.get_or_insert(tap.shard);
                readers.push(tap);
            }
        }
        match first {
            Some(shard) => match wait_any(&mut readers, timeout) {
                Err(WaitError::Removed | WaitError::Unlinked) if self.inner.check().is_ok() => {}
                Err(error) => return Err(StreamReadError::of_wait(shard, error)),
                Ok(_) => {}
            },
            None => clock::pause(timeout),
        }
        Ok(())
    }

    /// A copy of the next record; `None` when there is none within `timeout`. Allocates.
    ///
    /// # Errors
    /// As [`try_read_batch`](Self::try_read_batch).
    pub fn next(&mut self, timeout: Duration) -> Result<Option<OwnedRecord>, StreamReadError> {
        let mut copied = None;
        self.read_batch(1, timeout, |record| copied = Some(record.to_owned()))?;
        Ok(copied)
    }

    /// Whether there is nothing left and never will be: the one shard that is read is closed, and read to
    /// its end.
    pub fn is_at_end(&self) -> bool {
        self.shard.is_some() && self.taps.is_empty()
    }

    /// Shards that are being read, or will be when what they replaced is read.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.taps.iter().map(|tap| tap.shard)
    }

    /// How far the record that was handed out last is behind what is put now, in the shard where it is
    /// most (`MillisBehindLatest`); 0 when everything was read.
    ///
    /// # Errors
    /// When a shard can't be opened now; [`StreamReadError::Forked`] in a forked child.
    pub fn millis_behind_latest(&self) -> Result<u64, StreamReadError> {
        if self.inner.words.is_forked() {
            return Err(StreamReadError::Forked);
        }
        let now = clock::unix_ms();
        let mut behind = 0;
        for tap in &self.taps {
            let Some(ring) = self.inner.ring_if_there(tap.shard.0).map_err(of_open)? else {
                continue;
            };
            behind = behind.max(tap.behind_ms(&ring, now));
        }
        Ok(behind)
    }
}
