//! The stream's part of the story: four durable shards that become eight half-way, the plane as partition key.
//!
//! A batch of puts has returned only when the disk has it, and workers are given nothing before.
//! Workers of one group read what their leases give them, write it down, and checkpoint it. One that is
//! killed leaves its shards to the others within milliseconds, and what it had not checkpointed is read
//! again: at least once, in the order of each plane.

use super::flights::Flights;
use super::leg::{HalfWay, Leg, Promise, Stand};
use super::part::{Part, Role};
use super::record;
use anyhow::Context;
use ringway::{Bus, CheckpointError, Durability, GroupStart, PutRecord, ShardState, Stream};
use std::io::Write;
use std::time::Duration;

const NAME: &str = "flights-by-shard";
const GROUP: &str = "demo";
/// Shards at first, and half-way.
const SHARDS: u32 = 4;
const MORE_SHARDS: u32 = 8;
/// Of a shard's journal: a shard has three of them, and a demonstration twelve shards.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Records of one batch of puts: one write to the disk is for all of a shard.
const PUTS: usize = 10;
/// What a worker takes between two checkpoints at most.
const BATCH: usize = 64;
const WAIT: Duration = Duration::from_millis(20);
/// Longest wait for room.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(bus: &Bus) -> anyhow::Result<Stream> {
    Ok(bus
        .stream(NAME)
        .shards(SHARDS)
        .stride(384)
        .durability(Durability::Durable)
        .segment_bytes(SEGMENT_BYTES)
        .open_or_create()?)
}

pub struct StreamLeg {
    stream: Stream,
    made: usize,
}

impl StreamLeg {
    pub fn new(bus: &Bus) -> anyhow::Result<Self> {
        let stream = open(bus)?;
        // Before anything is put, so that nothing may be dropped before a worker comes.
        stream.group_or_create(GROUP, GroupStart::TrimHorizon)?;
        Ok(Self { stream, made: 0 })
    }
}

impl Leg for StreamLeg {
    fn name(&self) -> &'static str {
        NAME
    }

    fn road(&self) -> String {
        format!("a durable stream of {SHARDS}, then {MORE_SHARDS} shards")
    }

    fn producer(&self) -> Role {
        Role::StreamProducer
    }

    fn consumer(&self) -> Role {
        Role::StreamWorker
    }

    fn stand(&mut self) -> anyhow::Result<Stand> {
        let sent = self.stream.stats()?.positions;
        let group = self.stream.group(GROUP)?.info()?;
        let left = group.shards.iter().map(|shard| shard.behind).sum();
        Ok(Stand { sent, left })
    }

    fn half_way(&mut self) -> anyhow::Result<HalfWay> {
        self.made = self.stream.update_shard_count(MORE_SHARDS)?;
        Ok(HalfWay::GoOn)
    }

    fn order(&self) -> record::Order {
        record::Order::FromCheckpoints
    }

    fn promises(&self, _rows: u64) -> anyhow::Result<Vec<Promise>> {
        let shards = self.stream.shards()?;
        let open = shards
            .iter()
            .filter(|shard| shard.state == ShardState::Open);
        let open = open.count();
        let told = format!("{} splits, {open} shards take records", self.made);
        let promise = Promise::new("split while it ran", open == MORE_SHARDS as usize, told);
        Ok(vec![promise.figure("shards", open)])
    }
}

pub fn produce(part: &Part, flights: &Flights, bus: &Bus) -> anyhow::Result<()> {
    let rows = flights.rows.len();
    let keys = flights.groups();
    let mut producer = open(bus)?.producer()?;
    let mine = part.mine(flights);
    for numbers in mine.chunks(PUTS) {
        part.keep_pace(numbers[0], rows);
        let bodies = record::bodies(flights, numbers);
        let records: Vec<_> = numbers
            .iter()
            .zip(&bodies)
            .map(|(number, body)| {
                let plane = flights.rows[*number].plane as usize;
                PutRecord::new(&keys[plane], body)
            })
            .collect();
        for outcome in producer.put_batch_within(&records, PATIENCE) {
            outcome?;
        }
    }
    Ok(())
}

pub fn work(part: &Part, bus: &Bus) -> anyhow::Result<()> {
    let mut out = part.create_output()?;
    let mut worker = open(bus)?.group(GROUP)?.join()?;
    let mut records = Vec::new();
    loop {
        records.clear();
        let mut written = Ok(());
        let read = worker.read_batch(BATCH, WAIT, |row| {
            if written.is_ok() {
                written = record::record(row.data, &mut records);
            }
        })?;
        written?;
        if read == 0 && part.is_over() {
            return Ok(());
        }
        out.write_all(&records).context("can't write a row down")?;
        match worker.checkpoint() {
            // Others have these shards by now, and read on from the last checkpoint that counted.
            Ok(_) | Err(CheckpointError::Fenced { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
