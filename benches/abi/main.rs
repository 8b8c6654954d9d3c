//! What does a call through the C ABI cost beside the same call from Rust? One thread on one core, so
//! this is instructions and not cache lines: the most that the way through C can matter.
//!
//! Each round runs in processes of their own: this program as `abi native WORK`, and `loop.c`, linked to
//! the shared library as `cargo xtask install` installs it. Rounds are interleaved, ratios taken within a round, and
//! the median over rounds printed as a JSON line for each work:
//!
//! ```text
//! {"target":"P13","work":"queue","native_ns":…,"c_ns":…,"slower_percent":…,"ns_a_call":…}
//! ```

use ringway::Bus;
use ringway_harness::TempBus;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const ROUNDS: usize = 15;
/// Times that the work is done, after a tenth of them to warm up.
const TIMES: u32 = 300_000;
const BATCH: usize = 10;
const BODY: [u8; 64] = [7; 64];

/// What is done over and over, and how many calls it takes; a batch counts each of its messages.
const WORKS: [(&str, f64); 3] = [("queue", 3.0), ("batch", 30.0), ("channel", 2.0)];

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

fn native(work: &str) -> f64 {
    let _ = ringway::affinity::pin_current_thread(0);
    let bus = Bus::open_or_create("abi").expect("a bus");
    if work == "channel" {
        let channel = bus.channel(work).open_or_create().expect("a channel");
        let mut reader = channel.reader().join().expect("a reader");
        let mut producer = channel.producer().expect("a producer");
        let mut buffer = [0; 64];
        return time(|| {
            producer.try_send(black_box(&BODY[..])).expect("room");
            reader
                .try_read(&mut buffer)
                .expect("no error")
                .expect("a record");
        });
    }
    let queue = bus.queue(work).open_or_create().expect("a queue");
    let mut sender = queue.sender().expect("a sender");
    let mut receiver = queue.receiver().expect("a receiver");
    if work == "queue" {
        let mut buffer = [0; 64];
        return time(|| {
            sender.send(black_box(&BODY[..])).expect("room");
            let received = receiver
                .try_receive(black_box(&mut buffer[..]))
                .expect("no error");
            let receipt = received.expect("a message").receipt;
            receiver.delete(&receipt).expect("it is ours");
        });
    }
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
        .stdout(std::process::Stdio::null())
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

/// The figure that a round of its own prints.
fn round(program: &Path, arguments: &[&str]) -> f64 {
    let root = TempBus::new().expect("a root under /dev/shm");
    let output = Command::new(program)
        .args(arguments)
        .env("RINGWAY_ROOT", root.path())
        .output()
        .expect("a round starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.trim().parse().expect("a figure")
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, verb, work] = &arguments[..]
        && verb == "native"
    {
        println!("{}", native(work));
        return;
    }
    let directory = TempBus::new().expect("a directory under /dev/shm");
    let (c, own) = (
        compile(directory.path()),
        std::env::current_exe().expect("this program"),
    );
    for (work, calls) in WORKS {
        let rounds: Vec<(f64, f64)> = (0..ROUNDS)
            .map(|at| {
                // Whoever comes first comes second next time.
                if at % 2 == 0 {
                    let native = round(&own, &["native", work]);
                    (native, round(&c, &[work, &TIMES.to_string()]))
                } else {
                    let c = round(&c, &[work, &TIMES.to_string()]);
                    (round(&own, &["native", work]), c)
                }
            })
            .collect();
        let of = |figure: fn(&(f64, f64)) -> f64| median(rounds.iter().map(figure).collect());
        let (native_ns, c_ns) = (of(|round| round.0), of(|round| round.1));
        let slower_percent = of(|round| (round.1 / round.0 - 1.0) * 100.0);
        let ns_a_call = of(|round| round.1 - round.0) / calls;
        println!(
            "{{\"target\":\"P13\",\"work\":\"{work}\",\"native_ns\":{native_ns:.1},\"c_ns\":{c_ns:.1},\
             \"slower_percent\":{slower_percent:.2},\"ns_a_call\":{ns_a_call:.2}}}"
        );
    }
}
