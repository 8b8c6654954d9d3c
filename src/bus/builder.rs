//! Opening or creating a bus: the options, and becoming a participant of what is there or is [made](super::made).

use super::attachment::{Bus, Local};
use super::made::map;
use super::registry::{Membership, Registry};
use super::{BUS_FILE, name};
use crate::error::OpenError;
use crate::layout::bus::PARTICIPANTS;
use crate::object::{RecoveryProgress, RecoveryWatch};
use crate::sys::file;
use crate::sys::{clock, host, lock};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a bus lies when nobody says otherwise.
pub const DEFAULT_ROOT: &str = "/dev/shm";
/// The environment variable that says otherwise.
pub const ROOT_VARIABLE: &str = "RINGWAY_ROOT";
/// The environment variable that says where journals lie.
pub const JOURNAL_ROOT_VARIABLE: &str = "RINGWAY_JOURNAL_ROOT";
/// Quota of the payload pool when the creator does not say.
pub const DEFAULT_POOL_BYTES: u64 = 1 << 30;
const DEFAULT_MODE: u32 = 0o600;
/// The entry that a joiner takes only to sweep a registry full of the dead.
const LAST_RESORT: u16 = PARTICIPANTS as u16 - 1;
/// How often an open that races with creations and removals starts over.
const ATTEMPTS: usize = 100;

/// How a bus came into this process's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Opened,
    /// This call created it.
    Created,
    /// It was from before the last boot; this call put it aside and created it empty.
    ReplacedAfterBoot,
}

/// Options for opening or creating a bus. Mode, group and pool size count only for creation.
#[derive(Clone, Debug)]
#[must_use = "call open, create or open_or_create"]
pub struct Builder {
    pub(super) name: String,
    pub(super) root: Option<PathBuf>,
    pub(super) mode: u32,
    pub(super) group: Option<u32>,
    pub(super) pool_bytes: u64,
    pub(super) participant_name: String,
    pub(super) pre_touch: bool,
    pub(super) journal_root: Option<PathBuf>,
    pub(super) on_recovery: Option<RecoveryWatch>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        let participant_name = std::env::args_os()
            .next()
            .and_then(|program| {
                Path::new(&program)
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
            })
            .unwrap_or_default();
        Self {
            name: name.to_owned(),
            root: None,
            mode: DEFAULT_MODE,
            group: None,
            pool_bytes: DEFAULT_POOL_BYTES,
            participant_name,
            pre_touch: true,
            journal_root: None,
            on_recovery: None,
        }
    }

    /// The directory under which the journals of durable queues lie, each in
    /// `ringway-BUS/QUEUE` below it (`ringway-BUS.journals/QUEUE` where it is the root of the bus, too): on a disk, for it has to outlive the machine's memory. The same for
    /// every process: who names another one than a durable queue was created with is refused. Two buses
    /// of one name need two of them. The default is `$RINGWAY_JOURNAL_ROOT`, or the root of the bus
    /// where that is on a disk, or `$XDG_STATE_HOME/ringway`, `/var/lib/ringway` for the
    /// superuser, `$HOME/.local/state/ringway`.
    pub fn journal_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.journal_root = Some(root.into());
        self
    }

    /// Has `watch` told how far it is whenever a durable queue that is opened on this bus has to be made again
    /// from its journal, by this process or by another one that this one waits for: some twenty times a
    /// second, and at the end. Called by the thread that opens, which it holds up.
    pub fn on_recovery(
        mut self,
        watch: impl Fn(&RecoveryProgress) + Send + Sync + 'static,
    ) -> Self {
        self.on_recovery = Some(RecoveryWatch::new(watch));
        self
    }

    /// The directory under which the bus lies: any tmpfs, a bind mount, a disk. The default is
    /// `$RINGWAY_ROOT`, or `/dev/shm`.
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Permission bits of every file of the bus, whatever the umask. Default `0o600`. Who may not
    /// write can't take part.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Group of every file of the bus. The default is the creator's.
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    /// Most bytes of payload-pool segments. They are made when first needed. Default 1 GiB.
    pub fn pool_bytes(mut self, bytes: u64) -> Self {
        self.pool_bytes = bytes;
        self
    }

    /// How this participant is called in listings (first 48 bytes). Default: the program's name.
    pub fn participant_name(mut self, name: &str) -> Self {
        self.participant_name = name.to_owned();
        self
    }

    /// Whether to fault in every page of rings and pool segments when they are mapped, so that the
    /// hot path faults none. Default `true`.
    pub fn pre_touch(mut self, pre_touch: bool) -> Self {
        self.pre_touch = pre_touch;
        self
    }

    /// Opens the bus; joins as a participant. Blocks for the file system; allocates.
    ///
    /// # Errors
    /// [`OpenError`]; `NotFound` when there is none, `OtherBoot` when it is from before the last
    /// boot.
    pub fn open(self) -> Result<Bus, OpenError> {
        name::check(&self.name)?;
        self.attach(Origin::Opened)
    }

    /// Creates the bus; `AlreadyExists` when there is one. Blocks for the file system; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(self) -> Result<Bus, OpenError> {
        name::check(&self.name)?;
        self.build()?;
        self.attach(Origin::Created)
    }

    /// Opens the bus, or creates it when there is none. A bus from before the last boot is put
    /// aside and created empty; [`Bus::origin`] says so. Blocks for the file system; allocates.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_or_create(self) -> Result<Bus, OpenError> {
        name::check(&self.name)?;
        for _ in 0..ATTEMPTS {
            match self.attach(Origin::Opened) {
                Err(OpenError::NotFound { .. }) => {}
                // Its remover died half-way, or is about to finish.
                Err(OpenError::Removed { .. }) => self.put_aside()?,
                Err(OpenError::OtherBoot { .. }) => {
                    if self.replace()? {
                        return self.attach(Origin::ReplacedAfterBoot);
                    }
                    continue;
                }
                other => return other,
            }
            match self.build() {
                Ok(()) => return self.attach(Origin::Created),
                Err(OpenError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(OpenError::io(
            self.directory(),
            io::Error::other("others keep creating and removing it"),
        ))
    }

    pub(super) fn root_directory(&self) -> PathBuf {
        match (&self.root, std::env::var_os(ROOT_VARIABLE)) {
            (Some(root), _) => root.clone(),
            (None, Some(root)) if !root.is_empty() => root.into(),
            _ => DEFAULT_ROOT.into(),
        }
    }

    /// The directory of the bus.
    pub fn directory(&self) -> PathBuf {
        self.root_directory().join(format!("ringway-{}", self.name))
    }

    /// Where the journals of this bus lie.
    pub(super) fn journals(&self) -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = self
            .journal_root
            .clone()
            .or_else(|| variable(JOURNAL_ROOT_VARIABLE).map(PathBuf::from))
            .or_else(|| {
                let root = self.root_directory();
                (!file::is_in_memory(&root)).then_some(root)
            })
            .or_else(|| variable("XDG_STATE_HOME").map(|home| PathBuf::from(home).join("ringway")))
            .or_else(|| host::is_superuser().then(|| PathBuf::from("/var/lib/ringway")))
            .or_else(|| {
                let home = variable("HOME").map(PathBuf::from)?;
                Some(home.join(".local/state/ringway"))
            })?;
        // Every process has to find the same, wherever it stands.
        let root = std::path::absolute(&root).unwrap_or(root);
        // Never in the directory of the bus, which is replaced by an empty one behind a restart.
        let is_of_bus = file::is_same_directory(&root, &self.root_directory());
        let suffix = if is_of_bus { ".journals" } else { "" };
        Some(root.join(format!("ringway-{}{suffix}", self.name)))
    }

    /// Removes the whole bus, with the journals of its queues and streams on disk, also of those that nobody has
    /// opened since the machine was started, and also where nothing but them is left of it. Blocks for the file
    /// system.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while anybody lives on it, unless `force`; then they get `Removed`.
    /// [`OpenError::Mismatch`] when the journal of one lies elsewhere than
    /// [`journal_root`](Self::journal_root) says; with `force` that one stays.
    pub fn remove(self, force: bool) -> Result<(), OpenError> {
        super::doctor::remove_bus(self, force)
    }

    /// Opens the bus to look at it, see [`Observer`](super::Observer): joins nothing, changes nothing, and
    /// needs no more than permission to read.
    ///
    /// # Errors
    /// [`OpenError`]; as [`open`](Self::open).
    pub fn observe(self) -> Result<super::Observer, OpenError> {
        name::check(&self.name)?;
        let (directory, path, file) = self.find(file::open_to_read)?;
        let (header, mapping) = map(&file, &path, true)?;
        let local = Local {
            pre_touch: false,
            journals: None,
            is_observer: true,
            on_recovery: None,
        };
        let registry = Arc::new(Registry::new(mapping, file));
        let nobody = Membership::of_nobody();
        let origin = Origin::Opened;
        let bus = Bus::new(
            self.name, directory, header, registry, nobody, origin, local,
        );
        Ok(super::Observer::new(bus))
    }

    /// The directory of the bus, its file, and that file, opened.
    fn find(
        &self,
        open: impl Fn(&Path) -> io::Result<std::fs::File>,
    ) -> Result<(PathBuf, PathBuf, std::fs::File), OpenError> {
        let directory = self.directory();
        let path = directory.join(BUS_FILE);
        // Leases and retention are measured by one clock for all.
        if !clock::learn_time_namespace() {
            let what = "CLOCK_BOOTTIME of this time namespace can't be compared with that of others \
                        (enter the namespace by a fork behind unshare)";
            return Err(OpenError::Unsupported { path, what });
        }
        if directory.symlink_metadata().is_ok() && !file::is_directory(&directory) {
            // A link could lead two names to one bus, or a guest to somebody else's.
            let source = io::Error::new(io::ErrorKind::NotADirectory, "not a directory itself");
            return Err(OpenError::Io {
                path: directory,
                source,
            });
        }
        match open(&path) {
            Ok(file) => Ok((directory, path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OpenError::NotFound { path: directory })
            }
            Err(error) => Err(OpenError::io(&path, error)),
        }
    }

    /// Opens what is there and joins.
    fn attach(&self, origin: Origin) -> Result<Bus, OpenError> {
        let (directory, path, file) = self.find(file::open)?;
        let (header, mapping) = map(&file, &path, false)?;
        let registry = Arc::new(Registry::new(mapping, file));
        // The very file that was checked, through a new open file description.
        let join = |slots| {
            registry
                .join(&self.participant_name, slots, || {
                    file::reopen(registry.file())
                })
                .map_err(|source| {
                    if lock::is_unsupported(&source) {
                        let what = "the file system has no open-file-description locks";
                        return OpenError::Unsupported {
                            path: path.clone(),
                            what,
                        };
                    }
                    OpenError::io(&path, source)
                })
        };
        let attach = |membership| {
            Bus::new(
                self.name.clone(),
                directory.clone(),
                header,
                Arc::clone(&registry),
                membership,
                origin,
                Local {
                    pre_touch: self.pre_touch,
                    journals: self.journals(),
                    is_observer: false,
                    on_recovery: self.on_recovery.clone(),
                },
            )
        };
        if let Some(membership) = join(1..LAST_RESORT)? {
            let bus = attach(membership);
            bus.reap()?;
            return Ok(bus);
        }
        // Every entry is taken, perhaps by the dead: the last one is for whoever sweeps them.
        if let Some(sweeper) = join(LAST_RESORT..LAST_RESORT + 1)? {
            attach(sweeper).reap()?;
            if let Some(membership) = join(1..LAST_RESORT)? {
                return Ok(attach(membership));
            }
        }
        Err(OpenError::TooManyParticipants {
            limit: usize::from(LAST_RESORT) - 1,
        })
    }
}
