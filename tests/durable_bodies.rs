//! Bodies that do not fit into a slot of a durable queue: they lie in the payload pool, and in the journal
//! like any other; behind a restart of the machine they are in the pool again.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus.

use ringway::{
    AttributeValue, Attributes, Bus, Durability, OpenError, Outgoing, Queue, QueueBuilder, Redrive,
    Settings,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From one that lies in its slot to the longest that SQS takes, attributes included.
const LENGTHS: [usize; 8] = [0, 100, 217, 300, 5_000, 70_000, 262_144, (1 << 20) - 100];

/// A place for a bus, and one for its journals.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-durable-bodies-{}-{what}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn bus_with(&self, pool_bytes: u64) -> Bus {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        let builder = builder.journal_root(self.root.join("disk"));
        builder.pool_bytes(pool_bytes).open_or_create().unwrap()
    }

    fn bus(&self) -> Bus {
        self.bus_with(64 << 20)
    }

    fn segments(&self, queue: &str) -> usize {
        let path = self.root.join("disk/ringway-bus").join(queue);
        let entries = std::fs::read_dir(path).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".segment"))
            .count()
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

fn durable(bus: &Bus, name: &str) -> QueueBuilder {
    let queue = bus.queue(name).durability(Durability::Durable);
    queue.slots(1024).max_message_bytes(1 << 20)
}

/// Bytes that tell which message they are of.
fn body(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + number * 7) as u8).collect()
}

fn text(value: AttributeValue<'_>) -> usize {
    match value {
        AttributeValue::String(text) => text.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Every message there is, by its number, whole, with what was said about it; it stays in flight.
fn check_all(queue: &Queue, mut numbers: Vec<usize>) {
    let mut receiver = queue.receiver().unwrap();
    while !numbers.is_empty() {
        let wait = Duration::from_secs(5);
        let messages = receiver.receive(10, wait, None).unwrap();
        assert!(!messages.is_empty(), "{numbers:?} did not come");
        for message in messages {
            let attributes = message.attributes();
            let number = attributes.get("number").expect("its number");
            let number = text(number.value);
            let at = numbers.iter().position(|other| *other == number);
            numbers.swap_remove(at.unwrap_or_else(|| panic!("{number} came unasked")));
            let wanted = body(number, LENGTHS[number % LENGTHS.len()]);
            assert!(message.body == wanted, "{number} is another");
        }
    }
    assert!(
        receiver
            .receive(1, Duration::ZERO, None)
            .unwrap()
            .is_empty()
    );
}

fn send(queue: &Queue, numbers: std::ops::Range<usize>) {
    let mut sender = queue.sender().unwrap();
    for number in numbers {
        let mut attributes = Attributes::new();
        attributes.string("number", &number.to_string()).unwrap();
        let body = body(number, LENGTHS[number % LENGTHS.len()]);
        let group = format!("g{number}");
        let message = Outgoing::new(&body).attributes(&attributes).group(&group);
        sender.send_message(&message).unwrap();
    }
}

#[test]
fn bodies_of_every_length_are_whole_behind_two_restarts() {
    for is_fifo in [false, true] {
        let machine = Machine::new(if is_fifo { "fifo" } else { "standard" });
        let bus = machine.bus();
        let queue = durable(&bus, "q");
        let queue = if is_fifo { queue.fifo() } else { queue };
        let queue = queue.create().unwrap();
        send(&queue, 0..24);
        let mut receiver = queue.receiver().unwrap();
        let mut left: Vec<_> = (0..24).collect();
        for message in receiver.receive(8, Duration::ZERO, None).unwrap() {
            let attributes = message.attributes();
            let number = attributes.get("number").unwrap();
            let number = text(number.value);
            assert!(receiver.delete(&message.received.receipt).unwrap());
            left.retain(|other| *other != number);
        }
        assert_eq!(left.len(), 16);
        drop((receiver, queue, bus));
        machine.restart();
        drop(machine.bus().queue("q").open().unwrap());
        machine.restart();
        let bus = machine.bus();
        check_all(&bus.queue("q").open().unwrap(), left);
    }
}

#[test]
fn a_loan_is_on_disk_when_its_send_returns() {
    let machine = Machine::new("loan");
    let bus = machine.bus();
    let queue = durable(&bus, "q").create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut loan = sender.loan(50_000).unwrap();
    loan.copy_from_slice(&body(3, 50_000));
    sender.send_loan(loan).map_err(|(error, _)| error).unwrap();
    drop((sender, queue, bus));
    machine.restart();
    let bus = machine.bus();
    let queue = bus.queue("q").open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    let messages = receiver.receive(1, Duration::from_secs(5), None).unwrap();
    assert!(messages[0].body == body(3, 50_000));
}

#[test]
fn what_is_deleted_leaves_its_chunk_to_others_behind_a_restart_too() {
    let machine = Machine::new("chunks");
    let bus = machine.bus_with(8 << 20);
    let queue = durable(&bus, "q").create().unwrap();
    let large = vec![7; 1 << 20];
    for _ in 0..3 {
        queue.sender().unwrap().send(&large).unwrap();
    }
    drop((queue, bus));
    machine.restart();
    let bus = machine.bus_with(8 << 20);
    let queue = bus.queue("q").open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    let mut sender = queue.sender().unwrap();
    // Many times what the pool has room for.
    for _ in 0..30 {
        let message = receiver.receive(1, Duration::from_secs(5), None).unwrap();
        assert!(receiver.delete(&message[0].received.receipt).unwrap());
        sender.send(&large).unwrap();
    }
}

#[test]
fn a_pool_without_room_for_what_is_left_is_refused_and_named_and_nothing_is_lost() {
    let machine = Machine::new("pool");
    let bus = machine.bus();
    let queue = durable(&bus, "q").create().unwrap();
    send(&queue, 0..64);
    drop((queue, bus));
    machine.restart();
    let bus = machine.bus_with(4 << 20);
    let refused = bus.queue("q").open().map(drop);
    let is_named = matches!(
        refused,
        Err(OpenError::InvalidOption {
            option: "pool_bytes",
            ..
        })
    );
    assert!(is_named, "{refused:?}");
    drop(bus);
    machine.restart();
    let bus = machine.bus();
    check_all(&bus.queue("q").open().unwrap(), (0..64).collect());
}

#[test]
fn a_large_backlog_is_not_written_again_and_again() {
    let machine = Machine::new("backlog");
    let bus = machine.bus_with(256 << 20);
    let queue = durable(&bus, "q").create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    // Segments of 16 MiB; 160 MiB stay.
    let large = vec![7; 1 << 20];
    let mut receipts = Vec::new();
    for _ in 0..160 {
        sender.send(&large).unwrap();
        let kept = Some(Duration::from_secs(43_200));
        let messages = receiver.receive(1, Duration::from_secs(5), kept).unwrap();
        receipts.push(messages[0].received.receipt);
    }
    let full = machine.segments("q");
    assert!(full <= 13, "{full} segments for 160 MiB");
    assert!(receiver.delete_batch(&receipts).is_empty());
    for _ in 0..48 {
        sender.send(&large).unwrap();
        let message = receiver.receive(1, Duration::from_secs(5), None).unwrap();
        assert!(receiver.delete(&message[0].received.receipt).unwrap());
    }
    let drained = machine.segments("q");
    assert!(drained < full / 2, "{drained} of {full} segments stayed");
}

#[test]
fn a_large_body_that_is_failed_on_is_in_the_dead_letter_queue_behind_a_restart() {
    let machine = Machine::new("dead");
    let bus = machine.bus();
    let (orders, dead) = (
        durable(&bus, "orders").create().unwrap(),
        durable(&bus, "dead").create().unwrap(),
    );
    let redrive = Redrive::to(&dead, 1);
    orders.set(&Settings::new().redrive(redrive)).unwrap();
    send(&orders, 0..8);
    let mut receiver = orders.receiver().unwrap();
    while dead.stats().visible < 8 {
        for message in receiver.receive(10, Duration::ZERO, None).unwrap() {
            let receipt = message.received.receipt;
            receiver.nack(&receipt, Duration::ZERO).unwrap();
        }
    }
    drop((receiver, orders, dead, bus));
    machine.restart();
    let bus = machine.bus();
    check_all(&bus.queue("dead").open().unwrap(), (0..8).collect());
}
