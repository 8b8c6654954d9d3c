//! Values instead of bytes, and messages as an iterator.

use bytemuck::{Pod, Zeroable};
use ringway::{Bus, Outgoing, PodError, Queue, ReceiveError};
use ringway_harness::TempBus;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Fix {
    seconds: u64,
    latitude: f64,
    longitude: f64,
}

const GRAZ: Fix = Fix {
    seconds: 7,
    latitude: 47.07,
    longitude: 15.44,
};

fn scene() -> (TempBus, Queue) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(64 << 20)
        .create()
        .unwrap();
    let queue = bus.queue("q").slots(1024).stride(64).create().unwrap();
    (root, queue)
}

#[test]
fn a_value_arrives_as_it_was_sent_inline_and_through_the_pool() {
    let (_root, queue) = scene();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    assert!(receiver.receive_pod::<Fix>().unwrap().is_none());
    sender.send_pod(&GRAZ).unwrap();
    let (received, fix) = receiver.receive_pod::<Fix>().unwrap().unwrap();
    assert_eq!((received.len, fix), (24, GRAZ));
    let large = [0x0123_4567_89AB_CDEFu64; 512];
    sender.send_pod(&large).unwrap();
    let wait = Duration::from_secs(10);
    let (_, seen): (_, [u64; 512]) = receiver.receive_pod_within(wait).unwrap().unwrap();
    assert_eq!(large, seen);
    // The body alone is the value.
    sender
        .send_message(&Outgoing::new(bytemuck::bytes_of(&GRAZ)).group("g"))
        .unwrap();
    let (_, fix) = receiver.receive_pod::<Fix>().unwrap().unwrap();
    assert_eq!(fix, GRAZ);
    let none = receiver.receive_pod_within::<Fix>(Duration::from_millis(1));
    assert!(none.unwrap().is_none());
}

#[test]
fn a_value_is_filled_in_place_in_a_loan() {
    let (_root, queue) = scene();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut loan = sender.loan(size_of::<Fix>()).unwrap();
    *bytemuck::from_bytes_mut(&mut loan) = GRAZ;
    sender.send_loan(loan).map_err(|(error, _)| error).unwrap();
    assert_eq!(receiver.receive_pod::<Fix>().unwrap().unwrap().1, GRAZ);
}

#[test]
fn a_message_of_another_length_is_no_value_and_can_be_settled() {
    let (_root, queue) = scene();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for len in [0, 23, 25, 5000] {
        sender.send(&vec![1; len]).unwrap();
        sender.send_pod(&GRAZ).unwrap();
        let refused = receiver.receive_pod::<Fix>();
        let Err(PodError::WrongLength {
            receipt,
            len: seen,
            expected: 24,
        }) = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!((seen, receipt.receives()), (len, 1));
        assert!(receiver.delete(&receipt).unwrap());
        // And it stands in nobody's way.
        let (received, fix) = receiver.receive_pod::<Fix>().unwrap().unwrap();
        assert_eq!(fix, GRAZ);
        assert!(receiver.delete(&received.receipt).unwrap());
    }
    assert_eq!(queue.stats().in_flight, 0);
}

#[test]
fn messages_come_one_by_one_until_none_comes_and_none_is_deleted_by_itself() {
    let (_root, queue) = scene();
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    for number in 0..5u8 {
        let body = [number; 3];
        let message = Outgoing::new(&body).group("g");
        sender.send_message(&message).unwrap();
    }
    let mut seen = Vec::new();
    let mut messages = receiver.messages(Duration::from_millis(1));
    while let Some(message) = messages.next() {
        let message = message.unwrap();
        assert_eq!(message.group(), Some("g"));
        seen.push(message.body[0]);
        if seen.len() % 2 == 0 {
            let receipt = message.received.receipt;
            assert!(messages.receiver().delete(&receipt).unwrap());
        }
    }
    assert!(messages.next().is_none());
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(queue.stats().in_flight, 3);
}

#[test]
fn an_iteration_ends_behind_an_error() {
    let (root, queue) = scene();
    let mut receiver = queue.receiver().unwrap();
    let bus = Bus::builder("test").root(root.path()).open().unwrap();
    bus.remove("q").unwrap();
    let mut messages = receiver.messages(Duration::from_secs(60));
    let ended = messages.next();
    assert!(
        matches!(ended, Some(Err(ReceiveError::Removed))),
        "{ended:?}"
    );
    assert!(messages.next().is_none());
}
