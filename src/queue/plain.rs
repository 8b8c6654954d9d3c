//! Sending what is plain: the common case of a send, and of each message of a batch.
//!
//! Plain is a body that lies in its slot and is visible at once, in a standard queue that is in memory and
//! that nothing limits but its slots: then a send is a swap that claims, a look at the clock, the bytes, and a swap
//! that commits. It is all or nothing: whatever is not plain, and whatever comes in between, goes the whole way
//! from the start ([`send`](super::send)). Nothing here is out of line, waits, or allocates.
//!
//! Why it is apart: docs/decisions/0059-what-a-message-costs-in-instructions.md.

use super::QueueSender;
use crate::error::QueueSendError;
use crate::layout::ring::Meta;
use crate::ring::commit::Lost;
use crate::sys::fork;

impl QueueSender {
    /// [`send`](Self::send) as most are: all in registers, nothing out of line. `None`: nothing was sent, and
    /// [`send_with_care`](Self::send_with_care) does it or says why not.
    #[doc(hidden)]
    #[inline(always)]
    pub fn send_at_once(&mut self, body: &[u8]) -> Option<u64> {
        // Both lines of the slot travel side by side: by itself a message is waited for.
        let next = self.appender.next();
        self.delivery.ask_for_second_line(next, body.len());
        if !self.is_plain(body.len()) {
            return None;
        }
        let position = self.append_plain(inline(body), body)?;
        self.delivery.ring().wake_behind_commit();
        Some(position)
    }

    /// Appends bytes of which more is said than that they are inline, in front of which is an attribute block,
    /// without a wake. As [`send_at_once`](Self::send_at_once), all or nothing.
    #[cfg(feature = "topics")]
    #[inline(always)]
    pub(super) fn append_at_once(&mut self, meta: Meta, bytes: &[u8]) -> Option<u64> {
        match self.is_plain(bytes.len()) {
            true => self.append_plain(meta, bytes),
            false => None,
        }
    }

    /// One of a batch, without a wake.
    #[inline(always)]
    pub(super) fn append_one_of_many(&mut self, body: &[u8]) -> Result<u64, QueueSendError> {
        if self.is_plain(body.len())
            && let Some(position) = self.append_plain(inline(body), body)
        {
            return Ok(position);
        }
        self.append_with_care(body)
    }

    #[cold]
    #[inline(never)]
    fn append_with_care(&mut self, body: &[u8]) -> Result<u64, QueueSendError> {
        self.start_over()?;
        let sent = self.append(None, body, self.delay_ms())?;
        Ok(sent.position)
    }

    /// Whether a body of `len` bytes is sent as most are: it lies in the slot and is visible at once, and in this
    /// queue nothing is asked for but a slot.
    #[inline(always)]
    fn is_plain(&self, len: usize) -> bool {
        let queue = &self.delivery;
        self.generation == fork::generation()
            && queue.is_plain()
            && len <= self.inline_bytes
            && !queue.may_be_too_long(len as u64)
            && !super::is_removed(queue)
            && queue.max_messages() == 0
            && queue.delay_ms() == 0
    }

    /// Appends what [`is_plain`](Self::is_plain), without a wake. `None`: there was no slot at hand, or the claim
    /// was lost, which [`start_over`](Self::start_over) asks about.
    #[inline(always)]
    fn append_plain(&mut self, meta: Meta, body: &[u8]) -> Option<u64> {
        let claim = self.appender.claim_free(&self.delivery)?;
        let position = claim.position;
        // Behind the claim: from here on the message ages, whenever this process was stopped before.
        let now = self.clock.now_ms();
        claim.fill_message(meta, claim.ready_word(), now, body);
        if let Err(lost) = self.appender.commit(self.delivery.ring(), claim) {
            self.note_lost(lost, position);
            return None;
        }
        self.committed(position, now, 0, body.len());
        Some(position)
    }

    #[cold]
    #[inline(never)]
    fn note_lost(&mut self, lost: Lost, position: u64) {
        self.lost = Some((lost, position));
    }

    /// Before a message is sent again. Where somebody took this sender for stalled, nothing was visible.
    pub(super) fn start_over(&mut self) -> Result<(), QueueSendError> {
        match self.lost.take() {
            None | Some((Lost::Abandoned, _)) => Ok(()),
            Some((Lost::Corrupt, position)) => Err(QueueSendError::Corrupt { position }),
        }
    }
}

/// What the header says of a body of which nothing else is said.
#[inline(always)]
fn inline(body: &[u8]) -> Meta {
    Meta::new(body.len() as u32, Meta::INLINE, 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Bus;
    use crate::sys::host;

    #[test]
    fn what_became_of_a_claim_on_the_short_way_is_told_before_the_body_is_sent_once_more() {
        let name = format!("short-way-{:016x}", host::random_u64());
        let root = std::env::temp_dir();
        let bus = Bus::builder(&name).root(&root).create().unwrap();
        let queue = bus.queue("q").create().unwrap();
        let mut sender = queue.sender().unwrap();
        // A peer wrote over the word of the claim: for all that is known the message stands there.
        sender.note_lost(Lost::Corrupt, 7);
        let told = sender.send_with_care(b"body");
        assert!(
            matches!(told, Err(QueueSendError::Corrupt { position: 7 })),
            "{told:?}"
        );
        assert_eq!(queue.stats().visible, 0);
        // A claim that was given up is nothing anybody saw.
        sender.note_lost(Lost::Abandoned, 8);
        sender.send_with_care(b"body").unwrap();
        assert_eq!(queue.stats().visible, 1);
        drop((sender, queue, bus));
        Bus::builder(&name).root(&root).remove(false).unwrap();
    }
}
