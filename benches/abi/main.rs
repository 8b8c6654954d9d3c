//! What does the C ABI cost beside native Rust?
//!
//! Two questions, since the figures differ by what else there is to wait for:
//!
//! - `across`, `pingpong`: a queue between two processes, each pinned to a core, as every figure of the
//!   targets is taken. `across`: a thousand messages are sent one by one; then the other process receives and
//!   deletes them one by one; and so on. So every line of every message travels, as in a stream, and no side
//!   gets in the other's way: in a stream a few instructions more or less decide whether a receiver finds the
//!   tail or a run behind it, which is worth a factor of two in either direction and is no property of the calls.
//!   `pingpong`: one message back and forth. `slower_percent` is theirs.
//! - `queue`, `batch`, `channel`: one thread on one core that sends and receives by itself. There is no
//!   cache line to wait for, so it is the calls that are seen, and the most that they can matter:
//!   `ns_a_call`, and `alone_percent`.
//!
//! Each round runs in processes of their own: this program as `abi native WORK`, and `loop.c`, linked to
//! the shared library as `cargo xtask install` installs it. Both programs do a work in the same queues of the same
//! bus, one behind the other, so that every message lies in the same pages of memory for both, whatever sets of
//! the caches those fall into. Whoever comes first in a round comes second in the next; ratios are taken within
//! a round, and the median over rounds is printed as a JSON line for each work:
//!
//! ```text
//! {"target":"P13","work":"across","native_ns":…,"c_ns":…,"slower_percent":…}
//! {"target":"P13","work":"queue","native_ns":…,"c_ns":…,"alone_percent":…,"ns_a_call":…}
//! ```

use ringway::{Bus, QueueReceiver, QueueSendError, QueueSender};
use ringway_harness::TempBus;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 25;
/// Times that the work is done, after a tenth of them to warm up.
const TIMES: u32 = 300_000;
/// Messages that one side sends before the other receives them.
const BLOCK: u32 = 1_000;
const BATCH: usize = 10;
const BODY: [u8; 64] = [7; 64];

/// What one thread does over and over, and how many calls it takes; a batch counts each of its messages.
const ALONE: [(&str, f64); 3] = [("queue", 3.0), ("batch", 30.0), ("channel", 2.0)];
/// What two processes do, the measured one last, and how many messages that is each time.
const ACROSS: [(&str, [&str; 2], f64); 2] = [
    ("across", ["give", "take"], 1.0),
    ("pingpong", ["pong", "ping"], 2.0),
];

/// Nanoseconds for each message of blocks of them.
fn time_blocks(mut work: impl FnMut()) -> f64 {
    for _ in 0..TIMES / BLOCK / 10 {
        work();
    }
    let start = Instant::now();
    for _ in 0..TIMES / BLOCK {
        work();
    }
    start.elapsed().as_nanos() as f64 / f64::from(TIMES / BLOCK * BLOCK)
}

/// Nanoseconds for each time. Lengths are no constants for the compiler: C has none either.
fn time(mut work: impl FnMut()) -> f64 {
    for _ in 0..TIMES / 10 {
        work();
    }
    let start = Instant::now();
    for _ in 0..TIMES {
        work();
    }
    start.elapsed().as_nanos() as f64 / f64::from(TIMES)
}

fn sender(bus: &Bus, queue: &str) -> QueueSender {
    let queue = bus.queue(queue).open_or_create().expect("a queue");
    queue.sender().expect("a sender")
}

fn receiver(bus: &Bus, queue: &str) -> QueueReceiver {
    let queue = bus.queue(queue).open_or_create().expect("a queue");
    queue.receiver().expect("a receiver")
}

#[inline(always)]
fn send_one(sender: &mut QueueSender) {
    loop {
        match sender.send(black_box(&BODY[..])) {
            Ok(_) => return,
            Err(QueueSendError::Full { .. }) => core::hint::spin_loop(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[inline(always)]
fn receive_one(receiver: &mut QueueReceiver) {
    let mut buffer = [0; 64];
    loop {
        let received = receiver.try_receive(black_box(&mut buffer[..]));
        if let Some(received) = received.expect("no error") {
            receiver.delete(&received.receipt).expect("it is ours");
            return;
        }
        core::hint::spin_loop();
    }
}

fn native(work: &str, core: usize) -> f64 {
    let _ = ringway::affinity::pin_current_thread(core);
    let bus = Bus::open_or_create("abi").expect("a bus");
    match work {
        "channel" => channel(&bus),
        "queue" => {
            let mut sender = sender(&bus, work);
            let mut receiver = receiver(&bus, work);
            let mut buffer = [0; 64];
            time(|| {
                sender.send(black_box(&BODY[..])).expect("room");
                let received = receiver
                    .try_receive(black_box(&mut buffer[..]))
                    .expect("no error");
                let receipt = received.expect("a message").receipt;
                receiver.delete(&receipt).expect("it is ours");
            })
        }
        "give" => {
            let (mut body, mut go) = (sender(&bus, "there"), sender(&bus, "go"));
            let mut back = receiver(&bus, "back");
            time_blocks(|| {
                for _ in 0..BLOCK {
                    send_one(&mut body);
                }
                send_one(&mut go);
                receive_one(&mut back);
            })
        }
        "take" => {
            let (mut body, mut go) = (receiver(&bus, "there"), receiver(&bus, "go"));
            let mut back = sender(&bus, "back");
            time_blocks(|| {
                receive_one(&mut go);
                for _ in 0..BLOCK {
                    receive_one(&mut body);
                }
                send_one(&mut back);
            })
        }
        "ping" => {
            let (mut sender, mut receiver) = (sender(&bus, "there"), receiver(&bus, "back"));
            time(|| {
                send_one(&mut sender);
                receive_one(&mut receiver);
            })
        }
        "pong" => {
            let (mut receiver, mut sender) = (receiver(&bus, "there"), sender(&bus, "back"));
            time(|| {
                receive_one(&mut receiver);
                send_one(&mut sender);
            })
        }
        _ => batch(&bus),
    }
}

fn channel(bus: &Bus) -> f64 {
    let channel = bus.channel("channel").open_or_create().expect("a channel");
    let mut reader = channel.reader().join().expect("a reader");
    let mut producer = channel.producer().expect("a producer");
    let mut buffer = [0; 64];
    time(|| {
        producer.try_send(black_box(&BODY[..])).expect("room");
        reader
            .try_read(&mut buffer)
            .expect("no error")
            .expect("a record");
    })
}

fn batch(bus: &Bus) -> f64 {
    let (mut sender, mut receiver) = (sender(bus, "batch"), receiver(bus, "batch"));
    let bodies = [black_box(&BODY[..]); BATCH];
    let mut receipts = Vec::with_capacity(BATCH);
    let mut sum = 0u64;
    let ns = time(|| {
        sender.send_batch(&bodies).expect("room");
        receipts.clear();
        let taken = receiver.receive_each(BATCH, |received, body| {
            sum += u64::from(body[0]);
            receipts.push(received.receipt);
        });
        assert_eq!(taken.expect("no error"), BATCH);
        assert!(receiver.delete_batch(&receipts).is_empty());
    });
    assert!(sum > 0);
    ns
}

/// `loop.c`, built against the library as it is installed.
fn compile(directory: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = here.parent().expect("the project");
    let prefix = directory.join("prefix");
    let installed = Command::new(env!("CARGO"))
        .current_dir(here)
        .args(["xtask", "install", "--no-command", "--prefix"])
        .arg(&prefix)
        .env_remove("DESTDIR")
        .stdout(Stdio::null())
        .status();
    assert!(installed.expect("cargo").success(), "it is not installed");
    let program = directory.join("loop");
    let status = Command::new("gcc")
        .args(["-std=c11", "-O2", "-D_GNU_SOURCE", "-I"])
        .arg(prefix.join("include"))
        .arg(here.join("benches/abi/loop.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(prefix.join("lib"))
        .arg("-lringway")
        .arg(format!("-Wl,-rpath,{}", prefix.join("lib").display()))
        .status();
    assert!(status.expect("gcc").success(), "loop.c does not compile");
    program
}

/// The programs: this one, and the one in C.
struct Programs {
    native: PathBuf,
    c: PathBuf,
}

impl Programs {
    fn start(&self, in_c: bool, work: &str, core: usize, root: &TempBus) -> Child {
        let mut command = Command::new(if in_c { &self.c } else { &self.native });
        if in_c {
            command.args([work, &TIMES.to_string(), &core.to_string()]);
        } else {
            command.args(["native", work, &core.to_string()]);
        }
        command.env("RINGWAY_ROOT", root.path());
        command
            .stdout(Stdio::piped())
            .spawn()
            .expect("a round starts")
    }

    /// The figure that a round of its own prints: that of the last of its sides.
    fn round(&self, in_c: bool, sides: &[&str], root: &TempBus) -> f64 {
        let sides: Vec<Child> = sides
            .iter()
            .enumerate()
            .map(|(core, work)| self.start(in_c, work, core, root))
            .collect();
        let mut figure = 0.0;
        for side in sides {
            let output = side.wait_with_output().expect("a round ends");
            assert!(output.status.success(), "a round failed");
            let printed = String::from_utf8_lossy(&output.stdout);
            figure = printed.trim().parse().expect("a figure");
        }
        figure
    }

    /// The figures of interleaved rounds: native, C.
    fn rounds(&self, sides: &[&str]) -> Vec<(f64, f64)> {
        let root = TempBus::new().expect("a root under /dev/shm");
        let round = |in_c: bool| self.round(in_c, sides, &root);
        round(false); // makes the files
        let pair = |at: usize| {
            if at.is_multiple_of(2) {
                let native = round(false);
                (native, round(true))
            } else {
                let c = round(true);
                (round(false), c)
            }
        };
        (0..ROUNDS).map(pair).collect()
    }
}

fn median(rounds: &[(f64, f64)], figure: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn percent(round: &(f64, f64)) -> f64 {
    (round.1 / round.0 - 1.0) * 100.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, verb, work, core] = &arguments[..]
        && verb == "native"
    {
        println!("{}", native(work, core.parse().expect("a core")));
        return;
    }
    let directory = TempBus::new().expect("a directory under /dev/shm");
    let programs = Programs {
        c: compile(directory.path()),
        native: std::env::current_exe().expect("this program"),
    };
    for (work, sides, messages) in ACROSS {
        let rounds = programs.rounds(&sides);
        let native_ns = median(&rounds, |round| round.0) / messages;
        let c_ns = median(&rounds, |round| round.1) / messages;
        let slower = median(&rounds, percent);
        println!(
            "{{\"target\":\"P13\",\"work\":\"{work}\",\"native_ns\":{native_ns:.1},\"c_ns\":{c_ns:.1},\
             \"slower_percent\":{slower:.2}}}"
        );
    }
    for (work, calls) in ALONE {
        let rounds = programs.rounds(&[work]);
        let (native_ns, c_ns) = (
            median(&rounds, |round| round.0),
            median(&rounds, |round| round.1),
        );
        let slower = median(&rounds, percent);
        let ns_a_call = median(&rounds, |round| round.1 - round.0) / calls;
        println!(
            "{{\"target\":\"P13\",\"work\":\"{work}\",\"native_ns\":{native_ns:.1},\"c_ns\":{c_ns:.1},\
             \"alone_percent\":{slower:.2},\"ns_a_call\":{ns_a_call:.2}}}"
        );
    }
}
