//! The limit of sleeping receivers: one word, FUTEX_WAIT on it, FUTEX_WAKE.
//!
//! Every send wakes, every receive sleeps unless the word has already changed.
//! Nothing less can hand a message to a process that gave its core away.

use crate::drive::{self, Ping};
use crate::meet::Seat;
use crate::pages::{LINE_PAIR, Pages};
use crate::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const NAME: &str = "limit-futex";

pub(super) struct Futex;

impl Contender for Futex {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "a process that sleeps on a futex, and the store and wake that end it"
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::Latency, Mode::Block, 30_000),
            Offer::new(Scenario::Zerocopy, Mode::Block, 30_000),
            Offer::new(Scenario::Wake, Mode::Block, 5_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let pages = Pages::new(2 * LINE_PAIR)?;
        if plan.scenario == Scenario::Wake {
            drive::wake(plan, |seat| Ok(Bell::of(&pages, seat)))
        } else {
            drive::latency(plan, |seat| Ok(Bell::of(&pages, seat)))
        }
    }
}

struct Bell<'a> {
    pages: &'a Pages,
    mine: usize,
    theirs: usize,
    seen: u32,
}

impl<'a> Bell<'a> {
    fn of(pages: &'a Pages, seat: &Seat<'_>) -> Self {
        pages.fault_in();
        let at = [0, LINE_PAIR];
        Bell {
            pages,
            mine: at[seat.index()],
            theirs: at[1 - seat.index()],
            seen: 0,
        }
    }
}

impl Ping for Bell<'_> {
    #[inline]
    fn send(&mut self, number: u64) -> Result<()> {
        let word = self.pages.half(self.mine);
        word.store(number as u32, Ordering::Release);
        // SAFETY: the word is aligned and mapped while `pages` lives; waking touches nothing else.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                AtomicU32::as_ptr(word),
                libc::FUTEX_WAKE,
                1,
            )
        };
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<u64> {
        let word = self.pages.half(self.theirs);
        loop {
            let number = word.load(Ordering::Acquire);
            if number != self.seen {
                self.seen = number;
                return Ok(u64::from(number));
            }
            let forever = std::ptr::null::<libc::timespec>();
            // SAFETY: as in send(). It returns when woken, when the word differs
            // from `seen`, or for no reason; the loop looks again in each case.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    AtomicU32::as_ptr(word),
                    libc::FUTEX_WAIT,
                    self.seen,
                    forever,
                )
            };
        }
    }
}
