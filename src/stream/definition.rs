//! What a stream is: fixed at creation, the same for every process.

use crate::channel;
use crate::error::OpenError;
use crate::layout::PAGE;
use crate::layout::journal::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};
use crate::layout::ring::MAX_READERS;
use crate::layout::stream::{SHARDS, STANDING};
use crate::queue::Durability;
use crate::ring::{Overflow, Producers};
use std::time::Duration;

/// Slots of a shard whose creator does not say: with the default stride a ring of 2 MiB.
pub const DEFAULT_SHARD_SLOTS: u64 = 8 * 1024;
/// Stride of a shard whose creator does not say: 208 bytes of key and data in the slot itself.
pub const DEFAULT_SHARD_STRIDE: u64 = 256;
/// Readers of a shard whose creator does not say.
const DEFAULT_READERS: u32 = 64;
/// Most bytes of data in a record (Kinesis: 10 MiB).
pub const MAX_RECORD_BYTES: usize = 10 << 20;
/// Open shards that a stream may have at a time.
pub const MAX_OPEN_SHARDS: u32 = 1000;

/// What a put meets at a shard that is full because somebody has not read its oldest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// It waits for room, this long at most; then it fails.
    Block(Duration),
    /// It fails at once.
    Fail,
    /// It drops the oldest records. Readers are told what they missed, groups too.
    DropOldest,
}

/// Limits of a shard as Kinesis has them in provisioned mode, for who wants to see what they would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Records a second that a shard takes.
    pub records: u32,
    /// Bytes a second that a shard takes, keys included.
    pub bytes: u32,
    /// Bytes a second that a shard gives to all its readers together.
    pub read_bytes: u32,
}

impl ShardLimits {
    /// Those of Kinesis: 1,000 records and 1 MiB in, 2 MiB out.
    pub const KINESIS: Self = Self {
        records: 1000,
        bytes: 1 << 20,
        read_bytes: 2 << 20,
    };
}

/// On-demand mode: the stream splits and merges its shards by the load that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// It never merges to fewer,
    pub min_shards: u32,
    /// and never splits to more open shards.
    pub max_shards: u32,
    /// Records a second that a shard is meant for: it is split when it takes 80 % of them, window after
    /// window.
    pub records: u32,
    /// Bytes a second, keys included.
    pub bytes: u32,
    /// The load is looked at once in this time. 10 ms to 1 h.
    pub window: Duration,
    /// Two adjacent shards become one when neither took 20 % of that in any window for so long. Up to 30
    /// days.
    pub calm: Duration,
}

impl Default for OnDemand {
    /// 4 to 200 shards as in Kinesis, each for its 1,000 records and 1 MiB a second; a window of one second,
    /// an hour of calm.
    fn default() -> Self {
        Self {
            min_shards: 4,
            max_shards: 200,
            records: ShardLimits::KINESIS.records,
            bytes: ShardLimits::KINESIS.bytes,
            window: Duration::from_secs(1),
            calm: Duration::from_secs(3600),
        }
    }
}

/// How long a stream on disk keeps its records. Both count, and whole segments go: so somewhat more is
/// kept than this says, and readers are given nothing that is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A record older than this is gone. 24 h to 365 days, default 24 h.
    pub age: Duration,
    /// Bytes of segments that each shard keeps at most; `None` for any number. The segment that is
    /// written to always stays.
    pub bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(86_400),
            bytes: None,
        }
    }
}

impl Retention {
    /// The words that say it.
    pub(crate) fn words(&self) -> (u64, u64) {
        let age = u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX);
        (age, self.bytes.unwrap_or(0))
    }

    pub(crate) fn of_words((age_ms, bytes): (u64, u64)) -> Self {
        Self {
            age: Duration::from_millis(age_ms),
            bytes: (bytes != 0).then_some(bytes),
        }
    }

    /// Whether it is one that Kinesis would take.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let age = Duration::from_secs(86_400)..=Duration::from_secs(365 * 86_400);
        if age.contains(&self.age) && self.bytes != Some(0) {
            return Ok(());
        }
        Err(OpenError::InvalidOption {
            option: "retention",
            given: format!("{self:?}"),
            rule: "24 h to 365 days, and at least one byte".to_owned(),
        })
    }
}

/// The definition of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDefinition {
    /// Its name.
    pub name: String,
    /// Shards it was created with.
    pub shards: u32,
    /// Slots of each shard: the most records it retains. A power of two from 1,024 to 16,777,216.
    pub slots: u64,
    /// Bytes from slot to slot, a multiple of 32 from 64 to 4,096.
    pub stride: u64,
    /// Readers of each shard at a time, groups not counted.
    pub readers: u32,
    /// What a full shard does.
    pub backpressure: Backpressure,
    /// Who puts to a shard.
    pub producers: Producers,
    /// Emulated limits.
    pub limits: Option<ShardLimits>,
    /// On-demand mode; provisioned without.
    pub on_demand: Option<OnDemand>,
    /// After this long without a sign a worker that is alive loses its leases.
    pub lease_timeout: Duration,
    /// After this long a live but stopped producer's claim is stepped over.
    pub stall_timeout: Duration,
    /// Whether huge pages were asked for.
    pub huge_pages: bool,
    /// What it survives.
    pub durability: Durability,
    /// How long it keeps its records if it is on disk, as it was when it was opened.
    pub retention: Retention,
    /// Bytes of a segment of a shard's journal, whole pages from 64 KiB to 1 GiB; 0: about four rings,
    /// 4 MiB to 64 MiB.
    pub segment_bytes: u64,
}

/// What segments have whose length nobody says.
const SEGMENT_BYTES: core::ops::RangeInclusive<u64> = 4 << 20..=64 << 20;

impl StreamDefinition {
    /// Whether it has journals.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.durability != Durability::Memory
    }

    /// The length of segments, whoever says it.
    pub(crate) fn segment_bytes(&self) -> u64 {
        match self.segment_bytes {
            0 => (4 * self.slots * self.stride)
                .next_power_of_two()
                .clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()),
            given => given,
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shards: 1,
            slots: DEFAULT_SHARD_SLOTS,
            stride: DEFAULT_SHARD_STRIDE,
            readers: DEFAULT_READERS,
            backpressure: Backpressure::Block(Duration::from_secs(30)),
            producers: Producers::Shared,
            limits: None,
            on_demand: None,
            lease_timeout: Duration::from_secs(10),
            stall_timeout: channel::DEFAULT_STALL_TIMEOUT,
            huge_pages: false,
            durability: Durability::Memory,
            retention: Retention::default(),
            segment_bytes: 0,
        }
    }

    /// The ring of one shard.
    pub(crate) fn ring(&self, file_name: &str) -> channel::Definition {
        channel::Definition {
            slots: self.slots,
            stride: self.stride,
            readers: self.readers + STANDING,
            producers: self.producers,
            overflow: match self.backpressure {
                // On disk nobody's records are dropped unread.
                Backpressure::DropOldest if !self.is_on_disk() => Overflow::DropOldest,
                _ => Overflow::Refuse,
            },
            stall_timeout: self.stall_timeout,
            huge_pages: self.huge_pages,
            ..channel::Definition::named(file_name)
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |option, given: String, rule: &str| {
            Err(OpenError::InvalidOption {
                option,
                given,
                rule: rule.to_owned(),
            })
        };
        if !(1..=MAX_OPEN_SHARDS).contains(&self.shards) || u64::from(self.shards) > SHARDS {
            return refuse("shards", self.shards.to_string(), "1 to 1000");
        }
        if !(1..=MAX_READERS - STANDING).contains(&self.readers) {
            return refuse("readers", self.readers.to_string(), "1 to 991");
        }
        let lease = Duration::from_millis(100)..=Duration::from_secs(3600);
        if !lease.contains(&self.lease_timeout) {
            let given = format!("{:?}", self.lease_timeout);
            return refuse("lease_timeout", given, "100 ms to 1 h");
        }
        if let Backpressure::Block(timeout) = self.backpressure
            && timeout > Duration::from_secs(3600)
        {
            let given = format!("{timeout:?}");
            return refuse("backpressure", given, "a put waits up to 1 h");
        }
        if let Some(limits) = self.limits
            && [limits.records, limits.bytes, limits.read_bytes].contains(&0)
        {
            return refuse("limits", format!("{limits:?}"), "each at least 1");
        }
        if let Some(mode) = self.on_demand {
            let window = Duration::from_millis(10)..=Duration::from_secs(3600);
            let shards = 1..=MAX_OPEN_SHARDS;
            let possible = shards.contains(&mode.min_shards)
                && shards.contains(&mode.max_shards)
                && mode.min_shards <= mode.max_shards
                && mode.records > 0
                && mode.bytes > 0
                && window.contains(&mode.window)
                && mode.calm <= Duration::from_secs(30 * 24 * 3600);
            if !possible {
                let rule = "1 to 1000 shards, loads of at least 1, a window of 10 ms to 1 h, up to 30 days of calm";
                return refuse("on_demand", format!("{mode:?}"), rule);
            }
        }
        if self.producers == Producers::Exclusive && (self.is_on_disk() || self.on_demand.is_some())
        {
            let rule = "exclusive ones in memory, with shards that stay";
            return refuse("producers", "Exclusive".into(), rule);
        }
        let segments = MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES;
        let bytes = self.segment_bytes();
        if !segments.contains(&bytes) || !bytes.is_multiple_of(PAGE as u64) {
            let rule = "whole pages from 64 KiB to 1 GiB";
            return refuse("segment_bytes", bytes.to_string(), rule);
        }
        self.ring(".shard").check()
    }
}
