//! Kill torture: four producers and four consumers under random SIGKILL, SIGSTOP and SIGCONT, each
//! brought back whenever it dies, while a checker that nobody touches reads everything.
//!
//! Every producer numbers its records from 0 in each of its lives and notes on a board how many
//! were acknowledged; only the one behind the last acknowledged may or may not be there. In the
//! end nothing is left of anybody: no claim, chunk, reader entry, participant.
//!
//! ```text
//! cargo test --release --test torture                           1,200 kills in three variants
//! RINGWAY_KILLS=100000 cargo test --release --test torture      the soak
//! RINGWAY_SEED=n                                                the same draws again
//! ```
//! One JSON line a variant on standard output.

mod stage;
mod torment;

use ringway::{Bus, Channel, Overflow, Producer, Producers, ReadError, Reader, SendError, Start};
use ringway_harness::chaos::{Report, Troupe};
use ringway_harness::seed::Random;
use ringway_harness::{AckBoard, Fault, Launch, Stage, TempBus};
use stage::{INLINE, SLOTS, body, id_of, text};
use std::cell::RefCell;
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

ringway_harness::roles! {
    produce => produce,
    consume => consume,
}

const PRODUCERS: usize = 4;
const CONSUMERS: usize = 4;
/// Kills of all variants together, unless `RINGWAY_KILLS` says otherwise.
const KILLS: u64 = 1200;
/// Longest payload; two thirds of all bodies lie in the slot.
const LONGEST: u64 = 3000;

/// producer:8 | life:24 | number:32
fn id(producer: u64, life: u64, number: u64) -> u64 {
    producer << 56 | life << 32 | number
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    Shared,
    Exclusive,
    DropOldest,
}

impl Variant {
    const ALL: [Variant; 3] = [Variant::Shared, Variant::Exclusive, Variant::DropOldest];

    fn name(self) -> &'static str {
        match self {
            Variant::Shared => "shared",
            Variant::Exclusive => "exclusive",
            Variant::DropOldest => "drop-oldest",
        }
    }

    fn open(self, bus: &Bus) -> Result<Channel, String> {
        let producers = match self {
            Variant::Exclusive => Producers::Exclusive,
            _ => Producers::Shared,
        };
        let overflow = match self {
            Variant::DropOldest => Overflow::DropOldest,
            _ => Overflow::Refuse,
        };
        let builder = bus
            .channel("c")
            .slots(SLOTS)
            .stride(stage::STRIDE)
            .readers(32);
        builder
            .producers(producers)
            .overflow(overflow)
            .open_or_create()
            .map_err(text)
    }

    fn of(stage: &Stage) -> Variant {
        let name = stage.text("variant");
        *Variant::ALL
            .iter()
            .find(|variant| variant.name() == name)
            .expect("a variant")
    }
}

fn main() -> ExitCode {
    stage::run(&[
        ("torture, shared", || play(Variant::Shared)),
        ("torture, exclusive", || play(Variant::Exclusive)),
        ("torture, drop-oldest", || play(Variant::DropOldest)),
    ])
}

fn play(variant: Variant) -> Result<(), String> {
    let started = Instant::now();
    let kills = torment::kills(KILLS).div_ceil(3);
    let (root, bus) = torment::place()?;
    let channel = variant.open(&bus)?;
    let reader = channel
        .reader()
        .start(Start::Earliest)
        .join()
        .map_err(text)?;
    let (acks, stop) = (AckBoard::new(PRODUCERS)?, AckBoard::new(1)?);
    // How many records of each life were acknowledged, by producer.
    let lives: Vec<RefCell<Vec<u64>>> = (0..PRODUCERS).map(|_| RefCell::default()).collect();
    let over = AtomicBool::new(false);

    let (report, checked) = std::thread::scope(|scope| {
        let checker = scope.spawn(|| check(reader, &over));
        let report = torment(variant, kills, &bus, &root, &acks, &stop, &lives);
        over.store(true, SeqCst);
        (report, checker.join().expect("the checker doesn't panic"))
    });
    let (mut ledger, report) = (checked?, report?);
    ledger.compare(&lives);
    let leak = find_leaks(&bus, &channel).err();
    println!(
        "{}",
        ledger.json(variant, &report, started.elapsed(), leak.as_deref())
    );
    match (ledger.first_fault, leak) {
        (None, None) => Ok(()),
        (Some(fault), _) => Err(fault),
        (None, Some(leak)) => Err(leak),
    }
}

fn torment(
    variant: Variant,
    kills: u64,
    bus: &Bus,
    root: &TempBus,
    acks: &AckBoard,
    stop: &AckBoard,
    lives: &[RefCell<Vec<u64>>],
) -> Result<Report, Fault> {
    let mut troupe = Troupe::new();
    let dress = |role: &str, index: usize| {
        let launch = Launch::role(role)
            .set("root", root.path().display())
            .set("index", index);
        launch
            .set("variant", variant.name())
            .board("acks", acks)
            .board("stop", stop)
    };
    for (index, lives) in lives.iter().enumerate() {
        let launch = dress("produce", index);
        troupe.join(&format!("producer {index}"), move |life| {
            if life > 0 {
                lives.borrow_mut().push(acks.get(index));
            }
            acks.set(index, 0);
            Ok(launch.clone().set("life", life))
        });
    }
    for index in 0..CONSUMERS {
        let launch = dress("consume", index);
        troupe.join(&format!("consumer {index}"), move |life| {
            Ok(launch.clone().set("life", life))
        });
    }
    let report = torment::under_a_doctor(&mut troupe, bus, kills);
    stop.set(0, 1);
    let report = report?;
    troupe.finish()?;
    for (index, lives) in lives.iter().enumerate() {
        lives.borrow_mut().push(acks.get(index));
    }
    Ok(report)
}

// What the children do.

fn produce(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let (acks, stop) = (stage.board("acks"), stage.board("stop"));
    let mut random = Random::new(id(index, life, 0));
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let channel = Variant::of(stage).open(&bus)?;
    let mut number = 0;
    while stop.get(0) == 0 {
        let mut producer = match channel.producer() {
            Ok(producer) => producer,
            Err(ringway::JoinError::Busy { .. }) => {
                // Paces the next attempt, and stands for nothing.
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            Err(error) => return Err(text(error)),
        };
        for _ in 0..500 + random.below(2000) {
            let len = match random.below(3) {
                0 => 16 + random.below(LONGEST),
                _ => 16 + random.below(INLINE as u64 - 15),
            };
            let sent = send(
                &mut producer,
                &mut random,
                &body(id(index, life, number), len as usize),
            );
            match sent {
                Ok(()) => {
                    number += 1;
                    acks.set(index as usize, number);
                }
                Err(SendError::Full { .. } | SendError::Stalled { .. }) => {}
                Err(SendError::PoolExhausted { .. }) => std::thread::yield_now(),
                Err(error) => return Err(text(error)),
            }
            if stop.get(0) != 0 {
                break;
            }
        }
    }
    Ok(())
}

/// One record, by one of the ways there are.
fn send(producer: &mut Producer, random: &mut Random, body: &[u8]) -> Result<(), SendError> {
    let inline = body.len() <= producer.inline_bytes();
    match random.below(4) {
        0 if inline => {
            let sent = producer.try_send_with(body.len(), |out| out.copy_from_slice(body));
            sent.map(drop)
        }
        0 => {
            let mut loan = producer.loan(body.len())?;
            loan.copy_from_slice(body);
            producer
                .try_send_loan(loan)
                .map(drop)
                .map_err(|(error, _)| error)
        }
        1 => producer.try_send_batch(&[body]).map(drop),
        _ => producer.send(body, Duration::from_millis(20)).map(drop),
    }
}

/// Reads in every way there is and checks the order while it lives.
fn consume(stage: &Stage) -> Result<(), String> {
    let (index, life): (u64, u64) = (stage.get("index"), stage.get("life"));
    let stop = stage.board("stop");
    let mut random = Random::new(id(100 + index, life, 0));
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let channel = Variant::of(stage).open(&bus)?;
    let start = if random.percent(50) {
        Start::Earliest
    } else {
        Start::Latest
    };
    let builder = channel.reader().start(start);
    // Every fourth may be left behind even where the others are waited for.
    let builder = if index == 3 { builder.lossy() } else { builder };
    let mut reader = builder.join().map_err(text)?;
    let mut ledger = Ledger {
        joined_late: true,
        ..Ledger::default()
    };
    let mut kept = Vec::new();
    while stop.get(0) == 0 {
        ledger.read_some(&mut reader, &mut random, &mut kept)?;
        if let Some(fault) = ledger.first_fault {
            return Err(fault);
        }
    }
    Ok(())
}

// What the checker does.

/// Reads until everybody has ended and nothing more comes.
fn check(mut reader: Reader, over: &AtomicBool) -> Result<Ledger, String> {
    let mut ledger = Ledger::default();
    let mut buffer = vec![0; 2 * LONGEST as usize];
    loop {
        let was_over = over.load(SeqCst);
        let mut any = false;
        loop {
            match reader.try_read(&mut buffer) {
                Ok(None) => break,
                Ok(Some(record)) => ledger.note(record.position, &buffer[..record.len]),
                Err(ReadError::Lagged { from, to }) => ledger.lag(from, to),
                Err(error) => return Err(text(error)),
            }
            any = true;
        }
        if !any && !reader.wait(Duration::from_millis(20)).map_err(text)? && was_over {
            return Ok(ledger);
        }
    }
}

/// What was read.
#[derive(Default)]
struct Ledger {
    /// The next number of each (producer, life), and how many lags there were before the last.
    next: HashMap<(u64, u64), (u64, u64)>,
    /// The last life of each producer.
    life: HashMap<u64, u64>,
    /// Where the next record is expected, or later.
    position: u64,
    joined_late: bool,
    lags: u64,
    lagged: u64,
    read: u64,
    missed: u64,
    acked: u64,
    unacked: u64,
    lost: u64,
    duplicates: u64,
    inversions: u64,
    torn: u64,
    miscounted: u64,
    first_fault: Option<String>,
}

impl Ledger {
    fn fault(&mut self, why: impl FnOnce() -> String) {
        if self.first_fault.is_none() {
            self.first_fault = Some(why());
        }
    }

    fn note(&mut self, position: u64, body: &[u8]) {
        let id = match id_of(body) {
            Ok(id) => id,
            Err(why) => {
                self.torn += 1;
                return self.fault(|| format!("position {position}: {why}"));
            }
        };
        self.read += 1;
        if position < self.position {
            self.inversions += 1;
            let expected = self.position;
            self.fault(|| format!("position {position} behind {expected}"));
        }
        self.position = position + 1;
        let (producer, life, number) = (id >> 56, id >> 32 & 0xFF_FFFF, id & 0xFFFF_FFFF);
        let last = self.life.insert(producer, life).unwrap_or(life);
        if last > life {
            self.inversions += 1;
            self.fault(|| format!("producer {producer}: life {life} behind life {last}"));
        }
        let lags = self.lags;
        let first = if self.joined_late { number } else { 0 };
        let (next, lags_then) = *self.next.entry((producer, life)).or_insert((first, 0));
        if number < next {
            self.duplicates += 1;
            self.fault(|| format!("{producer}/{life}: number {number} again, expected {next}"));
            return;
        }
        if number > next && lags == lags_then {
            self.lost += number - next;
            self.fault(|| {
                format!(
                    "{producer}/{life}: number {number} at position {position}, expected {next}"
                )
            });
        } else {
            self.missed += number - next;
        }
        self.next.insert((producer, life), (number + 1, lags));
    }

    fn lag(&mut self, from: u64, to: u64) {
        let expected = self.position;
        // Positions without a record lie between; they were passed without a word.
        if to <= from || from < expected {
            self.miscounted += 1;
            self.fault(|| format!("lagged from {from} to {to}, expected {expected}"));
        }
        self.position = to;
        self.lags += 1;
        self.lagged += to - from;
    }

    fn read_some(
        &mut self,
        reader: &mut Reader,
        random: &mut Random,
        kept: &mut Vec<(ringway::PinnedView, u64)>,
    ) -> Result<(), String> {
        let mut buffer = vec![0; 2 * LONGEST as usize];
        let read = match random.below(5) {
            0 => reader.read_batch(100, |record, body| self.note(record.position, body)),
            1 => match reader.try_view() {
                Ok(Some(view)) => {
                    self.note(view.record().position, &view);
                    Ok(1)
                }
                other => other.map(|_| 0),
            },
            2 if kept.len() < 8 => match reader.try_view_pinned() {
                Ok(Some(view)) => {
                    self.note(view.record().position, &view);
                    let id = id_of(&view)?;
                    kept.push((view, id));
                    Ok(1)
                }
                other => other.map(|_| 0),
            },
            _ => match reader.read(&mut buffer, Duration::from_millis(5)) {
                Ok(Some(record)) => {
                    self.note(record.position, &buffer[..record.len]);
                    Ok(1)
                }
                other => other.map(|_| 0),
            },
        };
        match read {
            Ok(_) => {}
            Err(ReadError::Lagged { from, to }) => self.lag(from, to),
            Err(error) => return Err(text(error)),
        }
        // What was pinned some time ago still is what it was.
        if !kept.is_empty() && random.percent(5) {
            let (view, id) = kept.swap_remove(random.below(kept.len() as u64) as usize);
            if id_of(&view) != Ok(id) {
                return Err(format!(
                    "a pinned view of {id:#x} changed: {:x?}",
                    id_of(&view)
                ));
            }
        }
        Ok(())
    }

    /// Holds the books against what was acknowledged in each life.
    fn compare(&mut self, lives: &[RefCell<Vec<u64>>]) {
        for (producer, lives) in lives.iter().enumerate() {
            for (life, acked) in lives.borrow().iter().enumerate() {
                self.acked += acked;
                let key = (producer as u64, life as u64);
                let (read, lags) = self.next.get(&key).copied().unwrap_or((0, 0));
                if read < *acked && self.lags == lags {
                    self.lost += acked - read;
                    self.fault(|| format!("{key:?}: {acked} acknowledged, read up to {read}"));
                } else if read < *acked {
                    self.missed += acked - read;
                } else if read > acked + 1 {
                    self.duplicates += read - acked - 1;
                    self.fault(|| format!("{key:?}: {acked} acknowledged, {read} read"));
                }
                self.unacked += read.saturating_sub(*acked);
            }
        }
        if self.missed > self.lagged {
            let (missed, lagged) = (self.missed, self.lagged);
            self.miscounted += 1;
            self.fault(|| format!("{missed} records missed, {lagged} announced"));
        }
    }

    fn json(
        &self,
        variant: Variant,
        report: &Report,
        took: Duration,
        leak: Option<&str>,
    ) -> String {
        let Ledger {
            read,
            acked,
            unacked,
            lost,
            duplicates,
            inversions,
            torn,
            ..
        } = self;
        let Ledger {
            missed,
            lags,
            lagged,
            miscounted,
            ..
        } = self;
        let Report {
            seed,
            kills,
            kills_of_stopped,
            stops,
            continues,
            births,
            ..
        } = report;
        let (variant, seconds) = (variant.name(), took.as_secs_f64());
        format!(
            "{{\"figure\":\"R3\",\"variant\":\"{variant}\",\"seed\":{seed},\"kills\":{kills},\
             \"kills_of_stopped\":{kills_of_stopped},\"stops\":{stops},\"continues\":{continues},\
             \"births\":{births},\"acked\":{acked},\"read\":{read},\"unacked_read\":{unacked},\
             \"lost\":{lost},\"duplicates\":{duplicates},\"inversions\":{inversions},\
             \"torn\":{torn},\"lags\":{lags},\"lagged_positions\":{lagged},\"missed\":{missed},\
             \"miscounted\":{miscounted},\"leaks\":{},\"seconds\":{seconds:.1}}}",
            u8::from(leak.is_some())
        )
    }
}

/// Everybody has ended: nothing of theirs is left, and the ring is as large as on its first day.
fn find_leaks(bus: &Bus, channel: &Channel) -> Result<(), String> {
    bus.reap().map_err(text)?;
    let report = bus.doctor(false).map_err(text)?;
    let clean = report.is_clean() && report.participants == 1 && report.open_claims == 0;
    if !clean || report.damaged_slots != 0 {
        return Err(format!("left behind: {report:?}"));
    }
    let mut producer = channel.producer().map_err(text)?;
    let mut last = None;
    for n in 0..4 * SLOTS {
        let position = producer.try_send(&body(n, INLINE)).map_err(text)?;
        // The first lap may step over what a view held that died; then every slot is there.
        if n > SLOTS && last.is_some_and(|last| last + 1 != position) {
            return Err(format!("a slot is lost: {last:?}, then {position}"));
        }
        last = Some(position);
    }
    drop(producer);
    let report = bus.doctor(false).map_err(text)?;
    let stats = channel.stats();
    let [_, owned, attached] = report.chunks;
    if (owned, attached) == (0, 0) && stats.readers.is_empty() && stats.producer.is_none() {
        Ok(())
    } else {
        Err(format!("lost: {report:?}, {stats:?}"))
    }
}
