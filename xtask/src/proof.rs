//! Reliability targets: the proofs are test binaries that print JSON lines with their figures; this
//! runs them and reads the fields.

use crate::outcome::{Better, Outcome};
use anyhow::Context;
use serde_json::Value;
use std::collections::HashMap;
use std::process::{Command, Stdio};

/// One field of a proof's lines and its goal.
pub struct Field {
    pub name: &'static str,
    pub what: &'static str,
    pub better: Better,
    pub goal: f64,
    pub unit: &'static str,
    /// How the lines of one proof come together.
    pub fold: Fold,
}

/// How several lines become one figure.
#[derive(Clone, Copy)]
pub enum Fold {
    Sum,
    Least,
    Most,
}

/// A command whose output proves a target.
pub struct Proof {
    pub id: &'static str,
    pub arguments: &'static [&'static str],
    pub variables: &'static [(&'static str, &'static str)],
    pub fields: &'static [Field],
}

/// Runs proofs, each command once.
#[derive(Default)]
pub struct Runner {
    done: HashMap<String, (String, bool)>,
}

impl Runner {
    /// One outcome per field, and one for the test run itself.
    pub fn run(&mut self, proof: &Proof) -> anyhow::Result<Vec<Outcome>> {
        let variables: String = proof
            .variables
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\" "))
            .collect();
        let command = format!("{variables}cargo {}", proof.arguments.join(" "));
        if !self.done.contains_key(&command) {
            eprintln!("running {command}");
            let output = Command::new(env!("CARGO"))
                .args(proof.arguments)
                .envs(proof.variables.iter().copied())
                .stderr(Stdio::inherit())
                .output()
                .with_context(|| format!("can't run {command}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            self.done
                .insert(command.clone(), (text, output.status.success()));
        }
        let (text, passed) = &self.done[&command];
        let mut outcomes = vec![Outcome {
            id: proof.id,
            what: "its tests fail (0: all pass)".to_owned(),
            measured: Some(f64::from(!passed)),
            better: Better::AtMost,
            goal: 0.0,
            unit: "failures",
            command: command.clone(),
        }];
        let lines = lines_of(text);
        for field in proof.fields {
            let values = lines.iter().filter_map(|line| line[field.name].as_f64());
            let measured = match field.fold {
                Fold::Sum => values.reduce(|a, b| a + b),
                Fold::Least => values.reduce(f64::min),
                Fold::Most => values.reduce(f64::max),
            };
            outcomes.push(Outcome {
                id: proof.id,
                what: field.what.to_owned(),
                measured,
                better: field.better,
                goal: field.goal,
                unit: field.unit,
                command: command.clone(),
            });
        }
        Ok(outcomes)
    }
}

/// The JSON lines, wherever they stand in the output of the test runner.
fn lines_of(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_among_the_words_of_a_test_runner() {
        let text = "test a ... {\"target\":\"R1\",\"steps\":3}\nok\n{\"target\":\"R3\"}\n";
        let lines = lines_of(text);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["steps"], 3);
    }
}
