//! `ringway journal salvage`: what is whole of a damaged journal, as a whole one.

use super::{of_damage, open, read_all, summary};
use crate::output::{Place, Usage};
use anyhow::bail;
use ringway::journal::{Disk, Entry, Options, Pushed, SIDE, Writer, exists};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// No entry of a journal is shorter.
const LEAST_ENTRY_BYTES: u64 = 16;

/// Copy what is whole of a journal into a new one
///
/// Every entry whose checksums are right is taken over, in order, with its position; positions that are lost
/// become gaps, and so do those that may have been lost behind the last one. The damaged journal is not touched.
/// To go on with the salvaged one, move the old directory away and the new one in its place while nobody uses the
/// object. Each shard of a stream has a journal of its own, in a directory in the stream's.
///
/// What was lost is listed.
///
/// Exit status: 0 the new journal is complete and durable, whatever was lost; 1 it is not; 2 the call is wrong.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ringway journal salvage /var/lib/ringway/ringway-demo/orders /var/lib/ringway/saved")]
pub struct Args {
    /// The damaged journal
    dir: PathBuf,
    /// Where the new one goes; made if it does not exist
    new: PathBuf,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let journal = open(&args.dir, true)?;
    if args.new.exists() && !args.new.is_dir() {
        let text = format!("{} is no directory; name another place", args.new.display());
        return Err(Usage(text).into());
    }
    let disk = Arc::new(Disk::open_or_create(&args.new)?);
    if exists(&*disk) {
        bail!(
            "{} holds a journal already; name another directory",
            args.new.display()
        );
    }
    let mut copy = Copy {
        disk: Some(disk),
        object: journal.object(),
        epoch: journal.epoch() + 1,
        definition: *journal.definition(),
        writer: None,
    };
    let found = read_all(&journal, true, |entry| copy.take(&entry))?;
    // What was lost at the end had positions, which must not be given out again.
    let last = journal.segments().last().map(|last| last.id.name());
    let is_last = |path: &Path| {
        path.file_name()
            .is_some_and(|it| last.as_deref() <= it.to_str())
    };
    let lost = found.damage.iter().filter(|it| is_last(&it.path));
    let lost: u64 = lost.map(|it| (it.to - it.from) / LEAST_ENTRY_BYTES).sum();
    copy.finish(found.next + lost)?;
    place.say(summary(&args.new, &found), || {
        let mut text = format!(
            "{}: {} entries saved; next position {}",
            args.new.display(),
            found.entries,
            found.next
        );
        for damage in &found.damage {
            text += &format!("\n  lost: {}", of_damage(damage));
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

/// The new journal, begun with the first entry.
struct Copy {
    disk: Option<Arc<Disk>>,
    object: u64,
    epoch: u64,
    definition: [u8; ringway::journal::DEFINITION_BYTES],
    writer: Option<Writer<Disk>>,
}

impl Copy {
    fn writer(&mut self, start: u64) -> anyhow::Result<&mut Writer<Disk>> {
        if let Some(disk) = self.disk.take() {
            let options = Options::default();
            let (object, epoch) = (self.object, self.epoch);
            let made = Writer::take_over(disk, options, object, epoch, start, &self.definition)?;
            self.writer = Some(made);
        }
        match &mut self.writer {
            Some(writer) => Ok(writer),
            None => bail!("the new journal could not be begun"),
        }
    }

    fn take(&mut self, entry: &Entry<'_>) -> anyhow::Result<()> {
        // A gap follows from the positions around it.
        if entry.kind == 0 {
            return Ok(());
        }
        let has_position = entry.kind < SIDE;
        let start = if has_position { entry.position } else { 0 };
        let writer = self.writer(start)?;
        if has_position && entry.position > writer.next() {
            until_done(writer, |writer| writer.gap(writer.next(), entry.position))?;
        }
        until_done(writer, |writer| {
            writer.push(entry.kind, entry.flags, entry.position, &[entry.bytes])
        })
    }

    fn finish(mut self, next: u64) -> anyhow::Result<()> {
        let writer = self.writer(next)?;
        if next > writer.next() {
            until_done(writer, |writer| writer.gap(writer.next(), next))?;
        }
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(())
    }
}

fn until_done(
    writer: &mut Writer<Disk>,
    mut push: impl FnMut(&mut Writer<Disk>) -> Result<Pushed, ringway::JournalError>,
) -> anyhow::Result<()> {
    while push(writer)? == Pushed::Full {
        writer.complete_one()?;
    }
    Ok(())
}
