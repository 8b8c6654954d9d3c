//! The machine's limits as a host of their own, for use without ringway.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringway_measure::protocol::main(&ringway_measure::limits::all())
}
