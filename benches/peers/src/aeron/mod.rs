//! Aeron IPC, by its C client: claimed in place or offered, exclusive or shared.
//!
//! Each round has a media driver of its own, two client processes, and one
//! stream for each direction. Receivers poll. Everything is found at run time;
//! where Aeron is not installed, `list` says so.

mod api;
mod driver;
mod end;

use driver::Driver;
use end::{End, Publishing};
use ringway_measure::scratch::Scratch;
use ringway_measure::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario, drive};

pub(crate) fn all() -> [&'static dyn Contender; 4] {
    [&CLAIM, &OFFER, &SHARED_CLAIM, &SHARED_OFFER]
}

static CLAIM: Aeron = Aeron {
    name: "aeron-claim",
    about: "Aeron IPC, exclusive publication, tryClaim and written in place",
    how: Publishing {
        exclusive: true,
        claims: true,
    },
};
static OFFER: Aeron = Aeron {
    name: "aeron-offer",
    about: "Aeron IPC, exclusive publication, offered from a buffer",
    how: Publishing {
        exclusive: true,
        claims: false,
    },
};
static SHARED_CLAIM: Aeron = Aeron {
    name: "aeron-shared-claim",
    about: "Aeron IPC, concurrent publication, tryClaim and written in place",
    how: Publishing {
        exclusive: false,
        claims: true,
    },
};
static SHARED_OFFER: Aeron = Aeron {
    name: "aeron-shared-offer",
    about: "Aeron IPC, concurrent publication, offered from a buffer",
    how: Publishing {
        exclusive: false,
        claims: false,
    },
};

struct Aeron {
    name: &'static str,
    about: &'static str,
    how: Publishing,
}

/// What a claim can hold: a frame less its header.
const MAX_CLAIM: usize = driver::MTU - 32;

/// What an offer can hold here: an eighth of a term of the default plan.
const MAX_OFFER: usize = 2 << 20;

impl Contender for Aeron {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        let most = if self.how.claims {
            MAX_CLAIM
        } else {
            MAX_OFFER
        };
        let spinning = |scenario, messages| Offer::new(scenario, Mode::Spin, messages).up_to(most);
        let mut offers = vec![
            spinning(Scenario::Latency, 500_000),
            spinning(Scenario::Throughput, 15_000_000),
        ];
        if self.how.claims {
            offers.push(spinning(Scenario::Zerocopy, 500_000));
        } else {
            offers.push(spinning(Scenario::Copy, 100_000));
        }
        offers
    }

    fn available(&self) -> Result<()> {
        api::Api::open()?;
        driver::available()
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let dir = scratch.path().join("aeron");
        let mut driver = Driver::start(&dir, plan)?;
        let outcome = match plan.scenario {
            Scenario::Latency | Scenario::Zerocopy => {
                drive::latency(plan, |seat| End::open(plan, self.how, &dir, seat))
            }
            _ => drive::throughput(
                plan,
                |seat| End::open(plan, self.how, &dir, seat),
                |seat| End::open(plan, self.how, &dir, seat),
            ),
        };
        // A driver that has gone explains more than what the sides say of it.
        driver.check(&dir)?;
        outcome
    }
}
