//! `ringway demo`: the whole story on real data, in half a minute, with a kill -9 in the middle.
//!
//! It makes a bus of its own, plays the flights of 2013 through it with processes of its own, kills
//! some of them, and compares what came with what was sent. It ends everything it started, also when
//! it is interrupted, and says by its exit status whether every promise held.

mod flights;
mod part;
mod queue;
mod record;
mod troupe;

pub use part::run as run_part;

use crate::interrupt::Signal;
use crate::output::{Place, parse_duration};
use anyhow::Context;
use flights::Flights;
use indicatif::{ProgressBar, ProgressStyle};
use part::{Part, Role};
use record::{Findings, now_ns};
use ringway::{Bus, QueueStats};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use troupe::Player;

/// How often it looks, and shows what it sees.
const LOOK: Duration = Duration::from_millis(2);
/// Without a step forward for so long it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Play a year of flights through a bus, kill some of the processes, and check every promise
///
/// Producers send flights, a message each, to a FIFO queue with a message group for each plane;
/// consumers write them down and delete them. Some of the consumers are killed with SIGKILL in the
/// middle of it, and others take their places. In the end every row has to be there, with the bytes
/// it was sent with, and those of each plane in their order. Exit status 0: every promise held.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Flights as CSV, gzipped if it ends with .gz, with a column tailnum [default: 2,000 rows that
    /// come with the program]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Spread the sends over this time; 0 for as fast as they can
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    over: Duration,
    /// Producer processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    producers: u16,
    /// Consumer processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    consumers: u16,
    /// Kill a consumer this often, beside those at a quarter, half and three quarters of the rows
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    kill_every: Duration,
    /// Leave the bus and what the consumers wrote down
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "Examples:
  ringway demo
  ringway demo --data flights.csv.gz --over 0
  ringway demo --over 1m --kill-every 200ms --json";

/// The bus and the directory of a demonstration, gone when it is dropped.
struct Scene {
    bus: String,
    directory: PathBuf,
    root: Option<PathBuf>,
    keep: bool,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !self.keep {
            // Nobody is left who needs them; what can't be removed is reported by nothing better.
            let _ = Bus::remove_bus(&self.bus, self.root.as_deref(), true);
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let flights = Flights::read(args.data.as_deref())?;
    let name = format!("demo-{}", std::process::id());
    let scene = Scene {
        directory: std::env::temp_dir().join(format!("ringway-{name}")),
        root: place.root.clone(),
        bus: name,
        keep: args.keep,
    };
    let output = scene.directory.join(queue::NAME);
    std::fs::create_dir_all(&output).with_context(|| format!("can't make {}", output.display()))?;
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let played = play(args, place, &flights, &scene, &signal);
    drop(watch);
    let played = played?;
    let findings = record::check(&output, &flights, |_| true)?;
    let report = Report {
        args,
        flights: &flights,
        scene: &scene,
        played,
        findings,
    };
    place.say(report.json(), || report.text());
    Ok(if report.is_held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What there is to say about the running of it.
struct Played {
    kills: u64,
    seconds: f64,
    stats: QueueStats,
}

fn play(
    args: &Args,
    place: &Place,
    flights: &Flights,
    scene: &Scene,
    signal: &Signal,
) -> anyhow::Result<Played> {
    let rows = flights.rows.len();
    let bus = place.builder(&scene.bus).create()?;
    let queue = queue::open(&bus, rows)?;
    let start_ns = now_ns();
    let part = |role, index, of: u16| Part {
        role,
        root: place.root.clone(),
        bus: scene.bus.clone(),
        directory: scene.directory.clone(),
        data: args.data.clone(),
        index,
        of: of.into(),
        life: 0,
        start_ns,
        pace_ns: args.over.as_nanos() as u64,
    };
    let of_all = |role, of| -> anyhow::Result<Vec<Player>> {
        let indexes = 0..usize::from(of);
        indexes
            .map(|index| Player::start(part(role, index, of)))
            .collect()
    };
    let started = Instant::now();
    let mut consumers = of_all(Role::QueueConsumer, args.consumers)?;
    let mut producers = of_all(Role::QueueProducer, args.producers)?;
    let bar = bar(rows as u64);
    let (mut kills, mut last_kill) = (0, started);
    let (mut done, mut moved) = (0, started);
    loop {
        signal.check()?;
        // What is there is counted by the messages themselves; the total of deletes may lack one of
        // a consumer that was killed before it could count it.
        let stats = queue.stats();
        let left = stats.visible + stats.in_flight;
        let done_by_now = stats.sent.saturating_sub(left);
        if done_by_now != done {
            (done, moved) = (done_by_now, Instant::now());
            bar.set_position(done);
            bar.set_message(format!("{left} in the queue, {kills} killed"));
        }
        if done >= rows as u64 {
            break;
        }
        let quarters = done * 4 / rows as u64;
        if kills < quarters || last_kill.elapsed() >= args.kill_every {
            let victim = kills as usize % consumers.len();
            consumers[victim].kill_and_replace()?;
            (kills, last_kill) = (kills + 1, Instant::now());
        }
        for player in producers.iter_mut().chain(&mut consumers) {
            player.check()?;
        }
        anyhow::ensure!(
            moved.elapsed() < PATIENCE,
            "{done} of {rows} rows are done, and none more for a minute: {stats:?}"
        );
        std::thread::sleep(LOOK);
    }
    let seconds = started.elapsed().as_secs_f64();
    for producer in &mut producers {
        producer.wait()?;
    }
    std::fs::write(scene.directory.join("stop"), "")?;
    for consumer in &mut consumers {
        consumer.wait()?;
    }
    bar.finish_and_clear();
    Ok(Played {
        kills,
        seconds,
        stats: queue.stats(),
    })
}

/// Nothing where standard error is no terminal.
fn bar(rows: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} rows {per_sec}, {msg}");
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Report<'a> {
    args: &'a Args,
    flights: &'a Flights,
    scene: &'a Scene,
    played: Played,
    findings: Findings,
}

impl Report<'_> {
    fn is_held(&self) -> bool {
        let (rows, stats) = (self.flights.rows.len() as u64, &self.played.stats);
        let once = (stats.sent, stats.visible, stats.in_flight) == (rows, 0, 0);
        once && stats.duplicates == self.repeats_sent() && self.findings.is_whole()
    }

    fn repeats_sent(&self) -> u64 {
        self.flights.rows.len().div_ceil(queue::REPEAT_EVERY) as u64
    }

    /// Microseconds from send to receive that so much of the rows took at most.
    fn latency_us(&self, quantile: f64) -> f64 {
        self.findings.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    fn json(&self) -> Value {
        let (played, findings) = (&self.played, &self.findings);
        json!({
            "held": self.is_held(),
            "rows": self.flights.rows.len(),
            "planes": self.flights.planes.len(),
            "producers": self.args.producers,
            "consumers": self.args.consumers,
            "killed": played.kills,
            "seconds": played.seconds,
            "lost": findings.lost,
            "inversions": findings.inversions,
            "processed_again": findings.repeats,
            "repeats_sent": self.repeats_sent(),
            "repeats_dropped": played.stats.duplicates,
            "latency_us": {
                "p50": self.latency_us(0.5),
                "p99": self.latency_us(0.99),
                "p999": self.latency_us(0.999),
            },
            "sha256_input": findings.input,
            "sha256_output": findings.output,
        })
    }

    fn text(&self) -> String {
        let (played, findings) = (&self.played, &self.findings);
        let held = |is_held| if is_held { "held" } else { "BROKEN" };
        let rows = self.flights.rows.len();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| self.latency_us(q));
        let mut text = format!(
            "{rows} flights of {planes} planes, from {producers} producers through a FIFO queue to \
             {consumers} consumers\n  \
             took            {seconds:.1} s, {rate:.0} rows a second\n  \
             killed -9       {kills} consumers\n  \
             send to receive p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us\n\
             promises\n  \
             {lost:<6} nothing lost            {n_lost} rows missing\n  \
             {order:<6} order of each plane     {n_inverted} rows out of order\n  \
             {once:<6} each send counts once   {dropped} of {repeats} repeats dropped\n  \
             {bytes:<6} same bytes              SHA-256 {sha}\n  \
             {again} rows were processed again, by the next consumer behind a kill\n",
            planes = self.flights.planes.len(),
            producers = self.args.producers,
            consumers = self.args.consumers,
            seconds = played.seconds,
            rate = rows as f64 / played.seconds,
            kills = played.kills,
            lost = held(findings.lost == 0),
            n_lost = findings.lost,
            order = held(findings.inversions == 0),
            n_inverted = findings.inversions,
            once = held(played.stats.duplicates == self.repeats_sent()),
            dropped = played.stats.duplicates,
            repeats = self.repeats_sent(),
            bytes = held(findings.input == findings.output),
            sha = findings.output,
            again = findings.repeats,
        );
        if self.scene.keep {
            text += &kept(&self.scene.bus, &self.scene.directory);
        }
        text + if self.is_held() {
            "every promise held"
        } else {
            "a promise was BROKEN"
        }
    }
}

fn kept(bus: &str, directory: &Path) -> String {
    format!(
        "kept: bus {bus} (ringway bus rm {bus} --force), {}\n",
        directory.display()
    )
}
