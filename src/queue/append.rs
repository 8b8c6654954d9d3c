//! Appending a message, whatever it is: claim, fill, commit.
//!
//! A body lies in the slot, or in a chunk of the pool that the slot refers to; what its sender says beside it
//! stands in front of it, where it lies. Nobody is woken here and no disk is waited for: that is
//! [`acknowledge`](QueueSender::acknowledge), once for a batch. Most sends need none of this
//! ([`plain`](super::plain)), and one with an id that is compared has [more to do](super::once).
//!
//! # What each crash point leaves
//! A claim, which others void; a chunk that nobody refers to, which the reaper frees; or the message.

use super::once::Once;
use super::payload::Payloads;
use super::send::FLUSH_EVERY;
use super::{QueueSender, Sent};
use crate::error::QueueSendError;
use crate::layout::ring::{ChunkRef, Meta};
use crate::object::loan::Loan;
use crate::pool::lend::Lent;
use crate::ring::commit::Lost;
use crate::ring::delivery::dedup::Key;
use crate::ring::delivery::link::GroupHash;
use crate::ring::pace::AHEAD;
use crate::sync::Ordering;
use crate::trace::event;

/// What a message of a FIFO queue has beside its bytes.
#[derive(Clone, Copy)]
pub(super) struct Grouped {
    pub group: GroupHash,
    /// Of its deduplication id, where the queue compares them.
    pub key: Option<Key>,
}

/// What a message's header says beside its length and kind.
#[derive(Clone, Copy, Default)]
pub(super) struct Marks {
    flags: u8,
    tenant: u16,
}

impl Marks {
    fn on(self, meta: Meta) -> Meta {
        meta.with_flags(self.flags).with_tenant(self.tenant)
    }
}

impl QueueSender {
    /// Any append, without a wake.
    #[inline]
    pub(super) fn append(
        &mut self,
        grouped: Option<Grouped>,
        body: &[u8],
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        self.check(body.len())?;
        if body.len() > self.inline_bytes {
            return self.append_large(grouped, body, delay_ms);
        }
        let meta = Meta::new(body.len() as u32, Meta::INLINE, 0);
        self.append_bytes(grouped, meta, body, delay_ms, None)
    }

    #[cold]
    fn append_large(
        &mut self,
        grouped: Option<Grouped>,
        body: &[u8],
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let mut loan = self.loan(body.len())?;
        loan.copy_from_slice(body);
        self.append_loan(grouped, loan, Marks::default(), delay_ms)
    }

    /// A message of which an encoded attribute block is `block`, without a wake. The caller has
    /// checked it, and has no other use for what is in `block`: a body that lies in the slot goes
    /// behind it.
    pub(super) fn append_with_block(
        &mut self,
        grouped: Option<Grouped>,
        tenant: u16,
        block: &mut Vec<u8>,
        body: &[u8],
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let marks = Marks {
            flags: Meta::ATTRIBUTES,
            tenant,
        };
        let whole = block.len() + body.len();
        if whole > self.inline_bytes {
            let mut loan = self.lend_unchecked(whole)?;
            loan[..block.len()].copy_from_slice(block);
            loan[block.len()..].copy_from_slice(body);
            return self.append_loan(grouped, loan, marks, delay_ms);
        }
        block.extend_from_slice(body);
        let meta = marks.on(Meta::new(whole as u32, Meta::INLINE, 0));
        self.append_bytes(grouped, meta, block, delay_ms, None)
    }

    fn append_loan(
        &mut self,
        grouped: Option<Grouped>,
        loan: Loan,
        marks: Marks,
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let sent = self.append_chunk(grouped, loan.lent, loan.len, marks, delay_ms)?;
        if !sent.duplicate {
            self.loans.sent(loan);
        }
        Ok(sent)
    }

    pub(super) fn append_chunk(
        &mut self,
        grouped: Option<Grouped>,
        lent: Lent,
        len: usize,
        marks: Marks,
        delay_ms: u32,
    ) -> Result<Sent, QueueSendError> {
        let reference = ChunkRef {
            segment: lent.segment,
            chunk: lent.chunk,
            version: lent.version,
            len: len as u64,
        };
        self.note_payloads();
        let body = bytemuck::bytes_of(&reference);
        let meta = marks.on(Meta::new(body.len() as u32, Meta::CHUNK, 0));
        let sent = self.append_bytes(grouped, meta, body, delay_ms, Some(lent))?;
        if !sent.duplicate {
            self.lender.attach(lent);
        }
        Ok(sent)
    }

    /// Claim, fill, commit; once more where somebody took this sender for stalled.
    #[inline(always)]
    pub(super) fn append_bytes(
        &mut self,
        grouped: Option<Grouped>,
        meta: Meta,
        body: &[u8],
        delay_ms: u32,
        lent: Option<Lent>,
    ) -> Result<Sent, QueueSendError> {
        if super::is_removed(&self.delivery) {
            return Err(QueueSendError::Removed); // nobody will ever receive it
        }
        if grouped.is_none() && self.delivery.is_fifo() {
            return Err(QueueSendError::MissingGroup);
        }
        if let Some(grouped) = grouped
            && let Some(key) = grouped.key
        {
            return self.append_once(&Once {
                group: grouped.group,
                key,
                meta,
                body,
                delay_ms,
                lent,
            });
        }
        self.check_limit()?;
        loop {
            let mut payloads = Payloads::new(&self.inner.segments, self.inner.object_id);
            let claimed = self.appender.claim_message(&self.delivery, &mut payloads);
            let claim = match claimed {
                Ok(claim) => claim,
                Err(blocked) => {
                    self.go_on(blocked)?;
                    continue;
                }
            };
            let position = claim.position;
            // Behind the claim, however long that took: from here on the message ages.
            let now = self.clock.now_ms();
            if let Some(lent) = lent {
                self.lender.address(lent, self.inner.object_id, position);
            }
            let word = self.delivery.first_word(position, now, delay_ms);
            match grouped {
                None => claim.fill_message(meta, word, now, body),
                Some(Grouped { group, .. }) => {
                    claim.fill_message_of(group, 0, meta, word, now, body);
                }
            }
            match self.appender.commit(self.delivery.ring(), claim) {
                Ok(position) => {
                    return Ok(self.committed(position, now, delay_ms, body.len()));
                }
                Err(Lost::Abandoned) => {}
                Err(Lost::Corrupt) => return Err(QueueSendError::Corrupt { position }),
            }
        }
    }

    /// Behind a commit.
    #[inline(always)]
    pub(super) fn committed(&mut self, position: u64, now: u64, delay_ms: u32, len: usize) -> Sent {
        if delay_ms != 0 {
            self.delivery.confirm_delay(position, now, delay_ms);
        }
        if self.delivery.is_fifo() && self.distance.is_in_a_run(position) {
            self.delivery.ask_for_room(position + AHEAD, len);
        }
        event!(
            TRACE,
            "sent",
            queue = self.inner.name(),
            position = position,
            bytes = len
        );
        self.sent += 1;
        if self.sent >= FLUSH_EVERY {
            self.flush();
            self.prepare_next_ring();
        }
        Sent {
            position,
            duplicate: false,
        }
    }

    /// Says in the ring that bodies lie in the pool.
    pub(super) fn note_payloads(&self) {
        let payloads = self.delivery.ring().memory().payloads();
        if payloads.load(Ordering::Relaxed) == 0 {
            payloads.store(1, Ordering::Relaxed); // ordered before the message by its commit
        }
    }
}
