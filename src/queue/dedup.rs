//! Deduplication: what a queue is told about it, what an id is, and what stands for one.
//!
//! A FIFO queue that deduplicates accepts a message whose id was sent within the window, and does
//! not deliver it. The id is what the sender says, or the SHA-256 of the body, in hexadecimal digits,
//! where the queue goes by content: then a sender that names these digits means the same message. The
//! table below ([`crate::ring::delivery::dedup`]) knows an id by its SipHash-1-3, 128 bits, under a
//! random key of the queue: two ids of one window share it by chance once in 2^64, and nobody who
//! can't read the queue's file can make them.
//!
//! Sources: "Exactly-once processing in Amazon SQS" and "Using the message deduplication ID in Amazon
//! SQS", Amazon SQS Developer Guide.

use super::QueueSender;
use super::definition::whole_ms;
use super::outgoing::MAX_ID;
use crate::error::QueueSendError;
use crate::layout::dedup::{MAX_CAPACITY, MIN_CAPACITY};
use crate::layout::queue::{MAX_DEDUP_WINDOW_MS, MIN_DEDUP_WINDOW_MS};
use crate::ring::delivery::dedup::Key;
use crate::ring::delivery::link::GroupHash;
use sha2::{Digest, Sha256};
use siphasher::sip128::SipHasher13;
use std::time::Duration;

/// The window of SQS: five minutes.
const DEFAULT_WINDOW: Duration = Duration::from_secs(300);
/// Ids of a FIFO queue whose creator does not say: a FIFO queue of SQS takes 300 messages a second
/// without batches, so 90,000 in its window. The table takes 8 MiB.
const DEFAULT_IDS: u64 = 131_072;

/// What an id is compared with (`DeduplicationScope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DedupScope {
    /// Every message of the queue.
    #[default]
    Queue,
    /// The messages of the same group.
    MessageGroup,
}

/// How a FIFO queue deduplicates: fixed at creation.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-dedup-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// use ringway::{Deduplication, Outgoing};
/// let dedup = Deduplication::of_ids(10_000);
/// let orders = bus.queue("orders.fifo").fifo().deduplicate(dedup).open_or_create()?;
/// let order = Outgoing::new(b"order 1").group("truck-7").dedup_id("order-1");
///
/// let mut sender = orders.sender()?;
/// let first = sender.send_message(&order)?;
/// let again = sender.send_message(&order)?; // whoever repeats it, and from whichever process
/// assert!(again.duplicate && again.position == first.position);
/// # drop((sender, orders, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deduplication {
    /// How many different ids there may be within a window, 1,024 to 67,108,864; each takes 64
    /// bytes. Beyond it a send is refused with [`QueueSendError::DedupFull`]: no id is forgotten.
    pub ids: u64,
    /// How long an id counts from its send, 1 s to 14 days. SQS: 5 minutes.
    pub window: Duration,
    /// What it is compared with.
    pub scope: DedupScope,
    /// Whether a message without an id has the SHA-256 of its body for one
    /// (`ContentBasedDeduplication`); its attributes do not count. Otherwise it is refused, unless
    /// ids are optional.
    pub by_content: bool,
    /// Whether a message may come without an id, and is delivered however often it is sent.
    pub optional: bool,
}

/// What a FIFO queue does whose creator does not say: room for 131,072 ids within five minutes, and
/// a message may come without one.
impl Default for Deduplication {
    fn default() -> Self {
        Self::of_ids(DEFAULT_IDS).optional()
    }
}

impl Deduplication {
    /// Room for `ids` different ids within five minutes; ids count in the whole queue, and each send
    /// names one.
    pub const fn of_ids(ids: u64) -> Self {
        Self {
            ids,
            window: DEFAULT_WINDOW,
            scope: DedupScope::Queue,
            by_content: false,
            optional: false,
        }
    }

    /// An id counts for `window` instead.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// An id counts in its message group instead.
    #[must_use]
    pub const fn per_group(mut self) -> Self {
        self.scope = DedupScope::MessageGroup;
        self
    }

    /// A message without an id has the hash of its body for one, and none is without.
    #[must_use]
    pub const fn by_content(mut self) -> Self {
        self.by_content = true;
        self.optional = false;
        self
    }

    /// A message without an id is not compared with any.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self.by_content = false;
        self
    }

    /// What is given and the rule it breaks.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        if self.by_content && self.optional {
            let rule = "the hash of its body for a message without an id, or nothing".to_owned();
            return Err(("by_content and optional".to_owned(), rule));
        }
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&self.ids) {
            let rule = format!("room for {MIN_CAPACITY} to {MAX_CAPACITY} ids");
            return Err((format!("{} ids", self.ids), rule));
        }
        let window = whole_ms(self.window, MAX_DEDUP_WINDOW_MS);
        if window.is_none_or(|ms| ms < MIN_DEDUP_WINDOW_MS) {
            let rule = "a window of 1s to 14 days in whole milliseconds".to_owned();
            return Err((format!("{:?}", self.window), rule));
        }
        Ok(())
    }
}

/// The halves of the hash of an id: of at most [`MAX_ID`] bytes.
#[inline]
fn hash(key: &[u8; 16], group: Option<GroupHash>, id: &[u8]) -> (u64, u64) {
    let hasher = SipHasher13::new_with_key(key);
    let hash = match group {
        None => hasher.hash(id),
        Some(group) => {
            let mut bytes = [0; 16 + MAX_ID];
            let len = 16 + id.len();
            bytes[..8].copy_from_slice(&group.0.to_le_bytes());
            bytes[8..16].copy_from_slice(&group.1.to_le_bytes());
            bytes[16..len].copy_from_slice(id);
            hasher.hash(&bytes[..len])
        }
    };
    (hash.h1, hash.h2)
}

/// The id of a body: its SHA-256 in lower-case hexadecimal digits.
fn content_id(body: &[u8]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut id = [0; 64];
    for (pair, byte) in id.chunks_exact_mut(2).zip(Sha256::digest(body)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    id
}

impl QueueSender {
    /// What stands for the id of a message in `group`; `None` where the queue compares none.
    pub(super) fn dedup_key(
        &self,
        group: GroupHash,
        id: Option<&str>,
        body: &[u8],
    ) -> Result<Option<Key>, QueueSendError> {
        let (Some(dedup), Some(rules)) = (self.delivery.dedup(), self.inner.definition.dedup)
        else {
            return match id {
                Some(_) => Err(QueueSendError::NoDedup),
                None => Ok(None),
            };
        };
        let group = (rules.scope == DedupScope::MessageGroup).then_some(group);
        let secret = &self.inner.dedup_key;
        let (low, high) = match id {
            Some(id) => hash(secret, group, id.as_bytes()),
            None if rules.by_content => hash(secret, group, &content_id(body)),
            None if rules.optional => return Ok(None),
            None => return Err(QueueSendError::MissingDedupId),
        };
        Ok(Some(dedup.key(low, high)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_body_is_its_sha_256_in_hexadecimal_digits() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            &content_id(b"abc"),
            b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn ids_groups_and_queues_hash_apart() {
        let (one, two) = (GroupHash(1, 2), GroupHash(1, 3));
        let of = |key: u8, group, id: &[u8]| hash(&[key; 16], group, id);
        assert_eq!(of(1, Some(one), b"a"), of(1, Some(one), b"a"));
        let others = [
            of(1, Some(one), b"b"),
            of(1, Some(two), b"a"),
            of(1, None, b"a"),
            of(2, Some(one), b"a"),
        ];
        assert!(others.iter().all(|other| *other != of(1, Some(one), b"a")));
    }
}
