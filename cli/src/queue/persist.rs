//! `ringway queue persist`: a process that writes the journal of a queue, and does nothing else.

use crate::interrupt::Signal;
use crate::output::Place;
use anyhow::bail;
use serde_json::json;
use std::time::Duration;

/// Between two looks for a signal, and for trouble.
const PAUSE: Duration = Duration::from_millis(50);

/// Who sends and deletes waits for the disk all the same, but leaves the work to this process. It keeps the
/// role of the writer until it ends; if it is killed, the next who waits takes over at once.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ringway queue persist demo bills --core 3")]
pub struct Args {
    /// The bus
    bus: String,
    /// The queue, one that is on disk
    #[arg(value_name = "QUEUE")]
    name: String,
    /// Pin the thread to this core
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<()> {
    let (_bus, queue) = place.queue(&args.bus, &args.name)?;
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let persister = queue.persister(args.core)?;
    let json = json!({"queue": args.name, "core": args.core});
    place.say(json, || match args.core {
        Some(core) => format!("writing the journal of {} on core {core}", args.name),
        None => format!("writing the journal of {}", args.name),
    });
    let mut said = None;
    let interrupted = loop {
        if let Err(interrupted) = signal.check() {
            break interrupted;
        }
        let trouble = persister.trouble();
        if trouble != said {
            match &trouble {
                Some(trouble) if persister.is_over() => bail!("{trouble}"),
                Some(trouble) => eprintln!("{trouble}"),
                None => eprintln!("writing again"),
            }
            said = trouble;
        }
        std::thread::sleep(PAUSE);
    };
    persister.stop();
    drop(watch);
    Err(interrupted.into())
}
