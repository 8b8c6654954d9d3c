//! The measuring kit: one round of one contender, in processes of its own.
//!
//! A *round* is what everything here is about: a supervisor forks one process
//! per side, pins each to its core, lets them meet, warms them up, measures and
//! hands back one [`Round`]. The supervisor sleeps while they run, ends them at
//! a deadline, and reaps them whatever happens. Contenders are the machine's
//! own limits ([`limits`]), ringway and its peers; all speak the same
//! [`protocol`], so a front end can interleave them.
//!
//! The kit knows no contender and no bus. It never prints except in
//! [`protocol`], and it leaves no process, file or mapping behind.

pub mod contender;
pub mod drive;
pub mod durable;
pub mod launch;
pub mod limits;
pub mod machine;
pub mod meet;
pub mod pages;
pub mod pin;
pub mod plan;
pub mod protocol;
pub mod round;
pub mod scratch;
pub mod sides;
pub mod timer;

pub use contender::{Contender, Kind, Offer};
pub use drive::{Consume, Keep, Ping, Produce};
pub use plan::{Mode, Plan, Scenario};
pub use round::Round;

/// Whatever went wrong, as a sentence for the person at the terminal.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// The outcome of everything in the kit that can fail.
pub type Result<T> = std::result::Result<T, Trouble>;
