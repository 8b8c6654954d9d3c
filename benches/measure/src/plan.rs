//! What one round is asked to do: scenario, sizes, cores, counts, deadline.
//!
//! A `Plan` is the command line of the `round` verb and nothing else; it is
//! checked once by [`Plan::check`] before any process is started, so that the
//! drivers and the contenders may take its numbers as they are.

use crate::{Result, pin};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// A question a round answers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// One message there and one back; the figure is half the round trip.
    Latency,
    /// One sender, one receiver, one commit per message.
    Throughput,
    /// The same with messages handed over in batches.
    Batch,
    /// Two senders into one object at once.
    Contended,
    /// Large payloads copied in by the sender and out by the receiver.
    Copy,
    /// Ping-pong of payloads written and read in place, whatever their size.
    Zerocopy,
    /// From the send until a receiver that was asleep runs again.
    Wake,
    /// Latency through queues: each side sends, receives, and deletes what it received before.
    QueueLatency,
    /// The whole life of a queue's message, sent, received and deleted one by one.
    Queue,
    /// The same in batches.
    QueueBatch,
    /// The same where order holds in each of 100 groups, and repeats are dropped.
    Fifo,
    /// One process sends, receives and deletes, whatever else stands in the queue.
    Depth,
    /// Latency through topics: each side publishes to one and listens to the other.
    Topic,
    /// Until a message is durable, one at a time.
    DurableOne,
    /// Eight threads, each of which waits until its own message is durable.
    DurableGroup,
    /// Durable messages in batches that nobody waits for one by one.
    DurableBatch,
    /// The same with large ones: how much of the disk's bandwidth is left.
    DurableLarge,
}

impl Scenario {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Scenario; 17] = [
        Scenario::Latency,
        Scenario::Throughput,
        Scenario::Batch,
        Scenario::Contended,
        Scenario::Copy,
        Scenario::Zerocopy,
        Scenario::Wake,
        Scenario::QueueLatency,
        Scenario::Queue,
        Scenario::QueueBatch,
        Scenario::Fifo,
        Scenario::Depth,
        Scenario::Topic,
        Scenario::DurableOne,
        Scenario::DurableGroup,
        Scenario::DurableBatch,
        Scenario::DurableLarge,
    ];

    /// The word used on the command line and in records.
    pub fn word(self) -> &'static str {
        match self {
            Scenario::Latency => "latency",
            Scenario::Throughput => "throughput",
            Scenario::Batch => "batch",
            Scenario::Contended => "contended",
            Scenario::Copy => "copy",
            Scenario::Zerocopy => "zerocopy",
            Scenario::Wake => "wake",
            Scenario::QueueLatency => "queue-latency",
            Scenario::Queue => "queue",
            Scenario::QueueBatch => "queue-batch",
            Scenario::Fifo => "fifo",
            Scenario::Depth => "depth",
            Scenario::Topic => "topic",
            Scenario::DurableOne => "durable-one",
            Scenario::DurableGroup => "durable-group",
            Scenario::DurableBatch => "durable-batch",
            Scenario::DurableLarge => "durable-large",
        }
    }

    /// Whether its figure is a time (lower is better) and not a rate.
    pub fn is_timed(self) -> bool {
        matches!(
            self,
            Scenario::Latency
                | Scenario::Zerocopy
                | Scenario::Wake
                | Scenario::QueueLatency
                | Scenario::Depth
                | Scenario::Topic
                | Scenario::DurableOne
        )
    }

    /// The payload used when none is asked for. Payloads that stay in place are
    /// large, but below what the transports with the smallest frames can hold.
    pub fn default_size(self) -> usize {
        match self {
            Scenario::Copy | Scenario::DurableLarge => 64 * 1024,
            Scenario::Zerocopy => 32 * 1024,
            Scenario::DurableOne | Scenario::DurableGroup | Scenario::DurableBatch => 256,
            _ => 64,
        }
    }

    /// The batch used when none is asked for: a queue's is the largest of the cloud model.
    pub fn default_batch(self) -> usize {
        match self {
            Scenario::QueueBatch | Scenario::Fifo => 10,
            _ => 64,
        }
    }
}

/// How a side waits for the other one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It polls, and keeps its core busy.
    Spin,
    /// It sleeps in the kernel until there is something.
    Block,
}

impl Mode {
    /// The word used on the command line and in records.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Spin => "spin",
            Mode::Block => "block",
        }
    }
}

/// One round, fully described.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Plan {
    /// The question to answer
    #[arg(long, value_enum)]
    pub scenario: Scenario,
    /// Who answers it, by the name that `list` prints
    #[arg(long)]
    pub contender: String,
    /// Payload bytes per message
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// One core for each side
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    pub cores: Vec<usize>,
    /// Messages (round trips for latency) that are measured, after the warm-up
    #[arg(long, default_value_t = 1_000_000)]
    pub messages: u64,
    /// Whether a waiting side polls or sleeps
    #[arg(long, value_enum, default_value_t = Mode::Spin)]
    pub mode: Mode,
    /// Bytes of the ring, where the contender has one of a chosen size
    #[arg(long, default_value_t = 4 << 20)]
    pub ring_bytes: usize,
    /// Bytes from slot to slot, where the contender has slots (0: its own choice)
    #[arg(long, default_value_t = 0)]
    pub stride: usize,
    /// Messages handed over at once in the batch scenarios
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Messages that wait in the queue of the depth scenario
    #[arg(long, default_value_t = 10_000_000)]
    pub backlog: u64,
    /// Messages that are in flight there
    #[arg(long, default_value_t = 1_000_000)]
    pub in_flight: u64,
    /// Seconds after which the round is ended and counts as failed
    #[arg(long, default_value_t = 120)]
    pub deadline_s: u64,
}

/// Largest payload a plan may ask for: two of them, and the rings, fit a small machine.
const MAX_SIZE: usize = 64 << 20;

impl Plan {
    /// Refuses what no contender could carry out, with the reason.
    pub fn check(&self) -> Result<()> {
        pin::check_cores(&self.cores, &pin::allowed_cores()?)?;
        if self.size < 8 || self.size > MAX_SIZE {
            return Err(format!(
                "a payload of {} bytes can't be measured: 8 bytes carry the sequence number, and {MAX_SIZE} are the most",
                self.size
            )
            .into());
        }
        if self.messages == 0 || self.batch == 0 || self.deadline_s == 0 {
            return Err("messages, batch and deadline must each be at least 1".into());
        }
        if !self.stride.is_multiple_of(8)
            || !self.ring_bytes.is_multiple_of(4096)
            || self.ring_bytes == 0
        {
            return Err(
                "the stride must be a multiple of 8 bytes and the ring one of 4,096".into(),
            );
        }
        Ok(())
    }

    /// Messages that go before the measured ones: caches, branch predictors and
    /// page tables are as they will be, and a 4 MiB ring has been round twice.
    pub fn warm_up(&self) -> u64 {
        let floor = match (self.scenario, self.mode) {
            (Scenario::Wake, _) => 20,
            (Scenario::DurableOne | Scenario::DurableGroup, _) => 100,
            // Segments have been round twice.
            (Scenario::DurableBatch | Scenario::DurableLarge, _) => {
                (256 << 20) / self.size.max(1) as u64
            }
            (_, Mode::Block) => 1_000,
            (
                Scenario::Throughput
                | Scenario::Batch
                | Scenario::Contended
                | Scenario::Queue
                | Scenario::QueueBatch
                | Scenario::Fifo,
                Mode::Spin,
            ) => 150_000,
            (Scenario::Copy, Mode::Spin) => 200,
            (_, Mode::Spin) => 20_000,
        };
        floor.min(self.messages.max(10))
    }

    /// The payload's length in whole words, rounded up.
    pub fn words(&self) -> usize {
        self.size.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let core = pin::allowed_cores().expect("affinity is readable")[0];
        Plan {
            scenario: Scenario::Latency,
            contender: "x".into(),
            size: 64,
            cores: vec![core],
            messages: 10,
            mode: Mode::Spin,
            ring_bytes: 4096,
            stride: 64,
            batch: 1,
            backlog: 0,
            in_flight: 0,
            deadline_s: 1,
        }
    }

    #[test]
    fn a_payload_too_small_for_its_number_is_refused() {
        let mut small = plan();
        small.size = 4;
        let said = small.check().unwrap_err().to_string();
        assert!(said.contains("4 bytes") || said.contains("two"), "{said}");
    }

    #[test]
    fn every_scenario_has_a_word_the_command_line_knows() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::from_str(scenario.word(), false), Ok(scenario));
        }
    }
}
