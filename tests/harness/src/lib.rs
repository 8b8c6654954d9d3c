//! The process-test harness: children that are stepped, killed, stopped and watched.
//!
//! A test binary names its roles once with [`roles!`], launches them as children
//! ([`Launch`], [`Victim`]), steps them instruction by instruction ([`step`]), tortures
//! a whole troupe ([`chaos`]), bends process identity ([`liveness`]) and counts what a
//! stretch of code cost ([`syscalls`], [`CountingAllocator`]).
//!
//! Invariants: every child is ended and reaped by whoever started it, by its own pid
//! descriptor, also on panic; every wait has a deadline and names what hung; whatever
//! the machine refuses is announced as [`liveness::Aid::Skipped`], never passed over;
//! randomness prints its seed. The harness knows nothing of the bus it tests.

#![warn(missing_docs)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the harness drives 64-bit Linux processes");

mod alloc;
mod board;
pub mod chaos;
mod fault;
mod launch;
pub mod liveness;
mod machine;
mod os;
mod ptrace;
pub mod role;
pub mod seed;
pub mod step;
pub mod syscalls;
mod tempbus;
mod victim;
mod watch;

pub use alloc::{Allocations, CountingAllocator};
pub use board::AckBoard;
pub use fault::Fault;
pub use launch::Launch;
pub use machine::{Machine, directories_in, segments_in};
pub use role::Stage;
pub use tempbus::{TempBus, leftovers};
pub use victim::{Exit, Victim};
pub use watch::{await_condition, deadline};
