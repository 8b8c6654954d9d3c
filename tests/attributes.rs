//! What travels beside a body: attributes, group, deduplication id, trace header. Who has none pays
//! for none, who asks for the body alone gets it, and what SQS refuses is refused.
//!
//! Source of the rules: "Amazon SQS message metadata",
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>.

use proptest::prelude::*;
use ringway::{
    Attribute, AttributeError, AttributeValue, Attributes, Bus, Incoming, Message, Outgoing, Queue,
    QueueSendError, ReceiveError, Sent,
};
use ringway_harness::{TempBus, deadline};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

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
    bus.queue("q").slots(1024).stride(128).create().unwrap()
}

fn some_attributes() -> Attributes {
    let mut attributes = Attributes::new();
    attributes.string("city", "Graz").unwrap();
    attributes.number("seats", 12).unwrap();
    attributes.binary("seal", &[0, 255, 7]).unwrap();
    attributes
}

fn receive_one(queue: &Queue) -> Message {
    let mut receiver = queue.receiver().unwrap();
    let mut messages = receiver.receive(1, Duration::ZERO, None).unwrap();
    messages.pop().expect("a message")
}

#[test]
fn what_was_said_about_a_message_is_received_with_it() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut attributes = some_attributes();
    attributes
        .insert(Attribute {
            name: "weight",
            value: AttributeValue::Number("3.50"),
            label: Some("kg"),
        })
        .unwrap();
    let mut incoming = Incoming::new();
    // Inline where it fits, through the pool where it does not.
    for len in [0, 1, 7, 8, 60, 4096, 100_000] {
        let body: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let message = Outgoing::new(&body)
            .group("truck-7")
            .dedup_id("order-1")
            .trace_header("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
            .attributes(&attributes);
        let sent = sender.send_message(&message).unwrap();
        let received = receiver.receive_message(&mut incoming).unwrap().unwrap();
        assert_eq!(
            sent,
            Sent {
                position: received.position(),
                duplicate: false
            }
        );
        assert_eq!((received.len, incoming.body()), (len, &*body));
        assert_eq!(incoming.group(), Some("truck-7"));
        assert_eq!(incoming.dedup_id(), Some("order-1"));
        assert!(incoming.trace_header().unwrap().starts_with("Root=1-"));
        assert_eq!(incoming.sender(), bus.me());
        let seen: Vec<_> = incoming.attributes().iter().collect();
        assert_eq!(seen, attributes.iter().collect::<Vec<_>>());
        assert_eq!(seen[3].data_type(), "Number.kg");
        assert_eq!(incoming.attributes().to_attributes().unwrap(), attributes);
        assert!(receiver.delete(&received.receipt).unwrap());
    }
    drop((sender, receiver));
    assert_eq!(queue.stats().damaged, 0);
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn a_receive_into_a_buffer_gets_the_body_alone() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let attributes = some_attributes();
    let mut buffer = [0; 5000];
    for len in [1, 5000] {
        let body = vec![9; len];
        let message = Outgoing::new(&body).group("g").attributes(&attributes);
        sender.send_message(&message).unwrap();
        sender.send_message(&message).unwrap();
        // A buffer as long as the body is long enough, one byte less is not.
        let refused = receiver.try_receive(&mut buffer[..len - 1]);
        assert!(
            matches!(refused, Err(ReceiveError::BufferTooSmall { needed, given })
                if (needed, given) == (len, len - 1)),
            "{refused:?}"
        );
        let received = receiver.try_receive(&mut buffer[..len]).unwrap().unwrap();
        assert_eq!((received.len, &buffer[..len]), (len, &*body));
        assert!(receiver.delete(&received.receipt).unwrap());
        buffer.fill(0);
        let consumed = receiver.receive_and_delete(&mut buffer).unwrap().unwrap();
        assert_eq!((consumed.len, &buffer[..len]), (len, &*body));
        let sent = sender.send_message(&message).unwrap();
        receiver
            .receive_each(1, |received, body| {
                assert_eq!((received.position(), body), (sent.position, &*vec![9; len]));
            })
            .unwrap();
    }
}

#[test]
fn a_message_received_whole_has_what_was_sent_and_no_more() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    sender.send(b"plain").unwrap();
    let plain = receive_one(&queue);
    assert_eq!(plain.body, b"plain");
    assert!(plain.attributes().is_empty());
    assert_eq!(
        (plain.group(), plain.dedup_id(), plain.trace_header()),
        (None, None, None)
    );
    let attributes = some_attributes();
    let message = Outgoing::new(b"rich").attributes(&attributes);
    sender.send_message(&message).unwrap();
    let rich = receive_one(&queue);
    assert_eq!((&*rich.body, rich.group()), (&b"rich"[..], None));
    assert_eq!(rich.attributes().len(), 3);
    assert_eq!(rich.attributes().get("city").unwrap().text(), Some("Graz"));
    assert_eq!(rich.attributes().get("seal").unwrap().bytes(), [0, 255, 7]);
    assert_eq!(rich.attributes().get("nothing"), None);
    // A holder that had attributes shows none of them with a plain message.
    let mut receiver = queue.receiver().unwrap();
    let mut incoming = Incoming::new();
    sender.send_message(&message).unwrap();
    sender.send(b"plain again").unwrap();
    receiver.receive_message(&mut incoming).unwrap().unwrap();
    assert_eq!(incoming.attributes().len(), 3);
    receiver.receive_message(&mut incoming).unwrap().unwrap();
    assert_eq!(incoming.body(), b"plain again");
    assert!(incoming.attributes().is_empty());
}

#[test]
fn an_eleventh_attribute_and_a_name_twice_are_refused() {
    let mut attributes = Attributes::new();
    for number in 0..10 {
        attributes.number(&format!("n{number}"), number).unwrap();
    }
    assert_eq!(
        attributes.string("n10", "x").unwrap_err(),
        AttributeError::TooMany { max: 10 }
    );
    assert_eq!(attributes.len(), 10);
    attributes.clear();
    attributes.string("n", "x").unwrap();
    let twice = attributes.string("n", "y").unwrap_err();
    assert_eq!(twice, AttributeError::DuplicateName { name: "n".into() });
    // Names are case-sensitive.
    attributes.string("N", "y").unwrap();
}

#[test]
fn names_follow_the_rules_of_sqs() {
    let longest = "n".repeat(256);
    let too_long = "n".repeat(257);
    for name in [
        "a", "A-z_0.9", "AWS", "aws-x", "Amazonas", "x.AWS.y", &longest,
    ] {
        let mut attributes = Attributes::new();
        assert!(attributes.string(name, "v").is_ok(), "{name:?}");
    }
    for name in [
        "", ".a", "a.", "a..b", "AWS.a", "aws.a", "AmAzOn.a", "a b", "ä", "a/b", "a\0", &too_long,
    ] {
        let mut attributes = Attributes::new();
        let refused = attributes.string(name, "v");
        assert!(
            matches!(refused, Err(AttributeError::InvalidName { .. })),
            "{name:?}"
        );
        assert!(attributes.is_empty());
    }
}

#[test]
fn values_are_not_empty_and_of_their_type() {
    let mut attributes = Attributes::new();
    for empty in [
        attributes.string("n", "").map(drop),
        attributes.binary("n", &[]).map(drop),
        attributes.number("n", "").map(drop),
    ] {
        assert!(matches!(empty, Err(AttributeError::EmptyValue { .. })));
    }
    for text in ["\0", "a\u{8}", "\u{FFFE}", "\u{FFFF}"] {
        let refused = attributes.string("n", text);
        assert!(matches!(refused, Err(AttributeError::InvalidText { .. })));
    }
    for number in [
        "1e127",
        "NaN",
        "12 ",
        "1234567890123456789012345678901234567891",
    ] {
        let refused = attributes.number("n", number);
        assert!(
            matches!(refused, Err(AttributeError::InvalidNumber { .. })),
            "{number:?}"
        );
    }
    assert!(attributes.is_empty());
    attributes.string("s", "tab\t\r\n\u{20}ä𝄞").unwrap();
    attributes.number("n", -1.5e-3).unwrap();
    attributes.number("m", u128::MAX / 10).unwrap();
}

#[test]
fn a_label_is_text_and_its_data_type_no_longer_than_256_bytes() {
    let with = |label: &str| {
        let mut attributes = Attributes::new();
        let attribute = Attribute {
            name: "n",
            value: AttributeValue::Binary(&[1]),
            label: Some(label),
        };
        attributes.insert(attribute).map(drop)
    };
    assert_eq!(with(&"x".repeat(249)), Ok(()));
    assert_eq!(with("image/png"), Ok(()));
    for label in ["", "\0", &"x".repeat(250)] {
        assert_eq!(
            with(label),
            Err(AttributeError::InvalidLabel { name: "n".into() }),
            "{label:?}"
        );
    }
}

#[test]
fn attributes_count_towards_the_largest_message_and_system_attributes_do_not() {
    let (_root, bus) = bus();
    let builder = bus.queue("q").slots(1024).max_message_bytes(100);
    let queue = builder.create().unwrap();
    let mut sender = queue.sender().unwrap();
    let mut attributes = Attributes::new();
    attributes.string("four", "seventeen letters").unwrap();
    assert_eq!(attributes.size(), 4 + "String".len() + 17);
    let header = "x".repeat(1024);
    let body = vec![1; 100 - attributes.size()];
    let message = Outgoing::new(&body)
        .attributes(&attributes)
        .trace_header(&header)
        .group("g");
    assert_eq!(message.size(), 100);
    sender.send_message(&message).unwrap();
    let body = vec![1; body.len() + 1];
    let refused = sender.send_message(&Outgoing::new(&body).attributes(&attributes));
    assert!(
        matches!(
            refused,
            Err(QueueSendError::MessageTooLarge { len: 101, max: 100 })
        ),
        "{refused:?}"
    );
}

#[test]
fn all_attributes_of_a_message_have_a_bound() {
    let mut attributes = Attributes::new();
    attributes.binary("a", &vec![1; (1 << 20) - 7]).unwrap();
    assert_eq!(attributes.size(), 1 << 20);
    let refused = attributes.binary("b", &[1]).unwrap_err();
    assert!(matches!(refused, AttributeError::TooLarge { .. }));
    // And the largest travels.
    let (_root, bus) = bus();
    let builder = bus.queue("q").slots(1024).max_message_bytes(1 << 21);
    let queue = builder.create().unwrap();
    let message = Outgoing::new(b"body").attributes(&attributes);
    queue.sender().unwrap().send_message(&message).unwrap();
    let received = receive_one(&queue);
    assert_eq!(received.body, b"body");
    assert_eq!(received.attributes(), attributes.as_ref());
}

#[test]
fn ids_and_trace_headers_that_are_none_are_refused_and_nothing_is_sent() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    let longest = "!".repeat(128);
    let too_long = "!".repeat(129);
    for id in ["", "a b", "ä", "a\n", &too_long] {
        for message in [
            Outgoing::new(b"x").group(id),
            Outgoing::new(b"x").dedup_id(id),
        ] {
            let refused = sender.send_message(&message);
            assert!(
                matches!(refused, Err(QueueSendError::InvalidId { .. })),
                "{id:?}: {refused:?}"
            );
        }
    }
    for header in ["", "\0", &"x".repeat(1025)] {
        let refused = sender.send_message(&Outgoing::new(b"x").trace_header(header));
        assert!(matches!(
            refused,
            Err(QueueSendError::InvalidTraceHeader { .. })
        ));
    }
    assert_eq!(queue.stats().visible, 0);
    let message = Outgoing::new(b"x").group(&longest).dedup_id("a~{}");
    sender.send_message(&message).unwrap();
    assert_eq!(receive_one(&queue).group(), Some(&*longest));
}

#[test]
fn of_a_batch_each_entry_has_its_own_outcome() {
    let (_root, bus) = bus();
    let builder = bus.queue("q").slots(1024).max_message_bytes(10);
    let queue = builder.create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let outcomes = sender.send_message_batch(&[
        Outgoing::new(b"first"),
        Outgoing::new(b"longer than ten"),
        Outgoing::new(b"third").group("no group"),
        Outgoing::new(b"fourth").delay(Duration::from_secs(901)),
        Outgoing::new(b"fifth").group("g"),
        Outgoing::new(b"sixth").delay(Duration::from_secs(900)),
    ]);
    assert!(matches!(outcomes[0], Ok(Sent { position: 0, .. })));
    assert!(matches!(
        outcomes[1],
        Err(QueueSendError::MessageTooLarge { .. })
    ));
    assert!(matches!(outcomes[2], Err(QueueSendError::InvalidId { .. })));
    assert!(matches!(
        outcomes[3],
        Err(QueueSendError::InvalidDelay { .. })
    ));
    assert!(matches!(outcomes[4], Ok(Sent { position: 1, .. })));
    assert!(matches!(outcomes[5], Ok(Sent { position: 2, .. })));
    let bodies: Vec<_> = receiver
        .receive(10, Duration::ZERO, None)
        .unwrap()
        .into_iter()
        .map(|message| message.body)
        .collect();
    assert_eq!(bodies, [b"first", b"fifth"]);
    assert_eq!(queue.stats().delayed, 1);
}

#[test]
fn behind_an_entry_without_room_the_rest_of_a_batch_is_refused() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    for number in 0..1022u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let outcomes = sender.send_message_batch(&[Outgoing::new(b"x").group("g"); 5]);
    let sent: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(sent, [true, true, false, false, false]);
    assert!(outcomes[2..].iter().all(|outcome| matches!(
        outcome,
        Err(QueueSendError::Full {
            capacity: 1024,
            by: None
        })
    )));
}

#[test]
fn a_message_of_its_own_delay_waits_for_it() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let message = Outgoing::new(b"later").group("g").delay(100 * MS);
    let before = Instant::now();
    sender.send_message(&message).unwrap();
    let mut incoming = Incoming::new();
    let early = receiver.receive_message(&mut incoming).unwrap();
    // Unless the machine has paused for as long.
    assert!(early.is_none() || before.elapsed() >= 100 * MS);
    let received = match early {
        Some(received) => Some(received),
        None => receiver
            .receive_message_within(&mut incoming, deadline())
            .unwrap(),
    };
    assert!(before.elapsed() >= 100 * MS);
    assert_eq!(received.expect("it comes").receives(), 1);
    assert_eq!(
        (incoming.body(), incoming.group()),
        (&b"later"[..], Some("g"))
    );
}

/// The file of queue `q` and where its slot 0 lies in it.
fn file_of(root: &TempBus) -> (std::fs::File, u64) {
    let path = root.path().join("ringway-test/objects/q");
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).open(path).unwrap();
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, 80).unwrap();
    (file, u64::from_le_bytes(offset))
}

#[test]
fn a_block_that_is_none_makes_a_damaged_message_and_disturbs_no_other() {
    // Where in the slot behind its header and time of sending, and what is written there.
    let scribbles: [(u64, &[u8]); 6] = [
        (0, &[0; 4]),
        (0, &4u32.to_le_bytes()),
        (0, &0xFFFF_FFF8u32.to_le_bytes()),
        (4, &50_000u16.to_le_bytes()),
        (8, &u32::MAX.to_le_bytes()),
        (15, &[99]),
    ];
    for (at, bytes) in scribbles {
        let (root, bus) = bus();
        let queue = small(&bus);
        let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
        let attributes = some_attributes();
        sender
            .send_message(&Outgoing::new(b"x").attributes(&attributes))
            .unwrap();
        let (file, slots) = file_of(&root);
        file.write_all_at(bytes, slots + 40 + at).unwrap();
        let message = Outgoing::new(b"sound").attributes(&attributes);
        sender.send_message(&message).unwrap();
        let mut incoming = Incoming::new();
        let received = receiver.receive_message(&mut incoming).unwrap();
        assert_eq!(received.expect("the sound one").position(), 1, "{at}");
        assert_eq!(incoming.body(), b"sound");
        assert_eq!(queue.stats().damaged, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_message_arrives_as_it_was_sent(
        body in proptest::collection::vec(any::<u8>(), 0..600),
        group in proptest::option::of("[!-~]{1,128}"),
        dedup_id in proptest::option::of("[!-~]{1,128}"),
        values in proptest::collection::vec(
            ("[A-Za-z0-9_-]{1,20}", proptest::collection::vec(any::<u8>(), 1..200), "[ -~]{0,30}"),
            0..10,
        ),
        stride in prop::sample::select(vec![64u64, 96, 256, 4096]),
    ) {
        let (_root, bus) = bus();
        let queue = bus.queue("q").slots(1024).stride(stride).create().unwrap();
        let mut attributes = Attributes::new();
        for (name, value, label) in &values {
            let label = (!label.is_empty()).then_some(label.as_str());
            let value = AttributeValue::Binary(value);
            // A name drawn twice is refused, and not sent twice.
            let _ = attributes.insert(Attribute { name, value, label });
        }
        let mut message = Outgoing::new(&body).attributes(&attributes);
        if let Some(group) = &group {
            message = message.group(group);
        }
        if let Some(dedup_id) = &dedup_id {
            message = message.dedup_id(dedup_id);
        }
        queue.sender().unwrap().send_message(&message).unwrap();
        let received = receive_one(&queue);
        prop_assert_eq!(&received.body, &body);
        prop_assert_eq!(received.group(), group.as_deref());
        prop_assert_eq!(received.dedup_id(), dedup_id.as_deref());
        prop_assert_eq!(received.attributes(), attributes.as_ref());
    }
}

/// Digests that AWS returns for these attributes, as published in the tests of the moto project.
#[test]
fn digests_are_those_of_sqs() {
    for (data_type, value, digest) in [
        (None, "1493147359900", "235c5c510d26fb653d073faed50ae77c"),
        (None, "1493147359901", "994258b45346a2cc3f9cbb611aa7af30"),
        (
            Some("java.lang.Long"),
            "1493147359900",
            "2e2e4876d8e0bd6b8c2c8f556831c349",
        ),
    ] {
        let mut attributes = Attributes::new();
        let attribute = Attribute {
            name: "timestamp",
            value: AttributeValue::Number(value),
            label: data_type,
        };
        attributes.insert(attribute).unwrap();
        assert_eq!(attributes.md5().unwrap().to_string(), digest);
    }
}

/// Figured by another implementation of the documented algorithm.
#[test]
fn digests_of_what_was_received_are_those_of_what_was_sent() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut attributes = Attributes::new();
    attributes.string("b", "two").unwrap();
    let picture = Attribute {
        name: "a",
        value: AttributeValue::Binary(&[0, 255]),
        label: Some("gif"),
    };
    attributes.insert(picture).unwrap();
    attributes.number("B", 1).unwrap();
    let outgoing = Outgoing::new(b"this is a test message")
        .attributes(&attributes)
        .trace_header("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1");
    queue.sender().unwrap().send_message(&outgoing).unwrap();
    let message = receive_one(&queue);
    assert_eq!(
        message.md5_of_body().to_string(),
        "905ed04ee04ac9a8b461f9f3b10eec6d"
    );
    assert_eq!(message.md5_of_body(), outgoing.md5_of_body());
    let digest = message.md5_of_attributes().unwrap();
    assert_eq!(digest.to_string(), "6cd25139f52ed79b4d2c2a8c4d0525da");
    assert_eq!(outgoing.md5_of_attributes(), Some(digest));
    let system = message.md5_of_system_attributes().unwrap();
    assert_eq!(system.to_string(), "5f48eef650c1d0207456969c85af2fdd");
    assert_eq!(outgoing.md5_of_system_attributes(), Some(system));

    queue.sender().unwrap().send(b"plain").unwrap();
    let plain = receive_one(&queue);
    assert_eq!(plain.md5_of_attributes(), None);
    assert_eq!(plain.md5_of_system_attributes(), None);
}

/// Else a repeat of what failed would come behind what was sent after it.
#[test]
fn a_small_entry_does_not_overtake_a_large_one_that_found_no_room() {
    let root = TempBus::new().expect("a root under /dev/shm");
    let builder = Bus::builder("test").root(root.path()).pool_bytes(8 << 20);
    let bus = builder.create().unwrap();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut loans = Vec::new();
    let exhausted = loop {
        match sender.loan(200_000) {
            Ok(loan) => loans.push(loan),
            Err(error) => break error,
        }
    };
    assert!(matches!(exhausted, QueueSendError::PoolExhausted { .. }));
    let large = [7; 200_000];
    let batch = [
        Outgoing::new(b"first").group("g"),
        Outgoing::new(&large).group("g"),
        Outgoing::new(b"third").group("g"),
    ];
    let outcomes = sender.send_message_batch(&batch);
    assert!(outcomes[0].is_ok());
    for outcome in &outcomes[1..] {
        assert!(
            matches!(outcome, Err(QueueSendError::PoolExhausted { .. })),
            "{outcome:?}"
        );
    }
    drop(loans);
    let outcomes = sender.send_message_batch(&batch[1..]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let messages = receiver.receive(10, Duration::ZERO, None).unwrap();
    let lens: Vec<_> = messages.iter().map(|message| message.body.len()).collect();
    assert_eq!(lens, [5, 200_000, 5]);
}

#[test]
fn a_batch_takes_plain_and_other_messages_in_order_each_with_what_is_its_own() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let attributes = some_attributes();
    // Runs of plain messages longer than one hand-over, with attributes and pool bodies in between.
    let is_rich = |number: usize| number % 23 == 5;
    let body_of = |number: usize| {
        let len = if number % 29 == 7 { 5_000 } else { number % 97 };
        vec![number as u8; len]
    };
    for number in 0..200 {
        let body = body_of(number);
        if is_rich(number) {
            let message = Outgoing::new(&body).group("g").attributes(&attributes);
            sender.send_message(&message).unwrap();
        } else {
            sender.send(&body).unwrap();
        }
    }
    let mut number = 0;
    for _ in 0..10 {
        for message in receiver.receive(20, Duration::ZERO, None).unwrap() {
            assert_eq!(message.received.position(), number as u64);
            assert_eq!(message.body, body_of(number), "message {number}");
            assert_eq!(message.group().is_some(), is_rich(number));
            assert_eq!(message.attributes().is_empty(), !is_rich(number));
            assert_eq!(message.sender(), receiver.participant());
            assert!(receiver.delete(&message.received.receipt).unwrap());
            number += 1;
        }
    }
    assert_eq!(number, 200);
    assert_eq!((queue.stats().visible, queue.stats().in_flight), (0, 0));
}
