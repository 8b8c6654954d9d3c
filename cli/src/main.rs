//! The `ringway` command: look after buses, channels, queues, streams, topics and journals; send, receive, put, read,
//! publish and listen from a shell; measure.
//!
//! One module a noun, and one for each verb of a queue's messages. Output is for people; with `--json` it is one JSON object or array, or one
//! object a line where records stream. Exit status: 0 done, 1 it failed or (doctor) found
//! something, 2 wrong usage.

mod agent;
mod bench;
mod bus;
mod channel;
mod demo;
mod doctor;
mod find;
mod help;
mod interrupt;
mod journal;
mod log;
mod metrics;
mod output;
mod put;
mod queue;
mod read;
mod receive;
mod send;
mod snapshot;
mod stat;
mod stream;
mod top;
mod topic;
mod watch;
mod work;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A message bus in shared memory for the processes of one Linux host, without a daemon.
///
/// A bus is a directory (by default /dev/shm/ringway-NAME) that any number of processes open. A
/// channel on it carries records to every reader, in one order; a queue hands each of its messages to
/// one receiver at a time, until it is deleted; a topic delivers what is published to every queue that
/// subscribed. Processes may be killed or stopped
/// at any instruction; nobody else waits for them.
#[derive(Parser)]
#[command(name = "ringway", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    /// Directory under which buses lie [default: $RINGWAY_ROOT, or /dev/shm]
    #[arg(long, global = true, value_name = "DIR", help_heading = help::EVERYWHERE)]
    root: Option<PathBuf>,
    /// Directory under which the journals of what is durable lie [default: $RINGWAY_JOURNAL_ROOT, else the root if
    /// it is on a disk, else /var/lib/ringway or ~/.local/state/ringway]
    #[arg(long, global = true, value_name = "DIR", help_heading = help::EVERYWHERE)]
    journal_root: Option<PathBuf>,
    /// One JSON document instead of text, or one a line where messages or records stream
    #[arg(long, global = true, help_heading = help::EVERYWHERE)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const COMPLETIONS_EXAMPLES: &str = "Examples:
  ringway completions bash > ~/.local/share/bash-completion/completions/ringway
  ringway completions zsh > ~/.zfunc/_ringway
  ringway completions fish > ~/.config/fish/completions/ringway.fish";

const EXAMPLES: &str = "Examples:
  ringway bus create demo
  ringway channel create demo ticks
  ringway channel read demo ticks --follow &
  echo hello | ringway channel send demo ticks --lines -
  ringway queue create demo orders
  ringway send demo orders 'one of these'
  ringway receive demo orders --delete
  ringway topic create demo news
  ringway subscribe demo news orders --raw
  ringway publish demo news 'it rains'
  ringway watch demo /srv/uploads --topic news
  ringway stream create demo trucks --shards 5
  ringway put demo trucks --key truck-7 52.5,13.4
  ringway read demo trucks --iterator trim-horizon
  ringway stat demo --interval 1s
  ringway agent demo logs '/var/log/app/*.log'
  ringway demo
  ringway doctor demo
  ringway bus rm demo --force
  ringway bench latency
Environment:
  RINGWAY_ROOT, RINGWAY_JOURNAL_ROOT   as --root and --journal-root
  RINGWAY_LOG=debug                    tells on standard error what happens; trace, each message too;
                                       ringway::queue=trace,debug chooses by module";

#[derive(Subcommand)]
enum Command {
    /// Create, list, inspect and remove buses
    #[command(subcommand)]
    Bus(bus::Command),
    /// Create, list, inspect, remove, write and read channels
    #[command(subcommand)]
    Channel(channel::Command),
    /// Create, list, inspect, empty and remove queues; settle receipts
    #[command(subcommand)]
    Queue(queue::Command),
    /// Create, list, inspect and remove topics; try filter policies
    #[command(subcommand)]
    Topic(topic::Command),
    Publish(topic::publish::Args),
    Subscribe(topic::subscribe::Args),
    Unsubscribe(topic::subscribe::UnsubscribeArgs),
    Listen(topic::listen::Args),
    Watch(watch::Args),
    /// Create, list, inspect, split, merge, scale and remove streams
    #[command(subcommand)]
    Stream(stream::Command),
    Send(send::Args),
    Receive(receive::Args),
    Put(put::Args),
    Read(read::Args),
    Agent(agent::Args),
    Work(work::Args),
    Stat(stat::Args),
    Top(top::Args),
    Metrics(metrics::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Journal(journal::Command),
    Demo(demo::Args),
    /// A process of the demonstration
    #[command(hide = true)]
    DemoPart {
        part: String,
    },
    Bench(bench::Args),
    /// Print a completion script for your shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Manual {
        /// Where they go, such as /usr/local/share/man/man1
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let matches = help::finish(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Err(error) = log::begin() {
        eprintln!("ringway: {error:#}");
        return ExitCode::from(2);
    }
    let place = output::Place {
        root: cli.root,
        journal_root: cli.journal_root,
        json: cli.json,
    };
    let done = match cli.command {
        Command::Bus(command) => bus::run(command, &place),
        Command::Channel(command) => channel::run(command, &place),
        Command::Queue(command) => queue::run(command, &place),
        Command::Topic(command) => topic::run(command, &place),
        Command::Publish(args) => topic::publish::run(&args, &place),
        Command::Subscribe(args) => topic::subscribe::run(&args, &place),
        Command::Unsubscribe(args) => topic::subscribe::unsubscribe(&args, &place),
        Command::Listen(args) => topic::listen::run(&args, &place),
        Command::Watch(args) => watch::run(&args, &place),
        Command::Stream(command) => stream::run(command, &place),
        Command::Send(args) => send::run(&args, &place),
        Command::Receive(args) => receive::run(&args, &place),
        Command::Put(args) => put::run(&args, &place),
        Command::Read(args) => read::run(&args, &place),
        Command::Agent(args) => agent::run(&args, &place),
        Command::Work(args) => work::run(&args, &place),
        Command::Journal(command) => journal::run(command, &place),
        Command::Stat(args) => stat::run(&args, &place),
        Command::Top(args) => top::run(&args, &place),
        Command::Metrics(args) => metrics::run(&args, &place),
        Command::Doctor(args) => doctor::run(&args, &place),
        Command::Demo(args) => demo::run(&args, &place),
        Command::DemoPart { part } => demo::run_part(&part),
        Command::Bench(args) => bench::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = help::finish(Cli::command());
            clap_complete::generate(shell, &mut command, "ringway", &mut script);
            output::write_line(script.trim_ascii_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Manual { directory } => manual(&directory),
    };
    done.unwrap_or_else(|error| {
        if let Some(interrupted) = error.downcast_ref::<interrupt::Interrupted>() {
            interrupt::die(interrupted.0);
        }
        eprintln!("ringway: {error:#}");
        if output::is_usage(&error) {
            return ExitCode::from(2);
        }
        ExitCode::FAILURE
    })
}

/// A page for the command and one for each of its subcommands.
fn manual(directory: &Path) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(help::finish(Cli::command()), directory)
        .with_context(|| format!("can't write manual pages into {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        help::finish(Cli::command()).debug_assert();
    }
}
