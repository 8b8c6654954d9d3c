//! The families of metrics, and what a snapshot says of each.
//!
//! Names follow the conventions of Prometheus: units at the end, counters in `_total` (both are appended by
//! the encoder), one meaning a family, what differs in labels. Totals of queues and topics lag by up to 63 of
//! each sender and receiver; a counter that went back tells Prometheus of a bus that was made anew.

use crate::snapshot::{Channel, Held, Queue, Snapshot, Stream, Topic};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// What a family is.
#[derive(Clone, Copy, Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<&'static str>,
    is_counter: bool,
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        help,
        unit: None,
        is_counter: false,
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        help,
        unit: None,
        is_counter: true,
    }
}

impl Family {
    const fn in_unit(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }
}

macro_rules! families {
    ($($constant:ident = $family:expr;)*) => {
        /// Where a family stands in [`FAMILIES`].
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Name { $($constant),* }
        const FAMILIES: &[Family] = &[$($family),*];
    };
}

families! {
    BUS_UP = gauge("bus_up", "Whether the bus can be looked at: 1, or 0.");
    LOOK = gauge("look_duration", "How long the look at a bus took.").in_unit("seconds");
    DAMAGED_OBJECTS = gauge("damaged_objects", "Objects of a bus that can't be looked at.");
    PARTICIPANTS = gauge("participants", "Participants of a bus, the dead until they are reaped.");
    LEASES = gauge("held_leases", "Messages that a participant has in flight.");
    CLAIMS = gauge("held_claims", "Slots that a participant has claimed and not committed.");
    POOL_SIZE = gauge("pool_size", "Size of the payload pool.").in_unit("bytes");
    POOL_QUOTA = gauge("pool_quota", "Size that the payload pool may grow to.").in_unit("bytes");
    POOL_CHUNKS = gauge("pool_chunks", "Chunks of the payload pool by state.");

    CHANNEL_RECORDS = counter("channel_records", "Positions given in a channel: records, and claims given up.");
    CHANNEL_SIZE = gauge("channel_size", "Size of a channel.").in_unit("bytes");
    CHANNEL_READERS = gauge("channel_readers", "Readers of a channel.");
    CHANNEL_LAG = gauge("channel_reader_lag_records", "Records that a reader of a channel has not read.");
    CHANNEL_LOST = counter("channel_reader_lost_records", "Records that a reader was told it missed.");
    CHANNEL_DROPPED = counter("channel_dropped_records", "Records overwritten by a channel that drops its oldest.");
    CHANNEL_ABANDONED = counter("channel_abandoned_claims", "Claims of stopped producers that were stepped over.");
    CHANNEL_VOIDED = counter("channel_voided_claims", "Claims of dead producers that were voided.");
    CHANNEL_DAMAGED = counter("channel_damaged_slots", "Slots of a channel found with an impossible header.");

    QUEUE_MESSAGES = gauge("queue_messages", "Messages of a queue by state.");
    QUEUE_AGE = gauge("queue_oldest_message_age", "Age of the oldest message of a queue, 0 for none.").in_unit("seconds");
    QUEUE_CAPACITY = gauge("queue_capacity_messages", "Messages that the rings of a queue have room for.");
    QUEUE_SIZE = gauge("queue_size", "Size of the rings of a queue.").in_unit("bytes");
    QUEUE_MAX_SIZE = gauge("queue_max_size", "Size that the rings of a queue may grow to.").in_unit("bytes");
    QUEUE_RINGS = gauge("queue_rings", "Rings of a queue.");
    QUEUE_BEHIND = gauge("queue_undurable_messages", "Positions of a durable queue that the disk does not have yet.");
    QUEUE_SENT = counter("queue_sent_messages", "Messages sent to a queue.");
    QUEUE_RECEIVED = counter("queue_received_messages", "Receives of a queue.");
    QUEUE_DELETED = counter("queue_deleted_messages", "Messages of a queue deleted.");
    QUEUE_EXPIRED = counter("queue_expired_messages", "Messages of a queue that were older than its retention.");
    QUEUE_PARKED = counter("queue_parked_messages", "Times that messages of a queue were parked.");
    QUEUE_MOVED = counter("queue_moved_messages", "Messages moved from a queue to another.");
    QUEUE_ARRIVED = counter("queue_arrived_messages", "Messages that arrived in a queue from another.");
    QUEUE_RELEASED = counter("queue_released_leases", "Leases of the dead that were ended.");
    QUEUE_PURGED = counter("queue_purged_messages", "Messages of a queue purged.");
    QUEUE_DUPLICATES = counter("queue_duplicate_messages", "Sends to a queue that were repeats, and not delivered.");
    QUEUE_ABANDONED = counter("queue_abandoned_claims", "Claims of stopped senders that were stepped over.");
    QUEUE_VOIDED = counter("queue_voided_claims", "Claims of dead senders that were voided.");
    QUEUE_RENEWED = counter("queue_renewed_messages", "Messages in flight that a sender stepped over.");
    QUEUE_DAMAGED = counter("queue_damaged_slots", "Slots of a queue found with an impossible header.");

    STREAM_SHARDS = gauge("stream_shards", "Shards of a stream by state.");
    STREAM_RECORDS = counter("stream_records", "Positions given in a stream: records, and puts given up.");
    STREAM_RETAINED = gauge("stream_retained_records", "Records of a stream that can be read.");
    STREAM_DROPPED = counter("stream_dropped_records", "Records dropped unread by a stream that drops its oldest.");
    STREAM_DAMAGED = counter("stream_damaged_slots", "Slots of a stream found with an impossible header.");
    STREAM_SIZE = gauge("stream_size", "Size of a stream.").in_unit("bytes");
    GROUP_WORKERS = gauge("stream_group_workers", "Workers of a consumer group that live.");
    GROUP_BEHIND = gauge("stream_group_behind_records", "Records that a consumer group has not checkpointed.");
    GROUP_IDLE = gauge("stream_group_unread_shards", "Shards that no worker of a consumer group reads.");
    CONSUMER_SUBSCRIBERS = gauge("stream_consumer_subscribers", "Subscribers of a registered consumer that live: one, or none.");
    CONSUMER_BEHIND = gauge("stream_consumer_behind_records", "Records that the subscriber of a registered consumer was not handed yet.");
    CONSUMER_RECORDS = counter("stream_consumer_records", "Records that a registered consumer was handed.");
    CONSUMER_LOST = counter("stream_consumer_lost_records", "Records that a registered consumer was too slow for.");

    TOPIC_SUBSCRIPTIONS = gauge("topic_subscriptions", "Subscriptions of a topic.");
    TOPIC_LISTENERS = gauge("topic_listeners", "Listeners of a topic.");
    TOPIC_WAITING = gauge("topic_waiting_messages", "Messages of a topic to be handed on.");
    TOPIC_PUBLISHED = counter("topic_published_messages", "Messages published to a topic.");
    TOPIC_DELIVERED = counter("topic_delivered_messages", "Deliveries of a topic to queues.");
    TOPIC_RETRIED = counter("topic_retried_deliveries", "Deliveries put off because a queue had no room.");
    TOPIC_DEAD = counter("topic_dead_lettered_deliveries", "Deliveries that went to a dead-letter queue.");
    TOPIC_FAILED = counter("topic_failed_deliveries", "Deliveries that were given up.");
    TOPIC_DAMAGED = counter("topic_damaged_records", "Messages and records of a topic that were none.");
}

/// Samples by family.
#[derive(Debug)]
pub struct Metrics(Vec<Vec<(Labels, f64)>>);

impl Metrics {
    pub fn new() -> Self {
        Self(vec![Vec::new(); FAMILIES.len()])
    }

    fn set(&mut self, name: Name, labels: Labels, value: f64) {
        self.0[name as usize].push((labels, value));
    }

    /// What a look at a bus has shown.
    pub fn add(&mut self, bus: &str, looked: anyhow::Result<Snapshot>, took: Duration) {
        let labels = || vec![("bus", bus.to_owned())];
        self.set(Name::BUS_UP, labels(), f64::from(u8::from(looked.is_ok())));
        self.set(Name::LOOK, labels(), took.as_secs_f64());
        if let Ok(snapshot) = looked {
            self.add_bus(&snapshot);
        }
    }

    fn add_bus(&mut self, snapshot: &Snapshot) {
        let bus = &snapshot.bus;
        let of_bus = |more: &[(&'static str, &str)]| {
            let mut labels = vec![("bus", bus.clone())];
            labels.extend(
                more.iter()
                    .map(|(name, value)| (*name, (*value).to_owned())),
            );
            labels
        };
        let damaged = snapshot.damaged.len() as f64;
        self.set(Name::DAMAGED_OBJECTS, of_bus(&[]), damaged);
        let alive = snapshot.participants.iter().filter(|p| p.alive).count();
        let dead = snapshot.participants.len() - alive;
        for (state, count) in [("alive", alive), ("dead", dead)] {
            self.set(
                Name::PARTICIPANTS,
                of_bus(&[("state", state)]),
                count as f64,
            );
        }
        let pool = &snapshot.pool;
        self.set(Name::POOL_SIZE, of_bus(&[]), pool.bytes as f64);
        self.set(Name::POOL_QUOTA, of_bus(&[]), pool.quota_bytes as f64);
        for (state, count) in [
            ("free", pool.free),
            ("owned", pool.owned),
            ("attached", pool.attached),
        ] {
            self.set(Name::POOL_CHUNKS, of_bus(&[("state", state)]), count as f64);
        }
        for channel in &snapshot.channels {
            let labels = of_bus(&[("channel", &channel.name)]);
            self.add_channel(&labels, channel);
            self.add_holders(&labels, &channel.holders);
        }
        for queue in &snapshot.queues {
            let labels = of_bus(&[("queue", &queue.name)]);
            self.add_queue(&labels, queue);
            self.add_holders(&labels, &queue.holders);
        }
        for stream in &snapshot.streams {
            let labels = of_bus(&[("stream", &stream.name)]);
            self.add_stream(&labels, stream);
            self.add_consumers(&labels, stream);
        }
        for topic in &snapshot.topics {
            self.add_topic(&of_bus(&[("topic", &topic.name)]), topic);
        }
    }

    fn set_each(&mut self, labels: &Labels, values: &[(Name, u64)]) {
        for (name, value) in values {
            self.set(*name, labels.clone(), *value as f64);
        }
    }

    fn add_holders(&mut self, labels: &Labels, holders: &[Held]) {
        for held in holders {
            let labels = with(labels, "participant", held.participant);
            self.set_each(
                &labels,
                &[(Name::CLAIMS, held.claims), (Name::LEASES, held.leases)],
            );
        }
    }

    fn add_channel(&mut self, labels: &Labels, channel: &Channel) {
        self.set_each(
            labels,
            &[
                (Name::CHANNEL_RECORDS, channel.tail),
                (Name::CHANNEL_SIZE, channel.bytes),
                (Name::CHANNEL_READERS, channel.readers.len() as u64),
                (Name::CHANNEL_DROPPED, channel.dropped),
                (Name::CHANNEL_ABANDONED, channel.abandoned),
                (Name::CHANNEL_VOIDED, channel.voided),
                (Name::CHANNEL_DAMAGED, channel.damaged),
            ],
        );
        // A participant may read a channel several times.
        for (number, reader) in channel.readers.iter().enumerate() {
            let labels = with(labels, "participant", reader.participant);
            let labels = with(&labels, "reader", number);
            self.set_each(
                &labels,
                &[
                    (Name::CHANNEL_LAG, reader.lag),
                    (Name::CHANNEL_LOST, reader.lost),
                ],
            );
        }
    }

    fn add_queue(&mut self, labels: &Labels, queue: &Queue) {
        let messages = &queue.messages;
        for (state, count) in [
            ("visible", messages.visible),
            ("in_flight", messages.in_flight),
            ("delayed", messages.delayed),
            ("parked", messages.parked),
            ("moving", messages.moving),
        ] {
            let labels = with(labels, "state", state);
            self.set(Name::QUEUE_MESSAGES, labels, count as f64);
        }
        let age = queue.oldest_age_ms.unwrap_or(0) as f64 / 1e3;
        self.set(Name::QUEUE_AGE, labels.clone(), age);
        if let Some(behind) = queue.behind_on_disk {
            self.set(Name::QUEUE_BEHIND, labels.clone(), behind as f64);
        }
        let totals = &queue.totals;
        self.set_each(
            labels,
            &[
                (Name::QUEUE_CAPACITY, queue.capacity),
                (Name::QUEUE_SIZE, queue.bytes),
                (Name::QUEUE_MAX_SIZE, queue.max_bytes),
                (Name::QUEUE_RINGS, queue.rings),
                (Name::QUEUE_SENT, totals.sent),
                (Name::QUEUE_RECEIVED, totals.received),
                (Name::QUEUE_DELETED, totals.deleted),
                (Name::QUEUE_EXPIRED, totals.expired),
                (Name::QUEUE_PARKED, totals.parked),
                (Name::QUEUE_MOVED, totals.moved),
                (Name::QUEUE_ARRIVED, totals.arrived),
                (Name::QUEUE_RELEASED, totals.released),
                (Name::QUEUE_PURGED, totals.purged),
                (Name::QUEUE_DUPLICATES, totals.duplicates),
                (Name::QUEUE_ABANDONED, totals.abandoned),
                (Name::QUEUE_VOIDED, totals.voided),
                (Name::QUEUE_RENEWED, totals.renewed),
                (Name::QUEUE_DAMAGED, totals.damaged),
            ],
        );
    }

    fn add_stream(&mut self, labels: &Labels, stream: &Stream) {
        for (state, count) in [
            ("open", stream.open_shards),
            ("closed", stream.closed_shards),
        ] {
            let labels = with(labels, "state", state);
            self.set(Name::STREAM_SHARDS, labels, count as f64);
        }
        self.set_each(
            labels,
            &[
                (Name::STREAM_RECORDS, stream.positions),
                (Name::STREAM_RETAINED, stream.retained),
                (Name::STREAM_DROPPED, stream.dropped),
                (Name::STREAM_DAMAGED, stream.damaged),
                (Name::STREAM_SIZE, stream.bytes),
            ],
        );
        for group in &stream.groups {
            let labels = with(labels, "group", &group.group);
            let ready = group.shards.iter().filter(|shard| !shard.waits_for_parents);
            let idle = ready.filter(|shard| shard.worker.is_none()).count();
            self.set_each(
                &labels,
                &[
                    (Name::GROUP_WORKERS, group.workers),
                    (Name::GROUP_BEHIND, group.behind),
                    (Name::GROUP_IDLE, idle as u64),
                ],
            );
        }
    }

    fn add_consumers(&mut self, labels: &Labels, stream: &Stream) {
        for consumer in &stream.consumers {
            self.set_each(
                &with(labels, "consumer", &consumer.consumer),
                &[
                    (
                        Name::CONSUMER_SUBSCRIBERS,
                        u64::from(consumer.subscriber.is_some()),
                    ),
                    (Name::CONSUMER_BEHIND, consumer.behind),
                    (Name::CONSUMER_RECORDS, consumer.records),
                    (Name::CONSUMER_LOST, consumer.lost),
                ],
            );
        }
    }

    fn add_topic(&mut self, labels: &Labels, topic: &Topic) {
        self.set_each(
            labels,
            &[
                (Name::TOPIC_SUBSCRIPTIONS, topic.subscriptions),
                (Name::TOPIC_LISTENERS, topic.listeners),
                (Name::TOPIC_WAITING, topic.waiting),
                (Name::TOPIC_PUBLISHED, topic.published),
                (Name::TOPIC_DELIVERED, topic.delivered),
                (Name::TOPIC_RETRIED, topic.retried),
                (Name::TOPIC_DEAD, topic.dead_lettered),
                (Name::TOPIC_FAILED, topic.failed),
                (Name::TOPIC_DAMAGED, topic.damaged),
            ],
        );
    }
}

fn with(labels: &Labels, name: &'static str, value: impl ToString) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_string()));
    labels
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for (family, samples) in FAMILIES.iter().zip(&self.0) {
            if samples.is_empty() {
                continue;
            }
            let kind = match family.is_counter {
                true => MetricType::Counter,
                false => MetricType::Gauge,
            };
            let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for (labels, value) in samples {
                let mut one = metric.encode_family(labels)?;
                match family.is_counter {
                    true => one.encode_counter::<NoLabelSet, _, u64>(&(*value as u64), None)?,
                    false => one.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}
