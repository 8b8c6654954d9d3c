//! A stream on disk that is larger than its ring is read from its beginning to where others put, byte for byte and
//! without a seam, in the same memory however large it is.
//!
//! ```text
//! cargo test --release --test stream_cold                                  32 MB
//! RINGWAY_COLD_BYTES=4000000000 cargo test --release --test stream_cold    as many bytes; RINGWAY_FULL=1: 1 GB
//! ```

use ringway::{Bus, Durability, PutRecord, Stream, StreamIterator};
use ringway_harness::TempBus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const BODY: usize = 3_900;
/// Memory that reading may take: a window of the segments, and nothing that grows.
const MEMORY: u64 = 32 << 20;
/// Records that are put in one batch.
const BATCH: u64 = 256;

fn wanted() -> u64 {
    let asked = std::env::var("RINGWAY_COLD_BYTES").ok();
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    let usual = if is_full { 1 << 30 } else { 32_000_000 };
    asked.map_or(usual, |text| text.parse().expect("a number of bytes"))
}

fn fill(body: &mut [u8], number: u64) {
    for (word, at) in body.chunks_exact_mut(8).zip(0..) {
        word.copy_from_slice(&(number ^ at << 40).to_le_bytes());
    }
}

/// Puts numbers from `from` on while `goes_on`, by whole batches; the one behind the last.
fn put(stream: &Stream, from: u64, goes_on: impl Fn(u64) -> bool) -> u64 {
    let mut producer = stream.producer().unwrap();
    let mut bodies = vec![vec![0; BODY / 8 * 8]; BATCH as usize];
    let mut next = from;
    while goes_on(next) {
        for (body, number) in bodies.iter_mut().zip(next..) {
            fill(body, number);
        }
        let records = bodies.iter().map(|body| PutRecord::new("k", body));
        for outcome in producer.put_batch(&records.collect::<Vec<_>>()) {
            outcome.unwrap();
        }
        next += BATCH;
    }
    next
}

/// Kibibytes of a line of the kernel's account of this process.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|it| it.strip_prefix(line));
    let number = found.and_then(|rest| rest.split_whitespace().next());
    number.unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_stream_larger_than_its_ring_is_read_without_a_seam_in_the_same_memory() {
    let (memory_root, disk) = (
        TempBus::new().unwrap(),
        TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    );
    let bus = Bus::builder("cold").root(memory_root.path());
    let bus = bus.journal_root(disk.path()).create().unwrap();
    let wanted = wanted();
    let stream = bus.stream("s").durability(Durability::Durable);
    // In a small run several segments are filled, too.
    let segment = (wanted / 8).clamp(4 << 20, 64 << 20) / 4096 * 4096;
    let stream = stream.slots(1024).stride(4096).segment_bytes(segment);
    let stream = stream.create().unwrap();
    let before = put(&stream, 0, |next| next * (BODY as u64) < wanted);

    // What was used before is none of reading's.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let begun = memory("VmRSS:");
    let iterator = StreamIterator::TrimHorizon;
    let mut reader = stream.reader().iterator(iterator).open().unwrap();
    let (read, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut expected = vec![0; BODY / 8 * 8];
    let end = std::thread::scope(|scope| {
        // Others put from where it has read a half, so that it comes to the end while that moves.
        let producer = scope.spawn(|| {
            while read.load(Ordering::Relaxed) < before / 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
            put(&stream, before, |next| {
                next < before + 8 * BATCH || !is_over.load(Ordering::Relaxed)
            })
        });
        let mut next = 0;
        while next < before + 8 * BATCH {
            let given = reader.read_batch(500, Duration::from_secs(10), |record| {
                fill(&mut expected, next);
                assert!(record.data == expected, "record {next} is not what was put");
                next += 1;
            });
            assert!(given.unwrap() > 0, "nothing comes behind {next}");
            read.store(next, Ordering::Relaxed);
        }
        is_over.store(true, Ordering::Relaxed);
        let end = producer.join().unwrap();
        while next < end {
            let each = |_: ringway::StreamRecord<'_>| next += 1;
            assert!(
                reader
                    .read_batch(500, Duration::from_secs(10), each)
                    .unwrap()
                    > 0
            );
        }
        end
    });
    let grown = memory("VmHWM:").saturating_sub(begun);
    println!(
        "{{\"figure\":\"cold stream\",\"bytes\":{},\"records\":{end},\"memory_bytes\":{grown}}}",
        end * BODY as u64
    );
    assert!(grown < MEMORY, "{grown} bytes of memory");
}
