//! ringway as a contender: a channel each way on a bus of the round's own.
//!
//! `ringway` has the one producer of an exclusive channel, `ringway-shared` a
//! channel that any number may send to. Both sides open the bus by name, after
//! the fork, in a directory that goes away with the round. Rings have the
//! plan's bytes and, if it names none, the default stride, so that what is
//! measured is what one gets.

use ::ringway::{
    Bus, Channel, Idle, Overflow, Producer, Producers, ReadError, Reader, SendError, Start,
};
use ringway_measure::meet::Seat;
use ringway_measure::scratch::Scratch;
use ringway_measure::{
    Consume, Contender, Kind, Mode, Offer, Ping, Plan, Produce, Result, Round, Scenario, drive,
};
use std::path::Path;
use std::time::Duration;

pub(super) fn all() -> [&'static dyn Contender; 2] {
    [&EXCLUSIVE, &SHARED]
}

static EXCLUSIVE: Ringway = Ringway {
    producers: Producers::Exclusive,
};
static SHARED: Ringway = Ringway {
    producers: Producers::Shared,
};

struct Ringway {
    producers: Producers,
}

/// Longer than any round: the wait is bounded by the round's deadline.
const WAIT: Duration = Duration::from_secs(3600);

/// Records a receiver takes in one go where it is about throughput.
const TAKEN_AT_ONCE: usize = 256;

impl Contender for Ringway {
    fn name(&self) -> &'static str {
        match self.producers {
            Producers::Exclusive => "ringway",
            Producers::Shared => "ringway-shared",
        }
    }

    fn about(&self) -> &'static str {
        match self.producers {
            Producers::Exclusive => "ringway, a channel with one producer and a reliable reader",
            Producers::Shared => {
                "ringway, a channel with any number of producers, and a reliable reader"
            }
        }
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        let mut offers = vec![
            Offer::new(Scenario::Latency, Mode::Spin, 1_000_000),
            Offer::new(Scenario::Throughput, Mode::Spin, 30_000_000),
            Offer::new(Scenario::Batch, Mode::Spin, 30_000_000),
        ];
        if self.producers == Producers::Shared {
            offers.push(Offer::new(Scenario::Contended, Mode::Spin, 20_000_000));
            // What a listener's ring would be as a channel.
            offers.push(Offer::new(Scenario::Topic, Mode::Spin, 1_000_000));
        } else {
            offers.push(Offer::new(Scenario::Latency, Mode::Block, 30_000));
            offers.push(Offer::new(Scenario::Copy, Mode::Spin, 200_000));
            offers.push(Offer::new(Scenario::Zerocopy, Mode::Spin, 500_000));
            offers.push(Offer::new(Scenario::Zerocopy, Mode::Block, 30_000));
            offers.push(Offer::new(Scenario::Wake, Mode::Block, 5_000));
        }
        offers
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let site = Site {
            root: scratch.path(),
            plan,
            producers: self.producers,
        };
        match plan.scenario {
            Scenario::Latency | Scenario::Topic => {
                drive::latency(plan, |seat| Both::open(&site, seat))
            }
            Scenario::Wake => drive::wake(plan, |seat| Both::open(&site, seat)),
            Scenario::Zerocopy => {
                drive::latency(plan, |seat| Ok(InPlace(Both::open(&site, seat)?)))
            }
            Scenario::Contended => drive::contended(plan, |_| Sender::open(&site)),
            _ => drive::throughput(plan, |_| Sender::open(&site), |_| Receiver::open(&site)),
        }
    }
}

/// Where a round's bus is, and how its channels are made.
struct Site<'a> {
    root: &'a Path,
    plan: &'a Plan,
    producers: Producers,
}

/// The stride of a channel whose creator names none.
const DEFAULT_STRIDE: usize = 128;
const LEAST_SLOTS: usize = 1_024;

impl Site<'_> {
    fn bus(&self) -> Result<Bus> {
        let mut bus = Bus::builder("bench").root(self.root).pre_touch(true);
        if self.plan.scenario == Scenario::Copy {
            // Payloads within the ring's bytes too, and some room for the pool's own tables.
            bus = bus.pool_bytes((self.plan.ring_bytes + self.plan.ring_bytes / 4) as u64);
        }
        Ok(bus.open_or_create()?)
    }

    fn channel(&self, bus: &Bus, name: &str) -> Result<Channel> {
        let plan = self.plan;
        let stride = if plan.stride == 0 {
            DEFAULT_STRIDE
        } else {
            plan.stride
        };
        // As many slots as the ring's bytes hold, or, where each refers to a
        // payload in the pool, as the payloads that would fit into them.
        let per_slot = if plan.scenario == Scenario::Copy {
            plan.size.max(stride)
        } else {
            stride
        };
        let slots = (plan.ring_bytes / per_slot).max(LEAST_SLOTS);
        let slots = if slots.is_power_of_two() {
            slots
        } else {
            slots.next_power_of_two() / 2
        };
        // Two senders and no reader: nobody holds the ring back.
        let overflow = if plan.scenario == Scenario::Contended {
            Overflow::DropOldest
        } else {
            Overflow::Refuse
        };
        Ok(bus
            .channel(name)
            .slots(slots as u64)
            .stride(stride as u64)
            .producers(self.producers)
            .overflow(overflow)
            .open_or_create()?)
    }
}

/// A side of a ping-pong: a producer of one channel, a reader of the other.
struct Both {
    producer: Producer,
    reader: Reader,
    buffer: Vec<u8>,
    sleeps: bool,
}

impl Both {
    fn open(site: &Site<'_>, seat: &Seat<'_>) -> Result<Both> {
        let bus = site.bus()?;
        let (out, back) = if seat.index() == 0 {
            ("there", "back")
        } else {
            ("back", "there")
        };
        let sleeps = site.plan.mode == Mode::Block;
        let idle = if sleeps { Idle::Park } else { Idle::Spin };
        Ok(Both {
            producer: site.channel(&bus, out)?.producer()?,
            reader: site
                .channel(&bus, back)?
                .reader()
                .start(Start::Earliest)
                .idle(idle)
                .join()?,
            buffer: vec![0; site.plan.size],
            sleeps,
        })
    }

    #[inline(always)]
    fn rest(&mut self) -> std::result::Result<(), ReadError> {
        if self.sleeps {
            self.reader.wait(WAIT).map(drop)
        } else {
            Ok(())
        }
    }
}

impl Ping for Both {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.buffer[..8].copy_from_slice(&number.to_le_bytes());
        send(&mut self.producer, &self.buffer)
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        loop {
            if self.reader.try_read(&mut self.buffer)?.is_some() {
                return number(&self.buffer);
            }
            self.rest()?;
        }
    }
}

/// The same with loans and views, so that no payload is copied.
struct InPlace(Both);

impl Ping for InPlace {
    #[inline]
    fn send(&mut self, number: u64) -> Result<()> {
        let mut loan = self.0.producer.loan(self.0.buffer.len())?;
        loan[..8].copy_from_slice(&number.to_le_bytes());
        loop {
            match self.0.producer.try_send_loan(loan) {
                Ok(_) => return Ok(()),
                Err((SendError::Full { .. }, back)) => loan = back,
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        loop {
            if let Some(view) = self.0.reader.try_view()? {
                return number(&view);
            }
            self.0.rest()?;
        }
    }
}

struct Sender {
    producer: Producer,
    bodies: Vec<Vec<u8>>,
}

impl Sender {
    fn open(site: &Site<'_>) -> Result<Sender> {
        let producer = site.channel(&site.bus()?, "there")?.producer()?;
        let batch = if site.plan.scenario == Scenario::Batch {
            site.plan.batch
        } else {
            1
        };
        Ok(Sender {
            producer,
            bodies: vec![vec![1; site.plan.size]; batch],
        })
    }
}

impl Produce for Sender {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        if let [body] = &mut self.bodies[..] {
            for number in first..first + count {
                body[..8].copy_from_slice(&number.to_le_bytes());
                send(&mut self.producer, body)?;
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
                match self.producer.try_send_batch(&bodies[sent..]) {
                    Ok(more) => sent += more,
                    Err(error) => wait_for_room(error)?,
                }
            }
            next += size as u64;
        }
        Ok(())
    }
}

struct Receiver {
    reader: Reader,
    private: Option<Vec<u8>>,
}

impl Receiver {
    fn open(site: &Site<'_>) -> Result<Receiver> {
        let reader = site
            .channel(&site.bus()?, "there")?
            .reader()
            .start(Start::Earliest)
            .idle(Idle::Spin)
            .join()?;
        let private = (site.plan.scenario == Scenario::Copy).then(|| vec![0; site.plan.size]);
        Ok(Receiver { reader, private })
    }
}

impl Consume for Receiver {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let (mut left, mut sum, mut short) = (count, 0u64, false);
        while left > 0 {
            if let Some(private) = &mut self.private {
                if self.reader.try_read(private)?.is_some() {
                    sum = sum.wrapping_add(number(private)?);
                    left -= 1;
                }
                continue;
            }
            let most = TAKEN_AT_ONCE.min(left as usize);
            let taken = self.reader.read_batch(most, |_, body| match number(body) {
                Ok(number) => sum = sum.wrapping_add(number),
                Err(_) => short = true,
            })?;
            left -= taken as u64;
        }
        if short {
            Err("a record came shorter than it was sent".into())
        } else {
            Ok(sum)
        }
    }
}

#[inline(always)]
fn number(body: &[u8]) -> Result<u64> {
    let head = body
        .first_chunk()
        .ok_or("a record came shorter than it was sent")?;
    Ok(u64::from_le_bytes(*head))
}

#[inline(always)]
fn send(producer: &mut Producer, body: &[u8]) -> Result<()> {
    loop {
        match producer.try_send(body) {
            Ok(_) => return Ok(()),
            Err(error) => wait_for_room(error)?,
        }
    }
}

/// Nothing but room to wait for: the reader polls, so it is there in no time.
#[cold]
fn wait_for_room(error: SendError) -> Result<()> {
    match error {
        SendError::Full { .. } | SendError::PoolExhausted { .. } => Ok(()),
        error => Err(error.into()),
    }
}
