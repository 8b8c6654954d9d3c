//! One worker: receives a message, runs the command, settles, and again.
//!
//! It looks between two messages whether it shall leave. Whatever ends it, the pool is told that it
//! has left.

use super::job::{self, Outcome};
use super::pool::{Event, Shared};
use ringway::{Idle, Message, QueueReceiver, ReceiveError};
use std::time::Duration;

/// How long a wait lasts before it looks whether it shall leave.
const SLICE: Duration = Duration::from_millis(100);
/// Pauses while as many messages are in flight as may be: a look counts them all.
const OVER_LIMIT: Duration = Duration::from_millis(10);

/// Tells that the worker has left, also when it panicked.
struct Leaving<'a> {
    shared: &'a Shared,
    has_left: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            self.shared.leave();
        }
        // The main thread takes events until every worker has left, and may be gone then.
        let _ = self.shared.events.try_send(Event::Left);
    }
}

pub fn run(shared: &Shared, worker: usize) {
    let mut leaving = Leaving {
        shared,
        has_left: false,
    };
    let failed = match shared.queue.receiver() {
        Ok(mut receiver) => {
            receiver.set_idle(Idle::Park);
            work(shared, worker, &mut receiver, &mut leaving.has_left).err()
        }
        Err(error) => Some(error.into()),
    };
    if let Some(error) = failed {
        // Ended here, so that the main thread does not wait for room that nobody makes.
        let _ = shared.events.send(Event::Failed(error));
    }
}

fn work(
    shared: &Shared,
    worker: usize,
    receiver: &mut QueueReceiver,
    has_left: &mut bool,
) -> anyhow::Result<()> {
    while !shared.is_stopping() {
        if shared.leave_if_too_many() {
            *has_left = true;
            return Ok(());
        }
        if !shared.take_ticket(SLICE) {
            continue;
        }
        let received = receiver.receive(1, SLICE, shared.options.visibility);
        match received.as_deref() {
            Ok([message]) => work_on(shared, worker, receiver, message)?,
            // Until others have deleted some.
            Err(ReceiveError::OverLimit { .. }) => {
                shared.return_ticket();
                std::thread::sleep(OVER_LIMIT);
            }
            _ => {
                shared.return_ticket();
                received?;
            }
        }
    }
    Ok(())
}

fn work_on(
    shared: &Shared,
    worker: usize,
    receiver: &mut QueueReceiver,
    message: &Message,
) -> anyhow::Result<()> {
    let receipt = message.received.receipt;
    let mut ended = match job::run(shared, worker, receiver, message) {
        Ok(ended) => ended,
        Err(error) => {
            // No command can be run: not the message's fault.
            let _ = receiver.nack(&receipt, Duration::ZERO);
            return Err(error);
        }
    };
    let settled = match &mut ended.outcome {
        Outcome::Succeeded => receiver.delete(&receipt).map(drop),
        Outcome::Failed { retry_after, .. } => {
            let has_dead_letter = shared.queue.settings().redrive.is_some();
            let options = &shared.options;
            *retry_after = options.retry_after(receipt.receives(), has_dead_letter);
            receiver.nack(&receipt, *retry_after)
        }
        Outcome::Killed => receiver.nack(&receipt, Duration::ZERO),
    };
    ended.lost = settled.err().map(|error| error.to_string());
    let _ = shared.events.send(Event::Ended(ended));
    Ok(())
}
