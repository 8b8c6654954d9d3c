//! `ringway metrics`: every line parses, by HTTP and once; several scrapes at a time; what is damaged is down.

use crate::place::{Outcome, Place, signal, until};
use ringway::{
    Deduplication, GroupStart, Outgoing, Publication, Redrive, ReshardError, Settings, ShardId,
    SubscribeOptions,
};
use rustix::process::Signal;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;

/// A place with something of everything, and a bus beside it that is none.
fn place() -> Place {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    let queue = place.queue();
    let mut receiver = queue.receiver().unwrap();
    receiver.try_receive(&mut [0; 16]).unwrap().unwrap();
    let channel = place.bus.channel("c").create().unwrap();
    channel.producer().unwrap().try_send(b"x").unwrap();
    let stream = place.bus.stream("s").shards(2).create().unwrap();
    stream
        .group_or_create("g", GroupStart::TrimHorizon)
        .unwrap();
    stream.producer().unwrap().put("key", b"x").unwrap();
    place.bus.topic("t").create().unwrap();
    let wreck = place.path().join("ringway-wreck");
    std::fs::create_dir(&wreck).unwrap();
    std::fs::write(wreck.join("bus"), [7; 8192]).unwrap();
    place
}

/// The text format, read as its description says: each family has HELP and TYPE in front of its samples, all
/// of which stand together; no series comes twice. Values by series.
fn parse(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text}");
    let is_name = |name: &str| {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (mut series, mut families) = (HashMap::new(), HashSet::new());
    let (mut helped, mut current) = (String::new(), (String::new(), String::new()));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, told) = help.split_once(' ').expect(line);
            assert!(is_name(name) && told.len() > 10, "{line}");
            assert!(families.insert(name.to_owned()), "twice: {line}");
            helped = name.to_owned();
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect(line);
            assert!(
                name == helped && ["counter", "gauge"].contains(&kind),
                "{line}"
            );
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            current = (name.to_owned(), kind.to_owned());
            continue;
        }
        let (name, rest) = line.split_once('{').expect(line);
        assert_eq!(name, current.0, "{line}");
        let (labels, value) = rest.rsplit_once("} ").expect(line);
        let mut names = HashSet::new();
        let mut rest = labels;
        while !rest.is_empty() {
            let (name, behind) = rest.split_once("=\"").expect(line);
            assert!(is_name(name) && names.insert(name), "{line}");
            let end = behind.find('"').expect(line);
            assert!(
                !behind[..end].contains('\\'),
                "no name here needs escaping: {line}"
            );
            rest = behind[end + 1..].trim_start_matches(',');
        }
        assert!(names.contains("bus"), "{line}");
        let number: f64 = value.parse().expect(line);
        assert!(number.is_finite() && number >= 0.0, "{line}");
        let key = format!("{name}{{{labels}}}");
        assert!(series.insert(key, number).is_none(), "twice: {line}");
    }
    series
}

fn check(series: &HashMap<String, f64>) {
    for (name, value) in [
        ("ringway_bus_up{bus=\"b\"}", 1.0),
        ("ringway_bus_up{bus=\"wreck\"}", 0.0),
        (
            "ringway_queue_messages{bus=\"b\",queue=\"q\",state=\"visible\"}",
            2.0,
        ),
        (
            "ringway_queue_messages{bus=\"b\",queue=\"q\",state=\"in_flight\"}",
            1.0,
        ),
        (
            "ringway_queue_sent_messages_total{bus=\"b\",queue=\"q\"}",
            3.0,
        ),
        (
            "ringway_channel_records_total{bus=\"b\",channel=\"c\"}",
            1.0,
        ),
        (
            "ringway_stream_group_behind_records{bus=\"b\",stream=\"s\",group=\"g\"}",
            1.0,
        ),
        ("ringway_topic_subscriptions{bus=\"b\",topic=\"t\"}", 0.0),
        ("ringway_participants{bus=\"b\",state=\"alive\"}", 1.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} in {series:#?}");
    }
    let age = "ringway_queue_oldest_message_age_seconds{bus=\"b\",queue=\"q\"}";
    assert!(series[age] > 0.0);
}

/// Started, and where it listens.
fn serve(place: &Place) -> (Child, String) {
    let mut child = place.start(&["metrics", "--listen", "127.0.0.1:0", "--json"]);
    let mut line = String::new();
    let out = child.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    (child, told["listening"].as_str().unwrap().to_owned())
}

/// Status, headers and body of an answer.
fn request(address: &str, line: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, mut body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut whole = String::new();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        loop {
            let (length, rest) = body.split_once("\r\n").unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            if length == 0 {
                break;
            }
            whole += &rest[..length];
            body = &rest[length + 2..];
        }
        body = &whole;
    }
    (status, head.to_owned(), body.to_owned())
}

#[test]
fn every_line_that_is_scraped_parses_and_several_scrape_at_a_time() {
    let place = place();
    let (child, address) = serve(&place);
    let scrapes: Vec<_> = (0..6)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || request(&address, "GET /metrics"))
        })
        .collect();
    for scrape in scrapes {
        let (status, head, body) = scrape.join().unwrap();
        assert_eq!(status, 200, "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        check(&parse(&body));
    }
    assert_eq!(request(&address, "GET /metrics?of=all").0, 200);
    let (status, head, body) = request(&address, "HEAD /metrics");
    assert_eq!((status, &body[..]), (200, ""), "{head}");
    assert_eq!(request(&address, "GET /").0, 404);
    assert_eq!(request(&address, "POST /metrics").0, 405);
    // A bus that comes later is there, one that went is not.
    std::fs::remove_dir_all(place.path().join("ringway-wreck")).unwrap();
    let other = ringway::Bus::builder("other").root(place.path());
    let other = other.create().unwrap();
    let series = parse(&request(&address, "GET /metrics").2);
    assert_eq!(series["ringway_bus_up{bus=\"other\"}"], 1.0);
    assert!(!series.contains_key("ringway_bus_up{bus=\"wreck\"}"));
    drop(other);
    signal(&child, Signal::TERM);
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert_eq!(
        outcome.signal,
        Some(Signal::TERM.as_raw()),
        "{}",
        outcome.err
    );
}

/// Messages of every fate, as many of each as of no other.
fn fates(place: &Place) {
    let queue = |name: &str| place.bus.queue(name).create().unwrap();
    let (work, dead) = (queue("work"), queue("dead"));
    let settings = Settings::new().redrive(Redrive::to(&dead, 1));
    work.set(&settings).unwrap();
    let mut sender = work.sender().unwrap();
    for body in 0..17 {
        sender.send(&[body]).unwrap();
    }
    let mut receiver = work.receiver().unwrap();
    let received = receiver.receive(17, Default::default(), None).unwrap();
    let (deleted, failed) = received.split_at(6);
    for message in deleted {
        receiver.delete(&message.received.receipt).unwrap();
    }
    for message in &failed[..7] {
        let receipt = &message.received.receipt;
        receiver.nack(receipt, Default::default()).unwrap();
    }
    until("they are in the dead-letter queue", || {
        let more = receiver.receive(1, Default::default(), None).unwrap();
        more.is_empty() && dead.stats().arrived == 7
    });
    let mut to_dead = dead.sender().unwrap();
    for body in 0..2 {
        to_dead.send(&[body]).unwrap();
    }
    assert_eq!(dead.purge().unwrap(), 9);

    let fifo = place.bus.queue("once.fifo").fifo();
    let fifo = fifo.deduplicate(Deduplication::default()).create().unwrap();
    let mut sender = fifo.sender().unwrap();
    for id in ["1", "2", "1", "3", "3", "3", "4"] {
        let message = Outgoing::new(b"x").group("g").dedup_id(id);
        sender.send_message(&message).unwrap();
    }

    let stream = place.bus.stream("halves").shards(1).create().unwrap();
    let split: Result<_, ReshardError> = stream.split(ShardId(0), None);
    split.unwrap();
    let topic = place.bus.topic("news").create().unwrap();
    for endpoint in ["dead", "work", "dead"] {
        topic.subscribe(&SubscribeOptions::new(endpoint)).unwrap();
    }
    let _listener = topic.listen().unwrap();
    let mut publisher = topic.publisher().unwrap();
    for _ in 0..5 {
        publisher.publish(&Publication::new(b"x")).unwrap();
    }
    publisher.leave_to_others(true);
    publisher.publish(&Publication::new(b"waits")).unwrap();
}

#[test]
fn each_family_tells_its_own_number() {
    let place = Place::new();
    fates(&place);
    let series = parse(&place.run(&["metrics", "b", "--once"]).ok());
    for (family, labels, value) in [
        ("queue_messages", r#"queue="work",state="in_flight""#, 4.0),
        ("queue_messages", r#"queue="work",state="visible""#, 5.0),
        ("queue_sent_messages_total", r#"queue="work""#, 22.0),
        ("queue_received_messages_total", r#"queue="work""#, 17.0),
        ("queue_deleted_messages_total", r#"queue="work""#, 6.0),
        ("queue_moved_messages_total", r#"queue="work""#, 7.0),
        ("queue_arrived_messages_total", r#"queue="work""#, 0.0),
        ("queue_moved_messages_total", r#"queue="dead""#, 0.0),
        ("queue_arrived_messages_total", r#"queue="dead""#, 7.0),
        ("queue_purged_messages_total", r#"queue="dead""#, 9.0),
        ("queue_messages", r#"queue="dead",state="visible""#, 10.0),
        (
            "queue_messages",
            r#"queue="once.fifo",state="visible""#,
            4.0,
        ),
        (
            "queue_duplicate_messages_total",
            r#"queue="once.fifo""#,
            3.0,
        ),
        ("stream_shards", r#"stream="halves",state="open""#, 2.0),
        ("stream_shards", r#"stream="halves",state="closed""#, 1.0),
        ("topic_subscriptions", r#"topic="news""#, 3.0),
        ("topic_published_messages_total", r#"topic="news""#, 6.0),
        ("topic_delivered_messages_total", r#"topic="news""#, 15.0),
        ("topic_waiting_messages", r#"topic="news""#, 1.0),
        ("topic_listeners", r#"topic="news""#, 0.0),
    ] {
        let name = format!("ringway_{family}{{bus=\"b\",{labels}}}");
        assert_eq!(series.get(&name), Some(&value), "{name} in {series:#?}");
    }
}

#[test]
fn printed_once_it_is_the_same_and_remote_addresses_are_refused() {
    let place = place();
    check(&parse(&place.run(&["metrics", "--once"]).ok()));
    let named = parse(&place.run(&["metrics", "nowhere", "--once"]).ok());
    assert_eq!(named["ringway_bus_up{bus=\"nowhere\"}"], 0.0);
    let refused = place.run(&["metrics", "--listen", "0.0.0.0:0"]).refused(2);
    assert!(refused.contains("--allow-remote"), "{refused}");
}
