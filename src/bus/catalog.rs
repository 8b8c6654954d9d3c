//! The objects of a bus.

use super::attachment::Attachment;
use super::{REMOVED_PREFIX, name};
use crate::channel::{self, Channel, Definition, Inner, RingFile};
use crate::error::OpenError;
use crate::layout::bus::RESET_LOCK;
use crate::layout::{self, Preamble, READY_OFFSET, REMOVED};
use crate::object::{Site, file as object_file};
use crate::persist::directory;
use crate::queue::{self, grown_of};
use crate::ring::{Overflow, Producers, SlotRing};
use crate::shm::ring::RingMemory;
use crate::shm::words;
use crate::stream;
use crate::sync::Ordering;
use crate::sys::mapping::Mapping;
use crate::sys::{clock, file, host, lock};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often an open that races with creations and removals starts over.
const ATTEMPTS: usize = 100;

/// Compares the options that were given with those of an existing object.
macro_rules! compare_given {
    ($builder:expr, $existing:expr, $($field:ident)*) => {{
        let (wanted, existing) = (&$builder.definition, &$existing.definition);
        $(
            if $builder.given.$field && existing.$field != wanted.$field {
                return Err(OpenError::Mismatch {
                    path: $existing.path.clone(),
                    option: stringify!($field),
                    existing: format!("{:?}", existing.$field),
                    wanted: format!("{:?}", wanted.$field),
                });
            }
        )*
    }};
}
pub(super) use compare_given;

/// One object of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Length of its file; of a queue that has grown, and of a stream, of all its files; of a queue or a stream
    /// on disk that nobody has opened since the machine was started, of its journals.
    pub bytes: u64,
}

/// What an object is, by the first bytes of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A channel: every reader sees every record.
    Channel,
    /// A queue: every message is consumed once.
    Queue,
    /// A stream: sharded, ordered, read by any number, any number of times.
    Stream,
    /// None that this build knows; the doctor names it.
    Unknown,
}

impl ObjectKind {
    fn of(preamble: &Preamble) -> Self {
        match preamble.magic {
            layout::ring::MAGIC => Self::Channel,
            layout::queue::MAGIC => Self::Queue,
            layout::stream::MAGIC => Self::Stream,
            _ => Self::Unknown,
        }
    }
}

/// The first bytes of an object's file.
pub(super) fn preamble(path: &Path) -> io::Result<Preamble> {
    file::open_to_read(path).and_then(|file| object_file::read_header(&file))
}

/// Options for opening or creating a channel. An option that is given has to agree with an
/// existing channel; one that is not given takes the default at creation and is not compared.
#[must_use = "call open, create or open_or_create"]
pub struct ChannelBuilder {
    attachment: Arc<Attachment>,
    definition: Definition,
    given: Given,
    /// Whether it is a part of another object: its name begins with a period.
    is_hidden: bool,
}

#[derive(Default)]
struct Given {
    slots: bool,
    stride: bool,
    readers: bool,
    producers: bool,
    overflow: bool,
    stall_timeout: bool,
}

impl ChannelBuilder {
    pub(super) fn new(attachment: Arc<Attachment>, name: &str) -> Self {
        Self {
            attachment,
            definition: Definition::named(name),
            given: Given::default(),
            is_hidden: false,
        }
    }

    #[cfg(feature = "topics")]
    pub(super) fn hidden(mut self) -> Self {
        self.is_hidden = true;
        self
    }

    /// Slots, a power of two from 1,024 to 16,777,216. Default 32,768.
    pub fn slots(mut self, slots: u64) -> Self {
        self.definition.slots = slots;
        self.given.slots = true;
        self
    }

    /// Bytes from slot to slot, a multiple of 32 from 64 to 4,096; 32 of them are header, the rest
    /// holds short bodies. Default 128.
    pub fn stride(mut self, stride: u64) -> Self {
        self.definition.stride = stride;
        self.given.stride = true;
        self
    }

    /// Most readers at a time, 1 to 1,024. Default 64.
    pub fn readers(mut self, readers: u32) -> Self {
        self.definition.readers = readers;
        self.given.readers = true;
        self
    }

    /// Who may send. Default: shared, any number of producers.
    pub fn producers(mut self, producers: Producers) -> Self {
        self.definition.producers = producers;
        self.given.producers = true;
        self
    }

    /// What a full ring does. Default: it refuses.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.definition.overflow = overflow;
        self.given.overflow = true;
        self
    }

    /// After this long a live but stopped producer's claim is stepped over by readers that wait
    /// for it. 1 ms to 60 s, default 20 ms.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.definition.stall_timeout = timeout;
        self.given.stall_timeout = true;
        self
    }

    /// Asks for transparent huge pages (the file system must have them: tmpfs mounted with
    /// `huge=advise`); harmless where there are none.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.definition.huge_pages = huge_pages;
        self
    }

    /// Opens the channel. Blocks for the file system; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self) -> Result<Channel, OpenError> {
        self.check()?;
        self.attach()
    }

    /// Creates the channel. Blocks for the file system, and as long as its memory takes to be set aside;
    /// allocates.
    ///
    /// # Errors
    /// [`OpenError`]; `AlreadyExists` when there is one.
    pub fn create(self) -> Result<Channel, OpenError> {
        self.check()?;
        channel::create_ring(&self.attachment.site, &self.definition)?;
        self.attach()
    }

    /// Opens the channel, or creates it. Blocks as the two.
    ///
    /// # Errors
    /// [`OpenError`]; `Mismatch` when it exists with other values of given options.
    pub fn open_or_create(self) -> Result<Channel, OpenError> {
        self.check()?;
        let create = || channel::create_ring(&self.attachment.site, &self.definition);
        let name = &self.definition.name;
        self.attachment
            .open_or_create(name, || self.attach(), create)
    }

    fn check(&self) -> Result<(), OpenError> {
        self.attachment.check_fork()?;
        if !self.is_hidden {
            name::check(&self.definition.name)?;
        }
        self.definition.check()
    }

    pub(super) fn attach(&self) -> Result<Channel, OpenError> {
        let attachment = &self.attachment;
        // Noted before anything can be left there.
        attachment
            .registry
            .note_joined(&attachment.membership, name::hash(&self.definition.name));
        let ring = channel::open_ring(&attachment.site, &self.definition.name)?;
        self.compare(&ring)?;
        Ok(Channel {
            inner: Arc::new(Inner {
                ring: SlotRing::new(
                    ring.memory,
                    Arc::clone(&attachment.liveness) as _,
                    attachment.membership.slot,
                    ring.definition.producers,
                    ring.definition.overflow,
                    ring.definition.stall_timeout.as_nanos() as u64,
                ),
                definition: ring.definition,
                object_id: ring.object_id,
                segments: Arc::clone(&attachment.segments),
                path: ring.path,
                file: ring.file,
                mapping: ring.mapping,
                host: Arc::clone(attachment) as _,
            }),
        })
    }

    fn compare(&self, ring: &RingFile) -> Result<(), OpenError> {
        compare_given!(self, ring, slots stride readers producers overflow stall_timeout);
        Ok(())
    }
}

/// Opens an object of any kind, for what all kinds have in common.
pub(super) fn open_any(site: &Site, name: &str) -> Result<(Arc<Mapping>, RingMemory), OpenError> {
    match channel::open_ring(site, name) {
        Err(OpenError::Foreign { found, .. }) if found == layout::queue::MAGIC => {
            queue::open_queue(site, name).map(|queue| (queue.mapping, queue.memory))
        }
        opened => opened.map(|ring| (ring.mapping, ring.memory)),
    }
}

/// From here on nobody opens it, and who waits on it is told.
fn mark_removed(mapping: &Mapping, memory: &RingMemory) {
    words::word32(mapping, READY_OFFSET).store(REMOVED, Ordering::Release);
    memory.wake().fetch_add(1, Ordering::Release);
    crate::sys::futex::wake_all(memory.wake());
}

impl Attachment {
    /// Opens an object by `open`, or has `create` make it; starts over where others create and
    /// remove it meanwhile.
    pub(super) fn open_or_create<T>(
        &self,
        name: &str,
        open: impl Fn() -> Result<T, OpenError>,
        create: impl Fn() -> Result<(), OpenError>,
    ) -> Result<T, OpenError> {
        for _ in 0..ATTEMPTS {
            match open() {
                Err(OpenError::NotFound { .. }) => {}
                Err(OpenError::Removed { .. }) => self.finish_removal(name)?,
                other => return other,
            }
            match create() {
                Ok(()) | Err(OpenError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(OpenError::io(
            self.site.directory.join(name),
            io::Error::other("others keep creating and removing it"),
        ))
    }

    /// Every object, by name.
    pub(super) fn objects(&self) -> Result<Vec<ObjectInfo>, OpenError> {
        let directory = &self.site.directory;
        let mut objects = Vec::new();
        let names = file::names(directory).map_err(|e| OpenError::io(directory, e))?;
        // What queues grew by, by what that is named by.
        let mut grown: HashMap<u64, u64> = HashMap::new();
        // The shards of streams, by family.
        let mut shards: HashMap<u64, u64> = HashMap::new();
        for directory in self.grown_directories() {
            for name in file::names(&directory).unwrap_or_default() {
                if let Some((chain, _)) = grown_of(&name) {
                    let bytes = file::len(&directory.join(name)).unwrap_or(0);
                    *grown.entry(chain).or_default() += bytes;
                }
            }
        }
        for name in &names {
            if let Some((family, _)) = stream::shard_of(name) {
                let bytes = file::len(&directory.join(name)).unwrap_or(0);
                *shards.entry(family).or_default() += bytes;
            }
        }
        for name in names {
            if name.starts_with('.') {
                continue;
            }
            // One that was removed meanwhile is not there.
            let path = directory.join(&name);
            if let Ok(mut bytes) = file::len(&path) {
                let mut kind = ObjectKind::Unknown;
                if file::is_regular(&path)
                    && let Ok(preamble) = preamble(&path)
                {
                    kind = ObjectKind::of(&preamble);
                    if kind == ObjectKind::Queue {
                        let chain = queue::chain_of(&path).unwrap_or(preamble.object_id);
                        bytes += grown.get(&chain).copied().unwrap_or(0);
                    }
                    if kind == ObjectKind::Stream {
                        let family = stream::family_of(&self.site, &name);
                        let family = family.ok().and_then(|family| shards.get(&family));
                        bytes += family.copied().unwrap_or(0);
                    }
                }
                objects.push(ObjectInfo { name, kind, bytes });
            }
        }
        let of_kind = |kind| move |(name, bytes)| ObjectInfo { name, kind, bytes };
        let queues = queue::journals(&self.site).into_iter();
        let streams = stream::journals(&self.site).into_iter();
        let unopened = queues
            .map(of_kind(ObjectKind::Queue))
            .chain(streams.map(of_kind(ObjectKind::Stream)));
        for unopened in unopened {
            if !objects.iter().any(|object| object.name == unopened.name) {
                objects.push(unopened);
            }
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    /// Marks an object removed, wakes who waits on it, and takes its name away.
    pub(super) fn remove_object(&self, name: &str) -> Result<(), OpenError> {
        name::check(name)?;
        self.remove_any(name)
    }

    /// The same for an object that may be a part of another.
    pub(super) fn remove_any(&self, name: &str) -> Result<(), OpenError> {
        let path = self.site.directory.join(name);
        if preamble(&path).is_ok_and(|preamble| ObjectKind::of(&preamble) == ObjectKind::Stream) {
            return self.remove_stream(name);
        }
        // A damaged file is removed all the same: that is what its error message advises.
        self.remove_ring_file(name)
    }

    /// The same for the file of a ring, whatever it is called.
    pub(super) fn remove_ring_file(&self, name: &str) -> Result<(), OpenError> {
        let path = self.site.directory.join(name);
        match open_any(&self.site, name) {
            Ok((mapping, memory)) => {
                queue::check_journal_root(&self.site, name)?;
                mark_removed(&mapping, &memory);
                self.finish_removal(name)
            }
            Err(OpenError::Removed { .. }) => self.finish_removal(name),
            // Of a durable queue or stream that nobody has opened since the machine was started.
            Err(error @ OpenError::NotFound { .. }) => {
                let family = stream::family_in_journals(&self.site, name);
                if !self.remove_unopened(name)? {
                    // Made again while its maker was waited for: it is removed as one that is there.
                    let is_there = file::is_regular(&path) || queue::has_journal(&self.site, name)?;
                    return match is_there {
                        true => self.remove_any(name),
                        false => Err(error),
                    };
                }
                // By whoever was making it again, and read the journals before.
                let is_back =
                    family.is_some() && stream::family_of(&self.site, name).ok() == family;
                match is_back {
                    true => self.remove_stream(name),
                    false => Ok(()),
                }
            }
            Err(error @ OpenError::Permission { .. }) => Err(error),
            Err(_) => file::remove(&path).map_err(|e| OpenError::io(&path, e)),
        }
    }

    /// Takes a queue away again that was made from a journal which was removed meanwhile, if the one of that name is
    /// that: its rings are named by `chain`, which comes once.
    pub(super) fn remove_queue_again(&self, name: &str, chain: u64) -> Result<(), OpenError> {
        match queue::open_queue(&self.site, name) {
            Ok(made) if made.chain_id == chain => mark_removed(&made.mapping, &made.memory),
            Ok(_) | Err(OpenError::NotFound { .. } | OpenError::Removed { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.finish_removal(name)
    }

    /// Removes the journals under a name of which nothing else is there; whether there were any.
    fn remove_unopened(&self, name: &str) -> Result<bool, OpenError> {
        match &self.site.journals {
            Some(journals) => {
                directory::remove_unopened(&journals.join(name), &self.site.directory.join(name))
            }
            None => Ok(false),
        }
    }

    /// Removes the journals under the name of a removed object, if they are its own: those of another one, which
    /// nobody has opened since the machine was started, may lie there.
    fn remove_journals(&self, name: &str, removed: &std::fs::File) -> Result<(), OpenError> {
        let Some(journals) = self.site.journals.as_ref().map(|all| all.join(name)) else {
            return Ok(());
        };
        let owns = |journals: &Path| match object_file::read_header::<Preamble>(removed) {
            Ok(preamble) => match ObjectKind::of(&preamble) {
                ObjectKind::Queue => queue::owns_journal(journals, removed),
                ObjectKind::Stream => stream::owns_journals(journals, removed),
                _ => false,
            },
            Err(_) => false,
        };
        if owns(&journals) {
            let path = self.site.directory.join(name);
            // As long as it has its name, there is no other one whose they could be.
            let is_its = |there: &Path| Ok(file::leads_to(&path, removed)? && owns(there));
            directory::remove(&journals, is_its)?;
        }
        Ok(())
    }

    /// Takes the name of a file that is marked removed. Everyone who does so holds the lock byte
    /// of that very file while it still has the name, so a fresh object of the same name is never
    /// hit. While somebody has a seat in it, it stays under another name: the sweeps must know that
    /// its chunks are looked at.
    pub(super) fn finish_removal(&self, name: &str) -> Result<(), OpenError> {
        let path = self.site.directory.join(name);
        let at = |error| OpenError::io(&path, error);
        let file = match file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(error)),
        };
        if !lock::try_lock(&file, RESET_LOCK).map_err(at)? {
            // Somebody else is at it.
            clock::pause(Duration::from_millis(1));
            return Ok(());
        }
        let removed = object_file::read_header::<Preamble>(&file)
            .map_err(at)?
            .ready
            == REMOVED;
        if removed && file::is_at(&file, &path) {
            // Before the name goes: from a journal the object would be made again.
            self.remove_journals(name, &file)?;
            let aside = format!("{REMOVED_PREFIX}{:016x}", host::random_u64());
            file::publish(&path, &self.site.directory.join(aside)).map_err(at)?;
            self.delete_removed_rings()?;
        }
        Ok(())
    }
}
