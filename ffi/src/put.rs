//! Putting records into streams.

use crate::argument::{self, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared, with};
use crate::layout::{HashKey, Put, PutOutcome, SequenceNumber};
use crate::said::each;
use crate::stream::StreamHandle;
use core::ffi::c_void;
use ringway::{PutRecord, StreamProducer};

pub struct StreamProducerHandle(StreamProducer);

pub fn number_out(number: ringway::SequenceNumber) -> SequenceNumber {
    SequenceNumber {
        shard: number.shard().0.into(),
        position: number.position(),
    }
}

fn hash_key(key: &HashKey) -> u128 {
    u128::from(key.high) << 64 | u128::from(key.low)
}

/// A record, borrowed from the caller until the call returns.
fn record(put: &Put) -> Result<PutRecord<'static>, Failure> {
    let key = argument::text(put.partition_key, "partition_key")?;
    let mut record = PutRecord::new(key, argument::bytes(put.data, put.len)?);
    if !put.hash_key.is_null() {
        record.explicit_hash_key = Some(hash_key(&argument::read(put.hash_key, "hash_key")?));
    }
    Ok(record)
}

fn outcome_out(outcome: Result<ringway::Put, Failure>) -> PutOutcome {
    let (sequence_number, status) = match outcome {
        Ok(put) => (number_out(put.sequence_number), 0),
        Err(failure) => (SequenceNumber::default(), failure.code as i32),
    };
    PutOutcome {
        sequence_number,
        status,
        reserved: 0,
    }
}

abi! {
    /// Becomes a producer.
    fn ringway_stream_producer_open(stream: *const c_void, producer: *mut *mut c_void) {
        let producer = argument::out(producer, "producer")?;
        let opened = shared::<StreamHandle>(stream)?.0.producer()?;
        producer.write(keep(StreamProducerHandle(opened))?);
        Ok(Code::Ok)
    }

    /// Puts a record.
    fn ringway_stream_put(
        producer: *mut c_void,
        put: *const Put,
        timeout_ns: i64,
        outcome: *mut PutOutcome,
    ) {
        let out = argument::optional(outcome, "outcome")?;
        let record = record(&argument::read(put, "record")?)?;
        let wait = timeout(timeout_ns)?;
        with::<StreamProducerHandle>(producer, |StreamProducerHandle(producer)| {
            let put = if wait.is_zero() {
                producer.try_put(&record)?
            } else {
                producer.put_within(&record, wait)?
            };
            if let Some(out) = out {
                out.write(outcome_out(Ok(put)));
            }
            Ok(Code::Ok)
        })
    }

    /// Puts records.
    fn ringway_stream_put_batch(
        producer: *mut c_void,
        puts: *const Put,
        count: usize,
        timeout_ns: i64,
        outcomes: *mut PutOutcome,
    ) {
        let places = argument::room(outcomes, count, "outcomes")?;
        let puts = argument::slice(puts, count, "records")?;
        let wait = timeout(timeout_ns)?;
        with::<StreamProducerHandle>(producer, |StreamProducerHandle(producer)| {
            let taken: Vec<_> = puts.iter().map(record).collect();
            let put = |records: Vec<&PutRecord<'_>>| {
                let records: Vec<_> = records.into_iter().copied().collect();
                let outcomes = producer.put_batch_within(&records, wait).into_iter();
                outcomes.map(|outcome| outcome.map_err(Failure::from))
            };
            each(&taken, put, |at, outcome| {
                places[at].write(outcome_out(outcome));
            });
            Ok(Code::Ok)
        })
    }
}
