//! How long a death in the middle of a send delays the records behind it: from SIGKILL of a
//! process between claim and commit to the next delivery. A figure, and hardly a verdict: what is
//! insisted on is that the record comes, and that at least every other one is brought by whoever
//! waits for it and not by the sweep of each second.
//!
//! `RINGWAY_SAMPLES=200 cargo test --release --test recovery`: one JSON line a variant.

mod stage;

use ringway::{Idle, Producers, Start};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use stage::{INLINE, body, id_of, text};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

ringway_harness::roles! { claim => claim }

/// The only way past the claim is to find its owner dead.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often every process looks for the dead.
const SWEEP_MS: f64 = 1000.0;

fn main() -> ExitCode {
    stage::run(&[
        ("a dead claim of a shared channel is passed", || {
            measure("shared", Producers::Shared)
        }),
        ("a dead claim of an exclusive channel is passed", || {
            measure("exclusive", Producers::Exclusive)
        }),
    ])
}

/// Claims a slot and stays inside of it.
fn claim(stage: &Stage) -> Result<(), String> {
    let inside = stage.board("inside");
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut producer = bus
        .channel("c")
        .open()
        .map_err(text)?
        .producer()
        .map_err(text)?;
    let sent = producer.try_send_with(INLINE, |_| {
        inside.set(0, 1);
        loop {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() };
        }
    });
    sent.map(drop).map_err(text)
}

fn measure(variant: &str, producers: Producers) -> Result<(), String> {
    let samples = std::env::var("RINGWAY_SAMPLES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200);
    let root = TempBus::new()?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let builder = bus
        .channel("c")
        .slots(stage::SLOTS)
        .stride(stage::STRIDE)
        .readers(8);
    let builder = builder.producers(producers).stall_timeout(STALL_TIMEOUT);
    let channel = builder.create().map_err(text)?;
    let builder = channel.reader().start(Start::Earliest).idle(Idle::Park);
    let mut reader = builder.join().map_err(text)?;
    let inside = AckBoard::new(1)?;
    let launch = Launch::role("claim")
        .set("root", root.path().display())
        .board("inside", &inside);
    let (delivered, deliveries) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(record) = reader.read(&mut buffer, deadline()) {
                let Some(record) = record else { continue };
                let id = id_of(&buffer[..record.len]);
                let last = id == Ok(u64::MAX);
                if delivered.send((id, Instant::now())).is_err() || last {
                    break;
                }
            }
        });
        let mut times = Vec::new();
        for sample in 0..samples {
            inside.set(0, 0);
            let mut victim = launch.spawn()?;
            inside.await_at_least(0, 1, &victim, "the claim")?;
            let send = |id| -> Result<(), String> {
                let mut producer = loop {
                    match channel.producer() {
                        Ok(producer) => break producer,
                        Err(ringway::JoinError::Busy { .. }) => std::thread::yield_now(),
                        Err(error) => return Err(text(error)),
                    }
                };
                producer.try_send(&body(id, INLINE)).map(drop).map_err(text)
            };
            // A shared channel takes the record behind the claim at once; an exclusive one has
            // nobody to send it before the claim's owner is dead.
            let killed = if producers == Producers::Shared {
                send(sample)?;
                let killed = Instant::now();
                victim.signal(libc::SIGKILL)?;
                killed
            } else {
                let killed = Instant::now();
                victim.signal(libc::SIGKILL)?;
                send(sample)?;
                killed
            };
            let (id, at) = deliveries
                .recv_timeout(deadline())
                .map_err(|_| "nothing was delivered")?;
            if id != Ok(sample) {
                return Err(format!("delivered {id:?}, expected {sample}"));
            }
            times.push(at.duration_since(killed));
            victim.wait()?;
        }
        let mut producer = channel.producer().map_err(text)?;
        producer.try_send(&body(u64::MAX, INLINE)).map_err(text)?;
        times.sort();
        let ms = |share: f64| {
            let at = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1;
            times[at].as_secs_f64() * 1e3
        };
        println!(
            "{{\"figure\":\"P12\",\"variant\":\"{variant}\",\"samples\":{samples},\"p50_ms\":{:.3},\
             \"p99_ms\":{:.3},\"max_ms\":{:.3}}}",
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
        if ms(0.5) > SWEEP_MS / 2.0 {
            return Err("the dead claim was left to the sweep of each second".into());
        }
        Ok(())
    })
}
