//! The durable part of the story: a FIFO queue whose sends and deletes have returned only when they are on
//! a disk.
//!
//! When half of the rows are done, every process is killed at once and the directory of the bus is
//! removed, as a restart of the machine would. Whoever opens the queue then finds what was acknowledged,
//! and producers that begin anew from the first row repeat nothing: the queue remembers their ids.

use super::flights::Flights;
use super::leg::{HalfWay, Leg, Promise, Stand};
use super::part::{Part, Role};
use super::{queue, record};
use crate::output::Place;
use ringway::{Bus, Deduplication, Durability, Outgoing, Queue, QueueSendError};
use std::time::Duration;

const NAME: &str = "flights-on-disk";
/// Messages in one send: one write to the disk is for all of them.
const BATCH: usize = 10;

/// The bus of its own.
pub fn bus_of(bus: &str) -> String {
    format!("{bus}-durable")
}

fn open(bus: &Bus, rows: usize) -> anyhow::Result<Queue> {
    let ids = (rows as u64 * 2).clamp(1_024, 1 << 26);
    let builder = bus.queue(NAME).fifo().stride(512).slots(1 << 14);
    let builder = builder.deduplicate(Deduplication::of_ids(ids));
    Ok(builder.durability(Durability::Durable).open_or_create()?)
}

pub struct DurableLeg<'a> {
    place: &'a Place,
    bus: String,
    rows: usize,
    queue: Option<Queue>,
    /// Done before everything was killed, and found again.
    found: Option<(u64, u64)>,
}

impl<'a> DurableLeg<'a> {
    pub fn new(place: &'a Place, bus: &str, rows: usize) -> anyhow::Result<Self> {
        let bus = bus_of(bus);
        let created = place.builder(&bus).create()?;
        Ok(Self {
            queue: Some(open(&created, rows)?),
            place,
            bus,
            rows,
            found: None,
        })
    }

    fn queue(&self) -> &Queue {
        self.queue.as_ref().expect("it is open but for a restart")
    }
}

impl Leg for DurableLeg<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn road(&self) -> String {
        "a durable FIFO queue, every process and the bus gone half-way".to_owned()
    }

    fn producer(&self) -> Role {
        Role::DurableProducer
    }

    fn consumer(&self) -> Role {
        Role::DurableConsumer
    }

    fn stand(&mut self) -> anyhow::Result<Stand> {
        let stats = self.queue().stats();
        // Behind a restart the totals begin anew.
        let before = self.found.map_or(0, |(done, found)| done + found);
        Ok(Stand {
            sent: before + stats.sent,
            left: stats.visible + stats.in_flight,
        })
    }

    fn half_way(&mut self) -> anyhow::Result<HalfWay> {
        Ok(HalfWay::KillEverybody)
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        let stand = self.stand()?;
        self.queue = None;
        std::fs::remove_dir_all(self.place.root().join(format!("ringway-{}", self.bus)))?;
        let queue = open(&self.place.builder(&self.bus).create()?, self.rows)?;
        let found = queue.stats().visible;
        self.queue = Some(queue);
        self.found = Some((stand.sent.saturating_sub(stand.left), found));
        Ok(())
    }

    fn order(&self) -> record::Order {
        record::Order::OneByOne
    }

    fn promises(&self, _rows: u64) -> anyhow::Result<Vec<Promise>> {
        let told = match self.found {
            Some((done, found)) => {
                format!("behind it {found} rows were found, about {done} had been done")
            }
            None => "it never came to that".to_owned(),
        };
        let promise = Promise::new("a restart in the middle", self.found.is_some(), told);
        let found = self.found.map_or(0, |(_, found)| found);
        Ok(vec![promise.figure("found_behind_restart", found)])
    }
}

pub fn produce(part: &Part, flights: &Flights, bus: &Bus) -> anyhow::Result<()> {
    let rows = flights.rows.len();
    let groups = flights.groups();
    let mut sender = open(bus, rows)?.sender()?;
    let mine = part.mine(flights);
    for numbers in mine.chunks(BATCH) {
        part.keep_pace(numbers[0], rows);
        let bodies = record::bodies(flights, numbers);
        let ids: Vec<String> = numbers.iter().map(usize::to_string).collect();
        let message = |at: usize| {
            let group = &groups[flights.rows[numbers[at]].plane as usize];
            Outgoing::new(&bodies[at]).group(group).dedup_id(&ids[at])
        };
        let messages: Vec<_> = (0..numbers.len()).map(message).collect();
        let mut sent = 0;
        while sent < messages.len() {
            for outcome in sender.send_message_batch(&messages[sent..]) {
                match outcome {
                    Ok(_) => sent += 1,
                    // Behind it nothing of the batch was sent.
                    Err(QueueSendError::Full { .. }) => {
                        std::thread::sleep(Duration::from_micros(200));
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

pub fn consume(part: &Part, bus: &Bus) -> anyhow::Result<()> {
    queue::consume_from(part, bus, NAME)
}
