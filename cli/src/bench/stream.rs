//! ringway's streams as contenders, through their public calls: put, and a reader of all shards.
//!
//! `ringway-stream` is a stream of one shard with as many slots as the plan's ring bytes hold, so that it stands
//! beside the shared channel that a shard is made of; `ringway-stream-exclusive` is the same with an exclusive
//! producer. `ringway-stream-aggregated` puts many records as one.
//! `ringway-stream-fanout` has four registered consumers, each of which is handed everything: its rate is that
//! of records that all four have. The key is one and the same, as that of a truck that reports.

use ::ringway::{
    AggregatingProducer, Aggregation, Bus, ConsumerEvent, ConsumerPolicy, ConsumerSubscription,
    Producers, PutError, PutRecord, Stream, StreamIterator, StreamProducer, StreamReader,
    StreamRecord,
};
use ringway_measure::meet::Seat;
use ringway_measure::scratch::Scratch;
use ringway_measure::{
    Consume, Contender, Kind, Mode, Offer, Ping, Plan, Produce, Result, Round, Scenario, drive,
};
use std::path::Path;

/// Those that `ringway bench stream` compares.
pub(super) const NAMES: [&str; 5] = [
    "ringway-shared",
    "ringway-stream",
    "ringway-stream-exclusive",
    "ringway-stream-aggregated",
    "ringway-stream-fanout",
];

pub(super) fn all() -> [&'static dyn Contender; 4] {
    [&SHARED, &EXCLUSIVE, &Aggregated, &Fanout]
}

struct Plain {
    name: &'static str,
    about: &'static str,
    producers: Producers,
}

static SHARED: Plain = Plain {
    name: NAMES[1],
    about: "ringway, a stream of one shard: put, and a reader of all shards",
    producers: Producers::Shared,
};
static EXCLUSIVE: Plain = Plain {
    name: NAMES[2],
    about: "ringway, the same with an exclusive producer",
    producers: Producers::Exclusive,
};

struct Aggregated;

struct Fanout;

const KEY: &str = "truck-7";
/// A record of 64 bytes with its key and head fits in: the stride of channels that name none.
const DEFAULT_STRIDE: usize = 128;
const LEAST_SLOTS: usize = 1_024;
/// Records a receiver takes in one go where it is about throughput.
const TAKEN_AT_ONCE: usize = 256;
const CONSUMERS: usize = 4;

impl Contender for Plain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::Latency, Mode::Spin, 1_000_000),
            Offer::new(Scenario::Throughput, Mode::Spin, 10_000_000),
            Offer::new(Scenario::Batch, Mode::Spin, 20_000_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = &Site {
            root: scratch.path(),
            producers: self.producers,
        };
        match plan.scenario {
            Scenario::Latency => drive::latency(plan, |seat| Both::open(site, plan, seat)),
            _ => drive::throughput(
                plan,
                |_| Sender::open(site, plan),
                |_| Receiver::open(site, plan),
            ),
        }
    }
}

impl Contender for Aggregated {
    fn name(&self) -> &'static str {
        NAMES[3]
    }

    fn about(&self) -> &'static str {
        "ringway, a stream of one shard whose producer puts many records as one"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![Offer::new(Scenario::Throughput, Mode::Spin, 20_000_000)]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = &Site {
            root: scratch.path(),
            producers: Producers::Shared,
        };
        drive::throughput(
            plan,
            |_| Gatherer::open(site, plan),
            |_| Receiver::open(site, plan),
        )
    }
}

impl Contender for Fanout {
    fn name(&self) -> &'static str {
        NAMES[4]
    }

    fn about(&self) -> &'static str {
        "ringway, a stream of one shard with four registered consumers, each handed everything"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::Throughput, Mode::Spin, 10_000_000),
            Offer::new(Scenario::Batch, Mode::Spin, 10_000_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = &Site {
            root: scratch.path(),
            producers: Producers::Shared,
        };
        drive::throughput(
            plan,
            |_| Sender::open(site, plan),
            |_| Consumers::open(site, plan),
        )
    }
}

/// Where a round's bus is, and who puts.
struct Site<'a> {
    root: &'a Path,
    producers: Producers,
}

fn stream(site: &Site<'_>, plan: &Plan, name: &str) -> Result<Stream> {
    let stride = match plan.stride {
        0 => DEFAULT_STRIDE,
        stride => stride,
    };
    let slots = (plan.ring_bytes / stride).max(LEAST_SLOTS);
    let slots = 1u64 << slots.ilog2();
    let bus = Bus::builder("bench").root(site.root).pre_touch(true);
    let stream = bus.open_or_create()?.stream(name).slots(slots);
    let stream = stream.producers(site.producers);
    Ok(stream.stride(stride as u64).open_or_create()?)
}

fn reader(stream: &Stream) -> Result<StreamReader> {
    Ok(stream
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()?)
}

/// A side of a ping-pong: puts into one stream, reads the other.
struct Both {
    producer: StreamProducer,
    reader: StreamReader,
    buffer: Vec<u8>,
}

impl Both {
    fn open(site: &Site<'_>, plan: &Plan, seat: &Seat<'_>) -> Result<Both> {
        let (out, back) = if seat.index() == 0 {
            ("there", "back")
        } else {
            ("back", "there")
        };
        Ok(Both {
            producer: stream(site, plan, out)?.producer()?,
            reader: reader(&stream(site, plan, back)?)?,
            buffer: vec![0; plan.size],
        })
    }
}

impl Ping for Both {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.buffer[..8].copy_from_slice(&number.to_le_bytes());
        put(&mut self.producer, &self.buffer)
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        let mut found = None;
        loop {
            self.reader
                .try_read_batch(1, |record| found = Some(number(&record)))?;
            if let Some(found) = found {
                return found;
            }
        }
    }
}

struct Sender {
    producer: StreamProducer,
    bodies: Vec<Vec<u8>>,
}

impl Sender {
    fn open(site: &Site<'_>, plan: &Plan) -> Result<Sender> {
        let batch = match plan.scenario {
            Scenario::Batch => plan.batch,
            _ => 1,
        };
        Ok(Sender {
            producer: stream(site, plan, "s")?.producer()?,
            bodies: vec![vec![1; plan.size]; batch],
        })
    }
}

impl Produce for Sender {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        if let [body] = &mut self.bodies[..] {
            for number in first..first + count {
                body[..8].copy_from_slice(&number.to_le_bytes());
                put(&mut self.producer, body)?;
            }
            return Ok(());
        }
        let mut next = first;
        while next < first + count {
            let size = self.bodies.len().min((first + count - next) as usize);
            for (number, body) in (next..).zip(self.bodies[..size].iter_mut()) {
                body[..8].copy_from_slice(&number.to_le_bytes());
            }
            let bodies = self.bodies[..size].iter();
            let records: Vec<_> = bodies.map(|body| PutRecord::new(KEY, body)).collect();
            // The stream lets puts wait for room.
            for outcome in self.producer.put_batch(&records) {
                outcome?;
            }
            next += size as u64;
        }
        Ok(())
    }
}

struct Gatherer {
    producer: AggregatingProducer,
    body: Vec<u8>,
}

impl Gatherer {
    fn open(site: &Site<'_>, plan: &Plan) -> Result<Gatherer> {
        let producer = stream(site, plan, "s")?.producer()?;
        Ok(Gatherer {
            producer: producer.aggregating(Aggregation::default()),
            body: vec![1; plan.size],
        })
    }
}

impl Produce for Gatherer {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        for number in first..first + count {
            self.body[..8].copy_from_slice(&number.to_le_bytes());
            self.producer.put(KEY, &self.body)?;
        }
        self.producer.flush()?;
        Ok(())
    }
}

struct Receiver {
    reader: StreamReader,
}

impl Receiver {
    fn open(site: &Site<'_>, plan: &Plan) -> Result<Receiver> {
        Ok(Receiver {
            reader: reader(&stream(site, plan, "s")?)?,
        })
    }
}

impl Consume for Receiver {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let (mut left, mut sum) = (count, Sum::default());
        while left > 0 {
            let most = TAKEN_AT_ONCE.min(left as usize);
            let taken = self
                .reader
                .try_read_batch(most, |record| sum.add(&record))?;
            left -= taken as u64;
        }
        sum.get()
    }
}

struct Consumers {
    subscriptions: Vec<ConsumerSubscription>,
}

impl Consumers {
    fn open(site: &Site<'_>, plan: &Plan) -> Result<Consumers> {
        let stream = stream(site, plan, "s")?;
        let subscribe = |number| -> Result<ConsumerSubscription> {
            let name = format!("consumer-{number}");
            let consumer = stream.register_consumer(&name, ConsumerPolicy::Block)?;
            Ok(consumer.subscribe(StreamIterator::TrimHorizon)?)
        };
        Ok(Consumers {
            subscriptions: (0..CONSUMERS).map(subscribe).collect::<Result<_>>()?,
        })
    }
}

impl Consume for Consumers {
    /// What one of them got; the others have to have got the same.
    fn consume(&mut self, count: u64) -> Result<u64> {
        let mut left = [count; CONSUMERS];
        let mut sums: [Sum; CONSUMERS] = Default::default();
        let mut lost = false;
        while left.iter().any(|left| *left > 0) {
            for (index, subscription) in self.subscriptions.iter_mut().enumerate() {
                let most = TAKEN_AT_ONCE.min(left[index] as usize);
                let taken = subscription.try_read_batch(most, |event| match event {
                    ConsumerEvent::Record(record) => sums[index].add(&record),
                    ConsumerEvent::Gap { .. } => lost = true,
                })?;
                left[index] -= taken as u64;
            }
        }
        let sums: Vec<u64> = sums.iter().map(Sum::get).collect::<Result<_>>()?;
        match sums.iter().all(|sum| *sum == sums[0]) && !lost {
            true => Ok(sums[0]),
            false => Err("the consumers were not handed the same".into()),
        }
    }
}

#[derive(Default)]
struct Sum {
    sum: u64,
    short: bool,
}

impl Sum {
    #[inline(always)]
    fn add(&mut self, record: &StreamRecord<'_>) {
        match number(record) {
            Ok(number) => self.sum = self.sum.wrapping_add(number),
            Err(_) => self.short = true,
        }
    }

    fn get(&self) -> Result<u64> {
        match self.short {
            true => Err("a record came shorter than it was put".into()),
            false => Ok(self.sum),
        }
    }
}

#[inline(always)]
fn number(record: &StreamRecord<'_>) -> Result<u64> {
    let head = record
        .data
        .first_chunk()
        .ok_or("a record came shorter than it was put")?;
    Ok(u64::from_le_bytes(*head))
}

#[inline(always)]
fn put(producer: &mut StreamProducer, body: &[u8]) -> Result<()> {
    let record = PutRecord::new(KEY, body);
    loop {
        match producer.try_put(&record) {
            Ok(_) => return Ok(()),
            // Nothing but room to wait for: the reader polls, so it is there in no time.
            Err(PutError::Full { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
