//! Durable queues where something is in the way: ids whose segment is over, an old segment that is
//! damaged, a journal that nobody can look at, one who stands still while it makes a queue again, one that is
//! removed while it is made again.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus.

use ringway::{
    Bus, Deduplication, Durability, OpenError, Outgoing, QueueBuilder, QueueReceiver, QueueSender,
};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A place for a bus, and one for its journals.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-durable-edges-{}-{what}", std::process::id());
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

/// Segments of 4 MiB.
fn small(bus: &Bus) -> QueueBuilder {
    let queue = bus.queue("q").durability(Durability::Durable);
    queue.slots(1024).stride(1024)
}

/// Sends a number of messages of 900 bytes, with an id each in a FIFO queue, and deletes all there are.
fn send_and_delete(
    (sender, receiver): (&mut QueueSender, &mut QueueReceiver),
    ids: std::ops::Range<u32>,
    is_fifo: bool,
) {
    let bodies: Vec<_> = ids.map(|id| (id.to_string(), [7u8; 900])).collect();
    let messages: Vec<_> = bodies
        .iter()
        .map(|(id, body)| match is_fifo {
            true => Outgoing::new(body).group("g").dedup_id(id),
            false => Outgoing::new(body),
        })
        .collect();
    for sent in sender.send_message_batch(&messages) {
        assert!(!sent.unwrap().duplicate);
    }
    delete_all(receiver);
}

fn delete_all(receiver: &mut QueueReceiver) {
    loop {
        let messages = receiver.receive(300, Duration::ZERO, None).unwrap();
        if messages.is_empty() {
            return;
        }
        let receipts: Vec<_> = messages.iter().map(|m| m.received.receipt).collect();
        assert!(receiver.delete_batch(&receipts).is_empty());
    }
}

/// The segment behind the one that is filled is made when that is half full, which may be long before
/// its last message is sent.
#[test]
fn an_id_counts_though_the_segment_that_told_it_is_over() {
    const WINDOW: Duration = Duration::from_secs(6);
    let machine = Machine::new("ids");
    let rules = Deduplication {
        window: WINDOW,
        ..Deduplication::default()
    };
    let bus = machine.bus();
    let queue = small(&bus).fifo().deduplicate(rules).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut ids = 0..;
    let mut fill = |sender: &mut QueueSender, receiver: &mut QueueReceiver| {
        let first = 300 * ids.next().unwrap();
        send_and_delete((sender, receiver), first..first + 300, true);
    };
    while machine.segments().len() < 2 {
        fill(&mut sender, &mut receiver);
    }
    let first = machine.segments().remove(0);
    std::thread::sleep(WINDOW); // what was sent so far is out of the window
    let sent = Instant::now();
    let late = Outgoing::new(b"late").group("g").dedup_id("late");
    assert!(!sender.send_message(&late).unwrap().duplicate);
    delete_all(&mut receiver);
    // Until that segment is over, and given back if ever it is.
    let is_far = |segments: Vec<PathBuf>| {
        let last = segments.last().unwrap().to_string_lossy();
        last.ends_with("-00000003.segment")
    };
    while first.exists() && !is_far(machine.segments()) {
        fill(&mut sender, &mut receiver);
    }
    drop((sender, receiver, queue, bus));
    machine.restart();

    let queue = machine.bus().queue("q").open().unwrap();
    let mut sender = queue.sender().unwrap();
    let again = sender.send_message(&late).unwrap();
    assert!(
        again.duplicate || sent.elapsed() >= WINDOW,
        "delivered twice within the window"
    );
}

#[test]
fn an_old_segment_that_is_damaged_stops_no_sender_and_is_named_by_who_opens() {
    let machine = Machine::new("damaged");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send(b"stays").unwrap();
    let day = Some(Duration::from_secs(43_200));
    assert_eq!(receiver.receive(1, Duration::ZERO, day).unwrap().len(), 1);
    let segment = machine.segments().remove(0);
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[0xFF], 100).unwrap();
    while machine.segments().len() < 5 {
        send_and_delete((&mut sender, &mut receiver), 0..50, false);
    }
    drop((sender, receiver, queue, bus));
    machine.restart();
    let refused = machine.bus().queue("q").open().map(drop).unwrap_err();
    let name = segment.file_name().unwrap().to_string_lossy();
    assert!(refused.to_string().contains(&*name), "{refused}");
}

#[test]
fn where_nobody_can_look_at_the_journal_no_other_queue_takes_its_place() {
    let machine = Machine::new("unseen");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    let id = queue.id();
    queue.sender().unwrap().send(b"there").unwrap();
    drop((queue, bus));
    machine.restart();
    let aside = machine.root.join("aside");
    std::fs::rename(machine.journal(), &aside).unwrap();
    std::fs::write(machine.journal(), b"not a directory").unwrap();
    let bus = machine.bus();
    let refused = small(&bus).open_or_create().map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
    let refused = small(&bus).create().map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");

    std::fs::remove_file(machine.journal()).unwrap();
    std::fs::rename(&aside, machine.journal()).unwrap();
    let queue = small(&bus).open_or_create().unwrap();
    assert_eq!(queue.id(), id);
    let mut buffer = [0; 8];
    let mut receiver = queue.receiver().unwrap();
    assert!(receiver.try_receive(&mut buffer).unwrap().is_some());
}

/// The lock of whoever makes the queue again.
fn lock(machine: &Machine) -> File {
    let path = machine.journal().join("lock");
    let mut options = OpenOptions::new();
    let held = options.write(true).create(true).truncate(false).open(path);
    let held = held.unwrap();
    // SAFETY: plain data, of which all zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_len = 1;
    // SAFETY: an open descriptor, and a lock of this thread's.
    let locked = unsafe { libc::fcntl(held.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    assert_eq!(locked, 0);
    held
}

/// How often a file is open here.
fn times_open(path: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let leads_to = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
    open.filter_map(|entry| leads_to(entry.unwrap()))
        .filter(|file| file == path)
        .count()
}

#[test]
fn a_queue_that_was_made_again_while_its_remover_waited_goes_with_its_journal() {
    let machine = Machine::new("made-again");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    queue.sender().unwrap().send(b"there").unwrap();
    drop(queue);
    // Nothing of it is there but its journal, and who makes it again has the lock.
    let there = machine.root.join("memory/ringway-bus/objects/q");
    let made = machine.root.join("memory/made");
    std::fs::rename(&there, &made).unwrap();
    let held = lock(&machine);
    let path = machine.journal().join("lock").canonicalize().unwrap();
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| bus.remove("q"));
        while times_open(&path) < 2 && !removing.is_finished() {
            std::thread::yield_now();
        }
        std::fs::rename(&made, &there).unwrap();
        drop(held);
        removing.join().unwrap().unwrap();
    });
    assert!(!there.exists() && !machine.journal().exists());
    let gone = bus.queue("q").open().map(drop);
    assert!(matches!(gone, Err(OpenError::NotFound { .. })), "{gone:?}");
}

#[test]
fn one_who_stands_still_while_it_makes_a_queue_again_is_not_waited_for() {
    let machine = Machine::new("still");
    let bus = machine.bus();
    let queue = small(&bus).create().unwrap();
    queue.sender().unwrap().send(b"there").unwrap();
    drop((queue, bus));
    machine.restart();
    let _held = lock(&machine);
    let queue = machine.bus().queue("q").open().unwrap();
    let mut buffer = [0; 8];
    let mut receiver = queue.receiver().unwrap();
    assert!(receiver.try_receive(&mut buffer).unwrap().is_some());
}

/// Who made it stood still, and the remover did not wait for that: it moves the journal away.
#[test]
fn a_queue_that_is_removed_while_it_is_made_again_does_not_come_back() {
    let machine = Machine::new("removed");
    let queue = small(&machine.bus()).create().unwrap();
    queue.sender().unwrap().send(b"there").unwrap();
    drop(queue);
    machine.restart();
    let (journal, aside) = (machine.journal(), machine.root.join("aside"));
    let moved = Arc::new(AtomicBool::new(false));
    let (from, to, told) = (journal.clone(), aside.clone(), Arc::clone(&moved));
    // The last that is told, in slots: all is made, and has no name yet.
    let bus = machine.builder().on_recovery(move |far| {
        if (far.read_bytes, far.total_bytes) == (1024, 1024) {
            std::fs::rename(&from, &to).unwrap();
            told.store(true, Ordering::Relaxed);
        }
    });
    let bus = bus.open_or_create().unwrap();
    let object = bus.directory().join("objects/q");
    let opened = bus.queue("q").open().map(drop);
    assert!(moved.load(Ordering::Relaxed), "it was not made again");
    assert!(
        matches!(opened, Err(OpenError::NotFound { .. })),
        "{opened:?}"
    );
    assert!(!object.exists() && !journal.exists());
    // Of another one that is made under the name nothing is taken away.
    let next = small(&bus).create().unwrap();
    next.sender().unwrap().send(b"next").unwrap();
    assert!(object.exists() && journal.exists() && aside.exists());
    drop((next, bus));
    machine.restart();
    assert_eq!(machine.bus().queue("q").open().unwrap().stats().visible, 1);
}
