//! `ringway work`: a pool of workers that run a command for each message.
//!
//! The main thread decides and reports; each worker is a thread with a receiver of its own
//! ([`worker`]) that runs one command at a time ([`job`]). How many there are follows the backlog
//! ([`scale`]). A signal stops receiving and lets commands finish; a second one kills them and gives
//! their messages back. Killed itself, the pool leaves its commands running, and its messages are
//! received again: at least once.

mod job;
mod pool;
mod report;
mod scale;
mod worker;

use crate::interrupt::{self, Interrupted};
use crate::output::{Place, Usage, parse_duration};
use anyhow::anyhow;
use pool::{Event, Options, Pool};
use report::Report;
use scale::Scaler;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often the backlog is looked at, at most: a look costs a millisecond per 100,000 slots.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Of the time, at most this part goes into looking.
const LOOKING_PART: u32 = 20;
/// So that a look that is overdue is no busy loop.
const LEAST_SLEEP: Duration = Duration::from_millis(1);
/// Without workers nobody waits for messages, so nobody looks for the dead.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// Run a command for each message of a queue, in as many workers as its backlog asks for
///
/// The command gets the body on standard input, and in its environment RINGWAY_BUS, RINGWAY_QUEUE,
/// RINGWAY_RECEIPT, RINGWAY_RECEIVES (how often it was received), RINGWAY_SENT_MS (Unix time),
/// RINGWAY_BODY_LEN, RINGWAY_GROUP and RINGWAY_DEDUP_ID where there is one, and RINGWAY_ATTR_name for
/// each attribute (characters other than letters, digits and _ become _; binary values in base64).
///
/// Exit status 0 deletes the message. Anything else gives it back: it is tried again after
/// --nack-delay, until it goes to the queue's dead-letter queue; where there is none the delay is
/// doubled with each receive, up to 15 minutes. While the command runs, the message stays
/// invisible. SIGTERM or Ctrl-C: no more messages are received, commands finish; a second one kills
/// them and gives their messages back; a third ends the pool on the spot. Should the pool itself be killed, its messages are received
/// again within milliseconds, while its commands go on: let a command bear to be run twice, or let it
/// die with the pool: -- setpriv --pdeathsig KILL COMMAND.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The queue
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Fewest workers, 0 to 500
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=500))]
    min: u32,
    /// Most workers, 1 to 500 [default: --min, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    max: Option<u32>,
    /// Messages, waiting or being worked on, for which there shall be one worker
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    backlog_per_worker: u64,
    /// The backlog has to ask for more workers for this long
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    scale_up_after: Duration,
    /// The backlog has to ask for fewer workers for this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    scale_down_after: Duration,
    /// How long a message stays invisible without a sign of life of its worker, which extends it while
    /// its command runs [default: what the queue says]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    visibility: Option<Duration>,
    /// When a message is tried again whose command failed
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    nack_delay: Duration,
    /// Ends a command that runs for longer: SIGTERM, five seconds later SIGKILL; it has failed
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    kill_after: Option<Duration>,
    /// End when so many messages were worked on, whatever came of them
    #[arg(long, value_name = "N", conflicts_with = "drain")]
    count: Option<u64>,
    /// End when the queue is empty: nothing visible, in flight or delayed
    #[arg(long)]
    drain: bool,
    /// The command and its arguments, behind --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXAMPLES: &str = "Examples:
  ringway work demo mail -- sendmail -t
  ringway work demo films --min 1 --max 8 --backlog-per-worker 5 -- ./encode.sh
  ringway work demo orders --max 4 --drain --kill-after 1m -- sh -c 'cat > out/$RINGWAY_RECEIPT'
  ringway work demo orders --json -- ./handle | jq -c 'select(.event == \"failed\")'";

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let max = args.max.unwrap_or(args.min.max(1));
    if max < args.min {
        let text = format!("--max {max} is less than --min {}", args.min);
        return Err(Usage(text).into());
    }
    find_command(&args.command[0])?;
    let (bus, queue) = place.queue(&args.bus, &args.name)?;
    let options = Options {
        bus: args.bus.clone(),
        root: place.root.clone(),
        command: args.command.clone(),
        visibility: args.visibility,
        nack_delay: args.nack_delay,
        kill_after: args.kill_after,
        output_to_stderr: place.json,
    };
    options.check(&queue)?;
    let mut pool = Pool::new(queue.clone(), options, args.count)?;
    let signals = pool.signals();
    let watch = interrupt::watch(move |signal, nth, _| signals.tell(signal, nth))?;
    let mut scaler = Scaler::new(
        args.min as usize..=max as usize,
        args.backlog_per_worker,
        args.scale_up_after,
        args.scale_down_after,
    );
    let mut report = Report::new(place.json);
    let start = Instant::now();
    let (mut look_at, mut reap_at) = (start, start + REAP_EVERY);
    let mut failure = None;
    // Until all workers have left, behind a stop.
    loop {
        let now = Instant::now();
        if now >= look_at && !pool.is_stopping() {
            let stats = queue.stats();
            let running = report.running();
            let backlog = stats.visible + running;
            report.backlog(stats.visible);
            let left = stats.in_flight + stats.delayed + stats.moving;
            if args.drain && backlog + left == 0 {
                pool.stop();
                continue;
            }
            let wanted = scaler.decide(now - start, backlog);
            if let Some(was) = pool.scale(wanted) {
                report.scaled(was, wanted, backlog);
            }
            if wanted == 0 && now >= reap_at {
                // An object that can't be swept now is met again by the next.
                let _ = bus.reap();
                reap_at = now + REAP_EVERY;
            }
            look_at = now + LOOK_EVERY.max(now.elapsed() * LOOKING_PART);
        }
        // Workers tell everything before they leave.
        let have_all_left = pool.is_stopping() && pool.workers() == 0;
        let patience = if have_all_left {
            Duration::ZERO
        } else {
            look_at.clamp(now + LEAST_SLEEP, now + LOOK_EVERY) - now
        };
        match pool.events.recv_timeout(patience) {
            Ok(Event::Left) => pool.left(),
            Ok(Event::Failed(error)) => {
                pool.stop();
                failure.get_or_insert(error);
            }
            Ok(Event::Signal(signal, nth)) => report.signal(signal, nth),
            Ok(Event::Started(started)) => report.started(&started),
            Ok(Event::Ended(ended)) => {
                report.ended(&ended);
                if args.count.is_some_and(|count| report.worked() >= count) {
                    pool.stop();
                }
                // The last message of a queue that is to be drained, perhaps.
                if args.drain && report.running() == 0 {
                    look_at = look_at.min(Instant::now());
                }
            }
            Err(_) if have_all_left => break,
            Err(_) => {}
        }
        if report.is_closed() {
            pool.stop(); // nobody reads it any more
        }
    }
    pool.join()?;
    drop(watch);
    report.summary();
    match (failure, pool.killed_by()) {
        (Some(error), _) => Err(error),
        (None, Some(signal)) => Err(Interrupted(signal).into()),
        (None, None) => Ok(ExitCode::SUCCESS),
    }
}

/// Whether the command is there, before any message is received for it.
pub fn find_command(command: &OsString) -> anyhow::Result<()> {
    let is_executable = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let found = if command.as_encoded_bytes().contains(&b'/') {
        is_executable(Path::new(command))
    } else {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|path| is_executable(&path.join(command)))
    };
    if found {
        return Ok(());
    }
    Err(anyhow!(
        "there is no command {command:?} that can be run; give its path, or `sh -c '...'`"
    ))
}
