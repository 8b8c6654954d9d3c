//! Durable queues on a disk that is full: what it holds is enough to go on with, and where it is not, deletes are
//! let through, sends are refused, and both go on when there is room.
//!
//! The disk is a real one; that it is full is what it says whenever a file is to be made.

use ringway::journal::{Call, Watch, watch};
use ringway::{Bus, Durability, Queue, QueueReceiver, QueueSendError, QueueSender};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Says that there is no room for another file.
#[derive(Default)]
struct Full(AtomicBool);

impl Full {
    fn is(&self, full: bool) {
        self.0.store(full, Ordering::Relaxed);
    }
}

impl Watch for Full {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        match call {
            Call::Create { .. } if self.0.load(Ordering::Relaxed) => {
                Err(io::Error::from_raw_os_error(28))
            }
            _ => Ok(()),
        }
    }

    fn behind(&self, _call: Call<'_>) {}
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
    while machine.segments() < 3 {
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
