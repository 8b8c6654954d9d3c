//! `ringway receive`.

use crate::place::{Outcome, Place, signal, until};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

#[test]
fn a_receive_takes_up_to_max_and_leaves_them_in_flight() {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    assert_eq!(
        place.run(&["receive", "b", "q", "--max", "2"]).ok(),
        "a\nb\n"
    );
    let stats = place.queue().stats();
    assert_eq!((stats.visible, stats.in_flight), (1, 2));
    assert_eq!(place.run(&["receive", "b", "q", "--delete"]).ok(), "c\n");
    assert_eq!(place.queue().stats().in_flight, 2);
}

#[test]
fn json_lines_tell_everything_and_keep_bytes_exact() {
    let place = Place::new();
    let queue = place.queue();
    let mut sender = queue.sender().unwrap();
    sender.send("grüß \"dich\"".as_bytes()).unwrap();
    sender.send(b"\xff\0").unwrap();
    let lines = place.run(&["receive", "b", "q", "--json"]).ok();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["body"], "grüß \"dich\"");
    assert_eq!(lines[0]["receives"], 1);
    assert_eq!(lines[1]["body_base64"], "/wA=");
    assert!(lines[1].get("body").is_none());
    assert!(lines[1]["sent"].as_str().unwrap().ends_with('Z'));
    let receipt: ringway::Receipt = lines[1]["receipt"].as_str().unwrap().parse().unwrap();
    assert!(queue.delete(&receipt).unwrap());
}

#[test]
fn all_of_a_queue_goes_to_the_end_of_a_file() {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    let file = place.path().join("out");
    std::fs::write(&file, "before\n").unwrap();
    let receive = [
        "receive", "b", "q", "--all", "--delete", "--max", "2", "--out",
    ];
    let said = place.run(&[&receive[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(said.ok(), "received 3\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before\na\nb\nc\n");
    assert_eq!(place.queue().stats().deleted, 3);
}

#[test]
fn a_long_poll_ends_with_the_message_or_with_the_time() {
    let place = Place::new();
    place.queue();
    assert_eq!(place.run(&["receive", "b", "q", "--wait", "30ms"]).ok(), "");
    let child = place.start(&["receive", "b", "q", "--wait", "60s", "--delete"]);
    let participants = || place.bus.participants().unwrap().len();
    until("a second participant", || participants() == 2);
    place.fill(&["there"]);
    assert_eq!(
        Outcome::from(child.wait_with_output().unwrap()).ok(),
        "there\n"
    );
}

#[test]
fn visibility_is_that_of_the_flag() {
    let place = Place::new();
    place.fill(&["a"]);
    place
        .run(&["receive", "b", "q", "--visibility", "1ms"])
        .ok();
    let queue = place.queue();
    until("a lease of a millisecond to end", || {
        queue.stats().visible == 1
    });
}

#[test]
fn count_ends_a_follow_and_a_queue_that_is_too_short() {
    let place = Place::new();
    place.fill(&["a", "b", "c"]);
    let follow = ["receive", "b", "q", "--follow", "--count", "2", "--delete"];
    assert_eq!(place.run(&follow).ok(), "a\nb\n");
    assert_eq!(
        place
            .run(&["receive", "b", "q", "--count", "5", "--delete"])
            .ok(),
        "c\n"
    );
}

#[test]
fn an_interrupted_follow_gives_back_what_it_did_not_delete() {
    let place = Place::new();
    place.fill(&["a", "b"]);
    let queue = place.queue();
    for name in [Signal::INT, Signal::TERM] {
        let mut child = place.start(&["receive", "b", "q", "--follow"]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = [
            lines.next().unwrap().unwrap(),
            lines.next().unwrap().unwrap(),
        ];
        read.sort();
        assert_eq!(read, ["a", "b"]);
        assert_eq!(queue.stats().in_flight, 2);
        signal(&child, name);
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        assert_eq!(outcome.signal, Some(name.as_raw()));
        assert_eq!(outcome.err, "");
        assert_eq!(queue.stats().visible, 2);
        assert_eq!(place.bus.participants().unwrap().len(), 1);
    }
}

#[test]
fn a_receive_that_is_blocked_in_a_write_gives_back_when_it_is_interrupted() {
    let place = Place::new();
    // Its holder's death alone would leave it in flight.
    let builder = place.bus.queue("q").redeliver_on_death(false);
    let queue = builder.create().unwrap();
    let body = vec![b'x'; 200_000]; // more than a pipe holds
    queue.sender().unwrap().send(&body).unwrap();
    let mut child = place.start(&["receive", "b", "q", "--delete"]);
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 1000]).unwrap();
    signal(&child, Signal::TERM);
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert_eq!(outcome.signal, Some(15));
    assert_eq!(queue.stats().visible, 1);
}

#[test]
fn a_closed_pipe_is_a_quiet_end_and_loses_nothing() {
    let place = Place::new();
    let queue = place.queue();
    let body = vec![b'x'; 200_000];
    queue.sender().unwrap().send(&body).unwrap();
    let mut child = place.start(&["receive", "b", "q", "--follow", "--delete"]);
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 1000]).unwrap();
    drop(out);
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    assert_eq!(queue.stats().visible, 1);
}

#[test]
fn a_file_that_can_not_be_written_is_said_and_loses_nothing() {
    let place = Place::new();
    place.fill(&["a"]);
    let full = place.run(&["receive", "b", "q", "--delete", "--out", "/dev/full"]);
    assert!(full.refused(1).contains("given back"));
    assert_eq!(place.queue().stats().visible, 1);
}

#[test]
fn what_a_killed_receive_held_is_received_again() {
    let place = Place::new();
    place.fill(&["a"]);
    let mut child = place.start(&["receive", "b", "q", "--follow"]);
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut receiver = place.queue().receiver().unwrap();
    let again = receiver.receive(1, Duration::from_secs(20), None).unwrap();
    assert_eq!(again[0].body, b"a");
}
