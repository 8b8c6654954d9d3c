//! Views of a queue's messages: the bytes stay where they are for as long as they are looked at,
//! whatever becomes of the message; and what a view held comes back when it is closed, or when who
//! looked is dead.

use bytemuck::{Pod, Zeroable};
use ringway::{AttributeValue, QueueSendError, SettleError};
use ringway::{
    Attributes, Bus, Outgoing, PodError, Queue, QueueReceiver, QueueSender, ReceiveError,
};
use ringway_harness::{AckBoard, Launch, Stage, TempBus};
use std::path::Path;
use std::time::{Duration, Instant};

ringway_harness::roles! { look => look }

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const SLOTS: u64 = 1024;
/// Bodies in the slot, and in the pool.
const LENS: [usize; 2] = [24, 5000];

fn bus_at(root: &Path) -> Bus {
    Bus::builder("test")
        .root(root)
        .pool_bytes(64 << 20)
        .open_or_create()
        .unwrap()
}

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = bus_at(root.path());
    (root, bus)
}

fn queue(bus: &Bus) -> Queue {
    let builder = bus.queue("q").slots(SLOTS).stride(64);
    builder.open_or_create().unwrap()
}

/// A receiver whose leases are over within two milliseconds.
fn hasty(queue: &Queue) -> QueueReceiver {
    let mut receiver = queue.receiver().unwrap();
    receiver.set_visibility(MS).unwrap();
    receiver
}

/// Receives the message at `position` again, as soon as it is visible, and deletes it.
fn delete_behind(receiver: &mut QueueReceiver, position: u64) {
    let mut buffer = [0; 8192];
    let received = receiver.receive_into(&mut buffer, 10 * S).unwrap();
    let received = received.expect("its lease has ended");
    assert_eq!(
        (received.position(), received.receives() > 1),
        (position, true)
    );
    assert!(receiver.delete(&received.receipt).unwrap());
}

/// Sends and consumes until every slot was come to `rounds` times.
fn go_round(sender: &mut QueueSender, receiver: &mut QueueReceiver, len: usize, rounds: u64) {
    let mut buffer = [0; 8192];
    let from = sender.send(&vec![0xEE; len]).unwrap();
    loop {
        let received = receiver.receive_and_delete(&mut buffer).unwrap();
        let received = received.expect("just sent");
        assert_eq!(received.len, len);
        if received.position() >= from + rounds * SLOTS {
            return;
        }
        sender.send(&vec![0xEE; len]).unwrap();
    }
}

/// How many messages there is room for; they are gone again afterwards.
fn room(queue: &Queue) -> u64 {
    let mut sender = queue.sender().unwrap();
    let mut sent = 0;
    loop {
        match sender.send(b"x") {
            Ok(_) => sent += 1,
            Err(QueueSendError::Full { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(queue.purge().unwrap(), sent);
    sent
}

fn attached(bus: &Bus) -> u64 {
    bus.doctor(false).unwrap().chunks[2]
}

#[test]
fn a_view_shows_what_was_sent_and_deletes_it() {
    let (_root, bus) = bus();
    let queue = queue(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let me = receiver.participant();
    assert!(receiver.try_receive_view().unwrap().is_none());
    assert!(receiver.receive_view_within(MS).unwrap().is_none());
    for len in LENS {
        for round in 0..3 * SLOTS {
            let body: Vec<u8> = (0..len as u64).map(|i| (i ^ round) as u8).collect();
            let position = sender.send(&body).unwrap();
            let view = receiver.receive_view_within(10 * S).unwrap().unwrap();
            assert_eq!(*view, body[..], "round {round}");
            assert_eq!(view.received().len, len);
            assert_eq!(
                (view.receipt().position(), view.receipt().receives()),
                (position, 1)
            );
            assert_eq!(view.sender(), me);
            assert!(view.delete().unwrap());
        }
    }
    let stats = queue.stats();
    assert_eq!((stats.visible, stats.in_flight, stats.damaged), (0, 0, 0));
    assert_eq!(stats.renewed, 0, "a closed view costs no slot");
    assert_eq!(attached(&bus), 0);
}

#[test]
fn an_open_view_is_unchanged_whoever_deletes_its_message_and_comes_round() {
    for len in LENS {
        let (_root, bus) = bus();
        let queue = queue(&bus);
        let (mut sender, mut other) = (queue.sender().unwrap(), queue.receiver().unwrap());
        let mut hasty = hasty(&queue);
        let body: Vec<u8> = (0..len).map(|i| i as u8).collect();
        sender.send(&body).unwrap();
        let view = hasty.try_receive_view().unwrap().unwrap();
        let address = view.as_ptr();
        assert_eq!(*view, body[..]);

        delete_behind(&mut other, 0);
        go_round(&mut sender, &mut other, len, 2);
        assert_eq!((view.as_ptr(), &*view), (address, &body[..]), "{len} bytes");
        let renewed = queue.stats().renewed;
        assert!(renewed >= 2, "it was stepped over in each round: {renewed}");
        assert_eq!(room(&queue), SLOTS - 1, "it costs one slot");
        bus.doctor(true).unwrap();
        assert_eq!(attached(&bus), u64::from(len > 64), "and its chunk");
        assert_eq!(*view, body[..]);

        assert!(!view.delete().unwrap(), "it was gone");
        assert_eq!(room(&queue), SLOTS, "the slot has come back");
        assert_eq!(attached(&bus), 0);
        go_round(&mut sender, &mut other, len, 2);
    }
}

#[test]
fn a_view_is_deleted_under_by_purge_and_by_its_own_receipt_alike() {
    for len in LENS {
        let (_root, bus) = bus();
        let queue = queue(&bus);
        let (mut sender, mut other) = (queue.sender().unwrap(), queue.receiver().unwrap());
        let mut receiver = queue.receiver().unwrap();
        for by_purge in [true, false] {
            sender.send(&vec![7; len]).unwrap();
            let view = receiver.try_receive_view().unwrap().unwrap();
            if by_purge {
                assert_eq!(queue.purge().unwrap(), 1);
            } else {
                assert!(queue.delete(&view.receipt()).unwrap());
            }
            go_round(&mut sender, &mut other, len, 2);
            assert_eq!(*view, vec![7; len][..]);
            drop(view);
            assert_eq!(room(&queue), SLOTS);
            assert_eq!(attached(&bus), 0);
        }
    }
}

#[test]
fn a_payload_that_two_look_at_is_freed_behind_the_last_of_them() {
    let (_root, bus) = bus();
    let queue = queue(&bus);
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (hasty(&queue), hasty(&queue));
    let mut other = queue.receiver().unwrap();
    let body = [9; 5000];
    for first_goes_first in [true, false] {
        let position = sender.send(&body).unwrap();
        let first = one.try_receive_view().unwrap().unwrap();
        let second = two.receive_view_within(10 * S).unwrap().unwrap();
        assert_eq!(first.as_ptr(), second.as_ptr());
        delete_behind(&mut other, position);
        let (early, late) = if first_goes_first {
            (first, second)
        } else {
            (second, first)
        };
        drop(early);
        assert_eq!(attached(&bus), 1, "the other still looks");
        go_round(&mut sender, &mut other, body.len(), 1);
        assert_eq!(*late, body);
        drop(late);
        assert_eq!(attached(&bus), 0);
    }
}

#[test]
fn a_view_that_is_closed_leaves_its_message_in_flight() {
    let (_root, bus) = bus();
    let queue = queue(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    sender.send(&[1; 5000]).unwrap();
    drop(receiver.try_receive_view().unwrap().unwrap());
    assert_eq!(queue.stats().in_flight, 1);
    assert_eq!(attached(&bus), 1, "its payload is still the message's");
    assert!(receiver.try_receive_view().unwrap().is_none());
    // Received again while it is looked at: the older receipt is stale.
    let mut hasty = hasty(&queue);
    sender.send(b"second").unwrap();
    let view = hasty.try_receive_view().unwrap().unwrap();
    let mut buffer = [0; 8];
    receiver.receive_into(&mut buffer, 10 * S).unwrap().unwrap();
    assert_eq!(*view, *b"second");
    let refused = view.delete();
    assert!(
        matches!(refused, Err(SettleError::StaleReceipt { receives, .. }) if receives > 1),
        "{refused:?}"
    );
}

#[test]
fn what_is_said_beside_the_body_is_seen_in_a_view() {
    let (_root, bus) = bus();
    let queue = queue(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let mut attributes = Attributes::new();
    attributes.string("colour", "red").unwrap();
    for len in LENS {
        let body = vec![3; len];
        let message = Outgoing::new(&body).group("g").attributes(&attributes);
        sender.send_message(&message).unwrap();
        let view = receiver.try_receive_view().unwrap().unwrap();
        assert_eq!(*view, body[..]);
        assert_eq!(view.group(), Some("g"));
        let colour = view.attributes().get("colour").map(|colour| colour.value);
        assert!(
            matches!(colour, Some(AttributeValue::String("red"))),
            "{colour:?}"
        );
        assert!(view.delete().unwrap());
        sender.send(b"plain").unwrap();
        let view = receiver.try_receive_view().unwrap().unwrap();
        assert_eq!((view.group(), view.attributes().len()), (None, 0));
        view.delete().unwrap();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Fix {
    seconds: u64,
    latitude: f64,
    longitude: f64,
}

#[test]
fn a_value_is_looked_at_where_it_lies_or_is_said_to_be_none() {
    let (_root, bus) = bus();
    let queue = queue(&bus);
    let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
    let fix = Fix {
        seconds: 7,
        latitude: 47.07,
        longitude: 15.44,
    };
    sender.send_pod(&fix).unwrap();
    let view = receiver.try_receive_view().unwrap().unwrap();
    let seen = view.pod::<Fix>().unwrap();
    assert_eq!(
        (seen, std::ptr::from_ref(seen).cast()),
        (&fix, view.as_ptr())
    );
    let refused = view.pod::<u64>();
    assert!(
        matches!(
            refused,
            Err(PodError::WrongLength {
                len: 24,
                expected: 8,
                ..
            })
        ),
        "{refused:?}"
    );
    view.delete().unwrap();
    // The body of a slot is aligned to 8, that of a chunk to 64.
    #[derive(Clone, Copy, Debug, Pod, Zeroable)]
    #[repr(C, align(64))]
    struct Line([u8; 64]);
    #[derive(Clone, Copy, Debug, Pod, Zeroable)]
    #[repr(C, align(16))]
    struct Pair([u64; 2]);
    sender.send(&[1; 16]).unwrap();
    let view = receiver.try_receive_view().unwrap().unwrap();
    let refused = view.pod::<Pair>();
    assert!(
        matches!(refused, Err(PodError::Misaligned { align: 16, .. })),
        "{refused:?}"
    );
    view.delete().unwrap();
    sender.send(&[2; 64]).unwrap();
    let view = receiver.try_receive_view().unwrap().unwrap();
    assert_eq!(view.pod::<Line>().unwrap().0, [2; 64]);
    view.delete().unwrap();
}

#[test]
fn more_views_than_there_is_room_to_note_are_refused_and_take_nothing() {
    let (_root, bus) = bus();
    let queue = bus.queue("q").slots(4096).stride(64).create().unwrap();
    let mut sender = queue.sender().unwrap();
    // Positions of one line of pins are 128 apart.
    for n in 0..9 * 128u64 {
        sender.send(&n.to_le_bytes()).unwrap();
    }
    let mut between = queue.receiver().unwrap();
    let mut viewers: Vec<_> = (0..9).map(|_| queue.receiver().unwrap()).collect();
    let mut buffer = [0; 8];
    let mut views = Vec::new();
    for (n, viewer) in viewers.iter_mut().enumerate() {
        if n == 8 {
            assert!(matches!(
                viewer.try_receive_view(),
                Err(ReceiveError::TooManyViews)
            ));
            let received = viewer.try_receive(&mut buffer).unwrap().unwrap();
            assert_eq!((received.position(), received.receives()), (8 * 128, 1));
            break;
        }
        views.push(viewer.try_receive_view().unwrap().unwrap());
        for _ in 1..128 {
            between.try_receive(&mut buffer).unwrap().unwrap();
        }
    }
    for (n, view) in views.iter().enumerate() {
        assert_eq!(view.receipt().position(), n as u64 * 128);
        assert_eq!(**view, (n as u64 * 128).to_le_bytes());
    }
    drop(views);
    assert!(viewers[0].try_receive_view().unwrap().is_some());
}

#[test]
fn a_hundred_receivers_look_at_once() {
    let (_root, bus) = bus();
    let queue = queue(&bus);
    let mut sender = queue.sender().unwrap();
    let mut viewers: Vec<_> = (0..100).map(|_| queue.receiver().unwrap()).collect();
    for n in 0..100u64 {
        sender.send(&n.to_le_bytes()).unwrap();
    }
    let views: Vec<_> = viewers
        .iter_mut()
        .map(|viewer| viewer.try_receive_view().unwrap().unwrap())
        .collect();
    assert_eq!(queue.purge().unwrap(), 100);
    assert_eq!(room(&queue), SLOTS - 100);
    let mut seen: Vec<u64> = views
        .iter()
        .map(|view| *view.pod::<u64>().unwrap())
        .collect();
    seen.sort();
    assert!(seen.into_iter().eq(0..100));
    drop(views);
    assert_eq!(room(&queue), SLOTS);
}

#[test]
fn a_fifo_group_is_held_by_who_looks_at_its_first() {
    let (_root, bus) = bus();
    let builder = bus.queue("q.fifo").fifo().slots(SLOTS).stride(128);
    let queue = builder.create().unwrap();
    let mut sender = queue.sender().unwrap();
    let (mut one, mut two) = (queue.receiver().unwrap(), queue.receiver().unwrap());
    for n in 0..3u64 {
        for len in [8, 5000] {
            let mut body = vec![0; len];
            body[..8].copy_from_slice(&n.to_le_bytes());
            sender
                .send_message(&Outgoing::new(&body).group("g"))
                .unwrap();
        }
    }
    for n in 0..3u64 {
        for len in [8, 5000] {
            let view = one.try_receive_view().unwrap().unwrap();
            assert_eq!((view.len(), &view[..8]), (len, &n.to_le_bytes()[..]));
            assert!(two.try_receive_view().unwrap().is_none());
            assert!(view.delete().unwrap());
        }
    }
    assert_eq!(attached(&bus), 0);
    // Deleted under the view, the next of the group comes, and the bytes stay.
    for body in [[1; 5000], [2; 5000]] {
        sender
            .send_message(&Outgoing::new(&body).group("g"))
            .unwrap();
    }
    let view = one.try_receive_view().unwrap().unwrap();
    assert!(queue.delete(&view.receipt()).unwrap());
    let next = two.try_receive_view().unwrap().unwrap();
    assert_eq!(*next, [2; 5000]);
    assert!(next.delete().unwrap());
    assert_eq!(attached(&bus), 1);
    assert_eq!(*view, [1; 5000]);
    drop(view);
    assert_eq!(attached(&bus), 0);
}

#[test]
fn a_view_into_a_removed_queue_keeps_its_bytes() {
    for len in LENS {
        let (root, bus) = bus();
        let queue = queue(&bus);
        let mut receiver = queue.receiver().unwrap();
        queue.sender().unwrap().send(&vec![5; len]).unwrap();
        let view = receiver.try_receive_view().unwrap().unwrap();
        // Others remove it and send what takes chunks of the same size.
        let others = bus_at(root.path());
        others.remove("q").unwrap();
        others.doctor(true).unwrap();
        let builder = others.queue("next").slots(SLOTS).stride(64);
        let mut sender = builder.create().unwrap().sender().unwrap();
        for _ in 0..SLOTS {
            sender.send(&vec![6; len]).unwrap();
        }
        assert_eq!(*view, vec![5; len][..]);
        drop(view);
        drop((receiver, queue));
        others.remove("next").unwrap();
        others.doctor(true).unwrap();
        assert_eq!(attached(&others), 0);
    }
}

/// Looks at the first message until it is killed, having said so.
fn look(stage: &Stage) -> Result<(), String> {
    let bus = bus_at(&stage.path("root"));
    let queue = queue(&bus);
    let mut hasty = hasty(&queue);
    let view = hasty.try_receive_view().unwrap().ok_or("nothing there")?;
    assert!(view.iter().all(|byte| *byte == 4));
    stage.board("board").set(0, 1);
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_killed_process_looked_at_comes_back() {
    for len in LENS {
        let (root, bus) = bus();
        let queue = queue(&bus);
        let (mut sender, mut other) = (queue.sender().unwrap(), queue.receiver().unwrap());
        sender.send(&vec![4; len]).unwrap();
        let board = AckBoard::new(1).unwrap();
        let launch = Launch::role("look").set("root", root.path().display());
        let mut victim = launch.board("board", &board).spawn().unwrap();
        board.await_at_least(0, 1, &victim, "the view").unwrap();
        delete_behind(&mut other, 0);
        go_round(&mut sender, &mut other, len, 1);
        assert_eq!(room(&queue), SLOTS - 1);
        // A stopped viewer keeps what it looks at, and only that.
        assert!(victim.stop().unwrap());
        go_round(&mut sender, &mut other, len, 2);
        assert_eq!(room(&queue), SLOTS - 1);
        assert_eq!(attached(&bus), u64::from(len > 64));
        victim.kill().unwrap();
        // A pin of the dead is none, reaped or not; that it is dead may be known a moment later.
        let until = Instant::now() + 10 * S;
        while room(&queue) != SLOTS {
            assert!(Instant::now() < until, "the slot is lost");
        }
        let renewed = queue.stats().renewed;
        bus.reap().unwrap();
        let report = bus.doctor(false).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.chunks[2], 0);
        // Whoever has its number by now does not inherit what it looked at.
        let heir = bus_at(root.path());
        let mut buffer = [0; 8192];
        for _ in 0..2 * SLOTS {
            sender.send(&vec![8; len]).unwrap();
            let received = other.try_receive(&mut buffer).unwrap().unwrap();
            assert!(other.delete(&received.receipt).unwrap());
        }
        assert_eq!(queue.stats().renewed, renewed);
        drop(heir);
    }
}
