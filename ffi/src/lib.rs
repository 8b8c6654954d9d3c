//! The C ABI of ringway. `include/ringway.h` is what its users read, and the first thing to change; here
//! is what it says, one file for each product.
//!
//! Every function goes the same way: through the `fence`, which no panic passes; handles through the
//! `handle` table, pointers and lengths through `argument`, errors through the table of `code`s.
//! Nothing here knows a slot or a word: it calls what any Rust program calls.
//!
//! `unsafe` is at home here, for what C can't say: that a pointer leads to what the header asks for.
//! What can be checked is checked, in release too.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("handles are 64 bits wide, and the bus is Linux's");

mod argument;
mod bus;
mod change;
mod channel;
mod code;
mod fence;
mod handle;
mod layout;
mod loan;
mod message;
mod moving;
mod parked;
mod publish;
mod put;
mod queue;
mod receive;
mod said;
mod send;
mod stream;
mod topic;
mod wait;

pub use code::{CODES, Code};
pub use layout::{LAYOUTS, Layout};
