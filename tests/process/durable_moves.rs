//! Processes that send to a durable queue and fail to work on what they receive, so that it goes to a
//! durable dead-letter queue, others that delete it there or move it back; all of them are killed at any
//! moment, and the memory of the bus is gone: every message is in one of the two queues, once.
//!
//! Every child writes down what it was about to do before it did it, and what was acknowledged
//! behind it, into files of its own: whoever is killed in between may have done it or not.

mod stage;

use ringway::{Bus, Durability, MoveError, MoveOptions, Queue, QueueSendError, Redrive, Settings};
use ringway_harness::seed::{Random, announce};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim};
use stage::text;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    fail => fail, bury => bury, back => back
}

fn main() -> ExitCode {
    stage::run(&[
        (
            "movers are killed with everybody else, and each message is in one queue, once",
            everybody_is_killed,
        ),
        (
            "movers are killed one by one, and the others go on for them",
            movers_are_killed,
        ),
    ])
}

/// A bus in memory, its journals on a disk, and what the children wrote down.
struct Scene {
    memory: TempBus,
    disk: TempBus,
    board: AckBoard,
}

struct Open {
    _bus: Bus,
    orders: Queue,
    dead: Queue,
}

fn open(memory: &Path, disk: &Path) -> Result<Open, String> {
    let builder = stage::bus(memory).journal_root(disk.join("journals"));
    let bus = builder.open_or_create().map_err(text)?;
    let queue = |name: &str| {
        let queue = bus.queue(name).durability(Durability::Durable);
        queue.slots(4096).stride(256).open_or_create().map_err(text)
    };
    let (orders, dead) = (queue("orders")?, queue("dead")?);
    let policy = Redrive::to(&dead, 1);
    if orders.settings().redrive != Some(policy) {
        orders.set(&Settings::new().redrive(policy)).map_err(text)?;
    }
    Ok(Open {
        _bus: bus,
        orders,
        dead,
    })
}

fn open_stage(stage: &Stage) -> Result<Open, String> {
    open(&stage.path("memory"), &stage.path("disk"))
}

fn note(file: &mut File, number: u64) -> Result<(), String> {
    file.write_all(&number.to_le_bytes()).map_err(text)
}

fn notes(stage: &Stage, what: &str) -> Result<File, String> {
    let me: u64 = stage.get("me");
    let path = stage.path("disk").join(format!("{what}-{me}"));
    let mut options = OpenOptions::new();
    options.create(true).append(true).open(path).map_err(text)
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().expect("eight bytes"))
}

/// Sends numbers of its own, receives whatever there is and gives it back: the next receive moves it.
fn fail(stage: &Stage) -> Result<(), String> {
    let queues = open_stage(stage)?;
    let board = stage.board("board");
    let me: u64 = stage.get("me");
    let mut acked = notes(stage, "sent")?;
    let mut sender = queues.orders.sender().map_err(text)?;
    let mut receiver = queues.orders.receiver().map_err(text)?;
    let mut next = me << 32 | stage.get::<u64>("from") << 20;
    loop {
        let bodies: Vec<_> = (next..next + 3).map(u64::to_le_bytes).collect();
        match sender.send_batch(&bodies) {
            Ok(sent) => {
                for number in next..next + sent as u64 {
                    note(&mut acked, number)?;
                }
                next += sent as u64;
            }
            Err(QueueSendError::Full { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        for message in receiver.receive(8, Duration::ZERO, None).map_err(text)? {
            // Somebody may have received it again by now.
            let _ = receiver.nack(&message.received.receipt, Duration::ZERO);
        }
        board.add(me as usize, 1);
    }
}

/// Deletes what is in the dead-letter queue; writes down before what it is about to delete, and behind it
/// what it did.
fn bury(stage: &Stage) -> Result<(), String> {
    let queues = open_stage(stage)?;
    let board = stage.board("board");
    let me: u64 = stage.get("me");
    let (mut about, mut done) = (notes(stage, "about")?, notes(stage, "deleted")?);
    let mut receiver = queues.dead.receiver().map_err(text)?;
    loop {
        let wait = Duration::from_millis(100);
        let Some(message) = receiver.receive(1, wait, None).map_err(text)?.pop() else {
            continue;
        };
        let number = number(&message.body);
        note(&mut about, number)?;
        if receiver.delete(&message.received.receipt).map_err(text)? {
            note(&mut done, number)?;
        }
        board.add(me as usize, 1);
    }
}

/// Moves messages back to where they came from, some at a time.
fn back(stage: &Stage) -> Result<(), String> {
    let queues = open_stage(stage)?;
    let board = stage.board("board");
    let me: u64 = stage.get("me");
    loop {
        let task = match queues.dead.resume_move().map_err(text)? {
            Some(task) => Ok(task),
            None => queues.dead.move_messages(&MoveOptions::new()),
        };
        let mut task = match task {
            Ok(task) => task,
            Err(MoveError::Busy { .. }) => continue,
            Err(error) => return Err(error.to_string()),
        };
        task.run(|_| {
            board.add(me as usize, 1);
            true
        })
        .map_err(text)?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who plays what.
const TROUPE: [(&str, u64); 5] = [
    ("fail", 1),
    ("fail", 2),
    ("fail", 3),
    ("bury", 4),
    ("back", 5),
];

impl Scene {
    fn new() -> Result<Self, String> {
        Ok(Self {
            memory: TempBus::new()?,
            disk: TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
            board: AckBoard::new(8)?,
        })
    }

    fn child(&self, (role, me): (&str, u64), round: u64) -> Result<Victim, String> {
        let launch = Launch::role(role)
            .set("memory", self.memory.path().display())
            .set("disk", self.disk.path().display())
            .set("me", me)
            .set("from", round)
            .board("board", &self.board);
        Ok(launch.spawn()?)
    }

    /// Returns when each has done something.
    fn troupe(&self, round: u64) -> Result<Vec<Victim>, String> {
        let before: Vec<_> = (1..6).map(|me| self.board.get(me)).collect();
        let troupe = TROUPE.map(|part| self.child(part, round));
        let troupe: Vec<_> = troupe.into_iter().collect::<Result<_, _>>()?;
        for (me, victim) in (1..).zip(&troupe) {
            let what = "the first step of each";
            self.board
                .await_at_least(me, before[me - 1] + 1, victim, what)?;
        }
        Ok(troupe)
    }

    /// What was in memory is gone.
    fn forget(&self) -> Result<(), String> {
        for entry in std::fs::read_dir(self.memory.path()).map_err(text)? {
            std::fs::remove_dir_all(entry.map_err(text)?.path()).map_err(text)?;
        }
        Ok(())
    }

    fn written_down(&self, what: &str) -> Result<BTreeSet<u64>, String> {
        let mut numbers = BTreeSet::new();
        for me in 1..6 {
            let path = self.disk.path().join(format!("{what}-{me}"));
            let bytes = std::fs::read(path).unwrap_or_default();
            numbers.extend(bytes.chunks_exact(8).map(number));
        }
        Ok(numbers)
    }

    /// Everything that was sent and that nobody was about to delete is in one of the queues, once;
    /// nothing is there whose deletion was acknowledged.
    fn verify(&self) -> Result<(), String> {
        let queues = open(self.memory.path(), self.disk.path())?;
        let mut receivers = [&queues.orders, &queues.dead].map(|queue| queue.receiver());
        let mut there = BTreeSet::new();
        let mut quiet_since = Instant::now();
        let is_between = || {
            let stats = [queues.orders.stats(), queues.dead.stats()];
            stats.iter().any(|stats| stats.moving + stats.parked > 0)
        };
        while quiet_since.elapsed() < Duration::from_millis(150) || is_between() {
            for receiver in &mut receivers {
                let receiver = receiver.as_mut().map_err(|error| error.to_string())?;
                let wait = Duration::from_millis(20);
                for message in receiver.receive(64, wait, None).map_err(text)? {
                    quiet_since = Instant::now();
                    let number = number(&message.body);
                    if !there.insert(number) {
                        return Err(format!("{number:#x} is there twice"));
                    }
                    // Its lease is given back by the close of the queue.
                }
            }
            if quiet_since.elapsed() > Duration::from_secs(20) {
                return Err("something stays between the queues".to_owned());
            }
        }
        let (sent, about) = (self.written_down("sent")?, self.written_down("about")?);
        let deleted = self.written_down("deleted")?;
        let is_lost = |n: &&u64| !about.contains(n) && !there.contains(n);
        if let Some(lost) = sent.iter().find(is_lost) {
            let of = sent.len();
            return Err(format!("{lost:#x} of {of} was acknowledged and is lost"));
        }
        if let Some(back) = deleted.iter().find(|number| there.contains(number)) {
            return Err(format!("{back:#x} was deleted and is back"));
        }
        println!(
            "  {} sent, {} deleted, {} there",
            sent.len(),
            deleted.len(),
            there.len()
        );
        Ok(())
    }
}

fn everybody_is_killed() -> Result<(), String> {
    let mut random = Random::new(announce("when everybody is killed"));
    let scene = Scene::new()?;
    for round in 0..6 {
        let mut troupe = scene.troupe(round)?;
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        for victim in &troupe {
            victim.signal(libc::SIGKILL)?;
        }
        for victim in &mut troupe {
            victim.kill()?;
        }
        scene.forget()?;
        scene.verify()?;
        // Made again from the same journals once more, it is the same.
        scene.forget()?;
        scene.verify()?;
        scene.forget()?;
    }
    Ok(())
}

fn movers_are_killed() -> Result<(), String> {
    let mut random = Random::new(announce("which mover is killed when"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    for round in 1..16 {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let unlucky = random.below(TROUPE.len() as u64) as usize;
        troupe[unlucky].kill()?;
        troupe[unlucky] = scene.child(TROUPE[unlucky], round)?;
    }
    for victim in &mut troupe {
        victim.kill()?;
    }
    // First while the memory is there, then without.
    scene.verify()?;
    scene.forget()?;
    scene.verify()
}
