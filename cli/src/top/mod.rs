//! `ringway top`: buses as they live, in a terminal.
//!
//! A thread [watches](watch), this one draws what it was told last and obeys keys. [`rows`] says what there is
//! to be seen of each kind, [`screen`] what of it is shown, [`draw`] how. The terminal is given back whatever
//! ends it: a key, a signal, an error, a panic.

mod draw;
mod rows;
mod screen;
mod watch;

use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration, write_line};
use crate::stat::SHORTEST;
use anyhow::Context;
use crossterm::event::{self, Event, KeyEventKind};
use rows::Tab;
use screen::{Deed, Screen};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// How soon a key, a signal or a new look is seen.
const LOOK: Duration = Duration::from_millis(50);
/// Columns of a frame that is printed where there is no terminal.
const COLUMNS: u16 = 100;

/// Watch buses live: queues, streams, topics, channels, participants, rates, lags, who holds what
///
/// Watching takes no part in a bus and changes nothing in it; permission to read is enough. Each look is made
/// by a process of its own, so a bus that goes away or is damaged meanwhile is told, and the rest goes on.
/// Where standard output is no terminal, or with --once, every table is printed once.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this bus [default: all under the root, also those that come later]
    bus: Option<String>,
    /// Between two looks
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    interval: Duration,
    /// What to begin with
    #[arg(long, default_value = "queues")]
    tab: Tab,
    /// Only rows with this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Print every table once, with the rates of one interval
    #[arg(long)]
    once: bool,
}

const EXAMPLES: &str = "Examples:
  ringway top
  ringway top demo --tab streams --interval 250ms
  ringway top demo --once | grep orders
Keys:
  tab, shift-tab, 1 to 7   tables: buses, queues, streams, topics, channels, holders, participants
  s, S, r                  sort by the next column, the one before, the other way round
  /                        show only rows with a text; enter keeps it, escape forgets it
  up, down, page up/down, home, end
  + -                      look less, more often;  p pauses;  ? explains;  q ends";

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    if args.interval < SHORTEST {
        return Err(Usage(format!("an interval is {SHORTEST:?} at least")).into());
    }
    if let Some(bus) = &args.bus
        && !place.buses().unwrap_or_default().contains(bus)
    {
        // Says which there are.
        place.observe(bus)?;
    }
    let signal = Signal::default();
    let mut screen = Screen::new(place.root(), args.bus.clone(), args.interval);
    screen.tab = args.tab;
    screen.filter.clone_from(&args.filter);
    if args.once || place.json || !std::io::stdout().is_terminal() {
        let _watch = signal.watch(|| {})?;
        return once(&mut screen, place);
    }
    // A command that does not end of a signal by itself leaves the terminal as it was all the same.
    let _watch = signal.watch(ratatui::restore)?;
    let mut terminal = ratatui::try_init().context("can't use this terminal")?;
    // Behind an error too; behind a panic a hook has done it.
    let ended = live(&mut terminal, &mut screen, place, &signal);
    ratatui::restore();
    ended?;
    signal.check()?;
    Ok(ExitCode::SUCCESS)
}

fn once(screen: &mut Screen, place: &Place) -> anyhow::Result<ExitCode> {
    screen.take(watch::twice(place, screen.bus(), screen.interval));
    if place.json {
        write_line(serde_json::to_string(&screen.snapshots())?.as_bytes());
    } else {
        let columns = std::env::var("COLUMNS").ok();
        let columns = columns.and_then(|columns| columns.parse().ok());
        write_line(draw::text(screen, columns.unwrap_or(COLUMNS)).as_bytes());
    }
    Ok(match screen.has_failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn live(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    place: &Place,
    signal: &Signal,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let (watcher, looks) = watch::start(scope, place, screen.bus(), screen.interval);
        let mut is_old = true;
        while signal.check().is_ok() {
            while let Ok(seen) = looks.try_recv() {
                if !screen.is_paused {
                    screen.take(seen);
                    is_old = true;
                }
            }
            if is_old {
                terminal.draw(|frame| draw::frame(frame, screen))?;
                is_old = false;
            }
            if !event::poll(LOOK)? {
                continue;
            }
            // Whatever it is: a key, or a terminal of another size.
            is_old = true;
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
            {
                match screen.obey(key) {
                    Deed::GoOn => {}
                    Deed::End => break,
                    Deed::LookEvery(interval) => {
                        // It has ended only if this thread has.
                        let _ = watcher.send(interval);
                    }
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
