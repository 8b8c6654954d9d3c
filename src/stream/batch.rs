//! A batch of puts: sorted by shard, each shard's part written in one run, an outcome for each record.
//!
//! What is clear in a shard's ring goes in one run of claims: one look at the table, the clock and the wake for
//! all. What is not (a record that needs the pool, the end of a lap, a full ring, a seal) goes the way of a
//! single put, and the run begins anew behind it. Records of a shard stay in their order, so those of a key do.

use super::number::SequenceNumber;
use super::put::{Put, PutRecord, StreamProducer};
use super::record::{self, HEAD, Label};
use crate::error::{PutError, ShardId};
use crate::sys::clock::Deadline;
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
        // Every place gets its outcome below.
        let mut outcomes: Vec<Result<Put, PutError>> = Vec::with_capacity(records.len());
        outcomes.resize_with(records.len(), || Err(PutError::Busy { attempts: 0 }));
        let mut parts = core::mem::take(&mut self.parts);
        parts.0.clear();
        for (index, record) in records.iter().enumerate() {
            match self.check(record) {
                Ok(()) => parts.0.push(Part {
                    shard: 0,
                    index: index as u32,
                    hash_key: self.hash_key(record),
                }),
                Err(error) => outcomes[index] = Err(error),
            }
        }
        let mut patience = Patience { wait, until: None };
        while !parts.0.is_empty() {
            if let Err(error) = self.look() {
                for part in parts.0.drain(..) {
                    outcomes[part.index as usize] = Err(again(&error));
                }
                break;
            }
            for part in &mut parts.0 {
                part.shard = self.table.route(part.hash_key);
            }
            parts.0.sort_by_key(|part| part.shard); // stable
            self.put_parts(records, &mut parts.0, &mut outcomes, &mut patience);
        }
        self.parts = parts;
        self.acknowledge_all(&mut outcomes);
        outcomes
    }

    /// Puts what it can by this table, and takes it off `parts`.
    fn put_parts(
        &mut self,
        records: &[PutRecord<'_>],
        parts: &mut Vec<Part>,
        outcomes: &mut [Result<Put, PutError>],
        patience: &mut Patience,
    ) {
        let version = self.table.version;
        let mut done = 0;
        while done < parts.len() && self.table.version == version {
            let shard = parts[done].shard;
            let of_shard = parts[done..].partition_point(|part| part.shard == shard);
            let run = &parts[done..done + of_shard];
            let sent = self.put_run(shard, records, run, outcomes);
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
            // What was wrong with the record itself was found before.
            let refused = outcome.as_ref().err().map(again);
            outcomes[next.index as usize] = outcome;
            done += 1;
            if let Some(error) = refused {
                for part in &run[sent + 1..] {
                    outcomes[part.index as usize] = Err(again(&error));
                }
                done += run.len() - sent - 1;
            }
        }
        parts.drain(..done);
    }

    /// The first of a shard's records, as many as can be written in one run; how many.
    fn put_run(
        &mut self,
        shard: u32,
        records: &[PutRecord<'_>],
        run: &[Part],
        outcomes: &mut [Result<Put, PutError>],
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
                outcomes[part.index as usize] = Ok(Put {
                    shard: ShardId(shard),
                    sequence_number: SequenceNumber::new(shard, position),
                });
            },
        );
        self.weigh(shard, bytes);
        sent
    }
}

/// Kept between batches, so that they allocate nothing for it.
#[derive(Default)]
pub(super) struct Parts(Vec<Part>);

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
        PutError::Removed => PutError::Removed,
        PutError::Forked => PutError::Forked,
        _ => PutError::Busy { attempts: 1 },
    }
}
