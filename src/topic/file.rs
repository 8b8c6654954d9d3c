//! The file of a topic: one page, whole or not there.
//!
//! It lies in `topics/`, its log beside it; transit and listeners' ring are hidden objects. A removal
//! marks the file first; from then on nobody uses the topic, and whoever meets the mark finishes it.

use super::log::{self, open_error};
use super::{TopicDefinition, TopicKind};
use crate::error::OpenError;
use crate::layout::topic::{KIND_FIFO, KIND_STANDARD, MAGIC, TopicHeader};
use crate::layout::{
    FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, READY_OFFSET, REMOVED,
};
use crate::object::Site;
use crate::object::file::{check_preamble, read_header};
use crate::shm::words;
use crate::sync::Ordering;
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, file, host, lock};
use std::io;

/// A checked and mapped topic.
pub struct TopicFile {
    pub definition: TopicDefinition,
    pub id: u64,
    pub mapping: Mapping,
}

/// Creates the file of `definition`. `AlreadyExists` when somebody was first.
pub fn create(site: &Site, definition: &TopicDefinition) -> Result<(), OpenError> {
    let path = site.directory.join(&definition.name);
    let temporary = format!("{}{:016x}", site.temporary_prefix, host::random_u64());
    let temporary = site.directory.join(temporary);
    let made = file::create_temporary(&temporary, PAGE as u64, site.access);
    let made = made.map_err(|failure| open_error(&path, failure))?;
    let mut name = [0; 128];
    name[..definition.name.len()].copy_from_slice(definition.name.as_bytes());
    let published = Mapping::new(&made, MapOptions::default()).and_then(|mapping| {
        let header = TopicHeader {
            preamble: Preamble {
                magic: MAGIC,
                major: FORMAT_MAJOR,
                minor: FORMAT_MINOR,
                ready: 0,
                features: FEATURES_REQUIRED,
                bus_id: site.bus_id,
                boot_id: site.boot_id,
                object_id: host::random_u64() | 1,
                created_ms: clock::unix_ms(),
            },
            kind: match definition.kind {
                TopicKind::Standard => KIND_STANDARD,
                TopicKind::Fifo => KIND_FIFO,
            },
            name_bytes: definition.name.len() as u32,
            name,
            listen_slots: definition.listen_slots,
            archive_days: definition.archive_days,
            reserved_word: 0,
            archive_slots: definition.archive_slots,
            reserved: [0; PAGE - 64 - 8 - 128 - 24],
        };
        words::write_header(&mapping, &header);
        words::word32(&mapping, READY_OFFSET).store(READY, Ordering::Release);
        file::publish(&temporary, &path)
    });
    published.map_err(|error| {
        let _ = file::remove(&temporary);
        OpenError::io(&path, error)
    })
}

/// Opens, checks and maps the topic `name`.
pub fn open(site: &Site, name: &str) -> Result<TopicFile, OpenError> {
    let path = site.directory.join(name);
    let at = |error| OpenError::io(&path, error);
    let opened = site.open(&path).map_err(at)?;
    let actual = opened.metadata().map_err(at)?.len();
    if actual != PAGE as u64 {
        let expected = PAGE as u64;
        return Err(OpenError::WrongLength {
            path,
            expected,
            actual,
        });
    }
    let header: TopicHeader = read_header(&opened).map_err(at)?;
    check_preamble(&header.preamble, MAGIC, "topic", &path)?;
    if header.preamble.bus_id != site.bus_id {
        return Err(OpenError::OtherBus { path });
    }
    if header.preamble.boot_id != site.boot_id {
        return Err(OpenError::OtherBoot { path });
    }
    let scribbled = |what| OpenError::Scribbled {
        path: path.clone(),
        what,
    };
    if header.name.get(..header.name_bytes as usize) != Some(name.as_bytes()) {
        return Err(scribbled("its header names another topic"));
    }
    let kind = match header.kind {
        KIND_STANDARD => TopicKind::Standard,
        KIND_FIFO => TopicKind::Fifo,
        _ => return Err(scribbled("unknown kind of topic")),
    };
    let mapping = Mapping::new(&opened, site.map_options()).map_err(at)?;
    if mapping.len() < PAGE {
        return Err(scribbled("it was truncated"));
    }
    Ok(TopicFile {
        definition: TopicDefinition {
            name: name.to_owned(),
            kind,
            listen_slots: header.listen_slots,
            archive_days: header.archive_days,
            archive_slots: header.archive_slots,
        },
        id: header.preamble.object_id,
        mapping,
    })
}

/// Marks the topic `name` removed, has `hidden` remove its objects, and takes its files away. Also where a
/// remover died half-way.
pub fn remove(
    site: &Site,
    name: &str,
    hidden: impl FnOnce() -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let path = site.directory.join(name);
    let at = |error| OpenError::io(&path, error);
    let opened = file::open(&path).map_err(at)?;
    // Everyone who takes the name away holds this byte of the very file, so a fresh topic is never hit.
    while !lock::try_lock(&opened, crate::layout::bus::RESET_LOCK).map_err(at)? {
        clock::pause(std::time::Duration::from_millis(1));
    }
    if !file::is_at(&opened, &path) {
        return Err(at(io::Error::from(io::ErrorKind::NotFound)));
    }
    let is_whole = opened.metadata().map_err(at)?.len() >= PAGE as u64;
    if is_whole {
        let mapping = Mapping::new(&opened, MapOptions::default()).map_err(at)?;
        words::word32(&mapping, READY_OFFSET).store(REMOVED, Ordering::Release);
    }
    hidden()?;
    match file::remove(&log::path(site, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        _ => {}
    }
    file::remove(&path).map_err(at)
}
