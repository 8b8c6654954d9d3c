//! Waiting for records and for room. Every sleep is bounded, and every wake-up looks again.

use super::join::SeatGuard;
use super::reader::Reader;
use crate::ParticipantId;
use crate::error::WaitError;
use crate::layout::word::Ctl;
use crate::object::Host;
use crate::object::poll::Watch;
use crate::object::wait::{Waitable, Waits};
use crate::ring::SlotRing;
use crate::ring::read::Look;
use crate::ring::wait::{FIRST_SLEEP, Idle, LONG_SLEEP};
use crate::sys::clock::{self, Deadline};
use std::sync::Arc;
use std::time::Duration;

/// While a claim hangs, a sleeper looks after this long: a dead owner costs little more than its
/// death, a stopped one little more than the stall time-out.
const PENDING_SLEEP: Duration = Duration::from_millis(1);

impl Waits for Reader {
    fn is_forked(&self) -> bool {
        self.is_of_parent()
    }

    fn is_ready(&mut self) -> bool {
        self.has_record()
    }

    fn check_alive(&self) -> Result<(), WaitError> {
        self.check_seat()
    }

    fn idle(&self) -> Idle {
        self.idle
    }

    fn before_sleep(&mut self) -> bool {
        // A claim that was met before the last record is out of the way too, and brings nothing.
        self.settle_now() && self.has_record()
    }

    fn longest_sleep(&mut self) -> Duration {
        if self.is_pending() {
            PENDING_SLEEP
        } else {
            LONG_SLEEP
        }
    }

    fn ring(&self) -> &SlotRing {
        &self.seat.inner.ring
    }

    fn host(&self) -> &dyn Host {
        &*self.seat.inner.host
    }
}

impl Waitable for Reader {}

/// What the thread of a descriptor looks at: the ring from a position on.
pub(super) struct SeatWatch {
    seat: Arc<SeatGuard>,
    /// The claim the reader hangs on, and when it was met.
    hanging: Option<(Ctl, u64)>,
}

impl SeatWatch {
    pub fn new(seat: Arc<SeatGuard>) -> Self {
        Self {
            seat,
            hanging: None,
        }
    }
}

impl Watch for SeatWatch {
    fn look(&mut self, position: u64) -> Option<Duration> {
        let ring = &self.seat.inner.ring;
        loop {
            let word = match ring.look(position).1 {
                Look::Pending(word) => word,
                Look::End if !self.seat.inner.is_removed() => {
                    self.hanging = None;
                    return Some(LONG_SLEEP);
                }
                _ => return None,
            };
            match self.hanging {
                Some((met, since)) if met == word => {
                    if !ring.resolve(position, word, clock::now().saturating_sub(since)) {
                        return Some(PENDING_SLEEP);
                    }
                }
                _ => {
                    self.hanging = Some((word, clock::now()));
                    return Some(PENDING_SLEEP);
                }
            }
        }
    }

    fn ring(&self) -> &SlotRing {
        &self.seat.inner.ring
    }

    fn host(&self) -> &dyn Host {
        &*self.seat.inner.host
    }
}

/// A producer's wait for room: short polling first, then pauses of up to 1 ms, since readers make
/// no system call for producers.
pub(super) struct Patience {
    deadline: Deadline,
    pauses: u32,
    /// The reader that holds the ring back, its cursor, and since when it stands there.
    held: Option<(ParticipantId, u64, u64)>,
}

impl Patience {
    pub fn new(timeout: Duration) -> Self {
        Self {
            deadline: Deadline::after(timeout),
            pauses: 0,
            held: None,
        }
    }

    /// `false` when the time is over.
    pub fn pause(&mut self, host: &dyn Host, by: Option<ParticipantId>, cursor: u64) -> bool {
        let now = clock::now();
        match (self.held, by) {
            (Some((held_by, at, _)), Some(by)) if held_by == by && at == cursor => {}
            (_, by) => self.held = by.map(|by| (by, cursor, now)),
        }
        let remaining = self.deadline.remaining();
        if remaining.is_zero() {
            return false;
        }
        self.pauses += 1;
        if self.pauses <= 64 {
            for _ in 0..64 {
                core::hint::spin_loop();
            }
        } else {
            let pause = Duration::from_micros(50 << (self.pauses / 64).min(4));
            clock::pause(pause.min(FIRST_SLEEP).min(remaining));
            host.tick();
        }
        true
    }

    /// Who has held the ring back without moving for `stall_ns`.
    pub fn stalled(&self, stall_ns: u64) -> Option<ParticipantId> {
        let (by, _, since) = self.held?;
        (clock::now().saturating_sub(since) >= stall_ns).then_some(by)
    }
}
