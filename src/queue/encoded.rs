//! One message for several queues: what was said about it is encoded once, and each queue is sent the bytes.
//!
//! For who hands the same message on to many standard queues. Nothing here depends on the queue: a message
//! group, which is hashed by each queue's own key, and a delay go the way of a message of its own.

use super::QueueSender;
use super::envelope::Envelope;
use super::outgoing::{Outgoing, attributes_size};
use crate::error::QueueSendError;
use crate::layout::ring::Meta;
use crate::sys::fork;

/// A message as it lies in the slots of standard queues: an attribute block, if there is something to say, and
/// the body. Kept from message to message, it allocates only to grow.
#[derive(Default)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    /// Bytes of the attribute block; 0: there is none.
    block: usize,
}

impl Encoded {
    /// Encodes `message` in place of what was there. `false`: it is one that each queue has to be sent by itself.
    pub fn fill(&mut self, message: &Outgoing<'_>) -> bool {
        self.bytes.clear();
        let Some(envelope) = message.same_everywhere() else {
            return false;
        };
        if !envelope.is_empty() {
            envelope.encode(&mut self.bytes);
        }
        self.block = self.bytes.len();
        self.bytes.extend_from_slice(message.body());
        true
    }

    /// Bytes towards the largest message of a queue.
    #[cold]
    fn size(&self) -> usize {
        let (block, body) = self.bytes.split_at(self.block);
        let attributes = Envelope::parse(block).map(|envelope| envelope.attributes);
        body.len() + attributes.map_or(0, attributes_size)
    }
}

impl QueueSender {
    /// Whether this queue can be sent what was encoded: a standard queue in whose slots it fits.
    #[inline]
    pub(crate) fn takes_encoded(&self, message: &Encoded) -> bool {
        self.generation == fork::generation()
            && !self.delivery.is_fifo()
            && message.bytes.len() <= self.inline_bytes
    }

    /// [`send_message`](Self::send_message) of what was encoded, to a queue that
    /// [takes it](Self::takes_encoded).
    ///
    /// # Errors
    /// As `send_message`.
    pub(crate) fn send_encoded(&mut self, message: &Encoded) -> Result<(), QueueSendError> {
        if message.block == 0 {
            return self.send(&message.bytes).map(drop);
        }
        if self.delivery.may_be_too_long(message.bytes.len() as u64) {
            self.check(message.size())?;
        }
        let flags = Meta::ATTRIBUTES;
        let meta = Meta::new(message.bytes.len() as u32, Meta::INLINE, 0).with_flags(flags);
        let position = match self.append_at_once(meta, &message.bytes) {
            Some(position) => position,
            None => {
                self.start_over()?;
                let delay_ms = self.delay_ms();
                self.append_bytes(None, meta, &message.bytes, delay_ms, None)?
                    .position
            }
        };
        self.acknowledge(position)
    }

    /// Asks for the lines of the slot that a message of so many bytes goes into next: who sends to several queues
    /// asks for all of them, and their lines travel side by side.
    #[inline]
    pub(crate) fn ask_for_room(&self, bytes: usize) {
        self.delivery.ask_for_room(self.appender.next(), bytes);
    }
}
