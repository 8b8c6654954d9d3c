//! What a process of the demonstration does: sends its share of the rows, or receives until told to
//! stop.

use super::flights::Flights;

use super::{durable, queue, stream, topic};
use crate::output::{Place, now_ns};
use anyhow::Context;
use ringway::Bus;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The mark to stop: consumers have to find no more when it is there.
pub const STOP: &str = "stop";
/// Outputs of consumers lie in this directory.
pub const OUTPUTS: &str = "outputs";

/// Which part, and everything it has to know.
#[derive(Clone, Serialize, Deserialize)]
pub struct Part {
    pub role: Role,
    pub root: Option<PathBuf>,
    pub journal_root: Option<PathBuf>,
    pub bus: String,
    /// Of this part of the story: outputs, and the mark to stop.
    pub directory: PathBuf,
    pub data: Option<PathBuf>,
    pub index: usize,
    pub of: usize,
    /// Which process in this place.
    pub life: u64,
    /// When the first row is due, and how long it takes to the last.
    pub start_ns: u64,
    pub pace_ns: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Role {
    QueueProducer,
    QueueConsumer,
    StreamProducer,
    StreamWorker,
    TopicPublisher,
    TopicConsumer,
    DurableProducer,
    DurableConsumer,
}

impl Part {
    /// An output of its own.
    pub fn create_output(&self) -> anyhow::Result<File> {
        let name = format!("{}-{}", self.index, self.life);
        let path = self.directory.join(OUTPUTS).join(name);
        File::create(&path).with_context(|| format!("can't make {}", path.display()))
    }

    /// Whether everything is done.
    pub fn is_over(&self) -> bool {
        self.directory.join(STOP).exists()
    }

    fn flights(&self) -> anyhow::Result<Flights> {
        Flights::read(self.data.as_deref())
    }

    fn bus(&self) -> anyhow::Result<Bus> {
        let place = Place {
            root: self.root.clone(),
            journal_root: self.journal_root.clone(),
            json: false,
        };
        place.open(&self.bus)
    }

    /// Its share: whole planes.
    pub fn is_mine(&self, plane: u32) -> bool {
        plane as usize % self.of == self.index
    }

    /// The numbers of its rows.
    pub fn mine(&self, flights: &Flights) -> Vec<usize> {
        let rows = flights.rows.iter().enumerate();
        let mine = rows.filter(|(_, row)| self.is_mine(row.plane));
        mine.map(|(number, _)| number).collect()
    }

    /// Sleeps until row `number` of `rows` is due.
    pub fn keep_pace(&self, number: usize, rows: usize) {
        let behind = u128::from(self.pace_ns) * number as u128 / rows as u128;
        let due = self.start_ns + behind as u64;
        let left = due.saturating_sub(now_ns());
        if left > 0 {
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}

pub fn run(part: &str) -> anyhow::Result<ExitCode> {
    // Whoever started it may be killed too.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let part: Part = serde_json::from_str(part).context("`ringway demo` starts this by itself")?;
    let bus = part.bus()?;
    match part.role {
        Role::QueueProducer => queue::produce(&part, &part.flights()?, &bus)?,
        Role::QueueConsumer => queue::consume(&part, &bus)?,
        Role::StreamProducer => stream::produce(&part, &part.flights()?, &bus)?,
        Role::StreamWorker => stream::work(&part, &bus)?,
        Role::TopicPublisher => topic::publish(&part, &part.flights()?, &bus)?,
        Role::TopicConsumer => topic::consume(&part, &bus)?,
        Role::DurableProducer => durable::produce(&part, &part.flights()?, &bus)?,
        Role::DurableConsumer => durable::consume(&part, &bus)?,
    }
    Ok(ExitCode::SUCCESS)
}
