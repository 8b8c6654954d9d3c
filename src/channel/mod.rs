//! L5: a channel, that is one ring with the bus's payload pool behind it, as an object with a
//! name: every reader sees every record, in one order.
//!
//! Queues, streams and topics are other views of the same ring. Here live the handles of the
//! plain view: [`Producer`], [`Reader`], [`View`]. The floor below moves words; this
//! floor checks forks and removals, talks to the pool, waits, and turns outcomes into errors.

mod definition;
mod file;
mod join;
mod producer;
mod reader;
mod view;
mod wait;

pub(crate) use definition::DEFAULT_STALL_TIMEOUT;
pub use definition::Definition;
pub(crate) use file::{
    RingFile, create as create_ring, create_filled as create_filled_ring,
    create_standing as create_standing_ring, open as open_ring, open_removed as open_removed_ring,
};
pub use join::ReaderBuilder;
pub use producer::Producer;
pub use reader::{Reader, Record};
pub use view::{PinnedView, View};

use crate::error::JoinError;
use crate::layout::REMOVED;
use crate::layout::ring::READER_STANDING;
use crate::object::Host;
use crate::pool::segment::Segments;
use crate::ring::{Counter, Producers, SlotRing};
use crate::sync::Ordering;
use crate::sys::file as files;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A channel of a bus, open in this process.
///
/// Cheap to clone; thread-safe. Closing is dropping the last handle made from it. After a fork
/// every call in the child returns `Forked`: open the bus again there.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// let ticks = bus.channel("ticks").open_or_create()?;
/// let mut reader = ticks.reader().join()?;
/// let mut producer = ticks.producer()?;
/// producer.try_send(b"hello")?;
/// let mut buffer = [0; 64];
/// let record = reader.try_read(&mut buffer)?.expect("one record");
/// assert_eq!(&buffer[..record.len], b"hello");
/// # drop((reader, producer, ticks, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub ring: SlotRing,
    pub definition: Definition,
    pub object_id: u64,
    pub segments: Arc<Segments>,
    pub path: PathBuf,
    pub file: File,
    pub mapping: Arc<crate::sys::mapping::Mapping>,
    // Last: the attachment outlives everything that was made through it.
    pub host: Arc<dyn Host>,
}

/// What anyone may know about a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// The position the next record gets, as seen now.
    pub tail: u64,
    /// No reader can start below this position.
    pub trim: u64,
    /// Every slot of a position below this is free.
    pub reclaim: u64,
    /// Reader entries in use.
    pub readers: Vec<ReaderStats>,
    /// The exclusive producer, if there is one.
    pub producer: Option<crate::ParticipantId>,
    /// Claims of live owners that were abandoned.
    pub abandoned: u64,
    /// Claims of dead owners that were voided.
    pub voided: u64,
    /// Records renewed in place because a view held them.
    pub renewed: u64,
    /// Slots found with an impossible header.
    pub damaged: u64,
    /// Records overwritten by a channel that drops its oldest.
    pub dropped: u64,
}

/// One reader entry in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderStats {
    /// Whose it is.
    pub participant: crate::ParticipantId,
    /// Whether it holds the ring back.
    pub reliable: bool,
    /// Everything below is read.
    pub cursor: u64,
    /// Records it was told it missed.
    pub lost: u64,
}

impl Channel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.definition.name
    }

    /// How it was created.
    pub fn definition(&self) -> &Definition {
        &self.inner.definition
    }

    /// Becomes a producer. Does not block; makes no system call where nobody died.
    ///
    /// # Errors
    /// [`JoinError::Busy`] when the channel is exclusive and its producer lives.
    pub fn producer(&self) -> Result<Producer, JoinError> {
        self.inner.check_join()?;
        Producer::new(Arc::clone(&self.inner))
    }

    /// Begins to become a reader.
    pub fn reader(&self) -> ReaderBuilder {
        ReaderBuilder::new(Arc::clone(&self.inner))
    }

    /// A snapshot of positions, readers and counters; each value by itself is current. In a forked
    /// child all zero.
    pub fn stats(&self) -> ChannelStats {
        if self.inner.ring.memory().is_forked() {
            return ChannelStats::default();
        }
        self.inner.stats()
    }

    /// Wakes everybody who waits on the channel. For tests and for operators; nobody needs it.
    pub fn wake_all(&self) {
        if self.inner.ring.memory().is_forked() {
            return;
        }
        self.inner.ring.wake_all();
    }
}

impl Inner {
    /// Whether the channel was removed through ringway.
    #[inline(always)]
    pub fn is_removed(&self) -> bool {
        crate::shm::words::word32(&self.mapping, crate::layout::READY_OFFSET)
            .load(Ordering::Relaxed)
            == REMOVED
    }

    pub fn is_unlinked(&self) -> bool {
        !files::is_at(&self.file, &self.path)
    }

    pub fn check_join(&self) -> Result<(), JoinError> {
        if self.ring.memory().is_forked() {
            return Err(JoinError::Forked);
        }
        if self.is_removed() {
            return Err(JoinError::Removed);
        }
        if self.is_unlinked() {
            return Err(JoinError::Unlinked);
        }
        Ok(())
    }

    fn counter(&self, counter: Counter) -> u64 {
        self.ring
            .memory()
            .counter(counter.offset())
            .load(Ordering::Relaxed)
    }

    pub fn stats(&self) -> ChannelStats {
        let memory = self.ring.memory();
        let readers = (0..self.ring.readers_in_use()).filter_map(|index| {
            let entry = memory.reader(index);
            let word = crate::layout::word::Role(entry.word.load(Ordering::Acquire));
            let taken = word.owner() != 0 && word.state() != READER_STANDING;
            taken.then(|| ReaderStats {
                participant: crate::ParticipantId(word.owner()),
                reliable: word.state() == crate::layout::ring::READER_RELIABLE,
                cursor: entry.cursor.load(Ordering::Relaxed),
                lost: entry.lost.load(Ordering::Relaxed),
            })
        });
        let producer = self.ring.producer_holder();
        ChannelStats {
            tail: self.ring.tail_now(),
            trim: memory.trim().load(Ordering::Relaxed),
            reclaim: memory.reclaim().load(Ordering::Relaxed),
            readers: readers.collect(),
            producer: (self.ring.producers() == Producers::Exclusive && producer != 0)
                .then_some(crate::ParticipantId(producer)),
            abandoned: self.counter(Counter::Abandoned),
            voided: self.counter(Counter::Voided),
            renewed: self.counter(Counter::Renewed),
            damaged: self.counter(Counter::Damaged),
            dropped: self.counter(Counter::Dropped),
        }
    }
}
