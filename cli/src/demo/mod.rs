//! `ringway demo`: the whole story on real data, in half a minute, with a kill -9 in the middle.
//!
//! It makes a bus of its own, plays the flights of 2013 through it with processes of its own, kills
//! some of them, and compares what came with what was sent. It ends everything it started, also when
//! it is interrupted, and says by its exit status whether every promise held.

mod durable;
mod flights;
mod leg;
mod part;
mod queue;
mod record;
mod report;
mod stream;
mod topic;
mod troupe;

pub use part::run as run_part;

use crate::interrupt::Signal;
use crate::output::{Place, now_ns, parse_duration};
use anyhow::Context;
use flights::Flights;
use indicatif::{ProgressBar, ProgressStyle};
use leg::{HalfWay, Leg};
use part::{OUTPUTS, Part, Role, STOP};

use report::{Played, Report};
use ringway::Bus;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use troupe::Player;

/// How often it looks, and shows what it sees.
const LOOK: Duration = Duration::from_millis(2);
/// Without a step forward for so long it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Play a year of flights through a bus, kill some of the processes, and check every promise
///
/// Producers send flights, a message each: first to a FIFO queue with a message group for each plane,
/// then to a durable stream whose four shards become eight half-way, with the plane as partition key, then to
/// a topic with three queues, two of them with a filter policy, then to a durable FIFO queue. Consumers
/// write them down, and delete or checkpoint them. Some of the consumers are killed with SIGKILL in the
/// middle of it, and others take their places; in the durable part everybody is, and the bus is removed.
/// In the end every row has to be there, with the bytes it was sent with, and, but for the topic, those
/// of each plane in their order. Exit status 0: every promise held.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Flights as CSV, gzipped if it ends with .gz, with a column tailnum [default: 2,000 rows that
    /// come with the program]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Spread the sends over this time, in each part; 0 for as fast as they can
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    over: Duration,
    /// Only this part of the story
    #[arg(long)]
    only: Option<Chapter>,
    /// Producer processes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    producers: u16,
    /// Consumer processes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    consumers: u16,
    /// Kill a consumer this often, beside those at a quarter, half and three quarters of the rows
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    kill_every: Duration,
    /// Leave the bus and what the consumers wrote down
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Chapter {
    /// The FIFO queue
    Queue,
    /// The stream
    Stream,
    /// The topic and its queues
    Topic,
    /// The durable queue
    Durable,
}

const EXAMPLES: &str = "Examples:
  ringway demo
  ringway demo --data flights.csv.gz --over 0
  ringway demo --only stream --over 1m --kill-every 200ms --json";

/// The bus and the directory of a demonstration, gone when it is dropped.
struct Scene {
    bus: String,
    directory: PathBuf,
    /// On a disk.
    journals: PathBuf,
    root: Option<PathBuf>,
    keep: bool,
}

/// Where journals may lie: what was asked for, or the first temporary directory that is not in memory.
fn journals(place: &Place, name: &str) -> PathBuf {
    const TMPFS: i64 = 0x0102_1994;
    let is_on_disk = |directory: &PathBuf| {
        rustix::fs::statfs(directory).is_ok_and(|found| found.f_type != TMPFS)
    };
    let asked = place.journal_root.clone().into_iter();
    let mut places = asked.chain([std::env::temp_dir(), "/var/tmp".into()]);
    let found = places.find(is_on_disk).unwrap_or_else(std::env::temp_dir);
    found.join(format!("ringway-{name}-journals"))
}

impl Scene {
    fn buses(&self) -> [String; 2] {
        [self.bus.clone(), durable::bus_of(&self.bus)]
    }

    /// What there is to remove, for whoever keeps it.
    fn places(&self) -> String {
        let [bus, on_disk] = self.buses();
        format!(
            "buses {bus} and {on_disk} (ringway bus rm NAME --force), {}, {}",
            self.directory.display(),
            self.journals.display()
        )
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !self.keep {
            // Nobody is left who needs them; what can't be removed is reported by nothing better.
            for bus in self.buses() {
                let _ = Bus::remove_bus(&bus, self.root.as_deref(), true);
            }
            let _ = std::fs::remove_dir_all(&self.directory);
            let _ = std::fs::remove_dir_all(&self.journals);
        }
    }
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let flights = Flights::read(args.data.as_deref())?;
    let name = format!("demo-{}", std::process::id());
    let scene = Scene {
        directory: std::env::temp_dir().join(format!("ringway-{name}")),
        journals: journals(place, &name),
        root: place.root.clone(),
        bus: name,
        keep: args.keep,
    };
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let mut played = Vec::new();
    let on_disk = Place {
        root: place.root.clone(),
        journal_root: Some(scene.journals.clone()),
        json: place.json,
    };
    let bus = on_disk.builder(&scene.bus).create()?;
    let all = [
        Chapter::Queue,
        Chapter::Stream,
        Chapter::Topic,
        Chapter::Durable,
    ];
    for chapter in all {
        if args.only.is_none_or(|only| only == chapter) {
            let mut leg: Box<dyn Leg> = match chapter {
                Chapter::Queue => Box::new(queue::QueueLeg::new(&bus, flights.rows.len())?),
                Chapter::Stream => Box::new(stream::StreamLeg::new(&bus)?),
                Chapter::Topic => Box::new(topic::TopicLeg::new(&bus, &flights)?),
                Chapter::Durable => {
                    let rows = flights.rows.len();
                    Box::new(durable::DurableLeg::new(&on_disk, &scene.bus, rows)?)
                }
            };
            let stage = Stage {
                args,
                place,
                flights: &flights,
                scene: &scene,
                signal: &signal,
            };
            played.push(stage.play(&mut *leg)?);
        }
    }
    drop(bus);
    drop(watch);
    let report = Report {
        flights: &flights,
        producers: args.producers,
        consumers: args.consumers,
        played,
        kept: args.keep.then(|| scene.places()),
    };
    place.say(report.json(), || report.text());
    Ok(if report.is_held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything a leg is played with.
struct Stage<'a> {
    args: &'a Args,
    place: &'a Place,
    flights: &'a Flights,
    scene: &'a Scene,
    signal: &'a Signal,
}

impl Stage<'_> {
    fn play(&self, leg: &mut dyn Leg) -> anyhow::Result<Played> {
        let directory = self.scene.directory.join(leg.name());
        let outputs = directory.join(OUTPUTS);
        std::fs::create_dir_all(&outputs)
            .with_context(|| format!("can't make {}", outputs.display()))?;
        let part = Part {
            role: leg.consumer(),
            root: self.place.root.clone(),
            journal_root: Some(self.scene.journals.clone()),
            bus: match leg.consumer() {
                Role::DurableConsumer => durable::bus_of(&self.scene.bus),
                _ => self.scene.bus.clone(),
            },
            directory: directory.clone(),
            data: self.args.data.clone(),
            index: 0,
            of: 1,
            life: 0,
            start_ns: now_ns(),
            pace_ns: self.args.over.as_nanos() as u64,
        };
        let started = Instant::now();
        let mut consumers = start(&part, leg.consumer(), self.args.consumers)?;
        let mut producers = start(&part, leg.producer(), self.args.producers)?;
        let kills = self.run(leg, &mut producers, &mut consumers)?;
        let seconds = started.elapsed().as_secs_f64();
        std::fs::write(directory.join(STOP), "")?;
        for consumer in &mut consumers {
            consumer.wait()?;
        }
        let wants = |copy, row: &flights::Row| leg.wants(copy, row);
        let findings = record::check(&outputs, self.flights, leg.order(), leg.copies(), wants)?;
        Ok(Played {
            name: leg.name(),
            road: leg.road(),
            kills,
            seconds,
            findings,
            promises: leg.promises(self.flights.rows.len() as u64)?,
        })
    }

    /// Until every row is done; how many were killed.
    fn run(
        &self,
        leg: &mut dyn Leg,
        producers: &mut [Player],
        consumers: &mut [Player],
    ) -> anyhow::Result<u64> {
        let rows = self.flights.rows.len() as u64;
        let bar = bar(rows, leg.name());
        let (mut kills, mut last_kill) = (0, Instant::now());
        let (mut done, mut moved) = (0, Instant::now());
        let mut is_past_half = false;
        loop {
            self.signal.check()?;
            let mut all_sent = true;
            for producer in producers.iter_mut() {
                producer.check()?;
                all_sent &= producer.ended()?.is_some();
            }
            for consumer in consumers.iter_mut() {
                consumer.check()?;
            }
            let stand = leg.stand()?;
            let done_by_now = stand.sent.saturating_sub(stand.left);
            if done_by_now != done {
                (done, moved) = (done_by_now, Instant::now());
                bar.set_position(done);
                bar.set_message(format!("{} on the way, {kills} killed", stand.left));
            }
            if !is_past_half && done * 2 >= rows {
                is_past_half = true;
                if let HalfWay::KillEverybody = leg.half_way()? {
                    for player in producers.iter_mut().chain(consumers.iter_mut()) {
                        player.kill()?;
                    }
                    leg.restart()?;
                    for player in producers.iter_mut().chain(consumers.iter_mut()) {
                        player.replace()?;
                    }
                    (kills, last_kill) = (kills + consumers.len() as u64, Instant::now());
                    continue;
                }
            }
            if all_sent && stand.left == 0 {
                break;
            }
            let quarters = (done * 4 / rows).min(3);
            if kills < quarters || last_kill.elapsed() >= self.args.kill_every {
                let victim = kills as usize % consumers.len();
                consumers[victim].kill()?;
                consumers[victim].replace()?;
                (kills, last_kill) = (kills + 1, Instant::now());
            }
            anyhow::ensure!(
                moved.elapsed() < PATIENCE,
                "{done} of {rows} rows are done, and none more for a minute; {} are on the way",
                stand.left
            );
            std::thread::sleep(LOOK);
        }
        bar.finish_and_clear();
        Ok(kills)
    }
}

/// `of` processes of one role.
fn start(part: &Part, role: Role, of: u16) -> anyhow::Result<Vec<Player>> {
    let of = usize::from(of);
    let indexes = 0..of;
    let part = |index| Part {
        role,
        index,
        of,
        ..part.clone()
    };
    indexes.map(|index| Player::start(part(index))).collect()
}

/// Nothing where standard error is no terminal.
fn bar(rows: u64, name: &'static str) -> ProgressBar {
    let template = "{prefix} {bar:40} {human_pos}/{human_len} rows {per_sec}, {msg}";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(rows).with_prefix(name);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
