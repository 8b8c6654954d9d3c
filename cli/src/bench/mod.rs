//! `ringway bench`: ringway, its peers and the machine's limits, side by side.
//!
//! Every round runs in processes of its own (`ringway_measure::protocol`): this
//! command starts itself as the hidden `bench round` for ringway and the limits,
//! and `ringway-peers` for everybody else. Rounds are interleaved, A B C A B C,
//! so that a machine that drifts drifts for all; ratios are taken within a
//! round, and medians over rounds. Figures without the machine beside them are
//! never printed.
//!
//! The way of a comparison: [`roster`] who takes part, [`schedule`] the rounds,
//! [`summary`] what they say, [`table`] and [`plot`] how it is shown.

mod backlog;
mod cold;
mod durable;
mod journal;
mod plot;
mod queue;
mod ringway;
mod roster;
mod schedule;
mod stream;
mod summary;
mod table;
mod topic;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use ringway_measure::launch;
use ringway_measure::machine::Machine;
use ringway_measure::protocol::{self, Verb};
use ringway_measure::sides::Interrupted;
use ringway_measure::{Contender, Mode, Plan, Scenario, limits, pin};
use roster::Roster;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure ringway beside the limits of this machine and other transports
///
/// Each scenario runs ringway, what the machine itself allows (a cache line
/// to and fro, a raw copy, a raw futex), and every peer that is installed, in
/// turn, several times, between two processes pinned to cores of their own.
/// The ratio to the limit is the figure that travels from machine to machine;
/// nanoseconds are those of this one.
///
/// Scenarios:
///   latency     half a round trip, polled and blocking
///   throughput  one sender, one receiver, one commit per message
///   batch       the same, handed over in batches
///   contended   two senders into one object
///   copy        large payloads copied in and out
///   zerocopy    ping-pong of large payloads written and read in place
///   wake        until a receiver that was asleep runs again
///   queue-latency  half a round trip through queues, delete included
///   queue       a queue's message sent, received and deleted, one by one
///   queue-batch the same in batches of 10
///   fifo        the same with 100 groups in order, and no repeats
///   stream      latency, throughput and batch of streams, beside the shared channel that a shard is:
///               put one by one, in batches, aggregated, and read by four registered consumers
///   depth       one process on a queue, empty and with a backlog and leases
///   topic       half a round trip, published to a topic and heard by a listener
///   durable     the four that follow; they write some GB under $TMPDIR or /var/tmp
///   durable-one    until a message is on the disk, one at a time
///   durable-group  eight threads, each waiting for its own
///   durable-batch  batches that nobody waits for one by one
///   durable-large  the same with 64 KiB, against the disk's bandwidth
///   stream-cold    by itself: a stream on disk, read from its beginning, beside the disk
///
/// Examples:
///   ringway bench latency
///   ringway bench throughput --size 256 --rounds 9
///   ringway bench latency wake --contenders ringway,iceoryx2 --plot bench.html
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    hidden: Option<Hidden>,

    /// What to measure, any number of scenarios [default: all]
    #[arg(value_enum, hide_possible_values = true)]
    scenarios: Vec<Asked>,

    /// Rounds of each contender, in turn; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Payload bytes [default: 64; copy: 65536, zerocopy: 32768]
    #[arg(long, value_name = "N")]
    size: Option<usize>,

    /// The cores of the two sides; neighbours that share a cache are fastest
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    cores: Vec<usize>,

    /// Only polled or only blocking rounds
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Only these, by name; the limit that the ratio needs is always there
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,

    /// Run the peers too, if ringway-peers is found (the default)
    #[arg(long, overrides_with = "no_peers", hide = true)]
    peers: bool,

    /// Leave other transports out
    #[arg(long)]
    no_peers: bool,

    /// Messages of each round [default: about half a second's worth of each]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,

    /// Bytes of rings, where a contender has one of a chosen size
    #[arg(long, value_name = "N", default_value_t = 4 << 20)]
    ring_bytes: usize,

    /// Bytes from slot to slot, where a contender has slots [default: its own]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    stride: usize,

    /// Messages handed over at once in the batch scenarios [default: 64; queues: 10]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,

    /// Messages that wait in the queue of the depth scenario
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    backlog: u64,

    /// Messages that are in flight there
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    in_flight: u64,

    /// Seconds after which a round is ended and counts as failed
    #[arg(long, value_name = "N", default_value_t = 120)]
    deadline_s: u64,

    /// Print JSON lines: the machine, every round, and a summary per contender
    #[arg(long)]
    json: bool,

    /// Write a plot (percentiles, rates) to this .svg or .html file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Print who can be measured here, and end
    #[arg(long)]
    list: bool,
}

/// The protocol's verbs, spoken between processes of this command; and what compares with nobody else.
#[derive(Clone, Debug, Subcommand)]
enum Hidden {
    #[command(name = "host-list", hide = true)]
    List,
    #[command(hide = true)]
    Round(Plan),
    Backlog(backlog::Args),
    StreamCold(cold::Cold),
}

/// A scenario, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Asked {
    Latency,
    Throughput,
    Batch,
    Contended,
    Copy,
    Zerocopy,
    Wake,
    QueueLatency,
    Queue,
    QueueBatch,
    Fifo,
    Stream,
    Depth,
    Topic,
    Durable,
    DurableOne,
    DurableGroup,
    DurableBatch,
    DurableLarge,
    All,
}

/// Who this binary measures itself.
fn own_contenders() -> Vec<&'static dyn Contender> {
    let mut contenders = limits::all();
    contenders.extend(ringway::all());
    contenders.extend(queue::all());
    contenders.extend(stream::all());
    contenders.extend(topic::all());
    contenders.extend(journal::all());
    contenders.extend(durable::all());
    contenders
}

/// What a scenario's ratios refer to: the machine's limit, or where it sets none, ringway at its
/// easiest.
fn reference(scenario: Scenario, mode: Mode) -> &'static str {
    limits::of(scenario, mode).unwrap_or(queue::EMPTY)
}

/// Carries out `ringway bench`. The code is 0 when every round succeeded, 1 when
/// one failed, 130 when it was interrupted.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.hidden {
        Some(Hidden::List) => return Ok(protocol::serve(&Verb::List, &own_contenders())),
        Some(Hidden::Round(plan)) => {
            return Ok(protocol::serve(
                &Verb::Round(plan.clone()),
                &own_contenders(),
            ));
        }
        Some(Hidden::Backlog(args)) => return backlog::run(args),
        Some(Hidden::StreamCold(cold)) => return cold::run(cold),
        None => {}
    }
    if let Some(file) = &args.plot {
        plot::Format::of(file)?;
    }
    launch::watch_interrupts();
    let roster = match args.is_of_streams() {
        true => Roster::find(&stream::NAMES.map(str::to_owned), false)?,
        false => Roster::find(&args.contenders, !args.no_peers)?,
    };
    if args.list {
        print!("{}", roster.describe());
        return Ok(ExitCode::SUCCESS);
    }
    args.check()?;
    match compare(&args, &roster) {
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("interrupted; nothing is left running");
            Ok(ExitCode::from(130))
        }
        other => other,
    }
}

fn compare(args: &Args, roster: &Roster) -> anyhow::Result<ExitCode> {
    let machine = Machine::here();
    roster.mention_missing(&args.wanted());
    let sections = schedule::sections(args, roster)?;
    if args.json {
        print_line(&serde_json::json!({ "record": "machine", "machine": machine }))?;
    } else {
        println!("{}", machine.line());
        println!(
            "cores {}, medians of {} rounds; times are one-way, a mean is that of 1,000 round trips in a row\n",
            listed(&args.cores),
            args.rounds
        );
    }
    let mut failed = false;
    let mut summaries = Vec::new();
    let progress = schedule::Progress::of(&sections, args.rounds);
    for section in &sections {
        let outcome = schedule::run(args, section, &progress, |round| match args.json {
            true => print_line(&Tagged {
                record: "round",
                body: round,
            }),
            false => Ok(()),
        })?;
        failed |= outcome.failures > 0;
        let summary = summary::of(section, &outcome.rounds);
        progress.suspend(|| -> anyhow::Result<()> {
            if args.json {
                return summary.rows.iter().try_for_each(|row| {
                    print_line(&Tagged {
                        record: "summary",
                        body: row,
                    })
                });
            }
            println!("{}", table::render(&summary));
            Ok(())
        })?;
        summaries.push(summary);
    }
    if let Some(file) = &args.plot {
        let text = plot::render(plot::Format::of(file)?, &machine, &summaries);
        std::fs::write(file, text)
            .with_context(|| format!("can't write the plot to {}", file.display()))?;
        eprintln!("the plot is in {}", file.display());
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Args {
    /// Refuses what no round could be made of.
    fn check(&self) -> anyhow::Result<()> {
        let allowed = pin::allowed_cores().map_err(anyhow::Error::from_boxed)?;
        pin::check_cores(&self.cores, &allowed).map_err(anyhow::Error::from_boxed)?;
        if self.size.is_some_and(|size| size < 8) {
            bail!(
                "--size must be at least 8: eight bytes carry the number by which every message is checked"
            );
        }
        if self.batch == Some(0) || self.deadline_s == 0 {
            bail!("--batch and --deadline-s must each be at least 1");
        }
        Ok(())
    }

    /// Whether streams alone are asked for, and nobody by name.
    fn is_of_streams(&self) -> bool {
        self.scenarios == [Asked::Stream] && self.contenders.is_empty()
    }

    /// The scenarios asked for, each once, in their usual order.
    fn wanted(&self) -> Vec<Scenario> {
        let all = self.scenarios.is_empty() || self.scenarios.contains(&Asked::All);
        let is_asked = |scenario: &Scenario| {
            self.scenarios.iter().any(|asked| {
                if *asked == Asked::Stream {
                    let of_streams = [Scenario::Latency, Scenario::Throughput, Scenario::Batch];
                    return of_streams.contains(scenario);
                }
                if *asked == Asked::Durable {
                    return scenario.word().starts_with("durable-");
                }
                asked
                    .to_possible_value()
                    .is_some_and(|value| value.get_name() == scenario.word())
            })
        };
        Scenario::ALL
            .into_iter()
            .filter(|scenario| all || is_asked(scenario))
            .collect()
    }
}

#[derive(serde::Serialize)]
struct Tagged<'a, T> {
    record: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

fn print_line<T: serde::Serialize>(record: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(std::io::stdout().lock().write_all(&line)?)
}

fn listed(cores: &[usize]) -> String {
    cores
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["bench"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn nothing_asked_means_everything() {
        assert_eq!(
            parse(&[]).expect("no words are fine").wanted(),
            Scenario::ALL
        );
        assert_eq!(
            parse(&["all"]).expect("all is a word").wanted(),
            Scenario::ALL
        );
    }

    #[test]
    fn scenarios_are_taken_once_and_in_order() {
        let args = parse(&["wake", "latency", "wake"]).expect("three words are fine");
        assert_eq!(args.wanted(), [Scenario::Latency, Scenario::Wake]);
    }

    #[test]
    fn streams_are_compared_where_their_shards_are() {
        let args = parse(&["stream"]).expect("stream is a word");
        assert!(args.is_of_streams());
        let wanted = [Scenario::Latency, Scenario::Throughput, Scenario::Batch];
        assert_eq!(args.wanted(), wanted);
        assert!(
            !parse(&["stream", "wake"])
                .expect("two words")
                .is_of_streams()
        );
        let known: Vec<_> = own_contenders().iter().map(|one| one.name()).collect();
        assert!(
            stream::NAMES.iter().all(|name| known.contains(name)),
            "{known:?}"
        );
    }

    #[test]
    fn an_unknown_scenario_is_refused_with_the_known_ones() {
        let said = parse(&["lattency"])
            .expect_err("no such scenario")
            .to_string();
        assert!(said.contains("latency"), "{said}");
    }

    #[test]
    fn the_hidden_round_takes_a_plan() {
        let args = parse(&["round", "--scenario", "wake", "--contender", "x"]).expect("a plan");
        assert!(
            matches!(args.hidden, Some(Hidden::Round(plan)) if plan.scenario == Scenario::Wake)
        );
    }

    #[test]
    fn the_same_core_twice_is_refused_before_anything_runs() {
        let core = pin::allowed_cores().expect("affinity is readable")[0];
        let args = parse(&["latency", "--cores", &format!("{core},{core}")]).expect("it parses");
        let said = args.check().expect_err("one core can't be two").to_string();
        assert!(
            said.contains("twice") || said.contains("core only"),
            "{said}"
        );
    }

    #[test]
    fn no_rounds_and_no_messages_are_refused() {
        assert!(parse(&["--rounds", "0"]).is_err());
        assert!(parse(&["--messages", "0"]).is_err());
    }
}
