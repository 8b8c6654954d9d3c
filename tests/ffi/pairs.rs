//! Every language sends to every other, while both sides are killed; nothing that was acknowledged is
//! lost. What the peers do says `peer.rs`.

use crate::examples::rust_example;
use crate::python::script;
use crate::tools::{program_with, run, scratch};
use ringway::{Bus, GroupStart, SubscribeOptions};
use ringway_harness::{TempBus, await_condition};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const COUNT: u64 = 3_000;
/// How often a side is killed.
const KILLS: u64 = 4;
/// The same where the other tests have killed the languages already, and it is about the product.
const FEW_KILLS: u64 = 1;

/// The peers, built; each a name and how it is started.
fn peers(directory: &TempBus) -> Vec<(&'static str, PathBuf)> {
    let of = |language: &str, source: &str| {
        let directory = directory.path().join(language);
        std::fs::create_dir(&directory).unwrap();
        program_with(source, &directory, &[])
    };
    let mut peers = vec![
        ("c", of("c", "tests/ffi/c/peer.c")),
        ("cpp", of("cpp", "tests/ffi/cpp/peer.cpp")),
        (
            "rust",
            rust_example("ringway-ffi", "ffi_peer", "tests/ffi/peer.rs"),
        ),
    ];
    if let Some(python) = script("tests/ffi/python/peer.py", directory.path()) {
        peers.push(("python", python));
    }
    peers
}

/// The file in which the peers note how far they are.
struct Board {
    path: PathBuf,
    file: File,
}

impl Board {
    fn new(path: PathBuf) -> Self {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.set_len(16 + COUNT).unwrap();
        Self { path, file }
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, at).unwrap();
        u64::from_le_bytes(word)
    }

    fn seen(&self) -> usize {
        let mut seen = vec![0; COUNT as usize];
        self.file.read_exact_at(&mut seen, 16).unwrap();
        seen.iter().filter(|byte| **byte == 1).count()
    }
}

/// One side; ended when the test ends.
struct Side {
    child: Child,
}

impl Side {
    fn start(program: &Path, root: &TempBus, verb: &str, name: &str, board: &Board) -> Self {
        let mut command = run(program, root.path());
        command
            .args([verb, name])
            .arg(&board.path)
            .arg(COUNT.to_string());
        let child = command.stderr(Stdio::inherit()).spawn().unwrap();
        Self { child }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn succeeds(&mut self, what: &str) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{what}: {status}");
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.kill();
    }
}

fn until(what: &str, condition: impl FnMut() -> bool) {
    await_condition(what, condition).unwrap();
}

/// One language sends and another one receives, and both are killed on the way.
fn exchange(
    root: &TempBus,
    name: &str,
    (sending, send): (&Path, &str),
    (receiving, receive): (&Path, &str),
    kills: u64,
) {
    let board = Board::new(root.path().join("board"));
    let send = || Side::start(sending, root, send, name, &board);
    let receive = || Side::start(receiving, root, receive, name, &board);
    let (mut sender, mut receiver) = (send(), receive());
    for kill in 1..=kills {
        let part = COUNT * kill / (kills + 1);
        until(&format!("{name}: {part} sent"), || board.word(0) >= part);
        sender.kill();
        sender = send();
        until(&format!("{name}: {part} seen"), || {
            board.seen() as u64 >= part / 2
        });
        receiver.kill();
        receiver = receive();
    }
    sender.succeeds(&format!("{name}: the sender"));
    receiver.succeeds(&format!("{name}: the receiver"));
    assert_eq!(board.seen() as u64, COUNT, "{name}");
}

#[test]
fn queues_lose_nothing_between_any_two_languages_while_both_sides_are_killed() {
    let programs = scratch();
    let peers = peers(&programs);
    for (from, sending) in &peers {
        for (to, receiving) in &peers {
            let root = scratch();
            let name = format!("{from}-{to}");
            let bus = Bus::builder("peers").root(root.path()).create().unwrap();
            let queue = bus.queue(&name).slots(1024).create().unwrap();
            exchange(
                &root,
                &name,
                (sending, "send"),
                (receiving, "receive"),
                KILLS,
            );
            assert_eq!(queue.stats().damaged, 0, "{name}");
        }
    }
}

#[test]
fn streams_lose_nothing_between_any_two_languages_while_both_sides_are_killed() {
    let programs = scratch();
    let peers = peers(&programs);
    for (from, putting) in &peers {
        for (to, working) in &peers {
            let root = scratch();
            let name = format!("{from}-{to}");
            let bus = Bus::builder("peers").root(root.path()).create().unwrap();
            let stream = bus.stream(&name).shards(3).slots(1024).create().unwrap();
            // It holds what its workers have not checkpointed, from before they come.
            stream
                .group_or_create("peers", GroupStart::TrimHorizon)
                .unwrap();
            exchange(&root, &name, (putting, "put"), (working, "work"), FEW_KILLS);
            assert_eq!(stream.stats().unwrap().damaged, 0, "{name}");
        }
    }
}

#[test]
fn topics_lose_nothing_between_any_two_languages_while_both_sides_are_killed() {
    let programs = scratch();
    let peers = peers(&programs);
    for (from, publishing) in &peers {
        for (to, receiving) in &peers {
            let root = scratch();
            let name = format!("{from}-{to}");
            let bus = Bus::builder("peers").root(root.path()).create().unwrap();
            let topic = bus.topic(&name).create().unwrap();
            let _queue = bus.queue(&name).create().unwrap();
            let options = SubscribeOptions::new(&name).raw(true);
            topic.subscribe(&options).unwrap();
            let sides = ((&**publishing, "announce"), (&**receiving, "receive"));
            exchange(&root, &name, sides.0, sides.1, FEW_KILLS);
            let stats = topic.stats().unwrap();
            assert_eq!((stats.damaged, stats.failed), (0, 0), "{name}");
        }
    }
}

#[test]
fn channels_lose_nothing_between_any_two_languages_while_producers_are_killed() {
    let programs = scratch();
    let peers = peers(&programs);
    for (from, publishing) in &peers {
        for (to, reading) in &peers {
            let root = scratch();
            let name = format!("{from}-{to}");
            let bus = Bus::builder("peers").root(root.path()).create().unwrap();
            let channel = bus.channel(&name).slots(1024).create().unwrap();
            let board = Board::new(root.path().join("board"));
            let mut reader = Side::start(reading, &root, "read", &name, &board);
            until(&format!("{name}: the reader is there"), || {
                board.word(8) == 1
            });
            let publish = || Side::start(publishing, &root, "publish", &name, &board);
            let mut producer = publish();
            for kill in 1..=KILLS {
                let part = COUNT * kill / (KILLS + 1);
                until(&format!("{name}: {part} sent"), || board.word(0) >= part);
                producer.kill();
                producer = publish();
            }
            producer.succeeds(&format!("{name}: the producer"));
            reader.succeeds(&format!("{name}: the reader"));
            assert_eq!(board.seen() as u64, COUNT, "{name}");
            assert_eq!(channel.stats().damaged, 0, "{name}");
        }
    }
}
