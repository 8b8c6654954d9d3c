//! What a bus looks like at a moment: the one document behind `ringway stat`, `top` and `metrics`.
//!
//! [`look`] takes it through an [`Observer`](ringway::Observer), which takes no part in the bus and changes
//! nothing. What can't be looked at is listed with the reason, and the rest is there. Two snapshots give the
//! rates between them.

mod apart;
mod look;

pub use apart::take_apart;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A bus. Rates are there when it was taken over an interval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub bus: String,
    pub directory: PathBuf,
    /// Unix time.
    pub taken_ms: u64,
    /// On the one clock of all processes since the machine was started.
    pub monotonic_ns: u64,
    /// What rates are over.
    pub interval_ms: Option<u64>,
    pub participants: Vec<Participant>,
    /// Role words that somebody holds.
    pub roles: Vec<Role>,
    pub channels: Vec<Channel>,
    pub queues: Vec<Queue>,
    pub streams: Vec<Stream>,
    pub topics: Vec<Topic>,
    pub pool: Pool,
    /// What could not be looked at.
    pub damaged: Vec<Damaged>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Participant {
    /// Of the registry; what holders are named by.
    pub entry: u16,
    pub generation: u64,
    pub alive: bool,
    pub pid: u64,
    pub name: String,
    pub joined_ms: u64,
    /// Of all channels and queues.
    pub claims: u64,
    /// Of all queues.
    pub leases: u64,
    /// Of all groups of streams.
    pub shards: u64,
    /// Of all channels.
    pub readers: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    pub role: usize,
    pub participant: u16,
}

/// Somebody who holds something of an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    pub participant: u16,
    /// Slots that are claimed and not committed.
    pub claims: u64,
    /// Messages in flight.
    pub leases: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    pub bytes: u64,
    pub slots: u64,
    pub stride: u64,
    pub tail: u64,
    pub trim: u64,
    pub reclaim: u64,
    /// The exclusive one.
    pub producer: Option<u16>,
    pub readers: Vec<Reader>,
    pub holders: Vec<Held>,
    pub abandoned: u64,
    pub voided: u64,
    pub renewed: u64,
    pub damaged: u64,
    pub dropped: u64,
    pub sent_per_s: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reader {
    pub participant: u16,
    /// Whether it holds producers back.
    pub reliable: bool,
    pub cursor: u64,
    pub lag: u64,
    pub lost: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queue {
    pub name: String,
    pub id: String,
    pub kind: String,
    pub level: String,
    pub bytes: u64,
    pub max_bytes: u64,
    pub rings: u64,
    pub capacity: u64,
    pub messages: Messages,
    pub oldest_age_ms: Option<u64>,
    pub positions: u64,
    /// Of a durable queue: what the disk does not have yet.
    pub behind_on_disk: Option<u64>,
    pub dead_letter: Option<String>,
    pub totals: Totals,
    pub holders: Vec<Held>,
    pub sent_per_s: Option<f64>,
    /// Messages that left it: deleted, moved, expired, purged.
    pub left_per_s: Option<f64>,
    /// Times it grew.
    pub grown: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Messages {
    pub visible: u64,
    pub in_flight: u64,
    pub delayed: u64,
    pub parked: u64,
    pub moving: u64,
}

/// Each sender and receiver adds its own every 64 messages, and when it closes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    pub sent: u64,
    pub received: u64,
    pub deleted: u64,
    pub expired: u64,
    pub parked: u64,
    pub moved: u64,
    pub arrived: u64,
    pub released: u64,
    pub purged: u64,
    pub duplicates: u64,
    pub abandoned: u64,
    pub voided: u64,
    pub renewed: u64,
    pub damaged: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    pub name: String,
    pub level: String,
    pub bytes: u64,
    pub open_shards: u64,
    pub closed_shards: u64,
    pub shards_made: u64,
    pub positions: u64,
    pub retained: u64,
    pub dropped: u64,
    pub damaged: u64,
    pub shards: Vec<Shard>,
    pub groups: Vec<Group>,
    pub consumers: Vec<Consumer>,
    pub put_per_s: Option<f64>,
}

/// One that still has its records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shard {
    pub shard: String,
    pub state: String,
    pub retained: u64,
    pub next_position: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    pub group: String,
    pub workers: u64,
    /// In all shards.
    pub behind: u64,
    pub shards: Vec<Lease>,
    pub read_per_s: Option<f64>,
}

/// A registered consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Consumer {
    pub consumer: String,
    pub subscriber: Option<u16>,
    /// In all shards that its subscriber reads.
    pub behind: u64,
    pub records: u64,
    /// Positions that it was told it missed.
    pub lost: u64,
}

/// A group in a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lease {
    pub shard: String,
    pub worker: Option<u16>,
    /// How often it changed hands.
    pub token: u64,
    pub behind: u64,
    pub waits_for_parents: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub kind: String,
    pub subscriptions: u64,
    pub listeners: u64,
    /// To be handed on.
    pub waiting: u64,
    pub published: u64,
    pub delivered: u64,
    pub retried: u64,
    pub dead_lettered: u64,
    pub failed: u64,
    pub damaged: u64,
    pub published_per_s: Option<f64>,
    pub delivered_per_s: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Pool {
    pub segments: u64,
    pub bytes: u64,
    pub quota_bytes: u64,
    /// Chunks, as the others.
    pub free: u64,
    pub owned: u64,
    pub attached: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Damaged {
    pub object: String,
    pub why: String,
}

impl Snapshot {
    /// Figures what happened a second since `before`. What was not there then, or is another one by now, has
    /// no rates.
    pub fn rate_since(&mut self, before: &Self) {
        let interval = self.monotonic_ns.saturating_sub(before.monotonic_ns);
        self.interval_ms = Some(interval / 1_000_000);
        let seconds = interval as f64 / 1e9;
        let rate = |now: u64, before: u64| {
            let grown = now.checked_sub(before)?;
            (seconds > 0.0).then(|| grown as f64 / seconds)
        };
        for now in &mut self.channels {
            if let Some(then) = before.channels.iter().find(|then| then.name == now.name) {
                now.sent_per_s = rate(now.tail, then.tail);
            }
        }
        for now in &mut self.queues {
            let Some(then) = before.queues.iter().find(|then| then.id == now.id) else {
                continue;
            };
            // Positions are exact; between two rings there is a gap of them.
            let sent = match now.grown == then.grown {
                true => now.positions.checked_sub(then.positions),
                false => now.totals.sent.checked_sub(then.totals.sent),
            };
            now.sent_per_s = sent.and_then(|sent| rate(sent, 0));
            let came = sent.map(|sent| sent + then.messages.all());
            let left = came.map(|came| came.saturating_sub(now.messages.all()));
            now.left_per_s = left.and_then(|left| rate(left, 0));
        }
        for now in &mut self.streams {
            let Some(then) = before.streams.iter().find(|then| then.name == now.name) else {
                continue;
            };
            now.put_per_s = rate(now.positions, then.positions);
            let put = now.positions.checked_sub(then.positions);
            for group in &mut now.groups {
                let mut groups = then.groups.iter();
                if let Some(then) = groups.find(|then| then.group == group.group) {
                    let read = put.and_then(|put| (put + then.behind).checked_sub(group.behind));
                    group.read_per_s = read.and_then(|read| rate(read, 0));
                }
            }
        }
        for now in &mut self.topics {
            if let Some(then) = before.topics.iter().find(|then| then.name == now.name) {
                now.published_per_s = rate(now.published, then.published);
                now.delivered_per_s = rate(now.delivered, then.delivered);
            }
        }
    }

    /// What people call a participant.
    pub fn who(&self, entry: u16) -> String {
        let mut participants = self.participants.iter();
        match participants.find(|participant| participant.entry == entry) {
            Some(known) => format!("{entry} {} (pid {})", known.name, known.pid),
            None => format!("{entry} (gone)"),
        }
    }
}

impl Messages {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.visible + self.in_flight + self.delayed + self.parked + self.moving
    }
}

impl Channel {
    /// How far the last reader is behind.
    pub fn lag(&self) -> u64 {
        self.readers
            .iter()
            .map(|reader| reader.lag)
            .max()
            .unwrap_or(0)
    }
}

impl Stream {
    /// How far the last group is behind.
    pub fn lag(&self) -> u64 {
        self.groups
            .iter()
            .map(|group| group.behind)
            .max()
            .unwrap_or(0)
    }
}
