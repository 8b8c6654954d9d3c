//! How much the hostile and liveness tests do: `RINGWAY_FULL=1` asks for the full run (the figures
//! that reliability is quoted with), anything else for the quick one of every change.
//! `RINGWAY_EXECUTIONS=n` asks for n of each, for a full run that is made in pieces.

use std::fmt::Write;

/// `1` asks for the full run.
const VARIABLE: &str = "RINGWAY_FULL";
const PIECE_VARIABLE: &str = "RINGWAY_EXECUTIONS";

/// How many executions this run is meant to make.
pub fn executions(quick: u64, full: u64) -> u64 {
    let piece = std::env::var(PIECE_VARIABLE).ok();
    if let Some(piece) = piece.and_then(|number| number.parse().ok()) {
        piece
    } else if std::env::var(VARIABLE).is_ok_and(|value| value == "1") {
        full
    } else {
        quick
    }
}

#[allow(
    dead_code,
    reason = "not everybody who asks how much has a figure to tell"
)]
/// One JSON line on standard output, for whoever collects the figures.
pub fn report(target: &str, executions: u64, crashes: u64, more: &[(&str, u64)]) {
    let mut line =
        format!("{{\"target\":\"{target}\",\"executions\":{executions},\"crashes\":{crashes}");
    for (name, value) in more {
        write!(line, ",\"{name}\":{value}").expect("a String takes everything");
    }
    println!("{line}}}");
}
