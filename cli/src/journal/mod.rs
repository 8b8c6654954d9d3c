//! `ringway journal`: look at an object's history on a disk, and save what is whole of it.
//!
//! Everything here only reads the directory it is given; `salvage` writes into another one. The journal may be in
//! use meanwhile: what is being written while it is read is not taken for damage, since damage is told only when a
//! second look finds it again.

mod salvage;
mod show;

use crate::output::{Place, progress};
use anyhow::{Context, bail};
use clap::Subcommand;
use ringway::JournalError;
use ringway::journal::{Damage, Disk, Entry, Reading, Recovered, Recovery, SegmentInfo, exists};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Look at, check and save the history that a durable object has on a disk
///
/// A journal is a directory of segments, JOURNAL_ROOT/ringway-BUS/OBJECT. Nothing of it is ever changed or
/// removed by these commands, and the bus need not be there.
#[derive(Subcommand)]
pub enum Command {
    /// List the segments of a journal
    ///
    /// One line for each: epoch and number, the positions in it as far as its own first page and footer tell,
    /// and whether it is sealed. Reads two pages of each segment.
    #[command(after_help = "Example:
  ringway journal ls /var/lib/ringway/ringway-demo/orders")]
    Ls {
        /// The directory of the journal
        dir: PathBuf,
    },
    /// Read a whole journal and tell what is damaged
    ///
    /// Every checksum is looked at. A tail that was torn by a power cut and never acknowledged is no damage.
    ///
    /// Exit status: 0 it is whole; 1 it is damaged, or could not be read; 2 the call is wrong.
    #[command(after_help = "Examples:
  ringway journal verify /var/lib/ringway/ringway-demo/orders
  ringway --json journal verify DIR | jq .damage")]
    Verify {
        /// The directory of the journal
        dir: PathBuf,
    },
    Dump(show::Dump),
    Salvage(salvage::Args),
}

pub fn run(command: Command, place: &Place) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls { dir } => show::ls(&dir, place),
        Command::Verify { dir } => verify(&dir, place),
        Command::Dump(args) => show::dump(&args, place),
        Command::Salvage(args) => salvage::run(&args, place),
    }
}

/// The journal in a directory, or an error that says where one is.
fn open(dir: &Path, salvage: bool) -> anyhow::Result<Recovery<Disk>> {
    let opened = Disk::open(dir).and_then(|disk| Recovery::open(Arc::new(disk), None, salvage));
    match opened {
        Err(JournalError::NotFound { .. }) => bail!("{}", nothing_in(dir)),
        other => Ok(other?),
    }
}

fn nothing_in(dir: &Path) -> String {
    let mut text = format!("{} holds no journal", dir.display());
    let inside = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut near: Vec<_> = inside
        .map(|entry| entry.path())
        .filter(|path| Disk::open(path).is_ok_and(|disk| exists(&disk)))
        .map(|path| path.display().to_string())
        .collect();
    near.sort();
    if !near.is_empty() {
        text += &format!("; there is {}", near.join(", "));
    }
    text
}

/// Reads everything that is whole, with a bar where that takes long.
fn read_all(
    journal: &Recovery<Disk>,
    salvage: bool,
    each: impl FnMut(Entry<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Recovered> {
    let bar = progress(1);
    let reading = Reading {
        salvage,
        progress: &|done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
        ..Reading::default()
    };
    let found = journal.read(&reading, each);
    bar.finish_and_clear();
    found
}

fn verify(dir: &Path, place: &Place) -> anyhow::Result<ExitCode> {
    let read = || read_all(&open(dir, true)?, true, |_| Ok(()));
    let mut found = read()?;
    if !found.damage.is_empty() {
        // Somebody may have been writing there just then.
        let again = read().context("while looking a second time")?;
        found = Recovered {
            damage: found
                .damage
                .into_iter()
                .filter(|d| again.damage.contains(d))
                .collect(),
            ..again
        };
    }
    let is_whole = found.damage.is_empty();
    place.say(summary(dir, &found), || {
        let mut text = format!(
            "{}: {} entries in {} blocks, {} bytes; next position {}, epoch {}",
            dir.display(),
            found.entries,
            found.blocks,
            found.block_bytes,
            found.next,
            found.epoch
        );
        for damage in &found.damage {
            text += &format!("\n  damaged: {}", of_damage(damage));
        }
        text += if is_whole {
            "\nwhole"
        } else {
            "\ndamaged; restore the named files from a copy, or take what is whole with `ringway journal salvage`"
        };
        text
    });
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn summary(dir: &Path, found: &Recovered) -> Value {
    json!({
        "directory": dir, "whole": found.damage.is_empty(), "entries": found.entries,
        "blocks": found.blocks, "block_bytes": found.block_bytes, "next": found.next,
        "epoch": found.epoch, "damage": found.damage.iter().map(json_of_damage).collect::<Vec<_>>(),
    })
}

fn json_of_damage(damage: &Damage) -> Value {
    json!({"file": damage.path, "from": damage.from, "to": damage.to, "what": damage.what})
}

fn of_damage(damage: &Damage) -> String {
    let (path, what) = (damage.path.display(), damage.what);
    format!("{path}, bytes {} to {}: {what}", damage.from, damage.to)
}

/// Where a segment's entries are, as far as it is known.
fn positions(segment: &SegmentInfo) -> String {
    match segment.sealed {
        Some((_, next)) => format!("{} to {next}", segment.start),
        None => format!("from {}", segment.start),
    }
}
