//! Durable queues on a disk that is full: what it holds is enough to go on with, and where it is not, deletes are
//! let through, however many, sends are refused, and both go on when there is room.
//!
//! The disk is a real one; that it is full is what it says when a file is to be made and as much is used as was then.

use ringway::journal::{Call, Watch, watch};
use ringway::{Bus, Durability, Queue, QueueReceiver, QueueSendError, QueueSender};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-durable-disk-{}-{what}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        let builder = builder.journal_root(self.root.join("disk"));
        builder.open_or_create().unwrap()
    }

    fn journal(&self) -> PathBuf {
        self.root.join("disk/ringway-bus/q")
    }

    fn segments(&self) -> usize {
        let entries = std::fs::read_dir(self.journal()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".segment"))
            .count()
    }

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

/// Says that there is no room for more than there was when it became full.
#[derive(Default)]
struct Full(Mutex<Room>);

#[derive(Default)]
struct Room {
    files: HashMap<String, u64>,
    most_bytes: Option<u64>,
}

impl Full {
    fn is(&self, full: bool) {
        let mut room = self.0.lock().unwrap();
        let used = room.files.values().sum();
        room.most_bytes = full.then_some(used);
    }
}

impl Watch for Full {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        let room = self.0.lock().unwrap();
        let used: u64 = room.files.values().sum();
        match (call, room.most_bytes) {
            (Call::Create { bytes, .. }, Some(most)) if used + bytes > most => {
                Err(io::Error::from_raw_os_error(28))
            }
            _ => Ok(()),
        }
    }

    fn behind(&self, call: Call<'_>) {
        let files = &mut self.0.lock().unwrap().files;
        match call {
            Call::Create { name, bytes, .. } => drop(files.insert(name.to_owned(), bytes)),
            Call::Rename { from, to } => {
                let bytes = files.remove(from).unwrap_or_default();
                files.insert(to.to_owned(), bytes);
            }
            Call::Remove { name } => drop(files.remove(name)),
            _ => {}
        }
    }
}

const BODY: usize = 900;

/// Segments of 4 MiB, which are about four rings.
fn create(bus: &Bus) -> Queue {
    let queue = bus.queue("q").durability(Durability::Durable);
    queue.slots(1024).stride(1024).create().unwrap()
}

fn send(sender: &mut QueueSender, numbers: core::ops::Range<u64>) -> Result<(), QueueSendError> {
    let bodies: Vec<_> = numbers
        .map(|number| {
            let mut body = [7; BODY];
            body[..8].copy_from_slice(&number.to_le_bytes());
            body
        })
        .collect();
    assert_eq!(sender.send_batch(&bodies)?, bodies.len());
    Ok(())
}

/// Receives and deletes as many, one by one, or all at once; their numbers.
fn delete(receiver: &mut QueueReceiver, count: usize, one_by_one: bool) -> Vec<u64> {
    let (mut numbers, mut receipts) = (Vec::new(), Vec::new());
    let mut buffer = [0; BODY];
    while numbers.len() < count {
        let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
        numbers.push(u64::from_le_bytes(buffer[..8].try_into().unwrap()));
        match one_by_one {
            true => assert!(receiver.delete(&received.receipt).unwrap()),
            false => receipts.push(received.receipt),
        }
    }
    let failed = receiver.delete_batch(&receipts);
    assert!(failed.is_empty(), "{failed:?}");
    numbers
}

fn is_left(machine: &Machine, expected: core::ops::Range<u64>) {
    machine.restart();
    let queue = machine.bus().queue("q").open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    let mut left = Vec::new();
    while let Some(message) = receiver
        .receive(1, Duration::from_millis(50), None)
        .unwrap()
        .pop()
    {
        left.push(u64::from_le_bytes(message.body[..8].try_into().unwrap()));
    }
    left.sort_unstable();
    assert_eq!(left, Vec::from_iter(expected));
}

#[test]
fn a_queue_goes_on_for_ever_in_what_it_has_of_a_disk_that_is_full() {
    let machine = Machine::new("for-ever");
    let full = Arc::new(Full::default());
    let _watching = watch(&machine.journal(), Arc::clone(&full) as _);
    let bus = machine.bus();
    let queue = create(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let (mut sent, mut deleted) = (0, 0);
    // Two in all: a third one may be given back before anybody counts it.
    while machine.segments() < 2 {
        send(&mut sender, sent..sent + 100).unwrap();
        delete(&mut receiver, 100, false);
        (sent, deleted) = (sent + 100, deleted + 100);
    }
    // From here on seven rounds of the ring, of which most is always there.
    full.is(true);
    send(&mut sender, sent..sent + 800).unwrap();
    sent += 800;
    for _ in 0..70 {
        delete(&mut receiver, 100, false);
        send(&mut sender, sent..sent + 100).unwrap();
        (sent, deleted) = (sent + 100, deleted + 100);
    }
    assert!(machine.segments() <= 3);
    drop((sender, receiver, queue, bus));
    full.is(false);
    is_left(&machine, deleted..sent);
}

#[test]
fn where_nothing_can_be_given_back_deletes_go_on_and_sends_when_there_is_room() {
    let machine = Machine::new("refused");
    let full = Arc::new(Full::default());
    let _watching = watch(&machine.journal(), Arc::clone(&full) as _);
    let bus = machine.bus();
    let queue = create(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    // In its first segment, before the next is made.
    full.is(true);
    let mut sent = 0;
    let refused = loop {
        match send(&mut sender, sent..sent + 1) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000, "there is room for all of them");
        if sent.is_multiple_of(4) {
            delete(&mut receiver, 3, false);
        }
    };
    let QueueSendError::NotOnDisk { why } = refused else {
        panic!("told as {refused}");
    };
    assert!(why.contains("bytes needed"), "{why}");
    // What was acknowledged is received and deleted, one by one.
    let deleted = sent / 4 * 3;
    delete(&mut receiver, (sent - deleted) as usize, true);
    assert!(matches!(
        send(&mut sender, sent..sent + 1),
        Err(QueueSendError::NotOnDisk { .. })
    ));
    full.is(false);
    send(&mut sender, sent..sent + 500).unwrap();
    drop((sender, receiver, queue, bus));
    is_left(&machine, sent..sent + 500);
}

/// A backlog of three segments, in four rings.
fn back_up(machine: &Machine, full: &Full) -> (Bus, Queue, u64) {
    let bus = machine.bus();
    let queue = bus.queue("q").durability(Durability::Durable);
    let queue = queue.visibility(Duration::from_secs(3600));
    let queue = queue.slots(1024).stride(1024).max_bytes(32 << 20);
    let queue = queue.create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut sent = 0;
    while machine.segments() < 3 {
        send(&mut sender, sent..sent + 100).unwrap();
        sent += 100;
    }
    full.is(true);
    let refused = loop {
        match send(&mut sender, sent..sent + 100) {
            Ok(()) => sent += 100,
            Err(error) => break error,
        }
        assert!(sent < 20_000, "there is room for all of them");
    };
    assert!(
        matches!(refused, QueueSendError::NotOnDisk { .. }),
        "{refused}"
    );
    (bus, queue, sent)
}

#[test]
fn a_backlog_of_many_segments_is_deleted_one_by_one_on_a_full_disk_and_nothing_comes_back() {
    let machine = Machine::new("one-by-one");
    let full = Arc::new(Full::default());
    let _watching = watch(&machine.journal(), Arc::clone(&full) as _);
    let (bus, queue, sent) = back_up(&machine, &full);
    let mut receiver = queue.receiver().unwrap();
    // Each takes a page: of the current segment 512 were left.
    let mut deleted = delete(&mut receiver, 530, true);
    // Past the end of a ring, which is told once, and of what tells it.
    deleted.extend(delete(&mut receiver, 2_900, false));
    deleted.extend(delete(&mut receiver, 70, true));
    let mut sender = queue.sender().unwrap();
    assert!(matches!(
        send(&mut sender, sent..sent + 1),
        Err(QueueSendError::NotOnDisk { .. })
    ));
    drop((sender, receiver, queue, bus));

    // Made again while the disk is full.
    machine.restart();
    let bus = machine.bus();
    let queue = bus.queue("q").open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    deleted.extend(delete(&mut receiver, 70, true));
    drop((receiver, queue, bus));
    machine.restart();
    let bus = machine.bus();
    let queue = bus.queue("q").open().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    deleted.extend(delete(&mut receiver, 70, true));

    full.is(false);
    send(&mut sender, sent..sent + 500).unwrap();
    drop((sender, receiver, queue, bus));
    deleted.sort_unstable();
    let count = deleted.len() as u64;
    assert_eq!(deleted, Vec::from_iter(0..count));
    is_left(&machine, count..sent + 500);
}

#[test]
fn what_is_left_of_a_backlog_makes_room_for_sends_when_it_fits_into_what_is_kept_for_a_full_disk() {
    let machine = Machine::new("short");
    let full = Arc::new(Full::default());
    let _watching = watch(&machine.journal(), Arc::clone(&full) as _);
    let (bus, queue, sent) = back_up(&machine, &full);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    // The first stays to the last.
    let mut buffer = [0; BODY];
    let first = receiver.try_receive(&mut buffer).unwrap().unwrap();
    delete(&mut receiver, 470, true);
    let mut deleted = 470;
    while deleted < sent - 20 {
        let count = 500.min(sent - 20 - deleted);
        delete(&mut receiver, count as usize, false);
        deleted += count;
    }
    send(&mut sender, sent..sent + 300).unwrap();
    assert!(machine.segments() <= 3);
    assert!(receiver.delete(&first.receipt).unwrap());
    drop((sender, receiver, queue, bus));
    is_left(&machine, deleted + 1..sent + 300);
}
