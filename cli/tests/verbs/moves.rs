//! `ringway queue redrive`, `move` and `task`.

use crate::place::{Outcome, Place, signal, until};
use ringway::{MoveState, Queue, Redrive, Settings};
use rustix::process::Signal;
use std::time::Duration;

/// A queue `q` whose messages `bodies` have gone to its dead-letter queue `dead`.
fn dead(place: &Place, bodies: &[&str]) -> (Queue, Queue) {
    let dead = place.bus.queue("dead").create().unwrap();
    let queue = place.queue();
    let policy = Settings::new().redrive(Redrive::to(&dead, 1));
    queue.set(&policy).unwrap();
    place.fill(bodies);
    let mut receiver = queue.receiver().unwrap();
    let received = receiver.receive(bodies.len(), Duration::ZERO, Some(Duration::ZERO));
    assert_eq!(received.unwrap().len(), bodies.len());
    until("everything dead", || {
        assert!(
            receiver
                .receive(1, Duration::ZERO, None)
                .unwrap()
                .is_empty()
        );
        dead.stats().visible == bodies.len() as u64
    });
    (queue, dead)
}

#[test]
fn a_redrive_takes_messages_back_to_where_they_came_from() {
    let place = Place::new();
    let (queue, dead) = dead(&place, &["a", "b", "c"]);
    let told = place.run(&["queue", "task", "b", "dead"]).ok();
    assert_eq!(told, "no messages of dead were ever moved\n");
    let told = place.run(&["queue", "redrive", "b", "dead"]).ok();
    let moved = "completed: moved 3 of 3 messages of dead back to where they came from\n";
    assert_eq!(told, moved);
    assert_eq!((queue.stats().visible, dead.stats().visible), (3, 0));
    let task = place.run(&["queue", "task", "b", "dead", "--json"]).json();
    assert_eq!(
        (&task["state"], &task["moved"]),
        (&"completed".into(), &3.into())
    );
}

#[test]
fn what_does_not_say_where_it_came_from_stays_and_is_told() {
    let place = Place::new();
    place.fill(&["a"]);
    let outcome = place.run(&["queue", "redrive", "b", "q"]);
    assert!(outcome.out.contains("1 stay:"), "{}", outcome.out);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(place.queue().stats().visible, 1);
}

#[test]
fn a_move_takes_messages_to_another_queue() {
    let place = Place::new();
    let other = place.bus.queue("other").create().unwrap();
    place.fill(&["a", "b"]);
    let told = place
        .run(&["queue", "move", "b", "q", "other", "--json"])
        .json();
    assert_eq!(
        (&told["moved"], &told["destination"]),
        (&2.into(), &"other".into())
    );
    assert_eq!(other.stats().visible, 2);
    let own = place.run(&["queue", "move", "b", "q", "q"]).refused(2);
    assert!(own.contains("its own destination"), "{own}");
    let near = place.run(&["queue", "move", "b", "q", "othre"]).refused(1);
    assert!(near.contains("did you mean other?"), "{near}");
}

#[test]
fn an_interrupted_move_is_cancelled_and_a_killed_one_goes_on_when_it_is_told_to() {
    let place = Place::new();
    place.bus.queue("other").create().unwrap();
    let queue = place.queue();
    place.fill(&vec!["x"; 100]);
    let slowly = ["queue", "move", "b", "q", "other", "--rate", "5"];
    let is_under_way = || {
        let status = queue.move_status();
        status.is_some_and(|s| s.state == MoveState::Running && s.moved > 0)
    };
    let child = place.start(&slowly);
    until("a move under way", is_under_way);
    signal(&child, Signal::INT);
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert_eq!(outcome.signal, Some(2), "{}", outcome.err);
    assert!(
        outcome.out.starts_with("cancelled: moved "),
        "{}",
        outcome.out
    );
    let none = place
        .run(&["queue", "task", "b", "q", "--resume"])
        .refused(1);
    assert!(none.contains("no stopped move"), "{none}");

    let mut child = place.start(&slowly);
    until("another move under way", is_under_way);
    child.kill().unwrap();
    child.wait().unwrap();
    let stopped = place.run(&["queue", "task", "b", "q"]).ok();
    assert!(stopped.starts_with("stopped: moved "), "{stopped}");
    let resumed = place.start(&["queue", "task", "b", "q", "--resume"]);
    until("the move under way again", || {
        queue.move_status().unwrap().state == MoveState::Running
    });
    let cancelled = place.run(&["queue", "task", "b", "q", "--cancel", "--json"]);
    assert!(
        cancelled.json()["state"]
            .as_str()
            .unwrap()
            .starts_with("cancel")
    );
    assert_eq!(resumed.wait_with_output().unwrap().status.code(), Some(1));
    let again = place
        .run(&["queue", "task", "b", "q", "--cancel"])
        .refused(1);
    assert!(again.contains("no move of q is under way"), "{again}");
}
