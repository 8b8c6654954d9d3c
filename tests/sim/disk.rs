//! A simulated disk behind the journal's door: every call is a place where the power may go, or where it
//! may fail.
//!
//! Writes of a lane complete in any order. Before and after each effect the state of the world may be kept
//! ([`Sim::keep`]), with what had been acknowledged by then, to be crashed later. One call may be made to fail
//! ([`Fault`]), and whoever makes one may be stopped in front of it while others go on ([`Sim::before`]).

use crate::world::World;
use ringway::JournalError;
use ringway::journal::{Cursor, Done, Lane, SegmentFile, Storage, Write};
use ringway_harness::seed::Random;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// A directory on a simulated disk; clones are the same one.
#[derive(Clone)]
pub struct Sim(Arc<Mutex<Inner>>);

/// What had been promised when a state was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Positions from here on are still wanted,
    pub needed_from: u64,
    /// and those below this were acknowledged.
    pub acked: u64,
    /// So many entries of state, numbered from 0, were acknowledged;
    pub acked_states: u64,
    /// those below were in segments that may have been released.
    pub states_from: u64,
    /// What was pushed at all.
    pub pushed: u64,
    /// Epoch and place in front of which everything was acknowledged.
    pub acked_cursor: (u64, Cursor),
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: u64,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Eio,
    Enospc,
    /// A write does half of it; any other call fails with EIO.
    Short,
}

/// A block that completes without being where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    pub block: u64,
    /// Where it is put instead; else it is lost.
    pub offset: Option<usize>,
}

/// What others do while one is stopped.
type Meanwhile = Box<dyn FnOnce() + Send>;

struct Inner {
    world: World,
    random: Random,
    promise: Promise,
    kept: Vec<(World, Promise)>,
    keep_percent: u64,
    calls: u64,
    fault: Option<Fault>,
    /// The block after so many that the disk lies about.
    lie: Option<Lie>,
    log: Vec<&'static str>,
    stop: Option<(&'static str, Meanwhile)>,
    open_files: usize,
    open_lanes: usize,
}

impl Sim {
    pub fn new(world: World, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            world,
            random: Random::new(seed),
            promise: Promise {
                needed_from: 0,
                acked: 0,
                acked_states: 0,
                states_from: 0,
                pushed: 0,
                acked_cursor: (
                    0,
                    Cursor {
                        segment: 0,
                        offset: 0,
                    },
                ),
            },
            kept: Vec::new(),
            keep_percent: 0,
            calls: 0,
            fault: None,
            lie: None,
            log: Vec::new(),
            stop: None,
            open_files: 0,
            open_lanes: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// Has this share of all states kept.
    pub fn keep(&self, percent: u64) {
        self.lock().keep_percent = percent;
    }

    /// Takes the kept states away.
    pub fn kept(&self) -> Vec<(World, Promise)> {
        std::mem::take(&mut self.lock().kept)
    }

    /// Says what is promised from now on.
    pub fn promise(&self, change: impl FnOnce(&mut Promise)) {
        change(&mut self.lock().promise);
    }

    pub fn lie(&self, lie: Lie) {
        self.lock().lie = Some(lie);
    }

    pub fn promised(&self) -> Promise {
        self.lock().promise.clone()
    }

    /// Stops whoever makes such a call next in front of it, until `meanwhile` is done.
    pub fn before(&self, call: &'static str, meanwhile: impl FnOnce() + Send + 'static) {
        self.lock().stop = Some((call, Box::new(meanwhile)));
    }

    /// Counts calls from here on, and lets that one fail.
    pub fn fail_at(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        inner.calls = 0;
        inner.log.clear();
        inner.fault = fault;
    }

    /// The calls that could fail, so far.
    pub fn calls(&self) -> Vec<&'static str> {
        self.lock().log.clone()
    }

    pub fn world<R>(&self, with: impl FnOnce(&mut World) -> R) -> R {
        with(&mut self.lock().world)
    }

    /// Open files and lanes.
    pub fn open(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.open_files, inner.open_lanes)
    }

    /// A call: an error if this is the one that fails.
    fn call(&self, what: &'static str) -> io::Result<()> {
        let stop = self.lock().stop.take_if(|(call, _)| *call == what);
        if let Some((_, meanwhile)) = stop {
            meanwhile();
        }
        match self.lock().fails(what) {
            Some(How::Enospc) => Err(io::Error::from_raw_os_error(28)),
            Some(_) => Err(io::Error::from_raw_os_error(5)),
            None => Ok(()),
        }
    }

    fn file(&self, number: u64) -> SimFile {
        self.lock().open_files += 1;
        SimFile {
            sim: self.clone(),
            number,
        }
    }
}

impl Inner {
    fn fails(&mut self, what: &'static str) -> Option<How> {
        let call = self.calls;
        self.calls += 1;
        self.log.push(what);
        self.fault
            .filter(|fault| fault.call == call)
            .map(|fault| fault.how)
    }

    /// A write of a lane completes; honestly, unless it is the one.
    fn finish(&mut self, write: u64, is_block: bool) {
        match &mut self.lie {
            Some(lie) if is_block && lie.block == 0 => {
                self.world.misplace(write, lie.offset);
                self.lie = None;
            }
            Some(lie) if is_block => {
                lie.block -= 1;
                self.world.complete(write);
            }
            _ => self.world.complete(write),
        }
    }

    /// A place where the power may go.
    fn point(&mut self) {
        if self.keep_percent > 0 && self.random.percent(self.keep_percent) {
            self.kept.push((self.world.clone(), self.promise.clone()));
        }
    }
}

impl Storage for Sim {
    type File = SimFile;
    type Lane = SimLane;

    fn names(&self) -> io::Result<Vec<String>> {
        self.call("names")?;
        Ok(self.world(|world| world.names.keys().cloned().collect()))
    }

    fn create(&self, name: &str, bytes: u64) -> Result<SimFile, JournalError> {
        let path = self.path(name);
        let no_space = |available| JournalError::NoSpace {
            path: path.clone(),
            needed: bytes,
            available,
        };
        self.call("create")
            .map_err(|source| match source.raw_os_error() {
                Some(28) => no_space(0),
                _ => JournalError::Io {
                    path: path.clone(),
                    what: "making a segment",
                    source,
                },
            })?;
        let available = self.available_bytes();
        if available < bytes {
            return Err(no_space(available));
        }
        let mut inner = self.lock();
        let made = inner.world.make(name, bytes);
        inner.point();
        drop(inner);
        match made {
            Some(number) => Ok(self.file(number)),
            None => Err(JournalError::Io {
                path,
                what: "making a segment",
                source: io::Error::from(io::ErrorKind::AlreadyExists),
            }),
        }
    }

    fn open(&self, name: &str, _for_writing: bool) -> io::Result<SimFile> {
        self.call("open")?;
        let number = self.world(|world| world.names.get(name).copied());
        let number = number.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(self.file(number))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call("rename")?;
        let mut inner = self.lock();
        let renamed = inner.world.rename(from, to);
        inner.point();
        match renamed {
            true => Ok(()),
            false if inner.world.names.contains_key(to) => {
                Err(io::Error::from(io::ErrorKind::AlreadyExists))
            }
            false => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call("remove")?;
        let mut inner = self.lock();
        let was_there = inner.world.remove(name);
        inner.point();
        match was_there {
            true => Ok(()),
            false => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.call("sync directory")?;
        let mut inner = self.lock();
        inner.point();
        inner.world.sync_names();
        inner.point();
        Ok(())
    }

    fn lane(&self, buffers: &[usize]) -> io::Result<SimLane> {
        self.call("lane")?;
        self.lock().open_lanes += 1;
        Ok(SimLane {
            sim: self.clone(),
            buffers: buffers.iter().map(|len| vec![0; *len]).collect(),
            files: [None; 4],
            under_way: Vec::new(),
        })
    }

    fn available_bytes(&self) -> u64 {
        self.world(|world| match world.capacity {
            Some(capacity) => capacity.saturating_sub(world.used()),
            None => u64::MAX,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/sim").join(name)
    }

    fn stamp(&self) -> (u64, [u8; 16]) {
        (1, [7; 16])
    }
}

pub struct SimFile {
    sim: Sim,
    number: u64,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.sim.lock().open_files -= 1;
    }
}

impl SegmentFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        self.sim.call("length")?;
        Ok(self.sim.world(|world| world.len(self.number)))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.sim.call("read")?;
        Ok(self.sim.world(|world| world.read(self.number, offset, out)))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.sim.lock();
        let failing = inner.fails("write");
        let write = inner.world.begin(self.number, offset, bytes);
        inner.point();
        match failing {
            None => {
                inner.world.complete(write);
                inner.point();
                Ok(bytes.len())
            }
            Some(How::Short) => {
                inner.world.fail(write);
                Ok(bytes.len() / 2)
            }
            Some(how) => {
                inner.world.fail(write);
                let code = if how == How::Eio { 5 } else { 28 };
                Err(io::Error::from_raw_os_error(code))
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sim.call("sync")
    }
}

pub struct SimLane {
    sim: Sim,
    buffers: Vec<Vec<u8>>,
    files: [Option<u64>; 4],
    under_way: Vec<UnderWay>,
}

struct UnderWay {
    buffer: usize,
    len: usize,
    write: u64,
}

impl Drop for SimLane {
    fn drop(&mut self) {
        self.sim.lock().open_lanes -= 1;
    }
}

impl Lane for SimLane {
    type File = SimFile;

    fn buffer(&mut self, index: usize) -> &mut [u8] {
        assert!(self.under_way.iter().all(|write| write.buffer != index));
        &mut self.buffers[index]
    }

    fn attach(&mut self, slot: usize, file: &SimFile) -> io::Result<()> {
        self.sim.call("attach")?;
        self.files[slot] = Some(file.number);
        Ok(())
    }

    fn submit(&mut self, write: Write) -> io::Result<()> {
        self.sim.call("submit")?;
        let mut inner = self.sim.lock();
        let file = self.files[write.slot].expect("a file is attached");
        let bytes = &self.buffers[write.buffer][..write.len];
        let number = inner.world.begin(file, write.offset, bytes);
        inner.point();
        self.under_way.push(UnderWay {
            buffer: write.buffer,
            len: write.len,
            write: number,
        });
        Ok(())
    }

    fn reap(&mut self, wait: bool) -> io::Result<Option<Done>> {
        self.sim.call("wait")?;
        let mut inner = self.sim.lock();
        if self.under_way.is_empty() || !wait && inner.random.percent(50) {
            return Ok(None);
        }
        let which = inner.random.below(self.under_way.len() as u64) as usize;
        let done = self.under_way.swap_remove(which);
        let result = match inner.fails("completion") {
            None => {
                inner.finish(done.write, self.buffers[done.buffer].starts_with(b"RWBK"));
                Ok(done.len)
            }
            Some(How::Short) => {
                inner.world.fail(done.write);
                Ok(done.len / 2)
            }
            Some(how) => {
                inner.world.fail(done.write);
                let code = if how == How::Eio { 5 } else { 28 };
                Err(io::Error::from_raw_os_error(code))
            }
        };
        inner.point();
        Ok(Some(Done {
            buffer: done.buffer,
            result,
        }))
    }
}
