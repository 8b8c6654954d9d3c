//! Listening: every message of a topic, from a ring beside its transit, in the order of that ring.
//!
//! A listener holds nobody up: one that falls behind by more than the ring has slots is told what it
//! missed and goes on. The ring is made by the first listener, before it is announced; who publishes
//! behind that sees it.

use super::TopicInner;
use super::message::{MessageId, Parsed};
use crate::channel::{Channel, Reader};
use crate::error::{PublishError, ReadError};
use crate::layout::topic::words;
use crate::queue::AttributesRef;
use crate::sync::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// Room for a message at first.
const FIRST_ROOM: usize = 512;

/// Hears what is published to a topic.
///
/// May move to another thread, is not shared between threads.
pub struct Listener {
    reader: Reader,
    topic: Arc<TopicInner>,
    _ring: Channel,
}

/// One message that was heard. Kept from message to message, it allocates only to grow.
#[derive(Clone, Default)]
pub struct Notification {
    bytes: Vec<u8>,
    len: usize,
    position: u64,
}

impl Listener {
    pub(super) fn new(topic: Arc<TopicInner>) -> Result<Self, PublishError> {
        topic.check()?;
        let ring = Arc::clone(&topic.host).listeners(&topic)?;
        let reader = ring.reader().lossy().join()?;
        // Release: who loads 1 finds the ring, and this reader in it.
        topic.word(words::LISTENED).store(1, Ordering::Release);
        Ok(Self {
            reader,
            topic,
            _ring: ring,
        })
    }

    /// The next message, into `notification`. Whether there was one. Never blocks.
    ///
    /// # Errors
    /// [`ReadError::Lagged`] tells what was missed, and the next call goes on; [`ReadError::Removed`].
    pub fn try_hear(&mut self, notification: &mut Notification) -> Result<bool, ReadError> {
        loop {
            if notification.bytes.is_empty() {
                notification.bytes.resize(FIRST_ROOM, 0);
            }
            match self.reader.try_read(&mut notification.bytes) {
                Ok(None) => return Ok(false),
                Ok(Some(record)) => {
                    notification.len = record.len;
                    notification.position = record.position;
                    if notification.parsed().is_some() {
                        return Ok(true);
                    }
                    let damaged = self.topic.word(words::DAMAGED);
                    damaged.fetch_add(1, Ordering::Relaxed);
                }
                Err(ReadError::BufferTooSmall { needed, .. }) => {
                    notification.bytes.resize(needed.next_power_of_two(), 0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits up to `timeout` for the next message. Whether there was one.
    ///
    /// # Errors
    /// As [`try_hear`](Self::try_hear).
    pub fn hear(
        &mut self,
        notification: &mut Notification,
        timeout: Duration,
    ) -> Result<bool, ReadError> {
        let deadline = crate::sys::clock::Deadline::after(timeout);
        loop {
            if self.try_hear(notification)? {
                return Ok(true);
            }
            if !self.reader.wait(deadline.remaining())? && deadline.passed() {
                return Ok(false);
            }
        }
    }
}

impl Notification {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn parsed(&self) -> Option<Parsed<'_>> {
        Parsed::of(self.bytes.get(..self.len)?)
    }

    /// Its id.
    pub fn id(&self) -> MessageId {
        self.parsed().map_or(MessageId([0; 2]), |parsed| parsed.id)
    }

    /// Its place in the ring of listeners.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When it was published, in ms since the Unix epoch.
    pub fn published_ms(&self) -> u64 {
        self.parsed().map_or(0, |parsed| parsed.published_ms)
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        self.parsed().map_or(&[], |parsed| parsed.said.body)
    }

    /// Its subject.
    pub fn subject(&self) -> Option<&str> {
        self.parsed().and_then(|parsed| parsed.said.subject)
    }

    /// Its message group.
    pub fn group(&self) -> Option<&str> {
        self.parsed().and_then(|parsed| parsed.said.group)
    }

    /// Its attributes.
    pub fn attributes(&self) -> AttributesRef<'_> {
        let attributes = self.parsed().map(|parsed| parsed.said.attributes);
        attributes.unwrap_or_default()
    }
}
