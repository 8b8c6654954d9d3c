//! `ringway journal`: a journal on a disk is listed, checked, printed and saved.

use crate::place::Place;
use ringway::journal::{DEFINITION_BYTES, Disk, Options, Pushed, SegmentId, Writer};
use ringway::{Bus, Durability, GroupStart, PutRecord, Stream, StreamIterator, StreamRecord};
use ringway_harness::{Machine, TempBus, directories_in, segments_in};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const ENTRIES: u64 = 400;

/// A journal of some blocks, and where it is.
fn journal() -> (TempBus, PathBuf) {
    let scratch = TempBus::under(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = scratch.path().join("ringway-b/orders");
    let disk = Arc::new(Disk::open_or_create(&dir).unwrap());
    let options = Options {
        segment_bytes: 128 << 10,
        buffer_bytes: 16 << 10,
        background: false,
        ..Options::default()
    };
    let definition = [5; DEFINITION_BYTES];
    let mut writer = Writer::take_over(disk, options, 77, 3, 100, &definition).unwrap();
    for position in 100..100 + ENTRIES {
        let body = format!("entry {position} {}", "x".repeat(500));
        assert_eq!(
            writer.push(1, 0, position, &[body.as_bytes()]).unwrap(),
            Pushed::Done
        );
        if position % 10 == 9 {
            writer.submit().unwrap();
            writer.complete(true).unwrap();
        }
    }
    assert_eq!(writer.push(0x90, 0, 0, &[b"state"]).unwrap(), Pushed::Done);
    writer.close().unwrap();
    (scratch, dir)
}

fn damage(dir: &std::path::Path) {
    let first = dir.join(SegmentId { epoch: 3, index: 0 }.name());
    let file = File::options().read(true).write(true).open(first).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 30_000).unwrap();
    file.write_all_at(&[!byte[0]], 30_000).unwrap();
}

#[test]
fn a_whole_journal_is_listed_verified_and_dumped() {
    let place = Place::new();
    let (_scratch, dir) = journal();
    let dir = dir.to_str().unwrap();
    let listed = place.run(&["--json", "journal", "ls", dir]).json();
    let segments = listed.as_array().unwrap();
    assert!(segments.len() >= 2, "{listed}");
    assert!(segments.iter().all(|segment| segment["sealed"] == true));
    assert_eq!(segments[0]["start"], 100);
    let verified = place.run(&["--json", "journal", "verify", dir]).json();
    assert_eq!(verified["whole"], true);
    assert_eq!(verified["entries"], ENTRIES + 1);
    assert_eq!(verified["next"], 100 + ENTRIES);
    let dumped = place.run(&["journal", "dump", dir, "--from", "110", "--to", "112"]);
    let lines: Vec<_> = dumped.out.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("110 1 0 510 entry 110 xxx"),
        "{}",
        lines[0]
    );
}

#[test]
fn damage_is_named_and_what_is_whole_is_saved() {
    let place = Place::new();
    let (scratch, dir) = journal();
    damage(&dir);
    let verified = place.run(&["journal", "verify", dir.to_str().unwrap()]);
    assert_eq!(verified.code, Some(1));
    assert!(
        verified.out.contains("00000000.segment, bytes"),
        "{}",
        verified.out
    );
    let refused = place.run(&["journal", "dump", dir.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("is damaged"), "{}", refused.err);
    let saved = scratch.path().join("saved");
    let saved = saved.to_str().unwrap();
    let told = place
        .run(&["--json", "journal", "salvage", dir.to_str().unwrap(), saved])
        .json();
    assert_eq!(told["damage"].as_array().unwrap().len(), 1);
    let entries = told["entries"].as_u64().unwrap();
    assert!((ENTRIES - 20..ENTRIES + 1).contains(&entries), "{told}");
    let verified = place.run(&["--json", "journal", "verify", saved]).json();
    assert_eq!(verified["whole"], true);
    assert_eq!(verified["next"], 100 + ENTRIES);
    let again = place.run(&["journal", "salvage", dir.to_str().unwrap(), saved]);
    assert_eq!(again.code, Some(1), "a journal is never written over");
}

#[test]
fn a_directory_above_says_where_journals_are() {
    let place = Place::new();
    let (_scratch, dir) = journal();
    let asked = place.run(&["journal", "ls", dir.parent().unwrap().to_str().unwrap()]);
    assert_eq!(asked.code, Some(1));
    assert!(
        asked.err.contains("holds no journal; there is"),
        "{}",
        asked.err
    );
    assert!(asked.err.contains("orders"));
}

/// Flips a bit of each of these bytes in the only segment of the journal in a directory.
fn damage_at(dir: &Path, wanted: &str) {
    let [segment] = &segments_in(dir)[..] else {
        panic!("{dir:?} has several segments");
    };
    let bytes = std::fs::read(segment).unwrap();
    let mut windows = bytes.windows(wanted.len());
    let at = windows.position(|it| it == wanted.as_bytes()).unwrap();
    let file = File::options().write(true).open(segment).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn what_is_saved_of_a_shard_goes_into_the_place_of_its_journal_and_the_stream_goes_on() {
    for lost in ["in the middle", "at the end"] {
        let place = Place::new();
        let machine = Machine::under(env!("CARGO_TARGET_TMPDIR"));
        let bus = || {
            let builder = Bus::builder("bus").root(machine.memory());
            builder.journal_root(machine.disk()).open_or_create()
        };
        let stream = bus().unwrap().stream("s").durability(Durability::Durable);
        let stream = stream.slots(1024).create().unwrap();
        let group = stream
            .group_or_create("g", GroupStart::TrimHorizon)
            .unwrap();
        let mut worker = group.join().unwrap();
        let mut producer = stream.producer().unwrap();
        let mut put = Vec::new();
        for block in 0..40 {
            let bodies: Vec<_> = (0..5)
                .map(|i| format!("record {};", block * 5 + i))
                .collect();
            let records = bodies
                .iter()
                .map(|body| PutRecord::new("k", body.as_bytes()));
            for outcome in producer.put_batch(&Vec::from_iter(records)) {
                put.push(outcome.unwrap().sequence_number);
            }
        }
        assert_eq!(
            worker
                .read_batch(7, Duration::from_secs(10), |_| ())
                .unwrap(),
            7
        );
        worker.checkpoint().unwrap();
        drop((producer, worker, group, stream));
        machine.restart();
        let shard = directories_in(&machine.journal("s")).remove(0);
        let (first, at) = match lost {
            "at the end" => (195, "record 197;"),
            _ => (100, "record 103;"),
        };
        damage_at(&shard, at);
        let refused = bus().unwrap().stream("s").open().map(drop).unwrap_err();
        assert!(refused.to_string().contains("salvage"), "{refused}");
        let saved = machine.disk().join("saved");
        let (from, to) = (shard.to_str().unwrap(), saved.to_str().unwrap());
        let told = place
            .run(&["--json", "journal", "salvage", from, to])
            .json();
        assert_eq!(told["damage"].as_array().unwrap().len(), 1, "{told}");
        std::fs::rename(&shard, machine.disk().join("aside")).unwrap();
        std::fs::rename(&saved, &shard).unwrap();

        let stream = bus().unwrap().stream("s").open().unwrap();
        let read = |stream: &Stream| {
            let iterator = StreamIterator::TrimHorizon;
            let mut reader = stream.reader().iterator(iterator).open().unwrap();
            let mut found = Vec::new();
            let mut each = |record: StreamRecord<'_>| found.push(record.sequence_number);
            while reader.try_read_batch(1000, &mut each).unwrap() > 0 {}
            found
        };
        let is_there = |number: usize| !(first..first + 5).contains(&number);
        let kept: Vec<_> = (0..200)
            .filter(|number| is_there(*number))
            .map(|number| put[number])
            .collect();
        assert_eq!(read(&stream), kept, "{lost}");
        let group = stream.group("g").unwrap();
        assert_eq!(group.info().unwrap().shards[0].checkpoint, put[7], "{lost}");
        let next = stream.producer().unwrap().put("k", b"behind").unwrap();
        assert!(next.sequence_number > put[199], "{lost}");
        assert_eq!(
            read(&stream),
            [kept, vec![next.sequence_number]].concat(),
            "{lost}"
        );
    }
}
