//! Durable writes from memory of its own through io_uring.
//!
//! A [`Uring`] owns the buffers that the kernel reads from, so a buffer can't go, or be filled anew,
//! while a write from it is under way. Buffers and files are registered where the limits allow it,
//! and the ring has one issuer whose completions run when it asks for them (SINGLE_ISSUER,
//! DEFER_TASKRUN) if the caller says that one thread will use it; else, and on older kernels, an
//! ordinary ring does the same. Nothing is tried again here: an error is the caller's.

use super::disk::{Pages, Sync};
use super::fork;
use io_uring::squeue::{Entry, Flags};
use io_uring::{EnterFlags, IoUring, opcode, types};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// Files that can be attached at a time.
pub const SLOTS: usize = 4;

/// A write of part of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Of the attached file.
    pub slot: usize,
    pub buffer: usize,
    /// Bytes of it, from its beginning.
    pub len: usize,
    pub offset: u64,
}

/// See the module.
pub struct Uring {
    ring: ManuallyDrop<IoUring>,
    /// All buffers, side by side.
    pages: ManuallyDrop<Pages>,
    buffers: Vec<Buffer>,
    files: [Option<Arc<File>>; SLOTS],
    has_fixed_files: bool,
    has_fixed_buffers: bool,
    sync: Sync,
    /// Results of writes whose sync is not back yet, by buffer.
    written: Vec<(u64, i32)>,
    /// A submission failed: what is left in the queue must never be submitted.
    is_broken: bool,
    /// The kernel took part of a submission, and may read from its buffer at any time.
    has_strays: bool,
    generation: u64,
}

struct Buffer {
    /// Its part of the pages.
    at: Range<usize>,
    is_busy: bool,
}

const ENTRIES: u32 = 32;
/// How often who closes a ring asks for what is under way, where the kernel refuses: it may want memory.
const DROP_TRIES: u32 = 16;
const IS_SYNC: u64 = 1 << 63;

impl Uring {
    /// A ring with buffers of these lengths.
    pub fn new(lens: &[usize], sync: Sync, one_thread: bool) -> io::Result<Self> {
        let ring = build(one_thread)?;
        let pages = Pages::new(lens.iter().sum())?;
        let mut end = 0;
        let buffers = lens.iter().map(|len| {
            let at = end..end + len;
            end = at.end;
            Buffer { at, is_busy: false }
        });
        let buffers: Vec<Buffer> = buffers.collect();
        let vectors: Vec<libc::iovec> = buffers
            .iter()
            .map(|buffer| libc::iovec {
                iov_base: pages[buffer.at.clone()].as_ptr() as *mut libc::c_void,
                iov_len: buffer.at.len(),
            })
            .collect();
        // SAFETY: the vectors are parts of a mapping that `self` owns and that outlives the ring: drop() ends
        // the ring first.
        let has_fixed_buffers = unsafe { ring.submitter().register_buffers(&vectors) }.is_ok();
        let has_fixed_files = ring.submitter().register_files_sparse(SLOTS as u32).is_ok();
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            pages: ManuallyDrop::new(pages),
            buffers,
            files: [const { None }; SLOTS],
            has_fixed_files,
            has_fixed_buffers,
            sync,
            written: Vec::new(),
            is_broken: false,
            has_strays: false,
            generation: fork::generation(),
        })
    }

    /// A buffer that no write is under way from.
    pub fn buffer(&mut self, index: usize) -> &mut [u8] {
        let buffer = &self.buffers[index];
        assert!(!buffer.is_busy, "buffer {index} is being written");
        &mut self.pages[buffer.at.clone()]
    }

    /// Later writes to `slot` go to this file.
    pub fn attach(&mut self, slot: usize, file: &Arc<File>) -> io::Result<()> {
        if self.has_fixed_files {
            let fd: [RawFd; 1] = [file.as_raw_fd()];
            self.ring
                .submitter()
                .register_files_update(slot as u32, &fd)?;
        }
        self.files[slot] = Some(Arc::clone(file));
        Ok(())
    }

    /// Begins a write. After an error nothing of it will be begun.
    pub fn submit(&mut self, write: Write) -> io::Result<()> {
        let file = self.files[write.slot]
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let fd = match self.has_fixed_files {
            true => Target::Fixed(write.slot as u32),
            false => Target::Descriptor(file.as_raw_fd()),
        };
        if self.is_broken {
            return Err(io::Error::other("an earlier submission failed"));
        }
        let buffer = &self.buffers[write.buffer];
        assert!(!buffer.is_busy && write.len <= buffer.at.len());
        let bytes = &self.pages[buffer.at.start..buffer.at.start + write.len];
        let index = self.has_fixed_buffers.then_some(write.buffer as u16);
        let mut entries = 1;
        let mut first = fd.write(bytes, index, write.offset, self.sync);
        first = first.user_data(write.buffer as u64);
        let mut queue = self.ring.submission();
        if self.sync == Sync::Fdatasync {
            first = first.flags(Flags::IO_LINK);
            entries = 2;
        }
        // SAFETY: the entry points into pages that `self` owns, and `is_busy` keeps them until the
        // completion is reaped; drop() waits for it.
        unsafe { queue.push(&first) }.map_err(io::Error::other)?;
        if entries == 2 {
            let second = fd.sync().user_data(write.buffer as u64 | IS_SYNC);
            // SAFETY: a sync points to no memory.
            unsafe { queue.push(&second) }.map_err(io::Error::other)?;
        }
        drop(queue);
        match self.enter(entries, 0) {
            Ok(()) => {
                self.buffers[write.buffer].is_busy = true;
                Ok(())
            }
            Err(error) => {
                self.is_broken = true;
                // An errno says that it took nothing.
                self.has_strays |= error.raw_os_error().is_none();
                Err(error)
            }
        }
    }

    /// A completion: the buffer, free again, and bytes written or the error. With `wait` it waits for one, if any write
    /// is under way.
    pub fn reap(&mut self, wait: bool) -> io::Result<Option<(usize, io::Result<usize>)>> {
        loop {
            if let Some(done) = self.next_completion() {
                return Ok(Some(done));
            }
            if !self.buffers.iter().any(|buffer| buffer.is_busy) {
                return Ok(None);
            }
            if !wait {
                // Deferred work runs only when it is asked for.
                self.enter(0, 0)?;
                return Ok(self.next_completion());
            }
            self.enter(0, 1)?;
        }
    }

    fn next_completion(&mut self) -> Option<(usize, io::Result<usize>)> {
        loop {
            let entry = self.ring.completion().next()?;
            let (token, mut result) = (entry.user_data() & !IS_SYNC, entry.result());
            if self.sync == Sync::Fdatasync {
                if entry.user_data() & IS_SYNC == 0 {
                    self.written.push((token, result));
                    continue;
                }
                let known = self.written.iter().position(|(of, _)| *of == token);
                let written = known.map_or(result, |at| self.written.swap_remove(at).1);
                // Behind a write that failed or was short the sync is cancelled; the write says why.
                if result >= 0 || result == -libc::ECANCELED {
                    result = written;
                }
            }
            let buffer = token as usize;
            self.buffers[buffer].is_busy = false;
            return Some((buffer, outcome(result)));
        }
    }

    fn enter(&self, to_submit: u32, min_complete: u32) -> io::Result<()> {
        loop {
            // SAFETY: no argument points anywhere; the entries were checked by submit().
            let entered = unsafe {
                self.ring.submitter().enter::<libc::sigset_t>(
                    to_submit,
                    min_complete,
                    EnterFlags::GETEVENTS.bits(),
                    None,
                )
            };
            match entered {
                Ok(submitted) if submitted as u32 == to_submit => return Ok(()),
                Ok(_) => return Err(io::Error::other("the kernel took part of a submission")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // In a forked child they are the parent's, whose writes go on. Of a submission that was taken in part
        // nothing is known.
        if self.generation != fork::generation() || self.has_strays {
            return;
        }
        let mut refusals = 0;
        while self.buffers.iter().any(|buffer| buffer.is_busy) {
            match self.reap(true) {
                Ok(_) => {}
                // The kernel may still read from them: better lost than given to somebody else.
                Err(_) if refusals == DROP_TRIES => return,
                Err(_) => refusals += 1,
            }
        }
        // SAFETY: dropped once, here, the ring before the memory that it may refer to.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            ManuallyDrop::drop(&mut self.pages);
        }
    }
}

#[derive(Clone, Copy)]
enum Target {
    Fixed(u32),
    Descriptor(RawFd),
}

impl Target {
    fn write(self, bytes: &[u8], index: Option<u16>, offset: u64, sync: Sync) -> Entry {
        let (at, len) = (bytes.as_ptr(), bytes.len() as u32);
        let flags = match sync {
            Sync::Dsync => libc::RWF_DSYNC,
            Sync::Fdatasync => 0,
        };
        macro_rules! entry {
            ($fd:expr) => {
                match index {
                    Some(index) => opcode::WriteFixed::new($fd, at, len, index)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                    None => opcode::Write::new($fd, at, len)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                }
            };
        }
        match self {
            Self::Fixed(slot) => entry!(types::Fixed(slot)),
            Self::Descriptor(fd) => entry!(types::Fd(fd)),
        }
    }

    fn sync(self) -> Entry {
        let flags = types::FsyncFlags::DATASYNC;
        match self {
            Self::Fixed(slot) => opcode::Fsync::new(types::Fixed(slot)).flags(flags).build(),
            Self::Descriptor(fd) => opcode::Fsync::new(types::Fd(fd)).flags(flags).build(),
        }
    }
}

fn build(one_thread: bool) -> io::Result<IoUring> {
    if one_thread {
        let built = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES);
        if let Ok(ring) = built {
            return Ok(ring);
        }
    }
    IoUring::builder().build(ENTRIES)
}

fn outcome(result: i32) -> io::Result<usize> {
    match result {
        0.. => Ok(result as usize),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
