//! `ringway agent`: follows files into a stream, through rotation, truncation and its own death.
//!
//! ```text
//! sweep    patterns → files; a path that is another file than before: the old one is drained   watch
//! look     new bytes, or a truncation                                                          follow
//! cut      bytes → records                                                                      follow key
//! put      up to a batch of one file; what is refused is put again until it is acknowledged
//! write    offset, identity                                                                     checkpoint
//! ```
//! # What each crash point leaves
//! - before the put: nothing; the bytes are read again.
//! - behind the put, before the checkpoint is written: one batch of one file, which is put again.
//! - behind the checkpoint: nothing.
//!
//! Files that were rotated while no agent ran are looked for by inode and first bytes beside their old path. A
//! file that was copied and truncated has its copy looked for by its first bytes, for what was not read of it.

mod checkpoint;
mod follow;
mod key;
mod watch;

use crate::interrupt::Signal;
use crate::output::{Place as Output, Usage, parse_bytes, parse_duration};
use checkpoint::{Checkpoint, Place};
use follow::{Cut, Follow, Id, LINGER, Look};
use key::Key;
use regex::bytes::Regex;
use ringway::{MAX_RECORD_BYTES, PutError, PutRecord, StreamProducer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use watch::Watch;

/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for something to happen.
const WAIT: Duration = Duration::from_millis(200);
/// Between two attempts at what was refused.
const RETRY: Duration = Duration::from_millis(20);
/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Follow files into a stream, line by line, through rotation, truncation and restarts
///
/// Each line becomes a record. The checkpoint file says how far each file was put, and is written behind each
/// batch: started again, the agent goes on there, also with what was rotated meanwhile, and repeats at most the
/// batch that was on its way when it was killed. Rotation by renaming loses nothing. So does rotation by copying
/// and truncating, as long as the copy lies beside the file, uncompressed.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The stream
    #[arg(value_name = "STREAM")]
    name: String,
    /// Files, directories, or patterns such as '/var/log/app/*.log'
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Where it is written down how far each file was put [default: a file under $XDG_STATE_HOME/ringway, or
    /// ~/.local/state/ringway, called by bus and stream]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The partition key of every record [default: of each record a number of its own, so that they spread]
    #[arg(long, group = "keyed")]
    key: Option<String>,
    /// The key is what this pattern finds in the record: group `key`, or the first group, or all of it
    #[arg(long, value_name = "REGEX", group = "keyed")]
    key_regex: Option<Regex>,
    /// The key is this column of a CSV file: its number from 1 on, or its name in the first line of each file,
    /// which is no record then
    #[arg(long, value_name = "COLUMN", group = "keyed")]
    key_column: Option<String>,
    /// With --key-column: what stands between two columns
    #[arg(
        long,
        value_name = "CHARACTER",
        default_value_t = ',',
        requires = "key_column"
    )]
    delimiter: char,
    /// The key is the name of the file
    #[arg(long, group = "keyed")]
    key_file_name: bool,
    /// A record begins with a line that this pattern matches; lines that it does not match go on with it
    #[arg(long, value_name = "REGEX")]
    start: Option<Regex>,
    /// With --start: the last record is whole when nothing came for so long
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    patience: Duration,
    /// A longer record is cut
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = parse_bytes)]
    max_bytes: u64,
    /// Records put and acknowledged at a time
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Files that are there when an agent starts without a checkpoint begin at their end
    #[arg(long)]
    from_end: bool,
    /// End when everything was put, instead of following
    #[arg(long)]
    once: bool,
}

const EXAMPLES: &str = "Examples:
  ringway agent demo logs '/var/log/app/*.log'
  ringway agent demo logs /var/log/app --start '^[0-9]{4}-' --key-regex 'user=(\\w+)'
  ringway agent demo flights flights.csv --key-column tailnum --once
  ringway agent demo logs app.log --checkpoint app.checkpoint --json";

/// What it did.
#[derive(Default)]
struct Counts {
    records: u64,
    bytes: u64,
    batches: u64,
    rotations: u64,
    truncations: u64,
    retries: u64,
}

struct Agent<'a> {
    args: &'a Args,
    cut: Cut,
    key: Key,
    producer: StreamProducer,
    checkpoint: Checkpoint,
    watch: Watch,
    files: Vec<Follow>,
    /// Of an earlier run, where no such file is there now.
    lost: Vec<Place>,
    counts: Counts,
    signal: Signal,
}

pub fn run(args: &Args, place: &Output) -> anyhow::Result<ExitCode> {
    let (_bus, stream) = place.stream(&args.bus, &args.name)?;
    let key = match (&args.key, &args.key_regex, &args.key_column) {
        (Some(key), ..) => Key::Fixed(key.clone()),
        (_, Some(pattern), _) => Key::Pattern(pattern.clone()),
        (.., Some(column)) => Key::column(column, args.delimiter)?,
        _ if args.key_file_name => Key::FileName,
        _ => Key::Spread(0),
    };
    if args.max_bytes == 0 || args.max_bytes > MAX_RECORD_BYTES as u64 {
        let text = format!("--max-bytes is 1 to {MAX_RECORD_BYTES}");
        return Err(Usage(text).into());
    }
    let path = args.checkpoint.clone().unwrap_or_else(|| usual(args));
    let (checkpoint, places) = Checkpoint::open(&path, &args.bus, &args.name)?;
    let files = Watch::new(&args.paths)?;
    for pattern in files.unmatched() {
        // A pattern, or a directory, may have nothing in it today; a name is meant.
        let is_name = !pattern.contains(['*', '?', '[']);
        if is_name && args.once && places.is_empty() {
            anyhow::bail!("there is no file {pattern:?}");
        }
        eprintln!("ringway: no file matches {pattern:?} yet");
    }
    let signal = Signal::default();
    let watch = signal.watch(|| {})?;
    let mut agent = Agent {
        args,
        cut: Cut {
            start: args.start.clone(),
            patience: args.patience,
            max_bytes: args.max_bytes as usize,
            has_header: key.needs_header(),
        },
        key,
        producer: stream.producer()?,
        checkpoint,
        watch: files,
        files: Vec::new(),
        lost: Vec::new(),
        counts: Counts::default(),
        signal: signal.clone(),
    };
    let done = agent.find(places).and_then(|()| agent.follow(place.json));
    drop(watch);
    agent.tell(place);
    done?;
    Ok(ExitCode::SUCCESS)
}

/// Where the checkpoint is if nobody says.
fn usual(args: &Args) -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|state| !state.is_empty());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let base = state.map(PathBuf::from).or_else(home).unwrap_or_default();
    base.join("ringway")
        .join(format!("agent-{}-{}.json", args.bus, args.name))
}

impl Agent<'_> {
    /// Takes up what an earlier run was at.
    fn find(&mut self, places: Vec<Place>) -> anyhow::Result<()> {
        let is_first = places.is_empty();
        for place in places {
            let here = Id::at(&place.path) == Some(place.id());
            let found = match here {
                true => Some(place.path.clone()),
                false => beside(&place.path, |_, id| id == place.id()),
            };
            let follow = match &found {
                Some(path) => Follow::open(path, place.offset, place.head())?,
                None => None,
            };
            match follow {
                Some(mut follow) => {
                    follow.drained = place.drained || !here;
                    self.counts.rotations += u64::from(!here && !place.drained);
                    self.files.push(follow);
                }
                // The inode is there, and begins with something else: it was truncated, or given again.
                None if found.is_some() && here => {
                    self.counts.truncations += 1;
                    self.drain_copy(&place)?;
                }
                None => {
                    eprintln!(
                        "ringway: {} is gone; what it had behind byte {} was not put",
                        place.path.display(),
                        place.offset
                    );
                    self.lost.push(place);
                }
            }
        }
        if is_first && self.args.from_end {
            for path in self.watch.sweep() {
                let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                if let Some(follow) = Follow::open(&path, size, follow::Head::default())? {
                    self.files.push(follow);
                }
            }
        }
        self.write()
    }

    /// What was truncated may have been copied before: reads of the copy what was not read of it.
    fn drain_copy(&mut self, place: &Place) -> anyhow::Result<()> {
        let head = place.head();
        if head.bytes == 0 {
            return Ok(());
        }
        let copy = beside(&place.path, |path, id| {
            let is_other = id != place.id() && self.files.iter().all(|file| file.id != id);
            let is_long = std::fs::metadata(path).is_ok_and(|seen| seen.len() >= place.offset);
            is_other
                && is_long
                && std::fs::File::open(path).is_ok_and(|file| head.is_of(&file).unwrap_or(false))
        });
        if let Some(path) = copy
            && let Some(mut follow) = Follow::open(&path, place.offset, head)?
        {
            follow.drained = true;
            self.files.push(follow);
        }
        Ok(())
    }

    fn follow(&mut self, json: bool) -> anyhow::Result<()> {
        let mut swept: Option<Instant> = None;
        let mut told = Instant::now();
        loop {
            self.signal.check()?;
            if swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY) {
                self.sweep()?;
                swept = Some(Instant::now());
            }
            let moved = self.pass()?;
            if json && told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                crate::output::write_line(self.progress().to_string().as_bytes());
            }
            if moved {
                continue;
            }
            if self.args.once {
                return Ok(());
            }
            self.watch.wait(WAIT);
            // A file that was renamed is found by the sweep; what is written behind it can wait as long.
            swept = swept.filter(|swept| swept.elapsed() < SWEEP_EVERY);
        }
    }

    /// New files, and paths that are other files than before.
    fn sweep(&mut self) -> anyhow::Result<()> {
        let found = self.watch.sweep();
        for file in self.files.iter_mut().filter(|file| !file.drained) {
            if Id::at(&file.path) != Some(file.id) {
                file.drained = true;
                self.counts.rotations += 1;
            }
        }
        for path in found {
            let id = Id::at(&path);
            let known = self.files.iter().position(|file| Some(file.id) == id);
            match known {
                // It may have another name now, under which it is asked for too.
                Some(index) => {
                    self.files[index].path = path;
                    self.files[index].drained = false;
                }
                None if self.files.iter().any(|file| is_copy(&path, file)) => {}
                None => match Follow::open(&path, 0, follow::Head::default()) {
                    Ok(Some(follow)) => self.files.push(follow),
                    Ok(None) => {}
                    Err(error) => eprintln!("ringway: {error:#}"),
                },
            }
        }
        Ok(())
    }

    /// Puts a batch of each file; whether there was any.
    fn pass(&mut self) -> anyhow::Result<bool> {
        let mut moved = false;
        for index in 0..self.files.len() {
            match self.files[index].look() {
                Ok(Look::Truncated) => {
                    self.truncated(index)?;
                    moved = true;
                }
                Ok(look) => {
                    moved |= look == Look::Grew;
                    let all = self.args.once && look == Look::Same;
                    moved |= self.put(index, all)?;
                }
                Err(error) => {
                    eprintln!("ringway: {}: {error}", self.files[index].path.display());
                }
            }
        }
        let before = self.files.len();
        self.files.retain(|file| !file.is_over(LINGER));
        if self.files.len() < before {
            self.write()?;
        }
        Ok(moved)
    }

    fn truncated(&mut self, index: usize) -> anyhow::Result<()> {
        self.counts.truncations += 1;
        let place = place(&self.files[index]);
        self.drain_copy(&place)?;
        self.files[index].begin_anew();
        self.write()
    }

    /// Puts the next batch of a file, and writes down that it was.
    fn put(&mut self, index: usize, all: bool) -> anyhow::Result<bool> {
        let pieces = self.files[index].pieces(&self.cut, self.args.batch as usize, all)?;
        let Some(end) = pieces.last().map(|piece| piece.end) else {
            return Ok(false);
        };
        let file = &self.files[index];
        let mut keys = Vec::with_capacity(pieces.len());
        for piece in &pieces {
            keys.push(self.key.of(file, file.bytes(piece))?);
        }
        let mut left: Vec<PutRecord<'_>> = keys
            .iter()
            .zip(&pieces)
            .map(|(key, piece)| PutRecord::new(key, file.bytes(piece)))
            .collect();
        while !left.is_empty() {
            let outcomes = self.producer.put_batch(&left);
            let mut refused = Vec::new();
            for (record, outcome) in left.into_iter().zip(outcomes) {
                match outcome {
                    Ok(_) => {
                        self.counts.records += 1;
                        self.counts.bytes += record.data.len() as u64;
                    }
                    Err(
                        PutError::Full { .. } | PutError::Throttled { .. } | PutError::Busy { .. },
                    ) => refused.push(record),
                    Err(error) => return Err(error.into()),
                }
            }
            left = refused;
            if !left.is_empty() {
                self.counts.retries += 1;
                self.signal.check()?;
                std::thread::sleep(RETRY);
            }
        }
        self.counts.batches += 1;
        self.files[index].acknowledge(end);
        self.write()?;
        Ok(true)
    }

    fn write(&self) -> anyhow::Result<()> {
        self.checkpoint
            .write(self.files.iter().map(place).collect())
    }

    fn progress(&self) -> serde_json::Value {
        let behind: u64 = self.files.iter().map(Follow::behind).sum();
        json!({
            "files": self.files.len(), "records": self.counts.records, "bytes": self.counts.bytes,
            "batches": self.counts.batches, "behind_bytes": behind,
            "rotations": self.counts.rotations, "truncations": self.counts.truncations,
            "retries": self.counts.retries, "lost_files": self.lost.len(),
        })
    }

    fn tell(&self, place: &Output) {
        place.say(self.progress(), || {
            let counts = &self.counts;
            format!(
                "put {} records of {} files, {} bytes; {} rotations, {} truncations",
                counts.records,
                self.files.len(),
                counts.bytes,
                counts.rotations,
                counts.truncations
            )
        });
    }
}

fn place(file: &Follow) -> Place {
    Place {
        path: file.path.clone(),
        device: file.id.device,
        inode: file.id.inode,
        offset: file.offset,
        head_bytes: file.head.bytes,
        head: file.head.hash.clone(),
        drained: file.drained,
    }
}

/// Whether the file at `path` is the copy that somebody makes of a followed one before he truncates it: it is
/// called by its name and something behind, and begins as it does. When that is truncated, what was not read
/// of it is read there.
fn is_copy(path: &Path, file: &Follow) -> bool {
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.as_encoded_bytes().to_vec())
    };
    let is_named = match (name(path), name(&file.path)) {
        (Some(copy), Some(of)) => copy.len() > of.len() && copy.starts_with(&of),
        _ => false,
    };
    is_named
        && path.parent() == file.path.parent()
        && file.head.bytes > 0
        && std::fs::File::open(path).is_ok_and(|copy| file.head.is_of(&copy).unwrap_or(false))
}

/// A file in the directory of `path` that is the one.
fn beside(path: &Path, is_it: impl Fn(&Path, Id) -> bool) -> Option<PathBuf> {
    let directory = std::fs::read_dir(watch::parent(path)?).ok()?;
    directory.flatten().map(|entry| entry.path()).find(|path| {
        let metadata = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file);
        metadata.is_some_and(|metadata| is_it(path, Id::of(&metadata)))
    })
}
