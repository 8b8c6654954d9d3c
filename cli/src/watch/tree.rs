//! A directory and everything below it: which files are there, and what has changed.
//!
//! The kernel tells each directory's changes (inotify); what it tells is looked up, never believed: `known` holds
//! the files that were told of, and a change is where what is there differs from it. So an event that comes twice
//! tells nothing twice, and when the kernel dropped events (overflow) one look at everything finds what they
//! were about. A directory is watched before it is read: a file in a new one is met by one of the two, or both.
//!
//! A file counts when nobody has it open for writing any more. Where it is met by a read of its directory, a lease
//! tells (`fcntl(2)`, F_SETLEASE), which the kernel refuses while there are writers; their close is an event.

use super::lease::has_writers;
use anyhow::{Context, anyhow, bail};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Room for events: a few hundred of usual names.
const EVENT_BYTES: usize = 32 * 1024;

/// One change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is a file, or it has another content: path below the root.
    Created(PathBuf, State),
    Removed(PathBuf),
}

/// What a file is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub inode: u64,
    pub size: u64,
    pub modified_ns: i64,
}

/// An event, copied.
struct Told {
    watch: i32,
    flags: ReadFlags,
    name: Option<OsString>,
}

pub struct Tree {
    root: PathBuf,
    inotify: OwnedFd,
    /// Directories that are watched, below the root.
    directories: HashMap<i32, PathBuf>,
    watches: BTreeMap<PathBuf, i32>,
    known: BTreeMap<PathBuf, State>,
    overflows: u64,
    rescans: bool,
}

impl Tree {
    /// Watches `root`; the files that are there are known, and told by [`known`](Self::known) alone.
    pub fn new(root: &Path) -> anyhow::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let mut tree = Self {
            root: root.to_owned(),
            inotify: inotify.context("can't watch directories")?,
            directories: HashMap::new(),
            watches: BTreeMap::new(),
            known: BTreeMap::new(),
            overflows: 0,
            rescans: false,
        };
        tree.enter(Path::new(""), &mut Vec::new())?;
        if tree.watches.is_empty() {
            bail!("{} is no directory", root.display());
        }
        Ok(tree)
    }

    /// Readable when something has changed.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Every file that it knows of.
    pub fn known(&self) -> Vec<Change> {
        let created = |(path, state): (&PathBuf, &State)| Change::Created(path.clone(), *state);
        self.known.iter().map(created).collect()
    }

    /// How often the kernel has dropped events.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// What has changed since, in the order in which it did. Never blocks.
    pub fn changes(&mut self) -> anyhow::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let told = self.read()?;
        for told in &told {
            self.meet(told, &mut changes)?;
        }
        if std::mem::take(&mut self.rescans) {
            self.rescan(&mut changes)?;
        }
        Ok(changes)
    }

    fn read(&self) -> anyhow::Result<Vec<Told>> {
        let mut buffer = vec![MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => all.push(Told {
                    watch: event.wd(),
                    flags: event.events(),
                    name: event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
                }),
                Err(rustix::io::Errno::AGAIN) => return Ok(all),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(anyhow!("can't read what has changed: {error}")),
            }
            // The rest is read when these were looked at.
            if reader.is_buffer_empty() && !all.is_empty() {
                return Ok(all);
            }
        }
    }

    fn meet(&mut self, told: &Told, changes: &mut Vec<Change>) -> anyhow::Result<()> {
        if told.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.overflows += 1;
            self.rescans = true;
            return Ok(());
        }
        let Some(directory) = self.directories.get(&told.watch).cloned() else {
            return Ok(()); // left meanwhile
        };
        if told.flags.contains(ReadFlags::IGNORED) {
            self.directories.remove(&told.watch);
            if self.watches.get(&directory) == Some(&told.watch) {
                self.watches.remove(&directory);
            }
            return Ok(());
        }
        if told
            .flags
            .intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF)
        {
            if directory.as_os_str().is_empty() {
                bail!("{} was moved or removed", self.root.display());
            }
            return Ok(()); // the directory above it tells
        }
        let Some(name) = &told.name else {
            return Ok(());
        };
        let path = directory.join(name);
        let has_gone = told
            .flags
            .intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
        match (told.flags.contains(ReadFlags::ISDIR), has_gone) {
            (true, true) => self.leave(&path, changes),
            (true, false) => self.enter(&path, changes)?,
            (false, true) => {
                if self.known.remove(&path).is_some() {
                    changes.push(Change::Removed(path));
                }
            }
            (false, false) => {
                let is_whole = told
                    .flags
                    .intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO);
                self.look(path, is_whole, changes);
            }
        }
        Ok(())
    }

    /// A file that is there, perhaps. Not `is_whole`: it was created, and somebody may be about to write it.
    fn look(&mut self, path: PathBuf, is_whole: bool, changes: &mut Vec<Change>) {
        let full = self.root.join(&path);
        let Ok(data) = std::fs::symlink_metadata(&full) else {
            return; // its removal is told
        };
        if !data.is_file() {
            return;
        }
        // A further name of a file comes complete, and nobody closes it.
        let is_link = data.nlink() > 1;
        let is_whole = is_whole || is_link && !has_writers(&full);
        if !is_whole {
            return;
        }
        let state = State {
            inode: data.ino(),
            size: data.len(),
            modified_ns: data.mtime() * 1_000_000_000 + data.mtime_nsec(),
        };
        if self.known.insert(path.clone(), state) != Some(state) {
            changes.push(Change::Created(path, state));
        }
    }

    /// Watches a directory, then reads it, and so on below it.
    fn enter(&mut self, path: &Path, changes: &mut Vec<Change>) -> anyhow::Result<()> {
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let full = self.root.join(&path);
            let flags = WatchFlags::CLOSE_WRITE
                | WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::MOVED_FROM
                | WatchFlags::DELETE
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR
                | WatchFlags::DONT_FOLLOW
                | WatchFlags::EXCL_UNLINK;
            let is_root = path.as_os_str().is_empty();
            let flags = if is_root {
                flags - WatchFlags::DONT_FOLLOW
            } else {
                flags
            };
            let watch = match inotify::add_watch(&self.inotify, &full, flags) {
                Ok(watch) => watch,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
                Err(rustix::io::Errno::NOSPC) => bail!(
                    "can't watch {}: there are too many directories; raise fs.inotify.max_user_watches",
                    full.display()
                ),
                Err(error) => return Err(error).context(format!("can't watch {}", full.display())),
            };
            self.directories.insert(watch, path.clone());
            self.watches.insert(path.clone(), watch);
            let entries = match std::fs::read_dir(&full) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(format!("can't read {}", full.display())),
            };
            for entry in entries {
                let entry = entry.with_context(|| format!("can't read {}", full.display()))?;
                let below = path.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(below),
                    Ok(kind) if kind.is_file() => {
                        let is_whole = !has_writers(&entry.path());
                        self.look(below, is_whole, changes);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A directory is gone from here, with everything below it.
    fn leave(&mut self, path: &Path, changes: &mut Vec<Change>) {
        let left: Vec<PathBuf> = below(&self.watches, path).collect();
        for directory in left {
            if let Some(watch) = self.watches.remove(&directory)
                && self.directories.get(&watch) == Some(&directory)
            {
                self.directories.remove(&watch);
                // It is gone already where the directory was removed.
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
        }
        let gone: Vec<PathBuf> = below(&self.known, path).collect();
        for file in gone {
            self.known.remove(&file);
            changes.push(Change::Removed(file));
        }
    }

    /// One look at everything: what is there and was not known, and what was known and is not there.
    fn rescan(&mut self, changes: &mut Vec<Change>) -> anyhow::Result<()> {
        let gone: Vec<PathBuf> = self
            .known
            .keys()
            .filter(|path| !is_file(&self.root.join(path)))
            .cloned()
            .collect();
        for file in gone {
            self.known.remove(&file);
            changes.push(Change::Removed(file));
        }
        let left: Vec<PathBuf> = self
            .watches
            .keys()
            .filter(|path| !self.root.join(path).is_dir())
            .cloned()
            .collect();
        for directory in left {
            self.leave(&directory, changes);
        }
        self.enter(Path::new(""), changes)
    }
}

fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|data| data.is_file())
}

/// The paths of `map` that are `path` or lie below it.
fn below<'a, V>(
    map: &'a BTreeMap<PathBuf, V>,
    path: &'a Path,
) -> impl Iterator<Item = PathBuf> + 'a {
    // Paths are ordered by their components, so these lie side by side.
    map.range(path.to_owned()..)
        .map(|(found, _)| found)
        .take_while(move |found| found.starts_with(path))
        .cloned()
}
