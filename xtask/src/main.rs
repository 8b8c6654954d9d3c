//! `cargo xtask`: the project's own chores. `targets` measures what README claims, `install` puts libraries,
//! headers and the command where other programs find them.

mod bench;
mod install;
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
    /// Install headers, libraries, pkg-config and CMake files, the command and its manual
    Install(install::Args),
}

fn main() -> ExitCode {
    let done = match Chore::parse() {
        Chore::Targets(args) => targets::run(&args),
        Chore::Install(args) => install::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
