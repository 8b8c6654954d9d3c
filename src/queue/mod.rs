//! L5: a queue, that is one ring with the bus's payload pool behind it, whose messages are each
//! consumed once: the SQS model.
//!
//! One verb a file, in the order of a message's life: [`send`], [`receive`], [`settle`]. Most messages take the
//! short ways of [`plain`] and [`run`]; the others are [appended](append), for which there may have to be made
//! [room], and [taken](take). What travels beside a body is made in [`outgoing`] and seen in [`incoming`]. The
//! floor below moves words ([`crate::ring::delivery`]); this floor checks forks and removals, reads the
//! clock, talks to the pool, waits, and turns outcomes into errors.
//!
//! A queue is standard: at least once, best-effort order; or FIFO: strict order in each message
//! group. It lives in memory and survives the death of every process; one that is durable
//! [writes](persist) a journal beside it, from which it is [made again](recover) behind the death of the
//! machine.

#[cfg(all(test, not(loom)))]
mod aging;
mod append;
mod arrive;
#[cfg(feature = "async")]
mod asynchronous;
mod attempt;
mod attributes;
mod behind;
mod chain;
mod dedup;
mod definition;
mod duties;
#[cfg(feature = "topics")]
mod encoded;
mod envelope;
mod file;
mod further;
mod group;
mod grow;
mod grown;
mod incoming;
mod journals;
#[cfg(feature = "md5")]
mod md5;
mod messages;
mod move_task;
mod moves;
mod number;
mod once;
mod opens;
mod outgoing;
mod parked;
mod payload;
mod persist;
mod persister;
mod plain;
mod pod;
mod quota;
mod rebuild;
mod receipt;
mod receive;
mod recover;
mod redrive;
mod release;
mod rings;
mod room;
mod run;
mod send;
mod settings;
mod settle;
mod spill;
mod stats;
mod take;
mod view;
mod wait;

#[cfg(feature = "async")]
pub use asynchronous::AsyncReceiver;
pub use attributes::{Attribute, AttributeIter, AttributeValue, Attributes, AttributesRef};
pub(crate) use chain::{Chain, Link, further_links, ring_at};
pub use dedup::{DedupScope, Deduplication};
pub use definition::{Durability, QueueDefinition, QueueKind};
#[cfg(feature = "topics")]
pub(crate) use encoded::Encoded;
pub(crate) use file::{
    QueueFile, create as create_queue, open as open_queue, open_removed as open_removed_queue,
};
pub(crate) use grow::Growing;
pub(crate) use grown::{GROWN_PREFIX, chain_of, check_grown, grown_of};
pub use incoming::{Incoming, Message, MessageOrigin};
pub(crate) use journals::{
    check_journal, check_journal_root, has_journal, journals, name_in_journals, owns_journal,
};
#[cfg(feature = "md5")]
pub use md5::Md5Digest;
pub use messages::Messages;
pub use move_task::{MoveOptions, MoveState, MoveStatus, MoveTask};
pub(crate) use moves::{Outcome, Side, settle_move};
pub(crate) use opens::{Holding, Opens};
pub use outgoing::{Outgoing, Sent};
#[cfg(feature = "topics")]
pub(crate) use outgoing::{is_id, is_trace_header};
pub use parked::ParkedMessage;
pub(crate) use persist::Journal;
pub use persister::Persister;
pub use pod::PodError;
pub use receipt::Receipt;
pub use receive::{QueueReceiver, Received};
pub(crate) use recover::{Recovered, recover as recover_queue};
pub use redrive::{Redrive, RedriveAllow};
pub use send::QueueSender;
pub use settings::{QueueSettings, Settings};
pub(crate) use spill::{further_site, remove_spilled, spill_directory};
pub use stats::QueueStats;
pub use view::MessageView;

use crate::error::{JoinError, OpenError, SettleError};
use crate::layout::REMOVED;
use crate::object::{Host, Site};
use crate::pool::segment::Segments;
use crate::ring::delivery::{Clock, Delivery};
use crate::sync::Ordering;
use crate::sys::{clock, file as files};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// A queue of a bus, open in this process.
///
/// Any number of senders and receivers, in any processes; a message goes to one receiver at a time.
/// A receive makes it invisible for the visibility time-out; whoever has the receipt deletes it, or
/// it becomes visible again: when the time-out has passed, when it is given back, or as soon as the
/// process that received it is dead. So it is delivered at least once, and in the order of sends as
/// far as nothing of that happens.
///
/// Cheap to clone; thread-safe. Leases outlive the handle: closing the queue (dropping the last
/// handle of this attachment to it) leaves messages in flight until their time-out. After a fork every call in
/// the child returns `Forked`: open the bus again there.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-queue-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// let orders = bus.queue("orders").open_or_create()?;
/// orders.sender()?.send(b"order 1")?;
///
/// let mut receiver = orders.receiver()?;
/// let mut buffer = [0; 256];
/// let message = receiver.try_receive(&mut buffer)?.expect("one message");
/// assert_eq!(&buffer[..message.len], b"order 1");
/// receiver.delete(&message.receipt)?;
/// # drop((receiver, orders, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    pub(crate) inner: Arc<Inner>,
}

/// The clock of a queue whose epoch this is, in ms of CLOCK_BOOTTIME.
pub(crate) struct Since(pub u64);

impl Clock for Since {
    fn now_ms(&self) -> u64 {
        clock::since(self.0)
    }
}

pub(crate) struct Inner {
    /// Of the first ring; see [`chain`].
    pub delivery: Delivery,
    pub definition: QueueDefinition,
    /// Of the hash of group ids.
    pub group_key: [u8; 16],
    pub dedup_key: [u8; 16],
    pub object_id: u64,
    /// CLOCK_BOOTTIME of the epoch in ms.
    pub epoch_ms: u64,
    /// Unix time of the epoch in ms.
    pub created_ms: u64,
    /// Of the first ring's file.
    pub bytes: u64,
    /// The rings there are.
    pub chain: Chain,
    pub growing: Growing,
    /// Of its further rings.
    pub site: Site,
    pub segments: Arc<Segments>,
    /// Of a queue that is on disk.
    pub journal: Option<Journal>,
    pub path: PathBuf,
    pub file: File,
    pub mapping: Arc<crate::sys::mapping::Mapping>,
    /// The opens of this attachment, and what those of this queue share.
    pub opens: Arc<Opens>,
    pub holding: Arc<Holding>,
    // Last: the attachment outlives everything that was made through it.
    pub host: Arc<dyn Neighbours>,
}

/// What a queue needs of its bus beside what every object needs: the other queues.
pub(crate) trait Neighbours: Host {
    /// The queue of that object id; `None` when there is none, or none any more.
    fn queue_by_id(self: Arc<Self>, id: u64) -> Result<Option<Arc<Inner>>, OpenError>;
    /// Every queue's name and its dead-letter queue by object id, 0 for none.
    fn redrives(&self) -> Result<Vec<(String, u64)>, OpenError>;
}

impl Queue {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.definition.name
    }

    /// Its shape, and its settings as they were when this handle was opened;
    /// [`settings`](Self::settings) are the present ones.
    pub fn definition(&self) -> &QueueDefinition {
        &self.inner.definition
    }

    /// Its object id, the first part of every receipt.
    pub fn id(&self) -> u64 {
        self.inner.object_id
    }

    /// Becomes a sender. Does not block.
    ///
    /// # Errors
    /// When the queue is gone or the handle is of a parent process.
    pub fn sender(&self) -> Result<QueueSender, JoinError> {
        self.inner.check_join()?;
        Ok(QueueSender::new(Arc::clone(&self.inner)))
    }

    /// Becomes a receiver. Does not block.
    ///
    /// # Errors
    /// When the queue is gone or the handle is of a parent process.
    pub fn receiver(&self) -> Result<QueueReceiver, JoinError> {
        self.inner.check_join()?;
        Ok(QueueReceiver::new(Arc::clone(&self.inner)))
    }

    /// Removes every message that was sent before the call, in flight and parked ones too; how
    /// many. Messages sent meanwhile stay, and one that is just being moved to another queue, or from
    /// one, is not stopped on its way. In a durable queue it blocks until the disk knows of it.
    ///
    /// # Errors
    /// [`SettleError::PurgeUnknown`] when the disk refused, [`SettleError::Forked`] in a forked child.
    pub fn purge(&self) -> Result<u64, SettleError> {
        if self.inner.is_forked() {
            return Err(SettleError::Forked);
        }
        // What the dead were moving is here or there by then.
        self.inner.host.reap_now();
        let mut purged = 0;
        let mut payloads = self.inner.payloads();
        self.inner
            .each_ring(|ring| purged += ring.purge(&mut payloads));
        self.inner.forget_refusal();
        // What can't be written now is written with the next that can.
        match self.inner.acknowledge_consumed() {
            Ok(()) => Ok(purged),
            Err(why) => Err(SettleError::PurgeUnknown {
                purged,
                why: why.to_string(),
            }),
        }
    }
}

/// Whether the queue of this ring was removed through ringway.
#[inline(always)]
fn is_removed(ring: &Delivery) -> bool {
    ring.words().ready().load(Ordering::Relaxed) == REMOVED
}

impl Inner {
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.delivery.ring().memory().is_forked()
    }

    /// Whether the queue was removed through ringway.
    #[inline(always)]
    pub fn is_removed(&self) -> bool {
        is_removed(&self.delivery)
    }

    pub fn is_unlinked(&self) -> bool {
        !files::is_at(&self.file, &self.path)
    }

    fn check_join(&self) -> Result<(), JoinError> {
        if self.is_forked() {
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

    #[cfg(feature = "tracing")]
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Milliseconds since the epoch, by the clock itself.
    pub fn now_ms(&self) -> u64 {
        self.delivery.now_ms()
    }

    /// Unix time of a time of this queue.
    pub fn unix_ms(&self, ms: u64) -> u64 {
        self.created_ms.saturating_add(ms)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.is_forked() {
            if let Some(journal) = &self.journal {
                journal.log.forget();
            }
            return;
        }
        self.end_behind();
        self.mark();
        let leave = || {
            self.each_ring(|ring| {
                // Nobody has a lease there, and a backlog on a disk is not read to be told so.
                if !self.definition.spill || !chain::is_untouched(ring) {
                    ring.leave();
                }
            });
        };
        self.opens.close(self.object_id, leave);
    }
}
