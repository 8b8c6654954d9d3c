//! `ringway topic firehose`: what is published ends in files, once where nobody is killed, whole in any case.

use crate::place::{Place, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn publish(place: &Place, bodies: &[String]) {
    let topic = place.bus.topic("news").open_or_create().unwrap();
    let mut publisher = topic.publisher().unwrap();
    for body in bodies {
        publisher
            .publish(&ringway::Publication::new(body.as_bytes()))
            .unwrap();
    }
}

/// Every finished file below a directory, and what is not finished.
fn objects(directory: &Path) -> (Vec<PathBuf>, usize) {
    let (mut found, mut unfinished, mut open) = (Vec::new(), 0, vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                open.push(path);
            } else if name.starts_with('.') {
                unfinished += 1;
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    (found, unfinished)
}

fn lines(objects: &[PathBuf]) -> Vec<String> {
    let texts = objects.iter().map(|path| fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn what_is_published_ends_in_object_files_by_size_and_by_time() {
    let place = Place::new();
    place.bus.topic("news").create().unwrap();
    let to = place.path().join("lake");
    let target = to.to_str().unwrap();
    let run = |flags: &[&str]| {
        let fixed = [
            "topic", "firehose", "b", "news", "lake", "--to", target, "--raw",
        ];
        place.run(&[&fixed, flags].concat())
    };
    // The first run subscribes, and makes the directory.
    assert_eq!(
        run(&["--wait", "0s"]).ok(),
        "0 objects of 0 messages, 0 bytes\n"
    );
    let bodies: Vec<String> = (0..600)
        .map(|number| format!("message {number:04}"))
        .collect();
    publish(&place, &bodies);
    let told = run(&[
        "--size",
        "2600",
        "--wait",
        "0s",
        "--extension",
        ".txt",
        "--json",
    ])
    .json();
    assert_eq!(
        (&told["messages"], &told["bytes"]),
        (&600.into(), &7800.into()),
        "{told}"
    );
    let (found, unfinished) = objects(&to);
    assert!(
        found.len() >= 2 && told["objects"] == found.len(),
        "{found:?}"
    );
    assert_eq!((lines(&found).len(), unfinished), (600, 0));
    let mut got = lines(&found);
    got.sort();
    assert_eq!(got, bodies);
    for path in &found {
        let name = path.strip_prefix(&to).unwrap().to_str().unwrap();
        let parts: Vec<&str> = name.split('/').collect();
        assert_eq!(parts.len(), 5, "yyyy/MM/dd/HH/name: {name}");
        let begin = format!(
            "lake-1-{}-{}-{}-{}-",
            parts[0], parts[1], parts[2], parts[3]
        );
        assert!(
            parts[4].starts_with(&begin) && name.ends_with(".txt"),
            "{name}"
        );
    }
    let queue = place.bus.queue("lake").open().unwrap().stats();
    assert_eq!((queue.visible, queue.in_flight), (0, 0));

    // By time, below a prefix of its own.
    publish(&place, &["late".to_owned()]);
    run(&[
        "--every",
        "0s",
        "--count",
        "1",
        "--prefix",
        "late/dt=!{timestamp:yyyy}/",
    ])
    .ok();
    let (late, _) = objects(&to.join("late"));
    assert_eq!(lines(&late), ["late"]);
    for (flags, says) in [
        (["--prefix", "../"], "must stay below --to"),
        (["--prefix", "!{x}"], "is not known"),
        (["--size", "0"], "--size must be"),
        (["--every", "1h"], "at most 15m"),
    ] {
        let refused = run(&flags).refused(2);
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn a_firehose_that_is_told_to_end_writes_what_it_has_and_one_that_is_killed_loses_nothing() {
    let place = Place::new();
    let to = place.path().join("lake");
    let arguments = [
        "topic",
        "firehose",
        "b",
        "news",
        "lake",
        "--to",
        to.to_str().unwrap(),
    ];
    place.bus.topic("news").create().unwrap();
    let mut killed = place.start(&arguments);
    let in_flight = || {
        let queue = place.bus.queue("lake").open();
        queue.map_or(0, |queue| queue.stats().in_flight)
    };
    until("the subscription", || {
        let topic = place.bus.topic("news").open().unwrap();
        topic.subscriptions().unwrap().len() == 1
    });
    publish(&place, &["one".to_owned(), "two".to_owned()]);
    until("both were gathered", || in_flight() == 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(objects(&to).0.len(), 0);
    // What a dead one left half written goes.
    fs::write(to.join(".firehose-dead"), "on").unwrap();

    let ended = place.start(&arguments);
    until("both were gathered again", || {
        in_flight() == 2 && objects(&to).1 == 0
    });
    signal(&ended, Signal::TERM);
    assert!(
        !ended.wait_with_output().unwrap().status.success(),
        "it died of the signal"
    );
    let notifications = lines(&objects(&to).0);
    let bodies: Vec<Value> = notifications
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["Message"].clone())
        .collect();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!(in_flight(), 0);
}
