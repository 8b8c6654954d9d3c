//! The topic's part of the story: what is published once reaches every queue whose filter policy wants it.
//!
//! Three queues subscribe: one to everything, one to the flights that were more than an hour late, one to
//! some of the airlines. Each consumer drains one of them. One that is killed leaves what it had not
//! deleted to the next: at least once, and no order.

use super::flights::{Flights, Row};
use super::leg::{HalfWay, Leg, Promise, Stand};
use super::part::{Part, Role};
use super::record;
use anyhow::Context;
use ringway::{Attributes, Bus, Dispatcher, Publication, PublishError, Queue, QueueSendError};
use ringway::{SubscribeOptions, Topic};
use std::io::Write;
use std::time::Duration;

const NAME: &str = "departures";
const BATCH: usize = 64;
const WAIT: Duration = Duration::from_millis(20);
/// Messages that the parent hands on at a look, of those that nobody else has.
const HANDED_ON: usize = 1_000;

/// A subscription: its queue, its policy, and what that means, said once more in Rust.
struct Wish {
    queue: &'static str,
    policy: Option<&'static str>,
    wants: fn(carrier: &str, delay: Option<f64>) -> bool,
}

const WISHES: [Wish; 3] = [
    Wish {
        queue: "departures-all",
        policy: None,
        wants: |_, _| true,
    },
    Wish {
        queue: "departures-late",
        policy: Some(r#"{"dep_delay": [{"numeric": [">", 60]}]}"#),
        wants: |_, delay| delay.is_some_and(|delay| delay > 60.0),
    },
    Wish {
        queue: "departures-some",
        policy: Some(r#"{"carrier": ["B6", {"prefix": "U"}]}"#),
        wants: |carrier, _| carrier == "B6" || carrier.starts_with('U'),
    },
];

/// Where the columns are that the policies look at.
struct Columns {
    carrier: usize,
    delay: usize,
}

impl Columns {
    fn of(flights: &Flights) -> anyhow::Result<Self> {
        Ok(Self {
            carrier: flights.column("carrier")?,
            delay: flights.column("dep_delay")?,
        })
    }

    fn read<'a>(&self, row: &'a Row) -> (&'a str, Option<f64>) {
        let column = |at| row.text.trim_end().split(',').nth(at).unwrap_or("");
        // A flight that was cancelled has none.
        (column(self.carrier), column(self.delay).parse().ok())
    }
}

pub struct TopicLeg {
    dispatcher: Dispatcher,
    topic: Topic,
    queues: Vec<Queue>,
    columns: Columns,
}

impl TopicLeg {
    pub fn new(bus: &Bus, flights: &Flights) -> anyhow::Result<Self> {
        let columns = Columns::of(flights)?;
        let topic = bus.topic(NAME).create()?;
        let mut queues = Vec::new();
        for wish in &WISHES {
            queues.push(bus.queue(wish.queue).stride(512).create()?);
            let options = SubscribeOptions::new(wish.queue).raw(true);
            topic.subscribe(&match wish.policy {
                Some(policy) => options.filter(policy),
                None => options,
            })?;
        }
        Ok(Self {
            dispatcher: topic.dispatcher()?,
            topic,
            queues,
            columns,
        })
    }
}

impl Leg for TopicLeg {
    fn name(&self) -> &'static str {
        NAME
    }

    fn road(&self) -> String {
        let filtered = WISHES.iter().filter(|wish| wish.policy.is_some()).count();
        format!(
            "a topic with {} queues, {filtered} of them filtered",
            WISHES.len()
        )
    }

    fn producer(&self) -> Role {
        Role::TopicPublisher
    }

    fn consumer(&self) -> Role {
        Role::TopicConsumer
    }

    fn stand(&mut self) -> anyhow::Result<Stand> {
        // What a full queue put off is handed on by whoever comes; the publishers may have ended.
        self.dispatcher.dispatch(HANDED_ON)?;
        let mut left = self.topic.stats()?.waiting;
        let mut sent = left;
        for (index, queue) in self.queues.iter().enumerate() {
            let stats = queue.stats();
            let here = stats.visible + stats.in_flight + stats.delayed;
            left += here;
            sent += here;
            if index == 0 {
                sent += stats.sent.saturating_sub(here);
            }
        }
        Ok(Stand { sent, left })
    }

    fn half_way(&mut self) -> anyhow::Result<HalfWay> {
        Ok(HalfWay::GoOn)
    }

    fn order(&self) -> record::Order {
        record::Order::None
    }

    fn copies(&self) -> usize {
        WISHES.len()
    }

    fn wants(&self, copy: usize, row: &Row) -> bool {
        let (carrier, delay) = self.columns.read(row);
        (WISHES[copy].wants)(carrier, delay)
    }

    fn promises(&self, _rows: u64) -> anyhow::Result<Vec<Promise>> {
        let stats = self.topic.stats()?;
        let told = format!("{} deliveries, {} failed", stats.delivered, stats.failed);
        let promise = Promise::new("each queue what it wants", stats.failed == 0, told);
        Ok(vec![promise.figure("deliveries", stats.delivered)])
    }
}

pub fn publish(part: &Part, flights: &Flights, bus: &Bus) -> anyhow::Result<()> {
    let rows = flights.rows.len();
    let columns = Columns::of(flights)?;
    let mut publisher = bus.topic(NAME).open()?.publisher()?;
    let (mut body, mut attributes) = (Vec::new(), Attributes::new());
    for (number, row) in flights.rows.iter().enumerate() {
        if !part.is_mine(row.plane) {
            continue;
        }
        part.keep_pace(number, rows);
        record::body(flights, number, &mut body);
        let (carrier, delay) = columns.read(row);
        attributes.clear();
        if !carrier.is_empty() {
            attributes.string("carrier", carrier)?;
        }
        if let Some(delay) = delay {
            attributes.number("dep_delay", delay)?;
        }
        let message = Publication::new(&body).attributes(&attributes);
        while let Err(error) = publisher.publish(&message) {
            match error {
                PublishError::Transit(QueueSendError::Full { .. }) => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                error => return Err(error.into()),
            }
        }
    }
    Ok(())
}

pub fn consume(part: &Part, bus: &Bus) -> anyhow::Result<()> {
    let mut out = part.create_output()?;
    let mut receivers = Vec::new();
    for (copy, wish) in WISHES.iter().enumerate() {
        // Each queue has a consumer, however few there are.
        if part.index % WISHES.len() == copy || copy >= part.of {
            receivers.push((copy, bus.queue(wish.queue).open()?.receiver()?));
        }
    }
    let mut records = Vec::new();
    loop {
        let mut received = 0;
        for (copy, receiver) in &mut receivers {
            let messages = receiver.receive(BATCH, WAIT, None)?;
            received += messages.len();
            records.clear();
            for message in &messages {
                record::copy(*copy, &message.body, &mut records)?;
            }
            out.write_all(&records).context("can't write a row down")?;
            for message in &messages {
                receiver.delete(&message.received.receipt)?;
            }
        }
        if received == 0 && part.is_over() {
            return Ok(());
        }
    }
}
