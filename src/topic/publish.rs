//! Publishing: one send into the topic's transit, and then what is there to be handed on.
//!
//! A topic without subscriptions has no transit, one without listeners no ring: then a publish is a few
//! loads. What was published is acknowledged when it stands in the transit; who dies behind that leaves
//! the rest to the next (docs/decisions/0027).

use super::TopicInner;
use super::dispatch::Dispatcher;
use super::message::{HEAD, MessageId, Parsed, Publication, texts};
use crate::channel::Producer;
use crate::error::{PublishError, SendError};
use crate::layout::topic::words;
use crate::queue::{Outgoing, QueueKind, QueueSender};
use crate::sync::Ordering;
use crate::sys::clock::{self, BootClock, Deadline};
use crate::sys::host;
use crate::trace::event;
use std::sync::Arc;
use std::time::Duration;

/// Messages that a publish hands on at most: its own, and some that others left.
const HANDED_ON: usize = 4;
/// Every so often the time is taken from the wall clock again.
const WALL_CLOCK_MS: u64 = 1000;
/// Between two looks whether there is room in the listeners' ring.
const ROOM_PAUSE: Duration = Duration::from_micros(200);
/// How long a publish waits for listeners that miss nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages between two additions to the shared count.
const COUNT_EVERY: u64 = 64;

/// A publisher of one topic.
///
/// May move to another thread, is not shared between threads. It keeps the topic's subscriptions and their
/// index in its memory, and hands on what it publishes, and what others left.
pub struct Publisher {
    topic: Arc<TopicInner>,
    dispatcher: Dispatcher,
    producer: Option<Producer>,
    /// Of the next message.
    id: [u64; 2],
    bytes: Vec<u8>,
    uncounted: u64,
    patience: Duration,
    /// Whether what it publishes is handed on by others.
    leaves: bool,
    clock: BootClock,
    /// What the wall clock is ahead of it, and when that was found.
    ahead_ms: u64,
    read_at: u64,
}

/// What became of a message that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id (`MessageId`).
    pub id: MessageId,
    /// Whether it repeats a message that was published to a FIFO topic within five minutes, and was
    /// therefore not published again.
    pub duplicate: bool,
}

impl Publisher {
    pub(super) fn new(topic: Arc<TopicInner>) -> Result<Self, PublishError> {
        topic.check()?;
        let clock = BootClock::since(0);
        Ok(Self {
            dispatcher: Dispatcher::new(Arc::clone(&topic))?,
            topic,
            producer: None,
            id: [host::random_u64(), host::random_u64() & !0xFFFF_FFFF_FFFF],
            bytes: Vec::new(),
            uncounted: 0,
            patience: PATIENCE,
            leaves: false,
            ahead_ms: clock::unix_ms().wrapping_sub(clock.kept_ms()),
            read_at: clock.kept_ms(),
            clock,
        })
    }

    /// Publishes a message (`Publish`): it is delivered to every subscription that wants it, and heard by every
    /// listener. Waits for nobody but listeners that block ([`set_patience`](Self::set_patience)). When it returns, the message survives this process; mostly it is delivered by
    /// then. No system call unless somebody sleeps, or a queue is opened for the first time.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was published then.
    #[inline]
    pub fn publish(&mut self, message: &Publication<'_>) -> Result<Published, PublishError> {
        match self.say_at_once(message) {
            Some(published) => Ok(published),
            None => self.publish_with_care(message),
        }
    }

    #[inline(never)]
    fn publish_with_care(&mut self, message: &Publication<'_>) -> Result<Published, PublishError> {
        self.topic.check()?;
        let now = self.now_ms();
        let published = self.commit(message, now)?;
        self.hand_on(published.id, 1)?;
        Ok(published)
    }

    /// [`publish`](Self::publish) of what only listeners hear, as most is: nothing is said of it but attributes,
    /// their ring is open here, and the next slot is clear. `None`: nothing was published, and the way with care
    /// does it or says why not.
    #[inline(always)]
    fn say_at_once(&mut self, message: &Publication<'_>) -> Option<Published> {
        let is_heard_only = message.is_bare()
            && !self.is_fifo()
            && self.topic.check().is_ok()
            && self.dispatcher.subscriptions.are_none(&self.topic)
            && self.topic.word(words::LISTENED).load(Ordering::Acquire) != 0;
        if !is_heard_only || self.producer.is_none() {
            return None;
        }
        let (id, now) = (MessageId(self.id), self.now_ms());
        let head: [u64; HEAD / 8] = bytemuck::cast(message.head(id, now));
        let attributes = message.attributes.encoded();
        let producer = self.producer.as_mut()?;
        // A claim that was lost is begun anew with care.
        let said = producer.try_send_parts_clear(head, attributes, message.body);
        said.ok()?;
        Some(self.published(id, message, false))
    }

    /// Behind a commit, or where nobody is there to publish to.
    #[inline(always)]
    #[cfg_attr(
        not(feature = "tracing"),
        expect(unused_variables, reason = "what a trace tells of it")
    )]
    fn published(
        &mut self,
        id: MessageId,
        message: &Publication<'_>,
        duplicate: bool,
    ) -> Published {
        self.id[1] = id.0[1].wrapping_add(1);
        self.uncounted += u64::from(!duplicate);
        if self.uncounted >= COUNT_EVERY {
            self.count();
        }
        event!(
            TRACE,
            "published",
            topic = self.topic.name.as_str(),
            id = id.to_string(),
            bytes = message.body.len(),
            duplicate = duplicate
        );
        Published { id, duplicate }
    }

    /// Publishes messages in order (`PublishBatch`); what became of each. Allocates the outcomes.
    pub fn publish_batch(
        &mut self,
        messages: &[Publication<'_>],
    ) -> Vec<Result<Published, PublishError>> {
        let now = self.now_ms();
        let mut outcomes = Vec::with_capacity(messages.len());
        for message in messages {
            let checked = self.topic.check();
            outcomes.push(checked.and_then(|()| self.commit(message, now)));
        }
        let last = outcomes
            .iter()
            .rev()
            .find_map(|outcome| outcome.as_ref().ok());
        if let Some(Published { id, .. }) = last {
            // What went wrong with handing on comes again with the next publish.
            let _ = self.hand_on(*id, messages.len());
        }
        outcomes
    }

    /// How long a publish waits for a listener that blocks and has the whole ring before it, until it is
    /// [`PublishError::HeldUp`]. Default: 30 s.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Whether it leaves it to others to hand on what it publishes: a publish then costs the same however many
    /// subscriptions want the message, and somebody has to dispatch ([`Topic::dispatcher`](super::Topic::dispatcher)).
    /// Default: it does so itself.
    pub fn leave_to_others(&mut self, leaves: bool) {
        self.leaves = leaves;
    }

    /// The dispatcher that this publisher hands on with.
    pub fn dispatcher(&mut self) -> &mut Dispatcher {
        &mut self.dispatcher
    }

    /// Unix time, without a look at the wall clock for each message.
    #[inline]
    fn now_ms(&mut self) -> u64 {
        let now = self.clock.now_ms();
        if now.wrapping_sub(self.read_at) >= WALL_CLOCK_MS {
            self.ahead_ms = clock::unix_ms().wrapping_sub(now);
            self.read_at = now;
        }
        now.wrapping_add(self.ahead_ms)
    }

    fn hand_on(&mut self, last: MessageId, published: usize) -> Result<(), PublishError> {
        if self.leaves || self.dispatcher.subscriptions.is_empty() && !self.is_fifo() {
            return Ok(());
        }
        let most = published.saturating_mul(HANDED_ON);
        match self.dispatcher.dispatch_to(last, most) {
            // It stands in the transit, and whoever comes next goes on.
            Err(PublishError::Forked) => Err(PublishError::Forked),
            _ => Ok(()),
        }
    }

    fn is_fifo(&self) -> bool {
        self.topic.definition.kind == QueueKind::Fifo
    }

    fn commit(&mut self, message: &Publication<'_>, now: u64) -> Result<Published, PublishError> {
        message.check()?;
        let is_fifo = self.is_fifo();
        if is_fifo && message.group.is_none() {
            return Err(PublishError::MissingGroup);
        }
        self.dispatcher.subscriptions.follow(&self.topic)?;
        // Of this message alone, whatever becomes of it: where it went half the way, a queue that has it would
        // drop the next as its repeat.
        let id = MessageId(self.id);
        self.id[1] = self.id[1].wrapping_add(1);
        let is_listened = self.topic.word(words::LISTENED).load(Ordering::Acquire) != 0;
        let is_subscribed = is_fifo || !self.dispatcher.subscriptions.is_empty();
        let mut duplicate = false;
        let is_said = is_listened && !is_subscribed && self.say(message, id, now)?;
        if (is_listened || is_subscribed) && !is_said {
            let mut bytes = core::mem::take(&mut self.bytes);
            message.encode(id, now, &mut bytes);
            let committed = self.commit_bytes(message, &bytes, is_subscribed, is_listened);
            self.bytes = bytes;
            duplicate = committed?;
        }
        Ok(self.published(id, message, duplicate))
    }

    /// Writes a message that only listeners hear into their ring, in place; whether that went. It does not
    /// where there is no room now, or not in a slot.
    #[inline(always)]
    fn say(
        &mut self,
        message: &Publication<'_>,
        id: MessageId,
        now: u64,
    ) -> Result<bool, PublishError> {
        let Some(producer) = &mut self.producer else {
            return Ok(false);
        };
        let bytes = message.encoded_bytes();
        if message.per_protocol || bytes > producer.inline_bytes() {
            return Ok(false);
        }
        let head = message.head(id, now);
        match producer.try_send_with(bytes, |out| message.encode_into(&head, out)) {
            Ok(_) => Ok(true),
            Err(SendError::Full { .. }) => Ok(false),
            // What else is wrong with that ring concerns listeners only.
            Err(error) => refused(error).map(|()| true),
        }
    }

    /// Whether it was a duplicate.
    ///
    /// Where both are there, the place in the listeners' ring is claimed first: it is the one that somebody may
    /// have to wait for. What the transit then refuses was never seen.
    fn commit_bytes(
        &mut self,
        message: &Publication<'_>,
        bytes: &[u8],
        is_subscribed: bool,
        is_listened: bool,
    ) -> Result<bool, PublishError> {
        let is_fifo = self.is_fifo();
        if !is_listened {
            let sender = self.dispatcher.sender()?;
            return send(sender, message, bytes, is_fifo);
        }
        if self.producer.is_none() {
            let ring = Arc::clone(&self.topic.host).listeners(&self.topic)?;
            self.producer = Some(ring.producer()?);
        }
        let spoken = match message.per_protocol {
            true => Some(self.spoken(message, bytes)),
            false => None,
        };
        let heard = spoken.as_deref().unwrap_or(bytes);
        let producer = self.producer.as_mut().expect("set above");
        if !is_subscribed {
            return match producer.send(heard, self.patience) {
                Ok(_) => Ok(false),
                Err(error) => refused(error).map(|()| false),
            };
        }
        let sender = self.dispatcher.sender()?;
        let deadline = Deadline::after(self.patience);
        loop {
            let sent = producer.send_if(heard, self.patience, || {
                send(sender, message, bytes, is_fifo).map(|duplicate| !duplicate)
            });
            match sent {
                Ok(decided) => return decided.map(|position| position.is_none()),
                Err(SendError::Full { .. }) if !deadline.passed() => clock::pause(ROOM_PAUSE),
                Err(error) => {
                    refused(error)?;
                    // What else is wrong with that ring concerns listeners only.
                    return send(sender, message, bytes, is_fifo);
                }
            }
        }
    }

    /// The message as listeners hear it that has a text for each protocol.
    fn spoken(&self, message: &Publication<'_>, bytes: &[u8]) -> Vec<u8> {
        let mut spoken = Vec::new();
        let texts = texts(message.body);
        let default = texts.as_ref().and_then(|texts| texts["default"].as_str());
        if let (Some(default), Some(parsed)) = (default, Parsed::of(bytes)) {
            let said = Publication {
                body: default.as_bytes(),
                per_protocol: false,
                ..*message
            };
            said.encode(parsed.id, parsed.published_ms, &mut spoken);
        }
        spoken
    }

    #[cold]
    fn count(&mut self) {
        let published = core::mem::take(&mut self.uncounted);
        let word = self.topic.word(words::PUBLISHED);
        word.fetch_add(published, Ordering::Relaxed);
    }
}

/// Into the transit; whether it was a duplicate.
fn send(
    sender: &mut QueueSender,
    message: &Publication<'_>,
    bytes: &[u8],
    is_fifo: bool,
) -> Result<bool, PublishError> {
    if !is_fifo {
        return Ok(sender.send(bytes).map(|_| false)?);
    }
    let mut outgoing = Outgoing::new(bytes).group(message.group.unwrap_or_default());
    if let Some(id) = message.dedup_id {
        outgoing = outgoing.dedup_id(id);
    }
    Ok(sender.send_message(&outgoing)?.duplicate)
}

/// An error where a listener has to be waited for, or the handle is of another process.
fn refused(error: SendError) -> Result<(), PublishError> {
    match error {
        SendError::Full { by } => Err(PublishError::HeldUp { by }),
        SendError::Stalled { by } => Err(PublishError::HeldUp { by: Some(by) }),
        SendError::Forked => Err(PublishError::Forked),
        _ => Ok(()),
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if !self.topic.mapping.is_forked() {
            self.count();
        }
    }
}
