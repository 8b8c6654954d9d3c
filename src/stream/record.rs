//! A record: what a put writes into a shard, and what a reader is given.
//!
//! ```text
//! RecordHead 16 bytes | partition key | data
//! ```
//! Bytes from shared memory are input: the head is copied once and checked against the length. The rest
//! is looked at in place; a hostile process with write permission can change it meanwhile, so the key is
//! handed out as bytes, not as text that promises something.

use super::number::SequenceNumber;
use crate::error::ShardId;
use crate::layout::stream::RecordHead;
use std::borrow::Cow;

/// Bytes in front of key and data.
pub(super) const HEAD: usize = size_of::<RecordHead>();

/// A record of a stream, in place: stable among well-behaved processes while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRecord<'a> {
    /// Its number, which names its shard too.
    pub sequence_number: SequenceNumber,
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
            arrival_ms: self.arrival_ms,
            partition_key: self.key().into_owned(),
            data: self.data.to_vec(),
        }
    }

    /// What stands at `position` of `shard`; `None` for bytes that no put wrote.
    pub(super) fn parse(shard: u32, position: u64, bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let head: RecordHead = bytemuck::pod_read_unaligned(head);
        let (partition_key, data) = rest.split_at_checked(head.key_bytes.into())?;
        Some(Self {
            sequence_number: SequenceNumber::new(shard, position),
            arrival_ms: head.arrival_ms,
            partition_key,
            data,
        })
    }
}

/// A copy of a record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its number, which names its shard too.
    pub sequence_number: SequenceNumber,
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

/// Writes a record into `out`, which is as long as head, key and data.
#[inline(always)]
pub(super) fn write(out: &mut [u8], arrival_ms: u64, key: &[u8], data: &[u8]) {
    let head = RecordHead {
        arrival_ms,
        key_bytes: key.len() as u16, // at most 256 characters
        flags: 0,
        reserved: 0,
    };
    out[..HEAD].copy_from_slice(bytemuck::bytes_of(&head));
    out[HEAD..HEAD + key.len()].copy_from_slice(key);
    out[HEAD + key.len()..].copy_from_slice(data);
}
