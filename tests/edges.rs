//! Corners that a careful reading found: each was once a hang, a leak or a lie.

use ringway::{Bus, Origin, Overflow, Producers, ReadError, SendError, Start};
use ringway_harness::TempBus;
use std::os::unix::fs::FileExt;

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    (root, bus)
}

#[test]
fn a_view_of_a_record_that_trim_has_passed_says_what_was_missed() {
    let (_root, bus) = bus();
    let channel = bus
        .channel("c")
        .slots(1024)
        .overflow(Overflow::DropOldest)
        .create()
        .unwrap();
    let mut producer = channel.producer().unwrap();
    let reader = || channel.reader().start(Start::At(50)).join().unwrap();
    let (mut view, mut pinned, mut batch) = (reader(), reader(), reader());
    for _ in 0..1025 {
        producer.try_send(b"x").unwrap();
    }
    // Position 50 still stands in its slot, and nobody may pin it any more.
    let missed = [
        view.try_view().err(),
        pinned.try_view_pinned().err(),
        batch.read_batch(8, |_, _| {}).err(),
    ];
    for error in missed {
        assert!(
            matches!(error, Some(ReadError::Lagged { from: 50, to: 128 })),
            "{error:?}"
        );
    }
    assert_eq!(view.try_view().unwrap().unwrap().record().position, 128);
    assert_eq!(
        pinned.try_view_pinned().unwrap().unwrap().record().position,
        128
    );
    assert_eq!(batch.read_batch(usize::MAX, |_, _| {}).unwrap(), 1025 - 128);
}

#[test]
fn a_dropped_reader_holds_nobody_back_although_its_view_is_open() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut producer = channel.producer().unwrap();
    let mut reader = channel.reader().join().unwrap();
    producer.try_send(&[7; 40]).unwrap();
    let view = reader.try_view_pinned().unwrap().unwrap();
    drop(reader);
    for i in 0..5000u64 {
        producer.try_send(&i.to_le_bytes()).unwrap();
    }
    assert_eq!(&view[..], &[7; 40]);
}

#[test]
fn a_view_into_a_removed_channel_keeps_its_bytes_and_the_pool_gets_them_back_later() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    for _ in 0..100 {
        producer.try_send(&vec![7u8; 5000]).unwrap();
    }
    let view = reader.try_view_pinned().unwrap().unwrap();
    drop(producer);
    bus.remove("c").unwrap();
    bus.doctor(true).unwrap();
    let other = bus.channel("d").create().unwrap();
    let mut producer = other.producer().unwrap();
    for _ in 0..1000 {
        producer.try_send(&vec![9u8; 5000]).unwrap();
    }
    assert!(view.iter().all(|byte| *byte == 7));
    drop((view, reader, channel, producer, other));
    bus.remove("d").unwrap();
    bus.doctor(true).unwrap();
    let report = bus.doctor(false).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.chunks[1..], [0, 0], "{report:?}");
}

#[test]
fn a_payload_that_a_pin_kept_for_laps_is_freed_when_the_pin_goes() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let (_root, bus) = bus();
        let channel = bus
            .channel("c")
            .slots(1024)
            .producers(producers)
            .create()
            .unwrap();
        let mut reader = channel.reader().join().unwrap();
        let mut producer = channel.producer().unwrap();
        producer.try_send(&vec![1; 5000]).unwrap();
        let view = reader.try_view_pinned().unwrap().unwrap();
        let mut buffer = [0; 64];
        let mut lap = |producer: &mut ringway::Producer, reader: &mut ringway::Reader| {
            for _ in 0..3000 {
                producer.try_send(b"small").unwrap();
                reader.try_read(&mut buffer).unwrap().unwrap();
            }
        };
        lap(&mut producer, &mut reader);
        drop(view);
        lap(&mut producer, &mut reader);
        assert_eq!(bus.doctor(false).unwrap().lost_chunks, 0, "{producers:?}");
        drop(producer);
        assert_eq!(
            bus.doctor(false).unwrap().chunks[1..],
            [0, 0],
            "{producers:?}"
        );
    }
}

#[test]
fn a_reader_that_seeks_beyond_everything_finds_nothing_and_does_not_overflow() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut producer = channel.producer().unwrap();
    let mut reader = channel
        .reader()
        .start(Start::At(u64::MAX))
        .lossy()
        .join()
        .unwrap();
    assert!(matches!(reader.try_read(&mut [0; 8]), Ok(None)));
    reader.seek(u64::MAX);
    assert!(matches!(reader.try_read(&mut [0; 8]), Ok(None)));
    reader.seek(0);
    producer.try_send(b"a").unwrap();
    assert_eq!(reader.try_read(&mut [0; 8]).unwrap().unwrap().position, 0);
}

#[test]
fn a_bus_whose_remover_died_half_way_is_created_anew() {
    let (root, bus) = bus();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(bus.directory().join("bus"))
        .unwrap();
    drop(bus);
    file.write_all_at(&0x0DEA_D0B1u32.to_le_bytes(), 12)
        .unwrap();
    let bus = Bus::builder("test")
        .root(root.path())
        .open_or_create()
        .unwrap();
    assert_eq!(bus.origin(), Origin::Created);
}

#[test]
fn an_exhausted_pool_says_so_with_its_figures_and_recovers() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").create().unwrap();
    let mut producer = channel.producer().unwrap();
    let mut loans = Vec::new();
    let refused = loop {
        match producer.loan(4 << 20) {
            Ok(loan) => loans.push(loan),
            Err(error) => break error,
        }
    };
    assert!(loans.len() >= 12, "{}", loans.len());
    assert!(
        matches!(refused, SendError::PoolExhausted { quota, used, .. } if quota == 64 << 20 && used <= quota),
        "{refused:?}"
    );
    loans.pop();
    producer.loan(4 << 20).unwrap();
}

#[test]
fn a_batch_and_what_follows_it_stand_in_positions_that_grow() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let (_root, bus) = bus();
        let channel = bus
            .channel("c")
            .slots(1024)
            .producers(producers)
            .create()
            .unwrap();
        let mut producer = channel.producer().unwrap();
        let mut reader = channel.reader().join().unwrap();
        assert_eq!(producer.try_send_batch(&[vec![1u8; 1]]).unwrap(), 1);
        assert_eq!(producer.try_send(&[2; 97]).unwrap(), 1, "{producers:?}");
        assert_eq!(
            producer
                .try_send_batch(&[vec![3u8; 8], vec![4; 64], vec![5; 97]])
                .unwrap(),
            3
        );
        let mut buffer = [0; 128];
        for (position, len) in [(0, 1), (1, 97), (2, 8), (3, 64), (4, 97)] {
            let record = reader.try_read(&mut buffer).unwrap().unwrap();
            assert_eq!(
                (record.position, record.len),
                (position, len),
                "{producers:?}"
            );
        }
    }
}
