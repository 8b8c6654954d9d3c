//! Ring files: creation that is whole or not at all, and an open that believes nothing.

use super::Definition;
use crate::error::OpenError;
use crate::layout::geometry::Geometry;
use crate::layout::ring::{
    MAGIC, OVERFLOW_DROP_OLDEST, OVERFLOW_REFUSE, PRODUCERS_EXCLUSIVE, PRODUCERS_SHARED,
    READERS_OFFSET, ReaderEntry, RingHeader,
};
use crate::layout::{
    FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, READY_OFFSET, REMOVED,
    is_readable,
};
use crate::ring::{Overflow, Producers};
use crate::shm::ring::RingMemory;
use crate::shm::words;
use crate::sync::Ordering;
use crate::sys::file::{self, Access, CreateFailure};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, host};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a ring with huge pages is rounded up to.
const HUGE_PAGE: u64 = 2 << 20;

/// Where the objects of a bus lie and what every file of it has in common.
#[derive(Clone, Debug)]
pub struct Site {
    pub directory: PathBuf,
    pub access: Access,
    pub bus_id: u64,
    pub boot_id: [u8; 16],
    /// Names of temporary files begin with this; it names the creator.
    pub temporary_prefix: String,
    pub pre_touch: bool,
}

/// A checked and mapped ring file.
pub struct RingFile {
    pub memory: RingMemory,
    pub mapping: Arc<Mapping>,
    pub definition: Definition,
    pub object_id: u64,
    pub file: File,
    pub path: PathBuf,
}

/// Creates the file of `definition`. `AlreadyExists` when somebody was first.
pub fn create(site: &Site, definition: &Definition) -> Result<(), OpenError> {
    definition.check()?;
    let path = site.directory.join(&definition.name);
    let alignment = if definition.huge_pages {
        HUGE_PAGE as usize
    } else {
        PAGE
    };
    let table = READERS_OFFSET + definition.readers as usize * size_of::<ReaderEntry>();
    let slots_offset = table.next_multiple_of(alignment) as u64;
    let file_bytes =
        (slots_offset + definition.slots * definition.stride).next_multiple_of(alignment as u64);
    let temporary = site.directory.join(format!(
        "{}{:016x}",
        site.temporary_prefix,
        host::random_u64()
    ));
    let file =
        file::create_temporary(&temporary, file_bytes, site.access).map_err(
            |failure| match failure {
                CreateFailure::NoSpace(room) => OpenError::NoSpace {
                    path: path.clone(),
                    needed: room.needed,
                    available: room.available,
                },
                CreateFailure::Io(error) => OpenError::io(&path, error),
            },
        )?;
    let made = (|| {
        let mapping = Mapping::new(&file, MapOptions::default())?;
        let mut name = [0u8; 128];
        name[..definition.name.len()].copy_from_slice(definition.name.as_bytes());
        // Slots and control words are zero: VOID of lap 0, position 0 first, nobody anywhere.
        words::write_header(
            &mapping,
            &RingHeader {
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
                slots: definition.slots,
                stride: definition.stride,
                slots_offset,
                file_bytes,
                readers: definition.readers,
                producers: match definition.producers {
                    Producers::Shared => PRODUCERS_SHARED,
                    Producers::Exclusive => PRODUCERS_EXCLUSIVE,
                },
                overflow: match definition.overflow {
                    Overflow::Refuse => OVERFLOW_REFUSE,
                    Overflow::DropOldest => OVERFLOW_DROP_OLDEST,
                },
                stall_timeout_us: definition.stall_timeout.as_micros() as u32,
                name_bytes: definition.name.len() as u32,
                huge_pages: u32::from(definition.huge_pages),
                name,
                reserved: [0; PAGE - 64 - 4 * 8 - 6 * 4 - 128],
            },
        );
        words::word32(&mapping, READY_OFFSET).store(READY, Ordering::Release);
        file::publish(&temporary, &path)
    })();
    made.map_err(|error: io::Error| {
        let _ = file::remove(&temporary);
        OpenError::io(&path, error)
    })
}

/// Checks a preamble that was copied out of a file.
pub fn check_preamble(
    preamble: &Preamble,
    magic: [u8; 8],
    expected: &'static str,
    path: &Path,
) -> Result<(), OpenError> {
    let path = || path.to_path_buf();
    if preamble.magic != magic {
        return Err(OpenError::Foreign {
            path: path(),
            expected,
            found: preamble.magic,
        });
    }
    if !is_readable(preamble.major, preamble.minor) {
        return Err(OpenError::WrongFormat {
            path: path(),
            found_major: preamble.major,
            found_minor: preamble.minor,
            supported_major: FORMAT_MAJOR,
            supported_minor: FORMAT_MINOR,
        });
    }
    let unknown = preamble.features & !FEATURES_REQUIRED;
    if unknown != 0 {
        return Err(OpenError::UnknownFeatures {
            path: path(),
            unknown,
        });
    }
    match preamble.ready {
        READY => Ok(()),
        REMOVED => Err(OpenError::Removed { path: path() }),
        _ => Err(OpenError::Scribbled {
            path: path(),
            what: "the ready word is neither set nor removed",
        }),
    }
}

/// Reads a header without mapping the file.
pub fn read_header<T: bytemuck::Pod>(file: &File) -> io::Result<T> {
    let mut header = T::zeroed();
    file::read_head(file, bytemuck::bytes_of_mut(&mut header))?;
    Ok(header)
}

/// Opens, checks and maps the file of `name`.
pub fn open(site: &Site, name: &str) -> Result<RingFile, OpenError> {
    open_file(site, name, Some(name))
}

/// Opens, checks and maps a ring that was removed and put aside under `file_name`, for sweeps.
pub fn open_removed(site: &Site, file_name: &str) -> Result<RingFile, OpenError> {
    open_file(site, file_name, None)
}

/// `name`: what the header has to say; `None` for a removed ring, whatever its name was.
fn open_file(site: &Site, file_name: &str, name: Option<&str>) -> Result<RingFile, OpenError> {
    let path = site.directory.join(file_name);
    let file = file::open(&path).map_err(|error| OpenError::io(&path, error))?;
    let actual = file
        .metadata()
        .map_err(|error| OpenError::io(&path, error))?
        .len();
    if actual < PAGE as u64 {
        let expected = PAGE as u64;
        return Err(OpenError::WrongLength {
            path,
            expected,
            actual,
        });
    }
    let header: RingHeader = read_header(&file).map_err(|error| OpenError::io(&path, error))?;
    match (check_preamble(&header.preamble, MAGIC, "ring", &path), name) {
        (Err(OpenError::Removed { .. }), None) => {}
        (checked, _) => checked?,
    }
    if header.preamble.bus_id != site.bus_id {
        return Err(OpenError::OtherBus { path });
    }
    if header.preamble.boot_id != site.boot_id {
        return Err(OpenError::OtherBoot { path });
    }
    if header.file_bytes != actual {
        return Err(OpenError::WrongLength {
            path,
            expected: header.file_bytes,
            actual,
        });
    }
    let scribbled = |what| OpenError::Scribbled {
        path: path.clone(),
        what,
    };
    let definition = definition(&header, name).map_err(scribbled)?;
    let geometry = Geometry::new(header.slots, header.stride, header.readers)
        .ok_or_else(|| scribbled("slots, stride or readers are outside their bounds"))?;
    // A length that only the header claims must not be faulted in.
    let end = header
        .slots_offset
        .checked_add(geometry.slots() * geometry.stride() as u64);
    if end.is_none_or(|end| actual < end) {
        return Err(scribbled("the slots do not fit into the file"));
    }
    if end.is_some_and(|end| actual - end >= HUGE_PAGE) {
        return Err(scribbled("the file goes on behind its slots"));
    }
    let options = MapOptions {
        pre_touch: site.pre_touch,
        huge_pages: definition.huge_pages,
    };
    // `RingMemory::new` checks against the length that is mapped, whatever it was before.
    let mapping = Arc::new(Mapping::new(&file, options).map_err(|e| OpenError::io(&path, e))?);
    let memory = RingMemory::new(Arc::clone(&mapping), geometry, header.slots_offset)
        .ok_or_else(|| scribbled("the slots do not fit into the file"))?;
    Ok(RingFile {
        memory,
        mapping,
        definition,
        object_id: header.preamble.object_id,
        file,
        path,
    })
}

fn definition(header: &RingHeader, name: Option<&str>) -> Result<Definition, &'static str> {
    let stored = header
        .name
        .get(..header.name_bytes as usize)
        .unwrap_or_default();
    if name.is_some_and(|name| stored != name.as_bytes()) {
        return Err("its header names another object");
    }
    Ok(Definition {
        name: String::from_utf8_lossy(stored).into_owned(),
        slots: header.slots,
        stride: header.stride,
        readers: header.readers,
        producers: match header.producers {
            PRODUCERS_SHARED => Producers::Shared,
            PRODUCERS_EXCLUSIVE => Producers::Exclusive,
            _ => return Err("unknown kind of producers"),
        },
        overflow: match header.overflow {
            OVERFLOW_REFUSE => Overflow::Refuse,
            OVERFLOW_DROP_OLDEST => Overflow::DropOldest,
            _ => return Err("unknown overflow policy"),
        },
        stall_timeout: Duration::from_micros(header.stall_timeout_us.into()),
        huge_pages: header.huge_pages == 1,
    })
}
