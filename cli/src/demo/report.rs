//! The closing report: what happened, and which promises held.

use super::flights::Flights;
use super::leg::Promise;
use super::record::{Findings, Order};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// One part of the story, as it went.
pub struct Played {
    pub name: &'static str,
    pub road: String,
    pub kills: u64,
    pub seconds: f64,
    pub findings: Findings,
    pub promises: Vec<Promise>,
}

impl Played {
    fn is_held(&self) -> bool {
        self.findings.is_whole() && self.promises.iter().all(|promise| promise.is_held)
    }

    /// Microseconds from send to receive that so much of the rows took at most.
    fn latency_us(&self, quantile: f64) -> f64 {
        self.findings.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    fn json(&self, rows: usize) -> Value {
        let findings = &self.findings;
        let figures = self.promises.iter().flat_map(|promise| &promise.figures);
        let mut all: Map<String, Value> = figures
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let common = json!({
            "name": self.name,
            "held": self.is_held(),
            "killed": self.kills,
            "seconds": self.seconds,
            "rows_per_s": rows as f64 / self.seconds,
            "wanted": findings.wanted,
            "lost": findings.lost,
            "inversions": findings.inversions,
            "processed_again": findings.repeats,
            "latency_us": {
                "p50": self.latency_us(0.5),
                "p99": self.latency_us(0.99),
                "p999": self.latency_us(0.999),
            },
            "sha256_input": findings.input,
            "sha256_output": findings.output,
        });
        if let Value::Object(common) = common {
            all.extend(common);
        }
        Value::Object(all)
    }

    fn text(&self, rows: usize, text: &mut String) -> std::fmt::Result {
        let findings = &self.findings;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| self.latency_us(q));
        let rate = rows as f64 / self.seconds;
        writeln!(text, "\nthrough {}", self.road)?;
        writeln!(
            text,
            "  took            {:.1} s, {rate:.0} rows a second, {} consumers killed -9",
            self.seconds, self.kills
        )?;
        writeln!(
            text,
            "  send to receive p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us"
        )?;
        let is_same = findings.input == findings.output;
        let lost = format!("{} of {} rows missing", findings.lost, findings.wanted);
        promise(text, "nothing lost", findings.lost == 0, &lost)?;
        if findings.order != Order::None {
            let told = format!("{} rows out of order", findings.inversions);
            promise(text, "order of each plane", findings.inversions == 0, &told)?;
        }
        let sha = format!("SHA-256 {}", findings.output);
        promise(text, "same bytes", is_same, &sha)?;
        for said in &self.promises {
            promise(text, said.name, said.is_held, &said.told)?;
        }
        writeln!(
            text,
            "  {} rows were processed again, by whoever came behind a kill",
            findings.repeats
        )
    }
}

fn promise(text: &mut String, name: &str, is_held: bool, told: &str) -> std::fmt::Result {
    let held = if is_held { "held" } else { "BROKEN" };
    writeln!(text, "  {held:<6} {name:<24} {told}")
}

pub struct Report<'a> {
    pub flights: &'a Flights,
    pub producers: u16,
    pub consumers: u16,
    pub played: Vec<Played>,
    /// What was left, if anything was.
    pub kept: Option<String>,
}

impl Report<'_> {
    pub fn is_held(&self) -> bool {
        self.played.iter().all(Played::is_held)
    }

    pub fn json(&self) -> Value {
        let rows = self.flights.rows.len();
        let parts = self.played.iter().map(|played| played.json(rows));
        json!({
            "held": self.is_held(),
            "rows": rows,
            "planes": self.flights.planes.len(),
            "producers": self.producers,
            "consumers": self.consumers,
            "parts": parts.collect::<Vec<_>>(),
        })
    }

    pub fn text(&self) -> String {
        let rows = self.flights.rows.len();
        let mut text = format!(
            "{rows} flights of {} planes, from {} producers to {} consumers\n",
            self.flights.planes.len(),
            self.producers,
            self.consumers
        );
        for played in &self.played {
            played
                .text(rows, &mut text)
                .expect("writing to a string does not fail");
        }
        if let Some(kept) = &self.kept {
            text += &format!("\nkept: {kept}\n");
        }
        text + if self.is_held() {
            "\nevery promise held"
        } else {
            "\na promise was BROKEN"
        }
    }
}
