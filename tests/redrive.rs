//! Redrive: what was received too often and not deleted goes to the dead-letter queue, once and
//! whole. As "Using dead-letter queues in Amazon SQS" documents
//! (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html).

use ringway::{
    Attributes, Bus, Message, Outgoing, Queue, QueueKind, QueueReceiver, QueueSendError, Redrive,
    RedriveAllow, SetError, Settings, SettleError,
};
use ringway_harness::TempBus;
use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
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

/// A queue, and where its messages go after `max_receives`.
fn pair(bus: &Bus, max_receives: u16) -> (Queue, Queue) {
    let (source, dead) = (queue(bus, "orders"), queue(bus, "dead"));
    let redrive = Redrive::to(&dead, max_receives);
    source.set(&Settings::new().redrive(redrive)).unwrap();
    (source, dead)
}

/// Receives everything that is offered now, and gives it back at once.
fn receive_and_fail(receiver: &mut QueueReceiver) -> usize {
    let messages = receiver.receive(2000, Duration::ZERO, None).unwrap();
    for message in &messages {
        receiver
            .nack(&message.received.receipt, Duration::ZERO)
            .unwrap();
    }
    messages.len()
}

/// Receives from the source until nothing is there to be received or moved any more.
fn drain(source: &Queue) -> usize {
    let mut receiver = source.receiver().unwrap();
    let mut received = 0;
    loop {
        received += receive_and_fail(&mut receiver);
        let stats = source.stats();
        if stats.visible + stats.parked + stats.moving == 0 {
            return received;
        }
    }
}

fn all(queue: &Queue) -> Vec<Message> {
    let mut receiver = queue.receiver().unwrap();
    let mut messages = Vec::new();
    while messages.len() < queue.stats().visible as usize + queue.stats().in_flight as usize {
        messages.extend(receiver.receive(2000, 10 * S, None).unwrap());
    }
    messages
}

#[test]
fn a_message_received_max_receives_times_goes_to_the_dead_letter_queue_instead_of_once_more() {
    let (_root, bus) = bus();
    let (source, dead) = pair(&bus, 3);
    let position = source.sender().unwrap().send(b"poison").unwrap();
    let mut receiver = source.receiver().unwrap();
    for receives in 1..=3 {
        let messages = receiver.receive(10, 10 * S, None).unwrap();
        assert_eq!(messages.len(), 1, "receive {receives}");
        assert_eq!(messages[0].received.receives(), receives);
        assert_eq!(dead.stats().visible, 0);
        receiver
            .nack(&messages[0].received.receipt, Duration::ZERO)
            .unwrap();
    }
    assert!(
        receiver
            .receive(10, Duration::ZERO, None)
            .unwrap()
            .is_empty()
    );
    let stats = source.stats();
    assert_eq!(
        (stats.visible, stats.in_flight, stats.parked, stats.moving),
        (0, 0, 0, 0)
    );
    assert_eq!((stats.moved, stats.times_parked), (1, 0));
    assert_eq!((dead.stats().visible, dead.stats().arrived), (1, 1));
    let messages = all(&dead);
    assert_eq!(messages[0].body, b"poison");
    assert_eq!(messages[0].received.receives(), 1, "it counts anew there");
    let origin = messages[0].origin().expect("it says where it comes from");
    assert_eq!(
        (origin.queue, origin.position, origin.receives),
        (source.id(), position, 3)
    );
    assert_eq!(messages[0].sender(), bus.me());
}

#[test]
fn body_attributes_and_sent_time_arrive_as_they_were() {
    let (_root, bus) = bus();
    let (source, dead) = pair(&bus, 1);
    let mut attributes = Attributes::new();
    attributes
        .string("city", "Graz")
        .unwrap()
        .binary("seal", &[0, 255])
        .unwrap();
    let mut sender = source.sender().unwrap();
    let mut sent = HashSet::new();
    for len in [0usize, 1, 7, 24, 25, 300, 5000, 70_000] {
        let body: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
        let whole = Outgoing::new(&body).attributes(&attributes);
        let whole = whole.group("g").trace_header("Root=1");
        sender.send_message(&whole).unwrap();
        sender.send(&body).unwrap();
        sent.insert((body.clone(), true));
        sent.insert((body, false));
    }
    let mut receiver = source.receiver().unwrap();
    let times: HashSet<_> = receiver
        .receive(100, S, None)
        .unwrap()
        .into_iter()
        .map(|message| {
            receiver
                .nack(&message.received.receipt, Duration::ZERO)
                .unwrap();
            (message.received.position(), message.received.sent_ms)
        })
        .collect();
    assert_eq!(times.len(), sent.len());
    drop(receiver);
    drain(&source);
    let mut arrived = HashSet::new();
    for message in all(&dead) {
        let has_attributes = message.group().is_some();
        if has_attributes {
            assert_eq!(message.group(), Some("g"));
            assert_eq!(message.trace_header(), Some("Root=1"));
            assert_eq!(
                message.attributes().get("city").unwrap().text(),
                Some("Graz")
            );
            assert_eq!(message.attributes().get("seal").unwrap().bytes(), [0, 255]);
            assert_eq!(message.attributes().len(), 2);
        } else {
            assert!(message.attributes().is_empty());
        }
        let origin = message.origin().unwrap();
        let sent_ms = message.received.sent_ms;
        // The two queues were not created in the same millisecond of both clocks.
        let was_sent = times
            .iter()
            .find(|time| time.0 == origin.position)
            .unwrap()
            .1;
        assert!(
            sent_ms.abs_diff(was_sent) <= 1000,
            "{sent_ms} and {was_sent}"
        );
        assert!(
            arrived.insert((message.body.clone(), has_attributes)),
            "twice"
        );
        assert!(dead.delete(&message.received.receipt).unwrap());
    }
    assert_eq!(arrived, sent);
    drop(sender);
    assert_eq!(
        bus.doctor(false).unwrap().chunks[2],
        0,
        "every chunk went back"
    );
}

#[test]
fn while_the_dead_letter_queue_is_full_a_message_is_parked_and_moves_when_there_is_room() {
    let (_root, bus) = bus();
    let (source, dead) = pair(&bus, 1);
    let mut to_dead = dead.sender().unwrap();
    let full = (0..2000).find(|_| to_dead.send(b"filler").is_err());
    assert_eq!(full, Some(1024));
    let mut sender = source.sender().unwrap();
    sender.send(b"poison").unwrap();
    let mut receiver = source.receiver().unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 1);
    assert_eq!(
        receive_and_fail(&mut receiver),
        0,
        "it is not offered any more"
    );
    assert_eq!((source.stats().parked, source.stats().moving), (1, 0));
    assert_eq!(source.parked()[0].receives, 1);
    // Others are not held up by it.
    sender.send(b"fine").unwrap();
    let message = &receiver.receive(10, S, None).unwrap()[0];
    assert_eq!(message.body, b"fine");
    receiver.delete(&message.received.receipt).unwrap();

    let mut dead_receiver = dead.receiver().unwrap();
    let filler = dead_receiver.receive_and_delete(&mut [0; 64]).unwrap();
    assert!(filler.is_some());
    // A receiver that waits for messages finds it, whether any come or not.
    for _ in 0..1000 {
        if source.stats().parked == 0 {
            break;
        }
        assert!(receiver.receive(1, 20 * MS, None).unwrap().is_empty());
    }
    assert_eq!((source.stats().parked, dead.stats().arrived), (0, 1));
    dead.purge().unwrap();
}

#[test]
fn a_dead_letter_queue_that_is_removed_costs_no_message() {
    let (_root, bus) = bus();
    let (source, _dead) = pair(&bus, 1);
    source.sender().unwrap().send(b"poison").unwrap();
    let mut receiver = source.receiver().unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 1);
    bus.remove("dead").unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 0);
    assert_eq!(source.stats().parked, 1);
    // Another one takes its place.
    let other = queue(&bus, "other");
    source
        .set(&Settings::new().redrive(Redrive::to(&other, 1)))
        .unwrap();
    drain(&source);
    assert_eq!(all(&other)[0].body, b"poison");
}

#[test]
fn a_message_parked_for_a_policy_that_is_no_more_is_received_again() {
    let (_root, bus) = bus();
    let (source, _dead) = pair(&bus, 1);
    source.sender().unwrap().send(b"poison").unwrap();
    let mut receiver = source.receiver().unwrap();
    bus.remove("dead").unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 1);
    assert_eq!(receive_and_fail(&mut receiver), 0);
    assert_eq!(source.stats().parked, 1);
    source.set(&Settings::new().redrive(None)).unwrap();
    let messages = receiver.receive(10, 10 * S, None).unwrap();
    assert_eq!(messages[0].received.receives(), 2);
}

#[test]
fn a_policy_counts_for_messages_that_are_in_the_queue() {
    let (_root, bus) = bus();
    let (source, dead) = (queue(&bus, "orders"), queue(&bus, "dead"));
    source.sender().unwrap().send(b"poison").unwrap();
    let mut receiver = source.receiver().unwrap();
    for _ in 0..5 {
        assert_eq!(receive_and_fail(&mut receiver), 1);
    }
    source
        .set(&Settings::new().redrive(Redrive::to(&dead, 5)))
        .unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 0);
    assert_eq!(dead.stats().visible, 1);
}

#[test]
fn a_receipt_of_a_message_that_was_moved_does_nothing() {
    let (_root, bus) = bus();
    let (source, dead) = pair(&bus, 1);
    source.sender().unwrap().send(b"poison").unwrap();
    let mut receiver = source.receiver().unwrap();
    let received = receiver.receive(1, S, None).unwrap()[0].received;
    receiver.nack(&received.receipt, Duration::ZERO).unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 0);
    assert!(!receiver.delete(&received.receipt).unwrap());
    assert!(matches!(
        receiver.change_visibility(&received.receipt, S),
        Err(SettleError::Gone { .. })
    ));
    assert_eq!(dead.stats().visible, 1);
}

#[test]
fn messages_that_are_deleted_in_time_never_go_there() {
    let (_root, bus) = bus();
    let (source, dead) = pair(&bus, 2);
    let mut sender = source.sender().unwrap();
    let mut receiver = source.receiver().unwrap();
    for round in 0..3000u64 {
        sender.send(&round.to_le_bytes()).unwrap();
        let received = receiver.receive(1, S, None).unwrap()[0].received;
        if round % 3 == 0 {
            receiver.nack(&received.receipt, Duration::ZERO).unwrap();
            let again = receiver.receive(1, S, None).unwrap()[0].received;
            assert_eq!(again.receives(), 2);
            receiver.delete(&again.receipt).unwrap();
        } else {
            receiver.delete(&received.receipt).unwrap();
        }
    }
    assert_eq!((dead.stats().arrived, source.stats().moved), (0, 0));
}

#[test]
fn many_receivers_move_each_message_once() {
    let (root, bus) = bus();
    let (source, dead) = pair(&bus, 2);
    let count = 900u64;
    let mut sender = source.sender().unwrap();
    for number in 0..count {
        // Every third lies in the pool.
        let len = if number % 3 == 0 { 2000 } else { 8 };
        let mut body = vec![7; len];
        body[..8].copy_from_slice(&number.to_le_bytes());
        sender.send(&body).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let root = root.path();
            scope.spawn(move || {
                let bus = Bus::builder("test").root(root).open().unwrap();
                drain(&bus.queue("orders").open().unwrap());
            });
        }
    });
    let mut numbers: Vec<u64> = all(&dead)
        .iter()
        .map(|message| u64::from_le_bytes(message.body[..8].try_into().unwrap()))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    assert_eq!(dead.purge().unwrap(), count);
    drop(sender);
    let report = bus.doctor(false).unwrap();
    assert_eq!((report.chunks[2], report.lost_chunks), (0, 0));
}

#[test]
fn a_dead_letter_queue_says_who_may_have_it() {
    let (_root, bus) = bus();
    let (source, dead) = (queue(&bus, "orders"), queue(&bus, "dead"));
    let redrive = Settings::new().redrive(Redrive::to(&dead, 5));
    dead.set(&Settings::new().redrive_allow(RedriveAllow::None))
        .unwrap();
    let refused = source.set(&redrive);
    assert!(
        matches!(&refused, Err(SetError::TargetRefuses { target }) if target == "dead"),
        "{refused:?}"
    );
    assert_eq!(source.settings().redrive, None);
    let others: Vec<u64> = (1..=9).collect();
    dead.set(&Settings::new().redrive_allow(RedriveAllow::Queues(others.clone())))
        .unwrap();
    assert!(matches!(
        source.set(&redrive),
        Err(SetError::TargetRefuses { .. })
    ));
    let with_it = RedriveAllow::Queues([&others[..], &[source.id()]].concat());
    dead.set(&Settings::new().redrive_allow(with_it.clone()))
        .unwrap();
    assert_eq!(dead.settings().redrive_allow, with_it);
    source.set(&redrive).unwrap();
    for count in [0, 11] {
        let listed = RedriveAllow::Queues(vec![1; count]);
        assert!(matches!(
            dead.set(&Settings::new().redrive_allow(listed)),
            Err(SetError::InvalidSetting {
                setting: "redrive_allow",
                ..
            })
        ));
    }
}

#[test]
fn a_policy_that_makes_no_sense_is_refused() {
    let (_root, bus) = bus();
    let (source, dead) = (queue(&bus, "orders"), queue(&bus, "dead"));
    let to = |target: &Queue, most| Settings::new().redrive(Redrive::to(target, most));
    for most in [0, 1001] {
        assert!(matches!(
            source.set(&to(&dead, most)),
            Err(SetError::InvalidSetting {
                setting: "max_receives",
                ..
            })
        ));
    }
    source.set(&to(&dead, 1000)).unwrap();
    assert!(matches!(
        source.set(&to(&source, 1)),
        Err(SetError::OwnTarget)
    ));
    let nobody = Redrive {
        target: 77,
        max_receives: 1,
    };
    assert!(matches!(
        source.set(&Settings::new().redrive(nobody)),
        Err(SetError::NoSuchTarget { target: 77 })
    ));
    assert_eq!(source.settings().redrive, Some(Redrive::to(&dead, 1000)));
}

#[test]
fn a_dead_letter_queue_knows_its_sources() {
    let (_root, bus) = bus();
    let (source, dead) = pair(&bus, 1);
    let second = queue(&bus, "second");
    queue(&bus, "third");
    assert_eq!(dead.redrive_sources().unwrap(), ["orders"]);
    second
        .set(&Settings::new().redrive(Redrive::to(&dead, 9)))
        .unwrap();
    assert_eq!(dead.redrive_sources().unwrap(), ["orders", "second"]);
    source.set(&Settings::new().redrive(None)).unwrap();
    assert_eq!(dead.redrive_sources().unwrap(), ["second"]);
    assert!(source.redrive_sources().unwrap().is_empty());
}

#[test]
fn without_room_in_the_pool_a_large_message_stays() {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(9 << 20)
        .create()
        .unwrap();
    let (source, dead) = pair(&bus, 1);
    let mut sender = source.sender().unwrap();
    let mut hoard = Vec::new();
    loop {
        match sender.loan(200_000) {
            Ok(loan) => hoard.push(loan),
            Err(QueueSendError::PoolExhausted { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let mut loan = hoard.pop().unwrap();
    loan.fill(7);
    sender
        .send_loan(loan)
        .unwrap_or_else(|(error, _)| panic!("{error}"));
    let mut receiver = source.receiver().unwrap();
    assert_eq!(receive_and_fail(&mut receiver), 1);
    assert_eq!(receive_and_fail(&mut receiver), 0);
    assert_eq!((source.stats().parked, dead.stats().arrived), (1, 0));
    drop(hoard);
    drop(sender);
    for _ in 0..1000 {
        if source.stats().parked == 0 {
            break;
        }
        assert!(receiver.receive(1, 20 * MS, None).unwrap().is_empty());
    }
    assert_eq!(all(&dead)[0].body, vec![7; 200_000]);
}

#[test]
fn the_dead_letter_queue_of_a_fifo_queue_is_a_fifo_queue_and_keeps_the_order() {
    let (_root, bus) = bus();
    let fifo = |name| {
        bus.queue(name)
            .slots(1024)
            .stride(256)
            .fifo()
            .create()
            .unwrap()
    };
    let (source, dead, standard) = (fifo("orders"), fifo("dead"), queue(&bus, "standard"));
    for (one, other) in [(&source, &standard), (&standard, &source)] {
        let refused = one.set(&Settings::new().redrive(Redrive::to(other, 1)));
        assert!(
            matches!(refused, Err(SetError::OtherKind { .. })),
            "{refused:?}"
        );
    }
    source
        .set(&Settings::new().redrive(Redrive::to(&dead, 1)))
        .unwrap();
    let mut sender = source.sender().unwrap();
    for number in 0..90u64 {
        let group = format!("group-{}", number % 3);
        let body = number.to_le_bytes();
        sender
            .send_message(&Outgoing::new(&body).group(&group))
            .unwrap();
    }
    drain(&source);
    let mut seen = [0u64; 3];
    let mut receiver = dead.receiver().unwrap();
    for _ in 0..90 {
        let message = &receiver.receive(1, 10 * S, None).unwrap()[0];
        let number = u64::from_le_bytes(message.body[..].try_into().unwrap());
        let group = (number % 3) as usize;
        assert_eq!(message.group(), Some(&*format!("group-{group}")));
        assert_eq!(number / 3, seen[group], "in order within {group}");
        seen[group] += 1;
        receiver.delete(&message.received.receipt).unwrap();
    }
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

/// "For standard queues, the expiration of a message is always based on its original enqueue timestamp.
/// … For FIFO queues, the enqueue timestamp resets when the message is moved to a dead-letter queue":
/// "Setting-up dead-letter queue retention in Amazon SQS", Amazon SQS Developer Guide
/// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html).
#[test]
fn in_a_dead_letter_queue_a_message_ages_on_and_in_one_of_a_fifo_queue_from_its_arrival() {
    for (kind, stay) in [(QueueKind::Standard, 0), (QueueKind::Fifo, 1)] {
        let (root, bus) = bus();
        let builder = |name: &str| bus.queue(name).kind(kind).slots(1024).stride(256);
        let source = builder("orders").create().unwrap();
        builder("dead").retention(60 * S).create().unwrap();
        let mut sender = source.sender().unwrap();
        let message = Outgoing::new(b"poison").group("g");
        sender.send_message(&message).unwrap();
        drop((sender, source, bus));
        for queue in ["orders", "dead"] {
            grow_older(&root, queue, 120 * S);
        }
        let bus = Bus::builder("test").root(root.path()).open().unwrap();
        let (source, dead) = (
            bus.queue("orders").open().unwrap(),
            bus.queue("dead").open().unwrap(),
        );
        let redrive = Settings::new().redrive(Redrive::to(&dead, 1));
        source.set(&redrive).unwrap();
        assert_eq!(drain(&source), 1);
        assert_eq!(source.stats().moved, 1);
        assert_eq!(dead.stats().visible, stay, "{kind:?}");
        let mut receiver = dead.receiver().unwrap();
        let arrived = receiver.receive(1, Duration::ZERO, None).unwrap();
        assert_eq!(arrived.len() as u64, stay, "{kind:?}");
    }
}
