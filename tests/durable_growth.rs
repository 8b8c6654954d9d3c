//! Durable queues that grow: what was acknowledged is there behind a restart, in however many rings it lay.

use ringway::journal::{
    Call, DEFINITION_BYTES, Disk, Options, Pushed, Reading, Recovery, Watch, Writer, remove, watch,
};
use ringway::{Bus, Durability, JournalError, OpenError, Queue, QueueBuilder, QueueReceiver};
use ringway_harness::TempBus;
use ringway_harness::seed::{Random, announce};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A place in memory that a restart empties, and one on a disk that stays.
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

    fn builder(&self) -> ringway::Builder {
        let builder = Bus::builder("bus").root(self.memory.path());
        let builder = builder.pre_touch(false).pool_bytes(64 << 20);
        builder.journal_root(self.disk.path())
    }

    fn bus(&self) -> Bus {
        self.builder().open_or_create().unwrap()
    }

    /// Everything in memory is gone, as nobody closed it.
    fn restart(&self) {
        for entry in std::fs::read_dir(self.memory.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    /// Files of further rings on the disk.
    fn rings(&self) -> usize {
        let mut rings = 0;
        for directory in std::fs::read_dir(self.disk.path().join("ringway-bus")).unwrap() {
            let directory = directory.unwrap().path();
            if directory.to_string_lossy().contains(".spill-") {
                let names = std::fs::read_dir(directory).unwrap();
                let names = names.map(|entry| entry.unwrap().file_name());
                rings += names
                    .filter(|name| name.to_string_lossy().starts_with(".grown-"))
                    .count();
            }
        }
        rings
    }
}

fn growing(bus: &Bus) -> QueueBuilder {
    let queue = bus.queue("q").durability(Durability::Durable);
    queue.slots(1024).stride(96).max_bytes(64 << 20).spill(true)
}

fn send(queue: &Queue, numbers: std::ops::Range<u64>) {
    let mut sender = queue.sender().unwrap();
    let numbers: Vec<_> = numbers.map(u64::to_le_bytes).collect();
    for batch in numbers.chunks(1000) {
        assert_eq!(sender.send_batch(batch).unwrap(), batch.len());
    }
}

/// Receives up to so many: how often each was received, and its receipt.
fn receive(receiver: &mut QueueReceiver, most: usize) -> Vec<(u64, u32, ringway::Receipt)> {
    let mut all = Vec::new();
    while all.len() < most {
        let before = all.len();
        let take = (most - before).min(256);
        let each = |received: ringway::Received, body: &[u8]| {
            let number = u64::from_le_bytes(body.try_into().unwrap());
            all.push((number, received.receives().into(), received.receipt));
        };
        receiver.receive_each(take, each).unwrap();
        if all.len() == before {
            break;
        }
    }
    all
}

fn delete(receiver: &mut QueueReceiver, messages: &[(u64, u32, ringway::Receipt)]) {
    let receipts: Vec<_> = messages.iter().map(|(_, _, receipt)| *receipt).collect();
    for batch in receipts.chunks(1000) {
        assert!(receiver.delete_batch(batch).is_empty());
    }
}

/// All that is there, each once: how often it was received, this time not counted.
fn all(queue: &Queue) -> BTreeMap<u64, u32> {
    let mut receiver = queue.receiver().unwrap();
    let mut there = BTreeMap::new();
    while queue.stats().visible > 0 {
        for (number, receives, _) in receive(&mut receiver, 4096) {
            assert_eq!(
                there.insert(number, receives - 1),
                None,
                "{number} came twice"
            );
        }
    }
    there
}

/// Tells the first that differs.
fn same<T: PartialEq + std::fmt::Debug>(there: &BTreeMap<u64, T>, expected: &BTreeMap<u64, T>) {
    let lost = expected
        .iter()
        .find(|(number, it)| there.get(number) != Some(it));
    let back = there
        .iter()
        .find(|(number, _)| !expected.contains_key(number));
    assert_eq!((lost, back), (None, None), "lost or changed; back");
}

#[test]
fn a_backlog_of_many_rings_is_there_behind_a_restart_with_its_receive_counts() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = growing(&bus).create().unwrap();
    send(&queue, 0..40_000);
    assert!(queue.stats().rings > 4, "{:?}", queue.stats());
    let mut receiver = queue.receiver().unwrap();
    // One of five stays, beside others that are deleted: so the disk knows that it was received.
    let first = receive(&mut receiver, 10_000);
    let (kept, deleted): (Vec<_>, Vec<_>) = first.iter().partition(|(number, ..)| number % 5 == 0);
    delete(&mut receiver, &deleted);
    send(&queue, 40_000..41_000);
    machine.restart();
    drop((receiver, queue, bus));

    for _ in 0..2 {
        let bus = machine.bus();
        let queue = growing(&bus).open().unwrap();
        let stats = queue.stats();
        assert_eq!(stats.visible, 33_000, "{stats:?}");
        assert!(stats.rings > 3, "{stats:?}");
        machine.restart();
    }
    let bus = machine.bus();
    let queue = growing(&bus).open().unwrap();
    let received = kept.iter().map(|(number, ..)| (*number, 1));
    let others = (10_000..41_000).map(|number| (number, 0));
    same(&all(&queue), &received.chain(others).collect());
}

#[test]
fn what_was_never_received_comes_in_its_order_and_what_is_drained_goes() {
    let machine = Machine::new();
    let bus = machine.bus();
    send(&growing(&bus).create().unwrap(), 0..30_000);
    drop(bus);
    machine.restart();
    let bus = machine.bus();
    let queue = growing(&bus).open().unwrap();
    let rings = machine.rings();
    assert!(rings > 3, "{rings}");
    let mut receiver = queue.receiver().unwrap();
    let mut next = 0;
    while next < 30_000 {
        let messages = receive(&mut receiver, 1000);
        assert!(!messages.is_empty(), "{next} did not come");
        for (number, receives, _) in &messages {
            assert_eq!((*number, *receives), (next, 1));
            next += 1;
        }
        delete(&mut receiver, &messages);
    }
    // Whoever writes takes the drained ones away.
    send(&queue, 0..1);
    assert!(
        machine.rings() <= 2,
        "{} of {rings} are left",
        machine.rings()
    );
    drop((receiver, queue, bus));
    machine.restart();
    let queue = growing(&machine.bus()).open().unwrap();
    assert_eq!(all(&queue), BTreeMap::from([(0, 0)]));
}

#[test]
fn rings_come_and_go_and_everything_is_removed_again_and_again() {
    let mut random = Random::new(announce("rings come and go"));
    let machine = Machine::new();
    let (mut expected, mut next) = (BTreeSet::new(), 0);
    for life in 0..6 {
        let bus = machine.bus();
        let queue = growing(&bus).open_or_create().unwrap();
        let mut receiver = queue.receiver().unwrap();
        for _ in 0..4 {
            let count = 500 + random.below(7_000);
            send(&queue, next..next + count);
            expected.extend(next..next + count);
            next += count;
            let mut messages = receive(&mut receiver, 200 + random.below(7_000) as usize);
            // Some of the oldest stay in flight, and keep their rings.
            messages.retain(|_| !random.percent(1));
            delete(&mut receiver, &messages);
            for (number, ..) in &messages {
                assert!(
                    expected.remove(number),
                    "{number} came though it was deleted"
                );
            }
        }
        machine.restart();
        drop((receiver, queue, bus));
        let bus = machine.bus();
        let queue = growing(&bus).open().unwrap();
        let there: BTreeSet<u64> = all(&queue).into_keys().collect();
        assert!(there == expected, "in life {life}");
        // The others of this life begin without leases.
        drop((queue, bus));
        machine.restart();
    }
}

#[test]
fn bodies_in_the_pool_of_several_rings_are_whole_behind_a_restart() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = growing(&bus).create().unwrap();
    let body = |number: u64| {
        let mut body = number.to_le_bytes().to_vec();
        body.resize(8 + number as usize % 7 * 100, number as u8);
        body
    };
    let mut sender = queue.sender().unwrap();
    for from in (0..5_000).step_by(500) {
        let bodies: Vec<_> = (from..from + 500).map(body).collect();
        assert_eq!(sender.send_batch(&bodies).unwrap(), 500);
    }
    assert!(queue.stats().rings > 1);
    machine.restart();
    drop((sender, queue, bus));
    let bus = machine.bus();
    let queue = growing(&bus).open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    let mut there = BTreeSet::new();
    while queue.stats().visible > 0 {
        for message in receiver.receive(64, Duration::ZERO, None).unwrap() {
            let number = u64::from_le_bytes(message.body[..8].try_into().unwrap());
            assert_eq!(message.body, body(number));
            assert!(there.insert(number));
        }
    }
    assert_eq!(there.len(), 5_000);
}

#[test]
fn a_queue_that_was_deleted_with_its_rings_left_behind_takes_none_of_them_for_its_own() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = growing(&bus).spill(false).create().unwrap();
    send(&queue, 0..5_000);
    assert!(queue.stats().rings > 1);
    std::fs::remove_file(bus.directory().join("objects/q")).unwrap();
    let again = growing(&bus).spill(false).open().unwrap();
    assert_eq!(all(&again).len(), 5_000);
    let report = bus.doctor(false).unwrap();
    assert_eq!(report.temporary_files, 0, "{report:?}");
}

#[test]
fn at_its_quota_it_is_full_and_goes_on_when_rings_are_drained() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = growing(&bus).max_bytes(2 << 20).create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut sent = 0u64;
    while sender.send_batch(&[sent.to_le_bytes(); 64]).is_ok() {
        sent += 1;
    }
    assert!(queue.stats().rings > 2, "{:?}", queue.stats());
    assert_eq!(queue.purge().unwrap(), queue.stats().purged);
    for _ in 0..sent / 2 {
        sender.send_batch(&[sent.to_le_bytes(); 64]).unwrap();
    }
}

/// How often a segment was opened or read.
#[derive(Default)]
struct Looks(AtomicU64);

impl Watch for Looks {
    fn before(&self, call: Call<'_>) -> io::Result<()> {
        if matches!(call, Call::Open { .. } | Call::Read) {
            self.0.fetch_add(1, Ordering::Relaxed); // a count
        }
        Ok(())
    }

    fn behind(&self, _: Call<'_>) {}
}

#[test]
fn a_new_segment_has_as_many_others_looked_at_however_many_a_backlog_fills() {
    let machine = Machine::new();
    let looks = Arc::new(Looks::default());
    let journal = machine.disk.path().join("ringway-bus/q");
    let _watching = watch(&journal, Arc::clone(&looks) as _);
    let bus = machine.bus();
    // Nothing is given back: 11 segments, of 4 MiB, a hundred thousand messages.
    let queue = growing(&bus).max_bytes(1 << 30).create().unwrap();
    let counts: Vec<u64> = (0..11)
        .map(|part| {
            let before = looks.0.load(Ordering::Relaxed);
            send(&queue, part * 100_000..(part + 1) * 100_000);
            looks.0.load(Ordering::Relaxed) - before
        })
        .collect();
    let segments = std::fs::read_dir(&journal).unwrap().count();
    assert!(segments > 10, "{segments}");
    assert!(counts[10] < 3 * counts[1].max(10), "{counts:?}");
}

/// Kinds of entries (docs/format.md).
const GAP: u8 = 0;
const MESSAGE: u8 = 1;
const SETTINGS: u8 = 0x83;
const RING: u8 = 0x87;

#[derive(Clone)]
struct Entry {
    kind: u8,
    position: u64,
    bytes: Vec<u8>,
}

impl Entry {
    /// That a ring of 1,024 slots begins at `position`, where the one before it is sealed.
    fn ring(number: u32, position: u64) -> Self {
        let mut bytes = position.to_le_bytes().to_vec();
        bytes.extend(number.to_le_bytes());
        bytes.extend([10, 0, 0, 0]);
        Self {
            kind: RING,
            position,
            bytes,
        }
    }

    /// Of a ring: its number.
    fn number(&self) -> u8 {
        self.bytes[8]
    }

    /// The same ring, where as many follow in the next entries.
    fn followed_by(&self, rings: u8) -> Self {
        let mut entry = self.clone();
        entry.bytes[14] = rings;
        entry
    }

    fn is_message(&self) -> bool {
        self.kind == MESSAGE
    }

    fn push(&self, to: &mut Writer<Disk>) -> Pushed {
        let pushed = match self.kind {
            GAP => {
                let until = self.bytes[..].try_into().unwrap();
                to.gap(self.position, u64::from_le_bytes(until))
            }
            kind => to.push(kind, 0, self.position, &[&self.bytes]),
        };
        pushed.unwrap()
    }

    /// What was sent with it.
    fn body(&self) -> u64 {
        let (_, body) = self.bytes.split_last_chunk().unwrap();
        u64::from_le_bytes(*body)
    }
}

/// The journal of the queue, to be written anew.
struct Journal {
    disk: Arc<Disk>,
    definition: [u8; DEFINITION_BYTES],
    object: u64,
    entries: Vec<Entry>,
}

impl Journal {
    fn read(machine: &Machine) -> Self {
        let directory = machine.disk.path().join("ringway-bus/q");
        let disk = Arc::new(Disk::open(&directory).unwrap());
        let recovery = Recovery::open(Arc::clone(&disk), None, false).unwrap();
        let mut entries = Vec::new();
        let each = |entry: ringway::journal::Entry<'_>| {
            entries.push(Entry {
                kind: entry.kind,
                position: entry.position,
                bytes: entry.bytes.to_vec(),
            });
            Ok::<_, JournalError>(())
        };
        recovery.read(&Reading::default(), each).unwrap();
        Self {
            definition: *recovery.definition(),
            object: recovery.object(),
            disk,
            entries,
        }
    }

    fn settings(&self) -> Vec<Entry> {
        let settings = self.entries.iter().filter(|entry| entry.kind == SETTINGS);
        settings.cloned().collect()
    }

    /// Writes these entries in place of what is there.
    fn write(&self, entries: &[Entry]) {
        remove(&*self.disk).unwrap();
        let is_at = |entry: &&Entry| entry.kind < 0x80;
        let start = entries.iter().find(is_at).unwrap().position;
        let options = Options {
            segment_bytes: 4 << 20,
            ..Options::default()
        };
        let disk = Arc::clone(&self.disk);
        let writer = Writer::take_over(disk, options, self.object, 2, start, &self.definition);
        let mut writer = writer.unwrap();
        for entry in entries {
            while entry.push(&mut writer) == Pushed::Full {
                writer.complete_one().unwrap();
            }
        }
        writer.submit().unwrap();
        writer.complete(true).unwrap();
        writer.close().unwrap();
    }
}

fn growing_in_memory(bus: &Bus) -> QueueBuilder {
    growing(bus).spill(false)
}

/// A flush that is longer than a segment tells of a ring in the middle, and when the segments before are given back
/// this is the first that is read.
#[test]
fn a_journal_that_begins_with_the_end_of_a_flush_gives_each_ring_its_messages() {
    let machine = Machine::new();
    let bus = machine.bus();
    let queue = growing_in_memory(&bus).create().unwrap();
    send(&queue, 0..5000);
    assert!(queue.stats().rings > 2, "{:?}", queue.stats());
    drop((queue, bus));
    machine.restart();
    let journal = Journal::read(&machine);
    let is_ring = |entry: &&Entry, number| entry.kind == RING && entry.number() == number;
    let ring = |number| {
        journal
            .entries
            .iter()
            .find(|it| is_ring(it, number))
            .unwrap()
    };
    let (first, second, third) = (ring(0), ring(1), ring(2));
    let told = journal
        .entries
        .iter()
        .position(|it| is_ring(&it, 2))
        .unwrap();
    // The last ten of the second ring, and that the third one begins; then the next flush, with its list.
    let (before, behind) = journal.entries.split_at(told);
    let mut tail: Vec<_> = before.iter().filter(|it| it.kind < 0x80).collect();
    tail.drain(..tail.len() - 10);
    let mut entries = journal.settings();
    entries.extend(tail.into_iter().cloned());
    entries.push(third.clone());
    let list = [first.followed_by(2), second.followed_by(1), third.clone()];
    entries.extend(list);
    entries.extend(behind[1..].iter().cloned());
    journal.write(&entries);

    let messages = entries.iter().filter(|entry| entry.is_message());
    let expected: BTreeMap<_, _> = messages.map(|it| (it.body(), 0)).collect();
    assert!(expected.len() > 1000, "{}", expected.len());
    let queue = growing_in_memory(&machine.bus()).open().unwrap();
    same(&all(&queue), &expected);
}

#[test]
fn a_journal_that_tells_of_as_many_rings_as_there_may_be_and_needs_one_more_is_refused() {
    const MOST: u32 = 512;
    let machine = Machine::new();
    let bus = machine.bus();
    send(&growing_in_memory(&bus).create().unwrap(), 0..1);
    drop(bus);
    machine.restart();
    let journal = Journal::read(&machine);
    let message = journal.entries.iter().find(|entry| entry.is_message());
    let mut entries = journal.settings();
    entries.extend((0..MOST).map(|number| Entry::ring(number, u64::from(number) * 1024)));
    entries.push(Entry {
        position: u64::from(MOST - 1) * 1024,
        ..message.unwrap().clone()
    });
    journal.write(&entries);
    let refused = growing_in_memory(&machine.bus()).open().map(drop);
    let Err(OpenError::Scribbled { what, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(what.contains("behind the last position"), "{what}");
}

/// Opens a queue of 5,000 messages behind a restart; when its further rings have their names, and it does not yet, the
/// first of them is taken away, by somebody who says first that it `is_drained`, or does not.
fn open_while_a_ring_goes(
    machine: &Machine,
    is_drained: bool,
) -> Result<Queue, ringway::OpenError> {
    let bus = machine.bus();
    let objects = bus.directory().join("objects");
    let queue = growing(&bus).spill(false).create().unwrap();
    send(&queue, 0..5_000);
    assert!(queue.stats().rings > 2, "{:?}", queue.stats());
    drop((queue, bus));
    machine.restart();
    let bus = machine.builder().on_recovery(move |far| {
        let names = std::fs::read_dir(&objects).unwrap();
        let rings = names.map(|entry| entry.unwrap().path());
        let mut rings: Vec<_> = rings
            .filter(|path| path.to_string_lossy().contains(".grown-"))
            .collect();
        rings.sort();
        if far.read_bytes < far.total_bytes || rings.is_empty() {
            return;
        }
        if is_drained {
            let ring = std::fs::OpenOptions::new().write(true).open(&rings[0]);
            ring.unwrap()
                .write_all_at(&1_u64.to_le_bytes(), DRAINED)
                .unwrap();
        }
        std::fs::remove_file(&rings[0]).unwrap();
    });
    let bus = bus.open_or_create().unwrap();
    growing(&bus).spill(false).open()
}

/// The word that says that a ring is drained (docs/format.md).
const DRAINED: u64 = 6656;

#[test]
fn a_ring_that_is_drained_and_gone_before_its_maker_looks_for_it_is_not_missed() {
    let machine = Machine::new();
    let queue = open_while_a_ring_goes(&machine, true).unwrap();
    let left = all(&queue).len();
    assert!((1..5_000).contains(&left), "{left}");
}

#[test]
fn a_queue_that_lacks_a_ring_when_it_is_made_is_made_once_more() {
    let machine = Machine::new();
    let refused = open_while_a_ring_goes(&machine, false).map(drop);
    assert!(refused.is_err(), "it lacks a ring");
    let queue = growing(&machine.bus()).spill(false).open().unwrap();
    assert_eq!(all(&queue).len(), 5_000);
}
