//! What topics deliver to: queues, streams and, through a queue, commands; how often it is tried, and in what
//! words; and what of its archive a FIFO topic gives to who comes later.

use ringway::{
    Attributes, Backpressure, Bus, GroupStart, Incoming, OpenError, Outgoing, Publication,
    PublishError, Publisher, Queue, ReplayStatus, Stream, StreamIterator, SubscribeError,
    SubscribeOptions, Topic,
};
use ringway_harness::TempBus;
use std::time::Duration;

struct Place {
    bus: Bus,
    _root: TempBus,
}

impl Place {
    fn new() -> Self {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("t").root(root.path()).create().unwrap();
        Self { bus, _root: root }
    }

    fn topic(&self) -> Topic {
        self.bus.topic("news").open_or_create().unwrap()
    }

    fn queue(&self, name: &str) -> Queue {
        self.bus.queue(name).open_or_create().unwrap()
    }

    /// A queue that takes no more than 1,024 messages, and has them.
    fn full_queue(&self, name: &str) -> Queue {
        let queue = self.bus.queue(name).slots(1024).create().unwrap();
        let mut sender = queue.sender().unwrap();
        for _ in 0..1024 {
            sender.send(b"full").unwrap();
        }
        queue
    }

    /// A FIFO topic with an archive.
    fn archived(&self) -> Topic {
        let topic = self.bus.topic("ledger").fifo();
        topic.archive_days(1).archive_slots(1024).create().unwrap()
    }
}

fn publish(publisher: &mut Publisher, body: &str) {
    let published = publisher.publish(&Publication::new(body.as_bytes()));
    published.unwrap();
}

fn publish_to(publisher: &mut Publisher, group: &str, body: &str) {
    let message = Publication::new(body.as_bytes()).group(group);
    publisher.publish(&message.dedup_id(body)).unwrap();
}

fn drain(queue: &Queue) -> Vec<String> {
    let (mut receiver, mut incoming) = (queue.receiver().unwrap(), Incoming::new());
    let mut bodies = Vec::new();
    while let Some(received) = receiver.receive_message(&mut incoming).unwrap() {
        bodies.push(String::from_utf8(incoming.body().to_vec()).unwrap());
        receiver.delete(&received.receipt).unwrap();
    }
    bodies
}

/// Everything in a stream: keys and data.
fn records(stream: &Stream) -> Vec<(String, String)> {
    let reader = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = reader.open().unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        let data = String::from_utf8(record.data.to_vec()).unwrap();
        records.push((record.key().to_owned(), data));
    }
    records
}

fn raw(queue: &str) -> SubscribeOptions {
    SubscribeOptions::new(queue).raw(true)
}

const RETRY_TWICE: &str = r#"{"healthyRetryPolicy": {"numRetries": 2, "numNoDelayRetries": 2, "backoffFunction": "linear"}}"#;

#[test]
fn a_stream_gets_every_message_under_its_group_or_its_id() {
    let place = Place::new();
    let topic = place.topic();
    let stream = place.bus.stream("history").shards(3).create().unwrap();
    let wrapped = place.bus.stream("wrapped").create().unwrap();
    topic
        .subscribe(&SubscribeOptions::to_stream("history").raw(true))
        .unwrap();
    topic
        .subscribe(&SubscribeOptions::to_stream("wrapped"))
        .unwrap();
    let mut publisher = topic.publisher().unwrap();
    for number in 0..20 {
        let body = number.to_string();
        let message = Publication::new(body.as_bytes()).group(["a", "b"][number % 2]);
        publisher.publish(&message).unwrap();
    }
    let alone = publisher.publish(&Publication::new(b"alone")).unwrap().id;
    let got = records(&stream);
    for (group, first) in [("a", 0), ("b", 1)] {
        let of_group = got.iter().filter(|(key, _)| key == group);
        let of_group: Vec<_> = of_group.map(|(_, data)| data.clone()).collect();
        let wanted: Vec<_> = (first..20)
            .step_by(2)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(of_group, wanted);
    }
    assert_eq!(got.len(), 21);
    assert!(got.contains(&(alone.to_string(), "alone".to_owned())));
    let notification: serde_json::Value = serde_json::from_str(&records(&wrapped)[0].1).unwrap();
    assert_eq!(
        (&notification["Type"], &notification["Message"]),
        (&"Notification".into(), &"0".into())
    );
    let missing = topic
        .subscribe(&SubscribeOptions::to_stream("nowhere"))
        .unwrap_err();
    assert!(
        matches!(missing, SubscribeError::Open(OpenError::NotFound { .. })),
        "{missing}"
    );
}

#[test]
fn a_full_stream_gets_its_messages_later_and_a_removed_one_leaves_them_to_the_dead_letters() {
    let place = Place::new();
    let (topic, dead) = (place.topic(), place.queue("dead"));
    let builder = place.bus.stream("s").slots(1024);
    let stream = builder.backpressure(Backpressure::Fail).create().unwrap();
    // A group that has not read it yet holds its producers back.
    let group = stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    let mut worker = group.join().unwrap();
    topic
        .subscribe(
            &SubscribeOptions::to_stream("s")
                .raw(true)
                .dead_letter("dead"),
        )
        .unwrap();
    let mut publisher = topic.publisher().unwrap();
    for number in 0..1100 {
        publish(&mut publisher, &number.to_string());
    }
    let stats = topic.stats().unwrap();
    assert!(stats.retried > 0 && stats.waiting > 0, "{stats:?}");
    let mut got = Vec::new();
    while got.len() < 1100 {
        while let Some(record) = worker.next(Duration::ZERO).unwrap() {
            let data = std::str::from_utf8(&record.data).unwrap();
            got.push(data.parse::<u32>().unwrap());
        }
        worker.checkpoint().unwrap();
        let moment = Duration::from_millis(5);
        publisher.dispatcher().dispatch_within(moment).unwrap();
    }
    got.sort_unstable();
    assert!(got.into_iter().eq(0..1100));
    drop((worker, group, stream));
    place.bus.remove("s").unwrap();
    // A producer sees within 64 puts that its stream is gone.
    for number in 0..100 {
        publish(&mut publisher, &format!("too late {number}"));
    }
    let dead = drain(&dead);
    assert!(dead.len() >= 36, "{dead:?}");
    assert_eq!(dead.last().map(String::as_str), Some("too late 99"));
}

#[test]
fn each_subscription_has_its_own_retries_and_its_own_counts() {
    let place = Place::new();
    let (topic, dead) = (place.topic(), place.queue("dead"));
    let (full, patient) = (place.full_queue("full"), place.full_queue("patient"));
    let policy = raw("full").dead_letter("dead").delivery_policy(RETRY_TWICE);
    let with_policy = topic.subscribe(&policy).unwrap();
    let without = topic.subscribe(&raw("patient")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "x");
    publisher.dispatcher().dispatch(100).unwrap();
    assert_eq!(drain(&dead), ["x"]);
    let stats = topic.subscription_stats(with_policy).unwrap();
    assert_eq!(
        (
            stats.delivered,
            stats.retried,
            stats.dead_lettered,
            stats.failed
        ),
        (0, 2, 1, 0)
    );
    let stats = topic.subscription_stats(without).unwrap();
    assert!(
        stats.retried >= 1 && stats.delivered + stats.dead_lettered == 0,
        "{stats:?}"
    );
    assert_eq!((drain(&full).len(), drain(&patient).len()), (1024, 1024));
    while topic.stats().unwrap().waiting > 0 {
        let moment = Duration::from_millis(5);
        publisher.dispatcher().dispatch_within(moment).unwrap();
    }
    assert_eq!(drain(&patient), ["x"]);
    assert_eq!(topic.subscription_stats(without).unwrap().delivered, 1);
    assert_eq!(drain(&full), [""; 0]);
    let refused = topic
        .subscribe(&raw("full").delivery_policy("{\"a\": 1}"))
        .unwrap_err();
    assert!(
        matches!(refused, SubscribeError::DeliveryPolicy { .. }),
        "{refused}"
    );
}

#[test]
fn who_has_a_message_does_not_get_it_again_while_another_holds_its_group_up() {
    let place = Place::new();
    let topic = place.bus.topic("news").fifo().create().unwrap();
    let (full, plain) = (place.full_queue("full"), place.queue("plain"));
    for queue in ["full", "plain"] {
        topic.subscribe(&raw(queue)).unwrap();
    }
    let mut publisher = topic.publisher().unwrap();
    publish_to(&mut publisher, "g", "one");
    publish_to(&mut publisher, "g", "two");
    let tried = Duration::from_millis(100);
    publisher.dispatcher().dispatch_within(tried).unwrap();
    assert_eq!(
        drain(&plain),
        ["one"],
        "two waits behind it, and one came once"
    );
    assert_eq!(drain(&full).len(), 1024);
    while topic.stats().unwrap().waiting > 0 {
        let moment = Duration::from_millis(5);
        publisher.dispatcher().dispatch_within(moment).unwrap();
    }
    assert_eq!(
        (drain(&full), drain(&plain)),
        (vec!["one".into(), "two".into()], vec!["two".to_owned()])
    );
}

#[test]
fn a_message_with_a_text_for_each_protocol_says_each_its_own() {
    let place = Place::new();
    let (topic, queue, command) = (place.topic(), place.queue("q"), place.queue("c"));
    let stream = place.bus.stream("s").create().unwrap();
    topic.subscribe(&raw("q")).unwrap();
    topic
        .subscribe(&SubscribeOptions::to_exec("c").raw(true))
        .unwrap();
    topic
        .subscribe(&SubscribeOptions::to_stream("s").raw(true))
        .unwrap();
    let mut listener = topic.listen().unwrap();
    let mut publisher = topic.publisher().unwrap();
    let body = br#"{"default": "to all", "sqs": "to queues", "lambda": "to commands", "email": "to nobody"}"#;
    publisher
        .publish(&Publication::new(body).per_protocol())
        .unwrap();
    assert_eq!(drain(&queue), ["to queues"]);
    assert_eq!(drain(&command), ["to commands"]);
    assert_eq!(records(&stream)[0].1, "to all");
    let heard = listener
        .hear_in_place(|heard| heard.body().to_vec())
        .unwrap();
    assert_eq!(heard.as_deref(), Some(&b"to all"[..]));
    for none in [&b"text"[..], b"{}", br#"{"default": 5}"#, br#"["default"]"#] {
        let refused = publisher
            .publish(&Publication::new(none).per_protocol())
            .unwrap_err();
        assert!(
            matches!(refused, PublishError::InvalidStructure),
            "{refused}"
        );
    }
}

/// A policy that asks for everything since `from_ms`, to `to_ms` if that is given.
fn since(from_ms: u64, to_ms: Option<u64>) -> String {
    let text = |ms: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_millis(ms);
        humantime::format_rfc3339_millis(time).to_string()
    };
    let mut policy = serde_json::json!({"PointType": "Timestamp", "StartingPoint": text(from_ms)});
    if let Some(to_ms) = to_ms {
        policy["EndingPoint"] = text(to_ms).into();
    }
    policy.to_string()
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as u64
}

/// Waits until the clock has gone on by more than what a publisher's may be off, which is a millisecond or two.
fn next_ms() -> u64 {
    let start = now_ms();
    loop {
        let now = now_ms();
        if now > start + 8 {
            return now - 4;
        }
        std::hint::spin_loop();
    }
}

#[test]
fn a_new_subscription_gets_the_archive_first_and_then_what_is_published() {
    let place = Place::new();
    let topic = place.archived();
    let fifo = place.bus.queue("fifo").fifo().create().unwrap();
    let plain = place.queue("plain");
    let mut publisher = topic.publisher().unwrap();
    for number in 0..300 {
        publish_to(
            &mut publisher,
            ["a", "b"][number % 2],
            &format!("{number:03}"),
        );
    }
    next_ms();
    let by_fifo = topic
        .subscribe(&raw("fifo").replay(&since(0, None)))
        .unwrap();
    let wrapped = SubscribeOptions::new("plain").replay(&since(0, None));
    let by_plain = topic.subscribe(&wrapped).unwrap();
    for number in 300..400 {
        publish_to(
            &mut publisher,
            ["a", "b"][number % 2],
            &format!("{number:03}"),
        );
    }
    let got = drain(&fifo);
    for parity in 0..2 {
        let of_group = got
            .iter()
            .filter(|body| body.parse::<usize>().unwrap() % 2 == parity);
        let wanted: Vec<_> = (parity..400)
            .step_by(2)
            .map(|number| format!("{number:03}"))
            .collect();
        assert!(of_group.eq(&wanted), "group {parity}: {got:?}");
    }
    let bodies = drain(&plain);
    let notifications: Vec<serde_json::Value> = bodies
        .iter()
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    let replayed = |one: &&serde_json::Value| one["Replayed"] == true;
    assert_eq!(notifications.len(), 400);
    assert_eq!(notifications.iter().filter(replayed).count(), 300);
    assert!(
        notifications[..300]
            .iter()
            .all(|one| one["Replayed"] == true)
    );
    for id in [by_fifo, by_plain] {
        assert_eq!(
            topic.replay_status(id).unwrap(),
            Some(ReplayStatus::Completed)
        );
        assert_eq!(topic.subscription_stats(id).unwrap().delivered, 400);
    }
    assert_eq!(topic.stats().unwrap().waiting, 0);
}

/// A FIFO queue deduplicates by the id of the publish, and a replay is no repeat of that.
#[test]
fn a_replay_comes_to_a_queue_that_has_had_the_messages_before() {
    let place = Place::new();
    let topic = place.archived();
    let had = place.bus.queue("had").fifo().create().unwrap();
    let first = topic.subscribe(&raw("had")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    for body in ["0", "1", "2"] {
        publish_to(&mut publisher, "g", body);
    }
    assert_eq!(drain(&had), ["0", "1", "2"]);
    topic.unsubscribe(first).unwrap();
    next_ms();
    topic
        .subscribe(&raw("had").replay(&since(0, None)))
        .unwrap();
    assert_eq!(drain(&had), ["0", "1", "2"]);
}

#[test]
fn a_replay_has_a_window_and_a_filter_and_goes_on_when_there_is_room() {
    let place = Place::new();
    let (topic, window) = (place.archived(), place.queue("window"));
    let full = place.full_queue("full");
    let mut publisher = topic.publisher().unwrap();
    let mut sport = Attributes::new();
    sport.string("kind", "sport").unwrap();
    let mut times = Vec::new();
    for number in 0..5 {
        times.push(next_ms());
        for attributes in [Some(&sport), None] {
            let body = format!("{number}{}", if attributes.is_some() { "s" } else { "" });
            let message = Publication::new(body.as_bytes()).group("g").dedup_id(&body);
            let message = attributes.map_or(message, |sport| message.attributes(sport));
            publisher.publish(&message).unwrap();
        }
    }
    next_ms();
    let options = raw("window").replay(&since(times[1], Some(times[3] - 1)));
    topic
        .subscribe(&options.filter(r#"{"kind": ["sport"]}"#))
        .unwrap();
    let waiting = topic
        .subscribe(&raw("full").replay(&since(0, None)))
        .unwrap();
    assert_eq!(drain(&window), ["1s", "2s"]);
    let status = topic.replay_status(waiting).unwrap();
    assert!(
        matches!(
            status,
            Some(ReplayStatus::Pending | ReplayStatus::InProgress)
        ),
        "{status:?}"
    );
    assert_eq!(drain(&full).len(), 1024);
    // Nobody publishes: whoever dispatches goes on.
    while topic.replay_status(waiting).unwrap() != Some(ReplayStatus::Completed) {
        let moment = Duration::from_millis(5);
        publisher.dispatcher().dispatch_within(moment).unwrap();
    }
    let all = ["0s", "0", "1s", "1", "2s", "2", "3s", "3", "4s", "4"];
    assert_eq!(drain(&full), all);
    // What was published outside of the window is not in it; what is published now is.
    let message = Publication::new(b"now").group("g").attributes(&sport);
    publisher.publish(&message).unwrap();
    assert_eq!(drain(&window), ["now"]);
    for (options, says) in [
        (raw("full").replay("{}"), "PointType must be Timestamp"),
        (raw("full").replay("5"), "no JSON object"),
    ] {
        let refused = topic.subscribe(&options).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let plain = place.topic();
    let refused = plain
        .subscribe(&raw("full").replay(&since(0, None)))
        .unwrap_err();
    assert!(refused.to_string().contains("no archive"), "{refused}");
    let refused = place
        .bus
        .topic("standard")
        .archive_days(3)
        .create()
        .map(drop);
    assert!(matches!(
        refused,
        Err(OpenError::InvalidOption {
            option: "archive_days",
            ..
        })
    ));
}

#[test]
fn an_archive_keeps_the_newest_and_a_subscription_that_falls_out_of_it_goes_on_behind_the_gap() {
    let place = Place::new();
    let (topic, queue) = (place.archived(), place.queue("q"));
    let mut publisher = topic.publisher().unwrap();
    for number in 0..3000 {
        publish_to(&mut publisher, "g", &number.to_string());
    }
    topic.subscribe(&raw("q").replay(&since(0, None))).unwrap();
    publish_to(&mut publisher, "g", "last");
    let got = drain(&queue);
    assert!((800..=1024).contains(&got.len()), "{}", got.len());
    assert_eq!(got.last().map(String::as_str), Some("last"));
    let first: usize = got[0].parse().unwrap();
    let wanted: Vec<_> = (first..3000).map(|number| number.to_string()).collect();
    assert_eq!(got[..got.len() - 1], wanted);
    assert!(place.bus.doctor(false).unwrap().is_clean());
    place.bus.remove_topic("ledger").unwrap();
    let left = std::fs::read_dir(place.bus.directory().join("objects")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let is_ours = |name: &std::ffi::OsString| name.to_str().unwrap().contains("ledger");
    assert!(!left.iter().any(is_ours), "{left:?}");
}

/// What a queue holds: bodies, attributes as text, trace headers.
fn whole(queue: &Queue) -> Vec<(Vec<u8>, String, Option<String>)> {
    let (mut receiver, mut incoming) = (queue.receiver().unwrap(), Incoming::new());
    let mut found = Vec::new();
    while let Some(received) = receiver.receive_message(&mut incoming).unwrap() {
        let attributes: Vec<_> = incoming.attributes().iter().collect();
        let header = incoming.trace_header().map(str::to_owned);
        found.push((incoming.body().to_vec(), format!("{attributes:?}"), header));
        receiver.delete(&received.receipt).unwrap();
    }
    found
}

#[test]
fn queues_of_all_kinds_get_each_message_whole_although_it_is_encoded_once_for_many() {
    let place = Place::new();
    let topic = place.topic();
    let (first, second) = (place.queue("first"), place.queue("second"));
    let ordered = place.bus.queue("ordered.fifo").fifo().create().unwrap();
    let wrapped = [place.queue("wrapped"), place.queue("wrapped-too")];
    let dead = place.queue("dead");
    let small = place.bus.queue("small").max_message_bytes(32);
    let small = small.create().unwrap();
    for name in ["first", "second", "ordered.fifo"] {
        topic.subscribe(&raw(name)).unwrap();
    }
    topic.subscribe(&raw("small").dead_letter("dead")).unwrap();
    for name in ["wrapped", "wrapped-too"] {
        topic.subscribe(&SubscribeOptions::new(name)).unwrap();
    }
    let mut publisher = topic.publisher().unwrap();
    let mut sent = Vec::new();
    for number in 0..60usize {
        // Longer than a slot now and then, and mostly longer than the small queue takes, though not by what the
        // encoding of its attributes adds.
        let body = vec![number as u8; number % 7 * 5 + number / 50 * 2_000];
        let mut attributes = Attributes::new();
        if number % 3 > 0 {
            attributes.string("n", &number.to_string()).unwrap();
        }
        let header = format!("Root={number}");
        let mut message = Publication::new(&body).attributes(&attributes);
        if number % 4 == 1 {
            message = message.trace_header(&header);
        }
        publisher.publish(&message).unwrap();
        let list: Vec<_> = attributes.as_ref().iter().collect();
        let size = Outgoing::new(&body).attributes(&attributes).size();
        let header = (number % 4 == 1).then_some(header);
        sent.push(((body, format!("{list:?}"), header), size));
    }
    let all: Vec<_> = sent.iter().map(|(message, _)| message.clone()).collect();
    for queue in [&first, &second, &ordered] {
        assert_eq!(whole(queue), all, "{}", queue.name());
    }
    let of_size = |is_small: bool| {
        let those = sent.iter().filter(|(_, size)| (*size <= 32) == is_small);
        those
            .map(|(message, _)| message.clone())
            .collect::<Vec<_>>()
    };
    assert!(!of_size(true).is_empty() && !of_size(false).is_empty());
    assert_eq!(whole(&small), of_size(true));
    assert_eq!(whole(&dead), of_size(false));
    for queue in &wrapped {
        let found = whole(queue);
        assert_eq!(found.len(), all.len());
        for ((notification, ..), (body, ..)) in found.iter().zip(&all) {
            let said: serde_json::Value = serde_json::from_slice(notification).unwrap();
            assert_eq!(said["Message"].as_str().unwrap().as_bytes(), body);
        }
    }
}
