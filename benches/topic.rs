//! What does it cost to publish 64 bytes to 1, 8 and 64 queues, and to a listener? To ten queues, or to ten
//! that are none, of a thousand with a policy each? And what do a hundred thousand topics cost: time to create
//! one, and memory? In one process; what was delivered is consumed outside of the measured time.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::{Attributes, Bus, Notification, Publication, Queue, SubscribeOptions};
use ringway_harness::TempBus;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// Messages between two times that the queues are emptied.
const ROUND: u64 = 1_000;
/// Messages of a batch, as many as SNS takes.
const BATCH: u64 = 10;
const TOPICS: u64 = 100_000;

fn bus(root: &TempBus) -> Bus {
    let bus = Bus::builder("bench").root(root.path());
    bus.create().expect("a bus")
}

fn drain(queue: &Queue) {
    let mut receiver = queue.receiver().expect("a receiver");
    let mut body = [0; 4096];
    while receiver
        .receive_and_delete(&mut body)
        .expect("no error")
        .is_some()
    {}
}

fn fan_out(criterion: &mut Criterion) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = bus(&root);
    let body = [7u8; 64];
    let mut attributes = Attributes::new();
    attributes.string("kind", "order").expect("an attribute");
    let mut group = criterion.benchmark_group("topic");
    for (name, filter) in [
        ("all", None),
        ("by a policy", Some(r#"{"kind": ["order"]}"#)),
    ] {
        for queues in [1u64, 8, 64] {
            let topic = bus.topic(&format!("t{queues}-{}", name.len())).create();
            let topic = topic.expect("a topic");
            let targets: Vec<Queue> = (0..queues)
                .map(|number| {
                    let name = format!("q{queues}-{}-{number}", name.len());
                    let queue = bus.queue(&name).slots(4096).create().expect("a queue");
                    let mut options = SubscribeOptions::new(&name).raw(true);
                    if let Some(filter) = filter {
                        options = options.filter(filter);
                    }
                    topic.subscribe(&options).expect("a subscription");
                    queue
                })
                .collect();
            let mut publisher = topic.publisher().expect("a publisher");
            let mut message = Publication::new(&body);
            if filter.is_some() {
                message = message.attributes(&attributes);
            }
            // One element is one delivery.
            group.throughput(Throughput::Elements(queues));
            let id = BenchmarkId::new(format!("publish 64 B to queues, {name}"), queues);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|count| {
                    let mut took = Duration::ZERO;
                    for from in (0..count).step_by(ROUND as usize) {
                        let start = Instant::now();
                        for _ in from..count.min(from + ROUND) {
                            publisher.publish(&message).expect("room");
                        }
                        took += start.elapsed();
                        targets.iter().for_each(drain);
                    }
                    took
                });
            });
        }
    }
    let topic = bus.topic("heard").create().expect("a topic");
    let (mut listener, mut heard) = (topic.listen().expect("a listener"), Notification::new());
    let mut publisher = topic.publisher().expect("a publisher");
    group.throughput(Throughput::Elements(1));
    group.bench_function("publish 64 B and hear it", |bencher| {
        bencher.iter(|| {
            publisher.publish(&Publication::new(&body)).expect("room");
            assert!(listener.try_hear(&mut heard).expect("no error"));
        });
    });
    let silent = bus.topic("silent").create().expect("a topic");
    let mut publisher = silent.publisher().expect("a publisher");
    group.bench_function("publish 64 B to nobody", |bencher| {
        bencher.iter(|| publisher.publish(&Publication::new(&body)).expect("room"));
    });
    group.finish();
}

/// A thousand subscriptions with a policy each, of which ten want the message: each a queue of its own, or all
/// ten one queue that can't take it, so that it is matched, published, and given up ten times.
fn of_a_thousand(criterion: &mut Criterion) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = bus(&root);
    let body = [7u8; 64];
    let mut attributes = Attributes::new();
    attributes.string("kind", "order").expect("an attribute");
    attributes.string("city", "Graz").expect("an attribute");
    let mut group = criterion.benchmark_group("topic");
    for (name, wanted, size) in [
        ("10 of 1,000 match, to 10 queues", 10, 256),
        ("10 of 1,000 match, to queues that can't take it", 10, 1),
        ("0 of 1,000 match", 0, 256),
    ] {
        let topic = bus.topic(&format!("t{wanted}-{size}")).create();
        let topic = topic.expect("a topic");
        let mut targets = Vec::new();
        for number in 0..1_000u64 {
            let (queue, kind) = match number.is_multiple_of(100) && wanted > 0 {
                true => (format!("q{size}-{number}"), "order".to_owned()),
                false => ("nobody".to_owned(), format!("kind-{number}")),
            };
            let builder = bus.queue(&queue).slots(4096).max_message_bytes(size);
            let queue_of_it = match kind == "order" {
                true => builder.create(),
                false => bus.queue(&queue).open_or_create(),
            };
            let policy = format!(r#"{{"kind": ["{kind}"], "city": ["Graz", "Linz"]}}"#);
            let options = SubscribeOptions::new(&queue).raw(true).filter(&policy);
            topic.subscribe(&options).expect("a subscription");
            targets.push(queue_of_it.expect("a queue"));
        }
        let mut publisher = topic.publisher().expect("a publisher");
        let message = Publication::new(&body).attributes(&attributes);
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for from in (0..count).step_by(ROUND as usize) {
                    let start = Instant::now();
                    for _ in from..count.min(from + ROUND) {
                        publisher.publish(&message).expect("room");
                    }
                    took += start.elapsed();
                    targets.iter().step_by(100).for_each(drain);
                }
                took
            });
        });
        let messages = [message; BATCH as usize];
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(format!("{name}, in batches of {BATCH}"), |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for from in (0..count).step_by((ROUND / BATCH) as usize) {
                    let start = Instant::now();
                    for _ in from..count.min(from + ROUND / BATCH) {
                        for outcome in publisher.publish_batch(&messages) {
                            outcome.expect("room");
                        }
                    }
                    took += start.elapsed();
                    targets.iter().step_by(100).for_each(drain);
                }
                took
            });
        });
    }
    group.finish();
}

fn many(criterion: &mut Criterion) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = bus(&root);
    let start = Instant::now();
    for number in 0..TOPICS {
        bus.topic(&format!("t{number}")).create().expect("a topic");
    }
    let took = start.elapsed();
    let directory = bus.directory().join("topics");
    let files = std::fs::read_dir(directory).expect("the topics");
    let blocks = files.map(|file| file.expect("a file").metadata().expect("its size").blocks());
    let bytes = blocks.sum::<u64>() * 512;
    println!(
        "{{\"figure\":\"topics\",\"topics\":{TOPICS},\"seconds\":{:.2},\"microseconds_each\":{:.1},\"bytes\":{bytes},\"bytes_each\":{}}}",
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / TOPICS as f64,
        bytes / TOPICS
    );
    let queue = bus.queue("q").create().expect("a queue");
    let mut group = criterion.benchmark_group("topic");
    let mut next = 0;
    group.bench_function("open one of 100,000", |bencher| {
        bencher.iter(|| {
            next = (next + 7_919) % TOPICS;
            bus.topic(&format!("t{next}")).open().expect("a topic")
        });
    });
    let topic = bus.topic("t777").open().expect("a topic");
    topic
        .subscribe(&SubscribeOptions::new("q").raw(true))
        .expect("a subscription");
    let mut publisher = topic.publisher().expect("a publisher");
    group.bench_function(
        "publish 64 B to a queue, one of 100,000 topics",
        |bencher| {
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for from in (0..count).step_by(ROUND as usize) {
                    let start = Instant::now();
                    for _ in from..count.min(from + ROUND) {
                        publisher
                            .publish(&Publication::new(&[7; 64]))
                            .expect("room");
                    }
                    took += start.elapsed();
                    drain(&queue);
                }
                took
            });
        },
    );
    group.finish();
}

criterion_group!(benches, fan_out, of_a_thousand, many);
criterion_main!(benches);
