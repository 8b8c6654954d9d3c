//! Streams: opening, shards, reading alone and in groups.

use crate::argument::{self, How, choice, given, given_ms, nothing, switch, timeout};
use crate::bus::BusHandle;
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared, with};
use crate::layout::{
    FIRST_STREAM_STATS, HashKey, SequenceNumber, ShardInfo, StreamConfig, StreamReaderConfig,
    StreamRecord, StreamStats,
};
use crate::put::number_out;
use crate::queue::durability;
use crate::receive::{Arena, idle};
use core::ffi::{c_char, c_void};
use core::mem::MaybeUninit;
use core::time::Duration;
use ringway::{
    Backpressure, Bus, ConsumerError, ConsumerEvent, ConsumerSubscription, GroupStart, GroupWorker,
    OnDemand, OpenError, Producers, Retention, ShardId, ShardLimits, ShardState, Stream,
    StreamIterator, StreamReadError, StreamReader,
};

pub struct StreamHandle(pub Stream);

/// Who reads.
enum Reading {
    Alone(StreamReader),
    Member(GroupWorker),
    Registered(ConsumerSubscription),
}

pub struct StreamReaderHandle {
    reading: Reading,
    batch: Arena,
}

pub fn small(field: u64) -> u32 {
    // More than there may be are refused by the core, with the rule.
    u32::try_from(field).unwrap_or(u32::MAX)
}

/// What is said about retention, if anything: then what is not said is as by default.
fn retention(config: &StreamConfig) -> Option<Retention> {
    let (age, bytes) = (given_ms(config.retention_ms), given(config.retention_bytes));
    let mut retention = Retention::default();
    if age.is_none() && bytes.is_none() {
        return None;
    }
    if let Some(age) = age {
        retention.age = age;
    }
    if let Some(bytes) = bytes {
        retention.bytes = (bytes != argument::NONE).then_some(bytes);
    }
    Some(retention)
}

fn open(bus: &Bus, name: &str, config: Option<StreamConfig>) -> Result<Stream, Failure> {
    let mut builder = bus.stream(name);
    let mut how = How::OpenOrCreate;
    if let Some(config) = config {
        how = argument::how(config.how)?;
        if let Some(shards) = given(config.shards) {
            builder = builder.shards(small(shards));
        }
        if let Some(slots) = given(config.slots) {
            builder = builder.slots(slots);
        }
        if let Some(stride) = given(config.stride) {
            builder = builder.stride(stride);
        }
        if let Some(readers) = given(config.readers) {
            builder = builder.readers(small(readers));
        }
        if let Some(timeout) = given_ms(config.lease_timeout_ms) {
            builder = builder.lease_timeout(timeout);
        }
        if let Some(timeout) = given_ms(config.stall_timeout_ms) {
            builder = builder.stall_timeout(timeout);
        }
        let overflow = [(1, Backpressure::Fail), (2, Backpressure::DropOldest)];
        if let Some(backpressure) = choice(config.overflow, &overflow, "overflow")? {
            builder = builder.backpressure(backpressure);
        }
        let producers = [(1, Producers::Shared), (2, Producers::Exclusive)];
        if let Some(producers) = choice(config.producers, &producers, "producers")? {
            builder = builder.producers(producers);
        }
        if let Some(limits) = switch(config.kinesis_limits, "kinesis_limits")? {
            builder = builder.limits(limits.then_some(ShardLimits::KINESIS));
        }
        if let Some(huge_pages) = switch(config.huge_pages, "huge_pages")? {
            builder = builder.huge_pages(huge_pages);
        }
        if let Some(durability) = durability(config.durability)? {
            builder = builder.durability(durability);
        }
        if let Some(on_demand) = switch(config.on_demand, "on_demand")? {
            builder = builder.on_demand(on_demand.then(OnDemand::default));
        }
        if let Some(retention) = retention(&config) {
            builder = builder.retention(retention);
        }
    }
    Ok(match how {
        How::OpenOrCreate => builder.open_or_create()?,
        How::Open => builder.open()?,
        How::Create => builder.create()?,
    })
}

fn number_in(number: &SequenceNumber) -> Result<ringway::SequenceNumber, Failure> {
    let shard = ShardId(small(number.shard));
    Ok(ringway::SequenceNumber::from_parts(shard, number.position)?)
}

/// The iterator that a config names, if it names one.
fn iterator(config: &StreamReaderConfig) -> Result<Option<StreamIterator>, Failure> {
    Ok(Some(match config.iterator {
        0 => return Ok(None),
        1 => StreamIterator::TrimHorizon,
        2 => StreamIterator::Latest,
        3 => StreamIterator::AtSequenceNumber(number_in(&config.sequence_number)?),
        4 => StreamIterator::AfterSequenceNumber(number_in(&config.sequence_number)?),
        5 => StreamIterator::AtTimestamp(config.timestamp_ms),
        _ => {
            let text = "iterator is none of the constants of ringway.h";
            return Err(Failure::new(Code::Argument, text));
        }
    }))
}

fn read_alone(stream: &Stream, config: &StreamReaderConfig) -> Result<StreamReader, Failure> {
    let mut builder = stream.reader();
    if let Some(iterator) = iterator(config)? {
        builder = builder.iterator(iterator);
    }
    if let Some(shard) = given(config.shard) {
        builder = builder.shard(ShardId(small(shard)));
    }
    let reliabilities = [(1, false), (2, true)];
    if choice(config.reliability, &reliabilities, "reliability")? == Some(true) {
        builder = builder.lossy();
    }
    if let Some(idle) = idle(config.idle)? {
        builder = builder.idle(idle);
    }
    Ok(builder.open()?)
}

fn join(stream: &Stream, group: &str, config: &StreamReaderConfig) -> Result<GroupWorker, Failure> {
    let of_a_group = |what: &str| {
        let text = format!("a worker of a group has no {what}: its group says what it reads");
        Failure::new(Code::Option, text)
    };
    let start = match iterator(config)? {
        None => GroupStart::default(),
        Some(StreamIterator::TrimHorizon) => GroupStart::TrimHorizon,
        Some(StreamIterator::Latest) => GroupStart::Latest,
        Some(_) => return Err(of_a_group("iterator but trim horizon and latest")),
    };
    if given(config.shard).is_some() {
        return Err(of_a_group("shard of its own"));
    }
    if choice(config.reliability, &[(1, ()), (2, ())], "reliability")?.is_some() {
        return Err(of_a_group("reliability"));
    }
    let worker = stream.group_or_create(group, start)?.join()?;
    Ok(match idle(config.idle)? {
        Some(idle) => worker.idle(idle),
        None => worker,
    })
}

fn subscribe(
    stream: &Stream,
    name: &str,
    config: &StreamReaderConfig,
) -> Result<ConsumerSubscription, Failure> {
    let of_a_consumer = |what: &str| {
        let text = format!("who reads as a registered consumer has no {what}");
        Failure::new(Code::Option, text)
    };
    if !config.group.is_null() {
        return Err(of_a_consumer("group"));
    }
    if given(config.shard).is_some() {
        return Err(of_a_consumer("shard of its own: it reads all"));
    }
    if choice(config.reliability, &[(1, ()), (2, ())], "reliability")?.is_some() {
        return Err(of_a_consumer("reliability: the consumer's policy says it"));
    }
    if idle(config.idle)?.is_some() {
        return Err(of_a_consumer("way to wait of its own"));
    }
    let consumer = stream.consumer(name)?;
    let iterator = iterator(config)?.unwrap_or(StreamIterator::Latest);
    Ok(match switch(config.take_over, "take_over")? {
        Some(true) => consumer.take_over(iterator)?,
        _ => consumer.subscribe(iterator)?,
    })
}

fn shard_info(stream: &Stream, shard: &ringway::ShardInfo) -> Result<ShardInfo, Failure> {
    let key = |key: u128| HashKey {
        high: (key >> 64) as u64,
        low: key as u64,
    };
    let there = || {
        Ok((
            stream.positions(shard.id)?,
            stream.durable_position(shard.id)?,
        ))
    };
    let (positions, durable_position) = match shard.state {
        ShardState::Retired => (0..0, 0),
        _ => match there() {
            // Retired since it was listed.
            Err(OpenError::NotFound { .. } | OpenError::Removed { .. }) => (0..0, 0),
            there => there?,
        },
    };
    Ok(ShardInfo {
        shard: shard.id.0.into(),
        parents: shard
            .parents
            .map(|parent| parent.map_or(argument::NONE, |parent| parent.0.into())),
        first: key(shard.start),
        last: key(shard.end),
        created_ms: shard.created_ms,
        closed_ms: shard.closed_ms.unwrap_or(0),
        oldest: positions.start,
        next: positions.end,
        durable_position,
        state: match shard.state {
            ShardState::Open => 1,
            ShardState::Closed => 2,
            ShardState::Retired => 3,
        },
        reserved: 0,
    })
}

fn stats(stream: &Stream) -> Result<StreamStats, Failure> {
    let stats = stream.stats()?;
    let (retention, scaling) = (stream.retention(), stream.scaling());
    Ok(StreamStats {
        unwritten: stats.unwritten,
        journal_bytes: stream.disk_bytes()?,
        retention_ms: retention.map_or(0, |retention| retention.age.as_millis() as u64),
        retention_bytes: retention.and_then(|of| of.bytes).unwrap_or(0),
        splits: scaling.map_or(0, |scaling| scaling.splits),
        merges: scaling.map_or(0, |scaling| scaling.merges),
        open_shards: stats.open_shards,
        closed_shards: stats.closed_shards,
        shards_made: stats.shards_made,
        positions: stats.positions,
        retained: stats.retained,
        dropped: stats.dropped,
        damaged: stats.damaged,
        bytes: stats.bytes,
    })
}

impl StreamReaderHandle {
    fn is_at_end(&self) -> bool {
        matches!(&self.reading, Reading::Alone(reader) if reader.is_at_end())
    }

    /// Copies records into the memory of the reader, and says where each lies; how many.
    fn read(
        &mut self,
        room: &mut [MaybeUninit<StreamRecord>],
        wait: Duration,
    ) -> Result<usize, Unread> {
        let Self { reading, batch } = self;
        let max = room.len();
        let mut places = room.iter_mut();
        batch.clear();
        let each = |record: ringway::StreamRecord<'_>| {
            let partition_key = batch.push_text(record.partition_key);
            let data = batch.push(record.data);
            if let Some(place) = places.next() {
                place.write(StreamRecord {
                    sequence_number: number_out(record.sequence_number),
                    sub_sequence_number: record.sub_sequence_number.into(),
                    arrival_ms: record.arrival_ms,
                    partition_key: partition_key.cast(),
                    data,
                    len: record.data.len(),
                    missed: 0,
                });
            }
        };
        let count = match (reading, wait.is_zero()) {
            (Reading::Alone(reader), true) => reader.try_read_batch(max, each)?,
            (Reading::Alone(reader), false) => reader.read_batch(max, wait, each)?,
            (Reading::Member(worker), true) => worker.try_read_batch(max, each)?,
            (Reading::Member(worker), false) => worker.read_batch(max, wait, each)?,
            (Reading::Registered(subscription), _) => {
                read_registered(subscription, max, wait, each)?
            }
        };
        for place in &mut room[..count.min(max)] {
            // SAFETY: written above, one for each record.
            let record = unsafe { place.assume_init_mut() };
            record.partition_key = batch.at(record.partition_key.cast()).cast();
            record.data = batch.at(record.data);
        }
        Ok(count)
    }
}

/// Why there are no records.
enum Unread {
    Lagged { shard: ShardId, from: u64, to: u64 },
    Failed(Failure),
}

impl From<StreamReadError> for Unread {
    fn from(error: StreamReadError) -> Self {
        match error {
            StreamReadError::Lagged { shard, from, to } => Self::Lagged { shard, from, to },
            error => Self::Failed(error.into()),
        }
    }
}

impl From<ConsumerError> for Unread {
    fn from(error: ConsumerError) -> Self {
        Self::Failed(error.into())
    }
}

/// As a registered consumer. A gap comes alone.
fn read_registered(
    subscription: &mut ConsumerSubscription,
    max: usize,
    wait: Duration,
    mut each: impl FnMut(ringway::StreamRecord<'_>),
) -> Result<usize, Unread> {
    let mut gap = None;
    let take = |event: ConsumerEvent<'_>| match event {
        ConsumerEvent::Record(record) => each(record),
        ConsumerEvent::Gap {
            shard, from, to, ..
        } => gap = Some((shard, from.position(), to.position())),
    };
    let count = match wait.is_zero() {
        true => subscription.try_read_batch(max, take)?,
        false => subscription.read_batch(max, wait, take)?,
    };
    match gap {
        Some((shard, from, to)) => Err(Unread::Lagged { shard, from, to }),
        None => Ok(count),
    }
}

/// What is told of a record: where reading goes on, and what was missed before.
#[cold]
fn unread(why: Unread, room: &mut [MaybeUninit<StreamRecord>]) -> Failure {
    let (shard, from, to) = match why {
        Unread::Lagged { shard, from, to } => (shard, from, to),
        Unread::Failed(failure) => return failure,
    };
    if let Some(place) = room.first_mut() {
        place.write(StreamRecord {
            sequence_number: SequenceNumber {
                shard: shard.0.into(),
                position: to,
            },
            sub_sequence_number: 0,
            arrival_ms: 0,
            partition_key: core::ptr::null(),
            data: core::ptr::null(),
            len: 0,
            missed: to.saturating_sub(from),
        });
    }
    Failure::not_now(Code::Lagged)
}

abi! {
    /// Opens or creates a stream.
    fn ringway_stream_open(
        bus: *const c_void,
        name: *const c_char,
        config: *const StreamConfig,
        stream: *mut *mut c_void,
    ) {
        let stream = argument::out(stream, "stream")?;
        let name = argument::text(name, "name")?;
        let config = argument::sized(config, "config")?;
        let opened = open(&shared::<BusHandle>(bus)?.0, name, config)?;
        stream.write(keep(StreamHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Counters of a stream.
    fn ringway_stream_stats(stream: *const c_void, result: *mut StreamStats, size: usize) {
        let stats = stats(&shared::<StreamHandle>(stream)?.0)?;
        argument::write_known(&stats, FIRST_STREAM_STATS, result, size, "stats")
    }

    /// Lists the shards.
    fn ringway_stream_shards(
        stream: *const c_void,
        shards: *mut ShardInfo,
        capacity: usize,
        count: *mut usize,
    ) {
        let room = argument::room(shards, capacity, "shards")?;
        let count = argument::out(count, "count")?;
        let stream = &shared::<StreamHandle>(stream)?.0;
        let found = stream.shards()?;
        for (place, shard) in room.iter_mut().zip(&found) {
            place.write(shard_info(stream, shard)?);
        }
        count.write(found.len());
        Ok(Code::Ok)
    }

    /// Becomes a reader, or a worker of a group.
    fn ringway_stream_reader_open(
        stream: *const c_void,
        config: *const StreamReaderConfig,
        reader: *mut *mut c_void,
    ) {
        let reader = argument::out(reader, "reader")?;
        let config = argument::sized(config, "config")?;
        let config = config.unwrap_or_else(argument::Sized0::initial);
        let stream = &shared::<StreamHandle>(stream)?.0;
        let group = argument::optional_text(config.group, "group")?;
        let reading = match (argument::optional_text(config.consumer, "consumer")?, group) {
            (Some(name), _) => Reading::Registered(subscribe(stream, name, &config)?),
            (None, Some(group)) => Reading::Member(join(stream, group, &config)?),
            (None, None) => Reading::Alone(read_alone(stream, &config)?),
        };
        reader.write(keep(StreamReaderHandle { reading, batch: Arena::default() })?);
        Ok(Code::Ok)
    }

    /// Copies records into the memory of the reader.
    fn ringway_stream_read(
        reader: *mut c_void,
        max: usize,
        timeout_ns: i64,
        records: *mut StreamRecord,
        count: *mut usize,
    ) {
        let room = argument::room(records, max, "records")?;
        let count = argument::out(count, "count")?;
        let wait = timeout(timeout_ns)?;
        with::<StreamReaderHandle>(reader, |handle| match handle.read(room, wait) {
            Ok(0) if max > 0 && handle.is_at_end() => Ok(Code::End),
            Ok(0) if max > 0 => Ok(nothing(timeout_ns)),
            Ok(read) => {
                count.write(read);
                Ok(Code::Ok)
            }
            Err(why) => Err(unread(why, room)),
        })
    }

    /// Says that records are done with.
    fn ringway_stream_checkpoint(reader: *mut c_void, number: *const SequenceNumber) {
        let number = match number.is_null() {
            true => None,
            false => Some(argument::read(number, "sequence_number")?),
        };
        with::<StreamReaderHandle>(reader, |handle| {
            let Reading::Member(worker) = &mut handle.reading else {
                let text = "this reader is in no group; open one with config.group";
                return Err(Failure::new(Code::Option, text));
            };
            match number {
                None => {
                    worker.checkpoint()?;
                }
                Some(number) => worker.checkpoint_at(number_in(&number)?)?,
            }
            Ok(Code::Ok)
        })
    }
}
