//! Processes that send to a durable queue, delete from it, and are killed and stopped at any moment:
//! what was acknowledged is what the journal says, when the memory of all of them is gone.
//!
//! Every child writes down what it was about to do before it did it, and what was acknowledged
//! behind it, into files of its own: whoever is killed in between may have done it or not.

mod stage;

use ringway::{Bus, Durability, Queue, QueueSendError, SettleError};
use ringway_harness::seed::{Random, announce};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, await_condition};
use stage::text;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

ringway_harness::roles! {
    send => send, delete => delete, reopen => reopen, starve => starve, leave => leave, keep => keep,
    purge => purge
}

/// A file on the disk that says that the queue may grow.
const GROWS: &str = "grows";
/// Longer than a writer may stand still before others take over.
const STOPPED: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    stage::run(&[
        (
            "everybody is killed at once, and what was acknowledged is there",
            everybody_is_killed,
        ),
        (
            "everybody is killed at once while the queue grows from ring to ring",
            everybody_is_killed_while_it_grows,
        ),
        (
            "one after the other is killed, and the others go on",
            one_after_the_other_is_killed,
        ),
        (
            "one that writes for all is stopped, and goes on late",
            stopped_and_gone_on,
        ),
        (
            "one that keeps the role of the writer is killed, and the others write by themselves",
            keepers_are_killed,
        ),
        (
            "those who open first are killed, and the queue is there once",
            openers_are_killed,
        ),
        (
            "where the disk takes no more, sends are refused, and go on when it does",
            starved,
        ),
        (
            "where the disk takes no more, a purge says so, and how much it purged",
            purged_in_vain,
        ),
        (
            "a message whose sender died before it was written is written by who waits for it",
            left_behind,
        ),
    ])
}

/// A bus in memory, its journals on a disk, and what the children wrote down.
struct Scene {
    memory: TempBus,
    disk: TempBus,
    board: AckBoard,
}

fn open(memory: &Path, disk: &Path) -> Result<(Bus, Queue), String> {
    let builder = stage::bus(memory).journal_root(disk.join("journals"));
    let bus = builder.open_or_create().map_err(text)?;
    let queue = bus
        .queue("q")
        .durability(Durability::Durable)
        .slots(4096)
        .stride(96);
    let queue = match disk.join(GROWS).exists() {
        true => queue.slots(1024).max_bytes(32 << 20).spill(true),
        false => queue,
    };
    let queue = queue.open_or_create().map_err(text)?;
    Ok((bus, queue))
}

fn note(file: &mut File, number: u64) -> Result<(), String> {
    file.write_all(&number.to_le_bytes()).map_err(text)
}

fn notes(stage: &Stage, what: &str) -> Result<File, String> {
    let me: u64 = stage.get("me");
    let path = stage.path("disk").join(format!("{what}-{me}"));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(text)
}

/// Sends numbers of its own, one by one or in batches, and writes down each that was acknowledged.
fn send(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let (me, batch): (u64, u64) = (stage.get("me"), stage.get("batch"));
    let mut acked = notes(stage, "sent")?;
    let mut sender = queue.sender().map_err(text)?;
    let mut next = me << 32 | stage.get::<u64>("from") << 20;
    loop {
        let bodies: Vec<_> = (next..next + batch).map(u64::to_le_bytes).collect();
        match sender.send_batch(&bodies) {
            Ok(sent) => {
                for number in next..next + sent as u64 {
                    note(&mut acked, number)?;
                }
                next += sent as u64;
                board.add(me as usize, sent as u64);
            }
            Err(QueueSendError::Full { .. }) => std::thread::yield_now(),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Receives and deletes; writes down before what it is about to delete, and behind it what it did.
fn delete(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let me: u64 = stage.get("me");
    let (mut about, mut done) = (notes(stage, "about")?, notes(stage, "deleted")?);
    let mut receiver = queue.receiver().map_err(text)?;
    // As many as one of those sends: then rings are drained, too.
    let most = match stage.path("disk").join(GROWS).exists() {
        true => 250,
        false => 8,
    };
    loop {
        let batch = receiver
            .receive(most, Duration::from_millis(100), None)
            .map_err(text)?;
        let receipts: Vec<_> = batch
            .iter()
            .map(|message| message.received.receipt)
            .collect();
        let numbers: Vec<_> = batch.iter().map(|message| number(&message.body)).collect();
        for number in &numbers {
            note(&mut about, *number)?;
        }
        let failed = receiver.delete_batch(&receipts);
        let is_done = |at: &usize| !failed.iter().any(|(failed, _)| failed == at);
        for at in (0..numbers.len()).filter(is_done) {
            note(&mut done, numbers[at])?;
        }
        board.add(me as usize, numbers.len() as u64);
    }
}

/// Files may have so many bytes from here on.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid limit; the signal is ignored so that the write fails instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

/// Sends until its files are as long as they may be, and is refused; then they may be longer.
fn starve(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let (mut acked, mut never) = (notes(stage, "sent")?, notes(stage, "deleted")?);
    let mut sender = queue.sender().map_err(text)?;
    let mut receiver = queue.receiver().map_err(text)?;
    limit_files(1 << 20);
    let (mut next, mut refused) = (1u64 << 50, 0);
    while refused < 20 {
        match sender.send(&next.to_le_bytes()) {
            Ok(_) if refused > 0 => return Err("sent though there was no room".into()),
            Ok(_) => note(&mut acked, next)?,
            Err(QueueSendError::DurabilityUnknown { .. }) if refused == 0 => refused = 1,
            // A delete may have met it first, and gone on in what is kept for that.
            Err(QueueSendError::NotOnDisk { .. }) => {
                note(&mut never, next)?;
                refused += 1;
            }
            Err(error) => return Err(format!("after {refused} refusals: {error}")),
        }
        next += 1;
        // Half of the ring stays.
        if next.is_multiple_of(1024) && refused == 0 {
            let mut receipts = Vec::new();
            while receipts.len() < 1024 {
                receiver
                    .receive_each(64, |received, _| receipts.push(received.receipt))
                    .map_err(text)?;
            }
            let mut about = notes(stage, "about")?;
            for number in 1 << 50..next {
                note(&mut about, number)?;
            }
            if !receiver.delete_batch(&receipts).is_empty() {
                return Err("a delete failed before the disk was full".into());
            }
        }
    }
    // What is there is received all the same.
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).map_err(text)?;
    received.ok_or("nothing is received any more")?;
    limit_files(libc::RLIM_INFINITY);
    for number in 1 << 51..(1u64 << 51) + 100 {
        sender.send(&number.to_le_bytes()).map_err(text)?;
        note(&mut acked, number)?;
    }
    Ok(())
}

/// Purges while its files may not be longer, and once more when they may.
fn purge(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    queue
        .sender()
        .map_err(text)?
        .send_batch(&[[1; 8]; 10])
        .map_err(text)?;
    limit_files(4096);
    match queue.purge() {
        Err(SettleError::PurgeUnknown { purged: 10, .. }) => {}
        told => return Err(format!("it says {told:?}")),
    }
    limit_files(libc::RLIM_INFINITY);
    match queue.purge() {
        Ok(0) => Ok(()),
        told => Err(format!("it says {told:?}")),
    }
}

/// Sends and is killed by itself before the disk is waited for: stepped to the first write.
fn leave(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let mut sender = queue.sender().map_err(text)?;
    loop {
        sender.send(b"12345678").map_err(text)?;
        board.add(20, 1);
    }
}

/// Writes for all.
fn keep(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    let persister = queue.persister(None).map_err(text)?;
    board.add(21, 1);
    loop {
        std::thread::park();
        assert!(!persister.is_over(), "the queue is there");
    }
}

/// Opens the queue, which makes it again, and says so.
fn reopen(stage: &Stage) -> Result<(), String> {
    let (_bus, queue) = open(&stage.path("memory"), &stage.path("disk"))?;
    let board = stage.board("board");
    board.set(stage.get("me"), 1 + queue.stats().visible);
    loop {
        std::thread::park();
    }
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().expect("eight bytes"))
}

impl Scene {
    fn new() -> Result<Self, String> {
        Ok(Self {
            memory: TempBus::new()?,
            disk: TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
            board: AckBoard::new(64)?,
        })
    }

    fn child(&self, role: &str, me: u64, from: u64) -> Result<Victim, String> {
        let batch = match me.is_multiple_of(3) {
            _ if self.disk.path().join(GROWS).exists() => 200,
            true => 7,
            false => 1,
        };
        let launch = Launch::role(role)
            .set("memory", self.memory.path().display())
            .set("disk", self.disk.path().display())
            .set("me", me)
            .set("from", from)
            .set("batch", batch)
            .board("board", &self.board);
        Ok(launch.spawn()?)
    }

    /// Four that send and one that deletes; returns when each has done something.
    fn troupe(&self, round: u64) -> Result<Vec<Victim>, String> {
        let before: Vec<_> = (1..6).map(|me| self.board.get(me)).collect();
        let mut troupe = Vec::new();
        for me in 1..5 {
            troupe.push(self.child("send", me, round)?);
        }
        troupe.push(self.child("delete", 5, round)?);
        for (me, victim) in (1..).zip(&troupe) {
            let what = "the first acknowledgement";
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
            let path: PathBuf = self.disk.path().join(format!("{what}-{me}"));
            let bytes = std::fs::read(path).unwrap_or_default();
            numbers.extend(bytes.chunks_exact(8).map(number));
        }
        Ok(numbers)
    }

    /// Opens the queue and compares it with what was acknowledged: everything that was sent and that
    /// nobody was about to delete is there, once; nothing is there whose deletion was acknowledged.
    fn verify(&self) -> Result<(), String> {
        let (_bus, queue) = open(self.memory.path(), self.disk.path())?;
        let mut receiver = queue.receiver().map_err(text)?;
        let mut there = BTreeSet::new();
        loop {
            let batch = receiver
                .receive(64, Duration::from_millis(300), None)
                .map_err(text)?;
            if batch.is_empty() {
                break;
            }
            for message in batch {
                let number = number(&message.body);
                if !there.insert(number) {
                    return Err(format!("{number:#x} is there twice"));
                }
                // Its lease is given back by the close of the queue.
            }
        }
        let (sent, about) = (self.written_down("sent")?, self.written_down("about")?);
        let deleted = self.written_down("deleted")?;
        if let Some(lost) = sent
            .iter()
            .find(|n| !about.contains(n) && !there.contains(n))
        {
            return Err(format!(
                "{lost:#x} of {} was acknowledged and is lost",
                sent.len()
            ));
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
    let random = Random::new(announce("when everybody is killed"));
    kill_everybody(&Scene::new()?, random, 10)
}

/// Those who send fill ring after ring, for the one who deletes is slower.
fn everybody_is_killed_while_it_grows() -> Result<(), String> {
    let random = Random::new(announce("when everybody is killed while it grows"));
    let scene = Scene::new()?;
    File::create(scene.disk.path().join(GROWS)).map_err(text)?;
    kill_everybody(&scene, random, 5)
}

fn kill_everybody(scene: &Scene, mut random: Random, rounds: u64) -> Result<(), String> {
    for round in 0..rounds {
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
        // Made again from the same journal once more, it is the same.
        scene.forget()?;
        scene.verify()?;
        scene.forget()?;
    }
    Ok(())
}

fn one_after_the_other_is_killed() -> Result<(), String> {
    let mut random = Random::new(announce("who is killed when"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    for round in 1..40 {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let unlucky = random.below(4) as usize;
        troupe[unlucky].kill()?;
        let others: Vec<_> = (1..5).filter(|me| *me != unlucky + 1).collect();
        let before: Vec<_> = others.iter().map(|me| scene.board.get(*me)).collect();
        await_condition("the others go on", || {
            let mut all = others.iter().zip(&before);
            all.all(|(me, before)| scene.board.get(*me) > *before)
        })?;
        troupe[unlucky] = scene.child("send", unlucky as u64 + 1, round)?;
    }
    for victim in &mut troupe {
        victim.kill()?;
    }
    scene.forget()?;
    scene.verify()
}

fn stopped_and_gone_on() -> Result<(), String> {
    let mut random = Random::new(announce("who is stopped when"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    for _ in 0..8 {
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        let stopped = random.below(4) as usize;
        if !troupe[stopped].stop()? {
            return Err("it ended by itself".into());
        }
        let others: Vec<_> = (1..5).filter(|me| *me != stopped + 1).collect();
        let before: Vec<_> = others.iter().map(|me| scene.board.get(*me)).collect();
        await_condition("the others go on", || {
            let mut all = others.iter().zip(&before);
            all.all(|(me, before)| scene.board.get(*me) > *before)
        })?;
        std::thread::sleep(STOPPED);
        let late = scene.board.get(stopped + 1);
        troupe[stopped].cont()?;
        let what = "the one that was stopped";
        scene
            .board
            .await_at_least(stopped + 1, late + 1, &troupe[stopped], what)?;
    }
    for victim in &mut troupe {
        victim.kill()?;
    }
    scene.forget()?;
    scene.verify()
}

fn keepers_are_killed() -> Result<(), String> {
    let mut random = Random::new(announce("when the keeper is killed"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    for _ in 0..8 {
        let before = scene.board.get(21);
        let mut keeper = scene.child("keep", 8, 0)?;
        let what = "the one that keeps the role";
        scene.board.await_at_least(21, before + 1, &keeper, what)?;
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        keeper.kill()?;
        let before: Vec<_> = (1..5).map(|me| scene.board.get(me)).collect();
        await_condition("the others go on", || {
            let mut all = (1..5).zip(&before);
            all.all(|(me, before)| scene.board.get(me) > *before)
        })?;
    }
    for victim in &mut troupe {
        victim.kill()?;
    }
    scene.forget()?;
    scene.verify()
}

fn openers_are_killed() -> Result<(), String> {
    let mut random = Random::new(announce("when openers are killed"));
    let scene = Scene::new()?;
    let mut troupe = scene.troupe(0)?;
    std::thread::sleep(Duration::from_millis(200));
    for victim in &mut troupe {
        victim.kill()?;
    }
    for round in 0..20 {
        scene.forget()?;
        let mut openers = Vec::new();
        for me in 10..13 {
            scene.board.set(me, 0);
            openers.push(scene.child("reopen", me as u64, round)?);
        }
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        openers[0].kill()?;
        openers[1].kill()?;
        scene
            .board
            .await_at_least(12, 1, &openers[2], "the last to open")?;
        openers[2].kill()?;
    }
    scene.forget()?;
    scene.verify()
}

fn starved() -> Result<(), String> {
    let scene = Scene::new()?;
    scene.child("starve", 1, 0)?.wait_success()?;
    scene.forget()?;
    scene.verify()
}

fn purged_in_vain() -> Result<(), String> {
    let scene = Scene::new()?;
    scene.child("purge", 1, 0)?.wait_success()?;
    scene.forget()?;
    let (_bus, queue) = open(scene.memory.path(), scene.disk.path())?;
    match queue.stats().visible {
        0 => Ok(()),
        visible => Err(format!("{visible} messages came back")),
    }
}

/// The sender is killed at random moments, most of them within its wait for the disk; whoever receives sees
/// within a second whatever was committed, and nothing stays between memory and disk.
fn left_behind() -> Result<(), String> {
    let mut random = Random::new(announce("when the sender is killed"));
    let scene = Scene::new()?;
    let (_bus, queue) = open(scene.memory.path(), scene.disk.path())?;
    let mut receiver = queue.receiver().map_err(text)?;
    for _ in 0..20 {
        let before = scene.board.get(20);
        let mut victim = scene.child("leave", 9, 0)?;
        scene
            .board
            .await_at_least(20, before + 1, &victim, "a message")?;
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
        victim.kill()?;
        let mut buffer = [0; 8];
        await_condition("every message is received", || {
            while let Ok(Some(received)) =
                receiver.receive_into(&mut buffer, Duration::from_millis(60))
            {
                let _ = receiver.delete(&received.receipt);
            }
            let stats = queue.stats();
            stats.visible + stats.in_flight == 0
        })?;
    }
    Ok(())
}
