//! ringway's topics as contenders: a topic each way, with one publisher and one listener.
//!
//! `ringway-topic` hears each message where it lies, by a listener that misses nothing; nobody has subscribed
//! a queue. `ringway-shared` takes part with the same ring as a channel: what is between the two is what a topic
//! says of a message (its id, its time, its attributes) and looks at.

use ::ringway::{Bus, Heard, Idle, ListenOptions, ListenPolicy, Listener, Publication, Publisher};
use ringway_measure::meet::Seat;
use ringway_measure::scratch::Scratch;
use ringway_measure::{Contender, Kind, Mode, Offer, Ping, Plan, Result, Round, Scenario, drive};

pub(super) fn all() -> [&'static dyn Contender; 1] {
    [&Topics]
}

struct Topics;

impl Contender for Topics {
    fn name(&self) -> &'static str {
        "ringway-topic"
    }

    fn about(&self) -> &'static str {
        "ringway, a topic with one listener that misses nothing and hears in place"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![Offer::new(Scenario::Topic, Mode::Spin, 1_000_000)]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let root = scratch.path();
        drive::latency(plan, |seat| {
            let bus = Bus::builder("bench").root(root).pre_touch(true);
            Both::open(&bus.open_or_create()?, plan, seat)
        })
    }
}

/// A side of a ping-pong.
struct Both {
    publisher: Publisher,
    listener: Listener,
    buffer: Vec<u8>,
    _bus: Bus,
}

impl Both {
    fn open(bus: &Bus, plan: &Plan, seat: &Seat<'_>) -> Result<Both> {
        let (out, back) = match seat.index() {
            0 => ("there", "back"),
            _ => ("back", "there"),
        };
        let topic = |name: &str| bus.topic(name).open_or_create();
        let options = ListenOptions::new()
            .policy(ListenPolicy::Block)
            .idle(Idle::Spin);
        Ok(Both {
            listener: topic(back)?.listen_with(&options)?,
            publisher: topic(out)?.publisher()?,
            buffer: vec![0; plan.size],
            _bus: bus.clone(),
        })
    }
}

impl Ping for Both {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.buffer[..8].copy_from_slice(&number.to_le_bytes());
        self.publisher.publish(&Publication::new(&self.buffer))?;
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        let number = |heard: &Heard<'_>| {
            heard
                .body()
                .first_chunk()
                .map(|head| u64::from_le_bytes(*head))
        };
        loop {
            if let Some(number) = self.listener.hear_in_place(number)? {
                return Ok(number.ok_or("a message came shorter than it was published")?);
            }
        }
    }
}
