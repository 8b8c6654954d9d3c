//! The one table of status codes, and which error of the core is which.
//!
//! A number is never given out twice and never changes. The errors of the core are `non_exhaustive`, so
//! the compiler does not say when one is missing here: `tests/ffi/codes.rs` does, and compares the table
//! with the header.

use ringway::{
    AttributeError, CheckpointError, ConsumerError, FlushError, GroupError, JoinError, MoveError,
    NumberError, OpenError, PublishError, PutError, QueuePolicyError, QueueSendError, ReadError,
    ReceiptError, ReceiveError, ReshardError, SendError, SetError, SettleError, StreamReadError,
    SubscribeError, WaitError,
};

/// What went wrong. What is to be said about it is kept for `ringway_last_error` at once: so an outcome
/// fits into registers, and the calls that go well pay nothing for it.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub code: Code,
}

impl Failure {
    /// An outcome of every day, about which nothing is kept.
    #[inline(always)]
    pub fn not_now(code: Code) -> Self {
        Self { code }
    }

    #[cold]
    #[inline(never)]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        crate::fence::remember(text.into());
        Self { code }
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $c_name:literal, $text:literal;)*) => {
        /// A status as the header numbers it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        #[allow(missing_docs)]
        pub enum Code {
            $($name = $number,)*
        }

        /// Every status: its code, its name in C, and both it and what it means with a final 0.
        pub const CODES: &[(Code, &str, &str)] = &[
            $((Code::$name, $c_name, concat!($c_name, ": ", $text, "\0")),)*
        ];
    };
}

codes! {
    Ok = 0, "RINGWAY_OK", "done";
    Full = 1, "RINGWAY_FULL", "the ring is full";
    Empty = 2, "RINGWAY_EMPTY", "nothing is there";
    Timeout = 3, "RINGWAY_TIMEOUT", "nothing came in time";
    Lagged = 4, "RINGWAY_LAGGED", "records were dropped before they were read";
    Stalled = 5, "RINGWAY_STALLED", "full, and whoever holds the channel does not move";
    OverLimit = 6, "RINGWAY_OVER_LIMIT", "as many messages as the queue allows";
    PoolExhausted = 7, "RINGWAY_POOL_EXHAUSTED", "the payload pool is used up";
    DedupFull = 8, "RINGWAY_DEDUP_FULL", "no room for another deduplication id";
    Throttled = 9, "RINGWAY_THROTTLED", "as much as the shard allows in a second";
    End = 10, "RINGWAY_END", "the shard is read to its end";
    Argument = -1, "RINGWAY_E_ARGUMENT", "an argument is not possible";
    Handle = -2, "RINGWAY_E_HANDLE", "no handle, a closed one, or one of another kind";
    StructSize = -3, "RINGWAY_E_STRUCT_SIZE", "a struct of unknown size";
    BusyHandle = -4, "RINGWAY_E_BUSY_HANDLE", "the handle is being used, or has an open view";
    Panic = -5, "RINGWAY_E_PANIC", "a bug in ringway";
    Name = -6, "RINGWAY_E_NAME", "no valid name";
    Option = -7, "RINGWAY_E_OPTION", "an option is out of its bounds";
    BufferTooSmall = -8, "RINGWAY_E_BUFFER_TOO_SMALL", "the buffer is too small";
    TooLarge = -9, "RINGWAY_E_TOO_LARGE", "the body is too large";
    Id = -10, "RINGWAY_E_ID", "no group, deduplication id, trace header, subject or key";
    Attribute = -11, "RINGWAY_E_ATTRIBUTE", "the attribute is not possible";
    Receipt = -12, "RINGWAY_E_RECEIPT", "no receipt";
    NotFound = -20, "RINGWAY_E_NOT_FOUND", "there is none of that name";
    Exists = -21, "RINGWAY_E_EXISTS", "there is one of that name";
    Mismatch = -22, "RINGWAY_E_MISMATCH", "it exists with another definition";
    Foreign = -23, "RINGWAY_E_FOREIGN", "not a file of this kind";
    Format = -24, "RINGWAY_E_FORMAT", "written by an incompatible version";
    Damaged = -25, "RINGWAY_E_DAMAGED", "damaged";
    OtherBus = -26, "RINGWAY_E_OTHER_BUS", "a file of another bus";
    OtherBoot = -27, "RINGWAY_E_OTHER_BOOT", "from before the last boot";
    InUse = -28, "RINGWAY_E_IN_USE", "in use by others";
    NoSpace = -29, "RINGWAY_E_NO_SPACE", "the file system is full";
    Permission = -30, "RINGWAY_E_PERMISSION", "no permission";
    TooMany = -31, "RINGWAY_E_TOO_MANY", "as many as there may be";
    Unsupported = -32, "RINGWAY_E_UNSUPPORTED", "the file system can't do it";
    Io = -33, "RINGWAY_E_IO", "the system refused";
    Busy = -34, "RINGWAY_E_BUSY", "somebody else does it";
    NotReliable = -35, "RINGWAY_E_NOT_RELIABLE", "the channel drops its oldest records";
    Forked = -40, "RINGWAY_E_FORKED", "a handle of the parent process";
    Removed = -41, "RINGWAY_E_REMOVED", "it has been removed";
    Unlinked = -42, "RINGWAY_E_UNLINKED", "its file was deleted or replaced";
    Stale = -43, "RINGWAY_E_STALE", "taken for dead";
    Pool = -44, "RINGWAY_E_POOL", "the payload pool can't be used";
    Growth = -45, "RINGWAY_E_GROWTH", "the queue is full and can't grow";
    MissingGroup = -46, "RINGWAY_E_MISSING_GROUP", "a FIFO queue needs a group";
    MissingDedupId = -47, "RINGWAY_E_MISSING_DEDUP_ID", "the queue needs a deduplication id";
    NoDedup = -48, "RINGWAY_E_NO_DEDUP", "the queue does not deduplicate";
    DelayInFifo = -49, "RINGWAY_E_DELAY_IN_FIFO", "no delay of its own in a FIFO queue";
    Redrive = -50, "RINGWAY_E_REDRIVE", "that queue can't take the messages of this one";
    NotOnDisk = -51, "RINGWAY_E_NOT_ON_DISK", "the journal can't be written, nothing was sent";
    DurabilityUnknown = -52, "RINGWAY_E_DURABILITY_UNKNOWN", "done, and on disk or not";
    Policy = -53, "RINGWAY_E_POLICY", "no filter policy";
    StaleReceipt = -60, "RINGWAY_E_STALE_RECEIPT", "received again since";
    NotInFlight = -61, "RINGWAY_E_NOT_IN_FLIGHT", "visible again";
    Gone = -62, "RINGWAY_E_GONE", "the message is gone";
    OtherQueue = -63, "RINGWAY_E_OTHER_QUEUE", "a receipt of another queue";
    Fenced = -64, "RINGWAY_E_FENCED", "the shard passed on to another worker";
    NoLease = -65, "RINGWAY_E_NO_LEASE", "this worker does not read that shard";
    OutOfRange = -66, "RINGWAY_E_OUT_OF_RANGE", "not between the checkpoint and what was read";
    Other = -99, "RINGWAY_E_OTHER", "an error newer than this table";
}

/// Which code an error has.
trait Coded {
    fn code(&self) -> Code;
}

/// Failures of one kind of error: which variant is which code, and which is what lies in it. What is
/// polled keeps no text, unless there is something in it that the code does not say.
macro_rules! failures {
    ($error:ident: $($variant:ident => $code:ident,)* $(; inside: $($outer:ident => $field:tt,)*)?) => {
        impl Coded for $error {
            fn code(&self) -> Code {
                match self {
                    $(Self::$variant { .. } => Code::$code,)*
                    $($(Self::$outer { $field: inner, .. } => inner.code(),)*)?
                    #[allow(unreachable_patterns)]
                    _ => Code::Other,
                }
            }
        }

        impl From<$error> for Failure {
            #[cold]
            fn from(error: $error) -> Self {
                match error.code() {
                    code @ Code::Full => Self::not_now(code),
                    code => Self::new(code, error.to_string()),
                }
            }
        }
    };
}

failures! { OpenError:
    InvalidName => Name,
    InvalidOption => Option,
    NotFound => NotFound,
    Journal => Io,
    AlreadyExists => Exists,
    Mismatch => Mismatch,
    Foreign => Foreign,
    WrongFormat => Format,
    UnknownFeatures => Format,
    WrongLength => Damaged,
    Scribbled => Damaged,
    OtherBus => OtherBus,
    OtherBoot => OtherBoot,
    Removed => Removed,
    InUse => InUse,
    NoSpace => NoSpace,
    Permission => Permission,
    TooManyParticipants => TooMany,
    Forked => Forked,
    Unsupported => Unsupported,
    Io => Io,
}

failures! { JoinError:
    Busy => Busy,
    TooManyReaders => TooMany,
    NotReliable => NotReliable,
    Forked => Forked,
    Removed => Removed,
    Unlinked => Unlinked,
}

failures! { SendError:
    Full => Full,
    Stalled => Stalled,
    TooLarge => TooLarge,
    PoolExhausted => PoolExhausted,
    NoSpace => NoSpace,
    Forked => Forked,
    Removed => Removed,
    Unlinked => Unlinked,
    Stale => Stale,
    Corrupt => Damaged,
    Pool => Pool,
}

failures! { ReadError:
    Evicted => Stale,
    Lagged => Lagged,
    BufferTooSmall => BufferTooSmall,
    TooManyViews => TooMany,
    Journal => Io,
    Pool => Pool,
    Forked => Forked,
    Removed => Removed,
    Unlinked => Unlinked,
    Stale => Stale,
    Corrupt => Damaged,
}

failures! { WaitError:
    Forked => Forked,
    Removed => Removed,
    Unlinked => Unlinked,
    Stale => Stale,
}

failures! { QueueSendError:
    Full => Full,
    MessageTooLarge => TooLarge,
    OverQuota => OverLimit,
    OverDiskQuota => OverLimit,
    InvalidDelay => Option,
    InvalidId => Id,
    InvalidTraceHeader => Id,
    MissingGroup => MissingGroup,
    MissingDedupId => MissingDedupId,
    NoDedup => NoDedup,
    DedupFull => DedupFull,
    DelayInFifo => DelayInFifo,
    PoolExhausted => PoolExhausted,
    NoSpace => NoSpace,
    Growth => Growth,
    NotOnDisk => NotOnDisk,
    DurabilityUnknown => DurabilityUnknown,
    Forked => Forked,
    Removed => Removed,
    Unlinked => Unlinked,
    Stale => Stale,
    Corrupt => Damaged,
    Pool => Pool,
}

failures! { AttributeError:
    TooMany => Attribute,
    TooLarge => Attribute,
    InvalidName => Attribute,
    DuplicateName => Attribute,
    EmptyValue => Attribute,
    InvalidText => Attribute,
    InvalidNumber => Attribute,
    InvalidLabel => Attribute,
}

failures! { ReceiveError:
    BufferTooSmall => BufferTooSmall,
    OverLimit => OverLimit,
    InvalidVisibility => Option,
    TooManyViews => TooMany,
    Pool => Pool,
    Forked => Forked,
    Removed => Removed,
    Unlinked => Unlinked,
    Stale => Stale,
}

failures! { SettleError:
    StaleReceipt => StaleReceipt,
    NotInFlight => NotInFlight,
    Gone => Gone,
    OtherQueue => OtherQueue,
    InvalidVisibility => Option,
    InvalidDelay => Option,
    DurabilityUnknown => DurabilityUnknown,
    PurgeUnknown => DurabilityUnknown,
    Forked => Forked,
}

failures! { FlushError:
    NoDisk => Unsupported,
    NotOnDisk => NotOnDisk,
    Forked => Forked,
    Removed => Removed,
}

failures! { SetError:
    InvalidSetting => Option,
    OwnTarget => Redrive,
    NoSuchTarget => Redrive,
    OtherKind => Redrive,
    OnDisk => Redrive,
    TargetRefuses => Redrive,
    TooManyTargets => TooMany,
    Open => Redrive,
    Forked => Forked,
    Removed => Removed,
}

failures! { PutError:
    NotOnDisk => NotOnDisk,
    DurabilityUnknown => DurabilityUnknown,
    Full => Full,
    Throttled => Throttled,
    InvalidPartitionKey => Id,
    TooLarge => TooLarge,
    Held => Busy,
    Busy => Busy,
    Forked => Forked,
    Removed => Removed,
    ; inside:
    Open => 0,
    Send => source,
}

failures! { StreamReadError:
    Lagged => Lagged,
    Throttled => Throttled,
    NoShard => NotFound,
    NeedsShard => Option,
    OtherShard => Option,
    Forked => Forked,
    Removed => Removed,
    NotMember => Stale,
    ; inside:
    Open => 0,
    Join => source,
    Read => source,
}

failures! { GroupError:
    NoGroup => NotFound,
    InvalidName => Name,
    TooManyGroups => TooMany,
    TooManyWorkers => TooMany,
    Busy => Busy,
    ; inside:
    Open => 0,
}

failures! { ReshardError:
    NoShard => NotFound,
    NotOpen => Option,
    NotAdjacent => Option,
    InvalidSplit => Option,
    InvalidCount => Option,
    NoNumbers => TooMany,
    Exclusive => Option,
    Busy => Busy,
    ; inside:
    Open => 0,
}

failures! { ConsumerError:
    NoConsumer => NotFound,
    AlreadyRegistered => Exists,
    InvalidName => Name,
    TooManyConsumers => TooMany,
    NoPlace => TooMany,
    DropsOldest => NotReliable,
    Busy => Busy,
    Displaced => Stale,
    Evicted => Stale,
    Busied => Busy,
    ; inside:
    Read => 0,
    Open => 0,
}

failures! { CheckpointError:
    DurabilityUnknown => DurabilityUnknown,
    Fenced => Fenced,
    NoLease => NoLease,
    OutOfRange => OutOfRange,
    Forked => Forked,
}

failures! { MoveError:
    Busy => Busy,
    OwnDestination => Redrive,
    NoSuchDestination => NotFound,
    OtherKind => Redrive,
    OnDisk => Redrive,
    TooManyDestinations => TooMany,
    DestinationGone => NotFound,
    Lost => Busy,
    Forked => Forked,
    Removed => Removed,
    ; inside:
    Open => 0,
}

failures! { PublishError:
    InvalidStructure => Option,
    HeldUp => Stalled,
    Archive => Io,
    Policy => Policy,
    MissingGroup => MissingGroup,
    InvalidSubject => Id,
    InvalidId => Id,
    Removed => Removed,
    Forked => Forked,
    ; inside:
    Transit => 0,
    Open => 0,
    Join => 0,
}

failures! { QueuePolicyError:
    Invalid => Policy,
    ; inside:
    Open => 0,
}

failures! { SubscribeError:
    DeliveryPolicy => Policy,
    Replay => Option,
    TooLarge => TooLarge,
    Policy => Policy,
    NotFound => NotFound,
    Corrupt => Damaged,
    Removed => Removed,
    ; inside:
    Open => 0,
}

impl From<NumberError> for Failure {
    #[cold]
    fn from(error: NumberError) -> Self {
        Self::new(Code::Option, error.to_string())
    }
}

impl From<ReceiptError> for Failure {
    fn from(error: ReceiptError) -> Self {
        Self::new(Code::Receipt, error.to_string())
    }
}
