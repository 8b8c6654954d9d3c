//! What a stream is: fixed at creation, the same for every process.

use crate::channel;
use crate::error::OpenError;
use crate::layout::ring::MAX_READERS;
use crate::layout::stream::{SHARDS, STANDING};
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
}

impl StreamDefinition {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shards: 1,
            slots: DEFAULT_SHARD_SLOTS,
            stride: DEFAULT_SHARD_STRIDE,
            readers: DEFAULT_READERS,
            backpressure: Backpressure::Block(Duration::from_secs(30)),
            limits: None,
            on_demand: None,
            lease_timeout: Duration::from_secs(10),
            stall_timeout: channel::DEFAULT_STALL_TIMEOUT,
            huge_pages: false,
        }
    }

    /// The ring of one shard.
    pub(crate) fn ring(&self, file_name: &str) -> channel::Definition {
        channel::Definition {
            slots: self.slots,
            stride: self.stride,
            readers: self.readers + STANDING,
            producers: Producers::Shared,
            overflow: match self.backpressure {
                Backpressure::DropOldest => Overflow::DropOldest,
                Backpressure::Block(_) | Backpressure::Fail => Overflow::Refuse,
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
        self.ring(".shard").check()
    }
}
