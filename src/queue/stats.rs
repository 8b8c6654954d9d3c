//! What anyone may know about a queue: counts, as they are at one moment.

use super::{Inner, Queue};
use crate::layout::durable::POSITIONS;
use crate::ring::Counter;
use crate::ring::delivery::Total;
use crate::ring::delivery::sweep::Census;
use crate::shm::durable::DurableWords;
use crate::sync::{AtomicU64, Ordering};
use std::time::Duration;

/// What anyone may know about a queue.
///
/// The first group is counted by a look at every slot: blocks nobody, and costs about a millisecond
/// per 100,000 slots. The totals are added to by each handle every 64 messages and when it closes:
/// a process that is killed keeps up to 63 of each to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages to be received now (`ApproximateNumberOfMessages`).
    pub visible: u64,
    /// Messages received and not deleted (`ApproximateNumberOfMessagesNotVisible`).
    pub in_flight: u64,
    /// Messages whose delay runs (`ApproximateNumberOfMessagesDelayed`).
    pub delayed: u64,
    /// Messages set aside after 1,000 receives, or because their dead-letter queue has no room;
    /// see [`Queue::parked`].
    pub parked: u64,
    /// Messages on their way to another queue.
    pub moving: u64,
    /// Age of the oldest of all these (`ApproximateAgeOfOldestMessage`).
    pub oldest_age: Option<Duration>,
    /// Slots of its rings: as many messages are there at most before it has to grow.
    pub capacity: u64,
    /// Rings: 1, and one more for each time it grew and that still holds something.
    pub rings: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Times it grew.
    pub grown: u64,

    /// Messages sent.
    pub sent: u64,
    /// Receives.
    pub received: u64,
    /// Messages deleted by receipt or consumed at once.
    pub deleted: u64,
    /// Messages that were older than the retention.
    pub expired: u64,
    /// Times a message was parked.
    pub times_parked: u64,
    /// Leases of the dead that were ended.
    pub released: u64,
    /// Messages purged.
    pub purged: u64,
    /// Messages moved to another queue.
    pub moved: u64,
    /// Messages that arrived from another queue.
    pub arrived: u64,
    /// Sends that were not delivered because their id was sent already.
    pub duplicates: u64,
    /// Claims of live senders that were abandoned.
    pub abandoned: u64,
    /// Claims of dead senders that were voided.
    pub voided: u64,
    /// Messages in flight that were stepped over by a sender one round later.
    pub renewed: u64,
    /// Slots found with an impossible header.
    pub damaged: u64,

    /// On disk: the first position that is not there yet; 0 in memory.
    pub durable_position: u64,
    /// On disk: positions that were given out and are not there yet.
    pub unwritten: u64,
    /// On disk: flushes of its journal.
    pub flushes: u64,
    /// On disk: times that the journal was taken over from a writer that was dead or stood still.
    pub take_overs: u64,
    /// On disk: bytes of its journal, as its writer last saw them.
    pub journal_bytes: u64,
}

impl Queue {
    /// Counts what is there. In a forked child all zero.
    pub fn stats(&self) -> QueueStats {
        if self.inner.is_forked() {
            return QueueStats::default();
        }
        self.inner.stats()
    }
}

impl Inner {
    fn stats(&self) -> QueueStats {
        let now = self.now_ms();
        let (mut census, mut capacity) = (Census::default(), 0);
        self.each_ring(|ring| {
            census.add(ring.census(now));
            capacity += ring.ring().memory().geometry().slots();
        });
        let links = self.chain.links();
        let memory = self.delivery.ring().memory();
        let of_ring = |counter: Counter| memory.counter(counter.offset()).load(Ordering::Relaxed);
        let total = |total| self.delivery.total(total);
        let on_disk = |word: fn(&DurableWords) -> &AtomicU64| {
            let words = self.delivery.durable();
            words.map_or(0, |words| word(words).load(Ordering::Relaxed))
        };
        QueueStats {
            visible: census.visible,
            in_flight: census.in_flight,
            delayed: census.delayed,
            parked: census.parked,
            moving: census.moving,
            oldest_age: census
                .oldest
                .map(|sent| Duration::from_millis(now.saturating_sub(sent))),
            capacity,
            rings: links.len() as u64,
            bytes: links.iter().map(|link| link.bytes).sum(),
            grown: self.delivery.words().newest().load(Ordering::Relaxed),
            sent: total(Total::Sent),
            received: total(Total::Received),
            deleted: total(Total::Deleted),
            expired: total(Total::Expired),
            times_parked: total(Total::Parked),
            released: total(Total::Released),
            purged: total(Total::Purged),
            moved: total(Total::Moved),
            arrived: total(Total::Arrived),
            duplicates: total(Total::Duplicates),
            abandoned: of_ring(Counter::Abandoned),
            voided: of_ring(Counter::Voided),
            renewed: of_ring(Counter::Renewed),
            damaged: of_ring(Counter::Damaged),
            durable_position: on_disk(DurableWords::durable) & (POSITIONS - 1),
            unwritten: match self.journal {
                Some(_) => self.tail().saturating_sub(self.delivery.on_disk_below()),
                None => 0,
            },
            flushes: on_disk(DurableWords::flushes),
            take_overs: on_disk(DurableWords::take_overs),
            journal_bytes: on_disk(DurableWords::journal_bytes),
        }
    }
}
