//! What does it cost, in one process, to send a record and to read it again? By size and by kind
//! of producer; no second core, so this is instructions and not cache lines.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::{Bus, Producers};

fn append(criterion: &mut Criterion) {
    let root = ringway_harness::TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("bench")
        .root(root.path())
        .create()
        .expect("a bus");
    let mut group = criterion.benchmark_group("send and read");
    for (name, producers) in [
        ("shared", Producers::Shared),
        ("exclusive", Producers::Exclusive),
    ] {
        for size in [32usize, 96, 4096, 65_536] {
            let channel = bus
                .channel(&format!("{name}-{size}"))
                .producers(producers)
                .create()
                .expect("a channel");
            let mut producer = channel.producer().expect("a producer");
            let mut reader = channel.reader().join().expect("a reader");
            let mut body = vec![7u8; size];
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    producer.try_send(&body).expect("room");
                    reader
                        .try_read(&mut body)
                        .expect("no error")
                        .expect("a record")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
