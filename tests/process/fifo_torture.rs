//! Kill torture of a FIFO queue: three senders and four receivers under random SIGKILL, SIGSTOP and
//! SIGCONT, each brought back whenever it dies.
//!
//! What was acknowledged is never lost: in the end every acknowledged message was held by somebody.
//! Order is never wrong: of each sender's messages of a group, each is held only when the one before it
//! has been held, and neither when it is received nor when it is deleted has a later one been deleted
//! in turn; so what was deleted never comes again. All senders use the same groups, so every group has
//! several senders and several receivers.
//!
//! ```text
//! cargo test --release --test fifo_torture                         400 kills
//! RINGWAY_KILLS=50000 cargo test --release --test fifo_torture     the soak
//! RINGWAY_SEED=n                                                   the same draws again
//! ```
//! One JSON line on standard output.

mod stage;
mod torment;

use ringway::{Bus, Outgoing, Queue, QueueReceiver, QueueSendError, Received, SettleError};
use ringway_harness::seed::Random;
use ringway_harness::{Stage, deadline};
use stage::{FIFO_STRIDE, INLINE, SLOTS, body, id_of, text};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use torment::{
    FOR_EVER, MESSAGES, id, is_marked, kills, mark, none_is_lost, nothing_is_left, parts,
};

ringway_harness::roles! {
    send => send,
    receive => receive,
}

const SENDERS: usize = 3;
const RECEIVERS: usize = 4;
/// Groups; message `n` of each sender is of group `n % GROUPS`.
const GROUPS: u64 = 7;
/// Kills, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 400;
/// Longest body; two thirds of all lie in the slot.
const LONGEST: u64 = 3000;

ringway_harness::boards! {
    /// Messages of each sender that were acknowledged, or may have been sent.
    acks: SENDERS,
    /// One bit for each message of each sender: somebody has held it.
    marks: torment::bits(SENDERS),
    /// Of each sender and group, one more than the last message that was deleted in turn.
    deleted: SENDERS * GROUPS as usize,
    stop: 1,
}

impl Boards {
    fn line(&self, sender: usize, number: u64) -> &std::sync::atomic::AtomicU64 {
        &self.deleted.words()[sender * GROUPS as usize + (number % GROUPS) as usize]
    }

    /// A message is in our hands, and no one behind it was in turn yet.
    fn hold(&self, id: u64) -> Result<(), String> {
        let (sender, number) = parts(id);
        if number >= GROUPS && !is_marked(&self.marks, sender, number - GROUPS) {
            return Err(format!(
                "message {number} of sender {sender} passed the one before it"
            ));
        }
        let deleted = self.line(sender, number).load(SeqCst);
        if deleted > number {
            return Err(format!(
                "message {number} of sender {sender} is held when {} was deleted",
                deleted - 1
            ));
        }
        mark(&self.marks, sender, number);
        Ok(())
    }

    /// It was deleted in turn. Whoever was stopped says so late, when others are further.
    fn delete(&self, id: u64) {
        let (sender, number) = parts(id);
        self.line(sender, number).fetch_max(number + 1, SeqCst);
    }
}

fn open(bus: &Bus) -> Result<Queue, String> {
    let builder = bus.queue("q.fifo").fifo().deduplicate(None);
    let builder = builder.slots(SLOTS).stride(FIFO_STRIDE);
    builder.visibility(FOR_EVER).open_or_create().map_err(text)
}

fn main() -> ExitCode {
    stage::run(&[("torture of a FIFO queue", play)])
}

fn play() -> Result<(), String> {
    let started = Instant::now();
    let (root, bus) = torment::place()?;
    let queue = open(&bus)?;
    let boards = Boards::new()?;
    let roles = [("send", SENDERS), ("receive", RECEIVERS)];
    let report = torment::torment(
        (&bus, root.path()),
        kills(KILLS),
        &roles,
        |launch| boards.dress(launch),
        || boards.stop.set(0, 1),
    )?;

    let stats = finish(&bus, &queue, &boards)?;
    let acked = none_is_lost(&boards.acks, &boards.marks, SENDERS)?;
    println!(
        "{{\"figure\":\"fifo torture\",\"seed\":{},\"kills\":{},\"stops\":{},\"acked\":{acked},\
         \"received\":{},\"released\":{},\"renewed\":{},\"lost\":0,\"inversions\":0,\"seconds\":{:.1}}}",
        report.seed,
        report.kills,
        report.stops,
        stats.received,
        stats.released,
        stats.renewed,
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
                let id = id_of(&buffer[..received.len])?;
                boards.hold(id)?;
                delete(boards, &mut receiver, (id, received), false)?;
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
    drop(receiver);
    nothing_is_left(bus)?;
    let stats = queue.stats();
    if stats.parked != 0 {
        return Err(format!("{stats:?}"));
    }
    Ok(stats)
}

// What the children do.

fn send(stage: &Stage) -> Result<(), String> {
    let (index, life): (usize, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((index as u64) << 32 | life);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let queue = open(&bus)?;
    let mut sender = queue.sender().map_err(text)?;
    let mut number = torment::resume(&boards.acks, &boards.marks, index, life);
    while boards.stop.get(0) == 0 && number < MESSAGES - 2 {
        let len = match random.below(3) {
            0 => 16 + random.below(LONGEST),
            _ => 16 + random.below(INLINE as u64 - 15),
        };
        let message = body(id(index, number), len as usize);
        let group = format!("group-{}", number % GROUPS);
        match sender.send_message(&Outgoing::new(&message).group(&group)) {
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
    let queue = open(&bus)?;
    let mut receiver = queue.receiver().map_err(text)?;
    while boards.stop.get(0) == 0 {
        let is_short = random.percent(10);
        let visibility = if is_short {
            Duration::from_millis(random.below(3))
        } else {
            FOR_EVER
        };
        let max = 1 + random.below(6) as usize;
        let wait = Duration::from_millis(5);
        let received = receiver
            .receive(max, wait, Some(visibility))
            .map_err(text)?;
        let mut held = Vec::new();
        for message in received {
            let id = id_of(&message.body)?;
            if is_short {
                // Its lease may be over, and the message received and deleted by another.
                let (sender, number) = parts(id);
                mark(&boards.marks, sender, number);
            } else {
                boards.hold(id)?;
            }
            held.push((id, message.received));
        }
        settle(&boards, &mut receiver, &mut random, held, is_short)?;
    }
    Ok(())
}

/// Deletes what is held: in turn, or, now and then, the last first; or gives all of it back.
fn settle(
    boards: &Boards,
    receiver: &mut QueueReceiver,
    random: &mut Random,
    mut held: Vec<(u64, Received)>,
    is_short: bool,
) -> Result<(), String> {
    match random.below(8) {
        0 => {
            held.reverse();
            for (_, received) in &held {
                outcome(receiver.delete(&received.receipt), received, is_short)?;
            }
        }
        1 if !is_short => {
            // The first of each group last, so that nobody gets it before the rest is back.
            for (_, received) in held.iter().rev() {
                let delay = Duration::from_millis(random.below(3));
                receiver.nack(&received.receipt, delay).map_err(text)?;
            }
        }
        2 if is_short => {} // forgotten: it comes again when its short lease is over
        _ => {
            for one in held {
                delete(boards, receiver, one, is_short)?;
            }
        }
    }
    Ok(())
}

fn delete(
    boards: &Boards,
    receiver: &mut QueueReceiver,
    (id, received): (u64, Received),
    is_short: bool,
) -> Result<(), String> {
    if !is_short {
        boards.hold(id)?;
    }
    let deleted = outcome(receiver.delete(&received.receipt), &received, is_short)?;
    if deleted && !is_short {
        boards.delete(id);
    }
    Ok(())
}

/// Whether it was deleted here.
fn outcome(
    deleted: Result<bool, SettleError>,
    received: &Received,
    is_short: bool,
) -> Result<bool, String> {
    match deleted {
        Ok(true) => Ok(true),
        Ok(false) | Err(SettleError::StaleReceipt { .. }) if is_short => Ok(false),
        other => Err(format!("{received:?}: {other:?}")),
    }
}
