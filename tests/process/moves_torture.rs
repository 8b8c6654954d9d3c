//! Kill torture of moves: workers that fail everything, so that every message goes to the dead-letter queue
//! again and again, and tasks that bring all of it back, under random SIGKILL, SIGSTOP and SIGCONT, each
//! brought back whenever it dies.
//!
//! What it insists on: whoever dies or stops half-way in either direction, in the end each message is in one
//! of the two queues, once and whole, and nothing is left of anybody.
//!
//! ```text
//! cargo test --release --test moves_torture                        200 kills a kind of queue
//! RINGWAY_KILLS=20000 cargo test --release --test moves_torture    the soak
//! RINGWAY_SEED=n                                                   the same draws again
//! ```
//! One JSON line a kind on standard output.

mod stage;
mod torment;

use ringway::{
    Bus, MoveError, MoveOptions, MoveState, Outgoing, Queue, QueueKind, Redrive, Settings,
};
use ringway_harness::seed::Random;
use ringway_harness::{AckBoard, Launch, Stage, deadline};
use stage::{FIFO_STRIDE, body, id_of, text};
use std::time::{Duration, Instant};
use torment::FOR_EVER;

ringway_harness::roles! { fail => fail, back => back }

const WORKERS: usize = 3;
const MOVERS: usize = 2;
/// Kills, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 200;
const MESSAGES: u64 = 300;
const GROUPS: u64 = 7;

fn open(stage: &Stage, name: &str) -> Result<(Bus, Queue), String> {
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let queue = bus.queue(name).open().map_err(text)?;
    Ok((bus, queue))
}

/// Receives, and gives everything back.
fn fail(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(stage, "source")?;
    let stop = stage.board("stop");
    let mut random = Random::new(stage.get::<u64>("index") << 32 | stage.get::<u64>("life"));
    let mut receiver = queue.receiver().map_err(text)?;
    while stop.get(0) == 0 {
        let max = 1 + random.below(5) as usize;
        let wait = Duration::from_millis(2);
        let mut received = receiver.receive(max, wait, None).map_err(text)?;
        received.reverse(); // the first of a group last
        for message in received {
            id_of(&message.body)?;
            receiver
                .nack(&message.received.receipt, Duration::ZERO)
                .map_err(text)?;
        }
    }
    Ok(())
}

/// Takes everything back to where it came from.
fn back(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(stage, "dead")?;
    let stop = stage.board("stop");
    while stop.get(0) == 0 {
        let task = match queue.resume_move() {
            Ok(Some(task)) => Ok(task),
            Ok(None) => queue.move_messages(&MoveOptions::new()),
            Err(error) => Err(error),
        };
        let mut task = match task {
            Ok(task) => task,
            Err(MoveError::Busy { .. }) => {
                std::thread::yield_now();
                continue;
            }
            Err(error) => return Err(text(error)),
        };
        while stop.get(0) == 0 {
            match task.step() {
                Ok(status) if status.state == MoveState::Running => {}
                Ok(_) | Err(MoveError::Lost) => break,
                Err(error) => return Err(text(error)),
            }
        }
    }
    Ok(())
}

fn torture(kind: QueueKind) {
    let started = Instant::now();
    let kills = torment::kills(KILLS);
    let (root, bus) = torment::place().unwrap();
    let create = |name: &str| {
        let builder = bus.queue(name).kind(kind).slots(1024).stride(FIFO_STRIDE);
        builder.visibility(FOR_EVER).create().unwrap()
    };
    let (source, dead) = (create("source"), create("dead"));
    let redrive = Settings::new().redrive(Redrive::to(&dead, 2));
    source.set(&redrive).unwrap();
    let mut sender = source.sender().unwrap();
    for number in 0..MESSAGES {
        let len = if number % 3 == 0 { 2000 } else { 24 };
        let (body, group) = (body(number, len), format!("group-{}", number % GROUPS));
        let message = Outgoing::new(&body).group(&group);
        sender.send_message(&message).unwrap();
    }
    drop(sender);

    let stop = AckBoard::new(1).unwrap();
    let roles = [("fail", WORKERS), ("back", MOVERS)];
    let dress = |launch: Launch| launch.board("stop", &stop);
    let ends = || stop.set(0, 1);
    let report = torment::torment((&bus, root.path()), kills, &roles, dress, ends).unwrap();

    bus.reap().unwrap();
    source.set(&Settings::new().redrive(None)).unwrap();
    let mut times = vec![0; MESSAGES as usize];
    let mut receivers = [&source, &dead].map(|queue| queue.receiver().unwrap());
    let mut buffer = [0; 4096];
    let start = Instant::now();
    loop {
        for receiver in &mut receivers {
            while let Some(received) = receiver.receive_and_delete(&mut buffer).unwrap() {
                times[id_of(&buffer[..received.len]).unwrap() as usize] += 1;
            }
            receiver.wait(Duration::from_millis(1)).unwrap();
        }
        let left = [&source, &dead].map(|queue| {
            let stats = queue.stats();
            stats.visible + stats.in_flight + stats.delayed + stats.parked + stats.moving
        });
        if left == [0, 0] {
            break;
        }
        assert!(start.elapsed() < deadline(), "{left:?} stay behind");
    }
    let wrong: Vec<_> = (0..MESSAGES).filter(|n| times[*n as usize] != 1).collect();
    assert!(wrong.is_empty(), "not once: {wrong:?} of {times:?}");
    let (moved, arrived) = (source.stats().moved, dead.stats().arrived);
    let back = dead.stats().moved;
    assert!(
        moved > MESSAGES && back > 0,
        "{moved} went, {back} came back"
    );
    drop(receivers);
    torment::nothing_is_left(&bus).unwrap();
    println!(
        "{{\"figure\":\"moves torture, {kind:?}\",\"seed\":{},\"kills\":{},\"stops\":{},\
         \"moved\":{moved},\"arrived\":{arrived},\"lost\":0,\"twice\":0,\"seconds\":{:.1}}}",
        report.seed,
        report.kills,
        report.stops,
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn messages_of_a_standard_queue_go_to_the_dead_and_back_once_whoever_dies() {
    torture(QueueKind::Standard);
}

#[test]
fn messages_of_a_fifo_queue_go_to_the_dead_and_back_once_whoever_dies() {
    torture(QueueKind::Fifo);
}
