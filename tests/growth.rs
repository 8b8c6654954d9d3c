//! A queue that grows: full, it goes on in a further ring, up to its byte quota; nothing is lost,
//! doubled or out of order by that; a ring in which nothing is any more is given back.

use ringway::{
    Bus, Queue, QueueReceiver, QueueSendError, Received, Redrive, Settings, SettleError,
};
use ringway_harness::{TempBus, deadline};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
/// Slots of the first ring.
const FIRST: u64 = 1024;

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    (root, bus)
}

fn growing(bus: &Bus) -> Queue {
    let builder = bus.queue("q").slots(FIRST).stride(64);
    builder.max_bytes(64 << 20).create().unwrap()
}

fn word(receiver: &mut QueueReceiver) -> Option<(u64, Received)> {
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).unwrap()?;
    Some((u64::from_le_bytes(buffer), received))
}

/// Files of rings that queues grew by.
fn grown_files(bus: &Bus) -> Vec<PathBuf> {
    let directory = bus.directory().join("objects");
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(".grown-")
    });
    paths.sort();
    paths
}

/// Looks on until `is_so`.
fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < deadline(), "{what}: never");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_queue_goes_on_in_further_rings_and_everything_comes_in_order_and_once() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    const MESSAGES: u64 = 10_000;
    let mut last = None;
    for number in 0..MESSAGES {
        let position = sender.send(&number.to_le_bytes()).unwrap();
        assert!(last < Some(position), "positions grow");
        last = Some(position);
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.rings), (MESSAGES, 4));
    assert_eq!(stats.capacity, FIRST * (1 + 2 + 4 + 8));
    let files = bus.objects().unwrap();
    assert_eq!((files.len(), files[0].bytes), (1, stats.bytes));

    for number in 0..MESSAGES {
        let (body, received) = word(&mut receiver).expect("a message");
        assert_eq!((body, received.receives()), (number, 1));
        assert!(receiver.delete(&received.receipt).unwrap());
    }
    assert!(word(&mut receiver).is_none());
    assert_eq!(queue.stats().visible + queue.stats().in_flight, 0);
}

#[test]
fn the_next_ring_is_made_bit_by_bit_while_the_last_one_fills() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut send = |count: u64| {
        for number in 0..count {
            sender.send(&number.to_le_bytes()).unwrap();
        }
    };
    send(FIRST / 2);
    assert!(temporary_files(&bus).is_empty());
    send(FIRST / 4);
    let begun = temporary_files(&bus);
    assert_eq!(begun.len(), 1);
    // Received from, it is not about to be full any more: what was begun is given up.
    for _ in 0..FIRST * 3 / 4 {
        let (_, received) = word(&mut receiver).expect("a message");
        receiver.delete(&received.receipt).unwrap();
    }
    send(FIRST / 8);
    assert!(temporary_files(&bus).is_empty());

    send(FIRST * 5 / 8);
    let part = temporary_files(&bus);
    assert_eq!(part.len(), 1);
    send(FIRST / 4 - 1);
    let whole = temporary_files(&bus);
    assert_eq!((whole.len(), whole[0].0), (1, part[0].0));
    assert!(
        0 < part[0].1 && part[0].1 < whole[0].1,
        "{part:?} {whole:?}"
    );
    assert!(whole[0].1 >= 2 * FIRST * 64);
    assert!(grown_files(&bus).is_empty());
    send(2);
    let grown = std::fs::metadata(&grown_files(&bus)[0]).unwrap();
    assert_eq!(
        (grown.ino(), grown.len()),
        whole[0],
        "it is the file that was made ahead"
    );
    assert!(temporary_files(&bus).is_empty());
}

/// Inode and length of each file that is no object yet.
fn temporary_files(bus: &Bus) -> Vec<(u64, u64)> {
    let entries = std::fs::read_dir(bus.directory().join("objects")).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    let is_temporary = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(".tmp-")
    };
    let temporary = entries.filter(is_temporary);
    temporary
        .map(|entry| entry.metadata().unwrap())
        .map(|metadata| (metadata.ino(), metadata.len()))
        .collect()
}

#[test]
fn drained_rings_are_given_back_and_the_queue_goes_on() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..10_000u64 {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    assert_eq!(grown_files(&bus).len(), 3);
    while let Some((_, received)) = word(&mut receiver) {
        receiver.delete(&received.receipt).unwrap();
    }
    await_that("the drained rings are gone", || {
        assert!(word(&mut receiver).is_none());
        grown_files(&bus).len() == 1
    });
    let stats = queue.stats();
    assert_eq!((stats.rings, stats.capacity), (2, FIRST * (1 + 8)));
    // Who opens it now finds its messages, and the next ones.
    sender.send(&7u64.to_le_bytes()).unwrap();
    let other = bus.queue("q").open().unwrap();
    other.sender().unwrap().send(&8u64.to_le_bytes()).unwrap();
    let mut receiver = other.receiver().unwrap();
    assert_eq!(word(&mut receiver).unwrap().0, 7);
    assert_eq!(word(&mut receiver).unwrap().0, 8);
}

#[test]
fn at_its_quota_it_is_full_and_goes_on_when_there_is_room() {
    let (_root, bus) = bus();
    let builder = bus.queue("q").slots(FIRST).stride(64);
    let queue = builder.max_bytes(512 << 10).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut sent = 0u64;
    let refused = loop {
        match sender.send(&sent.to_le_bytes()) {
            Ok(_) => sent += 1,
            Err(refused) => break refused,
        }
    };
    let stats = queue.stats();
    assert!(
        stats.bytes <= 512 << 10 && stats.bytes > 256 << 10,
        "{stats:?}"
    );
    assert!(
        matches!(refused, QueueSendError::Full { capacity, by: None } if capacity == stats.capacity),
        "{refused:?}"
    );
    assert_eq!((stats.visible, stats.capacity), (sent, sent));
    assert!(refused.to_string().contains("max_bytes"), "{refused}");
    // A ring in which nothing is any more makes room for the next one.
    let most = sent;
    let mut received = 0;
    while received < 4 * most {
        let (body, message) = word(&mut receiver).expect("a message: it was full");
        assert_eq!(body, received);
        receiver.delete(&message.receipt).unwrap();
        received += 1;
        match sender.send(&sent.to_le_bytes()) {
            Ok(_) => sent += 1,
            Err(refused) => assert!(
                matches!(refused, QueueSendError::Full { .. }),
                "{refused:?}"
            ),
        }
        assert!(sent - received <= most);
        if sent == received {
            // Nothing but the last ring, and that has room.
            sender.send(&sent.to_le_bytes()).unwrap();
            sent += 1;
        }
    }
    assert!(queue.stats().bytes <= 512 << 10);
}

#[test]
fn a_sender_gives_drained_rings_back_itself_before_it_is_refused() {
    let (_root, bus) = bus();
    let builder = bus.queue("q").slots(FIRST).stride(64);
    let queue = builder.max_bytes(512 << 10).create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut sent = 0u64;
    while sender.send(&sent.to_le_bytes()).is_ok() {
        sent += 1;
    }
    let leases: Vec<_> = (0..sent).map(|_| word(&mut receiver).unwrap().1).collect();
    // No receiver looks from here on.
    let (some, others) = leases.split_at(2 * FIRST as usize); // up to the middle of the second ring
    for part in [some, others] {
        // For longer than a refusal is remembered.
        let started = Instant::now();
        while started.elapsed() < 30 * MS {
            let refused = sender.send(&[0; 8]).unwrap_err();
            assert!(
                matches!(refused, QueueSendError::Full { .. }),
                "{refused:?}"
            );
        }
        for received in part {
            assert!(queue.delete(&received.receipt).unwrap());
        }
    }
    // In the last ring, and then in one for which the second had to go.
    let mut again = 0;
    await_that("there is room again", || {
        again += u64::from(sender.send(&[0; 8]).is_ok());
        again == (4 + 2) * FIRST
    });
    assert!(queue.stats().bytes <= 512 << 10);
}

#[test]
fn a_queue_with_the_bytes_of_its_first_ring_never_grows() {
    let (_root, bus) = bus();
    for (name, builder) in [
        ("given-slots", bus.queue("given-slots").slots(FIRST)),
        ("no-bytes", bus.queue("no-bytes").max_bytes(0)),
    ] {
        let queue = builder.create().unwrap();
        let mut sender = queue.sender().unwrap();
        let capacity = queue.definition().slots;
        for number in 0..capacity {
            sender.send(&number.to_le_bytes()).unwrap();
        }
        let refused = sender.send(&[0; 8]).unwrap_err();
        assert!(
            matches!(refused, QueueSendError::Full { capacity: c, .. } if c == capacity),
            "{name}: {refused:?}"
        );
        assert_eq!(queue.stats().rings, 1, "{name}");
    }
    assert!(grown_files(&bus).is_empty());
}

#[test]
fn receipts_stay_exact_across_rings_in_every_open() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let stranger = bus.queue("q").open().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..5 * FIRST {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let leases: Vec<_> = (0..5 * FIRST)
        .map(|_| word(&mut receiver).unwrap().1)
        .collect();
    assert_eq!(queue.stats().in_flight, 5 * FIRST);
    for (index, received) in leases.iter().enumerate() {
        match index % 4 {
            0 => assert!(stranger.delete(&received.receipt).unwrap()),
            1 => assert!(receiver.delete(&received.receipt).unwrap()),
            2 => stranger
                .change_visibility(&received.receipt, 60 * S)
                .unwrap(),
            _ => stranger.nack(&received.receipt, Duration::ZERO).unwrap(),
        }
    }
    let mut again = 0;
    while let Some((number, received)) = word(&mut receiver) {
        assert_eq!(
            (number % 4, received.receives()),
            (3, 2),
            "message {number}"
        );
        let stale = receiver.delete(&leases[number as usize].receipt);
        assert!(matches!(
            stale,
            Err(SettleError::StaleReceipt { receives: 2, .. })
        ));
        assert!(queue.delete(&received.receipt).unwrap());
        again += 1;
    }
    assert_eq!(again, 5 * FIRST / 4);
    assert_eq!(queue.stats().in_flight, 5 * FIRST / 4);
    for received in &leases {
        // Gone, or deleted here: each receipt did exactly its own message.
        let deleted = queue.delete(&received.receipt).unwrap();
        assert_eq!(
            deleted,
            received.receives() == 1 && index_of(&leases, received) % 4 == 2
        );
    }
    assert_eq!(queue.stats().in_flight, 0);
}

fn index_of(leases: &[Received], received: &Received) -> usize {
    leases.iter().position(|lease| lease == received).unwrap()
}

#[test]
fn a_message_that_stays_invisible_keeps_its_ring_alone() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..20 * FIRST {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let rings = grown_files(&bus).len();
    assert_eq!(rings, 4);
    // One of the second ring that the queue grew by.
    let kept_number = 4 * FIRST;
    let mut kept = None;
    while let Some((number, received)) = word(&mut receiver) {
        if number == kept_number {
            receiver
                .change_visibility(&received.receipt, 43_200 * S)
                .unwrap();
            kept = Some(received);
        } else {
            receiver.delete(&received.receipt).unwrap();
        }
    }
    await_that("all but its ring and the last are gone", || {
        assert!(word(&mut receiver).is_none());
        grown_files(&bus).len() == 2
    });
    assert_eq!(queue.stats().in_flight, 1);
    let kept = kept.unwrap();
    receiver
        .change_visibility(&kept.receipt, Duration::ZERO)
        .unwrap();
    let (number, received) = word(&mut receiver).expect("it is visible at once");
    assert_eq!((number, received.receives()), (kept_number, 2));
    receiver.delete(&received.receipt).unwrap();
    await_that("its ring is gone", || {
        assert!(word(&mut receiver).is_none());
        grown_files(&bus).len() == 1
    });
}

#[test]
fn what_becomes_visible_in_any_ring_is_received() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    receiver.set_visibility(100 * MS).unwrap();
    // Delayed ones among the others, in every ring.
    let begun = Instant::now();
    let mut delayed = 0;
    for number in 0..6 * FIRST {
        let delay = if number % 512 == 0 {
            200 * MS
        } else {
            Duration::ZERO
        };
        delayed += u64::from(number % 512 == 0);
        sender.send_delayed(&number.to_le_bytes(), delay).unwrap();
    }
    let counted = queue.stats().delayed;
    assert!(counted == delayed || begun.elapsed() >= 200 * MS);
    // Every message twice: the first lease runs out.
    let mut seen = vec![0u16; 6 * FIRST as usize];
    let mut buffer = [0; 8];
    let mut left = seen.len();
    while left > 0 {
        let received = receiver.receive_into(&mut buffer, 60 * S).unwrap();
        let received = received.expect("everything comes again");
        let number = u64::from_le_bytes(buffer) as usize;
        seen[number] += 1;
        if received.receives() >= 2 {
            // It may have come again between its receive and this.
            left -= usize::from(matches!(receiver.delete(&received.receipt), Ok(true)));
        }
    }
    assert!(seen.iter().all(|times| *times >= 2));
    assert_eq!(queue.stats().visible + queue.stats().in_flight, 0);
}

#[test]
fn many_senders_and_receivers_grow_it_together_and_nothing_is_lost_or_doubled() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    const MESSAGES: u64 = 60_000;
    let seen: Vec<AtomicU32> = (0..MESSAGES).map(|_| 0.into()).collect();
    let is_sent = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for part in 0..3 {
            // Each by an open of its own.
            let queue = bus.queue("q").open().unwrap();
            scope.spawn(move || {
                let mut sender = queue.sender().unwrap();
                for number in (part..MESSAGES).step_by(3) {
                    sender.send_timeout(&number.to_le_bytes(), 60 * S).unwrap();
                }
            });
        }
        for _ in 0..2 {
            let queue = bus.queue("q").open().unwrap();
            let (seen, is_sent) = (&seen, &is_sent);
            scope.spawn(move || {
                let mut receiver = queue.receiver().unwrap();
                let mut buffer = [0; 8];
                loop {
                    let is_last = is_sent.load(Ordering::Relaxed);
                    let wait = if is_last { 200 * MS } else { 10 * MS };
                    let Some(received) = receiver.receive_into(&mut buffer, wait).unwrap() else {
                        if is_last {
                            return;
                        }
                        let all = |seen: &AtomicU32| seen.load(Ordering::Relaxed) > 0;
                        is_sent.store(seen.iter().all(all), Ordering::Relaxed);
                        continue;
                    };
                    assert_eq!(received.receives(), 1);
                    seen[u64::from_le_bytes(buffer) as usize].fetch_add(1, Ordering::Relaxed);
                    assert!(receiver.delete(&received.receipt).unwrap());
                }
            });
        }
    });
    for (number, seen) in seen.iter().enumerate() {
        assert_eq!(seen.load(Ordering::Relaxed), 1, "message {number}");
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.damaged), (0, 0, 0));
}

#[test]
fn large_bodies_survive_growth_and_go_back_to_the_pool() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let body = |number: u64| vec![number as u8; 100 + (number % 300) as usize];
    for number in 0..3 * FIRST {
        sender.send(&body(number)).unwrap();
    }
    // A reaper's look at the pool leaves what the rings name.
    assert_eq!(bus.doctor(true).unwrap().lost_chunks, 0);
    let mut buffer = [0; 1024];
    for number in 0..3 * FIRST {
        let received = receiver
            .try_receive(&mut buffer)
            .unwrap()
            .expect("a message");
        assert_eq!(&buffer[..received.len], body(number), "message {number}");
        receiver.delete(&received.receipt).unwrap();
    }
    drop((sender, receiver));
    let report = bus.doctor(false).unwrap();
    assert_eq!((report.chunks[2], report.lost_chunks), (0, 0));
}

#[test]
fn purge_and_removal_reach_every_ring() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..5 * FIRST {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let lease = word(&mut receiver).unwrap().1;
    assert_eq!(queue.purge().unwrap(), 5 * FIRST);
    assert_eq!(queue.stats().visible + queue.stats().in_flight, 0);
    assert!(!receiver.delete(&lease.receipt).unwrap());
    sender.send(&9u64.to_le_bytes()).unwrap();
    assert_eq!(word(&mut receiver).unwrap().0, 9);

    for number in 0..20 * FIRST {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    assert!(!grown_files(&bus).is_empty());
    bus.remove("q").unwrap();
    assert_eq!(grown_files(&bus), Vec::<PathBuf>::new());
    assert!(bus.objects().unwrap().is_empty());
    assert!(matches!(sender.send(&[0; 8]), Err(QueueSendError::Removed)));
    // A queue of that name is another queue.
    let queue = growing(&bus);
    assert_eq!(queue.stats().visible, 0);
    assert!(bus.doctor(false).unwrap().is_clean());
}

#[test]
fn a_dead_letter_queue_takes_messages_of_any_ring_into_any_ring() {
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let builder = bus.queue("dead").slots(FIRST).stride(256);
    let dead = builder.max_bytes(64 << 20).create().unwrap();
    queue
        .set(&Settings::new().redrive(Some(Redrive::to(&dead, 1))))
        .unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    const MESSAGES: u64 = 3 * FIRST;
    for number in 0..MESSAGES {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    receiver.set_visibility(Duration::ZERO).unwrap();
    let mut letters = dead.receiver().unwrap();
    let mut seen = vec![false; MESSAGES as usize];
    let mut left = MESSAGES;
    await_that("every message is dead", || {
        let _ = word(&mut receiver);
        while let Some((number, received)) = word(&mut letters) {
            assert!(
                !core::mem::replace(&mut seen[number as usize], true),
                "{number} twice"
            );
            letters.delete(&received.receipt).unwrap();
            left -= 1;
        }
        left == 0
    });
    assert_eq!((queue.stats().visible, queue.stats().parked), (0, 0));
    assert_eq!(queue.stats().moved, MESSAGES);
}

#[test]
fn a_ring_in_which_somebody_looks_at_a_message_is_kept_until_the_view_is_closed() {
    for len in [24, 5000] {
        let (_root, bus) = bus();
        let queue = growing(&bus);
        let mut sender = queue.sender().unwrap();
        let until = |rings: u64, sender: &mut ringway::QueueSender| {
            while queue.stats().rings < rings {
                sender.send(b"x").unwrap();
            }
        };
        until(2, &mut sender);
        sender.send(&vec![7; len]).unwrap();
        until(3, &mut sender);
        let (mut viewer, mut other) = (queue.receiver().unwrap(), queue.receiver().unwrap());
        let mut buffer = [0; 8];
        while queue.stats().visible > 0 {
            match other.receive_and_delete(&mut buffer) {
                Ok(_) => {}
                Err(ringway::ReceiveError::BufferTooSmall { needed, .. }) => {
                    assert_eq!(needed, len);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let view = viewer.try_receive_view().unwrap().unwrap();
        assert_eq!(*view, vec![7; len][..]);
        assert!(queue.delete(&view.receipt()).unwrap());
        let mut pass = || {
            while other.receive_and_delete(&mut buffer).unwrap().is_some() {}
            bus.doctor(true).unwrap();
        };
        for _ in 0..100 {
            pass();
        }
        assert_eq!(queue.stats().visible, 0);
        assert_eq!(grown_files(&bus).len(), 2, "nobody takes its ring away");
        assert_eq!(*view, vec![7; len][..]);
        assert_eq!(bus.doctor(false).unwrap().chunks[2], u64::from(len > 24));
        drop(view);
        assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
        await_that("the ring is given back", || {
            pass();
            grown_files(&bus).len() == 1
        });
    }
}

/// A maker that slept for so long that its number was given away and back: what it publishes then is
/// no ring of the queue.
#[test]
fn a_ring_that_is_published_too_late_is_taken_away() {
    use std::os::unix::fs::FileExt;
    let (_root, bus) = bus();
    let queue = growing(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..5 * FIRST {
        sender.send(&number.to_le_bytes()).unwrap();
    }
    let first_grown = grown_files(&bus).remove(0);
    // As it was made: its header, no words, nothing due, no slots in use.
    let late = bus.directory().join("late");
    std::fs::copy(&first_grown, &late).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&late).unwrap();
    let len = file.metadata().unwrap().len();
    file.write_all_at(&vec![0; len as usize - 4096], 4096)
        .unwrap();
    while let Some((_, received)) = word(&mut receiver) {
        receiver.delete(&received.receipt).unwrap();
    }
    await_that("the ring is gone", || {
        assert!(word(&mut receiver).is_none());
        !first_grown.exists()
    });
    std::fs::rename(&late, &first_grown).unwrap();
    let open = bus.queue("q").open().unwrap();
    let stats = open.stats();
    assert_eq!((stats.rings, stats.visible), (2, 0));
    assert!(!first_grown.exists(), "nobody sends there");
    open.sender().unwrap().send(&7u64.to_le_bytes()).unwrap();
    assert_eq!(word(&mut receiver).unwrap().0, 7);
}

/// Words of any of its files change under it, rings that nobody made appear, and files go: messages may
/// be lost, but nobody hangs or panics.
#[test]
fn a_queue_that_grows_and_is_scribbled_over_never_hangs_or_panics() {
    let seed = ringway_harness::seed::announce("scribbling over a queue that grows");
    let mut random = ringway_harness::seed::Random::new(seed);
    for _ in 0..8 {
        let (_root, bus) = bus();
        let queue = growing(&bus);
        let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
        receiver.set_visibility(MS).unwrap();
        let mut buffer = [0; 4096];
        let mut receipts = Vec::new();
        for round in 0..120u64 {
            scribble(&bus, &mut random);
            for _ in 0..random.below(600) {
                if sender.send(&round.to_le_bytes()).is_err() {
                    break;
                }
            }
            for _ in 0..random.below(600) {
                match receiver.try_receive(&mut buffer) {
                    Ok(Some(received)) => receipts.push(received.receipt),
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            while receipts.len() > 40 {
                let receipt = receipts.swap_remove(random.below(receipts.len() as u64) as usize);
                let _ = queue.change_visibility(&receipt, MS);
                let _ = receiver.delete(&receipt);
            }
            if round % 20 == 19 {
                let _ = receiver.wait(MS);
                let _ = (queue.stats(), queue.parked());
                let _ = bus.doctor(true).map(drop);
                if let Ok(queue) = bus.queue("q").open() {
                    let _ = queue
                        .sender()
                        .map(|mut sender| sender.send(&[7; 100]).map(drop));
                    let _ = queue
                        .receiver()
                        .map(|mut other| other.try_receive(&mut buffer).map(drop));
                }
            }
        }
        let _ = queue.purge();
        let _ = bus.remove("q");
    }
}

fn scribble(bus: &Bus, random: &mut ringway_harness::seed::Random) {
    use std::os::unix::fs::FileExt;
    let files = grown_files(bus);
    let first = bus.directory().join("objects/q");
    let path = match files.len() as u64 {
        0 => &first,
        count => match random.below(3) {
            0 => &first,
            _ => &files[random.below(count) as usize],
        },
    };
    match random.below(40) {
        0 => drop(std::fs::remove_file(
            files.first().unwrap_or(&first.join("none")),
        )),
        1 if !files.is_empty() => {
            // A ring that nobody made: its header says what another's says.
            let name = path.to_string_lossy();
            let number = name
                .rsplit('-')
                .next()
                .and_then(|number| number.parse().ok());
            let number: u64 = number.unwrap_or(1) + random.below(3);
            let stem = name.rsplit_once('-').map_or(&*name, |(stem, _)| stem);
            // Never over another: a file that shrinks is a signal for who has it mapped.
            let copy = bus.directory().join("copy");
            std::fs::copy(path, &copy).unwrap();
            let _ = std::fs::hard_link(&copy, format!("{stem}-{number}"));
            std::fs::remove_file(&copy).unwrap();
        }
        _ => {}
    }
    let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) else {
        return;
    };
    let len = file.metadata().unwrap().len();
    let offset = match random.below(4) {
        // The first file's header is of those who open it: its own tests scribble there.
        0 if *path != first => 8 * random.below(64),
        0 | 1 => 4096 + 8 * random.below(512),
        _ => 8192 + 8 * random.below((len - 8192) / 8),
    };
    let value = match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => random.below(20_000),
        3 => random.below(4) << 62 | random.below(2_048),
        4 => random.below(4) << 62 | ((1 << 52) - 1),
        _ => random.below(u64::MAX),
    };
    file.write_all_at(&value.to_le_bytes(), offset).unwrap();
}
