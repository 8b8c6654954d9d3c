//! The journal on a simulated disk: power cuts, flipped bits, failing calls, and the log of a real run.

mod crash;
mod disk;
#[path = "../hostile/effort.rs"]
mod effort;
mod faults;
mod fixture;
mod late;
mod queue;
mod record;
mod replay;
mod script;
mod stream;
mod world;
