//! The limits of durable messages: writes to a file whose bytes are written already, O_DIRECT and O_DSYNC.
//!
//! `limit-disk` writes 4 KiB at a time, one after the other: the least that makes a message durable.
//! `limit-disk-deep` has eight writes of 128 KiB under way, one from each of eight threads: the most that a
//! disk takes of a stream. The file is on $TMPDIR or /var/tmp, which should be a disk.

use crate::durable::{self, GROUP, Pour, Settle};
use crate::pages::Pages;
use crate::scratch::DiskScratch;
use crate::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

pub(super) const NAME: &str = "limit-disk";
pub(super) const DEEP: &str = "limit-disk-deep";

pub(super) struct Disk;
pub(super) struct Deep;

const FILE_BYTES: u64 = 128 << 20;
const PAGE: usize = 4096;
const DEEP_BYTES: usize = 128 << 10;

impl Contender for Disk {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "4 KiB written over, O_DIRECT and O_DSYNC, one at a time"
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::DurableOne, Mode::Block, 6_000),
            Offer::new(Scenario::DurableGroup, Mode::Block, 6_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = DiskScratch::new()?;
        let path = scratch.path().join("limit");
        prewrite(&path)?;
        let open = || Loop::open(&path, PAGE, 0, FILE_BYTES);
        match plan.scenario {
            Scenario::DurableOne => durable::one(plan, |_| open()),
            _ => durable::group(plan, |_| Ok(vec![open()?])),
        }
    }
}

impl Contender for Deep {
    fn name(&self) -> &'static str {
        DEEP
    }

    fn about(&self) -> &'static str {
        "128 KiB written over, O_DIRECT and O_DSYNC, eight at a time"
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::DurableBatch, Mode::Block, 2_000_000),
            Offer::new(Scenario::DurableLarge, Mode::Block, 10_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = DiskScratch::new()?;
        let path = scratch.path().join("limit");
        prewrite(&path)?;
        let size = plan.size as u64;
        durable::pour(plan, |_| {
            let part = FILE_BYTES / GROUP as u64;
            let loops = (0..GROUP as u64).map(|n| Loop::open(&path, DEEP_BYTES, n * part, part));
            Ok(Threads {
                loops: loops.collect::<Result<_>>()?,
                size,
            })
        })
    }
}

/// A file of written zeros, on the disk.
fn prewrite(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    Ok(file.sync_all()?)
}

/// Writes round and round a part of a file.
struct Loop {
    file: File,
    pages: Pages,
    len: usize,
    from: u64,
    part: u64,
    written: u64,
}

impl Loop {
    fn open(path: &Path, len: usize, from: u64, part: u64) -> Result<Loop> {
        let open = |flags| {
            OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(path)
        };
        let file = open(libc::O_DIRECT | libc::O_DSYNC).or_else(|_| open(libc::O_DSYNC))?;
        Ok(Loop {
            file,
            pages: Pages::new(len)?,
            len,
            from,
            part,
            written: 0,
        })
    }

    fn write(&mut self) -> Result<()> {
        let at = self.from + self.written % self.part;
        // SAFETY: the mapping has `len` bytes and lives as long as self; the kernel only reads.
        let written = unsafe {
            let bytes = self.pages.base().cast_const().cast();
            libc::pwrite(self.file.as_raw_fd(), bytes, self.len, at as libc::off_t)
        };
        if written != self.len as isize {
            return Err(format!("a write failed: {}", io::Error::last_os_error()).into());
        }
        self.written += self.len as u64;
        Ok(())
    }
}

impl Settle for Loop {
    fn settle(&mut self, _number: u64) -> Result<()> {
        self.write()
    }
}

struct Threads {
    loops: Vec<Loop>,
    size: u64,
}

impl Pour for Threads {
    fn pour(&mut self, _first: u64, count: u64) -> Result<()> {
        let writes = (count * self.size).div_ceil((DEEP_BYTES * GROUP) as u64);
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .loops
                .iter_mut()
                .map(|end| scope.spawn(move || (0..writes).try_for_each(|_| end.write())))
                .collect();
            for thread in threads {
                thread.join().map_err(|_| "a writing thread panicked")??;
            }
            Ok(())
        })
    }
}
