//! Opening or creating a queue.

use super::attachment::Attachment;
use super::catalog::{ObjectKind, compare_given};
use super::name;
use crate::error::OpenError;
use crate::layout::Preamble;
use crate::layout::queue::MAGIC;
use crate::object::file::read_header;
use crate::pool::lend::Lender;
use crate::queue::{
    self, Chain, Deduplication, Durability, Growing, Inner, Journal, Link, Neighbours, Queue,
    QueueDefinition, QueueFile, QueueKind, QueueSettings, Recovered, Since,
};
use crate::ring::delivery::Delivery;
use crate::ring::{Liveness, Overflow, Producers, SlotRing};
use crate::sys::file;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Options for opening or creating a queue. An option that is given has to agree with an existing
/// queue, a setting with what it is by now ([`Queue::set`] changes it); one that is not given takes the default at creation and is not compared.
#[must_use = "call open, create or open_or_create"]
pub struct QueueBuilder {
    attachment: Arc<Attachment>,
    definition: QueueDefinition,
    given: Given,
    /// Whether it is a part of another object: its name begins with a period.
    is_hidden: bool,
}

#[derive(Default)]
struct Given {
    kind: bool,
    dedup: bool,
    slots: bool,
    stride: bool,
    visibility: bool,
    delay: bool,
    retention: bool,
    max_message_bytes: bool,
    redeliver_on_death: bool,
    receive_wait: bool,
    stall_timeout: bool,
    max_bytes: bool,
    durability: bool,
    read_ahead: bool,
    journal_max_bytes: bool,
    spill: bool,
}

impl QueueBuilder {
    pub(super) fn new(attachment: Arc<Attachment>, name: &str) -> Self {
        Self {
            attachment,
            definition: QueueDefinition::named(name),
            given: Given::default(),
            is_hidden: false,
        }
    }

    #[cfg(feature = "topics")]
    pub(super) fn hidden(mut self) -> Self {
        self.is_hidden = true;
        self
    }

    /// A FIFO queue: strict order within each message group, one receiver at a time for each group
    /// (`FifoQueue`). Every message needs a group then
    /// ([`Outgoing::group`](crate::Outgoing::group)). Its name may end with `.fifo`, as SQS
    /// wants it, and need not. Default: a standard queue.
    pub fn fifo(self) -> Self {
        self.kind(QueueKind::Fifo)
    }

    /// Standard or FIFO.
    pub fn kind(mut self, kind: QueueKind) -> Self {
        self.definition.kind = kind;
        self.given.kind = true;
        self
    }

    /// Deduplicates: a message whose id was sent within the window is accepted and not delivered.
    /// FIFO queues only. Default: [`Deduplication::default`], 8 MiB for the ids of messages that have
    /// one; `None` for a queue that refuses ids. SQS has room for every id; a table in memory has a
    /// size, and who sends more than 131,072 ids in five minutes has to say so.
    pub fn deduplicate(mut self, dedup: impl Into<Option<Deduplication>>) -> Self {
        self.definition.dedup = dedup.into();
        self.given.dedup = true;
        self
    }

    /// Slots of its first ring, a power of two from 1,024 to 16,777,216. Without
    /// [`max_bytes`](Self::max_bytes) it is the most messages the queue holds, in flight ones
    /// included. Default 16,384.
    pub fn slots(mut self, slots: u64) -> Self {
        self.definition.slots = slots;
        self.given.slots = true;
        self
    }

    /// Bytes from slot to slot, a multiple of 32 from 64 to 4,096; 40 of them are header, the rest
    /// holds short bodies. In a FIFO queue at least 128, and 80 of them are header. Default 256.
    pub fn stride(mut self, stride: u64) -> Self {
        self.definition.stride = stride;
        self.given.stride = true;
        self
    }

    /// How long a received message stays invisible if the receive does not say
    /// (`VisibilityTimeout`). 0 to 43,200 s in whole milliseconds, default 30 s.
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.definition.visibility = visibility;
        self.given.visibility = true;
        self
    }

    /// How long a sent message stays invisible if the send does not say (`DelaySeconds`). 0 to
    /// 900 s in whole milliseconds, default 0.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.definition.delay = delay;
        self.given.delay = true;
        self
    }

    /// How long a message is kept (`MessageRetentionPeriod`). 60 s to 14 days in whole milliseconds,
    /// default 4 days. An older one is gone, also when nobody ran meanwhile; one that is in flight
    /// then is gone when its lease ends.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.definition.retention = retention;
        self.given.retention = true;
        self
    }

    /// The largest body (`MaximumMessageSize`). 1 byte to 1 TiB, of a queue on disk to 16 MiB; default
    /// 262,144 bytes.
    pub fn max_message_bytes(mut self, bytes: u64) -> Self {
        self.definition.max_message_bytes = bytes;
        self.given.max_message_bytes = true;
        self
    }

    /// Whether the message of a dead holder is visible at once, or when its time-out has passed.
    /// Default: at once.
    pub fn redeliver_on_death(mut self, redeliver: bool) -> Self {
        self.definition.redeliver_on_death = redeliver;
        self.given.redeliver_on_death = true;
        self
    }

    /// How long a receive waits that does not say (`ReceiveMessageWaitTimeSeconds`). 0 to 20 s in
    /// whole milliseconds, default 0.
    pub fn receive_wait(mut self, wait: Duration) -> Self {
        self.definition.receive_wait = wait;
        self.given.receive_wait = true;
        self
    }

    /// After this long a live but stopped sender's claim is stepped over. 1 ms to 60 s, default
    /// 20 ms.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.definition.stall_timeout = timeout;
        self.given.stall_timeout = true;
        self
    }

    /// Bytes that its rings may take together. A queue that is full goes on in a further ring of
    /// twice the size, or the largest that fits, up to that; a ring that was left and in which
    /// nothing is any more is given back. Less than the first ring takes is as much as that: then it
    /// never grows. Bodies in the payload pool do not count. Default: 1 GiB, or, where `slots` were
    /// given, the first ring alone. A FIFO queue does not grow, whatever is given.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.definition.max_bytes = bytes;
        self.given.max_bytes = true;
        self
    }

    /// What the queue survives. Default: [`Durability::Memory`].
    ///
    /// A queue on disk keeps a journal under the [`journal_root`](crate::Builder::journal_root) of the
    /// bus, and its dead-letter queue survives at least as much.
    /// Behind a restart of the machine [`open`](Self::open) and
    /// [`open_or_create`](Self::open_or_create) find it with everything that was acknowledged;
    /// whoever opens it first reads the journal, and the others wait.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.definition.durability = durability;
        self.given.durability = true;
        self
    }

    /// Durable: messages are received before they are on disk, as in memory; a send still waits for it.
    /// Behind a crash a message that was received may be gone, if its send had not returned. Not where
    /// the queue deduplicates. Default: off.
    pub fn read_ahead(mut self, read_ahead: bool) -> Self {
        self.definition.read_ahead = read_ahead;
        self.given.read_ahead = true;
        self
    }

    /// On disk: while its journal takes so many bytes sends are refused, with
    /// [`QueueSendError::OverDiskQuota`](crate::QueueSendError::OverDiskQuota); receives and deletes go on, and
    /// make room by whole segments. At least four segments (16 to 256 MiB, by the size of the ring).
    /// Default: as much as the disk has.
    pub fn journal_max_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.definition.journal_max_bytes = bytes.into();
        self.given.journal_max_bytes = true;
        self
    }

    /// Its further rings lie on a disk, beside the journals of the bus
    /// ([`journal_root`](crate::Builder::journal_root)): the backlog takes memory for what is being sent and
    /// received alone, and [`max_bytes`](Self::max_bytes) is a quota of the disk. What it survives is said by
    /// [`durability`](Self::durability), and is no more by this: the rings of a queue on disk are made again from
    /// its journal. Standard queues. Default: off.
    pub fn spill(mut self, spill: bool) -> Self {
        self.definition.spill = spill;
        self.given.spill = true;
        self
    }

    /// Asks for transparent huge pages; harmless where there are none.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.definition.huge_pages = huge_pages;
        self
    }

    /// Opens the queue. Blocks for the file system, and where it is on disk and has to be made again for
    /// the reading of its journal; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(mut self) -> Result<Queue, OpenError> {
        self.check()?;
        match self.attach() {
            Err(OpenError::NotFound { .. }) => {
                self.recover()?;
                self.attach()
            }
            attached => attached,
        }
    }

    /// Creates the queue. Blocks for the file system, and as long as its memory takes to be set aside;
    /// allocates.
    ///
    /// # Errors
    /// [`OpenError`]; `AlreadyExists` when there is an object of that name, or the journal of one that
    /// is to be opened.
    pub fn create(mut self) -> Result<Queue, OpenError> {
        self.check()?;
        let (site, name) = (&self.attachment.site, &self.definition.name);
        if queue::has_journal(site, name)? {
            let path = site.directory.join(name);
            return Err(OpenError::AlreadyExists { path });
        }
        queue::create_queue(site, &self.definition)?;
        self.attach()
    }

    /// Opens the queue, or creates it. Blocks as the two.
    ///
    /// # Errors
    /// [`OpenError`]; `Mismatch` when it exists with other values of given options.
    pub fn open_or_create(mut self) -> Result<Queue, OpenError> {
        self.check()?;
        let (site, name) = (&self.attachment.site, &self.definition.name);
        let create = || match self.recover() {
            Err(OpenError::NotFound { .. }) => queue::create_queue(site, &self.definition),
            recovered => recovered,
        };
        self.attachment
            .open_or_create(name, || self.attach(), create)
    }

    /// Makes the queue again from its journal.
    fn recover(&self) -> Result<(), OpenError> {
        let (attachment, name) = (&self.attachment, &self.definition.name);
        let lender = Lender::new(Arc::clone(&attachment.segments), attachment.membership.slot);
        match queue::recover_queue(&attachment.site, name, lender)? {
            Recovered::There => Ok(()),
            Recovered::Removed(chain) => {
                attachment.remove_queue_again(name, chain)?;
                let path = attachment.site.directory.join(name);
                Err(OpenError::NotFound { path })
            }
        }
    }

    fn check(&mut self) -> Result<(), OpenError> {
        self.attachment.check_fork()?;
        if !self.is_hidden {
            name::check(&self.definition.name)?;
        }
        if self.definition.kind == QueueKind::Fifo && !self.given.dedup {
            self.definition.dedup = Some(Deduplication::default());
        }
        self.definition.check()?;
        let first = self.definition.ring_bytes(self.definition.slots);
        let has_one_ring = self.definition.kind == QueueKind::Fifo;
        let max_bytes = &mut self.definition.max_bytes;
        if has_one_ring || (self.given.slots && !self.given.max_bytes) {
            *max_bytes = first;
        }
        *max_bytes = (*max_bytes).max(first);
        Ok(())
    }

    /// Opens what is there. For an observer that is all: a journal is not looked at.
    pub(super) fn attach(&self) -> Result<Queue, OpenError> {
        let attachment = &self.attachment;
        // Noted before anything can be left there.
        attachment
            .registry
            .note_joined(&attachment.membership, name::hash(&self.definition.name));
        let mut file = queue::open_queue(&attachment.site, &self.definition.name)?;
        let delivery = attachment.delivery(&file);
        file.definition.set(&QueueSettings::of(&delivery));
        self.compare(&file)?;
        if !attachment.site.observed {
            queue::check_journal(&attachment.site, &file)?;
        }
        let first = Link::first(delivery.clone(), file.bytes);
        let ring_bytes = file.definition.slots * file.definition.stride;
        let journal = file.durable.map(|(_, directory)| {
            Journal::new(directory, &attachment.site, &file.header, ring_bytes)
        });
        let queue = Queue {
            inner: Arc::new(Inner {
                journal,
                delivery,
                bytes: file.bytes,
                chain: Chain::new(file.chain_id, first),
                growing: Growing::default(),
                site: queue::further_site(&attachment.site, file.spill.as_deref()),
                definition: file.definition,
                group_key: file.group_key,
                dedup_key: file.dedup_key,
                object_id: file.object_id,
                epoch_ms: file.epoch_ms,
                created_ms: file.created_ms,
                segments: Arc::clone(&attachment.segments),
                path: file.path,
                file: file.file,
                mapping: file.mapping,
                holding: attachment.opens.open(file.object_id),
                opens: Arc::clone(&attachment.opens),
                host: Arc::clone(attachment) as _,
            }),
        };
        if !attachment.site.observed {
            queue.inner.begin_journal()?;
        }
        Ok(queue)
    }

    fn compare(&self, queue: &QueueFile) -> Result<(), OpenError> {
        compare_given!(self, queue, kind dedup slots stride visibility delay retention);
        compare_given!(self, queue, max_message_bytes redeliver_on_death receive_wait stall_timeout);
        compare_given!(self, queue, max_bytes durability read_ahead journal_max_bytes spill);
        Ok(())
    }
}

impl Neighbours for Attachment {
    fn queue_by_id(self: Arc<Self>, id: u64) -> Result<Option<Arc<Inner>>, OpenError> {
        self.check_fork()?;
        let directory = &self.site.directory;
        for name in file::names(directory).map_err(|e| OpenError::io(directory, e))? {
            let path = directory.join(&name);
            let is_file = || file::check_regular(&path).map_err(|e| OpenError::io(&path, e));
            if name.starts_with('.') || !is_file()? {
                continue;
            }
            let preamble = match file::open(&path) {
                Ok(file) => read_header::<Preamble>(&file),
                Err(error) => Err(error),
            };
            let preamble = match preamble {
                Ok(preamble) => preamble,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Too short for a header: none of ours.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(OpenError::io(path, error)),
            };
            if (preamble.magic, preamble.object_id) != (MAGIC, id) {
                continue;
            }
            return match QueueBuilder::new(Arc::clone(&self), &name).open() {
                // Another one may have the name by now.
                Ok(queue) => Ok((queue.inner.object_id == id).then_some(queue.inner)),
                // Not now, which says nothing about whether it is there.
                Err(
                    error @ (OpenError::Io { .. }
                    | OpenError::Permission { .. }
                    | OpenError::Journal(_)
                    | OpenError::Mismatch { .. }),
                ) => Err(error),
                Err(_) => Ok(None),
            };
        }
        let Some(name) = queue::name_in_journals(&self.site, id)? else {
            return Ok(None);
        };
        // Opened, or made again, by its name: another one may have it by then.
        let queue = QueueBuilder::new(self, &name).open()?;
        Ok((queue.inner.object_id == id).then_some(queue.inner))
    }

    fn redrives(&self) -> Result<Vec<(String, u64)>, OpenError> {
        self.check_fork()?;
        let mut redrives = Vec::new();
        for object in self.objects()? {
            if object.kind != ObjectKind::Queue {
                continue;
            }
            match queue::open_queue(&self.site, &object.name) {
                Ok(file) => {
                    let redrive = self.delivery(&file).redrive();
                    redrives.push((object.name, redrive.map_or(0, |(target, _)| target)));
                }
                Err(error @ (OpenError::Io { .. } | OpenError::Permission { .. })) => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(redrives)
    }
}

impl Attachment {
    /// This attachment's side of an open queue file.
    pub(super) fn delivery(&self, file: &QueueFile) -> Delivery {
        let ring = SlotRing::new(
            file.memory.clone(),
            Arc::clone(&self.liveness) as Arc<dyn Liveness>,
            self.membership.slot,
            Producers::Shared,
            Overflow::Refuse,
            file.definition.stall_timeout.as_nanos() as u64,
        );
        let clock = Arc::new(Since(file.epoch_ms));
        let delivery = Delivery::new(ring, file.words.clone(), clock);
        let delivery = match &file.dedup {
            Some(dedup) => delivery.with_dedup(dedup.clone()),
            None => delivery,
        };
        match &file.durable {
            Some((words, _)) => delivery
                .with_durable(words.clone())
                .reading_ahead(file.definition.reads_ahead()),
            None => delivery,
        }
    }
}
