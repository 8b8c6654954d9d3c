//! Looking again and again, beside the thread that draws.

use crate::output::Place;
use crate::snapshot::{Snapshot, take_apart};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// A bus, and what the last look has shown.
pub struct Seen {
    pub bus: String,
    pub looked: Result<Snapshot, String>,
}

/// Looks from now on. What it sends is taken as a new interval; it ends when the sender is dropped.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    place: &'scope Place,
    bus: Option<String>,
    mut interval: Duration,
) -> (Sender<Duration>, Receiver<Vec<Seen>>) {
    let (intervals, told) = channel();
    let (seen, looks) = channel();
    scope.spawn(move || {
        let mut before = Vec::new();
        loop {
            let started = Instant::now();
            let now = look(place, bus.as_deref(), &before);
            before = now
                .iter()
                .filter_map(|seen: &Seen| seen.looked.as_ref().ok().cloned())
                .collect();
            if seen.send(now).is_err() {
                return;
            }
            loop {
                match told.recv_timeout(interval.saturating_sub(started.elapsed())) {
                    Ok(wanted) => interval = wanted,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    });
    (intervals, looks)
}

/// Looks twice, so that there are rates.
pub fn twice(place: &Place, bus: Option<String>, interval: Duration) -> Vec<Seen> {
    let first = look(place, bus.as_deref(), &[]);
    let before: Vec<_> = first
        .into_iter()
        .filter_map(|seen| seen.looked.ok())
        .collect();
    std::thread::sleep(interval);
    look(place, bus.as_deref(), &before)
}

fn look(place: &Place, bus: Option<&str>, before: &[Snapshot]) -> Vec<Seen> {
    let buses = match bus {
        Some(bus) => vec![bus.to_owned()],
        // A root that is not there has none.
        None => place.buses().unwrap_or_default(),
    };
    let each = buses.into_iter().map(|bus| {
        let looked = take_apart(place, &bus).map(|mut now| {
            if let Some(then) = before.iter().find(|then| then.bus == bus) {
                now.rate_since(then);
            }
            now
        });
        Seen {
            bus,
            looked: looked.map_err(|error| format!("{error:#}")),
        }
    });
    each.collect()
}
