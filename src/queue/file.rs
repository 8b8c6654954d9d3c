//! Queue files: what a queue adds to an object file. Those of the rings that it grew by: [`super::grown`].

use super::{DedupScope, Deduplication, Durability, QueueDefinition, QueueKind, spill};
use crate::error::OpenError;
use crate::layout::Preamble;
use crate::layout::dedup::{Bucket, buckets_for};
use crate::layout::durable::{self, changed_words};
use crate::layout::geometry::Geometry;
use crate::layout::queue::{
    CLOCK_BASE_MS, DEDUP_BY_CONTENT, DEDUP_GROUP, DEDUP_OPTIONAL, DEDUP_QUEUE, DEDUP_REQUIRED,
    DUE_OFFSET, FIFO, JOURNAL_PATH_BYTES, MAGIC, NEVER, QueueHeader, STANDARD, control, due_words,
    group_words, groups_offset,
};
use crate::object::Site;
use crate::object::file::{self, Shape, Spare, framed};
use crate::ring::delivery::dedup::Dedup;
use crate::shm::dedup::DedupTable;
use crate::shm::durable::DurableWords;
use crate::shm::queue::QueueWords;
use crate::shm::ring::RingMemory;
use crate::shm::words::word64;
use crate::sync::Ordering;
use crate::sys::mapping::Mapping;
use crate::sys::{clock, host};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

// The ring below has one reader entry, which a queue does not use.
framed!(QueueHeader, MAGIC, "queue", |_| 1);

/// A checked and mapped queue file.
pub struct QueueFile {
    pub memory: RingMemory,
    pub words: QueueWords,
    pub mapping: Arc<Mapping>,
    pub definition: QueueDefinition,
    pub group_key: [u8; 16],
    pub dedup: Option<Dedup>,
    pub dedup_key: [u8; 16],
    pub object_id: u64,
    /// What its further rings are named by.
    pub chain_id: u64,
    pub bytes: u64,
    /// When its clock said 0, in ms of CLOCK_BOOTTIME; of a queue that is on disk that was before the
    /// machine was started, and the number wraps.
    pub epoch_ms: u64,
    /// Unix time of the epoch.
    pub created_ms: u64,
    /// On disk: its words, and the directory of its journal.
    pub durable: Option<(DurableWords, PathBuf)>,
    /// Where its further rings lie, if that is on a disk.
    pub spill: Option<PathBuf>,
    /// The first page as it is.
    pub header: QueueHeader,
    pub file: File,
    pub path: PathBuf,
}

/// What a queue that is made again from its journal keeps.
pub(super) struct Identity {
    pub object_id: u64,
    /// Not one that it ever had: rings of its earlier lives may be there.
    pub chain_id: u64,
    pub group_key: [u8; 16],
    pub dedup_key: [u8; 16],
}

/// Creates the file of `definition`. `AlreadyExists` when somebody was first.
pub fn create(site: &Site, definition: &QueueDefinition) -> Result<(), OpenError> {
    create_as(site, definition, None, None, |_, _| (), |_| Ok(()))
}

/// The same as `identity`, if one is given, and of a file that is there, perhaps; `fill` stores what is in it
/// from the beginning, and `last` does what is to be done before it has its name.
pub(super) fn create_as(
    site: &Site,
    definition: &QueueDefinition,
    identity: Option<Identity>,
    spare: Option<Spare>,
    fill: impl FnOnce(&Arc<Mapping>, &QueueHeader),
    last: impl FnOnce(&QueueHeader) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    definition.check()?;
    let further = match definition.spill {
        true => spill::prepare(site)?,
        false => Vec::new(),
    };
    let journal = match definition.is_on_disk() {
        true => {
            let directory = journal_directory(site, &definition.name);
            file::path_on_disk(directory.as_deref(), JOURNAL_PATH_BYTES)?
        }
        false => further,
    };
    let mut journal_path = [0; JOURNAL_PATH_BYTES];
    journal_path[..journal.len()].copy_from_slice(&journal);
    let shape = definition.shape(&definition.name, definition.slots);
    let dedup_from = definition.dedup_from(definition.slots);
    let dedup_offset = match definition.dedup {
        Some(_) => dedup_from.next_multiple_of(size_of::<Bucket>() as u64),
        None => 0,
    };
    let (kind, groups_offset) = match definition.kind {
        QueueKind::Standard => (STANDARD, 0),
        QueueKind::Fifo => (FIFO, groups_offset(definition.slots)),
    };
    let ms = |time: Duration| time.as_millis() as u32; // checked above
    let kept = identity.unwrap_or_else(|| Identity {
        object_id: host::random_u64() | 1,
        chain_id: 0,
        group_key: bytemuck::cast([host::random_u64(), host::random_u64()]),
        dedup_key: bytemuck::cast([host::random_u64(), host::random_u64()]),
    });
    let made = core::cell::Cell::new(None);
    let header = |frame: file::Frame| {
        let header = QueueHeader {
            preamble: Preamble {
                object_id: kept.object_id,
                ..frame.preamble
            },
            slots: frame.slots,
            stride: frame.stride,
            slots_offset: frame.slots_offset,
            file_bytes: frame.file_bytes,
            stall_timeout_us: definition.stall_timeout.as_micros() as u32,
            name_bytes: frame.name_bytes,
            huge_pages: frame.huge_pages,
            redeliver_on_death: u32::from(definition.redeliver_on_death),
            name: frame.name,
            due_offset: DUE_OFFSET,
            epoch_ms: clock::boot_ms(),
            max_message_bytes: definition.max_message_bytes,
            visibility_ms: ms(definition.visibility),
            delay_ms: ms(definition.delay),
            retention_ms: ms(definition.retention),
            receive_wait_ms: ms(definition.receive_wait),
            kind,
            durability: match definition.durability {
                Durability::Memory => durable::MEMORY,
                Durability::Async => durable::ASYNC,
                Durability::Durable => durable::DURABLE,
            },
            read_ahead: definition.read_ahead.into(),
            spills: definition.spill.into(),
            chain_id: kept.chain_id,
            journal_max_bytes: definition.journal_max_bytes.unwrap_or(0),
            journal_bytes: journal.len() as u32,
            journal: journal_path,
            changed_offset: match definition.is_on_disk() {
                true => definition.changed_from(definition.slots),
                false => 0,
            },
            clock_base_ms: if definition.is_on_disk() {
                CLOCK_BASE_MS
            } else {
                0
            },
            groups_offset,
            group_key: kept.group_key,
            max_bytes: definition.max_bytes,
            dedup_offset,
            dedup_ids: definition.dedup.map_or(0, |dedup| dedup.ids),
            dedup_key: kept.dedup_key,
            dedup_window_ms: definition.dedup.map_or(0, |dedup| ms(dedup.window)),
            dedup_scope: match definition.dedup.map(|dedup| dedup.scope) {
                Some(DedupScope::MessageGroup) => DEDUP_GROUP,
                Some(DedupScope::Queue) | None => DEDUP_QUEUE,
            },
            dedup_without_id: match definition.dedup {
                Some(dedup) if dedup.by_content => DEDUP_BY_CONTENT,
                Some(dedup) if dedup.optional => DEDUP_OPTIONAL,
                _ => DEDUP_REQUIRED,
            },
            ..bytemuck::Zeroable::zeroed()
        };
        made.set(Some(header));
        header
    };
    let reserved = file::reserve_from(site, &shape, spare)?;
    reserved.prepare(header, |mapping| {
        nothing_is_due(mapping, definition.slots);
        for (word, value) in definition.settings().words() {
            word64(mapping, word).store(value, Ordering::Relaxed);
        }
        if let Some(header) = made.get() {
            fill(mapping, &header);
        }
    })?;
    if let Some(header) = made.get() {
        last(&header)?;
    }
    reserved.rename()
}

/// The directory of the journal of the queue `name`.
pub(super) fn journal_directory(site: &Site, name: &str) -> Option<PathBuf> {
    site.journals.as_ref().map(|journals| journals.join(name))
}

pub(super) fn nothing_is_due(mapping: &Mapping, slots: u64) {
    let (groups, blocks) = due_words(slots);
    for word in 0..groups + blocks {
        let at = DUE_OFFSET + 8 * word;
        word64(mapping, at as usize).store(NEVER, Ordering::Relaxed);
    }
    word64(mapping, control::DUE).store(NEVER, Ordering::Relaxed);
}

impl QueueDefinition {
    /// A file with `slots` slots as this queue has them.
    pub(super) fn shape<'a>(&self, name: &'a str, slots: u64) -> Shape<'a> {
        let from = self.changed_from(slots);
        let slots_from = match self.is_on_disk() {
            true => from + 8 * changed_words(slots),
            false => from,
        };
        Shape {
            name,
            slots,
            stride: self.stride,
            slots_from,
            huge_pages: self.huge_pages,
        }
    }

    /// The first byte that may belong to the bits of changed blocks, or else to the slots.
    pub(super) fn changed_from(&self, slots: u64) -> u64 {
        let from = self.dedup_from(slots);
        match &self.dedup {
            Some(dedup) => {
                let table = buckets_for(dedup.ids) * size_of::<Bucket>() as u64;
                from.next_multiple_of(size_of::<Bucket>() as u64) + table
            }
            None => from,
        }
    }

    /// The first byte that may belong to the deduplication table, or else to what follows it.
    fn dedup_from(&self, slots: u64) -> u64 {
        let (groups, blocks) = due_words(slots);
        match self.kind {
            QueueKind::Standard => DUE_OFFSET + 8 * (groups + blocks),
            QueueKind::Fifo => {
                let (hints, table) = group_words(slots);
                groups_offset(slots) + 8 * (hints + table)
            }
        }
    }

    /// Bytes of the file of a ring with `slots` slots.
    pub(crate) fn ring_bytes(&self, slots: u64) -> u64 {
        self.shape("", slots).file_bytes()
    }
}

/// Opens, checks and maps the file of `name`.
pub fn open(site: &Site, name: &str) -> Result<QueueFile, OpenError> {
    open_file(site, name, Some(name))
}

/// Opens, checks and maps a queue that was removed and put aside under `file_name`, for sweeps.
pub fn open_removed(site: &Site, file_name: &str) -> Result<QueueFile, OpenError> {
    open_file(site, file_name, None)
}

fn open_file(site: &Site, file_name: &str, name: Option<&str>) -> Result<QueueFile, OpenError> {
    let opened = file::open::<QueueHeader>(site, file_name, name)?;
    let header = opened.header;
    let definition = definition(&header, &opened.name);
    let definition = definition.map_err(|what| opened.scribbled(what))?;
    let (mapping, memory) = opened.map(site)?;
    let parts = Parts::around(&mapping, memory, &header, &definition);
    let parts = parts.map_err(|what| opened.scribbled(what))?;
    let durable = match parts.durable {
        Some(words) => {
            let path = journal_named_in(&header);
            let path = path.ok_or_else(|| opened.scribbled("its journal has no absolute path"))?;
            Some((words, path))
        }
        None => None,
    };
    let spill = match definition.spill {
        true => {
            let path = match &durable {
                Some((_, journal)) => journal
                    .parent()
                    .map(|parent| spill::directory_in(parent, site)),
                None => path_named_in(&header),
            };
            Some(path.ok_or_else(|| opened.scribbled("its further rings have no absolute path"))?)
        }
        false => None,
    };
    Ok(QueueFile {
        memory: parts.memory,
        words: parts.words,
        mapping,
        durable,
        spill,
        header,
        definition,
        group_key: header.group_key,
        dedup: parts.dedup,
        dedup_key: header.dedup_key,
        object_id: header.preamble.object_id,
        chain_id: header.chain(),
        bytes: header.file_bytes,
        epoch_ms: header.epoch_ms.wrapping_sub(header.clock_base_ms),
        created_ms: header
            .preamble
            .created_ms
            .wrapping_sub(header.clock_base_ms),
        file: opened.file,
        path: opened.path,
    })
}

fn definition(header: &QueueHeader, name: &str) -> Result<QueueDefinition, &'static str> {
    if header.epoch_ms > clock::boot_ms() {
        return Err("its epoch lies in the future");
    }
    definition_of(header, name)
}

/// The directory of the journal that a header names; `None` where it names none.
pub(super) fn journal_named_in(header: &QueueHeader) -> Option<PathBuf> {
    path_named_in(header).filter(|_| header.durability != durable::MEMORY)
}

fn path_named_in(header: &QueueHeader) -> Option<PathBuf> {
    let path = header.journal.get(..header.journal_bytes as usize)?;
    let path = Path::new(OsStr::from_bytes(path));
    path.is_absolute().then(|| path.to_owned())
}

/// What a queue file consists of, each of it inside the mapping.
pub(super) struct Parts {
    pub memory: RingMemory,
    pub words: QueueWords,
    pub dedup: Option<Dedup>,
    pub durable: Option<DurableWords>,
}

impl Parts {
    /// Of a file that was just laid out; `None` when its header contradicts itself.
    pub fn of(
        mapping: &Arc<Mapping>,
        header: &QueueHeader,
        definition: &QueueDefinition,
    ) -> Option<Self> {
        let geometry = Geometry::new(header.slots, header.stride, 1)?;
        let memory = RingMemory::new(Arc::clone(mapping), geometry, header.slots_offset)?;
        Self::around(mapping, memory, header, definition).ok()
    }

    /// Around a ring; or what in the header can't be.
    fn around(
        mapping: &Arc<Mapping>,
        memory: RingMemory,
        header: &QueueHeader,
        definition: &QueueDefinition,
    ) -> Result<Self, &'static str> {
        let geometry = memory.geometry();
        let (from, until) = (header.due_offset, header.slots_offset);
        let words = QueueWords::new(Arc::clone(mapping), geometry, from, until);
        let mut words = words.ok_or("the due words do not fit in front of the slots")?;
        if definition.kind == QueueKind::Fifo {
            words = words
                .with_groups(geometry, header.groups_offset, until)
                .ok_or("the groups do not fit in front of the slots")?;
        }
        let dedup = match definition.dedup {
            Some(rules) => {
                let (offset, buckets) = (header.dedup_offset, buckets_for(rules.ids));
                let table = DedupTable::new(Arc::clone(mapping), offset, buckets, from, until)
                    .ok_or("the deduplication table does not fit in front of the slots")?;
                Some(Dedup::new(table, rules.window.as_millis() as u64))
            }
            None => None,
        };
        let durable = match definition.is_on_disk() {
            true => {
                let offset = header.changed_offset;
                let words = DurableWords::new(Arc::clone(mapping), geometry, offset, from, until);
                Some(words.ok_or("the changed bits do not fit in front of the slots")?)
            }
            false => None,
        };
        Ok(Self {
            memory,
            words,
            dedup,
            durable,
        })
    }
}

/// What a header says that the queue is, wherever that header stands.
pub(super) fn definition_of(
    header: &QueueHeader,
    name: &str,
) -> Result<QueueDefinition, &'static str> {
    let base_ms = match header.durability {
        durable::MEMORY => 0,
        durable::ASYNC | durable::DURABLE => CLOCK_BASE_MS,
        _ => return Err("it has a level of durability that there is not"),
    };
    if header.clock_base_ms != base_ms {
        return Err("its clock began at no time that there is");
    }
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let definition = QueueDefinition {
        name: name.to_owned(),
        kind: match header.kind {
            STANDARD => QueueKind::Standard,
            FIFO => QueueKind::Fifo,
            _ => return Err("it is neither a standard nor a FIFO queue"),
        },
        dedup: dedup_rules(header)?,
        slots: header.slots,
        stride: header.stride,
        visibility: ms(header.visibility_ms),
        delay: ms(header.delay_ms),
        retention: ms(header.retention_ms),
        max_message_bytes: header.max_message_bytes,
        redeliver_on_death: header.redeliver_on_death == 1,
        receive_wait: ms(header.receive_wait_ms),
        stall_timeout: Duration::from_micros(header.stall_timeout_us.into()),
        huge_pages: header.huge_pages == 1,
        max_bytes: header.max_bytes,
        durability: match header.durability {
            durable::DURABLE => Durability::Durable,
            durable::ASYNC => Durability::Async,
            _ => Durability::Memory,
        },
        read_ahead: header.read_ahead == 1,
        journal_max_bytes: Some(header.journal_max_bytes).filter(|most| *most != 0),
        spill: header.spills == 1 && header.kind == STANDARD,
    };
    if header.stride < definition.kind.min_stride() {
        return Err("its slots are too short for a FIFO queue");
    }
    if definition.settings().check().is_err() {
        return Err("a setting is outside its bounds");
    }
    Ok(definition)
}

fn dedup_rules(header: &QueueHeader) -> Result<Option<Deduplication>, &'static str> {
    if header.dedup_offset == 0 {
        return Ok(None);
    }
    let rules = Deduplication {
        ids: header.dedup_ids,
        window: Duration::from_millis(header.dedup_window_ms.into()),
        scope: match header.dedup_scope {
            DEDUP_QUEUE => DedupScope::Queue,
            DEDUP_GROUP => DedupScope::MessageGroup,
            _ => return Err("it deduplicates neither in the queue nor in groups"),
        },
        by_content: header.dedup_without_id == DEDUP_BY_CONTENT,
        optional: header.dedup_without_id == DEDUP_OPTIONAL,
    };
    let without_id = [DEDUP_REQUIRED, DEDUP_BY_CONTENT, DEDUP_OPTIONAL];
    let is_known = without_id.contains(&header.dedup_without_id);
    if header.kind != FIFO || !is_known || rules.check().is_err() {
        return Err("its deduplication is outside of what there is");
    }
    Ok(Some(rules))
}
