//! Queue files: creation that is whole or not at all, and an open that believes nothing.

use super::QueueDefinition;
use crate::channel::{Site, check_preamble, read_header};
use crate::error::OpenError;
use crate::layout::geometry::Geometry;
use crate::layout::queue::{
    DUE_OFFSET, MAGIC, MAX_DELAY_MS, MAX_RETENTION_MS, MAX_VISIBILITY_MS, MIN_RETENTION_MS, NEVER,
    QueueHeader, due_words,
};
use crate::layout::{
    FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, READY_OFFSET,
};
use crate::shm::queue::QueueWords;
use crate::shm::ring::RingMemory;
use crate::shm::words;
use crate::sync::Ordering;
use crate::sys::file::{self, CreateFailure};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, host};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a queue with huge pages is rounded up to.
const HUGE_PAGE: u64 = 2 << 20;
/// Reader entries of the ring below, which a queue does not use.
const READERS: u32 = 1;

/// A checked and mapped queue file.
pub struct QueueFile {
    pub memory: RingMemory,
    pub words: QueueWords,
    pub mapping: Arc<Mapping>,
    pub definition: QueueDefinition,
    pub object_id: u64,
    pub epoch_ms: u64,
    /// Unix time of the epoch.
    pub created_ms: u64,
    pub file: File,
    pub path: PathBuf,
}

/// Creates the file of `definition`. `AlreadyExists` when somebody was first.
pub fn create(site: &Site, definition: &QueueDefinition) -> Result<(), OpenError> {
    definition.check()?;
    let path = site.directory.join(&definition.name);
    let alignment = if definition.huge_pages {
        HUGE_PAGE
    } else {
        PAGE as u64
    };
    let (groups, blocks) = due_words(definition.slots);
    let slots_offset = (DUE_OFFSET + 8 * (groups + blocks)).next_multiple_of(alignment);
    let file_bytes =
        (slots_offset + definition.slots * definition.stride).next_multiple_of(alignment);
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
        let ms = |time: Duration| time.as_millis() as u32; // checked above
        // Slots and control words are zero: VOID of lap 0, position 0 first, nobody anywhere.
        words::write_header(
            &mapping,
            &QueueHeader {
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
                stall_timeout_us: definition.stall_timeout.as_micros() as u32,
                name_bytes: definition.name.len() as u32,
                huge_pages: u32::from(definition.huge_pages),
                redeliver_on_death: u32::from(definition.redeliver_on_death),
                name,
                due_offset: DUE_OFFSET,
                epoch_ms: clock::boot_ms(),
                max_message_bytes: definition.max_message_bytes,
                visibility_ms: ms(definition.visibility),
                delay_ms: ms(definition.delay),
                retention_ms: ms(definition.retention),
                ..bytemuck::Zeroable::zeroed()
            },
        );
        for word in 0..groups + blocks {
            let at = DUE_OFFSET + 8 * word;
            words::word64(&mapping, at as usize).store(NEVER, Ordering::Relaxed);
        }
        words::word64(&mapping, crate::layout::queue::control::DUE).store(NEVER, Ordering::Relaxed);
        words::word32(&mapping, READY_OFFSET).store(READY, Ordering::Release);
        file::publish(&temporary, &path)
    })();
    made.map_err(|error: io::Error| {
        let _ = file::remove(&temporary);
        OpenError::io(&path, error)
    })
}

/// Opens, checks and maps the file of `name`.
pub fn open(site: &Site, name: &str) -> Result<QueueFile, OpenError> {
    open_file(site, name, Some(name))
}

/// Opens, checks and maps a queue that was removed and put aside under `file_name`, for sweeps.
pub fn open_removed(site: &Site, file_name: &str) -> Result<QueueFile, OpenError> {
    open_file(site, file_name, None)
}

/// `name`: what the header has to say; `None` for a removed queue, whatever its name was.
fn open_file(site: &Site, file_name: &str, name: Option<&str>) -> Result<QueueFile, OpenError> {
    let path = site.directory.join(file_name);
    let io = |error| OpenError::io(&path, error);
    let file = file::open(&path).map_err(io)?;
    let actual = file.metadata().map_err(io)?.len();
    let wrong_length = |expected| OpenError::WrongLength {
        path: path.clone(),
        expected,
        actual,
    };
    if actual < PAGE as u64 {
        return Err(wrong_length(PAGE as u64));
    }
    let header: QueueHeader = read_header(&file).map_err(io)?;
    match (
        check_preamble(&header.preamble, MAGIC, "queue", &path),
        name,
    ) {
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
        return Err(wrong_length(header.file_bytes));
    }
    let scribbled = |what| OpenError::Scribbled {
        path: path.clone(),
        what,
    };
    let definition = definition(&header, name).map_err(scribbled)?;
    let geometry = Geometry::new(header.slots, header.stride, READERS)
        .ok_or_else(|| scribbled("slots or stride are outside their bounds"))?;
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
    // Checked against the length that is mapped, whatever it was before.
    let mapping = Arc::new(Mapping::new(&file, options).map_err(io)?);
    let memory = RingMemory::new(Arc::clone(&mapping), geometry, header.slots_offset)
        .ok_or_else(|| scribbled("the slots do not fit into the file"))?;
    let words = QueueWords::new(
        Arc::clone(&mapping),
        &geometry,
        header.due_offset,
        header.slots_offset,
    )
    .ok_or_else(|| scribbled("the due words do not fit in front of the slots"))?;
    Ok(QueueFile {
        memory,
        words,
        mapping,
        definition,
        object_id: header.preamble.object_id,
        epoch_ms: header.epoch_ms,
        created_ms: header.preamble.created_ms,
        file,
        path,
    })
}

fn definition(header: &QueueHeader, name: Option<&str>) -> Result<QueueDefinition, &'static str> {
    let stored = header
        .name
        .get(..header.name_bytes as usize)
        .unwrap_or_default();
    if name.is_some_and(|name| stored != name.as_bytes()) {
        return Err("its header names another object");
    }
    if header.visibility_ms > MAX_VISIBILITY_MS
        || header.delay_ms > MAX_DELAY_MS
        || !(MIN_RETENTION_MS..=MAX_RETENTION_MS).contains(&header.retention_ms)
    {
        return Err("visibility, delay or retention are outside their bounds");
    }
    if header.epoch_ms > clock::boot_ms() {
        return Err("its epoch lies in the future");
    }
    let ms = |ms: u32| Duration::from_millis(ms.into());
    Ok(QueueDefinition {
        name: String::from_utf8_lossy(stored).into_owned(),
        slots: header.slots,
        stride: header.stride,
        visibility: ms(header.visibility_ms),
        delay: ms(header.delay_ms),
        retention: ms(header.retention_ms),
        max_message_bytes: header.max_message_bytes,
        redeliver_on_death: header.redeliver_on_death == 1,
        stall_timeout: Duration::from_micros(header.stall_timeout_us.into()),
        huge_pages: header.huge_pages == 1,
    })
}
