//! A message is sent, received and deleted.

use ringway::Bus;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open_or_create("demo")?;
    let queue = bus.queue("orders").open_or_create()?;
    queue.sender()?.send(b"hello")?;

    let mut receiver = queue.receiver()?;
    let mut body = [0; 256];
    let got = receiver.receive_into(&mut body, Duration::from_secs(1))?;
    let got = got.ok_or("nobody else receives from this queue")?;
    receiver.delete(&got.receipt)?;
    println!("{}", String::from_utf8_lossy(&body[..got.len]));
    Ok(())
}
