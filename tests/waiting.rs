//! Waiting and waking: however a reader waits, every record arrives, and readiness is never lost.
//!
//! The producers are other processes that answer to acknowledgements, so nearly every record has to
//! wake somebody who has nothing else to look at. A wait that comes back empty after a minute is a
//! lost record; no time is measured otherwise.

#[path = "hostile/effort.rs"]
mod effort;

use ringway::{Bus, Idle, Overflow, Producers, Reader, wait_any};
use ringway_harness::seed::{self, Random};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, await_condition};
use rustix::event::{Timespec, epoll};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

ringway_harness::roles! { answer => answer }

/// Longer than any pause of the machine.
const MINUTE: Duration = Duration::from_secs(60);

struct Scene {
    root: TempBus,
    bus: Bus,
    /// Records that have arrived.
    board: AckBoard,
}

impl Scene {
    fn new() -> Scene {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("b")
            .root(root.path())
            .pool_bytes(8 << 20)
            .create()
            .unwrap();
        Scene {
            root,
            bus,
            board: AckBoard::new(2).unwrap(),
        }
    }

    fn readers(&self, channels: usize, producers: Producers, idle: Idle) -> Vec<Reader> {
        let join = |number| {
            let channel = self
                .bus
                .channel(&format!("c{number}"))
                .slots(1024)
                .stride(64);
            channel
                .producers(producers)
                .create()
                .unwrap()
                .reader()
                .idle(idle)
                .join()
                .unwrap()
        };
        (0..channels).map(join).collect()
    }

    fn answer(&self, channels: usize, count: u64, seed: u64) -> Launch {
        let launch = Launch::role("answer")
            .board("board", &self.board)
            .set("root", self.root.path().display());
        launch
            .set("channels", channels)
            .set("count", count)
            .set("seed", seed)
    }
}

/// Sends to a random channel as soon as the one before has arrived (or two, or three of them).
fn answer(stage: &Stage) -> Result<(), String> {
    let board = stage.board("board");
    let bus = Bus::builder("b")
        .root(stage.path("root"))
        .open()
        .map_err(|e| e.to_string())?;
    let channels: usize = stage.get("channels");
    let mut random = Random::new(stage.get("seed"));
    let mut producers: Vec<_> = (0..channels)
        .map(|number| {
            bus.channel(&format!("c{number}"))
                .open()
                .unwrap()
                .producer()
                .unwrap()
        })
        .collect();
    let mut sent = 0;
    while sent < stage.get::<u64>("count") {
        // Sometimes at once, sometimes when the reader may be on its way to sleep or asleep.
        for _ in 0..random.below(4) * random.below(3000) {
            std::hint::spin_loop();
        }
        for _ in 0..1 + random.below(3) {
            let body = sent.to_le_bytes();
            let to = random.below(channels as u64) as usize;
            producers[to]
                .send(&body, MINUTE)
                .map_err(|e| e.to_string())?;
            sent += 1;
        }
        await_condition("everything to arrive", || board.get(0) >= sent)
            .map_err(|e| e.to_string())?;
    }
    board.set(1, sent);
    Ok(())
}

/// Reads everything there is; the numbers of the records.
fn drain(reader: &mut Reader, arrived: &mut Vec<u64>) {
    let mut buffer = [0; 8];
    while let Some(record) = reader.try_read(&mut buffer).unwrap() {
        assert_eq!(record.len, 8);
        arrived.push(u64::from_le_bytes(buffer));
    }
}

fn arrived_once_each(mut arrived: Vec<u64>, count: u64) {
    let total = arrived.len() as u64;
    arrived.sort_unstable();
    assert!(
        arrived.iter().copied().eq(0..total) && total >= count,
        "{total} of {count} arrived"
    );
}

#[test]
fn every_record_wakes_its_reader_whatever_the_idling_and_the_producers() {
    let seed = seed::announce("answers");
    let count = effort::executions(600, 50_000);
    for idle in [Idle::Spin, Idle::SpinThenPark, Idle::Park] {
        for producers in [Producers::Shared, Producers::Exclusive] {
            let scene = Scene::new();
            let mut readers = scene.readers(1, producers, idle);
            let mut child = scene.answer(1, count, seed).spawn().unwrap();
            let mut arrived = Vec::new();
            while (arrived.len() as u64) < count {
                assert!(
                    readers[0].wait(MINUTE).unwrap(),
                    "{idle:?}, {producers:?}: lost {}",
                    arrived.len()
                );
                drain(&mut readers[0], &mut arrived);
                scene.board.set(0, arrived.len() as u64);
            }
            finish(&scene, &mut readers, &mut arrived, &mut child);
            arrived_once_each(arrived, count);
        }
    }
}

/// The last batch may be longer than was asked for.
fn finish(
    scene: &Scene,
    readers: &mut [Reader],
    arrived: &mut Vec<u64>,
    child: &mut ringway_harness::Victim,
) {
    await_condition("the producer to end", || {
        for reader in readers.iter_mut() {
            drain(reader, arrived);
        }
        scene.board.set(0, arrived.len() as u64);
        scene.board.get(1) > 0 || child.state() == Some('Z')
    })
    .unwrap();
    child.wait_success().unwrap();
}

#[test]
fn waiting_on_many_channels_misses_none_of_them() {
    let seed = seed::announce("answers");
    for (channels, idle) in [
        (2, Idle::Park),
        (7, Idle::SpinThenPark),
        (5, Idle::Spin),
        (140, Idle::Park),
    ] {
        let count = if channels > 128 {
            effort::executions(60, 2000)
        } else {
            effort::executions(500, 50_000)
        };
        let scene = Scene::new();
        let mut readers = scene.readers(channels, Producers::Shared, idle);
        let mut child = scene.answer(channels, count, seed).spawn().unwrap();
        let mut arrived = Vec::new();
        while (arrived.len() as u64) < count {
            let mut all: Vec<_> = readers.iter_mut().collect();
            let ready = wait_any(&mut all, MINUTE).unwrap();
            let ready =
                ready.unwrap_or_else(|| panic!("{channels} channels: lost {}", arrived.len()));
            let before = arrived.len();
            drain(&mut readers[ready], &mut arrived);
            assert!(
                arrived.len() > before,
                "channel {ready} was called ready and had nothing"
            );
            scene.board.set(0, arrived.len() as u64);
        }
        finish(&scene, &mut readers, &mut arrived, &mut child);
        arrived_once_each(arrived, count);
    }
}

#[test]
fn nothing_to_wait_for_is_an_empty_answer() {
    let scene = Scene::new();
    assert_eq!(wait_any::<Reader>(&mut [], Duration::ZERO).unwrap(), None);
    for idle in [Idle::Spin, Idle::SpinThenPark, Idle::Park] {
        let channel = scene
            .bus
            .channel("quiet")
            .slots(1024)
            .open_or_create()
            .unwrap();
        let mut reader = channel.reader().idle(idle).join().unwrap();
        assert!(!reader.wait(Duration::ZERO).unwrap());
        assert!(!reader.wait(Duration::from_millis(3)).unwrap());
        assert!(
            reader
                .read(&mut [0; 8], Duration::from_millis(1))
                .unwrap()
                .is_none()
        );
    }
}

fn ready(epoll: &rustix::fd::OwnedFd) -> Vec<u64> {
    ready_within(
        epoll,
        Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        },
    )
}

fn ready_within(epoll: &rustix::fd::OwnedFd, timeout: Timespec) -> Vec<u64> {
    let mut events = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }; 16];
    let count = loop {
        match epoll::wait(epoll, &mut events, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.unwrap(),
        }
    };
    events[..count]
        .iter()
        .map(|event| event.data.u64())
        .collect()
}

#[test]
fn an_epoll_user_is_told_of_every_record_by_level_and_by_edge() {
    let seed = seed::announce("answers");
    for (trigger, producers) in [
        (epoll::EventFlags::empty(), Producers::Shared),
        (epoll::EventFlags::ET, Producers::Shared),
        (epoll::EventFlags::ET, Producers::Exclusive),
    ] {
        let count = effort::executions(400, 30_000);
        let scene = Scene::new();
        let mut readers = scene.readers(3, producers, Idle::Park);
        let descriptors: Vec<_> = readers
            .iter_mut()
            .map(|reader| reader.poll_descriptor().unwrap())
            .collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for (number, descriptor) in descriptors.iter().enumerate() {
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(
                &epoll,
                descriptor.as_fd(),
                data,
                epoll::EventFlags::IN | trigger,
            )
            .unwrap();
        }
        let mut child = scene.answer(3, count, seed).spawn().unwrap();
        let mut arrived = Vec::new();
        while (arrived.len() as u64) < count {
            let told = ready(&epoll);
            assert!(
                !told.is_empty(),
                "{trigger:?}, {producers:?}: lost {}",
                arrived.len()
            );
            for number in told {
                drain(&mut readers[number as usize], &mut arrived);
            }
            scene.board.set(0, arrived.len() as u64);
        }
        finish(&scene, &mut readers, &mut arrived, &mut child);
        arrived_once_each(arrived, count);
    }
}

/// Whoever watches by level would spin on a descriptor that stays up.
#[test]
fn a_descriptor_falls_when_everything_is_read_and_rises_for_the_next() {
    /// A watcher that took something read for something new would raise it again within this.
    const MOMENT: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let scene = Scene::new();
    let mut readers = scene.readers(1, Producers::Shared, Idle::Park);
    let mut reader = readers.remove(0);
    let mut producer = scene.bus.channel("c0").open().unwrap().producer().unwrap();
    let descriptor = reader.poll_descriptor().unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(0);
    epoll::add(&epoll, descriptor.as_fd(), data, epoll::EventFlags::IN).unwrap();
    for round in 0..effort::executions(300, 30_000) {
        // By turns the reader waits to be told, and looks before anybody can have told it.
        for number in 0..1 + round % 3 {
            producer.try_send(&number.to_le_bytes()).unwrap();
        }
        if round % 2 == 0 {
            assert_eq!(ready(&epoll).len(), 1, "round {round}: not told");
        }
        let mut arrived = Vec::new();
        drain(&mut reader, &mut arrived);
        arrived_once_each(arrived, 1 + round % 3);
        // An event that was being raised meanwhile falls behind the reader's last look, or with
        // the next one.
        await_condition("the descriptor to fall", || {
            drain(&mut reader, &mut Vec::new());
            ready_within(&epoll, MOMENT).is_empty()
        })
        .unwrap();
    }
}

#[test]
fn a_claim_that_hangs_while_the_reader_looks_still_raises_the_descriptor() {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("b").root(root.path()).create().unwrap();
    // Nobody abandons the claim: it commits when its owner goes on.
    let channel = bus
        .channel("c")
        .slots(1024)
        .stall_timeout(MINUTE)
        .create()
        .unwrap();
    let mut reader = channel.reader().join().unwrap();
    let descriptor = reader.poll_descriptor().unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(
        &epoll,
        descriptor.as_fd(),
        epoll::EventData::new_u64(0),
        flags,
    )
    .unwrap();
    for round in 0..20u64 {
        let stage = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = channel.producer().unwrap();
                producer.try_send(&round.to_le_bytes()).unwrap();
                producer
                    .try_send_with(8, |bytes| {
                        bytes.copy_from_slice(&round.to_le_bytes());
                        stage.store(1, SeqCst);
                        await_condition("the reader to find the claim", || stage.load(SeqCst) == 2)
                            .unwrap();
                    })
                    .unwrap();
            });
            let mut arrived = Vec::new();
            assert_eq!(ready(&epoll).len(), 1);
            await_condition("the claim", || stage.load(SeqCst) == 1).unwrap();
            drain(&mut reader, &mut arrived);
            assert_eq!(arrived, [round], "round {round}");
            stage.store(2, SeqCst);
            assert_eq!(
                ready(&epoll).len(),
                1,
                "round {round}: the edge behind the claim is lost"
            );
            drain(&mut reader, &mut arrived);
            // The first edge may have been for the claim itself.
            while arrived.len() < 2 {
                assert_eq!(ready(&epoll).len(), 1, "round {round}");
                drain(&mut reader, &mut arrived);
            }
            assert_eq!(arrived, [round, round]);
        });
    }
}

/// The reader has looked, and sleeps on its descriptor: only the watcher can pass the claim.
#[test]
fn a_descriptor_rises_for_what_lies_behind_a_claim_that_stands_still() {
    let scene = Scene::new();
    let mut reader = scene.readers(1, Producers::Shared, Idle::Park).remove(0);
    let channel = scene.bus.channel("c0").open().unwrap();
    let descriptor = reader.poll_descriptor().unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let data = epoll::EventData::new_u64(0);
    epoll::add(&epoll, descriptor.as_fd(), data, epoll::EventFlags::IN).unwrap();
    let stage = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = channel.producer().unwrap();
            let sent = producer.try_send_with(8, |bytes| {
                bytes.copy_from_slice(&1u64.to_le_bytes());
                let _ = stage.compare_exchange(0, 1, SeqCst, SeqCst);
                await_condition("the record behind", || stage.load(SeqCst) == 2).unwrap();
            });
            sent.unwrap();
        });
        await_condition("the claim", || stage.load(SeqCst) == 1).unwrap();
        let mut producer = channel.producer().unwrap();
        producer.try_send(&0u64.to_le_bytes()).unwrap();
        let mut arrived = Vec::new();
        while arrived.is_empty() {
            let told = ready(&epoll).len();
            stage.store(if told == 1 { 1 } else { 2 }, SeqCst);
            assert_eq!(told, 1, "nobody passed the claim");
            drain(&mut reader, &mut arrived);
        }
        assert_eq!(arrived, [0]);
        stage.store(2, SeqCst);
        // Its owner finds that out and sends again, behind.
        while arrived.len() < 2 {
            assert_eq!(ready(&epoll).len(), 1);
            drain(&mut reader, &mut arrived);
        }
        assert_eq!(arrived, [0, 1]);
    });
}

#[test]
fn a_lossy_reader_that_sleeps_is_woken_and_told_what_it_missed() {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("b").root(root.path()).create().unwrap();
    let channel = bus
        .channel("c")
        .slots(1024)
        .overflow(Overflow::DropOldest)
        .create()
        .unwrap();
    let mut reader = channel.reader().idle(Idle::Park).join().unwrap();
    let descriptor = reader.poll_descriptor().unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(
        &epoll,
        descriptor.as_fd(),
        epoll::EventData::new_u64(0),
        epoll::EventFlags::IN,
    )
    .unwrap();
    let mut producer = channel.producer().unwrap();
    for _ in 0..5000 {
        producer.try_send(b"x").unwrap();
    }
    assert_eq!(ready(&epoll).len(), 1);
    let (mut seen, mut missed) = (0, 0);
    loop {
        match reader.try_read(&mut [0; 8]) {
            Ok(Some(_)) => seen += 1,
            Ok(None) => break,
            Err(ringway::ReadError::Lagged { from, to }) => missed += to - from,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(seen + missed, 5000);
    assert!(missed > 0);
}
