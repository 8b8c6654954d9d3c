//! Settings of a queue that is in use: whoever changes one, every process goes by it from its next
//! operation on, as SetQueueAttributes documents
//! (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html).

use ringway::{
    Bus, OpenError, Outgoing, Queue, QueueSendError, QueueSettings, ReceiveError, SetError,
    Settings, SettleError,
};
use ringway_harness::{TempBus, deadline};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Two attachments of a bus, as two processes have them: nothing is shared but the files.
struct Two {
    root: TempBus,
    here: Bus,
    there: Bus,
}

impl Two {
    fn new() -> Self {
        let root = TempBus::new().expect("a root under /dev/shm");
        let here = Bus::builder("test").root(root.path());
        let here = here.pool_bytes(64 << 20).create().unwrap();
        let there = Bus::builder("test").root(root.path()).open().unwrap();
        Self { root, here, there }
    }

    fn queue(&self) -> (Queue, Queue) {
        let made = self.here.queue("q").slots(1024).stride(64);
        (
            made.create().unwrap(),
            self.there.queue("q").open().unwrap(),
        )
    }

    fn file(&self) -> std::fs::File {
        let path = self.root.path().join("ringway-test/objects/q");
        let file = std::fs::File::options().read(true).write(true).open(path);
        file.unwrap()
    }

    /// Makes everything in the queue older: its times count from an epoch in its header.
    fn grow_older(&self, by: Duration) {
        let file = self.file();
        let mut epoch = [0; 8];
        file.read_exact_at(&mut epoch, 248).unwrap();
        let earlier = u64::from_le_bytes(epoch) - by.as_millis() as u64;
        file.write_all_at(&earlier.to_le_bytes(), 248).unwrap();
    }
}

#[test]
fn a_change_is_seen_by_every_handle_that_is_open() {
    let two = Two::new();
    let (here, there) = two.queue();
    let before = there.settings();
    assert_eq!(before.visibility, 30 * S);
    let (mut sender, mut receiver) = (there.sender().unwrap(), there.receiver().unwrap());
    sender.send(&[0; 2000]).unwrap();
    here.set(&Settings::new().max_message_bytes(1000)).unwrap();
    let refused = sender.send(&[0; 1001]);
    assert!(
        matches!(
            refused,
            Err(QueueSendError::MessageTooLarge {
                len: 1001,
                max: 1000
            })
        ),
        "{refused:?}"
    );
    sender.send(&[0; 1000]).unwrap();
    here.set(&Settings::new().receive_wait(20 * S)).unwrap();
    assert_eq!(receiver.receive_wait(), 20 * S);
    here.set(&Settings::new().redeliver_on_death(false))
        .unwrap();
    let expected = {
        let mut expected = before.clone();
        expected.max_message_bytes = 1000;
        expected.receive_wait = 20 * S;
        expected.redeliver_on_death = false;
        expected
    };
    assert_eq!(there.settings(), expected, "the others stay as they were");
    assert_eq!(
        receiver.receive(10, S, None).unwrap().len(),
        2,
        "what is in the queue stays, however long"
    );
}

#[test]
fn a_new_visibility_counts_for_later_receives() {
    let two = Two::new();
    let (here, there) = two.queue();
    let (mut sender, mut receiver) = (there.sender().unwrap(), there.receiver().unwrap());
    sender.send_batch(&[b"1", b"2", b"3"]).unwrap();
    let mut buffer = [0; 8];
    let first = receiver.try_receive(&mut buffer).unwrap().unwrap();
    here.set(&Settings::new().visibility(Duration::ZERO))
        .unwrap();
    let second = receiver.try_receive(&mut buffer).unwrap().unwrap();
    assert!(matches!(
        receiver.change_visibility(&second.receipt, S),
        Err(SettleError::NotInFlight { position: 1 })
    ));
    assert_eq!(there.stats().in_flight, 1, "the first is leased as it was");
    // What a receiver was told for itself stays.
    receiver.set_visibility(60 * S).unwrap();
    let again = receiver.try_receive(&mut buffer).unwrap().unwrap();
    assert_eq!((again.position(), again.receives()), (1, 2));
    assert_eq!(there.stats().in_flight, 2);
    assert!(receiver.delete(&first.receipt).unwrap());
}

#[test]
fn a_new_delay_does_not_change_messages_that_are_in_the_queue() {
    let two = Two::new();
    let (here, there) = two.queue();
    let (mut sender, mut receiver) = (there.sender().unwrap(), there.receiver().unwrap());
    here.set(&Settings::new().delay(900 * S)).unwrap();
    sender.send(b"delayed").unwrap();
    here.set(&Settings::new().delay(Duration::ZERO)).unwrap();
    sender.send(b"at once").unwrap();
    assert_eq!(there.stats().delayed, 1);
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
    assert_eq!(&buffer[..received.len], b"at once");
    assert_eq!(receiver.try_receive(&mut buffer).unwrap(), None);
}

/// "For FIFO queues, the per-queue delay setting is retroactive": "Amazon SQS delay queues", Amazon SQS
/// Developer Guide
/// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html).
#[test]
fn a_new_delay_of_a_fifo_queue_counts_for_messages_that_are_in_the_queue() {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("test").root(root.path()).create().unwrap();
    let queue = bus.queue("q.fifo").fifo().slots(1024).create().unwrap();
    let delay = |seconds: u32| queue.set(&Settings::new().delay(seconds * S)).unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut buffer = [0; 8];
    delay(900);
    for body in [b"1", b"2", b"3", b"4"] {
        let group = Outgoing::new(body).group("g");
        sender.send_message(&group).unwrap();
    }
    assert_eq!(queue.stats().delayed, 4);
    delay(0);
    let first = receiver.receive_into(&mut buffer, 10 * S).unwrap().unwrap();
    assert_eq!((&buffer[..1], first.receives()), (&b"1"[..], 1));
    // What was received keeps its visibility; the others wait, whatever they waited for before.
    delay(600);
    let stats = queue.stats();
    assert_eq!((stats.in_flight, stats.delayed), (1, 3));
    receiver.nack(&first.receipt, Duration::ZERO).unwrap();
    let first = receiver.receive_into(&mut buffer, 10 * S).unwrap().unwrap();
    assert_eq!((&buffer[..1], first.receives()), (&b"1"[..], 2));
    assert!(receiver.delete(&first.receipt).unwrap());
    assert!(receiver.try_receive(&mut buffer).unwrap().is_none());
    // Of messages that no delay ran for it makes delayed ones, and back.
    delay(0);
    assert_eq!(queue.stats().visible, 3);
    delay(1);
    for body in [b"2", b"3", b"4"] {
        let next = receiver.receive_into(&mut buffer, 10 * S).unwrap().unwrap();
        assert_eq!((&buffer[..1], next.receives()), (&body[..], 1));
        assert!(receiver.delete(&next.receipt).unwrap());
    }
    assert!(receiver.try_receive(&mut buffer).unwrap().is_none());
    assert_eq!(queue.stats().delayed + queue.stats().visible, 0);
}

#[test]
fn a_new_retention_counts_for_messages_that_are_in_the_queue() {
    let two = Two::new();
    let (here, there) = two.queue();
    there.sender().unwrap().send(b"old").unwrap();
    drop((here, there));
    two.grow_older(100 * S);
    let here = two.here.queue("q").open().unwrap();
    let there = two.there.queue("q").open().unwrap();
    let mut receiver = there.receiver().unwrap();
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).unwrap().unwrap();
    receiver.nack(&received.receipt, Duration::ZERO).unwrap();
    here.set(&Settings::new().retention(60 * S)).unwrap();
    assert_eq!(there.stats().visible, 0);
    assert_eq!(receiver.try_receive(&mut buffer).unwrap(), None);
    assert_eq!(there.stats().expired, 1);
}

#[test]
fn a_setting_outside_its_bounds_is_refused_and_changes_nothing() {
    let two = Two::new();
    let (here, there) = two.queue();
    let before = there.settings();
    let good = Settings::new().visibility(S);
    for (setting, wrong) in [
        ("visibility", good.clone().visibility(43_200 * S + MS)),
        (
            "visibility",
            good.clone().visibility(Duration::from_micros(1500)),
        ),
        ("delay", good.clone().delay(900 * S + MS)),
        ("retention", good.clone().retention(60 * S - MS)),
        ("retention", good.clone().retention(1_209_600 * S + MS)),
        ("receive_wait", good.clone().receive_wait(20 * S + MS)),
        ("max_message_bytes", good.clone().max_message_bytes(0)),
        (
            "max_message_bytes",
            good.clone().max_message_bytes((1 << 40) + 1),
        ),
    ] {
        let refused = here.set(&wrong);
        assert!(
            matches!(&refused, Err(SetError::InvalidSetting { setting: named, .. }) if *named == setting),
            "{setting}: {refused:?}"
        );
        assert_eq!(there.settings(), before, "{setting}");
    }
    let bounds = [
        Settings::new()
            .visibility(43_200 * S)
            .delay(900 * S)
            .retention(1_209_600 * S),
        Settings::new()
            .receive_wait(20 * S)
            .max_message_bytes(1 << 40),
        Settings::new()
            .visibility(Duration::ZERO)
            .delay(Duration::ZERO)
            .retention(60 * S),
        Settings::new()
            .receive_wait(Duration::ZERO)
            .max_message_bytes(1),
    ];
    for settings in bounds {
        here.set(&settings).unwrap();
    }
}

#[test]
fn an_open_compares_settings_with_what_they_are_now() {
    let two = Two::new();
    let (here, _there) = two.queue();
    here.set(&Settings::new().visibility(60 * S).receive_wait(S))
        .unwrap();
    let queue = || two.there.queue("q");
    let opened = queue().visibility(60 * S).receive_wait(S).open_or_create();
    assert_eq!(opened.unwrap().definition().visibility, 60 * S);
    let refused = queue().visibility(30 * S).open_or_create().err();
    assert!(
        matches!(&refused, Some(OpenError::Mismatch { option: "visibility", existing, .. }) if existing == "60s"),
        "{refused:?}"
    );
    let refused = queue().receive_wait(Duration::ZERO).open_or_create().err();
    assert!(matches!(
        refused,
        Some(OpenError::Mismatch {
            option: "receive_wait",
            ..
        })
    ));
    assert_eq!(queue().open().unwrap().settings(), here.settings());
}

#[test]
fn a_scribbled_setting_counts_only_within_its_bounds() {
    let two = Two::new();
    let (here, there) = two.queue();
    let (mut sender, mut by_setting) = (there.sender().unwrap(), there.receiver().unwrap());
    let mut by_itself = there.receiver().unwrap();
    by_itself.set_visibility(60 * S).unwrap();
    let mut buffer = [0; 8];
    for word in [0, 1, u64::MAX, 1 << 63, u64::from(u32::MAX)] {
        // A lease of a millisecond may end before it is looked at, and one receive is as many as there may be then.
        let receiver = match word {
            1 => &mut by_itself,
            _ => &mut by_setting,
        };
        for setting in 0..16 {
            // The line of the settings, word by word.
            let at = 4096 + 15 * 128 + 8 * setting;
            two.file().write_all_at(&word.to_le_bytes(), at).unwrap();
        }
        let settings = there.settings();
        assert!(settings.visibility <= 43_200 * S && settings.delay <= 900 * S);
        assert!((60 * S..=1_209_600 * S).contains(&settings.retention));
        assert!((1..=1 << 40).contains(&settings.max_message_bytes));
        assert!(settings.receive_wait <= 20 * S);
        sender.send_delayed(b"x", Duration::ZERO).unwrap();
        let received = receiver.try_receive(&mut buffer).unwrap();
        let received = received.expect("a message that is not past the shortest retention");
        assert!(receiver.delete(&received.receipt).unwrap());
    }
    here.set(&Settings::new().visibility(S)).unwrap();
    assert_eq!(there.settings().visibility, S);
}

#[test]
fn a_removed_queue_takes_no_settings() {
    let two = Two::new();
    let (here, there) = two.queue();
    let before: QueueSettings = here.settings();
    two.there.remove("q").unwrap();
    assert!(matches!(
        here.set(&Settings::new().visibility(S)),
        Err(SetError::Removed)
    ));
    assert_eq!(there.settings(), before);
}

/// Asks again until the answer is another than what was counted a moment ago.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < deadline(), "it is refused for ever");
        std::thread::yield_now();
    }
}

#[test]
fn a_queue_takes_as_many_messages_as_it_may_and_says_so() {
    let two = Two::new();
    let (here, there) = two.queue();
    let (mut sender, mut receiver) = (there.sender().unwrap(), there.receiver().unwrap());
    here.set(&Settings::new().max_messages(100)).unwrap();
    assert_eq!(there.settings().max_messages, Some(100));
    let mut sent = 0;
    let refused = loop {
        // Every tenth lies in the pool.
        match sender.send(&[0; 2000][..if sent % 10 == 0 { 2000 } else { 8 }]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, QueueSendError::OverQuota { limit: 100 }),
        "{refused:?}"
    );
    assert_eq!(sent, 100);
    // In flight it counts as much.
    let message = &receiver.receive(1, S, None).unwrap()[0];
    assert!(sender.send(b"one more").is_err());
    receiver.delete(&message.received.receipt).unwrap();
    until(|| sender.send(b"one more").ok());
    assert!(sender.send(b"another").is_err());
    here.set(&Settings::new().max_messages(101)).unwrap();
    sender.send(b"another").unwrap();
    here.set(&Settings::new().max_messages(None)).unwrap();
    for _ in 101..1024 {
        sender.send(b"x").unwrap();
    }
    assert!(matches!(
        here.set(&Settings::new().max_messages(0)),
        Err(SetError::InvalidSetting {
            setting: "max_messages",
            ..
        })
    ));
}

/// Whoever sends again what was refused keeps the order so.
#[test]
fn behind_one_that_a_limit_refused_the_rest_of_a_batch_is_refused() {
    let two = Two::new();
    let (here, there) = two.queue();
    here.set(&Settings::new().max_messages(8)).unwrap();
    let (mut sender, mut receiver) = (there.sender().unwrap(), here.receiver().unwrap());
    // Long enough that there is room again before its end.
    let batch = vec![Outgoing::new(b"x"); 300_000];
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 8];
            while !stop.load(relaxed) {
                receiver.receive_and_delete(&mut buffer).unwrap();
            }
        });
        let outcomes = sender.send_message_batch(&batch);
        stop.store(true, relaxed);
        let sent = outcomes
            .iter()
            .take_while(|outcome| outcome.is_ok())
            .count();
        assert!(sent < batch.len(), "the limit was never met");
        let later = outcomes[sent..].iter().filter(|outcome| outcome.is_ok());
        assert_eq!(later.count(), 0, "behind {sent} that were sent");
    });
}

#[test]
fn senders_together_pass_the_limit_by_no_more_than_their_shares() {
    let two = Two::new();
    let (here, there) = two.queue();
    here.set(&Settings::new().max_messages(400)).unwrap();
    std::thread::scope(|scope| {
        for queue in [&here, &here, &there, &there] {
            scope.spawn(|| {
                let mut sender = queue.sender().unwrap();
                while sender.send(b"x").is_ok() {}
            });
        }
    });
    let messages = there.stats().visible;
    // Each may have been granted an eighth of what was left when it looked.
    assert!((400..400 + 3 * 50).contains(&messages), "{messages}");
}

#[test]
fn as_many_messages_are_in_flight_as_may_be() {
    let two = Two::new();
    let (here, there) = two.queue();
    let (mut sender, mut receiver) = (there.sender().unwrap(), there.receiver().unwrap());
    for _ in 0..300 {
        sender.send(b"x").unwrap();
    }
    here.set(&Settings::new().max_in_flight(120)).unwrap();
    let batch = receiver.receive(200, S, None).unwrap();
    assert_eq!(batch.len(), 120, "a batch ends there");
    let mut buffer = [0; 8];
    let refused = receiver.try_receive(&mut buffer);
    assert!(
        matches!(refused, Err(ReceiveError::OverLimit { limit: 120 })),
        "{refused:?}"
    );
    assert!(
        receiver.receive_and_delete(&mut buffer).unwrap().is_some(),
        "never in flight"
    );
    receiver.delete(&batch[7].received.receipt).unwrap();
    until(|| receiver.try_receive(&mut buffer).ok().flatten());
    assert!(receiver.try_receive(&mut buffer).is_err());
    here.set(&Settings::new().max_in_flight(None)).unwrap();
    assert_eq!(receiver.receive(300, S, None).unwrap().len(), 178);
    // Nothing to receive is no reason to refuse.
    here.set(&Settings::new().max_in_flight(1000)).unwrap();
    for _ in 0..2000 {
        assert_eq!(receiver.try_receive(&mut buffer).unwrap(), None);
    }
}

#[test]
fn a_message_that_is_looked_at_in_place_is_one_of_those_in_flight() {
    let two = Two::new();
    let (here, there) = two.queue();
    let (mut sender, mut receiver) = (there.sender().unwrap(), there.receiver().unwrap());
    for _ in 0..3 {
        sender.send(b"x").unwrap();
    }
    here.set(&Settings::new().max_in_flight(2)).unwrap();
    for _ in 0..2 {
        drop(receiver.try_receive_view().unwrap().expect("a message"));
    }
    let refused = receiver.try_receive_view().map(|view| view.is_some());
    assert!(
        matches!(refused, Err(ReceiveError::OverLimit { limit: 2 })),
        "{refused:?}"
    );
    // Nothing to look at is no reason to refuse.
    here.purge().unwrap();
    until(|| receiver.try_receive_view().ok().map(|view| view.is_none()));
    for _ in 0..2000 {
        assert!(receiver.try_receive_view().unwrap().is_none());
    }
}
