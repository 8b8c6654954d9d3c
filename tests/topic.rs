//! Topics: every subscription that wants a message gets it, listeners hear all of them, and nothing but the
//! subscriptions themselves decides who gets what.

use ringway::filter::Scope;
use ringway::{
    Attributes, Bus, Deduplication, Incoming, Notification, OpenError, Publication, PublishError,
    Published, Publisher, Queue, ReadError, SubscribeError, SubscribeOptions, Topic,
};
use ringway_harness::TempBus;
use std::time::Duration;

struct Place {
    bus: Bus,
    root: TempBus,
}

impl Place {
    fn new() -> Self {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("t").root(root.path()).create().unwrap();
        Self { bus, root }
    }

    fn topic(&self) -> Topic {
        self.bus.topic("news").open_or_create().unwrap()
    }

    fn queue(&self, name: &str) -> Queue {
        self.bus.queue(name).open_or_create().unwrap()
    }

    /// Another participant.
    fn other(&self) -> Bus {
        Bus::builder("t").root(self.root.path()).open().unwrap()
    }
}

fn publish(publisher: &mut Publisher, body: &str) -> Published {
    let published = publisher.publish(&Publication::new(body.as_bytes()));
    published.unwrap()
}

/// Everything that is in a queue now, in its order.
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

#[test]
fn every_subscribed_queue_gets_every_message() {
    let place = Place::new();
    let (topic, a, b) = (place.topic(), place.queue("a"), place.queue("b"));
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "before");
    topic.subscribe(&raw("a")).unwrap();
    publish(&mut publisher, "one");
    // Added by somebody else, while the publisher goes on.
    let other = place.other();
    let id = other.topic("news").open().unwrap().subscribe(&raw("b"));
    publish(&mut publisher, "two");
    topic.unsubscribe(id.unwrap()).unwrap();
    publish(&mut publisher, "three");
    assert_eq!(drain(&a), ["one", "two", "three"]);
    assert_eq!(drain(&b), ["two"]);
    drop(publisher);
    let stats = topic.stats().unwrap();
    assert_eq!(
        (stats.subscriptions, stats.published, stats.delivered),
        (1, 4, 4)
    );
    assert_eq!(
        (stats.waiting, stats.retried, stats.failed, stats.damaged),
        (0, 0, 0, 0)
    );
    let left = topic.subscriptions().unwrap();
    assert_eq!(
        (left.len(), &*left[0].endpoint, left[0].raw),
        (1, "a", true)
    );
    let none = topic.unsubscribe(7).unwrap_err();
    assert!(matches!(none, SubscribeError::NotFound { id: 7 }), "{none}");
}

#[test]
fn a_filter_policy_decides_by_attributes_or_by_the_body() {
    let place = Place::new();
    let (topic, a, b) = (place.topic(), place.queue("a"), place.queue("b"));
    let by_attributes = raw("a").filter(r#"{"kind": ["sport"]}"#);
    topic.subscribe(&by_attributes).unwrap();
    let by_body = raw("b").filter(r#"{"goals": [{"numeric": [">", 2]}]}"#);
    topic.subscribe(&by_body.scope(Scope::Body)).unwrap();
    let mut publisher = topic.publisher().unwrap();
    let mut attributes = Attributes::new();
    attributes.string("kind", "sport").unwrap();
    for (body, sport) in [
        (r#"{"goals":3}"#, false),
        (r#"{"goals":1}"#, true),
        ("text", true),
    ] {
        let mut message = Publication::new(body.as_bytes());
        if sport {
            message = message.attributes(&attributes);
        }
        publisher.publish(&message).unwrap();
    }
    assert_eq!(drain(&a), [r#"{"goals":1}"#, "text"]);
    assert_eq!(drain(&b), [r#"{"goals":3}"#]);
    let refused = topic.subscribe(&raw("a").filter("{\"k\": 1}")).unwrap_err();
    assert!(matches!(refused, SubscribeError::Policy(_)), "{refused}");
    let missing = topic.subscribe(&raw("nowhere")).unwrap_err();
    assert!(matches!(
        missing,
        SubscribeError::Open(OpenError::NotFound { .. })
    ));
}

#[test]
fn raw_delivery_is_the_message_and_a_notification_tells_all_about_it() {
    let place = Place::new();
    let (topic, plain, wrapped) = (place.topic(), place.queue("plain"), place.queue("wrapped"));
    topic.subscribe(&raw("plain")).unwrap();
    topic.subscribe(&SubscribeOptions::new("wrapped")).unwrap();
    let mut attributes = Attributes::new();
    attributes.string("city", "Graz").unwrap();
    attributes.binary("seal", &[255, 0]).unwrap();
    let message = Publication::new("ü".as_bytes()).subject("a subject");
    let message = message
        .attributes(&attributes)
        .group("g")
        .trace_header("Root=1");
    let id = topic.publisher().unwrap().publish(&message).unwrap().id;

    let mut incoming = Incoming::new();
    let mut receiver = plain.receiver().unwrap();
    receiver.receive_message(&mut incoming).unwrap().unwrap();
    assert_eq!(incoming.body(), "ü".as_bytes());
    assert_eq!(incoming.attributes(), attributes.as_ref());
    assert_eq!(
        (incoming.group(), incoming.trace_header()),
        (Some("g"), Some("Root=1"))
    );

    let bodies = drain(&wrapped);
    let notification: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(notification["Type"], "Notification");
    assert_eq!(notification["MessageId"], id.to_string());
    assert_eq!(
        notification["TopicArn"],
        "arn:aws:sns:local:000000000000:news"
    );
    assert_eq!(
        (&notification["Subject"], &notification["Message"]),
        (&"a subject".into(), &"ü".into())
    );
    let city = &notification["MessageAttributes"]["city"];
    assert_eq!(
        *city,
        serde_json::json!({"Type": "String", "Value": "Graz"})
    );
    assert_eq!(notification["MessageAttributes"]["seal"]["Value"], "/wA=");
    assert!(notification["Timestamp"].as_str().unwrap().ends_with('Z'));
    // Bytes that are no text travel all the same.
    topic
        .publisher()
        .unwrap()
        .publish(&Publication::new(&[0xFF]))
        .unwrap();
    let notification: serde_json::Value = serde_json::from_str(&drain(&wrapped)[0]).unwrap();
    assert_eq!(
        (&notification["MessageEncoding"], &notification["Message"]),
        (&"base64".into(), &"/w==".into())
    );
}

#[test]
fn a_listener_hears_what_is_published_behind_it_and_is_told_what_it_missed() {
    let place = Place::new();
    let topic = place.bus.topic("news").listen_slots(1024).create().unwrap();
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "before");
    let (mut listener, mut heard) = (topic.listen().unwrap(), Notification::new());
    let mut attributes = Attributes::new();
    attributes.number("n", 5).unwrap();
    let message = Publication::new(b"hello")
        .subject("s")
        .attributes(&attributes)
        .group("g");
    let id = publisher.publish(&message).unwrap().id;
    assert!(listener.hear(&mut heard, Duration::ZERO).unwrap());
    assert_eq!(
        (heard.id(), heard.body(), heard.subject()),
        (id, &b"hello"[..], Some("s"))
    );
    assert_eq!(
        (heard.attributes(), heard.group()),
        (attributes.as_ref(), Some("g"))
    );
    assert!(!listener.try_hear(&mut heard).unwrap());
    let long = "x".repeat(5000);
    publish(&mut publisher, &long);
    assert!(listener.try_hear(&mut heard).unwrap() && heard.body() == long.as_bytes());
    for number in 0..3000 {
        publish(&mut publisher, &number.to_string());
    }
    let lagged = listener.try_hear(&mut heard).unwrap_err();
    assert!(matches!(lagged, ReadError::Lagged { .. }), "{lagged}");
    let mut last = String::new();
    while listener.try_hear(&mut heard).unwrap() {
        last = String::from_utf8(heard.body().to_vec()).unwrap();
    }
    assert_eq!(
        (last.as_str(), topic.stats().unwrap().listeners),
        ("2999", 1)
    );
}

#[test]
fn a_full_queue_holds_nobody_up_and_gets_its_messages_later() {
    let place = Place::new();
    let topic = place.topic();
    let small = place.bus.queue("small").slots(1024).create().unwrap();
    let large = place.queue("large");
    for queue in ["small", "large"] {
        topic.subscribe(&raw(queue)).unwrap();
    }
    let mut publisher = topic.publisher().unwrap();
    let all: Vec<String> = (0..1500).map(|number| format!("{number:04}")).collect();
    for body in &all {
        publish(&mut publisher, body);
    }
    // Mostly it has everything by now; where retries were due meanwhile, they came first.
    let mut got = drain(&large);
    while got.len() < all.len() {
        let moment = Duration::from_millis(5);
        publisher.dispatcher().dispatch_within(moment).unwrap();
        got.extend(drain(&large));
    }
    assert_eq!(got, all);
    assert!(topic.stats().unwrap().retried >= 476);
    let mut got = drain(&small);
    // And more, if a second passed meanwhile: a receiver looks around for what others left.
    assert_eq!(got[..1024], all[..1024]);
    while got.len() < all.len() {
        publisher
            .dispatcher()
            .dispatch_within(Duration::from_millis(5))
            .unwrap();
        got.extend(drain(&small));
    }
    got.sort();
    assert_eq!(got, all);
    assert_eq!(topic.stats().unwrap().waiting, 0);
}

#[test]
fn what_can_never_be_delivered_goes_to_the_dead_letter_queue() {
    let place = Place::new();
    let (topic, dead) = (place.topic(), place.queue("dead"));
    let short = place
        .bus
        .queue("short")
        .max_message_bytes(4)
        .create()
        .unwrap();
    place.queue("gone");
    topic.subscribe(&raw("short").dead_letter("dead")).unwrap();
    topic.subscribe(&raw("gone").dead_letter("dead")).unwrap();
    topic.subscribe(&raw("gone")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "both");
    place.bus.remove("gone").unwrap();
    publish(&mut publisher, "too long");
    assert_eq!(drain(&short), ["both"]);
    assert_eq!(drain(&dead), ["too long", "too long"]);
    let stats = topic.stats().unwrap();
    assert_eq!(
        (stats.dead_lettered, stats.failed, stats.waiting),
        (2, 1, 0)
    );
    // It is there again: the next message reaches it.
    let again = place.queue("gone");
    publish(&mut publisher, "back");
    assert_eq!(drain(&again), ["back", "back"]);
}

#[test]
fn a_fifo_topic_keeps_the_order_of_groups_and_drops_repeats() {
    let place = Place::new();
    let topic = place.bus.topic("news").fifo().create().unwrap();
    let ids = Deduplication::default();
    let fifo = place
        .bus
        .queue("fifo")
        .fifo()
        .deduplicate(ids)
        .create()
        .unwrap();
    let standard = place.queue("standard");
    for queue in ["fifo", "standard"] {
        topic.subscribe(&raw(queue)).unwrap();
    }
    let mut publisher = topic.publisher().unwrap();
    let missing = publisher.publish(&Publication::new(b"x")).unwrap_err();
    assert!(matches!(missing, PublishError::MissingGroup), "{missing}");
    let mut wanted = [Vec::new(), Vec::new()];
    for number in 0..40 {
        let (group, id) = (["a", "b"][number % 2], format!("id-{number}"));
        let body = format!("{group}{number}");
        let message = Publication::new(body.as_bytes()).group(group).dedup_id(&id);
        assert!(!publisher.publish(&message).unwrap().duplicate);
        assert!(publisher.publish(&message).unwrap().duplicate);
        wanted[number % 2].push(body);
    }
    for queue in [&fifo, &standard] {
        let got = drain(queue);
        for (group, wanted) in ["a", "b"].iter().zip(&wanted) {
            let of_group = got.iter().filter(|body| body.starts_with(group));
            assert!(of_group.eq(wanted), "{} {got:?}", queue.name());
        }
    }
    assert_eq!(topic.stats().unwrap().waiting, 0);
    let mismatch = place
        .bus
        .topic("plain")
        .create()
        .map(drop)
        .and_then(|()| place.bus.topic("plain").fifo().open().map(drop));
    assert!(matches!(
        mismatch,
        Err(OpenError::Mismatch { option: "kind", .. })
    ));
}

#[test]
fn a_standard_topic_feeds_a_fifo_queue_in_one_group_unless_the_publisher_says_more() {
    let place = Place::new();
    let topic = place.topic();
    let fifo = place.bus.queue("q.fifo").fifo().create().unwrap();
    topic.subscribe(&raw("q.fifo")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    for number in 0..10 {
        publish(&mut publisher, &number.to_string());
    }
    let mut incoming = Incoming::new();
    let mut receiver = fifo.receiver().unwrap();
    let first = receiver.receive_message(&mut incoming).unwrap().unwrap();
    assert_eq!(
        (incoming.group(), incoming.body()),
        (Some("news"), &b"0"[..])
    );
    receiver.delete(&first.receipt).unwrap();
    // Equal bodies are different messages.
    publish(&mut publisher, "9");
    let rest: Vec<String> = (1..10).map(|number: u32| number.to_string()).collect();
    assert_eq!(drain(&fifo)[..9], rest);
}

#[test]
fn an_idle_topic_is_a_page_and_a_removed_one_is_gone_for_everybody() {
    let place = Place::new();
    let topic = place.topic();
    let directory = place.bus.directory().to_owned();
    let files = |part: &str| {
        let entries = std::fs::read_dir(directory.join(part)).unwrap();
        entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect::<Vec<_>>()
    };
    assert_eq!((files("topics"), files("objects").len()), (vec![4096], 0));
    publish(&mut topic.publisher().unwrap(), "to nobody");
    assert_eq!(files("objects").len(), 0);
    let a = place.queue("a");
    topic.subscribe(&raw("a")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    let mut listener = topic.listen().unwrap();
    publish(&mut publisher, "one");
    assert_eq!(
        files("objects").len(),
        3,
        "the queue, the transit, the listeners' ring"
    );
    assert_eq!(
        place.bus.objects().unwrap().len(),
        1,
        "the catalog shows neither"
    );
    assert_eq!(place.bus.topics().unwrap(), ["news"]);
    assert!(place.bus.doctor(false).unwrap().is_clean());

    place.bus.remove_topic("news").unwrap();
    assert!(matches!(
        publisher.publish(&Publication::new(b"x")),
        Err(PublishError::Removed)
    ));
    assert!(matches!(
        topic.subscribe(&raw("a")),
        Err(SubscribeError::Removed)
    ));
    let mut heard = Notification::new();
    assert!(listener.try_hear(&mut heard).unwrap());
    assert!(matches!(
        listener.try_hear(&mut heard),
        Err(ReadError::Removed)
    ));
    assert!(matches!(
        place.bus.remove_topic("news"),
        Err(OpenError::NotFound { .. })
    ));
    // A fresh one of the name knows nothing of the old.
    let fresh = place.topic();
    assert_eq!(fresh.stats().unwrap(), Default::default());
    publish(&mut fresh.publisher().unwrap(), "two");
    assert_eq!(drain(&a), ["one"]);
    drop((listener, publisher));
    assert!(place.bus.doctor(true).unwrap().is_clean());
    assert_eq!(files("objects").len(), 1);
}

#[test]
fn two_who_subscribe_at_the_same_time_are_both_there() {
    let place = Place::new();
    let (topic, queue) = (place.topic(), place.queue("a"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let bus = place.other();
            scope.spawn(move || {
                let topic = bus.topic("news").open().unwrap();
                // Together longer than the log is at first, so that it grows under them.
                let filter = format!("{{\"k\": [\"{}\"]}}", "x".repeat(300));
                for number in 0..100 {
                    let id = topic.subscribe(&raw("a").filter(&filter)).unwrap();
                    if number % 2 == 0 {
                        topic.unsubscribe(id).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(topic.subscriptions().unwrap().len(), 200);
    let mut attributes = Attributes::new();
    attributes.string("k", &"x".repeat(300)).unwrap();
    let message = Publication::new(b"m").attributes(&attributes);
    topic.publisher().unwrap().publish(&message).unwrap();
    assert_eq!(drain(&queue).len(), 200);
}

#[test]
fn what_no_queue_would_take_with_a_message_is_refused_when_it_is_published() {
    let place = Place::new();
    let (topic, queue) = (place.topic(), place.queue("q"));
    topic.subscribe(&raw("q")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    let control = Publication::new(b"x").trace_header("Root=1\u{1}");
    let refused = publisher.publish(&control);
    assert!(
        matches!(refused, Err(PublishError::InvalidId { .. })),
        "{refused:?}"
    );
    let tab = Publication::new(b"y").trace_header("Root=1\tSampled=1");
    publisher.publish(&tab).unwrap();
    assert_eq!(drain(&queue), ["y"]);
    assert_eq!(topic.stats().unwrap().failed, 0);
}
