//! What a program does with a bus, all of it, without believing that any of it succeeds.

use crate::files::{BUS, QUEUE};
use ringway::{
    Attributes, Builder, Bus, Channel, Idle, Incoming, OpenError, Outgoing, Producer, Queue,
    QueueReceiver, QueueSender, Received, Redrive, Settings, Start,
};
use std::path::Path;
use std::time::Duration;

/// Long enough to enter every waiting path, short enough to do it a million times.
const MOMENT: Duration = Duration::from_micros(60);

#[allow(dead_code, reason = "the scribbler's prey does it piece by piece")]
/// Opens the bus under `root` and does everything once. `false` when it was refused; an error's
/// message is always made, because that is code too.
pub fn everything(root: &Path, round: u64) -> bool {
    // Every now and then with every page faulted in, as programs have it.
    let pre_touch = round.is_multiple_of(4);
    let builder = Bus::builder(BUS).root(root).pre_touch(pre_touch);
    let bus = match builder.open() {
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
    for name in ["work", "dead", "order"] {
        match bus.queue(name).open() {
            Ok(queue) => with_queue(&bus, &queue, round),
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

/// Opens a bus of which the file is changed. `false` when it was refused.
#[allow(dead_code, reason = "as above")]
pub fn bus(builder: Builder, round: u64) -> bool {
    let bus = match builder.open() {
        Ok(bus) => bus,
        Err(error) => return refused(&error),
    };
    bus.participant(bus.me());
    let _ = bus.take_role(round as usize % 64);
    if round.is_multiple_of(4) {
        drop(bus.participants().map_err(|error| error.to_string()));
    }
    if round.is_multiple_of(64) {
        drop(bus.reap().map_err(|error| error.to_string()));
    }
    true
}

/// Lends, writes, sends, reads and frees chunks of a changed segment, through an attachment that has
/// not opened it yet. `false` when it was refused: then the attachment looks again the next time.
#[allow(dead_code, reason = "as above")]
pub fn segment(bus: &Bus, round: u64) -> bool {
    // A loan maps the segment; one that fits is written from end to end.
    let worked = if round.is_multiple_of(2) {
        let channel = bus.channel("shared").open().expect("the ring is whole");
        let mut producer = channel.producer().expect("it is shared");
        let worked = match producer.loan(500) {
            Ok(mut loan) => {
                loan.fill(7);
                drop(
                    producer
                        .try_send_loan(loan)
                        .map_err(|(error, _)| error.to_string()),
                );
                true
            }
            Err(error) => error.to_string().is_empty(),
        };
        let reader = channel.reader().start(Start::Earliest).lossy().join();
        read_some(&mut reader.expect("there are entries left"), 60);
        worked
    } else {
        let queue = bus.queue("work").open().expect("the queue is whole");
        let (mut sender, mut receiver) = (queue.sender().unwrap(), queue.receiver().unwrap());
        let sent = sender.send(&[7; 400]);
        for step in 0..4 {
            receive(&queue, &mut receiver, step);
        }
        sent.map_err(|error| error.to_string()).is_ok()
    };
    if round.is_multiple_of(64) {
        drop(bus.reap());
        drop(bus.doctor(true).map(|report| report.is_clean()));
    }
    worked
}

/// Opens the object of a changed file and uses it. `false` when it was refused.
#[allow(dead_code, reason = "as above")]
pub fn object(bus: &Bus, file: usize, round: u64) -> bool {
    match file {
        1 | 2 => match bus.channel(["shared", "exclusive"][file - 1]).open() {
            Ok(channel) => use_channel(&channel, round),
            Err(error) => return refused(&error),
        },
        _ => match bus
            .queue(if file == QUEUE { "work" } else { "order" })
            .open()
        {
            Ok(queue) => use_queue(&queue, round),
            Err(error) => return refused(&error),
        },
    }
    true
}

fn refused(error: &OpenError) -> bool {
    error.to_string().is_empty()
}

fn use_channel(channel: &Channel, round: u64) {
    drop(format!("{:?}", channel.stats()));
    let start = [Start::Earliest, Start::Latest, Start::At(1490)][round as usize % 3];
    let reader = channel.reader().start(start);
    let reader = if round.is_multiple_of(2) {
        reader.lossy().join()
    } else {
        reader.reliable().join()
    };
    match channel.producer() {
        Ok(mut producer) => send_some(&mut producer, round),
        Err(error) => drop(error.to_string()),
    }
    match reader {
        Ok(mut reader) => read_some(&mut reader, 30),
        Err(error) => drop(error.to_string()),
    }
}

fn send_some(producer: &mut Producer, round: u64) {
    let body = [round as u8; 90];
    drop(producer.try_send(&body).map_err(|error| error.to_string()));
    drop(
        producer
            .try_send_batch(&[&body[..], &[3; 500], &body[..7]])
            .map_err(|error| error.to_string()),
    );
}

fn read_some(reader: &mut ringway::Reader, rounds: usize) {
    let mut buffer = [0; 600];
    let mut sum = 0u64;
    let mut add = |bytes: &[u8]| sum = bytes.iter().fold(sum, |sum, byte| sum + u64::from(*byte));
    for round in 0..rounds {
        let is_last = match round % 4 {
            0 => match reader.try_read(&mut buffer) {
                Ok(record) => record.is_none(),
                Err(error) => error.to_string().is_empty(),
            },
            1 => reader.try_view().is_ok_and(|view| view.is_none()),
            2 => reader.try_view_pinned().is_ok_and(|view| view.is_none()),
            _ => reader
                .read_batch(7, |_, bytes| add(bytes))
                .is_ok_and(|count| count == 0),
        };
        if is_last {
            break;
        }
    }
    std::hint::black_box(sum);
}

fn use_queue(queue: &Queue, round: u64) {
    if round.is_multiple_of(4) {
        drop(format!("{:?} {:?}", queue.stats(), queue.settings()));
    }
    let (Ok(mut sender), Ok(mut receiver)) = (queue.sender(), queue.receiver()) else {
        return;
    };
    offer(&mut sender, round);
    for step in 0..8 {
        receive(queue, &mut receiver, round + step);
    }
    match round % 32 {
        0 => _ = queue.purge(),
        8 => parked(queue),
        _ => {}
    }
}

/// Sends in one of the ways there are.
pub fn offer(sender: &mut QueueSender, round: u64) {
    let body = [round as u8; 500];
    let body = &body[..[7, 60, 200, 500][round as usize % 4]];
    let sent = match round % 7 {
        0 | 1 => sender.send(body).map(drop),
        2 => sender
            .send_delayed(body, Duration::from_millis(1))
            .map(drop),
        3 => sender.send_batch(&[body, b"one", body]).map(drop),
        4 | 5 => {
            let id = round.to_string();
            let message = Outgoing::new(body).group(["red", "blue"][round as usize % 2]);
            sender.send_message(&message.dedup_id(&id)).map(drop)
        }
        _ => {
            let mut attributes = Attributes::new();
            attributes
                .string("city", "Graz")
                .unwrap()
                .number("n", 12)
                .unwrap();
            let message = Outgoing::new(body)
                .group("g")
                .dedup_id("d")
                .attributes(&attributes);
            sender.send_message(&message).map(drop)
        }
    };
    drop(sent.map_err(|error| error.to_string()));
}

/// Receives in one of the ways there are, and settles what came.
pub fn receive(queue: &Queue, receiver: &mut QueueReceiver, round: u64) {
    let mut buffer = [0; 600];
    let received = match round % 4 {
        0 | 1 => receiver.try_receive(&mut buffer),
        2 => receiver.receive_and_delete(&mut buffer),
        _ => {
            let mut incoming = Incoming::new();
            let received = receiver.receive_message(&mut incoming);
            if matches!(received, Ok(Some(_))) {
                look_at(&incoming);
            }
            received
        }
    };
    match received {
        Ok(Some(received)) => settle(queue, receiver, &received, round),
        Ok(None) => {}
        Err(error) => drop(error.to_string()),
    }
}

/// Looks at everything that came with a message.
pub fn look_at(incoming: &Incoming) {
    let mut len = incoming.body().len();
    for attribute in incoming.attributes().iter() {
        len += attribute.name.len() + attribute.bytes().len() + attribute.data_type().len();
    }
    let texts = [
        incoming.group(),
        incoming.dedup_id(),
        incoming.trace_header(),
    ];
    len += texts.into_iter().flatten().map(str::len).sum::<usize>();
    std::hint::black_box((len, incoming.origin(), incoming.sender()));
}

fn settle(queue: &Queue, receiver: &mut QueueReceiver, received: &Received, round: u64) {
    let receipt = &received.receipt;
    let settled = match round % 6 {
        0 => receiver.delete(receipt).map(drop),
        1 => receiver.nack(receipt, Duration::ZERO),
        2 => receiver.change_visibility(receipt, Duration::from_millis(1)),
        3 => queue.nack(receipt, Duration::from_millis(round % 3)),
        4 => queue.change_visibility(receipt, Duration::from_secs(7)),
        _ => Ok(()),
    };
    drop(settled.map_err(|error| error.to_string()));
}

fn parked(queue: &Queue) {
    for message in queue.parked().iter().take(8) {
        drop(queue.read_parked(message.position));
        let _ = queue.delete_parked(message.position);
    }
}

/// Everything that there is to do with a queue.
pub fn with_queue(bus: &Bus, queue: &Queue, round: u64) {
    drop(format!("{:?} {:?}", queue.stats(), queue.settings()));
    if let Ok(dead) = bus.queue("dead").open() {
        let settings = Settings::new().visibility(Duration::from_millis(round % 3));
        let settings = settings.redrive((!round.is_multiple_of(4)).then(|| Redrive::to(&dead, 2)));
        drop(queue.set(&settings).map_err(|error| error.to_string()));
        drop(dead.redrive_sources().map_err(|error| error.to_string()));
    }
    let (mut sender, mut receiver) = match (queue.sender(), queue.receiver()) {
        (Ok(sender), Ok(receiver)) => (sender, receiver),
        _ => return,
    };
    receiver.set_idle([Idle::SpinThenPark, Idle::Park, Idle::Spin][round as usize % 3]);
    for step in 0..10 {
        offer(&mut sender, step);
    }
    drop(
        sender
            .send_timeout(&[7; 90], MOMENT)
            .map_err(|error| error.to_string()),
    );
    for len in [60, 500, 5000] {
        if let Ok(mut loan) = sender.loan(len) {
            loan.fill(round as u8);
            drop(
                sender
                    .send_loan(loan)
                    .map_err(|(error, _)| error.to_string()),
            );
        }
    }
    for step in 0..120 {
        receive(queue, &mut receiver, round + step);
    }
    let mut count = 0;
    drop(
        receiver
            .receive(10, MOMENT, Some(Duration::ZERO))
            .map_err(|error| error.to_string()),
    );
    drop(receiver.receive_each(10, |_, body| count += body.len()));
    drop(receiver.wait(MOMENT).map_err(|error| error.to_string()));
    drop(ringway::wait_any(&mut [&mut receiver], MOMENT));
    if round.is_multiple_of(8) && receiver.poll_descriptor().is_ok() {
        receive(queue, &mut receiver, round);
    }
    parked(queue);
    if round.is_multiple_of(8) {
        count += queue.purge().unwrap_or(0) as usize;
    }
    std::hint::black_box(count);
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
