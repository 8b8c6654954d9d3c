//! Redis with an append-only file that is synced before every reply: messages that are durable when the call
//! returns.
//!
//! XADD over a Unix socket: one at a time, from eight threads with a connection each, or pipelined by the
//! batch of the plan. The file is on $TMPDIR or /var/tmp, as everybody's is.

use super::server::{self, Server};
use ::redis::Connection;
use ringway_measure::durable::{self, GROUP, Pour, Settle};
use ringway_measure::scratch::DiskScratch;
use ringway_measure::{Contender, Kind, Mode, Offer, Plan, Result, Round, Scenario};

pub(super) struct Aof;

const STREAM: &str = "s";

impl Contender for Aof {
    fn name(&self) -> &'static str {
        "redis-aof"
    }

    fn about(&self) -> &'static str {
        "Redis Streams over a Unix socket, appendfsync always"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        vec![
            Offer::new(Scenario::DurableOne, Mode::Block, 2_000),
            Offer::new(Scenario::DurableGroup, Mode::Block, 8_000),
            Offer::new(Scenario::DurableBatch, Mode::Block, 50_000),
        ]
    }

    fn available(&self) -> Result<()> {
        server::available()
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = DiskScratch::new()?;
        let server = Server::start_durable(scratch.path())?;
        let client = || {
            Ok(Client {
                connection: server.connect()?,
                body: vec![1; plan.size],
                batch: plan.batch as u64,
            })
        };
        match plan.scenario {
            Scenario::DurableOne => durable::one(plan, |_| client()),
            Scenario::DurableGroup => {
                durable::group(plan, |_| (0..GROUP).map(|_| client()).collect())
            }
            _ => durable::pour(plan, |_| client()),
        }
    }
}

struct Client {
    connection: Connection,
    body: Vec<u8>,
    batch: u64,
}

impl Client {
    fn add(&mut self, first: u64, count: u64) -> Result<()> {
        let mut adds = ::redis::pipe();
        for number in first..first + count {
            self.body[..8].copy_from_slice(&number.to_le_bytes());
            let add = adds.cmd("XADD").arg(STREAM).arg("*").arg("b");
            add.arg(&self.body[..]);
        }
        Ok(adds.exec(&mut self.connection)?)
    }
}

impl Settle for Client {
    fn settle(&mut self, number: u64) -> Result<()> {
        self.add(number, 1)
    }
}

impl Pour for Client {
    fn pour(&mut self, first: u64, count: u64) -> Result<()> {
        let mut next = first;
        while next < first + count {
            let size = self.batch.min(first + count - next);
            self.add(next, size)?;
            next += size;
        }
        Ok(())
    }
}
