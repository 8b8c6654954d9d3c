//! What a subscriber of feature `tracing` is told, and in which span.

use ringway::{Attributes, Bus, Durability, Publication, PutRecord, SubscribeOptions};
use ringway_harness::TempBus;
use std::fmt::{Debug, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes as SpanAttributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes every event down: level, the spans it happens in, fields by name.
#[derive(Clone, Default)]
struct Told {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    inside: Arc<Mutex<Vec<usize>>>,
    at: Option<Level>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("ringway");
        is_ours && self.at.is_none_or(|at| *metadata.level() <= at)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        self.at.map(Into::into)
    }

    fn new_span(&self, span: &SpanAttributes<'_>) -> Id {
        let mut fields = Fields(span.metadata().name().to_owned());
        span.record(&mut fields);
        let mut spans = self.spans.lock().unwrap();
        spans.push(fields.0);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        for span in self.inside.lock().unwrap().iter() {
            let spans = self.spans.lock().unwrap();
            let _ = write!(line, " [{}]", spans[span - 1]);
        }
        let mut fields = Fields(line);
        event.record(&mut fields);
        self.lines.lock().unwrap().push(fields.0);
    }

    fn enter(&self, span: &Id) {
        self.inside.lock().unwrap().push(span.into_u64() as usize);
    }

    fn exit(&self, _: &Id) {
        self.inside.lock().unwrap().pop();
    }
}

/// What is told at this level while `act` does something.
fn told(at: Option<Level>, act: impl FnOnce()) -> Vec<String> {
    let told = Told {
        at,
        ..Told::default()
    };
    tracing::subscriber::with_default(told.clone(), act);
    let mut lines = told.lines.lock().unwrap();
    std::mem::take(&mut *lines)
}

fn bus(root: &TempBus) -> Bus {
    let builder = Bus::builder("b").root(root.path());
    builder.open_or_create().unwrap()
}

#[test]
fn each_message_is_followed_on_its_way() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root);
    let queue = bus.queue("q").create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 16];
    let lines = told(None, || {
        sender.send(b"one").unwrap();
        sender.send(b"two").unwrap();
        let one = receiver.try_receive(&mut buffer).unwrap().unwrap();
        let two = receiver.try_receive(&mut buffer).unwrap().unwrap();
        receiver.nack(&one.receipt, Duration::from_secs(2)).unwrap();
        receiver.delete(&two.receipt).unwrap();
    });
    assert_eq!(
        lines,
        [
            "TRACE sent queue=\"q\" position=0 bytes=3",
            "TRACE sent queue=\"q\" position=1 bytes=3",
            "TRACE received queue=\"q\" position=0 receives=1",
            "TRACE received queue=\"q\" position=1 receives=1",
            "TRACE given back queue=\"q\" position=0 delay_ms=2000",
            "TRACE deleted queue=\"q\" position=1 receives=1",
        ]
    );
    // At a lower level nothing of that.
    let lines = told(Some(Level::DEBUG), || {
        sender.send(b"three").unwrap();
    });
    assert_eq!(lines, [""; 0]);
}

#[test]
fn puts_changes_and_publications_are_told() {
    let root = TempBus::new().unwrap();
    let bus = bus(&root);
    let stream = bus.stream("s").slots(1024).create().unwrap();
    let mut producer = stream.producer().unwrap();
    let lines = told(None, || {
        producer.put("key", b"12345").unwrap();
        let batch = [PutRecord::new("key", b"1"), PutRecord::new("other", b"2")];
        let put = producer.put_batch(&batch);
        assert!(put.iter().all(Result::is_ok));
        stream.update_shard_count(2).unwrap();
    });
    assert_eq!(
        lines,
        [
            "TRACE put stream=\"s\" shard=0 position=0 bytes=5",
            "TRACE put stream=\"s\" shard=0 position=1 bytes=1",
            "TRACE put stream=\"s\" shard=0 position=2 bytes=1",
            "DEBUG changed stream=\"s\" what=\"split\"",
        ]
    );
    bus.queue("q").create().unwrap();
    let topic = bus.topic("t").create().unwrap();
    topic
        .subscribe(&SubscribeOptions::new("q").raw(true))
        .unwrap();
    let mut publisher = topic.publisher().unwrap();
    let attributes = Attributes::new();
    let mut id = String::new();
    let lines = told(None, || {
        let message = Publication::new(b"news").attributes(&attributes);
        id = publisher.publish(&message).unwrap().id.to_string();
    });
    let published = format!("TRACE published topic=\"t\" id=\"{id}\" bytes=4 duplicate=false");
    assert!(lines.contains(&published), "{published} in {lines:#?}");
    // Through the transit to the queue, on the way.
    assert!(lines.contains(&"TRACE sent queue=\"q\" position=0 bytes=4".to_owned()));
}

#[test]
fn a_queue_that_grows_or_is_made_again_says_so() {
    let root = TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = || {
        let builder = Bus::builder("b").root(root.path().join("memory"));
        let builder = builder.journal_root(root.path().join("disk"));
        builder.open_or_create().unwrap()
    };
    std::fs::create_dir(root.path().join("memory")).unwrap();
    std::fs::create_dir(root.path().join("disk")).unwrap();
    let bus = open();
    let growing = bus.queue("q").slots(1024).max_bytes(8 << 20);
    let mut sender = growing.create().unwrap().sender().unwrap();
    let lines = told(Some(Level::DEBUG), || {
        for _ in 0..1025 {
            sender.send(b"x").unwrap();
        }
    });
    assert_eq!(lines, ["DEBUG grown queue=\"q\" ring=1 slots=2048"]);

    let durable = bus.queue("d").durability(Durability::Durable).slots(1024);
    let queue = durable.create().unwrap();
    queue.sender().unwrap().send(b"x").unwrap();
    drop((sender, queue, bus));
    std::fs::remove_dir_all(root.path().join("memory")).unwrap();
    std::fs::create_dir(root.path().join("memory")).unwrap();
    let bus = open();
    let lines = told(Some(Level::DEBUG), || {
        assert_eq!(bus.queue("d").open().unwrap().stats().visible, 1);
    });
    let made = "DEBUG [recover queue=\"d\"] made again queue=\"d\" is_there=true";
    assert!(lines.iter().any(|line| line == made), "{lines:#?}");
}

#[test]
fn who_died_is_reaped_in_a_span_that_names_it() {
    const ROOT: &str = "RINGWAY_TRACE_ROOT";
    let this = "who_died_is_reaped_in_a_span_that_names_it";
    if let Some(root) = std::env::var_os(ROOT) {
        // In a process of its own, which ends without a word.
        let bus = Bus::builder("b").root(Path::new(&root)).open().unwrap();
        bus.take_role(5).unwrap();
        std::mem::forget(bus);
        std::process::exit(0);
    }
    let root = TempBus::new().unwrap();
    let bus = bus(&root);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", this]).env(ROOT, root.path());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = told(Some(Level::DEBUG), || assert_eq!(bus.reap().unwrap(), 1));
    let reaped = "DEBUG [reap bus=\"b\" participant=2] reaped claims=0 readers=0 chunks=0 roles=1";
    assert_eq!(lines, [reaped]);
}
