//! The command line that every host of contenders speaks: `list` and `round`.
//!
//! `list` prints one JSON line per contender, `round` runs one round and prints
//! it as one JSON line. Whatever goes wrong is one line on standard error and
//! exit code 1 (130 when interrupted). A host is a binary whose `main` is
//! `protocol::main(&[...])`, or a command that passes its [`Verb`] to [`serve`].

use crate::contender::Listed;
use crate::sides::Interrupted;
use crate::{Contender, Plan, Result, Round, sides};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// What a host can be asked.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Print who can be measured here, one JSON line each
    List,
    /// Run one round in processes of its own, and print it as one JSON line
    Round(Plan),
}

/// Measures message transports between two processes of this machine. Made to
/// be run by `ringway bench`, which compares many rounds.
#[derive(Parser)]
#[command(version)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

/// The whole of a host's `main`.
pub fn main(contenders: &[&dyn Contender]) -> ExitCode {
    serve(&Line::parse().verb, contenders)
}

/// Answers `verb`. Prints; must run while the process has one thread.
pub fn serve(verb: &Verb, contenders: &[&dyn Contender]) -> ExitCode {
    let outcome = match verb {
        Verb::List => contenders
            .iter()
            .try_for_each(|contender| print(&Listed::of(*contender))),
        Verb::Round(plan) => {
            sides::hold_signals();
            // The sides are ended at the deadline; this ends a supervisor that
            // hangs itself, say in starting what a contender needs.
            // SAFETY: arms a timer whose signal ends this process.
            unsafe { libc::alarm(u32::try_from(plan.deadline_s + 15).unwrap_or(u32::MAX)) };
            round(plan, contenders).and_then(|round| print(&round))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(130),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Finds the contender of `plan`, checks that it offers this, and lets it run.
pub fn round(plan: &Plan, contenders: &[&dyn Contender]) -> Result<Round> {
    plan.check()?;
    let contender = contenders
        .iter()
        .find(|contender| contender.name() == plan.contender)
        .ok_or_else(|| {
            let known: Vec<_> = contenders
                .iter()
                .map(|contender| contender.name())
                .collect();
            format!(
                "{:?} is not known here; there are {}",
                plan.contender,
                known.join(", ")
            )
        })?;
    contender.available()?;
    let offers = contender.offers();
    let offer = offers
        .iter()
        .find(|offer| offer.scenario == plan.scenario && offer.mode == plan.mode);
    let offer = offer.ok_or_else(|| {
        format!(
            "{} has no {} in mode {}",
            plan.contender,
            plan.scenario.word(),
            plan.mode.word()
        )
    })?;
    if offer.max_size != 0 && plan.size > offer.max_size {
        return Err(format!(
            "{} takes up to {} bytes, not {}",
            plan.contender, offer.max_size, plan.size
        )
        .into());
    }
    contender.round(plan)
}

fn print<T: serde::Serialize>(record: &T) -> Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(std::io::stdout().lock().write_all(&line)?)
}
