//! Kill torture of deduplication: four senders that send the same ids over and over, and two
//! receivers, under random SIGKILL, SIGSTOP and SIGCONT, each brought back whenever it dies.
//!
//! Every id is sent many times, by all senders at about the same time; whoever learns of its
//! position, from a send, a duplicate or a receive, notes it. In the end each id has stood at one
//! position only (nothing was delivered twice), and every id that a sender was told of was received
//! (nothing was suppressed that was not sent). Nothing is left of anybody.
//!
//! ```text
//! cargo test --release --test dedup_torture                        200 kills
//! RINGWAY_KILLS=20000 cargo test --release --test dedup_torture    the soak
//! RINGWAY_SEED=n                                                   the same draws again
//! ```
//! One JSON line on standard output.

mod stage;
mod torment;

use ringway::{Bus, Deduplication, Outgoing, Queue, QueueReceiver, QueueSendError};
use ringway_harness::seed::Random;
use ringway_harness::{AckBoard, Stage, deadline};
use stage::{SLOTS, text};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use torment::{FOR_EVER, kills, nothing_is_left};

ringway_harness::roles! {
    send => send,
    receive => receive,
}

const SENDERS: usize = 4;
const RECEIVERS: usize = 2;
/// Kills, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 200;
/// Ids there are: at most so many within a window.
const IDS: u64 = 1 << 21;
/// All senders are about the same so many ids.
const ABOUT: u64 = 32;
const GROUPS: u64 = 8;
/// Of this many bodies one needs a chunk of the pool.
const LARGE_EVERY: u64 = 8;

ringway_harness::boards! {
    /// position + 1 of each id that anybody was told of.
    told: IDS as usize,
    /// The same of each id that was received.
    received: IDS as usize,
    /// The highest id that was begun.
    front: 1,
    stop: 1,
}

impl Boards {
    fn is_over(&self) -> bool {
        self.stop.get(0) != 0
    }
}

/// Notes where an id stands; it has to stand there whoever looks.
fn note(board: &AckBoard, id: u64, position: u64, what: &str) -> Result<(), String> {
    let word = &board.words()[id as usize];
    match word.compare_exchange(0, position + 1, SeqCst, SeqCst) {
        Err(before) if before != position + 1 => Err(format!(
            "id {id} was {what} at {} and at {position}",
            before - 1
        )),
        _ => Ok(()),
    }
}

fn open(bus: &Bus) -> Result<Queue, String> {
    let builder = bus.queue("q.fifo").fifo().slots(SLOTS).stride(256);
    let builder =
        builder.deduplicate(Deduplication::of_ids(IDS).window(Duration::from_secs(86_400)));
    builder.visibility(FOR_EVER).open_or_create().map_err(text)
}

fn main() -> ExitCode {
    stage::run(&[("torture of deduplication", play)])
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
    finish(&bus, &queue, &boards)?;

    let ids = boards.front.get(0).min(IDS);
    let mut told = 0;
    for id in 0..ids {
        let (at, received) = (
            boards.told.get(id as usize),
            boards.received.get(id as usize),
        );
        told += u64::from(at != 0);
        if at != 0 && at != received {
            return Err(format!(
                "id {id} was said to be sent at {at} - 1, and received at {received} - 1 (0: never)"
            ));
        }
    }
    let stats = queue.stats();
    if stats.duplicates == 0 || told == 0 {
        return Err(format!("nobody met anybody: {stats:?}"));
    }
    println!(
        "{{\"figure\":\"deduplication torture\",\"seed\":{},\"kills\":{},\"stops\":{},\"ids\":{told},\
         \"sends\":{},\"suppressed\":{},\"abandoned\":{},\"voided\":{},\"twice\":0,\"lost\":0,\
         \"seconds\":{:.1}}}",
        report.seed,
        report.kills,
        report.stops,
        stats.sent + stats.duplicates,
        stats.duplicates,
        stats.abandoned,
        stats.voided,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Everybody has ended: what is left is received, and nothing else is left.
fn finish(bus: &Bus, queue: &Queue, boards: &Boards) -> Result<(), String> {
    bus.reap().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let start = Instant::now();
    loop {
        let stats = queue.stats();
        if !take_one(boards, &mut receiver)? && (stats.visible, stats.in_flight) == (0, 0) {
            break;
        }
        if start.elapsed() > deadline() {
            return Err(format!("messages stay behind: {:?}", queue.stats()));
        }
    }
    drop(receiver);
    nothing_is_left(bus)?;
    Ok(())
}

/// Receives what comes next, notes it, deletes it. Whether there was something.
fn take_one(boards: &Boards, receiver: &mut QueueReceiver) -> Result<bool, String> {
    let mut buffer = [0; 1024];
    let wait = Duration::from_millis(5);
    let Some(received) = receiver.receive_into(&mut buffer, wait).map_err(text)? else {
        return Ok(false);
    };
    let id = stage::id_of(&buffer[..received.len])?;
    note(&boards.received, id, received.position(), "received")?;
    match receiver.delete(&received.receipt) {
        Ok(true) => Ok(true),
        other => Err(format!("{received:?}: {other:?}")),
    }
}

// What the children do.

fn send(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new(index << 32 | life);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut sender = open(&bus)?.sender().map_err(text)?;
    while !boards.is_over() {
        let front = match random.below(ABOUT) {
            0 => boards.front.words()[0].fetch_add(1, SeqCst),
            _ => boards.front.get(0),
        };
        let id = front.saturating_sub(random.below(ABOUT));
        if id >= IDS {
            std::thread::yield_now();
            continue;
        }
        let len = match id % LARGE_EVERY {
            0 => stage::LARGE,
            _ => stage::INLINE,
        };
        let (body, name) = (stage::body(id, len), format!("id-{id}"));
        let group = format!("group-{}", id % GROUPS);
        let message = Outgoing::new(&body).group(&group).dedup_id(&name);
        match sender.send_message(&message) {
            Ok(sent) => note(&boards.told, id, sent.position, "sent")?,
            Err(QueueSendError::Full { .. } | QueueSendError::PoolExhausted { .. }) => {
                std::thread::yield_now();
            }
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

fn receive(stage: &Stage) -> Result<(), String> {
    let boards = Boards::of(stage);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut receiver = open(&bus)?.receiver().map_err(text)?;
    while !boards.is_over() {
        take_one(&boards, &mut receiver)?;
    }
    Ok(())
}
