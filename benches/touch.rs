//! What do pre-touching and huge pages gain: the first lap over a fresh channel, page faults and
//! all, against a later one?

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::{Bus, Overflow, Producers};

const SLOTS: u64 = 32 * 1024;

fn touch(criterion: &mut Criterion) {
    let root = ringway_harness::TempBus::new().expect("a root under /dev/shm");
    let mut group = criterion.benchmark_group("first lap over 4 MiB");
    group.sample_size(20);
    for (name, pre_touch, huge_pages) in [
        ("untouched", false, false),
        ("pre-touched", true, false),
        ("huge pages", true, true),
    ] {
        let bus = Bus::builder(&name.replace(' ', "-"))
            .root(root.path())
            .pre_touch(pre_touch)
            .create()
            .expect("a bus");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(
                || {
                    let _ = bus.remove("c");
                    bus.channel("c")
                        .slots(SLOTS)
                        .producers(Producers::Exclusive)
                        .overflow(Overflow::DropOldest)
                        .huge_pages(huge_pages)
                        .create()
                        .map(|channel| channel.producer().expect("a producer"))
                        .expect("a channel")
                },
                |mut producer| {
                    for _ in 0..SLOTS {
                        producer.try_send(&[1; 64]).expect("room");
                    }
                    producer
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, touch);
criterion_main!(benches);
