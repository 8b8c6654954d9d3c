//! The queue's part of the story: a FIFO queue with a message group for each plane.
//!
//! Producers send whole planes, in the order of the file, with the line number as deduplication id,
//! and some rows twice. A consumer takes up to ten rows, writes them down, and deletes them; one is
//! killed again and again.

use super::part::Part;
use super::record;
use crate::output::Place;
use anyhow::Context;
use ringway::{Bus, Deduplication, Outgoing, Queue, QueueSendError};
use std::io::Write;
use std::time::Duration;

/// Its directory and name.
pub const NAME: &str = "flights";
/// What a receive takes at most, as in SQS.
const BATCH: usize = 10;
/// One row in so many is sent twice, as by a producer that never heard that it was accepted.
pub const REPEAT_EVERY: usize = 50;
/// Longest wait for a message, and so for the end.
const WAIT: Duration = Duration::from_millis(20);

pub fn open(bus: &Bus, rows: usize) -> anyhow::Result<Queue> {
    let ids = (rows as u64 * 2).clamp(1_024, 1 << 26);
    let builder = bus.queue(NAME).fifo().stride(384);
    let queue = builder.deduplicate(Deduplication::of_ids(ids));
    Ok(queue.open_or_create()?)
}

fn bus(part: &Part) -> anyhow::Result<Bus> {
    let place = Place {
        root: part.root.clone(),
        json: false,
    };
    place.open(&part.bus)
}

pub fn produce(part: &Part) -> anyhow::Result<()> {
    let flights = part.flights()?;
    let rows = flights.rows.len();
    let groups: Vec<_> = (0..flights.planes.len() as u32)
        .map(|plane| flights.group(plane))
        .collect();
    let mut sender = open(&bus(part)?, rows)?.sender()?;
    let mut body = Vec::new();
    for (number, row) in flights.rows.iter().enumerate() {
        if !part.is_mine(row.plane) {
            continue;
        }
        part.keep_pace(number, rows);
        record::body(&flights, number, &mut body);
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

pub fn consume(part: &Part) -> anyhow::Result<()> {
    let mut out = part.create_output(NAME)?;
    let queue = bus(part)?.queue(NAME).open()?;
    let mut receiver = queue.receiver()?;
    let mut records = Vec::new();
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
        for message in &messages {
            receiver.delete(&message.received.receipt)?;
        }
    }
}
