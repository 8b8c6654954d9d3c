//! One attachment of this process to a bus.

use super::builder::{Builder, Origin};
use super::catalog::{ChannelBuilder, ObjectInfo, ObjectKind};
use super::doctor::Report;
use super::queues::QueueBuilder;
use super::registry::{Membership, ParticipantInfo, Registry, RegistryLiveness};
use super::streams::StreamBuilder;
use super::{OBJECTS, POOL, TEMPORARY};
use crate::ParticipantId;
use crate::error::OpenError;
use crate::layout::bus::BusHeader;
use crate::object::{Host, Site};
use crate::pool::segment::{SegmentPolicy, Segments};
use crate::queue::Opens;
use crate::ring::Liveness;
use crate::sys::clock;
use crate::sys::file::Access;
use crate::sys::mapping::MapOptions;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often somebody who waits looks for dead participants.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// A bus, open in this process: one participant.
///
/// Cheap to clone; thread-safe. Several opens in one process are several participants. The
/// participant leaves when the last handle made through it is dropped; when the process dies, the
/// kernel says so to the others and they sweep what it left. After a fork, every handle of the
/// parent returns `Forked` in the child; open the bus again there.
#[derive(Clone)]
pub struct Bus {
    pub(super) inner: Arc<Attachment>,
}

pub(crate) struct Attachment {
    pub name: String,
    pub directory: PathBuf,
    pub site: Site,
    #[cfg(feature = "topics")]
    topics_site: Site,
    /// Itself, for what is made through it while it is only borrowed.
    #[cfg(feature = "topics")]
    pub(super) own: std::sync::Weak<Attachment>,
    /// Other buses that topics of this one deliver to, by name.
    #[cfg(feature = "topics")]
    pub(super) buses: Mutex<std::collections::HashMap<String, std::sync::Weak<Attachment>>>,
    pub origin: Origin,
    pub segments: Arc<Segments>,
    pub registry: Arc<Registry>,
    pub liveness: Arc<RegistryLiveness>,
    pub membership: Membership,
    /// Of queues.
    pub opens: Arc<Opens>,
    last_scan: AtomicU64,
    /// One sweep at a time: REAPING names this participant, not a thread of it.
    pub(super) sweeping: Mutex<()>,
}

/// What this process says of itself, not the bus.
pub(super) struct Local {
    /// Whether it touches every page that it maps.
    pub pre_touch: bool,
    /// Where journals lie.
    pub journals: Option<PathBuf>,
    /// Whether it only looks.
    pub is_observer: bool,
    /// Who is told how far the opening of a durable queue is.
    pub on_recovery: Option<crate::object::RecoveryWatch>,
}

impl Bus {
    /// Begins to open or create the bus `name`.
    ///
    /// Names have 1 to 80 characters of `A-Z a-z 0-9 _ -`.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// Opens the bus `name` with defaults. Blocks for the file system; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Self::builder(name).open()
    }

    /// Opens the bus `name`, or creates it with defaults. Blocks for the file system; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_or_create(name: &str) -> Result<Self, OpenError> {
        Self::builder(name).open_or_create()
    }

    pub(super) fn new(
        name: String,
        directory: PathBuf,
        header: BusHeader,
        registry: Arc<Registry>,
        membership: Membership,
        origin: Origin,
        Local {
            pre_touch,
            journals,
            is_observer,
            on_recovery,
        }: Local,
    ) -> Self {
        let access = Access {
            mode: header.mode,
            group: Some(header.group),
        };
        let prefix = format!("{TEMPORARY}{}-{}-", membership.slot, membership.generation);
        let policy = SegmentPolicy {
            directory: directory.join(POOL),
            access,
            quota_bytes: header.pool_bytes,
            bus_id: header.preamble.bus_id,
            boot_id: header.preamble.boot_id,
            temporary_prefix: prefix.clone(),
            map: MapOptions {
                pre_touch,
                huge_pages: false,
                read_only: false,
                private: is_observer,
            },
        };
        let site = Site {
            directory: directory.join(OBJECTS),
            access,
            bus_id: header.preamble.bus_id,
            boot_id: header.preamble.boot_id,
            temporary_prefix: prefix,
            pre_touch,
            read_only: false,
            observed: is_observer,
            journals,
            on_recovery,
        };
        let liveness = Arc::new(RegistryLiveness(Arc::clone(&registry)));
        Self {
            inner: Arc::new_cyclic(|_own| Attachment {
                name,
                #[cfg(feature = "topics")]
                own: _own.clone(),
                #[cfg(feature = "topics")]
                topics_site: Attachment::topics_site_of(&site, &directory),
                #[cfg(feature = "topics")]
                buses: Mutex::default(),
                directory,
                site,
                origin,
                segments: Arc::new(Segments::new(policy)),
                registry,
                liveness,
                membership,
                opens: Arc::default(),
                last_scan: AtomicU64::new(clock::coarse()),
                sweeping: Mutex::new(()),
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Whether this call found or made it, or started it empty after a boot.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// This participant.
    pub fn me(&self) -> ParticipantId {
        ParticipantId(self.inner.membership.slot)
    }

    /// Everybody who takes part, the dead included until they are reaped. System calls: one per
    /// entry in use. Allocates the list.
    ///
    /// # Errors
    /// [`OpenError::Forked`].
    pub fn participants(&self) -> Result<Vec<ParticipantInfo>, OpenError> {
        self.inner.check_fork()?;
        Ok(self.inner.registry.participants())
    }

    /// One participant, if its entry is in use.
    pub fn participant(&self, id: ParticipantId) -> Option<ParticipantInfo> {
        self.inner.check_fork().ok()?;
        self.inner.registry.info(id.0)
    }

    /// Begins to open or create the channel `name`.
    pub fn channel(&self, name: &str) -> ChannelBuilder {
        ChannelBuilder::new(Arc::clone(&self.inner), name)
    }

    /// Begins to open or create the queue `name`.
    pub fn queue(&self, name: &str) -> QueueBuilder {
        QueueBuilder::new(Arc::clone(&self.inner), name)
    }

    /// Begins to open or create the stream `name`.
    pub fn stream(&self, name: &str) -> StreamBuilder {
        StreamBuilder::new(Arc::clone(&self.inner), name)
    }

    /// Every object, by name. Blocks for the file system; allocates the list.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>, OpenError> {
        self.inner.check_fork()?;
        self.inner.objects()
    }

    /// Removes an object. Who has it open gets `Removed`; its memory goes with the last of them. Blocks for
    /// the file system, and where it is on disk for whoever is making it again.
    ///
    /// # Errors
    /// [`OpenError::NotFound`], or the system refuses.
    pub fn remove(&self, name: &str) -> Result<(), OpenError> {
        self.inner.check_fork()?;
        self.inner.remove_object(name)
    }

    /// Takes role `role` (0..64) from nobody or from a proven dead holder. It passes on when this
    /// participant dies, or by [`release_role`](Self::release_role). Never blocks.
    ///
    /// A role avoids double work; it is no lock: its holder may be stopped at any instruction.
    ///
    /// # Errors
    /// The participant that holds it. In a forked child: the parent's, always.
    ///
    /// # Panics
    /// When `role` is not below 64.
    pub fn take_role(&self, role: usize) -> Result<(), ParticipantId> {
        assert!(role < crate::layout::bus::ROLES, "roles are 0..64");
        if self.inner.check_fork().is_err() {
            return Err(self.me());
        }
        self.inner
            .registry
            .take_role(role, self.inner.membership.slot)
            .map_err(ParticipantId)
    }

    /// Gives role `role` back. Whether this participant held it.
    pub fn release_role(&self, role: usize) -> bool {
        role < crate::layout::bus::ROLES
            && self.inner.check_fork().is_ok()
            && self
                .inner
                .registry
                .release_role(role, self.inner.membership.slot)
    }

    /// Who holds role `role`.
    pub fn role_holder(&self, role: usize) -> Option<ParticipantId> {
        if role >= crate::layout::bus::ROLES || self.inner.check_fork().is_err() {
            return None;
        }
        let holder = self.inner.registry.role_holder(role);
        (holder != 0).then_some(ParticipantId(holder))
    }

    /// Sweeps what dead participants left; how many were reaped. Bounded work; anyone may call it
    /// at any time, and whoever waits does so once a second.
    ///
    /// # Errors
    /// When an object can't be opened now: what was not swept stays for the next call.
    pub fn reap(&self) -> Result<usize, OpenError> {
        self.inner.check_fork()?;
        let reaped = self.inner.reap_dead()?;
        self.inner.hand_on_for(&reaped);
        Ok(reaped.len())
    }

    /// Looks at everything and, with `heal`, mends what dead processes left. Blocks for the file system: it
    /// opens every object.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn doctor(&self, heal: bool) -> Result<Report, OpenError> {
        self.inner.check_fork()?;
        self.inner.doctor(heal)
    }

    /// Removes the whole bus `name` under `root` (`None`: as [`Builder::root`] describes), as
    /// [`Builder::remove`] does, which may be told where its journals lie.
    ///
    /// # Errors
    /// As there.
    pub fn remove_bus(name: &str, root: Option<&Path>, force: bool) -> Result<(), OpenError> {
        let builder = Self::builder(name);
        match root {
            Some(root) => builder.root(root).remove(force),
            None => builder.remove(force),
        }
    }
}

impl Bus {
    /// Whether the journals of a queue or a stream, if it has any, lie where this attachment has its own.
    pub(super) fn check_journal_root(&self, object: &ObjectInfo) -> Result<(), OpenError> {
        let (site, name) = (&self.inner.site, &object.name);
        match (object.kind, crate::stream::open_stream(site, name)) {
            (ObjectKind::Queue, _) => crate::queue::check_journal_root(site, name),
            (ObjectKind::Stream, Ok(stream)) => crate::stream::check_stream_journal(site, &stream),
            _ => Ok(()),
        }
    }
}

impl Attachment {
    pub fn check_fork(&self) -> Result<(), OpenError> {
        if self.registry.is_forked() {
            Err(OpenError::Forked)
        } else {
            Ok(())
        }
    }
}

#[cfg(feature = "topics")]
impl Attachment {
    pub(super) fn topics_site(&self) -> &Site {
        &self.topics_site
    }

    /// Goes on with what the dead were handing on.
    fn hand_on_for(&self, reaped: &[super::reap::Reaped]) {
        if let Some(own) = self.own.upgrade() {
            reaped
                .iter()
                .for_each(|dead| own.hand_on(&dead.topic_parts));
        }
    }
}

#[cfg(not(feature = "topics"))]
impl Attachment {
    fn hand_on_for(&self, _: &[super::reap::Reaped]) {}
}

impl Liveness for Attachment {
    fn is_dead(&self, owner: u16) -> bool {
        self.liveness.is_dead(owner)
    }
}

impl Host for Attachment {
    fn is_current(&self) -> bool {
        self.registry.is_current(&self.membership)
    }

    fn tick(&self) {
        if self.site.observed {
            return;
        }
        let now = clock::coarse();
        let last = self.last_scan.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= SCAN_EVERY.as_nanos() as u64
            && self
                .last_scan
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            // Whoever sweeps already does it for us; an error leaves the rest for the next scan.
            let reaped = self.try_reap_dead().unwrap_or_default();
            self.hand_on_for(&reaped);
        }
    }

    fn reap_now(&self) {
        if !self.site.observed {
            let _ = self.reap_dead();
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.registry.is_forked() {
            return;
        }
        // Every handle is gone, and each gave back what it held; roles are held by the attachment.
        for role in 0..crate::layout::bus::ROLES {
            self.registry.release_role(role, self.membership.slot);
        }
        self.registry.leave(&self.membership);
    }
}
