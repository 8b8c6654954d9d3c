//! What is received beside a receipt: the body, and what its sender said about it.
//!
//! [`Incoming`] is one reusable piece of memory into which whole messages are copied, attribute block
//! and body together; [`Message`] owns a copy of its own. Both hand out what lies in them borrowed.

use super::QueueReceiver;
use super::attributes::AttributesRef;
use super::envelope::Envelope;
use super::receive::Received;
use super::take::Take;
use crate::error::ReceiveError;
use crate::layout::attributes::OriginRecord;
use crate::sys::clock::Deadline;
use std::time::Duration;

/// Room for one received message, to be used again for the next. It grows to the longest message it
/// ever held, so a receive into it never finds it too small.
#[derive(Clone, Default)]
pub struct Incoming {
    /// Attribute block, body, and room that a longer message took.
    bytes: Vec<u8>,
    /// Where the message begins.
    from: usize,
    block: usize,
    len: usize,
    sender: u16,
}

/// A message with its body and what its sender said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Receipt and time.
    pub received: Received,
    /// The body.
    pub body: Vec<u8>,
    /// Its attribute block, empty where it has none.
    block: Vec<u8>,
    sender: u16,
}

/// Where a message that was moved came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageOrigin {
    /// Object id of the queue ([`Queue::id`](crate::Queue::id)).
    pub queue: u64,
    /// The position it had there.
    pub position: u64,
    /// How often it was received there.
    pub receives: u16,
}

impl From<OriginRecord> for MessageOrigin {
    fn from(record: OriginRecord) -> Self {
        Self {
            queue: record.queue,
            position: record.position,
            receives: record.receives,
        }
    }
}

macro_rules! envelope_accessors {
    () => {
        /// Its attributes.
        pub fn attributes(&self) -> AttributesRef<'_> {
            self.envelope().attributes
        }

        /// Its message group (`MessageGroupId`).
        pub fn group(&self) -> Option<&str> {
            self.envelope().group
        }

        /// Its deduplication id (`MessageDeduplicationId`).
        pub fn dedup_id(&self) -> Option<&str> {
            self.envelope().dedup_id
        }

        /// Its trace header (`AWSTraceHeader`).
        pub fn trace_header(&self) -> Option<&str> {
            self.envelope().trace_header
        }

        /// The participant that sent it (`SenderId`). Numbers are given out again: if that
        /// participant has left, somebody else may have the number by now. A receiver can't tell
        /// when a message was first received (`ApproximateFirstReceiveTimestamp`): consumers store
        /// nothing into a slot but its lease.
        pub fn sender(&self) -> $crate::ParticipantId {
            let origin = self.envelope().origin;
            $crate::ParticipantId(origin.map_or(self.claimer(), |origin| origin.sender))
        }

        /// Where it was moved from, if it was moved: to a dead-letter queue, or back
        /// (`DeadLetterQueueSourceArn`).
        pub fn origin(&self) -> Option<MessageOrigin> {
            self.envelope().origin.map(MessageOrigin::from)
        }
    };
}

pub(super) use envelope_accessors;

impl Incoming {
    /// Room that grows when it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The body of the message it holds; empty before the first.
    pub fn body(&self) -> &[u8] {
        let from = self.from + self.block;
        &self.bytes[from..from + self.len]
    }

    envelope_accessors!();

    pub(super) fn envelope(&self) -> Envelope<'_> {
        parse(&self.bytes[self.from..self.from + self.block])
    }

    /// The memory itself, to copy several bodies into.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Holds the body that lies there, and no attributes.
    #[inline(always)]
    pub(super) fn show(&mut self, from: usize, len: usize, sender: u16) {
        (self.from, self.block, self.len, self.sender) = (from, 0, len, sender);
    }

    /// Who claimed its slot.
    pub(super) fn claimer(&self) -> u16 {
        self.sender
    }

    /// Room for the attribute block of a message whose body is looked at elsewhere.
    pub(super) fn block_mut(&mut self, block: usize, sender: u16) -> &mut [u8] {
        if self.bytes.len() < block {
            self.bytes.resize(block, 0);
        }
        (self.from, self.block, self.len, self.sender) = (0, block, 0, sender);
        &mut self.bytes[..block]
    }

    /// Takes a message, growing as often as one is longer.
    #[inline]
    pub(super) fn fill(
        &mut self,
        receiver: &mut QueueReceiver,
        take: Take,
    ) -> Result<Option<Received>, ReceiveError> {
        loop {
            match receiver.take::<true>(&mut self.bytes, take) {
                Ok(Some(taken)) => {
                    self.from = 0;
                    self.block = taken.block;
                    self.len = taken.received.len;
                    self.sender = taken.sender;
                    return Ok(Some(taken.received));
                }
                Ok(None) => return Ok(None),
                Err(ReceiveError::BufferTooSmall { needed, .. }) => {
                    (self.from, self.block, self.len) = (0, 0, 0);
                    self.bytes.resize(needed, 0);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.len;
        f.debug_struct("Incoming")
            .field("body_bytes", &bytes)
            .field("attributes", &self.attributes())
            .finish_non_exhaustive()
    }
}

impl Message {
    pub(super) fn new(received: Received, incoming: &Incoming) -> Self {
        Self {
            received,
            body: incoming.body().to_vec(),
            block: incoming.bytes[incoming.from..incoming.from + incoming.block].to_vec(),
            sender: incoming.sender,
        }
    }

    envelope_accessors!();

    pub(super) fn envelope(&self) -> Envelope<'_> {
        parse(&self.block)
    }

    fn claimer(&self) -> u16 {
        self.sender
    }
}

/// What lies in a block that was checked when it was received.
fn parse(block: &[u8]) -> Envelope<'_> {
    Envelope::parse(block).unwrap_or_default()
}

impl QueueReceiver {
    /// Receives a message whole, attributes and body, into `incoming`. `None` when there is none to
    /// be received now; `incoming` may hold nothing then. Never blocks; allocates only when the
    /// message is longer than any before.
    ///
    /// # Errors
    /// As [`try_receive`](Self::try_receive), but for `BufferTooSmall`.
    pub fn receive_message(
        &mut self,
        incoming: &mut Incoming,
    ) -> Result<Option<Received>, ReceiveError> {
        let take = self.leased();
        incoming.fill(self, take)
    }

    /// Waits up to `wait` for a message and receives it whole into `incoming` (long polling). Blocks
    /// by the [`Idle`](crate::Idle) that was set.
    ///
    /// # Errors
    /// As [`receive_message`](Self::receive_message).
    pub fn receive_message_within(
        &mut self,
        incoming: &mut Incoming,
        wait: Duration,
    ) -> Result<Option<Received>, ReceiveError> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(received) = self.receive_message(incoming)? {
                return Ok(Some(received));
            }
            if !self.wait(deadline.remaining())? {
                return Ok(None);
            }
        }
    }
}
