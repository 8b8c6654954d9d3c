//! L4: what every object of a bus has in common, whatever view of a ring it is: where its file
//! lies, how it is made and opened ([`file`]), what its handles need of the attachment, the loans of
//! the payload pool that they send, and how they wait ([`wait`]) or have somebody told ([`poll`]).

pub mod file;
pub mod loan;
pub mod poll;
pub mod wait;

use crate::ring::Liveness;
use crate::sys::file::{self as file_system, Access};
use crate::sys::mapping::MapOptions;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the objects of a bus lie and what every file of it has in common.
#[derive(Clone, Debug)]
pub struct Site {
    pub directory: PathBuf,
    pub access: Access,
    pub bus_id: u64,
    pub boot_id: [u8; 16],
    /// Names of temporary files begin with this; it names the creator.
    pub temporary_prefix: String,
    pub pre_touch: bool,
    /// Slots and the words beside them are only read.
    pub read_only: bool,
    /// Nothing is changed: files are opened to be read, mapped privately, and none is made or removed.
    pub observed: bool,
    /// Where the journals of its objects lie; `None` where nobody could say.
    pub journals: Option<PathBuf>,
    /// Who wants to know how far the opening of a durable queue is.
    pub on_recovery: Option<RecoveryWatch>,
}

/// How far it is when a durable queue is made again from its journal; see
/// [`Builder::on_recovery`](crate::Builder::on_recovery).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryProgress {
    /// The name of the queue.
    pub queue: String,
    /// Bytes of its journal that were read.
    pub read_bytes: u64,
    /// Bytes that are to be read.
    pub total_bytes: u64,
    /// Another process does it, and this one waits for it.
    pub is_elsewhere: bool,
}

/// Told of it.
#[derive(Clone)]
pub struct RecoveryWatch(Arc<dyn Fn(&RecoveryProgress) + Send + Sync>);

impl RecoveryWatch {
    /// Tells `watch`.
    pub fn new(watch: impl Fn(&RecoveryProgress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(watch))
    }

    /// Tells it.
    pub fn tell(&self, progress: &RecoveryProgress) {
        (self.0)(progress);
    }
}

impl core::fmt::Debug for RecoveryWatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RecoveryWatch")
    }
}

impl Site {
    /// Opens a file of the bus.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self.observed {
            true => file_system::open_to_read(path),
            false => file_system::open(path),
        }
    }

    /// How a file of the bus is mapped that has no slots.
    pub fn map_options(&self) -> MapOptions {
        MapOptions {
            private: self.observed,
            ..MapOptions::default()
        }
    }
}

/// What an object needs of the attachment it was opened through.
pub trait Host: Liveness {
    /// The registry entry is still ours.
    fn is_current(&self) -> bool;
    /// Called by whoever waits, at most every few milliseconds: time for bounded duties.
    fn tick(&self);
    /// Sweeps what the dead left, now: called before a shortage is reported.
    fn reap_now(&self);
}
