//! The files of a journal: their names, their making, their first two pages.
//!
//! ```text
//! EEEEEEEEEEEEEEEE-IIIIIIII.segment   segment I of epoch E (hexadecimal)
//! spare-*                             whole and zero, or an earlier life's; becomes a segment
//! reserve-*                           the same, shorter, and kept for a full disk: becomes a segment of state alone
//! .tmp-*                              being made; removed by the next writer
//! ```
//! A segment is made from a spare, or a new file, in four steps: the spare is taken by renaming it (so two
//! makers never write into one), header and definition are written durably, the file gets its
//! segment's name, the directory is made durable. A crash in between leaves a temporary file; a file
//! by a segment's name always has its header.
//!
//! A maker may be stopped in between for as long as it likes, and its segment be made by another, filled and
//! given back meanwhile. So it looks, behind the making of its temporary file, whether a later segment is
//! there, and whoever gives segments back removes the temporary files of all up to that one first: the
//! name is given by one who was seen, or not at all.

use super::error::JournalError;
use super::failed;
use super::storage::{SegmentFile, Storage};
use crate::layout::PAGE;
use crate::layout::journal::{
    BLOCKS_OFFSET, DEFINITION_BYTES, FOOTER_MAGIC, Footer, MAGIC, MAJOR, MINOR, STATE_ALONE,
    SegmentHeader,
};
use crate::sys::disk::Pages;
use crate::sys::host;
use core::fmt;
use std::io;

/// Which segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Of the writer that made it.
    pub epoch: u64,
    /// Counts from 0 in each epoch.
    pub index: u64,
}

impl SegmentId {
    /// The name of its file.
    pub fn name(self) -> String {
        format!("{self}.segment")
    }

    /// The segment of a file's name.
    pub fn of_name(name: &str) -> Option<Self> {
        let (epoch, index) = name.strip_suffix(".segment")?.split_once('-')?;
        let id = Self {
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            index: u64::from_str_radix(index, 16).ok()?,
        };
        (id.name() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}", self.epoch, self.index)
    }
}

/// A name that is being made.
pub(super) const TEMPORARY: &str = ".tmp-";
/// A file that waits to become a segment.
pub(super) const SPARE: &str = "spare-";

/// A file that waits for a full disk.
pub(super) const RESERVE: &str = "reserve-";
/// Of those there are so many: one is written to, one is next, and one is for whoever takes over in between.
pub(super) const RESERVES: usize = 3;

/// How writes become durable in the directory.
pub(super) const PROBE: &str = "probe";
/// Whose journal it is.
pub(super) const LABEL: &str = "owner";

/// What all segments of an epoch have in common.
#[derive(Clone)]
pub(super) struct Plan {
    pub object: u64,
    pub epoch: u64,
    pub cut: u64,
    pub segment_bytes: u64,
    pub reserve_bytes: u64,
    pub definition: Box<[u8; DEFINITION_BYTES]>,
}

impl Plan {
    pub fn id(&self, index: u64) -> SegmentId {
        SegmentId {
            epoch: self.epoch,
            index,
        }
    }
}

/// A name that no other maker uses, nor has left behind: of this process or another one, in whatever
/// namespace, of the same epoch.
pub(super) fn temporary(what: &str) -> String {
    format!("{TEMPORARY}{what}-{:016x}", host::random_u64())
}

/// Makes segment `index`, whose entries are at `start` or above; durable when it returns.
pub(super) fn make<S: Storage>(
    storage: &S,
    plan: &Plan,
    index: u64,
    start: u64,
) -> Result<S::File, JournalError> {
    let id = plan.id(index);
    let temporary = temporary(&id.to_string());
    let file = match take_spare(storage, plan.segment_bytes, &temporary)? {
        Some(file) => file,
        None => storage.create(&temporary, plan.segment_bytes)?,
    };
    name_it(
        storage,
        plan,
        id,
        start,
        plan.segment_bytes,
        0,
        &temporary,
        file,
    )
}

/// Makes segment `index` of a file that is kept for a full disk, to hold what it says; durable when it returns. `None`
/// where there is no such file.
pub(super) fn make_of_reserve<S: Storage>(
    storage: &S,
    plan: &Plan,
    index: u64,
    start: u64,
    holds: u64,
) -> Result<Option<(S::File, u64)>, JournalError> {
    let id = plan.id(index);
    let temporary = temporary(&id.to_string());
    let Some((file, bytes)) = take_reserve(storage, plan, &temporary)? else {
        return Ok(None);
    };
    let named = name_it(storage, plan, id, start, bytes, holds, &temporary, file);
    named.map(|file| Some((file, bytes)))
}

/// Makes a file the segment that it is to be, durably.
#[expect(clippy::too_many_arguments, reason = "all of it stands in the header")]
fn name_it<S: Storage>(
    storage: &S,
    plan: &Plan,
    id: SegmentId,
    start: u64,
    bytes: u64,
    holds: u64,
    temporary: &str,
    file: S::File,
) -> Result<S::File, JournalError> {
    let name = id.name();
    let taken = || JournalError::EpochTaken {
        path: storage.path(&name),
        epoch: id.epoch,
    };
    let named = write_head(storage, plan, id, (start, bytes, holds), &file).and_then(|()| {
        if list(storage)?.last().is_some_and(|last| *last > id) {
            return Err(taken());
        }
        storage
            .rename(temporary, &name)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => taken(),
                _ => failed(storage, &name, "naming a segment", error),
            })
    });
    if let Err(error) = named {
        let _ = storage.remove(temporary);
        return Err(error);
    }
    storage
        .sync_directory()
        .map_err(|error| failed(storage, "", "making a name durable", error))?;
    Ok(file)
}

/// A file that is kept for a full disk, under its new name, and its length.
fn take_reserve<S: Storage>(
    storage: &S,
    plan: &Plan,
    temporary: &str,
) -> Result<Option<(S::File, u64)>, JournalError> {
    for reserve in named(storage, RESERVE)? {
        // Whoever renames it has it.
        if storage.rename(&reserve, temporary).is_err() {
            continue;
        }
        let opened = storage.open(temporary, true);
        match opened.and_then(|file| Ok((file.bytes()?, file))) {
            Ok((bytes, file)) if bytes == plan.reserve_bytes => return Ok(Some((file, bytes))),
            _ => {
                let _ = storage.remove(temporary);
            }
        }
    }
    Ok(None)
}

/// Names that begin so.
pub(super) fn named<S: Storage>(storage: &S, prefix: &str) -> Result<Vec<String>, JournalError> {
    let names = storage.names();
    let mut names = names.map_err(|error| failed(storage, "", "listing the directory", error))?;
    names.retain(|name| name.starts_with(prefix));
    Ok(names)
}

/// Makes files for a full disk until there are `wanted`. Blocks for the file system.
pub(super) fn stock_reserve<S: Storage>(
    storage: &S,
    plan: &Plan,
    wanted: usize,
) -> Result<(), JournalError> {
    let have = named(storage, RESERVE)?.len();
    for number in have..wanted {
        let temporary = temporary(&format!("{:016x}-kept{number:x}", plan.epoch));
        let reserve = temporary.replacen(TEMPORARY, RESERVE, 1);
        drop(storage.create(&temporary, plan.reserve_bytes)?);
        if storage.rename(&temporary, &reserve).is_err() {
            let _ = storage.remove(&temporary);
        }
    }
    Ok(())
}

/// Whether a segment holds state alone; not, where that can't be read.
pub(super) fn holds_state_alone<S: Storage>(storage: &S, object: u64, id: SegmentId) -> bool {
    let file = storage.open(&id.name(), false);
    let head = file.map(|file| read_head(storage, id, Some(object), &file));
    // Version 1.0 has something else there.
    matches!(head, Ok(Ok((header, _))) if header.minor > 0 && header.holds == STATE_ALONE)
}

/// A spare of the right length under its new name. Others are removed.
fn take_spare<S: Storage>(
    storage: &S,
    bytes: u64,
    temporary: &str,
) -> Result<Option<S::File>, JournalError> {
    let names = storage
        .names()
        .map_err(|error| failed(storage, "", "listing the directory", error))?;
    for spare in names.iter().filter(|name| name.starts_with(SPARE)) {
        // Whoever renames it has it.
        if storage.rename(spare, temporary).is_err() {
            continue;
        }
        match storage.open(temporary, true) {
            Ok(file) if file.bytes().is_ok_and(|len| len == bytes) => return Ok(Some(file)),
            _ => {
                let _ = storage.remove(temporary);
            }
        }
    }
    Ok(None)
}

fn write_head<S: Storage>(
    storage: &S,
    plan: &Plan,
    id: SegmentId,
    (start, file_bytes, holds): (u64, u64, u64),
    file: &S::File,
) -> Result<(), JournalError> {
    let name = id.name();
    let (created_ms, boot_id) = storage.stamp();
    let mut header = SegmentHeader {
        magic: MAGIC,
        major: MAJOR,
        minor: MINOR,
        crc: 0,
        features: 0,
        object: plan.object,
        epoch: plan.epoch,
        index: id.index,
        start,
        cut: plan.cut,
        file_bytes,
        created_ms,
        boot_id,
        encryption: bytemuck::Zeroable::zeroed(),
        holds,
        reserved: [0; 481],
    };
    header.crc = head_sum(&header, &plan.definition[..]);
    let mut pages = Pages::new(BLOCKS_OFFSET as usize)
        .map_err(|error| failed(storage, &name, "reserving memory", error))?;
    pages[..PAGE].copy_from_slice(bytemuck::bytes_of(&header));
    pages[PAGE..].copy_from_slice(&plan.definition[..]);
    match file.write_at(0, &pages) {
        Ok(written) if written == pages.len() => Ok(()),
        Ok(written) => Err(JournalError::ShortWrite {
            path: storage.path(&name),
            offset: 0,
            wanted: pages.len(),
            written,
        }),
        Err(error) => Err(failed(storage, &name, "writing a header", error)),
    }
}

fn head_sum(header: &SegmentHeader, definition: &[u8]) -> u32 {
    let mut header = *header;
    header.crc = 0;
    crc32c::crc32c_append(crc32c::crc32c(bytemuck::bytes_of(&header)), definition)
}

/// The checksum that a footer has to have.
pub(super) fn footer_sum(footer: &Footer) -> u32 {
    let mut footer = *footer;
    footer.crc = 0;
    crc32c::crc32c(bytemuck::bytes_of(&footer))
}

/// The footer of a segment, if it has one.
pub(super) fn read_footer<F: SegmentFile>(
    header: &SegmentHeader,
    file: &F,
) -> io::Result<Option<Footer>> {
    let mut page = Pages::new(PAGE)?;
    file.read_at(header.file_bytes - PAGE as u64, &mut page)?;
    let footer: Footer = bytemuck::pod_read_unaligned(&page[..size_of::<Footer>()]);
    let is_right = footer.magic == FOOTER_MAGIC
        && footer.crc == footer_sum(&footer)
        && (footer.object, footer.epoch, footer.index)
            == (header.object, header.epoch, header.index)
        && (BLOCKS_OFFSET..=header.file_bytes - PAGE as u64).contains(&footer.end)
        && footer.end.is_multiple_of(PAGE as u64);
    Ok(is_right.then_some(footer))
}

/// The page of a footer.
pub(super) fn fill_footer(
    page: &mut [u8],
    object: u64,
    id: SegmentId,
    end: u64,
    positions: core::ops::Range<u64>,
) {
    let mut footer = Footer {
        magic: FOOTER_MAGIC,
        crc: 0,
        object,
        epoch: id.epoch,
        index: id.index,
        end,
        first: positions.start,
        next: positions.end,
        reserved: [0; 9],
    };
    footer.crc = footer_sum(&footer);
    page.fill(0);
    page[..size_of::<Footer>()].copy_from_slice(bytemuck::bytes_of(&footer));
}

/// Header and definition of an open segment, checked against its name and, if given, its object.
pub(super) fn read_head<S: Storage>(
    storage: &S,
    id: SegmentId,
    object: Option<u64>,
    file: &S::File,
) -> Result<(SegmentHeader, Box<[u8; DEFINITION_BYTES]>), JournalError> {
    let name = id.name();
    let path = || storage.path(&name);
    let damaged = |what| JournalError::Damaged {
        path: path(),
        from: 0,
        to: BLOCKS_OFFSET,
        what,
    };
    let mut pages = Pages::new(BLOCKS_OFFSET as usize)
        .map_err(|error| failed(storage, &name, "reserving memory", error))?;
    let read = file
        .read_at(0, &mut pages)
        .map_err(|error| failed(storage, &name, "reading a header", error))?;
    if read < pages.len() {
        return Err(damaged("it ends within its header"));
    }
    let header: SegmentHeader = bytemuck::pod_read_unaligned(&pages[..PAGE]);
    if header.magic != MAGIC {
        return Err(damaged("it does not begin as a segment does"));
    }
    if header.major != MAJOR || header.minor > MINOR {
        return Err(JournalError::WrongFormat {
            path: path(),
            found_major: header.major,
            found_minor: header.minor,
            supported_major: MAJOR,
            supported_minor: MINOR,
        });
    }
    if head_sum(&header, &pages[PAGE..]) != header.crc {
        return Err(damaged("the checksum of its header is wrong"));
    }
    if header.features != 0 || header.encryption.algorithm != 0 {
        return Err(JournalError::Unsupported {
            path: path(),
            what: if header.features != 0 {
                "a feature"
            } else {
                "decryption"
            },
        });
    }
    if let Some(expected) = object.filter(|object| *object != header.object) {
        return Err(JournalError::OtherObject {
            path: path(),
            expected,
            found: header.object,
        });
    }
    if (header.epoch, header.index) != (id.epoch, id.index) {
        return Err(damaged("its header tells of another segment"));
    }
    let len = file
        .bytes()
        .map_err(|error| failed(storage, &name, "asking for the length", error))?;
    if len != header.file_bytes {
        return Err(JournalError::Damaged {
            path: path(),
            from: len.min(header.file_bytes),
            to: header.file_bytes,
            what: "its length is not what its header says",
        });
    }
    let mut definition = Box::new([0; DEFINITION_BYTES]);
    definition.copy_from_slice(&pages[PAGE..]);
    Ok((header, definition))
}

/// Whether the newest segment, if there is one, is of that object and of an epoch before `epoch`.
pub(super) fn check_newest<S: Storage>(
    storage: &S,
    object: u64,
    epoch: u64,
) -> Result<(), JournalError> {
    let ids = list(storage)?;
    let Some(newest) = ids.last() else {
        return Ok(());
    };
    let name = newest.name();
    if newest.epoch >= epoch {
        let path = storage.path(&name);
        return Err(JournalError::EpochTaken { path, epoch });
    }
    let file = storage
        .open(&name, false)
        .map_err(|error| failed(storage, &name, "opening", error))?;
    read_head(storage, *newest, Some(object), &file).map(drop)
}

/// Removes what writers before `epoch` left half made.
pub(super) fn clean<S: Storage>(storage: &S, epoch: u64) -> Result<(), JournalError> {
    let names = storage
        .names()
        .map_err(|error| failed(storage, "", "listing the directory", error))?;
    for name in names {
        let made = name.strip_prefix(TEMPORARY).unwrap_or_default();
        let is_small = made.starts_with(PROBE) || made.starts_with(LABEL);
        if is_small || maker(&name).is_some_and(|(maker, _)| maker < epoch) {
            // Its maker may be stopped, not dead: it fails at the renaming, or goes on without a name.
            let _ = storage.remove(&name);
        }
    }
    Ok(())
}

/// Takes the files away from those who are making a segment up to `id`, which is about to be given back.
pub(super) fn forestall<S: Storage>(
    storage: &S,
    names: &[String],
    id: SegmentId,
) -> Result<(), JournalError> {
    for name in names {
        let Some((epoch, index)) = maker(name) else {
            continue;
        };
        if epoch < id.epoch || epoch == id.epoch && index.is_some_and(|index| index <= id.index) {
            match storage.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(storage, name, "removing", error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whose temporary file that is: of which epoch, and for which segment of it, if for one.
fn maker(name: &str) -> Option<(u64, Option<u64>)> {
    let mut parts = name.strip_prefix(TEMPORARY)?.split('-');
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    let index = u64::from_str_radix(parts.next()?, 16).ok();
    Some((epoch, index))
}

/// Whether there is a spare, as far as can be told.
pub(super) fn has_spare<S: Storage>(storage: &S) -> bool {
    let is_spare = |name: &String| name.starts_with(SPARE);
    storage
        .names()
        .is_ok_and(|names| names.iter().any(is_spare))
}

/// Makes spares until there are `wanted` of that length. For whoever has time.
pub(super) fn stock<S: Storage>(
    storage: &S,
    plan: &Plan,
    wanted: usize,
) -> Result<(), JournalError> {
    let listed = |error| failed(storage, "", "listing the directory", error);
    let names = storage.names().map_err(listed)?;
    let have = names.iter().filter(|name| name.starts_with(SPARE)).count();
    for number in have..wanted {
        let temporary = temporary(&format!("{:016x}-new{number:x}", plan.epoch));
        let spare = temporary.replacen(TEMPORARY, SPARE, 1);
        drop(storage.create(&temporary, plan.segment_bytes)?);
        if storage.rename(&temporary, &spare).is_err() {
            let _ = storage.remove(&temporary);
        }
    }
    Ok(())
}

/// The segments of a directory, in order.
pub(super) fn list<S: Storage>(storage: &S) -> Result<Vec<SegmentId>, JournalError> {
    let names = storage.names().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            let path = storage.path("");
            return JournalError::NotFound { path };
        }
        failed(storage, "", "listing the directory", error)
    })?;
    let mut ids: Vec<_> = names.iter().filter_map(|n| SegmentId::of_name(n)).collect();
    ids.sort();
    Ok(ids)
}

/// Whether a directory holds a segment.
pub fn exists<S: Storage>(storage: &S) -> bool {
    list(storage).is_ok_and(|ids| !ids.is_empty())
}

/// Removes segments in which nothing is needed any more, from the oldest on and up to the first that stays;
/// how many. For whoever does not write, and knows that nobody writes to these. Blocks for the file system.
pub fn remove_oldest<S: Storage>(
    storage: &S,
    segments: &[SegmentId],
) -> Result<usize, JournalError> {
    let listed = storage.names();
    let names = listed.map_err(|error| failed(storage, "", "listing the directory", error))?;
    let present = list(storage)?.into_iter();
    let over: Vec<_> = present.take_while(|id| segments.contains(id)).collect();
    if let Some(last) = over.last() {
        forestall(storage, &names, *last)?;
    }
    let mut removed = 0;
    for id in over {
        match storage.remove(&id.name()) {
            Ok(()) => removed += 1,
            // By whoever writes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(storage, &id.name(), "releasing", error)),
        }
        // One by one: a later one says what of this one is over.
        let synced = storage.sync_directory();
        synced.map_err(|error| failed(storage, "", "making a removal durable", error))?;
    }
    Ok(removed)
}

/// What the newest segment says the object is made from. Blocks for a read.
pub fn definition<S: Storage>(storage: &S) -> Result<Box<[u8; DEFINITION_BYTES]>, JournalError> {
    let Some(newest) = list(storage)?.pop() else {
        let path = storage.path("");
        return Err(JournalError::NotFound { path });
    };
    let name = newest.name();
    let opened = storage.open(&name, false);
    let file = opened.map_err(|error| failed(storage, &name, "opening", error))?;
    Ok(read_head(storage, newest, None, &file)?.1)
}

/// Removes segments, spares and what was being made; other files stay. Blocks for the file system.
pub fn remove<S: Storage>(storage: &S) -> Result<(), JournalError> {
    let mut names = storage
        .names()
        .map_err(|error| failed(storage, "", "listing the directory", error))?;
    // The oldest first: a crash in between leaves what a release leaves.
    names.sort();
    for name in names {
        let is_ours = name.starts_with(TEMPORARY)
            || name.starts_with(SPARE)
            || name.starts_with(RESERVE)
            || name == PROBE
            || name == LABEL
            || SegmentId::of_name(&name).is_some();
        if is_ours {
            storage
                .remove(&name)
                .map_err(|error| failed(storage, &name, "removing", error))?;
        }
    }
    storage
        .sync_directory()
        .map_err(|error| failed(storage, "", "making a removal durable", error))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_by_its_name_and_by_no_other() {
        let id = SegmentId {
            epoch: 0x1F,
            index: 3,
        };
        assert_eq!(id.name(), "000000000000001f-00000003.segment");
        assert_eq!(SegmentId::of_name(&id.name()), Some(id));
        for other in [
            "1f-3.segment",
            "000000000000001F-00000003.segment",
            "probe",
            ".segment",
        ] {
            assert_eq!(SegmentId::of_name(other), None, "{other}");
        }
    }
}
