//! What a pool says while it works: a status line and complaints on standard error for people, events
//! on standard output with `--json`. And the counts that say when it is done.

use super::job::{Ended, Outcome};
use super::pool::Started;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

pub struct Report {
    json: bool,
    bar: ProgressBar,
    start: Instant,
    workers: usize,
    most_workers: usize,
    backlog: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    given_back: u64,
    /// Of these: messages that were somebody else's when their command ended.
    lost: u64,
    is_closed: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        let bar = if json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        Self {
            json,
            bar,
            start: Instant::now(),
            workers: 0,
            most_workers: 0,
            backlog: 0,
            running: 0,
            succeeded: 0,
            failed: 0,
            given_back: 0,
            lost: 0,
            is_closed: false,
        }
    }

    /// Commands that run.
    pub fn running(&self) -> u64 {
        self.running
    }

    /// Messages whose command has ended, or never started.
    pub fn worked(&self) -> u64 {
        self.succeeded + self.failed + self.given_back
    }

    /// Whether nobody reads the events any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub fn backlog(&mut self, visible: u64) {
        self.backlog = visible;
        self.status();
    }

    pub fn scaled(&mut self, was: usize, workers: usize, backlog: u64) {
        self.workers = workers;
        self.most_workers = self.most_workers.max(workers);
        self.event(json!({"event": "scaled", "was": was, "workers": workers, "backlog": backlog}));
        self.tell(|| format!("workers {was} -> {workers}, backlog {backlog}"));
    }

    pub fn started(&mut self, started: &Started) {
        self.running += 1;
        self.event(json!({
            "event": "started", "worker": started.worker, "receipt": started.receipt.to_string(),
            "receives": started.receipt.receives(), "pid": started.pid,
        }));
    }

    pub fn ended(&mut self, ended: &Ended) {
        self.running = self.running.saturating_sub(u64::from(ended.started));
        let receipt = ended.receipt.to_string();
        let mut event = json!({
            "worker": ended.worker, "receipt": receipt, "ms": ended.ran.as_millis() as u64,
        });
        match &ended.outcome {
            Outcome::Succeeded => {
                self.succeeded += 1;
                event["event"] = json!("succeeded");
            }
            Outcome::Failed { why, retry_after } => {
                self.failed += 1;
                event["event"] = json!("failed");
                event["why"] = json!(why);
                event["retry_ms"] = json!(retry_after.as_millis() as u64);
                let again = humantime::format_duration(*retry_after);
                self.tell(|| format!("{receipt} failed: {why}; again in {again}"));
            }
            Outcome::Killed => {
                self.given_back += 1;
                event["event"] = json!("given_back");
            }
        }
        if let Some(lost) = &ended.lost {
            self.lost += 1;
            event["lost"] = json!(lost);
            self.tell(|| format!("{receipt} could not be settled: {lost}"));
        }
        self.event(event);
    }

    pub fn signal(&mut self, signal: i32, nth: u32) {
        self.event(json!({"event": "stopping", "signal": signal, "nth": nth}));
        let running = self.running;
        self.tell(|| match nth {
            1 => format!("stopping: {running} commands finish; once more kills them"),
            _ => format!("killing {running} commands"),
        });
    }

    pub fn summary(&mut self) {
        self.bar.finish_and_clear();
        self.event(json!({
            "event": "summary", "succeeded": self.succeeded, "failed": self.failed,
            "given_back": self.given_back, "lost": self.lost, "most_workers": self.most_workers,
            "ms": self.start.elapsed().as_millis() as u64,
        }));
        if !self.json {
            let mut text = format!("{} succeeded, {} failed", self.succeeded, self.failed);
            for (count, what) in [(self.given_back, "given back"), (self.lost, "lost")] {
                if count > 0 {
                    text += &format!(", {count} {what}");
                }
            }
            let seconds = Duration::from_millis(self.start.elapsed().as_millis() as u64);
            let time = humantime::format_duration(seconds);
            text += &format!(" in {time}; most workers {}", self.most_workers);
            self.line(&text);
        }
    }

    fn status(&self) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!(
                "{} workers, {} running, {} waiting, {} succeeded, {} failed",
                self.workers, self.running, self.backlog, self.succeeded, self.failed
            ));
            self.bar.tick();
        }
    }

    /// For people, on standard error, beside the status line.
    fn tell(&self, text: impl FnOnce() -> String) {
        if !self.json {
            let text = text();
            self.bar.suspend(|| {
                // A standard error that is closed is nobody's.
                let _ = writeln!(std::io::stderr(), "ringway: {text}");
            });
        }
    }

    fn event(&mut self, event: Value) {
        if self.json {
            self.line(&event.to_string());
        }
    }

    fn line(&mut self, line: &str) {
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = writeln!(std::io::stderr(), "ringway: can't write: {error}");
                self.is_closed = true;
            }
            Err(_) => self.is_closed = true,
            Ok(()) => {}
        }
    }
}
