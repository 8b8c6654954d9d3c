//! The record of one round, and the spread of times behind it.
//!
//! Times are one-way: half of a round trip, or for `wake` from the send on one
//! side until the receiver runs on the other. A field that a scenario has no
//! figure for is absent, never zero. `block_p50_ns` is the figure for ratios:
//! the median over blocks of 1,000 round trips of the block's mean, taken with
//! two clock readings a block, so it carries no cost of a clock per message. `mean_ns`
//! takes its place where what is rare has to count, too.

use crate::plan::{Mode, Plan, Scenario};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One line of output of the `round` verb.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    pub contender: String,
    pub scenario: Scenario,
    pub mode: Mode,
    pub size: usize,
    pub cores: Vec<usize>,
    pub messages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_p50_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msgs_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<f64>,
    /// Depth: the mean time of a message's whole life, and of its three operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_ns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_ns: Option<f64>,
    /// Depth: memory of the process that is its own, and that it shares, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_bytes: Option<u64>,
    /// (percentile, ns), ascending; for plots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<(f64, f64)>,
}

impl Round {
    /// A record of `plan` that has no figures yet.
    pub fn of(plan: &Plan) -> Round {
        Round {
            contender: plan.contender.clone(),
            scenario: plan.scenario,
            mode: plan.mode,
            size: plan.size,
            cores: plan.cores.clone(),
            messages: plan.messages,
            p50_ns: None,
            p90_ns: None,
            p99_ns: None,
            p999_ns: None,
            max_ns: None,
            block_p50_ns: None,
            msgs_per_s: None,
            bytes_per_s: None,
            mean_ns: None,
            send_ns: None,
            receive_ns: None,
            delete_ns: None,
            private_bytes: None,
            shared_bytes: None,
            percentiles: Vec::new(),
        }
    }

    /// Takes over the figures of a spread of times.
    pub fn with_spread(mut self, spread: &Spread) -> Round {
        let at = |quantile| Some(spread.at(quantile));
        (self.p50_ns, self.p90_ns) = (at(0.5), at(0.9));
        (self.p99_ns, self.p999_ns) = (at(0.99), at(0.999));
        self.max_ns = Some(spread.max_ns);
        self.percentiles = spread.points.clone();
        self
    }

    /// Sets the rates from a count and the time it took.
    pub fn with_rate(mut self, count: u64, elapsed_ns: f64) -> Round {
        let rate = count as f64 / (elapsed_ns / 1e9);
        self.msgs_per_s = Some(rate);
        self.bytes_per_s = Some(rate * self.size as f64);
        self
    }

    /// The figure that ratios are made of: a time in ns, or messages per second.
    pub fn figure(&self) -> Option<f64> {
        if self.scenario.is_timed() {
            self.mean_ns.or(self.block_p50_ns).or(self.p50_ns)
        } else {
            self.msgs_per_s
        }
    }
}

/// Points a decade of (100 − percentile): enough for a smooth curve.
const POINTS_PER_DECADE: i32 = 8;

/// A distribution boiled down to the points that plots and tables use.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    pub max_ns: f64,
    points: Vec<(f64, f64)>,
    marks: Vec<(f64, f64)>,
}

impl Spread {
    /// The value at one of the quantiles that tables show.
    pub fn at(&self, quantile: f64) -> f64 {
        self.marks
            .iter()
            .find(|mark| mark.0 == quantile)
            .map_or(f64::NAN, |mark| mark.1)
    }
}

/// Collects times of one side. Recording allocates nothing.
pub struct Times {
    picoseconds: Histogram<u64>,
}

impl Default for Times {
    fn default() -> Times {
        Times::new()
    }
}

impl Times {
    /// Empty; holds 1 ps to 1,000 s at three significant digits.
    pub fn new() -> Times {
        let picoseconds = Histogram::new_with_bounds(1, 1_000_000_000_000_000, 3);
        Times {
            picoseconds: picoseconds.expect("the bounds are constants that the histogram accepts"),
        }
    }

    /// Adds one; what is beyond the bounds counts as the bound.
    #[inline]
    pub fn record_ns(&mut self, ns: f64) {
        self.picoseconds.saturating_record((ns * 1e3) as u64);
    }

    /// The points of everything recorded.
    pub fn spread(&self) -> Spread {
        let count = self.picoseconds.len();
        let ns_at = |quantile: f64| self.picoseconds.value_at_quantile(quantile) as f64 / 1e3;
        // A percentile beyond 1 − 1/count would only repeat the maximum.
        let points = (0..=6 * POINTS_PER_DECADE)
            .map(|step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(POINTS_PER_DECADE)))
            .take_while(|quantile| (1.0 - quantile) * count as f64 >= 1.0)
            .map(|quantile| (quantile * 100.0, ns_at(quantile)))
            .collect();
        let marks = [0.5, 0.9, 0.99, 0.999]
            .map(|quantile| (quantile, ns_at(quantile)))
            .to_vec();
        Spread {
            max_ns: self.picoseconds.max() as f64 / 1e3,
            points,
            marks,
        }
    }
}

/// The middle value, the mean of the two middle ones of an even number.
/// `None` of nothing. Values that are not numbers sort last.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[len / 2]),
        len => Some(f64::midpoint(sorted[len / 2 - 1], sorted[len / 2])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_keeps_the_percentiles_of_what_was_recorded() {
        let mut times = Times::new();
        (1..=1000).for_each(|ns| times.record_ns(f64::from(ns)));
        let spread = times.spread();
        assert!((spread.at(0.5) - 500.0).abs() < 2.0);
        assert!((spread.at(0.99) - 990.0).abs() < 2.0);
        assert!((spread.max_ns - 1000.0).abs() < 2.0);
        assert!(
            spread
                .points
                .is_sorted_by(|left, right| left.0 < right.0 && left.1 <= right.1)
        );
        assert!(spread.points.last().expect("there are points").0 >= 99.85);
    }

    #[test]
    fn a_record_survives_its_line() {
        let plan = Plan {
            scenario: Scenario::Latency,
            contender: "x".into(),
            size: 64,
            cores: vec![0, 1],
            messages: 10,
            mode: Mode::Spin,
            ring_bytes: 4096,
            stride: 0,
            batch: 1,
            backlog: 0,
            in_flight: 0,
            deadline_s: 1,
        };
        let line = serde_json::to_string(&Round::of(&plan).with_rate(10, 1e9)).expect("plain data");
        let back: Round = serde_json::from_str(&line).expect("its own line");
        assert_eq!(
            (back.msgs_per_s, back.bytes_per_s, back.p50_ns),
            (Some(10.0), Some(640.0), None)
        );
        assert!(
            !line.contains("p50_ns"),
            "an absent figure is left out: {line}"
        );
    }
}
