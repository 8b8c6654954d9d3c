//! The queue's part of the story: a FIFO queue with a message group for each plane.
//!
//! Producers send whole planes, in the order of the file, with the line number as deduplication id,
//! and some rows twice. A consumer takes up to ten rows, writes them down, and deletes them; one is
//! killed again and again.

use super::flights::Flights;
use super::leg::{HalfWay, Leg, Promise, Stand};
use super::part::{Part, Role};
use super::record;
use anyhow::Context;
use ringway::{Bus, Deduplication, Outgoing, Queue, QueueSendError};
use std::io::Write;
use std::time::Duration;

const NAME: &str = "flights";
/// What a receive takes at most, as in SQS.
const BATCH: usize = 10;
/// One row in so many is sent twice, as by a producer that never heard that it was accepted.
const REPEAT_EVERY: usize = 50;
/// Longest wait for a message, and so for the end.
const WAIT: Duration = Duration::from_millis(20);

fn open(bus: &Bus, rows: usize) -> anyhow::Result<Queue> {
    let ids = (rows as u64 * 2).clamp(1_024, 1 << 26);
    let builder = bus.queue(NAME).fifo().stride(384);
    let queue = builder.deduplicate(Deduplication::of_ids(ids));
    Ok(queue.open_or_create()?)
}

pub struct QueueLeg(Queue);

impl QueueLeg {
    pub fn new(bus: &Bus, rows: usize) -> anyhow::Result<Self> {
        open(bus, rows).map(Self)
    }
}

impl Leg for QueueLeg {
    fn name(&self) -> &'static str {
        NAME
    }

    fn road(&self) -> String {
        "a FIFO queue, a message group for each plane".to_owned()
    }

    fn producer(&self) -> Role {
        Role::QueueProducer
    }

    fn consumer(&self) -> Role {
        Role::QueueConsumer
    }

    /// What is there is counted by the messages themselves; the total of deletes may lack one of a
    /// consumer that was killed before it could count it.
    fn stand(&mut self) -> anyhow::Result<Stand> {
        let stats = self.0.stats();
        Ok(Stand {
            sent: stats.sent,
            left: stats.visible + stats.in_flight,
        })
    }

    fn half_way(&mut self) -> anyhow::Result<HalfWay> {
        Ok(HalfWay::GoOn)
    }

    fn order(&self) -> record::Order {
        record::Order::OneByOne
    }

    fn promises(&self, rows: u64) -> anyhow::Result<Vec<Promise>> {
        let stats = self.0.stats();
        let (sent, dropped) = (rows.div_ceil(REPEAT_EVERY as u64), stats.duplicates);
        let is_held = (dropped, stats.sent) == (sent, rows);
        let told = format!("{dropped} of {sent} repeats dropped");
        let promise = Promise::new("each send counts once", is_held, told);
        let promise = promise.figure("repeats_sent", sent);
        Ok(vec![promise.figure("repeats_dropped", dropped)])
    }
}

pub fn produce(part: &Part, flights: &Flights, bus: &Bus) -> anyhow::Result<()> {
    let rows = flights.rows.len();
    let groups = flights.groups();
    let mut sender = open(bus, rows)?.sender()?;
    let mut body = Vec::new();
    for (number, row) in flights.rows.iter().enumerate() {
        if !part.is_mine(row.plane) {
            continue;
        }
        part.keep_pace(number, rows);
        record::body(flights, number, &mut body);
        let id = number.to_string();
        let message = Outgoing::new(&body).group(&groups[row.plane as usize]);
        let message = message.dedup_id(&id);
        let times = if number % REPEAT_EVERY == 0 { 2 } else { 1 };
        for time in 0..times {
            let is_repeat = loop {
                match sender.send_message(&message) {
                    Ok(sent) => break sent.duplicate,
                    Err(QueueSendError::Full { .. }) => {
                        std::thread::sleep(Duration::from_micros(50));
                    }
                    Err(error) => return Err(error.into()),
                }
            };
            anyhow::ensure!(
                is_repeat == (time > 0),
                "row {number}, sent {time} times before, counts as a repeat: {is_repeat}"
            );
        }
    }
    Ok(())
}

pub fn consume(part: &Part, bus: &Bus) -> anyhow::Result<()> {
    consume_from(part, bus, NAME)
}

/// Writes down what the queue of that name gives, and deletes it.
pub fn consume_from(part: &Part, bus: &Bus, name: &str) -> anyhow::Result<()> {
    let mut out = part.create_output()?;
    let mut receiver = bus.queue(name).open()?.receiver()?;
    let (mut records, mut receipts) = (Vec::new(), Vec::new());
    loop {
        let messages = receiver.receive(BATCH, WAIT, None)?;
        if messages.is_empty() && part.is_over() {
            return Ok(());
        }
        records.clear();
        for message in &messages {
            record::record(&message.body, &mut records)?;
        }
        out.write_all(&records).context("can't write a row down")?;
        receipts.clear();
        receipts.extend(messages.iter().map(|message| message.received.receipt));
        if let Some((_, error)) = receiver.delete_batch(&receipts).into_iter().next() {
            return Err(error.into());
        }
    }
}
