//! Streams, shards and groups for people, and as JSON.

use super::consumer;
use crate::find::Noun;
use crate::output::Place;
use ringway::{
    Backpressure, Durability, GroupInfo, Producers, Scaled, ShardInfo, ShardState, Stream,
};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

pub fn list(bus_name: &str, place: &Place) -> anyhow::Result<()> {
    let bus = place.open(bus_name)?;
    let mut rows = Vec::new();
    for name in Noun::Stream.names(&bus)? {
        // One that is damaged, or goes meanwhile, has no counts.
        let stats = bus
            .stream(&name)
            .open()
            .and_then(|stream| stream.stats())
            .ok();
        rows.push((name, stats));
    }
    let json = rows.iter().map(|(name, stats)| match stats {
        Some(s) => json!({
            "name": name, "open_shards": s.open_shards, "closed_shards": s.closed_shards,
            "retained": s.retained, "positions": s.positions, "bytes": s.bytes,
        }),
        None => json!({"name": name, "broken": true}),
    });
    place.say(json.collect(), || {
        if rows.is_empty() {
            return format!(
                "no stream on {bus_name}; `ringway stream create {bus_name} NAME` makes one"
            );
        }
        let mut text = format!(
            "{:<40} {:>6} {:>8} {:>12} {:>12}",
            "stream", "open", "closed", "retained", "bytes"
        );
        for (name, stats) in &rows {
            let _ = match stats {
                Some(s) => write!(
                    text,
                    "\n{name:<40} {:>6} {:>8} {:>12} {:>12}",
                    s.open_shards, s.closed_shards, s.retained, s.bytes
                ),
                None => write!(
                    text,
                    "\n{name:<40} can't be opened; see `ringway doctor {bus_name}`"
                ),
            };
        }
        text
    });
    Ok(())
}

fn state(shard: &ShardInfo) -> &'static str {
    match shard.state {
        ShardState::Open => "open",
        ShardState::Closed => "closed",
        ShardState::Retired => "retired",
    }
}

pub fn shards(stream: &Stream, only_open: bool, place: &Place) -> anyhow::Result<()> {
    let mut shards = stream.shards()?;
    shards.retain(|shard| !only_open || shard.state == ShardState::Open);
    let mut json = Vec::new();
    let mut text = format!(
        "{:<20} {:<8} {:>10} {:>12}  {:<32}  first and last hash key",
        "shard", "state", "retained", "next", "replaced"
    );
    for shard in &shards {
        let parents: Vec<String> = shard.lineage().map(|parent| parent.to_string()).collect();
        // One that is retired meanwhile has none any more.
        let positions = match shard.state {
            ShardState::Retired => None,
            _ => stream.positions(shard.id).ok(),
        };
        let retained = positions.clone().map(|range| range.end - range.start);
        let is_on_disk = stream.retention().is_some() && positions.is_some();
        let durable = is_on_disk.then(|| stream.durable_position(shard.id).ok());
        json.push(json!({
            "shard": shard.id.to_string(), "state": state(shard), "parents": parents,
            "starting_hash_key": shard.start.to_string(), "ending_hash_key": shard.end.to_string(),
            "created_ms": shard.created_ms, "closed_ms": shard.closed_ms,
            "next_position": positions.as_ref().map(|range| range.end), "retained": retained,
            "durable_position": durable,
        }));
        let shown =
            |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let short: Vec<String> = shard.lineage().map(|parent| parent.0.to_string()).collect();
        let replaced = if short.is_empty() {
            "-".to_owned()
        } else {
            short.join(" and ")
        };
        let _ = write!(
            text,
            "\n{:<20} {:<8} {:>10} {:>12}  {replaced:<32}  {:039} {:039}",
            shard.id.to_string(),
            state(shard),
            shown(retained),
            shown(positions.map(|range| range.end)),
            shard.start,
            shard.end,
        );
    }
    place.say(json!(json), || text);
    Ok(())
}

/// What a stream did by its load.
pub fn did(scaled: Scaled) -> String {
    match scaled {
        Scaled::Split(shard) => format!("split {shard}"),
        Scaled::Merge(shard) => format!("merged {shard} with its neighbour"),
    }
}

fn group_json(group: &GroupInfo) -> Value {
    let shards: Vec<_> = group
        .shards
        .iter()
        .map(|shard| {
            json!({
                "shard": shard.shard.to_string(), "worker": shard.worker.map(|worker| worker.0),
                "token": shard.token, "checkpoint": shard.checkpoint.to_string(),
                "behind": shard.behind, "waits_for_parents": shard.waits_for_parents,
            })
        })
        .collect();
    json!({"group": group.name, "workers": group.workers, "shards": shards})
}

pub fn stat(stream: &Stream, place: &Place) -> anyhow::Result<()> {
    let (definition, stats, groups) = (stream.definition(), stream.stats()?, stream.groups()?);
    let consumers = stream.consumers()?;
    let when_full = match definition.backpressure {
        Backpressure::Block(timeout) => {
            format!("puts wait up to {}", humantime::format_duration(timeout))
        }
        Backpressure::Fail => "puts fail".to_owned(),
        Backpressure::DropOldest => "the oldest records are dropped".to_owned(),
    };
    let limits = definition.limits.map(|limits| {
        json!({"records": limits.records, "bytes": limits.bytes, "read_bytes": limits.read_bytes})
    });
    let level = match definition.durability {
        Durability::Memory => "memory",
        Durability::Async => "async",
        _ => "durable",
    };
    let is_exclusive = definition.producers == Producers::Exclusive;
    let (retention, disk_bytes) = (stream.retention(), stream.disk_bytes()?);
    let kept = match retention {
        None => "in memory".to_owned(),
        Some(kept) => format!(
            "{level}, kept for {}, {disk_bytes} bytes on disk",
            humantime::format_duration(kept.age)
        ),
    };
    let scaling = stream.scaling();
    let scaling_json = scaling.map(|scaling| {
        json!({
            "min_shards": scaling.mode.min_shards, "max_shards": scaling.mode.max_shards,
            "records": scaling.mode.records, "bytes": scaling.mode.bytes,
            "window_ms": scaling.mode.window.as_millis() as u64,
            "calm_ms": scaling.mode.calm.as_millis() as u64,
            "splits": scaling.splits, "merges": scaling.merges,
            "last": scaling.last.map(|(scaled, at_ms)| json!({"did": did(scaled), "at_ms": at_ms})),
        })
    });
    let json = json!({
        "on_demand": scaling_json,
        "name": definition.name, "level": level, "retention_ms": retention.map(|kept| kept.age.as_millis() as u64),
        "retention_bytes": retention.and_then(|kept| kept.bytes), "disk_bytes": disk_bytes, "slots": definition.slots,
        "stride": definition.stride, "when_full": when_full, "limits": limits,
        "producers": if is_exclusive { "exclusive" } else { "shared" },
        "lease_timeout_ms": definition.lease_timeout.as_millis() as u64,
        "open_shards": stats.open_shards, "closed_shards": stats.closed_shards,
        "shards_made": stats.shards_made, "positions": stats.positions, "retained": stats.retained,
        "dropped": stats.dropped, "damaged": stats.damaged, "bytes": stats.bytes,
        "unwritten": stats.unwritten, "flushes": stats.flushes, "take_overs": stats.take_overs,
        "created_ms": stream.created_ms(),
        "groups": groups.iter().map(group_json).collect::<Vec<_>>(),
        "consumers": consumers.iter().map(consumer::json).collect::<Vec<_>>(),
    });
    place.say(json, || {
        let mut text = format!(
            "{}: {kept}, {} slots of {} bytes in each shard; when one is full, {when_full}\n\
             shards    {} open, {} closed, {} ever made\n\
             records   {} retained, {} positions ever given, {} dropped, {} damaged\n\
             memory    {} bytes",
            definition.name,
            definition.slots,
            definition.stride,
            stats.open_shards,
            stats.closed_shards,
            stats.shards_made,
            stats.retained,
            stats.positions,
            stats.dropped,
            stats.damaged,
            stats.bytes,
        );
        if is_exclusive {
            text.push_str("\nputs      one producer for each shard at a time");
        }
        if retention.is_some() {
            let _ = write!(
                text,
                "\ndisk      {} positions not there yet, {} writes that all waited for, {} writers taken over from",
                stats.unwritten, stats.flushes, stats.take_overs
            );
        }
        if let Some(limits) = definition.limits {
            let _ = write!(
                text,
                "\nlimits    {} records and {} bytes in, {} bytes out, a second and shard",
                limits.records, limits.bytes, limits.read_bytes
            );
        }
        if let Some(scaling) = scaling {
            let _ = write!(
                text,
                "\non demand {} to {} shards, each for {} records and {} bytes a second; {} splits, {} merges",
                scaling.mode.min_shards,
                scaling.mode.max_shards,
                scaling.mode.records,
                scaling.mode.bytes,
                scaling.splits,
                scaling.merges
            );
            if let Some((scaled, at_ms)) = scaling.last {
                let at = std::time::UNIX_EPOCH + Duration::from_millis(at_ms);
                let at = humantime::format_rfc3339_seconds(at);
                let _ = write!(text, ", the last at {at}: {}", did(scaled));
            }
        }
        for group in &groups {
            let behind: u64 = group.shards.iter().map(|shard| shard.behind).sum();
            let _ = write!(
                text,
                "\n\ngroup {}: {} workers, {behind} behind",
                group.name, group.workers
            );
            for shard in &group.shards {
                let who = match (shard.worker, shard.waits_for_parents) {
                    (Some(worker), _) => worker.to_string(),
                    (None, true) => "waits for what it replaced".to_owned(),
                    (None, false) => "nobody".to_owned(),
                };
                let _ = write!(
                    text,
                    "\n  {}  {:>10} behind  token {:>6}  {who}",
                    shard.shard, shard.behind, shard.token
                );
            }
        }
        if !consumers.is_empty() {
            let _ = write!(text, "\n\n{}", consumer::table(&consumers));
        }
        text
    });
    Ok(())
}
