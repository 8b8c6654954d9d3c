//! `ringway bench backlog`: what a backlog costs in memory, when it lies on a disk.
//!
//! One process fills a queue that spills and drains it again, and looks at its own memory on the way, as the
//! kernel counts it: what is in memory at a time, by kind, and the most there was. Every message is a number
//! that has to come once. With `--durable` the memory of the whole bus is deleted in between, and the queue made
//! again from its journal; the peak begins anew there.

use super::print_line;
use crate::interrupt::Signal;
use crate::output::parse_bytes;
use anyhow::{Context, bail, ensure};
use ringway::{Bus, Durability, Queue};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Messages of a receive, which are deleted together.
const BATCH: usize = 256;
/// Messages of a send.
const SENDS: u64 = 1024;

/// Fill a queue whose further rings lie on a disk, drain it, and show memory on the way
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  ringway bench backlog --messages 10000000
  ringway bench backlog --durable --messages 3000000
  ringway bench backlog --messages 100000000 --disk /mnt/scratch --json")]
pub struct Args {
    /// Messages that wait at a time
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,

    /// Bytes from slot to slot; messages have 8
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_bytes)]
    stride: u64,

    /// The directory that the rings lie under, on a disk with room for them [default: $TMPDIR, or /var/tmp]
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,

    /// Leave the rings in memory, to compare
    #[arg(long)]
    memory: bool,

    /// A durable queue: filled, lost with all memory, made again from its journal, drained
    #[arg(long)]
    durable: bool,

    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

/// How it stands at one moment.
#[derive(Serialize)]
struct Look {
    record: &'static str,
    phase: &'static str,
    /// Messages that wait.
    backlog: u64,
    /// Bytes of the files of its rings.
    ring_bytes: u64,
    /// Since the beginning of the phase.
    seconds: f64,
    messages_per_s: f64,
    /// Resident bytes: its own, of files on a disk, of files in memory; and the most of all three together.
    anonymous: u64,
    file: u64,
    shared_memory: u64,
    most: u64,
}

/// Takes everything away, however it ends.
struct Place {
    bus: Option<Bus>,
    name: String,
    disk: PathBuf,
}

impl Place {
    fn bus(&self) -> ringway::Builder {
        let bus = Bus::builder(&self.name).journal_root(&self.disk);
        bus.pool_bytes(1 << 20)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bus = None;
        let _ = Bus::remove_bus(&self.name, None, true);
        // A thread of a queue that is closed may be about to finish a last file.
        let mut removed = std::fs::remove_dir_all(&self.disk);
        if removed.is_err() {
            removed = std::fs::remove_dir_all(&self.disk);
        }
        if let Err(error) = removed {
            eprintln!("{} is left, remove it: {error}", self.disk.display());
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let parent = match &args.disk {
        Some(disk) => disk.clone(),
        None => std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from),
    };
    let name = format!("backlog-{}", std::process::id());
    let disk = parent.join(format!("ringway-{name}"));
    std::fs::create_dir_all(&disk).with_context(|| format!("creating {}", disk.display()))?;
    let mut place = Place {
        bus: None,
        disk,
        name,
    };
    let bus = place.bus().create()?;
    let queue = bus
        .queue("backlog")
        .durability(match args.durable {
            true => Durability::Durable,
            false => Durability::Memory,
        })
        .slots(16_384)
        .stride(args.stride)
        .max_bytes(3 * (args.messages * args.stride).max(64 << 20))
        .spill(!args.memory)
        .create()?;
    place.bus = Some(bus);
    if !args.json {
        println!(
            "{:>8} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "", "backlog", "rings", "msg/s", "anon", "file", "shm", "peak"
        );
    }
    let signal = Signal::default();
    let _watch = signal.watch(|| {})?;
    let mut run = Run {
        args,
        place,
        signal,
    };
    // Closed before its files are taken away, however it ends.
    let queue = run.fill(queue)?;
    let queue = match args.durable {
        true => run.restart(queue)?,
        false => queue,
    };
    run.drain(queue)?;
    Ok(ExitCode::SUCCESS)
}

struct Run<'a> {
    args: &'a Args,
    place: Place,
    signal: Signal,
}

impl Run<'_> {
    fn fill(&self, queue: Queue) -> anyhow::Result<Queue> {
        let mut sender = queue.sender()?;
        let (begun, mut sent) = (Instant::now(), 0u64);
        let mut next = 100_000.min(self.args.messages);
        while sent < self.args.messages {
            let until = self.args.messages.min(sent + SENDS);
            let bodies: Vec<_> = (sent..until).map(u64::to_le_bytes).collect();
            sent += sender.send_batch(&bodies)? as u64;
            if sent >= next || sent == self.args.messages {
                self.look("fill", sent, sent, begun)?;
                next = (next * 10).min(self.args.messages);
            }
            self.signal.check()?;
        }
        Ok(queue)
    }

    /// Deletes what is in memory, and opens the queue again, which reads its journal.
    fn restart(&mut self, queue: Queue) -> anyhow::Result<Queue> {
        let directory = self
            .place
            .bus
            .as_ref()
            .map(|bus| bus.directory().to_owned());
        drop(queue);
        self.place.bus = None;
        if let Some(directory) = directory {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("removing {}", directory.display()))?;
        }
        // What was the most so far is forgotten: 5 is that, in proc(5).
        std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak")?;
        let begun = Instant::now();
        let bus = self.place.bus().create()?;
        let queue = bus.queue("backlog").open()?;
        self.place.bus = Some(bus);
        self.look("recover", self.args.messages, self.args.messages, begun)?;
        Ok(queue)
    }

    fn drain(&self, queue: Queue) -> anyhow::Result<()> {
        let mut receiver = queue.receiver()?;
        let mut receipts = Vec::with_capacity(BATCH);
        let (begun, mut received) = (Instant::now(), 0u64);
        let mut next = self.args.messages / 10;
        while received < self.args.messages {
            receipts.clear();
            let mut expected = received;
            let mut is_next = true;
            receiver.receive_each(BATCH, |message, body| {
                is_next &= body == expected.to_le_bytes();
                expected += 1;
                receipts.push(message.receipt);
            })?;
            if !is_next {
                bail!("a message behind {received} is not the one that was sent then");
            }
            if receipts.is_empty() {
                bail!("{received} of {} came", self.args.messages);
            }
            let failed = receiver.delete_batch(&receipts);
            ensure!(failed.is_empty(), "a delete failed: {:?}", failed[0].1);
            received += receipts.len() as u64;
            if received >= next || received == self.args.messages {
                let left = self.args.messages - received;
                self.look("drain", left, received, begun)?;
                next += self.args.messages / 10;
            }
            self.signal.check()?;
        }
        Ok(())
    }

    fn look(
        &self,
        phase: &'static str,
        backlog: u64,
        done: u64,
        begun: Instant,
    ) -> anyhow::Result<()> {
        let status = std::fs::read_to_string("/proc/self/status").context("reading /proc")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next());
            kib.and_then(|kib| kib.parse::<u64>().ok())
                .map_or(0, |kib| kib << 10)
        };
        let seconds = begun.elapsed().as_secs_f64();
        let bus = self.place.bus.as_ref();
        let objects = bus.map_or_else(|| Ok(Vec::new()), Bus::objects)?;
        let ring_bytes = objects.iter().map(|object| object.bytes).sum();
        let look = Look {
            record: "backlog",
            phase,
            backlog,
            ring_bytes,
            seconds,
            messages_per_s: done as f64 / seconds,
            anonymous: field("RssAnon:"),
            file: field("RssFile:"),
            shared_memory: field("RssShmem:"),
            most: field("VmHWM:"),
        };
        if self.args.json {
            return print_line(&look);
        }
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        println!(
            "{phase:>8} {backlog:>12} {:>12} {:>10.0} {:>10} {:>10} {:>10} {:>10}",
            mib(ring_bytes),
            look.messages_per_s,
            mib(look.anonymous),
            mib(look.file),
            mib(look.shared_memory),
            mib(look.most),
        );
        Ok(())
    }
}
