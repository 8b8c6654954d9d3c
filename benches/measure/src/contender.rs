//! What takes part in a comparison: the trait, and what each one offers.
//!
//! A contender names the scenarios it can run and runs one round of one of
//! them. How sides are started, met and timed is the business of
//! [`crate::drive`]; a contender opens its own endpoints there.

use crate::{Mode, Plan, Result, Round, Scenario};
use serde::{Deserialize, Serialize};

/// Which part a contender plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What the machine itself allows; others are measured against it.
    Limit,
    /// ringway.
    Own,
    /// Somebody else's transport.
    Peer,
}

/// One thing a contender can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub scenario: Scenario,
    pub mode: Mode,
    /// Messages that make a round of about half a second here.
    pub messages: u64,
    /// The largest payload it takes, 0 for any.
    #[serde(default)]
    pub max_size: usize,
}

impl Offer {
    /// Any size.
    pub const fn new(scenario: Scenario, mode: Mode, messages: u64) -> Offer {
        Offer {
            scenario,
            mode,
            messages,
            max_size: 0,
        }
    }

    /// The same, for payloads up to `bytes`.
    pub const fn up_to(mut self, bytes: usize) -> Offer {
        self.max_size = bytes;
        self
    }
}

/// Somebody who can be measured.
pub trait Contender {
    /// The name on the command line and in tables: lower case, no spaces.
    fn name(&self) -> &'static str;

    /// One line: what it is and how it is used here.
    fn about(&self) -> &'static str;

    /// The part it plays.
    fn kind(&self) -> Kind;

    /// What it can be asked for.
    fn offers(&self) -> Vec<Offer>;

    /// `Err` says why it can't take part on this machine. Must be quick.
    fn available(&self) -> Result<()> {
        Ok(())
    }

    /// Runs one round. `plan` was checked, and matches one of the offers.
    fn round(&self, plan: &Plan) -> Result<Round>;
}

/// A contender as `list` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub contender: String,
    pub about: String,
    pub kind: Kind,
    /// Absent: available. Else why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    pub offers: Vec<Offer>,
}

impl Listed {
    /// The entry of `contender`.
    pub fn of(contender: &dyn Contender) -> Listed {
        Listed {
            contender: contender.name().to_owned(),
            about: contender.about().to_owned(),
            kind: contender.kind(),
            missing: contender.available().err().map(|error| error.to_string()),
            offers: contender.offers(),
        }
    }
}
