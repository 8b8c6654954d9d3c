//! Every limit runs one tiny round of everything it offers, as processes.

use ringway_measure::launch::Host;
use ringway_measure::{Kind, Plan, pin};
use std::path::Path;

fn host() -> Host {
    Host::new(Path::new(env!("CARGO_BIN_EXE_ringway-limits")), &[])
}

fn plan_for(contender: &str, offer: &ringway_measure::Offer, cores: &[usize]) -> Plan {
    Plan {
        scenario: offer.scenario,
        contender: contender.to_owned(),
        size: offer.scenario.default_size(),
        cores: cores.to_vec(),
        messages: 50,
        mode: offer.mode,
        ring_bytes: 1 << 20,
        stride: 0,
        batch: 8,
        backlog: 0,
        in_flight: 0,
        deadline_s: 60,
    }
}

#[test]
fn each_limit_runs_a_round_of_each_of_its_scenarios() {
    let cores = pin::allowed_cores().expect("affinity is readable");
    if cores.len() < 2 {
        eprintln!("one core only: no round can run here");
        return;
    }
    let listed = host().list("list").expect("the host lists its contenders");
    assert_eq!(listed.len(), 9);
    for entry in listed {
        assert_eq!(
            (entry.kind, entry.missing.as_deref()),
            (Kind::Limit, None),
            "{}",
            entry.contender
        );
        for offer in &entry.offers {
            let plan = plan_for(&entry.contender, offer, &cores[..2]);
            let round = host()
                .round(&plan)
                .unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            let figure = round.figure().expect("every round has its figure");
            assert!(figure.is_finite() && figure > 0.0, "{round:?}");
            assert_eq!(
                round.percentiles.is_empty(),
                !offer.scenario.is_timed(),
                "{round:?}"
            );
        }
    }
}

#[test]
fn a_round_past_its_deadline_is_an_error_that_says_so() {
    let cores = pin::allowed_cores().expect("affinity is readable");
    if cores.len() < 2 {
        return;
    }
    let listed = host().list("list").expect("the host lists its contenders");
    let entry = listed
        .iter()
        .find(|entry| entry.contender == "limit-futex")
        .expect("it is listed");
    let mut plan = plan_for(&entry.contender, &entry.offers[0], &cores[..2]);
    (plan.messages, plan.deadline_s) = (u64::MAX / (1 << 20), 1);
    let said = host()
        .round(&plan)
        .expect_err("it can't be done in a second")
        .to_string();
    assert!(said.contains("after 1 s"), "{said}");
}

#[test]
fn an_unknown_contender_is_told_the_known_ones() {
    let cores = pin::allowed_cores().expect("affinity is readable");
    if cores.len() < 2 {
        return;
    }
    let listed = host().list("list").expect("the host lists its contenders");
    let plan = plan_for("nobody", &listed[0].offers[0], &cores[..2]);
    let said = host()
        .round(&plan)
        .expect_err("nobody isn't there")
        .to_string();
    assert!(
        said.contains("limit-pingpong") && said.contains("nobody"),
        "{said}"
    );
}
