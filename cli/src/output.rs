//! Where to look, how to speak, and how sizes are written.

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ringway::{Bus, OpenError, ReceiveError, RecoveryProgress, SetError};
use rustix::time::{ClockId, clock_gettime};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The command line asks for what can't be: exit status 2, as for what the parser refuses.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether the command line asked for what can't be, whoever refused it.
pub fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<Usage>()
        || matches!(
            error.downcast_ref(),
            Some(OpenError::InvalidName { .. } | OpenError::InvalidOption { .. })
        )
        || matches!(error.downcast_ref(), Some(SetError::InvalidSetting { .. }))
        || matches!(
            error.downcast_ref(),
            Some(ReceiveError::InvalidVisibility { .. })
        )
}

/// The global options.
pub struct Place {
    pub root: Option<PathBuf>,
    pub journal_root: Option<PathBuf>,
    pub json: bool,
}

impl Place {
    /// The builder of a bus at this place.
    pub fn builder(&self, bus: &str) -> ringway::Builder {
        let builder = Bus::builder(bus).participant_name("ringway command");
        let builder = builder.on_recovery(recovering());
        let builder = match &self.root {
            Some(root) => builder.root(root),
            None => builder,
        };
        match &self.journal_root {
            Some(root) => builder.journal_root(root),
            None => builder,
        }
    }

    /// The directory under which buses lie.
    pub fn root(&self) -> PathBuf {
        let variable = std::env::var_os(ringway::ROOT_VARIABLE).filter(|root| !root.is_empty());
        self.root
            .clone()
            .or(variable.map(PathBuf::from))
            .unwrap_or_else(|| ringway::DEFAULT_ROOT.into())
    }

    /// Prints `json` as one line with `--json`, else what `text` writes. A closed pipe ends the
    /// program quietly, as people expect of `| head`.
    pub fn say(&self, json: serde_json::Value, text: impl FnOnce() -> String) {
        let line = if self.json { json.to_string() } else { text() };
        write_line(line.as_bytes());
    }
}

/// Writes a line to standard output; ends the program when nobody reads it any more.
pub fn write_line(line: &[u8]) {
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(line)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    if let Err(error) = written {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("ringway: can't write to standard output: {error}");
        std::process::exit(1);
    }
}

/// A bar for files, a spinner for streams; nothing where standard error is no terminal.
pub fn progress(total_bytes: u64) -> ProgressBar {
    if total_bytes == 0 {
        return ProgressBar::new_spinner();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}");
    ProgressBar::new(total_bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Nanoseconds on the one clock of all processes.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Shows how far the opening of a durable queue is that is made again from its journal, on standard error: a bar, or
/// where that is no terminal one line. What is over sooner than anybody could read it shows nothing.
fn recovering() -> impl Fn(&RecoveryProgress) + Send + Sync {
    let shown: Mutex<Option<ProgressBar>> = Mutex::new(None);
    move |far| {
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if far.read_bytes >= far.total_bytes {
            if let Some(bar) = shown.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let who = if far.is_elsewhere {
            "another process reads"
        } else {
            "reading"
        };
        let what = format!("{who} the journal of {}", far.queue);
        let bar = shown.get_or_insert_with(|| {
            if !std::io::stderr().is_terminal() {
                eprintln!("ringway: {what}, {} bytes", far.total_bytes);
            }
            let style = "{msg} {bar:30} {bytes}/{total_bytes} {eta}";
            let style = ProgressStyle::with_template(style);
            ProgressBar::new(far.total_bytes)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_message(what);
        bar.set_length(far.total_bytes);
        bar.set_position(far.read_bytes);
    }
}

/// Bytes with an optional unit: 4096, 64K, 16MiB, 1G. Units are powers of 1,024.
pub fn parse_bytes(text: &str) -> anyhow::Result<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits
        .parse()
        .with_context(|| format!("{text:?} does not begin with a number"))?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        other => bail!("{other:?} is no unit of bytes; use K, M, G or T"),
    };
    number
        .checked_mul(1 << shift)
        .with_context(|| format!("{text} is too large"))
}

/// A duration: 250us, 20ms, 5s, 2m, 1h 30m, 4days. A bare number is seconds.
pub fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds)
            .with_context(|| format!("{text} seconds are no possible time")),
        Err(_) => humantime::parse_duration(text)
            .with_context(|| format!("{text:?} is no time such as 20ms, 5s, 1h 30m or 4days")),
    }
}

/// Octal permission bits.
pub fn parse_mode(text: &str) -> anyhow::Result<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .with_context(|| format!("{text:?} are no octal permission bits, such as 660"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_modes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64K", 65_536),
            ("16MiB", 16 << 20),
            ("1g", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes);
        }
        for wrong in ["", "K", "4 parsecs", "99999999999T"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_duration("1.5").unwrap().as_millis(), 1500);
        assert_eq!(parse_duration("1h 30m").unwrap().as_secs(), 5400);
        assert_eq!(parse_duration("20ms").unwrap().as_millis(), 20);
        assert_eq!(parse_duration("3").unwrap().as_secs(), 3);
        for wrong in ["3 moons", "", "-1", "inf"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_mode("660").unwrap(), 0o660);
        assert!(parse_mode("rw").is_err());
    }
}
