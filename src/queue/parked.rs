//! Messages that are set aside: received too often, and with nowhere to go. Seen, read and deleted by position;
//! [moving](super::move_task) them on takes them too.

use super::{Inner, Queue};
use crate::error::SettleError;

/// A message that was received 1,000 times and not deleted, or as often as the redrive policy says
/// while the dead-letter queue has no room: it is not offered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedMessage {
    /// Where it stands.
    pub position: u64,
    /// How often it was received.
    pub receives: u16,
    /// When it was sent, in ms since the Unix epoch.
    pub sent_ms: u64,
}

impl Queue {
    /// The messages that are not offered any more, by position: received 1,000 times, or as often as
    /// the redrive policy says while the dead-letter queue has no room. They stay until they are
    /// moved, deleted, purged, or past the retention. Empty in a forked child.
    pub fn parked(&self) -> Vec<ParkedMessage> {
        if self.inner.is_forked() {
            return Vec::new();
        }
        let mut parked = Vec::new();
        self.inner.each_ring(|ring| {
            ring.each(|standing| {
                if let Some(receives) = standing.parked_after() {
                    parked.push(ParkedMessage {
                        position: standing.position,
                        receives,
                        sent_ms: self.inner.unix_ms(standing.sent()),
                    });
                }
            });
        });
        parked.sort_by_key(|message| message.position);
        parked
    }

    /// The body of the parked message at `position`, if there is one. It stays: to put it back into
    /// the queue send the body, then [`delete_parked`](Self::delete_parked).
    pub fn read_parked(&self, position: u64) -> Option<Vec<u8>> {
        self.inner.read_parked(position)
    }

    /// Deletes the parked message at `position`. Whether this call did it. In a durable queue it blocks
    /// until the disk knows of it.
    ///
    /// # Errors
    /// [`SettleError::DurabilityUnknown`] when the disk refused, [`SettleError::Forked`] in a forked child.
    pub fn delete_parked(&self, position: u64) -> Result<bool, SettleError> {
        if self.inner.is_forked() {
            return Err(SettleError::Forked);
        }
        self.inner.has_grown();
        let ring = self.inner.at(position);
        let deleted = ring.examine(position).is_some_and(|standing| {
            standing.position == position
                && standing.parked_after().is_some()
                && ring.consume(&standing, &mut self.inner.payloads())
        });
        if deleted {
            self.inner.acknowledge_delete(position)?;
        }
        Ok(deleted)
    }
}

impl Inner {
    fn read_parked(&self, position: u64) -> Option<Vec<u8>> {
        if self.is_forked() {
            return None;
        }
        self.has_grown();
        let ring = self.at(position);
        let standing = ring.examine(position)?;
        if standing.position != position || standing.parked_after().is_none() {
            return None;
        }
        let body = self.body(&standing).ok()??;
        let mut out = vec![0; body.len()];
        (self.copy(&standing, body, body.block(), &mut out) && standing.stands()).then_some(out)
    }
}
