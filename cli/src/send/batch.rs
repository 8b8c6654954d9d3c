//! Messages on their way: sent together, in order, waiting for room where there is none.
//!
//! The count of what was sent is exact at every instant that another thread can look: it grows when
//! the send has returned, and a flush ends either with everything sent or with the first that was
//! not, named by its line.

use super::said::Said;
use super::{Item, Progress};
use crate::output::Usage;
use anyhow::anyhow;
use ringway::{Attributes, QueueSendError, QueueSender};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Messages and bytes of a batch: what one wake and one look at the clock are shared by.
const MOST_MESSAGES: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// Receivers tell nobody that there is room.
const PAUSE: Duration = Duration::from_millis(1);

pub struct Batch<'a> {
    sender: QueueSender,
    said: (&'a Said, &'a Attributes),
    timeout: Duration,
    items: Vec<Item>,
    bytes: usize,
    shared: &'a Progress,
}

impl<'a> Batch<'a> {
    pub fn new(
        sender: QueueSender,
        said: (&'a Said, &'a Attributes),
        timeout: Duration,
        shared: &'a Progress,
    ) -> Self {
        Self {
            sender,
            said,
            timeout,
            items: Vec::new(),
            bytes: 0,
            shared,
        }
    }

    pub fn add(&mut self, item: Item) {
        self.bytes += item.body.len();
        self.items.push(item);
    }

    pub fn is_full(&self) -> bool {
        self.items.len() >= MOST_MESSAGES || self.bytes >= MOST_BYTES
    }

    /// Sends everything that was added.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let items = core::mem::take(&mut self.items);
        self.bytes = 0;
        let mut next = 0;
        let mut deadline = None;
        while next < items.len() {
            match self.send_some(&items[next..]) {
                Ok(sent) => {
                    next += sent;
                    deadline = None;
                }
                Err(
                    error @ (QueueSendError::Full { .. }
                    | QueueSendError::OverQuota { .. }
                    | QueueSendError::OverDiskQuota { .. }),
                ) => {
                    self.shared.signal.check()?;
                    let now = Instant::now();
                    let until = *deadline.get_or_insert(now + self.timeout);
                    if now >= until {
                        return Err(self.refused(&items[next], error));
                    }
                    std::thread::sleep(PAUSE.min(until - now));
                }
                Err(error) => return Err(self.refused(&items[next], error)),
            }
        }
        Ok(())
    }

    /// As many as there is room for, at least one; and in order: none behind one that is refused.
    fn send_some(&mut self, items: &[Item]) -> Result<usize, QueueSendError> {
        let (said, attributes) = self.said;
        let says_something = |item: &Item| {
            item.group.is_some()
                || item.dedup_id.is_some()
                || item.delay.is_some()
                || item.attributes.is_some()
        };
        if said.is_nothing() && !items.iter().any(says_something) {
            let bodies: Vec<&[u8]> = items.iter().map(|item| item.body.as_slice()).collect();
            let sent = self.sender.send_batch(&bodies)?;
            self.shared.sent.fetch_add(sent as u64, Ordering::Relaxed);
            return Ok(sent);
        }
        let sent = self
            .sender
            .send_message(&said.about(&items[0], attributes))?;
        let count = if sent.duplicate {
            &self.shared.duplicates
        } else {
            &self.shared.sent
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(1)
    }

    fn refused(&self, item: &Item, error: QueueSendError) -> anyhow::Error {
        let error = match error {
            QueueSendError::Full { .. }
            | QueueSendError::OverQuota { .. }
            | QueueSendError::OverDiskQuota { .. } => {
                let waited = humantime::format_duration(self.timeout);
                anyhow!("no room within {waited} (--timeout): {error}")
            }
            QueueSendError::MissingGroup => anyhow!(
                "its group column is empty; --group GROUP gives such rows a group (the queue is FIFO)"
            ),
            QueueSendError::DelayInFifo
            | QueueSendError::InvalidDelay { .. }
            | QueueSendError::InvalidTraceHeader { .. } => {
                return Usage(error.to_string()).into();
            }
            other => other.into(),
        };
        match item.line {
            Some(line) => unsent(line, error),
            None => error,
        }
    }
}

/// Why a line was not sent.
pub fn unsent(line: u64, error: anyhow::Error) -> anyhow::Error {
    error.context(format!("line {line} was not sent, nor any behind it"))
}
