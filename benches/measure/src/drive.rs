//! How each scenario is driven: warm-up, the timed loop, the check of what came.
//!
//! The drivers are generic over a contender's endpoints, so that a hot loop is
//! compiled with the contender's code inlined and nothing is called through a
//! pointer. Endpoints are opened on each side after the fork, and dropped on
//! each side after all sides are done, so no teardown disturbs a measurement.
//! Every driver checks the numbers that the messages carry: a contender that
//! loses, repeats or swaps messages fails its round.

use crate::meet::{Life, Measured, Seat};
use crate::round::{Times, median};
use crate::sides::{self, Work};
use crate::timer::{self, Timer};
use crate::{Plan, Result, Round};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

/// Round trips in a block that is timed as a whole.
const BLOCK: u64 = 1_000;

/// A side of a ping-pong.
pub trait Ping {
    /// Sends the message with this number; returns when it is on its way.
    fn send(&mut self, number: u64) -> Result<()>;
    /// Waits for the next message, and returns the number it carries.
    fn receive(&mut self) -> Result<u64>;
}

/// A side that sends one way.
pub trait Produce {
    /// Sends the messages `first .. first + count`, waiting where there is no room.
    fn produce(&mut self, first: u64, count: u64) -> Result<()>;
}

/// A side that receives one way.
pub trait Consume {
    /// Takes `count` messages, and returns the wrapping sum of their numbers.
    fn consume(&mut self, count: u64) -> Result<u64>;
}

/// A queue in the hands of one process.
pub trait Keep {
    /// Sends the message with this number.
    fn send(&mut self, number: u64) -> Result<()>;
    /// Receives a message, which stays in flight.
    fn receive(&mut self) -> Result<()>;
    /// Deletes the message that was received first of those not deleted.
    fn delete(&mut self) -> Result<()>;
}

/// Ping-pong between side 0, which measures, and side 1, which answers. First
/// each round trip is timed by itself for the percentiles, then blocks are.
pub fn latency<P: Ping>(plan: &Plan, open: impl Fn(&Seat<'_>) -> Result<P>) -> Result<Round> {
    let timer = Timer::calibrated();
    let blocks = (plan.messages / BLOCK).clamp(5, 10_000);
    let ask: Work<'_> = Box::new(|seat| {
        let mut end = open(seat)?;
        let mut times = Times::new();
        let mut means = Vec::with_capacity(blocks as usize);
        seat.meet();
        let mut number = 0;
        for _ in 0..plan.warm_up() {
            trip(&mut end, &mut number)?;
        }
        for _ in 0..plan.messages {
            let start = timer.read();
            trip(&mut end, &mut number)?;
            times.record_ns(timer.between_ns(start, timer.read()) / 2.0);
        }
        for _ in 0..blocks {
            let start = timer.read();
            for _ in 0..BLOCK {
                trip(&mut end, &mut number)?;
            }
            means.push(timer.between_ns(start, timer.read()) / 2.0 / BLOCK as f64);
        }
        seat.meet();
        Ok(Measured {
            spread: Some(times.spread()),
            block_p50_ns: median(&means),
            ..Measured::default()
        })
    });
    let answer: Work<'_> = Box::new(|seat| {
        let mut end = open(seat)?;
        seat.meet();
        for _ in 0..plan.warm_up() + plan.messages + blocks * BLOCK {
            let number = end.receive()?;
            end.send(number)?;
        }
        seat.meet();
        Ok(Measured::default())
    });
    let found = sides::run(plan, vec![ask, answer])?;
    let spread = found[0]
        .spread
        .as_ref()
        .ok_or("the measuring side reported no times")?;
    let mut round = Round::of(plan).with_spread(spread);
    round.block_p50_ns = found[0].block_p50_ns;
    Ok(round)
}

#[inline(always)]
fn trip<P: Ping>(end: &mut P, number: &mut u64) -> Result<()> {
    *number += 1;
    end.send(*number)?;
    let back = end.receive()?;
    if back != *number {
        return Err(format!("message {number} was sent, {back} came back").into());
    }
    Ok(())
}

/// One way from side 0 to side 1, from the start signal until the last message
/// was taken. Also drives the batch and copy scenarios.
pub fn throughput<P: Produce, C: Consume>(
    plan: &Plan,
    open_sender: impl Fn(&Seat<'_>) -> Result<P>,
    open_receiver: impl Fn(&Seat<'_>) -> Result<C>,
) -> Result<Round> {
    let (warm_up, messages) = (plan.warm_up(), plan.messages);
    let send: Work<'_> = Box::new(|seat| {
        let mut end = open_sender(seat)?;
        seat.meet();
        end.produce(0, warm_up)?;
        seat.meet();
        let started_ns = timer::now_ns();
        end.produce(warm_up, messages)?;
        seat.meet();
        Ok(Measured {
            started_ns,
            ..Measured::default()
        })
    });
    let receive: Work<'_> = Box::new(|seat| {
        let mut end = open_receiver(seat)?;
        seat.meet();
        check_sum(0, warm_up, end.consume(warm_up)?)?;
        seat.meet();
        let sum = end.consume(messages)?;
        let finished_ns = timer::now_ns();
        check_sum(warm_up, messages, sum)?;
        seat.meet();
        Ok(Measured {
            finished_ns,
            ..Measured::default()
        })
    });
    let found = sides::run(plan, vec![send, receive])?;
    let elapsed_ns = found[1].finished_ns.saturating_sub(found[0].started_ns);
    Ok(Round::of(plan).with_rate(messages, elapsed_ns as f64))
}

fn check_sum(first: u64, count: u64, sum: u64) -> Result<()> {
    let expected = (first..first + count).fold(0u64, u64::wrapping_add);
    if sum != expected {
        return Err(format!(
            "the {count} messages from {first} on add up to {sum} instead of {expected}"
        )
        .into());
    }
    Ok(())
}

/// Messages a contending side sends between two looks at the stop word.
const CHUNK: u64 = 1_024;

/// Two senders into one object at once. The first one that has sent its share
/// stops the other, so that all that counts was sent under contention.
pub fn contended<P: Produce>(plan: &Plan, open: impl Fn(&Seat<'_>) -> Result<P>) -> Result<Round> {
    let side = |seat: &Seat<'_>| {
        let mut end = open(seat)?;
        // The upper bits tell the senders apart.
        let base = (seat.index() as u64) << 48;
        seat.meet();
        end.produce(base, plan.warm_up())?;
        seat.meet();
        let started_ns = timer::now_ns();
        let mut count = 0;
        while count < plan.messages && seat.stop().load(Ordering::Relaxed) == 0 {
            let chunk = CHUNK.min(plan.messages - count);
            end.produce(base + plan.warm_up() + count, chunk)?;
            count += chunk;
        }
        seat.stop().store(1, Ordering::Relaxed);
        let finished_ns = timer::now_ns();
        seat.meet();
        Ok(Measured {
            started_ns,
            finished_ns,
            count,
            ..Measured::default()
        })
    };
    let found = sides::run(plan, vec![Box::new(side), Box::new(side)])?;
    let started_ns = found.iter().map(|side| side.started_ns).min().unwrap_or(0);
    let finished_ns = found.iter().map(|side| side.finished_ns).max().unwrap_or(0);
    let count = found.iter().map(|side| side.count).sum();
    Ok(Round::of(plan).with_rate(count, finished_ns.saturating_sub(started_ns) as f64))
}

/// Messages whose sends are timed together, then their receives, then their deletes.
const LIVES: u64 = 64;

/// Sends, receives and deletes on side 0 alone, in a queue that `open` has filled as the plan says.
/// Means, not medians: what is done once for many messages counts.
pub fn depth<K: Keep>(plan: &Plan, open: impl Fn(&Seat<'_>) -> Result<K>) -> Result<Round> {
    let timer = Timer::calibrated();
    let turns = plan.messages.div_ceil(LIVES);
    let side: Work<'_> = Box::new(|seat| {
        let mut end = open(seat)?;
        let (mut number, mut ns) = (0, [0.0; 3]);
        for turn in 0..turns + plan.warm_up() / LIVES {
            if turn == plan.warm_up() / LIVES {
                ns = [0.0; 3];
            }
            let start = timer.read();
            for _ in 0..LIVES {
                number += 1;
                end.send(number)?;
            }
            let sent = timer.read();
            for _ in 0..LIVES {
                end.receive()?;
            }
            let received = timer.read();
            for _ in 0..LIVES {
                end.delete()?;
            }
            ns[0] += timer.between_ns(start, sent);
            ns[1] += timer.between_ns(sent, received);
            ns[2] += timer.between_ns(received, timer.read());
        }
        let [send_ns, receive_ns, delete_ns] = ns.map(|ns| ns / (turns * LIVES) as f64);
        let (private_bytes, shared_bytes) = resident()?;
        Ok(Measured {
            life: Some(Life {
                send_ns,
                receive_ns,
                delete_ns,
                private_bytes,
                shared_bytes,
            }),
            ..Measured::default()
        })
    });
    let found = sides::run(plan, vec![side])?;
    let life = found[0].life.as_ref();
    let life = life.ok_or("the measuring side reported no times")?;
    let mut round = Round::of(plan);
    round.mean_ns = Some(life.send_ns + life.receive_ns + life.delete_ns);
    round.send_ns = Some(life.send_ns);
    round.receive_ns = Some(life.receive_ns);
    round.delete_ns = Some(life.delete_ns);
    round.private_bytes = Some(life.private_bytes);
    round.shared_bytes = Some(life.shared_bytes);
    Ok(round)
}

/// Bytes of this process in memory: its own, and those of files and shared memory.
fn resident() -> Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let bytes = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| format!("/proc/self/smaps_rollup has no {name}"))
    };
    let anonymous = bytes("Anonymous:")?;
    Ok((anonymous, bytes("Rss:")? - anonymous))
}

/// How long a receiver has slept before it is woken: long enough for its core
/// to have gone idle, short enough for a thousand wakes a second.
const SETTLE_NS: u64 = 50_000;

/// From the send on side 0 until side 1, which was asleep in the kernel, runs
/// again. Before each send the kernel is asked whether side 1 really sleeps.
pub fn wake<P: Ping>(plan: &Plan, open: impl Fn(&Seat<'_>) -> Result<P>) -> Result<Round> {
    let total = plan.warm_up() + plan.messages;
    let rouse: Work<'_> = Box::new(|seat| {
        let mut end = open(seat)?;
        let mut times = Times::new();
        seat.meet();
        let sleeper = Sleeper::of(seat.pid_of(1))?;
        for number in 1..=total {
            while seat.asleep().load(Ordering::Acquire) < number {
                std::hint::spin_loop();
            }
            sleeper.await_sleep()?;
            let sent_ns = timer::now_ns();
            end.send(number)?;
            while seat.woken().load(Ordering::Acquire) < number {
                std::hint::spin_loop();
            }
            if number > plan.warm_up() {
                let woken_ns = seat.woken_at().load(Ordering::Relaxed);
                times.record_ns(woken_ns.saturating_sub(sent_ns) as f64);
            }
        }
        seat.meet();
        Ok(Measured {
            spread: Some(times.spread()),
            ..Measured::default()
        })
    });
    let sleep: Work<'_> = Box::new(|seat| {
        let mut end = open(seat)?;
        seat.meet();
        for number in 1..=total {
            seat.asleep().store(number, Ordering::Release);
            let came = end.receive()?;
            seat.woken_at().store(timer::now_ns(), Ordering::Relaxed);
            seat.woken().store(number, Ordering::Release);
            if came != number {
                return Err(format!("message {number} was sent, {came} woke the receiver").into());
            }
        }
        seat.meet();
        Ok(Measured::default())
    });
    let found = sides::run(plan, vec![rouse, sleep])?;
    let spread = found[0]
        .spread
        .as_ref()
        .ok_or("the measuring side reported no times")?;
    Ok(Round::of(plan).with_spread(spread))
}

/// Asks the kernel about another process's state.
struct Sleeper {
    stat: File,
}

impl Sleeper {
    fn of(pid: u32) -> Result<Sleeper> {
        let path = format!("/proc/{pid}/stat");
        Ok(Sleeper {
            stat: File::open(&path).map_err(|error| format!("can't open {path}: {error}"))?,
        })
    }

    /// Returns once the process sleeps, has slept for [`SETTLE_NS`], and still does.
    fn await_sleep(&self) -> Result<()> {
        loop {
            while !self.sleeps()? {
                std::hint::spin_loop();
            }
            let settled_ns = timer::now_ns() + SETTLE_NS;
            while timer::now_ns() < settled_ns {
                std::hint::spin_loop();
            }
            if self.sleeps()? {
                return Ok(());
            }
        }
    }

    fn sleeps(&self) -> Result<bool> {
        let mut text = [0u8; 256];
        let len = self
            .stat
            .read_at(&mut text, 0)
            .map_err(|error| format!("the receiver is gone: {error}"))?;
        // The name in parentheses may hold anything; the state follows the last one.
        let text = &text[..len];
        let state = text
            .iter()
            .rposition(|&byte| byte == b')')
            .and_then(|at| text.get(at + 2));
        Ok(state == Some(&b'S'))
    }
}
