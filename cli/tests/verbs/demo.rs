//! `ringway demo`: its verdict, and that it leaves nothing.

use crate::place::{Outcome, Place, signal, until};
use rustix::process::Signal;
use std::path::Path;

/// What lies in the place beside its own bus, and of a demonstration's outputs in `temp`.
fn left(place: &Place, temp: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for directory in [place.path(), temp] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.contains("ringway-demo-") {
                left.push(name);
            }
        }
    }
    left
}

#[test]
fn every_promise_holds_on_the_flights_that_come_along_and_nothing_is_left() {
    let place = Place::new();
    let temp = place.path().join("temp");
    std::fs::create_dir(&temp).unwrap();
    let mut command = place.command(&["demo", "--over", "2s", "--kill-every", "100ms", "--json"]);
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR"));
    command.arg("--journal-root").arg(disk);
    let output = command.env("TMPDIR", &temp).output().unwrap();
    let report = Outcome::from(output).json();
    assert_eq!(
        (&report["held"], &report["rows"]),
        (&true.into(), &2_000.into())
    );
    for part in report["parts"].as_array().unwrap() {
        assert_eq!((&part["held"], &part["lost"]), (&true.into(), &0.into()));
        assert!(part["killed"].as_u64() >= Some(3), "{report}");
        assert_eq!(part["sha256_input"], part["sha256_output"]);
    }
    let parts = [0, 1, 2, 3].map(|part| &report["parts"][part]["name"]);
    let names = [
        "flights",
        "flights-by-shard",
        "departures",
        "flights-on-disk",
    ];
    assert_eq!(parts, names);
    // Everything, what was late, and what some airlines flew.
    assert!(
        report["parts"][2]["wanted"].as_u64() > Some(2_100),
        "{report}"
    );
    assert_eq!(left(&place, &temp), [""; 0]);
    assert_eq!(left(&place, disk), [""; 0]);
}

#[test]
fn interrupted_it_ends_what_it_started_and_leaves_nothing() {
    let place = Place::new();
    let temp = place.path().join("temp");
    std::fs::create_dir(&temp).unwrap();
    let mut command = place.command(&["demo", "--over", "1h"]);
    let child = command.env("TMPDIR", &temp).spawn().unwrap();
    until("its bus", || left(&place, &temp).len() == 2);
    signal(&child, Signal::INT);
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert_eq!(outcome.signal, Some(Signal::INT.as_raw()));
    assert_eq!(left(&place, &temp), [""; 0]);
}

#[test]
fn what_are_no_flights_is_refused_by_name() {
    let place = Place::new();
    let path = place.path().join("cars.csv");
    std::fs::write(&path, "a,b\n1,2\n").unwrap();
    let refused = place.run(&["demo", "--data", path.to_str().unwrap()]);
    let why = refused.refused(1);
    assert!(why.contains("cars.csv") && why.contains("tailnum"), "{why}");
}
