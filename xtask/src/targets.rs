//! The list of targets and the order they are measured in: speed first, on a quiet machine.

use crate::bench::{Bench, Ratio};
use crate::outcome::Better::{AtLeast, AtMost};
use crate::outcome::Outcome;
use crate::proof::{Field, Fold, Proof, Runner};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Every identifier, in order.
const KNOWN: [&str; 21] = [
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "R1",
    "R2", "R3", "R4", "R5", "R6", "R7",
];

#[derive(clap::Args)]
pub struct Args {
    /// Only these, such as P1 R3 [default: all]
    ids: Vec<String>,
    /// One JSON object a line
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// A table in Markdown, as docs/figures.md has it
    #[arg(long)]
    markdown: bool,
    /// Rounds of each speed measurement
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Print the identifiers and end
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        println!("{}", KNOWN.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    let ids = chosen(&args.ids)?;
    if args.markdown {
        println!("| # | figure | goal | measured | | command |\n|---|---|---|---|---|---|");
    }
    let mut all_met = true;
    let mut report = |outcomes: Vec<Outcome>| {
        for outcome in outcomes {
            all_met &= outcome.met();
            let line = match (args.json, args.markdown) {
                (true, _) => outcome.json(),
                (_, true) => outcome.markdown(),
                _ => outcome.text(),
            };
            println!("{line}");
        }
    };
    if ids.iter().any(|id| id.starts_with('P')) {
        let mut bench = Bench::new(&build()?, args.rounds);
        for ratio in RATIOS.iter().filter(|ratio| ids.contains(&ratio.id)) {
            report(vec![bench.ratio(ratio)?]);
        }
        if ids.contains(&"P2") {
            let what = "latency through a queue, 64 B, p99 over p50";
            report(vec![bench.spread(
                "P2",
                what,
                QUEUE_LATENCY,
                "ringway-queue",
                3.0,
            )?]);
        }
        if ids.contains(&"P10") {
            for (what, scenario, goal) in DURABLE_RATES {
                report(vec![bench.rate(
                    "P10",
                    what,
                    &[scenario],
                    "ringway-journal",
                    goal,
                )?]);
            }
        }
        if ids.contains(&"P7") {
            let what = "zero-copy latency of 1 MiB over that of 4 KiB: size-independent";
            let sizes = [
                ["zerocopy", "--size", "1048576"],
                ["zerocopy", "--size", "4096"],
            ];
            let sizes = [&sizes[0][..], &sizes[1][..]];
            report(vec![bench.growth("P7", what, sizes, "ringway", 1.2)?]);
        }
    }
    let mut runner = Runner::default();
    for proof in PROOFS.iter().filter(|proof| ids.contains(&proof.id)) {
        report(runner.run(proof)?);
    }
    Ok(if all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(given: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if given.is_empty() {
        return Ok(KNOWN.to_vec());
    }
    given
        .iter()
        .map(|id| {
            let known = KNOWN
                .iter()
                .find(|known| known.eq_ignore_ascii_case(id))
                .copied();
            known.with_context(|| format!("{id:?} is no target; known: {}", KNOWN.join(" ")))
        })
        .collect()
}

/// Builds the command and the peers; the directory they are in. Peers that can't be built are left
/// out, and what needs them is reported as not measured.
fn build() -> anyhow::Result<PathBuf> {
    let cargo = |package: &[&str]| {
        Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet"])
            .args(package)
            .status()
    };
    if !cargo(&["-p", "ringway-cli"])?.success() {
        bail!("ringway-cli does not build");
    }
    if !cargo(&["-p", "ringway-peers"])?.success() {
        eprintln!("ringway-peers with iceoryx2 does not build (it needs libclang); without it");
        cargo(&["-p", "ringway-peers", "--no-default-features"])?;
    }
    let own = std::env::current_exe()?;
    Ok(own
        .parent()
        .context("this program has no directory")?
        .to_path_buf())
}

const LATENCY: &[&str] = &["latency", "--mode", "spin"];
const QUEUE_LATENCY: &[&str] = &["queue-latency"];

const DURABLE_RATES: [(&str, &str, f64); 2] = [
    (
        "durable messages of 256 B, eight threads that wait for their own",
        "durable-group",
        50_000.0,
    ),
    (
        "durable messages of 256 B, in pipelined batches",
        "durable-batch",
        200_000.0,
    ),
];

const RATIOS: &[Ratio<'static>] = &[
    Ratio {
        id: "P10",
        what: "a durable message, one at a time, to a raw durable write of 4 KiB",
        scenario: &["durable-one"],
        ours: "ringway-journal",
        theirs: "limit-disk",
        better: AtMost,
        goal: 1.2,
    },
    Ratio {
        id: "P10",
        what: "durable messages of 64 KiB, to the raw bandwidth of 128 KiB O_DSYNC, eight at a time",
        scenario: &["durable-large"],
        ours: "ringway-journal",
        theirs: "limit-disk-deep",
        better: AtLeast,
        goal: 0.7,
    },
    Ratio {
        id: "P1",
        what: "polled one-way latency, 64 B, to the plain-spin ping-pong",
        scenario: LATENCY,
        ours: "ringway",
        theirs: "limit-pingpong",
        better: AtMost,
        goal: 1.2,
    },
    Ratio {
        id: "P1",
        what: "polled one-way latency, 64 B, to Aeron tryClaim",
        scenario: LATENCY,
        ours: "ringway",
        theirs: "aeron-claim",
        better: AtMost,
        goal: 1.0,
    },
    Ratio {
        id: "P1",
        what: "polled one-way latency, 64 B, to iceoryx2",
        scenario: LATENCY,
        ours: "ringway",
        theirs: "iceoryx2",
        better: AtMost,
        goal: 0.2,
    },
    Ratio {
        id: "P2",
        what: "latency through a queue, 64 B, the message before deleted, to the ping-pong",
        scenario: QUEUE_LATENCY,
        ours: "ringway-queue",
        theirs: "limit-pingpong",
        better: AtMost,
        goal: 1.5,
    },
    Ratio {
        id: "P3",
        what: "one-way throughput, 64 B, one commit each, to the raw 64 B slot loop",
        scenario: &["throughput"],
        ours: "ringway",
        theirs: "limit-slots",
        better: AtLeast,
        goal: 0.5,
    },
    Ratio {
        id: "P3",
        what: "one-way throughput, 64 B, to Aeron exclusive tryClaim",
        scenario: &["throughput"],
        ours: "ringway",
        theirs: "aeron-claim",
        better: AtLeast,
        goal: 1.5,
    },
    Ratio {
        id: "P3",
        what: "one-way throughput, 64 B, to iceoryx2",
        scenario: &["throughput"],
        ours: "ringway",
        theirs: "iceoryx2",
        better: AtLeast,
        goal: 15.0,
    },
    Ratio {
        id: "P4",
        what: "batches of 64 (64 B each), to the raw slot loop (100 M/s where it gives 250)",
        scenario: &["batch"],
        ours: "ringway",
        theirs: "limit-slots",
        better: AtLeast,
        goal: 0.4,
    },
    Ratio {
        id: "P5",
        what: "send, receive, delete one by one, to the slot loop (20 M/s where it gives 250)",
        scenario: &["queue"],
        ours: "ringway-queue",
        theirs: "limit-slots",
        better: AtLeast,
        goal: 0.08,
    },
    Ratio {
        id: "P5",
        what: "send, receive, delete in batches of 10, to the slot loop (40 M/s of 250)",
        scenario: &["queue-batch"],
        ours: "ringway-queue",
        theirs: "limit-slots",
        better: AtLeast,
        goal: 0.16,
    },
    Ratio {
        id: "P5",
        what: "one by one, to Redis Streams pipelined by 10",
        scenario: &["queue"],
        ours: "ringway-queue",
        theirs: "redis-streams-10",
        better: AtLeast,
        goal: 100.0,
    },
    Ratio {
        id: "P5",
        what: "in batches of 10, to Redis Streams pipelined by 10",
        scenario: &["queue-batch"],
        ours: "ringway-queue",
        theirs: "redis-streams-10",
        better: AtLeast,
        goal: 100.0,
    },
    Ratio {
        id: "P5",
        what: "in batches of 10, to Redis Streams pipelined by 100",
        scenario: &["queue-batch"],
        ours: "ringway-queue",
        theirs: "redis-streams-100",
        better: AtLeast,
        goal: 100.0,
    },
    Ratio {
        id: "P6",
        what: "two producers on one ring, to a raw CAS claim with a 64 B write",
        scenario: &["contended"],
        ours: "ringway-shared",
        theirs: "limit-claim",
        better: AtLeast,
        goal: 0.8,
    },
    Ratio {
        id: "P7",
        what: "64 KiB copied in and out, to the raw shared-memory copy",
        scenario: &["copy"],
        ours: "ringway",
        theirs: "limit-copy",
        better: AtLeast,
        goal: 0.8,
    },
    Ratio {
        id: "P7",
        what: "zero-copy latency of 32 KiB, to the ping-pong",
        scenario: &["zerocopy", "--mode", "spin"],
        ours: "ringway",
        theirs: "limit-pingpong",
        better: AtMost,
        goal: 2.0,
    },
    Ratio {
        id: "P9",
        what: "FIFO, 100 groups, ids against repeats, to the slot loop (5 M/s of 250)",
        scenario: &["fifo"],
        ours: "ringway-fifo",
        theirs: "limit-slots",
        better: AtLeast,
        goal: 0.02,
    },
    Ratio {
        id: "P11",
        what: "a message's life, 10 M in the backlog and 1 M in flight, to an empty queue",
        scenario: &["depth"],
        ours: "ringway-queue",
        theirs: "ringway-queue-empty",
        better: AtMost,
        goal: 1.2,
    },
    Ratio {
        id: "P8",
        what: "wake of a parked receiver, to a raw futex",
        scenario: &["wake"],
        ours: "ringway",
        theirs: "limit-futex",
        better: AtMost,
        goal: 1.15,
    },
    Ratio {
        id: "P8",
        what: "wake of a parked receiver, to the iceoryx2 event",
        scenario: &["wake"],
        ours: "ringway",
        theirs: "iceoryx2",
        better: AtMost,
        goal: 0.75,
    },
];

const NONE: f64 = 0.0;

const PROOFS: &[Proof] = &[
    Proof {
        id: "P12",
        arguments: &[
            "test",
            "--release",
            "--test",
            "recovery",
            "--",
            "--nocapture",
        ],
        variables: &[],
        fields: &[Field {
            name: "p99_ms",
            what: "from SIGKILL of a claim holder to the next delivery behind it, p99",
            better: AtMost,
            goal: 30.0,
            unit: "ms",
            fold: Fold::Most,
        }],
    },
    Proof {
        id: "P13",
        arguments: &["bench", "-p", "ringway-ffi", "--bench", "abi"],
        variables: &[],
        fields: &[
            Field {
                name: "ns_a_call",
                what: "what a call through the C ABI takes longer, in a batch each of its messages",
                better: AtMost,
                goal: 10.0,
                unit: "ns",
                fold: Fold::Most,
            },
            Field {
                name: "slower_percent",
                what: "a queue between two processes on two cores through C, beside the same in Rust",
                better: AtMost,
                goal: 5.0,
                unit: "%",
                fold: Fold::Most,
            },
            Field {
                name: "alone_percent",
                what: "a C loop on one core, nothing to wait for, beside the same in Rust",
                better: AtMost,
                goal: 5.0,
                unit: "%",
                fold: Fold::Most,
            },
        ],
    },
    Proof {
        id: "P14",
        arguments: &[
            "test",
            "--release",
            "--test",
            "hotpath",
            "--",
            "--nocapture",
        ],
        variables: &[],
        fields: &[
            Field {
                name: "system_calls",
                what: "system calls on the hot path after warm-up",
                better: AtMost,
                goal: NONE,
                unit: "calls",
                fold: Fold::Sum,
            },
            Field {
                name: "page_faults",
                what: "page faults on the hot path after warm-up",
                better: AtMost,
                goal: NONE,
                unit: "faults",
                fold: Fold::Sum,
            },
            Field {
                name: "allocations",
                what: "allocations and releases on the hot path after warm-up",
                better: AtMost,
                goal: NONE,
                unit: "allocations",
                fold: Fold::Sum,
            },
        ],
    },
    Proof {
        id: "R1",
        arguments: &["test", "--release", "--test", "step", "--", "--nocapture"],
        variables: &[("RINGWAY_FULL", "1")],
        fields: &[
            Field {
                name: "failures",
                what: "failures at any instruction, killed or stopped there",
                better: AtMost,
                goal: NONE,
                unit: "failures",
                fold: Fold::Sum,
            },
            Field {
                name: "operations_whole",
                what: "operations of which every instruction was visited",
                better: AtLeast,
                goal: 12.0,
                unit: "operations",
                fold: Fold::Sum,
            },
            Field {
                name: "progress_ms",
                what: "longest time until the others went on",
                better: AtMost,
                goal: 50.0,
                unit: "ms",
                fold: Fold::Most,
            },
        ],
    },
    Proof {
        id: "R2",
        arguments: &["test", "--release", "--test", "loom", "--", "--nocapture"],
        variables: &[
            ("RUSTFLAGS", "--cfg loom"),
            ("CARGO_TARGET_DIR", "target/loom"),
        ],
        fields: &[Field {
            name: "caught_percent",
            what: "weakened orderings caught by a model",
            better: AtLeast,
            goal: 90.0,
            unit: "%",
            fold: Fold::Least,
        }],
    },
    Proof {
        id: "R3",
        arguments: &[
            "test",
            "--release",
            "--test",
            "torture",
            "--test",
            "queue_torture",
            "--test",
            "fifo_torture",
            "--test",
            "dedup_torture",
            "--test",
            "stream_torture",
            "--test",
            "topic_torture",
            "--no-fail-fast",
            "--",
            "--nocapture",
        ],
        variables: &[],
        fields: &[
            Field {
                name: "kills",
                what: "processes killed at random (the soak of 100,000 has its own command)",
                better: AtLeast,
                goal: 1000.0,
                unit: "kills",
                fold: Fold::Sum,
            },
            Field {
                name: "lost",
                what: "acknowledged records and messages lost",
                better: AtMost,
                goal: NONE,
                unit: "records",
                fold: Fold::Sum,
            },
            Field {
                name: "inversions",
                what: "records out of their producer's order, messages out of their group's",
                better: AtMost,
                goal: NONE,
                unit: "records",
                fold: Fold::Sum,
            },
            Field {
                name: "duplicates",
                what: "records seen twice",
                better: AtMost,
                goal: NONE,
                unit: "records",
                fold: Fold::Sum,
            },
            Field {
                name: "shared",
                what: "messages held by two receivers at once, or received behind their delete",
                better: AtMost,
                goal: NONE,
                unit: "messages",
                fold: Fold::Sum,
            },
            Field {
                name: "twice",
                what: "messages delivered twice in spite of their deduplication id",
                better: AtMost,
                goal: NONE,
                unit: "messages",
                fold: Fold::Sum,
            },
        ],
    },
    Proof {
        id: "R4",
        arguments: &[
            "test",
            "--release",
            "--test",
            "liveness",
            "--",
            "--nocapture",
        ],
        variables: &[("RINGWAY_FULL", "1")],
        fields: &[
            Field {
                name: "executions",
                what: "probes of living participants",
                better: AtLeast,
                goal: 1e6,
                unit: "probes",
                fold: Fold::Sum,
            },
            Field {
                name: "false_dead",
                what: "living participants called dead",
                better: AtMost,
                goal: NONE,
                unit: "probes",
                fold: Fold::Sum,
            },
        ],
    },
    Proof {
        id: "R5",
        arguments: &[
            "test",
            "--release",
            "--test",
            "sim",
            "crash",
            "--",
            "--nocapture",
        ],
        variables: &[("RINGWAY_FULL", "1")],
        fields: &[
            Field {
                name: "crash_states",
                what: "states of a simulated disk after a power cut, read back",
                better: AtLeast,
                goal: 1e6,
                unit: "states",
                fold: Fold::Sum,
            },
            Field {
                name: "lost",
                what: "acknowledged entries lost",
                better: AtMost,
                goal: NONE,
                unit: "entries",
                fold: Fold::Sum,
            },
            Field {
                name: "flips_untold",
                what: "flipped bits in acknowledged entries that nobody told",
                better: AtMost,
                goal: NONE,
                unit: "flips",
                fold: Fold::Sum,
            },
        ],
    },
    Proof {
        id: "R6",
        arguments: &[
            "test",
            "--release",
            "--test",
            "sim",
            "faults",
            "--",
            "--nocapture",
        ],
        variables: &[],
        fields: &[
            Field {
                name: "failures_injected",
                what: "calls and completions of a scripted run that failed once each",
                better: AtLeast,
                goal: 1000.0,
                unit: "failures",
                fold: Fold::Sum,
            },
            Field {
                name: "untyped",
                what: "errors without a type, hangs, lost entries",
                better: AtMost,
                goal: NONE,
                unit: "failures",
                fold: Fold::Sum,
            },
            Field {
                name: "leaks",
                what: "files, lanes or names left behind",
                better: AtMost,
                goal: NONE,
                unit: "leaks",
                fold: Fold::Sum,
            },
        ],
    },
    Proof {
        id: "R7",
        arguments: &[
            "test",
            "--release",
            "--test",
            "hostile_*",
            "--",
            "--nocapture",
        ],
        variables: &[("RINGWAY_FULL", "1")],
        fields: &[
            Field {
                name: "executions",
                what: "hostile inputs, of the least tried target",
                better: AtLeast,
                goal: 1e7,
                unit: "executions",
                fold: Fold::Least,
            },
            Field {
                name: "crashes",
                what: "crashes, panics and hangs",
                better: AtMost,
                goal: NONE,
                unit: "crashes",
                fold: Fold::Sum,
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_listed_and_every_listed_one_is_measured() {
        let measured: Vec<_> = RATIOS
            .iter()
            .map(|r| r.id)
            .chain(PROOFS.iter().map(|p| p.id))
            .collect();
        assert!(KNOWN.iter().all(|id| measured.contains(id)));
        assert!(measured.iter().all(|id| KNOWN.contains(id)));
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_list() {
        let error = chosen(&["P99".into()]).unwrap_err().to_string();
        assert!(error.contains("P99") && error.contains("P14"), "{error}");
        assert_eq!(chosen(&["r3".into()]).unwrap(), ["R3"]);
    }
}
