//! Files of the rings that a queue grew by: `.grown-CHAIN-NUMBER`, beside the queue's own or in a directory on a disk.
//!
//! Made whole under a temporary name, and named last; a file that can't be one of the queue whose rings are named so
//! is refused. Which of them there are, and which of those count, says [`super::chain`].

use super::QueueDefinition;
use super::file::nothing_is_due;
use crate::error::OpenError;
use crate::layout::queue::{DUE_OFFSET, GROWN_MAGIC, GrownHeader, MAGIC, QueueHeader};
use crate::object::Site;
use crate::object::file::{self, Reserved, framed};
use crate::shm::durable::DurableWords;
use crate::shm::queue::QueueWords;
use crate::shm::ring::RingMemory;
use crate::sys::file as files;
use crate::sys::mapping::Mapping;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

// The ring has one reader entry, which a queue does not use.
framed!(GrownHeader, GROWN_MAGIC, "grown queue ring", |_| 1);

/// Files of grown rings: this, the object id of the queue in 16 hexadecimal digits, `-`, the number.
/// No object's name begins with a dot.
pub(crate) const GROWN_PREFIX: &str = ".grown-";

/// The file of ring `number` of the queue whose rings are named by `id`.
pub(super) fn grown_name(id: u64, number: u32) -> String {
    format!("{GROWN_PREFIX}{id:016x}-{number}")
}

/// What the rings of the queue are named by whose grown ring a file name is of, and the number.
pub(crate) fn grown_of(name: &str) -> Option<(u64, u32)> {
    let (id, number) = name.strip_prefix(GROWN_PREFIX)?.split_once('-')?;
    let parsed = (u64::from_str_radix(id, 16).ok()?, number.parse().ok()?);
    (grown_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// What the rings of the queue are named by whose first file, under whatever name, is at `path`.
pub(crate) fn chain_of(path: &Path) -> Option<u64> {
    let header = files::open_to_read(path).and_then(|file| file::read_header::<QueueHeader>(&file));
    let header = header.ok()?;
    (header.preamble.magic == MAGIC).then(|| header.chain())
}

/// Makes a reserved file ring `number` of the queue whose rings are named by `id`, which begins at
/// `first_position`; `fill` stores what is in it from the beginning. `AlreadyExists` when somebody was first.
pub(super) fn publish_grown(
    reserved: Reserved<'_>,
    definition: &QueueDefinition,
    (id, number): (u64, u32),
    first_position: u64,
    fill: impl FnOnce(&Arc<Mapping>, &GrownHeader),
) -> Result<(), OpenError> {
    let slots = reserved.slots();
    let made = core::cell::Cell::new(None);
    let header_of = |frame: file::Frame| GrownHeader {
        preamble: frame.preamble,
        slots: frame.slots,
        stride: frame.stride,
        slots_offset: frame.slots_offset,
        file_bytes: frame.file_bytes,
        number,
        name_bytes: frame.name_bytes,
        huge_pages: frame.huge_pages,
        name: frame.name,
        due_offset: DUE_OFFSET,
        first_position,
        queue_id: id,
        changed_offset: match definition.is_on_disk() {
            true => definition.changed_from(slots),
            false => 0,
        },
        ..bytemuck::Zeroable::zeroed()
    };
    let header = |frame| {
        let header = header_of(frame);
        made.set(Some(header));
        header
    };
    reserved.publish(header, |mapping| {
        nothing_is_due(mapping, slots);
        if let Some(header) = made.get() {
            fill(mapping, &header);
        }
    })
}

/// Whether the file of a grown ring can be opened.
pub(crate) fn check_grown(site: &Site, id: u64, number: u32) -> Result<(), OpenError> {
    open_grown(site, id, number).map(drop)
}

/// A checked and mapped file of a grown ring.
pub(super) struct GrownFile {
    pub number: u32,
    pub memory: RingMemory,
    pub words: QueueWords,
    /// Of a queue that is on disk.
    pub durable: Option<DurableWords>,
    pub bytes: u64,
    pub file: File,
    pub path: PathBuf,
}

/// Opens, checks and maps the file of ring `number` of the queue `id`. Touches nothing ahead.
pub(super) fn open_grown(site: &Site, id: u64, number: u32) -> Result<GrownFile, OpenError> {
    let name = grown_name(id, number);
    let opened = file::open::<GrownHeader>(site, &name, Some(&name))?;
    let header = opened.header;
    if header.queue_id != id || header.number != number {
        return Err(opened.scribbled("its header is of another ring"));
    }
    let site = Site {
        pre_touch: false,
        ..site.clone()
    };
    let (mapping, memory) = opened.map_from(&site, header.first_position)?;
    let durable = match header.changed_offset {
        0 => None,
        offset => {
            let (geometry, until) = (memory.geometry(), header.slots_offset);
            let from = header.due_offset;
            let words = DurableWords::new(Arc::clone(&mapping), geometry, offset, from, until);
            let what = "the changed bits do not fit in front of the slots";
            Some(words.ok_or_else(|| opened.scribbled(what))?)
        }
    };
    let words = QueueWords::new(
        mapping,
        memory.geometry(),
        header.due_offset,
        header.slots_offset,
    );
    let words =
        words.ok_or_else(|| opened.scribbled("the due words do not fit in front of the slots"))?;
    Ok(GrownFile {
        number,
        memory,
        words,
        durable,
        bytes: header.file_bytes,
        file: opened.file,
        path: opened.path,
    })
}
