//! `ringway stat`: a bus at a moment, in one document.

use crate::output::{Place, Usage, parse_duration};
use crate::snapshot::{Held, Snapshot};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Between two looks; rates over less say nothing.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// Show a whole bus: participants, channels, queues, streams, topics, pool, and who holds what
///
/// Looking takes no part in the bus and changes nothing in it; permission to read is enough. Whatever can't
/// be looked at is listed with the reason.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The bus
    #[arg(value_name = "BUS")]
    pub name: String,
    /// Look twice, so long apart, 100ms or more, and show rates
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub interval: Option<Duration>,
}

const EXAMPLES: &str = "Examples:
  ringway stat demo
  ringway bus stat demo --interval 1s
  ringway stat demo --json | jq '.queues[] | {name, behind: .messages.visible}'
`ringway top demo` shows the same again and again, `ringway metrics` gives it to Prometheus.";

pub fn run(args: &Args, place: &Place) -> anyhow::Result<ExitCode> {
    let snapshot = match args.interval {
        Some(interval) if interval < SHORTEST => {
            return Err(Usage("an interval is 100ms at least".to_owned()).into());
        }
        Some(interval) => Snapshot::take_over(place, &args.name, interval)?,
        None => Snapshot::take(place, &args.name)?,
    };
    let json = serde_json::to_value(&snapshot)?;
    place.say(json, || table(&snapshot));
    Ok(ExitCode::SUCCESS)
}

/// A number as people read it: 999, 12.3k, 4.56M.
pub fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n < 1e3 => (n, ""),
        n if n < 1e6 => (n / 1e3, "k"),
        n if n < 1e9 => (n / 1e6, "M"),
        n if n < 1e12 => (n / 1e9, "G"),
        n => (n / 1e12, "T"),
    };
    match scaled {
        whole if unit.is_empty() && whole.fract() == 0.0 => format!("{whole:.0}"),
        small if small < 10.0 => format!("{small:.2}{unit}"),
        middle if middle < 100.0 => format!("{middle:.1}{unit}"),
        large => format!("{large:.0}{unit}"),
    }
}

/// A rate; `-` where there is none.
pub fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), short)
}

/// Bytes in powers of 1,024.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match scaled.fract() == 0.0 {
        true => format!("{scaled:.0} {}", UNITS[unit]),
        false => format!("{scaled:.1} {}", UNITS[unit]),
    }
}

/// An age of so many milliseconds, to its first two units.
pub fn age(ms: Option<u64>) -> String {
    let Some(ms) = ms else {
        return "-".to_owned();
    };
    match ms / 1000 {
        0 => format!("{ms} ms"),
        s @ 1..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} m {} s", s / 60, s % 60),
        s @ 3600..86_400 => format!("{} h {} m", s / 3600, s % 3600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

fn holders(text: &mut String, snapshot: &Snapshot, holders: &[Held]) -> std::fmt::Result {
    for held in holders {
        let who = snapshot.who(held.participant);
        write!(text, "\n    held by {who}: ")?;
        match (held.claims, held.leases) {
            (claims, 0) => write!(text, "{claims} claims")?,
            (0, leases) => write!(text, "{leases} leases")?,
            (claims, leases) => write!(text, "{claims} claims, {leases} leases")?,
        }
    }
    Ok(())
}

fn table(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    tell(snapshot, &mut text).expect("writing to a string does not fail");
    text
}

fn tell(snapshot: &Snapshot, text: &mut String) -> std::fmt::Result {
    write!(text, "{}", snapshot.directory.display())?;
    if let Some(ms) = snapshot.interval_ms {
        write!(text, "   rates a second, over {ms} ms")?;
    }
    if !snapshot.participants.is_empty() {
        write!(
            text,
            "\n\n{:<11} {:>8} {:<5} {:>7} {:>7} {:>7} {:>7}  name",
            "participant", "pid", "", "claims", "leases", "readers", "shards"
        )?;
    }
    for p in &snapshot.participants {
        let state = if p.alive { "alive" } else { "dead" };
        write!(
            text,
            "\n{:<11} {:>8} {state:<5} {:>7} {:>7} {:>7} {:>7}  {}",
            p.entry, p.pid, p.claims, p.leases, p.readers, p.shards, p.name
        )?;
    }
    for held in &snapshot.roles {
        let who = snapshot.who(held.participant);
        write!(text, "\nrole {:<6} {who}", held.role)?;
    }
    if !snapshot.channels.is_empty() {
        write!(
            text,
            "\n\n{:<28} {:>10} {:>8} {:>7} {:>9} {:>10}",
            "channel", "sent", "sent/s", "readers", "lag", "memory"
        )?;
    }
    for channel in &snapshot.channels {
        write!(
            text,
            "\n{:<28} {:>10} {:>8} {:>7} {:>9} {:>10}",
            channel.name,
            channel.tail,
            rate(channel.sent_per_s),
            channel.readers.len(),
            channel.lag(),
            bytes(channel.bytes)
        )?;
        for reader in &channel.readers {
            let who = snapshot.who(reader.participant);
            let way = if reader.reliable { "reliable" } else { "lossy" };
            write!(
                text,
                "\n    read by {who}: {way}, {} behind, {} lost",
                reader.lag, reader.lost
            )?;
        }
        holders(text, snapshot, &channel.holders)?;
    }
    if !snapshot.queues.is_empty() {
        write!(
            text,
            "\n\n{:<28} {:<8} {:>8} {:>9} {:>7} {:>6} {:>8} {:>8}  {:<9} level",
            "queue",
            "kind",
            "visible",
            "in flight",
            "delayed",
            "parked",
            "sent/s",
            "left/s",
            "oldest"
        )?;
    }
    for queue in &snapshot.queues {
        let m = &queue.messages;
        write!(
            text,
            "\n{:<28} {:<8} {:>8} {:>9} {:>7} {:>6} {:>8} {:>8}  {:<9} {}",
            queue.name,
            queue.kind,
            m.visible,
            m.in_flight,
            m.delayed,
            m.parked + m.moving,
            rate(queue.sent_per_s),
            rate(queue.left_per_s),
            age(queue.oldest_age_ms),
            queue.level
        )?;
        if let Some(behind) = queue.behind_on_disk.filter(|behind| *behind > 0) {
            write!(text, "\n    {behind} positions are not on disk yet")?;
        }
        if let Some(dead) = &queue.dead_letter {
            write!(text, "\n    dead-letter queue {dead}")?;
        }
        holders(text, snapshot, &queue.holders)?;
    }
    if !snapshot.streams.is_empty() {
        write!(
            text,
            "\n\n{:<28} {:>6} {:>6} {:>10} {:>10} {:>8} {:>9} {:>10}",
            "stream", "open", "closed", "retained", "put", "put/s", "lag", "memory"
        )?;
    }
    for stream in &snapshot.streams {
        write!(
            text,
            "\n{:<28} {:>6} {:>6} {:>10} {:>10} {:>8} {:>9} {:>10}",
            stream.name,
            stream.open_shards,
            stream.closed_shards,
            stream.retained,
            stream.positions,
            rate(stream.put_per_s),
            stream.lag(),
            bytes(stream.bytes)
        )?;
        for group in &stream.groups {
            write!(
                text,
                "\n    group {}: {} workers, {} behind, {} read/s",
                group.group,
                group.workers,
                group.behind,
                rate(group.read_per_s)
            )?;
            for lease in &group.shards {
                let who = lease.worker.map(|worker| snapshot.who(worker));
                let who = match (who, lease.waits_for_parents) {
                    (Some(who), _) => format!("read by {who}"),
                    (None, true) => "waits for what it replaced".to_owned(),
                    (None, false) => "read by nobody".to_owned(),
                };
                write!(
                    text,
                    "\n      {} {who}, {} behind",
                    lease.shard, lease.behind
                )?;
            }
        }
    }
    if !snapshot.topics.is_empty() {
        write!(
            text,
            "\n\n{:<28} {:<8} {:>5} {:>5} {:>8} {:>10} {:>8} {:>10} {:>8} {:>6}",
            "topic",
            "kind",
            "subs",
            "ears",
            "waiting",
            "published",
            "pub/s",
            "delivered",
            "deliv/s",
            "failed"
        )?;
    }
    for topic in &snapshot.topics {
        write!(
            text,
            "\n{:<28} {:<8} {:>5} {:>5} {:>8} {:>10} {:>8} {:>10} {:>8} {:>6}",
            topic.name,
            topic.kind,
            topic.subscriptions,
            topic.listeners,
            topic.waiting,
            topic.published,
            rate(topic.published_per_s),
            topic.delivered,
            rate(topic.delivered_per_s),
            topic.failed + topic.dead_lettered
        )?;
    }
    let pool = &snapshot.pool;
    write!(
        text,
        "\n\npool: {} of {}; chunks: {} free, {} owned, {} attached",
        bytes(pool.bytes),
        bytes(pool.quota_bytes),
        pool.free,
        pool.owned,
        pool.attached
    )?;
    for damaged in &snapshot.damaged {
        write!(text, "\ncan't look at {}: {}", damaged.object, damaged.why)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_three_figures() {
        let seen = [0.0, 7.0, 0.5, 999.0, 1234.0, 12_345.0, 1.5e6, 2.5e9, 3e12].map(short);
        let told = [
            "0", "7", "0.50", "999", "1.23k", "12.3k", "1.50M", "2.50G", "3.00T",
        ];
        assert_eq!(seen, told);
        assert_eq!(
            [0, 512, 4096, 5 << 20].map(bytes),
            ["0 B", "512 B", "4 KiB", "5 MiB"]
        );
        assert_eq!(bytes(1_600), "1.6 KiB");
        let ages = [
            None,
            Some(20),
            Some(61_000),
            Some(3_700_000),
            Some(90_000_000),
        ]
        .map(age);
        assert_eq!(ages, ["-", "20 ms", "1 m 1 s", "1 h 1 m", "1 d 1 h"]);
    }
}
