//! A year of flights through a FIFO queue: the planes are message groups, receivers are killed.
//!
//! Four producer processes send a quarter of the planes each, rows in the order of the file, with the
//! line number as deduplication id. Of four consumer processes one is killed again and again and
//! comes back as a new process. Each consumer takes up to ten rows, and for each of them writes the
//! row to an output of its own, counts it for its plane, and deletes it.
//!
//! What holds whatever is killed when: *exactly once* is every row in the queue (one row in 50 is sent
//! twice, and the repeat is dropped; a row is gone once it is deleted) and in the merged output, which is keyed by line number as any idempotent
//! consumer's is. *At least once* is the processing itself: who dies between writing a row and deleting
//! it leaves it to be processed again, and that repeat is counted, checked to be the plane's latest
//! row, and checked to have the same bytes. A row that comes before the one in front of it in its
//! plane, or again behind a later one, is an inversion. There must be none, no row may be lost, and
//! the output sorted by line number has the SHA-256 of the input.
//!
//! ```text
//! cargo test --release --test flights                               2,000 rows, a kill every 100 rows
//! cargo test --release --test flights -- FILE.csv[.gz] [--every MS] [--work US]
//!     the whole file, a kill every MS (100) milliseconds, a consumer works US microseconds on a row
//! ```
//! One JSON line on standard output.

#[path = "../../cli/src/demo/flights.rs"]
#[allow(dead_code, unused_imports, reason = "the demonstration uses all of it")]
mod flights;
mod stage;

use flights::Flights;
use ringway::{Bus, Deduplication, Outgoing, Queue, QueueSendError};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim, deadline};
use sha2::{Digest, Sha256};
use stage::text;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

ringway_harness::roles! {
    produce => produce,
    consume => consume,
}

const PRODUCERS: usize = 4;
const CONSUMERS: usize = 4;
/// What a receive takes at most, as in SQS.
const BATCH: usize = 10;
/// Without a time between kills there is one whenever so many rows more are done.
const ROWS_A_KILL: u64 = 100;
/// One row in so many is sent twice.
const REPEAT_EVERY: usize = 50;
/// Nothing comes back but by the death of its holder.
const FOR_EVER: Duration = Duration::from_secs(43_200);
/// Longest wait for a message, and so for the end.
const WAIT: Duration = Duration::from_millis(20);

/// Words of the common board, before the rows of each plane that are done: about how many are done
/// (who is killed may have forgotten one),
const ABOUT: usize = 0;
/// how many of those came again that were not deleted, of all that came again,
const REPEATS: usize = 1;
const REDELIVERED: usize = 2;
const INVERSIONS: usize = 3;
/// and how many may be done until somebody is killed.
const ALLOWED: usize = 4;
const STOP: usize = 5;
const PLANES: usize = 6;

fn read(path: &Path) -> Result<Flights, String> {
    Flights::read(Some(path)).map_err(|error| format!("{error:#}"))
}

/// What the command line asks for.
struct Wish {
    file: PathBuf,
    /// Time between kills; none: by rows.
    every: Option<Duration>,
    work_us: u64,
}

fn wish() -> Result<Wish, String> {
    let mut wish = Wish {
        file: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flights.csv"),
        every: None,
        work_us: 0,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = |unit| {
            let number = arguments.next().and_then(|number| number.parse().ok());
            number.ok_or(format!("{argument} takes {unit}"))
        };
        if argument == "--every" {
            wish.every = Some(Duration::from_millis(number("milliseconds")?));
        } else if argument == "--work" {
            wish.work_us = number("microseconds")?;
        } else if !argument.starts_with('-') {
            wish.file = argument.into();
            wish.every.get_or_insert(Duration::from_millis(100));
        }
    }
    Ok(wish)
}

fn main() -> ExitCode {
    stage::run_one(
        "every flight arrives once and in order",
        wish().and_then(|wish| play(&wish)),
    )
}

fn open(bus: &Bus) -> Result<Queue, String> {
    let builder = bus.queue("flights.fifo").fifo().slots(1 << 14);
    let builder = builder.stride(384).visibility(FOR_EVER);
    let builder = builder.deduplicate(Deduplication::of_ids(1 << 19));
    builder.open_or_create().map_err(text)
}

fn play(wish: &Wish) -> Result<(), String> {
    let flights = read(&wish.file)?;
    let rows = flights.rows.len() as u64;
    let root = TempBus::new()?;
    let out = root.path().join("out");
    fs::create_dir(&out).map_err(text)?;
    let bus = stage::bus(root.path()).create().map_err(text)?;
    let queue = open(&bus)?;
    let board = AckBoard::new(PLANES + flights.planes.len())?;
    let launch = |role: &str, index: usize, life: u64| {
        let launch = Launch::role(role).set("root", root.path().display());
        let launch = launch.set("file", wish.file.display()).set("index", index);
        let launch = launch.set("life", life).set("work", wish.work_us);
        launch.board("board", &board).spawn()
    };
    board.set(
        ALLOWED,
        if wish.every.is_some() {
            rows
        } else {
            ROWS_A_KILL
        },
    );
    let mut consumers = Vec::new();
    for index in 0..CONSUMERS {
        consumers.push(launch("consume", index, 0)?);
    }
    let mut producers = Vec::new();
    for index in 0..PRODUCERS {
        producers.push(launch("produce", index, 0)?);
    }

    let started = Instant::now();
    let (mut kills, mut last_kill) = (0u64, started);
    let (mut done_before, mut moved) = (0, started);
    loop {
        let done = board.words()[PLANES..].iter().map(|word| word.load(SeqCst));
        let done: u64 = done.sum();
        if done >= rows {
            break;
        }
        let is_due = match wish.every {
            Some(every) => last_kill.elapsed() >= every,
            None => done >= board.get(ALLOWED),
        };
        if is_due {
            last_kill = Instant::now();
            let index = kills as usize % CONSUMERS;
            if !consumers[index].kill()?.is_kill() {
                return Err(format!("consumer {index} ended before it was killed"));
            }
            kills += 1;
            consumers[index] = launch("consume", index, kills)?;
            if wish.every.is_none() {
                board.add(ALLOWED, ROWS_A_KILL);
            }
        }
        if done != done_before {
            (done_before, moved) = (done, Instant::now());
        }
        if moved.elapsed() > deadline() {
            return Err(format!(
                "{done} of {rows} rows, and no more: {:?}",
                queue.stats()
            ));
        }
        check_alive(&mut consumers)?;
        for producer in &mut producers {
            if producer.try_wait()?.is_some_and(|exit| !exit.is_success()) {
                return Err(format!("{} failed", producer.name()));
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let seconds = started.elapsed().as_secs_f64();
    board.set(STOP, 1);
    for victim in producers.iter_mut().chain(&mut consumers) {
        victim.wait_success()?;
    }
    let stats = queue.stats();
    let (output, copies) = merge(&out, &flights)?;
    let lost = rows - output.len() as u64;
    let (mut input, mut output_digest) = (Sha256::new(), Sha256::new());
    input.update(&flights.header);
    output_digest.update(&flights.header);
    for (row, came) in flights.rows.iter().zip(output.values()) {
        input.update(&row.text);
        output_digest.update(came);
    }
    let hex =
        |digest: &[u8]| -> String { digest.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (input, output) = (hex(&input.finalize()), hex(&output_digest.finalize()));
    let [inversions, repeats, redelivered] =
        [INVERSIONS, REPEATS, REDELIVERED].map(|word| board.get(word));
    println!(
        "{{\"figure\":\"flights\",\"rows\":{rows},\"planes\":{},\"rows_per_s\":{:.0},\"kills\":{kills},\
         \"redelivered\":{redelivered},\"processed_again\":{repeats},\"copies\":{copies},\"repeats_dropped\":{},\
         \"inversions\":{inversions},\"lost\":{lost},\"sha256\":\"{output}\",\"equal\":{},\
         \"seconds\":{seconds:.1}}}",
        flights.planes.len(),
        rows as f64 / seconds,
        stats.duplicates,
        input == output,
    );
    if inversions != 0 || lost != 0 || input != output {
        return Err("rows out of order, lost, or changed".into());
    }
    if (stats.visible, stats.in_flight, stats.sent) != (0, 0, rows) {
        return Err(format!(
            "not every row was sent once and deleted: {stats:?}"
        ));
    }
    if kills == 0 {
        return Err("nobody was killed".into());
    }
    Ok(())
}

fn check_alive(consumers: &mut [Victim]) -> Result<(), String> {
    for consumer in consumers {
        if let Some(exit) = consumer.try_wait()? {
            return Err(format!("{} ended early: {exit:?}", consumer.name()));
        }
    }
    Ok(())
}

/// The rows that came, by line number; and how many came more than once, all with the same bytes.
fn merge(out: &Path, flights: &Flights) -> Result<(BTreeMap<u64, Vec<u8>>, u64), String> {
    let (mut rows, mut copies) = (BTreeMap::new(), 0);
    for entry in fs::read_dir(out).map_err(text)? {
        let bytes = fs::read(entry.map_err(text)?.path()).map_err(text)?;
        let mut rest = &bytes[..];
        // Who is killed in the middle of a write leaves less than it says: not deleted, so it came
        // again.
        while let Some((number, row, behind)) = record(rest) {
            rest = behind;
            if flights.rows.get(number as usize).is_none() {
                return Err(format!("row {number} was never sent"));
            }
            match rows.insert(number, row.to_vec()) {
                Some(before) if before != row => {
                    return Err(format!("row {number} came with other bytes again"));
                }
                Some(_) => copies += 1,
                None => {}
            }
        }
    }
    Ok((rows, copies))
}

/// A record of an output: line number, length, row.
fn record(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (row, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((u64::from_le_bytes(*number), row, rest))
}

// What the children do.

fn produce(stage: &Stage) -> Result<(), String> {
    let index: usize = stage.get("index");
    let flights = read(&stage.path("file"))?;
    let groups = flights.groups();
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut sender = open(&bus)?.sender().map_err(text)?;
    let mut body = Vec::new();
    for (number, row) in flights.rows.iter().enumerate() {
        let plane = row.plane as usize;
        if plane % PRODUCERS != index {
            continue;
        }
        body.clear();
        for word in [number as u64, plane as u64, row.rank.into()] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(row.text.as_bytes());
        let id = number.to_string();
        let message = Outgoing::new(&body).group(&groups[plane]);
        let message = message.dedup_id(&id);
        // Some are sent again, as by a producer that never heard that they were accepted.
        let times = if number % REPEAT_EVERY == 0 { 2 } else { 1 };
        for time in 0..times {
            let is_repeat = loop {
                match sender.send_message(&message) {
                    Ok(sent) => break sent.duplicate,
                    Err(QueueSendError::Full { .. }) => std::thread::yield_now(),
                    Err(error) => return Err(text(error)),
                }
            };
            if is_repeat != (time > 0) {
                return Err(format!(
                    "row {number}, sent {time} times before, is a repeat: {is_repeat}"
                ));
            }
        }
    }
    Ok(())
}

fn consume(stage: &Stage) -> Result<(), String> {
    let (index, life): (usize, u64) = (stage.get("index"), stage.get("life"));
    let board = stage.board("board");
    let work = Duration::from_micros(stage.get("work"));
    let name = format!("out/{index}-{life}");
    let mut out = File::create(stage.path("root").join(name)).map_err(text)?;
    let bus = stage::bus(&stage.path("root")).open().map_err(text)?;
    let mut receiver = open(&bus)?.receiver().map_err(text)?;
    while board.get(STOP) == 0 {
        for message in receiver.receive(BATCH, WAIT, None).map_err(text)? {
            while board.get(ABOUT) >= board.get(ALLOWED) && board.get(STOP) == 0 {
                std::thread::yield_now(); // until somebody was killed, perhaps this one
            }
            if message.received.receives() > 1 {
                board.add(REDELIVERED, 1);
            }
            let (words, row) = message
                .body
                .split_first_chunk::<24>()
                .ok_or("a short row")?;
            let word =
                |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| words[8 * at + byte]));
            let (number, plane, rank) = (word(0), word(1), word(2));
            if !work.is_zero() {
                std::thread::sleep(work);
            }
            let mut record = number.to_le_bytes().to_vec();
            record.extend_from_slice(&(row.len() as u32).to_le_bytes());
            record.extend_from_slice(row);
            out.write_all(&record).map_err(text)?;
            count(&board, plane as usize, rank)?;
            if !receiver.delete(&message.received.receipt).map_err(text)? {
                return Err(format!("row {number} was deleted by another"));
            }
        }
    }
    Ok(())
}

/// Counts a row for its plane: the next one, or once more the latest, whose consumer was killed
/// before it could delete it.
fn count(board: &AckBoard, plane: usize, rank: u64) -> Result<(), String> {
    let word = &board.words()[PLANES + plane];
    let next = word.load(SeqCst);
    if rank == next {
        let counted = word.compare_exchange(next, next + 1, SeqCst, SeqCst);
        counted.map_err(|now| format!("two consumers at one plane: {next}, {now}"))?;
        board.add(ABOUT, 1);
    } else if rank + 1 == next {
        board.add(REPEATS, 1);
    } else {
        board.add(INVERSIONS, 1);
    }
    Ok(())
}
