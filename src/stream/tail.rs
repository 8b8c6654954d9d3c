//! Reading without a seat: shards and payloads are mapped read-only, so nothing that such a reader does can
//! change them, and nobody knows that it is there. For monitoring, and for whoever must not hold anybody back.
//!
//! It copies, looks again, and believes what it looked at twice. A claim that hangs it leaves to those who may
//! write: one of a dead producer it steps over, at one of a stopped producer it waits until somebody who may
//! has abandoned it. It polls, since who sleeps has to say so in shared memory.

use super::copy::{Copied, copy_record};
use super::log;
use super::passage::{Passage, Shore};
use super::record::Content;
use super::table::{ShardInfo, ShardState, Table};
use super::{Inner, OwnedRecord, Stream, file};
use crate::channel;
use crate::error::{OpenError, ReadError, ShardId, StreamReadError};
use crate::object::Site;
use crate::pool::segment::Segments;
use crate::ring::SlotRing;
use crate::ring::read::Look;
use crate::ring::seat::Start;
use crate::ring::wait::Idle;
use crate::shm::durable::DurableWords;
use crate::sync::Ordering;
use crate::sys::clock::{self, Deadline};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks for a record.
const POLL_EVERY: Duration = Duration::from_millis(1);

/// One shard.
struct Place {
    shard: ShardId,
    parents: Vec<ShardId>,
    way: Way,
}

/// How it is read.
enum Way {
    /// In memory.
    Ring { ring: SlotRing, next: u64 },
    /// On disk.
    Passage(Box<Passage>),
}

/// A reader of all shards of a stream that has no seat, see [`Stream::tail`].
///
/// May move to another thread, is not shared between threads. In a forked child every call returns
/// [`StreamReadError::Forked`].
pub struct StreamTail {
    inner: Arc<Inner>,
    table: Arc<Table>,
    segments: Arc<Segments>,
    places: Vec<Place>,
    known: u32,
    turn: usize,
    buffer: Vec<u8>,
    /// Of an aggregated record, what comes next.
    ready: VecDeque<OwnedRecord>,
    /// Shards that were given back before this reader came to them, and where they ended.
    missed: Vec<(ShardId, u64)>,
}

impl Stream {
    /// Becomes a reader without a seat, of what is put from now on, or (`from_oldest`) of what is there. It
    /// holds nobody back, is told what it missed, and maps records read-only: a store into them faults.
    ///
    /// # Errors
    /// As [`shards`](Stream::shards).
    pub fn tail(&self, from_oldest: bool) -> Result<StreamTail, OpenError> {
        self.inner.check()?;
        let mut tail = StreamTail {
            table: Arc::new(Table::unknown()),
            segments: Arc::new(self.inner.segments.read_only()),
            inner: Arc::clone(&self.inner),
            places: Vec::new(),
            known: 0,
            turn: 0,
            buffer: Vec::new(),
            ready: VecDeque::new(),
            missed: Vec::new(),
        };
        tail.renew(from_oldest)?;
        Ok(tail)
    }
}

impl StreamTail {
    fn renew(&mut self, from_oldest: bool) -> Result<(), OpenError> {
        let table = self.inner.table()?;
        let first_time = self.known == 0;
        for shard in &table.shards[(self.known as usize).min(table.shards.len())..] {
            let sources = table.sources(shard);
            let left_out = first_time && !from_oldest && shard.state == ShardState::Closed;
            let opened = match shard.state {
                ShardState::Retired => None,
                _ if left_out => None,
                _ => self.open(shard, sources.clone(), first_time && !from_oldest)?,
            };
            let is_child = self
                .places
                .iter()
                .any(|place| sources.contains(&place.shard));
            match opened {
                Some(place) => self.places.push(place),
                None if !first_time && is_child => {
                    let end = shard.closed_at.unwrap_or(0);
                    self.missed.extend((end > 0).then_some((shard.id, end)));
                }
                None => {}
            }
            self.known = shard.id.0 + 1;
        }
        self.table = table;
        Ok(())
    }

    fn open(
        &self,
        shard: &ShardInfo,
        parents: Vec<ShardId>,
        at_end: bool,
    ) -> Result<Option<Place>, OpenError> {
        let inner = &self.inner;
        let name = file::shard_file(inner.family, shard.id.0);
        let site = Site {
            read_only: true,
            ..inner.site.clone()
        };
        let opened = match channel::open_ring(&site, &name) {
            Ok(opened) => opened,
            Err(_) if inner.is_retired(shard.id.0) => return Ok(None),
            Err(error) => return Err(error),
        };
        let words = DurableWords::without_bits(Arc::clone(&opened.mapping));
        let ring = SlotRing::new(
            opened.memory,
            Arc::clone(&inner.liveness),
            inner.me,
            opened.definition.producers,
            opened.definition.overflow,
            opened.definition.stall_timeout.as_nanos() as u64,
        );
        let way = match (&inner.store, words) {
            (Some(store), Some(words)) => {
                let number = shard.id.0;
                let shore = Shore {
                    ring,
                    words,
                    segments: Arc::clone(&self.segments),
                    directory: store.directory_of(inner.family, number),
                    object: log::object_of(inner.family, number),
                    reads_ahead: inner.is_write_behind(),
                    log: None,
                };
                let start = match at_end {
                    true => Start::Latest,
                    false => Start::Earliest,
                };
                Way::Passage(Box::new(Passage::new(shore, start, Idle::default())))
            }
            _ => Way::Ring {
                next: match at_end {
                    true => ring.tail_now(),
                    false => ring.oldest().unwrap_or(0),
                },
                ring,
            },
        };
        Ok(Some(Place {
            shard: shard.id,
            parents,
            way,
        }))
    }

    /// A copy of the next record; `None` when there is none now. Never blocks, but for opening a shard.
    ///
    /// # Errors
    /// [`StreamReadError::Lagged`] tells what was missed, and the next call goes on.
    pub fn try_next(&mut self) -> Result<Option<OwnedRecord>, StreamReadError> {
        if self.inner.words.is_forked() {
            return Err(StreamReadError::Forked);
        }
        if let Some(record) = self.ready.pop_front() {
            return Ok(Some(record));
        }
        if self.inner.words.operation().load(Ordering::Relaxed) != self.table.version {
            if self.inner.is_removed() {
                return Err(StreamReadError::Removed);
            }
            self.renew(true)?;
        }
        if let Some((shard, to)) = self.missed.pop() {
            return Err(StreamReadError::Lagged { shard, from: 0, to });
        }
        let mut looks = self.places.len();
        while looks > 0 && !self.places.is_empty() {
            looks -= 1;
            self.turn = (self.turn + 1) % self.places.len();
            let place = &self.places[self.turn];
            let mut others = self.places.iter();
            if others.any(|other| place.parents.contains(&other.shard)) {
                continue;
            }
            let end = self
                .table
                .get(place.shard)
                .and_then(|shard| shard.closed_at);
            if end.is_some_and(|end| place.next() >= end) {
                self.places.remove(self.turn);
                looks = self.places.len();
                continue;
            }
            let place = &mut self.places[self.turn];
            let oldest_ms = self.inner.horizon_ms();
            place.read(&self.segments, &mut self.buffer, &mut self.ready, oldest_ms)?;
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if end.is_some_and(|end| place.next() >= end) {
                looks += 1; // it is left in the next look
                self.turn = (self.turn + self.places.len() - 1) % self.places.len();
            }
        }
        Ok(None)
    }

    /// The same, waiting up to `timeout`: it looks every millisecond.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub fn next(&mut self, timeout: Duration) -> Result<Option<OwnedRecord>, StreamReadError> {
        let deadline = Deadline::after(timeout);
        loop {
            let found = self.try_next()?;
            if found.is_some() || deadline.passed() {
                return Ok(found);
            }
            self.inner.check()?;
            clock::pause(deadline.remaining().min(POLL_EVERY));
        }
    }
}

impl Place {
    fn next(&self) -> u64 {
        match &self.way {
            Way::Ring { next, .. } => *next,
            Way::Passage(passage) => passage.position(),
        }
    }

    /// Steps on to the next record that arrived at `oldest_ms` or later, and copies it, or all that were
    /// aggregated in it.
    fn read(
        &mut self,
        segments: &Segments,
        buffer: &mut Vec<u8>,
        ready: &mut VecDeque<OwnedRecord>,
        oldest_ms: u64,
    ) -> Result<(), StreamReadError> {
        let shard = self.shard;
        let mut copy = |position, bytes: &[u8]| {
            match Content::parse(shard.0, position, bytes) {
                None => return Err(ReadError::Corrupt { position }),
                Some(content) if content.arrival_ms() < oldest_ms => {}
                Some(Content::One(record)) => ready.push_back(record.to_owned()),
                Some(Content::Several(records)) => {
                    ready.extend(records.map(|record| record.to_owned()));
                }
            }
            Ok(!ready.is_empty())
        };
        let (ring, next) = match &mut self.way {
            Way::Ring { ring, next } => (ring, next),
            Way::Passage(passage) => {
                let told = |error| StreamReadError::of(shard, error);
                let mut found = Ok(false);
                while matches!(found, Ok(false)) {
                    let read = passage.read_batch(1, &mut |position, bytes| {
                        found = copy(position, bytes);
                    });
                    if read.map_err(told)? == 0 {
                        break;
                    }
                }
                return found.map(drop).map_err(told);
            }
        };
        let told = |error| StreamReadError::of(shard, error);
        // Bounded: a scribbled lap must not keep us here for ever.
        for _ in 0..=ring.memory().geometry().slots() {
            let position = *next;
            match ring.look(position).1 {
                Look::End => return Ok(()),
                Look::Pending(word) if !ring.is_dead(word.owner()) => return Ok(()),
                Look::Record(meta) => {
                    match copy_record(ring, position, meta, segments, buffer).map_err(told)? {
                        Copied::Whole => {
                            *next = position + 1;
                            if copy(position, buffer).map_err(told)? {
                                return Ok(());
                            }
                            continue; // an empty run
                        }
                        Copied::Vacated if ring.oldest().is_none_or(|at| at <= position) => {
                            let (from, to) = (position, position + 1);
                            *next = to;
                            return Err(told(ReadError::Lagged { from, to }));
                        }
                        Copied::Vacated | Copied::Overwritten => {}
                    }
                }
                Look::Pending(_) | Look::Gone => {}
            }
            match ring.oldest() {
                Some(oldest) if position < oldest => {
                    *next = oldest;
                    return Err(StreamReadError::Lagged {
                        shard,
                        from: position,
                        to: oldest,
                    });
                }
                _ => *next = position + 1,
            }
        }
        Ok(())
    }
}
