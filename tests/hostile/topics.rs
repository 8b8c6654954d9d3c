//! The files of topics, scribbled over while they are used: the log of subscriptions, the topic's page, messages
//! where they lie in the ring of listeners and in the archive, the file of a durable topic, and policies of queues.
//!
//! What is asked of them is answered or refused, never a panic, nor an endless loop. The seed is printed
//! and repeats the run; `RINGWAY_FULL=1` makes 10 million executions of each.

#[path = "effort.rs"]
mod effort;

use ringway::{
    Attributes, Bus, Durability, Notification, Publication, Publisher, QueuePolicy, ReadError,
    SubscribeOptions, Topic,
};
use ringway_harness::TempBus;
use ringway_harness::seed::{self, Random};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Where records begin in the log.
const RECORDS: usize = 4096;
/// Where messages begin in a slot of the ring of listeners, and how far it is from slot to slot.
const BODY: usize = 32;
const STRIDE: usize = 256;
const SLOTS: u64 = 1024;

/// Counts what one execution came to, and reports it all.
fn run(target: &str, quick: u64, mut execute: impl FnMut(&mut Random) -> bool) {
    let seed = seed::announce(target);
    let executions = effort::executions(quick, 10_000_000);
    let mut random = Random::new(seed);
    let (mut accepted, mut crashes) = (0, 0);
    for number in 0..executions {
        match catch_unwind(AssertUnwindSafe(|| execute(&mut random))) {
            Ok(worked) => accepted += u64::from(worked),
            Err(_) => {
                crashes += 1;
                eprintln!("{target}: execution {number} of RINGWAY_SEED={seed} panicked");
            }
        }
    }
    let more = [("accepted", accepted), ("seed", seed)];
    effort::report(target, executions, crashes, &more);
    assert_eq!(crashes, 0, "RINGWAY_SEED={seed}");
    assert!(
        accepted > executions / 100 && accepted < executions,
        "{accepted} of {executions} accepted"
    );
}

fn topic(root: &TempBus) -> (Bus, Topic) {
    // What says that it is on disk is to find none but here.
    let bus = Bus::builder("h").root(root.path());
    let bus = bus.journal_root(root.path().join("disk")).create().unwrap();
    let topic = bus.topic("t").listen_slots(SLOTS).create().unwrap();
    (bus, topic)
}

/// The part of a topic whose name begins with `prefix`.
fn part(bus: &Bus, prefix: &str) -> std::path::PathBuf {
    let (directory, name) = prefix.split_once('/').unwrap();
    let entries = std::fs::read_dir(bus.directory().join(directory)).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let is_it = |path: &std::path::PathBuf| {
        let file = path.file_name().unwrap().to_str().unwrap();
        file.starts_with(name)
    };
    paths.find(is_it).expect("it was made")
}

/// The bytes of a file, to be written over.
fn map(path: &Path) -> memmap2::MmapRaw {
    let file = std::fs::File::options().read(true).write(true).open(path);
    memmap2::MmapOptions::new().map_raw(&file.unwrap()).unwrap()
}

fn bytes(map: &mut memmap2::MmapRaw) -> &mut [u8] {
    // SAFETY: the whole file, which is as long for as long as the test runs; its users copy.
    unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr(), map.len()) }
}

fn scribble(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() as u64 - 8) as usize;
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next_u64() as u8,
            2 => {
                let at = at & !7;
                let words = [
                    0,
                    1,
                    3,
                    u64::MAX,
                    1 << 62,
                    2 << 62 | 4,
                    2 << 62 | u64::from(u32::MAX),
                ];
                let word: u64 = words[random.below(7) as usize];
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            _ => {
                let at = at & !3;
                let words = [0, 1, 2, 0xFFFF, 1 << 20, u32::MAX];
                let word: u32 = words[random.below(6) as usize];
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

#[test]
fn a_scribbled_log_of_subscriptions_is_read_as_far_as_it_is_one() {
    let root = TempBus::new().unwrap();
    let (bus, topic) = topic(&root);
    let queues = ["a", "b"].map(|name| bus.queue(name).slots(1024).create().unwrap());
    for number in 0..6 {
        let options = SubscribeOptions::new(["a", "b"][number % 2]).raw(true);
        let filter = format!("{{\"k\": [\"{number}\"]}}");
        let id = topic.subscribe(&options.filter(&filter)).unwrap();
        if number == 3 {
            topic.unsubscribe(id).unwrap();
        }
    }
    let mut map = map(&part(&bus, "topics/.subs-t-"));
    let before = bytes(&mut map).to_vec();
    let end = RECORDS + 1024;
    let mut attributes = Attributes::new();
    attributes.string("k", "1").unwrap();
    run("logs of subscriptions", 3_000, |random| {
        bytes(&mut map).copy_from_slice(&before);
        // Its head is checked at open, what is behind it each time.
        let from = if random.percent(5) { 0 } else { RECORDS };
        scribble(&mut bytes(&mut map)[from..end], random);
        let listed = topic.subscriptions().map(|all| all.len());
        let whole = listed.is_ok_and(|count| count > 0);
        if random.percent(20) {
            let subscribed = topic.subscribe(&SubscribeOptions::new("a"));
            let _ = subscribed.map(|id| topic.unsubscribe(id));
        }
        if let Ok(mut publisher) = topic.publisher() {
            let message = Publication::new(b"m").attributes(&attributes);
            let _ = publisher.publish(&message);
        }
        // Or what finds no room is tried again and again.
        for queue in &queues {
            let _ = queue.purge();
        }
        whole
    });
}

#[test]
fn a_scribbled_topic_is_opened_or_refused() {
    let root = TempBus::new().unwrap();
    let (bus, topic) = topic(&root);
    let queue = bus.queue("a").slots(1024).create().unwrap();
    topic.subscribe(&SubscribeOptions::new("a")).unwrap();
    let first = Publication::new(b"m");
    topic.publisher().unwrap().publish(&first).unwrap();
    let transit = part(&bus, "objects/.transit-t-");
    let mut map = map(&bus.directory().join("topics/t"));
    let before = bytes(&mut map).to_vec();
    run("topics", 3_000, |random| {
        bytes(&mut map).copy_from_slice(&before);
        let until = if random.percent(70) { 256 } else { 4096 };
        scribble(&mut bytes(&mut map)[..until], random);
        let Ok(topic) = bus.topic("t").open() else {
            return false;
        };
        let _ = topic.stats();
        let published = topic.publisher().and_then(|mut publisher| {
            publisher
                .publish(&Publication::new(b"m").group("g"))
                .map(drop)
        });
        let _ = queue.purge();
        // As long as the page says, which may be four gigabytes: not to be touched again each time. And where
        // it says another id, these are parts of nobody's.
        for entry in std::fs::read_dir(bus.directory().join("objects")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with(".listen-t-") || (name.starts_with(".t") && path != transit) {
                let _ = std::fs::remove_file(path);
            }
        }
        published.is_ok()
    });
}

#[test]
fn a_scribbled_message_is_heard_or_skipped() {
    let root = TempBus::new().unwrap();
    let (bus, topic) = topic(&root);
    let mut listener = topic.listen().unwrap();
    let mut publisher = topic.publisher().unwrap();
    let mut attributes = Attributes::new();
    attributes.string("k", "text").unwrap();
    attributes.number("n", 5).unwrap();
    let mut map = map(&part(&bus, "objects/.listen-t-"));
    let slots = map.len() - SLOTS as usize * STRIDE;
    let (mut heard, mut number) = (Notification::new(), 0u64);
    run("messages of topics", 50_000, |random| {
        let message = Publication::new(b"a body").subject("a subject").group("g");
        publisher.publish(&message.attributes(&attributes)).unwrap();
        let at = slots + (number % SLOTS) as usize * STRIDE + BODY;
        number += 1;
        scribble(&mut bytes(&mut map)[at..at + 160], random);
        match listener.try_hear(&mut heard) {
            Ok(true) => {
                let _ = (heard.id(), heard.body(), heard.subject(), heard.group());
                let _ = heard.attributes().iter().count();
                true
            }
            Ok(false) | Err(ReadError::Lagged { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    });
}

/// A FIFO topic whose archive a queue is fed from, and the archive's bytes.
fn archived(bus: &Bus) -> (Publisher, memmap2::MmapRaw) {
    let topic = bus.topic("t").fifo().archive_days(1).archive_slots(SLOTS);
    let topic = topic.create().unwrap();
    let mut publisher = topic.publisher().unwrap();
    let first = Publication::new(b"m").group("g").dedup_id("first");
    publisher.publish(&first).unwrap();
    let policy = r#"{"PointType": "Timestamp", "StartingPoint": "2020-01-01T00:00:00Z"}"#;
    let all = SubscribeOptions::new("q").raw(true).replay(policy);
    topic.subscribe(&all.filter(r#"{"k": ["text"]}"#)).unwrap();
    let map = map(&part(bus, "objects/.archive-t-"));
    (publisher, map)
}

#[test]
fn a_scribbled_message_of_an_archive_is_replayed_or_skipped() {
    /// Fewer than there is room for ids of, within five minutes.
    const OF_ONE: u64 = 50_000;
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("h").root(root.path()).create().unwrap();
    let queue = bus.queue("q").slots(1024).create().unwrap();
    let mut attributes = Attributes::new();
    attributes.string("k", "text").unwrap();
    let (mut publisher, mut map) = archived(&bus);
    let slots = map.len() - SLOTS as usize * STRIDE;
    let (mut position, mut body) = (1u64, [0; 64]);
    run("archives of topics", 3_000, |random| {
        if position == OF_ONE {
            bus.remove_topic("t").unwrap();
            ((publisher, map), position) = (archived(&bus), 1);
        }
        // Nobody hands it on before it was written over; what is behind it is handed on too.
        publisher.leave_to_others(true);
        let id = position.to_string();
        let message = Publication::new(b"a body").group("g").dedup_id(&id);
        let message = message.attributes(&attributes);
        publisher.publish(&message).unwrap();
        publisher.leave_to_others(false);
        // The slot that its copy takes, before or behind that.
        let at = slots + (position % SLOTS) as usize * STRIDE;
        let is_before = random.percent(50);
        if is_before {
            scribble(&mut bytes(&mut map)[at + BODY..at + 200], random);
        }
        let _ = publisher.dispatcher().dispatch(1);
        if !is_before {
            scribble(&mut bytes(&mut map)[at + BODY..at + 200], random);
        }
        position += 1;
        let _ = publisher.dispatcher().dispatch(4);
        let mut receiver = queue.receiver().unwrap();
        let mut came = false;
        while receiver
            .receive_and_delete(&mut body)
            .unwrap_or(None)
            .is_some()
        {
            came = true;
        }
        came
    });
}

#[test]
fn a_scribbled_file_of_a_durable_topic_is_opened_or_refused() {
    let root = TempBus::new().unwrap();
    let disk = root.path().join("disk");
    let builder = || Bus::builder("h").root(root.path()).journal_root(&disk);
    let bus = builder().create().unwrap();
    bus.queue("a").slots(1024).create().unwrap();
    let topic = bus
        .topic("t")
        .durability(Durability::Durable)
        .create()
        .unwrap();
    for number in 0..4 {
        let filter = format!("{{\"k\": [\"{number}\"]}}");
        topic
            .subscribe(&SubscribeOptions::new("a").filter(&filter))
            .unwrap();
    }
    drop(topic);
    let path = disk.join("ringway-h/.topic-t");
    let whole = std::fs::read(&path).unwrap();
    let topics = bus.directory().join("topics");
    run("files of durable topics", 200, |random| {
        let mut mutated = whole.clone();
        match random.below(4) {
            0 => mutated.truncate(random.below(mutated.len() as u64) as usize),
            1 => mutated.extend((0..random.below(50)).map(|_| random.next_u64() as u8)),
            2 => {
                // Behind its checksum, a line is still anything.
                let end = mutated.len() - random.below(100) as usize - 1;
                let tail = mutated.split_off(end);
                mutated.extend([&tail[..], b"\n", &tail[..]].concat());
            }
            _ => scribble(&mut mutated, random),
        }
        std::fs::write(&path, &mutated).unwrap();
        let _ = std::fs::remove_dir_all(&topics);
        let opened = bus.topic("t").open();
        opened.is_ok_and(|topic| topic.subscriptions().is_ok())
    });
}

#[test]
fn a_mutated_policy_of_a_queue_is_one_or_is_refused() {
    let whole = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"},
        "Action": ["sqs:SendMessage"], "Resource": "arn:aws:sqs:*:q",
        "Condition": {"ArnLike": {"aws:SourceArn": ["arn:aws:sns:*:*:n?ws", "*"]}}}]}"#;
    run("policies of queues", 20_000, |random| {
        let mut mutated = whole.as_bytes().to_vec();
        if random.percent(90) {
            let at = random.below(mutated.len() as u64) as usize;
            mutated[at] = b"*?\"{}[],:aA0 "[random.below(13) as usize];
        }
        let text = String::from_utf8(mutated).unwrap();
        QueuePolicy::parse(&text).is_ok()
    });
}
