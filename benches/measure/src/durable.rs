//! How the scenarios of durable messages are driven: one at a time, by a group of threads that wait each for
//! its own, and poured in without waiting for each.
//!
//! One side does it all: the other end is a disk. It is the caller's affair what durable means; the limits write to
//! files opened with O_DSYNC, so nobody gets away with a cache.

use crate::meet::{Measured, Seat};
use crate::pin;
use crate::round::Times;
use crate::sides::{self, Work};
use crate::timer::{self, Timer};
use crate::{Plan, Result, Round};
use std::sync::Barrier;

/// Messages one at a time.
pub trait Settle {
    /// Returns when the message with this number is durable.
    fn settle(&mut self, number: u64) -> Result<()>;
}

/// Messages as fast as they go.
pub trait Pour {
    /// Returns when the messages `first .. first + count` are durable.
    fn pour(&mut self, first: u64, count: u64) -> Result<()>;
}

/// Threads of a group.
pub const GROUP: usize = 8;

/// Each message is timed, from the call until it is durable.
pub fn one<S: Settle>(plan: &Plan, open: impl Fn(&Seat<'_>) -> Result<S>) -> Result<Round> {
    let timer = Timer::calibrated();
    let side: Work<'_> = Box::new(|seat| {
        let mut end = open(seat)?;
        for number in 0..plan.warm_up() {
            end.settle(number)?;
        }
        let mut times = Times::new();
        for number in 0..plan.messages {
            let start = timer.read();
            end.settle(plan.warm_up() + number)?;
            times.record_ns(timer.between_ns(start, timer.read()));
        }
        Ok(Measured {
            spread: Some(times.spread()),
            ..Measured::default()
        })
    });
    let found = sides::run(plan, vec![side])?;
    let spread = found[0].spread.as_ref();
    Ok(Round::of(plan).with_spread(spread.ok_or("the measuring side reported no times")?))
}

/// Threads that each wait for their own messages; `open` makes one end for each of them.
pub fn group<S: Settle + Send>(
    plan: &Plan,
    open: impl Fn(&Seat<'_>) -> Result<Vec<S>>,
) -> Result<Round> {
    rate(plan, |seat, warm_up, messages| {
        let mut ends = open(seat)?;
        let share = messages.div_ceil(ends.len() as u64);
        let all_ready = Barrier::new(ends.len() + 1);
        let count = share * ends.len() as u64;
        let started_ns = std::thread::scope(|scope| {
            let threads: Vec<_> = ends
                .iter_mut()
                .enumerate()
                .map(|(index, end)| {
                    let all_ready = &all_ready;
                    scope.spawn(move || -> Result<()> {
                        pin::bind(plan.cores[index % plan.cores.len()])?;
                        let first = (index as u64) << 40;
                        let warmed = (0..warm_up).try_for_each(|n| end.settle(first + n));
                        all_ready.wait();
                        warmed?;
                        (0..share).try_for_each(|n| end.settle(first + warm_up + n))
                    })
                })
                .collect();
            all_ready.wait();
            let started_ns = timer::now_ns();
            for thread in threads {
                thread
                    .join()
                    .map_err(|_| "a thread of the group panicked")??;
            }
            Ok::<_, crate::Trouble>(started_ns)
        })?;
        Ok((started_ns, count))
    })
}

/// One thread that does not wait for each.
pub fn pour<P: Pour>(plan: &Plan, open: impl Fn(&Seat<'_>) -> Result<P>) -> Result<Round> {
    rate(plan, |seat, warm_up, messages| {
        let mut end = open(seat)?;
        end.pour(0, warm_up)?;
        let started_ns = timer::now_ns();
        end.pour(warm_up, messages)?;
        Ok((started_ns, messages))
    })
}

/// `work` tells when it began and how many messages it sent.
fn rate(plan: &Plan, work: impl Fn(&Seat<'_>, u64, u64) -> Result<(u64, u64)>) -> Result<Round> {
    let side: Work<'_> = Box::new(|seat| {
        let (started_ns, count) = work(seat, plan.warm_up(), plan.messages)?;
        Ok(Measured {
            started_ns,
            finished_ns: timer::now_ns(),
            count,
            ..Measured::default()
        })
    });
    let found = sides::run(plan, vec![side])?;
    let elapsed_ns = found[0].finished_ns.saturating_sub(found[0].started_ns);
    Ok(Round::of(plan).with_rate(found[0].count, elapsed_ns as f64))
}
