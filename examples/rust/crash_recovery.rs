//! A worker dies with a message in its hands; another one receives it at once.

use ringway::Bus;
use std::process::Command;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open_or_create("crash")?;
    let queue = bus.queue("orders").open_or_create()?;
    let mut receiver = queue.receiver()?;
    let mut body = [0; 64];
    if std::env::args().nth(1).as_deref() == Some("worker") {
        receiver.receive_into(&mut body, Duration::from_secs(60))?;
        std::process::abort(); // received, not deleted
    }

    queue.sender()?.send(b"order 1")?;
    let worker = Command::new(std::env::current_exe()?).arg("worker").spawn();
    worker?.wait()?;

    // The kernel says that the worker is dead: nobody waits for its lease of 30 s to end.
    let received = receiver.receive_into(&mut body, Duration::from_secs(10))?;
    let received = received.ok_or("the message of the dead is there")?;
    let text = String::from_utf8_lossy(&body[..received.len]);
    println!("{text}, received {} times", received.receives());
    receiver.delete(&received.receipt)?;

    drop((receiver, queue, bus));
    Bus::remove_bus("crash", None, false)?;
    Ok(())
}
