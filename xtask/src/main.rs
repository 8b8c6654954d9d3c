//! `cargo xtask`: the project's own chores. `targets` measures what README claims.

mod bench;
mod outcome;
mod proof;
mod targets;

use clap::Parser;
use std::process::ExitCode;

/// The project's own chores
#[derive(Parser)]
enum Chore {
    /// Measure the project's targets from real runs of the real binaries
    ///
    /// Prints one line a figure: what was measured, the goal, whether it was met, and the command
    /// that measures it. Exit status 1 when one is missed or could not be measured.
    Targets(targets::Args),
}

fn main() -> ExitCode {
    let Chore::Targets(args) = Chore::parse();
    targets::run(&args).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
