use ringway::{Bus, Producers};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open_or_create("demo")?;
    let ticks = bus.channel("ticks").producers(Producers::Exclusive).open_or_create()?;

    // Usually another process.
    let mut reader = ticks.reader().join()?;

    let mut producer = ticks.producer()?;
    producer.try_send(b"hello")?;                       // tens of nanoseconds, no system call

    let mut frame = producer.loan(1 << 20)?;            // a megabyte of the pool, fill it at leisure
    frame.fill(7);
    producer.try_send_loan(frame).map_err(|(e, _)| e)?; // sent without a copy

    let mut buffer = [0; 64];
    let record = reader.read(&mut buffer, Duration::from_secs(1))?.expect("hello");
    assert_eq!(&buffer[..record.len], b"hello");
    let frame = reader.try_view()?.expect("the frame"); // read without a copy
    assert_eq!(frame.len(), 1 << 20);
    Ok(())
}
