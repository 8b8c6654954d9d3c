//! Moves between queues on disk: behind a restart of the machine a message is in one of the two, once.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus;
//! the journals lie elsewhere and stay.

use ringway::{
    Bus, Durability, MoveError, MoveOptions, MoveState, Outgoing, Queue, QueueBuilder, Redrive,
    RedriveAllow, SetError, Settings,
};
use ringway_harness::deadline;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A place for a bus, and one for its journals.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(what: &str) -> Self {
        let name = format!("ringway-durable-moves-{}-{what}", std::process::id());
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
    bus.queue(name).durability(Durability::Durable).slots(1024)
}

fn redrive_to(dead: &Queue, max_receives: u16) -> Settings {
    Settings::new().redrive(Redrive::to(dead, max_receives))
}

/// Receives everything that is offered and gives it back at once, until nothing is there any more.
fn fail_all(queue: &Queue) {
    let mut receiver = queue.receiver().unwrap();
    loop {
        for message in receiver.receive(1000, Duration::ZERO, None).unwrap() {
            let receipt = message.received.receipt;
            receiver.nack(&receipt, Duration::ZERO).unwrap();
        }
        let stats = queue.stats();
        if stats.visible + stats.in_flight + stats.parked + stats.moving == 0 {
            return;
        }
    }
}

/// The bodies of everything that can be received, in order; what was received stays in flight.
fn bodies(queue: &Queue) -> Vec<String> {
    let mut receiver = queue.receiver().unwrap();
    let mut bodies = Vec::new();
    let (wait, begun) = (Duration::from_millis(200), Instant::now());
    loop {
        let messages = receiver.receive(64, wait, None).unwrap();
        let stats = queue.stats();
        if messages.is_empty() && stats.visible + stats.moving + stats.parked == 0 {
            bodies.sort();
            return bodies;
        }
        assert!(begun.elapsed() < deadline(), "{stats:?}");
        let texts = messages.iter().map(|m| String::from_utf8_lossy(&m.body));
        bodies.extend(texts.map(String::from));
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{number:04}")).collect()
}

#[test]
fn what_was_received_too_often_is_in_the_dead_letter_queue_behind_a_restart_once() {
    let machine = Machine::new("dead");
    let bus = machine.bus();
    let (orders, dead) = (
        durable(&bus, "orders").create().unwrap(),
        durable(&bus, "dead").create().unwrap(),
    );
    let allow = RedriveAllow::Queues(vec![orders.id()]);
    dead.set(&Settings::new().redrive_allow(allow.clone()))
        .unwrap();
    orders.set(&redrive_to(&dead, 2)).unwrap();
    let mut sender = orders.sender().unwrap();
    for body in numbers(0..20) {
        sender.send(body.as_bytes()).unwrap();
    }
    fail_all(&orders);
    assert_eq!((orders.stats().moved, dead.stats().arrived), (20, 20));
    drop((sender, orders, dead, bus));
    machine.restart();

    let bus = machine.bus();
    let orders = bus.queue("orders").open().unwrap();
    assert_eq!(bodies(&orders), [""; 0]);
    // The policy is on disk, and the dead-letter queue is found though nobody has opened it.
    orders.sender().unwrap().send(b"0020").unwrap();
    fail_all(&orders);
    let dead = bus.queue("dead").open().unwrap();
    assert_eq!(dead.settings().redrive_allow, allow);
    assert_eq!(bodies(&dead), numbers(0..21));
    let origin = || dead.redrive_sources().unwrap();
    assert_eq!(origin(), ["orders"]);
}

#[test]
fn what_a_task_moved_back_is_where_it_came_from_behind_a_restart_once() {
    let machine = Machine::new("back");
    let bus = machine.bus();
    let (orders, dead) = (
        durable(&bus, "orders").create().unwrap(),
        durable(&bus, "dead").create().unwrap(),
    );
    orders.set(&redrive_to(&dead, 1)).unwrap();
    let mut sender = orders.sender().unwrap();
    for body in numbers(0..100) {
        sender.send(body.as_bytes()).unwrap();
    }
    fail_all(&orders);
    let mut task = dead.move_messages(&MoveOptions::new()).unwrap();
    let moved = task.step().unwrap().moved;
    assert!((1..100).contains(&moved), "{moved}");
    drop((task, sender, orders, dead, bus));
    machine.restart();

    let bus = machine.bus();
    let dead = bus.queue("dead").open().unwrap();
    assert_eq!(dead.move_status(), None, "a task ends with the machine");
    let mut task = dead.move_messages(&MoveOptions::new()).unwrap();
    let status = task.run(|_| true).unwrap();
    assert_eq!((status.state, task.left()), (MoveState::Completed, 0));
    assert_eq!(status.moved, 100 - moved);
    assert_eq!(bodies(&dead), [""; 0]);
    let orders = bus.queue("orders").open().unwrap();
    assert_eq!(bodies(&orders), numbers(0..100));
}

/// What its mover was told can't be known is nobody's from then on, and not his for as long as a disk may take.
#[test]
fn a_move_that_the_disk_refused_goes_on_with_the_next_step() {
    let machine = Machine::new("refused");
    let bus = machine.bus();
    let (orders, dead) = (
        durable(&bus, "orders").create().unwrap(),
        durable(&bus, "dead").create().unwrap(),
    );
    let mut sender = orders.sender().unwrap();
    for body in numbers(0..65) {
        sender.send(body.as_bytes()).unwrap();
    }
    let to_dead = MoveOptions::new().destination(&dead);
    let mut task = orders.move_messages(&to_dead).unwrap();
    assert_eq!(task.step().unwrap().moved, 64);
    // Nothing is written for a queue whose file is not there; a moment later it is.
    let objects = machine.root.join("memory/ringway-bus/objects");
    let (there, aside) = (objects.join("dead"), objects.join(".aside"));
    std::fs::rename(&there, &aside).unwrap();
    assert_eq!(task.step().unwrap().moved, 64);
    std::fs::rename(&aside, &there).unwrap();
    assert_eq!(orders.stats().moving, 1);
    task.step().unwrap();
    assert_eq!((orders.stats().moving, dead.stats().arrived), (0, 65));
    assert_eq!(bodies(&dead), numbers(0..65));
    assert_eq!(bodies(&orders), [""; 0]);
}

#[test]
fn groups_of_a_fifo_queue_arrive_in_their_order_and_stay_so_behind_a_restart() {
    let machine = Machine::new("fifo");
    let bus = machine.bus();
    let fifo = |name: &str| durable(&bus, name).fifo().create().unwrap();
    let (orders, dead) = (fifo("orders"), fifo("dead"));
    orders.set(&redrive_to(&dead, 1)).unwrap();
    let mut sender = orders.sender().unwrap();
    for number in 0..30u8 {
        let group = format!("g{}", number % 3);
        let body = [number];
        let message = Outgoing::new(&body).group(&group);
        sender.send_message(&message).unwrap();
    }
    fail_all(&orders);
    drop((sender, orders, dead, bus));
    machine.restart();

    let bus = machine.bus();
    let dead = bus.queue("dead").open().unwrap();
    let mut receiver = dead.receiver().unwrap();
    let (mut last, mut count) = ([None; 3], 0);
    while count < 30 {
        let wait = Duration::from_secs(5);
        let messages = receiver.receive(10, wait, None).unwrap();
        assert!(!messages.is_empty(), "{count} of 30 came");
        for message in messages {
            let number = message.body[0];
            let last = &mut last[usize::from(number % 3)];
            assert!(last.is_none_or(|before| before < number), "{number}");
            *last = Some(number);
            count += 1;
            assert!(receiver.delete(&message.received.receipt).unwrap());
        }
    }
    assert_eq!(bodies(&bus.queue("orders").open().unwrap()), [""; 0]);
}

#[test]
fn a_queue_in_memory_may_have_a_durable_dead_letter_queue_and_not_the_other_way_round() {
    let machine = Machine::new("levels");
    let bus = machine.bus();
    let plain = bus.queue("plain").slots(1024).create().unwrap();
    let dead = durable(&bus, "dead").create().unwrap();
    plain.set(&redrive_to(&dead, 1)).unwrap();
    for body in numbers(0..10) {
        plain.sender().unwrap().send(body.as_bytes()).unwrap();
    }
    fail_all(&plain);
    let refused = dead.set(&redrive_to(&plain, 1));
    assert!(
        matches!(refused, Err(SetError::OnDisk { .. })),
        "{refused:?}"
    );
    let other = bus.queue("other").slots(1024).create().unwrap();
    let refused = dead.move_messages(&MoveOptions::new().destination(&other));
    assert!(matches!(refused.map(drop), Err(MoveError::OnDisk { .. })));
    drop((plain, dead, other, bus));
    machine.restart();

    let bus = machine.bus();
    let dead = bus.queue("dead").open().unwrap();
    // Where they came from is gone.
    let mut task = dead.move_messages(&MoveOptions::new()).unwrap();
    let status = task.run(|_| true).unwrap();
    assert_eq!((status.moved, task.left()), (0, 10));
    assert_eq!(bodies(&dead), numbers(0..10));
}

#[test]
fn messages_go_back_to_a_queue_in_memory_as_they_were_sent_there() {
    let machine = Machine::new("weaker");
    let bus = machine.bus();
    let plain = bus.queue("plain").slots(1024).create().unwrap();
    let dead = durable(&bus, "dead").create().unwrap();
    plain.set(&redrive_to(&dead, 1)).unwrap();
    plain.sender().unwrap().send(b"0000").unwrap();
    fail_all(&plain);
    let mut task = dead.move_messages(&MoveOptions::new()).unwrap();
    assert_eq!(task.run(|_| true).unwrap().moved, 1);
    assert_eq!(bodies(&plain), numbers(0..1));
    drop((task, plain, dead, bus));
    machine.restart();
    // What is in memory is gone with the machine, as ever.
    let bus = machine.bus();
    assert_eq!(bodies(&bus.queue("dead").open().unwrap()), [""; 0]);
}

#[test]
fn what_was_deleted_in_the_dead_letter_queue_does_not_come_back_where_it_came_from() {
    let machine = Machine::new("deleted");
    let bus = machine.bus();
    let (orders, dead) = (
        durable(&bus, "orders").create().unwrap(),
        durable(&bus, "dead").create().unwrap(),
    );
    orders.set(&redrive_to(&dead, 1)).unwrap();
    orders.sender().unwrap().send(b"poison").unwrap();
    fail_all(&orders);
    // Nothing is written to the source behind this.
    let mut receiver = dead.receiver().unwrap();
    let message = receiver.receive(1, Duration::from_secs(5), None).unwrap();
    let receipt = message.first().expect("it has arrived").received.receipt;
    assert!(receiver.delete(&receipt).unwrap());
    drop((receiver, orders, dead, bus));
    machine.restart();

    let bus = machine.bus();
    for name in ["orders", "dead"] {
        assert_eq!(bodies(&bus.queue(name).open().unwrap()), [""; 0], "{name}");
    }
}
