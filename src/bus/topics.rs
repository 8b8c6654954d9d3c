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
use crate::queue::{Queue, QueueKind};
use crate::ring::Overflow;
use crate::stream::Stream;
use crate::sys::file;
use crate::topic::{self, Dispatcher, Surroundings, Topic, TopicDefinition, TopicInner, TopicKind};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::catalog::ChannelBuilder;
use super::queues::QueueBuilder;
use super::streams::StreamBuilder;

/// Hidden objects of topics begin so.
const TRANSIT_PREFIX: &str = ".transit-";
const LISTEN_PREFIX: &str = ".listen-";
const ARCHIVE_PREFIX: &str = ".archive-";
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
/// Bytes that it may grow to.
const TRANSIT_BYTES: u64 = 1 << 30;
/// The largest message: that of SNS with all its attributes, and the head.
const TRANSIT_MESSAGE_BYTES: u64 = 4 << 20;
/// As long as a message of a queue may live.
const TRANSIT_RETENTION: Duration = Duration::from_secs(14 * 86_400);
/// What a reaper hands on at most of what a dead publisher left.
const HANDED_ON: usize = 1024;

/// Options for opening or creating a topic. An option that is given has to agree with an existing topic.
#[must_use = "call open, create or open_or_create"]
pub struct TopicBuilder {
    attachment: Arc<Attachment>,
    definition: TopicDefinition,
    kind_given: bool,
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
            },
            kind_given: false,
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

    /// Opens the topic.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self) -> Result<Topic, OpenError> {
        self.check()?;
        self.attach()
    }

    /// Creates the topic: a page, and nothing else before its first use.
    ///
    /// # Errors
    /// [`OpenError`]; `AlreadyExists` when there is one.
    pub fn create(self) -> Result<Topic, OpenError> {
        self.check()?;
        self.make()?;
        self.attach()
    }

    /// Opens the topic, or creates it.
    ///
    /// # Errors
    /// [`OpenError`]; `Mismatch` when it exists as another kind.
    pub fn open_or_create(self) -> Result<Topic, OpenError> {
        self.check()?;
        loop {
            match self.attach() {
                Err(OpenError::NotFound { .. }) => {}
                // Its remover died half-way, or is about to finish.
                Err(OpenError::Removed { .. }) => {
                    match self.attachment.remove_topic(&self.definition.name) {
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
        Ok(())
    }

    fn make(&self) -> Result<(), OpenError> {
        let site = self.attachment.topics_site();
        match topic::create_topic(site, &self.definition) {
            Err(OpenError::NotFound { .. }) => {
                let made = file::create_directory(&site.directory, site.access);
                match made {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        Err(OpenError::io(&site.directory, error))
                    }
                    _ => topic::create_topic(site, &self.definition),
                }
            }
            other => other,
        }
    }

    pub(super) fn attach(&self) -> Result<Topic, OpenError> {
        let site = self.attachment.topics_site();
        let opened = topic::open_topic(site, &self.definition.name)?;
        let (existing, wanted) = (opened.definition.kind, self.definition.kind);
        if self.kind_given && existing != wanted {
            return Err(OpenError::Mismatch {
                path: site.directory.join(&self.definition.name),
                option: "kind",
                existing: format!("{existing:?}"),
                wanted: format!("{wanted:?}"),
            });
        }
        Ok(Topic {
            inner: Arc::new(TopicInner {
                name: opened.definition.name.clone(),
                definition: opened.definition,
                id: opened.id,
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
        names.sort();
        Ok(names)
    }

    pub(super) fn remove_topic(&self, name: &str) -> Result<(), OpenError> {
        topic::remove_topic_files(self.topics_site(), name, || {
            for prefix in [TRANSIT_PREFIX, LISTEN_PREFIX, ARCHIVE_PREFIX] {
                match self.remove_any(&format!("{prefix}{name}")) {
                    Err(OpenError::NotFound { .. }) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    /// Topics that can't be opened; those that were removed half-way are removed.
    pub(super) fn examine_topics(&self, heal: bool, report: &mut Report) -> Result<(), OpenError> {
        for name in self.topics()? {
            match topic::open_topic(self.topics_site(), &name) {
                Ok(_) | Err(OpenError::NotFound { .. }) => {}
                Err(OpenError::Removed { .. }) if heal => match self.remove_topic(&name) {
                    Ok(()) | Err(OpenError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                },
                Err(error) => report.broken_objects.push(error.to_string()),
            }
        }
        Ok(())
    }

    /// The topic whose transit has this file name.
    pub(super) fn topic_of(file_name: &str) -> Option<&str> {
        file_name.strip_prefix(TRANSIT_PREFIX)
    }

    /// Hands on what waits in these topics. What can't be now is left to the next.
    pub(super) fn hand_on(self: &Arc<Self>, topics: &[String]) {
        for name in topics {
            let topic = TopicBuilder::new(Arc::clone(self), name).open();
            let dispatched = topic.map(|topic| {
                let dispatcher = topic.dispatcher();
                dispatcher.and_then(|mut dispatcher: Dispatcher| dispatcher.dispatch(HANDED_ON))
            });
            drop(dispatched);
        }
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
        let name = format!("{TRANSIT_PREFIX}{}", topic.name);
        let is_observer = self.site.observed;
        let builder = QueueBuilder::new(self, &name).hidden();
        if is_observer {
            return builder.attach();
        }
        let builder = builder
            .retention(TRANSIT_RETENTION)
            .max_message_bytes(TRANSIT_MESSAGE_BYTES);
        match topic.definition.kind {
            QueueKind::Standard => builder.slots(TRANSIT_SLOTS).max_bytes(TRANSIT_BYTES),
            QueueKind::Fifo => builder.fifo(),
        }
        .open_or_create()
    }

    fn listeners(self: Arc<Self>, topic: &TopicInner) -> Result<Channel, OpenError> {
        let name = format!("{LISTEN_PREFIX}{}", topic.name);
        let is_observer = self.site.observed;
        let builder = ChannelBuilder::new(self, &name).hidden();
        if is_observer {
            return builder.attach();
        }
        // A ring that refuses waits for its reliable readers, listeners that block, and for nobody else.
        builder
            .slots(topic.definition.listen_slots)
            .stride(LISTEN_STRIDE)
            .open_or_create()
    }

    fn archive(self: Arc<Self>, topic: &TopicInner) -> Result<Channel, OpenError> {
        let name = format!("{ARCHIVE_PREFIX}{}", topic.name);
        ChannelBuilder::new(self, &name)
            .hidden()
            .slots(topic.definition.archive_slots)
            .stride(LISTEN_STRIDE)
            .overflow(Overflow::DropOldest)
            .open_or_create()
    }

    fn queue(self: Arc<Self>, name: &str) -> Result<Queue, OpenError> {
        QueueBuilder::new(self, name).open()
    }

    fn stream(self: Arc<Self>, name: &str) -> Result<Stream, OpenError> {
        StreamBuilder::new(self, name).open()
    }
}
