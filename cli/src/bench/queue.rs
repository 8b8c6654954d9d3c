//! ringway's queues as contenders: a message's whole life, sent, received and deleted.
//!
//! `ringway-queue` is a standard queue of the default stride in as many slots as the plan's ring
//! bytes hold. `ringway-queue-empty` takes part in the depth scenario only: the same queue as
//! `ringway-queue` there, with nothing in it. Receipts are kept as an application would: a batch is
//! deleted when all of it has been looked at. `ringway-fifo` is a FIFO queue of the same size, sent
//! to and received from in batches.

use ::ringway::{
    Bus, Deduplication, Outgoing, Queue, QueueReceiver, QueueSendError, QueueSender, Receipt,
};
use ringway_measure::meet::Seat;
use ringway_measure::scratch::Scratch;
use ringway_measure::{
    Consume, Contender, Keep, Kind, Mode, Offer, Ping, Plan, Produce, Result, Round, Scenario,
    drive,
};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

/// What a queue with a backlog is compared with.
pub(super) const EMPTY: &str = "ringway-queue-empty";

pub(super) fn all() -> [&'static dyn Contender; 3] {
    [&Standard, &Empty, &Fifo]
}

struct Standard;

struct Empty;

struct Fifo;

/// Message groups of a FIFO queue.
const GROUPS: u64 = 100;

/// The stride of a queue whose creator names none.
const DEFAULT_STRIDE: usize = 256;
const LEAST_SLOTS: u64 = 1_024;
/// Nothing becomes visible again while a round runs.
const FOR_EVER: Duration = Duration::from_secs(43_200);

impl Contender for Standard {
    fn name(&self) -> &'static str {
        "ringway-queue"
    }

    fn about(&self) -> &'static str {
        "ringway, a standard queue: send, receive, delete"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::QueueLatency, Mode::Spin, 1_000_000),
            Offer::new(Scenario::Queue, Mode::Spin, 10_000_000),
            Offer::new(Scenario::QueueBatch, Mode::Spin, 20_000_000),
            Offer::new(Scenario::Depth, Mode::Spin, 20_000_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = Site {
            root: scratch.path(),
            plan,
        };
        match plan.scenario {
            Scenario::QueueLatency => drive::latency(plan, |seat| Both::open(&site, seat)),
            Scenario::Depth => drive::depth(plan, |_| Keeper::open(&site, true)),
            _ => drive::throughput(plan, |_| Sender::open(&site), |_| Receiver::open(&site)),
        }
    }
}

impl Contender for Empty {
    fn name(&self) -> &'static str {
        EMPTY
    }

    fn about(&self) -> &'static str {
        "ringway, a standard queue with nothing else in it"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![Offer::new(Scenario::Depth, Mode::Spin, 20_000_000)]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = Site {
            root: scratch.path(),
            plan,
        };
        drive::depth(plan, |_| Keeper::open(&site, false))
    }
}

impl Contender for Fifo {
    fn name(&self) -> &'static str {
        "ringway-fifo"
    }

    fn about(&self) -> &'static str {
        "ringway, a FIFO queue: 100 groups, a deduplication id each, in batches"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![Offer::new(Scenario::Fifo, Mode::Spin, 2_000_000)]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = Site {
            root: scratch.path(),
            plan,
        };
        drive::throughput(
            plan,
            |_| GroupSender::open(&site),
            |_| Receiver::open(&site),
        )
    }
}

/// Where a round's bus is, and how its queues are made.
struct Site<'a> {
    root: &'a Path,
    plan: &'a Plan,
}

impl Site<'_> {
    fn queue(&self, name: &str) -> Result<Queue> {
        let plan = self.plan;
        let stride = if plan.stride == 0 {
            DEFAULT_STRIDE
        } else {
            plan.stride
        };
        let slots = match plan.scenario {
            Scenario::Depth => (plan.backlog + plan.in_flight + LEAST_SLOTS).next_power_of_two(),
            _ => {
                let most = (plan.ring_bytes / stride) as u64;
                most.max(LEAST_SLOTS).next_power_of_two() >> u32::from(!most.is_power_of_two())
            }
        };
        let bus = Bus::builder("bench").root(self.root).pre_touch(true);
        let queue = bus.open_or_create()?.queue(name).slots(slots);
        let mut queue = queue.stride(stride as u64).visibility(FOR_EVER);
        if plan.scenario == Scenario::Fifo {
            // Every id of the round counts to its end.
            let ids = plan.messages + plan.warm_up();
            queue = queue
                .fifo()
                .deduplicate(Deduplication::of_ids(ids.max(1_024)));
        }
        Ok(queue.open_or_create()?)
    }
}

/// A side of a ping-pong: sends, then deletes what it has received before.
struct Both {
    sender: QueueSender,
    receiver: QueueReceiver,
    buffer: Vec<u8>,
    before: Option<Receipt>,
}

impl Both {
    fn open(site: &Site<'_>, seat: &Seat<'_>) -> Result<Both> {
        let (out, back) = if seat.index() == 0 {
            ("there", "back")
        } else {
            ("back", "there")
        };
        Ok(Both {
            sender: site.queue(out)?.sender()?,
            receiver: site.queue(back)?.receiver()?,
            buffer: vec![0; site.plan.size],
            before: None,
        })
    }
}

impl Ping for Both {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.buffer[..8].copy_from_slice(&number.to_le_bytes());
        send(&mut self.sender, &self.buffer)?;
        match self.before.take() {
            Some(receipt) => deleted(self.receiver.delete(&receipt)?),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        loop {
            if let Some(received) = self.receiver.try_receive(&mut self.buffer)? {
                self.before = Some(received.receipt);
                return number(&self.buffer);
            }
        }
    }
}

struct Sender {
    sender: QueueSender,
    bodies: Vec<Vec<u8>>,
}

impl Sender {
    fn open(site: &Site<'_>) -> Result<Sender> {
        Ok(Sender {
            sender: site.queue("q")?.sender()?,
            bodies: vec![vec![1; site.plan.size]; batch(site.plan)],
        })
    }
}

fn batch(plan: &Plan) -> usize {
    match plan.scenario {
        Scenario::QueueBatch | Scenario::Fifo => plan.batch,
        _ => 1,
    }
}

impl Produce for Sender {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        if let [body] = &mut self.bodies[..] {
            for number in first..first + count {
                body[..8].copy_from_slice(&number.to_le_bytes());
                send(&mut self.sender, body)?;
            }
            return Ok(());
        }
        let mut next = first;
        while next < first + count {
            let size = self.bodies.len().min((first + count - next) as usize);
            let bodies = &mut self.bodies[..size];
            for (number, body) in (next..).zip(bodies.iter_mut()) {
                body[..8].copy_from_slice(&number.to_le_bytes());
            }
            let mut sent = 0;
            while sent < size {
                match self.sender.send_batch(&bodies[sent..]) {
                    Ok(more) => sent += more,
                    Err(error) => wait_for_room(error)?,
                }
            }
            next += size as u64;
        }
        Ok(())
    }
}

/// Sends to one group after the other, with the number as deduplication id.
struct GroupSender {
    sender: QueueSender,
    bodies: Vec<Vec<u8>>,
    ids: Vec<[u8; 16]>,
    groups: Vec<String>,
}

impl GroupSender {
    fn open(site: &Site<'_>) -> Result<GroupSender> {
        Ok(GroupSender {
            sender: site.queue("q")?.sender()?,
            bodies: vec![vec![1; site.plan.size]; batch(site.plan)],
            ids: vec![[0; 16]; batch(site.plan)],
            groups: (0..GROUPS).map(|group| format!("group-{group}")).collect(),
        })
    }
}

impl Produce for GroupSender {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        let mut next = first;
        while next < first + count {
            let size = self.bodies.len().min((first + count - next) as usize);
            for (number, (body, id)) in (next..).zip(self.bodies.iter_mut().zip(&mut self.ids)) {
                body[..8].copy_from_slice(&number.to_le_bytes());
                write_hexadecimal(number, id);
            }
            let mut messages = Vec::with_capacity(size);
            for (at, (body, id)) in self.bodies[..size].iter().zip(&self.ids).enumerate() {
                let group = &self.groups[((next + at as u64) % GROUPS) as usize];
                let message = Outgoing::new(body).group(group);
                messages.push(message.dedup_id(std::str::from_utf8(id)?));
            }
            let mut rest = &messages[..];
            while !rest.is_empty() {
                let mut sent = 0;
                let outcomes = match rest {
                    [one] => vec![self.sender.send_message(one)],
                    several => self.sender.send_message_batch(several),
                };
                for outcome in outcomes {
                    match outcome {
                        Ok(sent) if sent.duplicate => {
                            return Err("a fresh id was taken for a repeat".into());
                        }
                        Ok(_) => sent += 1,
                        Err(error) => wait_for_room(error)?,
                    }
                }
                rest = &rest[sent..];
            }
            next += size as u64;
        }
        Ok(())
    }
}

/// A number as text, without an allocation.
fn write_hexadecimal(number: u64, text: &mut [u8; 16]) {
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * at) & 15) as usize];
    }
}

struct Receiver {
    receiver: QueueReceiver,
    buffer: Vec<u8>,
    receipts: Vec<Receipt>,
    batch: usize,
}

impl Receiver {
    fn open(site: &Site<'_>) -> Result<Receiver> {
        let batch = batch(site.plan);
        Ok(Receiver {
            receiver: site.queue("q")?.receiver()?,
            buffer: vec![0; site.plan.size],
            receipts: Vec::with_capacity(batch),
            batch,
        })
    }

    fn one(&mut self) -> Result<Option<u64>> {
        let Some(received) = self.receiver.try_receive(&mut self.buffer)? else {
            return Ok(None);
        };
        deleted(self.receiver.delete(&received.receipt)?)?;
        number(&self.buffer).map(Some)
    }

    fn several(&mut self, most: usize) -> Result<(u64, u64)> {
        let (receipts, mut sum, mut short) = (&mut self.receipts, 0u64, false);
        receipts.clear();
        let taken = self.receiver.receive_each(most, |received, body| {
            receipts.push(received.receipt);
            match number(body) {
                Ok(number) => sum = sum.wrapping_add(number),
                Err(_) => short = true,
            }
        })?;
        if short || !self.receiver.delete_batch(receipts).is_empty() {
            return Err("a message came short, or was gone before it was deleted".into());
        }
        Ok((taken as u64, sum))
    }
}

impl Consume for Receiver {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let (mut left, mut sum) = (count, 0u64);
        while left > 0 {
            if self.batch == 1 {
                if let Some(number) = self.one()? {
                    sum = sum.wrapping_add(number);
                    left -= 1;
                }
            } else {
                let (taken, more) = self.several(self.batch.min(left as usize))?;
                sum = sum.wrapping_add(more);
                left -= taken;
            }
        }
        Ok(sum)
    }
}

/// Everything in one process, in a queue that may be deep.
struct Keeper {
    sender: QueueSender,
    receiver: QueueReceiver,
    buffer: Vec<u8>,
    receipts: VecDeque<Receipt>,
}

impl Keeper {
    fn open(site: &Site<'_>, deep: bool) -> Result<Keeper> {
        let queue = site.queue("q")?;
        let mut keeper = Keeper {
            sender: queue.sender()?,
            receiver: queue.receiver()?,
            buffer: vec![1; site.plan.size],
            receipts: VecDeque::new(),
        };
        if deep {
            let (backlog, in_flight) = (site.plan.backlog, site.plan.in_flight);
            for number in 0..backlog + in_flight {
                keeper.send(number)?;
            }
            for _ in 0..in_flight {
                keeper.receive()?;
            }
            keeper.receipts.clear();
        }
        Ok(keeper)
    }
}

impl Keep for Keeper {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.buffer[..8].copy_from_slice(&number.to_le_bytes());
        self.sender.send(&self.buffer)?;
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<()> {
        let received = self.receiver.try_receive(&mut self.buffer)?;
        let received = received.ok_or("nothing came of what was sent")?;
        self.receipts.push_back(received.receipt);
        Ok(())
    }

    #[inline(always)]
    fn delete(&mut self) -> Result<()> {
        let receipt = self.receipts.pop_front();
        let receipt = receipt.ok_or("nothing is left to delete")?;
        deleted(self.receiver.delete(&receipt)?)
    }
}

#[inline(always)]
fn number(body: &[u8]) -> Result<u64> {
    let head = body
        .first_chunk()
        .ok_or("a message came shorter than it was sent")?;
    Ok(u64::from_le_bytes(*head))
}

#[inline(always)]
fn deleted(by_us: bool) -> Result<()> {
    if by_us {
        Ok(())
    } else {
        Err("a message was gone before it was deleted".into())
    }
}

#[inline(always)]
fn send(sender: &mut QueueSender, body: &[u8]) -> Result<()> {
    loop {
        match sender.send(body) {
            Ok(_) => return Ok(()),
            Err(error) => wait_for_room(error)?,
        }
    }
}

/// Nothing but room to wait for: the receiver polls, so it is there in no time.
#[cold]
fn wait_for_room(error: QueueSendError) -> Result<()> {
    match error {
        QueueSendError::Full { .. } => Ok(()),
        error => Err(error.into()),
    }
}
