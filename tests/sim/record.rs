//! Every call that an object made to a real disk, in one line with what was acknowledged in between; and the
//! worlds that follow such a log, one for each directory.

use crate::world::World;
use ringway::journal::{Call, Watch};
use ringway_harness::seed::Random;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

/// A call, or what the run says of itself.
pub enum Event<N> {
    Made {
        at: usize,
        name: String,
        bytes: u64,
        file: u64,
    },
    Renamed(usize, String, String),
    Removed(usize, String),
    NamesSynced(usize),
    Begun {
        write: u64,
        file: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Completed(u64),
    Noted(N),
}

impl<N> Event<N> {
    /// Whether something becomes durable with it.
    pub fn is_flush(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::NamesSynced(_))
    }
}

struct Log<N> {
    events: Vec<Event<N>>,
    writes: u64,
}

/// Writes down what is done to a disk. Clones write into the same log.
pub struct Recorder<N>(Arc<Mutex<Log<N>>>);

impl<N> Clone for Recorder<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N> Default for Recorder<N> {
    fn default() -> Self {
        let (events, writes) = (Vec::new(), 0);
        Self(Arc::new(Mutex::new(Log { events, writes })))
    }
}

impl<N> Recorder<N> {
    pub fn note(&self, what: N) {
        self.0.lock().unwrap().events.push(Event::Noted(what));
    }

    pub fn take(&self) -> Vec<Event<N>> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }

    /// Who watches one directory, the `at`th.
    pub fn desk(&self, at: usize) -> Arc<Desk<N>> {
        Arc::new(Desk {
            at,
            recorder: self.clone(),
            under_way: Mutex::default(),
        })
    }

    fn begin(&self, file: u64, offset: u64, bytes: &[u8]) -> u64 {
        let mut log = self.0.lock().unwrap();
        log.writes += 1;
        let (write, bytes) = (log.writes, bytes.to_vec());
        log.events.push(Event::Begun {
            write,
            file,
            offset,
            bytes,
        });
        write
    }
}

/// See [`Recorder::desk`].
pub struct Desk<N> {
    at: usize,
    recorder: Recorder<N>,
    under_way: Mutex<UnderWay>,
}

/// Writes that are under way: whoever is displaced may write at the same time as the next one, from a buffer of the
/// same number.
#[derive(Default)]
struct UnderWay {
    /// By who began it, and the buffer.
    from: HashMap<(ThreadId, usize), u64>,
    /// Those that are not from a buffer.
    alone: HashMap<ThreadId, u64>,
}

impl UnderWay {
    /// The one from a buffer that is over. A footer may be waited for by another thread than began it.
    fn over(&mut self, buffer: usize) -> Option<u64> {
        let me = thread::current().id();
        let by_another = || self.from.keys().find(|(_, of)| *of == buffer).copied();
        let mine = Some((me, buffer)).filter(|mine| self.from.contains_key(mine));
        let key = mine.or_else(by_another)?;
        self.from.remove(&key)
    }
}

impl<N: Send> Watch for Desk<N> {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        let mut under_way = self.under_way.lock().unwrap();
        match call {
            Call::Write {
                file,
                offset,
                bytes,
            } => {
                let write = self.recorder.begin(file, offset, bytes);
                under_way.alone.insert(thread::current().id(), write);
            }
            Call::Submit {
                file,
                buffer,
                offset,
                bytes,
            } => {
                let write = self.recorder.begin(file, offset, bytes);
                let by = (thread::current().id(), buffer);
                under_way.from.insert(by, write);
            }
            _ => {}
        }
        Ok(())
    }

    fn behind(&self, call: Call<'_>) {
        let mut under_way = self.under_way.lock().unwrap();
        let at = self.at;
        let event = match call {
            Call::Create { name, bytes, file } => Event::Made {
                at,
                name: name.to_owned(),
                bytes,
                file,
            },
            Call::Rename { from, to } => Event::Renamed(at, from.to_owned(), to.to_owned()),
            Call::Remove { name } => Event::Removed(at, name.to_owned()),
            Call::SyncDirectory => Event::NamesSynced(at),
            Call::Write { .. } => Event::Completed(under_way.alone[&thread::current().id()]),
            Call::Complete { buffer } => match under_way.over(buffer) {
                Some(write) => Event::Completed(write),
                None => return,
            },
            _ => return,
        };
        self.recorder.0.lock().unwrap().events.push(event);
    }
}

/// Worlds that follow a log.
#[derive(Clone, Default)]
pub struct Player {
    worlds: Vec<World>,
    files: HashMap<u64, (usize, u64)>,
    writes: HashMap<u64, (usize, u64)>,
    /// Changes of names that were noted before what they change: directory, from, and to if it is not a removal.
    early: Vec<(usize, String, Option<String>)>,
}

impl Player {
    pub fn of(directories: usize) -> Self {
        Self {
            worlds: vec![World::default(); directories],
            ..Self::default()
        }
    }

    /// What the run says of itself, if that is what it is.
    pub fn play<'a, N>(&mut self, event: &'a Event<N>) -> Option<&'a N> {
        match event {
            Event::Made {
                at,
                name,
                bytes,
                file,
            } => {
                let made = self.worlds[*at].make(name, *bytes).expect("it is new");
                self.files.insert(*file, (*at, made));
                self.settle();
            }
            Event::Renamed(at, from, to) => self.change((*at, from.clone(), Some(to.clone()))),
            Event::Removed(at, name) => self.change((*at, name.clone(), None)),
            Event::NamesSynced(at) => self.worlds[*at].sync_names(),
            Event::Begun {
                write,
                file,
                offset,
                bytes,
            } => {
                let (at, file) = self.files[file];
                let begun = self.worlds[at].begin(file, *offset, bytes);
                self.writes.insert(*write, (at, begun));
            }
            Event::Completed(write) => {
                let (at, write) = self.writes[write];
                self.worlds[at].complete(write);
            }
            Event::Noted(what) => return Some(what),
        }
        None
    }

    /// A call is noted behind it: another thread may have come in between.
    fn change(&mut self, change: (usize, String, Option<String>)) {
        self.early.push(change);
        self.settle();
    }

    fn settle(&mut self) {
        let worlds = &mut self.worlds;
        let mut apply = |(at, from, to): &(usize, String, Option<String>)| match to {
            Some(to) => worlds[*at].rename(from, to),
            None => worlds[*at].remove(from),
        };
        while let Some(place) = self.early.iter().position(&mut apply) {
            self.early.remove(place);
        }
    }

    /// One state that the disk may be in after the power has gone.
    pub fn crash(&self, random: &mut Random) -> Self {
        Self {
            worlds: self.worlds.iter().map(|it| it.crash(random)).collect(),
            ..Self::default()
        }
    }

    /// Lays out what the disk holds of the `at`th directory. From there, what is done to these files can be
    /// played on.
    pub fn lay_out(&mut self, at: usize, directory: &Path) {
        let world = &self.worlds[at];
        let _ = std::fs::remove_dir_all(directory);
        std::fs::create_dir_all(directory).unwrap();
        // How the disk writes is known: it is not found out again for each image.
        std::fs::write(directory.join("probe"), "dsync\n").unwrap();
        for (name, number) in &world.names {
            let bytes = world.bytes(name).expect("it is named");
            let file = File::create(directory.join(name)).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
            for (page, at) in bytes.chunks(4096).zip((0..).step_by(4096)) {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, at).unwrap();
                }
            }
            let inode = file.metadata().unwrap().ino();
            self.files.insert(inode, (at, *number));
        }
    }

    /// Whether the disk holds nothing of a directory.
    pub fn is_empty(&self, at: usize) -> bool {
        self.worlds[at].names.is_empty()
    }
}
