//! What a queue is and holds: `ringway queue ls` and `stat`.

use super::policy::{self, Names};
use super::{dedup, moves};
use crate::find::Noun;
use crate::output::Place;
use ringway::{Bus, Durability, Queue, QueueKind, QueueSettings, QueueStats};
use serde_json::{Value, json};
use std::time::Duration;

/// Everything about one queue.
pub fn one(bus: &str, name: &str, place: &Place) -> anyhow::Result<()> {
    let (bus, queue) = place.queue(bus, name)?;
    let names = Names::of(&bus)?;
    let sources = queue.redrive_sources()?;
    let mut json = describe(&queue, &names);
    json["dead_letter_of"] = json!(sources);
    let task = queue.move_status();
    json["move"] = json!(task.map(|status| moves::describe(&queue, &status, &names)));
    place.say(json, || table(&queue, &names, &sources));
    Ok(())
}

/// What a queue does with its messages.
pub fn settings(bus: &Bus, queue: &Queue, place: &Place) -> anyhow::Result<()> {
    let (settings, names) = (queue.settings(), Names::of(bus)?);
    place.say(describe_settings(&settings, &names), || {
        rows(&settings_rows(&settings, &names))
    });
    Ok(())
}

/// A line for each queue of a bus.
pub fn list(bus: &str, place: &Place) -> anyhow::Result<()> {
    let bus = place.open(bus)?;
    let names = Names::of(&bus)?;
    let mut objects = Vec::new();
    let mut lines = vec![format!(
        "{:<32} {:<8} {:>10} {:>10} {:>10} {:>10}  {}",
        "queue", "kind", "visible", "in flight", "delayed", "capacity", "oldest"
    )];
    for name in Noun::Queue.names(&bus)? {
        match bus.queue(&name).open() {
            Ok(queue) => {
                let stats = queue.stats();
                lines.push(format!(
                    "{name:<32} {:<8} {:>10} {:>10} {:>10} {:>10}  {}",
                    kind(&queue),
                    stats.visible,
                    stats.in_flight,
                    stats.delayed,
                    stats.capacity,
                    age(stats.oldest_age),
                ));
                objects.push(describe(&queue, &names));
            }
            Err(error) => {
                lines.push(format!("{name:<32} {error}"));
                objects.push(json!({"queue": name, "error": error.to_string()}));
            }
        }
    }
    place.say(json!(objects), || {
        if objects.is_empty() {
            format!("no queue on {}", bus.name())
        } else {
            lines.join("\n")
        }
    });
    Ok(())
}

fn describe(queue: &Queue, names: &Names) -> Value {
    let (definition, settings) = (queue.definition(), queue.settings());
    let stats = queue.stats();
    json!({
        "queue": definition.name,
        "id": format!("{:016x}", queue.id()),
        "kind": kind(queue),
        "dedup": dedup::describe(definition.dedup),
        "settings": describe_settings(&settings, names),
        "slots": definition.slots,
        "stride": definition.stride,
        "max_bytes": definition.max_bytes,
        "durability": durability(queue),
        "journal": (definition.durability != Durability::Memory).then(|| json!({
            "read_ahead": definition.read_ahead,
            "durable_position": stats.durable_position,
            "unwritten": stats.unwritten,
            "flushes": stats.flushes,
            "take_overs": stats.take_overs,
            "bytes": stats.journal_bytes,
            "max_bytes": definition.journal_max_bytes,
        })),
        "stall_timeout_ms": ms(definition.stall_timeout),
        "messages": {
            "visible": stats.visible,
            "in_flight": stats.in_flight,
            "delayed": stats.delayed,
            "parked": stats.parked,
            "moving": stats.moving,
            "oldest_age_ms": stats.oldest_age.map(ms),
            "capacity": stats.capacity,
            "rings": stats.rings,
            "bytes": stats.bytes,
        },
        "totals": {
            "sent": stats.sent,
            "received": stats.received,
            "deleted": stats.deleted,
            "expired": stats.expired,
            "parked": stats.times_parked,
            "moved": stats.moved,
            "arrived": stats.arrived,
            "released": stats.released,
            "purged": stats.purged,
            "abandoned": stats.abandoned,
            "voided": stats.voided,
            "renewed": stats.renewed,
            "damaged": stats.damaged,
        },
    })
}

/// As people call it.
pub fn kind(queue: &Queue) -> &'static str {
    match queue.definition().kind {
        QueueKind::Standard => "standard",
        QueueKind::Fifo => "FIFO",
    }
}

fn durability(queue: &Queue) -> &'static str {
    match queue.definition().durability {
        Durability::Durable => "durable",
        Durability::Async => "async",
        _ => "memory",
    }
}

/// What there is to be said of a journal; nothing in memory.
fn journal_rows(queue: &Queue, stats: &QueueStats) -> Vec<(&'static str, String)> {
    let definition = queue.definition();
    if definition.durability == Durability::Memory {
        return Vec::new();
    }
    let ahead = if definition.read_ahead { "yes" } else { "no" };
    let most = definition
        .journal_max_bytes
        .map_or("no limit".to_owned(), |most| format!("{most} bytes"));
    vec![
        ("durability", durability(queue).to_owned()),
        ("read ahead", ahead.to_owned()),
        ("on disk below position", stats.durable_position.to_string()),
        ("not on disk yet", stats.unwritten.to_string()),
        ("bytes", stats.journal_bytes.to_string()),
        ("most bytes", most),
        ("flushes", stats.flushes.to_string()),
        ("taken over", stats.take_overs.to_string()),
    ]
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn describe_settings(settings: &QueueSettings, names: &Names) -> Value {
    let (dead_letter, allow_sources) = policy::describe(settings, names);
    json!({
        "visibility_ms": ms(settings.visibility),
        "delay_ms": ms(settings.delay),
        "retention_ms": ms(settings.retention),
        "max_message_bytes": settings.max_message_bytes,
        "receive_wait_ms": ms(settings.receive_wait),
        "redeliver_on_death": settings.redeliver_on_death,
        "max_messages": settings.max_messages,
        "max_in_flight": settings.max_in_flight,
        "dead_letter": dead_letter,
        "allow_sources": allow_sources,
    })
}

fn settings_rows(settings: &QueueSettings, names: &Names) -> Vec<(&'static str, String)> {
    let redelivered = if settings.redeliver_on_death {
        "visible at once"
    } else {
        "visible after the time-out"
    };
    let mut rows = vec![
        ("visibility time-out", time(settings.visibility)),
        ("delay", time(settings.delay)),
        ("retention", time(settings.retention)),
        (
            "largest body",
            format!("{} bytes", settings.max_message_bytes),
        ),
        ("receive wait", time(settings.receive_wait)),
        ("a dead holder's messages", redelivered.to_owned()),
        ("most messages", limit(settings.max_messages)),
        ("most in flight", limit(settings.max_in_flight)),
    ];
    rows.extend(policy::rows(settings, names));
    rows
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or("no limit".to_owned(), |limit| limit.to_string())
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn rows(rows: &[(&str, String)]) -> String {
    let rows = rows.iter();
    let lines: Vec<_> = rows
        .map(|(name, value)| format!("  {name:<26} {value}"))
        .collect();
    lines.join("\n")
}

fn table(queue: &Queue, names: &Names, sources: &[String]) -> String {
    let (definition, settings) = (queue.definition(), queue.settings());
    let stats = queue.stats();
    let count = |count: u64| count.to_string();
    let groups = [
        ("settings", settings_rows(&settings, names)),
        (
            "fixed",
            vec![
                ("kind", kind(queue).to_owned()),
                dedup::row(definition.dedup),
                ("slots", count(definition.slots)),
                ("stride", format!("{} bytes", definition.stride)),
                ("grows to", format!("{} bytes", definition.max_bytes)),
                ("stall time-out", time(definition.stall_timeout)),
            ],
        ),
        (
            "messages",
            vec![
                ("visible", count(stats.visible)),
                ("in flight", count(stats.in_flight)),
                ("delayed", count(stats.delayed)),
                ("parked", count(stats.parked)),
                ("moving", count(stats.moving)),
                ("age of the oldest", age(stats.oldest_age)),
                ("capacity", count(stats.capacity)),
                ("rings", format!("{} of {} bytes", stats.rings, stats.bytes)),
            ],
        ),
        (
            "totals",
            vec![
                ("sent", count(stats.sent)),
                ("received", count(stats.received)),
                ("deleted", count(stats.deleted)),
                ("expired", count(stats.expired)),
                ("parked", count(stats.times_parked)),
                ("moved to other queues", count(stats.moved)),
                ("arrived from others", count(stats.arrived)),
                ("released from the dead", count(stats.released)),
                ("purged", count(stats.purged)),
                ("senders stepped over", count(stats.abandoned)),
                ("dead senders' claims", count(stats.voided)),
                ("stepped over in flight", count(stats.renewed)),
                ("damaged", count(stats.damaged)),
            ],
        ),
    ];
    let mut text = format!("{} ({:016x})", definition.name, queue.id());
    if !sources.is_empty() {
        text += &format!("\nthe dead-letter queue of {}", sources.join(", "));
    }
    let on_disk = ("journal", journal_rows(queue, &stats));
    let groups = groups.into_iter().chain([on_disk]);
    for (title, group) in groups.filter(|(_, group)| !group.is_empty()) {
        text += &format!("\n\n{title}\n{}", rows(&group));
    }
    text
}

/// Whole seconds, or milliseconds below one: more is noise.
fn age(age: Option<Duration>) -> String {
    age.map_or("-".to_owned(), |age| {
        let shown = if age < Duration::from_secs(1) {
            Duration::from_millis(age.as_millis() as u64)
        } else {
            Duration::from_secs(age.as_secs())
        };
        humantime::format_duration(shown).to_string()
    })
}
