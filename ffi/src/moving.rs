//! Moving the messages of a queue on, or back to where they came from.

use crate::argument::{self, Sized0 as _, choice, given, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::shared;
use crate::layout::{FIRST_MOVE_STATUS, MoveConfig, MoveStatus};
use crate::queue::QueueHandle;
use core::ffi::c_void;
use core::time::Duration;
use ringway::{MoveOptions, MoveState, MoveTask, Queue};
use std::time::Instant;

/// `enum ringway_move`.
#[derive(Clone, Copy)]
enum What {
    Move,
    Resume,
    Cancel,
    Look,
}

fn options(config: &MoveConfig) -> Result<MoveOptions, Failure> {
    let mut options = MoveOptions::new();
    if !config.destination.is_null() {
        options = options.destination(&shared::<QueueHandle>(config.destination)?.0);
    }
    if let Some(most) = given(config.max_per_second) {
        let most = u32::try_from(most).ok().filter(|most| *most > 0);
        let none = || Failure::new(Code::Option, "max_per_second is 1 to 4,294,967,295");
        options = options.max_per_second(most.ok_or_else(none)?);
    }
    Ok(options)
}

#[cold]
fn no_task() -> Failure {
    Failure::new(Code::NotFound, "no such task of this queue; begin one")
}

/// Moves until the task ends, or for `wait`.
fn run(mut task: MoveTask, wait: Duration) -> Result<(), Failure> {
    let end = argument::deadline(wait);
    task.run(|_| Instant::now() < end)?;
    Ok(())
}

fn status_out(status: &ringway::MoveStatus) -> MoveStatus {
    MoveStatus {
        moved: status.moved,
        to_move: status.to_move,
        started_ms: status.started_ms,
        destination: status.destination.unwrap_or(argument::NONE),
        runner: status.runner.map_or(0, |runner| runner.0.into()),
        state: match status.state {
            MoveState::Running => 1,
            MoveState::Stopped => 2,
            MoveState::Cancelling => 3,
            MoveState::Cancelled => 4,
            MoveState::Completed => 5,
            MoveState::Failed => 6,
            _ => 0,
        },
        reserved: 0,
    }
}

fn act(queue: &Queue, config: &MoveConfig, wait: Duration) -> Result<What, Failure> {
    let all = [
        (1, What::Move),
        (2, What::Resume),
        (3, What::Cancel),
        (4, What::Look),
    ];
    let what = choice(config.what, &all, "what")?.unwrap_or(What::Move);
    match what {
        What::Move => run(queue.move_messages(&options(config)?)?, wait)?,
        What::Resume => run(queue.resume_move()?.ok_or_else(no_task)?, wait)?,
        What::Cancel | What::Look => {
            // Tells whether the queue is there, and this process's.
            drop(queue.sender()?);
            if matches!(what, What::Cancel) && !queue.cancel_move() {
                return Err(no_task());
            }
        }
    }
    Ok(what)
}

abi! {
    /// Moves messages, or sees how moving stands.
    fn ringway_queue_move(
        queue: *const c_void,
        config: *const MoveConfig,
        timeout_ns: i64,
        status: *mut MoveStatus,
        size: usize,
    ) {
        let config = argument::sized(config, "config")?.unwrap_or_else(MoveConfig::initial);
        let wait = timeout(timeout_ns)?;
        let queue = &shared::<QueueHandle>(queue)?.0;
        if !status.is_null() {
            // Before anything is moved.
            argument::knows(FIRST_MOVE_STATUS, status, size, "status")?;
        }
        let what = act(queue, &config, wait)?;
        // Behind the task: who leaves one has stopped it.
        let stands = queue.move_status().ok_or_else(no_task)?;
        if !status.is_null() {
            let out = status_out(&stands);
            argument::write_known(&out, FIRST_MOVE_STATUS, status, size, "status")?;
        }
        match (what, stands.state) {
            (What::Move | What::Resume, MoveState::Running | MoveState::Stopped) => {
                Ok(Code::Timeout)
            }
            _ => Ok(Code::Ok),
        }
    }
}
