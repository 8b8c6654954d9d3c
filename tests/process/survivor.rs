//! The survivor: the test process with an attachment of its own, which looks at what a killed or
//! stopped victim left, and goes on.
//!
//! What it insists on, whatever the operation and the step: each of its own records and each
//! acknowledged one of the victim is read exactly once, in order and whole, by a reliable reader
//! and by a lossy one alike; an unacknowledged one at most once; the ring takes as many records as
//! it has slots, twice; every chunk is free in the end; nobody but itself is left on the bus.

use crate::book::Book;
use crate::operations::{ACKS, Cost, Operation, VICTIM};
use crate::published::Published;
use crate::redriven::Redriven;
use crate::stage::{self, INLINE, SLOTS, body, id_of, text};
use crate::streamed::Streamed;
use ringway::{Bus, Channel, Idle, JoinError, Producer, ReadError, Reader, SendError, Start};
use ringway_harness::step::{Stepper, Zygote};
use ringway_harness::{AckBoard, Fault, Launch, TempBus, deadline};
use std::path::Path;
use std::time::{Duration, Instant};

/// Ids of the survivor's records begin here.
pub const SURVIVOR: u64 = 1 << 32;
/// A stopped victim may hold a claim, a pin and whatever it was stepping over.
const SLOTS_OF_THE_STOPPED: u64 = 4;
/// A fill takes 0.1 ms at least; these take longer than any probe is remembered.
const FILLS_WITHIN_A_TICK: u32 = 200;

/// The processes that victims are forked from, and the board they acknowledge on.
pub struct Wings {
    victims: Zygote,
    corpses: Zygote,
    acks: AckBoard,
    stage: usize,
    worlds: u64,
}

impl Wings {
    /// Those of one of ten stages.
    pub fn new(stage: usize) -> Result<Wings, Fault> {
        let acks = AckBoard::new(ACKS)?;
        Ok(Wings {
            victims: Zygote::spawn(&Launch::role("victim").board("acks", &acks))?,
            corpses: Zygote::spawn(&Launch::role("corpse").board("acks", &acks))?,
            acks,
            stage,
            worlds: 0,
        })
    }

    /// A fresh world, and the operation's victim in it, held where its stretch begins.
    pub fn open(&mut self, operation: &'static Operation) -> Result<(Stepper, World), Fault> {
        (0..ACKS).for_each(|n| self.acks.set(n, 0));
        self.worlds += 1;
        // Of one length, so that no victim's path depends on it.
        let (pid, stage) = (std::process::id(), self.stage);
        let name = format!("ringway-test-{pid}-{stage}step{:07}", self.worlds);
        let root = TempBus::at(format!("/dev/shm/{name}"))?;
        let path = root.path().display().to_string();
        let mut world = World::new(operation, root).unwrap_or_else(|why| panic!("a world: {why}"));
        (operation.scene)(&mut world).unwrap_or_else(|why| panic!("its scene: {why}"));
        // Before the victim is there: whoever was probed alive is taken for alive a moment longer.
        world
            .count_chunks()
            .unwrap_or_else(|why| panic!("a count of chunks: {why}"));
        let corpse = operation
            .corpse
            .then(|| self.corpses.fork(&[("root", &path)]));
        let victim = self
            .victims
            .fork(&[("root", &path), ("operation", operation.name)])?;
        // Dies when the victim has come: whoever comes sweeps what the dead have left.
        if let Some(corpse) = corpse {
            corpse?.kill()?;
        }
        Ok((victim, world))
    }

    /// Whether record `n` of the victim was acknowledged.
    pub fn acked(&self, n: usize) -> bool {
        self.acks.get(n) != 0
    }
}

/// A bus with one channel, and the survivor's handles and books.
pub struct World {
    operation: &'static Operation,
    reader: Reader,
    /// Reads along until the ring is filled.
    lossy: Option<Reader>,
    /// Holds everything from the victim's place on, for a look back.
    anchor: Option<Reader>,
    /// Where the operation is one of a queue.
    pub book: Option<Book>,
    /// Where it is one of a move between two queues.
    pub redriven: Option<Redriven>,
    /// Where it is one of a topic.
    pub published: Option<Published>,
    /// Where it is one of a stream.
    pub streamed: Option<Streamed>,
    channel: Channel,
    bus: Bus,
    chunks: u64,
    sent: u64,
    seen: Vec<(u64, u64)>,
    seen_lossily: Vec<(u64, u64)>,
    /// The longest it took from a death or stop to the next delivery.
    pub progress: Duration,
    // Last: the directory goes when every handle is gone.
    _root: TempBus,
}

impl World {
    fn new(operation: &'static Operation, root: TempBus) -> Result<World, String> {
        let bus = stage::bus(root.path()).create().map_err(text)?;
        let channel = stage::channel(&bus, "c", operation.producers)?;
        let builder = || channel.reader().start(Start::Earliest).idle(Idle::Park);
        let reader = builder().reliable().join().map_err(text)?;
        let lossy = builder().lossy().join().map_err(text)?;
        Ok(World {
            operation,
            reader,
            lossy: Some(lossy),
            anchor: None,
            book: None,
            redriven: None,
            published: None,
            streamed: None,
            channel,
            bus,
            chunks: 0,
            sent: 0,
            seen: Vec::new(),
            seen_lossily: Vec::new(),
            progress: Duration::ZERO,
            _root: root,
        })
    }

    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The directory under which the bus lies, and others may.
    pub fn root(&self) -> &Path {
        self._root.path()
    }

    /// Does something that others do while or after the victim does its part, and keeps the time.
    pub fn timed<T>(&mut self, act: impl FnOnce(&World) -> Result<T, String>) -> Result<T, String> {
        let start = Instant::now();
        let done = act(self)?;
        self.progress = self.progress.max(start.elapsed());
        Ok(done)
    }

    /// Sends records of these lengths.
    pub fn send(&mut self, lens: &[usize]) -> Result<(), String> {
        let mut producer = self.producer()?;
        for len in lens {
            self.send_one(&mut producer, *len).map_err(text)?;
        }
        Ok(())
    }

    fn send_one(&mut self, producer: &mut Producer, len: usize) -> Result<u64, SendError> {
        let position = producer.try_send(&body(SURVIVOR + self.sent, len))?;
        self.sent += 1;
        Ok(position)
    }

    /// Reads what is there, by both readers.
    pub fn drain(&mut self) -> Result<(), String> {
        while read(&mut self.reader, &mut self.seen)? {}
        if let Some(lossy) = &mut self.lossy {
            while read(lossy, &mut self.seen_lossily)? {}
        }
        Ok(())
    }

    /// Sleeps for a moment on the empty channel: the flag of sleepers stays raised.
    pub fn doze(&mut self) -> Result<(), String> {
        self.reader
            .wait(Duration::from_micros(100))
            .map(drop)
            .map_err(text)
    }

    /// Takes the role as soon as it can be had, and gives it back.
    pub fn take_role(&mut self, role: usize) -> Result<(), String> {
        let bus = self.bus.clone();
        until("a role", || bus.take_role(role).ok())?;
        if bus.release_role(role) {
            Ok(())
        } else {
            Err("the role was not ours".into())
        }
    }

    /// A producer; of an exclusive channel as soon as the dead one's place is free.
    fn producer(&mut self) -> Result<Producer, String> {
        let channel = &self.channel;
        until("the producer's place", || match channel.producer() {
            Ok(producer) => Some(Ok(producer)),
            Err(JoinError::Busy { .. }) => None,
            Err(error) => Some(Err(text(error))),
        })?
    }

    /// What the others do while the victim stands somewhere in its stretch, alive.
    ///
    /// With `laps` they come round to where it stands, twice, and do what it is about; without,
    /// its place is still to be seen when it goes on.
    pub fn go_on_beside_the_stopped(&mut self, laps: bool) -> Result<(), String> {
        let cost = self.operation.cost;
        if let Some(book) = &mut self.book {
            let start = Instant::now();
            book.deliver()?;
            self.progress = self.progress.max(start.elapsed());
            if laps {
                book.go_round()?;
            }
        }
        if let Some(redriven) = &mut self.redriven {
            let start = Instant::now();
            redriven.deliver()?;
            self.progress = self.progress.max(start.elapsed());
            if laps {
                redriven.go_round()?;
            }
        }
        if let Some(published) = &mut self.published {
            let start = Instant::now();
            published.deliver()?;
            self.progress = self.progress.max(start.elapsed());
            if laps {
                published.go_round()?;
            }
        }
        if let Some(streamed) = &mut self.streamed {
            let start = Instant::now();
            streamed.deliver()?;
            self.progress = self.progress.max(start.elapsed());
            if laps {
                streamed.go_round()?;
            }
        }
        if !laps {
            let here = Start::At(self.reader.position());
            self.anchor = Some(self.channel.reader().start(here).join().map_err(text)?);
        }
        let producer = match self.channel.producer() {
            Ok(producer) => Some(producer),
            Err(JoinError::Busy { .. }) if cost == Cost::Place => None,
            Err(error) => return Err(text(error)),
        };
        match producer {
            Some(producer) => self.deliver(producer)?,
            None => self.drain()?,
        }
        // Neither the doctor nor the reaper may take anything from the living.
        self.bus.reap().map_err(text)?;
        self.bus.doctor(true).map_err(text)?;
        let newcomer = self.channel.reader().lossy().join().map_err(text)?;
        drop(newcomer);
        self.bus.take_role(9).map_err(text)?;
        self.bus.release_role(9);
        if laps {
            (self.operation.beside)(self)?;
        }
        self.lossy = None;
        if cost == Cost::Place || !laps {
            return Ok(());
        }
        for _ in 0..2 {
            let room = self.fill()?;
            if cost == Cost::Slots && room.0 + SLOTS_OF_THE_STOPPED < SLOTS {
                return Err(format!(
                    "beside one that is stopped, {} of {SLOTS} fit",
                    room.0
                ));
            }
        }
        Ok(())
    }

    /// Everything, once the victim is gone.
    ///
    /// Who was seen alive a moment before its death is taken for alive for a millisecond and a
    /// tick of the clock, and may hold the ring back for so long; `probed` says that it was.
    pub fn settle(&mut self, wings: &Wings, probed: bool) -> Result<(), String> {
        if let Some(book) = &mut self.book {
            // Its last round may have been stepped over by one that lived.
            let patience = if probed { FILLS_WITHIN_A_TICK } else { 1 };
            book.settle(&wings.acks, patience)?;
        }
        if let Some(redriven) = &mut self.redriven {
            redriven.settle(if probed { FILLS_WITHIN_A_TICK } else { 1 })?;
        }
        if let Some(published) = &mut self.published {
            published.settle(&wings.acks)?;
        }
        if let Some(streamed) = &mut self.streamed {
            streamed.settle(&wings.acks)?;
        }
        let producer = self.producer()?;
        self.deliver(producer)?;
        self.lossy = None;
        self.look_back()?;
        let mut patience = if probed { FILLS_WITHIN_A_TICK } else { 0 };
        let mut whole = 0;
        while whole < 2 {
            let (room, contiguous) = self.fill()?;
            if room == SLOTS && contiguous {
                whole += 1;
            } else if patience == 0 {
                return Err(format!(
                    "{room} of {SLOTS} records fit, contiguous: {contiguous}"
                ));
            } else {
                patience -= 1;
                whole = 0;
            }
        }
        self.judge(wings)?;
        (self.operation.outcome)(self)?;
        self.examine()?;
        (self.operation.after)(self)?;
        let report = self.bus.doctor(false).map_err(text)?;
        if report.is_clean() {
            Ok(())
        } else {
            Err(format!("in the end: {report:?}"))
        }
    }

    /// One record to both readers, and how long it took.
    fn deliver(&mut self, mut producer: Producer) -> Result<(), String> {
        let start = Instant::now();
        let id = SURVIVOR + self.sent;
        // Waits where the dead one's cursor still holds the ring back.
        producer.send(&body(id, INLINE), deadline()).map_err(text)?;
        self.sent += 1;
        drop(producer);
        let reader = &mut self.reader;
        let seen = &mut self.seen;
        await_record(reader, seen, id)?;
        self.progress = self.progress.max(start.elapsed());
        if let Some(lossy) = &mut self.lossy {
            await_record(lossy, &mut self.seen_lossily, id)?;
            if self.seen != self.seen_lossily {
                let (reliable, lossy) = (&self.seen, &self.seen_lossily);
                return Err(format!("the readers differ: {reliable:x?}, {lossy:x?}"));
            }
        }
        Ok(())
    }

    /// Who comes later, and who was held up since the stop, sees what the first reader saw.
    fn look_back(&mut self) -> Result<(), String> {
        let builder = self.channel.reader().start(Start::Earliest).lossy();
        let latecomer = builder.join().map_err(text)?;
        for mut reader in self.anchor.take().into_iter().chain([latecomer]) {
            let mut seen = Vec::new();
            while read(&mut reader, &mut seen)? {}
            if seen.is_empty() || !self.seen.ends_with(&seen) {
                return Err(format!("looking back, a reader sees {seen:x?}"));
            }
        }
        Ok(())
    }

    /// Fills the ring and reads it empty: how many records it took, and whether their positions
    /// were contiguous.
    fn fill(&mut self) -> Result<(u64, bool), String> {
        let mut producer = self.producer()?;
        let (mut room, mut last, mut contiguous) = (0, None, true);
        loop {
            match self.send_one(&mut producer, INLINE) {
                Ok(position) => {
                    contiguous &= last.is_none_or(|last| last + 1 == position);
                    last = Some(position);
                    room += 1;
                }
                Err(SendError::Full { .. }) => break,
                Err(error) => return Err(text(error)),
            }
            if room > SLOTS {
                return Err("the ring takes more than it has slots".into());
            }
        }
        drop(producer);
        if room == 0 {
            // Paces the next attempt, and stands for nothing.
            std::thread::sleep(Duration::from_micros(100));
        } else {
            await_record(&mut self.reader, &mut self.seen, SURVIVOR + self.sent - 1)?;
        }
        Ok((room, contiguous))
    }

    /// Every record exactly once, in order.
    fn judge(&self, wings: &Wings) -> Result<(), String> {
        if let Some(at) = self.seen.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("positions go backwards: {at:x?}"));
        }
        let ids = || self.seen.iter().map(|(_, id)| *id);
        let ours: Vec<u64> = ids().filter(|id| *id < VICTIM).collect();
        let expected: Vec<u64> = (0..self.sent).map(|n| SURVIVOR + n).collect();
        if ours != expected {
            let at = ours.iter().zip(&expected).position(|(a, b)| a != b);
            let (read, sent) = (ours.len(), expected.len());
            return Err(format!(
                "of {sent} records of ours {read} were read, wrong from {at:?}"
            ));
        }
        let theirs: Vec<u64> = ids()
            .filter(|id| *id >= VICTIM)
            .map(|id| id - VICTIM)
            .collect();
        if theirs.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(format!(
                "the victim's records twice or out of order: {theirs:?}"
            ));
        }
        if self.book.is_some() || self.published.is_some() || self.streamed.is_some() {
            return Ok(()); // what it acknowledges stands in the book
        }
        match (0..ACKS).find(|n| wings.acked(*n) && !theirs.contains(&(*n as u64))) {
            Some(n) => Err(format!(
                "acknowledged record {n} of the victim is lost: {theirs:?}"
            )),
            None => Ok(()),
        }
    }

    /// Nobody and nothing is left of the dead.
    fn examine(&mut self) -> Result<(), String> {
        let bus = &self.bus;
        bus.reap().map_err(text)?;
        let reaped = bus.doctor(false).map_err(text)?;
        if !reaped.is_clean() {
            return Err(format!("after the reaper: {reaped:?}"));
        }
        bus.doctor(true).map_err(text)?;
        let report = bus.doctor(false).map_err(text)?;
        let [free, owned, attached] = report.chunks;
        let whole = report.is_clean()
            && report.open_claims == 0
            && report.damaged_slots == 0
            && report.participants == 1
            && (owned, attached) == (0, 0)
            && free >= self.chunks;
        if !whole {
            return Err(format!(
                "after the doctor: {report:?}, {} chunks before",
                self.chunks
            ));
        }
        let stats = self.channel.stats();
        let clean = stats.readers.len() == 1 && stats.producer.is_none();
        if clean {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    }

    /// Counts the chunks there are, before anything happens.
    fn count_chunks(&mut self) -> Result<(), String> {
        self.chunks = self.bus.doctor(false).map_err(text)?.chunks.iter().sum();
        Ok(())
    }
}

/// Reads one record into the books.
fn read(reader: &mut Reader, seen: &mut Vec<(u64, u64)>) -> Result<bool, String> {
    let mut buffer = [0; 1024];
    match reader.try_read(&mut buffer) {
        Ok(None) => Ok(false),
        Ok(Some(record)) => {
            seen.push((record.position, id_of(&buffer[..record.len])?));
            Ok(true)
        }
        Err(error @ ReadError::Lagged { .. }) => Err(format!("unexpected: {error}")),
        Err(error) => Err(text(error)),
    }
}

/// Reads until record `id` has come.
fn await_record(reader: &mut Reader, seen: &mut Vec<(u64, u64)>, id: u64) -> Result<(), String> {
    let start = Instant::now();
    while seen.last().is_none_or(|(_, last)| *last != id) {
        if !read(reader, seen)? {
            reader.wait(Duration::from_secs(1)).map_err(text)?;
            if start.elapsed() > deadline() {
                return Err(format!(
                    "record {id:#x} never came; the last were {:x?}",
                    seen.last()
                ));
            }
        }
    }
    Ok(())
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > deadline() {
            return Err(format!("{what} could not be had"));
        }
        std::thread::yield_now();
    }
}
