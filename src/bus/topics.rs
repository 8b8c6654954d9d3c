//! Opening, creating and removing topics, and what topics need of their bus.
//!
//! They lie in a directory of their own, made with the first of them: who sweeps rings does not see a
//! hundred thousand topics. A topic's transit and listeners' ring are objects whose names begin with a
//! period: swept and healed as all others, and not in the catalog.

use super::attachment::{Attachment, Bus};
use super::doctor::Report;
use super::{TOPICS, name};
use crate::channel::Channel;
use crate::error::OpenError;
use crate::layout::ring::{MAX_SLOTS, MIN_SLOTS};
use crate::object::Site;
use crate::queue::{Durability, Queue, QueueKind};
use crate::ring::Overflow;
use crate::stream::Stream;
use crate::sync;
use crate::sys::{file, host};
use crate::topic::{
    self, Dispatcher, Gate, Surroundings, Topic, TopicDefinition, TopicInner, TopicKind,
};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::catalog::ChannelBuilder;
use super::queues::QueueBuilder;
use super::streams::StreamBuilder;

/// Hidden objects of topics begin so.
const TRANSIT_PREFIX: &str = ".transit-";
const LISTEN_PREFIX: &str = ".listen-";
const ARCHIVE_PREFIX: &str = ".archive-";
const PREFIXES: [&str; 3] = [TRANSIT_PREFIX, LISTEN_PREFIX, ARCHIVE_PREFIX];
/// Slots of an archive, when its creator does not say.
const DEFAULT_ARCHIVE_SLOTS: u64 = 64 * 1024;
/// Longest time for which a topic keeps its messages, in days.
const MAX_ARCHIVE_DAYS: u32 = 365;
/// Slots of the ring of a topic's listeners, when its creator does not say.
const DEFAULT_LISTEN_SLOTS: u64 = 16 * 1024;
/// Bytes from slot to slot there and in an archive: 136 bytes of body beside the head of a message.
const LISTEN_STRIDE: u64 = 256;
/// Slots of the first ring of a standard transit, which mostly holds a handful of messages.
const TRANSIT_SLOTS: u64 = 1024;
/// Slots of a standard transit on disk, which does not grow.
const DURABLE_TRANSIT_SLOTS: u64 = 16 * 1024;
/// Bytes that it may grow to.
const TRANSIT_BYTES: u64 = 1 << 30;
/// The largest message: that of SNS with all its attributes, and the head.
const TRANSIT_MESSAGE_BYTES: u64 = 4 << 20;
/// As long as a message of a queue may live.
const TRANSIT_RETENTION: Duration = Duration::from_secs(14 * 86_400);
/// What a reaper hands on at most of what a dead publisher left.
const HANDED_ON: usize = 1024;
/// The same where each waits for the disk.
const HANDED_ON_TO_DISK: usize = 64;

/// Options for opening or creating a topic. An option that is given has to agree with an existing topic.
#[must_use = "call open, create or open_or_create"]
pub struct TopicBuilder {
    attachment: Arc<Attachment>,
    definition: TopicDefinition,
    kind_given: bool,
    durability_given: bool,
}

impl TopicBuilder {
    pub(super) fn new(attachment: Arc<Attachment>, name: &str) -> Self {
        Self {
            attachment,
            definition: TopicDefinition {
                name: name.to_owned(),
                kind: TopicKind::Standard,
                listen_slots: DEFAULT_LISTEN_SLOTS,
                archive_days: 0,
                archive_slots: DEFAULT_ARCHIVE_SLOTS,
                durability: Durability::Memory,
            },
            kind_given: false,
            durability_given: false,
        }
    }

    /// A FIFO topic (`FifoTopic`): order within each message group, and repeats of a deduplication id, or of
    /// a body, within five minutes are not published. Default: a standard topic.
    pub fn fifo(mut self) -> Self {
        self.definition.kind = TopicKind::Fifo;
        self.kind_given = true;
        self
    }

    /// So many messages a listener may be behind, a power of two from 1,024 to 16,777,216. Default 16,384.
    pub fn listen_slots(mut self, slots: u64) -> Self {
        self.definition.listen_slots = slots;
        self
    }

    /// A FIFO topic keeps its messages so many days, 1 to 365, to be replayed to new subscriptions
    /// (`ArchivePolicy`, `MessageRetentionPeriod`), as far as they fit into
    /// [`archive_slots`](Self::archive_slots). Default: it keeps none.
    pub fn archive_days(mut self, days: u32) -> Self {
        self.definition.archive_days = days;
        self
    }

    /// So many messages are kept at most, a power of two from 1,024 to 16,777,216; 256 bytes each in
    /// memory, and what does not fit into them in the bus's pool. Default 65,536.
    pub fn archive_slots(mut self, slots: u64) -> Self {
        self.definition.archive_slots = slots;
        self
    }

    /// What the topic survives. Default: [`Durability::Memory`].
    ///
    /// Of a durable topic a publish returns when the message is on disk, under the
    /// [`journal_root`](crate::Builder::journal_root) of the bus, and so does a change of its subscriptions. Behind a
    /// restart of the machine [`open`](Self::open) and [`open_or_create`](Self::open_or_create) find it with its
    /// subscriptions and everything that was published and not delivered. What a message is worth once it was
    /// delivered is up to the queue or stream that has it. `Async` is not possible.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.definition.durability = durability;
        self.durability_given = true;
        self
    }

    /// Opens the topic.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self) -> Result<Topic, OpenError> {
        self.check()?;
        match self.attach() {
            Err(OpenError::NotFound { .. }) if self.recover()? => self.attach(),
            attached => attached,
        }
    }

    /// Creates the topic: a page, and nothing else before its first use.
    ///
    /// # Errors
    /// [`OpenError`]; `AlreadyExists` when there is one.
    pub fn create(self) -> Result<Topic, OpenError> {
        self.check()?;
        let (site, name) = (self.attachment.topics_site(), &self.definition.name);
        loop {
            if topic::kept_topic(site, name)?.is_some() {
                let path = site.directory.join(name);
                return Err(OpenError::AlreadyExists { path });
            }
            match self.make() {
                Ok(()) => break,
                // Unless what has the name is nothing but a page in memory whose file is gone.
                Err(error @ OpenError::AlreadyExists { .. }) => {
                    match topic::open_kept_topic(site, name) {
                        Err(OpenError::NotFound { .. }) => {}
                        _ => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        match self.attach() {
            // It is there, and its name is still that of one that is being removed.
            Err(OpenError::Removed { .. }) => self.open_or_create(),
            attached => attached,
        }
    }

    /// Opens the topic, or creates it.
    ///
    /// # Errors
    /// [`OpenError`]; `Mismatch` when it exists as another kind.
    pub fn open_or_create(self) -> Result<Topic, OpenError> {
        self.check()?;
        loop {
            match self.attach() {
                Err(OpenError::NotFound { .. }) if self.recover()? => continue,
                Err(OpenError::NotFound { .. }) => {}
                // Its remover died half-way, or is about to finish.
                Err(OpenError::Removed { .. }) => {
                    match self.attachment.remove_marked_topic(&self.definition.name) {
                        Ok(()) | Err(OpenError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                other => return other,
            }
            match self.make() {
                Ok(()) | Err(OpenError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        self.attachment.check_fork()?;
        name::check(&self.definition.name)?;
        let definition = &self.definition;
        for (option, slots) in [
            ("listen_slots", definition.listen_slots),
            ("archive_slots", definition.archive_slots),
        ] {
            if !slots.is_power_of_two() || !(MIN_SLOTS..=MAX_SLOTS).contains(&slots) {
                return Err(OpenError::InvalidOption {
                    option,
                    given: slots.to_string(),
                    rule: format!("a power of two from {MIN_SLOTS} to {MAX_SLOTS}"),
                });
            }
        }
        let days = definition.archive_days;
        if days > MAX_ARCHIVE_DAYS || days > 0 && definition.kind != TopicKind::Fifo {
            return Err(OpenError::InvalidOption {
                option: "archive_days",
                given: days.to_string(),
                rule: format!("1 to {MAX_ARCHIVE_DAYS}, of a FIFO topic"),
            });
        }
        let is_durable = definition.durability != Durability::Memory;
        if definition.durability == Durability::Async || is_durable && days > 0 {
            return Err(OpenError::InvalidOption {
                option: "durability",
                given: format!("{:?}", definition.durability),
                rule:
                    "Memory, or Durable without an archive; a durable stream that subscribes is one"
                        .to_owned(),
            });
        }
        Ok(())
    }

    fn make(&self) -> Result<(), OpenError> {
        let site = self.attachment.topics_site();
        if self.definition.durability != Durability::Memory {
            // Written down first; then it is made as behind a restart.
            let id = host::random_u64() | 1;
            topic::keep_topic(site, &self.definition, id)?;
            let made = self.recover().map(drop);
            if made.is_err() {
                topic::take_topic_back(site, &self.definition.name, id)?;
            }
            return made;
        }
        self.with_directory(|| topic::create_topic(site, &self.definition))
    }

    /// Makes a topic again that is on disk and not in memory; whether it is there now.
    fn recover(&self) -> Result<bool, OpenError> {
        let (site, me) = (self.attachment.topics_site(), self.attachment.me());
        if site.observed {
            return Ok(false);
        }
        self.with_directory(|| topic::recover_topic(site, me, &self.definition.name))
    }

    /// Makes the directory of topics, if there is none, and does it again.
    fn with_directory<T>(&self, make: impl Fn() -> Result<T, OpenError>) -> Result<T, OpenError> {
        let site = self.attachment.topics_site();
        match make() {
            Err(OpenError::NotFound { .. }) => {
                let made = file::create_directory(&site.directory, site.access);
                match made {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        Err(OpenError::io(&site.directory, error))
                    }
                    _ => make(),
                }
            }
            other => other,
        }
    }

    pub(super) fn attach(&self) -> Result<Topic, OpenError> {
        let site = self.attachment.topics_site();
        let opened = topic::open_kept_topic(site, &self.definition.name)?;
        let (existing, wanted) = (opened.definition.kind, self.definition.kind);
        if self.kind_given && existing != wanted {
            return Err(OpenError::Mismatch {
                path: site.directory.join(&self.definition.name),
                option: "kind",
                existing: format!("{existing:?}"),
                wanted: format!("{wanted:?}"),
            });
        }
        let (existing, wanted) = (opened.definition.durability, self.definition.durability);
        if self.durability_given && existing != wanted {
            return Err(OpenError::Mismatch {
                path: site.directory.join(&self.definition.name),
                option: "durability",
                existing: format!("{existing:?}"),
                wanted: format!("{wanted:?}"),
            });
        }
        Ok(Topic {
            inner: Arc::new(TopicInner {
                name: opened.definition.name.clone(),
                definition: opened.definition,
                id: opened.id,
                part: opened.part,
                mapping: opened.mapping,
                host: Arc::clone(&self.attachment) as _,
            }),
        })
    }
}

impl Bus {
    /// Begins to open or create the topic `name`.
    pub fn topic(&self, name: &str) -> TopicBuilder {
        TopicBuilder::new(Arc::clone(&self.inner), name)
    }

    /// Names of the topics, in order.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn topics(&self) -> Result<Vec<String>, OpenError> {
        self.inner.check_fork()?;
        self.inner.topics()
    }

    /// Removes a topic with its subscriptions and what waits to be handed on. Who has it open gets `Removed`.
    ///
    /// # Errors
    /// [`OpenError::NotFound`], or the system refuses.
    pub fn remove_topic(&self, name: &str) -> Result<(), OpenError> {
        self.inner.check_fork()?;
        name::check(name)?;
        self.inner.remove_topic(name)
    }
}

impl Attachment {
    pub(super) fn topics_site_of(site: &Site, directory: &std::path::Path) -> Site {
        Site {
            directory: directory.join(TOPICS),
            ..site.clone()
        }
    }

    pub(super) fn topics(&self) -> Result<Vec<String>, OpenError> {
        let directory = &self.topics_site().directory;
        let mut names = match file::names(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|error| OpenError::io(directory, error))?,
        };
        names.retain(|name| !name.starts_with('.'));
        names.extend(topic::kept_topics(self.topics_site()));
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub(super) fn remove_topic(&self, name: &str) -> Result<(), OpenError> {
        loop {
            let missing = match self.remove_open_topic(name) {
                Err(error @ OpenError::NotFound { .. }) => error,
                removed => return removed,
            };
            // Nobody has asked for it since the machine was started.
            match topic::kept_topic(self.topics_site(), name) {
                Ok(None) => return Err(missing),
                Ok(Some(_)) => {
                    let own = self.own.upgrade().ok_or(OpenError::Forked)?;
                    match TopicBuilder::new(own, name).open() {
                        Ok(_) | Err(OpenError::NotFound { .. } | OpenError::Removed { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(OpenError::Scribbled { .. }) => {
                    if self.remove_damaged_topic(name)? {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One that nobody can make again: what is written down of it, and the journals of its transit; whether it did.
    fn remove_damaged_topic(&self, name: &str) -> Result<bool, OpenError> {
        let journals = self.site.journals.as_deref();
        // Before another one can have the name: it has an id of its own.
        let names = journals.map_or(Ok(Vec::new()), file::names);
        let is_its = |file: &String| {
            let part = file.strip_prefix(TRANSIT_PREFIX).and_then(topic::part_of);
            part.is_some_and(|(of, _)| of == name)
        };
        let transits: Vec<_> = names
            .unwrap_or_default()
            .into_iter()
            .filter(is_its)
            .collect();
        if !topic::remove_damaged_topic(self.topics_site(), name)? {
            return Ok(false);
        }
        for transit in transits {
            self.remove_part(&transit)?;
        }
        Ok(true)
    }

    fn remove_open_topic(&self, name: &str) -> Result<(), OpenError> {
        topic::remove_topic_files(self.topics_site(), name, |part| self.remove_parts(part))
    }

    /// One that somebody has begun to remove, and no other.
    fn remove_marked_topic(&self, name: &str) -> Result<(), OpenError> {
        topic::remove_marked_topic(self.topics_site(), name, |part| self.remove_parts(part))
    }

    fn remove_parts(&self, part: &str) -> Result<(), OpenError> {
        for prefix in PREFIXES {
            match self.remove_any(&format!("{prefix}{part}")) {
                Err(OpenError::NotFound { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Topics that can't be opened; those that were removed half-way are removed, and so are parts of topics
    /// that are gone.
    pub(super) fn examine_topics(&self, heal: bool, report: &mut Report) -> Result<(), OpenError> {
        for name in self.topics()? {
            match topic::open_topic(self.topics_site(), &name) {
                Ok(_) | Err(OpenError::NotFound { .. }) => {}
                Err(OpenError::Removed { .. }) if heal => match self.remove_marked_topic(&name) {
                    Ok(()) | Err(OpenError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                },
                Err(error) => report.broken_objects.push(error.to_string()),
            }
            if let Err(error @ OpenError::Scribbled { .. }) =
                topic::kept_topic(self.topics_site(), &name)
            {
                report.broken_objects.push(error.to_string());
            }
        }
        report.temporary_files += self.orphan_parts(heal)? + self.orphan_policies(heal);
        Ok(())
    }

    /// Parts of topics that are gone: their maker was late, and died.
    fn orphan_parts(&self, heal: bool) -> Result<u64, OpenError> {
        let mut orphans = 0;
        for file in self.ring_files()? {
            if self.topic_of(&file).is_gone() {
                orphans += 1;
                if heal {
                    self.remove_part(&file)?;
                }
            }
        }
        let directory = &self.topics_site().directory;
        for file in file::names(directory).unwrap_or_default() {
            let part = file.strip_prefix(topic::LOG_PREFIX);
            if part.is_some_and(|part| self.topic_of_part(part).is_gone()) {
                orphans += 1;
                if heal {
                    let _ = file::remove(&directory.join(&file));
                }
            }
        }
        Ok(orphans)
    }

    /// The topic that the object of this name is a part of.
    fn topic_of(&self, file: &str) -> PartOf {
        let part = PREFIXES.iter().find_map(|prefix| file.strip_prefix(prefix));
        part.map_or(PartOf::None, |part| self.topic_of_part(part))
    }

    fn topic_of_part(&self, part: &str) -> PartOf {
        // One of an earlier build carries a name alone.
        for name in [topic::part_of(part).map_or(part, |(name, _)| name), part] {
            match topic::open_topic(self.topics_site(), name) {
                Ok(opened) if opened.part == part => return PartOf::Topic(name.to_owned()),
                Ok(_) | Err(OpenError::NotFound { .. }) => {}
                Err(_) => return PartOf::None, // its removal takes its parts along, or nobody knows
            }
        }
        PartOf::Gone
    }

    fn remove_part(&self, file: &str) -> Result<(), OpenError> {
        match self.remove_any(file) {
            Ok(()) | Err(OpenError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether an object of this name is a part of a topic.
    pub(super) fn is_part(file: &str) -> bool {
        PREFIXES.iter().any(|prefix| file.starts_with(prefix))
    }

    /// Hands on what waits in the topics that these objects are parts of, and removes those whose topic is
    /// gone. What can't be now is left to the next.
    pub(super) fn hand_on(self: &Arc<Self>, parts: &[String]) {
        for file in parts {
            match self.topic_of(file) {
                PartOf::Topic(name) if file.starts_with(TRANSIT_PREFIX) => {
                    let topic = TopicBuilder::new(Arc::clone(self), &name).open();
                    let dispatched = topic.map(|topic| {
                        let dispatcher = topic.dispatcher();
                        let most = match topic.definition().durability {
                            Durability::Memory => HANDED_ON,
                            _ => HANDED_ON_TO_DISK,
                        };
                        dispatcher.and_then(|mut dispatcher: Dispatcher| dispatcher.dispatch(most))
                    });
                    drop(dispatched);
                }
                PartOf::Gone => drop(self.remove_part(file)),
                PartOf::Topic(_) | PartOf::None => {}
            }
        }
    }

    /// Takes the part `file` away again if its topic was removed while it was made: its remover may have
    /// looked before it was there.
    fn made<T>(&self, topic: &TopicInner, file: &str, part: T) -> Result<T, OpenError> {
        // The file before the mark: its remover has the opposite order.
        sync::fence(sync::Ordering::SeqCst);
        if !topic.is_removed() {
            return Ok(part);
        }
        drop(part);
        self.remove_part(file)?;
        Err(topic.removed())
    }
}

/// What topic something is a part of.
enum PartOf {
    /// The one of this name.
    Topic(String),
    /// One that is gone.
    Gone,
    /// None, or nobody can tell now.
    None,
}

impl PartOf {
    fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
}

impl Surroundings for Attachment {
    fn site(&self) -> &Site {
        self.topics_site()
    }

    fn me(&self) -> u16 {
        self.membership.slot
    }

    fn transit(self: Arc<Self>, topic: &TopicInner) -> Result<Queue, OpenError> {
        let name = format!("{TRANSIT_PREFIX}{}", topic.part);
        let builder = QueueBuilder::new(Arc::clone(&self), &name).hidden();
        if self.site.observed {
            return builder.attach();
        }
        let builder = builder
            .retention(TRANSIT_RETENTION)
            .max_message_bytes(TRANSIT_MESSAGE_BYTES);
        let is_durable = topic.definition.durability != Durability::Memory;
        let queue = match topic.definition.kind {
            QueueKind::Standard if is_durable => builder.slots(DURABLE_TRANSIT_SLOTS),
            QueueKind::Standard => builder.slots(TRANSIT_SLOTS).max_bytes(TRANSIT_BYTES),
            QueueKind::Fifo => builder.fifo(),
        }
        .durability(topic.definition.durability)
        .open_or_create()?;
        self.made(topic, &name, queue)
    }

    fn listeners(self: Arc<Self>, topic: &TopicInner) -> Result<Channel, OpenError> {
        let name = format!("{LISTEN_PREFIX}{}", topic.part);
        let builder = ChannelBuilder::new(Arc::clone(&self), &name).hidden();
        if self.site.observed {
            return builder.attach();
        }
        // A ring that refuses waits for its reliable readers, listeners that block, and for nobody else.
        let ring = builder
            .slots(topic.definition.listen_slots)
            .stride(LISTEN_STRIDE)
            .open_or_create()?;
        self.made(topic, &name, ring)
    }

    fn archive(self: Arc<Self>, topic: &TopicInner) -> Result<Channel, OpenError> {
        let name = format!("{ARCHIVE_PREFIX}{}", topic.part);
        let ring = ChannelBuilder::new(Arc::clone(&self), &name)
            .hidden()
            .slots(topic.definition.archive_slots)
            .stride(LISTEN_STRIDE)
            .overflow(Overflow::DropOldest)
            .open_or_create()?;
        self.made(topic, &name, ring)
    }

    fn bus(&self) -> &str {
        &self.name
    }

    fn queue(self: Arc<Self>, name: &str) -> Result<(Queue, Arc<dyn Gate>), OpenError> {
        self.of_bus(name, |attachment, name| {
            let queue = QueueBuilder::new(Arc::clone(attachment), name).open()?;
            Ok((queue, Arc::clone(attachment) as Arc<dyn Gate>))
        })
    }

    fn stream(self: Arc<Self>, name: &str) -> Result<Stream, OpenError> {
        self.of_bus(name, |attachment, name| {
            StreamBuilder::new(Arc::clone(attachment), name).open()
        })
    }
}

/// Whether an object of that name has journals among these.
fn has_journals(journals: Option<&Path>, name: &str) -> bool {
    let is_name = name::check(name).is_ok();
    journals.is_some_and(|journals| is_name && file::is_directory(&journals.join(name)))
}

impl Attachment {
    /// Opens an object of this bus, or `BUS/NAME` of another one under the same roots. This process takes part
    /// in that bus as long as it has something open there.
    fn of_bus<T>(
        self: &Arc<Self>,
        name: &str,
        open: impl Fn(&Arc<Self>, &str) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let Some((bus, name)) = name.split_once('/') else {
            return open(self, name);
        };
        self.check_fork()?;
        if bus == self.name {
            return open(self, name);
        }
        name::check(bus)?;
        // One thread of a process at a time; who forks meanwhile is refused above in the child.
        let mut buses = self.buses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = buses.get(bus).and_then(Weak::upgrade)
            && let Ok(opened) = open(&known, name)
        {
            return Ok(opened);
        }
        // It may have been removed and made again meanwhile.
        let mut builder = Bus::builder(bus).participant_name(&format!("topics of {}", self.name));
        if let Some(root) = self.directory.parent() {
            builder = builder.root(root);
        }
        if let Some(journals) = self.site.journals.as_deref().and_then(Path::parent) {
            builder = builder.journal_root(journals);
        }
        let journals = builder.journals();
        let there = match builder.open() {
            // It was there, and is again when somebody opens that bus.
            Err(OpenError::NotFound { path }) if has_journals(journals.as_deref(), name) => {
                return Err(OpenError::OtherBoot { path });
            }
            opened => opened?.inner,
        };
        let opened = open(&there, name)?;
        buses.insert(bus.to_owned(), Arc::downgrade(&there));
        Ok(opened)
    }
}
