//! ringway's journal as a contender: messages that are durable when the call returns.
//!
//! `ringway-journal` has one writer in the process that measures, with the default sizes. One at a time, each is
//! a block of its own. In a group, the first thread that finds nobody leading writes for all that have gathered:
//! no timer, no thread beside them. Poured in, batches are submitted without waiting, and segments that are
//! over are given back and written over again, as in a long life.

use ::ringway::JournalError;
use ::ringway::journal::{DEFINITION_BYTES, Disk, Options, Pushed, SegmentId, Writer};
use ringway_measure::durable::{self, GROUP, Pour, Settle};
use ringway_measure::scratch::DiskScratch;
use ringway_measure::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

pub(super) fn all() -> [&'static dyn Contender; 1] {
    [&Journal]
}

struct Journal;

/// Kind of the entries.
const MESSAGE: u8 = 1;

impl Contender for Journal {
    fn name(&self) -> &'static str {
        "ringway-journal"
    }

    fn about(&self) -> &'static str {
        "ringway's journal: durable when the call returns"
    }

    fn kind(&self) -> Kind {
        Kind::Own
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::DurableOne, Mode::Block, 6_000),
            Offer::new(Scenario::DurableGroup, Mode::Block, 50_000),
            Offer::new(Scenario::DurableBatch, Mode::Block, 2_000_000),
            Offer::new(Scenario::DurableLarge, Mode::Block, 10_000),
        ]
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = DiskScratch::new()?;
        let writer = |one_thread| begin(&scratch.path().join("journal"), one_thread);
        let body = || vec![0x5A; plan.size];
        match plan.scenario {
            Scenario::DurableOne => durable::one(plan, |_| {
                Ok(One {
                    writer: writer(true)?,
                    body: body(),
                })
            }),
            Scenario::DurableGroup => durable::group(plan, |_| {
                let lead = Arc::new(Lead {
                    writer: Mutex::new(writer(false)?),
                    gathered: Mutex::new(Gathered::default()),
                    done: Condvar::new(),
                    size: plan.size,
                });
                let member = |_| Member {
                    lead: Arc::clone(&lead),
                    body: body(),
                };
                Ok((0..GROUP).map(member).collect())
            }),
            _ => durable::pour(plan, |_| {
                Ok(Stream {
                    writer: writer(true)?,
                    body: body(),
                    batch: plan.batch as u64,
                    released: 0,
                })
            }),
        }
    }
}

fn begin(dir: &Path, one_thread: bool) -> Result<Writer<Disk>> {
    let mut disk = Disk::open_or_create(dir)?;
    if one_thread {
        disk = disk.one_thread();
    }
    let options = Options {
        spares: 2,
        ..Options::default()
    };
    let definition = [0; DEFINITION_BYTES];
    Ok(Writer::take_over(
        Arc::new(disk),
        options,
        1,
        1,
        0,
        &definition,
    )?)
}

fn push(writer: &mut Writer<Disk>, body: &[u8]) -> std::result::Result<(), JournalError> {
    while writer.push(MESSAGE, 0, writer.next(), &[body])? == Pushed::Full {
        writer.complete_one()?;
    }
    Ok(())
}

struct One {
    writer: Writer<Disk>,
    body: Vec<u8>,
}

impl Settle for One {
    fn settle(&mut self, number: u64) -> Result<()> {
        self.body[..8].copy_from_slice(&number.to_le_bytes());
        push(&mut self.writer, &self.body)?;
        self.writer.submit()?;
        self.writer.complete(true)?;
        Ok(())
    }
}

/// What a group shares.
struct Lead {
    writer: Mutex<Writer<Disk>>,
    gathered: Mutex<Gathered>,
    done: Condvar,
    size: usize,
}

#[derive(Default)]
struct Gathered {
    /// Messages of one length, one behind the other.
    bodies: Vec<u8>,
    spare: Vec<u8>,
    /// How many were ever gathered, and how many of them are durable.
    count: u64,
    durable: u64,
    has_leader: bool,
    has_failed: bool,
}

struct Member {
    lead: Arc<Lead>,
    body: Vec<u8>,
}

impl Settle for Member {
    fn settle(&mut self, number: u64) -> Result<()> {
        self.body[..8].copy_from_slice(&number.to_le_bytes());
        let lead = &*self.lead;
        let mut gathered = lead.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.bodies.extend_from_slice(&self.body);
        gathered.count += 1;
        let own = gathered.count;
        while gathered.durable < own {
            if gathered.has_failed {
                return Err("the leader's write failed".into());
            }
            if gathered.has_leader {
                let woken = lead.done.wait(gathered);
                gathered = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            gathered.has_leader = true;
            // Those that were woken with this one come now: as long as they do, they are waited for.
            let mut seen = 0;
            while seen < gathered.count {
                seen = gathered.count;
                drop(gathered);
                std::thread::yield_now();
                gathered = lead.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            }
            let spare = std::mem::take(&mut gathered.spare);
            let mut bodies = std::mem::replace(&mut gathered.bodies, spare);
            let upto = gathered.count;
            drop(gathered);
            let written = lead.write(&bodies);
            bodies.clear();
            gathered = lead.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.spare = bodies;
            gathered.has_leader = false;
            gathered.has_failed = written.is_err();
            gathered.durable = upto;
            lead.done.notify_all();
            written?;
        }
        Ok(())
    }
}

impl Lead {
    fn write(&self, bodies: &[u8]) -> std::result::Result<(), JournalError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for body in bodies.chunks_exact(self.size) {
            push(&mut writer, body)?;
        }
        writer.submit()?;
        writer.complete(true)?;
        Ok(())
    }
}

struct Stream {
    writer: Writer<Disk>,
    body: Vec<u8>,
    batch: u64,
    /// Segments that were given back: one whose footer is under way is not taken yet.
    released: u64,
}

impl Pour for Stream {
    fn pour(&mut self, first: u64, count: u64) -> Result<()> {
        for number in first..first + count {
            self.body[..8].copy_from_slice(&number.to_le_bytes());
            push(&mut self.writer, &self.body)?;
            if (number + 1).is_multiple_of(self.batch) {
                self.writer.submit()?;
                let durable = self.writer.complete(false)?.cursor.segment;
                if durable > self.released {
                    let over = (self.released..durable).map(|index| SegmentId { epoch: 1, index });
                    self.released += self.writer.release(&over.collect::<Vec<_>>())? as u64;
                }
            }
        }
        self.writer.submit()?;
        self.writer.complete(true)?;
        Ok(())
    }
}
