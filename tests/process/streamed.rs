//! The survivor's book of a stream of two shards, of a group that reads it, and of what the victim puts.
//!
//! What it insists on: each record is read once by a reader of all shards, those of a key in their order; what
//! was acknowledged is there, whole; the shards that take records have every hash key once; the group is handed
//! every record that nobody had checkpointed, and none that was acknowledged as checkpointed; who puts, reads,
//! splits or merges beside a stopped victim is not held up.

use crate::operations::VICTIM;
use crate::stage::{FIFO_STRIDE, INLINE, SLOTS, body, id_of, text};
use ringway::{
    Bus, Group, GroupStart, GroupWorker, PutError, ShardState, Stream, StreamIterator,
    StreamProducer, StreamReader,
};
use ringway_harness::{AckBoard, deadline};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub const STREAM: &str = "trucks";
pub const GROUP: &str = "dispatch";
pub const CONSUMER: &str = "billing";
/// Acknowledges that the victim has split, merged or registered;
pub const CHANGED: usize = 5;
/// and that it has checkpointed what stood there when it began.
pub const CHECKPOINTED: usize = 6;
/// Ids of the survivor's records.
const OURS: u64 = 3 << 32;
const KEYS: u64 = 4;
/// Records that are there before the victim comes.
pub const FIRST: u64 = 12;
/// The shortest there is: what a stopped worker holds passes on.
const LEASE: Duration = Duration::from_millis(100);

pub struct Streamed {
    stream: Stream,
    group: Group,
    producer: StreamProducer,
    reader: StreamReader,
    worker: Option<GroupWorker>,
    put: u64,
    /// By key, in the order they were read.
    read: BTreeMap<String, Vec<u64>>,
    /// What the survivor's workers were handed.
    handed: BTreeSet<u64>,
}

impl Streamed {
    pub fn new(bus: &Bus) -> Result<Self, String> {
        let builder = bus.stream(STREAM).shards(2).slots(SLOTS);
        let builder = builder.stride(FIFO_STRIDE).readers(8).lease_timeout(LEASE);
        let stream = builder.create().map_err(text)?;
        let group = stream.group_or_create(GROUP, GroupStart::TrimHorizon);
        let begin = StreamIterator::TrimHorizon;
        let mut streamed = Self {
            group: group.map_err(text)?,
            producer: stream.producer().map_err(text)?,
            reader: stream.reader().iterator(begin).open().map_err(text)?,
            worker: None,
            stream,
            put: 0,
            read: BTreeMap::new(),
            handed: BTreeSet::new(),
        };
        for _ in 0..FIRST {
            streamed.put()?;
        }
        streamed.drain()?;
        Ok(streamed)
    }

    fn put(&mut self) -> Result<(), String> {
        let key = format!("k{}", self.put % KEYS);
        let body = body(OURS + self.put, INLINE);
        let start = Instant::now();
        loop {
            match self
                .producer
                .put_within(&ringway::PutRecord::new(&key, &body), Duration::ZERO)
            {
                Ok(_) => break,
                // The group, or our own reader; one that is stopped loses its lease by and by.
                Err(PutError::Full { .. }) if start.elapsed() < deadline() => {
                    self.drain()?;
                    self.work()?;
                }
                Err(error) => return Err(text(error)),
            }
        }
        self.put += 1;
        Ok(())
    }

    fn drain(&mut self) -> Result<(), String> {
        let (reader, read) = (&mut self.reader, &mut self.read);
        let mut wrong = None;
        let mut each = |record: ringway::StreamRecord<'_>| match id_of(record.data) {
            Ok(id) => read.entry(record.key().into_owned()).or_default().push(id),
            Err(error) => wrong = Some(error),
        };
        while reader.try_read_batch(1000, &mut each).map_err(text)? > 0 {}
        wrong.map_or(Ok(()), Err)
    }

    /// A pass of the survivor's worker, which joins if it has not.
    fn work(&mut self) -> Result<(), String> {
        if self.worker.is_none() {
            self.worker = Some(self.group.join().map_err(text)?);
        }
        let (worker, handed) = (self.worker.as_mut().expect("joined"), &mut self.handed);
        let mut wrong = None;
        let each = |record: ringway::StreamRecord<'_>| match id_of(record.data) {
            Ok(id) => drop(handed.insert(id)),
            Err(error) => wrong = Some(error),
        };
        let moment = Duration::from_millis(1);
        worker.read_batch(1000, moment, each).map_err(text)?;
        worker.checkpoint().map_err(text)?;
        wrong.map_or(Ok(()), Err)
    }

    /// One record of each key, with the victim wherever it is.
    pub fn deliver(&mut self) -> Result<(), String> {
        let before = self.put;
        for _ in 0..KEYS {
            self.put()?;
        }
        let start = Instant::now();
        loop {
            self.drain()?;
            let has = |id: u64| self.read.values().any(|ids| ids.last() == Some(&id));
            if (before..self.put).all(|number| has(OURS + number)) {
                return Ok(());
            }
            if start.elapsed() > deadline() {
                return Err(format!("a record stays behind: {:?}", self.stream.shards()));
            }
        }
    }

    /// Twice as many records as a shard has slots, and shards that come and go.
    pub fn go_round(&mut self) -> Result<(), String> {
        for _ in 0..2 * SLOTS {
            self.put()?;
        }
        self.stream.update_shard_count(3).map_err(text)?;
        self.deliver()?;
        self.stream.update_shard_count(2).map_err(text)?;
        self.deliver()
    }

    /// Everything, once the victim is gone.
    pub fn settle(&mut self, acks: &AckBoard) -> Result<(), String> {
        self.deliver()?;
        let start = Instant::now();
        loop {
            self.work()?;
            let info = self.group.info().map_err(text)?;
            if info.shards.iter().all(|shard| shard.behind == 0) {
                break;
            }
            if start.elapsed() > deadline() {
                return Err(format!("the group stays behind: {info:?}"));
            }
        }
        self.drain()?;
        self.worker = None;
        self.judge(acks)?;
        self.judge_shards(acks)
    }

    fn judge(&self, acks: &AckBoard) -> Result<(), String> {
        for (key, ids) in &self.read {
            if ids.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(format!("{key} was read out of order, or twice: {ids:x?}"));
            }
        }
        let read: BTreeSet<u64> = self.read.values().flatten().copied().collect();
        let ours = OURS..OURS + self.put;
        if let Some(id) = ours.clone().find(|id| !read.contains(id)) {
            return Err(format!("record {id:x} of the survivor is lost"));
        }
        let acked = (0..CHANGED as u64).filter(|n| acks.get(*n as usize) != 0);
        if let Some(id) = acked.map(|n| VICTIM + n).find(|id| !read.contains(id)) {
            return Err(format!("acknowledged record {id:x} of the victim is lost"));
        }
        let first = OURS..OURS + FIRST;
        let has_checkpointed = acks.get(CHECKPOINTED) != 0;
        for id in read.iter().filter(|id| !self.handed.contains(*id)) {
            if !first.contains(id) {
                return Err(format!("the group was not handed {id:x}"));
            }
        }
        match first.clone().find(|id| self.handed.contains(id)) {
            Some(id) if has_checkpointed => Err(format!("{id:x} was checkpointed, and came again")),
            _ => Ok(()),
        }
    }

    fn judge_shards(&self, acks: &AckBoard) -> Result<(), String> {
        let has_changed = acks.get(CHANGED) != 0;
        let shards = self.stream.shards().map_err(text)?;
        let open = shards
            .iter()
            .filter(|shard| shard.state == ShardState::Open);
        let mut ranges: Vec<_> = open.map(|shard| (shard.start, shard.end)).collect();
        ranges.sort_unstable();
        let covers = ranges.first().is_some_and(|range| range.0 == 0)
            && ranges.last().is_some_and(|range| range.1 == u128::MAX)
            && ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0);
        if !covers {
            return Err(format!("open shards have {ranges:x?}"));
        }
        let registered = self.stream.consumers().map_err(text)?.len();
        if has_changed && shards.len() == 2 && registered == 0 {
            return Err("what the victim changed is as it was".into());
        }
        Ok(())
    }
}
