//! `ringway journal ls` and `dump`.

use super::{of_damage, open, positions, read_all};
use crate::output::{Place, write_line};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ringway::journal::{Entry, SIDE};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print the entries of a journal, one a line
///
/// Position, kind, flags, length, and the beginning of the bytes, as text where they are text. Kinds from 128 on
/// are state of the object, 0 is a gap. With --json the bytes come whole, in base64.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ringway journal dump DIR | tail
  ringway journal dump DIR --from 1000 --to 1010
  ringway --json journal dump DIR --messages | jq -r .base64 | base64 -d")]
pub struct Dump {
    /// The directory of the journal
    dir: PathBuf,
    /// Leave out entries with a lower position
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Leave out entries with this position or a higher one
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Only entries that have a place in the order: no state, no gaps
    #[arg(long)]
    messages: bool,
    /// Go on behind damage; it is told on standard error
    #[arg(long)]
    salvage: bool,
}

/// Bytes of an entry that are shown.
const SHOWN: usize = 48;

pub fn ls(dir: &Path, place: &Place) -> anyhow::Result<ExitCode> {
    let journal = open(dir, true)?;
    let segments: Vec<_> = journal.segments().collect();
    let json = segments.iter().map(|segment| {
        json!({
            "name": segment.id.name(), "epoch": segment.id.epoch, "index": segment.id.index,
            "start": segment.start, "next": segment.sealed.map(|(_, next)| next),
            "sealed": segment.sealed.is_some(), "file_bytes": segment.file_bytes,
            "used_bytes": segment.sealed.map(|(end, _)| end), "cut": segment.cut,
            "object": format!("{:016x}", segment.object), "created_ms": segment.created_ms,
        })
    });
    place.say(json.collect(), || {
        let lines = segments.iter().map(|segment| {
            format!(
                "{}  {:>11} bytes  positions {}{}",
                segment.id.name(),
                segment.file_bytes,
                positions(segment),
                if segment.sealed.is_some() {
                    ""
                } else {
                    "  open"
                }
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

pub fn dump(args: &Dump, place: &Place) -> anyhow::Result<ExitCode> {
    let journal = open(&args.dir, args.salvage)?;
    let found = read_all(&journal, args.salvage, |entry| {
        let is_message = (1..SIDE).contains(&entry.kind);
        let is_asked = is_message || !args.messages;
        if is_asked && entry.position >= args.from && args.to.is_none_or(|to| entry.position < to) {
            write_line(line(&entry, place.json).as_bytes());
        }
        Ok(())
    })?;
    for damage in &found.damage {
        eprintln!("ringway: damaged: {}", of_damage(damage));
    }
    Ok(if found.damage.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(entry: &Entry<'_>, is_json: bool) -> String {
    if is_json {
        let json = json!({
            "position": entry.position, "kind": entry.kind, "flags": entry.flags,
            "segment": entry.segment.name(), "base64": BASE64_STANDARD.encode(entry.bytes),
        });
        return json.to_string();
    }
    let head = format!(
        "{} {} {} {}",
        entry.position,
        entry.kind,
        entry.flags,
        entry.bytes.len()
    );
    if entry.kind == 0 {
        let to = entry
            .bytes
            .first_chunk()
            .map_or(0, |to| u64::from_le_bytes(*to));
        return format!("{head} gap to {to}");
    }
    let shown = &entry.bytes[..SHOWN.min(entry.bytes.len())];
    let more = if shown.len() < entry.bytes.len() {
        "..."
    } else {
        ""
    };
    format!("{head} {}{more}", shown.escape_ascii())
}
