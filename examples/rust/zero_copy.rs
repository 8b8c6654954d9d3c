//! A megabyte that is written where its reader finds it, and never copied.

use ringway::Bus;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open_or_create("frames")?;
    let channel = bus.channel("camera").open_or_create()?;
    let mut reader = channel.reader().join()?;
    let mut producer = channel.producer()?;

    let mut frame = producer.loan(1 << 20)?;
    frame.fill(7); // as long as you like: it blocks nobody
    producer.try_send_loan(frame).map_err(|(error, _)| error)?;

    let view = reader.try_view()?.ok_or("the frame was sent")?; // until its end the bytes stay
    let sum: u64 = view.iter().map(|byte| u64::from(*byte)).sum();
    println!("{} bytes seen in place, their sum is {sum}", view.len());

    drop(view);
    drop((reader, producer, channel, bus));
    Bus::remove_bus("frames", None, false)?;
    Ok(())
}
