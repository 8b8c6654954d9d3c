//! A FIFO queue beside the simplest model of one: a list of messages for each group, each held or not.
//!
//! Whatever is sent, received in batches, deleted in any order, given back and purged: a receive gets
//! the messages of one group from its first on, of no group of which a message is held, and leaves
//! nothing out as long as it has room. Every message comes with the right count, and in the end
//! every one has come.

use proptest::prelude::*;
use ringway::{Bus, Outgoing, Queue, QueueReceiver, QueueSender, Received};
use ringway_harness::TempBus;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
enum Action {
    Send { group: u8 },
    Receive { max: usize, by: bool },
    Delete { at: usize },
    NackGroup { at: usize },
    Consume,
    Purge,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..4u8).prop_map(|group| Action::Send { group }),
        5 => (1..6usize, any::<bool>()).prop_map(|(max, by)| Action::Receive { max, by }),
        6 => any::<usize>().prop_map(|at| Action::Delete { at }),
        2 => any::<usize>().prop_map(|at| Action::NackGroup { at }),
        2 => Just(Action::Consume),
        1 => Just(Action::Purge),
    ]
}

#[derive(Clone, Debug)]
struct Message {
    number: u64,
    receives: u16,
    held: Option<Received>,
}

/// The model: what is in each group, in order.
#[derive(Default)]
struct Groups(BTreeMap<u8, Vec<Message>>);

impl Groups {
    /// What a receive of one group would get.
    fn open(&self, group: u8) -> usize {
        match self.0.get(&group) {
            Some(messages) if messages.iter().all(|message| message.held.is_none()) => {
                messages.len()
            }
            _ => 0,
        }
    }

    fn all_open(&self) -> usize {
        self.0.keys().map(|group| self.open(*group)).sum()
    }

    fn held(&self) -> Vec<(u8, u64, Received)> {
        let groups = self.0.iter();
        groups
            .flat_map(|(group, messages)| {
                let held = messages.iter();
                held.filter_map(|message| Some((*group, message.number, message.held?)))
            })
            .collect()
    }

    fn remove(&mut self, group: u8, number: u64) {
        let messages = self.0.get_mut(&group).unwrap();
        messages.retain(|message| message.number != number);
    }
}

struct Play {
    queue: Queue,
    sender: QueueSender,
    receivers: [QueueReceiver; 2],
    groups: Groups,
    sent: u64,
}

impl Play {
    fn act(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match *action {
            Action::Send { group } => {
                let body = (self.sent << 8 | u64::from(group)).to_le_bytes();
                let name = format!("group-{group}");
                let message = Outgoing::new(&body).group(&name);
                // A queue full of what is held takes no more: then nothing was sent.
                if self.sender.send_message(&message).is_ok() {
                    self.groups.0.entry(group).or_default().push(Message {
                        number: self.sent,
                        receives: 0,
                        held: None,
                    });
                    self.sent += 1;
                }
                Ok(())
            }
            Action::Receive { max, by } => self.receive(max, usize::from(by)),
            Action::Delete { at } => {
                let held = self.groups.held();
                let Some((group, number, received)) = held.get(at % held.len().max(1)) else {
                    return Ok(());
                };
                let deleted = self.receivers[0].delete(&received.receipt);
                prop_assert!(matches!(deleted, Ok(true)), "{deleted:?}");
                self.groups.remove(*group, *number);
                Ok(())
            }
            Action::NackGroup { at } => {
                let held = self.groups.held();
                let Some((group, ..)) = held.get(at % held.len().max(1)) else {
                    return Ok(());
                };
                for message in self.groups.0.get_mut(group).unwrap() {
                    if let Some(received) = message.held.take() {
                        let back = self.queue.nack(&received.receipt, Duration::ZERO);
                        prop_assert!(back.is_ok(), "{back:?}");
                    }
                }
                pass_a_millisecond();
                Ok(())
            }
            Action::Consume => {
                let open = self.groups.all_open();
                let mut buffer = [0; 8];
                let consumed = self.receivers[1].receive_and_delete(&mut buffer).unwrap();
                prop_assert_eq!(consumed.is_some(), open > 0);
                if let Some(received) = consumed {
                    let (number, group) = parts(&buffer);
                    let first = self.groups.0[&group][0].clone();
                    prop_assert!(self.groups.open(group) > 0, "the group is held");
                    prop_assert_eq!(first.number, number);
                    prop_assert_eq!(first.receives + 1, received.receives());
                    self.groups.remove(group, number);
                }
                Ok(())
            }
            Action::Purge => {
                let here: usize = self.groups.0.values().map(Vec::len).sum();
                prop_assert_eq!(self.queue.purge().unwrap(), here as u64);
                self.groups.0.clear();
                Ok(())
            }
        }
    }

    fn receive(&mut self, max: usize, by: usize) -> Result<(), TestCaseError> {
        let open = self.groups.all_open();
        let none = Duration::ZERO;
        let got = self.receivers[by].receive(max, none, None).unwrap();
        prop_assert_eq!(got.len(), max.min(open), "of {} that are open", open);
        let mut at = 0;
        while at < got.len() {
            let (_, group) = parts(&got[at].body);
            let open = self.groups.open(group);
            let take = open.min(got.len() - at);
            prop_assert!(take > 0, "a group that is held, or a second turn of one");
            let expected = &mut self.groups.0.get_mut(&group).unwrap()[..take];
            for (message, expected) in got[at..at + take].iter().zip(expected) {
                prop_assert_eq!(parts(&message.body), (expected.number, group));
                expected.receives += 1;
                prop_assert_eq!(message.received.receives(), expected.receives);
                expected.held = Some(message.received);
            }
            at += take;
        }
        Ok(())
    }

    /// Everything that is there comes, and nothing else.
    fn finish(mut self) -> Result<(), TestCaseError> {
        for (_, _, received) in self.groups.held() {
            self.queue.nack(&received.receipt, Duration::ZERO).unwrap();
        }
        pass_a_millisecond();
        for messages in self.groups.0.values_mut() {
            messages.iter_mut().for_each(|message| message.held = None);
        }
        while self.groups.all_open() > 0 {
            self.receive(3, 0)?;
            for (group, number, received) in self.groups.held() {
                prop_assert!(self.queue.delete(&received.receipt).unwrap());
                self.groups.remove(group, number);
            }
        }
        let stats = self.queue.stats();
        prop_assert_eq!((stats.visible, stats.in_flight, stats.damaged), (0, 0, 0));
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

fn parts(body: &[u8]) -> (u64, u8) {
    let word = u64::from_le_bytes(body.try_into().unwrap());
    (word >> 8, word as u8)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_fifo_queue_does_what_a_list_for_each_group_does(
        actions in proptest::collection::vec(action(), 1..400),
    ) {
        let root = TempBus::new().unwrap();
        let bus = Bus::builder("model").root(root.path()).pool_bytes(8 << 20).create().unwrap();
        let queue = bus.queue("q").fifo().slots(1024).stride(128).create().unwrap();
        let mut play = Play {
            sender: queue.sender().unwrap(),
            receivers: [queue.receiver().unwrap(), queue.receiver().unwrap()],
            queue,
            groups: Groups::default(),
            sent: 0,
        };
        for action in &actions {
            play.act(action)?;
        }
        play.finish()?;
    }
}
