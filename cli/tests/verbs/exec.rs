//! `ringway topic exec`: a command for each batch, and what becomes of the batch.

use crate::place::{Outcome, Place, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Child;

/// A topic, and one who runs `sh -c SCRIPT` for what is published there.
struct Runner {
    place: Place,
}

impl Runner {
    fn new() -> Self {
        let place = Place::new();
        place.bus.topic("news").create().unwrap();
        Self { place }
    }

    fn start(&self, flags: &str, script: &str) -> Child {
        let mut command = self.place.command(&["topic", "exec", "b", "news", "work"]);
        command
            .current_dir(self.place.path())
            .process_group(0)
            .args(flags.split_whitespace());
        command.args(["--", "sh", "-c", script]).spawn().unwrap()
    }

    fn run(&self, flags: &str, script: &str) -> Outcome {
        self.start(flags, script).wait_with_output().unwrap().into()
    }

    fn publish(&self, bodies: &[&str]) {
        let mut publisher = self
            .place
            .bus
            .topic("news")
            .open()
            .unwrap()
            .publisher()
            .unwrap();
        for body in bodies {
            publisher
                .publish(&ringway::Publication::new(body.as_bytes()))
                .unwrap();
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.place.path().join(file)).unwrap_or_default()
    }

    fn stats(&self, queue: &str) -> (u64, u64) {
        let stats = self.place.bus.queue(queue).open().unwrap().stats();
        (stats.visible + stats.delayed, stats.in_flight)
    }
}

const RETRY_TWICE: &str =
    r#"--delivery-policy {"healthyRetryPolicy":{"numRetries":2,"numNoDelayRetries":2}}"#;

#[test]
fn a_command_gets_each_batch_once_as_lines_and_the_batch_is_done() {
    let runner = Runner::new();
    // The first run subscribes.
    let first = runner.run("--wait 0s", "exit 1");
    assert_eq!(first.ok(), "0 batches of 0 messages, 0 failed\n");
    runner.publish(&["one", "two", "three", "four", "five"]);
    let script = "cat > batch-$RINGWAY_BATCH; echo noise; \
         echo $RINGWAY_BUS $RINGWAY_TOPIC $RINGWAY_QUEUE $RINGWAY_ROOT >> said";
    let outcome = runner.run("--batch 3 --count 2 --json", script);
    let told: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(
        told,
        serde_json::json!({"batches": 2, "messages": 5, "failed": 0})
    );
    let bodies = |file: &str| -> Vec<String> {
        let text = runner.read(file);
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["body"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(bodies("batch-3"), ["one", "two", "three"]);
    assert_eq!(bodies("batch-2"), ["four", "five"]);
    let said = format!("b news work {}\n", runner.place.path().display());
    assert_eq!(runner.read("said"), said.repeat(2));
    assert!(outcome.err.contains("noise"), "{}", outcome.err);
    assert_eq!(runner.stats("work"), (0, 0));
    let stat = runner
        .place
        .run(&["topic", "stat", "b", "news", "--json"])
        .json();
    assert_eq!(stat["subscriptions"][0]["protocol"], "exec");
    assert_eq!(stat["subscriptions"][0]["delivered"], 5);
    let twice = runner.run(r#"--filter {"a":[1]} --wait 0s"#, "true");
    assert!(twice.refused(2).contains("subscribed already"));
    let missing = runner.place.run(&[
        "topic",
        "exec",
        "b",
        "news",
        "work",
        "--",
        "no-such-command",
    ]);
    assert!(missing.refused(1).contains("no-such-command"));
}

#[test]
fn a_batch_whose_command_fails_is_tried_again_and_then_is_a_dead_letter() {
    let runner = Runner::new();
    runner.place.bus.queue("dead").create().unwrap();
    runner.run("--wait 0s", "true").ok();
    runner.publish(&["poison"]);
    let flags = format!("{RETRY_TWICE} --dead-letter dead --wait 300ms --json");
    let outcome = runner.run(&flags, "echo tried >> tried; exit 7");
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert_eq!(runner.read("tried"), "tried\n".repeat(3));
    assert!(outcome.err.contains("exit status 7"), "{}", outcome.err);
    assert_eq!(
        (runner.stats("work"), runner.stats("dead")),
        ((0, 0), (1, 0))
    );
    // The second time it goes well.
    runner.publish(&["passing"]);
    let script = "[ -e once ] && exit 0; touch once; exit 1";
    runner.run(&format!("{RETRY_TWICE} --count 2 --wait 60s"), script);
    assert_eq!(
        (runner.stats("work"), runner.stats("dead")),
        ((0, 0), (1, 0))
    );
}

#[test]
fn the_batch_of_a_killed_runner_is_given_to_the_next_at_once() {
    let runner = Runner::new();
    runner.run("--wait 0s", "true").ok();
    runner.publish(&["one", "two"]);
    // A lease of half a day: nothing but the death gives the batch back.
    let mut first = runner.start(
        "--visibility 12h",
        "touch began; sleep 600 & echo $! > sleeper; wait",
    );
    until("the command runs", || {
        !runner.read("sleeper").trim().is_empty()
    });
    assert_eq!(runner.stats("work"), (0, 2));
    signal(&first, Signal::KILL);
    first.wait().unwrap();
    runner.run("--count 1 --wait 60s", "cat > again").ok();
    assert_eq!(runner.read("again").lines().count(), 2);
    assert_eq!(runner.stats("work"), (0, 0));
    let sleeper = runner.read("sleeper").trim().parse().unwrap();
    let sleeper = rustix::process::Pid::from_raw(sleeper).unwrap();
    rustix::process::kill_process(sleeper, Signal::KILL).unwrap();
}

#[test]
fn a_command_that_runs_when_it_is_told_to_end_is_let_finish() {
    let runner = Runner::new();
    runner.run("--wait 0s", "true").ok();
    runner.publish(&["one"]);
    let child = runner.start(
        "",
        "touch began; while [ ! -e go ]; do sleep 0.005; done; cat > done",
    );
    until("the command runs", || {
        runner.place.path().join("began").exists()
    });
    // As a terminal's control-c: for all of its group.
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    fs::write(runner.place.path().join("go"), "").unwrap();
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    assert_eq!(outcome.signal, Some(Signal::INT.as_raw()));
    assert_eq!(outcome.out, "1 batches of 1 messages, 0 failed\n");
    assert_eq!(runner.read("done").lines().count(), 1);
    assert_eq!(runner.stats("work"), (0, 0));
}
