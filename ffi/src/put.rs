//! Putting records into streams.

use crate::argument::{self, NONE, Sized0 as _, given, given_ms, switch, timeout};
use crate::code::{Code, Failure};
use crate::fence::abi;
use crate::handle::{keep, shared, with};
use crate::layout::{HashKey, Put, PutOutcome, SequenceNumber, StreamProducerConfig};
use crate::said::each;
use crate::stream::StreamHandle;
use core::ffi::c_void;
use core::time::Duration;
use ringway::{AggregatingProducer, Aggregation, PutRecord, Stream, StreamProducer};
use std::time::Instant;

/// Who puts.
enum Putting {
    Alone(StreamProducer),
    Aggregating(AggregatingProducer),
}

/// A producer, and its stream, whose disk it may wait for.
pub struct StreamProducerHandle(Putting, Stream);

/// Of a record that was gathered, and has none yet.
const NO_NUMBER: SequenceNumber = SequenceNumber {
    shard: NONE,
    position: NONE,
};

impl StreamProducerHandle {
    fn open(stream: &Stream, config: &StreamProducerConfig) -> Result<Self, Failure> {
        let producer = stream.producer()?;
        if switch(config.aggregate, "aggregate")? != Some(true) {
            return Ok(Self(Putting::Alone(producer), stream.clone()));
        }
        let mut aggregation = Aggregation::default();
        if let Some(bytes) = given(config.aggregate_bytes) {
            let bytes = usize::try_from(bytes).ok();
            let bytes = bytes.filter(|bytes| (64..=1 << 20).contains(bytes));
            let rule = || Failure::new(Code::Option, "aggregate_bytes is 64 to 1,048,576");
            aggregation.max_bytes = bytes.ok_or_else(rule)?;
        }
        if let Some(records) = given(config.aggregate_records) {
            let records = u32::try_from(records).ok().filter(|records| *records > 0);
            let rule = || Failure::new(Code::Option, "aggregate_records is 1 to 4,294,967,295");
            aggregation.max_records = records.ok_or_else(rule)?;
        }
        if let Some(linger) = given_ms(config.linger_ms) {
            aggregation.linger = linger;
        }
        let gathering = producer.aggregating(aggregation);
        Ok(Self(Putting::Aggregating(gathering), stream.clone()))
    }

    /// Puts what was gathered, and waits for the disk.
    fn flush(&mut self, wait: Duration) -> Result<Code, Failure> {
        if let Putting::Aggregating(producer) = &mut self.0 {
            producer.set_wait(wait);
            producer.flush()?;
        }
        self.1.flush()?;
        Ok(Code::Ok)
    }
}

impl Putting {
    #[inline]
    fn put(&mut self, record: &PutRecord<'_>, wait: Duration) -> Result<SequenceNumber, Failure> {
        let put = match self {
            Self::Aggregating(producer) => {
                producer.set_wait(wait);
                producer.put_record(record)?;
                return Ok(NO_NUMBER);
            }
            Self::Alone(producer) if wait.is_zero() => producer.try_put(record)?,
            Self::Alone(producer) => producer.put_within(record, wait)?,
        };
        Ok(number_out(put.sequence_number))
    }

    fn put_all(
        &mut self,
        records: &[PutRecord<'_>],
        wait: Duration,
    ) -> Vec<Result<SequenceNumber, Failure>> {
        match self {
            Self::Alone(producer) => {
                let outcomes = producer.put_batch_within(records, wait).into_iter();
                outcomes
                    .map(|outcome| Ok(number_out(outcome?.sequence_number)))
                    .collect()
            }
            Self::Aggregating(_) => {
                let end = argument::deadline(wait);
                let each = records.iter().map(|record| {
                    // They wait together.
                    let left = end.saturating_duration_since(Instant::now());
                    self.put(record, left)
                });
                each.collect()
            }
        }
    }
}

pub fn number_out(number: ringway::SequenceNumber) -> SequenceNumber {
    SequenceNumber {
        shard: number.shard().0.into(),
        position: number.position(),
    }
}

pub fn hash_key(key: &HashKey) -> u128 {
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

fn outcome_out(outcome: Result<SequenceNumber, Failure>) -> PutOutcome {
    let (sequence_number, status) = match outcome {
        Ok(number) => (number, 0),
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
    fn ringway_stream_producer_open(
        stream: *const c_void,
        config: *const StreamProducerConfig,
        producer: *mut *mut c_void,
    ) {
        let producer = argument::out(producer, "producer")?;
        let config = argument::sized(config, "config")?;
        let config = config.unwrap_or_else(StreamProducerConfig::initial);
        let stream = &shared::<StreamHandle>(stream)?.0;
        producer.write(keep(StreamProducerHandle::open(stream, &config)?)?);
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
        with::<StreamProducerHandle>(producer, |StreamProducerHandle(producer, _)| {
            let number = producer.put(&record, wait)?;
            if let Some(out) = out {
                out.write(outcome_out(Ok(number)));
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
        with::<StreamProducerHandle>(producer, |StreamProducerHandle(producer, _)| {
            let taken: Vec<_> = puts.iter().map(record).collect();
            let put = |records: &[PutRecord<'_>]| producer.put_all(records, wait);
            each(&taken, put, |at, outcome| {
                places[at].write(outcome_out(outcome));
            });
            Ok(Code::Ok)
        })
    }

    /// Puts what was gathered.
    fn ringway_stream_flush(producer: *mut c_void, timeout_ns: i64) {
        let wait = timeout(timeout_ns)?;
        with::<StreamProducerHandle>(producer, |producer| producer.flush(wait))
    }
}
