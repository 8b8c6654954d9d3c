//! Stream files: the control file, and the names of the files of its shards.

use super::definition::{Backpressure, OnDemand, Retention, ShardLimits, StreamDefinition};
use super::hash::{uniform_end, uniform_start};
use super::words::{self, StreamWords};
use crate::channel;
use crate::error::OpenError;
use crate::layout::ring::{PRODUCERS_EXCLUSIVE, PRODUCERS_SHARED};
use crate::layout::stream::{
    FULL_BLOCKS, FULL_DROPS, FULL_REFUSES, JOURNAL_PATH_BYTES, MAGIC, NO_SHARD, OnDemandHeader,
    SHARDS, STANDING, ShardEntry, StreamHeader, TABLE_FROM,
};
use crate::layout::word::Shard;
use crate::layout::{Preamble, durable};
use crate::object::Site;
use crate::object::file::{self, Shape, framed};
use crate::queue::Durability;
use crate::ring::Producers;
use crate::sync::Ordering;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use crate::sys::{clock, host};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

framed!(StreamHeader, MAGIC, "stream", |_| 1);

/// Files of shards: this, the family of the stream in 16 hexadecimal digits, `-`, the number. No
/// object's name begins with a dot.
const SHARD_PREFIX: &str = ".shard-";

/// The name of the file of shard `shard` of family `family`.
pub(crate) fn shard_file(family: u64, shard: u32) -> String {
    format!("{SHARD_PREFIX}{family:016x}-{shard}")
}

/// The family and the number of a shard's file.
pub(crate) fn shard_of(file_name: &str) -> Option<(u64, u32)> {
    let (family, shard) = file_name.strip_prefix(SHARD_PREFIX)?.split_once('-')?;
    let parsed = (u64::from_str_radix(family, 16).ok()?, shard.parse().ok()?);
    (shard_file(parsed.0, parsed.1) == file_name).then_some(parsed)
}

/// A checked and mapped control file.
pub(crate) struct StreamFile {
    pub words: StreamWords,
    pub mapping: Arc<Mapping>,
    pub definition: StreamDefinition,
    pub family: u64,
    pub created_ms: u64,
    pub header: Box<StreamHeader>,
    /// Where its journals lie, if it is on disk.
    pub journals: Option<PathBuf>,
    pub file: File,
    pub path: PathBuf,
}

/// Creates the rings of the first shards of `definition`, then its control file. `AlreadyExists` when
/// somebody was first.
///
/// Whoever finds the stream finds its shards. A creator that dies leaves rings of a stream that is not
/// there, which the doctor takes away; one that was not the first takes them away itself.
pub(crate) fn create(site: &Site, definition: &StreamDefinition) -> Result<(), OpenError> {
    definition.check()?;
    let path = site.directory.join(&definition.name);
    if files::len(&path).is_ok() {
        return Err(OpenError::AlreadyExists { path });
    }
    // Refused before anything is made.
    journal_bytes(site, definition)?;
    let family = host::random_u64();
    let mut shards = 0..definition.shards;
    let created = shards
        .try_for_each(|shard| create_shard(site, definition, family, shard))
        .and_then(|()| {
            let identity = Identity {
                family,
                created_ms: None,
            };
            let now = clock::unix_ms();
            create_control(site, definition, identity, |mapping| {
                first_shards(mapping, definition, now);
            })
        });
    if created.is_err() {
        for shard in 0..definition.shards {
            let _ = files::remove(&site.directory.join(shard_file(family, shard)));
        }
    }
    created
}

/// What a stream keeps when it is made again.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    pub family: u64,
    pub created_ms: Option<u64>,
}

fn first_shards(mapping: &Mapping, definition: &StreamDefinition, now: u64) {
    for shard in 0..definition.shards {
        let (start, end) = (
            uniform_start(shard, definition.shards),
            uniform_end(shard, definition.shards),
        );
        words::fill_shard(mapping, shard, (start, end), [NO_SHARD; 2], now);
        words::shard_word(mapping, shard).store(Shard::at(Shard::OPEN).0, Ordering::Relaxed);
    }
    words::count(mapping).store(definition.shards.into(), Ordering::Relaxed);
}

/// The directory of the journals of the stream `name`.
pub(super) fn journal_directory(site: &Site, name: &str) -> Option<PathBuf> {
    site.journals.as_ref().map(|journals| journals.join(name))
}

/// What a header says of it.
fn journal_bytes(site: &Site, definition: &StreamDefinition) -> Result<Vec<u8>, OpenError> {
    if !definition.is_on_disk() {
        return Ok(Vec::new());
    }
    let directory = journal_directory(site, &definition.name);
    file::path_on_disk(directory.as_deref(), JOURNAL_PATH_BYTES)
}

/// The directory of the journals that a header names; `None` where it names none.
fn journals_named_in(header: &StreamHeader) -> Option<PathBuf> {
    let path = header.journal.get(..header.journal_bytes as usize)?;
    let path = Path::new(OsStr::from_bytes(path));
    (header.durability != durable::MEMORY && path.is_absolute()).then(|| path.to_owned())
}

/// Creates a control file; `fill` stores its table.
pub(super) fn create_control(
    site: &Site,
    definition: &StreamDefinition,
    identity: Identity,
    fill: impl FnOnce(&Mapping),
) -> Result<(), OpenError> {
    let path = journal_bytes(site, definition)?;
    let mut journal = [0; JOURNAL_PATH_BYTES];
    journal[..path.len()].copy_from_slice(&path);
    let shape = Shape {
        name: &definition.name,
        slots: SHARDS,
        stride: size_of::<ShardEntry>() as u64,
        slots_from: TABLE_FROM as u64,
        huge_pages: false,
    };
    let limits = definition.limits;
    let (full, put_timeout) = match definition.backpressure {
        Backpressure::Fail => (FULL_REFUSES, Duration::ZERO),
        Backpressure::Block(timeout) => (FULL_BLOCKS, timeout),
        Backpressure::DropOldest => (FULL_DROPS, Duration::ZERO),
    };
    let header = |frame: file::Frame| StreamHeader {
        preamble: Preamble {
            created_ms: identity.created_ms.unwrap_or(frame.preamble.created_ms),
            ..frame.preamble
        },
        slots: frame.slots,
        stride: frame.stride,
        slots_offset: frame.slots_offset,
        file_bytes: frame.file_bytes,
        ring_slots: definition.slots,
        ring_stride: definition.stride,
        limit_records: limits.map_or(0, |limits| limits.records.into()),
        limit_bytes: limits.map_or(0, |limits| limits.bytes.into()),
        limit_read_bytes: limits.map_or(0, |limits| limits.read_bytes.into()),
        family: identity.family,
        readers: definition.readers,
        full,
        put_timeout_ms: put_timeout.as_millis() as u32,
        lease_timeout_ms: definition.lease_timeout.as_millis() as u32,
        stall_timeout_us: definition.stall_timeout.as_micros() as u32,
        name_bytes: frame.name_bytes,
        huge_pages: u32::from(definition.huge_pages),
        durability: match definition.durability {
            Durability::Memory => durable::MEMORY,
            Durability::Async => durable::ASYNC,
            Durability::Durable => durable::DURABLE,
        },
        name: frame.name,
        on_demand: definition
            .on_demand
            .map_or(bytemuck::Zeroable::zeroed(), |mode| OnDemandHeader {
                min_shards: mode.min_shards,
                max_shards: mode.max_shards,
                records: mode.records,
                bytes: mode.bytes,
                window_ms: mode.window.as_millis() as u32,
                calm_ms: mode.calm.as_millis() as u32,
                reserved: 0,
            }),
        segment_bytes: match definition.is_on_disk() {
            true => definition.segment_bytes(),
            false => 0,
        },
        journal_bytes: path.len() as u32,
        producers: match definition.producers {
            Producers::Shared => PRODUCERS_SHARED,
            Producers::Exclusive => PRODUCERS_EXCLUSIVE,
        },
        journal,
        ..bytemuck::Zeroable::zeroed()
    };
    let (retention_ms, retention_bytes) = definition.retention.words();
    file::create(site, &shape, header, |mapping| {
        let words = StreamWords::new(Arc::clone(mapping));
        words.retention_ms().store(retention_ms, Ordering::Relaxed);
        words
            .retention_bytes()
            .store(retention_bytes, Ordering::Relaxed);
        fill(mapping);
    })
}

/// Creates the ring of one shard.
pub(crate) fn create_shard(
    site: &Site,
    definition: &StreamDefinition,
    family: u64,
    shard: u32,
) -> Result<(), OpenError> {
    let ring = definition.ring(&shard_file(family, shard));
    channel::create_standing_ring(site, &ring, STANDING)
}

/// The family of the shards of a stream, by its control file.
pub(crate) fn family_of(site: &Site, file_name: &str) -> Result<u64, OpenError> {
    Ok(file::open::<StreamHeader>(site, file_name, None)?
        .header
        .family)
}

/// Opens, checks and maps the control file of `name`.
pub(crate) fn open(site: &Site, name: &str) -> Result<StreamFile, OpenError> {
    let opened = file::open::<StreamHeader>(site, name, Some(name))?;
    let header = &opened.header;
    let definition = definition_of(header, &opened.name);
    let mut definition = definition.map_err(|what| opened.scribbled(what))?;
    if definition.check().is_err() {
        return Err(opened.scribbled("slots, stride, readers or limits are outside their bounds"));
    }
    let shape = (SHARDS, size_of::<ShardEntry>() as u64, words::TABLE as u64);
    if (header.slots, header.stride, header.slots_offset) != shape {
        return Err(opened.scribbled("its shard table is not where it should be"));
    }
    let mapping = Mapping::new(&opened.file, site.map_options())
        .map_err(|e| OpenError::io(&opened.path, e))?;
    if mapping.len() < words::END {
        return Err(opened.scribbled("the shard table does not fit into the file"));
    }
    let mapping = Arc::new(mapping);
    let journals = journals_named_in(header);
    if definition.is_on_disk() != journals.is_some() {
        return Err(opened.scribbled("its level of durability and its journals contradict"));
    }
    let words = StreamWords::new(Arc::clone(&mapping));
    definition.retention = Retention::of_words(words.retention());
    Ok(StreamFile {
        words,
        mapping,
        definition,
        family: header.family,
        created_ms: header.preamble.created_ms,
        header: Box::new(*header),
        journals,
        file: opened.file,
        path: opened.path,
    })
}

pub(super) fn definition_of(
    header: &StreamHeader,
    name: &str,
) -> Result<StreamDefinition, &'static str> {
    let limit = |value: u64| u32::try_from(value).map_err(|_| "a limit is out of its bounds");
    let limits = match header.limit_records {
        0 => None,
        records => Some(ShardLimits {
            records: limit(records)?,
            bytes: limit(header.limit_bytes)?,
            read_bytes: limit(header.limit_read_bytes)?,
        }),
    };
    Ok(StreamDefinition {
        slots: header.ring_slots,
        stride: header.ring_stride,
        readers: header.readers,
        backpressure: match header.full {
            FULL_REFUSES => Backpressure::Fail,
            FULL_BLOCKS => Backpressure::Block(Duration::from_millis(header.put_timeout_ms.into())),
            FULL_DROPS => Backpressure::DropOldest,
            _ => return Err("unknown policy of full shards"),
        },
        producers: match header.producers {
            PRODUCERS_SHARED => Producers::Shared,
            PRODUCERS_EXCLUSIVE => Producers::Exclusive,
            _ => return Err("unknown kind of producers"),
        },
        limits,
        on_demand: (header.on_demand.min_shards > 0).then(|| {
            let mode = header.on_demand;
            OnDemand {
                min_shards: mode.min_shards,
                max_shards: mode.max_shards,
                records: mode.records,
                bytes: mode.bytes,
                window: Duration::from_millis(mode.window_ms.into()),
                calm: Duration::from_millis(mode.calm_ms.into()),
            }
        }),
        lease_timeout: Duration::from_millis(header.lease_timeout_ms.into()),
        stall_timeout: Duration::from_micros(header.stall_timeout_us.into()),
        huge_pages: header.huge_pages == 1,
        durability: match header.durability {
            durable::MEMORY => Durability::Memory,
            durable::ASYNC => Durability::Async,
            durable::DURABLE => Durability::Durable,
            _ => return Err("unknown level of durability"),
        },
        segment_bytes: header.segment_bytes,
        ..StreamDefinition::named(name)
    })
}

/// Whether each shard of a stream that has its memory can be opened.
pub(crate) fn examine(stream: &StreamFile, site: &Site) -> Result<(), OpenError> {
    let count = stream.words.count().load(Ordering::Acquire).min(SHARDS);
    for shard in 0..count as u32 {
        let state = Shard(stream.words.shard(shard).load(Ordering::Acquire)).state();
        if matches!(state, Shard::OPEN | Shard::CLOSED) {
            match channel::open_ring(site, &shard_file(stream.family, shard)) {
                Ok(_) => {}
                // Retired meanwhile.
                Err(OpenError::NotFound { .. } | OpenError::Removed { .. })
                    if Shard(stream.words.shard(shard).load(Ordering::Acquire)).state()
                        == Shard::RETIRED => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
