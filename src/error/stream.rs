//! Errors of streams, by the moment they happen at.

use super::{JoinError, OpenError, ParticipantId, ReadError, SendError, WaitError};
use core::fmt;

/// The number of a shard. Numbers grow and are never given twice: a child's is above its parents'.
///
/// Displayed as in Kinesis: `shardId-000000000003`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u32);

impl ShardId {
    /// What every name of a shard begins with.
    pub(crate) const PREFIX: &'static str = "shardId-";
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:012}", Self::PREFIX, self.0)
    }
}

/// Putting a record. It was not put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The shard has come round to a record that somebody still needs.
    #[error("{shard} is full{}; let it be read, or create the stream with more slots", held(.by, .group, .consumer))]
    Full {
        shard: ShardId,
        by: Option<ParticipantId>,
        /// The consumer group that has not come further.
        group: Option<String>,
        /// The registered consumer that has not come further.
        consumer: Option<String>,
    },
    /// An emulated limit of the shard (`ProvisionedThroughputExceededException`).
    #[error(
        "{shard} takes {limit} {unit} a second and had as many; try again in the next one, or split it"
    )]
    Throttled {
        shard: ShardId,
        limit: u32,
        unit: &'static str,
    },
    /// The partition key breaks the rule.
    #[error("a partition key of {chars} characters; it has 1 to 256")]
    InvalidPartitionKey { chars: usize },
    /// More data than a record may have.
    #[error("{len} bytes are more than the {max} a record may have; split the data")]
    TooLarge { len: usize, max: usize },
    /// The stream has exclusive producers, and somebody else puts to the shard.
    #[error(
        "{shard} has a producer, {by}, and takes one at a time; wait until that is dropped, or create the stream with shared producers"
    )]
    Held { shard: ShardId, by: ParticipantId },
    /// The stream splits and merges all the time.
    #[error("shards were closed under {attempts} attempts to put; try again")]
    Busy { attempts: usize },
    /// A shard can't be opened now.
    #[error("a shard can't be opened: {0}")]
    Open(#[from] OpenError),
    /// The stream is on disk, its journal can't be written, and it takes nothing until it can: every put
    /// tries again.
    #[error("nothing was put: the journal of {shard} can't be written: {why}")]
    NotOnDisk { shard: ShardId, why: String },
    /// The record is in the stream, and may be on disk or not: the disk failed while it was written. It is
    /// read as soon as the journal can be written again; if the machine fails before that, it may be gone.
    #[error(
        "the record at position {position} of {shard} was put, and may be on disk or not: {why}; look for it once the disk is well, or put it again"
    )]
    DurabilityUnknown {
        shard: ShardId,
        position: u64,
        why: String,
    },
    /// The payload pool, the fork, the removal: as in a channel.
    #[error("{shard}: {source}")]
    Send { shard: ShardId, source: SendError },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The stream has been removed.
    #[error("the stream has been removed; open or create it again")]
    Removed,
}

fn held(by: &Option<ParticipantId>, group: &Option<String>, consumer: &Option<String>) -> String {
    match (group, consumer, by) {
        (Some(group), ..) => format!(", group {group:?} has not come further"),
        (_, Some(consumer), _) => format!(", consumer {consumer:?} has not come further"),
        (.., Some(by)) => format!(", held by {by}"),
        (None, None, None) => String::new(),
    }
}

/// Reading a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamReadError {
    /// Records were dropped before this reader came to them.
    #[error("missed positions {from} to {} of {shard}: they were dropped; reading goes on at {to}", .to - 1)]
    Lagged { shard: ShardId, from: u64, to: u64 },
    /// An emulated limit of the shard (`ProvisionedThroughputExceededException`).
    #[error(
        "{shard} gives {limit} bytes a second and has given as many; try again in the next one"
    )]
    Throttled { shard: ShardId, limit: u32 },
    /// There is no such shard, or its memory was given back.
    #[error("there is no {shard}; list the shards")]
    NoShard { shard: ShardId },
    /// The iterator begins in one shard, and all are to be read.
    #[error(
        "a sequence number is of one shard; say which shard to read, or choose another iterator"
    )]
    NeedsShard,
    /// The sequence number is of another shard.
    #[error("the sequence number is of {found}, not of {shard}; take one of its records")]
    OtherShard { shard: ShardId, found: ShardId },
    /// A shard can't be opened now.
    #[error("a shard can't be opened: {0}")]
    Open(#[from] OpenError),
    /// Its reader entries are taken, or the shard is gone.
    #[error("{shard}: {source}")]
    Join { shard: ShardId, source: JoinError },
    /// As in a channel.
    #[error("{shard}: {source}")]
    Read { shard: ShardId, source: ReadError },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The stream has been removed.
    #[error("the stream has been removed; open or create it again")]
    Removed,
    /// This worker was taken for dead, or removed with its group.
    #[error("this worker has no place in the group any more; join the group again")]
    NotMember,
}

impl StreamReadError {
    pub(crate) fn of(shard: ShardId, source: ReadError) -> Self {
        match source {
            ReadError::Lagged { from, to } => Self::Lagged { shard, from, to },
            ReadError::Forked => Self::Forked,
            ReadError::Removed => Self::Removed,
            source => Self::Read { shard, source },
        }
    }

    pub(crate) fn of_wait(shard: ShardId, source: WaitError) -> Self {
        Self::of(shard, source.into())
    }
}

/// Splitting, merging, scaling.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReshardError {
    /// There is no such shard.
    #[error("there is no {shard}; list the shards")]
    NoShard { shard: ShardId },
    /// It was split or merged already.
    #[error("{shard} is closed; choose an open one")]
    NotOpen { shard: ShardId },
    /// The two do not follow each other.
    #[error(
        "{first} and {second} are not adjacent: the keys of one must follow those of the other"
    )]
    NotAdjacent { first: ShardId, second: ShardId },
    /// Nothing would be left on one side.
    #[error(
        "{shard} can't be split at {at}: it has the keys {start} to {end}, and both sides need one"
    )]
    InvalidSplit {
        shard: ShardId,
        at: u128,
        start: u128,
        end: u128,
    },
    /// The stream has exclusive producers, who write to the shards that there are.
    #[error(
        "a stream with exclusive producers keeps its shards; create another one, with as many as are wanted"
    )]
    Exclusive,
    /// A number of shards that there can't be.
    #[error("{given} shards are not possible: 1 to {limit}")]
    InvalidCount { given: u32, limit: u32 },
    /// The numbers of shards are used up.
    #[error("a stream has {limit} shards over its life, closed ones included; create another one")]
    NoNumbers { limit: u64 },
    /// Others change the stream all the time.
    #[error("others changed the stream under {attempts} attempts; try again")]
    Busy { attempts: usize },
    /// A shard can't be made or opened now.
    #[error("a shard can't be made or opened: {0}")]
    Open(#[from] OpenError),
}

/// Consumer groups.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There is none of that name.
    #[error("there is no group {name:?}; list those there are, or make it (group_or_create)")]
    NoGroup { name: String },
    /// The name breaks the rule.
    #[error("{name:?} is no name of a group: 1 to 128 bytes of A-Z a-z 0-9 _ . -")]
    InvalidName { name: String },
    /// Their places are used up.
    #[error(
        "a stream has {limit} groups over its life, removed ones included; create another stream"
    )]
    TooManyGroups { limit: u32 },
    /// Every place is taken.
    #[error("all {limit} workers of the group live; stop one first")]
    TooManyWorkers { limit: usize },
    /// Others change the stream all the time.
    #[error("others changed the stream under {attempts} attempts; try again")]
    Busy { attempts: usize },
    /// A shard can't be opened now.
    #[error("a shard can't be opened: {0}")]
    Open(#[from] OpenError),
}

impl From<ReshardError> for GroupError {
    fn from(error: ReshardError) -> Self {
        match error {
            ReshardError::Busy { attempts } => Self::Busy { attempts },
            ReshardError::Open(error) => Self::Open(error),
            // Changes of groups name no shard.
            other => Self::Open(OpenError::Io {
                path: std::path::PathBuf::new(),
                source: std::io::Error::other(other.to_string()),
            }),
        }
    }
}

/// Registered consumers, and their subscriptions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// There is none of that name (`ResourceNotFoundException`).
    #[error("there is no consumer {name:?}; register it")]
    NoConsumer { name: String },
    /// There is one of that name (`ResourceInUseException`).
    #[error("consumer {name:?} is registered; subscribe as it, or deregister it")]
    AlreadyRegistered { name: String },
    /// The name breaks the rule.
    #[error("{name:?} is no name of a consumer: 1 to 128 bytes of A-Z a-z 0-9 _ . -")]
    InvalidName { name: String },
    /// As many are registered as may be (`LimitExceededException`).
    #[error("{limit} consumers are registered, which is the most; deregister one")]
    TooManyConsumers { limit: usize },
    /// Places of groups and consumers are used up.
    #[error(
        "a stream has {limit} groups and consumers over its life, removed ones included; create another stream"
    )]
    NoPlace { limit: u32 },
    /// A stream that drops its oldest records waits for nobody.
    #[error(
        "the stream drops its oldest records, so no consumer holds puts back; register it to be told of gaps, or to be evicted"
    )]
    DropsOldest,
    /// Somebody who lives has subscribed (`ResourceInUseException`).
    #[error("{by} has subscribed; wait until it ends, or take its place")]
    Busy { by: ParticipantId },
    /// Another subscriber took this one's place, or the consumer was deregistered.
    #[error("this subscription has ended: another took its place, or the consumer is deregistered")]
    Displaced,
    /// The consumer fell behind what its shard retains, and loses its subscription for it.
    #[error("evicted: positions {from} to {} of {shard} were dropped before they were read; subscribe again from where you want to go on", .to - 1)]
    Evicted { shard: ShardId, from: u64, to: u64 },
    /// Others change the stream all the time.
    #[error("others changed the stream under {attempts} attempts; try again")]
    Busied { attempts: usize },
    /// As any reader.
    #[error(transparent)]
    Read(#[from] StreamReadError),
    /// A shard can't be opened now.
    #[error("a shard can't be opened: {0}")]
    Open(#[from] OpenError),
}

impl From<ReshardError> for ConsumerError {
    fn from(error: ReshardError) -> Self {
        match error {
            ReshardError::Busy { attempts } => Self::Busied { attempts },
            ReshardError::Open(error) => Self::Open(error),
            // Changes of consumers name no shard.
            other => Self::Open(OpenError::Io {
                path: std::path::PathBuf::new(),
                source: std::io::Error::other(other.to_string()),
            }),
        }
    }
}

/// Checkpoints. What another worker has checkpointed stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The leases passed on: another worker reads these shards from the last checkpoint.
    #[error("the leases of {} passed on to another worker; drop what was read since the last checkpoint", listed(.shards))]
    Fenced { shards: Vec<ShardId> },
    /// This worker has no lease of the shard.
    #[error("this worker does not read {shard}; checkpoint the shards it does")]
    NoLease { shard: ShardId },
    /// The record was not handed out under this lease, or lies before the checkpoint.
    #[error(
        "position {position} of {shard} is not between its checkpoint {from} and what was read, {to}"
    )]
    OutOfRange {
        shard: ShardId,
        position: u64,
        from: u64,
        to: u64,
    },
    /// The checkpoint counts, and may be on disk or not: the disk failed while it was written. If the
    /// machine fails now, what is behind an earlier one is read again.
    #[error(
        "the checkpoint in {shard} may be on disk or not: {why}; checkpoint again once the disk is well"
    )]
    DurabilityUnknown { shard: ShardId, why: String },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
}

fn listed(shards: &[ShardId]) -> String {
    let shards: Vec<String> = shards.iter().map(ShardId::to_string).collect();
    shards.join(", ")
}
