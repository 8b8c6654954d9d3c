//! Aggregation: a producer puts many small records of its user into one record of a shard.
//!
//! ```text
//! put → the shard's open record → full, or waited for its linger, or flushed → one append
//! ```
//! Readers hand out the records of the user, each with the sequence number that they share and a sub-sequence
//! number; nobody but who looks at those sees the difference. Records of a shard stay in the order they were
//! given, so those of a key do. What is not flushed yet is in this process's memory alone: it has no number,
//! nobody reads it, and it is gone with the process.
//!
//! There is no thread with a timer: the linger is looked at by each put and by
//! [`flush_due`](AggregatingProducer::flush_due). When shards were split or merged meanwhile, what is open is
//! sorted anew, each part into its new shard, before anything newer.

use super::number::SequenceNumber;
use super::put::{ATTEMPTS, Put, PutRecord, Refused, StreamProducer};
use super::record::{self, Label, SUB_HEAD};
use crate::error::{PutError, ShardId};
use crate::sys::clock::{self, Deadline};
use std::time::Duration;

/// When an open record is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregation {
    /// Bytes of keys, data and 8 more for each: 64 to 1 MiB. A record that is longer is put alone.
    pub max_bytes: usize,
    /// Records of the user.
    pub max_records: u32,
    /// How long the first may wait for the others.
    pub linger: Duration,
}

impl Default for Aggregation {
    /// 8 KiB, 1,000 records, 10 ms.
    fn default() -> Self {
        Self {
            max_bytes: 8 << 10,
            max_records: 1000,
            linger: Duration::from_millis(10),
        }
    }
}

impl Aggregation {
    fn within_bounds(self) -> Self {
        Self {
            max_bytes: self.max_bytes.clamp(64, 1 << 20),
            max_records: self.max_records.max(1),
            linger: self.linger,
        }
    }
}

/// Records that were put as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Where.
    pub shard: ShardId,
    /// The number that they share.
    pub sequence_number: SequenceNumber,
    /// How many: the oldest of that shard which were not flushed before, with the sub-sequence numbers from
    /// 0 on.
    pub records: u32,
}

/// The open record of a shard.
struct Open {
    shard: u32,
    bytes: Vec<u8>,
    /// Of each record: where it belongs, and where its bytes begin.
    parts: Vec<(u128, usize)>,
    since_ns: u64,
}

/// A producer that aggregates, see [`StreamProducer::aggregating`].
///
/// May move to another thread, is not shared between threads. Dropping it flushes what there is room for at
/// once. In a forked child every call returns [`PutError::Forked`].
pub struct AggregatingProducer {
    producer: StreamProducer,
    options: Aggregation,
    /// Those of the table's version.
    open: Vec<Open>,
    /// Buffers to use again.
    spare: Vec<Open>,
    version: u64,
    /// How long a put waits for room, if not as the stream says.
    wait: Option<Duration>,
    /// What was put and not told yet: by calls that failed behind it.
    flushed: Vec<Flushed>,
}

impl StreamProducer {
    /// Puts many small records as one from now on.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let root = std::env::temp_dir().join(format!("ringway-doc-aggregate-{}", std::process::id()));
    /// # std::fs::create_dir_all(&root)?;
    /// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
    /// use ringway::{Aggregation, StreamIterator};
    /// use std::time::Duration;
    /// let clicks = bus.stream("clicks").open_or_create()?;
    /// let mut producer = clicks.producer()?.aggregating(Aggregation::default());
    /// producer.put("user-1", b"home")?;
    /// producer.put("user-2", b"cart")?;
    /// let flushed = producer.flush()?;
    /// assert_eq!((flushed.len(), flushed[0].records), (1, 2));
    /// let mut reader = clicks.reader().iterator(StreamIterator::TrimHorizon).open()?;
    /// let second = [reader.next(Duration::ZERO)?, reader.next(Duration::ZERO)?][1].take();
    /// let second = second.expect("two records");
    /// assert_eq!((second.sequence_number, second.sub_sequence_number), (flushed[0].sequence_number, 1));
    /// # drop((reader, producer, clicks, bus));
    /// # std::fs::remove_dir_all(&root)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn aggregating(self, options: Aggregation) -> AggregatingProducer {
        AggregatingProducer {
            version: self.table.version,
            producer: self,
            options: options.within_bounds(),
            open: Vec::new(),
            spare: Vec::new(),
            wait: None,
            flushed: Vec::new(),
        }
    }
}

impl AggregatingProducer {
    /// Waits for room so long from now on, whatever the stream says.
    pub fn set_wait(&mut self, wait: Duration) {
        self.wait = Some(wait);
    }

    fn wait(&self) -> Duration {
        self.wait.unwrap_or_else(|| self.producer.usual_wait())
    }

    /// Takes a record; what was put to make room for it, or because it had waited for its linger. Blocks as
    /// [`StreamProducer::put`] does, and only where something is put.
    ///
    /// # Errors
    /// As [`StreamProducer::put`]: the record was not taken then, and what was taken before still is. What was put
    /// before it failed is told by the next call that does not.
    pub fn put(&mut self, partition_key: &str, data: &[u8]) -> Result<Vec<Flushed>, PutError> {
        self.put_record(&PutRecord::new(partition_key, data))
    }

    /// The same with an explicit hash key, or not. Allocates nothing once its buffers have grown, but for
    /// what it tells.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_record(&mut self, record: &PutRecord<'_>) -> Result<Vec<Flushed>, PutError> {
        self.take(record)?;
        Ok(core::mem::take(&mut self.flushed))
    }

    fn take(&mut self, record: &PutRecord<'_>) -> Result<(), PutError> {
        self.producer.check(record)?;
        let hash_key = self.producer.hash_key(record);
        self.producer.look()?;
        if self.producer.table.version != self.version {
            self.flush_all()?;
        }
        let shard = self.producer.table.route(hash_key);
        let key = record.partition_key.as_bytes();
        let bytes = SUB_HEAD + key.len() + record.data.len();
        let now = clock::coarse();
        let linger = self.options.linger.as_nanos() as u64;
        let known = self.open.iter().position(|open| open.shard == shard);
        if let Some(index) = known {
            let open = &self.open[index];
            let is_full = open.bytes.len() + bytes > self.options.max_bytes
                || open.parts.len() >= self.options.max_records as usize;
            if !open.parts.is_empty() && (is_full || now.saturating_sub(open.since_ns) >= linger) {
                self.flush_open(index)?;
                if self.producer.table.version != self.version {
                    // Split or merged under it: where the record goes now is looked for anew.
                    self.flush_all()?;
                    return self.take(record);
                }
            }
        }
        if bytes > self.options.max_bytes {
            let put = self.producer.put_within(record, self.wait())?;
            self.flushed.push(Flushed {
                shard: put.shard,
                sequence_number: put.sequence_number,
                records: 1,
            });
            return Ok(());
        }
        let index = known.unwrap_or_else(|| self.begin(shard));
        let open = &mut self.open[index];
        if open.parts.is_empty() {
            open.since_ns = now;
        }
        open.parts.push((hash_key, open.bytes.len()));
        record::aggregate(&mut open.bytes, key, record.data);
        Ok(())
    }

    fn begin(&mut self, shard: u32) -> usize {
        let mut open = self.spare.pop().unwrap_or_else(|| Open {
            shard,
            bytes: Vec::with_capacity(self.options.max_bytes),
            parts: Vec::new(),
            since_ns: 0,
        });
        open.shard = shard;
        self.open.push(open);
        self.open.len() - 1
    }

    /// Puts everything that was taken; as what. Blocks as [`StreamProducer::put`] does.
    ///
    /// # Errors
    /// As [`StreamProducer::put`]: what could not be put is kept, and is put by the next call; what was put before
    /// is told by the next that does not fail.
    pub fn flush(&mut self) -> Result<Vec<Flushed>, PutError> {
        self.flush_all()?;
        Ok(core::mem::take(&mut self.flushed))
    }

    fn flush_all(&mut self) -> Result<(), PutError> {
        for index in 0..self.open.len() {
            self.flush_open(index)?;
        }
        // Nothing of the old table is left.
        self.version = self.producer.table.version;
        self.spare.append(&mut self.open);
        Ok(())
    }

    /// Puts what has waited for its linger. Call it where puts are rare.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_due(&mut self) -> Result<Vec<Flushed>, PutError> {
        let linger = self.options.linger.as_nanos() as u64;
        let now = clock::coarse();
        for index in 0..self.open.len() {
            if now.saturating_sub(self.open[index].since_ns) >= linger {
                self.flush_open(index)?;
            }
        }
        Ok(core::mem::take(&mut self.flushed))
    }

    /// Records that were taken and not put yet.
    pub fn waiting(&self) -> usize {
        self.open.iter().map(|open| open.parts.len()).sum()
    }

    /// The producer, when everything was put.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); what was not put is lost then.
    pub fn into_inner(mut self) -> Result<StreamProducer, PutError> {
        self.flush()?;
        let inner = std::sync::Arc::clone(&self.producer.inner);
        let fresh = StreamProducer::new(inner)?;
        Ok(core::mem::replace(&mut self.producer, fresh))
    }

    fn flush_open(&mut self, index: usize) -> Result<(), PutError> {
        let wait = self.wait();
        self.flush_within(index, wait)
    }

    /// Puts an open record: as one while all of it belongs into one shard, else shard by shard.
    fn flush_within(&mut self, index: usize, wait: Duration) -> Result<(), PutError> {
        let Self {
            producer,
            open,
            flushed,
            ..
        } = self;
        let open = &mut open[index];
        if producer.is_of_parent() {
            return Err(PutError::Forked);
        }
        let mut moved = 0;
        while let Some((first, _)) = open.parts.first() {
            producer.look()?;
            let shard = producer.table.route(*first);
            let is_whole = producer.table.version == self.version;
            let belongs: Vec<bool> = match is_whole {
                true => Vec::new(),
                false => open.belong_to(shard, producer),
            };
            let (gathered, records) = match is_whole {
                true => (None, open.parts.len()),
                false => {
                    let records = belongs.iter().filter(|belongs| **belongs).count();
                    (Some(open.gather(&belongs, true).0), records)
                }
            };
            let data = gathered.as_deref().unwrap_or(&open.bytes);
            match append(producer, shard, records as u32, data, wait) {
                Ok(put) => {
                    flushed.push(Flushed {
                        shard: put.shard,
                        sequence_number: put.sequence_number,
                        records: records as u32,
                    });
                    if is_whole {
                        open.parts.clear();
                        open.bytes.clear();
                    } else {
                        (open.bytes, open.parts) = open.gather(&belongs, false);
                    }
                    // It is put, whatever the disk says: by the next call it would be put again.
                    producer.acknowledge(&put)?;
                }
                // Each time its shard was replaced; a seal that somebody scribbled would be met for ever.
                Err(Refused::Moved) if moved < ATTEMPTS => moved += 1,
                Err(Refused::Moved) => return Err(PutError::Busy { attempts: ATTEMPTS }),
                Err(Refused::Put(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Open {
    /// Of each record, whether it belongs into `shard` by the table of now.
    fn belong_to(&self, shard: u32, producer: &StreamProducer) -> Vec<bool> {
        let parts = self.parts.iter();
        parts
            .map(|(hash_key, _)| producer.table.route(*hash_key) == shard)
            .collect()
    }

    /// Those that do, or those that do not, in their order.
    fn gather(&self, belongs: &[bool], wanted: bool) -> (Vec<u8>, Vec<(u128, usize)>) {
        let (mut bytes, mut parts) = (Vec::new(), Vec::new());
        for (index, (hash_key, begin)) in self.parts.iter().enumerate() {
            if belongs[index] == wanted {
                let next = self.parts.get(index + 1);
                let end = next.map_or(self.bytes.len(), |(_, begin)| *begin);
                parts.push((*hash_key, bytes.len()));
                bytes.extend_from_slice(&self.bytes[*begin..end]);
            }
        }
        (bytes, parts)
    }
}

fn append(
    producer: &mut StreamProducer,
    shard: u32,
    records: u32,
    data: &[u8],
    wait: Duration,
) -> Result<Put, Refused> {
    let arrival = producer.arrival_ms();
    let label = Label::Aggregated(records);
    match producer.try_append(shard, arrival, label, data) {
        Err(Refused::Put(full @ PutError::Full { .. })) => {
            let put = producer.wait(full, Deadline::after(wait), |producer| {
                match producer.try_append(shard, arrival, label, data) {
                    Ok(put) => Ok(Some(put)),
                    Err(Refused::Moved) => Ok(None),
                    Err(Refused::Put(error)) => Err(error),
                }
            })?;
            put.ok_or(Refused::Moved)
        }
        outcome => outcome,
    }
}

impl Drop for AggregatingProducer {
    fn drop(&mut self) {
        for index in 0..self.open.len() {
            // Where there is no room, or this is a forked child, what was taken is gone, as with its process.
            let _ = self.flush_within(index, Duration::ZERO);
        }
    }
}
