//! `ringway journal`: a journal on a disk is listed, checked, printed and saved.

use crate::place::Place;
use ringway::journal::{DEFINITION_BYTES, Disk, Options, Pushed, SegmentId, Writer};
use ringway_harness::TempBus;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

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
