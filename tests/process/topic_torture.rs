//! Kill torture of a topic: four publishers, eight subscribed queues of which two are FIFO, two
//! collectors, and one who subscribes and unsubscribes all the time, under random SIGKILL, SIGSTOP and
//! SIGCONT, each brought back whenever it dies.
//!
//! What was acknowledged to a publisher is in the end marked in each of the eight queues. A FIFO queue gets each
//! message once: its number never comes at two positions, although whoever died in the middle of handing it
//! on left it to be handed on again, and a publisher repeats what was not acknowledged. In the end nothing waits
//! in the topic, and nothing is left of anybody.
//!
//! ```text
//! cargo test --release --test topic_torture                        400 kills
//! RINGWAY_KILLS=50000 cargo test --release --test topic_torture    the soak
//! RINGWAY_SEED=n                                                   the same draws again
//! ```
//! One JSON line on standard output.

mod stage;
mod torment;

use ringway::{
    Bus, Incoming, Publication, PublishError, Queue, QueueReceiver, SettleError, SubscribeOptions,
    Topic, TopicStats,
};
use ringway_harness::seed::Random;
use ringway_harness::{Stage, deadline};
use stage::{body, id_of, text};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use torment::{FOR_EVER, id, kills, nothing_is_left, parts};

ringway_harness::roles! {
    publish => publish,
    collect => collect,
    change => change,
}

const PUBLISHERS: usize = 4;
const COLLECTORS: usize = 2;
const QUEUES: usize = 8;
/// Of them, the last ones.
const FIFO_QUEUES: usize = 2;
/// Kills, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 400;
/// Messages of one publisher in all its lives: together as many ids as a FIFO queue remembers.
const MESSAGES: u64 = 1 << 14;
/// Longest body; two thirds of all lie in the slot.
const LONGEST: u64 = 1500;
const SHORT: u64 = 64;

ringway_harness::boards! {
    /// Messages of each publisher that were acknowledged.
    acks: PUBLISHERS,
    /// The position, plus one, of each message in each queue.
    marks: QUEUES * PUBLISHERS * MESSAGES as usize,
    stop: 1,
}

impl Boards {
    fn at(queue: usize, publisher: usize, number: u64) -> usize {
        (queue * PUBLISHERS + publisher) * MESSAGES as usize + number as usize
    }

    /// Notes that a message is in a queue; in a FIFO queue at this position and no other.
    fn mark(&self, queue: usize, id: u64, position: u64) -> Result<(), String> {
        let (publisher, number) = parts(id);
        let word = &self.marks.words()[Self::at(queue, publisher, number)];
        match word.compare_exchange(0, position + 1, SeqCst, SeqCst) {
            Err(before) if before != position + 1 && is_fifo(queue) => Err(format!(
                "message {number} of publisher {publisher} is in queue {queue} twice: at {} and {position}",
                before - 1
            )),
            _ => Ok(()),
        }
    }
}

fn is_fifo(queue: usize) -> bool {
    queue >= QUEUES - FIFO_QUEUES
}

fn queue(bus: &Bus, number: usize) -> Result<Queue, String> {
    let name = format!("q{number}");
    let builder = bus.queue(&name).visibility(FOR_EVER);
    match is_fifo(number) {
        true => builder.fifo(),
        false => builder,
    }
    .open_or_create()
    .map_err(text)
}

fn topic(bus: &Bus) -> Result<Topic, String> {
    bus.topic("t").open_or_create().map_err(text)
}

fn main() -> ExitCode {
    stage::run(&[("torture of a topic", play)])
}

fn play() -> Result<(), String> {
    let started = Instant::now();
    let (root, bus) = torment::place()?;
    let topic = topic(&bus)?;
    for number in 0..QUEUES {
        queue(&bus, number)?;
        let options = SubscribeOptions::new(&format!("q{number}")).raw(true);
        topic.subscribe(&options).map_err(text)?;
    }
    let boards = Boards::new()?;
    let roles = [
        ("publish", PUBLISHERS),
        ("collect", COLLECTORS),
        ("change", 1),
    ];
    let report = torment::torment(
        (&bus, root.path()),
        kills(KILLS),
        &roles,
        |launch| boards.dress(launch),
        || boards.stop.set(0, 1),
    )?;

    let stats = finish(&bus, &topic, &boards)?;
    let mut acked = 0;
    for publisher in 0..PUBLISHERS {
        let of_one = boards.acks.get(publisher);
        acked += of_one;
        for queue in 0..QUEUES {
            let is_lost =
                |number: &u64| boards.marks.get(Boards::at(queue, publisher, *number)) == 0;
            if let Some(lost) = (0..of_one).find(is_lost) {
                return Err(format!(
                    "message {lost} of publisher {publisher} never came to queue {queue}; {of_one} acknowledged, {stats:?}"
                ));
            }
        }
    }
    if acked == 0 {
        return Err("nothing was published".into());
    }
    println!(
        "{{\"figure\":\"topic torture\",\"seed\":{},\"kills\":{},\"stops\":{},\"acked\":{acked},\"queues\":{QUEUES},\
         \"delivered\":{},\"retried\":{},\"lost\":0,\"fifo_duplicates\":0,\"seconds\":{:.1}}}",
        report.seed,
        report.kills,
        report.stops,
        stats.delivered,
        stats.retried,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Everybody has ended: what waits is handed on, what was delivered is collected, and nothing else is left.
fn finish(bus: &Bus, topic: &Topic, boards: &Boards) -> Result<TopicStats, String> {
    bus.reap().map_err(text)?;
    let mut dispatcher = topic.dispatcher().map_err(text)?;
    let mut queues = open_all(bus)?;
    let (start, mut incoming) = (Instant::now(), Incoming::new());
    loop {
        dispatcher
            .dispatch_within(Duration::from_millis(2))
            .map_err(text)?;
        let mut is_idle = true;
        for (number, receiver) in queues.iter_mut().enumerate() {
            while take(boards, number, receiver, &mut incoming)? {
                is_idle = false;
            }
        }
        let stats = topic.stats().map_err(text)?;
        if is_idle && stats.waiting == 0 {
            break;
        }
        if start.elapsed() > deadline() {
            return Err(format!("something stays behind: {stats:?}"));
        }
    }
    drop((queues, dispatcher));
    nothing_is_left(bus)?;
    let stats = topic.stats().map_err(text)?;
    if (stats.failed, stats.dead_lettered, stats.damaged) != (0, 0, 0) {
        return Err(format!("{stats:?}"));
    }
    Ok(stats)
}

fn open_all(bus: &Bus) -> Result<Vec<QueueReceiver>, String> {
    (0..QUEUES)
        .map(|number| queue(bus, number)?.receiver().map_err(text))
        .collect()
}

/// Receives, marks and deletes one message. Whether there was one.
fn take(
    boards: &Boards,
    number: usize,
    receiver: &mut QueueReceiver,
    incoming: &mut Incoming,
) -> Result<bool, String> {
    let Some(received) = receiver.receive_message(incoming).map_err(text)? else {
        return Ok(false);
    };
    let id = id_of(incoming.body()).map_err(|why| format!("{received:?}: {why}"))?;
    boards.mark(number, id, received.position())?;
    match receiver.delete(&received.receipt) {
        Ok(_) | Err(SettleError::StaleReceipt { .. }) => Ok(true),
        Err(error) => Err(format!("{received:?}: {error}")),
    }
}

// What the children do.

fn publish(stage: &Stage) -> Result<(), String> {
    let (index, life): (usize, u64) = (stage.get("index"), stage.get("life"));
    let boards = Boards::of(stage);
    let mut random = Random::new((index as u64) << 32 | life);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut publisher = topic(&bus)?.publisher().map_err(text)?;
    let mut number = boards.acks.get(index);
    while boards.stop.get(0) == 0 {
        if number == MESSAGES - 1 {
            let idle = publisher
                .dispatcher()
                .dispatch_within(Duration::from_millis(1));
            idle.map_err(text)?;
            continue;
        }
        let longest = if random.percent(33) { LONGEST } else { SHORT };
        let message = body(id(index, number), 16 + random.below(longest) as usize);
        // What was not acknowledged in an earlier life is published again, under its id.
        let id = format!("{index}-{number}");
        let message = Publication::new(&message).dedup_id(&id);
        let published = match random.below(4) {
            0 => publisher.publish_batch(&[message]).remove(0),
            _ => publisher.publish(&message),
        };
        match published {
            Ok(_) => {
                number += 1;
                boards.acks.set(index, number);
            }
            Err(PublishError::Transit(error)) => {
                if boards.stop.get(0) == 0 {
                    eprintln!("publisher {index}: {error}");
                }
                std::thread::yield_now();
            }
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

fn collect(stage: &Stage) -> Result<(), String> {
    let boards = Boards::of(stage);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut queues = open_all(&bus)?;
    let mut incoming = Incoming::new();
    while boards.stop.get(0) == 0 {
        let mut took = false;
        for (number, receiver) in queues.iter_mut().enumerate() {
            for _ in 0..16 {
                took |= take(&boards, number, receiver, &mut incoming)?;
            }
        }
        if !took {
            queues[0].wait(Duration::from_millis(1)).map_err(text)?;
        }
    }
    Ok(())
}

/// Subscribes and unsubscribes, with a policy that wants nothing.
fn change(stage: &Stage) -> Result<(), String> {
    let boards = Boards::of(stage);
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let topic = topic(&bus)?;
    let filter = r#"{"never": ["seen"]}"#;
    let options = SubscribeOptions::new("q0").raw(true).filter(filter);
    for left in topic.subscriptions().map_err(text)? {
        if left.filter.is_some() {
            topic.unsubscribe(left.id).map_err(text)?;
        }
    }
    while boards.stop.get(0) == 0 {
        let id = topic.subscribe(&options).map_err(text)?;
        topic.unsubscribe(id).map_err(text)?;
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
