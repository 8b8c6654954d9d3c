//! Settings of a queue as flags: one flag a setting, with units.

use crate::output::{parse_bytes, parse_duration};
use anyhow::bail;
use ringway::{Bus, Durability, QueueBuilder, QueueKind, QueueSettings};
use std::time::Duration;

/// What a queue does with its messages.
#[derive(clap::Args)]
pub struct Settings {
    /// How long a received message stays invisible, 0 to 12h [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    visibility: Option<Duration>,
    /// How long a sent message stays invisible, 0 to 15m [default: 0]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// How long a message is kept, 1m to 14days [default: 4days]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retention: Option<Duration>,
    /// The largest body [default: 256K]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_message: Option<u64>,
    /// How long a receive waits that does not say, 0 to 20s [default: 0]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    receive_wait: Option<Duration>,
    /// Whether the messages of a dead receiver are visible at once, or when their visibility time-out
    /// has passed [default: true]
    #[arg(long, value_name = "true|false")]
    redeliver_on_death: Option<bool>,
    /// Most messages in the queue, or none for no limit; a sender waits then [default: none]
    #[arg(long, value_name = "N|none", value_parser = Limit::parse)]
    max_messages: Option<Limit>,
    /// Most messages in flight, or none for no limit; a receiver waits then [default: none]
    #[arg(long, value_name = "N|none", value_parser = Limit::parse)]
    max_in_flight: Option<Limit>,
}

/// A number, or none.
#[derive(Clone, Copy)]
struct Limit(Option<u64>);

impl Limit {
    fn parse(text: &str) -> anyhow::Result<Self> {
        match text {
            "none" => Ok(Self(None)),
            number => match number.parse() {
                Ok(limit) => Ok(Self(Some(limit))),
                Err(_) => bail!("{number:?} is neither a number nor none"),
            },
        }
    }
}

/// What is fixed when a queue is created.
#[derive(clap::Args)]
pub struct Geometry {
    /// Strict order within each message group, one receiver at a time for each: every message needs a
    /// group
    #[arg(long)]
    fifo: bool,
    /// Slots of its first ring, a power of two from 1024 to 4194304; given without --max-bytes, the
    /// most messages it holds [default: 16384]
    #[arg(long, value_name = "N")]
    slots: Option<u64>,
    /// Bytes that it may grow to; a FIFO queue does not grow [default: 1G, with --slots its first ring]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_bytes: Option<u64>,
    /// Bytes from slot to slot, a multiple of 32 from 64 to 4096; what does not fit in goes to the
    /// pool of the bus [default: 256]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    stride: Option<u64>,
    /// When receivers step over a live but stopped sender's claim [default: 20ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    stall_timeout: Option<Duration>,
    /// What it survives: memory, the death of all processes; durable, the loss of power: a send waits for
    /// the disk; async, the same but for the last moment: a send does not wait [default: memory]
    #[arg(long, value_name = "memory|async|durable", value_parser = parse_durability)]
    durability: Option<Durability>,
    /// Its further rings lie on a disk, under the journal root: a backlog takes no memory
    #[arg(long)]
    spill: bool,
    /// Durable: messages are received before they are on disk
    #[arg(long)]
    read_ahead: bool,
    /// On disk: refuse sends while the journal takes so many bytes [default: as many as there are]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    journal_max_bytes: Option<u64>,
    /// Ask for transparent huge pages
    #[arg(long)]
    huge_pages: bool,
}

pub(crate) fn parse_durability(text: &str) -> anyhow::Result<Durability> {
    match text {
        "memory" => Ok(Durability::Memory),
        "async" => Ok(Durability::Async),
        "durable" => Ok(Durability::Durable),
        _ => bail!("{text:?} is neither memory, async nor durable"),
    }
}

/// `builder.option(value)` for each option that is given.
macro_rules! given {
    ($builder:expr, $($option:ident = $value:expr),* $(,)?) => {{
        let builder = $builder;
        $(let builder = match $value {
            Some(value) => builder.$option(value),
            None => builder,
        };)*
        builder
    }};
}

/// All of [`Settings`], given to whatever has options of those names.
macro_rules! settings {
    ($settings:expr, $builder:expr) => {
        given!(
            $builder,
            visibility = $settings.visibility,
            delay = $settings.delay,
            retention = $settings.retention,
            max_message_bytes = $settings.max_message,
            receive_wait = $settings.receive_wait,
            redeliver_on_death = $settings.redeliver_on_death,
        )
    };
}

impl Settings {
    pub fn apply(&self, builder: QueueBuilder) -> QueueBuilder {
        settings!(self, builder)
    }

    /// What is set behind a creation.
    pub fn limit(&self, settings: ringway::Settings) -> ringway::Settings {
        given!(
            settings,
            max_messages = self.max_messages.map(|limit| limit.0),
            max_in_flight = self.max_in_flight.map(|limit| limit.0),
        )
    }

    /// Whether the queue `name`, which was there, has the limits that are asked for.
    pub fn agree(&self, bus: &Bus, name: &str, present: &QueueSettings) -> anyhow::Result<()> {
        // What is asked for on top of what there is changes nothing.
        let same = ringway::Settings::new()
            .max_messages(present.max_messages)
            .max_in_flight(present.max_in_flight);
        if self.limit(same.clone()) != same {
            bail!(
                "{name} exists with other limits; `ringway queue set {} {name}` changes them",
                bus.name()
            );
        }
        Ok(())
    }

    /// As changes to a queue that is there.
    pub fn change(&self) -> ringway::Settings {
        self.limit(settings!(self, ringway::Settings::new()))
    }
}

impl Geometry {
    pub fn apply(&self, builder: QueueBuilder) -> QueueBuilder {
        given!(
            builder.huge_pages(self.huge_pages),
            kind = self.fifo.then_some(QueueKind::Fifo),
            slots = self.slots,
            max_bytes = self.max_bytes,
            stride = self.stride,
            stall_timeout = self.stall_timeout,
            durability = self.durability,
            spill = self.spill.then_some(true),
            read_ahead = self.read_ahead.then_some(true),
            journal_max_bytes = self.journal_max_bytes,
        )
    }
}
