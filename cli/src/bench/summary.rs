//! From rounds to figures: medians over rounds, ratios within them. Pure.
//!
//! A ratio is taken between a contender and the limit of the same round, and
//! the median of these ratios is reported: what drifts from round to round
//! falls out. For times it is how many times slower than the limit, for rates
//! which fraction of it.

use super::schedule::Section;
use ringway_measure::round::median;
use ringway_measure::{Kind, Mode, Round, Scenario};
use serde::Serialize;

/// A section's figures.
pub(super) struct Summary {
    pub(super) scenario: Scenario,
    /// The one mode of a section of times.
    pub(super) mode: Option<Mode>,
    pub(super) size: usize,
    pub(super) limit: &'static str,
    pub(super) rows: Vec<Row>,
}

/// One contender's figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) contender: String,
    pub(super) kind: Kind,
    pub(super) scenario: Scenario,
    pub(super) mode: Mode,
    pub(super) size: usize,
    pub(super) rounds: usize,
    pub(super) p50_ns: Option<f64>,
    pub(super) p99_ns: Option<f64>,
    pub(super) p999_ns: Option<f64>,
    pub(super) block_p50_ns: Option<f64>,
    pub(super) mean_ns: Option<f64>,
    pub(super) send_ns: Option<f64>,
    pub(super) receive_ns: Option<f64>,
    pub(super) delete_ns: Option<f64>,
    pub(super) private_bytes: Option<u64>,
    pub(super) shared_bytes: Option<u64>,
    pub(super) msgs_per_s: Option<f64>,
    pub(super) bytes_per_s: Option<f64>,
    /// To the limit of the same round; none for who had no round beside it.
    pub(super) ratio: Option<f64>,
    pub(super) limit: &'static str,
    pub(super) percentiles: Vec<(f64, f64)>,
}

/// Sums up a section. Who has no successful round has no row.
pub(super) fn of(section: &Section, rounds: &[Vec<Round>]) -> Summary {
    let limit = super::reference(section.scenario, section.mode.unwrap_or(Mode::Spin));
    let entrants = section
        .entrants
        .iter()
        .map(|(entrant, _)| (entrant.listed.contender.as_str(), entrant.listed.kind));
    let rows = entrants
        .filter_map(|(name, kind)| row(name, kind, limit, rounds))
        .collect();
    Summary {
        scenario: section.scenario,
        mode: section.mode,
        size: section.size,
        limit,
        rows,
    }
}

fn row(name: &str, kind: Kind, limit: &'static str, rounds: &[Vec<Round>]) -> Option<Row> {
    let find =
        |round: &'_ [Round], name: &str| round.iter().position(|record| record.contender == name);
    let own: Vec<&Round> = rounds
        .iter()
        .filter_map(|round| Some(&round[find(round, name)?]))
        .collect();
    let over_rounds = |figure: fn(&Round) -> Option<f64>| {
        median(
            &own.iter()
                .filter_map(|record| figure(record))
                .collect::<Vec<_>>(),
        )
    };
    let ratio_within = |round: &Vec<Round>| {
        let (own, limit) = (&round[find(round, name)?], &round[find(round, limit)?]);
        Some(own.figure()? / limit.figure()?)
    };
    let first = own.first()?;
    Some(Row {
        contender: name.to_owned(),
        kind,
        scenario: first.scenario,
        mode: first.mode,
        size: first.size,
        rounds: own.len(),
        p50_ns: over_rounds(|record| record.p50_ns),
        p99_ns: over_rounds(|record| record.p99_ns),
        p999_ns: over_rounds(|record| record.p999_ns),
        block_p50_ns: over_rounds(|record| record.block_p50_ns),
        mean_ns: over_rounds(|record| record.mean_ns),
        send_ns: over_rounds(|record| record.send_ns),
        receive_ns: over_rounds(|record| record.receive_ns),
        delete_ns: over_rounds(|record| record.delete_ns),
        private_bytes: first.private_bytes,
        shared_bytes: first.shared_bytes,
        msgs_per_s: over_rounds(|record| record.msgs_per_s),
        bytes_per_s: over_rounds(|record| record.bytes_per_s),
        ratio: median(&rounds.iter().filter_map(ratio_within).collect::<Vec<_>>()),
        limit,
        percentiles: middle_curve(&own),
    })
}

/// The median over rounds at each percentile that all of them have.
fn middle_curve(rounds: &[&Round]) -> Vec<(f64, f64)> {
    let shortest = rounds
        .iter()
        .map(|round| round.percentiles.len())
        .min()
        .unwrap_or(0);
    (0..shortest)
        .filter_map(|at| {
            let values: Vec<f64> = rounds.iter().map(|round| round.percentiles[at].1).collect();
            Some((rounds[0].percentiles[at].0, median(&values)?))
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ringway_measure::Plan;

    pub(in super::super) fn record(contender: &str, scenario: Scenario, figure: f64) -> Round {
        let plan = Plan {
            scenario,
            contender: contender.into(),
            size: 64,
            cores: vec![0, 1],
            messages: 1,
            mode: Mode::Spin,
            ring_bytes: 4096,
            stride: 0,
            batch: 1,
            backlog: 0,
            in_flight: 0,
            deadline_s: 1,
        };
        let mut round = Round::of(&plan);
        if scenario.is_timed() {
            (round.p50_ns, round.p99_ns, round.p999_ns) =
                (Some(figure), Some(figure * 2.0), Some(figure * 3.0));
            round.block_p50_ns = Some(figure);
            round.percentiles = vec![(0.0, figure / 2.0), (50.0, figure), (99.0, figure * 2.0)];
        } else {
            round.msgs_per_s = Some(figure);
            round.bytes_per_s = Some(figure * 64.0);
        }
        round
    }

    pub(in super::super) fn summary(
        scenario: Scenario,
        names: &[(&str, Kind)],
        rounds: &[Vec<Round>],
    ) -> Summary {
        let limit = crate::bench::reference(scenario, Mode::Spin);
        let rows = names
            .iter()
            .filter_map(|(name, kind)| row(name, *kind, limit, rounds))
            .collect();
        Summary {
            scenario,
            mode: scenario.is_timed().then_some(Mode::Spin),
            size: 64,
            limit,
            rows,
        }
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_so_drift_falls_out() {
        // The machine gets three times slower; the ratio stays 1.5.
        let rounds: Vec<Vec<Round>> = [50.0, 100.0, 150.0]
            .map(|ns| {
                let of = |name, ns| record(name, Scenario::Latency, ns);
                vec![of("limit-pingpong", ns), of("ringway", ns * 1.5)]
            })
            .to_vec();
        let names = [("limit-pingpong", Kind::Limit), ("ringway", Kind::Own)];
        let summary = summary(Scenario::Latency, &names, &rounds);
        assert_eq!(summary.rows[0].ratio, Some(1.0));
        assert_eq!(summary.rows[1].ratio, Some(1.5));
        assert_eq!(
            (summary.rows[1].p50_ns, summary.rows[1].p99_ns),
            (Some(150.0), Some(300.0))
        );
        assert_eq!(summary.rows[1].percentiles[1], (50.0, 150.0));
    }

    #[test]
    fn rates_are_fractions_of_the_limit() {
        let rounds = vec![vec![
            record("limit-slots", Scenario::Throughput, 200e6),
            record("ringway", Scenario::Throughput, 150e6),
        ]];
        let names = [("limit-slots", Kind::Limit), ("ringway", Kind::Own)];
        assert_eq!(
            summary(Scenario::Throughput, &names, &rounds).rows[1].ratio,
            Some(0.75)
        );
    }

    #[test]
    fn who_failed_in_some_rounds_is_summed_up_over_the_others() {
        let rounds = vec![
            vec![record("limit-pingpong", Scenario::Latency, 50.0)],
            vec![
                record("limit-pingpong", Scenario::Latency, 50.0),
                record("ringway", Scenario::Latency, 60.0),
            ],
        ];
        let names = [
            ("limit-pingpong", Kind::Limit),
            ("ringway", Kind::Own),
            ("absent", Kind::Peer),
        ];
        let summary = summary(Scenario::Latency, &names, &rounds);
        assert_eq!(summary.rows.len(), 2);
        assert_eq!(
            (summary.rows[1].rounds, summary.rows[1].ratio),
            (1, Some(1.2))
        );
    }
}
