//! Deduplication of a FIFO queue as flags.

use crate::output::{Usage, parse_duration};
use ringway::{DedupScope, Deduplication, QueueBuilder};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Dedup {
    /// Room for so many different deduplication ids at a time, 64 bytes each: a message whose id was
    /// sent within the window is accepted and not delivered, and a message needs an id. none: the
    /// queue refuses ids [default with --fifo: room for 131072, and a message may come without one]
    #[arg(long, value_name = "IDS|none", value_parser = parse_ids, requires = "fifo")]
    dedup: Option<Ids>,
    /// How long an id counts, 1s to 14days [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "fifo")]
    dedup_window: Option<Duration>,
    /// What an id is compared with [default: queue]
    #[arg(long, value_enum, requires = "fifo")]
    dedup_scope: Option<Scope>,
    /// A message without an id has the SHA-256 of its body for one
    #[arg(long, requires = "fifo")]
    dedup_by_content: bool,
}

/// So many ids, or none.
#[derive(Clone, Copy)]
struct Ids(Option<u64>);

fn parse_ids(text: &str) -> Result<Ids, String> {
    match text {
        "none" => Ok(Ids(None)),
        _ => text
            .parse()
            .map(|ids| Ids(Some(ids)))
            .map_err(|_| "a number of ids, or none".to_owned()),
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Scope {
    /// Every message of the queue
    Queue,
    /// The messages of the same group
    Group,
}

impl Dedup {
    pub fn apply(&self, builder: QueueBuilder) -> Result<QueueBuilder, Usage> {
        let says_more =
            self.dedup_window.is_some() || self.dedup_scope.is_some() || self.dedup_by_content;
        let mut dedup = match self.dedup {
            None if !says_more => return Ok(builder),
            None => Deduplication::default(),
            Some(Ids(Some(ids))) => Deduplication::of_ids(ids),
            Some(Ids(None)) if says_more => {
                let why =
                    "--dedup none leaves nothing to compare: leave the other --dedup flags out";
                return Err(Usage(why.to_owned()));
            }
            Some(Ids(None)) => return Ok(builder.deduplicate(None)),
        };
        if let Some(window) = self.dedup_window {
            dedup = dedup.window(window);
        }
        if let Some(Scope::Group) = self.dedup_scope {
            dedup = dedup.per_group();
        }
        if self.dedup_by_content {
            dedup = dedup.by_content();
        }
        Ok(builder.deduplicate(dedup))
    }
}

/// Refuses what every message would be refused for.
pub fn check_send(name: &str, dedup: Option<Deduplication>, says_ids: bool) -> Result<(), Usage> {
    match dedup {
        Some(dedup) if !dedup.by_content && !dedup.optional && !says_ids => Err(Usage(format!(
            "{name} deduplicates, and every message needs an id: give --dedup-id ID, or with --csv \
             --dedup-column COLUMN"
        ))),
        _ => Ok(()),
    }
}

fn scope(dedup: &Deduplication) -> &'static str {
    match dedup.scope {
        DedupScope::Queue => "queue",
        DedupScope::MessageGroup => "group",
    }
}

pub fn describe(dedup: Option<Deduplication>) -> Value {
    json!(dedup.map(|dedup| json!({
        "ids": dedup.ids,
        "window_ms": dedup.window.as_millis() as u64,
        "scope": scope(&dedup),
        "by_content": dedup.by_content,
        "optional": dedup.optional,
    })))
}

pub fn row(dedup: Option<Deduplication>) -> (&'static str, String) {
    let told = match dedup {
        None => "no".to_owned(),
        Some(dedup) => format!(
            "{} ids, for {}, in each {}, {}",
            dedup.ids,
            humantime::format_duration(dedup.window),
            scope(&dedup),
            match (dedup.by_content, dedup.optional) {
                (true, _) => "by content",
                (_, true) => "messages that have one",
                _ => "every message",
            },
        ),
    };
    ("deduplicates", told)
}
