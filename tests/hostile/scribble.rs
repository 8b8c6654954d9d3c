//! A hostile process writes random words over every mapped byte of ring, queue, pool and bus files
//! while others send, read, view, wait and poll, receive and settle, move, purge, reap and mend. They
//! may lose messages or report `Corrupt`; they never crash, panic, stand still or touch a byte
//! outside their mappings.
//!
//! The scribbler puts headers and marks back from time to time, so that the others can open the
//! bus again and go on. `RINGWAY_SEED` repeats the scribbling (not the interleaving),
//! `RINGWAY_FULL=1` makes 10 million operations of each kind.

#[path = "effort.rs"]
mod effort;
#[path = "exercise.rs"]
mod exercise;
#[path = "files.rs"]
#[allow(dead_code)]
mod files;

use files::{DEAD_LETTERS, FIFO, PAGE, QUEUE, SEGMENT, Template};
use memmap2::{MmapOptions, MmapRaw};
use ringway::{Bus, Channel, Idle, Queue, Start};
use ringway_harness::seed::{self, Random};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

ringway_harness::roles! {
    scribble => scribble,
    produce => produce, consume => consume,
    send => send, receive => receive, keep => keep,
}

/// Counters of the board: rounds of each worker, then words written, then the order to stop.
const WORKERS: usize = 4;
const WORDS: usize = WORKERS;
const STOP: usize = WORKERS + 1;
const ROUNDS_THAT_OPENED: usize = WORKERS + 2;

struct Mapped {
    map: MmapRaw,
    pristine: Vec<u8>,
}

impl Mapped {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: a page-aligned mapping of `len` bytes that lives as long as `self`; the file is
        // never truncated in this test, and every access to it is atomic.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.map.len() / 8) }
    }

    fn restore(&self, range: std::ops::Range<usize>) {
        for (word, bytes) in self.words()[range.clone()]
            .iter()
            .zip(self.pristine[range.start * 8..].chunks(8))
        {
            word.store(
                u64::from_le_bytes(bytes.try_into().expect("eight")),
                Relaxed,
            );
        }
    }
}

fn scribble(stage: &Stage) -> Result<(), String> {
    let (root, board) = (stage.path("root"), stage.board("board"));
    let template = Template::read(&root);
    let files: &[usize] = match stage.get::<usize>("queues") {
        0 => &[0, 1, 2, SEGMENT],
        1 => &[0, SEGMENT, QUEUE, QUEUE, DEAD_LETTERS],
        _ => &[0, SEGMENT, FIFO, FIFO, QUEUE],
    };
    let prey: Vec<Mapped> = files
        .iter()
        .map(|&number| {
            let file = std::fs::File::options()
                .read(true)
                .write(true)
                .open(files::path(&root, number));
            let map = MmapOptions::new()
                .map_raw(&file.expect("the bus is there"))
                .expect("it maps");
            Mapped {
                map,
                pristine: template.files[number].clone(),
            }
        })
        .collect();
    let mut random = Random::new(stage.get("seed"));
    let mut sweep = 0usize;
    while board.get(STOP) == 0 {
        let target = &prey[random.below(prey.len() as u64) as usize];
        let words = target.words();
        let all = words.len();
        // Mostly what carries meaning; but every byte has its turn.
        let start = match random.below(8) {
            0 => random.below(32) as usize,
            1 => PAGE / 8 + random.below((PAGE / 8) as u64) as usize,
            2 | 3 => (2 * PAGE / 8 + random.below((4 * PAGE) as u64) as usize).min(all - 1),
            4 => random.below(all as u64) as usize,
            // The header or the chunk reference of one slot, the rest of it whole.
            5 | 6 => {
                let slot = random.below(files::SLOT_COUNT as u64) as usize;
                let first = [files::SLOTS, files::QUEUE_SLOTS][random.below(2) as usize];
                let word = first / 8 + slot * files::STRIDE / 8 + random.below(8) as usize;
                word.min(all - 1)
            }
            _ => {
                sweep = (sweep + 512) % all.max(1);
                sweep % all
            }
        };
        let length = [1, 1, 2, 8, 64, 512][random.below(6) as usize].min(all - start);
        let step = [1, 1, 16][random.below(3) as usize];
        let same = random.percent(50).then(|| files::plausible(&mut random));
        for word in words[start..start + length].iter().step_by(step) {
            word.store(
                same.unwrap_or_else(|| files::plausible(&mut random)),
                Relaxed,
            );
        }
        board.add(WORDS, (length / step).max(1) as u64);
        if random.percent(30) {
            // Headers as they were: the others can open everything again.
            for target in &prey {
                target.restore(0..PAGE / 8);
            }
        }
        if random.percent(10) {
            prey.iter()
                .for_each(|target| target.restore(0..target.words().len()));
        }
        // On two cores the others must get their turn, too.
        for _ in 0..random.below(100) {
            std::hint::spin_loop();
        }
    }
    Ok(())
}

/// Handles of one worker; whatever can be had.
fn open<T>(stage: &Stage, names: [&str; 2], open: Open<T>) -> Option<(Bus, Vec<T>)> {
    let bus = Bus::builder(files::BUS).root(stage.path("root"));
    let bus = bus.pre_touch(false).open().ok()?;
    let objects = names.iter().filter_map(|name| open(&bus, name));
    let objects: Vec<_> = objects.collect();
    (!objects.is_empty()).then_some((bus, objects))
}

type Open<T> = fn(&Bus, &str) -> Option<T>;

fn channels(stage: &Stage, round_of: impl FnMut(&Bus, &[Channel], u64)) -> Result<(), String> {
    let channel = |bus: &Bus, name: &str| bus.channel(name).open().ok();
    work(stage, ["shared", "exclusive"], channel, round_of)
}

fn queues(stage: &Stage, round_of: impl FnMut(&Bus, &[Queue], u64)) -> Result<(), String> {
    let queue = |bus: &Bus, name: &str| bus.queue(name).open().ok();
    let other = if stage.get::<usize>("queues") == 1 {
        "dead"
    } else {
        "order"
    };
    work(stage, ["work", other], queue, round_of)
}

fn work<T>(
    stage: &Stage,
    names: [&str; 2],
    open_one: Open<T>,
    mut round_of: impl FnMut(&Bus, &[T], u64),
) -> Result<(), String> {
    let (board, me): (_, usize) = (stage.board("board"), stage.get("me"));
    let mut round = 0;
    while board.get(STOP) == 0 {
        let handles = open(stage, names, open_one);
        // Standing still is measured by this counter, so it also counts what was refused.
        board.add(me, 1);
        let Some((bus, objects)) = handles else {
            continue;
        };
        board.add(ROUNDS_THAT_OPENED, 1);
        for _ in 0..20 {
            round += 1;
            round_of(&bus, &objects, round);
            board.add(me, 1);
        }
    }
    Ok(())
}

fn produce(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let me: usize = stage.get("me");
    channels(stage, |bus, channels, round| {
        for channel in channels {
            let Ok(mut producer) = channel.producer() else {
                continue;
            };
            for _ in 0..10 {
                exercise::send(&mut producer, round);
                board.add(me, 8);
            }
        }
        if round % 50 == 0 {
            drop(
                bus.doctor(round % 100 == 0)
                    .map(|report| format!("{report:?}")),
            );
        }
    })
}

fn consume(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let me: usize = stage.get("me");
    channels(stage, |bus, channels, round| {
        let mut readers = Vec::new();
        for (number, channel) in channels.iter().enumerate() {
            let start = [Start::Earliest, Start::Latest, Start::At(1200)][round as usize % 3];
            let idle = [Idle::SpinThenPark, Idle::Park, Idle::Spin][(round as usize + number) % 3];
            readers.extend(channel.reader().start(start).idle(idle).join());
            readers.extend(channel.reader().start(start).idle(idle).lossy().join());
        }
        for reader in &mut readers {
            exercise::read(reader, 150);
            board.add(me, 150);
        }
        let mut all: Vec<_> = readers.iter_mut().collect();
        drop(ringway::wait_any(&mut all, Duration::from_micros(300)));
        if round % 20 == 0
            && let Some(reader) = readers.first_mut()
            && let Ok(descriptor) = reader.poll_descriptor()
        {
            exercise::read(reader, 10);
            drop(descriptor);
        }
        if round % 50 == 0 {
            drop(bus.reap());
            drop(bus.participants());
        }
    })
}

fn send(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let me: usize = stage.get("me");
    queues(stage, |_, queues, round| {
        for queue in queues {
            let Ok(mut sender) = queue.sender() else {
                continue;
            };
            for step in 0..60 {
                exercise::offer(&mut sender, round + step);
                board.add(me, 1);
            }
            let timeout = Duration::from_micros(100);
            drop(
                sender
                    .send_timeout(&[1; 70], timeout)
                    .map_err(|error| error.to_string()),
            );
            if let Ok(mut loan) = sender.loan(400) {
                loan.fill(7);
                drop(
                    sender
                        .send_loan(loan)
                        .map_err(|(error, _)| error.to_string()),
                );
            }
        }
    })
}

fn receive(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let me: usize = stage.get("me");
    queues(stage, |_, queues, round| {
        for (number, queue) in queues.iter().enumerate() {
            let Ok(mut receiver) = queue.receiver() else {
                continue;
            };
            let idle = [Idle::SpinThenPark, Idle::Park, Idle::Spin][(round as usize + number) % 3];
            receiver.set_idle(idle);
            for step in 0..150 {
                exercise::receive(queue, &mut receiver, round + step);
                board.add(me, 1);
            }
            let moment = Duration::from_micros(100);
            drop(
                receiver
                    .receive(10, moment, Some(Duration::ZERO))
                    .map_err(|e| e.to_string()),
            );
            drop(receiver.wait(moment).map_err(|error| error.to_string()));
            board.add(me, 1);
            if round % 20 == 0 && receiver.poll_descriptor().is_ok() {
                exercise::receive(queue, &mut receiver, round);
            }
        }
    })
}

/// What there is to do beside sending and receiving.
fn keep(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let me: usize = stage.get("me");
    queues(stage, |bus, queues, round| {
        for queue in queues {
            exercise::with_queue(bus, queue, round);
            board.add(me, 1);
        }
        match round % 8 {
            0 => drop(bus.doctor(true).map(|report| format!("{report:?}"))),
            2 => drop(bus.doctor(false).map(|report| report.is_clean())),
            4 => drop(bus.reap().map_err(|error| error.to_string())),
            6 => drop(bus.objects().map_err(|error| error.to_string())),
            _ => drop(bus.participants().map_err(|error| error.to_string())),
        }
    })
}

#[test]
fn a_scribbling_peer_crashes_nobody_on_a_channel() {
    scribbled("channels", 0, ["produce", "consume", "produce", "consume"]);
}

#[test]
fn a_scribbling_peer_crashes_nobody_on_a_queue() {
    scribbled("queues", 1, ["send", "receive", "receive", "keep"]);
}

#[test]
fn a_scribbling_peer_crashes_nobody_on_a_fifo_queue() {
    scribbled("fifo queues", 2, ["send", "receive", "receive", "keep"]);
}

fn scribbled(kind: &str, queues: usize, roles: [&str; WORKERS]) {
    let seed = seed::announce(&format!("scribbles over {kind}"));
    let root = TempBus::new().unwrap();
    Template::make(root.path()).restore(root.path());
    let wanted = effort::executions(300_000, 10_000_000);
    let board = AckBoard::new(WORKERS + 3).unwrap();
    let launch = |role: &str| {
        let launch = Launch::role(role)
            .board("board", &board)
            .set("queues", queues)
            .set("root", root.path().display());
        launch.env("RUST_BACKTRACE", "0")
    };
    let mut workers: Vec<_> = roles
        .iter()
        .enumerate()
        .map(|(me, role)| launch(role).set("me", me).spawn().unwrap())
        .collect();
    let mut scribbler = launch("scribble").set("seed", seed).spawn().unwrap();
    let mut progress = [(0, Instant::now()); WORKERS];
    let mut faults = Vec::new();
    let done = || (0..WORKERS).map(|me| board.get(me)).sum::<u64>();
    while faults.is_empty() && done() < wanted {
        for (me, worker) in workers.iter_mut().enumerate() {
            if worker
                .exited_by(Instant::now() + Duration::from_millis(10))
                .unwrap()
            {
                faults.push(format!("worker {me} ended: {}", worker.wait().unwrap()));
            }
            let rounds = board.get(me);
            if rounds != progress[me].0 {
                progress[me] = (rounds, Instant::now());
            } else if progress[me].1.elapsed() > deadline() / 2 {
                let state = worker.state();
                faults.push(format!(
                    "worker {me} stands still at {rounds}, state {state:?}"
                ));
            }
        }
    }
    board.set(STOP, 1);
    scribbler.wait_success().unwrap();
    if faults.is_empty() {
        for worker in &mut workers {
            if let Err(fault) = worker.wait_success() {
                faults.push(fault.to_string());
            }
        }
    }
    let more = [
        ("words", board.get(WORDS)),
        ("opened", board.get(ROUNDS_THAT_OPENED)),
        ("seed", seed),
    ];
    let target = format!("scribble {kind}");
    effort::report(&target, done(), faults.len() as u64, &more);
    assert!(faults.is_empty(), "RINGWAY_SEED={seed}: {faults:?}");
    assert!(
        board.get(ROUNDS_THAT_OPENED) > 10,
        "the others never got in: nothing was tested"
    );
}
