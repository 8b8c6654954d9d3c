//! One shard that is read, by whoever reads it: in memory by a seat in its ring, on disk through ring and
//! journal without one.
//!
//! A tap hands records over in their order, those that were aggregated one by one, and keeps what it passed
//! and could not hand over yet. Used by readers and by workers of groups.

use super::Inner;
use super::log;
use super::passage::{Passage, Shore};
use super::read::of_open;
use super::record::{Content, StreamRecord};
use super::table::ShardInfo;
use crate::channel::{Channel, Reader};
use crate::error::{ReadError, ShardId, StreamReadError, WaitError};
use crate::layout::stream::ENTRY_NEWEST;
use crate::object::Host;
use crate::object::wait::{Waitable, Waits};
use crate::ring::seat::Start;
use crate::ring::wait::Idle;
use crate::ring::{Overflow, SlotRing};
use crate::sys::fork;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One shard that is read.
pub(super) struct Tap {
    pub shard: ShardId,
    way: Way,
    pub parents: Vec<ShardId>,
    /// Records that arrived before are passed over, until one did not.
    from_ms: u64,
    /// When the last one that was handed out arrived.
    last_ms: u64,
    created_ms: u64,
    /// Everything below was handed out, or is nothing.
    pub handed_to: u64,
    /// Bytes that no put wrote, met behind records that were handed out.
    damaged: Option<u64>,
    lagged: Option<(u64, u64)>,
    /// What a registered consumer was given in this second: second, bytes.
    pub given: (u64, u32),
    /// Copies of what the reader has passed and was not handed out whole: more were aggregated than were
    /// asked for.
    rest: VecDeque<Rest>,
    /// Records in the last position that was looked at: how many to expect in the next.
    usual: usize,
}

/// A copy of a position, of which the first few records were handed out.
struct Rest {
    position: u64,
    handed: usize,
    bytes: Vec<u8>,
}

/// How a shard is read.
enum Way {
    /// In memory: by a seat in its ring.
    Seat(Box<Reader>),
    /// On disk: without one.
    Passage(Box<Passage>),
}

impl Tap {
    /// Joins a shard: in memory by a seat, on disk without one.
    pub fn join(
        inner: &Inner,
        ring: &Channel,
        shard: &ShardInfo,
        start: Start,
        lossy: bool,
        idle: Idle,
    ) -> Result<Self, StreamReadError> {
        let mut builder = ring.reader().start(start).idle(idle);
        if lossy || ring.definition().overflow == Overflow::DropOldest {
            builder = builder.lossy();
        }
        let id = shard.id;
        let tap = |way, position, lagged| Self {
            shard: id,
            way,
            parents: shard.lineage().collect(),
            from_ms: 0,
            last_ms: 0,
            created_ms: shard.created_ms,
            handed_to: position,
            damaged: None,
            lagged,
            given: (0, 0),
            rest: VecDeque::new(),
            usual: 1,
        };
        if let Some(log) = inner.log(id.0).map_err(of_open)? {
            let shore = Shore {
                ring: ring.inner.ring.clone(),
                words: log.words.clone(),
                segments: Arc::clone(&inner.segments),
                directory: log.directory().to_owned(),
                object: log::object_of(inner.family, id.0),
                reads_ahead: inner.is_write_behind(),
                log: Some(log),
            };
            let passage = Passage::new(shore, start, idle);
            let position = passage.position();
            return Ok(tap(Way::Passage(Box::new(passage)), position, None));
        }
        let reader = builder
            .join()
            .map_err(|source| StreamReadError::Join { shard: id, source })?;
        // Only of a place that was given does it say something that others hold less.
        let lagged = match start {
            Start::At(from) if reader.position() > from => Some((from, reader.position())),
            _ => None,
        };
        let position = reader.position();
        Ok(tap(Way::Seat(Box::new(reader)), position, lagged))
    }

    /// A place that was asked for and is gone is the oldest there is: that is what an iterator says.
    pub fn forget_lag(&mut self) {
        self.lagged = None;
        if let Way::Passage(passage) = &mut self.way {
            passage.forget_lag();
        }
    }

    /// The position that is read next.
    pub fn position(&self) -> u64 {
        match &self.way {
            Way::Seat(reader) => reader.position(),
            Way::Passage(passage) => passage.position(),
        }
    }

    /// Everything below was handed out.
    pub fn handed_to(&self) -> u64 {
        match self.has_rest() {
            true => self.handed_to,
            false => self.position(),
        }
    }

    /// Notes beside its seat whose it is. On disk it has none, and holds nobody back.
    pub fn note(&self, note: u8) {
        if let Way::Seat(reader) = &self.way {
            reader.note(note);
        }
    }

    /// Passes over what arrived before.
    pub fn begin_at_time(&mut self, from_ms: u64) -> Result<(), ReadError> {
        self.from_ms = from_ms;
        if let Way::Passage(passage) = &mut self.way {
            // What a segment says of all before it: the latest arrival.
            passage.search(ENTRY_NEWEST, |newest| {
                let newest = newest.try_into().map_or(u64::MAX, u64::from_le_bytes);
                newest >= from_ms
            })?;
        }
        Ok(())
    }

    /// Hands over up to `max` records, those that arrived at `oldest_ms` or later; how many.
    pub fn take(
        &mut self,
        max: usize,
        oldest_ms: u64,
        each: &mut dyn FnMut(StreamRecord<'_>),
    ) -> Result<usize, ReadError> {
        let generation = fork::generation();
        let is_forked = || generation != fork::generation();
        let mut given = 0;
        if self.lagged.is_some() || self.damaged.is_some() || self.has_rest() {
            given = self.take_what_is_left(max, each)?;
            if is_forked() {
                return Err(ReadError::Forked);
            }
        }
        while given < max && self.damaged.is_none() && self.rest.is_empty() {
            let Self {
                shard,
                way,
                from_ms,
                last_ms,
                handed_to,
                damaged,
                lagged,
                rest,
                usual,
                ..
            } = self;
            let most = match *usual {
                1 => max - given, // a division costs as much as the rest
                usual => (max - given).div_ceil(usual),
            };
            let mut one = |position: u64, bytes: &[u8]| {
                let Some(content) = Content::parse(shard.0, position, bytes) else {
                    *damaged = Some(damaged.unwrap_or(position));
                    return;
                };
                if content.arrival_ms() < *from_ms {
                    return;
                }
                if content.arrival_ms() < oldest_ms {
                    // Who has begun is told what it was too slow for.
                    if *last_ms != 0 {
                        let from = lagged.map_or(position, |(from, _)| from);
                        *lagged = Some((from, position + 1));
                    }
                    return;
                }
                *from_ms = 0;
                *last_ms = content.arrival_ms();
                let mut handed = 0;
                match content {
                    Content::One(record) if given < max => {
                        *usual = 1;
                        given += 1;
                        each(record);
                    }
                    Content::Several(mut records) if given < max => {
                        *usual = (records.records() as usize).max(1);
                        while given < max
                            && let Some(record) = records.next()
                        {
                            given += 1;
                            handed += 1;
                            each(record);
                            if is_forked() {
                                return; // the bytes may be the parent's alone
                            }
                        }
                        if records.clone().next().is_some() {
                            let bytes = bytes.to_vec();
                            rest.push_back(Rest {
                                position,
                                handed,
                                bytes,
                            });
                            return;
                        }
                        if !records.is_whole() {
                            *damaged = Some(damaged.unwrap_or(position));
                        }
                    }
                    _ => {
                        let bytes = bytes.to_vec();
                        rest.push_back(Rest {
                            position,
                            handed,
                            bytes,
                        });
                        return;
                    }
                }
                *handed_to = position + 1;
            };
            let read = match way {
                Way::Seat(reader) => reader.read_batch(most, |at, bytes| one(at.position, bytes)),
                Way::Passage(passage) => passage.read_batch(most, &mut one),
            };
            match read {
                Ok(0) => break,
                // At the end: to look again would take the next line away from who writes it. A passage may
                // be at a seam.
                Ok(read) if read < most && matches!(way, Way::Seat(_)) => break,
                Ok(_) => {}
                Err(error) if given == 0 || matches!(error, ReadError::Forked) => {
                    return Err(error);
                }
                // Met again where it is not told yet; what was passed is told next time.
                Err(ReadError::Lagged { from, to }) => {
                    self.lagged = Some((from, to));
                    break;
                }
                Err(ReadError::Corrupt { position }) => {
                    self.damaged = Some(self.damaged.unwrap_or(position));
                    break;
                }
                Err(_) => break,
            }
        }
        match self.damaged {
            Some(position) if given == 0 => {
                self.damaged = None;
                Err(ReadError::Corrupt { position })
            }
            _ => Ok(given),
        }
    }

    /// What the last call left: what is to be told, and what was copied.
    #[cold]
    fn take_what_is_left(
        &mut self,
        max: usize,
        each: &mut dyn FnMut(StreamRecord<'_>),
    ) -> Result<usize, ReadError> {
        if let Some((from, to)) = self.lagged.take() {
            return Err(ReadError::Lagged { from, to });
        }
        let given = self.take_rest(max, each);
        if given == 0
            && let Some(position) = self.damaged.take()
        {
            return Err(ReadError::Corrupt { position });
        }
        Ok(given)
    }

    /// Hands over what was copied before.
    fn take_rest(&mut self, max: usize, each: &mut dyn FnMut(StreamRecord<'_>)) -> usize {
        let mut given = 0;
        while given < max
            && let Some(rest) = self.rest.front_mut()
        {
            let position = rest.position;
            // Parsed when it was copied.
            let content = Content::parse(self.shard.0, position, &rest.bytes);
            let mut is_over = true;
            match content {
                Some(Content::One(record)) => {
                    each(record);
                    given += 1;
                }
                Some(Content::Several(records)) => {
                    let mut records = records.skip(rest.handed).peekable();
                    while given < max
                        && let Some(record) = records.next()
                    {
                        each(record);
                        given += 1;
                        rest.handed += 1;
                    }
                    is_over = records.peek().is_none();
                }
                None => {}
            }
            if is_over {
                self.handed_to = position + 1;
                self.rest.pop_front();
            }
        }
        given
    }

    /// Whether something was passed that was not handed out.
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// The end of what can be read of it now.
    pub fn end(&self, ring: &SlotRing) -> u64 {
        match &self.way {
            Way::Seat(_) => super::lease::end(ring),
            Way::Passage(passage) => passage.end(),
        }
    }

    /// How far what was handed out last is behind what is put now; 0 at the end.
    pub fn behind_ms(&self, ring: &Channel, now: u64) -> u64 {
        if !self.has_rest() && self.position() >= self.end(&ring.inner.ring) {
            return 0;
        }
        let since = if self.last_ms == 0 {
            self.created_ms
        } else {
            self.last_ms
        };
        now.saturating_sub(since)
    }
}

macro_rules! waits {
    ($self:ident, $way:ident => $call:expr) => {
        match &$self.way {
            Way::Seat($way) => $call,
            Way::Passage($way) => $call,
        }
    };
    (mut $self:ident, $way:ident => $call:expr) => {
        match &mut $self.way {
            Way::Seat($way) => $call,
            Way::Passage($way) => $call,
        }
    };
}

impl Waits for Tap {
    fn is_forked(&self) -> bool {
        waits!(self, way => way.is_forked())
    }

    fn is_ready(&mut self) -> bool {
        waits!(mut self, way => way.is_ready())
    }

    fn check_alive(&self) -> Result<(), WaitError> {
        waits!(self, way => way.check_alive())
    }

    fn idle(&self) -> Idle {
        waits!(self, way => way.idle())
    }

    fn before_sleep(&mut self) -> bool {
        waits!(mut self, way => way.before_sleep())
    }

    fn longest_sleep(&mut self) -> Duration {
        waits!(mut self, way => way.longest_sleep())
    }

    fn ring(&self) -> &SlotRing {
        waits!(self, way => way.ring())
    }

    fn host(&self) -> &dyn Host {
        waits!(self, way => way.host())
    }
}

impl Waitable for Tap {}
