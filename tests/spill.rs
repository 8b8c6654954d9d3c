//! Queues whose further rings lie on a disk: what waits takes no memory, and nothing stays behind.

use ringway::{Bus, OpenError, Queue, QueueBuilder, QueueSendError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A place in memory for a bus, and one on a disk.
struct Machine {
    memory: ringway_harness::TempBus,
    disk: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-spill-{}-{what}", std::process::id());
        let disk = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&disk).unwrap();
        let memory = ringway_harness::TempBus::new().expect("a root under /dev/shm");
        Self { memory, disk }
    }

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.memory.path());
        let builder = builder.journal_root(&self.disk).pool_bytes(8 << 20);
        builder.open_or_create().unwrap()
    }

    /// The files on the disk.
    fn spilled(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![self.disk.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => directories.push(path),
                    false => files.push(path),
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.disk);
    }
}

fn small(bus: &Bus, name: &str) -> QueueBuilder {
    let queue = bus.queue(name).slots(1024).stride(64);
    queue.max_bytes(64 << 20).spill(true)
}

fn send(queue: &Queue, numbers: std::ops::Range<u64>) {
    let bodies: Vec<_> = numbers.map(u64::to_le_bytes).collect();
    let mut sender = queue.sender().unwrap();
    assert_eq!(sender.send_batch(&bodies).unwrap(), bodies.len());
}

/// Receives and deletes so many or a few more, which come in their order; the one behind the last.
fn drain(queue: &Queue, numbers: std::ops::Range<u64>) -> u64 {
    let mut receiver = queue.receiver().unwrap();
    let mut next = numbers.start;
    while next < numbers.end {
        let mut receipts = Vec::new();
        receiver
            .receive_each(256, |received, body| {
                assert_eq!(body, next.to_le_bytes());
                next += 1;
                receipts.push(received.receipt);
            })
            .unwrap();
        assert!(!receipts.is_empty(), "{next} did not come");
        assert!(receiver.delete_batch(&receipts).is_empty());
    }
    next
}

/// Resident bytes of mappings of further rings, by file.
fn resident() -> Vec<(String, u64)> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut resident: Vec<(String, u64)> = Vec::new();
    let mut file = None;
    for line in smaps.lines() {
        if let Some(at) = line.find(".grown-") {
            file = Some(line[at..].to_owned());
        } else if line.contains('-') && line.contains(" r") {
            file = None;
        }
        if let (Some(file), Some(kib)) = (&file, line.strip_prefix("Rss:")) {
            let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
            match resident.iter_mut().find(|(known, _)| known == file) {
                Some((_, bytes)) => *bytes += kib << 10,
                None => resident.push((file.clone(), kib << 10)),
            }
        }
    }
    resident
}

#[test]
fn a_backlog_lies_on_the_disk_and_comes_back_in_its_order() {
    const MESSAGES: u64 = 400_000;
    let machine = Machine::new("backlog");
    let bus = machine.bus();
    let queue = small(&bus, "q").create().unwrap();
    assert!(queue.definition().spill);
    send(&queue, 0..MESSAGES);
    let mut rings = machine.spilled();
    // And perhaps the next one, which is being made.
    rings.retain(|path| path.to_string_lossy().contains(".grown-"));
    assert!(rings.len() > 5, "{rings:?}");
    let on_disk: u64 = rings.iter().map(|it| it.metadata().unwrap().len()).sum();
    assert!(on_disk > MESSAGES * 64 / 2, "{on_disk}");
    let object = &bus.objects().unwrap()[0];
    assert!(object.bytes > on_disk, "{object:?} of {on_disk}");

    // Of the rings that nobody writes and nobody reads next to nothing is in memory.
    let resident = resident();
    let rest: u64 = resident.iter().map(|(_, bytes)| bytes).sum();
    let most = resident.iter().map(|(_, bytes)| *bytes).max().unwrap();
    assert!(rest - most < on_disk / 10, "{resident:?} of {on_disk}");

    // Another process's view of it, by an attachment of its own.
    let other = machine.bus();
    let same = other.queue("q").open().unwrap();
    let next = drain(&same, 0..MESSAGES / 2);
    send(&queue, MESSAGES..MESSAGES + 10);
    drain(&queue, next..MESSAGES + 10);
    // Whoever looks for more gives the drained ones back, but for the last.
    let mut receiver = queue.receiver().unwrap();
    while machine.spilled().len() > 2 {
        assert_eq!(receiver.try_receive(&mut [0; 16]).unwrap(), None);
    }
}

#[test]
fn its_files_go_with_the_queue_and_with_the_bus() {
    let machine = Machine::new("removed");
    let bus = machine.bus();
    for name in ["a", "b"] {
        send(&small(&bus, name).create().unwrap(), 0..10_000);
    }
    let both = machine.spilled().len();
    bus.remove("a").unwrap();
    bus.reap().unwrap();
    let one = machine.spilled().len();
    assert!(0 < one && one < both, "{one} of {both}");
    let report = bus.doctor(false).unwrap();
    assert!(report.is_clean(), "{report:?}");
    bus.remove("b").unwrap();
    bus.reap().unwrap();
    assert_eq!(machine.spilled(), [""; 0].map(PathBuf::from));
}

#[test]
fn what_another_life_of_the_machine_left_is_swept_by_the_next_such_queue() {
    const BOOT_ID: u64 = 32;
    let machine = Machine::new("stale");
    let bus = machine.bus();
    let queue = small(&bus, "q").create().unwrap();
    send(&queue, 0..10_000);
    let ring = machine.spilled().pop().unwrap();
    let stale = machine.disk.join("ringway-bus/.spill-0123456789abcdef");
    std::fs::create_dir(&stale).unwrap();
    let copy = stale.join(ring.file_name().unwrap());
    std::fs::copy(&ring, &copy).unwrap();
    drop(small(&bus, "of-this-life").create().unwrap());
    assert!(
        copy.exists(),
        "one of this life of the machine is another bus's"
    );
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    file.write_all_at(&[7; 16], BOOT_ID).unwrap();
    drop(small(&bus, "next").create().unwrap());
    assert!(!stale.exists());
    drain(&queue, 0..10_000);
}

#[test]
fn its_quota_is_the_disk_s_and_is_told() {
    let machine = Machine::new("quota");
    let bus = machine.bus();
    let queue = small(&bus, "q").max_bytes(4 << 20).create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut sent = 0u64;
    let refused = loop {
        match sender.send(&sent.to_le_bytes()) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueSendError::Full { .. }), "{refused}");
    let bytes = machine.spilled();
    let bytes: u64 = bytes.iter().map(|it| it.metadata().unwrap().len()).sum();
    assert!((2 << 20..=4 << 20).contains(&bytes), "{bytes}");
    drain(&queue, 0..sent);
    sender.send(b"again").unwrap();
}

#[test]
fn a_message_that_is_delayed_far_behind_the_cursor_comes_when_it_is_due() {
    let machine = Machine::new("delayed");
    let bus = machine.bus();
    let queue = small(&bus, "q").create().unwrap();
    send(&queue, 0..20_000);
    let mut sender = queue.sender().unwrap();
    let delay = Duration::from_millis(5);
    sender.send_delayed(b"delayed", delay).unwrap();
    while queue.stats().delayed > 0 {
        std::thread::yield_now();
    }
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 16];
    loop {
        let wait = Duration::from_secs(5);
        let message = receiver.receive_into(&mut buffer, wait).unwrap().unwrap();
        if &buffer[..message.len] == b"delayed" {
            break;
        }
    }
    assert!(queue.stats().visible > 0, "it waited for all others");
}

#[test]
fn queues_that_do_not_grow_can_not_spill() {
    let machine = Machine::new("refused");
    let bus = machine.bus();
    let refused = small(&bus, "a").stride(128).fifo().create().map(drop);
    let is_named = matches!(
        refused,
        Err(OpenError::InvalidOption {
            option: "spill",
            ..
        })
    );
    assert!(is_named, "{refused:?}");
    let builder = Bus::builder("other").root(machine.memory.path());
    let bus = builder.journal_root("/dev/shm").create().unwrap();
    let refused = small(&bus, "c").create().map(drop).unwrap_err();
    assert!(refused.to_string().contains("lies in memory"), "{refused}");
}
