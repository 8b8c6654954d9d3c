//! `ringway watch`: what happens to the files of a directory, published to a topic as S3 says it.
//!
//! [`tree`] tells what has changed, [`event`] says it, this publishes it, in order, and waits where the topic has
//! no room. What happens while it does not run is not told; `--existing` tells all that is there at its start.

mod event;
mod lease;
mod tree;

use crate::interrupt::Signal;
use crate::output::{Place, Usage, parse_duration, write_line};
use crate::topic;
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use event::{Bucket, ObjectEvent};
use ringway::{Attributes, Publication, PublishError, Publisher, QueueSendError, TopicKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tree::{Change, Tree};

/// How long a wait lasts before it looks whether it was interrupted.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// Between two attempts where the topic has no room.
const PAUSE: Duration = Duration::from_millis(20);
/// The subject that S3 gives its notifications.
const SUBJECT: &str = "Amazon S3 Notification";

/// Publish what happens to the files of a directory to a topic, so that one event reaches many queues
///
/// Each event is a message in the JSON of S3 (ObjectCreated:Put, ObjectRemoved:Delete) with the attributes
/// event, bucket and key, for filter policies. The key is the path below DIR. A file is told of when it is
/// complete: closed by whoever wrote it, or moved there. Moved away is removed. Directories below DIR are
/// watched too, new ones as they come. In a FIFO topic events of one key keep their order.
///
/// What happens while no `ringway watch` runs is not told. Two writes in quick succession may be told as one.
/// Symbolic links and what is behind them are not told.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    bus: String,
    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The topic
    #[arg(long)]
    topic: String,
    /// Only keys that begin so
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only keys that end so
    #[arg(long, default_value = "")]
    suffix: String,
    /// Which events
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "create,delete"
    )]
    events: Vec<Wanted>,
    /// The name of the bucket in events [default: that of DIR]
    #[arg(long)]
    bucket: Option<String>,
    /// Tell of the files that are there at first, too
    #[arg(long)]
    existing: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop when none comes within this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Say on standard error when it watches
    #[arg(long)]
    ready: bool,
}

const EXAMPLES: &str = "Examples:
  ringway watch demo /srv/uploads --topic uploads
  ringway watch demo /srv/uploads --topic uploads --prefix images/ --suffix .jpg --events create
  ringway subscribe demo uploads thumbnails --scope body \\
    --filter '{\"Records\": {\"s3\": {\"object\": {\"key\": [{\"suffix\": \".jpg\"}]}}}}'";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    Create,
    Delete,
}

/// What publishes events.
struct Sink<'a> {
    args: &'a Args,
    place: &'a Place,
    publisher: Publisher,
    bucket: Bucket,
    is_fifo: bool,
    signal: Signal,
    published: u64,
}

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let (_bus, topic) = topic::open(place, &args.bus, &args.topic)?;
    let root = std::fs::canonicalize(&args.directory)
        .with_context(|| format!("can't watch {}", args.directory.display()))?;
    let bucket = match (&args.bucket, root.file_name()) {
        (Some(bucket), _) => bucket.clone(),
        (None, Some(name)) => name.to_string_lossy().into_owned(),
        (None, None) => return Err(Usage("/ has no name: give --bucket".to_owned()).into()),
    };
    let mut tree = Tree::new(&root)?;
    let signal = Signal::default();
    let mut sink = Sink {
        args,
        place,
        publisher: topic.publisher()?,
        bucket: Bucket::new(bucket),
        is_fifo: topic.definition().kind == TopicKind::Fifo,
        signal: signal.clone(),
        published: 0,
    };
    let _watch = signal.watch(|| {})?;
    if args.ready {
        eprintln!("watching");
    }
    if args.existing {
        sink.publish_all(&tree.known())?;
    }
    let (mut last, mut overflows) = (Instant::now(), 0);
    while !sink.is_done() {
        signal.check()?;
        let mut watched = [PollFd::from_borrowed_fd(tree.descriptor(), PollFlags::IN)];
        match poll(&mut watched, Some(&SLICE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("can't wait for changes"),
        }
        let changes = tree.changes()?;
        if tree.overflows() > overflows {
            overflows = tree.overflows();
            eprintln!("ringway: the kernel dropped events; everything was looked at again");
        }
        match changes.is_empty() {
            true if args.wait.is_some_and(|wait| last.elapsed() >= wait) => break,
            true => {}
            false => {
                sink.publish_all(&changes)?;
                last = Instant::now();
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Sink<'_> {
    fn is_done(&self) -> bool {
        self.args.count.is_some_and(|most| self.published >= most)
    }

    fn publish_all(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for change in changes {
            if self.is_done() {
                break;
            }
            if self.wants(change) {
                let event = self.bucket.event(change);
                self.publish(&event)?;
            }
        }
        Ok(())
    }

    fn wants(&self, change: &Change) -> bool {
        let (path, wanted) = match change {
            Change::Created(path, _) => (path, Wanted::Create),
            Change::Removed(path) => (path, Wanted::Delete),
        };
        let key = path.to_string_lossy();
        self.args.events.contains(&wanted)
            && key.starts_with(&self.args.prefix)
            && key.ends_with(&self.args.suffix)
    }

    fn publish(&mut self, event: &ObjectEvent) -> anyhow::Result<()> {
        let body = event.json.to_string();
        let mut attributes = Attributes::new();
        attributes
            .string("event", event.name)?
            .string("bucket", &self.bucket.name)?
            .string("key", &event.key)?;
        let message = Publication::new(body.as_bytes())
            .subject(SUBJECT)
            .attributes(&attributes);
        // Any key, as something that a group may be called.
        let group = match self.is_fifo {
            true => BASE64_STANDARD.encode(Sha256::digest(&event.key)),
            false => String::new(),
        };
        let message = match self.is_fifo {
            true => message.group(&group).dedup_id(&event.sequencer),
            false => message,
        };
        loop {
            match self.publisher.publish(&message) {
                Ok(_) => break,
                Err(
                    PublishError::HeldUp { .. }
                    | PublishError::Transit(
                        QueueSendError::Full { .. }
                        | QueueSendError::OverQuota { .. }
                        | QueueSendError::PoolExhausted { .. }
                        | QueueSendError::NoSpace { .. },
                    ),
                ) => {
                    self.signal.check()?;
                    std::thread::sleep(PAUSE);
                }
                Err(error) => {
                    let text = format!("{} {:?} was not published", event.name, event.key);
                    return Err(error).context(text);
                }
            }
        }
        self.published += 1;
        match self.place.json {
            true => write_line(
                json!({"event": event.name, "key": event.key})
                    .to_string()
                    .as_bytes(),
            ),
            false => write_line(format!("{} {}", event.name, event.key).as_bytes()),
        }
        Ok(())
    }
}
