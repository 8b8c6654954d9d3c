//! Listening: every message of a topic, from a ring beside its transit, in the order of that ring, by a cursor
//! of the listener's own.
//!
//! The ring is made by the first listener, before it is announced; who publishes behind that sees it. What
//! a listener that falls behind by the whole ring means to publishers is its [`ListenPolicy`]: only one that
//! blocks has a reliable cursor, which publishers stop at; the others are overtaken and told. A filter
//! policy is asked here, by who listens: it costs publishers nothing.
//!
//! Bytes of the ring are input. What is said of a message is copied, and the copy is parsed; only the body of
//! [`Listener::hear_in_place`] is looked at where it lies.

use super::TopicInner;
use super::filter::{FilterIndex, FilterMessage, Matches, Policy, PolicyLimits, Scope};
use super::message::{MessageId, Parsed, bare, bytes_before_body};
use crate::channel::{Channel, Reader};
use crate::error::{PublishError, ReadError};
use crate::layout::topic::words;
use crate::queue::AttributesRef;
use crate::ring::wait::Idle;
use crate::sync::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// Room for a message at first.
const FIRST_ROOM: usize = 512;

/// What becomes of a listener that has as many messages before it as the ring has slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenPolicy {
    /// It misses the oldest, and is told which ([`ReadError::Lagged`]).
    #[default]
    DropOldest,
    /// Publishers wait for it ([`Publisher::set_patience`](super::Publisher::set_patience)). One that died is
    /// waited for no longer than its death takes to be seen.
    Block,
    /// It is told once ([`ReadError::Evicted`]) and hears nothing more: better none than one that has gaps.
    Evict,
}

/// How to listen to a topic.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    policy: ListenPolicy,
    filter: Option<String>,
    scope: Scope,
    limits: PolicyLimits,
    idle: Idle,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            policy: ListenPolicy::default(),
            filter: None,
            scope: Scope::Attributes,
            limits: PolicyLimits::SNS,
            idle: Idle::default(),
        }
    }
}

impl ListenOptions {
    /// Everything, dropping the oldest.
    pub fn new() -> Self {
        Self::default()
    }

    /// What happens when it falls behind. Default: it misses the oldest.
    #[must_use]
    pub fn policy(mut self, policy: ListenPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Only messages that this filter policy wants.
    #[must_use]
    pub fn filter(mut self, policy: &str) -> Self {
        self.filter = Some(policy.to_owned());
        self
    }

    /// Where the filter policy looks. Default: at the attributes.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// What the filter policy may be at most. Default: as in SNS.
    #[must_use]
    pub fn limits(mut self, limits: PolicyLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How it waits. Default: [`Idle::SpinThenPark`].
    #[must_use]
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }
}

/// Hears what is published to a topic.
///
/// May move to another thread, is not shared between threads. In a forked child every call returns
/// [`ReadError::Forked`]. When its process dies its cursor is freed by whoever it holds up.
pub struct Listener {
    pub(super) reader: Reader,
    policy: ListenPolicy,
    wants: Option<Wants>,
    stats: ListenStats,
    /// Once it was: where it stood, and the oldest that there was.
    pub(super) evicted: Option<(u64, u64)>,
    /// What is said of the message that is looked at in place.
    said: Vec<u8>,
    body: Vec<u8>,
    topic: Arc<TopicInner>,
    _ring: Channel,
}

/// Its filter policy.
struct Wants {
    scope: Scope,
    index: FilterIndex,
    matches: Matches,
}

/// What a listener has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenStats {
    /// Messages that it handed out.
    pub heard: u64,
    /// Messages that its filter policy did not want.
    pub filtered: u64,
    /// Positions that it missed.
    pub missed: u64,
}

/// What anyone may know about one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Whose it is.
    pub participant: crate::ParticipantId,
    /// Whether publishers wait for it.
    pub blocks: bool,
    /// Messages before it.
    pub behind: u64,
    /// Positions that it was told it missed.
    pub missed: u64,
}

/// One message that was heard. Kept from message to message, it allocates only to grow.
#[derive(Clone, Default)]
pub struct Notification {
    bytes: Vec<u8>,
    len: usize,
    position: u64,
}

/// One message in the ring, as long as it is looked at.
pub struct Heard<'a> {
    parsed: Parsed<'a>,
    body: &'a [u8],
    position: u64,
}

impl Wants {
    fn new(options: &ListenOptions) -> Result<Option<Self>, PublishError> {
        let Some(text) = &options.filter else {
            return Ok(None);
        };
        let policy = Policy::parse(text, options.scope, &options.limits)
            .map_err(|error| PublishError::Policy(Box::new(error)))?;
        let mut index = FilterIndex::new();
        index.insert(1, Some(&policy));
        Ok(Some(Self {
            scope: options.scope,
            index,
            matches: Matches::new(),
        }))
    }

    fn wants(&mut self, attributes: AttributesRef<'_>, body: &[u8]) -> bool {
        let message = FilterMessage { attributes, body };
        !self.index.matches(&message, &mut self.matches).is_empty()
    }
}

impl Listener {
    pub(super) fn new(
        topic: Arc<TopicInner>,
        options: &ListenOptions,
    ) -> Result<Self, PublishError> {
        topic.check()?;
        let wants = Wants::new(options)?;
        let ring = Arc::clone(&topic.host).listeners(&topic)?;
        let builder = ring.reader().idle(options.idle);
        let builder = match options.policy {
            ListenPolicy::Block => builder.reliable(),
            ListenPolicy::DropOldest | ListenPolicy::Evict => builder.lossy(),
        };
        let reader = builder.join()?;
        // Release: who loads 1 finds the ring, and this reader in it.
        topic.word(words::LISTENED).store(1, Ordering::Release);
        Ok(Self {
            reader,
            policy: options.policy,
            wants,
            stats: ListenStats::default(),
            evicted: None,
            said: Vec::new(),
            body: Vec::new(),
            topic,
            _ring: ring,
        })
    }

    /// What happens when it falls behind.
    pub fn policy(&self) -> ListenPolicy {
        self.policy
    }

    /// What it has done.
    pub fn stats(&self) -> ListenStats {
        self.stats
    }

    /// The next message that it wants, into `notification`. Whether there was one. Never blocks.
    ///
    /// # Errors
    /// [`ReadError::Lagged`] tells what was missed, and the next call goes on; [`ReadError::Evicted`], and
    /// so every next call; [`ReadError::Removed`].
    pub fn try_hear(&mut self, notification: &mut Notification) -> Result<bool, ReadError> {
        loop {
            if notification.bytes.is_empty() {
                notification.bytes.resize(FIRST_ROOM, 0);
            }
            match self.reader()?.try_read(&mut notification.bytes) {
                Ok(None) => return Ok(false),
                Ok(Some(record)) => {
                    notification.len = record.len;
                    notification.position = record.position;
                    let Some(parsed) = notification.parsed() else {
                        self.count_damaged();
                        continue;
                    };
                    let said = &parsed.said;
                    let wants = self.wants.as_mut();
                    if wants.is_none_or(|wants| wants.wants(said.attributes, said.body)) {
                        self.stats.heard += 1;
                        return Ok(true);
                    }
                    self.stats.filtered += 1;
                }
                Err(ReadError::BufferTooSmall { needed, .. }) => {
                    notification.bytes.resize(needed.next_power_of_two(), 0);
                }
                Err(error) => {
                    return Err(told(error, self.policy, &mut self.stats, &mut self.evicted));
                }
            }
        }
    }

    /// Hands the next message that it wants to `each`, without copying its body; what `each` returned.
    /// `None` when there is none yet. Never blocks; allocates only to grow.
    ///
    /// A listener that blocks holds the message while `each` runs by its cursor, the others by a pin.
    ///
    /// # Errors
    /// As [`try_hear`](Self::try_hear).
    pub fn hear_in_place<R>(
        &mut self,
        each: impl FnOnce(&Heard<'_>) -> R,
    ) -> Result<Option<R>, ReadError> {
        loop {
            if let Some((from, to)) = self.evicted {
                return Err(ReadError::Evicted { from, to });
            }
            let view = match self.reader.try_view() {
                Ok(Some(view)) => view,
                Ok(None) => return Ok(None),
                Err(error) => {
                    return Err(told(error, self.policy, &mut self.stats, &mut self.evicted));
                }
            };
            let bytes: &[u8] = &view;
            let position = view.record().position;
            let parsed = bare(bytes).or_else(|| {
                let at = bytes_before_body(bytes, &mut self.said)?;
                Some((Parsed::of(&self.said)?, bytes.get(at..)?))
            });
            let Some((parsed, body)) = parsed else {
                drop(view);
                self.count_damaged();
                continue;
            };
            let is_wanted = match &mut self.wants {
                None => true,
                Some(wants) => {
                    if wants.scope == Scope::Body {
                        self.body.clear();
                        self.body.extend_from_slice(body);
                    }
                    wants.wants(parsed.said.attributes, &self.body)
                }
            };
            if is_wanted {
                self.stats.heard += 1;
                return Ok(Some(each(&Heard {
                    parsed,
                    body,
                    position,
                })));
            }
            self.stats.filtered += 1;
        }
    }

    /// Waits up to `timeout` for the next message that it wants. Whether there was one.
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
            if !self.wait(deadline.remaining())? && deadline.passed() {
                return Ok(false);
            }
        }
    }

    /// Waits up to `timeout` until there is something to hear, or to be told. Whether there is.
    ///
    /// # Errors
    /// As [`try_hear`](Self::try_hear).
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, ReadError> {
        self.reader()?.wait(timeout)
    }

    pub(super) fn reader(&mut self) -> Result<&mut Reader, ReadError> {
        let Some((from, to)) = self.evicted else {
            return Ok(&mut self.reader);
        };
        Err(ReadError::Evicted { from, to })
    }

    fn count_damaged(&self) {
        let damaged = self.topic.word(words::DAMAGED);
        damaged.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a listener of that policy is told of `error`.
fn told(
    error: ReadError,
    policy: ListenPolicy,
    stats: &mut ListenStats,
    evicted: &mut Option<(u64, u64)>,
) -> ReadError {
    let ReadError::Lagged { from, to } = error else {
        return error;
    };
    stats.missed += to.saturating_sub(from);
    if policy != ListenPolicy::Evict {
        return error;
    }
    *evicted = Some((from, to));
    ReadError::Evicted { from, to }
}

/// The listeners of a topic, from its ring.
pub(super) fn infos(ring: &Channel) -> Vec<ListenerInfo> {
    let stats = ring.stats();
    let info = |reader: &crate::channel::ReaderStats| ListenerInfo {
        participant: reader.participant,
        blocks: reader.reliable,
        behind: stats.tail.saturating_sub(reader.cursor),
        missed: reader.lost,
    };
    stats.readers.iter().map(info).collect()
}

impl Heard<'_> {
    /// Its id.
    pub fn id(&self) -> MessageId {
        self.parsed.id
    }

    /// Its place in the ring of listeners.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When it was published, in ms since the Unix epoch, to a millisecond or two.
    pub fn published_ms(&self) -> u64 {
        self.parsed.published_ms
    }

    /// Its body, where it lies. Well-behaved processes leave it alone; copy it before anything depends on
    /// its bytes staying what they are.
    pub fn body(&self) -> &[u8] {
        self.body
    }

    /// Its subject.
    pub fn subject(&self) -> Option<&str> {
        self.parsed.said.subject
    }

    /// Its message group.
    pub fn group(&self) -> Option<&str> {
        self.parsed.said.group
    }

    /// Its attributes.
    pub fn attributes(&self) -> AttributesRef<'_> {
        self.parsed.said.attributes
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

    /// When it was published, in ms since the Unix epoch, to a millisecond or two.
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
