//! What happens inside, on standard error, for whoever sets `RINGWAY_LOG`.

use anyhow::{Context, anyhow};
use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const VARIABLE: &str = "RINGWAY_LOG";

/// Begins to write events and the ends of spans to standard error, if the variable says so.
pub fn begin() -> anyhow::Result<()> {
    let wanted = match std::env::var(VARIABLE) {
        Ok(wanted) if !wanted.is_empty() => wanted,
        _ => return Ok(()),
    };
    let rule = || {
        format!(
            "{VARIABLE}={wanted:?} is none of error, warn, info, debug, trace, and no list such as \
             ringway::queue=trace,debug"
        )
    };
    let targets: Targets = wanted.parse().with_context(rule)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::CLOSE);
    tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .try_init()
        .map_err(|error| anyhow!("{error}"))
}
