//! A standard queue beside the simplest model of one: a set of messages, each visible, held or delayed.
//!
//! Whatever is sent, inline or through the pool, received in batches by two receivers, deleted, given back
//! now or later, extended, consumed and purged: a receive gets messages that are visible, each with its own
//! bytes and the right count, and something as long as anything is visible; what is held or delayed comes
//! to nobody; and in the end every message has come that was not purged.

use proptest::prelude::*;
use ringway::{Bus, Outgoing, Queue, QueueReceiver, QueueSender, Received};
use ringway_harness::TempBus;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longer than a test takes.
const LATER: Duration = Duration::from_secs(900);
const NOW: Duration = Duration::ZERO;

#[derive(Clone, Debug)]
enum Action {
    Send { large: bool },
    SendLater,
    Receive { max: usize, by: bool },
    Delete { at: usize },
    Nack { at: usize, later: bool },
    Extend { at: usize },
    Consume,
    Purge,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => any::<bool>().prop_map(|large| Action::Send { large }),
        1 => Just(Action::SendLater),
        5 => (1..6usize, any::<bool>()).prop_map(|(max, by)| Action::Receive { max, by }),
        6 => any::<usize>().prop_map(|at| Action::Delete { at }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, later)| Action::Nack { at, later }),
        1 => any::<usize>().prop_map(|at| Action::Extend { at }),
        2 => Just(Action::Consume),
        1 => Just(Action::Purge),
    ]
}

#[derive(Clone, Copy, Debug)]
enum State {
    Visible,
    Held(Received),
    Delayed,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    large: bool,
    receives: u16,
    state: State,
}

struct Play {
    queue: Queue,
    sender: QueueSender,
    receivers: [QueueReceiver; 2],
    messages: BTreeMap<u64, Message>,
    sent: u64,
}

/// What message `number` says.
fn body(number: u64, large: bool) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    if large {
        body.resize(900 + (number % 700) as usize, number as u8);
    }
    body
}

impl Play {
    fn visible(&self) -> usize {
        let states = self.messages.values();
        states
            .filter(|message| matches!(message.state, State::Visible))
            .count()
    }

    /// The number and lease of one that is held.
    fn held(&self, at: usize) -> Option<(u64, Received)> {
        let held = self.messages.iter();
        let held = held.filter_map(|(number, message)| match message.state {
            State::Held(received) => Some((*number, received)),
            _ => None,
        });
        let held: Vec<_> = held.collect();
        held.get(at % held.len().max(1)).copied()
    }

    fn send(&mut self, large: bool, delay: Option<Duration>) {
        let body = body(self.sent, large);
        let message = Outgoing::new(&body);
        let message = match delay {
            Some(delay) => message.delay(delay),
            None => message,
        };
        // A queue full of what is held takes no more: then nothing was sent.
        if self.sender.send_message(&message).is_ok() {
            let state = match delay {
                Some(_) => State::Delayed,
                None => State::Visible,
            };
            let receives = 0;
            let message = Message {
                large,
                receives,
                state,
            };
            self.messages.insert(self.sent, message);
            self.sent += 1;
        }
    }

    /// Takes note of a message that came.
    fn came(&mut self, bytes: &[u8], received: Received) -> Result<u64, TestCaseError> {
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let Some(message) = self.messages.get_mut(&number) else {
            return Err(TestCaseError::fail(format!("{number} is not in the queue")));
        };
        prop_assert!(matches!(message.state, State::Visible), "{:?}", message);
        prop_assert_eq!(bytes, &body(number, message.large)[..]);
        message.receives += 1;
        prop_assert_eq!(received.receives(), message.receives);
        message.state = State::Held(received);
        Ok(number)
    }

    fn receive(&mut self, max: usize, by: usize) -> Result<usize, TestCaseError> {
        let visible = self.visible();
        let got = self.receivers[by].receive(max, NOW, None).unwrap();
        prop_assert!(got.len() <= max.min(visible), "{} of {visible}", got.len());
        prop_assert!(visible == 0 || !got.is_empty(), "{visible} are visible");
        for message in &got {
            self.came(&message.body, message.received)?;
        }
        Ok(got.len())
    }

    fn act(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match *action {
            Action::Send { large } => self.send(large, None),
            Action::SendLater => self.send(false, Some(LATER)),
            Action::Receive { max, by } => {
                self.receive(max, usize::from(by))?;
            }
            Action::Delete { at } => {
                if let Some((number, received)) = self.held(at) {
                    let deleted = self.receivers[0].delete(&received.receipt);
                    prop_assert!(matches!(deleted, Ok(true)), "{deleted:?}");
                    self.messages.remove(&number);
                }
            }
            Action::Nack { at, later } => {
                if let Some((number, received)) = self.held(at) {
                    let (delay, state) = match later {
                        true => (LATER, State::Delayed),
                        false => (NOW, State::Visible),
                    };
                    let back = self.queue.nack(&received.receipt, delay);
                    prop_assert!(back.is_ok(), "{back:?}");
                    self.messages.get_mut(&number).unwrap().state = state;
                    pass_a_millisecond();
                }
            }
            Action::Extend { at } => {
                if let Some((_, received)) = self.held(at) {
                    let extended = self.queue.change_visibility(&received.receipt, LATER);
                    prop_assert!(extended.is_ok(), "{extended:?}");
                }
            }
            Action::Consume => {
                let visible = self.visible();
                let mut buffer = [0; 2048];
                let consumed = self.receivers[1].receive_and_delete(&mut buffer).unwrap();
                prop_assert_eq!(consumed.is_some(), visible > 0);
                if let Some(received) = consumed {
                    let number = self.came(&buffer[..received.len], received)?;
                    self.messages.remove(&number);
                }
            }
            Action::Purge => {
                prop_assert_eq!(self.queue.purge().unwrap(), self.messages.len() as u64);
                self.messages.clear();
            }
        }
        Ok(())
    }

    /// Everything that is visible comes, what is delayed does not, and the counts agree.
    fn finish(mut self) -> Result<(), TestCaseError> {
        while let Some((number, received)) = self.held(0) {
            self.queue.nack(&received.receipt, NOW).unwrap();
            self.messages.get_mut(&number).unwrap().state = State::Visible;
        }
        pass_a_millisecond();
        while self.receive(3, 0)? > 0 {
            while let Some((number, received)) = self.held(0) {
                prop_assert!(self.queue.delete(&received.receipt).unwrap());
                self.messages.remove(&number);
            }
        }
        let stats = self.queue.stats();
        let hidden = stats.in_flight + stats.delayed;
        let left = self.messages.len() as u64;
        prop_assert_eq!((stats.visible, hidden, stats.damaged), (0, left, 0));
        Ok(())
    }
}

/// Two handles read the same clock up to a millisecond apart, and what is given back now is visible to
/// another from then on.
fn pass_a_millisecond() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_standard_queue_does_what_a_set_of_messages_does(
        actions in proptest::collection::vec(action(), 1..400),
    ) {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("model").root(root.path()).pool_bytes(16 << 20).create().unwrap();
        let queue = bus.queue("q").slots(1024).stride(128).create().unwrap();
        let mut play = Play {
            sender: queue.sender().unwrap(),
            receivers: [queue.receiver().unwrap(), queue.receiver().unwrap()],
            queue,
            messages: BTreeMap::new(),
            sent: 0,
        };
        for action in &actions {
            play.act(action)?;
        }
        play.finish()?;
    }
}
