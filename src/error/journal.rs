//! Errors of journals: writing, recovering, looking after segments.

use std::io;
use std::path::PathBuf;

/// A journal can't be written or read.
///
/// A writer that has returned one while it wrote is frozen: it never tries the same file again, since
/// what a disk did with a failed write can't be told. Whoever leads next takes over with a new
/// epoch in a new segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system, or the quota, is full.
    #[error(
        "no space for {path}: {needed} bytes needed, {available} available; free some, and send again"
    )]
    NoSpace {
        path: PathBuf,
        needed: u64,
        available: u64,
    },
    /// The disk, or the system in front of it, refused.
    #[error(
        "{path}: {what} failed ({source}); look at the kernel's log for the disk. Nothing acknowledged is lost; take over with a new epoch to go on"
    )]
    Io {
        path: PathBuf,
        what: &'static str,
        source: io::Error,
    },
    /// The disk took less than it was given.
    #[error(
        "{path}: {written} of {wanted} bytes were written at byte {offset}; take over with a new epoch to go on"
    )]
    ShortWrite {
        path: PathBuf,
        offset: u64,
        wanted: usize,
        written: usize,
    },
    /// An earlier write of this writer failed.
    #[error("an earlier write of this journal failed; take over with a new epoch to go on")]
    Frozen,
    /// Bytes that were durable are not what they were.
    #[error(
        "{path} is damaged from byte {from} to byte {to}: {what}; nothing was deleted. Restore the file from a copy, or take what is whole with `ringway journal salvage`"
    )]
    Damaged {
        path: PathBuf,
        from: u64,
        to: u64,
        what: &'static str,
    },
    /// The segment tells of another object.
    #[error(
        "{path} belongs to object {found:#018x}, not {expected:#018x} (a copied file?); move it away"
    )]
    OtherObject {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// Written by an incompatible version.
    #[error(
        "{path} has journal format {found_major}.{found_minor}, this build reads {supported_major}.0 to {supported_major}.{supported_minor}; use a matching version"
    )]
    WrongFormat {
        path: PathBuf,
        found_major: u16,
        found_minor: u16,
        supported_major: u16,
        supported_minor: u16,
    },
    /// The segment needs something this build lacks, such as a key.
    #[error("{path} needs {what}, which this build does not have; use a newer version")]
    Unsupported { path: PathBuf, what: &'static str },
    /// There is no journal.
    #[error("{path} holds no journal")]
    NotFound { path: PathBuf },
    /// Somebody else writes under this epoch.
    #[error("{path} exists already: epoch {epoch} is somebody else's; take over with a higher one")]
    EpochTaken { path: PathBuf, epoch: u64 },
    /// Positions come one after the other.
    #[error("position {given} was given where {expected} comes next; say what is skipped as a gap")]
    OutOfOrder { expected: u64, given: u64 },
    /// A size outside its bounds.
    #[error("{option} = {given} is not possible: {rule}")]
    InvalidOption {
        option: &'static str,
        given: u64,
        rule: &'static str,
    },
}
