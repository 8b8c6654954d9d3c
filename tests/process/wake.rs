//! No wake is lost for good: a sender killed anywhere between its commit and its wake leaves a
//! record that a sleeping reader, and a watched descriptor, come to all the same.
//!
//! Every sleep is bounded by 20 ms, so a lost wake costs that and no more. The time is printed; a
//! reader that only its own time-out ended, which is a minute, has failed.

mod stage;

use ringway::{Bus, Idle, Producers, Reader, Start};
use ringway_harness::step::{self, Mode, Point, Stepper, Zygote};
use ringway_harness::{Fault, Launch, Stage, TempBus, await_condition, deadline};
use stage::{INLINE, body, id_of, text};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

ringway_harness::roles! { send_once => send_once }

/// Far above the bound of a sleep and the pauses of a shared machine, far below the time-out.
fn without_a_timeout() -> Duration {
    deadline() / 3
}

/// One sweep at a time: the times are worth more on a quiet machine.
static ALONE: Mutex<()> = Mutex::new(());

fn send_once(stage: &Stage) -> Result<(), String> {
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut producer = bus
        .channel("c")
        .open()
        .map_err(text)?
        .producer()
        .map_err(text)?;
    let body = body(1, INLINE);
    step::begin();
    let sent = producer.try_send(&body);
    step::end();
    sent.map(drop).map_err(text)
}

/// What a sleeper came to: a record or the time-out, and when.
type Woken = (Result<Option<u64>, String>, Instant);

/// How a reader waits without looking.
type Sleep = fn(&mut Reader) -> Result<bool, String>;

struct World {
    sleeper: Option<JoinHandle<Woken>>,
    witness: Reader,
    _bus: Bus,
    _root: TempBus,
}

impl World {
    /// A channel with a reader asleep on it in a thread of its own, and one that only looks.
    fn new(producers: Producers, root: TempBus, sleep: Sleep) -> Result<World, String> {
        let bus = stage::bus(root.path()).create().map_err(text)?;
        let channel = stage::channel(&bus, "c", producers)?;
        let join = || {
            channel
                .reader()
                .start(Start::Earliest)
                .idle(Idle::Park)
                .join()
        };
        let witness = join().map_err(text)?;
        let mut reader = join().map_err(text)?;
        let (tell, thread) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            // SAFETY: gettid takes nothing.
            let _ = tell.send(unsafe { libc::gettid() });
            let mut buffer = [0; 64];
            let read = sleep(&mut reader).and_then(|ready| {
                let record = if ready {
                    reader.try_read(&mut buffer).map_err(text)?
                } else {
                    None
                };
                record
                    .map(|record| id_of(&buffer[..record.len]))
                    .transpose()
            });
            (read, Instant::now())
        });
        let thread = thread.recv().map_err(text)?;
        // Asleep, and for long: in the kernel at several looks in a row.
        let mut asleep = 0;
        await_condition("a sleeping reader", || {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
            let sleeps = stat.is_ok_and(|stat| stat.contains(") S "));
            asleep = if sleeps { asleep + 1 } else { 0 };
            asleep >= 3
        })?;
        Ok(World {
            sleeper: Some(sleeper),
            witness,
            _bus: bus,
            _root: root,
        })
    }
}

fn sleep_in_wait(reader: &mut Reader) -> Result<bool, String> {
    reader.wait(deadline()).map_err(text)
}

fn sleep_in_poll(reader: &mut Reader) -> Result<bool, String> {
    use std::os::fd::AsRawFd;
    let descriptor = reader.poll_descriptor().map_err(text)?;
    let mut poll = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, valid for the call; the descriptor is open.
    let ready = unsafe { libc::poll(&mut poll, 1, deadline().as_millis() as i32) };
    Ok(ready == 1)
}

fn kill_at_each_step(name: &str, producers: Producers, sleep: Sleep) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut zygote = Zygote::spawn(&Launch::role("send_once")).unwrap();
    let (mut slowest, mut found, mut empty) = (Duration::ZERO, 0u64, 0u64);
    let launch = |_| -> Result<(Stepper, World), Fault> {
        let root = TempBus::new()?;
        let path = root.path().display().to_string();
        let world = World::new(producers, root, sleep).unwrap_or_else(|why| panic!("{why}"));
        Ok((zygote.fork(&[("root", &path)])?, world))
    };
    let check = |_: &Point, _: &mut Stepper, world: &mut World| -> Result<(), String> {
        let dead = Instant::now();
        let mut buffer = [0; 64];
        let committed = world.witness.try_read(&mut buffer).map_err(text)?.is_some();
        if !committed {
            // Nothing to wake for: a record of the survivor's ends the sleep.
            let channel = world._bus.channel("c").open().map_err(text)?;
            let mut producer = loop {
                match channel.producer() {
                    Ok(producer) => break producer,
                    Err(ringway::JoinError::Busy { .. }) => std::thread::yield_now(),
                    Err(error) => return Err(text(error)),
                }
            };
            producer.try_send(&body(2, INLINE)).map_err(text)?;
        }
        let woken = world.sleeper.take().ok_or("a sleeper")?.join();
        let (read, at) = woken.map_err(|_| "the sleeper panicked")?;
        let took = at.saturating_duration_since(dead);
        match (committed, read?) {
            (true, Some(1)) => {
                found += 1;
                slowest = slowest.max(took);
            }
            // Woken early, for a claim that was voided under it: nothing was there yet.
            (false, Some(2) | None) => empty += 1,
            other => return Err(format!("committed, read: {other:?}")),
        }
        if took > without_a_timeout() {
            return Err(format!("only the time-out ended the sleep, after {took:?}"));
        }
        Ok(())
    };
    let summary = step::for_each_step(name, Mode::Kill, launch, check).unwrap();
    println!("{summary}; {found} times a record, {empty} times none; slowest {slowest:?}");
    summary.assert_clean();
    assert!(found > 0 && empty > 0, "the stretch has a commit in it");
}

#[test]
fn a_parked_reader_comes_to_a_record_whose_sender_died_before_its_wake() {
    kill_at_each_step("park, shared", Producers::Shared, sleep_in_wait);
}

#[test]
fn a_parked_reader_of_an_exclusive_channel_comes_to_it_too() {
    kill_at_each_step("park, exclusive", Producers::Exclusive, sleep_in_wait);
}

#[test]
fn a_watched_descriptor_becomes_readable_for_it_too() {
    kill_at_each_step("poll, shared", Producers::Shared, sleep_in_poll);
}
