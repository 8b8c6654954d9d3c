//! The journals of queues: which there are, and how far whoever makes a queue again is.
//!
//! He holds the lock of its directory ([`directory`]), and writes down in that file how far he is: the others
//! see it, and wait as long as he comes further.

use super::file::{QueueFile, journal_directory};
use crate::error::OpenError;
use crate::journal::{self, Disk};
use crate::layout::durable;
use crate::layout::queue::{MAGIC, QueueHeader};
use crate::object::file::read_header;
use crate::object::{RecoveryProgress, Site};
use crate::persist::directory;
use crate::sys::clock;
use crate::sys::file as files;
use core::cell::Cell;
use std::fs::File;
use std::path::Path;

/// Between two times that he does, in ns.
const TELL_EVERY_NS: u64 = 50_000_000;

/// Who is told how far the making of a queue is.
pub(super) struct Told<'a> {
    site: &'a Site,
    queue: &'a str,
    last: Cell<u64>,
}

impl<'a> Told<'a> {
    /// Whoever opens `queue` by `site`.
    pub fn of(site: &'a Site, queue: &'a str) -> Self {
        Self {
            site,
            queue,
            last: Cell::new(clock::now()),
        }
    }

    fn tell(&self, read_bytes: u64, total_bytes: u64, is_elsewhere: bool) {
        if let Some(watch) = &self.site.on_recovery {
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
        let _ = files::write_words(lock, directory::FAR, [read, total]);
        self.tell(read, total, false);
    }
}

/// Whether there is a journal of a queue of that name.
///
/// # Errors
/// When nobody can say: a queue that was made then would hide its messages.
pub(crate) fn has_journal(site: &Site, name: &str) -> Result<bool, OpenError> {
    match journal_directory(site, name) {
        Some(journal) => directory::is_journal(&journal),
        None => Ok(false),
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

/// Whether a journal, if it can be read at all, is that of the queue whose file this is.
pub(crate) fn owns_journal(journal: &Path, queue: &File) -> bool {
    let Ok(queue) = read_header::<QueueHeader>(queue) else {
        return false;
    };
    let read = Disk::open(journal).and_then(|disk| journal::definition(&disk));
    let is_its = read.map_or(true, |definition| {
        let header: QueueHeader = bytemuck::pod_read_unaligned(&definition[..]);
        (header.preamble.magic, header.preamble.object_id) == (MAGIC, queue.preamble.object_id)
    });
    is_its && queue.durability != durable::MEMORY
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

/// The lock; `None` when the queue is there by then, or its journal is not.
pub(super) fn lock_journal(
    journal: &Path,
    queue: &Path,
    told: &Told<'_>,
) -> Result<Option<File>, OpenError> {
    directory::lock_journal(journal, queue, |read, total| told.tell(read, total, true))
}
