//! `ringway-peers`: other transports of one host, measured the way ringway is.
//!
//! Each peer is used as its own documentation says it is fast, between the same
//! two pinned processes and by the same drivers. Speaks the protocol of
//! `ringway_measure::protocol`; `ringway bench` runs it when it is there.

mod aeron;
#[cfg(feature = "iceoryx2")]
mod iceoryx;
mod kernel;
mod redis;

use ringway_measure::{Contender, protocol};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut peers: Vec<&dyn Contender> = Vec::new();
    peers.extend(aeron::all());
    #[cfg(feature = "iceoryx2")]
    peers.push(&iceoryx::Iceoryx);
    peers.extend(kernel::all());
    peers.extend(redis::all());
    protocol::main(&peers)
}
