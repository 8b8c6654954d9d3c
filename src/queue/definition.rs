//! What a queue is: its shape, fixed at creation, and its settings as they were when it was opened.

use super::RedriveAllow;
use super::dedup::Deduplication;
use super::persist::segment_bytes;
use super::settings::QueueSettings;
use crate::error::OpenError;
use crate::layout::queue::{MAX_BODY_ON_DISK, MIN_FIFO_STRIDE};
use crate::layout::ring::{MAX_SLOTS, MAX_STRIDE, MIN_SLOTS, MIN_STRIDE};
use std::time::Duration;

/// Slots of a queue whose creator does not say: with the default stride a file of 4 MiB, between L2
/// and L3 in size, as for channels (docs/decisions/0004-ring-size.md).
pub const DEFAULT_SLOTS: u64 = 16 * 1024;
/// Stride of a queue whose creator does not say: 216 bytes of body in four cache lines.
pub const DEFAULT_STRIDE: u64 = 256;
/// The largest body of a queue whose creator does not say: 256 KiB, the classic limit of SQS.
pub const DEFAULT_MAX_MESSAGE: u64 = 262_144;
/// Bytes that a queue may grow to whose creator says neither that nor its slots.
pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// Longest stall time-out.
const MAX_STALL_MS: u32 = 60_000;

/// What a queue promises about order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueKind {
    /// At least once, in the order of sends as far as nothing has to come again, and no sender that stood
    /// still had to send anew.
    #[default]
    Standard,
    /// Strict order within each message group, also when messages come again.
    Fifo,
}

/// What a queue or a stream survives, and what a send or a put that returned means.
///
/// | level | processes die | the kernel crashes | power is lost |
/// |---|---|---|---|
/// | `Memory` | everything is there | everything is gone | everything is gone |
/// | `Async` | everything is there | what was acknowledged in the last moment is gone | the same |
/// | `Durable` | everything is there | everything that was acknowledged is there | the same |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// It lives in memory.
    #[default]
    Memory,
    /// A send and a delete return at once, and are on disk soon after: within 10 ms, and what the disk takes
    /// to write what came together. [`Queue::flush`](crate::Queue::flush) waits for it. Messages are
    /// received before they are on disk, unless the queue deduplicates. In a stream puts and checkpoints
    /// are so, and [`Stream::flush`](crate::Stream::flush) waits.
    Async,
    /// A send, a put, a delete and a checkpoint return when they are on disk.
    Durable,
}

/// The definition of a queue. What [`Queue::set`](crate::Queue::set) can change is here as it was
/// when the queue was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDefinition {
    /// Its name.
    pub name: String,
    /// Standard or FIFO.
    pub kind: QueueKind,
    /// How it deduplicates, if it does.
    pub dedup: Option<Deduplication>,
    /// Slots of its first ring, a power of two from 1,024 to 16,777,216.
    pub slots: u64,
    /// Bytes from slot to slot, a multiple of 32 from 64 (FIFO: 128) to 4,096; 40 (FIFO: 80) of
    /// them are header.
    pub stride: u64,
    /// How long a received message stays invisible if the receive does not say. 0 to 43,200 s.
    pub visibility: Duration,
    /// How long a sent message stays invisible if the send does not say. 0 to 900 s.
    pub delay: Duration,
    /// A message older than this is gone. 60 s to 14 days.
    pub retention: Duration,
    /// The largest body, 1 byte to 1 TiB.
    pub max_message_bytes: u64,
    /// Whether the message of a dead holder is received again at once.
    pub redeliver_on_death: bool,
    /// How long a receive waits if it does not say. 0 to 20 s.
    pub receive_wait: Duration,
    /// After this long a live but stopped sender's claim is stepped over. 1 ms to 60 s.
    pub stall_timeout: Duration,
    /// Whether huge pages were asked for.
    pub huge_pages: bool,
    /// Bytes that the files of its rings may take together: the queue grows up to that. Those of its
    /// first ring: it holds so many messages as that has slots, and does not grow.
    pub max_bytes: u64,
    /// What it survives.
    pub durability: Durability,
    /// Durable: whether messages are received before they are on disk.
    pub read_ahead: bool,
    /// On disk: bytes of its journal at which sends are refused; `None`: never.
    pub journal_max_bytes: Option<u64>,
    /// Whether its further rings lie on a disk.
    pub spill: bool,
}

impl QueueKind {
    pub(super) fn min_stride(self) -> u64 {
        match self {
            Self::Standard => MIN_STRIDE,
            Self::Fifo => MIN_FIFO_STRIDE,
        }
    }
}

impl QueueDefinition {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: QueueKind::Standard,
            dedup: None,
            slots: DEFAULT_SLOTS,
            stride: DEFAULT_STRIDE,
            visibility: Duration::from_secs(30),
            delay: Duration::ZERO,
            retention: Duration::from_secs(4 * 86_400),
            max_message_bytes: DEFAULT_MAX_MESSAGE,
            redeliver_on_death: true,
            receive_wait: Duration::ZERO,
            stall_timeout: Duration::from_millis(20),
            huge_pages: false,
            max_bytes: DEFAULT_MAX_BYTES,
            durability: Durability::Memory,
            read_ahead: false,
            journal_max_bytes: None,
            spill: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |option, given: String, rule: String| {
            Err(OpenError::InvalidOption {
                option,
                given,
                rule,
            })
        };
        if !self.slots.is_power_of_two() || !(MIN_SLOTS..=MAX_SLOTS).contains(&self.slots) {
            let rule = format!("a power of two from {MIN_SLOTS} to {MAX_SLOTS}");
            return refuse("slots", self.slots.to_string(), rule);
        }
        let least = self.kind.min_stride();
        if !self.stride.is_multiple_of(32) || !(least..=MAX_STRIDE).contains(&self.stride) {
            let rule = format!("a multiple of 32 from {least} to {MAX_STRIDE}");
            return refuse("stride", self.stride.to_string(), rule);
        }
        if let Some(dedup) = &self.dedup {
            let checked = match self.kind {
                QueueKind::Fifo => dedup.check(),
                QueueKind::Standard => Err((
                    "of a standard queue".to_owned(),
                    "FIFO queues only".to_owned(),
                )),
            };
            if let Err((given, rule)) = checked {
                return refuse("deduplicate", given, rule);
            }
        }
        if self.is_on_disk() && self.max_message_bytes > MAX_BODY_ON_DISK {
            let rule = format!("1 to {MAX_BODY_ON_DISK} in a queue on disk");
            let given = self.max_message_bytes.to_string();
            return refuse("max_message_bytes", given, rule);
        }
        if self.read_ahead && (!self.is_on_disk() || self.dedup.is_some()) {
            let rule = "of a queue on disk that does not deduplicate: the id of a message that is \
                        consumed before it is written would be forgotten";
            return refuse("read_ahead", "true".to_owned(), rule.to_owned());
        }
        if self.spill && self.kind == QueueKind::Fifo {
            let rule = "of a standard queue: others have one ring and do not grow";
            return refuse("spill", "true".to_owned(), rule.to_owned());
        }
        if let Some(most) = self.journal_max_bytes {
            let least = 4 * segment_bytes(self.slots * self.stride, self.max_message_bytes);
            if !self.is_on_disk() || most < least {
                let rule = format!("of a queue on disk: at least four segments, {least} bytes");
                return refuse("journal_max_bytes", most.to_string(), rule);
            }
        }
        let stall = whole_ms(self.stall_timeout, MAX_STALL_MS);
        if stall.is_none_or(|ms| ms == 0) {
            let rule = "1ms to 60s in whole milliseconds".to_owned();
            return refuse("stall_timeout", format!("{:?}", self.stall_timeout), rule);
        }
        let checked = self.settings().check();
        checked.or_else(|refused| refuse(refused.setting, refused.given, refused.rule))
    }

    /// Whether messages are received before the disk has them.
    pub(crate) fn reads_ahead(&self) -> bool {
        match self.durability {
            Durability::Memory => false,
            Durability::Async => self.dedup.is_none(),
            Durability::Durable => self.read_ahead,
        }
    }

    /// Whether it has a journal.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.durability != Durability::Memory
    }

    pub(crate) fn settings(&self) -> QueueSettings {
        QueueSettings {
            visibility: self.visibility,
            delay: self.delay,
            retention: self.retention,
            max_message_bytes: self.max_message_bytes,
            receive_wait: self.receive_wait,
            redeliver_on_death: self.redeliver_on_death,
            redrive: None,
            redrive_allow: RedriveAllow::All,
            max_messages: None,
            max_in_flight: None,
        }
    }

    /// The settings as they are now.
    pub(crate) fn set(&mut self, now: &QueueSettings) {
        self.visibility = now.visibility;
        self.delay = now.delay;
        self.retention = now.retention;
        self.max_message_bytes = now.max_message_bytes;
        self.receive_wait = now.receive_wait;
        self.redeliver_on_death = now.redeliver_on_death;
    }
}

/// A duration in milliseconds: whole ones, at most `most`.
pub(super) fn whole_ms(time: Duration, most: u32) -> Option<u32> {
    let ms = u32::try_from(time.as_millis()).ok()?;
    (ms <= most && time.subsec_nanos().is_multiple_of(1_000_000)).then_some(ms)
}
