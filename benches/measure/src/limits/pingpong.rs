//! The latency limit: one cache line a direction, stored by one side and polled
//! by the other, with nothing in the polling loop but the load.
//!
//! The variant with `pause` polls less eagerly; which of the two is faster
//! depends on the machine. The plain one is the reference.

use crate::drive::{self, Ping};
use crate::meet::Seat;
use crate::pages::{LINE_PAIR, Pages};
use crate::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::sync::atomic::Ordering;

pub(super) const NAME: &str = "limit-pingpong";
pub(super) static PLAIN: PingPong = PingPong {
    name: NAME,
    pauses: false,
};
pub(super) static PAUSE: PingPong = PingPong {
    name: "limit-pingpong-pause",
    pauses: true,
};

pub(super) struct PingPong {
    name: &'static str,
    pauses: bool,
}

impl Contender for PingPong {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        if self.pauses {
            "a cache line to and fro between two processes, polled with a pause"
        } else {
            "a cache line to and fro between two processes, plainly polled"
        }
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        // The line is the same whatever the size of a payload that stays in place.
        let scenarios = [
            Scenario::Latency,
            Scenario::Zerocopy,
            Scenario::QueueLatency,
            Scenario::Topic,
        ];
        scenarios
            .map(|scenario| Offer::new(scenario, Mode::Spin, 1_000_000))
            .to_vec()
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let pages = Pages::new(2 * LINE_PAIR)?;
        if self.pauses {
            drive::latency(plan, |seat| Ok(Line::<true>::of(&pages, seat)))
        } else {
            drive::latency(plan, |seat| Ok(Line::<false>::of(&pages, seat)))
        }
    }
}

struct Line<'a, const PAUSES: bool> {
    pages: &'a Pages,
    mine: usize,
    theirs: usize,
    seen: u64,
}

impl<'a, const PAUSES: bool> Line<'a, PAUSES> {
    fn of(pages: &'a Pages, seat: &Seat<'_>) -> Self {
        pages.fault_in();
        let at = [0, LINE_PAIR];
        Line {
            pages,
            mine: at[seat.index()],
            theirs: at[1 - seat.index()],
            seen: 0,
        }
    }
}

impl<const PAUSES: bool> Ping for Line<'_, PAUSES> {
    #[inline(always)]
    fn send(&mut self, number: u64) -> Result<()> {
        self.pages.word(self.mine).store(number, Ordering::Release);
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        let word = self.pages.word(self.theirs);
        loop {
            let number = word.load(Ordering::Acquire);
            if number != self.seen {
                self.seen = number;
                return Ok(number);
            }
            if PAUSES {
                std::hint::spin_loop();
            }
        }
    }
}
