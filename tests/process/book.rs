//! The survivor's book of a queue: what it sent, what came, and what the victim may have done.
//!
//! What it insists on: each of its own messages is received and deleted once by it, or was deleted
//! by the victim; each acknowledged one of the victim comes, an unacknowledged one at most once; what
//! the victim was told is deleted never comes again; the queue takes as many messages as it has
//! slots in the end, in places that follow each other. In a FIFO queue what it sent at first is one
//! group, which the victim may hold, and all it sends later another; each comes in order. A queue
//! that grows keeps only the rings that something is in, and takes as many messages one time as the
//! other.

use crate::operations::{DELETED, TAKEN, VICTIM};
use crate::stage::{FIFO_STRIDE, INLINE, QUEUE_STRIDE, SLOTS, body, id_of, text};
use crate::survivor::SURVIVOR;
use ringway::{
    Bus, Idle, Outgoing, Queue, QueueBuilder, QueueKind, QueueReceiver, QueueSendError,
    QueueSender, Receipt, Received,
};
use ringway_harness::{AckBoard, deadline};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// No lease ends by itself.
const FOR_EVER: Duration = Duration::from_secs(43_200);

pub struct Book {
    queue: Queue,
    receiver: QueueReceiver,
    sent: u64,
    /// How often each message was received, and deleted.
    seen: BTreeMap<u64, u64>,
    /// In our hands until the end.
    held: Option<Receipt>,
    /// The victim may delete this message and die before it can say so.
    pub may_take: Option<u64>,
    /// FIFO: how many messages are of the first group, and what came of each group last.
    first_group: u64,
    last: [u64; 2],
    /// It may grow.
    grows: bool,
    /// The victim may close the queue and leave the first message in flight with nobody.
    pub may_leave: bool,
}

impl Book {
    pub fn new(bus: &Bus) -> Result<Self, String> {
        Self::of(bus, QueueKind::Standard)
    }

    /// Of a queue that has room for two larger rings.
    pub fn growing(bus: &Bus) -> Result<Self, String> {
        let builder = bus.queue("q").slots(SLOTS).stride(QUEUE_STRIDE);
        let builder = builder.max_bytes(8 * SLOTS * QUEUE_STRIDE);
        let mut book = Self::over(builder)?;
        book.grows = true;
        Ok(book)
    }

    pub fn of(bus: &Bus, kind: QueueKind) -> Result<Self, String> {
        let stride = match kind {
            QueueKind::Standard => QUEUE_STRIDE,
            QueueKind::Fifo => FIFO_STRIDE,
        };
        Self::over(bus.queue("q").kind(kind).slots(SLOTS).stride(stride))
    }

    fn over(builder: QueueBuilder) -> Result<Self, String> {
        let queue = builder.visibility(FOR_EVER).create().map_err(text)?;
        let mut receiver = queue.receiver().map_err(text)?;
        receiver.set_idle(Idle::Park);
        Ok(Self {
            queue,
            receiver,
            sent: 0,
            seen: BTreeMap::new(),
            held: None,
            may_take: None,
            first_group: 0,
            last: [0; 2],
            grows: false,
            may_leave: false,
        })
    }

    /// Sends messages of these lengths; the position of the last.
    pub fn send(&mut self, lens: &[usize]) -> Result<u64, String> {
        let mut sender = self.queue.sender().map_err(text)?;
        let mut last = 0;
        for len in lens {
            let message = body(SURVIVOR + self.sent, *len);
            let group = self.group_of(SURVIVOR + self.sent);
            last = send(&mut sender, group, &message)?;
            self.sent += 1;
        }
        Ok(last)
    }

    /// What was sent up to now is a group of its own.
    pub fn end_group(&mut self) {
        self.first_group = self.sent;
    }

    fn group_of(&self, id: u64) -> Option<usize> {
        let is_fifo = self.queue.definition().kind == QueueKind::Fifo;
        let is_late = self.first_group > 0 && id - SURVIVOR >= self.first_group;
        is_fifo.then_some(usize::from(is_late))
    }

    /// Of a FIFO queue's groups each comes in order.
    fn note_order(&mut self, id: u64) -> Result<(), String> {
        if !(SURVIVOR..VICTIM).contains(&id) {
            return Ok(());
        }
        if let Some(group) = self.group_of(id) {
            if id < self.last[group] {
                return Err(format!("{id:#x} came behind {:#x}", self.last[group]));
            }
            self.last[group] = id;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<(u64, Received)>, String> {
        let mut buffer = [0; 1024];
        let received = self.receiver.try_receive(&mut buffer).map_err(text)?;
        received
            .map(|received| Ok((id_of(&buffer[..received.len])?, received)))
            .transpose()
    }

    /// Receives what there is and deletes it.
    pub fn drain(&mut self) -> Result<u64, String> {
        let mut count = 0;
        while let Some((id, received)) = self.receive()? {
            self.note_order(id)?;
            if !self.receiver.delete(&received.receipt).map_err(text)? {
                return Err(format!("{id:#x} was gone under its lease"));
            }
            *self.seen.entry(id).or_default() += 1;
            count += 1;
        }
        Ok(count)
    }

    /// Receives so many messages and deletes them, all but the last one, which is deleted by its
    /// receipt in the end: this receiver does not see it go.
    pub fn take(&mut self, count: u64) -> Result<(), String> {
        let mut last = None;
        for _ in 0..count {
            if let Some(receipt) = last {
                self.receiver.delete(&receipt).map_err(text)?;
            }
            let (id, received) = self.receive()?.ok_or("nothing to take")?;
            self.seen.insert(id, 1);
            last = Some(received.receipt);
        }
        match last.map(|receipt| self.queue.delete(&receipt)) {
            Some(Ok(false)) | None => Err("nothing was taken".into()),
            Some(deleted) => deleted.map(drop).map_err(text),
        }
    }

    /// Receives all but the first message and deletes them; the first stays in the hands of one that
    /// lives on.
    pub fn hold_the_first(&mut self) -> Result<(), String> {
        let first = self.receive()?.ok_or("nothing to hold")?;
        self.seen.insert(first.0, 1);
        self.held = Some(first.1.receipt);
        self.drain()?;
        Ok(())
    }

    /// One message through the queue, with the victim wherever it is.
    pub fn deliver(&mut self) -> Result<(), String> {
        self.send(&[INLINE])?;
        let id = SURVIVOR + self.sent - 1;
        let start = Instant::now();
        while !self.seen.contains_key(&id) {
            if self.drain()? == 0 {
                self.receiver.wait(Duration::from_secs(1)).map_err(text)?;
                if start.elapsed() > deadline() {
                    return Err(format!("message {id:#x} never came"));
                }
            }
        }
        Ok(())
    }

    /// Twice as many messages as there are slots, while the victim holds one of them at most.
    pub fn go_round(&mut self) -> Result<(), String> {
        for _ in 0..8 {
            self.send(&[INLINE; SLOTS as usize / 4])?;
            while self.drain()? > 0 {}
        }
        Ok(())
    }

    /// Everything, once the victim is gone.
    pub fn settle(&mut self, acks: &AckBoard, patience: u32) -> Result<(), String> {
        self.deliver()?;
        if self.may_leave {
            // Its first and only receipt; whatever else happened, it does not fit.
            let receipt = format!("{:016x}-0-1", self.queue.id());
            let receipt: Receipt = receipt.parse().map_err(text)?;
            let _ = self.queue.change_visibility(&receipt, Duration::ZERO);
        }
        let start = Instant::now();
        loop {
            let stats = self.queue.stats();
            let held = u64::from(self.held.is_some());
            if (stats.visible, stats.delayed, stats.in_flight) == (0, 0, held) {
                break;
            }
            if self.drain()? == 0 {
                self.receiver
                    .wait(Duration::from_millis(20))
                    .map_err(text)?;
            }
            if start.elapsed() > deadline() {
                return Err(format!("messages stay behind: {stats:?}"));
            }
        }
        if let Some(held) = self.held.take() {
            self.receiver.delete(&held).map_err(text)?;
        }
        self.judge(acks)?;
        if self.grows {
            return self.find_rings();
        }
        self.find_room(patience)
    }

    fn judge(&self, acks: &AckBoard) -> Result<(), String> {
        let deleted = [DELETED, TAKEN].map(|at| acks.get(at).checked_sub(1));
        for n in 0..self.sent {
            let id = SURVIVOR + n;
            let by_victim = deleted.contains(&Some(n));
            match self.seen.get(&id) {
                Some(1) if !by_victim => {}
                None if by_victim || self.may_take == Some(n) => {}
                seen => {
                    return Err(format!(
                        "message {n} came {seen:?} times; deleted by the victim: {by_victim}"
                    ));
                }
            }
        }
        for n in 0..DELETED as u64 {
            let seen = self.seen.get(&(VICTIM + n)).copied().unwrap_or(0);
            let acked = acks.get(n as usize) != 0;
            if seen > 1 || (acked && seen == 0) {
                return Err(format!(
                    "the victim's message {n}, acknowledged: {acked}, came {seen} times"
                ));
            }
        }
        Ok(())
    }

    /// Every slot takes a message again, twice. Who was seen alive a moment before its death is taken
    /// for alive for a millisecond and a tick of the clock: `patience` rounds are for that.
    fn find_room(&mut self, mut patience: u32) -> Result<(), String> {
        let mut whole = 0;
        while whole < 2 {
            let (room, is_contiguous) = self.fill()?;
            if room == SLOTS && is_contiguous {
                whole += 1;
            } else if patience == 0 {
                return Err(format!(
                    "{room} of {SLOTS} messages fit, contiguous: {is_contiguous}"
                ));
            } else {
                patience -= 1;
                whole = 0;
            }
        }
        let stats = self.queue.stats();
        if (stats.visible, stats.in_flight, stats.damaged) == (0, 0, 0) {
            Ok(())
        } else {
            Err(format!("{stats:?}"))
        }
    }

    /// Full to its quota it takes as many messages one time as the other, and empty it has no more
    /// than its first ring and its last.
    fn find_rings(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let mut rooms = [0; 2];
        while rooms[0] != rooms[1] || rooms[0] < SLOTS {
            rooms = [rooms[1], self.fill()?.0];
            while self.queue.stats().rings > 2 {
                self.drain()?;
                if start.elapsed() > deadline() {
                    return Err(format!("rings stay behind: {:?}", self.queue.stats()));
                }
            }
            if start.elapsed() > deadline() {
                return Err(format!("once {} messages fit, once {}", rooms[0], rooms[1]));
            }
        }
        let stats = self.queue.stats();
        match (stats.visible, stats.in_flight, stats.damaged) {
            (0, 0, 0) => Ok(()),
            _ => Err(format!("{stats:?}")),
        }
    }

    /// Fills the queue and empties it again: how many messages fit, and whether their positions
    /// followed each other.
    fn fill(&mut self) -> Result<(u64, bool), String> {
        let mut sender = self.queue.sender().map_err(text)?;
        let (mut room, mut last, mut is_contiguous) = (0, None, true);
        loop {
            let message = body(room, INLINE);
            let sent = match self.group_of(SURVIVOR) {
                None => sender.send(&message),
                Some(_) => {
                    let message = Outgoing::new(&message).group("room");
                    sender.send_message(&message).map(|sent| sent.position)
                }
            };
            match sent {
                Ok(position) => {
                    is_contiguous &= last.is_none_or(|last| last + 1 == position);
                    last = Some(position);
                    room += 1;
                }
                Err(QueueSendError::Full { .. }) => break,
                Err(error) => return Err(text(error)),
            }
        }
        let mut buffer = [0; 64];
        for n in 0..room {
            let received = self.receiver.receive_and_delete(&mut buffer);
            let received = received.map_err(text)?.ok_or("a message is lost")?;
            if id_of(&buffer[..received.len]) != Ok(n) {
                return Err(format!("message {n} is another: {received:?}"));
            }
        }
        Ok((room, is_contiguous))
    }
}

/// Sends a message, to a group of a FIFO queue; its position.
fn send(sender: &mut QueueSender, group: Option<usize>, message: &[u8]) -> Result<u64, String> {
    let Some(group) = group else {
        return sender.send_timeout(message, deadline()).map_err(text);
    };
    let message = Outgoing::new(message).group(["first", "later"][group]);
    let start = Instant::now();
    loop {
        match sender.send_message(&message) {
            Ok(sent) => return Ok(sent.position),
            Err(QueueSendError::Full { .. }) if start.elapsed() < deadline() => {
                std::thread::yield_now();
            }
            Err(error) => return Err(text(error)),
        }
    }
}
