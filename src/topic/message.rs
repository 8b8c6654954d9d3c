//! A message on its way: what its publisher said, as one run of bytes.
//!
//! It travels so in the topic's transit queue and in the ring of its listeners. Bytes are input: what
//! does not parse is no message.

use crate::error::PublishError;
use crate::layout::topic::{FLAG_PER_PROTOCOL, FLAG_TICK, MESSAGE_MAGIC, MessageHead};
use crate::queue::{Attributes, AttributesRef, is_id, is_trace_header};
use crate::shm::copy::copy_part;
use core::fmt;
use serde_json::{Map, Value};

/// Longest subject, in characters.
const MAX_SUBJECT: usize = 100;
/// Bytes of the head.
pub(super) const HEAD: usize = size_of::<MessageHead>();

/// The id of a published message (`MessageId`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(pub(super) [u64; 2]);

impl MessageId {
    /// The first and the last 16 digits of it.
    pub const fn halves(self) -> [u64; 2] {
        self.0
    }
}

impl fmt::Display for MessageId {
    /// As a UUID is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low] = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    }
}

/// A message to be published, with what SNS lets a publisher say about it. Borrows everything.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    pub(super) body: &'a [u8],
    pub(super) subject: Option<&'a str>,
    pub(super) attributes: AttributesRef<'a>,
    pub(super) group: Option<&'a str>,
    pub(super) dedup_id: Option<&'a str>,
    pub(super) trace_header: Option<&'a str>,
    pub(super) per_protocol: bool,
}

impl<'a> Publication<'a> {
    /// A message of `body` (`Message`), and nothing said about it yet.
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            subject: None,
            attributes: AttributesRef::default(),
            group: None,
            dedup_id: None,
            trace_header: None,
            per_protocol: false,
        }
    }

    /// Its body is a JSON object with a text for each protocol (`MessageStructure` json): `sqs` for queues,
    /// `kinesis` for streams, `lambda` for commands, `firehose` for files; whoever has none, and every listener, gets `default`, which
    /// has to be there. Filter policies by body look at `default`.
    #[must_use]
    pub fn per_protocol(mut self) -> Self {
        self.per_protocol = true;
        self
    }

    /// Its subject (`Subject`): 1 to 100 characters, no control characters.
    #[must_use]
    pub fn subject(mut self, subject: &'a str) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Its attributes (`MessageAttributes`), by which subscriptions may filter.
    #[must_use]
    pub fn attributes(mut self, attributes: &'a Attributes) -> Self {
        self.attributes = attributes.as_ref();
        self
    }

    /// Its message group (`MessageGroupId`). A FIFO topic wants one with every message.
    #[must_use]
    pub fn group(mut self, group: &'a str) -> Self {
        self.group = Some(group);
        self
    }

    /// Its deduplication id (`MessageDeduplicationId`): a repeat to a FIFO topic within five minutes is
    /// accepted and not published.
    #[must_use]
    pub fn dedup_id(mut self, id: &'a str) -> Self {
        self.dedup_id = Some(id);
        self
    }

    /// Its trace header, handed on as such.
    #[must_use]
    pub fn trace_header(mut self, header: &'a str) -> Self {
        self.trace_header = Some(header);
        self
    }

    /// Its body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    #[inline]
    pub(super) fn check(&self) -> Result<(), PublishError> {
        match self.is_bare() {
            true => Ok(()),
            false => self.check_texts(),
        }
    }

    /// Whether nothing is said of it but attributes.
    #[inline(always)]
    pub(super) fn is_bare(&self) -> bool {
        self.subject.is_none()
            && self.group.is_none()
            && self.dedup_id.is_none()
            && self.trace_header.is_none()
            && !self.per_protocol
    }

    fn check_texts(&self) -> Result<(), PublishError> {
        if self.per_protocol && texts(self.body).is_none() {
            return Err(PublishError::InvalidStructure);
        }
        if let Some(subject) = self.subject
            && (subject.is_empty()
                || subject.chars().count() > MAX_SUBJECT
                || subject.contains(|c: char| c.is_control()))
        {
            let len = subject.len();
            return Err(PublishError::InvalidSubject { len });
        }
        let refuse = |what, text: &str| {
            let len = text.len();
            Err(PublishError::InvalidId { what, len })
        };
        // What a queue would refuse is delivered to none.
        match (self.group, self.dedup_id, self.trace_header) {
            (Some(group), ..) if !is_id(group) => refuse("a message group", group),
            (_, Some(id), _) if !is_id(id) => refuse("a deduplication id", id),
            (.., Some(header)) if !is_trace_header(header) => refuse("a trace header", header),
            _ => Ok(()),
        }
    }

    /// The message as bytes, in place of what was in `out`. It was checked.
    pub(super) fn encode(&self, id: MessageId, published_ms: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(bytemuck::bytes_of(&self.head(id, published_ms)));
        for text in self.texts() {
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(self.attributes.encoded());
        out.extend_from_slice(self.body);
    }

    /// How many bytes that is.
    #[inline]
    pub(super) fn encoded_bytes(&self) -> usize {
        let texts: usize = self.texts().iter().map(|text| text.len()).sum();
        HEAD + texts + self.attributes.encoded().len() + self.body.len()
    }

    /// The same bytes into `out`, which has that length, behind a [`head`](Self::head) that was made before:
    /// `out` is a slot that somebody waits for.
    #[inline(always)]
    pub(super) fn encode_into(&self, head: &MessageHead, out: &mut [u8]) {
        let (start, mut rest) = out.split_at_mut(HEAD);
        start.copy_from_slice(bytemuck::bytes_of(head));
        if rest.len() == self.body.len() {
            copy_part(rest, self.body); // nothing is said beside it
            return;
        }
        for text in self.texts() {
            if !text.is_empty() {
                let (here, behind) = rest.split_at_mut(text.len());
                here.copy_from_slice(text.as_bytes());
                rest = behind;
            }
        }
        let (attributes, body) = rest.split_at_mut(self.attributes.encoded().len());
        copy_part(attributes, self.attributes.encoded());
        copy_part(body, self.body);
    }

    /// In their order.
    #[inline(always)]
    fn texts(&self) -> [&'a str; 4] {
        let texts = [self.subject, self.group, self.dedup_id, self.trace_header];
        texts.map(Option::unwrap_or_default)
    }

    #[inline(always)]
    pub(super) fn head(&self, id: MessageId, published_ms: u64) -> MessageHead {
        let [subject, group, dedup_id, trace_header] = self.texts();
        MessageHead {
            magic: MESSAGE_MAGIC,
            attempts: 0,
            id: id.0,
            target: 0,
            published_ms,
            attribute_bytes: self.attributes.encoded().len() as u32,
            subject_bytes: subject.len() as u16,
            trace_bytes: trace_header.len() as u16,
            attributes: self.attributes.len() as u16,
            group_bytes: group.len() as u8,
            dedup_bytes: dedup_id.len() as u8,
            flags: if self.per_protocol {
                FLAG_PER_PROTOCOL
            } else {
                0
            },
        }
    }
}

/// A message that was parsed; borrows the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed<'a> {
    pub id: MessageId,
    pub attempts: u32,
    pub target: Option<u64>,
    pub is_tick: bool,
    pub published_ms: u64,
    pub said: Publication<'a>,
}

impl<'a> Parsed<'a> {
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let head: MessageHead = bytemuck::pod_read_unaligned(head);
        if head.magic != MESSAGE_MAGIC {
            return None;
        }
        let mut rest = rest;
        let mut text = |bytes: usize| {
            if bytes == 0 {
                return Some(None);
            }
            let (text, behind) = rest.split_at_checked(bytes)?;
            rest = behind;
            Some(Some(core::str::from_utf8(text).ok()?))
        };
        let subject = text(head.subject_bytes.into())?;
        let group = text(head.group_bytes.into())?;
        let dedup_id = text(head.dedup_bytes.into())?;
        let trace_header = text(head.trace_bytes.into())?;
        let (attributes, body) = rest.split_at_checked(head.attribute_bytes as usize)?;
        let attributes = match (head.attributes, attributes) {
            (0, []) => AttributesRef::default(),
            (count, attributes) => match AttributesRef::parse(attributes, count.into())? {
                (attributes, []) => attributes,
                _ => return None,
            },
        };
        let said = Publication {
            body,
            subject,
            attributes,
            group,
            dedup_id,
            trace_header,
            per_protocol: head.flags & FLAG_PER_PROTOCOL != 0,
        };
        Some(Self::new(&head, said))
    }

    #[inline(always)]
    fn new(head: &MessageHead, said: Publication<'a>) -> Self {
        Self {
            id: MessageId(head.id),
            attempts: head.attempts,
            target: (head.target != 0).then_some(head.target),
            is_tick: head.flags & FLAG_TICK != 0,
            published_ms: head.published_ms,
            said,
        }
    }
}

/// The texts of a message that has one for each protocol; `None` of what is none.
pub(super) fn texts(body: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(texts)) if texts.get("default").is_some_and(Value::is_string) => {
            Some(texts)
        }
        _ => None,
    }
}

/// Copies what is said of a message, all that stands before its body, in place of what was in `said`; where
/// the body begins. `None` of what is no message.
pub(super) fn bytes_before_body(bytes: &[u8], said: &mut Vec<u8>) -> Option<usize> {
    said.clear();
    said.extend_from_slice(bytes.get(..HEAD)?);
    // The copy counts.
    let head: MessageHead = bytemuck::pod_read_unaligned(&said[..HEAD]);
    let texts = usize::from(head.subject_bytes)
        + usize::from(head.group_bytes)
        + usize::from(head.dedup_bytes)
        + usize::from(head.trace_bytes);
    let at = HEAD + texts + head.attribute_bytes as usize;
    if at > HEAD {
        said.extend_from_slice(bytes.get(HEAD..at)?);
    }
    Some(at)
}

/// A message of which nothing is said but what its head says, which is copied, and its body, which is looked at
/// where it lies. `None` of any other.
#[inline]
pub(super) fn bare(bytes: &[u8]) -> Option<(Parsed<'static>, &[u8])> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let head: MessageHead = bytemuck::pod_read_unaligned(head);
    let lengths = u32::from(head.subject_bytes)
        | u32::from(head.trace_bytes)
        | u32::from(head.attributes)
        | u32::from(head.group_bytes)
        | u32::from(head.dedup_bytes)
        | head.attribute_bytes;
    let said = Publication {
        per_protocol: head.flags & FLAG_PER_PROTOCOL != 0,
        ..Publication::new(&[])
    };
    let is_bare = head.magic == MESSAGE_MAGIC && lengths == 0;
    is_bare.then(|| (Parsed::new(&head, said), body))
}

/// What says that subscription `target` has something to get from the archive.
pub(super) fn tick(id: MessageId, target: u64, now_ms: u64, out: &mut Vec<u8>) {
    Publication::new(b"").encode(id, now_ms, out);
    let head = &mut out[..HEAD];
    let mut changed: MessageHead = bytemuck::pod_read_unaligned(head);
    (changed.target, changed.flags) = (target, FLAG_TICK);
    head.copy_from_slice(bytemuck::bytes_of(&changed));
}

/// The same message for one subscription alone, at a later attempt.
pub(super) fn readdress(bytes: &[u8], target: u64, attempts: u32, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(bytes);
    let head = &mut out[..HEAD];
    let mut changed: MessageHead = bytemuck::pod_read_unaligned(head);
    (changed.target, changed.attempts) = (target, attempts);
    head.copy_from_slice(bytemuck::bytes_of(&changed));
}
