//! Settings of a queue as flags: one flag a setting, with units.

use crate::output::{parse_bytes, parse_duration};
use ringway::QueueBuilder;
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
}

/// What is fixed when a queue is created.
#[derive(clap::Args)]
pub struct Geometry {
    /// Slots, a power of two from 1024 to 4194304: the most messages it holds [default: 16384]
    #[arg(long)]
    slots: Option<u64>,
    /// Bytes from slot to slot, a multiple of 32 from 64 to 4096; what does not fit in goes to the
    /// pool of the bus [default: 256]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    stride: Option<u64>,
    /// Leave the messages of a dead receiver with it until their visibility time-out
    #[arg(long)]
    no_redeliver_on_death: bool,
    /// When receivers step over a live but stopped sender's claim [default: 20ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    stall_timeout: Option<Duration>,
    /// Ask for transparent huge pages
    #[arg(long)]
    huge_pages: bool,
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

impl Settings {
    pub fn apply(&self, builder: QueueBuilder) -> QueueBuilder {
        given!(
            builder,
            visibility = self.visibility,
            delay = self.delay,
            retention = self.retention,
            max_message_bytes = self.max_message,
        )
    }
}

impl Geometry {
    pub fn apply(&self, builder: QueueBuilder) -> QueueBuilder {
        given!(
            builder.huge_pages(self.huge_pages),
            slots = self.slots,
            stride = self.stride,
            redeliver_on_death = self.no_redeliver_on_death.then_some(false),
            stall_timeout = self.stall_timeout,
        )
    }
}
