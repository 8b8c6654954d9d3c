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

use ringway::{Bus, Deduplication, Outgoing, Queue, QueueReceiver, QueueSendError};
use ringway_harness::chaos::{Torture, Troupe};
use ringway_harness::seed::Random;
use ringway_harness::{AckBoard, Launch, Stage, TempBus, deadline};
use stage::{SLOTS, text};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

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
/// Draws between two calls of the doctor, who has to leave the living alone.
const DOCTOR_EVERY: u64 = 64;
/// No such lease ends by itself.
const FOR_EVER: Duration = Duration::from_secs(43_200);

/// The boards that all share.
struct Boards {
    /// position + 1 of each id that anybody was told of.
    told: AckBoard,
    /// The same of each id that was received.
    received: AckBoard,
    /// The highest id that was begun.
    front: AckBoard,
    stop: AckBoard,
}

impl Boards {
    fn new() -> Result<Self, ringway_harness::Fault> {
        Ok(Self {
            told: AckBoard::new(IDS as usize)?,
            received: AckBoard::new(IDS as usize)?,
            front: AckBoard::new(1)?,
            stop: AckBoard::new(1)?,
        })
    }

    fn of(stage: &Stage) -> Self {
        Self {
            told: stage.board("told"),
            received: stage.board("received"),
            front: stage.board("front"),
            stop: stage.board("stop"),
        }
    }

    fn dress(&self, launch: Launch) -> Launch {
        let launch = launch.board("told", &self.told);
        let launch = launch.board("received", &self.received);
        launch.board("front", &self.front).board("stop", &self.stop)
    }

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
    let verdict = play();
    match &verdict {
        Ok(()) => println!("test torture of deduplication ... ok"),
        Err(why) => println!("test torture of deduplication ... FAILED: {why}"),
    }
    let left = stage::leftovers_of_ours();
    if !left.is_empty() {
        println!("left behind: {left:?}");
    }
    if verdict.is_ok() && left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play() -> Result<(), String> {
    let started = Instant::now();
    let kills = std::env::var("RINGWAY_KILLS").ok();
    let kills: u64 = kills.and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let root = TempBus::new()?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let queue = open(&bus)?;
    let boards = Boards::new()?;
    let mut troupe = Troupe::new();
    for (role, count) in [("send", SENDERS), ("receive", RECEIVERS)] {
        for index in 0..count {
            let launch = Launch::role(role).set("root", root.path().display());
            let launch = boards.dress(launch.set("index", index));
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
    let report = bus.doctor(false).map_err(text)?;
    let clean = report.is_clean() && report.participants == 1 && report.open_claims == 0;
    if !clean || report.damaged_slots != 0 || report.chunks[1..] != [0, 0] {
        return Err(format!("left behind: {report:?}"));
    }
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
