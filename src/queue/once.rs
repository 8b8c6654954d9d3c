//! Sending once: a message with an id that the queue compares.
//!
//! Look the id up, claim, enter the claim, fill, commit, seal; give up and begin anew where another
//! sender of the same id was first, or was about to be. What is sent already is told by its position.
//! Dying anywhere leaves what [`crate::ring::delivery::dedup`] says.

use super::payload::Payloads;
use super::{QueueSender, Sent};
use crate::error::QueueSendError;
use crate::layout::ring::Meta;
use crate::layout::word::Ctl;
use crate::pool::lend::Lent;
use crate::ring::claim::{Appender, Blocked};
use crate::ring::commit::Lost;
use crate::ring::delivery::Total;
use crate::ring::delivery::dedup::{Key, Refused};
use crate::ring::delivery::link::GroupHash;
use crate::ring::read::PROBE_AFTER_NS;
use crate::sys::clock::{self, Deadline};
use std::time::Duration;

/// Attempts of a send that others get in the way of. Each is a whole send of the same id, or one that
/// stood still for the stall time-out; only a scribbler makes as many.
const MOST_ATTEMPTS: u32 = 64;
/// Pause of a sender that waits for the claim of another.
const PAUSE: Duration = Duration::from_micros(50);

/// A message with an id that is compared.
pub(super) struct Once<'a> {
    pub group: GroupHash,
    pub key: Key,
    pub meta: Meta,
    pub body: &'a [u8],
    pub delay_ms: u32,
    pub lent: Option<Lent>,
}

/// How an attempt ended.
enum Attempt {
    /// At this position and time.
    Committed(u64, u64),
    Refused(Refused),
    Blocked(Blocked),
    /// The queue may hold no more messages.
    OverLimit,
    Lost(Lost),
}

impl QueueSender {
    /// Sends a message if none of its id was sent within the window, without a wake. Another sender
    /// of the same id that is at it is waited for, at most for the stall time-out.
    pub(super) fn append_once(&mut self, message: &Once<'_>) -> Result<Sent, QueueSendError> {
        for _ in 0..MOST_ATTEMPTS {
            // A limit refuses messages, and not that one was sent before.
            let is_within = self.check_limit();
            match self.attempt(message, is_within.is_ok()) {
                Attempt::OverLimit => is_within?,
                Attempt::Committed(position, now) => {
                    let len = message.body.len();
                    return Ok(self.committed(position, now, message.delay_ms, len));
                }
                Attempt::Blocked(blocked) => self.go_on(blocked)?,
                Attempt::Refused(refused) => {
                    if is_within.is_ok() {
                        self.share.give_back();
                    }
                    if let Some(position) = self.refused_id(refused)? {
                        return Ok(Sent {
                            position,
                            duplicate: true,
                        });
                    }
                }
                Attempt::Lost(Lost::Abandoned) => {}
                Attempt::Lost(Lost::Corrupt) => break,
            }
        }
        Err(QueueSendError::Corrupt {
            position: self.appender.next(),
        })
    }

    #[inline(always)]
    fn attempt(&mut self, message: &Once<'_>, may_send: bool) -> Attempt {
        let now = self.clock.now_ms();
        let (queue, ring) = (&self.delivery, self.delivery.ring());
        let Some(dedup) = queue.dedup() else {
            return Attempt::Lost(Lost::Corrupt); // without a table there are no keys
        };
        let room = match dedup.look_up(ring, &message.key, now) {
            Ok(room) => room,
            Err(refused) => return Attempt::Refused(refused),
        };
        if !may_send {
            return Attempt::OverLimit;
        }
        let mut payloads = Payloads::new(&self.inner.segments, self.inner.object_id);
        let claim = match self.appender.claim_message(queue, &mut payloads) {
            Ok(claim) => claim,
            Err(blocked) => return Attempt::Blocked(blocked),
        };
        let position = claim.position;
        // Behind the claim, however long that took: from here on the message ages, and its id counts.
        let now = self.clock.now_ms();
        if let Some(lent) = message.lent {
            self.lender.address(lent, self.inner.object_id, position);
        }
        let word = queue.first_word(position, now, message.delay_ms);
        // Filled before its entry is written, whose lines are on their way meanwhile.
        claim.fill_message_of(message.group, 0, message.meta, word, now, message.body);
        let entry = match dedup.admit(ring, &message.key, room, position, now) {
            Ok(entry) => entry,
            Err(refused) => {
                Appender::abort(ring, claim);
                return Attempt::Refused(refused);
            }
        };
        claim.name_entry(entry.number());
        match self.appender.commit(ring, claim) {
            Ok(position) => {
                dedup.seal(&entry);
                Attempt::Committed(position, now)
            }
            Err(lost) => {
                dedup.give_up(&entry);
                Attempt::Lost(lost)
            }
        }
    }

    /// What to do about an id that is not sent now: the position it was sent at, or `None` when
    /// another sender had to be waited for and is out of the way.
    #[cold]
    fn refused_id(&mut self, refused: Refused) -> Result<Option<u64>, QueueSendError> {
        match refused {
            Refused::Message { position } => {
                self.delivery.count(Total::Duplicates, 1);
                Ok(Some(position))
            }
            Refused::Open { position, word } => {
                self.wait_for(position, word);
                Ok(None)
            }
            Refused::Full => Err(QueueSendError::DedupFull {
                ids: self.inner.definition.dedup.map_or(0, |rules| rules.ids),
            }),
        }
    }

    /// Waits until a claim is committed or given up; after the stall time-out it is given up here.
    fn wait_for(&self, position: u64, word: Ctl) {
        let ring = self.delivery.ring();
        let stall = Duration::from_nanos(ring.stall_timeout_ns());
        let deadline = Deadline::after(stall);
        loop {
            let waited = stall.saturating_sub(deadline.remaining()).as_nanos() as u64;
            if ring.resolve(position, word, waited) {
                return;
            }
            if waited < PROBE_AFTER_NS {
                core::hint::spin_loop();
            } else {
                clock::pause(PAUSE.min(deadline.remaining()));
            }
        }
    }
}
