//! Object files: creation that is whole or not at all, and an open that believes nothing.
//!
//! A kind of object adds its header ([`Header`]) and what it means; everything that could leave
//! half a file or map bytes that only a header claims is here, once.

use super::Site;
use crate::error::OpenError;
use crate::layout::geometry::Geometry;
use crate::layout::{
    FEATURES_REQUIRED, FORMAT_MAJOR, FORMAT_MINOR, PAGE, Preamble, READY, READY_OFFSET, REMOVED,
    is_readable,
};
use crate::shm::ring::RingMemory;
use crate::shm::words;
use crate::sync::Ordering;
use crate::sys::file::{self, CreateFailure};
use crate::sys::mapping::{MapOptions, Mapping};
use crate::sys::{clock, fork, host};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an object with huge pages is rounded up to.
const HUGE_PAGE: u64 = 2 << 20;

/// The header of one kind of object.
pub trait Header: bytemuck::Pod {
    const MAGIC: [u8; 8];
    /// What an error calls a file of this kind.
    const KIND: &'static str;

    /// What all kinds have.
    fn frame(&self) -> Frame;
    /// Reader entries in front of the slots.
    fn readers(&self) -> u32;
}

/// The fields that every kind of header has.
#[derive(Clone, Copy)]
pub struct Frame {
    pub preamble: Preamble,
    pub slots: u64,
    pub stride: u64,
    pub slots_offset: u64,
    pub file_bytes: u64,
    pub name: [u8; 128],
    pub name_bytes: u32,
    pub huge_pages: u32,
}

/// Fills the fields of a frame into a header and back.
macro_rules! framed {
    ($header:ty, $magic:expr, $kind:literal, $readers:expr) => {
        impl $crate::object::file::Header for $header {
            const MAGIC: [u8; 8] = $magic;
            const KIND: &'static str = $kind;

            fn frame(&self) -> $crate::object::file::Frame {
                $crate::object::file::Frame {
                    preamble: self.preamble,
                    slots: self.slots,
                    stride: self.stride,
                    slots_offset: self.slots_offset,
                    file_bytes: self.file_bytes,
                    name: self.name,
                    name_bytes: self.name_bytes,
                    huge_pages: self.huge_pages,
                }
            }

            fn readers(&self) -> u32 {
                let readers: fn(&Self) -> u32 = $readers;
                readers(self)
            }
        }
    };
}
pub(crate) use framed;

/// What is to be created.
pub struct Shape<'a> {
    pub name: &'a str,
    pub slots: u64,
    pub stride: u64,
    /// The first byte that may belong to the slots.
    pub slots_from: u64,
    pub huge_pages: bool,
}

impl Shape<'_> {
    /// Offset of the slots and length of the file.
    pub fn extent(&self) -> (u64, u64) {
        let alignment = if self.huge_pages {
            HUGE_PAGE
        } else {
            PAGE as u64
        };
        let slots_offset = self.slots_from.next_multiple_of(alignment);
        let end = slots_offset + self.slots * self.stride;
        (slots_offset, end.next_multiple_of(alignment))
    }

    /// Length of the file.
    pub fn file_bytes(&self) -> u64 {
        self.extent().1
    }
}

/// A file under a temporary name, which grows to its full length bit by bit and goes again unless it
/// becomes an object. In a forked child it stays: it is the parent's.
pub struct Spare {
    temporary: PathBuf,
    file: File,
    bytes: u64,
    /// Of the process that made it.
    generation: u64,
}

impl Spare {
    /// Without a byte.
    pub fn new(site: &Site) -> Result<Self, CreateFailure> {
        let random = host::random_u64();
        let name = format!("{}{random:016x}", site.temporary_prefix);
        let temporary = site.directory.join(name);
        Ok(Self {
            file: file::create_temporary(&temporary, 0, site.access)?,
            temporary,
            bytes: 0,
            generation: fork::generation(),
        })
    }

    /// Maps it.
    pub fn map(&self) -> io::Result<Mapping> {
        Mapping::new(&self.file, MapOptions::default())
    }

    /// Its length: zero bytes that really exist.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets it have so many bytes, unless it has more. One system call.
    pub fn extend(&mut self, bytes: u64) -> Result<(), CreateFailure> {
        file::allocate(&self.file, self.bytes, bytes)?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            // Published, it has another name.
            let _ = file::remove(&self.temporary);
        }
    }
}

/// A file of full length under a temporary name, which goes again unless it is published.
pub struct Reserved<'a> {
    site: &'a Site,
    shape: &'a Shape<'a>,
    path: PathBuf,
    spare: Spare,
}

/// Creates the file of an object: `header` makes its header of the frame, `fill` stores what is not
/// zero at first. `AlreadyExists` when somebody was first.
pub fn create<H: Header>(
    site: &Site,
    shape: &Shape<'_>,
    header: impl FnOnce(Frame) -> H,
    fill: impl FnOnce(&Arc<Mapping>),
) -> Result<(), OpenError> {
    reserve(site, shape)?.publish(header, fill)
}

/// Takes the room for the file of an object, under a name that nobody opens.
pub fn reserve<'a>(site: &'a Site, shape: &'a Shape<'a>) -> Result<Reserved<'a>, OpenError> {
    reserve_from(site, shape, None)
}

/// The same, of which a part may be there already.
pub fn reserve_from<'a>(
    site: &'a Site,
    shape: &'a Shape<'a>,
    spare: Option<Spare>,
) -> Result<Reserved<'a>, OpenError> {
    let path = site.directory.join(shape.name);
    let filled = spare.map_or_else(|| Spare::new(site), Ok);
    let filled = filled.and_then(|mut spare| {
        spare.extend(shape.file_bytes())?;
        Ok(spare)
    });
    let spare = filled.map_err(|failure| match failure {
        CreateFailure::NoSpace(room) => OpenError::NoSpace {
            path: path.clone(),
            needed: room.needed,
            available: room.available,
        },
        CreateFailure::Io(error) => OpenError::io(&path, error),
    })?;
    Ok(Reserved {
        site,
        shape,
        path,
        spare,
    })
}

impl Reserved<'_> {
    /// Slots of the object.
    pub fn slots(&self) -> u64 {
        self.shape.slots
    }

    /// Makes the file an object and gives it its name, as [`create`] does.
    pub fn publish<H: Header>(
        self,
        header: impl FnOnce(Frame) -> H,
        fill: impl FnOnce(&Arc<Mapping>),
    ) -> Result<(), OpenError> {
        self.prepare(header, fill)?;
        self.rename()
    }

    /// Makes the file an object that has no name yet.
    pub fn prepare<H: Header>(
        &self,
        header: impl FnOnce(Frame) -> H,
        fill: impl FnOnce(&Arc<Mapping>),
    ) -> Result<(), OpenError> {
        let prepared = self.finish(header, fill);
        prepared.map_err(|error| OpenError::io(&self.path, error))
    }

    /// Gives it its name. `AlreadyExists` when somebody was first.
    pub fn rename(self) -> Result<(), OpenError> {
        let renamed = file::publish(&self.spare.temporary, &self.path);
        renamed.map_err(|error| OpenError::io(&self.path, error))
    }

    fn finish<H: Header>(
        &self,
        header: impl FnOnce(Frame) -> H,
        fill: impl FnOnce(&Arc<Mapping>),
    ) -> io::Result<()> {
        let (site, shape) = (self.site, self.shape);
        let (slots_offset, file_bytes) = shape.extent();
        let mapping = Arc::new(Mapping::new(&self.spare.file, MapOptions::default())?);
        let mut name = [0u8; 128];
        name[..shape.name.len()].copy_from_slice(shape.name.as_bytes());
        // Slots and control words are zero: VOID of lap 0, position 0 first, nobody anywhere.
        let frame = Frame {
            preamble: Preamble {
                magic: H::MAGIC,
                major: FORMAT_MAJOR,
                minor: FORMAT_MINOR,
                ready: 0,
                features: FEATURES_REQUIRED,
                bus_id: site.bus_id,
                boot_id: site.boot_id,
                object_id: host::random_u64() | 1,
                created_ms: clock::unix_ms(),
            },
            slots: shape.slots,
            stride: shape.stride,
            slots_offset,
            file_bytes,
            name,
            name_bytes: shape.name.len() as u32,
            huge_pages: u32::from(shape.huge_pages),
        };
        words::write_header(&mapping, &header(frame));
        fill(&mapping);
        words::word32(&mapping, READY_OFFSET).store(READY, Ordering::Release);
        Ok(())
    }
}

/// A file whose header is of the right kind, bus and boot, and names the right object.
pub struct Opened<H> {
    pub header: H,
    pub name: String,
    pub file: File,
    pub path: PathBuf,
    actual: u64,
}

/// Opens a file and checks what all kinds have. `name`: what the header has to say; `None` for an
/// object that was removed and put aside, whatever its name was.
pub fn open<H: Header>(
    site: &Site,
    file_name: &str,
    name: Option<&str>,
) -> Result<Opened<H>, OpenError> {
    let path = site.directory.join(file_name);
    let io = |error| OpenError::io(&path, error);
    let file = site.open(&path).map_err(io)?;
    let actual = file.metadata().map_err(io)?.len();
    let wrong_length = |expected| OpenError::WrongLength {
        path: path.clone(),
        expected,
        actual,
    };
    if actual < PAGE as u64 {
        return Err(wrong_length(PAGE as u64));
    }
    let header: H = read_header(&file).map_err(io)?;
    let frame = header.frame();
    let checked = check_preamble(&frame.preamble, H::MAGIC, H::KIND, &path);
    match (checked, name) {
        (Err(OpenError::Removed { .. }), None) => {}
        (checked, _) => checked?,
    }
    if frame.preamble.bus_id != site.bus_id {
        return Err(OpenError::OtherBus { path });
    }
    if frame.preamble.boot_id != site.boot_id {
        return Err(OpenError::OtherBoot { path });
    }
    if frame.file_bytes != actual {
        return Err(wrong_length(frame.file_bytes));
    }
    let stored = frame.name.get(..frame.name_bytes as usize);
    let stored = stored.unwrap_or_default();
    if name.is_some_and(|name| stored != name.as_bytes()) {
        return Err(OpenError::Scribbled {
            path,
            what: "its header names another object",
        });
    }
    Ok(Opened {
        header,
        name: String::from_utf8_lossy(stored).into_owned(),
        file,
        path,
        actual,
    })
}

impl<H: Header> Opened<H> {
    /// The error of a header that contradicts itself.
    pub fn scribbled(&self, what: &'static str) -> OpenError {
        OpenError::Scribbled {
            path: self.path.clone(),
            what,
        }
    }

    /// Maps the file, once its geometry is believed.
    pub fn map(&self, site: &Site) -> Result<(Arc<Mapping>, RingMemory), OpenError> {
        self.map_from(site, 0)
    }

    /// The same for a ring whose first position is `first`.
    pub fn map_from(
        &self,
        site: &Site,
        first: u64,
    ) -> Result<(Arc<Mapping>, RingMemory), OpenError> {
        let frame = self.header.frame();
        let geometry = Geometry::new(frame.slots, frame.stride, self.header.readers())
            .ok_or_else(|| self.scribbled("slots, stride or readers are outside their bounds"))?
            .starting_at(first)
            .ok_or_else(|| self.scribbled("its first position is none of its slots'"))?;
        // A length that only the header claims must not be faulted in.
        let end = frame
            .slots_offset
            .checked_add(geometry.slots() * geometry.stride() as u64);
        if end.is_none_or(|end| self.actual < end) {
            return Err(self.scribbled("the slots do not fit into the file"));
        }
        if end.is_some_and(|end| self.actual - end >= HUGE_PAGE) {
            return Err(self.scribbled("the file goes on behind its slots"));
        }
        let options = MapOptions {
            pre_touch: site.pre_touch,
            huge_pages: frame.huge_pages == 1,
            read_only: site.read_only,
            private: site.observed,
        };
        // `RingMemory::new` checks against the length that is mapped, whatever it was before.
        let mapping =
            Mapping::new(&self.file, options).map_err(|e| OpenError::io(&self.path, e))?;
        let mapping = Arc::new(mapping);
        let memory = RingMemory::new(Arc::clone(&mapping), geometry, frame.slots_offset)
            .ok_or_else(|| self.scribbled("the slots do not fit into the file"))?;
        Ok((mapping, memory))
    }
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

/// The path of a directory that has to lie on a disk, as a header has it: at most `most` bytes.
///
/// # Errors
/// [`OpenError::InvalidOption`] when there is none, it lies in memory, or is longer.
pub fn path_on_disk(path: Option<&Path>, most: usize) -> Result<Vec<u8>, OpenError> {
    let refuse = |given: String, rule: &str| OpenError::InvalidOption {
        option: "journal_root",
        given,
        rule: rule.to_owned(),
    };
    let Some(path) = path else {
        return Err(refuse("none".to_owned(), "a directory on a disk"));
    };
    let given = || path.display().to_string();
    if file::is_in_memory(path) {
        return Err(refuse(
            given(),
            "a directory on a disk; this one lies in memory",
        ));
    }
    let bytes = path.as_os_str().as_bytes().to_vec();
    if bytes.len() > most {
        let rule = format!("at most {most} bytes with the names of bus and object");
        return Err(refuse(given(), &rule));
    }
    Ok(bytes)
}
