//! Ring files: what a channel adds to an object file.

use super::Definition;
use crate::error::OpenError;
use crate::layout::PAGE;
use crate::layout::geometry::Geometry;
use crate::layout::ring::{
    MAGIC, NO_PIN, OVERFLOW_DROP_OLDEST, OVERFLOW_REFUSE, PRODUCERS_EXCLUSIVE, PRODUCERS_SHARED,
    READER_STANDING, READERS_OFFSET, ReaderEntry, RingHeader, control,
};
use crate::layout::word::Role;
use crate::object::Site;
use crate::object::file::{self, Shape, framed};
use crate::ring::{Overflow, Producers};
use crate::shm::ring::RingMemory;
use crate::shm::words::word64;
use crate::sync::Ordering;
use crate::sys::mapping::Mapping;
use core::cell::Cell;
use core::mem::offset_of;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

framed!(RingHeader, MAGIC, "ring", |header| header.readers);

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
    create_standing(site, definition, 0)
}

/// The same with the last `standing` reader entries standing, and protecting nothing yet.
pub fn create_standing(
    site: &Site,
    definition: &Definition,
    standing: u32,
) -> Result<(), OpenError> {
    create_filled(site, definition, standing, |_, _| {})
}

/// The same; `fill` stores what its words and slots say at first.
pub fn create_filled(
    site: &Site,
    definition: &Definition,
    standing: u32,
    fill: impl FnOnce(&Arc<Mapping>, &RingMemory),
) -> Result<(), OpenError> {
    definition.check()?;
    let geometry = Geometry::new(definition.slots, definition.stride, definition.readers);
    let slots_offset = Cell::new(0);
    let shape = Shape {
        name: &definition.name,
        slots: definition.slots,
        stride: definition.stride,
        slots_from: READERS_OFFSET as u64
            + u64::from(definition.readers) * size_of::<ReaderEntry>() as u64,
        huge_pages: definition.huge_pages,
    };
    let header = |frame: file::Frame| {
        slots_offset.set(frame.slots_offset);
        header_of(definition, &frame)
    };
    file::create(site, &shape, header, |mapping| {
        for number in 0..standing {
            let index = definition.readers - standing + number;
            let at = READERS_OFFSET + index as usize * size_of::<ReaderEntry>();
            let word = Role::new(READER_STANDING, number as u16 + 1, 0);
            word64(mapping, at + offset_of!(ReaderEntry, word)).store(word.0, Ordering::Relaxed);
            let cursor = at + offset_of!(ReaderEntry, cursor);
            word64(mapping, cursor).store(NO_PIN, Ordering::Relaxed);
        }
        if standing > 0 {
            let used = word64(mapping, control::READERS_USED);
            used.store(definition.readers.into(), Ordering::Relaxed);
        }
        let memory = geometry.and_then(|geometry| {
            RingMemory::new(Arc::clone(mapping), geometry, slots_offset.get())
        });
        if let Some(memory) = memory {
            fill(mapping, &memory);
        }
    })
}

fn header_of(definition: &Definition, frame: &file::Frame) -> RingHeader {
    RingHeader {
        preamble: frame.preamble,
        slots: frame.slots,
        stride: frame.stride,
        slots_offset: frame.slots_offset,
        file_bytes: frame.file_bytes,
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
        name_bytes: frame.name_bytes,
        huge_pages: frame.huge_pages,
        name: frame.name,
        reserved: [0; PAGE - 64 - 4 * 8 - 6 * 4 - 128],
    }
}

/// Opens, checks and maps the file of `name`.
pub fn open(site: &Site, name: &str) -> Result<RingFile, OpenError> {
    open_file(site, name, Some(name))
}

/// Opens, checks and maps a ring that was removed and put aside under `file_name`, for sweeps.
pub fn open_removed(site: &Site, file_name: &str) -> Result<RingFile, OpenError> {
    open_file(site, file_name, None)
}

fn open_file(site: &Site, file_name: &str, name: Option<&str>) -> Result<RingFile, OpenError> {
    let opened = file::open::<RingHeader>(site, file_name, name)?;
    let definition = definition(&opened.header, &opened.name);
    let definition = definition.map_err(|what| opened.scribbled(what))?;
    let (mapping, memory) = opened.map(site)?;
    Ok(RingFile {
        memory,
        mapping,
        definition,
        object_id: opened.header.preamble.object_id,
        file: opened.file,
        path: opened.path,
    })
}

fn definition(header: &RingHeader, name: &str) -> Result<Definition, &'static str> {
    Ok(Definition {
        name: name.to_owned(),
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
