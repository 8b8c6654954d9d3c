//! Rings on a disk: a queue whose further rings are files of a directory on one, so that its
//! backlog takes no memory but what is being written and read.
//!
//! The directory is `.spill-BUS` beside the journals of the bus, BUS its id; the names in it are those that
//! rings have beside the queue otherwise, so everything that makes, lists and takes away rings goes by
//! another directory and knows no difference. The first ring stays with the bus. What is there
//! is memory on a disk and no journal, of a queue that has one too: it ends with the bus, and is swept when the
//! machine was restarted since, or the queue is made again.
//!
//! # What each crash point leaves
//! A temporary file, removed by the reaper; a ring of a queue that is gone, removed by the doctor; a
//! directory of another life of the machine, removed by whoever creates such a queue next.

use super::definition::QueueDefinition;
use super::grown::grown_of;
use crate::error::OpenError;
use crate::layout::Preamble;
use crate::layout::queue::JOURNAL_PATH_BYTES;
use crate::object::Site;
use crate::object::file::{path_on_disk, read_header};
use crate::sys::{disk, file as files};
use std::io;
use std::path::{Path, PathBuf};

/// Directories of spilled rings, of all buses that had this name: this, and the id of the bus.
const SPILL_PREFIX: &str = ".spill-";
/// Bytes of a further ring, as long as 128 of them are enough: of a queue with a large backlog the one that
/// is written and the one that is read are in memory.
const RING_BYTES: u64 = 64 << 20;

/// Where rings of this bus lie, if its journals have a place.
pub(super) fn directory(site: &Site) -> Option<PathBuf> {
    let journals = site.journals.as_ref()?;
    Some(directory_in(journals, site))
}

/// The same, in that directory of journals.
pub(super) fn directory_in(journals: &Path, site: &Site) -> PathBuf {
    journals.join(format!("{SPILL_PREFIX}{:016x}", site.bus_id))
}

/// Takes away what a queue whose rings were named by `chain` has spilled in earlier lives of its bus, which may
/// have been deleted with everything in memory.
pub(super) fn remove_rings_of(site: &Site, chain: u64) {
    let Some(journals) = &site.journals else {
        return;
    };
    for name in files::names(journals).unwrap_or_default() {
        if !name.starts_with(SPILL_PREFIX) {
            continue;
        }
        let directory = journals.join(name);
        for name in files::names(&directory).unwrap_or_default() {
            if grown_of(&name).is_some_and(|(id, _)| id == chain) {
                let _ = files::remove(&directory.join(name));
            }
        }
        if Some(&directory) != self::directory(site).as_ref() {
            // Not empty: other queues have something there.
            let _ = files::remove_empty_directory(&directory);
        }
    }
}

/// The directory with rings on a disk, if this bus has one.
pub(crate) fn spill_directory(site: &Site) -> Option<PathBuf> {
    directory(site).filter(|directory| directory.is_dir())
}

/// Where the further rings of a queue lie that spills into `directory`, or does not.
pub(crate) fn further_site(site: &Site, directory: Option<&Path>) -> Site {
    Site {
        directory: directory.unwrap_or(&site.directory).to_owned(),
        ..site.clone()
    }
}

/// Makes the directory for a queue that is created, and takes away those of other lives of the machine.
/// The path, as its header has it.
pub(super) fn prepare(site: &Site) -> Result<Vec<u8>, OpenError> {
    let path = directory(site);
    let bytes = path_on_disk(path.as_deref(), JOURNAL_PATH_BYTES)?;
    let (Some(path), Some(journals)) = (path, &site.journals) else {
        return Ok(bytes); // refused above
    };
    disk::create_directories(journals).map_err(|error| OpenError::io(journals, error))?;
    match files::create_directory(&path, site.access) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(OpenError::io(path, error));
        }
        _ => {}
    }
    for name in files::names(journals).unwrap_or_default() {
        let other = journals.join(&name);
        if name.starts_with(SPILL_PREFIX) && other != path && is_of_another_life(site, &other) {
            remove_all(&other);
        }
    }
    Ok(bytes)
}

/// Whether every ring in it was made before the machine was started.
fn is_of_another_life(site: &Site, directory: &Path) -> bool {
    let mut names = files::names(directory).unwrap_or_default();
    names.retain(|name| grown_of(name).is_some());
    names.iter().all(|name| {
        let head = files::open(&directory.join(name));
        let head = head.and_then(|file| read_header::<Preamble>(&file));
        head.is_ok_and(|head| head.boot_id != site.boot_id)
    })
}

/// Takes away what queues of this bus have spilled, and the directory. Of a bus that is removed.
pub(crate) fn remove_spilled(site: &Site) {
    if let Some(directory) = spill_directory(site) {
        remove_all(&directory);
    }
}

fn remove_all(directory: &Path) {
    for name in files::names(directory).unwrap_or_default() {
        let _ = files::remove(&directory.join(name));
    }
    let _ = files::remove_empty_directory(directory);
}

impl QueueDefinition {
    /// Most slots of a further ring.
    pub(super) fn most_ring_slots(&self, most: u64) -> u64 {
        if !self.spill {
            return most;
        }
        let bytes = RING_BYTES.max(self.max_bytes / 128);
        let slots = (bytes / self.stride).max(1);
        (1 << slots.ilog2()).clamp(self.slots, most)
    }
}
