//! Four workers share a queue of a thousand jobs; each job is done by one of them.

use ringway::{Bus, Queue, ReceiveError};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

const JOBS: usize = 1000;
static DONE: AtomicUsize = AtomicUsize::new(0);
static SUM: AtomicI64 = AtomicI64::new(0);

fn work(queue: &Queue) -> Result<(), ReceiveError> {
    let mut receiver = queue.receiver().expect("the queue is there"); // one for each thread
    while DONE.load(Ordering::Relaxed) < JOBS {
        for job in receiver.receive(10, Duration::from_millis(20), None)? {
            let number = i32::from_ne_bytes(job.body[..].try_into().expect("four bytes"));
            SUM.fetch_add(number.into(), Ordering::Relaxed);
            receiver
                .delete(&job.received.receipt)
                .expect("the lease has not ended");
            DONE.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open_or_create("pool")?;
    let queue = bus.queue("jobs").open_or_create()?;
    std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| work(&queue))).collect();
        let mut sender = queue.sender()?;
        for job in 1..=JOBS as i32 {
            sender.send_timeout(&job.to_ne_bytes(), Duration::from_secs(10))?;
        }
        for worker in workers {
            worker.join().expect("it does not panic")?;
        }
        Ok(())
    })?;
    let (done, sum) = (DONE.load(Ordering::Relaxed), SUM.load(Ordering::Relaxed));
    println!("{done} jobs done, their sum is {sum}");
    drop((queue, bus));
    Bus::remove_bus("pool", None, false)?;
    Ok(())
}
