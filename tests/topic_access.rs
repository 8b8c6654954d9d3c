//! Whom topics reach: queues that say which topics they take messages from, and queues and streams of other
//! buses.

use ringway::{
    Attributes, Bus, Incoming, OpenError, Publication, Publisher, Queue, QueuePolicyError,
    StreamIterator, SubscribeError, SubscribeOptions,
};
use ringway_harness::TempBus;
use std::time::Duration;

fn bus(root: &TempBus, name: &str) -> Bus {
    Bus::builder(name).root(root.path()).create().unwrap()
}

fn publish(publisher: &mut Publisher, body: &str) {
    let published = publisher.publish(&Publication::new(body.as_bytes()));
    published.unwrap();
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

fn raw(queue: &str) -> SubscribeOptions {
    SubscribeOptions::new(queue).raw(true)
}

/// Lets one topic deliver.
fn only(topic_arn: &str) -> String {
    let statement = serde_json::json!({
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": "*",
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    });
    serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

#[test]
fn a_topic_that_a_queue_does_not_admit_does_not_deliver_and_with_permission_it_does() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root, "here");
    let [queue, dead, open] = ["q", "dead", "open"].map(|name| bus.queue(name).create().unwrap());
    let [news, sport] = ["news", "sport"].map(|name| bus.topic(name).create().unwrap());
    for topic in [&news, &sport] {
        topic.subscribe(&raw("q").dead_letter("dead")).unwrap();
        topic.subscribe(&raw("open")).unwrap();
    }
    // Open before anything is said, so that the change has to be noticed.
    let [mut of_news, mut of_sport] = [&news, &sport].map(|topic| topic.publisher().unwrap());
    publish(&mut of_news, "news 1");
    publish(&mut of_sport, "sport 1");
    assert_eq!(drain(&queue), ["news 1", "sport 1"], "without a policy");

    let policy = only("arn:aws:sns:local:000000000000:news");
    bus.set_queue_policy("q", Some(&policy)).unwrap();
    assert_eq!(bus.queue_policy("q").unwrap(), Some(policy));
    publish(&mut of_news, "news 2");
    publish(&mut of_sport, "sport 2");
    assert_eq!(
        (drain(&queue), drain(&dead)),
        (vec!["news 2".to_owned()], vec!["sport 2".to_owned()])
    );
    let stats = sport.stats().unwrap();
    assert_eq!(
        (stats.dead_lettered, stats.failed, stats.waiting),
        (1, 0, 0)
    );
    // Somebody else grants it, and says that the dead letters are for nobody.
    let other = Bus::builder("here").root(root.path()).open().unwrap();
    let all = only("arn:aws:sns:local:000000000000:*");
    other.set_queue_policy("q", Some(&all)).unwrap();
    let nobody = only("arn:aws:sns:local:000000000000:nobody");
    other.set_queue_policy("dead", Some(&nobody)).unwrap();
    publish(&mut of_sport, "sport 3");
    other.set_queue_policy("q", Some(&nobody)).unwrap();
    publish(&mut of_sport, "sport 4");
    assert_eq!(
        (drain(&queue), drain(&dead)),
        (vec!["sport 3".to_owned()], vec![])
    );
    assert_eq!(sport.stats().unwrap().failed, 1);
    other.set_queue_policy("q", None).unwrap();
    publish(&mut of_sport, "sport 5");
    assert_eq!(drain(&queue), ["sport 5"]);
    assert_eq!(drain(&open).len(), 7, "it has no policy");

    let refused = bus.set_queue_policy("q", Some("{}")).unwrap_err();
    assert!(
        matches!(refused, QueuePolicyError::Invalid { .. }),
        "{refused}"
    );
    // Whoever took one away, and died before he said so.
    other.set_queue_policy("q", Some(&nobody)).unwrap();
    publish(&mut of_sport, "sport 6");
    for entry in std::fs::read_dir(bus.directory().join("topics")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("/.policy-q-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    other.set_queue_policy("q", None).unwrap();
    publish(&mut of_sport, "sport 7");
    assert_eq!(drain(&queue), ["sport 7"]);

    let missing = bus.set_queue_policy("nowhere", None).unwrap_err();
    assert!(
        matches!(missing, QueuePolicyError::Open(OpenError::NotFound { .. })),
        "{missing}"
    );
}

#[test]
fn a_policy_is_of_one_queue_and_goes_with_it_and_a_damaged_one_admits_nobody() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root, "here");
    bus.queue("q").create().unwrap();
    let topic = bus.topic("news").create().unwrap();
    topic.subscribe(&raw("q")).unwrap();
    let nobody = only("arn:aws:sns:local:000000000000:nobody");
    bus.set_queue_policy("q", Some(&nobody)).unwrap();
    bus.remove("q").unwrap();
    let again = bus.queue("q").create().unwrap();
    assert_eq!(bus.queue_policy("q").unwrap(), None);
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "m");
    assert_eq!(drain(&again), ["m"]);
    let policies = || {
        let entries = std::fs::read_dir(bus.directory().join("topics")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_policy = |path: &std::path::PathBuf| path.to_str().unwrap().contains("/.policy-q-");
        paths.filter(is_policy).collect::<Vec<_>>()
    };
    assert_eq!(policies().len(), 1);
    assert_eq!(bus.doctor(true).unwrap().temporary_files, 1);
    assert_eq!(policies().len(), 0, "that of the queue that is gone");
    assert!(bus.doctor(false).unwrap().is_clean());

    bus.set_queue_policy("q", Some(&nobody)).unwrap();
    std::fs::write(&policies()[0], b"{\"Statement\": ").unwrap();
    publish(&mut publisher, "m");
    assert_eq!((drain(&again).len(), topic.stats().unwrap().failed), (0, 1));
    assert!(bus.doctor(false).unwrap().is_clean());
}

#[test]
fn a_topic_delivers_to_queues_and_streams_of_other_buses() {
    let root = TempBus::new().unwrap();
    let [east, west] = ["east", "west"].map(|name| bus(&root, name));
    let topic = east.topic("news").create().unwrap();
    let [near, far, dead] = [(&east, "q"), (&west, "q"), (&west, "dead")]
        .map(|(bus, name)| bus.queue(name).create().unwrap());
    let stream = west.stream("s").create().unwrap();
    topic.subscribe(&raw("q")).unwrap();
    topic
        .subscribe(&raw("west/q").filter(r#"{"to": ["all"]}"#))
        .unwrap();
    topic
        .subscribe(&SubscribeOptions::to_stream("west/s").raw(true))
        .unwrap();
    let mut publisher = topic.publisher().unwrap();
    let mut attributes = Attributes::new();
    attributes.string("to", "all").unwrap();
    let to_all = Publication::new(b"to all").attributes(&attributes);
    publisher.publish(&to_all).unwrap();
    publish(&mut publisher, "to the near");
    assert_eq!(drain(&near), ["to all", "to the near"]);
    assert_eq!(drain(&far), ["to all"]);
    let reader = stream.reader().iterator(StreamIterator::TrimHorizon);
    let mut reader = reader.open().unwrap();
    for wanted in [&b"to all"[..], b"to the near"] {
        let record = reader.next(Duration::ZERO).unwrap().unwrap();
        assert_eq!(record.data, wanted);
    }
    // One participant of the other bus for all endpoints there.
    assert_eq!(west.participants().unwrap().len(), 2);
    assert_eq!(topic.stats().unwrap().delivered, 5);

    // Its policy tells the buses apart.
    west.set_queue_policy("q", Some(&only("arn:aws:sns:local:000000000000:news")))
        .unwrap();
    publisher.publish(&to_all).unwrap();
    west.set_queue_policy("q", Some(&only("arn:aws:sns:east:000000000000:news")))
        .unwrap();
    publisher.publish(&to_all).unwrap();
    assert_eq!((drain(&far).len(), topic.stats().unwrap().failed), (1, 1));

    for (queue, dead) in [
        ("nowhere/q", None),
        ("west/nothing", None),
        ("q", Some("west/nothing")),
    ] {
        let options = dead.map_or(raw(queue), |dead| raw(queue).dead_letter(dead));
        let refused = topic.subscribe(&options).unwrap_err();
        assert!(
            matches!(refused, SubscribeError::Open(OpenError::NotFound { .. })),
            "{refused}"
        );
    }
    let refused = topic.subscribe(&raw("../q")).unwrap_err();
    assert!(
        matches!(refused, SubscribeError::Open(OpenError::InvalidName { .. })),
        "{refused}"
    );

    // It is gone, and is made again: what is published between goes where it can.
    drop((far, dead, reader, stream, west));
    Bus::builder("west").root(root.path()).remove(true).unwrap();
    publisher.publish(&to_all).unwrap();
    let again = bus(&root, "west");
    let far = again.queue("q").create().unwrap();
    publisher.publish(&to_all).unwrap();
    assert_eq!(drain(&far), ["to all"]);
    assert_eq!(drain(&near).len(), 4);
}

#[test]
fn a_delivery_to_a_bus_that_nobody_has_opened_since_the_restart_is_made_later() {
    let root = TempBus::new().unwrap();
    let [east, west] = ["east", "west"].map(|name| bus(&root, name));
    let topic = east.topic("news").create().unwrap();
    let dead = east.queue("dead").create().unwrap();
    west.queue("q").create().unwrap();
    topic.subscribe(&raw("west/q").dead_letter("dead")).unwrap();
    // As the restart of a machine leaves a bus that lies on a disk.
    let boot_id = 32;
    let file = west.directory().join("bus");
    drop(west);
    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 16], boot_id).unwrap();
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "m");
    let stats = topic.stats().unwrap();
    assert_eq!((stats.waiting, stats.failed), (1, 0));
    let west = Bus::builder("west").root(root.path());
    let west = west.open_or_create().unwrap();
    let queue = west.queue("q").create().unwrap();
    while topic.stats().unwrap().waiting > 0 {
        let moment = Duration::from_millis(5);
        publisher.dispatcher().dispatch_within(moment).unwrap();
    }
    assert_eq!((drain(&queue), drain(&dead)), (vec!["m".into()], vec![]));
}

#[test]
fn a_bus_that_is_really_called_local_is_another_one_than_that_of_the_queue() {
    let root = TempBus::new().unwrap();
    let [here, local] = ["here", "local"].map(|name| bus(&root, name));
    let queue = here.queue("q").create().unwrap();
    let [near, far] = [(&here, "q"), (&local, "here/q")].map(|(bus, queue)| {
        let topic = bus.topic("news").create().unwrap();
        topic.subscribe(&raw(queue)).unwrap();
        topic
    });
    let mut publishers = [&near, &far].map(|topic| topic.publisher().unwrap());
    let mut publish_both = || {
        for (publisher, body) in publishers.iter_mut().zip(["near", "far"]) {
            publish(publisher, body);
        }
        drain(&queue)
    };
    for (region, admitted) in [
        ("local", &["near"][..]),
        ("here", &["near"]),
        ("bus.local", &["far"]),
        ("*", &["near", "far"]),
    ] {
        let policy = only(&format!("arn:aws:sns:{region}:000000000000:news"));
        here.set_queue_policy("q", Some(&policy)).unwrap();
        assert_eq!(publish_both(), admitted, "{region}");
    }
}
