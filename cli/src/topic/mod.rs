//! `ringway topic`: filter policies.

mod matching;

use crate::output::Place;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    Match(matching::Args),
}

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Match(args) => matching::run(&args, place),
    }
}
