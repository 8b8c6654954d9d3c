//! What there is to be seen of each kind: columns, and a row for each thing.

use super::watch::Seen;
use crate::snapshot::{Held, Snapshot};
use crate::stat::{age, bytes, rate, short};

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tab {
    Buses,
    Queues,
    Streams,
    Topics,
    Channels,
    Holders,
    Participants,
}

impl Tab {
    pub const ALL: [Self; 7] = [
        Self::Buses,
        Self::Queues,
        Self::Streams,
        Self::Topics,
        Self::Channels,
        Self::Holders,
        Self::Participants,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Self::Buses => "buses",
            Self::Queues => "queues",
            Self::Streams => "streams",
            Self::Topics => "topics",
            Self::Channels => "channels",
            Self::Holders => "holders",
            Self::Participants => "participants",
        }
    }

    /// Titles and widths; a width of 0 takes what is left of the line.
    pub fn columns(self) -> &'static [(&'static str, u16)] {
        match self {
            Self::Buses => &[
                ("BUS", 0),
                ("PEERS", 5),
                ("QUEUES", 6),
                ("STREAMS", 7),
                ("TOPICS", 6),
                ("CHANS", 5),
                ("MESSAGES", 8),
                ("SENT/S", 7),
                ("POOL", 9),
                ("BAD", 3),
            ],
            Self::Queues => &[
                ("QUEUE", 0),
                ("VISIBLE", 7),
                ("FLIGHT", 6),
                ("DELAYED", 7),
                ("PARKED", 6),
                ("SENT/S", 6),
                ("LEFT/S", 6),
                ("OLDEST", 9),
                ("TO DISK", 7),
            ],
            Self::Streams => &[
                ("STREAM", 0),
                ("SHARDS", 6),
                ("RETAINED", 8),
                ("PUT/S", 6),
                ("GROUP", 14),
                ("WORKERS", 7),
                ("BEHIND", 7),
                ("READ/S", 6),
            ],
            Self::Topics => &[
                ("TOPIC", 0),
                ("SUBS", 5),
                ("LISTEN", 6),
                ("WAITING", 7),
                ("PUBLISHED", 9),
                ("PUB/S", 6),
                ("DELIV/S", 7),
                ("FAILED", 6),
            ],
            Self::Channels => &[
                ("CHANNEL", 0),
                ("SENT", 9),
                ("SENT/S", 6),
                ("READERS", 7),
                ("LAG", 8),
                ("LOST", 7),
                ("DROPPED", 7),
                ("MEMORY", 9),
            ],
            Self::Holders => &[
                ("OBJECT", 0),
                ("HOLDS", 9),
                ("COUNT", 7),
                ("BEHIND", 8),
                ("PID", 8),
                ("PARTICIPANT", 24),
            ],
            Self::Participants => &[
                ("PARTICIPANT", 0),
                ("ENTRY", 5),
                ("PID", 8),
                ("STATE", 5),
                ("LEASES", 7),
                ("CLAIMS", 6),
                ("SHARDS", 6),
                ("READERS", 7),
                ("SINCE", 9),
            ],
        }
    }
}

/// What stands in a cell, and what it is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Number(f64, String),
}

impl Cell {
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(_, text) => text,
        }
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Number(..))
    }

    /// Numbers from the largest down, texts from A on.
    pub fn compare(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(one, _), Self::Number(other, _)) => other.total_cmp(one),
            (one, other) => one.text().cmp(other.text()),
        }
    }
}

/// One thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub cells: Vec<Cell>,
    /// Something is wrong with it.
    pub is_bad: bool,
}

fn row(cells: Vec<Cell>) -> Row {
    let is_bad = false;
    Row { cells, is_bad }
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn count(count: u64) -> Cell {
    Cell::Number(count as f64, short(count as f64))
}

fn per_s(value: Option<f64>) -> Cell {
    Cell::Number(value.unwrap_or(-1.0), rate(value))
}

fn size(of: u64) -> Cell {
    Cell::Number(of as f64, bytes(of))
}

fn since(ms: Option<u64>) -> Cell {
    Cell::Number(ms.map_or(-1.0, |ms| ms as f64), age(ms))
}

fn maybe(value: Option<u64>) -> Cell {
    value.map_or(Cell::Number(-1.0, "-".to_owned()), count)
}

/// Every row of a table. With several buses each thing is named with its own.
pub fn rows(tab: Tab, seen: &[Seen], with_bus: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for Seen { bus, looked } in seen {
        let snapshot = match looked {
            Ok(snapshot) => snapshot,
            Err(_) if tab == Tab::Buses => {
                rows.push(Row {
                    cells: vec![text(bus)],
                    is_bad: true,
                });
                continue;
            }
            Err(_) => continue,
        };
        let named = |name: &str| match with_bus {
            true => text(format!("{bus}/{name}")),
            false => text(name),
        };
        match tab {
            Tab::Buses => rows.push(of_bus(snapshot)),
            Tab::Queues => rows.extend(snapshot.queues.iter().map(|queue| {
                let messages = &queue.messages;
                row(vec![
                    named(&queue.name),
                    count(messages.visible),
                    count(messages.in_flight),
                    count(messages.delayed),
                    count(messages.parked + messages.moving),
                    per_s(queue.sent_per_s),
                    per_s(queue.left_per_s),
                    since(queue.oldest_age_ms),
                    maybe(queue.behind_on_disk),
                ])
            })),
            Tab::Streams => {
                for stream in &snapshot.streams {
                    let of_stream = [
                        named(&stream.name),
                        count(stream.open_shards),
                        count(stream.retained),
                        per_s(stream.put_per_s),
                    ];
                    let nobody = [text("-"), count(0), maybe(None), per_s(None)];
                    if stream.groups.is_empty() {
                        rows.push(row(of_stream.iter().chain(&nobody).cloned().collect()));
                    }
                    for group in &stream.groups {
                        let of_group = [
                            text(&group.group),
                            count(group.workers),
                            count(group.behind),
                            per_s(group.read_per_s),
                        ];
                        rows.push(row(of_stream.iter().chain(&of_group).cloned().collect()));
                    }
                }
            }
            Tab::Topics => rows.extend(snapshot.topics.iter().map(|topic| {
                row(vec![
                    named(&topic.name),
                    count(topic.subscriptions),
                    count(topic.listeners),
                    count(topic.waiting),
                    count(topic.published),
                    per_s(topic.published_per_s),
                    per_s(topic.delivered_per_s),
                    count(topic.failed + topic.dead_lettered),
                ])
            })),
            Tab::Channels => rows.extend(snapshot.channels.iter().map(|channel| {
                row(vec![
                    named(&channel.name),
                    count(channel.tail),
                    per_s(channel.sent_per_s),
                    count(channel.readers.len() as u64),
                    count(channel.lag()),
                    count(channel.readers.iter().map(|reader| reader.lost).sum()),
                    count(channel.dropped),
                    size(channel.bytes),
                ])
            })),
            Tab::Holders => holders(snapshot, named, &mut rows),
            Tab::Participants => rows.extend(snapshot.participants.iter().map(|participant| {
                let joined = snapshot.taken_ms.checked_sub(participant.joined_ms);
                let cells = vec![
                    named(&participant.name),
                    Cell::Number(f64::from(participant.entry), participant.entry.to_string()),
                    Cell::Number(participant.pid as f64, participant.pid.to_string()),
                    text(if participant.alive { "alive" } else { "dead" }),
                    count(participant.leases),
                    count(participant.claims),
                    count(participant.shards),
                    count(participant.readers),
                    since(joined),
                ];
                let is_bad = !participant.alive;
                Row { cells, is_bad }
            })),
        }
    }
    rows
}

fn of_bus(snapshot: &Snapshot) -> Row {
    let messages = snapshot.queues.iter().map(|queue| queue.messages.all());
    let queues = snapshot.queues.iter().map(|queue| queue.sent_per_s);
    let streams = snapshot.streams.iter().map(|stream| stream.put_per_s);
    let channels = snapshot.channels.iter().map(|channel| channel.sent_per_s);
    let mut rates = queues.chain(streams).chain(channels).flatten().peekable();
    let sent = rates.peek().is_some().then(|| rates.sum::<f64>());
    Row {
        cells: vec![
            text(&snapshot.bus),
            count(snapshot.participants.len() as u64),
            count(snapshot.queues.len() as u64),
            count(snapshot.streams.len() as u64),
            count(snapshot.topics.len() as u64),
            count(snapshot.channels.len() as u64),
            count(messages.sum()),
            per_s(sent),
            size(snapshot.pool.bytes),
            count(snapshot.damaged.len() as u64),
        ],
        is_bad: !snapshot.damaged.is_empty(),
    }
}

/// Who holds what: claims and leases of messages, shards, seats of readers and producers, roles.
fn holders(snapshot: &Snapshot, named: impl Fn(&str) -> Cell, rows: &mut Vec<Row>) {
    let mut hold = |object: Cell, what: &str, of: Cell, behind: Option<u64>, entry: u16| {
        let mut participants = snapshot.participants.iter();
        let known = participants.find(|participant| participant.entry == entry);
        let pid = known.map_or(Cell::Number(-1.0, "-".to_owned()), |known| {
            Cell::Number(known.pid as f64, known.pid.to_string())
        });
        let name = known.map_or("gone", |known| &known.name);
        rows.push(Row {
            cells: vec![
                object,
                text(what),
                of,
                maybe(behind),
                pid,
                text(format!("{entry} {name}")),
            ],
            is_bad: known.is_none_or(|known| !known.alive),
        });
    };
    let mut messages = |object: &str, held: &[Held]| {
        for held in held {
            if held.leases > 0 {
                hold(
                    named(object),
                    "leases",
                    count(held.leases),
                    None,
                    held.participant,
                );
            }
            if held.claims > 0 {
                hold(
                    named(object),
                    "claims",
                    count(held.claims),
                    None,
                    held.participant,
                );
            }
        }
    };
    for queue in &snapshot.queues {
        messages(&queue.name, &queue.holders);
    }
    for channel in &snapshot.channels {
        messages(&channel.name, &channel.holders);
    }
    for channel in &snapshot.channels {
        if let Some(producer) = channel.producer {
            hold(named(&channel.name), "producer", count(1), None, producer);
        }
        for reader in &channel.readers {
            let lag = Some(reader.lag);
            hold(
                named(&channel.name),
                "reader",
                count(1),
                lag,
                reader.participant,
            );
        }
    }
    for stream in &snapshot.streams {
        for group in &stream.groups {
            for lease in &group.shards {
                if let Some(worker) = lease.worker {
                    let object = named(&format!("{} {}", stream.name, group.group));
                    let number = lease.shard.trim_start_matches("shardId-");
                    let number = number.trim_start_matches('0');
                    let shard = if number.is_empty() { "0" } else { number };
                    let which = text(format!("shard {shard}"));
                    hold(object, "lease", which, Some(lease.behind), worker);
                }
            }
        }
    }
    for role in &snapshot.roles {
        let object = text(format!("role {}", role.role));
        hold(object, "role", count(1), None, role.participant);
    }
}
