//! `RINGWAY_LOG`: what happens, on standard error, and nothing of it in the output.

use crate::place::{Outcome, Place};

fn run(place: &Place, log: &str, arguments: &[&str]) -> Outcome {
    let mut command = place.command(arguments);
    command.env("RINGWAY_LOG", log).output().unwrap().into()
}

#[test]
fn messages_are_told_at_level_trace_and_only_there() {
    let place = Place::new();
    place.queue();
    let sent = run(&place, "trace", &["send", "b", "q", "hello"]);
    assert_eq!((sent.code, &sent.out[..]), (Some(0), "sent 1\n"));
    let told = sent.err.lines().find(|line| line.contains("sent"));
    let told = told.unwrap_or_else(|| panic!("{}", sent.err));
    for part in ["TRACE", "ringway::queue::", "queue=\"q\"", "bytes=5"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let quiet = run(
        &place,
        "ringway::stream=trace,debug",
        &["send", "b", "q", "hello"],
    );
    assert!(!quiet.err.contains("TRACE"), "{}", quiet.err);
    let refused = run(&place, "loud=ly", &["send", "b", "q", "hello"]).refused(2);
    assert!(refused.contains("RINGWAY_LOG"), "{refused}");
}
