//! Durable topics: subscriptions, and what was published and not delivered, are there again when the memory of the
//! bus is gone.
//!
//! A restart of the machine is played by dropping every handle and removing the directory of the bus; what lies
//! on disk stays.

use ringway::{
    Bus, Durability, Incoming, OpenError, Publication, PublishError, Queue, SubscribeError,
    SubscribeOptions, Topic,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A place for buses, and one for what they have on disk.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringway-topic-durable-{}-{number}", std::process::id());
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for part in ["memory", "disk"] {
            std::fs::create_dir_all(root.join(part)).unwrap();
        }
        Self { root }
    }

    fn builder(&self) -> ringway::Builder {
        let builder = Bus::builder("bus").root(self.root.join("memory"));
        builder.journal_root(self.root.join("disk"))
    }

    fn bus(&self) -> Bus {
        self.builder().open_or_create().unwrap()
    }

    /// What lies on disk.
    fn on_disk(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("disk/ringway-bus"));
        let names = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
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

fn durable(bus: &Bus) -> Topic {
    let topic = bus.topic("news").durability(Durability::Durable);
    topic.open_or_create().unwrap()
}

fn durable_queue(bus: &Bus, name: &str) -> Queue {
    let queue = bus.queue(name).durability(Durability::Durable).slots(1024);
    queue.open_or_create().unwrap()
}

fn raw(queue: &str) -> SubscribeOptions {
    SubscribeOptions::new(queue).raw(true)
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

#[test]
fn what_was_published_and_not_delivered_is_delivered_behind_a_restart() {
    let machine = Machine::new();
    let bus = machine.bus();
    let topic = durable(&bus);
    let [kept, lost] = [
        durable_queue(&bus, "kept"),
        bus.queue("lost").create().unwrap(),
    ];
    topic.subscribe(&raw("kept")).unwrap();
    let ended = topic.subscribe(&raw("kept")).unwrap();
    topic.subscribe(&raw("lost")).unwrap();
    let filtered = raw("kept").filter(r#"{"k": ["never"]}"#);
    topic.subscribe(&filtered.dead_letter("lost")).unwrap();
    topic.unsubscribe(ended).unwrap();
    let mut publisher = topic.publisher().unwrap();
    publisher.publish(&Publication::new(b"delivered")).unwrap();
    publisher.leave_to_others(true);
    for body in [&b"waits 1"[..], b"waits 2"] {
        publisher.publish(&Publication::new(body)).unwrap();
    }
    let before = topic.subscriptions().unwrap();
    assert_eq!(topic.stats().unwrap().waiting, 2);
    drop((publisher, topic, kept, lost, bus));

    machine.restart();
    let bus = machine.bus();
    assert_eq!(
        bus.topics().unwrap(),
        ["news"],
        "although nobody has asked for it yet"
    );
    let exists = bus.topic("news").create().map(drop);
    assert!(
        matches!(exists, Err(OpenError::AlreadyExists { .. })),
        "{exists:?}"
    );
    let topic = bus.topic("news").open().unwrap();
    assert_eq!(topic.subscriptions().unwrap(), before);
    assert_eq!(topic.stats().unwrap().waiting, 2);
    // The queue in memory is not there before somebody makes it, and what is for it waits.
    let mut dispatcher = topic.dispatcher().unwrap();
    let (kept, mut got) = (bus.queue("kept").open().unwrap(), Vec::new());
    while got.len() < 3 {
        dispatcher.dispatch(10).unwrap();
        got.extend(drain(&kept));
    }
    assert_eq!(got, ["delivered", "waits 1", "waits 2"]);
    let stats = topic.stats().unwrap();
    assert_eq!((stats.waiting, stats.failed), (2, 0));
    assert!(stats.retried >= 2, "{stats:?}");
    let lost = bus.queue("lost").create().unwrap();
    while topic.stats().unwrap().waiting > 0 {
        dispatcher
            .dispatch_within(Duration::from_millis(5))
            .unwrap();
    }
    let mut late = drain(&lost);
    late.sort();
    assert_eq!(late, ["waits 1", "waits 2"]);
    topic
        .publisher()
        .unwrap()
        .publish(&Publication::new(b"new"))
        .unwrap();
    assert_eq!(
        (drain(&kept), drain(&lost)),
        (vec!["new".to_owned()], vec!["new".to_owned()])
    );
    assert!(bus.doctor(false).unwrap().is_clean());
}

#[test]
fn a_durable_fifo_topic_knows_repeats_behind_a_restart() {
    let machine = Machine::new();
    let bus = machine.bus();
    let topic = bus.topic("news").fifo().durability(Durability::Durable);
    let topic = topic.create().unwrap();
    durable_queue(&bus, "q");
    topic.subscribe(&raw("q")).unwrap();
    let message = Publication::new(b"once").group("g").dedup_id("1");
    assert!(
        !topic
            .publisher()
            .unwrap()
            .publish(&message)
            .unwrap()
            .duplicate
    );
    drop((topic, bus));
    machine.restart();
    let bus = machine.bus();
    let topic = bus.topic("news").open().unwrap();
    assert!(
        topic
            .publisher()
            .unwrap()
            .publish(&message)
            .unwrap()
            .duplicate
    );
    assert_eq!(drain(&durable_queue(&bus, "q")), ["once"]);
}

#[test]
fn a_durable_topic_that_is_removed_leaves_nothing_and_a_bus_takes_its_topics_along() {
    let machine = Machine::new();
    let bus = machine.bus();
    durable_queue(&bus, "q");
    let use_it = |bus: &Bus| {
        let topic = durable(bus);
        topic.subscribe(&raw("q")).unwrap();
        topic
            .publisher()
            .unwrap()
            .publish(&Publication::new(b"m"))
            .unwrap();
        topic
    };
    let topic = use_it(&bus);
    assert_eq!(
        machine.on_disk().len(),
        3,
        "the topic, its transit, the queue"
    );
    bus.remove_topic("news").unwrap();
    let gone = topic.publisher().map(drop).unwrap_err();
    assert!(matches!(gone, PublishError::Removed), "{gone}");
    assert_eq!(machine.on_disk(), ["q"]);
    // Made anew, it knows nothing of the old one; and so it is removed that nobody has asked for yet.
    let topic = use_it(&bus);
    assert_eq!(topic.subscriptions().unwrap().len(), 1);
    drop((topic, bus));
    machine.restart();
    let bus = machine.bus();
    bus.remove_topic("news").unwrap();
    assert_eq!(machine.on_disk(), ["q"]);
    assert!(matches!(
        bus.remove_topic("news"),
        Err(OpenError::NotFound { .. })
    ));
    drop((use_it(&bus), bus));
    machine.builder().remove(false).unwrap();
    assert_eq!(machine.on_disk(), [""; 0]);
    // Also where nothing but what is on disk is left of it.
    let bus = machine.bus();
    durable_queue(&bus, "q");
    drop((use_it(&bus), bus));
    machine.restart();
    machine.builder().remove(false).unwrap();
    assert_eq!(machine.on_disk(), [""; 0]);
}

#[test]
fn a_subscription_that_was_refused_is_not_there_behind_a_restart() {
    let machine = Machine::new();
    let bus = machine.bus();
    durable_queue(&bus, "q");
    let topic = durable(&bus);
    // Said at length: nothing limits that but the record.
    let policy = r#"{"healthyRetryPolicy": {"numRetries": 1}}"#;
    let long = format!("{policy}{}", " ".repeat(2 << 20));
    let options = raw("q").delivery_policy(&long);
    let refused = topic.subscribe(&options).unwrap_err();
    assert!(
        matches!(refused, SubscribeError::TooLarge { .. }),
        "{refused}"
    );
    drop((topic, bus));
    machine.restart();
    let topic = machine.bus().topic("news").open().unwrap();
    assert!(topic.subscriptions().unwrap().is_empty());
}

#[test]
fn what_can_not_be_durable_is_refused_and_a_damaged_topic_is_named() {
    let machine = Machine::new();
    let bus = machine.bus();
    for (option, builder) in [
        ("durability", bus.topic("t").durability(Durability::Async)),
        (
            "durability",
            bus.topic("t")
                .fifo()
                .archive_days(1)
                .durability(Durability::Durable),
        ),
    ] {
        let refused = builder.create().map(drop);
        assert!(
            matches!(&refused, Err(OpenError::InvalidOption { option: named, .. }) if *named == option),
            "{refused:?}"
        );
    }
    let topic = durable(&bus);
    let other = bus
        .topic("news")
        .durability(Durability::Memory)
        .open()
        .map(drop);
    assert!(
        matches!(
            other,
            Err(OpenError::Mismatch {
                option: "durability",
                ..
            })
        ),
        "{other:?}"
    );
    durable_queue(&bus, "q");
    topic.subscribe(&raw("q")).unwrap();
    topic.subscribe(&raw("q")).unwrap();
    drop((topic, bus));
    machine.restart();
    let path = machine.root.join("disk/ringway-bus/.topic-news");
    let whole = std::fs::read(&path).unwrap();
    // Of the last change a part is missing, as a power cut leaves it: it was not acknowledged.
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let bus = machine.bus();
    assert_eq!(
        bus.topic("news")
            .open()
            .unwrap()
            .subscriptions()
            .unwrap()
            .len(),
        1
    );
    drop(bus);
    machine.restart();
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let bus = machine.bus();
    let refused = bus.topic("news").open().map(drop).unwrap_err();
    let named = format!("{} is damaged", path.display());
    assert!(refused.to_string().starts_with(&named), "{refused}");
}

#[test]
fn a_damaged_topic_is_listed_and_removed_with_all_that_it_has_on_disk() {
    let machine = Machine::new();
    let path = machine.root.join("disk/ringway-bus/.topic-news");
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| {
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
        },
        |bytes| bytes[40] ^= 1,
        |bytes| bytes.fill(7),
        |bytes| bytes.clear(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let bus = machine.bus();
        let topic = durable(&bus);
        durable_queue(&bus, "q");
        topic.subscribe(&raw("q")).unwrap();
        let mut publisher = topic.publisher().unwrap();
        publisher.publish(&Publication::new(b"m")).unwrap();
        drop((publisher, topic, bus));
        machine.restart();
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let bus = machine.bus();
        let refused = bus.topic("news").open().map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Scribbled { .. }), "{refused}");
        assert_eq!(bus.topics().unwrap(), ["news"], "{number}");
        let found = bus.doctor(false).unwrap().broken_objects;
        assert_eq!(found, [refused.to_string()], "{number}");
        bus.remove_topic("news").unwrap();
        assert_eq!(machine.on_disk(), ["q"], "{number}");
        let again = bus.remove_topic("news");
        assert!(matches!(again, Err(OpenError::NotFound { .. })));
        assert!(bus.doctor(false).unwrap().is_clean());
    }
}

/// A page in memory that outlived the file it was made from: whoever made it was stopped between the two until the
/// topic was removed.
fn leave_a_late_page(machine: &Machine, bus: &Bus) {
    let page = machine.root.join("memory/ringway-bus/topics/news");
    drop(durable(bus));
    let bytes = std::fs::read(&page).unwrap();
    bus.remove_topic("news").unwrap();
    std::fs::write(page, bytes).unwrap();
}

#[test]
fn a_topic_in_memory_whose_file_is_gone_is_met_by_nobody() {
    let machine = Machine::new();
    let bus = machine.bus();
    durable_queue(&bus, "q");
    leave_a_late_page(&machine, &bus);
    let opened = bus.topic("news").open().map(drop);
    assert!(
        matches!(opened, Err(OpenError::NotFound { .. })),
        "{opened:?}"
    );
    for (number, level) in [Durability::Durable, Durability::Memory]
        .into_iter()
        .enumerate()
    {
        for is_created in [true, false] {
            leave_a_late_page(&machine, &bus);
            let builder = bus.topic("news").durability(level);
            let topic = match is_created {
                true => builder.create(),
                false => builder.open_or_create(),
            };
            let topic = topic.unwrap();
            assert_eq!(topic.definition().durability, level);
            topic.subscribe(&raw("q")).unwrap();
            let mut publisher = topic.publisher().unwrap();
            publisher.publish(&Publication::new(b"m")).unwrap();
            assert_eq!(drain(&bus.queue("q").open().unwrap()), ["m"], "{number}");
            drop((publisher, topic));
            bus.remove_topic("news").unwrap();
            assert_eq!(machine.on_disk(), ["q"], "{number} {is_created}");
        }
    }
    // What subscribed to it is there behind a restart.
    leave_a_late_page(&machine, &bus);
    durable(&bus).subscribe(&raw("q")).unwrap();
    drop(bus);
    machine.restart();
    let bus = machine.bus();
    let topic = bus.topic("news").open().unwrap();
    assert_eq!(topic.subscriptions().unwrap().len(), 1);
}

#[test]
fn who_looks_for_journals_elsewhere_takes_no_topic_for_one_that_is_gone() {
    let machine = Machine::new();
    let bus = machine.bus();
    durable_queue(&bus, "q");
    let topic = durable(&bus);
    let elsewhere = machine.builder().journal_root(machine.root.join("other"));
    let elsewhere = elsewhere.open().unwrap();
    drop(elsewhere.topic("news").open().unwrap());
    let builder = elsewhere.topic("news").durability(Durability::Durable);
    let exists = builder.create().map(drop);
    assert!(
        matches!(exists, Err(OpenError::AlreadyExists { .. })),
        "{exists:?}"
    );
    let left = std::fs::read_dir(machine.root.join("other/ringway-bus"));
    assert_eq!(left.into_iter().flatten().count(), 0);
    topic.subscribe(&raw("q")).unwrap();
    assert_eq!(topic.subscriptions().unwrap().len(), 1);
    assert!(bus.doctor(false).unwrap().is_clean());
}

#[test]
fn a_queue_that_was_removed_is_given_up_at_once() {
    let machine = Machine::new();
    let bus = machine.bus();
    let topic = durable(&bus);
    let [_used, dead, _unused] =
        ["used", "dead", "unused"].map(|name| bus.queue(name).create().unwrap());
    topic.subscribe(&raw("used").dead_letter("dead")).unwrap();
    topic.subscribe(&raw("unused")).unwrap();
    let mut publisher = topic.publisher().unwrap();
    bus.remove("unused").unwrap();
    publisher.publish(&Publication::new(b"0")).unwrap();
    bus.remove("used").unwrap();
    for body in [&b"1"[..], b"2"] {
        publisher.publish(&Publication::new(body)).unwrap();
    }
    let stats = topic.stats().unwrap();
    assert_eq!((stats.waiting, stats.retried), (0, 0));
    assert_eq!(
        (stats.delivered, stats.dead_lettered, stats.failed),
        (1, 2, 3)
    );
    assert_eq!(drain(&dead), ["1", "2"]);
}

/// As if the topic had been made again from its file so long ago.
fn age(machine: &Machine, time: Duration) {
    use std::os::unix::fs::FileExt;
    let topics = machine.root.join("memory/ringway-bus/topics");
    let mut logs = std::fs::read_dir(topics).unwrap().map(Result::unwrap);
    let log = logs.find(|entry| entry.file_name().to_str().unwrap().starts_with(".subs-"));
    let log = log.unwrap().path();
    let log = std::fs::OpenOptions::new().read(true).write(true).open(log);
    let (log, made_again_ms, mut bytes) = (log.unwrap(), 80, [0; 8]);
    log.read_exact_at(&mut bytes, made_again_ms).unwrap();
    let ms = u64::from_le_bytes(bytes).wrapping_sub(time.as_millis() as u64);
    log.write_all_at(&ms.to_le_bytes(), made_again_ms).unwrap();
}

fn dispatch_all(topic: &Topic) {
    let mut dispatcher = topic.dispatcher().unwrap();
    while topic.stats().unwrap().waiting > 0 {
        let moment = Duration::from_millis(5);
        dispatcher.dispatch_within(moment).unwrap();
    }
}

#[test]
fn a_queue_in_memory_is_waited_for_behind_a_restart_for_an_hour_and_one_that_was_there_is_not() {
    let machine = Machine::new();
    let bus = machine.bus();
    let topic = durable(&bus);
    for name in ["never", "late", "early"] {
        bus.queue(name).create().unwrap();
        topic.subscribe(&raw(name)).unwrap();
    }
    drop((topic, bus));
    machine.restart();
    let bus = machine.bus();
    let topic = bus.topic("news").open().unwrap();
    let early = bus.queue("early").create().unwrap();
    let mut publisher = topic.publisher().unwrap();
    publisher.publish(&Publication::new(b"1")).unwrap();
    assert_eq!(drain(&early), ["1"]);
    bus.remove("early").unwrap();
    publisher.publish(&Publication::new(b"2")).unwrap();
    let stats = topic.stats().unwrap();
    assert_eq!(
        (stats.waiting, stats.failed),
        (4, 1),
        "it was there since the restart"
    );
    age(&machine, Duration::from_secs(30 * 60));
    let mut dispatcher = topic.dispatcher().unwrap();
    let tried = Duration::from_millis(100);
    dispatcher.dispatch_within(tried).unwrap();
    assert_eq!(topic.stats().unwrap().failed, 1);
    let late = bus.queue("late").create().unwrap();
    while late.stats().visible < 2 {
        let moment = Duration::from_millis(5);
        dispatcher.dispatch_within(moment).unwrap();
    }
    age(&machine, Duration::from_secs(30 * 60));
    dispatch_all(&topic);
    let stats = topic.stats().unwrap();
    assert_eq!((stats.failed, stats.delivered), (3, 3));
}

#[test]
fn a_queue_on_disk_of_a_bus_that_nobody_has_opened_yet_is_waited_for_however_long_that_takes() {
    let machine = Machine::new();
    let far = || {
        let builder = Bus::builder("far").root(machine.root.join("memory"));
        let builder = builder.journal_root(machine.root.join("disk"));
        builder.open_or_create().unwrap()
    };
    let (bus, there) = (machine.bus(), far());
    durable_queue(&there, "q");
    let topic = durable(&bus);
    topic.subscribe(&raw("far/q")).unwrap();
    drop((topic, bus, there));
    machine.restart();
    let bus = machine.bus();
    let topic = bus.topic("news").open().unwrap();
    age(&machine, Duration::from_secs(86_400));
    let mut publisher = topic.publisher().unwrap();
    publisher.publish(&Publication::new(b"m")).unwrap();
    let stats = topic.stats().unwrap();
    assert_eq!((stats.waiting, stats.failed), (1, 0));
    let there = far();
    dispatch_all(&topic);
    assert_eq!(drain(&there.queue("q").open().unwrap()), ["m"]);
}
