//! Opening, creating, examining and removing streams.

use super::attachment::Attachment;
use super::catalog::compare_given;
use super::name;
use crate::error::OpenError;
use crate::layout::{READY_OFFSET, REMOVED};
use crate::queue::Durability;
use crate::ring::Producers;
use crate::shm::words;
use crate::stream::{
    self, Backpressure, Home, OnDemand, Retention, ShardLimits, Stream, StreamDefinition,
    StreamFile, shard_of,
};
use crate::sync::Ordering;
use crate::sys::file;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Options for opening or creating a stream. An option that is given has to agree with an existing
/// stream, but for the number of shards, which changes; one that is not given takes the default at
/// creation and is not compared.
#[must_use = "call open, create or open_or_create"]
pub struct StreamBuilder {
    attachment: Arc<Attachment>,
    definition: StreamDefinition,
    given: Given,
}

#[derive(Default)]
struct Given {
    shards: bool,
    on_demand: bool,
    slots: bool,
    stride: bool,
    readers: bool,
    backpressure: bool,
    producers: bool,
    limits: bool,
    lease_timeout: bool,
    stall_timeout: bool,
    durability: bool,
    segment_bytes: bool,
    /// Whether the retention need not be one that Kinesis would take.
    unchecked_retention: bool,
}

impl StreamBuilder {
    pub(super) fn new(attachment: Arc<Attachment>, name: &str) -> Self {
        Self {
            attachment,
            definition: StreamDefinition::named(name),
            given: Given::default(),
        }
    }

    /// Shards at creation, with ranges of the same length. 1 to 1,000, default 1.
    pub fn shards(mut self, shards: u32) -> Self {
        self.definition.shards = shards;
        self.given.shards = true;
        self
    }

    /// Slots of each shard: the most records that it retains. A power of two from 1,024 to 16,777,216,
    /// default 8,192.
    pub fn slots(mut self, slots: u64) -> Self {
        self.definition.slots = slots;
        self.given.slots = true;
        self
    }

    /// Bytes from slot to slot, a multiple of 32 from 64 to 4,096; 48 of them are header, the rest holds
    /// the keys and data of short records. Default 256.
    pub fn stride(mut self, stride: u64) -> Self {
        self.definition.stride = stride;
        self.given.stride = true;
        self
    }

    /// Most readers of each shard at a time, workers of groups included, 1 to 991. Default 64.
    pub fn readers(mut self, readers: u32) -> Self {
        self.definition.readers = readers;
        self.given.readers = true;
        self
    }

    /// What a put meets at a full shard. Default: it waits, up to 30 s.
    pub fn backpressure(mut self, backpressure: Backpressure) -> Self {
        self.definition.backpressure = backpressure;
        self.given.backpressure = true;
        self
    }

    /// Who puts: any number of producers, or one for each shard at a time, who needs no locked instruction.
    /// Default: [`Producers::Shared`].
    ///
    /// With [`Producers::Exclusive`] a producer has a shard from its first put to it until it is dropped or its
    /// process is dead; others are refused meanwhile ([`PutError::Held`](crate::PutError::Held)), also
    /// while it is stopped. Such a stream lies in memory and keeps the shards that it was made with.
    pub fn producers(mut self, producers: Producers) -> Self {
        self.definition.producers = producers;
        self.given.producers = true;
        self
    }

    /// Emulates the limits of provisioned shards. Default: none.
    pub fn limits(mut self, limits: impl Into<Option<ShardLimits>>) -> Self {
        self.definition.limits = limits.into();
        self.given.limits = true;
        self
    }

    /// On-demand mode: the stream splits and merges its shards by its load. Unless
    /// [`shards`](Self::shards) says something else, it begins with the fewest. Default: provisioned.
    pub fn on_demand(mut self, mode: impl Into<Option<OnDemand>>) -> Self {
        self.definition.on_demand = mode.into();
        self.given.on_demand = true;
        self
    }

    /// After this long without a sign a worker of a group that is alive loses its leases. 100 ms to 1 h,
    /// default 10 s. One that is dead loses them at once.
    pub fn lease_timeout(mut self, timeout: Duration) -> Self {
        self.definition.lease_timeout = timeout;
        self.given.lease_timeout = true;
        self
    }

    /// After this long a live but stopped producer's claim is stepped over. 1 ms to 60 s, default 20 ms.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.definition.stall_timeout = timeout;
        self.given.stall_timeout = true;
        self
    }

    /// Asks for transparent huge pages; harmless where there are none.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.definition.huge_pages = huge_pages;
        self
    }

    /// What the stream survives. Default: [`Durability::Memory`].
    ///
    /// A durable stream keeps a journal for each shard under the
    /// [`journal_root`](crate::Builder::journal_root) of the bus. A put returns when its record is there,
    /// readers are given nothing before, and no reader holds a producer back: what is not in memory any more
    /// is read from the disk, as long as the [`retention`](Self::retention) says. Behind a restart of the
    /// machine [`open`](Self::open) and [`open_or_create`](Self::open_or_create) find it with its shards,
    /// its groups and their checkpoints, and everything that was acknowledged.
    ///
    /// At the level [`Durability::Async`] a put and a checkpoint do not wait for that, and records are read before it:
    /// behind a restart the last moment is missing, of each shard the end.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.definition.durability = durability;
        self.given.durability = true;
        self
    }

    /// How long a stream on disk keeps its records at first; [`Stream::set_retention`] changes it. Default:
    /// 24 h, any number of bytes.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.definition.retention = retention;
        self
    }

    /// The same, however short: for tests, which can't wait for a day.
    #[doc(hidden)]
    pub fn retention_unchecked(mut self, retention: Retention) -> Self {
        self.definition.retention = retention;
        self.given.unchecked_retention = true;
        self
    }

    /// Bytes of a segment of a shard's journal: what is given back at a time. Whole pages from 64 KiB to 1
    /// GiB. Default: about four times the ring of a shard, 4 MiB to 64 MiB. A shard that is written to has
    /// three of them or more.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.definition.segment_bytes = bytes;
        self.given.segment_bytes = true;
        self
    }

    /// Opens the stream. Blocks for the file system, and where it is on disk and has to be made again for
    /// the reading of its journals; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self) -> Result<Stream, OpenError> {
        self.check()?;
        match self.attach() {
            Err(OpenError::NotFound { .. }) => {
                self.recover()?;
                self.attach()
            }
            attached => attached,
        }
    }

    /// Creates the stream. Blocks for the file system, and as long as the memory of its shards takes to be
    /// set aside; allocates.
    ///
    /// # Errors
    /// [`OpenError`]; `AlreadyExists` when there is an object of that name, or the journal of one that is
    /// to be opened.
    pub fn create(self) -> Result<Stream, OpenError> {
        self.check()?;
        let (site, name) = (&self.attachment.site, &self.definition.name);
        if stream::has_stream_journal(site, name)? {
            let path = site.directory.join(name);
            return Err(OpenError::AlreadyExists { path });
        }
        stream::create_stream(&self.attachment.site, &self.to_create())?;
        self.attach()
    }

    /// Opens the stream, or creates it. Blocks as the two.
    ///
    /// # Errors
    /// [`OpenError`]; `Mismatch` when it exists with other values of given options.
    pub fn open_or_create(self) -> Result<Stream, OpenError> {
        self.check()?;
        let (site, name) = (&self.attachment.site, &self.definition.name);
        let create = || match self.recover() {
            Err(OpenError::NotFound { .. }) => stream::create_stream(site, &self.to_create()),
            recovered => recovered,
        };
        self.attachment
            .open_or_create(name, || self.attach(), create)
    }

    /// Makes the stream again from its journals.
    fn recover(&self) -> Result<(), OpenError> {
        let (attachment, name) = (&self.attachment, &self.definition.name);
        match stream::recover_stream(&attachment.site, name) {
            Err(OpenError::Removed { path }) => {
                attachment.remove_stream(name)?;
                Err(OpenError::NotFound { path })
            }
            recovered => recovered,
        }
    }

    fn to_create(&self) -> StreamDefinition {
        let mut definition = self.definition.clone();
        if let Some(mode) = definition.on_demand
            && !self.given.shards
        {
            definition.shards = mode.min_shards;
        }
        definition
    }

    fn check(&self) -> Result<(), OpenError> {
        self.attachment.check_fork()?;
        name::check(&self.definition.name)?;
        if !self.given.unchecked_retention {
            self.definition.retention.check()?;
        }
        self.definition.check()
    }

    pub(super) fn attach(&self) -> Result<Stream, OpenError> {
        let attachment = &self.attachment;
        // Noted before anything can be left there.
        attachment.note_joined(&self.definition.name);
        let opened = stream::open_stream(&attachment.site, &self.definition.name)?;
        self.compare(&opened)?;
        if attachment.site.observed {
            return Ok(attachment.stream(opened)); // its journals are not looked at
        }
        stream::check_stream_journal(&attachment.site, &opened)?;
        let stream = attachment.stream(opened);
        stream.inner.begin_journal()?;
        Ok(stream)
    }

    fn compare(&self, stream: &StreamFile) -> Result<(), OpenError> {
        compare_given!(self, stream, slots stride readers backpressure limits on_demand);
        compare_given!(self, stream, producers lease_timeout stall_timeout durability segment_bytes);
        Ok(())
    }
}

impl Home for Attachment {
    fn note_joined(&self, file_name: &str) {
        self.registry
            .note_joined(&self.membership, name::hash(file_name));
    }

    fn remove_ring(&self, file_name: &str) -> Result<(), OpenError> {
        if self.site.observed {
            return Ok(()); // an observer goes on with a change for itself alone
        }
        self.remove_ring_file(file_name)
    }
}

impl Attachment {
    fn stream(self: &Arc<Self>, opened: StreamFile) -> Stream {
        Stream::new(
            opened,
            &self.site,
            &self.segments,
            self.membership.slot,
            Arc::clone(&self.liveness) as _,
            Arc::clone(self) as _,
        )
    }

    /// Marks a stream and its shards removed, wakes who waits on them, and takes their names away.
    pub(super) fn remove_stream(&self, name: &str) -> Result<(), OpenError> {
        let path = self.site.directory.join(name);
        let family = stream::family_of(&self.site, name);
        let is_whole = match stream::open_stream(&self.site, name) {
            Ok(stream) => {
                stream::check_stream_journal(&self.site, &stream)?;
                words::word32(&stream.mapping, READY_OFFSET).store(REMOVED, Ordering::Release);
                true
            }
            Err(OpenError::Removed { .. }) => true,
            Err(error @ (OpenError::NotFound { .. } | OpenError::Permission { .. })) => {
                return Err(error);
            }
            Err(_) => false,
        };
        // Nobody opens it any more. In front of the journals: whoever is about to write the first record of a
        // shard would make its directory anew.
        if let Ok(family) = family {
            self.remove_shards(|found| found == family)?;
        }
        match is_whole {
            true => self.finish_removal(name),
            // A damaged file is removed all the same.
            false => file::remove(&path).map_err(|e| OpenError::io(&path, e)),
        }
    }

    /// Takes away the shards of certain families; how many.
    fn remove_shards(&self, is_gone: impl Fn(u64) -> bool) -> Result<u64, OpenError> {
        let directory = &self.site.directory;
        let names = file::names(directory).map_err(|e| OpenError::io(directory, e))?;
        let mut removed = 0;
        for name in names {
            if shard_of(&name).is_some_and(|(family, _)| is_gone(family)) {
                match self.remove_ring_file(&name) {
                    Ok(()) => removed += 1,
                    Err(OpenError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    /// Whether a stream can be opened, its table read, and each of its shards opened.
    pub(super) fn examine_stream(&self, name: &str) -> Result<(), OpenError> {
        let site = crate::object::Site {
            pre_touch: false,
            ..self.site.clone()
        };
        let opened = stream::open_stream(&site, name)?;
        stream::examine(&opened, &site)
    }

    /// Shards of a stream that is not there: its creator or remover died.
    pub(super) fn orphan_shards(&self, heal: bool) -> Result<u64, OpenError> {
        let directory = &self.site.directory;
        let names = || file::names(directory).map_err(|e| OpenError::io(directory, e));
        let shards = names()?;
        let found: HashSet<u64> = shards
            .iter()
            .filter_map(|name| shard_of(name))
            .map(|(family, _)| family)
            .collect();
        // Listed behind them. A stream that is being created has no control file yet: its creator lives.
        let families: HashSet<u64> = names()?
            .iter()
            .filter(|name| !name.starts_with('.'))
            .filter_map(|name| stream::family_of(&self.site, name).ok())
            .collect();
        let orphans: HashSet<u64> = found.difference(&families).copied().collect();
        let is_left = |family: u64| {
            let mut files = shards
                .iter()
                .filter(|name| shard_of(name).is_some_and(|(of, _)| of == family));
            files.all(|name| file::is_older(&directory.join(name), LEFTOVER_AGE))
        };
        let orphans: HashSet<u64> = orphans
            .into_iter()
            .filter(|family| is_left(*family))
            .collect();
        if heal {
            return self.remove_shards(|family| orphans.contains(&family));
        }
        Ok(orphans.len() as u64)
    }
}

/// Far more than a creator takes from the first ring to the control file.
const LEFTOVER_AGE: Duration = Duration::from_secs(10);
