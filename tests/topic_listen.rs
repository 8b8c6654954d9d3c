//! Listeners of topics: each hears what its filter policy wants, and what happens when it falls behind is its
//! own choice.

use ringway::filter::Scope;
use ringway::{
    Attributes, Bus, ListenOptions, ListenPolicy, ListenStats, Listener, Notification, Publication,
    PublishError, Publisher, ReadError, SubscribeOptions, Topic,
};
use ringway_harness::TempBus;
use std::time::Duration;

/// Messages that the ring of listeners holds.
const SLOTS: u64 = 1024;

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
        self.bus.topic("news").listen_slots(SLOTS).create().unwrap()
    }
}

fn publish(publisher: &mut Publisher, body: &str) {
    let published = publisher.publish(&Publication::new(body.as_bytes()));
    published.unwrap();
}

fn hear(listener: &mut Listener) -> Option<String> {
    let mut heard = Notification::new();
    let is_there = listener.try_hear(&mut heard).unwrap();
    is_there.then(|| String::from_utf8(heard.body().to_vec()).unwrap())
}

fn by_policy(policy: ListenPolicy) -> ListenOptions {
    ListenOptions::new().policy(policy)
}

#[test]
fn a_listener_hears_what_its_filter_policy_wants() {
    let place = Place::new();
    let topic = place.topic();
    let by_attribute = ListenOptions::new().filter(r#"{"kind": ["sport"]}"#);
    let by_body = ListenOptions::new()
        .filter(r#"{"goals": [{"numeric": [">", 2]}]}"#)
        .scope(Scope::Body);
    let mut copying = topic.listen_with(&by_attribute).unwrap();
    let mut in_place = topic
        .listen_with(&by_attribute.clone().policy(ListenPolicy::Block))
        .unwrap();
    let mut by_body = topic.listen_with(&by_body).unwrap();
    let mut publisher = topic.publisher().unwrap();
    let mut sport = Attributes::new();
    sport.string("kind", "sport").unwrap();
    let large = format!(r#"{{"goals": 4, "text": "{}"}}"#, "x".repeat(20_000));
    for (body, is_sport) in [
        ("rain", false),
        (r#"{"goals": 1}"#, true),
        (&large, true),
        (r#"{"goals": 9}"#, false),
    ] {
        let mut message = Publication::new(body.as_bytes()).subject("s");
        if is_sport {
            message = message.attributes(&sport);
        }
        publisher.publish(&message).unwrap();
    }
    for body in [r#"{"goals": 1}"#, &large] {
        assert_eq!(hear(&mut copying).as_deref(), Some(body));
        let seen = in_place.hear_in_place(|heard| {
            assert_eq!(
                (heard.subject(), heard.attributes()),
                (Some("s"), sport.as_ref())
            );
            heard.body().to_vec()
        });
        assert_eq!(seen.unwrap().as_deref(), Some(body.as_bytes()));
    }
    assert!(hear(&mut copying).is_none());
    assert!(in_place.hear_in_place(|_| ()).unwrap().is_none());
    let second = by_body.hear_in_place(|heard| heard.body().len()).unwrap();
    assert_eq!(second, Some(large.len()));
    assert_eq!(hear(&mut by_body).as_deref(), Some(r#"{"goals": 9}"#));
    let stats = |heard, filtered| ListenStats {
        heard,
        filtered,
        missed: 0,
    };
    assert_eq!(
        (copying.stats(), in_place.stats()),
        (stats(2, 2), stats(2, 2))
    );
    assert_eq!(by_body.stats(), stats(2, 2));
    let refused = topic.listen_with(&ListenOptions::new().filter("{\"a\": 1}"));
    assert!(matches!(refused, Err(PublishError::Policy(_))));
}

#[test]
fn publishers_wait_for_a_listener_that_blocks_and_for_no_other() {
    let place = Place::new();
    let (topic, queue) = (
        place.topic(),
        place.bus.queue("q").slots(4096).create().unwrap(),
    );
    topic
        .subscribe(&SubscribeOptions::new("q").raw(true))
        .unwrap();
    let mut lossy = topic.listen().unwrap();
    let mut blocks = topic.listen_with(&by_policy(ListenPolicy::Block)).unwrap();
    let mut publisher = topic.publisher().unwrap();
    publisher.set_patience(Duration::ZERO);
    let mut sent = 0;
    let held_up = loop {
        match publisher.publish(&Publication::new(format!("{sent:04}").as_bytes())) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent <= SLOTS, "more than there is room for");
    };
    let me = place.bus.me();
    assert!(
        matches!(held_up, PublishError::HeldUp { by: Some(by) } if by == me),
        "{held_up}"
    );
    // What was refused went to nobody.
    assert_eq!(queue.stats().visible, sent);
    let infos = topic.listeners().unwrap();
    let info = infos.iter().find(|info| info.blocks).unwrap();
    assert_eq!((infos.len(), info.behind, info.missed), (2, sent, 0));
    // It goes on, and so does the publisher, who waits for it.
    publisher.set_patience(Duration::from_secs(60));
    let heard = std::thread::scope(|scope| {
        let listening = scope.spawn(|| {
            let mut heard = Vec::new();
            let mut notification = Notification::new();
            while heard.len() < 3 * SLOTS as usize {
                if blocks
                    .hear(&mut notification, Duration::from_secs(60))
                    .unwrap()
                {
                    heard.push(String::from_utf8(notification.body().to_vec()).unwrap());
                }
            }
            heard
        });
        for number in sent..3 * SLOTS {
            publish(&mut publisher, &format!("{number:04}"));
        }
        listening.join().unwrap()
    });
    let all: Vec<String> = (0..3 * SLOTS)
        .map(|number| format!("{number:04}"))
        .collect();
    assert_eq!(heard, all);
    let lagged = lossy.try_hear(&mut Notification::new()).unwrap_err();
    assert!(
        matches!(lagged, ReadError::Lagged { from: 0, .. }),
        "{lagged}"
    );
    // Gone, it holds nobody up.
    drop(blocks);
    publisher.set_patience(Duration::ZERO);
    for _ in 0..2 * SLOTS {
        publish(&mut publisher, "on");
    }
}

#[test]
fn a_listener_that_blocks_and_died_is_waited_for_no_longer() {
    let place = Place::new();
    let topic = place.topic();
    let other = Bus::builder("t").root(place.root.path()).open().unwrap();
    let listener = other.topic("news").open().unwrap();
    let listener = listener
        .listen_with(&by_policy(ListenPolicy::Block))
        .unwrap();
    let mut publisher = topic.publisher().unwrap();
    publisher.set_patience(Duration::ZERO);
    while publisher.publish(&Publication::new(b"x")).is_ok() {}
    drop((listener, other));
    for _ in 0..SLOTS {
        publish(&mut publisher, "on");
    }
}

#[test]
fn a_listener_that_is_to_be_evicted_is_told_once_where_it_stood() {
    let place = Place::new();
    let topic = place.topic();
    let mut listener = topic.listen_with(&by_policy(ListenPolicy::Evict)).unwrap();
    let mut publisher = topic.publisher().unwrap();
    publish(&mut publisher, "first");
    assert_eq!(hear(&mut listener).as_deref(), Some("first"));
    for _ in 0..2 * SLOTS {
        publish(&mut publisher, "x");
    }
    let mut heard = Notification::new();
    for told in [
        listener.try_hear(&mut heard).map(drop),
        listener.try_hear(&mut heard).map(drop),
        listener.hear_in_place(|_| ()).map(drop),
        listener.wait(Duration::ZERO).map(drop),
    ] {
        assert!(
            matches!(told, Err(ReadError::Evicted { from: 1, to }) if to > 1),
            "{told:?}"
        );
    }
    assert!(listener.stats().missed > 0 && listener.policy() == ListenPolicy::Evict);
}

#[test]
fn what_a_fifo_topic_does_not_publish_is_not_heard() {
    let place = Place::new();
    let topic = place.bus.topic("news").fifo().create().unwrap();
    let mut listener = topic.listen_with(&by_policy(ListenPolicy::Block)).unwrap();
    let mut publisher = topic.publisher().unwrap();
    for body in ["one", "one", "two", "one"] {
        let message = Publication::new(body.as_bytes()).group("g").dedup_id(body);
        publisher.publish(&message).unwrap();
    }
    assert_eq!(hear(&mut listener).as_deref(), Some("one"));
    assert_eq!(hear(&mut listener).as_deref(), Some("two"));
    assert!(hear(&mut listener).is_none());
}
