//! Reading without a seat: shards and payloads are mapped read-only, so nothing that such a reader does can
//! change them, and nobody knows that it is there. For monitoring, and for whoever must not hold anybody back.
//!
//! It copies, looks again, and believes what it looked at twice. A claim that hangs it leaves to those who may
//! write: one of a dead producer it steps over, at one of a stopped producer it waits until somebody who may
//! has abandoned it. It polls, since who sleeps has to say so in shared memory.

use super::record::Content;
use super::table::{ShardInfo, ShardState, Table};
use super::{Inner, OwnedRecord, Stream, file};
use crate::channel;
use crate::error::{OpenError, ReadError, ShardId, StreamReadError};
use crate::layout::ring::{ChunkRef, Meta};
use crate::layout::word::Chunk;
use crate::object::Site;
use crate::pool::segment::Segments;
use crate::ring::SlotRing;
use crate::ring::read::Look;
use crate::sync::{Label, Ordering, fence_at};
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
    ring: SlotRing,
    next: u64,
}

/// A reader of all shards of a stream that has no seat, see [`Stream::tail`].
///
/// May move to another thread, is not shared between threads. In a forked child every call returns
/// [`StreamReadError::Forked`].
pub struct StreamTail {
    inner: Arc<Inner>,
    table: Arc<Table>,
    segments: Segments,
    places: Vec<Place>,
    known: u32,
    turn: usize,
    buffer: Vec<u8>,
    /// Of an aggregated record, what comes next.
    ready: VecDeque<OwnedRecord>,
    /// Shards that were given back before this reader came to them, and where they ended.
    missed: Vec<(ShardId, u64)>,
}

/// What became of a copy.
enum Copied {
    Whole,
    /// The record is not there any more.
    Overwritten,
    /// The record is, and its payload is not.
    Vacated,
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
            segments: self.inner.segments.read_only(),
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
        let ring = SlotRing::new(
            opened.memory,
            Arc::clone(&inner.liveness),
            inner.me,
            opened.definition.producers,
            opened.definition.overflow,
            opened.definition.stall_timeout.as_nanos() as u64,
        );
        Ok(Some(Place {
            shard: shard.id,
            parents,
            next: match at_end {
                true => ring.tail_now(),
                false => ring.oldest().unwrap_or(0),
            },
            ring,
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
            if end.is_some_and(|end| place.next >= end) {
                self.places.remove(self.turn);
                looks = self.places.len();
                continue;
            }
            let place = &mut self.places[self.turn];
            place.read(&self.segments, &mut self.buffer, &mut self.ready)?;
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if end.is_some_and(|end| place.next >= end) {
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
    /// Steps on to the next record and copies it, or all that were aggregated in it.
    fn read(
        &mut self,
        segments: &Segments,
        buffer: &mut Vec<u8>,
        ready: &mut VecDeque<OwnedRecord>,
    ) -> Result<(), StreamReadError> {
        // Bounded: a scribbled lap must not keep us here for ever.
        for _ in 0..=self.ring.memory().geometry().slots() {
            let position = self.next;
            match self.ring.look(position).1 {
                Look::End => return Ok(()),
                Look::Pending(word) if !self.ring.is_dead(word.owner()) => return Ok(()),
                Look::Record(meta) => match self.copy(position, meta, segments, buffer)? {
                    Copied::Whole => {
                        self.next = position + 1;
                        match Content::parse(self.shard.0, position, buffer) {
                            Some(Content::One(record)) => ready.push_back(record.to_owned()),
                            Some(Content::Several(records)) => {
                                ready.extend(records.map(|record| record.to_owned()));
                            }
                            None => return Err(self.read_error(ReadError::Corrupt { position })),
                        }
                        if !ready.is_empty() {
                            return Ok(());
                        }
                        continue; // an empty run
                    }
                    Copied::Vacated if self.ring.oldest().is_none_or(|at| at <= position) => {
                        let (from, to) = (position, position + 1);
                        self.next = to;
                        return Err(self.read_error(ReadError::Lagged { from, to }));
                    }
                    Copied::Vacated | Copied::Overwritten => {}
                },
                Look::Pending(_) | Look::Gone => {}
            }
            match self.ring.oldest() {
                Some(oldest) if position < oldest => {
                    self.next = oldest;
                    return Err(StreamReadError::Lagged {
                        shard: self.shard,
                        from: position,
                        to: oldest,
                    });
                }
                _ => self.next = position + 1,
            }
        }
        Ok(())
    }

    fn read_error(&self, error: ReadError) -> StreamReadError {
        StreamReadError::of(self.shard, error)
    }

    /// Copies a record and says whether it was that of `position` all the time.
    ///
    /// # Errors
    /// When its payload can't be opened *now*: the record stays next.
    fn copy(
        &self,
        position: u64,
        meta: Meta,
        segments: &Segments,
        buffer: &mut Vec<u8>,
    ) -> Result<Copied, StreamReadError> {
        let slot = self.ring.memory().slot(position);
        let len = meta.len() as usize;
        if meta.kind() == Meta::INLINE && len <= slot.room() {
            buffer.resize(len, 0);
            slot.read_body(buffer);
            return Ok(match self.ring.still(slot, position) {
                true => Copied::Whole,
                false => Copied::Overwritten,
            });
        }
        let gone = || match self.ring.still(slot, position) {
            true => Copied::Vacated,
            false => Copied::Overwritten,
        };
        if meta.kind() != Meta::CHUNK || len != size_of::<ChunkRef>() {
            return Ok(gone());
        }
        let mut bytes = [0u8; size_of::<ChunkRef>()];
        slot.read_body(&mut bytes);
        let reference: ChunkRef = bytemuck::cast(bytes);
        let segment = match segments.open(reference.segment) {
            Ok(Some(segment)) => segment,
            Ok(None) => return Ok(gone()),
            Err(failure) => return Err(self.read_error(ReadError::Pool(format!("{failure:?}")))),
        };
        let is_possible = reference.chunk < segment.chunks()
            && reference.len <= segment.chunk_bytes() as u64
            && self.ring.still(slot, position);
        if !is_possible {
            return Ok(gone());
        }
        buffer.resize(reference.len as usize, 0);
        segment.read(reference.chunk, buffer);
        fence_at(Label::ReadFence, Ordering::Acquire);
        let word = Chunk(segment.word(reference.chunk).load(Ordering::Relaxed));
        Ok(match word.version() == reference.version {
            true if self.ring.still(slot, position) => Copied::Whole,
            _ => gone(),
        })
    }
}
