//! A brokerless message bus in shared memory.

// For the model checks what is private otherwise is public, and loom's threads share one.
#![cfg_attr(
    loom,
    allow(
        missing_docs,
        dead_code,
        clippy::len_without_is_empty,
        clippy::arc_with_non_send_sync
    )
)]

#[cfg(not(loom))]
mod trace;

#[cfg(not(loom))]
mod bus;
#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
pub mod journal;
#[cfg(not(loom))]
mod object;
#[cfg(not(loom))]
mod persist;
#[cfg(not(loom))]
mod queue;
#[cfg(not(loom))]
mod stream;
#[cfg(not(loom))]
mod sys;
#[cfg(all(feature = "topics", not(loom)))]
mod topic;

macro_rules! floors {
    ($($name:ident)*) => {$(
        #[cfg(loom)]
        pub mod $name;
        #[cfg(not(loom))]
        mod $name;
    )*};
}

// Public only to the model checks.
floors!(layout pool ring shm sync);
/// Of the upper floors a model check sees only the words.
#[cfg(loom)]
pub mod bus {
    pub mod participant;
}

#[cfg(not(loom))]
pub use {
    bus::{
        Builder, Bus, ChannelBuilder, DEFAULT_POOL_BYTES, DEFAULT_ROOT, Holder, ObjectInfo,
        ObjectKind, ObservedChannel, ObservedQueue, ObservedShard, ObservedStream, Observer,
        Origin, ParticipantInfo, PoolStats, QueueBuilder, ROOT_VARIABLE, Report, StreamBuilder,
    },
    channel::{
        Channel, ChannelStats, Definition, PinnedView, Producer, Reader, ReaderBuilder,
        ReaderStats, Record, View,
    },
    error::{
        AttributeError, CheckpointError, ConsumerError, FlushError, GroupError, JoinError,
        JournalError, MoveError, OpenError, ParticipantId, PutError, QueueSendError, ReadError,
        ReceiptError, ReceiveError, ReshardError, SendError, SetError, SettleError, ShardId,
        StreamReadError, WaitError,
    },
    object::RecoveryProgress,
    object::loan::Loan,
    object::poll::PollDescriptor,
    object::wait::{Waitable, wait_any},
    queue::{
        Attribute, AttributeIter, AttributeValue, Attributes, AttributesRef, DedupScope,
        Deduplication, Durability, Incoming, Message, MessageOrigin, MessageView, Messages,
        MoveOptions, MoveState, MoveStatus, MoveTask, Outgoing, ParkedMessage, Persister, PodError,
        Queue, QueueDefinition, QueueKind, QueueReceiver, QueueSender, QueueSettings, QueueStats,
        Receipt, Received, Redrive, RedriveAllow, Sent, Settings,
    },
    ring::seat::Start,
    ring::wait::Idle,
    ring::{Overflow, Producers},
    stream::{
        AggregatingProducer, Aggregation, Backpressure, Consumer, ConsumerEvent, ConsumerInfo,
        ConsumerPolicy, ConsumerSubscription, Flushed, Group, GroupInfo, GroupShard, GroupStart,
        GroupWorker, LeaseInfo, MAX_RECORD_BYTES, NumberError, OnDemand, OwnedRecord, Put,
        PutRecord, Retention, Scaled, Scaling, SequenceNumber, ShardInfo, ShardLimits, ShardState,
        Stream, StreamDefinition, StreamIterator, StreamProducer, StreamReader,
        StreamReaderBuilder, StreamRecord, StreamStats, StreamTail, hash_key_of,
    },
};

#[cfg(all(feature = "async", not(loom)))]
pub use queue::AsyncReceiver;
#[cfg(all(feature = "md5", not(loom)))]
pub use queue::Md5Digest;

/// FORMAT of the files that this build writes: major and minor (docs/format.md). It reads the same major
/// up to that minor.
#[cfg(not(loom))]
pub const FORMAT: (u16, u16) = (layout::FORMAT_MAJOR, layout::FORMAT_MINOR);

#[cfg(all(feature = "topics", not(loom)))]
pub use {
    bus::{ObservedTopic, TopicBuilder},
    error::{PublishError, QueuePolicyError, SubscribeError},
    topic::{
        BackoffFunction, DeliveryPolicy, Dispatcher, Heard, ListenOptions, ListenPolicy,
        ListenStats, Listener, ListenerInfo, MessageId, Notification, Protocol, Publication,
        Published, Publisher, QueuePolicy, Replay, ReplayStatus, SubscribeOptions, Subscription,
        SubscriptionState, SubscriptionStats, Topic, TopicDefinition, TopicKind, TopicStats,
        filter,
    },
};

/// Plain old data: what `send_pod` and `receive_pod` take.
pub use bytemuck;

/// Pinning threads to cores.
#[cfg(not(loom))]
pub mod affinity {
    pub use crate::sys::affinity::{cores, pin_current_thread};
}
