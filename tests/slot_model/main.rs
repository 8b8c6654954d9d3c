//! The words of the protocol, one step at a time: every interleaving of a few actors on two or
//! three slots, sequentially consistent, by exhaustive search.
//!
//! This is the protocol as it is written down, not the code: the loom models run the code, but on
//! three threads and a handful of steps. Here whole laps go by, anybody may die, stop or sleep
//! between any two steps, and leases expire whenever they like. Each configuration looks at one
//! part; each has mutants, rules left out on purpose, that the search must find.
//!
//! Debug builds search smaller bounds than release builds.

mod exclusive;
mod lossy;
mod queue;
mod seal;
mod search;
