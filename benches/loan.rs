//! What does a loan cost, whatever its size: lend, send without a copy, view, give back?

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::{Bus, Producers};

fn loan(criterion: &mut Criterion) {
    let root = ringway_harness::TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("bench")
        .root(root.path())
        .create()
        .expect("a bus");
    let channel = bus
        .channel("c")
        .producers(Producers::Exclusive)
        .create()
        .expect("a channel");
    let mut producer = channel.producer().expect("a producer");
    let mut reader = channel.reader().join().expect("a reader");
    let mut group = criterion.benchmark_group("loan, send, view");
    for size in [512usize, 65_536, 1 << 20, 16 << 20] {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let mut loan = producer.loan(size).expect("a chunk");
                loan[0] = 1;
                producer
                    .try_send_loan(loan)
                    .map_err(|(error, _)| error)
                    .expect("room");
                reader
                    .try_view()
                    .expect("no error")
                    .expect("a record")
                    .len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, loan);
criterion_main!(benches);
