//! Figures as text: one table per section, numbers aligned, units beside them.

use super::summary::{Row, Summary};
use ringway_measure::{Mode, Scenario};

/// The table of a section, with its heading; ends with a line break.
pub(super) fn render(summary: &Summary) -> String {
    if summary.rows.is_empty() {
        return format!("{}\n  no round succeeded\n", heading(summary));
    }
    let timed = summary.scenario.is_timed();
    let blocks = summary.rows.iter().any(|row| row.block_p50_ns.is_some());
    let ratio = format!("/ {}", summary.limit);
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut heads = vec![String::new()];
    let lives = summary.rows.iter().any(|row| row.mean_ns.is_some());
    if lives {
        heads.extend(["mean", "send", "receive", "delete", "private", "shared"].map(str::to_owned));
    } else if timed {
        heads.extend(blocks.then(|| "mean".to_owned()));
        heads.extend(["p50", "p99", "p99.9"].map(str::to_owned));
    } else {
        heads.extend(["msgs/s", "bytes/s"].map(str::to_owned));
    }
    heads.push(ratio);
    lines.push(heads);
    for row in &summary.rows {
        lines.push(cells(row, timed, blocks));
    }
    format!("{}\n{}", heading(summary), align(&lines))
}

fn heading(summary: &Summary) -> String {
    let what = match summary.scenario {
        Scenario::Latency => "half a round trip",
        Scenario::Throughput => "one sender, one receiver, one commit per message",
        Scenario::Batch => "one sender, one receiver, handed over in batches",
        Scenario::Contended => "two senders at once",
        Scenario::Copy => "copied in and out",
        Scenario::Zerocopy => "half a round trip, written and read in place",
        Scenario::Wake => "from the send until a sleeping receiver runs",
        Scenario::QueueLatency => "half a round trip, the message before deleted",
        Scenario::Queue => "sent, received and deleted one by one",
        Scenario::QueueBatch => "sent, received and deleted in batches",
        Scenario::Fifo => "100 groups in order, repeats dropped, in batches",
        Scenario::Depth => "one process sends, receives and deletes",
        Scenario::Topic => "half a round trip, published and heard",
        Scenario::DurableOne => "until a message is durable, one at a time",
        Scenario::DurableGroup => "eight threads, each waits until its own is durable",
        Scenario::DurableBatch => "durable, in batches nobody waits for one by one",
        Scenario::DurableLarge => "durable, large ones, nobody waits for each",
    };
    format!("{}: {what}", name(summary))
}

/// A section's scenario, size and mode.
pub(super) fn name(summary: &Summary) -> String {
    let mode = summary
        .mode
        .map_or_else(String::new, |mode| format!(", {}", mode.word()));
    format!("{}, {} bytes{mode}", summary.scenario.word(), summary.size)
}

/// A contender, and that it sleeps where others poll.
pub(super) fn contender(row: &Row) -> String {
    match row.mode {
        Mode::Block if !row.scenario.is_timed() => format!("{} (blocking)", row.contender),
        _ => row.contender.clone(),
    }
}

fn cells(row: &Row, timed: bool, blocks: bool) -> Vec<String> {
    let mut cells = vec![contender(row)];
    let or_dash =
        |figure: Option<f64>, show: fn(f64) -> String| figure.map_or_else(|| "-".to_owned(), show);
    if row.mean_ns.is_some() {
        let times = [row.mean_ns, row.send_ns, row.receive_ns, row.delete_ns];
        cells.extend(times.map(|figure| or_dash(figure, time)));
        let bytes = [row.private_bytes, row.shared_bytes];
        cells.extend(
            bytes.map(|bytes| or_dash(bytes.map(|bytes| bytes as f64), |bytes| scaled(bytes, "B"))),
        );
    } else if timed {
        cells.extend(blocks.then(|| or_dash(row.block_p50_ns, time)));
        cells.extend([row.p50_ns, row.p99_ns, row.p999_ns].map(|figure| or_dash(figure, time)));
    } else {
        cells.push(or_dash(row.msgs_per_s, |rate| scaled(rate, "")));
        cells.push(or_dash(row.bytes_per_s, |rate| scaled(rate, "B")));
    }
    cells.push(or_dash(row.ratio, |ratio| {
        if ratio < 0.01 {
            format!("{ratio:.4}")
        } else {
            format!("{ratio:.2}")
        }
    }));
    cells
}

/// A time with the unit that keeps it readable.
pub(super) fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.1} ns"),
        _ if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        _ if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// A rate with the prefix that keeps it readable.
pub(super) fn scaled(rate: f64, unit: &str) -> String {
    match rate {
        _ if rate < 1e3 => format!("{rate:.0} {unit}"),
        _ if rate < 1e6 => format!("{:.1} k{unit}", rate / 1e3),
        _ if rate < 1e9 => format!("{:.1} M{unit}", rate / 1e6),
        _ => format!("{:.1} G{unit}", rate / 1e9),
    }
}

/// Names to the left, figures to the right, two spaces between columns.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            match column {
                0 => text.push_str(&format!("  {cell}{pad}")),
                _ => text.push_str(&format!("  {pad}{cell}")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::{record, summary};
    use super::*;
    use ringway_measure::Kind;

    #[test]
    fn a_time_has_the_unit_that_fits() {
        assert_eq!(
            [75.94, 7_030.0, 2.5e6].map(time),
            ["75.9 ns", "7.03 µs", "2.50 ms"]
        );
    }

    #[test]
    fn columns_are_aligned_and_the_limit_is_named() {
        let rounds = vec![vec![
            record("limit-pingpong", Scenario::Latency, 50.0),
            record("ringway", Scenario::Latency, 55_000.0),
        ]];
        let names = [("limit-pingpong", Kind::Limit), ("ringway", Kind::Own)];
        let text = render(&summary(Scenario::Latency, &names, &rounds));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("latency, 64 bytes, spin"));
        assert!(lines[1].ends_with("/ limit-pingpong"));
        let end_of_p50 = |line: &str| line.chars().count();
        assert_eq!(end_of_p50(lines[2]), end_of_p50(lines[3]), "{text}");
        assert!(
            lines[3].contains("55.00 µs") && lines[3].contains("1100.00"),
            "{text}"
        );
    }

    #[test]
    fn rates_show_messages_and_bytes() {
        let rounds = vec![vec![record("limit-slots", Scenario::Throughput, 250e6)]];
        let text = render(&summary(
            Scenario::Throughput,
            &[("limit-slots", Kind::Limit)],
            &rounds,
        ));
        assert!(
            text.contains("250.0 M") && text.contains("16.0 GB") && text.contains("1.00"),
            "{text}"
        );
    }
}
