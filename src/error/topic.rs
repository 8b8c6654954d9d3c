//! Errors of topics: publishing, subscribing, listening.

use super::{JoinError, OpenError, ParticipantId, QueueSendError};

/// Publishing to a topic. Nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A message to a FIFO topic without a group.
    #[error(
        "a message to a FIFO topic needs a message group: publish it with a group; one group for all keeps all in order"
    )]
    MissingGroup,
    /// A subject that is none.
    #[error("a subject has 1 to 100 characters without control characters, this has {len} bytes")]
    InvalidSubject {
        /// Its bytes.
        len: usize,
    },
    /// A group, deduplication id or trace header that is none.
    #[error(
        "{what} of {len} bytes can't be: ids have 1 to 128 letters, digits and punctuation of ASCII, a trace header 1 to 1,024 bytes of text"
    )]
    InvalidId {
        /// Which of them.
        what: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// A message for each protocol that is none.
    #[error(
        "a message for each protocol is a JSON object of texts, one of them \"default\"; publish it without a structure if it is one text"
    )]
    InvalidStructure,
    /// A listener that publishers wait for has not gone on: nothing was published, unless the ring
    /// filled up at the very moment.
    #[error(
        "a listener{} that misses nothing has not heard what is in the ring yet; publish again when it goes on, or end it",
        .by.map_or(String::new(), |by| format!(" of {by}"))
    )]
    HeldUp {
        /// Whose it is.
        by: Option<ParticipantId>,
    },
    /// The archive of a FIFO topic does not take messages, or give them back, now.
    #[error("the archive of the topic can't be used now: {0}")]
    Archive(String),
    /// The filter policy of a listener is none: a [`PolicyError`](crate::filter::PolicyError).
    #[error("{0}")]
    Policy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The topic's own queue did not take it.
    #[error("the topic took no message: {0}")]
    Transit(#[from] QueueSendError),
    /// The topic's own queue, or the log of its subscriptions, can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The same.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The topic has been removed.
    #[error("the topic has been removed; open or create it again")]
    Removed,
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
}

/// Saying which topics may deliver to a queue. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueuePolicyError {
    /// The policy is none.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it, in the words of SQS.
        reason: String,
    },
    /// There is no such queue, or a file can't be read or written.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Subscribing to a topic, or unsubscribing. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The description is larger than a record may be.
    #[error("a subscription of {bytes} bytes is larger than {max}; shorten its filter policy")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// As many as it may have.
        max: usize,
    },
    /// The filter policy is none: a [`PolicyError`](crate::filter::PolicyError).
    #[error("{0}")]
    Policy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The delivery policy is none.
    #[error("{reason}")]
    DeliveryPolicy {
        /// What is wrong with it, in the words of SNS.
        reason: String,
    },
    /// The replay can't be.
    #[error("{reason}")]
    Replay {
        /// Why, and what to do.
        reason: String,
    },
    /// There is no subscription of that number.
    #[error("there is no subscription {id:016x}; list those of the topic")]
    NotFound {
        /// What was given.
        id: u64,
    },
    /// The log is damaged: a record says that it has no length.
    #[error(
        "the log of subscriptions is damaged at byte {at}: another process wrote over it; remove the topic and create it anew"
    )]
    Corrupt {
        /// Where.
        at: usize,
    },
    /// A file can't be opened or grown, or the queue isn't there.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The topic has been removed.
    #[error("the topic has been removed; open or create it again")]
    Removed,
}
