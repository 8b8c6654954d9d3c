//! Durable queues that grow: what was acknowledged is there behind a restart, in however many rings it lay.

use ringway::journal::{Call, Watch, watch};
use ringway::{Bus, Durability, Queue, QueueBuilder, QueueReceiver};
use ringway_harness::TempBus;
use ringway_harness::seed::{Random, announce};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
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

    fn bus(&self) -> Bus {
        let builder = Bus::builder("bus").root(self.memory.path());
        let builder = builder.pre_touch(false).pool_bytes(64 << 20);
        builder
            .journal_root(self.disk.path())
            .open_or_create()
            .unwrap()
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
