//! The journals of streams: which there are, and where. That of the table lies in the directory of the
//! stream, those of shards in directories in it.

use super::file::{StreamFile, journal_directory};
use crate::error::OpenError;
use crate::journal::{self, Disk};
use crate::layout::stream::{MAGIC, StreamHeader};
use crate::object::Site;
use crate::object::file::read_header;
use crate::persist::directory;
use crate::sys::file as files;
use std::fs::File;
use std::path::Path;

/// Whether there is a journal of a stream of that name.
///
/// # Errors
/// When nobody can say: a stream that was made then would hide its records.
pub(crate) fn has_journal(site: &Site, name: &str) -> Result<bool, OpenError> {
    match journal_directory(site, name) {
        Some(journals) => directory::is_journal(&journals),
        None => Ok(false),
    }
}

/// Streams of which journals are there: their names, and the bytes of all their files.
pub(crate) fn journals(site: &Site) -> Vec<(String, u64)> {
    let Some(parent) = &site.journals else {
        return Vec::new();
    };
    let names = files::names(parent).unwrap_or_default();
    let found = names.into_iter().filter_map(|name| {
        let at = parent.join(&name);
        let header = definition_in(&at).filter(|_| !name.starts_with('.'))?;
        let is_its = header.name.get(..header.name_bytes as usize) == Some(name.as_bytes());
        let bytes = directory::bytes(&at).ok().filter(|_| is_its)?;
        Some((name, bytes))
    });
    found.collect()
}

/// The family of the stream whose journals lie there under its name.
pub(crate) fn family_in_journals(site: &Site, name: &str) -> Option<u64> {
    let directory = journal_directory(site, name)?;
    definition_in(&directory).map(|header| header.family)
}

/// What the journal in a directory says the stream is made from, if it is one of a stream.
fn definition_in(directory: &Path) -> Option<StreamHeader> {
    let definition = journal::definition(&Disk::open(directory).ok()?).ok()?;
    let header: StreamHeader = bytemuck::pod_read_unaligned(&definition[..]);
    (header.preamble.magic == MAGIC).then_some(header)
}

/// Whether journals, if they can be read at all, are those of the stream whose file this is.
pub(crate) fn owns_journals(journals: &Path, stream: &File) -> bool {
    let Ok(stream) = read_header::<StreamHeader>(stream) else {
        return false;
    };
    let read = Disk::open(journals).and_then(|disk| journal::definition(&disk));
    let is_its = read.map_or(true, |definition| {
        let header: StreamHeader = bytemuck::pod_read_unaligned(&definition[..]);
        (header.preamble.magic, header.family) == (MAGIC, stream.family)
    });
    is_its && stream.journal_bytes != 0
}

/// Whether the journals of an open stream, if it has any, lie where this attachment has its own.
///
/// # Errors
/// [`OpenError::Mismatch`] when they lie elsewhere.
pub(crate) fn check_journal(site: &Site, stream: &StreamFile) -> Result<(), OpenError> {
    let Some(existing) = &stream.journals else {
        return Ok(());
    };
    let wanted = journal_directory(site, &stream.definition.name);
    if wanted.as_ref() == Some(existing) {
        return Ok(());
    }
    Err(OpenError::Mismatch {
        path: stream.path.clone(),
        option: "journal_root",
        existing: existing.display().to_string(),
        wanted: wanted.map_or("none".to_owned(), |wanted| wanted.display().to_string()),
    })
}
