//! Errors of queues: sending, receiving, settling.

use super::ParticipantId;
use std::time::Duration;

/// Sending to a queue. Nothing was sent, but for what [`DurabilityUnknown`](Self::DurabilityUnknown)
/// says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueSendError {
    /// Every slot holds a message: nobody has received the oldest, or everything is in flight.
    #[error(
        "the queue is full: all {capacity} slots hold messages{}; receive and delete some, or create it with more slots or a larger max_bytes",
        holding(.by)
    )]
    Full {
        /// Slots of the queue.
        capacity: u64,
        /// Who holds the lease of a message in the way, if it is a lease that is.
        by: Option<ParticipantId>,
    },
    /// Larger than a message of this queue may be: the body, and the names, types and values of its
    /// attributes.
    #[error(
        "{len} bytes are more than the {max} a message of this queue may have, attributes included; set a larger max_message_bytes, or send a reference to the data"
    )]
    MessageTooLarge { len: usize, max: u64 },
    /// As many messages as its settings allow are in the queue.
    #[error(
        "the queue holds as many messages as it may, {limit}; receive and delete some, or set a larger max_messages"
    )]
    OverQuota { limit: u64 },
    /// The journal of the queue takes as many bytes as it may.
    #[error(
        "the queue's journal takes {bytes} bytes, and may take {quota}; receive and delete some messages, the oldest first, or create the queue with a larger journal_max_bytes"
    )]
    OverDiskQuota { bytes: u64, quota: u64 },
    /// A delay outside of what there is.
    #[error("a delay of {given:?} is not possible: 0 to 900 s in whole milliseconds")]
    InvalidDelay { given: Duration },
    /// A group or deduplication id that is none.
    #[error(
        "{given:?} can't be a {what}: 1 to 128 characters, each a letter, a digit or punctuation of ASCII, no blank"
    )]
    InvalidId {
        /// Which of the two.
        what: &'static str,
        /// What was given, at most 128 characters of it.
        given: String,
    },
    /// A trace header that is none.
    #[error("a trace header has 1 to 1,024 bytes of text, this one has {len} bytes")]
    InvalidTraceHeader {
        /// Its bytes.
        len: usize,
    },
    /// A message to a FIFO queue without a group.
    #[error(
        "a message to a FIFO queue needs a message group: send it as an Outgoing with a group; one group for all keeps all in order"
    )]
    MissingGroup,
    /// A message to a queue that deduplicates, without an id.
    #[error(
        "a message to this queue needs a deduplication id: send it as an Outgoing with a dedup_id, or create the queue with deduplication by content"
    )]
    MissingDedupId,
    /// A message with a deduplication id to a FIFO queue that compares none.
    #[error(
        "this FIFO queue was created without deduplication, the id would mean nothing: send without a dedup_id, or create the queue with room for ids"
    )]
    NoDedup,
    /// As many ids are remembered as there is room for, and none of them may be forgotten yet.
    #[error(
        "there is no room for another deduplication id, the table was made for {ids}; wait until the window of earlier ones has passed, or create the queue with room for more"
    )]
    DedupFull {
        /// Ids that the table was made for.
        ids: u64,
    },
    /// A message to a FIFO queue with a delay of its own.
    #[error(
        "a message to a FIFO queue can't have a delay of its own, others of its group would have to pass it; set the delay of the queue"
    )]
    DelayInFifo,
    /// The payload pool is used up.
    #[error(
        "the payload pool is used up: {needed} bytes needed, {used} of {quota} in use; receive and delete messages, drop loans, or create the bus with a larger pool"
    )]
    PoolExhausted { needed: u64, used: u64, quota: u64 },
    /// The file system is full.
    #[error(
        "no space for another pool segment, or for another ring of the queue: {needed} bytes needed, {available} available; free some, and send again"
    )]
    NoSpace { needed: u64, available: u64 },
    /// The queue is full, and the system refuses another ring, or one is damaged.
    #[error("the queue is full and can't grow: {0}")]
    Growth(String),
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The queue has been removed.
    #[error("the queue has been removed; open or create it again")]
    Removed,
    /// The file was unlinked or replaced under us.
    #[error("the queue's file was deleted or replaced outside ringway; open the queue again")]
    Unlinked,
    /// The participant entry behind this handle is no longer ours.
    #[error(
        "this handle is stale: its participant entry was given to somebody else; open the bus again"
    )]
    Stale,
    /// A shared word is none that the protocol allows.
    #[error(
        "the queue is corrupt near position {position}: another process wrote over it; remove it and create it anew"
    )]
    Corrupt { position: u64 },
    /// The pool's files failed a check or the system refused.
    #[error("the payload pool can't be used: {0}")]
    Pool(String),
    /// A durable queue can't write its journal, and takes nothing until it can: every send tries again.
    #[error("nothing was sent, the journal of the queue can't be written: {why}")]
    NotOnDisk {
        /// What the disk or the system said.
        why: String,
    },
    /// The message is in the durable queue, and may be on disk or not: the disk failed while it was
    /// written. It is delivered as soon as the journal can be written again; if the machine fails before
    /// that, it may be gone.
    #[error(
        "the message at position {position} was sent, and may be on disk or not: {why}; send it again under the same deduplication id, or look for it once the disk is well"
    )]
    DurabilityUnknown {
        /// Of the message.
        position: u64,
        /// What the disk or the system said.
        why: String,
    },
}

fn holding(by: &Option<ParticipantId>) -> String {
    by.map(|by| format!(", in flight with {by} among others"))
        .unwrap_or_default()
}

/// Adding an attribute to a message. Nothing was added.
///
/// Source of the rules: "Amazon SQS message metadata",
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// The message has as many as it may have.
    #[error("a message has at most {max} attributes; put the rest into its body")]
    TooMany {
        /// As many as it may have.
        max: usize,
    },
    /// Together they are larger than any message.
    #[error(
        "attributes of {size} bytes are more than the {max} there may be; put the data into the body"
    )]
    TooLarge {
        /// Bytes of names, types and values with this one.
        size: usize,
        /// As many as there may be.
        max: usize,
    },
    /// A name against the rules.
    #[error("{name:?} can't name an attribute: {rule}")]
    InvalidName {
        /// What was given, at most 256 characters of it.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The name is taken.
    #[error("the message has an attribute {name:?} already; names are unique")]
    DuplicateName {
        /// What was given.
        name: String,
    },
    /// No value.
    #[error("attribute {name:?} has an empty value; leave it away or give it one")]
    EmptyValue {
        /// Of the attribute.
        name: String,
    },
    /// Text with characters that XML does not allow.
    #[error(
        "the text of attribute {name:?} has control characters other than tab, line feed and carriage return, or U+FFFE or U+FFFF; send it as binary"
    )]
    InvalidText {
        /// Of the attribute.
        name: String,
    },
    /// A number that is none, or one out of bounds.
    #[error(
        "{value:?} of attribute {name:?} is no number of up to 38 digits between 10^-128 and 10^126; send it as a string"
    )]
    InvalidNumber {
        /// Of the attribute.
        name: String,
        /// What was given, at most 64 characters of it.
        value: String,
    },
    /// A custom label against the rules.
    #[error(
        "the custom label of attribute {name:?} is empty, has control characters, or makes its data type longer than 256 bytes"
    )]
    InvalidLabel {
        /// Of the attribute.
        name: String,
    },
}

/// Receiving from a queue. No message was leased by the call that fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The message does not fit; it stays visible and is offered to whoever receives next.
    #[error("the message has {needed} bytes, the buffer {given}; receive again with a larger one")]
    BufferTooSmall { needed: usize, given: usize },
    /// As many messages as the queue's settings allow are in flight (`OverLimit`).
    #[error(
        "as many messages as may be are in flight, {limit}; delete those that are done, or set a larger max_in_flight"
    )]
    OverLimit { limit: u64 },
    /// A visibility time-out outside of what there is.
    #[error(
        "a visibility time-out of {given:?} is not possible: 0 to 43,200 s in whole milliseconds"
    )]
    InvalidVisibility { given: Duration },
    /// As many messages are looked at in place as there is room to note; the message stays visible.
    #[error("too many messages are looked at in place just now; close views, or receive a copy")]
    TooManyViews,
    /// The payload's segment can't be opened now; the message stays visible.
    #[error("the payload can't be opened now ({0}); free descriptors or memory and receive again")]
    Pool(String),
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The queue has been removed, and everything visible was received.
    #[error("the queue has been removed; open or create it again")]
    Removed,
    /// The file was unlinked or replaced under us.
    #[error("the queue's file was deleted or replaced outside ringway; open the queue again")]
    Unlinked,
    /// The participant entry behind this handle is no longer ours.
    #[error(
        "this handle is stale: its participant entry was given to somebody else; open the bus again"
    )]
    Stale,
}

/// Settling a receipt: deleting a message, or changing how long it stays invisible. Nothing was
/// changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The message was received again since; that receipt counts now.
    #[error(
        "this receipt is stale: the message at position {position} was received again ({receives} times by now); use the receipt of its last receive, and a longer visibility time-out"
    )]
    StaleReceipt {
        /// Of the message.
        position: u64,
        /// How often it was received by now.
        receives: u16,
    },
    /// The lease is over, and nobody has received the message again yet. It can still be deleted.
    #[error(
        "the message at position {position} is visible again: its lease ended before it was changed; delete it if it is done, or receive it again"
    )]
    NotInFlight {
        /// Of the message.
        position: u64,
    },
    /// The message is gone: deleted, purged, or past its retention.
    #[error(
        "the message at position {position} is gone: it was deleted, purged, or older than the retention of its queue"
    )]
    Gone {
        /// Of the message.
        position: u64,
    },
    /// The receipt is of another queue.
    #[error(
        "this receipt is of queue {receipt:016x}, not of {queue:016x}: settle it with the queue it was received from"
    )]
    OtherQueue {
        /// In the receipt.
        receipt: u64,
        /// Of the handle.
        queue: u64,
    },
    /// A visibility time-out outside of what there is.
    #[error(
        "a visibility time-out of {given:?} is not possible: 0 to 43,200 s in whole milliseconds"
    )]
    InvalidVisibility { given: Duration },
    /// A delay outside of what there is.
    #[error("a delay of {given:?} is not possible: 0 to 900 s in whole milliseconds")]
    InvalidDelay { given: Duration },
    /// What was deleted is gone, and may come back if the machine fails: the disk failed while the
    /// deletion was written.
    #[error(
        "the message at position {position} was deleted, and that may be on disk or not: {why}; if the machine fails now it may be received again"
    )]
    DurabilityUnknown {
        /// Of the message.
        position: u64,
        /// What the disk or the system said.
        why: String,
    },
    /// What was purged is gone, and may come back if the machine fails: the disk failed while that was
    /// written.
    #[error(
        "{purged} messages were purged, and that may be on disk or not: {why}; purge again when the disk is well, or they may be received if the machine fails"
    )]
    PurgeUnknown {
        /// How many.
        purged: u64,
        /// What the disk or the system said.
        why: String,
    },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
}

/// Changing the settings of a queue. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// A setting is outside its documented bounds.
    #[error("{setting} = {given} is not possible: {rule}")]
    InvalidSetting {
        setting: &'static str,
        given: String,
        rule: String,
    },
    /// A queue can't be its own dead-letter queue.
    #[error("a queue can't be its own dead-letter queue; name another one")]
    OwnTarget,
    /// There is no such queue on this bus.
    #[error(
        "no queue of this bus has the id {target:016x}; create the dead-letter queue first, on the same bus"
    )]
    NoSuchTarget { target: u64 },
    /// One of the two is a FIFO queue, the other is not.
    #[error(
        "queue {target:?} is of the other kind: the dead-letter queue of a FIFO queue is a FIFO queue, that of a standard queue a standard one"
    )]
    OtherKind { target: String },
    /// The dead-letter queue has a lower level of durability.
    #[error(
        "queue {target:?} survives less than this one: a message would be gone there with the machine; create the dead-letter queue with this queue's durability"
    )]
    OnDisk { target: String },
    /// The dead-letter queue does not allow it.
    #[error(
        "queue {target:?} does not allow this queue to have it as a dead-letter queue; change its redrive_allow first"
    )]
    TargetRefuses { target: String },
    /// Messages of this queue were moved to as many others before.
    #[error(
        "messages of this queue have gone to {limit} other queues before, and there is room for no more; create the queue anew"
    )]
    TooManyTargets { limit: usize },
    /// The other queue can't be opened now.
    #[error(transparent)]
    Open(#[from] super::OpenError),
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The queue has been removed.
    #[error("the queue has been removed; open or create it again")]
    Removed,
}

/// Moving the messages of a queue on. What was moved before stays moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Another task of this queue is under way.
    #[error("{by} is moving messages of this queue; wait for it, or cancel it")]
    Busy { by: ParticipantId },
    /// A queue can't be its own destination.
    #[error("a queue can't be its own destination; name another one")]
    OwnDestination,
    /// There is no such queue on this bus.
    #[error("no queue of this bus has the id {destination:016x}; create it first, on the same bus")]
    NoSuchDestination { destination: u64 },
    /// One of the two is a FIFO queue, the other is not.
    #[error(
        "messages of a FIFO queue go to FIFO queues only, those of a standard one to standard ones"
    )]
    OtherKind,
    /// The destination has a lower level of durability.
    #[error(
        "queue {destination:?} survives less than this one: messages would be gone there with the machine; name one of this queue's durability, or none: each goes back to where it came from"
    )]
    OnDisk { destination: String },
    /// Messages of this queue were moved to as many others before.
    #[error(
        "messages of this queue have gone to {limit} other queues before, and there is room for no more; name one of those"
    )]
    TooManyDestinations { limit: usize },
    /// The destination was removed under way.
    #[error("the destination has been removed; begin again with another one")]
    DestinationGone,
    /// Somebody else runs the task by now.
    #[error("another participant has taken this task over; look at its status")]
    Lost,
    /// A queue can't be opened now.
    #[error(transparent)]
    Open(#[from] super::OpenError),
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The queue has been removed.
    #[error("the queue has been removed; open or create it again")]
    Removed,
}

/// Waiting for the disk, or keeping the role of its writer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The queue lives in memory.
    #[error(
        "the queue lives in memory and has no journal; create it with another durability to have it on disk"
    )]
    NoDisk,
    /// The journal can't be written now.
    #[error("the journal can't be written: {why}; it is tried again with the next send or flush")]
    NotOnDisk { why: String },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// It has been removed.
    #[error("it has been removed; open or create it again")]
    Removed,
}

/// Bytes or text that are no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no receipt: 16 hexadecimal digits of a queue, a position, a count of 1 to 1,023, with two hyphens"
)]
pub struct ReceiptError {
    /// What was given, at most 64 characters of it.
    pub text: String,
}
