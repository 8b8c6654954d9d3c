//! Taking a snapshot: each object of a bus as an observer finds it, and who holds what.

use super::{
    Channel, Consumer, Damaged, Group, Held, Lease, Messages, Participant, Pool, Queue, Reader,
    Role, Shard, Snapshot, Stream, Topic, Totals,
};
use crate::output::{Place, now_ns};
use anyhow::Context;
use ringway::{
    ChannelStats, ConsumerInfo, GroupInfo, Holder, ObjectKind, ObservedChannel, ObservedQueue,
    ObservedShard, ObservedStream, ObservedTopic, Observer, OpenError, PoolStats, PublishError,
    QueueKind, QueueStats, ShardState,
};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

impl Snapshot {
    /// Looks at a bus now.
    pub fn take(place: &Place, bus: &str) -> anyhow::Result<Self> {
        let monotonic_ns = now_ns();
        let observer = place.observe(bus)?;
        let mut snapshot = Self {
            bus: bus.to_owned(),
            directory: observer.directory().to_owned(),
            taken_ms: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_millis() as u64),
            monotonic_ns,
            interval_ms: None,
            participants: participants(&observer),
            roles: Vec::new(),
            channels: Vec::new(),
            queues: Vec::new(),
            streams: Vec::new(),
            topics: Vec::new(),
            pool: Pool::of(observer.pool()),
            damaged: Vec::new(),
        };
        for (role, participant) in observer.roles() {
            let participant = participant.0;
            snapshot.roles.push(Role { role, participant });
        }
        let mut dead_letters = HashMap::new();
        for object in observer.objects().context("can't list the objects")? {
            let (name, bytes) = (object.name.as_str(), object.bytes);
            let looked = match object.kind {
                ObjectKind::Channel => observer.channel(name).map(|seen| {
                    snapshot.channels.push(Channel::of(name, bytes, &seen));
                }),
                ObjectKind::Queue => observer.queue(name).map(|seen| {
                    dead_letters.insert(seen.id, name.to_owned());
                    snapshot.queues.push(Queue::of(name, &seen));
                }),
                ObjectKind::Stream => observer.stream(name).map(|seen| {
                    snapshot.streams.push(Stream::of(name, &seen));
                }),
                _ => {
                    snapshot.note(name, "not known to this version, or none of ringway's");
                    continue;
                }
            };
            match looked {
                // Removed since they were listed.
                Ok(()) | Err(OpenError::NotFound { .. } | OpenError::Removed { .. }) => {}
                Err(error) => snapshot.note(name, error),
            }
        }
        for name in observer.topics().context("can't list the topics")? {
            match observer.topic(&name) {
                Ok(seen) => snapshot.topics.push(Topic::of(&name, &seen)),
                // Removed since they were listed; or on disk, and nobody has asked for it since the restart.
                Err(
                    PublishError::Removed
                    | PublishError::Open(OpenError::NotFound { .. } | OpenError::Removed { .. }),
                ) => {}
                Err(error) => snapshot.note(&name, error),
            }
        }
        for queue in &mut snapshot.queues {
            let named = queue.dead_letter.as_ref();
            let id = named.and_then(|id| u64::from_str_radix(id, 16).ok());
            if let Some(name) = id.and_then(|id| dead_letters.get(&id)) {
                queue.dead_letter = Some(name.clone());
            }
        }
        snapshot.sum_up_holders();
        Ok(snapshot)
    }

    /// Looks twice, so that there are rates.
    pub fn take_over(place: &Place, bus: &str, interval: Duration) -> anyhow::Result<Self> {
        let before = Self::take(place, bus)?;
        std::thread::sleep(interval);
        let mut now = Self::take(place, bus)?;
        now.rate_since(&before);
        Ok(now)
    }

    fn note(&mut self, object: &str, why: impl ToString) {
        let (object, why) = (object.to_owned(), why.to_string());
        self.damaged.push(Damaged { object, why });
    }

    fn sum_up_holders(&mut self) {
        let mut by_entry: BTreeMap<u16, &mut Participant> = BTreeMap::new();
        for participant in &mut self.participants {
            by_entry.insert(participant.entry, participant);
        }
        let of_channels = self.channels.iter().flat_map(|channel| &channel.holders);
        let of_queues = self.queues.iter().flat_map(|queue| &queue.holders);
        for held in of_channels.chain(of_queues) {
            if let Some(participant) = by_entry.get_mut(&held.participant) {
                participant.claims += held.claims;
                participant.leases += held.leases;
            }
        }
        for reader in self.channels.iter().flat_map(|channel| &channel.readers) {
            if let Some(participant) = by_entry.get_mut(&reader.participant) {
                participant.readers += 1;
            }
        }
        let groups = self.streams.iter().flat_map(|stream| &stream.groups);
        for worker in groups
            .flat_map(|group| &group.shards)
            .filter_map(|lease| lease.worker)
        {
            if let Some(participant) = by_entry.get_mut(&worker) {
                participant.shards += 1;
            }
        }
    }
}

fn participants(observer: &Observer) -> Vec<Participant> {
    let known = observer.participants().into_iter();
    let each = known.map(|participant| Participant {
        entry: participant.slot,
        generation: participant.generation,
        alive: participant.alive,
        pid: participant.pid,
        name: printable(&participant.name),
        joined_ms: participant.joined_ms,
        claims: 0,
        leases: 0,
        shards: 0,
        readers: 0,
    });
    each.collect()
}

/// Names lie in shared memory, where anybody may have written anything: what would move a terminal's cursor is
/// not printed.
fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

fn held(holders: &[Holder]) -> Vec<Held> {
    let each = holders.iter().map(|holder| Held {
        participant: holder.participant.0,
        claims: holder.claims,
        leases: holder.leases,
    });
    each.collect()
}

fn kind(kind: QueueKind) -> String {
    let kind = match kind {
        QueueKind::Standard => "standard",
        QueueKind::Fifo => "fifo",
    };
    kind.to_owned()
}

impl Channel {
    fn of(name: &str, bytes: u64, seen: &ObservedChannel) -> Self {
        let ChannelStats {
            tail,
            trim,
            reclaim,
            ..
        } = seen.stats;
        let readers = seen.stats.readers.iter().map(|reader| Reader {
            participant: reader.participant.0,
            reliable: reader.reliable,
            cursor: reader.cursor,
            lag: tail.saturating_sub(reader.cursor),
            lost: reader.lost,
        });
        Self {
            name: name.to_owned(),
            bytes,
            slots: seen.definition.slots,
            stride: seen.definition.stride,
            tail,
            trim,
            reclaim,
            producer: seen.stats.producer.map(|producer| producer.0),
            readers: readers.collect(),
            holders: held(&seen.holders),
            abandoned: seen.stats.abandoned,
            voided: seen.stats.voided,
            renewed: seen.stats.renewed,
            damaged: seen.stats.damaged,
            dropped: seen.stats.dropped,
            sent_per_s: None,
        }
    }
}

impl Queue {
    fn of(name: &str, seen: &ObservedQueue) -> Self {
        let QueueStats {
            visible,
            in_flight,
            delayed,
            parked,
            moving,
            ..
        } = seen.stats;
        let stats = &seen.stats;
        Self {
            name: name.to_owned(),
            id: format!("{:016x}", seen.id),
            kind: kind(seen.definition.kind),
            level: format!("{:?}", seen.definition.durability).to_lowercase(),
            bytes: stats.bytes,
            max_bytes: seen.definition.max_bytes,
            rings: stats.rings,
            capacity: stats.capacity,
            messages: Messages {
                visible,
                in_flight,
                delayed,
                parked,
                moving,
            },
            oldest_age_ms: stats.oldest_age.map(|age| age.as_millis() as u64),
            positions: seen.positions,
            behind_on_disk: seen.behind_on_disk,
            dead_letter: seen
                .settings
                .redrive
                .as_ref()
                .map(|redrive| format!("{:016x}", redrive.target)),
            totals: Totals {
                sent: stats.sent,
                received: stats.received,
                deleted: stats.deleted,
                expired: stats.expired,
                parked: stats.times_parked,
                moved: stats.moved,
                arrived: stats.arrived,
                released: stats.released,
                purged: stats.purged,
                duplicates: stats.duplicates,
                abandoned: stats.abandoned,
                voided: stats.voided,
                renewed: stats.renewed,
                damaged: stats.damaged,
            },
            holders: held(&seen.holders),
            sent_per_s: None,
            left_per_s: None,
            grown: stats.grown,
        }
    }
}

impl Stream {
    fn of(name: &str, seen: &ObservedStream) -> Self {
        let stats = &seen.stats;
        Self {
            name: name.to_owned(),
            level: format!("{:?}", seen.definition.durability).to_lowercase(),
            bytes: stats.bytes,
            open_shards: stats.open_shards,
            closed_shards: stats.closed_shards,
            shards_made: stats.shards_made,
            positions: stats.positions,
            retained: stats.retained,
            dropped: stats.dropped,
            damaged: stats.damaged,
            shards: seen.shards.iter().filter_map(Shard::of).collect(),
            groups: seen.groups.iter().map(Group::of).collect(),
            consumers: seen.consumers.iter().map(Consumer::of).collect(),
            put_per_s: None,
        }
    }
}

impl Shard {
    fn of(seen: &ObservedShard) -> Option<Self> {
        let positions = seen.positions.as_ref()?;
        Some(Self {
            shard: seen.info.id.to_string(),
            state: match seen.info.state {
                ShardState::Open => "open",
                ShardState::Closed => "closed",
                ShardState::Retired => "retired",
            }
            .to_owned(),
            retained: positions.end - positions.start,
            next_position: positions.end,
        })
    }
}

impl Group {
    fn of(info: &GroupInfo) -> Self {
        let shards = info.shards.iter().map(|shard| Lease {
            shard: shard.shard.to_string(),
            worker: shard.worker.map(|worker| worker.0),
            token: shard.token,
            behind: shard.behind,
            waits_for_parents: shard.waits_for_parents,
        });
        Self {
            group: printable(&info.name),
            workers: info.workers as u64,
            behind: info.shards.iter().map(|shard| shard.behind).sum(),
            shards: shards.collect(),
            read_per_s: None,
        }
    }
}

impl Consumer {
    fn of(info: &ConsumerInfo) -> Self {
        Self {
            consumer: printable(&info.name),
            subscriber: info.subscriber.map(|by| by.0),
            behind: info.behind,
            records: info.records,
            lost: info.lost,
        }
    }
}

impl Topic {
    fn of(name: &str, seen: &ObservedTopic) -> Self {
        let stats = &seen.stats;
        Self {
            name: name.to_owned(),
            kind: kind(seen.definition.kind),
            subscriptions: stats.subscriptions,
            listeners: stats.listeners,
            waiting: stats.waiting,
            published: stats.published,
            delivered: stats.delivered,
            retried: stats.retried,
            dead_lettered: stats.dead_lettered,
            failed: stats.failed,
            damaged: stats.damaged,
            published_per_s: None,
            delivered_per_s: None,
        }
    }
}

impl Pool {
    fn of(stats: PoolStats) -> Self {
        Self {
            segments: stats.segments,
            bytes: stats.bytes,
            quota_bytes: stats.quota_bytes,
            free: stats.free,
            owned: stats.owned,
            attached: stats.attached,
        }
    }
}
