//! A file of flights through a durable FIFO queue, sent by four processes of which all are killed at once, at a
//! random moment, ten times; and each time what was in memory is gone, as by a restart of the machine.
//!
//! Each sender has a quarter of the planes, which are the message groups, and the line number is the
//! deduplication id. It writes down the lines that were acknowledged, behind the acknowledgement, and its next
//! life begins some lines before the end of that: those, and the batch that was under way when it was killed,
//! are sent again.
//!
//! Behind each death the queue is made again from its journal, and then: every line that was acknowledged is
//! there, none is there twice, and of each plane there are its first lines, in order. At the end every line is there
//! once, and sorted they have the SHA-256 of the file.
//!
//! ```text
//! cargo test --release --test durable_flights                       2,000 rows
//! cargo test --release --test durable_flights -- FILE.csv[.gz]      the whole file
//! ```
//! One JSON line on standard output.

mod stage;

use ringway::{Bus, Deduplication, Durability, Outgoing, Queue, QueueSendError};
use ringway_harness::seed::{Random, announce};
use ringway_harness::{AckBoard, Launch, Stage, TempBus, Victim};
use sha2::{Digest, Sha256};
use stage::text;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

ringway_harness::roles! {
    send => send,
}

const SENDERS: usize = 4;
const DEATHS: u64 = 10;
/// What a send takes at most, as in SQS.
const BATCH: usize = 10;
/// Acknowledged lines that are sent again by the next life.
const AGAIN: usize = 15;
/// Whoever has found nothing for so long has looked everywhere.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// The column that names the plane.
const PLANE: usize = 11;

/// Words of the board: lines acknowledged, by sender; and repeats that were dropped.
const DUPLICATES: usize = SENDERS;

struct Flights {
    header: String,
    rows: Vec<String>,
    plane_of: Vec<usize>,
    planes: Vec<String>,
}

impl Flights {
    fn read(path: &Path) -> Result<Self, String> {
        let named = |error| format!("{}: {error}", path.display());
        let mut file = File::open(path).map_err(named)?;
        let mut whole = String::new();
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut unpacked = flate2::read::GzDecoder::new(file);
            unpacked.read_to_string(&mut whole).map_err(named)?;
        } else {
            file.read_to_string(&mut whole).map_err(named)?;
        }
        let mut lines = whole.split_inclusive('\n').map(str::to_owned);
        let header = lines.next().ok_or("an empty file")?;
        let rows: Vec<String> = lines.collect();
        let (mut planes, mut known) = (Vec::new(), HashMap::new());
        let mut plane_of = Vec::new();
        for row in &rows {
            let name = row.split(',').nth(PLANE).ok_or("a row without a plane")?;
            let plane = *known.entry(name.to_owned()).or_insert_with(|| {
                planes.push(format!("plane-{name}"));
                planes.len() - 1
            });
            plane_of.push(plane);
        }
        Ok(Self {
            header,
            rows,
            plane_of,
            planes,
        })
    }

    /// The rows of a sender.
    fn of(&self, sender: usize) -> Vec<usize> {
        let all = 0..self.rows.len();
        all.filter(|row| self.plane_of[*row] % SENDERS == sender)
            .collect()
    }
}

fn open(memory: &Path, disk: &Path, rows: usize) -> Result<(Bus, Queue), String> {
    let bus = stage::bus(memory).journal_root(disk.join("journals"));
    let bus = bus.open_or_create().map_err(text)?;
    let queue = bus.queue("flights.fifo").durability(Durability::Durable);
    let slots = (2 * rows as u64).next_power_of_two();
    let rules = Deduplication::of_ids(slots);
    let queue = queue.fifo().deduplicate(rules).slots(slots).stride(384);
    let queue = queue.open_or_create().map_err(text)?;
    Ok((bus, queue))
}

/// A directory and what is in it.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::create_dir_all(to).map_err(text)?;
    for entry in std::fs::read_dir(from).map_err(text)? {
        let path = entry.map_err(text)?.path();
        let to = to.join(path.file_name().ok_or("a name")?);
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, to).map_err(text)?;
        }
    }
    Ok(())
}

/// The rows that a sender has written down as acknowledged.
fn acked(disk: &Path, sender: usize) -> Vec<usize> {
    let bytes = std::fs::read(disk.join(format!("acked-{sender}"))).unwrap_or_default();
    let rows = bytes.chunks_exact(4);
    rows.map(|row| u32::from_le_bytes(row.try_into().expect("four bytes")) as usize)
        .collect()
}

fn send(stage: &Stage) -> Result<(), String> {
    let (memory, disk) = (stage.path("memory"), stage.path("disk"));
    let flights = Flights::read(&stage.path("file"))?;
    let me: usize = stage.get("me");
    let (_bus, queue) = open(&memory, &disk, flights.rows.len())?;
    let board = stage.board("board");
    let rows = flights.of(me);
    let last = acked(&disk, me).last().copied();
    let done = rows.iter().take_while(|row| Some(**row) <= last).count();
    let path = disk.join(format!("acked-{me}"));
    let written = OpenOptions::new().create(true).append(true).open(path);
    let mut written = written.map_err(text)?;
    let mut sender = queue.sender().map_err(text)?;
    for batch in rows[done.saturating_sub(AGAIN)..].chunks(BATCH) {
        let ids: Vec<_> = batch.iter().map(ToString::to_string).collect();
        let messages: Vec<_> = batch
            .iter()
            .zip(&ids)
            .map(|(row, id)| {
                let group = &flights.planes[flights.plane_of[*row]];
                let body = flights.rows[*row].as_bytes();
                Outgoing::new(body).group(group).dedup_id(id)
            })
            .collect();
        for (row, sent) in batch.iter().zip(sender.send_message_batch(&messages)) {
            let sent = sent.map_err(|error: QueueSendError| error.to_string())?;
            board.add(DUPLICATES, u64::from(sent.duplicate));
            if last.is_none_or(|last| *row > last) {
                written
                    .write_all(&(*row as u32).to_le_bytes())
                    .map_err(text)?;
                board.add(me, 1);
            }
        }
    }
    Ok(())
}

struct Scene {
    file: PathBuf,
    flights: Flights,
    memory: TempBus,
    disk: TempBus,
    board: AckBoard,
}

impl Scene {
    fn senders(&self) -> Result<Vec<Victim>, String> {
        let launch = |me: usize| {
            let launch = Launch::role("send").set("me", me);
            let launch = launch.set("file", self.file.display());
            let launch = launch.set("memory", self.memory.path().display());
            let launch = launch.set("disk", self.disk.path().display());
            launch.board("board", &self.board).spawn().map_err(text)
        };
        (0..SENDERS).map(launch).collect()
    }

    fn acked(&self) -> u64 {
        (0..SENDERS).map(|me| self.board.get(me)).sum()
    }

    /// What was in memory is gone.
    fn forget(&self) -> Result<(), String> {
        for entry in std::fs::read_dir(self.memory.path()).map_err(text)? {
            std::fs::remove_dir_all(entry.map_err(text)?.path()).map_err(text)?;
        }
        Ok(())
    }

    /// Makes the queue again from a copy of its journal, takes everything out of it, and holds that against what
    /// was acknowledged. The rows that are there.
    fn look(&self) -> Result<Vec<usize>, String> {
        let (memory, disk) = (
            TempBus::new()?,
            TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
        );
        copy(
            &self.disk.path().join("journals"),
            &disk.path().join("journals"),
        )?;
        let (_bus, queue) = open(memory.path(), disk.path(), self.flights.rows.len())?;
        let mut receiver = queue.receiver().map_err(text)?;
        let number: HashMap<&str, usize> = self
            .flights
            .rows
            .iter()
            .enumerate()
            .map(|(number, row)| (row.as_str(), number))
            .collect();
        let mut of_plane: Vec<Vec<usize>> = vec![Vec::new(); self.flights.planes.len()];
        loop {
            // A receive that waits for none looks at a part of the queue.
            let batch = receiver.receive(1000, LAST_LOOK, None).map_err(text)?;
            if batch.is_empty() {
                break;
            }
            let receipts: Vec<_> = batch.iter().map(|it| it.received.receipt).collect();
            if let Some((_, error)) = receiver.delete_batch(&receipts).into_iter().next() {
                return Err(error.to_string());
            }
            for message in batch {
                let row = std::str::from_utf8(&message.body).map_err(text)?;
                let row = *number.get(row).ok_or("a row that is not in the file")?;
                of_plane[self.flights.plane_of[row]].push(row);
            }
        }
        for (plane, found) in of_plane.iter().enumerate() {
            let rows = 0..self.flights.rows.len();
            let first = rows.filter(|row| self.flights.plane_of[*row] == plane);
            if !first.take(found.len()).eq(found.iter().copied()) {
                let name = &self.flights.planes[plane];
                return Err(format!("of {name} there is {found:?}, not its first rows"));
            }
        }
        let mut there: Vec<_> = of_plane.into_iter().flatten().collect();
        there.sort_unstable();
        for sender in 0..SENDERS {
            for row in acked(self.disk.path(), sender) {
                if there.binary_search(&row).is_err() {
                    return Err(format!("row {row} was acknowledged and is lost"));
                }
            }
        }
        Ok(there)
    }
}

fn play(file: PathBuf) -> Result<(), String> {
    let mut random = Random::new(announce("when all senders are killed"));
    let flights = Flights::read(&file)?;
    let rows = flights.rows.len();
    let scene = Scene {
        file,
        flights,
        memory: TempBus::new()?,
        disk: TempBus::under(env!("CARGO_TARGET_TMPDIR"))?,
        board: AckBoard::new(DUPLICATES + 1)?,
    };
    let (mut at_death, mut beyond) = (Vec::new(), 0);
    for death in 0..DEATHS {
        let mut senders = scene.senders()?;
        let until = rows as u64 * (2 * death + 1 + random.below(2)) / (2 * DEATHS + 2);
        ringway_harness::await_condition("so many rows are acknowledged", || {
            scene.acked() >= until
        })?;
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        for victim in &senders {
            victim.signal(libc::SIGKILL)?;
        }
        for victim in &mut senders {
            victim.kill()?;
        }
        scene.forget()?;
        let there = scene.look()?;
        at_death.push(scene.acked());
        beyond += there.len() as u64 - scene.acked();
    }
    for mut sender in scene.senders()? {
        sender.wait_success()?;
    }
    scene.forget()?;
    let there = scene.look()?;
    if there.len() != rows {
        return Err(format!("{} of {rows} rows are there", there.len()));
    }
    let mut merged = Sha256::new();
    merged.update(&scene.flights.header);
    for row in there {
        merged.update(&scene.flights.rows[row]);
    }
    let mut whole = Sha256::new();
    whole.update(&scene.flights.header);
    scene.flights.rows.iter().for_each(|row| whole.update(row));
    if merged.finalize() != whole.finalize() {
        return Err("what came out is not what went in".into());
    }
    let duplicates = scene.board.get(DUPLICATES);
    if duplicates == 0 {
        return Err("nothing was sent again: the deaths show nothing".into());
    }
    println!(
        "{{\"check\":\"durable flights\",\"rows\":{rows},\"deaths\":{DEATHS},\"acked_at_death\":{at_death:?},\
         \"lost\":0,\"there_unacknowledged\":{beyond},\"repeats_dropped\":{duplicates},\"twice\":0}}"
    );
    Ok(())
}

fn main() -> ExitCode {
    let given = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flights.csv");
    stage::run_one(
        "what four senders were told is there behind ten deaths",
        play(given.map_or(own, PathBuf::from)),
    )
}
