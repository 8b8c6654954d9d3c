//! Speed targets: `ringway bench` runs limit, ringway and peers in interleaved rounds; ratios are
//! taken within a round and medians over rounds.

use crate::outcome::{Better, Outcome};
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs of `ringway bench`, each once per invocation of the targets.
pub struct Bench {
    binary: PathBuf,
    rounds: u32,
    done: HashMap<String, Run>,
}

/// The round records of one run, by round number and contender.
#[derive(Clone)]
struct Run {
    command: String,
    rounds: Vec<HashMap<String, Value>>,
}

/// Two contenders of one scenario.
pub struct Ratio<'a> {
    pub id: &'static str,
    pub what: &'a str,
    pub scenario: &'a [&'a str],
    pub ours: &'a str,
    pub theirs: &'a str,
    pub better: Better,
    pub goal: f64,
}

impl Bench {
    pub fn new(target: &Path, rounds: u32) -> Self {
        Self {
            binary: target.join("ringway"),
            rounds,
            done: HashMap::new(),
        }
    }

    /// The figure of ours over theirs, median over rounds of the ratio within the round.
    pub fn ratio(&mut self, ratio: &Ratio<'_>) -> anyhow::Result<Outcome> {
        let run = self.run(ratio.scenario)?;
        let mut ratios: Vec<f64> = run
            .rounds
            .iter()
            .filter_map(|round| {
                Some(figure(round.get(ratio.ours)?)? / figure(round.get(ratio.theirs)?)?)
            })
            .collect();
        let mut what = format!("{} ({} / {})", ratio.what, ratio.ours, ratio.theirs);
        if ratios.is_empty() {
            what += ": not measured, one of them is not installed or failed";
        }
        Ok(Outcome {
            id: ratio.id,
            what,
            measured: median(&mut ratios),
            better: ratio.better,
            goal: ratio.goal,
            unit: "x",
            command: run.command,
        })
    }

    /// How many messages a second: the median over rounds.
    pub fn rate(
        &mut self,
        id: &'static str,
        what: &str,
        scenario: &[&str],
        ours: &str,
        goal: f64,
    ) -> anyhow::Result<Outcome> {
        let run = self.run(scenario)?;
        let rate = |round: &HashMap<String, Value>| round.get(ours)?["msgs_per_s"].as_f64();
        let mut rates: Vec<f64> = run.rounds.iter().filter_map(rate).collect();
        Ok(Outcome {
            id,
            what: format!("{what} ({ours})"),
            measured: median(&mut rates),
            better: Better::AtLeast,
            goal,
            unit: "msgs/s",
            command: run.command,
        })
    }

    /// One contender's figure in one scenario over the same in another.
    pub fn growth(
        &mut self,
        id: &'static str,
        what: &str,
        [large, small]: [&[&str]; 2],
        ours: &str,
        goal: f64,
    ) -> anyhow::Result<Outcome> {
        let own = |run: &Run| {
            let mut figures: Vec<f64> = run
                .rounds
                .iter()
                .filter_map(|round| figure(round.get(ours)?))
                .collect();
            median(&mut figures)
        };
        let (large, small) = (self.run(large)?, self.run(small)?);
        let measured = own(&large)
            .zip(own(&small))
            .map(|(large, small)| large / small);
        let command = format!("{}; {}", small.command, large.command);
        let what = what.to_owned();
        Ok(Outcome {
            id,
            what,
            measured,
            better: Better::AtMost,
            goal,
            unit: "x",
            command,
        })
    }

    /// How much later than half of them one in a hundred comes: the median over rounds of p99 over
    /// p50.
    pub fn spread(
        &mut self,
        id: &'static str,
        what: &str,
        scenario: &[&str],
        ours: &str,
        goal: f64,
    ) -> anyhow::Result<Outcome> {
        let run = self.run(scenario)?;
        let mut spreads: Vec<f64> = run
            .rounds
            .iter()
            .filter_map(|round| {
                let round = round.get(ours)?;
                Some(round["p99_ns"].as_f64()? / round["p50_ns"].as_f64()?)
            })
            .collect();
        Ok(Outcome {
            id,
            what: what.to_owned(),
            measured: median(&mut spreads),
            better: Better::AtMost,
            goal,
            unit: "x",
            command: run.command,
        })
    }

    fn run(&mut self, scenario: &[&str]) -> anyhow::Result<Run> {
        let key = scenario.join(" ");
        if let Some(run) = self.done.get(&key) {
            return Ok(run.clone());
        }
        let rounds = self.rounds.to_string();
        let mut arguments = vec!["bench"];
        arguments.extend(scenario);
        arguments.extend(["--rounds", &rounds, "--json"]);
        let command = format!("ringway {}", arguments.join(" "));
        eprintln!("running {command}");
        let output = Command::new(&self.binary)
            .args(&arguments)
            .stderr(std::process::Stdio::inherit())
            .output()
            .with_context(|| format!("can't start {}", self.binary.display()))?;
        let run = Run {
            command,
            rounds: rounds_of(&String::from_utf8_lossy(&output.stdout)),
        };
        if run.rounds.is_empty() {
            bail!("{} printed no rounds ({})", run.command, output.status);
        }
        self.done.insert(key, run.clone());
        Ok(run)
    }
}

/// Splits the records into rounds: a contender that comes again begins the next one.
fn rounds_of(text: &str) -> Vec<HashMap<String, Value>> {
    let mut rounds: Vec<HashMap<String, Value>> = Vec::new();
    for line in text.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if record["record"] != "round" {
            continue;
        }
        let Some(contender) = record["contender"].as_str().map(str::to_owned) else {
            continue;
        };
        if rounds
            .last()
            .is_none_or(|round| round.contains_key(&contender))
        {
            rounds.push(HashMap::new());
        }
        if let Some(round) = rounds.last_mut() {
            round.insert(contender, record);
        }
    }
    rounds
}

/// The figure that ratios are made of: means where there are, block means without a clock in them for times, else the
/// median, else the rate.
fn figure(round: &Value) -> Option<f64> {
    ["mean_ns", "block_p50_ns", "p50_ns", "msgs_per_s"]
        .iter()
        .find_map(|field| round[*field].as_f64())
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let line = |contender: &str, figure: f64| {
            format!(r#"{{"record":"round","contender":"{contender}","block_p50_ns":{figure}}}"#)
        };
        let text = [
            line("limit", 100.0),
            line("ours", 120.0),
            line("limit", 50.0),
            line("ours", 55.0),
        ]
        .join("\n");
        let rounds = rounds_of(&text);
        assert_eq!(rounds.len(), 2);
        let ratio = figure(&rounds[1]["ours"]).unwrap() / figure(&rounds[1]["limit"]).unwrap();
        assert!((ratio - 1.1).abs() < 1e-9);
    }
}
