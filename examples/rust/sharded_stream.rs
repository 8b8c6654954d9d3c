//! Twelve trucks report to a stream of four shards; two workers share them, each truck is read in order.

use ringway::{Bus, GroupStart, Stream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const TRUCKS: u32 = 12;
const REPORTS: u32 = 50;
static DONE: AtomicU32 = AtomicU32::new(0);
static OUT_OF_ORDER: AtomicU32 = AtomicU32::new(0);
/// A shard that passes on takes its trucks along.
static NEXT: [AtomicU32; TRUCKS as usize] = [const { AtomicU32::new(0) }; TRUCKS as usize];

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn work(stream: &Stream) -> Outcome {
    let group = stream.group_or_create("dispatch", GroupStart::TrimHorizon)?;
    let mut worker = group.join()?;
    while DONE.load(Ordering::Relaxed) < TRUCKS * REPORTS {
        let count = worker.read_batch(64, Duration::from_millis(20), |record| {
            let truck = record.key()["truck-".len()..]
                .parse::<usize>()
                .expect("a number");
            let report = u32::from_ne_bytes(record.data.try_into().expect("four bytes"));
            let next = &NEXT[truck];
            OUT_OF_ORDER.fetch_add(
                u32::from(report != next.load(Ordering::Relaxed)),
                Ordering::Relaxed,
            );
            next.store(report + 1, Ordering::Relaxed);
        })?;
        DONE.fetch_add(count as u32, Ordering::Relaxed);
        worker.checkpoint()?; // done with them, whoever reads on
    }
    Ok(())
}

fn main() -> Outcome {
    let bus = Bus::open_or_create("fleet")?;
    let stream = bus.stream("trucks").shards(4).open_or_create()?;
    std::thread::scope(|scope| -> Outcome {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| work(&stream))).collect();
        let mut producer = stream.producer()?;
        for report in 0..REPORTS {
            for truck in 0..TRUCKS {
                producer.put(&format!("truck-{truck}"), &report.to_ne_bytes())?;
            }
        }
        for worker in workers {
            worker.join().expect("it does not panic")?;
        }
        Ok(())
    })?;
    let (done, wrong) = (
        DONE.load(Ordering::Relaxed),
        OUT_OF_ORDER.load(Ordering::Relaxed),
    );
    println!("{done} reports of {TRUCKS} trucks, {wrong} out of order");
    drop((stream, bus));
    Bus::remove_bus("fleet", None, false)?;
    Ok(())
}
