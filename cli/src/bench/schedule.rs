//! Which rounds are run, and in which order: A B C, A B C, once for each round.
//!
//! A section is what is comparable: one scenario with one size; times of polled
//! and of blocking receivers are sections of their own, rates stand together. A
//! round that fails is reported (once for each reason) and counted, and the
//! comparison goes on; an interrupt ends it at once.

use super::Args;
use super::roster::{Entrant, Roster};
use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use ringway_measure::sides::Interrupted;
use ringway_measure::{Mode, Offer, Plan, Round, Scenario};
use std::collections::BTreeSet;

/// What is compared with each other.
pub(super) struct Section {
    pub(super) scenario: Scenario,
    /// The one mode of a section of times.
    pub(super) mode: Option<Mode>,
    pub(super) size: usize,
    pub(super) entrants: Vec<(Entrant, Offer)>,
    /// Who offers this, but not of this size.
    skipped: Vec<String>,
}

/// What came of a section's rounds: for each round the records, in order.
pub(super) struct Outcome {
    pub(super) rounds: Vec<Vec<Round>>,
    pub(super) failures: usize,
}

/// The sections that the command line asks for and anybody offers.
pub(super) fn sections(args: &Args, roster: &Roster) -> anyhow::Result<Vec<Section>> {
    let mut sections = Vec::new();
    let is_wanted = |mode: &Mode| args.mode.is_none_or(|wanted| wanted == *mode);
    let modes: Vec<Mode> = [Mode::Spin, Mode::Block]
        .into_iter()
        .filter(is_wanted)
        .collect();
    for scenario in args.wanted() {
        if scenario.is_timed() {
            for mode in &modes {
                sections.extend(section(args, roster, scenario, &[*mode]));
            }
        } else {
            sections.extend(section(args, roster, scenario, &modes));
        }
    }
    if sections.is_empty() {
        bail!("none of the contenders offers this; `ringway bench --list` says who offers what");
    }
    Ok(sections)
}

/// The section of a scenario in these modes, if anybody offers it.
fn section(args: &Args, roster: &Roster, scenario: Scenario, modes: &[Mode]) -> Option<Section> {
    let size = args.size.unwrap_or(scenario.default_size());
    let fits = |offer: &Offer| offer.max_size == 0 || size <= offer.max_size;
    let (entrants, skipped): (Vec<_>, Vec<_>) = roster
        .offering(scenario, modes)
        .into_iter()
        .partition(|(_, offer)| fits(offer));
    let skipped = skipped
        .into_iter()
        .map(|(entrant, offer)| {
            format!(
                "{} (up to {} bytes)",
                entrant.listed.contender, offer.max_size
            )
        })
        .collect();
    let mode = scenario.is_timed().then_some(modes[0]);
    (!entrants.is_empty()).then_some(Section {
        scenario,
        mode,
        size,
        entrants,
        skipped,
    })
}

/// Runs a section's rounds, telling `each` of every record.
pub(super) fn run(
    args: &Args,
    section: &Section,
    progress: &Progress,
    mut each: impl FnMut(&Round) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    if !section.skipped.is_empty() {
        let (word, size) = (section.scenario.word(), section.size);
        progress.say(&format!(
            "{word} of {size} bytes goes without {}",
            section.skipped.join(", ")
        ));
    }
    let mut outcome = Outcome {
        rounds: Vec::new(),
        failures: 0,
    };
    let mut said = BTreeSet::new();
    for _ in 0..args.rounds {
        let mut records = Vec::with_capacity(section.entrants.len());
        for (entrant, offer) in &section.entrants {
            let plan = plan(args, section, entrant, offer);
            progress.at(&plan);
            match entrant.host.round(&plan) {
                Ok(round) => {
                    progress.suspend(|| each(&round))?;
                    records.push(round);
                }
                Err(error) if error.is::<Interrupted>() => return Err(Interrupted.into()),
                Err(error) => {
                    outcome.failures += 1;
                    let line = format!(
                        "{} {} failed: {error}",
                        plan.contender,
                        plan.scenario.word()
                    );
                    if !said.contains(&line) {
                        progress.say(&line);
                        said.insert(line);
                    }
                }
            }
            progress.step();
        }
        outcome.rounds.push(records);
    }
    Ok(outcome)
}

fn plan(args: &Args, section: &Section, entrant: &Entrant, offer: &Offer) -> Plan {
    Plan {
        scenario: section.scenario,
        contender: entrant.listed.contender.clone(),
        size: section.size,
        cores: args.cores.clone(),
        messages: args.messages.unwrap_or_else(|| scaled(offer, section.size)),
        mode: offer.mode,
        ring_bytes: args.ring_bytes,
        stride: args.stride,
        batch: args.batch.unwrap_or(section.scenario.default_batch()),
        backlog: args.backlog,
        in_flight: args.in_flight,
        deadline_s: args.deadline_s,
    }
}

/// An offer's messages, which are meant for the default size, for another one:
/// rates fall with the bytes that have to move, times of small payloads don't.
fn scaled(offer: &Offer, size: usize) -> u64 {
    let usual = offer.scenario.default_size();
    if offer.scenario.is_timed() || size <= usual {
        return offer.messages;
    }
    (offer.messages as f64 * usual as f64 / size as f64).max(1_000.0) as u64
}

/// How far it is, on a terminal only.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// For all rounds of all sections.
    pub(super) fn of(sections: &[Section], rounds: u32) -> Progress {
        let steps: usize = sections.iter().map(|section| section.entrants.len()).sum();
        let bar = ProgressBar::new(steps as u64 * u64::from(rounds));
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  about {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Progress(bar)
    }

    fn at(&self, plan: &Plan) {
        self.0
            .set_message(format!("{} {}", plan.scenario.word(), plan.contender));
    }

    fn step(&self) {
        self.0.inc(1);
    }

    /// Says a line on standard error without disturbing the bar.
    fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    /// Runs what prints, with the bar out of the way.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_payloads_take_fewer_messages_where_bytes_count() {
        let rate = Offer::new(Scenario::Throughput, Mode::Spin, 1_000_000);
        assert_eq!(scaled(&rate, 64), 1_000_000);
        assert_eq!(scaled(&rate, 640), 100_000);
        assert_eq!(scaled(&rate, 1 << 30), 1_000);
        let time = Offer::new(Scenario::Latency, Mode::Spin, 5_000);
        assert_eq!(scaled(&time, 1 << 20), 5_000);
    }
}
