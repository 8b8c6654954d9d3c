//! L3: the history of one object on a disk. It knows no ring, no queue and no bus: entries are a
//! kind, flags, a position and bytes, and what they mean is the user's.
//!
//! A journal is a directory of segments (`segment.rs`). One [`Writer`] at a time leads it, under an
//! epoch of its own; it fills staging buffers and writes each as one block (`block.rs`), several at a
//! time, through a [`Storage`]. A block is never rewritten, and a file whose write failed is never
//! written again. [`Recovery`] reads what all writers left, in order, each position as its highest epoch
//! has it.
//!
//! The states of a writer: *leading* → *frozen* by the first error, for good. What a crash leaves, at any
//! point: temporary files (removed by the next writer), spares, a segment without blocks, and behind the
//! last durable block of an epoch blocks that were never acknowledged, whole or torn. Recovery ends
//! an epoch before the first block that is not whole: torn if nothing says that it was durable, else
//! damage, which is reported and never removed.

mod ahead;
mod block;
mod disk;
mod follow;
mod options;
mod recovery;
mod segment;
mod storage;
mod watch;
mod writer;

pub use disk::{BACKEND_VARIABLE, Backend, Disk, DiskFile, DiskLane};
pub use follow::{Followed, Follower};
pub use options::Options;
pub use recovery::{Damage, Entry, Reading, Recovered, Recovery, SegmentInfo};
pub use segment::{SegmentId, definition, exists, remove, remove_oldest};
pub use storage::{Done, Lane, SegmentFile, Storage, Write};
#[doc(hidden)]
pub use watch::{Call, Watch, Watching, watch};
pub use writer::{Cursor, Pushed, Watermark, Writer};

/// Errors of this floor.
mod error {
    pub use crate::error::JournalError;
}

/// Bytes of a definition.
pub use crate::layout::journal::DEFINITION_BYTES;
/// Kinds from here on are state: they have no place in the order of positions.
pub use crate::layout::journal::SIDE;

use std::io;

/// A failure at a name, as the error of this floor.
fn failed<S: Storage>(
    storage: &S,
    name: &str,
    what: &'static str,
    source: io::Error,
) -> JournalError {
    const ENOSPC: i32 = 28;
    const EDQUOT: i32 = 122;
    let path = storage.path(name);
    match source.raw_os_error() {
        Some(ENOSPC | EDQUOT) => JournalError::NoSpace {
            path,
            needed: crate::layout::PAGE as u64,
            available: storage.available_bytes(),
        },
        _ => JournalError::Io { path, what, source },
    }
}

use error::JournalError;
