//! Moving the messages of a queue on, or back to where they came from, as StartMessageMoveTask does
//! (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html).

use ringway::{Bus, MoveError, MoveOptions, MoveState, Outgoing, Queue, Redrive, Settings};
use ringway_harness::{AckBoard, Launch, Stage, TempBus};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

ringway_harness::roles! { runner => run_until_killed }

const S: Duration = Duration::from_secs(1);

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test").root(root.path());
    let bus = bus.pool_bytes(64 << 20).create().unwrap();
    (root, bus)
}

fn queue(bus: &Bus, name: &str) -> Queue {
    bus.queue(name).slots(1024).stride(64).create().unwrap()
}

fn send(queue: &Queue, numbers: std::ops::Range<u64>) {
    let mut sender = queue.sender().unwrap();
    for number in numbers {
        let len = if number % 5 == 0 { 3000 } else { 8 };
        let mut body = vec![number as u8; len];
        body[..8].copy_from_slice(&number.to_le_bytes());
        sender.send(&body).unwrap();
    }
}

/// What is in a queue, and how often.
fn numbers(queue: &Queue) -> BTreeMap<u64, u64> {
    let mut receiver = queue.receiver().unwrap();
    let mut numbers = BTreeMap::new();
    for message in receiver.receive(2000, Duration::ZERO, None).unwrap() {
        let number = u64::from_le_bytes(message.body[..8].try_into().unwrap());
        assert!(message.body[8..].iter().all(|byte| *byte == number as u8));
        *numbers.entry(number).or_default() += 1;
    }
    numbers
}

fn once(range: std::ops::Range<u64>) -> BTreeMap<u64, u64> {
    range.map(|number| (number, 1)).collect()
}

#[test]
fn every_message_goes_to_the_destination_once_and_whole() {
    let (_root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    send(&from, 0..500);
    let options = MoveOptions::new().destination(&to);
    let mut task = from.move_messages(&options).unwrap();
    let mut shown = Vec::new();
    let status = task.run(|status| {
        shown.push((status.moved, status.to_move));
        true
    });
    let status = status.unwrap();
    assert_eq!(status.state, MoveState::Completed);
    assert_eq!(
        (status.moved, status.to_move, status.destination),
        (500, 500, Some(to.id()))
    );
    assert!(shown.len() > 5, "it shows how far it is: {shown:?}");
    assert!(
        shown.windows(2).all(|pair| pair[0].0 <= pair[1].0),
        "{shown:?}"
    );
    assert_eq!(numbers(&to), once(0..500));
    assert_eq!(
        (from.stats().visible, from.stats().moved, to.stats().arrived),
        (0, 500, 500)
    );
    drop(task);
    to.purge().unwrap();
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn messages_of_a_dead_letter_queue_go_back_to_where_each_came_from() {
    let (_root, bus) = bus();
    let dead = queue(&bus, "dead");
    let sources = [queue(&bus, "one"), queue(&bus, "two")];
    for (n, source) in sources.iter().enumerate() {
        source
            .set(&Settings::new().redrive(Redrive::to(&dead, 1)))
            .unwrap();
        let first = 100 * n as u64;
        send(source, first..first + 50);
        let mut receiver = source.receiver().unwrap();
        for message in receiver.receive(100, S, None).unwrap() {
            receiver
                .nack(&message.received.receipt, Duration::ZERO)
                .unwrap();
        }
        while source.stats().moved < 50 {
            assert!(
                receiver
                    .receive(1, Duration::ZERO, None)
                    .unwrap()
                    .is_empty()
            );
        }
    }
    // One that nobody moved here does not say where it would go back to.
    send(&dead, 900..901);
    for source in &sources {
        source.set(&Settings::new().redrive(None)).unwrap();
    }
    let mut task = dead.move_messages(&MoveOptions::new()).unwrap();
    let status = task.run(|_| true).unwrap();
    assert_eq!(
        (status.state, status.moved, status.to_move),
        (MoveState::Completed, 100, 101)
    );
    assert_eq!(task.left(), 1);
    assert_eq!(numbers(&sources[0]), once(0..50));
    assert_eq!(numbers(&sources[1]), once(100..150));
    assert_eq!(numbers(&dead), once(900..901));
}

/// As a dead-letter queue is that nobody looks into.
#[test]
fn messages_of_a_fifo_queue_are_moved_in_order_also_when_nobody_ever_received_there() {
    let (_root, bus) = bus();
    let fifo = |name: &str| {
        let builder = bus.queue(name).fifo().slots(1024).stride(192);
        builder.create().unwrap()
    };
    let (from, to) = (fifo("from"), fifo("to"));
    let mut sender = from.sender().unwrap();
    for number in 0..200u64 {
        let (body, group) = (number.to_le_bytes(), format!("group-{}", number % 3));
        let message = Outgoing::new(&body).group(&group);
        sender.send_message(&message).unwrap();
    }
    let options = MoveOptions::new().destination(&to);
    let status = from.move_messages(&options).unwrap().run(|_| true).unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Completed, 200));
    let mut receiver = to.receiver().unwrap();
    let mut next = [0, 1, 2];
    for message in receiver.receive(1000, Duration::ZERO, None).unwrap() {
        let number = u64::from_le_bytes(message.body[..8].try_into().unwrap());
        let next = &mut next[(number % 3) as usize];
        assert_eq!(number, *next);
        *next += 3;
    }
    assert_eq!(next, [201, 202, 200]);
}

/// Of a queue's messages sixteen queues get some, during its life. What belongs to a further one stays, and
/// holds up nothing behind it.
#[test]
fn what_came_from_a_seventeenth_queue_stays_and_holds_up_nothing() {
    let (_root, bus) = bus();
    let dead = queue(&bus, "dead");
    let sources: Vec<_> = (0..17).map(|n| queue(&bus, &format!("s{n}"))).collect();
    for round in 0..2 {
        for (n, source) in sources.iter().enumerate() {
            let redrive = Redrive::to(&dead, 1);
            source.set(&Settings::new().redrive(redrive)).unwrap();
            let number = 100 * n as u64 + round;
            send(source, number..number + 1);
            let mut receiver = source.receiver().unwrap();
            let received = receiver.receive(1, S, None).unwrap().remove(0).received;
            receiver.nack(&received.receipt, Duration::ZERO).unwrap();
            while source.stats().moved <= round {
                receiver.receive(1, Duration::ZERO, None).unwrap();
            }
            source.set(&Settings::new().redrive(None)).unwrap();
        }
    }
    let mut task = dead.move_messages(&MoveOptions::new()).unwrap();
    for _ in 0..100 {
        if task.step().unwrap().state != MoveState::Running {
            break;
        }
    }
    let status = dead.move_status().unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Completed, 32));
    assert_eq!((task.left(), dead.stats().visible), (2, 2));
    for source in &sources[..16] {
        assert_eq!(source.stats().visible, 2);
    }
}

#[test]
fn messages_in_flight_or_delayed_or_sent_later_stay() {
    let (_root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    send(&from, 0..3);
    let mut receiver = from.receiver().unwrap();
    let held = receiver.receive(1, S, None).unwrap();
    from.sender()
        .unwrap()
        .send_delayed(&[0; 8], 900 * S)
        .unwrap();
    let mut task = from
        .move_messages(&MoveOptions::new().destination(&to))
        .unwrap();
    send(&from, 7..8);
    assert_eq!(task.run(|_| true).unwrap().moved, 2);
    let stats = from.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.delayed), (1, 1, 1));
    assert!(receiver.delete(&held[0].received.receipt).unwrap());
    assert_eq!(numbers(&to), once(1..3));
}

#[test]
fn no_more_than_the_rate_is_moved_in_a_second() {
    let (_root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    send(&from, 0..30);
    let options = MoveOptions::new().destination(&to).max_per_second(10);
    let mut task = from.move_messages(&options).unwrap();
    let started = Instant::now();
    assert_eq!(task.run(|_| true).unwrap().moved, 30);
    // Three seconds of the clock have a part in it: at least a whole one lies between.
    assert!(started.elapsed() > S, "{:?}", started.elapsed());
}

#[test]
fn a_queue_has_one_task_at_a_time_and_anybody_sees_and_cancels_it() {
    let (root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    send(&from, 0..300);
    assert_eq!(from.move_status(), None);
    let options = MoveOptions::new().destination(&to);
    let mut task = from.move_messages(&options).unwrap();
    let there = Bus::builder("test").root(root.path()).open().unwrap();
    let same = there.queue("from").open().unwrap();
    let busy = same.move_messages(&options);
    assert!(matches!(busy, Err(MoveError::Busy { by }) if by == bus.me()));
    assert!(matches!(same.resume_move(), Err(MoveError::Busy { .. })));
    task.step().unwrap();
    let status = same.move_status().unwrap();
    assert_eq!(
        (status.state, status.runner),
        (MoveState::Running, Some(bus.me()))
    );
    assert!(status.moved > 0 && status.moved < 300, "{status:?}");
    assert!(same.cancel_move());
    assert_eq!(same.move_status().unwrap().state, MoveState::Cancelling);
    let status = task.run(|_| true).unwrap();
    assert_eq!(status.state, MoveState::Cancelled);
    drop(task);
    assert!(!same.cancel_move());
    assert_eq!(from.stats().visible + to.stats().visible, 300);
    assert_eq!(to.stats().visible, status.moved);
    // Then there may be another.
    let status = same.move_messages(&options).unwrap().run(|_| true).unwrap();
    assert_eq!(status.state, MoveState::Completed);
    assert_eq!(numbers(&to), once(0..300));
}

#[test]
fn a_task_that_was_left_is_gone_on_with_by_anybody() {
    let (root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    send(&from, 0..300);
    assert!(from.resume_move().unwrap().is_none());
    let mut task = from
        .move_messages(&MoveOptions::new().destination(&to))
        .unwrap();
    task.run(|_| false).unwrap();
    drop(task);
    assert_eq!(from.move_status().unwrap().state, MoveState::Stopped);
    let there = Bus::builder("test").root(root.path()).open().unwrap();
    let same = there.queue("from").open().unwrap();
    let mut task = same.resume_move().unwrap().expect("one was left");
    let status = task.run(|_| true).unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Completed, 300));
    assert_eq!(numbers(&to), once(0..300));
}

/// Begins to move what is in `from` to `to`, and says so.
fn run_until_killed(stage: &Stage) -> Result<(), String> {
    let bus = Bus::builder("test").root(stage.path("root")).open();
    let bus = bus.map_err(|error| error.to_string())?;
    let queue = |name| bus.queue(name).open().map_err(|error| error.to_string());
    let options = MoveOptions::new().destination(&queue("to")?);
    let from = queue("from")?;
    let mut task = from.move_messages(&options).map_err(|e| e.to_string())?;
    task.step().map_err(|error| error.to_string())?;
    stage.board("board").set(0, 1);
    loop {
        std::thread::park();
    }
}

#[test]
fn a_task_of_the_dead_is_gone_on_with_whoever_has_the_number_of_its_runner_by_now() {
    let (root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    send(&from, 0..300);
    let board = AckBoard::new(1).unwrap();
    let launch = Launch::role("runner").set("root", root.path().display());
    let mut runner = launch.board("board", &board).spawn().unwrap();
    board.await_at_least(0, 1, &runner, "the task").unwrap();
    let number = from.move_status().unwrap().runner;
    assert!(matches!(from.resume_move(), Err(MoveError::Busy { .. })));
    runner.kill().unwrap();
    bus.reap().unwrap();
    let heir = Bus::builder("test").root(root.path()).open().unwrap();
    assert_eq!(Some(heir.me()), number, "a newcomer has the number");
    assert_eq!(from.move_status().unwrap().state, MoveState::Stopped);
    let mut task = from.resume_move().unwrap().expect("one was left");
    let status = task.run(|_| true).unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Completed, 300));
    assert_eq!(numbers(&to), once(0..300));
}

/// As if a queue had been made earlier, its epoch, which is where its times count from.
fn grow_older(root: &TempBus, queue: &str, by: Duration) {
    let path = root.path().join("ringway-test/objects").join(queue);
    let file = std::fs::File::options().read(true).write(true).open(path);
    let (file, mut epoch) = (file.unwrap(), [0; 8]);
    file.read_exact_at(&mut epoch, 248).unwrap();
    let earlier = u64::from_le_bytes(epoch) - by.as_millis() as u64;
    file.write_all_at(&earlier.to_le_bytes(), 248).unwrap();
}

/// "The redrive task resets the retention period": "Learn how to configure a dead-letter queue redrive in
/// Amazon SQS", Amazon SQS Developer Guide
/// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html).
#[test]
fn what_a_task_moves_is_as_new_where_it_arrives() {
    let (root, bus) = bus();
    let to = bus.queue("to").slots(1024).stride(64).retention(60 * S);
    to.create().unwrap();
    send(&queue(&bus, "from"), 0..20);
    drop(bus);
    for queue in ["from", "to"] {
        grow_older(&root, queue, 120 * S);
    }
    let bus = Bus::builder("test").root(root.path()).open().unwrap();
    let (from, to) = (
        bus.queue("from").open().unwrap(),
        bus.queue("to").open().unwrap(),
    );
    assert!(from.stats().oldest_age.unwrap() >= 120 * S);
    let options = MoveOptions::new().destination(&to);
    let status = from.move_messages(&options).unwrap().run(|_| true).unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Completed, 20));
    assert!(to.stats().oldest_age.unwrap() < 60 * S);
    assert_eq!(numbers(&to), once(0..20));
}

#[test]
fn what_is_past_its_retention_is_not_brought_back_by_a_move() {
    let (root, bus) = bus();
    let from = bus.queue("from").slots(1024).stride(64).retention(60 * S);
    send(&from.create().unwrap(), 0..20);
    queue(&bus, "to");
    drop(bus);
    grow_older(&root, "from", 120 * S);
    let bus = Bus::builder("test").root(root.path()).open().unwrap();
    let (from, to) = (
        bus.queue("from").open().unwrap(),
        bus.queue("to").open().unwrap(),
    );
    let options = MoveOptions::new().destination(&to);
    let status = from.move_messages(&options).unwrap().run(|_| true).unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Completed, 0));
    assert_eq!((from.stats().visible, to.stats().visible), (0, 0));
}

#[test]
fn a_task_waits_for_room_and_ends_when_its_destination_goes() {
    let (_root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    let mut filler = to.sender().unwrap();
    while filler.send(b"filler").is_ok() {}
    send(&from, 0..10);
    let mut task = from
        .move_messages(&MoveOptions::new().destination(&to))
        .unwrap();
    let status = task.step().unwrap();
    assert_eq!((status.state, status.moved), (MoveState::Running, 0));
    to.purge().unwrap();
    assert_eq!(task.step().unwrap().moved, 10);
    drop(task);
    send(&from, 10..20);
    let mut task = from
        .move_messages(&MoveOptions::new().destination(&to))
        .unwrap();
    bus.remove("to").unwrap();
    assert!(matches!(task.step(), Err(MoveError::DestinationGone)));
    assert_eq!(from.move_status().unwrap().state, MoveState::Failed);
    assert_eq!(numbers(&from), once(10..20), "nothing was lost");
}

#[test]
fn a_destination_that_makes_no_sense_is_refused() {
    let (_root, bus) = bus();
    let (from, to) = (queue(&bus, "from"), queue(&bus, "to"));
    let own = from.move_messages(&MoveOptions::new().destination(&from));
    assert!(matches!(own, Err(MoveError::OwnDestination)));
    bus.remove("to").unwrap();
    let gone = from.move_messages(&MoveOptions::new().destination(&to));
    assert!(matches!(gone, Err(MoveError::NoSuchDestination { .. })));
    assert_eq!(from.move_status(), None);
}
