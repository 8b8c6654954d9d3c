//! L5: a queue, that is one ring with the bus's payload pool behind it, whose messages are each
//! consumed once: the SQS model.
//!
//! One verb a file, in the order of a message's life: [`send`], [`receive`], [`settle`]; what travels
//! beside a body is made in [`outgoing`] and seen in [`incoming`]. The floor
//! below moves words ([`crate::ring::delivery`]); this floor checks forks and removals, reads the
//! clock, talks to the pool, waits, and turns outcomes into errors.
//!
//! A queue is standard: at least once, best-effort order; or FIFO: strict order in each message
//! group. It lives in memory and survives the death of every process; one that is durable
//! [writes](persist) a journal beside it, from which it is [made again](recover) behind the death of the
//! machine.

#[cfg(all(test, not(loom)))]
mod aging;
#[cfg(feature = "async")]
mod asynchronous;
mod attempt;
mod attributes;
mod behind;
mod chain;
mod dedup;
mod definition;
mod envelope;
mod file;
mod further;
mod group;
mod grow;
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
mod run;
mod send;
mod settings;
mod settle;
mod spill;
mod view;
mod wait;

#[cfg(feature = "async")]
pub use asynchronous::AsyncReceiver;
pub use attributes::{Attribute, AttributeIter, AttributeValue, Attributes, AttributesRef};
pub(crate) use chain::{Chain, Link, further_links, ring_at};
pub use dedup::{DedupScope, Deduplication};
pub use definition::{Durability, QueueDefinition, QueueKind};
pub(crate) use file::{GROWN_PREFIX, chain_of, check_grown, grown_of};
pub(crate) use file::{
    QueueFile, create as create_queue, open as open_queue, open_removed as open_removed_queue,
};
pub(crate) use grow::Growing;
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
pub(crate) use persist::Journal;
pub use persister::Persister;
pub use pod::PodError;
pub use receipt::Receipt;
pub use receive::{QueueReceiver, Received};
pub(crate) use recover::recover as recover_queue;
pub use redrive::{Redrive, RedriveAllow};
pub use send::QueueSender;
pub use settings::{QueueSettings, Settings};
pub(crate) use spill::{further_site, remove_spilled, spill_directory};
pub use view::MessageView;

use crate::error::{JoinError, OpenError, SettleError};
use crate::layout::REMOVED;
use crate::layout::durable::POSITIONS;
use crate::object::{Host, Site};
use crate::pool::segment::Segments;
use crate::ring::Counter;
use crate::ring::delivery::sweep::Census;
use crate::ring::delivery::{Clock, Delivery, Total};
use crate::shm::durable::DurableWords;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::{clock, file as files};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

/// What anyone may know about a queue.
///
/// The first group is counted by a look at every slot: blocks nobody, and costs about a millisecond
/// per 100,000 slots. The totals are added to by each handle every 64 messages and when it closes:
/// a process that is killed keeps up to 63 of each to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages to be received now (`ApproximateNumberOfMessages`).
    pub visible: u64,
    /// Messages received and not deleted (`ApproximateNumberOfMessagesNotVisible`).
    pub in_flight: u64,
    /// Messages whose delay runs (`ApproximateNumberOfMessagesDelayed`).
    pub delayed: u64,
    /// Messages set aside after 1,000 receives, or because their dead-letter queue has no room;
    /// see [`Queue::parked`].
    pub parked: u64,
    /// Messages on their way to another queue.
    pub moving: u64,
    /// Age of the oldest of all these (`ApproximateAgeOfOldestMessage`).
    pub oldest_age: Option<Duration>,
    /// Slots of its rings: as many messages are there at most before it has to grow.
    pub capacity: u64,
    /// Rings: 1, and one more for each time it grew and that still holds something.
    pub rings: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Times it grew.
    pub grown: u64,

    /// Messages sent.
    pub sent: u64,
    /// Receives.
    pub received: u64,
    /// Messages deleted by receipt or consumed at once.
    pub deleted: u64,
    /// Messages that were older than the retention.
    pub expired: u64,
    /// Times a message was parked.
    pub times_parked: u64,
    /// Leases of the dead that were ended.
    pub released: u64,
    /// Messages purged.
    pub purged: u64,
    /// Messages moved to another queue.
    pub moved: u64,
    /// Messages that arrived from another queue.
    pub arrived: u64,
    /// Sends that were not delivered because their id was sent already.
    pub duplicates: u64,
    /// Claims of live senders that were abandoned.
    pub abandoned: u64,
    /// Claims of dead senders that were voided.
    pub voided: u64,
    /// Messages in flight that were stepped over by a sender one round later.
    pub renewed: u64,
    /// Slots found with an impossible header.
    pub damaged: u64,

    /// On disk: the first position that is not there yet; 0 in memory.
    pub durable_position: u64,
    /// On disk: positions that were given out and are not there yet.
    pub unwritten: u64,
    /// On disk: flushes of its journal.
    pub flushes: u64,
    /// On disk: times that the journal was taken over from a writer that was dead or stood still.
    pub take_overs: u64,
    /// On disk: bytes of its journal, as its writer last saw them.
    pub journal_bytes: u64,
}

/// A message that was received 1,000 times and not deleted, or as often as the redrive policy says
/// while the dead-letter queue has no room: it is not offered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedMessage {
    /// Where it stands.
    pub position: u64,
    /// How often it was received.
    pub receives: u16,
    /// When it was sent, in ms since the Unix epoch.
    pub sent_ms: u64,
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

    /// Counts what is there. In a forked child all zero.
    pub fn stats(&self) -> QueueStats {
        if self.inner.is_forked() {
            return QueueStats::default();
        }
        self.inner.stats()
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
        // What can't be written now is written with the next that can.
        match self.inner.acknowledge_consumed() {
            Ok(()) => Ok(purged),
            Err(why) => Err(SettleError::PurgeUnknown {
                purged,
                why: why.to_string(),
            }),
        }
    }

    /// The messages that are not offered any more, by position: received 1,000 times, or as often as
    /// the redrive policy says while the dead-letter queue has no room. They stay until they are
    /// moved, deleted, purged, or past the retention. Empty in a forked child.
    pub fn parked(&self) -> Vec<ParkedMessage> {
        if self.inner.is_forked() {
            return Vec::new();
        }
        let mut parked = Vec::new();
        self.inner.each_ring(|ring| {
            ring.each(|standing| {
                if let Some(receives) = standing.parked_after() {
                    parked.push(ParkedMessage {
                        position: standing.position,
                        receives,
                        sent_ms: self.inner.unix_ms(standing.sent()),
                    });
                }
            });
        });
        parked.sort_by_key(|message| message.position);
        parked
    }

    /// The body of the parked message at `position`, if there is one. It stays: to put it back into
    /// the queue send the body, then [`delete_parked`](Self::delete_parked).
    pub fn read_parked(&self, position: u64) -> Option<Vec<u8>> {
        self.inner.read_parked(position)
    }

    /// Deletes the parked message at `position`. Whether this call did it. In a durable queue it blocks
    /// until the disk knows of it.
    ///
    /// # Errors
    /// [`SettleError::DurabilityUnknown`] when the disk refused, [`SettleError::Forked`] in a forked child.
    pub fn delete_parked(&self, position: u64) -> Result<bool, SettleError> {
        if self.inner.is_forked() {
            return Err(SettleError::Forked);
        }
        self.inner.has_grown();
        let ring = self.inner.at(position);
        let deleted = ring.examine(position).is_some_and(|standing| {
            standing.position == position
                && standing.parked_after().is_some()
                && ring.consume(&standing, &mut self.inner.payloads())
        });
        if deleted {
            self.inner.acknowledge_delete(position)?;
        }
        Ok(deleted)
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

    fn stats(&self) -> QueueStats {
        let now = self.now_ms();
        let (mut census, mut capacity) = (Census::default(), 0);
        self.each_ring(|ring| {
            census.add(ring.census(now));
            capacity += ring.ring().memory().geometry().slots();
        });
        let links = self.chain.links();
        let memory = self.delivery.ring().memory();
        let of_ring = |counter: Counter| memory.counter(counter.offset()).load(Ordering::Relaxed);
        let total = |total| self.delivery.total(total);
        let on_disk = |word: fn(&DurableWords) -> &AtomicU64| {
            let words = self.delivery.durable();
            words.map_or(0, |words| word(words).load(Ordering::Relaxed))
        };
        QueueStats {
            visible: census.visible,
            in_flight: census.in_flight,
            delayed: census.delayed,
            parked: census.parked,
            moving: census.moving,
            oldest_age: census
                .oldest
                .map(|sent| Duration::from_millis(now.saturating_sub(sent))),
            capacity,
            rings: links.len() as u64,
            bytes: links.iter().map(|link| link.bytes).sum(),
            grown: self.delivery.words().newest().load(Ordering::Relaxed),
            sent: total(Total::Sent),
            received: total(Total::Received),
            deleted: total(Total::Deleted),
            expired: total(Total::Expired),
            times_parked: total(Total::Parked),
            released: total(Total::Released),
            purged: total(Total::Purged),
            moved: total(Total::Moved),
            arrived: total(Total::Arrived),
            duplicates: total(Total::Duplicates),
            abandoned: of_ring(Counter::Abandoned),
            voided: of_ring(Counter::Voided),
            renewed: of_ring(Counter::Renewed),
            damaged: of_ring(Counter::Damaged),
            durable_position: on_disk(DurableWords::durable) & (POSITIONS - 1),
            unwritten: match self.journal {
                Some(_) => self.tail().saturating_sub(self.delivery.on_disk_below()),
                None => 0,
            },
            flushes: on_disk(DurableWords::flushes),
            take_overs: on_disk(DurableWords::take_overs),
            journal_bytes: on_disk(DurableWords::journal_bytes),
        }
    }

    fn read_parked(&self, position: u64) -> Option<Vec<u8>> {
        if self.is_forked() {
            return None;
        }
        self.has_grown();
        let ring = self.at(position);
        let standing = ring.examine(position)?;
        if standing.position != position || standing.parked_after().is_none() {
            return None;
        }
        let body = self.body(&standing).ok()??;
        let mut out = vec![0; body.len()];
        (self.copy(&standing, body, body.block(), &mut out) && standing.stands()).then_some(out)
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
