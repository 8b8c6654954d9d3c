//! Levels of queues on disk: those whose sends do not wait, those that are received ahead of the disk, a
//! thread that writes for all, and a journal that may not grow further.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus.

use ringway::{
    Bus, Deduplication, Durability, FlushError, OpenError, Outgoing, Queue, QueueBuilder,
    QueueSendError, Redrive, SetError, Settings,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A place for a bus, and one for its journals.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-durable-levels-{}-{what}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        let builder = builder.journal_root(self.root.join("disk"));
        builder.pool_bytes(256 << 20).open_or_create().unwrap()
    }

    /// What was in memory is gone.
    fn restart(&self) {
        std::fs::remove_dir_all(self.root.join("memory")).unwrap();
        std::fs::create_dir(self.root.join("memory")).unwrap();
    }

    fn file(&self, queue: &str) -> File {
        let path = self.root.join("memory/ringway-bus/objects").join(queue);
        let mut options = File::options();
        options.read(true).write(true).open(path).unwrap()
    }

    /// What a process that lives and makes no step would leave: nobody writes for half a second.
    fn occupy_the_role(&self, queue: &str, by: &Bus) {
        const WRITING: u64 = 2;
        let role = WRITING << 62 | u64::from(by.me().0) << 52 | 1 << 40;
        let file = self.file(queue);
        file.write_all_at(&role.to_le_bytes(), PERSISTER).unwrap();
    }
}

/// Who writes the journal of a queue; 16 bytes behind it, his steps.
const PERSISTER: u64 = 7296;
/// A writer that has made no step for so long may be displaced.
const STANDS_STILL: Duration = Duration::from_millis(500);

/// Looks at a writer until `is_over`; for how long he may have stood still at most.
fn watch(queue: &File, is_over: &AtomicBool) -> Duration {
    let look = || {
        let mut words = [0; 24];
        let before = Instant::now();
        queue.read_exact_at(&mut words, PERSISTER).unwrap();
        (before, words)
    };
    let (mut last, mut seen) = look();
    // He came to stand there behind the last look that saw him elsewhere.
    let (mut since, mut longest) = (last, Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let (now, words) = look();
        longest = longest.max(since.elapsed());
        if words != seen {
            (since, seen) = (last, words);
        }
        last = now;
        std::thread::sleep(Duration::from_millis(1));
    }
    longest.max(since.elapsed())
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn asynchronous(bus: &Bus) -> QueueBuilder {
    bus.queue("q").durability(Durability::Async).slots(4096)
}

fn send(queue: &Queue, numbers: std::ops::Range<u32>) {
    let mut sender = queue.sender().unwrap();
    for number in numbers {
        sender.send(&number.to_le_bytes()).unwrap();
    }
}

/// The numbers of everything that can be received, which is deleted.
fn drain(queue: &Queue) -> Vec<u32> {
    let mut receiver = queue.receiver().unwrap();
    let mut numbers = Vec::new();
    loop {
        let wait = Duration::from_millis(200);
        let messages = receiver.receive(64, wait, None).unwrap();
        if messages.is_empty() {
            numbers.sort_unstable();
            return numbers;
        }
        for message in messages {
            numbers.push(u32::from_le_bytes(message.body[..].try_into().unwrap()));
            assert!(receiver.delete(&message.received.receipt).unwrap());
        }
    }
}

fn all(numbers: std::ops::Range<u32>) -> Vec<u32> {
    numbers.collect()
}

/// Copies the journals as they are, for another life of the machine.
fn copy_disk(from: &Machine, what: &str) -> Machine {
    let copy = Machine::new(what);
    let (from, to) = (from.root.join("disk"), copy.root.join("disk"));
    let status = std::process::Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from.join("ringway-bus"))
        .arg(&to)
        .status();
    assert!(status.unwrap().success());
    copy
}

#[test]
fn what_was_flushed_is_on_disk_and_what_was_sent_is_so_soon_by_itself() {
    let machine = Machine::new("behind");
    let bus = machine.bus();
    let queue = asynchronous(&bus).create().unwrap();
    assert_eq!(queue.definition().durability, Durability::Async);
    send(&queue, 0..500);
    queue.flush().unwrap();
    let image = copy_disk(&machine, "flushed");
    assert_eq!(drain(&image.bus().queue("q").open().unwrap()), all(0..500));

    // Nobody does anything any more, and it comes to the disk.
    send(&queue, 500..600);
    let position = queue.sender().unwrap().send(&600u32.to_le_bytes()).unwrap();
    while queue.durable_position() <= position {
        std::thread::yield_now();
    }
    let image = copy_disk(&machine, "written");
    assert_eq!(drain(&image.bus().queue("q").open().unwrap()), all(0..601));

    // So are deletes, and what is left when the queue is closed.
    assert_eq!(drain(&queue), all(0..601));
    send(&queue, 601..700);
    drop((queue, bus));
    machine.restart();
    let bus = machine.bus();
    let queue = bus.queue("q").open().unwrap();
    assert_eq!(drain(&queue), all(601..700));
}

#[test]
fn a_send_returns_and_is_received_while_nobody_can_write() {
    let machine = Machine::new("ahead");
    let (bus, idle) = (machine.bus(), machine.bus());
    let queue = asynchronous(&bus).create().unwrap();
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 64];
    let mut seen_ahead = false;
    while !seen_ahead {
        machine.occupy_the_role("q", &idle);
        let position = queue.sender().unwrap().send(b"ahead").unwrap();
        let message = receiver.try_receive(&mut buffer).unwrap();
        let message = message.expect("it is received at once");
        // Unless half a second has passed since.
        seen_ahead = queue.durable_position() <= position;
        assert!(receiver.delete(&message.receipt).unwrap());
    }
    assert!(queue.stats().unwritten > 0);
    queue.flush().unwrap();
    let stats = queue.stats();
    assert!(stats.durable_position > 0 && stats.flushes > 1, "{stats:?}");
    assert_eq!(stats.unwritten, 0);
}

#[test]
fn a_durable_queue_that_reads_ahead_is_received_before_its_send_returns() {
    let machine = Machine::new("reads");
    let (bus, idle) = (machine.bus(), machine.bus());
    let builder = bus.queue("q").durability(Durability::Durable).slots(1024);
    let queue = builder.read_ahead(true).create().unwrap();
    send(&queue, 0..1);
    assert_eq!(drain(&queue), all(0..1));
    machine.occupy_the_role("q", &idle);
    let sending = std::thread::spawn({
        let queue = queue.clone();
        move || send(&queue, 1..2)
    });
    let mut receiver = queue.receiver().unwrap();
    let message = receiver.receive(1, Duration::from_secs(5), None).unwrap();
    assert_eq!(message.len(), 1);
    sending.join().unwrap();
    drop((message, receiver, queue, bus, idle));
    machine.restart();
    let queue = machine.bus().queue("q").open().unwrap();
    assert!(queue.definition().read_ahead);
    assert_eq!(drain(&queue), all(1..2));
}

#[test]
fn a_queue_that_deduplicates_and_does_not_wait_forgets_no_id() {
    let machine = Machine::new("ids");
    let bus = machine.bus();
    let queue = asynchronous(&bus)
        .fifo()
        .deduplicate(Deduplication::default())
        .create()
        .unwrap();
    let mut sender = queue.sender().unwrap();
    let message = |id: &'static str| Outgoing::new(b"1234").group("g").dedup_id(id);
    sender.send_message(&message("one")).unwrap();
    // It is received when it is on disk, and so is its id.
    assert_eq!(drain(&queue).len(), 1);
    queue.flush().unwrap();
    drop((sender, queue, bus));
    machine.restart();
    let bus = machine.bus();
    let queue = bus.queue("q").open().unwrap();
    let mut sender = queue.sender().unwrap();
    assert!(sender.send_message(&message("one")).unwrap().duplicate);
    assert!(!sender.send_message(&message("two")).unwrap().duplicate);
}

/// Nobody waits for a delete; a flush waits for those before it.
#[test]
fn what_was_deleted_and_flushed_stays_away_behind_a_restart() {
    let machine = Machine::new("deleted");
    let bus = machine.bus();
    let queue = asynchronous(&bus).create().unwrap();
    send(&queue, 0..100);
    queue.flush().unwrap();
    let mut receiver = queue.receiver().unwrap();
    for message in receiver.receive(50, Duration::ZERO, None).unwrap() {
        assert!(receiver.delete(&message.received.receipt).unwrap());
    }
    queue.flush().unwrap();
    // As it is now on the disk, whatever a close would write.
    let later = copy_disk(&machine, "deleted-later");
    let bus = later.bus();
    assert_eq!(drain(&bus.queue("q").open().unwrap()), all(50..100));
}

#[test]
fn a_persister_writes_for_everybody_until_it_is_dropped() {
    let machine = Machine::new("persister");
    let bus = machine.bus();
    let builder = bus.queue("q").durability(Durability::Durable).slots(1024);
    let queue = builder.create().unwrap();
    let (file, is_over) = (machine.file("q"), AtomicBool::new(false));
    let core = ringway::affinity::cores()[0];
    let (take_overs, stood) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&file, &is_over));
        let persister = queue.persister(Some(core)).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let queue = queue.clone();
                std::thread::spawn(move || send(&queue, thread * 50..thread * 50 + 50))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(drain(&queue), all(0..200));
        assert_eq!(persister.trouble(), None);
        // Nothing is asked for, and the role is held all the same: another one waits for its turn.
        let second = queue.persister(None).unwrap();
        persister.stop();
        send(&queue, 200..300);
        drop(second);
        send(&queue, 300..400);
        is_over.store(true, Ordering::Relaxed);
        (queue.stats().take_overs, watching.join().unwrap())
    });
    // The role is given, not taken, but from one who stood still: the machine or its disk paused.
    assert!(
        take_overs == 0 || stood >= STANDS_STILL,
        "{take_overs}, {stood:?}"
    );
    drop((queue, bus));
    machine.restart();
    let bus = machine.bus();
    assert_eq!(drain(&bus.queue("q").open().unwrap()), all(200..400));
}

#[test]
fn a_persister_that_can_not_be_is_refused_and_told() {
    let machine = Machine::new("refused");
    let bus = machine.bus();
    let plain = bus.queue("plain").slots(1024).create().unwrap();
    let refused = plain.persister(None).map(drop);
    assert!(matches!(refused, Err(FlushError::NoDisk)), "{refused:?}");
    plain.flush().unwrap();
    assert_eq!(plain.durable_position(), 0);
    let queue = asynchronous(&bus).create().unwrap();
    let refused = queue.persister(Some(99_999)).map(drop).unwrap_err();
    assert!(refused.to_string().contains("not available"), "{refused}");
    // Less than the source survives is refused as a dead-letter queue, more is not.
    let builder = bus.queue("d").durability(Durability::Durable).slots(1024);
    let durable = builder.create().unwrap();
    let to = |queue: &Queue| Settings::new().redrive(Redrive::to(queue, 3));
    queue.set(&to(&durable)).unwrap();
    for (source, target) in [(&durable, &queue), (&queue, &plain)] {
        let refused = source.set(&to(target));
        assert!(
            matches!(refused, Err(SetError::OnDisk { .. })),
            "{refused:?}"
        );
    }
    bus.remove("q").unwrap();
    assert!(matches!(queue.flush(), Err(FlushError::Removed)));
}

#[test]
fn a_journal_at_its_quota_refuses_sends_and_goes_on_when_messages_are_deleted() {
    let machine = Machine::new("quota");
    let bus = machine.bus();
    let builder = bus.queue("q").durability(Durability::Durable).slots(1024);
    let builder = builder.max_message_bytes(65_536);
    // Segments of 4 MiB.
    let queue = builder.journal_max_bytes(16 << 20).create().unwrap();
    let mut sender = queue.sender().unwrap();
    let body = |number: u32| [&number.to_le_bytes()[..], &[7; 60_000]].concat();
    let mut sent = 0;
    let refused = loop {
        match sender.send(&body(sent)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1000, "never refused");
    };
    let QueueSendError::OverDiskQuota { bytes, quota } = refused else {
        panic!("{refused}");
    };
    assert!(bytes >= quota && quota == 16 << 20, "{bytes} of {quota}");
    assert!((150..350).contains(&sent), "{sent}");
    drop((sender, queue, bus));
    machine.restart();

    let bus = machine.bus();
    let queue = bus.queue("q").open().unwrap();
    let mut sender = queue.sender().unwrap();
    let refused = sender.send(&body(0));
    let is_named = matches!(refused, Err(QueueSendError::OverDiskQuota { .. }));
    assert!(is_named, "{refused:?}");
    let mut receiver = queue.receiver().unwrap();
    let mut found = Vec::new();
    while found.len() < sent as usize {
        for message in receiver.receive(64, Duration::from_secs(5), None).unwrap() {
            found.push(u32::from_le_bytes(message.body[..4].try_into().unwrap()));
            assert!(receiver.delete(&message.received.receipt).unwrap());
        }
    }
    found.sort_unstable();
    assert_eq!(found, all(0..sent));
    sender.send(&body(0)).unwrap();
}

#[test]
fn options_that_do_not_go_together_are_refused_and_named() {
    let machine = Machine::new("options");
    let bus = machine.bus();
    let durable = |name: &str| bus.queue(name).durability(Durability::Durable).slots(1024);
    let refusals = [
        ("read_ahead", bus.queue("a").read_ahead(true).create()),
        ("read_ahead", durable("b").fifo().read_ahead(true).create()),
        (
            "journal_max_bytes",
            durable("c").journal_max_bytes(1 << 20).create(),
        ),
        (
            "journal_max_bytes",
            bus.queue("d").journal_max_bytes(1 << 30).create(),
        ),
    ];
    for (name, refused) in refusals {
        match refused.map(drop) {
            Err(OpenError::InvalidOption { option, .. }) => assert_eq!(option, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn nobody_waits_for_a_claim_that_is_the_last_and_stays_open() {
    const CLAIMED: u64 = 1;
    const STRIDE_AND_SLOTS: u64 = 72;
    let machine = Machine::new("open");
    let (bus, idle) = (machine.bus(), machine.bus());
    let queue = asynchronous(&bus).create().unwrap();
    send(&queue, 0..1);
    queue.flush().unwrap();
    // What a process that lives leaves when it stops behind its claim.
    let path = machine.root.join("memory/ringway-bus/objects/q");
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut words = [0; 16];
    file.read_exact_at(&mut words, STRIDE_AND_SLOTS).unwrap();
    let word = |at: usize| u64::from_le_bytes(words[at..at + 8].try_into().unwrap());
    let ctl = CLAIMED << 62 | u64::from(idle.me().0) << 52 | 1;
    file.write_all_at(&ctl.to_le_bytes(), word(8) + word(0))
        .unwrap();

    let (tell, told) = std::sync::mpsc::channel();
    let flushing = queue.clone();
    std::thread::spawn(move || tell.send(flushing.flush()));
    let flushed = told.recv_timeout(Duration::from_secs(60));
    flushed.expect("it hangs").unwrap();
    send(&queue, 1..2);
    assert_eq!(drain(&queue), all(0..2));
}
