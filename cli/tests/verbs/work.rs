//! `ringway work`: what a command gets, what becomes of its message, scaling, signals, deaths.

use crate::place::{Outcome, Place, signal, until};
use ringway::{Attributes, Outgoing, Redrive, Settings};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout};

/// A pool with `--json` in the background, and its events.
struct Pool {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Pool {
    /// `ringway work b q --json FLAGS -- sh -c SCRIPT`, in the place's directory.
    fn start(place: &Place, flags: &str, script: &str) -> Self {
        let mut command = place.command(&["work", "b", "q", "--json"]);
        command.current_dir(place.path());
        command.args(flags.split_whitespace());
        let mut child = command.args(["--", "sh", "-c", script]).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, events }
    }

    /// The next event called `name`; the others in front of it are passed over.
    #[track_caller]
    fn event(&mut self, name: &str) -> Value {
        for line in self.events.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == name {
                return event;
            }
        }
        panic!("the pool ended without {name}");
    }

    /// Every event to the end, and how it ended.
    fn rest(self) -> (Vec<Value>, Outcome) {
        let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        let events = self.events.map(parse).collect();
        (events, self.child.wait_with_output().unwrap().into())
    }
}

fn called<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    let is_called = |event: &&Value| event["event"] == name;
    events.iter().filter(is_called).collect()
}

/// Waits while there is no file `go`, which it says by a file `here-RECEIPT`.
const WAIT_FOR_GO: &str = "touch here-$RINGWAY_RECEIPT; while [ ! -e go ]; do sleep 0.005; done; rm here-$RINGWAY_RECEIPT";

fn commands_here(place: &Place) -> usize {
    let names = std::fs::read_dir(place.path()).unwrap();
    names
        .filter(|name| {
            let name = name.as_ref().unwrap().file_name();
            name.as_encoded_bytes().starts_with(b"here-")
        })
        .count()
}

#[test]
fn a_command_gets_the_body_and_what_was_said_about_it() {
    let place = Place::new();
    let queue = place.queue();
    let mut attributes = Attributes::new();
    attributes.string("city", "Graz an der Mur").unwrap();
    attributes.number("seats-free", 12).unwrap();
    attributes.binary("seal", b"\xff\0").unwrap();
    let body = b"one\ntwo\0\xff";
    let message = Outgoing::new(body).group("truck-7").attributes(&attributes);
    queue.sender().unwrap().send_message(&message).unwrap();
    let script = "cat > body; env | grep ^RINGWAY_ | sort > env";
    let mut work = place.command(&["work", "b", "q", "--drain", "--", "sh", "-c", script]);
    let work = work
        .current_dir(place.path())
        .env("RINGWAY_ATTR_other", "of a pool around this one");
    let outcome = Outcome::from(work.output().unwrap());
    assert!(
        outcome.out.starts_with("1 succeeded, 0 failed in "),
        "{}",
        outcome.out
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);

    assert_eq!(std::fs::read(place.path().join("body")).unwrap(), body);
    let environment = std::fs::read_to_string(place.path().join("env")).unwrap();
    let mut lines: Vec<&str> = environment.lines().collect();
    lines.retain(|line| {
        !line.starts_with("RINGWAY_SENT_MS=") && !line.starts_with("RINGWAY_RECEIPT=")
    });
    let root = format!("RINGWAY_ROOT={}", place.path().display());
    let expected = [
        "RINGWAY_ATTR_city=Graz an der Mur",
        "RINGWAY_ATTR_seal=/wA=",
        "RINGWAY_ATTR_seats_free=12",
        "RINGWAY_BODY_LEN=9",
        "RINGWAY_BUS=b",
        "RINGWAY_GROUP=truck-7",
        "RINGWAY_QUEUE=q",
        "RINGWAY_RECEIVES=1",
        &root,
    ];
    assert_eq!(lines, expected);
    assert!(environment.contains(&format!("RINGWAY_RECEIPT={:016x}-", queue.id())));
    assert_eq!(queue.stats().deleted, 1);
}

#[test]
fn a_command_may_settle_by_its_receipt_and_leave_its_body_unread() {
    let place = Place::new();
    let queue = place.queue();
    queue.sender().unwrap().send(&vec![b'x'; 250_000]).unwrap();
    let extend = format!(
        "exec {} queue extend b q $RINGWAY_RECEIPT --visibility 1h",
        env!("CARGO_BIN_EXE_ringway")
    );
    let (events, outcome) = Pool::start(&place, "--drain", &extend).rest();
    let succeeded = called(&events, "succeeded");
    assert_eq!(succeeded.len(), 1, "{events:?}");
    assert!(succeeded[0].get("lost").is_none(), "{events:?}");
    // Its own output went to standard error: the events have standard output for themselves.
    assert!(outcome.err.starts_with("extended "), "{}", outcome.err);
}

#[test]
fn a_message_whose_command_fails_is_tried_again_ever_later() {
    let place = Place::new();
    place.fill(&["a"]);
    let script = "[ $RINGWAY_RECEIVES -ge 4 ] || exit 3";
    let (events, _) = Pool::start(&place, "--drain --nack-delay 10ms", script).rest();
    let failed = called(&events, "failed");
    let retries: Vec<_> = failed.iter().map(|event| &event["retry_ms"]).collect();
    assert_eq!(retries, [10, 20, 40]);
    assert!(failed.iter().all(|event| event["why"] == "exit status 3"));
    let summary = called(&events, "summary")[0];
    assert_eq!(
        (&summary["succeeded"], &summary["failed"]),
        (&1.into(), &3.into())
    );
    assert_eq!(place.queue().stats().deleted, 1);
}

#[test]
fn what_fails_too_often_goes_to_the_dead_letter_queue() {
    let place = Place::new();
    let dead = place.bus.queue("dead").create().unwrap();
    let queue = place.queue();
    let policy = Settings::new().redrive(Redrive::to(&dead, 3));
    queue.set(&policy).unwrap();
    place.fill(&["poison"]);
    let (events, _) = Pool::start(&place, "--drain --nack-delay 10ms", "exit 1").rest();
    let failed = called(&events, "failed");
    let retries: Vec<_> = failed.iter().map(|event| &event["retry_ms"]).collect();
    assert_eq!(retries, [10, 10, 10]);
    let line = place.run(&["receive", "b", "dead", "--json"]).json();
    assert_eq!(line["body"], "poison");
    assert_eq!(line["origin"]["receives"], 3);
    assert_eq!(line["origin"]["queue_id"], format!("{:016x}", queue.id()));
}

#[test]
fn a_message_stays_invisible_for_as_long_as_its_command_runs() {
    let place = Place::new();
    place.fill(&["a"]);
    // The other worker would get it.
    let mut pool = Pool::start(&place, "--min 2 --max 2 --visibility 900ms", "sleep 2");
    let succeeded = pool.event("succeeded");
    assert!(succeeded.get("lost").is_none(), "{succeeded}");
    signal(&pool.child, Signal::TERM);
    let (events, _) = pool.rest();
    assert!(called(&events, "started").is_empty(), "{events:?}");
}

#[test]
fn workers_come_with_the_backlog_and_go_with_it() {
    let place = Place::new();
    let queue = place.queue();
    let flags = "--min 1 --max 4 --scale-up-after 0 --scale-down-after 0";
    let mut pool = Pool::start(&place, flags, WAIT_FOR_GO);
    assert_eq!(pool.event("scaled")["workers"], 1);
    let tasks = Path::new("/proc").join(format!("{}/task", pool.child.id()));
    let threads = || std::fs::read_dir(&tasks).unwrap().count();
    let alone = threads();
    place.fill(&["a", "b", "c", "d", "e", "f"]);
    assert_eq!(pool.event("scaled")["workers"], 4);
    until("four commands at a time", || commands_here(&place) == 4);
    assert_eq!(queue.stats().in_flight, 4);
    std::fs::write(place.path().join("go"), "").unwrap();
    while pool.event("scaled")["workers"] != 1 {}
    until("the workers gone", || threads() <= alone);
    signal(&pool.child, Signal::TERM);
    let (events, outcome) = pool.rest();
    assert_eq!(called(&events, "summary")[0]["most_workers"], 4);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert_eq!(queue.stats().deleted, 6);
}

#[test]
fn a_backlog_per_worker_asks_for_fewer_workers() {
    let place = Place::new();
    place.fill(&["a", "b", "c", "d", "e", "f"]);
    let flags = "--min 0 --max 9 --backlog-per-worker 3 --scale-up-after 0 --drain";
    let (events, _) = Pool::start(&place, flags, "true").rest();
    assert_eq!(called(&events, "scaled")[0]["workers"], 2, "{events:?}");
    assert_eq!(called(&events, "summary")[0]["succeeded"], 6);
}

#[test]
fn the_first_signal_lets_commands_finish() {
    let place = Place::new();
    place.fill(&["a", "b"]);
    for (name, left) in [(Signal::TERM, 1), (Signal::INT, 0)] {
        let _ = std::fs::remove_file(place.path().join("go"));
        let mut pool = Pool::start(&place, "", WAIT_FOR_GO);
        until("a command", || commands_here(&place) == 1);
        signal(&pool.child, name);
        assert_eq!(pool.event("stopping")["signal"], name.as_raw());
        std::fs::write(place.path().join("go"), "").unwrap();
        let (events, outcome) = pool.rest();
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert_eq!(called(&events, "succeeded").len(), 1, "{events:?}");
        assert_eq!(place.queue().stats().visible, left);
    }
    assert_eq!(place.queue().stats().deleted, 2);
}

#[test]
fn the_second_signal_kills_commands_with_what_they_started_and_gives_back() {
    let place = Place::new();
    // Its holder's death alone would leave it in flight.
    let queue = place.bus.queue("q").redeliver_on_death(false);
    let queue = queue.create().unwrap();
    queue.sender().unwrap().send(b"a").unwrap();
    let script = "sleep 1000 > /dev/null 2>&1 & echo $! > pid.new; mv pid.new pid; wait";
    let mut pool = Pool::start(&place, "", script);
    let file = place.path().join("pid");
    until("a command", || file.exists());
    let grandchild = std::fs::read_to_string(file).unwrap();
    signal(&pool.child, Signal::TERM);
    pool.event("stopping");
    signal(&pool.child, Signal::TERM);
    let (events, outcome) = pool.rest();
    assert_eq!(outcome.signal, Some(15), "{}", outcome.err);
    assert_eq!(called(&events, "given_back").len(), 1, "{events:?}");
    assert_eq!(queue.stats().visible, 1);
    let process = Path::new("/proc").join(grandchild.trim());
    until("the end of what it started", || is_gone(&process));
}

/// Whether a process is gone, or dead and only not yet reaped by whoever got it.
fn is_gone(process: &Path) -> bool {
    match std::fs::read_to_string(process.join("stat")) {
        Ok(stat) => stat.rsplit(')').next().unwrap().starts_with(" Z"),
        Err(_) => true,
    }
}

#[test]
fn a_command_that_runs_too_long_is_ended_and_has_failed() {
    let place = Place::new();
    place.fill(&["a"]);
    let flags = "--count 1 --kill-after 50ms --nack-delay 15m";
    let (events, _) = Pool::start(&place, flags, "sleep 1000 > /dev/null 2>&1 & wait").rest();
    let why = called(&events, "failed")[0]["why"].as_str().unwrap();
    assert!(why.contains("--kill-after"), "{why}");
    assert_eq!(called(&events, "summary")[0]["failed"], 1);
    assert_eq!(place.queue().stats().deleted, 0);
}

#[test]
fn a_count_is_the_number_of_messages_however_many_workers() {
    let place = Place::new();
    place.fill(&["a", "b", "c", "d", "e", "f", "g"]);
    let flags = "--count 5 --min 3 --nack-delay 15m";
    let script = "read line; [ $line != c ]";
    let (events, outcome) = Pool::start(&place, flags, script).rest();
    let summary = called(&events, "summary")[0];
    assert_eq!(
        (&summary["succeeded"], &summary["failed"]),
        (&4.into(), &1.into()),
        "{events:?}"
    );
    assert_eq!(outcome.code, Some(0));
    assert_eq!(place.queue().stats().visible, 2);
}

#[test]
fn a_pool_that_is_killed_in_the_middle_leaves_every_message_to_the_next() {
    let place = Place::new();
    let queue = place.queue();
    let bodies: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    place.fill(&bodies);
    // One line is one write: lines of several commands do not mix. The first pool can't finish the second half.
    let script = "read line; echo $line >> done";
    let held = format!(
        "read line; [ $line -lt 20 ] || {{ {}; exit 1; }}; echo $line >> done",
        "while [ -e hold ]; do sleep 0.01; done"
    );
    std::fs::write(place.path().join("hold"), "").unwrap();
    let mut pool = Pool::start(&place, "--min 4 --max 4", &held);
    for _ in 0..5 {
        pool.event("succeeded");
    }
    pool.child.kill().unwrap();
    pool.child.wait().unwrap();
    assert!(queue.stats().deleted < 40);
    std::fs::remove_file(place.path().join("hold")).unwrap();
    let (events, outcome) = Pool::start(&place, "--min 4 --max 4 --drain", script).rest();
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(called(&events, "succeeded").len() <= 35, "{events:?}");
    let text = std::fs::read_to_string(place.path().join("done")).unwrap();
    let worked: BTreeSet<&str> = text.lines().collect();
    assert_eq!(worked, BTreeSet::from_iter(bodies));
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight), (0, 0));
}

#[test]
fn a_pool_leaks_neither_descriptors_nor_dead_commands() {
    let place = Place::new();
    place.queue();
    let mut pool = Pool::start(&place, "--min 2", "exit 0");
    let process = Path::new("/proc").join(pool.child.id().to_string());
    let descriptors = || std::fs::read_dir(process.join("fd")).unwrap().count();
    let dead = || {
        let tasks = std::fs::read_dir(process.join("task")).unwrap();
        let children = tasks.map(|task| task.unwrap().path().join("children"));
        let children = children.filter_map(|path| std::fs::read_to_string(path).ok());
        children
            .map(|list| list.split_whitespace().count())
            .sum::<usize>()
    };
    let work = |pool: &mut Pool, count: usize| {
        place.fill(&vec!["x"; count]);
        for _ in 0..count {
            pool.event("succeeded");
        }
        descriptors()
    };
    let before = work(&mut pool, 10);
    let after = work(&mut pool, 100);
    assert!(after <= before + 2, "{before} descriptors became {after}");
    assert_eq!(dead(), 0);
    signal(&pool.child, Signal::TERM);
    assert_eq!(pool.rest().1.code, Some(0));
}

#[test]
fn a_pool_whose_events_nobody_reads_ends_quietly() {
    let place = Place::new();
    place.queue();
    let mut pool = Pool::start(&place, "", "exit 0");
    pool.event("scaled");
    drop(pool.events);
    place.fill(&["a"]);
    let outcome = Outcome::from(pool.child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
}

#[test]
fn a_queue_that_is_removed_ends_the_pool_with_its_reason() {
    let place = Place::new();
    place.queue();
    let mut pool = Pool::start(&place, "--min 3", "exit 0");
    pool.event("scaled");
    place.bus.remove("q").unwrap();
    let (_, outcome) = pool.rest();
    assert!(outcome.refused(1).contains("has been removed"));
}

#[test]
fn what_can_not_work_is_refused_before_a_message_is_received() {
    let place = Place::new();
    place.fill(&["a"]);
    let cases: &[(&str, i32, &str)] = &[
        (
            "q -- /no/such/command",
            1,
            "there is no command \"/no/such/command\"",
        ),
        ("q -- no-such-command", 1, "that can be run"),
        ("q", 2, "<COMMAND>"),
        (
            "q --min 3 --max 2 -- true",
            2,
            "--max 2 is less than --min 3",
        ),
        (
            "q --visibility 0 -- true",
            2,
            "leaves no message to a worker",
        ),
        ("q --nack-delay 1h -- true", 2, "at most 15m"),
        (
            "q --backlog-per-worker 0 -- true",
            2,
            "--backlog-per-worker",
        ),
        ("q --drain --count 1 -- true", 2, "cannot be used with"),
        ("p -- true", 1, "there is no queue \"p\""),
    ];
    for (arguments, code, sentence) in cases {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let said = place.run(&[&["work", "b"][..], &arguments].concat());
        assert!(said.err.contains(sentence), "{arguments:?}: {}", said.err);
        assert_eq!(said.code, Some(*code), "{arguments:?}: {}", said.err);
    }
    let stats = place.queue().stats();
    assert_eq!((stats.visible, stats.received), (1, 0));
    let help = place.run(&["work", "--help"]).ok();
    assert!(
        help.contains("in its environment RINGWAY_BUS") && help.contains("Examples:"),
        "{help}"
    );
}
