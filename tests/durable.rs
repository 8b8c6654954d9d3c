//! Durable queues: what was acknowledged is there again when the memory of the bus is gone.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus;
//! the journals lie elsewhere and stay.

use ringway::{
    Bus, Deduplication, Durability, OpenError, Outgoing, Queue, QueueBuilder, QueueSendError,
    SetError, Settings,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A place for a bus, and one for its journals.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringway-durable-{}-{number}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        builder.journal_root(self.disk()).open_or_create().unwrap()
    }

    fn disk(&self) -> PathBuf {
        self.root.join("disk")
    }

    fn journal(&self, queue: &str) -> PathBuf {
        self.disk().join("ringway-bus").join(queue)
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

fn small(bus: &Bus, name: &str) -> QueueBuilder {
    bus.queue(name).durability(Durability::Durable).slots(1024)
}

/// Everything that can be received now, by position, with its receive count.
fn drain(queue: &Queue) -> BTreeMap<u64, (Vec<u8>, u16)> {
    let mut receiver = queue.receiver().unwrap();
    let mut found = BTreeMap::new();
    loop {
        let messages = receiver
            .receive(64, Duration::from_millis(200), None)
            .unwrap();
        if messages.is_empty() {
            return found;
        }
        for message in messages {
            let body = message.body.clone();
            let known = found.insert(
                message.received.position(),
                (body, message.received.receives()),
            );
            assert_eq!(known, None, "received twice");
        }
    }
}

#[test]
fn what_was_sent_and_not_deleted_is_there_behind_a_restart() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = small(&bus, "orders").create().unwrap();
    let mut sender = queue.sender().unwrap();
    let bodies: Vec<_> = (0..100).map(|i| format!("order {i}")).collect();
    for body in &bodies {
        sender.send(body.as_bytes()).unwrap();
    }
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 64];
    let mut deleted = Vec::new();
    for _ in 0..30 {
        let message = receiver.try_receive(&mut buffer).unwrap().unwrap();
        assert!(receiver.delete(&message.receipt).unwrap());
        deleted.push(message.position());
    }
    let id = queue.id();
    drop((sender, receiver, queue, bus));
    machine.restart();

    let bus = machine.bus();
    let queue = bus.queue("orders").open().unwrap();
    assert_eq!(queue.id(), id);
    assert_eq!(queue.definition().durability, Durability::Durable);
    let found = drain(&queue);
    let expected: BTreeMap<u64, Vec<u8>> = bodies
        .iter()
        .zip(0..)
        .filter(|(_, position)| !deleted.contains(position))
        .map(|(body, position)| (position, body.clone().into_bytes()))
        .collect();
    let bodies: BTreeMap<_, _> = found
        .iter()
        .map(|(p, (body, _))| (*p, body.clone()))
        .collect();
    assert_eq!(bodies, expected);
}

#[test]
fn order_ids_and_receive_counts_of_a_fifo_queue_are_kept() {
    let machine = Machine::new();
    let bus = machine.bus();
    let fifo = |bus: &Bus| {
        let rules = Deduplication::default();
        small(bus, "orders.fifo").fifo().deduplicate(rules)
    };
    let queue = fifo(&bus).create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut send = |number: u32| {
        let (group, id) = (format!("g{}", number % 3), format!("id-{number}"));
        let body = number.to_le_bytes();
        let message = Outgoing::new(&body).group(&group).dedup_id(&id);
        sender.send_message(&message).unwrap()
    };
    for number in 0..60 {
        assert!(!send(number).duplicate);
    }
    assert!(send(17).duplicate);
    let visible_at_once = Some(Duration::ZERO);
    let mut receiver = queue.receiver().unwrap();
    // Nine are consumed; some of the others are received once or twice, and stay.
    let mut consumed = 0;
    while consumed < 9 {
        let batch = receiver.receive(3, Duration::ZERO, None).unwrap();
        for message in &batch {
            consumed += u32::from(receiver.delete(&message.received.receipt).unwrap());
        }
    }
    let mut counts = BTreeMap::new();
    for _ in 0..2 {
        for message in receiver
            .receive(3, Duration::ZERO, visible_at_once)
            .unwrap()
        {
            let number = u32::from_le_bytes(message.body[..].try_into().unwrap());
            counts.insert(number, message.received.receives());
        }
    }
    assert!(counts.values().any(|receives| *receives == 2), "{counts:?}");
    let visibility = Duration::from_secs(77);
    queue.set(&Settings::new().visibility(visibility)).unwrap();
    // What is not waited for is written with the next that is.
    send(60);
    drop((receiver, sender, queue, bus));
    machine.restart();

    let bus = machine.bus();
    let queue = fifo(&bus).open_or_create().unwrap();
    assert_eq!(queue.settings().visibility, visibility);
    let mut sender = queue.sender().unwrap();
    let message = Outgoing::new(b"again").group("g2").dedup_id("id-59");
    assert!(sender.send_message(&message).unwrap().duplicate);
    let found = drain_in_order(&queue);
    assert_eq!(found.len(), 61 - 9);
    let mut last = [0; 3];
    for (number, receives) in &found {
        let group = (number % 3) as usize;
        assert!(last[group] <= *number, "{found:?}");
        last[group] = *number;
        // One more than before, or as many: the journal may not know of the last one.
        let before = counts.get(number).copied().unwrap_or(0);
        assert!(
            (before.max(1)..=before + 1).contains(receives),
            "{number}: {receives}"
        );
    }
    let message = Outgoing::new(b"new").group("g2").dedup_id("id-61");
    assert!(!sender.send_message(&message).unwrap().duplicate);
}

/// Receives and deletes everything there is; numbers and receive counts.
fn drain_in_order(queue: &Queue) -> Vec<(u32, u16)> {
    let mut receiver = queue.receiver().unwrap();
    let mut found = Vec::new();
    loop {
        let batch = receiver
            .receive(10, Duration::from_millis(200), None)
            .unwrap();
        if batch.is_empty() {
            return found;
        }
        for message in batch {
            let number = u32::from_le_bytes(message.body[..].try_into().unwrap());
            found.push((number, message.received.receives()));
            assert!(receiver.delete(&message.received.receipt).unwrap());
        }
    }
}

#[test]
fn a_restart_behind_a_restart_loses_nothing_and_gives_no_position_out_twice() {
    let machine = Machine::new();
    let mut sent = BTreeMap::new();
    for round in 0..4u64 {
        let bus = machine.bus();
        let queue = small(&bus, "q").open_or_create().unwrap();
        let mut sender = queue.sender().unwrap();
        for number in 0..50 {
            let body = format!("{round} {number}");
            let position = sender.send(body.as_bytes()).unwrap();
            let twice = sent.insert(position, body.into_bytes());
            assert_eq!(twice, None, "position {position} was given out twice");
        }
        drop((sender, queue, bus));
        machine.restart();
        // Opened and left alone, it is the same the next time.
        let bus = machine.bus();
        drop(bus.queue("q").open().unwrap());
        drop(bus);
        machine.restart();
    }
    let bus = machine.bus();
    let found = drain(&bus.queue("q").open().unwrap());
    let found: BTreeMap<_, _> = found.into_iter().map(|(p, (body, _))| (p, body)).collect();
    assert_eq!(found, sent);
}

#[test]
fn a_queue_that_is_removed_does_not_come_back() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = small(&bus, "q").create().unwrap();
    queue.sender().unwrap().send(b"gone").unwrap();
    let exists = matches!(
        small(&bus, "q").create(),
        Err(OpenError::AlreadyExists { .. })
    );
    assert!(exists);
    bus.remove("q").unwrap();
    assert!(!machine.journal("q").exists());
    assert!(matches!(
        bus.queue("q").open(),
        Err(OpenError::NotFound { .. })
    ));
    // One that nobody has opened since the restart is removed by its journal.
    small(&bus, "q")
        .create()
        .unwrap()
        .sender()
        .unwrap()
        .send(b"gone")
        .unwrap();
    drop((queue, bus));
    machine.restart();
    let bus = machine.bus();
    let exists = matches!(
        small(&bus, "q").create(),
        Err(OpenError::AlreadyExists { .. })
    );
    assert!(exists);
    bus.remove("q").unwrap();
    assert!(matches!(bus.remove("q"), Err(OpenError::NotFound { .. })));
    let queue = small(&bus, "q").create().unwrap();
    assert_eq!(drain(&queue).len(), 0);
}

#[test]
fn many_threads_share_the_waits_for_the_disk_and_every_message_is_there() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = small(&bus, "q").slots(4096).create().unwrap();
    let each = 300;
    let threads: Vec<_> = (0..6u32)
        .map(|thread| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let mut sender = queue.sender().unwrap();
                for number in 0..each {
                    sender
                        .send(format!("{thread} {number}").as_bytes())
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    drop((queue, bus));
    machine.restart();
    let bus = machine.bus();
    let found = drain(&bus.queue("q").open().unwrap());
    let bodies: std::collections::BTreeSet<_> = found.into_values().map(|(body, _)| body).collect();
    assert_eq!(bodies.len(), 6 * each as usize);
}

#[test]
fn many_rounds_of_a_ring_keep_the_journal_small_though_one_message_stays() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = small(&bus, "q").create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut receiver = queue.receiver().unwrap();
    sender.send(b"stays").unwrap();
    let kept = receiver
        .receive(1, Duration::ZERO, Some(Duration::from_secs(43_200)))
        .unwrap();
    let bodies = vec![[7u8; 200]; 512];
    let mut written = 0;
    // Segments have 4 MiB: as many messages as would fill twenty.
    while written < 80 << 20 {
        assert_eq!(sender.send_batch(&bodies).unwrap(), bodies.len());
        written += bodies.len() * 264;
        let mut receipts = Vec::new();
        while receipts.len() < bodies.len() {
            receiver
                .receive_each(64, |received, _| receipts.push(received.receipt))
                .unwrap();
        }
        assert!(receiver.delete_batch(&receipts).is_empty());
    }
    let segments = std::fs::read_dir(machine.journal("q"))
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".segment")
        })
        .count();
    assert!((2..=10).contains(&segments), "{segments} segments");
    drop((kept, receiver, sender, queue, bus));
    machine.restart();
    let read = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&read);
    let builder = Bus::builder("bus").root(machine.root.join("memory"));
    let builder = builder.on_recovery(move |far| {
        assert!(far.read_bytes <= far.total_bytes && !far.is_elsewhere);
        told.store(far.read_bytes, Ordering::Relaxed);
    });
    let bus = builder
        .journal_root(machine.disk())
        .open_or_create()
        .unwrap();
    let found = drain(&bus.queue("q").open().unwrap());
    let (read, retained) = (read.load(Ordering::Relaxed), segments as u64 * (4 << 20));
    println!("{{\"written_bytes\":{written},\"retained_bytes\":{retained},\"read_bytes\":{read}}}");
    assert!(0 < read && read <= retained, "{read} of {retained}");
    let bodies: Vec<_> = found.values().map(|(body, _)| body.clone()).collect();
    assert_eq!(bodies, [b"stays".to_vec()]);
}

#[test]
fn a_journal_in_memory_is_refused() {
    let machine = Machine::new();
    let memory = Path::new("/dev/shm/ringway-no-journal");
    let builder = Bus::builder("bus").root(machine.root.join("memory"));
    let bus = builder.journal_root(memory).open_or_create().unwrap();
    let refused = small(&bus, "q").create().map(drop).unwrap_err();
    assert!(refused.to_string().contains("lies in memory"), "{refused}");
    assert!(!memory.exists());
}

#[test]
fn what_a_durable_queue_can_not_do_is_refused_and_named() {
    let machine = Machine::new();
    let bus = machine.bus();
    let refused = small(&bus, "q").max_message_bytes((16 << 20) + 1).create();
    assert!(matches!(
        refused,
        Err(OpenError::InvalidOption {
            option: "max_message_bytes",
            ..
        })
    ));
    let queue = small(&bus, "q").create().unwrap();
    let refused = queue.set(&Settings::new().max_message_bytes((16 << 20) + 1));
    assert!(matches!(
        refused,
        Err(SetError::InvalidSetting {
            setting: "max_message_bytes",
            ..
        })
    ));
    let mut sender = queue.sender().unwrap();
    let too_large = sender.send(&[1; 262_145]);
    assert!(matches!(
        too_large,
        Err(QueueSendError::MessageTooLarge { max: 262_144, .. })
    ));
}

#[test]
fn another_journal_root_is_refused_and_a_stranger_s_file_survives_a_removal() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = small(&bus, "q").create().unwrap();
    let stranger = machine.journal("q").join("stranger");
    std::fs::write(&stranger, "mine").unwrap();
    let elsewhere = machine.root.join("elsewhere");
    let builder = Bus::builder("bus").root(machine.root.join("memory"));
    let other = builder.journal_root(&elsewhere).open().unwrap();
    let refused = |result: Result<(), OpenError>| {
        let is_named = matches!(
            result,
            Err(OpenError::Mismatch {
                option: "journal_root",
                ..
            })
        );
        assert!(is_named, "{result:?}");
    };
    refused(other.queue("q").open().map(drop));
    refused(other.remove("q"));
    assert!(!elsewhere.exists());
    queue.sender().unwrap().send(b"goes on").unwrap();
    bus.remove("q").unwrap();
    assert_eq!(std::fs::read(&stranger).unwrap(), b"mine");
    assert!(matches!(
        bus.queue("q").open(),
        Err(OpenError::NotFound { .. })
    ));
}

/// The words lie at these offsets of the queue file (docs/format.md).
#[test]
fn a_peer_that_writes_over_the_words_of_the_journal_hangs_nobody() {
    use std::os::unix::fs::FileExt;
    for (offset, value) in [
        (7168, u64::MAX),
        (7168, 0),
        (7168, 77 << 44),
        (7296, u64::MAX),
        (7296, 2 << 62 | 900 << 52),
        (7304, u64::MAX),
        (7304, 0),
        (7424, u64::MAX),
        (7432, u64::MAX),
        (7680, u64::MAX),
        (7688, 1),
    ] {
        let machine = Machine::new();
        let bus = machine.bus();
        let queue = small(&bus, "q").create().unwrap();
        let mut sender = queue.sender().unwrap();
        for _ in 0..3000 / 512 {
            sender.send_batch(&[[1; 8]; 512]).unwrap();
            let _ = queue.purge();
        }
        let path = bus.directory().join("objects/q");
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&value.to_le_bytes(), offset).unwrap();
        // Sent or refused: both will do.
        for _ in 0..3 {
            let _ = sender.send(b"x");
            let _ = queue.purge();
        }
    }
}
