//! Redis Streams as a queue: XADD, XREADGROUP, XACK and XDEL, the whole life of a message.
//!
//! Over a Unix socket, with persistence off, pipelined: so many messages are sent in one write, read
//! by one XREADGROUP, and acknowledged and deleted in one write. The number is part of the name.
//! Reads block in the server; a client never polls.

mod aof;
mod server;

use ::redis::{Connection, Value};
use ringway_measure::scratch::Scratch;
use ringway_measure::{
    Consume, Contender, Kind, Mode, Offer, Plan, Produce, Result, Round, Scenario, drive,
};
use server::Server;

pub(crate) fn all() -> [&'static dyn Contender; 4] {
    [&ONE, &TEN, &HUNDRED, &aof::Aof]
}

static ONE: Streams = Streams {
    name: "redis-streams-1",
    about: "Redis Streams over a Unix socket, message by message",
    at_once: 1,
    messages: 10_000,
};
static TEN: Streams = Streams {
    name: "redis-streams-10",
    about: "Redis Streams over a Unix socket, pipelined by 10",
    at_once: 10,
    messages: 50_000,
};
static HUNDRED: Streams = Streams {
    name: "redis-streams-100",
    about: "Redis Streams over a Unix socket, pipelined by 100",
    at_once: 100,
    messages: 100_000,
};

struct Streams {
    name: &'static str,
    about: &'static str,
    at_once: usize,
    messages: u64,
}

const STREAM: &str = "s";
const GROUP: &str = "g";

impl Contender for Streams {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn offers(&self) -> Vec<Offer> {
        let scenarios = [Scenario::Queue, Scenario::QueueBatch];
        scenarios
            .map(|scenario| Offer::new(scenario, Mode::Block, self.messages))
            .to_vec()
    }

    fn available(&self) -> Result<()> {
        server::available()
    }

    fn round(&self, plan: &Plan) -> Result<Round> {
        let scratch = Scratch::in_shared_memory()?;
        let server = Server::start(scratch.path())?;
        let mut create = ::redis::cmd("XGROUP");
        create.arg("CREATE").arg(STREAM).arg(GROUP).arg("$");
        create.arg("MKSTREAM").exec(&mut server.connect()?)?;
        drive::throughput(
            plan,
            |_| {
                Ok(Sender {
                    connection: server.connect()?,
                    body: vec![1; plan.size],
                    at_once: self.at_once,
                })
            },
            |_| {
                Ok(Receiver {
                    connection: server.connect()?,
                    at_once: self.at_once,
                })
            },
        )
    }
}

struct Sender {
    connection: Connection,
    body: Vec<u8>,
    at_once: usize,
}

impl Produce for Sender {
    fn produce(&mut self, first: u64, count: u64) -> Result<()> {
        let mut next = first;
        while next < first + count {
            let size = (self.at_once as u64).min(first + count - next);
            let mut adds = ::redis::pipe();
            for number in next..next + size {
                self.body[..8].copy_from_slice(&number.to_le_bytes());
                adds.cmd("XADD")
                    .arg(STREAM)
                    .arg("*")
                    .arg("b")
                    .arg(&self.body[..]);
            }
            adds.exec(&mut self.connection)?;
            next += size;
        }
        Ok(())
    }
}

struct Receiver {
    connection: Connection,
    at_once: usize,
}

impl Consume for Receiver {
    fn consume(&mut self, count: u64) -> Result<u64> {
        let (mut left, mut sum) = (count, 0u64);
        while left > 0 {
            let most = self.at_once.min(left as usize);
            let mut read = ::redis::cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg("c").arg("COUNT").arg(most);
            read.arg("BLOCK").arg(0).arg("STREAMS").arg(STREAM).arg(">");
            let reply: Value = read.query(&mut self.connection)?;
            let entries = entries(&reply).ok_or_else(|| format!("XREADGROUP said {reply:?}"))?;
            let mut ack = ::redis::cmd("XACK");
            ack.arg(STREAM).arg(GROUP);
            let mut delete = ::redis::cmd("XDEL");
            delete.arg(STREAM);
            for entry in entries {
                let (id, number) =
                    entry_of(entry).ok_or_else(|| format!("an entry is {entry:?}"))?;
                sum = sum.wrapping_add(number);
                ack.arg(id);
                delete.arg(id);
            }
            let mut settle = ::redis::pipe();
            settle.add_command(ack).add_command(delete);
            let settled: (u64, u64) = settle.query(&mut self.connection)?;
            if settled != (entries.len() as u64, entries.len() as u64) {
                return Err(
                    format!("of {} messages {settled:?} were settled", entries.len()).into(),
                );
            }
            left -= entries.len() as u64;
        }
        Ok(sum)
    }
}

/// The entries of the one stream in a reply: [[stream, [entry, ...]]].
fn entries(reply: &Value) -> Option<&[Value]> {
    let Value::Array(streams) = reply else {
        return None;
    };
    let [Value::Array(stream)] = &streams[..] else {
        return None;
    };
    match &stream[..] {
        [_, Value::Array(entries)] if !entries.is_empty() => Some(entries),
        _ => None,
    }
}

/// Id and number of an entry: [id, [field, body]].
fn entry_of(entry: &Value) -> Option<(&[u8], u64)> {
    let Value::Array(entry) = entry else {
        return None;
    };
    let [Value::BulkString(id), Value::Array(fields)] = &entry[..] else {
        return None;
    };
    let [_, Value::BulkString(body)] = &fields[..] else {
        return None;
    };
    Some((id, u64::from_le_bytes(*body.first_chunk()?)))
}
