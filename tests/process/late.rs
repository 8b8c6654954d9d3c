//! A sender and a receiver that are stopped, at every instruction, for longer than a lease lasts.
//!
//! What is stopped between reading the clock and the swap that needs it comes back with a time of
//! the past. A lease of that time would be over when it is handed out, and a message of that time
//! older than it is: neither may be.
//!
//! `RINGWAY_FULL=1` stops at every instruction, anything else at about 30 of them.

mod stage;

use ringway_harness::step::{self, Mode, Point, Stepper, Sweep, Zygote};
use ringway_harness::{Launch, Stage, TempBus, seed};
use stage::{INLINE, text};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    send => send,
    receive => receive,
}

/// The visibility of the queue: longer than the steps from the clock to the swap take, one by one.
const LEASE: Duration = Duration::from_millis(100);
/// How long the victim is stopped.
const STOP: Duration = Duration::from_millis(120);

/// How long the victim asks again.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    stage::run(&[
        (
            "a receiver that is stopped before its swap hands out no lease of the past",
            leases,
        ),
        (
            "a sender that is stopped before its claim sends no message of the past",
            messages,
        ),
    ])
}

fn open(stage: &Stage) -> Result<ringway::Queue, String> {
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    bus.queue("q").open().map_err(text)
}

fn send(stage: &Stage) -> Result<(), String> {
    let mut sender = open(stage)?.sender().map_err(text)?;
    step::begin();
    let sent = sender.send(&[7; INLINE]);
    step::end();
    sent.map(drop).map_err(text)
}

fn receive(stage: &Stage) -> Result<(), String> {
    let mut receiver = open(stage)?.receiver().map_err(text)?;
    let mut buffer = [0; INLINE];
    step::begin();
    let received = receiver.try_receive(&mut buffer);
    step::end();
    if received.map_err(text)?.is_some() {
        return Ok(());
    }
    // On a busy machine single steps take longer than the lease, again and again: then nothing is
    // handed out, until it runs freely.
    let received = receiver.receive_into(&mut buffer, PATIENCE).map_err(text)?;
    received.map(drop).ok_or("nothing".into())
}

/// A queue of one message at most, and its first slot as it lies in the file.
struct Scene {
    file: File,
    slot: u64,
    epoch_ms: u64,
    _queue: ringway::Queue,
    _root: TempBus,
}

impl Scene {
    fn new(has_message: bool) -> Result<Self, String> {
        let root = TempBus::new()?;
        let bus = stage::bus(root.path()).create().map_err(text)?;
        let builder = bus.queue("q").slots(stage::SLOTS).visibility(LEASE);
        let queue = builder.stride(stage::QUEUE_STRIDE).create().map_err(text)?;
        if has_message {
            let mut sender = queue.sender().map_err(text)?;
            sender.send(&[7; INLINE]).map_err(text)?;
        }
        let path = root.path().join("ringway-stage/objects/q");
        let mut scene = Self {
            file: File::open(path).map_err(text)?,
            slot: 0,
            epoch_ms: 0,
            _queue: queue,
            _root: root,
        };
        (scene.slot, scene.epoch_ms) = (scene.word(80)?, scene.word(248)?);
        Ok(scene)
    }

    fn word(&self, at: u64) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).map_err(text)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// `ctl`, `dlv` and `sent` of the first slot.
    fn look(&self) -> Result<(u64, u64, u64), String> {
        let word = |at| self.word(self.slot + at);
        Ok((word(0)?, word(8)?, word(32)?))
    }

    fn now(&self) -> u64 {
        boot_ms() - self.epoch_ms
    }
}

fn boot_ms() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Stops `role` at its places for [`STOP`]; `check` hears how the slot stood meanwhile, when that was
/// over, and the scene as it is when the victim is through.
fn sweep(
    role: &str,
    has_message: bool,
    check: impl Fn(&Scene, (u64, u64), u64) -> Result<(), String>,
) -> Result<(), String> {
    let mut zygote = Zygote::spawn(&Launch::role(role))?;
    let launch = |_| {
        let scene = Scene::new(has_message).expect("a fresh queue");
        let root = scene._root.path().display().to_string();
        Ok((zygote.fork(&[("root", root.as_str())])?, scene))
    };
    let look = |_: &Point, victim: &mut Stepper, scene: &mut Scene| {
        let (ctl, dlv, _) = scene.look()?;
        let since = Instant::now();
        while since.elapsed() < STOP {
            std::thread::yield_now();
        }
        let resumed = scene.now();
        victim.resume_success()?;
        check(scene, (ctl, dlv), resumed)
    };
    let full = std::env::var("RINGWAY_FULL").is_ok_and(|value| value == "1");
    let places = if full { u64::MAX } else { 30 };
    let sweep = Sweep::new(role, Mode::Stop).about(places, seed::announce("places"));
    let summary = sweep.run(launch, look)?;
    println!("{role}: {} of {} places", summary.visited, summary.total);
    match summary.failures.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} failures, the first at step {} in {}: {}",
            summary.failures.len(),
            first.k,
            first.symbol,
            first.why
        )),
    }
}

fn leases() -> Result<(), String> {
    sweep("receive", true, |scene, (_, stopped), resumed| {
        if stopped >> 62 != 0 {
            return Ok(()); // it had its lease already
        }
        let (_, dlv, _) = scene.look()?;
        let deadline = dlv >> 10 & u64::from(u32::MAX);
        if dlv >> 62 != 1 || deadline <= resumed {
            return Err(format!(
                "{dlv:#x}: a lease until {deadline} was handed out behind {resumed}"
            ));
        }
        Ok(())
    })
}

fn messages() -> Result<(), String> {
    sweep("send", false, |scene, (stopped, _), resumed| {
        if stopped >> 62 != 0 {
            return Ok(()); // it had claimed its slot already
        }
        let (ctl, _, sent) = scene.look()?;
        if ctl >> 62 != 2 || sent < resumed {
            return Err(format!(
                "{ctl:#x}: a message of {sent} was sent behind {resumed}"
            ));
        }
        Ok(())
    })
}
