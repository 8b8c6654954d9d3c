//! What does a message of a queue cost, in one process, from send over receive to delete? By size; no
//! second core, so this is instructions and not cache lines.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway::Bus;

fn deliver(criterion: &mut Criterion) {
    let root = ringway_harness::TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("bench")
        .root(root.path())
        .create()
        .expect("a bus");
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(1));
    for size in [24usize, 200, 4096] {
        let queue = bus.queue(&format!("q-{size}")).create().expect("a queue");
        let mut sender = queue.sender().expect("a sender");
        let mut receiver = queue.receiver().expect("a receiver");
        let mut body = vec![7u8; size];
        group.bench_function(BenchmarkId::new("send, receive, delete", size), |bencher| {
            bencher.iter(|| {
                sender.send(&body).expect("room");
                let received = receiver.try_receive(&mut body).expect("no error");
                let receipt = received.expect("a message").receipt;
                receiver.delete(&receipt).expect("it is ours")
            });
        });
        group.bench_function(BenchmarkId::new("send, consume", size), |bencher| {
            bencher.iter(|| {
                sender.send(&body).expect("room");
                let received = receiver.receive_and_delete(&mut body).expect("no error");
                received.expect("a message")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, deliver);
criterion_main!(benches);
