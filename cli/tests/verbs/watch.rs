//! `ringway watch`: what happens to files becomes messages, once, when it has happened.

use crate::place::{Place, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout};

/// A directory that is watched, and two queues that hear of it.
struct Watched {
    place: Place,
    directory: PathBuf,
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Watched {
    fn start(flags: &str) -> Self {
        Self::of(flags, |_| ())
    }

    fn of(flags: &str, prepare: impl FnOnce(&Path)) -> Self {
        let place = Place::new();
        let directory = place.path().join("bucket");
        fs::create_dir(&directory).unwrap();
        prepare(&directory);
        let topic = place.bus.topic("files").create().unwrap();
        for queue in ["q", "other"] {
            place.bus.queue(queue).create().unwrap();
            topic
                .subscribe(&ringway::SubscribeOptions::new(queue).raw(true))
                .unwrap();
        }
        let mut arguments = vec![
            "watch",
            "b",
            directory.to_str().unwrap(),
            "--topic",
            "files",
            "--ready",
        ];
        arguments.extend(flags.split_whitespace());
        let mut child = place.start(&arguments);
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        assert_eq!(line, "watching\n");
        // Kept open, so that it may complain.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
        let said = BufReader::new(child.stdout.take().unwrap());
        Self {
            place,
            directory,
            child,
            said,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The next event, as it says it.
    fn event(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end()
            .replace("ObjectCreated:Put", "+")
            .replace("ObjectRemoved:Delete", "-")
    }

    fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event()).collect()
    }

    /// Makes a file that is told of last, and sees that nothing else is.
    fn nothing_more(&mut self) {
        fs::write(self.path("last"), "").unwrap();
        assert_eq!(self.event(), "+ last");
    }

    /// What a command was given that is run for what is published.
    fn function(&self, limit: &str, number: &str) -> String {
        let event = self.place.path().join("event");
        let script = format!("cat >> {}", event.display());
        let exec = ["topic", "exec", "b", "files", "function", limit, number];
        let command = ["--", "sh", "-c", &script];
        self.place.run(&[&exec[..], &command].concat()).ok();
        fs::read_to_string(event).unwrap_or_default()
    }

    /// Everything that a queue got.
    fn received(&self, queue: &str) -> Vec<Value> {
        let received = self
            .place
            .run(&["receive", "b", queue, "--all", "--delete", "--json"])
            .ok();
        received
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        signal(&self.child, Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
fn a_file_that_was_written_and_one_that_was_removed_reach_every_queue_and_the_function() {
    let mut watched = Watched::start("");
    // The first run subscribes.
    assert_eq!(watched.function("--wait", "0s"), "");
    fs::write(watched.path("red flower.jpg"), "four").unwrap();
    assert_eq!(watched.event(), "+ red flower.jpg");
    fs::remove_file(watched.path("red flower.jpg")).unwrap();
    assert_eq!(watched.event(), "- red flower.jpg");
    let other = watched.received("other");
    let queue = watched.received("q");
    assert_eq!((queue.len(), other.len()), (2, 2));
    let batch = watched.function("--count", "1");
    assert_eq!(batch.matches("red+flower.jpg").count(), 2, "{batch}");
    let bodies = |all: &[Value]| -> Vec<String> {
        all.iter()
            .map(|one| one["body"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(bodies(&queue), bodies(&other));
    let attributes = &queue[0]["attributes"];
    assert_eq!(attributes["event"]["value"], "ObjectCreated:Put");
    assert_eq!(attributes["bucket"]["value"], "bucket");
    assert_eq!(attributes["key"]["value"], "red flower.jpg");
    let events: Vec<Value> = bodies(&queue)
        .iter()
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    let [created, removed] = [&events[0]["Records"][0], &events[1]["Records"][0]];
    assert_eq!(
        (&created["eventName"], &removed["eventName"]),
        (&"ObjectCreated:Put".into(), &"ObjectRemoved:Delete".into())
    );
    for event in [created, removed] {
        assert_eq!(
            (&event["eventVersion"], &event["eventSource"]),
            (&"2.1".into(), &"aws:s3".into())
        );
        assert_eq!(event["s3"]["bucket"]["name"], "bucket");
        assert_eq!(event["s3"]["bucket"]["arn"], "arn:aws:s3:::bucket");
        assert_eq!(event["s3"]["object"]["key"], "red+flower.jpg");
    }
    assert_eq!(created["s3"]["object"]["size"], 4);
    assert!(removed["s3"]["object"].get("size").is_none());
    let sequencer = |event: &Value| {
        event["s3"]["object"]["sequencer"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(sequencer(created) < sequencer(removed));
}

#[test]
fn a_file_is_told_of_when_it_is_complete() {
    let mut watched = Watched::start("");
    let mut slow = fs::File::create(watched.path("slow")).unwrap();
    slow.write_all(b"half").unwrap();
    // In a directory that is new, too, where it is met by a look and not by an event.
    fs::create_dir(watched.path("new")).unwrap();
    let mut slow_below = fs::File::create(watched.path("new/slow")).unwrap();
    fs::write(watched.path("new/quick"), "").unwrap();
    assert_eq!(watched.event(), "+ new/quick");
    slow_below.write_all(b"all of it").unwrap();
    drop(slow_below);
    assert_eq!(watched.event(), "+ new/slow");
    drop(slow);
    assert_eq!(watched.event(), "+ slow");
    // What was never complete was never there.
    let never = fs::File::create(watched.path("never")).unwrap();
    fs::remove_file(watched.path("never")).unwrap();
    drop(never);
    // Opened for writing and left as it was: nothing has happened.
    drop(
        fs::OpenOptions::new()
            .append(true)
            .open(watched.path("slow")),
    );
    watched.nothing_more();
    let sizes: Vec<Value> = watched
        .received("q")
        .iter()
        .map(|one| {
            serde_json::from_str::<Value>(one["body"].as_str().unwrap()).unwrap()["Records"][0]
                    ["s3"]["object"]["size"]
                    .clone()
        })
        .collect();
    assert_eq!(sizes, [0, 9, 4, 0]);
}

#[test]
fn what_is_moved_in_is_created_and_what_is_moved_out_is_removed() {
    let mut watched = Watched::start("");
    let outside = watched.place.path().join("outside");
    fs::create_dir_all(outside.join("deep/er")).unwrap();
    fs::write(outside.join("deep/one"), "1").unwrap();
    fs::write(outside.join("deep/er/two"), "2").unwrap();
    fs::rename(outside.join("deep"), watched.path("deep")).unwrap();
    let mut created = watched.events(2);
    created.sort();
    assert_eq!(created, ["+ deep/er/two", "+ deep/one"]);
    // Within: gone there, here now. And what is below it is watched under its new name.
    fs::rename(watched.path("deep"), watched.path("moved")).unwrap();
    let mut moved = watched.events(4);
    moved.sort();
    assert_eq!(
        moved,
        [
            "+ moved/er/two",
            "+ moved/one",
            "- deep/er/two",
            "- deep/one"
        ]
    );
    fs::write(watched.path("moved/er/three"), "3").unwrap();
    assert_eq!(watched.event(), "+ moved/er/three");
    fs::rename(watched.path("moved/one"), watched.path("moved/two")).unwrap();
    assert_eq!(watched.events(2), ["- moved/one", "+ moved/two"]);
    fs::hard_link(watched.path("moved/two"), watched.path("link")).unwrap();
    assert_eq!(watched.event(), "+ link");
    fs::rename(watched.path("moved"), outside.join("back")).unwrap();
    let mut removed = watched.events(3);
    removed.sort();
    assert_eq!(
        removed,
        ["- moved/er/three", "- moved/er/two", "- moved/two"]
    );
    // Outside it is not watched any more.
    fs::write(outside.join("back/four"), "4").unwrap();
    std::os::unix::fs::symlink("nowhere", watched.path("symbolic")).unwrap();
    watched.nothing_more();
    fs::create_dir_all(watched.path("a/b")).unwrap();
    fs::write(watched.path("a/b/c"), "").unwrap();
    assert_eq!(watched.event(), "+ a/b/c");
    fs::remove_dir_all(watched.path("a")).unwrap();
    assert_eq!(watched.event(), "- a/b/c");
}

#[test]
fn only_the_wanted_events_and_keys_are_published() {
    let prepare = |directory: &Path| {
        fs::create_dir(directory.join("images")).unwrap();
        for name in ["images/old.jpg", "images/old.txt"] {
            fs::write(directory.join(name), "").unwrap();
        }
    };
    let flags = "--prefix images/ --suffix .jpg --events create --existing --count 3";
    let mut watched = Watched::of(flags, prepare);
    for name in [
        "images/a.png",
        "a.jpg",
        "images/a.jpg",
        "images/b.jpg",
        "images/c.jpg",
    ] {
        fs::write(watched.path(name), "").unwrap();
    }
    fs::remove_file(watched.path("images/a.jpg")).unwrap();
    let events = watched.events(3);
    assert_eq!(events[0], "+ images/old.jpg");
    assert!(
        events[1..]
            .iter()
            .all(|event| event.starts_with("+ images/") && event.ends_with(".jpg"))
    );
    let mut rest = String::new();
    watched.said.read_line(&mut rest).unwrap();
    assert_eq!(rest, "", "it has ended");
}

#[test]
fn nothing_is_lost_among_many_files_whatever_the_kernel_drops() {
    let mut watched = Watched::start("");
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // It stands still while more happens than the kernel keeps.
    signal(&watched.child, Signal::STOP);
    let files = limit / 3 + 1000;
    for number in 0..files {
        fs::write(watched.path(&format!("f{number}")), "").unwrap();
    }
    for number in 0..100 {
        fs::remove_file(watched.path(&format!("f{number}"))).unwrap();
        fs::write(watched.path(&format!("g{number}")), "").unwrap();
    }
    signal(&watched.child, Signal::CONT);
    let mut there = std::collections::BTreeSet::new();
    let is_all_there = |there: &std::collections::BTreeSet<String>| {
        there.len() == files && (0..100).all(|number| there.contains(&format!("g{number}")))
    };
    while !is_all_there(&there) {
        let event = watched.event();
        let (kind, key) = event.split_once(' ').expect("it goes on");
        match kind {
            "+" => assert!(there.insert(key.to_owned()), "{key} twice"),
            _ => assert!(there.remove(key), "{key} was not there"),
        }
    }
    watched.nothing_more();
}

#[test]
fn a_directory_that_is_taken_away_ends_it_with_the_reason() {
    let place = Place::new();
    let directory = place.path().join("gone");
    fs::create_dir(&directory).unwrap();
    place.bus.topic("files").create().unwrap();
    let arguments = [
        "watch",
        "b",
        directory.to_str().unwrap(),
        "--topic",
        "files",
    ];
    let child = place.start(&arguments);
    // It has an inotify descriptor with a watch.
    let descriptors = format!("/proc/{}/fdinfo", child.id());
    until("it watches", || {
        let mut files = fs::read_dir(&descriptors).into_iter().flatten().flatten();
        files.any(|file| {
            fs::read_to_string(file.path()).is_ok_and(|text| text.contains("inotify wd"))
        })
    });
    fs::remove_dir(&directory).unwrap();
    let outcome: crate::place::Outcome = child.wait_with_output().unwrap().into();
    assert!(outcome.refused(1).contains("was moved or removed"));
    assert!(place.run(&arguments).refused(1).contains("can't watch"));
    let missing = ["watch", "b", "/", "--topic", "files"];
    assert!(place.run(&missing).refused(2).contains("--bucket"));
}
