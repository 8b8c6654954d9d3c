//! `ringway agent`: what is written to files is in the stream, once and in order, through rotation by renaming
//! and by copying, and through kills of the agent; at most the batch that was on its way is there twice.

use crate::place::{Place, until};
use ringway::{Stream, StreamIterator, StreamReader};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

struct Scene {
    place: Place,
    stream: Stream,
    reader: StreamReader,
    read: Vec<(String, String)>,
    agent: Option<Child>,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        std::fs::create_dir(place.path().join("logs")).unwrap();
        let stream = place.bus.stream("s").shards(2).create().unwrap();
        let begin = StreamIterator::TrimHorizon;
        let reader = stream.reader().iterator(begin).open().unwrap();
        Self {
            place,
            stream,
            reader,
            read: Vec::new(),
            agent: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join("logs").join(name)
    }

    fn arguments(&self, options: &[&str]) -> Vec<String> {
        let checkpoint = self.place.path().join("checkpoint");
        let log = self.path("app.log");
        let fixed = [
            "agent",
            "b",
            "s",
            log.to_str().unwrap(),
            "--checkpoint",
            checkpoint.to_str().unwrap(),
        ];
        fixed
            .iter()
            .chain(options)
            .map(|word| (*word).to_owned())
            .collect()
    }

    fn start(&mut self, options: &[&str]) {
        let arguments = self.arguments(options);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.agent = Some(self.place.start(&words));
    }

    fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn read_on(&mut self) {
        let read = &mut self.read;
        let each = |record: ringway::StreamRecord<'_>| {
            let data = String::from_utf8(record.data.to_vec()).unwrap();
            read.push((record.key().into_owned(), data));
        };
        self.reader
            .read_batch(1000, Duration::from_millis(5), each)
            .unwrap();
    }

    /// Waits until so many different records were read.
    fn wait_for(&mut self, different: usize) {
        until(&format!("{different} records"), || {
            self.read_on();
            let seen: std::collections::HashSet<_> =
                self.read.iter().map(|(_, data)| data).collect();
            seen.len() >= different
        });
    }

    /// Records in the order they came, repeats left out.
    fn firsts(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let mut data = self
            .read
            .iter()
            .map(|(_, data)| data.as_str())
            .collect::<Vec<_>>();
        data.retain(|data| seen.insert(*data));
        data
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("line {number}\n")).collect()
}

fn expected(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[test]
fn lines_go_by_key_and_a_half_one_waits_for_its_end() {
    let mut scene = Scene::new();
    scene.append(
        "app.log",
        "user=ann came\nuser=bob went\nnobody\nuser=ann we",
    );
    scene.start(&["--key-regex", "user=([a-z]+)"]);
    scene.wait_for(3);
    scene.append("app.log", "nt\n");
    scene.wait_for(4);
    scene.read.sort();
    let pair = |key: &str, data: &str| (key.to_owned(), data.to_owned());
    let all = [
        pair("ann", "user=ann came"),
        pair("ann", "user=ann went"),
        pair("app.log", "nobody"),
        pair("bob", "user=bob went"),
    ];
    assert_eq!(scene.read, all);
}

#[test]
fn nothing_is_lost_by_kills_and_rotation_by_renaming_and_at_most_a_batch_is_repeated() {
    let mut scene = Scene::new();
    let options = ["--key", "k", "--batch", "10"];
    let (mut written, mut kills) = (0, 0);
    for round in 0..12 {
        scene.append("app.log", &lines(written..written + 500));
        written += 500;
        if scene.agent.is_none() {
            scene.start(&options);
        }
        if round % 2 == 1 {
            // In the middle: some of it is there.
            scene.wait_for(written as usize - 480);
            scene.kill();
            kills += 1;
        }
        if round % 3 == 2 {
            let rotated = scene.path(&format!("app.log.{round}"));
            std::fs::rename(scene.path("app.log"), rotated).unwrap();
        }
    }
    scene.append("app.log", &lines(written..written + 10));
    written += 10;
    if scene.agent.is_none() {
        scene.start(&options);
    }
    scene.wait_for(written as usize);
    // Files that were rotated are read one beside the other: their lines come in the order of each.
    let mut firsts: Vec<&str> = scene.firsts();
    firsts.sort_by_key(|line| line[5..].parse::<u32>().unwrap());
    assert_eq!(firsts, expected(written));
    let repeats = scene.read.len() - written as usize;
    assert!(repeats <= kills * 10, "{repeats} repeats by {kills} kills");
}

#[test]
fn a_file_that_is_copied_and_truncated_goes_on_in_its_copy() {
    let mut scene = Scene::new();
    let options = ["--key", "k", "--batch", "50"];
    scene.append("app.log", &lines(0..1000));
    scene.start(&options);
    scene.wait_for(1000);
    // Truncated while an agent looks, and what it has not read yet lies in the copy.
    scene.kill();
    scene.append("app.log", &lines(1000..1100));
    std::fs::copy(scene.path("app.log"), scene.path("app.log.1")).unwrap();
    File::create(scene.path("app.log")).unwrap();
    scene.append("app.log", &lines(1100..1200));
    scene.start(&options);
    scene.wait_for(1200);
    File::create(scene.path("app.log")).unwrap();
    scene.append("app.log", &lines(1200..1300));
    scene.wait_for(1300);
    let mut firsts = scene.firsts();
    firsts.sort_by_key(|line| line[5..].parse::<u32>().unwrap());
    assert_eq!(firsts, expected(1300));
    assert!(scene.read.len() <= 1350, "{} of 1300", scene.read.len());
}

#[test]
fn records_of_several_lines_begin_where_the_pattern_says() {
    let mut scene = Scene::new();
    scene.append("app.log", "1 one\n  at a\n  at b\n2 two\n3 three\n  at c\n");
    scene.start(&["--start", "^[0-9] ", "--key", "k", "--patience", "100ms"]);
    scene.wait_for(3);
    assert_eq!(
        scene.firsts(),
        ["1 one\n  at a\n  at b", "2 two", "3 three\n  at c"]
    );
}

#[test]
fn a_csv_file_is_put_once_by_a_column_and_the_agent_says_how_much() {
    let scene = Scene::new();
    scene.append("app.log", "plane,n\nN1,\"a, b\"\nN2,2\nN1,3");
    let arguments = scene.arguments(&["--key-column", "plane", "--once", "--json"]);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = scene.place.run(&words).json();
    assert_eq!(
        (said["records"].as_u64(), said["behind_bytes"].as_u64()),
        (Some(3), Some(0))
    );
    // Nothing is left for a second one.
    let said = scene.place.run(&words).json();
    assert_eq!(said["records"], 0);
    let begin = StreamIterator::TrimHorizon;
    let mut reader = scene.stream.reader().iterator(begin).open().unwrap();
    let mut of_n1 = Vec::new();
    reader
        .try_read_batch(10, |record| {
            if record.key() == "N1" {
                of_n1.push(String::from_utf8(record.data.to_vec()).unwrap());
            }
        })
        .unwrap();
    assert_eq!(of_n1, ["N1,\"a, b\"", "N1,3"]);
    let wrong = scene.arguments(&["--key-column", "plain", "--once"]);
    let words: Vec<&str> = wrong.iter().map(String::as_str).collect();
    scene.append("app.log", "\nN3,4\n");
    assert!(
        scene
            .place
            .run(&words)
            .refused(1)
            .contains("no column \"plain\"")
    );
}

#[test]
fn a_second_agent_with_the_same_checkpoint_is_sent_away() {
    let mut scene = Scene::new();
    scene.append("app.log", "one\n");
    scene.start(&[]);
    scene.wait_for(1);
    let arguments = scene.arguments(&[]);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = scene.place.run(&words).refused(1);
    assert!(refused.contains("another agent runs"), "{refused}");
}
