//! FIFO queues seen from outside: the messages of a group in the order of their sends, one receiver at
//! a time, whatever is deleted, given back or timed out; groups beside each other.
//!
//! What SQS does: "Amazon SQS FIFO queue delivery logic",
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html>.

use ringway::{
    Bus, Deduplication, Idle, Message, OpenError, Outgoing, Queue, QueueKind, QueueReceiver,
    QueueSendError, QueueSender, Received, Settings, SettleError,
};
use ringway_harness::TempBus;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    (root, bus)
}

fn small(bus: &Bus) -> Queue {
    let builder = bus.queue("q.fifo").fifo().slots(1024).stride(128);
    builder.create().unwrap()
}

fn send(sender: &mut QueueSender, group: &str, number: u64) -> u64 {
    let body = number.to_le_bytes();
    let sent = sender.send_message(&Outgoing::new(&body).group(group));
    sent.unwrap().position
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body.try_into().unwrap())
}

fn word(receiver: &mut QueueReceiver) -> Option<(u64, Received)> {
    let mut buffer = [0; 8];
    let received = receiver.try_receive(&mut buffer).unwrap()?;
    assert_eq!(received.len, 8);
    Some((u64::from_le_bytes(buffer), received))
}

/// Looks until there is a message: for what becomes visible by itself.
fn await_word(receiver: &mut QueueReceiver) -> (u64, Received) {
    let mut buffer = [0; 8];
    let received = receiver.receive_into(&mut buffer, 60 * S).unwrap();
    (
        u64::from_le_bytes(buffer),
        received.expect("a message within ten seconds"),
    )
}

/// What there is now, at most `max`.
fn batch(receiver: &mut QueueReceiver, max: usize) -> Vec<(u64, Message)> {
    let messages = receiver.receive(max, Duration::ZERO, None).unwrap();
    let numbered = messages.into_iter();
    numbered
        .map(|message| (number(&message.body), message))
        .collect()
}

fn numbers(batch: &[(u64, Message)]) -> Vec<u64> {
    batch.iter().map(|(number, _)| *number).collect()
}

#[test]
fn messages_of_a_group_come_in_order_and_one_at_a_time() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    for round in 0..20 {
        for number in 0..300 {
            send(&mut sender, "a", round * 300 + number);
        }
        for number in 0..300 {
            let (seen, received) = word(&mut one).expect("the next one");
            assert_eq!((seen, received.receives()), (round * 300 + number, 1));
            assert!(word(&mut one).is_none(), "the next one waits for {number}");
            assert!(word(&mut two).is_none(), "whoever asks");
            assert!(one.delete(&received.receipt).unwrap());
            std::mem::swap(&mut one, &mut two);
        }
        assert!(word(&mut one).is_none());
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.damaged), (0, 0, 0));
}

/// "When multiple message groups are available, SQS can deliver messages from different groups in
/// parallel": the documentation's example of A, B and C.
#[test]
fn groups_do_not_wait_for_each_other() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    for (at, group) in ["A", "A", "B", "A", "C", "B"].iter().enumerate() {
        send(&mut sender, group, at as u64);
    }
    let mut receiver = queue.receiver().unwrap();
    let firsts: Vec<_> = std::iter::from_fn(|| word(&mut receiver)).collect();
    assert_eq!(firsts.iter().map(|f| f.0).collect::<Vec<_>>(), [0, 2, 4]);
    receiver.delete(&firsts[1].1.receipt).unwrap();
    assert_eq!(word(&mut receiver).map(|w| w.0), Some(5), "B goes on");
    assert!(word(&mut receiver).is_none(), "A and C wait");
    receiver.delete(&firsts[0].1.receipt).unwrap();
    assert_eq!(word(&mut receiver).map(|w| w.0), Some(1), "A goes on");
}

/// "It returns as many messages with the same message group ID as possible", then others.
#[test]
fn a_batch_takes_of_one_group_what_it_can_and_then_of_others() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    for at in 0..12 {
        send(&mut sender, ["A", "B", "C"][at as usize % 3], at);
    }
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    let first = batch(&mut one, 6);
    assert_eq!(numbers(&first), [0, 3, 6, 9, 1, 4]);
    let second = batch(&mut two, 10);
    assert_eq!(numbers(&second), [2, 5, 8, 11], "A and B are locked");
    for (_, message) in first.iter().chain(&second) {
        assert_eq!(message.received.receives(), 1);
        assert!(two.delete(&message.received.receipt).unwrap());
    }
    assert_eq!(numbers(&batch(&mut one, 10)), [7, 10]);
}

#[test]
fn a_delete_out_of_turn_opens_the_group_only_when_the_first_is_gone() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..5 {
        send(&mut sender, "A", at);
    }
    let taken = batch(&mut receiver, 4);
    assert_eq!(numbers(&taken), [0, 1, 2, 3]);
    let receipts: Vec<_> = taken.iter().map(|t| t.1.received.receipt).collect();
    for at in [2, 1, 3] {
        assert!(receiver.delete(&receipts[at]).unwrap());
        assert!(word(&mut receiver).is_none(), "0 is in flight");
        assert!(!receiver.delete(&receipts[at]).unwrap(), "deleted already");
        let changed = receiver.change_visibility(&receipts[at], S);
        assert!(
            matches!(changed, Err(SettleError::Gone { .. })),
            "{changed:?}"
        );
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.parked), (1, 1, 0));
    // The ring comes round to them while they wait.
    for at in 0..3_000 {
        send(&mut sender, "B", at);
        let (seen, received) = word(&mut receiver).unwrap();
        assert_eq!(seen, at);
        receiver.delete(&received.receipt).unwrap();
    }
    assert!(receiver.delete(&receipts[0]).unwrap());
    let (seen, received) = word(&mut receiver).expect("the one behind the batch");
    assert_eq!((seen, received.receives()), (4, 1));
    receiver.delete(&received.receipt).unwrap();
    assert_eq!(queue.stats().visible + queue.stats().in_flight, 0);
    assert_eq!(queue.purge().unwrap(), 0);
}

#[test]
fn what_was_deleted_out_of_turn_never_comes_again() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..4 {
        send(&mut sender, "A", at);
    }
    let taken = batch(&mut receiver, 3);
    let receipts: Vec<_> = taken.iter().map(|t| t.1.received.receipt).collect();
    assert!(receiver.delete(&receipts[1]).unwrap());
    for at in [0, 2] {
        let given_back = receiver.nack(&receipts[at], Duration::ZERO);
        given_back.unwrap();
    }
    let again = batch(&mut receiver, 10);
    assert_eq!(numbers(&again), [0, 2, 3]);
    let receives: Vec<_> = again.iter().map(|a| a.1.received.receives()).collect();
    assert_eq!(receives, [2, 2, 1]);
    for stale in [0, 2] {
        let deleted = receiver.delete(&receipts[stale]);
        let is_stale = matches!(deleted, Err(SettleError::StaleReceipt { .. }));
        assert!(is_stale, "{deleted:?}");
    }
}

#[test]
fn a_longer_visibility_of_the_first_hides_the_group_and_none_opens_it_at_once() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    for at in 0..3 {
        send(&mut sender, "A", at);
    }
    one.set_visibility(100 * MS).unwrap();
    // Once, but where the machine pauses for longer than the lease.
    let first = loop {
        let (_, first) = await_word(&mut one);
        if one.change_visibility(&first.receipt, 60 * S).is_ok() {
            break first;
        }
    };
    let mut buffer = [0; 8];
    assert_eq!(two.receive_into(&mut buffer, 250 * MS).unwrap(), None);
    one.change_visibility(&first.receipt, Duration::ZERO)
        .unwrap();
    let (seen, again) = word(&mut two).expect("visible at once");
    assert_eq!((seen, again.receives()), (0, first.receives() + 1));
    assert!(word(&mut one).is_none(), "and the rest waits for it");
}

/// The leases of a batch are given back one by one: as long as one of them is in flight, its holder
/// may be at work on the group.
#[test]
fn a_group_is_not_shared_while_a_later_message_of_it_is_in_flight() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    for at in 0..3 {
        send(&mut sender, "A", at);
    }
    let taken = batch(&mut one, 3);
    let receipts: Vec<_> = taken.iter().map(|t| t.1.received.receipt).collect();
    one.nack(&receipts[0], Duration::ZERO).unwrap();
    assert!(word(&mut two).is_none(), "1 and 2 are in flight");
    one.delete(&receipts[2]).unwrap();
    assert!(word(&mut two).is_none(), "1 is in flight");
    one.delete(&receipts[1]).unwrap();
    let (seen, received) = word(&mut two).expect("nothing is in flight behind it");
    assert_eq!((seen, received.receives()), (0, 2));
    two.delete(&received.receipt).unwrap();
    assert!(word(&mut two).is_none());
    assert_eq!(queue.stats().visible, 0);
}

#[test]
fn a_message_whose_lease_ends_comes_again_before_the_next_one() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    for at in 0..4 {
        send(&mut sender, "A", at);
    }
    one.set_visibility(100 * MS).unwrap();
    let before = Instant::now();
    let taken = batch(&mut one, 3);
    assert_eq!(numbers(&taken), [0, 1, 2]);
    let (seen, received) = await_word(&mut two);
    assert!(before.elapsed() >= 100 * MS);
    assert_eq!((seen, received.receives()), (0, 2));
    assert!(
        word(&mut one).is_none(),
        "1 and 2 have ended, and wait for 0"
    );
    // Late, but nobody has received 1 again: the old receipt is good.
    assert!(one.delete(&taken[1].1.received.receipt).unwrap());
    assert!(two.delete(&received.receipt).unwrap());
    let rest = batch(&mut two, 10);
    assert_eq!(numbers(&rest), [2, 3]);
}

/// A visibility of nothing: each message of a batch is visible again at once, and in it once.
#[test]
fn a_batch_has_each_message_once_however_short_its_lease() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..6 {
        send(&mut sender, ["A", "B"][at as usize % 2], at);
    }
    let none = Some(Duration::ZERO);
    for round in 1..4 {
        let taken = receiver.receive(20, Duration::ZERO, none).unwrap();
        let seen: Vec<_> = taken.iter().map(|m| number(&m.body)).collect();
        let of = |group: u64| seen.iter().copied().filter(move |n| n % 2 == group);
        assert!(of(0).eq([0, 2, 4]) && of(1).eq([1, 3, 5]), "{seen:?}");
        assert!(taken.iter().all(|m| m.received.receives() == round));
    }
}

#[test]
fn a_hundred_groups_keep_a_hundred_receivers_busy_at_once() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    for at in 0..1_000 {
        send(&mut sender, &format!("truck-{}", at % 100), at);
    }
    let mut receivers: Vec<_> = (0..100).map(|_| queue.receiver().unwrap()).collect();
    for round in 0..10 {
        let held: Vec<_> = receivers
            .iter_mut()
            .map(|receiver| word(receiver).expect("one for everybody"))
            .collect();
        let groups: HashSet<_> = held.iter().map(|(number, _)| number % 100).collect();
        assert_eq!(groups.len(), 100, "each has another group");
        assert!(held.iter().all(|(number, _)| number / 100 == round));
        assert!(word(&mut receivers[0]).is_none());
        for (receiver, (_, received)) in receivers.iter_mut().zip(&held) {
            assert!(receiver.delete(&received.receipt).unwrap());
        }
    }
}

#[test]
fn groups_with_a_backlog_are_served_in_turn() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    // A has ninety messages in front of everybody, and gets more all the time.
    for at in 0..90 {
        send(&mut sender, "A", at);
    }
    for group in ["B", "C", "D"] {
        for at in 0..30 {
            send(&mut sender, group, 1_000 + at);
        }
    }
    let mut receiver = queue.receiver().unwrap();
    // All that is there becomes known first: as if many had looked while A was held.
    let (_, first) = word(&mut receiver).unwrap();
    let (mut others, mut of_a) = (0, 1);
    let mut held = Some(first);
    for at in 0..120 {
        send(&mut sender, "A", 90 + at);
        if let Some(held) = held.take() {
            receiver.delete(&held.receipt).unwrap();
        }
        let (seen, received) = word(&mut receiver).unwrap();
        if seen < 1_000 {
            of_a += 1;
        } else {
            others += 1;
        }
        held = Some(received);
    }
    assert_eq!(of_a + others, 121);
    assert!(others >= 90 - 60, "A had {of_a} turns, the others {others}");
}

#[test]
fn a_hidden_group_does_not_hold_up_the_ring() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..500 {
        send(&mut sender, "slow", at);
    }
    let (_, slow) = word(&mut receiver).unwrap();
    for at in 0..10_000 {
        send(&mut sender, "fast", at);
        let (seen, received) = word(&mut receiver).expect("fast goes on");
        assert_eq!(seen, at);
        receiver.delete(&received.receipt).unwrap();
    }
    assert!(queue.stats().renewed > 0);
    receiver.delete(&slow.receipt).unwrap();
    for at in 1..500 {
        let (seen, received) = word(&mut receiver).expect("none is lost");
        assert_eq!((seen, received.receives()), (at, 1));
        receiver.delete(&received.receipt).unwrap();
    }
    assert!(word(&mut receiver).is_none());
}

#[test]
fn a_full_queue_refuses_and_keeps_order() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut sent = 0;
    let mut next = HashMap::new();
    for _ in 0..3 {
        loop {
            let group = format!("g{}", sent % 7);
            let body = u64::to_le_bytes(sent);
            match sender.send_message(&Outgoing::new(&body).group(&group)) {
                Ok(_) => sent += 1,
                Err(QueueSendError::Full { capacity, .. }) => break assert_eq!(capacity, 1024),
                Err(other) => panic!("{other}"),
            }
        }
        for _ in 0..1024 {
            let Some((seen, received)) = word(&mut receiver) else {
                break;
            };
            let next = next.entry(seen % 7).or_insert(seen % 7);
            assert_eq!(seen, *next);
            *next += 7;
            receiver.delete(&received.receipt).unwrap();
        }
    }
    assert!(sent >= 3 * 1024 - 8, "{sent}");
    assert_eq!(next.values().sum::<u64>(), (sent..sent + 7).sum::<u64>());
}

#[test]
fn a_purge_empties_every_group_and_what_comes_then_is_received() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for round in 0..5 {
        for at in 0..300 {
            send(&mut sender, ["A", "B", "C"][at as usize % 3], at);
        }
        // Some are in flight, some deleted out of turn, most not even linked.
        let taken = batch(&mut receiver, 5);
        receiver.delete(&taken[2].1.received.receipt).unwrap();
        assert_eq!(queue.purge().unwrap(), 299, "round {round}");
        assert!(word(&mut receiver).is_none());
        let stats = queue.stats();
        assert_eq!((stats.visible, stats.in_flight), (0, 0));
        assert!(!receiver.delete(&taken[0].1.received.receipt).unwrap());
        send(&mut sender, "A", 1);
        let (seen, received) = word(&mut receiver).expect("a fresh one");
        assert_eq!((seen, received.receives()), (1, 1));
        receiver.delete(&received.receipt).unwrap();
    }
}

#[test]
fn payloads_of_the_pool_go_back_whatever_the_order_of_deletes() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let bodies: Vec<Vec<u8>> = (0..20u8).map(|at| vec![at; 1_000]).collect();
    for body in &bodies {
        sender
            .send_message(&Outgoing::new(body).group("A"))
            .unwrap();
    }
    let taken = receiver.receive(20, Duration::ZERO, None).unwrap();
    assert_eq!(taken.len(), 20);
    for (message, body) in taken.iter().zip(&bodies) {
        assert_eq!(&message.body, body);
        assert_eq!(message.group(), Some("A"));
    }
    for message in taken.iter().rev() {
        assert!(receiver.delete(&message.received.receipt).unwrap());
    }
    drop((sender, receiver));
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn receive_and_delete_takes_first_messages_only() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..10 {
        send(&mut sender, ["A", "B"][at as usize % 2], at);
    }
    let (seen, held) = word(&mut receiver).unwrap();
    assert_eq!(seen, 0);
    let mut buffer = [0; 8];
    for expected in [1, 3, 5, 7, 9] {
        let received = receiver.receive_and_delete(&mut buffer).unwrap();
        assert_eq!(received.map(|_| number(&buffer)), Some(expected));
    }
    assert_eq!(receiver.receive_and_delete(&mut buffer).unwrap(), None);
    receiver.delete(&held.receipt).unwrap();
    for expected in [2, 4, 6, 8] {
        let received = receiver.receive_and_delete(&mut buffer).unwrap();
        assert_eq!(received.map(|_| number(&buffer)), Some(expected));
    }
}

#[test]
fn the_delay_of_the_queue_holds_up_the_group() {
    let (_root, bus) = bus();
    let builder = bus.queue("q").fifo().slots(1024).delay(150 * MS);
    let queue = builder.create().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let before = Instant::now();
    send(&mut sender, "A", 0);
    send(&mut sender, "B", 1);
    let (mut early, delayed) = (word(&mut receiver), queue.stats().delayed);
    // Unless the machine has paused for as long.
    if before.elapsed() < 150 * MS {
        assert!(early.is_none());
        assert_eq!(delayed, 2);
    }
    for expected in [0, 1] {
        let next = early.take();
        let (seen, received) = next.unwrap_or_else(|| await_word(&mut receiver));
        assert!(before.elapsed() >= 150 * MS);
        assert_eq!((seen, received.receives()), (expected, 1));
    }
}

#[test]
fn a_sleeping_receiver_is_woken_when_the_group_opens() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..1_000 {
        send(&mut sender, "A", at);
    }
    let (_, first) = word(&mut receiver).unwrap();
    let other = queue.clone();
    let sleeper = std::thread::spawn(move || {
        let mut receiver = other.receiver().unwrap();
        receiver.set_idle(ringway::Idle::Park);
        for expected in (1..1_000).step_by(2) {
            let (seen, received) = await_word(&mut receiver);
            assert_eq!(seen, expected);
            receiver.delete(&received.receipt).unwrap();
            let (seen, received) = await_word(&mut receiver);
            assert_eq!(seen, expected + 1);
            receiver.delete(&received.receipt).unwrap();
            if expected == 997 {
                break;
            }
        }
    });
    receiver.delete(&first.receipt).unwrap();
    sleeper.join().unwrap();
    assert_eq!(word(&mut receiver).map(|w| w.0), Some(999));
}

/// A deleter that is stopped before its hint is not waited for: who waits looks at every slot itself.
#[test]
fn who_waits_looks_at_every_slot_of_a_queue_within_a_few_sleeps() {
    let (root, bus) = bus();
    let queue = bus.queue("q.fifo").fifo().create().unwrap();
    let slots = queue.definition().slots;
    let mut receiver = queue.receiver().unwrap();
    receiver.set_idle(Idle::Park);
    let (before, begun) = (read_word(&root, SWEEP), times_slept());
    // One wait; but a machine that pauses takes sleeps out of it.
    while times_slept() - begun < 20 {
        assert!(!receiver.wait(400 * MS).unwrap());
    }
    let swept = read_word(&root, SWEEP) - before;
    assert!(swept >= 2 * slots, "{swept} of {slots} slots");
}

/// How often this thread has given its processor away by itself.
fn times_slept() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_message_without_a_group_or_with_a_delay_of_its_own_is_refused() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let missing = |outcome: Result<(), QueueSendError>| {
        assert!(
            matches!(outcome, Err(QueueSendError::MissingGroup)),
            "{outcome:?}"
        );
    };
    missing(sender.send(b"x").map(drop));
    missing(sender.send(&[0; 10_000]).map(drop));
    missing(sender.send_batch(&[b"x"]).map(drop));
    missing(sender.send_message(&Outgoing::new(b"x")).map(drop));
    missing(
        sender
            .send_message(&Outgoing::new(b"x").trace_header("t"))
            .map(drop),
    );
    let loan = sender.loan(8).unwrap();
    missing(sender.send_loan(loan).map(drop).map_err(|(error, _)| error));
    let delayed = Outgoing::new(b"x").group("A").delay(Duration::ZERO);
    for outcome in [
        sender.send_message(&delayed).map(drop),
        sender.send_delayed(b"x", S).map(drop),
    ] {
        assert!(
            matches!(outcome, Err(QueueSendError::DelayInFifo)),
            "{outcome:?}"
        );
    }
    let blank = sender.send_message(&Outgoing::new(b"x").group("a b"));
    assert!(
        matches!(blank, Err(QueueSendError::InvalidId { .. })),
        "{blank:?}"
    );
    assert!(receiver.try_receive(&mut []).unwrap().is_none());
    drop((sender, receiver));
    assert_eq!(bus.doctor(false).unwrap().chunks[2], 0);
}

#[test]
fn the_kind_of_a_queue_is_fixed_at_creation() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    assert_eq!(queue.definition().kind, QueueKind::Fifo);
    let again = bus.queue("q.fifo").open().unwrap();
    assert_eq!(again.definition().kind, QueueKind::Fifo);
    bus.queue("q.fifo").fifo().open_or_create().unwrap();
    let other = bus.queue("q.fifo").kind(QueueKind::Standard).open();
    assert!(matches!(
        other,
        Err(OpenError::Mismatch { option: "kind", .. })
    ));
    bus.queue("s").create().unwrap();
    let other = bus.queue("s").fifo().open();
    assert!(matches!(
        other,
        Err(OpenError::Mismatch { option: "kind", .. })
    ));
    let short = bus.queue("t").fifo().stride(96).create();
    assert!(matches!(
        short,
        Err(OpenError::InvalidOption {
            option: "stride",
            ..
        })
    ));
}

#[test]
fn a_message_too_large_for_the_buffer_stays_first() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    send(&mut sender, "A", 0);
    send(&mut sender, "A", 1);
    for _ in 0..3 {
        let refused = receiver.try_receive(&mut [0; 4]);
        assert!(refused.is_err(), "{refused:?}");
    }
    let mut other = queue.receiver().unwrap();
    let (seen, received) = word(&mut other).expect("for anybody");
    assert_eq!((seen, received.receives()), (0, 1));
}

/// Nobody receives: who sends finds the old messages, first of their groups or not, and nobody has
/// linked them.
#[test]
fn a_sender_gets_the_slots_of_messages_past_their_retention() {
    let (root, bus) = bus();
    let minute = bus.queue("q.fifo").fifo().slots(1024).stride(128);
    let queue = minute.retention(60 * S).create().unwrap();
    let mut sender = queue.sender().unwrap();
    for at in 0..1024 {
        send(&mut sender, ["A", "B", "C"][at as usize % 3], at);
    }
    let full = sender.send_message(&Outgoing::new(b"x").group("A"));
    assert!(matches!(full, Err(QueueSendError::Full { .. })), "{full:?}");
    drop((sender, queue));
    grow_older(&root, 61 * S);
    let queue = bus.queue("q.fifo").open().unwrap();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for at in 0..1024 {
        send(&mut sender, "D", 5_000 + at);
    }
    assert_eq!(queue.stats().expired, 1024);
    for at in 0..1024 {
        let (seen, received) = word(&mut receiver).unwrap();
        assert_eq!(seen, 5_000 + at);
        receiver.delete(&received.receipt).unwrap();
    }
}

/// Offset of the slot at which the next sweep begins, counted from the first sweep on.
const SWEEP: u64 = 4992;

fn read_word(root: &TempBus, offset: u64) -> u64 {
    use std::os::unix::fs::FileExt;
    let path = root.path().join("ringway-test/objects/q.fifo");
    let mut word = [0; 8];
    let file = std::fs::File::open(path).unwrap();
    file.read_exact_at(&mut word, offset).unwrap();
    u64::from_le_bytes(word)
}

/// As if the queue had been made earlier: its epoch, which is where its times count from.
fn grow_older(root: &TempBus, by: Duration) {
    use std::os::unix::fs::FileExt;
    let path = root.path().join("ringway-test/objects/q.fifo");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut epoch = [0; 8];
    file.read_exact_at(&mut epoch, 248).unwrap();
    let epoch = u64::from_le_bytes(epoch) - by.as_millis() as u64;
    file.write_all_at(&epoch.to_le_bytes(), 248).unwrap();
}

/// Words at random places, of the control area, the hints, the group table and the slots: whoever
/// lives on may lose messages and order, and nothing else.
#[test]
fn a_fifo_queue_that_is_scribbled_over_never_hangs_or_panics() {
    let seed = ringway_harness::seed::announce("scribbling over a FIFO queue");
    let mut random = ringway_harness::seed::Random::new(seed);
    for _ in 0..40 {
        let (root, bus) = bus();
        let queue = bus.queue("q.fifo").fifo().slots(1024).stride(128);
        let ids = Deduplication::of_ids(1024).optional();
        let queue = queue.deduplicate(ids).create().unwrap();
        let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
        receiver.set_visibility(MS).unwrap();
        let mut buffer = [0; 4096];
        let mut receipts = Vec::new();
        // As the header has them: hints and group table, deduplication table, slots.
        let [groups, dedup, slots] = [288, 320, 80].map(|offset| read_word(&root, offset));
        assert!(4096 < groups && groups + 1024 * 40 <= dedup && dedup < slots);
        for round in 0..300u64 {
            let offset = match random.below(5) {
                0 => 4096 + 8 * random.below(512),
                1 => groups + 8 * random.below(1024 * 5),
                2 => dedup + 8 * random.below((slots - dedup) / 8),
                _ => slots + 8 * random.below(1024 * 16),
            };
            let value = match random.below(6) {
                0 => 0,
                1 => u64::MAX,
                2 => random.below(2_048),
                3 => random.below(4) << 62 | random.below(2_048),
                4 => random.below(u64::MAX) & !(3 << 62) | 2 << 62,
                _ => random.below(u64::MAX),
            };
            scribble(&root, offset, value);
            for len in [8, 20, 700] {
                let group = format!("g{}", random.below(5));
                let (body, id) = (vec![round as u8; len], format!("id{}", random.below(99)));
                let message = Outgoing::new(&body).group(&group);
                let _ = match len {
                    20 => sender.send_message(&message.dedup_id(&id)),
                    _ => sender.send_message(&message),
                };
                if let Ok(Some(received)) = receiver.try_receive(&mut buffer) {
                    receipts.push(received.receipt);
                }
                let _ = receiver.receive_and_delete(&mut buffer);
            }
            if let Ok(batch) = receiver.receive(4, Duration::ZERO, None) {
                receipts.extend(batch.iter().map(|message| message.received.receipt));
            }
            while receipts.len() > 3 {
                let receipt = receipts.swap_remove(0);
                let _ = receiver.nack(&receipt, MS);
                let _ = receiver.change_visibility(&receipt, MS);
                let _ = receiver.delete(&receipt);
            }
            let _ = queue.stats();
            if round % 50 == 49 {
                let _ = receiver.wait(MS);
                let _ = queue.parked();
                let _ = bus.doctor(true).map(drop);
                let _ = queue.set(&Settings::new().delay(round as u32 % 3 * MS));
                queue.purge().unwrap();
            }
        }
    }
}

fn scribble(root: &TempBus, offset: u64, value: u64) {
    use std::os::unix::fs::FileExt;
    let path = root.path().join("ringway-test/objects/q.fifo");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&value.to_le_bytes(), offset).unwrap();
}

/// "Using the receive request attempt ID in Amazon SQS".
#[test]
fn a_receive_attempt_that_is_made_again_brings_the_same_messages_while_they_are_in_flight() {
    let (_root, bus) = bus();
    let queue = small(&bus);
    let mut sender = queue.sender().unwrap();
    for number in 0..6 {
        send(&mut sender, "a", number);
    }
    let mut receiver = queue.receiver().unwrap();
    let attempt = |receiver: &mut QueueReceiver, id| {
        receiver
            .receive_attempt(id, 3, Duration::ZERO, None)
            .unwrap()
    };
    let first = attempt(&mut receiver, "one");
    assert_eq!(first.len(), 3);
    assert_eq!(attempt(&mut receiver, "one"), first);
    assert!(
        attempt(&mut receiver, "two").is_empty(),
        "the group is held"
    );
    // What was deleted meanwhile is not among them.
    receiver.delete(&first[0].received.receipt).unwrap();
    assert_eq!(attempt(&mut receiver, "one"), first[1..]);
    // Nothing of it is in flight any more: a receive like any other.
    for message in &first[1..] {
        receiver.delete(&message.received.receipt).unwrap();
    }
    let second = attempt(&mut receiver, "one");
    let numbers: Vec<_> = second.iter().map(|message| number(&message.body)).collect();
    assert_eq!(numbers, [3, 4, 5]);
    // Given back and received again by another, it is that one's.
    for message in &second {
        receiver
            .nack(&message.received.receipt, Duration::ZERO)
            .unwrap();
    }
    let mut other = queue.receiver().unwrap();
    assert_eq!(other.receive(3, Duration::ZERO, None).unwrap().len(), 3);
    assert!(attempt(&mut receiver, "one").is_empty());
}
