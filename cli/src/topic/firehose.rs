//! `ringway topic firehose`: what a subscription gets ends in files, as what a topic gives to Amazon Data Firehose
//! ends in objects of S3.
//!
//! The subscription feeds a queue; this is its receiver. Messages are leased, gathered, and their leases extended,
//! until there are enough of them or the oldest has waited for long enough. Then they are one object: written
//! under another name, on the disk, and given its name; only then they are deleted, in their order. Who is killed
//! before gives all of them back, the queue sees the death; who is killed between name and delete leaves an object whose
//! messages come once more in another one: at least once, as Firehose has it. What a dead one left half written the
//! next one removes, by a lock of the kernel that died with him. Several may run at the same time.
//!
//! Source: "Buffering hints", "Custom prefixes for Amazon S3 objects", "Amazon S3 object name format".

use super::matching::ScopeArg;
use super::open;
use super::subscribe::{Wanted, feed};
use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_bytes, parse_duration};
use anyhow::{Context, bail};
use ringway::{Idle, Message, QueueReceiver, SubscribeOptions};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(100);
/// Extensions per visibility time-out: two may be late.
const BEATS: u32 = 3;
/// Messages of one receive.
const AT_ONCE: usize = 256;
/// What the name of an object begins with that is not finished.
const UNFINISHED: &str = ".firehose-";

/// Write what a topic has for a queue into files: the objects that Firehose would put into S3
///
/// Each object has one message a line and appears whole, under DIR/PREFIX, as
/// QUEUE-1-2026-11-26-21-05-59-ID by the time of its oldest message (UTC). A PREFIX takes the times
/// !{timestamp:yyyy/MM/dd/HH} and !{firehose:random-string}; without a time in it, yyyy/MM/dd/HH/ is added to it.
///
/// The messages come through the queue QUEUE, which is made, and subscribed, if it was not: they wait there
/// while this does not run. They are deleted when their object is on the disk. Should this process be killed
/// between the two, they come once more in another object. SIGTERM or Ctrl-C: what was gathered becomes an object,
/// then it ends.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// The queue that messages wait in
    queue: String,
    /// The directory for the objects
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// What their names begin with, directories too
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// What their names end with, such as .jsonl
    #[arg(long, value_name = "TEXT", default_value = "")]
    extension: String,
    /// An object is written when it has so many bytes, up to 128M
    #[arg(long, value_name = "BYTES", default_value = "5M", value_parser = parse_bytes)]
    size: u64,
    /// Or when its oldest message was received so long ago, up to 15m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    every: Duration,
    /// Bodies as they were published, instead of JSON notifications
    #[arg(long)]
    raw: bool,
    /// Only messages that this filter policy wants; the policy, or the file it is in
    #[arg(long, value_name = "JSON|FILE")]
    filter: Option<String>,
    /// What the policy looks at
    #[arg(long, value_enum, default_value = "attributes", requires = "filter")]
    scope: ScopeArg,
    /// Accept a policy beyond the limits of SNS
    #[arg(long)]
    no_limits: bool,
    /// End when so many objects were written
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End when nothing comes within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
}

const EXAMPLES: &str = r#"Examples:
  ringway topic firehose demo orders lake --to /data/lake
  ringway topic firehose demo orders lake --to /data/lake --raw --extension .jsonl \
    --size 64M --every 1m
  ringway topic firehose demo orders paid --to /data --prefix 'paid/dt=!{timestamp:yyyy-MM-dd}/' \
    --filter '{"kind": ["payment"]}'"#;

/// Largest object that Firehose gathers, and longest time.
const MAX_SIZE: u64 = 128 << 20;
const MAX_EVERY: Duration = Duration::from_secs(900);

/// What was gathered for the next object.
#[derive(Default)]
struct Gathered {
    messages: Vec<Message>,
    bytes: u64,
    since: Option<Instant>,
    renewed: Option<Instant>,
}

#[derive(Default)]
struct Tally {
    objects: u64,
    messages: u64,
    bytes: u64,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    check(args)?;
    let (bus, topic) = open(place, &args.bus, &args.name)?;
    let queue = bus.queue(&args.queue).open_or_create()?;
    feed(
        &topic,
        &args.bus,
        SubscribeOptions::to_firehose(&args.queue).raw(args.raw),
        &Wanted {
            endpoint: &args.queue,
            filter: args.filter.as_deref(),
            scope: args.scope,
            no_limits: args.no_limits,
        },
    )?;
    let made = make_directory(&args.to);
    made.with_context(|| format!("--to: can't make {}", args.to.display()))?;
    sweep(&args.to)?;
    let mut receiver = queue.receiver()?;
    receiver.set_idle(Idle::Park);
    let signal = Signal::default();
    // An object is written whole, however long that takes: no last resort.
    let told = signal.clone();
    let _watch = crate::interrupt::watch(move |signal, _, _| told.tell(signal))?;
    let mut tally = Tally::default();
    let visibility = queue.settings().visibility;
    let ended = gather(args, place, &mut receiver, visibility, &signal, &mut tally);
    let Tally {
        objects,
        messages,
        bytes,
    } = tally;
    place.say(
        json!({"objects": objects, "messages": messages, "bytes": bytes}),
        || format!("{objects} objects of {messages} messages, {bytes} bytes"),
    );
    ended.map(|()| ExitCode::SUCCESS)
}

fn check(args: &Args) -> anyhow::Result<()> {
    if !(1..=MAX_SIZE).contains(&args.size) {
        return Err(Usage("--size must be 1 to 128M".to_owned()).into());
    }
    if args.every > MAX_EVERY {
        return Err(Usage("--every must be at most 15m".to_owned()).into());
    }
    if args.extension.contains('/') {
        return Err(Usage("--extension must have no /".to_owned()).into());
    }
    name_of(args, 0).map(drop)
}

fn gather(
    args: &Args,
    place: &Place,
    receiver: &mut QueueReceiver,
    visibility: Duration,
    signal: &Signal,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let (mut last, mut gathered) = (Instant::now(), Gathered::default());
    let mut is_idle = false;
    loop {
        let ends = signal.check();
        let is_enough = gathered.bytes >= args.size
            || gathered
                .since
                .is_some_and(|since| ends.is_err() || since.elapsed() >= args.every);
        if !gathered.messages.is_empty() && (is_enough || is_idle) {
            if let Err(error) = write(args, place, &gathered, tally) {
                for message in &gathered.messages {
                    let _ = receiver.nack(&message.received.receipt, Duration::ZERO);
                }
                return Err(error);
            }
            for message in core::mem::take(&mut gathered).messages {
                // One whose lease was lost is somebody else's by now, and comes twice.
                let _ = receiver.delete(&message.received.receipt);
            }
        }
        ends?;
        if args.count.is_some_and(|most| tally.objects >= most) || is_idle {
            return Ok(());
        }
        let messages = receiver.receive(AT_ONCE, SLICE, None)?;
        is_idle = messages.is_empty() && args.wait.is_some_and(|wait| last.elapsed() >= wait);
        for message in messages {
            last = Instant::now();
            gathered.since.get_or_insert(last);
            gathered.renewed.get_or_insert(last);
            gathered.bytes += message.body.len() as u64 + 1;
            gathered.messages.push(message);
        }
        let due = |renewed: Instant| renewed.elapsed() >= visibility / BEATS;
        if gathered.renewed.is_some_and(due) {
            for message in &gathered.messages {
                // A lease that is lost is told by the delete.
                let _ = receiver.change_visibility(&message.received.receipt, visibility);
            }
            gathered.renewed = Some(Instant::now());
        }
    }
}

/// Makes one object of what was gathered. When it returns, the object is on the disk.
fn write(args: &Args, place: &Place, gathered: &Gathered, tally: &mut Tally) -> anyhow::Result<()> {
    let oldest = gathered
        .messages
        .iter()
        .map(|one| one.received.sent_ms)
        .min();
    let name = name_of(args, oldest.unwrap_or(0))?;
    let path = args.to.join(&name);
    let (unfinished, mut file) = begin(&args.to, |_| ())
        .with_context(|| format!("--to: can't write into {}", args.to.display()))?;
    let written = (|| {
        let mut lines = Vec::with_capacity(gathered.bytes as usize);
        for message in &gathered.messages {
            lines.extend_from_slice(&message.body);
            lines.push(b'\n');
        }
        file.write_all(&lines)?;
        file.sync_all()?;
        let directory = path.parent().unwrap_or(&args.to);
        fs::create_dir_all(directory)?;
        renameat_with(CWD, &unfinished, CWD, &path, RenameFlags::NOREPLACE)?;
        // The names on the way, from the object up to the directory that was there.
        for directory in directory.ancestors() {
            File::open(directory)?.sync_all()?;
            if directory == args.to {
                break;
            }
        }
        std::io::Result::Ok(())
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&unfinished);
        let why = "can't write the object; its messages wait in the queue";
        return Err(error).with_context(|| format!("{}: {why}", path.display()));
    }
    tally.objects += 1;
    tally.messages += gathered.messages.len() as u64;
    tally.bytes += gathered.bytes;
    if !place.json {
        println!(
            "{}  {} messages, {} bytes",
            name.display(),
            gathered.messages.len(),
            gathered.bytes
        );
    }
    Ok(())
}

/// Makes a directory, and those that lead to it: their names are on the disk when it returns, and so is that of one
/// that was there, of which nobody knows who made it. Which directories were written for that.
fn make_directory(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let directory = std::path::absolute(directory)?;
    let missing = directory.ancestors().take_while(|it| !it.is_dir()).count();
    fs::create_dir_all(&directory)?;
    let parents = directory.ancestors().skip(1).take(missing.max(1));
    let parents: Vec<_> = parents.map(Path::to_owned).collect();
    for parent in &parents {
        match File::open(parent).and_then(|parent| parent.sync_all()) {
            // Not ours to read: whoever owns it made what lies in it.
            Err(error) if missing == 0 && error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(parents)
}

/// A file for the next object, and its name until then. Whoever sweeps takes one that nobody has locked for that
/// of a dead one: what was swept between its making and its lock is begun anew. `made` is told of each.
fn begin(directory: &Path, mut made: impl FnMut(&Path)) -> std::io::Result<(PathBuf, File)> {
    loop {
        let path = directory.join(format!("{UNFINISHED}{}", random()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        made(&path);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => continue,
            locked => locked?,
        }
        let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
        match fs::symlink_metadata(&path) {
            Ok(named) if id(&named) == id(&file.metadata()?) => return Ok((path, file)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// Removes what dead ones left half written.
fn sweep(directory: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("can't read {}", directory.display()))? {
        let path = entry?.path();
        let is_unfinished = |name: &str| name.starts_with(UNFINISHED);
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(is_unfinished)
            && let Ok(file) = File::open(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

fn random() -> String {
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

/// The name of an object whose oldest message is of that time.
fn name_of(args: &Args, oldest_ms: u64) -> anyhow::Result<PathBuf> {
    let prefix = expand(&args.prefix, oldest_ms).map_err(Usage)?;
    let time = at(oldest_ms, "yyyy-MM-dd-HH-mm-ss").map_err(Usage)?;
    let (queue, extension) = (&args.queue, &args.extension);
    let name = PathBuf::from(format!("{prefix}{queue}-1-{time}-{}{extension}", random()));
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !name.components().all(is_plain) {
        bail!(Usage("--prefix must stay below --to".to_owned()));
    }
    Ok(name)
}

/// A prefix with what its expressions stand for.
fn expand(prefix: &str, ms: u64) -> Result<String, String> {
    let (mut name, mut rest, mut has_time) = (String::new(), prefix, false);
    while let Some((before, behind)) = rest.split_once("!{") {
        let (expression, behind) = behind
            .split_once('}')
            .ok_or("--prefix: an expression !{ does not end")?;
        name += before;
        match expression.split_once(':') {
            Some(("timestamp", pattern)) => {
                name += &at(ms, pattern)?;
                has_time = true;
            }
            Some(("firehose", "random-string")) => name += &random()[..11],
            _ => {
                return Err(format!(
                    "--prefix: !{{{expression}}} is not known; there are !{{timestamp:yyyy/MM/dd/HH}} and !{{firehose:random-string}}"
                ));
            }
        }
        rest = behind;
    }
    name += rest;
    if !has_time {
        name += &at(ms, "yyyy/MM/dd/HH/")?;
    }
    Ok(name)
}

/// A time by a pattern of yyyy, MM, dd, HH, mm and ss; other letters are refused.
fn at(ms: u64, pattern: &str) -> Result<String, String> {
    // The last millisecond that can be written so: it comes from shared memory.
    let time = UNIX_EPOCH + Duration::from_millis(ms.min(253_402_300_799_999));
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let parts = [
        ("yyyy", 0..4),
        ("MM", 5..7),
        ("dd", 8..10),
        ("HH", 11..13),
        ("mm", 14..16),
        ("ss", 17..19),
    ];
    let (mut text, mut rest) = (String::new(), pattern);
    while let Some(first) = rest.chars().next() {
        if let Some((name, range)) = parts.iter().find(|(name, _)| rest.starts_with(name)) {
            text += &time[range.clone()];
            rest = &rest[name.len()..];
        } else if first.is_ascii_alphabetic() {
            return Err(format!(
                "--prefix: no time is written as {pattern}; there are yyyy, MM, dd, HH, mm and ss"
            ));
        } else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("ringway-firehose-{name}-{}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_was_swept_before_its_lock_is_begun_anew() {
        let directory = Scratch::new("swept");
        let (mut begun, mut held) = (0, None);
        let (path, file) = begin(&directory.0, |path| {
            begun += 1;
            match begun {
                1 => sweep(&directory.0).unwrap(),
                2 => {
                    // One that sweeps has the lock, and is about to remove it.
                    let file = File::open(path).unwrap();
                    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
                    held = Some(file);
                }
                _ => {}
            }
        })
        .unwrap();
        assert_eq!(begun, 3);
        drop(held);
        sweep(&directory.0).unwrap();
        let left = fs::read_dir(&directory.0).unwrap().count();
        assert!(
            path.exists() && left == 1,
            "the second is nobody's, and this one is held"
        );
        drop(file);
        sweep(&directory.0).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn each_directory_that_a_new_one_has_its_name_in_is_on_the_disk() {
        let directory = Scratch::new("made");
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|name| directory.0.join(name));
        let made = make_directory(&c).unwrap();
        assert_eq!(made, [b.clone(), a, directory.0.clone()]);
        assert!(c.is_dir());
        assert_eq!(
            make_directory(&c).unwrap(),
            [b],
            "whoever made it may have died then"
        );
    }

    #[test]
    fn prefixes_say_times_as_firehose_does() {
        let ms = 1_764_191_159_000;
        assert_eq!(expand("", ms).unwrap(), "2025/11/26/21/");
        assert_eq!(expand("a/", ms).unwrap(), "a/2025/11/26/21/");
        assert_eq!(
            expand("dt=!{timestamp:yyyy-MM-dd}/h=!{timestamp:HH}/", ms).unwrap(),
            "dt=2025-11-26/h=21/"
        );
        let with_random = expand("!{firehose:random-string}/!{timestamp:ss}-", ms).unwrap();
        assert_eq!((with_random.len(), &with_random[11..]), (15, "/59-"));
        assert_eq!(expand("", u64::MAX).unwrap(), "9999/12/31/23/");
        for (none, says) in [
            ("!{timestamp:yyyy", "does not end"),
            ("!{timestamp:EEE}", "EEE"),
            ("!{partition:x}", "is not known"),
        ] {
            let refused = expand(none, ms).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
