//! Errors by the moment they happen at. Every variant says what to do next.
//!
//! Full, empty and not-yet are ordinary outcomes: they give the message back and cost nothing.
//! Nothing here panics; a peer's corruption is `Corrupt` or `Scribbled`, never undefined.

mod journal;
mod queue;
mod stream;
#[cfg(feature = "topics")]
mod topic;

pub use journal::JournalError;
pub use queue::{
    AttributeError, FlushError, MoveError, QueueSendError, ReceiptError, ReceiveError, SetError,
    SettleError,
};

pub use stream::{
    CheckpointError, ConsumerError, GroupError, PutError, ReshardError, ShardId, StreamReadError,
};
#[cfg(feature = "topics")]
pub use topic::{PublishError, QueuePolicyError, SubscribeError};

use std::io;
use std::path::PathBuf;

/// A participant of the bus, by the number of its registry entry (1..=1023).
///
/// [`Bus::participant`](crate::Bus::participant) tells its name, pid and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantId(pub u16);

impl core::fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "participant {}", self.0)
    }
}

/// Opening, creating or removing a bus or an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name breaks a rule.
    #[error("{name:?} is no valid name: {rule}")]
    InvalidName { name: String, rule: &'static str },
    /// An option is outside its documented bounds.
    #[error("{option} = {given} is not possible: {rule}")]
    InvalidOption {
        option: &'static str,
        given: String,
        rule: String,
    },
    /// There is none of that name.
    #[error("{path} does not exist; create it first, or use open_or_create")]
    NotFound { path: PathBuf },
    /// The journal of a durable queue can't be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is one of that name.
    #[error("{path} exists already; open it, or remove it first")]
    AlreadyExists { path: PathBuf },
    /// It exists with another definition.
    #[error(
        "{path} exists with {option} = {existing}, not {wanted}; open it without that option, or remove it first"
    )]
    Mismatch {
        path: PathBuf,
        option: &'static str,
        existing: String,
        wanted: String,
    },
    /// Not a file of this kind.
    #[error(
        "{path} is not a ringway {expected} file (its first bytes are {found:02x?}); choose another name or root, or move the file away"
    )]
    Foreign {
        path: PathBuf,
        expected: &'static str,
        found: [u8; 8],
    },
    /// Written by an incompatible version.
    #[error(
        "{path} has format {found_major}.{found_minor}, this build reads {supported_major}.0 to {supported_major}.{supported_minor}; use a matching version, or remove the bus and create it anew"
    )]
    WrongFormat {
        path: PathBuf,
        found_major: u16,
        found_minor: u16,
        supported_major: u16,
        supported_minor: u16,
    },
    /// Needs a feature this build lacks.
    #[error(
        "{path} needs features {unknown:#x} that this build does not know; use a newer version"
    )]
    UnknownFeatures { path: PathBuf, unknown: u64 },
    /// Shorter (or longer) than its header says.
    #[error(
        "{path} is {actual} bytes long, its header says {expected}: it was truncated or overwritten; remove it and create it anew"
    )]
    WrongLength {
        path: PathBuf,
        expected: u64,
        actual: u64,
    },
    /// The header contradicts itself.
    #[error("{path} is damaged: {what}; remove it and create it anew")]
    Scribbled { path: PathBuf, what: &'static str },
    /// The object belongs to another bus.
    #[error("{path} belongs to another bus (a copied file?); remove it and create it anew")]
    OtherBus { path: PathBuf },
    /// Written before the last boot: its owners are dead and its contents are not trusted.
    #[error("{path} is from before the last boot; open_or_create starts it empty, or remove it")]
    OtherBoot { path: PathBuf },
    /// It is being removed.
    #[error("{path} has been removed")]
    Removed { path: PathBuf },
    /// It is in use.
    #[error(
        "{path} is in use by {participants} live participants; stop them, or force the removal"
    )]
    InUse { path: PathBuf, participants: usize },
    /// The file system is full.
    #[error(
        "no space for {path}: {needed} bytes needed, {available} available; free some, choose smaller sizes, or another root"
    )]
    NoSpace {
        path: PathBuf,
        needed: u64,
        available: u64,
    },
    /// Not allowed.
    #[error(
        "no permission for {path} ({source}); ask its owner for group or mode, see Builder::mode and Builder::group"
    )]
    Permission { path: PathBuf, source: io::Error },
    /// Every registry entry is taken.
    #[error(
        "all {limit} participant entries are taken; close attachments, or run `ringway doctor`"
    )]
    TooManyParticipants { limit: usize },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The file system lacks what the bus stands on.
    #[error("{path}: {what}; choose a root on tmpfs, ext4, xfs or btrfs")]
    Unsupported { path: PathBuf, what: &'static str },
    /// Anything else the system said.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::AlreadyExists => Self::AlreadyExists { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path, source },
            _ => Self::Io { path, source },
        }
    }

    /// Whether the file is as good as any, for a build that knows its format.
    pub(crate) fn is_of_another_build(&self) -> bool {
        matches!(
            self,
            Self::WrongFormat { .. } | Self::UnknownFeatures { .. }
        )
    }
}

/// Becoming the producer or a reader of a channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The channel has an exclusive producer, and it lives (or is merely stopped).
    #[error("{by} is the exclusive producer and alive; it has to close or die first")]
    Busy { by: ParticipantId },
    /// Every reader entry is taken.
    #[error("all {limit} reader entries are taken; create the channel with more readers")]
    TooManyReaders { limit: u32 },
    /// A reliable reader on a channel that drops its oldest records.
    #[error(
        "this channel drops its oldest records, so a reader can't be reliable; join as a lossy reader, or create the channel with Overflow::Refuse"
    )]
    NotReliable,
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The channel has been removed.
    #[error("the channel has been removed; open or create it again")]
    Removed,
    /// The file was unlinked or replaced under us.
    #[error("the channel's file was deleted or replaced outside ringway; open the channel again")]
    Unlinked,
}

/// Sending. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring has come round to a record that somebody still needs.
    #[error("the channel is full{}; try again when it has read on", held(.by))]
    Full { by: Option<ParticipantId> },
    /// As `Full`, and the one that holds it has not moved for the stall time-out.
    #[error(
        "the channel is full and {by} has not moved; it may be stopped: continue it, kill it, or let it join as a lossy reader"
    )]
    Stalled { by: ParticipantId },
    /// Larger than a payload may be.
    #[error(
        "{len} bytes are more than the {max} a payload may have; create the bus with a larger pool"
    )]
    TooLarge { len: usize, max: usize },
    /// The payload pool is used up.
    #[error(
        "the payload pool is used up: {needed} bytes needed, {used} of {quota} in use; let readers go on, drop loans, or create the bus with a larger pool"
    )]
    PoolExhausted { needed: u64, used: u64, quota: u64 },
    /// The file system is full.
    #[error(
        "no space for another pool segment: {needed} bytes needed, {available} available; free some, and send again"
    )]
    NoSpace { needed: u64, available: u64 },
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The channel has been removed.
    #[error("the channel has been removed; open or create it again")]
    Removed,
    /// The file was unlinked or replaced under us.
    #[error("the channel's file was deleted or replaced outside ringway; open the channel again")]
    Unlinked,
    /// The participant entry behind this handle is no longer ours, or the place of the exclusive producer: it
    /// was taken for dead, as who closes the descriptor of its lock.
    #[error(
        "this handle is stale: it was taken for dead, and its place given to somebody else; open the bus again"
    )]
    Stale,
    /// A shared word is none that the protocol allows.
    #[error(
        "the channel is corrupt near position {position}: another process wrote over it; remove it and create it anew"
    )]
    Corrupt { position: u64 },
    /// The pool's files failed a check or the system refused.
    #[error("the payload pool can't be used: {0}")]
    Pool(String),
}

fn held(by: &Option<ParticipantId>) -> String {
    by.map(|by| format!(", held by {by}")).unwrap_or_default()
}

/// Reading.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Records `from..to` were dropped before this reader came to them; it goes on at `to`.
    #[error("missed positions {from} to {}: the channel dropped them; reading goes on at {to}", .to - 1)]
    Lagged { from: u64, to: u64 },
    /// A listener of a topic that was to be evicted when it falls behind has: what is behind `from` it does
    /// not hear any more.
    #[error(
        "fell behind at position {from} (the oldest is {to}) and was evicted; listen again, or choose another policy"
    )]
    Evicted { from: u64, to: u64 },
    /// The record does not fit; it stays next.
    #[error("the record has {needed} bytes, the buffer {given}; call again with a larger one")]
    BufferTooSmall { needed: usize, given: usize },
    /// Every pin of this reader is in use.
    #[error("{limit} views are open; drop one first")]
    TooManyViews { limit: usize },
    /// The payload's segment can't be opened now; the record stays next.
    #[error("the payload can't be opened now ({0}); free descriptors or memory and read again")]
    Pool(String),
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The channel has been removed, and everything in it was read.
    #[error("the channel has been removed; open or create it again")]
    Removed,
    /// The file was unlinked or replaced under us.
    #[error("the channel's file was deleted or replaced outside ringway; open the channel again")]
    Unlinked,
    /// The reader entry behind this handle is no longer ours.
    #[error("this handle is stale: its reader entry was given to somebody else; join again")]
    Stale,
    /// Shared words contradict the protocol; the reader has moved past them.
    #[error("the channel is corrupt near position {position}: another process wrote over it")]
    Corrupt { position: u64 },
    /// An older record of a stream can't be read from its journal now; it stays next.
    #[error("an older record can't be read from the journal: {0}")]
    Journal(String),
}

/// Waiting for something to read or to receive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The handle belongs to the parent of this forked process.
    #[error("this handle was made before a fork; open the bus again in the child")]
    Forked,
    /// The channel or queue has been removed.
    #[error("the channel or queue has been removed; open or create it again")]
    Removed,
    /// The file was unlinked or replaced under us.
    #[error("the file was deleted or replaced outside ringway; open the channel or queue again")]
    Unlinked,
    /// The entry behind this handle is no longer ours.
    #[error("this handle is stale: its entry was given to somebody else; join or open again")]
    Stale,
}

macro_rules! from_wait_error {
    ($($error:ident)*) => {$(
        impl From<WaitError> for $error {
            fn from(error: WaitError) -> Self {
                match error {
                    WaitError::Forked => Self::Forked,
                    WaitError::Removed => Self::Removed,
                    WaitError::Unlinked => Self::Unlinked,
                    WaitError::Stale => Self::Stale,
                }
            }
        }
    )*};
}

from_wait_error!(ReadError ReceiveError);
