//! The directories of journals: which there are, who may read one to make its queue again, and how one is
//! removed.
//!
//! Whoever makes a queue again, or removes its journal, holds a lock of the kernel on a file in its directory, which
//! dies with its holder, and writes down in that file how far he is: the others see it, and wait as long as he
//! comes further.

use super::file::{QueueFile, journal_directory};
use crate::error::OpenError;
use crate::journal::{self, Disk, SegmentId};
use crate::layout::queue::{MAGIC, QueueHeader};
use crate::object::{RecoveryProgress, Site};
use crate::sys::clock::{self, Deadline};
use crate::sys::directory::Directory;
use crate::sys::{file as files, host, lock};
use core::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Of a directory that was moved aside, to be removed.
const ASIDE: &str = ".removed-";
/// Who has not emptied it for so long is dead.
const LEFT: Duration = Duration::from_secs(60);
/// Held, by its first byte, by whoever reads the journal to make the queue again, or removes it.
const LOCK_FILE: &str = "lock";
const LOCK_BYTE: i64 = 0;
/// Where in it he writes down how far he is: bytes read, and to be read.
const FAR: u64 = 8;
/// Pauses between two looks at that.
const LOOKS: u32 = 16;
/// Between two times that he does, in ns.
const TELL_EVERY_NS: u64 = 50_000_000;
/// Between two looks whether somebody else has made it.
const PAUSE: Duration = Duration::from_millis(1);
/// For one who makes it again and comes no further.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is told how far the making of a queue is.
pub(super) struct Told<'a> {
    site: Option<&'a Site>,
    queue: &'a str,
    last: Cell<u64>,
}

impl<'a> Told<'a> {
    fn nobody() -> Self {
        Self {
            site: None,
            queue: "",
            last: Cell::new(0),
        }
    }

    /// Whoever opens `queue` by `site`.
    pub fn of(site: &'a Site, queue: &'a str) -> Self {
        Self {
            site: Some(site),
            queue,
            last: Cell::new(clock::now()),
        }
    }

    fn tell(&self, read_bytes: u64, total_bytes: u64, is_elsewhere: bool) {
        if let Some(watch) = self.site.and_then(|site| site.on_recovery.as_ref()) {
            watch.tell(&RecoveryProgress {
                queue: self.queue.to_owned(),
                read_bytes,
                total_bytes,
                is_elsewhere,
            });
        }
    }

    /// So far is this one, who holds `lock`; told from time to time, and at the end.
    pub fn note(&self, lock: &File, read: u64, total: u64) {
        let now = clock::now();
        if read < total && now.saturating_sub(self.last.get()) < TELL_EVERY_NS {
            return;
        }
        self.last.set(now);
        // A hint for those who wait: without it they wait less long.
        let _ = files::write_words(lock, FAR, [read, total]);
        self.tell(read, total, false);
    }
}

/// Whether there is a journal of a queue of that name.
///
/// # Errors
/// When nobody can say: a queue that was made then would hide its messages.
pub(crate) fn has_journal(site: &Site, name: &str) -> Result<bool, OpenError> {
    match journal_directory(site, name) {
        Some(directory) => is_journal(&directory),
        None => Ok(false),
    }
}

fn is_journal(directory: &Path) -> Result<bool, OpenError> {
    match files::names(directory) {
        Ok(names) => Ok(names.iter().any(|name| SegmentId::of_name(name).is_some())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io(directory, error)),
    }
}

/// The name of the queue of that object id, if there is a journal of it: nobody may have opened it since
/// the machine was started.
///
/// # Errors
/// When it may be one of those that can't be read now.
pub(crate) fn name_in_journals(site: &Site, id: u64) -> Result<Option<String>, OpenError> {
    let Some(journals) = &site.journals else {
        return Ok(None);
    };
    let names = match files::names(journals) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(journals, error)),
    };
    let mut unread = None;
    for name in names {
        if name.starts_with('.') || !has_journal(site, &name)? {
            continue;
        }
        let read = Disk::open(journals.join(&name)).and_then(|disk| journal::definition(&disk));
        match read {
            Ok(definition) => {
                let header: QueueHeader = bytemuck::pod_read_unaligned(&definition[..]);
                if (header.preamble.magic, header.preamble.object_id) == (MAGIC, id) {
                    return Ok(Some(name));
                }
            }
            Err(error) => unread = Some(error.into()),
        }
    }
    unread.map_or(Ok(None), Err)
}

/// Queues of which a journal is there: their names, and the bytes of its files.
pub(crate) fn journals(site: &Site) -> Vec<(String, u64)> {
    let Some(parent) = &site.journals else {
        return Vec::new();
    };
    let names = files::names(parent).unwrap_or_default();
    // Those of hidden queues are parts of others.
    let names = names.into_iter().filter(|name| !name.starts_with('.'));
    let found = names.filter_map(|name| {
        let bytes = journal_bytes_of(&parent.join(&name), &name)?;
        Some((name, bytes))
    });
    found.collect()
}

/// Bytes of the journal of the queue `name`, if that is what lies in `directory`.
fn journal_bytes_of(directory: &Path, name: &str) -> Option<u64> {
    let definition = journal::definition(&Disk::open(directory).ok()?).ok()?;
    let header: QueueHeader = bytemuck::pod_read_unaligned(&definition[..]);
    let is_its = header.preamble.magic == MAGIC
        && header.name.get(..header.name_bytes as usize) == Some(name.as_bytes());
    let names = files::names(directory).ok().filter(|_| is_its)?;
    let bytes = names
        .iter()
        .map(|name| files::len(&directory.join(name)).unwrap_or(0));
    Some(bytes.sum())
}

/// Removes the journals of all queues of the bus whose objects lay in `objects`, and their directory; how
/// many. Those of another bus of that name, which has the same place for its own, stay.
pub(crate) fn remove_journals(parent: &Path, objects: &Path) -> Result<usize, OpenError> {
    let (mut removed, label) = (0, super::persist::label(objects));
    for name in files::names(parent).unwrap_or_default() {
        let directory = parent.join(&name);
        let is_its = |disk: Disk| disk.label().as_ref() == Some(&label);
        if journal_bytes_of(&directory, &name).is_some() && Disk::open(&directory).is_ok_and(is_its)
        {
            removed += usize::from(remove_journal_in(&directory)?);
        }
    }
    sweep_aside(parent);
    // Not empty: others have something there.
    let _ = files::remove_empty_directory(parent);
    Ok(removed)
}

/// Removes the journal of the queue `name`, which is removed or of which nothing else is there. Whether
/// there was one. Blocks for whoever is making the queue again, and for the file system.
///
/// Its directory is moved aside first: who is late with a write or a segment has that one open, and leaves
/// nothing in the directory of a queue that is created under the same name. A death in between leaves it
/// aside, for the next removal.
pub(crate) fn remove_journal_of(site: &Site, name: &str) -> Result<bool, OpenError> {
    // Where this attachment has its journals, whatever a queue's file says: that can be written over.
    match journal_directory(site, name) {
        Some(directory) => remove_journal_in(&directory),
        None => Ok(false),
    }
}

fn remove_journal_in(directory: &Path) -> Result<bool, OpenError> {
    let Some(parent) = directory
        .parent()
        .filter(|_| files::is_directory(directory))
    else {
        return Ok(false);
    };
    let has_one = is_journal(directory)?;
    let _locked = lock(directory, || false, &Told::nobody())?;
    let aside = parent.join(format!("{ASIDE}{:016x}", host::random_u64()));
    match files::publish(directory, &aside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        moved => moved.map_err(|error| OpenError::io(directory, error))?,
    }
    let synced = Directory::open(parent).and_then(|parent| parent.sync());
    synced.map_err(|error| OpenError::io(parent, error))?;
    empty(&aside, Some(directory))?;
    sweep_aside(parent);
    Ok(has_one)
}

/// Removes what is a journal's from a directory that was moved aside, and the directory; a stranger's files
/// go back to where they were.
fn empty(aside: &Path, back: Option<&Path>) -> Result<(), OpenError> {
    journal::remove(&Disk::open(aside)?)?;
    let _ = files::remove(&aside.join(LOCK_FILE));
    if let Some(back) = back {
        for name in files::names(aside).unwrap_or_default() {
            let made = crate::sys::disk::create_directories(back);
            let moved = made.and_then(|()| files::publish(&aside.join(&name), &back.join(&name)));
            moved.map_err(|error| OpenError::io(back, error))?;
        }
    }
    // Not empty: a stranger's, and its place is taken.
    let _ = files::remove_empty_directory(aside);
    Ok(())
}

/// Removes what removals that died have left aside.
fn sweep_aside(parent: &Path) {
    for name in files::names(parent).unwrap_or_default() {
        let path = parent.join(&name);
        if name.starts_with(ASIDE) && files::is_older(&path, LEFT) {
            let _ = empty(&path, None);
        }
    }
}

/// Whether the journal of the queue `name`, if it has one, lies where this attachment has its own.
///
/// # Errors
/// [`OpenError::Mismatch`] when it lies elsewhere.
pub(crate) fn check_journal_root(site: &Site, name: &str) -> Result<(), OpenError> {
    match super::open_queue(site, name) {
        Ok(queue) => check_journal(site, &queue),
        Err(_) => Ok(()),
    }
}

/// The same of an open queue.
pub(crate) fn check_journal(site: &Site, queue: &QueueFile) -> Result<(), OpenError> {
    let (existing, wanted) = match (&queue.durable, &queue.spill) {
        (Some((_, existing)), _) => (existing, journal_directory(site, &queue.definition.name)),
        (None, Some(existing)) => (existing, super::spill::directory(site)),
        (None, None) => return Ok(()),
    };
    if wanted.as_ref() == Some(existing) {
        return Ok(());
    }
    Err(OpenError::Mismatch {
        path: queue.path.clone(),
        option: "journal_root",
        existing: existing.display().to_string(),
        wanted: wanted.map_or("none".to_owned(), |wanted| wanted.display().to_string()),
    })
}

/// The lock; `None` when the queue is there by then, or its journal is not. Whoever has the lock and stands
/// still, by what it writes down of how far it is, is not waited for: two who read and write down the same do no harm.
pub(super) fn lock_journal(
    directory: &Path,
    queue: &Path,
    told: &Told<'_>,
) -> Result<Option<File>, OpenError> {
    let is_made = || files::is_regular(queue);
    let locked = lock(directory, is_made, told)?;
    Ok(locked.filter(|_| !is_made()))
}

/// The lock of a journal, or what was opened for it when patience is over; `None` when `is_over`, or where
/// there is no such directory any more.
fn lock(
    directory: &Path,
    is_over: impl Fn() -> bool,
    told: &Told<'_>,
) -> Result<Option<File>, OpenError> {
    let path = directory.join(LOCK_FILE);
    let at = |error| OpenError::io(&path, error);
    let mut deadline = Deadline::after(PATIENCE);
    let (mut seen, mut looks) = ([0; 2], 0_u32);
    loop {
        let file = match files::open_or_create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(at)?,
        };
        while !lock::try_lock(&file, LOCK_BYTE).map_err(at)? && !deadline.remaining().is_zero() {
            if is_over() {
                return Ok(None);
            }
            looks = looks.wrapping_add(1);
            let [read, total] = files::read_words(&file, FAR).unwrap_or_default();
            if looks.is_multiple_of(LOOKS) && [read, total] != seen {
                (seen, deadline) = ([read, total], Deadline::after(PATIENCE));
                told.tell(read, total, true);
            }
            clock::pause(PAUSE);
        }
        // Not of a directory that was moved aside meanwhile.
        if files::is_at(&file, &path) {
            return Ok(Some(file));
        }
    }
}
