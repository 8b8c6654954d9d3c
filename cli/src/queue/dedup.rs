//! Deduplication of a FIFO queue as flags.

use crate::output::{Usage, parse_duration};
use ringway::{DedupScope, Deduplication, QueueBuilder};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Dedup {
    /// Deduplicate: a message whose id was sent within the window is accepted and not delivered; there
    /// is room for so many different ids at a time
    #[arg(long, value_name = "IDS", requires = "fifo")]
    dedup: Option<u64>,
    /// How long an id counts, 1s to 14days [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "dedup")]
    dedup_window: Option<Duration>,
    /// What an id is compared with
    #[arg(long, value_enum, default_value_t = Scope::Queue, requires = "dedup")]
    dedup_scope: Scope,
    /// A message without an id has the SHA-256 of its body for one
    #[arg(long, requires = "dedup")]
    dedup_by_content: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Scope {
    /// Every message of the queue
    Queue,
    /// The messages of the same group
    Group,
}

impl Dedup {
    pub fn apply(&self, builder: QueueBuilder) -> QueueBuilder {
        let Some(ids) = self.dedup else {
            return builder;
        };
        let mut dedup = Deduplication::of_ids(ids);
        if let Some(window) = self.dedup_window {
            dedup = dedup.window(window);
        }
        if let Scope::Group = self.dedup_scope {
            dedup = dedup.per_group();
        }
        if self.dedup_by_content {
            dedup = dedup.by_content();
        }
        builder.deduplicate(dedup)
    }
}

/// Refuses what every message would be refused for.
pub fn check_send(name: &str, dedup: Option<Deduplication>, says_ids: bool) -> Result<(), Usage> {
    match dedup {
        Some(dedup) if !dedup.by_content && !says_ids => Err(Usage(format!(
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
    })))
}

pub fn row(dedup: Option<Deduplication>) -> (&'static str, String) {
    let told = match dedup {
        None => "no".to_owned(),
        Some(dedup) => format!(
            "{} ids, for {}, in each {}{}",
            dedup.ids,
            humantime::format_duration(dedup.window),
            scope(&dedup),
            if dedup.by_content { ", by content" } else { "" },
        ),
    };
    ("deduplicates", told)
}
