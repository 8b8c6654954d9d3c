//! Opening or creating a bus.
//!
//! Creation builds the whole directory under a temporary name, with the creator's lock held, and
//! publishes it by one rename; dying in between leaves a directory that `doctor` removes. A bus
//! from before the last boot is put aside under the lock byte `RESET_LOCK` of its own file, so of
//! several processes that find it exactly one moves exactly that directory.

use super::attachment::{Bus, Local};
use super::registry::{Membership, Registry};
use super::{BUS_FILE, OBJECTS, POOL, aside, name};
use crate::error::OpenError;
use crate::layout::bus::{BUS_FILE_BYTES, BusHeader, MAGIC, PARTICIPANTS, RESET_LOCK};
use crate::layout::{FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY};
use crate::object::file::{check_preamble, read_header};
use crate::object::{RecoveryProgress, RecoveryWatch};
use crate::shm::words;
use crate::sys::file::{self, Access, CreateFailure};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, host, lock};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    root: Option<PathBuf>,
    mode: u32,
    group: Option<u32>,
    pool_bytes: u64,
    participant_name: String,
    pre_touch: bool,
    journal_root: Option<PathBuf>,
    on_recovery: Option<RecoveryWatch>,
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

    /// Opens the bus; joins as a participant.
    ///
    /// # Errors
    /// [`OpenError`]; `NotFound` when there is none, `OtherBoot` when it is from before the last
    /// boot.
    pub fn open(self) -> Result<Bus, OpenError> {
        name::check(&self.name)?;
        self.attach(Origin::Opened)
    }

    /// Creates the bus; `AlreadyExists` when there is one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(self) -> Result<Bus, OpenError> {
        name::check(&self.name)?;
        self.build()?;
        self.attach(Origin::Created)
    }

    /// Opens the bus, or creates it when there is none. A bus from before the last boot is put
    /// aside and created empty; [`Bus::origin`] says so.
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

    fn check_mode(&self) -> Result<(), OpenError> {
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            return Err(OpenError::InvalidOption {
                option: "mode",
                given: format!("{:#o}", self.mode),
                rule: "permission bits with read and write for the owner, such as 0o660".into(),
            });
        }
        Ok(())
    }

    /// Builds the directory under a temporary name and publishes it.
    fn build(&self) -> Result<(), OpenError> {
        self.check_mode()?;
        let directory = self.directory();
        if directory.symlink_metadata().is_ok() {
            return Err(OpenError::AlreadyExists { path: directory });
        }
        let access = Access {
            mode: self.mode,
            group: self.group,
        };
        let root = self.root_directory();
        aside::sweep(&root, &self.name, true);
        let (temporary, _held) = self.make_aside(access)?;
        let built = self.fill(&temporary, access).and_then(|()| {
            file::publish(&temporary, &directory).map_err(|e| OpenError::io(&directory, e))
        });
        if built.is_err() {
            let _ = file::remove_tree(&temporary);
        }
        built
    }

    /// A locked directory under a temporary name. When there is none, the root is what is missing or
    /// closed to us.
    fn make_aside(&self, access: Access) -> Result<(PathBuf, Option<std::fs::File>), OpenError> {
        let root = self.root_directory();
        aside::make(&root, &self.name, access).map_err(|e| OpenError::io(&root, e))
    }

    fn fill(&self, temporary: &Path, access: Access) -> Result<(), OpenError> {
        let at = |path: &Path, error| OpenError::io(path, error);
        for part in [OBJECTS, POOL] {
            let path = temporary.join(part);
            file::create_directory(&path, access).map_err(|e| at(&path, e))?;
        }
        let path = temporary.join(BUS_FILE);
        let file =
            file::create_temporary(&path, BUS_FILE_BYTES as u64, access).map_err(|e| match e {
                CreateFailure::NoSpace(room) => OpenError::NoSpace {
                    path: self.directory(),
                    needed: room.needed,
                    available: room.available,
                },
                CreateFailure::Io(error) => at(&path, error),
            })?;
        let boot_id = host::boot_id().map_err(|e| at(&path, e))?;
        let mapping = Mapping::new(&file, MapOptions::default()).map_err(|e| at(&path, e))?;
        words::write_header(
            &mapping,
            &BusHeader {
                preamble: Preamble {
                    magic: MAGIC,
                    major: FORMAT_MAJOR,
                    minor: FORMAT_MINOR,
                    ready: READY,
                    features: FEATURES_REQUIRED,
                    bus_id: host::random_u64() | 1,
                    boot_id,
                    object_id: 0,
                    created_ms: clock::unix_ms(),
                },
                mode: self.mode,
                // What the creator's files have, so that another member's files have it too.
                group: file::group(&file).map_err(|e| at(&path, e))?,
                pool_bytes: self.pool_bytes,
                file_bytes: BUS_FILE_BYTES as u64,
                policies: 0,
                reserved: [0; PAGE - 64 - 32],
            },
        );
        Ok(())
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

    /// Puts a bus that is marked removed aside and deletes it.
    fn put_aside(&self) -> Result<(), OpenError> {
        match self.lock_stale()? {
            Some((_locked, OpenError::Removed { .. })) => {
                aside::remove(&self.root_directory(), &self.name, &self.directory())
            }
            _ => Ok(()),
        }
    }

    /// Puts an empty bus in the place of one from before the last boot, by one exchange of names:
    /// there is no moment without a bus, so nobody else creates one. Whether this call did it.
    fn replace(&self) -> Result<bool, OpenError> {
        self.check_mode()?;
        let Some((_locked, OpenError::OtherBoot { .. })) = self.lock_stale()? else {
            return Ok(false);
        };
        let directory = self.directory();
        let access = Access {
            mode: self.mode,
            group: self.group,
        };
        let (aside, _built) = self.make_aside(access)?;
        let _held = aside::hold(&directory);
        let replaced = self.fill(&aside, access).and_then(|()| {
            file::exchange(&aside, &directory).map_err(|e| OpenError::io(&directory, e))
        });
        // The old one now, or the new one that could not be put in its place.
        let removed = file::remove_tree(&aside).map_err(|e| OpenError::io(&aside, e));
        replaced.and(removed).map(|()| true)
    }

    /// The file of a bus that can't be used any more, locked against others who replace or remove
    /// it, and why it can't. `None` when somebody else has dealt with it.
    fn lock_stale(&self) -> Result<Option<(std::fs::File, OpenError)>, OpenError> {
        let path = self.directory().join(BUS_FILE);
        let at = |error| OpenError::io(&path, error);
        let stale = match file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error)),
        };
        let deadline = clock::Deadline::after(Duration::from_secs(10));
        while !lock::try_lock(&stale, RESET_LOCK).map_err(at)? {
            if deadline.passed() {
                return Err(at(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process has been replacing this bus for 10 s; continue or kill it",
                )));
            }
            clock::pause(Duration::from_millis(1));
        }
        // Whoever held the lock before us may have moved it already.
        if !file::is_at(&stale, &path) {
            return Ok(None);
        }
        Ok(check(&stale, &path).err().map(|why| (stale, why)))
    }
}

/// Checks and maps a bus file.
fn map(
    file: &std::fs::File,
    path: &Path,
    private: bool,
) -> Result<(BusHeader, Mapping), OpenError> {
    let header = check(file, path)?;
    let options = MapOptions {
        pre_touch: !private,
        private,
        ..MapOptions::default()
    };
    let mapping = Mapping::new(file, options).map_err(|e| OpenError::io(path, e))?;
    if mapping.len() < BUS_FILE_BYTES {
        return Err(OpenError::WrongLength {
            path: path.into(),
            expected: BUS_FILE_BYTES as u64,
            actual: mapping.len() as u64,
        });
    }
    Ok((header, mapping))
}

/// Checks the header of a bus file.
fn check(file: &std::fs::File, path: &Path) -> Result<BusHeader, OpenError> {
    let actual = file.metadata().map_err(|e| OpenError::io(path, e))?.len();
    if actual < PAGE as u64 {
        let expected = BUS_FILE_BYTES as u64;
        return Err(OpenError::WrongLength {
            path: path.into(),
            expected,
            actual,
        });
    }
    let header: BusHeader = read_header(file).map_err(|e| OpenError::io(path, e))?;
    check_preamble(&header.preamble, MAGIC, "bus", path)?;
    if header.file_bytes != actual || actual != BUS_FILE_BYTES as u64 {
        return Err(OpenError::WrongLength {
            path: path.into(),
            expected: header.file_bytes,
            actual,
        });
    }
    if header.preamble.bus_id == 0 {
        return Err(OpenError::Scribbled {
            path: path.into(),
            what: "its id is zero",
        });
    }
    if header.mode & !0o777 != 0 {
        return Err(OpenError::Scribbled {
            path: path.into(),
            what: "impossible permission bits",
        });
    }
    let boot_id = host::boot_id().map_err(|e| OpenError::io(path, e))?;
    if header.preamble.boot_id != boot_id {
        return Err(OpenError::OtherBoot { path: path.into() });
    }
    Ok(header)
}
