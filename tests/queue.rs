//! A queue seen from outside: what is sent is received by one at a time until it is deleted; a
//! receipt does what it says or nothing; what is wrong is said.

use ringway::{
    Bus, Idle, OpenError, Queue, QueueReceiver, QueueSendError, Receipt, ReceiveError, Received,
    SettleError,
};
use ringway_harness::TempBus;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    (root, bus)
}

fn small(bus: &Bus) -> Queue {
    bus.queue("q").slots(1024).stride(64).create().unwrap()
}

fn word(receiver: &mut QueueReceiver) -> Option<(u64, Received)> {
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).unwrap()?;
    assert_eq!(received.len, 8);
    Some((u64::from_le_bytes(buffer), received))
}

/// Looks until there is a message: for what becomes visible by itself.
fn await_word(receiver: &mut QueueReceiver) -> (u64, Received) {
    let mut buffer = [0; 8];
    let received = receiver.receive_into(&mut buffer, 60 * S).unwrap();
    (
        u64::from_le_bytes(buffer),
        received.expect("a message within ten seconds"),
    )
}

#[test]
fn in_the_quiet_case_messages_come_in_order_and_once() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 4096];
    for round in 0..10_000u64 {
        let body: Vec<u8> = (0..round % 300).map(|i| (i ^ round) as u8).collect();
        assert_eq!(sender.send(&body).unwrap(), round);
        let received = receiver
            .try_receive(&mut buffer)
            .unwrap()
            .expect("a message");
        assert_eq!((received.position(), received.receives()), (round, 1));
        assert_eq!(&buffer[..received.len], body, "round {round}");
        assert!(receiver.try_receive(&mut buffer).unwrap().is_none());
        assert!(receiver.delete(&received.receipt).unwrap());
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.damaged), (0, 0, 0));
    assert_eq!(stats.oldest_age, None);
    // Every large body went back into the pool.
    drop((sender, receiver));
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn a_message_is_invisible_for_its_visibility_and_then_comes_again() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    one.set_visibility(200 * MS).unwrap();
    sender.send(&7u64.to_le_bytes()).unwrap();
    let before = Instant::now();
    let (_, first) = word(&mut one).unwrap();
    let (body, second) = await_word(&mut two);
    assert!(before.elapsed() >= 200 * MS, "{:?}", before.elapsed());
    assert_eq!((body, second.receives()), (7, 2));
    assert_eq!(first.position(), second.position());

    // The first receipt can do nothing any more.
    for outcome in [
        one.delete(&first.receipt).map(drop),
        one.change_visibility(&first.receipt, S),
        one.nack(&first.receipt, Duration::ZERO),
    ] {
        assert!(
            matches!(outcome, Err(SettleError::StaleReceipt { receives: 2, .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(queue.stats().in_flight, 1);
    assert!(
        one.delete(&second.receipt).unwrap(),
        "anybody may settle a receipt"
    );
    assert!(
        !two.delete(&second.receipt).unwrap(),
        "deleting twice is no error"
    );
    assert!(matches!(
        two.change_visibility(&second.receipt, S),
        Err(SettleError::Gone { position: 0 })
    ));
}

#[test]
fn a_lease_that_is_over_can_be_deleted_and_not_changed() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    receiver.set_visibility(Duration::ZERO).unwrap();
    sender.send(&7u64.to_le_bytes()).unwrap();
    let (_, first) = word(&mut receiver).unwrap();
    let changed = receiver.change_visibility(&first.receipt, S);
    assert!(
        matches!(changed, Err(SettleError::NotInFlight { position: 0 })),
        "{changed:?}"
    );
    assert_eq!(queue.stats().visible, 1);
    assert!(receiver.delete(&first.receipt).unwrap());
    assert_eq!(queue.stats().visible, 0);
}

#[test]
fn extended_a_message_stays_hidden_and_given_back_it_comes_at_once() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    receiver.set_visibility(100 * MS).unwrap();
    sender.send(&7u64.to_le_bytes()).unwrap();
    // Once, but where the machine pauses for longer than the lease.
    let first = loop {
        let (_, first) = await_word(&mut receiver);
        if receiver.change_visibility(&first.receipt, 60 * S).is_ok() {
            break first;
        }
    };
    let mut buffer = [0; 8];
    assert_eq!(receiver.receive_into(&mut buffer, 250 * MS).unwrap(), None);
    receiver
        .change_visibility(&first.receipt, Duration::ZERO)
        .unwrap();
    // Or the extended lease would have to end first.
    receiver.set_visibility(60 * S).unwrap();
    let (_, second) = word(&mut receiver).expect("visible at once");
    assert_eq!(second.receives(), first.receives() + 1);

    let before = Instant::now();
    receiver.nack(&second.receipt, 150 * MS).unwrap();
    let early = word(&mut receiver);
    assert!(early.is_none() || before.elapsed() >= 150 * MS);
    let (_, third) = early.unwrap_or_else(|| await_word(&mut receiver));
    assert!(before.elapsed() >= 150 * MS, "{:?}", before.elapsed());
    assert_eq!(third.receives(), first.receives() + 2);
}

/// A visibility time-out that is changed is that of this receive; a later one has that of the queue: "Amazon
/// SQS visibility timeout", Amazon SQS Developer Guide
/// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html).
#[test]
fn an_extended_visibility_is_that_of_one_receive_and_not_of_the_next() {
    let (_root, bus) = bus();
    let queue = bus.queue("q").slots(1024).visibility(5 * MS).create();
    let queue = queue.unwrap();
    queue.sender().unwrap().send(b"1").unwrap();
    let mut receiver = queue.receiver().unwrap();
    let (_, first) = await_word(&mut receiver);
    receiver
        .change_visibility(&first.receipt, 43_200 * S)
        .unwrap();
    assert!(word(&mut receiver).is_none());
    receiver.nack(&first.receipt, Duration::ZERO).unwrap();
    let (_, second) = await_word(&mut receiver);
    assert_eq!(second.receives(), 2);
    // Nobody gives it back: it comes again after the queue's five milliseconds, not after twelve hours.
    let (_, third) = await_word(&mut receiver);
    assert_eq!(third.receives(), 3);
}

#[test]
fn a_delayed_message_is_not_seen_before_its_time_and_in_order_of_due_times() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    // Once, but where the machine pauses for as long as the delays.
    for _ in 0..100 {
        let before = Instant::now();
        sender.send_delayed(&2u64.to_le_bytes(), 300 * MS).unwrap();
        sender.send_delayed(&1u64.to_le_bytes(), 100 * MS).unwrap();
        sender
            .send_delayed(&0u64.to_le_bytes(), Duration::ZERO)
            .unwrap();
        let (delayed, counted) = (queue.stats().delayed, before.elapsed());
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (body, received) = await_word(&mut receiver);
            let due = [0, 100, 300][body as usize];
            assert!(before.elapsed() >= due * MS, "{body} came early");
            assert_eq!(received.receives(), 1);
            seen.push((body, before.elapsed()));
            assert!(receiver.delete(&received.receipt).unwrap());
        }
        if counted < 100 * MS && seen[0].1 < 100 * MS && seen[1].1 < 300 * MS {
            let order: Vec<_> = seen.iter().map(|(body, _)| *body).collect();
            assert_eq!((delayed, &*order), (2, &[0, 1, 2][..]));
            return;
        }
    }
    panic!("a hundred pauses of the machine");
}

#[test]
fn the_delay_of_the_queue_counts_for_every_send_that_names_none() {
    let (_root, bus) = bus();
    let builder = bus.queue("q").slots(1024).delay(900 * S);
    let queue = builder.create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send(&7u64.to_le_bytes()).unwrap();
    sender.send_batch(&[[1; 8], [2; 8]]).unwrap();
    let mut loan = sender.loan(8).unwrap();
    loan.copy_from_slice(&[3; 8]);
    sender.send_loan(loan).map_err(|(error, _)| error).unwrap();
    assert_eq!(queue.stats().delayed, 4);
    assert!(word(&mut receiver).is_none());
    sender
        .send_delayed(&9u64.to_le_bytes(), Duration::ZERO)
        .unwrap();
    assert_eq!(word(&mut receiver).unwrap().0, 9);
    assert_eq!(queue.purge().unwrap(), 5);
    assert_eq!(queue.stats().delayed, 0);
}

#[test]
fn a_full_queue_refuses_and_messages_in_flight_are_stepped_over() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..1024u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let refused = sender.send(&[0; 8]).unwrap_err();
    assert!(
        matches!(
            refused,
            QueueSendError::Full {
                capacity: 1024,
                by: None
            }
        ),
        "{refused:?}"
    );
    let refused = sender.send_timeout(&[0; 8], 20 * MS).unwrap_err();
    assert!(
        matches!(refused, QueueSendError::Full { .. }),
        "{refused:?}"
    );

    let leases: Vec<_> = (0..1024).map(|_| word(&mut receiver).unwrap()).collect();
    // Each attempt steps over a whole round of positions, which receivers have to skip.
    for _ in 0..5 {
        let refused = sender.send(&[0; 8]).unwrap_err();
        assert!(
            matches!(refused, QueueSendError::Full { by: Some(by), .. } if by == bus.me()),
            "everything is in flight: {refused:?}"
        );
    }
    // Every third is deleted: its slot, and only its slot, takes a new message.
    for (_, received) in leases.iter().step_by(3) {
        assert!(receiver.delete(&received.receipt).unwrap());
    }
    let mut sent = 0u64;
    while sender.send(&(5000 + sent).to_le_bytes()).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 1024u64.div_ceil(3));
    for number in 0..sent {
        assert_eq!(word(&mut receiver).unwrap().0, 5000 + number);
    }
    assert!(word(&mut receiver).is_none());
    // The receipts of the first lap are as good as ever.
    for (index, (number, received)) in leases.iter().enumerate() {
        assert_eq!(*number, index as u64);
        let deleted = receiver.delete(&received.receipt).unwrap();
        assert_eq!(deleted, index % 3 != 0, "message {index}");
    }
}

#[test]
fn a_message_is_given_to_one_receiver_at_a_time() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    const MESSAGES: u64 = 60_000;
    let seen: Vec<std::sync::atomic::AtomicU32> = (0..MESSAGES).map(|_| 0.into()).collect();
    std::thread::scope(|scope| {
        for part in 0..2 {
            let mut sender = queue.sender().unwrap();
            scope.spawn(move || {
                for number in (part..MESSAGES).step_by(2) {
                    sender.send_timeout(&number.to_le_bytes(), 60 * S).unwrap();
                }
            });
        }
        for _ in 0..3 {
            let mut receiver = queue.receiver().unwrap();
            let (queue, seen) = (&queue, &seen);
            scope.spawn(move || {
                let mut buffer = [0; 8];
                while let Some(received) = receiver.receive_into(&mut buffer, S).unwrap() {
                    assert_eq!(received.receives(), 1);
                    let number = u64::from_le_bytes(buffer) as usize;
                    seen[number].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number.is_multiple_of(2) {
                        assert!(receiver.delete(&received.receipt).unwrap());
                    } else {
                        assert!(queue.delete(&received.receipt).unwrap());
                    }
                }
            });
        }
    });
    for (number, seen) in seen.iter().enumerate() {
        assert_eq!(
            seen.load(std::sync::atomic::Ordering::Relaxed),
            1,
            "message {number}"
        );
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.damaged), (0, 0, 0));
    assert_eq!((stats.sent, stats.received), (MESSAGES, MESSAGES));
}

#[test]
fn a_batch_is_received_with_its_bodies_and_deleted_in_one_call() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let bodies: Vec<Vec<u8>> = (0..25usize).map(|len| vec![len as u8; len * 40]).collect();
    assert_eq!(sender.send_batch(&bodies).unwrap(), 25);
    let mut receipts = Vec::new();
    for expected in [10, 10, 5, 0] {
        let messages = receiver.receive(10, Duration::ZERO, Some(60 * S)).unwrap();
        assert_eq!(messages.len(), expected);
        for message in messages {
            assert_eq!(message.body, bodies[receipts.len()]);
            receipts.push(message.received.receipt);
        }
    }
    assert!(receiver.receive(0, 10 * S, None).unwrap().is_empty());
    let stranger = Receipt::from_bytes({
        let mut bytes = receipts[0].to_bytes();
        bytes[0] ^= 1;
        bytes
    })
    .unwrap();
    receipts.insert(3, stranger);
    let failed = receiver.delete_batch(&receipts);
    assert!(
        matches!(failed[..], [(3, SettleError::OtherQueue { .. })]),
        "{failed:?}"
    );
    assert_eq!(queue.stats().in_flight, 0);
}

#[test]
fn what_is_received_and_deleted_at_once_is_gone() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 4096];
    for len in [0, 8, 24, 25, 3000] {
        sender.send(&vec![len as u8; len]).unwrap();
        let received = receiver.receive_and_delete(&mut buffer).unwrap().unwrap();
        assert_eq!((received.len, received.receives()), (len, 1));
        assert!(buffer[..len].iter().all(|byte| *byte == len as u8));
        assert!(!receiver.delete(&received.receipt).unwrap());
    }
    assert_eq!(receiver.receive_and_delete(&mut buffer).unwrap(), None);
    assert_eq!(queue.stats().visible + queue.stats().in_flight, 0);
    drop((sender, receiver));
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn a_buffer_that_is_too_small_leaves_the_message_visible() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for len in [20, 2000] {
        sender.send(&vec![1; len]).unwrap();
        for _ in 0..3 {
            let refused = receiver.try_receive(&mut [0; 10]).unwrap_err();
            assert!(
                matches!(refused, ReceiveError::BufferTooSmall { needed, given: 10 } if needed == len),
                "{refused:?}"
            );
        }
        assert_eq!(queue.stats().visible, 1);
        let mut buffer = vec![0; len];
        let received = receiver
            .try_receive(&mut buffer)
            .unwrap()
            .expect("it fits now");
        assert_eq!(received.receives(), 1);
        receiver.delete(&received.receipt).unwrap();
    }
}

#[test]
fn the_limit_of_a_message_passes_and_one_byte_more_is_refused() {
    let (_root, bus) = bus();
    let queue = bus.queue("q").slots(1024).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send(&vec![5; 262_144]).unwrap();
    let refused = sender.send(&vec![5; 262_145]).unwrap_err();
    assert!(
        matches!(
            refused,
            QueueSendError::MessageTooLarge {
                len: 262_145,
                max: 262_144
            }
        ),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("max_message_bytes"),
        "{refused}"
    );
    assert!(matches!(
        sender.loan(262_145),
        Err(QueueSendError::MessageTooLarge { .. })
    ));
    let messages = receiver.receive(10, Duration::ZERO, None).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, vec![5; 262_144]);
}

#[test]
fn options_outside_their_bounds_are_refused_and_the_bounds_are_not() {
    let (_root, bus) = bus();
    let queue = |name: &str| bus.queue(name).slots(1024).stride(64);
    let refused = [
        queue("q").visibility(43_200 * S + MS),
        queue("q").visibility(Duration::from_micros(1500)),
        queue("q").delay(900 * S + MS),
        queue("q").retention(60 * S - MS),
        queue("q").retention(1_209_600 * S + MS),
        queue("q").max_message_bytes(0),
        queue("q").slots(512),
        queue("q").slots(1500),
        queue("q").stride(40),
        queue("q").stall_timeout(Duration::ZERO),
    ];
    for (index, builder) in refused.into_iter().enumerate() {
        let refused = builder.create().err();
        assert!(
            matches!(refused, Some(OpenError::InvalidOption { .. })),
            "{index}: {refused:?}"
        );
    }
    assert!(matches!(
        queue("a b").create().err(),
        Some(OpenError::InvalidName { .. })
    ));
    queue("low")
        .visibility(Duration::ZERO)
        .delay(Duration::ZERO)
        .retention(60 * S)
        .max_message_bytes(1)
        .create()
        .unwrap();
    let high = queue("high")
        .visibility(43_200 * S)
        .delay(900 * S)
        .retention(1_209_600 * S)
        .create()
        .unwrap();
    let (mut sender, mut receiver) = (high.sender().unwrap(), high.receiver().unwrap());
    sender.send_delayed(b"x", Duration::ZERO).unwrap();
    sender.send(b"y").unwrap();
    let received = receiver.try_receive(&mut [0; 8]).unwrap().unwrap();
    assert_eq!(
        high.stats().in_flight,
        1,
        "twelve hours are not over at once"
    );
    assert_eq!(high.stats().delayed, 1);
    receiver
        .change_visibility(&received.receipt, 43_200 * S)
        .unwrap();
    for wrong in [43_200 * S + MS, Duration::from_micros(1)] {
        assert!(matches!(
            receiver.change_visibility(&received.receipt, wrong),
            Err(SettleError::InvalidVisibility { .. })
        ));
        assert!(matches!(
            receiver.set_visibility(wrong),
            Err(ReceiveError::InvalidVisibility { .. })
        ));
        assert!(matches!(
            receiver.receive(1, S, Some(wrong)),
            Err(ReceiveError::InvalidVisibility { .. })
        ));
    }
    assert!(matches!(
        receiver.nack(&received.receipt, 900 * S + MS),
        Err(SettleError::InvalidDelay { .. })
    ));
    assert!(matches!(
        sender.send_delayed(b"x", 900 * S + MS),
        Err(QueueSendError::InvalidDelay { .. })
    ));
}

#[test]
fn a_queue_is_opened_as_it_was_created_or_the_difference_is_named() {
    let (_root, bus) = bus();
    let created = bus
        .queue("q")
        .slots(2048)
        .visibility(5 * S)
        .redeliver_on_death(false)
        .create()
        .unwrap();
    let opened = bus.queue("q").open().unwrap();
    assert_eq!(opened.definition(), created.definition());
    assert_eq!(opened.id(), created.id());
    assert!(matches!(
        bus.queue("q").create().err(),
        Some(OpenError::AlreadyExists { .. })
    ));
    for (builder, named) in [
        (bus.queue("q").slots(1024), "slots"),
        (bus.queue("q").visibility(6 * S), "visibility"),
        (
            bus.queue("q").redeliver_on_death(true),
            "redeliver_on_death",
        ),
    ] {
        let refused = builder.open_or_create().err();
        assert!(
            matches!(refused, Some(OpenError::Mismatch { option, .. }) if option == named),
            "{refused:?}"
        );
    }
    bus.channel("c").slots(1024).create().unwrap();
    assert!(matches!(
        bus.queue("c").open().err(),
        Some(OpenError::Foreign { .. })
    ));
    assert!(matches!(
        bus.channel("q").open().err(),
        Some(OpenError::Foreign { .. })
    ));
    let kinds: Vec<_> = bus.objects().unwrap().into_iter().map(|o| o.kind).collect();
    assert_eq!(
        kinds,
        [ringway::ObjectKind::Channel, ringway::ObjectKind::Queue]
    );
    assert!(bus.doctor(false).unwrap().is_clean());
}

#[test]
fn a_removed_queue_says_so_to_everybody_and_gives_its_chunks_back() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send(&[1; 3000]).unwrap();
    bus.remove("q").unwrap();
    assert!(matches!(sender.send(b"x"), Err(QueueSendError::Removed)));
    let mut buffer = [0; 3000];
    // What was visible may still be received, or its payload is gone with the queue.
    let _ = receiver.try_receive(&mut buffer);
    assert!(matches!(
        receiver.try_receive(&mut buffer),
        Err(ReceiveError::Removed)
    ));
    assert!(matches!(receiver.wait(S), Err(ReceiveError::Removed)));
    drop((sender, receiver, queue));
    let report = bus.doctor(true).unwrap();
    assert_eq!(report.chunks[2], 0, "{report:?}");
    assert!(bus.objects().unwrap().is_empty());
    small(&bus);
}

#[test]
fn an_empty_queue_lets_a_receiver_sleep_until_a_message_comes_or_the_wait_is_over() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    for idle in [Idle::Park, Idle::SpinThenPark, Idle::Spin] {
        let mut receiver = queue.receiver().unwrap();
        receiver.set_idle(idle);
        let before = Instant::now();
        assert!(!receiver.wait(60 * MS).unwrap());
        assert!(before.elapsed() >= 60 * MS);
        let mut sender = queue.sender().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(30 * MS); // the receiver most likely sleeps by then
                sender.send(&7u64.to_le_bytes()).unwrap();
            });
            let (body, received) = await_word(&mut receiver);
            assert_eq!(body, 7);
            assert!(receiver.delete(&received.receipt).unwrap());
        });
    }
}

#[test]
fn purge_takes_everything_that_was_sent_before() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..100u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    sender.send(&[9; 3000]).unwrap();
    sender.send_delayed(b"later", 100 * S).unwrap();
    let (_, received) = word(&mut receiver).unwrap();
    assert_eq!(queue.purge().unwrap(), 102);
    assert_eq!(queue.purge().unwrap(), 0);
    let stats = queue.stats();
    assert_eq!(
        (stats.visible, stats.in_flight, stats.delayed, stats.purged),
        (0, 0, 0, 102)
    );
    assert!(!receiver.delete(&received.receipt).unwrap());
    assert!(word(&mut receiver).is_none());
    sender.send(&5u64.to_le_bytes()).unwrap();
    assert_eq!(word(&mut receiver).unwrap().0, 5);
    drop(sender);
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn a_message_that_is_received_a_thousand_times_is_parked_and_kept() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    receiver.set_visibility(Duration::ZERO).unwrap();
    sender.send(&[3; 700]).unwrap();
    let mut buffer = [0; 700];
    for count in 1..=1000 {
        let received = receiver
            .try_receive(&mut buffer)
            .unwrap()
            .expect("a message");
        assert_eq!(received.receives(), count);
    }
    assert_eq!(receiver.try_receive(&mut buffer).unwrap(), None);
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.parked, stats.times_parked), (0, 1, 1));
    let parked = queue.parked();
    assert_eq!(
        (parked.len(), parked[0].position, parked[0].receives),
        (1, 0, 1000)
    );
    // Producers step over it, lap for lap.
    for number in 0..3000u64 {
        sender.send(&number.to_le_bytes()).unwrap();
        let received = receiver.receive_and_delete(&mut buffer).unwrap().unwrap();
        assert_eq!(received.len, 8);
    }
    assert_eq!(queue.read_parked(0).unwrap(), vec![3; 700]);
    assert!(queue.read_parked(1).is_none() && !queue.delete_parked(1).unwrap());
    assert!(queue.delete_parked(0).unwrap() && !queue.delete_parked(0).unwrap());
    assert_eq!(queue.stats().parked, 0);
    drop((sender, receiver));
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn a_receipt_settles_from_another_attachment_and_from_text() {
    let (root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send(&7u64.to_le_bytes()).unwrap();
    let (_, received) = word(&mut receiver).unwrap();
    let text = received.receipt.to_string();
    let other = Bus::builder("test").root(root.path()).open().unwrap();
    let elsewhere = other.queue("q").open().unwrap();
    let receipt: Receipt = text.parse().unwrap();
    elsewhere.change_visibility(&receipt, 60 * S).unwrap();
    // The receiver and its whole attachment may go; the lease stays.
    drop((sender, receiver, queue, bus));
    assert_eq!(elsewhere.stats().in_flight, 1);
    assert!(elsewhere.delete(&receipt).unwrap());
}

#[test]
fn leases_run_on_when_the_queue_is_closed() {
    let (root, bus) = bus();
    let queue = small(&bus);
    let other = Bus::builder("test").root(root.path()).open().unwrap();
    let elsewhere = other.queue("q").open().unwrap();
    let mut holder = elsewhere.receiver().unwrap();
    queue.sender().unwrap().send(&7u64.to_le_bytes()).unwrap();
    let (_, received) = word(&mut holder).unwrap();
    // Its number is nobody's from here on, and nobody's death must end the lease.
    drop((holder, elsewhere, other));
    let mut receiver = queue.receiver().unwrap();
    assert_eq!(receiver.receive_into(&mut [0; 8], 50 * MS).unwrap(), None);
    assert!(bus.doctor(false).unwrap().is_clean());
    assert_eq!(queue.stats().in_flight, 1);
    assert!(queue.delete(&received.receipt).unwrap());
}

#[test]
fn a_lease_that_was_extended_elsewhere_runs_on_when_that_handle_is_closed() {
    let (root, bus) = bus();
    let queue = small(&bus);
    queue.sender().unwrap().send(&7u64.to_le_bytes()).unwrap();
    let mut receiver = queue.receiver().unwrap();
    let (_, received) = word(&mut receiver).expect("the message");
    {
        // A whole participant of its own, that receives nothing and leaves in good order.
        let other = Bus::builder("test").root(root.path()).open().unwrap();
        let elsewhere = other.queue("q").open().unwrap();
        elsewhere
            .change_visibility(&received.receipt, 3600 * S)
            .unwrap();
    }
    let again = receiver.receive_into(&mut [0; 8], 100 * MS).unwrap();
    assert_eq!(again, None, "received again within its visibility");
    assert!(receiver.delete(&received.receipt).unwrap());
}

#[test]
fn stats_are_read_by_any_attachment() {
    let (root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..10u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    sender.send_delayed(b"later", 60 * S).unwrap();
    let leases: Vec<_> = (0..4).map(|_| word(&mut receiver).unwrap().1).collect();
    receiver.delete(&leases[0].receipt).unwrap();
    drop((sender, receiver));
    let other = Bus::builder("test").root(root.path()).open().unwrap();
    let stats = other.queue("q").open().unwrap().stats();
    assert_eq!((stats.visible, stats.in_flight, stats.delayed), (6, 3, 1));
    assert_eq!((stats.sent, stats.received, stats.deleted), (11, 4, 1));
    assert_eq!(stats.capacity, 1024);
    assert!(stats.oldest_age.unwrap() < 60 * S);
}

/// Makes everything in the queue `q` older: its times count from an epoch in its header.
fn grow_older(root: &TempBus, by: Duration) {
    use std::os::unix::fs::FileExt;
    let path = root.path().join("ringway-test/objects/q");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut epoch = [0; 8];
    file.read_exact_at(&mut epoch, 248).unwrap();
    let earlier = u64::from_le_bytes(epoch) - by.as_millis() as u64;
    file.write_all_at(&earlier.to_le_bytes(), 248).unwrap();
}

#[test]
fn a_message_past_its_retention_is_gone_also_when_nobody_ran() {
    let (root, bus) = bus();
    let minute = bus.queue("q").slots(1024).stride(64).retention(60 * S);
    let queue = minute.create().unwrap();
    let mut sender = queue.sender().unwrap();
    sender.send(&[1; 2000]).unwrap();
    sender.send(&7u64.to_le_bytes()).unwrap();
    drop((sender, queue));
    grow_older(&root, 40 * S);
    let queue = bus.queue("q").open().unwrap();
    assert_eq!(queue.stats().visible, 2);
    assert!(queue.stats().oldest_age.unwrap() >= 40 * S);
    drop(queue);
    grow_older(&root, 20 * S + MS);
    let queue = bus.queue("q").open().unwrap();
    assert_eq!((queue.stats().visible, queue.stats().oldest_age), (0, None));
    let mut receiver = queue.receiver().unwrap();
    assert!(word(&mut receiver).is_none());
    assert_eq!(queue.stats().expired, 2);
    assert_eq!(
        bus.doctor(false).unwrap().chunks[2],
        0,
        "the payload went with it"
    );
    queue.sender().unwrap().send(&8u64.to_le_bytes()).unwrap();
    assert_eq!(word(&mut receiver).unwrap().0, 8);
}

#[test]
fn a_sender_gets_the_slots_of_messages_past_their_retention() {
    let (root, bus) = bus();
    let minute = bus.queue("q").slots(1024).stride(64).retention(60 * S);
    let queue = minute.create().unwrap();
    let mut sender = queue.sender().unwrap();
    for number in 0..1024u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    assert!(matches!(
        sender.send(&[0; 8]),
        Err(QueueSendError::Full { .. })
    ));
    drop((sender, queue));
    grow_older(&root, 61 * S);
    let queue = bus.queue("q").open().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..1024u64 {
        sender.send(&(5000 + number).to_le_bytes()).unwrap();
    }
    for number in 0..1024u64 {
        assert_eq!(word(&mut receiver).unwrap().0, 5000 + number);
    }
}

#[test]
fn a_message_in_flight_past_its_retention_may_still_be_deleted_and_never_comes_again() {
    let (root, bus) = bus();
    let minute = bus.queue("q").slots(1024).stride(64).retention(60 * S);
    let queue = minute.visibility(100 * S).create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut receiver = queue.receiver().unwrap();
    sender.send(&1u64.to_le_bytes()).unwrap();
    sender.send(&2u64.to_le_bytes()).unwrap();
    let receipts = [(); 2].map(|()| word(&mut receiver).unwrap().1.receipt);
    drop((sender, receiver, queue));
    grow_older(&root, 61 * S);
    let queue = bus.queue("q").open().unwrap();
    let mut receiver = queue.receiver().unwrap();
    assert_eq!(queue.stats().in_flight, 2);
    assert!(receiver.delete(&receipts[0]).unwrap());
    receiver
        .change_visibility(&receipts[1], Duration::ZERO)
        .unwrap();
    assert!(word(&mut receiver).is_none());
    assert!(!receiver.delete(&receipts[1]).unwrap());
    assert_eq!(queue.stats().expired, 1);
}

/// Writes a word of the queue `q` from outside.
fn scribble(root: &TempBus, offset: u64, word: u64) {
    use std::os::unix::fs::FileExt;
    let path = root.path().join("ringway-test/objects/q");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&word.to_le_bytes(), offset).unwrap();
}

#[test]
fn a_lease_that_no_due_word_knows_ends_all_the_same() {
    let (root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    receiver.set_visibility(100 * MS).unwrap();
    for number in 0..900u64 {
        sender.send(&number.to_le_bytes()).unwrap();
        word(&mut receiver).unwrap();
    }
    // As a sweeper leaves them that dies between raising and lowering.
    for at in [5120].into_iter().chain((8448..8448 + 8 * 17).step_by(8)) {
        scribble(&root, at, u64::MAX);
    }
    let mut seen = vec![false; 900];
    for _ in 0..900 {
        let (number, received) = await_word(&mut receiver);
        assert!(!std::mem::replace(&mut seen[number as usize], true));
        receiver.delete(&received.receipt).unwrap();
    }
}

#[test]
fn messages_behind_the_receive_hint_are_found() {
    let (root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    for number in 0..900u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    scribble(&root, 4864, 900);
    let mut receiver = queue.receiver().unwrap();
    let mut seen = vec![false; 900];
    for _ in 0..900 {
        let (number, received) = await_word(&mut receiver);
        assert!(!std::mem::replace(&mut seen[number as usize], true));
        receiver.delete(&received.receipt).unwrap();
    }
    // A hint that no receiver can have left counts for nothing, and is mended.
    scribble(&root, 4864, 1 << 60);
    for number in 0..2000u64 {
        sender.send(&number.to_le_bytes()).unwrap();
        assert_eq!(word(&mut queue.receiver().unwrap()).unwrap().0, number);
        assert_eq!(queue.purge().unwrap(), 1);
    }
}

/// Words at random places: whoever lives on may lose messages, and nothing else.
#[test]
fn a_queue_that_is_scribbled_over_never_hangs_or_panics() {
    let seed = ringway_harness::seed::announce("scribbling over a queue");
    let mut random = ringway_harness::seed::Random::new(seed);
    for _ in 0..40 {
        let (root, bus) = bus();
        let queue = small(&bus);
        let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
        receiver.set_visibility(MS).unwrap();
        let mut buffer = [0; 4096];
        let mut receipts = Vec::new();
        for round in 0..400u64 {
            let offset = match random.below(3) {
                0 => 4096 + 8 * random.below(512),
                _ => 12_288 + 8 * random.below(1024 * 8),
            };
            let value = match random.below(5) {
                0 => 0,
                1 => u64::MAX,
                2 => random.below(4) << 62 | random.below(3),
                3 => random.below(u64::MAX) & !(3 << 62) | 2 << 62,
                _ => random.below(u64::MAX),
            };
            scribble(&root, offset, value);
            for len in [8, 20, 700] {
                let _ = sender.send(&vec![round as u8; len]);
                let _ = sender.send_delayed(&buffer[..len], MS);
                if let Ok(Some(received)) = receiver.try_receive(&mut buffer) {
                    receipts.push(received.receipt);
                }
                let _ = receiver.receive_and_delete(&mut buffer);
            }
            while receipts.len() > 3 {
                let receipt = receipts.swap_remove(0);
                let _ = receiver.nack(&receipt, MS);
                let _ = receiver.change_visibility(&receipt, MS);
                let _ = receiver.delete(&receipt);
            }
            let _ = queue.stats();
            if round % 50 == 49 {
                let _ = receiver.wait(MS);
                let _ = queue.parked();
                let _ = bus.doctor(true).map(drop);
                queue.purge().unwrap();
            }
        }
    }
}

/// The leases of an attachment end as nobody's when it closes the queue, not when it closes one of
/// the handles that it opened: until then its death matters to them.
#[test]
fn leases_are_left_when_the_last_open_of_the_queue_is_closed() {
    let (root, bus) = bus();
    let first = small(&bus);
    let second = bus.queue("q").open().unwrap();
    first.sender().unwrap().send(&7u64.to_le_bytes()).unwrap();
    let (_, received) = word(&mut first.receiver().unwrap()).unwrap();
    assert_eq!(holder_of_slot_0(&root), Some(bus.me()));
    drop(second);
    assert_eq!(
        holder_of_slot_0(&root),
        Some(bus.me()),
        "another handle holds it"
    );
    drop(first);
    assert_eq!(holder_of_slot_0(&root), None);
    let queue = bus.queue("q").open().unwrap();
    assert!(
        queue.delete(&received.receipt).unwrap(),
        "the receipt stays good"
    );
}

/// `dlv` of slot 0 as it lies in the file: who holds the lease.
fn holder_of_slot_0(root: &TempBus) -> Option<ringway::ParticipantId> {
    use std::os::unix::fs::FileExt;
    let path = root.path().join("ringway-test/objects/q");
    let file = std::fs::File::open(path).unwrap();
    let word = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let dlv = word(word(80) + 8);
    assert_eq!(dlv >> 62, 1, "in flight");
    let owner = (dlv >> 52 & 1023) as u16;
    (owner != 0).then_some(ringway::ParticipantId(owner))
}

/// SQS allows a visibility of 0: the message is visible again at once, for the next call.
#[test]
fn a_batch_holds_a_message_once_even_where_it_is_visible_again_at_once() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send_batch(&[[0; 8], [1; 8], [2; 8]]).unwrap();
    for round in 1..=5 {
        let messages = receiver
            .receive(10, Duration::ZERO, Some(Duration::ZERO))
            .unwrap();
        let mut positions: Vec<_> = messages
            .iter()
            .map(|message| (message.received.position(), message.received.receives()))
            .collect();
        positions.sort_unstable();
        assert_eq!(positions, [(0, round), (1, round), (2, round)]);
    }
    receiver.set_visibility(Duration::ZERO).unwrap();
    assert_eq!(receiver.receive_each(10, |_, _| {}).unwrap(), 3);
    sender.send(&[3; 8]).unwrap();
    assert_eq!(receiver.receive_each(10, |_, _| {}).unwrap(), 4);
}
