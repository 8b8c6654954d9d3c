//! The survivor's book of a move to a dead-letter queue: the poisoned messages that the victim was
//! to move, and everything else that goes through both queues meanwhile.
//!
//! What it insists on: each poisoned message arrives in the dead-letter queue once and whole, and
//! never comes again where it was; both queues take messages all the time, and as many as they have
//! slots in the end.

use crate::stage::{INLINE, QUEUE_STRIDE, SLOTS, body, id_of, text};
use ringway::{Bus, Idle, Queue, QueueReceiver, Redrive, Settings};
use ringway_harness::deadline;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names of the two queues.
pub const SOURCE: &str = "source";
pub const DEAD: &str = "dead";
/// Ids of poisoned messages begin here.
pub const POISON: u64 = 3 << 32;
/// Ids of the others.
const HEALTHY: u64 = 4 << 32;
/// What a stopped victim may hold in either queue.
const SLOTS_OF_THE_STOPPED: usize = 4;

pub struct Redriven {
    source: Queue,
    dead: Queue,
    from_source: QueueReceiver,
    from_dead: QueueReceiver,
    poisoned: u64,
    healthy: u64,
    /// How often each message came out of the dead-letter queue, or of the source.
    arrived: BTreeMap<u64, u64>,
    stayed: BTreeMap<u64, u64>,
}

impl Redriven {
    /// Two queues; the victim will have `poisoned` messages that are to be moved.
    pub fn new(bus: &Bus, poisoned: u64) -> Result<Self, String> {
        let queue = |name| {
            let builder = bus.queue(name).slots(SLOTS).stride(QUEUE_STRIDE);
            builder.create().map_err(text)
        };
        let (source, dead) = (queue(SOURCE)?, queue(DEAD)?);
        let redrive = Settings::new().redrive(Redrive::to(&dead, 1));
        source.set(&redrive).map_err(text)?;
        Ok(Self {
            from_source: receiver(&source)?,
            from_dead: receiver(&dead)?,
            source,
            dead,
            poisoned,
            healthy: 0,
            arrived: BTreeMap::new(),
            stayed: BTreeMap::new(),
        })
    }

    /// Sends a poisoned message and receives it once, as a worker that fails.
    pub fn poison(&mut self, len: usize) -> Result<(), String> {
        poison(&self.source, &mut self.from_source, 0, len)
    }

    /// Takes what there is out of both queues.
    fn drain(&mut self) -> Result<(), String> {
        let mut buffer = [0; 1024];
        loop {
            let stayed = self
                .from_source
                .receive_and_delete(&mut buffer)
                .map_err(text)?;
            if let Some(stayed) = stayed {
                *self
                    .stayed
                    .entry(id_of(&buffer[..stayed.len])?)
                    .or_default() += 1;
            }
            let arrived = self
                .from_dead
                .receive_and_delete(&mut buffer)
                .map_err(text)?;
            if let Some(arrived) = arrived {
                *self
                    .arrived
                    .entry(id_of(&buffer[..arrived.len])?)
                    .or_default() += 1;
            }
            if stayed.is_none() && arrived.is_none() {
                return Ok(());
            }
        }
    }

    /// One healthy message through each queue, and every poisoned one to where it belongs, with the
    /// victim wherever it is.
    pub fn deliver(&mut self) -> Result<(), String> {
        let first = HEALTHY + self.healthy;
        self.healthy += 2;
        let mut sender = self.source.sender().map_err(text)?;
        sender.send(&body(first, INLINE)).map_err(text)?;
        let mut sender = self.dead.sender().map_err(text)?;
        sender.send(&body(first + 1, INLINE)).map_err(text)?;
        let start = Instant::now();
        loop {
            self.drain()?;
            let moved = (0..self.poisoned).all(|n| self.arrived.contains_key(&(POISON + n)));
            let passed = self.stayed.contains_key(&first);
            if moved && passed && self.arrived.contains_key(&(first + 1)) {
                return Ok(());
            }
            let moment = Duration::from_millis(1);
            self.from_source.wait(moment).map_err(text)?;
            self.from_dead.wait(moment).map_err(text)?;
            if start.elapsed() > deadline() {
                let stats = (self.source.stats(), self.dead.stats());
                return Err(format!(
                    "messages stay behind: {stats:?}, {:x?}",
                    self.arrived
                ));
            }
        }
    }

    /// Twice as many messages as there are slots through each queue.
    pub fn go_round(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            let room = self.fill()?;
            if room + SLOTS_OF_THE_STOPPED < SLOTS as usize {
                return Err(format!("beside one that is stopped, {room} of {SLOTS} fit"));
            }
        }
        Ok(())
    }

    /// Fills both queues and empties them: how many messages the smaller one took.
    fn fill(&mut self) -> Result<usize, String> {
        let mut least = usize::MAX;
        for queue in [&self.source, &self.dead] {
            let mut sender = queue.sender().map_err(text)?;
            let mut room = 0;
            while sender.send(&body(HEALTHY + self.healthy, INLINE)).is_ok() {
                self.healthy += 1;
                room += 1;
            }
            least = least.min(room);
        }
        self.drain()?;
        Ok(least)
    }

    /// Everything, once the victim is gone.
    pub fn settle(&mut self, mut patience: u32) -> Result<(), String> {
        self.deliver()?;
        let mut whole = 0;
        while whole < 2 {
            let room = self.fill()?;
            if room == SLOTS as usize {
                whole += 1;
            } else if patience == 0 {
                return Err(format!("{room} of {SLOTS} messages fit"));
            } else {
                patience -= 1;
                whole = 0;
            }
        }
        self.drain()?;
        for n in 0..self.poisoned {
            let id = POISON + n;
            let (arrived, stayed) = (self.arrived.get(&id), self.stayed.get(&id));
            if (arrived, stayed) != (Some(&1), None) {
                return Err(format!(
                    "poisoned message {n} arrived {arrived:?} and stayed {stayed:?} times"
                ));
            }
        }
        for id in HEALTHY..HEALTHY + self.healthy {
            let times = self.arrived.get(&id).unwrap_or(&0) + self.stayed.get(&id).unwrap_or(&0);
            if times != 1 {
                return Err(format!("message {id:x} came {times} times"));
            }
        }
        // With the chunks that they keep for what they move.
        self.from_source = receiver(&self.source)?;
        self.from_dead = receiver(&self.dead)?;
        for queue in [&self.source, &self.dead] {
            let stats = queue.stats();
            let left = stats.visible + stats.in_flight + stats.parked + stats.moving;
            if left + stats.damaged != 0 {
                return Err(format!("{} holds on to something: {stats:?}", queue.name()));
            }
        }
        Ok(())
    }
}

fn receiver(queue: &Queue) -> Result<QueueReceiver, String> {
    let mut receiver = queue.receiver().map_err(text)?;
    receiver.set_idle(Idle::Park);
    Ok(receiver)
}

/// Sends poisoned message `n` and receives it once, as a worker that fails.
pub fn poison(
    queue: &Queue,
    receiver: &mut QueueReceiver,
    n: u64,
    len: usize,
) -> Result<(), String> {
    let mut sender = queue.sender().map_err(text)?;
    sender.send(&body(POISON + n, len)).map_err(text)?;
    let mut buffer = [0; 1024];
    let received = receiver.try_receive(&mut buffer).map_err(text)?;
    let received = received.ok_or("nothing to receive")?;
    receiver
        .nack(&received.receipt, Duration::ZERO)
        .map_err(text)
}
