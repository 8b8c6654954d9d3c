//! An observer sees what is there, and nobody sees the observer: not a byte of the bus changes.

use ringway::{
    Attributes, Bus, Durability, GroupStart, Observer, OpenError, Publication, Start,
    StreamIterator, SubscribeOptions,
};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Something of every kind, in use.
fn bus(root: &TempBus) -> Bus {
    Bus::builder("b").root(root.path()).create().unwrap()
}

fn observer(root: &TempBus) -> Observer {
    Bus::builder("b").root(root.path()).observe().unwrap()
}

/// Every file of the bus with its bytes.
fn files(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
}

fn bytes_of(bus: &Bus) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    files(bus.directory(), &mut found);
    found
}

/// Looks at everything there is; what can't be seen is an error of that look.
fn look_at_all(observer: &Observer) -> Vec<String> {
    let mut errors = Vec::new();
    let mut note = |error: Option<String>| errors.extend(error);
    for object in observer.objects().unwrap() {
        let name = &object.name;
        note(observer.channel(name).err().map(|e| e.to_string()));
        note(observer.queue(name).err().map(|e| e.to_string()));
        note(observer.stream(name).err().map(|e| e.to_string()));
    }
    for topic in observer.topics().unwrap() {
        note(observer.topic(&topic).err().map(|e| e.to_string()));
    }
    observer.pool();
    observer.participants();
    observer.roles();
    errors
}

#[test]
fn it_sees_what_is_there_and_changes_no_byte() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root);
    let me = bus.me();
    bus.take_role(3).unwrap();

    let ticks = bus.channel("ticks").slots(1024).create().unwrap();
    let mut reader = ticks.reader().start(Start::Earliest).join().unwrap();
    let mut producer = ticks.producer().unwrap();
    for _ in 0..5 {
        producer.try_send(&[7; 4096]).unwrap(); // through the pool
    }
    let mut buffer = [0; 4096];
    reader.try_read(&mut buffer).unwrap().unwrap();

    // Grown: two rings.
    let orders = bus.queue("orders").slots(1024).max_bytes(8 << 20);
    let orders = orders.create().unwrap();
    let mut sender = orders.sender().unwrap();
    for number in 0..1500u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let mut receiver = orders.receiver().unwrap();
    for _ in 0..3 {
        receiver.try_receive(&mut buffer).unwrap().unwrap();
    }

    let trucks = bus.stream("trucks").shards(2).slots(1024).create().unwrap();
    let mut put = trucks.producer().unwrap();
    let group = trucks
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    let mut worker = group.join().unwrap();
    for number in 0..40 {
        put.put(&format!("truck-{number}"), b"here").unwrap();
    }
    trucks.update_shard_count(4).unwrap();
    let mut other = trucks
        .reader()
        .iterator(StreamIterator::TrimHorizon)
        .open()
        .unwrap();
    other
        .next(std::time::Duration::from_secs(20))
        .unwrap()
        .unwrap();
    worker
        .read_batch(8, std::time::Duration::from_secs(20), |_| {})
        .unwrap();

    let news = bus.topic("news").create().unwrap();
    bus.queue("sport").create().unwrap();
    let idle = bus.topic("idle").create().unwrap();
    idle.subscribe(&SubscribeOptions::new("sport")).unwrap();
    news.subscribe(&SubscribeOptions::new("sport").raw(true))
        .unwrap();
    let _listener = news.listen().unwrap();
    let mut publisher = news.publisher().unwrap();
    for _ in 0..64 {
        let attributes = Attributes::new();
        let message = Publication::new(b"1:0").attributes(&attributes);
        publisher.publish(&message).unwrap();
    }

    let before = bytes_of(&bus);
    let seen = observer(&root);

    let channel = seen.channel("ticks").unwrap();
    assert_eq!((channel.stats.tail, channel.stats.readers.len()), (5, 1));
    assert_eq!(channel.stats.readers[0].cursor, 1);
    assert_eq!(channel.stats.readers[0].participant, me);

    let queue = seen.queue("orders").unwrap();
    assert_eq!((queue.stats.visible, queue.stats.in_flight), (1497, 3));
    assert_eq!(queue.stats.rings, 2);
    assert_eq!(queue.holders.len(), 1);
    assert_eq!(
        (queue.holders[0].participant, queue.holders[0].leases),
        (me, 3)
    );
    assert_eq!(queue.behind_on_disk, None);

    let stream = seen.stream("trucks").unwrap();
    assert_eq!((stream.stats.open_shards, stream.stats.positions), (4, 40));
    assert_eq!(
        (stream.groups[0].name.as_str(), stream.groups[0].workers),
        ("g", 1)
    );
    let workers = stream.groups[0]
        .shards
        .iter()
        .filter_map(|shard| shard.worker);
    assert!(workers.into_iter().all(|worker| worker == me));

    let topic = seen.topic("news").unwrap();
    assert_eq!((topic.stats.subscriptions, topic.stats.listeners), (1, 1));
    assert_eq!((topic.stats.published, topic.stats.delivered), (64, 64));
    let idle = seen.topic("idle").unwrap().stats;
    assert_eq!((idle.subscriptions, idle.published), (1, 0));

    assert_eq!(seen.pool().attached, 5);
    assert_eq!(seen.roles(), [(3, me)]);
    assert_eq!(seen.participants().len(), 1, "it is none itself");

    let wrong_kind = |error: &String| error.contains("not a ");
    let errors = look_at_all(&seen);
    assert!(errors.iter().all(wrong_kind), "{errors:?}");
    drop(seen);
    assert_eq!(bytes_of(&bus), before);
}

#[test]
fn what_is_on_disk_is_seen_and_its_journals_are_left_alone() {
    let root = TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let builder = || Bus::builder("b").root(root.path().join("memory"));
    std::fs::create_dir(root.path().join("memory")).unwrap();
    let disk = root.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let bus = builder().journal_root(&disk).create().unwrap();
    for (name, level) in [
        ("durable", Durability::Durable),
        ("async", Durability::Async),
    ] {
        let queue = bus.queue(name).slots(1024).durability(level);
        let queue = queue.create().unwrap();
        queue.sender().unwrap().send(b"x").unwrap();
        queue.flush().unwrap();
    }
    let stream = bus.stream("s").slots(1024).durability(Durability::Durable);
    let stream = stream.create().unwrap();
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    stream.producer().unwrap().put("k", b"x").unwrap();

    let all = || {
        let mut found = bytes_of(&bus);
        files(&disk, &mut found);
        found
    };
    let before = all();
    // Where the journals lie it need not know.
    let seen = builder().observe().unwrap();
    for name in ["durable", "async"] {
        let queue = seen.queue(name).unwrap();
        assert_eq!((queue.stats.visible, queue.behind_on_disk), (1, Some(0)));
    }
    let found = seen.stream("s").unwrap();
    assert_eq!(
        (found.stats.positions, found.groups[0].shards[0].behind),
        (1, 1)
    );
    let wrong_kind = |error: &String| error.contains("not a ");
    assert!(look_at_all(&seen).iter().all(wrong_kind));
    drop(seen);
    let after = all();
    let changed = after
        .iter()
        .filter(|(path, bytes)| before.get(*path) != Some(*bytes));
    let changed: Vec<_> = changed.map(|(path, _)| path).collect();
    assert!(
        changed.is_empty() && after.len() == before.len(),
        "{changed:?}"
    );
}

#[test]
fn what_is_not_there_is_not_made() {
    let root = TempBus::new().unwrap();
    let absent = Bus::builder("b").root(root.path()).observe().err();
    assert!(
        matches!(absent, Some(OpenError::NotFound { .. })),
        "{absent:?}"
    );
    let bus = bus(&root);
    let seen = observer(&root);
    assert!(matches!(seen.queue("q"), Err(OpenError::NotFound { .. })));
    assert!(matches!(seen.stream("q"), Err(OpenError::NotFound { .. })));
    assert!(matches!(seen.channel("q"), Err(OpenError::NotFound { .. })));
    assert!(seen.topic("q").is_err() && seen.topics().unwrap().is_empty());
    assert!(matches!(
        seen.queue("../bus"),
        Err(OpenError::InvalidName { .. })
    ));
    assert_eq!(bytes_of(&bus).len(), 1, "the bus file");
}

#[test]
fn what_was_made_shorter_is_refused() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root);
    bus.queue("q").create().unwrap();
    let directory = bus.directory().to_owned();
    drop(bus); // who has mapped what goes away dies of it
    let shorten = |name: &str, bytes| {
        let path = directory.join(name);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    shorten("objects/q", 8192);
    let seen = observer(&root).queue("q").err();
    assert!(
        matches!(seen, Some(OpenError::WrongLength { .. })),
        "{seen:?}"
    );
    for bytes in [8192, 1] {
        shorten("bus", bytes);
        let seen = Bus::builder("b").root(root.path()).observe().err();
        assert!(
            matches!(seen, Some(OpenError::WrongLength { .. })),
            "{seen:?}"
        );
    }
}

#[test]
fn what_was_scribbled_over_is_seen_as_far_as_it_goes_and_stays_as_it_is() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root);
    let channel = bus.channel("c").slots(1024).create().unwrap();
    channel.producer().unwrap().try_send(b"x").unwrap();
    let queue = bus
        .queue("q")
        .slots(1024)
        .max_bytes(4 << 20)
        .create()
        .unwrap();
    let fifo = bus.queue("f").slots(1024).fifo().create().unwrap();
    let mut sender = queue.sender().unwrap();
    for _ in 0..1500 {
        sender.send(b"x").unwrap();
    }
    let message = ringway::Outgoing::new(b"x").group("g");
    fifo.sender().unwrap().send_message(&message).unwrap();
    let stream = bus.stream("s").slots(1024).create().unwrap();
    stream.producer().unwrap().put("k", b"x").unwrap();
    stream.group_or_create("g", GroupStart::Latest).unwrap();
    let topic = bus.topic("t").create().unwrap();
    topic.subscribe(&SubscribeOptions::new("q")).unwrap();

    let mut random = Random::new(seed::announce("scribbling over what is observed"));
    for _ in 0..12 {
        let mut found = bytes_of(&bus);
        found.retain(|path, _| path.parent() != Some(bus.directory()));
        for (path, bytes) in &found {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            for _ in 0..50 {
                // Words behind the header, the first pages most of all.
                let words = bytes.len() as u64 / 8;
                let bound = if random.below(2) == 0 {
                    words
                } else {
                    words.min(4096)
                };
                let at = 8 * (512 + random.below(bound.saturating_sub(512).max(1)));
                let value = match random.below(3) {
                    0 => random.next_u64(),
                    1 => random.next_u64() >> random.below(64),
                    _ => u64::MAX,
                };
                if at + 8 <= bytes.len() as u64 {
                    file.write_all_at(&value.to_le_bytes(), at).unwrap();
                }
            }
        }
        let before = bytes_of(&bus);
        look_at_all(&observer(&root));
        let after = bytes_of(&bus);
        let changed = after
            .iter()
            .filter(|(path, bytes)| before.get(*path) != Some(*bytes));
        let changed: Vec<_> = changed.map(|(path, _)| path).collect();
        assert!(
            changed.is_empty() && after.len() == before.len(),
            "{changed:?}"
        );
    }
}
