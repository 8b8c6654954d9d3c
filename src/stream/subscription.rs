//! A subscription: what a registered consumer is handed, as it comes.
//!
//! Its seats are those of any reader of all shards, with a note of whose they are. A consumer that holds puts
//! back reads under its cursor, without a copy or a pin; one that does not reads each record under a pin, and
//! is told what was dropped before it came there. Who has subscribed is one word, taken by a CAS; a
//! subscription that was displaced finds that out by its next call and gives its seats back.

use super::consumer::{Consumer, ConsumerPolicy};
use super::number::SequenceNumber;
use super::read::{StreamIterator, StreamReader, StreamReaderBuilder};
use super::record::StreamRecord;
use super::words::ConsumerWord;
use crate::ParticipantId;
use crate::error::{ConsumerError, ShardId, StreamReadError};
use crate::layout::word::Role;
use crate::sync::{Label, Ordering, order};
use crate::sys::clock::Deadline;
use std::sync::Arc;
use std::time::Duration;

/// The kind of the word of a consumer that somebody has subscribed as.
const SUBSCRIBED: u64 = 1;

/// What a subscription is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerEvent<'a> {
    /// A record, in place.
    Record(StreamRecord<'a>),
    /// What stands for records that were dropped before they were read.
    Gap {
        /// Where.
        shard: ShardId,
        /// The first that was missed.
        from: SequenceNumber,
        /// The first that was not.
        to: SequenceNumber,
        /// Positions between.
        lost: u64,
    },
}

/// A subscription of a registered consumer.
///
/// May move to another thread, is not shared between threads. Dropping it, or its process's death, ends it.
/// In a forked child every call returns `Forked`.
pub struct ConsumerSubscription {
    consumer: Consumer,
    member: Role,
    /// `None` once it has ended.
    reader: Option<StreamReader>,
}

impl ConsumerSubscription {
    pub(super) fn begin(
        consumer: Consumer,
        iterator: StreamIterator,
        displaces: bool,
    ) -> Result<Self, ConsumerError> {
        consumer.inner.check()?;
        if !consumer.is_registered() {
            return Err(ConsumerError::Displaced);
        }
        let member = loop {
            let seen = Role(
                consumer
                    .member()
                    .load(order(Label::RoleTake, Ordering::Acquire)),
            );
            let lives = seen.owner() != 0 && !consumer.inner.is_dead(seen.owner());
            if lives && !displaces {
                let by = ParticipantId(seen.owner());
                return Err(ConsumerError::Busy { by });
            }
            let mine = seen.taken(SUBSCRIBED, consumer.inner.me);
            let swapped = consumer.member().compare_exchange(
                seen.0,
                mine.0,
                order(Label::RoleTake, Ordering::AcqRel),
                Ordering::Relaxed, // looks again
            );
            if swapped.is_ok() {
                break mine;
            }
        };
        let mut subscription = Self {
            member,
            reader: None,
            consumer,
        };
        let consumer = &subscription.consumer;
        let mut builder = StreamReaderBuilder::new(Arc::clone(&consumer.inner))
            .iterator(iterator)
            .of_consumer(consumer.place, member);
        if !consumer.policy().holds() {
            builder = builder.lossy();
        }
        if let StreamIterator::AtSequenceNumber(number)
        | StreamIterator::AfterSequenceNumber(number) = iterator
        {
            builder = builder.shard(number.shard());
        }
        let reader = builder.open()?; // where it fails, the drop gives the word back
        consumer
            .count(ConsumerWord::Subscriptions)
            .fetch_add(1, Ordering::Relaxed);
        subscription.reader = Some(reader);
        Ok(subscription)
    }

    /// The consumer that subscribed.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Hands up to `max` events to `each`, records in place, those of a shard in their order; how many.
    /// 0 when there is none now. Never blocks, makes no system call, allocates nothing but where shards
    /// changed.
    ///
    /// # Errors
    /// [`ConsumerError::Displaced`], [`ConsumerError::Evicted`], as for any reader.
    pub fn try_read_batch(
        &mut self,
        max: usize,
        mut each: impl FnMut(ConsumerEvent<'_>),
    ) -> Result<usize, ConsumerError> {
        if self.consumer.inner.words.is_forked() {
            return Err(StreamReadError::Forked.into());
        }
        let stands = self.consumer.is_registered()
            && self.consumer.member().load(Ordering::Relaxed) == self.member.0;
        if !stands {
            self.reader = None;
        }
        let Some(reader) = &mut self.reader else {
            return Err(ConsumerError::Displaced);
        };
        let mut bytes = 0;
        let read = reader.try_read_batch(max, |record| {
            bytes += record.partition_key.len() + record.data.len();
            each(ConsumerEvent::Record(record));
        });
        match read {
            Ok(0) => Ok(0),
            Ok(count) => {
                self.add(ConsumerWord::Records, count as u64);
                self.add(ConsumerWord::Bytes, bytes as u64);
                Ok(count)
            }
            Err(StreamReadError::Lagged { shard, from, to }) => {
                self.add(ConsumerWord::Lost, to - from);
                if self.consumer.policy() == ConsumerPolicy::Evict {
                    self.add(ConsumerWord::Evictions, 1);
                    self.end();
                    return Err(ConsumerError::Evicted { shard, from, to });
                }
                self.add(ConsumerWord::Gaps, 1);
                each(ConsumerEvent::Gap {
                    shard,
                    from: Consumer::number(shard, from),
                    to: Consumer::number(shard, to),
                    lost: to - from,
                });
                Ok(1)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same, waiting up to `timeout` for the first event. Wakes within microseconds of a put.
    ///
    /// # Errors
    /// As [`try_read_batch`](Self::try_read_batch).
    pub fn read_batch(
        &mut self,
        max: usize,
        timeout: Duration,
        mut each: impl FnMut(ConsumerEvent<'_>),
    ) -> Result<usize, ConsumerError> {
        let deadline = Deadline::after(timeout);
        loop {
            let given = self.try_read_batch(max, &mut each)?;
            if given > 0 || max == 0 || deadline.passed() {
                return Ok(given);
            }
            match &mut self.reader {
                Some(reader) if !reader.is_at_end() => reader.rest(deadline.remaining())?,
                _ => return Ok(0),
            }
        }
    }

    fn add(&self, field: ConsumerWord, amount: u64) {
        self.consumer
            .count(field)
            .fetch_add(amount, Ordering::Relaxed);
    }

    /// Gives the seats and the word back.
    fn end(&mut self) {
        self.reader = None;
        let _ = self.consumer.member().compare_exchange(
            self.member.0,
            self.member.released().0,
            order(Label::RoleRelease, Ordering::AcqRel),
            Ordering::Relaxed, // it passed on
        );
    }
}

impl Drop for ConsumerSubscription {
    fn drop(&mut self) {
        if !self.consumer.inner.words.is_forked() {
            self.end();
        }
    }
}
