//! What a disk holds, and what it would hold if the power went now.
//!
//! Bytes are durable when the write of them has completed; until then each 512 of them may be there or not.
//! Names are durable when the directory was synced; until then the disk holds them as they were after some
//! prefix of the changes. [`World::crash`] makes one of the states that are left. Nothing of ringway is in here:
//! the same world takes the calls of a simulated disk and the log of a real run.

use ringway_harness::seed::Random;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub const SECTOR: usize = 512;
pub const PAGE: usize = 4096;

/// A disk with one directory.
#[derive(Clone, Default)]
pub struct World {
    files: HashMap<u64, Arc<Vec<u8>>>,
    /// As every process sees it.
    pub names: BTreeMap<String, u64>,
    /// As the disk holds it, and what has changed since.
    durable_names: BTreeMap<String, u64>,
    changes: Vec<Change>,
    /// Writes that have not completed.
    pending: BTreeMap<u64, Pending>,
    numbers: u64,
    /// Bytes that files may take together.
    pub capacity: Option<u64>,
}

#[derive(Clone)]
enum Change {
    Made(String, u64),
    Renamed(String, String),
    Removed(String),
}

#[derive(Clone)]
struct Pending {
    file: u64,
    offset: usize,
    bytes: Arc<Vec<u8>>,
    /// It failed: what is of it on the disk stays unknown until the power goes.
    has_failed: bool,
}

impl World {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.files.values().map(|file| file.len() as u64).sum()
    }

    /// A file of zeros that are durable; its name is not.
    pub fn make(&mut self, name: &str, bytes: u64) -> Option<u64> {
        if self.names.contains_key(name) {
            return None;
        }
        let file = self.number();
        self.files.insert(file, Arc::new(vec![0; bytes as usize]));
        self.names.insert(name.to_owned(), file);
        self.changes.push(Change::Made(name.to_owned(), file));
        Some(file)
    }

    /// Whether both is possible: there is a `from`, and no `to`.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let renamed = rename(&mut self.names, from, to);
        if renamed {
            let change = Change::Renamed(from.to_owned(), to.to_owned());
            self.changes.push(change);
        }
        renamed
    }

    /// Whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let was_there = self.names.remove(name).is_some();
        if was_there {
            self.changes.push(Change::Removed(name.to_owned()));
            self.forget_files();
        }
        was_there
    }

    pub fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
        self.changes.clear();
        self.forget_files();
    }

    /// Files that no state can name any more, but for those that are open: nobody reads them after a crash.
    fn forget_files(&mut self) {
        if self.changes.is_empty() {
            let named: HashSet<u64> = self.names.values().copied().collect();
            self.files.retain(|file, _| named.contains(file));
            self.pending.retain(|_, write| named.contains(&write.file));
        }
    }

    /// A write that has begun.
    pub fn begin(&mut self, file: u64, offset: u64, bytes: &[u8]) -> u64 {
        let number = self.number();
        let write = Pending {
            file,
            offset: offset as usize,
            bytes: Arc::new(bytes.to_vec()),
            has_failed: false,
        };
        self.pending.insert(number, write);
        number
    }

    /// The write is durable.
    pub fn complete(&mut self, write: u64) {
        if let Some(write) = self.pending.remove(&write) {
            put(&mut self.files, &write, |_| true);
        }
    }

    /// The write has failed.
    pub fn fail(&mut self, write: u64) {
        if let Some(write) = self.pending.get_mut(&write) {
            write.has_failed = true;
        }
    }

    /// The disk says that the write is durable; it has lost it, or put it at another place of the file.
    pub fn misplace(&mut self, write: u64, offset: Option<usize>) {
        if let Some(mut write) = self.pending.remove(&write)
            && let Some(offset) = offset
        {
            write.offset = offset;
            put(&mut self.files, &write, |_| true);
        }
    }

    pub fn len(&self, file: u64) -> u64 {
        self.files.get(&file).map_or(0, |bytes| bytes.len() as u64)
    }

    /// Reads what is durable, and over it what is under way: a page cache would show it.
    pub fn read(&self, file: u64, offset: u64, out: &mut [u8]) -> usize {
        let Some(bytes) = self.files.get(&file) else {
            return 0;
        };
        let from = (offset as usize).min(bytes.len());
        let len = out.len().min(bytes.len() - from);
        out[..len].copy_from_slice(&bytes[from..from + len]);
        len
    }

    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let file = self.names.get(name)?;
        Some(&self.files.get(file)?[..])
    }

    pub fn flip(&mut self, name: &str, bit: usize) {
        let file = self.names[name];
        let bytes = Arc::make_mut(self.files.get_mut(&file).expect("it is named"));
        bytes[bit / 8] ^= 1 << (bit % 8);
    }

    /// One state that the disk may be in after the power has gone.
    pub fn crash(&self, random: &mut Random) -> World {
        let mut names = self.durable_names.clone();
        let kept = random.below(self.changes.len() as u64 + 1) as usize;
        for change in &self.changes[..kept] {
            match change {
                Change::Made(name, file) => drop(names.insert(name.clone(), *file)),
                Change::Renamed(from, to) => drop(rename(&mut names, from, to)),
                Change::Removed(name) => drop(names.remove(name)),
            }
        }
        let mut files = self.files.clone();
        // Any order: a later write may be there and an earlier one not.
        for write in self.pending.values() {
            let sectors = write.bytes.len().div_ceil(SECTOR) as u64;
            match random.below(4) {
                0 => {}
                1 => put(&mut files, write, |_| true),
                2 => {
                    let until = random.below(sectors + 1) as usize;
                    put(&mut files, write, |sector| sector < until);
                }
                _ => {
                    let percent = random.below(101);
                    let mut choice = random.clone();
                    put(&mut files, write, |_| choice.percent(percent));
                    random.next_u64();
                }
            }
        }
        World {
            files,
            durable_names: names.clone(),
            names,
            changes: Vec::new(),
            pending: BTreeMap::new(),
            numbers: self.numbers,
            capacity: self.capacity,
        }
    }
}

fn rename(names: &mut BTreeMap<String, u64>, from: &str, to: &str) -> bool {
    if names.contains_key(to) {
        return false;
    }
    match names.remove(from) {
        Some(file) => names.insert(to.to_owned(), file).is_none(),
        None => false,
    }
}

fn put(
    files: &mut HashMap<u64, Arc<Vec<u8>>>,
    write: &Pending,
    mut takes: impl FnMut(usize) -> bool,
) {
    let Some(bytes) = files.get_mut(&write.file) else {
        return;
    };
    let bytes = Arc::make_mut(bytes);
    for (sector, part) in write.bytes.chunks(SECTOR).enumerate() {
        let at = write.offset + sector * SECTOR;
        if takes(sector) && at + part.len() <= bytes.len() {
            bytes[at..at + part.len()].copy_from_slice(part);
        }
    }
}
