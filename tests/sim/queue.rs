//! What the power would have left of real runs of durable queues: every call that a queue made to a real disk is
//! written down, with what was acknowledged in between, and played back into a world that is crashed at each
//! flush, with any sectors of what was under way. Each of those is laid out as a real directory, and the queue
//! opened from it as ever.
//!
//! Everything that was sent and that nobody was about to delete is there, once; nothing is there whose deletion was
//! acknowledged; opened twice it is the same; and so it is when the power goes in the middle of an opening.

use crate::effort;
use crate::world::World;
use ringway::journal::{Call, Watch, watch};
use ringway::{Bus, Durability, Queue, QueueReceiver};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const QUICK: u64 = 60;
const FULL: u64 = 10_000;
/// Messages of a run: more than a segment takes.
const MESSAGES: u64 = 1_500;
const BODY: usize = 3_600;
/// Offset of the word of who writes, in the file of the queue: 0 says that the next one begins an epoch.
const PERSISTER: u64 = 7296;

enum Event {
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
    Sent(u64),
    /// It may be deleted from here on.
    About(u64),
    Deleted(u64),
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    writes: u64,
    /// Bytes of each file, and those that all may take; 0: any number.
    files: HashMap<String, u64>,
    most_bytes: u64,
    /// The write that is under way from a buffer, and the last that is not from one.
    from: HashMap<usize, u64>,
    alone: u64,
}

/// Writes down what is done to a disk.
#[derive(Default)]
struct Recorder(Mutex<Log>);

impl Recorder {
    fn note(&self, event: Event) {
        self.0.lock().unwrap().events.push(event);
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }

    /// From here on the disk has no more room than is used.
    fn fill_up(&self) {
        let mut log = self.0.lock().unwrap();
        log.most_bytes = log.files.values().sum();
    }
}

impl Log {
    fn is_too_much(&self, bytes: u64) -> bool {
        self.most_bytes > 0 && self.files.values().sum::<u64>() + bytes > self.most_bytes
    }

    fn follow(&mut self, event: &Event) {
        match event {
            Event::Made(name, bytes, _) => drop(self.files.insert(name.clone(), *bytes)),
            Event::Renamed(from, to) => {
                let bytes = self.files.remove(from).expect("it is there");
                self.files.insert(to.clone(), bytes);
            }
            Event::Removed(name) => drop(self.files.remove(name)),
            _ => {}
        }
    }

    fn begin(&mut self, file: u64, offset: u64, bytes: &[u8]) -> u64 {
        self.writes += 1;
        self.events.push(Event::Begun {
            write: self.writes,
            file,
            offset,
            bytes: bytes.to_vec(),
        });
        self.writes
    }
}

impl Watch for Recorder {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        let mut log = self.0.lock().unwrap();
        match call {
            Call::Create { bytes, .. } if log.is_too_much(bytes) => {
                return Err(io::Error::from_raw_os_error(28));
            }
            Call::Write {
                file,
                offset,
                bytes,
            } => log.alone = log.begin(file, offset, bytes),
            Call::Submit {
                file,
                buffer,
                offset,
                bytes,
            } => {
                let write = log.begin(file, offset, bytes);
                log.from.insert(buffer, write);
            }
            _ => {}
        }
        Ok(())
    }

    fn behind(&self, call: Call<'_>) {
        let mut log = self.0.lock().unwrap();
        let event = match call {
            Call::Create { name, bytes, file } => Event::Made(name.to_owned(), bytes, file),
            Call::Rename { from, to } => Event::Renamed(from.to_owned(), to.to_owned()),
            Call::Remove { name } => Event::Removed(name.to_owned()),
            Call::SyncDirectory => Event::NamesSynced,
            Call::Write { .. } => Event::Completed(log.alone),
            Call::Complete { buffer } => Event::Completed(log.from[&buffer]),
            _ => return,
        };
        log.follow(&event);
        log.events.push(event);
    }
}

/// A world that follows a log.
#[derive(Default)]
struct Player {
    world: World,
    files: HashMap<u64, u64>,
    writes: HashMap<u64, u64>,
    sent: BTreeSet<u64>,
    about: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
}

impl Player {
    fn play(&mut self, event: &Event) {
        match event {
            Event::Made(name, bytes, file) => {
                let made = self.world.make(name, *bytes).expect("it is new");
                self.files.insert(*file, made);
            }
            Event::Renamed(from, to) => assert!(self.world.rename(from, to)),
            Event::Removed(name) => assert!(self.world.remove(name)),
            Event::NamesSynced => self.world.sync_names(),
            Event::Begun {
                write,
                file,
                offset,
                bytes,
            } => {
                let begun = self.world.begin(self.files[file], *offset, bytes);
                self.writes.insert(*write, begun);
            }
            Event::Completed(write) => self.world.complete(self.writes[write]),
            Event::Sent(number) => drop(self.sent.insert(*number)),
            Event::About(number) => drop(self.about.insert(*number)),
            Event::Deleted(number) => drop(self.deleted.insert(*number)),
        }
    }

    fn hold(&self, there: &BTreeSet<u64>) {
        let kept = self.sent.difference(&self.about);
        let lost = kept.clone().find(|it| !there.contains(it));
        assert_eq!(lost, None, "acknowledged and lost, of {}", kept.count());
        let back = self.deleted.intersection(there).next();
        assert_eq!(back, None, "deleted and back");
    }
}

/// A place for a bus and its journals.
struct Machine {
    memory: TempBus,
    disk: TempBus,
}

impl Machine {
    fn new() -> Self {
        Self {
            memory: TempBus::new().unwrap(),
            disk: TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        }
    }

    fn journal(&self) -> PathBuf {
        self.disk.path().join("ringway-bus/q")
    }

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.memory.path());
        let builder = builder.pre_touch(false).journal_root(self.disk.path());
        builder.open_or_create().unwrap()
    }

    /// Segments of 16 MiB would be four rings; the least is 4 MiB.
    fn queue(&self, bus: &Bus, grows: bool) -> Queue {
        let queue = bus.queue("q").durability(Durability::Durable);
        let queue = queue.slots(1024).stride(4096);
        let queue = match grows {
            true => queue.max_bytes(32 << 20),
            false => queue,
        };
        queue.open_or_create().unwrap()
    }

    fn restart(&self) {
        for entry in std::fs::read_dir(self.memory.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    /// Lays out what a disk holds.
    fn lay_out(&self, world: &World) {
        let _ = std::fs::remove_dir_all(self.journal());
        std::fs::create_dir_all(self.journal()).unwrap();
        for name in world.names.keys() {
            let bytes = world.bytes(name).expect("it is named");
            let file = File::create(self.journal().join(name)).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
            for (page, at) in bytes.chunks(4096).zip((0..).step_by(4096)) {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, at).unwrap();
                }
            }
        }
    }

    /// What the queue holds that is opened there; nothing where there is none.
    fn open(&self) -> BTreeSet<u64> {
        self.restart();
        let bus = self.bus();
        let Ok(queue) = bus.queue("q").open() else {
            let names = Vec::from_iter(std::fs::read_dir(self.journal()).unwrap());
            let mut names = names.iter().map(|it| it.as_ref().unwrap().file_name());
            assert!(
                names.all(|name| !name.to_string_lossy().ends_with(".segment")),
                "a journal is refused: {}",
                bus.queue("q").open().map(drop).unwrap_err()
            );
            return BTreeSet::new();
        };
        let mut receiver = queue.receiver().unwrap();
        let mut there = BTreeSet::new();
        while queue.stats().visible > 0 {
            receive(&mut receiver, 64, |number, _| {
                assert!(there.insert(number), "{number} is there twice");
            });
        }
        there
    }
}

/// A run on a disk that is full when the first segment is half: what waits is deleted one by one, more of it than there
/// are pages, while the writer dies now and then.
fn record_on_a_full_disk(random: &mut Random) -> Vec<Event> {
    let machine = Machine::new();
    let recorder = Arc::new(Recorder::default());
    let _watching = watch(&machine.journal(), Arc::clone(&recorder) as _);
    let bus = machine.bus();
    let queue = bus.queue("q").durability(Durability::Durable);
    let queue = queue.slots(1024).stride(256).max_bytes(4 << 20);
    let queue = queue.open_or_create().unwrap();
    let words = bus.directory().join("objects/q");
    let words = OpenOptions::new().write(true).open(words).unwrap();
    recorder.fill_up();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut number = 0;
    loop {
        let most = 1 + random.below(8);
        let bodies = (number..number + most).map(|number| {
            let mut body = number.to_le_bytes().to_vec();
            body.resize(8 + random.below(150) as usize, 5);
            body
        });
        let bodies: Vec<_> = bodies.collect();
        match sender.send_batch(&bodies) {
            Ok(sent) => {
                for _ in 0..sent {
                    recorder.note(Event::Sent(number));
                    number += 1;
                }
            }
            Err(ringway::QueueSendError::NotOnDisk { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for deleted in 0..800 {
        receive(&mut receiver, 1, |number, receipt| {
            recorder.note(Event::About(number));
            assert!(queue.delete(&receipt).unwrap());
            recorder.note(Event::Deleted(number));
        });
        // One that is dropped is made anew before the next one dies.
        if deleted % 64 == 0 && random.percent(50) {
            words.write_all_at(&[0; 8], PERSISTER).unwrap();
        }
    }
    drop((sender, receiver, queue, bus));
    recorder.take()
}

fn receive(receiver: &mut QueueReceiver, most: usize, mut each: impl FnMut(u64, ringway::Receipt)) {
    for message in receiver.receive(most, Duration::ZERO, None).unwrap() {
        let number = u64::from_le_bytes(message.body[..8].try_into().unwrap());
        each(number, message.received.receipt);
    }
}

/// A run by two who send and one who deletes, in which the writer dies now and then; in one that `grows` the first
/// ring is full before anything is deleted.
fn record(random: &mut Random, grows: bool) -> Vec<Event> {
    let machine = Machine::new();
    let recorder = Arc::new(Recorder::default());
    let _watching = watch(&machine.journal(), Arc::clone(&recorder) as _);
    let bus = machine.bus();
    let queue = machine.queue(&bus, grows);
    let words = bus.directory().join("objects/q");
    let words = OpenOptions::new().write(true).open(words).unwrap();
    let shares = [0, 1].map(|share: u64| {
        let (queue, recorder) = (queue.clone(), Arc::clone(&recorder));
        let mut random = Random::new(random.next_u64());
        std::thread::spawn(move || {
            let mut sender = queue.sender().unwrap();
            let mut number = share;
            while number < MESSAGES {
                let most = 1 + random.below(8);
                let numbers = (number..MESSAGES).step_by(2).take(most as usize);
                let bodies = numbers.map(|number| {
                    let mut body = number.to_le_bytes().to_vec();
                    body.resize(8 + random.below(BODY as u64 - 8) as usize, share as u8);
                    body
                });
                let bodies: Vec<_> = bodies.collect();
                match sender.send_batch(&bodies) {
                    Ok(sent) => {
                        for _ in 0..sent {
                            recorder.note(Event::Sent(number));
                            number += 2;
                        }
                    }
                    Err(ringway::QueueSendError::Full { .. }) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let mut receiver = queue.receiver().unwrap();
    while grows && queue.stats().rings < 2 {
        std::thread::yield_now();
    }
    let mut done = 0;
    while done < MESSAGES * 3 / 4 {
        let (mut receipts, mut numbers) = (Vec::new(), Vec::new());
        receive(
            &mut receiver,
            1 + random.below(30) as usize,
            |number, receipt| {
                recorder.note(Event::About(number));
                numbers.push(number);
                receipts.push(receipt);
            },
        );
        assert!(receiver.delete_batch(&receipts).is_empty());
        numbers
            .iter()
            .for_each(|it| recorder.note(Event::Deleted(*it)));
        done += numbers.len() as u64;
        if random.percent(2) {
            words.write_all_at(&[0; 8], PERSISTER).unwrap();
        }
    }
    for share in shares {
        share.join().unwrap();
    }
    drop((receiver, queue, bus));
    recorder.take()
}

/// Opens what a world holds, once more, and where the power goes in the middle of that.
fn check(machine: &Machine, image: World, player: &Player, random: &mut Random) -> u64 {
    machine.lay_out(&image);
    if !random.percent(25) {
        player.hold(&machine.open());
        return 1;
    }
    // By inode, before the opening gives them other names.
    let mut files = HashMap::new();
    for (name, number) in &image.names {
        let laid_out = std::fs::metadata(machine.journal().join(name)).unwrap();
        files.insert(std::os::unix::fs::MetadataExt::ino(&laid_out), *number);
    }
    let recorder = Arc::new(Recorder::default());
    let there = {
        let _watching = watch(&machine.journal(), Arc::clone(&recorder) as _);
        machine.open()
    };
    player.hold(&there);
    assert_eq!(machine.open(), there, "opened twice is not opened once");
    let opening = recorder.take();
    let mut again = Player {
        world: image,
        files,
        ..Player::default()
    };
    for event in &opening[..random.below(opening.len() as u64 + 1) as usize] {
        again.play(event);
    }
    machine.lay_out(&again.world.crash(random));
    let after = machine.open();
    assert_eq!(after, there, "the power went in the middle of an opening");
    3
}

#[test]
fn what_the_power_leaves_of_a_real_queue_is_what_was_acknowledged() {
    let wanted = effort::executions(QUICK, FULL);
    let mut random = Random::new(seed::announce("what_the_power_leaves_of_a_real_queue"));
    let machine = Machine::new();
    let (mut images, mut flushes, mut runs, mut grown, mut full) = (0, 0, 0, 0, 0);
    while images < wanted || runs < 3 {
        let (grows, is_full) = (runs % 3 == 0, runs % 3 == 1);
        let events = match is_full {
            true => record_on_a_full_disk(&mut random),
            false => record(&mut random, grows),
        };
        runs += 1;
        grown += u64::from(grows);
        full += u64::from(is_full);
        let is_flush = |event: &Event| matches!(event, Event::Completed(_) | Event::NamesSynced);
        let count = events.iter().filter(|event| is_flush(event)).count() as u64;
        let mut player = Player::default();
        for event in &events {
            // In front of a flush everything is under way that it would complete.
            if is_flush(event) {
                flushes += 1;
                if random.below(count) < wanted.div_ceil(3) {
                    let image = player.world.crash(&mut random);
                    images += check(&machine, image, &player, &mut random);
                }
            }
            player.play(event);
        }
        let image = player.world.crash(&mut random);
        images += check(&machine, image, &player, &mut random);
    }
    assert!(flushes > 0);
    effort::report(
        "R5 queues",
        images,
        0,
        &[
            ("runs", runs),
            ("runs_with_growth", grown),
            ("runs_on_a_full_disk", full),
            ("flushes", flushes),
            ("images_of_real_runs", images),
            ("lost", 0),
        ],
    );
}
