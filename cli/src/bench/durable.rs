//! ringway's durable queue as a contender: what the journal costs with a queue in front of it.
//!
//! `ringway-durable-queue` is a standard queue whose bus lies in memory and whose journal on a disk. One at a time, a
//! message is a send; in a group, eight threads send, each its own; poured in, batches are sent, and received and
//! deleted when a part of the ring is full: that is in the figure.

use ::ringway::{Bus, Durability, Queue, QueueReceiver, QueueSender};
use ringway_measure::durable::{self, GROUP, Pour, Settle};
use ringway_measure::scratch::{DiskScratch, Scratch};
use ringway_measure::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};

pub(super) fn all() -> [&'static dyn Contender; 1] {
    [&DurableQueue]
}

struct DurableQueue;

/// Slots of a queue that is poured into.
const POURED: u64 = 1 << 16;
/// Messages that are in it when they are received and deleted.
const DRAINED: u64 = 1 << 14;
/// In front of a body in its slot.
const HEAD: usize = 40;
/// The shortest that a queue takes.
const LEAST_SLOTS: u64 = 1 << 10;

impl Contender for DurableQueue {
    fn name(&self) -> &'static str {
        "ringway-durable-queue"
    }

    fn about(&self) -> &'static str {
        "ringway, a durable queue: on disk when the call returns"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::DurableOne, Mode::Block, 6_000),
            Offer::new(Scenario::DurableGroup, Mode::Block, 50_000),
            Offer::new(Scenario::DurableBatch, Mode::Block, 2_000_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let site = Site {
            memory: Scratch::in_shared_memory()?,
            disk: DiskScratch::new()?,
            plan,
        };
        // Everything that is sent fits, each thread's own share and its own first messages.
        let all = plan.warm_up() * GROUP as u64 + plan.messages + GROUP as u64;
        match plan.scenario {
            Scenario::DurableOne => durable::one(plan, |_| site.one(&site.queue(all)?)),
            Scenario::DurableGroup => durable::group(plan, |_| {
                let queue = site.queue(all)?;
                (0..GROUP).map(|_| site.one(&queue)).collect()
            }),
            _ => durable::pour(plan, |_| {
                let queue = site.queue(POURED)?;
                Ok(Stream {
                    sender: queue.sender()?,
                    receiver: queue.receiver()?,
                    bodies: vec![vec![0x5A; plan.size]; plan.batch.max(1)],
                })
            }),
        }
    }
}

struct Site<'a> {
    memory: Scratch,
    disk: DiskScratch,
    plan: &'a Plan,
}

impl Site<'_> {
    fn queue(&self, slots: u64) -> Result<Queue> {
        let bus = Bus::builder("bench").root(self.memory.path());
        let bus = bus.journal_root(self.disk.path()).open_or_create()?;
        let stride = (HEAD + self.plan.size).next_multiple_of(32) as u64;
        let queue = bus.queue("durable").durability(Durability::Durable);
        let queue = queue.slots(slots.next_power_of_two().max(LEAST_SLOTS));
        Ok(queue.stride(stride).open_or_create()?)
    }

    fn one(&self, queue: &Queue) -> Result<One> {
        Ok(One {
            sender: queue.sender()?,
            body: vec![0x5A; self.plan.size],
        })
    }
}

struct One {
    sender: QueueSender,
    body: Vec<u8>,
}

impl Settle for One {
    fn settle(&mut self, number: u64) -> Result<()> {
        self.body[..8].copy_from_slice(&number.to_le_bytes());
        self.sender.send(&self.body)?;
        Ok(())
    }
}

struct Stream {
    sender: QueueSender,
    receiver: QueueReceiver,
    bodies: Vec<Vec<u8>>,
}

impl Stream {
    fn drain(&mut self, count: u64) -> Result<()> {
        let mut receipts = Vec::new();
        while (receipts.len() as u64) < count {
            self.receiver
                .receive_each(64, |received, _| receipts.push(received.receipt))?;
        }
        match self.receiver.delete_batch(&receipts).pop() {
            Some((_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl Pour for Stream {
    fn pour(&mut self, first: u64, count: u64) -> Result<()> {
        let (mut sent, mut there) = (0, 0);
        while sent < count {
            let batch = (self.bodies.len() as u64).min(count - sent);
            for (number, body) in (first + sent..).zip(&mut self.bodies) {
                body[..8].copy_from_slice(&number.to_le_bytes());
            }
            let taken = self.sender.send_batch(&self.bodies[..batch as usize])? as u64;
            (sent, there) = (sent + taken, there + taken);
            if there >= DRAINED {
                self.drain(there)?;
                there = 0;
            }
        }
        self.drain(there)
    }
}
