//! The log of a real run, played back into a world that can be crashed: the calls that the journal made to a
//! real disk, in their order, with the completions where the kernel gave them.

use crate::crash;
use crate::disk::Promise;
use crate::effort;
use crate::script::{DATA, OBJECT, STATE, body, definition, options};
use crate::world::World;
use ringway::JournalError;
use ringway::journal::{
    Backend, Cursor, Disk, DiskFile, DiskLane, Done, Lane, Pushed, SegmentFile, SegmentId, Storage,
    Write, Writer,
};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const QUICK: u64 = 3_000;
const FULL: u64 = 100_000;

/// What happened to the disk.
enum Event {
    /// Name, bytes, number of the file.
    Made(String, u64, u64),
    Renamed(String, String),
    Removed(String),
    NamesSynced,
    Begun {
        write: u64,
        file: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Completed(u64),
    Promised(Promise),
}

/// A disk that writes down what is done to it. Files are known by the number of their making.
struct Recorder {
    disk: Disk,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    names: HashMap<String, u64>,
    numbers: u64,
}

impl Log {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

struct Recorded {
    file: DiskFile,
    number: u64,
    log: Arc<Mutex<Log>>,
}

struct RecordedLane {
    lane: DiskLane,
    files: [u64; 4],
    under_way: HashMap<usize, u64>,
    log: Arc<Mutex<Log>>,
}

impl Recorder {
    fn recorded(&self, file: DiskFile, number: u64) -> Recorded {
        Recorded {
            file,
            number,
            log: Arc::clone(&self.log),
        }
    }
}

impl Storage for Recorder {
    type File = Recorded;
    type Lane = RecordedLane;

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }
    fn create(&self, name: &str, bytes: u64) -> Result<Recorded, JournalError> {
        let file = self.disk.create(name, bytes)?;
        let mut log = self.log.lock().unwrap();
        let number = log.number();
        log.names.insert(name.to_owned(), number);
        log.events.push(Event::Made(name.to_owned(), bytes, number));
        drop(log);
        Ok(self.recorded(file, number))
    }
    fn open(&self, name: &str, for_writing: bool) -> io::Result<Recorded> {
        let file = self.disk.open(name, for_writing)?;
        let number = self.log.lock().unwrap().names[name];
        Ok(self.recorded(file, number))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        let mut log = self.log.lock().unwrap();
        let number = log.names.remove(from).expect("it was made");
        log.names.insert(to.to_owned(), number);
        log.events
            .push(Event::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)?;
        let mut log = self.log.lock().unwrap();
        log.names.remove(name);
        log.events.push(Event::Removed(name.to_owned()));
        Ok(())
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()?;
        self.log.lock().unwrap().events.push(Event::NamesSynced);
        Ok(())
    }
    fn lane(&self, buffers: &[usize]) -> io::Result<RecordedLane> {
        Ok(RecordedLane {
            lane: self.disk.lane(buffers)?,
            files: [0; 4],
            under_way: HashMap::new(),
            log: Arc::clone(&self.log),
        })
    }
    fn available_bytes(&self) -> u64 {
        self.disk.available_bytes()
    }
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
    fn stamp(&self) -> (u64, [u8; 16]) {
        self.disk.stamp()
    }
}

impl SegmentFile for Recorded {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, out)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let write = {
            let mut log = self.log.lock().unwrap();
            let write = log.number();
            let (file, bytes) = (self.number, bytes.to_vec());
            log.events.push(Event::Begun {
                write,
                file,
                offset,
                bytes,
            });
            write
        };
        let written = self.file.write_at(offset, bytes)?;
        self.log
            .lock()
            .unwrap()
            .events
            .push(Event::Completed(write));
        Ok(written)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Lane for RecordedLane {
    type File = Recorded;

    fn buffer(&mut self, index: usize) -> &mut [u8] {
        self.lane.buffer(index)
    }
    fn attach(&mut self, slot: usize, file: &Recorded) -> io::Result<()> {
        self.files[slot] = file.number;
        self.lane.attach(slot, &file.file)
    }
    fn submit(&mut self, write: Write) -> io::Result<()> {
        let bytes = self.lane.buffer(write.buffer)[..write.len].to_vec();
        let mut log = self.log.lock().unwrap();
        let number = log.number();
        log.events.push(Event::Begun {
            write: number,
            file: self.files[write.slot],
            offset: write.offset,
            bytes,
        });
        self.under_way.insert(write.buffer, number);
        drop(log);
        self.lane.submit(write)
    }
    fn reap(&mut self, wait: bool) -> io::Result<Option<Done>> {
        let done = self.lane.reap(wait)?;
        if let Some(done) = &done {
            let number = self
                .under_way
                .remove(&done.buffer)
                .expect("it was submitted");
            self.log
                .lock()
                .unwrap()
                .events
                .push(Event::Completed(number));
        }
        Ok(done)
    }
}

/// A run on a real disk: groups of entries, pipelined, over several segments, and a take-over.
fn record(backend: Backend, random: &mut Random) -> Vec<Event> {
    let scratch = TempBus::under(env!("CARGO_TARGET_TMPDIR")).expect("it is writable");
    let disk = Disk::open_or_create(scratch.path().join("journal")).expect("a disk");
    let log = Arc::new(Mutex::new(Log::default()));
    let storage = Arc::new(Recorder {
        disk: disk.backend(backend),
        log: Arc::clone(&log),
    });
    let mut promise = Promise {
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
    };
    let promised = |promise: &Promise| {
        let event = Event::Promised(promise.clone());
        log.lock().unwrap().events.push(event);
    };
    promised(&promise);
    for epoch in 1..4 {
        let start = promise.acked;
        let mut writer = Writer::take_over(
            Arc::clone(&storage),
            options(4),
            OBJECT,
            epoch,
            start,
            &definition(),
        )
        .expect("a disk");
        let mut states = promise.acked_states;
        for position in start..start + 120 {
            let body = body(position);
            while writer
                .push(DATA, position as u8, position, &[&body])
                .expect("it writes")
                == Pushed::Full
            {
                promise.acked = writer.complete_one().expect("it writes").position;
                promised(&promise);
            }
            if random.percent(20)
                && writer.push(STATE, 0, states, &[b"on"]).expect("it writes") == Pushed::Done
            {
                states += 1;
            }
            if random.percent(40) {
                writer.submit().expect("it writes");
            }
            if random.percent(10) {
                let mark = writer.complete(true).expect("it writes");
                promise.acked = mark.position;
                if writer.cursor().is_some() {
                    promise.acked_states = states;
                }
                promised(&promise);
            }
            if random.percent(2) {
                let current = writer.watermark().cursor.segment;
                promise.needed_from = promise.acked;
                promise.states_from = promise.acked_states;
                promised(&promise);
                // Only segments of state and entries that were promised, and are wanted no more.
                if writer.cursor().is_some() {
                    let old = (0..current).map(|index| SegmentId { epoch, index });
                    writer
                        .release(&old.collect::<Vec<_>>())
                        .expect("it removes");
                }
            }
        }
        writer.submit().expect("it writes");
        promise.acked = writer.complete(true).expect("it writes").position;
        promise.acked_states = states;
        promised(&promise);
    }
    drop(storage);
    std::mem::take(&mut log.lock().unwrap().events)
}

#[test]
fn a_recorded_run_survives_a_power_cut_at_every_event() {
    let wanted = effort::executions(QUICK, FULL);
    let mut random = Random::new(seed::announce("a_recorded_run"));
    let mut states = 0;
    for backend in [Backend::Uring, Backend::Pwrite] {
        let events = record(backend, &mut random);
        let variants = (wanted / 2).div_ceil(events.len() as u64);
        let mut world = World::default();
        let (mut files, mut writes) = (HashMap::new(), HashMap::new());
        let mut promise = None;
        for event in &events {
            match event {
                Event::Made(name, bytes, number) => {
                    files.insert(*number, world.make(name, *bytes).expect("it is new"));
                }
                Event::Renamed(from, to) => assert!(world.rename(from, to)),
                Event::Removed(name) => assert!(world.remove(name)),
                Event::NamesSynced => world.sync_names(),
                Event::Begun {
                    write,
                    file,
                    offset,
                    bytes,
                } => {
                    writes.insert(*write, world.begin(files[file], *offset, bytes));
                }
                Event::Completed(write) => world.complete(writes[write]),
                Event::Promised(now) => promise = Some(now.clone()),
            }
            let promise = promise.as_ref().expect("it is told first");
            for _ in 0..variants {
                crash::check(world.crash(&mut random), promise, &mut random);
                states += 1;
            }
        }
    }
    effort::report("R5 replay", states, 0, &[("replayed_states", states)]);
}
