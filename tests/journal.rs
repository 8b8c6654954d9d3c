//! Journals on a real disk: what was acknowledged is found again, in order, by every way to write it; what
//! was not may be missing, and damage is told, never mended in silence.

use ringway::JournalError;
use ringway::journal::{
    Backend, Cursor, DEFINITION_BYTES, Disk, Options, Pushed, Reading, Recovered, Recovery,
    SegmentId, Writer, exists, remove,
};
use ringway_harness::TempBus;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const OBJECT: u64 = 0x1234_5678_9ABC_DEF0;
const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Pwrite];

/// Small enough that a test sees several segments.
fn small() -> Options {
    Options {
        segment_bytes: 128 << 10,
        buffer_bytes: 16 << 10,
        buffers: 3,
        spares: 1,
        reserve_bytes: 0,
        background: false,
    }
}

fn scratch() -> TempBus {
    TempBus::under(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

fn definition(of: u8) -> [u8; DEFINITION_BYTES] {
    [of; DEFINITION_BYTES]
}

fn storage(scratch: &TempBus, backend: Backend) -> Arc<Disk> {
    let disk = Disk::open_or_create(scratch.path().join("ringway-demo/orders")).expect("a disk");
    Arc::new(disk.backend(backend))
}

fn body(position: u64) -> Vec<u8> {
    let len = 1 + (position * 37 % 700) as usize;
    (0..len)
        .map(|i| (position as usize * 31 + i) as u8)
        .collect()
}

/// Pushes entries, submitting when the buffers are full.
fn fill(writer: &mut Writer<Disk>, positions: core::ops::Range<u64>) {
    for position in positions {
        let body = body(position);
        let (one, other) = body.split_at(body.len() / 2);
        while writer
            .push(1, 7, position, &[one, other])
            .expect("it writes")
            == Pushed::Full
        {
            writer.complete_one().expect("it writes");
        }
    }
}

fn read(storage: &Arc<Disk>, reading: &Reading<'_>) -> Result<(Vec<u64>, Recovered), JournalError> {
    let recovery = Recovery::open(Arc::clone(storage), Some(OBJECT), reading.salvage)?;
    let mut positions = Vec::new();
    let found = recovery.read(reading, |entry| {
        if entry.kind == 1 {
            assert_eq!(
                entry.bytes,
                body(entry.position),
                "of position {}",
                entry.position
            );
            assert_eq!(entry.flags, 7);
            positions.push(entry.position);
        }
        Ok::<_, JournalError>(())
    })?;
    Ok((positions, found))
}

fn all(range: core::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn what_was_completed_is_recovered_over_many_segments() {
    for backend in BACKENDS {
        let scratch = scratch();
        let storage = storage(&scratch, backend);
        let mut writer =
            Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 5, &definition(9)).unwrap();
        fill(&mut writer, 5..2000);
        writer.submit().unwrap();
        let mark = writer.complete(true).unwrap();
        assert_eq!(mark.position, 2000);
        assert!(mark.cursor.segment >= 4 && !mark.is_under_way, "{mark:?}");
        drop(writer);

        let (positions, found) = read(&storage, &Reading::default()).unwrap();
        assert_eq!(positions, all(5..2000), "{backend:?}");
        assert_eq!((found.next, found.epoch), (2000, 1));
        let recovery = Recovery::open(Arc::clone(&storage), None, false).unwrap();
        assert_eq!(recovery.definition(), &definition(9));
        assert_eq!(recovery.object(), OBJECT);
    }
}

#[test]
fn pushed_but_not_submitted_is_not_there() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
    fill(&mut writer, 0..3);
    writer.submit().unwrap();
    assert_eq!(writer.complete(true).unwrap().position, 3);
    fill(&mut writer, 3..5);
    assert_eq!(writer.cursor(), None, "a buffer is being filled");
    drop(writer);
    let (positions, found) = read(&storage, &Reading::default()).unwrap();
    assert_eq!((positions, found.next), (all(0..3), 3));
}

#[test]
fn an_entry_longer_than_every_buffer_comes_back_whole() {
    for backend in BACKENDS {
        let scratch = scratch();
        let storage = storage(&scratch, backend);
        let mut writer =
            Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
        let long: Vec<u8> = (0..300_001_u32).map(|i| ((i * 7) >> 3) as u8).collect();
        fill(&mut writer, 0..1);
        let parts: [&[u8]; 3] = [&long[..1], &long[1..200_000], &long[200_000..]];
        assert_eq!(writer.push(2, 0, 1, &parts).unwrap(), Pushed::Done);
        fill(&mut writer, 2..3);
        writer.submit().unwrap();
        assert_eq!(writer.complete(true).unwrap().position, 3);
        drop(writer);
        let recovery = Recovery::open(storage, Some(OBJECT), false).unwrap();
        let mut seen = Vec::new();
        let each = |entry: ringway::journal::Entry<'_>| {
            seen.push((entry.kind, entry.position));
            if entry.kind == 2 {
                assert!(entry.bytes == long, "the long entry differs");
            }
            Ok::<_, JournalError>(())
        };
        recovery.read(&Reading::default(), each).unwrap();
        assert_eq!(seen, [(1, 0), (2, 1), (1, 2)]);
    }
}

#[test]
fn the_lead_passes_between_writers_without_a_new_segment() {
    for backend in BACKENDS {
        let scratch = scratch();
        let storage = storage(&scratch, backend);
        let mut one =
            Writer::take_over(Arc::clone(&storage), small(), OBJECT, 4, 0, &definition(1)).unwrap();
        let mut cursor = one.cursor().unwrap();
        let mut other: Option<Writer<Disk>> = None;
        let mut next = 0;
        for turn in 0..200 {
            let writer = if turn % 2 == 0 {
                one.seek(cursor, next).unwrap();
                &mut one
            } else if let Some(other) = &mut other {
                other.seek(cursor, next).unwrap();
                other
            } else {
                let resumed =
                    Writer::resume(Arc::clone(&storage), small(), OBJECT, 4, cursor, next);
                other.insert(resumed.unwrap())
            };
            fill(writer, next..next + 5);
            next += 5;
            writer.submit().unwrap();
            assert_eq!(writer.complete(true).unwrap().position, next);
            let before = cursor;
            cursor = writer.cursor().unwrap();
            assert!(cursor > before);
        }
        assert!(cursor.segment > 2, "{cursor:?}");
        let (positions, _) = read(&storage, &Reading::default()).unwrap();
        assert_eq!(positions, all(0..1000));
    }
}

#[test]
fn a_new_epoch_supersedes_what_was_never_acknowledged() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    let mut displaced =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
    fill(&mut displaced, 0..10);
    displaced.submit().unwrap();
    displaced.complete(true).unwrap();
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 2, 10, &definition(2)).unwrap();
    // It does not know yet that it is displaced.
    fill(&mut displaced, 10..40);
    displaced.submit().unwrap();
    displaced.complete(true).unwrap();
    assert_eq!(writer.gap(10, 20).unwrap(), Pushed::Done);
    fill(&mut writer, 20..25);
    writer.submit().unwrap();
    writer.complete(true).unwrap();
    drop(writer);
    let (positions, found) = read(&storage, &Reading::default()).unwrap();
    assert_eq!(positions, [all(0..10), all(20..25)].concat());
    assert_eq!((found.next, found.epoch), (25, 2));
    assert!(
        matches!(
            Writer::take_over(storage, small(), OBJECT, 2, 25, &definition(2)),
            Err(JournalError::EpochTaken { epoch: 2, .. })
        ),
        "an epoch is one writer's"
    );
}

fn flip(directory: &Path, segment: SegmentId, offset: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(directory.join(segment.name()))
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn damage_is_named_and_salvage_takes_what_is_whole() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
    for batch in 0..100 {
        fill(&mut writer, batch * 10..batch * 10 + 10);
        writer.submit().unwrap();
        writer.complete(true).unwrap();
    }
    drop(writer);
    let second = SegmentId { epoch: 1, index: 1 };
    flip(storage.directory(), second, 20_000);
    let refused = read(&storage, &Reading::default()).unwrap_err();
    let JournalError::Damaged { path, from, to, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(path.ends_with(second.name()));
    assert!((*from..*to).contains(&20_000), "{from} to {to}");
    let reading = Reading {
        salvage: true,
        ..Reading::default()
    };
    let (positions, found) = read(&storage, &reading).unwrap();
    assert_eq!(found.damage.len(), 1);
    // One block of ten is lost.
    assert_eq!(positions.len(), 990);
    assert_eq!(found.next, 1000);
    assert!(
        read(&storage, &Reading::default()).is_err(),
        "nothing was mended"
    );
}

#[test]
fn a_torn_tail_is_cut_off_and_recovery_twice_is_recovery_once() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
    fill(&mut writer, 0..10);
    writer.submit().unwrap();
    writer.complete(true).unwrap();
    let cursor = writer.cursor().unwrap();
    fill(&mut writer, 10..30);
    writer.submit().unwrap();
    writer.complete(true).unwrap();
    drop(writer);
    // As if the power had gone while the last block was written.
    let file = File::options()
        .write(true)
        .open(
            storage
                .directory()
                .join(SegmentId { epoch: 1, index: 0 }.name()),
        )
        .unwrap();
    file.write_all_at(&[0; 512], cursor.offset + 1024).unwrap();
    let sealing = Reading {
        seal: true,
        ..Reading::default()
    };
    let (positions, once) = read(&storage, &sealing).unwrap();
    assert_eq!(positions, all(0..10));
    assert_eq!(
        once.ends,
        [(SegmentId { epoch: 1, index: 0 }, cursor.offset)]
    );
    let (positions, twice) = read(&storage, &sealing).unwrap();
    assert_eq!((positions, twice.next, twice.epoch), (all(0..10), 10, 1));
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 2, 10, &definition(1)).unwrap();
    fill(&mut writer, 10..12);
    writer.submit().unwrap();
    writer.complete(true).unwrap();
    drop(writer);
    assert_eq!(read(&storage, &sealing).unwrap().0, all(0..12));
}

#[test]
fn sealed_segments_that_are_not_needed_are_not_read() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
    fill(&mut writer, 0..3000);
    writer.close().unwrap();
    let recovery = Recovery::open(Arc::clone(&storage), Some(OBJECT), false).unwrap();
    assert!(recovery.segments().all(|segment| segment.sealed.is_some()));
    let last = recovery.segments().last().unwrap().id;
    let reading = Reading {
        needed: &|segment| segment.id == last,
        ..Reading::default()
    };
    let (positions, found) = read(&storage, &reading).unwrap();
    assert_eq!(found.next, 3000);
    assert!(found.block_bytes < 128 << 10, "{}", found.block_bytes);
    assert!(positions.len() < 1000 && positions.last() == Some(&2999));
}

#[test]
fn released_segments_are_recycled_and_their_old_bytes_never_come_back() {
    for backend in BACKENDS {
        let scratch = scratch();
        let storage = storage(&scratch, backend);
        let mut writer =
            Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap();
        let (mut next, mut taken) = (0, 0);
        for _ in 0..12 {
            fill(&mut writer, next..next + 300);
            next += 300;
            writer.submit().unwrap();
            writer.complete(true).unwrap();
            let current = writer.cursor().unwrap().segment;
            let old: Vec<_> = (0..current)
                .map(|index| SegmentId { epoch: 1, index })
                .collect();
            // One whose footer is under way is taken when that is there.
            while taken < current {
                writer.complete(true).unwrap();
                taken += writer.release(&old).unwrap() as u64;
            }
        }
        let files = std::fs::read_dir(storage.directory()).unwrap().count();
        assert!(files <= 5, "{files} files");
        let current = writer.cursor().unwrap();
        drop(writer);
        let (positions, found) = read(&storage, &Reading::default()).unwrap();
        assert_eq!(found.next, next);
        assert_eq!(positions.last(), Some(&(next - 1)));
        assert!(
            positions.is_sorted() && positions.len() < 600,
            "{}",
            positions.len()
        );
        assert_eq!(found.ends.last().unwrap().1, current.offset);
        remove(&*storage).unwrap();
        assert!(!exists(&*storage));
    }
}

#[test]
fn a_writer_that_was_displaced_gives_no_segments_back() {
    for backend in BACKENDS {
        let scratch = scratch();
        let storage = storage(&scratch, backend);
        let take_over = |epoch, start| {
            let storage = Arc::clone(&storage);
            Writer::take_over(storage, small(), OBJECT, epoch, start, &definition(1)).unwrap()
        };
        let mut late = take_over(1, 0);
        fill(&mut late, 0..1500);
        late.submit().unwrap();
        late.complete(true).unwrap();
        let current = late.cursor().unwrap().segment;
        let old: Vec<_> = (0..current)
            .map(|index| SegmentId { epoch: 1, index })
            .collect();
        assert!(old.len() > 2);
        let mut next = take_over(2, 1500);
        fill(&mut next, 1500..1501);
        next.submit().unwrap();
        next.complete(true).unwrap();
        // What it said again, so that these are not needed, is behind the end of its epoch.
        assert_eq!(late.release(&old).unwrap(), 0);
        drop((late, next));
        let (positions, _) = read(&storage, &Reading::default()).unwrap();
        assert_eq!(positions, all(0..1501), "{backend:?}");
    }
}

#[test]
fn another_objects_segment_and_one_of_a_later_format_are_refused() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    assert!(matches!(
        Recovery::open(Arc::clone(&storage), None, false),
        Err(JournalError::NotFound { .. })
    ));
    drop(Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 0, &definition(1)).unwrap());
    assert!(matches!(
        Recovery::open(Arc::clone(&storage), Some(OBJECT + 1), false),
        Err(JournalError::OtherObject { found: OBJECT, .. })
    ));
    let first = SegmentId { epoch: 1, index: 0 };
    let path = storage.directory().join(first.name());
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[2, 0], 8).unwrap();
    assert!(matches!(
        Recovery::open(Arc::clone(&storage), None, false),
        Err(JournalError::WrongFormat { found_major: 2, .. })
    ));
    file.write_all_at(&[1, 0], 8).unwrap();
    flip(storage.directory(), first, 5000);
    assert!(matches!(
        Recovery::open(Arc::clone(&storage), None, false),
        Err(JournalError::Damaged { from: 0, .. })
    ));
}

#[test]
fn sizes_positions_and_cursors_are_checked() {
    let scratch = scratch();
    let storage = storage(&scratch, Backend::Uring);
    for wrong in [
        Options {
            segment_bytes: 4096,
            ..small()
        },
        Options {
            buffer_bytes: 5000,
            ..small()
        },
        Options {
            buffers: 1,
            ..small()
        },
        Options {
            segment_bytes: 64 << 10,
            buffer_bytes: 64 << 10,
            ..small()
        },
    ] {
        assert!(matches!(
            Writer::take_over(Arc::clone(&storage), wrong, OBJECT, 1, 0, &definition(1)),
            Err(JournalError::InvalidOption { .. })
        ));
    }
    let mut writer =
        Writer::take_over(Arc::clone(&storage), small(), OBJECT, 1, 7, &definition(1)).unwrap();
    assert!(matches!(
        writer.push(1, 0, 8, &[b"x"]),
        Err(JournalError::OutOfOrder {
            expected: 7,
            given: 8
        })
    ));
    assert_eq!(writer.push(0x80, 0, 1, &[b"state"]).unwrap(), Pushed::Done);
    let nowhere = Cursor {
        segment: 9,
        offset: 8192,
    };
    assert!(Writer::resume(storage, small(), OBJECT, 1, nowhere, 7).is_err());
}

/// As whoever removes a journal moves it.
#[test]
fn who_writes_where_another_journal_has_taken_the_place_leaves_nothing_in_it() {
    let scratch = scratch();
    let old = storage(&scratch, Backend::Pwrite);
    let begin = |disk: &Arc<Disk>| {
        Writer::take_over(Arc::clone(disk), small(), OBJECT, 1, 0, &definition(1)).unwrap()
    };
    let mut late = begin(&old);
    fill(&mut late, 0..10);
    let path = old.directory().to_owned();
    std::fs::rename(&path, scratch.path().join("aside")).unwrap();
    assert!(!old.is_in_place().unwrap());
    let new = storage(&scratch, Backend::Pwrite);
    // More than a segment: it makes the next one, too.
    fill(&mut late, 10..600);
    late.submit().unwrap();
    assert!(late.complete(true).unwrap().cursor.segment > 0);
    assert!(!exists(&*new));
    let mut writer = begin(&new);
    fill(&mut writer, 0..3);
    writer.submit().unwrap();
    writer.complete(true).unwrap();
    drop((writer, late));
    assert_eq!(read(&new, &Reading::default()).unwrap().0, [0, 1, 2]);
}
