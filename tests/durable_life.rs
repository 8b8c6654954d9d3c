//! Durable queues through a long life: writers that die by the hundred, a bus that is removed, restarts, and what
//! of it is told to whom.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus; the death
//! of a writer by a word that says that its segment can't be written to any more.

use ringway::{
    Bus, Deduplication, Durability, ObjectKind, OpenError, Origin, Outgoing, QueueBuilder,
    QueueSendError, ReceiveError, SettleError,
};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// A place for a bus, and one for its journals.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-durable-life-{}-{what}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn builder(&self) -> ringway::Builder {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        builder.journal_root(self.root.join("disk"))
    }

    fn bus(&self) -> Bus {
        self.builder().open_or_create().unwrap()
    }

    fn journal(&self) -> PathBuf {
        self.root.join("disk/ringway-bus/q")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.journal()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|it| it == "segment"))
            .collect();
        segments.sort();
        segments
    }

    /// What was in memory is gone.
    fn restart(&self) {
        std::fs::remove_dir_all(self.root.join("memory")).unwrap();
        std::fs::create_dir(self.root.join("memory")).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Nobody takes so long.
const HANGING: Duration = Duration::from_secs(60);

/// Segments of 4 MiB.
fn small(bus: &Bus) -> QueueBuilder {
    bus.queue("q").durability(Durability::Durable).slots(1024)
}

/// Writes into the file of the queue at an offset of docs/format.md.
fn scribble(bus: &Bus, offset: u64, value: u64) {
    let path = bus.directory().join("objects/q");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&value.to_le_bytes(), offset).unwrap();
}

/// The word of the role of who writes: 0 says that the next one begins an epoch.
const PERSISTER: u64 = 7296;
/// Steps of whoever writes: without one he is displaced.
const STEPS: u64 = PERSISTER + 16;

#[test]
fn hundreds_of_writers_die_within_the_window_of_a_fifo_queue_and_it_takes_more() {
    // A list of earlier epochs once had 240 places; each death writes a segment of 4 MiB.
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    let deaths: u32 = if is_full { 260 } else { 30 };
    let machine = Machine::new("deaths");
    let rules = Deduplication {
        ids: 1024,
        ..Deduplication::default()
    };
    let bus = machine.bus();
    let queue = small(&bus).fifo().deduplicate(rules).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..deaths {
        let id = number.to_string();
        let message = Outgoing::new(b"x").group("g").dedup_id(&id);
        assert!(!sender.send_message(&message).unwrap().duplicate);
        if number % 2 == 0 {
            let mut buffer = [0; 8];
            let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
            assert!(receiver.delete(&received.receipt).unwrap());
        }
        scribble(&bus, PERSISTER, 0);
    }
    let segments = machine.segments().len();
    assert!(segments <= 12, "{segments} segments");
    drop((sender, receiver, queue, bus));
    machine.restart();

    let queue = machine.bus().queue("q").open().unwrap();
    assert_eq!(queue.stats().visible, u64::from(deaths / 2));
    let mut sender = queue.sender().unwrap();
    for number in 0..=deaths {
        let id = number.to_string();
        let message = Outgoing::new(b"x").group("g").dedup_id(&id);
        let sent = sender.send_message(&message).unwrap();
        assert_eq!(sent.duplicate, number < deaths, "{number}");
    }
}

/// Changes many bits of the last block that holds anything.
fn damage_the_last_block(segment: &Path) {
    let bytes = std::fs::read(segment).unwrap();
    let is_block = |at: &usize| {
        let used = u32::from_le_bytes(bytes[at + 44..at + 48].try_into().unwrap());
        bytes[*at..].starts_with(b"RWBK") && used > 104
    };
    let last = (8192..bytes.len()).step_by(4096).rfind(is_block);
    let at = last.unwrap() + 120;
    let changed: Vec<_> = bytes[at..at + 64].iter().map(|byte| byte ^ 0x5A).collect();
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&changed, at as u64).unwrap();
}

/// Damages what was acknowledged last, in a copy that another machine opens: as the power leaves it.
fn is_told(machine: &Machine, what: &str) {
    let other = Machine::new(what);
    std::fs::create_dir_all(other.journal()).unwrap();
    for entry in std::fs::read_dir(machine.journal()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, other.journal().join(path.file_name().unwrap())).unwrap();
    }
    damage_the_last_block(other.segments().last().unwrap());
    let refused = other.bus().queue("q").open().map(drop);
    let refused = refused.expect_err("what was acknowledged last is dropped in silence");
    assert!(refused.to_string().contains("damaged"), "{refused}");
}

#[test]
fn what_was_acknowledged_last_is_missed_when_it_is_damaged_once_the_queue_is_closed() {
    let machine = Machine::new("closed");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    queue.sender().unwrap().send(b"the last").unwrap();
    drop(queue);
    is_told(&machine, "closed-damaged");
}

#[test]
fn what_was_acknowledged_last_is_missed_when_it_is_damaged_once_somebody_waits() {
    let machine = Machine::new("waits");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    queue.sender().unwrap().send(b"the last").unwrap();
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 8];
    assert!(receiver.try_receive(&mut buffer).unwrap().is_some());
    let waited = receiver.receive_into(&mut buffer, Duration::from_secs(1));
    assert!(waited.unwrap().is_none());
    is_told(&machine, "waits-damaged");
}

#[test]
fn what_is_left_is_received_in_the_order_in_which_it_was_sent() {
    let machine = Machine::new("order");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 8];
    // What is left comes round the end of the ring.
    for number in 0..1_500_u64 {
        sender.send(&number.to_le_bytes()).unwrap();
        if number < 900 {
            let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
            assert!(receiver.delete(&received.receipt).unwrap());
        }
    }
    drop((sender, receiver, queue, bus));
    machine.restart();
    let queue = machine.bus().queue("q").open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    let mut numbers = Vec::new();
    while let Some(received) = receiver.try_receive(&mut buffer).unwrap() {
        assert!(receiver.delete(&received.receipt).unwrap());
        numbers.push(u64::from_le_bytes(buffer));
    }
    assert_eq!(numbers, Vec::from_iter(900..1_500));
}

#[test]
fn whoever_goes_on_in_a_bus_that_was_removed_is_told() {
    let machine = Machine::new("removed");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send_batch(&[b"x"; 100]).unwrap();
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
    machine.restart();
    // Somebody else makes the queue again from the same journal.
    let others = machine.bus();
    let again = others.queue("q").open().unwrap();
    assert_eq!(again.stats().visible, 100);
    // It finds messages all the time, and never has to wait.
    receiver.set_visibility(Duration::from_millis(1)).unwrap();
    let begun = Instant::now();
    let told = loop {
        match receiver.try_receive(&mut buffer) {
            Err(error) => break error,
            Ok(_) => assert!(begun.elapsed() < HANGING, "it goes on in what is gone"),
        }
    };
    assert!(matches!(told, ReceiveError::Unlinked), "{told}");
    let told = receiver.delete(&received.receipt).unwrap_err();
    assert!(
        matches!(told, SettleError::DurabilityUnknown { .. }),
        "{told}"
    );
    let told = sender.send(b"x").unwrap_err();
    assert!(
        matches!(
            told,
            QueueSendError::DurabilityUnknown { .. } | QueueSendError::NotOnDisk { .. }
        ),
        "{told}"
    );
    again.sender().unwrap().send(b"goes on").unwrap();
}

/// Boot id of a bus: 16 bytes from here.
const BOOT_ID: u64 = 32;

#[test]
fn a_bus_on_a_disk_keeps_its_durable_queues_behind_a_restart() {
    let machine = Machine::new("on-disk");
    let open = || {
        let builder = Bus::builder("bus").root(machine.root.join("disk"));
        builder.open_or_create().unwrap()
    };
    let bus = open();
    let queue = small(&bus).create().unwrap();
    queue.sender().unwrap().send(b"kept").unwrap();
    let file = bus.directory().join("bus");
    drop((queue, bus));
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[7; 16], BOOT_ID).unwrap();
    let bus = open();
    assert_eq!(bus.origin(), Origin::ReplacedAfterBoot);
    let queue = bus.queue("q").open().unwrap();
    assert_eq!(queue.stats().visible, 1);
}

fn queues(bus: &Bus) -> Vec<String> {
    let objects = bus.objects().unwrap().into_iter();
    let queues = objects.filter(|object| object.kind == ObjectKind::Queue && object.bytes > 0);
    queues.map(|queue| queue.name).collect()
}

#[test]
fn a_queue_that_nobody_has_opened_is_listed_and_goes_with_its_bus() {
    let machine = Machine::new("bus");
    let bus = machine.bus();
    for name in ["q", "other"] {
        let queue = bus.queue(name).durability(Durability::Durable).slots(1024);
        queue
            .create()
            .unwrap()
            .sender()
            .unwrap()
            .send(b"x")
            .unwrap();
    }
    drop(bus);
    machine.restart();
    let bus = machine.bus();
    assert_eq!(queues(&bus), ["other", "q"]);
    drop(bus.queue("q").open().unwrap());
    assert_eq!(queues(&bus), ["other", "q"]);
    drop(bus);
    // Another bus of that name, whose journals would lie at the same place, takes none of them along.
    let elsewhere = machine.root.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let other = || machine.builder().root(&elsewhere);
    drop(other().create().unwrap());
    other().remove(false).unwrap();
    assert!(machine.journal().exists());
    let elsewhere = machine.builder().journal_root(&elsewhere).remove(false);
    let is_named = matches!(
        elsewhere,
        Err(OpenError::Mismatch {
            option: "journal_root",
            ..
        })
    );
    assert!(is_named, "{elsewhere:?}");
    machine.builder().remove(false).unwrap();
    assert!(!machine.root.join("disk/ringway-bus").exists());
    // Behind a restart nothing but journals is left of it.
    small(&machine.bus()).create().unwrap();
    machine.restart();
    machine.builder().remove(false).unwrap();
    assert!(!machine.journal().exists());
    let removed = machine.builder().remove(false);
    assert!(
        matches!(removed, Err(OpenError::NotFound { .. })),
        "{removed:?}"
    );
}

#[test]
fn who_waits_for_another_opener_sees_how_far_that_is() {
    let machine = Machine::new("waits-for-another");
    let bus = machine.bus();
    small(&bus)
        .create()
        .unwrap()
        .sender()
        .unwrap()
        .send(b"there")
        .unwrap();
    drop(bus);
    machine.restart();
    let mut options = OpenOptions::new();
    let path = machine.journal().join("lock");
    let other = options.write(true).create(true).truncate(false).open(path);
    let other = other.unwrap();
    // SAFETY: plain data, of which all zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_len = 1;
    // SAFETY: an open descriptor, and a lock of this thread's.
    let locked = unsafe { libc::fcntl(other.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    assert_eq!(locked, 0);
    // As whoever reads it writes it down (docs/format.md).
    let is_at = |read: u64| {
        let words = [read.to_le_bytes(), 1_000_u64.to_le_bytes()];
        other.write_all_at(&words.concat(), 8).unwrap();
    };
    is_at(100);
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let builder = machine.builder().on_recovery(move |far| {
        let far = (far.read_bytes, far.total_bytes, far.is_elsewhere);
        told.lock().unwrap().send(far).unwrap();
    });
    let opener = std::thread::spawn(move || {
        let bus = builder.open_or_create().unwrap();
        bus.queue("q").open().unwrap().stats().visible
    });
    assert_eq!(heard.recv_timeout(HANGING).unwrap(), (100, 1_000, true));
    is_at(200);
    assert_eq!(heard.recv_timeout(HANGING).unwrap(), (200, 1_000, true));
    drop(other);
    // Then it does it by itself.
    let last = heard.iter().last().unwrap();
    assert!(last.0 == last.1 && !last.2, "{last:?}");
    assert_eq!(opener.join().unwrap(), 1);
}

/// The steps that a take-over of the writer tells of, in a queue of so many slots.
fn steps_of_a_take_over(slots: u64) -> u64 {
    let machine = Machine::new(&format!("steps-{slots}"));
    let bus = machine.bus();
    let queue = small(&bus).slots(slots).stride(64).create().unwrap();
    let mut sender = queue.sender().unwrap();
    sender.send(b"x").unwrap();
    let steps = || {
        let file = std::fs::File::open(bus.directory().join("objects/q")).unwrap();
        let mut word = [0; 8];
        file.read_exact_at(&mut word, STEPS).unwrap();
        u64::from_le_bytes(word) / 2 // the last bit says something else
    };
    scribble(&bus, PERSISTER, 0);
    let before = steps();
    sender.send(b"y").unwrap();
    steps() - before
}

#[test]
fn who_takes_the_journal_of_a_large_ring_over_shows_that_he_goes_on() {
    let (few, many) = (steps_of_a_take_over(1024), steps_of_a_take_over(1 << 17));
    // One more for each 1,024 of its 2,048 blocks.
    assert!(
        many >= few + 2,
        "{many} of a large ring, {few} of a small one"
    );
}
