//! Looking at a bus without taking part in it.
//!
//! An observer has no entry in the registry, holds no lock, and maps every file privately: what it loads is
//! what is there, and whatever a look stores (a change of a stream that it goes on with to see its end, a
//! damaged slot that it gives up) goes into a page of its own, which the kernel makes for it and nobody else
//! sees. It opens files to be read, and makes, writes and removes none (`Site::observed`). So it needs no
//! more than permission to read, nobody knows that it is there, and dying in it leaves nothing.
//!
//! A page that was stored into does not follow the others any more: an observer is for one look, and who
//! looks again opens another. Each object is opened for its look and closed behind it; one that is gone,
//! damaged or of another build is an error of that look alone.

use super::attachment::{Attachment, Bus};
use super::catalog::{ChannelBuilder, ObjectInfo};
use super::name;
use super::queues::QueueBuilder;
use super::registry::ParticipantInfo;
use super::streams::StreamBuilder;
#[cfg(feature = "topics")]
use super::topics::TopicBuilder;
use crate::channel::{ChannelStats, Definition};
use crate::error::{OpenError, ParticipantId, ShardId};
use crate::layout::bus::ROLES;
use crate::layout::word::Ctl;
use crate::queue::{QueueDefinition, QueueSettings, QueueStats};
use crate::ring::SlotRing;
use crate::stream::{
    ConsumerInfo, GroupInfo, ShardInfo, ShardState, StreamDefinition, StreamStats,
};
use crate::sync::Ordering;
#[cfg(feature = "topics")]
use crate::{
    error::PublishError,
    topic::{TopicDefinition, TopicStats},
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A look at a bus, made by [`Builder::observe`](crate::Builder::observe): it takes no part, needs permission
/// to read and no more, and nothing that it does changes anything.
///
/// For one look: what it says of an object is as of that call, and what it says of participants may stay as
/// it was; open another one for the next look. Thread-safe. Every call opens files and allocates.
///
/// A file that is made shorter in the middle of a look ends the process by SIGBUS, as everywhere; one that
/// was before is refused.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-observe-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// bus.queue("orders").open_or_create()?.sender()?.send(b"order 1")?;
///
/// let observer = ringway::Bus::builder("demo").root(&root).observe()?;
/// assert_eq!(observer.queue("orders")?.stats.visible, 1);
/// assert_eq!(observer.participants().len(), 1); // that of `bus`
/// # drop((observer, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
pub struct Observer {
    bus: Bus,
}

/// The payload pool of a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Segment files.
    pub segments: u64,
    /// Bytes of all their chunks.
    pub bytes: u64,
    /// Bytes that they may grow to.
    pub quota_bytes: u64,
    /// Chunks that are free.
    pub free: u64,
    /// Chunks in a participant's hands.
    pub owned: u64,
    /// Chunks that a record or message refers to.
    pub attached: u64,
}

/// What one participant holds of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub participant: ParticipantId,
    /// Slots that it has claimed and not committed; of one that was stepped over they stay its own.
    pub claims: u64,
    /// Messages that it has received, and whose lease runs, or that it is moving to another queue.
    pub leases: u64,
}

/// A channel, as it was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObservedChannel {
    /// How it was created.
    pub definition: Definition,
    /// Its positions, readers and counters.
    pub stats: ChannelStats,
    /// Who holds claims, by participant.
    pub holders: Vec<Holder>,
}

/// A queue, as it was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObservedQueue {
    /// Its object id, the first part of every receipt.
    pub id: u64,
    /// Its shape.
    pub definition: QueueDefinition,
    /// What it does with its messages.
    pub settings: QueueSettings,
    /// Its messages and totals.
    pub stats: QueueStats,
    /// Positions that were given in its last ring, and before it: while [`QueueStats::grown`] stays what it
    /// is, each message that was sent, and each claim that was given up, has made it one more. Totals of
    /// `stats` follow by up to 63 of each sender.
    pub positions: u64,
    /// Positions of a queue on disk that the disk does not have yet.
    pub behind_on_disk: Option<u64>,
    /// Who holds claims and leases, by participant.
    pub holders: Vec<Holder>,
}

/// A shard of a stream, as it was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObservedShard {
    /// What it is.
    pub info: ShardInfo,
    /// The oldest position that can be read, and the next that is given; none of a retired shard.
    pub positions: Option<core::ops::Range<u64>>,
}

/// A stream, as it was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObservedStream {
    /// How it was created.
    pub definition: StreamDefinition,
    /// Counts of all shards.
    pub stats: StreamStats,
    /// Every shard that was ever made, by number.
    pub shards: Vec<ObservedShard>,
    /// Every group, with who reads what.
    pub groups: Vec<GroupInfo>,
    /// Every registered consumer, with its counts.
    pub consumers: Vec<ConsumerInfo>,
}

/// A topic, as it was found.
#[cfg(feature = "topics")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObservedTopic {
    /// How it was created.
    pub definition: TopicDefinition,
    /// Its counters.
    pub stats: TopicStats,
}

impl Observer {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus }
    }

    fn attachment(&self) -> Arc<Attachment> {
        Arc::clone(&self.bus.inner)
    }

    fn check(&self, object: &str) -> Result<(), OpenError> {
        self.bus.inner.check_fork()?;
        name::check(object)
    }

    /// The name of the bus.
    pub fn name(&self) -> &str {
        self.bus.name()
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.bus.directory()
    }

    /// Everybody who takes part, the dead included until they are reaped. System calls: one per entry in
    /// use. Nobody in a forked child.
    pub fn participants(&self) -> Vec<ParticipantInfo> {
        self.bus.participants().unwrap_or_default()
    }

    /// The roles that somebody holds, by number.
    pub fn roles(&self) -> Vec<(usize, ParticipantId)> {
        let held = |role| Some((role, self.bus.role_holder(role)?));
        (0..ROLES).filter_map(held).collect()
    }

    /// Every channel, queue and stream, by name. Blocks for the file system; allocates the list.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>, OpenError> {
        self.bus.objects()
    }

    /// Names of the topics, in order. Blocks for the file system; allocates the list.
    ///
    /// # Errors
    /// When the directory can't be read.
    #[cfg(feature = "topics")]
    pub fn topics(&self) -> Result<Vec<String>, OpenError> {
        self.bus.topics()
    }

    /// The payload pool. Looks at the word of every chunk.
    pub fn pool(&self) -> PoolStats {
        if self.bus.inner.check_fork().is_err() {
            return PoolStats::default();
        }
        let segments = &self.bus.inner.segments;
        let [free, owned, attached] = segments.census();
        PoolStats {
            segments: segments.known() as u64,
            bytes: segments.used_bytes(),
            quota_bytes: segments.quota_bytes(),
            free,
            owned,
            attached,
        }
    }

    /// The channel `name`. Looks at every slot: about a millisecond per 100,000 of them. Blocks for the
    /// file system.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn channel(&self, name: &str) -> Result<ObservedChannel, OpenError> {
        self.check(name)?;
        let channel = ChannelBuilder::new(self.attachment(), name).attach()?;
        let mut holders = Holders::default();
        holders.add_claims(&channel.inner.ring);
        Ok(ObservedChannel {
            definition: channel.definition().clone(),
            stats: channel.stats(),
            holders: holders.list(),
        })
    }

    /// The queue `name`. Looks at every slot: about a millisecond per 100,000 of them. Blocks for the file
    /// system.
    ///
    /// # Errors
    /// [`OpenError`]. A durable queue that nobody has opened since the machine was started is not found.
    pub fn queue(&self, name: &str) -> Result<ObservedQueue, OpenError> {
        self.check(name)?;
        let queue = QueueBuilder::new(self.attachment(), name).attach()?;
        let inner = &queue.inner;
        let (mut holders, mut positions) = (Holders::default(), 0);
        let now = inner.now_ms();
        inner.each_ring(|ring| {
            holders.add_claims(ring.ring());
            ring.each_lease(now, |owner| holders.of(owner).leases += 1);
            positions = ring.ring().tail_now();
        });
        let is_on_disk = inner.delivery.durable().is_some();
        let stats = queue.stats();
        Ok(ObservedQueue {
            id: queue.id(),
            definition: queue.definition().clone(),
            settings: queue.settings(),
            stats,
            positions,
            behind_on_disk: is_on_disk.then_some(stats.unwritten),
            holders: holders.list(),
        })
    }

    /// The stream `name`. Looks at every shard, closed ones too. Blocks for the file system.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn stream(&self, name: &str) -> Result<ObservedStream, OpenError> {
        self.check(name)?;
        let stream = StreamBuilder::new(self.attachment(), name).attach()?;
        let with_positions = |info: ShardInfo| ObservedShard {
            positions: match info.state {
                ShardState::Retired => None,
                // One that is retired meanwhile has none any more.
                _ => stream.positions(info.id).ok(),
            },
            info,
        };
        let shards = stream.shards()?.into_iter().map(with_positions);
        Ok(ObservedStream {
            definition: stream.definition().clone(),
            stats: stream.stats()?,
            shards: shards.collect(),
            groups: stream.groups()?,
            consumers: stream.look_at_consumers()?,
        })
    }

    /// The topic `name`. Reads the log of its subscriptions. Blocks for the file system.
    ///
    /// # Errors
    /// [`PublishError::Open`].
    #[cfg(feature = "topics")]
    pub fn topic(&self, name: &str) -> Result<ObservedTopic, PublishError> {
        self.check(name)?;
        let topic = TopicBuilder::new(self.attachment(), name).attach()?;
        Ok(ObservedTopic {
            definition: topic.definition().clone(),
            stats: topic.stats()?,
        })
    }
}

impl ObservedStream {
    /// The shard of that number.
    pub fn shard(&self, id: ShardId) -> Option<&ObservedShard> {
        self.shards.get(id.0 as usize)
    }
}

/// By participant.
#[derive(Default)]
struct Holders(BTreeMap<u16, Holder>);

impl Holders {
    fn of(&mut self, owner: u16) -> &mut Holder {
        self.0.entry(owner).or_insert(Holder {
            participant: ParticipantId(owner),
            claims: 0,
            leases: 0,
        })
    }

    fn add_claims(&mut self, ring: &SlotRing) {
        for position in 0..ring.memory().geometry().slots() {
            let word = Ctl(ring.memory().slot(position).ctl().load(Ordering::Relaxed)); // for people
            if matches!(word.state(), Ctl::CLAIMED | Ctl::HELD) {
                self.of(word.owner()).claims += 1;
            }
        }
    }

    fn list(self) -> Vec<Holder> {
        self.0.into_values().collect()
    }
}
