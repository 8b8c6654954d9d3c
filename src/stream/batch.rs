//! A batch of puts: sorted by shard, each shard's part written in one run, an outcome for each record.
//!
//! In memory records are put one behind the other, as by a call each with one look at the clock for all, until one
//! can't be put at once. From there on, and on a disk: what is clear in a shard's ring goes in one run of claims,
//! one look at the table, the clock and the wake for all. What is not (a record that needs the pool, the end of a
//! lap, a full ring, a seal) goes the way of a single put, and the run begins anew behind it. Records of a shard
//! stay in their order, so those of a key do.

use super::number::SequenceNumber;
use super::put::{Put, PutRecord, StreamProducer};
use super::record::{self, HEAD, Label};
use crate::error::{PutError, ShardId};
use crate::sys::clock::Deadline;
use crate::trace::event;
use std::time::Duration;

/// A record of the batch that has no outcome yet.
#[derive(Clone, Copy)]
struct Part {
    shard: u32,
    index: u32,
    hash_key: u128,
}

/// How long a batch may wait, from the first record on that finds no room.
struct Patience {
    wait: Duration,
    until: Option<Deadline>,
}

impl Patience {
    fn end(&mut self) -> Deadline {
        *self.until.get_or_insert_with(|| Deadline::after(self.wait))
    }
}

impl StreamProducer {
    /// Puts `records`, those of a shard in their order; what became of each (`PutRecords`). One that fails
    /// does not keep the others from being put, except those behind it that go to the same shard, unless it
    /// was no record at all: so the order of each key is kept whatever fails. They wait for room together, as
    /// long as one put may, and in a stream on disk for one write of each shard. Allocates its answer.
    pub fn put_batch(&mut self, records: &[PutRecord<'_>]) -> Vec<Result<Put, PutError>> {
        self.put_batch_within(records, self.usual_wait())
    }

    /// The same, waiting for room up to `wait` for all of them whatever the stream says.
    pub fn put_batch_within(
        &mut self,
        records: &[PutRecord<'_>],
        wait: Duration,
    ) -> Vec<Result<Put, PutError>> {
        let mut outcomes = Vec::with_capacity(records.len());
        self.put_clear(records, &mut outcomes);
        if outcomes.len() == records.len() {
            return outcomes;
        }
        let rest = &records[outcomes.len()..];
        self.put_by_shard(rest, wait, &mut outcomes);
        outcomes
    }

    /// Puts what can be put as by a call of its own, in a shard in memory: one look at the clock for all. Ends
    /// before the first that can't be.
    fn put_clear(&mut self, records: &[PutRecord<'_>], outcomes: &mut Vec<Result<Put, PutError>>) {
        if !self.is_plain {
            return;
        }
        let arrival = self.arrival_ms();
        for record in records {
            let put = match self.append_clear(record, |_| arrival) {
                // The end of what is clear comes every few records.
                Err(lost) => self.append_with_care(record, lost),
                Ok(put) => Ok(put),
            };
            match put {
                Ok(put) => outcomes.push(Ok(put)),
                Err(_) => return, // met again
            }
        }
    }

    /// The long way: sorted by shard, waiting for room and for the disk.
    fn put_by_shard(
        &mut self,
        records: &[PutRecord<'_>],
        wait: Duration,
        outcomes: &mut Vec<Result<Put, PutError>>,
    ) {
        let mut parts = core::mem::take(&mut self.parts);
        parts.begin(records.len());
        for (index, record) in (0..).zip(records) {
            match self.check(record) {
                Ok(()) => parts.open.push(Part {
                    shard: 0,
                    index,
                    hash_key: self.hash_key(record),
                }),
                Err(error) => parts.failed.push((index, error)),
            }
        }
        let mut patience = Patience { wait, until: None };
        while !parts.open.is_empty() {
            if let Err(error) = self.look() {
                let open = parts.open.drain(..);
                parts
                    .failed
                    .extend(open.map(|part| (part.index, again(&error))));
                break;
            }
            for part in &mut parts.open {
                part.shard = self.table.route(part.hash_key);
            }
            parts.open.sort_by_key(|part| part.shard); // stable
            self.put_parts(records, &mut parts, &mut patience);
        }
        let first = outcomes.len();
        outcomes.extend(parts.outcomes());
        self.parts = parts;
        self.acknowledge_all(&mut outcomes[first..]);
    }

    /// Puts what it can by this table, and takes it off the open parts.
    fn put_parts(&mut self, records: &[PutRecord<'_>], parts: &mut Parts, patience: &mut Patience) {
        let version = self.table.version;
        let Parts {
            open,
            placed,
            failed,
        } = parts;
        let mut done = 0;
        while done < open.len() && self.table.version == version {
            let shard = open[done].shard;
            let of_shard = open[done..].partition_point(|part| part.shard == shard);
            let run = &open[done..done + of_shard];
            let sent = self.put_run(shard, records, run, placed);
            done += sent;
            let Some(next) = run.get(sent) else {
                continue;
            };
            let record = &records[next.index as usize];
            let mut outcome = self.append(record);
            if let Err(full @ PutError::Full { .. }) = outcome {
                let until = patience.end();
                outcome = self.wait(full, until, |producer| producer.append(record));
            }
            done += 1;
            match outcome {
                Ok(put) => {
                    let position = put.sequence_number.position();
                    placed[next.index as usize] = (put.shard.0, position);
                }
                // What was wrong with the record itself was found before.
                Err(error) => {
                    let behind = &run[sent + 1..];
                    done += behind.len();
                    failed.extend(behind.iter().map(|part| (part.index, again(&error))));
                    failed.push((next.index, error));
                }
            }
        }
        open.drain(..done);
    }

    /// The first of a shard's records, as many as can be written in one run; how many.
    fn put_run(
        &mut self,
        shard: u32,
        records: &[PutRecord<'_>],
        run: &[Part],
        placed: &mut [(u32, u64)],
    ) -> usize {
        // Limits count record by record.
        if self.inner.definition.limits.is_some()
            || self.open_once(shard).is_err()
            || self.is_frozen(shard)
        {
            return 0;
        }
        let arrival = self.arrival_ms();
        let Some(Some(producer)) = self.producers.get_mut(shard as usize) else {
            return 0;
        };
        let record = |part: &Part| &records[part.index as usize];
        let len = |part: &Part| record(part).partition_key.len() + record(part).data.len();
        let mut bytes = 0;
        let sent = producer.send_clear_run(
            run,
            |part| HEAD + len(part),
            |part, out| {
                let record = record(part);
                let label = Label::Key(record.partition_key.as_bytes());
                record::write(out, arrival, label, record.data);
            },
            |part, position| {
                bytes += len(part);
                event!(
                    TRACE,
                    "put",
                    stream = self.inner.definition.name.as_str(),
                    shard = shard,
                    position = position,
                    bytes = record(part).data.len()
                );
                placed[part.index as usize] = (shard, position);
            },
        );
        self.weigh(shard, bytes);
        sent
    }
}

/// A batch on its way. Kept between batches, so that they allocate nothing for it.
#[derive(Default)]
pub(super) struct Parts {
    /// Those without an outcome.
    open: Vec<Part>,
    /// Where each record was put: shard, position.
    placed: Vec<(u32, u64)>,
    failed: Vec<(u32, PutError)>,
}

impl Parts {
    fn begin(&mut self, records: usize) {
        self.open.clear();
        self.failed.clear();
        self.placed.clear();
        self.placed.resize(records, (0, 0)); // of what does not fail, each is set
    }

    fn outcomes(&mut self) -> impl Iterator<Item = Result<Put, PutError>> + '_ {
        self.failed.sort_by_key(|(index, _)| *index);
        let mut failed = self.failed.drain(..).peekable();
        let outcome = move |(index, (shard, position)): (u32, &(u32, u64))| {
            if let Some((_, error)) = failed.next_if(|(failed, _)| *failed == index) {
                return Err(error);
            }
            Ok(Put {
                shard: ShardId(*shard),
                sequence_number: SequenceNumber::new(*shard, *position),
            })
        };
        (0..).zip(&self.placed).map(outcome)
    }
}

/// The same refusal for another record.
fn again(error: &PutError) -> PutError {
    match error {
        PutError::Throttled { shard, limit, unit } => PutError::Throttled {
            shard: *shard,
            limit: *limit,
            unit,
        },
        PutError::Full {
            shard,
            by,
            group,
            consumer,
        } => PutError::Full {
            shard: *shard,
            by: *by,
            group: group.clone(),
            consumer: consumer.clone(),
        },
        PutError::Held { shard, by } => PutError::Held {
            shard: *shard,
            by: *by,
        },
        PutError::NotOnDisk { shard, why } => PutError::NotOnDisk {
            shard: *shard,
            why: why.clone(),
        },
        PutError::Removed => PutError::Removed,
        PutError::Forked => PutError::Forked,
        _ => PutError::Busy { attempts: 1 },
    }
}
