//! The same figures as a picture: one self-contained SVG, bare or in a page.
//!
//! Times become percentile curves: the share of messages on a logarithmic axis
//! towards 100 %, so that the tail has room, and the time on a logarithmic axis.
//! Rates become bars. Limits are grey and dashed, ringway is thick, and every curve is
//! named in the legend with its median. Pure: text in, text out.

use super::summary::{Row, Summary};
use super::table::{contender, name, scaled, time};
use anyhow::bail;
use ringway_measure::Kind;
use ringway_measure::machine::Machine;
use std::fmt::Write;
use std::path::Path;

/// What kind of file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Svg,
    Html,
}

impl Format {
    /// By the file's extension.
    pub(super) fn of(file: &Path) -> anyhow::Result<Format> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Format::Svg),
            Some("html" | "htm") => Ok(Format::Html),
            _ => bail!(
                "--plot {}: the name must end in .svg or .html, which says what to write",
                file.display()
            ),
        }
    }
}

const WIDTH: f64 = 980.0;
const LEFT: f64 = 90.0;
const PLOT_WIDTH: f64 = 610.0;
const PLOT_HEIGHT: f64 = 320.0;
const BAR: f64 = 26.0;
const HEAD: f64 = 56.0;
const FOOT: f64 = 58.0;

/// Okabe and Ito's palette, distinguishable with any colour vision; the first is ringway's.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d00", "#7a4fa3",
];
const LIMIT_COLOUR: &str = "#666666";

/// The whole file.
pub(super) fn render(format: Format, machine: &Machine, summaries: &[Summary]) -> String {
    let mut body = String::new();
    let mut top = 46.0;
    for summary in summaries {
        let timed = summary.scenario.is_timed();
        top += if timed {
            curves(&mut body, summary, top)
        } else {
            bars(&mut body, summary, top)
        };
    }
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}{body}</svg>\n",
        text(
            16.0,
            26.0,
            "start",
            &format!("ringway bench: {}", machine.line())
        ),
    );
    match format {
        Format::Svg => svg,
        Format::Html => format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>ringway bench</title>\n\
             <style>body {{ margin: 1rem auto; max-width: {WIDTH}px; }} svg {{ max-width: 100%; height: auto; }}</style>\n\
             </head>\n<body>\n{svg}</body>\n</html>\n"
        ),
    }
}

/// Percentile curves of one section at `top`; the height taken.
fn curves(to: &mut String, summary: &Summary, top: f64) -> f64 {
    let rows: Vec<&Row> = summary
        .rows
        .iter()
        .filter(|row| !row.percentiles.is_empty())
        .collect();
    let times = || {
        rows.iter()
            .flat_map(|row| row.percentiles.iter().map(|point| point.1.max(0.1)))
    };
    let (low, high) = (
        times().fold(f64::INFINITY, f64::min),
        times().fold(0.1, f64::max),
    );
    if rows.is_empty() {
        return 0.0;
    }
    let frame = Frame {
        top: top + HEAD,
        nines: rows
            .iter()
            .flat_map(|row| &row.percentiles)
            .map(|point| nines(point.0))
            .fold(1.0, f64::max),
        low: below(low),
        high: above(high),
    };
    title(to, summary, top);
    frame.draw(to);
    for (at, row) in rows.iter().enumerate() {
        let style = style(row, at, &rows);
        let points: Vec<String> = row
            .percentiles
            .iter()
            .map(|&(share, ns)| format!("{:.1},{:.1}", frame.x(share), frame.y(ns)))
            .collect();
        let _ = writeln!(
            to,
            "<polyline fill=\"none\" {style} points=\"{}\"><title>{}</title></polyline>",
            points.join(" "),
            escape(&row.contender)
        );
        legend(to, row, &style, frame.top + 10.0 + 22.0 * at as f64);
    }
    let legend_height = 22.0 * rows.len() as f64;
    HEAD + PLOT_HEIGHT.max(legend_height) + FOOT
}

/// The axes of a percentile plot.
struct Frame {
    top: f64,
    /// Where the horizontal axis ends, as −log10(1 − share).
    nines: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn x(&self, percentile: f64) -> f64 {
        LEFT + PLOT_WIDTH * nines(percentile) / self.nines
    }

    fn y(&self, ns: f64) -> f64 {
        let share = (ns.max(0.1) / self.low).ln() / (self.high / self.low).ln();
        self.top + PLOT_HEIGHT * (1.0 - share)
    }

    fn draw(&self, to: &mut String) {
        let (bottom, right) = (self.top + PLOT_HEIGHT, LEFT + PLOT_WIDTH);
        for ns in steps(self.low, self.high) {
            let y = self.y(ns);
            line(to, (LEFT, y), (right, y), "#e2e2e2");
            to.push_str(&text(
                LEFT - 8.0,
                y + 4.0,
                "end",
                &time(ns).replace(".00", "").replace(".0 ", " "),
            ));
        }
        for percentile in [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999] {
            if nines(percentile) <= self.nines + 1e-9 {
                let x = self.x(percentile);
                line(to, (x, self.top), (x, bottom), "#e2e2e2");
                to.push_str(&text(
                    x,
                    bottom + 18.0,
                    "middle",
                    &format!("{percentile} %"),
                ));
            }
        }
        line(to, (LEFT, self.top), (LEFT, bottom), "#222222");
        line(to, (LEFT, bottom), (right, bottom), "#222222");
        let label = "share of messages at most this slow (logarithmic towards 100 %)";
        to.push_str(&text(
            LEFT + PLOT_WIDTH / 2.0,
            bottom + 38.0,
            "middle",
            label,
        ));
        let middle = self.top + PLOT_HEIGHT / 2.0;
        let _ = writeln!(
            to,
            "<text x=\"18\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 18 {middle})\">one-way time</text>"
        );
    }
}

/// Horizontal bars of one section at `top`; the height taken.
fn bars(to: &mut String, summary: &Summary, top: f64) -> f64 {
    let most = summary
        .rows
        .iter()
        .filter_map(|row| row.msgs_per_s)
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return 0.0;
    }
    title(to, summary, top);
    let (names, room) = (170.0, 470.0);
    for (at, row) in summary.rows.iter().enumerate() {
        let y = top + HEAD + BAR * at as f64;
        let rate = row.msgs_per_s.unwrap_or(0.0);
        let length = (room * rate / most).max(1.0);
        let colour = match row.kind {
            Kind::Limit => LIMIT_COLOUR,
            Kind::Own => COLOURS[0],
            Kind::Peer => COLOURS[1],
        };
        let _ = writeln!(
            to,
            "<rect x=\"{names}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            BAR - 8.0
        );
        to.push_str(&text(names - 8.0, y + 13.0, "end", &contender(row)));
        let ratio = row.ratio.map_or_else(String::new, |ratio| {
            format!("  ({ratio:.2} of {})", row.limit)
        });
        let bytes = row
            .bytes_per_s
            .map_or_else(String::new, |bytes| format!(", {}/s", scaled(bytes, "B")));
        let label = format!("{} msg/s{bytes}{ratio}", scaled(rate, ""));
        to.push_str(&text(names + length + 8.0, y + 13.0, "start", &label));
    }
    HEAD + BAR * summary.rows.len() as f64 + 24.0
}

fn title(to: &mut String, summary: &Summary, top: f64) {
    let words = name(summary);
    let _ = writeln!(
        to,
        "<text x=\"16\" y=\"{:.1}\" font-size=\"17\" font-weight=\"600\">{}</text>",
        top + 32.0,
        escape(&words)
    );
}

fn legend(to: &mut String, row: &Row, style: &str, y: f64) {
    let x = LEFT + PLOT_WIDTH + 18.0;
    let _ = writeln!(
        to,
        "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" {style}/>",
        x + 26.0
    );
    let median = row
        .p50_ns
        .map_or_else(String::new, |ns| format!(", p50 {}", time(ns)));
    to.push_str(&text(
        x + 34.0,
        y + 4.0,
        "start",
        &format!("{}{median}", row.contender),
    ));
}

/// How a curve is drawn: by what it is, and which of its kind.
fn style(row: &Row, at: usize, rows: &[&Row]) -> String {
    let before = rows[..at]
        .iter()
        .filter(|other| other.kind == row.kind)
        .count();
    match row.kind {
        Kind::Limit => {
            format!(
                "stroke=\"{LIMIT_COLOUR}\" stroke-width=\"1.6\" stroke-dasharray=\"{} 4\"",
                7 - 3 * (before % 3)
            )
        }
        Kind::Own => format!(
            "stroke=\"{}\" stroke-width=\"3.2\"{}",
            COLOURS[0],
            if before == 0 {
                ""
            } else {
                " stroke-dasharray=\"2 3\""
            }
        ),
        Kind::Peer => format!(
            "stroke=\"{}\" stroke-width=\"1.8\"",
            COLOURS[1 + before % (COLOURS.len() - 1)]
        ),
    }
}

/// How many nines a percentile has: 90 % one, 99 % two.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

/// The marks 1, 2 and 5 of each decade from `low` to `high`; only whole decades
/// where there are many.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let marks: &[f64] = if decades > 3.5 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let first = low.log10().floor() as i32;
    let all = (first..=first + decades.ceil() as i32 + 1)
        .flat_map(|decade| marks.iter().map(move |mark| mark * 10f64.powi(decade)));
    all.filter(|step| *step >= low * 0.999 && *step <= high * 1.001)
        .collect()
}

/// The mark at or below a time.
fn below(ns: f64) -> f64 {
    let decade = 10f64.powf(ns.log10().floor());
    [5.0, 2.0, 1.0]
        .map(|mark| mark * decade)
        .into_iter()
        .find(|mark| *mark <= ns)
        .unwrap_or(decade)
}

/// The mark above a time.
fn above(ns: f64) -> f64 {
    let decade = 10f64.powf(ns.log10().floor());
    [2.0, 5.0, 10.0]
        .map(|mark| mark * decade)
        .into_iter()
        .find(|mark| *mark > ns)
        .unwrap_or(decade * 10.0)
}

fn line(to: &mut String, from: (f64, f64), end: (f64, f64), colour: &str) {
    let _ = writeln!(
        to,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, end.0, end.1
    );
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n",
        escape(words)
    )
}

fn escape(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::{record, summary};
    use super::*;
    use ringway_measure::Scenario;

    fn machine() -> Machine {
        Machine {
            cpu: "A <CPU>".into(),
            cores: 2,
            kernel: "Linux 6".into(),
            memory_gib: 8,
            is_virtual: false,
        }
    }

    fn drawn(format: Format) -> String {
        let timed = vec![vec![
            record("limit-pingpong", Scenario::Latency, 60.0),
            record("ringway", Scenario::Latency, 70.0),
            record("pipe", Scenario::Latency, 6_000.0),
        ]];
        let rated = vec![vec![
            record("limit-slots", Scenario::Throughput, 250e6),
            record("ringway", Scenario::Throughput, 130e6),
        ]];
        let latency = [
            ("limit-pingpong", Kind::Limit),
            ("ringway", Kind::Own),
            ("pipe", Kind::Peer),
        ];
        let throughput = [("limit-slots", Kind::Limit), ("ringway", Kind::Own)];
        let summaries = [
            summary(Scenario::Latency, &latency, &timed),
            summary(Scenario::Throughput, &throughput, &rated),
        ];
        render(format, &machine(), &summaries)
    }

    #[test]
    fn every_contender_is_drawn_and_named() {
        let svg = drawn(Format::Svg);
        assert_eq!(svg.matches("<polyline").count(), 3);
        for name in [
            "limit-pingpong, p50 60.0 ns",
            "ringway, p50 70.0 ns",
            "pipe, p50 6.00 µs",
            ">limit-slots<",
        ] {
            assert!(svg.contains(name), "{name} is missing");
        }
        assert!(svg.contains("A &lt;CPU&gt;"), "names are escaped");
        assert!(
            svg.contains(">99 %<") && svg.contains(">one-way time<"),
            "axes are labelled"
        );
    }

    #[test]
    fn a_page_holds_the_picture_and_nothing_from_elsewhere() {
        let html = drawn(Format::Html);
        assert!(html.starts_with("<!doctype html>") && html.contains("<svg"));
        assert!(!html.contains("src=") && !html.contains("href="));
    }

    #[test]
    fn the_extension_says_what_to_write() {
        assert_eq!(Format::of(Path::new("x.svg")).expect("known"), Format::Svg);
        assert_eq!(
            Format::of(Path::new("x.html")).expect("known"),
            Format::Html
        );
        assert!(Format::of(Path::new("x.png")).is_err());
    }

    #[test]
    fn axis_marks_enclose_the_figures() {
        assert_eq!((below(63.0), above(63.0)), (50.0, 100.0));
        assert_eq!(steps(50.0, 500.0), [50.0, 100.0, 200.0, 500.0]);
        assert_eq!(steps(10.0, 1e6), [1e1, 1e2, 1e3, 1e4, 1e5, 1e6]);
    }
}
