//! A channel seen from outside: what is sent is read, in order, by everybody; what can't be sent
//! or read says why.

use ringway::{Bus, OpenError, Overflow, Producers, ReadError, SendError, Start};
use ringway_harness::TempBus;
use std::time::Duration;

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
fn every_reader_sees_every_record_in_order() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let (_root, bus) = bus();
        let channel = bus
            .channel("c")
            .slots(1024)
            .producers(producers)
            .create()
            .unwrap();
        let mut readers = [
            channel.reader().join().unwrap(),
            channel.reader().join().unwrap(),
        ];
        let mut producer = channel.producer().unwrap();
        let mut buffer = [0u8; 4096];
        for round in 0..10_000u64 {
            let body: Vec<u8> = (0..round % 300).map(|i| (i ^ round) as u8).collect();
            producer.try_send(&body).unwrap();
            for reader in &mut readers {
                let record = reader.try_read(&mut buffer).unwrap().expect("a record");
                assert_eq!(record.position, round);
                assert_eq!(&buffer[..record.len], body, "round {round}");
            }
        }
        for reader in &mut readers {
            assert!(reader.try_read(&mut buffer).unwrap().is_none());
        }
    }
}

#[test]
fn a_view_shows_what_a_read_copies_whatever_its_length_and_both_find_the_same_end() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let (_root, bus) = bus();
        let channel = bus.channel("c").slots(1024).producers(producers);
        let channel = channel.create().unwrap();
        let (mut copying, mut viewing) = (
            channel.reader().join().unwrap(),
            channel.reader().join().unwrap(),
        );
        let mut producer = channel.producer().unwrap();
        let mut buffer = [0u8; 300];
        for round in 0..3_000u64 {
            let body: Vec<u8> = (0..round % 300).map(|i| ((i * 3) ^ round) as u8).collect();
            producer.try_send(&body).unwrap();
            let record = copying.try_read(&mut buffer).unwrap().expect("a record");
            let view = viewing.try_view().unwrap().expect("the same");
            assert_eq!(view.record(), record);
            assert_eq!((&view[..], &buffer[..record.len]), (&body[..], &body[..]));
            drop(view);
            assert!(viewing.try_view().unwrap().is_none());
            assert!(copying.try_read(&mut buffer).unwrap().is_none());
        }
        // Nobody is held back by what was looked at.
        assert_eq!(channel.stats().readers.len(), 2);
        assert!(channel.stats().readers.iter().all(|r| r.cursor == 3_000));
    }
}

#[test]
fn a_full_channel_refuses_and_names_the_reader_then_goes_on() {
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
        for _ in 0..1024 {
            producer.try_send(b"x").unwrap();
        }
        let refused = producer.try_send(b"y").unwrap_err();
        assert!(
            matches!(refused, SendError::Full { by: Some(by) } if by == bus.me()),
            "{refused:?}"
        );
        let stalled = producer.send(b"y", Duration::from_millis(50)).unwrap_err();
        assert!(
            matches!(stalled, SendError::Stalled { by } if by == bus.me()),
            "{stalled:?}"
        );
        let mut buffer = [0; 8];
        assert_eq!(reader.try_read(&mut buffer).unwrap().unwrap().position, 0);
        assert_eq!(producer.try_send(b"z").unwrap(), 1024);
    }
}

#[test]
fn a_lossy_reader_is_told_exactly_what_it_missed() {
    let (_root, bus) = bus();
    let channel = bus
        .channel("c")
        .slots(1024)
        .overflow(Overflow::DropOldest)
        .create()
        .unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    for i in 0..5000u64 {
        producer.try_send(&i.to_le_bytes()).unwrap();
    }
    let mut buffer = [0; 8];
    let mut expected = 0;
    let mut lost = 0;
    loop {
        match reader.try_read(&mut buffer) {
            Ok(Some(record)) => {
                assert_eq!(record.position, expected);
                assert_eq!(u64::from_le_bytes(buffer), expected);
                expected += 1;
            }
            Ok(None) => break,
            Err(ReadError::Lagged { from, to }) => {
                assert_eq!(from, expected);
                lost += to - from;
                expected = to;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(expected, 5000);
    assert!((5000 - 1024..5000).contains(&lost), "{lost}");
}

#[test]
fn payloads_of_any_size_circulate_in_a_bounded_pool() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    let mut buffer = vec![0u8; 20 << 20];
    for round in 0..40u64 {
        for len in [97, 512, 5_000, 65_536, 1 << 20, (16 << 20) + 5] {
            let byte = (round + len as u64) as u8;
            let mut loan = producer.loan(len).unwrap();
            loan.fill(byte);
            producer.try_send_loan(loan).map_err(|(e, _)| e).unwrap();
            let record = reader.try_read(&mut buffer).unwrap().unwrap();
            assert_eq!(record.len, len);
            assert!(buffer[..len].iter().all(|b| *b == byte));
        }
    }
}

#[test]
fn payloads_that_were_read_come_back_a_few_at_a_time() {
    for producers in [Producers::Shared, Producers::Exclusive] {
        let (_root, bus) = bus();
        let channel = bus.channel("c").slots(1024).producers(producers);
        let channel = channel.create().unwrap();
        let mut reader = channel.reader().join().unwrap();
        let mut producer = channel.producer().unwrap();
        let (mut before, mut back) = (0, 0);
        for _ in 0..200 {
            let loan = producer.loan(40_000).unwrap();
            producer.try_send_loan(loan).map_err(|(e, _)| e).unwrap();
            assert_eq!(reader.try_view().unwrap().unwrap().len(), 40_000);
            let [_, _, attached] = bus.doctor(false).unwrap().chunks;
            let came = (before + 1u64).saturating_sub(attached);
            assert!(came <= 16, "{came} payloads came back in one send");
            (before, back) = (attached, back + came);
        }
        assert!(back > 100, "{back} payloads came back");
    }
}

#[test]
fn an_open_view_costs_one_slot_and_keeps_its_bytes() {
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
        producer.try_send(&[7; 96]).unwrap();
        producer.try_send(&vec![9; 10_000]).unwrap();
        let small = reader.try_view_pinned().unwrap().unwrap();
        let large = reader.try_view_pinned().unwrap().unwrap();
        let mut buffer = vec![0u8; 10_000];
        for i in 0..10_000u64 {
            if i % 100 == 0 {
                producer.try_send(&vec![1; 10_000]).unwrap();
            } else {
                producer.try_send(&i.to_le_bytes()).unwrap();
            }
            assert!(reader.try_read(&mut buffer).unwrap().is_some());
        }
        assert_eq!(&small[..], &[7; 96]);
        assert!(large.len() == 10_000 && large.iter().all(|b| *b == 9));
        assert!(channel.stats().renewed >= 10, "{:?}", channel.stats());
        drop(reader);
        assert_eq!(&small[..], &[7; 96]);
    }
}

#[test]
fn a_second_exclusive_producer_is_told_who_is_first() {
    let (_root, bus) = bus();
    let channel = bus
        .channel("c")
        .producers(Producers::Exclusive)
        .create()
        .unwrap();
    let first = channel.producer().unwrap();
    let busy = channel.producer().err().expect("busy");
    assert!(
        matches!(busy, ringway::JoinError::Busy { by } if by == bus.me()),
        "{busy:?}"
    );
    drop(first);
    channel.producer().unwrap();
}

#[test]
fn a_channel_that_exists_otherwise_is_a_mismatch() {
    let (_root, bus) = bus();
    bus.channel("c").slots(2048).create().unwrap();
    let error = bus
        .channel("c")
        .slots(4096)
        .open_or_create()
        .err()
        .expect("mismatch");
    assert!(
        matches!(
            error,
            OpenError::Mismatch {
                option: "slots",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(bus.channel("c").open().unwrap().definition().slots, 2048);
}

#[test]
fn a_removed_channel_says_so_and_its_name_is_free_again() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").create().unwrap();
    let mut reader = channel.reader().join().unwrap();
    let mut producer = channel.producer().unwrap();
    bus.remove("c").unwrap();
    assert!(matches!(
        reader.try_read(&mut [0; 8]),
        Err(ReadError::Removed)
    ));
    let refused = (0..200)
        .find_map(|_| producer.try_send(b"x").err())
        .expect("refused");
    assert!(matches!(refused, SendError::Removed), "{refused:?}");
    bus.channel("c").create().unwrap();
}

#[test]
fn readers_start_where_they_ask() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let mut producer = channel.producer().unwrap();
    for i in 0..100u64 {
        producer.try_send(&i.to_le_bytes()).unwrap();
    }
    for (start, position) in [
        (Start::Earliest, 0),
        (Start::Latest, 100),
        (Start::At(42), 42),
    ] {
        let reader = channel.reader().start(start).join().unwrap();
        assert_eq!(reader.position(), position, "{start:?}");
    }
}
