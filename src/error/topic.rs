//! Errors of topics: publishing, subscribing, listening.

use super::{JoinError, OpenError, QueueSendError};

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
        "{what} of {len} bytes can't be: ids have 1 to 128 letters, digits and punctuation of ASCII, a trace header 1 to 1,024 bytes"
    )]
    InvalidId {
        /// Which of them.
        what: &'static str,
        /// Its bytes.
        len: usize,
    },
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
