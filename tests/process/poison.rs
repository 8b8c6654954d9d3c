//! Poison: a message of which every receiver dies goes to the dead-letter queue, once, and blocks nobody.
//!
//! Workers receive one message at a time. Whoever gets a poisoned one notes it and dies at once, with
//! whatever it holds, and is replaced. What it insists on: each poisoned message kills as many workers as
//! the redrive policy says, and then stands in the dead-letter queue; every healthy one is deleted by
//! somebody, and none ends up there; in a FIFO queue nothing passes a poisoned message of its group
//! before that has killed its last.
//!
//! What SQS does: "Using dead-letter queues in Amazon SQS", Amazon SQS Developer Guide
//! (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>).

mod stage;

use ringway::{Bus, Outgoing, Queue, QueueKind, Redrive, Settings};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, deadline};
use stage::{FIFO_STRIDE, body, id_of, text};
use std::time::{Duration, Instant};

ringway_harness::roles! { work => work }

const WORKERS: usize = 3;
const MESSAGES: u64 = 400;
/// Message `n` is of group `n % GROUPS`; of the last of them none is poisoned.
const GROUPS: u64 = 4;
const MAX_RECEIVES: u16 = 3;
/// No lease ends by itself.
const FOR_EVER: Duration = Duration::from_secs(43_200);

fn is_poisoned(number: u64) -> bool {
    number % 50 == 10 && number % GROUPS != GROUPS - 1
}

fn open(bus: &Bus, name: &str, kind: QueueKind) -> Result<Queue, String> {
    let builder = bus.queue(name).kind(kind).slots(1024).stride(FIFO_STRIDE);
    builder.visibility(FOR_EVER).open_or_create().map_err(text)
}

fn kind_of(name: &str) -> QueueKind {
    match name {
        "fifo" => QueueKind::Fifo,
        _ => QueueKind::Standard,
    }
}

/// A worker's life: it ends with the stop, or of poison.
fn work(stage: &Stage) -> Result<(), String> {
    let (deaths, done) = (stage.board("deaths"), stage.board("done"));
    let stop = stage.board("stop");
    let kind = kind_of(&stage.get::<String>("kind"));
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut receiver = open(&bus, "source", kind)?.receiver().map_err(text)?;
    while stop.get(0) == 0 {
        let received = receiver
            .receive(1, Duration::from_millis(20), None)
            .map_err(text)?;
        let Some(message) = received.first() else {
            continue;
        };
        let number = id_of(&message.body)?;
        if is_poisoned(number) {
            deaths.add(number as usize, 1);
            std::process::exit(0);
        }
        if kind == QueueKind::Fifo {
            for before in (number % GROUPS..number).step_by(GROUPS as usize) {
                let (deaths, done) = (deaths.get(before as usize), done.get(before as usize));
                let is_past = match is_poisoned(before) {
                    true => deaths == u64::from(MAX_RECEIVES),
                    false => done == 1,
                };
                if !is_past {
                    return Err(format!(
                        "message {number} passed {before}: {deaths} deaths, done {done} times"
                    ));
                }
            }
        }
        done.add(number as usize, 1);
        let receipt = message.received.receipt;
        if !receiver.delete(&receipt).map_err(text)? {
            return Err(format!("message {number} was somebody else's"));
        }
    }
    Ok(())
}

fn poison(kind: &str) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = stage::bus(root.path()).create().unwrap();
    let (source, dead) = (
        open(&bus, "source", kind_of(kind)).unwrap(),
        open(&bus, "dead", kind_of(kind)).unwrap(),
    );
    let redrive = Redrive::to(&dead, MAX_RECEIVES);
    source.set(&Settings::new().redrive(redrive)).unwrap();
    let mut sender = source.sender().unwrap();
    for number in 0..MESSAGES {
        let len = if number % 20 == 10 { 2000 } else { 24 };
        let (body, group) = (body(number, len), format!("group-{}", number % GROUPS));
        let message = Outgoing::new(&body).group(&group);
        sender.send_message(&message).unwrap();
    }
    let poisoned: Vec<u64> = (0..MESSAGES)
        .filter(|number| is_poisoned(*number))
        .collect();

    let boards = [MESSAGES, MESSAGES, 1].map(|len| AckBoard::new(len as usize).unwrap());
    let [deaths, done, stop] = &boards;
    let launch = Launch::role("work").set("root", root.path().display());
    let launch = launch.set("kind", kind).board("deaths", deaths);
    let launch = launch.board("done", done).board("stop", stop);
    let spawn = || launch.spawn().unwrap();
    let mut workers: Vec<Victim> = (0..WORKERS).map(|_| spawn()).collect();
    let start = Instant::now();
    loop {
        for worker in &mut workers {
            if let Some(exit) = worker.try_wait().unwrap() {
                assert!(exit.is_success(), "{exit:?}");
                *worker = spawn();
            }
        }
        let (stats, moved) = (source.stats(), dead.stats().visible);
        let left = stats.visible + stats.in_flight + stats.parked + stats.moving;
        if left == 0 && moved >= poisoned.len() as u64 {
            break;
        }
        assert!(start.elapsed() < deadline(), "{stats:?}, {moved} moved");
        std::thread::yield_now();
    }
    stop.set(0, 1);
    for worker in &mut workers {
        assert!(worker.wait().unwrap().is_success());
    }

    for number in 0..MESSAGES {
        let killed = deaths.get(number as usize);
        let wanted = match is_poisoned(number) {
            true => (u64::from(MAX_RECEIVES), 0),
            false => (0, 1),
        };
        assert_eq!((killed, done.get(number as usize)), wanted, "{number}");
    }
    let mut receiver = dead.receiver().unwrap();
    let mut arrived = Vec::new();
    for message in receiver.receive(100, Duration::ZERO, None).unwrap() {
        assert_eq!(message.origin().unwrap().receives, MAX_RECEIVES);
        arrived.push(id_of(&message.body).unwrap());
    }
    arrived.sort_unstable();
    assert_eq!(arrived, poisoned);
}

#[test]
fn a_message_that_kills_every_receiver_ends_in_the_dead_letter_queue_and_blocks_nobody() {
    poison("standard");
}

#[test]
fn a_message_that_kills_every_receiver_holds_up_its_group_until_it_has_gone_and_no_longer() {
    poison("fifo");
}
