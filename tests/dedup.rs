//! Exactly-once sends to FIFO queues, seen from outside.
//!
//! What SQS does: "Exactly-once processing in Amazon SQS" and "Using the message deduplication ID in
//! Amazon SQS", Amazon SQS Developer Guide:
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-exactly-once-processing.html>,
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html>.

use ringway::{
    Attributes, Bus, Deduplication, OpenError, Outgoing, Queue, QueueSendError, QueueSender, Sent,
    Settings,
};
use ringway_harness::TempBus;
use std::time::{Duration, Instant};

const S: Duration = Duration::from_secs(1);
const IDS: Deduplication = Deduplication::of_ids(1024);

fn open(root: &TempBus) -> Bus {
    let builder = Bus::builder("test").root(root.path());
    builder.pool_bytes(64 << 20).open_or_create().unwrap()
}

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = open(&root);
    (root, bus)
}

fn queue(bus: &Bus, dedup: Deduplication) -> Queue {
    let builder = bus.queue("q.fifo").fifo().slots(4096);
    builder.deduplicate(dedup).open_or_create().unwrap()
}

fn send(sender: &mut QueueSender, id: &str) -> Sent {
    try_send(sender, id).unwrap()
}

fn try_send(sender: &mut QueueSender, id: &str) -> Result<Sent, QueueSendError> {
    sender.send_message(&Outgoing::new(id.as_bytes()).group("g").dedup_id(id))
}

/// Bodies of everything there is, in order; consumed.
fn drain(queue: &Queue) -> Vec<String> {
    let mut receiver = queue.receiver().unwrap();
    let mut bodies = Vec::new();
    loop {
        let batch = receiver.receive(10, Duration::ZERO, None).unwrap();
        if batch.is_empty() {
            return bodies;
        }
        for message in batch {
            receiver.delete(&message.received.receipt).unwrap();
            bodies.push(String::from_utf8(message.body).unwrap());
        }
    }
}

#[test]
fn a_repeated_id_is_accepted_and_not_delivered() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let (mut one, mut two) = (queue.sender().unwrap(), queue.sender().unwrap());
    let a = send(&mut one, "a");
    let b = send(&mut two, "b");
    assert!(!a.duplicate && !b.duplicate && a.position < b.position);
    for sender in [&mut one, &mut two] {
        for (id, first) in [("a", a), ("b", b)] {
            let again = send(sender, id);
            assert!(again.duplicate);
            assert_eq!(again.position, first.position);
        }
    }
    assert_eq!(queue.stats().duplicates, 4);
    assert_eq!(drain(&queue), ["a", "b"]);
}

#[test]
fn an_id_counts_when_its_message_is_received_deleted_or_purged() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let mut sender = queue.sender().unwrap();
    let deleted = send(&mut sender, "deleted");
    assert_eq!(drain(&queue), ["deleted"]);
    let purged = send(&mut sender, "purged");
    assert_eq!(queue.purge().unwrap(), 1);
    let received = send(&mut sender, "received");
    let mut receiver = queue.receiver().unwrap();
    let mut buffer = [0; 64];
    receiver
        .try_receive(&mut buffer)
        .unwrap()
        .expect("received");
    for first in [deleted, purged, received] {
        let id = ["deleted", "purged", "received"][first.position as usize];
        let again = send(&mut sender, id);
        assert_eq!((again.position, again.duplicate), (first.position, true));
    }
}

#[test]
fn an_id_counts_when_everybody_has_left_and_come_again() {
    let (root, bus) = bus();
    let first = send(&mut queue(&bus, IDS).sender().unwrap(), "a");
    drop(bus);
    let bus = open(&root);
    let again = send(&mut queue(&bus, IDS).sender().unwrap(), "a");
    assert_eq!((again.position, again.duplicate), (first.position, true));
}

#[test]
fn an_id_counts_for_the_window_and_no_longer() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS.window(S));
    let mut sender = queue.sender().unwrap();
    let before = Instant::now();
    let first = send(&mut sender, "a");
    let second = loop {
        let sent = send(&mut sender, "a");
        if !sent.duplicate {
            break sent;
        }
        assert!(before.elapsed() < 60 * S, "it never ends");
        std::thread::yield_now();
    };
    // The clock of a queue goes by whole milliseconds.
    assert!(before.elapsed() >= S - Duration::from_millis(1));
    assert!(second.position > first.position);
    assert!(send(&mut sender, "a").duplicate);
    assert_eq!(drain(&queue), ["a", "a"]);
}

#[test]
fn by_content_the_body_is_the_id_and_attributes_are_not() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS.by_content());
    let mut sender = queue.sender().unwrap();
    let abc = Outgoing::new(b"abc").group("g");
    let first = sender.send_message(&abc).unwrap();
    let mut attributes = Attributes::new();
    attributes.number("try", 2).unwrap();
    let same = [
        abc,
        abc.attributes(&attributes),
        abc.group("another"),
        // FIPS 180-2, appendix B.1: the id that was made for the first.
        Outgoing::new(b"else")
            .group("g")
            .dedup_id("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ];
    for message in same {
        let again = sender.send_message(&message).unwrap();
        assert_eq!((again.position, again.duplicate), (first.position, true));
    }
    for other in [Outgoing::new(b"abd").group("g"), abc.dedup_id("another")] {
        assert!(!sender.send_message(&other).unwrap().duplicate);
    }
    assert_eq!(drain(&queue), ["abc", "abd", "abc"]);
}

#[test]
fn per_group_an_id_counts_in_its_group() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS.per_group());
    let mut sender = queue.sender().unwrap();
    let mut send = |group| {
        let message = Outgoing::new(b"a").group(group).dedup_id("a");
        sender.send_message(&message).unwrap().duplicate
    };
    assert_eq!(
        ["g", "h", "g", "h"].map(&mut send),
        [false, false, true, true]
    );
    assert_eq!(drain(&queue).len(), 2);
}

#[test]
fn a_send_needs_an_id_where_ids_count_and_has_none_where_they_do_not() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let plain = Outgoing::new(b"a").group("g");
    let refused = queue.sender().unwrap().send_message(&plain);
    assert!(
        matches!(refused, Err(QueueSendError::MissingDedupId)),
        "{refused:?}"
    );

    let without = bus.queue("without").fifo().deduplicate(None);
    let without = without.create().unwrap();
    let refused = try_send(&mut without.sender().unwrap(), "a");
    assert!(
        matches!(refused, Err(QueueSendError::NoDedup)),
        "{refused:?}"
    );
    without.sender().unwrap().send_message(&plain).unwrap();
}

#[test]
fn a_fifo_queue_compares_ids_unless_it_was_told_not_to_and_takes_messages_without_one() {
    let (_root, bus) = bus();
    let queue = bus.queue("q.fifo").fifo().create().unwrap();
    assert_eq!(queue.definition().dedup, Some(Deduplication::default()));
    let mut sender = queue.sender().unwrap();
    let plain = Outgoing::new(b"a").group("g");
    for message in [plain, plain, plain.dedup_id("1"), plain.dedup_id("1")] {
        sender.send_message(&message).unwrap();
    }
    let outcomes = sender.send_message_batch(&[plain, plain.dedup_id("1"), plain.dedup_id("2")]);
    let duplicates: Vec<_> = outcomes
        .iter()
        .map(|sent| sent.as_ref().unwrap().duplicate)
        .collect();
    assert_eq!(duplicates, [false, true, false]);
    assert_eq!(drain(&queue).len(), 5);

    let again = bus.queue("q.fifo").fifo().open().unwrap();
    assert_eq!(again.definition().dedup, Some(Deduplication::default()));
    let other = bus.queue("q.fifo").fifo().deduplicate(None).open();
    assert!(matches!(
        other,
        Err(OpenError::Mismatch {
            option: "dedup",
            ..
        })
    ));
}

#[test]
fn a_batch_is_deduplicated_one_by_one() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let mut sender = queue.sender().unwrap();
    let message = |id: &'static str| Outgoing::new(id.as_bytes()).group("g").dedup_id(id);
    let outcomes = sender.send_message_batch(&["a", "b", "a", "c", "b"].map(message));
    let outcomes: Vec<Sent> = outcomes.into_iter().map(Result::unwrap).collect();
    let duplicates: Vec<bool> = outcomes.iter().map(|sent| sent.duplicate).collect();
    assert_eq!(duplicates, [false, false, true, false, true]);
    assert_eq!(outcomes[2].position, outcomes[0].position);
    assert_eq!(drain(&queue), ["a", "b", "c"]);
}

#[test]
fn a_full_table_refuses_and_forgets_nothing() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let mut sender = queue.sender().unwrap();
    let mut known = Vec::new();
    let refused = loop {
        let id = known.len().to_string();
        match try_send(&mut sender, &id) {
            Ok(sent) => known.push((id, sent.position)),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, QueueSendError::DedupFull { ids: 1024 }),
        "{refused:?}"
    );
    assert!(known.len() >= 1024, "full with {} ids", known.len());
    for (id, position) in &known {
        let again = send(&mut sender, id);
        assert_eq!((again.position, again.duplicate), (*position, true));
    }
    let sent: Vec<String> = known.into_iter().map(|(id, _)| id).collect();
    assert_eq!(drain(&queue), sent, "what was refused left nothing");
}

#[test]
fn a_duplicate_makes_no_room_where_messages_are_limited() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    queue.set(&Settings::new().max_messages(8)).unwrap();
    let mut sender = queue.sender().unwrap();
    for n in 0..8 {
        send(&mut sender, &format!("{n}"));
    }
    for n in 0..50 {
        assert!(send(&mut sender, "0").duplicate, "a limit refuses none");
        let refused = try_send(&mut sender, &format!("more-{n}"));
        assert!(
            matches!(refused, Err(QueueSendError::OverQuota { limit: 8 })),
            "{n}: {refused:?}"
        );
    }
    assert_eq!(queue.stats().visible, 8);
}

/// A message that names the id which was made of another's content repeats that one: SendMessage in the
/// Amazon SQS API Reference,
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>.
#[test]
fn an_id_that_is_named_counts_instead_of_the_content_and_as_one_that_was_made_of_it() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS.by_content());
    let mut sender = queue.sender().unwrap();
    let body = Outgoing::new(b"abc").group("g");
    let first = sender.send_message(&body).unwrap();
    // FIPS 180-2, appendix B.1.
    let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let same = Outgoing::new(b"another body").group("g").dedup_id(digits);
    let again = sender.send_message(&same).unwrap();
    assert_eq!((again.duplicate, again.position), (true, first.position));
    let own = sender.send_message(&body.dedup_id("its-own")).unwrap();
    assert!(!own.duplicate, "the same body, and an id that was named");
    assert_eq!(drain(&queue), ["abc", "abc"]);
}

#[test]
fn a_large_duplicate_costs_no_payload() {
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let mut sender = queue.sender().unwrap();
    let body = vec![7; 100_000];
    let message = Outgoing::new(&body).group("g").dedup_id("a");
    assert!(!sender.send_message(&message).unwrap().duplicate);
    for _ in 0..2_000 {
        assert!(sender.send_message(&message).unwrap().duplicate);
    }
    let messages = queue.receiver().unwrap().receive(10, Duration::ZERO, None);
    let messages = messages.unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, body);
    queue.delete(&messages[0].received.receipt).unwrap();
    drop(sender);
    let report = bus.doctor(false).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn senders_of_the_same_ids_send_each_once() {
    const SENDERS: usize = 4;
    const EACH: usize = 800;
    let (_root, bus) = bus();
    let queue = queue(&bus, IDS);
    let sent: Vec<Vec<Sent>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut sender = queue.sender().unwrap();
                    (0..EACH)
                        .map(|n| send(&mut sender, &n.to_string()))
                        .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for id in 0..EACH {
        let of_id: Vec<Sent> = sent.iter().map(|sent| sent[id]).collect();
        let first = of_id.iter().filter(|sent| !sent.duplicate).count();
        assert_eq!(first, 1, "id {id} was sent by {of_id:?}");
        assert!(of_id.iter().all(|sent| sent.position == of_id[0].position));
    }
    let mut bodies = drain(&queue);
    bodies.sort_by_key(|body| body.parse::<usize>().unwrap());
    assert!(
        bodies
            .iter()
            .eq((0..EACH).map(|n| n.to_string()).collect::<Vec<_>>().iter())
    );
}

#[test]
fn a_queue_deduplicates_as_it_was_created() {
    let (_root, bus) = bus();
    let made = queue(&bus, IDS.per_group().window(2 * S));
    assert_eq!(made.definition().dedup, Some(IDS.per_group().window(2 * S)));
    let other = bus.queue("q.fifo").fifo().deduplicate(IDS).open().map(drop);
    assert!(
        matches!(
            other,
            Err(OpenError::Mismatch {
                option: "dedup",
                ..
            })
        ),
        "{other:?}"
    );
    assert_eq!(
        bus.queue("q.fifo").open().unwrap().definition().dedup,
        made.definition().dedup
    );

    let refused = [
        bus.queue("standard").deduplicate(IDS),
        bus.queue("few")
            .fifo()
            .deduplicate(Deduplication::of_ids(1023)),
        bus.queue("many")
            .fifo()
            .deduplicate(Deduplication::of_ids((1 << 26) + 1)),
        bus.queue("short")
            .fifo()
            .deduplicate(IDS.window(S - Duration::from_millis(1))),
        bus.queue("part")
            .fifo()
            .deduplicate(IDS.window(S + Duration::from_micros(1))),
        bus.queue("long")
            .fifo()
            .deduplicate(IDS.window(1_209_601 * S)),
    ];
    for builder in refused {
        let refused = builder.create().map(drop);
        let is_typed = matches!(
            refused,
            Err(OpenError::InvalidOption {
                option: "deduplicate",
                ..
            })
        );
        assert!(is_typed, "{refused:?}");
    }
}
