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
mod torment;

use ringway::{Bus, Queue, QueueReceiver, QueueSendError, Received, SettleError};
use ringway_harness::seed::Random;
use ringway_harness::{Stage, deadline};
use stage::{INLINE, QUEUE_STRIDE, SLOTS, body, id_of, text};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use torment::{FOR_EVER, MESSAGES, id, kills, mark, none_is_lost, nothing_is_left, parts};

ringway_harness::roles! {
    send => send,
    receive => receive,
}

const SENDERS: usize = 3;
const RECEIVERS: usize = 4;
/// Kills, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 400;
/// What the rings of a queue that grows may take: about four rings at a time.
const MAX_BYTES: u64 = 10 * SLOTS * QUEUE_STRIDE;
/// Leases are noted by position modulo this, far more than there are slots.
const NOTES: u64 = 1 << 16;
/// Longest body; two thirds of all lie in the slot.
const LONGEST: u64 = 3000;

ringway_harness::boards! {
    /// Messages of each sender that were acknowledged.
    acks: SENDERS,
    /// One bit for each message of each sender: somebody has held it.
    marks: torment::bits(SENDERS),
    /// position | receives | deleted of the last lease.
    notes: NOTES as usize,
    stop: 1,
}

impl Boards {
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
    stage::run(&[
        ("torture of a queue", || play(false)),
        ("torture of a queue that grows", || play(true)),
    ])
}

fn play(grows: bool) -> Result<(), String> {
    let started = Instant::now();
    let (root, bus) = torment::place()?;
    let queue = open(&bus, grows)?;
    let boards = Boards::new()?;
    let roles = [("send", SENDERS), ("receive", RECEIVERS)];
    let report = torment::torment(
        (&bus, root.path()),
        kills(KILLS),
        &roles,
        |launch| boards.dress(launch.set("grows", grows)),
        || boards.stop.set(0, 1),
    )?;

    let stats = finish(&bus, &queue, &boards)?;
    let acked = none_is_lost(&boards.acks, &boards.marks, SENDERS)?;
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
    nothing_is_left(bus)?;
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
    let mut number = torment::resume(&boards.acks, &boards.marks, index, life);
    while boards.stop.get(0) == 0 && number < MESSAGES - 2 {
        let len = match random.below(3) {
            0 => 16 + random.below(LONGEST),
            _ => 16 + random.below(INLINE as u64 - 15),
        };
        let message = body(id(index, number), len as usize);
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
    let (sender, number) = parts(id);
    mark(&boards.marks, sender, number);
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
