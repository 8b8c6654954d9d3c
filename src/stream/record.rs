//! A record: what a put writes into a shard, and what a reader is given.
//!
//! ```text
//! RecordHead 16 bytes | partition key | data
//! RecordHead 16 bytes | SubHead 8 bytes | partition key | data | SubHead | …        an aggregated one
//! ```
//! Bytes from shared memory are input: the head is copied once and checked against the length. The rest
//! is looked at in place; a hostile process with write permission can change it meanwhile, so the key is
//! handed out as bytes, not as text that promises something.

use super::number::SequenceNumber;
use crate::error::ShardId;
use crate::layout::stream::{AGGREGATED, RecordHead, SubHead};
use crate::shm::copy::copy_part;
use std::borrow::Cow;

/// Bytes in front of key and data.
pub(super) const HEAD: usize = size_of::<RecordHead>();
/// Bytes in front of key and data of a record in an aggregated one.
pub(super) const SUB_HEAD: usize = size_of::<SubHead>();

/// A record of a stream, in place: stable among well-behaved processes while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRecord<'a> {
    /// Its number, which names its shard too.
    pub sequence_number: SequenceNumber,
    /// Which it is of those that a producer [aggregated](crate::AggregatingProducer) under that number; 0
    /// for the first, and for one that is alone.
    pub sub_sequence_number: u32,
    /// When it was put, Unix time in ms (`ApproximateArrivalTimestamp`).
    pub arrival_ms: u64,
    /// The bytes of its partition key.
    pub partition_key: &'a [u8],
    /// What was put.
    pub data: &'a [u8],
}

impl<'a> StreamRecord<'a> {
    /// Its shard.
    pub fn shard(&self) -> ShardId {
        self.sequence_number.shard()
    }

    /// Its partition key as text. Allocates only where the bytes are none.
    pub fn key(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.partition_key)
    }

    /// A copy.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            sequence_number: self.sequence_number,
            sub_sequence_number: self.sub_sequence_number,
            arrival_ms: self.arrival_ms,
            partition_key: self.key().into_owned(),
            data: self.data.to_vec(),
        }
    }
}

/// What stands at a position: one record, or several that a producer aggregated.
pub(super) enum Content<'a> {
    One(StreamRecord<'a>),
    Several(SubRecords<'a>),
}

impl<'a> Content<'a> {
    /// What stands at `position` of `shard`; `None` for bytes that no put wrote.
    #[inline]
    pub fn parse(shard: u32, position: u64, bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let head: RecordHead = bytemuck::pod_read_unaligned(head);
        let sequence_number = SequenceNumber::new(shard, position);
        if head.flags & AGGREGATED != 0 {
            return Some(Self::Several(SubRecords {
                sequence_number,
                arrival_ms: head.arrival_ms,
                next: 0,
                records: head.records,
                rest,
            }));
        }
        let (partition_key, data) = rest.split_at_checked(head.key_bytes.into())?;
        Some(Self::One(StreamRecord {
            sequence_number,
            sub_sequence_number: 0,
            arrival_ms: head.arrival_ms,
            partition_key,
            data,
        }))
    }

    pub fn arrival_ms(&self) -> u64 {
        match self {
            Self::One(record) => record.arrival_ms,
            Self::Several(records) => records.arrival_ms,
        }
    }
}

/// The records in an aggregated one, in their order. Ends at the first that does not fit into its bytes.
#[derive(Clone)]
pub(super) struct SubRecords<'a> {
    sequence_number: SequenceNumber,
    arrival_ms: u64,
    next: u32,
    records: u32,
    rest: &'a [u8],
}

impl SubRecords<'_> {
    /// How many were said to be there.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Whether all that were said to be there came.
    pub fn is_whole(&self) -> bool {
        self.next == self.records
    }
}

impl<'a> Iterator for SubRecords<'a> {
    type Item = StreamRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<StreamRecord<'a>> {
        if self.next >= self.records {
            return None;
        }
        let (head, rest) = self.rest.split_at_checked(SUB_HEAD)?;
        let head: SubHead = bytemuck::pod_read_unaligned(head);
        let (partition_key, rest) = rest.split_at_checked(head.key_bytes.into())?;
        let (data, rest) = rest.split_at_checked(head.data_bytes as usize)?;
        let record = StreamRecord {
            sequence_number: self.sequence_number,
            sub_sequence_number: self.next,
            arrival_ms: self.arrival_ms,
            partition_key,
            data,
        };
        self.rest = rest;
        self.next += 1;
        Some(record)
    }
}

/// A copy of a record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its number, which names its shard too.
    pub sequence_number: SequenceNumber,
    /// Which it is of those that were aggregated under that number.
    pub sub_sequence_number: u32,
    /// When it was put, Unix time in ms.
    pub arrival_ms: u64,
    /// Its partition key.
    pub partition_key: String,
    /// What was put.
    pub data: Vec<u8>,
}

impl OwnedRecord {
    /// Its shard.
    pub fn shard(&self) -> ShardId {
        self.sequence_number.shard()
    }

    /// Its partition key.
    pub fn key(&self) -> &str {
        &self.partition_key
    }
}

/// What a put writes in front of data: a key, or how many records the data is.
#[derive(Clone, Copy)]
pub(super) enum Label<'a> {
    Key(&'a [u8]),
    Aggregated(u32),
}

impl<'a> Label<'a> {
    pub fn key(self) -> &'a [u8] {
        match self {
            Self::Key(key) => key,
            Self::Aggregated(_) => &[],
        }
    }
}

/// What stands in front of key and data.
#[inline(always)]
pub(super) fn head(arrival_ms: u64, label: Label<'_>) -> RecordHead {
    let (flags, records) = match label {
        Label::Key(_) => (0, 0),
        Label::Aggregated(records) => (AGGREGATED, records),
    };
    RecordHead {
        arrival_ms,
        key_bytes: label.key().len() as u16, // at most 256 characters
        flags,
        records,
    }
}

/// Writes a record into `out`, which is as long as head, key and data.
#[inline(always)]
pub(super) fn write(out: &mut [u8], arrival_ms: u64, label: Label<'_>, data: &[u8]) {
    let (head, key) = (head(arrival_ms, label), label.key());
    let (start, rest) = out.split_at_mut(HEAD);
    start.copy_from_slice(bytemuck::bytes_of(&head));
    let (start, rest) = rest.split_at_mut(key.len());
    copy_part(start, key);
    copy_part(rest, data);
}

/// Appends a record to those of an aggregated one.
pub(super) fn aggregate(out: &mut Vec<u8>, key: &[u8], data: &[u8]) {
    let head = SubHead {
        data_bytes: data.len() as u32, // at most 10 MiB
        key_bytes: key.len() as u16,
        reserved: 0,
    };
    out.extend_from_slice(bytemuck::bytes_of(&head));
    out.extend_from_slice(key);
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_parsed_as_it_was_written_whatever_its_lengths() {
        let bytes: Vec<u8> = (0..300).map(|n| (n * 7 + 1) as u8).collect();
        for key_len in (0..70).chain([255, 256]) {
            for data_len in (0..140).chain([300]) {
                let (key, data) = (&bytes[..key_len], &bytes[300 - data_len..]);
                let mut out = vec![0; HEAD + key_len + data_len];
                write(&mut out, 99, Label::Key(key), data);
                let Some(Content::One(record)) = Content::parse(3, 4, &out) else {
                    panic!("{key_len} {data_len}");
                };
                assert_eq!((record.partition_key, record.data), (key, data));
                assert_eq!((record.arrival_ms, record.shard()), (99, ShardId(3)));
            }
        }
    }
}
