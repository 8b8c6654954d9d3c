//! The archive of a FIFO topic: a ring of what was handed on, in the order in which it was, to be replayed.
//!
//! Whoever hands a message on writes it here first, under its lease on the message's group: so what anybody
//! got is in the archive, in the order of each group, and after a death once more. Subscriptions that are
//! fed from here get nothing any other way, so there is no moment at which they change over: each has a
//! cursor in its record in the log, and a *tick* in the transit, in a message group of the subscription's own,
//! says that there is something behind it. The lease on the tick makes one at a time go on; a tick is deleted
//! when nothing is behind the cursor, and every message that is archived sends another first.
//!
//! The ring drops its oldest. Memory only: it is gone with the bus's directory.

use super::TopicInner;
use crate::channel::{Producer, Reader};
use crate::error::{PublishError, ReadError};
use crate::layout::topic::words;
use crate::sync::Ordering;
use std::sync::Arc;

/// Room for a record at first.
const FIRST_ROOM: usize = 1024;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// The archive, open in this process.
pub(super) struct Archive {
    producer: Producer,
    reader: Reader,
    buffer: Vec<u8>,
}

/// What stands at a cursor, or behind it.
pub(super) enum Found<'a> {
    /// A record, and the position behind it.
    Record(&'a [u8], u64),
    /// What stood there was dropped; the oldest that is there.
    Gone(u64),
    End,
}

/// Since when messages are kept, if it is `now_ms`.
pub(super) fn kept_since(topic: &TopicInner, now_ms: u64) -> u64 {
    now_ms.saturating_sub(u64::from(topic.definition.archive_days) * DAY_MS)
}

impl Archive {
    /// Opens it; makes it if there is none.
    pub fn open(topic: &TopicInner) -> Result<Self, PublishError> {
        let ring = Arc::clone(&topic.host).archive(topic)?;
        let archive = Self {
            producer: ring.producer()?.retaining(),
            reader: ring.reader().lossy().join()?,
            buffer: vec![0; FIRST_ROOM],
        };
        topic.word(words::ARCHIVED).store(1, Ordering::Release);
        Ok(archive)
    }

    /// Writes a message behind the others. Never waits.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        match self.producer.try_send(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(PublishError::Archive(error.to_string())),
        }
    }

    /// The first record at `cursor` or behind it.
    pub fn at(&mut self, cursor: u64) -> Result<Found<'_>, PublishError> {
        if self.reader.position() != cursor {
            self.reader.seek(cursor);
        }
        loop {
            match self.reader.try_read(&mut self.buffer) {
                Ok(Some(record)) => {
                    return Ok(Found::Record(
                        &self.buffer[..record.len],
                        record.position + 1,
                    ));
                }
                Ok(None) => return Ok(Found::End),
                Err(ReadError::BufferTooSmall { needed, .. }) => {
                    self.buffer.resize(needed.next_power_of_two(), 0);
                }
                Err(ReadError::Lagged { to, .. }) => return Ok(Found::Gone(to)),
                // It was scribbled over, and the reader is past it.
                Err(ReadError::Corrupt { .. }) => {}
                Err(ReadError::Forked) => return Err(PublishError::Forked),
                Err(ReadError::Removed) => return Err(PublishError::Removed),
                Err(error) => return Err(PublishError::Archive(error.to_string())),
            }
        }
    }
}
