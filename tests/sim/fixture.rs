//! The bytes of each version as they were when it was made: those of the last written alike today, all of them
//! read alike.
//!
//! `RINGWAY_BLESS=1` writes the fixture anew, for a new version beside it.

use crate::disk::Sim;
use crate::script::{DATA, OBJECT, definition, options};
use crate::world::World;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ringway::JournalError;
use ringway::journal::{Pushed, Reading, Recovery, SIDE, SegmentId, Writer};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The last one is written.
const VERSIONS: [&str; 2] = ["1.0", "1.1"];

fn path(version: &str) -> PathBuf {
    let name = format!("tests/data/journal-{version}.segment.gz");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Every kind of entry, an entry in pieces, a gap, a mark, and the footer.
fn written() -> Vec<u8> {
    let sim = Sim::new(World::default(), 0);
    let storage = Arc::new(sim.clone());
    let start = 1_000;
    let mut writer = Writer::take_over(storage, options(2), OBJECT, 7, start, &definition())
        .expect("it is well");
    let long: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
    let pushed = [
        writer.push(DATA, 3, 1_000, &[b"one ", b"entry"]),
        writer.push(SIDE + 1, 9, 77, &[b"state"]),
        writer.gap(1_001, 1_010),
        writer.push(2, 0, 1_010, &[]),
        writer.push(DATA, 0, 1_011, &[&long]),
    ];
    assert!(
        pushed
            .iter()
            .all(|pushed| matches!(pushed, Ok(Pushed::Done)))
    );
    writer.submit().expect("it is well");
    writer.complete(true).expect("it is well");
    writer.mark().expect("it is well");
    writer.close().expect("it is well");
    let name = SegmentId { epoch: 7, index: 0 }.name();
    sim.world(|world| world.bytes(&name).expect("it was made").to_vec())
}

#[test]
fn the_last_version_is_written_as_it_was() {
    let written = written();
    let version = VERSIONS[VERSIONS.len() - 1];
    if std::env::var_os("RINGWAY_BLESS").is_some() {
        let file = std::fs::File::create(path(version)).unwrap();
        let mut encoder = GzEncoder::new(file, Compression::best());
        encoder.write_all(&written).unwrap();
        encoder.finish().unwrap();
    }
    let fixture = fixture(version);
    let differs = written
        .iter()
        .zip(&fixture)
        .position(|(now, then)| now != then);
    assert_eq!(
        differs, None,
        "the first byte that differs from the fixture"
    );
    assert_eq!(written.len(), fixture.len());
}

fn fixture(version: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path(version)).expect("the fixture is there");
    GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .expect("it is whole");
    bytes
}

#[test]
fn every_version_is_read_as_it_was() {
    for version in VERSIONS {
        reads_as_it_was(&fixture(version));
    }
}

fn reads_as_it_was(fixture: &[u8]) {
    let mut world = World::default();
    let name = SegmentId { epoch: 7, index: 0 }.name();
    let file = world.make(&name, fixture.len() as u64).expect("it is new");
    let write = world.begin(file, 0, fixture);
    world.complete(write);
    let recovery = Recovery::open(Arc::new(Sim::new(world, 0)), Some(OBJECT), false).unwrap();
    assert_eq!(recovery.definition(), &definition());
    let mut seen = Vec::new();
    let found = recovery.read(&Reading::default(), |entry| {
        let said = (entry.kind, entry.flags, entry.position, entry.bytes.len());
        seen.push((said, entry.bytes.first().copied()));
        Ok::<_, JournalError>(())
    });
    assert_eq!(found.unwrap().next, 1_012);
    assert_eq!(
        seen,
        [
            ((1, 3, 1_000, 9), Some(b'o')),
            ((0x81, 9, 77, 5), Some(b's')),
            ((0, 0, 1_001, 8), Some(0xF2)),
            ((2, 0, 1_010, 0), None),
            ((1, 0, 1_011, 10_000), Some(0)),
        ]
    );
}
