//! What the kill tortures share: boards that all processes of one see, a troupe under random signals with a
//! doctor who looks at the living all the time, and what has to be true when everybody has ended.

#![allow(dead_code, reason = "each test binary uses its part")]

use crate::stage::text;
use ringway::Bus;
use ringway_harness::chaos::{Report, Torture, Troupe};
use ringway_harness::{AckBoard, Fault, Launch, TempBus};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Draws between two calls of the doctor, who has to leave the living alone.
const DOCTOR_EVERY: u64 = 64;
/// No such lease ends by itself.
pub const FOR_EVER: Duration = Duration::from_secs(43_200);
/// Messages of one process in all its lives.
pub const MESSAGES: u64 = 1 << 24;

/// Kills to make: `RINGWAY_KILLS`, or else this many.
pub fn kills(otherwise: u64) -> u64 {
    let kills = std::env::var("RINGWAY_KILLS").ok();
    kills
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(otherwise)
}

/// Torments so many children of each role, each of which knows `root`, its `index` and its `life`; then `stop`
/// tells them to end, and they do.
pub fn torment(
    (bus, root): (&Bus, &Path),
    kills: u64,
    roles: &[(&str, usize)],
    dress: impl Fn(Launch) -> Launch,
    stop: impl FnOnce(),
) -> Result<Report, Fault> {
    let mut troupe = Troupe::new();
    for (role, count) in roles {
        for index in 0..*count {
            let launch = Launch::role(role).set("root", root.display());
            let launch = dress(launch.set("index", index));
            troupe.join(&format!("{role} {index}"), move |life| {
                Ok(launch.clone().set("life", life))
            });
        }
    }
    let report = under_a_doctor(&mut troupe, bus, kills);
    stop();
    let report = report?;
    troupe.finish()?;
    Ok(report)
}

/// Torments a troupe while the doctor repairs what is dead, and leaves the living alone.
pub fn under_a_doctor(troupe: &mut Troupe<'_>, bus: &Bus, kills: u64) -> Result<Report, Fault> {
    let mut draws = 0;
    troupe.torture(&Torture::kills(kills), |_| {
        draws += 1;
        if draws % DOCTOR_EVERY == 0 {
            bus.doctor(true).expect("the doctor can look at everything");
        }
        Ok(())
    })
}

/// Everybody has ended: no claim, no damage, no chunk in the making and no participant but us is left on the bus.
pub fn nobody_is_left(bus: &Bus) -> Result<ringway::Report, String> {
    let report = bus.doctor(false).map_err(text)?;
    let clean = report.is_clean() && report.participants == 1 && report.open_claims == 0;
    if !clean || report.damaged_slots != 0 || report.chunks[1] != 0 {
        return Err(format!("left behind: {report:?}"));
    }
    Ok(report)
}

/// The same, and no payload is left either.
pub fn nothing_is_left(bus: &Bus) -> Result<(), String> {
    match nobody_is_left(bus)? {
        report if report.chunks[2] != 0 => Err(format!("left behind: {report:?}")),
        _ => Ok(()),
    }
}

/// sender:8 | number:40
pub fn id(sender: usize, number: u64) -> u64 {
    (sender as u64) << 56 | number
}

/// Sender and number of an id.
pub fn parts(id: u64) -> (usize, u64) {
    ((id >> 56) as usize, id & 0xFF_FFFF_FFFF)
}

/// Counters of a board that has one bit for each message of so many processes.
pub const fn bits(processes: usize) -> usize {
    processes * (MESSAGES / 64) as usize
}

fn place_of(sender: usize, number: u64) -> (usize, u64) {
    let word = sender * (MESSAGES / 64) as usize + (number / 64) as usize;
    (word, 1 << (number % 64))
}

/// Marks a message. Whether it was marked before.
pub fn mark(marks: &AckBoard, sender: usize, number: u64) -> bool {
    let (word, bit) = place_of(sender, number);
    marks.words()[word].fetch_or(bit, SeqCst) & bit != 0
}

/// Whether a message is marked.
pub fn is_marked(marks: &AckBoard, sender: usize, number: u64) -> bool {
    let (word, bit) = place_of(sender, number);
    marks.get(word) & bit != 0
}

/// The number that this life of a sender begins with. The one behind the last that was acknowledged
/// may have been sent or not: nobody asks for it.
pub fn resume(acks: &AckBoard, marks: &AckBoard, sender: usize, life: u64) -> u64 {
    let number = acks.get(sender);
    if life == 0 || number >= MESSAGES - 2 {
        return number;
    }
    mark(marks, sender, number);
    acks.set(sender, number + 1);
    number + 1
}

/// How many were acknowledged; each of them is marked.
pub fn none_is_lost(acks: &AckBoard, marks: &AckBoard, senders: usize) -> Result<u64, String> {
    for sender in 0..senders {
        let acked = acks.get(sender);
        let lost = (0..acked).find(|number| !is_marked(marks, sender, *number));
        if let Some(lost) = lost {
            return Err(format!("{lost} of sender {sender} is lost, of {acked}"));
        }
    }
    Ok((0..senders).map(|sender| acks.get(sender)).sum())
}

/// A root, and a bus in it.
pub fn place() -> Result<(TempBus, Bus), String> {
    let root = TempBus::new()?;
    let bus = crate::stage::bus(root.path()).create().map_err(text)?;
    Ok((root, bus))
}
