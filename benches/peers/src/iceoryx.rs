//! iceoryx2: zero-copy publish-subscribe, polled, or awaited by its events.
//!
//! Each side has a node of its own, one publisher for its direction and one
//! subscriber for the other, with a configuration that keeps all files of a
//! round in a directory and under a prefix that go away with it. Samples are
//! loaned uninitialised and only the number is written, except where the
//! scenario is about copying. In blocking mode each sample is followed by a
//! notification, and the receiver sleeps in its listener.

use iceoryx2::config::Config;
use iceoryx2::port::listener::{Listener, ListenerWaitError};
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use ringway_measure::meet::Seat;
use ringway_measure::scratch::Scratch;
use ringway_measure::{
    Consume, Contender, Kind, Mode, Offer, Ping, Plan, Produce, Result, Round, Scenario, drive,
};
use std::mem::MaybeUninit;

pub(crate) struct Iceoryx;

impl Contender for Iceoryx {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn about(&self) -> &'static str {
        "iceoryx2 0.10, zero-copy publish-subscribe: polled, or woken by its event service"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::Latency, Mode::Spin, 300_000),
            Offer::new(Scenario::Latency, Mode::Block, 30_000),
            Offer::new(Scenario::Throughput, Mode::Spin, 1_500_000),
            Offer::new(Scenario::Copy, Mode::Spin, 100_000),
            Offer::new(Scenario::Zerocopy, Mode::Spin, 300_000),
            Offer::new(Scenario::Zerocopy, Mode::Block, 30_000),
            Offer::new(Scenario::Wake, Mode::Block, 5_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        set_log_level(LogLevel::Error);
        let scratch = Scratch::in_shared_memory()?;
        let config = config(&scratch)?;
        match plan.scenario {
            Scenario::Latency | Scenario::Zerocopy => {
                drive::latency(plan, |seat| End::open(plan, &config, seat))
            }
            Scenario::Wake => drive::wake(plan, |seat| End::open(plan, &config, seat)),
            _ => drive::throughput(
                plan,
                |seat| End::open(plan, &config, seat),
                |seat| End::open(plan, &config, seat),
            ),
        }
    }
}

/// Samples that may lie unread; with overflow off, a sender then waits.
const QUEUE_SAMPLES: usize = 256;

fn config(scratch: &Scratch) -> Result<Config> {
    let mut config = Config::default();
    let root = scratch.path().join("iceoryx2");
    config.global.set_root_path(
        &iceoryx2::prelude::Path::new(root.as_os_str().as_encoded_bytes()).map_err(said)?,
    );
    config.global.prefix = FileName::new(scratch.prefix().as_bytes()).map_err(said)?;
    Ok(config)
}

fn said(error: impl std::fmt::Debug) -> ringway_measure::Trouble {
    format!("iceoryx2: {error:?}").into()
}

type Ipc = ipc::Service;

struct Events {
    notifier: Notifier<Ipc>,
    listener: Listener<Ipc>,
}

struct End {
    publisher: Publisher<Ipc, [u8], ()>,
    subscriber: Subscriber<Ipc, [u8], ()>,
    events: Option<Events>,
    size: usize,
    private: Option<Vec<u8>>,
    // The last field: ports go before the node that they belong to.
    _node: Node<Ipc>,
}

impl End {
    fn open(plan: &Plan, config: &Config, seat: &Seat<'_>) -> Result<End> {
        let node = NodeBuilder::new()
            .config(config)
            .create::<Ipc>()
            .map_err(said)?;
        let (out, back) = if seat.index() == 0 {
            ("there", "back")
        } else {
            ("back", "there")
        };
        let service = |name: &str| {
            node.service_builder(
                &format!("ringway/{name}")
                    .as_str()
                    .try_into()
                    .map_err(said)?,
            )
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(QUEUE_SAMPLES)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .map_err(said)
        };
        let publisher = service(out)?
            .publisher_builder()
            .initial_max_slice_len(plan.size)
            .backpressure_strategy(BackpressureStrategy::DiscardData)
            .create()
            .map_err(said)?;
        let subscriber = service(back)?.subscriber_builder().create().map_err(said)?;
        let events = (plan.mode == Mode::Block)
            .then(|| Events::open(&node, out, back))
            .transpose()?;
        let private = (plan.scenario == Scenario::Copy).then(|| vec![1u8; plan.size]);
        Ok(End {
            publisher,
            subscriber,
            events,
            size: plan.size,
            private,
            _node: node,
        })
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<u64>> {
        let Some(sample) = self.subscriber.receive().map_err(said)? else {
            return Ok(None);
        };
        let payload: &[u8] = sample.payload();
        if let Some(private) = &mut self.private {
            private.copy_from_slice(payload);
            std::hint::black_box(&private);
        }
        let head = payload
            .get(..8)
            .ok_or("a sample came shorter than it was sent")?;
        Ok(Some(u64::from_le_bytes(head.try_into()?)))
    }

    /// One attempt; false when the subscriber's queue is full.
    #[inline]
    fn try_send(&mut self, number: u64) -> Result<bool> {
        let mut sample = self.publisher.loan_slice_uninit(self.size).map_err(said)?;
        let payload: &mut [MaybeUninit<u8>] = sample.payload_mut();
        let (number, whole) = (number.to_le_bytes(), self.private.as_deref());
        for bytes in whole.into_iter().chain([&number[..]]) {
            let to = payload[..bytes.len()].as_mut_ptr().cast();
            // SAFETY: `to` is the start of as many bytes as are copied, checked
            // by the slice above, and loaned to this side alone.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
        // SAFETY: every bit pattern is a u8, and the memory is a shared mapping
        // that the operating system initialised; nobody reads past the number
        // unless the whole payload was written.
        let sample = unsafe { sample.assume_init() };
        Ok(sample.send().map_err(said)? > 0)
    }
}

impl Events {
    fn open(node: &Node<Ipc>, out: &str, back: &str) -> Result<Events> {
        let service = |name: &str| {
            node.service_builder(
                &format!("ringway/{name}")
                    .as_str()
                    .try_into()
                    .map_err(said)?,
            )
            .event()
            .open_or_create()
            .map_err(said)
        };
        let notifier = service(out)?.notifier_builder().create().map_err(said)?;
        let listener = service(back)?.listener_builder().create().map_err(said)?;
        Ok(Events { notifier, listener })
    }
}

impl Ping for End {
    #[inline]
    fn send(&mut self, number: u64) -> Result<()> {
        // Not left to iceoryx2, which sleeps for ever longer while a queue is full.
        while !self.try_send(number)? {
            std::hint::spin_loop();
        }
        if let Some(events) = &self.events {
            events.notifier.notify().map_err(said)?;
        }
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        loop {
            if let Some(number) = self.try_receive()? {
                return Ok(number);
            }
            if let Some(events) = &self.events {
                match events.listener.blocking_wait(|_| {}) {
                    // A stop and continuation of the process; there is nothing yet.
                    Ok(_) | Err(ListenerWaitError::InterruptSignal) => {}
                    Err(error) => return Err(said(error)),
                }
            }
        }
    }
}

impl Produce for End {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        (first..first + count).try_for_each(|number| self.send(number))
    }
}

impl Consume for End {
    fn consume(&mut self, count: u64) -> Result<u64> {
        (0..count).try_fold(0u64, |sum, _| Ok(sum.wrapping_add(self.receive()?)))
    }
}
