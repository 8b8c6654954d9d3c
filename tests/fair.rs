//! Fair queues: groups on a standard queue. After "Amazon SQS fair queues" in the SQS developer guide.

use ringway::{Bus, Outgoing, Queue, QueueReceiver, QueueSender};
use ringway_harness::TempBus;
use std::collections::HashSet;

fn queue() -> (TempBus, Queue) {
    let root = TempBus::new().unwrap();
    let bus = Bus::builder("test").root(root.path()).create().unwrap();
    let queue = bus.queue("q").slots(4096).stride(256).create().unwrap();
    (root, queue)
}

fn send(sender: &mut QueueSender, group: &str, count: u32) {
    for number in 0..count {
        let body = format!("{group} {number}");
        let message = Outgoing::new(body.as_bytes()).group(group);
        sender.send_message(&message).unwrap();
    }
}

/// The group of the next message, which is deleted.
fn receive(receiver: &mut QueueReceiver) -> Option<String> {
    let mut buffer = [0; 100];
    let received = receiver.try_receive(&mut buffer).unwrap()?;
    receiver.delete(&received.receipt).unwrap();
    let body = str::from_utf8(&buffer[..received.len]).unwrap();
    Some(body.split(' ').next().unwrap().to_owned())
}

#[test]
fn a_quiet_tenant_does_not_wait_behind_the_backlog_of_a_noisy_one() {
    let (_root, queue) = queue();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    send(&mut sender, "noisy", 3000);
    send(&mut sender, "quiet", 1);
    // The backlog is looked through once, 16 slots a receive.
    let first = (1..=3001).find(|_| receive(&mut receiver).as_deref() == Some("quiet"));
    assert!(
        first.unwrap() <= 3000 / 16 + 16,
        "{first:?} receives until the first"
    );
    // From then on what comes is found at once.
    for round in 0..20 {
        send(&mut sender, "noisy", 10);
        send(&mut sender, "quiet", 1);
        let dwell = (1..=200).find(|_| receive(&mut receiver).as_deref() == Some("quiet"));
        assert!(
            dwell.is_some_and(|dwell| dwell <= 3),
            "{dwell:?} receives in round {round}"
        );
    }
}

#[test]
fn the_noisy_tenant_gets_its_share_and_everything_comes_once() {
    let (_root, queue) = queue();
    let mut sender = queue.sender().unwrap();
    send(&mut sender, "noisy", 1500);
    for tenant in ["a", "b", "c"] {
        send(&mut sender, tenant, 300);
    }
    for number in 0..300 {
        sender.send(format!("nobody {number}").as_bytes()).unwrap();
    }
    let mut receivers = [queue.receiver().unwrap(), queue.receiver().unwrap()];
    let (mut bodies, mut order) = (HashSet::new(), Vec::new());
    let mut buffer = [0; 100];
    for turn in 0.. {
        let receiver = &mut receivers[turn % 2];
        let Some(received) = receiver.try_receive(&mut buffer).unwrap() else {
            break;
        };
        receiver.delete(&received.receipt).unwrap();
        let body = str::from_utf8(&buffer[..received.len]).unwrap().to_owned();
        order.push(body.split(' ').next().unwrap().to_owned());
        assert!(bodies.insert(body), "a message came twice");
    }
    assert_eq!(bodies.len(), 2700);
    // Behind the first look through the backlog, while there is something of everybody.
    let window = &order[400..900];
    let noisy = window.iter().filter(|group| *group == "noisy").count();
    assert!(
        (75..=400).contains(&noisy),
        "{noisy} of 500 were of the noisy tenant"
    );
    for tenant in ["a", "b", "c"] {
        let count = window.iter().filter(|group| *group == tenant).count();
        assert!(count >= 25, "{count} of 500 were of {tenant}");
    }
}

#[test]
fn one_tenant_alone_is_received_in_the_order_it_sent_in() {
    let (_root, queue) = queue();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    send(&mut sender, "only", 500);
    let mut last = None;
    let mut buffer = [0; 100];
    while let Some(received) = receiver.try_receive(&mut buffer).unwrap() {
        assert!(last < Some(received.position()));
        last = Some(received.position());
        receiver.delete(&received.receipt).unwrap();
    }
    assert_eq!(queue.stats().visible, 0);
}

#[test]
fn what_waited_at_the_cursor_is_met_again_in_batches_too() {
    let (_root, queue) = queue();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    send(&mut sender, "noisy", 200);
    send(&mut sender, "quiet", 50);
    let mut positions = HashSet::new();
    loop {
        let batch = receiver
            .receive(10, std::time::Duration::ZERO, None)
            .unwrap();
        if batch.is_empty() {
            break;
        }
        for message in batch {
            assert!(positions.insert(message.received.position()));
            receiver.delete(&message.received.receipt).unwrap();
        }
    }
    assert_eq!(positions.len(), 250);
}
