//! Where the sides of a round meet: a barrier, a few shared words, their reports.
//!
//! ```text
//! 0     arrivals   u64   one more for each side at each barrier
//! 128   stop       u64   1: a contending side is done, the others end too
//! 256   asleep     u64   wake: how often the receiver was about to sleep
//! 384   woken      u64   wake: how often it ran again
//! 512   woken_at   u64   wake: when, in ns of CLOCK_MONOTONIC
//! 4096  seats            per side: pid u64, report length u64, report (JSON)
//! ```
//! Each word has a pair of lines for itself, so that nothing but what is
//! measured moves between the cores.

use crate::pages::{LINE_PAIR, Pages};
use crate::round::Spread;
use crate::{Result, Trouble};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

const SEATS_AT: usize = 4096;
const SEAT_BYTES: usize = 64 * 1024;
const REPORT_AT: usize = 64;

/// What one side found out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    pub spread: Option<Spread>,
    pub block_p50_ns: Option<f64>,
    pub started_ns: u64,
    pub finished_ns: u64,
    pub count: u64,
    pub life: Option<Life>,
}

/// What a life in a queue took, each in ns on average, and the memory it took place in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Life {
    pub send_ns: f64,
    pub receive_ns: f64,
    pub delete_ns: f64,
    pub private_bytes: u64,
    pub shared_bytes: u64,
}

/// The meeting place of `sides` sides.
pub struct Meet {
    pages: Pages,
    sides: usize,
}

impl Meet {
    /// An empty one.
    pub fn new(sides: usize) -> Result<Meet> {
        Ok(Meet {
            pages: Pages::new(SEATS_AT + sides * SEAT_BYTES)?,
            sides,
        })
    }

    /// The place of side `index`, to be used by that side only.
    pub fn seat(&self, index: usize) -> Seat<'_> {
        assert!(index < self.sides, "side {index} of {}", self.sides);
        Seat {
            meet: self,
            index,
            barriers: Cell::new(0),
        }
    }

    fn seat_at(&self, index: usize) -> usize {
        SEATS_AT + index * SEAT_BYTES
    }

    /// What side `index` reported; `None` if it never did.
    pub fn report(&self, index: usize) -> Option<Result<Measured>> {
        let at = self.seat_at(index);
        let len = self.pages.word(at + 8).load(Ordering::Acquire) as usize;
        if len == 0 || len > SEAT_BYTES - REPORT_AT {
            return None;
        }
        let mut text = vec![0u8; len];
        // SAFETY: in bounds, checked above; the side wrote the bytes before it
        // stored the length with Release, and writes no more.
        unsafe {
            let from = self.pages.base().add(at + REPORT_AT);
            std::ptr::copy_nonoverlapping(from, text.as_mut_ptr(), len);
        }
        let report = serde_json::from_slice::<std::result::Result<Measured, String>>(&text);
        Some(match report {
            Ok(report) => report.map_err(Trouble::from),
            Err(error) => Err(format!("a side's report can't be read: {error}").into()),
        })
    }
}

/// One side's place.
pub struct Seat<'a> {
    meet: &'a Meet,
    index: usize,
    barriers: Cell<u64>,
}

impl Seat<'_> {
    /// Which side this is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Makes the shared words present here and the process id known to the others.
    pub fn take(&self) {
        self.meet.pages.fault_in();
        let pid = self.meet.pages.word(self.meet.seat_at(self.index));
        pid.store(u64::from(std::process::id()), Ordering::Release);
    }

    /// The process id of side `index`, known after the first barrier.
    pub fn pid_of(&self, index: usize) -> u32 {
        self.meet
            .pages
            .word(self.meet.seat_at(index))
            .load(Ordering::Acquire) as u32
    }

    /// Returns when all sides have come here. Polls, since all have cores of
    /// their own; yields now and then in case they don't.
    pub fn meet(&self) {
        let barrier = self.barriers.get() + 1;
        self.barriers.set(barrier);
        let arrivals = self.meet.pages.word(0);
        arrivals.fetch_add(1, Ordering::AcqRel);
        let mut looks = 0u32;
        while arrivals.load(Ordering::Acquire) < barrier * self.meet.sides as u64 {
            looks += 1;
            if looks.is_multiple_of(4096) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }

    /// Set by the first contending side that is done.
    pub fn stop(&self) -> &AtomicU64 {
        self.meet.pages.word(LINE_PAIR)
    }

    /// How often the receiver was about to sleep.
    pub fn asleep(&self) -> &AtomicU64 {
        self.meet.pages.word(2 * LINE_PAIR)
    }

    /// How often the receiver ran again; stored after `woken_at`.
    pub fn woken(&self) -> &AtomicU64 {
        self.meet.pages.word(3 * LINE_PAIR)
    }

    /// When the receiver last ran again.
    pub fn woken_at(&self) -> &AtomicU64 {
        self.meet.pages.word(4 * LINE_PAIR)
    }

    /// Hands the side's result to the supervisor.
    pub fn report(&self, result: Result<Measured>) {
        let result = result.map_err(|error| error.to_string());
        let mut text =
            serde_json::to_vec(&result).unwrap_or_else(|_| br#"{"Err":"no report"}"#.to_vec());
        if text.len() > SEAT_BYTES - REPORT_AT {
            text = br#"{"Err":"the side's report is too long to hand over"}"#.to_vec();
        }
        let at = self.meet.seat_at(self.index);
        // SAFETY: in bounds, checked above; only this side writes its seat, and
        // the supervisor reads it after the length below.
        unsafe {
            let to = self.meet.pages.base().add(at + REPORT_AT);
            std::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
        }
        self.meet
            .pages
            .word(at + 8)
            .store(text.len() as u64, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_given() {
        let meet = Meet::new(2).expect("two seats fit");
        assert!(meet.report(0).is_none());
        meet.seat(0).report(Ok(Measured {
            count: 7,
            ..Measured::default()
        }));
        meet.seat(1).report(Err("no room".into()));
        assert_eq!(meet.report(0).expect("given").expect("good").count, 7);
        assert_eq!(
            meet.report(1).expect("given").unwrap_err().to_string(),
            "no room"
        );
    }

    #[test]
    fn nobody_passes_the_barrier_alone() {
        let meet = Meet::new(2).expect("two seats fit");
        let passed = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for index in 0..2 {
                let (meet, passed) = (&meet, &passed);
                scope.spawn(move || {
                    let seat = meet.seat(index);
                    for lap in 0..100 {
                        seat.meet();
                        assert!(passed.fetch_add(1, Ordering::SeqCst) >= lap * 2);
                        seat.meet();
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 200);
    }
}
