//! Settling: delete, change of visibility, nack. By receipt, exact or nothing, from any process.

use super::definition::whole_ms;
use super::{Inner, Queue, QueueReceiver, Receipt};
use crate::error::SettleError;
use crate::layout::queue::{MAX_DELAY_MS, MAX_VISIBILITY_MS};
use crate::ring::delivery::Delivery;
use crate::ring::delivery::settle::Settled;
use crate::trace::event;
use std::sync::Arc;
use std::time::Duration;

impl Queue {
    /// Deletes the message of a receipt. Never blocks, no system call; but in a durable queue it blocks
    /// until the disk has it, and then the message does not come back, whatever fails.
    ///
    /// `true` when this call deleted it, `false` when it was gone already: deleting twice is no
    /// error. A lease that is over does not matter as long as nobody has received the message
    /// again.
    ///
    /// # Errors
    /// [`SettleError::StaleReceipt`] when it was received again: the message stays where it is.
    pub fn delete(&self, receipt: &Receipt) -> Result<bool, SettleError> {
        // Before any ring is looked up: in a forked child none is there.
        self.inner.check_receipt(receipt)?;
        let ring = self.inner.at(receipt.position());
        let deleted = self.inner.delete(&ring, receipt)?;
        self.inner.acknowledge_delete(receipt.position())?;
        Ok(deleted)
    }

    /// Lets the message stay invisible for `visibility` from now, 0 to 43,200 s in whole
    /// milliseconds; 0 makes it visible at once. The caller's participant becomes the holder, whose
    /// death makes the message visible. Never blocks.
    ///
    /// # Errors
    /// [`SettleError::StaleReceipt`], [`SettleError::NotInFlight`] when the lease was over,
    /// [`SettleError::Gone`], [`SettleError::InvalidVisibility`].
    pub fn change_visibility(
        &self,
        receipt: &Receipt,
        visibility: Duration,
    ) -> Result<(), SettleError> {
        self.inner
            .change_visibility(receipt, visibility, self.inner.now_ms())
    }

    /// Gives the message back: it becomes visible after `delay`, 0 to 900 s in whole milliseconds,
    /// whoever dies meanwhile. Never blocks.
    ///
    /// # Errors
    /// As [`change_visibility`](Self::change_visibility); [`SettleError::InvalidDelay`].
    pub fn nack(&self, receipt: &Receipt, delay: Duration) -> Result<(), SettleError> {
        self.inner.nack(receipt, delay, self.inner.now_ms())
    }
}

impl QueueReceiver {
    /// As [`Queue::delete`].
    ///
    /// # Errors
    /// [`SettleError::StaleReceipt`] when it was received again.
    #[inline(always)]
    pub fn delete(&mut self, receipt: &Receipt) -> Result<bool, SettleError> {
        match self.delete_at_once(receipt) {
            true => Ok(true),
            false => self.delete_with_care(receipt),
        }
    }

    /// [`delete`](Self::delete) as most are: all in registers, nothing out of line. `false` says nothing: `delete`
    /// does it or says why not.
    #[doc(hidden)]
    #[inline(always)]
    pub fn delete_at_once(&mut self, receipt: &Receipt) -> bool {
        let position = receipt.position();
        let is_done = !self.is_of_parent()
            && receipt.queue() == self.inner.object_id
            && self.rings.is_here(position)
            && self.delivery.delete_plain(position, receipt.receives());
        if is_done {
            event!(
                TRACE,
                "deleted",
                queue = self.inner.name(),
                position = position,
                receives = receipt.receives()
            );
            self.note_deleted(1);
        }
        is_done
    }

    #[inline(never)]
    fn delete_with_care(&mut self, receipt: &Receipt) -> Result<bool, SettleError> {
        let deleted = self.delete_in_memory(receipt)?;
        self.inner.acknowledge_delete(receipt.position())?;
        Ok(deleted)
    }

    fn delete_in_memory(&mut self, receipt: &Receipt) -> Result<bool, SettleError> {
        self.inner.check_receipt(receipt)?;
        let deleted = if self.rings.is_here(receipt.position()) {
            self.inner.delete(&self.delivery, receipt)?
        } else {
            self.delete_beside(receipt)?
        };
        self.note_deleted(u64::from(deleted));
        Ok(deleted)
    }

    #[cold]
    fn delete_beside(&self, receipt: &Receipt) -> Result<bool, SettleError> {
        let position = receipt.position();
        match self.rings.beside(position) {
            Some(ring) => self.inner.delete(ring, receipt),
            None => self.inner.delete(&self.inner.at(position), receipt),
        }
    }

    /// Deletes the messages of all `receipts`; for each that could not be, its index and why.
    /// Allocates nothing where all can. In a durable queue one wait for the disk.
    pub fn delete_batch(&mut self, receipts: &[Receipt]) -> Vec<(usize, SettleError)> {
        let mut failed = Vec::new();
        if self.inner.journal.is_some() && !self.is_of_parent() {
            return self.delete_batch_on_disk(receipts);
        }
        if self.delivery.dedup().is_some() && !self.is_of_parent() {
            // Side by side, and before the first swap, which would wait for those under way.
            for receipt in receipts {
                self.delivery.prepare_delete(receipt.position());
            }
        }
        for (index, receipt) in receipts.iter().enumerate() {
            if let Err(error) = self.delete(receipt) {
                failed.push((index, error));
            }
        }
        failed
    }

    #[cold]
    fn delete_batch_on_disk(&mut self, receipts: &[Receipt]) -> Vec<(usize, SettleError)> {
        let mut outcomes: Vec<_> = receipts
            .iter()
            .map(|receipt| self.delete_in_memory(receipt).err())
            .collect();
        if let Err(why) = self.inner.acknowledge_consumed() {
            for (outcome, receipt) in outcomes.iter_mut().zip(receipts) {
                let (position, why) = (receipt.position(), why.to_string());
                outcome.get_or_insert(SettleError::DurabilityUnknown { position, why });
            }
        }
        let failed = outcomes.into_iter().enumerate();
        failed
            .filter_map(|(index, error)| Some((index, error?)))
            .collect()
    }

    /// As [`Queue::change_visibility`].
    ///
    /// # Errors
    /// As there.
    pub fn change_visibility(
        &mut self,
        receipt: &Receipt,
        visibility: Duration,
    ) -> Result<(), SettleError> {
        let now = self.now_ms();
        self.inner.change_visibility(receipt, visibility, now)
    }

    /// As [`Queue::nack`].
    ///
    /// # Errors
    /// As there.
    pub fn nack(&mut self, receipt: &Receipt, delay: Duration) -> Result<(), SettleError> {
        let now = self.now_ms();
        self.inner.nack(receipt, delay, now)
    }
}

impl Inner {
    #[inline(always)]
    fn check_receipt(&self, receipt: &Receipt) -> Result<(), SettleError> {
        if self.is_forked() {
            return Err(SettleError::Forked);
        }
        if receipt.queue() != self.object_id {
            return Err(SettleError::OtherQueue {
                receipt: receipt.queue(),
                queue: self.object_id,
            });
        }
        Ok(())
    }

    /// Behind a delete: in a durable queue the disk is waited for.
    #[inline(always)]
    pub(super) fn acknowledge_delete(self: &Arc<Self>, position: u64) -> Result<(), SettleError> {
        if self.journal.is_some() {
            return self.reach_disk_behind(position);
        }
        Ok(())
    }

    #[cold]
    fn reach_disk_behind(self: &Arc<Self>, position: u64) -> Result<(), SettleError> {
        let reached = self.acknowledge_consumed();
        reached.map_err(|why| SettleError::DurabilityUnknown {
            position,
            why: why.to_string(),
        })
    }

    /// Settles in the ring that the position belongs to, also if that appeared just now.
    fn settle(&self, position: u64, settle: impl Fn(&Delivery) -> Settled) -> Settled {
        let settled = settle(&self.at(position));
        if settled == Settled::Gone && self.has_grown() {
            return settle(&self.at(position));
        }
        settled
    }

    #[inline(always)]
    fn delete(&self, ring: &Delivery, receipt: &Receipt) -> Result<bool, SettleError> {
        self.check_receipt(receipt)?;
        let (position, receives) = (receipt.position(), receipt.receives());
        match ring.delete(position, receives, &mut self.payloads()) {
            Settled::Done => {
                event!(
                    TRACE,
                    "deleted",
                    queue = self.name(),
                    position = position,
                    receives = receives
                );
                Ok(true)
            }
            Settled::Gone => self.delete_again(receipt),
            other => Err(refused(receipt, other)),
        }
    }

    /// Gone from the ring that was known for its own; that may have been another one's, which appeared
    /// just now.
    #[cold]
    fn delete_again(&self, receipt: &Receipt) -> Result<bool, SettleError> {
        if !self.has_grown() {
            return Ok(false);
        }
        let (position, receives) = (receipt.position(), receipt.receives());
        match self
            .at(position)
            .delete(position, receives, &mut self.payloads())
        {
            Settled::Done => Ok(true),
            Settled::Gone => Ok(false),
            other => Err(refused(receipt, other)),
        }
    }

    fn change_visibility(
        &self,
        receipt: &Receipt,
        visibility: Duration,
        now: u64,
    ) -> Result<(), SettleError> {
        let ms = whole_ms(visibility, MAX_VISIBILITY_MS)
            .ok_or(SettleError::InvalidVisibility { given: visibility })?;
        self.check_receipt(receipt)?;
        if ms == 0 {
            return self.give_back(receipt, now, 0);
        }
        // Who extends becomes the holder: noted, so that its death is looked for and its leaving
        // leaves nothing in its name.
        self.holding.note(&self.delivery);
        // Who extends a lease wakes nobody: the message becomes visible later, not sooner, or its
        // new end is in the due words that every sleeper looks at within 20 ms.
        let position = receipt.position();
        let extend = |ring: &Delivery| ring.extend(position, receipt.receives(), now, ms);
        let settled = self.settle(position, extend);
        done(receipt, settled)
    }

    fn nack(&self, receipt: &Receipt, delay: Duration, now: u64) -> Result<(), SettleError> {
        let ms = whole_ms(delay, MAX_DELAY_MS).ok_or(SettleError::InvalidDelay { given: delay })?;
        self.check_receipt(receipt)?;
        self.give_back(receipt, now, ms)
    }

    fn give_back(&self, receipt: &Receipt, now: u64, delay_ms: u32) -> Result<(), SettleError> {
        let position = receipt.position();
        let nack = |ring: &Delivery| ring.nack(position, receipt.receives(), now, delay_ms);
        let settled = self.settle(position, nack);
        done(receipt, settled)?;
        event!(
            TRACE,
            "given back",
            queue = self.name(),
            position = position,
            delay_ms = delay_ms
        );
        self.delivery.ring().wake_behind_commit();
        Ok(())
    }
}

fn done(receipt: &Receipt, settled: Settled) -> Result<(), SettleError> {
    match settled {
        Settled::Done => Ok(()),
        other => Err(refused(receipt, other)),
    }
}

#[cold]
fn refused(receipt: &Receipt, settled: Settled) -> SettleError {
    let position = receipt.position();
    match settled {
        Settled::Stale { receives } => SettleError::StaleReceipt { position, receives },
        Settled::Over => SettleError::NotInFlight { position },
        Settled::Gone | Settled::Done => SettleError::Gone { position },
    }
}
