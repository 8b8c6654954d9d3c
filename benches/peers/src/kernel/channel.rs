//! One end of a kernel channel, and the sides of a round made of it.
//!
//! A kind of channel gives [`Channel`]: put one message, take one message, both
//! blocking. From it come the endpoints of every scenario, since in the kernel
//! sending for latency and sending for throughput are the same call.

use ringway_measure::{Consume, Mode, Offer, Ping, Plan, Produce, Result, Round, Scenario, drive};
use std::io;

/// A pair of directions; side 0 puts into the first, side 1 into the second.
pub(super) trait Channel {
    /// Puts one message from side `side`, whole.
    fn put(&self, side: usize, message: &[u8]) -> io::Result<()>;
    /// Takes one message at side `side`, whole, into a buffer of its size.
    fn take(&self, side: usize, message: &mut [u8]) -> io::Result<()>;
}

/// What every kernel channel can be asked for.
pub(super) fn offers(max_size: usize) -> Vec<Offer> {
    let blocking = |scenario, messages| Offer::new(scenario, Mode::Block, messages).up_to(max_size);
    let mut offers = vec![
        blocking(Scenario::Latency, 30_000),
        blocking(Scenario::Throughput, 500_000),
        blocking(Scenario::Wake, 5_000),
    ];
    if max_size == 0 || max_size >= Scenario::Copy.default_size() {
        offers.push(blocking(Scenario::Copy, 20_000));
    }
    offers
}

/// Runs the scenario of `plan` over `channel`.
pub(super) fn round(plan: &Plan, channel: &impl Channel) -> Result<Round> {
    let end = |side| End {
        channel,
        side,
        buffer: vec![0u8; plan.size],
    };
    match plan.scenario {
        Scenario::Wake => drive::wake(plan, |seat| Ok(end(seat.index()))),
        Scenario::Latency => drive::latency(plan, |seat| Ok(end(seat.index()))),
        _ => drive::throughput(plan, |_| Ok(end(0)), |_| Ok(end(1))),
    }
}

struct End<'a, C> {
    channel: &'a C,
    side: usize,
    buffer: Vec<u8>,
}

impl<C: Channel> Ping for End<'_, C> {
    #[inline]
    fn send(&mut self, number: u64) -> Result<()> {
        self.buffer[..8].copy_from_slice(&number.to_le_bytes());
        Ok(self.channel.put(self.side, &self.buffer)?)
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        self.channel.take(self.side, &mut self.buffer)?;
        Ok(u64::from_le_bytes(self.buffer[..8].try_into()?))
    }
}

impl<C: Channel> Produce for End<'_, C> {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        (first..first + count).try_for_each(|number| self.send(number))
    }
}

impl<C: Channel> Consume for End<'_, C> {
    fn consume(&mut self, count: u64) -> Result<u64> {
        (0..count).try_fold(0u64, |sum, _| Ok(sum.wrapping_add(self.receive()?)))
    }
}

/// Checks that a call moved a whole message.
pub(super) fn whole(moved: isize, wanted: usize) -> io::Result<()> {
    match usize::try_from(moved) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(moved) if moved == wanted => Ok(()),
        Ok(moved) => Err(io::Error::other(format!(
            "{moved} bytes of a message of {wanted} were moved"
        ))),
    }
}
