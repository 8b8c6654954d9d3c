//! Whoever writes the journal of a durable queue, killed with SIGKILL, or really stopped and continued later, at many
//! places of a send and of a delete; in a full run before and behind each of its system calls, and in between.
//!
//! The others go on beside him. Then what was in memory is gone, and the queue made again from its journal: what was
//! acknowledged is there, once, what was deleted is gone.
//!
//! So is whoever removes a queue that nobody has opened since a restart. The others do not wait for him: they remove it
//! themselves, and make another one of that name, of which he takes nothing away unless he removes it as a whole.
//!
//! ```text
//! cargo test --release --test durable_step                    a dozen places of each
//! RINGWAY_FULL=1 cargo test --release --test durable_step     about 500, and around every system call
//! ```

mod stage;

use ringway::{Bus, Durability, JoinError, Queue};
use ringway_harness::seed;
use ringway_harness::step::{Mode, Point, Stepper, Sweep, begin, end};
use ringway_harness::{AckBoard, Fault, Launch, Stage, TempBus};
use stage::text;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

ringway_harness::roles! {
    victim => victim,
}

const OPERATIONS: [&str; 4] = ["send", "delete", "receive and delete", REMOVE];
const REMOVE: &str = "remove";

/// What is sent: before everything, by the victim, and beside it.
const BEFORE: &[u8] = b"before";
const BY_VICTIM: &[u8] = b"by the victim";
const BESIDE: &[u8] = b"beside it";

fn bus(memory: &Path, disk: &Path) -> Result<Bus, String> {
    let bus = stage::bus(memory).journal_root(disk.join("journals"));
    bus.open_or_create().map_err(text)
}

fn open(memory: &Path, disk: &Path) -> Result<(Bus, Queue), String> {
    let bus = bus(memory, disk)?;
    let queue = bus.queue("q").durability(Durability::Durable).slots(1024);
    let queue = queue.stride(96).open_or_create().map_err(text)?;
    Ok((bus, queue))
}

/// Word 0 of the board: the operation was acknowledged.
fn victim(stage: &Stage) -> Result<(), String> {
    if stage.text("operation") == REMOVE {
        let bus = bus(&stage.path("memory"), &stage.path("disk"))?;
        begin();
        let _ = bus.remove("q"); // another may have removed it
        end();
        return Ok(());
    }
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let mut sender = queue.sender().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    let mut buffer = [0; 32];
    let done = match stage.text("operation") {
        "send" => {
            // The second is like every one: it has a writer already.
            sender.send(b"warm").map_err(text)?;
            begin();
            let sent = sender.send(BY_VICTIM);
            end();
            sent.is_ok()
        }
        "delete" => {
            let received = receiver.try_receive(&mut buffer).map_err(text)?;
            let received = received.ok_or("nothing to delete")?;
            begin();
            let deleted = receiver.delete(&received.receipt);
            end();
            deleted.is_ok_and(|deleted| deleted)
        }
        _ => {
            begin();
            let received = receiver.try_receive(&mut buffer);
            let deleted = received.is_ok_and(|received| {
                received.is_some_and(|it| receiver.delete(&it.receipt).is_ok_and(|it| it))
            });
            end();
            deleted
        }
    };
    if done {
        board.set(0, 1);
    }
    Ok(())
}

struct World {
    memory: TempBus,
    disk: TempBus,
    board: AckBoard,
    others: Option<(Bus, Queue)>,
}

impl World {
    fn new(operation: &str) -> Result<(Stepper, Self), Fault> {
        let (memory, disk) = (
            TempBus::new()?,
            TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
        );
        let others = open(memory.path(), disk.path()).expect("the scene");
        others.1.sender().unwrap().send(BEFORE).expect("the scene");
        let others = (operation != REMOVE).then_some(others);
        if others.is_none() {
            restart(memory.path()).expect("the scene");
        }
        let board = AckBoard::new(1)?;
        let launch = Launch::role("victim")
            .set("memory", memory.path().display())
            .set("disk", disk.path().display())
            .set("operation", operation)
            .board("board", &board);
        let stepper = Stepper::spawn(&launch)?;
        Ok((
            stepper,
            Self {
                memory,
                disk,
                board,
                others,
            },
        ))
    }

    /// The others send beside whoever is dead, or stopped.
    fn go_on(&self) -> Result<(), String> {
        let (_, queue) = self.others.as_ref().ok_or("they have left")?;
        queue.sender().map_err(text)?.send(BESIDE).map_err(text)?;
        Ok(())
    }

    /// The others have turned away from who removes the queue, removed it, and make another one.
    fn take_its_place(&mut self) -> Result<(), String> {
        let buses = std::fs::read_dir(self.disk.path().join("journals")).map_err(text)?;
        for bus in buses {
            let journal = bus.map_err(text)?.path().join("q");
            match std::fs::rename(journal, self.disk.path().join("gone")) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(text(error)),
                _ => {}
            }
        }
        self.others = Some(open(self.memory.path(), self.disk.path())?);
        self.go_on()
    }

    /// The other queue is there, unless it was removed as a whole.
    fn settle_place(&mut self) -> Result<(), String> {
        let (_, queue) = self.others.take().ok_or("they have left")?;
        let mut sender = match queue.sender() {
            Err(JoinError::Removed) => return Ok(()),
            sender => sender.map_err(text)?,
        };
        sender.send(BESIDE).map_err(text)?;
        drop((sender, queue));
        restart(self.memory.path())?;
        let (_bus, queue) = open(self.memory.path(), self.disk.path())?;
        match queue.stats().visible {
            2 => Ok(()),
            other => Err(format!("{other} of 2 messages of another queue are there")),
        }
    }

    /// Everybody is gone, and the queue is made again.
    fn settle(&mut self, operation: &str) -> Result<(), String> {
        self.others = None;
        restart(self.memory.path())?;
        let (_bus, queue) = open(self.memory.path(), self.disk.path())?;
        let mut receiver = queue.receiver().map_err(text)?;
        let mut there: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        while queue.stats().visible > 0 {
            let batch = receiver.receive(10, Duration::ZERO, None).map_err(text)?;
            for message in batch {
                *there.entry(message.body).or_default() += 1;
            }
        }
        let is_acked = self.board.get(0) == 1;
        let count = |body: &[u8]| there.get(body).copied().unwrap_or(0);
        let is_right = match operation {
            "send" => count(BEFORE) == 1 && count(BY_VICTIM) <= 1,
            _ => count(BEFORE) <= 1,
        };
        let is_kept = match operation {
            "send" => !is_acked || count(BY_VICTIM) == 1,
            _ => !is_acked || count(BEFORE) == 0,
        };
        match is_right && is_kept && count(BESIDE) == 1 {
            true => Ok(()),
            false => Err(format!("acknowledged: {is_acked}; there: {there:?}")),
        }
    }
}

/// What was in memory is gone.
fn restart(memory: &Path) -> Result<(), String> {
    for entry in std::fs::read_dir(memory).map_err(text)? {
        std::fs::remove_dir_all(entry.map_err(text)?.path()).map_err(text)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let is_full = std::env::var("RINGWAY_FULL").is_ok_and(|it| it == "1");
    let seed = seed::announce("stepping");
    let (mut failures, mut visited) = (0, 0);
    for operation in OPERATIONS {
        for mode in [Mode::Kill, Mode::Stop] {
            let places = match (is_full, mode) {
                (true, _) => 500,
                (false, Mode::Kill) => 10,
                (false, _) => 2,
            };
            if operation == REMOVE && mode == Mode::Kill && !is_full {
                continue; // the lock goes with him
            }
            let mut sweep = Sweep::new(operation, mode).about(places, seed);
            if is_full {
                sweep = sweep.around_system_calls();
            }
            let check = |_: &Point, victim: &mut Stepper, world: &mut World| {
                match operation {
                    REMOVE => world.take_its_place()?,
                    _ => world.go_on()?,
                }
                if mode == Mode::Stop {
                    victim.resume_success()?;
                }
                match operation {
                    REMOVE => world.settle_place(),
                    _ => world.settle(operation),
                }
            };
            match sweep.run(|_| World::new(operation), check) {
                Ok(summary) => {
                    println!(
                        "durable {operation}, {mode:?}: {} steps, {} visited, {} strayed, {} failures",
                        summary.total,
                        summary.visited,
                        summary.strayed,
                        summary.failures.len()
                    );
                    for failure in &summary.failures {
                        println!(
                            "  at step {} in {}: {}",
                            failure.k, failure.symbol, failure.why
                        );
                    }
                    failures += summary.failures.len();
                    visited += summary.visited;
                }
                Err(fault) => {
                    println!("durable {operation}, {mode:?}: the stage collapsed: {fault}");
                    failures += 1;
                }
            }
        }
    }
    println!("{{\"check\":\"durable steps\",\"steps\":{visited},\"failures\":{failures}}}");
    stage::end(failures as u64)
}
