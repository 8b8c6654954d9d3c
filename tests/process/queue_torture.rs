//! Kill torture of a queue: three senders and four receivers under random SIGKILL, SIGSTOP and
//! SIGCONT, each brought back whenever it dies.
//!
//! What was acknowledged is never lost: every sender notes how many of its messages were
//! acknowledged, every receiver marks each message it holds before it deletes it, and in the end
//! every acknowledged message is marked. What is leased is never shared: every receiver notes
//! position and receive count of what it holds; the same two never come twice, and nothing comes
//! again behind a delete that succeeded. In the end nothing is left of anybody. Then all of it once
//! more over a queue of short rings that grows, and gives them back, all the time.
//!
//! ```text
//! cargo test --release --test queue_torture                        400 kills
//! RINGWAY_KILLS=50000 cargo test --release --test queue_torture    the soak
//! RINGWAY_SEED=n                                                   the same draws again
//! ```
//! One JSON line on standard output.

mod stage;

use ringway::{Bus, Queue, QueueReceiver, QueueSendError, Received, SettleError};
use ringway_harness::chaos::{Torture, Troupe};
use ringway_harness::seed::Random;
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use stage::{INLINE, QUEUE_STRIDE, SLOTS, body, id_of, text};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    send => send,
    receive => receive,
}

const SENDERS: usize = 3;
const RECEIVERS: usize = 4;
/// Kills, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 400;
/// Messages of one sender in all its lives.
const MESSAGES: u64 = 1 << 24;
/// What the rings of a queue that grows may take: about four rings at a time.
const MAX_BYTES: u64 = 10 * SLOTS * QUEUE_STRIDE;
/// Leases are noted by position modulo this, far more than there are slots.
const NOTES: u64 = 1 << 16;
/// Longest body; two thirds of all lie in the slot.
const LONGEST: u64 = 3000;
/// Draws between two calls of the doctor, who has to leave the living alone.
const DOCTOR_EVERY: u64 = 64;
/// No such lease ends by itself.
const FOR_EVER: Duration = Duration::from_secs(43_200);

/// The boards that all share.
struct Boards {
    /// Messages of each sender that were acknowledged.
    acks: AckBoard,
    /// One bit for each message of each sender: somebody has held it.
    marks: AckBoard,
    /// position | receives | deleted of the last lease.
    notes: AckBoard,
    stop: AckBoard,
}

impl Boards {
    fn new() -> Result<Self, ringway_harness::Fault> {
        Ok(Self {
            acks: AckBoard::new(SENDERS)?,
            marks: AckBoard::new(SENDERS * (MESSAGES / 64) as usize)?,
            notes: AckBoard::new(NOTES as usize)?,
            stop: AckBoard::new(1)?,
        })
    }

    fn of(stage: &Stage) -> Self {
        Self {
            acks: stage.board("acks"),
            marks: stage.board("marks"),
            notes: stage.board("notes"),
            stop: stage.board("stop"),
        }
    }

    fn dress(&self, launch: Launch) -> Launch {
        let launch = launch.board("acks", &self.acks).board("marks", &self.marks);
        launch.board("notes", &self.notes).board("stop", &self.stop)
    }

    fn mark(&self, sender: usize, number: u64) {
        let at = sender * (MESSAGES / 64) as usize + (number / 64) as usize;
        self.marks.words()[at].fetch_or(1 << (number % 64), SeqCst);
    }

    fn is_marked(&self, sender: usize, number: u64) -> bool {
        let at = sender * (MESSAGES / 64) as usize + (number / 64) as usize;
        self.marks.get(at) >> (number % 64) & 1 == 1
    }

    /// Notes a lease, or that its message is deleted.
    fn note(&self, received: &Received, deleted: bool) -> Result<(), String> {
        let (position, receives) = (received.position(), u64::from(received.receives()));
        let word = &self.notes.words()[(position % NOTES) as usize];
        let note = position << 12 | receives << 1 | u64::from(deleted);
        let before = word.fetch_max(note, SeqCst);
        if before >> 12 != position {
            return Ok(());
        }
        let (count, was_deleted) = (before >> 1 & 0x7FF, before & 1 == 1);
        if deleted {
            if count > receives {
                return Err(format!("{received:?} deleted, but received {count} times"));
            }
        } else if count == receives || (was_deleted && count < receives) {
            return Err(format!(
                "{received:?}, but {count} was held before, deleted: {was_deleted}"
            ));
        }
        Ok(())
    }
}

fn open(bus: &Bus, grows: bool) -> Result<Queue, String> {
    let mut builder = bus.queue("q").slots(SLOTS).stride(QUEUE_STRIDE);
    if grows {
        builder = builder.max_bytes(MAX_BYTES);
    }
    builder.visibility(FOR_EVER).open_or_create().map_err(text)
}

fn main() -> ExitCode {
    let mut is_well = true;
    for (name, grows) in [("a queue", false), ("a queue that grows", true)] {
        match play(grows) {
            Ok(()) => println!("test torture of {name} ... ok"),
            Err(why) => {
                println!("test torture of {name} ... FAILED: {why}");
                is_well = false;
            }
        }
    }
    let left = stage::leftovers_of_ours();
    if !left.is_empty() {
        println!("left behind: {left:?}");
    }
    if is_well && left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(grows: bool) -> Result<(), String> {
    let started = Instant::now();
    let kills = std::env::var("RINGWAY_KILLS").ok();
    let kills: u64 = kills.and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let root = TempBus::new()?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let queue = open(&bus, grows)?;
    let boards = Boards::new()?;
    let mut troupe = Troupe::new();
    for (role, count) in [("send", SENDERS), ("receive", RECEIVERS)] {
        for index in 0..count {
            let launch = Launch::role(role).set("root", root.path().display());
            let launch = launch.set("index", index).set("grows", grows);
            let launch = boards.dress(launch);
            troupe.join(&format!("{role} {index}"), move |life| {
                Ok(launch.clone().set("life", life))
            });
        }
    }
    let mut draws = 0;
    let report = troupe.torture(&Torture::kills(kills), |_| {
        draws += 1;
        if draws % DOCTOR_EVERY == 0 {
            bus.doctor(true).expect("the doctor can look at everything");
        }
        Ok(())
    });
    boards.stop.set(0, 1);
    let report = report?;
    troupe.finish()?;

    let stats = finish(&bus, &queue, &boards)?;
    let acked: u64 = (0..SENDERS).map(|sender| boards.acks.get(sender)).sum();
    for sender in 0..SENDERS {
        let acked = boards.acks.get(sender);
        if let Some(lost) = (0..acked).find(|number| !boards.is_marked(sender, *number)) {
            return Err(format!(
                "message {lost} of sender {sender} is lost, of {acked}"
            ));
        }
    }
    println!(
        "{{\"figure\":\"{}\",\"seed\":{},\"kills\":{},\"stops\":{},\"acked\":{acked},\
         \"received\":{},\"released\":{},\"renewed\":{},\"grown\":{},\"lost\":0,\"shared\":0,\"seconds\":{:.1}}}",
        if grows {
            "growing queue torture"
        } else {
            "queue torture"
        },
        report.seed,
        report.kills,
        report.stops,
        stats.received,
        stats.released,
        stats.renewed,
        stats.grown,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Everybody has ended: what is left is received, and nothing else is left.
fn finish(bus: &Bus, queue: &Queue, boards: &Boards) -> Result<ringway::QueueStats, String> {
    bus.reap().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut buffer = vec![0; 2 * LONGEST as usize];
    let start = Instant::now();
    loop {
        let received = receiver
            .receive_into(&mut buffer, Duration::from_millis(10))
            .map_err(text)?;
        match received {
            Some(received) => {
                hold(boards, &buffer[..received.len], &received)?;
                delete(boards, &mut receiver, &received, false)?;
            }
            None => {
                let stats = queue.stats();
                if (stats.visible, stats.delayed, stats.in_flight) == (0, 0, 0) {
                    break;
                }
                if start.elapsed() > deadline() {
                    return Err(format!("messages stay behind: {stats:?}"));
                }
            }
        }
    }
    while queue.stats().rings > 2 && start.elapsed() < deadline() {
        receiver.wait(Duration::from_millis(1)).map_err(text)?;
        let _ = receiver.try_receive(&mut buffer).map_err(text)?;
    }
    drop(receiver);
    let report = bus.doctor(false).map_err(text)?;
    let clean = report.is_clean() && report.participants == 1 && report.open_claims == 0;
    if !clean || report.damaged_slots != 0 || report.chunks[1..] != [0, 0] {
        return Err(format!("left behind: {report:?}"));
    }
    let stats = queue.stats();
    if stats.parked != 0 {
        return Err(format!("{stats:?}"));
    }
    if stats.rings > 2 {
        return Err(format!("rings are left behind: {stats:?}"));
    }
    Ok(stats)
}

// What the children do.

fn send(stage: &Stage) -> Result<(), String> {
    let (index, life): (usize, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((index as u64) << 32 | life);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let queue = open(&bus, stage.get("grows"))?;
    let mut sender = queue.sender().map_err(text)?;
    let mut number = boards.acks.get(index);
    if life > 0 {
        // The one behind the last acknowledged may have been sent or not: nobody asks for it.
        boards.mark(index, number);
        number += 1;
        boards.acks.set(index, number);
    }
    while boards.stop.get(0) == 0 && number < MESSAGES - 2 {
        let len = match random.below(3) {
            0 => 16 + random.below(LONGEST),
            _ => 16 + random.below(INLINE as u64 - 15),
        };
        let message = body((index as u64) << 56 | number, len as usize);
        let sent = match random.below(8) {
            0 => sender.send_delayed(&message, Duration::from_millis(random.below(4))),
            1 => sender.send_batch(&[&message]).map(|_| 0),
            _ => sender.send(&message),
        };
        match sent {
            Ok(_) => {
                number += 1;
                boards.acks.set(index, number);
            }
            Err(QueueSendError::Full { .. } | QueueSendError::PoolExhausted { .. }) => {
                std::thread::yield_now();
            }
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

fn receive(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((100 + index) << 32 | life);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let queue = open(&bus, stage.get("grows"))?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut buffer = vec![0; 2 * LONGEST as usize];
    let mut kept: Vec<Received> = Vec::new();
    while boards.stop.get(0) == 0 {
        let is_short = random.percent(10);
        let visibility = if is_short {
            Duration::from_millis(random.below(3))
        } else {
            FOR_EVER
        };
        receiver.set_visibility(visibility).map_err(text)?;
        let wait = Duration::from_millis(5);
        let Some(received) = receiver.receive_into(&mut buffer, wait).map_err(text)? else {
            continue;
        };
        hold(&boards, &buffer[..received.len], &received)?;
        match random.below(10) {
            // Forgotten: it comes again when its short lease is over.
            0 if is_short => {}
            1 if !is_short => {
                let delay = Duration::from_millis(random.below(3));
                receiver.nack(&received.receipt, delay).map_err(text)?;
            }
            2 if !is_short => {
                let longer = receiver.change_visibility(&received.receipt, FOR_EVER);
                longer.map_err(text)?;
                delete(&boards, &mut receiver, &received, false)?;
            }
            3 if !is_short && kept.len() < 50 => kept.push(received),
            _ => delete(&boards, &mut receiver, &received, is_short)?,
        }
        if kept.len() >= 40 {
            for received in kept.drain(..) {
                delete(&boards, &mut receiver, &received, false)?;
            }
        }
    }
    for received in kept.drain(..) {
        delete(&boards, &mut receiver, &received, false)?;
    }
    Ok(())
}

/// A message is in our hands: it is whole, and nobody else's.
fn hold(boards: &Boards, message: &[u8], received: &Received) -> Result<(), String> {
    let id = id_of(message).map_err(|why| format!("{received:?}: {why}"))?;
    boards.note(received, false)?;
    boards.mark((id >> 56) as usize, id & 0xFF_FFFF_FFFF);
    Ok(())
}

fn delete(
    boards: &Boards,
    receiver: &mut QueueReceiver,
    received: &Received,
    is_short: bool,
) -> Result<(), String> {
    match receiver.delete(&received.receipt) {
        Ok(true) => boards.note(received, true),
        Ok(false) if is_short => Ok(()), // another has received and deleted it meanwhile
        Err(SettleError::StaleReceipt { .. }) if is_short => Ok(()),
        other => Err(format!("{received:?}: {other:?}")),
    }
}
