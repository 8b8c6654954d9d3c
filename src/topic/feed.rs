//! Feeding: subscriptions that began with a replay get everything from the [archive](super::archive), by a
//! cursor of their own, whenever a dispatcher holds their tick.
//!
//! Who dies in the middle leaves the tick to the next, who goes on at the cursor: the record that was being
//! delivered is delivered again, and a FIFO queue that deduplicates drops it. The cursor moves by one CAS from
//! the value that was read, so who was stopped meanwhile moves nothing back.

use super::archive::{self, Archive, Found};
use super::dispatch::{Dispatcher, MAX_RECEIVES, endpoint};
use super::filter::FilterMessage;
use super::message::{self, MessageId, Parsed};
use super::replay::ReplayStatus;
use super::subscription::Known;
use super::target::{Delivery, Outcome, is_for_now};
use crate::error::PublishError;
use crate::layout::topic::{counters, words};
use crate::queue::{Outgoing, Received};
use crate::sync::Ordering;
use crate::sys::clock;
use crate::sys::host;
use std::sync::Arc;

/// Records of the archive that one tick looks at.
const RECORDS_A_TICK: usize = 512;

impl Dispatcher {
    fn archive(&mut self) -> Result<&mut Archive, PublishError> {
        if self.archive.is_none() {
            self.archive = Some(Archive::open(&self.topic)?);
        }
        Ok(self.archive.as_mut().expect("set above"))
    }

    /// Writes a message into the archive, if the topic has one.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<(), PublishError> {
        if self.topic.definition.archive_days == 0 {
            return Ok(());
        }
        self.archive()?.append(bytes)
    }

    /// Says in the transit that subscription `id` has something to get from the archive.
    pub(super) fn send_tick(&mut self, id: u64) -> Result<(), PublishError> {
        let mut bytes = core::mem::take(&mut self.bytes);
        let tick = MessageId([host::random_u64(), host::random_u64()]);
        message::tick(tick, id, clock::unix_ms(), &mut bytes);
        let (group, dedup_id) = (format!(".replay-{id:016x}"), tick.to_string());
        let outgoing = Outgoing::new(&bytes).group(&group).dedup_id(&dedup_id);
        let sent = self
            .sender()
            .map(|sender| sender.send_message(&outgoing).map(drop));
        self.bytes = bytes;
        self.ticks += 1;
        Ok(sent??)
    }

    /// Goes on with what subscription `tick.target` gets from the archive.
    pub(super) fn replay(
        &mut self,
        received: &Received,
        tick: &Parsed<'_>,
    ) -> Result<(), PublishError> {
        let known = tick
            .target
            .and_then(|id| self.subscriptions.get(id).cloned());
        let Some(known) = known.filter(|known| known.subscription.replay.is_some()) else {
            return self.settle(received); // unsubscribed, or no tick that we sent
        };
        let mut archive = match self.archive.take() {
            Some(archive) => archive,
            None => Archive::open(&self.topic)?,
        };
        let replayed = self.replay_from(received, &mut archive, &known);
        self.archive = Some(archive);
        match replayed? {
            // It waits as a message does whose queue is full, but for longer than a message may.
            Some(Outcome::NotNow) if received.receives() < MAX_RECEIVES => self.put_off(received),
            Some(_) => {
                self.send_tick(known.subscription.id)?;
                self.settle(received)
            }
            None => self.settle(received),
        }
    }

    /// `None` when nothing is behind the cursor; else what of the next record became.
    fn replay_from(
        &mut self,
        received: &Received,
        archive: &mut Archive,
        known: &Known,
    ) -> Result<Option<Outcome>, PublishError> {
        let since = archive::kept_since(&self.topic, clock::unix_ms());
        let mut cursor = self.cursor(known);
        for _ in 0..RECORDS_A_TICK {
            // Who stood still may find that another has gone on, and must not deliver behind him.
            if !self.has_lease(received)? || self.cursor(known) != cursor {
                return Ok(None);
            }
            let next = match archive.at(cursor)? {
                Found::End => return Ok(None),
                Found::Gone(oldest) => {
                    // Positions that were never seen by it; those of a fresh one are none it missed.
                    if cursor > 0 {
                        self.count(words::FAILED, oldest.saturating_sub(cursor));
                    }
                    oldest
                }
                Found::Record(bytes, next) => {
                    let outcome = self.replay_one(known, bytes, next - 1, since)?;
                    if outcome == Outcome::NotNow {
                        self.subscriptions.count(known, counters::RETRIED);
                        return Ok(Some(outcome));
                    }
                    next
                }
            };
            self.advance_cursor(known, cursor, next);
            cursor = next;
        }
        Ok(Some(Outcome::Elsewhere))
    }

    /// Sends a tick for each that is fed: one that subscribed may have died before it sent the first.
    pub(super) fn tick_all(&mut self) -> Result<(), PublishError> {
        self.subscriptions.follow(&self.topic)?;
        for id in self.subscriptions.fed().to_vec() {
            match self.send_tick(id) {
                // Then there is enough to do, and the next that is archived sends another.
                Err(PublishError::Transit(error)) if is_for_now(&error) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// How far the replay of a subscription is.
    pub(super) fn replay_status(&self, known: &Known) -> Option<ReplayStatus> {
        known.subscription.replay.as_ref()?;
        let until = known.subscription.replay_until;
        let word = self.subscriptions.counter(known, counters::CURSOR);
        Some(match word.map_or(0, |word| word.load(Ordering::Acquire)) {
            _ if until == 0 => ReplayStatus::Completed,
            0 => ReplayStatus::Pending,
            cursor if cursor - 1 < until => ReplayStatus::InProgress,
            _ => ReplayStatus::Completed,
        })
    }

    fn cursor(&self, known: &Known) -> u64 {
        let word = self.subscriptions.counter(known, counters::CURSOR);
        word.map_or(0, |word| word.load(Ordering::Acquire).saturating_sub(1))
    }

    /// Whoever was slower than somebody that has his tick by now changes nothing.
    fn advance_cursor(&self, known: &Known, from: u64, to: u64) {
        if let Some(word) = self.subscriptions.counter(known, counters::CURSOR) {
            let seen = word.load(Ordering::Acquire);
            if seen.saturating_sub(1) == from {
                let _ = word.compare_exchange(seen, to + 1, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Delivers one record of the archive, if the subscription wants it.
    fn replay_one(
        &mut self,
        known: &Known,
        bytes: &[u8],
        position: u64,
        since_ms: u64,
    ) -> Result<Outcome, PublishError> {
        let Some(parsed) = Parsed::of(bytes) else {
            self.count(words::DAMAGED, 1);
            return Ok(Outcome::Elsewhere);
        };
        let subscription = &known.subscription;
        let at = parsed.published_ms;
        let is_replayed = position < subscription.replay_until;
        let is_asked_for = subscription.replay.is_some_and(|replay| replay.holds(at));
        if is_replayed && !(is_asked_for && at >= since_ms) {
            return Ok(Outcome::Elsewhere);
        }
        let texts = match parsed.said.per_protocol {
            true => message::texts(parsed.said.body),
            false => None,
        };
        let default = texts.as_ref().and_then(|texts| texts["default"].as_str());
        let wanting = self.subscriptions.wanting(&FilterMessage {
            attributes: parsed.said.attributes,
            body: default.map_or(parsed.said.body, str::as_bytes),
        });
        if !wanting.contains(&subscription.id) {
            return Ok(Outcome::Elsewhere);
        }
        let topic = Arc::clone(&self.topic);
        let delivery = Delivery {
            number: self.targets.next_number(),
            topic: &topic,
            parsed: &parsed,
            texts: texts.as_ref(),
            is_replayed,
        };
        let sent = self.targets.send(&delivery, &endpoint(known))?;
        match self.resolve(sent, known, counters::DELIVERED) {
            Outcome::Delivered => {
                self.count(words::DELIVERED, 1);
                self.subscriptions.count(known, counters::DELIVERED);
                Ok(Outcome::Delivered)
            }
            Outcome::NotNow => Ok(Outcome::NotNow),
            Outcome::Never | Outcome::Missing | Outcome::Elsewhere => {
                self.give_up(&delivery, known)
            }
        }
    }
}
