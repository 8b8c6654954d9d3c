//! What is sent beside a body: delay, group, deduplication id, trace header, attributes.
//!
//! A message that has none of the last four is sent as plain bytes, and costs what those cost. The
//! others get an attribute block in front of the body ([`super::envelope`]).

use super::append::Grouped;
use super::attributes::{Attributes, AttributesRef, is_text};
use super::definition::whole_ms;
use super::envelope::Envelope;
use super::{QueueSender, group};
use crate::error::QueueSendError;
use crate::layout::queue::MAX_DELAY_MS;
use std::time::Duration;

/// Longest group or deduplication id.
pub(super) const MAX_ID: usize = 128;
/// Messages of a batch whose ids are looked up side by side: as many as a batch of SQS has, and
/// fewer lines than a core can wait for at a time.
const KNOWN_AHEAD: usize = 10;
/// Longest trace header; SQS names no bound.
const MAX_TRACE_HEADER: usize = 1024;

/// A message to be sent, with what SQS lets a sender say about it. Borrows everything; copying it
/// copies references.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = std::env::temp_dir().join(format!("ringway-doc-outgoing-{}", std::process::id()));
/// # std::fs::create_dir_all(&root)?;
/// # let bus = ringway::Bus::builder("demo").root(&root).open_or_create()?;
/// use ringway::{Attributes, Incoming, Outgoing};
/// let orders = bus.queue("orders").open_or_create()?;
/// let mut attributes = Attributes::new();
/// attributes.string("city", "Graz")?.number("seats", 12)?;
///
/// let order = Outgoing::new(b"order 1").group("truck-7").attributes(&attributes);
/// orders.sender()?.send_message(&order)?;
///
/// let mut incoming = Incoming::new(); // reused from message to message
/// let received = orders.receiver()?.receive_message(&mut incoming)?.expect("order 1");
/// assert_eq!(incoming.body(), b"order 1");
/// assert_eq!(incoming.group(), Some("truck-7"));
/// assert_eq!(incoming.attributes().get("seats").unwrap().text(), Some("12"));
/// orders.delete(&received.receipt)?;
/// # drop((orders, bus));
/// # std::fs::remove_dir_all(&root)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    body: &'a [u8],
    delay: Option<Duration>,
    envelope: Envelope<'a>,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its position (`SequenceNumber`); positions grow in the order of sends. Of a duplicate: that
    /// of the message it repeats.
    pub position: u64,
    /// Whether it repeats a message that was sent within the window (five minutes, if the queue does
    /// not say otherwise) and was therefore not sent again. Never in a queue that does not
    /// deduplicate ([`QueueBuilder::deduplicate`](crate::QueueBuilder::deduplicate)).
    pub duplicate: bool,
}

impl<'a> Outgoing<'a> {
    /// A message of `body`, and nothing said about it yet.
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            delay: None,
            envelope: Envelope::default(),
        }
    }

    /// It becomes visible after `delay` (`DelaySeconds`), 0 to 900 s in whole milliseconds, instead
    /// of after what the queue says.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Its message group (`MessageGroupId`): 1 to 128 letters, digits and punctuation of ASCII. A FIFO
    /// queue wants one with every message, and hands out the messages of one group in the order of
    /// their positions, to one receiver at a time; groups do not wait for each other.
    ///
    /// On a standard queue it names a tenant (a fair queue, as in SQS): one with a large backlog does
    /// not keep the messages of the others waiting. Order is as loose as ever there.
    #[must_use]
    pub fn group(mut self, group: &'a str) -> Self {
        self.envelope.group = Some(group);
        self
    }

    /// Its deduplication id (`MessageDeduplicationId`), of the same characters as a group: what a
    /// retry of the same message names again. Standard queues carry it along, and compare none.
    #[must_use]
    pub fn dedup_id(mut self, id: &'a str) -> Self {
        self.envelope.dedup_id = Some(id);
        self
    }

    /// Its trace header (the system attribute `AWSTraceHeader`): text of 1 to 1,024 bytes. It does
    /// not count towards the size of the message.
    #[must_use]
    pub fn trace_header(mut self, header: &'a str) -> Self {
        self.envelope.trace_header = Some(header);
        self
    }

    /// Its attributes, instead of any given before.
    #[must_use]
    pub fn attributes(mut self, attributes: &'a Attributes) -> Self {
        self.envelope.attributes = attributes.as_ref();
        self
    }

    /// Attributes as they were received, of a message that is handed on.
    #[cfg(feature = "topics")]
    pub(crate) fn attributes_ref(mut self, attributes: AttributesRef<'a>) -> Self {
        self.envelope.attributes = attributes;
        self
    }

    /// Its body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What travels in front of its body, where that is the same in every standard queue: no group, which each
    /// hashes by its own key, no delay, and nothing that is wrong with it.
    #[cfg(feature = "topics")]
    pub(super) fn same_everywhere(&self) -> Option<Envelope<'a>> {
        let is_same = self.envelope.group.is_none() && self.delay.is_none() && self.check().is_ok();
        is_same.then_some(self.envelope)
    }

    #[cfg(feature = "md5")]
    pub(super) fn envelope(&self) -> Envelope<'a> {
        self.envelope
    }

    /// Bytes towards the largest message of a queue: the body, and names, types and values of the
    /// attributes. System attributes do not count, as in SQS.
    pub fn size(&self) -> usize {
        self.body.len() + attributes_size(self.envelope.attributes)
    }

    fn check(&self) -> Result<(), QueueSendError> {
        let envelope = &self.envelope;
        let ids = [
            ("message group", envelope.group),
            ("deduplication id", envelope.dedup_id),
        ];
        for (what, id) in ids {
            if let Some(id) = id
                && !is_id(id)
            {
                let given = id.chars().take(MAX_ID).collect();
                return Err(QueueSendError::InvalidId { what, given });
            }
        }
        match envelope.trace_header {
            Some(header) if !is_trace_header(header) => {
                Err(QueueSendError::InvalidTraceHeader { len: header.len() })
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn attributes_size(attributes: AttributesRef<'_>) -> usize {
    attributes.iter().map(|attribute| attribute.size()).sum()
}

/// SQS: "up to 128 alphanumeric characters (a-z, A-Z, 0-9) and punctuation".
pub(crate) fn is_id(id: &str) -> bool {
    // All of it, without an early end: several bytes at a time.
    let is_other = id
        .bytes()
        .fold(false, |found, byte| found | !byte.is_ascii_graphic());
    (1..=MAX_ID).contains(&id.len()) && !is_other
}

pub(crate) fn is_trace_header(header: &str) -> bool {
    (1..=MAX_TRACE_HEADER).contains(&header.len()) && is_text(header)
}

impl QueueSender {
    /// Sends a message with what was said about it. Never blocks, but in a queue that deduplicates
    /// while another sender is in the middle of sending the same id: then for the stall time-out at
    /// most, by pauses of 50 µs. Allocates only to hold an attribute
    /// block that is longer than any before; no system call unless somebody sleeps or a body that is
    /// not inline needs a new pool segment.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`QueueSendError::MissingGroup`], [`QueueSendError::DelayInFifo`],
    /// [`QueueSendError::InvalidDelay`], [`QueueSendError::InvalidId`],
    /// [`QueueSendError::InvalidTraceHeader`]; [`QueueSendError::MissingDedupId`],
    /// [`QueueSendError::NoDedup`], [`QueueSendError::DedupFull`]. A duplicate is none.
    pub fn send_message(&mut self, message: &Outgoing<'_>) -> Result<Sent, QueueSendError> {
        let sent = self.append_message(message, None)?;
        self.acknowledge(sent.position)?;
        Ok(sent)
    }

    /// Sends messages in order, with one wake for all; what became of each. One that can't be sent
    /// for a reason of its own (its size, its delay, its ids) does not keep the others from being
    /// sent. Behind one that found no room the rest is refused with the same error, so that a repeat
    /// of what failed keeps their order. Allocates the outcomes.
    pub fn send_message_batch(
        &mut self,
        messages: &[Outgoing<'_>],
    ) -> Vec<Result<Sent, QueueSendError>> {
        let mut outcomes: Vec<Result<Sent, QueueSendError>> = Vec::with_capacity(messages.len());
        for messages in messages.chunks(KNOWN_AHEAD) {
            let known = self.look_ahead(messages);
            for (index, message) in messages.iter().enumerate() {
                let last = outcomes.last().and_then(|last| last.as_ref().err());
                let outcome = match last.filter(|last| is_no_room(last)) {
                    Some(no_room) => Err(no_room.clone()),
                    None => self.append_message(message, known[index]),
                };
                outcomes.push(outcome);
            }
        }
        let sent = outcomes.iter().flatten();
        if let Some(last) = sent.map(|sent| sent.position).max()
            && let Err(QueueSendError::DurabilityUnknown { why, .. }) = self.acknowledge(last)
        {
            for outcome in &mut outcomes {
                if let Ok(Sent { position, .. }) = *outcome {
                    let why = why.clone();
                    *outcome = Err(QueueSendError::DurabilityUnknown { position, why });
                }
            }
        }
        outcomes
    }

    /// What [`append_message`](Self::append_message) will want to know of messages, where that is
    /// worth knowing early: the lines of all their ids travel side by side, and so do the walks
    /// through the page table that they take. What is wrong with one is found out in its turn.
    fn look_ahead(&self, messages: &[Outgoing<'_>]) -> [Option<Grouped>; KNOWN_AHEAD] {
        let mut known = [None; KNOWN_AHEAD];
        let Some(dedup) = self.delivery.dedup() else {
            return known;
        };
        if messages.len() > 1 {
            for (known, message) in known.iter_mut().zip(messages) {
                if let Some(group) = message.envelope.group
                    && message.check().is_ok()
                {
                    *known = self.grouped(group, message).ok();
                }
            }
            // By themselves: a swap behind one of them would wait for it.
            let keys = known.iter().filter_map(|known| (*known)?.key);
            keys.clone().for_each(|key| dedup.prefetch(&key));
            let now = self.clock.kept_ms();
            keys.for_each(|key| dedup.prefetch_room(&key, now));
        }
        known
    }

    #[inline]
    fn append_message(
        &mut self,
        message: &Outgoing<'_>,
        known: Option<Grouped>,
    ) -> Result<Sent, QueueSendError> {
        let is_fifo = self.delivery.is_fifo();
        if is_fifo && message.delay.is_some() {
            return Err(QueueSendError::DelayInFifo);
        }
        let delay_ms = match message.delay {
            None => self.delay_ms(),
            Some(given) => {
                whole_ms(given, MAX_DELAY_MS).ok_or(QueueSendError::InvalidDelay { given })?
            }
        };
        if message.envelope.is_empty() {
            return self.append(None, message.body, delay_ms);
        }
        if known.is_none() {
            message.check()?;
        }
        self.check(0)?;
        // Its encoded attributes are longer than what counts of them: mostly no walk through them is needed.
        let most = message.body.len() + message.envelope.attributes.encoded().len();
        if self.delivery.may_be_too_long(most as u64) {
            self.check(message.size())?;
        }
        let grouped = match message.envelope.group {
            _ if known.is_some() => known,
            Some(group) if is_fifo => {
                let grouped = self.grouped(group, message)?;
                if let (Some(key), Some(dedup)) = (&grouped.key, self.delivery.dedup()) {
                    dedup.prefetch(key);
                }
                Some(grouped)
            }
            _ => None,
        };
        let tenant = match message.envelope.group {
            Some(group) if !is_fifo => group::tenant(&self.inner.group_key, group),
            _ => 0,
        };
        let mut block = core::mem::take(&mut self.block);
        block.clear();
        message.envelope.encode(&mut block);
        let appended = self.append_with_block(grouped, tenant, &mut block, message.body, delay_ms);
        self.block = block;
        appended
    }

    fn grouped(&self, group: &str, message: &Outgoing<'_>) -> Result<Grouped, QueueSendError> {
        let group = group::hash(&self.inner.group_key, group);
        let key = self.dedup_key(group, message.envelope.dedup_id, message.body)?;
        Ok(Grouped { group, key })
    }
}

/// Whether an error says that there is no room: for what comes behind there is none either.
fn is_no_room(error: &QueueSendError) -> bool {
    matches!(
        error,
        QueueSendError::Full { .. }
            | QueueSendError::OverQuota { .. }
            | QueueSendError::OverDiskQuota { .. }
            | QueueSendError::DedupFull { .. }
            | QueueSendError::PoolExhausted { .. }
            | QueueSendError::NoSpace { .. }
            | QueueSendError::Growth(_)
            | QueueSendError::NotOnDisk { .. }
    )
}
