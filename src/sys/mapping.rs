//! A shared mapping of a whole file, absent in forked children.
//!
//! The length is that of the file at the time of the call; the caller checks it against the
//! header before any access. Pages exist (the file was fallocated), so a store can't SIGBUS
//! for want of space. In a forked child the mapping is gone (`MADV_DONTFORK`): handles check the
//! fork generation before they touch it, and dropping it there unmaps nothing.

use super::fork;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;

/// See the module.
#[derive(Debug)]
pub struct Mapping {
    map: ManuallyDrop<MmapRaw>,
    len: usize,
    generation: u64,
}

/// How to map.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapOptions {
    /// Fault every page in now, so that the hot path faults none.
    pub pre_touch: bool,
    /// Ask for transparent huge pages.
    pub huge_pages: bool,
    /// Only to be read: a store faults, and no caller may make one.
    pub read_only: bool,
    /// Whatever is stored is stored into a page of this process's own, which nobody else sees.
    pub private: bool,
}

impl Mapping {
    /// Maps the whole file, to be read and written unless the options say otherwise.
    pub fn new(file: &File, options: MapOptions) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "file larger than memory"))?;
        if len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is empty",
            ));
        }
        let mut how = MmapOptions::new();
        let how = how.len(len);
        let (map, populate) = if options.private {
            // Of a large file hardly a page is ever stored into: no memory is set aside for the rest.
            // SAFETY: what lies there is never borrowed as bytes, whoever changes the file meanwhile:
            // every access is atomic or volatile, as in a shared mapping.
            let map = unsafe { how.no_reserve_swap().map_copy(file)? };
            (map.into(), Advice::PopulateRead)
        } else if options.read_only {
            (how.map_raw_read_only(file)?, Advice::PopulateRead)
        } else {
            (how.map_raw(file)?, Advice::PopulateWrite)
        };
        map.advise(Advice::DontFork)?;
        if options.huge_pages {
            // Refused where the kernel or the file system has none; the mapping works all the same.
            let _ = map.advise(Advice::HugePage);
        }
        if options.pre_touch {
            match map.advise(populate) {
                // Before Linux 5.14 there is no such advice: pages fault on first use.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => other?,
            }
        }
        Ok(Self {
            map: ManuallyDrop::new(map),
            len,
            generation: fork::generation(),
        })
    }

    /// First byte. Page-aligned.
    #[inline(always)]
    pub fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes mapped.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Faults in the pages of `len` bytes from `offset` on, if the kernel will.
    pub fn touch(&self, offset: usize, len: usize) {
        // Refused, they fault one by one when they are used.
        let _ = self.map.advise_range(Advice::PopulateWrite, offset, len);
    }

    /// Forgets the pages of the mapping; the file keeps its bytes, and they fault in again when they are
    /// used.
    pub fn release_pages(&self) {
        // SAFETY: a shared mapping of a file: the bytes stay in its page cache, and every access sees
        // them as before.
        let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }

    /// Whether this process is a forked child of the one that mapped.
    #[inline(always)]
    pub fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.is_forked() {
            // SAFETY: dropped once, here; in the process that mapped it.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}
