//! What a program does with a bus, all of it, without believing that any of it succeeds.

use crate::files::BUS;
use ringway::{Bus, Channel, Idle, OpenError, Start};
use std::path::Path;
use std::time::Duration;

/// Long enough to enter every waiting path, short enough to do it a million times.
const MOMENT: Duration = Duration::from_micros(60);

#[allow(dead_code, reason = "the scribbler's prey does it piece by piece")]
/// Opens the bus under `root` and does everything once. `false` when it was refused; an error's
/// message is always made, because that is code too.
pub fn everything(root: &Path, round: u64) -> bool {
    let bus = match Bus::builder(BUS).root(root).open() {
        Ok(bus) => bus,
        Err(error) => {
            drop(error.to_string());
            // What the messages advise must not crash either.
            if round.is_multiple_of(16) && matches!(error, OpenError::OtherBoot { .. }) {
                drop(
                    Bus::builder(BUS)
                        .root(root)
                        .pool_bytes(8 << 20)
                        .open_or_create()
                        .map(|_| ()),
                );
            }
            return false;
        }
    };
    drop(bus.participants().map_err(|error| error.to_string()));
    for name in ["shared", "exclusive"] {
        match bus.channel(name).open() {
            Ok(channel) => with_channel(&channel, round),
            Err(error) => drop(error.to_string()),
        }
    }
    drop(bus.objects().map_err(|error| error.to_string()));
    for id in [0, 1, 5, 1023, u16::MAX] {
        bus.participant(ringway::ParticipantId(id));
    }
    let _ = bus.take_role(7);
    bus.release_role(7);
    drop(bus.doctor(false).map(|report| report.is_clean()));
    drop(bus.doctor(true).map(|report| format!("{report:?}")));
    drop(bus.reap());
    true
}

#[allow(dead_code, reason = "as above")]
fn with_channel(channel: &Channel, round: u64) {
    drop(format!("{:?}", channel.stats()));
    let mut readers = Vec::new();
    for (reliable, start) in [
        (true, Start::Earliest),
        (false, Start::Earliest),
        (false, Start::At(1490)),
        (true, Start::Latest),
    ] {
        let builder = channel.reader().start(start).idle(Idle::Park);
        match if reliable {
            builder.reliable()
        } else {
            builder.lossy()
        }
        .join()
        {
            Ok(reader) => readers.push(reader),
            Err(error) => drop(error.to_string()),
        }
    }
    if let Some(reader) = readers.first_mut() {
        read(reader, 20);
    }
    match channel.producer() {
        Ok(mut producer) => send(&mut producer, round),
        Err(error) => drop(error.to_string()),
    }
    for reader in &mut readers {
        read(reader, 40);
    }
    if round.is_multiple_of(8)
        && let Some(reader) = readers.last_mut()
        && let Ok(descriptor) = reader.poll_descriptor()
    {
        read(reader, 4);
        drop(descriptor);
    }
    drop(format!("{:?}", channel.stats()));
}

/// Sends in every way there is.
pub fn send(producer: &mut ringway::Producer, round: u64) {
    let body = [round as u8; 90];
    for _ in 0..4 {
        drop(producer.try_send(&body).map_err(|error| error.to_string()));
    }
    drop(
        producer
            .try_send_with(60, |bytes| bytes.fill(1))
            .map_err(|error| error.to_string()),
    );
    drop(
        producer
            .try_send_batch(&[&body[..], &[3; 500], &body[..7]])
            .map_err(|error| error.to_string()),
    );
    for len in [500, 900, 5000] {
        if let Ok(mut loan) = producer.loan(len) {
            loan.fill(round as u8);
            if round.is_multiple_of(3) {
                loan.truncate(len / 2);
            }
            drop(
                producer
                    .try_send_loan(loan)
                    .map_err(|(error, _)| error.to_string()),
            );
        }
    }
    drop(
        producer
            .send(&body, MOMENT)
            .map_err(|error| error.to_string()),
    );
}

/// Reads in every way there is, up to `rounds` times.
pub fn read(reader: &mut ringway::Reader, rounds: usize) {
    let mut buffer = [0u8; 600];
    let mut pinned = Vec::new();
    let mut sum = 0u64;
    let mut add = |bytes: &[u8]| {
        bytes
            .iter()
            .for_each(|byte| sum = sum.wrapping_add(u64::from(*byte)))
    };
    let mut quiet = 0;
    for round in 0..rounds {
        let nothing = match round % 5 {
            0 | 1 => match reader.try_read(&mut buffer) {
                Ok(Some(record)) => {
                    add(&buffer[..record.len]);
                    false
                }
                Ok(None) => true,
                Err(error) => {
                    drop(error.to_string());
                    false
                }
            },
            2 => match reader.try_view() {
                Ok(Some(view)) => {
                    add(&view);
                    false
                }
                Ok(None) => true,
                Err(_) => false,
            },
            3 => match reader.try_view_pinned() {
                Ok(Some(view)) => {
                    add(&view);
                    pinned.push(view);
                    false
                }
                Ok(None) => true,
                Err(_) => false,
            },
            _ => reader
                .read_batch(7, |_, bytes| add(bytes))
                .is_ok_and(|count| count == 0),
        };
        quiet += u32::from(nothing);
        if quiet > 5 {
            break;
        }
    }
    drop(
        reader
            .read(&mut buffer, MOMENT)
            .map_err(|error| error.to_string()),
    );
    drop(ringway::wait_any(&mut [&mut *reader], MOMENT));
    for view in &pinned {
        add(view);
    }
    std::hint::black_box(sum);
}
